/*
 * A guest that takes its events by FRED: volume 3, chapter 8; what a VM entry adds: 29.6.1.1. There
 * is no IDT: an event at CPL 3 goes to the beginning of the page of IA32_FRED_CONFIG, one at CPL 0
 * to 256 bytes behind it. The handlers here exit at once, by CPUID.
 *
 *	fred_start();
 *	REQUIRE_FRED_HANDLER(inject_event(&event, 0, &guest_target), 0);
 *	EXPECT_EQ(fred_frame()->rip, (u64)guest_target.at);
 */
#ifndef VMX_FRED_H
#define VMX_FRED_H

#include "cpu/features.h"
#include "vmx/guest.h"

/* What the delivery of an event pushes, from the lowest address on. */
struct fred_frame {
	u64 error, rip, cs, rflags, rsp, ss, data, reserved;
};

/* The augmented CS and SS of the frame. */
#define FRED_CS_STACK_LEVEL(cs)	FIELD(cs, 17, 16)
#define FRED_SS_STI		BIT(16)
#define FRED_SS_SOFTWARE	BIT(17)	/* INT n, SYSCALL, SYSENTER */
#define FRED_SS_NMI		BIT(18)
#define FRED_SS_VECTOR(ss)	FIELD(ss, 39, 32)
#define FRED_SS_TYPE(ss)	FIELD(ss, 51, 48)
#define FRED_SS_64_BIT		BIT(57)
#define FRED_SS_NESTED		BIT(58)
#define FRED_SS_LENGTH(ss)	FIELD(ss, 63, 60)

/* The stack levels and the stack of events at CPL 3 that are at level 0. */
enum { FRED_LEVELS = 4 };

/*
 * Gives the guest of the current VMCS CR4.FRED, the handlers, and a stack of a page for each
 * level. At CPL 0 it begins at level 0, and every event is of level 0; IA32_STAR has the selectors
 * of the baseline.
 */
void fred_start(void);

/*
 * The same behind vmx_start(), for BEFORE_EACH_CASE; NMIs are not blocked then: see
 * guest_handlers_begin().
 */
void fred_begin(void);

/* Events with the vector go to a stack level from now on: IA32_FRED_STKLVLS. */
void fred_set_level(u8 vector, u32 level);

/* The address behind the stack of `level`. */
u64 fred_stack_top(u32 level);

/*
 * Other handlers, a page of code: 256 bytes for CPL 3, 256 for CPL 0. fred_start() has chosen
 * those that exit at once.
 */
void fred_set_handlers(const u8 *page);

/* The frame at the guest's RSP. */
const struct fred_frame *fred_frame(void);

/* The exit was that of the handler for events at `cpl`, 0 or 3. */
#define EXPECT_FRED_HANDLER(outcome, cpl) \
	fred_expect_handler(__FILE__, __LINE__, #outcome, outcome, cpl)
#define REQUIRE_FRED_HANDLER(outcome, cpl) \
	do { if (!EXPECT_FRED_HANDLER(outcome, cpl)) case_end(); } while (0)
bool fred_expect_handler(const char *file, u32 line, const char *what, outcome_t outcome, u32 cpl);

#define FRED_GUEST_NEEDS	CPU(FRED), ENTRY_CTL(LOAD_FRED)

#endif
