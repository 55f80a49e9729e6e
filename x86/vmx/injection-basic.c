/*
 * Events that a VM entry injects: 29.6 Event Injection. Delivery in 64-bit mode, when nothing goes
 * wrong.
 *
 * When all of the guest state and the list of MSRs have been loaded, the processor delivers the
 * event of the injected-event fields as if the guest had met it at its RIP, through the guest's own
 * IDT. The differences to an event that comes by itself are what the cases are about: what is
 * pushed, what is left alone, and that no control makes the event itself exit.
 *
 * The guest has an IDT whose handlers exit at once (vmx/handlers.h). At its RIP there is UD2: an
 * event that is not delivered ends in the handler of #UD.
 */
#include "cpu/apic.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/handlers.h"
#include "vmx/injection.h"

static struct gate *idt;

static void start(void)
{
	idt = guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(target, "", "ud2");

#define INTERRUPT	0x51	/* a vector of no exception */

#define ERROR_CODE	0xabcd

static outcome_t inject(const struct injected_event *event)
{
	return inject_event(event, ERROR_CODE, &guest_target);
}

static const struct injected_event external_interrupt = { .type = EVENT_TYPE_EXTERNAL_INTERRUPT,
						 .vector = INTERRUPT,
						 .rflags = RFLAGS_IF };
static const struct injected_event nmi = { .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI };
static const struct injected_event exception = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					.vector = VECTOR_NM };
static const struct injected_event exception_with_error = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						   .vector = VECTOR_GP,
						   .has_error = true };
static const struct injected_event page_fault = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					 .vector = VECTOR_PF,
					 .has_error = true };
static const struct injected_event debug_exception = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					      .vector = VECTOR_DB };
static const struct injected_event software_interrupt = { .type = EVENT_TYPE_SOFTWARE_INTERRUPT,
						 .vector = INTERRUPT,
						 .length = 2 };
static const struct injected_event int1 = { .type = EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION,
				   .vector = VECTOR_DB,
				   .length = 1 };
static const struct injected_event int3 = { .type = EVENT_TYPE_SOFTWARE_EXCEPTION,
				   .vector = VECTOR_BP,
				   .length = 1 };
static const struct injected_event into = { .type = EVENT_TYPE_SOFTWARE_EXCEPTION,
				   .vector = VECTOR_OF,
				   .length = 15 };

/* --- what is pushed: 29.6.1.1 ------------------------------------------------------------- */

static void is_delivered(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;
	const struct guest_frame *frame;
	u64 rsp;

	REQUIRE_HANDLER(inject(event), event->vector);
	frame = guest_frame(event->has_error);
	if (event->has_error)
		EXPECT_EQ(guest_frame_error(), ERROR_CODE);
	rsp = (u64)this_cpu()->guest_stack + sizeof(this_cpu()->guest_stack) - 8;
	EXPECT_EQ(frame->rip, (u64)guest_target.at + event->length);
	EXPECT_EQ(frame->cs, SELECTOR_CODE64);
	EXPECT_EQ(frame->rflags, RFLAGS_FIXED | event->rflags);
	EXPECT_EQ(frame->rsp, rsp);
	EXPECT_EQ(frame->ss, SELECTOR_DATA);
	/* 7.14.2: the processor aligns the stack; nothing but the frame is on it. */
	EXPECT_EQ(vmread(GUEST_RSP), (rsp & ~15ull) - (event->has_error ? 48 : 40));
}

