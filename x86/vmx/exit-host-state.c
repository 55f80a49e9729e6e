/*
 * What a VM exit loads: 30.5 Loading Host State.
 *
 * The guest does nothing but exit. Before, each case gives one register a value in the host-state
 * area that it does not have in the host, and often a third one in the guest-state area; after the
 * exit the register must have the first. What of a segment register no field holds is in
 * vmx/exit-host-segments.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/control_rules.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");

static void leave_guest(void)
{
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
}

/* --- registers with a field: 30.5.1, 30.5.2 -------------------------------------------------- */

struct loaded {
	u32 host_field;
	u64 host_value;
	u32 guest_field;	/* 0: none */
	u64 guest_value;
	u64 (*read)(void);
	u64 want;
	enum control load;	/* of the exit; CONTROL_NONE */
	enum control guest_load;
};

static void loads(const struct case_def *this_case)
{
	const struct loaded *row = this_case->row;
	u64 before = row->read();

	/* A control can load more than one register. */
	vmcs_fill_fields_of_controls();
	if (row->load != CONTROL_NONE)
		vmcs_set_control(row->load);
	if (row->guest_load != CONTROL_NONE)
		vmcs_set_control(row->guest_load);
	if (row->guest_field)
		vmwrite(row->guest_field, row->guest_value);
	vmwrite(row->host_field, row->host_value);
	EXPECT_TRUE(before != row->want);
	leave_guest();
	EXPECT_EQ(row->read(), row->want);
}

#define NEGATIVE	0xffff800000123450ull	/* canonical, with 48 bits */
/* An MSR that a control loads is there. */
static u64 read_msr(u32 msr)
{
	u64 value = 0;

	REQUIRE(rdmsr_safe(msr, &value), OUTCOME_DONE);
	return value;
}

#define READ_MSR(name)	static u64 read_##name(void) { return read_msr(name); }
READ_MSR(IA32_SYSENTER_CS)
READ_MSR(IA32_SYSENTER_ESP)
READ_MSR(IA32_SYSENTER_EIP)
READ_MSR(IA32_FS_BASE)
READ_MSR(IA32_GS_BASE)
READ_MSR(IA32_PAT)
READ_MSR(IA32_PERF_GLOBAL_CTRL)
READ_MSR(IA32_S_CET)
READ_MSR(IA32_INTERRUPT_SSP_TABLE_ADDR)
READ_MSR(IA32_PKRS)
READ_MSR(IA32_SPEC_CTRL)
READ_MSR(IA32_FRED_CONFIG)
READ_MSR(IA32_FRED_RSP1)
READ_MSR(IA32_FRED_RSP2)
READ_MSR(IA32_FRED_RSP3)
READ_MSR(IA32_FRED_STKLVLS)
READ_MSR(IA32_FRED_SSP1)
READ_MSR(IA32_FRED_SSP2)
READ_MSR(IA32_FRED_SSP3)
READ_MSR(IA32_BNDCFGS)
READ_MSR(IA32_RTIT_CTL)
READ_MSR(IA32_LBR_CTL)

/* Only with shadow stacks on can SSP be read: for one instruction, neither CALL nor RET. */
static u64 read_ssp(void)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4(), ssp;

	/* CR4.CET needs it. */
	write_cr0(cr0 | CR0_WP);
	wrmsr(IA32_S_CET, BIT(0));
	asm volatile("movq %2, %%cr4; rdsspq %0; movq %1, %%cr4"
		     : "=&r" (ssp) : "r" (cr4), "r" (cr4 | CR4_CET) : "memory");
	wrmsr(IA32_S_CET, 0);
	write_cr0(cr0);
	return ssp;
}

