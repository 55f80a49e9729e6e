/*
 * The guest's own paging structures, read and written through EPT.
 *
 * With EPT, CR3 and the entries of the guest's paging structures hold guest-physical
 * addresses. To translate one linear address the processor translates up to five of them, one
 * for each table and one for the page: 31.3.1 EPT Overview. An access to an entry of a table is
 * a data read; to set an accessed or dirty flag there, a data write. When EPTP bit 6 turns on
 * accessed and dirty flags for EPT, every access to the guest's tables is treated as a write:
 * 31.3.3.2. A violation by such an access has bit 7 of the qualification 1 (GUEST_LINEAR_ADDRESS
 * is what was to be translated) and bit 8 of it 0. It comes before any page fault that the entry
 * would cause, and page faults come before anything about the page itself: 31.3.3.3.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define NOTHING	0
#define R	VIOLATION_READABLE
#define W	VIOLATION_WRITABLE
#define X	VIOLATION_EXECUTABLE

struct table_access {
	enum paging_level level;	/* the guest's table of these entries: EPT allows */
	u64 rights;			/* EPT_READ, ... and nothing else */
	u64 eptp_flags;
	u64 guest_flags;		/* PTE_A, PTE_D: in the guest's entries at first */
	enum access access;
	u64 qualification;		/* bits 5:0; 0: the access is made */
	u64 open;			/* bits of it that are up to the implementation */
};

#define WHEN(...)	ROW((&(const struct table_access){ __VA_ARGS__ }))

static u64 table_of(const struct ept_probe *probe, enum paging_level level)
{
	return physical(probe->guest_entry[level]) & PAGE_MASK;
}

