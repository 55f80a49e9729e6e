/*
 * Lists of MSRs: 29.4 Loading MSRs, 30.4 Saving MSRs, 30.6 Loading MSRs. What an entry of a list is
 * worth is judged by both its quadwords in memory, as the entry found them and as the exit left
 * them, and by the MSR itself before and after.
 */
#include "vmx/exit_lists.h"
#include "vmx/exit_words.h"

/* --- values ----------------------------------------------------------------------------- */

bool exit_lists_msr(const struct exit_list *list, u32 msr)
{
	u32 i;

	for (i = 0; i < list->count; i++)
		if (list->msr[i].index_before == msr)
			return true;
	return false;
}

/* Its list was loaded before the guest could write to it, and before an exit stored there. */
u64 exit_guest_msr(const struct exit_input *x, u32 msr, u64 value)
{
	const struct exit_list *list = &x->entry_load;
	u32 i;

	for (i = 0; i < list->count; i++)
		if (list->msr[i].index_before == msr)
			value = list->msr[i].value_before;
	return value;
}

/* As the exit found it, which may have stored there itself. */
u64 exit_host_msr(const struct exit_input *x, u32 msr, u64 value)
{
	const struct exit_list *list = &x->load;
	u32 i;

	for (i = 0; i < list->count; i++)
		if (list->msr[i].index == msr)
			value = list->msr[i].value;
	return value;
}

/* 29.4, 30.4: with "virtualize IA32_SPEC_CTRL" nobody knows what a list does with that MSR. */
static bool is_undefined(const struct exit_input *x, u32 msr)
{
	const struct entry_input *in = x->entry;

	return msr == IA32_SPEC_CTRL && IS(PROC3, VIRTUALIZE_IA32_SPEC_CTRL);
}

bool exit_guest_msr_is_known(const struct exit_input *x, u32 msr)
{
	return !is_undefined(x, msr) || !exit_lists_msr(&x->entry_load, msr);
}

/* 29.8: a late failure comes before the guest state is loaded, in the middle, or behind it. */
u64 exit_settled_bits(const struct exit_input *x, u32 msr, u64 before, u64 field, u64 guest)
{
	if (exit_lists_msr(&x->load, msr))
		return ALL_BITS;
	if (exit_entered(x))
		return exit_guest_msr_is_known(x, msr) ? ALL_BITS : 0;
	/* Of a list it may have loaded any part. */
	if (exit_lists_msr(&x->entry_load, msr))
		return 0;
	return ~((before ^ guest) | (field ^ guest));
}

/* --- MSRs that do not stay as they are ------------------------------------------------------ */

/*
 * Volume 4. A COUNTER only goes up; DEADLINE turns to 0 when it is over (13.5.4.1); what is
 * RESTLESS, a status, is as it is at the moment.
 */
enum pace { AT_REST, COUNTER, DEADLINE, RESTLESS };

static const struct {
	u32 first, last;
	u8 pace;
} paces[] = {
	{ IA32_TSC, IA32_TSC, COUNTER },
	{ 0x34, 0x34, COUNTER },		/* MSR_SMI_COUNT */
	{ 0x8b, 0x8b, RESTLESS },		/* IA32_BIOS_SIGN_ID: CPUID writes it */
	{ 0xc1, 0xc8, COUNTER },		/* IA32_PMC0 ... */
	{ 0xe7, 0xe8, COUNTER },		/* IA32_MPERF, IA32_APERF */
	{ 0x198, 0x198, RESTLESS },		/* IA32_PERF_STATUS */
	{ 0x19c, 0x19c, RESTLESS },		/* IA32_THERM_STATUS */
	{ 0x1b1, 0x1b1, RESTLESS },		/* IA32_PACKAGE_THERM_STATUS */
	{ 0x309, 0x30f, COUNTER },		/* IA32_FIXED_CTR0 ... */
	{ 0x38e, 0x38e, RESTLESS },		/* IA32_PERF_GLOBAL_STATUS */
	{ 0x390, 0x391, RESTLESS },		/* IA32_PERF_GLOBAL_STATUS_RESET, _SET */
	{ 0x3f8, 0x3ff, COUNTER },		/* time in states of sleep */
	{ 0x4c1, 0x4c8, COUNTER },		/* IA32_A_PMC0 ... */
	{ 0x60d, 0x60d, COUNTER },
	{ 0x630, 0x632, COUNTER },
	{ 0x64e, 0x64e, COUNTER },		/* IA32_PPERF */
	{ IA32_TSC_DEADLINE, IA32_TSC_DEADLINE, DEADLINE },
};

