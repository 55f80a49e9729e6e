/*
 * Canonical addresses: where a linear address is looked at before any paging structure is.
 *
 * In 64-bit mode bits 63 and up to the highest one that paging translates must be equal (chapter
 * 4, Linear-Address Pre-Processing; volume 1, 3.3.7.1). An access elsewhere is #GP(0), or #SS(0)
 * when it goes through SS; no page fault comes first, and CR2 stays. Registers that hold an
 * address refuse one that this processor could never use: there the width of the processor counts,
 * not that of the paging mode. In compatibility mode addresses have 32 bits, and there is nothing
 * to check. Linear-address masking (LAM) takes some bits out of the check.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define OUTCOME_SS0		OUTCOME_FAULT(VECTOR_SS, 0)
#define FIRST_BAD		0x0000800000000000ull	/* with 48 bits */
#define LAST_BAD		0xffff7fffffffffffull
#define NEVER			0x0100000000000000ull	/* with 57 bits neither */
#define CR2_VALUE		0x1122334455667788ull

/* --- accesses ---------------------------------------------------------------- */

/* MOV through RBP or RSP uses SS: volume 1, 3.7.4. */
static outcome_t read_by_rbp(u64 address)
{
	trap_expect();
	asm volatile("push %%rbp\n\tmov %0, %%rbp\n\t" ATTEMPT_ASM("mov (%%rbp), %%rax")
		     "pop %%rbp" : : "r" (address) : "rax", "memory");
	return trap_outcome();
}

/* The stack pointer is not usable: a fault needs another stack, that of an IST. */
#define WITH_STACK_AT(address, instruction) ({					\
	u64 ours_;								\
	this_cpu()->idt[VECTOR_SS].ist = IST_DF;				\
	this_cpu()->idt[VECTOR_GP].ist = IST_DF;				\
	trap_expect();								\
	asm volatile("mov %%rsp, %0\n\tmov %1, %%rsp\n\t" ATTEMPT_ASM(instruction)	\
		     "mov %0, %%rsp" : "=&b" (ours_) : "r" ((u64)(address))	\
		     : "rax", "memory");					\
	trap_outcome(); })

CASE(stack_segment, PROVES("paging:canon.stack_ss", "paging:cr2.gp_keep"))
{
	write_cr2(CR2_VALUE);
	EXPECT(read_by_rbp(FIRST_BAD), OUTCOME_SS0);
	EXPECT(read_by_rbp(LAST_BAD & ~7ull), OUTCOME_SS0);
	EXPECT(WITH_STACK_AT(NEVER, "push %%rax"), OUTCOME_SS0);
	EXPECT(WITH_STACK_AT(NEVER, "pop %%rax"), OUTCOME_SS0);
	EXPECT(WITH_STACK_AT(NEVER, "call . + 5"), OUTCOME_SS0);
	EXPECT(WITH_STACK_AT(NEVER, "ret"), OUTCOME_SS0);
	EXPECT_EQ(read_cr2(), CR2_VALUE);
}

/* The last bytes below the gap are mapped; those behind are not canonical. */
CASE(access_across_the_end, PROVES("paging:canon.cross"))
{
	const u64 last_page = FIRST_BAD - PAGE_SIZE;
	struct probe probe;
	u64 value = CR2_VALUE, *page = page_alloc_filled(PROBE_CONTENT);

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, last_page, physical(page), PTE_P | PTE_RW, LEVEL_PTE);
	write_cr2(CR2_VALUE);
	EXPECT(read_at(FIRST_BAD - 8, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	EXPECT(read_at(FIRST_BAD - 7, &value), OUTCOME_GP0);
	EXPECT(write_at(FIRST_BAD - 1, 0), OUTCOME_GP0);
	EXPECT_EQ(page[511], PROBE_CONTENT);
	EXPECT(read_by_rbp(FIRST_BAD - 4), OUTCOME_SS0);
	EXPECT_EQ(read_cr2(), CR2_VALUE);
}

/* At CPL 3, misaligned, with alignment checking: still the check of the address comes first. */
INSTRUCTION(misaligned_at_nowhere, "", "mov 1(%rdi), %rax");

CASE(before_paging_and_alignment, PROVES("paging:canon.priority"))
{
	write_cr0(read_cr0() | CR0_AM);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_AC, misaligned_at_nowhere, (void *)NEVER),
	       OUTCOME_GP0);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_AC, misaligned_at_nowhere, (void *)FIRST_BAD),
	       OUTCOME_GP0);
}

