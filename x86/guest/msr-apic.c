/*
 * The MSRs of the local APIC: IA32_APIC_BASE (13.4.4), the registers in x2APIC mode (13.12.1.2)
 * and the TSC deadline (13.5.4.1).
 *
 * IA32_APIC_BASE holds two bits that make four states, one of which does not exist, and only some
 * of the ways between the others do (13.12.5). In x2APIC mode the registers are MSRs 800H to
 * 8FFH, and what memory-mapped registers ignore is #GP(0) here: reserved bits, reads of what is
 * write-only, writes of what is read-only, addresses without a register.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/safe.h"

#define FACT(name)	PROVES("guest-instructions:msr." name)

#define X2APIC_MSR(offset)	(X2APIC_MSR_BASE + (offset) / 16)

/* --- IA32_APIC_BASE ---------------------------------------------------------------- */

static void check_reserved_bit(const struct case_def *this_case)
{
	const u64 *bit = this_case->row;
	u64 before = rdmsr(IA32_APIC_BASE);

	EXPECT(wrmsr_safe(IA32_APIC_BASE, before | *bit), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_APIC_BASE), before);
	wrmsr_safe(IA32_APIC_BASE, before);
}

#define RESERVED_BIT(n)								\
	static const u64 bit_##n = BIT(n);					\
	CASE_RUN(apic_base_bit_##n, check_reserved_bit, FACT("apic_base"),	\
		 ROW(&bit_##n), NEEDS(APIC))

RESERVED_BIT(0);
RESERVED_BIT(1);
RESERVED_BIT(7);
RESERVED_BIT(9);
RESERVED_BIT(52);
RESERVED_BIT(63);

CASE(apic_base_above_maxphyaddr, FACT("apic_base"), NEEDS(APIC, RESERVED_ADDRESS_BITS))
{
	u64 before = rdmsr(IA32_APIC_BASE);

	EXPECT(wrmsr_safe(IA32_APIC_BASE, before | BIT(maxphyaddr())), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_APIC_BASE), before);
	wrmsr_safe(IA32_APIC_BASE, before);
}

CASE(x2apic_bit_without_x2apic, FACT("apic_base"), NEEDS(APIC, NO_CPU(X2APIC)))
{
	EXPECT(wrmsr_safe(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | APIC_BASE_X2APIC), OUTCOME_GP0);
}

/* --- the states: 13.12.5, Figure 13-27 ------------------------------------------------ */

static outcome_t go_to(enum apic_mode mode)
{
	u64 base = rdmsr(IA32_APIC_BASE) & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC);

	return wrmsr_safe(IA32_APIC_BASE, base | (u64)mode << 10);
}

CASE(states_all_the_way_round, FACT("apic_base_modes"), NEEDS(X2APIC))
{
	EXPECT_EQ(apic_mode(), APIC_XAPIC);
	EXPECT(go_to(APIC_X2APIC), OUTCOME_DONE);
	EXPECT_EQ(apic_mode(), APIC_X2APIC);
	EXPECT(go_to(APIC_X2APIC), OUTCOME_DONE);
	EXPECT(go_to(APIC_DISABLED), OUTCOME_DONE);
	EXPECT_EQ(apic_mode(), APIC_DISABLED);
	EXPECT(go_to(APIC_XAPIC), OUTCOME_DONE);
	EXPECT_EQ(apic_mode(), APIC_XAPIC);
	EXPECT(go_to(APIC_DISABLED), OUTCOME_DONE);
	EXPECT_EQ(apic_mode(), APIC_DISABLED);
}

CASE(no_state_without_enable, FACT("apic_base_bad"), NEEDS(X2APIC))
{
	EXPECT(go_to((enum apic_mode)1), OUTCOME_GP0);
	EXPECT_EQ(apic_mode(), APIC_XAPIC);
}

CASE(no_way_from_x2apic_to_xapic, FACT("apic_base_bad"), NEEDS(X2APIC))
{
	REQUIRE(apic_set_mode(APIC_X2APIC), OUTCOME_DONE);
	EXPECT(go_to(APIC_XAPIC), OUTCOME_GP0);
	EXPECT(go_to((enum apic_mode)1), OUTCOME_GP0);
	EXPECT_EQ(apic_mode(), APIC_X2APIC);
}

