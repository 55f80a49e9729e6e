/*
 * Instructions that do not exit but behave otherwise in a guest (28.3 Changes to Instruction
 * Behavior in VMX Non-Root Operation), exits that depend on more than one instruction or
 * MSR (28.1.3 Instructions That Cause VM Exits Conditionally: PAUSE loops, lists of MSRs), and
 * faults that come before or behind an exit (28.1.1 Relative Priority of Faults and VM Exits;
 * 28.4.2 Treatment of Task Switches).
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/user.h"
#include "ept/ept.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define BITMAPS		PROC1(USE_MSR_BITMAPS)

GUEST_INSTRUCTION(rdtsc, "", "rdtsc");
GUEST_INSTRUCTION(rdmsr, "movl guest_value, %ecx", "rdmsr");
GUEST_INSTRUCTION(wrmsr, "movl guest_value, %ecx; movl guest_value2, %eax; "
			 "movl guest_value2 + 4, %edx", "wrmsr");

static u64 edx_eax(void)
{
	return guest_regs()->rdx << 32 | (u32)guest_regs()->rax;
}

static outcome_t read_msr(u32 msr)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guest_value = msr;
	EXPECT(enter(guest_rdmsr.run), GUEST_DONE);
	return guest_outcome();
}

static outcome_t write_msr(u32 msr, u64 value)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guest_value = msr;
	guest_value2 = value;
	EXPECT(enter(guest_wrmsr.run), GUEST_DONE);
	return guest_outcome();
}

/* --- the time-stamp counter --------------------------------------------------------------- */

/* Bits 111:48 of the product. */
static u64 scaled(u64 tsc, u64 multiplier)
{
	return (unsigned __int128)tsc * multiplier >> 48;
}

struct scaling {
	u64 multiplier, offset;
	bool offsetting;
};

static void check_scaling(const struct case_def *this_case)
{
	const struct scaling *row = this_case->row;
	u64 multiplier = row->offsetting ? row->multiplier : 1ull << 48;
	u64 offset = row->offsetting ? row->offset : 0, before;

	if (row->offsetting)
		vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmcs_set_control(CONTROL_PROC2_USE_TSC_SCALING);
	vmwrite(TSC_OFFSET, row->offset);
	vmwrite(TSC_MULTIPLIER, row->multiplier);
	before = scaled(rdtsc(), multiplier) + offset;
	EXPECT(enter(guest_rdtsc.run), GUEST_DONE);
	EXPECT_TRUE(edx_eax() >= before);
	EXPECT_TRUE(edx_eax() <= scaled(rdtsc(), multiplier) + offset);
	/* RDMSR of IA32_TIME_STAMP_COUNTER reads the same clock. */
	before = scaled(rdtsc(), multiplier) + offset;
	EXPECT(read_msr(0x10), OUTCOME_DONE);
	EXPECT_TRUE(edx_eax() >= before);
	EXPECT_TRUE(edx_eax() <= scaled(rdtsc(), multiplier) + offset);
}

#define SCALING(name, fact, ...)						\
	CASE_RUN(name, check_scaling, PROVES("nonroot-behavior:" fact),	\
		 NEEDS(VMX, PROC1(USE_TSC_OFFSETTING), PROC2(USE_TSC_SCALING), BITMAPS), \
		 ROW((&(const struct scaling){ __VA_ARGS__ })))
SCALING(tsc_by_3, "rdtsc.scale", 3ull << 48, 0, true);
SCALING(tsc_by_a_half, "rdtsc.scale", 1ull << 47, 0, true);
SCALING(tsc_by_5_quarters_and_an_offset, "rdtsc.scale", 5ull << 46, 0x123456789abc, true);
SCALING(scaling_without_offsetting, "rdtsc.scale_only", 3ull << 48, 0x123456789abc, false);

/* 13.5.4.1 TSC-Deadline Mode; masked, so that nothing comes. */
#define LVT_TSC_DEADLINE	(2u << 17)

