/*
 * Exits without an instruction that asks for them: the VMX-preemption timer (28.5.1), the monitor
 * trap flag (28.5.2), the interrupt and NMI windows, external interrupts, NMIs and INIT signals
 * (28.2 Other Causes of VM Exits). Each comes between two instructions; the cases know between
 * which.
 *
 * Interrupts come from the local APIC of the processor itself. The host runs with RFLAGS.IF = 0, so
 * what it sends itself is pending when the guest starts.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "vmx/guard.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(nop, "", "nop");
GUEST_CODE(spin, "", "1: jmp 1b");
GUEST_CODE(branch, "", "jmp 1f; ud2; 1: nop");
GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(halt, "", "hlt");
GUEST_CODE(ud2, "", "ud2");
GUEST_CODE(int3, "", "int3");
GUEST_CODE(int_n_20, "", "int $0x20");
GUEST_CODE(rep_stosb, "", "rep stosb");

/* Where the guest's IDT sends `vector`. */
static u64 handler_of(u8 vector)
{
	const struct gate *gate = &this_cpu()->idt[vector];

	return gate->offset_low | (u64)gate->offset_middle << 16 | (u64)gate->offset_high << 32;
}

static u32 events_taken;

static void count_event(struct trap_frame *frame)
{
	events_taken++;
	if (frame->vector >= 32)
		apic_eoi();
}

static void count_events(u8 vector)
{
	events_taken = 0;
	trap_on(vector, count_event);
}

/* The exit came when `rip` was to be executed. */
static void expect_exit_before(const u8 *rip)
{
	EXPECT_EQ(vmread(GUEST_RIP), (u64)rip);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
}

/* --- VMX-preemption timer ------------------------------------------------------------------ */

#define TIMER	PIN(ACTIVATE_VMX_PREEMPTION_TIMER)

CASE(timer_0_exits_before_the_first_instruction,
     PROVES("exit-reasons:52", "interruptibility:timer.zero"), NEEDS(VMX, TIMER))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	EXPECT(enter_at_instruction(&guest_nop),
	       OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	expect_exit_before(guest_nop.at);
}

CASE(timer_ends_a_loop, PROVES("exit-reasons:52", "interruptibility:timer.start",
     "host-and-exit:save.timer_keep"), NEEDS(VMX, TIMER))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
	EXPECT(enter_at_instruction(&guest_spin),
	       OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	expect_exit_before(guest_spin.at);
	/* Without "save VMX-preemption timer value" the field is as it was: 30.3.4. */
	EXPECT_EQ(vmread(VMX_PREEMPTION_TIMER_VALUE), 100);
}

CASE(expired_timer_is_saved_as_0, PROVES("interruptibility:timer.save",
     "host-and-exit:save.timer.expired"),
     NEEDS(VMX, TIMER, EXIT_CTL(SAVE_VMX_PREEMPTION_TIMER_VALUE)))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmcs_set_control(CONTROL_EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
	EXPECT(enter_at_instruction(&guest_spin),
	       OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	EXPECT_EQ(vmread(VMX_PREEMPTION_TIMER_VALUE), 0);
}

CASE(running_timer_is_saved, PROVES("interruptibility:timer.save", "host-and-exit:save.timer"),
     NEEDS(VMX, TIMER, EXIT_CTL(SAVE_VMX_PREEMPTION_TIMER_VALUE)))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmcs_set_control(CONTROL_EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_TRUE(vmread(VMX_PREEMPTION_TIMER_VALUE) > 0x80000000);
	EXPECT_TRUE(vmread(VMX_PREEMPTION_TIMER_VALUE) <= 0xffffffff);
}

CASE(timer_not_activated_does_not_exit, PROVES("exit-reasons:52"), NEEDS(VMX, TIMER))
{
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
}

CASE(timer_wakes_from_shutdown, PROVES("interruptibility:timer.wake.shutdown"), NEEDS(VMX, TIMER))
{
	if (!(capabilities()->misc & BIT(7)))
		case_skip("activity state \"shutdown\": IA32_VMX_MISC[7]");
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT(enter_at_instruction(&guest_nop),
	       OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	expect_exit_before(guest_nop.at);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_SHUTDOWN);
}

/* --- monitor trap flag ------------------------------------------------------------------------ */

#define MTF	PROC1(MONITOR_TRAP_FLAG)

static void expect_monitor_trap(const struct guest_code *code, u64 rip)
{
	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
	EXPECT(enter_at_instruction(code), OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG));
	expect_exit_before((const u8 *)rip);
}

