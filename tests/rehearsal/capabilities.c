#include "cpu/features.h"
#include "rehearsal/rehearsal.h"

/* --- CPUID ----------------------------------------------------------------------------------- */

static const enum feature features[] = {
#define PRETEND_FEATURE(name) FEATURE_##name,
#include "rehearsal/processor.def"
};

static u32 *output(struct cpuid_result *r, u32 reg)
{
	u32 *const registers[] = { &r->eax, &r->ebx, &r->ecx, &r->edx };

	return registers[reg];
}

struct cpuid_result rehearsed_cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid_result r = cpuid_count(leaf, subleaf);
	struct feature_place place;
	u32 i;

	/* What no subleaf of the real processor says, and the further bits of IA32_SPEC_CTRL. */
	if (leaf == 7 && subleaf && (subleaf == 2 || subleaf > cpuid(7).eax))
		r = (struct cpuid_result){ 0, 0, 0, 0 };
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		place = feature_place(features[i]);
		if (place.leaf != leaf)
			continue;
		if (place.subleaf == subleaf)
			*output(&r, place.reg) |= 1u << place.bit;
		/* Leaf 7 says in EAX of subleaf 0 which subleaf is the last. */
		if (leaf == 7 && !subleaf && r.eax < place.subleaf)
			r.eax = place.subleaf;
	}
	return r;
}

/* --- capability MSRs: Appendix A ------------------------------------------------------------- */

u64 pretended_controls(enum control_field field)
{
	static const u16 controls[] = {
#define PRETEND_CONTROL(field, name) CONTROL_##field##_##name,
#include "rehearsal/processor.def"
	};
	u64 bits = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(controls); i++)
		if (control_field(controls[i]) == field)
			bits |= control_bit(controls[i]);
	return bits;
}

/* The fields that their activation, which is pretended, hides from the real processor. */
static bool is_hidden(enum control_field field)
{
	enum control activation = control_field_activation(field);

	return activation != CONTROL_NONE &&
	       pretended_controls(control_field(activation)) & control_bit(activation);
}

bool capability_is_real(u32 msr)
{
	u32 field;

	for (field = 0; field < CONTROL_FIELDS; field++)
		if (control_field_source(field)->msr == msr && is_hidden(field))
			return false;
	return true;
}

void pretend_capability(u32 msr, u64 *value)
{
	const struct control_source *source;
	u32 field;

	for (field = 0; field < CONTROL_FIELDS; field++) {
		source = control_field_source(field);
		if (source->msr == msr || (source->true_msr && source->true_msr == msr))
			*value |= pretended_controls(field) << (source->allowed1_only ? 0 : 32);
	}
#define PRETEND_CAPABILITY(index, bits, to)					\
	if (msr == (index))							\
		*value = (*value & ~(bits)) | (to);
#include "rehearsal/processor.def"
}