static enum pace pace_of(u32 msr)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(paces); i++)
		if (msr >= paces[i].first && msr <= paces[i].last)
			return paces[i].pace;
	return AT_REST;
}

/* 20.17.3: to write IA32_TSC changes IA32_TSC_ADJUST, and the other way round. */
static bool list_moves(const struct exit_list *list, u32 msr)
{
	return exit_lists_msr(list, msr) ||
	       (msr == IA32_TSC && exit_lists_msr(list, IA32_TSC_ADJUST)) ||
	       (msr == IA32_TSC_ADJUST && exit_lists_msr(list, IA32_TSC));
}

/* MSRs that the exit itself may give another value, between the store and the look at them. */
static bool belongs_to_host_state(u32 msr)
{
	switch (msr) {
#define EXIT_REGISTER(name, words)
#define EXIT_MSR(name, words, index, when) case index:
#include "vmx/exit_registers.def"
#undef EXIT_REGISTER
#undef EXIT_MSR
		return true;
	}
	return false;
}

/* --- claims -------------------------------------------------------------------------------- */

struct judge {
	const struct exit_input *x;
	exit_report *report;
	void *context;
};

static void claim_bits(const struct judge *judge, u32 rule, u32 subject, u64 got, u64 bits,
		       u64 value)
{
	const struct exit_claim claim = {
		.rule = rule, .subject = subject, .got = got, .bits = bits, .value = value,
	};

	judge->report(judge->context, &claim);
}

static void claim_range(const struct judge *judge, u32 rule, u32 subject, u64 got, u64 low,
			u64 high)
{
	const struct exit_claim claim = {
		.rule = rule, .subject = subject, .range = true, .got = got, .low = low,
		.high = high,
	};

	judge->report(judge->context, &claim);
}

/* --- 30.4 Saving MSRs --------------------------------------------------------------------- */

/*
 * MSRs that have a field, and are saved there just before: SAVED(msr, field, when).
 */