CASE(mtf_exits_after_one_instruction, PROVES("exit-reasons:37", "interruptibility:mtf.instruction"),
     NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_nop, (u64)guest_nop.end);
}

CASE(mtf_exits_behind_a_branch, PROVES("interruptibility:mtf.instruction"), NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_branch, (u64)guest_branch.end - 1);
}

CASE(mtf_exits_at_the_handler_of_a_fault, PROVES("interruptibility:mtf.fault"), NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_ud2, handler_of(VECTOR_UD));
}

CASE(mtf_exits_at_the_handler_of_int3, PROVES("interruptibility:mtf.softint"), NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_int3, handler_of(VECTOR_BP));
}

CASE(mtf_exits_at_the_handler_of_int_n, PROVES("interruptibility:mtf.softint"), NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_int_n_20, handler_of(0x20));
}

CASE(mtf_exits_after_one_iteration, PROVES("interruptibility:mtf.rep"), NEEDS(VMX, MTF))
{
	guest_regs()->rcx = 3;
	guest_regs()->rdi = (u64)guest_memory;
	expect_monitor_trap(&guest_rep_stosb, (u64)guest_rep_stosb.at);
	EXPECT_EQ(guest_regs()->rcx, 2);
	EXPECT_EQ(guest_regs()->rdi, (u64)guest_memory + 1);
}

CASE(mtf_exits_from_the_hlt_state, PROVES("interruptibility:mtf.hlt"), NEEDS(VMX, MTF))
{
	expect_monitor_trap(&guest_halt, (u64)guest_halt.end);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
}

CASE(mtf_gives_way_to_another_exit, PROVES("interruptibility:mtf.otherexit"), NEEDS(VMX, MTF))
{
	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	expect_exit_before(guest_cpuid.at);
}

CASE(mtf_off_does_not_exit, PROVES("exit-reasons:37"), NEEDS(VMX))
{
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
}

/* --- interrupt window ------------------------------------------------------------------------- */

#define INTERRUPT_WINDOW	PROC1(INTERRUPT_WINDOW_EXITING)

GUEST_CODE(sti, "", "sti; nop; nop");

struct window {
	const struct guest_code *code;
	u64 rflags, blocking, activity;
	u32 offset;	/* of the instruction before which the exit comes */
	bool opens;
};

static void opens_interrupt_window(const struct case_def *this_case)
{
	const struct window *window = this_case->row;

	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | window->rflags);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, window->blocking);
	vmwrite(GUEST_ACTIVITY_STATE, window->activity);
	if (!window->opens) {
		EXPECT(enter_at_instruction(window->code), GUEST_DONE);
		return;
	}
	EXPECT(enter_at_instruction(window->code), OUTCOME_EXIT(EXIT_INTERRUPT_WINDOW));
	expect_exit_before(window->code->at + window->offset);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	/* No interrupt was taken: 30.3.3. */
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | RFLAGS_IF);
}

