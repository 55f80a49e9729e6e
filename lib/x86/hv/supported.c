/*
 * What of the processor's CPUID the core can give to a guest: everything, less what this table
 * takes away. A feature that changes what an instruction does in VMX non-root operation needs a
 * VM-execution control, or controls that switch its state.
 */
#include "cpu/regs.h"
#include "hv/internal.h"
#include "string.h"

enum { EAX, EBX, ECX, EDX };

/* No control makes these possible. */
#define NEVER	((enum control)-1)

struct rule {
	u32 leaf, subleaf, reg;
	u32 bits;
	enum control needs;	/* for the bits to stay */
};

static const struct rule rules[] = {
	/* DTES64, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, PDCM */
	{ 0x1, 0, ECX, BIT(2) | BITS(8, 4) | BITS(11, 10) | BIT(15), NEVER },
	/* DS, ACPI, TM, PBE */
	{ 0x1, 0, EDX, BITS(22, 21) | BIT(29) | BIT(31), NEVER },
	/* SGX, RDT-M, MPX, RDT-A, Intel PT */
	{ 0x7, 0, EBX, BIT(2) | BIT(12) | BITS(15, 14) | BIT(25), NEVER },
	{ 0x7, 0, EBX, BIT(10), CONTROL_PROC2_ENABLE_INVPCID },
	/* TME, Key Locker, bus-lock detection, ENQCMD, SGX_LC */
	{ 0x7, 0, ECX, BIT(13) | BITS(24, 23) | BITS(30, 29), NEVER },
	{ 0x7, 0, ECX, BIT(5), CONTROL_PROC2_ENABLE_USER_WAIT_AND_PAUSE },
	{ 0x7, 0, ECX, BIT(7), CONTROL_ENTRY_LOAD_CET_STATE },
	{ 0x7, 0, ECX, BIT(22), CONTROL_PROC2_ENABLE_RDTSCP },
	{ 0x7, 0, ECX, BIT(31), CONTROL_ENTRY_LOAD_PKRS },
	/* UINTR, PCONFIG, architectural LBRs, AMX, IA32_CORE_CAPABILITIES */
	{ 0x7, 0, EDX, BIT(5) | BITS(19, 18) | BIT(22) | BITS(25, 24) | BIT(30), NEVER },
	{ 0x7, 0, EDX, BIT(20), CONTROL_ENTRY_LOAD_CET_STATE },
	/* FRED, LKGS, WRMSRNS, HRESET, LASS, MSR lists; AMX */
	{ 0x7, 1, EAX, BIT(6) | BITS(19, 17) | BITS(22, 21) | BIT(27), NEVER },
	{ 0x7, 1, EDX, ~0u, NEVER },
	{ 0x80000001, 0, EDX, BIT(27), CONTROL_PROC2_ENABLE_RDTSCP },
	{ 0xd, 1, EAX, BIT(3), CONTROL_PROC2_ENABLE_XSAVES_XRSTORS },
	{ 0xd, 1, EAX, BIT(4), NEVER },	/* XFD */
	/* Components of XCR0 and IA32_XSS that do not fit into HV_XSAVE_SIZE, or have no switch. */
	{ 0xd, 0, EAX, (u32)~HV_XCR0_KNOWN, NEVER },
	{ 0xd, 0, EDX, ~0u, NEVER },
	{ 0xd, 1, ECX, (u32)~HV_XSS_KNOWN, NEVER },
	{ 0xd, 1, ECX, (u32)HV_XSS_KNOWN, CONTROL_ENTRY_LOAD_CET_STATE },
	{ 0xd, 1, EDX, ~0u, NEVER },
	{ 0x6, 0, EAX, ~(u32)BIT(2), NEVER },	/* but for ARAT */
	{ 0x6, 0, EBX, ~0u, NEVER },
	{ 0x6, 0, ECX, ~0u, NEVER },
	{ 0x6, 0, EDX, ~0u, NEVER },
};

/* Leaves of what the core does not have: all zero. Its APIC timer counts as fast as the TSC. */
static const u8 absent[] = { 0x3, 0xa, 0xf, 0x10, 0x12, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1b, 0x1c,
			     0x1d, 0x1e, 0x20, 0x21, 0x22, 0x23, 0x27, 0x28 };

static bool is_absent(u32 leaf)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(absent); i++)
		if (leaf == absent[i])
			return true;
	return false;
}

static u32 *register_of(struct kvm_cpuid_entry2 *entry, u32 number)
{
	u32 *const registers[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

	return registers[number];
}

void hv_cpuid_restrict(struct kvm_cpuid_entry2 *entry)
{
	const bool levels = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	u32 i;

	if (is_absent(entry->function))
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
	for (i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *rule = &rules[i];

		if (rule->leaf == entry->function && (!levels || rule->subleaf == entry->index) &&
		    (rule->needs == NEVER || !control_allowed(rule->needs)))
			*register_of(entry, rule->reg) &= ~rule->bits;
	}
	/* A component that is not there has no size either. */
	if (entry->function == 0xd && entry->index > 1 &&
	    !((HV_XCR0_KNOWN | HV_XSS_KNOWN) >> entry->index & 1))
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
}

static int add(struct kvm_cpuid2 *table, u32 room, u32 leaf, u32 subleaf, bool levels)
{
	const struct cpuid_result r = cpuid_count(leaf, subleaf);
	struct kvm_cpuid_entry2 entry = {
		.function = leaf, .index = subleaf,
		.flags = levels ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = r.eax, .ebx = r.ebx, .ecx = r.ecx, .edx = r.edx,
	};

	hv_cpuid_restrict(&entry);
	/*
	 * An entry that is not there answers zeros; leaf 7 says by its first whether it has more.
	 */
	if (subleaf && !(entry.eax | entry.ebx | entry.ecx | entry.edx))
		return 0;
	if (table->nent == room)
		return -E2BIG;
	table->entries[table->nent++] = entry;
	return 0;
}

/* Whether a leaf has subleaves, and the highest that there may be. */
static bool has_subleaves(u32 leaf, u32 *last)
{
	switch (leaf) {
	case 0x4: case 0xb: case 0x1f:
		*last = 7;
		return true;
	case 0x7: case 0x18: case 0x24:
		*last = cpuid(leaf).eax;
		return true;
	case 0xd:
		*last = 62;
		return true;
	default:
		*last = 0;
		return false;
	}
}

int hv_get_supported_cpuid(struct kvm_cpuid2 *table)
{
	static const u32 ranges[] = { 0, 0x80000000 };
	u32 room = table->nent, i, leaf, subleaf, last;
	int result = 0;

	table->nent = 0;
	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		for (leaf = ranges[i]; leaf <= cpuid(ranges[i]).eax; leaf++)
			for (subleaf = 0, last = 0; subleaf <= last && !result; subleaf++)
				result = add(table, room, leaf, subleaf,
					     has_subleaves(leaf, &last));
	return result;
}

bool hv_has_tsc_deadline(void)
{
	return CPUID_BIT(1, 0, ecx, 24);
}
