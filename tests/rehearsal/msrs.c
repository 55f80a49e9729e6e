#include "rehearsal/rehearsal.h"

/* The MSRs that are pretended. */
struct msr {
	u32 index;
	u64 value;
	u32 guest, host;		/* VMCS fields; 0: none */
	enum control load, save, at_exit;
	enum fault not_loaded, not_saved, kept;
};

static struct msr msrs[] = {
#define PRETEND_STATE(msr, load, save, at_exit, host)				\
	{ msr, 0, GUEST_##msr, host, load, save, at_exit,			\
	  FAULT_ignores_##msr##_at_entry, FAULT_forgets_##msr, FAULT_keeps_##msr##_at_exit },
#define PRETEND_MSR(name, index)						\
	{ index, 0, 0, 0, CONTROL_NONE, CONTROL_NONE, CONTROL_NONE, FAULTS, FAULTS, FAULTS },
#include "rehearsal/processor.def"
};

#define EACH_MSR(msr)	(msr = msrs; msr < msrs + ARRAY_SIZE(msrs); msr++)

u64 *pretended_msr(u32 index)
{
	struct msr *msr;

	for EACH_MSR(msr)
		if (msr->index == index)
			return &msr->value;
	return NULL;
}

void pretended_msr_write(u32 index, u64 value)
{
	u64 *msr = pretended_msr(index), before = *msr;

	*msr = value;
	branches_msr_written(index, before, value);
}

void pretended_msrs(void (*each)(u32 index))
{
	struct msr *msr;

	for EACH_MSR(msr)
		each(msr->index);
}

/* --- RDMSR and WRMSR of the host ------------------------------------------------------------- */

outcome_t rehearsed_rdmsr_safe(u32 index, u64 *value)
{
	const u64 *msr = pretended_msr(index);
	outcome_t outcome = OUTCOME_DONE;

	*value = msr ? *msr : 0;
	if (!msr && capability_is_real(index))
		outcome = rdmsr_safe(index, value);
	if (outcome == OUTCOME_DONE)
		pretend_capability(index, value);
	return outcome;
}

outcome_t rehearsed_wrmsr_safe(u32 index, u64 value)
{
	if (!pretended_msr(index))
		return wrmsr_safe(index, value);
	pretended_msr_write(index, value);
	return OUTCOME_DONE;
}

u64 rehearsed_rdmsr(u32 index)
{
	u64 value;

	if (!pretended_msr(index) && capability_is_real(index))
		value = rdmsr(index);
	else
		rehearsed_rdmsr_safe(index, &value);
	pretend_capability(index, &value);
	return value;
}

void rehearsed_wrmsr(u32 index, u64 value)
{
	if (pretended_msr(index))
		pretended_msr_write(index, value);
	else
		wrmsr(index, value);
}

/* --- VMX transitions ------------------------------------------------------------------------- */

static bool always_or_on(enum control control)
{
	return control == CONTROL_NONE || control_on(control);
}

/* 29.3.2.1 Loading Guest Control Registers, Debug Registers, and MSRs. */
void msrs_load(void)
{
	struct msr *msr;

	for EACH_MSR(msr)
		if (msr->guest && control_on(msr->load) && !fault(msr->not_loaded))
			msr->value = field_get(msr->guest);
}

/* 30.3.1 Saving Control Registers, Debug Registers, and MSRs. */
void msrs_save(void)
{
	struct msr *msr;

	for EACH_MSR(msr)
		if (msr->guest && always_or_on(msr->save) && !fault(msr->not_saved))
			field_put(msr->guest, msr->value);
}

/* 30.5.1 Loading Host Control Registers, Debug Registers, MSRs. */
void msrs_to_host(void)
{
	struct msr *msr;

	for EACH_MSR(msr)
		if (msr->guest && always_or_on(msr->at_exit) && !fault(msr->kept))
			msr->value = msr->host ? field_get(msr->host) : 0;
}

static u64 remembered[ARRAY_SIZE(msrs)];

void msrs_remember(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		remembered[i] = msrs[i].value;
}

void msrs_recall(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		msrs[i].value = remembered[i];
}
