#include "cpu/features.h"
#include "cpu/safe.h"
#include "fmt.h"

static const struct {
	u32 leaf, subleaf, reg, bit;
	const char *name, *words;
} features[] = {
#define FEATURE(name, leaf, subleaf, reg, bit, words) \
	{ leaf, subleaf, offsetof(struct cpuid_result, reg) / 4, bit, #name, words },
#include "sdm/features.def"
#undef FEATURE
};

/* Leaf 7 has a highest subleaf of its own; of the others with a bit here each has its subleaves. */
static bool leaf_exists(u32 leaf, u32 subleaf)
{
	return leaf <= cpuid(leaf & 0x80000000).eax && (leaf != 7 || subleaf <= cpuid(7).eax);
}

struct feature_place feature_place(enum feature f)
{
	return (struct feature_place){ features[f].leaf, features[f].subleaf, features[f].reg,
				       features[f].bit };
}

bool feature(enum feature f)
{
	struct cpuid_result r;
	u32 words[4];

	if (!leaf_exists(features[f].leaf, features[f].subleaf))
		return false;
	r = cpuid_count(features[f].leaf, features[f].subleaf);
	words[0] = r.eax;
	words[1] = r.ebx;
	words[2] = r.ecx;
	words[3] = r.edx;
	return words[features[f].reg] >> features[f].bit & 1;
}

const char *feature_words(char *to, size_t size, enum feature f)
{
	format(to, size, "%s (%s)", features[f].name, features[f].words);
	return to;
}

u32 maxphyaddr(void)
{
	u32 bits = leaf_exists(0x80000008, 0) ? FIELD(cpuid(0x80000008).eax, 7, 0) : 36;
	u64 tme;

	/* Key identifiers of an active memory encryption take the uppermost bits. */
	if (feature(FEATURE_TME) && rdmsr_safe(IA32_TME_ACTIVATE, &tme) == OUTCOME_DONE &&
	    (tme & BIT(0)))
		bits -= FIELD(tme, 39, 36);
	return bits;
}

bool vendor_is_intel(void)
{
	struct cpuid_result r = cpuid(0);

	return r.ebx == 0x756e6547 && r.edx == 0x49656e69 && r.ecx == 0x6c65746e;
}

bool need_feature(u64 f)
{
	return feature(f);
}

bool need_no_feature(u64 f)
{
	return !feature(f);
}

bool need_leaf(u64 leaf)
{
	return leaf_exists(leaf, 0);
}

bool need_reserved_address_bits(u64 unused __maybe_unused)
{
	return maxphyaddr() < 52;
}

bool need_intel(u64 unused __maybe_unused)
{
	return vendor_is_intel();
}
