/*
 * State of the virtual APIC across transitions, and exits behind an instruction.
 *
 * With "virtual-interrupt delivery" an entry loads RVI and SVI from the guest interrupt status,
 * computes VPPR from them and from VTPR, and evaluates what is pending (29.3.2.5, 32.1.3, 32.2.1);
 * an exit saves both (30.3.4). Most exits save the RIP of the instruction that caused them. A few
 * come when the instruction is done, and save the RIP behind it (30.3.3): the TPR below its
 * threshold, a virtualized EOI, an APIC write, a bus lock. Those are also among the exits that keep
 * pending debug exceptions (30.3.4).
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

static u8 *virtual_apic, *access_page;

static void start(void)
{
	vmx_start();
	guest_handlers_start();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(cpuid, "", "cpuid");

#define VIRTUAL_APIC	PROC1(USE_TPR_SHADOW), PROC2(VIRTUALIZE_APIC_ACCESSES)
#define X2APIC_MODE	PROC1(USE_TPR_SHADOW), PROC2(VIRTUALIZE_X2APIC_MODE), PROC1(USE_MSR_BITMAPS)

static void use_virtual_apic(void)
{
	virtual_apic = page_alloc();
	access_page = page_alloc();
	vmcs_set_control(CONTROL_PROC1_USE_TPR_SHADOW);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(VIRTUAL_APIC_ADDRESS, physical(virtual_apic));
	vmwrite(APIC_ACCESS_ADDRESS, physical(access_page));
	vmwrite(TPR_THRESHOLD, 0);
}

static u32 *virtual_register(enum apic_register reg)
{
	return (u32 *)(virtual_apic + reg);
}

/* --- RVI and SVI ------------------------------------------------------------------------- */

#define DELIVERY \
	VIRTUAL_APIC, PROC2(VIRTUAL_INTERRUPT_DELIVERY), PIN(EXTERNAL_INTERRUPT_EXITING)
#define STATUS(svi, rvi)	((svi) << 8 | (rvi))

GUEST_CODE(int_51, "", "int $0x51");

/* See deliver_once() in x86/vmx/apic-interrupts.c. */
static void deliver_once(void)
{
	static bool done;

	if (!done)
		EXPECT_HANDLER(enter_at_instruction(&guest_int_51), 0x51);
	done = true;
}

static void deliver_virtual_interrupts(u64 status)
{
	deliver_once();
	use_virtual_apic();
	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmcs_set_control(CONTROL_PROC2_VIRTUAL_INTERRUPT_DELIVERY);
	vmwrite(GUEST_INTERRUPT_STATUS, status);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
}

/* RVI is above SVI: its interrupt is delivered, and is then the one in service. */
CASE(rvi_is_loaded, PROVES("host-and-exit:entry.load.rvi_svi"), NEEDS(VMX, DELIVERY))
{
	deliver_virtual_interrupts(STATUS(0x41, 0x51));
	/* What entry and delivery do with bytes 3:1 is their own. */
	*virtual_register(APIC_PROCESSOR_PRIORITY) = 0x99;
	EXPECT_HANDLER(enter_at_instruction(&guest_cpuid), 0x51);
	EXPECT_EQ(*virtual_register(APIC_PROCESSOR_PRIORITY), 0x50);
}

/* SVI is above RVI: VPPR has the class of SVI, and nothing is delivered. */
CASE(svi_is_loaded, PROVES("host-and-exit:entry.load.rvi_svi"), NEEDS(VMX, DELIVERY))
{
	deliver_virtual_interrupts(STATUS(0x61, 0x51));
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	EXPECT_EQ(*virtual_register(APIC_PROCESSOR_PRIORITY), 0x60);
}

/* VTPR counts, too: 32.1.3. */
CASE(vtpr_holds_the_interrupt_back, PROVES("host-and-exit:entry.load.rvi_svi"),
     NEEDS(VMX, DELIVERY))
{
	deliver_virtual_interrupts(STATUS(0, 0x51));
	*virtual_register(APIC_TASK_PRIORITY) = 0x73;
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	EXPECT_EQ(*virtual_register(APIC_PROCESSOR_PRIORITY), 0x73);
}