CASE(cache_instructions, PROVES("paging:canon.clflush"), NEEDS(CPU(CLFSH)))
{
	write_cr2(CR2_VALUE);
	EXPECT(ATTEMPT("clflush (%0)", : "r" (NEVER) : "memory"), OUTCOME_GP0);
	EXPECT(ATTEMPT("prefetcht0 (%0)", : "r" (NEVER) : "memory"), OUTCOME_DONE);
	EXPECT(ATTEMPT("prefetchnta (%0)", : "r" (FIRST_BAD) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(read_cr2(), CR2_VALUE);
}

/* --- branches ---------------------------------------------------------------- */

INSTRUCTION(jump_there, "", "jmp *%rdi");
INSTRUCTION(call_there, "", "call *%rdi");
INSTRUCTION(return_there, "push %rdi", "ret");

static void branch_faults(void (*code)(void *argument), const u8 *at)
{
	EXPECT(attempt(code, (void *)NEVER), OUTCOME_GP0);
	EXPECT_EQ(last_trap()->frame.rip, (u64)at);
}

CASE(near_branches, PROVES("paging:canon.jmp"))
{
	branch_faults(jump_there, jump_there_at);
	branch_faults(call_there, call_there_at);
	branch_faults(return_there, return_there_at);
}

INSTRUCTION(far_return_there, "pushq $0x08\n\tpush %rdi", "lretq");
INSTRUCTION(iret_there,
	    "mov %rsp, %rax\n\tpushq $0x10\n\tpush %rax\n\tpushfq\n\tpushq $0x08\n\tpush %rdi",
	    "iretq");
INSTRUCTION(far_jump_there, "mov %rdi, -16(%rsp)\n\tmovw $0x08, -8(%rsp)",
	    ".byte 0x48\n\tljmpl *-16(%rsp)");

CASE(far_branches, PROVES("paging:canon.far_iret"))
{
	branch_faults(far_return_there, far_return_there_at);
	branch_faults(iret_there, iret_there_at);
}

CASE(far_jump_through_memory, PROVES("paging:canon.far_iret"), NEEDS(INTEL))
{
	branch_faults(far_jump_there, far_jump_there_at);
}

/* NOPs up to the last byte below the gap; what follows would be fetched from within it. */
CASE(execution_runs_off_the_end, PROVES("paging:canon.runoff"))
{
	struct probe probe;
	u64 *page = page_alloc_filled(0x9090909090909090);

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, FIRST_BAD - PAGE_SIZE, physical(page), PTE_P, LEVEL_PTE);
	EXPECT(fetch_at(FIRST_BAD - 3), OUTCOME_GP0);
	EXPECT_EQ(last_trap()->frame.rip, FIRST_BAD);
}

/* --- registers that hold addresses ---------------------------------------------- */

#define IA32_PL0_SSP		0x6a4
#define IA32_INTERRUPT_SSP_TABLE 0x6a8

static void refuses(u32 msr)
{
	u64 before = rdmsr(msr);

	EXPECT(wrmsr_safe(msr, NEVER), OUTCOME_GP0);
	EXPECT(wrmsr_safe(msr, ~NEVER), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(msr), before);
	/* 57 bits where the processor has them, whatever CR4.LA57 is. */
	EXPECT(wrmsr_safe(msr, FIRST_BAD),
	       feature(FEATURE_LA57) ? OUTCOME_DONE : OUTCOME_GP0);
	wrmsr(msr, before);
}

CASE(base_registers, PROVES("paging:canon.msr"))
{
	refuses(IA32_FS_BASE);
	refuses(IA32_GS_BASE);
	refuses(IA32_KERNEL_GS_BASE);
	refuses(IA32_LSTAR);
}

CASE(entry_points, PROVES("paging:canon.msr"), NEEDS(INTEL, CPU(SEP)))
{
	refuses(IA32_CSTAR);
	refuses(IA32_SYSENTER_ESP);
	refuses(IA32_SYSENTER_EIP);
}

CASE(shadow_stack_pointers, PROVES("paging:canon.msr"), NEEDS(CPU(CET_SS)))
{
	refuses(IA32_PL0_SSP);
	refuses(IA32_INTERRUPT_SSP_TABLE);
}

CASE(wrfsbase_and_wrgsbase, PROVES("paging:canon.wrfsbase"), NEEDS(CPU(FSGSBASE)))
{
	write_cr4(read_cr4() | CR4_FSGSBASE);
	EXPECT(ATTEMPT("wrfsbase %0", : "r" (NEVER)), OUTCOME_GP0);
	EXPECT(ATTEMPT("wrgsbase %0", : "r" (NEVER)), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_FS_BASE), 0);
	EXPECT_EQ(rdmsr(IA32_GS_BASE), 0);
}

