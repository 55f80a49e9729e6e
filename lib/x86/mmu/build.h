/*
 * Builds page tables of 4-level paging (5.5): a copy of the map that is in use, so that the code
 * goes on running, and in it what a case wants to have tested.
 *
 *	struct address_space space;
 *
 *	space_copy(&space);
 *	pte = space_map(&space, linear, physical(page), PTE_P | PTE_RW, LEVEL_PTE);
 *	space_load(&space);
 */
#ifndef MMU_BUILD_H
#define MMU_BUILD_H

#include "types.h"

/* Bits of a paging-structure entry: 5.5.4, tables 5-15 to 5-20. */
#define PTE_P		BIT(0)
#define PTE_RW		BIT(1)
#define PTE_US		BIT(2)
#define PTE_PWT		BIT(3)
#define PTE_PCD		BIT(4)
#define PTE_A		BIT(5)
#define PTE_D		BIT(6)
#define PTE_PAT		BIT(7)		/* in an entry that maps a 4-KByte page */
#define PTE_PS		BIT(7)		/* in a PDPTE or PDE */
#define PTE_G		BIT(8)
#define PTE_PAT_LARGE	BIT(12)		/* in an entry that maps a larger page */
#define PTE_XD		BIT(63)
#define PTE_KEY(key)	((u64)(key) << 59)	/* protection key, 0 to 15 */
#define PTE_ADDRESS	BITS(51, 12)

/* The entry of a translation that a level is about; the number of levels below it, plus 1. */
enum paging_level {
	LEVEL_PTE = 1,
	LEVEL_PDE,
	LEVEL_PDPTE,
	LEVEL_PML4E,
	LEVEL_PML5E,		/* 5-level paging alone; build.c makes none */
};

/* Bytes that one entry of `level` translates: 4 KBytes, 2 MBytes, 1 GByte, 512 GBytes. */
static inline u64 level_size(enum paging_level level)
{
	return PAGE_SIZE << 9 * (level - LEVEL_PTE);
}

struct address_space {
	u64 *pml4;
	u64 cr3_before;		/* what space_load() replaced; 0: not loaded */
};

/*
 * Begins with the translations that are in use; nothing is loaded yet. The tables of the map at
 * boot are shared until an entry in them is asked for, so what is done here never changes that map.
 */
void space_copy(struct address_space *space);

/*
 * Takes the user's right to all that is mapped so far, e.g. before SMEP or SMAP are turned on:
 * the map at boot lets user mode use everything.
 */
void space_supervisor_only(struct address_space *space);

/*
 * Maps the 4-KByte, 2-MByte or 1-GByte page (`level` LEVEL_PTE, LEVEL_PDE or LEVEL_PDPTE) at
 * `linear` to `physical`, both multiples of level_size(level), with `flags` (PTE_..., without
 * PTE_PS). Tables that are missing are made and allow everything; a larger page in the way is
 * split. Returns the entry. Invalidates nothing.
 */
u64 *space_map(struct address_space *space, u64 linear, u64 physical, u64 flags,
	       enum paging_level level);

/* The entry of `level` for `linear`, or NULL where the entry above is not present or a page. */
u64 *space_entry(const struct address_space *space, u64 linear, enum paging_level level);

/* Makes the address space the current one; space_restore() goes back to the one before. */
void space_load(struct address_space *space);
void space_restore(struct address_space *space);

#endif
