/*
 * What EPT lets a guest's paging do: 31.3.3.2. With "EPT paging-write control" bit 58 of an entry
 * that maps a page allows the accessed and dirty flags of guest paging structures there to be
 * written, although bit 1 allows no other write. With "guest-paging verification" bit 57 of an
 * entry demands that all the entries by which a linear address was translated to the page lie in
 * pages with bit 58 set: so a guest that remaps it is found out.
 */
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define PAGING_WRITE	VMX, EPT, PROC3(EPT_PAGING_WRITE_CONTROL)
#define VERIFICATION	PAGING_WRITE, PROC3(GUEST_PAGING_VERIFICATION)
#define VIOLATION	OUTCOME_EXIT(EXIT_EPT_VIOLATION)

static struct ept_probe probe;

/* The page of the guest's PTE for the probe's page, by an EPT PTE of its own. */
static u64 *ept_entry_of_table(enum paging_level guest_level)
{
	u64 page = physical(probe.guest_entry[guest_level]) & PAGE_MASK;

	return ept_map(&probe.ept, page, page, probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
		       LEVEL_PTE);
}

static void start(u64 eptp_flags)
{
	ept_probe_start(&probe, LEVEL_PTE, eptp_flags);
}

/* --- bit 58 ------------------------------------------------------------------------------- */

/* The page table is read-only; the guest's PTE has no accessed flag yet. */
static u64 *read_only_table(u64 flags)
{
	u64 *entry = ept_entry_of_table(LEVEL_PTE);

	*entry = (*entry & ~EPT_WRITE) | flags;
	*probe.guest_entry[LEVEL_PTE] &= ~(PTE_A | PTE_D);
	ept_invalidate(&probe.ept);
	return entry;
}

CASE(paging_writes_are_allowed, PROVES("ept:entry.leaf.bit58"), NEEDS(PAGING_WRITE))
{
	start(0);
	vmcs_set_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	read_only_table(EPT_PAGING_WRITE);
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT_MADE(&probe);
	EXPECT_EQ(*probe.guest_entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

CASE(paging_writes_are_refused_without_the_bit, PROVES("ept:entry.leaf.bit58"), NEEDS(PAGING_WRITE))
{
	start(0);
	vmcs_set_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	read_only_table(0);
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), VIOLATION);
	EXPECT_EQ(*probe.guest_entry[LEVEL_PTE] & (PTE_A | PTE_D), 0);
}

/* The bit is ignored then. */
CASE(paging_writes_are_refused_without_the_control, PROVES("ept:entry.leaf.bit58"),
     NEEDS(PAGING_WRITE))
{
	start(0);
	read_only_table(EPT_PAGING_WRITE);
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), VIOLATION);
}

/* Only paging may write there. */
GUEST_CODE(write, "", "movq %rax, (%rbx)");

CASE(other_writes_are_refused, PROVES("ept:entry.leaf.bit58"), NEEDS(PAGING_WRITE))
{
	start(0);
	vmcs_set_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	read_only_table(EPT_PAGING_WRITE);
	guest_regs()->rbx = (u64)probe.guest_entry[LEVEL_PTE];
	EXPECT(enter_at_instruction(&guest_write), VIOLATION);
}

/* 31.3.3.1. */
CASE(paging_write_without_read, PROVES("ept:misconfig.paging_write"), NEEDS(PAGING_WRITE))
{
	u64 *entry;

	start(0);
	entry = probe.entry[LEVEL_PTE];
	*entry = (*entry & ~EPT_RWX) | EPT_EXECUTE | EPT_PAGING_WRITE;
	vmcs_set_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	EXPECT(ept_probe_enter(&probe, ACCESS_FETCH), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, probe.gpa & PAGE_MASK);
	if (!(capabilities()->ept_vpid_cap & EPT_CAP_EXECUTE_ONLY))
		return;
	vmcs_clear_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	ept_invalidate(&probe.ept);
	EXPECT(ept_probe_enter(&probe, ACCESS_FETCH), GUEST_DONE);
}

/* --- bit 57 ------------------------------------------------------------------------------- */

/* Every page with a paging structure of the guest has bit 58, and the probe's page bit 57. */
static void verify(void)
{
	enum paging_level level;

	start(0);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		*ept_entry_of_table(level) |= EPT_PAGING_WRITE;
	*probe.entry[LEVEL_PTE] |= EPT_VERIFY_GUEST_PAGING;
	vmcs_set_control(CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL);
	vmcs_set_control(CONTROL_PROC3_GUEST_PAGING_VERIFICATION);
	ept_invalidate(&probe.ept);
}

CASE(verified_paging, PROVES("ept:entry.leaf.bit57", "ept:violation.guest_paging_verification"),
     NEEDS(VERIFICATION))
{
	verify();
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* One structure of any level is enough. */
CASE(paging_that_is_not_verified, PROVES("ept:violation.guest_paging_verification",
     "exit-qualifications:ept.paging_verification"), NEEDS(VERIFICATION))
{
	enum paging_level level;

	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++) {
		verify();
		*ept_entry_of_table(level) &= ~EPT_PAGING_WRITE;
		ept_invalidate(&probe.ept);
		EXPECT(ept_probe_enter(&probe, ACCESS_READ), VIOLATION);
		EXPECT_EQ(vmread(EXIT_QUALIFICATION) & VIOLATION_PAGING_VERIFICATION,
			  VIOLATION_PAGING_VERIFICATION);
		EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), probe.linear);
	}
}

/* An ordinary violation has bit 15 clear; without bit 57, or the control, nothing is verified. */
CASE(paging_that_need_not_be_verified, PROVES("ept:entry.leaf.bit57",
     "exit-qualifications:ept.paging_verification"), NEEDS(VERIFICATION))
{
	verify();
	*ept_entry_of_table(LEVEL_PTE) &= ~EPT_PAGING_WRITE;
	*probe.entry[LEVEL_PTE] &= ~EPT_VERIFY_GUEST_PAGING;
	ept_invalidate(&probe.ept);
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	*probe.entry[LEVEL_PTE] |= EPT_VERIFY_GUEST_PAGING;
	vmcs_clear_control(CONTROL_PROC3_GUEST_PAGING_VERIFICATION);
	ept_invalidate(&probe.ept);
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	*probe.entry[LEVEL_PTE] &= ~EPT_RWX;
	ept_invalidate(&probe.ept);
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), VIOLATION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & VIOLATION_PAGING_VERIFICATION, 0);
}
