/*
 * Page faults: which accesses 4-level paging refuses, and what it says of them.
 *
 * An access to a linear address causes a page fault when there is no translation (an entry on the
 * way is not present, or sets a reserved bit) or when the translation does not permit the access:
 * 5.7 Page-Fault Exceptions. The error code tells the two apart (P), the kind of the access (W/R,
 * U/S, I/D) and some of the reasons (RSVD, PK); CR2 holds the address. What is permitted follows
 * from R/W, U/S and XD of every entry on the way, from CR0.WP, CR4.SMEP, CR4.SMAP,
 * IA32_EFER.NXE, EFLAGS.AC and from protection keys: 5.6 Access Rights. An access that is
 * carried out sets the accessed flag of every entry that it used, a write also the dirty flag of
 * the one that maps the page: 5.8 Accessed and Dirty Flags.
 *
 * Most cases are rows of a table: one entry of the translation is changed, one access is made
 * in one mode, and judge() looks at all of the above.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/user.h"
#include "fmt.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)

/* What the processor finds, and what it must make of it. */
struct access_row {
	enum paging_level size;			/* of the entry that maps the page; 0: a PTE */
	u64 flags;				/* of that entry, beside P and R/W */
	enum paging_level level;		/* the entry that is changed: bits to */
	u64 clear, set;
	u64 cr0, cr4, efer, rflags;		/* bits to set */
	u32 pkru, pkrs;
	u32 cpl;
	enum access access;
	outcome_t outcome;
};

#define WHEN(...)	ROW((&(const struct access_row){ __VA_ARGS__ }))

static void enter_mode(const struct access_row *row)
{
	write_cr0(read_cr0() | row->cr0);
	write_cr4(read_cr4() | row->cr4);
	if (row->efer)
		wrmsr(IA32_EFER, rdmsr(IA32_EFER) | row->efer);
	if (row->cr4 & CR4_PKE)
		asm volatile("wrpkru" : : "a" (row->pkru), "c" (0), "d" (0));
	if (row->cr4 & CR4_PKS)
		wrmsr(IA32_PKRS, row->pkrs);
	asm volatile("push %0; popfq" : : "r" (read_rflags() | row->rflags) : "cc", "memory");
}

#define WRITTEN		0x1122334455667788ull

struct access_made {
	enum access access;
	u64 linear, value;
};

static void make_access(void *argument)
{
	struct access_made *made = argument;

	switch (made->access) {
	case ACCESS_READ:
		made->value = *(volatile u64 *)made->linear;
		break;
	case ACCESS_WRITE:
		*(volatile u64 *)made->linear = made->value;
		break;
	case ACCESS_FETCH:
		((void (*)(void))made->linear)();
		break;
	}
}

/* The access itself, and what it must have done to memory and to CR2. */
static void access_and_judge(const struct access_row *row, struct probe *probe)
{
	const u64 cr2_before = 0x123456789abcd000;
	struct access_made made = { row->access, probe->linear, WRITTEN };
	bool done = row->outcome == OUTCOME_DONE;

	write_cr2(cr2_before);
	EXPECT(row->cpl ? run_at_cpl(row->cpl, make_access, &made) : attempt(make_access, &made),
	       row->outcome);
	EXPECT_EQ(read_cr2(), done ? cr2_before : probe->linear);
	EXPECT_EQ(made.value, row->access == ACCESS_READ && done ? PROBE_CONTENT : WRITTEN);
	EXPECT_EQ(*probe->page, row->access == ACCESS_WRITE && done ? WRITTEN : PROBE_CONTENT);
}

static const struct bit_name entry_bits[] = {
	{ PTE_P, "P" }, { PTE_RW, "R/W" }, { PTE_US, "U/S" }, { PTE_A, "A" }, { PTE_D, "D" },
	{ PTE_XD, "XD" }, { 0, NULL },
};

static const char *const entry_name[] = {
	[LEVEL_PTE] = "PTE", [LEVEL_PDE] = "PDE", [LEVEL_PDPTE] = "PDPTE", [LEVEL_PML4E] = "PML4E",
};

