/*
 * Last-branch records and VMX transitions. Neither a VM entry nor a VM exit is recorded, although
 * both change RIP (29.7.9; introduction of chapter 30); the delivery of an event that an entry
 * injects is, when recording is on (29.6.1.1).
 *
 * Two kinds of processors have records. Older ones switch them on by IA32_DEBUGCTL.LBR, which
 * entries load and exits clear, and keep them in MSRs that depend on the model; what those models
 * share is the number of the newest record, in MSR 1C9H. Newer ones have IA32_LBR_CTL, with VMX
 * controls of its own, and records of which the newest is number 0: volume 3, chapter 19.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"
#include "vmx/injection.h"

static void start(void)
{
	guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(nop, "", "nop");
GUEST_CODE(cpuid, "", "cpuid");
/* One branch that is taken. */
GUEST_CODE(jump, "", "jmp 1f; nop; 1: cpuid");

static const struct injected_event interrupt = { .type = EVENT_TYPE_EXTERNAL_INTERRUPT,
						 .vector = 0x51,
						 .rflags = RFLAGS_IF };
static const struct injected_event debug_exception = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						       .vector = VECTOR_DB };

/* --- IA32_DEBUGCTL.LBR -------------------------------------------------------------------- */

#define LAST_BRANCH_SELECT	0x1c8
#define LAST_BRANCH_NEWEST	0x1c9	/* "top of stack" */
#define DEBUG_CONTROLS		ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)
#define MOST_RECORDS		32

static u64 newest(void)
{
	u64 value = 0;

	rdmsr_safe(LAST_BRANCH_NEWEST, &value);
	return value;
}

/* n branches that are taken, and one more. */
static void branch(u64 n)
{
	asm volatile("jmp 2f; 1: decq %0; 2: testq %0, %0; jnz 1b" : "+r" (n) : : "cc");
}

/*
 * How many records there are: the number of the newest goes round. 0: this processor records
 * nothing in this way. Recording is off again behind it. Each round makes one record more than the
 * last one: with always as many, the number could step over the highest one every time.
 */
static u32 count_records(void)
{
	u64 before, value;
	u32 highest = 0, i;

	if (rdmsr_safe(LAST_BRANCH_NEWEST, &before) != OUTCOME_DONE)
		return 0;
	wrmsr_safe(LAST_BRANCH_SELECT, 0);
	for (i = 0; i <= 2 * MOST_RECORDS; i++) {
		if (wrmsr_safe(IA32_DEBUGCTL, DEBUGCTL_LBR) != OUTCOME_DONE)
			return 0;
		branch(i);
		wrmsr(IA32_DEBUGCTL, 0);
		value = newest();
		if (value > highest)
			highest = value;
	}
	return highest ? highest + 1 : 0;
}

static u32 records;

static void record_in_guest(void)
{
	records = count_records();
	if (!records)
		case_skip("last-branch records by IA32_DEBUGCTL.LBR, the newest in MSR 1C9H");
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_LBR);
}

/* The records that were made since the newest was `before`. */
static u32 made_since(u64 before)
{
	return (newest() + records - before) % records;
}

/* The exit ends the recording before anything in the host could be recorded. */
CASE(entry_and_exit_are_not_recorded, PROVES("host-and-exit:entry.lbr", "host-and-exit:exit.lbr"),
     NEEDS(VMX, DEBUG_CONTROLS))
{
	u64 before;

	record_in_guest();
	before = newest();
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(made_since(before), 0);
	EXPECT_EQ(vmread(GUEST_IA32_DEBUGCTL), DEBUGCTL_LBR);
	/* What is recorded counts, so the case can fail. */
	REQUIRE(enter_at_instruction(&guest_jump), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(made_since(before), 1);
}

static void injection_is_recorded(const struct case_def *this_case)
{
	const struct injected_event *event = this_case->row;
	u64 before;

	record_in_guest();
	before = newest();
	REQUIRE_HANDLER(inject_event(event, 0, &guest_nop), event->vector);
	EXPECT_EQ(made_since(before), 1);
	/* A debug exception that comes by itself clears the bit: 20.4.4. */
	EXPECT_EQ(vmread(GUEST_IA32_DEBUGCTL), DEBUGCTL_LBR);
}

CASE_RUN(injected_interrupt_is_recorded, injection_is_recorded,
	 PROVES("event-injection:inject.lbr"), NEEDS(VMX, DEBUG_CONTROLS), ROW(&interrupt));
CASE_RUN(injected_debug_exception_is_recorded, injection_is_recorded,
	 PROVES("event-injection:inject.lbr"), NEEDS(VMX, DEBUG_CONTROLS), ROW(&debug_exception));

CASE(injection_without_recording, PROVES("event-injection:inject.lbr"), NEEDS(VMX, DEBUG_CONTROLS))
{
	u64 before;

	record_in_guest();
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	before = newest();
	REQUIRE_HANDLER(inject_event(&interrupt, 0, &guest_nop), interrupt.vector);
	EXPECT_EQ(made_since(before), 0);
}

/* --- IA32_LBR_CTL ------------------------------------------------------------------------- */

#define LBR_ENABLE		BIT(0)
#define LBR_OS			BIT(1)
#define LBR_NEAR_JUMPS		BIT(17)
#define LBR_OTHER_BRANCHES	BIT(22)	/* far transfers, interrupts, exceptions */
#define IA32_LBR_DEPTH		0x14cf
#define IA32_LBR_0_FROM_IP	0x1500
#define IA32_LBR_0_TO_IP	0x1600
#define LBR_CONTROLS		CPU(ARCH_LBR), ENTRY_CTL(LOAD_GUEST_IA32_LBR_CTL), \
				EXIT_CTL(CLEAR_IA32_LBR_CTL)

/* With no records yet: a write of the depth makes all of them 0. */
static void record_architecturally(void)
{
	wrmsr(IA32_LBR_CTL, 0);
	wrmsr(IA32_LBR_DEPTH, rdmsr(IA32_LBR_DEPTH));
	REQUIRE_EQ(rdmsr(IA32_LBR_0_FROM_IP), 0);
	vmcs_set_control(CONTROL_ENTRY_LOAD_GUEST_IA32_LBR_CTL);
	vmcs_set_control(CONTROL_EXIT_CLEAR_IA32_LBR_CTL);
	vmwrite(GUEST_IA32_LBR_CTL, LBR_ENABLE | LBR_OS | LBR_NEAR_JUMPS | LBR_OTHER_BRANCHES);
}

static void expect_records(u64 from, u64 to)
{
	EXPECT_EQ(rdmsr(IA32_LBR_0_FROM_IP), from);
	EXPECT_EQ(rdmsr(IA32_LBR_0_TO_IP), to);
	EXPECT_EQ(rdmsr(IA32_LBR_0_FROM_IP + 1), 0);
}

CASE(entry_and_exit_make_no_architectural_record, PROVES("host-and-exit:entry.lbr",
     "host-and-exit:exit.lbr"), NEEDS(VMX, LBR_CONTROLS))
{
	record_architecturally();
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	expect_records(0, 0);
	REQUIRE(enter_at_instruction(&guest_jump), OUTCOME_EXIT(EXIT_CPUID));
	expect_records((u64)guest_jump.at, vmread(GUEST_RIP));
}

CASE(injection_makes_an_architectural_record, PROVES("event-injection:inject.lbr"),
     NEEDS(VMX, LBR_CONTROLS))
{
	record_architecturally();
	REQUIRE_HANDLER(inject_event(&interrupt, 0, &guest_nop), interrupt.vector);
	expect_records((u64)guest_nop.at, guest_handler(interrupt.vector));
}
