/*
 * PAE paging: 5.4.
 *
 * The four entries of the page-directory-pointer table are not walked like the others. The
 * processor keeps them in four registers, which MOV to CR3 and some changes of CR0 and CR4 load
 * from memory (5.4.1 PDPTE Registers); only then are their reserved bits checked, with #GP(0) and
 * nothing changed. In between, what memory says is of no effect: not even INVLPG makes the
 * processor look. The two levels below work as with 4-level paging, for 32-bit linear addresses.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"

#define PAGE		0x40000000u	/* linear, translated by PDPTE 1 */
#define PDPTE_OF_PAGE	1
#define HIGH_HALF(pointer) (physical(pointer) + 4)

/* Two pages to map at PAGE, and a directory of page tables for each; the first is in use. */
struct setting {
	u64 *pdpt;
	u64 other;		/* the PDPTE for the second */
	u64 *pte;		/* of the first page */
	struct legacy_start start;
};

static struct setting prepare(void)
{
	struct setting s = { .pdpt = tables_pae() };
	u64 *second = tables_pae();

	s.pte = map_pae(s.pdpt, PAGE, physical(page_alloc_filled(0x100000001)), PTE_P | PTE_RW);
	map_pae(second, PAGE, physical(page_alloc_filled(0x200000002)), PTE_P | PTE_RW);
	s.other = second[PDPTE_OF_PAGE];
	s.start = (struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(s.pdpt) };
	return s;
}

/* Memory says the second page from here on. */
#define WRITE_PDPTE(s, value) \
	WRITE(physical(&(s).pdpt[PDPTE_OF_PAGE]), (u32)(value))

/* --- what loads the registers ------------------------------------------------ */

CASE(mov_cr3_loads_them, PROVES("paging:pdpte.load.cr3"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ WRITE_PDPTE(s, s.other) },
		{ SET_CR3(physical(s.pdpt)) },
		{ READ(PAGE), .gives = 2 },
	};

	LEGACY_RUN(&s.start, script);
}

struct toggle_row {
	u64 cr0, cr4;		/* bits that change */
	bool loads;
};

#define TOGGLE(...)	ROW((&(const struct toggle_row){ __VA_ARGS__ }))

/* INVLPG, so that what is left of the old mapping can only be in the registers. */
static void after_a_toggle(const struct case_def *this_case)
{
	const struct toggle_row *row = this_case->row;
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ WRITE_PDPTE(s, s.other) },
		row->cr0 ? (struct legacy_step){ SET_CR0(read_cr0() ^ row->cr0) } :
			   (struct legacy_step){ SET_CR4(read_cr4() ^ row->cr4) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = row->loads ? 2 : 1 },
		row->cr0 ? (struct legacy_step){ SET_CR0(read_cr0()) } :
			   (struct legacy_step){ SET_CR4(read_cr4()) },
	};

	LEGACY_RUN(&s.start, script);
}

#define LOADS(name, register, bit, fact, ...) \
	CASE_RUN(name, after_a_toggle, PROVES("paging:pdpte.load." fact), __VA_ARGS__ \
		 TOGGLE(.register = bit, .loads = true))
#define LOADS_NOT(name, register, bit, fact, ...) \
	CASE_RUN(name, after_a_toggle, PROVES("paging:pdpte.load." fact), __VA_ARGS__ \
		 TOGGLE(.register = bit))

