/*
 * Shadow paging: what the files mmu_shadow*.c share.
 *
 * With EPT off the processor walks tables of the core, from guest-linear to host-physical
 * addresses. They have the format of the guest's own mode, and a shadow table is what one table of
 * the guest comes to: entry by entry, filled in when an access needs it. So it serves every address
 * space that the guest's table is part of, and stays when the guest loads another CR3.
 *
 *	mmu_shadow.c		the seam to the core (struct hv_mmu); which tables a vCPU uses
 *	mmu_shadow_fault.c	a page fault: the model judges, then one path of entries is made
 *	mmu_shadow_fill.c	from the model's translation to entries
 *	mmu_shadow_sync.c	what the guest writes to its tables, and when that has to be seen
 *	mmu_shadow_tables.c	the cache of shadow tables: find, make, free, reclaim
 *	mmu_shadow_entries.c	their entries, and the lists that those are in
 *
 * All of a table's entries but those of the last level allow everything; the last one has the
 * rights of the whole translation, as the model says them. So a table that is reached with
 * different rights has a shadow for each.
 */
#ifndef HV_MMU_SHADOW_H
#define HV_MMU_SHADOW_H

#include "hv/internal.h"
#include "mmu/build.h"

#define SHADOW_MAX_LEVEL	5
#define SHADOW_MAX_ENTRIES	1024	/* of a table of 32-bit paging; else 512 */
#define SHADOW_MAX_VCPUS	32
#define SHADOW_BLOCKS		512
#define SHADOW_PER_BLOCK	32
#define SHADOW_BUCKETS		1024
#define SHADOW_MAX_STEPS	4
#define SHADOW_MAX_REFUSALS	4

/* Tables that one instruction can need, so that it comes to an end: struct hv_mmu's min_pages. */
#define SHADOW_MIN_TABLES	40
#define SHADOW_MIN_PAGES	(4 * SHADOW_MIN_TABLES + SHADOW_MIN_TABLES / SHADOW_MAX_LEVEL + 7)

/* What makes two shadows of the same frame different ones. */
struct shadow_role {
	enum paging_mode mode;
	u32 level;
	/*
	 * The table maps guest-physical memory in one piece: without paging, or below an entry that
	 * maps a large page. Then `frame` is guest-physical; else it is the host's frame of the
	 * table.
	 */
	bool direct;
	bool user, writable, executable;	/* rights above it; with `direct`, all of them */
	/* The large page is: 5.8. With `writable` 0 it may be written all the same. */
	bool dirty;
	bool shadow_stack;		/* the large page is one of shadow stack: 5.6.1 */
	bool write_protect_off;	/* supervisor pages stand in for read-only ones: shadow_fill() */
	bool pse, nxe;			/* CR4.PSE and EFER.NXE decide what an entry means */
	u8 protection_key, pat_index;	/* of the large page */
	u64 frame;
};

/* A role in one word. */
typedef u64 shadow_key;
#define SHADOW_KEY_DIRECT	BIT(6)
#define SHADOW_KEY_FRAME(key)	((key) >> 23)
#define SHADOW_KEY_OF_FRAME(frame)	((shadow_key)(frame) << 23)

/* One entry of one table: 0, or number of the table * 1024 + number of the entry. */
typedef u32 shadow_ref;

struct shadow_table {
	shadow_key key;		/* 0: free */
	void *entries;		/* the page for the processor */
	void *seen;		/* the guest's entries that those were made from; NULL: direct */
	/*
	 * By entry: the ones behind and before it in the list that it is in. A present entry is in
	 * one list: of the last level, in that of all that map the frame (struct shadow, `mapped`);
	 * else in `parents` of the table that it refers to.
	 */
	shadow_ref *next_entry, *last_entry;
	u32 *children;		/* the tables that the entries refer to; NULL at the last level */
	shadow_ref parents;
	u32 next, before;	/* in its bucket; `next`: or among the free ones */
	u32 newer, older;	/* in the order of their last use; 0: none */
	u32 next_behind, before_behind;	/* `behind`: among those */
	u16 present;		/* entries */
	u8 roots;		/* vCPUs whose root it is */
	/* The guest may have written to its table: `entries` must be compared before they count. */
	bool behind;
};