static void expect_entry(enum paging_level level, u64 got, u64 want)
{
	char expected[120], words[120];

	if (got != want)
		case_fail(NULL, 0, entry_name[level],
			  format_bits(expected, sizeof(expected), want, entry_bits),
			  format_bits(words, sizeof(words), got, entry_bits));
}

/*
 * The flags after the access. 5.8: a processor may set the accessed flag of an entry also for an
 * access that it does not carry out; the dirty flag it may not, and an entry that is not present
 * is not used at all. A write with CR0.WP = 0 to a read-only page sets D, but a processor with
 * shadow stacks never sets it in such an entry: there, either is right.
 */
static void judge_flags(const struct access_row *row, const struct probe *probe, const u64 *before)
{
	enum paging_level level;

	for (level = probe->size; level <= LEVEL_PML4E; level++) {
		u64 got = *probe->entry[level], want = before[level];

		if (row->outcome == OUTCOME_DONE)
			want |= PTE_A;
		else if (before[level] & PTE_P)
			want |= got & PTE_A;
		if (row->outcome == OUTCOME_DONE && row->access == ACCESS_WRITE &&
		    level == probe->size)
			want |= feature(FEATURE_CET_SS) && !(before[level] & PTE_RW) ?
				got & PTE_D : PTE_D;
		expect_entry(level, got, want);
	}
}

static void judge(const struct case_def *this_case)
{
	const struct access_row *row = this_case->row;
	u64 before[LEVEL_PML4E + 1];
	enum paging_level level;
	struct probe probe;

	probe_map(&probe, row->size ? row->size : LEVEL_PTE, PTE_P | PTE_RW | row->flags);
	probe_change(&probe, row->level ? row->level : probe.size, row->clear, row->set);
	for (level = probe.size; level <= LEVEL_PML4E; level++)
		before[level] = *probe.entry[level];
	if (row->cpl == 3)
		probe_share_with_user(&probe);
	enter_mode(row);
	access_and_judge(row, &probe);
	judge_flags(row, &probe, before);
}

/* --- pages of each size, and nothing in the way ------------------------------ */