LOADS(change_of_cd_loads_them, cr0, CR0_CD, "cr0");
LOADS(change_of_cd_and_nw_loads_them, cr0, CR0_CD | CR0_NW, "cr0");
LOADS(change_of_pge_loads_them, cr4, CR4_PGE, "cr4", NEEDS(CPU(PGE)),);
LOADS(change_of_pse_loads_them, cr4, CR4_PSE, "cr4", NEEDS(CPU(PSE)),);
LOADS(change_of_smep_loads_them, cr4, CR4_SMEP, "cr4", NEEDS(CPU(SMEP)),);
LOADS_NOT(change_of_wp_loads_nothing, cr0, CR0_WP, "cr0_other");
LOADS_NOT(change_of_ts_loads_nothing, cr0, CR0_TS, "cr0_other");
LOADS_NOT(change_of_em_loads_nothing, cr0, CR0_EM, "cr0_other");
LOADS_NOT(change_of_mp_loads_nothing, cr0, CR0_MP, "cr0_other");
LOADS_NOT(change_of_ne_loads_nothing, cr0, CR0_NE, "cr0_other");
LOADS_NOT(change_of_am_loads_nothing, cr0, CR0_AM, "cr0_other");
LOADS_NOT(change_of_de_loads_nothing, cr4, CR4_DE, "cr4_other", NEEDS(CPU(DE)),);
LOADS_NOT(change_of_tsd_loads_nothing, cr4, CR4_TSD, "cr4_other", NEEDS(CPU(TSC)),);
LOADS_NOT(change_of_osfxsr_loads_nothing, cr4, CR4_OSFXSR, "cr4_other", NEEDS(CPU(FXSR)),);
LOADS_NOT(change_of_smap_loads_nothing, cr4, CR4_SMAP, "cr4_other", NEEDS(CPU(SMAP)),);

CASE(setting_pg_loads_them, PROVES("paging:pdpte.load.cr0"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ SET_CR0(read_cr0() & ~CR0_PG) },
		{ WRITE_PDPTE(s, s.other) },
		{ SET_CR0(read_cr0()) },
		{ READ(PAGE), .gives = 2 },
	};

	LEGACY_RUN(&s.start, script);
}

/* --- what does not ----------------------------------------------------------- */

CASE(store_to_a_pdpte_has_no_effect, PROVES("paging:pdpte.stale", "paging:pdpte.invlpg"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ WRITE_PDPTE(s, s.other) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = 1 },
		{ WRITE_PDPTE(s, 0) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = 1 },
		{ SET_CR3(physical(s.pdpt)) },
		{ READ(PAGE), .ends = PAGE_FAULT(0) },
	};

	LEGACY_RUN(&s.start, script);
}

CASE(absent_pdpte_stays_absent, PROVES("paging:pdpte.np_to_present", "paging:pdpte.fault"))
{
	struct setting s = prepare();
	u64 present = s.pdpt[PDPTE_OF_PAGE];
	struct legacy_step script[] = {
		{ READ(PAGE), .ends = PAGE_FAULT(0) },
		{ WRITE(PAGE, 0), .ends = PAGE_FAULT(PF_WR) },
		{ WRITE_PDPTE(s, present) },
		{ READ(PAGE), .ends = PAGE_FAULT(0) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .ends = PAGE_FAULT(0) },
		{ SET_CR3(physical(s.pdpt)) },
		{ READ(PAGE), .gives = 1 },
	};

	s.pdpt[PDPTE_OF_PAGE] &= ~PTE_P;
	LEGACY_RUN(&s.start, script);
}

CASE(pdpte_has_no_accessed_flag, PROVES("paging:pdpte.no_accessed", "paging:ad.a_read"))
{
	struct setting s = prepare();
	u64 pdpte = s.pdpt[PDPTE_OF_PAGE];
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
	};

	LEGACY_RUN(&s.start, script);
	EXPECT_EQ(s.pdpt[PDPTE_OF_PAGE], pdpte);
	EXPECT_EQ(*pae_pde(s.pdpt, PAGE) & PTE_A, PTE_A);
	EXPECT_EQ(*s.pte & (PTE_A | PTE_D), PTE_A);
}

/* --- a bad entry is refused, and nothing changes ------------------------------ */

/* 5.4.1, Table 5-8: bits 2:1, 8:5 and 63:MAXPHYADDR. */
static u64 reserved_in_pdpte(void)
{
	return BITS(2, 1) | BITS(8, 5) | BITS(63, maxphyaddr());
}

