/*
 * VM entry and every value of the fields of the host state: 29.2.2 to 29.2.4.
 *
 * A field takes each value at a boundary, from each kind of guest, and the processor must do what
 * the model of chapter 29 says, whether that is a failure or a guest that runs. Values that are
 * right, but with which the host could not go on after the exit, are left out; the case says how
 * many. One case for each field: lib/x86/entry/sweep.h.
 */
#include "entry/sweep.h"

BEFORE_EACH_CASE(vmx_start);

#define SWEEP_CONTROL(...)
#define SWEEP_GUEST(...)
#define SWEEP_HOST(...)		SWEEP_CASE(__VA_ARGS__)
#define SWEEP_EXIT_INFO(...)
#include "sdm/vmcs_fields.def"