CASE_RUN(read_of_4_kbyte_page, judge,
	 PROVES("paging:ad.a_read", "paging:ad.read_no_d", "paging:fmt.4l.index"),
	 WHEN(.size = LEVEL_PTE, .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_4_kbyte_page, judge, PROVES("paging:ad.d_write", "paging:ad.nonleaf_d"),
	 WHEN(.size = LEVEL_PTE, .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));
CASE_RUN(fetch_from_4_kbyte_page, judge, PROVES("paging:ad.fetch_a", "paging:ad.read_no_d"),
	 WHEN(.size = LEVEL_PTE, .access = ACCESS_FETCH, .outcome = OUTCOME_DONE));
CASE_RUN(read_of_2_mbyte_page, judge, PROVES("paging:fmt.4l.2m", "paging:ad.a_read"),
	 WHEN(.size = LEVEL_PDE, .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_2_mbyte_page, judge, PROVES("paging:fmt.4l.2m", "paging:ad.d_write"),
	 WHEN(.size = LEVEL_PDE, .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));
CASE_RUN(read_of_1_gbyte_page, judge, PROVES("paging:fmt.4l.1g", "paging:ad.a_read"),
	 NEEDS(CPU(PAGE1GB)),
	 WHEN(.size = LEVEL_PDPTE, .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_1_gbyte_page, judge, PROVES("paging:fmt.4l.1g", "paging:ad.d_write"),
	 NEEDS(CPU(PAGE1GB)),
	 WHEN(.size = LEVEL_PDPTE, .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));

/* --- not present: P = 0, whatever else the entry says ------------------------ */

CASE_RUN(read_without_pml4e, judge, PROVES("paging:pfec.p", "paging:cr2.addr"),
	 WHEN(.level = LEVEL_PML4E, .clear = PTE_P,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(read_without_pdpte, judge, PROVES("paging:pfec.p", "paging:cr2.addr"),
	 WHEN(.level = LEVEL_PDPTE, .clear = PTE_P,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(read_without_pde, judge, PROVES("paging:pfec.p", "paging:cr2.addr"),
	 WHEN(.level = LEVEL_PDE, .clear = PTE_P,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(read_without_pte, judge, PROVES("paging:pfec.p", "paging:cr2.addr"),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(write_without_pml4e, judge, PROVES("paging:pfec.w", "paging:ad.d_fault"),
	 WHEN(.level = LEVEL_PML4E, .clear = PTE_P,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_WR)));
CASE_RUN(write_without_pte, judge, PROVES("paging:pfec.w", "paging:ad.d_fault"),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_WR)));
CASE_RUN(fetch_without_pte, judge, PROVES("paging:pfec.id"),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(0)));
CASE_RUN(fetch_without_pte_nxe, judge, PROVES("paging:pfec.id_np"), NEEDS(CPU(NX)),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P, .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_ID)));
CASE_RUN(fetch_without_pte_smep, judge, PROVES("paging:acc.smep.np"), NEEDS(CPU(SMEP)),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P, .cr4 = CR4_SMEP,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_ID)));
CASE_RUN(not_present_hides_all_other_bits, judge, PROVES("paging:fmt.notpresent"),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_P, .set = ~PTE_P,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(not_present_pml4e_hides_all_other_bits, judge, PROVES("paging:fmt.notpresent"),
	 WHEN(.level = LEVEL_PML4E, .clear = PTE_P, .set = ~PTE_P,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_WR)));

/* --- R/W and CR0.WP ---------------------------------------------------------- */

CASE_RUN(read_of_read_only_page, judge, PROVES("paging:acc.s.write_ro_wp1"),
	 WHEN(.clear = PTE_RW, .cr0 = CR0_WP, .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_read_only_pte, judge, PROVES("paging:acc.s.write_ro_wp1", "paging:ad.d_fault"),
	 WHEN(.level = LEVEL_PTE, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_pde, judge, PROVES("paging:acc.rw_and"),
	 WHEN(.level = LEVEL_PDE, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_pdpte, judge, PROVES("paging:acc.rw_and"),
	 WHEN(.level = LEVEL_PDPTE, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_pml4e, judge, PROVES("paging:acc.rw_and"),
	 WHEN(.level = LEVEL_PML4E, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_2_mbyte_page, judge,
	 PROVES("paging:acc.s.write_ro_wp1", "paging:ad.d_fault"),
	 WHEN(.size = LEVEL_PDE, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_user_page, judge, PROVES("paging:acc.s.write_user_ro_wp1"),
	 WHEN(.flags = PTE_US, .clear = PTE_RW, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_read_only_page_without_wp, judge,
	 PROVES("paging:acc.s.write_ro_wp0", "paging:ad.wp0_ro_write"),
	 WHEN(.clear = PTE_RW, .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));

/* --- XD and IA32_EFER.NXE ---------------------------------------------------- */

CASE_RUN(fetch_with_xd_in_pte, judge, PROVES("paging:acc.xd.fetch", "paging:pfec.id"),
	 NEEDS(CPU(NX)),
	 WHEN(.level = LEVEL_PTE, .set = PTE_XD, .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_ID)));
CASE_RUN(fetch_with_xd_in_pde, judge, PROVES("paging:acc.xd_or"), NEEDS(CPU(NX)),
	 WHEN(.level = LEVEL_PDE, .set = PTE_XD, .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_ID)));
CASE_RUN(fetch_with_xd_in_pdpte, judge, PROVES("paging:acc.xd_or"), NEEDS(CPU(NX)),
	 WHEN(.level = LEVEL_PDPTE, .set = PTE_XD, .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_ID)));
CASE_RUN(fetch_with_xd_in_pml4e, judge, PROVES("paging:acc.xd_or"), NEEDS(CPU(NX)),
	 WHEN(.level = LEVEL_PML4E, .set = PTE_XD, .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_ID)));
CASE_RUN(write_with_xd, judge, PROVES("paging:acc.xd.data"), NEEDS(CPU(NX)),
	 WHEN(.set = PTE_XD, .efer = EFER_NXE, .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));

/* --- SMEP and SMAP: supervisor mode and addresses of user mode --------------- */

CASE_RUN(fetch_from_user_page, judge, PROVES("paging:acc.smep.off"),
	 WHEN(.flags = PTE_US, .access = ACCESS_FETCH, .outcome = OUTCOME_DONE));
CASE_RUN(fetch_from_user_page_smep, judge, PROVES("paging:acc.smep"), NEEDS(CPU(SMEP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMEP,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_ID)));
CASE_RUN(fetch_is_of_supervisor_page_if_one_entry_says_so, judge, PROVES("paging:acc.user_addr"),
	 NEEDS(CPU(SMEP)),
	 WHEN(.flags = PTE_US, .level = LEVEL_PDPTE, .clear = PTE_US, .cr4 = CR4_SMEP,
	      .access = ACCESS_FETCH, .outcome = OUTCOME_DONE));
CASE_RUN(read_of_user_page_smap, judge, PROVES("paging:acc.smap.read"), NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMAP,
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(PF_P)));
CASE_RUN(write_to_user_page_smap, judge, PROVES("paging:acc.smap.write", "paging:ad.d_fault"),
	 NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMAP, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(write_to_user_page_smap_without_wp, judge, PROVES("paging:acc.smap.wp0"),
	 NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMAP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(read_of_user_page_smap_with_ac, judge, PROVES("paging:acc.smap.ac1"), NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMAP, .rflags = RFLAGS_AC,
	      .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_read_only_user_page_smap_with_ac, judge, PROVES("paging:acc.smap.ac1"),
	 NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .clear = PTE_RW, .cr4 = CR4_SMAP, .rflags = RFLAGS_AC, .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR)));
CASE_RUN(fetch_from_user_page_smap, judge, PROVES("paging:acc.smap.fetch"), NEEDS(CPU(SMAP)),
	 WHEN(.flags = PTE_US, .cr4 = CR4_SMAP,
	      .access = ACCESS_FETCH, .outcome = OUTCOME_DONE));

/* --- protection keys: PKRU for addresses of user mode, IA32_PKRS for the others -- */

#define KEY			5
#define ACCESS_DISABLE(key)	(1u << 2 * (key))
#define WRITE_DISABLE(key)	(2u << 2 * (key))

CASE_RUN(read_of_key_without_access, judge, PROVES("paging:acc.pku.ad", "paging:pfec.pk"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(PF_P | PF_PK)));
CASE_RUN(write_to_key_without_access, judge, PROVES("paging:acc.pku.ad", "paging:ad.d_fault"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_PK)));
CASE_RUN(fetch_from_key_without_access, judge, PROVES("paging:acc.pku.fetch"), NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_FETCH, .outcome = OUTCOME_DONE));
CASE_RUN(read_of_other_key, judge, PROVES("paging:acc.pku.ad"), NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = ~(3u << 2 * KEY | 3u),
	      .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_key_without_write_wp, judge, PROVES("paging:acc.pku.wd_super_wp1"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = WRITE_DISABLE(KEY),
	      .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_PK)));
CASE_RUN(write_to_key_without_write, judge, PROVES("paging:acc.pku.wd_super_wp0"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = WRITE_DISABLE(KEY),
	      .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));
CASE_RUN(read_of_supervisor_page_ignores_pkru, judge, PROVES("paging:acc.pku.super_addr"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(write_to_supervisor_page_ignores_pkru, judge, PROVES("paging:acc.pku.super_addr"),
	 NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_KEY(KEY), .cr4 = CR4_PKE, .pkru = WRITE_DISABLE(KEY), .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = OUTCOME_DONE));
CASE_RUN(key_of_2_mbyte_page, judge, PROVES("paging:acc.pku.leaf_only"), NEEDS(CPU(PKU)),
	 WHEN(.size = LEVEL_PDE, .flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE,
	      .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(PF_P | PF_PK)));
CASE_RUN(key_in_pde_of_a_table, judge, PROVES("paging:acc.pku.leaf_only"), NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US, .level = LEVEL_PDE, .set = PTE_KEY(KEY), .cr4 = CR4_PKE,
	      .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = OUTCOME_DONE));
CASE_RUN(key_of_page_that_is_not_present, judge, PROVES("paging:acc.pku.np"), NEEDS(CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .clear = PTE_P, .cr4 = CR4_PKE,
	      .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(0)));
CASE_RUN(read_of_supervisor_key_without_access, judge, PROVES("paging:acc.pks.ad"),
	 NEEDS(CPU(PKS)),
	 WHEN(.flags = PTE_KEY(KEY), .cr4 = CR4_PKS, .pkrs = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(PF_P | PF_PK)));
CASE_RUN(write_to_supervisor_key_without_write_wp, judge, PROVES("paging:acc.pks.wd_wp1"),
	 NEEDS(CPU(PKS)),
	 WHEN(.flags = PTE_KEY(KEY), .cr4 = CR4_PKS, .pkrs = WRITE_DISABLE(KEY), .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_PK)));
