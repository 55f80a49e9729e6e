/*
 * How an exception or interrupt gets to its handler: what is pushed, on which stack and with which
 * flags (7.12 Exception and Interrupt Handling, 7.14 Exception and Interrupt Handling in
 * 64-bit Mode), what happens when the gate is not fit for it (7.13 Error Code), and when a second
 * exception on the way becomes a double fault (7.15, Interrupt 8, Table 7-5).
 */
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"

#define TEST_VECTOR	0x40

INSTRUCTION(int_40h, "", "int $0x40");
INSTRUCTION(undefined, "", "ud2");
INSTRUCTION(read_byte, "", "movb (%rdi), %al");

/* The boot page tables map the first 4 GiB only. */
#define NOT_MAPPED	0x123456789000ull
#define NOT_MAPPED_STACK 0x223456789000ull
#define NOT_CANONICAL	0x8000000000000000ull

static struct gate *gate(u8 vector)
{
	return &this_cpu()->idt[vector];
}

/* The end of what was pushed for the last trap: where its stack began. */
static u64 last_stack(void)
{
	return (u64)(last_trap()->at + 1);
}

/* --- gates that are not fit ------------------------------------------------------ */

#define IST_BEYOND_TSS		7
#define LIMIT_WITHOUT_IST7	(offsetof(struct tss, ist[6]) - 1)

/* Gate types of 64-bit mode are EH and FH only: 3.5. */
static void absent(struct gate *g)		{ g->type &= ~0x80; }
static void task_gate(struct gate *g)		{ g->type = 0xe5; }
static void interrupt_gate_16(struct gate *g)	{ g->type = 0xe6; }
static void call_gate(struct gate *g)		{ g->type = 0xec; }
static void null_code(struct gate *g)		{ g->selector = 0; }
static void data_as_code(struct gate *g)	{ g->selector = SELECTOR_DATA; }
static void code_of_user(struct gate *g)	{ g->selector = SELECTOR_USER_CODE64 & ~3; }
static void code_beyond_gdt(struct gate *g)	{ g->selector = GDT_SIZE; }
static void code_of_32_bits(struct gate *g)	{ g->selector = SELECTOR_CODE32; }

static void handler_not_canonical(struct gate *g)
{
	g->offset_high = NOT_CANONICAL >> 32;
}

static void code_absent(struct gate *g)
{
	cpu_set_descriptor(SELECTOR_SPARE, this_cpu()->gdt[SELECTOR_CODE64 / 8] & ~BIT(47));
	g->selector = SELECTOR_SPARE;
}

static void idt_too_short(struct gate *g)
{
	write_idtr((struct table_pointer){ (u8 *)g - (u8 *)this_cpu()->idt - 1,
					   (u64)this_cpu()->idt });
}

static void stack_not_canonical(struct gate *g)
{
	g->ist = 4;
	this_cpu()->tss.ist[3] = NOT_CANONICAL;
}

/* The stack pointer is in the TSS at 92 to 99, and the limit is less: 10.7. */
static void tss_too_short(struct gate *g)
{
	u64 *descriptor = &this_cpu()->gdt[SELECTOR_TSS / 8];

	g->ist = IST_BEYOND_TSS;
	cpu_set_tss(this_cpu());
	*descriptor = (*descriptor & ~BITS(15, 0)) | LIMIT_WITHOUT_IST7;
	asm volatile("ltr %w0" : : "r" (SELECTOR_TSS));
}

struct bad_gate {
	void (*spoil)(struct gate *gate);
	outcome_t outcome;
};

static void check_bad_gate(const struct case_def *this_case)
{
	const struct bad_gate *row = this_case->row;

	row->spoil(gate(TEST_VECTOR));
	EXPECT(attempt(int_40h, NULL), row->outcome);
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_40h_at);
}

/* Error code: the vector with the IDT flag (bit 1), or a selector; EXT is 0 for INT n. */
#define IDT_ERROR	(TEST_VECTOR * 8 + 2)

