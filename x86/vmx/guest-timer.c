/*
 * The guest timer: 28.5.10. With "APIC-timer virtualization" a guest that writes IA32_TSC_DEADLINE
 * arms a timer of the processor, not the APIC's; when the TSC reaches the guest deadline, a
 * virtual interrupt of the virtual-timer vector becomes pending in the virtual APIC, without an
 * exit.
 *
 * The value that the guest has written is kept in the guest-deadline shadow, which RDMSR returns
 * (28.3); the guest deadline itself is counted by the real TSC. VM entries load it (29.3.2.5), VM
 * exits save it (30.3.4) and disarm the timer (30.5.5).
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"
#include "vmx/virtual_apic.h"

#define VECTOR		0x51	/* the virtual-timer vector */
#define HIGHER		0x61
#define FAR		BIT(50)	/* TSC cycles: no case waits for that */
#define OFFSET		0x123456789ull
#define VIRR		APIC_INTERRUPT_REQUEST

#define GUEST_TIMER	VMX, VIRTUAL_INTERRUPTS, PROC1(USE_MSR_BITMAPS), \
			PROC3(APIC_TIMER_VIRTUALIZATION)

static struct virtual_apic apic;

static void start(void)
{
	guest_handlers_begin();
	virtual_apic_start(&apic);
	virtual_apic_deliver();
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_clear_control(CONTROL_PROC1_RDTSC_EXITING);
	vmcs_set_control(CONTROL_PROC3_APIC_TIMER_VIRTUALIZATION);
	vmwrite(VIRTUAL_TIMER_VECTOR, VECTOR);
	vmwrite(GUEST_DEADLINE, 0);
	vmwrite(GUEST_DEADLINE_SHADOW, 0);
}

BEFORE_EACH_CASE(start);

GUEST_CODE(write_deadline, "", "wrmsr");
GUEST_CODE(read_deadline, "", "rdmsr");
GUEST_CODE(nop, "", "nop");
/* Until RCX is 0. */
GUEST_CODE(spin, "", "1: pause; loop 1b");

#define SPINS		1000000

static outcome_t go(const struct guest_code *code, u64 rflags)
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | rflags);
	return enter_at_instruction(code);
}

static outcome_t write_in_guest(u64 deadline, u64 rflags)
{
	guest_regs()->rcx = IA32_TSC_DEADLINE;
	guest_regs()->rax = deadline & BITS(31, 0);
	guest_regs()->rdx = deadline >> 32;
	return go(&guest_write_deadline, rflags);
}

static u64 read_in_guest(void)
{
	guest_regs()->rcx = IA32_TSC_DEADLINE;
	REQUIRE(go(&guest_read_deadline, 0), GUEST_DONE);
	return guest_regs()->rdx << 32 | (guest_regs()->rax & BITS(31, 0));
}

/* The event has taken place, and the guest cannot take the interrupt yet. */
static void expect_pending(u8 rvi)
{
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, VECTOR));
	EXPECT_EQ(FIELD(vmread(GUEST_INTERRUPT_STATUS), 7, 0), rvi);
	EXPECT_EQ(vmread(GUEST_DEADLINE), 0);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), 0);
}

static void expect_nothing_pending(void)
{
	EXPECT_FALSE(virtual_apic_vector(&apic, VIRR, VECTOR));
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), 0);
}

/* --- WRMSR and RDMSR: 28.3 ---------------------------------------------------------------- */

CASE(write_arms_the_timer, PROVES("interruptibility:gtimer.arm", "host-and-exit:save.deadline"),
     NEEDS(GUEST_TIMER))
{
	u64 deadline = rdtsc() + FAR, before = 0;
	bool readable = rdmsr_safe(IA32_TSC_DEADLINE, &before) == OUTCOME_DONE;

	REQUIRE(write_in_guest(deadline, RFLAGS_IF), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), deadline);
	EXPECT_EQ(vmread(GUEST_DEADLINE), deadline);
	expect_nothing_pending();
	EXPECT_EQ(read_in_guest(), deadline);
	/* The APIC's own timer has nothing to do with it. */
	if (readable)
		EXPECT_EQ(rdmsr(IA32_TSC_DEADLINE), before);
}

/* The guest counts by its own TSC, the deadline by the real one. */
CASE(write_converts_the_deadline, PROVES("interruptibility:gtimer.arm"),
     NEEDS(GUEST_TIMER, PROC1(USE_TSC_OFFSETTING)))
{
	u64 deadline = rdtsc() + FAR + OFFSET;

	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmwrite(TSC_OFFSET, OFFSET);
	REQUIRE(write_in_guest(deadline, RFLAGS_IF), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), deadline);
	EXPECT_EQ(vmread(GUEST_DEADLINE), deadline - OFFSET);
}

