/*
 * What comes first when several events are there at one instruction boundary, and what an event
 * that finds a second one on its way to the handler becomes: 7.9 Prioritization of Concurrent
 * Events, Table 7-2, and 7.15, Interrupt 8, Table 7-5.
 *
 * Every handler notes its vector and the instruction pointer that it would return to. Two events
 * of one boundary have the same saved instruction pointer, and the order of the notes is that of
 * their priorities. The exception is an NMI that finds another handler's first instruction: it
 * cannot be masked there, so that handler was chosen first, although its note comes second.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/probe.h"

#define VECTOR_A	0x61

/* The boot page tables map the first 4 GiB only. */
#define NOT_MAPPED	0x123456789000ull
#define NOT_MAPPED_STACK 0x223456789000ull

#define DR7_L0		BIT(0)		/* breakpoint 0: instructions, as R/W0 and LEN0 are 0 */

/* --- the handlers' notes -------------------------------------------------------- */

static struct {
	u32 count, nmis;
	struct {
		u64 vector, rip;
		u64 rcx;	/* how far wait_for() was */
	} event[8];
} notes;

static void note(const struct trap_frame *frame)
{
	notes.nmis += frame->vector == VECTOR_NMI;
	if (notes.count == ARRAY_SIZE(notes.event))
		return;
	notes.event[notes.count].vector = frame->vector;
	notes.event[notes.count].rcx = frame->regs.rcx;
	notes.event[notes.count++].rip = frame->rip;
}

static void expect_note(u32 index, u64 vector, u64 rip)
{
	EXPECT_TRUE(index < notes.count);
	EXPECT_EQ(notes.event[index].vector, vector);
	EXPECT_EQ(notes.event[index].rip, rip);
}

/* The event came at the very instruction boundary where the first one returned to. */
static void expect_note_at_first(u32 index, u64 vector)
{
	expect_note(index, vector, notes.event[0].rip);
	EXPECT_EQ(notes.event[index].rcx, notes.event[0].rcx);
}

static void on_interrupt(struct trap_frame *frame)
{
	note(frame);
	apic_eoi();
}

/* RF = 1 lets the instruction with the breakpoint run now: 20.3.1.1. */
static void on_debug(struct trap_frame *frame)
{
	note(frame);
	frame->rflags |= RFLAGS_RF;
}

static void forget_notes(void)
{
	notes.count = notes.nmis = 0;
}
BEFORE_EACH_CASE(forget_notes);

static struct gate *gate(u8 vector)
{
	return &this_cpu()->idt[vector];
}

static u64 handler_of(u8 vector)
{
	const struct gate *g = gate(vector);

	return (u64)g->offset_high << 32 | (u64)g->offset_middle << 16 | g->offset_low;
}

/* Until *count is `least`; RCX counts the rounds. What never comes is reported as silence. */
static void wait_for(const volatile u32 *count, u32 least)
{
	u64 rounds = 0;

	asm volatile("1: incq %%rcx; pause; cmpl %1, %2; jb 1b"
		     : "+c" (rounds) : "r" (least), "m" (*count) : "memory", "cc");
}

static void pend_interrupt(void)
{
	trap_on(VECTOR_A, on_interrupt);
	apic_pend(VECTOR_A);
}

static void break_at(u64 address)
{
	trap_on(VECTOR_DB, on_debug);
	write_dr0(address);
	write_dr7(DR7_FIXED | DR7_L0);
}

/* --- traps, NMIs, interrupts, breakpoints ----------------------------------------- */

/* POPF with TF = 1 that loads TF = 0 and IF = 1: a single step, and interrupts are open. */
INSTRUCTION(open_by_step, "pushq $0x202; pushq $0x102; popfq", "popfq");
INSTRUCTION(open_by_popf, "pushq $0x202", "popfq");

CASE(trap_before_interrupt, PROVES("exceptions:priority.traps"), NEEDS(APIC))
{
	pend_interrupt();
	trap_on(VECTOR_DB, on_debug);
	EXPECT(attempt(open_by_step, NULL), OUTCOME_DONE);
	asm volatile("cli");
	expect_note(0, VECTOR_DB, (u64)open_by_step_next);
	expect_note(1, VECTOR_A, (u64)open_by_step_next);
	EXPECT_EQ(notes.count, 2);
}

