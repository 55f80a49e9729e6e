/*
 * EPT violations: which accesses EPT refuses, and what the exit says of them.
 *
 * With "enable EPT", a guest-physical address is translated by the EPT paging structures: 31.3.2
 * EPT Translation Mechanism. Bits 2:0 of each entry allow reads, writes and instruction fetches;
 * an entry with all three clear is not present. An access that meets an entry that is not
 * present, or that one entry on the way does not allow, causes an EPT violation: 31.3.3.2. The
 * exit qualification holds the access, the AND of what the entries allow, and what is known of
 * the linear address: Table 30-7; two fields hold the addresses. The exit is like a fault: the
 * access has not been made, and when the entry allows it, the guest goes on as if nothing had
 * been. No INVEPT is needed for that: the violation itself has dropped what the processor had
 * cached (31.4.3.1).
 *
 * Most cases are rows of a table: one entry of one page's translation is changed, one access is
 * made, then the entry is put back and the guest goes on.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

/* What the page's entries allow together: bits 5:3 of the qualification. */
#define NOTHING	0
#define R	VIOLATION_READABLE
#define W	VIOLATION_WRITABLE
#define X	VIOLATION_EXECUTABLE

struct violation {
	enum paging_level size;			/* of the entry that maps the page; 0: an EPT PTE */
	enum paging_level level;		/* the entry that is changed: bits to */
	u64 clear, set;
	u64 clear_above;			/* bits to clear in the entry above that one */
	enum access access;
	u64 rights;				/* bits 5:3 of the qualification */
};

#define WHEN(...)	ROW((&(const struct violation){ __VA_ARGS__ }))

static void change_entries(struct ept_probe *probe, const struct violation *row)
{
	*probe->entry[row->level] = (*probe->entry[row->level] & ~row->clear) | row->set;
	if (row->clear_above)
		*probe->entry[row->level + 1] &= ~row->clear_above;
}

/* The access is refused, and made when the entries are as they were. */
static void refused(const struct case_def *this_case)
{
	const struct violation *row = this_case->row;
	enum paging_level level = row->level;
	u64 entry, above;
	struct ept_probe probe;

	ept_probe_start(&probe, row->size ? row->size : LEVEL_PTE, 0);
	entry = *probe.entry[level];
	above = level < LEVEL_PML4E ? *probe.entry[level + 1] : 0;
	change_entries(&probe, row);
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(row->access) | row->rights, probe.gpa,
			 probe.linear);
	EXPECT_NOT_DONE(&probe);

	*probe.entry[level] = entry;
	if (row->clear_above)
		*probe.entry[level + 1] = above;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* The access is made. */
static void allowed(const struct case_def *this_case)
{
	const struct violation *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, row->size ? row->size : LEVEL_PTE, 0);
	change_entries(&probe, row);
	EXPECT(ept_probe_enter(&probe, row->access), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* --- not present: every access is refused, and bits 5:3 say that nothing is allowed --- */

#define NOT_PRESENT(level_, access_)	WHEN(.level = LEVEL_##level_, .clear = ~0ull, \
					     .access = ACCESS_##access_, .rights = NOTHING)

CASE_RUN(read_without_pte, refused,
	 PROVES("exit-reasons:48", "ept:violation.not_present", "ept:walk.not_present",
		"ept:walk.pt.select", "exit-qualifications:ept.read", "ept:violation.gpa",
		"ept:violation.gla", "ept:inv.not_cached"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, READ));
CASE_RUN(write_without_pte, refused,
	 PROVES("ept:violation.not_present", "exit-qualifications:ept.write"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, WRITE));
CASE_RUN(fetch_without_pte, refused,
	 PROVES("ept:violation.not_present", "exit-qualifications:ept.fetch"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PTE, FETCH));
CASE_RUN(read_without_pde, refused,
	 PROVES("ept:violation.not_present", "ept:walk.pd.select"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDE, READ));
CASE_RUN(write_without_pde, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDE, WRITE));
CASE_RUN(fetch_without_pde, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDE, FETCH));
CASE_RUN(read_without_pdpte, refused,
	 PROVES("ept:violation.not_present", "ept:walk.pdpt.select"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDPTE, READ));
