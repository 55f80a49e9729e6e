/*
 * The modes of the local APIC: IA32_APIC_BASE and its transitions (13.4.4 Local APIC Status and
 * Location, 13.12.5 x2APIC State Transitions), and the registers of x2APIC mode as MSRs with
 * their access rights and reserved bits (13.12.1 Detecting and Enabling x2APIC Mode). A case that
 * leaves x2APIC mode on where it cannot be left makes the machine boot again.
 */
#include "cpu/apic.h"
#include "cpu/safe.h"

#define MODE_INVALID	1	/* EN = 0, EXTD = 1 */

/* IA32_APIC_BASE with EN and EXTD as in `mode`, all else as it is. */
static u64 base_with(u64 mode)
{
	return (rdmsr(IA32_APIC_BASE) & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC)) | mode << 10;
}

static void require_mode(enum apic_mode mode)
{
	REQUIRE(apic_set_mode(mode), OUTCOME_DONE);
	REQUIRE_EQ(apic_mode(), mode);
}

/* --- transitions ------------------------------------------------------------------- */

CASE(x2apic_mode_can_be_left_through_disabled, PROVES("guest-instructions:msr.apic_base_modes"),
     NEEDS(X2APIC))
{
	require_mode(APIC_X2APIC);
	require_mode(APIC_DISABLED);
	require_mode(APIC_XAPIC);
}

CASE(disabled_apic_can_be_enabled, PROVES("guest-instructions:msr.apic_base_modes"), NEEDS(APIC))
{
	require_mode(APIC_DISABLED);
	require_mode(APIC_XAPIC);
}

CASE(cpuid_follows_the_enable_bit, PROVES("guest-instructions:cpuid.apic_flag"), NEEDS(APIC))
{
	EXPECT_EQ(cpuid(1).edx >> 9 & 1, 1);
	require_mode(APIC_DISABLED);
	EXPECT_EQ(cpuid(1).edx >> 9 & 1, 0);
}

struct transition {
	enum apic_mode from;
	u64 to;
};

static void check_illegal(const struct case_def *this_case)
{
	const struct transition *row = this_case->row;

	require_mode(row->from);
	EXPECT(wrmsr_safe(IA32_APIC_BASE, base_with(row->to)), OUTCOME_GP0);
	EXPECT_EQ(apic_mode(), row->from);
}