#define WINDOW(name, fact, ...)								\
	static const struct window row_##name = { __VA_ARGS__ };			\
	CASE_RUN(interrupt_window_##name, opens_interrupt_window,			\
		 PROVES("exit-reasons:7", "interruptibility:" fact,			\
			"field-formats:interruptibility.sti",				\
			"field-formats:interruptibility.mov_ss"),			\
		 NEEDS(VMX, INTERRUPT_WINDOW), ROW(&row_##name))

WINDOW(open_at_entry, "window.intr", &guest_nop, RFLAGS_IF, 0, ACTIVITY_ACTIVE, 0, true);
WINDOW(closed_by_if, "window.intr", &guest_nop, 0, 0, ACTIVITY_ACTIVE, 0, false);
WINDOW(behind_sti, "window.intr.sti", &guest_sti, 0, 0, ACTIVITY_ACTIVE, 2, true);
WINDOW(after_blocking_by_sti, "window.intr", &guest_nop, RFLAGS_IF, BLOCKING_BY_STI,
       ACTIVITY_ACTIVE, 1, true);
WINDOW(after_blocking_by_mov_ss, "window.intr", &guest_nop, RFLAGS_IF, BLOCKING_BY_MOV_SS,
       ACTIVITY_ACTIVE, 1, true);
WINDOW(wakes_from_hlt, "window.intr.hlt", &guest_nop, RFLAGS_IF, 0, ACTIVITY_HLT, 0, true);

/*
 * 28.2: the state of MWAIT, too, which the guest enters with the window closed by STI. MWAIT need
 * not wait (volume 2); the window opens behind it in either case.
 */
#define ARM_MONITOR	"movl $guest_memory, %eax; xorl %ecx, %ecx; xorl %edx, %edx; monitor; "
GUEST_CODE(mwait_behind_sti, ARM_MONITOR "sti", "mwait");

CASE(interrupt_window_wakes_from_mwait, PROVES("interruptibility:window.intr.hlt"),
     NEEDS(VMX, INTERRUPT_WINDOW, CPU(MONITOR)))
{
	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	EXPECT(enter(guest_mwait_behind_sti.run), OUTCOME_EXIT(EXIT_INTERRUPT_WINDOW));
	expect_exit_before(guest_mwait_behind_sti.end);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

CASE(interrupt_window_off_does_not_exit, PROVES("exit-reasons:7"), NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
}

/* --- NMI window ------------------------------------------------------------------------------- */

#define NMI_WINDOW	PIN(NMI_EXITING), PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)

static void ask_for_nmi_window(u64 blocking)
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmcs_set_control(CONTROL_PROC1_NMI_WINDOW_EXITING);
	guard_by_timer(BIT(24));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
}

CASE(nmi_window_open_at_entry, PROVES("exit-reasons:8", "interruptibility:window.nmi"),
     NEEDS(VMX, NMI_WINDOW))
{
	ask_for_nmi_window(0);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_NMI_WINDOW));
	expect_exit_before(guest_nop.at);
}

CASE(nmi_window_after_blocking_by_mov_ss, PROVES("interruptibility:window.nmi"),
     NEEDS(VMX, NMI_WINDOW))
{
	ask_for_nmi_window(BLOCKING_BY_MOV_SS);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_NMI_WINDOW));
	expect_exit_before(guest_nop.end);
}

CASE(nmi_window_closed_by_virtual_nmi_blocking, PROVES("interruptibility:window.nmi",
     "field-formats:interruptibility.nmi", "interruptibility:nmi.virtual"),
     NEEDS(VMX, NMI_WINDOW))
{
	ask_for_nmi_window(BLOCKING_BY_NMI);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
	/*
	 * What is blocked are NMIs of that guest. Bochs 2.7 blocks those of the hypervisor, too,
	 * where it is a guest with virtual NMIs itself (29.7.1): the cases behind this one must not
	 * see it.
	 */
	unblock_nmis();
}

/* IRET to the instruction behind it. */
GUEST_CODE(iret, "movq %rsp, %rbx; movl %ss, %eax; pushq %rax; pushq %rbx; pushfq; "
		 "movl %cs, %eax; pushq %rax; pushq $guest_end_iret", "iretq");

CASE(nmi_window_opens_with_iret,
     PROVES("interruptibility:window.nmi", "interruptibility:nmi.iret.virtual"),
     NEEDS(VMX, NMI_WINDOW))
{
	ask_for_nmi_window(BLOCKING_BY_NMI);
	EXPECT(enter(guest_iret.run), OUTCOME_EXIT(EXIT_NMI_WINDOW));
	expect_exit_before(guest_iret.end);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
}

