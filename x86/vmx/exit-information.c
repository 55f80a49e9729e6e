/*
 * What a VM exit says of itself: 30.2 Recording VM-Exit Information and Updating VM-Entry Control
 * Fields.
 *
 * The exit-information fields are written by every exit, whether they mean anything for it or not:
 * what an earlier exit has left there must not be taken for news. So most cases here make two
 * exits, and look at what the second one says where the first one had more to say. All other fields
 * of the VMCS but those of the guest stay as software has written them, with two exceptions.
 *
 * Elsewhere: exits by instructions (exit-basic, exit-operands), exceptions (exit-exceptions),
 * events (exit-events), and what goes wrong while an event is delivered (injection-faults).
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/exit_reader.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(read_missing, "", "mov (%rbx), %eax");
GUEST_CODE(nop, "", "nop; nop");
GUEST_CODE(halt, "", "hlt");

/*
 * An exit that leaves something in most of the fields: a page fault during the delivery of INT n.
 */
GUEST_CODE(int_n, "", "int $0x51");

static void make_a_full_exit(void)
{
	u64 idtr = vmread(GUEST_IDTR_BASE);

	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	vmwrite(GUEST_IDTR_BASE, UNMAPPED_ADDRESS);
	REQUIRE(enter_at_instruction(&guest_int_n), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(31), BIT(31));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), BIT(31));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), UNMAPPED_ADDRESS + 0x510);
	vmwrite(GUEST_IDTR_BASE, idtr);
}

/* --- 30.2.1 Basic VM-Exit Information ---------------------------------------------------- */

/*
 * The whole field is the basic reason: no enclave, no bus lock, no shadow stack, no failed entry.
 */
static void expect_reason(outcome_t outcome, u32 reason)
{
	EXPECT(outcome, OUTCOME_EXIT(reason));
	EXPECT_EQ(vmread(EXIT_REASON), reason);
}

CASE(reason_is_a_basic_reason, PROVES("host-and-exit:exit.reason.basic",
     "host-and-exit:exit.reason.bit16", "host-and-exit:exit.reason.bit31"), NEEDS(VMX))
{
	expect_reason(enter_at_instruction(&guest_cpuid), EXIT_CPUID);
	vmcs_set_control(CONTROL_PROC1_HLT_EXITING);
	expect_reason(enter_at_instruction(&guest_halt), EXIT_HLT);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	expect_reason(enter_at_instruction(&guest_read_missing), EXIT_EXCEPTION_OR_NMI);
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(EXCEPTION_BITMAP, 0);
	expect_reason(enter_at_instruction(&guest_read_missing), EXIT_TRIPLE_FAULT);
}

/* A failed entry sets bit 31; the next exit has it clear. */
CASE(reason_after_a_failed_entry, PROVES("host-and-exit:exit.reason.bit31"), NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, 0);
	REQUIRE(resume(), OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0));
	EXPECT_EQ(vmread(EXIT_REASON), BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	expect_reason(enter_at_instruction(&guest_cpuid), EXIT_CPUID);
}

/* --- a shadow stack that is left busy: 28.4.3 Shadow-Stack Updates */

#define SHADOW_STACKS	UNMAPPED_ADDRESS	/* linear: a page, and the one behind it */
#define TOKEN		(SHADOW_STACKS + PAGE_SIZE)

/*
 * 5.6: a supervisor page that is dirty and not writable. The guest's tables, and the first page of
 * the two.
 */
static u8 *map_shadow_stacks(u64 *token)
{
	const u64 flags = PTE_P | PTE_A | PTE_D;
	struct address_space space;
	u8 *below = page_alloc();

	*token = TOKEN;
	space_copy(&space);
	space_map(&space, SHADOW_STACKS, physical(below), flags, LEVEL_PTE);
	space_map(&space, TOKEN, physical(token), flags, LEVEL_PTE);
	vmwrite(GUEST_CR3, physical(space.pml4));
	return below;
}

