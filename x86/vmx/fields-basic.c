/*
 * The fields of the VMCS, as software reaches them with VMREAD and VMWRITE.
 *
 * A field is named by its encoding: 27.11.2 VMREAD, VMWRITE, and Encodings of VMCS Fields;
 * Appendix B, Field Encoding in VMCS, lists them all. Whether a processor has a field follows from
 * the controls that it supports. What it has keeps every bit of its width, in the VMCS that is
 * current, through VMCLEAR and VMPTRLD; what it does not have is VMfailValid(12). The VM-exit
 * information fields may be read-only: then VMWRITE is VMfailValid(13).
 *
 * No case enters a guest, so the fields may hold anything. One case for each field of Appendix B;
 * what concerns several fields follows.
 */
#include "cpu/safe.h"
#include "mmu/build.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define READ_ONLY	OUTCOME_VMFAIL_VALID(VMFAIL_VMWRITE_READ_ONLY_COMPONENT)
#define UNSUPPORTED	OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT)

/* 27.4.1 Guest Register State: access rights may lack these reserved bits; they are 0 then. */
#define RIGHTS_OPTIONAL	(BITS(31, 17) | BITS(11, 8))

#define ENCODINGS	0x8000u		/* bits 31:15 of an encoding are reserved */

struct field {
	u32 encoding;
	u32 width;		/* bits */
};

static const struct field fields[] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists)			\
	{ encoding, (width) ? (width) : 64 },
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static bool is_exit_information(u32 encoding)
{
	return VMCS_FIELD_TYPE(encoding) == VMCS_FIELD_EXIT_INFO;
}

static bool is_writable(u32 encoding)
{
	/* A.6 Miscellaneous Data. */
	return !is_exit_information(encoding) || capabilities()->misc & MISC_CAP_VMWRITE_ANY_FIELD;
}

static bool is_access_rights(u32 encoding)
{
	return encoding >= GUEST_ES_ACCESS_RIGHTS && encoding <= GUEST_TR_ACCESS_RIGHTS;
}

/* --- one field ---------------------------------------------------------------- */

static bool expect_value(const struct field *field, const char *when, u64 got, u64 want)
{
	char what[100];

	if (is_access_rights(field->encoding) && got == (want & ~RIGHTS_OPTIONAL))
		return true;
	format(what, sizeof(what), "%s %s", vmcs_field_name(field->encoding), when);
	return case_expect_equal(NULL, 0, what, got, want);
}

/* Writes all 64 bits of `value`; the field must then hold those of its width, and no other. */
static bool check_write(const struct field *field, u64 value)
{
	u64 want = value & BITS(field->width - 1, 0), got = ~want;

	return EXPECT(vmwrite_outcome(field->encoding, value), OUTCOME_DONE) &&
	       EXPECT(vmread_outcome(field->encoding, &got), OUTCOME_DONE) &&
	       expect_value(field, "after VMWRITE", got, want);
}

/* The high access type: bits 63:32 of a 64-bit field by themselves. */
static void check_high_half(const struct field *field)
{
	u64 high = field->encoding | VMCS_FIELD_HIGH, got = ~0ull;

	vmwrite(field->encoding, 0x0123456789abcdef);
	EXPECT(vmread_outcome(high, &got), OUTCOME_DONE);
	expect_value(field, "high half, by VMREAD", got, 0x01234567);
	EXPECT(vmwrite_outcome(high, 0xffffffff76543210), OUTCOME_DONE);
	expect_value(field, "after VMWRITE of the high half", vmread(field->encoding),
		     0x7654321089abcdef);
}

static void check_writable(const struct field *field)
{
	u64 kept = case_random();
	struct vmx *vmx = this_vmx();
	u32 bit;

	if (!check_write(field, 0) || !check_write(field, ~0ull))
		return;
	for (bit = 0; bit < field->width; bit++)
		if (!check_write(field, BIT(bit)))
			return;
	if (VMCS_FIELD_WIDTH(field->encoding) == VMCS_FIELD_WIDTH_64)
		check_high_half(field);

	/* 27.1 Overview: VMCLEAR puts the data in the VMCS region, VMPTRLD takes it from there. */
	vmwrite(field->encoding, kept);
	REQUIRE(vmclear((u64)vmx->vmcs_region), OUTCOME_DONE);
	REQUIRE(vmptrld((u64)vmx->vmcs_region), OUTCOME_DONE);
	expect_value(field, "after VMCLEAR and VMPTRLD", vmread(field->encoding),
		     kept & BITS(field->width - 1, 0));
}

