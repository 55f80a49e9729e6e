/*
 * VMLAUNCH and VMRESUME, up to the guest: the launch state of a VMCS, and every way in which the
 * two instructions fail, in the order of 33.3 VMX Instructions, "VMLAUNCH/VMRESUME".
 *
 * VMLAUNCH wants a VMCS whose launch state is "clear", VMRESUME one that is "launched". Only a VM
 * entry that succeeds makes it launched, and only VMCLEAR makes it clear again: 27.1 Overview. Of
 * the checks on controls, host state and guest state (chapter 29) each has one example here.
 *
 * vmlaunch() and vmresume() set the six status flags before the instruction, and judge all of them
 * after it: 33.2 Conventions.
 */
#include "cpu/features.h"
#include "cpu/processor_trace.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

extern const u8 vmx_guest_done[];

BEFORE_EACH_CASE(vmx_start);

#define NOT_CLEAR	OUTCOME_VMFAIL_VALID(VMFAIL_VMLAUNCH_NON_CLEAR_VMCS)
#define NOT_LAUNCHED	OUTCOME_VMFAIL_VALID(VMFAIL_VMRESUME_NON_LAUNCHED_VMCS)
#define BLOCKED		OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_BLOCKED_BY_MOV_SS)

static void guest_nothing(void)
{
}

static u64 region(void)
{
	return (u64)this_vmx()->vmcs_region;
}

static void launch(void)
{
	REQUIRE(enter(guest_nothing), GUEST_DONE);
}

/* --- the launch state ---------------------------------------------------------------- */

CASE(vmlaunch_then_vmresume, PROVES("vmx-instructions:vmlaunch.success"), NEEDS(VMX))
{
	EXPECT(enter(guest_nothing), GUEST_DONE);
	/* The library goes in by VMRESUME from now on. */
	EXPECT(enter(guest_nothing), GUEST_DONE);
}

CASE(vmlaunch_of_a_launched_vmcs, PROVES("vmx-instructions:vmlaunch.not_clear",
     "vm-instruction-errors:4", "vm-entry-checks:basic.vmlaunch_not_clear",
     "vm-entry-checks:basic.fail.flags"), NEEDS(VMX))
{
	launch();
	EXPECT(vmlaunch(), NOT_CLEAR);
}

CASE(vmresume_of_a_clear_vmcs, PROVES("vmx-instructions:vmresume.not_launched",
     "vm-instruction-errors:5", "vm-entry-checks:basic.vmresume_not_launched",
     "vm-entry-checks:basic.fail.flags"), NEEDS(VMX))
{
	EXPECT(vmresume(), NOT_LAUNCHED);
}

CASE(vmclear_makes_the_launch_state_clear, PROVES("vmx-instructions:vmclear.success",
     "vmx-instructions:vmresume.not_launched"), NEEDS(VMX))
{
	launch();
	REQUIRE(vmclear(region()), OUTCOME_DONE);
	REQUIRE(vmptrld(region()), OUTCOME_DONE);
	EXPECT(vmresume(), NOT_LAUNCHED);
	EXPECT(vmlaunch(), GUEST_DONE);
}

/* The launch state belongs to the VMCS: another one becomes current and launched meanwhile. */
CASE(vmptrld_keeps_the_launch_state, PROVES("vmx-instructions:vmptrld.success",
     "vmx-instructions:vmlaunch.not_clear"), NEEDS(VMX))
{
	u32 revision = vmcs_revision();
	u8 *other = page_alloc();

	launch();
	memcpy(other, &revision, sizeof(revision));
	REQUIRE(vmclear(physical(other)), OUTCOME_DONE);
	REQUIRE(vmptrld(physical(other)), OUTCOME_DONE);
	vmcs_set_defaults();
	EXPECT(vmresume(), NOT_LAUNCHED);
	REQUIRE(vmptrld(region()), OUTCOME_DONE);
	EXPECT(vmlaunch(), NOT_CLEAR);
	EXPECT(vmresume(), GUEST_DONE);
}

