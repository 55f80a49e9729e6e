/*
 * VM entry checks the host state, to which the next exit returns: 29.2.2 to 29.2.4.
 *
 * Control registers, MSRs, selectors and bases must be such that the processor could run with them,
 * in the address-space size that the exit controls give. Otherwise VMLAUNCH and VMRESUME fail with
 * error 8, and nothing is loaded. One case per rule of lib/x86/vmx/entry_rules_host.def.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_host.def"
