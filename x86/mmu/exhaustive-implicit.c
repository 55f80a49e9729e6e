/*
 * Implicit supervisor-mode accesses against the model, access by access: 5.6 Access Rights.
 *
 * When the processor itself reads or writes a system structure, e.g. a descriptor in an LDT, the
 * access is one of supervisor mode at any CPL, and two rules differ from those of instructions: a
 * user-mode page is out of reach with SMAP whatever EFLAGS.AC says, and SMEP and XD have no say.
 * Here the data of each access are an LDT of one descriptor. LSL only reads it; MOV to ES reads it
 * and, for its accessed flag was 0, writes it. implicit.c has one case for each rule, of GDT, LDT,
 * IDT and TSS; this image looks for what the rules do to each other, as exhaustive.c does for other
 * accesses.
 */
#include "case.h"
#include "cpu/features.h"
#include "mmu/sweep_themes.h"

static void sweep(const struct case_def *this_case)
{
	sweep_run(this_case->row);
}

#define CPL_0		BIT(0)
#define CPL_1_2		(BIT(1) | BIT(2))
#define CPL_3		BIT(3)
#define LSL		BIT(SWEEP_LSL)
#define LOAD		BIT(SWEEP_LOAD)

#define SWEEP(theme, size, cpl, kind, ...) \
	ROW((&(const struct sweep_row){ &sweep_##theme, size, .cpls = cpl, .kinds = kind, \
					.mode = PAGING_4_LEVEL, __VA_ARGS__ }))
#define STATES(theme, size, cpl, kind, ...) \
	SWEEP(theme, size, cpl, kind, .switches = { __VA_ARGS__ })

/* R/W, U/S and XD of every entry. */
CASE_RUN(lsl_rights_4_kbyte, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"),
	 STATES(rights, LEVEL_PTE, CPL_0, LSL, SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC));
CASE_RUN(lsl_rights_4_kbyte_at_cpl_3, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"),
	 STATES(rights, LEVEL_PTE, CPL_3, LSL, SWEEP_NXE | SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC));
CASE_RUN(load_rights_4_kbyte, sweep,
	 PROVES("paging:acc.gdt_accessed_write", "paging:acc.smap.implicit_ac1"),
	 STATES(rights, LEVEL_PTE, CPL_0, LOAD, SWEEP_WP, SWEEP_SMAP, SWEEP_AC));
CASE_RUN(load_rights_4_kbyte_at_cpl_3, sweep,
	 PROVES("paging:acc.gdt_accessed_write", "paging:acc.smap.implicit_ac1"),
	 STATES(rights, LEVEL_PTE, CPL_3, LOAD, SWEEP_WP, SWEEP_SMAP, SWEEP_AC));
CASE_RUN(rights_2_mbyte, sweep, PROVES("paging:acc.implicit.super_ok"),
	 STATES(rights, LEVEL_PDE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_WP | SWEEP_SMEP,
		SWEEP_SMAP | SWEEP_AC));
CASE_RUN(rights_2_mbyte_at_cpl_1_and_2, sweep, PROVES("paging:acc.implicit.super_ok"),
	 STATES(rights, LEVEL_PDE, CPL_1_2, LSL | LOAD, SWEEP_WP | SWEEP_SMAP));
CASE_RUN(rights_1_gbyte, sweep, PROVES("paging:acc.implicit.super_ok"), NEEDS(CPU(PAGE1GB)),
	 STATES(rights, LEVEL_PDPTE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_WP, SWEEP_SMAP | SWEEP_AC));
CASE_RUN(rights_upper_half, sweep, PROVES("paging:acc.implicit.super_ok"),
	 SWEEP(rights, LEVEL_PDE, CPL_0 | CPL_3, LSL | LOAD, .upper_half = true,
	       .switches = { SWEEP_WP | SWEEP_SMAP }));
CASE_RUN(rights_5_level, sweep, PROVES("paging:acc.implicit.super_ok"), NEEDS(CPU(LA57)),
	 ROW((&(const struct sweep_row){ &sweep_rights, LEVEL_PDE, .cpls = CPL_0 | CPL_3,
					 .kinds = LSL | LOAD, .mode = PAGING_5_LEVEL,
					 .switches = { SWEEP_WP | SWEEP_SMAP } })));

/* All that the entry of the page says. */
#define ENTRY(size) \
	SWEEP(entry, size, CPL_0 | CPL_3, LSL | LOAD, .level = size, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMAP })

CASE_RUN(entry_pte, sweep, PROVES("paging:acc.implicit.us0", "paging:ad.implicit"),
	 ENTRY(LEVEL_PTE));
