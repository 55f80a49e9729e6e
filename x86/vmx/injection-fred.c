/*
 * Events that a VM entry injects into a guest with FRED transitions: 29.6.1, 29.6.1.1.
 *
 * Such a guest has no IDT. The event goes to one of two handlers, by the CPL that the entry loads,
 * and what is pushed says which event it was, in the upper bits of the frame's SS. The VM entry
 * supplies what the event itself would have: the error code, the event data, the length of the
 * instruction, whether the event is one that came during the delivery of another. SYSCALL and
 * SYSENTER are events, too, of type 7.
 *
 * The handlers exit at once (vmx/fred.h). At the guest's RIP there is UD2.
 */
#include "vmx/fred.h"
#include "vmx/injection.h"

BEFORE_EACH_CASE(fred_begin);

GUEST_CODE(target, "", "ud2");

#define INTERRUPT	0x51	/* a vector of no exception */
#define ERROR_CODE	0xabcd
#define EVENT_DATA	0x123456789abcdef0ull
#define FRED_GUEST	VMX, FRED_GUEST_NEEDS

enum { SYSCALL = 1, SYSENTER };	/* vectors of type 7 */

static const struct injected_event external_interrupt = { .type = EVENT_TYPE_EXTERNAL_INTERRUPT,
							  .vector = INTERRUPT,
							  .rflags = RFLAGS_IF };
static const struct injected_event nmi = { .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI };
static const struct injected_event exception = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						 .vector = VECTOR_NM };
static const struct injected_event page_fault = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						  .vector = VECTOR_PF,
						  .has_error = true };
static const struct injected_event software_interrupt = { .type = EVENT_TYPE_SOFTWARE_INTERRUPT,
							  .vector = INTERRUPT,
							  .length = 2 };
static const struct injected_event int1 = { .type = EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION,
					    .vector = VECTOR_DB,
					    .length = 1 };
static const struct injected_event int3 = { .type = EVENT_TYPE_SOFTWARE_EXCEPTION,
					    .vector = VECTOR_BP,
					    .length = 15 };
static const struct injected_event syscall = { .type = EVENT_TYPE_OTHER,
					       .vector = SYSCALL,
					       .length = 2 };
static const struct injected_event sysenter = { .type = EVENT_TYPE_OTHER,
						.vector = SYSENTER,
						.length = 3 };

static const struct injected_event *const events[] = {
	&external_interrupt, &nmi, &exception, &page_fault, &software_interrupt, &int1, &int3,
	&syscall, &sysenter,
};

static const struct fred_frame *inject(const struct injected_event *event)
{
	vmwrite(INJECTED_EVENT_DATA, EVENT_DATA);
	REQUIRE_FRED_HANDLER(inject_event(event, ERROR_CODE, &guest_target), 0);
	return fred_frame();
}

/* --- the delivery ------------------------------------------------------------------------- */

static void is_delivered(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;
	const struct fred_frame *frame = inject(event);
	u64 rsp = (u64)this_cpu()->guest_stack + sizeof(this_cpu()->guest_stack) - 8;

	EXPECT_EQ(frame->rip, (u64)guest_target.at + event->length);
	EXPECT_EQ(frame->cs, SELECTOR_CODE64);
	EXPECT_EQ(frame->rflags, RFLAGS_FIXED | event->rflags);
	EXPECT_EQ(frame->rsp, rsp);
	EXPECT_EQ(frame->ss & BITS(15, 0), SELECTOR_DATA);
	EXPECT_EQ(FRED_SS_VECTOR(frame->ss), event->vector);
	EXPECT_EQ(FRED_SS_TYPE(frame->ss), event->type);
	EXPECT_EQ(frame->ss & FRED_SS_64_BIT, FRED_SS_64_BIT);
	EXPECT_EQ(frame->reserved, 0);
	/* The stack is aligned to 64 bytes, and the frame is all that is on it. */
	EXPECT_EQ((u64)frame, (rsp & ~63ull) - sizeof(*frame));
}

#define DELIVERED(name, ...)							\
	CASE_RUN(name##_is_delivered, is_delivered,				\
		 PROVES("event-injection:inject.fred", ##__VA_ARGS__), NEEDS(FRED_GUEST),	\
		 ROW(&name))
DELIVERED(external_interrupt);
DELIVERED(nmi);
DELIVERED(exception);
DELIVERED(page_fault);
DELIVERED(software_interrupt);
DELIVERED(int1);
DELIVERED(int3);
DELIVERED(syscall, "event-injection:inject.type.syscall");
DELIVERED(sysenter, "event-injection:inject.type.syscall");

/* The MSRs of the guest-state area count, which the entry has loaded before. */
CASE(msrs_of_the_guest_control_the_delivery, PROVES("event-injection:inject.fred"),
     NEEDS(FRED_GUEST))
{
	fred_set_level(exception.vector, 2);
	EXPECT_EQ((u64)inject(&exception), fred_stack_top(2) - sizeof(struct fred_frame));
	fred_set_level(exception.vector, 0);
	EXPECT_TRUE((u64)inject(&exception) != fred_stack_top(2) - sizeof(struct fred_frame));
}

/* Without an error code of its own the event has 0: there is always one on the stack. */
CASE(error_code, PROVES("event-injection:inject.fred.errcode"), NEEDS(FRED_GUEST))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		unblock_nmis();
		EXPECT_EQ(inject(events[i])->error, events[i]->has_error ? ERROR_CODE : 0);
	}
}

