/*
 * Shadow paging: the rules of paging, one by one, with 32-bit paging.
 *
 * With EPT off the core walks the guest's tables itself and gives the processor tables of its own
 * (lib/x86/hv/mmu_shadow.h). To the guest that must look like the processor's own paging: access
 * rights (5.6), error codes and CR2 (5.7), accessed and dirty flags (5.8). Each case is one rule: a
 * page that is mapped by an entry with certain bits, accesses, and the error code that must come of
 * each.
 */
#include "hv/paged_rules.h"

RULES_OF_RIGHTS(bits_32, PAGING_32_BIT);
RULE(bits_32, PAGING_32_BIT, page_of_4_mbytes, "fmt.32.pde_4m", VMX, CR0_WP, CR4_PSE, 0, 2, 0, 0, 0,
     READ(3, DONE), WRITE(0, DONE), FETCH(3, DONE));
RULE(bits_32, PAGING_32_BIT, bit_21_of_4_mbytes_is_reserved, "rsvd.32.bit21", VMX, CR0_WP, CR4_PSE,
     0, 2, 2, 0, BIT(21), READ(3, 0xd), WRITE(0, 0xb));
RULE(bits_32, PAGING_32_BIT, nothing_is_reserved_without_pse, "rsvd.32.pse0", VMX, CR0_WP, 0, 0,
     1, 2, 0, PTE_PS, READ(3, DONE), WRITE(0, DONE));
