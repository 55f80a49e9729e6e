/*
 * 5-level paging against the model, access by access: mmu/exhaustive.c with one more entry in every
 * translation. Its rights are combined with those of the others, its reserved bits and its defects
 * come first, and its accessed flag is set like theirs. The themes are in mmu/sweep_themes.h.
 */
#include "case.h"
#include "cpu/features.h"
#include "mmu/sweep_themes.h"

static void sweep(const struct case_def *this_case)
{
	sweep_run(this_case->row);
}

#define SWEEP(...)	ROW((&(const struct sweep_row){ __VA_ARGS__, .mode = PAGING_5_LEVEL }))
#define CPL_0		BIT(0)
#define CPL_3		BIT(3)
#define READ		BIT(SWEEP_READ)
#define WRITE		BIT(SWEEP_WRITE)
#define FETCH		BIT(SWEEP_FETCH)
#define DATA		(READ | WRITE | BIT(SWEEP_EXCHANGE))
#define FIVE(...)	NEEDS(CPU(LA57), ## __VA_ARGS__)

/* R/W, U/S and XD of every entry: 5.6.1. All switches at once, or none. */
#define RIGHTS(size, cpl, kind) \
	SWEEP(&sweep_rights, size, .cpls = cpl, .kinds = kind, \
	      .switches = { SWEEP_NXE | SWEEP_WP | SWEEP_SMEP })

CASE_RUN(rights_read_4_kbyte, sweep, PROVES("paging:acc.user_addr"), FIVE(),
	 RIGHTS(LEVEL_PTE, CPL_3, READ));
CASE_RUN(rights_write_4_kbyte, sweep, PROVES("paging:acc.rw_and"), FIVE(),
	 RIGHTS(LEVEL_PTE, CPL_0, WRITE));
CASE_RUN(rights_fetch_4_kbyte, sweep, PROVES("paging:acc.xd_or", "paging:acc.smep"), FIVE(),
	 RIGHTS(LEVEL_PTE, CPL_0, FETCH));
CASE_RUN(rights_2_mbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.xd_or", "paging:acc.user_addr"), FIVE(),
	 RIGHTS(LEVEL_PDE, CPL_0 | CPL_3, READ | WRITE | FETCH));
CASE_RUN(rights_1_gbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.xd_or", "paging:acc.user_addr"),
	 FIVE(CPU(PAGE1GB)), RIGHTS(LEVEL_PDPTE, CPL_0 | CPL_3, READ | WRITE | FETCH));

/* The upper half of the linear address space, from 0xff00000000000000 on. */
CASE_RUN(rights_upper_half, sweep, PROVES("paging:fmt.5l.index", "paging:canon.5l"), FIVE(),
	 SWEEP(&sweep_rights, LEVEL_PDPTE, .upper_half = true, .cpls = CPL_0 | CPL_3,
	       .kinds = SWEEP_ALL_KINDS, .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP }));

/* All that one entry says. */
#define ENTRY(size, tested) \
	SWEEP(&sweep_entry, size, tested, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP | SWEEP_SMAP | SWEEP_PGE })

CASE_RUN(entry_pml5e, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"), FIVE(),
	 ENTRY(LEVEL_PTE, LEVEL_PML5E));
CASE_RUN(entry_pml4e, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"), FIVE(),
	 ENTRY(LEVEL_PTE, LEVEL_PML4E));
CASE_RUN(entry_pte, sweep, PROVES("paging:ad.d_write", "paging:ad.d_fault"), FIVE(),
	 ENTRY(LEVEL_PTE, LEVEL_PTE));
CASE_RUN(entry_pde_of_2_mbyte, sweep, PROVES("paging:ad.d_write", "paging:ad.d_fault"), FIVE(),
	 ENTRY(LEVEL_PDE, LEVEL_PDE));
CASE_RUN(entry_pdpte_of_1_gbyte, sweep, PROVES("paging:ad.d_write", "paging:ad.d_fault"),
	 FIVE(CPU(PAGE1GB)), ENTRY(LEVEL_PDPTE, LEVEL_PDPTE));

/* Accessed and dirty flags of all five: 5.8. */
CASE_RUN(flags_4_kbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.nonleaf_d"), FIVE(),
	 SWEEP(&sweep_flags, LEVEL_PTE, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS,
	       .switches = { SWEEP_WP | SWEEP_NXE }));

/* What is wrong higher up, or reserved, comes first: 5.7. */
#define DEFECTS(size) \
	SWEEP(&sweep_defects, size, .cpls = CPL_0 | CPL_3, .kinds = READ | WRITE | FETCH, \
	      .switches = { SWEEP_NXE | SWEEP_WP | SWEEP_SMEP })

CASE_RUN(defects_4_kbyte, sweep, PROVES("paging:rsvd.order", "paging:rsvd.before_rights"), FIVE(),
	 DEFECTS(LEVEL_PTE));
CASE_RUN(defects_2_mbyte, sweep, PROVES("paging:rsvd.order", "paging:rsvd.before_rights"), FIVE(),
	 DEFECTS(LEVEL_PDE));

/* Protection keys: 5.6.2. */
CASE_RUN(keys_user_4_kbyte, sweep, PROVES("paging:acc.pku.ad", "paging:acc.pku.wd_user"),
	 FIVE(CPU(PKU)),
	 SWEEP(&sweep_keys, LEVEL_PTE, .cpls = CPL_3, .kinds = DATA,
	       .switches = { SWEEP_WP, SWEEP_PKE, SWEEP_KEYS_1, SWEEP_KEYS_2 }));

/* Each bit of an entry, reserved, ignored or neither: 5.5.4. */
#define EACH_BIT(size, tested) \
	SWEEP(&sweep_bits, size, tested, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP })

CASE_RUN(bits_of_pml5e, sweep,
	 PROVES("paging:rsvd.5l.ps", "paging:rsvd.4l.xd", "paging:fmt.4l.ignored",
		"paging:fmt.4l.bit11", "paging:rsvd.4l.high"),
	 FIVE(), EACH_BIT(LEVEL_PTE, LEVEL_PML5E));
CASE_RUN(bits_of_pml4e, sweep, PROVES("paging:rsvd.4l.pml4_ps", "paging:rsvd.4l.high"), FIVE(),
	 EACH_BIT(LEVEL_PTE, LEVEL_PML4E));
CASE_RUN(bits_of_pte, sweep, PROVES("paging:fmt.4l.ignored", "paging:rsvd.4l.high"), FIVE(),
	 EACH_BIT(LEVEL_PTE, LEVEL_PTE));
