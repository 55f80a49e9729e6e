/*
 * Memory types (lib/x86/mmu/memory_type.c) on the host: table 14-7 whole, the ranges of the MTRRs
 * at their edges, and which entry of the PAT an access to a page or to a table takes.
 *
 * A row begins with the fact of spec/paging.csv that it is about. Expected values are literals.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "mmu/memory_type_names.h"
#include "sdm/bits.h"

#define PWT	BIT(3)
#define PCD	BIT(4)

/* --- table 14-7 --------------------------------------------------------------------- */

static const struct combination {
	const char *fact;
	enum memory_type mtrr, pat, effective;
} combinations[] = {
	{ "mem.mtrr.uc_pat_wb: UC, UC", UC, UC, UC },
	{ "mem.mtrr.uc_pat_wc: UC, UC-", UC, UC_MINUS, UC },
	{ "mem.mtrr.uc_pat_wc: UC, WC", UC, WC, WC },
	{ "mem.mtrr.uc_pat_wb: UC, WT", UC, WT, UC },
	{ "mem.mtrr.uc_pat_wb: UC, WP", UC, WP, UC },
	{ "mem.mtrr.uc_pat_wb: UC, WB", UC, WB, UC },
	{ "mem.mtrr.wc: WC, UC", WC, UC, UC },
	{ "mem.mtrr.wc: WC, UC-", WC, UC_MINUS, WC },
	{ "mem.mtrr.wc: WC, WC", WC, WC, WC },
	{ "mem.mtrr.wc: WC, WT", WC, WT, UC },
	{ "mem.mtrr.wc: WC, WP", WC, WP, UC },
	{ "mem.mtrr.wc: WC, WB", WC, WB, WC },
	{ "mem.mtrr.wt: WT, UC", WT, UC, UC },
	{ "mem.mtrr.wt: WT, UC-", WT, UC_MINUS, UC },
	{ "mem.mtrr.wt: WT, WC", WT, WC, WC },
	{ "mem.mtrr.wt: WT, WT", WT, WT, WT },
	{ "mem.mtrr.wt: WT, WP", WT, WP, WP },
	{ "mem.mtrr.wt: WT, WB", WT, WB, WT },
	{ "mem.mtrr.wp: WP, UC", WP, UC, UC },
	{ "mem.mtrr.wp: WP, UC-", WP, UC_MINUS, WC },
	{ "mem.mtrr.wp: WP, WC", WP, WC, WC },
	{ "mem.mtrr.wp: WP, WT", WP, WT, WT },
	{ "mem.mtrr.wp: WP, WP", WP, WP, WP },
	{ "mem.mtrr.wp: WP, WB", WP, WB, WP },
	{ "mem.mtrr.wb: WB, UC", WB, UC, UC },
	{ "mem.mtrr.wb: WB, UC-", WB, UC_MINUS, UC },
	{ "mem.mtrr.wb: WB, WC", WB, WC, WC },
	{ "mem.mtrr.wb: WB, WT", WB, WT, WT },
	{ "mem.mtrr.wb: WB, WP", WB, WP, WP },
	{ "mem.mtrr.wb: WB, WB", WB, WB, WB },
};

static void test_combination(void **state)
{
	const struct combination *row = *state;

	assert_int_equal(effective_memory_type(row->mtrr, row->pat), row->effective);
}

/* --- the MTRRs: 14.11 ----------------------------------------------------------------- */

#define FE	BIT(10)
#define E	BIT(11)
#define VALID	BIT(11)
#define CAP	(BIT(8) | 3)		/* fixed ranges, three variable ones */

/* A range of a power of two, with a MAXPHYADDR of 46. */
#define RANGE(base, size, type)	{ (base) | (type), (BITS(45, 12) & ~((size) - 1)) | VALID }
#define NO_RANGE(base, size, type)	{ (base) | (type), BITS(45, 12) & ~((size) - 1) }

