/*
 * 32-bit code outside 64-bit mode: a script of small operations in compatibility mode, without
 * paging, with 32-bit paging or with PAE paging, each with what it must come to.
 *
 *	struct legacy_step script[] = {
 *		{ SET_CR3(physical(pdpt)) },			must not fault
 *		{ READ(0x40000000), .gives = 0x11223344 },	must load this
 *		{ READ(0xc0000000), .ends = PAGE_FAULT(0) },
 *	};
 *
 *	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_PAE, .cr3 = ... }, script);
 *
 * The operations of a script follow each other with nothing in between that touches the memory or
 * the control registers of the case: a translation that one leaves in a TLB is there for the next.
 * A fault ends the operation, not the script. However the script ends, the code that called comes
 * back in 64-bit mode with its own CR0, CR3, CR4 and IA32_EFER.
 *
 * What runs, its stack, its tables and the script lie below 4 MiB; every paging structure that a
 * script loads must map that part to itself: mmu/legacy_tables.h. For one processor at a time.
 */
#ifndef MMU_LEGACY_H
#define MMU_LEGACY_H

#include "cpu/outcome.h"
#include "cpu/user.h"
#include "mmu/walk.h"

#define LEGACY_MAX_STEPS	64
#define LEGACY_MEMORY		0x400000u	/* bytes from 0 that must be mapped to themselves */
#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)

/*
 * One operation: its words and its 32-bit code, which finds `a` in EAX and `b` in EDX, leaves its
 * result in EAX, may change ECX, EDX, ESI, EDI and EBP, and ends with RET (CODE32 of cpu/user.h).
 */
struct legacy_step {
	const char *words;
	const u8 *code;
	u32 a, b;
	/*
	 * What it must come to. `ends` 0: no fault; after a page fault CR2 must be `a`. `gives` and
	 * `or_gives`: EAX; 0: not looked at.
	 */
	outcome_t ends, or_ends;
	u32 gives, or_gives;
	u32 mask;		/* of EAX, 0: all bits */
	/* What it has come to. */
	u32 value, cr2;
	outcome_t outcome;
};

/* The operations that every script needs */
#define LEGACY_STEP(what, function, first, second) \
	.words = (what), .code = (function), .a = (first), .b = (second)

#define SET_CR0(value)		LEGACY_STEP("MOV to CR0 of", legacy_set_cr0, value, 0)
#define SET_CR3(value)		LEGACY_STEP("MOV to CR3 of", legacy_set_cr3, value, 0)
#define SET_CR4(value)		LEGACY_STEP("MOV to CR4 of", legacy_set_cr4, value, 0)
#define SET_EFER(value)		LEGACY_STEP("WRMSR of IA32_EFER of", legacy_set_efer, value, 0)
#define GET_CR0			LEGACY_STEP("MOV from CR0,", legacy_get_cr0, 0, 0)
#define GET_CR2			LEGACY_STEP("MOV from CR2,", legacy_get_cr2, 0, 0)
#define GET_CR3			LEGACY_STEP("MOV from CR3,", legacy_get_cr3, 0, 0)
#define GET_CR4			LEGACY_STEP("MOV from CR4,", legacy_get_cr4, 0, 0)
#define GET_EFER		LEGACY_STEP("RDMSR of IA32_EFER,", legacy_get_efer, 0, 0)
/* 4 bytes at the linear address; FETCH calls a RET that is there. */
#define READ(address)		LEGACY_STEP("read at", legacy_read, address, 0)
#define WRITE(address, value)	LEGACY_STEP("write at", legacy_write, address, value)
#define FETCH(address)		LEGACY_STEP("call of", legacy_fetch, address, 0)
#define INVALIDATE(address)	LEGACY_STEP("INVLPG of", legacy_invlpg, address, 0)


extern const u8 legacy_set_cr0[], legacy_set_cr3[], legacy_set_cr4[], legacy_set_efer[],
	legacy_get_cr0[], legacy_get_cr2[], legacy_get_cr3[], legacy_get_cr4[], legacy_get_efer[],
	legacy_read[], legacy_write[], legacy_fetch[], legacy_invlpg[];

/*
 * Where a script begins: PAGING_OFF, PAGING_32_BIT or PAGING_PAE, with IA32_EFER.LME = 0, or
 * PAGING_4_LEVEL: in compatibility mode, as the caller is, and then the rest is not looked at.
 */
struct legacy_start {
	enum paging_mode mode;
	u32 cr3;
	u32 cr0, cr4;		/* bits that are 1 besides those of the caller and of the mode */
	u32 efer;		/* all of IA32_EFER */
};

/*
 * Runs `count` steps (up to LEGACY_MAX_STEPS - 5), fails the case for each that does not come to
 * what it must, and leaves the results in script[]. Where the way to the start already fails, only
 * that is reported, and no step has run. RFLAGS.IF and CR4.PCIDE must be 0.
 */

void legacy_run(const char *file, u32 line, const struct legacy_start *start,
		struct legacy_step *script, u32 count);

/*
 * Calls function(argument) in 64-bit mode with 5-level paging: CR3 is `pml5`, whose first entry
 * must lead to all that the caller uses. Outcome as in attempt(). However the function ends,
 * 4-level paging and CR3 are then what they were. For a processor with LA57; RFLAGS.IF and
 * CR4.PCIDE must be 0.
 */
outcome_t legacy_run_with_5_levels(const u64 *pml5, void (*function)(void *argument),
				   void *argument);

#define LEGACY_RUN(start, script) \
	legacy_run(__FILE__, __LINE__, start, script, ARRAY_SIZE(script))

#endif
