/*
 * Accessed and dirty flags for EPT: 31.3.5.
 *
 * With EPTP bit 6, the processor sets bit 8 of each EPT paging-structure entry that it uses for
 * a translation, and for a write bit 9 of the entry that maps the page. Accesses to the guest's
 * own paging structures count as writes, whatever the guest does: the pages that hold them become
 * dirty when a linear address is translated by them. The flags are sticky: the processor never
 * clears them. Software that does has to execute INVEPT before it can rely on seeing them set
 * again: 31.4.3.4. Without EPTP bit 6 both bits are ignored and left alone.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

static void expect_entry(enum paging_level level, u64 got, u64 want)
{
	char words[2][120];

	if (got != want)
		case_fail(NULL, 0, ept_entry_name(level),
			  ept_entry_words(words[0], sizeof(words[0]), want),
			  ept_entry_words(words[1], sizeof(words[1]), got));
}

/* --- accesses of the guest to a page --------------------------------------- */

struct row {
	enum paging_level size;
	enum access access;
	u64 eptp_flags;
	u64 before;			/* EPT_ACCESSED, EPT_DIRTY: in all entries at first */
};

#define WHEN(...)	ROW((&(const struct row){ __VA_ARGS__ }))

static void flags_after_access(const struct case_def *this_case)
{
	const struct row *row = this_case->row;
	bool enabled = row->eptp_flags & EPTP_ACCESSED_DIRTY;
	u64 before[LEVEL_PML4E + 1], want;
	enum paging_level level;
	struct ept_probe probe;

	ept_probe_start(&probe, row->size, row->eptp_flags);
	for (level = row->size; level <= LEVEL_PML4E; level++) {
		*probe.entry[level] |= row->before;
		before[level] = *probe.entry[level];
	}
	REQUIRE(ept_probe_enter(&probe, row->access), GUEST_DONE);
	EXPECT_MADE(&probe);
	for (level = row->size; level <= LEVEL_PML4E; level++) {
		want = before[level] | (enabled ? EPT_ACCESSED : 0);
		if (enabled && row->access == ACCESS_WRITE && level == row->size)
			want |= EPT_DIRTY;
		expect_entry(level, *probe.entry[level], want);
	}
}

#define ACCESS(size_, access_, flags, before_)				\
	WHEN(.size = LEVEL_##size_, .access = ACCESS_##access_, .eptp_flags = (flags), \
	     .before = (before_))