CASE(interrupt_before_code_breakpoint,
     PROVES("exceptions:priority.interrupt", "exceptions:priority.code_breakpoint"), NEEDS(APIC))
{
	pend_interrupt();
	break_at((u64)open_by_popf_next);
	EXPECT(attempt(open_by_popf, NULL), OUTCOME_DONE);
	asm volatile("cli");
	expect_note(0, VECTOR_A, (u64)open_by_popf_next);
	expect_note(1, VECTOR_DB, (u64)open_by_popf_next);
	EXPECT_EQ(notes.count, 2);
}

/* The first NMI sends another, which waits for IRET, and an interrupt; its IRET opens both. */
static void nmi_that_pends_both(struct trap_frame *frame)
{
	note(frame);
	if (notes.count > 1)
		return;
	apic_pend_nmi(VECTOR_A);
	frame->rflags |= RFLAGS_IF;
}

CASE(nmi_before_interrupt, PROVES("exceptions:priority.nmi", "exceptions:priority.interrupt"),
     NEEDS(APIC))
{
	trap_on(VECTOR_NMI, nmi_that_pends_both);
	trap_on(VECTOR_A, on_interrupt);
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	wait_for(&notes.count, 3);
	asm volatile("cli");
	expect_note(0, VECTOR_NMI, notes.event[0].rip);
	expect_note_at_first(1, VECTOR_NMI);
	expect_note_at_first(2, VECTOR_A);
	EXPECT_EQ(notes.count, 3);
}

/* The end of cpu/trap_entry.S, with a single step of its last instruction. */
__noreturn void return_by_step(struct trap_frame *frame);
asm(".pushsection .text\n"
    "return_by_step:\n\t"
    "movq %rdi, %rsp\n\t"
    "popq %rax; popq %rbx; popq %rcx; popq %rdx; popq %rsi; popq %rdi; popq %rbp\n\t"
    "popq %r8; popq %r9; popq %r10; popq %r11; popq %r12; popq %r13; popq %r14; popq %r15\n\t"
    "addq $16, %rsp\n\t"
    "pushq $0x102; popfq\n\t"
    "iretq\n\t"
    ".popsection");

static void nmi_that_steps(struct trap_frame *frame)
{
	note(frame);
	if (notes.count > 1)
		return;
	apic_pend_nmi(VECTOR_A);
	return_by_step(frame);
}

/* IRET unblocks the second NMI, and is stepped: the NMI interrupts the handler of #DB. */
CASE(trap_before_nmi, PROVES("exceptions:priority.traps", "exceptions:priority.nmi"), NEEDS(APIC))
{
	trap_on(VECTOR_NMI, nmi_that_steps);
	trap_on(VECTOR_DB, on_debug);
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	wait_for(&notes.nmis, 2);
	expect_note(0, VECTOR_NMI, notes.event[0].rip);
	expect_note(1, VECTOR_NMI, handler_of(VECTOR_DB));
	expect_note_at_first(2, VECTOR_DB);
	EXPECT_EQ(notes.count, 3);
}

/* --- breakpoint, fetch, decoding, execution ----------------------------------------- */

INSTRUCTION(jump_there, "", "jmp *%rdi");

CASE(code_breakpoint_before_fetch,
     PROVES("exceptions:priority.code_breakpoint", "exceptions:priority.fetch"))
{
	write_cr2(0x1234);
	break_at(NOT_MAPPED);
	trap_on(VECTOR_DB, NULL);
	EXPECT(attempt(jump_there, (void *)NOT_MAPPED), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, NOT_MAPPED);
	EXPECT_EQ(last_trap()->cr2, 0x1234);
	/* With the breakpoint dealt with, the fetch faults. */
	trap_on(VECTOR_DB, on_debug);
	EXPECT(attempt(jump_there, (void *)NOT_MAPPED), OUTCOME_FAULT(VECTOR_PF, 0),
	       OUTCOME_FAULT(VECTOR_PF, PF_ID));
	expect_note(0, VECTOR_DB, NOT_MAPPED);
}