/* 32.2.2: the delivered one is in SVI, and RVI is the next one in VIRR, 31H here. */
CASE(interrupt_status_is_saved, PROVES("host-and-exit:save.rvi_svi"), NEEDS(VMX, DELIVERY))
{
	deliver_virtual_interrupts(STATUS(0x41, 0x51));
	*virtual_register(APIC_INTERRUPT_REQUEST + 0x20) = BIT(0x51 % 32);
	*virtual_register(APIC_INTERRUPT_REQUEST + 0x10) = BIT(0x31 % 32);
	EXPECT_HANDLER(enter_at_instruction(&guest_cpuid), 0x51);
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), STATUS(0x51, 0x31));
}

CASE(interrupt_status_is_saved_without_delivery, PROVES("host-and-exit:save.rvi_svi"),
     NEEDS(VMX, DELIVERY))
{
	deliver_virtual_interrupts(STATUS(0x61, 0x51));
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), STATUS(0x61, 0x51));
}

/* --- exits behind the instruction: 30.3.3 ------------------------------------------------ */

static void expect_exit_behind(const struct guest_code *code, u16 reason)
{
	REQUIRE(enter_at_instruction(code), OUTCOME_EXIT(reason));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code->end);
}

GUEST_CODE(mov_to_cr8, "", "movq %rax, %cr8");

/* 32.1.2: VTPR[7:4] is CR8, and that is below 5. */
static void prepare_mov_to_cr8(void)
{
	use_virtual_apic();
	vmcs_clear_control(CONTROL_PROC1_CR8_LOAD_EXITING);
	*virtual_register(APIC_TASK_PRIORITY) = 0x70;
	vmwrite(TPR_THRESHOLD, 5);
	guest_regs()->rax = 3;
}

CASE(exit_behind_mov_to_cr8, PROVES("host-and-exit:save.rip.trap.tpr"), NEEDS(VMX, VIRTUAL_APIC))
{
	prepare_mov_to_cr8();
	expect_exit_behind(&guest_mov_to_cr8, EXIT_TPR_BELOW_THRESHOLD);
	EXPECT_EQ(*virtual_register(APIC_TASK_PRIORITY), 0x30);
}

GUEST_CODE(wrmsr, "", "wrmsr");

/* 32.5: the same by the MSR of the x2APIC mode. */
static void prepare_wrmsr_of_tpr(void)
{
	prepare_mov_to_cr8();
	vmcs_clear_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_X2APIC_MODE);
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guest_regs()->rcx = 0x808;
	guest_regs()->rax = 0x30;
	guest_regs()->rdx = 0;
}

CASE(exit_behind_wrmsr_of_tpr, PROVES("host-and-exit:save.rip.trap.wrmsr"),
     NEEDS(VMX, X2APIC_MODE))
{
	prepare_wrmsr_of_tpr();
	expect_exit_behind(&guest_wrmsr, EXIT_TPR_BELOW_THRESHOLD);
	EXPECT_EQ(*virtual_register(APIC_TASK_PRIORITY), 0x30);
}

GUEST_CODE(write, "", "movl %eax, (%rbx)");

/* 32.1.4: the vector in SVI has its bit in the EOI-exit bitmap. */
static void prepare_eoi(void)
{
	deliver_virtual_interrupts(STATUS(0x61, 0));
	*virtual_register(APIC_IN_SERVICE + 0x30) = BIT(0x61 % 32);
	vmwrite(EOI_EXIT_BITMAP_1, BIT(0x61 % 64));
	guest_regs()->rbx = (u64)access_page + APIC_EOI;
	guest_regs()->rax = 0;
}

CASE(exit_behind_eoi, PROVES("host-and-exit:save.rip.trap.eoi"), NEEDS(VMX, DELIVERY))
{
	prepare_eoi();
	expect_exit_behind(&guest_write, EXIT_VIRTUALIZED_EOI);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0x61);
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), 0);
}

/* 32.4.3.2: a write of the spurious-interrupt vector register is stored, and exits then. */
static void prepare_apic_write(void)
{
	use_virtual_apic();
	vmcs_set_control(CONTROL_PROC2_APIC_REGISTER_VIRTUALIZATION);
	guest_regs()->rbx = (u64)access_page + APIC_SPURIOUS_VECTOR;
	guest_regs()->rax = 0x1ab;
}

