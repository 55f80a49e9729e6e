/*
 * Every bit of the eight fields of VMX controls: what the capability MSRs say of it, and whether VM
 * entry keeps to that.
 *
 * For each bit an MSR says whether it may be 0 and whether it may be 1: A.3 VM-Execution Controls,
 * A.4 VM-Exit Controls, A.5 VM-Entry Controls, A.11 VM Functions. Bits that were reserved on some
 * processor have a default, the value that they had there: A.2 Reserved Controls and Default
 * Settings. A bit of the class default0 may always be 0. A bit of the class default1 may always be
 * 1; the first MSR says that it must be, and where IA32_VMX_BASIC[55] is 1, a second one, whose
 * name has TRUE in it, whether that is so. In all else both MSRs agree.
 *
 * A bit that may not have its value is VMfailValid(7): 29.2.1 Checks on VMX Controls. A control
 * that may be 1 can still want others to be 1, or to be 0; sdm/control_rules.def has these rules. A
 * field whose controls are not activated is not looked at. One case for each bit; a range of bits
 * that were never defined is one case.
 */
#include "cpu/safe.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/control_rules.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define BAD_CONTROLS	OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS)
#define BAD_HOST_STATE	OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_HOST_STATE)

#define BASIC_TRUE_MSRS	BIT(55)

enum default_class { DEFAULT0, DEFAULT1 };

struct bits {
	enum control_field field;
	u8 high, low;			/* the same, but for a range of reserved bits */
	enum default_class class;
	bool defined;
};

/* What an MSR says, as sets of bits: 1 in must_be_1, 0 in may_be_1 is a bit that is fixed. */
struct allowed {
	u64 must_be_1, may_be_1;
};

static enum control control_of(const struct bits *row)
{
	return row->field << 8 | row->low;
}

/* --- the capability MSRs -------------------------------------------------------------- */

static struct allowed read_allowed(u32 msr, bool allowed1_only)
{
	u64 value = 0;

	REQUIRE(rdmsr_safe(msr, &value), OUTCOME_DONE);
	if (allowed1_only)
		return (struct allowed){ 0, value };
	return (struct allowed){ (u32)value, value >> 32 };
}

/* A.2: the default of a bit is always allowed, and the first MSR does not let default1 be 0. */
static void check_first_msr(const struct bits *row, struct allowed first)
{
	u64 bits = BITS(row->high, row->low);

	if (row->class == DEFAULT0) {
		EXPECT_EQ(first.must_be_1 & bits, 0);
	} else {
		EXPECT_EQ(first.must_be_1 & bits, bits);
		EXPECT_EQ(first.may_be_1 & bits, bits);
	}
}

static void check_true_msr(const struct bits *row, struct allowed first, struct allowed real)
{
	u64 bits = BITS(row->high, row->low);

	EXPECT_EQ(real.may_be_1 & bits, first.may_be_1 & bits);
	if (row->class == DEFAULT0)
		EXPECT_EQ(real.must_be_1 & bits, 0);
}

/* What VM entry goes by is what the last MSR says. */
static struct allowed check_msrs(const struct bits *row)
{
	const struct control_source *source = control_field_source(row->field);
	struct allowed first = read_allowed(source->msr, source->allowed1_only), real = first;

	check_first_msr(row, first);
	if (source->true_msr && capabilities()->basic & BASIC_TRUE_MSRS) {
		real = read_allowed(source->true_msr, false);
		check_true_msr(row, first, real);
	}
	return real;
}

/* --- the guest ------------------------------------------------------------------------ */

static void guest(void)
{
}

/* A VMCS that can be entered, in which `field` is active, and every other field ready for use. */
static void start_over(enum control_field field)
{
	enum control activation = control_field_activation(field);
	struct ept ept;

	vmcs_set_defaults();
	if (need_ept_vpid_cap(EPT_CAP_WALK_4)) {
		ept_start(&ept, 0);
		vmcs_clear_control(CONTROL_PROC2_ENABLE_EPT);
	}
	vmcs_fill_fields_of_controls();
	if (control_field_exists(CONTROL_FIELD_EXIT2))
		vmwrite(SECONDARY_VM_EXIT_CONTROLS, 0);
	if (control_field_exists(CONTROL_FIELD_VMFUNC))
		vmwrite(VM_FUNCTION_CONTROLS, 0);
	if (activation != CONTROL_NONE)
		vmcs_set_control(activation);
}

/* A guest in protected mode with 32-bit paging: its code is the same in both modes. */
static void guest_outside_ia32e_mode(void)
{
	u32 *directory = page_alloc();
	u32 i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE)) | CR4_PSE);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LME | EFER_LMA));
}

/* --- VM entry with one bit as it may not be ------------------------------------------- */

