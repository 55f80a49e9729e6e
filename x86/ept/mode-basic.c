/*
 * EPT and what guest paging says of the page: mode-based execute control, advanced exit
 * information.
 *
 * With "mode-based execute control for EPT", bit 2 of an EPT entry allows instruction
 * fetches from supervisor-mode linear addresses only, and bit 10 those from user-mode linear
 * addresses. Which one an address is depends on the guest's paging structures, not on CPL: a
 * user-mode address has U/S = 1 in every entry: 31.3.3.2. An entry with bit 10 alone is present
 * then. Bit 6 of the exit qualification is the AND of all bits 10.
 *
 * A processor with "advanced VM-exit information for EPT violations" also reports in bits 11:9
 * whether the address is of user mode, and whether guest paging lets it be written to and fetched
 * from: Table 30-7. These bits are about accesses to the page, not about those to the guest's
 * tables.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"

BEFORE_EACH_CASE(vmx_start);

#define NOTHING	0
#define R	VIOLATION_READABLE
#define W	VIOLATION_WRITABLE
#define X	VIOLATION_EXECUTABLE
#define U	VIOLATION_USER_EXECUTABLE

/* --- mode-based execute control -------------------------------------------- */

struct mode_access {
	bool off;			/* without the control */
	bool user;			/* a user-mode linear address */
	bool cpl3;			/* and the guest at CPL 3 */
	enum paging_level level;	/* the EPT entry that allows */
	u64 allows;			/* EPT_READ, ... and nothing else */
	enum access access;
	u64 rights;			/* bits 6:3 of the qualification */
};

#define WHEN(...)	ROW((&(const struct mode_access){ __VA_ARGS__ }))

#define MODE_BASED	PROC2(MODE_BASED_EXECUTE_CONTROL_FOR_EPT)
#define ALL_RIGHTS	(EPT_RWX | EPT_USER_EXECUTE)

static void start(struct ept_probe *probe, const struct mode_access *row)
{
	u64 *entry;

	ept_probe_start(probe, LEVEL_PTE, 0);
	if (!row->off)
		vmcs_set_control(CONTROL_PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
	/* The guest's other entries have U/S = 1: the map at boot. */
	if (row->user)
		*probe->guest_entry[LEVEL_PTE] |= PTE_US;
	if (row->cpl3)
		guest_to_user_mode();
	entry = probe->entry[row->level];
	*entry = (*entry & ~ALL_RIGHTS) | row->allows;
}

static void refused(const struct case_def *this_case)
{
	const struct mode_access *row = this_case->row;
	struct ept_probe probe;

	start(&probe, row);
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(row->access) | row->rights |
			 (row->user ? VIOLATION_USER_MODE : 0), probe.gpa, probe.linear);
	EXPECT_NOT_DONE(&probe);
	*probe.entry[row->level] |= ALL_RIGHTS;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

static void allowed(const struct case_def *this_case)
{
	const struct mode_access *row = this_case->row;
	struct ept_probe probe;

	start(&probe, row);
	EXPECT(ept_probe_enter(&probe, row->access), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* Fetches from a page that allows all but the one kind of fetches. */
#define SUPERVISOR(level_, allows_, rights_)				\
	WHEN(.level = LEVEL_##level_, .allows = (allows_), .access = ACCESS_FETCH,	\
	     .rights = (rights_))
#define USER(level_, allows_, rights_)					\
	WHEN(.user = true, .level = LEVEL_##level_, .allows = (allows_),	\
	     .access = ACCESS_FETCH, .rights = (rights_))

#define ALL_BUT_SUPERVISOR	(ALL_RIGHTS & ~EPT_EXECUTE)
#define ALL_BUT_USER		(ALL_RIGHTS & ~EPT_USER_EXECUTE)

CASE_RUN(supervisor_fetch_without_bit_2_of_pte, refused,
	 PROVES("ept:violation.fetch_super", "exit-qualifications:ept.user_executable",
		"exit-qualifications:ept.executable"),
	 NEEDS(VMX, EPT, MODE_BASED), SUPERVISOR(PTE, ALL_BUT_SUPERVISOR, R | W | U));
CASE_RUN(supervisor_fetch_without_bit_2_of_pde, refused, PROVES("ept:violation.fetch_super"),
	 NEEDS(VMX, EPT, MODE_BASED), SUPERVISOR(PDE, ALL_BUT_SUPERVISOR, R | W | U));
CASE_RUN(supervisor_fetch_without_bit_2_of_pdpte, refused, PROVES("ept:violation.fetch_super"),
	 NEEDS(VMX, EPT, MODE_BASED), SUPERVISOR(PDPTE, ALL_BUT_SUPERVISOR, R | W | U));
CASE_RUN(supervisor_fetch_without_bit_2_of_pml4e, refused, PROVES("ept:violation.fetch_super"),
	 NEEDS(VMX, EPT, MODE_BASED, OWN_PML4E),
	 SUPERVISOR(PML4E, ALL_BUT_SUPERVISOR, R | W | U));
CASE_RUN(user_fetch_without_bit_10_of_pte, refused,
	 PROVES("ept:violation.fetch_user", "exit-qualifications:ept.user_executable"),
	 NEEDS(VMX, EPT, MODE_BASED), USER(PTE, ALL_BUT_USER, R | W | X));
CASE_RUN(user_fetch_without_bit_10_of_pde, refused, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED), USER(PDE, ALL_BUT_USER, R | W | X));
CASE_RUN(user_fetch_without_bit_10_of_pdpte, refused, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED), USER(PDPTE, ALL_BUT_USER, R | W | X));
CASE_RUN(user_fetch_without_bit_10_of_pml4e, refused, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED, OWN_PML4E), USER(PML4E, ALL_BUT_USER, R | W | X));
CASE_RUN(user_fetch_without_bit_10_at_cpl_3, refused, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED),
	 WHEN(.user = true, .cpl3 = true, .level = LEVEL_PTE, .allows = ALL_BUT_USER,
	      .access = ACCESS_FETCH, .rights = R | W | X));