#define ILLEGAL(id, ...)							\
	static const struct transition transition_##id = { __VA_ARGS__ };	\
	CASE_RUN(id, check_illegal, PROVES("guest-instructions:msr.apic_base_bad"),\
		 NEEDS(X2APIC), ROW(&transition_##id))

ILLEGAL(xapic_to_invalid, APIC_XAPIC, MODE_INVALID);
ILLEGAL(x2apic_to_invalid, APIC_X2APIC, MODE_INVALID);
ILLEGAL(x2apic_to_xapic, APIC_X2APIC, APIC_XAPIC);
ILLEGAL(disabled_to_x2apic, APIC_DISABLED, APIC_X2APIC);
ILLEGAL(disabled_to_invalid, APIC_DISABLED, MODE_INVALID);

static void check_reserved_base(const struct case_def *this_case)
{
	const u64 *bits = this_case->row;

	EXPECT(wrmsr_safe(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | *bits), OUTCOME_GP0);
}

#define RESERVED_BASE(id, bits)							\
	static const u64 bits_##id = (bits);					\
	CASE_RUN(id, check_reserved_base, PROVES("guest-instructions:msr.apic_base"),\
		 NEEDS(APIC), ROW(&bits_##id))

RESERVED_BASE(base_reserved_bit_0, BIT(0));
RESERVED_BASE(base_reserved_bit_7, BIT(7));
RESERVED_BASE(base_reserved_bit_9, BIT(9));
RESERVED_BASE(base_reserved_bit_63, BIT(63));

/* --- x2APIC registers ---------------------------------------------------------------- */

#define MSR_OF(reg)	(X2APIC_MSR_BASE + (reg) / 16)

CASE(no_x2apic_msr_in_xapic_mode, PROVES("guest-instructions:msr.x2apic_off"), NEEDS(X2APIC))
{
	u64 value;

	EXPECT(rdmsr_safe(MSR_OF(APIC_ID), &value), OUTCOME_GP0);
	EXPECT(rdmsr_safe(MSR_OF(APIC_TASK_PRIORITY), &value), OUTCOME_GP0);
	EXPECT(wrmsr_safe(MSR_OF(APIC_TASK_PRIORITY), 0), OUTCOME_GP0);
	EXPECT(wrmsr_safe(MSR_OF(APIC_EOI), 0), OUTCOME_GP0);
}

struct register_write {
	u32 msr;
	u64 value;
};

static void check_write_faults(const struct case_def *this_case)
{
	const struct register_write *row = this_case->row;

	require_mode(APIC_X2APIC);
	EXPECT(wrmsr_safe(row->msr, row->value), OUTCOME_GP0);
}

#define WRITE_FAULTS(id, fact, reg, value)					\
	static const struct register_write write_##id = { MSR_OF(reg), value };	\
	CASE_RUN(id, check_write_faults, PROVES(fact), NEEDS(X2APIC), ROW(&write_##id))

#define READ_ONLY	"guest-instructions:msr.x2apic_ro"
WRITE_FAULTS(write_id, READ_ONLY, APIC_ID, 0);
WRITE_FAULTS(write_version, READ_ONLY, APIC_VERSION, 0);
WRITE_FAULTS(write_processor_priority, READ_ONLY, APIC_PROCESSOR_PRIORITY, 0);
WRITE_FAULTS(write_logical_destination, READ_ONLY, APIC_LOGICAL_DESTINATION, 0);
WRITE_FAULTS(write_in_service, READ_ONLY, APIC_IN_SERVICE, 0);
WRITE_FAULTS(write_trigger_mode, READ_ONLY, APIC_TRIGGER_MODE, 0);
WRITE_FAULTS(write_interrupt_request, READ_ONLY, APIC_INTERRUPT_REQUEST + 0x70, 0);
WRITE_FAULTS(write_current_count, READ_ONLY, APIC_TIMER_CURRENT_COUNT, 0);
WRITE_FAULTS(write_eoi_not_0, "guest-instructions:msr.x2apic_eoi", APIC_EOI, 1);

#define RESERVED	"guest-instructions:msr.x2apic_rsvd"
WRITE_FAULTS(reserved_in_task_priority, RESERVED, APIC_TASK_PRIORITY, 0x100);
WRITE_FAULTS(reserved_in_spurious_vector, RESERVED, APIC_SPURIOUS_VECTOR, BIT(31) | 0x1ff);
WRITE_FAULTS(reserved_in_error_status, RESERVED, APIC_ERROR_STATUS, 1);
WRITE_FAULTS(reserved_in_command, RESERVED, APIC_INTERRUPT_COMMAND, BIT(20) | ICR_TO_SELF | 0x40);
WRITE_FAULTS(reserved_in_lvt_timer, RESERVED, APIC_LVT_TIMER, APIC_LVT_MASKED | BIT(31));
WRITE_FAULTS(reserved_in_lvt_error, RESERVED, APIC_LVT_ERROR, APIC_LVT_MASKED | BIT(8));
WRITE_FAULTS(reserved_in_divide, RESERVED, APIC_TIMER_DIVIDE, BIT(2));
WRITE_FAULTS(reserved_in_self_ipi, RESERVED, APIC_SELF_IPI, 0x140);
WRITE_FAULTS(reserved_high_half, RESERVED, APIC_TASK_PRIORITY, BIT(32));

CASE(write_only_registers, PROVES("guest-instructions:msr.x2apic_wo"), NEEDS(X2APIC))
{
	u64 value;

	require_mode(APIC_X2APIC);
	EXPECT(rdmsr_safe(MSR_OF(APIC_EOI), &value), OUTCOME_GP0);
	EXPECT(rdmsr_safe(MSR_OF(APIC_SELF_IPI), &value), OUTCOME_GP0);
}
