/*
 * The paging model (lib/x86/mmu/walk.c) on the host: one test per rule of spec/paging.csv.
 *
 * The rules are the rows of walk_vectors.def. A row says what differs from a plain world: a page
 * that everybody may read, write and execute, translated by one entry per level. It is tried in
 * every paging mode that it names, at every level, and bit by bit where it says so. Expected
 * values are literals, or come from the little table of worlds below: nothing here computes
 * what the model computes.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mmu/walk.h"
#include "sdm/bits.h"

/* Bits of entries. */
#define P	BIT(0)
#define RW	BIT(1)
#define US	BIT(2)
#define PWT	BIT(3)
#define PCD	BIT(4)
#define A	BIT(5)
#define D	BIT(6)
#define PS	BIT(7)
#define G	BIT(8)
#define XD	BIT(63)
#define PAT_4K		BIT(7)
#define PAT_LARGE	BIT(12)
#define KEY(n)		((u64)(n) << 59)

/* The paging structure of a level lies here. */
#define TABLE(level)	((u64)(level) << 20 | 0xff000)

#define LEVELS		(WALK_MAX_LEVELS + 1)	/* arrays by level; 0 is not used */

static const struct world {
	const char *name;
	u32 levels, entry_size;
	u64 address;
	u64 cr0, cr4, efer;
	u64 at[LEVELS];			/* offset of the entry that translates `address` */
	u64 physical[LEVELS];		/* of `address`, by the level that maps the page */
	u64 page_size[LEVELS];
} worlds[PAGING_MODES] = {
	[PAGING_OFF] = {
		"no paging", 0, 0, 0x80604678, CR0_PE, 0, 0,
		.physical = { [1] = 0x80604678 },
	},
	[PAGING_32_BIT] = {
		"32-bit", 2, 4, 0x80604678, CR0_PE | CR0_PG, 0, 0,
		.at = { 0, 0x810, 0x804 },
		.physical = { 0, 0x0dabc678, 0x0da04678 },
		.page_size = { 0, 0x1000, 0x400000 },
	},
	[PAGING_PAE] = {
		"PAE", 2, 8, 0x80604678, CR0_PE | CR0_PG, CR4_PAE, 0,
		.at = { 0, 0x020, 0x018 },
		.physical = { 0, 0x0dabc678, 0x0d804678 },
		.page_size = { 0, 0x1000, 0x200000 },
	},
	[PAGING_4_LEVEL] = {
		"4-level", 4, 8, 0x0000028080604678, CR0_PE | CR0_PG, CR4_PAE, EFER_LME,
		.at = { 0, 0x020, 0x018, 0x010, 0x028 },
		.physical = { 0, 0x0dabc678, 0x0d804678, 0x40604678 },
		.page_size = { 0, 0x1000, 0x200000, 0x40000000 },
	},
	[PAGING_5_LEVEL] = {
		"5-level", 5, 8, 0x0006028080604678, CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME,
		.at = { 0, 0x020, 0x018, 0x010, 0x028, 0x030 },
		.physical = { 0, 0x0dabc678, 0x0d804678, 0x40604678 },
		.page_size = { 0, 0x1000, 0x200000, 0x40000000 },
	},
};

/* The page, by the level of the entry that maps it. */
static const u64 frame[LEVELS] = { 0, 0x0dabc000, 0x0d800000, 0x40000000 };

/* Sets of modes, and of levels. */
#define OFF		BIT(PAGING_OFF)
#define M32		BIT(PAGING_32_BIT)
#define PAE		BIT(PAGING_PAE)
#define L4		BIT(PAGING_4_LEVEL)
#define L5		BIT(PAGING_5_LEVEL)
#define LONG		(L4 | L5)
#define WIDE		(PAE | LONG)
#define ALL		(M32 | WIDE)
#define AT(level)	BIT(level)
#define LEAF		BIT(8)		/* the entry that maps the page */
#define TABLES		BIT(9)		/* the entries above it */
#define EVERY		(LEAF | TABLES)

enum without { NO_1G = 1, NO_PSE36 = 2, NO_PAT = 4 };

