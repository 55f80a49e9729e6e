/*
 * Shadow paging: the entries of shadow tables, and the lists that tell who maps or refers to what.
 *
 * A present entry is in one list. All of them are rings in both directions, so that an entry joins
 * or leaves in a few instructions, however many others map the same page: the guest chooses how
 * many. For the same reason each frame of the host has a list of its own. 1024 frames have their
 * lists in a page of the pool, which is there as long as one of them is mapped; guest memory is
 * below 4 GBytes (hv.h), so there are 1024 such pages at most, and shadow->mapped refers to them.
 */
#include "hv/mmu_shadow.h"
#include "mmu/pages.h"

#define LISTS	(PAGE_SIZE / sizeof(shadow_ref))	/* in a page */

_Static_assert(LISTS * sizeof(struct shadow_lists) <= PAGE_SIZE, "one page for 4 GBytes");

/* --- contents ------------------------------------------------------------------------------ */

static u64 entry_in(const struct shadow_table *table, const void *page, u32 index)
{
	return shadow_is_32_bit(table->key) ? ((const volatile u32 *)page)[index] :
	       ((const volatile u64 *)page)[index];
}

static void put_entry(const struct shadow_table *table, void *page, u32 index, u64 entry)
{
	if (shadow_is_32_bit(table->key))
		((volatile u32 *)page)[index] = entry;
	else
		((volatile u64 *)page)[index] = entry;
}

u64 shadow_get(const struct shadow_table *table, u32 index)
{
	return entry_in(table, table->entries, index);
}

u64 shadow_seen(const struct shadow_table *table, u32 index)
{
	return table->seen ? entry_in(table, table->seen, index) : 0;
}

u64 shadow_guest_entry(const struct shadow_table *table, u32 index)
{
	return entry_in(table, (const void *)(SHADOW_KEY_FRAME(table->key) * PAGE_SIZE), index);
}

void shadow_see(struct shadow_table *table, u32 index, u64 entry)
{
	if (table->seen)
		put_entry(table, table->seen, index, entry);
}

/* --- the lists of frames ---------------------------------------------------------------------- */

static u64 frame_of(u64 entry)
{
	return (entry & PTE_ADDRESS) / PAGE_SIZE;
}

/* NULL: nothing near the frame is mapped. */
static shadow_ref *list_of_frame(const struct shadow *shadow, u64 frame)
{
	u64 page = shadow->mapped[frame / LISTS].page;

	return page ? (shadow_ref *)(page * PAGE_SIZE) + frame % LISTS : NULL;
}

bool shadow_hold_list(struct hv_vm *vm, u64 frame)
{
	struct shadow_lists *lists = &shadow_of(vm)->mapped[frame / LISTS];
	const void *page;

	while (!lists->page) {
		page = hv_pool_take(&vm->pool);
		if (page)
			lists->page = physical(page) / PAGE_SIZE;
		else if (!shadow_reclaim(vm))
			return false;
	}
	lists->used++;
	return true;
}

void shadow_let_go_of_list(struct hv_vm *vm, u64 frame)
{
	struct shadow_lists *lists = &shadow_of(vm)->mapped[frame / LISTS];

	if (--lists->used)
		return;
	hv_pool_give(&vm->pool, (void *)((u64)lists->page * PAGE_SIZE));
	lists->page = 0;
}

/* --- lists --------------------------------------------------------------------------------- */

static shadow_ref *next_of(const struct shadow *shadow, shadow_ref ref)
{
	return &shadow_at(shadow, ref / SHADOW_MAX_ENTRIES)->next_entry[ref % SHADOW_MAX_ENTRIES];
}

static shadow_ref *previous_of(const struct shadow *shadow, shadow_ref ref)
{
	return &shadow_at(shadow, ref / SHADOW_MAX_ENTRIES)->last_entry[ref % SHADOW_MAX_ENTRIES];
}

/* The list that a present entry is in: of the frame, or `parents` of the table it refers to. */
static shadow_ref *list_of(const struct shadow *shadow, const struct shadow_table *table,
			   u64 entry, u32 to)
{
	if (shadow_level(table) == LEVEL_PTE)
		return list_of_frame(shadow, frame_of(entry));
	return &shadow_at(shadow, to)->parents;
}

/* At the front, or at the end. */
static void join(const struct shadow *shadow, shadow_ref *list, shadow_ref ref, bool in_front)
{
	shadow_ref first = *list ? *list : ref, last = *list ? *previous_of(shadow, first) : ref;

	*next_of(shadow, ref) = first;
	*previous_of(shadow, ref) = last;
	*next_of(shadow, last) = *previous_of(shadow, first) = ref;
	if (in_front || !*list)
		*list = ref;
}

static void leave(const struct shadow *shadow, shadow_ref *list, shadow_ref ref)
{
	shadow_ref next = *next_of(shadow, ref), last = *previous_of(shadow, ref);

	*next_of(shadow, last) = next;
	*previous_of(shadow, next) = last;
	if (*list == ref)
		*list = next == ref ? 0 : next;
}

static void link_entry(struct hv_vm *vm, u32 number, u32 index, u64 entry, u32 to)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);
	shadow_ref *list = list_of(shadow, table, entry, to);

	if (shadow_level(table) == LEVEL_PTE && !*list)
		shadow_hold_list(vm, frame_of(entry));
	join(shadow, list, number * SHADOW_MAX_ENTRIES + index, entry & PTE_D);
}

static void unlink_entry(struct hv_vm *vm, u32 number, u32 index)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);
	u64 entry = shadow_get(table, index);
	shadow_ref *list = list_of(shadow, table, entry, shadow_child(table, index));

	leave(shadow, list, number * SHADOW_MAX_ENTRIES + index);
	if (shadow_level(table) == LEVEL_PTE && !*list)
		shadow_let_go_of_list(vm, frame_of(entry));
}

/* Those that may write come first in the list of their frame. */
shadow_ref shadow_writable_mapping(const struct shadow *shadow, u64 frame)
{
	const shadow_ref *list = list_of_frame(shadow, frame);
	shadow_ref ref = list ? *list : 0;

	return ref && shadow_entry(shadow, ref) & PTE_D ? ref : 0;
}

/* --- changes ------------------------------------------------------------------------------- */

void shadow_change(struct shadow *shadow, shadow_ref ref, u64 entry)
{
	struct shadow_table *table = shadow_at(shadow, ref / SHADOW_MAX_ENTRIES);
	shadow_ref *list = list_of_frame(shadow, frame_of(entry));

	leave(shadow, list, ref);
	join(shadow, list, ref, entry & PTE_D);
	put_entry(table, table->entries, ref % SHADOW_MAX_ENTRIES, entry);
	shadow->stale = true;
}

void shadow_set(struct hv_vm *vm, u32 number, u32 index, u64 entry, u32 to)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);

	if (shadow_get(table, index)) {
		unlink_entry(vm, number, index);
		table->present--;
		shadow->stale = true;
	}
	put_entry(table, table->entries, index, entry);
	if (table->children)
		table->children[index] = to;
	if (entry) {
		link_entry(vm, number, index, entry, to);
		table->present++;
	}
}
