/*
 * 32-bit paging: 5.3.
 *
 * Two levels of 4-byte entries. CR4.PSE decides whether a PDE with PS = 1 maps a page of 4 MBytes
 * or references a page table like any other; only with CR4.PSE = 1 is any bit reserved. Where the
 * processor has PSE-36, bits 20:13 of such a PDE are bits 39:32 of the page's address, as far as
 * MAXPHYADDR goes. There is no execute-disable flag whatever IA32_EFER.NXE is; CR4.SMEP works, and
 * it alone makes the error code tell fetches from reads.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"

#define PAGE		0x40000000u	/* linear, of a page of 4 KBytes */
#define LARGE_PAGE	0x80000000u	/* linear, of a page of 4 MBytes */
#define LARGE_SIZE	0x400000u
#define PDE_OF_LARGE	(LARGE_PAGE >> 22)

/* A directory with one page, full of `1`, at PAGE. */
struct setting {
	u32 *directory, *page, *pte;
	struct legacy_start start;
};

static struct setting prepare(u32 cr4)
{
	struct setting s = { .directory = tables_32_bit(), .page = page_alloc_filled(0x100000001) };

	s.pte = map_32_bit(s.directory, PAGE, physical(s.page), PTE_P | PTE_RW);
	s.start = (struct legacy_start){
		.mode = PAGING_32_BIT, .cr3 = physical(s.directory), .cr4 = cr4,
	};
	return s;
}

/*
 * One PDE for both meanings: as a page of 4 MBytes, `first_word` is at its beginning; as a page
 * table, which begins there, too, its first entry maps a page full of `2`.
 */
static u32 *large_page_or_table(struct setting *s)
{
	u32 *memory = pages_alloc(LARGE_SIZE, LARGE_SIZE);

	memory[0] = physical(page_alloc_filled(0x200000002)) | PTE_P | PTE_A | PTE_D;
	memory[LARGE_SIZE / 4 - 1] = 3;
	s->directory[PDE_OF_LARGE] = physical(memory) | PTE_PS | PTE_P | PTE_RW;
	return memory;
}

/* --- the two levels ---------------------------------------------------------- */

CASE(pte_maps_4_kbytes, PROVES("paging:fmt.32.pte", "paging:fmt.32.pde_table"))
{
	static const u32 addresses[] = { 0x40000000, 0x40401000, 0x80c12000, 0xfffff000 };
	struct legacy_step script[ARRAY_SIZE(addresses)];
	struct setting s = prepare(0);
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		u32 *page = page_alloc();

		page[1023] = i + 1;
		/* Bits 11:9 of a PTE, 11:8 and 6 of a PDE that references a table are ignored. */
		map_32_bit(s.directory, addresses[i], physical(page), PTE_P | BITS(11, 9));
		s.directory[addresses[i] >> 22] |= BITS(11, 8) | BIT(6);
		script[i] = (struct legacy_step){ READ(addresses[i] + 4092), .gives = i + 1 };
	}
	LEGACY_RUN(&s.start, script);
}

CASE(accessed_and_dirty, PROVES("paging:ad.a_read", "paging:ad.d_write", "paging:fmt.4l.nonleaf_d"))
{
	struct setting s = prepare(0);
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ READ(physical(s.pte)), .gives = physical(s.page) | PTE_P | PTE_RW | PTE_A },
		{ WRITE(PAGE, 5) },
		{ READ(physical(s.pte)),
		  .gives = physical(s.page) | PTE_P | PTE_RW | PTE_A | PTE_D },
	};

	LEGACY_RUN(&s.start, script);
	EXPECT_EQ(s.directory[PAGE >> 22] & (PTE_A | PTE_D), PTE_A);
}

CASE(rights_of_both_levels, PROVES("paging:acc.rw_and", "paging:acc.s.write_ro_wp1"))
{
	struct setting s = prepare(0);
	u32 pde = physical(&s.directory[PAGE >> 22]), table = s.directory[PAGE >> 22];
	struct legacy_step script[] = {
		{ WRITE(PAGE, 5) },
		{ WRITE(pde, table & ~PTE_RW) },
		{ INVALIDATE(PAGE) },
		{ WRITE(PAGE, 6), .ends = PAGE_FAULT(PF_P | PF_WR) },
		{ READ(PAGE), .gives = 5 },
	};

	s.start.cr0 = CR0_WP;
	LEGACY_RUN(&s.start, script);
}

/* --- pages of 4 MBytes ------------------------------------------------------- */