/* EPT maps the guest's table to itself, by a PTE of its own. */
static u64 *map_table(struct ept_probe *probe, enum paging_level level, u64 rights)
{
	u64 table = table_of(probe, level);

	return ept_map(&probe->ept, table, table, rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
}

static void start(struct ept_probe *probe, const struct table_access *row)
{
	enum paging_level level;

	ept_probe_start(probe, LEVEL_PTE, row->eptp_flags);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		*probe->guest_entry[level] |= row->guest_flags & PTE_A;
	*probe->guest_entry[LEVEL_PTE] |= row->guest_flags & PTE_D;
}

/* The table's entry is out of reach; the access is made when EPT allows it. */
static void refused(const struct case_def *this_case)
{
	const struct table_access *row = this_case->row;
	u64 before, *table_entry;
	struct ept_probe probe;

	start(&probe, row);
	table_entry = map_table(&probe, row->level, row->rights);
	before = *probe.guest_entry[row->level];
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION_EXCEPT(row->open, row->qualification | VIOLATION_LINEAR_VALID,
				physical(probe.guest_entry[row->level]), probe.linear);
	EXPECT_NOT_DONE(&probe);
	EXPECT_EQ(*probe.guest_entry[row->level], before);

	*table_entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
	EXPECT_EQ(*probe.guest_entry[row->level], before | PTE_A |
		  (row->access == ACCESS_WRITE && row->level == LEVEL_PTE ? PTE_D : 0));
}

static void allowed(const struct case_def *this_case)
{
	const struct table_access *row = this_case->row;
	struct ept_probe probe;

	start(&probe, row);
	map_table(&probe, row->level, row->rights);
	EXPECT(ept_probe_enter(&probe, row->access), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* --- reads of entries ------------------------------------------------------ */

#define NOT_PRESENT(level_, access_)					\
	WHEN(.level = LEVEL_##level_, .access = ACCESS_##access_, .qualification = VIOLATION_READ)

CASE_RUN(pte_not_present, refused,
	 PROVES("ept:violation.paging_read", "exit-qualifications:ept.translated",
		"ept:violation.gla", "ept:violation.gpa"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, READ));
CASE_RUN(pde_not_present, refused,
	 PROVES("ept:violation.paging_read", "exit-qualifications:ept.translated"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDE, READ));
CASE_RUN(pdpte_not_present, refused,
	 PROVES("ept:violation.paging_read", "exit-qualifications:ept.translated"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDPTE, READ));
/* The entry is read, whatever the guest wants with the page. */
CASE_RUN(pte_not_present_for_write, refused, PROVES("ept:violation.paging_read"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, WRITE));
CASE_RUN(pte_not_present_for_fetch, refused, PROVES("ept:violation.paging_read"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, FETCH));
CASE_RUN(pde_not_present_for_write, refused, PROVES("ept:violation.paging_read"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDE, WRITE));
CASE_RUN(pdpte_not_present_for_fetch, refused, PROVES("ept:violation.paging_read"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDPTE, FETCH));

CASE_RUN(pte_in_execute_only_page, refused,
	 PROVES("ept:violation.paging_read", "ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(.level = LEVEL_PTE, .rights = EPT_EXECUTE, .access = ACCESS_READ,
	      .qualification = VIOLATION_READ | X));
CASE_RUN(pde_in_execute_only_page_for_fetch, refused,
	 PROVES("ept:violation.paging_read", "ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(.level = LEVEL_PDE, .rights = EPT_EXECUTE, .access = ACCESS_FETCH,
	      .qualification = VIOLATION_READ | X));
/* No instruction is fetched from a table. */
CASE_RUN(pte_in_no_execute_page_for_fetch, allowed, PROVES("ept:violation.paging_read"),
	 NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PTE, .rights = EPT_READ | EPT_WRITE, .access = ACCESS_FETCH));

/* The table that CR3 refers to: the first access of the guest is that to its entry for the code. */
CASE(pml4e_not_present, PROVES("ept:violation.paging_read", "ept:mov_cr3.no_access"),
     NEEDS(VMX, EPT))
{
	struct ept_probe probe;
	u64 *table_entry;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	table_entry = map_table(&probe, LEVEL_PML4E, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(VIOLATION_READ | VIOLATION_LINEAR_VALID,
			 table_of(&probe, LEVEL_PML4E), vmread(GUEST_RIP));
	*table_entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

GUEST_INSTRUCTION(mov_to_cr3, "movq guest_value, %rax", "movq %rax, %cr3");

/* MOV to CR3 reads nothing; the fetch behind it does: 31.3.1 EPT Overview. */
CASE(mov_to_cr3_reads_nothing, PROVES("ept:mov_cr3.no_access"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	if (vmcs_has_control(CONTROL_PROC1_CR3_LOAD_EXITING))
		case_skip("the 0-setting of \"CR3-load exiting\"");
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	guest_value = probe.gpa;
	audit_guest_changes(GUEST_CR3);
	REQUIRE(enter(guest_mov_to_cr3.run), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(VIOLATION_READ | VIOLATION_LINEAR_VALID, probe.gpa,
			 (u64)guest_mov_to_cr3.end);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_mov_to_cr3.end);
	EXPECT_EQ(vmread(GUEST_CR3), probe.gpa);
	ept_map(&probe.ept, probe.gpa, physical(probe.guest.pml4),
		probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	EXPECT(resume(), GUEST_DONE);
}

/* --- accessed and dirty flags of the guest: writes of entries -------------- */

/* Whether a flag is set by a write or by a read-modify-write is left open: 30.2.1. */
#define FLAG_WRITE(level_, access_, flags)				\
	WHEN(.level = LEVEL_##level_, .rights = EPT_READ | EPT_EXECUTE, .guest_flags = (flags),	\
	     .access = ACCESS_##access_, .qualification = VIOLATION_WRITE | R | X,	\
	     .open = VIOLATION_READ)

CASE_RUN(accessed_flag_in_read_only_pte, refused, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), FLAG_WRITE(PTE, READ, 0));
CASE_RUN(accessed_flag_in_read_only_pde, refused, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), FLAG_WRITE(PDE, READ, 0));
CASE_RUN(accessed_flag_in_read_only_pdpte, refused, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), FLAG_WRITE(PDPTE, READ, 0));
CASE_RUN(accessed_flag_in_read_only_pte_for_fetch, refused,
	 PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), FLAG_WRITE(PTE, FETCH, 0));
CASE_RUN(dirty_flag_in_read_only_pte, refused, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), FLAG_WRITE(PTE, WRITE, PTE_A));
/* Nothing is left to set. */
#define NO_FLAG_WRITE(level_, access_, flags)				\
	WHEN(.level = LEVEL_##level_, .rights = EPT_READ | EPT_EXECUTE, .guest_flags = (flags),	\
	     .access = ACCESS_##access_)
CASE_RUN(read_by_accessed_read_only_pte, allowed, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), NO_FLAG_WRITE(PTE, READ, PTE_A));
CASE_RUN(write_by_dirty_read_only_pte, allowed, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), NO_FLAG_WRITE(PTE, WRITE, PTE_A | PTE_D));
CASE_RUN(write_by_accessed_read_only_pde, allowed, PROVES("ept:violation.paging_ad_write"),
	 NEEDS(VMX, EPT), NO_FLAG_WRITE(PDE, WRITE, PTE_A));

/* --- with accessed and dirty flags for EPT: every access is a write -------- */

#define WITH_AD(level_, access_, rights_, want)				\
	WHEN(.level = LEVEL_##level_, .rights = (rights_), .guest_flags = PTE_A | PTE_D,	\
	     .eptp_flags = EPTP_ACCESSED_DIRTY, .access = ACCESS_##access_,	\
	     .qualification = VIOLATION_READ | VIOLATION_WRITE | (want))

CASE_RUN(read_only_pte_with_ad, refused,
	 PROVES("ept:violation.paging_with_ad", "exit-qualifications:ept.read"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PTE, READ, EPT_READ | EPT_EXECUTE, R | X));
CASE_RUN(read_only_pde_with_ad, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PDE, READ, EPT_READ | EPT_EXECUTE, R | X));
CASE_RUN(read_only_pdpte_with_ad, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PDPTE, READ, EPT_READ | EPT_EXECUTE, R | X));
CASE_RUN(read_only_pte_with_ad_for_fetch, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PTE, FETCH, EPT_READ | EPT_EXECUTE, R | X));
CASE_RUN(pte_not_present_with_ad, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PTE, READ, 0, NOTHING));
CASE_RUN(pde_not_present_with_ad_for_write, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PDE, WRITE, 0, NOTHING));
CASE_RUN(pdpte_not_present_with_ad_for_fetch, refused, PROVES("ept:violation.paging_with_ad"),
	 NEEDS(VMX, EPT, EPT_AD), WITH_AD(PDPTE, FETCH, 0, NOTHING));

