/*
 * VM entry loads the MSRs of a list, after all other checks and loads: 29.4 Loading MSRs.
 *
 * An MSR that may not be in the list, or a value that WRMSR would refuse, ends the entry as an exit
 * with reason 34; the qualification is the number of the entry in the list, from 1. One case per
 * rule of lib/x86/vmx/entry_rules_msr_load.def.
 */
#include "entry/check.h"
#include "mmu/pages.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_msr_load.def"

/* Entries before the one that fails have been loaded, those behind it not: 29.4, 29.8. */
CASE(msrload_second_entry, PROVES("vm-entry-checks:msrload.second_entry"), NEEDS(VMX))
{
	u64 *list = page_alloc();

	list[0] = IA32_KERNEL_GS_BASE;
	list[1] = 0x1234000;
	list[2] = IA32_FS_BASE;
	list[4] = IA32_KERNEL_GS_BASE;
	list[5] = 0x5678000;
	wrmsr(IA32_KERNEL_GS_BASE, 0);
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(list));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 3);
	EXPECT(vmlaunch(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 2));
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 0x1234000);
	wrmsr(IA32_KERNEL_GS_BASE, 0);
}
