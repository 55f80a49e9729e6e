/*
 * Control-flow enforcement for the emulator: shadow stacks and indirect branch tracking, volume 1,
 * chapter 17 (Control-Flow Enforcement Technology), as CALL and JMP of volume 2 use them.
 */
#include "hv/emulate.h"
#include "vmx/guest.h"

static u32 msr_of_cpl(void)
{
	return hv_cpl() == 3 ? IA32_U_CET : IA32_S_CET;
}

/* What CET does at this CPL: bits of IA32_U_CET or IA32_S_CET; nothing without CR4.CET. */
static u64 settings(const struct job *job)
{
	u64 value = 0;

	if (!(hv_cr4() & CR4_CET) || !(hv_cr0() & CR0_PE) || job->flags & RFLAGS_VM ||
	    hv_msr_get(job->vcpu, msr_of_cpl(), &value) != HV_MSR_DONE)
		return 0;
	return value;
}

bool emu_has_shadow_stack(const struct job *job)
{
	return settings(job) & CET_SH_STK_EN;
}

/* ShadowStackPush4B, ShadowStackPush8B. */
enum step emu_shadow_push(struct job *job, u64 value, u32 size)
{
	u64 top = vmcs_get(GUEST_SSP) - size;
	enum step step = emu_shadow_access(job, top, value, size);

	if (step == STEP_DONE)
		vmcs_put(GUEST_SSP, top);
	return step;
}

/* EndbranchEnabledAndNotSuppressed; 3EH is the no-track prefix where NO_TRACK_EN lets it be. */
void emu_track_branch(struct job *job)
{
	u64 value = settings(job);

	if (!(value & CET_ENDBR_EN) || value & CET_SUPPRESS ||
	    (job->insn.no_track && value & CET_NO_TRACK_EN))
		return;
	hv_msr_set(job->vcpu, msr_of_cpl(), value | CET_TRACKER, true);
}
