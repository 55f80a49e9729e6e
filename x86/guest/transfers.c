/*
 * Far transfers of control in IA-32e mode: INT n, INT3, INTO, INT1 and IRET, far JMP and CALL
 * (volume 2; 6.8 Privilege Level Checking When Transferring Program Control Between Code
 * Segments; 7.12).
 *
 * 64-bit mode has fewer of them: no task switch, no far pointer in the instruction, no OF trap;
 * and IRET always restores RSP and SS. Most of these are rare enough that an emulator gets the
 * corners wrong: which instruction pointer is saved, what of RFLAGS comes back, what a call gate
 * pushes.
 */
#include "cpu/apic.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:" name)
#define GP(error)	OUTCOME_FAULT(VECTOR_GP, error)

/* --- INT n and its kind ------------------------------------------------------------- */

INSTRUCTION(int_40h, "", "int $0x40");
INSTRUCTION(int_14, "", "int $14");
INSTRUCTION(int3, "", "int3");
INSTRUCTION(int1, "", ".byte 0xf1");
INSTRUCTION(into, "", ".byte 0xce");

CASE(int_n_needs_the_privilege_of_the_gate, FACT("int.n"))
{
	u32 cpl;

	for (cpl = 1; cpl <= 3; cpl++) {
		EXPECT(run_at_cpl(cpl, int_14, NULL), GP(14 * 8 + 2));
		EXPECT_EQ(last_trap()->frame.rip, (u64)int_14_at);
		EXPECT(run_at_cpl(cpl, int_40h, NULL), OUTCOME_EXCEPTION(0x40));
	}
}

CASE(int_n_saves_the_next_address, FACT("int.n_rip"))
{
	EXPECT(attempt(int_40h, NULL), OUTCOME_EXCEPTION(0x40));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_40h_next);
	EXPECT(run_at_cpl(3, int_40h, NULL), OUTCOME_EXCEPTION(0x40));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int_40h_next);
	EXPECT(run_at_cpl(3, int3, NULL), OUTCOME_EXCEPTION(VECTOR_BP));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int3_next);
}

/* The fault on the way is one of the instruction, which can be executed again. */
CASE(int3_through_an_absent_gate, FACT("int.bp_fault"))
{
	this_cpu()->idt[VECTOR_BP].type &= ~0x80;
	EXPECT(run_at_cpl(3, int3, NULL), OUTCOME_FAULT(VECTOR_NP, VECTOR_BP * 8 + 2));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int3_at);
	EXPECT(attempt(int3, NULL), OUTCOME_FAULT(VECTOR_NP, VECTOR_BP * 8 + 2));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int3_at);
}

extern const u8 overflow_next[];
CODE32(overflow, "movb $0x7f, %al; addb $1, %al; into; overflow_next:");
CODE32(no_overflow, "xorl %eax, %eax; into");

CASE(into_in_both_modes, FACT("int.into"))
{
	EXPECT(attempt(into, NULL), OUTCOME_UD);
	EXPECT(run_in_compatibility_mode(3, no_overflow, 0), OUTCOME_DONE);
	EXPECT(run_in_compatibility_mode(3, overflow, 0), OUTCOME_EXCEPTION(VECTOR_OF));
	EXPECT_EQ(last_trap()->frame.rip, (u64)overflow_next);
}

/* The gate of #DB is not for user mode: INT1 does not ask. */
CASE(int1_ignores_the_gate, FACT("int.int1"))
{
	write_dr6(DR6_FIXED);
	EXPECT(run_at_cpl(3, int1, NULL), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)int1_next);
	EXPECT_EQ(last_trap()->dr6 & (BIT(14) | BITS(3, 0)), 0);
}

/* --- IRET ---------------------------------------------------------------------------- */

struct iret_frame {
	u64 rip, cs, rflags, rsp, ss;
};

/* RDI: the frame. What is there is copied to the stack, so that a fault has room below. */
INSTRUCTION(do_iret, "pushq 32(%rdi); pushq 24(%rdi); pushq 16(%rdi); pushq 8(%rdi); pushq (%rdi)",
	    "iretq");
INSTRUCTION(landing, "", "ud2");
INSTRUCTION(two_nops, "", "nop; nop; ud2");

static struct iret_frame to_supervisor(void)
{
	return (struct iret_frame){ (u64)landing, SELECTOR_CODE64, RFLAGS_FIXED,
				    (u64)this_cpu()->user_stack + 0x800, SELECTOR_DATA };
}

static struct iret_frame to_user(void)
{
	return (struct iret_frame){ (u64)landing, SELECTOR_USER_CODE64, RFLAGS_FIXED,
				    (u64)this_cpu()->user_stack + 0x800, SELECTOR_USER_DATA };
}

