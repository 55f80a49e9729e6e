/*
 * Linear-address-space separation: chapter 4, Linear-Address Pre-Processing, with CR4.LASS = 1.
 *
 * Bit 63 of a linear address says whose half it is in. User mode may access nothing with bit 63 =
 * 1. Supervisor mode may fetch nothing with bit 63 = 0, and with CR4.SMAP = 1 it may not access
 * data there either, unless EFLAGS.AC = 1. A violation is #GP(0), or #SS(0) through SS, and comes
 * before paging: whether the page is there does not matter, and CR2 stays.
 *
 * The suite lives in the lower half. So whatever runs with LASS here does so at an alias of the
 * suite's memory in the upper half, with GDT, IDT, TSS and stacks there; the handlers of the alias
 * turn LASS off and go on in the lower half. A case is one instruction, then UD2: outcome #UD says
 * that nothing kept the instruction from being done.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define ALIAS		0xffff800000000000	/* of linear address 0, where the suite is */
#define USER_CODE	0x0000008000000000ull	/* lower half, for user mode */
#define USER_UPPER	0xffff900000000000ull	/* upper half, a page for user mode */
#define ABSENT_UPPER	0xffff910000000000ull
#define ABSENT_LOWER	0x0000010000000000ull
#define CR2_VALUE	0x1122334455667788ull
#define OUTCOME_SS0	OUTCOME_FAULT(VECTOR_SS, 0)
#define ALLOWED		OUTCOME_UD

static u64 alias_of(const volatile void *pointer)
{
	return (u64)pointer + ALIAS;
}

/* --- what runs with LASS --------------------------------------------------------------------- */

/* Where to begin, as IRET pops it; with which CR4; and RDI. Known to lass_enter. */
struct lass_start {
	u64 rip, cs, rflags, rsp, ss;
	u64 cr4, address;
};

void lass_enter(void *start);
extern const u8 lass_code[], lass_read[], lass_write[], lass_read_by_rbp[], lass_push[];
extern const u8 lass_jump[], lass_stubs[];

#define STUB_SIZE	64

/*
 * One stub per vector from 0 to 31. It finds the stack in the alias and leaves it in the lower
 * half, with LASS and SMAP off, as the handler of the suite finds it.
 */
asm(".pushsection .text\n"
    "lass_enter:\n\t"
    "movabsq $" STRINGIFY(ALIAS) ", %rcx\n\taddq %rcx, %rsp\n\t"
    "leaq 1f(%rip), %rax\n\taddq %rcx, %rax\n\tjmpq *%rax\n"
    "1:\tpushq 32(%rdi)\n\tpushq 24(%rdi)\n\tpushq 16(%rdi)\n\tpushq 8(%rdi)\n\tpushq (%rdi)\n\t"
    "movq 40(%rdi), %rax\n\tmovq 48(%rdi), %rdi\n\tmovq %rax, %cr4\n\tiretq\n\t"
    /* In one page: it is mapped for user mode. */
    ".balign 64\n"
    "lass_code:\n"
    "lass_read:\tmovq (%rdi), %rax\n\tud2\n"
    "lass_write:\tmovq %rax, (%rdi)\n\tud2\n"
    "lass_read_by_rbp:\tmovq %rdi, %rbp\n\tmovq (%rbp), %rax\n\tud2\n"
    "lass_push:\tleaq 8(%rdi), %rsp\n\tpushq %rax\n\tud2\n"
    "lass_jump:\tjmpq *%rdi\n"
    "\t.balign 64\n"
    "lass_stubs:\n"
    "vector = 0\n"
    "\t.rept 32\n\t.balign 64\n\t"
    "pushq $trap_stubs + 16 * vector\n\tpushq %rax\n\tpushq %rcx\n\t"
    "movq %cr4, %rax\n\tandl $~0x08200000, %eax\n\tmovq %rax, %cr4\n\t"
    "movabsq $" STRINGIFY(ALIAS) ", %rcx\n\tsubq %rcx, %rsp\n\t"
    "popq %rcx\n\tpopq %rax\n\tretq\n"
    "vector = vector + 1\n"
    "\t.endr\n\t.popsection");