#define APIC_WRITES	VIRTUAL_APIC, PROC2(APIC_REGISTER_VIRTUALIZATION)
CASE(exit_behind_apic_write, PROVES("host-and-exit:save.rip.trap.apic_write"),
     NEEDS(VMX, APIC_WRITES))
{
	prepare_apic_write();
	expect_exit_behind(&guest_write, EXIT_APIC_WRITE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), APIC_SPURIOUS_VECTOR);
	EXPECT_EQ(*virtual_register(APIC_SPURIOUS_VECTOR), 0x1ab);
}

/* 30.1: what blocked events behind the instruction before has ended. */
struct behind {
	void (*prepare)(void);
	const struct guest_code *code;
	u64 blocking;
	u16 reason;
};

static void ends_blocking(const struct case_def *this_case)
{
	const struct behind *row = this_case->row;

	row->prepare();
	/* 29.3.1.5: there is no blocking by STI with RFLAGS.IF = 0. */
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, row->blocking);
	expect_exit_behind(row->code, row->reason);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
}

#define ENDS_BLOCKING(name, guest, exit_reason, needs)				\
	static const struct behind row_##name##_sti = {				\
		prepare_##name, &guest, BLOCKING_BY_STI, exit_reason };		\
	static const struct behind row_##name##_mov_ss = {			\
		prepare_##name, &guest, BLOCKING_BY_MOV_SS, exit_reason };	\
	CASE_RUN(name##_ends_blocking_by_sti, ends_blocking,			\
		 PROVES("host-and-exit:save.intr.trap"), NEEDS needs, ROW(&row_##name##_sti)); \
	CASE_RUN(name##_ends_blocking_by_mov_ss, ends_blocking,			\
		 PROVES("host-and-exit:save.intr.trap"), NEEDS needs, ROW(&row_##name##_mov_ss))

ENDS_BLOCKING(mov_to_cr8, guest_mov_to_cr8, EXIT_TPR_BELOW_THRESHOLD, (VMX, VIRTUAL_APIC));
ENDS_BLOCKING(wrmsr_of_tpr, guest_wrmsr, EXIT_TPR_BELOW_THRESHOLD, (VMX, X2APIC_MODE));
ENDS_BLOCKING(eoi, guest_write, EXIT_VIRTUALIZED_EOI, (VMX, DELIVERY));
ENDS_BLOCKING(apic_write, guest_write, EXIT_APIC_WRITE, (VMX, APIC_WRITES));

/* --- a fault between the write and its emulation: 32.4.3.2 -------------------------------- */

/*
 * ENTER with two levels pushes EBP, and then reads the level above at EBP - 4, which is not
 * mapped. What it pushes is the task priority of the APIC; its 4 KBytes of locals end in another
 * page, for 32.4.4. In 32-bit mode, because no access of more than 32 bits is virtualized; at CPL
 * 3, so that the fault has another stack.
 */
GUEST_CODE(enter_two_levels, "", ".byte 0xc8, 0x00, 0x10, 0x02");
#define PUSHED		0x12345630u	/* a linear address, too */

static void make_32_bit_user(void)
{
	u32 *directory = guest_to_32_bit_mode(), *tss = page_alloc(), i;
	u64 *idt = page_alloc(), handler = guest_handler(VECTOR_PF);

	for (i = 0; i < 1024; i++)
		directory[i] |= PTE_US;
	directory[PUSHED >> 22] = 0;
	/* 10.2.1: ESP0, SS0; 7.11: a 32-bit interrupt gate. */
	tss[1] = (u64)tss + PAGE_SIZE;
	tss[2] = SELECTOR_DATA;
	vmwrite(GUEST_TR_BASE, (u64)tss);
	idt[VECTOR_PF] = FIELD(handler, 15, 0) | (u64)SELECTOR_CODE32 << 16 | 0x8eull << 40 |
			 FIELD(handler, 31, 16) << 48;
	vmwrite(GUEST_IDTR_BASE, (u64)idt);
	guest_to_user_mode();
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_USER_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc0fb);
	audit_guest_changes_segments();
}

static void write_and_fault(void)
{
	use_virtual_apic();
	make_32_bit_user();
	vmwrite(TPR_THRESHOLD, 5);
	*virtual_register(APIC_TASK_PRIORITY) = 0x70;
	guest_regs()->rbp = PUSHED;
	vmwrite(GUEST_RIP, (u64)guest_enter_two_levels.at);
	vmwrite(GUEST_RSP, (u64)access_page + APIC_TASK_PRIORITY + 4);
}

/* It comes with the fault delivered, before its handler: the TPR is below the threshold. */
CASE(emulation_behind_a_fault, PROVES("interruptibility:apicwrite.fault"), NEEDS(VMX, VIRTUAL_APIC))
{
	write_and_fault();
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_TPR_BELOW_THRESHOLD));
	EXPECT_EQ(vmread(GUEST_RIP), guest_handler(VECTOR_PF));
	/* Behind the error code */
	EXPECT_EQ(((const u32 *)vmread(GUEST_RSP))[1], (u64)guest_enter_two_levels.at);
	EXPECT_EQ(*virtual_register(APIC_TASK_PRIORITY), PUSHED & 0xff);
}

CASE(no_emulation_behind_a_fault_that_exits, PROVES("interruptibility:apicwrite.fault"),
     NEEDS(VMX, VIRTUAL_APIC))
{
	write_and_fault();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_enter_two_levels.at);
	/* Bytes 3:1 would be cleared by the emulation. */
	EXPECT_EQ(*virtual_register(APIC_TASK_PRIORITY), PUSHED);
}

