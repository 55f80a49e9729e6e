#include "mmu/pages.h"
#include "case.h"
#include "platform.h"

#define BOOT_MAP_END	BIT(32)

extern u8 image_end[];

/* Everything from the end of the image up to here is taken. */
static u64 taken_to;

static u64 align_up(u64 address, u64 alignment)
{
	return (address + alignment - 1) & ~(alignment - 1);
}

/* The lowest piece of memory at or above `from`, or 0. */
static u64 find(u64 from, u64 size, u64 alignment)
{
	const struct platform *platform = this_platform();
	u64 best = 0;
	u32 i;

	for (i = 0; i < platform->memory_count; i++) {
		const struct platform_memory *range = &platform->memory[i];
		u64 end = range->start + range->size;
		u64 start = align_up(range->start > from ? range->start : from, alignment);

		if (end > BOOT_MAP_END)
			end = BOOT_MAP_END;
		if (start < end && size <= end - start && (!best || start < best))
			best = start;
	}
	return best;
}

/* Whether the page keeps what is written: a bus without memory answers always the same. */
static bool is_memory(u64 page)
{
	volatile u64 *first = (volatile u64 *)page, *last = first + PAGE_SIZE / sizeof(u64) - 1;

	*first = 0x5555555555555555;
	*last = 0xaaaaaaaaaaaaaaaa;
	if (*first != 0x5555555555555555 || *last != 0xaaaaaaaaaaaaaaaa)
		return false;
	*first = ~page;
	*last = page;
	return *first == ~page && *last == page;
}

/* By quadwords: some hypervisors emulate supervisor code, element by element. */
static void *fill_quadwords(void *memory, u64 content, u64 count)
{
	void *to = memory;

	asm volatile("rep stosq" : "+D" (to), "+c" (count) : "a" (content) : "memory");
	return memory;
}

static void *take(u64 size, u64 alignment)
{
	u64 from = taken_to ? taken_to : physical(image_end);
	u64 start = find(from, size, alignment), page;

	if (!start)
		bail_out("the device tree describes no more %#lx bytes of memory"
			 " from %#lx to 4 GiB", size, from);
	for (page = start; page < start + size; page += PAGE_SIZE)
		if (!is_memory(page))
			bail_out("the device tree describes memory at %#lx, where there is none",
				 page);
	taken_to = start + size;
	return (void *)start;
}

void *pages_alloc(u64 size, u64 alignment)
{
	return fill_quadwords(take(size, alignment), 0, size / 8);
}

void *page_alloc(void)
{
	return pages_alloc(PAGE_SIZE, PAGE_SIZE);
}

void *page_alloc_filled(u64 content)
{
	return fill_quadwords(take(PAGE_SIZE, PAGE_SIZE), content, PAGE_SIZE / 8);
}

void *page_alloc_copy(const void *page)
{
	void *copy = take(PAGE_SIZE, PAGE_SIZE), *to = copy;
	u64 count = PAGE_SIZE / 8;

	asm volatile("rep movsq" : "+D" (to), "+S" (page), "+c" (count) : : "memory");
	return copy;
}

void pages_free_all(void)
{
	taken_to = 0;
}
