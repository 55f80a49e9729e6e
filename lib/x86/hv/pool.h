/* The pages of one VM, all from memory that its owner lent it: so the core's use is bounded. */
#ifndef HV_POOL_H
#define HV_POOL_H

#include "types.h"

struct hv_pool {
	u64 *first;		/* a free page begins with the address of the next one */
	u64 left;		/* free pages */
};

/* `size` bytes from `memory`, both multiples of 4096, physical = linear address. */
void hv_pool_init(struct hv_pool *pool, void *memory, u64 size);

/* One page, all zero; NULL when there is none left. */
void *hv_pool_take(struct hv_pool *pool);
void hv_pool_give(struct hv_pool *pool, void *page);

#endif