CASE_RUN(write_without_pdpte, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDPTE, WRITE));
CASE_RUN(fetch_without_pdpte, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT), NOT_PRESENT(PDPTE, FETCH));
CASE_RUN(read_without_pml4e, refused,
	 PROVES("ept:violation.not_present", "ept:walk.pml4.select"),
	 NEEDS(VMX, EPT, OWN_PML4E), NOT_PRESENT(PML4E, READ));
CASE_RUN(write_without_pml4e, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT, OWN_PML4E), NOT_PRESENT(PML4E, WRITE));
CASE_RUN(fetch_without_pml4e, refused, PROVES("ept:violation.not_present"),
	 NEEDS(VMX, EPT, OWN_PML4E), NOT_PRESENT(PML4E, FETCH));

/* Bits 2:0 alone make an entry present; without "mode-based execute control", bit 10 does not. */
#define HIDDEN(level_)	WHEN(.level = LEVEL_##level_, .clear = EPT_RWX, .set = ~EPT_RWX, \
			     .access = ACCESS_READ, .rights = NOTHING)
CASE_RUN(not_present_pte_hides_all_other_bits, refused,
	 PROVES("ept:walk.not_present", "ept:walk.present"), NEEDS(VMX, EPT), HIDDEN(PTE));
CASE_RUN(not_present_pde_hides_all_other_bits, refused,
	 PROVES("ept:walk.not_present", "ept:walk.present"), NEEDS(VMX, EPT), HIDDEN(PDE));
CASE_RUN(not_present_pdpte_hides_all_other_bits, refused,
	 PROVES("ept:walk.not_present", "ept:walk.present"), NEEDS(VMX, EPT), HIDDEN(PDPTE));
CASE_RUN(not_present_pml4e_hides_all_other_bits, refused,
	 PROVES("ept:walk.not_present", "ept:walk.present"), NEEDS(VMX, EPT, OWN_PML4E),
	 HIDDEN(PML4E));

/* --- one entry does not allow the access ----------------------------------- */

#define WITHOUT(bits, level_, access_, rights_)				\
	WHEN(.level = LEVEL_##level_, .clear = (bits),			\
	     .access = ACCESS_##access_, .rights = (rights_))

CASE_RUN(write_to_read_only_pte, refused,
	 PROVES("ept:violation.write", "exit-qualifications:ept.writable"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_WRITE, PTE, WRITE, R | X));
CASE_RUN(write_to_read_only_pde, refused, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_WRITE, PDE, WRITE, R | X));
CASE_RUN(write_to_read_only_pdpte, refused, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_WRITE, PDPTE, WRITE, R | X));
CASE_RUN(write_to_read_only_pml4e, refused, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT, OWN_PML4E), WITHOUT(EPT_WRITE, PML4E, WRITE, R | X));

CASE_RUN(fetch_from_no_execute_pte, refused,
	 PROVES("ept:violation.fetch", "exit-qualifications:ept.executable"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_EXECUTE, PTE, FETCH, R | W));
CASE_RUN(fetch_from_no_execute_pde, refused, PROVES("ept:violation.fetch"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_EXECUTE, PDE, FETCH, R | W));
CASE_RUN(fetch_from_no_execute_pdpte, refused, PROVES("ept:violation.fetch"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_EXECUTE, PDPTE, FETCH, R | W));
CASE_RUN(fetch_from_no_execute_pml4e, refused, PROVES("ept:violation.fetch"),
	 NEEDS(VMX, EPT, OWN_PML4E), WITHOUT(EPT_EXECUTE, PML4E, FETCH, R | W));

CASE_RUN(read_of_execute_only_pte, refused,
	 PROVES("ept:violation.read", "ept:misconfig.exec_only_ok",
		"exit-qualifications:ept.readable"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PTE, READ, X));
