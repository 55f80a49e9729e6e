/*
 * Shadow paging: the rules of paging, one by one, with 5-level paging.
 *
 * With EPT off the core walks the guest's tables itself and gives the processor tables of its own
 * (lib/x86/hv/mmu_shadow.h). To the guest that must look like the processor's own paging: access
 * rights (5.6), error codes and CR2 (5.7), accessed and dirty flags (5.8). Each case is one rule: a
 * page that is mapped by an entry with certain bits, accesses, and the error code that must come of
 * each.
 */
#include "hv/paged_rules.h"

RULES_OF_RIGHTS(level_5, PAGING_5_LEVEL);
RULES_OF_XD(level_5, PAGING_5_LEVEL, "4l");
RULES_OF_IA_32E(level_5, PAGING_5_LEVEL);
RULES_OF_KEYS(level_5, PAGING_5_LEVEL);
