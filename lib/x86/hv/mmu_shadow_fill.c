/*
 * Shadow paging: from a translation of the model to entries of shadow tables, one on each level.
 */
#include "hv/mmu_shadow.h"

/* One fill on its way down. */
struct path {
	struct hv_vm *vm;
	const struct walk_cpu *cpu;
	const struct walk_result *result;
	u64 linear;
	u32 table;			/* where it is */
	struct shadow_role role;	/* of the next table below */
	bool changed;
};

/* The step of the walk that used the guest's entry of `level`; NULL for a PDPTE register. */
static const struct walk_step *step_of(const struct walk_result *result, u32 level)
{
	u32 i;

	for (i = 0; i < result->steps; i++)
		if (result->step[i].level == level)
			return &result->step[i];
	return NULL;
}

static const struct walk_step *leaf_of(const struct walk_result *result)
{
	return result->steps ? &result->step[result->steps - 1] : NULL;
}

/* Whether the guest's dirty flag lets the page be written without further ado. */
static bool is_dirty(const struct walk_result *result)
{
	const struct walk_step *leaf = leaf_of(result);

	return !leaf || (leaf->value | leaf->must_set) & PTE_D;
}

/* 5.6.1: read-only and dirty, while all entries above allow writes. */
static bool is_shadow_stack(const struct walk_result *result)
{
	const struct walk_step *leaf = leaf_of(result);
	u32 i;

	if (!leaf || leaf->value & PTE_RW || !(leaf->value & PTE_D))
		return false;
	for (i = 0; i + 1 < result->steps; i++)
		if (!(result->step[i].value & PTE_RW))
			return false;
	return true;
}

/* What the guest has in the place of the entry; 0 where it has none. */
static u64 guest_entry(const struct path *path, u32 level)
{
	const struct walk_step *step = step_of(path->result, level);

	if (step)
		return step->value | step->must_set;
	if (path->result->mode == PAGING_PAE && level == LEVEL_PDPTE)
		return path->cpu->pdpte[FIELD(path->linear, 31, 30)];
	return 0;
}

/*
 * The table below is one of memory in one piece, which is the guest's page of `level` or part of
 * it.
 */
static void go_direct(struct path *path, u32 level)
{
	const struct walk_result *result = path->result;
	u32 bits = result->mode == PAGING_OFF || result->mode == PAGING_32_BIT ? 10 : 9;
	u64 size = PAGE_SIZE << (level - 1) * bits;

	path->role.direct = true;
	path->role.user = result->user_address;
	path->role.writable = result->writable && is_dirty(result);
	path->role.executable = result->executable;
	path->role.dirty = is_dirty(result);
	path->role.shadow_stack = is_shadow_stack(result);
	path->role.protection_key = result->protection_key;
	path->role.pat_index = result->pat_index;
	path->role.frame = (result->physical & ~(size - 1)) / PAGE_SIZE;
}

/* The table below stands for the guest's table that its entry of `level` refers to. */
static bool follow(struct path *path, u32 level)
{
	u64 entry = guest_entry(path, level), gpa = entry & PTE_ADDRESS;
	const u8 *host;

	if (path->result->mode == PAGING_32_BIT)
		gpa &= BITS(31, 12);
	host = hv_memory(path->vm, gpa, 8, false);
	if (!host)
		return false;
	path->role.frame = (u64)host / PAGE_SIZE;
	/* PDPTEs of PAE paging have no rights. */
	if (path->result->mode == PAGING_PAE && level == LEVEL_PDPTE)
		return true;
	path->role.user = path->role.user && entry & PTE_US;
	path->role.writable = path->role.writable && entry & PTE_RW;
	if (path->result->mode != PAGING_32_BIT)
		path->role.executable = path->role.executable && !(entry & PTE_XD);
	return true;
}

static u64 entry_for_table(const struct shadow_table *below, bool pae_root)
{
	u64 entry = (u64)below->entries | PTE_P;

	return pae_root ? entry : entry | PTE_RW | PTE_US | PTE_A;
}

