/*
 * Shadow-stack accesses against the model, access by access, in every paging mode: 5.6.1.
 *
 * With CR4.CET = 1 the entries say one thing more: R/W = 0 and D = 1 in the entry that maps the
 * page, R/W = 1 in those above, make a shadow-stack page. WRSS at CPL 3 and WRUSS at CPL 0 write
 * the shadow stack of user mode, so they need such a page at a user-mode address, and SMAP does not
 * stop WRUSS; ordinary accesses may read such a page and never write it. shadow-stack-pages.c has
 * one case for each rule; this image looks for what the rules do to each other, as exhaustive.c
 * does for ordinary accesses. A and D are noise where a theme says nothing of them, so both kinds
 * of page come up.
 */
#include "case.h"
#include "cpu/features.h"
#include "mmu/sweep_themes.h"

static void sweep(const struct case_def *this_case)
{
	sweep_run(this_case->row);
}

#define CPL_0		BIT(0)
#define CPL_3		BIT(3)
#define WRSS		BIT(SWEEP_WRSS)
#define WRUSS		BIT(SWEEP_WRUSS)
#define DATA		(BIT(SWEEP_READ) | BIT(SWEEP_WRITE) | BIT(SWEEP_EXCHANGE))

/* CR0.WP = 1 is a condition of CR4.CET = 1: 2.5 Control Registers. */
#define SWEEP(theme, size, cpl, kind, ...) \
	ROW((&(const struct sweep_row){ &sweep_##theme, size, .cpls = cpl, .kinds = kind, \
					.always = SWEEP_WP | SWEEP_CET, __VA_ARGS__ }))
#define LONG(theme, size, cpl, kind, ...) \
	SWEEP(theme, size, cpl, kind, .mode = PAGING_4_LEVEL, .switches = { __VA_ARGS__ })
#define CET(...)	NEEDS(CPU(CET_SS), ## __VA_ARGS__)

/* R/W, U/S and XD of every entry. */
#define EACH_SWITCH	SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC

CASE_RUN(wrss_rights_4_kbyte, sweep,
	 PROVES("paging:acc.ss.page", "paging:acc.ss.normal_page", "paging:acc.ss.us_mismatch"),
	 CET(), LONG(rights, LEVEL_PTE, CPL_3, WRSS, EACH_SWITCH));
CASE_RUN(wrss_rights_2_mbyte, sweep, PROVES("paging:acc.ss.page", "paging:acc.ss.normal_page"),
	 CET(), LONG(rights, LEVEL_PDE, CPL_3, WRSS, EACH_SWITCH));
CASE_RUN(wrss_rights_1_gbyte, sweep, PROVES("paging:acc.ss.page", "paging:acc.ss.normal_page"),
	 CET(CPU(PAGE1GB)), LONG(rights, LEVEL_PDPTE, CPL_3, WRSS, EACH_SWITCH));
CASE_RUN(wruss_rights_4_kbyte, sweep, PROVES("paging:acc.ss.wruss"), CET(),
	 LONG(rights, LEVEL_PTE, CPL_0, WRUSS, EACH_SWITCH));
CASE_RUN(wruss_rights_2_mbyte, sweep, PROVES("paging:acc.ss.wruss"), CET(),
	 LONG(rights, LEVEL_PDE, CPL_0, WRUSS, EACH_SWITCH));
CASE_RUN(wruss_rights_1_gbyte, sweep, PROVES("paging:acc.ss.wruss"), CET(CPU(PAGE1GB)),
	 LONG(rights, LEVEL_PDPTE, CPL_0, WRUSS, EACH_SWITCH));

/* What is no shadow-stack access: as without CET, but pages with D = 1 and R/W = 0 have a name. */
CASE_RUN(ordinary_rights_4_kbyte, sweep,
	 PROVES("paging:acc.ss.ordinary_write", "paging:acc.ss.ordinary_read",
		"paging:ad.cet_no_d_ro"),
	 CET(), LONG(rights, LEVEL_PTE, CPL_0 | CPL_3, DATA, SWEEP_NXE, SWEEP_SMAP));
CASE_RUN(ordinary_rights_2_mbyte, sweep,
	 PROVES("paging:acc.ss.ordinary_write", "paging:acc.ss.ordinary_read",
		"paging:ad.cet_no_d_ro"),
	 CET(), LONG(rights, LEVEL_PDE, CPL_0 | CPL_3, DATA, SWEEP_NXE, SWEEP_SMAP, SWEEP_AC));

