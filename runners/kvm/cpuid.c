/*
 * Makes a CPUID table say what the tree says: the table that KVM hands out carries APIC IDs
 * and core counts of the host CPU it happened to be read on.
 */
#include "cpuid.h"

#include <stddef.h>

enum {
	LEAF_FEATURES = 0x1,
	LEAF_CACHES = 0x4,
	LEAF_TOPOLOGY = 0xb,
	LEAF_TOPOLOGY_V2 = 0x1f,
	LEAF_AMD_FEATURES = 0x80000001,
	LEAF_AMD_SIZES = 0x80000008,
	LEAF_AMD_CACHES = 0x8000001d,
	LEAF_AMD_TOPOLOGY = 0x8000001e,

	LEVEL_THREAD = 1,
	LEVEL_CORE = 2,
	CACHE_LEVEL_SHARED = 3,
};

#define FEATURE_ECX_TSC_DEADLINE (1u << 24)
#define FEATURE_EDX_HTT (1u << 28)
#define AMD_FEATURE_ECX_CMP_LEGACY (1u << 1)

/* The number of bits that hold any APIC ID. */
static uint32_t id_bits(const struct cpuid_topology *topology)
{
	uint32_t bits = 0;

	while (topology->highest_apic_id >> bits)
		bits++;
	return bits;
}

static void set_features(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *topology)
{
	const uint32_t bits = id_bits(topology);

	entry->ebx = (entry->ebx & 0x0000ffff) | topology->apic_id << 24 |
		     (bits > 7 ? 255u : 1u << bits) << 16;
	entry->edx &= ~FEATURE_EDX_HTT;
	if (topology->cpu_count > 1)
		entry->edx |= FEATURE_EDX_HTT;
	entry->ecx &= ~FEATURE_ECX_TSC_DEADLINE;
	if (topology->tsc_deadline)
		entry->ecx |= FEATURE_ECX_TSC_DEADLINE;
}

/* Leaf 4 and AMD's 8000001DH: which CPUs share a cache; EAX[31:26] only in leaf 4. */
static void set_cache(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *topology)
{
	const uint32_t highest = (1u << id_bits(topology)) - 1;
	const uint32_t type = entry->eax & 0x1f, level = entry->eax >> 5 & 7;

	if (!type)
		return;
	entry->eax &= 0x3fff;
	if (level >= CACHE_LEVEL_SHARED)
		entry->eax |= highest << 14;
	if (entry->function == LEAF_CACHES)
		entry->eax |= (highest > 63 ? 63 : highest) << 26;
}

static void set_amd(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *topology)
{
	switch (entry->function) {
	case LEAF_AMD_FEATURES:
		entry->ecx &= ~AMD_FEATURE_ECX_CMP_LEGACY;
		if (topology->cpu_count > 1)
			entry->ecx |= AMD_FEATURE_ECX_CMP_LEGACY;
		break;
	case LEAF_AMD_SIZES:
		entry->ecx = (entry->ecx & 0xffff0f00) | id_bits(topology) << 12 |
			     (topology->cpu_count - 1);
		break;
	case LEAF_AMD_TOPOLOGY:
		entry->eax = topology->apic_id;
		entry->ebx = topology->apic_id & 0xff;
		entry->ecx = 0;
		break;
	}
}

static struct kvm_cpuid_entry2 *append(struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
	struct kvm_cpuid_entry2 *entry;

	if (table->nent == CPUID_MAX_ENTRIES)
		return NULL;
	entry = &table->entries[table->nent++];
	*entry = (struct kvm_cpuid_entry2){
		.function = leaf, .index = subleaf, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
	};
	return entry;
}

/* Leaves 0BH and 1FH have the same shape: threads, cores, and a level of type 0 as the end. */
static void append_levels(struct kvm_cpuid2 *table, uint32_t leaf,
			  const struct cpuid_topology *topology)
{
	const struct {
		uint32_t shift, count, type;
	} levels[] = {
		{ 0, 1, LEVEL_THREAD },
		{ id_bits(topology), topology->cpu_count, LEVEL_CORE },
		{ 0, 0, 0 },
	};

	for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct kvm_cpuid_entry2 *entry = append(table, leaf, i);

		if (!entry)
			return;
		entry->eax = levels[i].shift;
		entry->ebx = levels[i].count;
		entry->ecx = levels[i].type << 8 | i;
		entry->edx = topology->apic_id;
	}
}

/*
 * Changes `table`, which has room for CPUID_MAX_ENTRIES, so that the CPU that gets it has the
 * APIC ID and the neighbours that `topology` says. The rest stays as it is.
 */
void cpuid_set_topology(struct kvm_cpuid2 *table, const struct cpuid_topology *topology)
{
	const uint32_t entries = table->nent;
	uint32_t highest_leaf = 0;
	bool amd = false;

	table->nent = 0;
	for (uint32_t i = 0; i < entries; i++) {
		struct kvm_cpuid_entry2 entry = table->entries[i];

		if (entry.function == 0) {
			highest_leaf = entry.eax;
			/* "AuthenticAMD" or "HygonGenuine": both follow AMD's manual. */
			amd = entry.ebx == 0x68747541 || entry.ebx == 0x6f677948;
		}
		if (entry.function == LEAF_TOPOLOGY || entry.function == LEAF_TOPOLOGY_V2)
			continue;
		if (entry.function == LEAF_FEATURES)
			set_features(&entry, topology);
		if (entry.function == LEAF_CACHES || entry.function == LEAF_AMD_CACHES)
			set_cache(&entry, topology);
		if (amd)
			set_amd(&entry, topology);
		table->entries[table->nent++] = entry;
	}
	if (highest_leaf >= LEAF_TOPOLOGY)
		append_levels(table, LEAF_TOPOLOGY, topology);
	if (highest_leaf >= LEAF_TOPOLOGY_V2)
		append_levels(table, LEAF_TOPOLOGY_V2, topology);
}