CASE(no_way_from_disabled_to_x2apic, FACT("apic_base_bad"), NEEDS(X2APIC))
{
	REQUIRE(apic_set_mode(APIC_DISABLED), OUTCOME_DONE);
	EXPECT(go_to(APIC_X2APIC), OUTCOME_GP0);
	EXPECT_EQ(apic_mode(), APIC_DISABLED);
}

/* --- x2APIC mode off -------------------------------------------------------------------- */

CASE(registers_outside_x2apic_mode, FACT("x2apic_off"))
{
	u64 value;
	u32 msr;

	for (msr = 0x800; msr < 0x840; msr++)
		if (!EXPECT(rdmsr_safe(msr, &value), OUTCOME_GP0) ||
		    !EXPECT(wrmsr_safe(msr, 0), OUTCOME_GP0))
			case_note("msr", "%#x", msr);
	EXPECT(rdmsr_safe(0x8ff, &value), OUTCOME_GP0);
}

/* --- x2APIC mode on ----------------------------------------------------------------------- */

static void x2apic_on(void)
{
	REQUIRE(apic_set_mode(APIC_X2APIC), OUTCOME_DONE);
}

struct register_row {
	enum apic_register first, last;
	u64 value;
};

static void check_write_refused(const struct case_def *this_case)
{
	const struct register_row *row = this_case->row;
	u32 offset;

	x2apic_on();
	for (offset = row->first; offset <= row->last; offset += 16)
		if (!EXPECT(wrmsr_safe(X2APIC_MSR(offset), row->value), OUTCOME_GP0))
			case_note("msr", "%#x", X2APIC_MSR(offset));
}

#define WRITE_REFUSED(id, fact, first, last, value)				\
	CASE_RUN(id, check_write_refused, FACT(fact),				\
		 ROW((&(const struct register_row){ first, last, value })), NEEDS(X2APIC))

WRITE_REFUSED(id_is_read_only, "x2apic_ro", APIC_ID, APIC_ID, 0);
WRITE_REFUSED(version_is_read_only, "x2apic_ro", APIC_VERSION, APIC_VERSION, 0);
WRITE_REFUSED(processor_priority_is_read_only, "x2apic_ro", APIC_PROCESSOR_PRIORITY,
	      APIC_PROCESSOR_PRIORITY, 0);
WRITE_REFUSED(logical_destination_is_read_only, "x2apic_ro", APIC_LOGICAL_DESTINATION,
	      APIC_LOGICAL_DESTINATION, 1);
WRITE_REFUSED(vectors_are_read_only, "x2apic_ro", APIC_IN_SERVICE, 0x270, 0);
WRITE_REFUSED(current_count_is_read_only, "x2apic_ro", APIC_TIMER_CURRENT_COUNT,
	      APIC_TIMER_CURRENT_COUNT, 0);

WRITE_REFUSED(eoi_takes_only_0, "x2apic_eoi", APIC_EOI, APIC_EOI, 1);
WRITE_REFUSED(error_status_takes_only_0, "x2apic_rsvd", APIC_ERROR_STATUS, APIC_ERROR_STATUS, 1);
WRITE_REFUSED(task_priority_bit_8, "x2apic_rsvd", APIC_TASK_PRIORITY, APIC_TASK_PRIORITY, BIT(8));
WRITE_REFUSED(task_priority_bit_32, "x2apic_rsvd", APIC_TASK_PRIORITY, APIC_TASK_PRIORITY, BIT(32));
WRITE_REFUSED(spurious_vector_bit_13, "x2apic_rsvd", APIC_SPURIOUS_VECTOR, APIC_SPURIOUS_VECTOR,
	      APIC_BASELINE_SPURIOUS | APIC_SOFTWARE_ENABLE | BIT(13));
WRITE_REFUSED(lvt_timer_bit_19, "x2apic_rsvd", APIC_LVT_TIMER, APIC_LVT_TIMER,
	      APIC_LVT_MASKED | BIT(19));
