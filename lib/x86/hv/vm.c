/* The VM and its memory slots. */
#include "cpu/features.h"
#include "hv/internal.h"
#include "mmu/pages.h"
#include "string.h"

#define SLOT_FLAGS	(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)
#define PAGES_PER_LOG	(PAGE_SIZE * 8)		/* guest pages that one page of bits covers */
#define MAX_SLOT_SIZE	BIT(32)			/* host addresses are below 4 GBytes */

_Static_assert(MAX_SLOT_SIZE / PAGE_SIZE / PAGES_PER_LOG <= PAGE_SIZE / sizeof(u64 *),
	       "one page must hold the addresses of all pages of a dirty log");

void hv_start(void *page)
{
	u32 revision;

	vmx_prepare();
	/* For instructions on behalf of guests: native.c, fpu.c. */
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	if (CPUID_BIT(1, 0, ecx, 26))
		write_cr4(read_cr4() | CR4_OSXSAVE);
	revision = vmcs_revision();
	memset(page, 0, PAGE_SIZE);
	memcpy(page, &revision, sizeof(revision));
	REQUIRE(vmxon(physical(page)), OUTCOME_DONE);
	hv_fpu_start();
}

static bool is_supported(void)
{
	return vmx_supported() && control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER) &&
	       control_allowed(CONTROL_ENTRY_LOAD_IA32_PAT);
}

int hv_vm_create(struct hv_vm *vm, const struct hv_mmu *mmu, struct hv_pool *lender, u64 pages)
{
	int result;

	if (!is_supported() || !mmu->supported())
		return -EOPNOTSUPP;
	if (pages < mmu->min_pages || pages > lender->left)
		return -ENOMEM;
	memset(vm, 0, sizeof(*vm));
	vm->mmu = mmu;
	vm->timer_shift = FIELD(capabilities()->misc, 4, 0);
	vm->lender = lender;
	hv_pool_move(&vm->pool, lender, pages);
	result = mmu->create(vm);
	if (result)
		hv_vm_destroy(vm);
	else
		vm->reserve = mmu->min_pages - (pages - vm->pool.left);
	return result;
}

struct hv_slot *hv_slot_at(struct hv_vm *vm, u64 gpa)
{
	u32 i;

	for (i = 0; i < HV_MAX_SLOTS; i++) {
		struct hv_slot *slot = &vm->slots[i];

		if (gpa - slot->region.guest_phys_addr < slot->region.memory_size)
			return slot;
	}
	return NULL;
}

u8 *hv_memory(struct hv_vm *vm, u64 gpa, u32 size, bool write)
{
	struct hv_slot *slot = hv_slot_at(vm, gpa);

	/* Slots are whole pages, so what lies in one page lies in one slot. */
	if (!slot || (gpa & ~PAGE_MASK) + size > PAGE_SIZE ||
	    hv_lapic_within(vm, gpa & PAGE_MASK, PAGE_SIZE))
		return NULL;
	if (write && slot->region.flags & KVM_MEM_READONLY)
		return NULL;
	if (write)
		hv_mark_dirty(slot, gpa);
	if (write && vm->mmu->written)
		vm->mmu->written(vm, gpa, size);
	return (u8 *)(slot->region.userspace_addr + (gpa - slot->region.guest_phys_addr));
}

/* --- the dirty log -------------------------------------------------------------- */

void hv_mark_dirty(struct hv_slot *slot, u64 gpa)
{
	u64 page = (gpa - slot->region.guest_phys_addr) / PAGE_SIZE;

	if (slot->dirty)
		slot->dirty[page / PAGES_PER_LOG][page % PAGES_PER_LOG / 64] |= BIT(page % 64);
}

static u64 log_pages(const struct hv_slot *slot)
{
	u64 pages = slot->region.memory_size / PAGE_SIZE;

	return (pages + PAGES_PER_LOG - 1) / PAGES_PER_LOG;
}

static void stop_log(struct hv_vm *vm, struct hv_slot *slot)
{
	u64 i;

	if (!slot->dirty)
		return;
	for (i = 0; i < log_pages(slot); i++)
		hv_pool_give(&vm->pool, slot->dirty[i]);
	hv_pool_give(&vm->pool, slot->dirty);
	slot->dirty = NULL;
	vm->logs--;
}

bool hv_has_room(struct hv_vm *vm, u64 pages)
{
	if (vm->pool.left < pages + vm->reserve)
		vm->mmu->reclaim(vm);
	return vm->pool.left >= pages + vm->reserve;
}

static int start_log(struct hv_vm *vm, struct hv_slot *slot)
{
	u64 i;

	if (!hv_has_room(vm, log_pages(slot) + 1))
		return -ENOMEM;
	slot->dirty = hv_pool_take(&vm->pool);
	for (i = 0; i < log_pages(slot); i++)
		slot->dirty[i] = hv_pool_take(&vm->pool);
	vm->logs++;
	return 0;
}

/* One quadword of the log goes to user space; its pages can be written only with a note again. */
static bool hand_over(struct hv_vm *vm, struct hv_slot *slot, u64 number, u64 *to)
{
	u64 *bits = &slot->dirty[number * 64 / PAGES_PER_LOG][number % (PAGES_PER_LOG / 64)];
	u64 gpa = slot->region.guest_phys_addr + number * 64 * PAGE_SIZE, page;

	*to = *bits;
	for (page = 0; page < 64; page++)
		if (*bits >> page & 1)
			vm->mmu->zap(vm, gpa + page * PAGE_SIZE, PAGE_SIZE, true);
	*bits = 0;
	return *to;
}

