/*
 * Physical pages for a case: its own memory for page tables, VMCS regions, data. What a case has
 * taken is free again when it ends, so no case gives anything back and none finds another's.
 *
 * Pages come from the memory that the device tree describes, behind the image and below 4 GiB,
 * where the linear addresses of the boot map equal the physical ones. The tree itself may be
 * there: it has been read by then. For the boot processor only.
 */
#ifndef MMU_PAGES_H
#define MMU_PAGES_H

#include "types.h"

/* One page of 4 KBytes, all zero. */
void *page_alloc(void);

/* The same with `content` in every quadword, or with what is in `page` (4 KBytes). */
void *page_alloc_filled(u64 content);
void *page_alloc_copy(const void *page);

/*
 * `size` bytes in one piece, all zero. `size`: a multiple of 4096; `alignment`: a power of two, at
 * least 4096. Memory that is used up, or that the tree describes and that is not there, is not the
 * fault of what is tested: `Bail out!`.
 */
void *pages_alloc(u64 size, u64 alignment);

/* All pages are free: for the loop of cases, when a case has ended. */
void pages_free_all(void);

/* The physical address of what lies in the boot map, which is all that the two above give out. */
static inline u64 physical(const volatile void *pointer)
{
	return (u64)pointer;
}

#endif