struct vector {
	const char *fact, *says;
	u64 modes;
	/* Entries: the level of the leaf (0: 1), and what differs from the plain world. */
	u32 leaf;
	u64 set[LEVELS], clear[LEVELS];
	u64 levels;			/* tried at one level after the other: */
	u64 add, drop;			/* bits to set, to clear in that entry */
	bool each;			/* set the bits of `add` one after the other */
	u64 pdpte;			/* instead of the usual one, unless 0 */
	u64 high;			/* in the address of every paging structure */
	/* Another address: where its entries lie, which PDPTE. */
	bool elsewhere;
	u64 address, at[LEVELS];
	u32 pdpte_index;
	/* The processor: MAXPHYADDR (0: 46), bits to change. */
	u32 physical_bits;
	u64 cr0_off, cr3, cr4, efer_off;
	u32 pkru, pkrs;
	u32 without;
	bool cet_ss, ac;
	/* The access. */
	u32 cpl;
	enum access kind;
	bool implicit, shadow_stack, wruss;
	/* What comes of it. */
	enum walk_kind outcome;
	u32 error;
	u32 used;			/* entries used before the fault, unless `levels` tells */
	const char *rights;		/* of the translation: letters of "uwxg"; none: "uwx" */
	u64 physical;			/* 0: as in the plain world */
	bool moves;			/* the bit of `add` is one of the physical address */
	bool open;			/* a write that may set D or not */
	u32 pat_index, key;
};

#define USER		.cpl = 3
#define WRITE		.kind = ACCESS_WRITE
#define FETCH		.kind = ACCESS_FETCH
#define IMPLICIT	.implicit = true
#define STACK		.shadow_stack = true, .cet_ss = true
#define FAULT(bits)	.outcome = WALK_PAGE_FAULT, .error = (bits)
#define NOT_CANONICAL	.outcome = WALK_NOT_CANONICAL
#define VECTOR(fact, says, ...) { fact, says, __VA_ARGS__ },

static const struct vector vectors[] = {
#include "walk_vectors.def"
};

/* One trial of a vector. */
struct trial {
	const struct vector *vector;
	enum paging_mode mode;
	const struct world *world;
	u32 leaf, level;		/* level: of the entry that is changed, 0: none */
	u64 add;
	struct walk_cpu cpu;
	u64 address;
	u64 entry[LEVELS], place[LEVELS];
};

#define CHECK(trial, what, got, wanted) check(trial, what, got, wanted, __LINE__)

static void check(const struct trial *trial, const char *what, u64 got, u64 wanted, int line)
{
	if (got == wanted)
		return;
	print_error("%s, leaf at level %u, level %u, bits %#llx: %s: got %#llx, wanted %#llx\n",
		    trial->world->name, trial->leaf, trial->level, (unsigned long long)trial->add,
		    what, (unsigned long long)got, (unsigned long long)wanted);
	_fail(__FILE__, line);
}

/* Memory holds the entries of the trial, and zeros. */
static u64 read_entry(void *memory, u64 address, u32 size)
{
	const struct trial *trial = memory;
	u32 level;

	CHECK(trial, "size of a read", size, trial->world->entry_size);
	for (level = trial->world->levels; level; level--)
		if (trial->place[level] == address)
			return trial->entry[level];
	return 0;
}

static void prepare_entries(struct trial *trial)
{
	const struct vector *vector = trial->vector;
	u32 level;

	for (level = trial->world->levels; level; level--) {
		u64 entry = P | RW | US;

		entry |= level == trial->leaf ? frame[level] : TABLE(level - 1) | vector->high;
		if (level == trial->leaf && level > 1)
			entry |= PS;
		entry = (entry & ~vector->clear[level]) | vector->set[level];
		if (level == trial->level)
			entry = (entry & ~vector->drop) | trial->add;
		trial->entry[level] = trial->world->entry_size == 4 ? (u32)entry : entry;
		trial->place[level] = TABLE(level) + vector->high;
		trial->place[level] += (vector->elsewhere ? vector->at : trial->world->at)[level];
	}
}

