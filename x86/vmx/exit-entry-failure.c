/*
 * VM entries that fail late: 29.8 VM-Entry Failures During or After Loading Guest State.
 *
 * Such a failure ends like a VM exit, in the host state, with bit 31 of the exit reason set. But
 * the guest has not run, and what an exit says and saves of a guest stays as it was. Three entries
 * fail here: one with bad guest state (33), one with a bad VMCS link pointer (33, qualification 4),
 * and one with a bad list of MSRs (34).
 */
#include "cpu/apic.h"
#include "cpu/safe.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");
/* Two bytes: an assembler may put a prefix before a MOV from RBX, and VMLAUNCH has three. */
GUEST_CODE(general_protection, "", "movl %ebx, %ds");
GUEST_CODE(page_fault, "", "movb $0, (%rbx)");

#define BAD_GUEST	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0)
#define BAD_LINK	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 4)
#define BAD_MSR(n)	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, n)

/* RFLAGS bit 1 must be 1: 29.3.1.4. */
static void spoil_guest(void)
{
	vmwrite(GUEST_RFLAGS, 0);
}

static void spoil_msr_list(u32 good_entries)
{
	u64 *list = page_alloc();
	u32 i;

	for (i = 0; i < good_entries; i++)
		list[2 * i] = IA32_SYSENTER_CS;
	list[2 * i] = IA32_FS_BASE;
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(list));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, good_entries + 1);
}

/* --- what is recorded ---------------------------------------------------------------------- */

CASE(reason_of_bad_guest_state,
     PROVES("host-and-exit:fail.reason", "host-and-exit:fail.qualification"), NEEDS(VMX))
{
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(EXIT_REASON), BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
}

CASE(reason_of_bad_link_pointer,
     PROVES("host-and-exit:fail.reason", "host-and-exit:fail.qualification"), NEEDS(VMX))
{
	vmwrite(VMCS_LINK_POINTER, 1);
	EXPECT(resume(), BAD_LINK);
	EXPECT_EQ(vmread(EXIT_REASON), BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 4);
}

CASE(reason_of_bad_msr, PROVES("host-and-exit:fail.reason", "host-and-exit:fail.qualification"),
     NEEDS(VMX))
{
	spoil_msr_list(2);
	EXPECT(resume(), BAD_MSR(3));
	EXPECT_EQ(vmread(EXIT_REASON), BIT(31) | EXIT_ENTRY_FAILURE_MSR_LOADING);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 3);
}

/* 29.8: three of the checks of the guest state have a qualification of their own. */
CASE(qualification_of_a_bad_link_pointer,
     PROVES("exit-qualifications:entry_failure.guest_link_pointer"), NEEDS(VMX))
{
	vmwrite(VMCS_LINK_POINTER, 1);
	EXPECT(resume(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 4));
}

CASE(qualification_of_an_nmi_behind_sti, PROVES("exit-qualifications:entry_failure.guest_nmi_sti"),
     NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, BIT(31) | 2 << 8 | VECTOR_NMI);
	EXPECT(resume(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 3));
}

/* 29.3.1.6: a guest with PAE paging; bit 1 of a PDPTE is reserved. */
CASE(qualification_of_a_bad_pdpte, PROVES("exit-qualifications:entry_failure.guest_pdpte"),
     NEEDS(VMX))
{
	u64 *pdptes = page_alloc();

	pdptes[2] = PTE_P | BIT(1);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LME | EFER_LMA));
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~CR4_PCIDE);
	vmwrite(GUEST_CR3, physical(pdptes));
	EXPECT(resume(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 2));
}

struct information {
	u32 field;
	bool in_delivery;	/* the exit before has an original event */
};

/*
 * An exit by #GP(FFF0H); or by #GP whose original event
 * is a #PF by a write: the IDT ends below its gate.
 */
static void leave_information(bool in_delivery)
{
	const struct guest_code *code = in_delivery ? &guest_page_fault : &guest_general_protection;

	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	if (in_delivery)
		vmwrite(GUEST_IDTR_LIMIT, 16 * VECTOR_PF - 1);
	guest_regs()->rbx = in_delivery ? UNMAPPED_ADDRESS : 0xfff0;
	REQUIRE(enter_at_instruction(code), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	if (in_delivery)
		EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), PF_WR);
	else
		EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), 0xfff0);
}

/* Of each field: what the exit before left there stays. */
static void information_stays(const struct case_def *this_case)
{
	const struct information *row = this_case->row;
	u32 encoding = row->field;
	u64 before;

	leave_information(row->in_delivery);
	before = vmread(encoding);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(encoding), before);
}

