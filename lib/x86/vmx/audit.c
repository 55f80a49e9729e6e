#include "cpu/cpu.h"
#include "cpu/safe.h"
#include "vmx/audit.h"
#include "vmx/entry_reader.h"
#include "vmx/entry_rules.h"
#include "vmx/vmcs.h"
#include "vmx/vmx.h"

/* CR0 bits that an exit leaves alone: ET, NW, CD, 15:6, 17 and 28:19. 30.5.1. */
#define CR0_KEPT_AT_EXIT (CR0_ET | CR0_NW | CR0_CD | BITS(15, 6) | BIT(17) | BITS(28, 19))

static const char *item_words(enum audit_item item)
{
	switch (item) {
#define AUDIT(name, words) case AUDIT_##name: return words;
#include "vmx/audit_items.def"
#undef AUDIT
	case AUDIT_ITEMS:
		break;
	}
	return "?";
}

void audit_off(enum audit_item item)
{
	this_vmx()->audit.off |= BIT(item);
}

static void judge(const struct audit *audit, enum audit_item item, const char *phase,
		  u64 expected, u64 got)
{
	char what[80], want[40], have[40];

	if (audit->off & BIT(item) || expected == got)
		return;
	format(what, sizeof(what), "audit %s: %s", phase, item_words(item));
	case_fail(NULL, 0, what, format_number(want, sizeof(want), expected),
		  format_number(have, sizeof(have), got));
}

static u64 read_msr_or_0(u32 msr)
{
	u64 value;

	return rdmsr_safe(msr, &value) == OUTCOME_DONE ? value : 0;
}

static void read_registers(u64 *r)
{
	struct table_pointer gdtr = read_gdtr(), idtr = read_idtr();

	r[AUDIT_CR0] = read_cr0();
	r[AUDIT_CR3] = read_cr3();
	r[AUDIT_CR4] = read_cr4();
	r[AUDIT_DR7] = read_dr7();
	r[AUDIT_CS] = read_cs();
	r[AUDIT_SS] = read_ss();
	r[AUDIT_DS] = read_ds();
	r[AUDIT_ES] = read_es();
	r[AUDIT_FS] = read_fs();
	r[AUDIT_GS] = read_gs();
	r[AUDIT_TR] = read_tr();
	r[AUDIT_LDTR] = read_ldtr();
	r[AUDIT_FS_BASE] = rdmsr(IA32_FS_BASE);
	r[AUDIT_GS_BASE] = rdmsr(IA32_GS_BASE);
	r[AUDIT_GDTR_BASE] = gdtr.base;
	r[AUDIT_GDTR_LIMIT] = gdtr.limit;
	r[AUDIT_IDTR_BASE] = idtr.base;
	r[AUDIT_IDTR_LIMIT] = idtr.limit;
	r[AUDIT_IA32_SYSENTER_CS] = rdmsr(IA32_SYSENTER_CS);
	r[AUDIT_IA32_SYSENTER_ESP] = rdmsr(IA32_SYSENTER_ESP);
	r[AUDIT_IA32_SYSENTER_EIP] = rdmsr(IA32_SYSENTER_EIP);
	r[AUDIT_IA32_EFER] = rdmsr(IA32_EFER);
	r[AUDIT_IA32_PAT] = rdmsr(IA32_PAT);
	r[AUDIT_IA32_DEBUGCTL] = read_msr_or_0(IA32_DEBUGCTL);
}

/* A case may have set a control that must be 0: then nothing is entered, and its fields need not exist. */
static bool loads(enum control control)
{
	return control_allowed(control) && vmcs_has_control(control);
}