#define LOADS(name, fact, needs, ...)							\
	static const struct loaded row_##name = { __VA_ARGS__ };			\
	CASE_RUN(name, loads, PROVES("host-and-exit:" fact), NEEDS needs, ROW(&row_##name))
#define NO_CONTROLS	CONTROL_NONE, CONTROL_NONE
#define WITH(name)	CONTROL_EXIT_##name, CONTROL_ENTRY_##name

LOADS(sysenter_cs, "host.sysenter", (VMX), HOST_IA32_SYSENTER_CS, 0xcdef,
      GUEST_IA32_SYSENTER_CS, 0x1234, read_IA32_SYSENTER_CS, 0xcdef, NO_CONTROLS);
LOADS(sysenter_esp, "host.sysenter", (VMX), HOST_IA32_SYSENTER_ESP, NEGATIVE,
      GUEST_IA32_SYSENTER_ESP, 0x1234, read_IA32_SYSENTER_ESP, NEGATIVE, NO_CONTROLS);
LOADS(sysenter_eip, "host.sysenter", (VMX), HOST_IA32_SYSENTER_EIP, NEGATIVE,
      GUEST_IA32_SYSENTER_EIP, 0x1234, read_IA32_SYSENTER_EIP, NEGATIVE, NO_CONTROLS);
LOADS(fs_base, "host.fs_gs_base", (VMX), HOST_FS_BASE, 0x7fff12345678,
      GUEST_FS_BASE, 0x1234, read_IA32_FS_BASE, 0x7fff12345678, NO_CONTROLS);
LOADS(fs_base_is_sign_extended, "host.base_sign", (VMX), HOST_FS_BASE, NEGATIVE,
      GUEST_FS_BASE, 0x1234, read_IA32_FS_BASE, NEGATIVE, NO_CONTROLS);
LOADS(gs_base, "host.fs_gs_msr", (VMX), HOST_GS_BASE, NEGATIVE,
      GUEST_GS_BASE, 0x1234, read_IA32_GS_BASE, NEGATIVE, NO_CONTROLS);
/* All eight types other than after reset, all of them good for memory that is used. */
LOADS(pat, "host.pat", (VMX, EXIT_CTL(LOAD_IA32_PAT), ENTRY_CTL(LOAD_IA32_PAT)),
      HOST_IA32_PAT, 0x0106050606040006, GUEST_IA32_PAT, 0x0606060606060606, read_IA32_PAT,
      0x0106050606040006, WITH(LOAD_IA32_PAT));
LOADS(perf_global_ctrl, "host.perf", (VMX, EXIT_CTL(LOAD_IA32_PERF_GLOBAL_CTRL),
      ENTRY_CTL(LOAD_IA32_PERF_GLOBAL_CTRL)), HOST_IA32_PERF_GLOBAL_CTRL, 1,
      GUEST_IA32_PERF_GLOBAL_CTRL, 2, read_IA32_PERF_GLOBAL_CTRL, 1,
      WITH(LOAD_IA32_PERF_GLOBAL_CTRL));
LOADS(s_cet, "host.cet", (VMX, CPU(CET_SS), EXIT_CTL(LOAD_CET_STATE), ENTRY_CTL(LOAD_CET_STATE)),
      HOST_IA32_S_CET, 2, GUEST_IA32_S_CET, 3, read_IA32_S_CET, 2, WITH(LOAD_CET_STATE));
LOADS(interrupt_ssp_table, "host.cet", (VMX, CPU(CET_SS), EXIT_CTL(LOAD_CET_STATE),
      ENTRY_CTL(LOAD_CET_STATE)), HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, NEGATIVE,
      GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0x1000, read_IA32_INTERRUPT_SSP_TABLE_ADDR, NEGATIVE,
      WITH(LOAD_CET_STATE));
LOADS(ssp, "host.cet", (VMX, CPU(CET_SS), EXIT_CTL(LOAD_CET_STATE), ENTRY_CTL(LOAD_CET_STATE)),
      HOST_SSP, 0x7fff12345678, GUEST_SSP, 0x1234, read_ssp, 0x7fff12345678, WITH(LOAD_CET_STATE));
LOADS(pkrs, "host.pkrs", (VMX, CPU(PKS), EXIT_CTL(LOAD_PKRS), ENTRY_CTL(LOAD_PKRS)),
      HOST_IA32_PKRS, 0x40000000, GUEST_IA32_PKRS, 0x80000000, read_IA32_PKRS, 0x40000000,
      WITH(LOAD_PKRS));
LOADS(spec_ctrl, "host.spec_ctrl", (VMX, CPU(IBRS), CPU(STIBP),
      EXIT2_CTL(LOAD_IA32_SPEC_CTRL), ENTRY_CTL(LOAD_IA32_SPEC_CTRL)),
      HOST_IA32_SPEC_CTRL, 1, GUEST_IA32_SPEC_CTRL, 2, read_IA32_SPEC_CTRL, 1,
      CONTROL_EXIT2_LOAD_IA32_SPEC_CTRL, CONTROL_ENTRY_LOAD_IA32_SPEC_CTRL);
#define FRED_MSR(name, MSR, value, guest_value)						\
	LOADS(fred_##name, "host.fred", (VMX, EXIT2_CTL(LOAD_FRED), ENTRY_CTL(LOAD_FRED)),	\
	      HOST_##MSR, value, GUEST_##MSR, guest_value, read_##MSR, value,		\
	      CONTROL_EXIT2_LOAD_FRED, CONTROL_ENTRY_LOAD_FRED)
FRED_MSR(config, IA32_FRED_CONFIG, 0x12000, 0x56000);
FRED_MSR(rsp1, IA32_FRED_RSP1, 0x12340, 0x56780);
FRED_MSR(rsp2, IA32_FRED_RSP2, 0x12340, 0x56780);
FRED_MSR(rsp3, IA32_FRED_RSP3, 0x12340, 0x56780);
FRED_MSR(stklvls, IA32_FRED_STKLVLS, 0x123456789abcdef, 0x56780);
FRED_MSR(ssp1, IA32_FRED_SSP1, 0x12340, 0x56780);
FRED_MSR(ssp2, IA32_FRED_SSP2, 0x12340, 0x56780);
FRED_MSR(ssp3, IA32_FRED_SSP3, 0x12340, 0x56780);

/* MSRs that a control clears; the guest has 1 in the lowest bit. */
static void clears(const struct case_def *this_case)
{
	const struct loaded *row = this_case->row;

	vmcs_set_control(row->load);
	vmcs_set_control(row->guest_load);
	vmwrite(row->guest_field, row->guest_value);
	leave_guest();
	EXPECT_EQ(row->read(), 0);
	EXPECT_EQ(vmread(row->guest_field), row->guest_value);
}

#define CLEARS(name, fact, needs, ...)							\
	static const struct loaded row_##name = { 0, 0, __VA_ARGS__ };			\
	CASE_RUN(name, clears, PROVES("host-and-exit:" fact), NEEDS needs, ROW(&row_##name))
CLEARS(bndcfgs, "host.bndcfgs", (VMX, EXIT_CTL(CLEAR_IA32_BNDCFGS), ENTRY_CTL(LOAD_IA32_BNDCFGS)),
       GUEST_IA32_BNDCFGS, 1, read_IA32_BNDCFGS, 0, CONTROL_EXIT_CLEAR_IA32_BNDCFGS,
       CONTROL_ENTRY_LOAD_IA32_BNDCFGS);
CLEARS(rtit_ctl, "host.rtit", (VMX, EXIT_CTL(CLEAR_IA32_RTIT_CTL), ENTRY_CTL(LOAD_IA32_RTIT_CTL)),
       GUEST_IA32_RTIT_CTL, BIT(2), read_IA32_RTIT_CTL, 0, CONTROL_EXIT_CLEAR_IA32_RTIT_CTL,
       CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
CLEARS(lbr_ctl, "host.lbr", (VMX, EXIT_CTL(CLEAR_IA32_LBR_CTL), ENTRY_CTL(LOAD_GUEST_IA32_LBR_CTL)),
       GUEST_IA32_LBR_CTL, 1, read_IA32_LBR_CTL, 0, CONTROL_EXIT_CLEAR_IA32_LBR_CTL,
       CONTROL_ENTRY_LOAD_GUEST_IA32_LBR_CTL);

/* --- 30.5.1 Loading Host Control Registers, Debug Registers, MSRs ----------------------------- */

#define CR0_KEPT	(CR0_ET | CR0_NW | CR0_CD | BITS(15, 6) | BIT(17) | BITS(28, 19))

/* All bits that are kept are 1 in the field, TS and AM are loaded. */
CASE(cr0, PROVES("host-and-exit:host.cr0"), NEEDS(VMX))
{
	u64 before = read_cr0(), changed = CR0_TS | CR0_AM;
	u64 kept = CR0_KEPT & capabilities()->cr0_fixed1;

	vmwrite(HOST_CR0, (before ^ changed) | kept);
	leave_guest();
	EXPECT_EQ(read_cr0(), before ^ changed);
	write_cr0(before);
	vmwrite(HOST_CR0, (before ^ changed) & ~(CR0_ET | CR0_NW | CR0_CD));
	leave_guest();
	EXPECT_EQ(read_cr0(), before ^ changed);
}

CASE(cr3, PROVES("host-and-exit:host.cr3"), NEEDS(VMX))
{
	u64 *copy = page_alloc_copy((void *)(read_cr3() & PAGE_MASK));

	vmwrite(HOST_CR3, physical(copy));
	leave_guest();
	EXPECT_EQ(read_cr3(), physical(copy));
}

CASE(cr4, PROVES("host-and-exit:host.cr4"), NEEDS(VMX))
{
	u64 before = read_cr4();

	vmwrite(HOST_CR4, before ^ (CR4_TSD | CR4_DE));
	leave_guest();
	EXPECT_EQ(read_cr4(), before ^ (CR4_TSD | CR4_DE));
}

/* A 32-bit guest without PAE, in a page directory that maps the first 4 GBytes. */
static void make_32_bit_guest(void)
{
	u32 *directory = page_alloc();
	u32 i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | 0x83;
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~CR4_PAE) | CR4_PSE);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
}

/* 28.1.2: CPUID is the same bytes there. */
CASE(cr4_pae_comes_back, PROVES("host-and-exit:host.cr4.pae", "host-and-exit:host.efer"),
     NEEDS(VMX))
{
	make_32_bit_guest();
	leave_guest();
	EXPECT_EQ(read_cr4() & CR4_PAE, CR4_PAE);
	EXPECT_EQ(rdmsr(IA32_EFER) & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
}

CASE(efer_mode_without_load_control, PROVES("host-and-exit:host.efer"), NEEDS(VMX))
{
	vmcs_clear_control(CONTROL_EXIT_LOAD_IA32_EFER);
	make_32_bit_guest();
	leave_guest();
	EXPECT_EQ(rdmsr(IA32_EFER) & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
}

CASE(efer_by_load_control, PROVES("host-and-exit:host.efer.load"),
     NEEDS(VMX, EXIT_CTL(LOAD_IA32_EFER), ENTRY_CTL(LOAD_IA32_EFER)))
{
	u64 before = rdmsr(IA32_EFER);

	vmwrite(HOST_IA32_EFER, before ^ EFER_SCE);
	vmwrite(GUEST_IA32_EFER, before);
	leave_guest();
	EXPECT_EQ(rdmsr(IA32_EFER), before ^ EFER_SCE);
}

CASE(pat_of_the_guest_stays, PROVES("host-and-exit:host.optional_keep"),
     NEEDS(VMX, ENTRY_CTL(LOAD_IA32_PAT)))
{
	vmcs_clear_control(CONTROL_EXIT_LOAD_IA32_PAT);
	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_PAT);
	vmwrite(GUEST_IA32_PAT, 0x0006010504000606);
	leave_guest();
	EXPECT_EQ(rdmsr(IA32_PAT), 0x0006010504000606);
}

CASE(efer_of_the_guest_stays, PROVES("host-and-exit:host.optional_keep"),
     NEEDS(VMX, ENTRY_CTL(LOAD_IA32_EFER)))
{
	u64 before = rdmsr(IA32_EFER);

	vmcs_clear_control(CONTROL_EXIT_LOAD_IA32_EFER);
	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_EFER);
	vmwrite(GUEST_IA32_EFER, before ^ EFER_SCE);
	leave_guest();
	EXPECT_EQ(rdmsr(IA32_EFER), before ^ EFER_SCE);
}

CASE(dr7, PROVES("host-and-exit:host.dr7"), NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | 0x355);
	write_dr7(DR7_FIXED | BIT(8));
	leave_guest();
	EXPECT_EQ(read_dr7(), DR7_FIXED);
}

CASE(debugctl, PROVES("host-and-exit:host.debugctl"), NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	u64 value;

	if (rdmsr_safe(IA32_DEBUGCTL, &value) != OUTCOME_DONE)
		case_skip("IA32_DEBUGCTL");
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_BTF);
	leave_guest();
	EXPECT_EQ(rdmsr(IA32_DEBUGCTL), 0);
}

/* --- 30.5.3 Loading Host RIP, RSP, RFLAGS, and SSP -------------------------------------------- */

/* 29.2 and 30.5 say nothing of the value: what an exit loads is what the field holds. */
CASE(rsp, PROVES("host-and-exit:host.rip_rsp"), NEEDS(VMX))
{
	static const u64 values[] = {
		0, 1, BITS(31, 0), BITS(46, 0), BIT(47), BITS(47, 0), BIT(56), BIT(63),
		~BITS(46, 0), ~BITS(47, 0), ~0ull,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		vmx_keep_host_rsp(true);
		vmwrite(HOST_RSP, values[i]);
		leave_guest();
		EXPECT_EQ(this_vmx()->state.host_rsp, values[i]);
	}
	vmx_keep_host_rsp(false);
}

CASE(rflags, PROVES("host-and-exit:host.rflags"), NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_STATUS | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL |
		RFLAGS_NT | RFLAGS_RF | RFLAGS_AC | RFLAGS_ID);
	leave_guest();
	EXPECT_EQ(this_vmx()->state.host_rflags, RFLAGS_FIXED);
}

