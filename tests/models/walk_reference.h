/*
 * A second paging model, for comparison with lib/x86/mmu/walk.c. Written from SDM chapter 5 with
 * none of its code, in another style: it first collects every entry that the linear address
 * selects, and then asks rule after rule what follows from them. Slow, and only for the host.
 */
#ifndef WALK_REFERENCE_H
#define WALK_REFERENCE_H

#include "mmu/memory_type.h"
#include "mmu/walk.h"

/* Translates like walk(): the same fields of the result mean something. */
struct walk_result reference_walk(const struct walk_cpu *cpu, const struct walk_access *access,
				  walk_read *read, void *memory);


/* The memory type of the page (`step` = result->steps) or of the entry that a step used. */
enum memory_type reference_memory_type(const struct memory_type_registers *registers,
				       const struct walk_cpu *cpu, const struct walk_access *access,
				       const struct walk_result *result, u32 step);

#endif