CASE(iret_restores_rsp_always, FACT("iret.rsp"))
{
	struct iret_frame frame = to_supervisor();

	frame.rsp += 5;
	EXPECT(attempt(do_iret, &frame), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, (u64)landing);
	EXPECT_EQ(last_trap()->frame.rsp, frame.rsp);
	/* A null SS is good enough for CPL 0 to 2. */
	frame.ss = 0;
	EXPECT(attempt(do_iret, &frame), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.ss, 0);
}

CASE(iret_with_nt, FACT("iret.nt64"))
{
	struct iret_frame frame = to_supervisor();

	asm volatile("pushq %0; popfq" : : "i" (RFLAGS_FIXED | RFLAGS_NT) : "cc", "memory");
	EXPECT(attempt(do_iret, &frame), OUTCOME_GP0);
	EXPECT_EQ(last_trap()->frame.rip, (u64)do_iret_at);
	asm volatile("pushq %0; popfq" : : "i" (RFLAGS_FIXED) : "cc", "memory");
	/* In the image on the stack it means nothing yet. */
	frame.rflags |= RFLAGS_NT;
	EXPECT(attempt(do_iret, &frame), OUTCOME_UD);
	EXPECT_TRUE(last_trap()->frame.rflags & RFLAGS_NT);
}

/* Frames that IRET refuses: the exception is one of the instruction, at CPL 0. */
struct bad_frame {
	struct iret_frame (*frame)(void);
	void (*spoil)(struct iret_frame *frame);
	outcome_t outcome;
};

static void null_ss(struct iret_frame *f)		{ f->ss = 3; }
static void rpl_of_ss(struct iret_frame *f)		{ f->ss = SELECTOR_DATA; }
static void code_as_ss(struct iret_frame *f)		{ f->ss = SELECTOR_USER_CODE64; }
static void ss_beyond_gdt(struct iret_frame *f)		{ f->ss = GDT_SIZE | 3; }
static void null_cs(struct iret_frame *f)		{ f->cs = 0; }
static void null_cs_with_rpl(struct iret_frame *f)	{ f->cs = 3; }
static void data_as_cs(struct iret_frame *f)		{ f->cs = SELECTOR_USER_DATA; }
static void cs_beyond_gdt(struct iret_frame *f)		{ f->cs = GDT_SIZE | 3; }
static void rpl_of_cs(struct iret_frame *f)		{ f->cs = SELECTOR_CODE64 | 3; }
static void no_address(struct iret_frame *f)		{ f->rip = BIT(63); }

static void absent_ss(struct iret_frame *f)
{
	cpu_set_descriptor(SELECTOR_SPARE, this_cpu()->gdt[SELECTOR_USER_DATA / 8] & ~BIT(47));
	f->ss = SELECTOR_SPARE | 3;
}

static void absent_cs(struct iret_frame *f)
{
	cpu_set_descriptor(SELECTOR_SPARE, this_cpu()->gdt[SELECTOR_USER_CODE64 / 8] & ~BIT(47));
	f->cs = SELECTOR_SPARE | 3;
}

static void check_bad_frame(const struct case_def *this_case)
{
	const struct bad_frame *row = this_case->row;
	struct iret_frame frame = row->frame();

	row->spoil(&frame);
	EXPECT(attempt(do_iret, &frame), row->outcome);
	EXPECT_EQ(last_trap()->frame.rip, (u64)do_iret_at);
	EXPECT_EQ(last_trap()->frame.cs, SELECTOR_CODE64);
}

#define BAD_FRAME(spoil, fact, frame, outcome)					\
	CASE_RUN(iret_##spoil, check_bad_frame, FACT(fact),			\
		 ROW((&(const struct bad_frame){ frame, spoil, outcome })))

BAD_FRAME(null_ss, "iret.bad_ss", to_user, GP(0));
BAD_FRAME(rpl_of_ss, "iret.bad_ss", to_user, GP(SELECTOR_DATA));
BAD_FRAME(code_as_ss, "iret.bad_ss", to_user, GP(SELECTOR_USER_CODE64 & ~3));
BAD_FRAME(ss_beyond_gdt, "iret.bad_ss", to_user, GP(GDT_SIZE));
BAD_FRAME(absent_ss, "iret.bad_ss", to_user, OUTCOME_FAULT(VECTOR_SS, SELECTOR_SPARE));
BAD_FRAME(null_cs, "iret.bad_cs", to_user, GP(0));
BAD_FRAME(null_cs_with_rpl, "iret.bad_cs", to_user, GP(0));
BAD_FRAME(data_as_cs, "iret.bad_cs", to_user, GP(SELECTOR_USER_DATA & ~3));
BAD_FRAME(cs_beyond_gdt, "iret.bad_cs", to_user, GP(GDT_SIZE));
BAD_FRAME(rpl_of_cs, "iret.bad_cs", to_user, GP(SELECTOR_CODE64));
BAD_FRAME(absent_cs, "iret.bad_cs", to_user, OUTCOME_FAULT(VECTOR_NP, SELECTOR_SPARE));
BAD_FRAME(no_address, "iret.bad_cs", to_supervisor, GP(0));