static void prepare(struct trial *trial)
{
	const struct vector *vector = trial->vector;
	const struct world *world = trial->world;

	prepare_entries(trial);
	trial->address = vector->elsewhere ? vector->address : world->address;
	trial->cpu = (struct walk_cpu){
		.cr0 = (world->cr0 | CR0_WP) & ~vector->cr0_off,
		.cr3 = TABLE(world->levels) | vector->high | vector->cr3| vector->cr3,
		.cr4 = world->cr4 | vector->cr4,
		.efer = (world->efer | EFER_NXE) & ~vector->efer_off,
		.rflags = RFLAGS_FIXED | (vector->ac ? RFLAGS_AC : 0),
		.pkru = vector->pkru,
		.pkrs = vector->pkrs,
		.cpl = vector->cpl,
		.physical_bits = vector->physical_bits ? vector->physical_bits : 46,
		.pages_1g = !(vector->without & NO_1G),
		.pse36 = !(vector->without & NO_PSE36),
		.pat = !(vector->without & NO_PAT),
		.cet_ss = vector->cet_ss,
	};
	trial->cpu.pdpte[vector->elsewhere ? vector->pdpte_index : 2] =
		vector->pdpte ? vector->pdpte : TABLE(2) | vector->high | P;
}

static void check_translation(const struct trial *trial, const struct walk_result *result)
{
	const struct vector *vector = trial->vector;
	const char *wanted = vector->rights ? vector->rights : "uwx";
	u64 physical = vector->physical ? vector->physical : trial->world->physical[trial->leaf];
	char rights[8];

	snprintf(rights, sizeof(rights), "%s%s%s%s", result->user_address ? "u" : "",
		 result->writable ? "w" : "", result->executable ? "x" : "",
		 result->global ? "g" : "");
	if (strcmp(rights, wanted)) {
		print_error("rights: got \"%s\", wanted \"%s\"\n", rights, wanted);
		CHECK(trial, "rights", 1, 0);
	}
	CHECK(trial, "physical address", result->physical,
	      vector->moves ? physical | trial->add : physical);
	CHECK(trial, "page size", result->page_size, trial->world->page_size[trial->leaf]);
	CHECK(trial, "PAT index", result->pat_index, vector->pat_index);
	CHECK(trial, "protection key", result->protection_key, vector->key);
}

/* How many entries the walk must have used. */
static u32 entries_used(const struct trial *trial)
{
	const struct vector *vector = trial->vector;

	if (vector->outcome == WALK_NOT_CANONICAL || trial->mode == PAGING_OFF)
		return 0;
	if (vector->outcome == WALK_DONE || (vector->error & (PF_P | PF_RSVD)) == PF_P)
		return trial->world->levels - trial->leaf + 1;
	return vector->used || !trial->level ? vector->used : trial->world->levels - trial->level;
}

static void check_steps(const struct trial *trial, const struct walk_result *result)
{
	const struct vector *vector = trial->vector;
	u32 i;

	CHECK(trial, "entries used", result->steps, entries_used(trial));
	for (i = 0; i < result->steps; i++) {
		const struct walk_step *step = &result->step[i];
		u32 level = trial->world->levels - i;
		u64 must = A, may = 0;

		if (level == trial->leaf && vector->kind == ACCESS_WRITE)
			*(vector->open ? &may : &must) |= D;
		CHECK(trial, "level of the entry", step->level, level);
		CHECK(trial, "address of the entry", step->address, trial->place[level]);
		CHECK(trial, "value of the entry", step->value, trial->entry[level]);
		CHECK(trial, "flags that must be set", step->must_set,
		      vector->outcome == WALK_DONE ? must : 0);
		CHECK(trial, "flags that may be set", step->may_set,
		      vector->outcome == WALK_DONE ? may : A);
	}
}

static void try(struct trial *trial)
{
	const struct vector *vector = trial->vector;
	struct walk_access access = {
		.kind = vector->kind,
		.implicit = vector->implicit,
		.shadow_stack = vector->shadow_stack,
		.wruss = vector->wruss,
	};
	struct walk_result result;

	prepare(trial);
	access.address = trial->address;
	result = walk(&trial->cpu, &access, read_entry, trial);
	CHECK(trial, "mode", result.mode, trial->mode);
	CHECK(trial, "outcome", result.kind, vector->outcome);
	CHECK(trial, "error code", result.error_code, vector->error);
	if (vector->outcome == WALK_DONE)
		check_translation(trial, &result);
	check_steps(trial, &result);
}

