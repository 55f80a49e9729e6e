/* Whether a back end can run a guest at all. */
#ifndef VMM_PROBE_H
#define VMM_PROBE_H

#include "backend.h"

int probe_guest(struct backend *backend, const char *without);

#endif
