/*
 * User interrupts in VMX transitions: UINV, the vector of the interrupts that notify of user
 * interrupts, is loaded by an entry (29.3.2.1), saved by each exit (30.3.1), and cleared by one
 * that has a control for it (30.5.1). An external interrupt with that vector that a VM entry
 * injects is no interrupt then: the processor does what the notification asks for (29.6.1; volume
 * 3, 9.5.2).
 *
 * UINV is in bits 39:32 of IA32_UINTR_MISC; the rest of that MSR is not touched.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

/* Bits 31:0 are the size of a table of targets. */
#define MISC(uinv, size)	((u64)(uinv) << 32 | (size))

static void start(void)
{
	vmx_start();
	guest_handlers_start();
	wrmsr(IA32_UINTR_MISC, MISC(0x33, 0x11));
}

BEFORE_EACH_CASE(start);

#define UINTR	VMX, CPU(UINTR), PROC1(USE_MSR_BITMAPS)

GUEST_CODE(read_msr, "", "rdmsr; cpuid");
GUEST_CODE(write_msr, "", "wrmsr; cpuid");

static u64 read_in_guest(void)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guest_regs()->rcx = IA32_UINTR_MISC;
	REQUIRE(enter_at_instruction(&guest_read_msr), OUTCOME_EXIT(EXIT_CPUID));
	return guest_regs()->rdx << 32 | guest_regs()->rax;
}

static void write_in_guest(u64 value)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	audit_guest_changes(GUEST_UINV);
	guest_regs()->rcx = IA32_UINTR_MISC;
	guest_regs()->rax = value & BITS(31, 0);
	guest_regs()->rdx = value >> 32;
	REQUIRE(enter_at_instruction(&guest_write_msr), OUTCOME_EXIT(EXIT_CPUID));
}

CASE(uinv_is_loaded, PROVES("host-and-exit:entry.load.uinv"), NEEDS(UINTR, ENTRY_CTL(LOAD_UINV)))
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_UINV);
	vmwrite(GUEST_UINV, 0x51);
	EXPECT_EQ(read_in_guest(), MISC(0x51, 0x11));
}

CASE(uinv_is_not_loaded_without_control, PROVES("host-and-exit:entry.load.optional_keep"),
     NEEDS(UINTR, ENTRY_CTL(LOAD_UINV)))
{
	vmcs_clear_control(CONTROL_ENTRY_LOAD_UINV);
	vmwrite(GUEST_UINV, 0x51);
	EXPECT_EQ(read_in_guest(), MISC(0x33, 0x11));
}

/* 30.3.1: by every exit, with no control for it. */
CASE(uinv_is_saved, PROVES("host-and-exit:save.uinv"), NEEDS(UINTR, ENTRY_CTL(LOAD_UINV)))
{
	vmwrite(GUEST_UINV, 0);
	write_in_guest(MISC(0xf7, 0x22));
	EXPECT_EQ(vmread(GUEST_UINV), 0xf7);
}

CASE(uinv_is_cleared_for_the_host, PROVES("host-and-exit:host.uinv"),
     NEEDS(UINTR, EXIT_CTL(CLEAR_UINV)))
{
	vmcs_set_control(CONTROL_EXIT_CLEAR_UINV);
	write_in_guest(MISC(0xf7, 0x22));
	EXPECT_EQ(rdmsr(IA32_UINTR_MISC), MISC(0, 0x22));
}

CASE(uinv_of_the_guest_stays_without_control, PROVES("host-and-exit:host.optional_keep"),
     NEEDS(UINTR, EXIT_CTL(CLEAR_UINV)))
{
	vmcs_clear_control(CONTROL_EXIT_CLEAR_UINV);
	write_in_guest(MISC(0xf7, 0x22));
	EXPECT_EQ(rdmsr(IA32_UINTR_MISC), MISC(0xf7, 0x22));
}

/* --- what is pending behind an entry and an exit: 29.7.10, 30.9 ------------------------------ */

#define OWN_STACK	BIT(0)	/* IA32_UINTR_STACKADJUST holds a stack pointer, not a distance */
#define USER_VECTOR	5

GUEST_CODE(target, "", "cpuid");
GUEST_CODE(stui, "", "stui; cpuid");
GUEST_CODE(user_code, "", "nop; cpuid");
GUEST_CODE(user_handler, "", "nop; cpuid");

/* UIF is 1 from then on, and an interrupt is requested while nobody recognizes it. */
static void request(const u8 *handler)
{
	u8 *stack = page_alloc();

	wrmsr(IA32_UINTR_RR, 0);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_UINTR);
	REQUIRE(enter_at_instruction(&guest_stui), OUTCOME_EXIT(EXIT_CPUID));
	wrmsr(IA32_UINTR_HANDLER, (u64)handler);
	wrmsr(IA32_UINTR_STACKADJUST, (u64)(stack + PAGE_SIZE - 64) | OWN_STACK);
	wrmsr(IA32_UINTR_RR, BIT(USER_VECTOR));
}

