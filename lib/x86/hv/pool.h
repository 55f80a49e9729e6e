/*
 * Pages for VMs, from memory that its owner lent: so the core's use is bounded. User space has a
 * pool, which several VMs may share; each of them takes its part at hv_vm_create(), has no page
 * beyond it, and gives it back at hv_vm_destroy().
 */
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
/* `pages` free pages of `from`, which has so many, are now free ones of `to`. */
void hv_pool_move(struct hv_pool *to, struct hv_pool *from, u64 pages);

#endif