CASE(nmi_window_wakes_from_hlt, PROVES("interruptibility:window.nmi.wake"), NEEDS(VMX, NMI_WINDOW))
{
	ask_for_nmi_window(0);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_NMI_WINDOW));
	expect_exit_before(guest_nop.at);
}

/*
 * The NMI window of a guest that waits by MWAIT cannot open: what blocks virtual NMIs ends with an
 * IRET, which comes first, and an entry that blocks by MOV SS has MWAIT wait for nothing (29.3.2).
 */
CASE(nmi_window_behind_mwait, PROVES("interruptibility:window.nmi"),
     NEEDS(VMX, NMI_WINDOW, CPU(MONITOR)))
{
	ask_for_nmi_window(BLOCKING_BY_MOV_SS);
	guest_regs()->rax = guest_regs()->rcx = 0;
	EXPECT(enter_at_instruction(&guest_mwait_behind_sti), OUTCOME_EXIT(EXIT_NMI_WINDOW));
	expect_exit_before(guest_mwait_behind_sti.end);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

/* --- external interrupts ---------------------------------------------------------------------- */

#define IPI_VECTOR	0x51
#define EXTERNAL	PIN(EXTERNAL_INTERRUPT_EXITING)

/* Sends this processor an interrupt and waits until the APIC has it. */
static void pend_interrupt(void)
{
	count_events(IPI_VECTOR);
	apic_pend(IPI_VECTOR);
}

/* The interrupt has been waiting for the host, and comes once. */
static void expect_still_pending(void)
{
	EXPECT_TRUE(apic_vector_bit(APIC_INTERRUPT_REQUEST, IPI_VECTOR));
	EXPECT_EQ(events_taken, 0);
	interrupts_in();
	EXPECT_EQ(events_taken, 1);
}

static void interrupt_exits(u64 rflags, u64 activity)
{
	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | rflags);
	vmwrite(GUEST_ACTIVITY_STATE, activity);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_EXTERNAL_INTERRUPT));
	expect_exit_before(guest_nop.at);
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | rflags);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), activity);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(31), 0);
	expect_still_pending();
}

CASE(interrupt_exits_with_if_1,
     PROVES("exit-reasons:1", "interruptibility:extint.exiting", "interruptibility:extint.noack",
	    "host-and-exit:exit.event.extint_noack"),
     NEEDS(VMX, EXTERNAL, APIC))
{
	interrupt_exits(RFLAGS_IF, ACTIVITY_ACTIVE);
}

CASE(interrupt_exits_with_if_0, PROVES("exit-reasons:1", "interruptibility:extint.exiting"),
     NEEDS(VMX, EXTERNAL, APIC))
{
	interrupt_exits(0, ACTIVITY_ACTIVE);
}

/* 30.1: the HLT state is saved when the interrupt exits directly. */
CASE(interrupt_exits_from_hlt, PROVES("interruptibility:act.saved"), NEEDS(VMX, EXTERNAL, APIC))
{
	interrupt_exits(RFLAGS_IF, ACTIVITY_HLT);
}

GUEST_CODE(waits, "", "1: " ARM_MONITOR "mwait; jmp 1b");

/* Of the APIC's timer, as it must come while the guest waits. */
CASE(interrupt_exits_from_mwait, PROVES("interruptibility:extint.exiting"),
     NEEDS(VMX, EXTERNAL, CPU(MONITOR), APIC))
{
	guard_by_timer(BIT(24));
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	count_events(IPI_VECTOR);
	apic_write(APIC_LVT_TIMER, IPI_VECTOR);
	apic_write(APIC_TIMER_INITIAL_COUNT, BIT(16));
	EXPECT(enter_at_instruction(&guest_waits), OUTCOME_EXIT(EXIT_EXTERNAL_INTERRUPT));
	EXPECT_TRUE(vmread(GUEST_RIP) >= (u64)guest_waits.at &&
		    vmread(GUEST_RIP) < (u64)guest_waits.end);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
	expect_still_pending();
}