/* --- the CPL is the DPL of SS that the entry loads ---------------------------------------- */

CASE(cpl_is_that_of_ss, PROVES("event-injection:inject.fred.cpl"), NEEDS(FRED_GUEST))
{
	const struct fred_frame *frame;

	audit_guest_changes_segments();
	guest_to_user_mode();
	REQUIRE_FRED_HANDLER(inject_event(&exception, 0, &guest_target), 3);
	frame = fred_frame();
	EXPECT_EQ((u64)frame, fred_stack_top(0) - sizeof(*frame));
	EXPECT_EQ(frame->cs, SELECTOR_USER_CODE64);
	EXPECT_EQ(frame->ss & BITS(15, 0), SELECTOR_USER_DATA);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SELECTOR_CODE64);
	EXPECT_EQ(RIGHTS_DPL(vmread(GUEST_SS_ACCESS_RIGHTS)), 0);
}

CASE(cpl_0_stays_on_its_stack, PROVES("event-injection:inject.fred.cpl"), NEEDS(FRED_GUEST))
{
	REQUIRE_FRED_HANDLER(inject_event(&exception, 0, &guest_target), 0);
	EXPECT_EQ(fred_frame()->cs, SELECTOR_CODE64);
	EXPECT_TRUE((u64)fred_frame() != fred_stack_top(0) - sizeof(struct fred_frame));
}

/* --- an event that came during the delivery of another ------------------------------------ */

static const struct fred_frame *inject_at_cpl_3(const struct injected_event *event, u64 flags)
{
	audit_guest_changes_segments();
	guest_to_user_mode();
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(event) | flags);
	vmwrite(INJECTED_EVENT_ERROR_CODE, ERROR_CODE);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	REQUIRE_FRED_HANDLER(enter_at_instruction(&guest_target), 3);
	return fred_frame();
}

/* From CPL 3 an event goes to level 0, whatever its own level; a nested exception does not. */
CASE(nested_exception, PROVES("event-injection:inject.fred.nested"), NEEDS(FRED_GUEST))
{
	const struct fred_frame *frame;

	fred_set_level(page_fault.vector, 1);
	frame = inject_at_cpl_3(&page_fault, INJECTED_NESTED);
	EXPECT_EQ(frame->ss & FRED_SS_NESTED, FRED_SS_NESTED);
	EXPECT_EQ((u64)frame, fred_stack_top(1) - sizeof(*frame));
}

CASE(exception_that_is_not_nested, PROVES("event-injection:inject.fred.nested"),
     NEEDS(FRED_GUEST))
{
	const struct fred_frame *frame;

	fred_set_level(page_fault.vector, 1);
	frame = inject_at_cpl_3(&page_fault, 0);
	EXPECT_EQ(frame->ss & FRED_SS_NESTED, 0);
	EXPECT_EQ((u64)frame, fred_stack_top(0) - sizeof(*frame));
}

/* --- what the VMCS supplies, for every event ---------------------------------------------- */

CASE(event_data, PROVES("event-injection:inject.fred.data"), NEEDS(FRED_GUEST))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		unblock_nmis();
		EXPECT_EQ(inject(events[i])->data, EVENT_DATA);
	}
}

/* Events that no instruction asks for have none: the field holds 5 then. */
CASE(instruction_length, PROVES("event-injection:inject.fred.length"), NEEDS(FRED_GUEST))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		unblock_nmis();
		EXPECT_EQ(FRED_SS_LENGTH(inject(events[i])->ss), events[i]->length);
	}
}

/* 29.7.1: the frame tells of the blocking, and the injection ends it. */
CASE(blocking_by_sti, PROVES("event-injection:inject.fred.sti"), NEEDS(FRED_GUEST))
{
	static const struct injected_event with_if = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						       .vector = VECTOR_NM,
						       .rflags = RFLAGS_IF };

	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI);
	EXPECT_EQ(inject(&with_if)->ss & FRED_SS_STI, FRED_SS_STI);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	EXPECT_EQ(inject(&with_if)->ss & FRED_SS_STI, 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	EXPECT_EQ(inject(&with_if)->ss & FRED_SS_STI, 0);
}

CASE(nmi_is_marked, PROVES("event-injection:inject.fred.nmi"), NEEDS(FRED_GUEST))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		unblock_nmis();
		EXPECT_EQ(inject(events[i])->ss & FRED_SS_NMI,
			  events[i]->type == EVENT_TYPE_NMI ? FRED_SS_NMI : 0);
	}
}

CASE(software_events_are_marked, PROVES("event-injection:inject.fred.swint"), NEEDS(FRED_GUEST))
{
	bool software;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		unblock_nmis();
		software = events[i]->type == EVENT_TYPE_SOFTWARE_INTERRUPT ||
			   events[i]->type == EVENT_TYPE_OTHER;
		EXPECT_EQ(inject(events[i])->ss & FRED_SS_SOFTWARE,
			  software ? FRED_SS_SOFTWARE : 0);
	}
}
