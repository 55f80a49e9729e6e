/*
 * The debug registers and what they do: 20.2 Debug Registers, 20.3.1 Debug Exception.
 *
 * MOV to and from DR0 to DR7, the bits of DR6 and DR7 that are fixed, the two that must not be
 * written in 64-bit mode, general detection, and breakpoints on code, on data of each length, and
 * beside it. Hypervisors switch these registers lazily and intercept them until the guest uses
 * them, so the first access of a case is often another path than the second.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"

#define FACT(name)	PROVES("guest-instructions:dr." name)
#define DB		OUTCOME_EXCEPTION(VECTOR_DB)

#define DR6_B(n)	BIT(n)
#define DR6_BD		BIT(13)
#define DR6_BS		BIT(14)
#define DR6_CAUSES	(BITS(3, 0) | DR6_BD | DR6_BS)

/* --- the registers ------------------------------------------------------------------ */

CASE(addresses_are_any_number, FACT("noncanon"))
{
	static const u64 values[] = { 0, ~0ull, 0x8000000000000000, 0x123456789abcdef0 };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT(write_dr0_safe(values[i]), OUTCOME_DONE);
		EXPECT(ATTEMPT("mov %0, %%dr1", : "r" (values[i] ^ 1)), OUTCOME_DONE);
		EXPECT(ATTEMPT("mov %0, %%dr2", : "r" (values[i] ^ 2)), OUTCOME_DONE);
		EXPECT(ATTEMPT("mov %0, %%dr3", : "r" (values[i] ^ 3)), OUTCOME_DONE);
		EXPECT_EQ(read_dr0(), values[i]);
		EXPECT_EQ(read_dr1(), values[i] ^ 1);
		EXPECT_EQ(read_dr2(), values[i] ^ 2);
		EXPECT_EQ(read_dr3(), values[i] ^ 3);
	}
}

static void check_upper_bit(const struct case_def *this_case)
{
	const u64 *bit = this_case->row;
	u64 dr6 = read_dr6(), dr7 = read_dr7();

	EXPECT(write_dr6_safe(dr6 | *bit), OUTCOME_GP0);
	EXPECT_EQ(read_dr6(), dr6);
	EXPECT(write_dr7_safe(dr7 | *bit), OUTCOME_GP0);
	EXPECT_EQ(read_dr7(), dr7);
}