/* --- 30.5.5 Updating Non-Register State ------------------------------------------------------- */

/*
 * VMLAUNCH is the first instruction after the exit: with
 * blocking by MOV SS it fails with error 26, not 4.
 */
void host_rip_with_vmlaunch(void);
asm(".text\nhost_rip_with_vmlaunch:\n\tvmlaunch\n\tjmp vmx_exit\n");

static void expect_no_blocking(u64 blocking)
{
	audit_off(EXIT_RULE_host_rflags);
	audit_off(EXIT_RULE_instruction_error);
	vmwrite(HOST_RIP, (u64)host_rip_with_vmlaunch);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	leave_guest();
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), blocking);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMLAUNCH_NON_CLEAR_VMCS);
}

CASE(no_blocking_by_mov_ss, PROVES("host-and-exit:host.blocking"), NEEDS(VMX))
{
	expect_no_blocking(BLOCKING_BY_MOV_SS);
}

CASE(no_blocking_by_sti, PROVES("host-and-exit:host.blocking"), NEEDS(VMX))
{
	expect_no_blocking(BLOCKING_BY_STI);
}

static u32 debug_exceptions;

static void count_debug_exception(struct trap_frame *frame)
{
	(void)frame;
	debug_exceptions++;
}

/* They stay with the guest, which blocks them by MOV SS when it exits. */
CASE(no_pending_debug_exceptions, PROVES("host-and-exit:host.pdbg"), NEEDS(VMX))
{
	debug_exceptions = 0;
	trap_on(VECTOR_DB, count_debug_exception);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
	leave_guest();
	EXPECT_EQ(debug_exceptions, 0);
}

