#include "vmx/injection.h"

#define WRONG_LENGTH	5	/* bytes */

u64 injected_identification(const struct injected_event *event)
{
	return INJECTED_EVENT(event->type, event->vector) |
	       (event->has_error ? INJECTED_ERROR_CODE : 0);
}

outcome_t inject_event(const struct injected_event *event, u64 error_code,
		       const struct guest_code *code)
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(event));
	vmwrite(INJECTED_EVENT_ERROR_CODE, error_code);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, event->length ? event->length : WRONG_LENGTH);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | event->rflags);
	return enter_at_instruction(code);
}
