/* Guest memory as the VMM sees it: from guest-physical addresses to bytes. */
#include "memory.h"

/* The `size` bytes at guest-physical `address`; NULL unless all are RAM of one slot. */
uint8_t *memory_at(const struct memory *memory, uint64_t address, uint64_t size)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct memory_slot *slot = &memory->slots[i];
		const uint64_t offset = address - slot->guest.start;

		if (address >= slot->guest.start && offset < slot->guest.size &&
		    size <= slot->guest.size - offset)
			return slot->host + offset;
	}
	return NULL;
}

/*
 * Finds the highest page-aligned `size` bytes of RAM that end at or below `below` and do not
 * meet `avoid`. Returns 0 and sets `address`, or -1 when there are none.
 */
int memory_find_top(const struct memory *memory, uint64_t size, uint64_t below,
		    const struct memory_range *avoid, uint64_t *address)
{
	const uint64_t avoid_end = avoid->start + avoid->size;
	int result = -1;

	*address = 0;
	for (size_t i = 0; i < memory->count; i++) {
		const struct memory_range *range = &memory->slots[i].guest;
		uint64_t end = range->start + range->size, start;

		if (end > below)
			end = below;
		for (;;) {
			if (end < range->start || end - range->start < size)
				break;
			start = (end - size) & ~(PAGE_SIZE_4K - 1);
			if (start < range->start)
				break;
			if (start >= avoid_end || end <= avoid->start) {
				if (result || start > *address)
					*address = start;
				result = 0;
				break;
			}
			end = avoid->start;
		}
	}
	return result;
}