static bool wants(const struct trial *trial, u32 level)
{
	u64 levels = trial->vector->levels;

	return levels & AT(level) || (levels & LEAF && level == trial->leaf) ||
	       (levels & TABLES && level > trial->leaf);
}

/* Every combination of mode, level and bit that the row names. */
static void test_vector(void **state)
{
	const struct vector *vector = *state;
	struct trial trial = { .vector = vector, .leaf = vector->leaf ? vector->leaf : 1 };
	u32 trials = 0, bit;

	for (trial.mode = 0; trial.mode < PAGING_MODES; trial.mode++) {
		trial.world = &worlds[trial.mode];
		if (!(vector->modes & BIT(trial.mode)))
			continue;
		for (trial.level = vector->levels ? trial.world->levels : 0;
		     !vector->levels || trial.level; trial.level--) {
			if (vector->levels && !wants(&trial, trial.level))
				continue;
			for (bit = 0; bit < (vector->each ? 64 : 1); bit++) {
				trial.add = vector->each ? vector->add & BIT(bit) : vector->add;
				if (vector->each && !trial.add)
					continue;
				try(&trial);
				trials++;
			}
			if (!vector->levels)
				break;
		}
	}
	assert_int_not_equal(trials, 0);
}

/* --- the other functions of the model ---------------------------------------- */

#define MASK(fact, says, mode, level, entry, wanted, ...) \
	{ fact, says, mode, level, entry, wanted, .cr4 = 0, __VA_ARGS__ }
#define PSE		.cr4 = CR4_PSE
#define NXE		.nxe = true
#define WIDTH(bits)	.physical_bits = (bits)
#define WITHOUT(what)	.without = (what)

/*
 * Which bits are reserved in a present entry. The processor has 36 address bits, PAT, PSE-36 and
 * 1-GByte pages unless the row says otherwise.
 */