/* Data and launch state as VMCLEAR left them, in the next VMX operation: 27.11.1. */
CASE(vmcleared_vmcs_outlives_vmxoff, PROVES("vmx-instructions:vmresume.not_launched",
     "vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	launch();
	REQUIRE(vmclear(region()), OUTCOME_DONE);
	REQUIRE(vmxoff(), OUTCOME_DONE);
	REQUIRE(vmxon((u64)this_vmx()->vmxon_region), OUTCOME_DONE);
	REQUIRE(vmptrld(region()), OUTCOME_DONE);
	EXPECT(vmresume(), NOT_LAUNCHED);
	EXPECT(vmlaunch(), GUEST_DONE);
}

/* --- no VMCS for a guest --------------------------------------------------------------- */

CASE(entry_without_current_vmcs, PROVES("vmx-instructions:vmlaunch.no_vmcs",
     "vmx-instructions:vmresume.no_vmcs", "vm-entry-checks:basic.no_current_vmcs",
     "vm-entry-checks:basic.failinvalid.flags"), NEEDS(VMX))
{
	REQUIRE(vmclear(region()), OUTCOME_DONE);
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmresume(), OUTCOME_VMFAIL_INVALID);
}

/* 29.1 Basic VM-Entry Checks: a shadow VMCS is for VMREAD and VMWRITE only. */
CASE(entry_with_a_shadow_vmcs, PROVES("vmx-instructions:vmlaunch.shadow_vmcs",
     "vmx-instructions:vmresume.shadow_vmcs", "vmx-result-flags:vmfailinvalid",
     "vm-entry-checks:basic.shadow_current_vmcs"),
     NEEDS(VMX, PROC2(VMCS_SHADOWING)))
{
	u32 shadow = vmcs_revision() | BIT(31);
	u8 *page = page_alloc();

	memcpy(page, &shadow, sizeof(shadow));
	REQUIRE(vmclear(physical(page)), OUTCOME_DONE);
	REQUIRE(vmptrld(physical(page)), OUTCOME_DONE);
	vmcs_set_defaults();
	EXPECT(vmwrite_outcome(0x7fff, 0), OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT));
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmresume(), OUTCOME_VMFAIL_INVALID);
	/* VMfailInvalid writes no error number, although there is a current VMCS. */
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_UNSUPPORTED_VMCS_COMPONENT);
}

/* --- blocking by MOV SS ---------------------------------------------------------------- */

/*
 * An entry right behind other instructions. Should the guest start, it comes back to the end of
 * this code by its first exit. HOST_RIP is restored for later entries.
 */
#define ENTERED	0	/* instead of RFLAGS, of which bit 1 is 1 */

#define ENTRY_WITH(name, before, entry)					\
	static outcome_t name(void)						\
	{									\
		u64 flags, host_rip = 0;					\
										\
		vmread_outcome(HOST_RIP, &host_rip);				\
		vmwrite_outcome(GUEST_RIP, (u64)vmx_guest_done);		\
		asm volatile("pushq %%rbp\n\tpushq %%rbx\n\t"			\
			     "movl %[host_rip], %%eax\n\tleaq 1f(%%rip), %%rcx\n\t" \
			     "vmwrite %%rcx, %%rax\n\t"				\
			     "movl %[host_rsp], %%eax\n\tvmwrite %%rsp, %%rax\n\t" \
			     "pushfq\n\torl $0x8d5, (%%rsp)\n\tpopfq\n\t"	\
			     before "\n\t" entry "\n\t"			\
			     "pushfq\n\tpopq %%rax\n\tjmp 2f\n"			\
			     "1:\txorl %%eax, %%eax\n"				\
			     "2:\tpopq %%rbx\n\tpopq %%rbp"			\
			     : "=a" (flags)					\
			     : [host_rip] "i" (HOST_RIP), [host_rsp] "i" (HOST_RSP), \
			       "d" (SELECTOR_DATA)				\
			     : "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", \
			       "r14", "r15", "cc", "memory");			\
		vmwrite_outcome(HOST_RIP, host_rip);				\
		return flags == ENTERED ? OUTCOME_EXIT(vmread(EXIT_REASON)) :	\
		       vmx_outcome(entry " behind " before, OUTCOME_DONE, flags);	\
	}
ENTRY_WITH(vmlaunch_behind_mov_ss, "movl %%edx, %%ss", "vmlaunch")
ENTRY_WITH(vmresume_behind_mov_ss, "movl %%edx, %%ss", "vmresume")

CASE(vmlaunch_blocked_by_mov_ss, PROVES("vmx-instructions:vmlaunch.mov_ss_blocking",
     "vm-instruction-errors:26", "vm-entry-checks:basic.mov_ss_blocking"), NEEDS(VMX))
{
	EXPECT(vmlaunch_behind_mov_ss(), BLOCKED);
	EXPECT(vmresume(), NOT_LAUNCHED);
}