/* MOV to CR3 with each of the reserved bits from `low` to `high` in a PDPTE that nothing uses. */
static void refuse_each(u32 low, u32 high, u32 efer)
{
	struct legacy_step script[LEGACY_MAX_STEPS - 5];
	struct setting s = prepare();
	u32 address = physical(&s.pdpt[3]), n = 0, bit;
	u64 entry;

	s.start.efer = efer;
	for (bit = low; bit <= high && n + 5 <= ARRAY_SIZE(script); bit++) {
		if (!(reserved_in_pdpte() & BIT(bit)))
			continue;
		entry = s.pdpt[3] | BIT(bit);
		script[n++] = (struct legacy_step){ WRITE(address + bit / 32 * 4,
							  bit < 32 ? entry : entry >> 32) };
		script[n++] = (struct legacy_step){ SET_CR3(physical(s.pdpt) | BIT(3)),
						    .ends = OUTCOME_GP0 };
	}
	script[n++] = (struct legacy_step){ GET_CR3, .gives = physical(s.pdpt) };
	script[n++] = (struct legacy_step){ READ(PAGE), .gives = 1 };
	legacy_run(__FILE__, __LINE__, &s.start, script, n);
}

CASE(low_reserved_bits_of_a_pdpte, PROVES("paging:rsvd.pae.pdpte", "paging:pdpte.gp.cr3"))
{
	refuse_each(0, 31, 0);
}

CASE(high_reserved_bits_of_a_pdpte, PROVES("paging:rsvd.pae.pdpte", "paging:pdpte.gp.cr3"))
{
	refuse_each(32, 57, 0);
	refuse_each(58, 63, 0);
}

CASE(bit_63_of_a_pdpte_with_nxe, PROVES("paging:rsvd.pae.pdpte_xd"), NEEDS(CPU(NX)))
{
	refuse_each(63, 63, EFER_NXE);
}

CASE(each_of_the_four_is_checked, PROVES("paging:pdpte.gp.any_of_four", "paging:pdpte.gp.cr3"))
{
	struct setting s = prepare();
	u32 i;

	for (i = 0; i < 4; i++) {
		struct legacy_step script[] = {
			{ WRITE(physical(&s.pdpt[i]), (u32)s.pdpt[i] | PTE_RW) },
			{ SET_CR3(physical(s.pdpt)), .ends = OUTCOME_GP0 },
			{ READ(PAGE), .gives = 1 },
			{ WRITE(physical(&s.pdpt[i]), (u32)s.pdpt[i]) },
			{ SET_CR3(physical(s.pdpt)) },
		};

		LEGACY_RUN(&s.start, script);
	}
}

/* Bits 2:1 of what is not present are for software. */
CASE(absent_pdpte_is_not_checked, PROVES("paging:rsvd.pae.pdpte_np"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ READ(PAGE + BIT(30)), .ends = PAGE_FAULT(0) },
	};

	s.pdpt[PDPTE_OF_PAGE + 1] = ~PTE_P;
	LEGACY_RUN(&s.start, script);
}

CASE(paging_does_not_begin_with_a_bad_pdpte, PROVES("paging:pdpte.gp.cr0"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ SET_CR0(read_cr0()), .ends = OUTCOME_GP0 },
		{ GET_CR0, .gives = CR0_PE, .mask = CR0_PG | CR0_PE },
		{ WRITE_PDPTE(s, s.other) },
		{ SET_CR0(read_cr0()) },
		{ READ(PAGE), .gives = 2 },
	};

	s.pdpt[PDPTE_OF_PAGE] |= PTE_US;
	s.start.mode = PAGING_OFF;
	s.start.cr4 = CR4_PAE;
	LEGACY_RUN(&s.start, script);
}

CASE(pge_does_not_change_with_a_bad_pdpte, PROVES("paging:pdpte.gp.cr4"), NEEDS(CPU(PGE)))
{
	struct setting s = prepare();
	u32 cr4 = read_cr4();
	struct legacy_step script[] = {
		{ WRITE_PDPTE(s, s.other | PTE_US) },
		{ SET_CR4(cr4 | CR4_PGE), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = CR4_PAE, .mask = CR4_PGE | CR4_PAE },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = 1 },
	};

	LEGACY_RUN(&s.start, script);
}

/* --- the levels below -------------------------------------------------------- */

