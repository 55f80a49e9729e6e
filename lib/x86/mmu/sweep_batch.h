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

struct sweep {
	struct sweep_record record[SWEEP_SLOTS];	/* first: mapped for user mode */
	u64 before[SWEEP_SLOTS][LEVEL_PML4E + 1];	/* the entries, as planned */
	const struct sweep_row *row;
	struct address_space space;
	u64 *table[LEVEL_PML4E + 1];
	u64 *data;

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

/* The entry of `level` that slot `slot` has. */
static inline u32 sweep_index(enum paging_level level, u32 slot)
{
	static const struct {
		u16 factor, first;
	} place[] = {
		[LEVEL_PTE] = { 149, 23 }, [LEVEL_PDE] = { 91, 11 }, [LEVEL_PDPTE] = { 37, 5 },
		/* The middle of the PML4 table: both halves of the linear address space. */
		[LEVEL_PML4E] = { 1, 128 },
	};

	return (slot * place[level].factor + place[level].first) % 512;
}

/* Judges the batch that ran, if one did, and plans the next of sweep->kind. For run_at_cpl(). */
void sweep_step(void *sweep);

/* Fails the case with what sweep->mismatch holds. */
void sweep_report(const struct sweep *sweep);

#endif
