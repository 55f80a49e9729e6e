/*
 * Shadow paging: the cache of shadow tables. All of it is in the VM's pool: two to four pages for
 * each table (struct shadow_table). When the pool is empty, the table that has
 * not been used for longest makes room.
 */
#include "hv/mmu_shadow.h"
#include "mmu/pages.h"
#include "string.h"

#define KEY_IN_USE	BIT(19)

_Static_assert(sizeof(struct shadow) + 2 * sizeof(u32 *) <= PAGE_SIZE, "one page");
_Static_assert(SHADOW_PER_BLOCK * sizeof(struct shadow_table) <= PAGE_SIZE, "one page");

/* --- what a table is --------------------------------------------------------------- */

shadow_key shadow_key_of(const struct shadow_role *role)
{
	return (u64)role->level | (u64)role->mode << 3 | (role->direct ? SHADOW_KEY_DIRECT : 0) |
	       (u64)role->user << 7 | (u64)role->writable << 8 | (u64)role->executable << 9 |
	       (u64)role->pse << 10 | (u64)role->nxe << 11 | (u64)role->protection_key << 12 |
	       (u64)role->pat_index << 16 | (u64)role->shadow_stack << 20 | KEY_IN_USE |
	       (u64)role->write_protect_off << 21 | (u64)role->dirty << 22 | role->frame << 23;
}

enum paging_mode shadow_mode(const struct shadow_table *table)
{
	return FIELD(table->key, 5, 3);
}

u32 shadow_level(const struct shadow_table *table)
{
	return FIELD(table->key, 2, 0);
}

/* Without paging the tables are those of 32-bit paging. */
static bool is_32_bit(const struct shadow_table *table)
{
	return shadow_mode(table) == PAGING_32_BIT || shadow_mode(table) == PAGING_OFF;
}

static bool is_pae_root(shadow_key key)
{
	return FIELD(key, 5, 3) == PAGING_PAE && FIELD(key, 2, 0) == LEVEL_PDPTE;
}

u32 shadow_entries(const struct shadow_table *table)
{
	if (is_pae_root(table->key))
		return 4;
	return is_32_bit(table) ? 1024 : 512;
}

u32 shadow_index(const struct shadow_table *table, u64 linear)
{
	u32 bits = is_32_bit(table) ? 10 : 9;

	return linear >> (12 + (shadow_level(table) - 1) * bits) & (shadow_entries(table) - 1);
}

static u64 entry_in(const struct shadow_table *table, const void *page, u32 index)
{
	return is_32_bit(table) ? ((const volatile u32 *)page)[index] :
	       ((const volatile u64 *)page)[index];
}

