/*
 * VMXON and the A20 gate: 26.8 Restrictions on VMX Operation; 33.3 VMX Instructions, "VMXON" and
 * "VMXOFF".
 *
 * While the gate masks address bit 20 (A20M mode), VMXON is #GP(0). VMX operation blocks the gate:
 * the mask then has no effect, and it comes to effect when VMXOFF has left VMX operation.
 *
 * Under the mask every odd MByte of memory is the even one below it, and an image lies in an odd
 * one. So what runs under it is a copy: the image's pages at an even MByte, mapped at the same
 * linear addresses, and paging structures at an even MByte as well. To code all is as it was; only
 * what it has written is in the copy afterwards.
 */
#include "io.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "platform.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_prepare);

#define A20		BIT(20)
#define EVEN_MBYTE	(2 * A20)		/* an alignment */
#define GATE_OPEN	BIT(1)

extern u8 image_start[], image_end[];

static bool has_gate(u64 unused __maybe_unused)
{
	return this_platform()->a20_port;
}
#define A20_GATE	{ .text = "an A20 gate", .met = has_gate }

/* --- a copy that does without bit 20 ------------------------------------------------- */

/* What a copy has found: of use in the copy alone, see result_of(). */
struct result {
	outcome_t vmxon, vmxoff;
	u64 before, in_vmx_operation, after;	/* what `witness` is there */
};

static struct {
	u64 vmxon_region;
	volatile u64 *witness;			/* EVEN, but ODD where bit 20 counts */
	struct result result;
} job;

#define EVEN	0
#define ODD	1

/* Everything that is allocated behind this, up to a MByte, is at an even MByte. */
static void prepare_job(void)
{
	u64 *memory = pages_alloc(EVEN_MBYTE, EVEN_MBYTE);
	u32 revision = vmcs_revision();

	memory[0] = EVEN;
	memory[A20 / sizeof(u64)] = ODD;
	job.witness = &memory[A20 / sizeof(u64)];
	job.vmxon_region = (u64)page_alloc();
	memcpy((void *)job.vmxon_region, &revision, sizeof(revision));
}

/* Calls `function` in the copy, and comes back by the stack as it was. */
static void run_at(u64 cr3, void (*function)(void))
{
	asm volatile("mov %%rsp, %%r12\n\tmov %%cr3, %%r13\n\tandq $-16, %%rsp\n\t"
		     "mov %[cr3], %%cr3\n\tcall *%[function]\n\tmov %%r13, %%cr3\n\t"
		     "mov %%r12, %%rsp"
		     : [cr3] "+a" (cr3), [function] "+D" (function)
		     : : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12",
		       "r13", "cc", "memory");
}

static const struct result *run_in_copy(void (*function)(void))
{
	u64 start = (u64)image_start, size = (u64)(image_end - image_start), copy, offset;
	struct address_space space;

	if ((start ^ (start + size - 1)) & ~(A20 - 1))
		bail_out("an image that is not in one MByte");
	space_copy(&space);
	copy = (u64)pages_alloc(size, EVEN_MBYTE);
	for (offset = 0; offset < size; offset += PAGE_SIZE)
		space_map(&space, start + offset, copy + offset, PTE_P | PTE_RW, LEVEL_PTE);
	memcpy((void *)copy, image_start, size);
	run_at(physical(space.pml4), function);
	return (const struct result *)((u64)&job.result - start + copy);
}

static void set_gate(bool open)
{
	u16 port = this_platform()->a20_port;
	u8 others = inb(port) & ~(u8)(GATE_OPEN | BIT(0));	/* bit 0 resets the processor */

	outb(port, open ? others | GATE_OPEN : others);
}

/* --- cases ----------------------------------------------------------------------------- */

static void vmxon_under_the_mask(void)
{
	set_gate(false);
	job.result.before = *job.witness;
	job.result.vmxon = vmxon(job.vmxon_region);
	set_gate(true);
}

/* What is not under test: where the gate masks nothing there is no A20M mode. */
static void require_a_mask(u64 witness)
{
	if (witness != EVEN)
		case_skip("an A20 gate that masks address bit 20");
}

CASE(vmxon_under_the_mask, PROVES("vmx-instructions:vmxon.a20m"), NEEDS(VMX, A20_GATE))
{
	const struct result *result;

	prepare_job();
	result = run_in_copy(vmxon_under_the_mask);
	require_a_mask(result->before);
	EXPECT(result->vmxon, OUTCOME_GP0);
	if (result->vmxon == OUTCOME_DONE)
		vmxoff();
}

static void mask_in_vmx_operation(void)
{
	set_gate(false);
	job.result.before = *job.witness;
	set_gate(true);
	job.result.vmxon = vmxon(job.vmxon_region);
	set_gate(false);
	job.result.in_vmx_operation = *job.witness;
	job.result.vmxoff = vmxoff();
	job.result.after = *job.witness;
	set_gate(true);
}

CASE(vmx_operation_blocks_the_mask, PROVES("vmx-instructions:vmxon.success",
     "vmx-instructions:vmxoff.success"), NEEDS(VMX, A20_GATE))
{
	const struct result *result;

	prepare_job();
	result = run_in_copy(mask_in_vmx_operation);
	require_a_mask(result->before);
	EXPECT(result->vmxon, OUTCOME_DONE);
	EXPECT_EQ(result->in_vmx_operation, ODD);
	EXPECT(result->vmxoff, OUTCOME_DONE);
	EXPECT_EQ(result->after, EVEN);
}
