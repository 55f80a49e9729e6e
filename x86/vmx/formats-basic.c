/*
 * Formats of VMCS fields, bit by bit, as far as no other image looks at them: the exit reason
 * (Table 27-19), access rights of segments (Table 27-2) and the event that an entry injects
 * (Table 27-18).
 *
 * What an entry loads from a guest-state field, the exit saves to it again, so a guest that does
 * nothing shows which bits there are. Reserved bits must be 0, or the entry fails; a processor may
 * also ignore VMWRITE of those of access rights (27.4.1 Guest Register State).
 */
#include "cpu/user.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(nop, "", "nop");
GUEST_CODE(vmcall, "", "vmcall");
GUEST_CODE(cpuid, "", "cpuid");

#define BAD_CONTROLS	OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS)
#define BAD_GUEST_STATE	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0)

/* --- the exit reason ------------------------------------------------------------------------- */

/* 30.2.1: all bits but those of the basic reason are 0 for an ordinary exit. */
CASE(exit_reason_of_an_exit,
     PROVES("field-formats:exit_reason.basic", "field-formats:exit_reason.bit_16",
	    "field-formats:exit_reason.reserved_24_17", "field-formats:exit_reason.bit_30",
	    "field-formats:exit_reason.entry_failure"), NEEDS(VMX))
{
	enter_at_instruction(&guest_cpuid);
	EXPECT_EQ(vmread(EXIT_REASON), EXIT_CPUID);
	enter_at_instruction(&guest_vmcall);
	EXPECT_EQ(vmread(EXIT_REASON), EXIT_VMCALL);
	vmwrite(GUEST_RFLAGS, 0);
	enter_at_instruction(&guest_vmcall);
	EXPECT_EQ(vmread(EXIT_REASON), BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE);
}

/* --- access rights ---------------------------------------------------------------------------- */

static const u32 data_segments[] = {
	GUEST_ES_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS,
	GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS,
};

/* From access rights to the selector and to the limit of the same segment. */
static u32 selector_of(u32 rights)
{
	return GUEST_ES_SELECTOR + (rights - GUEST_ES_ACCESS_RIGHTS);
}

static u32 limit_of(u32 rights)
{
	return GUEST_ES_LIMIT + (rights - GUEST_ES_ACCESS_RIGHTS);
}

static void expect_kept(u32 field, u32 limit, u32 rights)
{
	vmwrite(selector_of(field), SELECTOR_DATA);
	vmwrite(limit_of(field), limit);
	vmwrite(field, rights);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	if (!EXPECT_EQ(vmread(field), rights))
		case_note("field", "%s", vmcs_field_name(field));
}

/* S and P are 1 in a segment that can be used, and the type says that it has been accessed. */
#define USABLE		(BIT(7) | BIT(4))

CASE(types_of_data_segments,
     PROVES("field-formats:access_rights.type", "field-formats:access_rights.s",
	    "field-formats:access_rights.p"), NEEDS(VMX))
{
	static const u8 types[] = { 1, 3, 5, 7, 11, 15 };
	u32 i, j;

	for (i = 0; i < ARRAY_SIZE(data_segments); i++)
		for (j = 0; j < ARRAY_SIZE(types); j++)
			expect_kept(data_segments[i], 0xffffffff, 0xc000 | USABLE | types[j]);
}

CASE(bits_of_data_segments,
     PROVES("field-formats:access_rights.dpl", "field-formats:access_rights.avl",
	    "field-formats:access_rights.db", "field-formats:access_rights.g"), NEEDS(VMX))
{
	u32 i, dpl;

	for (i = 0; i < ARRAY_SIZE(data_segments); i++) {
		for (dpl = 0; dpl < 4; dpl++)
			expect_kept(data_segments[i], 0xffffffff, 0xc000 | USABLE | dpl << 5 | 3);
		expect_kept(data_segments[i], 0xffffffff, 0xd000 | USABLE | 3);	/* AVL */
		expect_kept(data_segments[i], 0xffffffff, 0x8000 | USABLE | 3);	/* D/B = 0 */
		expect_kept(data_segments[i], 0xfff, 0x4000 | USABLE | 3);	/* G = 0 */
		/* G says how the limit was given; it must fit. */
		vmwrite(data_segments[i], 0x4000 | USABLE | 3);
		vmwrite(limit_of(data_segments[i]), 0xffffffff);
		EXPECT(enter_at_instruction(&guest_nop), BAD_GUEST_STATE);
		expect_kept(data_segments[i], 0xffffffff, 0xc000 | USABLE | 3);
	}
}

CASE(s_and_p_of_data_segments,
     PROVES("field-formats:access_rights.s", "field-formats:access_rights.p"), NEEDS(VMX))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(data_segments); i++) {
		vmwrite(data_segments[i], 0xc000 | BIT(7) | 3);
		EXPECT(enter_at_instruction(&guest_nop), BAD_GUEST_STATE);
		vmwrite(data_segments[i], 0xc000 | BIT(4) | 3);
		EXPECT(enter_at_instruction(&guest_nop), BAD_GUEST_STATE);
		vmwrite(data_segments[i], 0xc000 | USABLE | 3);
	}
}

