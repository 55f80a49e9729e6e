/*
 * Debug exceptions of newer features, and time limits: what their exits report.
 *
 * OS bus-lock detection (volume 3, 20.3.1.6) is a debug exception behind an instruction at CPL 3
 * that has locked the bus; debugging of transactions (volume 1, 17.3.7) is one inside a
 * transactional region. DR6 marks both by a bit that is cleared; the exit qualification, and the
 * pending debug exceptions of the VMCS, by one that is set (Table 30-1, Table 27-4). The monitor
 * trap flag on XBEGIN comes at the fallback address (28.5.2).
 *
 * With "instruction timeout" a guest exits that reaches no instruction boundary for too long
 * (28.2). Here it is a debug exception whose delivery writes to a watched stack: it is delivered
 * again and again, without an instruction in between.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

static void start(void)
{
	guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

#define DEBUG_CONTROLS		ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)
#define QUALIFICATION_BLD	BIT(11)
#define QUALIFICATION_RTM	BIT(16)
#define DEBUG_EXCEPTION		INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_DB)

GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(split_lock, "", "lock incl (%rbx)");

static void use_debug_controls(void)
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
}

/* Pending debug exceptions that the entry finds are delivered, and exit. */
static void expect_pending_exits(u64 pending, u64 qualification)
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & ~BIT(12), DEBUG_EXCEPTION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & (QUALIFICATION_BLD | QUALIFICATION_RTM),
		  qualification);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
}

/* --- bus locks ---------------------------------------------------------------------------- */

#define BUS_LOCKS	VMX, CPU(BUS_LOCK_DETECT), DEBUG_CONTROLS

static void lock_the_bus_at_cpl_3(void)
{
	use_debug_controls();
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_BLD);
	guest_to_user_mode();
	guest_regs()->rbx = (u64)guest_memory + 62;
}

CASE(bus_lock_is_a_debug_exception, PROVES("exit-qualifications:exception.db.bld"),
     NEEDS(BUS_LOCKS))
{
	lock_the_bus_at_cpl_3();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	REQUIRE(enter_at_instruction(&guest_split_lock), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & ~BIT(12), DEBUG_EXCEPTION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & QUALIFICATION_BLD, QUALIFICATION_BLD);
	/* It is a trap: 20.3.1.6. */
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_split_lock.end);
}

/* Without the bit in IA32_DEBUGCTL, or without a bus lock, there is none. */
CASE(no_bus_lock_no_debug_exception, PROVES("exit-qualifications:exception.db.bld"),
     NEEDS(BUS_LOCKS))
{
	lock_the_bus_at_cpl_3();
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	EXPECT(enter_at_instruction(&guest_split_lock), GUEST_DONE);
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_BLD);
	guest_regs()->rbx = (u64)guest_memory;
	EXPECT(enter_at_instruction(&guest_split_lock), GUEST_DONE);
}

CASE(pending_bus_lock_is_delivered, PROVES("field-formats:pending_debug.bld"), NEEDS(BUS_LOCKS))
{
	expect_pending_exits(PENDING_BLD | PENDING_ENABLED, QUALIFICATION_BLD);
	expect_pending_exits(BIT(0) | PENDING_ENABLED, 0);
}

/* The exit for the bus lock comes first, and keeps the debug exception: 30.3.4. */
CASE(pending_bus_lock_is_saved, PROVES("field-formats:pending_debug.bld"),
     NEEDS(BUS_LOCKS, PROC2(VMM_BUS_LOCK_DETECTION)))
{
	lock_the_bus_at_cpl_3();
	vmcs_set_control(CONTROL_PROC2_VMM_BUS_LOCK_DETECTION);
	REQUIRE(enter_at_instruction(&guest_split_lock), OUTCOME_EXIT(EXIT_BUS_LOCK));
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BLD | PENDING_ENABLED);
}

/* --- transactions ------------------------------------------------------------------------- */

#define DR7_RTM		BIT(11)
#define DEBUGCTL_RTM	BIT(15)

/* XBEGIN with a fallback address behind the region; the read in it is watched. */
extern const u8 fallback[];
GUEST_CODE(transaction, "", ".byte 0xc7, 0xf8; .long fallback - 1f; 1: movq (%rbx), %rax;"
	   ".byte 0x0f, 0x01, 0xd5\n.globl fallback\nfallback: cpuid");

