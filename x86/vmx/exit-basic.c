/*
 * Instructions that leave the guest as they are, without operands that the exit would describe:
 * those that always exit (28.1.2 Instructions That Cause VM Exits Unconditionally), those that exit
 * when a VM-execution control says so (28.1.3 Instructions That Cause VM Exits Conditionally), and
 * what comes before an exit (28.1.1 Relative Priority of Faults and VM Exits).
 *
 * An exit by an instruction is fault-like: the instruction has not been executed, the saved RIP
 * points at it, and no register has changed. EXPECT_FAULT_LIKE_EXIT() judges that, and the length,
 * in every case here. When the host skips the instruction, the guest goes on behind it.
 *
 * Each conditional instruction has a second case: with its control 0 it does not exit and works.
 */
#include "cpu/features.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

/* One instruction, and the exit that it causes. */
struct instruction {
	const struct guest_code *code;
	enum exit_reason reason;
	enum control control;		/* makes it exit; 0: nothing must */
	enum control enable;		/* without it the instruction is #UD; 0: nothing */
	u64 qualification;
	u64 guest_cr4;			/* bits that the instruction wants */
	outcome_t alternative;		/* to done, where it does not exit */
};

static void set_up(const struct instruction *instruction)
{
	if (instruction->enable)
		vmcs_set_control(instruction->enable);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | instruction->guest_cr4);
}

static void exits(const struct case_def *this_case)
{
	const struct instruction *instruction = this_case->row;

	set_up(instruction);
	if (instruction->control)
		vmcs_set_control(instruction->control);
	REQUIRE(enter(instruction->code->run), OUTCOME_EXIT(instruction->reason));
	EXPECT_FAULT_LIKE_EXIT(*instruction->code);
	EXPECT_QUALIFICATION(instruction->qualification);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}