#define DELIVERED(name, fact, ...)						\
	CASE_RUN(name##_is_delivered, is_delivered,				\
		 PROVES("event-injection:inject.type." fact, "event-injection:inject.idt", \
			##__VA_ARGS__), NEEDS(VMX), ROW(&name))
DELIVERED(external_interrupt, "extint");
DELIVERED(nmi, "nmi_delivery");
DELIVERED(exception, "hwexc");
DELIVERED(exception_with_error, "hwexc", "event-injection:inject.errcode");
DELIVERED(software_interrupt, "swint");
DELIVERED(int1, "privsw");
DELIVERED(int3, "swexc");
DELIVERED(into, "swexc");

/*
 * The vector selects a gate of the guest's IDT; here the gate leads to the handler of another
 * vector.
 */
CASE(gate_of_the_guest, PROVES("event-injection:inject.idt"), NEEDS(VMX))
{
	idt[INTERRUPT] = idt[0x77];
	EXPECT_HANDLER(inject(&external_interrupt), 0x77);
	idt[INTERRUPT].ist = IST_DF;
	EXPECT_HANDLER(inject(&external_interrupt), 0x77);
	EXPECT_EQ(vmread(GUEST_RSP), (u64)this_cpu()->ist[IST_DF - 1] + CPU_IST_SIZE - 40);
}

/* The flags are those of the field, RF among them; the handler has those of an interrupt gate. */
static void flags_are_pushed(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	REQUIRE_HANDLER(inject(event), event->vector);
	EXPECT_EQ(guest_frame(event->has_error)->rflags, RFLAGS_FIXED | event->rflags);
	EXPECT_EQ(vmread(GUEST_RFLAGS),
		  RFLAGS_FIXED | (event->rflags & (RFLAGS_STATUS | RFLAGS_IOPL)));
}

#define SOME_FLAGS	(RFLAGS_IF | RFLAGS_CF | RFLAGS_OF | RFLAGS_IOPL | RFLAGS_NT)
#define FLAGS(name, ...)							\
	static const struct injected_event name = { __VA_ARGS__ };			\
	CASE_RUN(flags_of_##name, flags_are_pushed, PROVES("event-injection:inject.rflags"),	\
		 NEEDS(VMX), ROW(&name))
FLAGS(fault_with_rf_0, .type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_NM,
      .rflags = SOME_FLAGS);
FLAGS(fault_with_rf_1, .type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_NM,
      .rflags = SOME_FLAGS | RFLAGS_RF);
FLAGS(interrupt_with_rf_0, .type = EVENT_TYPE_EXTERNAL_INTERRUPT, .vector = INTERRUPT,
      .rflags = SOME_FLAGS);
FLAGS(interrupt_with_rf_1, .type = EVENT_TYPE_EXTERNAL_INTERRUPT, .vector = INTERRUPT,
      .rflags = SOME_FLAGS | RFLAGS_RF);
FLAGS(int_n_with_rf_1, .type = EVENT_TYPE_SOFTWARE_INTERRUPT, .vector = INTERRUPT, .length = 2,
      .rflags = SOME_FLAGS | RFLAGS_RF);
FLAGS(int3_with_rf_0, .type = EVENT_TYPE_SOFTWARE_EXCEPTION, .vector = VECTOR_BP, .length = 1,
      .rflags = SOME_FLAGS);

/* --- when ------------------------------------------------------------------------------------ */

/*
 * The MSR of the list is loaded by the time the handler runs, and so are the guest's stack and IDT.
 * A list that fails is an entry failure, and delivers nothing.
 */
CASE(after_the_list_of_msrs, PROVES("event-injection:inject.when"), NEEDS(VMX))
{
	u64 *list = page_alloc();
	u64 *stack = page_alloc();

	list[0] = IA32_SYSENTER_ESP;
	list[1] = 0x2222;
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(list));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 1);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(&exception));
	vmwrite(GUEST_RSP, (u64)stack + PAGE_SIZE);
	REQUIRE_HANDLER(resume(), exception.vector);
	EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), 0x2222);
	EXPECT_EQ(vmread(GUEST_RSP), (u64)stack + PAGE_SIZE - 40);
	memset(stack, 0, PAGE_SIZE);
	list[0] = IA32_FS_BASE;
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(&exception));
	vmwrite(GUEST_RSP, (u64)stack + PAGE_SIZE);
	EXPECT(resume(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 1));
	EXPECT_EQ(stack[PAGE_SIZE / 8 - 5], 0);
	EXPECT_EQ(stack[PAGE_SIZE / 8 - 1], 0);
}

/* --- what is left alone ------------------------------------------------------------------ */