static outcome_t enter_with_bit_set(enum control_field field, u32 bit)
{
	u32 encoding = control_field_encoding(field);

	start_over(field);
	vmwrite(encoding, vmread(encoding) | BIT(bit));
	return enter(guest);
}

static outcome_t enter_with_bit_cleared(enum control_field field, u32 bit)
{
	u32 encoding = control_field_encoding(field);

	start_over(field);
	vmwrite(encoding, vmread(encoding) & ~BIT(bit));
	return enter(guest);
}

static void check_forbidden(const struct bits *row, struct allowed allowed)
{
	u32 bit;

	/* One of a range is enough to say what is wrong. */
	for (bit = row->low; bit <= row->high && !case_failed(); bit++) {
		if (!(allowed.may_be_1 & BIT(bit)))
			EXPECT_FOR_BIT(bit, enter_with_bit_set(row->field, bit), BAD_CONTROLS);
		if (allowed.must_be_1 & BIT(bit))
			EXPECT_FOR_BIT(bit, enter_with_bit_cleared(row->field, bit), BAD_CONTROLS);
	}
}

static outcome_t enter_with_inactive_field(enum control_field field, u64 value)
{
	start_over(field);
	vmcs_clear_control(control_field_activation(field));
	vmwrite(control_field_encoding(field), value);
	return enter(guest);
}

/* As long as the field is not active, its bits mean nothing, whatever they are. */
static void check_inactive(const struct bits *row)
{
	if (control_field_activation(row->field) != CONTROL_NONE)
		EXPECT(enter_with_inactive_field(row->field, BITS(row->high, row->low)),
		       GUEST_DONE);
}

/* --- VM entry with a control as it may be --------------------------------------------- */

/* With what it wants. */
static outcome_t enter_with_control_set(enum control control)
{
	start_over(control_field(control));
	vmcs_set_control_by_rules(control);
	return enter(guest);
}

/* Without what wants it. */
static outcome_t enter_with_control_cleared(enum control control)
{
	start_over(control_field(control));
	vmcs_clear_control_by_rules(control);
	if (control == CONTROL_ENTRY_IA_32E_MODE_GUEST)
		guest_outside_ia32e_mode();
	return enter(guest);
}

/* These two do not let the guest get as far as its VMCALL: 28.2, 28.5.2. */
static outcome_t entered(enum control control)
{
	if (control == CONTROL_PROC1_MONITOR_TRAP_FLAG)
		return OUTCOME_EXIT(EXIT_MONITOR_TRAP_FLAG);
	if (control == CONTROL_PROC1_NMI_WINDOW_EXITING)
		return OUTCOME_EXIT(EXIT_NMI_WINDOW);
	return GUEST_DONE;
}

static void check_allowed(enum control control, struct allowed allowed)
{
	/* 29.2.1.3: outside SMM these may not be 1, whatever an MSR says. */
	bool never_1 = control == CONTROL_ENTRY_ENTRY_TO_SMM ||
		       control == CONTROL_ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT;

	if (allowed.may_be_1 & control_bit(control))
		EXPECT(enter_with_control_set(control), never_1 ? BAD_CONTROLS : entered(control));
	if (allowed.must_be_1 & control_bit(control))
		return;
	/* 29.2.4: the host is in IA-32e mode. It is no matter of one area, and so of one number. */
	if (control == CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE)
		EXPECT(enter_with_control_cleared(control), BAD_CONTROLS, BAD_HOST_STATE);
	else
		EXPECT(enter_with_control_cleared(control), GUEST_DONE);
}

/* --- VM entry against a rule ---------------------------------------------------------- */

static bool can_be_broken(const struct control_rule *rule)
{
	u64 must_be_1 = capabilities()->must_be_1[control_field(rule->other)];

	if (!control_allowed(rule->control))
		return false;
	if (rule->kind == CONTROL_REQUIRES)
		return !(must_be_1 & control_bit(rule->other));
	return control_allowed(rule->other);
}

/* All is as the two controls want it but for this. */
static outcome_t enter_against(const struct control_rule *rule)
{
	start_over(control_field(rule->control));
	vmcs_set_control_by_rules(rule->control);
	if (rule->kind == CONTROL_REQUIRES)
		vmcs_clear_control(rule->other);
	else
		vmcs_set_control_by_rules(rule->other);
	vmcs_set_control(rule->control);
	return enter(guest);
}

static void check_rules(enum control control)
{
	const struct control_rule *rule;
	bool met;
	u32 i;

	for (i = 0; (rule = control_rule(i)); i++) {
		if ((rule->control != control && rule->other != control) || !can_be_broken(rule))
			continue;
		/* 29.2.4, as above. */
		if (rule->other == CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE)
			met = EXPECT(enter_against(rule), BAD_CONTROLS, BAD_HOST_STATE);
		else
			met = EXPECT(enter_against(rule), BAD_CONTROLS);
		if (!met)
			case_note("rule", "\"%s\" %s \"%s\"", control_words(rule->control),
				  rule->kind == CONTROL_REQUIRES ? "requires" : "excludes",
				  control_words(rule->other));
	}
}

