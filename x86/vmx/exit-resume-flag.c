/*
 * RFLAGS.RF as each kind of exit saves it: 30.3.3 Saving RIP, RSP, RFLAGS, and SSP.
 *
 * An event that exits directly saves what its delivery would have pushed (20.3.1.1), an instruction
 * 0, and all other exits what the register holds. So does a triple fault: nothing has been
 * delivered, and a delivery that breaks off leaves RFLAGS alone (30.1 Architectural State Before a
 * VM Exit), though a fault was the first of the three. In the register only IRET, a task switch and
 * a VM entry set RF; an instruction that completes and the delivery of an event clear it.
 *
 * Each guest begins with RF as its row says. vmx/exit-exceptions, vmx/injection-modes and
 * ept/delivery-basic have faults, task switches and EPT violations.
 */
#include "cpu/apic.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

static struct gate *idt;

static void start(void)
{
	idt = guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(nop_and_exit, "", "nop; vmcall");
GUEST_CODE(nop_and_fault, "", "nop; ud2");
GUEST_CODE(ud2, "", "ud2");
GUEST_CODE(int3, "", "int3");
GUEST_CODE(int1, "", ".byte 0xf1");

#define VECTOR	0x51	/* of an interrupt */

/* --- what makes the guest exit ------------------------------------------------------------ */

/* No gate is inside the limit: whatever is delivered ends in a double and then a triple fault. */
static void have_no_gates(void)
{
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(EXCEPTION_BITMAP, 0);
}

static void inject_without_gates(void)
{
	have_no_gates();
	vmwrite(INJECTED_EVENT_IDENTIFICATION,
		INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_UD));
}

static void exit_by_exceptions(void)
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB) | BIT(VECTOR_BP));
}

static void pend_debug_exception(void)
{
	exit_by_exceptions();
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
}

static void expire_timer(void)
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
}

static void expire_timer_behind_injection(void)
{
	expire_timer();
	vmwrite(INJECTED_EVENT_IDENTIFICATION,
		INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, VECTOR));
}

static void open_interrupt_window(void)
{
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
}

static void open_nmi_window(void)
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmcs_set_control(CONTROL_PROC1_NMI_WINDOW_EXITING);
}

static void inject_monitor_trap(void)
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_OTHER, 0));
}

static void trap_each_instruction(void)
{
	vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
}

static void be_below_the_threshold(void)
{
	vmcs_set_control(CONTROL_PROC1_USE_TPR_SHADOW);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(VIRTUAL_APIC_ADDRESS, physical(page_alloc()));
	vmwrite(APIC_ACCESS_ADDRESS, physical(page_alloc()));
	vmwrite(TPR_THRESHOLD, 5);
}

static void taken_in_host(struct trap_frame *frame)
{
	(void)frame;
	apic_eoi();
}

static void pend_interrupt(void)
{
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	trap_on(VECTOR, taken_in_host);
	apic_pend(VECTOR);
}

/* --- the cases ---------------------------------------------------------------------------- */

struct saved {
	const struct guest_code *code;
	void (*prepare)(void);
	u16 reason;
	u64 before, after;	/* RF, at the entry and as it is saved */
};

static void saves_rf(const struct case_def *this_case)
{
	const struct saved *row = this_case->row;

	if (row->prepare)
		row->prepare();
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF | row->before);
	EXPECT(enter_at_instruction(row->code), OUTCOME_EXIT(row->reason));
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_RF, row->after);
	interrupts_in();
}