#define STAYS(name, FIELD, delivery)						\
	static const struct information name##_row = { FIELD, delivery };	\
	CASE_RUN(name##_stays, information_stays, PROVES("host-and-exit:fail.other_info"), \
		 NEEDS(VMX), ROW(&name##_row))
STAYS(exiting_event_identification, EXITING_EVENT_IDENTIFICATION, false);
STAYS(exiting_event_error_code, EXITING_EVENT_ERROR_CODE, false);
STAYS(original_event_identification, ORIGINAL_EVENT_IDENTIFICATION, true);
STAYS(original_event_error_code, ORIGINAL_EVENT_ERROR_CODE, true);
STAYS(instruction_length, VM_EXIT_INSTRUCTION_LENGTH, false);
STAYS(instruction_information, VM_EXIT_INSTRUCTION_INFORMATION, false);
STAYS(instruction_error, VM_INSTRUCTION_ERROR, false);
STAYS(guest_linear_address, GUEST_LINEAR_ADDRESS, false);
STAYS(io_rcx, IO_RCX, false);
STAYS(io_rsi, IO_RSI, false);
STAYS(io_rdi, IO_RDI, false);
STAYS(io_rip, IO_RIP, false);

CASE(injection_stays_valid, PROVES("host-and-exit:fail.inject_valid"), NEEDS(VMX))
{
	const u64 event = INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_UD);

	vmwrite(INJECTED_EVENT_IDENTIFICATION, event);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(INJECTED_EVENT_IDENTIFICATION), event);
}

/* 30.2: an exit clears it, also when the event was delivered long ago. */
CASE(injection_is_not_valid_after_an_exit, PROVES("host-and-exit:exit.inject_valid",
     "event-injection:inject.valid_cleared"), NEEDS(VMX))
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION,
		INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_UD));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(INJECTED_EVENT_IDENTIFICATION),
		  INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_UD) & ~INJECTED_VALID);
}

/* --- what is loaded, and what is not ---------------------------------------------------------- */

static void expect_host_state_after(outcome_t failure)
{
	u64 cr4 = read_cr4() ^ CR4_TSD;

	vmwrite(HOST_CR4, cr4);
	vmwrite(HOST_IA32_SYSENTER_ESP, 0x123456);
	vmwrite(HOST_FS_BASE, 0x654321);
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0x1111);
	vmwrite(GUEST_FS_BASE, 0x2222);
	EXPECT(resume(), failure);
	EXPECT_EQ(read_cr4(), cr4);
	EXPECT_EQ(rdmsr(IA32_SYSENTER_ESP), 0x123456);
	EXPECT_EQ(rdmsr(IA32_FS_BASE), 0x654321);
}

CASE(host_state_after_bad_guest_state, PROVES("host-and-exit:fail.host_state", "exit-reasons:33",
     "exit-qualifications:entry_failure.guest_default",
     "field-formats:exit_reason.entry_failure"), NEEDS(VMX))
{
	spoil_guest();
	expect_host_state_after(BAD_GUEST);
}

CASE(host_state_after_bad_msr, PROVES("host-and-exit:fail.host_state", "exit-reasons:34",
     "exit-qualifications:entry_failure.msr_index"), NEEDS(VMX))
{
	spoil_msr_list(0);
	expect_host_state_after(BAD_MSR(1));
}

CASE(msrs_of_the_exit_are_loaded, PROVES("host-and-exit:fail.msr_load"), NEEDS(VMX))
{
	u64 *list = page_alloc();

	list[0] = IA32_KERNEL_GS_BASE;
	list[1] = 0x123456;
	wrmsr(IA32_KERNEL_GS_BASE, 0);
	vmwrite(VM_EXIT_MSR_LOAD_ADDRESS, physical(list));
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 1);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 0x123456);
	wrmsr(IA32_KERNEL_GS_BASE, 0);
}

CASE(no_msrs_are_stored, PROVES("host-and-exit:fail.msr_store"), NEEDS(VMX))
{
	u64 *list = page_alloc();

	list[0] = IA32_STAR;
	list[1] = 0x123456;
	vmwrite(VM_EXIT_MSR_STORE_ADDRESS, physical(list));
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 1);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(list[0], IA32_STAR);
	EXPECT_EQ(list[1], 0x123456);
}