static void check_read_only(const struct field *field)
{
	u64 before = 0, after = 1;

	EXPECT(vmread_outcome(field->encoding, &before), OUTCOME_DONE);
	EXPECT_EQ(before & ~BITS(field->width - 1, 0), 0);
	EXPECT(vmwrite_outcome(field->encoding, ~before), READ_ONLY);
	/* The failure itself has a number, and a field of this kind that holds it. */
	if (field->encoding == VM_INSTRUCTION_ERROR)
		before = VMFAIL_VMWRITE_READ_ONLY_COMPONENT;
	EXPECT(vmread_outcome(field->encoding, &after), OUTCOME_DONE);
	expect_value(field, "after VMWRITE failed", after, before);
}

static void check_absent(u64 encoding)
{
	u64 value = 0x5a5a5a5a5a5a5a5a;

	EXPECT(vmread_outcome(encoding, &value), UNSUPPORTED);
	EXPECT_EQ(value, 0x5a5a5a5a5a5a5a5a);
	EXPECT(vmwrite_outcome(encoding, 0), UNSUPPORTED);
}

static void check_field(const struct case_def *this_case)
{
	const struct field *field = this_case->row;
	bool wide = VMCS_FIELD_WIDTH(field->encoding) == VMCS_FIELD_WIDTH_64;

	case_note("field", "%s, encoding %#x, %u bits, %s here", vmcs_field_name(field->encoding),
		  field->encoding, field->width,
		  !vmcs_field_exists(field->encoding) ? "must not exist" :
		  is_writable(field->encoding) ? "must exist" : "must exist, read-only");
	if (!vmcs_field_exists(field->encoding)) {
		check_absent(field->encoding);
		check_absent(field->encoding | VMCS_FIELD_HIGH);
		return;
	}
	if (is_writable(field->encoding))
		check_writable(field);
	else
		check_read_only(field);
	if (!wide)
		check_absent(field->encoding | VMCS_FIELD_HIGH);
}

#define VMCS_FIELD(encoding, name, lower, width, type, exists)			\
	CASE_RUN(lower, check_field, PROVES("vmcs-fields:" #encoding), NEEDS(VMX), \
		 .row = &(const struct field){ encoding, (width) ? (width) : 64 });
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD

/* --- all fields together -------------------------------------------------------- */

/* The value that `field` gets in a VMCS of the given number: a different one everywhere. */
static u64 value_of(const struct field *field, u64 number)
{
	u64 value = (field->encoding * 0x9e3779b97f4a7c15 ^ number * 0xbf58476d1ce4e5b9) >> 7;

	value &= BITS(field->width - 1, 0);
	return is_access_rights(field->encoding) ? value & ~RIGHTS_OPTIONAL : value;
}

/*
 * Which fields take part: the writable ones, as far as the processor has them. What it lacks
 * although it should have it is the failure of the field's own case; accessed here, it would leave
 * its error number in the VM-instruction error, which is then a writable field like the others.
 */
static bool takes_part[ARRAY_SIZE(fields)];

static void find_fields(void)
{
	u64 value = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		takes_part[i] = vmcs_field_exists(fields[i].encoding) &&
				is_writable(fields[i].encoding) &&
				vmread_outcome(fields[i].encoding, &value) == OUTCOME_DONE;
}

static void fill(u64 number)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (takes_part[i])
			EXPECT(vmwrite_outcome(fields[i].encoding, value_of(&fields[i], number)),
			       OUTCOME_DONE);
}

static void expect_filled(u64 number)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (takes_part[i])
			expect_value(&fields[i], "among all others", vmread(fields[i].encoding),
				     value_of(&fields[i], number));
}

CASE(fields_do_not_overlap, PROVES("vmx-instructions:vmwrite.success"), NEEDS(VMX))
{
	find_fields();
	fill(1);
	expect_filled(1);
}

