/*
 * VM entry from states that nobody thought of: random walks from valid states, several unusual
 * fields at once, each step judged by the model of chapter 29: lib/x86/entry/random.h.
 *
 *	./exitpath run vmx/random --seed N --count M
 *
 * makes M walks. The case fails with the ways in which the processor differs from the model, each
 * with the fewest fields that show it and the command that repeats it.
 */
#include "entry/random.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

CASE(walks_from_valid_states, PROVES("vm-entry-checks:basic.order.controls_before_guest",
     "vm-entry-checks:basic.order.guest_before_msr",
     "vm-entry-checks:basic.order.vmfail_any_order"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	entry_random(512);
}