/* A guest whose TSC is twice as fast. */
CASE(write_converts_the_scaled_deadline, PROVES("interruptibility:gtimer.arm"),
     NEEDS(GUEST_TIMER, PROC1(USE_TSC_OFFSETTING), PROC2(USE_TSC_SCALING)))
{
	u64 deadline = (2 * (rdtsc() + FAR) & ~1ull) + OFFSET;

	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmcs_set_control(CONTROL_PROC2_USE_TSC_SCALING);
	vmwrite(TSC_OFFSET, OFFSET);
	vmwrite(TSC_MULTIPLIER, 2ull << 48);
	REQUIRE(write_in_guest(deadline, RFLAGS_IF), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), deadline);
	EXPECT_EQ(vmread(GUEST_DEADLINE), (deadline - OFFSET) / 2);
}

CASE(write_of_0_disarms, PROVES("interruptibility:gtimer.arm"), NEEDS(GUEST_TIMER))
{
	vmwrite(GUEST_DEADLINE, rdtsc() + FAR);
	vmwrite(GUEST_DEADLINE_SHADOW, 5);
	REQUIRE(write_in_guest(0, RFLAGS_IF), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), 0);
	EXPECT_EQ(vmread(GUEST_DEADLINE), 0);
	expect_nothing_pending();
}

CASE(write_of_a_past_deadline, PROVES("interruptibility:gtimer.past"), NEEDS(GUEST_TIMER))
{
	REQUIRE(write_in_guest(1, 0), GUEST_DONE);
	expect_pending(VECTOR);
}

/* With RFLAGS.IF = 1 it is delivered behind the WRMSR. */
CASE(write_of_a_past_deadline_interrupts, PROVES("interruptibility:gtimer.past"),
     NEEDS(GUEST_TIMER))
{
	EXPECT_HANDLER(write_in_guest(1, RFLAGS_IF), VECTOR);
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(0, VECTOR));
	EXPECT_EQ(guest_frame(false)->rip, (u64)guest_write_deadline.at + 2);
}

/* --- the event: 28.5.10.2 ----------------------------------------------------------------- */

/* A deadline that no entry to come is late for, however long its audit takes. */
static u64 soon(void)
{
	u64 before = rdtsc(), now;

	REQUIRE(go(&guest_nop, 0), GUEST_DONE);
	now = rdtsc();
	return now + 4 * (now - before) + 1000000;
}

CASE(event_at_entry, PROVES("interruptibility:gtimer.event", "host-and-exit:entry.load.deadline"),
     NEEDS(GUEST_TIMER))
{
	vmwrite(GUEST_DEADLINE, 1);
	vmwrite(GUEST_DEADLINE_SHADOW, 5);
	guest_regs()->rcx = 10;
	REQUIRE(go(&guest_spin, 0), GUEST_DONE);
	expect_pending(VECTOR);
}

CASE(event_leaves_a_higher_rvi, PROVES("interruptibility:gtimer.event"), NEEDS(GUEST_TIMER))
{
	virtual_apic_set_vector(&apic, VIRR, HIGHER);
	vmwrite(GUEST_INTERRUPT_STATUS, INTERRUPT_STATUS(HIGHER, 0));
	vmwrite(GUEST_DEADLINE, 1);
	guest_regs()->rcx = 10;
	REQUIRE(go(&guest_spin, 0), GUEST_DONE);
	expect_pending(HIGHER);
}

/* The TSC reaches the deadline while the guest runs. */
CASE(event_interrupts_the_guest, PROVES("interruptibility:gtimer.event",
     "host-and-exit:entry.load.deadline"), NEEDS(GUEST_TIMER))
{
	u64 deadline = soon();

	vmwrite(GUEST_DEADLINE, deadline);
	vmwrite(GUEST_DEADLINE_SHADOW, 5);
	guest_regs()->rcx = 100 * SPINS;
	EXPECT_HANDLER(go(&guest_spin, RFLAGS_IF), VECTOR);
	EXPECT_TRUE(rdtsc() >= deadline);
	EXPECT_EQ(vmread(GUEST_DEADLINE), 0);
	EXPECT_EQ(vmread(GUEST_DEADLINE_SHADOW), 0);
}

/* --- entries and exits -------------------------------------------------------------------- */

CASE(deadline_is_loaded_and_saved, PROVES("host-and-exit:entry.load.deadline",
     "host-and-exit:save.deadline"), NEEDS(GUEST_TIMER))
{
	u64 deadline = rdtsc() + FAR;

	vmwrite(GUEST_DEADLINE, deadline);
	REQUIRE(go(&guest_nop, RFLAGS_IF), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE), deadline);
	expect_nothing_pending();
}

/*
 * The control is 0 for the second entry, so that it loads no deadline: what its exit saves, and
 * what the guest meets while the first deadline passes, is what the first exit has left.
 */
CASE(exit_disarms_the_timer, PROVES("host-and-exit:host.deadline"), NEEDS(GUEST_TIMER))
{
	u64 deadline = soon();

	vmwrite(GUEST_DEADLINE, deadline);
	REQUIRE(go(&guest_nop, 0), GUEST_DONE);
	while (rdtsc() < deadline)
		pause();
	vmcs_clear_control(CONTROL_PROC3_APIC_TIMER_VIRTUALIZATION);
	guest_regs()->rcx = 100;
	REQUIRE(go(&guest_spin, 0), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_DEADLINE), 0);
	expect_nothing_pending();
}
