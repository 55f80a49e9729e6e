#include "cpu/apic.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "platform.h"
#include "string.h"

#define START_STATE	0xf00	/* in step with cpu/trampoline.S */
#define LOW_FIRST	0x8000ull
#define LOW_END		0xa0000ull

/*
 * How long to wait for another processor: polls with 64 PAUSEs in between, which is a
 * microsecond or more in hardware and 64 clock ticks where the clock counts instructions; or
 * clock ticks, where a PAUSE takes long. Whichever is over first.
 */
#define WAIT_POLLS	300000u
#define WAIT_TICKS	(1ull << 34)
/*
 * Between INIT and start-up IPI, so that no processor can miss the second. The 10 ms of 11.4.4.1
 * were for processors without 64-bit mode.
 */
#define INIT_POLLS	30u
/* After the first start-up IPI, before the second; and after an NMI. */
#define SHORT_POLLS	20000u

enum state { STOPPED, STARTING, IDLE, BUSY };

/* One per processor; it and the boot processor meet here. */
static struct processor {
	volatile u32 state;
	void (*function)(void *argument);
	void *argument;
	outcome_t outcome;
	bool left;
} processors[PLATFORM_MAX_CPUS];

/* Of the processor that starts: one after another. */
__used u64 ap_stack;
static u32 ap_index;
static struct smp_start_state *ap_state;

extern const u8 trampoline_start[], trampoline_end[];
__noreturn void ap_main(void);

bool smp_has_cpus(u64 n)
{
	return smp_cpu_count() >= n;
}

u32 smp_cpu_count(void)
{
	return this_platform()->cpu_count;
}

/* --- on the other processor -------------------------------------------------- */

static void finish(struct processor *processor, outcome_t outcome)
{
	if (processor->state != BUSY)
		return;
	processor->outcome = outcome;
	processor->left = this_cpu()->left;
	barrier();
	processor->state = IDLE;
}

/* Every trap that nothing else takes ends here, also an NMI while there is no work. */
static __noreturn void serve(void)
{
	struct context context;

	for (;;) {
		struct processor *processor = &processors[this_cpu()->index];

		if (context_save(&context))
			finish(&processors[this_cpu()->index], this_cpu()->caught);
		this_cpu()->catcher = &context;
		processor = &processors[this_cpu()->index];
		while (processor->state != BUSY)
			pause();
		this_cpu()->left = false;
		processor->function(processor->argument);
		finish(processor, OUTCOME_DONE);
	}
}

void ap_main(void)
{
	u32 index = ap_index;
	u64 value;

	cpu_init(cpu_block(index), index, this_platform()->apic_id[index]);
	rdmsr_safe(IA32_APIC_BASE, &value);
	ap_state->apic_base = value;
	if (!cpu_restore_this())
		case_boot_again();
	processors[index].state = IDLE;
	serve();
}

/* --- on the boot processor --------------------------------------------------- */

static void pause_64(void)
{
	asm volatile(".rept 64; pause; .endr" : : : "memory");
}

static void spin(u32 polls)
{
	while (polls--)
		pause_64();
}

/* Waits until the processor is not in `state` any more; false when it still is. */
static bool wait_while(const struct processor *processor, enum state state, u32 polls)
{
	u64 start = rdtsc();

	while (processor->state == state) {
		if (!polls-- || rdtsc() - start > WAIT_TICKS)
			return false;
		pause_64();
	}
	return true;
}

bool smp_wait_for(const volatile u32 *flag)
{
	u64 start = rdtsc();
	u32 polls = WAIT_POLLS;

	while (!*flag && polls-- && rdtsc() - start <= WAIT_TICKS)
		pause_64();
	return *flag;
}

static __noreturn void give_up(u32 index, const char *expected, const char *got)
{
	char what[60];

	format(what, sizeof(what), "processor %u (APIC ID %u)", index,
	       this_platform()->apic_id[index]);
	case_fail(NULL, 0, what, expected, got);
	case_end();
}

static bool is_ram(u64 page)
{
	const struct platform *platform = this_platform();
	u32 i;

	for (i = 0; i < platform->memory_count; i++)
		if (page >= platform->memory[i].start &&
		    page + PAGE_SIZE <= platform->memory[i].start + platform->memory[i].size)
			return true;
	return false;
}

static u64 low_page(u32 n)
{
	u64 page;

	for (page = LOW_FIRST; page < LOW_END; page += PAGE_SIZE)
		if (is_ram(page) && !n--)
			return page;
	bail_out("the tree describes no RAM for the start of processors at 8000H to 9FFFFH");
}

