/*
 * What IA32_VMX_BASIC, IA32_VMX_MISC and the allowed settings promise of VM entries and exits,
 * tried out: A.1 Basic VMX Information, A.2 Reserved Controls and Default Settings, A.6
 * Miscellaneous Data.
 *
 * Most bits say of something that it is supported. Each case does that thing, and expects what the
 * bit says: that it works, or that it is refused. What the MSRs say of one another is the subject
 * of capabilities.
 */
#include "cpu/apic.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "cpu/user.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define BAD_CONTROLS	OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS)
#define BAD_GUEST_STATE	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0)

#define IA32_SMM_MONITOR_CTL	0x9b
#define IA32_RTIT_CTL		0x570

static bool basic(u64 bit)
{
	return capabilities()->basic & bit;
}

static bool misc(u64 bit)
{
	return capabilities()->misc & bit;
}

static bool need_basic(u64 bits)
{
	return vmx_supported() && basic(bits);
}

#define BASIC_HAS(name)		basic(BASIC_CAP_##name)
#define MISC_HAS(name)		misc(MISC_CAP_##name)
#define BASIC(bit, number)	{ "IA32_VMX_BASIC bit " #number, need_basic, bit, 0 }
#define TIMER			PIN(ACTIVATE_VMX_PREEMPTION_TIMER)

static void guest(void)
{
}

/* --- default settings ----------------------------------------------------------------- */

/*
 * The default is 1 for the bits that the first MSR says must be 1, also where the TRUE one lets
 * them be 0, and 0 for all others. Only the two controls of 64-bit mode are not at their default.
 */
CASE(default_settings_are_accepted, PROVES("vmx-capabilities:pin.allowed0",
     "vmx-capabilities:proc1.allowed0", "vmx-capabilities:exit.allowed0",
     "vmx-capabilities:entry.allowed0"), NEEDS(VMX))
{
	vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS, (u32)rdmsr(IA32_VMX_PINBASED_CTLS));
	vmwrite(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, (u32)rdmsr(IA32_VMX_PROCBASED_CTLS));
	vmwrite(PRIMARY_VM_EXIT_CONTROLS, (u32)rdmsr(IA32_VMX_EXIT_CTLS));
	vmwrite(VM_ENTRY_CONTROLS, (u32)rdmsr(IA32_VMX_ENTRY_CTLS));
	vmcs_set_control(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE);
	vmcs_set_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	EXPECT(enter(guest), GUEST_DONE);
}

/* --- IA32_VMX_BASIC ------------------------------------------------------------------- */

/* 34.15.5: IA32_SMM_MONITOR_CTL is for SMM to write. */
CASE(dual_monitor_comes_with_its_msr, PROVES("vmx-capabilities:basic.dual_monitor"),
     NEEDS(VMX, BASIC(BASIC_CAP_DUAL_MONITOR_TREATMENT, 49)))
{
	u64 value = 0;

	EXPECT(rdmsr_safe(IA32_SMM_MONITOR_CTL, &value), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_SMM_MONITOR_CTL, value), OUTCOME_GP0);
}

/* Bit 2 of an MSR that is not there cannot be set. */
CASE(smm_monitor_ctl_needs_dual_monitor, PROVES("vmx-capabilities:misc.smm_monitor_ctl",
     "vmx-capabilities:basic.dual_monitor"), NEEDS(VMX))
{
	EXPECT_TRUE(!MISC_HAS(BLOCK_SMIS_IN_VMXOFF) || BASIC_HAS(DUAL_MONITOR_TREATMENT));
}

GUEST_CODE(outs_from_fs, "", "fs outsb");
GUEST_CODE(outs_by_esi, "", "outsb (%esi), (%dx)");
GUEST_CODE(ins, "", "insb");

