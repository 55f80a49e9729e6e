/* A guest that does not exit as it must should not hang the image. */
#ifndef VMX_GUARD_H
#define VMX_GUARD_H

#include "vmx/vmx.h"

/*
 * Where there is a VMX-preemption timer, it ends the guest of the current VMCS after `ticks` of the
 * time-stamp counter. BIT(24) is some 8 ms. A.6: bits 4:0 of IA32_VMX_MISC are the timer's shift.
 */
static inline void guard_by_timer(u64 ticks)
{
	if (!control_allowed(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER))
		return;
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks >> FIELD(capabilities()->misc, 4, 0));
}

#endif
