/*
 * Where the VMX instructions work at all: not outside VMX operation, not in compatibility mode,
 * not at CPL above 0, not with a register as the operand, and in VMX non-root operation only as
 * VM exits.
 *
 * The order is that of 33.3 VMX Instructions, the same for all: what makes an instruction
 * unknown is #UD; then VMX non-root operation is a VM exit, at any CPL; then CPL above 0 is
 * #GP(0). VMCALL alone exits also in compatibility mode: it is the guest's instruction. The exits
 * are those of 28.1.2 Instructions That Cause VM Exits Unconditionally, and of VMREAD and VMWRITE
 * without VMCS shadowing.
 */
#include "cpu/features.h"
#include "cpu/user.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

/* What the memory operands point to; no instruction here gets so far as to use it. */
u64 instruction_operand[2];

struct instruction {
	void (*run)(void);		/* in 64-bit mode */
	const u8 *code32;		/* in compatibility mode */
	enum exit_reason exit;
};

static void call(void *function)
{
	((void (*)(void))function)();
}

/* --- outside VMX operation ------------------------------------------------------------- */

static void check_outside(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	REQUIRE(vmxoff(), OUTCOME_DONE);
	EXPECT(attempt(call, insn->run), OUTCOME_UD);
	/* Nor is the privilege level looked at. */
	EXPECT(run_at_cpl(3, call, insn->run), OUTCOME_UD);
}

/* VMXON is the one that works there, and only at CPL 0. */
static void check_outside_at_cpl(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	REQUIRE(vmxoff(), OUTCOME_DONE);
	EXPECT(run_at_cpl(1, call, insn->run), OUTCOME_GP0);
	EXPECT(run_at_cpl(2, call, insn->run), OUTCOME_GP0);
	EXPECT(run_at_cpl(3, call, insn->run), OUTCOME_GP0);
}

/* --- in VMX root operation ------------------------------------------------------------- */

static void check_root_at_cpl(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	EXPECT(run_at_cpl(1, call, insn->run), OUTCOME_GP0);
	EXPECT(run_at_cpl(2, call, insn->run), OUTCOME_GP0);
	EXPECT(run_at_cpl(3, call, insn->run), OUTCOME_GP0);
}

static void check_compatibility_mode(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	EXPECT(run_in_compatibility_mode(0, insn->code32, 0), OUTCOME_UD);
	EXPECT(run_in_compatibility_mode(3, insn->code32, 0), OUTCOME_UD);
}

/* --- in VMX non-root operation --------------------------------------------------------- */

/* What the guest does, and the outcome of what it met there. */
static struct {
	const struct instruction *insn;
	u32 cpl;
	outcome_t outcome;
} guest_job;

static void guest_run_at_cpl(void)
{
	run_at_cpl(guest_job.cpl, call, guest_job.insn->run);
}

static void guest_run_in_compatibility_mode(void)
{
	guest_job.outcome = run_in_compatibility_mode(guest_job.cpl, guest_job.insn->code32, 0);
}

