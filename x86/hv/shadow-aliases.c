/*
 * One page table of the guest below two page-directory entries with different rights: 5.6.1 takes the rights of all
 * entries of a translation together, so the same page may be written by one linear address and not by another. A
 * shadow table stands for the table and for the rights above it, hence there must be two. The guest uses both
 * addresses in turn, so that a shadow that was made for one is there when the other is used.
 */
#include "hv/box.h"
#include "hv/mmu_shadow.h"

#define SHARED_TABLE	0xb000
#define PAGE		0xc000
#define FIRST		2u	/* PDEs: 400000H, 800000H */
#define SECOND		4u

static struct box box;

static void start(const struct box_guest *guest, u64 cr0, u64 efer, u64 second)
{
	u64 *directory;
	struct kvm_sregs sregs;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, 300, guest);
	sregs = box_sregs(&box);
	sregs.cr0 |= cr0;
	sregs.efer |= efer;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	directory = box_at(&box, BOX_TABLES + 2 * PAGE_SIZE);
	directory[FIRST] = SHARED_TABLE | PTE_P | PTE_RW;
	directory[SECOND] = SHARED_TABLE | second;
	*box_at(&box, SHARED_TABLE) = PAGE | PTE_P | PTE_RW;
	*(u8 *)box_at(&box, PAGE) = 0xc3;	/* RET */
}

BOX_GUEST_64(write_guest,
	     "mov $0x400000, %ebx\n\t mov $0x800000, %ecx\n\t mov %al, 8(%rbx)\n\t mov 8(%rcx), %dl\n\t"
	     "mov %al, 8(%rbx)\n\t mov %al, 8(%rcx)\n\t hlt");

CASE(read_only_above_a_shared_table, PROVES("paging:acc.rw_and"), NEEDS(VMX))
{
	start(&write_guest, CR0_WP, 0, PTE_P);
	EXPECT_VECTOR(&box, VECTOR_PF);
}

CASE(writable_above_a_shared_table, PROVES("paging:acc.rw_and"), NEEDS(VMX))
{
	start(&write_guest, CR0_WP, 0, PTE_P | PTE_RW);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

BOX_GUEST_64(fetch_guest,
	     "mov $0x400000, %ebx\n\t mov $0x800000, %ecx\n\t call *%rbx\n\t mov (%rcx), %al\n\t call *%rbx\n\t"
	     "call *%rcx\n\t hlt");

CASE(execute_disable_above_a_shared_table, PROVES("paging:acc.xd_or"), NEEDS(VMX, CPU(NX)))
{
	start(&fetch_guest, 0, EFER_NXE, PTE_P | PTE_RW | PTE_XD);
	EXPECT_VECTOR(&box, VECTOR_PF);
}

CASE(executable_above_a_shared_table, PROVES("paging:acc.xd_or"), NEEDS(VMX, CPU(NX)))
{
	start(&fetch_guest, 0, EFER_NXE, PTE_P | PTE_RW);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}
