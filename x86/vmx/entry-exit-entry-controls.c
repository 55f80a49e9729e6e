/*
 * VM entry checks the VM-exit and VM-entry control fields: 29.2.1.2 and 29.2.1.3.
 *
 * Reserved bits, the lists of MSRs, and the event to be injected: its type, vector, error code and
 * length must be those of an event that there is. Otherwise VMLAUNCH and VMRESUME fail with
 * error 7. One case per rule of lib/x86/vmx/entry_rules_exit_entry.def, which breaks it alone, from
 * every base state there is.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_exit_entry.def"
