#include "vmx/exit_lists.h"
#include "vmx/exit_words.h"

/* --- what the entry loads --------------------------------------------------------- */

u64 exit_loaded_cr0(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	return (F(GUEST_CR0) & ~CR0_KEPT) | (HAD(CR0) & CR0_KEPT);
}

u64 exit_loaded_dr7(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	if (!IS(ENTRY, LOAD_DEBUG_CONTROLS))
		return HAD(DR7);
	return (F(GUEST_DR7) & ~(BITS(15, 14) | BIT(12))) | DR7_FIXED;
}

u64 exit_loaded_efer(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 value = HAD(EFER), mode = IA32E ? EFER_LMA | EFER_LME : 0;

	if (IS(ENTRY, LOAD_IA32_EFER))
		value = F(GUEST_IA32_EFER);
	else if (F(GUEST_CR0) & CR0_PG)
		value = (value & ~EFER_LME) | mode;
	/* LMA is that of the control; a list does not change it, for software cannot write it. */
	return (exit_guest_msr(x, IA32_EFER, value) & ~EFER_LMA) | (mode & EFER_LMA);
}

/* The guest may have changed them; a late failure comes before it runs. */
u64 exit_kept_cr0(const struct exit_input *x)
{
	return (exit_entered(x) ? NOW(GUEST_CR0) : HAD(CR0)) & CR0_KEPT;
}

bool exit_guest_uses_pae(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	return !IA32E && F(GUEST_CR0) & CR0_PG && F(GUEST_CR4) & CR4_PAE;
}

/* --- exit reasons ------------------------------------------------------------------- */

enum { REASON_UNKNOWN, REASON_ZERO, REASON_ANY };

static u8 reason_qualification(u16 reason)
{
	switch (reason) {
#define ZERO	REASON_ZERO
#define ANY	REASON_ANY
#define EXIT_REASON(number, name, words, qualification, ...)			\
	case number: return qualification;
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
#undef ZERO
#undef ANY
	}
	return REASON_UNKNOWN;
}

static bool reason_length(u16 reason)
{
	switch (reason) {
#define LENGTH	true
#define NONE	false
#define EXIT_REASON(number, name, words, qualification, length, cause)		\
	case number: return length;
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
#undef LENGTH
#undef NONE
	}
	return false;
}

bool exit_reason_is_known(u16 reason)
{
	return reason_qualification(reason) != REASON_UNKNOWN;
}

/* 30.2.1: the qualification of an exit by an exception or NMI. */
static u64 zero_of_event(const struct exit_input *x)
{
	switch (VECTOR_OF(EXIT_EVENT)) {
	case VECTOR_DB:		/* Table 30-1 leaves its other bits undefined */
		return 0;
	case VECTOR_PF:		/* a linear address */
		return exit_from_64_bit_mode(x) ? 0 : BITS(63, 32);
	case VECTOR_NMI:	/* its source, where that is reported */
		return x->entry->cpu->nmi_source ? 0 : ALL_BITS;
	}
	return ALL_BITS;
}

/* 30.2.3: no IRET can have ended a blocking that there was not. */
static u64 zero_of_unblocking(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	return NO_VIRTUAL_NMI_BLOCKING && !VALID(ORIGINAL_EVENT) ? BIT(12) : 0;
}