CASE_RUN(read_of_execute_only_pde, refused, PROVES("ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PDE, READ, X));
CASE_RUN(read_of_execute_only_pdpte, refused, PROVES("ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PDPTE, READ, X));
CASE_RUN(read_of_execute_only_pml4e, refused, PROVES("ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY), OWN_PML4E),
	 WITHOUT(EPT_READ | EPT_WRITE, PML4E, READ, X));

CASE_RUN(write_to_execute_only_pte, refused, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PTE, WRITE, X));
CASE_RUN(write_to_read_only_no_execute_pte, refused, PROVES("ept:violation.write"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_WRITE | EPT_EXECUTE, PTE, WRITE, R));
CASE_RUN(fetch_from_read_only_no_execute_pte, refused, PROVES("ept:violation.fetch"),
	 NEEDS(VMX, EPT), WITHOUT(EPT_WRITE | EPT_EXECUTE, PTE, FETCH, R));

/* What two entries allow is the AND of them: bits 5:3. */
CASE_RUN(write_to_read_only_pte_below_no_execute_pde, refused,
	 PROVES("exit-qualifications:ept.writable", "exit-qualifications:ept.executable"),
	 NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PTE, .clear = EPT_WRITE, .clear_above = EPT_EXECUTE,
	      .access = ACCESS_WRITE, .rights = R));
CASE_RUN(fetch_from_read_only_pde_below_no_execute_pdpte, refused,
	 PROVES("exit-qualifications:ept.writable", "exit-qualifications:ept.executable"),
	 NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PDE, .clear = EPT_WRITE, .clear_above = EPT_EXECUTE,
	      .access = ACCESS_FETCH, .rights = R));
CASE_RUN(read_of_execute_only_pte_below_no_execute_pde, refused,
	 PROVES("exit-qualifications:ept.readable", "exit-qualifications:ept.executable"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(.level = LEVEL_PTE, .clear = EPT_READ | EPT_WRITE, .clear_above = EPT_EXECUTE,
	      .access = ACCESS_READ, .rights = NOTHING));
/* An entry that is not present leaves nothing of what those above it allow. */
CASE_RUN(read_without_pte_below_read_only_pde, refused,
	 PROVES("exit-qualifications:ept.readable"), NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PTE, .clear = ~0ull, .clear_above = EPT_WRITE,
	      .access = ACCESS_READ, .rights = NOTHING));

/* --- what is allowed ------------------------------------------------------- */

CASE_RUN(read_of_read_only_page, allowed, PROVES("ept:violation.read"), NEEDS(VMX, EPT),
	 WITHOUT(EPT_WRITE | EPT_EXECUTE, PTE, READ, 0));
CASE_RUN(write_to_no_execute_page, allowed, PROVES("ept:violation.write"), NEEDS(VMX, EPT),
	 WITHOUT(EPT_EXECUTE, PTE, WRITE, 0));
CASE_RUN(fetch_from_read_only_page, allowed, PROVES("ept:violation.fetch"), NEEDS(VMX, EPT),
	 WITHOUT(EPT_WRITE, PTE, FETCH, 0));
CASE_RUN(fetch_from_execute_only_page, allowed,
	 PROVES("ept:misconfig.exec_only_ok", "vmx-capabilities:ept.execute_only"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PTE, FETCH, 0));
CASE_RUN(fetch_through_execute_only_pdpte, allowed, PROVES("ept:misconfig.exec_only_ok"),
	 NEEDS(VMX, EPT, EPT_CAP(EXECUTE_ONLY)), WITHOUT(EPT_READ | EPT_WRITE, PDPTE, FETCH, 0));

/* --- larger pages ---------------------------------------------------------- */

#define LARGE(size_, bits, access_, rights_)				\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##size_, .clear = (bits),	\
	     .access = ACCESS_##access_, .rights = (rights_))

CASE_RUN(read_of_2_mbyte_page, allowed, PROVES("ept:walk.2m", "vmx-capabilities:ept.page_2m"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), LARGE(PDE, 0, READ, 0));
CASE_RUN(write_to_2_mbyte_page, allowed, PROVES("ept:walk.2m"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), LARGE(PDE, 0, WRITE, 0));
CASE_RUN(fetch_from_2_mbyte_page, allowed, PROVES("ept:walk.2m"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), LARGE(PDE, 0, FETCH, 0));
CASE_RUN(write_to_read_only_2_mbyte_page, refused, PROVES("ept:walk.2m", "ept:violation.write"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), LARGE(PDE, EPT_WRITE, WRITE, R | X));
CASE_RUN(fetch_from_no_execute_2_mbyte_page, refused, PROVES("ept:walk.2m", "ept:violation.fetch"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), LARGE(PDE, EPT_EXECUTE, FETCH, R | W));
CASE_RUN(read_of_execute_only_2_mbyte_page, refused, PROVES("ept:walk.2m", "ept:violation.read"),
	 NEEDS(VMX, EPT, EPT_CAP(2M), EPT_CAP(EXECUTE_ONLY)),
	 LARGE(PDE, EPT_READ | EPT_WRITE, READ, X));
CASE_RUN(read_of_1_gbyte_page, allowed, PROVES("ept:walk.1g", "vmx-capabilities:ept.page_1g"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), LARGE(PDPTE, 0, READ, 0));
CASE_RUN(write_to_1_gbyte_page, allowed, PROVES("ept:walk.1g"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), LARGE(PDPTE, 0, WRITE, 0));
CASE_RUN(fetch_from_1_gbyte_page, allowed, PROVES("ept:walk.1g"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), LARGE(PDPTE, 0, FETCH, 0));
CASE_RUN(write_to_read_only_1_gbyte_page, refused, PROVES("ept:walk.1g", "ept:violation.write"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), LARGE(PDPTE, EPT_WRITE, WRITE, R | X));
CASE_RUN(fetch_from_no_execute_1_gbyte_page, refused, PROVES("ept:walk.1g", "ept:violation.fetch"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), LARGE(PDPTE, EPT_EXECUTE, FETCH, R | W));

/* --- the two addresses ----------------------------------------------------- */

/* The bytes, not the pages: all 64 bits of both fields. */
CASE(addresses_are_those_of_the_byte, PROVES("ept:violation.gpa", "ept:violation.gla",
					     "exit-qualifications:ept.linear_valid",
					     "exit-qualifications:ept.translated"),
     NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	probe.linear += 0xabc;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ), probe.gpa + 0xabc, probe.linear);
}

