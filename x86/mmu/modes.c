/*
 * The paging modes, and every way from one to another.
 *
 * CR0.PG, CR4.PAE, IA32_EFER.LME and CR4.LA57 select the mode: 5.1.1 Four Paging Modes. Software
 * changes between them in an order that the processor enforces (5.1.2 Paging-Mode Enabling): what
 * would lead to a mode that does not exist is #GP(0), and the register keeps its value. IA-32e
 * mode can be entered and left only with paging off in between, and left only from compatibility
 * mode; 32-bit and PAE paging change into each other by CR4.PAE alone. The scripts here do all of
 * it in 32-bit code (mmu/legacy.h), and come back to 64-bit mode whatever happens.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"

#define CONTENT		0x11223344u
#define OTHER_CONTENT	0x55667788u
#define PAGE		0x40000000u	/* linear, where a case maps its page */
#define PG_AND_PE	((u32)(CR0_PG | CR0_PE))
#define CR4_ALL_MODES	(CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_SMEP | CR4_SMAP)

static u32 cr0_with_pg(void)
{
	return read_cr0();
}

static u32 cr0_without_pg(void)
{
	return read_cr0() & ~CR0_PG;
}

static u32 *page_with_content(void)
{
	return page_alloc_filled((u64)OTHER_CONTENT << 32 | CONTENT);
}

/* The bits of CR4 among `wanted` that this processor has. */
static u64 cr4_supported(u64 wanted)
{
	static const struct {
		u64 bit;
		enum feature feature;
	} rows[] = {
		{ CR4_PSE, FEATURE_PSE }, { CR4_PAE, FEATURE_PAE }, { CR4_PGE, FEATURE_PGE },
		{ CR4_LA57, FEATURE_LA57 }, { CR4_SMEP, FEATURE_SMEP },
		{ CR4_SMAP, FEATURE_SMAP },
	};
	u64 supported = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if ((wanted & rows[i].bit) && feature(rows[i].feature))
			supported |= rows[i].bit;
	return supported;
}

/* --- no paging --------------------------------------------------------------- */

CASE(addresses_are_physical_without_paging, PROVES("paging:mode.off"))
{
	u32 *page = page_with_content(), address = physical(page);
	struct legacy_step script[] = {
		{ READ(address), .gives = CONTENT },
		{ WRITE(address, OTHER_CONTENT) },
		{ READ(address), .gives = OTHER_CONTENT },
		{ WRITE(address, 0xc3c3c3c3) },
		{ FETCH(address) },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
	EXPECT_EQ(*page, 0xc3c3c3c3);
}

/* The tables that CR3 points to would forbid everything. */
CASE(no_bit_of_paging_matters_without_paging, PROVES("paging:mode.off", "paging:ad.off_pg0"))
{
	u64 *tables = page_alloc_filled(~0ull);
	u32 *page = page_with_content(), address = physical(page);
	struct legacy_start start = {
		.mode = PAGING_OFF, .cr3 = physical(tables), .cr0 = CR0_WP,
		.cr4 = cr4_supported(CR4_ALL_MODES),
		.efer = feature(FEATURE_NX) ? EFER_NXE : 0,
	};
	struct legacy_step script[] = {
		{ READ(address), .gives = CONTENT },
		{ WRITE(address, 0xc3c3c3c3) },
		{ FETCH(address) },
	};

	LEGACY_RUN(&start, script);
	EXPECT_EQ(*page, 0xc3c3c3c3);
	EXPECT_EQ(tables[0], ~0ull);
}

CASE(no_flags_are_set_without_paging, PROVES("paging:ad.off_pg0"))
{
	u32 *directory = tables_32_bit(), *page = page_with_content(), address = physical(page);
	u32 *pte = map_32_bit(directory, address, address, PTE_P | PTE_RW), pde;
	struct legacy_step script[] = {
		{ WRITE(address, 1) },
		{ READ(address), .gives = 1 },
	};

	*pte &= ~(PTE_A | PTE_D);
	directory[0] &= ~PTE_A;
	pde = directory[0];
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_OFF, .cr3 = physical(directory) }),
		   script);
	EXPECT_EQ(*pte, address | PTE_P | PTE_RW);
	EXPECT_EQ(directory[0], pde);
}

/* --- entering each mode ------------------------------------------------------ */