u64 exit_zero_qualification(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 q = NOW(EXIT_QUALIFICATION);

	switch (exit_basic_reason(x)) {
	case EXIT_EXCEPTION_OR_NMI:
		return zero_of_event(x);
	case EXIT_STARTUP_IPI:
	case EXIT_VIRTUALIZED_EOI:
		return BITS(63, 8);
	case EXIT_CONTROL_REGISTER_ACCESS:
		/* Table 30-3: MOV CR, CLTS, LMSW: each defines fewer bits than the one before. */
		if (FIELD(q, 5, 4) == 3)
			return BITS(11, 8) | BITS(3, 0);
		return BITS(31, 16) | BIT(6) | (FIELD(q, 5, 4) == 2 ? BITS(11, 8) | BITS(3, 0) : 0);
	case EXIT_IO_INSTRUCTION:	/* sizes 0, 1 and 3 */
		return BIT(2) | (q & BIT(0) ? 0 : BIT(1));
	case EXIT_INVLPG:
		return exit_from_64_bit_mode(x) ? 0 : BITS(63, 32);
	case EXIT_RDMSRLIST:
	case EXIT_WRMSRLIST:		/* else the index of the MSR */
		return IS(PROC1, USE_MSR_BITMAPS) ? 0 : ALL_BITS;
	case EXIT_ENQCMD_PASID_TRANSLATION_FAILURE:
		return BITS(63, 20);
	case EXIT_ENQCMDS_PASID_TRANSLATION_FAILURE:
		return BITS(63, 32);
	case EXIT_WRMSR:
	case EXIT_MWAIT:
	case EXIT_WBINVD_OR_WBNOINVD:
		return BITS(63, 1);
	case EXIT_APIC_WRITE:
		return BITS(63, 12);
	case EXIT_EPT_VIOLATION:
		return (q & BIT(7) ? 0 : BIT(8)) |
		       (IS(PROC3, GUEST_PAGING_VERIFICATION) ? 0 : BIT(15)) |
		       zero_of_unblocking(x);
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
	case EXIT_SPP_RELATED_EVENT:
	case EXIT_INSTRUCTION_TIMEOUT:
		return zero_of_unblocking(x);
	}
	return reason_qualification(exit_basic_reason(x)) == REASON_ZERO ? ALL_BITS : 0;
}

/* Also those for which 30.2.5 leaves the length open. */
bool exit_by_instruction(const struct exit_input *x)
{
	return entry_exit_cause(exit_basic_reason(x)) == EXIT_CAUSE_INSTRUCTION;
}

bool exit_has_event(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	if (exit_basic_reason(x) == EXIT_EXTERNAL_INTERRUPT)
		return IS(EXIT, ACKNOWLEDGE_INTERRUPT_ON_EXIT);
	return exit_basic_reason(x) == EXIT_EXCEPTION_OR_NMI;
}

/* Table 30-2: the task gate in the IDT, not CALL, IRET or JMP. */
bool exit_by_task_gate(const struct exit_input *x)
{
	return FIELD(NOW(EXIT_QUALIFICATION), 31, 30) == 3;
}

/* 30.2.4; not a double fault and not an NMI, which exit directly, and no triple fault. */
bool exit_may_have_original_event(const struct exit_input *x)
{
	switch (exit_basic_reason(x)) {
	case EXIT_EXCEPTION_OR_NMI:
		return VECTOR_OF(EXIT_EVENT) != VECTOR_DF && VECTOR_OF(EXIT_EVENT) != VECTOR_NMI;
	case EXIT_TASK_SWITCH:
		return exit_by_task_gate(x);
	case EXIT_TRIPLE_FAULT:
		return false;
	}
	return entry_exit_cause(exit_basic_reason(x)) == EXIT_CAUSE_DELIVERY;
}

/* FRED delivers SYSCALL and SYSENTER as events: 30.2.4. */
static bool by_system_call(const struct exit_input *x)
{
	return NOW(GUEST_CR4) & CR4_FRED && TYPE_OF(ORIGINAL_EVENT) == EVENT_TYPE_OTHER;
}