/* All that the entry of the page says, and the entry above. */
#define ENTRY(size, tested, cpl, kind) \
	SWEEP(entry, size, cpl, kind, .level = tested, .mode = PAGING_4_LEVEL, \
	      .switches = { SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP })

CASE_RUN(wrss_entry_pte, sweep, PROVES("paging:acc.ss.page", "paging:acc.ss.np"), CET(),
	 ENTRY(LEVEL_PTE, LEVEL_PTE, CPL_3, WRSS));
CASE_RUN(wruss_entry_pte, sweep, PROVES("paging:acc.ss.wruss", "paging:acc.ss.np"), CET(),
	 ENTRY(LEVEL_PTE, LEVEL_PTE, CPL_0, WRUSS));
CASE_RUN(wrss_entry_pde_of_2_mbyte, sweep, PROVES("paging:acc.ss.page", "paging:acc.ss.np"),
	 CET(), ENTRY(LEVEL_PDE, LEVEL_PDE, CPL_3, WRSS));
CASE_RUN(wruss_entry_pde_of_2_mbyte, sweep, PROVES("paging:acc.ss.wruss", "paging:acc.ss.np"),
	 CET(), ENTRY(LEVEL_PDE, LEVEL_PDE, CPL_0, WRUSS));

/* P, R/W, U/S, XD or a reserved bit wrong, at every level. */
CASE_RUN(wrss_defects_4_kbyte, sweep,
	 PROVES("paging:pfec.ss", "paging:acc.ss.np", "paging:rsvd.before_rights"), CET(),
	 LONG(defects, LEVEL_PTE, CPL_3, WRSS, SWEEP_NXE, SWEEP_SMAP));
CASE_RUN(wruss_defects_4_kbyte, sweep,
	 PROVES("paging:pfec.ss", "paging:acc.ss.np", "paging:rsvd.before_rights"), CET(),
	 LONG(defects, LEVEL_PTE, CPL_0, WRUSS, SWEEP_NXE, SWEEP_SMAP));

/* Protection keys are for shadow-stack accesses, too: 5.6.2. */
#define KEYS(size, cpl, kind) \
	LONG(keys, size, cpl, kind, SWEEP_PKE, SWEEP_PKS, SWEEP_KEYS_1, SWEEP_KEYS_2)

CASE_RUN(wrss_keys_4_kbyte, sweep, PROVES("paging:acc.pku.wd_user", "paging:acc.ss.page"),
	 CET(CPU(PKU)), KEYS(LEVEL_PTE, CPL_3, WRSS));
CASE_RUN(wruss_keys_4_kbyte, sweep, PROVES("paging:acc.pku.wd_user", "paging:acc.ss.wruss"),
	 CET(CPU(PKU)), KEYS(LEVEL_PTE, CPL_0, WRUSS));

/* The other modes. */
#define OTHER(theme, size, m, cpl, kind, ...) \
	SWEEP(theme, size, cpl, kind, .mode = PAGING_##m, .switches = { __VA_ARGS__ })

CASE_RUN(wrss_rights_5_level, sweep, PROVES("paging:acc.ss.page"), CET(CPU(LA57)),
	 OTHER(rights, LEVEL_PDE, 5_LEVEL, CPL_3, WRSS, SWEEP_NXE));
CASE_RUN(wruss_rights_5_level, sweep, PROVES("paging:acc.ss.wruss"), CET(CPU(LA57)),
	 OTHER(rights, LEVEL_PDE, 5_LEVEL, CPL_0, WRUSS, SWEEP_NXE | SWEEP_SMAP));
CASE_RUN(wrss_rights_32_bit, sweep, PROVES("paging:acc.ss.page"), CET(),
	 OTHER(rights, LEVEL_PTE, 32_BIT, CPL_3, WRSS, SWEEP_SMEP, SWEEP_SMAP));
CASE_RUN(wruss_rights_32_bit, sweep, PROVES("paging:acc.ss.wruss"), CET(),
	 OTHER(rights, LEVEL_PTE, 32_BIT, CPL_0, WRUSS, SWEEP_SMEP, SWEEP_SMAP));
CASE_RUN(wrss_rights_pae, sweep, PROVES("paging:acc.ss.page"), CET(),
	 OTHER(rights, LEVEL_PTE, PAE, CPL_3, WRSS, SWEEP_NXE, SWEEP_SMAP));
CASE_RUN(wruss_rights_pae, sweep, PROVES("paging:acc.ss.wruss"), CET(),
	 OTHER(rights, LEVEL_PTE, PAE, CPL_0, WRUSS, SWEEP_NXE, SWEEP_SMAP));
