/*
 * CPUID beyond its answers: the instruction itself, what it hangs on, and what hangs on it.
 *
 * It is the one serializing instruction that every program may execute (11.3 Serializing
 * Instructions), it can be taken away from user mode (MSR_PLATFORM_INFO[31], "CPUID faulting"), it
 * has to say the same on every processor, and some of its flags are promises about clocks. What it
 * answers, leaf by leaf, is in guest/cpuid-basic.
 */
#include "case.h"
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"
#include "string.h"

#define FACT(name)	"guest-instructions:cpuid." name

#define MSR_PLATFORM_INFO		0xce
#define MSR_MISC_FEATURES_ENABLES	0x140
#define CPUID_FAULTING			BIT(0)	/* of MSR_MISC_FEATURES_ENABLES */

/* --- the instruction -------------------------------------------------------------- */

/* UD2 says where the instruction before it was over: `length` bytes from its start. */
#define LENGTH_CASE(id, length, bytes)						\
	INSTRUCTION(id, "xorl %eax, %eax; xorl %ecx, %ecx", bytes "; ud2");	\
	CASE(id##_has_##length##_bytes, PROVES(FACT("serialize")))		\
	{									\
		EXPECT(attempt(id, NULL), OUTCOME_UD);				\
		EXPECT_EQ(last_trap()->frame.rip, (u64)id##_at + (length));	\
	}

LENGTH_CASE(plain_cpuid, 2, "cpuid")
LENGTH_CASE(cpuid_with_operand_size, 3, ".byte 0x66, 0x0f, 0xa2")
LENGTH_CASE(cpuid_with_rex_w, 3, ".byte 0x48, 0x0f, 0xa2")
LENGTH_CASE(cpuid_with_four_prefixes, 6, ".byte 0x2e, 0x67, 0x66, 0x48, 0x0f, 0xa2")

/*
 * 11.1.3 Handling Self- and Cross-Modifying Code: what one linear address writes may be missing at
 * another one from which it has been fetched already, until a serializing instruction. Here the
 * constant right behind CPUID is written just before it.
 */
CASE(what_was_written_by_another_address_is_fetched, PROVES(FACT("serialize")))
{
	/* push %rbx; movb $n, (%rdi); xor %eax, %eax; cpuid; mov $n, %eax; pop %rbx; ret */
	static const u8 code[] = { 0x53, 0xc6, 0x07, 0, 0x31, 0xc0, 0x0f, 0xa2, 0xb8, 0, 0, 0, 0,
				   0x5b, 0xc3 };
	const u32 written_at = 3, constant_at = 9;
	struct probe probe;
	u8 *alias, n;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	alias = (u8 *)probe.page;
	memcpy(alias, code, sizeof(code));
	for (n = 1; n < 100; n++) {
		u32 (*run)(u8 *to) = (u32 (*)(u8 *))probe.linear;

		alias[written_at] = n;
		if (!EXPECT_EQ(run(alias + constant_at), n))
			break;
	}
}

/* --- CPUID faulting ---------------------------------------------------------------- */

static bool can_fault(u64 unused __maybe_unused)
{
	u64 value;

	return rdmsr_safe(MSR_PLATFORM_INFO, &value) == OUTCOME_DONE && value & BIT(31);
}
#define FAULTING	{ .text = "CPUID faulting", .met = can_fault }

static bool cannot_fault(u64 unused)
{
	return !can_fault(unused);
}
#define NO_FAULTING	{ .text = "no CPUID faulting", .met = cannot_fault }

static void ask(void *leaf)
{
	cpuid(*(u32 *)leaf);
}

CASE(faulting_stops_user_mode, PROVES(FACT("faulting")), NEEDS(FAULTING))
{
	static u32 leaves[] = { 0, 1, 0x80000000 };
	u64 before = rdmsr(MSR_MISC_FEATURES_ENABLES);
	u32 cpl, i;

	EXPECT(wrmsr_safe(MSR_MISC_FEATURES_ENABLES, before | CPUID_FAULTING), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(MSR_MISC_FEATURES_ENABLES), before | CPUID_FAULTING);
	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		for (cpl = 1; cpl <= 3; cpl++)
			EXPECT(run_at_cpl(cpl, ask, &leaves[i]), OUTCOME_GP0);
		EXPECT(attempt(ask, &leaves[i]), OUTCOME_DONE);
	}
	EXPECT(wrmsr_safe(MSR_MISC_FEATURES_ENABLES, before & ~CPUID_FAULTING), OUTCOME_DONE);
	EXPECT(run_at_cpl(3, ask, &leaves[0]), OUTCOME_DONE);
	wrmsr(MSR_MISC_FEATURES_ENABLES, before);
}

CASE(faulting_that_is_absent_cannot_be_enabled, PROVES(FACT("faulting")), NEEDS(NO_FAULTING))
{
	EXPECT(wrmsr_safe(MSR_MISC_FEATURES_ENABLES, CPUID_FAULTING), OUTCOME_GP0);
}

/* --- a flag that follows an MSR ----------------------------------------------------- */

#define MISC_ENABLE_MONITOR	BIT(18)

/* Bit 18 exists where it keeps what is written to it. */
static bool monitor_can_be_disabled(u64 unused __maybe_unused)
{
	u64 before, after = 0;
	bool kept;

	if (rdmsr_safe(IA32_MISC_ENABLE, &before) != OUTCOME_DONE ||
	    wrmsr_safe(IA32_MISC_ENABLE, before ^ MISC_ENABLE_MONITOR) != OUTCOME_DONE)
		return false;
	kept = rdmsr_safe(IA32_MISC_ENABLE, &after) == OUTCOME_DONE &&
	       after == (before ^ MISC_ENABLE_MONITOR);
	wrmsr_safe(IA32_MISC_ENABLE, before);
	return kept;
}
#define MONITOR_SWITCH	{ .text = "IA32_MISC_ENABLE[18]", .met = monitor_can_be_disabled }

CASE(monitor_flag_follows_misc_enable, PROVES(FACT("mwait_flag")), NEEDS(MONITOR_SWITCH))
{
	u64 before = rdmsr(IA32_MISC_ENABLE);

	wrmsr(IA32_MISC_ENABLE, before & ~MISC_ENABLE_MONITOR);
	EXPECT_FALSE(feature(FEATURE_MONITOR));
	wrmsr(IA32_MISC_ENABLE, before | MISC_ENABLE_MONITOR);
	EXPECT_TRUE(feature(FEATURE_MONITOR));
	wrmsr(IA32_MISC_ENABLE, before);
}

/* --- promises about clocks ------------------------------------------------------------ */

#define TIMER_VECTOR	0x61
#define LVT_DEADLINE	(2u << 17)

static volatile bool fired;

static void on_timer(struct trap_frame *frame __maybe_unused)
{
	fired = true;
	apic_eoi();
}

/*
 * 20.17 Time-Stamp Counter: an invariant TSC counts in every C-state, and HLT leads to C1. The
 * deadline is a value of the counter, so it comes only if the counter runs on.
 */
CASE(invariant_tsc_counts_in_the_hlt_state, PROVES(FACT("inv_tsc")),
     NEEDS(APIC, CPU(INVARIANT_TSC), CPU(TSC_DEADLINE)))
{
	u64 deadline;

	fired = false;
	trap_on(TIMER_VECTOR, on_timer);
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | TIMER_VECTOR);
	deadline = rdtsc() + BIT(20);
	wrmsr(IA32_TSC_DEADLINE, deadline);
	while (!fired)
		asm volatile("sti; hlt; cli" : : : "memory", "cc");
	EXPECT_TRUE(rdtsc() >= deadline);
}

