/*
 * Paging structures of 32-bit paging (5.3) and PAE paging (5.4), for scripts of mmu/legacy.h: the
 * first 4 MiB are mapped to themselves for supervisor mode, nothing else is mapped.
 */
#ifndef MMU_LEGACY_TABLES_H
#define MMU_LEGACY_TABLES_H

#include "mmu/build.h"

/* A page directory of 32-bit paging. Works with CR4.PSE = 0 and 1. */
u32 *tables_32_bit(void);

/*
 * Maps the 4-KByte page at `linear` to `physical`, by a PTE with `flags`; a page table that is
 * missing is made and allows everything. Returns the PTE.
 */
u32 *map_32_bit(u32 *directory, u32 linear, u64 physical, u32 flags);

/* The four PDPTEs (the first of a page), each with a page directory, all present. */
u64 *tables_pae(void);

/* The page directory that PDPTE `linear`[31:30] references, and in it the PDE for `linear`. */
u64 *pae_pde(const u64 *pdpt, u32 linear);

/* As map_32_bit(). */
u64 *map_pae(const u64 *pdpt, u32 linear, u64 physical, u64 flags);

#endif
