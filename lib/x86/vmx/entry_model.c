#include "vmx/entry_families.h"
#include "vmx/entry_rules.h"
#include "vmx/entry_scene.h"
#include "sdm/bits.h"
#include "sdm/msrs.h"

#define F(name) (in->field[INDEX_##name])

/* --- what rules ask -------------------------------------------------------------- */

void entry_set_control(struct entry_input *in, enum control control, bool on)
{
	u32 activation = entry_activation(control);
	u64 *value = &in->field[entry_control_field_index(control_field(control))];

	if (on && activation != CONTROL_NONE)
		entry_set_control(in, activation, true);
	*value = on ? *value | control_bit(control) : *value & ~control_bit(control);
}

u64 entry_reserved_efer(const struct entry_input *in)
{
	u64 defined = EFER_SCE | EFER_LME | EFER_LMA | (in->cpu->nx ? EFER_NXE : 0);

	return ~defined;
}

/* Bits 62:61 belong to linear-address masking, where there is such a thing. */
u64 entry_reserved_cr3(const struct entry_input *in, bool guest)
{
	/* With EPT, keys of memory encryption take nothing from a guest: 29.3.1.1. */
	u32 bits = guest && entry_control(in, CONTROL_PROC2_ENABLE_EPT) ? in->cpu->maxphyaddr :
		   in->cpu->physical_bits;
	u64 reserved = BITS(63, bits);

	if (in->cpu->caps.basic & BIT(48))
		reserved |= BITS(63, 32);
	return in->cpu->lam ? reserved & ~BITS(62, 61) : reserved;
}

/* Volume 1, 18.7: shadow stacks have bits 1:0, indirect-branch tracking the rest. */
u64 entry_reserved_s_cet(const struct entry_input *in)
{
	u64 reserved = BITS(9, 6);

	if (!in->cpu->cet_ss)
		reserved |= BITS(1, 0);
	if (!in->cpu->cet_ibt)
		reserved |= BITS(63, 10) | BITS(5, 2);
	return reserved;
}

/* Volume 4: bits 5:3 and 63:16 are reserved everywhere; bits 15:6 differ from model to model. */
u64 entry_reserved_debugctl(const struct entry_input *in, bool uncertain)
{
	if (uncertain)
		return BITS(15, 6) | DEBUGCTL_BLD;
	return BITS(5, 3) | BITS(63, 16) | (in->cpu->bus_lock_detect ? 0 : DEBUGCTL_BLD);
}

/*
 * Volume 4: each bit is there by a feature flag, but that WRMSR ignores IBRS and STIBP on a
 * processor that has the other one of them.
 */
u64 entry_reserved_spec_ctrl(const struct entry_input *in, bool uncertain)
{
	const u64 either = BITS(1, 0), known = in->cpu->spec_ctrl;
	u64 ignored = known & either ? either & ~known : 0;

	return uncertain ? ignored : ~(known | ignored);
}

/* Table 5-8, Format of a PAE Page-Directory-Pointer-Table Entry. */
u64 entry_reserved_pdpte(const struct entry_input *in)
{
	u32 bits = entry_control(in, CONTROL_PROC2_ENABLE_EPT) ? in->cpu->maxphyaddr :
		   in->cpu->physical_bits;

	return BITS(2, 1) | BITS(8, 5) | BITS(63, bits);
}

u64 entry_dropped_rights(const struct entry_input *in)
{
	return in->cpu->dropped_rights;
}

static bool is_pat(u64 value)
{
	u32 byte;

	for (byte = 0; byte < 8; byte++)
		if (BAD_PAT(value, byte))
			return false;
	return true;
}

