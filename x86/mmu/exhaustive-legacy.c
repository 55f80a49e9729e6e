/*
 * 32-bit and PAE paging against the model, access by access: mmu/exhaustive.c for the two modes
 * that only 32-bit code outside IA-32e mode has.
 *
 * 32-bit paging (5.3) has two entries of 4 bytes, pages of 4 MBytes where CR4.PSE allows them, and
 * nothing reserved where it does not; PAE paging (5.4) has two of 8 bytes below the PDPTE
 * registers, pages of 2 MBytes, and reserves all that the longer modes ignore. Each is taken
 * through all that an entry can say, at CPL 0 and CPL 3. The themes are in mmu/sweep_themes.h; the
 * accesses are made by mmu/sweep_legacy.c.
 */
#include "case.h"
#include "cpu/features.h"
#include "mmu/sweep_themes.h"

static void sweep(const struct case_def *this_case)
{
	sweep_run(this_case->row);
}

#define SWEEP(theme, paging, size, ...) \
	ROW((&(const struct sweep_row){ theme, size, __VA_ARGS__, .mode = paging, \
					.cpls = BIT(0) | BIT(3), .kinds = SWEEP_ALL_KINDS }))

/* --- 32-bit paging --------------------------------------------------------------------- */

#define SWEEP_32(theme, size, ...)	SWEEP(theme, PAGING_32_BIT, size, __VA_ARGS__)
/* Where the page has 4 MBytes, CR4.PSE is 1; else both. */
#define PSE_ON				.always = SWEEP_PSE
#define TWO_SWITCHES			SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP
#define SWITCHES_32			SWEEP_WP, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC, SWEEP_NXE

CASE_RUN(rights_32_bit_4_kbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.user_addr", "paging:acc.smep.32bit",
		"paging:fmt.32.xd_none"),
	 SWEEP_32(&sweep_rights, LEVEL_PTE, .switches = { SWITCHES_32, SWEEP_PSE }));
CASE_RUN(rights_32_bit_4_mbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.user_addr", "paging:fmt.32.pde_4m"),
	 NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_rights, LEVEL_PDE, .switches = { SWITCHES_32 }, PSE_ON));
CASE_RUN(entry_32_bit_pde, sweep, PROVES("paging:fmt.32.pde_table", "paging:ad.nonleaf_d"),
	 SWEEP_32(&sweep_entry, LEVEL_PTE, LEVEL_PDE,
		  .switches = { SWEEP_WP | SWEEP_SMEP, SWEEP_PSE, SWEEP_PGE }));
CASE_RUN(entry_32_bit_pte, sweep,
	 PROVES("paging:fmt.32.pte", "paging:ad.d_write", "paging:ad.d_fault"),
	 SWEEP_32(&sweep_entry, LEVEL_PTE, LEVEL_PTE,
		  .switches = { SWEEP_WP | SWEEP_SMEP, SWEEP_PSE, SWEEP_PGE }));
CASE_RUN(entry_32_bit_pde_of_4_mbyte, sweep,
	 PROVES("paging:fmt.32.pde_4m", "paging:ad.d_write", "paging:ad.d_fault"), NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_entry, LEVEL_PDE, LEVEL_PDE,
		  .switches = { SWEEP_WP | SWEEP_SMEP, SWEEP_PGE }, PSE_ON));
CASE_RUN(flags_32_bit_4_kbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.a_read"),
	 SWEEP_32(&sweep_flags, LEVEL_PTE, .switches = { SWEEP_WP, SWEEP_SMEP, SWEEP_SMAP }));
CASE_RUN(flags_32_bit_4_mbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.a_read"),
	 NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_flags, LEVEL_PDE, .switches = { SWEEP_WP, SWEEP_SMEP, SWEEP_SMAP },
		  PSE_ON));
CASE_RUN(defects_32_bit_4_kbyte, sweep, PROVES("paging:rsvd.order"),
	 SWEEP_32(&sweep_defects, LEVEL_PTE, .switches = { SWITCHES_32 }));
CASE_RUN(defects_32_bit_4_mbyte, sweep, PROVES("paging:rsvd.before_rights"), NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_defects, LEVEL_PDE, .switches = { SWITCHES_32 }, PSE_ON));
CASE_RUN(bits_of_32_bit_pde, sweep, PROVES("paging:fmt.32.ps_ignored", "paging:rsvd.32.pse0"),
	 SWEEP_32(&sweep_bits, LEVEL_PTE, LEVEL_PDE, .switches = { TWO_SWITCHES }));