static void expect_io_exit(const struct guest_code *code, u64 information)
{
	guest_regs()->rdx = 0x80;
	guest_regs()->rsi = (u64)guest_memory;
	guest_regs()->rdi = (u64)guest_memory;
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	EXPECT(enter_at_instruction(code), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_INFORMATION(information);
}

/* Table 30-8: the address size, and for OUTS the segment register. */
CASE(ins_and_outs_save_instruction_information,
     PROVES("vmx-capabilities:basic.ins_outs_information"),
     NEEDS(VMX, BASIC(BASIC_CAP_INS_OUTS_INFORMATION, 54)))
{
	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	expect_io_exit(&guest_outs_from_fs,
		       INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_FS));
	expect_io_exit(&guest_outs_by_esi,
		       INFORMATION_ADDRESS_32 | INFORMATION_SEGMENT(SEGMENT_DS));
	expect_io_exit(&guest_ins, INFORMATION_ADDRESS_64);
}

/* The format of 27.8.3: a hardware exception. */
#define EVENT_EXCEPTION(vector)		(BIT(31) | 3u << 8 | (vector))
#define EVENT_SOFTWARE_INTERRUPT(vector) (BIT(31) | 4u << 8 | (vector))
#define EVENT_ERROR_CODE		BIT(11)
#define EVENT_NESTED			BIT(13)

/* No gate is inside the limit of the guest's IDT, so what is delivered ends as a triple fault. */
static outcome_t inject(u32 event)
{
	vmcs_set_defaults();
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(INJECTED_EVENT_ERROR_CODE, 0);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, event);
	return enter(guest);
}

#define DELIVERED	OUTCOME_EXIT(EXIT_TRIPLE_FAULT)

CASE(error_code_for_any_vector, PROVES("vmx-capabilities:basic.error_code_any_vector"), NEEDS(VMX))
{
	outcome_t want = BASIC_HAS(ANY_ERROR_CODE) ? DELIVERED : BAD_CONTROLS;

	EXPECT(inject(EVENT_EXCEPTION(VECTOR_GP) | EVENT_ERROR_CODE), DELIVERED);
	EXPECT(inject(EVENT_EXCEPTION(VECTOR_UD)), DELIVERED);
	EXPECT(inject(EVENT_EXCEPTION(VECTOR_GP)), want);
	EXPECT(inject(EVENT_EXCEPTION(VECTOR_UD) | EVENT_ERROR_CODE), want);
}

CASE(nested_exception, PROVES("vmx-capabilities:basic.nested_exception",
     "field-formats:injected_event.nested"), NEEDS(VMX))
{
	EXPECT(inject(EVENT_EXCEPTION(VECTOR_GP) | EVENT_ERROR_CODE | EVENT_NESTED),
	       BASIC_HAS(NESTED_EXCEPTION) ? DELIVERED : BAD_CONTROLS);
}

/* --- the VMX-preemption timer --------------------------------------------------------- */

static u64 wait, first_seen, last_seen;

static void guest_waits(void)
{
	first_seen = rdtsc();
	do
		last_seen = rdtsc();
	while (last_seen - first_seen < wait);
}

/*
 * The timer counts by 1 whenever the bit of the TSC that IA32_VMX_MISC[4:0] names changes. What it
 * has counted while the guest ran lies between the changes that the guest has seen and those that
 * we have.
 */
