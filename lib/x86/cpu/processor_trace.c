#include "cpu/cpu.h"
#include "cpu/processor_trace.h"

#define ONE_PAGE	0xfffull	/* the mask of a region of 4 KBytes */
#define TOPA_END	BIT(0)

u64 processor_trace_to(void *page, u64 *table)
{
	wrmsr(IA32_RTIT_CTL, 0);
	wrmsr(IA32_RTIT_STATUS, 0);
	if (CPUID_BIT(0x14, 0, ecx, 2)) {
		wrmsr(IA32_RTIT_OUTPUT_BASE, (u64)page);
		wrmsr(IA32_RTIT_OUTPUT_MASK_PTRS, ONE_PAGE);
		return 0;
	}
	table[0] = (u64)page;
	table[1] = (u64)table | TOPA_END;
	wrmsr(IA32_RTIT_OUTPUT_BASE, (u64)table);
	wrmsr(IA32_RTIT_OUTPUT_MASK_PTRS, 0x7f);
	return RTIT_CTL_TOPA;
}
