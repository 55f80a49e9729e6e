#include "mmu/build.h"
#include "case.h"
#include "cpu/regs.h"
#include "mmu/pages.h"

extern u8 image_end[];

#define ENTRIES	(PAGE_SIZE / sizeof(u64))

static u64 *table_of(u64 entry)
{
	return (u64 *)(entry & PTE_ADDRESS);
}

static bool is_table(u64 entry, enum paging_level level)
{
	return (entry & PTE_P) && level > LEVEL_PTE && !(entry & PTE_PS);
}

static u64 *entry_in(u64 *table, u64 linear, enum paging_level level)
{
	return &table[linear / level_size(level) % ENTRIES];
}

void space_copy(struct address_space *space)
{
	*space = (struct address_space){ .pml4 = page_alloc_copy(table_of(read_cr3())) };
}

/* The table that `entry` refers to; if it is one of the map at boot, a copy of it from now on. */
static u64 *own_table(u64 *entry)
{
	u64 *table = table_of(*entry);

	if (physical(table) < physical(image_end)) {
		table = page_alloc_copy(table);
		*entry = (*entry & ~PTE_ADDRESS) | physical(table);
	}
	return table;
}

void space_supervisor_only(struct address_space *space)
{
	u32 i;

	/* A user-mode address has U/S = 1 in every entry: 5.6.1 Determination of Access Rights. */
	for (i = 0; i < ENTRIES; i++)
		space->pml4[i] &= ~PTE_US;
}

/* Makes the large page that `entry` maps a table of 512 pages of the level below. */
static void split(u64 *entry, enum paging_level level)
{
	u64 flags = *entry & ~(PTE_ADDRESS | PTE_PS), page = *entry & BITS(51, 13), i;
	u64 *table = page_alloc();

	if (*entry & PTE_PAT_LARGE)
		flags |= level == LEVEL_PDE ? PTE_PAT : PTE_PAT_LARGE;
	if (level > LEVEL_PDE)
		flags |= PTE_PS;
	for (i = 0; i < ENTRIES; i++)
		table[i] = (page + i * level_size(level - 1)) | flags;
	*entry = physical(table) | (*entry & (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_XD));
}

u64 *space_map(struct address_space *space, u64 linear, u64 physical_address, u64 flags,
	       enum paging_level level)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(space->pml4, linear, at);

	for (; at > level; entry = entry_in(own_table(entry), linear, --at)) {
		if (!(*entry & PTE_P))
			*entry = physical(page_alloc()) | PTE_P | PTE_RW | PTE_US;
		else if (!is_table(*entry, at))
			split(entry, at);
	}
	*entry = physical_address | flags | (level > LEVEL_PTE ? PTE_PS : 0);
	return entry;
}

u64 *space_entry(const struct address_space *space, u64 linear, enum paging_level level)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(space->pml4, linear, at);

	for (; at > level; entry = entry_in(own_table(entry), linear, --at))
		if (!is_table(*entry, at))
			return NULL;
	return entry;
}

void space_load(struct address_space *space)
{
	space->cr3_before = read_cr3();
	write_cr3(physical(space->pml4));
}

void space_restore(struct address_space *space)
{
	if (space->cr3_before)
		write_cr3(space->cr3_before);
	space->cr3_before = 0;
}
