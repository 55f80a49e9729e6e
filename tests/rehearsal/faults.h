/*
 * The ways in which the pretended processor can be wrong on purpose. In /chosen, exitpath,fault has
 * globs over their names, separated by blanks; each is for all cases, or as N=GLOB for case number
 * N of the image. The names are those of faults.def; accepts_CHECK for each row of checks.def; and
 * for each PRETEND_STATE of processor.def ignores_MSR_at_entry, forgets_MSR, keeps_MSR_at_exit.
 */
#ifndef REHEARSAL_FAULTS_H
#define REHEARSAL_FAULTS_H

#include "types.h"

enum fault {
#define FAULT(name, words) FAULT_##name,
#include "rehearsal/faults.def"
#define CHECK(name, ...) FAULT_accepts_##name,
#include "rehearsal/checks.def"
#define PRETEND_STATE(msr, ...)							\
	FAULT_ignores_##msr##_at_entry, FAULT_forgets_##msr, FAULT_keeps_##msr##_at_exit,
#include "rehearsal/processor.def"
	FAULTS,
};

/* Whether the processor is to be wrong in this way. */
bool fault(enum fault fault);

#endif
