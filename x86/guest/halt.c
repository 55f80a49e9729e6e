/*
 * Instructions that wait: HLT, MONITOR and MWAIT, PAUSE, TPAUSE (volume 2; 11.10 of volume 3).
 *
 * What matters is what ends the wait, and what the saved instruction pointer says then: behind
 * HLT when it was in the halt state, at HLT when the interrupt came first. A hypervisor puts the
 * virtual processor to sleep here, and an interrupt that is lost at this moment is lost for good:
 * every wait below ends only if the wake-up works, and one that does not is reported as silence.
 * No case measures time.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define FACT(name)	PROVES("guest-instructions:" name)

#define VECTOR_WAKE	0x50

static struct {
	volatile u32 count;
	volatile u64 rip;
	u64 skip;	/* not 0: where the handler returns to */
} wake;

static void on_wake(struct trap_frame *frame)
{
	if (!wake.count++)
		wake.rip = frame->rip;
	if (wake.skip)
		frame->rip = wake.skip;
	apic_eoi();
}

/* An interrupt of VECTOR_WAKE is pending for this processor. */
static void send_wake(void)
{
	apic_pend(VECTOR_WAKE);
}

static void clear(void)
{
	wake.count = 0;
	wake.rip = wake.skip = 0;
}
BEFORE_EACH_CASE(clear);

INSTRUCTION(sti_hlt, "sti", "hlt; cli");
INSTRUCTION(enabled_hlt, "sti; nop", "hlt; cli");
INSTRUCTION(plain_hlt, "", "hlt");
INSTRUCTION(stepped_hlt, "pushfq; orl $0x100, (%rsp); popfq", "hlt");

#define HLT_LENGTH	1

/* --- HLT -------------------------------------------------------------------------- */

/* STI blocks interrupts until HLT has begun: the wake-up cannot come too early. */
CASE(pending_interrupt_ends_sti_hlt, FACT("hlt.sti"), NEEDS(APIC))
{
	trap_on(VECTOR_WAKE, on_wake);
	send_wake();
	EXPECT(attempt(sti_hlt, NULL), OUTCOME_DONE);
	EXPECT_EQ(wake.count, 1);
	EXPECT_EQ(wake.rip, (u64)sti_hlt_at + HLT_LENGTH);
}

/* Taken before HLT, which then would wait for another one: the handler returns behind it. */
CASE(pending_interrupt_comes_before_hlt, FACT("hlt.pending"), NEEDS(APIC))
{
	trap_on(VECTOR_WAKE, on_wake);
	wake.skip = (u64)enabled_hlt_at + HLT_LENGTH;
	send_wake();
	EXPECT(attempt(enabled_hlt, NULL), OUTCOME_DONE);
	EXPECT_EQ(wake.count, 1);
	EXPECT_EQ(wake.rip, (u64)enabled_hlt_at);
}

#define LVT_PERIODIC	BIT(17)

/* The timer fires again and again, so that it does not matter how long anything takes. */
CASE(interrupt_ends_hlt, FACT("hlt.wake_irq"), NEEDS(APIC))
{
	trap_on(VECTOR_WAKE, on_wake);
	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_WAKE);
	apic_write(APIC_TIMER_INITIAL_COUNT, 1000000);
	EXPECT(attempt(sti_hlt, NULL), OUTCOME_DONE);
	apic_write(APIC_TIMER_INITIAL_COUNT, 0);
	EXPECT_TRUE(wake.count >= 1);
	EXPECT_EQ(wake.rip, (u64)sti_hlt_at + HLT_LENGTH);
}

/*
 * On the other processor, with RFLAGS.IF = 0 and an interrupt pending: HLT again and again, which
 * NMIs alone may end. That is told by counters: an NMI that has ended an HLT says so by its RIP,
 * and there may be no more ends than NMIs, however long each takes to come.
 */
static struct {
	volatile u32 begun, stop;
	volatile u32 ends;	/* of HLT */
	volatile u32 nmis;	/* all, also those that come before HLT or behind it */
	volatile u32 wakes;	/* NMIs with the RIP behind HLT */
} halts;

static void on_nmi_that_wakes(struct trap_frame *frame)
{
	halts.wakes += frame->rip == (u64)plain_hlt_next;
	halts.nmis++;
}