static void works_without_control(const struct case_def *this_case)
{
	const struct instruction *instruction = this_case->row;

	set_up(instruction);
	if (vmcs_has_control(instruction->control))
		case_skip("the 0-setting of \"%s\"", control_words(instruction->control));
	EXPECT(enter(instruction->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE,
	       instruction->alternative ? instruction->alternative : OUTCOME_DONE);
}

/* --- always ------------------------------------------------------------------- */

#define ALWAYS(name, exit_reason, proves, needs, ...)			\
	static const struct instruction row_##name = {			\
		.code = &guest_##name, .reason = EXIT_##exit_reason, __VA_ARGS__ };	\
	CASE_RUN(name##_exits, exits, proves, needs, ROW(&row_##name))

GUEST_INSTRUCTION(cpuid, "movl $0x80000000, %eax", "cpuid");
ALWAYS(cpuid, CPUID, PROVES("exit-reasons:10", "nonroot-behavior:cpuid"), NEEDS(VMX));
GUEST_INSTRUCTION(invd, "", "invd");
ALWAYS(invd, INVD, PROVES("exit-reasons:13", "nonroot-behavior:getsec_invd_xsetbv"), NEEDS(VMX));
GUEST_INSTRUCTION(getsec, "xorl %eax, %eax", "getsec");
ALWAYS(getsec, GETSEC, PROVES("exit-reasons:11", "nonroot-behavior:getsec_invd_xsetbv"),
       NEEDS(VMX, CPU(SMX)), .guest_cr4 = CR4_SMXE);
GUEST_INSTRUCTION(xsetbv, "movl $1, %eax; xorl %edx, %edx; xorl %ecx, %ecx", "xsetbv");
ALWAYS(xsetbv, XSETBV, PROVES("exit-reasons:55", "nonroot-behavior:getsec_invd_xsetbv"),
       NEEDS(VMX, CPU(XSAVE)), .guest_cr4 = CR4_OSXSAVE);
GUEST_INSTRUCTION(vmcall, "", "vmcall");
ALWAYS(vmcall, VMCALL, PROVES("exit-reasons:18", "nonroot-behavior:vmx_instructions"), NEEDS(VMX));
GUEST_INSTRUCTION(vmlaunch, "", "vmlaunch");
ALWAYS(vmlaunch, VMLAUNCH, PROVES("exit-reasons:20", "nonroot-behavior:vmx_instructions"),
       NEEDS(VMX));
GUEST_INSTRUCTION(vmresume, "", "vmresume");
ALWAYS(vmresume, VMRESUME, PROVES("exit-reasons:24", "nonroot-behavior:vmx_instructions"),
       NEEDS(VMX));
GUEST_INSTRUCTION(vmxoff, "", "vmxoff");
ALWAYS(vmxoff, VMXOFF, PROVES("exit-reasons:26", "nonroot-behavior:vmx_instructions"), NEEDS(VMX));

/* Prefixes without a meaning here are part of the instruction, and of its length. */
GUEST_INSTRUCTION(prefixed_cpuid, "xorl %eax, %eax", ".byte 0x2e, 0x66, 0x67, 0x48, 0x0f, 0xa2");
ALWAYS(prefixed_cpuid, CPUID, PROVES("exit-reasons:10"), NEEDS(VMX));

/* --- when a control says so ------------------------------------------------------ */

#define BY_CONTROL(name, exit_reason, control_, proves, needs, ...)	\
	static const struct instruction row_##name = {			\
		.code = &guest_##name, .reason = EXIT_##exit_reason,	\
		.control = CONTROL_##control_, __VA_ARGS__ };		\
	CASE_RUN(name##_exits, exits, proves, needs, ROW(&row_##name));	\
	CASE_RUN(name##_without_control, works_without_control, proves, needs, ROW(&row_##name))

GUEST_INSTRUCTION(invlpg, "movl $0x12345678, %ebx", "invlpg 0x11(%rbx)");
BY_CONTROL(invlpg, INVLPG, PROC1_INVLPG_EXITING,
	   PROVES("exit-reasons:14", "nonroot-behavior:invlpg",
		  "exit-qualifications:invlpg.address"),
	   NEEDS(VMX, PROC1(INVLPG_EXITING)), .qualification = 0x12345689);

/* An address that no paging structure translates, and one that is not canonical, are no faults. */
GUEST_INSTRUCTION(invlpg_high, "movabsq $0xffff812345678000, %rsi", "invlpg (%rsi,%rsi,1)");
BY_CONTROL(invlpg_high, INVLPG, PROC1_INVLPG_EXITING,
	   PROVES("exit-qualifications:invlpg.address"), NEEDS(VMX, PROC1(INVLPG_EXITING)),
	   .qualification = 2 * 0xffff812345678000);

GUEST_INSTRUCTION(rdpmc, "xorl %ecx, %ecx", "rdpmc");
BY_CONTROL(rdpmc, RDPMC, PROC1_RDPMC_EXITING, PROVES("exit-reasons:15", "nonroot-behavior:rdpmc"),
	   NEEDS(VMX, PROC1(RDPMC_EXITING)), .alternative = OUTCOME_GP0);
GUEST_INSTRUCTION(rdtsc, "", "rdtsc");
BY_CONTROL(rdtsc, RDTSC, PROC1_RDTSC_EXITING,
	   PROVES("exit-reasons:16", "nonroot-behavior:rdtsc.exit"),
	   NEEDS(VMX, PROC1(RDTSC_EXITING)));
GUEST_INSTRUCTION(rdtscp, "", "rdtscp");
BY_CONTROL(rdtscp, RDTSCP, PROC1_RDTSC_EXITING,
	   PROVES("exit-reasons:51", "nonroot-behavior:rdtscp.exit"),
	   NEEDS(VMX, PROC1(RDTSC_EXITING), PROC2(ENABLE_RDTSCP), CPU(RDTSCP)),
	   .enable = CONTROL_PROC2_ENABLE_RDTSCP);
GUEST_INSTRUCTION(pause, "", "pause");
BY_CONTROL(pause, PAUSE, PROC1_PAUSE_EXITING, PROVES("exit-reasons:40", "nonroot-behavior:pause"),
	   NEEDS(VMX, PROC1(PAUSE_EXITING)));
GUEST_INSTRUCTION(monitor, "movl $guest_memory, %eax", "monitor");
BY_CONTROL(monitor, MONITOR, PROC1_MONITOR_EXITING,
	   PROVES("exit-reasons:39", "nonroot-behavior:monitor_mwait"),
	   NEEDS(VMX, PROC1(MONITOR_EXITING), CPU(MONITOR)));
/* Without MONITOR before it, MWAIT does not wait. */
GUEST_INSTRUCTION(mwait, "", "mwait");
BY_CONTROL(mwait, MWAIT, PROC1_MWAIT_EXITING,
	   PROVES("exit-reasons:36", "nonroot-behavior:monitor_mwait",
		  "exit-qualifications:mwait.armed"),
	   NEEDS(VMX, PROC1(MWAIT_EXITING), CPU(MONITOR)));
GUEST_INSTRUCTION(wbinvd, "", "wbinvd");
BY_CONTROL(wbinvd, WBINVD_OR_WBNOINVD, PROC2_WBINVD_EXITING,
	   PROVES("exit-reasons:54", "nonroot-behavior:wbinvd",
		  "exit-qualifications:wbinvd.wbnoinvd"),
	   NEEDS(VMX, PROC2(WBINVD_EXITING)));
GUEST_INSTRUCTION(wbnoinvd, "", ".byte 0xf3, 0x0f, 0x09");
BY_CONTROL(wbnoinvd, WBINVD_OR_WBNOINVD, PROC2_WBINVD_EXITING,
	   PROVES("exit-reasons:54", "nonroot-behavior:wbinvd",
		  "exit-qualifications:wbinvd.wbnoinvd"),
	   NEEDS(VMX, PROC2(WBINVD_EXITING), CPU(WBNOINVD)), .qualification = 1);

GUEST_INSTRUCTION(hlt, "", "hlt");
static const struct instruction row_hlt = {
	.code = &guest_hlt, .reason = EXIT_HLT, .control = CONTROL_PROC1_HLT_EXITING };
CASE_RUN(hlt_exits, exits, PROVES("exit-reasons:12", "nonroot-behavior:hlt"),
	 NEEDS(VMX, PROC1(HLT_EXITING)), ROW(&row_hlt));

/* 28.5.1 VMX-Preemption Timer: it wakes HLT, and 30.3.4 says which activity state is saved. */
CASE(hlt_without_control, PROVES("nonroot-behavior:hlt", "interruptibility:timer.wake",
				 "interruptibility:act.saved"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	if (vmcs_has_control(CONTROL_PROC1_HLT_EXITING))
		case_skip("the 0-setting of \"%s\"", control_words(CONTROL_PROC1_HLT_EXITING));
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1000);
	EXPECT(enter(guest_hlt.run), OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_hlt.end);
	vmcs_clear_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
	EXPECT(resume(), GUEST_DONE);
}

GUEST_INSTRUCTION(armed_mwait, "movl $guest_memory, %eax; monitor", "mwait");

/* MONITOR does not exit here, MWAIT does: the monitoring hardware is armed. */
CASE(armed_mwait_exits, PROVES("exit-qualifications:mwait.armed"),
     NEEDS(VMX, PROC1(MWAIT_EXITING), CPU(MONITOR)))
{
	vmcs_set_control(CONTROL_PROC1_MWAIT_EXITING);
	REQUIRE(enter(guest_armed_mwait.run), OUTCOME_EXIT(EXIT_MWAIT));
	EXPECT_FAULT_LIKE_EXIT(guest_armed_mwait);
	EXPECT_QUALIFICATION(1);
	/* 30.5.6 Clearing Address-Range Monitoring: by that exit. */
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_MWAIT));
	EXPECT_QUALIFICATION(0);
}

/* --- RDTSC that does not exit: 28.3 Changes to Instruction Behavior ------------------- */

#define TSC_OFFSET_HERE 0x123456789abcdull

static u64 edx_eax(void)
{
	return guest_regs()->rdx << 32 | (u32)guest_regs()->rax;
}

/* The guest's clock, read by `code`, is between the host's before and after, moved by `offset`. */
static void expect_guest_clock(const struct guest_code *code, u64 offset)
{
	u64 before = rdtsc() + offset;

	EXPECT(enter(code->run), GUEST_DONE);
	EXPECT_TRUE(edx_eax() >= before);
	EXPECT_TRUE(edx_eax() <= rdtsc() + offset);
}

CASE(rdtsc_reads_the_clock, PROVES("nonroot-behavior:rdtsc.exit"), NEEDS(VMX))
{
	vmwrite(TSC_OFFSET, TSC_OFFSET_HERE);
	expect_guest_clock(&guest_rdtsc, 0);
}

CASE(rdtsc_adds_the_offset, PROVES("nonroot-behavior:rdtsc.offset"),
     NEEDS(VMX, PROC1(USE_TSC_OFFSETTING)))
{
	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmwrite(TSC_OFFSET, TSC_OFFSET_HERE);
	expect_guest_clock(&guest_rdtsc, TSC_OFFSET_HERE);
}

CASE(rdtscp_adds_the_offset, PROVES("nonroot-behavior:rdtsc.offset"),
     NEEDS(VMX, PROC1(USE_TSC_OFFSETTING), PROC2(ENABLE_RDTSCP), CPU(RDTSCP)))
{
	wrmsr(IA32_TSC_AUX, 0x5a5a);
	vmcs_set_control(CONTROL_PROC2_ENABLE_RDTSCP);
	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmwrite(TSC_OFFSET, TSC_OFFSET_HERE);
	expect_guest_clock(&guest_rdtscp, TSC_OFFSET_HERE);
	EXPECT_EQ(guest_regs()->rcx, 0x5a5a);
}

/* --- #UD comes first ------------------------------------------------------------------ */

/* An instruction that is #UD though `control` (0: none) would make it exit. */
struct undefined {
	const struct guest_code *code;
	enum control control;
};

static void is_undefined(const struct case_def *this_case)
{
	const struct undefined *undefined = this_case->row;

	if (undefined->control)
		vmcs_set_control(undefined->control);
	EXPECT(enter(undefined->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

#define UNDEFINED(name, control_, proves, needs, before, insn)		\
	GUEST_INSTRUCTION(name, before, insn);				\
	static const struct undefined row_##name = { &guest_##name, control_ };	\
	CASE_RUN(name##_is_ud, is_undefined, proves, needs, ROW(&row_##name))

UNDEFINED(lock_cpuid, 0, PROVES("nonroot-behavior:prio.ud"), NEEDS(VMX),
	  "", ".byte 0xf0, 0x0f, 0xa2");
UNDEFINED(lock_hlt, CONTROL_PROC1_HLT_EXITING, PROVES("nonroot-behavior:prio.ud"),
	  NEEDS(VMX, PROC1(HLT_EXITING)), "", ".byte 0xf0, 0xf4");
UNDEFINED(invlpg_of_register, CONTROL_PROC1_INVLPG_EXITING, PROVES("nonroot-behavior:prio.ud"),
	  NEEDS(VMX, PROC1(INVLPG_EXITING)), "", ".byte 0x0f, 0x01, 0xfb");
UNDEFINED(getsec_without_smxe, 0, PROVES("nonroot-behavior:prio.ud"), NEEDS(VMX), "", "getsec");
UNDEFINED(xsetbv_without_osxsave, 0, PROVES("nonroot-behavior:prio.ud"), NEEDS(VMX),
	  "xorl %ecx, %ecx; movl $1, %eax; xorl %edx, %edx", "xsetbv");
UNDEFINED(rsm_outside_smm, 0, PROVES("nonroot-behavior:prio.ud"), NEEDS(VMX), "", "rsm");
UNDEFINED(rdtscp_not_enabled, CONTROL_PROC1_RDTSC_EXITING, PROVES("nonroot-behavior:rdtscp.ud"),
	  NEEDS(VMX, PROC1(RDTSC_EXITING)), "", "rdtscp");
UNDEFINED(rdpid_not_enabled, 0, PROVES("nonroot-behavior:rdpid.ud"), NEEDS(VMX),
	  "", ".byte 0xf3, 0x0f, 0xc7, 0xf8");

/* --- privilege ------------------------------------------------------------------------ */

CASE(cpuid_exits_at_cpl_3, PROVES("exit-reasons:10", "nonroot-behavior:cpuid"), NEEDS(VMX))
{
	guest_to_user_mode();
	REQUIRE(enter(guest_cpuid.run), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_FAULT_LIKE_EXIT(guest_cpuid);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SELECTOR_USER_CODE64);
}

CASE(vmcall_exits_at_cpl_3, PROVES("exit-reasons:18"), NEEDS(VMX))
{
	guest_to_user_mode();
	REQUIRE(enter(guest_vmcall.run), OUTCOME_EXIT(EXIT_VMCALL));
	EXPECT_FAULT_LIKE_EXIT(guest_vmcall);
}

CASE(vmxoff_exits_at_cpl_3, PROVES("exit-reasons:26"), NEEDS(VMX))
{
	guest_to_user_mode();
	REQUIRE(enter(guest_vmxoff.run), OUTCOME_EXIT(EXIT_VMXOFF));
	EXPECT_FAULT_LIKE_EXIT(guest_vmxoff);
}

CASE(pause_exits_at_cpl_3, PROVES("nonroot-behavior:pause"), NEEDS(VMX, PROC1(PAUSE_EXITING)))
{
	guest_to_user_mode();
	vmcs_set_control(CONTROL_PROC1_PAUSE_EXITING);
	REQUIRE(enter(guest_pause.run), OUTCOME_EXIT(EXIT_PAUSE));
	EXPECT_FAULT_LIKE_EXIT(guest_pause);
}

CASE(rdtsc_exits_at_cpl_3, PROVES("nonroot-behavior:rdtsc.exit"), NEEDS(VMX, PROC1(RDTSC_EXITING)))
{
	guest_to_user_mode();
	vmcs_set_control(CONTROL_PROC1_RDTSC_EXITING);
	REQUIRE(enter(guest_rdtsc.run), OUTCOME_EXIT(EXIT_RDTSC));
	EXPECT_FAULT_LIKE_EXIT(guest_rdtsc);
}

/* A fault by privilege level comes before the exit that `control` (0: nothing) would cause. */
struct privileged {
	const struct guest_code *code;
	enum control control;
	outcome_t fault;
	u64 guest_cr4;
};

static void faults_at_cpl_3(const struct case_def *this_case)
{
	const struct privileged *privileged = this_case->row;

	guest_to_user_mode();
	if (privileged->control)
		vmcs_set_control(privileged->control);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | privileged->guest_cr4);
	EXPECT(enter(privileged->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), privileged->fault);
}

#define AT_CPL_3(name, fault_, control_, needs, ...)			\
	static const struct privileged user_##name = {			\
		.code = &guest_##name, .control = control_, .fault = fault_, __VA_ARGS__ };	\
	CASE_RUN(name##_faults_at_cpl_3, faults_at_cpl_3, PROVES("nonroot-behavior:prio.cpl"), \
		 needs, ROW(&user_##name))

AT_CPL_3(hlt, OUTCOME_GP0, CONTROL_PROC1_HLT_EXITING, NEEDS(VMX, PROC1(HLT_EXITING)));
AT_CPL_3(invd, OUTCOME_GP0, 0, NEEDS(VMX));
AT_CPL_3(wbinvd, OUTCOME_GP0, CONTROL_PROC2_WBINVD_EXITING, NEEDS(VMX, PROC2(WBINVD_EXITING)));
AT_CPL_3(invlpg, OUTCOME_GP0, CONTROL_PROC1_INVLPG_EXITING, NEEDS(VMX, PROC1(INVLPG_EXITING)));
AT_CPL_3(xsetbv, OUTCOME_GP0, 0, NEEDS(VMX, CPU(XSAVE)), .guest_cr4 = CR4_OSXSAVE);
/* MONITOR and MWAIT are undefined at CPL > 0: SDM volume 2. */
AT_CPL_3(monitor, OUTCOME_UD, CONTROL_PROC1_MONITOR_EXITING,
	 NEEDS(VMX, PROC1(MONITOR_EXITING), CPU(MONITOR)));
AT_CPL_3(mwait, OUTCOME_UD, CONTROL_PROC1_MWAIT_EXITING,
	 NEEDS(VMX, PROC1(MWAIT_EXITING), CPU(MONITOR)));
/* CR4.TSD = 1 and CR4.PCE = 0 take RDTSC and RDPMC from user mode. */
AT_CPL_3(rdtsc, OUTCOME_GP0, CONTROL_PROC1_RDTSC_EXITING, NEEDS(VMX, PROC1(RDTSC_EXITING)),
	 .guest_cr4 = CR4_TSD);
AT_CPL_3(rdpmc, OUTCOME_GP0, CONTROL_PROC1_RDPMC_EXITING, NEEDS(VMX, PROC1(RDPMC_EXITING)));

/* --- saved flags ------------------------------------------------------------------------ */

/* RFLAGS.RF is on when CPUID begins, and is saved as 0 all the same. */
CASE(rf_is_saved_as_0, PROVES("host-and-exit:save.rf.instruction"), NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_RF | RFLAGS_CF | RFLAGS_ID);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | RFLAGS_CF | RFLAGS_ID);
}