static const struct mask {
	const char *fact, *says;
	enum paging_mode mode;
	u32 level;
	u64 entry;
	u64 wanted;
	u64 cr4;
	u32 without, physical_bits;
	bool nxe;
} masks[] = {
	MASK("rsvd.32.pse0", "mask of a PDE", PAGING_32_BIT, 2, PS, 0, WITHOUT(NO_PAT)),
	MASK("rsvd.32.pse0", "mask of a PTE", PAGING_32_BIT, 1, 0, 0, WITHOUT(NO_PAT)),
	MASK("rsvd.32.4m_pse36", "mask, 32", PAGING_32_BIT, 2, PS, 0x3fe000, PSE, WIDTH(32)),
	MASK("rsvd.32.4m_pse36", "mask, 36", PAGING_32_BIT, 2, PS, 0x3e0000, PSE),
	MASK("rsvd.32.4m_pse36", "mask, 39", PAGING_32_BIT, 2, PS, 0x300000, PSE, WIDTH(39)),
	MASK("rsvd.32.bit21", "mask, 40", PAGING_32_BIT, 2, PS, 0x200000, PSE, WIDTH(40)),
	MASK("rsvd.32.bit21", "mask, 52", PAGING_32_BIT, 2, PS, 0x200000, PSE, WIDTH(52)),
	MASK("rsvd.32.4m_nopse36", "mask", PAGING_32_BIT, 2, PS, 0x3fe000, PSE, WITHOUT(NO_PSE36)),
	MASK("rsvd.32.nopat", "mask of a PTE", PAGING_32_BIT, 1, 0, 0x80, PSE, WITHOUT(NO_PAT)),
	MASK("rsvd.32.nopat", "mask of 4 MBytes", PAGING_32_BIT, 2, PS, 0x3e1000, PSE,
	     WITHOUT(NO_PAT)),
	MASK("rsvd.32.pde_table", "mask", PAGING_32_BIT, 2, 0, 0, PSE, WITHOUT(NO_PAT)),
	MASK("rsvd.pae.high", "mask of a PTE", PAGING_PAE, 1, 0, 0x7ffffff000000000, NXE),
	MASK("rsvd.pae.high", "mask, 52", PAGING_PAE, 2, 0, 0x7ff0000000000000, NXE, WIDTH(52)),
	MASK("rsvd.pae.2m", "mask", PAGING_PAE, 2, PS, 0x7ffffff0001fe000, NXE),
	MASK("rsvd.pae.xd", "mask", PAGING_PAE, 2, 0, 0xfffffff000000000),
	MASK("rsvd.pae.nopat", "mask of a PTE", PAGING_PAE, 1, 0, 0x7ffffff000000080, NXE,
	     WITHOUT(NO_PAT)),
	MASK("rsvd.pae.nopat", "mask of 2 MBytes", PAGING_PAE, 2, PS, 0x7ffffff0001ff000, NXE,
	     WITHOUT(NO_PAT)),
	MASK("rsvd.pae.nopat", "mask of a table", PAGING_PAE, 2, 0, 0x7ffffff000000000, NXE,
	     WITHOUT(NO_PAT)),
	MASK("rsvd.4l.high", "mask of a PTE", PAGING_4_LEVEL, 1, 0, 0x000ffff000000000, NXE),
	MASK("rsvd.4l.high", "mask, 32", PAGING_4_LEVEL, 3, 0, 0x000fffff00000000, NXE, WIDTH(32)),
	MASK("rsvd.4l.high", "mask, 51", PAGING_4_LEVEL, 1, 0, 0x0008000000000000, NXE, WIDTH(51)),
	MASK("rsvd.4l.m52", "mask of a PTE", PAGING_5_LEVEL, 1, 0, 0, NXE, WIDTH(52)),
	MASK("rsvd.4l.m52", "mask of a PDE", PAGING_5_LEVEL, 2, 0, 0, NXE, WIDTH(52)),
	MASK("rsvd.4l.1g", "mask", PAGING_4_LEVEL, 3, PS, 0x000ffff03fffe000, NXE),
	MASK("rsvd.4l.2m", "mask", PAGING_5_LEVEL, 2, PS, 0x000ffff0001fe000, NXE),
	MASK("rsvd.4l.pdpte_ps", "mask", PAGING_4_LEVEL, 3, PS, 0x000ffff000000080, NXE,
	     WITHOUT(NO_1G)),
	MASK("rsvd.4l.pml4_ps", "mask", PAGING_5_LEVEL, 4, 0, 0x000ffff000000080, NXE),
	MASK("rsvd.5l.ps", "mask", PAGING_5_LEVEL, 5, 0, 0x000ffff000000080, NXE),
	MASK("rsvd.4l.xd", "mask", PAGING_4_LEVEL, 4, 0, 0x800ffff000000080),
	MASK("mode.off", "mask", PAGING_OFF, 1, 0, 0),
};

static void test_mask(void **state)
{
	const struct mask *mask = *state;
	struct walk_cpu cpu = {
		.cr4 = mask->cr4,
		.efer = mask->nxe ? EFER_NXE : 0,
		.physical_bits = mask->physical_bits ? mask->physical_bits : 36,
		.pages_1g = !(mask->without & NO_1G),
		.pse36 = !(mask->without & NO_PSE36),
		.pat = !(mask->without & NO_PAT),
	};

	assert_int_equal(walk_reserved(&cpu, mask->mode, mask->level, mask->entry | P),
			 mask->wanted);
}

/* Address bits are reserved from MAXPHYADDR on, for each of its values. */
static void test_each_width(void **state)
{
	struct walk_cpu cpu = { .efer = EFER_NXE, .pat = true, .pages_1g = true };
	enum paging_mode mode;
	u32 bit;

	(void)state;
	for (cpu.physical_bits = 32; cpu.physical_bits <= 52; cpu.physical_bits++)
		for (mode = PAGING_PAE; mode <= PAGING_5_LEVEL; mode++)
			for (bit = 12; bit < 52; bit++)
				assert_int_equal(walk_reserved(&cpu, mode, 1, P) >> bit & 1,
						 bit >= cpu.physical_bits);
}

static void test_pdpte_reserved(void **state)
{
	struct walk_cpu cpu = { .physical_bits = 36, .efer = EFER_NXE };

	(void)state;
	assert_int_equal(walk_pdpte_reserved(&cpu), 0xfffffff0000001e6);
	cpu.physical_bits = 52;
	assert_int_equal(walk_pdpte_reserved(&cpu), 0xfff00000000001e6);
}