/* The deadline is one of the real counter. */
CASE(tsc_deadline_is_not_offset, PROVES("nonroot-behavior:rdmsr.tsc_deadline"),
     NEEDS(VMX, BITMAPS, APIC, CPU(TSC_DEADLINE), PROC1(USE_TSC_OFFSETTING)))
{
	u64 deadline = rdtsc() + BIT(50);

	apic_write(APIC_LVT_TIMER, LVT_TSC_DEADLINE | APIC_LVT_MASKED | 0x51);
	wrmsr(IA32_TSC_DEADLINE, deadline);
	REQUIRE_EQ(rdmsr(IA32_TSC_DEADLINE), deadline);
	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmwrite(TSC_OFFSET, 0x123456789abc);
	EXPECT(read_msr(IA32_TSC_DEADLINE), OUTCOME_DONE);
	EXPECT_EQ(edx_eax(), deadline);
	wrmsr(IA32_TSC_DEADLINE, 0);
}

/* --- MSRs --------------------------------------------------------------------------------- */

#define VIRTUAL_SPEC_CTRL	PROC3(VIRTUALIZE_IA32_SPEC_CTRL), BITMAPS
#define SPEC_CTRL		0x48
#define SPEC_CTRL_IBRS		BIT(0)
#define SPEC_CTRL_STIBP		BIT(1)

CASE(spec_ctrl_reads_the_shadow, PROVES("nonroot-behavior:rdmsr.spec_ctrl"),
     NEEDS(VMX, VIRTUAL_SPEC_CTRL))
{
	vmcs_set_control(CONTROL_PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
	vmwrite(IA32_SPEC_CTRL_MASK, 0);
	vmwrite(IA32_SPEC_CTRL_SHADOW, 0x123456789abcdef0);
	EXPECT(read_msr(SPEC_CTRL), OUTCOME_DONE);
	EXPECT_EQ(edx_eax(), 0x123456789abcdef0);
}

/* Bits of the mask stay as they are in the MSR; the shadow has what was written. */
CASE(spec_ctrl_keeps_masked_bits, PROVES("nonroot-behavior:wrmsr.spec_ctrl"),
     NEEDS(VMX, VIRTUAL_SPEC_CTRL))
{
	audit_off(EXIT_RULE_host_spec_ctrl_kept);
	wrmsr(SPEC_CTRL, SPEC_CTRL_IBRS);
	vmcs_set_control(CONTROL_PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
	vmwrite(IA32_SPEC_CTRL_MASK, SPEC_CTRL_IBRS);
	vmwrite(IA32_SPEC_CTRL_SHADOW, 0);
	EXPECT(write_msr(SPEC_CTRL, SPEC_CTRL_STIBP), OUTCOME_DONE);
	EXPECT_EQ(vmread(IA32_SPEC_CTRL_SHADOW), SPEC_CTRL_STIBP);
	EXPECT_EQ(rdmsr(SPEC_CTRL), SPEC_CTRL_IBRS | SPEC_CTRL_STIBP);
	wrmsr(SPEC_CTRL, 0);
}

/* IA32_BIOS_UPDT_TRIG: nothing is loaded, not even from where nothing is. */
CASE(microcode_is_not_loaded, PROVES("nonroot-behavior:wrmsr.ucode"), NEEDS(VMX, BITMAPS))
{
	EXPECT(write_msr(0x79, UNMAPPED_ADDRESS), OUTCOME_DONE);
}

static bool need_no_pt(u64 unused __maybe_unused)
{
	return vmx_supported() && !(capabilities()->misc & BIT(14));
}

/* IA32_RTIT_CTL, whether or not the processor has it outside VMX operation. */
CASE(no_tracing_in_vmx_operation, PROVES("nonroot-behavior:wrmsr.rtit"),
     NEEDS(VMX, BITMAPS, { "IA32_VMX_MISC bit 14 clear", need_no_pt, 0, 0 }))
{
	EXPECT(write_msr(0x570, 0), OUTCOME_GP0);
}

/* --- lists of MSRs ------------------------------------------------------------------------ */

#define MSR_LISTS	PROC3(ENABLE_MSR_LIST_INSTRUCTIONS)

/* RSI: the indices, RDI: the values, RCX: which of the 64. */
GUEST_CODE(rdmsrlist, "", ".byte 0xf2, 0x0f, 0x01, 0xc6");
GUEST_CODE(wrmsrlist, "", ".byte 0xf3, 0x0f, 0x01, 0xc6");

static const u64 list_indices[64] __attribute__((aligned(64))) = {
	IA32_STAR, IA32_LSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE,
};
static u64 list_values[64] __attribute__((aligned(64)));

static outcome_t enter_with_list(const struct guest_code *code)
{
	vmcs_set_control(CONTROL_PROC3_ENABLE_MSR_LIST_INSTRUCTIONS);
	guest_regs()->rsi = (u64)list_indices;
	guest_regs()->rdi = (u64)list_values;
	guest_regs()->rcx = 0xf;
	return enter_at_instruction(code);
}

CASE(msr_lists_are_ud_without_the_control, PROVES("nonroot-behavior:msrlist.ud"),
     NEEDS(VMX, MSR_LISTS))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_UD));
	EXPECT(enter_at_instruction(&guest_rdmsrlist), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_UD);
	EXPECT(enter_at_instruction(&guest_wrmsrlist), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_UD);
}

