/*
 * What an entry finds pending or blocked, and what becomes of it: blocking by MOV SS, by NMI and by
 * SMI (29.7.1 Interruptibility State), pending debug exceptions (29.7.3), the activity states
 * (29.7.2 Activity State), and the unblocking of NMIs by IRET (28.3 Changes to Instruction
 * Behavior, 30.2.3 Information About NMI Unblocking Due to IRET).
 *
 * The guests are a few NOPs: it matters before which of them an event comes. One that sleeps on is
 * ended by the VMX-preemption timer.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/smp.h"
#include "vmx/guard.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(nops, "", "nop; nop; nop");
GUEST_CODE(ud2, "", "ud2");
GUEST_CODE(armed_mwait, "movl $guest_memory, %eax; xorl %ecx, %ecx; xorl %edx, %edx; monitor",
	   "mwait");
GUEST_CODE(mwait_breaking, "movl $guest_memory, %eax; xorl %ecx, %ecx; xorl %edx, %edx; monitor; "
			   "xorl %eax, %eax; movl $1, %ecx", "mwait");
GUEST_CODE(write, "", "movb %al, (%rdi)");

#define BAD_GUEST_STATE	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0)
#define TIMER		PIN(ACTIVATE_VMX_PREEMPTION_TIMER)
#define TIMER_EXPIRED	OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED)
#define EXCEPTION	OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI)

/* A.6: activity states that the processor supports. */
#define STATE(name, bit) \
	{ "activity state \"" name "\": IA32_VMX_MISC[" #bit "]", need_misc, BIT(bit), 0 }
#define HLT_STATE	STATE("HLT", 6)
#define SHUTDOWN_STATE	STATE("shutdown", 7)
#define SIPI_STATE	STATE("wait-for-SIPI", 8)

static void set_timer(u64 ticks)
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks);
}

/* --- events in the guest ---------------------------------------------------------------------- */

static struct {
	u32 taken;
	u64 rip, dr6;
} seen;

static void note_event(struct trap_frame *frame)
{
	seen.taken++;
	seen.rip = frame->rip;
	seen.dr6 = read_dr6();
	frame->rflags &= ~RFLAGS_TF;
}

static void note_events(u8 vector)
{
	seen.taken = 0;
	trap_on(vector, note_event);
}

static void expect_taken_before(const u8 *rip)
{
	EXPECT_EQ(seen.taken, 1);
	EXPECT_EQ(seen.rip, (u64)rip);
}

/* The host has RFLAGS.IF = 0: the interrupt waits for the guest. */
#define IPI_VECTOR	0x51

static void pend_interrupt(void)
{
	note_events(IPI_VECTOR);
	apic_send_self(IPI_VECTOR);
	while (!apic_vector_bit(APIC_INTERRUPT_REQUEST, IPI_VECTOR))
		pause();
}

static void let_it_in(void)
{
	interrupts_in();
	apic_eoi();
}

/* --- blocking by MOV SS ----------------------------------------------------------------------- */

CASE(mov_ss_holds_an_interrupt, PROVES("interruptibility:movss.block",
     "field-formats:interruptibility.mov_ss"), NEEDS(VMX, APIC))
{
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	EXPECT(enter_at_instruction(&guest_nops), GUEST_DONE);
	expect_taken_before(guest_nops.at + 1);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	apic_eoi();
}

CASE(sti_holds_an_interrupt, PROVES("field-formats:interruptibility.sti"), NEEDS(VMX, APIC))
{
	pend_interrupt();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI);
	EXPECT(enter_at_instruction(&guest_nops), GUEST_DONE);
	expect_taken_before(guest_nops.at + 1);
	apic_eoi();
}

/*
 * 30.1 Architectural State Before a VM Exit: an exception that exits directly changes nothing, so
 * the guest, entered again when the hypervisor has mended what faulted, is blocked as it was.
 */
static void fault_keeps(u64 blocking)
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_UD));
	EXPECT(enter_at_instruction(&guest_ud2), EXCEPTION);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), blocking);
}

CASE(fault_keeps_blocking_by_mov_ss, PROVES("host-and-exit:direct.blocking"), NEEDS(VMX))
{
	fault_keeps(BLOCKING_BY_MOV_SS);
}

CASE(fault_keeps_blocking_by_sti, PROVES("host-and-exit:direct.blocking"), NEEDS(VMX))
{
	fault_keeps(BLOCKING_BY_STI);
}

