/*
 * Images that try an MMU of the core with paging structures that make no sense: hv/shadow-random
 * says what that is. Their cases are RANDOM_CASE rows.
 */
#ifndef HV_PAGED_RANDOM_H
#define HV_PAGED_RANDOM_H

#include "hv/paged.h"

struct random_row {
	enum paging_mode mode;
	const struct hv_mmu *mmu;
};

/* Runs VMs with tables drawn at random; the row of the case is a struct random_row. */
void random_tables(const struct case_def *this_case);

#define RANDOM_CASE(id, mode, mmu, ...)						\
	CASE_RUN(id, random_tables, PROVES("paging:fmt.selfmap", "paging:fmt.beyond_ram",	\
				     "paging:tlb.invlpg.psc", "paging:tlb.cr3.same"),	\
		 NEEDS(PAGED_NEEDS(mode), ##__VA_ARGS__),				\
		 ROW((&(const struct random_row){ mode, &mmu })))

#endif