static void check_list_without_bitmap(const struct guest_code *code, enum exit_reason reason)
{
	vmcs_clear_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	EXPECT(enter_with_list(code), OUTCOME_EXIT(reason));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code->at);
	EXPECT_EQ(guest_regs()->rcx, 0xf);
}

CASE(rdmsrlist_without_a_bitmap, PROVES("nonroot-behavior:msrlist.nobitmap", "exit-reasons:78"),
     NEEDS(VMX, MSR_LISTS))
{
	check_list_without_bitmap(&guest_rdmsrlist, EXIT_RDMSRLIST);
}

CASE(wrmsrlist_without_a_bitmap, PROVES("nonroot-behavior:msrlist.nobitmap", "exit-reasons:79"),
     NEEDS(VMX, MSR_LISTS))
{
	check_list_without_bitmap(&guest_wrmsrlist, EXIT_WRMSRLIST);
}

/* The MSRs before that one are done, and their bits of RCX are 0. */
CASE(rdmsrlist_stops_at_the_bitmap, PROVES("nonroot-behavior:msrlist.bitmap", "exit-reasons:78",
     "exit-qualifications:msrlist.msr_index"), NEEDS(VMX, MSR_LISTS, BITMAPS))
{
	wrmsr(IA32_STAR, 0x1111);
	wrmsr(IA32_LSTAR, 0x2222);
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	intercept_msr(IA32_FMASK, MSR_READ, true);
	EXPECT(enter_with_list(&guest_rdmsrlist), OUTCOME_EXIT(EXIT_RDMSRLIST));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), IA32_FMASK);
	EXPECT_EQ(guest_regs()->rcx, 0xc);
	EXPECT_EQ(list_values[0], 0x1111);
	EXPECT_EQ(list_values[1], 0x2222);
}

CASE(wrmsrlist_stops_at_the_bitmap, PROVES("nonroot-behavior:msrlist.bitmap",
     "nonroot-behavior:msrlist.data", "exit-reasons:79", "exit-qualifications:msrlist.msr_index"),
     NEEDS(VMX, MSR_LISTS, BITMAPS))
{
	list_values[0] = 0x3333;
	list_values[1] = 0x4444;
	list_values[2] = 0x200;
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	intercept_msr(IA32_FMASK, MSR_WRITE, true);
	EXPECT(enter_with_list(&guest_wrmsrlist), OUTCOME_EXIT(EXIT_WRMSRLIST));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), IA32_FMASK);
	EXPECT_EQ(vmread(MSR_DATA), 0x200);
	EXPECT_EQ(guest_regs()->rcx, 0xc);
	EXPECT_EQ(rdmsr(IA32_STAR), 0x3333);
	EXPECT_EQ(rdmsr(IA32_LSTAR), 0x4444);
}

/* --- PAUSE loops -------------------------------------------------------------------------- */

#define PLE	PROC2(PAUSE_LOOP_EXITING)

/* RCX times. */
GUEST_CODE(pause_loop, "", "1: pause; decq %rcx; jnz 1b");

static void set_pause_loop_exiting(u32 gap, u32 window)
{
	vmcs_clear_control(CONTROL_PROC1_PAUSE_EXITING);
	vmcs_set_control(CONTROL_PROC2_PAUSE_LOOP_EXITING);
	vmwrite(PLE_GAP, gap);
	vmwrite(PLE_WINDOW, window);
	guest_regs()->rcx = 10000;
}

