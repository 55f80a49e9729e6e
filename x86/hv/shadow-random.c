/*
 * Shadow paging against the model, with tables that make no sense.
 *
 * The guest's paging structures are drawn at random: entries refer to tables, to pages, to the
 * table that they are in, to tables of another level, to read-only memory, to devices, and to
 * addresses where nothing can be; with any flags, and reserved bits now and then. The guest reads,
 * writes and executes through them, at CPL 0 and 3, and writes to its own tables while it uses
 * them. Whatever comes, each access must end as the model of paging (mmu/walk.h) says, and touch no
 * byte of memory besides: 5.5 to 5.8. What the guest changes in its tables must be seen after the
 * next INVLPG or MOV to CR3: 5.10.4.1 Operations that Invalidate TLBs and Paging-Structure Caches.
 *
 * On the way the registers change under the tables that are cached: CR0.WP, CR4.SMEP, SMAP, PSE
 * and PKE, IA32_EFER.NXE, PKRU, 32-bit and PAE paging; and so does the slot, which goes and comes
 * again, with a dirty log or without: what has been written must be in that.
 *
 * Half of the VMs have so few pages that shadow tables are made and thrown away all the time.
 */
#include "hv/paged_random.h"

RANDOM_CASE(bits_32, PAGING_32_BIT, hv_mmu_shadow);
RANDOM_CASE(pae, PAGING_PAE, hv_mmu_shadow);
RANDOM_CASE(level_4, PAGING_4_LEVEL, hv_mmu_shadow);
RANDOM_CASE(level_5, PAGING_5_LEVEL, hv_mmu_shadow);