/* 30.5.1 Loading Host Control Registers, Debug Registers, MSRs; 30.5.2; 30.5.3. */
static void predict_host(struct audit *audit)
{
	u64 *h = audit->host, *before = audit->before;

	h[AUDIT_CR0] = (vmread(HOST_CR0) & ~CR0_KEPT_AT_EXIT) | (before[AUDIT_CR0] & CR0_KEPT_AT_EXIT);
	h[AUDIT_CR3] = vmread(HOST_CR3);
	h[AUDIT_CR4] = vmread(HOST_CR4);
	h[AUDIT_DR7] = DR7_FIXED;
	h[AUDIT_CS] = vmread(HOST_CS_SELECTOR);
	h[AUDIT_SS] = vmread(HOST_SS_SELECTOR);
	h[AUDIT_DS] = vmread(HOST_DS_SELECTOR);
	h[AUDIT_ES] = vmread(HOST_ES_SELECTOR);
	h[AUDIT_FS] = vmread(HOST_FS_SELECTOR);
	h[AUDIT_GS] = vmread(HOST_GS_SELECTOR);
	h[AUDIT_TR] = vmread(HOST_TR_SELECTOR);
	h[AUDIT_LDTR] = 0;
	h[AUDIT_FS_BASE] = vmread(HOST_FS_BASE);
	h[AUDIT_GS_BASE] = vmread(HOST_GS_BASE);
	h[AUDIT_GDTR_BASE] = vmread(HOST_GDTR_BASE);
	h[AUDIT_GDTR_LIMIT] = 0xffff;
	h[AUDIT_IDTR_BASE] = vmread(HOST_IDTR_BASE);
	h[AUDIT_IDTR_LIMIT] = 0xffff;
	h[AUDIT_IA32_SYSENTER_CS] = vmread(HOST_IA32_SYSENTER_CS);
	h[AUDIT_IA32_SYSENTER_ESP] = vmread(HOST_IA32_SYSENTER_ESP);
	h[AUDIT_IA32_SYSENTER_EIP] = vmread(HOST_IA32_SYSENTER_EIP);
	h[AUDIT_IA32_DEBUGCTL] = 0;
	h[AUDIT_RFLAGS] = RFLAGS_FIXED;

	/* Without these controls the registers keep what the guest had: not predicted. */
	if (loads(CONTROL_EXIT_LOAD_IA32_EFER))
		h[AUDIT_IA32_EFER] = vmread(HOST_IA32_EFER);
	else
		audit->off |= BIT(AUDIT_IA32_EFER);
	if (loads(CONTROL_EXIT_LOAD_IA32_PAT))
		h[AUDIT_IA32_PAT] = vmread(HOST_IA32_PAT);
	else
		audit->off |= BIT(AUDIT_IA32_PAT);
}

void audit_before_entry(struct audit *audit, bool resume, u64 vmcs)
{
	if (!(audit->off & BIT(AUDIT_ENTRY_OUTCOME))) {
		entry_read_input(&audit->entry, resume, vmcs);
		entry_predict(&audit->entry, &audit->predicted);
	}
	read_registers(audit->before);
	predict_host(audit);
	audit->injected = vmread(INJECTED_EVENT_IDENTIFICATION);
}

static bool qualification_is_zero(u16 reason)
{
	switch (reason) {
#define ZERO	true
#define ANY	false
#define EXIT_REASON(number, name, words, qualification, length)			\
	case number: return qualification;
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
#undef ZERO
#undef ANY
	}
	return false;
}

static bool length_is_saved(u16 reason)
{
	switch (reason) {
#define LENGTH	true
#define NONE	false
#define EXIT_REASON(number, name, words, qualification, length)			\
	case number: return length;
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
#undef LENGTH
#undef NONE
	}
	return false;
}

/* Exits that can happen while an event is delivered, and then save that event: 30.2.4. */
static bool may_have_original_event(u16 reason)
{
	switch (reason) {
	case EXIT_EXCEPTION_OR_NMI:
	case EXIT_TASK_SWITCH:
	case EXIT_APIC_ACCESS:
	case EXIT_EPT_VIOLATION:
	case EXIT_EPT_MISCONFIGURATION:
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
	case EXIT_SPP_RELATED_EVENT:
	case EXIT_INSTRUCTION_TIMEOUT:
		return true;
	}
	return false;
}