/* A guest in the shutdown state; the host is active, or nothing of this would be executed. */
CASE(host_is_active, PROVES("host-and-exit:host.activity"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER),
	   { "activity state shutdown", need_misc, BIT(7), 0 }))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_SHUTDOWN);
}

/* --- 30.5.6 Clearing Address-Range Monitoring; what is not loaded ----------------------------- */

GUEST_CODE(monitor, "", "monitor; cpuid");

static void arm_monitor(void)
{
	guest_regs()->rax = (u64)guest_memory;
	guest_regs()->rcx = guest_regs()->rdx = 0;
}

/* Armed, MWAIT would wait: nothing writes to the page, and no interrupt is on its way. */
CASE(monitor_is_cleared_by_the_exit, PROVES("host-and-exit:host.monitor"), NEEDS(VMX, CPU(MONITOR)))
{
	if (vmcs_has_control(CONTROL_PROC1_MONITOR_EXITING))
		case_skip("the 0-setting of \"MONITOR exiting\"");
	arm_monitor();
	EXPECT(enter_at_instruction(&guest_monitor), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT(ATTEMPT("mwait", : "a" (0), "c" (0)), OUTCOME_DONE);
}

GUEST_CODE(mwait, "", "mwait; cpuid");

CASE(monitor_is_cleared_by_the_entry, PROVES("host-and-exit:entry.load.monitor"),
     NEEDS(VMX, CPU(MONITOR)))
{
	if (vmcs_has_control(CONTROL_PROC1_MWAIT_EXITING))
		case_skip("the 0-setting of \"MWAIT exiting\"");
	asm volatile("monitor" : : "a" (guest_memory), "c" (0), "d" (0));
	guest_regs()->rax = guest_regs()->rcx = 0;
	EXPECT(enter_at_instruction(&guest_mwait), OUTCOME_EXIT(EXIT_CPUID));
}

GUEST_CODE(set_registers, "",
	   "mov %rax, %cr2; mov %rbx, %dr0; mov %rbx, %dr3; mov %rcx, %dr6; cpuid");

CASE(registers_of_the_guest_stay, PROVES("host-and-exit:host.not_loaded"), NEEDS(VMX))
{
	vmcs_clear_control(CONTROL_PROC1_MOV_DR_EXITING);
	if (vmcs_has_control(CONTROL_PROC1_MOV_DR_EXITING))
		case_skip("the 0-setting of \"MOV-DR exiting\"");
	*guest_regs() = (struct general_registers){
		.rax = 0x1111, .rbx = 0x2222, .rcx = DR6_FIXED | 5, .r15 = 0x3333,
	};
	EXPECT(enter_at_instruction(&guest_set_registers), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(read_cr2(), 0x1111);
	EXPECT_EQ(read_dr0(), 0x2222);
	EXPECT_EQ(read_dr3(), 0x2222);
	EXPECT_EQ(read_dr6(), DR6_FIXED | 5);
	EXPECT_EQ(guest_regs()->r15, 0x3333);
}

GUEST_CODE(set_more_registers, "",
	   "mov %rax, %dr1; mov %rbx, %dr2; movq %rcx, %xmm1; movq %rdx, %xmm15; cpuid");

/* Vector registers are not even saved by an exit: what the guest loads, the host finds. */
CASE(more_registers_of_the_guest_stay, PROVES("host-and-exit:host.not_loaded"), NEEDS(VMX))
{
	static const struct general_registers loaded = {
		.rax = 0x1111, .rbx = 0x2222, .rcx = 0x3333, .rdx = 0x4444, .rsi = 0x5555,
		.rdi = 0x6666, .rbp = 0x7777, .r8 = 0x8888, .r9 = 0x9999, .r10 = 0xaaaa,
		.r11 = 0xbbbb, .r12 = 0xcccc, .r13 = 0xdddd, .r14 = 0xeeee, .r15 = 0xffff,
	};
	struct general_registers now;
	u64 xmm1, xmm15;

	vmcs_clear_control(CONTROL_PROC1_MOV_DR_EXITING);
	if (vmcs_has_control(CONTROL_PROC1_MOV_DR_EXITING))
		case_skip("the 0-setting of \"MOV-DR exiting\"");
	write_cr4(read_cr4() | CR4_OSFXSR);
	vmwrite(GUEST_CR4, read_cr4());
	vmwrite(HOST_CR4, read_cr4());
	*guest_regs() = loaded;
	EXPECT(enter_at_instruction(&guest_set_more_registers), OUTCOME_EXIT(EXIT_CPUID));
	asm volatile("movq %%xmm1, %0; movq %%xmm15, %1" : "=r" (xmm1), "=r" (xmm15));
	now = *guest_regs();
	EXPECT_TRUE(!memcmp(&now, &loaded, sizeof(now)));
	EXPECT_EQ(xmm1, 0x3333);
	EXPECT_EQ(xmm15, 0x4444);
	EXPECT_EQ(read_dr1(), 0x1111);
	EXPECT_EQ(read_dr2(), 0x2222);
}