CASE(paging_32_bit, PROVES("paging:mode.select.32bit"))
{
	u32 *directory = tables_32_bit(), *page = page_with_content();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = CONTENT },
		{ READ(PAGE + 4), .gives = OTHER_CONTENT },
		{ READ(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
		{ GET_EFER },
	};

	map_32_bit(directory, PAGE, physical(page), PTE_P);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = physical(directory) }),
		   script);
	EXPECT_EQ(script[3].value & (EFER_LMA | EFER_LME), 0);
}

CASE(paging_pae, PROVES("paging:mode.select.pae"))
{
	u64 *pdpt = tables_pae();
	u32 *page = page_with_content();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = CONTENT },
		{ READ(PAGE + 4), .gives = OTHER_CONTENT },
		{ READ(PAGE + PAGE_SIZE), .ends = PAGE_FAULT(0) },
	};

	map_pae(pdpt, PAGE, physical(page), PTE_P);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(pdpt) }), script);
}

/* 5.1.2: LME = 1 and PAE = 1 first, then PG; LMA follows, and goes again with PG. */
CASE(ia32e_mode_from_no_paging, PROVES("paging:mode.lma_set", "paging:mode.select.4level",
				       "paging:mode.lma_clear"))
{
	struct address_space space;
	u32 *page = page_with_content();
	struct legacy_start start = { .mode = PAGING_OFF, .cr4 = CR4_PAE, .efer = EFER_LME };

	space_copy(&space);
	space_map(&space, PAGE, physical(page), PTE_P, LEVEL_PTE);
	start.cr3 = physical(space.pml4);

	struct legacy_step script[] = {
		{ GET_EFER, .gives = EFER_LME, .mask = EFER_LME | EFER_LMA },
		{ SET_CR0(cr0_with_pg()) },
		{ GET_EFER, .gives = EFER_LME | EFER_LMA, .mask = EFER_LME | EFER_LMA },
		{ READ(PAGE), .gives = CONTENT },
		{ SET_CR0(cr0_without_pg()) },
		{ GET_EFER, .gives = EFER_LME, .mask = EFER_LME | EFER_LMA },
	};

	LEGACY_RUN(&start, script);
}

CASE(ia32e_mode_is_left_from_compatibility_mode,
     PROVES("paging:mode.lma_clear", "paging:mode.pg_clear_compat"))
{
	u32 *page = page_with_content();
	struct legacy_step script[] = {
		{ GET_EFER, .gives = EFER_LME | EFER_LMA, .mask = EFER_LME | EFER_LMA },
		{ SET_CR0(cr0_without_pg()) },
		{ GET_EFER, .gives = EFER_LME, .mask = EFER_LME | EFER_LMA },
		{ GET_CR0, .gives = CR0_PE, .mask = PG_AND_PE },
		{ READ(physical(page)), .gives = CONTENT },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_4_LEVEL }, script);
}

/* 4-level, none, 32-bit, none, PAE, none, 4-level: nothing of one mode is left in the next. */
CASE(every_mode_after_every_other,
     PROVES("paging:mode.select.32bit", "paging:mode.select.pae", "paging:mode.select.4level",
	    "paging:tlb.cr0.pg"))
{
	u32 *first = page_alloc_filled(1), *second = page_alloc_filled(2);
	u32 *third = page_alloc_filled(3), *directory = tables_32_bit();
	u64 *pdpt = tables_pae();
	struct address_space space;

	map_32_bit(directory, PAGE, physical(first), PTE_P);
	map_pae(pdpt, PAGE, physical(second), PTE_P);
	space_copy(&space);
	space_map(&space, PAGE, physical(third), PTE_P, LEVEL_PTE);

	struct legacy_step script[] = {
		{ READ(physical(third)), .gives = 3 },
		{ SET_CR0(cr0_without_pg()) },
		{ SET_EFER(0) },
		{ SET_CR4(read_cr4() & ~CR4_PAE) },
		{ SET_CR3(physical(directory)) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = 1 },
		{ SET_CR0(cr0_without_pg()) },
		{ SET_CR4(read_cr4() | CR4_PAE) },
		{ SET_CR3(physical(pdpt)) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = 2 },
		{ SET_CR0(cr0_without_pg()) },
		{ SET_EFER(EFER_LME) },
		{ SET_CR3(physical(space.pml4)) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = 3 },
		{ SET_CR0(cr0_without_pg()) },
		{ SET_EFER(0) },
		{ SET_CR4(read_cr4() & ~CR4_PAE) },
		{ SET_CR3(physical(directory)) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = 1 },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_4_LEVEL }, script);
}