static void use_shadow_stacks(void)
{
	u64 *table = page_alloc();

	table[1] = TOKEN;
	vmcs_set_control(CONTROL_ENTRY_LOAD_CET_STATE);
	vmcs_set_control(CONTROL_EXIT_LOAD_CET_STATE);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_WP);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_CET);
	vmwrite(GUEST_IA32_S_CET, CET_SH_STK_EN);
	vmwrite(GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, (u64)table);
	vmwrite(GUEST_SSP, TOKEN + 0x100);
	vmwrite(HOST_IA32_S_CET, 0);
	vmwrite(HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0);
	vmwrite(HOST_SSP, 0);
}

/*
 * The token begins a page; what goes onto the stack is in the page below, which EPT does not let be
 * written.
 */
static void leave_shadow_stack_busy(bool busy, u64 rights, u64 reason)
{
	struct ept ept;
	u64 *token = page_alloc();
	u8 *below = map_shadow_stacks(token);

	use_shadow_stacks();
	guest_handlers_start()[0x51].ist = 1;
	ept_start(&ept, 0);
	/* Without the token, too, nothing has become busy. */
	ept_map(&ept, physical(busy ? below : (u8 *)token), physical(busy ? below : (u8 *)token),
		rights, LEVEL_PTE);
	ept_invalidate(&ept);
	REQUIRE(enter_at_instruction(&guest_int_n), OUTCOME_EXIT(reason & BITS(15, 0)));
	EXPECT_EQ(vmread(EXIT_REASON), reason);
	EXPECT_EQ(*token, TOKEN | busy);
	EXPECT_EQ(vmread(GUEST_SSP), TOKEN + 0x100);
}

#define READ_ONLY	(EPT_MEMORY_TYPE(EPT_WB) | EPT_READ)
#define MISCONFIGURED	(EPT_MEMORY_TYPE(7) | EPT_RWX)	/* 31.3.3.1 */
#define BUSY	EXIT2_CTL(PREMATURELY_BUSY_SHADOW_STACK)
#define SHADOW_STACK_NEEDS EPT, CPU(CET_SS), ENTRY_CTL(LOAD_CET_STATE), EXIT_CTL(LOAD_CET_STATE)

CASE(shadow_stack_left_busy, PROVES("host-and-exit:exit.reason.bit25",
     "field-formats:exit_reason.busy_shadow_stack"),
     NEEDS(VMX, SHADOW_STACK_NEEDS, BUSY))
{
	vmcs_set_control(CONTROL_EXIT2_PREMATURELY_BUSY_SHADOW_STACK);
	leave_shadow_stack_busy(true, READ_ONLY, BIT(25) | EXIT_EPT_VIOLATION);
}

/* Then the linear address is saved, too, which misconfigurations else do not have. */
CASE(shadow_stack_left_busy_by_misconfiguration, PROVES("host-and-exit:exit.gla.busy"),
     NEEDS(VMX, SHADOW_STACK_NEEDS, BUSY))
{
	vmcs_set_control(CONTROL_EXIT2_PREMATURELY_BUSY_SHADOW_STACK);
	leave_shadow_stack_busy(true, MISCONFIGURED, BIT(25) | EXIT_EPT_MISCONFIGURATION);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & PAGE_MASK, SHADOW_STACKS);
}

CASE(shadow_stack_left_busy_without_control, PROVES("host-and-exit:exit.reason.bit25.control"),
     NEEDS(VMX, SHADOW_STACK_NEEDS))
{
	leave_shadow_stack_busy(true, READ_ONLY, EXIT_EPT_VIOLATION);
}

CASE(shadow_stack_not_busy, PROVES("host-and-exit:exit.reason.bit25"),
     NEEDS(VMX, SHADOW_STACK_NEEDS, BUSY))
{
	vmcs_set_control(CONTROL_EXIT2_PREMATURELY_BUSY_SHADOW_STACK);
	leave_shadow_stack_busy(false, READ_ONLY, EXIT_EPT_VIOLATION);
}

/* Reasons that define no qualification: it is cleared. */
static void expect_no_qualification(const struct guest_code *code, u32 reason)
{
	make_a_full_exit();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_UD));
	EXPECT(enter_at_instruction(code), OUTCOME_EXIT(reason));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
}

GUEST_CODE(ud2, "", "ud2");
GUEST_CODE(rdmsr, "", "rdmsr");
GUEST_CODE(vmxoff, "", "vmxoff");
GUEST_CODE(rdtsc, "", "rdtsc");