/* The guest is in user mode, and has CR4.UINTR or not. */
static void enter_user(u64 uintr, const struct guest_code *where)
{
	request(guest_user_handler.at);
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~CR4_UINTR) | uintr);
	guest_to_user_mode();
	REQUIRE(enter_at_instruction(&guest_user_code), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)where->at + 1);
	EXPECT_EQ(rdmsr(IA32_UINTR_RR), uintr ? 0 : BIT(USER_VECTOR));
	wrmsr(IA32_UINTR_RR, 0);
}

CASE(pending_behind_an_entry, PROVES("host-and-exit:entry.uintr"), NEEDS(UINTR))
{
	enter_user(CR4_UINTR, &guest_user_handler);
}

CASE(not_recognized_without_cr4_uintr, PROVES("host-and-exit:entry.uintr"), NEEDS(UINTR))
{
	enter_user(0, &guest_user_code);
}

/* The host recognizes it, for CR4.UINTR = 1 and WRMSR; the entry ends that. */
CASE(entry_ends_recognition_without_cr4_uintr, PROVES("host-and-exit:entry.uintr"), NEEDS(UINTR))
{
	write_cr4(read_cr4() | CR4_UINTR);
	vmwrite(HOST_CR4, read_cr4());
	enter_user(0, &guest_user_code);
}

/* In the host, at CPL 3: keeps the vector, and leaves user mode. */
u64 user_interrupt_taken __used;
extern const u8 host_user_handler[];
asm(".pushsection .text\nhost_user_handler:\n\tpopq user_interrupt_taken\n\tud2\n\t.popsection");

static void user_nop(void *unused)
{
	(void)unused;
	asm volatile("nop; nop" : : : "memory");
}

#define NONE	(~0ull)

/* The vector of what comes in while the host is in user mode. */
static u64 taken_in_user_mode(void)
{
	user_interrupt_taken = NONE;
	REQUIRE(run_at_cpl(3, user_nop, NULL), OUTCOME_DONE, OUTCOME_UD);
	return user_interrupt_taken;
}

/* Behind an exit from `guest`. */
static void expect_taken_in_host(const struct guest_code *guest, u64 taken)
{
	REQUIRE(enter_at_instruction(guest), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(taken_in_user_mode(), taken);
	/* One that WRMSR makes known comes in: the handler is as it should be. */
	write_cr4(read_cr4() | CR4_UINTR);
	asm volatile("stui");
	wrmsr(IA32_UINTR_RR, BIT(USER_VECTOR));
	EXPECT_EQ(taken_in_user_mode(), USER_VECTOR);
	wrmsr(IA32_UINTR_RR, 0);
}

static void exit_to_host(u64 uintr, u64 taken)
{
	request(host_user_handler);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~CR4_UINTR);
	vmwrite(HOST_CR4, vmread(HOST_CR4) | uintr);
	expect_taken_in_host(&guest_target, taken);
}

CASE(pending_behind_an_exit, PROVES("host-and-exit:host.uintr"), NEEDS(UINTR))
{
	exit_to_host(CR4_UINTR, USER_VECTOR);
}

CASE(not_recognized_without_cr4_uintr_of_the_host, PROVES("host-and-exit:host.uintr"), NEEDS(UINTR))
{
	exit_to_host(0, NONE);
}

/* The guest recognizes it, at a CPL where it is not delivered; the exit ends that. */
CASE(exit_ends_recognition_without_cr4_uintr, PROVES("host-and-exit:host.uintr"), NEEDS(UINTR))
{
	request(host_user_handler);
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_UINTR);
	guest_regs()->rcx = IA32_UINTR_RR;
	guest_regs()->rax = BIT(USER_VECTOR);
	guest_regs()->rdx = 0;
	expect_taken_in_host(&guest_write_msr, NONE);
}

/* --- injection of the notification ------------------------------------------------------- */

/*
 * Volume 3, Table 9-1, Format of User Posted-Interrupt Descriptor: ON is bit 0, the requests bits
 * 127:64.
 */
struct posted_interrupts {
	u64 flags, requests;
};

static void inject_notification(u64 cr4)
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_UINV);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | cr4);
	vmwrite(GUEST_UINV, 0x51);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x51));
}

/* The requests are moved to IA32_UINTR_RR, ON is cleared, and no handler runs. */
CASE(notification_is_processed, PROVES("event-injection:inject.uintr"),
     NEEDS(UINTR, ENTRY_CTL(LOAD_UINV)))
{
	struct posted_interrupts *posted = page_alloc();

	posted->flags = BIT(0) | 0x51 << 16;
	posted->requests = 0x8000000000000005;
	wrmsr(IA32_UINTR_PD, physical(posted));
	wrmsr(IA32_UINTR_RR, 0);
	inject_notification(CR4_UINTR);
	REQUIRE(enter_at_instruction(&guest_target), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_target.at);
	EXPECT_EQ(posted->flags, 0x51 << 16);
	EXPECT_EQ(posted->requests, 0);
	EXPECT_EQ(rdmsr(IA32_UINTR_RR), 0x8000000000000005);
	wrmsr(IA32_UINTR_RR, 0);
}

/* With CR4.UINTR = 0 it is an interrupt like any other. */
CASE(interrupt_without_user_interrupts, PROVES("event-injection:inject.uintr"),
     NEEDS(UINTR, ENTRY_CTL(LOAD_UINV)))
{
	inject_notification(0);
	EXPECT_HANDLER(enter_at_instruction(&guest_target), 0x51);
}