static const struct lookup {
	const char *says;
	struct memory_type_registers registers;
	u64 physical;
	enum memory_type type;
} lookups[] = {
	{ "off: all is UC", { .mtrrcap = CAP, .def_type = WB | FE,
	  .variable = { RANGE(0x100000, 0x100000, WB) } }, 0x100000, UC },
	{ "no range: the default type", { .mtrrcap = CAP, .def_type = E | WP }, 0x1000, WP },
	{ "the last of sixteen ranges", { .mtrrcap = 16, .def_type = E | WB,
	  .variable = { [15] = RANGE(0x400000, 0x200000, WC) } }, 0x400000, WC },
	{ "one page, and not the one before", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0x401000, 0x1000, WT) } }, 0x400fff, WB },
	{ "bits above 35 count", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(BIT(40), 0x200000, WC) } }, 0x1000, WB },
	{ "the first byte of a range", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0x400000, 0x200000, WC) } }, 0x400000, WC },
	{ "the last byte of a range", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0x400000, 0x200000, WC) } }, 0x5fffff, WC },
	{ "the byte below a range", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0x400000, 0x200000, WC) } }, 0x3fffff, WB },
	{ "the byte above a range", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0x400000, 0x200000, WC) } }, 0x600000, WB },
	{ "above 4 GBytes", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(BIT(45), BIT(45), UC) } }, BIT(45) | 0x1234, UC },
	{ "a discontinuous range", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { { 0x1000 | WT, 0x1000 | VALID } } }, 0x73000, WT },
	{ "a range without its V flag", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { NO_RANGE(0x400000, 0x200000, WC) } }, 0x400000, WB },
	{ "a range that VCNT does not count", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { [3] = RANGE(0x400000, 0x200000, WC) } }, 0x400000, WB },
	{ "the last range that VCNT counts", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { [2] = RANGE(0x400000, 0x200000, WC) } }, 0x400000, WC },
	{ "two ranges of one type", { .mtrrcap = CAP, .def_type = E | UC,
	  .variable = { RANGE(0, 0x400000, WP), RANGE(0, 0x200000, WP) } }, 0x123456, WP },
	{ "UC before WB", { .mtrrcap = CAP, .def_type = E | WB,
	  .variable = { RANGE(0, 0x400000, WB), RANGE(0, 0x200000, UC) } }, 0x123456, UC },
	{ "UC before WC and WP", { .mtrrcap = CAP, .def_type = E | WB, .variable = {
	  RANGE(0, 0x400000, WC), RANGE(0, 0x200000, UC), RANGE(0, 0x800000, WP) } },
	  0x123456, UC },
	{ "WT before WB", { .mtrrcap = CAP, .def_type = E | UC,
	  .variable = { RANGE(0, 0x400000, WB), RANGE(0, 0x200000, WT) } }, 0x123456, WT },
	{ "WC over WB is undefined", { .mtrrcap = CAP, .def_type = E | UC,
	  .variable = { RANGE(0, 0x400000, WB), RANGE(0, 0x200000, WC) } }, 0x123456, UNDEFINED },
	{ "WT over WB and WP is undefined", { .mtrrcap = CAP, .def_type = E | UC, .variable = {
	  RANGE(0, 0x400000, WB), RANGE(0, 0x200000, WT), RANGE(0, 0x100000, WP) } },
	  0x12345, UNDEFINED },
	{ "fixed ranges come before variable ones", { .mtrrcap = CAP, .def_type = E | FE | UC,
	  .fixed = { [0] = 0x0606060606060606 }, .variable = { RANGE(0, 0x200000, UC) } },
	  0x7ffff, WB },
	{ "fixed ranges end at 1 MByte", { .mtrrcap = CAP, .def_type = E | FE | WT,
	  .fixed = { [10] = 0x0606060606060606 } }, 0x100000, WT },
	{ "fixed ranges without FE", { .mtrrcap = CAP, .def_type = E | WT,
	  .fixed = { [0] = 0x0606060606060606 } }, 0x1000, WT },
	{ "fixed ranges that are not there", { .mtrrcap = 3, .def_type = E | FE | WT,
	  .fixed = { [0] = 0x0606060606060606 } }, 0x1000, WT },
	{ "64K_00000, field 0", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [0] = 0x0605040106050406 } }, 0xffff, WB },
	{ "64K_00000, field 4", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [0] = 0x0605040106050406 } }, 0x40000, WC },
	{ "16K_80000, field 7", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [1] = 0x0500000000000000 } }, 0x9ffff, WP },
	{ "16K_A0000, field 1", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [2] = 0x0400 } }, 0xa4000, WT },
	{ "4K_C0000, field 6", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [3] = 0x0006000000000000 } }, 0xc6fff, WB },
	{ "4K_C8000, field 0", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [4] = WP } }, 0xc8000, WP },
	{ "4K_D0000, field 2", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [5] = WP << 16 } }, 0xd2000, WP },
	{ "4K_D8000, field 3", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [6] = WT << 24 } }, 0xdb800, WT },
	{ "4K_E0000, field 0", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [7] = WB } }, 0xe0fff, WB },
	{ "4K_E8000, field 1", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [8] = WC << 8 } }, 0xe9000, WC },
	{ "4K_F0000, field 7", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [9] = (u64)WB << 56 } }, 0xf7fff, WB },
	{ "4K_F8000, field 7", { .mtrrcap = CAP, .def_type = E | FE,
	  .fixed = { [10] = (u64)WP << 56 } }, 0xfffff, WP },
};