enum verdict entry_wrmsr(const struct entry_input *in, u32 index, u64 value)
{
	switch (index) {
	case IA32_FS_BASE:
	case IA32_GS_BASE:
	case IA32_SMM_MONITOR_CTL:
	case IA32_BIOS_SIGN_ID:
	case IA32_BIOS_UPDT_TRIG:
		return KEPT;		/* rules of their own */
	case IA32_PAT:
		return is_pat(value) ? KEPT : BROKEN;
	case IA32_EFER:
		if (value & entry_reserved_efer(in))
			return BROKEN;
		/* LMA follows from LME and CR0.PG. */
		return !(value & EFER_LMA) == entry_control(in, CONTROL_ENTRY_IA_32E_MODE_GUEST) ?
		       UNCERTAIN : KEPT;
	case IA32_SYSENTER_ESP:
	case IA32_SYSENTER_EIP:
	case IA32_LSTAR:
	case IA32_CSTAR:
	case IA32_KERNEL_GS_BASE:
		return KEPT;		/* canonical: a rule of its own */
	case IA32_STAR:
	case IA32_SYSENTER_CS:
	case IA32_TSC:
		return KEPT;
	case IA32_FMASK:
		return value >> 32 ? BROKEN : KEPT;
	case IA32_TSC_AUX:
		return !in->cpu->tsc_aux || value >> 32 ? BROKEN : KEPT;
	case IA32_DEBUGCTL:
		if (value & entry_reserved_debugctl(in, false))
			return BROKEN;
		return value & entry_reserved_debugctl(in, true) ? UNCERTAIN : KEPT;
	}
	/* Of the registers of the APIC another rule says it all. */
	return index >> 8 == 8 ? KEPT : UNCERTAIN;
}

/* --- outcomes ------------------------------------------------------------------ */

#define GUEST_FAILURE(qualification) \
	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, qualification)

/* Where and how an entry fails, by result; 0: no second way. */
static const struct {
	enum entry_stage stage;
	outcome_t outcome, alternative;
} results[] = {
	[RESULT_UD]		= { ENTRY_STAGE_BASIC, OUTCOME_UD, 0 },
	[RESULT_GP0]		= { ENTRY_STAGE_BASIC, OUTCOME_GP0, 0 },
	[RESULT_EXIT]		= { ENTRY_STAGE_BASIC, OUTCOME_EXIT(EXIT_VMLAUNCH), 0 },
	[RESULT_VMFAIL_INVALID]	= { ENTRY_STAGE_BASIC, OUTCOME_VMFAIL_INVALID, 0 },
	[RESULT_BLOCKED]	= { ENTRY_STAGE_BASIC,
				    OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_BLOCKED_BY_MOV_SS), 0 },
	[RESULT_NOT_CLEAR]	= { ENTRY_STAGE_BASIC,
				    OUTCOME_VMFAIL_VALID(VMFAIL_VMLAUNCH_NON_CLEAR_VMCS), 0 },
	[RESULT_NOT_LAUNCHED]	= { ENTRY_STAGE_BASIC,
				    OUTCOME_VMFAIL_VALID(VMFAIL_VMRESUME_NON_LAUNCHED_VMCS), 0 },
	[RESULT_CONTROL]	= { ENTRY_STAGE_VMCS,
				    OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS), 0 },
	[RESULT_HOST]		= { ENTRY_STAGE_VMCS,
				    OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_HOST_STATE), 0 },
	[RESULT_CONTROL_OR_HOST] = { ENTRY_STAGE_VMCS,
				     OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_HOST_STATE),
				     OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS) },
	[RESULT_GUEST]		= { ENTRY_STAGE_GUEST, GUEST_FAILURE(0), 0 },
	[RESULT_GUEST_PDPTE]	= { ENTRY_STAGE_GUEST, GUEST_FAILURE(2), 0 },
	[RESULT_GUEST_NMI]	= { ENTRY_STAGE_GUEST, GUEST_FAILURE(3), 0 },
	[RESULT_GUEST_NMI_OR_0]	= { ENTRY_STAGE_GUEST, GUEST_FAILURE(0), GUEST_FAILURE(3) },
	[RESULT_GUEST_LINK]	= { ENTRY_STAGE_GUEST, GUEST_FAILURE(4), 0 },
	[RESULT_MSR]		= { ENTRY_STAGE_MSR_LOAD, 0, 0 },
};

