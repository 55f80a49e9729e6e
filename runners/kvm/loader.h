/* Puts an image into guest memory. */
#ifndef VMM_LOADER_H
#define VMM_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "memory.h"
#include "text.h"

struct loaded_image {
	uint64_t entry;			/* guest-physical */
	struct memory_range extent;	/* from the first to the last byte, bss included */
};

int load_elf(struct loaded_image *image, const struct memory *memory, const void *elf, size_t size,
	     struct text *error);

#endif
