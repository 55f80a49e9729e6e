/* Guest memory as the VMM sees it. */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "machine.h"

struct memory_slot {
	struct memory_range guest;
	uint8_t *host;		/* `guest.size` bytes, all zero at the start */
};

struct memory {
	struct memory_slot slots[MACHINE_MAX_RANGES];
	size_t count;
};

uint8_t *memory_at(const struct memory *memory, uint64_t address, uint64_t size);
int memory_find_top(const struct memory *memory, uint64_t size, uint64_t below,
		    const struct memory_range *avoid, uint64_t *address);

#endif