/* An opcode in the last bytes of a page whose next page is missing. */
static outcome_t run_last_bytes(struct probe *probe, const u8 *bytes, u32 count)
{
	u8 *page;
	u32 i;

	probe_map(probe, LEVEL_PTE, PTE_P | PTE_RW);
	page = (u8 *)probe->page;
	for (i = 0; i < count; i++)
		page[PAGE_SIZE - count + i] = bytes[i];
	return attempt(jump_there, (void *)(probe->linear + PAGE_SIZE - count));
}

/* 0FH alone is no instruction yet: the second byte has to be fetched. */
CASE(fetch_before_decoding, PROVES("exceptions:priority.fetch"))
{
	static const u8 half_of_ud2[] = { 0x0f };
	struct probe probe;

	EXPECT(run_last_bytes(&probe, half_of_ud2, 1), OUTCOME_FAULT(VECTOR_PF, 0),
	       OUTCOME_FAULT(VECTOR_PF, PF_ID));
	EXPECT_EQ(last_trap()->frame.rip, probe.linear + PAGE_SIZE - 1);
	EXPECT_EQ(last_trap()->cr2, probe.linear + PAGE_SIZE);
}

/* PUSH ES is complete with its one byte, and is none in 64-bit mode. */
CASE(decoding_needs_no_further_fetch, PROVES("exceptions:priority.decode"))
{
	static const u8 push_es[] = { 0x06 };
	struct probe probe;

	EXPECT(run_last_bytes(&probe, push_es, 1), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, probe.linear + PAGE_SIZE - 1);
}

struct decoded {
	void (*code)(void *argument);
	const u8 *at;
	u32 cpl;
	u64 argument, cr0_set;
	outcome_t outcome;
	outcome_t other;	/* as good, where the class alone is architecture; 0: none */
};

static void check_decoded(const struct case_def *this_case)
{
	const struct decoded *row = this_case->row;
	const outcome_t other = row->other ? row->other : row->outcome;

	write_cr2(0x1234);
	write_cr0(read_cr0() | row->cr0_set);
	if (row->cpl)
		EXPECT(run_at_cpl(row->cpl, row->code, (void *)row->argument), row->outcome,
		       other);
	else
		EXPECT(attempt(row->code, (void *)row->argument), row->outcome, other);
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
	EXPECT_EQ(last_trap()->cr2, 0x1234);
}

