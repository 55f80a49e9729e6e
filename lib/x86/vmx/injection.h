/*
 * Events that a VM entry injects: 29.6 Event Injection.
 *
 *	static const struct injected_event nmi = { .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI };
 *	EXPECT_HANDLER(inject_event(&nmi, 0, &guest_target), VECTOR_NMI);
 */
#ifndef VMX_INJECTION_H
#define VMX_INJECTION_H

#include "vmx/guest.h"

struct injected_event {
	enum injected_type type;
	u8 vector;
	bool has_error;
	u8 length;		/* of the instruction that a software event would be of, or 0 */
	u64 rflags;		/* of the guest, besides bit 1 */
};

/* INJECTED_EVENT_IDENTIFICATION for the event: 27.8.3. */
u64 injected_identification(const struct injected_event *event);

/*
 * Enters `code` at its instruction with the event injected. error_code counts only where the event
 * has one. The instruction length, of no meaning for events without, is then 5, which no event has
 * come from. Outcomes as for enter().
 */
outcome_t inject_event(const struct injected_event *event, u64 error_code,
		       const struct guest_code *code);

#endif