/* No R/W flag and no U/S flag in a PDPTE: what the PDE and the PTE allow is allowed. */
CASE(rights_come_from_pde_and_pte, PROVES("paging:fmt.pae.pdpte"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ WRITE(PAGE, 5) },
		{ READ(PAGE), .gives = 5 },
		{ WRITE(PAGE + PAGE_SIZE, 5), .ends = PAGE_FAULT(PF_P | PF_WR) },
		{ READ(PAGE + PAGE_SIZE), .gives = 3 },
	};

	map_pae(s.pdpt, PAGE + PAGE_SIZE, physical(page_alloc_filled(3)), PTE_P);
	s.start.cr0 = CR0_WP;
	LEGACY_RUN(&s.start, script);
}

/* Bits 31:30, 29:21 and 20:12: each index with another value, and all ones. */
CASE(index_of_each_level, PROVES("paging:fmt.pae.index", "paging:fmt.pae.4k"))
{
	static const u32 addresses[] = {
		0x40000000, 0x40201000, 0x81234000, 0xfffff000, 0xc0000000 };
	struct legacy_step script[ARRAY_SIZE(addresses)];
	struct setting s = prepare();
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		u32 *page = page_alloc();

		page[1023] = i + 1;
		map_pae(s.pdpt, addresses[i], physical(page), PTE_P);
		script[i] = (struct legacy_step){ READ(addresses[i] + 4092), .gives = i + 1 };
	}
	LEGACY_RUN(&s.start, script);
}

/* CR4.PSE is of 32-bit paging. */
CASE(pages_of_2_mbytes_need_no_pse, PROVES("paging:fmt.pae.2m"))
{
	u32 *large = pages_alloc(level_size(LEVEL_PDE), level_size(LEVEL_PDE));
	u32 last = level_size(LEVEL_PDE) - 4;
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(0x80000000), .gives = 7 },
		{ READ(0x80000000 + last), .gives = 8 },
		{ SET_CR4(read_cr4() | CR4_PSE) },
		{ READ(0x80000000), .gives = 7 },
		{ READ(0x80000000 + last), .gives = 8 },
	};

	large[0] = 7;
	large[last / 4] = 8;
	*pae_pde(s.pdpt, 0x80000000) = physical(large) | PTE_P | PTE_PS;
	LEGACY_RUN(&s.start, script);
}

/* Bit 32 of the address counts: with it, the page is not the one that lies 4 GiB below. */
CASE(physical_addresses_above_4_gib, PROVES("paging:fmt.pae.4k"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE) },
		{ WRITE(HIGH_HALF(s.pte), 0) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = 1 },
	};

	*s.pte |= BIT(32);
	LEGACY_RUN(&s.start, script);
	EXPECT_EQ(script[0].outcome, OUTCOME_DONE);
	EXPECT_FALSE(script[0].value == 1);
}

CASE(reserved_bits_of_pde_and_pte, PROVES("paging:rsvd.pae.high", "paging:rsvd.pae.xd"))
{
	struct setting s = prepare();
	u64 *pde = pae_pde(s.pdpt, PAGE);
	u32 m = maxphyaddr(), bit, i;
	u64 *entries[] = { s.pte, pde };

	for (i = 0; i < 2; i++) {
		struct legacy_step script[LEGACY_MAX_STEPS - 5];
		u32 n = 0, high = HIGH_HALF(entries[i]);

		/* Only every third bit, so that one script is enough; the first, and the last. */
		for (bit = m; bit <= 63; bit += bit < 60 ? 3 : 1) {
			script[n++] = (struct legacy_step){ WRITE(high, BIT(bit) >> 32) };
			script[n++] = (struct legacy_step){ INVALIDATE(PAGE) };
			script[n++] = (struct legacy_step){ READ(PAGE),
							    .ends = PAGE_FAULT(PF_P | PF_RSVD) };
		}
		script[n++] = (struct legacy_step){ WRITE(high, 0) };
		script[n++] = (struct legacy_step){ READ(PAGE), .gives = 1 };
		legacy_run(__FILE__, __LINE__, &s.start, script, n);
	}
}

