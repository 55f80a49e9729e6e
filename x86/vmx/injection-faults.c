/*
 * Events that a VM entry injects, and whose delivery goes wrong: 29.6.1.1 Details of Event
 * Injection, 29.6.1.2 VM Exits During Event Injection.
 *
 * A fault in the delivery is the guest's, with the guest's RIP as it was, whatever the type of the
 * event and the length of its instruction. The exception bitmap counts for it as always; when it
 * exits, the original-event fields hold what was injected, so that software can do it again.
 * Accesses to memory in the delivery meet EPT and the APIC-access page like all others.
 *
 * The gates of the guest's IDT end where a case wants them to end; handlers exit at once
 * (vmx/handlers.h).
 */
#include "cpu/traps.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/handlers.h"
#include "vmx/injection.h"

static struct gate *idt;

static void start(void)
{
	idt = guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(target, "", "ud2");
GUEST_CODE(returns, "", "iretq");
GUEST_CODE(int_n, "", "int $0x52");
#define VECTOR_OF_INT_N	0x52
/* Not by its first instruction. */
GUEST_CODE(nop_and_exit, "", "nop; cpuid");

static void set_handler(u8 vector, const struct guest_code *code)
{
	u64 at = (u64)code->at;

	idt[vector].offset_low = at;
	idt[vector].offset_middle = at >> 16;
}

#define INTERRUPT	0x51	/* a vector of no exception */
#define ERROR_CODE	0x1234	/* bit 0 is EXT */

static const struct injected_event external_interrupt = { .type = EVENT_TYPE_EXTERNAL_INTERRUPT,
						 .vector = INTERRUPT, .rflags = RFLAGS_IF };
static const struct injected_event nmi = { .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI };
static const struct injected_event exception = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					.vector = VECTOR_NM };
static const struct injected_event general_protection = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						 .vector = VECTOR_GP, .has_error = true };
static const struct injected_event double_fault = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
					   .vector = VECTOR_DF, .has_error = true };
static const struct injected_event software_interrupt = { .type = EVENT_TYPE_SOFTWARE_INTERRUPT,
						 .vector = INTERRUPT, .length = 2 };
static const struct injected_event int1 = { .type = EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION,
				   .vector = VECTOR_DB, .length = 1 };
static const struct injected_event int3 = { .type = EVENT_TYPE_SOFTWARE_EXCEPTION,
				   .vector = VECTOR_BP, .length = 3 };

static outcome_t inject(const struct injected_event *event)
{
	return inject_event(event, ERROR_CODE, &guest_target);
}

/* 7.13 Error Code: the index of a gate of the IDT. */
static u64 gate_error(u8 vector, bool external)
{
	return (u64)vector << 3 | 2 | external;
}

static bool sets_ext(const struct injected_event *event)
{
	return event->type != EVENT_TYPE_SOFTWARE_INTERRUPT &&
	       event->type != EVENT_TYPE_SOFTWARE_EXCEPTION;
}

#define NOT_PRESENT	0x0e	/* of a gate: 7.11 */

/* --- a nested exception that exits ------------------------------------------------------------ */

static void expect_original_event(const struct injected_event *event)
{
	/* Bit 12 is undefined. */
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), injected_identification(event));
	if (event->has_error)
		EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), ERROR_CODE);
	if (event->length)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), event->length);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SELECTOR_CODE64);
	/* RF is that of the nested fault. */
	EXPECT_EQ(vmread(GUEST_RFLAGS) & ~RFLAGS_RF, RFLAGS_FIXED | event->rflags);
}

/* The gate is not present: #NP. Together with a fault that would be #DF, which is another case. */
static void nested_exception_exits(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	idt[event->vector].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	REQUIRE(inject(event), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION),
		  BIT(31) | BIT(11) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_NP);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), gate_error(event->vector, sets_ext(event)));
	expect_original_event(event);
}

/* The same without the exception bitmap: #NP is delivered. */
static void nested_exception_is_delivered(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	idt[event->vector].type = NOT_PRESENT;
	REQUIRE_HANDLER(inject(event), VECTOR_NP);
	EXPECT_EQ(guest_frame_error(), gate_error(event->vector, sets_ext(event)));
	EXPECT_EQ(guest_frame(true)->rip, (u64)guest_target.at);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
}

/*
 * RFLAGS.RF is the nested fault's: it is delivered as ever (29.6.1), and 20.3.1.1 has 1 pushed for
 * any fault; an exit saves what would have been pushed (30.3.3). That the RF of the field is pushed
 * whatever the event is (29.6.1.1) is said of the one injected.
 */
