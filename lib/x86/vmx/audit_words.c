/* The subjects of the audit, and their values, in words. */
#include "fmt.h"
#include "sdm/bits.h"
#include "vmx/audit.h"
#include "vmx/entry_rules.h"
#include "vmx/exit_reader.h"

static const char *const register_words[EXIT_REGISTERS] = {
#define EXIT_REGISTER(name, words)		words,
#define EXIT_MSR(name, words, index, when)	words,
#include "vmx/exit_registers.def"
#undef EXIT_REGISTER
#undef EXIT_MSR
};

const char *audit_subject(char *to, size_t size, u16 subject)
{
	static const char *const lists[] = {
		"MSR-store entry %u", "MSR-store entry %u, bits 63:0", "MSR of MSR-load entry %u",
		"MSR-load entry %u, bits 63:0",
	};

	if (subject < VMCS_FIELDS)
		return exit_field_name(subject);
	if (subject < EXIT_SUBJECT_STORE)
		return register_words[subject - EXIT_SUBJECT_REGISTER];
	format(to, size, lists[(subject - EXIT_SUBJECT_STORE) >> 12], (subject & 0xfff) + 1);
	return to;
}

static const struct bit_name blocking_bits[] = {
	{ BLOCKING_BY_STI, "blocking by STI" }, { BLOCKING_BY_MOV_SS, "blocking by MOV SS" },
	{ BLOCKING_BY_SMI, "blocking by SMI" }, { BLOCKING_BY_NMI, "blocking by NMI" },
	{ ENCLAVE_INTERRUPTION, "enclave interruption" }, { 0, NULL },
};
static const struct bit_name pending_bits[] = {
	{ BIT(0), "B0" }, { BIT(1), "B1" }, { BIT(2), "B2" }, { BIT(3), "B3" },
	{ PENDING_BLD, "BLD" },
	{ PENDING_ENABLED, "enabled breakpoint" }, { PENDING_BS, "BS" }, { PENDING_RTM, "RTM" },
	{ 0, NULL },
};
static const struct bit_name efer_bits[] = {
	{ EFER_SCE, "SCE" }, { EFER_LME, "LME" }, { EFER_LMA, "LMA" }, { EFER_NXE, "NXE" },
	{ 0, NULL },
};
static const struct bit_name cr0_bits[] = {
	{ CR0_PE, "PE" }, { CR0_MP, "MP" }, { CR0_EM, "EM" }, { CR0_TS, "TS" }, { CR0_ET, "ET" },
	{ CR0_NE, "NE" }, { CR0_WP, "WP" }, { CR0_AM, "AM" }, { CR0_NW, "NW" }, { CR0_CD, "CD" },
	{ CR0_PG, "PG" }, { 0, NULL },
};
static const struct bit_name rflags_bits[] = {
	{ RFLAGS_CF, "CF" }, { RFLAGS_FIXED, "bit 1" }, { RFLAGS_PF, "PF" }, { RFLAGS_AF, "AF" },
	{ RFLAGS_ZF, "ZF" }, { RFLAGS_SF, "SF" }, { RFLAGS_TF, "TF" }, { RFLAGS_IF, "IF" },
	{ RFLAGS_DF, "DF" }, { RFLAGS_OF, "OF" }, { RFLAGS_NT, "NT" }, { RFLAGS_RF, "RF" },
	{ RFLAGS_VM, "VM" }, { RFLAGS_AC, "AC" }, { RFLAGS_ID, "ID" }, { 0, NULL },
};

static const struct bit_name *names_of(u16 subject)
{
	switch (subject) {
	case INDEX_GUEST_INTERRUPTIBILITY_STATE:
		return blocking_bits;
	case INDEX_GUEST_PENDING_DEBUG_EXCEPTIONS:
		return pending_bits;
	case INDEX_GUEST_IA32_EFER:
	case EXIT_SUBJECT_REGISTER + EXIT_REGISTER_EFER:
		return efer_bits;
	case INDEX_GUEST_CR0:
	case EXIT_SUBJECT_REGISTER + EXIT_REGISTER_CR0:
		return cr0_bits;
	case INDEX_GUEST_RFLAGS:
	case EXIT_SUBJECT_REGISTER + EXIT_REGISTER_RFLAGS:
		return rflags_bits;
	}
	return NULL;
}