static bool ratio_is_known(u64 unused __maybe_unused)
{
	struct cpuid_result r = { 0 };

	if (cpuid(0).eax >= 0x15)
		r = cpuid(0x15);
	return r.eax && r.ebx;
}
#define TSC_RATIO	{ .text = "the ratio of the TSC to the crystal clock, CPUID leaf 15H", \
			  .met = ratio_is_known }

#define DIVIDE_BY_1	0xb
#define TICKS		(1u << 20)	/* of the crystal clock */
#define TOLERANCE	128		/* one part in so many */

/* The APIC timer between two reads of the TSC. */
struct reading {
	u64 before, after;
	u32 count;
};

static struct reading read_clocks(void)
{
	struct reading r;

	r.before = rdtsc();
	r.count = apic_read(APIC_TIMER_CURRENT_COUNT);
	r.after = rdtsc();
	return r;
}

/*
 * 13.5.4 APIC Timer: where leaf 15H tells the ratio, the timer counts the crystal clock. How long
 * a read takes does not matter: what the TSC has counted lies between two bounds.
 */
CASE(tsc_counts_by_the_ratio_of_leaf_15h, PROVES(FACT("tsc_freq")), NEEDS(APIC, TSC_RATIO))
{
	struct cpuid_result ratio = cpuid(0x15);
	struct reading first, last;
	u64 ticks, most, least;

	EXPECT_EQ(ratio.edx, 0);
	apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
	apic_write(APIC_LVT_TIMER, APIC_LVT_MASKED);
	apic_write(APIC_TIMER_INITIAL_COUNT, ~0u);
	first = read_clocks();
	do
		last = read_clocks();
	while (first.count - last.count < TICKS);
	ticks = first.count - last.count;
	most = (ticks + 1) * ratio.ebx / ratio.eax;
	least = (ticks - 1) * ratio.ebx / ratio.eax;
	EXPECT_TRUE(last.before - first.after <= most + most / TOLERANCE);
	EXPECT_TRUE(last.after - first.before >= least - least / TOLERANCE);
	case_note("clocks", "TSC %#lx to %#lx in %lu ticks; leaf 15H: %u / %u",
		  last.before - first.after, last.after - first.before, ticks, ratio.ebx,
		  ratio.eax);
}