/* Clearing CR0.PG drops all translations, global ones too: 5.10.4.1. */
CASE(clearing_pg_drops_global_translations, PROVES("paging:tlb.cr0.pg"), NEEDS(CPU(PGE)))
{
	u32 *first = page_alloc_filled(1), *second = page_alloc_filled(2);
	u32 *directory = tables_32_bit();
	u32 *pte = map_32_bit(directory, PAGE, physical(first), PTE_P | PTE_G);
	struct legacy_start start = {
		.mode = PAGING_32_BIT, .cr3 = physical(directory), .cr4 = CR4_PGE,
	};
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ WRITE(physical(pte), physical(second) | PTE_P | PTE_G) },
		{ SET_CR0(cr0_without_pg()) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = 2 },
	};

	LEGACY_RUN(&start, script);
}

/* --- 32-bit and PAE paging change into each other ---------------------------- */

/*
 * One CR3 for both modes: 32-bit paging takes the page directory at bits 31:12, PAE paging the
 * table of PDPTEs at bits 31:5, here 20H bytes into the same page, where the directory says
 * nothing.
 */
struct two_modes {
	u32 cr3, *directory;
	u64 *pdpt;
};

static struct two_modes map_for_both(const u32 *in_32_bit, const u32 *in_pae)
{
	struct two_modes both = { .directory = tables_32_bit() };
	u64 *pdpt = tables_pae();
	u32 i;

	map_32_bit(both.directory, PAGE, physical(in_32_bit), PTE_P);
	map_pae(pdpt, PAGE, physical(in_pae), PTE_P);
	both.pdpt = (u64 *)both.directory + 4;
	for (i = 0; i < 4; i++)
		both.pdpt[i] = pdpt[i];
	both.cr3 = physical(both.pdpt);
	return both;
}

CASE(pae_is_toggled_with_paging_on, PROVES("paging:mode.pae_toggle_paged", "paging:tlb.cr4.pae",
					   "paging:cr3.pae_align"))
{
	struct two_modes both = map_for_both(page_alloc_filled(1), page_alloc_filled(2));
	u32 cr4 = read_cr4() & ~CR4_PAE;
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ SET_CR4(cr4 | CR4_PAE) },
		{ READ(PAGE), .gives = 2 },
		{ SET_CR4(cr4) },
		{ READ(PAGE), .gives = 1 },
		{ SET_CR4(cr4 | CR4_PAE) },
		{ READ(PAGE), .gives = 2 },
	};

	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = both.cr3 }), script);
}

CASE(pae_is_not_turned_on_with_a_bad_pdpte, PROVES("paging:mode.pae_on_bad_pdpte"))
{
	struct two_modes both = map_for_both(page_alloc_filled(1), page_alloc_filled(2));
	u32 cr4 = read_cr4() & ~CR4_PAE;
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = 1 },
		{ SET_CR4(cr4 | CR4_PAE), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = cr4 | CR4_PSE, .mask = CR4_PAE | CR4_PSE },
		{ READ(PAGE), .gives = 1 },
	};

	cr4 |= CR4_PSE;
	script[1].a |= CR4_PSE;
	both.pdpt[3] |= PTE_RW;		/* bit 1: reserved in a PDPTE of PAE paging, 5.4.1 */
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = both.cr3,
					    .cr4 = CR4_PSE }), script);
}

/* --- what is refused --------------------------------------------------------- */

CASE(pg_needs_pe, PROVES("paging:mode.pg_without_pe"))
{
	u64 cr0 = read_cr0();

	EXPECT(write_cr0_safe(cr0 & ~CR0_PE), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0);
}

CASE(pg_stays_in_64_bit_mode, PROVES("paging:mode.pg_clear_64"))
{
	u64 cr0 = read_cr0();

	EXPECT(write_cr0_safe(cr0 & ~CR0_PG), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0);
}

CASE(pg_with_lme_needs_pae, PROVES("paging:mode.pg_lme_nopae"))
{
	struct legacy_start start = {
		.mode = PAGING_OFF, .efer = EFER_LME, .cr3 = physical(tables_32_bit()),
	};
	struct legacy_step script[] = {
		{ SET_CR0(cr0_with_pg()), .ends = OUTCOME_GP0 },
		{ GET_CR0, .gives = CR0_PE, .mask = PG_AND_PE },
		{ GET_EFER, .gives = EFER_LME, .mask = EFER_LME | EFER_LMA },
	};

	LEGACY_RUN(&start, script);
}