GUEST_CODE(split_lock, "", "lock incl (%rbx)");

/*
 * 28.2: a locked access across two cache lines. Bit 26 of the exit reason says so as well: 30.2.1.
 */
CASE(exit_behind_bus_lock, PROVES("host-and-exit:save.rip.trap.bus_lock",
     "host-and-exit:exit.reason.bit26", "exit-reasons:74",
     "field-formats:exit_reason.bus_lock"), NEEDS(VMX, PROC2(VMM_BUS_LOCK_DETECTION)))
{
	vmcs_set_control(CONTROL_PROC2_VMM_BUS_LOCK_DETECTION);
	guest_regs()->rbx = (u64)guest_memory + 62;
	expect_exit_behind(&guest_split_lock, EXIT_BUS_LOCK);
	EXPECT_EQ(vmread(EXIT_REASON), BIT(26) | EXIT_BUS_LOCK);
}

/* --- pending debug exceptions that stay pending: 30.3.4 ---------------------------------- */

/* The exit comes before they are delivered: 29.7.7, 29.7.8. */
static void stay_pending_at_tpr_exit(u64 pending, u64 rflags)
{
	use_virtual_apic();
	vmwrite(TPR_THRESHOLD, 5);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | rflags);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_TPR_BELOW_THRESHOLD));
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), pending);
}

CASE(pending_at_tpr_exit, PROVES("host-and-exit:save.pdbg.kept"), NEEDS(VMX, VIRTUAL_APIC))
{
	stay_pending_at_tpr_exit(PENDING_ENABLED | BITS(3, 0), 0);
	stay_pending_at_tpr_exit(PENDING_BS, RFLAGS_TF);
	stay_pending_at_tpr_exit(PENDING_BS | PENDING_ENABLED | BIT(2), RFLAGS_TF);
}

/* 29.7.3: bit 12 makes them valid by itself, whether or not a breakpoint is named. */
CASE(enabled_breakpoint_pending_at_tpr_exit, PROVES("host-and-exit:save.pdbg.kept"),
     NEEDS(VMX, VIRTUAL_APIC))
{
	stay_pending_at_tpr_exit(PENDING_ENABLED, 0);
}

CASE(rtm_pending_at_tpr_exit, PROVES("host-and-exit:save.pdbg.kept_rtm",
     "field-formats:pending_debug.rtm"),
     NEEDS(VMX, VIRTUAL_APIC, CPU(RTM)))
{
	stay_pending_at_tpr_exit(PENDING_RTM | PENDING_ENABLED, 0);
}

CASE(pending_at_monitor_trap, PROVES("host-and-exit:save.pdbg.kept"),
     NEEDS(VMX, PROC1(MONITOR_TRAP_FLAG)))
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_OTHER, 0));
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(1) | BIT(3));
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG));
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_ENABLED | BIT(1) | BIT(3));
}
