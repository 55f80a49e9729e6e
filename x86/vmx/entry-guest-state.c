/*
 * VM entry checks RIP, RFLAGS and SSP of the guest, its state outside registers, and the PDPTEs:
 * 29.3.1.4 to 29.3.1.6.
 *
 * Activity, blocking of events, pending debug exceptions and an injected event must go together as
 * they could on a processor. Otherwise the entry ends as an exit with reason 33, and the
 * qualification tells apart the PDPTEs (2), an NMI behind STI (3) and the VMCS link pointer (4).
 * One case per rule of lib/x86/vmx/entry_rules_guest_state.def.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_guest_state.def"