int hv_vm_get_dirty_log(struct hv_vm *vm, const struct kvm_dirty_log *log)
{
	struct hv_slot *slot;
	u64 *bitmap = log->dirty_bitmap, i, pages;
	bool any = false;

	if (log->slot >= HV_MAX_SLOTS)
		return -EINVAL;
	slot = &vm->slots[log->slot];
	if (!slot->region.memory_size || !slot->dirty)
		return -ENOENT;
	pages = slot->region.memory_size / PAGE_SIZE;
	for (i = 0; i < (pages + 63) / 64; i++)
		any |= hand_over(vm, slot, i, &bitmap[i]);
	if (any)
		vm->mmu->flush(vm);
	return 0;
}

/* --- slots ---------------------------------------------------------------------- */

/* What is wrong with a region by itself; the order of the checks is KVM's. */
static int check_region(const struct kvm_userspace_memory_region *region)
{
	u64 last = region->guest_phys_addr + region->memory_size;

	if (region->flags & ~(u64)SLOT_FLAGS)
		return -EINVAL;
	if ((region->memory_size | region->guest_phys_addr | region->userspace_addr) & ~PAGE_MASK)
		return -EINVAL;
	if (region->slot >= HV_MAX_SLOTS || last < region->guest_phys_addr)
		return -EINVAL;
	if (region->memory_size > MAX_SLOT_SIZE ||
	    region->userspace_addr > MAX_SLOT_SIZE - region->memory_size)
		return -EINVAL;
	return 0;
}

static bool overlaps(const struct hv_vm *vm, const struct kvm_userspace_memory_region *region)
{
	u32 i;

	for (i = 0; i < HV_MAX_SLOTS; i++) {
		const struct kvm_userspace_memory_region *other = &vm->slots[i].region;

		if (i != region->slot && other->memory_size &&
		    region->guest_phys_addr < other->guest_phys_addr + other->memory_size &&
		    other->guest_phys_addr < region->guest_phys_addr + region->memory_size)
			return true;
	}
	return false;
}

/* The guest loses what it knows of the slot's memory. */
static void forget(struct hv_vm *vm, const struct hv_slot *slot)
{
	vm->mmu->zap(vm, slot->region.guest_phys_addr, slot->region.memory_size, false);
	vm->mmu->flush(vm);
}

static int remove_slot(struct hv_vm *vm, struct hv_slot *slot)
{
	if (!slot->region.memory_size)
		return -EINVAL;
	forget(vm, slot);
	stop_log(vm, slot);
	*slot = (struct hv_slot){ 0 };
	return 0;
}

int hv_vm_set_memory(struct hv_vm *vm, const struct kvm_userspace_memory_region *region)
{
	struct hv_slot *slot, changed = { .region = *region };
	int result = check_region(region);

	if (result)
		return result;
	slot = &vm->slots[region->slot];
	if (!region->memory_size)
		return remove_slot(vm, slot);
	/* Of a slot that exists, only the place in the guest and the dirty logging may change. */
	if (slot->region.memory_size &&
	    (slot->region.memory_size != region->memory_size ||
	     slot->region.userspace_addr != region->userspace_addr ||
	     (slot->region.flags ^ region->flags) & KVM_MEM_READONLY))
		return -EINVAL;
	if (overlaps(vm, region))
		return -EEXIST;
	if ((region->guest_phys_addr + region->memory_size - 1) >> vm->mmu->gpa_bits())
		return -EINVAL;
	if (region->flags & KVM_MEM_LOG_DIRTY_PAGES && slot->dirty)
		changed.dirty = slot->dirty;
	else if (region->flags & KVM_MEM_LOG_DIRTY_PAGES)
		result = start_log(vm, &changed);
	if (result)
		return result;
	if (slot->region.memory_size)
		forget(vm, slot);
	if (!changed.dirty)
		stop_log(vm, slot);
	*slot = changed;
	return 0;
}

/*
 * Each part gives back what it has taken, so that a page that is lost shows: the lender has one
 * less.
 */
void hv_vm_destroy(struct hv_vm *vm)
{
	u32 i;

	while (vm->vcpu_count)
		hv_vcpu_destroy(vm->vcpus[vm->vcpu_count - 1]);
	for (i = 0; i < HV_MAX_SLOTS; i++)
		stop_log(vm, &vm->slots[i]);
	vm->mmu->destroy(vm);
	hv_pool_move(vm->lender, &vm->pool, vm->pool.left);
	memset(vm, 0, sizeof(*vm));
}

int hv_vm_create_irqchip(struct hv_vm *vm)
{
	if (vm->irqchip)
		return -EEXIST;
	if (vm->vcpu_count)
		return -EINVAL;
	if (!control_allowed(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER))
		return -EOPNOTSUPP;
	vm->irqchip = true;
	return 0;
}

int hv_vm_enable_cap(struct hv_vm *vm, const struct kvm_enable_cap *cap)
{
	const u64 msr = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;

	if (cap->flags)
		return -EINVAL;
	if (cap->cap == KVM_CAP_X86_USER_SPACE_MSR && !(cap->args[0] & ~msr)) {
		vm->user_space_msr = cap->args[0];
		return 0;
	}
	if (cap->cap == KVM_CAP_EXIT_HYPERCALL && !(cap->args[0] & ~BIT(KVM_HC_MAP_GPA_RANGE))) {
		vm->user_space_hypercall = cap->args[0];
		return 0;
	}
	return -EINVAL;
}
