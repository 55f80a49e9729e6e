/*
 * The core: events that it delivers to a guest.
 *
 * User space queues interrupts and NMIs; the core delivers them when the guest can take them, by
 * event injection (29.6 Event Injection) and by the windows that VMX watches (interrupt-window and
 * NMI-window exiting). Delivery is itself a piece of work that a VM exit can break off, e.g.
 * because the stack's page is not in the EPT yet: the event must then be delivered anew (30.2.4
 * Information for VM Exits That Occur During Event Delivery), or it would be lost.
 */
#include "hv/box.h"
#include "string.h"

static struct box box;

#define STACK_FRAME	40			/* bytes that an interrupt pushes in 64-bit mode */
#define FRESH_STACK	0xe000			/* on a page that no guest has touched */
#define SHADOW_POOL	300			/* pages, with shadow paging */

static void interrupt(u32 vector)
{
	const struct kvm_interrupt irq = { .irq = vector };

	REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &irq), 0);
}

static u64 saved_rip(u64 stack)
{
	return *box_at(&box, stack - STACK_FRAME);
}

static void set_stack(u64 rsp)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rsp = rsp;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

static void inject_exception(u8 vector, u32 error)
{
	const struct kvm_vcpu_events events = {
		.exception = { .injected = 1, .nr = vector,
			       .has_error_code = 1, .error_code = error } };

	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
}

/* --- interrupts ---------------------------------------------------------------- */

BOX_GUEST_64(halt_guest, "sti\n\t hlt\n\t mov $7, %ebx\n\t hlt");

CASE(interrupt_wakes_hlt, PROVES("kvm-exits:5", "event-injection:inject.type.extint"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &halt_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box.vcpu.run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(box.vcpu.run->if_flag, 1);
	interrupt(0x40);
	EXPECT_VECTOR(&box, 0x40);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 2);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 7);
}

/* A HLT with an interrupt waiting is over at once. */
CASE(hlt_with_an_interrupt_waiting, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &halt_guest);
	interrupt(0x40);
	EXPECT_VECTOR(&box, 0x40);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 2);
}

BOX_GUEST_64(closed_guest, "out %al, $0x80\n\t nop\n\t sti\n\t nop\n\t nop\n\t hlt");

/* STI keeps interrupts out for one more instruction, here the first NOP behind it. */
CASE(interrupt_waits_for_if, PROVES("interruptibility:window.intr", "interruptibility:sti.block"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &closed_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(box.vcpu.run->ready_for_interrupt_injection, 0);
	interrupt(0x41);
	EXPECT_VECTOR(&box, 0x41);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 5);
}

CASE(interrupt_window_for_user_space, PROVES("kvm-exits:7"), NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &closed_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	run->request_interrupt_window = 1;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 5);
	run->request_interrupt_window = 0;
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

CASE(interrupt_vectors, PROVES("kvm-ioctls:irq.range", "kvm-ioctls:irq.eexist"), NEEDS(BOX_NEEDS))
{
	const struct kvm_interrupt above = { .irq = 256 };

	box_start(&box, &halt_guest);
	EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &above), -EINVAL);
	interrupt(0x40);
	interrupt(0xff);
	EXPECT_VECTOR(&box, 0xff);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 7);
}

BOX_GUEST_16(real_mode_halt_guest, "sti\n\t hlt");

CASE(interrupt_in_real_mode, PROVES("event-injection:inject.real"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &real_mode_halt_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	interrupt(0x42);
	EXPECT_VECTOR(&box, 0x42);
	EXPECT_EQ(*(u16 *)(box.memory + BOX_STACK - 6), BOX_CODE + 2);
}

BOX_GUEST_64(sti_cpuid_guest, "sti\n\t cpuid\n\t hlt");

/* An instruction that the core emulates ends the shadow of the STI before it, as any other. */
CASE(emulation_ends_the_sti_shadow, PROVES("interruptibility:sti.block"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &sti_cpuid_guest);
	interrupt(0x43);
	EXPECT_VECTOR(&box, 0x43);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 3);
}

BOX_GUEST_64(single_step_guest,
	     "pushfq\n\t orl $0x100, (%rsp)\n\t popfq\n\t cpuid\n\t nop\n\t hlt");