static void expect_exit(const struct instruction *insn, void (*guest)(void))
{
	EXPECT(enter(guest), OUTCOME_EXIT(insn->exit));
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

static void check_nonroot(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	expect_exit(insn, insn->run);
}

static void check_nonroot_at_cpl(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	audit_guest_changes_segments();
	guest_job.insn = insn;
	for (guest_job.cpl = 1; guest_job.cpl <= 3; guest_job.cpl++)
		expect_exit(insn, guest_run_at_cpl);
}

static void check_nonroot_in_compatibility_mode(const struct case_def *this_case)
{
	guest_job.insn = this_case->row;
	guest_job.cpl = 0;
	EXPECT(enter(guest_run_in_compatibility_mode), GUEST_DONE);
	EXPECT(guest_job.outcome, OUTCOME_UD);
}

static void check_exit_in_compatibility_mode(const struct case_def *this_case)
{
	audit_guest_changes_segments();
	guest_job.insn = this_case->row;
	guest_job.cpl = 0;
	expect_exit(guest_job.insn, guest_run_in_compatibility_mode);
	guest_job.cpl = 3;
	expect_exit(guest_job.insn, guest_run_in_compatibility_mode);
}

/* --- the instructions ------------------------------------------------------------------ */

#define INSTRUCTION(id, reason, text64, text32)					\
	static void id##_run(void)						\
	{									\
		asm volatile(text64 : : "a" (0), "c" (0) : "cc", "memory");	\
	}									\
	CODE32(id##_code32, text32);						\
	static const struct instruction id##_row = { id##_run, id##_code32, EXIT_##reason }

#define MEMORY_INSTRUCTION(id, reason)						\
	INSTRUCTION(id, reason, #id " instruction_operand(%%rip)", #id " instruction_operand")
#define PLAIN_INSTRUCTION(id, reason)						\
	INSTRUCTION(id, reason, #id, #id)

MEMORY_INSTRUCTION(vmxon, VMXON);
MEMORY_INSTRUCTION(vmclear, VMCLEAR);
MEMORY_INSTRUCTION(vmptrld, VMPTRLD);
MEMORY_INSTRUCTION(vmptrst, VMPTRST);
INSTRUCTION(vmread, VMREAD, "vmread %%rcx, %%rax", "vmread %ecx, %eax");
INSTRUCTION(vmwrite, VMWRITE, "vmwrite %%rax, %%rcx", "vmwrite %eax, %ecx");
PLAIN_INSTRUCTION(vmlaunch, VMLAUNCH);
PLAIN_INSTRUCTION(vmresume, VMRESUME);
PLAIN_INSTRUCTION(vmxoff, VMXOFF);
PLAIN_INSTRUCTION(vmcall, VMCALL);
INSTRUCTION(invept, INVEPT, "invept instruction_operand(%%rip), %%rax",
	    "invept instruction_operand, %eax");
INSTRUCTION(invvpid, INVVPID, "invvpid instruction_operand(%%rip), %%rax",
	    "invvpid instruction_operand, %eax");

#define FACT(id, key)	PROVES("vmx-instructions:" #id "." key)

#define MODE_CASES(id, ud, cpl, ...)						\
	CASE_RUN(id##_at_cpl_1_to_3, check_root_at_cpl, FACT(id, cpl), __VA_ARGS__, \
		 ROW(&id##_row));						\
	CASE_RUN(id##_in_compatibility_mode, check_compatibility_mode, FACT(id, ud), __VA_ARGS__, \
		 ROW(&id##_row));						\
	CASE_RUN(id##_exits, check_nonroot, FACT(id, "nonroot"), __VA_ARGS__, ROW(&id##_row)); \
	CASE_RUN(id##_exits_at_cpl_1_to_3, check_nonroot_at_cpl, FACT(id, "nonroot"), __VA_ARGS__, \
		 ROW(&id##_row))

#define OUTSIDE_CASE(id, ud, ...)						\
	CASE_RUN(id##_outside_vmx_operation, check_outside, FACT(id, ud), __VA_ARGS__, \
		 ROW(&id##_row))

#define GUEST_UD_CASE(id, ud, ...)						\
	CASE_RUN(id##_in_compatibility_mode_of_a_guest, check_nonroot_in_compatibility_mode, \
		 FACT(id, ud), __VA_ARGS__, ROW(&id##_row))

#define INSTRUCTION_CASES(id, ...)						\
	OUTSIDE_CASE(id, "ud", __VA_ARGS__);					\
	MODE_CASES(id, "ud", "cpl", __VA_ARGS__);				\
	GUEST_UD_CASE(id, "ud", __VA_ARGS__)

/* Of the two that enter, 29.1 Basic VM-Entry Checks says the same. */
#define ENTRY_CASE(name, check, id, key, basic)					\
	CASE_RUN(id##_##name, check, PROVES("vmx-instructions:" #id "." key,	\
		 "vm-entry-checks:basic." basic), NEEDS(VMX), ROW(&id##_row))
#define ENTRY_CASES(id)								\
	ENTRY_CASE(outside_vmx_operation, check_outside, id, "ud", "outside_vmx.ud");	\
	ENTRY_CASE(at_cpl_1_to_3, check_root_at_cpl, id, "cpl", "cpl.gp");	\
	ENTRY_CASE(in_compatibility_mode, check_compatibility_mode, id, "ud", "compat.ud"); \
	ENTRY_CASE(exits, check_nonroot, id, "nonroot", "nonroot.exit");	\
	ENTRY_CASE(exits_at_cpl_1_to_3, check_nonroot_at_cpl, id, "nonroot", "nonroot.exit"); \
	GUEST_UD_CASE(id, "ud", NEEDS(VMX))

INSTRUCTION_CASES(vmclear, NEEDS(VMX));
INSTRUCTION_CASES(vmptrld, NEEDS(VMX));
INSTRUCTION_CASES(vmptrst, NEEDS(VMX));
INSTRUCTION_CASES(vmread, NEEDS(VMX));
INSTRUCTION_CASES(vmwrite, NEEDS(VMX));
ENTRY_CASES(vmlaunch);
ENTRY_CASES(vmresume);
INSTRUCTION_CASES(vmxoff, NEEDS(VMX));
INSTRUCTION_CASES(invept, NEEDS(VMX, EPT_CAP(INVEPT)));
INSTRUCTION_CASES(invvpid, NEEDS(VMX, VPID_CAP(INVVPID)));

CASE_RUN(vmxon_outside_vmx_operation_at_cpl_1_to_3, check_outside_at_cpl, FACT(vmxon, "cpl"),
	 NEEDS(VMX), ROW(&vmxon_row));
MODE_CASES(vmxon, "compatibility_mode", "root_cpl", NEEDS(VMX));
GUEST_UD_CASE(vmxon, "compatibility_mode", NEEDS(VMX));

OUTSIDE_CASE(vmcall, "outside_vmx", NEEDS(VMX));
MODE_CASES(vmcall, "ud", "cpl", NEEDS(VMX));
CASE_RUN(vmcall_exits_in_compatibility_mode, check_exit_in_compatibility_mode,
	 FACT(vmcall, "nonroot"), NEEDS(VMX), ROW(&vmcall_row));

/* --- a guest's memory operand -------------------------------------------------------------- */

/* A linear address that is not mapped: behind the first 4 GBytes. */
#define NOT_MAPPED	0x500000000ull

/* 28.1.1: the VM exit comes before what is wrong with the operand. */
#define OPERAND_CASE(id, reason, text, ...)					\
	static void id##_of_no_page(void)					\
	{									\
		asm volatile(text : : "a" (NOT_MAPPED), "c" (0) : "cc", "memory"); \
	}									\
	static const struct instruction id##_of_no_page_row = {			\
		id##_of_no_page, NULL, EXIT_##reason };				\
	CASE_RUN(id##_exits_before_its_operand, check_nonroot, FACT(id, "nonroot"), __VA_ARGS__, \
		 ROW(&id##_of_no_page_row))
OPERAND_CASE(vmxon, VMXON, "vmxon (%%rax)", NEEDS(VMX));
OPERAND_CASE(vmclear, VMCLEAR, "vmclear (%%rax)", NEEDS(VMX));
OPERAND_CASE(vmptrld, VMPTRLD, "vmptrld (%%rax)", NEEDS(VMX));
OPERAND_CASE(vmptrst, VMPTRST, "vmptrst (%%rax)", NEEDS(VMX));
OPERAND_CASE(vmread, VMREAD, "vmread %%rcx, (%%rax)", NEEDS(VMX));
OPERAND_CASE(vmwrite, VMWRITE, "vmwrite (%%rax), %%rcx", NEEDS(VMX));
OPERAND_CASE(invept, INVEPT, "invept (%%rax), %%rcx", NEEDS(VMX, EPT_CAP(INVEPT)));
OPERAND_CASE(invvpid, INVVPID, "invvpid (%%rax), %%rcx", NEEDS(VMX, VPID_CAP(INVVPID)));

/* --- a register as the operand --------------------------------------------------------- */

/*
 * Where there is RDRAND or RDSEED, these encodings are theirs. That of VMXON is SENDUIPI, which is
 * #UD as long as CR4.UINTR is 0.
 */
#define REGISTER_CASE(id, bytes, ...)						\
	CASE(id##_of_a_register, FACT(id, "register_operand"), __VA_ARGS__)	\
	{									\
		EXPECT(ATTEMPT(".byte " bytes, : : "rax", "cc"), OUTCOME_UD);	\
	}
REGISTER_CASE(vmxon, "0xf3, 0x0f, 0xc7, 0xf0", NEEDS(VMX))
REGISTER_CASE(vmclear, "0x66, 0x0f, 0xc7, 0xf0", NEEDS(VMX, NO_CPU(RDRAND)))
REGISTER_CASE(vmptrld, "0x0f, 0xc7, 0xf0", NEEDS(VMX, NO_CPU(RDRAND)))
REGISTER_CASE(vmptrst, "0x0f, 0xc7, 0xf8", NEEDS(VMX, NO_CPU(RDSEED)))
