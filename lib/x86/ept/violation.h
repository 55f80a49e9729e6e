/*
 * What an EPT violation reports: Table 30-7, Exit Qualification for EPT Violations, and the two
 * addresses of 30.2.1 Basic VM-Exit Information.
 */
#ifndef EPT_VIOLATION_H
#define EPT_VIOLATION_H

#include "vmx/vmx.h"

/* The access. */
#define VIOLATION_READ			BIT(0)
#define VIOLATION_WRITE			BIT(1)
#define VIOLATION_FETCH			BIT(2)
/* What the entries allow that translated the guest-physical address: the AND of all of them. */
#define VIOLATION_READABLE		BIT(3)
#define VIOLATION_WRITABLE		BIT(4)
#define VIOLATION_EXECUTABLE		BIT(5)
#define VIOLATION_USER_EXECUTABLE	BIT(6)
/* The linear address: GUEST_LINEAR_ADDRESS holds it; the access was to what it translates to. */
#define VIOLATION_LINEAR_VALID		BIT(7)
#define VIOLATION_TRANSLATED		BIT(8)
/* What guest paging says of it: "advanced VM-exit information for EPT violations". */
#define VIOLATION_USER_MODE		BIT(9)
#define VIOLATION_PAGE_WRITABLE		BIT(10)
#define VIOLATION_PAGE_EXECUTE_DISABLE	BIT(11)
#define VIOLATION_NMI_UNBLOCKING	BIT(12)
#define VIOLATION_SHADOW_STACK		BIT(13)
#define VIOLATION_LEAF_BIT_60		BIT(14)
#define VIOLATION_PAGING_VERIFICATION	BIT(15)
#define VIOLATION_ASYNCHRONOUS		BIT(16)

/* The bits in words: "data write|readable|linear address valid". */
const char *violation_words(char *to, size_t size, u64 qualification);

/*
 * The exit before this was an EPT violation that reports `qualification`, in those bits that
 * the manual defines for this processor and VMCS, and both addresses. Bits in `open` may be as
 * they are.
 */
#define EXPECT_VIOLATION(qualification, physical_address, linear_address)		\
	violation_expect(__FILE__, __LINE__, qualification, 0, physical_address, linear_address)
#define EXPECT_VIOLATION_EXCEPT(open, qualification, physical_address, linear_address)	\
	violation_expect(__FILE__, __LINE__, qualification, open, physical_address, linear_address)
void violation_expect(const char *file, u32 line, u64 qualification, u64 open,
		      u64 physical_address, u64 linear_address);

#endif
