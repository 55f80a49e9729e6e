/*
 * What comes first after a VM entry: 29.7 Special Features of VM Entry.
 *
 * An entry can end with many things waiting at once, before the guest has executed anything: VTPR
 * below the TPR threshold, INIT, a pending monitor trap, pending debug exceptions, an expired
 * timer, an open NMI window, an NMI, an open interrupt window, a virtual interrupt, an external
 * interrupt. They have that order (29.7.3 to 29.7.8), and all of them come after the event that the
 * entry injects. Each case lets several wait, and says which exit must come, and where.
 */
#include "cpu/apic.h"
#include "mmu/pages.h"
#include "vmx/guard.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

static struct gate *idt;

static void start(void)
{
	idt = guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(target, "", "ud2");

/* What waits. */
enum {
	TPR		= BIT(0),	/* VTPR below the threshold */
	INIT		= BIT(1),	/* sent in VMX root operation, which blocks it */
	MTF		= BIT(2),	/* by injection: 29.6.2 */
	DEBUG		= BIT(3),	/* a pending debug exception that exits */
	TIMER		= BIT(4),	/* VMX-preemption timer, 0 */
	NMI_WINDOW_OPEN	= BIT(5),
	NMI		= BIT(6),	/* blocked in the host, by the handler that enters */
	WINDOW_OPEN	= BIT(7),	/* interrupt window */
	VIRTUAL		= BIT(8),	/* a virtual interrupt is recognized */
	INTERRUPT	= BIT(9),	/* pending in the APIC, and it exits */
	INJECTED	= BIT(10),	/* an injected external interrupt; its handler has IF = 1 */
	MTF_CONTROL	= BIT(11),	/* "monitor trap flag" */
	SHUTDOWN	= BIT(12),	/* the state of the guest */
	HALTED		= BIT(13),
	NMI_TAKEN	= BIT(14),	/* as NMI, but the guest takes it */
	STI_BLOCKS	= BIT(15),	/* the entry loads blocking */
	MOV_SS_BLOCKS	= BIT(16),
};

#define INTERRUPT_VECTOR	0x61
#define INJECTED_VECTOR		0x51
#define VIRTUAL_VECTOR		0x71

/* --- one after the other ---------------------------------------------------------------------- */

static void use_virtual_apic(u32 threshold)
{
	vmcs_set_control(CONTROL_PROC1_USE_TPR_SHADOW);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(VIRTUAL_APIC_ADDRESS, physical(page_alloc()));
	vmwrite(APIC_ACCESS_ADDRESS, physical(page_alloc()));
	vmwrite(TPR_THRESHOLD, threshold);
}

static void taken_in_host(struct trap_frame *frame)
{
	(void)frame;
	apic_eoi();
}

static void send_init(void)
{
	u32 i;

	apic_send(apic_id(), ICR_INIT | ICR_ASSERT);
	for (i = 0; i < 100000; i++)
		pause();
}

static void let_windows_open(u32 waits)
{
	if (waits & (NMI | NMI_WINDOW_OPEN))
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	if (waits & NMI_WINDOW_OPEN) {
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
		vmcs_set_control(CONTROL_PROC1_NMI_WINDOW_EXITING);
	}
	if (waits & WINDOW_OPEN)
		vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
}

static void make_interrupts_pend(u32 waits)
{
	if (waits & VIRTUAL) {
		use_virtual_apic(0);
		vmcs_set_control(CONTROL_PROC2_VIRTUAL_INTERRUPT_DELIVERY);
		vmwrite(GUEST_INTERRUPT_STATUS, VIRTUAL_VECTOR);
	}
	if (waits & (INTERRUPT | VIRTUAL))
		vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	if (waits & INTERRUPT) {
		trap_on(INTERRUPT_VECTOR, taken_in_host);
		apic_send_self(INTERRUPT_VECTOR);
		while (!apic_vector_bit(APIC_INTERRUPT_REQUEST, INTERRUPT_VECTOR))
			pause();
	}
}

static u64 state_of(u32 waits)
{
	if (waits & SHUTDOWN)
		return ACTIVITY_SHUTDOWN;
	return waits & HALTED ? ACTIVITY_HLT : ACTIVITY_ACTIVE;
}

static u64 blocking_by(u32 waits)
{
	if (waits & STI_BLOCKS)
		return BLOCKING_BY_STI;
	return waits & MOV_SS_BLOCKS ? BLOCKING_BY_MOV_SS : 0;
}

static void make_wait(u32 waits)
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	if (waits & TPR)
		use_virtual_apic(5);
	if (waits & MTF)
		vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_OTHER, 0));
	if (waits & MTF_CONTROL)
		vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
	if (waits & DEBUG) {
		vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
		vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	}
	if (waits & (HALTED | SHUTDOWN))
		guard_by_timer(BIT(24));
	if (waits & TIMER) {
		vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	}
	vmwrite(GUEST_ACTIVITY_STATE, state_of(waits));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking_by(waits));
	if (waits & INJECTED) {
		/* A trap gate leaves IF at 1: 7.12.1.3. */
		idt[INJECTED_VECTOR].type = 0x8f;
		vmwrite(INJECTED_EVENT_IDENTIFICATION,
			INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, INJECTED_VECTOR));
	}
	let_windows_open(waits);
	make_interrupts_pend(waits);
	if (waits & INIT)
		send_init();
}