extern const u8 landing_32_at[];
/* RIP is 32 bits wide there: DEC EAX, and not a REX prefix. */
CODE32(landing_32, "xorl %eax, %eax; .byte 0x48; landing_32_at: ud2");

CASE(iret_to_compatibility_mode, FACT("iret.cs_l"))
{
	struct iret_frame frame = to_user();

	frame.rip = (u64)landing_32;
	frame.cs = SELECTOR_USER_CODE32;
	EXPECT(attempt(do_iret, &frame), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, (u64)landing_32_at);
	EXPECT_EQ(last_trap()->frame.regs.rax, 0xffffffff);
	EXPECT_EQ(last_trap()->frame.cs, SELECTOR_USER_CODE32);
}

/*
 * A code breakpoint at the target: RF in the image skips it once, and the next instruction clears
 * RF.
 */
CASE(iret_restores_rf, FACT("iret.rf"))
{
	struct iret_frame frame = to_supervisor();

	frame.rip = (u64)two_nops;
	write_dr0((u64)two_nops);
	write_dr7(DR7_FIXED | BIT(0));
	EXPECT(attempt(do_iret, &frame), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)two_nops);
	frame.rflags |= RFLAGS_RF;
	EXPECT(attempt(do_iret, &frame), OUTCOME_UD);
	write_dr0((u64)two_nops + 1);
	EXPECT(attempt(do_iret, &frame), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)two_nops + 1);
}

/* --- IRET and NMIs: 7.7.1 ------------------------------------------------------------- */

INSTRUCTION(iret_to_itself, "movq %rsp, %r8; pushq $0x10; pushq %r8; pushfq; pushq $0x08;"
	    "leaq 1f(%rip), %rcx; pushq %rcx", "iretq; 1: nop");
INSTRUCTION(iret_that_faults, "movq %rsp, %r8; pushq $0; pushq $0; pushq $2; pushq $0; pushq $0",
	    "iretq; movq %r8, %rsp");
#define IRETQ_LENGTH	2

static struct {
	void (*iret)(void *unused);
	volatile u32 count;
	u32 blocked, at_fault;	/* how many NMIs had come */
	volatile bool over;
} nmi;

/*
 * The second NMI waits until this handler executes an IRET, and not for its end: that it never
 * comes would be reported as silence.
 */
static void on_nmi(struct trap_frame *frame)
{
	(void)frame;
	if (++nmi.count > 1)
		return;
	apic_pend_nmi(0x40);
	nmi.blocked = nmi.count;
	nmi.iret(NULL);
	while (nmi.count < 2 && !nmi.at_fault)
		pause();
	nmi.over = true;
}

static void on_fault_of_iret(struct trap_frame *frame)
{
	nmi.at_fault = nmi.count;
	frame->rip = (u64)iret_that_faults_at + IRETQ_LENGTH;
}

static void nmi_with(void (*iret)(void *unused))
{
	__builtin_memset(&nmi, 0, sizeof(nmi));
	nmi.iret = iret;
	/* The second one must not begin on the stack of the first. */
	this_cpu()->idt[VECTOR_NMI].ist = IST_NONE;
	trap_on(VECTOR_NMI, on_nmi);
	trap_on(VECTOR_GP, on_fault_of_iret);
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	while (!nmi.over)
		pause();
	EXPECT_EQ(nmi.blocked, 1);
}

CASE(iret_ends_blocking_of_nmis, FACT("iret.nmi"), NEEDS(APIC))
{
	nmi_with(iret_to_itself);
}

/* And then before the handler of the fault begins. */
CASE(iret_that_faults_ends_it_too, FACT("iret.nmi"), NEEDS(APIC))
{
	nmi_with(iret_that_faults);
	EXPECT_EQ(nmi.at_fault, 2);
}

/* --- far JMP and CALL ------------------------------------------------------------------ */

INSTRUCTION(jmp_ea, "", ".byte 0xea, 0, 0, 0, 0, 8, 0");
INSTRUCTION(call_9a, "", ".byte 0x9a, 0, 0, 0, 0, 8, 0");