static void nested_fault_pushes_rf(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	idt[event->vector].type = NOT_PRESENT;
	set_handler(VECTOR_NP, &guest_nop_and_exit);
	REQUIRE(inject(event), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nop_and_exit.at + 1);
	EXPECT_EQ(guest_frame(true)->rflags, RFLAGS_FIXED | RFLAGS_RF | event->rflags);
}

static void nested_fault_saves_rf(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	idt[event->vector].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	REQUIRE(inject(event), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | RFLAGS_RF | event->rflags);
}

#define NESTED_RF(name)								\
	CASE_RUN(nested_fault_in_##name##_pushes_rf, nested_fault_pushes_rf,	\
		 PROVES("exceptions:frame.rf"), NEEDS(VMX), ROW(&name));	\
	CASE_RUN(nested_fault_in_##name##_saves_rf, nested_fault_saves_rf,	\
		 PROVES("host-and-exit:save.rf.event"), NEEDS(VMX), ROW(&name))
NESTED_RF(external_interrupt);
NESTED_RF(exception);
NESTED_RF(software_interrupt);

#define NESTED(name, ext_fact, ...)                                                          \
	CASE_RUN(nested_in_##name##_exits, nested_exception_exits,                           \
		 PROVES("event-injection:inject.nested_bitmap", "event-injection:" ext_fact, \
			"event-injection:inject.rip.nested_exit",                            \
			"host-and-exit:exit.orig.injected", ##__VA_ARGS__),                  \
		 NEEDS(VMX), ROW(&name));                                                    \
	CASE_RUN(nested_in_##name##_is_delivered, nested_exception_is_delivered,             \
		 PROVES("event-injection:inject.rip.nested", "event-injection:" ext_fact),   \
		 NEEDS(VMX), ROW(&name))
NESTED(external_interrupt, "inject.ext_bit");
NESTED(nmi, "inject.ext_bit");
NESTED(exception, "inject.ext_bit");
NESTED(int1, "inject.ext_bit", "host-and-exit:exit.ilen.injected");
NESTED(software_interrupt, "inject.ext_bit.software", "host-and-exit:exit.ilen.injected");
NESTED(int3, "inject.ext_bit.software", "host-and-exit:exit.ilen.injected");

/*
 * The handler returns, and INT n is executed where the entry was: RIP and RSP are those of the
 * entry when its delivery exits, but the event is not the one that was injected.
 */
CASE(event_of_the_guest_behind_the_injected_one,
     PROVES("event-injection:inject.nested_bitmap", "host-and-exit:exit.orig.valid"), NEEDS(VMX))
{
	set_handler(VECTOR_NM, &guest_returns);
	idt[VECTOR_OF_INT_N].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	audit_guest_comes_back();
	REQUIRE(inject_event(&exception, 0, &guest_int_n), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  BIT(31) | EVENT_TYPE_SOFTWARE_INTERRUPT << 8 | VECTOR_OF_INT_N);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_int_n.at);
}

/* 29.7.2, 30.1: what is injected makes the processor active, though its delivery breaks off. */
CASE(broken_delivery_ends_hlt, PROVES("event-injection:inject.active",
     "host-and-exit:indirect.updates", "host-and-exit:save.activity"),
     NEEDS(VMX, { "activity state HLT: IA32_VMX_MISC", need_misc, BIT(6), 0 }))
{
	idt[INTERRUPT].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	REQUIRE(inject(&external_interrupt), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
	expect_original_event(&external_interrupt);
}

/* --- blocking when a delivery breaks off: 29.6.1.1, 29.7.1, 30.1 ----------------------------- */

static void gate_is_not_present(u8 vector)
{
	idt[vector].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
}

static void gate_is_beyond_the_limit(u8 vector)
{
	vmwrite(GUEST_IDTR_LIMIT, vector * sizeof(*idt) + sizeof(*idt) - 2);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
}

static void idt_is_not_mapped(u8 vector)
{
	(void)vector;
	vmwrite(GUEST_IDTR_BASE, UNMAPPED_ADDRESS);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
}

struct broken_delivery {
	const struct injected_event *event;
	void (*break_off)(u8 vector);
	bool nmi_exiting, virtual_nmis;
	u64 blocking, saved;	/* at the entry, and by the exit */
};

static void broken_delivery_and_blocking(const struct case_def *this_case)
{
	const struct broken_delivery *row = this_case->row;

	if (row->nmi_exiting)
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	if (row->virtual_nmis)
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	row->break_off(row->event->vector);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, row->blocking);
	REQUIRE(inject(row->event), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), row->saved);
	expect_original_event(row->event);
}

