/*
 * For which basic reasons an entry may end in a VM exit: by its controls (chapter 28), and by what
 * is pending when the guest begins (29.7 Special Features of VM Entry).
 */
#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"

static const u8 causes[] = {
#define EXIT_REASON(number, name, words, qualification, length, cause)		\
	[number] = EXIT_CAUSE_##cause,
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
};

enum exit_cause entry_exit_cause(u32 reason)
{
	return reason < ARRAY_SIZE(causes) ? causes[reason] : EXIT_CAUSE_UNKNOWN;
}

bool entry_exits_by_event(u32 reason)
{
	enum exit_cause cause = entry_exit_cause(reason);

	return cause == EXIT_CAUSE_EVENT || cause == EXIT_CAUSE_DELIVERY;
}

/* Chapter 28. */
static bool allowed_by_controls(const struct entry_input *in, u32 reason)
{
	switch (reason) {
#define EXIT_CONDITION(name, section, condition) case EXIT_##name: return condition;
#include "vmx/entry_exits.def"
	}
	return false;
}

/* --- what is pending when the guest begins -------------------------------------------------- */

/* An event, not a pending MTF VM exit: with it the guest is active, whatever its field says. */
#define INJECTS_EVENT	(INJECTS && !INJECTS_MTF)
#define BEGINS(state) \
	((INJECTS_EVENT ? ACTIVITY_ACTIVE : F(GUEST_ACTIVITY_STATE)) == ACTIVITY_##state)
#define BLOCKED_BY(what) (F(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_##what)
#define EXITS_BY(vector) (F(EXCEPTION_BITMAP) & BIT(vector))

/* A machine check comes before all else; it needs CR4.MCE. */
static bool machine_check_exits(const struct entry_input *in)
{
	return F(GUEST_CR4) & CR4_MCE && EXITS_BY(VECTOR_MC);
}

/* Nothing but that exit can be how it ends. */
static bool machine_check_is_delivered(const struct entry_input *in)
{
	return F(GUEST_CR4) & CR4_MCE && !EXITS_BY(VECTOR_MC);
}

/* 29.7.7: it waits in two states. */
static bool threshold_is_due(const struct entry_input *in)
{
	return !BEGINS(SHUTDOWN) && !BEGINS(WAIT_FOR_SIPI) &&
	       IS(PROC2, VIRTUALIZE_APIC_ACCESSES) && entry_below_threshold(in) == BROKEN;
}

/* 29.7.3; behind an event that is injected there may be some, too. */
static bool has_debug_exception(const struct entry_input *in)
{
	if (!(F(GUEST_PENDING_DEBUG_EXCEPTIONS) & (PENDING_BS | PENDING_ENABLED)))
		return false;
	if (INJECTS_EVENT)
		return BLOCKED_BY(MOV_SS);
	return !BLOCKED_BY(MOV_SS) &&
	       (BEGINS(ACTIVE) || BEGINS(HLT));
}

/* 29.7.6, 28.2: behind an event that is injected nothing is blocked but by an NMI. */
static bool nmi_window_is_open(const struct entry_input *in)
{
	return IS(PROC1, NMI_WINDOW_EXITING) && !BLOCKED_BY(NMI) && !INJECTS_TYPE(NMI) &&
	       (INJECTS_EVENT || (!BLOCKED_BY(MOV_SS) && !BLOCKED_BY(STI)));
}

/* 29.7.5, 28.2. */
static bool interrupt_window_is_open(const struct entry_input *in)
{
	return IS(PROC1, INTERRUPT_WINDOW_EXITING) && !BEGINS(SHUTDOWN) &&
	       F(GUEST_RFLAGS) & RFLAGS_IF && !BLOCKED_BY(MOV_SS) && !BLOCKED_BY(STI);
}

/*
 * What is due, in order of priority; OPEN: from here on anything may be. INIT signals are behind
 * the first of these.
 */
#define OPEN		(~1u)
static u32 first_due(const struct entry_input *in)
{
	/* 29.5: the output of a trace comes before all, and may go wrong in any state. */
	if (IS(PROC2, INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES) || machine_check_is_delivered(in))
		return OPEN;
	if (BEGINS(WAIT_FOR_SIPI))
		return EXIT_STARTUP_IPI;
	if (threshold_is_due(in))
		return EXIT_TPR_BELOW_THRESHOLD;
	if (INJECTS_MTF || (INJECTS_EVENT && IS(PROC1, MONITOR_TRAP_FLAG)))
		return EXIT_MONITOR_TRAP_FLAG;
	if (has_debug_exception(in))
		return !INJECTS_EVENT && EXITS_BY(VECTOR_DB) ? EXIT_EXCEPTION_OR_NMI : OPEN;
	if (IS(PIN, ACTIVATE_VMX_PREEMPTION_TIMER) && !F(VMX_PREEMPTION_TIMER_VALUE))
		return EXIT_VMX_PREEMPTION_TIMER_EXPIRED;
	if (nmi_window_is_open(in))
		return EXIT_NMI_WINDOW;
	if (!IS(PIN, NMI_EXITING) && !BLOCKED_BY(NMI))
		return OPEN;
	/* The delivery of an event changes RFLAGS.IF as its gate says. */
	if (!INJECTS_EVENT && interrupt_window_is_open(in))
		return EXIT_INTERRUPT_WINDOW;
	return ENTRY_ANY_EXIT;
}

/* Whether an exit for `reason` may come before the one that is due. */
static bool comes_before(const struct entry_input *in, u32 reason, u32 due)
{
	if (INJECTS_EVENT && entry_exit_cause(reason) == EXIT_CAUSE_DELIVERY)
		return true;
	switch (reason) {
	case EXIT_EXCEPTION_OR_NMI:
		/* NMIs themselves are behind all but the interrupt window. */
		return machine_check_exits(in) || due == EXIT_INTERRUPT_WINDOW;
	case EXIT_INIT_SIGNAL:
	case EXIT_IO_SMI:
	case EXIT_OTHER_SMI:
		return due != EXIT_TPR_BELOW_THRESHOLD && due != EXIT_STARTUP_IPI;
	case EXIT_VMX_PREEMPTION_TIMER_EXPIRED:
		return due == EXIT_NMI_WINDOW || due == EXIT_INTERRUPT_WINDOW;
	/* Of these it may be uncertain whether they were due. */
	case EXIT_TPR_BELOW_THRESHOLD:
		return due != EXIT_STARTUP_IPI && entry_below_threshold(in) == UNCERTAIN;
	}
	return false;
}

/* What ends the shutdown and HLT states, as far as nothing that is delivered does: 29.7.2, 28.2. */
static bool may_leave(const struct entry_input *in, u32 reason)
{
	switch (reason) {
	case EXIT_EXCEPTION_OR_NMI:
	case EXIT_INIT_SIGNAL:
	case EXIT_IO_SMI:
	case EXIT_OTHER_SMI:
	case EXIT_NMI_WINDOW:
	case EXIT_VMX_PREEMPTION_TIMER_EXPIRED:
		return true;
	case EXIT_EXTERNAL_INTERRUPT:
	case EXIT_INTERRUPT_WINDOW:
	case EXIT_TPR_BELOW_THRESHOLD:
		return BEGINS(HLT);
	}
	return BEGINS(HLT) &&
	       ((!IS(PIN, EXTERNAL_INTERRUPT_EXITING) && F(GUEST_RFLAGS) & RFLAGS_IF) ||
		IS(PROC2, VIRTUAL_INTERRUPT_DELIVERY));
}

u32 entry_first_exit(const struct entry_input *in)
{
	u32 due = first_due(in);

	return due == OPEN ? ENTRY_ANY_EXIT : due;
}

bool entry_allows_exit(const struct entry_input *in, u32 reason)
{
	u32 due;

	if (!allowed_by_controls(in, reason))
		return false;
	due = first_due(in);
	if (due == OPEN || due == reason)
		return true;
	if (due != ENTRY_ANY_EXIT)
		return comes_before(in, reason, due);
	return BEGINS(ACTIVE) || may_leave(in, reason);
}
