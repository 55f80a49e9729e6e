/*
 * The guest timer: 28.5.10 APIC-Timer Virtualization. The real VMX-preemption timer ends the stay
 * in the guest when the deadline is there.
 */
#include "rehearsal/rehearsal.h"

#define APIC_VIRR	0x200	/* in the virtual-APIC page, eight registers of 16 bytes each */

static u64 deadline;		/* by the real TSC; 0: disarmed */

/* What the real timer's fields had before. */
static u64 pin_controls, timer_value;
static bool armed;		/* for the stay in the guest that is, or was last */

static bool is_on(void)
{
	return control_on(CONTROL_PROC3_APIC_TIMER_VIRTUALIZATION);
}

/* 29.3.2.5 Updating Non-Register State. */
void timer_load(void)
{
	if (is_on() && !fault(FAULT_timer_not_loaded))
		deadline = field_get(GUEST_DEADLINE);
}

/* 30.3.4 Saving Non-Register State, by every processor that has the control; 30.5.5: disarmed. */
void timer_save(void)
{
	if (!fault(FAULT_timer_not_saved))
		field_put(GUEST_DEADLINE, deadline);
	if (!fault(FAULT_timer_runs_on))
		deadline = 0;
}

/* 28.5.10.2: the virtual interrupt is pending in VIRR and RVI, and nothing is armed any more. */
static void post_event(void)
{
	u8 vector = field_get(VIRTUAL_TIMER_VECTOR);
	u64 status = vmread_known(GUEST_INTERRUPT_STATUS);
	u32 *virr = (u32 *)(vmread_known(VIRTUAL_APIC_ADDRESS) + APIC_VIRR + vector / 32 * 16);

	*virr |= 1u << vector % 32;
	if (FIELD(status, 7, 0) < vector || fault(FAULT_timer_lowers_rvi))
		vmwrite_known(GUEST_INTERRUPT_STATUS, (status & ~0xffull) | vector);
	deadline = 0;
	if (!fault(FAULT_timer_keeps_the_shadow))
		field_put(GUEST_DEADLINE_SHADOW, 0);
}

void timer_arm(void)
{
	u32 rate = FIELD(capabilities()->misc, 4, 0);	/* A.6: bit of the TSC that it counts */
	u64 now = rdtsc(), ticks;

	armed = false;
	if (!deadline)
		return;
	if (now >= deadline) {
		post_event();
		return;
	}
	ticks = ((deadline - now) >> rate) + 1;
	pin_controls = vmread_known(PIN_BASED_VM_EXECUTION_CONTROLS);
	timer_value = vmread_known(VMX_PREEMPTION_TIMER_VALUE);
	vmwrite_known(PIN_BASED_VM_EXECUTION_CONTROLS, pin_controls |
		      control_bit(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER));
	vmwrite_known(VMX_PREEMPTION_TIMER_VALUE, ticks > BITS(31, 0) ? BITS(31, 0) : ticks);
	armed = true;
}

void timer_disarm(void)
{
	if (!armed)
		return;
	vmwrite_known(PIN_BASED_VM_EXECUTION_CONTROLS, pin_controls);
	vmwrite_known(VMX_PREEMPTION_TIMER_VALUE, timer_value);
}

bool timer_expired(u32 reason)
{
	return armed && reason == EXIT_VMX_PREEMPTION_TIMER_EXPIRED;
}

/* --- RDMSR and WRMSR: 28.3, 28.5.10.1 -------------------------------------------------------- */

static bool offsets(void)
{
	return control_on(CONTROL_PROC1_USE_TSC_OFFSETTING);
}

/* A whole number here: no case has another one. */
static u64 multiplier(void)
{
	if (!offsets() || !control_on(CONTROL_PROC2_USE_TSC_SCALING))
		return 1;
	return vmread_known(TSC_MULTIPLIER) >> 48;
}

static u64 to_real_tsc(u64 tsc)
{
	if (fault(FAULT_timer_is_not_converted))
		return tsc;
	return (tsc - (offsets() ? vmread_known(TSC_OFFSET) : 0)) / multiplier();
}

static u64 guest_tsc(void)
{
	return rdtsc() * multiplier() + (offsets() ? vmread_known(TSC_OFFSET) : 0);
}

static void write_deadline(u64 value)
{
	if (!fault(FAULT_timer_forgets_the_shadow))
		field_put(GUEST_DEADLINE_SHADOW, value);
	if (fault(FAULT_timer_ignores_writes))
		return;
	if (!value)
		deadline = 0;
	else if (value > guest_tsc())
		deadline = to_real_tsc(value);
	else if (!fault(FAULT_timer_ignores_the_past))
		post_event();
}

bool timer_access(bool write, struct general_registers *regs)
{
	if (!is_on() || (u32)regs->rcx != IA32_TSC_DEADLINE)
		return false;
	if (write)
		write_deadline(register_pair(regs));
	else
		set_register_pair(regs, field_get(GUEST_DEADLINE_SHADOW));
	return true;
}