CASE_RUN(read_of_user_page_ignores_pkrs, judge, PROVES("paging:acc.pks.user_addr"),
	 NEEDS(CPU(PKS)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKS, .pkrs = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = OUTCOME_DONE));

/* --- reserved and ignored bits, one at a time -------------------------------- */

struct bits_row {
	enum paging_level size, level;	/* of the entry that maps the page; that is changed */
	u64 bits;			/* 0: the address bits that no address has here */
	outcome_t outcome;		/* of a write, with each of them */
};

#define BITS_OF(...)	ROW((&(const struct bits_row){ __VA_ARGS__ }))

static void each_bit(const struct case_def *this_case)
{
	const struct bits_row *row = this_case->row;
	u64 bits = row->bits ? row->bits : BITS(51, maxphyaddr()), bit, wrong = 0;
	outcome_t got, outcome = row->outcome;
	struct probe probe;

	probe_map(&probe, row->size, PTE_P | PTE_RW);
	for (bit = 1; bit; bit <<= 1) {
		if (!(bits & bit))
			continue;
		probe_change(&probe, row->level, 0, bit);
		got = write_at(probe.linear, bit);
		probe_change(&probe, row->level, bit, 0);
		if (got == row->outcome)
			continue;
		outcome = got;
		wrong |= bit;
	}
	if (!EXPECT(outcome, row->outcome))
		case_note("with", "each of the bits %#lx of the %s", wrong,
			  entry_name[row->level]);
	EXPECT(write_at(probe.linear, 0), OUTCOME_DONE);
}