static void halt_with_interrupts_off(void *unused)
{
	trap_on(VECTOR_WAKE, on_wake);
	trap_on(VECTOR_NMI, on_nmi_that_wakes);
	send_wake();
	halts.begun = 1;
	while (!halts.stop) {
		plain_hlt(unused);
		halts.ends++;
	}
}

/* Each NMI has been handled before the next one is sent, so that none is lost. */
static void nmi_to_the_other(volatile u32 *count)
{
	u32 before = *count;

	apic_send(cpu_block(1)->apic_id, ICR_NMI | ICR_ASSERT);
	while (*count == before)
		pause();
}

#define NMIS	20

/* One NMI more ends the HLT in which the last one before `stop` may have left the processor. */
static void halt_the_other(void)
{
	u32 i;

	__builtin_memset(&halts, 0, sizeof(halts));
	smp_begin(1, halt_with_interrupts_off, NULL);
	REQUIRE_TRUE(smp_wait_for(&halts.begun));
	for (i = 0; i < NMIS; i++)
		nmi_to_the_other(&halts.nmis);
	halts.stop = 1;
	while (!smp_done(1))
		nmi_to_the_other(&halts.nmis);
	EXPECT(smp_wait(1), OUTCOME_DONE);
}

CASE(masked_interrupt_does_not_end_hlt, FACT("hlt.if0"), NEEDS(APIC, CPUS(2)))
{
	halt_the_other();
	EXPECT_TRUE(halts.ends <= halts.wakes);
	EXPECT_EQ(wake.count, 0);
}

CASE(nmi_ends_hlt, FACT("hlt.nmi"), NEEDS(APIC, CPUS(2)))
{
	halt_the_other();
	EXPECT_TRUE(halts.ends >= 1);
	EXPECT_TRUE(halts.wakes >= 1);
}

static struct {
	outcome_t outcome;
	u64 rip, dr6;
	volatile u32 over;
} step;

static void step_over_hlt(void *unused)
{
	trap_on(VECTOR_NMI, on_nmi_that_wakes);
	step.outcome = attempt(stepped_hlt, unused);
	step.rip = last_trap()->frame.rip;
	step.dr6 = last_trap()->dr6;
	step.over = 1;
}

