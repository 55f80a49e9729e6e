/*
 * Builds EPT paging structures, 4 levels of them: 31.3.2 EPT Translation Mechanism. A case starts
 * with guest-physical addresses below 4 GBytes that equal physical ones, and changes what it
 * wants tested:
 *
 *	struct ept ept;
 *
 *	ept_start(&ept, EPTP_ACCESSED_DIRTY);
 *	ept_map(&ept, gpa, physical(page), EPT_READ | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
 *	EXPECT(enter(guest), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
 *	ept_change(&ept, gpa, LEVEL_PTE, 0, EPT_WRITE);
 *	EXPECT(resume(), GUEST_DONE);
 */
#ifndef EPT_EPT_H
#define EPT_EPT_H

#include "mmu/build.h"
#include "vmx/vmx.h"

/* Bits of an EPT paging-structure entry: Tables 31-1 to 31-7. */
#define EPT_READ			BIT(0)
#define EPT_WRITE			BIT(1)
#define EPT_EXECUTE			BIT(2)	/* with mode-based execute control: supervisor */
#define EPT_MEMORY_TYPE(type)		((u64)(type) << 3)	/* in an entry that maps a page */
#define EPT_IGNORE_PAT			BIT(6)			/* likewise */
#define EPT_PAGE			BIT(7)			/* a PDPTE or PDE maps a page */
#define EPT_ACCESSED			BIT(8)
#define EPT_DIRTY			BIT(9)
#define EPT_USER_EXECUTE		BIT(10)	/* with mode-based execute control */
#define EPT_VERIFY_GUEST_PAGING		BIT(57)
#define EPT_PAGING_WRITE		BIT(58)
#define EPT_SUPERVISOR_SHADOW_STACK	BIT(60)
#define EPT_SUB_PAGE_WRITE		BIT(61)
#define EPT_SUPPRESS_VE			BIT(63)
#define EPT_ADDRESS			BITS(51, 12)
#define EPT_RWX				(EPT_READ | EPT_WRITE | EPT_EXECUTE)

/* EPT memory types: 31.3.7.2 Memory Type Used for Translated Guest-Physical Addresses. */
enum { EPT_UC = 0, EPT_WC = 1, EPT_WT = 4, EPT_WP = 5, EPT_WB = 6 };

/* Bits of the EPT pointer: Table 27-9, Format of Extended-Page-Table Pointer. */
#define EPTP_MEMORY_TYPE(type)		((u64)(type))
#define EPTP_WALK_LENGTH(levels)	((u64)((levels) - 1) << 3)
#define EPTP_ACCESSED_DIRTY		BIT(6)
#define EPTP_SUPERVISOR_SHADOW_STACK	BIT(7)

struct ept {
	u64 *root;			/* the EPT PML4 table */
	u64 pointer;			/* the EPTP that ept_start() has put into the VMCS */
	u64 all_rights;			/* read, write and every execute bit that there is */
};

/* What every case that uses the builder needs; behind VMX in NEEDS(). */
#define EPT		PROC2(ENABLE_EPT), EPT_CAP(WALK_4)

bool need_no_ept_vpid_cap(u64 bits);
#define NO_EPT_CAP(name) \
	{ "IA32_VMX_EPT_VPID_CAP without " #name, need_no_ept_vpid_cap, EPT_CAP_##name, 0 }

/*
 * Maps the first 4 GBytes to themselves and allows everything: write-back memory, and uncacheable
 * from 3 GBytes on, where the devices are. By pages of 1 GByte where the processor has them,
 * else of 2 MBytes, else of 4 KBytes. The tables come from page_alloc(). Nothing uses them yet.
 */
void ept_build(struct ept *ept);

/*
 * The EPTP for these tables: write-back paging structures where the processor allows that, else
 * uncacheable; 4 levels; and `flags`, EPTP_... or 0.
 */
u64 ept_pointer(const struct ept *ept, u64 flags);

/*
 * ept_build(); "enable EPT" and the EPT pointer with `flags` in the current VMCS; INVEPT, because
 * the case before may have had its tables in the same pages.
 */
void ept_start(struct ept *ept, u64 flags);

/*
 * Maps the 4-KByte, 2-MByte or 1-GByte page (`level` LEVEL_PTE, LEVEL_PDE or LEVEL_PDPTE) at
 * guest-physical address `gpa` to `physical`, both multiples of level_size(level), with `flags`
 * (EPT_..., without EPT_PAGE). Missing tables are made and allow everything; a larger page in
 * the way is split. Returns the entry. Invalidates nothing: for what no guest has used yet,
 * or before ept_invalidate().
 */
u64 *ept_map(struct ept *ept, u64 gpa, u64 physical, u64 flags, enum paging_level level);

/* The entry of `level` for `gpa`; NULL where the entry above is not present or maps a page. */
u64 *ept_entry(const struct ept *ept, u64 gpa, enum paging_level level);

/*
 * Changes the entry of `level` for `gpa`, which must exist: bits to clear, then bits to
 * set. Executes INVEPT where 31.4.3.4 Guidelines for Use of the INVEPT Instruction asks for it,
 * and only there: not when the entry was not present, and not when the change does no more than
 * allow accesses.
 */
void ept_change(struct ept *ept, u64 gpa, enum paging_level level, u64 clear, u64 set);

/* Makes the entry of `level` for `gpa` not present: all of its bits 0. INVEPT as ept_change(). */
void ept_unmap(struct ept *ept, u64 gpa, enum paging_level level);

/* INVEPT for these tables: single-context, or all-context where there is no such type. */
void ept_invalidate(const struct ept *ept);

/* "EPT PTE" to "EPT PML4E". */
const char *ept_entry_name(enum paging_level level);

/* The bits of an entry in words. */
const char *ept_entry_words(char *to, size_t size, u64 entry);

#endif