/* 1024 lists of entries, for as many frames side by side: the number of their page, 0 for none. */
struct shadow_lists {
	u32 page : 20, used : 12;	/* lists that are not empty, and those who hold it */
};

/* One vCPU's part: which table CR3 refers to. */
struct shadow_vcpu {
	struct hv_vcpu *vcpu;
	void *nothing;		/* a table without entries, for a CR3 that leads nowhere */
	u32 root;		/* 0: `nothing`, until the next fault looks for the right one */
	/* Pages that the instruction at step_rip may write to, and no other: shadow_step(). */
	u64 step[SHADOW_MAX_STEPS], step_rip;
	u32 steps;
	/* The access that was refused last although it had its entries, and how often. */
	u64 refused_at, refused_rip, refused_exit;
	u32 refusals;
};

struct shadow {
	struct shadow_vcpu vcpus[SHADOW_MAX_VCPUS];
	u32 vcpu_count;
	u32 numbers;		/* of tables given out so far; number 0 is none */
	u32 free, behind;	/* first of a list */
	u32 newest, oldest;
	u32 tables;		/* in use */
	bool stale;		/* the processor may have cached what is gone */
	bool uses_vpids;
	bool written_unseen;	/* user space has run: it writes to guest memory unseen */
	struct hv_widths widths;	/* by which the guest's tables were read */
	u64 reclaimed;		/* tables so far */
	u32 *buckets;		/* tables by frame */
	struct shadow_lists *mapped;	/* entries of the last level by host frame */
	struct shadow_table **blocks;
};

static inline struct shadow *shadow_of(struct hv_vm *vm)
{
	return vm->mmu_data;
}

/* --- mmu_shadow_tables.c ------------------------------------------------------------ */

/* Takes what every VM needs from the pool. -ENOMEM. */
int shadow_create(struct hv_vm *vm);
/* Gives that back, however far shadow_create() has come; there are no tables any more. */
void shadow_destroy(struct hv_vm *vm);

shadow_key shadow_key_of(const struct shadow_role *role);
enum paging_mode shadow_mode(const struct shadow_table *table);
u32 shadow_level(const struct shadow_table *table);
u32 shadow_entries(const struct shadow_table *table);
/* Number of the entry of `table` that translates `linear`. */
u32 shadow_index(const struct shadow_table *table, u64 linear);

struct shadow_table *shadow_at(const struct shadow *shadow, u32 number);
/* The table with that role, 0 where there is none. shadow_make() makes it; 0: the pool is empty. */
u32 shadow_find(struct shadow *shadow, shadow_key key);
u32 shadow_make(struct hv_vm *vm, shadow_key key);
/* The next table after `number` that stands for the guest's table in `frame`; 0: no more. */
u32 shadow_next_of_frame(const struct shadow *shadow, u64 frame, u32 number);
/* The table has been used. */
void shadow_touch(struct shadow *shadow, u32 number);
/* Frees a table and all entries that refer to it; a vCPU whose root it is looks for another. */
void shadow_free(struct hv_vm *vm, u32 number);
void shadow_free_all(struct hv_vm *vm);
/* Frees the table that has not been used for longest; false: there is none. */
bool shadow_reclaim(struct hv_vm *vm);
/* The guest may no longer have written to its table: takes it out of shadow->behind. */
void shadow_no_longer_behind(struct shadow *shadow, u32 number);

/* Without paging the tables are those of 32-bit paging. */
static inline bool shadow_is_32_bit(shadow_key key)
{
	return FIELD(key, 5, 3) == PAGING_32_BIT || FIELD(key, 5, 3) == PAGING_OFF;
}

