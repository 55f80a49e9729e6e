/*
 * The exceptions that software can raise without VMX, one after another: SDM 7.15 Exception and
 * Interrupt Reference. For each: which instruction raises it, the error code, and the saved
 * instruction pointer, which is that of the instruction for a fault and that of the next one for a
 * trap (7.5 Exception Classifications). How an exception finds its handler is in
 * guest/exceptions-delivery.
 */
#include "cpu/apic.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"

/* --- one instruction that raises one exception -------------------------------- */

struct raises {
	void (*code)(void *argument);
	u32 cpl;
	outcome_t outcome;
	const u8 *saved_rip;
	u64 cr0_set, cr0_clear, cr4_set;
};

static void check_exception(const struct case_def *this_case)
{
	const struct raises *row = this_case->row;

	write_cr0((read_cr0() & ~row->cr0_clear) | row->cr0_set);
	write_cr4(read_cr4() | row->cr4_set);
	if (row->cpl)
		EXPECT(run_at_cpl(row->cpl, row->code, NULL), row->outcome);
	else
		EXPECT(attempt(row->code, NULL), row->outcome);
	if (row->saved_rip)
		EXPECT_EQ(last_trap()->frame.rip, (u64)row->saved_rip);
	/* The error still waits: the next FWAIT, in whatever case, would raise it again. */
	if (row->outcome == OUTCOME_EXCEPTION(VECTOR_MF))
		asm volatile("fninit");
}