/* What an exit would save differs in all of these. */
CASE(guest_state_area_stays, PROVES("host-and-exit:fail.guest_area"), NEEDS(VMX))
{
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_ET);
	vmwrite(GUEST_DR7, 0x1111);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
	vmwrite(GUEST_RSP, 0x123456789);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(GUEST_CR0), read_cr0() & ~CR0_ET);
	EXPECT_EQ(vmread(GUEST_DR7), 0x1111);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BS);
	EXPECT_EQ(vmread(GUEST_RSP), 0x123456789);
	EXPECT_EQ(vmread(GUEST_RFLAGS), 0);
}

/* The guest has never run, so there is no value to save. */
CASE(timer_value_stays, PROVES("host-and-exit:fail.guest_area"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER), EXIT_CTL(SAVE_VMX_PREEMPTION_TIMER_VALUE)))
{
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmcs_set_control(CONTROL_EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0x12345678);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(VMX_PREEMPTION_TIMER_VALUE), 0x12345678);
}

CASE(controls_stay, PROVES("host-and-exit:fail.fields_kept"), NEEDS(VMX))
{
	u64 entry_controls = vmread(VM_ENTRY_CONTROLS);

	vmwrite(TSC_OFFSET, 0x123456789);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
	EXPECT_EQ(vmread(TSC_OFFSET), 0x123456789);
	EXPECT_EQ(vmread(VM_ENTRY_CONTROLS), entry_controls);
}

/* --- launch state ----------------------------------------------------------------------------- */

CASE(failed_launch_leaves_clear, PROVES("host-and-exit:fail.launch_state"), NEEDS(VMX))
{
	spoil_guest();
	EXPECT(vmlaunch(), BAD_GUEST);
	EXPECT(vmresume(), OUTCOME_VMFAIL_VALID(VMFAIL_VMRESUME_NON_LAUNCHED_VMCS));
	EXPECT(vmlaunch(), BAD_GUEST);
}

CASE(failed_resume_leaves_launched, PROVES("host-and-exit:fail.launch_state",
     "host-and-exit:entry.launch_state"), NEEDS(VMX))
{
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_VALID(VMFAIL_VMLAUNCH_NON_CLEAR_VMCS));
	spoil_guest();
	EXPECT(vmresume(), BAD_GUEST);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
}

/* --- the order of checks ---------------------------------------------------------------------- */

static void spoil_control(void)
{
	vmwrite(CR3_TARGET_COUNT, 255);
}

static void spoil_host(void)
{
	vmwrite(HOST_CS_SELECTOR, 0);
}