/* But #MF: FWAIT, behind a division by 0 that is not masked. */
GUEST_CODE(fpu_error, "fninit; pushq $0x37b; fldcw (%rsp); popq %rbx; fldz; fld1; fdivp", "fwait");

static void fpu_error_keeps_nothing(u64 blocking)
{
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(CR0_EM | CR0_TS));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_BP) | BIT(VECTOR_MF));
	EXPECT(enter(guest_fpu_error.run), EXCEPTION);
	EXPECT_EQ(FIELD(vmread(EXITING_EVENT_IDENTIFICATION), 7, 0), VECTOR_MF);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	EXPECT(resume(), EXCEPTION);
	EXPECT_EQ(FIELD(vmread(EXITING_EVENT_IDENTIFICATION), 7, 0), VECTOR_MF);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	asm volatile("fninit");
}

CASE(fpu_error_ends_blocking_by_mov_ss, PROVES("host-and-exit:direct.blocking.mf"), NEEDS(VMX))
{
	fpu_error_keeps_nothing(BLOCKING_BY_MOV_SS);
}

CASE(fpu_error_ends_blocking_by_sti, PROVES("host-and-exit:direct.blocking.mf"), NEEDS(VMX))
{
	fpu_error_keeps_nothing(BLOCKING_BY_STI);
}

/* It may be held until then, or be lost: as without virtualization. */
CASE(mov_ss_holds_a_debug_exception, PROVES("interruptibility:movss.pdbg"), NEEDS(VMX))
{
	outcome_t outcome;

	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, BIT(12) | BIT(0));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	outcome = enter_at_instruction(&guest_nops);
	EXPECT(outcome, EXCEPTION, GUEST_DONE);
	if (outcome == EXCEPTION)
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nops.at + 1);
}

/*
 * 30.3.4: an instruction that exits has not been executed, so that no single-step trap of it is
 * pending, nor one of the POPF that has set RFLAGS.TF before it.
 */
GUEST_CODE(cpuid_under_tf, "pushfq; orl $0x100, (%rsp); popfq", "cpuid");

CASE(exit_leaves_no_single_step_pending, PROVES("host-and-exit:save.pdbg.clear"), NEEDS(VMX))
{
	EXPECT(enter(guest_cpuid_under_tf.run), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_TF, RFLAGS_TF);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
}

/* --- blocking by SMI, reserved bits ----------------------------------------------------------- */

CASE(blocking_by_smi_is_for_smm,
     PROVES("interruptibility:smi.block", "field-formats:interruptibility.smi"), NEEDS(VMX))
{
	EXPECT(enter_at_instruction(&guest_nops), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_SMI, 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_SMI);
	EXPECT(enter_at_instruction(&guest_nops), BAD_GUEST_STATE);
}

CASE(interruptibility_reserved_bits, PROVES("field-formats:interruptibility.reserved"), NEEDS(VMX))
{
	u32 bit;

	for (bit = 5; bit < 32; bit++) {
		vmwrite(GUEST_INTERRUPTIBILITY_STATE, BIT(bit));
		EXPECT_FOR_BIT(bit, enter_at_instruction(&guest_nops), BAD_GUEST_STATE);
	}
}

/* --- pending debug exceptions ----------------------------------------------------------------- */

struct pending {
	u64 bits, rflags, qualification;
	bool valid;
};

static void set_pending(const struct pending *row)
{
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, row->bits);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | row->rflags);
}

static void is_delivered(const struct case_def *this_case)
{
	const struct pending *row = this_case->row;

	note_events(VECTOR_DB);
	set_pending(row);
	EXPECT(enter_at_instruction(&guest_nops), GUEST_DONE);
	if (row->valid) {
		expect_taken_before(guest_nops.at);
		EXPECT_EQ(seen.dr6, DR6_FIXED | row->qualification);
	} else {
		EXPECT_EQ(seen.taken, 0);
	}
}

static void exits(const struct case_def *this_case)
{
	const struct pending *row = this_case->row;

	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	set_pending(row);
	if (!row->valid) {
		EXPECT(enter_at_instruction(&guest_nops), GUEST_DONE);
		return;
	}
	EXPECT(enter_at_instruction(&guest_nops), EXCEPTION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), row->qualification);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nops.at);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
}

