/*
 * VM entry and the VM-exit information fields: an entry depends on none of them (chapter 29),
 * whatever software has written there. Processors on which VMWRITE cannot write them (A.6
 * Miscellaneous Data, bit 29) cannot tell. One case for each field: lib/x86/entry/sweep.h.
 */
#include "entry/sweep.h"

BEFORE_EACH_CASE(vmx_start);

#define SWEEP_CONTROL(...)
#define SWEEP_GUEST(...)
#define SWEEP_HOST(...)
#define SWEEP_EXIT_INFO(...)	SWEEP_CASE(__VA_ARGS__)
#include "sdm/vmcs_fields.def"
