/*
 * Shadow paging: when the guest writes to its tables.
 *
 * What a processor has cached of an entry it may go on using until software invalidates it
 * (5.10.4.3 Optional Invalidation), and shadow tables are such a cache: they may be behind as long
 * as the TLB of a processor may. So a guest's table is guarded, that is, not writable, while its
 * shadows have to be right. The first write to it exits; from then on the guest writes as it likes,
 * and the shadows are behind. The next INVLPG, MOV to CR3 or the like compares them with the
 * guest's table, drops what is no longer so, and guards the table again.
 *
 * An entry that was not present need not be invalidated (5.10.4.3), and nothing is cached of it
 * here: the access exits, and the guest's tables are read anew.
 */
#include "hv/mmu_shadow.h"

enum { INVVPID_ALL_CONTEXT = 2 };

bool shadow_is_guarded(const struct shadow *shadow, u64 frame)
{
	u32 number = 0;

	while ((number = shadow_next_of_frame(shadow, frame, number)))
		if (!shadow_at(shadow, number)->behind)
			return true;
	return false;
}

static void let_fall_behind(struct shadow *shadow, u32 number)
{
	struct shadow_table *table = shadow_at(shadow, number);

	if (table->behind)
		return;
	table->behind = true;
	table->next_behind = shadow->behind;
	table->before_behind = 0;
	if (shadow->behind)
		shadow_at(shadow, shadow->behind)->before_behind = number;
	shadow->behind = number;
}

void shadow_fall_behind(struct shadow *shadow, u64 frame)
{
	u32 number = 0;

	while ((number = shadow_next_of_frame(shadow, frame, number)))
		let_fall_behind(shadow, number);
}

void shadow_guard(struct hv_vm *vm, u64 frame)
{
	struct shadow *shadow = shadow_of(vm);
	shadow_ref ref;

	while ((ref = shadow_writable_mapping(shadow, frame)))
		shadow_change(shadow, ref, shadow_entry(shadow, ref) & ~(u64)(PTE_RW | PTE_D));
}

/* Drops the entries of which the guest has changed what they were made from. */
static void compare(struct hv_vm *vm, u32 number)
{
	struct shadow_table *table = shadow_at(shadow_of(vm), number);
	u32 i, left = table->present;

	for (i = 0; left; i++) {
		if (!shadow_get(table, i))
			continue;
		left--;
		if (shadow_seen(table, i) != shadow_guest_entry(table, i))
			shadow_set(vm, number, i, 0, 0);
	}
}

/* User space may have written to any table. */
static void let_all_fall_behind(struct shadow *shadow)
{
	u32 number;

	for (number = shadow->newest; number; number = shadow_at(shadow, number)->older)
		if (!(shadow_at(shadow, number)->key & SHADOW_KEY_DIRECT))
			let_fall_behind(shadow, number);
}

void shadow_catch_up(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);

	if (shadow->written_unseen)
		let_all_fall_behind(shadow);
	shadow->written_unseen = false;
	while (shadow->behind) {
		u32 number = shadow->behind;
		struct shadow_table *table = shadow_at(shadow, number);
		u64 frame = SHADOW_KEY_FRAME(table->key);

		shadow_no_longer_behind(shadow, number);
		compare(vm, number);
		/* What has become empty is most likely no table any more. */
		if (!table->present && !table->roots)
			shadow_free(vm, number);
		else
			shadow_guard(vm, frame);
	}
}

void shadow_settle(struct hv_vm *vm)
{
	struct shadow *shadow = shadow_of(vm);

	/*
	 * Without VPIDs each VM entry does it: 31.4.3.1 Operations that Invalidate Cached Mappings.
	 */
	if (shadow->stale && shadow->uses_vpids)
		invvpid(INVVPID_ALL_CONTEXT, (struct invvpid_descriptor){ 0 });
	shadow->stale = false;
}