static bool saved_value(const struct exit_input *x, u32 msr, u64 *value)
{
	const struct entry_input *in = x->entry;

	switch (msr) {
#define SAVED(name, when)							\
	case IA32_##name:							\
		*value = NOW(GUEST_IA32_##name);				\
		return when;
#define SAVED_BASE(name)							\
	case IA32_##name:							\
		*value = NOW(GUEST_##name);					\
		return true;
#define SAVED_FRED(name) SAVED(FRED_##name, IS(EXIT2, SAVE_FRED))
	SAVED(EFER, IS(EXIT, SAVE_IA32_EFER))
	SAVED(PAT, IS(EXIT, SAVE_IA32_PAT))
	SAVED(DEBUGCTL, IS(EXIT, SAVE_DEBUG_CONTROLS))
	SAVED(PERF_GLOBAL_CTRL, IS(EXIT, SAVE_IA32_PERF_GLOBAL_CTL))
	SAVED(SYSENTER_CS, true)
	SAVED(SYSENTER_ESP, true)
	SAVED(SYSENTER_EIP, true)
	SAVED(BNDCFGS, MAY_BE(ENTRY, LOAD_IA32_BNDCFGS) || MAY_BE(EXIT, CLEAR_IA32_BNDCFGS))
	SAVED(RTIT_CTL, MAY_BE(ENTRY, LOAD_IA32_RTIT_CTL) || MAY_BE(EXIT, CLEAR_IA32_RTIT_CTL))
	SAVED(LBR_CTL,
	      MAY_BE(ENTRY, LOAD_GUEST_IA32_LBR_CTL) || MAY_BE(EXIT, CLEAR_IA32_LBR_CTL))
	SAVED(S_CET, MAY_BE(ENTRY, LOAD_CET_STATE))
	SAVED(INTERRUPT_SSP_TABLE_ADDR, MAY_BE(ENTRY, LOAD_CET_STATE))
	SAVED(PKRS, MAY_BE(ENTRY, LOAD_PKRS))
	SAVED(SPEC_CTRL, MAY_BE(ENTRY, LOAD_IA32_SPEC_CTRL))
	SAVED_FRED(CONFIG)
	SAVED_FRED(RSP1)
	SAVED_FRED(RSP2)
	SAVED_FRED(RSP3)
	SAVED_FRED(STKLVLS)
	SAVED_FRED(SSP1)
	SAVED_FRED(SSP2)
	SAVED_FRED(SSP3)
	SAVED_BASE(FS_BASE)
	SAVED_BASE(GS_BASE)
#undef SAVED
#undef SAVED_BASE
#undef SAVED_FRED
	}
	return false;
}

/* 27.6.5: what the guest sees of the time-stamp counter. */
static u64 tsc_of_guest(const struct exit_input *x, u64 tsc)
{
	const struct entry_input *in = x->entry;

	if (!IS(PROC1, USE_TSC_OFFSETTING))
		return tsc;
	if (IS(PROC2, USE_TSC_SCALING))
		tsc = (unsigned __int128)tsc * F(TSC_MULTIPLIER) >> 48;
	return tsc + F(TSC_OFFSET);
}

/*
 * A counter is stored with a value between that of the entry, which may have loaded it, and that
 * of now, unless the exit has loaded it since. 30.4 does not say whether the TSC is that of the
 * guest, "as RDMSR would read it", so both will do.
 */
static void judge_counter(const struct judge *judge, u32 subject, const struct exit_listed_msr *msr)
{
	const struct exit_input *x = judge->x;
	u64 low = exit_guest_msr(x, msr->index, msr->had), high = msr->now;
	u64 low_of_guest, high_of_guest;

	if (list_moves(&x->entry_load, msr->index) && !exit_lists_msr(&x->entry_load, msr->index))
		low = 0;
	if (list_moves(&x->load, msr->index))
		high = ALL_BITS;
	if (msr->index == IA32_TSC && msr->value - low > high - low) {
		low_of_guest = tsc_of_guest(x, low);
		high_of_guest = tsc_of_guest(x, high);
		if (msr->value - low_of_guest <= high_of_guest - low_of_guest)
			return;
	}
	/* It has gone round, or the guest has set it back. */
	if (low > high)
		return;
	claim_range(judge, EXIT_RULE_store_counter, subject, msr->value, low, high);
}

static void judge_stored_value(const struct judge *judge, u32 subject,
			       const struct exit_listed_msr *msr)
{
	const struct exit_input *x = judge->x;
	u64 value, bits = msr->index == IA32_SYSENTER_CS ? BITS(31, 0) : ALL_BITS;

	if (is_undefined(x, msr->index))
		return;
	if (saved_value(x, msr->index, &value)) {
		claim_bits(judge, EXIT_RULE_store_order, subject, msr->value, bits, value);
		return;
	}
	if (!msr->readable)
		return;
	switch (pace_of(msr->index)) {
	case COUNTER:
		judge_counter(judge, subject, msr);
		return;
	case DEADLINE:
		/* It may be over since then, not begin. */
		if (msr->now && !list_moves(&x->load, msr->index))
			claim_bits(judge, EXIT_RULE_store_order, subject, msr->value, bits,
				   msr->now);
		return;
	case RESTLESS:
		return;
	case AT_REST:
		if (!list_moves(&x->load, msr->index) && !belongs_to_host_state(msr->index))
			claim_bits(judge, EXIT_RULE_store_order, subject, msr->value, bits,
				   msr->now);
	}
}

static void judge_store(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	const struct exit_listed_msr *msr;
	u32 i;

	for (i = 0; i < x->store.count; i++) {
		msr = &x->store.msr[i];
		claim_bits(judge, EXIT_RULE_store_index, EXIT_SUBJECT_STORE_INDEX + i, msr->index,
			   ALL_BITS, msr->index_before);
		if (!exit_entered(x)) {
			claim_bits(judge, EXIT_RULE_failure_msr_store, EXIT_SUBJECT_STORE + i,
				   msr->value, ALL_BITS, msr->value_before);
			continue;
		}
		/* It would have been a VMX abort: 30.7. */
		claim_bits(judge, EXIT_RULE_store_reserved, EXIT_SUBJECT_STORE_INDEX + i,
			   msr->index_before, BITS(63, 32), 0);
		if (!(msr->index_before >> 32))
			judge_stored_value(judge, EXIT_SUBJECT_STORE + i, msr);
	}
}

/* --- 30.6 Loading MSRs -------------------------------------------------------------------- */

/* How far a counter may have come between the exit and the look at it: minutes. */
#define LOOKED_AT_WITHIN	BIT(40)

/* Bits that WRMSR writes and RDMSR reads. Volume 4: bits 31:16 of IA32_SYSENTER_CS are not used. */
static u64 bits_kept(u32 msr)
{
	switch (msr) {
	case IA32_SYSENTER_CS:
		return ~BITS(31, 16);
	case IA32_EFER:
		return ~EFER_LMA;	/* it follows from LME and CR0.PG */
	}
	return ALL_BITS;
}

static void judge_loaded_value(const struct judge *judge, u32 subject,
			       const struct exit_listed_msr *msr)
{
	const struct exit_input *x = judge->x;
	u32 rule = exit_entered(x) ? EXIT_RULE_load_order : EXIT_RULE_failure_msr_load;
	u64 value = exit_host_msr(x, msr->index, msr->value);

	switch (pace_of(msr->index)) {
	case COUNTER:
		/* The TSC takes all 64 bits; how wide others are, and how signed, is open. */
		if (msr->index == IA32_TSC ? !exit_lists_msr(&x->load, IA32_TSC_ADJUST) :
		    !(value >> 31))
			claim_range(judge, rule, subject, msr->now, value,
				    value > ~LOOKED_AT_WITHIN ? ALL_BITS :
				    value + LOOKED_AT_WITHIN);
		return;
	case DEADLINE:
		if (msr->now)
			claim_bits(judge, rule, subject, msr->now, ALL_BITS, value);
		return;
	case RESTLESS:
		return;
	case AT_REST:
		if (msr->index != IA32_TSC_ADJUST || !exit_lists_msr(&x->load, IA32_TSC))
			claim_bits(judge, rule, subject, msr->now, bits_kept(msr->index), value);
	}
}

static void judge_load(const struct judge *judge)
{
	const struct exit_input *x = judge->x;
	const struct exit_listed_msr *msr;
	u32 i;

	for (i = 0; i < x->load.count; i++) {
		msr = &x->load.msr[i];
		claim_bits(judge, EXIT_RULE_load_reserved, EXIT_SUBJECT_LOAD_INDEX + i, msr->index,
			   BITS(63, 32), 0);
		if (!(msr->index >> 32) && msr->readable)
			judge_loaded_value(judge, EXIT_SUBJECT_LOAD + i, msr);
	}
}

void exit_judge_lists(const struct exit_input *x, exit_report *report, void *context)
{
	const struct judge judge = { .x = x, .report = report, .context = context };

	judge_store(&judge);
	judge_load(&judge);
}

bool exit_lists_are_kept(const struct exit_input *x)
{
	if (x->host_only)
		return x->load.listed <= EXIT_MAX_LISTED;
	switch (outcome_kind(x->outcome)) {
	case OUTCOME_KIND_EXIT:
		return x->entry_load.listed <= EXIT_MAX_LISTED &&
		       x->store.listed <= EXIT_MAX_LISTED && x->load.listed <= EXIT_MAX_LISTED;
	case OUTCOME_KIND_ENTRY_FAILURE:
		return x->load.listed <= EXIT_MAX_LISTED;
	default:
		return true;
	}
}