CASE(timer_rate, PROVES("vmx-capabilities:misc.timer_rate"),
     NEEDS(VMX, TIMER, EXIT_CTL(SAVE_VMX_PREEMPTION_TIMER_VALUE)))
{
	u32 bit = FIELD(capabilities()->misc, 4, 0);
	u64 before, after, counted;

	wait = 16ull << bit;
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmcs_set_control(CONTROL_EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
	before = rdtsc();
	EXPECT(enter(guest_waits), GUEST_DONE);
	after = rdtsc();
	counted = 0xffffffff - vmread(VMX_PREEMPTION_TIMER_VALUE);
	case_note("ticks", "%lu counted, %lu seen by the guest, %lu by the host", counted,
		  (last_seen >> bit) - (first_seen >> bit), (after >> bit) - (before >> bit));
	EXPECT_TRUE(counted >= (last_seen >> bit) - (first_seen >> bit));
	EXPECT_TRUE(counted <= (after >> bit) - (before >> bit));
}

/* --- activity states ------------------------------------------------------------------ */

/* A timer of 0, if there is one, ends the guest before anything, also when it does not execute. */
static outcome_t enter_in(u64 activity_state)
{
	if (control_allowed(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
		vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	}
	vmwrite(GUEST_ACTIVITY_STATE, activity_state);
	return enter(guest);
}

#define TIMER_EXPIRED	OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED)

CASE(hlt_state, PROVES("vmx-capabilities:misc.hlt",
     "field-formats:activity_state"), NEEDS(VMX, TIMER))
{
	EXPECT(enter_in(ACTIVITY_HLT), MISC_HAS(ACTIVITY_HLT) ? TIMER_EXPIRED : BAD_GUEST_STATE);
}

CASE(shutdown_state, PROVES("vmx-capabilities:misc.shutdown",
     "field-formats:activity_state"), NEEDS(VMX, TIMER))
{
	EXPECT(enter_in(ACTIVITY_SHUTDOWN),
	       MISC_HAS(ACTIVITY_SHUTDOWN) ? TIMER_EXPIRED : BAD_GUEST_STATE);
}

static bool need_wait_for_sipi(u64 unused __maybe_unused)
{
	return vmx_supported() && MISC_HAS(ACTIVITY_WAIT_FOR_SIPI);
}

static bool need_no_wait_for_sipi(u64 unused __maybe_unused)
{
	return vmx_supported() && !MISC_HAS(ACTIVITY_WAIT_FOR_SIPI);
}

/* 28.2: the exit has the vector of the IPI in the exit qualification. */
CASE(wait_for_sipi_state, PROVES("vmx-capabilities:misc.wait_for_sipi", "exit-reasons:4",
     "exit-qualifications:sipi.vector", "exit-qualifications:sipi.reserved",
     "field-formats:activity_state"),
     NEEDS(VMX, CPUS(2), { "IA32_VMX_MISC bit 8", need_wait_for_sipi, 0, 0 }))
{
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI);
	/* Sent over and over: one will find it waiting. */
	smp_begin_startup_ipis(0x9a);
	EXPECT(enter(guest), OUTCOME_EXIT(EXIT_STARTUP_IPI));
	EXPECT(smp_stop_startup_ipis(), OUTCOME_DONE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0x9a);
	/* A processor that has not left the state in full is none for the next case. */
	if (case_failed())
		case_boot_again();
}

CASE(no_wait_for_sipi_state, PROVES("vmx-capabilities:misc.wait_for_sipi"),
     NEEDS(VMX, { "IA32_VMX_MISC bit 8 clear", need_no_wait_for_sipi, 0, 0 }))
{
	EXPECT(enter_in(ACTIVITY_WAIT_FOR_SIPI), BAD_GUEST_STATE);
}

/* --- the rest of IA32_VMX_MISC -------------------------------------------------------- */

/* Protected mode without paging, everything ready for IA-32e mode: it goes there. */
CODE32(guest_activates_ia32e_mode,
       "movl %cr0, %eax\n\torl $0x80000000, %eax\n\tmovl %eax, %cr0\n\tvmcall");

CASE(exits_store_lma, PROVES("vmx-capabilities:misc.store_lma"),
     NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST), ENTRY_CTL(LOAD_IA32_EFER)))
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~EFER_LMA);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_RIP, (u64)guest_activates_ia32e_mode);
	audit_guest_changes(GUEST_CR0);
	audit_guest_changes(GUEST_IA32_EFER);
	EXPECT(resume(), OUTCOME_EXIT(EXIT_VMCALL));
	EXPECT_EQ(vmread(GUEST_CR0) & CR0_PG, CR0_PG);
	EXPECT_EQ(vmcs_has_control(CONTROL_ENTRY_IA_32E_MODE_GUEST), MISC_HAS(STORE_LMA));
}