/* 30.2 Recording VM-Exit Information and Updating VM-Entry Control Fields. */
static void audit_exit_information(struct audit *audit, u16 reason)
{
	u64 length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
	u64 event = vmread(EXITING_EVENT_IDENTIFICATION);

	judge(audit, AUDIT_EXIT_REASON, "after the exit",
	      reason == EXIT_BUS_LOCK ? BIT(26) : 0, vmread(EXIT_REASON) & BITS(31, 16));
	if (qualification_is_zero(reason))
		judge(audit, AUDIT_EXIT_QUALIFICATION, "after the exit", 0,
		      vmread(EXIT_QUALIFICATION));
	if (length_is_saved(reason) && (length < 1 || length > 15))
		judge(audit, AUDIT_INSTRUCTION_LENGTH, "after the exit: 1 to 15", 1, length);
	if (reason == EXIT_EXCEPTION_OR_NMI)
		judge(audit, AUDIT_EXITING_EVENT, "after the exit: valid", 1, FIELD(event, 31, 31));
	else if (reason != EXIT_EXTERNAL_INTERRUPT ||
		 !vmcs_has_control(CONTROL_EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT))
		judge(audit, AUDIT_EXITING_EVENT, "after the exit: valid", 0, FIELD(event, 31, 31));
	if (!may_have_original_event(reason))
		judge(audit, AUDIT_ORIGINAL_EVENT, "after the exit: valid", 0,
		      FIELD(vmread(ORIGINAL_EVENT_IDENTIFICATION), 31, 31));
	judge(audit, AUDIT_INJECTED_EVENT, "after the exit", audit->injected & ~BIT(31),
	      vmread(INJECTED_EVENT_IDENTIFICATION));
}

/* Exits that keep pending debug exceptions: 30.3.4 Saving Non-Register State. */
static bool may_have_pending_debug(u16 reason)
{
	switch (reason) {
	case EXIT_EXCEPTION_OR_NMI:	/* #MC */
	case EXIT_INIT_SIGNAL:
	case EXIT_IO_SMI:
	case EXIT_OTHER_SMI:
	case EXIT_MONITOR_TRAP_FLAG:
	case EXIT_TPR_BELOW_THRESHOLD:
	case EXIT_APIC_ACCESS:
	case EXIT_VIRTUALIZED_EOI:
	case EXIT_EPT_VIOLATION:
	case EXIT_EPT_MISCONFIGURATION:
	case EXIT_APIC_WRITE:
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
	case EXIT_SPP_RELATED_EVENT:
	case EXIT_BUS_LOCK:
		return true;
	}
	return false;
}

/* 30.3.3 Saving RIP, RSP, RFLAGS, and SSP; 30.3.4 Saving Non-Register State. */
static void audit_saved_state(struct audit *audit, u16 reason)
{
	u64 blocking = vmread(GUEST_INTERRUPTIBILITY_STATE);

	/* Those that save a length are the exits by instructions, which only an active guest executes. */
	if (length_is_saved(reason)) {
		judge(audit, AUDIT_RFLAGS_RF, "after the exit", 0,
		      vmread(GUEST_RFLAGS) & RFLAGS_RF);
		judge(audit, AUDIT_ACTIVITY_STATE, "after the exit", ACTIVITY_ACTIVE,
		      vmread(GUEST_ACTIVITY_STATE));
	}
	if (!may_have_pending_debug(reason) && !(blocking & BLOCKING_BY_MOV_SS))
		judge(audit, AUDIT_PENDING_DEBUG, "after the exit", 0,
		      vmread(GUEST_PENDING_DEBUG_EXCEPTIONS));
	judge(audit, AUDIT_BLOCKING_BY_SMI, "after the exit", 0, blocking & BLOCKING_BY_SMI);
}

