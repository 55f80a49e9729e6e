/*
 * Code that writes to itself, and beside itself: 11.1.3 Handling Self- and Cross-Modifying Code.
 *
 * A processor that keeps decoded instructions has to notice a write to where they come from. When
 * the instruction that writes is itself one of them, it has to be done all the same, once and
 * completely: its operand lies right behind the code here, where a write looks like a change of the
 * code. Software that changes an instruction executes a jump, or a serializing instruction, before
 * it executes the changed one.
 */
#include "case.h"
#include "cpu/regs.h"
#include "mmu/pages.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:" name)
#define STATUS		(RFLAGS_CF | RFLAGS_PF | RFLAGS_ZF | RFLAGS_SF)
#define OPERAND		16		/* where it is, behind the code; both in 64 bytes */
#define MAX_CODE	12

struct form {
	u8 code[MAX_CODE];		/* with its operand at (RDI), RAX = 5, RCX = 4; then RET */
	u32 after;
	u64 flags;
};

static u64 run_code(const u8 *code, volatile u32 *operand)
{
	u64 flags;

	asm volatile("pushq $2; popfq; call *%2; pushfq; popq %0"
		     : "=&r" (flags) : "D" (operand), "r" (code), "a" (5), "c" (4)
		     : "memory", "cc");
	return flags & STATUS;
}

static void check_beside(const struct case_def *this_case)
{
	const struct form *row = this_case->row;
	u8 *page = page_alloc();
	volatile u32 *operand = (u32 *)(page + OPERAND);

	memcpy(page, row->code, MAX_CODE);
	*operand = 0x80000001;
	EXPECT_EQ(run_code(page, operand), row->flags);
	EXPECT_EQ(*operand, row->after);
	/* And once more, now that it has been decoded. */
	*operand = 0x80000001;
	EXPECT_EQ(run_code(page, operand), row->flags);
	EXPECT_EQ(*operand, row->after);
}

#define BESIDE(id, after, flags, ...)							\
	CASE_RUN(id, check_beside, FACT("smc.beside"),						\
		 ROW((&(const struct form){ { __VA_ARGS__, 0xc3 }, after, flags })))

BESIDE(store, 5, 0, 0x89, 0x07);
BESIDE(add, 0x80000006, RFLAGS_SF | RFLAGS_PF, 0x01, 0x07);
BESIDE(locked_add, 0x80000006, RFLAGS_SF | RFLAGS_PF, 0xf0, 0x01, 0x07);
BESIDE(inc, 0x80000002, RFLAGS_SF, 0xff, 0x07);
BESIDE(neg, 0x7fffffff, RFLAGS_CF | RFLAGS_PF, 0xf7, 0x1f);
BESIDE(exchange, 5, 0, 0x87, 0x07);
BESIDE(sar_by_1, 0xc0000000, RFLAGS_CF | RFLAGS_SF | RFLAGS_PF, 0xd1, 0x3f);
BESIDE(sar_by_immediate, 0xf8000000, RFLAGS_SF | RFLAGS_PF, 0xc1, 0x3f, 4);
BESIDE(sar_by_cl, 0xf8000000, RFLAGS_SF | RFLAGS_PF, 0xd3, 0x3f);
BESIDE(shl_by_cl, 0x10, 0, 0xd3, 0x27);
BESIDE(shr_by_cl, 0x08000000, RFLAGS_PF, 0xd3, 0x2f);
BESIDE(rol_by_cl, 0x18, 0, 0xd3, 0x07);
BESIDE(shld_by_cl, 0x10, 0, 0x0f, 0xa5, 0x07);
BESIDE(complement_a_bit, 0x80000011, 0, 0x0f, 0xbb, 0x0f);

/* MOV EAX, 1; the 1 becomes a 7, and a jump comes before the next execution. */
CASE(changed_instruction_behind_a_jump, FACT("smc.jump"))
{
	static const u8 code[] = { 0xb8, 1, 0, 0, 0, 0xc3 };
	u8 *page = page_alloc();
	u32 i, got;

	memcpy(page, code, sizeof(code));
	for (i = 1; i < 20; i++) {
		*(volatile u8 *)(page + 1) = i;
		asm volatile("call *%1" : "=a" (got) : "r" (page) : "memory");
		EXPECT_EQ(got, i);
	}
}

/* It changes the instruction behind the jump behind it: MOVB $9, 1(%rdx); JMP; MOV EAX, 1; RET. */
CASE(changes_what_it_jumps_to, FACT("smc.jump"))
{
	static const u8 code[] = { 0xc6, 0x42, 0x07, 9, 0xeb, 0, 0xb8, 1, 0, 0, 0, 0xc3 };
	u8 *page = page_alloc();
	u32 got;

	memcpy(page, code, sizeof(code));
	asm volatile("call *%1" : "=a" (got) : "r" (page), "d" (page) : "memory");
	EXPECT_EQ(got, 9);
}
