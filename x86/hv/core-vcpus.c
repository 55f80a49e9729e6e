/*
 * The core: what passes between vCPUs, and between a vCPU and user space.
 *
 * Two vCPUs of a VM share the shadow tables of one CR3, so what one of them may do for a moment
 * must be over when the other runs. User space saves a vCPU with KVM_GET_VCPU_EVENTS and
 * KVM_GET_SREGS, and expects the same vCPU back from what it sets: an exception that was on its way
 * and the interrupt that waits behind it.
 */
#include "hv/box.h"

static struct box box;
static struct hv_vcpu other;

/* The operand's segment is DS: R13 as a base is not RBP. 3.7.5 (vol 1), Specifying an Offset. */
BOX_GUEST_64(pop_guest, "pop (%r13)\n\t hlt");

/* The stack is a device: the core makes the rest of POP, and finds the exception. */
static void stop_at_the_exception(void)
{
	struct kvm_regs regs;

	box_start(&box, &pop_guest);
	regs = box_regs(&box);
	regs.rsp = BOX_MMIO;
	regs.r13 = BIT(63);
	regs.rflags |= RFLAGS_IF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
}

CASE(r13_is_not_the_frame_pointer, PROVES("guest-instructions:mmio.push_pop"), NEEDS(BOX_NEEDS))
{
	struct kvm_vcpu_events events;

	stop_at_the_exception();
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.exception.injected, 1);
	EXPECT_EQ(events.exception.nr, VECTOR_GP);
}

CASE(interrupt_waits_behind_an_exception, PROVES("kvm-ioctls:events.interrupt"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_interrupt interrupt = { .irq = 0x21 };
	struct kvm_vcpu_events saved, events;

	stop_at_the_exception();
	hv_vcpu_interrupt(&box.vcpu, &interrupt);
	hv_vcpu_get_events(&box.vcpu, &saved);
	EXPECT_EQ(saved.interrupt.injected, 1);
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &saved), 0);
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.exception.injected, 1);
	EXPECT_EQ(events.interrupt.injected, 1);
	EXPECT_EQ(events.interrupt.nr, 0x21);
}

BOX_GUEST_64(halting_guest, "1: hlt\n\t jmp 1b");

CASE(lowest_bit_of_the_bitmap, PROVES("kvm-ioctls:sregs.bitmap"), NEEDS(BOX_NEEDS))
{
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;

	box_start(&box, &halting_guest);
	sregs = box_sregs(&box);
	sregs.interrupt_bitmap[0] = BIT(0x20) | BIT(0x30);
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.interrupt.injected, 1);
	EXPECT_EQ(events.interrupt.nr, 0x20);
}

#define READ_ONLY	0x200000	/* a page of 2 MBytes: the guest's memory again */
#define PLACE		0xffa0		/* FXSAVE reaches beyond the slot from here */
#define MARK		0xa5

/* The second vCPU begins behind FXSAVE and HLT, at the store. */
BOX_GUEST_64(lending_guest, "fxsave (%rbx)\n\t hlt\n\t mov %al, (%rbx)\n\t hlt");

static void set_vcpu(struct hv_vcpu *vcpu, const struct kvm_sregs *sregs, u64 cr0, u64 skipped)
{
	struct kvm_sregs own = *sregs;
	struct kvm_regs regs = box_regs(&box);

	own.cr0 = cr0;
	own.cr4 |= CR4_SMEP;
	own.apic_base = vcpu->apic_base;
	REQUIRE_EQ(hv_vcpu_set_sregs(vcpu, &own), 0);
	regs.rip += skipped;
	regs.rbx = READ_ONLY + PLACE;
	regs.rax = MARK;
	REQUIRE_EQ(hv_vcpu_set_regs(vcpu, &regs), 0);
}

/* CR0.WP = 0 and SMEP: FXSAVE is lent a right to write, and ends without having written. */
CASE(lent_right_is_taken_back, PROVES("paging:acc.s.write_ro_wp1"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;
	u64 *directory;
	u8 *byte;

	hv_start(pages_alloc(PAGE_SIZE, PAGE_SIZE));
	box_start_on(&box, &hv_mmu_shadow, 300, &lending_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = BIT(7) });
	directory = box_at(&box, BOX_TABLES + 0x2000);
	directory[0] &= ~(u64)PTE_US;
	directory[1] = PTE_P | PTE_PS;
	byte = (u8 *)box_at(&box, PLACE);
	box_add_vcpu(&box, &other, 1);
	sregs = box_sregs(&box);
	set_vcpu(&other, &sregs, sregs.cr0 | CR0_WP, 4);
	set_vcpu(&box.vcpu, &sregs, sregs.cr0 & ~(u64)CR0_WP, 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	*byte = 0;
	EXPECT_EQ(hv_vcpu_run(&other), 0);
	EXPECT_EQ(other.run->exit_reason, KVM_EXIT_HLT);
	EXPECT_EQ(*byte, 0);
	hv_vcpu_get_sregs(&other, &sregs);
	EXPECT_EQ(sregs.cr2, READ_ONLY + PLACE);
}