/* 30.2.5: instructions that exit, software exceptions, and faults delivering software events. */
bool exit_has_length(const struct exit_input *x)
{
	u16 reason = exit_basic_reason(x);

	/* There the length is 0, whatever has exited. */
	if (IN_ENCLAVE)
		return false;
	if (reason_length(reason))
		return true;
	if (reason == EXIT_EXCEPTION_OR_NMI && IN_SOFTWARE(EXIT_EVENT))
		return true;
	if (reason == EXIT_TASK_SWITCH && !exit_by_task_gate(x))
		return true;
	return exit_may_have_original_event(x) && VALID(ORIGINAL_EVENT) &&
	       (IN_SOFTWARE(ORIGINAL_EVENT) || by_system_call(x)) &&
	       reason != EXIT_EPT_MISCONFIGURATION && reason != EXIT_INSTRUCTION_TIMEOUT &&
	       (reason != EXIT_EXCEPTION_OR_NMI || exit_is_fault(EXIT_EVENT));
}

bool exit_has_error_code(u8 vector)
{
	switch (vector) {
#define VECTOR(number, name, words, error) case number: return error;
#include "sdm/vectors.def"
#undef VECTOR
	}
	return false;
}

/*
 * #DB has two types: INT1 raises a privileged software exception. In enclave mode INT1 and INT3
 * raise hardware exceptions.
 */
u64 exit_event_type(const struct exit_input *x)
{
	if (exit_basic_reason(x) == EXIT_EXTERNAL_INTERRUPT)
		return EVENT_TYPE_EXTERNAL_INTERRUPT;
	switch (VECTOR_OF(EXIT_EVENT)) {
	case VECTOR_NMI:
		return EVENT_TYPE_NMI;
	case VECTOR_BP:
		if (IN_ENCLAVE)
			break;
		return EVENT_TYPE_SOFTWARE_EXCEPTION;
	case VECTOR_OF:
		return EVENT_TYPE_SOFTWARE_EXCEPTION;
	case VECTOR_DB:
		if (TYPE_OF(EXIT_EVENT) == EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION && !IN_ENCLAVE)
			return EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION;
	}
	return EVENT_TYPE_HARDWARE_EXCEPTION;
}

static bool by_debug_exception(const struct exit_input *x)
{
	return exit_basic_reason(x) == EXIT_EXCEPTION_OR_NMI &&
	       TYPE_OF(EXIT_EVENT) == EVENT_TYPE_HARDWARE_EXCEPTION &&
	       VECTOR_OF(EXIT_EVENT) == VECTOR_DB;
}

/* Traces and records of counters, which the processor writes on its own: 28.5.4, 28.5.5, 22.9.5. */
static bool may_access_by_itself(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	return IS(PROC2, INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES) ||
	       IS(PROC3, PEBS_USES_GUEST_PHYSICAL_ADDRESSES) ||
	       (EXISTS(PERF_GLOBAL_CTRL) &&
		GUEST_MSR(IA32_PERF_GLOBAL_CTRL, PERF_GLOBAL_CTRL, GUEST_IA32_PERF_GLOBAL_CTRL,
			  IS(ENTRY, LOAD_IA32_PERF_GLOBAL_CTRL)));
}

/* Bit 16 of some qualifications says so. */
bool exit_may_be_asynchronous(const struct exit_input *x)
{
	switch (exit_basic_reason(x)) {
	case EXIT_EPT_MISCONFIGURATION:	/* has no qualification to say so */
		return may_access_by_itself(x);
	case EXIT_APIC_ACCESS:
	case EXIT_EPT_VIOLATION:
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
	case EXIT_SPP_RELATED_EVENT:
		return NOW(EXIT_QUALIFICATION) & BIT(16);
	}
	return false;
}

