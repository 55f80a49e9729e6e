/*
 * VM entry and every value of the fields of the guest state: 29.3.
 *
 * A field takes each value at a boundary, from each kind of guest, and the processor must do what
 * the model of chapter 29 says, whether that is a failure or a guest that runs. One case for each
 * field: lib/x86/entry/sweep.h.
 */
#include "entry/sweep.h"

BEFORE_EACH_CASE(vmx_start);

#define SWEEP_CONTROL(...)
#define SWEEP_GUEST(...)	SWEEP_CASE(__VA_ARGS__)
#define SWEEP_HOST(...)
#define SWEEP_EXIT_INFO(...)
#include "sdm/vmcs_fields.def"
