#include "mmu/legacy_tables.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"

#define ENTRIES_32	1024

u32 *tables_32_bit(void)
{
	u32 *directory = page_alloc(), *table = page_alloc(), i;

	for (i = 0; i < LEGACY_MEMORY / PAGE_SIZE; i++)
		table[i] = i * PAGE_SIZE | PTE_P | PTE_RW | PTE_A | PTE_D;
	directory[0] = physical(table) | PTE_P | PTE_RW | PTE_A;
	return directory;
}

u32 *map_32_bit(u32 *directory, u32 linear, u64 physical_address, u32 flags)
{
	u32 *pde = &directory[linear >> 22], *table;

	if (!(*pde & PTE_P))
		*pde = physical(page_alloc()) | PTE_P | PTE_RW | PTE_US;
	table = (u32 *)(u64)(*pde & ~(u32)(PAGE_SIZE - 1));
	table += linear / PAGE_SIZE % ENTRIES_32;
	*table = physical_address | flags;
	return table;
}

u64 *tables_pae(void)
{
	u64 *pdpt = page_alloc(), *directory, i;

	for (i = 0; i < 4; i++)
		pdpt[i] = physical(page_alloc()) | PTE_P;
	directory = pae_pde(pdpt, 0);
	for (i = 0; i < LEGACY_MEMORY / level_size(LEVEL_PDE); i++)
		directory[i] = i * level_size(LEVEL_PDE) | PTE_PS | PTE_P | PTE_RW | PTE_A | PTE_D;
	return pdpt;
}

u64 *pae_pde(const u64 *pdpt, u32 linear)
{
	u64 *directory = (u64 *)(pdpt[linear >> 30] & PTE_ADDRESS);

	return &directory[linear >> 21 & 511];
}

u64 *map_pae(const u64 *pdpt, u32 linear, u64 physical_address, u64 flags)
{
	u64 *pde = pae_pde(pdpt, linear), *table;

	if (!(*pde & PTE_P))
		*pde = physical(page_alloc()) | PTE_P | PTE_RW | PTE_US;
	table = (u64 *)(*pde & PTE_ADDRESS);
	table += linear >> 12 & 511;
	*table = physical_address | flags;
	return table;
}