#define BROKEN(name, fact, needs, ...)							\
	static const struct broken_delivery row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, broken_delivery_and_blocking,					\
		 PROVES("host-and-exit:indirect.updates", "event-injection:" fact),	\
		 NEEDS needs, ROW(&row_##name))
/* An NMI blocks NMIs, or virtual ones where there are such, before it is delivered in full. */
#define BROKEN_NMI(name, break_off)							\
	BROKEN(nmi_##name##_blocks_nmis, "inject.type.nmi_phys", (VMX), &nmi, break_off,	\
	       false, false, 0, BLOCKING_BY_NMI);					\
	BROKEN(nmi_##name##_blocks_nmis_that_exit, "inject.type.nmi_phys",		\
	       (VMX, PIN(NMI_EXITING)), &nmi, break_off, true, false, 0, BLOCKING_BY_NMI);	\
	BROKEN(nmi_##name##_blocks_virtual_nmis, "inject.type.nmi",		\
	       (VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)), &nmi, break_off,		\
	       true, true, 0, BLOCKING_BY_NMI)
BROKEN_NMI(without_a_gate, gate_is_not_present);
BROKEN_NMI(beyond_the_limit, gate_is_beyond_the_limit);
BROKEN_NMI(without_an_idt, idt_is_not_mapped);
/* Another event leaves the blocking of NMIs as it was, and ends that by STI and MOV SS. */
BROKEN(exception_keeps_virtual_nmis_blocked, "inject.nested_bitmap",
       (VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)), &exception, gate_is_not_present, true, true,
       BLOCKING_BY_NMI, BLOCKING_BY_NMI);
BROKEN(exception_keeps_nmis_blocked, "inject.nested_bitmap", (VMX), &exception,
       gate_is_not_present, false, false, BLOCKING_BY_NMI, BLOCKING_BY_NMI);
BROKEN(exception_ends_blocking_by_mov_ss, "inject.nested_bitmap", (VMX), &exception,
       gate_is_not_present, false, false, BLOCKING_BY_MOV_SS, 0);
BROKEN(software_interrupt_ends_blocking_by_mov_ss, "inject.nested_bitmap", (VMX),
       &software_interrupt, gate_is_not_present, false, false, BLOCKING_BY_MOV_SS, 0);

/* --- double and triple faults: 7.15, Table 7-5 ------------------------------------------- */

CASE(nested_fault_is_a_double_fault, PROVES("event-injection:inject.double_fault",
     "event-injection:inject.df_code"), NEEDS(VMX))
{
	idt[VECTOR_GP].type = NOT_PRESENT;
	REQUIRE_HANDLER(inject(&general_protection), VECTOR_DF);
	EXPECT_EQ(guest_frame_error(), 0);
	EXPECT_EQ(guest_frame(true)->rip, (u64)guest_target.at);
}

/* 30.2.4: that double fault exits directly, so nothing was being delivered. */
CASE(double_fault_exits,
     PROVES("event-injection:inject.double_fault", "event-injection:inject.df_code",
	    "host-and-exit:exit.orig.invalid"),
     NEEDS(VMX))
{
	idt[VECTOR_GP].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DF));
	REQUIRE(inject(&general_protection), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & ~BIT(12),
		  BIT(31) | BIT(11) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_DF);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), 0);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
}