CASE_RUN(entry_pde_of_2_mbyte, sweep, PROVES("paging:acc.implicit.us0", "paging:ad.implicit"),
	 ENTRY(LEVEL_PDE));
CASE_RUN(flags_4_kbyte, sweep, PROVES("paging:ad.implicit"),
	 STATES(flags, LEVEL_PTE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_WP));
CASE_RUN(flags_2_mbyte, sweep, PROVES("paging:ad.implicit"),
	 STATES(flags, LEVEL_PDE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_WP));

/* P, R/W, U/S, XD or a reserved bit wrong, at every level. */
CASE_RUN(defects_4_kbyte, sweep, PROVES("paging:acc.implicit.us0", "paging:rsvd.before_rights"),
	 STATES(defects, LEVEL_PTE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_NXE | SWEEP_WP, SWEEP_SMAP));

/* Protection keys have their say: 5.6.2. */
CASE_RUN(keys_4_kbyte, sweep, PROVES("paging:acc.pku.implicit"), NEEDS(CPU(PKU)),
	 STATES(keys, LEVEL_PTE, CPL_0 | CPL_3, LSL | LOAD, SWEEP_WP, SWEEP_PKE, SWEEP_PKS,
		SWEEP_KEYS_1, SWEEP_KEYS_2));

/* --- 32-bit and PAE paging, in 32-bit code outside IA-32e mode ------------------------------- */

#define SWEEP_LEGACY(paging, theme, size, ...) \
	ROW((&(const struct sweep_row){ &sweep_##theme, size, .mode = paging, __VA_ARGS__, \
					.cpls = CPL_0 | CPL_3, .kinds = LSL | LOAD }))
#define PSE_ON	.always = SWEEP_PSE

CASE_RUN(rights_32_bit_4_kbyte, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"),
	 SWEEP_LEGACY(PAGING_32_BIT, rights, LEVEL_PTE,
		      .switches = { SWEEP_WP, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC }));
CASE_RUN(rights_32_bit_4_mbyte, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"), NEEDS(CPU(PSE)),
	 SWEEP_LEGACY(PAGING_32_BIT, rights, LEVEL_PDE,
		      .switches = { SWEEP_WP, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC }, PSE_ON));
CASE_RUN(entry_32_bit_pte, sweep, PROVES("paging:acc.implicit.us0", "paging:ad.implicit"),
	 SWEEP_LEGACY(PAGING_32_BIT, entry, LEVEL_PTE, .level = LEVEL_PTE,
		      .switches = { SWEEP_WP | SWEEP_SMAP }));
CASE_RUN(flags_32_bit_4_kbyte, sweep, PROVES("paging:ad.implicit"),
	 SWEEP_LEGACY(PAGING_32_BIT, flags, LEVEL_PTE, .switches = { SWEEP_WP }));
CASE_RUN(defects_32_bit_4_kbyte, sweep,
	 PROVES("paging:acc.implicit.us0", "paging:rsvd.before_rights"),
	 SWEEP_LEGACY(PAGING_32_BIT, defects, LEVEL_PTE, .switches = { SWEEP_WP, SWEEP_SMAP }));
CASE_RUN(rights_pae_4_kbyte, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"),
	 SWEEP_LEGACY(PAGING_PAE, rights, LEVEL_PTE,
		      .switches = { SWEEP_NXE | SWEEP_SMEP, SWEEP_WP, SWEEP_SMAP, SWEEP_AC }));
CASE_RUN(rights_pae_2_mbyte, sweep,
	 PROVES("paging:acc.implicit.super_ok", "paging:acc.smap.implicit_ac1"),
	 SWEEP_LEGACY(PAGING_PAE, rights, LEVEL_PDE,
		      .switches = { SWEEP_NXE | SWEEP_SMEP, SWEEP_WP, SWEEP_SMAP, SWEEP_AC }));
CASE_RUN(entry_pae_pte, sweep, PROVES("paging:acc.implicit.us0", "paging:ad.implicit"),
	 SWEEP_LEGACY(PAGING_PAE, entry, LEVEL_PTE, .level = LEVEL_PTE,
		      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMAP }));
CASE_RUN(flags_pae_4_kbyte, sweep, PROVES("paging:ad.implicit"),
	 SWEEP_LEGACY(PAGING_PAE, flags, LEVEL_PTE, .switches = { SWEEP_WP }));
CASE_RUN(defects_pae_4_kbyte, sweep,
	 PROVES("paging:acc.implicit.us0", "paging:rsvd.before_rights"),
	 SWEEP_LEGACY(PAGING_PAE, defects, LEVEL_PTE,
		      .switches = { SWEEP_NXE | SWEEP_WP, SWEEP_SMAP }));