/* An access to two pages, the second of which is not there. */
CASE(access_across_pages, PROVES("ept:violation.gpa", "ept:violation.gla", "ept:violation.write"),
     NEEDS(VMX, EPT))
{
	u64 *second = page_alloc(), last;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	space_map(&probe.guest, probe.linear + PAGE_SIZE, probe.gpa + PAGE_SIZE, PTE_P | PTE_RW,
		  LEVEL_PTE);
	ept_map(&probe.ept, probe.gpa + PAGE_SIZE, 0, 0, LEVEL_PTE);
	probe.linear += PAGE_SIZE - 4;
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, probe.gpa + PAGE_SIZE);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & PAGE_MASK, probe.linear + 4);
	/* Nothing is written, not even to the page that is there: the exit is like a fault. */
	last = probe.page[PAGE_SIZE / 8 - 1];
	EXPECT_EQ(last, PROBE_CONTENT);
	EXPECT_NOT_DONE(&probe);

	ept_map(&probe.ept, probe.gpa + PAGE_SIZE, physical(second),
		probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(probe.page[PAGE_SIZE / 8 - 1] >> 32, PROBE_WRITTEN & BITS(31, 0));
	EXPECT_EQ(second[0], PROBE_WRITTEN >> 32);
}

/* --- accesses that read and write ------------------------------------------ */

/*
 * 30.2.1: a read-modify-write operation sets bit 1; whether it sets bit 0, too, is up to the
 * implementation. Here the read is allowed and the write is not.
 */
