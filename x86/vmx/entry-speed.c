/*
 * What a VM entry and exit cost, with and without the audit: for `exitpath bench entry`, which
 * boots the image with one case alone and counts the CPU time. The guest does nothing but exit. The
 * first case shows what the rest of a boot costs; the others make so many entries that the boot
 * does not matter.
 */
#include "platform.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

/* scripts/bench.sh knows both numbers. */
#define AUDITED		2000
#define PLAIN		50000

GUEST_CODE(cpuid, "", "cpuid");

/* A platform on which they take minutes makes its share: struct platform, entry_percent. */
static void enter_often(u32 all)
{
	u32 entries = (all * this_platform()->entry_percent + 99) / 100, i;
	u64 ticks = rdtsc();

	for (i = 0; i < entries; i++)
		REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	tap_comment("%lu ticks of the time-stamp counter per entry", (rdtsc() - ticks) / entries);
}

CASE(no_entries, PROVES("exit-reasons:10"), NEEDS(VMX))
{
	enter_often(1);
}

CASE(entries_with_the_audit, PROVES("exit-reasons:10"), NEEDS(VMX))
{
	audit_whole();
	enter_often(AUDITED);
}

CASE(entries_without_the_audit, PROVES("exit-reasons:10"), NEEDS(VMX))
{
	audit_none();
	enter_often(PLAIN);
}
