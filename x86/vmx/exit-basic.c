/*
 * The exits that a hypervisor meets first: one case per exit path, for instructions that exit
 * always (28.1.2), that exit when a control says so (28.1.3), and for events (28.2).
 */
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

static void guest_cpuid(void)
{
	cpuid(0);
}

CASE(cpuid_is_unconditional, PROVES("exit-reasons:10"), NEEDS(VMX))
{
	EXPECT(enter(guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

static void guest_hlt(void)
{
	asm volatile("hlt");
}

CASE(hlt_exits, PROVES("exit-reasons:12"), NEEDS(VMX, PROC1(HLT_EXITING)))
{
	vmcs_set_control(CONTROL_PROC1_HLT_EXITING);
	EXPECT(enter(guest_hlt), OUTCOME_EXIT(EXIT_HLT));
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 1);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}