/* From `path->table` at `level` to the table below. */
static bool descend(struct path *path, u32 level)
{
	struct shadow *shadow = shadow_of(path->vm);
	struct shadow_table *table = shadow_at(shadow, path->table);
	u32 index = shadow_index(table, path->linear), child = shadow_child(table, index), wanted;
	const struct walk_step *leaf = leaf_of(path->result);
	u64 seen = guest_entry(path, level);
	shadow_key own_key = table->key, key;

	path->role.level = level - 1;
	if (!leaf || level <= leaf->level)
		go_direct(path, level);
	else if (!follow(path, level))
		return false;
	key = shadow_key_of(&path->role);
	if (!child || shadow_at(shadow, child)->key != key) {
		wanted = shadow_find(shadow, key);
		if (!wanted)
			wanted = shadow_make(path->vm, key);
		/* Making room may have taken the table that refers to it. */
		if (!wanted || table->key != own_key)
			return false;
		shadow_set(path->vm, path->table, index,
			   entry_for_table(shadow_at(shadow, wanted),
					   path->role.mode == PAGING_PAE && level == LEVEL_PDPTE),
			   wanted);
		path->changed = true;
		path->vm->fills++;
		child = wanted;
	}
	shadow_see(table, index, seen);
	shadow_touch(shadow, child);
	path->table = child;
	return true;
}

/*
 * With CR0.WP = 0 a supervisor writes to read-only pages, while the processor has CR0.WP = 1. Such
 * a page gets an entry for the supervisor that allows writes, until user mode uses the page and
 * faults. That is exact where nothing else tells a page of the user from one of the supervisor.
 */
bool shadow_can_stand_in(const struct walk_cpu *cpu)
{
	return !(cpu->cr0 & CR0_WP) && cpu->cr0 & CR0_PG &&
	       !(cpu->cr4 & (CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS | CR4_CET));
}

/*
 * The right to write needs a dirty flag in the guest's entry, in the log, and a page that is no
 * table.
 */
static bool may_write(const struct path *path, const struct hv_slot *slot, enum access kind,
		      u64 frame)
{
	if (!is_dirty(path->result) || slot->region.flags & KVM_MEM_READONLY)
		return false;
	return kind == ACCESS_WRITE ||
	       (!slot->dirty && !shadow_is_guarded(shadow_of(path->vm), frame));
}

static u64 frame_of(const struct walk_result *result, const struct hv_slot *slot)
{
	return (slot->region.userspace_addr + (result->physical - slot->region.guest_phys_addr)) /
	       PAGE_SIZE;
}

static u64 page_entry(const struct path *path, u64 frame, bool may_write, bool stand_in)
{
	const struct walk_result *result = path->result;
	u64 entry = frame * PAGE_SIZE | PTE_P | PTE_A;

	if (stand_in)
		entry |= PTE_RW | PTE_D;
	else if (result->user_address)
		entry |= PTE_US;
	/* Read-only and dirty is what makes a shadow-stack page; nothing else may look like one. */
	if (may_write && result->writable)
		entry |= PTE_RW | PTE_D;
	else if (may_write && is_shadow_stack(result))
		entry |= PTE_D;
	if (!result->executable)
		entry |= PTE_XD;
	return entry | (result->pat_index & 3 ? (u64)(result->pat_index & 3) << 3 : 0) |
	       (result->pat_index & 4 ? PTE_PAT : 0) | PTE_KEY(result->protection_key);
}

/* False: there was no room for it. */
static bool set_page(struct path *path, u64 entry)
{
	struct shadow_table *table = shadow_at(shadow_of(path->vm), path->table);
	u32 index = shadow_index(table, path->linear);
	u64 frame = (entry & PTE_ADDRESS) / PAGE_SIZE;
	shadow_key own_key = table->key;

	shadow_see(table, index, guest_entry(path, LEVEL_PTE));
	if (shadow_get(table, index) == entry)
		return true;
	if (!shadow_hold_list(path->vm, frame))
		return false;
	/* Making room may have taken the table. */
	if (table->key == own_key) {
		shadow_set(path->vm, path->table, index, entry, 0);
		path->vm->fills++;
	}
	shadow_let_go_of_list(path->vm, frame);
	path->changed = true;
	return true;
}