CASE(each_vmcs_has_its_own_data, PROVES("vmx-instructions:vmptrld.success"), NEEDS(VMX))
{
	u32 revision = vmcs_revision();
	u8 *other = page_alloc();

	memcpy(other, &revision, sizeof(revision));
	REQUIRE(vmclear(physical(other)), OUTCOME_DONE);
	find_fields();
	fill(1);
	REQUIRE(vmptrld(physical(other)), OUTCOME_DONE);
	fill(2);
	REQUIRE(vmptrld((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	expect_filled(1);
	REQUIRE(vmptrld(physical(other)), OUTCOME_DONE);
	expect_filled(2);
}

/*
 * 27.11.1: VMCLEAR puts all data of a VMCS into its region, so that the VMCS outlives VMX operation
 * and even the loss of power; nothing of it stays in the processor. Outside VMX operation the
 * region is memory like any other: its bytes go elsewhere and come back to where they were. (A VMCS
 * whose bytes are brought to another region is nothing that the manual promises to work.)
 */
CASE(vmclear_writes_the_data_to_memory, PROVES("vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	struct vmx *vmx = this_vmx();
	u8 *away = page_alloc();

	find_fields();
	fill(3);
	REQUIRE(vmclear((u64)vmx->vmcs_region), OUTCOME_DONE);
	REQUIRE(vmxoff(), OUTCOME_DONE);
	memcpy(away, vmx->vmcs_region, PAGE_SIZE);
	memset(vmx->vmcs_region, 0xa5, PAGE_SIZE);
	barrier();
	memcpy(vmx->vmcs_region, away, PAGE_SIZE);
	REQUIRE(vmxon((u64)vmx->vmxon_region), OUTCOME_DONE);
	REQUIRE(vmptrld((u64)vmx->vmcs_region), OUTCOME_DONE);
	expect_filled(3);
}

/* --- the access type "high" ------------------------------------------------------- */

/* With the full access type, 64-bit mode writes all 64 bits at once. */
CASE(full_access_writes_both_halves, PROVES("vmx-instructions:vmwrite.success",
     "field-formats:encoding.access"), NEEDS(VMX))
{
	vmwrite(TSC_OFFSET | VMCS_FIELD_HIGH, 0xffffffff);
	vmwrite(TSC_OFFSET, 0x12345678);
	EXPECT_EQ(vmread(TSC_OFFSET | VMCS_FIELD_HIGH), 0);
	EXPECT_EQ(vmread(TSC_OFFSET), 0x12345678);
}

/*
 * Outside 64-bit mode the operands have 32 bits: VMREAD then gives the lower half of a wider field,
 * and VMWRITE clears the upper one, which only the high access type reaches.
 */
CODE32(vmxon_32, "vmxon (%eax)");
CODE32(vmptrld_32, "vmptrld (%eax)");
CODE32(vmclear_32, "vmclear (%eax)");
CODE32(vmread_32, "vmread %eax, %eax");
CODE32(vmwrite_32, "vmwrite %edx, %eax");
CODE32(vmxoff_32, "vmxoff");

#define POINTER_32(insn, pointer)	LEGACY_STEP(#insn " by", insn##_32, (u32)(u64)&(pointer), 0)
#define VMREAD_32(field)		LEGACY_STEP("VMREAD of", vmread_32, field, 0)
#define VMWRITE_32(field, value)	LEGACY_STEP("VMWRITE of", vmwrite_32, field, value)

#define VALUE_64	0x0123456789abcdefull

CASE(operands_of_32_bits, PROVES("vmx-instructions:vmread.success",
     "vmx-instructions:vmwrite.success", "field-formats:encoding.access",
     "field-formats:encoding.width"), NEEDS(VMX))
{
	static u64 vmxon_pointer, vmcs_pointer;
	struct legacy_step script[] = {
		{ POINTER_32(vmxon, vmxon_pointer) },
		{ POINTER_32(vmptrld, vmcs_pointer) },
		{ VMREAD_32(GUEST_RIP), .gives = (u32)VALUE_64 },
		{ VMREAD_32(TSC_OFFSET), .gives = (u32)VALUE_64 },
		{ VMREAD_32(TSC_OFFSET | VMCS_FIELD_HIGH), .gives = VALUE_64 >> 32 },
		{ VMWRITE_32(GUEST_RIP, 0x76543210) },
		{ VMWRITE_32(VMCS_LINK_POINTER, 0x76543210) },
		{ VMWRITE_32(TSC_OFFSET, 0x76543210) },
		{ VMWRITE_32(TSC_OFFSET | VMCS_FIELD_HIGH, 0xfedcba98) },
		{ POINTER_32(vmclear, vmcs_pointer) },
		{ LEGACY_STEP("VMXOFF,", vmxoff_32, 0, 0) },
	};
	struct vmx *vmx = this_vmx();
	u32 *directory = page_alloc();
	struct legacy_start start = {
		.mode = PAGING_32_BIT, .cr3 = physical(directory), .cr4 = CR4_PSE,
	};
	u32 i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	vmwrite(GUEST_RIP, VALUE_64);
	vmwrite(VMCS_LINK_POINTER, VALUE_64);
	vmwrite(TSC_OFFSET, VALUE_64);
	vmxon_pointer = (u64)vmx->vmxon_region;
	vmcs_pointer = (u64)vmx->vmcs_region;
	REQUIRE(vmclear(vmcs_pointer), OUTCOME_DONE);
	REQUIRE(vmxoff(), OUTCOME_DONE);
	LEGACY_RUN(&start, script);
	REQUIRE(vmxon(vmxon_pointer), OUTCOME_DONE);
	REQUIRE(vmptrld(vmcs_pointer), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RIP), 0x76543210);
	EXPECT_EQ(vmread(VMCS_LINK_POINTER), 0x76543210);
	EXPECT_EQ(vmread(TSC_OFFSET), 0xfedcba9876543210);
}

/* --- encodings that are none ------------------------------------------------------ */

/* Fields of which bits 63:32 of the operand could be overlooked: one of each width. */
static const u32 one_of_each_width[] = {
	GUEST_CS_SELECTOR, TSC_OFFSET, EXCEPTION_BITMAP, GUEST_RIP,
};

static void check_reserved_bits(u32 high, u32 low)
{
	u32 i, bit;

	for (i = 0; i < ARRAY_SIZE(one_of_each_width); i++) {
		for (bit = low; bit <= high; bit++) {
			u64 encoding = one_of_each_width[i] | BIT(bit), value = 0;

			vmwrite(one_of_each_width[i], 0x1234);
			EXPECT(vmread_outcome(encoding, &value), UNSUPPORTED);
			EXPECT(vmwrite_outcome(encoding, 0x4321), UNSUPPORTED);
			EXPECT_EQ(vmread(one_of_each_width[i]), 0x1234);
		}
	}
}

CASE(encoding_bit_12_is_reserved, PROVES("vmx-instructions:vmread.unsupported_field",
     "vmx-instructions:vmwrite.unsupported_field", "vm-instruction-errors:12",
     "field-formats:encoding.reserved_12"), NEEDS(VMX))
{
	check_reserved_bits(12, 12);
}

CASE(encoding_bits_31_to_15_are_reserved, PROVES("vmx-instructions:vmread.unsupported_field",
     "vmx-instructions:vmwrite.unsupported_field",
     "field-formats:encoding.reserved_31_15"), NEEDS(VMX))
{
	check_reserved_bits(31, 15);
}

/* In 64-bit mode the operand has 64 bits, and an encoding 32. */
CASE(encoding_bits_63_to_32_must_be_0, PROVES("vmx-instructions:vmread.unsupported_field",
     "vmx-instructions:vmwrite.unsupported_field"), NEEDS(VMX))
{
	check_reserved_bits(63, 32);
}

/* A.9 VMCS Enumeration: no encoding has a higher index than this. */
static u32 highest_index(void)
{
	return FIELD(capabilities()->vmcs_enum, 9, 1);
}

#define ENCODING_CLASS(width, type)	(VMCS_FIELD_WIDTH_##width << 13 | VMCS_FIELD_##type << 10)

/* Above the highest index there is nothing, whatever fields the processor may have. */
static void check_class_ends(const struct case_def *this_case)
{
	u32 class = *(const u32 *)this_case->row, index, access;

	for (index = highest_index() + 1; index < 512; index++)
		for (access = 0; access <= VMCS_FIELD_HIGH; access++)
			check_absent(class | index << 1 | access);
}

#define CLASS_CASE(lower, width, type)						\
	CASE_RUN(no_field_above_the_highest_index_##lower, check_class_ends,	\
		 PROVES("vmx-instructions:vmread.unsupported_field",		\
			"vmx-instructions:vmwrite.unsupported_field",		\
			"vmx-capabilities:vmcs_enum.highest_index"), NEEDS(VMX),	\
		 .row = &(const u32){ ENCODING_CLASS(width, type) })
CLASS_CASE(control_16, 16, CONTROL);
CLASS_CASE(control_64, 64, CONTROL);
CLASS_CASE(control_32, 32, CONTROL);
CLASS_CASE(control_natural, NATURAL, CONTROL);
CLASS_CASE(exit_info_16, 16, EXIT_INFO);
CLASS_CASE(exit_info_64, 64, EXIT_INFO);
CLASS_CASE(exit_info_32, 32, EXIT_INFO);
CLASS_CASE(exit_info_natural, NATURAL, EXIT_INFO);
CLASS_CASE(guest_16, 16, GUEST);
CLASS_CASE(guest_64, 64, GUEST);
CLASS_CASE(guest_32, 32, GUEST);
CLASS_CASE(guest_natural, NATURAL, GUEST);
CLASS_CASE(host_16, 16, HOST);
CLASS_CASE(host_64, 64, HOST);
CLASS_CASE(host_32, 32, HOST);
CLASS_CASE(host_natural, NATURAL, HOST);

CASE(vmcs_enum_is_the_highest_index, PROVES("vmx-capabilities:vmcs_enum.highest_index",
     "field-formats:encoding.index"),
     NEEDS(VMX))
{
	u32 encoding, found = 0, highest = 0;
	u64 value = 0;

	for (encoding = 0; encoding < ENCODINGS; encoding++) {
		if (vmread_outcome(encoding, &value) == OUTCOME_DONE &&
		    FIELD(encoding, 9, 1) >= highest) {
			highest = FIELD(encoding, 9, 1);
			found = encoding;
		}
	}
	case_note("highest", "encoding %#x: %s", found,
		  vmcs_field_name(VMCS_FIELD_WIDTH(found) == VMCS_FIELD_WIDTH_64 ?
				  found & ~VMCS_FIELD_HIGH : found));
	EXPECT_EQ(highest_index(), highest);
}

CASE(vmcs_enum_reserved_bits, PROVES("vmx-capabilities:vmcs_enum.reserved_0",
     "vmx-capabilities:vmcs_enum.reserved_63_10"), NEEDS(VMX))
{
	EXPECT_EQ(capabilities()->vmcs_enum & ~BITS(9, 1), 0);
}

/* An index that all revisions of Appendix B leave out, although 0482EH above it is a field. */
CASE(gap_of_appendix_b, PROVES("vmx-instructions:vmread.unsupported_field",
     "vmx-instructions:vmwrite.unsupported_field"), NEEDS(VMX))
{
	check_absent(0x482c);
	check_absent(0x482c | VMCS_FIELD_HIGH);
}

/* Bit 12 of every encoding is reserved, whatever the rest of it names. */
CASE(no_field_has_bit_12, PROVES("vmx-instructions:vmread.unsupported_field"), NEEDS(VMX))
{
	u64 value = 0;
	u32 encoding;

	for (encoding = BIT(12); encoding < ENCODINGS && !case_failed(); encoding++)
		if (encoding & BIT(12) && !EXPECT(vmread_outcome(encoding, &value), UNSUPPORTED))
			case_note("encoding", "%#x", encoding);
}

/*
 * Of the other encodings a later manual may name more than Appendix B does. Whatever they are,
 * VMREAD and VMWRITE know the same ones, only exit information can be read-only, and only 64-bit
 * fields have a high half.
 */
static void check_encoding(u32 encoding)
{
	bool has_half = VMCS_FIELD_WIDTH(encoding) == VMCS_FIELD_WIDTH_64;
	u64 value = 0;
	outcome_t reading = vmread_outcome(encoding, &value);
	outcome_t writing = vmwrite_outcome(encoding, value);

	if (reading != OUTCOME_DONE || (encoding & VMCS_FIELD_HIGH && !has_half)) {
		EXPECT(reading, UNSUPPORTED);
		EXPECT(writing, UNSUPPORTED);
	} else {
		EXPECT(writing, is_writable(encoding) ? OUTCOME_DONE : READ_ONLY);
	}
}

CASE(vmread_and_vmwrite_know_the_same_encodings,
     PROVES("vmx-instructions:vmread.unsupported_field",
	    "vmx-instructions:vmwrite.unsupported_field",
     "field-formats:encoding.access", "field-formats:encoding.type",
     "field-formats:encoding.width"), NEEDS(VMX))
{
	u32 encoding;

	for (encoding = 0; encoding < ENCODINGS && !case_failed(); encoding++) {
		if (encoding & BIT(12))
			continue;
		check_encoding(encoding);
		if (case_failed())
			case_note("encoding", "%#x", encoding);
	}
}