/* The debug exception that comes by itself sets DR6.BS and clears DR7.GD: 7.15, 20.2. */
static void debug_registers_stay(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | DR7_GD | 0x2);
	write_dr6(DR6_FIXED | BIT(0));
	EXPECT_HANDLER(inject(event), VECTOR_DB);
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED | DR7_GD | 0x2);
	EXPECT_EQ(read_dr6(), DR6_FIXED | BIT(0));
	write_dr6(DR6_FIXED);
}

#define DEBUG_CONTROLS	ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)
CASE_RUN(debug_registers_after_debug_exception, debug_registers_stay,
	 PROVES("event-injection:inject.dr"), NEEDS(VMX, DEBUG_CONTROLS), ROW(&debug_exception));
CASE_RUN(debug_registers_after_int1, debug_registers_stay, PROVES("event-injection:inject.dr"),
	 NEEDS(VMX, DEBUG_CONTROLS), ROW(&int1));

/* A debug exception that comes by itself clears BTF: 20.4.3. */
CASE(debugctl_after_debug_exception, PROVES("event-injection:inject.debugctl"),
     NEEDS(VMX, DEBUG_CONTROLS))
{
	u64 value;

	if (rdmsr_safe(IA32_DEBUGCTL, &value) != OUTCOME_DONE)
		case_skip("IA32_DEBUGCTL");
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_BTF);
	EXPECT_HANDLER(inject(&debug_exception), VECTOR_DB);
	EXPECT_EQ(vmread(GUEST_IA32_DEBUGCTL), DEBUGCTL_BTF);
}

CASE(cr2_after_page_fault, PROVES("event-injection:inject.cr2"), NEEDS(VMX))
{
	write_cr2(0x12345678);
	EXPECT_HANDLER(inject(&page_fault), VECTOR_PF);
	EXPECT_EQ(read_cr2(), 0x12345678);
}

/* --- no control makes the event itself exit: 29.6.1.2 ------------------------------------ */

static void does_not_exit(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	vmwrite(EXCEPTION_BITMAP, BITS(31, 0));
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	EXPECT_HANDLER(inject(event), event->vector);
}

#define NO_EXIT(name)								\
	CASE_RUN(name##_does_not_exit, does_not_exit,				\
		 PROVES("event-injection:inject.no_direct_exit"),		\
		 NEEDS(VMX, PIN(NMI_EXITING), PIN(EXTERNAL_INTERRUPT_EXITING)), ROW(&name))
NO_EXIT(external_interrupt);
NO_EXIT(nmi);
NO_EXIT(exception);
NO_EXIT(exception_with_error);
NO_EXIT(page_fault);
NO_EXIT(debug_exception);
NO_EXIT(software_interrupt);
NO_EXIT(int1);
NO_EXIT(int3);
NO_EXIT(into);

/* --- state after the injection: 29.7.1, 29.7.2 ------------------------------------------- */

CASE(hlt_state_ends, PROVES("event-injection:inject.active"),
     NEEDS(VMX, { "activity state HLT: IA32_VMX_MISC", need_misc, BIT(6), 0 }))
{
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT_HANDLER(inject(&external_interrupt), INTERRUPT);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

CASE(shutdown_state_ends, PROVES("event-injection:inject.active"),
     NEEDS(VMX, { "activity state shutdown: IA32_VMX_MISC", need_misc, BIT(7), 0 }))
{
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT_HANDLER(inject(&nmi), VECTOR_NMI);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

/* Blocking would last for the handler's first instruction, which exits. */
CASE(blocking_ends, PROVES("event-injection:inject.no_blocking"), NEEDS(VMX))
{
	static const struct injected_event with_if = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					      .vector = VECTOR_NM,
					      .rflags = RFLAGS_IF };

	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI);
	EXPECT_HANDLER(inject(&with_if), VECTOR_NM);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	EXPECT_HANDLER(inject(&with_if), VECTOR_NM);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
}

/* --- NMIs -------------------------------------------------------------------------------- */

