/* What the parts of a sweep share: mmu/sweep.c runs batches, mmu/sweep_judge.c plans and judges. */
#ifndef MMU_SWEEP_BATCH_H
#define MMU_SWEEP_BATCH_H

#include "cpu/outcome.h"
#include "mmu/sweep.h"

#define SWEEP_MISMATCHES	6	/* kept to be reported */

/* One access. Known to mmu/sweep_loop.S. */
struct sweep_record {
	u64 linear;
	u64 value;			/* to be written; what was read, or what the code returned */
	u64 fault;			/* SWEEP_NO_FAULT, the error code of a #PF, or an outcome */
	u64 cr2, rip;			/* of a #PF */
};

#define SWEEP_NO_FAULT	(~0ull)

/* What differs between an access and the model. */
enum sweep_aspect {
	ASPECT_OUTCOME,
	ASPECT_CR2,
	ASPECT_RIP,
	ASPECT_VALUE,
	ASPECT_DATA,
	ASPECT_ENTRY,			/* ASPECT_ENTRY + level */
};

struct sweep_mismatch {
	u32 aspect;
	u64 expected, got;
	u64 switches;
	u32 cpl;
	enum sweep_kind kind;
	u32 pkru, pkrs;
	u64 linear, before[LEVEL_PML4E + 1];
};

/* The entries of one access: where they are, and as they were planned. */
struct sweep_slot {
	u64 *entry[LEVEL_PML4E + 1];
	u64 before[LEVEL_PML4E + 1];
};

struct sweep {
	struct sweep_record record[SWEEP_SLOTS];	/* first: mapped for user mode */
	struct sweep_slot slot[SWEEP_SLOTS];
	const struct sweep_row *row;
	struct address_space space;
	u64 *table[LEVEL_PML4E + 1];
	u64 *data;
	u64 plain[LEVEL_PML4E + 1];	/* entries that allow everything */
	u64 noise[LEVEL_PML4E + 1];	/* bits that must not matter */

	/* The batch: its state, and where its theme goes on. */
	struct walk_cpu cpu;
	u64 switches;
	enum sweep_kind kind;
	u64 loop_at;			/* RIP of a fault in the loop */
	u64 next;
	u32 count;			/* slots in use */

	u32 percent;
	u64 random;
	u64 possible, checked, differ;
	u32 mismatch_count;
	struct sweep_mismatch mismatch[SWEEP_MISMATCHES];
};


/* For a new sweep with its tables and its data: where the slots are. */
void sweep_place_slots(struct sweep *sweep);

/* Judges the batch that ran, if one did, and plans the next of sweep->kind. For run_at_cpl(). */
void sweep_step(void *sweep);

/* Fails the case with what sweep->mismatch holds. */
void sweep_report(const struct sweep *sweep);

#endif