/* --- mmu_shadow_entries.c --------------------------------------------------------------- */

/* Entries as a quadword, whatever the table's format. */
u64 shadow_get(const struct shadow_table *table, u32 index);
/* The guest's entry, from guest memory; as seen; and notes one as seen. */
u64 shadow_guest_entry(const struct shadow_table *table, u32 index);
u64 shadow_seen(const struct shadow_table *table, u32 index);
void shadow_see(struct shadow_table *table, u32 index, u64 entry);
/*
 * Replaces an entry. `to`: the table that it refers to, 0 at the last level; there the list of the
 * new entry's frame must be held.
 */
void shadow_set(struct hv_vm *vm, u32 number, u32 index, u64 entry, u32 to);
/*
 * The memory for the list of that frame stays until it is let go of. Making room for it may take
 * any table; false: there is no room.
 */
bool shadow_hold_list(struct hv_vm *vm, u64 frame);
void shadow_let_go_of_list(struct hv_vm *vm, u64 frame);
/* Changes the flags of an entry that maps a page. */
void shadow_change(struct shadow *shadow, shadow_ref ref, u64 entry);
/* An entry that maps `frame` and has its dirty flag set, without which nobody writes; 0: none. */
shadow_ref shadow_writable_mapping(const struct shadow *shadow, u64 frame);
/* The entry itself. */
static inline u64 shadow_entry(const struct shadow *shadow, shadow_ref ref)
{
	return shadow_get(shadow_at(shadow, ref / SHADOW_MAX_ENTRIES), ref % SHADOW_MAX_ENTRIES);
}

/* The table that an entry refers to, 0 when it is not present. */
static inline u32 shadow_child(const struct shadow_table *table, u32 index)
{
	return table->children ? table->children[index] : 0;
}

/* --- mmu_shadow_sync.c ------------------------------------------------------------------ */

/* Whether `frame` of the host holds a table of the guest whose writes have to be seen. */
bool shadow_is_guarded(const struct shadow *shadow, u64 frame);
/* From now on the guest may write to the tables in `frame`; their shadows are behind. */
void shadow_fall_behind(struct shadow *shadow, u64 frame);
/* Takes away the right to write to `frame`. */
void shadow_guard(struct hv_vm *vm, u64 frame);
/* The guest invalidates translations: what it has changed counts. */
void shadow_catch_up(struct hv_vm *vm);
/* The processor forgets what it has cached, if any of it is gone. */
void shadow_settle(struct hv_vm *vm);

/* --- mmu_shadow_fill.c ---------------------------------------------------------------------- */

enum shadow_filled {
	SHADOW_CHANGED,		/* the access will find another entry than it found */
	SHADOW_SAME,		/* all was as it should be */
	SHADOW_NO_ROOM,
};

/* Whether an entry can stand in for CR0.WP = 0 until somebody else uses the page: see there. */
bool shadow_can_stand_in(const struct walk_cpu *cpu);
/* Makes the entries for an access that the model allows. `slot`: the one it goes to. */
enum shadow_filled shadow_fill(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear,
			       enum access kind, const struct walk_cpu *cpu,
			       const struct walk_result *result, struct hv_slot *slot,
			       bool stand_in);
/* Drops the entry of the page at `linear`, and one above it that the guest has changed. */
void shadow_forget(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear);
/* Allows the next instruction to write to the page at `linear` with supervisor rights. */
bool shadow_step(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear);
void shadow_step_over(struct hv_vcpu *vcpu);

/* --- mmu_shadow_fault.c, mmu_shadow.c ------------------------------------------------------- */

enum hv_mmu_fault shadow_fault(struct hv_vcpu *vcpu);
/* Points GUEST_CR3 to the tables for the guest's registers. */
void shadow_load_root(struct hv_vcpu *vcpu, struct shadow_vcpu *own);
/* The vCPUs with that root look for another at their next page fault. */
void shadow_drop_root(struct shadow *shadow, u32 number);

#endif
