/*
 * The memory type of a guest's accesses: 31.3.7.2. Data are the same with each type, but a locked
 * access is not: to memory that is not write-back it locks the bus (volume 3, 11.1.2), and with
 * "VMM bus-lock detection" that is an exit (28.2).
 *
 * The type is that of the EPT entry combined with the one that the guest's tables select in
 * IA32_PAT, as elsewhere that of the MTRRs would be; the MTRRs do not count. Bit 6 of the EPT
 * entry leaves IA32_PAT out; without paging it is write-back; with CR0.CD = 1 everything is
 * uncacheable.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define TYPES	VMX, EPT, PROC2(VMM_BUS_LOCK_DETECTION)

GUEST_CODE(lock, "", "lock incl (%rbx)");
GUEST_CODE(lock_without_caches, "movq guest_value, %rbx; movq %cr0, %rax; btsq $30, %rax;"
	   "movq %rax, %cr0",
	   "lock incl (%rbx)");

/* PAT entries by the power-up value of IA32_PAT: 0 is WB, 3 is UC. */
#define PAT_UC		(PTE_PCD | PTE_PWT)
#define IA32_MTRR_DEF_TYPE	0x2ff

static struct ept_probe probe;

/* The probe's page with bits of the EPT entry and of the guest's. */
static void start(u64 ept_flags, u64 guest_flags)
{
	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.entry[LEVEL_PTE] = (*probe.entry[LEVEL_PTE] & ~EPT_MEMORY_TYPE(7)) | ept_flags;
	*probe.guest_entry[LEVEL_PTE] |= guest_flags;
	vmcs_set_control(CONTROL_PROC2_VMM_BUS_LOCK_DETECTION);
	guest_regs()->rbx = probe.linear;
}

#define WRITE_BACK	GUEST_DONE
#define UNCACHEABLE	OUTCOME_EXIT(EXIT_BUS_LOCK)

struct types {
	u64 ept_flags, guest_flags;
	outcome_t ends;
};

static void type_is(const struct case_def *this_case)
{
	const struct types *row = this_case->row;

	start(row->ept_flags, row->guest_flags);
	EXPECT(enter_at_instruction(&guest_lock), row->ends);
}

#define TYPE(name, fact, ...)							\
	static const struct types types_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, type_is, PROVES("ept:" fact), NEEDS(TYPES), ROW(&types_##name))
TYPE(wb_and_pat_wb, "memtype.combine", EPT_MEMORY_TYPE(EPT_WB), 0, WRITE_BACK);
TYPE(wb_and_pat_uc, "memtype.combine", EPT_MEMORY_TYPE(EPT_WB), PAT_UC, UNCACHEABLE);
TYPE(uc_and_pat_wb, "memtype.combine", EPT_MEMORY_TYPE(EPT_UC), 0, UNCACHEABLE);
TYPE(uc_and_pat_uc, "memtype.combine", EPT_MEMORY_TYPE(EPT_UC), PAT_UC, UNCACHEABLE);
TYPE(wb_without_pat, "memtype.ignore_pat", EPT_MEMORY_TYPE(EPT_WB) | EPT_IGNORE_PAT, PAT_UC,
     WRITE_BACK);
TYPE(uc_without_pat, "memtype.ignore_pat", EPT_MEMORY_TYPE(EPT_UC) | EPT_IGNORE_PAT, 0,
     UNCACHEABLE);

/* All memory is uncacheable for the MTRRs while they are disabled: 14.11.2.1. */
CASE(mtrrs_do_not_count, PROVES("ept:memtype.mtrr"), NEEDS(TYPES, CPU(MTRR)))
{
	u64 before = rdmsr(IA32_MTRR_DEF_TYPE);

	start(EPT_MEMORY_TYPE(EPT_WB), 0);
	wrmsr(IA32_MTRR_DEF_TYPE, 0);
	EXPECT(enter_at_instruction(&guest_lock), WRITE_BACK);
	/* Without EPT they do. */
	vmcs_clear_control(CONTROL_PROC2_ENABLE_EPT);
	vmwrite(GUEST_CR3, read_cr3());
	guest_regs()->rbx = (u64)probe.page;
	EXPECT(enter_at_instruction(&guest_lock), UNCACHEABLE);
	wrmsr(IA32_MTRR_DEF_TYPE, before);
}

/* CR0.CD is one for guest and host: no VM entry or exit changes it. */
CASE(caches_disabled, PROVES("ept:memtype.cd"), NEEDS(TYPES))
{
	outcome_t outcome;

	start(EPT_MEMORY_TYPE(EPT_WB) | EPT_IGNORE_PAT, 0);
	audit_guest_changes(GUEST_CR0);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	guest_value = probe.linear;
	outcome = enter(guest_lock_without_caches.run);
	write_cr0(read_cr0() & ~(CR0_CD | CR0_NW));
	EXPECT(outcome, UNCACHEABLE);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_lock_without_caches.end);
}

/* With CR0.PG = 0 there is no IA32_PAT; the linear address is the guest-physical one. */
static void type_without_paging(u64 ept_type, outcome_t ends)
{
	struct ept ept;
	u64 page = physical(page_alloc());

	ept_start(&ept, 0);
	ept_map(&ept, page, page, ept.all_rights | EPT_MEMORY_TYPE(ept_type), LEVEL_PTE);
	ept_invalidate(&ept);
	guest_to_32_bit_mode();
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_set_control(CONTROL_PROC2_VMM_BUS_LOCK_DETECTION);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	guest_regs()->rbx = page;
	EXPECT(enter_at_instruction(&guest_lock), ends);
}

CASE(wb_without_paging, PROVES("ept:memtype.pg0"), NEEDS(TYPES, PROC2(UNRESTRICTED_GUEST)))
{
	type_without_paging(EPT_WB, WRITE_BACK);
}

CASE(uc_without_paging, PROVES("ept:memtype.pg0"), NEEDS(TYPES, PROC2(UNRESTRICTED_GUEST)))
{
	type_without_paging(EPT_UC, UNCACHEABLE);
}
