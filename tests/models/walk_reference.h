/*
 * A second paging model, for comparison with lib/x86/mmu/walk.c. Written from SDM chapter 5 with
 * none of its code, in another style: it first collects every entry that the linear address
 * selects, and then asks rule after rule what follows from them. Slow, and only for the host.
 */
#ifndef WALK_REFERENCE_H
#define WALK_REFERENCE_H

#include "mmu/walk.h"

/* Translates like walk(): the same fields of the result mean something. */
struct walk_result reference_walk(const struct walk_cpu *cpu, const struct walk_access *access,
				  walk_read *read, void *memory);

#endif