CASE(pause_loop_exits, PROVES("nonroot-behavior:pause.loop"), NEEDS(VMX, PLE))
{
	set_pause_loop_exiting(0xffffffff, 100);
	EXPECT(enter_at_instruction(&guest_pause_loop), OUTCOME_EXIT(EXIT_PAUSE));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_pause_loop.at);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
}

CASE(pause_loop_within_the_window, PROVES("nonroot-behavior:pause.loop"), NEEDS(VMX, PLE))
{
	set_pause_loop_exiting(0xffffffff, 0xffffffff);
	EXPECT(enter_at_instruction(&guest_pause_loop), GUEST_DONE);
}

CASE(pause_loop_at_cpl_3, PROVES("nonroot-behavior:pause.loop_cpl3"), NEEDS(VMX, PLE))
{
	set_pause_loop_exiting(0xffffffff, 100);
	guest_to_user_mode();
	EXPECT(enter_at_instruction(&guest_pause_loop), GUEST_DONE);
}

/* --- faults and exits --------------------------------------------------------------------- */

/* FS is null in compatibility mode: whoever uses it faults. */
CODE32(outs_by_null_segment, "movl $0x80, %edx\n\txorl %esi, %esi\n\toutsb %fs:(%esi), %dx");

static outcome_t outs_outcome;

static void guest_outs(void)
{
	outs_outcome = run_in_compatibility_mode(0, outs_by_null_segment, 0);
}

CASE(outs_exits_before_its_segment_faults, PROVES("nonroot-behavior:prio.ins_outs"),
     NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)))
{
	audit_guest_changes_segments();
	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	EXPECT(enter(guest_outs), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
}

#define UNRESTRICTED	EPT, PROC2(UNRESTRICTED_GUEST)

GUEST_INSTRUCTION(mov_to_cr0, "movq %cr0, %rax; andq $~1, %rax", "movq %rax, %cr0");

CASE(cr0_with_pg_without_pe, PROVES("nonroot-behavior:mov_to_cr0.pg_pe"), NEEDS(VMX, UNRESTRICTED))
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	EXPECT(enter(guest_mov_to_cr0.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

/* Protected mode without paging and without PAE, but IA32_EFER.LME = 1. */
CODE32(guest_activates_paging,
       "movl %cr0, %eax\n\torl $0x80000000, %eax\n\tmovl %eax, %cr0\n\tvmcall");

CASE(cr0_with_pg_and_lme_without_pae, PROVES("nonroot-behavior:mov_to_cr0.pg_pe"),
     NEEDS(VMX, UNRESTRICTED, ENTRY_CTL(LOAD_IA32_EFER)))
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
	vmwrite(GUEST_IA32_EFER, (vmread(GUEST_IA32_EFER) | EFER_LME) & ~EFER_LMA);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_RIP, (u64)guest_activates_paging);
	EXPECT(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP);
	EXPECT_EQ(vmread(GUEST_CR0) & CR0_PG, 0);
}

/* --- task switches that IA-32e mode does not have ----------------------------------------- */

GUEST_INSTRUCTION(iret_with_nt, "movq %rsp, %rbx; movl %ss, %eax; pushq %rax; pushq %rbx; pushfq; "
				"movl %cs, %eax; pushq %rax; pushq $guest_end_iret_with_nt; "
				"pushfq; orl $0x4000, (%rsp); popfq", "iretq");
GUEST_INSTRUCTION(call_of_a_tss, "movl $0x68, guest_value + 4", "lcall *guest_value");

CASE(iret_with_nt_in_ia32e_mode, PROVES("nonroot-behavior:task_switch.ia32e"), NEEDS(VMX))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	EXPECT(enter(guest_iret_with_nt.run), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), 0);
}

CASE(call_of_a_tss_in_ia32e_mode, PROVES("nonroot-behavior:task_switch.ia32e"), NEEDS(VMX))
{
	/* An available 64-bit TSS: no code, and no gate. */
	cpu_set_descriptor(SELECTOR_SPARE, 0x0000890000000067);
	cpu_set_descriptor(SELECTOR_SPARE + 8, 0);
	guest_value = 0;
	EXPECT(enter(guest_call_of_a_tss.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_GP, SELECTOR_SPARE));
}
