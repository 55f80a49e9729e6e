/* The rule book as data: entry_rules*.def, one function per rule. */
#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"

/* The virtual-APIC page holds the TPR of the guest: 32.1.1 Virtualized APIC Registers. */
enum verdict entry_below_threshold(const struct entry_input *in)
{
	u64 vtpr;

	if (!IS(PROC1, USE_TPR_SHADOW) || IS(PROC2, VIRTUAL_INTERRUPT_DELIVERY))
		return KEPT;
	if (!in->read(in->memory, F(VIRTUAL_APIC_ADDRESS) + 0x80, 4, &vtpr))
		return UNCERTAIN;
	return FIELD(F(TPR_THRESHOLD), 3, 0) > FIELD(vtpr, 7, 4) ? BROKEN : KEPT;
}

/* 29.2.1.1: with "virtualize APIC accesses" it exits behind the entry instead, 29.7.7. */
static enum verdict entry_threshold(const struct entry_input *in)
{
	if (IS(PROC2, VIRTUALIZE_APIC_ACCESSES))
		return KEPT;
	/* An address that is wrong by itself. */
	if (F(VIRTUAL_APIC_ADDRESS) & BITS(11, 0) || entry_too_wide(in, F(VIRTUAL_APIC_ADDRESS)))
		return KEPT;
	return entry_below_threshold(in);
}

/* 29.3.1.5: the doubleword that the link pointer leads to. */
static enum verdict entry_link_word(const struct entry_input *in, u64 mask, u64 want)
{
	u64 word;

	if (!in->read(in->memory, F(VMCS_LINK_POINTER), 4, &word))
		return UNCERTAIN;
	return (word & mask) != want ? BROKEN : KEPT;
}

/* 29.3.1.6: bits 31:5 of CR3 are the address of the four. */
static enum verdict entry_pdptes_in_memory(const struct entry_input *in)
{
	u64 pdpte;
	u32 i;

	for (i = 0; i < 4; i++) {
		if (!in->read(in->memory, (F(GUEST_CR3) & BITS(31, 5)) + 8 * i, 8, &pdpte))
			return UNCERTAIN;
		if (pdpte & 1 && pdpte & entry_reserved_pdpte(in))
			return BROKEN;
	}
	return KEPT;
}

static bool entry_msr_is_address(u32 index)
{
	switch (index) {
	case IA32_SYSENTER_ESP:
	case IA32_SYSENTER_EIP:
	case IA32_LSTAR:
	case IA32_CSTAR:
	case IA32_KERNEL_GS_BASE:
		return true;
	}
	return false;
}

/*
 * One function for the rules of each stage: there are hundreds, and each entry that is audited asks
 * them all. A rule that is kept costs a few instructions.
 */
#define NOTE(name, verdict)	notes->take(notes, ENTRY_RULE_##name, verdict)
#define OPEN_RULE(name, id, section, result, words, needs, broken, uncertain, ...)	\
	if (broken)									\
		NOTE(name, BROKEN);							\
	else if (uncertain)								\
		NOTE(name, UNCERTAIN);
#define RULE(name, id, section, result, words, needs, broken, ...)			\
	if (broken)									\
		NOTE(name, BROKEN);

static void judge_basic(const struct entry_input *in, struct entry_notes *notes)
{
#include "vmx/entry_rules_basic.def"
}

static void judge_vmcs(const struct entry_input *in, struct entry_notes *notes)
{
#include "vmx/entry_rules_controls.def"
#include "vmx/entry_rules_exit_entry.def"
#include "vmx/entry_rules_host.def"
}

static void judge_guest(const struct entry_input *in, struct entry_notes *notes)
{
#include "vmx/entry_rules_guest_registers.def"
#include "vmx/entry_rules_guest_segments.def"
#include "vmx/entry_rules_guest_state.def"
}

static void judge_msr(const struct entry_input *in, const struct entry_msr *msr,
		      struct entry_notes *notes)
{
#include "vmx/entry_rules_msr_load.def"
}
#undef OPEN_RULE
#undef ALLOWED
#undef RULE

void entry_judge(enum entry_stage stage, const struct entry_input *in, const struct entry_msr *msr,
		 struct entry_notes *notes)
{
	switch (stage) {
	case ENTRY_STAGE_BASIC:
		judge_basic(in, notes);
		break;
	case ENTRY_STAGE_VMCS:
		judge_vmcs(in, notes);
		break;
	case ENTRY_STAGE_GUEST:
		judge_guest(in, notes);
		break;
	case ENTRY_STAGE_MSR_LOAD:
		judge_msr(in, msr, notes);
		break;
	case ENTRY_STAGE_DONE:
		break;
	}
}

const struct entry_rule entry_rules[ENTRY_RULES] = {
#define RULE(name, id, section, result, words, needs, broken, ...) \
	[ENTRY_RULE_##name] = { id, section, words, RESULT_##result },
#include "vmx/entry_rules.def"
};
