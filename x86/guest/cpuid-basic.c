#include "case.h"
#include "cpu/safe.h"

CASE(vendor_is_printable, PROVES("guest-instructions:cpuid.vendor"))
{
	struct cpuid_result r = cpuid(0);

	EXPECT_TRUE(r.eax >= 1);
}
CASE(must_fail, PROVES("guest-instructions:cpuid.vendor"))
{
	EXPECT_EQ(1, 2);
	EXPECT(wrmsr_safe(0x12345678, 0), OUTCOME_DONE);
	*(volatile u64 *)0x8000000000000000ull = 1;
}