/* What no register can hold, and what stays undefined. */
static void test_no_types(void **state)
{
	static const u8 none[] = { 2, 3, 8, 0x10, 0x86, UNDEFINED };
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(none); i++) {
		assert_int_equal(effective_memory_type(none[i], WB), UNDEFINED);
		assert_int_equal(effective_memory_type(WB, none[i]), UNDEFINED);
	}
	assert_int_equal(effective_memory_type(UC_MINUS, WB), UNDEFINED);
	assert_int_equal(pat_memory_type(&(struct memory_type_registers){ .pat = 0x8600 }, 1),
			 0x86);
}

static void test_lookup(void **state)
{
	const struct lookup *row = *state;

	assert_int_equal(mtrr_memory_type(&row->registers, row->physical), row->type);
}

/* --- which entry of the PAT: 5.9.2 ------------------------------------------------------ */

/* PA0 to PA7: WB, WT, UC-, UC, WP, WC, WB, WT. All memory is WB for the MTRRs. */
static const struct memory_type_registers plain = {
	.pat = 0x0406010500070406, .mtrrcap = CAP, .def_type = E | WB,
};

static const struct selection {
	const char *fact;
	u64 cr3, cr4, pdpte, above;	/* flags of what references the tables, from the top */
	enum paging_mode mode;
	u32 pat_index;
	enum memory_type top, second, page;
} selections[] = {
	{ "mem.pat.index_4k: PA0", .mode = PAGING_4_LEVEL, .top = WB, .second = WB, .page = WB },
	{ "mem.pat.index_4k: PA3", .mode = PAGING_4_LEVEL, .pat_index = 3,
	  .top = WB, .second = WB, .page = UC },
	{ "mem.pat.index_4k: PA5", .mode = PAGING_4_LEVEL, .pat_index = 5,
	  .top = WB, .second = WB, .page = WC },
	{ "mem.pat.tables: PWT of CR3", .cr3 = PWT, .mode = PAGING_4_LEVEL,
	  .top = WT, .second = WB, .page = WB },
	{ "mem.pat.tables: PCD of CR3, 32-bit paging", .cr3 = PCD, .mode = PAGING_32_BIT,
	  .top = UC, .second = WB, .page = WB },
	{ "mem.pat.tables: both of CR3, 5-level paging", .cr3 = PCD | PWT, .mode = PAGING_5_LEVEL,
	  .top = UC, .second = WB, .page = WB },
	{ "mem.pat.tables: PWT of the top entry", .above = PWT, .mode = PAGING_4_LEVEL,
	  .top = WB, .second = WT, .page = WB },
	{ "mem.pat.tables: a PDPTE register, not CR3", .cr3 = PCD, .pdpte = PWT, .mode = PAGING_PAE,
	  .top = WT, .second = WB, .page = WB },
	{ "mem.pat.cr3_pcide: CR3 has none", .cr3 = PCD | PWT, .cr4 = CR4_PCIDE,
	  .mode = PAGING_4_LEVEL, .top = WB, .second = WB, .page = WB },
	{ "mem.pat.cr3_pcide: entries have", .above = PWT, .cr4 = CR4_PCIDE,
	  .mode = PAGING_4_LEVEL, .top = WB, .second = WT, .page = WB },
	{ "mem.mtrr.wb: no PAT with paging off", .cr3 = PCD | PWT, .pat_index = 3,
	  .mode = PAGING_OFF, .page = WB },
};