enum shadow_filled shadow_fill(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear,
			       enum access kind, const struct walk_cpu *cpu,
			       const struct walk_result *result, struct hv_slot *slot,
			       bool stand_in)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct path path = {
		.vm = vcpu->vm, .cpu = cpu, .result = result, .linear = linear, .table = own->root,
		.role = { .mode = result->mode, .user = true, .writable = true,
			  .executable = true, .pse = cpu->cr4 & CR4_PSE,
			  .nxe = cpu->efer & EFER_NXE,
			  .write_protect_off = shadow_can_stand_in(cpu) },
	};
	u64 frame = frame_of(result, slot);
	u32 level;

	shadow_touch(shadow, own->root);
	for (level = shadow_level(shadow_at(shadow, own->root)); level > LEVEL_PTE; level--)
		if (!descend(&path, level))
			return SHADOW_NO_ROOM;
	if (kind == ACCESS_WRITE && shadow_is_guarded(shadow, frame))
		shadow_fall_behind(shadow, frame);
	if (kind == ACCESS_WRITE)
		hv_mark_dirty(slot, result->physical);
	if (!set_page(&path, page_entry(&path, frame, may_write(&path, slot, kind, frame),
					stand_in)))
		return SHADOW_NO_ROOM;
	return path.changed ? SHADOW_CHANGED : SHADOW_SAME;
}

/* --- entries for one instruction ---------------------------------------------------------- */

/* The entry of the last level for `linear`; 0: there is none. */
static shadow_ref find_page(const struct shadow *shadow, u32 root, u64 linear)
{
	u32 number = root;

	while (number) {
		const struct shadow_table *table = shadow_at(shadow, number);
		u32 index = shadow_index(table, linear);

		if (shadow_level(table) == LEVEL_PTE)
			return shadow_get(table, index) ? number * SHADOW_MAX_ENTRIES + index : 0;
		number = shadow_child(table, index);
	}
	return 0;
}

bool shadow_step(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	shadow_ref ref = find_page(shadow, own->root, linear);

	if (!control_allowed(CONTROL_PROC1_MONITOR_TRAP_FLAG) || !ref ||
	    own->steps == SHADOW_MAX_STEPS)
		return false;
	shadow_change(shadow, ref, (shadow_entry(shadow, ref) & PTE_ADDRESS) |
		      PTE_P | PTE_RW | PTE_A | PTE_D);
	own->step[own->steps++] = linear;
	own->step_rip = vmcs_get(GUEST_RIP);
	hv_want_steps(vcpu, HV_STEPS_FOR_MMU, true);
	return true;
}

void shadow_step_over(struct hv_vcpu *vcpu)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct shadow_vcpu *own = vcpu->mmu_data;

	while (own->steps) {
		shadow_ref ref = find_page(shadow, own->root, own->step[--own->steps]);

		if (ref)
			shadow_set(vcpu->vm, ref / SHADOW_MAX_ENTRIES,
				   ref % SHADOW_MAX_ENTRIES, 0, 0);
	}
	hv_want_steps(vcpu, HV_STEPS_FOR_MMU, false);
	shadow_settle(vcpu->vm);
}

/* --- what a page fault invalidates ------------------------------------------------------------ */

/* Whether the guest's entry is no longer the one that `index` was made from. */
static bool is_outdated(const struct shadow_table *table, u32 index)
{
	return !(table->key & SHADOW_KEY_DIRECT) &&
	       shadow_seen(table, index) != shadow_guest_entry(table, index);
}

void shadow_forget(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	u32 number = own->root;

	while (number) {
		const struct shadow_table *table = shadow_at(shadow, number);
		u32 index = shadow_index(table, linear), child = shadow_child(table, index);

		if (shadow_get(table, index) && (!child || is_outdated(table, index))) {
			shadow_set(vcpu->vm, number, index, 0, 0);
			return;
		}
		number = child;
	}
}
