/* The core as a back end of the VMM. */
#ifndef VMM_CORE_H
#define VMM_CORE_H

#include <stdint.h>

struct backend_functions;
struct hv_mmu;

extern const struct backend_functions core_functions;

/* How it makes guest memory; set before vm_create(). */
extern const struct hv_mmu *core_mmu;

/* The VM is gone: how many of its pages have not come back. */
uint64_t core_destroy(void);

#endif