CASE(vmresume_blocked_by_mov_ss, PROVES("vmx-instructions:vmresume.mov_ss_blocking",
     "vm-instruction-errors:26", "vm-entry-checks:basic.mov_ss_blocking"), NEEDS(VMX))
{
	launch();
	EXPECT(vmresume_behind_mov_ss(), BLOCKED);
}

CASE(mov_ss_comes_before_the_launch_state, PROVES("vmx-instructions:vmlaunch.mov_ss_blocking",
     "vmx-instructions:vmresume.mov_ss_blocking",
     "vm-entry-checks:basic.order.movss_before_launch_state"), NEEDS(VMX))
{
	EXPECT(vmresume_behind_mov_ss(), BLOCKED);
	launch();
	EXPECT(vmlaunch_behind_mov_ss(), BLOCKED);
}

CASE(current_vmcs_comes_before_mov_ss, PROVES("vmx-instructions:vmlaunch.no_vmcs",
     "vmx-instructions:vmresume.no_vmcs"), NEEDS(VMX))
{
	REQUIRE(vmclear(region()), OUTCOME_DONE);
	EXPECT(vmlaunch_behind_mov_ss(), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmresume_behind_mov_ss(), OUTCOME_VMFAIL_INVALID);
}

/* --- checks of the VMCS ---------------------------------------------------------------- */

/* What is wrong in the VMCS, and how the entry fails for it. */
struct failure {
	void (*spoil)(void);
	outcome_t outcome;
};

/* Bits that may not be 1 and bits that must be: 29.2.1.1 VM-Execution Control Fields. */
static void spoil_controls(void)
{
	vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS, ~vmread(PIN_BASED_VM_EXECUTION_CONTROLS));
}

/* 29.2.3 Checks on Host Segment and Descriptor-Table Registers: the selector of CS is not 0. */
static void spoil_host_state(void)
{
	vmwrite(HOST_CS_SELECTOR, 0);
}

/* 29.3.1.4 Checks on Guest RIP, RFLAGS, and SSP: bit 1 of RFLAGS is 1. */
static void spoil_guest_state(void)
{
	vmwrite(GUEST_RFLAGS, 0);
}

/* 29.4 Loading MSRs: the list may not hold IA32_FS_BASE, here in its first entry. */
static void spoil_msr_load(void)
{
	u64 *entry = page_alloc();

	entry[0] = IA32_FS_BASE;
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(entry));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 1);
}

static const struct failure bad_controls = {
	spoil_controls, OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS),
};
static const struct failure bad_host_state = {
	spoil_host_state, OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_HOST_STATE),
};
static const struct failure bad_guest_state = {
	spoil_guest_state, OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0),
};
static const struct failure bad_msr_load = {
	spoil_msr_load, OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 1),
};

/* No entry, so the launch state stays "clear". */
static void check_vmlaunch(const struct case_def *this_case)
{
	const struct failure *failure = this_case->row;

	failure->spoil();
	EXPECT(vmlaunch(), failure->outcome);
	EXPECT(vmresume(), NOT_LAUNCHED);
	vmcs_set_defaults();
	EXPECT(enter(guest_nothing), GUEST_DONE);
}

/* Nor does it become "clear". */
static void check_vmresume(const struct case_def *this_case)
{
	const struct failure *failure = this_case->row;

	launch();
	failure->spoil();
	EXPECT(vmresume(), failure->outcome);
	EXPECT(vmlaunch(), NOT_CLEAR);
	vmcs_set_defaults();
	EXPECT(vmresume(), GUEST_DONE);
}