CASE(table_registers, PROVES("paging:canon.dt"))
{
	struct table_pointer gdt = read_gdtr(), idt = read_idtr(), bad = { 0xfff, NEVER };

	EXPECT(ATTEMPT("lgdt %0", : "m" (bad)), OUTCOME_GP0);
	EXPECT(ATTEMPT("lidt %0", : "m" (bad)), OUTCOME_GP0);
	EXPECT_EQ(read_gdtr().base, gdt.base);
	EXPECT_EQ(read_idtr().base, idt.base);
}

/* The base of a system segment comes from its 16-byte descriptor. */
CASE(system_segments, PROVES("paging:canon.dt"))
{
	u16 selector = SELECTOR_SPARE;

	cpu_set_descriptor(SELECTOR_SPARE, 0x67 | 0x82ull << 40);
	cpu_set_descriptor(SELECTOR_SPARE + 8, NEVER >> 32);
	EXPECT(ATTEMPT("lldt %0", : "r" (selector)), OUTCOME_FAULT(VECTOR_GP, SELECTOR_SPARE));
	cpu_set_descriptor(SELECTOR_SPARE, 0x67 | 0x89ull << 40);
	EXPECT(ATTEMPT("ltr %0", : "r" (selector)), OUTCOME_FAULT(VECTOR_GP, SELECTOR_SPARE));
}

/* --- compatibility mode --------------------------------------------------------- */

/* EDI: an address; base, index and displacement add up to 32 bits. */
CODE32(read_with_wrap, "mov $0xfffff000, %eax; mov 0x2000(%edi,%eax), %eax");
CODE32(read_absent, "mov (%edi), %eax");

CASE(nothing_to_check_in_compatibility_mode, PROVES("paging:canon.compat", "paging:cr2.32bit"))
{
	struct probe probe;

	EXPECT(run_in_compatibility_mode(0, read_with_wrap, 0xfffff000), OUTCOME_DONE);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, 0xfffff000, 0, 0, LEVEL_PTE);
	write_cr3(read_cr3());
	write_cr2(~0ull);
	EXPECT(run_in_compatibility_mode(0, read_absent, 0xfffff123), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), 0xfffff123);
}

/* --- linear-address masking ------------------------------------------------------- */

#define TAG_57		BITS(62, 57)
#define TAG_48		BITS(62, 48)

static void map_with_lam(struct probe *probe, u64 bits)
{
	probe_map(probe, LEVEL_PTE, PTE_P | PTE_RW);
	write_cr3(read_cr3() | bits);
}