/* Outside IA-32e mode a code segment with L = 1, D = 0 has 16-bit code. */
CODE32(set_cr0_in_64_bit_segment,
       "ljmp $0x08, $1f\n"
       "\t.code16\n1:\tmov %eax, %cr0\n\tljmpl $0x18, $2f\n"
       "\t.code32\n2:");

#define SET_CR0_AT_L(value) \
	LEGACY_STEP("MOV to CR0 with CS.L = 1, of", set_cr0_in_64_bit_segment, value, 0)

CASE(pg_with_lme_needs_a_segment_that_is_not_64_bit, PROVES("paging:mode.pg_lme_csl"))
{
	struct legacy_start start = {
		.mode = PAGING_OFF, .efer = EFER_LME, .cr4 = CR4_PAE, .cr3 = read_cr3(),
	};
	struct legacy_step script[] = {
		{ SET_CR0_AT_L(cr0_without_pg()) },
		{ SET_CR0_AT_L(cr0_with_pg()),
		  .ends = OUTCOME_GP0 },
		{ GET_CR0, .gives = CR0_PE, .mask = PG_AND_PE },
	};

	LEGACY_RUN(&start, script);
}

CODE32(load_tr, "ltr %ax");
#define LOAD_TR(selector)	LEGACY_STEP("LTR of", load_tr, selector, 0)

/* The TSS is never used: only its type matters. */
CASE(pg_with_lme_needs_a_32_bit_tss, PROVES("paging:mode.pg_lme_tss16"))
{
	u64 tss = FIELD(physical(&this_cpu()->tss), 23, 0) << 16 | 0x67;
	struct legacy_start start = {
		.mode = PAGING_OFF, .efer = EFER_LME, .cr4 = CR4_PAE, .cr3 = read_cr3(),
	};
	struct legacy_step script[] = {
		{ LOAD_TR(SELECTOR_SPARE) },
		{ SET_CR0(cr0_with_pg()), .ends = OUTCOME_GP0 },
		{ GET_CR0, .gives = CR0_PE, .mask = PG_AND_PE },
		{ LOAD_TR(SELECTOR_SPARE + 16) },
	};

	cpu_set_descriptor(SELECTOR_SPARE, tss | 0x81ull << 40);	/* available 16-bit TSS */
	cpu_set_descriptor(SELECTOR_SPARE + 8, 0);
	cpu_set_descriptor(SELECTOR_SPARE + 16, tss | 0x89ull << 40);	/* 32-bit, or 64-bit */
	cpu_set_descriptor(SELECTOR_SPARE + 24, 0);
	LEGACY_RUN(&start, script);
}

CASE(lme_changes_only_without_paging, PROVES("paging:mode.lme_change_pg1"))
{
	u64 efer = rdmsr(IA32_EFER);
	struct legacy_step script[] = {
		{ SET_EFER(EFER_LME), .ends = OUTCOME_GP0 },
		{ SET_EFER(EFER_LME | EFER_SCE), .ends = OUTCOME_GP0 },
		{ GET_EFER },
	};
	struct legacy_step script_pae[] = {
		{ SET_EFER(EFER_LME), .ends = OUTCOME_GP0 },
		{ GET_EFER },
	};

	EXPECT(wrmsr_safe(IA32_EFER, efer & ~EFER_LME), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_EFER, (efer & ~EFER_LME) ^ EFER_SCE), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_EFER), efer);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT,
					    .cr3 = physical(tables_32_bit()) }), script);
	EXPECT_EQ(script[2].value, 0);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(tables_pae()) }),
		   script_pae);
	EXPECT_EQ(script_pae[1].value, 0);
}

CASE(lma_is_read_only, PROVES("paging:mode.lma_readonly"))
{
	u64 efer = rdmsr(IA32_EFER);
	struct legacy_step script[] = {
		{ SET_EFER(EFER_LMA | EFER_LME) },
		{ GET_EFER, .gives = EFER_LME, .mask = EFER_LME | EFER_LMA },
	};

	EXPECT(wrmsr_safe(IA32_EFER, efer & ~EFER_LMA), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_EFER), efer);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_OFF, .cr4 = CR4_PAE }), script);
}