enum entry_stage entry_result_stage(enum entry_result result)
{
	return results[result].stage;
}

bool entry_result_allows(enum entry_result result, bool resume, outcome_t outcome)
{
	if (result == RESULT_EXIT)
		return outcome == OUTCOME_EXIT(resume ? EXIT_VMRESUME : EXIT_VMLAUNCH);
	if (result == RESULT_MSR)
		return outcome >> 32 ==
		       OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 0) >> 32;
	return outcome == results[result].outcome ||
	       (results[result].alternative && outcome == results[result].alternative);
}

static void add_outcome(struct entry_prediction *prediction, outcome_t outcome)
{
	u32 i;

	for (i = 0; i < prediction->outcome_count; i++)
		if (prediction->outcomes[i] == outcome)
			return;
	if (prediction->outcome_count < ENTRY_MAX_OUTCOMES)
		prediction->outcomes[prediction->outcome_count++] = outcome;
}

static void note_msr(struct entry_prediction *prediction, u32 number)
{
	u64 *word = &prediction->msr_may_fail[(number - 1) / 64], bit = BIT((number - 1) % 64);

	if (!(*word & bit))
		prediction->msr_failures++;
	*word |= bit;
}

static void add_result(struct entry_prediction *prediction, const struct entry_input *in,
		       enum entry_result result, u32 msr_number)
{
	if (result == RESULT_MSR) {
		note_msr(prediction, msr_number);
		return;
	}
	if (result == RESULT_EXIT && in->state.resume)
		add_outcome(prediction, OUTCOME_EXIT(EXIT_VMRESUME));
	else
		add_outcome(prediction, results[result].outcome);
	if (results[result].alternative)
		add_outcome(prediction, results[result].alternative);
}

static void add_broken(struct entry_prediction *prediction, u32 rule)
{
	if (prediction->broken_count < ENTRY_MAX_BROKEN)
		prediction->broken[prediction->broken_count] = rule;
	prediction->broken_count++;
}

/* --- stages -------------------------------------------------------------------- */

/* What the rules of a stage say becomes part of the prediction. */
struct judging {
	struct entry_notes notes;
	struct entry_prediction *prediction;
	const struct entry_input *in;
	u32 msr_number;
	bool broken;
};

static void take(struct entry_notes *notes, u32 rule, enum verdict verdict)
{
	struct judging *judging = (struct judging *)notes;
	struct entry_prediction *prediction = judging->prediction;

	/* 29.1 stops at the first that is broken. */
	if (judging->broken && prediction->stage == ENTRY_STAGE_BASIC)
		return;
	if (judging->in->waived && judging->in->waived[rule])
		return;
	add_result(prediction, judging->in, entry_rules[rule].result, judging->msr_number);
	if (verdict == UNCERTAIN)
		return;
	add_broken(prediction, rule);
	judging->broken = true;
}

/* Applies the rules of prediction->stage; true when the entry must fail by one of them. */
static bool apply(struct entry_prediction *prediction, const struct entry_input *in,
		  const struct entry_msr *msr, u32 msr_number)
{
	struct judging judging = { { take }, prediction, in, msr_number, false };

	entry_judge(prediction->stage, in, msr, &judging.notes);
	return judging.broken;
}

u64 entry_most_msrs(const struct entry_input *in)
{
	return 512 * (FIELD(in->cpu->caps.misc, 27, 25) + 1);
}

/*
 * 29.4: entry by entry, up to the first that must fail. What is in the list beyond the length that
 * A.6 recommends is not asked, for then nobody knows what happens to the first ones either.
 */
