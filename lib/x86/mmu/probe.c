#include "mmu/probe.h"
#include "cpu/safe.h"
#include "mmu/pages.h"

/* In the lower half, with another index at each level, none of them 0. */
#define PROBE_LINEAR	0x0000124689a5c000

void probe_map(struct probe *probe, enum paging_level size, u64 flags)
{
	enum paging_level level;
	u64 offset;

	*probe = (struct probe){ .size = size, .page = page_alloc_filled(PROBE_CONTENT) };
	offset = physical(probe->page) % level_size(size);
	probe->linear = (PROBE_LINEAR & ~(level_size(size) - 1)) + offset;
	space_copy(&probe->space);
	space_supervisor_only(&probe->space);
	space_map(&probe->space, probe->linear - offset, physical(probe->page) - offset, flags,
		  size);
	for (level = size; level <= LEVEL_PML4E; level++)
		probe->entry[level] = space_entry(&probe->space, probe->linear, level);
	space_load(&probe->space);
}

u64 *probe_map_next(struct probe *probe, u64 **page, u64 flags)
{
	*page = page_alloc_filled(PROBE_CONTENT);
	return space_map(&probe->space, probe->linear + PAGE_SIZE, physical(*page), flags,
			 LEVEL_PTE);
}

void probe_change(struct probe *probe, enum paging_level level, u64 clear, u64 set)
{
	*probe->entry[level] = (*probe->entry[level] & ~clear) | set;
	/* Also all paging-structure caches: 5.10.4.1 Operations that Invalidate TLBs ... */
	invlpg(probe->linear);
}

void probe_share_with_user(struct probe *probe)
{
	*space_entry(&probe->space, 0, LEVEL_PML4E) |= PTE_US;
	write_cr3(read_cr3());
}

outcome_t read_at(u64 linear, u64 *value)
{
	return ATTEMPT("mov (%1), %0", "+r" (*value) : "r" (linear) : "memory");
}

outcome_t write_at(u64 linear, u64 value)
{
	return ATTEMPT("mov %0, (%1)", : "r" (value), "r" (linear) : "memory");
}

static void call(void *code)
{
	asm volatile("call *%0" : : "r" (code) : "memory");
}

outcome_t fetch_at(u64 linear)
{
	return attempt(call, (void *)linear);
}

static u64 other_target(const struct probe *probe, enum paging_level level, u64 content)
{
	u64 *copy, index;

	if (level == LEVEL_PTE)
		return physical(page_alloc_filled(content));
	index = probe->linear / level_size(level - 1) % 512;
	copy = page_alloc_copy((void *)(*probe->entry[level] & PTE_ADDRESS));
	copy[index] = (copy[index] & ~PTE_ADDRESS) | other_target(probe, level - 1, content);
	return physical(copy);
}

void probe_retarget(struct probe *probe, enum paging_level level, u64 content)
{
	u64 *entry = probe->entry[level];

	*entry = (*entry & ~PTE_ADDRESS) | other_target(probe, level, content);
}
