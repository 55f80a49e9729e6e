/* Hides VMX capabilities from the guest, as a VMM of nested guests does: by the capability MSRs. */
#ifndef VMM_HIDE_H
#define VMM_HIDE_H

#include "backend.h"

/*
 * Makes the capability MSRs of `vcpu`, which has its CPUID already, say that the processor lacks
 * what `names` says (capabilities.h). Returns 0 only when they say so; else a negative errno value,
 * and `backend` has a sentence for the user.
 */
int kvm_hide(struct backend *backend, struct vcpu *vcpu, const char *names);

#endif