static bool apply_msr_list(struct entry_prediction *prediction, const struct entry_input *in)
{
	u64 count = F(VM_ENTRY_MSR_LOAD_COUNT), address = F(VM_ENTRY_MSR_LOAD_ADDRESS);
	struct entry_msr msr;
	u32 i;

	prediction->msr_list_too_long = count > entry_most_msrs(in);
	if (prediction->msr_list_too_long)
		return false;
	for (i = 0; i < count; i++) {
		if (i % 64 == 0)
			prediction->msr_may_fail[i / 64] = 0;
		prediction->msr_entries = i + 1;
		if (!in->read(in->memory, address + 16 * i, 8, &msr.index) ||
		    !in->read(in->memory, address + 16 * i + 8, 8, &msr.value)) {
			add_result(prediction, in, RESULT_MSR, i + 1);
			continue;
		}
		if (apply(prediction, in, &msr, i + 1))
			return true;
	}
	return false;
}

void entry_predict(const struct entry_input *in, struct entry_prediction *prediction)
{
	enum entry_stage stage;

	prediction->may_enter = false;
	prediction->in = in;
	prediction->executes_nothing = false;
	prediction->outcome_count = 0;
	prediction->broken_count = 0;
	prediction->msr_entries = 0;
	prediction->msr_failures = 0;
	prediction->msr_list_too_long = false;
	for (stage = ENTRY_STAGE_BASIC; stage < ENTRY_STAGE_MSR_LOAD; stage++) {
		prediction->stage = stage;
		if (apply(prediction, in, NULL, 0))
			return;
	}
	prediction->stage = ENTRY_STAGE_MSR_LOAD;
	if (apply_msr_list(prediction, in))
		return;
	prediction->stage = ENTRY_STAGE_DONE;
	prediction->may_enter = true;
}

static bool msr_may_fail(const struct entry_prediction *prediction, u64 number)
{
	return number - 1 < prediction->msr_entries &&
	       prediction->msr_may_fail[(number - 1) / 64] & BIT((number - 1) % 64);
}

#define MSR_FAILURE(n)	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, n)

/* Of a list that is too long: any entry of it, and A.6 speaks of machine checks. */
static bool accepts_too_long(outcome_t outcome)
{
	return outcome >> 32 == MSR_FAILURE(0) >> 32 ||
	       outcome >> 32 == OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MACHINE_CHECK, 0) >> 32;
}

bool entry_accepts(const struct entry_prediction *prediction, outcome_t outcome)
{
	u32 reason = outcome >> 32 & 0xffff, i;

	for (i = 0; i < prediction->outcome_count; i++)
		if (prediction->outcomes[i] == outcome)
			return true;
	if (outcome >> 32 == MSR_FAILURE(0) >> 32 && msr_may_fail(prediction, (u32)outcome))
		return true;
	if (prediction->msr_list_too_long)
		return accepts_too_long(outcome) || outcome_kind(outcome) == OUTCOME_KIND_EXIT;
	if (!prediction->may_enter || outcome_kind(outcome) != OUTCOME_KIND_EXIT)
		return false;
	if (prediction->executes_nothing && !entry_exits_by_event(reason))
		return false;
	return outcome == OUTCOME_EXIT(reason) && entry_allows_exit(prediction->in, reason);
}

bool entry_way_to_fail(const struct entry_prediction *prediction, u32 n, outcome_t *outcome)
{
	u32 number, left = n - prediction->outcome_count;

	if (n < prediction->outcome_count) {
		*outcome = prediction->outcomes[n];
		return true;
	}
	for (number = 1; number <= prediction->msr_entries; number++) {
		if (!msr_may_fail(prediction, number) || left--)
			continue;
		*outcome = MSR_FAILURE(number);
		return true;
	}
	return false;
}

bool entry_breaks(const struct entry_prediction *prediction, u32 rule)
{
	u32 i;

	for (i = 0; i < prediction->broken_count && i < ENTRY_MAX_BROKEN; i++)
		if (prediction->broken[i] == rule)
			return true;
	return false;
}