static void read_modify_write(const struct case_def *this_case)
{
	const struct guest_code *code = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	guest_value = probe.linear;
	REQUIRE(enter(code->run), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION_EXCEPT(VIOLATION_READ, ept_probe_qualification(ACCESS_WRITE) | R | X,
				probe.gpa, probe.linear);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code->at);
	EXPECT_EQ(probe.page[0], PROBE_CONTENT);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, 0, EPT_WRITE);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(probe.page[0], PROBE_CONTENT + 1);
}

GUEST_INSTRUCTION(inc, "movq guest_value, %rbx", "incq (%rbx)");
CASE_RUN(inc_of_read_only_page, read_modify_write, PROVES("ept:violation.rmw"),
	 NEEDS(VMX, EPT), ROW(&guest_inc));
GUEST_INSTRUCTION(lock_inc, "movq guest_value, %rbx", "lock incq (%rbx)");
CASE_RUN(lock_inc_of_read_only_page, read_modify_write, PROVES("ept:violation.rmw"),
	 NEEDS(VMX, EPT), ROW(&guest_lock_inc));
GUEST_INSTRUCTION(xadd, "movq guest_value, %rbx; movl $1, %eax", "lock xaddq %rax, (%rbx)");
CASE_RUN(xadd_of_read_only_page, read_modify_write, PROVES("ept:violation.rmw"),
	 NEEDS(VMX, EPT), ROW(&guest_xadd));

/* The page is not there: bit 1 is set all the same. */
CASE(inc_of_page_not_present, PROVES("ept:violation.rmw"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	guest_value = probe.linear;
	REQUIRE(enter(guest_inc.run), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION_EXCEPT(VIOLATION_READ, ept_probe_qualification(ACCESS_WRITE), probe.gpa,
				probe.linear);
}

/* --- RFLAGS.RF ------------------------------------------------------------- */

/*
 * 30.3.3 Saving RIP, RSP, RFLAGS, and SSP: saved as 1, as by a fault, so that a breakpoint on the
 * instruction is not met again. Each access by a case of its own.
 */
static void saves_rf(const struct case_def *this_case)
{
	const struct violation *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	change_entries(&probe, row);
	REQUIRE(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_RFLAGS), guest_snapshot.rflags | RFLAGS_RF);
}

CASE_RUN(rf_is_saved_as_1_by_read, saves_rf,
	 PROVES("host-and-exit:save.rf.ept", "ept:violation.saved_rf"), NEEDS(VMX, EPT),
	 NOT_PRESENT(PTE, READ));
CASE_RUN(rf_is_saved_as_1_by_write, saves_rf,
	 PROVES("host-and-exit:save.rf.ept", "ept:violation.saved_rf"), NEEDS(VMX, EPT),
	 NOT_PRESENT(PTE, WRITE));
CASE_RUN(rf_is_saved_as_1_by_fetch, saves_rf,
	 PROVES("host-and-exit:save.rf.ept", "ept:violation.saved_rf"), NEEDS(VMX, EPT),
	 NOT_PRESENT(PTE, FETCH));

/*
 * 30.1, 30.3.4: an instruction that meets an EPT violation has not been executed, so the breakpoint
 * on the data that it had read before is not pending. It will be when the instruction is over:
 * 20.3.1.2.
 */
GUEST_INSTRUCTION(movs, "", "movsb");

CASE(breakpoint_before_a_violation, PROVES("host-and-exit:save.pdbg.clear"),
     NEEDS(VMX, EPT, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	struct ept_probe probe;
	u64 entry;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	entry = *probe.entry[LEVEL_PTE];
	*probe.entry[LEVEL_PTE] = 0;
	guest_regs()->rsi = (u64)guest_memory;
	guest_regs()->rdi = probe.linear;
	write_dr0((u64)guest_memory);
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | BIT(0) | BITS(17, 16));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	REQUIRE(enter_at_instruction(&guest_movs), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_movs.at);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);

	*probe.entry[LEVEL_PTE] = entry;
	EXPECT(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_movs.at + 1);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), BIT(0));
}