#define FAILURE_CASES(name, key, row, ...)					\
	CASE_RUN(vmlaunch_with_##name, check_vmlaunch,				\
		 PROVES("vmx-instructions:vmlaunch." key, ##__VA_ARGS__), NEEDS(VMX), ROW(&row)); \
	CASE_RUN(vmresume_with_##name, check_vmresume,				\
		 PROVES("vmx-instructions:vmresume." key, ##__VA_ARGS__), NEEDS(VMX), ROW(&row))
#define KEPT	"vm-entry-checks:basic.launch_state_kept_on_fail"
FAILURE_CASES(invalid_controls, "controls", bad_controls, "vm-instruction-errors:7", KEPT);
FAILURE_CASES(invalid_host_state, "host_state", bad_host_state, "vm-instruction-errors:8", KEPT);
FAILURE_CASES(invalid_guest_state, "guest_state", bad_guest_state, KEPT);
FAILURE_CASES(invalid_msr_load, "msr_load", bad_msr_load, KEPT);

CASE(launch_state_comes_before_the_controls, PROVES("vmx-instructions:vmlaunch.not_clear",
     "vmx-instructions:vmresume.not_launched",
     "vm-entry-checks:basic.order.launch_state_before_controls"), NEEDS(VMX))
{
	spoil_controls();
	EXPECT(vmresume(), NOT_LAUNCHED);
	vmcs_set_defaults();
	launch();
	spoil_controls();
	EXPECT(vmlaunch(), NOT_CLEAR);
}

/* --- what comes first ------------------------------------------------------------------- */

/* 29.2: checks of controls and of host state may come in any order. */
CASE(controls_and_host_state_in_any_order, PROVES("vm-entry-checks:basic.order.vmfail_any_order"),
     NEEDS(VMX))
{
	spoil_controls();
	spoil_host_state();
	EXPECT(vmlaunch(), bad_controls.outcome, bad_host_state.outcome);
}

static void plain_vmlaunch(void *unused)
{
	(void)unused;
	asm volatile("vmlaunch" : : : "cc", "memory");
}

static void plain_vmresume(void *unused)
{
	(void)unused;
	asm volatile("vmresume" : : : "cc", "memory");
}

CASE(cpl_comes_before_the_current_vmcs, PROVES("vm-entry-checks:basic.order.cpl_before_vmcs"),
     NEEDS(VMX))
{
	u32 cpl;

	REQUIRE(vmclear(region()), OUTCOME_DONE);
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_INVALID);
	for (cpl = 1; cpl <= 3; cpl++) {
		EXPECT(run_at_cpl(cpl, plain_vmlaunch, NULL), OUTCOME_GP0);
		EXPECT(run_at_cpl(cpl, plain_vmresume, NULL), OUTCOME_GP0);
	}
}

/* --- RFLAGS.TF --------------------------------------------------------------------------- */

static u32 single_steps;

static void end_single_step(struct trap_frame *frame)
{
	single_steps++;
	frame->rflags &= ~RFLAGS_TF;
}

#define SET_TF	"pushfq\n\torl $0x100, (%%rsp)\n\tpopfq"
ENTRY_WITH(vmlaunch_with_tf, SET_TF, "vmlaunch")
ENTRY_WITH(vmresume_with_tf, SET_TF, "vmresume")

/*
 * Chapter 29: a single-step trap comes behind an entry that passes control to the next instruction,
 * and behind no other.
 */
CASE(single_step_over_an_entry, PROVES("vm-entry-checks:basic.single_step"), NEEDS(VMX))
{
	single_steps = 0;
	trap_on(VECTOR_DB, end_single_step);
	spoil_controls();
	EXPECT(vmlaunch_with_tf(), bad_controls.outcome);
	EXPECT_EQ(single_steps, 1);
	vmcs_set_defaults();
	spoil_guest_state();
	EXPECT(vmlaunch_with_tf(), OUTCOME_EXIT(BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE));
	EXPECT_EQ(single_steps, 1);
	vmcs_set_defaults();
	EXPECT(vmlaunch_with_tf(), GUEST_DONE);
	EXPECT_EQ(single_steps, 1);
	spoil_controls();
	EXPECT(vmresume_with_tf(), bad_controls.outcome);
	EXPECT_EQ(single_steps, 2);
	vmcs_set_defaults();
	EXPECT(vmresume_with_tf(), GUEST_DONE);
	EXPECT_EQ(single_steps, 2);
}

/* --- tracing in the host: 29.2.1.1 ---------------------------------------------------------- */

/*
 * An entry cannot load IA32_RTIT_CTL while the processor trace is on; it can do either alone. The
 * trace is off before anything is judged.
 */
CASE(no_load_of_rtit_ctl_while_tracing, PROVES("vm-entry-checks:ctl.pt.trace_enabled"),
     NEEDS(VMX, CPU(PT), ENTRY_CTL(LOAD_IA32_RTIT_CTL)))
{
	u64 control = RTIT_CTL_TRACE | processor_trace_to(page_alloc(), page_alloc());
	outcome_t loading, not_loading;

	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
	vmwrite(GUEST_IA32_RTIT_CTL, 0);
	wrmsr(IA32_RTIT_CTL, control);
	loading = enter(guest_nothing);
	vmcs_clear_control(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
	not_loading = enter(guest_nothing);
	wrmsr(IA32_RTIT_CTL, 0);
	EXPECT(loading, OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	EXPECT(not_loading, GUEST_DONE);
	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
	/* The exit has saved what was on. */
	vmwrite(GUEST_IA32_RTIT_CTL, 0);
	EXPECT(enter(guest_nothing), GUEST_DONE);
}