static void test_selection(void **state)
{
	const struct selection *row = *state;
	struct walk_cpu cpu = { .cr3 = 0x1000 | row->cr3, .cr4 = row->cr4,
				.pdpte = { [2] = 0x2001 | row->pdpte } };
	struct walk_access access = { .address = 0x80000000 };
	struct walk_result result = {
		.mode = row->mode, .pat_index = row->pat_index, .physical = 0x7000, .steps = 2,
		.step = { { .address = 0x1000, .value = 0x3000 | row->above },
			  { .address = 0x3000 } },
	};

	assert_int_equal(walk_memory_type(&plain, &result), row->page);
	if (row->mode == PAGING_OFF)
		return;
	assert_int_equal(walk_step_memory_type(&plain, &cpu, &access, &result, 0), row->top);
	assert_int_equal(walk_step_memory_type(&plain, &cpu, &access, &result, 1), row->second);
}

/* The MTRRs are asked for where the entry lies, and where the page lies. */
static void test_places(void **state)
{
	struct memory_type_registers registers = {
		.pat = WB, .mtrrcap = CAP, .def_type = E | WB,
		.variable = { RANGE(0x1000, 0x1000, WT), RANGE(0x7000, 0x1000, WP) },
	};
	struct walk_cpu cpu = { .cr3 = 0x1000 };
	struct walk_access access = { .address = 0 };
	struct walk_result result = {
		.mode = PAGING_32_BIT, .physical = 0x7abc, .steps = 2,
		.step = { { .address = 0x1ffc }, { .address = 0x3000 } },
	};

	(void)state;
	assert_int_equal(walk_memory_type(&registers, &result), WP);
	assert_int_equal(walk_step_memory_type(&registers, &cpu, &access, &result, 0), WT);
	assert_int_equal(walk_step_memory_type(&registers, &cpu, &access, &result, 1), WB);
}

#define TESTS (ARRAY_SIZE(combinations) + ARRAY_SIZE(lookups) + ARRAY_SIZE(selections) + 2)

int main(void)
{
	static struct CMUnitTest tests[TESTS];
	static char names[ARRAY_SIZE(lookups)][80];
	u32 count = 0, i;

	for (i = 0; i < ARRAY_SIZE(combinations); i++)
		tests[count++] = (struct CMUnitTest){ combinations[i].fact, test_combination,
						      NULL, NULL, (void *)&combinations[i] };
	for (i = 0; i < ARRAY_SIZE(lookups); i++) {
		snprintf(names[i], sizeof(names[i]), "mem.mtrr.range: %s", lookups[i].says);
		tests[count++] = (struct CMUnitTest){ names[i], test_lookup, NULL, NULL,
						      (void *)&lookups[i] };
	}
	for (i = 0; i < ARRAY_SIZE(selections); i++)
		tests[count++] = (struct CMUnitTest){ selections[i].fact, test_selection,
						      NULL, NULL, (void *)&selections[i] };
	tests[count++] = (struct CMUnitTest){ "mem.mtrr.wt: where an entry lies, where a page lies",
					      test_places, NULL, NULL, NULL };
	tests[count++] = (struct CMUnitTest){ "mem.pat.bad_type: no type comes of none",
					      test_no_types, NULL, NULL, NULL };
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("memory_type", tests, count, NULL, NULL) ? 1 : 0;
}
