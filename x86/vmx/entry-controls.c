/*
 * VM entry checks the VM-execution control fields: 29.2.1.1.
 *
 * Reserved bits are as the capability MSRs say; addresses of structures are aligned and within the
 * width of physical addresses, but only those of structures in use; controls that make no sense
 * without others need them. Otherwise VMLAUNCH and VMRESUME fail with error 7. One case per rule of
 * lib/x86/vmx/entry_rules_controls.def, which breaks it alone, from every base state there is.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_controls.def"