/* The type that 30.2.2 gives the event with this vector; #DB has two. */
static u64 event_type(u64 event)
{
	switch (event & 0xff) {
	case VECTOR_NMI:
		return 2;
	case VECTOR_DB:
		return FIELD(event, 10, 8) == 5 ? 5 : 3;
	case VECTOR_BP:
	case VECTOR_OF:
		return 6;
	}
	return 3;
}

/* 30.2.2 Information for VM Exits Due to Vectored Events. */
static void audit_exiting_event(struct audit *audit)
{
	u64 event = vmread(EXITING_EVENT_IDENTIFICATION);

	judge(audit, AUDIT_EVENT_RESERVED, "after the exit", 0, event & BITS(30, 14));
	judge(audit, AUDIT_EVENT_TYPE, "after the exit", event_type(event), FIELD(event, 10, 8));
}

/* 29.8 VM-Entry Failures During or After Loading Guest State: reason and qualification only. */
static void audit_entry_failure(struct audit *audit)
{
	judge(audit, AUDIT_EXIT_REASON, "after the entry failure", BIT(31),
	      vmread(EXIT_REASON) & BITS(31, 16));
	judge(audit, AUDIT_INJECTED_EVENT, "after the entry failure", audit->injected,
	      vmread(INJECTED_EVENT_IDENTIFICATION));
}

/* Chapter 29: the outcomes that the model allows, and the rules that it says are broken. */
static void audit_entry_outcome(const struct audit *audit, outcome_t outcome)
{
	const struct entry_prediction *predicted = &audit->predicted;
	char expected[600], got[120], words[120], *p = expected, *end = expected + sizeof(expected);
	const struct entry_rule *rule;
	u32 i;

	if (audit->off & BIT(AUDIT_ENTRY_OUTCOME) || entry_accepts(predicted, outcome))
		return;
	p += format(p, end - p, "%s", predicted->may_enter ? "the guest runs" : "");
	for (i = 0; i < predicted->outcome_count; i++) {
		outcome_words(words, sizeof(words), predicted->outcomes[i]);
		p += format(p, end - p, "%s%s", p > expected ? " or " : "", words);
	}
	for (i = 0; i < predicted->broken_count && i < ENTRY_MAX_BROKEN; i++) {
		rule = &entry_rules[predicted->broken[i]];
		p += format(p, end - p, "; %s (%s: %s)", rule->id, rule->section, rule->words);
	}
	case_fail(NULL, 0, "audit of the VM entry", expected,
		  outcome_words(got, sizeof(got), outcome));
}

void audit_after_entry(struct audit *audit, outcome_t outcome, u64 rflags, u64 rsp)
{
	enum outcome_kind kind = outcome_kind(outcome);
	bool entered = kind == OUTCOME_KIND_EXIT || kind == OUTCOME_KIND_ENTRY_FAILURE;
	u64 now[AUDIT_ITEMS], *expected = entered ? audit->host : audit->before;
	u16 reason = outcome >> 32;
	u32 item;

	audit_entry_outcome(audit, outcome);
	read_registers(now);
	for (item = 0; item <= AUDIT_IA32_DEBUGCTL; item++)
		judge(audit, item, entered ? "of the host state after the exit" :
		      "after the failed entry: unchanged", expected[item], now[item]);
	if (!entered)
		return;
	judge(audit, AUDIT_RSP, "of the host state after the exit", vmread(HOST_RSP), rsp);
	judge(audit, AUDIT_RFLAGS, "of the host state after the exit", audit->host[AUDIT_RFLAGS],
	      rflags);
	if (kind != OUTCOME_KIND_EXIT) {
		audit_entry_failure(audit);
		return;
	}
	audit_exit_information(audit, reason);
	audit_saved_state(audit, reason);
	if (reason == EXIT_EXCEPTION_OR_NMI)
		audit_exiting_event(audit);
}