static void rights_words(char *to, size_t size, u64 rights)
{
	format(to, size, "%stype %u, S %u, DPL %u, P %u, L %u, D/B %u, G %u (%#lx)",
	       rights & RIGHTS_UNUSABLE ? "unusable, " : "", (u32)RIGHTS_TYPE(rights),
	       (u32)FIELD(rights, 4, 4), (u32)RIGHTS_DPL(rights), (u32)FIELD(rights, 7, 7),
	       (u32)FIELD(rights, 13, 13), (u32)FIELD(rights, 14, 14), (u32)FIELD(rights, 15, 15),
	       rights);
}

static void event_words(char *to, size_t size, u64 event)
{
	static const char *const types[] = {
		"external interrupt", "type 1", "NMI", "hardware exception", "software interrupt",
		"privileged software exception", "software exception", "other event",
	};

	format(to, size, "%s, %s, vector %u%s (%#lx)", event & BIT(31) ? "valid" : "not valid",
	       types[FIELD(event, 10, 8)], (u32)FIELD(event, 7, 0),
	       event & BIT(11) ? ", error code" : "", event);
}

static void activity_words(char *to, size_t size, u64 activity)
{
	static const char *const states[] = { "active", "HLT", "shutdown", "wait-for-SIPI" };

	format(to, size, "%s (%lu)", activity < ARRAY_SIZE(states) ? states[activity] : "no state",
	       activity);
}

const char *audit_value(char *to, size_t size, u16 subject, u64 value)
{
	const struct bit_name *names = names_of(subject);

	if (names)
		return value ? format_bits(to, size, value, names) : format_number(to, size, 0);
	if (subject >= INDEX_GUEST_ES_ACCESS_RIGHTS && subject <= INDEX_GUEST_TR_ACCESS_RIGHTS)
		rights_words(to, size, value);
	else if (subject == INDEX_EXITING_EVENT_IDENTIFICATION ||
		 subject == INDEX_ORIGINAL_EVENT_IDENTIFICATION ||
		 subject == INDEX_INJECTED_EVENT_IDENTIFICATION)
		event_words(to, size, value);
	else if (subject == INDEX_GUEST_ACTIVITY_STATE)
		activity_words(to, size, value);
	else if (subject == INDEX_EXIT_REASON)
		format(to, size, "%s%s (%#lx)", value & BIT(31) ? "entry failure, " : "",
		       exit_reason_name(value), value);
	else
		return format_number(to, size, value);
	return to;
}

#define WAYS_NAMED	6

static size_t exit_prediction_words(char *to, size_t size, const struct entry_prediction *predicted)
{
	char words[120];
	u32 first = entry_first_exit(predicted->in);

	if (predicted->msr_list_too_long)
		return format(to, size, "whatever comes of so long a list of MSRs");
	if (first == ENTRY_ANY_EXIT)
		return format(to, size, predicted->executes_nothing ?
			      "an exit that takes no instruction, and that the controls allow" :
			      "an exit that the controls allow");
	outcome_words(words, sizeof(words), OUTCOME_EXIT(first));
	return format(to, size, "%s", words);
}

void entry_prediction_words(char *to, size_t size, const struct entry_prediction *predicted)
{
	char words[120], *p = to, *end = to + size;
	const struct entry_rule *rule;
	outcome_t way;
	u32 i;

	if (predicted->may_enter)
		p += exit_prediction_words(p, end - p, predicted);
	for (i = 0; i < WAYS_NAMED && entry_way_to_fail(predicted, i, &way); i++) {
		outcome_words(words, sizeof(words), way);
		p += format(p, end - p, "%s%s", p > to ? " or " : "", words);
	}
	if (predicted->outcome_count + predicted->msr_failures > WAYS_NAMED)
		p += format(p, end - p, " or one of %u more ways to fail",
			    predicted->outcome_count + predicted->msr_failures - WAYS_NAMED);
	for (i = 0; i < predicted->broken_count && i < ENTRY_MAX_BROKEN; i++) {
		rule = &entry_rules[predicted->broken[i]];
		p += format(p, end - p, "; %s (%s: %s)", rule->id, rule->section, rule->words);
	}
}
