/*
 * EPT misconfigurations: entries that say what no processor, or not this one, can do.
 *
 * When the translation of a guest-physical address meets an EPT paging-structure entry that
 * is present and sets a reserved bit, allows writes but not reads, allows fetches but not
 * reads where that is not supported, or names a reserved memory type, the access causes an
 * EPT misconfiguration: 31.3.3.1. It does not matter which access it was, and it comes before
 * everything that the entries further down, or the permissions of all of them, would say:
 * 31.3.3.3. The exit has qualification 0 and saves the guest-physical address: 30.2.1. The
 * processor keeps nothing of such an entry (31.4.2), so once software has corrected it the guest
 * goes on without INVEPT.
 *
 * The second half is what is no misconfiguration: bits that are ignored, memory types that exist.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "mmu/pages.h"
#include "ept/violation.h"

BEFORE_EACH_CASE(vmx_start);

struct misconfiguration {
	enum paging_level size;			/* of the entry that maps the page; 0: an EPT PTE */
	enum paging_level level;		/* the entry that is changed: bits to */
	u64 clear, set;
	u64 each;				/* bits of which each is tried by itself */
	bool each_above_maxphyaddr;		/* so are bits 51:MAXPHYADDR */
	u64 clear_above;			/* bits to clear in the entry above that one */
	enum access access;
};

#define WHEN(...)	ROW((&(const struct misconfiguration){ __VA_ARGS__ }))

static void start(struct ept_probe *probe, const struct misconfiguration *row)
{
	ept_probe_start(probe, row->size ? row->size : LEVEL_PTE, 0);
	if (row->clear_above)
		ept_change(&probe->ept, probe->gpa, row->level + 1, row->clear_above, 0);
}

static void note_entry(enum paging_level level, u64 entry)
{
	char words[120];

	case_note("entry", "%s %s", ept_entry_name(level),
		  ept_entry_words(words, sizeof(words), entry));
}

/* The access with the entry as `value`; then the good entry again, and the guest goes on. */
static void try_misconfigured(struct ept_probe *probe, const struct misconfiguration *row,
			      u64 value)
{
	volatile u64 *entry = probe->entry[row->level];
	u64 good = *entry;

	*entry = value;
	/* The good one of the round before may be cached: 31.4.3.4. */
	ept_invalidate(&probe->ept);
	if (!EXPECT(ept_probe_enter(probe, row->access), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION))) {
		note_entry(row->level, value);
		*entry = good;
		ept_invalidate(&probe->ept);
		return;
	}
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), probe->gpa);
	EXPECT_NOT_DONE(probe);
	*entry = good;
	if (row->clear_above)
		ept_change(&probe->ept, probe->gpa, row->level + 1, 0, row->clear_above);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(probe);
}

static void misconfigured(const struct case_def *this_case)
{
	const struct misconfiguration *row = this_case->row;
	u64 each = row->each | (row->each_above_maxphyaddr ? BITS(51, maxphyaddr()) : 0), bit;
	struct ept_probe probe;

	start(&probe, row);
	if (!each)
		try_misconfigured(&probe, row, (*probe.entry[row->level] & ~row->clear) | row->set);
	for (; each; each &= ~bit) {
		bit = each & -each;
		try_misconfigured(&probe, row, *probe.entry[row->level] | bit);
	}
}

/* --- writes without reads -------------------------------------------------- */

#define ONLY(rights, size_, level_, access_)				\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##level_, .clear = EPT_RWX & ~(rights), \
	     .access = ACCESS_##access_)

CASE_RUN(read_of_write_only_pte, misconfigured,
	 PROVES("exit-reasons:49", "ept:misconfig.write_only", "ept:misconfig.qualification",
		"ept:inv.misconfigured_not_cached"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE, PTE, PTE, READ));
CASE_RUN(write_to_write_only_pte, misconfigured,
	 PROVES("ept:misconfig.write_only", "ept:misconfig.qualification",
		"ept:inv.misconfigured_not_cached"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE, PTE, PTE, WRITE));
