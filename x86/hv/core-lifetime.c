/*
 * The core: VMs and vCPUs that are made, refused and destroyed.
 *
 * All that a VM has comes from a pool of user space, and is back there when it is destroyed
 * (hv/shadow-endurance: ten thousand times). The processor must have let go of it by then: 27.11.1
 * Software Use of Virtual-Machine Control Structures. A call that fails has done nothing.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "vmx/vmcs.h"

#define SHADOW_POOL	300		/* pages */
#define NO_VMCS		(~0ull)

static struct box box;

BOX_GUEST_64(counting_guest, "1: inc %ebx\n\t out %al, $0x80\n\t jmp 1b");

static void start_on(const struct hv_mmu *mmu)
{
	hv_start(page_alloc());
	box_start_on(&box, mmu, SHADOW_POOL, &counting_guest);
}

static u64 current_vmcs(void)
{
	u64 current = 0;

	REQUIRE(vmptrst(&current), OUTCOME_DONE);
	return current;
}

static void run_to_out(struct hv_vcpu *vcpu)
{
	REQUIRE_EQ(hv_vcpu_run(vcpu), 0);
	REQUIRE_EXIT(vcpu->run->exit_reason, KVM_EXIT_IO);
}

static u64 count_of(struct hv_vcpu *vcpu)
{
	struct kvm_regs regs;

	hv_vcpu_get_regs(vcpu, &regs);
	return regs.rbx;
}

/* A second vCPU as the first one was at its start. */
static void add_second(struct hv_vcpu *second)
{
	const struct kvm_regs regs = box_regs(&box);

	box_add_vcpu(&box, second, 1);
	REQUIRE_EQ(hv_vcpu_set_regs(second, &regs), 0);
}