CASE(qualification_is_cleared, PROVES("host-and-exit:exit.qualification.zero"), NEEDS(VMX))
{
	vmcs_set_control(CONTROL_PROC1_HLT_EXITING);
	vmcs_set_control(CONTROL_PROC1_RDTSC_EXITING);
	expect_no_qualification(&guest_cpuid, EXIT_CPUID);
	expect_no_qualification(&guest_halt, EXIT_HLT);
	expect_no_qualification(&guest_rdmsr, EXIT_RDMSR);
	expect_no_qualification(&guest_rdtsc, EXIT_RDTSC);
	expect_no_qualification(&guest_vmxoff, EXIT_VMXOFF);
	expect_no_qualification(&guest_ud2, EXIT_EXCEPTION_OR_NMI);
}

CASE(qualification_of_a_window_is_cleared, PROVES("host-and-exit:exit.qualification.zero"),
     NEEDS(VMX, PROC1(INTERRUPT_WINDOW_EXITING)))
{
	make_a_full_exit();
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	EXPECT(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_INTERRUPT_WINDOW));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
}

/* --- 30.2.2, 30.2.4: no event ------------------------------------------------------------ */

CASE(events_are_not_valid,
     PROVES("host-and-exit:exit.event.invalid", "host-and-exit:exit.orig.invalid"), NEEDS(VMX))
{
	make_a_full_exit();
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(31), 0);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
}

CASE(events_of_a_triple_fault_are_not_valid, PROVES("host-and-exit:exit.event.invalid",
     "host-and-exit:exit.orig.invalid"), NEEDS(VMX))
{
	make_a_full_exit();
	vmwrite(EXCEPTION_BITMAP, 0);
	vmwrite(GUEST_IDTR_LIMIT, 0);
	EXPECT(enter_at_instruction(&guest_int_n), OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(31), 0);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
}

/* --- 30.2.3 Information About NMI Unblocking Due to IRET --------------------------------- */

struct iret {
	bool virtual_nmis, blocked;
};

GUEST_CODE(iret, "", "iretq");

/* The frame that IRET reads is where nothing is mapped. */
static void page_fault_in_iret(const struct case_def *this_case)
{
	const struct iret *iret = this_case->row;

	if (iret->virtual_nmis) {
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	}
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, iret->blocked ? BLOCKING_BY_NMI : 0);
	vmwrite(GUEST_RIP, (u64)guest_iret.at);
	vmwrite(GUEST_RSP, UNMAPPED_ADDRESS);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION),
		  BIT(31) | (iret->blocked ? BIT(12) : 0) | BIT(11) |
		  EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_PF);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & PAGE_MASK, UNMAPPED_ADDRESS);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_iret.at);
	unblock_nmis();
}

#define IRET(name, virtual, block, ...)						\
	static const struct iret row_##name = { virtual, block };		\
	CASE_RUN(name, page_fault_in_iret, PROVES("host-and-exit:exit.event.bit12",	\
		 "host-and-exit:iret.unblock"), NEEDS(VMX, ##__VA_ARGS__), ROW(&row_##name))
IRET(iret_while_nmis_are_blocked, false, true);
IRET(iret_while_nmis_are_not_blocked, false, false);
IRET(iret_while_virtual_nmis_are_blocked, true, true, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS));
IRET(iret_while_virtual_nmis_are_not_blocked, true, false, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS));