#define RESERVED	PAGE_FAULT(PF_P | PF_WR | PF_RSVD)

CASE_RUN(pml4e_address_bits, each_bit, PROVES("paging:rsvd.4l.high", "paging:rsvd.maxphyaddr"),
	 NEEDS(RESERVED_ADDRESS_BITS), BITS_OF(LEVEL_PTE, LEVEL_PML4E, 0, RESERVED));
CASE_RUN(pdpte_address_bits, each_bit, PROVES("paging:rsvd.4l.high", "paging:rsvd.maxphyaddr"),
	 NEEDS(RESERVED_ADDRESS_BITS), BITS_OF(LEVEL_PTE, LEVEL_PDPTE, 0, RESERVED));
CASE_RUN(pde_address_bits, each_bit, PROVES("paging:rsvd.4l.high", "paging:rsvd.maxphyaddr"),
	 NEEDS(RESERVED_ADDRESS_BITS), BITS_OF(LEVEL_PTE, LEVEL_PDE, 0, RESERVED));
CASE_RUN(pte_address_bits, each_bit,
	 PROVES("paging:rsvd.4l.high", "paging:rsvd.maxphyaddr",
		"guest-instructions:cpuid.phys_bits"),
	 NEEDS(RESERVED_ADDRESS_BITS), BITS_OF(LEVEL_PTE, LEVEL_PTE, 0, RESERVED));
CASE_RUN(address_bits_of_2_mbyte_page, each_bit, PROVES("paging:rsvd.4l.high"),
	 NEEDS(RESERVED_ADDRESS_BITS), BITS_OF(LEVEL_PDE, LEVEL_PDE, 0, RESERVED));