CASE(pae_stays_in_ia32e_mode, PROVES("paging:mode.pae_clear_lma"))
{
	u64 cr4 = read_cr4();
	struct legacy_step script[] = {
		{ SET_CR4(cr4 & ~CR4_PAE), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = CR4_PAE, .mask = CR4_PAE },
	};

	EXPECT(write_cr4_safe(cr4 & ~CR4_PAE), OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), cr4);
	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_4_LEVEL }, script);
}

/* --- 5-level paging ---------------------------------------------------------- */

CASE(la57_is_not_there, PROVES("paging:mode.la57_unsupported"), NEEDS(NO_CPU(LA57)))
{
	u32 cr4 = read_cr4();
	struct legacy_step script[] = {
		{ SET_CR4(cr4 | CR4_LA57), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = CR4_PAE, .mask = CR4_PAE | CR4_LA57 },
	};

	EXPECT(write_cr4_safe(cr4 | CR4_LA57), OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), cr4);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_OFF, .cr4 = CR4_PAE }), script);
}

/* A PML5 table whose first entry references the tables in use, and whose last one does as well. */
static u64 *pml5(void)
{
	u64 *table = page_alloc();

	table[0] = table[511] = read_cr3() | PTE_P | PTE_RW | PTE_US;
	return table;
}

CASE(la57_changes_only_outside_ia32e_mode,
     PROVES("paging:mode.la57_change_lma", "paging:mode.direct_to_5level"), NEEDS(CPU(LA57)))
{
	u32 cr4 = read_cr4();
	struct legacy_start start = {
		.mode = PAGING_OFF, .cr3 = physical(pml5()), .cr4 = CR4_PAE | CR4_LA57,
		.efer = EFER_LME,
	};
	struct legacy_step script[] = {
		{ SET_CR0(cr0_with_pg()) },
		{ SET_CR4(cr4 & ~CR4_LA57), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = CR4_LA57, .mask = CR4_LA57 },
	};

	EXPECT(write_cr4_safe(cr4 | CR4_LA57), OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), cr4);
	LEGACY_RUN(&start, script);
}

/* 5.1.2: the bit may be 1 in any mode without 5 levels, and has no effect there. */
CASE(la57_does_nothing_outside_ia32e_mode,
     PROVES("paging:mode.la57_change_legacy", "paging:mode.la57_32bit_write"), NEEDS(CPU(LA57)))
{
	u64 *pdpt = tables_pae();
	u32 *page = page_with_content(), cr4 = read_cr4();
	struct legacy_step script[] = {
		{ READ(PAGE), .gives = CONTENT },
		{ SET_CR4(cr4 | CR4_LA57) },
		{ GET_CR4, .gives = CR4_LA57, .mask = CR4_LA57 },
		{ SET_CR3(physical(pdpt)) },
		{ READ(PAGE), .gives = CONTENT },
		{ SET_CR4(cr4) },
	};

	map_pae(pdpt, PAGE, physical(page), PTE_P);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(pdpt) }), script);
}

/*
 * The entry of the upper half is another way to the same: only the fifth level can tell them
 * apart.
 */
CASE(five_levels, PROVES("paging:mode.select.5level", "paging:mode.la57_32bit_write"),
     NEEDS(CPU(LA57)))
{
	u64 *table = pml5();
	u32 *page = page_with_content(), address = physical(page);
	struct legacy_start start = {
		.mode = PAGING_OFF, .cr3 = physical(table), .cr4 = CR4_PAE | CR4_LA57,
		.efer = EFER_LME,
	};
	struct legacy_step script[] = {
		{ SET_CR0(cr0_with_pg()) },
		{ GET_EFER, .gives = EFER_LME | EFER_LMA, .mask = EFER_LME | EFER_LMA },
		{ READ(address), .gives = CONTENT },
	};

	LEGACY_RUN(&start, script);
	EXPECT_EQ(table[0] & PTE_A, PTE_A);
	EXPECT_EQ(table[511] & PTE_A, 0);
}

/* --- from each mode to each other ---------------------------------------------- */

#define STEPS_PER_MODE	6

/* From no paging into `mode` with CR3 = `cr3`, where the page says `content`, and out again. */
static u32 visit(struct legacy_step *script, enum paging_mode mode, u32 cr3, u32 content)
{
	bool ia32e = mode == PAGING_4_LEVEL || mode == PAGING_5_LEVEL;
	u32 cr4 = (read_cr4() & ~CR4_PAE) | (mode == PAGING_32_BIT ? 0 : CR4_PAE) |
		  (mode == PAGING_5_LEVEL ? CR4_LA57 : 0);
	const struct legacy_step steps[STEPS_PER_MODE] = {
		{ SET_EFER(ia32e ? EFER_LME : 0) },
		{ SET_CR4(cr4) },
		{ SET_CR3(cr3) },
		{ SET_CR0(cr0_with_pg()) },
		{ READ(PAGE), .gives = content },
		{ SET_CR0(cr0_without_pg()) },
	};
	u32 i;

	for (i = 0; i < STEPS_PER_MODE; i++)
		script[i] = steps[i];
	return STEPS_PER_MODE;
}