#define SAVES_RF(name, fact, needs, ...)					\
	static const struct saved row_##name = { __VA_ARGS__ };			\
	CASE_RUN(name, saves_rf, PROVES("host-and-exit:save.rf." fact), NEEDS needs,	\
		 ROW(&row_##name))

#define TRIPLE(name, needs, ...)	SAVES_RF(triple_fault_##name, "triple", needs, __VA_ARGS__)
TRIPLE(saves_rf_0, (VMX), &guest_ud2, have_no_gates, EXIT_TRIPLE_FAULT, 0, 0);
TRIPLE(saves_rf_1, (VMX), &guest_ud2, have_no_gates, EXIT_TRIPLE_FAULT, RFLAGS_RF, RFLAGS_RF);
TRIPLE(behind_an_instruction_saves_rf_0, (VMX), &guest_nop_and_fault, have_no_gates,
       EXIT_TRIPLE_FAULT, RFLAGS_RF, 0);
TRIPLE(of_injection_saves_rf_0, (VMX), &guest_cpuid, inject_without_gates, EXIT_TRIPLE_FAULT,
       0, 0);
TRIPLE(of_injection_saves_rf_1, (VMX), &guest_cpuid, inject_without_gates, EXIT_TRIPLE_FAULT,
       RFLAGS_RF, RFLAGS_RF);

#define KEEPS(name, needs, ...)							\
	SAVES_RF(name##_saves_rf_0, "other", needs, __VA_ARGS__, 0, 0);		\
	SAVES_RF(name##_saves_rf_1, "other", needs, __VA_ARGS__, RFLAGS_RF, RFLAGS_RF)
KEEPS(timer, (VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)), &guest_cpuid, expire_timer,
      EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
KEEPS(interrupt_window, (VMX, PROC1(INTERRUPT_WINDOW_EXITING)), &guest_cpuid,
      open_interrupt_window, EXIT_INTERRUPT_WINDOW);
KEEPS(nmi_window, (VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)),
      &guest_cpuid, open_nmi_window, EXIT_NMI_WINDOW);
KEEPS(injected_monitor_trap, (VMX, PROC1(MONITOR_TRAP_FLAG)), &guest_cpuid, inject_monitor_trap,
      EXIT_MONITOR_TRAP_FLAG);
KEEPS(tpr_threshold, (VMX, PROC1(USE_TPR_SHADOW), PROC2(VIRTUALIZE_APIC_ACCESSES)), &guest_cpuid,
      be_below_the_threshold, EXIT_TPR_BELOW_THRESHOLD);
SAVES_RF(monitor_trap_saves_rf_0, "other", (VMX, PROC1(MONITOR_TRAP_FLAG)), &guest_nop_and_exit,
	 trap_each_instruction, EXIT_MONITOR_TRAP_FLAG, RFLAGS_RF, 0);
SAVES_RF(timer_behind_an_injection_saves_rf_0, "other", (VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)),
	 &guest_cpuid, expire_timer_behind_injection, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, RFLAGS_RF,
	 0);

/*
 * 20.3.1.1: an interrupt between two instructions, and a trap, push what the register holds; INT3
 * and INT1 have cleared it.
 */
#define EVENT(name, needs, ...)		SAVES_RF(name, "event", needs, __VA_ARGS__)
#define INTERRUPT_NEEDS			VMX, PIN(EXTERNAL_INTERRUPT_EXITING), APIC
EVENT(interrupt_saves_rf_0, (INTERRUPT_NEEDS), &guest_cpuid, pend_interrupt,
      EXIT_EXTERNAL_INTERRUPT, 0, 0);
EVENT(interrupt_saves_rf_1, (INTERRUPT_NEEDS), &guest_cpuid, pend_interrupt,
      EXIT_EXTERNAL_INTERRUPT, RFLAGS_RF, RFLAGS_RF);
EVENT(debug_trap_saves_rf_0, (VMX), &guest_cpuid, pend_debug_exception, EXIT_EXCEPTION_OR_NMI,
      0, 0);
EVENT(debug_trap_saves_rf_1, (VMX), &guest_cpuid, pend_debug_exception, EXIT_EXCEPTION_OR_NMI,
      RFLAGS_RF, RFLAGS_RF);
EVENT(int3_saves_rf_0, (VMX), &guest_int3, exit_by_exceptions, EXIT_EXCEPTION_OR_NMI,
      RFLAGS_RF, 0);
EVENT(int1_saves_rf_0, (VMX), &guest_int1, exit_by_exceptions, EXIT_EXCEPTION_OR_NMI,
      RFLAGS_RF, 0);

SAVES_RF(instruction_saves_rf_0, "instruction", (VMX), &guest_cpuid, NULL, EXIT_CPUID, RFLAGS_RF,
	 0);