/* Another instruction that faults unblocks nothing, and says so. */
CASE(read_while_virtual_nmis_are_blocked, PROVES("host-and-exit:exit.event.bit12"),
     NEEDS(VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	REQUIRE(enter_at_instruction(&guest_read_missing), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(12), 0);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
}

/* --- fields that an exit leaves alone ---------------------------------------------------- */

static const struct {
	u16 encoding;
	u8 type;
} fields[] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) { encoding, VMCS_FIELD_##type },
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

/* HOST_RSP is written by the way into the guest. */
static bool stays(u32 index)
{
	return (fields[index].type == VMCS_FIELD_CONTROL ||
		fields[index].type == VMCS_FIELD_HOST) &&
	       index != INDEX_HOST_RSP && index != INDEX_INJECTED_EVENT_IDENTIFICATION;
}

/* Values that matter to nothing here go where anything may be. */
static void fill_fields(void)
{
	vmwrite(TSC_OFFSET, 0x123456789abcdef);
	vmwrite(CR0_READ_SHADOW, 0x5555);
	vmwrite(CR4_READ_SHADOW, 0xaaaa);
	if (vmcs_field_exists(CR3_TARGET_VALUE_3)) {
		vmwrite(CR3_TARGET_VALUE_0, 0x1111);
		vmwrite(CR3_TARGET_VALUE_3, 0x4444);
	}
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0x10000000);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(INJECTED_EVENT_ERROR_CODE, 0x7777);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 7);
	vmwrite(HOST_IA32_SYSENTER_ESP, 0x1000);
	vmwrite(HOST_IA32_SYSENTER_EIP, 0x2000);
	vmwrite(HOST_FS_BASE, 0x3000);
	vmwrite(HOST_GS_BASE, 0x4000);
}

CASE(controls_and_host_state_stay, PROVES("host-and-exit:exit.fields_kept"), NEEDS(VMX))
{
	static u64 before[ARRAY_SIZE(fields)];
	static bool exists[ARRAY_SIZE(fields)];
	u32 i, looked_at = 0;

	fill_fields();
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		exists[i] = stays(i) && vmcs_field_exists(fields[i].encoding) &&
			    vmread_outcome(fields[i].encoding, &before[i]) == OUTCOME_DONE;
	make_a_full_exit();
	vmwrite(EXCEPTION_BITMAP, before[INDEX_EXCEPTION_BITMAP]);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!exists[i])
			continue;
		looked_at++;
		if (!EXPECT_EQ(vmread(fields[i].encoding), before[i]))
			case_note("field", "%s", vmcs_field_name(fields[i].encoding));
	}
	EXPECT_TRUE(looked_at > 50);
}

/* 27.9.5: only a VM instruction that fails writes it. */
CASE(instruction_error_stays, PROVES("host-and-exit:exit.vm_instruction_error"), NEEDS(VMX))
{
	REQUIRE(vmwrite_outcome(0x7ffe, 0),
		OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT));
	make_a_full_exit();
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_UNSUPPORTED_VMCS_COMPONENT);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_UNSUPPORTED_VMCS_COMPONENT);
}

/* --- "IA-32e mode guest" ----------------------------------------------------------------- */

/*
 * In 32-bit code without paging: PAE, LME, the tables of the host, PG; and with that LMA. RBX has
 * CR4 and RSI CR0 for that, RDI the tables; CPUID is the same in compatibility mode.
 */
extern const u8 into_ia32e_mode[];
asm(".pushsection .text\n\t.code32\n"
    "into_ia32e_mode:\n\t"
    "movl %ebx, %cr4\n\tmovl $0xc0000080, %ecx\n\trdmsr\n\torl $0x100, %eax\n\twrmsr\n\t"
    "movl %edi, %cr3\n\tmovl %esi, %cr0\n\tcpuid\n\t"
    "hlt\n\t.code64\n\t.popsection");

CASE(ia32e_mode_guest_follows_lma, PROVES("host-and-exit:exit.ia32e_ctl"),
     NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST), PROC1(USE_MSR_BITMAPS),
	   { "IA32_VMX_MISC[5]", need_misc, BIT(5), 0 }))
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	guest_regs()->rbx = vmread(GUEST_CR4);
	guest_regs()->rsi = vmread(GUEST_CR0);
	guest_regs()->rdi = vmread(GUEST_CR3);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_RIP, (u64)into_ia32e_mode);
	audit_guest_changes(GUEST_CR0);
	audit_guest_changes(GUEST_CR3);
	audit_guest_changes(GUEST_CR4);
	audit_guest_changes(GUEST_IA32_EFER);
	EXPECT_FALSE(vmcs_has_control(CONTROL_ENTRY_IA_32E_MODE_GUEST));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_TRUE(vmcs_has_control(CONTROL_ENTRY_IA_32E_MODE_GUEST));
	EXPECT_EQ(vmread(GUEST_CR0) & CR0_PG, CR0_PG);
}