CASE_RUN(pml4e_page_size, each_bit, PROVES("paging:rsvd.4l.pml4_ps"),
	 BITS_OF(LEVEL_PTE, LEVEL_PML4E, PTE_PS, RESERVED));
CASE_RUN(pdpte_page_size_without_1_gbyte_pages, each_bit, PROVES("paging:rsvd.4l.pdpte_ps"),
	 NEEDS(NO_CPU(PAGE1GB)), BITS_OF(LEVEL_PTE, LEVEL_PDPTE, PTE_PS, RESERVED));
CASE_RUN(offset_bits_of_2_mbyte_page, each_bit, PROVES("paging:rsvd.4l.2m"),
	 BITS_OF(LEVEL_PDE, LEVEL_PDE, BITS(20, 13), RESERVED));
CASE_RUN(offset_bits_of_1_gbyte_page, each_bit, PROVES("paging:rsvd.4l.1g"),
	 NEEDS(CPU(PAGE1GB)), BITS_OF(LEVEL_PDPTE, LEVEL_PDPTE, BITS(29, 13), RESERVED));
CASE_RUN(pml4e_xd_without_nxe, each_bit, PROVES("paging:rsvd.4l.xd", "paging:acc.xd.nxe0"),
	 BITS_OF(LEVEL_PTE, LEVEL_PML4E, PTE_XD, RESERVED));
CASE_RUN(pdpte_xd_without_nxe, each_bit, PROVES("paging:rsvd.4l.xd", "paging:acc.xd.nxe0"),
	 BITS_OF(LEVEL_PTE, LEVEL_PDPTE, PTE_XD, RESERVED));
CASE_RUN(pde_xd_without_nxe, each_bit, PROVES("paging:rsvd.4l.xd", "paging:acc.xd.nxe0"),
	 BITS_OF(LEVEL_PTE, LEVEL_PDE, PTE_XD, RESERVED));
CASE_RUN(pte_xd_without_nxe, each_bit, PROVES("paging:rsvd.4l.xd", "paging:acc.xd.nxe0"),
	 BITS_OF(LEVEL_PTE, LEVEL_PTE, PTE_XD, RESERVED));

/* Bits that a processor ignores: 11:9, 58:52, without protection keys also 62:59. */
#define IGNORED		(BITS(11, 9) | BITS(62, 52))

CASE_RUN(ignored_bits_of_pte, each_bit, PROVES("paging:fmt.4l.ignored", "paging:acc.pku.off"),
	 BITS_OF(LEVEL_PTE, LEVEL_PTE, IGNORED, OUTCOME_DONE));
CASE_RUN(ignored_bits_of_2_mbyte_page, each_bit,
	 PROVES("paging:fmt.4l.ignored", "paging:rsvd.4l.pat12"),
	 BITS_OF(LEVEL_PDE, LEVEL_PDE, IGNORED | PTE_PAT_LARGE, OUTCOME_DONE));
CASE_RUN(ignored_bits_of_pde, each_bit,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g", "paging:fmt.4l.nonleaf_d"),
	 BITS_OF(LEVEL_PTE, LEVEL_PDE, IGNORED | PTE_G | PTE_D, OUTCOME_DONE));
CASE_RUN(ignored_bits_of_pdpte, each_bit,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g", "paging:fmt.4l.nonleaf_d"),
	 BITS_OF(LEVEL_PTE, LEVEL_PDPTE, IGNORED | PTE_G | PTE_D, OUTCOME_DONE));
CASE_RUN(ignored_bits_of_pml4e, each_bit,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g", "paging:fmt.4l.nonleaf_d"),
	 BITS_OF(LEVEL_PTE, LEVEL_PML4E, IGNORED | PTE_G | PTE_D, OUTCOME_DONE));

/* --- which reason the error code gives when there are several ---------------- */

CASE_RUN(reserved_bit_before_rights, judge, PROVES("paging:rsvd.before_rights"),
	 WHEN(.size = LEVEL_PDE, .clear = PTE_RW, .set = BIT(13), .cr0 = CR0_WP,
	      .access = ACCESS_WRITE, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_RSVD)));
