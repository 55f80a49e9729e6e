/*
 * VM entry checks the control registers, debug registers and MSRs of the guest: 29.3.1.1.
 *
 * The guest's registers must hold what instructions could have put there, in the mode in which the
 * guest will run. Otherwise the entry ends as an exit with reason 33. One case per rule of
 * lib/x86/vmx/entry_rules_guest_registers.def.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_guest_registers.def"