/* --- the entry, from the handler of an NMI when another one is to wait ------------------- */

static struct {
	u32 waits, nmis;
	outcome_t outcome;
} entry;

static void send_nmi(void)
{
	u32 i;

	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	for (i = 0; i < 10000; i++)
		pause();
}

static void enter_from_handler(struct trap_frame *frame)
{
	(void)frame;
	if (entry.nmis++)
		return;
	send_nmi();
	make_wait(entry.waits);
	entry.outcome = enter_at_instruction(&guest_target);
}

static outcome_t enter_with(u32 waits)
{
	if (!(waits & (NMI | NMI_TAKEN))) {
		make_wait(waits);
		return enter_at_instruction(&guest_target);
	}
	entry.waits = waits;
	entry.nmis = 0;
	trap_on(VECTOR_NMI, enter_from_handler);
	/* What waits may come inside the handler, once the guest has exited. */
	this_cpu()->idt[VECTOR_NMI].ist = IST_NONE;
	send_nmi();
	REQUIRE_TRUE(entry.nmis > 0);
	return entry.outcome;
}

/* --- the cases --------------------------------------------------------------------------- */

struct first {
	u32 waits;
	u16 reason;		/* what comes first */
	u8 vector;		/* of an exception or NMI */
	u8 handler;		/* the exit is at the handler of this vector; 0: before the guest */
};

static void comes_first(const struct case_def *this_case)
{
	const struct first *first = this_case->row;
	outcome_t outcome = enter_with(first->waits);

	interrupts_in();
	EXPECT(outcome, OUTCOME_EXIT(first->reason));
	EXPECT_EQ(vmread(GUEST_RIP), first->handler ? guest_handler(first->handler) :
		  (u64)guest_target.at);
	/* 30.1: a direct exit comes from the state; what is delivered has ended it. */
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE),
		  first->handler ? ACTIVITY_ACTIVE : state_of(first->waits));
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS),
		  first->handler ? 0 : blocking_by(first->waits));
	if (first->reason == EXIT_EXCEPTION_OR_NMI)
		EXPECT_EQ(FIELD(vmread(EXITING_EVENT_IDENTIFICATION), 7, 0), first->vector);
}

#define TPR_NEEDS	PROC1(USE_TPR_SHADOW), PROC2(VIRTUALIZE_APIC_ACCESSES)
#define MTF_NEEDS	PROC1(MONITOR_TRAP_FLAG)
#define TIMER_NEEDS	PIN(ACTIVATE_VMX_PREEMPTION_TIMER)
#define NMI_NEEDS	PIN(NMI_EXITING), PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)
#define WINDOW_NEEDS	PROC1(INTERRUPT_WINDOW_EXITING)
#define EXTERNAL_NEEDS	PIN(EXTERNAL_INTERRUPT_EXITING), APIC
#define BELOW_DEBUG	TIMER | NMI_WINDOW_OPEN | WINDOW_OPEN | INTERRUPT
#define BELOW_DEBUG_NEEDS TIMER_NEEDS, NMI_NEEDS, WINDOW_NEEDS, EXTERNAL_NEEDS