/* 30.3.4. */
bool exit_may_have_pending_debug(const struct exit_input *x)
{
	if (NOW(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_MOV_SS && !by_debug_exception(x))
		return true;
	switch (exit_basic_reason(x)) {
	case EXIT_EXCEPTION_OR_NMI:
		return VECTOR_OF(EXIT_EVENT) == VECTOR_MC;
	case EXIT_INIT_SIGNAL:
	case EXIT_IO_SMI:
	case EXIT_OTHER_SMI:
	case EXIT_MONITOR_TRAP_FLAG:
	case EXIT_TPR_BELOW_THRESHOLD:
	case EXIT_VIRTUALIZED_EOI:
	case EXIT_APIC_WRITE:
	case EXIT_BUS_LOCK:
		return true;
	}
	return exit_may_be_asynchronous(x);
}

bool exit_sets_rf(const struct exit_input *x)
{
	switch (exit_basic_reason(x)) {
	case EXIT_APIC_ACCESS:
	case EXIT_EPT_VIOLATION:
	case EXIT_EPT_MISCONFIGURATION:
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
	case EXIT_SPP_RELATED_EVENT:
		return true;
	}
	return false;
}

/* Not #DB, which may be a trap, and for a code breakpoint keeps RF: 20.3.1.1. */
bool exit_is_fault(u64 event)
{
	if (TYPE_OF(event) != EVENT_TYPE_HARDWARE_EXCEPTION)
		return false;
	switch (VECTOR_OF(event)) {
	case VECTOR_DB:
	case VECTOR_DF:
	case VECTOR_MC:
		return false;
	}
	return true;
}

bool exit_by_fault(const struct exit_input *x)
{
	return exit_basic_reason(x) == EXIT_EXCEPTION_OR_NMI && exit_is_fault(EXIT_EVENT);
}

/*
 * Only an active guest executes, and an event that is delivered makes it so: 30.1. But the output
 * of a trace may fail in any state, and of user interrupts HLT is not woken: 9.5.2.
 */
bool exit_while_active(const struct exit_input *x)
{
	if (exit_by_instruction(x))
		return true;
	if (exit_may_have_original_event(x) && VALID(ORIGINAL_EVENT))
		return !(NOW(GUEST_CR4) & CR4_UINTR) ||
		       TYPE_OF(ORIGINAL_EVENT) != EVENT_TYPE_EXTERNAL_INTERRUPT;
	return exit_sets_rf(x) && exit_basic_reason(x) != EXIT_EPT_MISCONFIGURATION &&
	       !(NOW(EXIT_QUALIFICATION) & BIT(16));
}

bool exit_behind_instruction(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	switch (exit_basic_reason(x)) {
	case EXIT_VIRTUALIZED_EOI:
	case EXIT_APIC_WRITE:
	case EXIT_BUS_LOCK:
		return true;
	case EXIT_TPR_BELOW_THRESHOLD:	/* or before the first: 29.7.7 */
		return NOW(GUEST_RIP) != F(GUEST_RIP);
	}
	return false;
}

/*
 * Of exceptions only #DB is ever due; a machine check may come before it. Whether the TPR was below
 * its threshold nobody can tell any more: the guest may have written to the virtual-APIC page.
 */
bool exit_at_once(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u16 reason = exit_basic_reason(x);

	if ((INJECTS && !INJECTS_MTF) || reason == EXIT_TPR_BELOW_THRESHOLD ||
	    (reason == EXIT_EXCEPTION_OR_NMI && !by_debug_exception(x)))
		return false;
	return entry_first_exit(in) == reason;
}

/* What is injected has not been delivered, unless the guest is back where it began. */
static bool breaks_off_at_entry(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	return INJECTS && !INJECTS_MTF && NOW(GUEST_RIP) == F(GUEST_RIP) &&
	       NOW(GUEST_RSP) == F(GUEST_RSP);
}

/* An injected event, or a fault of its delivery, was the first of the three. */
bool exit_triple_fault_of_injection(const struct exit_input *x)
{
	return exit_basic_reason(x) == EXIT_TRIPLE_FAULT && !x->guest_comes_back &&
	       breaks_off_at_entry(x);
}

/*
 * No field says that the original event is the one that the entry has injected. A delivery that
 * breaks off leaves RIP and RSP as the entry has loaded them (30.1; 29.6.1.1), so without that it
 * is another one. With it, it is the injected one or a fault that this led to, which is a hardware
 * exception; one of the same vector makes a double fault, or cannot happen. But a guest that has
 * run may be back at both with an event of its own: it must say so, audit_guest_comes_back().
 */
bool exit_may_break_injection(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	if (!breaks_off_at_entry(x) || !exit_may_have_original_event(x) || !VALID(ORIGINAL_EVENT))
		return false;
	return TYPE_OF(ORIGINAL_EVENT) != EVENT_TYPE_HARDWARE_EXCEPTION ||
	       (INJECTS_TYPE(HARDWARE_EXCEPTION) && VECTOR_OF(ORIGINAL_EVENT) == EVENT_VECTOR);
}

bool exit_breaks_injection(const struct exit_input *x)
{
	return !x->guest_comes_back && exit_may_break_injection(x);
}

/* --- claims --------------------------------------------------------------------------- */

struct judge {
	const struct exit_input *x;
	exit_report *report;
	void *context;
};

static void report(const struct judge *judge, u32 rule, u32 subject, u64 got, u64 value)
{
	const struct exit_claim claim = {
		.rule = rule, .subject = subject, .got = got, .bits = ALL_BITS, .value = value,
	};

	judge->report(judge->context, &claim);
}

enum rule_kind { RULE_BITS, RULE_RANGE, RULE_NEVER };

static void claim(const struct judge *judge, u32 rule, u32 subject, u32 depends,
		  enum rule_kind kind, u64 a, u64 b)
{
	const struct exit_input *x = judge->x;
	struct exit_claim claim = {
		.rule = rule, .subject = subject, .range = kind == RULE_RANGE,
		.never = kind == RULE_NEVER, .bits = a, .value = b,
	};
	u32 number = subject - EXIT_SUBJECT_REGISTER;

	if (depends < VMCS_FIELDS &&
	    (x->host_only ||
	     (exit_entered(x) && x->guest_changes[depends / 64] & BIT(depends % 64))))
		return;
	if (subject < VMCS_FIELDS) {
		if (!exit_has_field(x, subject))
			return;
		claim.got = x->field[subject];
	} else {
		if (!(x->exists & BIT(number)))
			return;
		claim.got = x->after[number];
	}
	judge->report(judge->context, &claim);
}

#define FIELD_SUBJECT(name)	INDEX_##name
#define REGISTER_SUBJECT(name)	(EXIT_SUBJECT_REGISTER + EXIT_REGISTER_##name)
#define NO_FIELD		VMCS_FIELDS
#define EXIT_RULE(name, id, section, kind, subject, depends, when, a, b)	\
	if (when)								\
		claim(judge, EXIT_RULE_##name, subject, depends, RULE_##kind, a, b);

static void judge_information(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	const struct entry_input *in = x->entry;

#include "vmx/exit_rules_information.def"
#include "vmx/exit_rules_reason.def"
}

static void judge_guest(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	const struct entry_input *in = x->entry;

#include "vmx/exit_rules_guest.def"
}

static void judge_host(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	const struct entry_input *in = x->entry;

#include "vmx/exit_rules_host.def"
}

/* --- fields that stay ------------------------------------------------------------------- */

enum field_type { FIELD_CONTROL, FIELD_EXIT_INFO, FIELD_GUEST, FIELD_HOST };

static const u8 field_types[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) FIELD_##type,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

/* What changes in the course of the guest: 28.3, 28.5.7.3, 28.5.10, 31.3.6. */
static bool changes_by_itself(const struct exit_input *x, u32 index)
{
	const struct entry_input *in = x->entry;

	switch (index) {
	case INDEX_EPT_POINTER:
	case INDEX_EPTP_INDEX:
		return IS(VMFUNC, EPTP_SWITCHING);
	case INDEX_PML_INDEX:
		return IS(PROC2, ENABLE_PML);
	case INDEX_GUEST_DEADLINE_SHADOW:
		return IS(PROC3, APIC_TIMER_VIRTUALIZATION);
	case INDEX_IA32_SPEC_CTRL_SHADOW:
		return IS(PROC3, VIRTUALIZE_IA32_SPEC_CTRL);
	case INDEX_INJECTED_EVENT_IDENTIFICATION:	/* a rule of its own */
		return true;
	case INDEX_VM_ENTRY_CONTROLS:			/* one bit has one: 30.2 */
		return MISC(5) && (x->field[index] ^ in->field[index]) ==
				  control_bit(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	}
	return false;
}

/* The same of exit information, for an entry that fails late: 29.8. */
static u32 rule_keeping_information(u32 index)
{
	switch (index) {
	case INDEX_EXIT_REASON:
	case INDEX_EXIT_QUALIFICATION:
		return EXIT_RULES;
	case INDEX_EXITING_EVENT_IDENTIFICATION:
		return EXIT_RULE_failure_event_identification;
	case INDEX_ORIGINAL_EVENT_IDENTIFICATION:
		return EXIT_RULE_failure_original_identification;
	case INDEX_VM_EXIT_INSTRUCTION_LENGTH:
		return EXIT_RULE_failure_instruction_length;
	default:
		return EXIT_RULE_failure_other_info;
	}
}

/* The rule by which a field keeps its value; EXIT_RULES: none. */
static u32 keeping_rule(const struct exit_input *x, u32 index)
{
	bool failed = !exit_entered(x);

	if (index == INDEX_HOST_RSP)			/* the world switch writes it */
		return EXIT_RULES;
	if (failed && index == INDEX_INJECTED_EVENT_IDENTIFICATION)
		return EXIT_RULE_failure_inject_valid;
	switch (field_types[index]) {
	case FIELD_EXIT_INFO:
		return failed ? rule_keeping_information(index) : EXIT_RULES;
	case FIELD_GUEST:
		if (failed)
			return EXIT_RULE_failure_guest_area;
		if (index != INDEX_VMCS_LINK_POINTER && index != INDEX_PML_INDEX)
			return EXIT_RULES;
	}
	if (failed)
		return EXIT_RULE_failure_fields_kept;
	return changes_by_itself(x, index) ? EXIT_RULES : EXIT_RULE_fields_kept;
}

static void judge_fields(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	u32 i, rule;

	for (i = 0; i < VMCS_FIELDS; i++) {
		if (x->field[i] == x->entry->field[i])
			continue;
		rule = keeping_rule(x, i);
		if (rule != EXIT_RULES)
			report(judge, rule, i, x->field[i], x->entry->field[i]);
	}
}

/* VMfail: 33.2 lets only the error number change, and 29.2 no register. */
static void judge_vmfail(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	u32 i;

	/* Where only the host state counts, no field was read before or after. */
	for (i = 0; i < VMCS_FIELDS && !x->host_only; i++)
		if (x->field[i] != x->entry->field[i] && i != INDEX_VM_INSTRUCTION_ERROR &&
		    i != INDEX_HOST_RSP)
			report(judge, EXIT_RULE_vmfail_fields, i, x->field[i], x->entry->field[i]);
	for (i = 0; i < EXIT_REGISTERS; i++)
		if (x->after[i] != x->before[i] && i != EXIT_REGISTER_RSP &&
		    i != EXIT_REGISTER_RFLAGS)
			report(judge, EXIT_RULE_vmfail_registers, EXIT_SUBJECT_REGISTER + i,
			       x->after[i], x->before[i]);
}

void exit_judge(const struct exit_input *x, exit_report *report_to, void *context)
{
	const struct judge judge = { .x = x, .report = report_to, .context = context };
	enum outcome_kind kind = outcome_kind(x->outcome);

	if (kind != OUTCOME_KIND_EXIT && kind != OUTCOME_KIND_ENTRY_FAILURE) {
		judge_vmfail(&judge);
		return;
	}
	judge_host(&judge);
	if (x->host_only)
		return;
	judge_information(&judge);
	judge_fields(&judge);
	exit_judge_lists(x, report_to, context);
	if (kind == OUTCOME_KIND_EXIT)
		judge_guest(&judge);
}