CASE_RUN(read_of_4_kbyte_page, flags_after_access,
	 PROVES("ept:ad.accessed", "ept:ad.dirty", "ept:eptp.format.ad",
     "field-formats:eptp.accessed_dirty"),
	 NEEDS(VMX, EPT, EPT_AD, OWN_PML4E), ACCESS(PTE, READ, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(write_to_4_kbyte_page, flags_after_access,
	 PROVES("ept:ad.accessed", "ept:ad.dirty", "ept:eptp.format.ad"),
	 NEEDS(VMX, EPT, EPT_AD, OWN_PML4E), ACCESS(PTE, WRITE, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(fetch_from_4_kbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, OWN_PML4E), ACCESS(PTE, FETCH, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(read_of_2_mbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, EPT_CAP(2M), OWN_PML4E),
	 ACCESS(PDE, READ, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(write_to_2_mbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, EPT_CAP(2M), OWN_PML4E),
	 ACCESS(PDE, WRITE, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(fetch_from_2_mbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, EPT_CAP(2M), OWN_PML4E),
	 ACCESS(PDE, FETCH, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(read_of_1_gbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, EPT_CAP(1G), OWN_PML4E),
	 ACCESS(PDPTE, READ, EPTP_ACCESSED_DIRTY, 0));
CASE_RUN(write_to_1_gbyte_page, flags_after_access, PROVES("ept:ad.accessed", "ept:ad.dirty"),
	 NEEDS(VMX, EPT, EPT_AD, EPT_CAP(1G), OWN_PML4E),
	 ACCESS(PDPTE, WRITE, EPTP_ACCESSED_DIRTY, 0));

CASE_RUN(read_leaves_flags_set, flags_after_access, PROVES("ept:ad.sticky"),
	 NEEDS(VMX, EPT, EPT_AD, OWN_PML4E),
	 ACCESS(PTE, READ, EPTP_ACCESSED_DIRTY, EPT_ACCESSED | EPT_DIRTY));
CASE_RUN(write_leaves_flags_set, flags_after_access, PROVES("ept:ad.sticky"),
	 NEEDS(VMX, EPT, EPT_AD, OWN_PML4E),
	 ACCESS(PTE, WRITE, EPTP_ACCESSED_DIRTY, EPT_ACCESSED | EPT_DIRTY));

/* The flags are off. */
CASE_RUN(read_without_flags, flags_after_access, PROVES("ept:ad.off"), NEEDS(VMX, EPT),
	 ACCESS(PTE, READ, 0, 0));
CASE_RUN(write_without_flags, flags_after_access, PROVES("ept:ad.off"), NEEDS(VMX, EPT),
	 ACCESS(PTE, WRITE, 0, 0));
CASE_RUN(fetch_without_flags, flags_after_access, PROVES("ept:ad.off"), NEEDS(VMX, EPT),
	 ACCESS(PTE, FETCH, 0, 0));
CASE_RUN(write_to_2_mbyte_page_without_flags, flags_after_access, PROVES("ept:ad.off"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), ACCESS(PDE, WRITE, 0, 0));
CASE_RUN(write_without_flags_that_are_set, flags_after_access, PROVES("ept:ad.off"),
	 NEEDS(VMX, EPT), ACCESS(PTE, WRITE, 0, EPT_ACCESSED | EPT_DIRTY));

/* --- one access after another ---------------------------------------------- */

static void expect_flags(const struct ept_probe *probe, u64 want)
{
	u64 got = *probe->entry[LEVEL_PTE], mask = EPT_ACCESSED | EPT_DIRTY;

	expect_entry(LEVEL_PTE, got, (got & ~mask) | want);
}

/* The processor may have cached it as not dirty; the write sets the flag all the same. */
CASE(write_after_read, PROVES("ept:ad.dirty"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
}

GUEST_CODE(read_then_write, "movq guest_value, %rbx; movq (%rbx), %rax", "movq %rax, (%rbx)");

/* The same without a VM exit between the two. */
CASE(write_after_read_in_one_guest, PROVES("ept:ad.dirty"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	guest_value = probe.linear;
	REQUIRE(enter(guest_read_then_write.run), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
}

GUEST_INSTRUCTION(increment, "movq guest_value, %rbx", "incq (%rbx)");

CASE(read_modify_write, PROVES("ept:ad.dirty"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	guest_value = probe.linear;
	REQUIRE(enter(guest_increment.run), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
}

/* ept_change() executes INVEPT, because it clears flags. */
CASE(cleared_flags_are_set_again, PROVES("ept:ad.cached"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_ACCESSED | EPT_DIRTY, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_ACCESSED | EPT_DIRTY, 0);
	probe.page[0] = PROBE_CONTENT;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED);
}

/* 31.4.3.4: INVEPT when the flags are turned on for tables that were in use without them. */
CASE(flags_turned_on_later, PROVES("ept:ad.accessed", "ept:ad.dirty"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&probe, 0);
	probe.ept.pointer |= EPTP_ACCESSED_DIRTY;
	vmwrite(EPT_POINTER, probe.ept.pointer);
	ept_invalidate(&probe.ept);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
}

/* A write that is refused is none. */
CASE(refused_write_is_not_dirty, PROVES("ept:ad.dirty"), NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & EPT_DIRTY, 0);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, 0, EPT_WRITE);
	REQUIRE(resume(), GUEST_DONE);
	expect_flags(&probe, EPT_ACCESSED | EPT_DIRTY);
}

/* --- the guest's paging structures ----------------------------------------- */

/* EPT maps the guest's table by a PTE of its own; the guest's own flags are set before. */
static void table_becomes_dirty(const struct case_def *this_case)
{
	const struct row *row = this_case->row;
	u64 *entry, table, before;
	enum paging_level level;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, row->eptp_flags);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		*probe.guest_entry[level] |= PTE_A;
	*probe.guest_entry[LEVEL_PTE] |= PTE_D;
	table = physical(probe.guest_entry[row->size]) & PAGE_MASK;
	entry = ept_map(&probe.ept, table, table, probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
			LEVEL_PTE);
	before = *entry;
	REQUIRE(ept_probe_enter(&probe, row->access), GUEST_DONE);
	expect_entry(LEVEL_PTE, *entry,
		     before | (row->eptp_flags ? EPT_ACCESSED | EPT_DIRTY : 0));
}

#define TABLE(level_, access_, flags)					\
	WHEN(.size = LEVEL_##level_, .access = ACCESS_##access_, .eptp_flags = (flags))

CASE_RUN(page_table_by_read, table_becomes_dirty, PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PTE, READ, EPTP_ACCESSED_DIRTY));
CASE_RUN(page_table_by_fetch, table_becomes_dirty, PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PTE, FETCH, EPTP_ACCESSED_DIRTY));
CASE_RUN(page_table_by_write, table_becomes_dirty, PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PTE, WRITE, EPTP_ACCESSED_DIRTY));
CASE_RUN(page_directory_by_read, table_becomes_dirty, PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PDE, READ, EPTP_ACCESSED_DIRTY));
CASE_RUN(page_directory_pointer_table_by_read, table_becomes_dirty,
	 PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PDPTE, READ, EPTP_ACCESSED_DIRTY));
CASE_RUN(pml4_table_by_read, table_becomes_dirty, PROVES("ept:ad.dirty_for_paging"),
	 NEEDS(VMX, EPT, EPT_AD), TABLE(PML4E, READ, EPTP_ACCESSED_DIRTY));
CASE_RUN(page_table_without_flags, table_becomes_dirty, PROVES("ept:ad.off"), NEEDS(VMX, EPT),
	 TABLE(PTE, READ, 0));

/* The access ends in a page fault of the guest; the tables have been used all the same. */
CASE(page_table_by_page_fault, PROVES("ept:ad.accessed", "ept:ad.dirty_for_paging"),
     NEEDS(VMX, EPT, EPT_AD))
{
	struct ept_probe probe;
	u64 *entry, table, before;

	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	*probe.guest_entry[LEVEL_PTE] &= ~PTE_P;
	table = physical(probe.guest_entry[LEVEL_PTE]) & PAGE_MASK;
	entry = ept_map(&probe.ept, table, table, probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
			LEVEL_PTE);
	before = *entry;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, 0));
	expect_entry(LEVEL_PTE, *entry, before | EPT_ACCESSED | EPT_DIRTY);
	/* The page itself was not reached. */
	expect_flags(&probe, 0);
}
