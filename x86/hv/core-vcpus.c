/*
 * The core: what passes between vCPUs, and between a vCPU and user space.
 *
 * Two vCPUs of a VM share the shadow tables of one CR3, so what one of them may do for a moment
 * must be over when the other runs. User space saves a vCPU with KVM_GET_VCPU_EVENTS and
 * KVM_GET_SREGS, and expects the same vCPU back from what it sets: an exception that was on its way
 * and the interrupt that waits behind it, each delivered once, however far its delivery was.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

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
CASE(lent_right_is_taken_back, PROVES("paging:acc.s.write_ro_wp1"),
     NEEDS(BOX_NEEDS, CPU(SMEP)))
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

/* --- a delivery that was broken off ----------------------------------------------------------- */

#define STACK_FRAME	40			/* bytes that an interrupt pushes in 64-bit mode */

enum event { INTERRUPT = 0x46, NMI = VECTOR_NMI, EXCEPTION = VECTOR_NP };

BOX_GUEST_64(waiting_guest, "sti\n\t hlt\n\t mov $7, %ebx\n\t hlt");
/* INT 45H with a prefix that does nothing: three bytes. */
BOX_GUEST_64(int_guest, "sti\n\t hlt\n\t .byte 0x48, 0xcd, 0x45\n\t mov $7, %ebx\n\t hlt");

static void set_stack(u64 rsp)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rsp = rsp;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

static void queue(enum event event)
{
	const struct kvm_interrupt interrupt = { .irq = event };
	const struct kvm_vcpu_events exception = {
		.exception = { .injected = 1, .nr = EXCEPTION, .has_error_code = 1 } };

	if (event == INTERRUPT)
		REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &interrupt), 0);
	else if (event == NMI)
		REQUIRE_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	else
		REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &exception), 0);
}

/* The stack is a device: the run ends in the middle. */
static void break_off(void)
{
	set_stack(BOX_MMIO + 0x100);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	REQUIRE_EQ(box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	EXPECT_EQ(box.vcpu.run->ready_for_interrupt_injection, 0);
	set_stack(BOX_STACK);
}

static void start_and_break_off(enum event event)
{
	box_start(&box, &waiting_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	queue(event);
	break_off();
}

static struct kvm_vcpu_events get_events(void)
{
	struct kvm_vcpu_events events;

	hv_vcpu_get_events(&box.vcpu, &events);
	return events;
}

/* The vCPU is saved, and another one becomes what it was, in the order in which VMMs do that. */
static void move_vcpu(void)
{
	const struct kvm_regs regs = box_regs(&box);
	const struct kvm_sregs sregs = box_sregs(&box);
	const struct kvm_vcpu_events events = get_events();
	static const u32 indices[] = { IA32_STAR, IA32_PAT, IA32_MISC_ENABLE, IA32_EFER };
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) +
			ARRAY_SIZE(indices) * sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = ARRAY_SIZE(indices) };
	static union {
		struct kvm_cpuid2 table;
		u8 room[sizeof(struct kvm_cpuid2) +
			HV_MAX_CPUID * sizeof(struct kvm_cpuid_entry2)];
	} cpuid;
	struct kvm_debugregs debug;
	struct kvm_mp_state state;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(indices); i++)
		msrs.list.entries[i].index = indices[i];
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), ARRAY_SIZE(indices));
	hv_vcpu_get_mp_state(&box.vcpu, &state);
	hv_vcpu_get_debugregs(&box.vcpu, &debug);
	cpuid.table.nent = box.vcpu.cpuid_count;
	memcpy(cpuid.table.entries, box.vcpu.cpuid, sizeof(box.vcpu.cpuid));
	hv_vcpu_destroy(&box.vcpu);
	REQUIRE_EQ(hv_vcpu_create(&box.vm, &box.vcpu, 0), 0);
	REQUIRE_EQ(hv_vcpu_set_cpuid(&box.vcpu, &cpuid.table), 0);
	EXPECT_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_EQ(hv_vcpu_set_msrs(&box.vcpu, &msrs.list), ARRAY_SIZE(indices));
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), 0);
	EXPECT_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), 0);
}

/* Once, before the next instruction, and then the guest goes on to its end. */
static void expect_once(enum event event)
{
	EXPECT_VECTOR(&box, event);
	if (event == EXCEPTION) {
		set_stack(box_regs(&box).rsp + 8);
		EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME - 8), 0);
	}
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME), BOX_CODE + 2);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 7);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
	EXPECT_EQ(get_events().interrupt.injected, 0);
}