/* 26.8: without the bit, IA32_RTIT_CTL cannot be written in VMX operation; or it is not there. */
CASE(pt_in_vmx_operation, PROVES("vmx-capabilities:misc.intel_pt"), NEEDS(VMX))
{
	EXPECT(wrmsr_safe(IA32_RTIT_CTL, 0),
	       MISC_HAS(PROCESSOR_TRACE) ? OUTCOME_DONE : OUTCOME_GP0);
}

CASE(cr3_targets, PROVES("vmx-capabilities:misc.cr3_targets"), NEEDS(VMX))
{
	u32 targets = FIELD(capabilities()->misc, 24, 16);

	vmwrite(CR3_TARGET_COUNT, targets);
	EXPECT(enter(guest), GUEST_DONE);
	vmwrite(CR3_TARGET_COUNT, targets + 1);
	EXPECT(enter(guest), BAD_CONTROLS);
	vmwrite(CR3_TARGET_COUNT, 0xffffffff);
	EXPECT(enter(guest), BAD_CONTROLS);
}

struct msr_entry {
	u32 index, reserved;
	u64 value;
};

static struct msr_entry *msr_list(u32 count, u64 value)
{
	struct msr_entry *list = pages_alloc(count * sizeof(*list), PAGE_SIZE);
	u32 i;

	for (i = 0; i < count; i++)
		list[i] = (struct msr_entry){ IA32_KERNEL_GS_BASE, 0, value };
	return list;
}

/* So many MSRs in a list must do; more may be too many. */
CASE(msr_list_size, PROVES("vmx-capabilities:misc.msr_list_size"), NEEDS(VMX))
{
	u32 count = 512 * (FIELD(capabilities()->misc, 27, 25) + 1);
	struct msr_entry *for_guest = msr_list(count, 1), *for_host = msr_list(count, 2);
	struct msr_entry *stored = msr_list(count, 0);

	for_guest[count - 1].value = 0x1234;
	for_host[count - 1].value = 0x5678;
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(for_guest));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, count);
	vmwrite(VM_EXIT_MSR_STORE_ADDRESS, physical(stored));
	vmwrite(VM_EXIT_MSR_STORE_COUNT, count);
	vmwrite(VM_EXIT_MSR_LOAD_ADDRESS, physical(for_host));
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, count);
	EXPECT(enter(guest), GUEST_DONE);
	EXPECT_EQ(stored[0].value, 0x1234);
	EXPECT_EQ(stored[count - 1].value, 0x1234);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 0x5678);
}

static u32 interrupts_taken;

static void count_interrupt(struct trap_frame *frame __maybe_unused)
{
	interrupts_taken++;
}

/* A software interrupt as if by an instruction of no length. */
CASE(injection_with_length_0, PROVES("vmx-capabilities:misc.zero_length_injection"), NEEDS(VMX))
{
	interrupts_taken = 0;
	trap_on(0x20, count_interrupt);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_SOFTWARE_INTERRUPT(0x20));
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 0);
	EXPECT(enter(guest), MISC_HAS(INJECTION_LENGTH_0) ? GUEST_DONE : BAD_CONTROLS);
	EXPECT_EQ(interrupts_taken, MISC_HAS(INJECTION_LENGTH_0));
}

/* --- IA32_VMX_EPT_VPID_CAP ------------------------------------------------------------ */

/* Every type fails or succeeds; only where there is no such instruction, none does. */
CASE(invept_exists_when_reported, PROVES("vmx-capabilities:ept.invept"), NEEDS(VMX))
{
	struct invept_descriptor nothing = { 0, 0 };

	EXPECT_EQ(invept(2, nothing) != OUTCOME_UD, need_ept_vpid_cap(EPT_CAP_INVEPT));
}

CASE(invvpid_exists_when_reported, PROVES("vmx-capabilities:vpid.invvpid"), NEEDS(VMX))
{
	struct invvpid_descriptor nothing = { 0, 0 };

	EXPECT_EQ(invvpid(2, nothing) != OUTCOME_UD, need_ept_vpid_cap(VPID_CAP_INVVPID));
}