#define PENDING(name, fact, format, ...)					\
	static const struct pending row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name##_is_delivered, is_delivered,				\
		 PROVES("interruptibility:" fact, "field-formats:pending_debug." format), \
		 NEEDS(VMX), ROW(&row_##name));					\
	CASE_RUN(name##_exits, exits,						\
		 PROVES("interruptibility:pdbg.exit", "field-formats:pending_debug." format), \
		 NEEDS(VMX), ROW(&row_##name))
PENDING(pending_single_step, "pdbg.valid", "bs", BIT(14), RFLAGS_TF, BIT(14), true);
PENDING(pending_breakpoint, "pdbg.valid", "enabled_breakpoint", BIT(12) | BIT(0), 0, BIT(0), true);
PENDING(pending_breakpoints, "pdbg.valid", "b3_b0", BIT(12) | BITS(3, 1), 0, BITS(3, 1), true);
PENDING(pending_bits_alone, "pdbg.invalid_bits", "b3_b0", BITS(3, 0), 0, 0, false);

CASE(pending_debug_reserved_bits, PROVES("field-formats:pending_debug.reserved_10_4",
     "field-formats:pending_debug.reserved_13", "field-formats:pending_debug.reserved_15",
     "field-formats:pending_debug.reserved_63_17"), NEEDS(VMX))
{
	u32 bit;

	for (bit = 4; bit < 64; bit++) {
		/* Bits 11 and 16 are for features that the processor may have. */
		if (bit == 11 || bit == 12 || bit == 14 || bit == 16)
			continue;
		vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, BIT(bit));
		EXPECT_FOR_BIT(bit, enter_at_instruction(&guest_nops), BAD_GUEST_STATE);
	}
}

/* --- breakpoints: Table 30-1 ------------------------------------------------------------------ */

CASE(data_breakpoint_exits, PROVES("exit-qualifications:exception.db.b3_b0"),
     NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	u32 i;

	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	write_dr0((u64)guest_memory);
	write_dr1((u64)guest_memory);
	write_dr2((u64)guest_memory + 1);
	write_dr3((u64)guest_memory + 2);
	guest_regs()->rdi = (u64)guest_memory;
	for (i = 2; i < 4; i++) {
		/* 20.2.4: writes of 1 byte, one breakpoint enabled. */
		guest_regs()->rdi = (u64)guest_memory + i - 1;
		vmwrite(GUEST_DR7, DR7_FIXED | BIT(2 * i) | BIT(16 + 4 * i));
		EXPECT(enter_at_instruction(&guest_write), EXCEPTION);
		EXPECT_EQ(vmread(EXIT_QUALIFICATION), BIT(i));
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_write.end);
	}
	/* Two at once. */
	guest_regs()->rdi = (u64)guest_memory;
	vmwrite(GUEST_DR7, DR7_FIXED | BIT(0) | BIT(16) | BIT(2) | BIT(20));
	EXPECT(enter_at_instruction(&guest_write), EXCEPTION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), BIT(0) | BIT(1));
}

/* --- NMIs and IRET ---------------------------------------------------------------------------- */

/* IRET to the instruction behind it, with CS as in guest_value. */
GUEST_CODE(iret, "movq %rsp, %rbx; movl %ss, %eax; pushq %rax; pushq %rbx; pushfq; "
		 "pushq guest_value; pushq $guest_end_iret", "iretq");

struct iret {
	bool exiting, virtual, faults;
	u32 after;		/* blocking by NMI */
};

static void check_iret(const struct case_def *this_case)
{
	const struct iret *row = this_case->row;
	u64 event;

	if (row->exiting)
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	if (row->virtual)
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	guest_value = row->faults ? 0xfff8 : SELECTOR_CODE64;
	EXPECT(enter(guest_iret.run), row->faults ? EXCEPTION : GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI, row->after);
	if (row->faults && (!row->exiting || row->virtual)) {
		event = vmread(EXITING_EVENT_IDENTIFICATION);
		EXPECT_EQ(event & BIT(12), BIT(12));
		EXPECT_EQ(event & 0xff, VECTOR_GP);
	}
	unblock_nmis();
}

#define IRET(name, fact, needs, ...)						\
	CASE_RUN(name, check_iret, PROVES("interruptibility:" fact), needs,	\
		 ROW((&(const struct iret){ __VA_ARGS__ })))
#define VIRTUAL_NMIS	PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)
IRET(iret_unblocks_nmis, "nmi.iret.plain", NEEDS(VMX), false, false, false, 0);
IRET(iret_that_faults_unblocks_nmis, "nmi.iret.plain", NEEDS(VMX), false, false, true, 0);
CASE_RUN(iret_with_nmi_exiting, check_iret,
	 PROVES("interruptibility:nmi.iret.exiting", "host-and-exit:save.intr.nmi"),
	 NEEDS(VMX, PIN(NMI_EXITING)),
	 ROW((&(const struct iret){ true, false, false, BLOCKING_BY_NMI })));