/* The last arguments are further members of struct raises. */
#define RAISES(id, fact, expected, kind, before, instruction, ...)		\
	INSTRUCTION(id, before, instruction);					\
	static const struct raises raises_##id = {				\
		.code = id, .outcome = (expected), .saved_rip = kind(id), __VA_ARGS__ };\
	CASE_RUN(id, check_exception, PROVES(fact), ROW(&raises_##id))

#define FAULT(id)	id##_at
#define TRAP(id)	id##_next
#define NOTHING(id)	NULL

RAISES(divide_by_zero, "exceptions:vector.0", OUTCOME_EXCEPTION(VECTOR_DE), FAULT,
       "movl $1, %eax; xorl %edx, %edx; xorl %ecx, %ecx", "divl %ecx");
RAISES(quotient_too_large, "exceptions:vector.0", OUTCOME_EXCEPTION(VECTOR_DE), FAULT,
       "movl $0x80000000, %eax; cltd; movl $-1, %ecx", "idivl %ecx");

RAISES(int3_is_a_trap, "exceptions:vector.3", OUTCOME_EXCEPTION(VECTOR_BP), TRAP, "", "int3");
RAISES(int_3_in_two_bytes, "exceptions:vector.3", OUTCOME_EXCEPTION(VECTOR_BP), TRAP,
       "", ".byte 0xcd, 3");
RAISES(int3_in_user_mode, "exceptions:vector.3", OUTCOME_EXCEPTION(VECTOR_BP), TRAP,
       "", "int3", .cpl = 3);
RAISES(into_in_64_bit_mode, "exceptions:vector.4", OUTCOME_UD, FAULT, "", ".byte 0xce");

RAISES(ud2, "exceptions:vector.6", OUTCOME_UD, FAULT, "", "ud2");
RAISES(lock_on_mov, "exceptions:vector.6", OUTCOME_UD, FAULT, "", ".byte 0xf0, 0x89, 0x07");
RAISES(lock_on_a_register, "exceptions:vector.6", OUTCOME_UD, FAULT,
       "", ".byte 0xf0, 0x01, 0xc0");
RAISES(push_es_in_64_bit_mode, "exceptions:vector.6", OUTCOME_UD, FAULT, "", ".byte 0x06");
RAISES(sse_without_osfxsr, "exceptions:vector.6", OUTCOME_UD, FAULT,
       "", "addps %xmm0, %xmm0");

RAISES(x87_with_ts, "exceptions:vector.7", OUTCOME_EXCEPTION(VECTOR_NM), FAULT,
       "", "fnop", .cr0_set = CR0_TS);
RAISES(x87_with_em, "exceptions:vector.7", OUTCOME_EXCEPTION(VECTOR_NM), FAULT,
       "", "fnop", .cr0_set = CR0_EM);
RAISES(wait_with_mp_and_ts, "exceptions:vector.7", OUTCOME_EXCEPTION(VECTOR_NM), FAULT,
       "", "fwait", .cr0_set = CR0_TS | CR0_MP);
RAISES(wait_with_ts_only, "exceptions:vector.7", OUTCOME_DONE, NOTHING,
       "", "fwait", .cr0_set = CR0_TS, .cr0_clear = CR0_MP);
RAISES(sse_with_ts, "exceptions:vector.7", OUTCOME_EXCEPTION(VECTOR_NM), FAULT,
       "", "addps %xmm0, %xmm0", .cr0_set = CR0_TS, .cr4_set = CR4_OSFXSR);

/* A pointer that is not canonical: #SS through RSP and RBP, #GP through the others. */
RAISES(not_canonical, "exceptions:vector.13", OUTCOME_GP0, FAULT,
       "movabsq $0x8000000000000000, %rax", "movb (%rax), %al");
RAISES(not_canonical_by_stack_pointer, "exceptions:vector.12", OUTCOME_FAULT(VECTOR_SS, 0), FAULT,
       "movabsq $0x7fffffffffffffff, %rax", "movb 1(%rsp, %rax), %al");
RAISES(hlt_in_user_mode, "exceptions:vector.13", OUTCOME_GP0, FAULT, "", "hlt", .cpl = 3);
RAISES(hlt_at_cpl_1, "exceptions:vector.13", OUTCOME_GP0, FAULT, "", "hlt", .cpl = 1);
RAISES(hlt_at_cpl_2, "exceptions:vector.13", OUTCOME_GP0, FAULT, "", "hlt", .cpl = 2);
RAISES(instruction_of_16_bytes, "exceptions:vector.13", OUTCOME_GP0, FAULT,
       "", ".fill 15, 1, 0x66; nop");

/* CR0.NE is 1 in every case: the exception comes natively, with the next waiting instruction. */
RAISES(x87_error_waits_for_the_next, "exceptions:vector.16", OUTCOME_EXCEPTION(VECTOR_MF), FAULT,
       "pushq $0x37b; fninit; fldcw (%rsp); popq %rax; fld1; fldz; fdivrp; nop", "fwait");
RAISES(sse_error, "exceptions:vector.19", OUTCOME_EXCEPTION(VECTOR_XM), FAULT,
       "pushq $0x1d80; ldmxcsr (%rsp); popq %rax; xorps %xmm0, %xmm0; movl $1, %eax;"
       "cvtsi2ss %eax, %xmm1", "divss %xmm0, %xmm1",
       .cr4_set = CR4_OSFXSR | CR4_OSXMMEXCPT);
RAISES(sse_error_without_osxmmexcpt, "exceptions:vector.19", OUTCOME_UD, FAULT,
       "pushq $0x1d80; ldmxcsr (%rsp); popq %rax; xorps %xmm0, %xmm0; movl $1, %eax;"
       "cvtsi2ss %eax, %xmm1", "divss %xmm0, %xmm1", .cr4_set = CR4_OSFXSR);

/* Alignment is checked at CPL 3 only, and with CR0.AM and RFLAGS.AC. */
#define MISALIGNED "pushfq; orl $0x40000, (%rsp); popfq"
RAISES(misaligned_in_user_mode, "exceptions:vector.17", OUTCOME_FAULT(VECTOR_AC, 0), FAULT,
       MISALIGNED, "movl -7(%rsp), %eax", .cpl = 3, .cr0_set = CR0_AM);
RAISES(misaligned_at_cpl_2, "exceptions:vector.17", OUTCOME_DONE, NOTHING,
       MISALIGNED, "movl -7(%rsp), %eax", .cpl = 2, .cr0_set = CR0_AM);
RAISES(misaligned_without_am, "exceptions:vector.17", OUTCOME_DONE, NOTHING,
       MISALIGNED, "movl -7(%rsp), %eax", .cpl = 3, .cr0_clear = CR0_AM);

/* --- segment loads: the error code is the selector ----------------------------- */

#define DESCRIPTOR_PRESENT	BIT(47)
#define BEYOND_GDT		(GDT_SIZE | 0)

INSTRUCTION(load_ds, "", "movl %edi, %ds");
INSTRUCTION(load_ss, "", "movl %edi, %ss");

/* The spare descriptor, a copy of that of `selector` that is not present. */
static void make_absent(u16 selector)
{
	cpu_set_descriptor(SELECTOR_SPARE, this_cpu()->gdt[selector / 8] & ~DESCRIPTOR_PRESENT);
}

CASE(data_segment_not_present, PROVES("exceptions:vector.11"))
{
	make_absent(SELECTOR_DATA);
	EXPECT(attempt(load_ds, (void *)SELECTOR_SPARE), OUTCOME_FAULT(VECTOR_NP, SELECTOR_SPARE));
	EXPECT_EQ(last_trap()->frame.rip, (u64)load_ds_at);
}

CASE(stack_segment_not_present, PROVES("exceptions:vector.12"))
{
	make_absent(SELECTOR_DATA);
	EXPECT(attempt(load_ss, (void *)SELECTOR_SPARE), OUTCOME_FAULT(VECTOR_SS, SELECTOR_SPARE));
	EXPECT_EQ(last_trap()->frame.rip, (u64)load_ss_at);
}

CASE(selector_beyond_the_table, PROVES("exceptions:vector.13"))
{
	EXPECT(attempt(load_ds, (void *)BEYOND_GDT), OUTCOME_FAULT(VECTOR_GP, BEYOND_GDT));
	EXPECT_EQ(last_trap()->frame.rip, (u64)load_ds_at);
}

/* The RPL is not a part of the error code. */
CASE(error_code_without_rpl, PROVES("exceptions:vector.13"))
{
	EXPECT(attempt(load_ds, (void *)(BEYOND_GDT | 3ull)),
	       OUTCOME_FAULT(VECTOR_GP, BEYOND_GDT));
}

/* --- page faults: more of them in mmu/fault-basic ------------------------------- */

/* The boot page tables map the first 4 GiB only. */
#define NOT_MAPPED	0x123456789000ull

INSTRUCTION(read_byte, "", "movb (%rdi), %al");
INSTRUCTION(write_byte, "", "movb %al, (%rdi)");

CASE(page_fault_on_a_read, PROVES("exceptions:vector.14"))
{
	EXPECT(attempt(read_byte, (void *)NOT_MAPPED), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT_EQ(last_trap()->cr2, NOT_MAPPED);
	EXPECT_EQ(last_trap()->frame.rip, (u64)read_byte_at);
}

CASE(page_fault_on_a_write, PROVES("exceptions:vector.14"))
{
	EXPECT(attempt(write_byte, (void *)(NOT_MAPPED + 5)), OUTCOME_FAULT(VECTOR_PF, PF_WR));
	EXPECT_EQ(last_trap()->cr2, NOT_MAPPED + 5);
	EXPECT_EQ(last_trap()->frame.rip, (u64)write_byte_at);
}

CASE(page_fault_in_user_mode, PROVES("exceptions:vector.14"))
{
	EXPECT(run_at_cpl(3, read_byte, (void *)NOT_MAPPED), OUTCOME_FAULT(VECTOR_PF, PF_US));
	EXPECT_EQ(last_trap()->cr2, NOT_MAPPED);
}

/* --- debug exceptions: DR6 says which ------------------------------------------ */

#define DR6_B0	BIT(0)
#define DR6_BD	BIT(13)
#define DR6_BS	BIT(14)
#define DR6_CAUSES (BITS(3, 0) | DR6_BD | DR6_BS)

#define DR7_L0		BIT(0)
#define DR7_WRITE_4	(1ull << 16 | 3ull << 18)	/* breakpoint 0: writes of 4 bytes */

INSTRUCTION(single_step, "pushfq; orl $0x100, (%rsp); popfq", "nop");
INSTRUCTION(int1, "", ".byte 0xf1");
INSTRUCTION(one_nop, "", "nop");
INSTRUCTION(read_debug_register, "", "movq %dr0, %rax");
INSTRUCTION(write_dword, "", "movl %eax, (%rdi)");

static void expect_debug(outcome_t outcome, const u8 *rip, u64 causes)
{
	EXPECT(outcome, OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)rip);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, causes);
}

CASE(single_step_is_a_trap, PROVES("exceptions:vector.1"))
{
	expect_debug(attempt(single_step, NULL), single_step_next, DR6_BS);
}

CASE(int1_is_a_trap_without_cause, PROVES("exceptions:vector.1"))
{
	expect_debug(attempt(int1, NULL), int1_next, 0);
}

CASE(instruction_breakpoint_is_a_fault, PROVES("exceptions:vector.1", "exceptions:frame.rf"))
{
	write_dr0((u64)one_nop_at);
	write_dr7(DR7_FIXED | DR7_L0);
	expect_debug(attempt(one_nop, NULL), one_nop_at, DR6_B0);
	/* The one fault that does not save RF = 1: the handler decides whether it comes again. */
	EXPECT_EQ(last_trap()->frame.rflags & RFLAGS_RF, 0);
}

CASE(data_breakpoint_is_a_trap, PROVES("exceptions:vector.1"))
{
	static u32 watched;

	write_dr0((u64)&watched);
	write_dr7(DR7_FIXED | DR7_L0 | DR7_WRITE_4);
	expect_debug(attempt(write_dword, &watched), write_dword_next, DR6_B0);
}

CASE(general_detect_is_a_fault, PROVES("exceptions:vector.1"))
{
	write_dr7(DR7_FIXED | DR7_GD);
	expect_debug(attempt(read_debug_register, NULL), read_debug_register_at, DR6_BD);
	/* 20.2.4: the processor clears GD, so that the handler can read the registers. */
	EXPECT_EQ(read_dr7() & DR7_GD, 0);
}

/* --- compatibility mode: what 64-bit mode does not have ------------------------- */

extern const u8 overflow_next[], bound_at[];
CODE32(overflow, "movb $0x7f, %al; addb $1, %al; into; overflow_next:");
CODE32(no_overflow, "xorl %eax, %eax; into");
/* BOUND EAX, [EDI]: 5 is compared with the two numbers there. */
CODE32(bound_of_5, "movl $5, %eax; bound_at: .byte 0x62, 0x07");

CASE(into_is_a_trap, PROVES("exceptions:vector.4"))
{
	EXPECT(run_in_compatibility_mode(3, overflow, 0), OUTCOME_EXCEPTION(VECTOR_OF));
	EXPECT_EQ(last_trap()->frame.rip, (u64)overflow_next);
	EXPECT(run_in_compatibility_mode(3, no_overflow, 0), OUTCOME_DONE);
}

CASE(bound_is_a_fault, PROVES("exceptions:vector.5"))
{
	static const u32 around[] = { 5, 5 }, above[] = { 6, 9 };

	EXPECT(run_in_compatibility_mode(3, bound_of_5, (u64)around), OUTCOME_DONE);
	EXPECT(run_in_compatibility_mode(3, bound_of_5, (u64)above), OUTCOME_EXCEPTION(VECTOR_BR));
	EXPECT_EQ(last_trap()->frame.rip, (u64)bound_at);
}

/* --- INT n ----------------------------------------------------------------------- */

INSTRUCTION(int_40h, "", "int $0x40");
INSTRUCTION(int_14, "", "int $14");
INSTRUCTION(int_9, "", "int $9");
INSTRUCTION(int_15, "", "int $15");

static u32 interrupts;

static void count_interrupt(struct trap_frame *frame)
{
	(void)frame;
	interrupts++;
}

CASE(int_n_returns_behind_itself, PROVES("exceptions:vector.32-255"))
{
	interrupts = 0;
	trap_on(0x40, count_interrupt);
	EXPECT(attempt(int_40h, NULL), OUTCOME_DONE);
	EXPECT_EQ(interrupts, 1);
	trap_on(0x40, NULL);
	EXPECT(attempt(int_40h, NULL), OUTCOME_EXCEPTION(0x40));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_40h_next);
}