CASE(acknowledged_interrupt_exits,
     PROVES("interruptibility:extint.ack", "host-and-exit:exit.event.extint_ack"),
     NEEDS(VMX, EXTERNAL, EXIT_CTL(ACKNOWLEDGE_INTERRUPT_ON_EXIT), APIC))
{
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmcs_set_control(CONTROL_EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_EXTERNAL_INTERRUPT));
	expect_exit_before(guest_nop.at);
	/* Table 27-20: valid, type 0, the vector. */
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), BIT(31) | IPI_VECTOR);
	EXPECT_FALSE(apic_vector_bit(APIC_INTERRUPT_REQUEST, IPI_VECTOR));
	EXPECT_TRUE(apic_vector_bit(APIC_IN_SERVICE, IPI_VECTOR));
	apic_eoi();
}

CASE(interrupt_without_control_is_delivered,
     PROVES("exit-reasons:1", "interruptibility:extint.noexit"),
     NEEDS(VMX, PROC1(USE_MSR_BITMAPS), APIC))
{
	/* The handler reads the APIC's mode. */
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	EXPECT_EQ(events_taken, 1);
}

CASE(interrupt_without_control_waits_for_if, PROVES("interruptibility:extint.noexit"),
     NEEDS(VMX, APIC))
{
	pend_interrupt();
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	expect_still_pending();
}

/* --- NMI and INIT ----------------------------------------------------------------------------- */

/* Sends this processor an event, also from the guest, whose RDMSR must then not exit. */
#define SELF_SENT_EVENTS	PROC1(USE_MSR_BITMAPS), APIC

static void let_guest_use_the_apic(void)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guard_by_timer(BIT(24));
}

/* The processor sends itself an NMI, which may take its time to come. */
static void send_nmi(void)
{
	u32 i;

	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	for (i = 0; i < 100000 && !events_taken; i++)
		pause();
}

CASE(nmi_exits,
     PROVES("exit-reasons:0", "interruptibility:nmi.exit", "host-and-exit:exit.event.nmi",
	    "exit-qualifications:exception.nmi"),
     NEEDS(VMX, PIN(NMI_EXITING), SELF_SENT_EVENTS))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	count_events(VECTOR_NMI);
	let_guest_use_the_apic();
	EXPECT(enter(send_nmi), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), BIT(31) | 2 << 8 | VECTOR_NMI);
	EXPECT_EQ(events_taken, 0);
	unblock_nmis();
}

/* 30.5.5 Updating Non-Register State: the exit blocks NMIs, until IRET. */
CASE(nmi_exit_blocks_nmis, PROVES("interruptibility:nmi.exit", "host-and-exit:host.nmi"),
     NEEDS(VMX, PIN(NMI_EXITING), SELF_SENT_EVENTS))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	count_events(VECTOR_NMI);
	let_guest_use_the_apic();
	REQUIRE(enter(send_nmi), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	send_nmi();
	EXPECT_EQ(events_taken, 0);
	unblock_nmis();
	EXPECT_EQ(events_taken, 1);
}

/* 30.1 Architectural State Before a VM Exit: the guest state is saved before that. */
CASE(nmi_is_not_blocked_in_the_guest, PROVES("host-and-exit:direct.nmi"),
     NEEDS(VMX, PIN(NMI_EXITING), SELF_SENT_EVENTS))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	count_events(VECTOR_NMI);
	let_guest_use_the_apic();
	REQUIRE(enter(send_nmi), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	unblock_nmis();
}

/* 30.5.5: no other exit changes the blocking that the guest has had. */
static void exits_with_blocking(u64 blocking, u32 taken_before_iret)
{
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), blocking);
	count_events(VECTOR_NMI);
	send_nmi();
	EXPECT_EQ(events_taken, taken_before_iret);
	unblock_nmis();
	EXPECT_EQ(events_taken, 1);
}