WRITE_REFUSED(lvt_lint0_bit_17, "x2apic_rsvd", APIC_LVT_LINT0, APIC_LVT_LINT0,
	      APIC_LVT_MASKED | BIT(17));
WRITE_REFUSED(lvt_error_bit_32, "x2apic_rsvd", APIC_LVT_ERROR, APIC_LVT_ERROR,
	      APIC_LVT_MASKED | BIT(32));
WRITE_REFUSED(divide_bit_4, "x2apic_rsvd", APIC_TIMER_DIVIDE, APIC_TIMER_DIVIDE, BIT(4));
WRITE_REFUSED(initial_count_bit_32, "x2apic_rsvd", APIC_TIMER_INITIAL_COUNT,
	      APIC_TIMER_INITIAL_COUNT, BIT(32));
WRITE_REFUSED(self_ipi_bit_8, "x2apic_rsvd", APIC_SELF_IPI, APIC_SELF_IPI, BIT(8) | 0x40);
WRITE_REFUSED(command_bit_13, "x2apic_rsvd", APIC_INTERRUPT_COMMAND, APIC_INTERRUPT_COMMAND,
	      BIT(13) | 0x40 | ICR_TO_SELF);
/* No register: the high half of the command, the destination format, the arbitration priority. */
WRITE_REFUSED(no_destination_format, "x2apic_rsvd", APIC_DESTINATION_FORMAT,
	      APIC_DESTINATION_FORMAT, 0);
WRITE_REFUSED(no_command_high, "x2apic_rsvd", APIC_INTERRUPT_COMMAND_HIGH,
	      APIC_INTERRUPT_COMMAND_HIGH, 0);
WRITE_REFUSED(no_register_at_90h, "x2apic_rsvd", (enum apic_register)0x90,
	      (enum apic_register)0x90, 0);

CASE(write_only_registers, FACT("x2apic_wo"), NEEDS(X2APIC))
{
	u64 value;

	x2apic_on();
	EXPECT(rdmsr_safe(X2APIC_MSR(APIC_EOI), &value), OUTCOME_GP0);
	EXPECT(rdmsr_safe(X2APIC_MSR(APIC_SELF_IPI), &value), OUTCOME_GP0);
	EXPECT(wrmsr_safe(X2APIC_MSR(APIC_EOI), 0), OUTCOME_DONE);
}

/*
 * --- TSC deadline ----------------------------------------------------------------------------
 */

#define LVT_DEADLINE	(2u << 17)
#define TIMER_VECTOR	0x50
#define FAR_AWAY	BIT(62)

CASE(deadline_outside_its_mode, FACT("tsc_deadline"), NEEDS(APIC, CPU(TSC_DEADLINE)))
{
	EXPECT(wrmsr_safe(IA32_TSC_DEADLINE, FAR_AWAY), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_TSC_DEADLINE), 0);
}

CASE(deadline_is_kept_and_taken_back, FACT("tsc_deadline"), NEEDS(APIC, CPU(TSC_DEADLINE)))
{
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | TIMER_VECTOR);
	EXPECT(wrmsr_safe(IA32_TSC_DEADLINE, FAR_AWAY), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_TSC_DEADLINE), FAR_AWAY);
	EXPECT(wrmsr_safe(IA32_TSC_DEADLINE, 0), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_TSC_DEADLINE), 0);
	EXPECT_FALSE(apic_vector_bit(APIC_INTERRUPT_REQUEST, TIMER_VECTOR));
}

static volatile u32 fired;

static void on_timer(struct trap_frame *frame)
{
	(void)frame;
	fired++;
	apic_eoi();
}

CASE(deadline_in_the_past, FACT("tsc_deadline"), NEEDS(APIC, CPU(TSC_DEADLINE)))
{
	fired = 0;
	trap_on(TIMER_VECTOR, on_timer);
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | TIMER_VECTOR);
	EXPECT(wrmsr_safe(IA32_TSC_DEADLINE, 1), OUTCOME_DONE);
	while (!fired)
		interrupts_in();
	EXPECT_EQ(fired, 1);
	EXPECT_EQ(rdmsr(IA32_TSC_DEADLINE), 0);
}