CASE_RUN(reserved_bit_and_fetch, judge, PROVES("paging:pfec.id_np", "paging:pfec.rsvd"),
	 NEEDS(CPU(NX)),
	 WHEN(.size = LEVEL_PDE, .set = BIT(13), .efer = EFER_NXE,
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_RSVD | PF_ID)));
CASE_RUN(reserved_bit_and_fetch_without_nxe, judge, PROVES("paging:pfec.id"),
	 WHEN(.size = LEVEL_PDE, .set = BIT(13),
	      .access = ACCESS_FETCH, .outcome = PAGE_FAULT(PF_P | PF_RSVD)));
CASE_RUN(smap_and_key, judge, PROVES("paging:acc.pku.smap_both"), NEEDS(CPU(SMAP), CPU(PKU)),
	 WHEN(.flags = PTE_US | PTE_KEY(KEY), .cr4 = CR4_PKE | CR4_SMAP,
	      .pkru = ACCESS_DISABLE(KEY),
	      .access = ACCESS_READ, .outcome = PAGE_FAULT(PF_P | PF_PK)));

/* --- user mode: CPL 3; CPL 1 and 2 are supervisor mode ----------------------- */

#include "fault-basic.def"

/* --- the rest of the error code ------------------------------------------------------------- */

/*
 * One access of each sort that faults; 64-bit gates push 64 bits. Bit 7 says of HLAT paging, which
 * only a hypervisor can turn on; bit 15 of SGX.
 */
static void each_fault(void (*judge_error)(u64 error))
{
	static const struct {
		u64 flags;
		enum access access;
		u32 cpl;
	} rows[] = {
		{ 0, ACCESS_READ, 0 },
		{ 0, ACCESS_WRITE, 0 },
		{ 0, ACCESS_FETCH, 0 },
		{ PTE_P, ACCESS_WRITE, 0 },
		{ PTE_P | PTE_XD, ACCESS_READ, 0 },
		{ 0, ACCESS_READ, 3 },
		{ PTE_P | PTE_RW, ACCESS_WRITE, 3 },
		{ PTE_P | PTE_RW, ACCESS_FETCH, 3 },
	};
	struct probe probe;
	u32 i;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, 0);
	probe_share_with_user(&probe);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct access_made made = { rows[i].access, probe.linear, WRITTEN };
		outcome_t outcome;

		probe_change(&probe, LEVEL_PTE, ~PTE_ADDRESS, rows[i].flags);
		outcome = rows[i].cpl ? run_at_cpl(rows[i].cpl, make_access, &made) :
					attempt(make_access, &made);
		EXPECT_TRUE(outcome != OUTCOME_DONE);
		EXPECT_EQ(last_trap()->frame.vector, VECTOR_PF);
		judge_error(last_trap()->frame.error);
	}
}

static void judge_unused(u64 error)
{
	EXPECT_EQ(error & (BITS(63, 16) | BITS(14, 8)), 0);
}

static void judge_hlat(u64 error)
{
	EXPECT_EQ(error & BIT(7), 0);
}

CASE(error_code_has_no_other_bits, PROVES("paging:pfec.unused", "paging:pfec.push_width"))
{
	each_fault(judge_unused);
}

CASE(error_code_without_hlat, PROVES("paging:acc.hlat"))
{
	each_fault(judge_hlat);
}

static bool has_all_address_bits(u64 unused __maybe_unused)
{
	return maxphyaddr() == 52;
}

/* What answers at such an address is the platform's affair; paging finds nothing reserved. */
CASE(no_address_bit_is_reserved, PROVES("paging:rsvd.4l.m52"),
     NEEDS({ "MAXPHYADDR of 52", has_all_address_bits, 0, 0 }))
{
	struct probe probe;
	u32 bit;
	u64 value;

	for (bit = 40; bit < 52; bit++) {
		probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
		probe_change(&probe, LEVEL_PTE, 0, BIT(bit));
		EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	}
}