CASE(lam_u57, PROVES("paging:lam.u57", "paging:lam.selector", "paging:cr3.lam_supported",
		     "paging:lam.u57_4l"), NEEDS(CPU(LAM)))
{
	struct probe probe;
	u64 value = 0;

	map_with_lam(&probe, CR3_LAM_U57);
	EXPECT_EQ(read_cr3() & CR3_LAM_U57, CR3_LAM_U57);
	EXPECT(read_at(probe.linear | TAG_57, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	/* Bits 56:47 are still compared with bit 63. */
	EXPECT(read_at(probe.linear | BIT(50), &value), OUTCOME_GP0);
	EXPECT(read_at(probe.linear | BIT(63), &value), OUTCOME_GP0);
}

CASE(lam_u48, PROVES("paging:lam.u48", "paging:lam.toggle_flush"), NEEDS(CPU(LAM)))
{
	struct probe probe;
	u64 value = 0;

	map_with_lam(&probe, CR3_LAM_U48);
	EXPECT(read_at(probe.linear | TAG_48, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	write_cr3(read_cr3() & ~CR3_LAM_U48);
	EXPECT(read_at(probe.linear | TAG_48, &value), OUTCOME_GP0);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
}

CASE(lam_u57_wins, PROVES("paging:lam.u57_wins"), NEEDS(CPU(LAM)))
{
	struct probe probe;
	u64 value = 0;

	map_with_lam(&probe, CR3_LAM_U57 | CR3_LAM_U48);
	EXPECT(read_at(probe.linear | TAG_57, &value), OUTCOME_DONE);
	EXPECT(read_at(probe.linear | BIT(48), &value), OUTCOME_GP0);
}

CASE(lam_supervisor, PROVES("paging:lam.sup48", "paging:lam.selector"), NEEDS(CPU(LAM)))
{
	const u64 linear = 0xffff900000000000;
	struct probe probe;
	u64 value = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, linear, physical(probe.page), PTE_P, LEVEL_PTE);
	write_cr4(read_cr4() | CR4_LAM_SUP);
	EXPECT(read_at(linear & ~TAG_48, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	EXPECT(read_at((linear & ~TAG_48) ^ BIT(47), &value), OUTCOME_GP0);
	EXPECT(read_at(probe.linear | BIT(60), &value), OUTCOME_GP0);
}

CASE(lam_masks_no_fetch, PROVES("paging:lam.fetch"), NEEDS(CPU(LAM)))
{
	struct probe probe;

	map_with_lam(&probe, CR3_LAM_U48);
	EXPECT(fetch_at(probe.linear), OUTCOME_DONE);
	EXPECT(fetch_at(probe.linear | BIT(60)), OUTCOME_GP0);
}

CASE(lam_masks_no_invalidation_and_no_register,
     PROVES("paging:lam.invlpg", "paging:lam.invpcid", "paging:lam.cr_msr"),
     NEEDS(CPU(LAM), CPU(INVPCID)))
{
	struct probe probe;
	u64 descriptor[2] = { 0, 0 }, type = 0;

	map_with_lam(&probe, CR3_LAM_U48);
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (probe.linear | TAG_48) : "memory"), OUTCOME_DONE);
	descriptor[1] = probe.linear | TAG_48;
	EXPECT(ATTEMPT("invpcid %0, %1", : "m" (descriptor), "r" (type) : "memory"), OUTCOME_GP0);
	descriptor[1] = 0;
	EXPECT(ATTEMPT("invpcid (%0), %1", : "r" ((u64)descriptor | TAG_48), "r" (type)
		       : "memory"), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_FS_BASE, BIT(60)), OUTCOME_GP0);
}

CASE(lam_fault_address_is_masked, PROVES("paging:cr2.lam"), NEEDS(CPU(LAM)))
{
	struct probe probe;
	u64 value;

	map_with_lam(&probe, CR3_LAM_U48);
	EXPECT(read_at((probe.linear + PAGE_SIZE) | TAG_48, &value), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
}

/* Tag bits would be bits 31:17 of an address here, if there were any: nothing is ignored. */
CODE32(read_there_32, "mov (%edi), %eax");

CASE(lam_is_of_64_bit_mode, PROVES("paging:lam.compat"), NEEDS(CPU(LAM)))
{
	const u32 linear = 0x40000000;
	struct probe probe;
	u32 bit;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, linear, physical(probe.page), PTE_P, LEVEL_PTE);
	for (bit = 28; bit < 32; bit++)
		if (BIT(bit) != linear)
			space_map(&probe.space, linear ^ BIT(bit), 0, 0, LEVEL_PTE);
	write_cr3(read_cr3() | CR3_LAM_U48 | CR3_LAM_U57);
	write_cr4(read_cr4() | CR4_LAM_SUP);
	EXPECT(run_in_compatibility_mode(0, read_there_32, linear), OUTCOME_DONE);
	for (bit = 28; bit < 32; bit++) {
		if (BIT(bit) == linear)
			continue;
		EXPECT(run_in_compatibility_mode(0, read_there_32, linear ^ BIT(bit)),
		       PAGE_FAULT(0));
		EXPECT_EQ(read_cr2(), linear ^ BIT(bit));
	}
}

/*
 * LLDT takes a base that 57 bits can hold, and 48 bits cannot. The table is not to be found there,
 * although bits 62:48 of an address that an instruction names are masked.
 */
CASE(lam_masks_no_implicit_access, PROVES("paging:lam.implicit"), NEEDS(CPU(LAM), CPU(LA57)))
{
	const u64 tag = BIT(52), ldt = 0x82ull << 40 | 0xfff;
	const u16 selector = 1 << 3 | 1 << 2;	/* the second of the LDT */
	struct probe probe;
	u64 value = 0, base;
	u32 i;

	map_with_lam(&probe, CR3_LAM_U48);
	probe.page[1] = 0x00cf93000000ffff;
	EXPECT(read_at(probe.linear | tag, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	for (i = 0; i < 2; i++) {
		base = probe.linear | (i ? tag : 0);
		cpu_set_descriptor(SELECTOR_SPARE, ldt | FIELD(base, 23, 0) << 16 |
							   FIELD(base, 31, 24) << 56);
		cpu_set_descriptor(SELECTOR_SPARE + 8, base >> 32);
		EXPECT(ATTEMPT("lldt %0", : "r" ((u16)SELECTOR_SPARE)), OUTCOME_DONE);
		EXPECT(ATTEMPT("mov %0, %%es", : "r" (selector)), i ? OUTCOME_GP0 : OUTCOME_DONE);
	}
	write_es(SELECTOR_DATA);
}
