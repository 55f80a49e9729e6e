#include "cpu/apic.h"
#include "cpu/safe.h"

#define APIC_BASE_ADDRESS	BITS(51, 12)
#define MODE_SHIFT		10

/* Polls of the delivery status before apic_send() gives up. */
#define SEND_POLLS		1000000

/* The same for all processors, and written once. */
static bool present;

bool apic_exists(u64 unused)
{
	(void)unused;
	return CPUID_BIT(1, 0, edx, 9);
}

bool apic_has_x2apic(u64 unused)
{
	return apic_exists(unused) && CPUID_BIT(1, 0, ecx, 21);
}

enum apic_mode apic_mode(void)
{
	return FIELD(rdmsr(IA32_APIC_BASE), 11, 10);
}

static outcome_t step_to(enum apic_mode mode)
{
	u64 base = rdmsr(IA32_APIC_BASE) & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC);

	return wrmsr_safe(IA32_APIC_BASE, base | (u64)mode << MODE_SHIFT);
}

outcome_t apic_set_mode(enum apic_mode mode)
{
	outcome_t outcome = OUTCOME_DONE;
	enum apic_mode now = apic_mode();

	if (now == mode)
		return OUTCOME_DONE;
	/* From x2APIC mode only to disabled; to x2APIC mode only from xAPIC mode. */
	if (now == APIC_X2APIC && mode == APIC_XAPIC)
		outcome = step_to(APIC_DISABLED);
	if (now == APIC_DISABLED && mode == APIC_X2APIC)
		outcome = step_to(APIC_XAPIC);
	return outcome == OUTCOME_DONE ? step_to(mode) : outcome;
}

static volatile u32 *memory_register(enum apic_register reg)
{
	return (volatile u32 *)((rdmsr(IA32_APIC_BASE) & APIC_BASE_ADDRESS) + reg);
}

u32 apic_read(enum apic_register reg)
{
	if (apic_mode() == APIC_X2APIC)
		return rdmsr(X2APIC_MSR_BASE + reg / 16);
	return *memory_register(reg);
}

void apic_write(enum apic_register reg, u32 value)
{
	if (apic_mode() == APIC_X2APIC)
		wrmsr(X2APIC_MSR_BASE + reg / 16, value);
	else
		*memory_register(reg) = value;
}

u32 apic_id(void)
{
	u32 id = apic_read(APIC_ID);

	return apic_mode() == APIC_X2APIC ? id : id >> 24;
}

bool apic_vector_bit(enum apic_register first, u8 vector)
{
	return apic_read(first + vector / 32 * 16) >> vector % 32 & 1;
}

bool apic_send(u32 destination, u32 command)
{
	u32 polls;

	/* 13.12.9 ICR Operation in x2APIC Mode: one MSR, which is not a serializing write. */
	asm volatile("mfence" : : : "memory");
	if (apic_mode() == APIC_X2APIC) {
		wrmsr(X2APIC_MSR_BASE + APIC_INTERRUPT_COMMAND / 16,
		      (u64)destination << 32 | command);
		return true;
	}
	apic_write(APIC_INTERRUPT_COMMAND_HIGH, destination << 24);
	apic_write(APIC_INTERRUPT_COMMAND, command);	/* sends */
	for (polls = 0; polls < SEND_POLLS; polls++) {
		if (!(apic_read(APIC_INTERRUPT_COMMAND) & ICR_PENDING))
			return true;
		pause();
	}
	return false;
}

void apic_send_self(u8 vector)
{
	if (apic_mode() == APIC_X2APIC)
		apic_write(APIC_SELF_IPI, vector);
	else
		apic_send(0, ICR_FIXED | ICR_ASSERT | ICR_TO_SELF | vector);
}

void apic_pend(u8 vector)
{
	apic_send_self(vector);
	while (!apic_vector_bit(APIC_INTERRUPT_REQUEST, vector))
		pause();
}

void apic_pend_nmi(u8 vector)
{
	apic_send(apic_id(), ICR_NMI | ICR_ASSERT);
	apic_pend(vector);
}

static void discard(struct trap_frame *frame)
{
	/* 13.9 Spurious Interrupt: it has no bit in service, an EOI would end another. */
	if (apic_vector_bit(APIC_IN_SERVICE, frame->vector))
		apic_eoi();
}

/* The highest vector whose bit is set, or -1. */
static int highest_vector(enum apic_register first)
{
	int vector;

	for (vector = 255; vector >= 0; vector--) {
		if (vector % 32 == 31 && !apic_read(first + vector / 32 * 16))
			vector -= 31;
		else if (apic_vector_bit(first, vector))
			break;
	}
	return vector;
}

/*
 * Nothing in service, then nothing pending: what pends is delivered and thrown away. An
 * interrupt pushes no error code, so the stubs of vectors 17 and 21 must not see one.
 */
static bool drain(void)
{
	int rounds, vector;

	for (rounds = 0; rounds < 256 && highest_vector(APIC_IN_SERVICE) >= 0; rounds++)
		apic_eoi();
	for (rounds = 0; rounds < 256; rounds++) {
		vector = highest_vector(APIC_INTERRUPT_REQUEST);
		if (vector < 0)
			return true;
		if (vector == VECTOR_AC || vector == VECTOR_CP)
			return false;
		trap_on(vector, discard);
		trap_on(APIC_BASELINE_SPURIOUS, discard);
		interrupts_in();
		trap_on(vector, NULL);
		trap_on(APIC_BASELINE_SPURIOUS, NULL);
	}
	return false;
}

/* 13.5.1 Local Vector Table: how many entries there are depends on the processor. */
static void mask_local_interrupts(void)
{
	static const enum apic_register entries[] = {
		APIC_LVT_TIMER, APIC_LVT_LINT0, APIC_LVT_LINT1, APIC_LVT_ERROR,
		APIC_LVT_PERFORMANCE, APIC_LVT_THERMAL, APIC_LVT_CMCI,
	};
	u32 count = FIELD(apic_read(APIC_VERSION), 23, 16) + 1, i;

	for (i = 0; i < ARRAY_SIZE(entries) && i < count; i++)
		apic_write(entries[i], APIC_LVT_MASKED);
}

void apic_remember_baseline(void)
{
	u64 base;

	present = rdmsr_safe(IA32_APIC_BASE, &base) == OUTCOME_DONE &&
		  apic_set_mode(APIC_XAPIC) == OUTCOME_DONE && apic_exists(0);
}

bool apic_is_on(void)
{
	return !present || apic_mode() != APIC_DISABLED;
}

bool apic_restore_baseline(void)
{
	if (!present)
		return true;
	if (apic_set_mode(APIC_XAPIC) != OUTCOME_DONE || apic_mode() != APIC_XAPIC)
		return false;
	/* The vectors and masks can only be written while the APIC is enabled: 13.4.7.2. */
	apic_write(APIC_SPURIOUS_VECTOR, APIC_SOFTWARE_ENABLE | APIC_BASELINE_SPURIOUS);
	mask_local_interrupts();
	apic_write(APIC_TIMER_INITIAL_COUNT, 0);
	apic_write(APIC_TIMER_DIVIDE, 0);
	apic_write(APIC_DESTINATION_FORMAT, ~0u);
	apic_write(APIC_LOGICAL_DESTINATION, 0);
	apic_write(APIC_TASK_PRIORITY, 0);
	if (!drain())
		return false;
	/* Two writes: the first makes errors visible, the second clears them: 13.5.3. */
	apic_write(APIC_ERROR_STATUS, 0);
	apic_write(APIC_ERROR_STATUS, 0);
	return true;
}