/* The single-step trap comes behind an emulated instruction, too: RFLAGS.TF as in 20.3.1.4. */
CASE(emulation_is_single_stepped, PROVES("interruptibility:pdbg.deliver"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &single_step_guest);
	EXPECT_VECTOR(&box, VECTOR_DB);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 11);
}

/* --- NMIs ---------------------------------------------------------------------- */

CASE(nmi_and_its_blocking, PROVES("kvm-ioctls:nmi.ok", "event-injection:inject.type.nmi",
				  "interruptibility:window.nmi"),
     NEEDS(BOX_NEEDS, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)))
{
	struct kvm_vcpu_events events;

	box_start(&box, &closed_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	EXPECT_VECTOR(&box, VECTOR_NMI);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 2);
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.nmi.masked, 1);
	/* The second one waits for the handler's IRET, and is taken right behind it. */
	EXPECT_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	EXPECT_VECTOR(&box, VECTOR_NMI);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK - STACK_FRAME);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
}

/*
 * 30.2.3: an IRET that exits, here because of its stack's page, has ended the blocking of NMIs and
 * is executed once more. The NMI that waits for it must not come in between.
 */
static void iret_from_a_fresh_page(const struct case_def *this_case)
{
	const u64 frame = FRESH_STACK + STACK_FRAME;

	hv_start(page_alloc());
	box_start_on(&box, this_case->row, SHADOW_POOL, &closed_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	EXPECT_VECTOR(&box, VECTOR_NMI);
	memcpy(box.memory + frame, box.memory + BOX_STACK - STACK_FRAME, STACK_FRAME);
	set_stack(frame);
	EXPECT_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	EXPECT_VECTOR(&box, VECTOR_NMI);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 2);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK - STACK_FRAME);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
}

CASE_RUN(nmi_waits_for_an_iret_that_exits, iret_from_a_fresh_page,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "interruptibility:nmi.unblock_info"),
	 NEEDS(BOX_NEEDS, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)), ROW(&hv_mmu_ept));
CASE_RUN(nmi_waits_for_an_iret_that_exits_with_shadow_paging, iret_from_a_fresh_page,
	 PROVES("field-formats:exiting_event.nmi_unblocking", "interruptibility:nmi.unblock_info"),
	 NEEDS(VMX, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)), ROW(&hv_mmu_shadow));

/* --- delivery that is broken off -------------------------------------------------- */

BOX_GUEST_64(idle_guest, "hlt\n\t mov $9, %ebx\n\t hlt");

/* Two exits at least: IDT or handler, and the stack, are used for the first time. */
CASE(interrupt_is_delivered_anew, PROVES("ept:violation.during_delivery"), NEEDS(BOX_NEEDS))
{
	u64 fills;

	box_start(&box, &halt_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	set_stack(FRESH_STACK);
	fills = box.vm.fills;
	interrupt(0x44);
	EXPECT_VECTOR(&box, 0x44);
	EXPECT_TRUE(box.vm.fills >= fills + 2);
	EXPECT_EQ(saved_rip(FRESH_STACK), BOX_CODE + 2);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 7);
}

CASE(exception_is_delivered_anew, PROVES("ept:violation.during_delivery",
					 "event-injection:inject.errcode"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &idle_guest);
	set_stack(FRESH_STACK);
	inject_exception(VECTOR_GP, 0x18);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(saved_rip(FRESH_STACK), BOX_CODE);
	EXPECT_EQ(*box_at(&box, FRESH_STACK - STACK_FRAME - 8), 0x18);
}

BOX_GUEST_64(int_guest, "mov $0xe000, %esp\n\t int $0x45\n\t hlt");

/* With its length, so that the handler returns behind it. */
CASE(software_interrupt_is_delivered_anew, PROVES("event-injection:inject.type.swint"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &int_guest);
	EXPECT_VECTOR(&box, 0x45);
	EXPECT_EQ(saved_rip(FRESH_STACK), BOX_CODE + 7);
}

