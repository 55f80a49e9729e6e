/* The core as a back end of the VMM. */
#ifndef VMM_CORE_H
#define VMM_CORE_H

struct backend_functions;
struct hv_mmu;

extern const struct backend_functions core_functions;

/* How it makes guest memory; set before vm_create(). */
extern const struct hv_mmu *core_mmu;

#endif
