/*
 * VMFUNC: where the instruction exists, which functions a guest may call, and function 0.
 *
 * VMFUNC is for guests only, at any privilege level. It is #UD unless the control "enable VM
 * functions" is 1 and EAX names one of the functions 0 to 63; a function that the VM-function
 * controls do not enable is a VM exit: 28.5.7.2 General Operation of the VMFUNC Instruction.
 * Function 0 takes a new EPT pointer from a list of 512: 28.5.7.3 EPTP Switching. What the guest
 * then sees through it is the subject of x86/ept.
 */
#include "cpu/user.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

/* EAX and ECX are guest_value and guest_value2. */
GUEST_INSTRUCTION(vmfunc, "movl guest_value, %eax\n\tmovl guest_value2, %ecx", "vmfunc");

static void call_vmfunc(void *unused __maybe_unused)
{
	asm volatile("vmfunc" : : "a" (0), "c" (0) : "memory");
}

static outcome_t guest_outcome_at_cpl_3;

static void guest_vmfunc_at_cpl_3(void)
{
	guest_outcome_at_cpl_3 = run_at_cpl(3, call_vmfunc, NULL);
}

/* Calls the function in a guest and expects #UD, caught there. */
static void expect_ud(u32 function)
{
	guest_value = function;
	EXPECT(enter(guest_vmfunc.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

CASE(vmfunc_outside_vmx_operation, PROVES("vmx-instructions:vmfunc.root"), NEEDS(VMX))
{
	REQUIRE(vmxoff(), OUTCOME_DONE);
	EXPECT(attempt(call_vmfunc, NULL), OUTCOME_UD);
}

/* The control is the guest's: it means nothing in root operation. */
CASE(vmfunc_in_root_operation, PROVES("vmx-instructions:vmfunc.root"), NEEDS(VMX))
{
	if (control_allowed(CONTROL_PROC2_ENABLE_VM_FUNCTIONS))
		vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	EXPECT(attempt(call_vmfunc, NULL), OUTCOME_UD);
	EXPECT(run_at_cpl(3, call_vmfunc, NULL), OUTCOME_UD);
}

CASE(vmfunc_disabled, PROVES("vmx-instructions:vmfunc.disabled"), NEEDS(VMX))
{
	expect_ud(0);
	EXPECT(enter(guest_vmfunc_at_cpl_3), GUEST_DONE);
	EXPECT(guest_outcome_at_cpl_3, OUTCOME_UD);
}

/* A control in a field that is not active counts as 0: 27.6.2. */
CASE(vmfunc_enabled_in_an_inactive_field, PROVES("vmx-instructions:vmfunc.disabled"),
     NEEDS(VMX, PROC2(ENABLE_VM_FUNCTIONS)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	vmcs_clear_control(CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS);
	expect_ud(0);
}

CASE(vmfunc_of_a_function_above_63, PROVES("vmx-instructions:vmfunc.eax_above_63"),
     NEEDS(VMX, PROC2(ENABLE_VM_FUNCTIONS)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	expect_ud(64);
	expect_ud(0x80000000);
	expect_ud(0xffffffff);
}

CASE(vmfunc_of_a_function_that_is_off, PROVES("vmx-instructions:vmfunc.function_disabled",
     "exit-reasons:59"), NEEDS(VMX, PROC2(ENABLE_VM_FUNCTIONS)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	for (guest_value = 0; guest_value < 64; guest_value++) {
		EXPECT(enter(guest_vmfunc.run), OUTCOME_EXIT(EXIT_VMFUNC));
		EXPECT_FAULT_LIKE_EXIT(guest_vmfunc);
	}
}

CASE(vmfunc_exits_at_cpl_3, PROVES("vmx-instructions:vmfunc.function_disabled"),
     NEEDS(VMX, PROC2(ENABLE_VM_FUNCTIONS)))
{
	audit_guest_changes_segments();
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	EXPECT(enter(guest_vmfunc_at_cpl_3), OUTCOME_EXIT(EXIT_VMFUNC));
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 3);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

/* --- function 0: EPTP switching --------------------------------------------------------- */

static bool need_eptp_switching(u64 unused __maybe_unused)
{
	return vmx_supported() && control_allowed(CONTROL_VMFUNC_EPTP_SWITCHING);
}

#define EPTP_SWITCHING	{ "VM function EPTP switching", need_eptp_switching, 0, 0 }

/* Enables the function with an empty list of EPT pointers; returns the list. */
static u64 *enable_eptp_switching(struct ept *ept)
{
	u64 *list = page_alloc();

	ept_start(ept, 0);
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, BIT(0));
	vmwrite(EPTP_LIST_ADDRESS, physical(list));
	return list;
}

/* Switches to the entry; the guest must exit at VMFUNC, and the EPT pointer stay as it is. */
static void expect_refused(u32 entry)
{
	u64 before = vmread(EPT_POINTER);

	guest_value = 0;
	guest_value2 = entry;
	EXPECT(enter(guest_vmfunc.run), OUTCOME_EXIT(EXIT_VMFUNC));
	EXPECT_FAULT_LIKE_EXIT(guest_vmfunc);
	EXPECT_EQ(vmread(EPT_POINTER), before);
}

CASE(eptp_switching, PROVES("vmx-instructions:vmfunc.eptp_switching", "ept:vmfunc.switch.valid",
     "ept:vmfunc.switch.index", "ept:vmfunc.switch.vmcs"), NEEDS(VMX, EPTP_SWITCHING))
{
	struct ept ept, other;
	u64 *list = enable_eptp_switching(&ept);

	ept_build(&other);
	list[511] = ept_pointer(&other, 0);
	guest_value = 0;
	guest_value2 = 511;
	EXPECT(enter(guest_vmfunc.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(vmread(EPT_POINTER), list[511]);
	if (control_allowed(CONTROL_PROC2_EPT_VIOLATION_VE))
		EXPECT_EQ(vmread(EPTP_INDEX), 511);
}

/* 28.5.7.3: VMFUNC is no instruction of VMX root operation, and leaves all six flags alone. */
GUEST_CODE(vmfunc_with_all_flags, "movl guest_value2, %ecx\n\txorl %eax, %eax\n\t"
	   "pushfq\n\torl $0x8d5, (%rsp)\n\tpopfq", "vmfunc");
GUEST_CODE(vmfunc_with_no_flags, "movl guest_value2, %ecx\n\txorl %eax, %eax\n\t"
	   "pushfq\n\tandl $~0x8d5, (%rsp)\n\tpopfq", "vmfunc");

CASE(eptp_switching_changes_no_flag, PROVES("vmx-instructions:vmfunc.eptp_switching"),
     NEEDS(VMX, EPTP_SWITCHING))
{
	struct ept ept;
	u64 *list = enable_eptp_switching(&ept);

	list[0] = ept_pointer(&ept, 0);
	guest_value2 = 0;
	/* Nothing but a RET is between the instruction and the VMCALL. */
	EXPECT(enter(guest_vmfunc_with_all_flags.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_STATUS, RFLAGS_STATUS);
	EXPECT(enter(guest_vmfunc_with_no_flags.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_STATUS, 0);
}

CASE(eptp_index_above_511, PROVES("vmx-instructions:vmfunc.eptp_index_above_511"),
     NEEDS(VMX, EPTP_SWITCHING))
{
	struct ept ept;
	u64 *list = enable_eptp_switching(&ept);
	u32 bit;

	/* Were only bits 8:0 of ECX used, this would be the entry. */
	list[0] = ept_pointer(&ept, 0);
	for (bit = 9; bit < 32; bit++)
		expect_refused(BIT(bit));
}

/* Each of these would fail VM entry: 29.2.1.1 VM-Execution Control Fields. */
CASE(eptp_that_vm_entry_refuses, PROVES("vmx-instructions:vmfunc.bad_eptp",
     "ept:vmfunc.switch.valid"),
     NEEDS(VMX, EPTP_SWITCHING))
{
	struct ept ept;
	u64 *list = enable_eptp_switching(&ept), good = ept_pointer(&ept, 0);

	list[1] = (good & ~BITS(2, 0)) | 2;	/* memory type */
	list[2] = good | BIT(11);		/* reserved */
	list[3] = good | BIT(63);		/* reserved */
	expect_refused(0);
	expect_refused(1);
	expect_refused(2);
	expect_refused(3);
}

/* Not even from 4 levels to 5 where the processor has both. */
CASE(eptp_with_another_walk_length, PROVES("vmx-instructions:vmfunc.bad_eptp",
     "ept:vmfunc.switch.valid"),
     NEEDS(VMX, EPTP_SWITCHING))
{
	struct ept ept;
	u64 *list = enable_eptp_switching(&ept), good = ept_pointer(&ept, 0);
	u32 length;

	for (length = 1; length <= 8; length++) {
		list[length] = (good & ~BITS(5, 3)) | (length - 1) << 3;
		if (list[length] != good)
			expect_refused(length);
	}
}

/* A trace would go on through another EPT pointer than it has been pre-translated by. */
CASE(eptp_switching_while_tracing, PROVES("vmx-instructions:vmfunc.tracing"),
     NEEDS(VMX, EPTP_SWITCHING, PROC2(INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES)))
{
	struct ept ept, other;
	u64 *list = enable_eptp_switching(&ept);

	ept_build(&other);
	list[1] = ept_pointer(&other, 0);
	vmcs_set_control(CONTROL_PROC2_INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
	vmcs_set_control(CONTROL_EXIT_CLEAR_IA32_RTIT_CTL);
	/* TraceEn alone: no privilege level is traced, so there is no output. */
	vmwrite(GUEST_IA32_RTIT_CTL, BIT(0));
	expect_refused(1);
	vmwrite(GUEST_IA32_RTIT_CTL, 0);
	EXPECT(enter(guest_vmfunc.run), GUEST_DONE);
}

/* --- what it invalidates ------------------------------------------------------------------ */

#define LINEAR		0x123456789000ull

static struct {
	u64 *pte, other;		/* the guest's PTE of LINEAR, and what it becomes */
	u64 before, after;
} remap;

/* Neither INVLPG nor a load of CR3: what the TLB has of LINEAR stays, but for the switches. */
static void guest_remaps(void)
{
	remap.before = *(volatile u64 *)LINEAR;
	*(volatile u64 *)remap.pte = remap.other;
	asm volatile("vmfunc" : : "a" (0), "c" (1) : "memory");
	asm volatile("vmfunc" : : "a" (0), "c" (0) : "memory");
	remap.after = *(volatile u64 *)LINEAR;
}

/*
 * Without VPIDs the combined mappings of all EPT pointers go. Both pointers translate alike, so
 * only the guest's own change is to be seen.
 */
CASE(eptp_switching_without_vpid, PROVES("ept:vmfunc.switch.novpid"), NEEDS(VMX, EPTP_SWITCHING))
{
	u64 *one = page_alloc_filled(1), *two = page_alloc_filled(2);
	struct address_space space;
	struct ept ept, other;
	u64 *list = enable_eptp_switching(&ept);

	ept_build(&other);
	list[0] = ept_pointer(&ept, 0);
	list[1] = ept_pointer(&other, 0);
	space_copy(&space);
	remap.pte = space_map(&space, LINEAR, physical(one), PTE_P | PTE_RW | PTE_A | PTE_D,
			      LEVEL_PTE);
	remap.other = physical(two) | PTE_P | PTE_RW | PTE_A | PTE_D;
	vmwrite(GUEST_CR3, physical(space.pml4));
	EXPECT(enter(guest_remaps), GUEST_DONE);
	EXPECT_EQ(remap.before, 1);
	EXPECT_EQ(remap.after, 2);
}