CASE(no_far_pointers_in_64_bit_mode, FACT("far.jmp_ea64"))
{
	EXPECT(attempt(jmp_ea, NULL), OUTCOME_UD);
	EXPECT(attempt(call_9a, NULL), OUTCOME_UD);
}

struct far_pointer {
	u32 offset;
	u16 selector;
} __attribute__((packed));

INSTRUCTION(far_jmp, "", "ljmpl *(%rdi)");
INSTRUCTION(far_call, "movq %rsp, %r8", "lcalll *(%rdi)");

CASE(no_task_switch_in_ia32e_mode, FACT("far.tss64"))
{
	struct far_pointer to = { 0, SELECTOR_TSS };

	EXPECT(attempt(far_jmp, &to), GP(SELECTOR_TSS));
	EXPECT(attempt(far_call, &to), GP(SELECTOR_TSS));
	/* An available TSS, a task gate. */
	cpu_set_descriptor(SELECTOR_SPARE, this_cpu()->gdt[SELECTOR_TSS / 8] & ~BIT(41));
	cpu_set_descriptor(SELECTOR_SPARE + 8, this_cpu()->gdt[SELECTOR_TSS / 8 + 1]);
	to.selector = SELECTOR_SPARE;
	EXPECT(attempt(far_jmp, &to), GP(SELECTOR_SPARE));
	cpu_set_descriptor(SELECTOR_SPARE, (u64)SELECTOR_TSS << 16 | 0xe5ull << 40);
	cpu_set_descriptor(SELECTOR_SPARE + 8, 0);
	EXPECT(attempt(far_call, &to), GP(SELECTOR_SPARE));
}

/* A 64-bit call gate for user mode to `landing`: two descriptors, with type 0 in the second. */
static void make_call_gate(u64 target, u64 type)
{
	cpu_set_descriptor(SELECTOR_SPARE, FIELD(target, 15, 0) | (u64)SELECTOR_CODE64 << 16 |
						   type << 40 | FIELD(target, 31, 16) << 48);
	cpu_set_descriptor(SELECTOR_SPARE + 8, target >> 32);
}

CASE(call_gate_to_more_privilege, FACT("far.gate64"))
{
	struct far_pointer to = { 0x12345678, SELECTOR_SPARE | 3 };
	const struct trap_frame *frame = &last_trap()->frame;
	u64 stack = (u64)this_cpu()->user_stack + 0x700, *pushed = (u64 *)(stack - 32);

	make_call_gate((u64)landing, 0xec);
	this_cpu()->tss.rsp[0] = stack;
	EXPECT(run_at_cpl(3, far_call, &to), OUTCOME_UD);
	EXPECT_EQ(frame->rip, (u64)landing);
	EXPECT_EQ(frame->cs, SELECTOR_CODE64);
	EXPECT_EQ(frame->ss, 0);
	EXPECT_EQ(frame->rsp, stack - 32);
	EXPECT_EQ(pushed[0], (u64)far_call_next);
	EXPECT_EQ(pushed[1], SELECTOR_USER_CODE64);
	EXPECT_EQ(pushed[2], frame->regs.r8);
	EXPECT_EQ(pushed[3], SELECTOR_USER_DATA);
}

CASE(call_gate_at_the_same_privilege, FACT("far.gate64"))
{
	struct far_pointer to = { 0x12345678, SELECTOR_SPARE };
	const struct trap_frame *frame = &last_trap()->frame;

	make_call_gate((u64)landing, 0x8c);
	EXPECT(attempt(far_call, &to), OUTCOME_UD);
	EXPECT_EQ(frame->rip, (u64)landing);
	EXPECT_EQ(frame->ss, SELECTOR_DATA);
	EXPECT_EQ(frame->rsp, frame->regs.r8 - 16);
}

CASE(call_gate_that_user_mode_may_not_use, FACT("far.gate64"))
{
	struct far_pointer to = { 0, SELECTOR_SPARE | 3 };

	make_call_gate((u64)landing, 0x8c);
	EXPECT(run_at_cpl(3, far_call, &to), GP(SELECTOR_SPARE));
	make_call_gate((u64)landing, 0x6c);
	EXPECT(run_at_cpl(3, far_call, &to), OUTCOME_FAULT(VECTOR_NP, SELECTOR_SPARE));
	make_call_gate(BIT(63), 0xec);
	EXPECT(run_at_cpl(3, far_call, &to), GP(0));
	/* Type 4 was the gate of 16 bits. */
	make_call_gate((u64)landing, 0xe4);
	EXPECT(run_at_cpl(3, far_call, &to), GP(SELECTOR_SPARE));
}