static void put_entry(const struct shadow_table *table, void *page, u32 index, u64 entry)
{
	if (is_32_bit(table))
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

/* --- lists ---------------------------------------------------------------------------- */

struct shadow_table *shadow_at(const struct shadow *shadow, u32 number)
{
	return &shadow->blocks[number / SHADOW_PER_BLOCK][number % SHADOW_PER_BLOCK];
}

static u32 bucket_of(u64 frame)
{
	return (frame ^ frame >> 10) % SHADOW_BUCKETS;
}

static void take_out_of_use_order(struct shadow *shadow, u32 number)
{
	struct shadow_table *table = shadow_at(shadow, number);

	if (table->newer)
		shadow_at(shadow, table->newer)->older = table->older;
	else
		shadow->newest = table->older;
	if (table->older)
		shadow_at(shadow, table->older)->newer = table->newer;
	else
		shadow->oldest = table->newer;
}

static void put_newest(struct shadow *shadow, u32 number)
{
	struct shadow_table *table = shadow_at(shadow, number);

	table->newer = 0;
	table->older = shadow->newest;
	if (shadow->newest)
		shadow_at(shadow, shadow->newest)->newer = number;
	else
		shadow->oldest = number;
	shadow->newest = number;
}

void shadow_touch(struct shadow *shadow, u32 number)
{
	if (shadow->newest == number)
		return;
	take_out_of_use_order(shadow, number);
	put_newest(shadow, number);
}

u32 shadow_find(struct shadow *shadow, shadow_key key)
{
	u32 number = shadow->buckets[bucket_of(SHADOW_KEY_FRAME(key))];

	while (number && shadow_at(shadow, number)->key != key)
		number = shadow_at(shadow, number)->next;
	return number;
}

u32 shadow_next_of_frame(const struct shadow *shadow, u64 frame, u32 number)
{
	number = number ? shadow_at(shadow, number)->next : shadow->buckets[bucket_of(frame)];
	for (; number; number = shadow_at(shadow, number)->next) {
		shadow_key key = shadow_at(shadow, number)->key;

		if (SHADOW_KEY_FRAME(key) == frame && !(key & SHADOW_KEY_DIRECT))
			return number;
	}
	return 0;
}

/* --- entries ----------------------------------------------------------------------------- */

/* The list that a present entry is in: shadow->mapped, or `parents` of the table it refers to. */
static shadow_ref *list_of(struct shadow *shadow, const struct shadow_table *table, u64 entry,
			   u32 to)
{
	if (shadow_level(table) == LEVEL_PTE)
		return &shadow->mapped[bucket_of((entry & PTE_ADDRESS) / PAGE_SIZE)];
	return &shadow_at(shadow, to)->parents;
}

static shadow_ref *link_of(const struct shadow *shadow, shadow_ref ref)
{
	return &shadow_at(shadow, ref / SHADOW_MAX_ENTRIES)->links[ref % SHADOW_MAX_ENTRIES];
}

static void link_entry(struct shadow *shadow, u32 number, u32 index, u64 entry, u32 to)
{
	struct shadow_table *table = shadow_at(shadow, number);
	shadow_ref *list = list_of(shadow, table, entry, to);

	table->links[index] = *list;
	*list = number * SHADOW_MAX_ENTRIES + index;
}

static void unlink_entry(struct shadow *shadow, u32 number, u32 index)
{
	struct shadow_table *table = shadow_at(shadow, number);
	shadow_ref ref = number * SHADOW_MAX_ENTRIES + index;
	shadow_ref *at = list_of(shadow, table, shadow_get(table, index),
				 shadow_child(table, index));

	while (*at != ref)
		at = link_of(shadow, *at);
	*at = table->links[index];
}

shadow_ref shadow_first_mapping(const struct shadow *shadow, u64 frame)
{
	return shadow->mapped[bucket_of(frame)];
}

shadow_ref shadow_next_mapping(const struct shadow *shadow, shadow_ref ref)
{
	return *link_of(shadow, ref);
}

void shadow_change(struct shadow_table *table, u32 index, u64 entry)
{
	put_entry(table, table->entries, index, entry);
}

void shadow_set(struct hv_vm *vm, u32 number, u32 index, u64 entry, u32 to)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);
	u64 before = shadow_get(table, index);

	if (before) {
		unlink_entry(shadow, number, index);
		table->present--;
		shadow->stale = true;
	}
	put_entry(table, table->entries, index, entry);
	if (table->children)
		table->children[index] = to;
	if (entry) {
		link_entry(shadow, number, index, entry, to);
		table->present++;
	}
}

/* --- tables --------------------------------------------------------------------------------- */

int shadow_create(struct hv_vm *vm)
{
	struct shadow *shadow = hv_pool_take(&vm->pool);

	if (!shadow)
		return -ENOMEM;
	vm->mmu_data = shadow;
	shadow->buckets = hv_pool_take(&vm->pool);
	shadow->mapped = hv_pool_take(&vm->pool);
	shadow->blocks = hv_pool_take(&vm->pool);
	/* Number 0 is none. */
	shadow->numbers = 1;
	return shadow->buckets && shadow->mapped && shadow->blocks ? 0 : -ENOMEM;
}

static void give(struct hv_vm *vm, void *page)
{
	if (page)
		hv_pool_give(&vm->pool, page);
}

void shadow_destroy(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);
	u32 i;

	for (i = 0; shadow->blocks && i < SHADOW_BLOCKS; i++)
		give(vm, shadow->blocks[i]);
	give(vm, shadow->blocks);
	give(vm, shadow->mapped);
	give(vm, shadow->buckets);
	give(vm, shadow);
}

static void unhash(struct shadow *shadow, u32 number)
{
	u64 frame = SHADOW_KEY_FRAME(shadow_at(shadow, number)->key);
	u32 *at = &shadow->buckets[bucket_of(frame)];

	while (*at != number)
		at = &shadow_at(shadow, *at)->next;
	*at = shadow_at(shadow, number)->next;
}

