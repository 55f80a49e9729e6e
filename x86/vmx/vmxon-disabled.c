/*
 * VMXON when IA32_FEATURE_CONTROL is locked with VMX switched off, as a firmware menu does it: 26.7
 * Enabling and Entering VMX Operation.
 *
 * Each case begins by locking the MSR with bits 1 and 2 clear, or finds that a case before it has
 * done so: alone or in any order, they see the same. Where firmware has locked it with VMX on, all
 * are skipped.
 */
#include "cpu/safe.h"
#include "vmx/vmx.h"

/* A linear address that is not mapped: behind the first 4 GBytes. */
#define NOT_MAPPED	0x500000000ull

static void prepare_disabled(void)
{
	u64 value = 0;

	if (rdmsr_safe(IA32_FEATURE_CONTROL, &value) == OUTCOME_DONE &&
	    !(value & FEATURE_CONTROL_LOCK))
		wrmsr_safe(IA32_FEATURE_CONTROL, FEATURE_CONTROL_LOCK);
	else if (value & FEATURE_CONTROL_VMX)
		case_skip("IA32_FEATURE_CONTROL bit 2 (VMX) clear; the loader has locked it set");
	vmx_prepare_but_feature_control();
}
BEFORE_EACH_CASE(prepare_disabled);

CASE(vmxon_while_disabled, PROVES("vmx-instructions:vmxon.feature_control_no_smx",
     "vmx-capabilities:feature_control.vmxon_outside_smx"), NEEDS(VMX))
{
	EXPECT(vmxon((u64)this_vmx()->vmxon_region), OUTCOME_GP0);
}

CASE(disabling_comes_before_the_operand, PROVES("vmx-instructions:vmxon.feature_control_no_smx"),
     NEEDS(VMX))
{
	EXPECT(VMX_ATTEMPT("vmxon (%[a])", : [a] "r" (NOT_MAPPED) : "cc", "memory"),
	       OUTCOME_GP0);
}

/* Even WRMSR of the value that is there is refused. */
CASE(locked_msr_cannot_be_written, PROVES("vmx-capabilities:feature_control.lock"), NEEDS(VMX))
{
	u64 locked = rdmsr(IA32_FEATURE_CONTROL);

	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, locked), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, locked | FEATURE_CONTROL_VMX), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, 0), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_FEATURE_CONTROL), locked);
}