#define FIRST(name, facts, needs, ...)						\
	static const struct first row_##name = { __VA_ARGS__ };			\
	CASE_RUN(name, comes_first, facts, NEEDS needs, ROW(&row_##name))
#define FACT(id)	PROVES("event-injection:" id)

FIRST(tpr_threshold_first, FACT("prio.vtpr"), (VMX, TPR_NEEDS, MTF_NEEDS, BELOW_DEBUG_NEEDS),
      .waits = TPR | MTF | DEBUG | BELOW_DEBUG, .reason = EXIT_TPR_BELOW_THRESHOLD);
FIRST(monitor_trap_first, PROVES("event-injection:prio.mtf", "event-injection:inject.type.other0"),
      (VMX, MTF_NEEDS, BELOW_DEBUG_NEEDS),
      .waits = MTF | DEBUG | BELOW_DEBUG, .reason = EXIT_MONITOR_TRAP_FLAG);
/* The control changes nothing about one that is injected: 28.5.2. */
FIRST(monitor_trap_first_with_control, FACT("prio.mtf"), (VMX, MTF_NEEDS, NMI_NEEDS),
      .waits = MTF | MTF_CONTROL | NMI_WINDOW_OPEN, .reason = EXIT_MONITOR_TRAP_FLAG);
FIRST(debug_exception_first, FACT("prio.pdbg"), (VMX, BELOW_DEBUG_NEEDS),
      .waits = DEBUG | BELOW_DEBUG, .reason = EXIT_EXCEPTION_OR_NMI, .vector = VECTOR_DB);
FIRST(debug_exception_before_nmi, FACT("prio.pdbg"), (VMX, NMI_NEEDS, APIC),
      .waits = DEBUG | NMI, .reason = EXIT_EXCEPTION_OR_NMI, .vector = VECTOR_DB);
FIRST(timer_first, FACT("prio.timer"), (VMX, BELOW_DEBUG_NEEDS),
      .waits = BELOW_DEBUG, .reason = EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
FIRST(nmi_window_first, FACT("prio.nmi_window"), (VMX, NMI_NEEDS, WINDOW_NEEDS, EXTERNAL_NEEDS),
      .waits = NMI_WINDOW_OPEN | NMI | WINDOW_OPEN | INTERRUPT, .reason = EXIT_NMI_WINDOW);
FIRST(nmi_before_interrupt_window, FACT("prio.intr_window"), (VMX, NMI_NEEDS, WINDOW_NEEDS, APIC),
      .waits = NMI | WINDOW_OPEN, .reason = EXIT_EXCEPTION_OR_NMI, .vector = VECTOR_NMI);
FIRST(interrupt_window_before_interrupt, FACT("prio.intr_window.extint"),
      (VMX, WINDOW_NEEDS, EXTERNAL_NEEDS),
      .waits = WINDOW_OPEN | INTERRUPT, .reason = EXIT_INTERRUPT_WINDOW);

/* The virtual interrupt is delivered; the other one exits at its handler, whatever IF is there. */
#define VIRTUAL_NEEDS	TPR_NEEDS, PROC2(VIRTUAL_INTERRUPT_DELIVERY), EXTERNAL_NEEDS
FIRST(virtual_interrupt_before_interrupt, FACT("prio.virtual_intr"), (VMX, VIRTUAL_NEEDS),
      .waits = VIRTUAL | INTERRUPT, .reason = EXIT_EXTERNAL_INTERRUPT, .handler = VIRTUAL_VECTOR);
FIRST(nmi_before_virtual_interrupt, FACT("prio.virtual_intr.nmi"), (VMX, VIRTUAL_NEEDS, NMI_NEEDS),
      .waits = VIRTUAL | NMI, .reason = EXIT_EXCEPTION_OR_NMI, .vector = VECTOR_NMI);

/* --- states other than the active one: 29.7.5 to 29.7.8 ---------------------------------- */

#define HLT_STATE	{ "activity state HLT: IA32_VMX_MISC[6]", need_misc, BIT(6), 0 }
#define SHUTDOWN_STATE	{ "activity state \"shutdown\": IA32_VMX_MISC[7]", need_misc, BIT(7), 0 }
#define STATE_FACT(id)	PROVES("interruptibility:" id)
FIRST(nmi_window_wakes_from_hlt, STATE_FACT("window.nmi.wake"), (VMX, NMI_NEEDS, HLT_STATE),
      .waits = NMI_WINDOW_OPEN | HALTED, .reason = EXIT_NMI_WINDOW);
FIRST(nmi_window_wakes_from_shutdown, STATE_FACT("window.nmi.wake"),
      (VMX, NMI_NEEDS, SHUTDOWN_STATE),
      .waits = NMI_WINDOW_OPEN | SHUTDOWN, .reason = EXIT_NMI_WINDOW);
FIRST(interrupt_window_waits_in_shutdown, STATE_FACT("window.intr.hlt"),
      (VMX, WINDOW_NEEDS, TIMER_NEEDS, SHUTDOWN_STATE),
      .waits = WINDOW_OPEN | SHUTDOWN, .reason = EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
FIRST(tpr_threshold_wakes_from_hlt, STATE_FACT("tpr.entry"), (VMX, TPR_NEEDS, HLT_STATE),
      .waits = TPR | HALTED, .reason = EXIT_TPR_BELOW_THRESHOLD);
FIRST(tpr_threshold_waits_in_shutdown, STATE_FACT("tpr.entry.shutdown"),
      (VMX, TPR_NEEDS, TIMER_NEEDS, SHUTDOWN_STATE),
      .waits = TPR | SHUTDOWN, .reason = EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
FIRST(tpr_threshold_behind_the_nmi_that_wakes, STATE_FACT("tpr.entry.shutdown"),
      (VMX, TPR_NEEDS, APIC, SHUTDOWN_STATE),
      .waits = TPR | SHUTDOWN | NMI_TAKEN, .reason = EXIT_TPR_BELOW_THRESHOLD,
      .handler = VECTOR_NMI);
FIRST(monitor_trap_wakes_from_hlt, STATE_FACT("mtf.wake"), (VMX, MTF_NEEDS, HLT_STATE),
      .waits = MTF | HALTED, .reason = EXIT_MONITOR_TRAP_FLAG);

/* --- blocking by STI and MOV SS, which ends with an instruction or an event: 29.7.1 -------- */

#define BLOCKED(name, facts, needs, what, exit_reason)				\
	FIRST(name##_with_blocking_by_sti, PROVES facts, needs,			\
	      .waits = what | STI_BLOCKS, .reason = exit_reason);		\
	FIRST(name##_with_blocking_by_mov_ss, PROVES facts, needs,			\
	      .waits = what | MOV_SS_BLOCKS, .reason = exit_reason)
BLOCKED(tpr_threshold, ("interruptibility:tpr.entry", "host-and-exit:save.intr.at_once"),
	(VMX, TPR_NEEDS), TPR, EXIT_TPR_BELOW_THRESHOLD);
BLOCKED(monitor_trap, ("event-injection:inject.mtf_blocking",
	"host-and-exit:save.intr.at_once"), (VMX, MTF_NEEDS), MTF, EXIT_MONITOR_TRAP_FLAG);
BLOCKED(timer, ("interruptibility:timer.zero", "host-and-exit:save.intr.at_once",
	"host-and-exit:save.rip.at_once"), (VMX, TIMER_NEEDS), TIMER,
	EXIT_VMX_PREEMPTION_TIMER_EXPIRED);

/* --- after the injected event ------------------------------------------------------------ */

#define AFTER(name, needs, what, exit_reason)					\
	FIRST(name##_after_injection, FACT("prio.after_injection"), needs,	\
	      .waits = INJECTED | what, .reason = exit_reason, .handler = INJECTED_VECTOR)
AFTER(tpr_threshold, (VMX, TPR_NEEDS), TPR, EXIT_TPR_BELOW_THRESHOLD);
AFTER(timer, (VMX, TIMER_NEEDS), TIMER, EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
AFTER(nmi_window, (VMX, NMI_NEEDS), NMI_WINDOW_OPEN, EXIT_NMI_WINDOW);
AFTER(interrupt_window, (VMX, WINDOW_NEEDS), WINDOW_OPEN, EXIT_INTERRUPT_WINDOW);
AFTER(interrupt, (VMX, EXTERNAL_NEEDS), INTERRUPT, EXIT_EXTERNAL_INTERRUPT);

/* 28.5.2: with the control, the monitor trap is pending after the injected event. */
CASE(monitor_trap_after_injection, PROVES("event-injection:prio.after_injection"),
     NEEDS(VMX, MTF_NEEDS))
{
	EXPECT(enter_with(INJECTED | MTF_CONTROL), OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG));
	EXPECT_EQ(vmread(GUEST_RIP), guest_handler(INJECTED_VECTOR));
}

/* 29.6.2: injected alone, it needs no control, and comes before the first instruction. */
CASE(monitor_trap_by_injection, PROVES("event-injection:inject.type.other0"), NEEDS(VMX, MTF_NEEDS))
{
	EXPECT_FALSE(vmcs_has_control(CONTROL_PROC1_MONITOR_TRAP_FLAG));
	EXPECT(enter_with(MTF), OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
}

/* --- INIT: the exit that comes second takes it ------------------------------------------- */

CASE(tpr_threshold_before_init, PROVES("event-injection:prio.vtpr.init"),
     NEEDS(VMX, TPR_NEEDS, APIC))
{
	EXPECT(enter_with(TPR | INIT), OUTCOME_EXIT(EXIT_TPR_BELOW_THRESHOLD));
	vmwrite(TPR_THRESHOLD, 0);
	EXPECT(enter_at_instruction(&guest_target), OUTCOME_EXIT(EXIT_INIT_SIGNAL));
}

CASE(init_before_monitor_trap, PROVES("event-injection:prio.mtf.init"), NEEDS(VMX, MTF_NEEDS, APIC))
{
	EXPECT(enter_with(MTF | INIT), OUTCOME_EXIT(EXIT_INIT_SIGNAL));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
}