CASE(int_9_and_15_are_plain_interrupts, PROVES("exceptions:vector.9", "exceptions:vector.15"))
{
	EXPECT(attempt(int_9, NULL), OUTCOME_EXCEPTION(9));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_9_next);
	EXPECT(attempt(int_15, NULL), OUTCOME_EXCEPTION(15));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_15_next);
}

/* An interrupt by INT n is checked against the privilege of the gate; an exception is not. */
CASE(int_n_needs_the_privilege_of_the_gate, PROVES("exceptions:pair.int_n.gp"))
{
	EXPECT(run_at_cpl(3, int_14, NULL), OUTCOME_FAULT(VECTOR_GP, VECTOR_PF * 8 + 2));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_14_at);
	EXPECT(run_at_cpl(3, int_40h, NULL), OUTCOME_EXCEPTION(0x40));
}

/* --- NMI -------------------------------------------------------------------------- */

static struct {
	volatile u32 count;
	u32 count_inside;	/* after a second NMI was sent in the handler of the first */
	u64 stack_end;
} nmi;

static void on_nmi(struct trap_frame *frame)
{
	if (++nmi.count > 1)
		return;
	nmi.stack_end = (u64)(frame + 1);
	apic_pend_nmi(0x40);
	nmi.count_inside = nmi.count;
}

/* It comes with RFLAGS.IF = 0, on the stack of its IST, and blocks the next one until IRET. */
CASE(nmi_blocks_nmi_until_iret, PROVES("exceptions:vector.2", "exceptions:frame.ist"), NEEDS(APIC))
{
	nmi.count = nmi.count_inside = 0;
	trap_on(VECTOR_NMI, on_nmi);
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	/* One that does not come is reported as silence. */
	while (nmi.count < 2)
		pause();
	EXPECT_EQ(nmi.count_inside, 1);
	EXPECT_EQ(nmi.count, 2);
	EXPECT_EQ(nmi.stack_end, this_cpu()->tss.ist[IST_NMI - 1]);
}