#define EACH_MMU(id, function, fact)							\
	CASE_RUN(id, function, PROVES(fact), NEEDS(BOX_NEEDS), ROW(&hv_mmu_ept));	\
	CASE_RUN(id##_with_shadow_paging, function, PROVES(fact), NEEDS(VMX), ROW(&hv_mmu_shadow))

/* --- what goes -------------------------------------------------------------------------------- */

/* The VMCS of a vCPU that is gone is not current, so nothing is written to its page any more. */
static void vcpu_that_is_destroyed(const struct case_def *this_case)
{
	static struct hv_vcpu second;
	u64 left, page;

	start_on(this_case->row);
	run_to_out(&box.vcpu);
	left = box.vm.pool.left;
	add_second(&second);
	page = physical(second.vmcs);
	run_to_out(&second);
	EXPECT_EQ(current_vmcs(), page);
	hv_vcpu_destroy(&second);
	EXPECT_EQ(current_vmcs(), NO_VMCS);
	EXPECT_EQ(box.vm.pool.left, left);
	EXPECT_EQ(box.vm.vcpu_count, 1);
	/* The other goes on, and there is room for another with that number. */
	run_to_out(&box.vcpu);
	EXPECT_EQ(count_of(&box.vcpu), 2);
	add_second(&second);
	run_to_out(&second);
	EXPECT_EQ(count_of(&second), 2);
	hv_vm_destroy(&box.vm);
	EXPECT_EQ(box.pool.left, SHADOW_POOL);
}

EACH_MMU(vcpu_that_is_destroyed, vcpu_that_is_destroyed, "vmx-instructions:vmclear.success");

/* The first of three: the others are where they were, and keep the tables that they use. */
static void first_of_three_vcpus(const struct case_def *this_case)
{
	static struct hv_vcpu others[2];
	u32 i, round;

	start_on(this_case->row);
	for (i = 0; i < 2; i++)
		box_add_vcpu(&box, &others[i], i + 1);
	for (i = 0; i < 2; i++)
		REQUIRE_EQ(hv_vcpu_set_regs(&others[i], &(struct kvm_regs){
			.rip = BOX_CODE, .rflags = RFLAGS_FIXED }), 0);
	run_to_out(&box.vcpu);
	hv_vcpu_destroy(&box.vcpu);
	EXPECT_EQ(box.vm.vcpus[0]->id, 1);
	EXPECT_EQ(box.vm.vcpus[1]->id, 2);
	for (round = 1; round <= 2; round++) {
		for (i = 0; i < 2; i++) {
			run_to_out(&others[i]);
			EXPECT_EQ(count_of(&others[i]), round);
		}
		box.vm.mmu->reclaim(&box.vm);
	}
}

EACH_MMU(first_of_three_vcpus, first_of_three_vcpus, "kvm-ioctls:create_vcpu.ok");

/* Two VMs of one pool: what one gives back the other can have. */
static void two_vms_of_one_pool(const struct case_def *this_case)
{
	const struct hv_mmu *mmu = this_case->row;
	static struct hv_vm vms[2];
	struct hv_pool pool;
	u64 size = (mmu->min_pages + 1) * PAGE_SIZE, at_null;
	volatile u64 *null = NULL;

	/*
	 * A page that the pool has not got would be here,
	 * and the next no address. Hidden from the compiler.
	 */
	asm("" : "+r" (null));
	at_null = *null;
	*null = 0xdeadull << 48;
	hv_start(page_alloc());
	hv_pool_init(&pool, pages_alloc(size, PAGE_SIZE), size);
	REQUIRE_EQ(hv_vm_create(&vms[0], mmu, &pool, mmu->min_pages), 0);
	EXPECT_EQ(pool.left, 1);
	EXPECT_EQ(hv_vm_create(&vms[1], mmu, &pool, mmu->min_pages), -ENOMEM);
	EXPECT_EQ(pool.left, 1);
	*null = at_null;
	hv_vm_destroy(&vms[0]);
	EXPECT_EQ(pool.left, mmu->min_pages + 1);
	EXPECT_EQ(hv_vm_create(&vms[1], mmu, &pool, mmu->min_pages - 1), -ENOMEM);
	EXPECT_EQ(hv_vm_create(&vms[1], mmu, &pool, mmu->min_pages), 0);
}

EACH_MMU(two_vms_of_one_pool, two_vms_of_one_pool, "kvm-ioctls:create_vm.ok");

/* --- what is refused -------------------------------------------------------------------------- */

CASE(ids_of_vcpus, PROVES("kvm-ioctls:create_vcpu.eexist", "kvm-ioctls:create_vcpu.id_max",
			  "kvm-ioctls:create_vcpu.max_vcpus"), NEEDS(BOX_NEEDS))
{
	static struct hv_vcpu others[HV_MAX_VCPUS];
	u64 left;
	u32 i;

	start_on(&hv_mmu_ept);
	left = box.vm.pool.left;
	EXPECT_EQ(hv_vcpu_create(&box.vm, &others[0], 0), -EEXIST);
	EXPECT_EQ(hv_vcpu_create(&box.vm, &others[0], HV_MAX_VCPU_ID), -EINVAL);
	EXPECT_EQ(box.vm.pool.left, left);
	EXPECT_EQ(box.vm.vcpu_count, 1);
	/* In any order. */
	for (i = 1; i < HV_MAX_VCPUS; i++)
		REQUIRE_EQ(hv_vcpu_create(&box.vm, &others[i], HV_MAX_VCPU_ID - i), 0);
	left = box.vm.pool.left;
	EXPECT_EQ(hv_vcpu_create(&box.vm, &others[0], 1), -EINVAL);
	EXPECT_EQ(box.vm.pool.left, left);
}

/* With each number of pages that is too small, until it is not; then the same again. */
static void vcpu_without_room(const struct case_def *this_case)
{
	static struct hv_vcpu second;
	struct hv_pool spare = { 0 };
	u64 pages, reserve;
	int result = -ENOMEM;

	start_on(this_case->row);
	reserve = box.vm.reserve;
	box.vm.mmu->reclaim(&box.vm);
	hv_pool_move(&spare, &box.vm.pool, box.vm.pool.left);
	for (pages = 0; result; pages++) {
		REQUIRE_TRUE(pages < reserve + 8);
		result = hv_vcpu_create(&box.vm, &second, 1);
		if (!result)
			break;
		EXPECT_EQ(result, -ENOMEM);
		EXPECT_EQ(box.vm.pool.left, pages);
		EXPECT_EQ(box.vm.vcpu_count, 1);
		hv_pool_move(&box.vm.pool, &spare, 1);
	}
	EXPECT_EQ(pages, reserve + 3 + (box.vm.ept.pml || this_case->row == &hv_mmu_shadow));
	/* What the MMU needs is left; it has made a table for the new one. */
	box.vm.mmu->reclaim(&box.vm);
	EXPECT_EQ(box.vm.pool.left, reserve);
	hv_vcpu_destroy(&second);
	EXPECT_EQ(box.vm.pool.left, pages);
}

EACH_MMU(vcpu_without_room, vcpu_without_room, "kvm-ioctls:create_vcpu.ok");

/* --- the least there is ----------------------------------------------------------------------- */

/* Eight bytes from two pages to two others, at the borders of entries of the topmost table. */
#define FAR_FROM	(BIT(39) - 4)
#define FAR_TO		(BIT(39) * 3 - 4)

BOX_GUEST_64(far_guest,
	     "out %al, $0x80\n\t mov $0x7ffffffffc, %rsi\n\t mov $0x17ffffffffc, %rdi\n\t"
	     "movsq\n\t out %al, $0x80");

struct far {
	const struct hv_mmu *mmu;
	u64 apart;		/* guest-physical addresses of the tables for them */
	u32 exit;
};

/* The page for `linear`, and its tables below the topmost: each in a slot of its own. */
static u64 *map_far(u64 linear, u64 apart, u32 *slot)
{
	u64 *table = box_at(&box, BOX_TABLES), gpa;
	u32 level;

	for (level = 4; level; level--) {
		u64 *entry = &table[linear >> (3 + 9 * level) & 511];

		/* The first 512 GBytes have a table already. */
		if (*entry) {
			table = box_at(&box, *entry & PTE_ADDRESS);
			continue;
		}
		gpa = BIT(30) + ++*slot * (level > 1 ? apart : BIT(30));
		*entry = gpa | PTE_P | PTE_RW;
		table = (u64 *)box_add_memory(&box, *slot, gpa, PAGE_SIZE, 0);
	}
	return table;
}

/*
 * A VM with as few pages as it may have for one vCPU: no more of them, and no log. One instruction
 * needs pages in six GBytes, or with its paging structures in sixteen, which are more tables of
 * EPT than there are pages. That must not hang.
 */
static void least_pages(const struct case_def *this_case)
{
	const struct far *row = this_case->row;
	static struct hv_vcpu second;
	struct kvm_userspace_memory_region region = {
		.slot = 20, .guest_phys_addr = BIT(36), .memory_size = PAGE_SIZE,
		.flags = KVM_MEM_LOG_DIRTY_PAGES, .userspace_addr = physical(page_alloc()),
	};
	u64 *from, *to, *to_end;
	u32 slot = 0;

	hv_start(page_alloc());
	box_start_on(&box, row->mmu, row->mmu->min_pages + 4, &far_guest);
	if (!box.vm.vcpu_pages)
		hv_pool_take(&box.vm.pool);
	from = map_far(FAR_FROM, row->apart, &slot);
	map_far(FAR_FROM + 4, row->apart, &slot);
	to = map_far(FAR_TO, row->apart, &slot);
	to_end = map_far(FAR_TO + 4, row->apart, &slot);
	from[511] = 0x12345678ull << 32;
	run_to_out(&box.vcpu);
	EXPECT_EQ(hv_vcpu_create(&box.vm, &second, 1), -ENOMEM);
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -ENOMEM);
	EXPECT_EQ(box.vm.vcpu_count, 1);
	EXPECT_EXIT(box_run(&box), row->exit);
	if (row->exit == KVM_EXIT_IO) {
		EXPECT_EQ(to[511] >> 32, 0x12345678);
		EXPECT_EQ(to_end[0], 0);
		return;
	}
	EXPECT_EQ(box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
}

static const struct far near_ept = { &hv_mmu_ept, PAGE_SIZE, KVM_EXIT_IO };
static const struct far near_restricted = { &hv_mmu_ept_restricted, PAGE_SIZE, KVM_EXIT_IO };
static const struct far far_ept = { &hv_mmu_ept, BIT(30), KVM_EXIT_INTERNAL_ERROR };
static const struct far far_shadow = { &hv_mmu_shadow, BIT(30), KVM_EXIT_IO };

#define LEAST(id, the_row)								\
	CASE_RUN(least_pages_##id, least_pages, PROVES("kvm-ioctls:create_vcpu.ok"),	\
		 NEEDS(BOX_NEEDS), ROW(&(the_row)))

LEAST(tables_together, near_ept);
LEAST(tables_together_restricted, near_restricted);
LEAST(tables_apart, far_ept);
LEAST(tables_apart_with_shadow_paging, far_shadow);
