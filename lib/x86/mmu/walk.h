/*
 * Paging as a pure function: registers, tables, an access -> a translation or a page fault.
 *
 * The model is SDM chapter 5 (Paging) and the canonicality part of chapter 4, ordinary paging only
 * (no HLAT). It has no state and reads memory through a callback, so that it also runs on the host.
 * The memory type of what it finds: mmu/memory_type.h.
 */
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "types.h"

/* 5.1 Paging Modes and Control Bits. */
enum paging_mode {
	PAGING_OFF,
	PAGING_32_BIT,
	PAGING_PAE,
	PAGING_4_LEVEL,
	PAGING_5_LEVEL,
	PAGING_MODES,
};

#define WALK_MAX_LEVELS 5

/* What of the processor decides a translation. */
struct walk_cpu {
	u64 cr0, cr3, cr4, efer, rflags;
	u32 pkru, pkrs;			/* PKRU, IA32_PKRS[31:0] */
	u64 pdpte[4];			/* the PDPTE registers of PAE paging: 5.4.1 */
	u8 cpl;
	u8 physical_bits;		/* MAXPHYADDR, 32 to 52 */
	bool pages_1g;			/* CPUID.80000001H:EDX[26] */
	bool pse36, pat;		/* CPUID.1:EDX[17], EDX[16] */
	bool cet_ss;			/* CPUID.7.0:ECX[7]: D need not be set where R/W is 0 */
};

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

struct walk_access {
	u64 address;			/* linear */
	enum access kind;
	bool implicit;			/* of a system structure: supervisor mode at any CPL */
	bool shadow_stack;		/* ACCESS_READ or ACCESS_WRITE of a shadow stack */
	bool wruss;			/* a user-mode shadow-stack access made at CPL 0 */
};

/* Reads `size` (4 or 8) bytes of a paging structure at a physical address. */
typedef u64 walk_read(void *memory, u64 address, u32 size);

enum walk_kind {
	WALK_DONE,
	WALK_PAGE_FAULT,
	WALK_NOT_CANONICAL,		/* #GP(0), or #SS(0) through the stack segment */
};

/* One paging-structure entry that the walk used. */
struct walk_step {
	u64 address, value;		/* physical address; as read */
	u32 level;			/* 1: maps 4 KBytes, up to 5 */
	u64 must_set;			/* A and D: what the processor has to set */
	u64 may_set;			/* what it may set besides: 5.8 leaves it open */
};

struct walk_result {
	enum walk_kind kind;
	enum paging_mode mode;
	u32 error_code;			/* of the page fault; CR2 is the address of the access */
	u64 physical;			/* when done */
	u64 page_size;			/* bytes */
	bool user_address, writable, executable, global;
	u8 protection_key;
	u8 pat_index;			/* PAT, PCD, PWT of the entry that maps the page */
	u32 steps;			/* entries used, from the top */
	struct walk_step step[WALK_MAX_LEVELS];
};

/* The mode that the registers select. */
enum paging_mode walk_mode(const struct walk_cpu *cpu);

/*
 * Bits of an entry that are reserved at `level` when it is present; `entry` decides by its PS flag.
 * PAE's PDPTEs are checked when they are loaded and are not a level here: walk_pdpte_reserved().
 */
u64 walk_reserved(const struct walk_cpu *cpu, enum paging_mode mode, u32 level, u64 entry);
u64 walk_pdpte_reserved(const struct walk_cpu *cpu);

/* Whether the entry at `level` maps a page, rather than referencing a table. */
bool walk_is_leaf(const struct walk_cpu *cpu, enum paging_mode mode, u32 level, u64 entry);

/* Translates one access that lies within a page. */
struct walk_result walk(const struct walk_cpu *cpu, const struct walk_access *access,
			walk_read *read, void *memory);

/* The same, into `result`. Steps that are not used stay as they are: for who does it very often. */
void walk_into(const struct walk_cpu *cpu, const struct walk_access *access,
	       walk_read *read, void *memory, struct walk_result *result);

#endif
