/*
 * Sweeps: very many accesses through paging of any mode, each with paging-structure entries of its
 * own, each judged by the model (mmu/walk.h).
 *
 * A sweep is the product of everything in a struct sweep_row: register states, privilege levels,
 * kinds of access, and the sets of entries of a theme. It runs in batches of SWEEP_SLOTS accesses
 * that share the first three factors. A batch has three steps:
 *
 *	plan	every slot gets fresh entries, one per level, and fresh data; nothing is cached of
 *		its linear address, for no access has used it since CR3 was loaded
 *	run	a loop of a few instructions makes the accesses and notes what came of each
 *	judge	every slot's outcome, CR2, RIP, data and entries are compared with the model's
 *
 * All slots use the same tables (one of each level) and two frames of data in turn: slot i has
 * another entry of each table, not the same in two of them, and bytes 16 * i and up of its frame.
 * So an accessed or dirty flag belongs to one access, and a processor that uses a wrong entry,
 * frame or offset shows.
 *
 * Planning and judging run at CPL 3, though they need no privilege of any kind: on a hypervisor
 * that interprets supervisor code that alone makes a sweep affordable. What the accesses at CPL 3
 * need (loop, records, stack) is mapped once more for user mode; all else is for supervisor mode,
 * so that SMEP and SMAP can be on. 5-level paging is in use for a sweep as a whole; 32-bit and PAE
 * paging only while a batch runs, in 32-bit code (mmu/sweep_legacy.c).
 */
#ifndef MMU_SWEEP_H
#define MMU_SWEEP_H

#include "mmu/build.h"
#include "mmu/walk.h"

#define SWEEP_SLOTS	256

/* What a state of the registers is made of; those that the processor lacks are left out. */
#define SWEEP_WP	BIT(0)		/* CR0.WP */
#define SWEEP_NXE	BIT(1)		/* IA32_EFER.NXE */
#define SWEEP_SMEP	BIT(2)		/* CR4.SMEP */
#define SWEEP_SMAP	BIT(3)		/* CR4.SMAP */
#define SWEEP_AC	BIT(4)		/* EFLAGS.AC */
#define SWEEP_PGE	BIT(5)		/* CR4.PGE */
#define SWEEP_PKE	BIT(6)		/* CR4.PKE */
#define SWEEP_PKS	BIT(7)		/* CR4.PKS */
#define SWEEP_KEYS_1	BIT(8)		/* these two: which of four values in PKRU and IA32_PKRS */
#define SWEEP_KEYS_2	BIT(9)
#define SWEEP_PSE	BIT(10)		/* CR4.PSE */
#define SWEEP_CET	BIT(11)		/* CR4.CET, all of CPL 3's shadow stack; wants SWEEP_WP */

enum sweep_kind {
	SWEEP_READ,			/* MOV from memory */
	SWEEP_WRITE,			/* MOV to memory */
	SWEEP_EXCHANGE,			/* XCHG: read and written, which counts as a write */
	SWEEP_FETCH,			/* CALL of two instructions that return a number */
	SWEEP_WRSS,			/* WRSS: user shadow-stack write, CPL 3 with SWEEP_CET */
	SWEEP_WRUSS,			/* WRUSS: the same, for CPL 0 with SWEEP_CET */
	SWEEP_LSL,			/* LSL: implicitly reads a descriptor */
	SWEEP_LOAD,			/* MOV to ES: implicit read of one; sets accessed flag */
	SWEEP_KINDS,
};

#define SWEEP_ALL_KINDS	(BIT(SWEEP_FETCH + 1) - 1)	/* that need no feature */
#define SWEEP_LEVELS	LEVEL_PML5E

struct sweep_row;

/* Where and how a theme changes the entries of one access. */
struct sweep_entries {
	const struct sweep_row *row;
	enum paging_level top;		/* sweep_top(row) */
	u32 physical_bits;		/* MAXPHYADDR */
	u64 switches;			/* of the state */
	u64 random;			/* of this access, from the seed of the run */
	u64 entry[SWEEP_LEVELS + 1];	/* by level, from row->size up */
};

/*
 * A family of entry sets, numbered from 0 to count(row) - 1. change() gets entries that allow
 * everything, with noise in all bits that must not matter, and makes set `index` of them; false: it
 * has no such set here, e.g. because the bits would select other memory.
 */
struct sweep_theme {
	u64 (*count)(const struct sweep_row *row);
	bool (*change)(struct sweep_entries *entries, u64 index);
};

struct sweep_row {
	const struct sweep_theme *theme;
	enum paging_level size;		/* of the entry that maps the page */
	enum paging_level level;	/* the entry that is tested, for themes that test one */
	enum paging_mode mode;
	bool upper_half;		/* all linear addresses in the upper half, from its first */
	u64 switches[8];		/* SWEEP_...: every subset of these masks is a state */
	u64 always;			/* SWEEP_...: in every state */
	/* Masks: BIT(0) to BIT(3), without 4 levels only 0 and 3; BIT(enum sweep_kind). */
	u32 cpls;
	u32 kinds;
};

/* 32-bit and PAE paging; the PDPTEs of the latter are registers, and no level here. */
static inline bool sweep_is_legacy(const struct sweep_row *row)
{
	return row->mode == PAGING_32_BIT || row->mode == PAGING_PAE;
}

/* The level of the entries that a translation begins with. */
static inline enum paging_level sweep_top(const struct sweep_row *row)
{
	if (sweep_is_legacy(row))
		return LEVEL_PDE;
	return row->mode == PAGING_5_LEVEL ? LEVEL_PML5E : LEVEL_PML4E;
}

/* How many entries a translation of the row uses. */
static inline u32 sweep_levels(const struct sweep_row *row)
{
	return sweep_top(row) - row->size + 1;
}

/* Bits of a linear address below those that select an entry of `level`. */
static inline u32 sweep_shift(const struct sweep_row *row, enum paging_level level)
{
	return 12 + (level - 1) * (row->mode == PAGING_32_BIT ? 10 : 9);
}

/*
 * Runs the sweep, or the part of it that the platform asks for (struct platform, sweep_percent),
 * prints a # line that says how many accesses were checked, and fails the case where the
 * processor and the model differ.
 */
void sweep_run(const struct sweep_row *row);

#endif