/* 27.4.1: an unusable segment has nothing to check, and bit 16 is saved. */
CASE(unusable_data_segments, PROVES("field-formats:access_rights.unusable"), NEEDS(VMX))
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(data_segments); i++) {
		vmwrite(selector_of(data_segments[i]), 0);
		vmwrite(data_segments[i], BIT(16));
		EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
		EXPECT_EQ(vmread(data_segments[i]) & BIT(16), BIT(16));
	}
}

/* VMCALL is the same in both modes; D/B of CS must be 0 in 64-bit mode. */
CASE(l_bit_of_cs, PROVES("field-formats:access_rights.l", "field-formats:access_rights.db"),
     NEEDS(VMX))
{
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa09b);
	EXPECT(enter_at_instruction(&guest_vmcall), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CS_ACCESS_RIGHTS), 0xa09b);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	EXPECT(enter_at_instruction(&guest_vmcall), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CS_ACCESS_RIGHTS), 0xc09b);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xe09b);
	EXPECT(enter_at_instruction(&guest_vmcall), BAD_GUEST_STATE);
}

static void expect_reserved(u32 high, u32 low)
{
	u32 i, bit;

	for (i = 0; i < ARRAY_SIZE(data_segments); i++) {
		for (bit = low; bit <= high; bit++) {
			vmwrite(data_segments[i], 0xc093 | BIT(bit));
			EXPECT_FOR_BIT(bit, enter_at_instruction(&guest_nop),
				       vmread(data_segments[i]) & BIT(bit) ? BAD_GUEST_STATE :
				       GUEST_DONE);
		}
		vmwrite(data_segments[i], 0xc093);
	}
}

CASE(reserved_bits_11_to_8, PROVES("field-formats:access_rights.reserved_11_8"), NEEDS(VMX))
{
	expect_reserved(11, 8);
}

CASE(reserved_bits_31_to_17, PROVES("field-formats:access_rights.reserved_31_17"), NEEDS(VMX))
{
	expect_reserved(31, 17);
}

/* --- the injected event ----------------------------------------------------------------------- */

static struct {
	u32 taken;
	u64 vector, error, rip;
} seen;

static void note_event(struct trap_frame *frame)
{
	seen.taken++;
	seen.vector = frame->vector;
	seen.error = frame->error;
	seen.rip = frame->rip;
}

struct injection {
	u8 type, vector;
	bool has_error, software;
	u32 length;
};

#define ERROR_CODE	0x1234

static void check_injection(const struct case_def *this_case)
{
	const struct injection *row = this_case->row;
	u64 event = INJECTED_EVENT(row->type, row->vector) |
		    (row->has_error ? INJECTED_ERROR_CODE : 0);

	seen.taken = 0;
	trap_on(row->vector, note_event);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, event);
	vmwrite(INJECTED_EVENT_ERROR_CODE, ERROR_CODE);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, row->length);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	EXPECT_EQ(seen.taken, 1);
	EXPECT_EQ(seen.vector, row->vector);
	/* Software events return behind their instruction. */
	EXPECT_EQ(seen.rip, (u64)guest_nop.at + (row->software ? row->length : 0));
	if (row->has_error)
		EXPECT_EQ(seen.error, ERROR_CODE);
	EXPECT_EQ(vmread(INJECTED_EVENT_IDENTIFICATION), event & ~INJECTED_VALID);
	/* Without the bit, the next entry injects nothing. */
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	EXPECT_EQ(seen.taken, 1);
}

#define INJECTION(name, ...)							\
	CASE_RUN(name, check_injection,						\
		 PROVES("field-formats:injected_event.vector",			\
			"field-formats:injected_event.type",			\
			"field-formats:injected_event.deliver_error_code",	\
			"field-formats:injected_event.valid"), NEEDS(VMX),	\
		 ROW((&(const struct injection){ __VA_ARGS__ })))
INJECTION(injected_interrupt_20h, .type = EVENT_TYPE_EXTERNAL_INTERRUPT, .vector = 0x20);
INJECTION(injected_interrupt_e7h, .type = EVENT_TYPE_EXTERNAL_INTERRUPT, .vector = 0xe7);
INJECTION(injected_nmi, .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI);
INJECTION(injected_exception, .type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_DE);
INJECTION(injected_exception_with_error, .type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_GP,
	  .has_error = true);
INJECTION(injected_software_interrupt, .type = EVENT_TYPE_SOFTWARE_INTERRUPT, .vector = 0x51,
	  .software = true, .length = 1);
INJECTION(injected_int1, .type = EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION, .vector = VECTOR_DB,
	  .software = true, .length = 1);
INJECTION(injected_int3, .type = EVENT_TYPE_SOFTWARE_EXCEPTION, .vector = VECTOR_BP,
	  .software = true, .length = 1);

static void expect_bad_event(u32 high, u32 low)
{
	u32 bit;

	for (bit = low; bit <= high; bit++) {
		vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
		vmwrite(INJECTED_EVENT_IDENTIFICATION,
			INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x20) | BIT(bit));
		EXPECT_FOR_BIT(bit, enter_at_instruction(&guest_nop), BAD_CONTROLS);
	}
}

CASE(injected_event_reserved_bit_12, PROVES("field-formats:injected_event.reserved_12"), NEEDS(VMX))
{
	expect_bad_event(12, 12);
}

CASE(injected_event_reserved_bits_30_to_14, PROVES("field-formats:injected_event.reserved_30_14"),
     NEEDS(VMX))
{
	expect_bad_event(30, 14);
}