CASE(reserved_bits_of_a_2_mbyte_pde, PROVES("paging:rsvd.pae.2m"))
{
	struct legacy_step script[40];
	struct setting s = prepare();
	u64 *pde = pae_pde(s.pdpt, 0x80000000);
	u32 n = 0, bit;

	*pde = 0x200000 | PTE_PS | PTE_P;
	for (bit = 13; bit <= 20; bit++) {
		script[n++] = (struct legacy_step){ WRITE(physical(pde), (u32)*pde | BIT(bit)) };
		script[n++] = (struct legacy_step){ READ(0x80000000),
						    .ends = PAGE_FAULT(PF_P | PF_RSVD) };
	}
	script[n++] = (struct legacy_step){ WRITE(physical(pde), (u32)*pde) };
	script[n++] = (struct legacy_step){ READ(0x80000000) };
	legacy_run(__FILE__, __LINE__, &s.start, script, n);
}

CASE(execute_disable_in_pde_and_pte, PROVES("paging:acc.xd.fetch", "paging:acc.xd_or"),
     NEEDS(CPU(NX)))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ FETCH(PAGE) },
		{ WRITE(HIGH_HALF(s.pte), PTE_XD >> 32) },
		{ INVALIDATE(PAGE) },
		{ READ(PAGE), .gives = 0xc3 },
		{ FETCH(PAGE), .ends = PAGE_FAULT(PF_P | PF_ID) },
		{ WRITE(HIGH_HALF(s.pte), 0) },
		{ WRITE(HIGH_HALF(pae_pde(s.pdpt, PAGE)), PTE_XD >> 32) },
		{ INVALIDATE(PAGE) },
		{ FETCH(PAGE), .ends = PAGE_FAULT(PF_P | PF_ID) },
	};

	*(u32 *)(*s.pte & PTE_ADDRESS) = 0xc3;
	s.start.efer = EFER_NXE;
	LEGACY_RUN(&s.start, script);
}

/* Bit 8 of an entry that references a table is ignored, as are bits 11:9 of all. */
CASE(ignored_bits, PROVES("paging:fmt.4l.nonleaf_g"))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
	};

	s.pdpt[PDPTE_OF_PAGE] |= BITS(11, 9);
	*pae_pde(s.pdpt, PAGE) |= BITS(11, 8);
	*s.pte |= BITS(11, 9);
	LEGACY_RUN(&s.start, script);
}

/* 5.4.1: the table is at CR3[31:5], here the last 32 bytes of a page. */
CASE(table_of_pdptes_anywhere_in_a_page, PROVES("paging:cr3.pae_align"))
{
	struct setting s = prepare();
	u64 *end = (u64 *)page_alloc() + 508;
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ GET_CR3, .gives = physical(end) | BITS(4, 0) },
	};
	u32 i;

	for (i = 0; i < 4; i++)
		end[i] = s.pdpt[i];
	s.start.cr3 = physical(end) | BITS(4, 0);
	LEGACY_RUN(&s.start, script);
}

CODE32(disable_all_keys, "xor %ecx, %ecx; xor %edx, %edx; or $-1, %eax; wrpkru");
#define DISABLE_ALL_KEYS LEGACY_STEP("WRPKRU of", disable_all_keys, ~0u, 0)

CASE(no_protection_keys, PROVES("paging:acc.pku.legacy"), NEEDS(CPU(PKU)))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ DISABLE_ALL_KEYS },
		{ READ(PAGE), .gives = 1 },
		{ WRITE(PAGE, 5) },
		{ READ(PAGE), .gives = 5 },
	};

	*s.pte |= PTE_US;
	*pae_pde(s.pdpt, PAGE) |= PTE_US;
	s.start.cr0 = CR0_WP;
	s.start.cr4 = CR4_PKE;
	LEGACY_RUN(&s.start, script);
}

/* 5.4.2: without the PAT the bit that selects from it is reserved. */
CASE(pat_bits_without_pat, PROVES("paging:rsvd.pae.nopat"), NEEDS(NO_CPU(PAT)))
{
	struct setting s = prepare();
	struct legacy_step script[] = {
		{ READ(PAGE), .ends = PAGE_FAULT(PF_P | PF_RSVD) },
		{ READ(0x80000000), .ends = PAGE_FAULT(PF_P | PF_RSVD) },
	};

	*s.pte |= PTE_PAT;
	*pae_pde(s.pdpt, 0x80000000) = PTE_PAT_LARGE | PTE_PS | PTE_P;
	LEGACY_RUN(&s.start, script);
}
