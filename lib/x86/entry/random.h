/*
 * Random walks: from a valid state, one field after the other takes a value at a boundary
 * (entry/sweep_values.def) or loses or gains a control, each step is entered, and the processor
 * compared with the model of VM entry. So several fields are unusual at once, and most states are
 * valid or nearly so. What differs is shrunk to the fewest fields with which it still does.
 *
 * A walk depends on nothing but its seed. The first of a run has the run's; those that follow have
 * seeds far from it, so that runs with neighbouring seeds share no walk.
 */
#ifndef ENTRY_RANDOM_H
#define ENTRY_RANDOM_H

#include "types.h"

#define RANDOM_STEPS	32		/* of a walk, at most one entry each */

/* The body of the case: `walks` walks, or as many as /chosen asks for. */
void entry_random(u32 walks);

#endif
