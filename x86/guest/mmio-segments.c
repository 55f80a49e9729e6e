/*
 * The second memory operand of an instruction whose first one is a device: limits and types of
 * segments, null selectors, canonical addresses, alignment (6.3, 6.4, chapter 4, 7.15;
 * lib/x86/mmu/mmio.h).
 *
 * A hypervisor gets its exit at the first operand, before the processor has looked at the second,
 * so it has to make all these checks itself. They come before the second access, and after the
 * first.
 */
#include "case.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:mmio." name)

/*
 * User mode may use the first device-less page and RAM; the code and its stack are below 4 MBytes.
 */
static void map(void)
{
	u64 *pml4;
	u32 i;

	static const u64 pages[] = { MMIO_RAM, MMIO_NOTHING, MMIO_RAM_2 };

	mmio_map();
	pml4 = (u64 *)(read_cr3() & PTE_ADDRESS);
	pml4[0] |= PTE_US;
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		*mmio_entry(pages[i]) |= PTE_US;
	write_cr3(read_cr3());
	memset((void *)MMIO_RAM, 0xaa, PAGE_SIZE);
}

BEFORE_EACH_CASE(map);

/* --- 64-bit mode: canonical addresses; #SS through the stack segment -------------------------- */

#define LAST_CANONICAL	"0x00007fffffffffff"	/* of 48 bits */

INSTRUCTION(move_beyond, "movq %rdi, %rsi; movabsq $" LAST_CANONICAL ", %rdi", "movsl");
INSTRUCTION(move_from_beyond, "movq %rdi, %r8; movabsq $" LAST_CANONICAL ", %rsi", "movsl");
INSTRUCTION(compare_beyond, "movq %rdi, %rsi; movabsq $" LAST_CANONICAL ", %rdi", "cmpsl");
INSTRUCTION(push_beyond, "movabsq $" LAST_CANONICAL " + 8, %rsp", "pushq (%rdi)");
INSTRUCTION(call_beyond, "movabsq $" LAST_CANONICAL " + 4, %rsp", "call *(%rdi)");
INSTRUCTION(pop_from_beyond, "movabsq $" LAST_CANONICAL ", %rsp", "popq (%rdi)");

struct code_64 {
	void (*code)(void *argument);
	const u8 *at;
	outcome_t outcome;
	u64 flags;		/* of RFLAGS at CPL 3 */
};

static void check_64(const struct case_def *this_case)
{
	const struct code_64 *row = this_case->row;

	if (row->flags & RFLAGS_AC)
		write_cr0(read_cr0() | CR0_AM);
	EXPECT(run_at_cpl_with_flags(3, row->flags, row->code, (void *)MMIO_NOTHING),
	       row->outcome);
	if (row->outcome != OUTCOME_DONE)
		EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
	EXPECT_EQ(*(u32 *)MMIO_RAM, 0xaaaaaaaa);
}