static void test_mode(void **state)
{
	static const struct { u64 cr0, cr4, efer; enum paging_mode mode; } rows[] = {
		{ 0, 0, 0, PAGING_OFF },
		{ CR0_PE, CR4_PAE | CR4_LA57 | CR4_PSE, EFER_LME | EFER_NXE, PAGING_OFF },
		{ CR0_PE | CR0_PG, CR4_PSE, EFER_NXE, PAGING_32_BIT },
		{ CR0_PE | CR0_PG, CR4_LA57, 0, PAGING_32_BIT },
		{ CR0_PE | CR0_PG, CR4_PAE, EFER_NXE, PAGING_PAE },
		{ CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, 0, PAGING_PAE },
		{ CR0_PE | CR0_PG, CR4_PAE, EFER_LME, PAGING_4_LEVEL },
		{ CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME, PAGING_5_LEVEL },
	};
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct walk_cpu cpu = {
			.cr0 = rows[i].cr0, .cr4 = rows[i].cr4, .efer = rows[i].efer,
		};

		assert_int_equal(walk_mode(&cpu), rows[i].mode);
	}
}

/* An entry that references its own table serves every level, with the rules of each. */
static u64 read_own(void *memory, u64 address, u32 size)
{
	(void)size;
	return address == TABLE(4) + 0xff8 ? *(u64 *)memory : 0;
}

static void test_selfmap(void **state)
{
	u64 entry = TABLE(4) | P | RW | US;
	struct walk_cpu cpu = {
		.cr0 = CR0_PE | CR0_PG, .cr3 = TABLE(4), .cr4 = CR4_PAE, .efer = EFER_LME,
		.physical_bits = 46, .pat = true, .pages_1g = true,
	};
	struct walk_access access = { .address = 0xfffffffffffffabc };
	struct walk_result result = walk(&cpu, &access, read_own, &entry);

	(void)state;
	assert_int_equal(result.kind, WALK_DONE);
	assert_int_equal(result.physical, TABLE(4) + 0xabc);
	assert_int_equal(result.steps, 4);
	/* Bit 7 would select a PAT entry in the PTE, but is reserved in the PML4E. */
	entry |= PAT_4K;
	result = walk(&cpu, &access, read_own, &entry);
	assert_int_equal(result.kind, WALK_PAGE_FAULT);
	assert_int_equal(result.error_code, PF_P | PF_RSVD);
	assert_int_equal(result.steps, 0);
}

static const struct { const char *name; CMUnitTestFunction test; } others[] = {
	{ "rsvd.maxphyaddr: each of 32 to 52", test_each_width },
	{ "rsvd.pae.pdpte: mask", test_pdpte_reserved },
	{ "mode.select.4level: and all other modes", test_mode },
	{ "fmt.selfmap: one entry at four levels", test_selfmap },
};

#define TESTS	(ARRAY_SIZE(vectors) + ARRAY_SIZE(masks) + ARRAY_SIZE(others))

#define NAME_SIZE 120

static void name(char *text, const char *fact, const char *says)
{
	snprintf(text, NAME_SIZE, "%s%s%s", fact, *says ? ": " : "", says);
}

int main(void)
{
	static struct CMUnitTest tests[TESTS];
	static char names[TESTS][NAME_SIZE];
	u32 count = 0, i;

	for (i = 0; i < ARRAY_SIZE(vectors); i++, count++) {
		name(names[count], vectors[i].fact, vectors[i].says);
		tests[count] = (struct CMUnitTest){ names[count], test_vector, NULL, NULL,
						    (void *)&vectors[i] };
	}
	for (i = 0; i < ARRAY_SIZE(masks); i++, count++) {
		name(names[count], masks[i].fact, masks[i].says);
		tests[count] = (struct CMUnitTest){ names[count], test_mask, NULL, NULL,
						    (void *)&masks[i] };
	}
	for (i = 0; i < ARRAY_SIZE(others); i++, count++)
		tests[count] = (struct CMUnitTest){ others[i].name, others[i].test, NULL, NULL,
						    NULL };
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("walk", tests, count, NULL, NULL) ? 1 : 0;
}
