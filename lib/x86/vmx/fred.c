#include "vmx/fred.h"
#include "mmu/pages.h"

#define OFFSET_CPL_0	256	/* of the handler, in the page */

extern const u8 fred_handlers[];
asm(".pushsection .text\n\t.balign 4096\n"
    "fred_handlers:\n\tcpuid\n\tud2\n\t.balign 256\n\tcpuid\n\tud2\n\t.popsection");

static u8 *stacks[FRED_LEVELS];

u64 fred_stack_top(u32 level)
{
	return (u64)stacks[level] + PAGE_SIZE;
}

void fred_set_handlers(const u8 *page)
{
	/* Bits 11:0: level 0 now and for interrupts, no bytes left free on the stack. */
	vmwrite(GUEST_IA32_FRED_CONFIG, (u64)page);
}

void fred_set_level(u8 vector, u32 level)
{
	u64 levels = vmread(GUEST_IA32_FRED_STKLVLS) & ~(3ull << 2 * vector);

	vmwrite(GUEST_IA32_FRED_STKLVLS, levels | (u64)level << 2 * vector);
}

void fred_start(void)
{
	u32 i;

	for (i = 0; i < FRED_LEVELS; i++)
		stacks[i] = page_alloc();
	vmcs_set_control(CONTROL_ENTRY_LOAD_FRED);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_FRED);
	vmwrite(GUEST_IA32_FRED_STKLVLS, 0);
	fred_set_handlers(fred_handlers);
	/* The stack of level 0 has no field: no VM entry or exit changes that MSR. */
	wrmsr(IA32_FRED_RSP0, fred_stack_top(0));
	vmwrite(GUEST_IA32_FRED_RSP1, fred_stack_top(1));
	vmwrite(GUEST_IA32_FRED_RSP2, fred_stack_top(2));
	vmwrite(GUEST_IA32_FRED_RSP3, fred_stack_top(3));
	/* Loaded with the others, although shadow stacks are off. */
	vmwrite(GUEST_IA32_FRED_SSP1, 0);
	vmwrite(GUEST_IA32_FRED_SSP2, 0);
	vmwrite(GUEST_IA32_FRED_SSP3, 0);
	wrmsr(IA32_STAR, (u64)SELECTOR_CODE64 << 32 | (u64)(SELECTOR_USER_CODE32 & ~3) << 48);
	vmwrite(GUEST_IDTR_LIMIT, 0);
}

void fred_begin(void)
{
	unblock_nmis();
	vmx_start();
	fred_start();
}

const struct fred_frame *fred_frame(void)
{
	return (const struct fred_frame *)vmread(GUEST_RSP);
}

bool fred_expect_handler(const char *file, u32 line, const char *what, outcome_t outcome, u32 cpl)
{
	u64 rip = vmread(GUEST_RIP);
	char expected[60], got[100];

	if (outcome == OUTCOME_EXIT(EXIT_CPUID) &&
	    rip == (u64)fred_handlers + (cpl ? 0 : OFFSET_CPL_0))
		return true;
	format(expected, sizeof(expected), "the FRED handler for events at CPL %u runs", cpl);
	if (outcome == OUTCOME_EXIT(EXIT_CPUID))
		format(got, sizeof(got), "CPUID at RIP %#lx", rip);
	else
		outcome_words(got, sizeof(got), outcome);
	case_fail(file, line, what, expected, got);
	return false;
}
