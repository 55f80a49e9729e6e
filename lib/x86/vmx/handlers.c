#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

#define HANDLER_SIZE	4		/* bytes of guest_handlers, below */
#define GATE_INTERRUPT	0x8e

extern const u8 guest_handlers[];
asm(".text\n"
    "guest_handlers:\n\t"
    ".rept 256\n\tcpuid\n\tud2\n\t.endr\n");

u64 guest_handler(u8 vector)
{
	return (u64)guest_handlers + vector * HANDLER_SIZE;
}

struct gate *guest_handlers_start(void)
{
	struct gate *idt = page_alloc();
	u64 offset;
	u32 i;

	_Static_assert(256 * sizeof(*idt) == PAGE_SIZE, "an IDT fills a page");
	for (i = 0; i < 256; i++) {
		offset = guest_handler(i);
		idt[i] = (struct gate){
			.offset_low = offset, .selector = SELECTOR_CODE64, .type = GATE_INTERRUPT,
			.offset_middle = offset >> 16, .offset_high = offset >> 32,
		};
	}
	vmwrite(GUEST_IDTR_BASE, (u64)idt);
	vmwrite(GUEST_IDTR_LIMIT, PAGE_SIZE - 1);
	return idt;
}

struct gate *guest_handlers_begin(void)
{
	unblock_nmis();
	vmx_start();
	return guest_handlers_start();
}

const struct guest_frame *guest_frame(bool has_error)
{
	return (const struct guest_frame *)(vmread(GUEST_RSP) + (has_error ? 8 : 0));
}

u64 guest_frame_error(void)
{
	return *(const u64 *)vmread(GUEST_RSP);
}

bool guest_expect_handler(const char *file, u32 line, const char *what, outcome_t outcome,
			  u8 vector)
{
	u64 rip = vmread(GUEST_RIP), first = (u64)guest_handlers;
	char expected[60], got[120];

	if (outcome == OUTCOME_EXIT(EXIT_CPUID) && rip == guest_handler(vector))
		return true;
	format(expected, sizeof(expected), "the handler of vector %u runs", vector);
	if (outcome == OUTCOME_EXIT(EXIT_CPUID) && rip >= first && rip < first + 256 * HANDLER_SIZE)
		format(got, sizeof(got), "the handler of vector %u",
		       (u32)(rip - first) / HANDLER_SIZE);
	else if (outcome == OUTCOME_EXIT(EXIT_CPUID))
		format(got, sizeof(got), "CPUID at RIP %#lx", rip);
	else
		outcome_words(got, sizeof(got), outcome);
	case_fail(file, line, what, expected, got);
	return false;
}