void smp_init(u32 index)
{
	apic_send(this_platform()->apic_id[index], ICR_INIT | ICR_ASSERT);
	processors[index].state = STOPPED;
	spin(INIT_POLLS);
}

/* False: no sign of life. */
static bool start_at(u32 index, u32 n, u8 *vector)
{
	struct processor *processor = &processors[index];
	u32 id = this_platform()->apic_id[index];
	struct cpu *cpu = cpu_block(index);
	u8 *page = (u8 *)low_page(n);

	*vector = (u64)page / PAGE_SIZE;
	smp_init(index);
	cpu->catcher = NULL;
	cpu->in_guest = false;
	memcpy(page, trampoline_start, trampoline_end - trampoline_start);
	ap_stack = (u64)cpu->stack + sizeof(cpu->stack);
	ap_index = index;
	ap_state = (struct smp_start_state *)(page + START_STATE);
	processor->state = STARTING;
	/* 11.4.4.1 Typical BSP Initialization Sequence: the second is for those that missed one. */
	apic_send(id, ICR_STARTUP | ICR_ASSERT | *vector);
	if (wait_while(processor, STARTING, SHORT_POLLS))
		return true;
	apic_send(id, ICR_STARTUP | ICR_ASSERT | *vector);
	return wait_while(processor, STARTING, WAIT_POLLS);
}

const struct smp_start_state *smp_start_one(u32 index, u32 n, u8 *vector)
{
	if (!start_at(index, n, vector))
		give_up(index, "it runs after INIT, start-up IPI, start-up IPI", "no sign of life");
	return ap_state;
}

bool smp_try_start(u32 index)
{
	u8 vector;

	return start_at(index, 0, &vector);
}

void smp_start(void)
{
	u32 i;
	u8 vector;

	for (i = 1; i < smp_cpu_count(); i++)
		if (processors[i].state == STOPPED)
			smp_start_one(i, 0, &vector);
}

void smp_begin(u32 index, void (*function)(void *), void *argument)
{
	struct processor *processor = &processors[index];
	u8 vector;

	if (processor->state == STOPPED)
		smp_start_one(index, 0, &vector);
	if (processor->state != IDLE)
		give_up(index, "it waits for work", "it still has work, or it has died");
	processor->function = function;
	processor->argument = argument;
	barrier();
	processor->state = BUSY;
}

bool smp_done(u32 index)
{
	return processors[index].state != BUSY;
}

outcome_t smp_wait(u32 index)
{
	struct processor *processor = &processors[index];

	if (!wait_while(processor, BUSY, WAIT_POLLS))
		give_up(index, "its work ends", "it still works, or it has died");
	if (processor->left)
		case_end();
	return processor->outcome;
}

outcome_t smp_call(u32 index, void (*function)(void *), void *argument)
{
	if (!index)
		return attempt(function, argument);
	smp_begin(index, function, argument);
	return smp_wait(index);
}

/* --- start-up IPIs for this processor -------------------------------------------- */

static struct {
	volatile u32 stop;
	u32 to;			/* APIC ID */
	u8 vector;
} startup_ipis;

static void send_startup_ipis(void *unused __maybe_unused)
{
	while (!startup_ipis.stop)
		apic_send(startup_ipis.to, ICR_STARTUP | ICR_ASSERT | startup_ipis.vector);
}

void smp_begin_startup_ipis(u8 vector)
{
	startup_ipis.stop = 0;
	startup_ipis.to = this_cpu()->apic_id;
	startup_ipis.vector = vector;
	smp_begin(1, send_startup_ipis, NULL);
}

outcome_t smp_stop_startup_ipis(void)
{
	startup_ipis.stop = 1;
	return smp_wait(1);
}

/* --- after each case -------------------------------------------------------------- */

static void restore(void *unused)
{
	(void)unused;
	cpu_restore_this();
}

/*
 * Each processor brings itself back, if it can, so that INIT finds it outside VMX operation, where
 * INIT would be blocked (26.8), and its APIC in the mode of the others. One that still works is
 * woken by an NMI.
 */
void smp_restore_baseline(void)
{
	u32 i;

	for (i = 1; i < smp_cpu_count(); i++) {
		struct processor *processor = &processors[i];

		if (processor->state == STOPPED)
			continue;
		if (processor->state == BUSY) {
			apic_send(this_platform()->apic_id[i], ICR_NMI | ICR_ASSERT);
			wait_while(processor, BUSY, SHORT_POLLS);
		}
		if (processor->state == IDLE) {
			processor->function = restore;
			processor->state = BUSY;
			wait_while(processor, BUSY, SHORT_POLLS);
		}
		smp_init(i);
	}
}
