/*
 * The other processors of the tree. They wait for a start-up IPI until a case wants them, and
 * are put back there by INIT after it, whatever it made of them.
 *
 *	CASE(..., NEEDS(CPUS(2)))
 *	{
 *		EXPECT(smp_call(1, some_work, NULL), OUTCOME_DONE);
 *	}
 *
 * All of this is for code on the boot processor (index 0). The work itself may use ATTEMPT(),
 * attempt(), trap_on() and EXPECT() there: its traps and handlers are those of its own
 * processor. The failures of a case have no lock: EXPECT() only while the boot processor waits
 * in smp_call() or smp_wait(). REQUIRE(), case_end() and case_skip() end the case when the wait
 * is over.
 */
#ifndef CPU_SMP_H
#define CPU_SMP_H

#include "case.h"
#include "cpu/cpu.h"
#include "cpu/outcome.h"

/* The need for `n` processors in the tree, for NEEDS(). */
bool smp_has_cpus(u64 n);
#define CPUS(n)		{ .text = #n " processors", .met = smp_has_cpus, .arg = (n) }

/* The state in which a processor executed its first instruction: cpu/trampoline.S notes it. */
struct smp_start_state {
	u32 eax, ebx, ecx, edx, esi, edi, ebp, esp;
	u32 eflags, cr0, cr2, cr3, cr4, dr7;
	u16 cs, ds, es, ss, fs, gs;
	u16 idt_limit;
	u32 idt_base;
	u64 apic_base;		/* IA32_APIC_BASE; 0 without an APIC */
} __attribute__((packed));

/* How many processors the tree has. */
u32 smp_cpu_count(void);

/*
 * Starts every processor that does not run yet. One that does not come up fails and ends the
 * case.
 */
void smp_start(void);

/*
 * Puts processor `index` (from 1) into the state where it waits for a start-up IPI, by an INIT
 * IPI. What it did is lost, its local APIC mode is not.
 */
void smp_init(u32 index);

/*
 * Starts processor `index` (from 1) with the start-up vector of the `n`th page (from 0) that the
 * tree says is RAM below 640 KiB and above 32 KiB; `vector` is set to it. The state at the start
 * comes back. A processor that does not come up fails and ends the case.
 */
const struct smp_start_state *smp_start_one(u32 index, u32 n, u8 *vector);

/* The same for one that may not come up; returns whether it has. */
bool smp_try_start(u32 index);

/* Calls function(argument) on processor `index`, from 1; starts it when it does not run yet. */
void smp_begin(u32 index, void (*function)(void *argument), void *argument);

/* True when the work that smp_begin() gave to `index` is over. */
bool smp_done(u32 index);

/*
 * Waits for that. Outcome: done, or the first exception that nothing handled there. Work that
 * does not end within about a second fails and ends the case.
 */
outcome_t smp_wait(u32 index);

/* smp_begin() and smp_wait(); on index 0 the same as attempt(). */
outcome_t smp_call(u32 index, void (*function)(void *argument), void *argument);

/*
 * Processor 1 sends start-up IPIs of `vector` to this one, over and over: those that find it in no
 * state to wait for one are lost (11.4.4). Until smp_stop_startup_ipis(), whose outcome is that of
 * smp_wait().
 */
void smp_begin_startup_ipis(u8 vector);
outcome_t smp_stop_startup_ipis(void);

/* Waits until *flag is not 0, but not for ever; returns whether it is. On any processor. */
bool smp_wait_for(const volatile u32 *flag);

/* After each case: stops what runs. */
void smp_restore_baseline(void);

#endif