#define UPPER_BIT(n)								\
	static const u64 bit_##n = BIT(n);					\
	CASE_RUN(bit_##n##_is_refused, check_upper_bit, FACT("upper"), ROW(&bit_##n))

UPPER_BIT(32);
UPPER_BIT(47);
UPPER_BIT(63);

/* Bit 12 of DR6 and bits 15, 14 and 12 of DR7 are 0; DR6[10:4] and [31:17], DR7[10] are 1. */
#define DR6_ALWAYS_1	(BITS(10, 4) | BITS(31, 17))

CASE(fixed_bits_of_dr6, FACT("fixed"))
{
	EXPECT(write_dr6_safe(0), OUTCOME_DONE);
	EXPECT_EQ(read_dr6() & DR6_ALWAYS_1, DR6_ALWAYS_1);
	EXPECT_EQ(read_dr6() & (BIT(12) | DR6_CAUSES | BITS(63, 32)), 0);
	EXPECT(write_dr6_safe(BITS(31, 0)), OUTCOME_DONE);
	EXPECT_EQ(read_dr6() & DR6_ALWAYS_1, DR6_ALWAYS_1);
	EXPECT_EQ(read_dr6() & (BIT(12) | BITS(63, 32)), 0);
	EXPECT_EQ(read_dr6() & DR6_CAUSES, DR6_CAUSES);
}

CASE(fixed_bits_of_dr7, FACT("fixed"))
{
	EXPECT(write_dr7_safe(0), OUTCOME_DONE);
	EXPECT_EQ(read_dr7(), DR7_FIXED);
	EXPECT(write_dr7_safe(BIT(12) | BIT(14) | BIT(15)), OUTCOME_DONE);
	EXPECT_EQ(read_dr7(), DR7_FIXED);
	EXPECT(write_dr7_safe(0xffff0000), OUTCOME_DONE);
	EXPECT_EQ(read_dr7(), 0xffff0000 | DR7_FIXED);
}

CASE(dr4_and_dr5_with_de, FACT("de"))
{
	write_cr4(read_cr4() | CR4_DE);
	EXPECT(ATTEMPT("mov %%dr4, %%rax", : : "rax"), OUTCOME_UD);
	EXPECT(ATTEMPT("mov %%dr5, %%rax", : : "rax"), OUTCOME_UD);
	EXPECT(ATTEMPT("mov %0, %%dr4", : "r" (DR6_FIXED)), OUTCOME_UD);
	EXPECT(ATTEMPT("mov %0, %%dr5", : "r" (DR7_FIXED)), OUTCOME_UD);
}

CASE(dr4_and_dr5_are_aliases, FACT("de"))
{
	u64 value = 0;

	write_dr6(DR6_FIXED | DR6_B(2));
	EXPECT(ATTEMPT("mov %%dr4, %0", "+r" (value)), OUTCOME_DONE);
	EXPECT_EQ(value, read_dr6());
	EXPECT(ATTEMPT("mov %0, %%dr5", : "r" (DR7_FIXED | BIT(9))), OUTCOME_DONE);
	EXPECT_EQ(read_dr7(), DR7_FIXED | BIT(9));
	EXPECT(ATTEMPT("mov %%dr5, %0", "+r" (value)), OUTCOME_DONE);
	EXPECT_EQ(value, DR7_FIXED | BIT(9));
}

/* There is no DR8: REX.R is not a part of the number. */
CASE(no_dr8, FACT("de"))
{
	EXPECT(ATTEMPT(".byte 0x44, 0x0f, 0x21, 0xc0", : : "rax"), OUTCOME_UD);
}

/* --- general detection ---------------------------------------------------------------- */

INSTRUCTION(from_dr0, "", "mov %dr0, %rax");
INSTRUCTION(from_dr7, "", "mov %dr7, %rax");
INSTRUCTION(to_dr2, "xorl %eax, %eax", "mov %rax, %dr2");
INSTRUCTION(to_dr6, "xorl %eax, %eax", "mov %rax, %dr6");
INSTRUCTION(to_dr7, "xorl %eax, %eax", "mov %rax, %dr7");

struct detect_row {
	void (*code)(void *argument);
	const u8 *at;
};

static void check_detected(const struct case_def *this_case)
{
	const struct detect_row *row = this_case->row;

	write_dr7(DR7_FIXED | DR7_GD | BIT(9));
	EXPECT(attempt(row->code, NULL), DB);
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, DR6_BD);
	EXPECT_EQ(read_dr7(), DR7_FIXED | BIT(9));
	/* It was off in the handler, and is still. */
	EXPECT(attempt(row->code, NULL), OUTCOME_DONE);
}

