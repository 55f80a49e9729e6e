/*
 * The time-stamp counter and the performance counters, as instructions see them: RDTSC, RDTSCP,
 * RDPID and RDPMC (volume 2), and 20.17 Time-Stamp Counter.
 *
 * A counter that goes back, that is behind on another processor, or that forgets what was written
 * to it is what a hypervisor makes of an offset it has got wrong. Nothing here depends on how
 * fast it counts: values are written far apart, and what happened before is compared with what
 * happened after. Who may execute the instructions is in guest/privilege.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/smp.h"

#define FACT(name)	PROVES("guest-instructions:" name)

#define GARBAGE		0xdeadbeef00000000ull
#define FAR		BIT(50)		/* no case runs for that many ticks: days */

/* Not before what comes before it in the program, nor after what comes after. */
static u64 ordered_rdtsc(void)
{
	asm volatile("lfence" : : : "memory");
	return rdtsc();
}

/* --- reading ---------------------------------------------------------------------- */

CASE(rdtsc_clears_upper_halves, FACT("rdtsc.upper"))
{
	u64 rax = GARBAGE, rdx = GARBAGE;

	EXPECT(ATTEMPT("rdtsc", "+a" (rax), "+d" (rdx)), OUTCOME_DONE);
	EXPECT_EQ(rax >> 32, 0);
	EXPECT_EQ(rdx >> 32, 0);
}

CASE(counter_never_goes_back, FACT("rdtsc.mono"))
{
	u64 before = ordered_rdtsc(), first = before, now = before;
	u32 i;

	for (i = 0; i < 1000; i++, before = now) {
		now = ordered_rdtsc();
		if (now < before)
			break;
	}
	EXPECT_TRUE(now >= before);
	EXPECT_TRUE(now > first);
}

CASE(rdtscp, FACT("rdtscp.ecx"), NEEDS(CPU(RDTSCP)))
{
	u64 rax = GARBAGE, rcx = GARBAGE, rdx = GARBAGE, before;

	wrmsr(IA32_TSC_AUX, 0x89abcdef);
	before = ordered_rdtsc();
	EXPECT(ATTEMPT("rdtscp", "+a" (rax), "+c" (rcx), "+d" (rdx)), OUTCOME_DONE);
	EXPECT_EQ(rcx, 0x89abcdef);
	EXPECT_EQ(rax >> 32, 0);
	EXPECT_EQ(rdx >> 32, 0);
	EXPECT_TRUE((rdx << 32 | rax) >= before);
	EXPECT_TRUE(ordered_rdtsc() >= (rdx << 32 | rax));
}

CASE(rdtscp_is_absent, FACT("rdtscp.ud"), NEEDS(NO_CPU(RDTSCP)))
{
	EXPECT(ATTEMPT("rdtscp", : : "rax", "rcx", "rdx"), OUTCOME_UD);
}

#define RDPID_RAX	".byte 0xf3, 0x0f, 0xc7, 0xf8"

CASE(rdpid, FACT("rdpid.ud"), NEEDS(CPU(RDPID)))
{
	u64 rax = ~0ull;

	wrmsr(IA32_TSC_AUX, 0x76543210);
	EXPECT(ATTEMPT(RDPID_RAX, "+a" (rax)), OUTCOME_DONE);
	EXPECT_EQ(rax, 0x76543210);
}

CASE(rdpid_is_absent, FACT("rdpid.ud"), NEEDS(NO_CPU(RDPID)))
{
	EXPECT(ATTEMPT(RDPID_RAX, : : "rax"), OUTCOME_UD);
}

/* --- two processors ----------------------------------------------------------------- */

static void note_tsc(void *at)
{
	*(u64 *)at = ordered_rdtsc();
}

/* What the other one reads between two reads of this one is between them. */
CASE(counters_of_two_processors, FACT("rdtsc.sync"), NEEDS(CPUS(2)))
{
	u64 before, there, after;
	u32 i;

	smp_start();
	for (i = 0; i < 20; i++) {
		before = ordered_rdtsc();
		REQUIRE(smp_call(1, note_tsc, &there), OUTCOME_DONE);
		after = ordered_rdtsc();
		if (!EXPECT_TRUE(before <= there) || !EXPECT_TRUE(there <= after))
			case_note("ticks", "%#lx before, %#lx there, %#lx after", before, there,
				  after);
	}
}

/* --- writing: 20.17.3 Time-Stamp Counter Adjustment ----------------------------------- */

/*
 * The counter as if it had not been written: what has passed since `written` is added to
 * `before`.
 */
static void put_back(u64 before, u64 written)
{
	wrmsr(IA32_TSC, before + rdtsc() - written);
}

CASE(counter_goes_on_from_what_is_written, FACT("msr.tsc_write"))
{
	u64 before = ordered_rdtsc(), written = before + FAR, now;

	EXPECT(wrmsr_safe(IA32_TSC, written), OUTCOME_DONE);
	now = ordered_rdtsc();
	EXPECT_TRUE(now >= written && now < written + FAR);
	EXPECT_TRUE(rdmsr(IA32_TSC) >= now && rdmsr(IA32_TSC) < written + FAR);
	put_back(before, written);
	EXPECT_TRUE(ordered_rdtsc() < written);
}

CASE(counter_can_be_set_to_0, FACT("msr.tsc_write"))
{
	u64 before = ordered_rdtsc();

	wrmsr(IA32_TSC, before + FAR);
	EXPECT(wrmsr_safe(IA32_TSC, 0), OUTCOME_DONE);
	EXPECT_TRUE(ordered_rdtsc() < FAR);
	put_back(before, 0);
}

CASE(writing_the_counter_adjusts, FACT("msr.tsc_write"), NEEDS(CPU(TSC_ADJUST)))
{
	u64 adjust = rdmsr(IA32_TSC_ADJUST), before = ordered_rdtsc(), moved;

	wrmsr(IA32_TSC, before + FAR);
	moved = rdmsr(IA32_TSC_ADJUST) - adjust;
	/* Less by the ticks between the read and the write. */
	EXPECT_TRUE(moved <= FAR && moved > FAR / 2);
	wrmsr(IA32_TSC_ADJUST, adjust);
}

CASE(adjusting_moves_the_counter, FACT("msr.tsc_adjust"), NEEDS(CPU(TSC_ADJUST)))
{
	u64 adjust = rdmsr(IA32_TSC_ADJUST), before = ordered_rdtsc(), now;

	EXPECT(wrmsr_safe(IA32_TSC_ADJUST, adjust + FAR), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_TSC_ADJUST), adjust + FAR);
	now = ordered_rdtsc();
	EXPECT_TRUE(now >= before + FAR && now < before + 2 * FAR);
	EXPECT(wrmsr_safe(IA32_TSC_ADJUST, adjust), OUTCOME_DONE);
	now = ordered_rdtsc();
	EXPECT_TRUE(now >= before && now < before + FAR);
}

/* --- performance counters ---------------------------------------------------------------- */

CASE(rdpmc_of_no_counter, FACT("rdpmc.bad"))
{
	EXPECT(ATTEMPT("rdpmc", : "c" (0x00ffffff) : "rax", "rdx"), OUTCOME_GP0);
	EXPECT(ATTEMPT("rdpmc", : "c" (0xffffffff) : "rax", "rdx"), OUTCOME_GP0);
}
