/*
 * Shadow paging for long: a million changes of page-table entries, and ten thousand VMs; the latter with EPT as well.
 *
 * The pages of a VM are all that its shadow tables can use. A page that is not given back, or an
 * entry that stays in a list, shows after enough rounds: as fewer free pages, or as an access to
 * what the guest has mapped before.
 */
#include "hv/box.h"
#include "hv/mmu_shadow.h"
#include "string.h"

#define POOL		300
#define ROUNDS		1954	/* of 512 entries */
#define TABLE		0x102000	/* a page directory and a page table in the second slot */
#define DATA		0x108000	/* 8 pages; each holds its number */
#define VMS		10000
#define RUN_EACH	50	/* so many VMs from one that also runs */

_Static_assert(ROUNDS * 512 >= 1000000, "a million changes");

/*
 * Each round writes all 512 entries, so that entry n - 1 maps page (n + round) % 8, loads CR3, and
 * reads through each 64th. Every 256 rounds user space has a look.
 */
BOX_GUEST_64(changes_guest,
	     "mov $" STRINGIFY(ROUNDS) ", %r8d\n\t"
	     "1: mov $512, %ecx\n\t"
	     "2: lea (%rcx, %r8), %eax\n\t and $7, %eax\n\t shl $12, %eax\n\t"
	     "add $0x108003, %eax\n\t mov %rax, 0x101ff8(, %rcx, 8)\n\t"
	     "dec %ecx\n\t jnz 2b\n\t"
	     "mov %cr3, %rax\n\t mov %rax, %cr3\n\t"
	     "mov $512, %ecx\n\t"
	     "3: mov %ecx, %eax\n\t shl $12, %rax\n\t mov 0x3ffff000(%rax), %rdx\n\t"
	     "lea (%rcx, %r8), %eax\n\t and $7, %eax\n\t cmp %rax, %rdx\n\t jne 4f\n\t"
	     "sub $64, %ecx\n\t jnz 3b\n\t"
	     "test $255, %r8b\n\t jnz 5f\n\t out %al, $0x80\n\t"
	     "5: dec %r8d\n\t jnz 1b\n\t"
	     "4: hlt");

static struct box box;

static void map_table(void)
{
	u64 i, *memory = (u64 *)box_add_memory(&box, 1, 0x100000, 16 * PAGE_SIZE, 0);

	/* The second GByte: a page directory behind the page table. */
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = (TABLE + PAGE_SIZE) | PTE_P | PTE_RW;
	memory[(TABLE + PAGE_SIZE - 0x100000) / 8] = TABLE | PTE_P | PTE_RW;
	for (i = 0; i < 8; i++)
		memory[(DATA - 0x100000 + i * PAGE_SIZE) / 8] = i;
}

CASE(a_million_changes, PROVES("paging:tlb.cr3.same"), NEEDS(VMX))
{
	u64 left = 0, tables = 0, stops = 0;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, POOL, &changes_guest);
	map_table();
	while (box_run(&box) == KVM_EXIT_IO) {
		/* The first stop is warm: from then on nothing may become less. */
		if (!stops++) {
			left = box.vm.pool.left;
			tables = shadow_of(&box.vm)->tables;
		}
		REQUIRE_EQ(box.vm.pool.left, left);
		REQUIRE_EQ(shadow_of(&box.vm)->tables, tables);
		tap_comment("%lu entries to go", (unsigned long)box_regs(&box).r8 * 512);
	}
	EXPECT_EXIT(box.vcpu.run->exit_reason, KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).r8, 0);
	EXPECT_EQ(stops, ROUNDS / 256);
	EXPECT_EQ(shadow_of(&box.vm)->reclaimed, 0);
}

BOX_GUEST_32(short_guest, "incl 0xc000\n\t hlt");

/* Protected mode without paging. Gives the free pages that are left afterwards. */
static u64 run_vm(void)
{
	const struct kvm_segment data = { .limit = 0xffffffff, .type = 3, .present = 1, .s = 1,
					  .g = 1, .db = 1 };
	struct kvm_segment code = data;
	struct kvm_sregs sregs = box_sregs(&box);

	code.type = 11;
	sregs.cs = code;
	sregs.ss = sregs.ds = sregs.es = data;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	hv_vcpu_set_regs(&box.vcpu, &(struct kvm_regs){ .rip = BOX_CODE, .rflags = RFLAGS_FIXED });
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	return box.vm.pool.left;
}

static void ten_thousand_vms(const struct case_def *this_case)
{
	const struct hv_mmu *mmu = this_case->row;
	const u64 size = (mmu->min_pages + 3) * PAGE_SIZE;
	void *pages = pages_alloc(size, PAGE_SIZE);
	const struct kvm_userspace_memory_region region = {
		.memory_size = BOX_SIZE, .userspace_addr = physical(pages_alloc(BOX_SIZE, PAGE_SIZE)) };
	u8 *memory = (u8 *)region.userspace_addr;
	u64 left = 0, after = 0;
	u32 i;

	hv_start(page_alloc());
	memcpy(memory + BOX_CODE, short_guest.start, short_guest.end - short_guest.start);
	for (i = 0; i < VMS; i++) {
		REQUIRE_EQ(hv_vm_create(&box.vm, mmu, pages, size), 0);
		REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
		REQUIRE_EQ(hv_vcpu_create(&box.vm, &box.vcpu, 0), 0);
		left = i ? left : box.vm.pool.left;
		REQUIRE_EQ(box.vm.pool.left, left);
		if (i % RUN_EACH)
			continue;
		after = i ? after : run_vm();
		if (i)
			REQUIRE_EQ(run_vm(), after);
		if (i % 1000 == 0)
			tap_comment("%u of %u VMs", i, VMS);
	}
	EXPECT_EQ(*(u32 *)(memory + 0xc000), VMS / RUN_EACH);
}

CASE_RUN(ten_thousand_vms, ten_thousand_vms, PROVES("kvm-ioctls:mem.ok"), NEEDS(VMX),
	 ROW(&hv_mmu_shadow));
CASE_RUN(ten_thousand_vms_with_ept, ten_thousand_vms, PROVES("kvm-ioctls:mem.ok"),
	 NEEDS(BOX_NEEDS_UNPAGED), ROW(&hv_mmu_ept));