CASE_RUN(fetch_from_write_only_pte, misconfigured,
	 PROVES("ept:misconfig.write_only", "ept:misconfig.qualification",
		"ept:inv.misconfigured_not_cached"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE, PTE, PTE, FETCH));
CASE_RUN(write_to_write_only_pde, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE, PTE, PDE, WRITE));
CASE_RUN(write_to_write_only_pdpte, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE, PTE, PDPTE, WRITE));
CASE_RUN(write_to_write_only_pml4e, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT, OWN_PML4E), ONLY(EPT_WRITE, PTE, PML4E, WRITE));
CASE_RUN(write_to_write_only_2_mbyte_page, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), ONLY(EPT_WRITE, PDE, PDE, WRITE));
CASE_RUN(write_to_write_only_1_gbyte_page, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), ONLY(EPT_WRITE, PDPTE, PDPTE, WRITE));
CASE_RUN(fetch_from_write_execute_pte, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE | EPT_EXECUTE, PTE, PTE, FETCH));
CASE_RUN(fetch_from_write_execute_pde, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE | EPT_EXECUTE, PTE, PDE, FETCH));
CASE_RUN(fetch_from_write_execute_pdpte, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT), ONLY(EPT_WRITE | EPT_EXECUTE, PTE, PDPTE, FETCH));
CASE_RUN(fetch_from_write_execute_pml4e, misconfigured, PROVES("ept:misconfig.write_only"),
	 NEEDS(VMX, EPT, OWN_PML4E), ONLY(EPT_WRITE | EPT_EXECUTE, PTE, PML4E, FETCH));

/* --- fetches without reads, where the processor has no execute-only translations --- */

CASE_RUN(fetch_from_execute_only_pte, misconfigured, PROVES("ept:misconfig.exec_only"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(EXECUTE_ONLY)), ONLY(EPT_EXECUTE, PTE, PTE, FETCH));
CASE_RUN(fetch_from_execute_only_pde, misconfigured, PROVES("ept:misconfig.exec_only"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(EXECUTE_ONLY)), ONLY(EPT_EXECUTE, PTE, PDE, FETCH));
CASE_RUN(fetch_from_execute_only_pdpte, misconfigured, PROVES("ept:misconfig.exec_only"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(EXECUTE_ONLY)), ONLY(EPT_EXECUTE, PTE, PDPTE, FETCH));
CASE_RUN(fetch_from_execute_only_pml4e, misconfigured, PROVES("ept:misconfig.exec_only"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(EXECUTE_ONLY), OWN_PML4E),
	 ONLY(EPT_EXECUTE, PTE, PML4E, FETCH));

/* --- reserved bits --------------------------------------------------------- */

#define EACH(size_, level_, bits)					\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##level_, .each = (bits), .access = ACCESS_READ)
#define EACH_ABOVE_MAXPHYADDR(size_, level_)				\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##level_, .each_above_maxphyaddr = true, \
	     .access = ACCESS_READ)