/* The stack is a device: nobody could say in which order it would see what. */
CASE(delivery_to_mmio_is_an_internal_error, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	const struct kvm_run *run;

	box_start(&box, &halt_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	set_stack(BOX_MMIO + 0x100);
	interrupt(0x46);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	EXPECT_EQ(FIELD(run->internal.data[0], 7, 0), 0x46);
}

/* --- paging structures that are not memory ------------------------------------------ */

#define NO_TABLE	0x800000		/* linear: its page table is in no slot */

static void set_bad_page_table(void)
{
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[NO_TABLE >> 21] =
		BOX_MMIO | PTE_P | PTE_RW | PTE_US;
}

BOX_GUEST_64(bad_table_guest, "mov $0x800000, %eax\n\t mov (%rax), %ebx\n\t hlt");

CASE(page_table_outside_of_memory, PROVES("ept:violation.paging_read"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &bad_table_guest);
	set_bad_page_table();
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, NO_TABLE);
	/* The entry is all ones, as from a bus where nobody answers: reserved bits; read, CPL 0. */
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME - 8), PF_P | PF_RSVD);
}

/*
 * The same for accesses that are not emulated: the error code tells what each was (5.7), those of
 * a system structure and of the stack of another level in supervisor mode at CPL 3, too (5.6.1).
 * The handler has a stack of its own. BOX_MMIO, where the table is said to be, is a device for all
 * else.
 */
#define AT_DEVICE	16		/* in each guest: reads BOX_MMIO */
#define BAD_ACCESS(name, text)									\
	BOX_GUEST_64(name, text "\n\t .org box_" #name " + 16\n\t mov 0x10000000, %eax\n\t hlt")

BAD_ACCESS(push_guest, "push %rax");
BAD_ACCESS(pop_guest, "pop %rax");
BAD_ACCESS(fxsave_guest, "fxsave (%rsp)");
BAD_ACCESS(bad_int_guest, "int $0x45");
BAD_ACCESS(load_segment_guest, "mov $0xf, %eax\n\t mov %eax, %ds");

struct bad_access {
	const struct box_guest *guest;
	u32 cpl, error;
	u64 address;		/* in the page whose table is nowhere */
	bool own_stack;		/* of the guest is there */
};

static void set_user_mode(void)
{
	struct kvm_sregs sregs = box_sregs(&box);

	sregs.cs.selector = SELECTOR_USER_CODE64;
	sregs.ss.selector = SELECTOR_USER_DATA;
	sregs.cs.dpl = sregs.ss.dpl = 3;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
}

static void check_bad_access(const struct case_def *this_case)
{
	const struct bad_access *row = this_case->row;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	box_start(&box, row->guest);
	set_bad_page_table();
	*(u64 *)(box.memory + 4) = NO_TABLE + 0x800;	/* TSS at 0: RSP0 */
	*(u64 *)(box.memory + 36) = BOX_STACK;		/* IST1 */
	*box_at(&box, BOX_IDT + 16 * VECTOR_PF) |= BIT(32);
	*box_at(&box, BOX_IDT + 16 * 0x45) |= 3ull << 45;
	sregs = box_sregs(&box);
	sregs.ldt = (struct kvm_segment){ .base = NO_TABLE, .limit = 0xfff, .type = 2,
					  .present = 1, .selector = SELECTOR_SPARE };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	if (row->cpl == 3)
		set_user_mode();
	if (row->own_stack)
		set_stack(NO_TABLE + 0x800);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, NO_TABLE + row->address);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME - 8), PF_P | PF_RSVD | row->error);
	regs = box_regs(&box);
	regs.rip = BOX_CODE + AT_DEVICE;
	regs.rsp = BOX_STACK;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(box.vcpu.run->mmio.phys_addr, BOX_MMIO);
}

#define BAD_CASE(id, fact, ...)								\
	CASE_RUN(id, check_bad_access, PROVES("paging:" fact, "ept:violation.paging_read"),	\
		 NEEDS(BOX_NEEDS), ROW((&(const struct bad_access){ __VA_ARGS__ })))

BAD_CASE(push_by_no_table, "pfec.w", &push_guest, 0, PF_WR, 0x7f8, true);
BAD_CASE(push_of_user_mode_by_no_table, "pfec.u", &push_guest, 3, PF_WR | PF_US, 0x7f8, true);
BAD_CASE(pop_of_user_mode_by_no_table, "pfec.u", &pop_guest, 3, PF_US, 0x800, true);
BAD_CASE(fxsave_by_no_table, "pfec.w", &fxsave_guest, 0, PF_WR, 0x800, true);
BAD_CASE(event_by_no_table, "pfec.w", &bad_int_guest, 0, PF_WR, 0x7f8, true);
BAD_CASE(event_of_user_mode_by_no_table, "pfec.u", &bad_int_guest, 3, PF_WR, 0x7f8, false);
BAD_CASE(descriptor_by_no_table, "pfec.u", &load_segment_guest, 3, 0, 8, false);

