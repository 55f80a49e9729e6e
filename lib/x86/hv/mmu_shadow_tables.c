/*
 * Shadow paging: the cache of shadow tables. All of it is in the VM's pool: two to five pages for
 * each table (struct shadow_table). When the pool is empty, the table that has not been used for
 * longest makes room.
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
	       (u64)role->write_protect_off << 21 | (u64)role->dirty << 22 |
	       SHADOW_KEY_OF_FRAME(role->frame);
}

enum paging_mode shadow_mode(const struct shadow_table *table)
{
	return FIELD(table->key, 5, 3);
}

u32 shadow_level(const struct shadow_table *table)
{
	return FIELD(table->key, 2, 0);
}

static bool is_pae_root(shadow_key key)
{
	return FIELD(key, 5, 3) == PAGING_PAE && FIELD(key, 2, 0) == LEVEL_PDPTE;
}

u32 shadow_entries(const struct shadow_table *table)
{
	if (is_pae_root(table->key))
		return 4;
	return shadow_is_32_bit(table->key) ? 1024 : 512;
}

u32 shadow_index(const struct shadow_table *table, u64 linear)
{
	u32 bits = shadow_is_32_bit(table->key) ? 10 : 9;

	return linear >> (12 + (shadow_level(table) - 1) * bits) & (shadow_entries(table) - 1);
}

/* --- lists ---------------------------------------------------------------------------- */

struct shadow_table *shadow_at(const struct shadow *shadow, u32 number)
{
	return &shadow->blocks[number / SHADOW_PER_BLOCK][number % SHADOW_PER_BLOCK];
}

/* The guest's tables in one frame are in one bucket; those of a page are parted by rights. */
static u32 bucket_of(shadow_key key)
{
	u64 at = SHADOW_KEY_FRAME(key) ^ (key & SHADOW_KEY_DIRECT ? FIELD(key, 22, 7) : 0);

	return (at ^ at >> 10) % SHADOW_BUCKETS;
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
	u32 number = shadow->buckets[bucket_of(key)];

	while (number && shadow_at(shadow, number)->key != key)
		number = shadow_at(shadow, number)->next;
	return number;
}

u32 shadow_next_of_frame(const struct shadow *shadow, u64 frame, u32 number)
{
	number = number ? shadow_at(shadow, number)->next :
			  shadow->buckets[bucket_of(SHADOW_KEY_OF_FRAME(frame))];
	for (; number; number = shadow_at(shadow, number)->next) {
		shadow_key key = shadow_at(shadow, number)->key;

		if (SHADOW_KEY_FRAME(key) == frame && !(key & SHADOW_KEY_DIRECT))
			return number;
	}
	return 0;
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
	vm->vcpu_pages = 1;
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

	/* Blocks are taken in order. */
	for (i = 0; shadow->blocks && i < SHADOW_BLOCKS && shadow->blocks[i]; i++)
		give(vm, shadow->blocks[i]);
	give(vm, shadow->blocks);
	give(vm, shadow->mapped);
	give(vm, shadow->buckets);
	give(vm, shadow);
}

static void put_into_bucket(struct shadow *shadow, u32 number)
{
	struct shadow_table *table = shadow_at(shadow, number);
	u32 *bucket = &shadow->buckets[bucket_of(table->key)];

	table->before = 0;
	table->next = *bucket;
	if (*bucket)
		shadow_at(shadow, *bucket)->before = number;
	*bucket = number;
}

static void take_out_of_bucket(struct shadow *shadow, u32 number)
{
	const struct shadow_table *table = shadow_at(shadow, number);

	if (table->before)
		shadow_at(shadow, table->before)->next = table->next;
	else
		shadow->buckets[bucket_of(table->key)] = table->next;
	if (table->next)
		shadow_at(shadow, table->next)->before = table->before;
}

void shadow_no_longer_behind(struct shadow *shadow, u32 number)
{
	struct shadow_table *table = shadow_at(shadow, number);

	if (!table->behind)
		return;
	table->behind = false;
	if (table->before_behind)
		shadow_at(shadow, table->before_behind)->next_behind = table->next_behind;
	else
		shadow->behind = table->next_behind;
	if (table->next_behind)
		shadow_at(shadow, table->next_behind)->before_behind = table->before_behind;
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
	give(vm, table->next_entry);
	if (shadow_is_32_bit(table->key))
		give(vm, table->last_entry);
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
	shadow_no_longer_behind(shadow, number);
	take_out_of_bucket(shadow, number);
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
	return table->entries && table->next_entry && table->last_entry &&
	       (table->children || shadow_level(table) == LEVEL_PTE) &&
	       (table->seen || (table->key & SHADOW_KEY_DIRECT && !is_pae_root(table->key)));
}

/* 1024 entries take a page in each direction; 512 have one page for both. */
static void take_links(struct hv_vm *vm, struct shadow_table *table)
{
	shadow_ref *page = hv_pool_take(&vm->pool);

	table->next_entry = page;
	if (shadow_is_32_bit(table->key))
		table->last_entry = hv_pool_take(&vm->pool);
	else
		table->last_entry = page ? page + SHADOW_MAX_ENTRIES / 2 : NULL;
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
	take_links(vm, table);
	if (shadow_level(table) > LEVEL_PTE)
		table->children = hv_pool_take(&vm->pool);
	if (!(key & SHADOW_KEY_DIRECT) || is_pae_root(key))
		table->seen = hv_pool_take(&vm->pool);
	if (is_complete(table))
		return number;
	release(vm, number);
	return 0;
}

bool shadow_reclaim(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);

	if (!shadow->oldest)
		return false;
	shadow_free(vm, shadow->oldest);
	shadow->reclaimed++;
	vm->evictions++;
	return true;
}

u32 shadow_make(struct hv_vm *vm, shadow_key key)
{
	struct shadow *shadow = shadow_of(vm);
	u32 number = try_to_make(vm, key);

	while (!number && shadow_reclaim(vm))
		number = try_to_make(vm, key);
	if (!number)
		return 0;
	put_into_bucket(shadow, number);
	put_newest(shadow, number);
	shadow->tables++;
	if (!(key & SHADOW_KEY_DIRECT))
		shadow_guard(vm, SHADOW_KEY_FRAME(key));
	return number;
}
