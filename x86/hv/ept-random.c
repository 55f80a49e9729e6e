/*
 * EPT against the model, with tables that make no sense: hv/shadow-random for guests whose paging
 * the processor does.
 *
 * Where a paging structure lies outside of all slots, the processor stops with an EPT violation
 * (31.3.3.2), and does not say what the access was to be. The core goes along the tables itself,
 * and what the guest gets must be what the model says, down to the bits of the error code (5.7).
 */
#include "hv/paged_random.h"

RANDOM_CASE(bits_32, PAGING_32_BIT, hv_mmu_ept, BOX_NEEDS);
RANDOM_CASE(pae, PAGING_PAE, hv_mmu_ept, BOX_NEEDS);
RANDOM_CASE(level_4, PAGING_4_LEVEL, hv_mmu_ept, BOX_NEEDS);
RANDOM_CASE(level_5, PAGING_5_LEVEL, hv_mmu_ept, BOX_NEEDS);
