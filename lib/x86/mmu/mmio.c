#include "mmu/mmio.h"
#include "cpu/apic.h"
#include "cpu/traps.h"
#include "mmu/pages.h"
#include "platform.h"

/*
 * Below the local APIC and the firmware, above the RAM of any tree; moved down if there is RAM.
 */
#define NO_DEVICE	0xd0000000ull

static struct address_space space;

static u64 address_of_nothing(void)
{
	const struct platform *platform = this_platform();
	u64 address = NO_DEVICE;
	u32 i;

	for (i = 0; i < platform->memory_count; i++)
		if (address < platform->memory[i].start + platform->memory[i].size &&
		    address + 2 * PAGE_SIZE > platform->memory[i].start)
			case_skip("no memory at %#lx", address);
	return address;
}

static void map(u64 linear, u64 address, u64 flags)
{
	space_map(&space, linear, address, flags | PTE_P | PTE_RW, LEVEL_PTE);
}

void mmio_map(void)
{
	u64 nothing = address_of_nothing(), uncached = PTE_PCD | PTE_PWT;

	if (!apic_exists(0))
		case_skip("a local APIC");
	space_copy(&space);
	space_supervisor_only(&space);
	map(MMIO_RAM, physical(page_alloc()), 0);
	map(MMIO_APIC, rdmsr(IA32_APIC_BASE) & PTE_ADDRESS, uncached);
	map(MMIO_USER_PAGE, rdmsr(IA32_APIC_BASE) & PTE_ADDRESS, uncached | PTE_US);
	map(MMIO_RAM_2, physical(page_alloc()), 0);
	map(MMIO_NOTHING, nothing, uncached);
	map(MMIO_NOTHING_2, nothing + PAGE_SIZE, uncached);
	map(MMIO_RAM_3, physical(page_alloc()), 0);
	space_load(&space);
}

void mmio_share_with_user(void)
{
	u64 *pml4 = (u64 *)(read_cr3() & PTE_ADDRESS);

	pml4[0] |= PTE_US;
	write_cr3(read_cr3());
}

u64 *mmio_entry(u64 linear)
{
	return space_entry(&space, linear, LEVEL_PTE);
}

u64 mmio_nothing(void)
{
	return *(volatile u64 *)MMIO_NOTHING;
}

struct call {
	void (*code)(void *unused);
	struct mmio_state *state;
};

void mmio_enter(struct mmio_state *state, void (*code)(void *unused));

/* mmio_enter(RDI: state, RSI: code) */
asm(".pushsection .text\n"
    "mmio_enter:\n\t"
    "pushq %rbx\n\tpushq %r12\n\tmovq %rdi, %rbx\n\tmovq %rsi, %r12\n\t"
    "movq 0(%rbx), %rax\n\tmovq 8(%rbx), %rcx\n\tmovq 16(%rbx), %rdx\n\t"
    "movq 24(%rbx), %rsi\n\tmovq 32(%rbx), %rdi\n\tpushq 40(%rbx)\n\tpopfq\n\t"
    "call *%r12\n\t"
    "pushfq\n\tpopq 40(%rbx)\n\tcld\n\t"
    "movq %rax, 0(%rbx)\n\tmovq %rcx, 8(%rbx)\n\tmovq %rdx, 16(%rbx)\n\t"
    "movq %rsi, 24(%rbx)\n\tmovq %rdi, 32(%rbx)\n\t"
    "popq %r12\n\tpopq %rbx\n\tret\n\t.popsection");

static void enter(void *argument)
{
	struct call *call = argument;

	mmio_enter(call->state, call->code);
}

outcome_t mmio_run(void (*code)(void *unused), struct mmio_state *state)
{
	struct call call = { code, state };

	return attempt(enter, &call);
}

/* For RIP-relative operands: an absolute symbol that only the linker knows. */
asm(".globl mmio_register\n.set mmio_register, " STRINGIFY(MMIO_REGISTER_NUMBER));
