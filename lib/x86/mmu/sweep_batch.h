/* What the parts of a sweep share: mmu/sweep.c runs batches, mmu/sweep_judge.c plans and judges. */
#ifndef MMU_SWEEP_BATCH_H
#define MMU_SWEEP_BATCH_H

#include "cpu/outcome.h"
#include "mmu/sweep.h"

#define SWEEP_MISMATCHES	64	/* sorts, kept to be reported */

/* One access. Known to mmu/sweep_accesses.inc. */
struct sweep_record {
	u64 linear;
	u64 value;			/* to be written; what was read, or the code returned */
	u64 fault;			/* SWEEP_NO_FAULT, the error code of a #PF, or an outcome */
	u64 cr2, rip;			/* of a #PF */
};

#define SWEEP_NO_FAULT	(~0ull)

/* Where the loop of each kind of access begins, accesses, and goes on: mmu/sweep_accesses.inc. */
#define SWEEP_LOOP(name)	extern const u8 name[], name##_at[], name##_next[]
#define SWEEP_LOOPS(prefix)						\
SWEEP_LOOP(prefix##read);						\
SWEEP_LOOP(prefix##write);						\
SWEEP_LOOP(prefix##exchange);						\
SWEEP_LOOP(prefix##fetch);						\
SWEEP_LOOP(prefix##wrss);						\
SWEEP_LOOP(prefix##wruss);						\
SWEEP_LOOP(prefix##lsl);						\
SWEEP_LOOP(prefix##load);						\
static const struct {							\
	const u8 *start, *at, *next;					\
} loops[SWEEP_KINDS] = {						\
	[SWEEP_READ] = { prefix##read, prefix##read_at, prefix##read_next }, \
	[SWEEP_WRITE] = { prefix##write, prefix##write_at, prefix##write_next }, \
	[SWEEP_EXCHANGE] = { prefix##exchange, prefix##exchange_at, prefix##exchange_next }, \
	[SWEEP_FETCH] = { prefix##fetch, prefix##fetch_at, prefix##fetch_next }, \
	[SWEEP_WRSS] = { prefix##wrss, prefix##wrss_at, prefix##wrss_next }, \
	[SWEEP_WRUSS] = { prefix##wruss, prefix##wruss_at, prefix##wruss_next }, \
	[SWEEP_LSL] = { prefix##lsl, prefix##lsl_at, prefix##lsl_next },	\
	[SWEEP_LOAD] = { prefix##load, prefix##load_at, prefix##load_next },	\
}

/* What differs between an access and the model. */
enum sweep_aspect {
	ASPECT_OUTCOME,
	ASPECT_CR2,
	ASPECT_RIP,
	ASPECT_VALUE,
	ASPECT_DATA,
	ASPECT_TRANSLATION,		/* the model's, and where the data are */
	ASPECT_ENTRY,			/* ASPECT_ENTRY + level */
};

/* One sort of them, and the first of it. */
struct sweep_mismatch {
	u64 count;
	u32 aspect;
	u64 expected, got;
	u64 switches;
	u32 cpl;
	enum sweep_kind kind;
	u32 pkru, pkrs;
	u64 linear, before[SWEEP_LEVELS + 1];
};

/* The entries of one access: where they are, and as they were planned. */
struct sweep_slot {
	void *entry[SWEEP_LEVELS + 1];
	u64 before[SWEEP_LEVELS + 1];
};

struct sweep {
	struct sweep_record record[SWEEP_SLOTS];	/* first: mapped for user mode */
	struct sweep_slot slot[SWEEP_SLOTS];
	const struct sweep_row *row;
	struct address_space space;
	u64 root;			/* CR3 of a batch */
	void *table[SWEEP_LEVELS + 1];	/* physical; those of the slots */
	u64 *pdpt;			/* PAE paging: the four PDPTEs */
	u64 *data;			/* two frames */
	u64 plain[SWEEP_LEVELS + 1];	/* entries that allow everything */
	u64 noise[SWEEP_LEVELS + 1];	/* bits that must not matter */
	u64 access_mask;		/* of what one access reads or writes: 4 or 8 bytes */
	struct sweep_entries entries;	/* of the slot that is planned */

	/* The batch: its state, and where its theme goes on. */
	struct walk_cpu cpu;
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

/* Kinds of which the data are a descriptor, and the access is the processor's own: 5.6. */
static inline bool sweep_is_implicit(enum sweep_kind kind)
{
	return kind == SWEEP_LSL || kind == SWEEP_LOAD;
}

/* An entry; those of 32-bit paging are `narrow`: 4 bytes. */
static inline u64 sweep_get(bool narrow, const void *entry)
{
	return narrow ? *(const volatile u32 *)entry : *(const volatile u64 *)entry;
}

static inline void sweep_set(bool narrow, void *entry, u64 value)
{
	if (narrow)
		*(volatile u32 *)entry = value;
	else
		*(volatile u64 *)entry = value;
}

/*
 * 32-bit and PAE paging. Makes the tables of a new sweep, with sweep->table for
 * sweep_place_slots(); runs a batch; says where a loop finds itself at a CPL.
 */
void sweep_legacy_tables(struct sweep *sweep);
void sweep_legacy_batch(struct sweep *sweep);
u64 sweep_legacy_loop_at(const struct sweep *sweep);

/* For a new sweep with its tables and its data: where the slots are. */
void sweep_place_slots(struct sweep *sweep);

/* Judges the batch that ran, if one did, and plans the next of sweep->kind. For run_at_cpl(). */
void sweep_step(void *sweep);

/* Fails the case with what sweep->mismatch holds. */
void sweep_report(const struct sweep *sweep);

#endif