CASE(pde_maps_4_mbytes, PROVES("paging:fmt.32.pde_4m"), NEEDS(CPU(PSE)))
{
	struct setting s = prepare(CR4_PSE);
	u32 *memory = large_page_or_table(&s);
	struct legacy_step script[] = {
		{ READ(LARGE_PAGE), .gives = memory[0] },
		{ READ(LARGE_PAGE + LARGE_SIZE - 4), .gives = 3 },
		{ READ(physical(&s.directory[PDE_OF_LARGE])),
		  .gives = physical(memory) | PTE_PS | PTE_P | PTE_RW | PTE_A },
		{ WRITE(LARGE_PAGE + 0x123450, 4) },
		{ READ(physical(&s.directory[PDE_OF_LARGE])),
		  .gives = physical(memory) | PTE_PS | PTE_P | PTE_RW | PTE_A | PTE_D },
	};

	LEGACY_RUN(&s.start, script);
	EXPECT_EQ(memory[0x123450 / 4], 4);
}

CASE(ps_is_ignored_without_pse, PROVES("paging:fmt.32.ps_ignored", "paging:rsvd.32.pse0"))
{
	struct setting s = prepare(0);
	struct legacy_step script[] = {
		{ READ(LARGE_PAGE), .gives = 2 },
		{ READ(LARGE_PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
	};

	large_page_or_table(&s);
	LEGACY_RUN(&s.start, script);
}

/* The flush is software's part: 5.10.4 does not list CR4.PSE. */
CASE(pse_changes_the_meaning_of_ps, PROVES("paging:fmt.32.pse_live"), NEEDS(CPU(PSE)))
{
	struct setting s = prepare(0);
	u32 *memory = large_page_or_table(&s), cr4 = read_cr4() & ~CR4_PAE;
	struct legacy_step script[] = {
		{ READ(LARGE_PAGE), .gives = 2 },
		{ SET_CR4(cr4 | CR4_PSE) },
		{ SET_CR3(physical(s.directory)) },
		{ READ(LARGE_PAGE), .gives = memory[0] },
		{ SET_CR4(cr4) },
		{ SET_CR3(physical(s.directory)) },
		{ READ(LARGE_PAGE), .gives = 2 },
	};

	LEGACY_RUN(&s.start, script);
}

CASE(pse_change_without_a_flush, PROVES("paging:tlb.cr4.pse"), NEEDS(CPU(PSE)))
{
	struct setting s = prepare(0);
	u32 *memory = large_page_or_table(&s), cr4 = read_cr4() & ~CR4_PAE;
	u32 as_page = memory[0];
	struct legacy_step script[] = {
		{ READ(LARGE_PAGE), .gives = 2 },
		{ SET_CR4(cr4 | CR4_PSE) },
		{ READ(LARGE_PAGE), .gives = as_page, .or_gives = 2 },
		{ INVALIDATE(LARGE_PAGE) },
		{ READ(LARGE_PAGE), .gives = as_page },
	};

	LEGACY_RUN(&s.start, script);
}

/* --- PSE-36 ------------------------------------------------------------------ */

static bool has_pse36(u64 wanted)
{
	return CPUID_BIT(1, 0, edx, 17) == wanted;
}

#define PSE36		{ .text = "PSE-36", .met = has_pse36, .arg = true }
#define NO_PSE36	{ .text = "no PSE-36", .met = has_pse36, .arg = false }

/* 5.3: bits 21:M-19 are reserved, M the smaller of 40 and MAXPHYADDR; without PSE-36 bits 21:13. */
static u32 first_reserved(void)
{
	u32 m = maxphyaddr() < 40 ? maxphyaddr() : 40;

	return has_pse36(true) ? m - 19 : 13;
}

/* Where the bits are reserved a page fault, where they are an address nothing of the kind. */
static void each_bit_from_13(struct setting *s)
{
	u32 pde = physical(&s->directory[PDE_OF_LARGE]), n = 0, bit, value;
	struct legacy_step script[40];

	large_page_or_table(s);
	value = s->directory[PDE_OF_LARGE];
	for (bit = 13; bit <= 21; bit++) {
		script[n++] = (struct legacy_step){ WRITE(pde, value | BIT(bit)) };
		script[n++] = (struct legacy_step){ INVALIDATE(LARGE_PAGE) };
		script[n++] = (struct legacy_step){ READ(LARGE_PAGE),
			.ends = bit >= first_reserved() ? PAGE_FAULT(PF_P | PF_RSVD) : 0 };
	}
	script[n++] = (struct legacy_step){ WRITE(pde, value) };
	script[n++] = (struct legacy_step){ READ(LARGE_PAGE + LARGE_SIZE - 4) };
	legacy_run(__FILE__, __LINE__, &s->start, script, n);
}

CASE(reserved_bits_of_a_4_mbyte_pde, PROVES("paging:rsvd.32.4m_pse36", "paging:rsvd.32.bit21"),
     NEEDS(CPU(PSE), PSE36))
{
	struct setting s = prepare(CR4_PSE);

	each_bit_from_13(&s);
}

CASE(reserved_bits_without_pse_36, PROVES("paging:rsvd.32.4m_nopse36"),
     NEEDS(CPU(PSE), NO_PSE36))
{
	struct setting s = prepare(CR4_PSE);

	each_bit_from_13(&s);
}

/* Bit 32 of the address counts: the page is not the one that lies 4 GiB below. */
CASE(pse_36_reaches_above_4_gib, PROVES("paging:fmt.32.pse36"), NEEDS(CPU(PSE), PSE36))
{
	struct setting s = prepare(CR4_PSE);
	u32 last = LARGE_PAGE + LARGE_SIZE - 4;
	struct legacy_step script[] = {
		{ READ(last) },
		{ WRITE(physical(&s.directory[PDE_OF_LARGE]), 0) },
	};

	large_page_or_table(&s);
	s.directory[PDE_OF_LARGE] |= BIT(13);
	LEGACY_RUN(&s.start, script);
	EXPECT_EQ(script[0].outcome, OUTCOME_DONE);
	EXPECT_FALSE(script[0].value == 3);
}

CASE(no_bit_is_reserved_without_pse, PROVES("paging:rsvd.32.pse0", "paging:rsvd.32.pde_table"))
{
	struct setting s = prepare(0);
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
	};

	s.directory[PAGE >> 22] |= BITS(11, 6);
	*s.pte |= BITS(11, 8);
	LEGACY_RUN(&s.start, script);
}

CASE(no_bit_of_a_table_is_reserved_with_pse, PROVES("paging:rsvd.32.pde_table"), NEEDS(CPU(PSE)))
{
	struct setting s = prepare(CR4_PSE);
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
	};

	s.directory[PAGE >> 22] |= BITS(11, 8) | BIT(6);
	*s.pte |= BITS(11, 8);
	LEGACY_RUN(&s.start, script);
}

