/*
 * VM entry and every value of the VM-execution, VM-exit and VM-entry control fields: 29.2.1.
 *
 * The entry images break one rule after the other. Here a field takes each value at a boundary,
 * from each kind of guest, and the processor must do what the model of chapter 29 says, whether
 * that is a failure or a guest that runs: so a check that is missing shows, and one that should not
 * be there as well. One case for each field: lib/x86/entry/sweep.h.
 */
#include "entry/sweep.h"

BEFORE_EACH_CASE(vmx_start);

#define SWEEP_CONTROL(...)	SWEEP_CASE(__VA_ARGS__)
#define SWEEP_GUEST(...)
#define SWEEP_HOST(...)
#define SWEEP_EXIT_INFO(...)
#include "sdm/vmcs_fields.def"