/* The trap belongs to HLT itself and ends the wait at once: no interrupt is there to do it. */
CASE(single_step_over_hlt, FACT("hlt.tf"), NEEDS(APIC, CPUS(2)))
{
	step.over = 0;
	smp_begin(1, step_over_hlt, NULL);
	if (!EXPECT_TRUE(smp_wait_for(&step.over)))
		nmi_to_the_other(&halts.nmis);
	EXPECT(smp_wait(1), OUTCOME_DONE);
	EXPECT(step.outcome, OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(step.rip, (u64)stepped_hlt_at + HLT_LENGTH);
	EXPECT_EQ(step.dr6 & BIT(14), BIT(14));
}

/* --- MONITOR and MWAIT ----------------------------------------------------------------- */

static outcome_t monitor(u64 address, u32 extensions)
{
	return ATTEMPT("monitor", : "a" (address), "c" (extensions), "d" (0));
}

static outcome_t mwait(u32 extensions)
{
	return ATTEMPT("mwait", : "a" (0), "c" (extensions) : "memory");
}

CASE(monitor_and_mwait_are_absent, FACT("mwait.ud"), NEEDS(NO_CPU(MONITOR)))
{
	EXPECT(monitor((u64)&wake, 0), OUTCOME_UD);
	EXPECT(mwait(0), OUTCOME_UD);
}

CASE(extensions_that_do_not_exist, FACT("mwait.ecx"), NEEDS(CPU(MONITOR)))
{
	EXPECT(monitor((u64)&wake, 1), OUTCOME_GP0);
	EXPECT(monitor((u64)&wake, BIT(31)), OUTCOME_GP0);
	EXPECT(mwait(BIT(31)), OUTCOME_GP0);
	EXPECT(mwait(BIT(15)), OUTCOME_GP0);
}

/*
 * Nothing is armed at the start of a case: an exception or interrupt, or a store, has ended it.
 */
CASE(mwait_without_monitor, FACT("mwait.unarmed"), NEEDS(CPU(MONITOR)))
{
	EXPECT(mwait(0), OUTCOME_DONE);
	EXPECT(mwait(0), OUTCOME_DONE);
}

CASE(monitor_checks_its_address, FACT("mwait.monitor_addr"), NEEDS(CPU(MONITOR)))
{
	struct probe probe;

	EXPECT(monitor(0x8000000000000000, 0), OUTCOME_GP0);
	EXPECT(ATTEMPT(".byte 0x36; monitor", : "a" (0x8000000000000000), "c" (0), "d" (0)),
	       OUTCOME_FAULT(VECTOR_SS, 0), OUTCOME_GP0);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & PTE_A, 0);
	EXPECT(monitor(probe.linear, 0), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A);
	EXPECT(monitor(probe.linear + PAGE_SIZE, 0), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	/* Not to be waited for by another case. */
	*probe.page = 0;
}

static volatile u64 line[8] __attribute__((aligned(64)));

static volatile u32 about_to_wait;

/* Only the store lets it out, however often anything else ends MWAIT. */
static void wait_for_a_store(void *unused)
{
	(void)unused;
	while (!line[0]) {
		monitor((u64)line, 0);
		if (line[0])
			break;
		about_to_wait = 1;
		mwait(0);
	}
}

CASE(store_ends_mwait, FACT("mwait.store"), NEEDS(CPU(MONITOR), CPUS(2)))
{
	line[0] = 0;
	about_to_wait = 0;
	smp_begin(1, wait_for_a_store, NULL);
	REQUIRE_TRUE(smp_wait_for(&about_to_wait));
	line[0] = 1;
	EXPECT(smp_wait(1), OUTCOME_DONE);
}

static bool mwait_breaks_on_interrupt(u64 unused)
{
	(void)unused;
	return feature(FEATURE_MONITOR) && cpuid(0).eax >= 5 && (cpuid(5).ecx & 3) == 3;
}

#define MWAIT_BREAK	{ "interrupts as break events of MWAIT", mwait_breaks_on_interrupt, 0, 0 }

CASE(masked_interrupt_ends_mwait, FACT("mwait.irq"), NEEDS(APIC, MWAIT_BREAK))
{
	trap_on(VECTOR_WAKE, on_wake);
	send_wake();
	line[0] = 0;
	EXPECT(monitor((u64)line, 0), OUTCOME_DONE);
	EXPECT(mwait(1), OUTCOME_DONE);
	EXPECT_EQ(wake.count, 0);
	line[0] = 1;
	interrupts_in();
	EXPECT_EQ(wake.count, 1);
}

/* --- PAUSE and TPAUSE ---------------------------------------------------------------------- */

CASE(pause_changes_nothing, FACT("pause.nop"))
{
	u64 rax = 0x1122334455667788, rcx = ~rax, flags;

	asm volatile("pushq $0x8d7; popfq; pause; pushfq; popq %0"
		     : "=&r" (flags), "+a" (rax), "+c" (rcx) : : "cc");
	EXPECT_EQ(flags, 0x8d7);
	EXPECT_EQ(rax, 0x1122334455667788);
	EXPECT_EQ(rcx, ~0x1122334455667788ull);
}

#define TPAUSE_ECX	".byte 0x66, 0x0f, 0xae, 0xf1"

/* A deadline that has passed ends it at once, and not by the limit that the supervisor sets. */
CASE(tpause_with_a_deadline_in_the_past, FACT("umwait.tsc"), NEEDS(CPU(WAITPKG)))
{
	u8 carry = 1;

	EXPECT(ATTEMPT("stc; " TPAUSE_ECX, : "a" (0), "d" (0), "c" (0) : "cc"), OUTCOME_DONE);
	asm volatile("stc; " TPAUSE_ECX "; setc %0" : "=qm" (carry)
		     : "a" (0), "d" (0), "c" (1) : "cc");
	EXPECT_EQ(carry, 0);
}

CASE(tpause_state_that_does_not_exist, FACT("umwait.ecx"), NEEDS(CPU(WAITPKG)))
{
	EXPECT(ATTEMPT(TPAUSE_ECX, : "a" (0), "d" (0), "c" (2) : "cc"), OUTCOME_GP0);
	EXPECT(ATTEMPT(TPAUSE_ECX, : "a" (0), "d" (0), "c" (BIT(31)) : "cc"), OUTCOME_GP0);
}

CASE(tpause_is_absent, FACT("umwait.ecx"), NEEDS(NO_CPU(WAITPKG)))
{
	EXPECT(ATTEMPT(TPAUSE_ECX, : "a" (0), "d" (0), "c" (0) : "cc"), OUTCOME_UD);
}
