/*
 * The core: debug exceptions that are traps, while they wait.
 *
 * A trap belongs to an instruction that is over: nothing would make it a second time. It waits in
 * the VMCS (27.4.2, pending debug exceptions) or as an event, across exits and what user space does
 * between two runs; it ends HLT, stays where user space writes back the registers that it has read,
 * and goes where user space takes the vCPU elsewhere. Next to a load of SS, or STI, a VM entry
 * wants the single step to be told in one way only (29.3.1.5).
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

static struct box box;

#define FRAME_64	40	/* bytes: an exception without an error code */

#define ELSEWHERE	BOX_DATA		/* NOP, HLT */
#define SINGLE_STEP	"pushfq\n\t orl $0x100, (%rsp)\n\t popfq\n\t"
#define STEP_SIZE	9

static struct kvm_vcpu_events get_events(void)
{
	struct kvm_vcpu_events events;

	hv_vcpu_get_events(&box.vcpu, &events);
	return events;
}

static void set_flags(u64 flags)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rflags = flags | RFLAGS_FIXED;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

static void set_shadow(u8 shadow)
{
	const struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_SHADOW,
						.interrupt.shadow = shadow };

	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
}

/* The handler of #DB counts in R8, and returns. */
static void count_steps(void)
{
	static const u8 code[] = { 0x49, 0xff, 0xc0, 0x48, 0xcf };	/* inc %r8; iretq */

	memcpy(box.memory + ELSEWHERE, code, sizeof(code));
	box_at(&box, BOX_IDT)[2 * VECTOR_DB] = ELSEWHERE | SELECTOR_CODE64 << 16 |
					       0x8e0000000000;
}

/* --- what a VM entry wants: 29.3.1.5 ---------------------------------------------------------- */

BOX_GUEST_64(sti_guest, SINGLE_STEP
	     ".rept 150\n\t sti\n\t cli\n\t nop\n\t nop\n\t nop\n\t .endr\n\t"
	     "pushfq\n\t andl $0xfffffeff, (%rsp)\n\t popfq\n\t hlt");

/*
 * Each STI here is a step, whose trap exits, and is injected by an entry that may not have both
 * blocking by STI and no BS. A slice that ends in between shows it, now and then.
 */
CASE(stepped_sti_is_an_entry_without_blocking,
     PROVES("vm-entry-checks:guest.pdbg.bs_needed_sti", "host-and-exit:indirect.updates"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	u32 seen = 0;

	box_start_with_apic(&box, &sti_guest);
	count_steps();
	while (hv_vcpu_run(&box.vcpu) == 0) {
		const struct kvm_vcpu_events events = get_events();

		if (!events.exception.injected || !(box_regs(&box).rflags & RFLAGS_IF))
			continue;
		EXPECT_EQ(events.exception.nr, VECTOR_DB);
		EXPECT_EQ(events.interrupt.shadow, 0);
		seen++;
	}
	EXPECT_TRUE(seen > 0);
	EXPECT_EQ(box_regs(&box).r8, 753);
}

BOX_GUEST_64(sti_nop_guest, SINGLE_STEP "sti\n\t nop\n\t nop\n\t hlt");

/* A debugger that has the breakpoints gets the guest's own steps, each of them once. */
CASE(stepped_sti_is_told_once,
     PROVES("vm-entry-checks:guest.pdbg.bs_needed_sti", "kvm-exits:4"),
     NEEDS(BOX_NEEDS, PROC1(MOV_DR_EXITING)))
{
	const struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
		.arch.debugreg[7] = 0x400 };
	u32 i;

	box_start(&box, &sti_nop_guest);
	REQUIRE_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	for (i = 1; i <= 3; i++) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_DEBUG);
		EXPECT_EQ(box.vcpu.run->debug.arch.pc, BOX_CODE + STEP_SIZE + i);
		EXPECT_EQ(get_events().interrupt.shadow, 0);
	}
}

BOX_GUEST_64(nop_guest, "nop\n\t nop\n\t hlt");

/* TF and the blocking are user space's: STI has been a step then, a load of SS one as well. */
static void blocking_with_a_step(const struct case_def *this_case)
{
	const u8 shadow = *(const u8 *)this_case->row;

	box_start(&box, &nop_guest);
	set_flags(RFLAGS_TF | RFLAGS_IF);
	set_shadow(shadow);
	EXPECT_VECTOR(&box, VECTOR_DB);
	EXPECT_EQ(*box_at(&box, BOX_STACK - FRAME_64),
		  shadow == KVM_X86_SHADOW_INT_STI ? BOX_CODE : BOX_CODE + 1);
}

CASE_RUN(blocking_by_sti_with_a_step, blocking_with_a_step,
	 PROVES("vm-entry-checks:guest.pdbg.bs_needed_sti"), NEEDS(BOX_NEEDS),
	 ROW((&(const u8){ KVM_X86_SHADOW_INT_STI })));
CASE_RUN(blocking_by_mov_ss_with_a_step, blocking_with_a_step,
	 PROVES("vm-entry-checks:guest.pdbg.bs_needed_mov_ss"), NEEDS(BOX_NEEDS),
	 ROW((&(const u8){ KVM_X86_SHADOW_INT_MOV_SS })));

/* --- user space and the registers ------------------------------------------------------------- */

BOX_GUEST_64(io_guest,
	     "mov %cr4, %rax\n\t or $8, %eax\n\t mov %rax, %cr4\n\t mov $0x80, %eax\n\t"
	     "mov %rax, %dr0\n\t mov $0x20003, %eax\n\t mov %rax, %dr7\n\t out %al, $0x80\n\t"
	     "nop\n\t hlt");