/* The region is aborted: the exception is one of XBEGIN. */
CASE(debug_exception_in_a_transaction, PROVES("exit-qualifications:exception.db.rtm"),
     NEEDS(VMX, CPU(RTM), DEBUG_CONTROLS))
{
	if (wrmsr_safe(IA32_DEBUGCTL, DEBUGCTL_RTM) != OUTCOME_DONE)
		case_skip("IA32_DEBUGCTL bit 15 (RTM)");
	wrmsr(IA32_DEBUGCTL, 0);
	use_debug_controls();
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_RTM);
	/* DR0: reads and writes of 8 bytes. */
	vmwrite(GUEST_DR7, DR7_FIXED | DR7_RTM | 0xb0001);
	write_dr0((u64)guest_memory);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	guest_regs()->rbx = (u64)guest_memory;
	REQUIRE(enter_at_instruction(&guest_transaction), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	write_dr0(0);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & ~BIT(12), DEBUG_EXCEPTION);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & QUALIFICATION_RTM, QUALIFICATION_RTM);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_transaction.at);
}

CASE(pending_exception_of_a_transaction, PROVES("field-formats:pending_debug.rtm"),
     NEEDS(VMX, CPU(RTM)))
{
	expect_pending_exits(PENDING_RTM | PENDING_ENABLED, QUALIFICATION_RTM);
}

CASE(monitor_trap_on_xbegin, PROVES("interruptibility:mtf.xbegin"),
     NEEDS(VMX, CPU(RTM), PROC1(MONITOR_TRAP_FLAG)))
{
	vmcs_set_control(CONTROL_PROC1_MONITOR_TRAP_FLAG);
	guest_regs()->rbx = (u64)guest_memory;
	REQUIRE(enter_at_instruction(&guest_transaction), OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)fallback);
}

/* --- time limits -------------------------------------------------------------------------- */

#define TIMEOUT			VMX, PROC2(INSTRUCTION_TIMEOUT), DEBUG_CONTROLS
#define CONTEXT_IS_INVALID	BIT(0)
#define NMI_UNBLOCKING		BIT(12)

/*
 * The handler of #DB has a stack of its own, so each delivery writes to the same place; a
 * breakpoint of DR0 watches that. The first debug exception is one that the entry finds pending.
 */
static u64 *loop_without_boundary(void)
{
	u64 *stack = page_alloc();

	guest_handlers_start()[VECTOR_DB].ist = 4;
	this_cpu()->tss.ist[3] = (u64)stack + PAGE_SIZE;
	use_debug_controls();
	vmcs_set_control(CONTROL_PROC2_INSTRUCTION_TIMEOUT);
	vmwrite(INSTRUCTION_TIMEOUT_CONTROL, 100000);
	/* DR0: writes of 8 bytes, to where SS goes. */
	write_dr0((u64)stack + PAGE_SIZE - 8);
	vmwrite(GUEST_DR7, DR7_FIXED | 0x90001);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	return stack;
}

CASE(endless_delivery_exits, PROVES("exit-reasons:75"), NEEDS(TIMEOUT))
{
	loop_without_boundary();
	EXPECT(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_INSTRUCTION_TIMEOUT));
	write_dr0(0);
}

/* With bit 0 clear the guest is as it was: without the breakpoint the handler runs. */
CASE(guest_goes_on_if_its_context_is_valid,
     PROVES("exit-qualifications:instruction_timeout.invalid_context"), NEEDS(TIMEOUT))
{
	loop_without_boundary();
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_INSTRUCTION_TIMEOUT));
	write_dr0(0);
	if (vmread(EXIT_QUALIFICATION) & CONTEXT_IS_INVALID)
		case_skip("an instruction timeout that leaves the context valid");
	vmwrite(GUEST_DR7, DR7_FIXED);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_ENABLED | BIT(0));
	EXPECT_HANDLER(resume(), VECTOR_DB);
}

/*
 * 30.2.3: no IRET has been executed, so bit 12 is 0 wherever it is defined, which it is not in the
 * delivery of an event. What would take an IRET so long is not architectural.
 */
CASE(no_iret_no_nmi_unblocking, PROVES("exit-qualifications:instruction_timeout.nmi_unblocking"),
     NEEDS(TIMEOUT))
{
	loop_without_boundary();
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_INSTRUCTION_TIMEOUT));
	write_dr0(0);
	if (vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31))
		case_skip("an instruction timeout outside of the delivery of an event");
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & NMI_UNBLOCKING, 0);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI, BLOCKING_BY_NMI);
}