_Static_assert((CR4_LASS | CR4_SMAP) == 0x08200000, "lass_stubs");

/* --- the alias ------------------------------------------------------------------------------- */

static void make_alias(struct probe *probe)
{
	u64 *pml4, code = (u64)lass_code & PAGE_MASK;

	probe_map(probe, LEVEL_PTE, PTE_P | PTE_RW);
	pml4 = probe->space.pml4;
	pml4[ALIAS >> 39 & 511] = pml4[0];
	space_map(&probe->space, USER_CODE, code, PTE_P | PTE_US, LEVEL_PTE);
	space_map(&probe->space, USER_UPPER, physical(probe->page), PTE_P | PTE_RW | PTE_US,
		  LEVEL_PTE);
	space_map(&probe->space, USER_CODE + PAGE_SIZE, physical(probe->page),
		  PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	write_cr3(read_cr3());
}

/* What delivers an exception: 7.12. All of it is found in the upper half. */
static void move_tables(void)
{
	struct cpu *cpu = this_cpu();
	u32 i;

	for (i = 0; i < 32; i++) {
		u64 offset = alias_of(lass_stubs) + i * STUB_SIZE;

		cpu->idt[i].offset_low = offset;
		cpu->idt[i].offset_middle = offset >> 16;
		cpu->idt[i].offset_high = offset >> 32;
	}
	for (i = 0; i < 3; i++)
		cpu->tss.rsp[i] += ALIAS;
	for (i = 0; i < ARRAY_SIZE(cpu->tss.ist); i++)
		cpu->tss.ist[i] += ALIAS;
	cpu_set_tss(cpu);
	cpu->gdt[SELECTOR_TSS / 8 + 1] = alias_of(&cpu->tss) >> 32;
	write_gdtr((struct table_pointer){ sizeof(cpu->gdt) - 1, alias_of(cpu->gdt) });
	write_idtr((struct table_pointer){ sizeof(cpu->idt) - 1, alias_of(cpu->idt) });
	asm volatile("ltr %w0" : : "r" (SELECTOR_TSS));
}

/*
 * --- cases ---------------------------------------------------------------------------------------
 */

struct lass_row {
	const u8 *code;
	u64 address;			/* 0: that of the probe's page in the lower half */
	u32 cpl;
	bool off, smap, ac;		/* CR4.LASS = 0; CR4.SMAP = 1; EFLAGS.AC = 1 */
	outcome_t outcome;
};

static outcome_t run(const struct lass_row *row, u64 address)
{
	u64 code = row->code - lass_code + (u64)lass_code % PAGE_SIZE;
	struct lass_start start = {
		.rip = row->cpl ? USER_CODE + code : alias_of(row->code),
		.cs = row->cpl ? SELECTOR_USER_CODE64 : SELECTOR_CODE64,
		.rflags = RFLAGS_FIXED | (row->ac ? RFLAGS_AC : 0),
		.ss = row->cpl ? SELECTOR_USER_DATA : SELECTOR_DATA,
		.cr4 = read_cr4() | (row->off ? 0 : CR4_LASS) | (row->smap ? CR4_SMAP : 0),
		.address = address,
	};
	outcome_t outcome;

	start.rsp = row->cpl ? USER_CODE + 2 * PAGE_SIZE :
		    alias_of(this_cpu()->ist[0] + CPU_IST_SIZE);
	outcome = attempt(lass_enter, &start);
	write_ds(SELECTOR_DATA);
	write_es(SELECTOR_DATA);
	return outcome;
}

static void judge(const struct case_def *this_case)
{
	const struct lass_row *row = this_case->row;
	struct probe probe;

	make_alias(&probe);
	/* A jump that is allowed ends at once, too. */
	probe.page[0] = 0x0b0f0b0f0b0f0b0f;
	move_tables();
	write_cr2(CR2_VALUE);
	EXPECT(run(row, row->address ? row->address : probe.linear), row->outcome);
	if (row->outcome != OUTCOME_UD)
		EXPECT_EQ(last_trap()->cr2, CR2_VALUE);
	EXPECT_FALSE(read_cr4() & CR4_LASS);
}

#define LASS(name, fact, ...) \
	CASE_RUN(name, judge, PROVES("paging:lass." fact), NEEDS(CPU(LASS), CPU(SMAP)), \
		 ROW((&(const struct lass_row){ __VA_ARGS__ })))
#define USER		.cpl = 3

/* User mode and the upper half, in a page that paging would let it use. */
LASS(user_read_with_lass_off, "user", USER, .code = lass_read, .address = USER_UPPER, .off = true,
     .outcome = ALLOWED);
LASS(user_read, "user", USER, .code = lass_read, .address = USER_UPPER, .outcome = OUTCOME_GP0);
LASS(user_write, "user", USER, .code = lass_write, .address = USER_UPPER, .outcome = OUTCOME_GP0);
LASS(user_read_through_ss, "user", USER, .code = lass_read_by_rbp, .address = USER_UPPER,
     .outcome = OUTCOME_SS0);
LASS(user_push, "user", USER, .code = lass_push, .address = USER_UPPER, .outcome = OUTCOME_SS0);
LASS(user_fetch, "user", USER, .code = lass_jump, .address = USER_UPPER, .outcome = OUTCOME_GP0);
LASS(user_read_of_an_absent_page, "user", USER, .code = lass_read, .address = ABSENT_UPPER,
     .outcome = OUTCOME_GP0);
LASS(user_read_of_a_supervisor_page, "user", USER, .code = lass_read, .address = ALIAS,
     .outcome = OUTCOME_GP0);
LASS(user_read_with_ac, "user", USER, .code = lass_read, .address = USER_UPPER, .ac = true,
     .smap = true, .outcome = OUTCOME_GP0);
LASS(user_read_of_the_lower_half, "user", USER, .code = lass_read,
     .address = USER_CODE + PAGE_SIZE, .outcome = ALLOWED);

/* Supervisor mode and data in the lower half: as SMAP and AC say. */
LASS(read_with_lass_off, "super", .code = lass_read, .off = true, .smap = true, .outcome = ALLOWED);
LASS(read, "super", .code = lass_read, .smap = true, .outcome = OUTCOME_GP0);
LASS(write, "super", .code = lass_write, .smap = true, .outcome = OUTCOME_GP0);
LASS(read_through_ss, "super", .code = lass_read_by_rbp, .smap = true, .outcome = OUTCOME_SS0);
LASS(read_of_an_absent_page, "super", .code = lass_read, .smap = true, .address = ABSENT_LOWER,
     .outcome = OUTCOME_GP0);
LASS(read_of_the_upper_half, "super", .code = lass_read, .smap = true, .address = ALIAS + 0x100000,
     .outcome = ALLOWED);
LASS(read_with_ac, "super_ac", .code = lass_read, .smap = true, .ac = true, .outcome = ALLOWED);
LASS(write_with_ac, "super_ac", .code = lass_write, .smap = true, .ac = true, .outcome = ALLOWED);
LASS(read_without_smap, "super_ac", .code = lass_read, .outcome = ALLOWED);
LASS(write_without_smap, "super_ac", .code = lass_write, .outcome = ALLOWED);

/* Supervisor mode and fetches from the lower half: neither SMAP nor AC matters. */
LASS(fetch_with_lass_off, "fetch", .code = lass_jump, .off = true, .outcome = ALLOWED);
LASS(fetch, "fetch", .code = lass_jump, .outcome = OUTCOME_GP0);
LASS(fetch_with_ac, "fetch", .code = lass_jump, .ac = true, .outcome = OUTCOME_GP0);
LASS(fetch_with_smap_and_ac, "fetch", .code = lass_jump, .smap = true, .ac = true,
     .outcome = OUTCOME_GP0);
LASS(fetch_from_an_absent_page, "fetch", .code = lass_jump, .address = ABSENT_LOWER,
     .outcome = OUTCOME_GP0);