#define DETECTED(id)								\
	CASE_RUN(id##_is_detected, check_detected, FACT("gd"),			\
		 ROW((&(const struct detect_row){ id, id##_at })))

DETECTED(from_dr0);
DETECTED(from_dr7);
DETECTED(to_dr2);
DETECTED(to_dr6);
DETECTED(to_dr7);

/* --- breakpoints: 20.2.4 ------------------------------------------------------------------ */

#define ENABLE_LOCAL(n)		BIT(2 * (n))
#define ENABLE_GLOBAL(n)	BIT(2 * (n) + 1)
#define WATCH(n, rw, length)	((u64)((rw) | (length) << 2) << (16 + 4 * (n)))

enum { ON_EXECUTION = 0, ON_WRITE = 1, ON_ACCESS = 3 };
enum { LENGTH_1 = 0, LENGTH_2 = 1, LENGTH_8 = 2, LENGTH_4 = 3 };

INSTRUCTION(nothing, "nop", "nop; nop");
INSTRUCTION(read_1, "", "movb (%rdi), %al");
INSTRUCTION(write_1, "", "movb %al, (%rdi)");
INSTRUCTION(read_8, "", "movq (%rdi), %rax");
INSTRUCTION(write_8, "", "movq %rax, (%rdi)");
INSTRUCTION(modify_4, "", "incl (%rdi)");

CASE(code_breakpoint_on_each_register, FACT("breakpoint"))
{
	u32 n;

	write_dr0((u64)nothing_at);
	write_dr1((u64)nothing_at);
	write_dr2((u64)nothing_at);
	write_dr3((u64)nothing_at);
	for (n = 0; n < 4; n++) {
		write_dr6(DR6_FIXED);
		write_dr7(DR7_FIXED | ENABLE_GLOBAL(n));
		EXPECT(attempt(nothing, NULL), DB);
		EXPECT_EQ(last_trap()->frame.rip, (u64)nothing_at);
		/* Others may be reported though not enabled. */
		EXPECT_TRUE(last_trap()->dr6 & DR6_B(n));
		EXPECT_EQ(last_trap()->dr6 & (DR6_BD | DR6_BS), 0);
	}
	write_dr7(DR7_FIXED);
	EXPECT(attempt(nothing, NULL), OUTCOME_DONE);
}

/* The data breakpoint of register 1, on 8 bytes from offset 16 of a page, and one access. */
struct data_row {
	u32 rw, length, address;	/* of the breakpoint: R/W1, LEN1, offset of DR1 */
	void (*code)(void *argument);
	const u8 *next;
	u32 at;				/* offset of the access */
	bool hit;
};

static void check_data(const struct case_def *this_case)
{
	const struct data_row *row = this_case->row;
	u8 *page = page_alloc();

	write_dr1(physical(page) + row->address);
	write_dr7(DR7_FIXED | ENABLE_LOCAL(1) | WATCH(1, row->rw, row->length));
	if (!row->hit) {
		EXPECT(attempt(row->code, page + row->at), OUTCOME_DONE);
		EXPECT_EQ(read_dr6() & (DR6_BD | DR6_BS), 0);
		return;
	}
	EXPECT(attempt(row->code, page + row->at), DB);
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->next);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, DR6_B(1));
}

#define DATA(id, rw, length, address, code, at, hit)				\
	CASE_RUN(data_##id, check_data, FACT("breakpoint"),			\
		 ROW((&(const struct data_row){ rw, length, address, code, code##_next, at, hit })))

DATA(write_byte, ON_WRITE, LENGTH_1, 16, write_1, 16, true);
DATA(write_beside_byte, ON_WRITE, LENGTH_1, 16, write_1, 17, false);
DATA(read_of_write_only, ON_WRITE, LENGTH_8, 16, read_1, 16, false);
DATA(read_of_both, ON_ACCESS, LENGTH_1, 16, read_1, 16, true);
DATA(write_of_both, ON_ACCESS, LENGTH_1, 16, write_1, 16, true);
DATA(last_of_2, ON_WRITE, LENGTH_2, 16, write_1, 17, true);
DATA(behind_2, ON_WRITE, LENGTH_2, 16, write_1, 18, false);
DATA(last_of_4, ON_WRITE, LENGTH_4, 16, write_1, 19, true);
DATA(behind_4, ON_WRITE, LENGTH_4, 16, write_1, 20, false);
DATA(last_of_8, ON_WRITE, LENGTH_8, 16, write_1, 23, true);
DATA(behind_8, ON_WRITE, LENGTH_8, 16, write_1, 24, false);
DATA(before_8, ON_ACCESS, LENGTH_8, 16, read_1, 15, false);
/* An access need only overlap, and LEN masks the low bits of the address. */
DATA(wide_access_to_byte, ON_ACCESS, LENGTH_1, 20, read_8, 16, true);
DATA(access_that_ends_in_it, ON_WRITE, LENGTH_4, 16, write_8, 11, true);
DATA(address_is_aligned, ON_WRITE, LENGTH_4, 18, write_1, 16, true);
DATA(read_modify_write, ON_WRITE, LENGTH_4, 16, modify_4, 16, true);

CASE(breakpoint_in_user_mode, FACT("breakpoint"))
{
	u8 *page = page_alloc();

	write_dr3(physical(page));
	write_dr7(DR7_FIXED | ENABLE_GLOBAL(3) | WATCH(3, ON_WRITE, LENGTH_8));
	EXPECT(run_at_cpl(3, write_8, page), DB);
	EXPECT_EQ(last_trap()->frame.rip, (u64)write_8_next);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, DR6_B(3));
}

INSTRUCTION(write_8_stepped, "pushfq; orl $0x100, (%rsp); popfq", "movq %rax, (%rdi)");

/* Both are traps of the same instruction: one exception tells of both. */
CASE(breakpoint_and_single_step, FACT("breakpoint"))
{
	u8 *page = page_alloc();

	write_dr0(physical(page));
	write_dr7(DR7_FIXED | ENABLE_LOCAL(0) | WATCH(0, ON_WRITE, LENGTH_8));
	EXPECT(attempt(write_8_stepped, page), DB);
	EXPECT_EQ(last_trap()->frame.rip, (u64)write_8_stepped_next);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, DR6_BS | DR6_B(0));
}