/* --- misconfigurations ----------------------------------------------------- */

static void misconfigured(const struct case_def *this_case)
{
	const struct table_access *row = this_case->row;
	struct ept_probe probe;
	u64 *table_entry;

	start(&probe, row);
	table_entry = map_table(&probe, row->level, row->rights);
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), physical(probe.guest_entry[row->level]));
	EXPECT_NOT_DONE(&probe);
	*table_entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

CASE_RUN(pte_in_misconfigured_page, misconfigured,
	 PROVES("ept:misconfig.write_only", "ept:misconfig.qualification"), NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PTE, .rights = EPT_WRITE, .access = ACCESS_READ));
CASE_RUN(pdpte_in_misconfigured_page, misconfigured,
	 PROVES("ept:misconfig.write_only", "ept:misconfig.qualification"), NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PDPTE, .rights = EPT_WRITE, .access = ACCESS_FETCH));

/* --- which comes first: 31.3.3.3 ------------------------------------------- */

/* The entry would cause a page fault, but it cannot be read. */
CASE(violation_of_table_before_page_fault, PROVES("ept:violation.vs_pf"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;
	u64 *table_entry;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PTE] &= ~PTE_P;
	table_entry = map_table(&probe, LEVEL_PTE, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(VIOLATION_READ | VIOLATION_LINEAR_VALID,
			 physical(probe.guest_entry[LEVEL_PTE]), probe.linear);
	*table_entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, 0));
}

/* A misconfigured page table that a PDE which is not present refers to is not looked at. */
CASE(page_fault_before_table_further_down, PROVES("ept:violation.vs_pf"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PDE] &= ~PTE_P;
	map_table(&probe, LEVEL_PTE, EPT_WRITE);
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, 0));
}

/* What the guest's entries do not allow is a page fault, though EPT has no such page. */
CASE(page_fault_before_violation_of_page, PROVES("ept:violation.pf_before_final"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PTE] &= ~PTE_RW;
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_WP);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR));
	/* A read is allowed by the guest, and so it is EPT's turn. */
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
}

CASE(page_fault_before_misconfiguration_of_page, PROVES("ept:violation.pf_before_final"),
     NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PTE] &= ~PTE_P;
	*probe.entry[LEVEL_PTE] = EPT_WRITE;
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, 0));
}

/* 5.5.4: bits 51:MAXPHYADDR of a guest entry are reserved; that is between the guest and itself. */
CASE(page_fault_by_address_above_maxphyaddr, PROVES("paging:misc.gpa_width_ept", "ept:width.gpa"),
     NEEDS(VMX, EPT, RESERVED_ADDRESS_BITS))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PTE] |= BIT(maxphyaddr());
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, PF_P | PF_RSVD));
}
