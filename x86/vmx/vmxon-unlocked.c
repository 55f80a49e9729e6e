/*
 * VMXON while IA32_FEATURE_CONTROL is not locked: 26.7 Enabling and Entering VMX Operation.
 *
 * Firmware locks the MSR, and once bit 0 is 1 it stays 1 until the processor is reset. So nothing
 * in this image ever sets it: where nobody has done so before, as when an image is booted from a
 * ROM instead of by firmware, each case finds the MSR open, alone or in any order. Elsewhere all
 * are skipped.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "vmx/vmx.h"

/* A linear address that is not mapped: behind the first 4 GBytes. */
#define NOT_MAPPED	0x500000000ull

static void prepare_unlocked(void)
{
	u64 value;

	if (rdmsr_safe(IA32_FEATURE_CONTROL, &value) == OUTCOME_DONE &&
	    value & FEATURE_CONTROL_LOCK)
		case_skip("IA32_FEATURE_CONTROL bit 0 (lock) clear; the loader has set it");
	vmx_prepare_but_feature_control();
}
BEFORE_EACH_CASE(prepare_unlocked);

static outcome_t vmxon_with(u64 feature_control)
{
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, feature_control), OUTCOME_DONE);
	return vmxon((u64)this_vmx()->vmxon_region);
}

CASE(vmxon_while_unlocked, PROVES("vmx-instructions:vmxon.feature_control_unlocked"), NEEDS(VMX))
{
	EXPECT(vmxon_with(0), OUTCOME_GP0);
}

/* Bit 2, "VMX outside SMX operation", means nothing without the lock. */
CASE(vmxon_while_enabled_but_unlocked, PROVES("vmx-instructions:vmxon.feature_control_unlocked",
     "vmx-capabilities:feature_control.lock"), NEEDS(VMX))
{
	EXPECT(vmxon_with(FEATURE_CONTROL_VMX), OUTCOME_GP0);
}

/* The MSR is checked before the operand is read. */
CASE(lock_comes_before_the_operand, PROVES("vmx-instructions:vmxon.feature_control_unlocked"),
     NEEDS(VMX))
{
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX), OUTCOME_DONE);
	EXPECT(VMX_ATTEMPT("vmxon (%[a])", : [a] "r" (NOT_MAPPED) : "cc", "memory"),
	       OUTCOME_GP0);
}

CASE(unlocked_msr_can_be_written, PROVES("vmx-capabilities:feature_control.lock",
     "vmx-capabilities:feature_control.vmxon_outside_smx"), NEEDS(VMX))
{
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_FEATURE_CONTROL), FEATURE_CONTROL_VMX);
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, 0), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_FEATURE_CONTROL), 0);
}

/* A processor without SMX refuses the bit that allows VMXON in SMX operation. */
CASE(smx_bit_needs_smx, PROVES("vmx-capabilities:feature_control.vmxon_in_smx"),
     NEEDS(VMX, NO_CPU(SMX)))
{
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX_IN_SMX), OUTCOME_GP0);
}

CASE(smx_bit_can_be_written, PROVES("vmx-capabilities:feature_control.vmxon_in_smx"),
     NEEDS(VMX, CPU(SMX)))
{
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX_IN_SMX), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_FEATURE_CONTROL), FEATURE_CONTROL_VMX_IN_SMX);
}