CASE(exit_with_nmis_blocked, PROVES("host-and-exit:host.nmi.kept"), NEEDS(VMX, APIC))
{
	exits_with_blocking(BLOCKING_BY_NMI, 0);
}

CASE(exit_with_nmis_not_blocked, PROVES("host-and-exit:host.nmi.kept"), NEEDS(VMX, APIC))
{
	exits_with_blocking(0, 1);
}

CASE(nmi_without_control_is_delivered, PROVES("exit-reasons:0"), NEEDS(VMX, SELF_SENT_EVENTS))
{
	count_events(VECTOR_NMI);
	let_guest_use_the_apic();
	EXPECT(enter(send_nmi), GUEST_DONE);
	EXPECT_EQ(events_taken, 1);
}

static void send_init(void)
{
	u32 i;

	apic_send(apic_id(), ICR_INIT | ICR_ASSERT);
	for (i = 0; i < 100000; i++)
		pause();
}

CASE(init_exits, PROVES("exit-reasons:3", "nonroot-behavior:init"), NEEDS(VMX, SELF_SENT_EVENTS))
{
	u64 cr0 = read_cr0();

	let_guest_use_the_apic();
	EXPECT(enter(send_init), OUTCOME_EXIT(EXIT_INIT_SIGNAL));
	/* None of what INIT does to registers has happened. */
	EXPECT_EQ(vmread(GUEST_CR0), cr0);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SELECTOR_CODE64);
}

/* 26.8: VMX root operation blocks INIT; it exits as soon as the guest runs. */
CASE(init_waits_for_the_guest, PROVES("exit-reasons:3", "nonroot-behavior:root.init"),
     NEEDS(VMX, APIC))
{
	send_init();
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_INIT_SIGNAL));
	expect_exit_before(guest_nop.at);
}

/* --- pending in the host: an NMI, and INIT with it -------------------------------------------- */

static struct {
	u32 nmis;
	bool with_init;
	outcome_t outcome;
} in_handler;

/* The handler blocks NMIs, root operation blocks INIT; the guest blocks neither. */
static void pend_and_enter(struct trap_frame *frame)
{
	(void)frame;
	if (in_handler.nmis++)
		return;
	send_nmi();
	if (in_handler.with_init)
		send_init();
	in_handler.outcome = enter_at_instruction(&guest_nop);
}

static outcome_t enter_from_nmi_handler(bool with_init)
{
	in_handler.nmis = 0;
	in_handler.with_init = with_init;
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	trap_on(VECTOR_NMI, pend_and_enter);
	/* What is pending may come inside the handler, once the guest has exited. */
	this_cpu()->idt[VECTOR_NMI].ist = IST_NONE;
	send_nmi();
	REQUIRE_TRUE(in_handler.nmis > 0);
	return in_handler.outcome;
}

CASE(entry_ends_blocking_of_nmis, PROVES("interruptibility:nmi.block.plain"),
     NEEDS(VMX, PIN(NMI_EXITING), APIC))
{
	EXPECT(enter_from_nmi_handler(false), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
}

CASE(init_before_nmi, PROVES("exceptions:priority.smi_init"), NEEDS(VMX, PIN(NMI_EXITING), APIC))
{
	EXPECT(enter_from_nmi_handler(true), OUTCOME_EXIT(EXIT_INIT_SIGNAL));
}

/* 30.1: an interrupt whose delivery exits is acknowledged as if it had been delivered. */
CASE(interrupt_that_breaks_off_is_acknowledged, PROVES("host-and-exit:indirect.updates"),
     NEEDS(VMX, EXTERNAL, APIC))
{
	guard_by_timer(BIT(24));
	vmcs_clear_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION), BIT(31) | IPI_VECTOR);
	EXPECT_FALSE(apic_vector_bit(APIC_INTERRUPT_REQUEST, IPI_VECTOR));
	EXPECT_TRUE(apic_vector_bit(APIC_IN_SERVICE, IPI_VECTOR));
	apic_eoi();
}