IRET(iret_that_faults_with_nmi_exiting, "nmi.iret.exiting", NEEDS(VMX, PIN(NMI_EXITING)), true,
     false, true, BLOCKING_BY_NMI);
CASE_RUN(iret_that_faults_unblocks_virtual_nmis, check_iret,
	 PROVES("interruptibility:nmi.unblock_info", "field-formats:exiting_event.nmi_unblocking"),
	 NEEDS(VMX, VIRTUAL_NMIS), ROW((&(const struct iret){ true, true, true, 0 })));
CASE_RUN(iret_that_faults_says_so, check_iret,
	 PROVES("interruptibility:nmi.unblock_info", "field-formats:exiting_event.nmi_unblocking"),
	 NEEDS(VMX), ROW((&(const struct iret){ false, false, true, 0 })));

/* 29.7.1: the blocking of virtual NMIs is what the entry says, whatever the guest before had. */
CASE(virtual_nmi_blocking_is_loaded, PROVES("interruptibility:nmi.virtual"),
     NEEDS(VMX, VIRTUAL_NMIS))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	EXPECT(enter(guest_nops.run), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
	EXPECT(enter(guest_nops.run), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	/* Wherever it was kept, it ends here. */
	guest_value = SELECTOR_CODE64;
	EXPECT(enter(guest_iret.run), GUEST_DONE);
}

CASE(fault_of_no_iret_says_nothing, PROVES("field-formats:exiting_event.nmi_unblocking"),
     NEEDS(VMX))
{
	/*
	 * A machine that keeps the blocking of another guest
	 * (virtual_nmi_blocking_is_loaded) does so no longer.
	 */
	unblock_nmis();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	guest_value = 0xfff8;
	EXPECT(enter(guest_iret.run), EXCEPTION);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(12), 0);
}

/* --- activity states -------------------------------------------------------------------------- */

GUEST_CODE(spin, "", "1: jmp 1b");

/* The other processor sends start-up IPIs all the time; they are lost. */
static void expect_no_sipi(const struct guest_code *code, u64 activity)
{
	guard_by_timer(BIT(20));
	vmwrite(GUEST_ACTIVITY_STATE, activity);
	smp_begin_startup_ipis(0x9a);
	EXPECT(enter_at_instruction(code), TIMER_EXPIRED);
	EXPECT(smp_stop_startup_ipis(), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), activity);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code->at);
}

CASE(sipi_in_the_active_state,
     PROVES("interruptibility:act.active", "interruptibility:timer.states"),
     NEEDS(VMX, TIMER, CPUS(2)))
{
	expect_no_sipi(&guest_spin, ACTIVITY_ACTIVE);
}

CASE(sipi_in_the_hlt_state, PROVES("interruptibility:act.hlt", "interruptibility:timer.states"),
     NEEDS(VMX, TIMER, CPUS(2), HLT_STATE))
{
	expect_no_sipi(&guest_nops, ACTIVITY_HLT);
}

CASE(sipi_in_the_shutdown_state,
     PROVES("interruptibility:act.shutdown", "interruptibility:timer.states"),
     NEEDS(VMX, TIMER, CPUS(2), SHUTDOWN_STATE))
{
	expect_no_sipi(&guest_nops, ACTIVITY_SHUTDOWN);
}

CASE(interrupt_in_the_shutdown_state, PROVES("interruptibility:act.shutdown"),
     NEEDS(VMX, TIMER, PIN(EXTERNAL_INTERRUPT_EXITING), APIC, SHUTDOWN_STATE))
{
	guard_by_timer(BIT(20));
	pend_interrupt();
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT(enter_at_instruction(&guest_nops), TIMER_EXPIRED);
	let_it_in();
}

/* 28.5.1: in the wait-for-SIPI state the timer does not exit; nor does an interrupt. */
CASE(only_sipi_in_the_wait_for_sipi_state, PROVES("interruptibility:act.sipi",
     "interruptibility:timer.states"),
     NEEDS(VMX, TIMER, PIN(EXTERNAL_INTERRUPT_EXITING), CPUS(2), SIPI_STATE))
{
	set_timer(0);
	pend_interrupt();
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI);
	smp_begin_startup_ipis(0x9a);
	EXPECT(enter_at_instruction(&guest_nops), OUTCOME_EXIT(EXIT_STARTUP_IPI));
	EXPECT(smp_stop_startup_ipis(), OUTCOME_DONE);
	EXPECT_EQ(seen.taken, 0);
	let_it_in();
	/* A processor that has not left the state in full is none for the next case. */
	if (case_failed())
		case_boot_again();
}