#define CASE_64(id, fact, name, outcome, flags)					\
	CASE_RUN(id, check_64, FACT(fact),						\
		 ROW((&(const struct code_64){ name, name##_at, outcome, flags })))

CASE_64(move_beyond_canonical, "movs_from", move_beyond, OUTCOME_GP0, 0);
CASE_64(move_from_beyond_canonical, "movs_to", move_from_beyond, OUTCOME_GP0, 0);
CASE_64(compare_beyond_canonical, "scas_cmps", compare_beyond, OUTCOME_GP0, 0);
CASE_64(push_beyond_canonical, "push_pop", push_beyond, OUTCOME_FAULT(VECTOR_SS, 0), 0);
CASE_64(call_beyond_canonical, "push_pop", call_beyond, OUTCOME_FAULT(VECTOR_SS, 0), 0);
CASE_64(pop_from_beyond_canonical, "push_pop", pop_from_beyond, OUTCOME_FAULT(VECTOR_SS, 0), 0);

/* --- alignment: RAX keeps RSP ----------------------------------------------------------------- */

INSTRUCTION(move_misaligned, "movq %rdi, %rsi; movl $" STRINGIFY(MMIO_LINEAR) " + 2, %edi",
	    "movsl");
INSTRUCTION(move_aligned, "movq %rdi, %rsi; movl $" STRINGIFY(MMIO_LINEAR) " + 4, %edi", "movsl");
INSTRUCTION(compare_misaligned, "movq %rdi, %rsi; movl $" STRINGIFY(MMIO_LINEAR) " + 1, %edi",
	    "cmpsw");
INSTRUCTION(push_misaligned, "movq %rsp, %rax; subq $4, %rsp", "pushq (%rdi); movq %rax, %rsp");
INSTRUCTION(push_aligned, "movq %rsp, %rax; andq $-8, %rsp", "pushq (%rdi); movq %rax, %rsp");

#define AC0	OUTCOME_FAULT(VECTOR_AC, 0)

CASE_64(move_to_misaligned, "ac", move_misaligned, AC0, RFLAGS_AC);
CASE_64(move_to_misaligned_is_allowed, "ac", move_aligned, OUTCOME_DONE, RFLAGS_AC);
CASE_64(compare_with_misaligned, "ac", compare_misaligned, AC0, RFLAGS_AC);
CASE_64(push_on_misaligned_stack, "ac", push_misaligned, AC0, RFLAGS_AC);
CASE_64(push_on_aligned_stack, "ac", push_aligned, OUTCOME_DONE, RFLAGS_AC);

/* --- compatibility mode: the segment ---------------------------------------------------------- */

#define SELECTOR	"0x6b"			/* SELECTOR_SPARE, RPL 3 */
_Static_assert(SELECTOR_SPARE == 0x68 && MMIO_NOTHING == 0x50003000, "the code below");

/* ES and EDI: the second operand. */
#define LOAD_ES		"movl $" SELECTOR ", %eax; movl %eax, %es; movl $0x50003000, %esi; "

CODE32(move_to_es, LOAD_ES "movsl");
CODE32(compare_with_es, LOAD_ES "cmpsl");
CODE32(move_to_null, "xorl %eax, %eax; movl %eax, %es; movl $0x50003000, %esi; movsl");
/* SS and EDI: the stack. */
CODE32(push_on_ss, "movl %esp, %ebx; movl %ss, %ecx; movl $" SELECTOR ", %eax; movl %eax, %ss; "
	"movl %edi, %esp; pushl 0x50003000; movl %ecx, %ss; movl %ebx, %esp");
CODE32(pop_from_ss, "movl %esp, %ebx; movl %ss, %ecx; movl $" SELECTOR ", %eax; movl %eax, %ss; "
	"movl %edi, %esp; popl 0x50003000; movl %ecx, %ss; movl %ebx, %esp");

/* A descriptor (6.4.5) with DPL 3 and base MMIO_RAM; the flags are bits 55:52. */
#define DESCRIPTOR(type, flags, limit)								\
	(0xf0ull << 40 | (u64)(type) << 40 | (u64)(flags) << 52 | FIELD((u64)(limit), 15, 0) |	\
	 FIELD((u64)(limit), 19, 16) << 48 | FIELD((u64)MMIO_RAM, 23, 0) << 16 |		\
	 FIELD((u64)MMIO_RAM, 31, 24) << 56)
#define READ_ONLY		1
#define READ_WRITE		3
#define EXPAND_DOWN		7
#define EXECUTE_ONLY		9
#define EXECUTE_READ		11
#define BIG			4		/* D/B */

struct code_32 {
	const u8 *code;
	u64 descriptor;
	u32 offset;			/* EDI */
	outcome_t outcome;
};

static void check_32(const struct case_def *this_case)
{
	const struct code_32 *row = this_case->row;

	cpu_set_descriptor(SELECTOR_SPARE, row->descriptor);
	EXPECT(run_in_compatibility_mode(3, row->code, row->offset), row->outcome);
	if (row->outcome == OUTCOME_DONE)
		return;
	EXPECT_EQ(*(u32 *)MMIO_RAM, 0xaaaaaaaa);
	EXPECT_EQ(*(u32 *)(MMIO_RAM + 0x800), 0xaaaaaaaa);
}

#define CASE_32(id, fact, code, type, flags, limit, offset, outcome)				\
	CASE_RUN(id, check_32, FACT(fact),							\
		 ROW((&(const struct code_32){							\
			code, DESCRIPTOR(type, flags, limit), offset, outcome })))

#define SS0	OUTCOME_FAULT(VECTOR_SS, 0)

CASE_32(move_up_to_the_limit, "movs_from", move_to_es, READ_WRITE, BIG, 0x803, 0x800, OUTCOME_DONE);
CASE_32(move_beyond_the_limit, "movs_from", move_to_es, READ_WRITE, BIG, 0x802, 0x800, OUTCOME_GP0);
CASE_32(move_above_an_expand_down_limit, "movs_from", move_to_es, EXPAND_DOWN, BIG, 0x7ff, 0x800,
	OUTCOME_DONE);
CASE_32(move_to_an_expand_down_limit, "movs_from", move_to_es, EXPAND_DOWN, BIG, 0x800, 0x800,
	OUTCOME_GP0);
CASE_32(move_above_64_kbytes_expanding_down, "movs_from", move_to_es, EXPAND_DOWN, 0, 0x7ff, 0xfffd,
	OUTCOME_GP0);
CASE_32(move_to_read_only, "movs_from", move_to_es, READ_ONLY, BIG, 0xfff, 0x800, OUTCOME_GP0);
CASE_32(move_to_code, "movs_from", move_to_es, EXECUTE_READ, BIG, 0xfff, 0x800, OUTCOME_GP0);
CASE_32(move_to_a_null_selector, "movs_from", move_to_null, READ_WRITE, BIG, 0xfff, 0x800,
	OUTCOME_GP0);
CASE_32(compare_up_to_the_limit, "scas_cmps", compare_with_es, READ_ONLY, BIG, 0x803, 0x800,
	OUTCOME_DONE);
CASE_32(compare_beyond_the_limit, "scas_cmps", compare_with_es, READ_ONLY, BIG, 0x802, 0x800,
	OUTCOME_GP0);
CASE_32(compare_with_code, "scas_cmps", compare_with_es, EXECUTE_READ, BIG, 0xfff, 0x800,
	OUTCOME_DONE);
CASE_32(push_within_the_limit, "push_pop", push_on_ss, READ_WRITE, BIG, 0x803, 0x804, OUTCOME_DONE);
CASE_32(push_beyond_the_limit, "push_pop", push_on_ss, READ_WRITE, BIG, 0x802, 0x804, SS0);
CASE_32(push_below_an_expand_down_limit, "push_pop", push_on_ss, EXPAND_DOWN, BIG, 0x801, 0x804,
	SS0);
CASE_32(push_on_a_16_bit_stack, "push_pop", push_on_ss, READ_WRITE, 0, 0x803, 0x12340804,
	OUTCOME_DONE);
CASE_32(pop_from_beyond_the_limit, "push_pop", pop_from_ss, READ_WRITE, BIG, 0x802, 0x800, SS0);