CASE_RUN(supervisor_fetch_without_bit_10, allowed, PROVES("ept:violation.fetch_super"),
	 NEEDS(VMX, EPT, MODE_BASED), SUPERVISOR(PTE, ALL_BUT_USER, 0));
CASE_RUN(user_fetch_without_bit_2, allowed, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED), USER(PTE, ALL_BUT_SUPERVISOR, 0));
CASE_RUN(user_fetch_without_bit_2_at_cpl_3, allowed, PROVES("ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED),
	 WHEN(.user = true, .cpl3 = true, .level = LEVEL_PTE, .allows = ALL_BUT_SUPERVISOR,
	      .access = ACCESS_FETCH));

/* Bit 10 alone: the entry is present. */
CASE_RUN(user_fetch_with_bit_10_alone, allowed,
	 PROVES("ept:walk.present_mbec", "ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED, EPT_CAP(EXECUTE_ONLY)), USER(PTE, EPT_USER_EXECUTE, 0));
CASE_RUN(user_fetch_through_pde_with_bit_10_alone, allowed,
	 PROVES("ept:walk.present_mbec", "ept:violation.fetch_user"),
	 NEEDS(VMX, EPT, MODE_BASED, EPT_CAP(EXECUTE_ONLY)), USER(PDE, EPT_USER_EXECUTE, 0));
CASE_RUN(supervisor_fetch_with_bit_10_alone, refused, PROVES("ept:walk.present_mbec"),
	 NEEDS(VMX, EPT, MODE_BASED, EPT_CAP(EXECUTE_ONLY)), SUPERVISOR(PTE, EPT_USER_EXECUTE, U));
CASE_RUN(read_with_bit_10_alone, refused, PROVES("ept:walk.present_mbec"),
	 NEEDS(VMX, EPT, MODE_BASED, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(.level = LEVEL_PTE, .allows = EPT_USER_EXECUTE, .access = ACCESS_READ, .rights = U));
/* None of the four bits: it is not. */
CASE_RUN(user_fetch_with_no_bit, refused,
	 PROVES("ept:walk.present_mbec", "exit-qualifications:ept.user_executable"),
	 NEEDS(VMX, EPT, MODE_BASED), USER(PTE, 0, NOTHING));

/* Data accesses do not care. */
CASE_RUN(write_to_user_address_without_fetches, allowed, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT, MODE_BASED),
	 WHEN(.user = true, .level = LEVEL_PTE, .allows = EPT_READ | EPT_WRITE,
	      .access = ACCESS_WRITE));
CASE_RUN(write_to_read_only_user_page, refused,
	 PROVES("exit-qualifications:ept.user_executable", "ept:violation.write"),
	 NEEDS(VMX, EPT, MODE_BASED),
	 WHEN(.user = true, .level = LEVEL_PTE, .allows = EPT_READ | EPT_USER_EXECUTE,
	      .access = ACCESS_WRITE, .rights = R | U));

/* The control is 0: bit 2 is for all addresses, and bit 10 is nothing. */
CASE_RUN(user_fetch_without_bit_10_without_control, allowed, PROVES("ept:mbec.off"),
	 NEEDS(VMX, EPT),
	 WHEN(.off = true, .user = true, .level = LEVEL_PTE, .allows = ALL_BUT_USER,
	      .access = ACCESS_FETCH));
CASE_RUN(user_fetch_without_bit_2_without_control, refused,
	 PROVES("ept:mbec.off", "ept:violation.fetch"), NEEDS(VMX, EPT),
	 WHEN(.off = true, .user = true, .level = LEVEL_PTE, .allows = ALL_BUT_SUPERVISOR,
	      .access = ACCESS_FETCH, .rights = R | W));
CASE_RUN(user_fetch_with_bit_10_alone_without_control, refused,
	 PROVES("ept:mbec.off", "ept:walk.present"), NEEDS(VMX, EPT),
	 WHEN(.off = true, .user = true, .level = LEVEL_PTE, .allows = EPT_USER_EXECUTE,
	      .access = ACCESS_FETCH, .rights = NOTHING));

/* 31.3.3.1: fetches without reads, where the processor has no execute-only translations. */
CASE(bit_10_alone_misconfigured, PROVES("ept:misconfig.user_exec_only"),
     NEEDS(VMX, EPT, MODE_BASED, NO_EPT_CAP(EXECUTE_ONLY)))
{
	const struct mode_access row = {
		.user = true, .level = LEVEL_PTE, .allows = EPT_USER_EXECUTE,
	};
	struct ept_probe probe;

	start(&probe, &row);
	EXPECT(ept_probe_enter(&probe, ACCESS_FETCH), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
}

/* --- advanced exit information --------------------------------------------- */

struct guest_page {
	enum paging_level level;	/* the guest's entry that is changed: bits to */
	u64 clear, set;
	enum access access;
	u64 information;		/* bits 11:9 of the qualification */
};

#define PAGE(...)	ROW((&(const struct guest_page){ __VA_ARGS__ }))

#define USER_MODE	VIOLATION_USER_MODE
#define WRITABLE	VIOLATION_PAGE_WRITABLE
#define EXECUTE_DISABLE	VIOLATION_PAGE_EXECUTE_DISABLE

/* Every entry of the guest says U/S = 1, R/W = 1, XD = 0 but for the change. */
static void describes_page(const struct case_def *this_case)
{
	const struct guest_page *row = this_case->row;
	u64 access = ept_probe_qualification(row->access) &
		     ~(USER_MODE | WRITABLE | EXECUTE_DISABLE);
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.guest_entry[LEVEL_PTE] |= PTE_US;
	*probe.guest_entry[row->level] = (*probe.guest_entry[row->level] & ~row->clear) | row->set;
	if (row->set & PTE_XD)
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) | EFER_NXE);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(access | row->information, probe.gpa, probe.linear);
}

#define ADVANCED	VMX, EPT, EPT_CAP(ADVANCED_EXIT_INFO)

CASE_RUN(user_page, describes_page,
	 PROVES("exit-qualifications:ept.user_mode", "ept:violation.advanced",
		"vmx-capabilities:ept.advanced_violation_information"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PTE, .information = USER_MODE | WRITABLE));
CASE_RUN(user_page_for_write, describes_page,
	 PROVES("exit-qualifications:ept.user_mode", "ept:violation.advanced"), NEEDS(ADVANCED),
	 PAGE(.level = LEVEL_PTE, .access = ACCESS_WRITE, .information = USER_MODE | WRITABLE));
CASE_RUN(user_page_for_fetch, describes_page,
	 PROVES("exit-qualifications:ept.user_mode", "ept:violation.advanced"), NEEDS(ADVANCED),
	 PAGE(.level = LEVEL_PTE, .access = ACCESS_FETCH, .information = USER_MODE | WRITABLE));
CASE_RUN(supervisor_page_by_pte, describes_page, PROVES("exit-qualifications:ept.user_mode"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PTE, .clear = PTE_US, .information = WRITABLE));
CASE_RUN(supervisor_page_by_pde, describes_page, PROVES("exit-qualifications:ept.user_mode"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PDE, .clear = PTE_US, .information = WRITABLE));
CASE_RUN(supervisor_page_by_pml4e, describes_page, PROVES("exit-qualifications:ept.user_mode"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PML4E, .clear = PTE_US, .information = WRITABLE));
CASE_RUN(read_only_page_by_pte, describes_page, PROVES("exit-qualifications:ept.page_writable"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PTE, .clear = PTE_RW, .information = USER_MODE));
CASE_RUN(read_only_page_by_pdpte, describes_page, PROVES("exit-qualifications:ept.page_writable"),
	 NEEDS(ADVANCED), PAGE(.level = LEVEL_PDPTE, .clear = PTE_RW, .information = USER_MODE));
CASE_RUN(execute_disable_page_by_pte, describes_page,
	 PROVES("exit-qualifications:ept.page_execute_disable"), NEEDS(ADVANCED, CPU(NX)),
	 PAGE(.level = LEVEL_PTE, .set = PTE_XD,
	      .information = USER_MODE | WRITABLE | EXECUTE_DISABLE));
CASE_RUN(execute_disable_page_by_pde, describes_page,
	 PROVES("exit-qualifications:ept.page_execute_disable"), NEEDS(ADVANCED, CPU(NX)),
	 PAGE(.level = LEVEL_PDE, .set = PTE_XD,
	      .information = USER_MODE | WRITABLE | EXECUTE_DISABLE));