/* 30.5.5: the exit leaves the blocking of NMIs as it was; the state that blocked them has ended. */
CASE(sipi_exit_leaves_nmis_unblocked, PROVES("host-and-exit:host.nmi.kept"),
     NEEDS(VMX, APIC, CPUS(2), SIPI_STATE))
{
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI);
	smp_begin_startup_ipis(0x9a);
	EXPECT(enter_at_instruction(&guest_nops), OUTCOME_EXIT(EXIT_STARTUP_IPI));
	EXPECT(smp_stop_startup_ipis(), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	note_events(VECTOR_NMI);
	apic_pend_nmi(IPI_VECTOR);
	EXPECT_EQ(seen.taken, 1);
	/* One still blocked comes with the IRET behind the interrupt, not outside the case. */
	note_events(IPI_VECTOR);
	let_it_in();
	if (case_failed())
		case_boot_again();
}

/* 30.1: the interrupt has ended the HLT state before its delivery faults. */
CASE(active_state_during_delivery, PROVES("interruptibility:act.indirect"),
     NEEDS(VMX, APIC, HLT_STATE))
{
	guard_by_timer(BIT(20));
	pend_interrupt();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT(enter_at_instruction(&guest_nops), EXCEPTION);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), BIT(31) | IPI_VECTOR);
	apic_eoi();
}

/*
 * 27.4.2: there is no activity state for MWAIT, which may as well not wait (volume 2, MWAIT). If it
 * waits, the timer ends that.
 */
CASE(timer_wakes_from_mwait, PROVES("interruptibility:timer.wake.mwait"),
     NEEDS(VMX, TIMER, CPU(MONITOR)))
{
	outcome_t outcome;

	guard_by_timer(BIT(20));
	outcome = enter(guest_armed_mwait.run);
	EXPECT(outcome, TIMER_EXPIRED, GUEST_DONE);
	if (outcome == TIMER_EXPIRED)
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_armed_mwait.end);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

/* CPUID.5:ECX[1]: "interrupts are break events even when disabled", which is ECX[0] of MWAIT. */
static bool need_mwait_break(u64 unused __maybe_unused)
{
	return need_feature(FEATURE_MONITOR) && cpuid(0).eax >= 5 && cpuid(5).ecx & BIT(1);
}
#define MWAIT_BREAK	{ .text = "MWAIT with ECX[0]: CPUID.5:ECX[1]", .met = need_mwait_break }

CASE(mwait_does_not_sleep_before_a_window, PROVES("nonroot-behavior:mwait.window"),
     NEEDS(VMX, TIMER, PROC1(INTERRUPT_WINDOW_EXITING), MWAIT_BREAK))
{
	guard_by_timer(BIT(20));
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	EXPECT(enter(guest_mwait_breaking.run), GUEST_DONE);
}

/* --- the monitor trap flag and what is pending ------------------------------------------------ */

#define MTF		PROC1(MONITOR_TRAP_FLAG)
#define MONITOR_TRAP	OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG)

static u64 handler_of(u8 vector)
{
	const struct gate *gate = &this_cpu()->idt[vector];

	return gate->offset_low | (u64)gate->offset_middle << 16 | (u64)gate->offset_high << 32;
}

static void set_monitor_trap(void)
{
	guard_by_timer(BIT(20));
	vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
}

CASE(mtf_exits_at_the_handler_of_an_injected_event, PROVES("interruptibility:mtf.inject"),
     NEEDS(VMX, MTF))
{
	set_monitor_trap();
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x20));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	EXPECT(enter_at_instruction(&guest_nops), MONITOR_TRAP);
	EXPECT_EQ(vmread(GUEST_RIP), handler_of(0x20));
}

CASE(mtf_exits_at_the_handler_of_a_pending_event, PROVES("interruptibility:mtf.event"),
     NEEDS(VMX, MTF))
{
	set_monitor_trap();
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, BIT(12) | BIT(0));
	EXPECT(enter_at_instruction(&guest_nops), MONITOR_TRAP);
	EXPECT_EQ(vmread(GUEST_RIP), handler_of(VECTOR_DB));
}

CASE(mtf_does_not_exit_from_shutdown, PROVES("interruptibility:mtf.shutdown"),
     NEEDS(VMX, MTF, TIMER, SHUTDOWN_STATE))
{
	set_monitor_trap();
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT(enter_at_instruction(&guest_nops), TIMER_EXPIRED);
}