CASE(nmi_begins_virtual_nmi_blocking, PROVES("event-injection:inject.type.nmi"),
     NEEDS(VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	REQUIRE_HANDLER(inject(&nmi), VECTOR_NMI);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
	/* The host is another matter: an NMI there is taken as before. */
	REQUIRE_HANDLER(inject(&exception), VECTOR_NM);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
}

static u32 nmis, nmis_before_iret;

static void wait_for_nmi(void)
{
	u32 i;

	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	for (i = 0; i < 10000; i++)
		pause();
}

/* The first NMI is the injected one. A second one is pending until IRET. */
static void send_another(struct trap_frame *frame)
{
	(void)frame;
	if (nmis++)
		return;
	wait_for_nmi();
	nmis_before_iret = nmis;
}

GUEST_CODE(leave, "", "vmcall");

CASE(nmi_blocks_nmis, PROVES("event-injection:inject.type.nmi_phys"),
     NEEDS(VMX, PROC1(USE_MSR_BITMAPS), APIC))
{
	nmis = nmis_before_iret = 0;
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmwrite(GUEST_IDTR_BASE, (u64)this_cpu()->idt);
	trap_on(VECTOR_NMI, send_another);
	this_cpu()->idt[VECTOR_NMI].ist = IST_NONE;
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(&nmi));
	EXPECT(enter_at_instruction(&guest_leave), GUEST_DONE);
	EXPECT_EQ(nmis_before_iret, 1);
	EXPECT_EQ(nmis, 2);
}

CASE(nmi_blocking_is_saved, PROVES("event-injection:inject.type.nmi_phys"), NEEDS(VMX))
{
	REQUIRE_HANDLER(inject(&nmi), VECTOR_NMI);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
}

/* --- pending debug exceptions: 29.7.3 ---------------------------------------------------- */

/* Were they still pending, they would exit at the handler. */
static void drops_pending_debug_exceptions(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	EXPECT_HANDLER(inject(event), event->vector);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
}

#define DROPS(name, fact)							\
	CASE_RUN(name##_drops_pending_debug_exceptions, drops_pending_debug_exceptions,	\
		 PROVES("event-injection:" fact), NEEDS(VMX), ROW(&name))
DROPS(external_interrupt, "inject.pdbg.drop");
DROPS(nmi, "inject.pdbg.drop");
DROPS(exception, "inject.pdbg.drop");
DROPS(int1, "inject.pdbg.drop");
DROPS(software_interrupt, "inject.pdbg.sw");
DROPS(int3, "inject.pdbg.sw");

/* With nothing injected they are delivered: the cases above can fail. */
CASE(pending_debug_exceptions_without_injection, PROVES("event-injection:inject.pdbg.drop"),
     NEEDS(VMX))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	REQUIRE(enter_at_instruction(&guest_target), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_DB);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & BITS(3, 0), BIT(0));
}

/*
 * As INT n behind a MOV SS that has met a data breakpoint: 7.8.3 Masking Exceptions and Interrupts
 * When Switching Stacks. What that comes to is tried first.
 */
GUEST_CODE(mov_ss_int_n, "", "movw guest_value, %ss; int $0x51");

static u64 where_debug_exception_came(outcome_t outcome)
{
	if (outcome == OUTCOME_EXIT(EXIT_CPUID))
		return 0;		/* nowhere */
	EXPECT(outcome, OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_DB);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & BITS(3, 0), BIT(0));
	return vmread(GUEST_RIP);
}

CASE(pending_debug_exceptions_behind_mov_ss, PROVES("event-injection:inject.pdbg.sw_movss"),
     NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	u64 by_itself, injected;

	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	/* DR0: reads and writes of 4 bytes. */
	vmwrite(GUEST_DR7, DR7_FIXED | 0xf0001);
	guest_value = SELECTOR_DATA;
	write_dr0((u64)&guest_value);
	by_itself = where_debug_exception_came(enter_at_instruction(&guest_mov_ss_int_n));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	injected = where_debug_exception_came(inject(&software_interrupt));
	write_dr0(0);
	EXPECT_EQ(injected, by_itself);
}