/* --- all processors ---------------------------------------------------------------------- */

/* What the leaf says of one processor only: its APIC ID, and the state that flags mirror. */
static const struct {
	u32 leaf;
	struct cpuid_result own;
} per_processor[] = {
	{ 0x1,		{ .ebx = BITS(31, 24), .ecx = BIT(27) } },
	{ 0x7,		{ .ecx = BIT(4) } },
	{ 0xb,		{ .edx = ~0u } },
	{ 0xd,		{ .ebx = ~0u } },
	{ 0x1f,		{ .edx = ~0u } },
	/* Others than Intel: the APIC ID and the core's number. */
	{ 0x8000001e,	{ .eax = ~0u, .ebx = BITS(7, 0) } },
};

static struct cpuid_result common_part(u32 leaf, u32 subleaf)
{
	struct cpuid_result r = cpuid_count(leaf, subleaf);
	u32 i;

	for (i = 0; i < ARRAY_SIZE(per_processor); i++) {
		if (per_processor[i].leaf != leaf)
			continue;
		r.eax &= ~per_processor[i].own.eax;
		r.ebx &= ~per_processor[i].own.ebx;
		r.ecx &= ~per_processor[i].own.ecx;
		r.edx &= ~per_processor[i].own.edx;
	}
	return r;
}

#define RANGES		3
#define MOST_LEAVES	0x40	/* of one range */
#define SUBLEAVES	4

struct answers {
	u32 highest[RANGES];
	struct cpuid_result common[RANGES][MOST_LEAVES][SUBLEAVES];
};

static const u32 first_leaf[RANGES] = { 0, 0x40000000, 0x80000000 };

static void ask_everything(void *argument)
{
	struct answers *answers = argument;
	u32 range, leaf, subleaf;

	for (range = 0; range < RANGES; range++) {
		answers->highest[range] = cpuid(first_leaf[range]).eax;
		for (leaf = 0; leaf < MOST_LEAVES; leaf++)
			for (subleaf = 0; subleaf < SUBLEAVES; subleaf++)
				answers->common[range][leaf][subleaf] =
					common_part(first_leaf[range] + leaf, subleaf);
	}
}

static void expect_same_leaf(const struct answers *here, const struct answers *there, u32 range,
			     u32 leaf)
{
	u32 subleaf;

	for (subleaf = 0; subleaf < SUBLEAVES; subleaf++) {
		const struct cpuid_result *a = &here->common[range][leaf][subleaf];
		const struct cpuid_result *b = &there->common[range][leaf][subleaf];

		if (!EXPECT_FALSE(memcmp(a, b, sizeof(*a))))
			case_note("leaf", "%#x, subleaf %u: %#x %#x %#x %#x, and %#x %#x %#x %#x",
				  first_leaf[range] + leaf, subleaf, a->eax, a->ebx, a->ecx, a->edx,
				  b->eax, b->ebx, b->ecx, b->edx);
	}
}

CASE(two_processors_say_the_same, PROVES(FACT("same_all")), NEEDS(CPUS(2)))
{
	struct answers *here = pages_alloc(8 * PAGE_SIZE, PAGE_SIZE);
	struct answers *there = pages_alloc(8 * PAGE_SIZE, PAGE_SIZE);
	u32 range, leaf;

	_Static_assert(sizeof(*here) <= 8 * PAGE_SIZE, "the size above");
	ask_everything(here);
	REQUIRE(smp_call(1, ask_everything, there), OUTCOME_DONE);
	for (range = 0; range < RANGES; range++) {
		EXPECT_EQ(here->highest[range], there->highest[range]);
		/* Above the highest leaf is the highest basic one again, with what is its own. */
		for (leaf = 0; leaf < MOST_LEAVES; leaf++)
			if (first_leaf[range] + leaf <= here->highest[range])
				expect_same_leaf(here, there, range, leaf);
	}
}