/* Instructions that could not be executed either: RDI points nowhere, or CPL is 3. */
#define DECODED(id, instruction, expected, ...)					\
	INSTRUCTION(id, "", instruction);					\
	static const struct decoded decoded_##id = {				\
		.code = id, .at = id##_at, .outcome = (expected), .argument = NOT_MAPPED,\
		__VA_ARGS__ };							\
	CASE_RUN(id, check_decoded, PROVES("exceptions:priority.decode"), ROW(&decoded_##id))

DECODED(lock_before_page_fault, ".byte 0xf0, 0x89, 0x07", OUTCOME_UD, .cpl = 0);
DECODED(lock_before_privilege, ".byte 0xf0, 0xf4", OUTCOME_UD, .cpl = 3);
DECODED(ts_before_page_fault, "fldl (%rdi)", OUTCOME_EXCEPTION(VECTOR_NM), .cr0_set = CR0_TS);
DECODED(length_before_page_fault, ".fill 14, 1, 0x66; movb (%rdi), %al", OUTCOME_GP0, .cpl = 0);
/* 7.9: which of two faults of one class comes is the implementation's affair. */
DECODED(length_before_lock, ".byte 0xf0; .fill 14, 1, 0x66; nop", OUTCOME_GP0,
	.other = OUTCOME_UD);

/* --- an exception, then a benign one: serial ---------------------------------------- */

INSTRUCTION(undefined, "", "ud2");
INSTRUCTION(read_byte, "", "movb (%rdi), %al");

#define NOT_CANONICAL	0x8000000000000000ull

struct serial {
	void (*code)(void *argument);
	u64 argument;
	u8 first;
	outcome_t outcome;
};

/*
 * The second is a breakpoint at the first instruction of the first one's handler: the first
 * benign exception that can come, and it sees the first one delivered whole.
 */
static void check_serial(const struct case_def *this_case)
{
	const struct serial *row = this_case->row;

	break_at(handler_of(row->first));
	EXPECT(attempt(row->code, (void *)row->argument), row->outcome);
	expect_note(0, VECTOR_DB, handler_of(row->first));
	EXPECT_EQ(notes.count, 1);
}

#define SERIAL(id, fact, ...)							\
	static const struct serial serial_##id = { __VA_ARGS__ };		\
	CASE_RUN(id, check_serial, PROVES(fact), ROW(&serial_##id))

SERIAL(ud_then_debug, "exceptions:pair.benign.benign", undefined, 0, VECTOR_UD, OUTCOME_UD);
SERIAL(gp_then_debug, "exceptions:pair.contributory.benign", read_byte, NOT_CANONICAL, VECTOR_GP,
       OUTCOME_GP0);
SERIAL(page_fault_then_debug, "exceptions:pair.page_fault.benign", read_byte, NOT_MAPPED,
       VECTOR_PF, OUTCOME_FAULT(VECTOR_PF, 0));

/* --- an interrupt, then an exception: the exception alone ----------------------------- */

/* STI keeps interrupts out for one instruction more. */
INSTRUCTION(open_interrupts, "sti", "nop");

static void absent(struct gate *g)
{
	g->type &= ~0x80;
}

static void unmapped_stack(struct gate *g)
{
	g->ist = 4;
	this_cpu()->tss.ist[3] = NOT_MAPPED_STACK;
}

/* 7.13: EXT is 1, the event was not caused by the program. */
CASE(interrupt_then_np,
     PROVES("exceptions:pair.external_interrupt.contributory", "exceptions:frame.ext_bit"),
     NEEDS(APIC))
{
	absent(gate(VECTOR_A));
	pend_interrupt();
	EXPECT(attempt(open_interrupts, NULL), OUTCOME_FAULT(VECTOR_NP, VECTOR_A * 8 + 3));
	EXPECT_EQ(last_trap()->frame.rip, (u64)open_interrupts_next);
	EXPECT_EQ(notes.count, 0);
}

CASE(interrupt_then_page_fault, PROVES("exceptions:pair.external_interrupt.page_fault"),
     NEEDS(APIC))
{
	unmapped_stack(gate(VECTOR_A));
	pend_interrupt();
	EXPECT(attempt(open_interrupts, NULL), OUTCOME_FAULT(VECTOR_PF, PF_WR));
	EXPECT_EQ(last_trap()->frame.rip, (u64)open_interrupts_next);
	EXPECT_EQ(last_trap()->cr2, NOT_MAPPED_STACK - 8);
	EXPECT_EQ(notes.count, 0);
}

static void send_nmi(void *unused)
{
	(void)unused;
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	for (;;)
		pause();
}

CASE(nmi_then_np, PROVES("exceptions:pair.nmi.contributory", "exceptions:frame.ext_bit"),
     NEEDS(APIC))
{
	absent(gate(VECTOR_NMI));
	EXPECT(attempt(send_nmi, NULL), OUTCOME_FAULT(VECTOR_NP, VECTOR_NMI * 8 + 3));
}

/* --- vectors without an exception of their own ---------------------------------------- */

struct reserved_vector {
	void (*code)(void *argument);
	const u8 *next;
	u8 vector;
};

/* INT n works with every vector, and never pushes an error code. */
static void check_reserved_vector(const struct case_def *this_case)
{
	const struct reserved_vector *row = this_case->row;

	EXPECT(attempt(row->code, NULL), OUTCOME_EXCEPTION(row->vector));
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->next);
	EXPECT_EQ(last_trap()->frame.cs, SELECTOR_CODE64);
}

#define RESERVED_VECTOR(n)							\
	INSTRUCTION(int_##n, "", "int $" #n);					\
	static const struct reserved_vector row_##n = { int_##n, int_##n##_next, n };\
	CASE_RUN(int_##n##_is_a_plain_interrupt, check_reserved_vector,		\
		 PROVES("exceptions:vector." #n), ROW(&row_##n))

RESERVED_VECTOR(22);
RESERVED_VECTOR(23);
RESERVED_VECTOR(24);
RESERVED_VECTOR(25);
RESERVED_VECTOR(26);
RESERVED_VECTOR(27);
RESERVED_VECTOR(31);