#define BAD_GATE(id, fact, vector, error)					\
	static const struct bad_gate bad_gate_##id = { id, OUTCOME_FAULT(vector, error) };\
	CASE_RUN(gate_##id, check_bad_gate, PROVES(fact), ROW(&bad_gate_##id))

BAD_GATE(absent, "exceptions:error.gate_not_present", VECTOR_NP, IDT_ERROR);
BAD_GATE(idt_too_short, "exceptions:error.idt_limit", VECTOR_GP, IDT_ERROR);
BAD_GATE(task_gate, "exceptions:error.gate_type", VECTOR_GP, IDT_ERROR);
BAD_GATE(interrupt_gate_16, "exceptions:error.gate_type", VECTOR_GP, IDT_ERROR);
BAD_GATE(call_gate, "exceptions:error.gate_type", VECTOR_GP, IDT_ERROR);
BAD_GATE(null_code, "exceptions:error.gate_cs_null", VECTOR_GP, 0);
BAD_GATE(data_as_code, "exceptions:error.gate_cs_not_code", VECTOR_GP, SELECTOR_DATA);
BAD_GATE(code_of_user, "exceptions:error.gate_cs_not_code", VECTOR_GP, SELECTOR_USER_CODE64 & ~3);
BAD_GATE(code_beyond_gdt, "exceptions:vector.13", VECTOR_GP, GDT_SIZE);
BAD_GATE(code_absent, "exceptions:error.gate_cs_not_present", VECTOR_NP, SELECTOR_SPARE);
BAD_GATE(code_of_32_bits, "exceptions:error.gate_cs_not_long", VECTOR_GP, SELECTOR_CODE32);
BAD_GATE(handler_not_canonical, "exceptions:vector.13", VECTOR_GP, 0);
BAD_GATE(stack_not_canonical, "exceptions:error.stack_not_canonical", VECTOR_SS, 0);
BAD_GATE(tss_too_short, "exceptions:vector.10", VECTOR_TS, SELECTOR_TSS);

/*
 * An exception is an event external to the program (7.13): EXT is 1 in the error code of the
 * second.
 */
CASE(absent_gate_of_an_exception,
     PROVES("exceptions:pair.benign.contributory", "exceptions:frame.ext_bit"))
{
	absent(gate(VECTOR_UD));
	EXPECT(attempt(undefined, NULL), OUTCOME_FAULT(VECTOR_NP, VECTOR_UD * 8 + 3));
	EXPECT_EQ(last_trap()->frame.rip, (u64)undefined_at);
}

/* --- what is pushed, and where ---------------------------------------------------- */

CASE(frame_at_the_same_privilege, PROVES("exceptions:frame.64bit"))
{
	const struct trap_frame *frame = &last_trap()->frame;

	EXPECT(attempt(undefined, NULL), OUTCOME_UD);
	EXPECT_EQ(frame->cs, SELECTOR_CODE64);
	EXPECT_EQ(frame->ss, SELECTOR_DATA);
	/* Pushed even without a change of privilege; the new stack begins on 16 bytes. */
	EXPECT_EQ(last_stack(), frame->rsp & ~15ull);
}

/* Loads RSP from RDI, so that the frame begins at a place of the case's choice. */
INSTRUCTION(undefined_on_another_stack, "movq %rdi, %rsp", "ud2");

CASE(stack_is_aligned_to_16_bytes, PROVES("exceptions:frame.64bit"))
{
	u64 end = (u64)this_cpu()->user_stack + CPU_USER_SIZE;
	u32 i;

	for (i = 0; i < 16; i++) {
		EXPECT(attempt(undefined_on_another_stack, (void *)(end - i)), OUTCOME_UD);
		EXPECT_EQ(last_trap()->frame.rsp, end - i);
		EXPECT_EQ(last_stack(), (end - i) & ~15ull);
	}
}

CASE(frame_from_user_mode, PROVES("exceptions:frame.64bit"))
{
	const struct trap_frame *frame = &last_trap()->frame;

	EXPECT(run_at_cpl(3, undefined, NULL), OUTCOME_UD);
	EXPECT_EQ(frame->cs, SELECTOR_USER_CODE64);
	EXPECT_EQ(frame->ss, SELECTOR_USER_DATA);
	EXPECT_EQ(last_stack(), this_cpu()->tss.rsp[0]);
}

static u16 handler_ss;

static void note_ss(struct trap_frame *frame)
{
	(void)frame;
	handler_ss = read_ss();
}

/* 7.14.4: a change of privilege loads SS with a null selector whose RPL is the new CPL. */
CASE(stack_segment_is_null_after_a_change, PROVES("exceptions:frame.64bit"))
{
	trap_on(TEST_VECTOR, note_ss);
	EXPECT(attempt(int_40h, NULL), OUTCOME_DONE);
	EXPECT_EQ(handler_ss, SELECTOR_DATA);
	EXPECT(run_at_cpl(3, int_40h, NULL), OUTCOME_DONE);
	EXPECT_EQ(handler_ss, 0);
}

CASE(ist_switches_without_a_change, PROVES("exceptions:frame.ist"))
{
	u64 end = (u64)this_cpu()->user_stack + CPU_USER_SIZE;

	gate(VECTOR_UD)->ist = 5;
	this_cpu()->tss.ist[4] = end - 5;
	EXPECT(attempt(undefined, NULL), OUTCOME_UD);
	EXPECT_EQ(last_stack(), (end - 5) & ~15ull);
	EXPECT_EQ(last_trap()->frame.ss, SELECTOR_DATA);
}

/* --- flags ------------------------------------------------------------------------ */

#define GATE_TRAP_USER	0xef

static u64 handler_flags;

static void note_flags(struct trap_frame *frame)
{
	(void)frame;
	handler_flags = read_rflags();
}

/* INT n with flags from RDI; the code leaves none of them behind. */
INSTRUCTION(int_40h_with_flags, "pushfq; orq %rdi, (%rsp); popfq", "int $0x40; pushq $2; popfq");

#define HANDLED_FLAGS	(RFLAGS_IF | RFLAGS_NT | RFLAGS_TF | RFLAGS_RF)

/* What is left of RFLAGS.IF and NT in the handler; in the saved image they are as they were. */
static void check_flags(u64 expected)
{
	trap_on(TEST_VECTOR, note_flags);
	EXPECT(attempt(int_40h_with_flags, (void *)(RFLAGS_IF | RFLAGS_NT)), OUTCOME_DONE);
	EXPECT_EQ(handler_flags & HANDLED_FLAGS, expected);
	EXPECT(attempt(int_40h_with_flags, (void *)RFLAGS_NT), OUTCOME_DONE);
	EXPECT_EQ(handler_flags & HANDLED_FLAGS, 0);
	trap_on(TEST_VECTOR, NULL);
	EXPECT(attempt(int_40h_with_flags, (void *)RFLAGS_IF), OUTCOME_EXCEPTION(TEST_VECTOR));
	EXPECT_EQ(last_trap()->frame.rflags & HANDLED_FLAGS, RFLAGS_IF);
}

CASE(interrupt_gate_clears_if, PROVES("exceptions:frame.if_tf"))
{
	check_flags(0);
}

CASE(trap_gate_keeps_if, PROVES("exceptions:frame.if_tf"))
{
	gate(TEST_VECTOR)->type = GATE_TRAP_USER;
	check_flags(RFLAGS_IF);
}

/* TF is 1 while INT n executes: the handler runs without, and the saved image has it. */
CASE(single_step_is_off_in_the_handler, PROVES("exceptions:frame.if_tf"))
{
	trap_on(TEST_VECTOR, NULL);
	EXPECT(attempt(int_40h_with_flags, (void *)RFLAGS_TF), OUTCOME_EXCEPTION(TEST_VECTOR));
	EXPECT_TRUE(last_trap()->frame.rflags & RFLAGS_TF);
}

CASE(fault_saves_rf, PROVES("exceptions:frame.rf"))
{
	EXPECT(attempt(undefined, NULL), OUTCOME_UD);
	EXPECT_TRUE(last_trap()->frame.rflags & RFLAGS_RF);
	EXPECT(attempt(read_byte, (void *)NOT_MAPPED), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT_TRUE(last_trap()->frame.rflags & RFLAGS_RF);
}

CASE(software_interrupt_saves_no_rf, PROVES("exceptions:frame.rf"))
{
	EXPECT(attempt(int_40h, NULL), OUTCOME_EXCEPTION(TEST_VECTOR));
	EXPECT_FALSE(last_trap()->frame.rflags & RFLAGS_RF);
}

/* --- two exceptions: serial, or a double fault ------------------------------------- */

static void unmapped_stack(struct gate *g)
{
	g->ist = 4;
	this_cpu()->tss.ist[3] = NOT_MAPPED_STACK;
}

struct pair {
	u8 first;			/* the vector whose gate is spoiled */
	void (*spoil)(struct gate *gate);
	void (*code)(void *argument);
	u64 argument;
	outcome_t outcome;
	u64 cr2;			/* 0: not looked at */
};

static void check_pair(const struct case_def *this_case)
{
	const struct pair *row = this_case->row;

	row->spoil(gate(row->first));
	EXPECT(attempt(row->code, (void *)row->argument), row->outcome);
	/* The aligned stack pointer less eight: the first push is that of SS. */
	if (row->cr2)
		EXPECT_EQ(last_trap()->cr2, row->cr2);
	if (row->outcome == OUTCOME_FAULT(VECTOR_DF, 0))
		EXPECT_EQ(last_stack(), this_cpu()->tss.ist[IST_DF - 1]);
}

#define PAIR(id, fact, ...)							\
	static const struct pair pair_##id = { __VA_ARGS__ };			\
	CASE_RUN(id, check_pair, PROVES(fact), ROW(&pair_##id))

#define DOUBLE_FAULT	OUTCOME_FAULT(VECTOR_DF, 0)
#define PAGE_FAULT	OUTCOME_FAULT(VECTOR_PF, PF_WR)
#define FIRST_PUSH	(NOT_MAPPED_STACK - 8)

PAIR(ud_then_page_fault, "exceptions:pair.benign.page_fault",
     VECTOR_UD, unmapped_stack, undefined, 0, PAGE_FAULT, FIRST_PUSH);
PAIR(gp_then_np, "exceptions:pair.contributory.contributory",
     VECTOR_GP, absent, read_byte, NOT_CANONICAL, DOUBLE_FAULT, 0);
PAIR(gp_then_gp, "exceptions:pair.contributory.contributory",
     VECTOR_GP, null_code, read_byte, NOT_CANONICAL, DOUBLE_FAULT, 0);
PAIR(gp_then_page_fault, "exceptions:pair.contributory.page_fault",
     VECTOR_GP, unmapped_stack, read_byte, NOT_CANONICAL, PAGE_FAULT, FIRST_PUSH);
PAIR(page_fault_then_np, "exceptions:pair.page_fault.contributory",
     VECTOR_PF, absent, read_byte, NOT_MAPPED, DOUBLE_FAULT, NOT_MAPPED);
PAIR(page_fault_then_page_fault, "exceptions:pair.page_fault.page_fault",
     VECTOR_PF, unmapped_stack, read_byte, NOT_MAPPED, DOUBLE_FAULT, FIRST_PUSH);

CASE(double_fault_pushes_error_code_0, PROVES("exceptions:vector.8", "exceptions:frame.ist"))
{
	absent(gate(VECTOR_GP));
	EXPECT(attempt(read_byte, (void *)NOT_CANONICAL), DOUBLE_FAULT);
	EXPECT_EQ(last_trap()->frame.rip, (u64)read_byte_at);
	EXPECT_EQ(last_stack(), this_cpu()->tss.ist[IST_DF - 1]);
}