CASE(pat_bits_without_pat, PROVES("paging:rsvd.32.nopat"), NEEDS(CPU(PSE), NO_CPU(PAT)))
{
	struct setting s = prepare(CR4_PSE);
	struct legacy_step script[] = {
		{ READ(PAGE), .ends = PAGE_FAULT(PF_P | PF_RSVD) },
		{ READ(LARGE_PAGE), .ends = PAGE_FAULT(PF_P | PF_RSVD) },
	};

	large_page_or_table(&s);
	s.directory[PDE_OF_LARGE] |= PTE_PAT_LARGE;
	*s.pte |= PTE_PAT;
	LEGACY_RUN(&s.start, script);
}

/* --- fetches ----------------------------------------------------------------- */

static void allow_user_to_fetch(struct setting *s)
{
	*s->page = 0xc3;
	*s->pte |= PTE_US;
	s->directory[PAGE >> 22] |= PTE_US;
}

CASE(nothing_is_execute_disabled, PROVES("paging:fmt.32.xd_none"), NEEDS(CPU(NX)))
{
	struct setting s = prepare(0);
	struct legacy_step script[] = {
		{ FETCH(PAGE) },
		{ FETCH(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
	};

	*s.page = 0xc3;
	s.start.efer = EFER_NXE;
	LEGACY_RUN(&s.start, script);
}

CASE(smep, PROVES("paging:acc.smep.32bit", "paging:pfec.id", "paging:tlb.cr4.smep"),
     NEEDS(CPU(SMEP)))
{
	struct setting s = prepare(0);
	u32 cr4 = read_cr4() & ~CR4_PAE;
	struct legacy_step script[] = {
		{ FETCH(PAGE) },
		{ FETCH(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
		{ SET_CR4(cr4 | CR4_SMEP) },
		{ FETCH(PAGE), .ends = PAGE_FAULT(PF_P | PF_ID) },
		{ READ(PAGE), .gives = 0xc3 },
		{ FETCH(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(PF_ID) },
		{ READ(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
		{ SET_CR4(cr4) },
		{ FETCH(PAGE) },
	};

	allow_user_to_fetch(&s);
	LEGACY_RUN(&s.start, script);
}

CASE(smap, PROVES("paging:acc.smap.read", "paging:acc.smap.write", "paging:tlb.cr4.smap"),
     NEEDS(CPU(SMAP)))
{
	struct setting s = prepare(0);
	u32 cr4 = read_cr4() & ~CR4_PAE;
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 0xc3 },
		{ SET_CR4(cr4 | CR4_SMAP) },
		{ READ(PAGE), .ends = PAGE_FAULT(PF_P) },
		{ WRITE(PAGE, 0), .ends = PAGE_FAULT(PF_P | PF_WR) },
		{ FETCH(PAGE) },
		{ SET_CR4(cr4) },
		{ READ(PAGE), .gives = 0xc3 },
	};

	allow_user_to_fetch(&s);
	LEGACY_RUN(&s.start, script);
}

/* --- CR3 --------------------------------------------------------------------- */

CASE(low_bits_of_cr3_are_kept, PROVES("paging:cr3.lowbits_nopcide"))
{
	struct setting s = prepare(0);
	struct legacy_step script[] = {
		{ SET_CR3(physical(s.directory) | BITS(11, 0)) },
		{ READ(PAGE), .gives = 1 },
		{ GET_CR3, .gives = physical(s.directory) | BITS(11, 0) },
	};

	LEGACY_RUN(&s.start, script);
}