CASE_RUN(bits_of_32_bit_pde_with_pse, sweep, PROVES("paging:rsvd.32.pde_table"), NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_bits, LEVEL_PTE, LEVEL_PDE, .switches = { TWO_SWITCHES },
		  PSE_ON));
CASE_RUN(bits_of_32_bit_pte, sweep, PROVES("paging:fmt.32.pte"),
	 SWEEP_32(&sweep_bits, LEVEL_PTE, LEVEL_PTE,
		  .switches = { SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP, SWEEP_PSE }));
CASE_RUN(bits_of_4_mbyte_pde, sweep, PROVES("paging:rsvd.32.bit21"), NEEDS(CPU(PSE)),
	 SWEEP_32(&sweep_bits, LEVEL_PDE, LEVEL_PDE, .switches = { TWO_SWITCHES },
		  PSE_ON));

/* --- PAE paging --------------------------------------------------------------------------- */

#define SWEEP_PAE(theme, size, ...)	SWEEP(theme, PAGING_PAE, size, __VA_ARGS__)
#define SWITCHES_PAE			SWEEP_WP, SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC

CASE_RUN(rights_pae_4_kbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.user_addr", "paging:acc.xd_or",
		"paging:fmt.pae.pdpte"),
	 SWEEP_PAE(&sweep_rights, LEVEL_PTE, .switches = { SWITCHES_PAE }));
CASE_RUN(rights_pae_2_mbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.user_addr", "paging:acc.xd_or",
		"paging:fmt.pae.2m"),
	 SWEEP_PAE(&sweep_rights, LEVEL_PDE, .switches = { SWITCHES_PAE, SWEEP_PSE }));
CASE_RUN(entry_pae_pde, sweep, PROVES("paging:ad.nonleaf_d", "paging:rsvd.pae.high"),
	 SWEEP_PAE(&sweep_entry, LEVEL_PTE, LEVEL_PDE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP | SWEEP_SMAP, SWEEP_PGE }));
CASE_RUN(entry_pae_pte, sweep,
	 PROVES("paging:fmt.pae.4k", "paging:ad.d_write", "paging:ad.d_fault"),
	 SWEEP_PAE(&sweep_entry, LEVEL_PTE, LEVEL_PTE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP | SWEEP_SMAP, SWEEP_PGE }));
CASE_RUN(entry_pae_pde_of_2_mbyte, sweep,
	 PROVES("paging:fmt.pae.2m", "paging:ad.d_write", "paging:ad.d_fault"),
	 SWEEP_PAE(&sweep_entry, LEVEL_PDE, LEVEL_PDE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP | SWEEP_SMAP, SWEEP_PGE }));
CASE_RUN(flags_pae_4_kbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.a_read"),
	 SWEEP_PAE(&sweep_flags, LEVEL_PTE, .switches = { SWEEP_WP, SWEEP_NXE, SWEEP_SMAP }));
CASE_RUN(flags_pae_2_mbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.a_read"),
	 SWEEP_PAE(&sweep_flags, LEVEL_PDE, .switches = { SWEEP_WP, SWEEP_NXE, SWEEP_SMAP }));
CASE_RUN(defects_pae_4_kbyte, sweep, PROVES("paging:rsvd.order", "paging:rsvd.pae.high"),
	 SWEEP_PAE(&sweep_defects, LEVEL_PTE, .switches = { SWITCHES_PAE }));
CASE_RUN(defects_pae_2_mbyte, sweep, PROVES("paging:rsvd.before_rights", "paging:rsvd.pae.2m"),
	 SWEEP_PAE(&sweep_defects, LEVEL_PDE, .switches = { SWITCHES_PAE }));
CASE_RUN(bits_of_pae_pde, sweep, PROVES("paging:rsvd.pae.high", "paging:rsvd.pae.xd"),
	 SWEEP_PAE(&sweep_bits, LEVEL_PTE, LEVEL_PDE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP }));
CASE_RUN(bits_of_pae_pte, sweep, PROVES("paging:rsvd.pae.high", "paging:rsvd.pae.xd"),
	 SWEEP_PAE(&sweep_bits, LEVEL_PTE, LEVEL_PTE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP }));
CASE_RUN(bits_of_2_mbyte_pae_pde, sweep, PROVES("paging:rsvd.pae.2m", "paging:rsvd.pae.high"),
	 SWEEP_PAE(&sweep_bits, LEVEL_PDE, LEVEL_PDE,
		   .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP }));