CASE(interrupt_in_delivery_is_shown, PROVES("kvm-ioctls:sregs.bitmap"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	start_and_break_off(INTERRUPT);
	EXPECT_EQ(get_events().interrupt.injected, 1);
	EXPECT_EQ(get_events().interrupt.nr, INTERRUPT);
	sregs = box_sregs(&box);
	EXPECT_EQ(sregs.interrupt_bitmap[INTERRUPT / 64], BIT(INTERRUPT % 64));
	sregs.interrupt_bitmap[INTERRUPT / 64] = 0;
	EXPECT_EQ(sregs.interrupt_bitmap[0] | sregs.interrupt_bitmap[1] |
		  sregs.interrupt_bitmap[2] | sregs.interrupt_bitmap[3], 0);
}

static void moved(const struct case_def *this_case)
{
	enum event event = *(const enum event *)this_case->row;

	start_and_break_off(event);
	move_vcpu();
	expect_once(event);
}

static void set_back(const struct case_def *this_case)
{
	enum event event = *(const enum event *)this_case->row;
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;

	start_and_break_off(event);
	sregs = box_sregs(&box);
	events = get_events();
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_once(event);
}

#define BOTH_WAYS(name, what, ...)							\
	CASE_RUN(name##_in_delivery_goes_along, moved, PROVES("ept:violation.during_delivery"), \
		 NEEDS(BOX_NEEDS, ##__VA_ARGS__), ROW(&(const enum event){ what }));	\
	CASE_RUN(name##_in_delivery_set_back, set_back, PROVES("ept:violation.during_delivery"), \
		 NEEDS(BOX_NEEDS, ##__VA_ARGS__), ROW(&(const enum event){ what }))

BOTH_WAYS(interrupt, INTERRUPT);
BOTH_WAYS(nmi, NMI, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING));
BOTH_WAYS(exception, EXCEPTION);

/* INT n is executed again; a length that nobody has kept would lead into its middle. */
CASE(software_interrupt_in_delivery_goes_along, PROVES("event-injection:inject.type.swint"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &int_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	break_off();
	EXPECT_EQ(get_events().interrupt.injected, 0);
	move_vcpu();
	EXPECT_VECTOR(&box, 0x45);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME), BOX_CODE + 5);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 7);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
}

/* Where the local APIC is the core's, one that waits is not replaced, nor one in delivery. */
CASE(second_interrupt_is_refused, PROVES("kvm-ioctls:irq.eexist"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	const struct kvm_interrupt second = { .irq = 0x47 };

	box_start_with_apic(&box, &waiting_guest);
	box_run_to_halt(&box);
	queue(INTERRUPT);
	EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &second), -EEXIST);
	break_off();
	EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &second), -EEXIST);
	box_run_to_halt(&box);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME), BOX_CODE + 2);
	EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &second), 0);
}

/* An NMI and an exception at once: both are on their way, and the NMI interrupts the handler. */
CASE(nmi_waits_behind_an_exception, PROVES("kvm-ioctls:events.interrupt"),
     NEEDS(BOX_NEEDS, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)))
{
	const struct kvm_vcpu_events events = {
		.exception = { .injected = 1, .nr = EXCEPTION, .has_error_code = 1 },
		.nmi.injected = 1 };

	box_start(&box, &waiting_guest);
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	EXPECT_VECTOR(&box, NMI);
	EXPECT_VECTOR(&box, EXCEPTION);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME), BOX_CODE);
}

/* Without one, user space that queues another where none is free has given the first one up. */
CASE(second_interrupt_takes_the_place, PROVES("kvm-ioctls:irq.eexist"), NEEDS(BOX_NEEDS))
{
	const struct kvm_interrupt second = { .irq = 0x47 };

	start_and_break_off(INTERRUPT);
	EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &second), 0);
	EXPECT_EQ(get_events().interrupt.nr, second.irq);
	EXPECT_EQ(box_sregs(&box).interrupt_bitmap[1], BIT(second.irq % 64));
	expect_once(second.irq);
}

#define DR6_BS		BIT(14)

BOX_GUEST_64(out_guest, "out %al, $0x80\n\t nop\n\t hlt");

/* RFLAGS.TF: the trap behind the instruction has not come when the vCPU is saved. */
static void start_to_the_trap(void)
{
	struct kvm_regs regs;

	box_start(&box, &out_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	regs = box_regs(&box);
	regs.rflags |= RFLAGS_TF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
}

static void stop_at_the_trap(void)
{
	start_to_the_trap();
	EXPECT_EQ(get_events().exception.injected, 1);
	EXPECT_EQ(get_events().exception.nr, VECTOR_DB);
}

static void expect_one_trap(void)
{
	struct kvm_debugregs debug;

	EXPECT_VECTOR(&box, VECTOR_DB);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME), BOX_CODE + 2);
	hv_vcpu_get_debugregs(&box.vcpu, &debug);
	EXPECT_EQ(debug.dr6 & (DR6_BS | BITS(3, 0)), DR6_BS);
	*box_at(&box, BOX_STACK - STACK_FRAME + 16) &= ~(u64)RFLAGS_TF;
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 4);
}

CASE(trap_goes_along, PROVES("interruptibility:pdbg.deliver"), NEEDS(BOX_NEEDS))
{
	stop_at_the_trap();
	move_vcpu();
	expect_one_trap();
}

/* Nor does it come twice where somebody has only looked. */
CASE(trap_that_was_told, PROVES("interruptibility:pdbg.deliver"), NEEDS(BOX_NEEDS))
{
	stop_at_the_trap();
	expect_one_trap();
}

/* Or not at all, if user space says so. */
CASE(trap_that_is_taken_away, PROVES("kvm-ioctls:events.exception"), NEEDS(BOX_NEEDS))
{
	const struct kvm_vcpu_events none = { 0 };
	struct kvm_regs regs;

	stop_at_the_trap();
	regs = box_regs(&box);
	regs.rflags &= ~(u64)RFLAGS_TF;
	EXPECT_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	EXPECT_EQ(get_events().exception.injected, 1);
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &none), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 4);
}

/* It exits to the debugger who has asked for such. */
CASE(trap_of_a_debugger, PROVES("kvm-exits:4"), NEEDS(BOX_NEEDS, PROC1(MOV_DR_EXITING)))
{
	const struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };

	start_to_the_trap();
	REQUIRE_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	EXPECT_EQ(get_events().exception.injected, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_DEBUG);
	EXPECT_EQ(box.vcpu.run->debug.arch.dr6 & DR6_BS, DR6_BS);
}