CASE_RUN(reserved_bits_of_pml4e, misconfigured,
	 PROVES("ept:entry.pml4e.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT, OWN_PML4E), EACH(PTE, PML4E, BITS(7, 3)));
CASE_RUN(reserved_bits_of_pdpte, misconfigured,
	 PROVES("ept:entry.pdpte.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT), EACH(PTE, PDPTE, BITS(6, 3)));
CASE_RUN(reserved_bits_of_pde, misconfigured,
	 PROVES("ept:entry.pde.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT), EACH(PTE, PDE, BITS(6, 3)));
CASE_RUN(reserved_bits_of_2_mbyte_page, misconfigured,
	 PROVES("ept:entry.pde_2m.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), EACH(PDE, PDE, BITS(20, 13)));
CASE_RUN(reserved_bits_of_1_gbyte_page, misconfigured,
	 PROVES("ept:entry.pdpte_1g.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), EACH(PDPTE, PDPTE, BITS(29, 13)));
/* In ordinary paging bit 12 of a large page is PAT; in EPT it is as reserved as the others. */
CASE_RUN(reserved_bit_12_of_2_mbyte_page, misconfigured,
	 PROVES("ept:entry.pde_2m.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), EACH(PDE, PDE, BIT(12)));
CASE_RUN(reserved_bit_12_of_1_gbyte_page, misconfigured,
	 PROVES("ept:entry.pdpte_1g.reserved", "ept:misconfig.reserved"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), EACH(PDPTE, PDPTE, BIT(12)));

CASE_RUN(address_bits_of_pml4e, misconfigured,
	 PROVES("ept:entry.pml4e.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, RESERVED_ADDRESS_BITS, OWN_PML4E), EACH_ABOVE_MAXPHYADDR(PTE, PML4E));
CASE_RUN(address_bits_of_pdpte, misconfigured,
	 PROVES("ept:entry.pdpte.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, RESERVED_ADDRESS_BITS), EACH_ABOVE_MAXPHYADDR(PTE, PDPTE));
CASE_RUN(address_bits_of_pde, misconfigured,
	 PROVES("ept:entry.pde.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, RESERVED_ADDRESS_BITS), EACH_ABOVE_MAXPHYADDR(PTE, PDE));
CASE_RUN(address_bits_of_pte, misconfigured,
	 PROVES("ept:entry.pte.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, RESERVED_ADDRESS_BITS), EACH_ABOVE_MAXPHYADDR(PTE, PTE));
CASE_RUN(address_bits_of_2_mbyte_page, misconfigured,
	 PROVES("ept:entry.pde_2m.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, EPT_CAP(2M), RESERVED_ADDRESS_BITS), EACH_ABOVE_MAXPHYADDR(PDE, PDE));
CASE_RUN(address_bits_of_1_gbyte_page, misconfigured,
	 PROVES("ept:entry.pdpte_1g.reserved", "ept:misconfig.reserved", "ept:width.pa"),
	 NEEDS(VMX, EPT, EPT_CAP(1G), RESERVED_ADDRESS_BITS), EACH_ABOVE_MAXPHYADDR(PDPTE, PDPTE));

/* Bit 7 is reserved where the processor has no pages of that size. */
CASE_RUN(page_bit_of_pde, misconfigured, PROVES("ept:walk.2m_unsupported"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(2M)), EACH(PTE, PDE, EPT_PAGE));
CASE_RUN(page_bit_of_pdpte, misconfigured, PROVES("ept:walk.1g_unsupported"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(1G)), EACH(PTE, PDPTE, EPT_PAGE));

/* --- memory types ---------------------------------------------------------- */

#define TYPE(size_, type)						\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##size_, .clear = EPT_MEMORY_TYPE(7),	\
	     .set = EPT_MEMORY_TYPE(type), .access = ACCESS_READ)

CASE_RUN(memory_type_2_of_pte, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT), TYPE(PTE, 2));
CASE_RUN(memory_type_3_of_pte, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT), TYPE(PTE, 3));
CASE_RUN(memory_type_7_of_pte, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT), TYPE(PTE, 7));
CASE_RUN(memory_type_2_of_2_mbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), TYPE(PDE, 2));
CASE_RUN(memory_type_3_of_2_mbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), TYPE(PDE, 3));
CASE_RUN(memory_type_7_of_2_mbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), TYPE(PDE, 7));
CASE_RUN(memory_type_2_of_1_gbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), TYPE(PDPTE, 2));
CASE_RUN(memory_type_3_of_1_gbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), TYPE(PDPTE, 3));
CASE_RUN(memory_type_7_of_1_gbyte_page, misconfigured, PROVES("ept:misconfig.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), TYPE(PDPTE, 7));

/* --- which comes first: 31.3.3.3 ------------------------------------------- */

/* The permissions of the entries above are looked at when the walk is over: it ends before. */
CASE_RUN(misconfigured_pte_below_read_only_pde, misconfigured, PROVES("ept:violation.order"),
	 NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PTE, .clear = EPT_READ | EPT_EXECUTE, .clear_above = EPT_WRITE,
	      .access = ACCESS_WRITE));
CASE_RUN(misconfigured_pde_below_no_execute_pdpte, misconfigured, PROVES("ept:violation.order"),
	 NEEDS(VMX, EPT),
	 WHEN(.level = LEVEL_PDE, .set = BIT(3), .clear_above = EPT_EXECUTE,
	      .access = ACCESS_FETCH));

/* An entry that is not present ends the walk before the misconfigured one further down. */
CASE(misconfigured_pte_below_pde_not_present, PROVES("ept:violation.order"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.entry[LEVEL_PTE] = EPT_WRITE;
	*probe.entry[LEVEL_PDE] = 0;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ), probe.gpa, probe.linear);
}

/* A misconfigured entry ends it before the one further down that is not present. */
CASE(misconfigured_pde_above_pte_not_present, PROVES("ept:violation.order"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.entry[LEVEL_PTE] = 0;
	*probe.entry[LEVEL_PDE] |= BIT(3);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), probe.gpa);
}

/* 30.3.3 Saving RIP, RSP, RFLAGS, and SSP */
CASE(rf_is_saved_as_1, PROVES("host-and-exit:save.rf.ept"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.entry[LEVEL_PTE] &= ~EPT_READ;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(GUEST_RFLAGS), guest_snapshot.rflags | RFLAGS_RF);
}

/* --- what is no misconfiguration ------------------------------------------- */

static void try_accepted(struct ept_probe *probe, enum paging_level level, u64 clear, u64 set)
{
	u64 good = *probe->entry[level];
	enum access access;

	ept_change(&probe->ept, probe->gpa, level, clear, set);
	for (access = ACCESS_READ; access <= ACCESS_FETCH; access++) {
		probe->page[0] = PROBE_CONTENT;
		if (!EXPECT(ept_probe_enter(probe, access), GUEST_DONE))
			note_entry(level, *probe->entry[level]);
		else
			EXPECT_MADE(probe);
	}
	/* Bits 8 and 9 too are left alone, and no other is changed. */
	EXPECT_EQ(*probe->entry[level], (good & ~clear) | set);
	ept_change(&probe->ept, probe->gpa, level, ~good, good);
}

static void accepted(const struct case_def *this_case)
{
	const struct misconfiguration *row = this_case->row;
	u64 each = row->each, bit;
	struct ept_probe probe;

	start(&probe, row);
	if (!each)
		try_accepted(&probe, row->level, row->clear, row->set);
	for (; each; each &= ~bit) {
		bit = each & -each;
		try_accepted(&probe, row->level, 0, bit);
	}
}

#define PAT_IGNORED(size_, type)					\
	WHEN(.size = LEVEL_##size_, .level = LEVEL_##size_, .clear = EPT_MEMORY_TYPE(7),	\
	     .set = EPT_MEMORY_TYPE(type) | EPT_IGNORE_PAT)

CASE_RUN(memory_type_uc, accepted, PROVES("ept:memtype.leaf"), NEEDS(VMX, EPT), TYPE(PTE, EPT_UC));
CASE_RUN(memory_type_wc, accepted, PROVES("ept:memtype.leaf"), NEEDS(VMX, EPT), TYPE(PTE, EPT_WC));
CASE_RUN(memory_type_wt, accepted, PROVES("ept:memtype.leaf"), NEEDS(VMX, EPT), TYPE(PTE, EPT_WT));
CASE_RUN(memory_type_wp, accepted, PROVES("ept:memtype.leaf"), NEEDS(VMX, EPT), TYPE(PTE, EPT_WP));
CASE_RUN(memory_type_wb, accepted, PROVES("ept:memtype.leaf"), NEEDS(VMX, EPT), TYPE(PTE, EPT_WB));
CASE_RUN(memory_type_uc_ignoring_pat, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT), PAT_IGNORED(PTE, EPT_UC));
CASE_RUN(memory_type_wb_ignoring_pat, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT), PAT_IGNORED(PTE, EPT_WB));
CASE_RUN(memory_type_uc_of_2_mbyte_page, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), TYPE(PDE, EPT_UC));
CASE_RUN(memory_type_wb_ignoring_pat_of_2_mbyte_page, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), PAT_IGNORED(PDE, EPT_WB));
CASE_RUN(memory_type_uc_of_1_gbyte_page, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), TYPE(PDPTE, EPT_UC));
CASE_RUN(memory_type_wb_ignoring_pat_of_1_gbyte_page, accepted, PROVES("ept:memtype.leaf"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), PAT_IGNORED(PDPTE, EPT_WB));

/* Bits 8 and 9 are flags with EPTP bit 6 only; 10, and 57 and up, mean something with controls. */
#define IGNORED_BITS	(BITS(63, 52) | BITS(11, 8))

CASE_RUN(ignored_bits_of_pml4e, accepted, PROVES("ept:entry.nonleaf.ignored", "ept:ad.off"),
	 NEEDS(VMX, EPT, OWN_PML4E), EACH(PTE, PML4E, IGNORED_BITS));
CASE_RUN(ignored_bits_of_pdpte, accepted, PROVES("ept:entry.nonleaf.ignored", "ept:ad.off"),
	 NEEDS(VMX, EPT), EACH(PTE, PDPTE, IGNORED_BITS));
CASE_RUN(ignored_bits_of_pde, accepted, PROVES("ept:entry.nonleaf.ignored", "ept:ad.off"),
	 NEEDS(VMX, EPT), EACH(PTE, PDE, IGNORED_BITS));
CASE_RUN(ignored_bits_of_pte, accepted,
	 PROVES("ept:entry.leaf.ignored", "ept:entry.pte.reserved", "ept:ad.off", "ept:mbec.off"),
	 NEEDS(VMX, EPT), EACH(PTE, PTE, IGNORED_BITS | BIT(7)));
CASE_RUN(ignored_bits_of_2_mbyte_page, accepted,
	 PROVES("ept:entry.leaf.ignored", "ept:ad.off", "ept:mbec.off"),
	 NEEDS(VMX, EPT, EPT_CAP(2M)), EACH(PDE, PDE, IGNORED_BITS));
CASE_RUN(ignored_bits_of_1_gbyte_page, accepted,
	 PROVES("ept:entry.leaf.ignored", "ept:ad.off", "ept:mbec.off"),
	 NEEDS(VMX, EPT, EPT_CAP(1G)), EACH(PDPTE, PDPTE, IGNORED_BITS));

/* --- the fifth level ---------------------------------------------------------------------- */

GUEST_INSTRUCTION(read_anything, "", "movq guest_value, %rax");

/*
 * Table 31-1: bits 7:3 and those above MAXPHYADDR. The only entry leads to the tables of all that
 * the guest has, so its first access meets it; which one that is, is not said.
 */
CASE(reserved_in_pml5e, PROVES("ept:entry.pml5e.reserved"), NEEDS(VMX, EPT, EPT_CAP(WALK_5)))
{
	u64 *pml5 = page_alloc(), good, reserved = BITS(7, 3), bit;
	struct ept ept;

	ept_start(&ept, 0);
	if (maxphyaddr() < 52)
		reserved |= BITS(51, maxphyaddr());
	good = physical(ept.root) | ept.all_rights;
	ept.pointer = physical(pml5) | (ept.pointer & BITS(2, 0)) | EPTP_WALK_LENGTH(5);
	vmwrite(EPT_POINTER, ept.pointer);
	for (; reserved; reserved &= ~bit) {
		bit = reserved & -reserved;
		pml5[0] = good | bit;
		ept_invalidate(&ept);
		if (!EXPECT(enter(guest_read_anything.run),
			    OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION)))
			case_note("entry", "%#lx", pml5[0]);
	}
	/* Bits 9, 11 and 63:52 are ignored. */
	pml5[0] = good | BIT(9) | BIT(11) | BITS(62, 52);
	ept_invalidate(&ept);
	EXPECT(enter(guest_read_anything.run), GUEST_DONE);
}
