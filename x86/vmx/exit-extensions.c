/*
 * Exits of instructions that extensions of the instruction set have brought: RDRAND and RDSEED,
 * TPAUSE and UMWAIT, XSAVES and XRSTORS. Each exits by a control of its own, describes its operands
 * in the VM-exit instruction information (30.2.5 Information for VM Exits Due to Instruction
 * Execution, Tables 30-12, 30-13 and 30-14), and without the control runs or is #UD (28.1.3
 * Instructions That Cause VM Exits Conditionally, 28.3 Changes to Instruction Behavior in VMX
 * Non-Root Operation).
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "exit-operands.h"

BEFORE_EACH_CASE(vmx_start);

/* --- Table 30-12: RDRAND and RDSEED ----------------------------------------------------------- */

enum { SIZE_16, SIZE_32, SIZE_64 };

#define RANDOM(name, insn, op, gpr, size)							\
	DESCRIBES(name, insn, op, 0, INFORMATION_REG1(gpr) | INFORMATION_OPERAND_SIZE(size),	\
		  PROVES("nonroot-behavior:rdrand_rdseed",					\
			 "instruction-information:rdrand_rdseed.destination",			\
			 "instruction-information:rdrand_rdseed.operand_size", FACT_##op),	\
		  NEEDS(VMX, PROC2(op##_EXITING), CPU(op)), .control = CONTROL_PROC2_##op##_EXITING)
#define FACT_RDRAND	"exit-reasons:57"
#define FACT_RDSEED	"exit-reasons:61"

RANDOM(rdrand_ax, "rdrand %ax", RDRAND, GPR_RAX, SIZE_16);
RANDOM(rdrand_r11d, "rdrand %r11d", RDRAND, GPR_R11, SIZE_32);
RANDOM(rdrand_rsp, "rdrand %rsp", RDRAND, GPR_RSP, SIZE_64);
RANDOM(rdseed_bp, "rdseed %bp", RDSEED, GPR_RBP, SIZE_16);
RANDOM(rdseed_ecx, "rdseed %ecx", RDSEED, GPR_RCX, SIZE_32);
RANDOM(rdseed_r15, "rdseed %r15", RDSEED, GPR_R15, SIZE_64);

/* With CF = 1 there is a number, else the destination is 0: SDM volume 2. */
static void expect_random(const struct guest_code *code, const u64 *destination)
{
	EXPECT(enter(code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_TRUE(vmread(GUEST_RFLAGS) & RFLAGS_CF || !*destination);
}

CASE(rdrand_without_control, PROVES("nonroot-behavior:rdrand_rdseed"), NEEDS(VMX, CPU(RDRAND)))
{
	expect_random(&guest_rdrand_r11d, &guest_regs()->r11);
}

CASE(rdseed_without_control, PROVES("nonroot-behavior:rdrand_rdseed"), NEEDS(VMX, CPU(RDSEED)))
{
	expect_random(&guest_rdseed_ecx, &guest_regs()->rcx);
}

/* --- Table 30-13: TPAUSE and UMWAIT ----------------------------------------------------------- */

/* Without the control the instruction is #UD, as it is where there is none. */
static void undefined(const struct case_def *this_case)
{
	const struct operands *operands = this_case->row;

	EXPECT(enter(operands->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

#define WAIT(name, op, code, gpr)								\
	DESCRIBES(name, code, op, 0, INFORMATION_REG1(gpr),					\
		  PROVES("nonroot-behavior:wait.exit",						\
			 "instruction-information:tpause_umwait.source", FACT_##op),		\
		  NEEDS(VMX, PROC1(RDTSC_EXITING), PROC2(ENABLE_USER_WAIT_AND_PAUSE),		\
			CPU(WAITPKG)),								\
		  .control = CONTROL_PROC1_RDTSC_EXITING,					\
		  .enable = CONTROL_PROC2_ENABLE_USER_WAIT_AND_PAUSE);				\
	CASE_RUN(name##_not_enabled_is_ud, undefined, PROVES("nonroot-behavior:wait.ud"),	\
		 NEEDS(VMX), ROW(&row_##name))
#define FACT_TPAUSE	"exit-reasons:68"
#define FACT_UMWAIT	"exit-reasons:67"

WAIT(tpause_edi, TPAUSE, ".byte 0x66, 0x0f, 0xae, 0xf7", GPR_RDI);
WAIT(tpause_r9d, TPAUSE, ".byte 0x66, 0x41, 0x0f, 0xae, 0xf1", GPR_R9);
WAIT(umwait_ebx, UMWAIT, ".byte 0xf2, 0x0f, 0xae, 0xf3", GPR_RBX);
WAIT(umwait_r14d, UMWAIT, ".byte 0xf2, 0x41, 0x0f, 0xae, 0xf6", GPR_R14);

/* --- XSAVES and XRSTORS ----------------------------------------------------------------------- */

GUEST_INSTRUCTION(xsaves_area, "movq $-1, %rax; movq $-1, %rdx; movl $guest_memory, %ebx",
		  "xsaves 0x40(%rbx)");
GUEST_INSTRUCTION(xrstors_area, "movq $-1, %rax; movq $-1, %rdx; movl $guest_memory, %r8d",
		  "xrstors 0x40(%r8)");

CASE(xsaves_not_enabled_is_ud, PROVES("nonroot-behavior:xsaves.ud"), NEEDS(VMX, CPU(XSAVE)))
{
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_OSXSAVE);
	EXPECT(enter(guest_xsaves_area.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

static void use_supervisor_states(u64 ia32_xss, u64 exiting)
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_XSAVES_XRSTORS);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_OSXSAVE);
	vmwrite(XSS_EXITING_BITMAP, exiting);
	if (wrmsr_safe(IA32_XSS, ia32_xss) != OUTCOME_DONE)
		case_skip("a supervisor state component of XSAVES");
}

/* The lowest bit that IA32_XSS may have: CPUID.(EAX=0DH,ECX=1):ECX. */
static u64 lowest_supervisor_state(void)
{
	u32 states = cpuid_count(0xd, 1).ecx;

	return states & -states;
}

CASE(xsaves_exits, PROVES("exit-reasons:63", "nonroot-behavior:xsaves.exit"),
     NEEDS(VMX, PROC2(ENABLE_XSAVES_XRSTORS)))
{
	u64 state = lowest_supervisor_state();

	if (!state)
		case_skip("a supervisor state component of XSAVES");
	use_supervisor_states(state, state);
	REQUIRE(enter(guest_xsaves_area.run), OUTCOME_EXIT(EXIT_XSAVES));
	EXPECT_FAULT_LIKE_EXIT(guest_xsaves_area);
	EXPECT_QUALIFICATION(0x40);
	EXPECT_INFORMATION(DS64 | INFORMATION_BASE(GPR_RBX) | INFORMATION_NO_INDEX);
}

CASE(xrstors_exits, PROVES("exit-reasons:64", "nonroot-behavior:xsaves.exit"),
     NEEDS(VMX, PROC2(ENABLE_XSAVES_XRSTORS)))
{
	u64 state = lowest_supervisor_state();

	if (!state)
		case_skip("a supervisor state component of XSAVES");
	use_supervisor_states(state, state);
	REQUIRE(enter(guest_xrstors_area.run), OUTCOME_EXIT(EXIT_XRSTORS));
	EXPECT_FAULT_LIKE_EXIT(guest_xrstors_area);
	EXPECT_QUALIFICATION(0x40);
	EXPECT_INFORMATION(DS64 | INFORMATION_BASE(GPR_R8) | INFORMATION_NO_INDEX);
}

/* EDX:EAX and the bitmap are all ones, IA32_XSS is 0: nothing to exit for. */
CASE(xsaves_without_enabled_state, PROVES("nonroot-behavior:xsaves.exit"),
     NEEDS(VMX, PROC2(ENABLE_XSAVES_XRSTORS)))
{
	use_supervisor_states(0, ~0ull);
	EXPECT(enter(guest_xsaves_area.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}