static void go_elsewhere(u64 flags)
{
	struct kvm_regs regs = box_regs(&box);

	memcpy(box.memory + ELSEWHERE, "\x90\xf4", 2);
	regs.rip = ELSEWHERE;
	regs.rflags = flags | RFLAGS_FIXED;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

static void expect_no_trap_elsewhere(void)
{
	struct kvm_debugregs debug;

	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, ELSEWHERE + 2);
	hv_vcpu_get_debugregs(&box.vcpu, &debug);
	EXPECT_EQ(debug.dr6, DR6_FIXED);
}

/* The access is the last of an instruction that user space does not let come to its end. */
static void io_breakpoint_elsewhere(const struct case_def *this_case)
{
	hv_start(page_alloc());
	box_start_on(&box, this_case->row, 300, &io_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	go_elsewhere(0);
	expect_no_trap_elsewhere();
}

CASE_RUN(io_breakpoint_is_not_met_elsewhere, io_breakpoint_elsewhere,
	 PROVES("kvm-ioctls:run.pio_complete"), NEEDS(BOX_NEEDS), ROW(&hv_mmu_ept));
CASE_RUN(io_breakpoint_is_not_met_elsewhere_with_shadow_paging, io_breakpoint_elsewhere,
	 PROVES("kvm-ioctls:run.pio_complete"), NEEDS(VMX), ROW(&hv_mmu_shadow));

CASE(io_breakpoint_is_met, PROVES("kvm-ioctls:run.pio_complete"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &io_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_VECTOR(&box, VECTOR_DB);
	/* Behind OUT are NOP and HLT. */
	EXPECT_EQ(*box_at(&box, BOX_STACK - FRAME_64),
		  BOX_CODE + (io_guest.end - io_guest.start) - 2);
}

BOX_GUEST_64(out_guest, "out %al, $0x80\n\t nop\n\t hlt");

/* OUT is over, and its step is about to be told; user space looks at it first, or does not. */
static void step_elsewhere(bool look)
{
	box_start(&box, &out_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	set_flags(RFLAGS_TF);
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
	if (look)
		EXPECT_EQ(get_events().exception.injected, 1);
	go_elsewhere(0);
	EXPECT_EQ(get_events().exception.injected, 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, ELSEWHERE + 2);
}

CASE(step_is_not_told_elsewhere, PROVES("kvm-ioctls:regs.pending"), NEEDS(BOX_NEEDS))
{
	step_elsewhere(false);
}

CASE(step_that_was_read_is_not_told_elsewhere, PROVES("kvm-ioctls:regs.pending"),
     NEEDS(BOX_NEEDS))
{
	step_elsewhere(true);
}

BOX_GUEST_64(steps_guest, SINGLE_STEP
	     ".rept 600\n\t nop\n\t .endr\n\t pushfq\n\t andl $0xfffffeff, (%rsp)\n\t popfq\n\t"
	     "hlt");

/* Whenever a slice ends, user space writes what it has read: no step is lost, nor comes twice. */
static void same_registers(bool events_too)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	box_start_with_apic(&box, &steps_guest);
	count_steps();
	while (hv_vcpu_run(&box.vcpu) == 0) {
		if (events_too)
			events = get_events();
		regs = box_regs(&box);
		EXPECT_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
		if (events_too)
			EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	}
	EXPECT_EQ(box_regs(&box).r8, 603);
}

CASE(step_stays_with_the_same_registers, PROVES("interruptibility:pdbg.deliver"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	same_registers(false);
}

CASE(step_stays_with_the_same_registers_and_events, PROVES("interruptibility:pdbg.deliver"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	same_registers(true);
}

/* --- HLT -------------------------------------------------------------------------------------- */

/* The breakpoint on the operand, which is in use already, waits for the end of HLT. */
BOX_GUEST_64(load_ss_guest,
	     "mov 0xa000, %ss\n\t"
	     "mov $0xa000, %eax\n\t mov %rax, %dr0\n\t mov $0x30003, %eax\n\t mov %rax, %dr7\n\t"
	     "mov 0xa000, %ss\n\t hlt\n\t hlt");

static void expect_trap_behind_hlt(void)
{
	EXPECT_EQ(*box_at(&box, BOX_STACK - FRAME_64),
		  BOX_CODE + (load_ss_guest.end - load_ss_guest.start) - 1);
}

CASE(breakpoint_ends_hlt, PROVES("interruptibility:pdbg.deliver"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &load_ss_guest);
	*box_at(&box, BOX_DATA) = SELECTOR_DATA;
	EXPECT_VECTOR(&box, VECTOR_DB);
	expect_trap_behind_hlt();
}

CASE(breakpoint_ends_hlt_with_apic, PROVES("interruptibility:pdbg.deliver"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	u32 runs = 0;

	box_start_with_apic(&box, &load_ss_guest);
	*box_at(&box, BOX_DATA) = SELECTOR_DATA;
	while (hv_vcpu_run(&box.vcpu) == 0 && ++runs < 20)
		continue;
	EXPECT_EQ(box_regs(&box).rip & ~(u64)7, BOX_HANDLERS + 8 * VECTOR_DB);
	expect_trap_behind_hlt();
}

/* User space says that it waits, and that a trap does. */
CASE(step_ends_a_wait, PROVES("interruptibility:pdbg.deliver", "kvm-ioctls:mpstate.get"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	const struct kvm_mp_state halted = { .mp_state = KVM_MP_STATE_HALTED };

	box_start_with_apic(&box, &out_guest);
	while (box_run(&box) == KVM_EXIT_INTR)
		continue;
	set_flags(RFLAGS_TF);
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
	REQUIRE_EQ(hv_vcpu_set_mp_state(&box.vcpu, &halted), 0);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), 0);
	EXPECT_EQ(*box_at(&box, BOX_STACK - FRAME_64), BOX_CODE + 2);
}
