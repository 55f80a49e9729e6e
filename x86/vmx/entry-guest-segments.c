/*
 * VM entry checks the segment and descriptor-table registers of the guest: 29.3.1.2 and 29.3.1.3.
 *
 * What is checked depends on the guest: in virtual-8086 mode base, limit and access rights are
 * fixed; elsewhere the access rights must describe a segment that could have been loaded, but of an
 * unusable register hardly anything counts. Otherwise the entry ends as an exit with reason 33. One
 * case per rule of lib/x86/vmx/entry_rules_guest_segments.def.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_guest_segments.def"