static void no_longer_behind(struct shadow *shadow, u32 number)
{
	u32 *at = &shadow->behind;

	if (!shadow_at(shadow, number)->behind)
		return;
	while (*at != number)
		at = &shadow_at(shadow, *at)->next_behind;
	*at = shadow_at(shadow, number)->next_behind;
	shadow_at(shadow, number)->behind = false;
}

static void empty(struct hv_vm *vm, u32 number)
{
	struct shadow_table *table = shadow_at(shadow_of(vm), number);
	u32 i;

	for (i = 0; table->present && i < shadow_entries(table); i++)
		if (shadow_get(table, i))
			shadow_set(vm, number, i, 0, 0);
}

static void release(struct hv_vm *vm, u32 number)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);

	give(vm, table->entries);
	give(vm, table->seen);
	give(vm, table->links);
	give(vm, table->children);
	*table = (struct shadow_table){ .next = shadow->free };
	shadow->free = number;
}

void shadow_free(struct hv_vm *vm, u32 number)
{
	struct shadow *shadow = shadow_of(vm);
	struct shadow_table *table = shadow_at(shadow, number);

	empty(vm, number);
	while (table->parents)
		shadow_set(vm, table->parents / SHADOW_MAX_ENTRIES,
			   table->parents % SHADOW_MAX_ENTRIES, 0, 0);
	if (table->roots)
		shadow_drop_root(shadow, number);
	no_longer_behind(shadow, number);
	unhash(shadow, number);
	take_out_of_use_order(shadow, number);
	shadow->tables--;
	/* The processor may still walk the table. */
	shadow->stale = true;
	release(vm, number);
}

void shadow_free_all(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);

	while (shadow->oldest)
		shadow_free(vm, shadow->oldest);
}

/* A number without a table: one that has been given back, or a new one. 0: no memory for it. */
static u32 take_number(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);
	u32 number = shadow->free, block = shadow->numbers / SHADOW_PER_BLOCK;

	if (number) {
		shadow->free = shadow_at(shadow, number)->next;
		return number;
	}
	if (block == SHADOW_BLOCKS)
		return 0;
	if (!shadow->blocks[block])
		shadow->blocks[block] = hv_pool_take(&vm->pool);
	return shadow->blocks[block] ? shadow->numbers++ : 0;
}

static bool is_complete(const struct shadow_table *table)
{
	return table->entries && table->links &&
	       (table->children || shadow_level(table) == LEVEL_PTE) &&
	       (table->seen || (table->key & SHADOW_KEY_DIRECT && !is_pae_root(table->key)));
}

/* All pages of a new table; 0 when the pool has not enough of them. */
static u32 try_to_make(struct hv_vm *vm, shadow_key key)
{
	struct shadow *shadow = shadow_of(vm);
	u32 number = take_number(vm);
	struct shadow_table *table;

	if (!number)
		return 0;
	table = shadow_at(shadow, number);
	*table = (struct shadow_table){ .key = key };
	table->entries = hv_pool_take(&vm->pool);
	table->links = hv_pool_take(&vm->pool);
	if (shadow_level(table) > LEVEL_PTE)
		table->children = hv_pool_take(&vm->pool);
	if (!(key & SHADOW_KEY_DIRECT) || is_pae_root(key))
		table->seen = hv_pool_take(&vm->pool);
	if (is_complete(table))
		return number;
	release(vm, number);
	return 0;
}

u32 shadow_make(struct hv_vm *vm, shadow_key key)
{
	struct shadow *shadow = shadow_of(vm);
	u32 *bucket = &shadow->buckets[bucket_of(SHADOW_KEY_FRAME(key))];
	u32 number = try_to_make(vm, key);

	while (!number && shadow->oldest) {
		shadow_free(vm, shadow->oldest);
		shadow->reclaimed++;
		number = try_to_make(vm, key);
	}
	if (!number)
		return 0;
	shadow_at(shadow, number)->next = *bucket;
	*bucket = number;
	put_newest(shadow, number);
	shadow->tables++;
	if (!(key & SHADOW_KEY_DIRECT))
		shadow_guard(vm, SHADOW_KEY_FRAME(key));
	return number;
}