/* #GP, and a #PF while it is delivered: Table 7-5. The handler of #DF has a stack of its own. */
CASE(fault_during_delivery_is_a_double_fault, PROVES("event-injection:inject.double_fault"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &idle_guest);
	set_bad_page_table();
	*(u64 *)(box.memory + 36) = BOX_STACK;		/* TSS at 0: IST1 */
	*box_at(&box, BOX_IDT + 16 * VECTOR_DF) |= BIT(32);
	set_stack(NO_TABLE + 0x800);
	inject_exception(VECTOR_GP, 0);
	EXPECT_VECTOR(&box, VECTOR_DF);
	EXPECT_EQ(*box_at(&box, BOX_STACK - STACK_FRAME - 8), 0);	/* error code */
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE);
}

CASE(fault_during_a_double_fault_is_shutdown,
     PROVES("kvm-exits:8", "event-injection:inject.df_triple"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &idle_guest);
	set_bad_page_table();
	set_stack(NO_TABLE + 0x800);
	inject_exception(VECTOR_GP, 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_SHUTDOWN);
}

BOX_GUEST_64(wild_cr3_guest, "mov $0x30000000, %eax\n\t mov %rax, %cr3\n\t hlt");

CASE(all_tables_outside_of_memory, PROVES("kvm-exits:8"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &wild_cr3_guest);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_SHUTDOWN);
}

/* --- struct kvm_vcpu_events ----------------------------------------------------------- */

CASE(events_that_are_refused, PROVES("kvm-ioctls:events.flags", "kvm-ioctls:events.exception"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_vcpu_events events = { .flags = BIT(31) };

	box_start(&box, &idle_guest);
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), -EINVAL);
	events = (struct kvm_vcpu_events){ .exception = { .injected = 1, .nr = 32 } };
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), -EINVAL);
	events.exception.nr = VECTOR_NMI;
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), -EINVAL);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 1);
}

CASE(failed_entry_delivers_nothing, PROVES("kvm-exits:9"), NEEDS(BOX_NEEDS))
{
	const struct kvm_vcpu_events none = { 0 };
	struct kvm_sregs good, bad;

	box_start(&box, &idle_guest);
	good = bad = box_sregs(&box);
	bad.cs.type = 0;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &bad), 0);
	inject_exception(VECTOR_GP, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_FAIL_ENTRY);
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &good), 0);
	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &none), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 1);
}

/* --- and in between ------------------------------------------------------------------- */

BOX_GUEST_64(nop_guest, "nop\n\t nop\n\t hlt");

/* 29.3.1.5: an entry may not inject an interrupt while STI keeps them out. */
CASE(interrupt_waits_for_the_shadow, PROVES("kvm-exits:5", "interruptibility:sti.block"),
     NEEDS(BOX_NEEDS))
{
	const struct kvm_vcpu_events shadow = {
		.flags = KVM_VCPUEVENT_VALID_SHADOW, .interrupt.shadow = KVM_X86_SHADOW_INT_STI };
	struct kvm_regs regs;

	box_start(&box, &nop_guest);
	regs = box_regs(&box);
	regs.rflags |= RFLAGS_IF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &shadow), 0);
	interrupt(0x47);
	EXPECT_VECTOR(&box, 0x47);
	EXPECT_EQ(saved_rip(BOX_STACK), BOX_CODE + 1);
}

BOX_GUEST_16(real_mode_fault_guest, "mov $0x4b564dff, %ecx\n\t rdmsr\n\t hlt");

/* 29.2.1.3: no error code is delivered in real mode. */
CASE(exception_in_real_mode, PROVES("event-injection:inject.real"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &real_mode_fault_guest);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK - 6);
	EXPECT_EQ(*(u16 *)(box.memory + BOX_STACK - 6), BOX_CODE + 6);
}
