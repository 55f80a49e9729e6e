/*
 * The memory type of an access as a pure function: MTRRs and PAT, in registers, to a type.
 *
 * 5.9 Paging and Memory Typing says which entry of the PAT an access takes: for memory that is
 * translated, by the entry that maps the page (walk() has told it); for a paging-structure entry
 * itself, by what references its table. 14.11 says what the MTRRs have for the physical address,
 * and table 14-7 what comes of both. CR0.CD is not asked: it keeps lines from being filled
 * (14.5.3), and leaves the types as they are. Pure C, also on the host.
 */
#ifndef MMU_MEMORY_TYPE_H
#define MMU_MEMORY_TYPE_H

#include "mmu/walk.h"

/* Table 14-2: as MTRRs and the PAT encode them. */
enum memory_type {
	MEMORY_TYPE_UC		= 0,
	MEMORY_TYPE_WC		= 1,
	MEMORY_TYPE_WT		= 4,
	MEMORY_TYPE_WP		= 5,
	MEMORY_TYPE_WB		= 6,
	MEMORY_TYPE_UC_MINUS	= 7,	/* in the PAT alone; never the type of an access */
	MEMORY_TYPE_UNDEFINED	= 0xff,	/* ranges that must not overlap, or no type at all */
};

#define MTRR_FIXED_REGISTERS	11	/* 64K_00000, 16K_80000, 16K_A0000, 4K_C0000 ... 4K_F8000 */
#define MTRR_VARIABLE_MAX	16

struct memory_type_registers {
	u64 pat;			/* IA32_PAT */
	u64 mtrrcap, def_type;		/* IA32_MTRRCAP, IA32_MTRR_DEF_TYPE */
	u64 fixed[MTRR_FIXED_REGISTERS];
	struct { u64 base, mask; } variable[MTRR_VARIABLE_MAX];
};

/*
 * What the MTRRs say of a physical address: 14.11.2 to 14.11.4. MEMORY_TYPE_UNDEFINED where
 * variable ranges of types meet that 14.11.4.1 gives no precedence.
 */
enum memory_type mtrr_memory_type(const struct memory_type_registers *registers, u64 physical);

/* 14.12.3: the type in field `index`, 0 to 7, of the PAT. */
enum memory_type pat_memory_type(const struct memory_type_registers *registers, u32 index);

/* Table 14-7. `mtrr` of an MTRR, `pat` of the PAT; MEMORY_TYPE_UNDEFINED where one is no type. */
enum memory_type effective_memory_type(enum memory_type mtrr, enum memory_type pat);

/*
 * The type of the access that `result`, which is WALK_DONE, has translated; with paging off it is
 * that of the MTRRs (5.9.2).
 */
enum memory_type walk_memory_type(const struct memory_type_registers *registers,
				  const struct walk_result *result);

/*
 * The type by which the processor reads and writes the entry of step `step` of `result`, below
 * result->steps: PCD and PWT are those of the entry above, of the PDPTE register with PAE paging,
 * or of CR3, which has none with CR4.PCIDE = 1 (5.9.2).
 */
enum memory_type walk_step_memory_type(const struct memory_type_registers *registers,
				       const struct walk_cpu *cpu,
				       const struct walk_access *access,
				       const struct walk_result *result, u32 step);

#endif
