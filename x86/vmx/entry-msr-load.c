/*
 * VM entry loads the MSRs of a list, after all other checks and loads: 29.4 Loading MSRs.
 *
 * An MSR that may not be in the list, or a value that WRMSR would refuse, ends the entry as an exit
 * with reason 34; the qualification is the number of the entry in the list, from 1. One case per
 * rule of lib/x86/vmx/entry_rules_msr_load.def.
 */
#include "cpu/safe.h"
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

/* --- a value that WRMSR takes, MSR by MSR ---------------------------------------------------- */

static void guest(void)
{
}

static outcome_t enter_with(u64 *list, u32 msr, u64 value)
{
	list[0] = msr;
	list[1] = value;
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(list));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 1);
	return enter(guest);
}

static void expect_value(u64 *list, u32 msr, u64 value, outcome_t want)
{
	char what[80], words[2][120];
	outcome_t got;

	/* What an exit has saved of the value before it must not fail this entry. */
	vmcs_set_defaults();
	got = enter_with(list, msr, value);
	if (got == want)
		return;
	format(what, sizeof(what), "the entry with MSR %#x = %#lx in its list", msr, value);
	case_fail(NULL, 0, what, outcome_words(words[0], sizeof(words[0]), want),
		  outcome_words(words[1], sizeof(words[1]), got));
}

static void try_values(u32 msr, const u64 *bad, u32 bad_count, const u64 *good, u32 good_count)
{
	const outcome_t fails = OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 1);
	u64 *list = page_alloc(), before;
	u32 i;

	if (rdmsr_safe(msr, &before) != OUTCOME_DONE)
		case_skip("MSR %#x", msr);
	for (i = 0; i < bad_count; i++) {
		expect_value(list, msr, bad[i], fails);
		EXPECT_EQ(rdmsr(msr), before);
	}
	for (i = 0; i < good_count; i++) {
		expect_value(list, msr, good[i], GUEST_DONE);
		wrmsr(msr, before);
	}
}

#define BAD(...)	(const u64[]){ __VA_ARGS__ }, ARRAY_SIZE(((const u64[]){ __VA_ARGS__ }))
#define GOOD(...)	BAD(__VA_ARGS__)
/* The first values that are bad, the last that are good. */
#define MSR_VALUES(name, msr, needs, bad, good)					\
	CASE(msrload_##name##_values, PROVES("vm-entry-checks:msrload.wrmsr_gp"), NEEDS needs) \
	{									\
		try_values(msr, bad, good);					\
	}
#define LINEAR_BITS	entry_this_cpu()->linear_bits
#define MSR_ADDRESSES(name, msr)						\
	MSR_VALUES(name, msr, (VMX),						\
		   BAD(BIT(LINEAR_BITS - 1), ~BITS(LINEAR_BITS - 1, 0), BIT(63)), \
		   GOOD(0, BITS(LINEAR_BITS - 2, 0), ~BITS(LINEAR_BITS - 2, 0), ~0ull))

MSR_VALUES(fmask, IA32_FMASK, (VMX), BAD(BIT(32), BIT(63)), GOOD(0, BITS(31, 0)))
MSR_VALUES(tsc_aux, IA32_TSC_AUX, (VMX, CPU(RDTSCP)), BAD(BIT(32), BIT(63)), GOOD(0, BITS(31, 0)))
MSR_VALUES(star, IA32_STAR, (VMX), BAD(), GOOD(0, ~0ull))
MSR_VALUES(sysenter_cs, IA32_SYSENTER_CS, (VMX), BAD(), GOOD(0, BITS(31, 0)))
MSR_VALUES(pat, IA32_PAT, (VMX), BAD(2, 3, 8ull << 24, 0xffull << 56, 2ull << 32),
	   GOOD(0, 0x0706050401000706, 0x0101010101010101))
/* LMA and LME are those of the guest. */
#define EFER_HERE	(rdmsr(IA32_EFER) & (EFER_LMA | EFER_LME))
MSR_VALUES(efer, IA32_EFER, (VMX), BAD(EFER_HERE | BIT(1), EFER_HERE | BIT(9), EFER_HERE | BIT(63)),
	   GOOD(EFER_HERE, EFER_HERE | EFER_SCE))
/* 20.4.1: what is reserved on every processor. */
MSR_VALUES(debugctl, IA32_DEBUGCTL, (VMX), BAD(BIT(3), BIT(16), BIT(32), BIT(63)),
	   GOOD(0, DEBUGCTL_BTF))
MSR_ADDRESSES(kernel_gs_base, IA32_KERNEL_GS_BASE)
MSR_ADDRESSES(lstar, IA32_LSTAR)
MSR_ADDRESSES(cstar, IA32_CSTAR)
MSR_ADDRESSES(sysenter_esp, IA32_SYSENTER_ESP)
MSR_ADDRESSES(sysenter_eip, IA32_SYSENTER_EIP)