/* One page for all modes to map, with another content in each. */
static void visit_in_order(const char *file, u32 line, const enum paging_mode *order, u32 count)
{
	struct legacy_step script[LEGACY_MAX_STEPS - 5];
	struct address_space space;
	u32 cr3[PAGING_MODES], *directory = tables_32_bit(), i, n = 0;
	u64 *pdpt = tables_pae(), *table;

	map_32_bit(directory, PAGE, physical(page_alloc_filled(PAGING_32_BIT)), PTE_P);
	map_pae(pdpt, PAGE, physical(page_alloc_filled(PAGING_PAE)), PTE_P);
	space_copy(&space);
	space_map(&space, PAGE, physical(page_alloc_filled(PAGING_4_LEVEL)), PTE_P, LEVEL_PTE);
	cr3[PAGING_32_BIT] = physical(directory);
	cr3[PAGING_PAE] = physical(pdpt);
	cr3[PAGING_4_LEVEL] = physical(space.pml4);
	space_copy(&space);
	space_map(&space, PAGE, physical(page_alloc_filled(PAGING_5_LEVEL)), PTE_P, LEVEL_PTE);
	table = page_alloc();
	table[0] = physical(space.pml4) | PTE_P | PTE_RW | PTE_US;
	cr3[PAGING_5_LEVEL] = physical(table);
	for (i = 0; i < count; i++)
		n += visit(&script[n], order[i], cr3[order[i]], order[i]);
	legacy_run(file, line, &(struct legacy_start){ .mode = PAGING_OFF }, script, n);
}

#define VISIT(...)								\
	visit_in_order(__FILE__, __LINE__, (const enum paging_mode[]){ __VA_ARGS__ },	\
		       sizeof((enum paging_mode[]){ __VA_ARGS__ }) / sizeof(enum paging_mode))

CASE(each_mode_to_each_other,
     PROVES("paging:mode.select.32bit", "paging:mode.select.pae", "paging:mode.select.4level"))
{
	VISIT(PAGING_32_BIT, PAGING_PAE, PAGING_32_BIT, PAGING_4_LEVEL, PAGING_PAE, PAGING_4_LEVEL,
	      PAGING_32_BIT);
}

CASE(five_levels_to_each_mode_and_back,
     PROVES("paging:mode.select.5level", "paging:mode.direct_to_5level"), NEEDS(CPU(LA57)))
{
	VISIT(PAGING_5_LEVEL, PAGING_32_BIT, PAGING_5_LEVEL, PAGING_PAE, PAGING_5_LEVEL,
	      PAGING_4_LEVEL, PAGING_5_LEVEL);
}

/* --- CR4.PCIDE --------------------------------------------------------------- */

CASE(pcide_needs_ia32e_mode, PROVES("paging:mode.pcide_not_lma"), NEEDS(CPU(PCID)))
{
	u32 cr4 = read_cr4();
	struct legacy_step script[] = {
		{ SET_CR4(cr4 | CR4_PCIDE), .ends = OUTCOME_GP0 },
		{ GET_CR4, .gives = CR4_PAE, .mask = CR4_PAE | CR4_PCIDE },
	};

	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_OFF, .cr4 = CR4_PAE }), script);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(tables_pae()) }),
		   script);
}

CASE(pg_stays_while_pcide_is_on, PROVES("paging:mode.pg_clear_pcide"), NEEDS(CPU(PCID)))
{
	u32 cr4 = read_cr4();
	struct legacy_step script[] = {
		{ SET_CR4(cr4 | CR4_PCIDE) },
		{ SET_CR0(cr0_without_pg()), .ends = OUTCOME_GP0 },
		{ GET_CR0, .gives = PG_AND_PE, .mask = PG_AND_PE },
		{ SET_CR4(cr4) },
		{ SET_CR0(cr0_without_pg()) },
		{ GET_CR0, .gives = CR0_PE, .mask = PG_AND_PE },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_4_LEVEL }, script);
}