CASE(third_fault_is_a_triple_fault, PROVES("event-injection:inject.double_fault.triple"),
     NEEDS(VMX))
{
	idt[VECTOR_GP].type = NOT_PRESENT;
	idt[VECTOR_DF].type = NOT_PRESENT;
	EXPECT(inject(&general_protection), OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
}

CASE(fault_in_a_double_fault_is_a_triple_fault, PROVES("event-injection:inject.df_triple"),
     NEEDS(VMX))
{
	idt[VECTOR_DF].type = NOT_PRESENT;
	EXPECT(inject(&double_fault), OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
}

/* The fault in the delivery of #DF exits when its own bit is set. */
CASE(fault_in_a_double_fault_may_exit, PROVES("event-injection:inject.nested_bitmap"), NEEDS(VMX))
{
	idt[VECTOR_DF].type = NOT_PRESENT;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	REQUIRE(inject(&double_fault), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), gate_error(VECTOR_DF, true));
	expect_original_event(&double_fault);
}

/* --- the DPL of the gate ----------------------------------------------------------------- */

/* A guest at CPL 3; the gates have DPL 0. Software events fault, the others do not. */
static void gate_dpl(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;

	guest_to_user_mode();
	audit_guest_changes_segments();
	if (sets_ext(event)) {
		REQUIRE_HANDLER(inject(event), event->vector);
		EXPECT_EQ(guest_frame(event->has_error)->ss, SELECTOR_USER_DATA);
		return;
	}
	REQUIRE_HANDLER(inject(event), VECTOR_GP);
	EXPECT_EQ(guest_frame_error(), gate_error(event->vector, false));
	EXPECT_EQ(guest_frame(true)->rip, (u64)guest_target.at);
	EXPECT_EQ(guest_frame(true)->ss, SELECTOR_USER_DATA);
	/* With DPL 3 the event comes through. */
	idt[event->vector].type |= 3 << 5;
	vmcs_set_guest_defaults();
	vmwrite(GUEST_IDTR_BASE, (u64)idt);
	guest_to_user_mode();
	EXPECT_HANDLER(inject(event), event->vector);
	EXPECT_EQ(guest_frame(false)->rip, (u64)guest_target.at + event->length);
}

#define GATE_DPL(name, fact)                                                                 \
	CASE_RUN(gate_dpl_and_##name, gate_dpl, PROVES("event-injection:" fact), NEEDS(VMX), \
		 ROW(&name))
GATE_DPL(external_interrupt, "inject.gate_dpl.none");
GATE_DPL(nmi, "inject.gate_dpl.none");
GATE_DPL(exception, "inject.gate_dpl.none");
GATE_DPL(int1, "inject.gate_dpl.none");
GATE_DPL(software_interrupt, "inject.gate_dpl");
GATE_DPL(int3, "inject.gate_dpl");

/* --- memory: EPT, and the APIC-access page ----------------------------------------------- */

/* A stack in a page that EPT does not let be written. */
static void delivery_meets_ept(const struct injected_event *event, u64 flags, outcome_t want)
{
	struct ept ept;
	u8 *stack = page_alloc();

	ept_start(&ept, 0);
	ept_map(&ept, physical(stack), physical(stack), flags, LEVEL_PTE);
	ept_invalidate(&ept);
	idt[event->vector].ist = IST_NONE;
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(event));
	vmwrite(INJECTED_EVENT_ERROR_CODE, ERROR_CODE);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, event->length);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | event->rflags);
	vmwrite(GUEST_RIP, (u64)guest_target.at);
	vmwrite(GUEST_RSP, (u64)stack + PAGE_SIZE);
	REQUIRE(resume(), want);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), injected_identification(event));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, physical(stack));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
	EXPECT_EQ(vmread(GUEST_RSP), (u64)stack + PAGE_SIZE);
}

static void violation(const struct case_def *this_case)
{
	delivery_meets_ept(this_case->row, EPT_READ | EPT_EXECUTE | EPT_MEMORY_TYPE(EPT_WB),
			   OUTCOME_EXIT(EXIT_EPT_VIOLATION));
}

/* Memory type 7 is reserved: 31.3.3.1. */
static void misconfiguration(const struct case_def *this_case)
{
	delivery_meets_ept(this_case->row, EPT_RWX | EPT_MEMORY_TYPE(7),
			   OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
}

#define MEETS_EPT(name)								\
	CASE_RUN(ept_violation_in_##name, violation, PROVES("event-injection:inject.ept"),	\
		 NEEDS(VMX, EPT), ROW(&name));					\
	CASE_RUN(ept_misconfiguration_in_##name, misconfiguration,		\
		 PROVES("event-injection:inject.ept.misconfiguration"), NEEDS(VMX, EPT), ROW(&name))
MEETS_EPT(external_interrupt);
MEETS_EPT(general_protection);
MEETS_EPT(software_interrupt);

/*
 * Table 30-6: type 3 is a linear access during the delivery of an event; bits 11:0 are the offset.
 */
CASE(apic_access_in_the_delivery, PROVES("event-injection:inject.apic_access"),
     NEEDS(VMX, PROC2(VIRTUALIZE_APIC_ACCESSES)))
{
	u8 *page = page_alloc();

	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(APIC_ACCESS_ADDRESS, physical(page));
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(&external_interrupt));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_RIP, (u64)guest_target.at);
	vmwrite(GUEST_RSP, (u64)page + 0x800);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_APIC_ACCESS));
	EXPECT_EQ(FIELD(vmread(EXIT_QUALIFICATION), 15, 12), 3);
	EXPECT_TRUE(FIELD(vmread(EXIT_QUALIFICATION), 11, 0) < 0x800);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  injected_identification(&external_interrupt));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
}