/* --- one bit -------------------------------------------------------------------------- */

static void check_bits(const struct case_def *this_case)
{
	const struct bits *row = this_case->row;
	struct allowed allowed = check_msrs(row);

	case_note("control", "%s, bit %u: %s", control_field_words(row->field), row->low,
		  control_words(control_of(row)));
	check_forbidden(row, allowed);
	check_inactive(row);
	/* What a bit wants that the manual reserves and this machine allows, it does not say. */
	if (row->defined) {
		check_allowed(control_of(row), allowed);
		check_rules(control_of(row));
	}
}

/* Fields as case names and facts have them. */
#define LOWER_PIN	pin
#define LOWER_PROC1	proc1
#define LOWER_PROC2	proc2
#define LOWER_PROC3	proc3
#define LOWER_EXIT	exit
#define LOWER_EXIT2	exit2
#define LOWER_ENTRY	entry
#define LOWER_VMFUNC	vmfunc

#define STRING_OF(token)	STRING(token)
#define STRING(token)		#token
#define JOIN(prefix, name)	JOINED(prefix, name)
#define JOINED(prefix, name)	prefix##_##name

#define BITS_CASE(id, key, field, ...)						\
	CASE_RUN(id, check_bits,						\
		 PROVES("control-bits:" STRING_OF(LOWER_##field) "." key),	\
		 NEEDS(VMX, CONTROL_FIELD(field)),				\
		 ROW((&(const struct bits){ CONTROL_FIELD_##field, __VA_ARGS__ })));
#define CONTROL(field, bit, name, lower, class, words)				\
	BITS_CASE(JOIN(LOWER_##field, lower), #bit, field, bit, bit, class, true)
#define CONTROL_RESERVED(field, bit, class)					\
	BITS_CASE(JOIN(LOWER_##field, reserved_##bit), #bit, field, bit, bit, class, false)
#define CONTROL_RESERVED_BITS(field, high, low)					\
	BITS_CASE(JOIN(LOWER_##field, reserved), #high ":" #low, field, high, low, DEFAULT0, false)
#include "sdm/controls.def"

/* --- controls and something else ------------------------------------------------------ */

/* 27.6.1 Pin-Based VM-Execution Controls: some bits are always 1, and are 0 then. */
static void spoil_controls(void)
{
	vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS, 0);
}

/* 29.2.3 Checks on Host Segment and Descriptor-Table Registers: the selector of CS is not 0. */
static void spoil_host_state(void)
{
	vmwrite(HOST_CS_SELECTOR, 0);
}

/* 29.3.1.4 Checks on Guest RIP, RFLAGS, and SSP: bit 1 of RFLAGS is 1. */
static void spoil_guest_state(void)
{
	vmwrite(GUEST_RFLAGS, 0);
}

/*
 * 29.2: the checks of controls and of the host-state area may be made in any order, so either
 * number is right. It is a failure of the instruction also where the guest state is wrong: that is
 * looked at only behind both.
 */
CASE(controls_and_host_state_wrong, PROVES("vmx-instructions:vmlaunch.controls",
     "vmx-instructions:vmlaunch.host_state", "vmx-instructions:vmresume.controls",
     "vmx-instructions:vmresume.host_state"), NEEDS(VMX))
{
	spoil_controls();
	spoil_host_state();
	EXPECT(vmlaunch(), BAD_CONTROLS, BAD_HOST_STATE);
	spoil_guest_state();
	EXPECT(vmlaunch(), BAD_CONTROLS, BAD_HOST_STATE);
	vmcs_set_defaults();
	REQUIRE(enter(guest), GUEST_DONE);
	spoil_controls();
	spoil_host_state();
	EXPECT(vmresume(), BAD_CONTROLS, BAD_HOST_STATE);
	spoil_guest_state();
	EXPECT(vmresume(), BAD_CONTROLS, BAD_HOST_STATE);
}

CASE(controls_come_before_the_guest_state, PROVES("vmx-instructions:vmlaunch.controls",
     "vmx-instructions:vmlaunch.guest_state"), NEEDS(VMX))
{
	spoil_controls();
	spoil_guest_state();
	EXPECT(vmlaunch(), BAD_CONTROLS);
}

CASE(host_state_comes_before_the_guest_state, PROVES("vmx-instructions:vmlaunch.host_state",
     "vmx-instructions:vmlaunch.guest_state"), NEEDS(VMX))
{
	spoil_host_state();
	spoil_guest_state();
	EXPECT(vmlaunch(), BAD_HOST_STATE);
}
