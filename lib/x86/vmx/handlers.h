/*
 * An IDT for a guest whose handlers exit by their first instruction, CPUID: a case looks at what
 * the delivery of an event has left, before anything else happens.
 *
 *	guest_handlers_start();
 *	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_NMI, VECTOR_NMI));
 *	EXPECT_HANDLER(enter_at_instruction(&guest_nop), VECTOR_NMI);
 *	EXPECT_EQ(guest_frame(false)->rip, (u64)guest_nop.at);
 */
#ifndef VMX_HANDLERS_H
#define VMX_HANDLERS_H

#include "cpu/cpu.h"
#include "vmx/vmx.h"

/* What a delivery pushes in 64-bit mode, from the lowest address on: 7.14.2. */
struct guest_frame {
	u64 rip, cs, rflags, rsp, ss;
};

/*
 * Gives the guest of the current VMCS such an IDT, of 256 interrupt gates with DPL 0 and without an
 * IST; the case may change them. Returns it.
 */
struct gate *guest_handlers_start(void);

/*
 * The same behind vmx_start(), for BEFORE_EACH_CASE. NMIs are not blocked then: an injected NMI of
 * the case before has blocked them, and no exit changes that (30.5.5 Updating Non-Register State).
 */
struct gate *guest_handlers_begin(void);

/*
 * Where the handler of `vector` begins; for more than 256 gates, or other modes, code of its own.
 */
u64 guest_handler(u8 vector);

/* The frame on the guest's stack, behind an error code if there is one. */
const struct guest_frame *guest_frame(bool has_error);

/* The error code on the guest's stack. */
u64 guest_frame_error(void);

/* The exit was that of the handler of `vector`. Words for another handler, or another exit. */
#define EXPECT_HANDLER(outcome, vector) \
	guest_expect_handler(__FILE__, __LINE__, #outcome, outcome, vector)
bool guest_expect_handler(const char *file, u32 line, const char *what, outcome_t outcome,
			  u8 vector);
#define REQUIRE_HANDLER(outcome, vector) \
	do { if (!EXPECT_HANDLER(outcome, vector)) case_end(); } while (0)

#endif