CASE(controls_before_guest_state, PROVES("host-and-exit:entry.order.1",
     "vm-entry-checks:basic.order.controls_before_guest"), NEEDS(VMX))
{
	spoil_guest();
	spoil_control();
	EXPECT(resume(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
}

CASE(host_state_before_guest_state, PROVES("host-and-exit:entry.order.1",
     "vm-entry-checks:basic.order.controls_before_guest"), NEEDS(VMX))
{
	spoil_guest();
	spoil_host();
	EXPECT(resume(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_HOST_STATE));
}

CASE(guest_state_before_msrs, PROVES("host-and-exit:entry.order.1",
     "vm-entry-checks:basic.order.guest_before_msr"), NEEDS(VMX))
{
	spoil_msr_list(0);
	spoil_guest();
	EXPECT(resume(), BAD_GUEST);
}

CASE(launch_state_before_controls, PROVES("host-and-exit:entry.order.1"), NEEDS(VMX))
{
	spoil_control();
	EXPECT(vmresume(), OUTCOME_VMFAIL_VALID(VMFAIL_VMRESUME_NON_LAUNCHED_VMCS));
}

/*
 * 29.2: a failure of these checks loads and changes
 * nothing; the audit looks at all fields and registers.
 */
CASE(early_failure_changes_nothing, PROVES("host-and-exit:fail.early"), NEEDS(VMX))
{
	u64 sysenter = rdmsr(IA32_SYSENTER_ESP);

	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	wrmsr(IA32_SYSENTER_ESP, sysenter + 8);
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0x1111);
	spoil_control();
	EXPECT(resume(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	EXPECT_EQ(vmread(EXIT_REASON), EXIT_CPUID);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
	EXPECT_EQ(rdmsr(IA32_SYSENTER_ESP), sysenter + 8);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_ENTRY_INVALID_CONTROL_FIELDS);
}

/*
 * The same of CR0 and CR4, each bit alone and in both values: whoever finds what is wrong by an
 * entry of its own must know what the hypervisor has changed without an exit since. To write
 * several at once may exit.
 */
static void fail_early_with(u64 cr0, u64 cr4)
{
	write_cr0(cr0);
	write_cr4(cr4);
	EXPECT(resume(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	EXPECT_EQ(read_cr0(), cr0);
	EXPECT_EQ(read_cr4(), cr4);
}

/* One that software can check by itself, and one for which it must read the virtual-APIC page. */
#define RESERVED_THRESHOLD	0x10
#define THRESHOLD_ABOVE_VTPR	1

static void fail_early_with_each_bit(u32 tpr_threshold)
{
	static const u64 cr0_bits[] = { CR0_TS, CR0_WP };
	static const u64 cr4_bits[] = { CR4_TSD, CR4_DE, CR4_PGE, CR4_PCE, CR4_OSFXSR };
	u64 cr0 = read_cr0(), cr4 = read_cr4();
	u32 i;

	vmcs_set_control(CONTROL_PROC1_USE_TPR_SHADOW);
	vmwrite(VIRTUAL_APIC_ADDRESS, physical(page_alloc()));
	vmwrite(TPR_THRESHOLD, tpr_threshold);
	for (i = 0; i < ARRAY_SIZE(cr0_bits); i++) {
		fail_early_with(cr0 ^ cr0_bits[i], cr4);
		fail_early_with(cr0, cr4);
	}
	for (i = 0; i < ARRAY_SIZE(cr4_bits); i++) {
		fail_early_with(cr0, cr4 ^ cr4_bits[i]);
		fail_early_with(cr0, cr4);
	}
}

CASE(reserved_threshold_keeps_control_registers, PROVES("host-and-exit:fail.early"),
     NEEDS(VMX, PROC1(USE_TPR_SHADOW)))
{
	fail_early_with_each_bit(RESERVED_THRESHOLD);
}

CASE(threshold_above_vtpr_keeps_control_registers, PROVES("host-and-exit:fail.early"),
     NEEDS(VMX, PROC1(USE_TPR_SHADOW)))
{
	fail_early_with_each_bit(THRESHOLD_ABOVE_VTPR);
}

/* --- blocking of NMIs ------------------------------------------------------------------------- */

static u32 nmis, nmis_after_failure;
static outcome_t failure_in_handler;

static void send_nmi(void)
{
	u32 i;

	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	for (i = 0; i < 10000; i++)
		pause();
}

/* A second NMI waits for the end of the first's handler; the guest state would not block it. */
static void fail_to_enter(struct trap_frame *frame)
{
	(void)frame;
	if (nmis++)
		return;
	send_nmi();
	failure_in_handler = resume();
	send_nmi();
	nmis_after_failure = nmis;
}

static void stay_blocked(void (*spoil)(void), outcome_t failure)
{
	nmis = 0;
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	spoil();
	trap_on(VECTOR_NMI, fail_to_enter);
	this_cpu()->idt[VECTOR_NMI].ist = IST_NONE;
	send_nmi();
	EXPECT(failure_in_handler, failure);
	EXPECT_EQ(nmis_after_failure, 1);
	EXPECT_EQ(nmis, 2);
}

static void spoil_first_msr(void)
{
	spoil_msr_list(0);
}

CASE(nmis_stay_blocked, PROVES("host-and-exit:fail.nmi_blocking"),
     NEEDS(VMX, PIN(NMI_EXITING), APIC))
{
	stay_blocked(spoil_guest, BAD_GUEST);
}

CASE(nmis_stay_blocked_after_bad_msr, PROVES("host-and-exit:fail.nmi_blocking"),
     NEEDS(VMX, PIN(NMI_EXITING), APIC))
{
	stay_blocked(spoil_first_msr, BAD_MSR(1));
}

static void count_nmi(struct trap_frame *frame)
{
	(void)frame;
	nmis++;
}

/* The guest state would block them, and may have been loaded. */
static void stay_unblocked(void (*spoil)(void), outcome_t failure)
{
	nmis = 0;
	trap_on(VECTOR_NMI, count_nmi);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	spoil();
	EXPECT(resume(), failure);
	send_nmi();
	EXPECT_EQ(nmis, 1);
	/* If it is still pending, the next case must not get it. */
	unblock_nmis();
}

CASE(nmis_stay_unblocked, PROVES("host-and-exit:fail.nmi_blocking"), NEEDS(VMX, APIC))
{
	stay_unblocked(spoil_guest, BAD_GUEST);
}

CASE(nmis_stay_unblocked_after_bad_msr, PROVES("host-and-exit:fail.nmi_blocking"),
     NEEDS(VMX, APIC))
{
	stay_unblocked(spoil_first_msr, BAD_MSR(1));
}
