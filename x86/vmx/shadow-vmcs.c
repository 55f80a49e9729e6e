/*
 * VMCS shadowing: VMREAD and VMWRITE in a guest that reach a shadow VMCS instead of causing exits.
 *
 * With the control "VMCS shadowing" two bitmaps of 32768 bits decide, one for VMREAD and one for
 * VMWRITE: an encoding whose bit is 1, or one above 7FFFH, exits; the others are carried out on
 * the VMCS that the VMCS link pointer of the current VMCS names. 27.6.15 VMCS Shadowing Bitmap
 * Addresses; 27.10 VMCS Types: Ordinary and Shadow; 33.3 VMX Instructions, "VMREAD" and "VMWRITE".
 * That VM entry refuses a shadow VMCS as the current one is in launch-basic, VMPTRLD of one in
 * instructions-basic.
 */
#include "cpu/features.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"
#include "vmx/vmx.h"

#define ENCODINGS	0x8000u
#define NO_FIELD	0x7ffeull	/* an encoding with the highest index of its class */
#define SHADOW		BIT(31)		/* of the revision word */

#define UNSUPPORTED	OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT)
#define READ_ONLY	OUTCOME_VMFAIL_VALID(VMFAIL_VMWRITE_READ_ONLY_COMPONENT)
#define BAD_LINK	OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 4)

/* VMREAD or VMWRITE, and what differs between them. */
struct access {
	enum exit_reason exit;
	u32 bitmap;			/* the field with the address */
	const struct guest_code *code;
};

/* guest_value is the encoding, guest_value2 the value or its address; all status flags are 1. */
#define OPERANDS "movq guest_value, %rcx\n\tmovq guest_value2, %rax\n\t" \
		 "pushfq\n\torl $0x8d5, (%rsp)\n\tpopfq"
GUEST_CODE(vmread, OPERANDS, "vmread %rcx, %rax");
GUEST_CODE(vmwrite, OPERANDS, "vmwrite %rax, %rcx");
GUEST_CODE(vmread_to_unmapped, OPERANDS, "vmread %rcx, (%rax)");
GUEST_CODE(vmwrite_from_unmapped, OPERANDS, "vmwrite (%rax), %rcx");

static const struct access reading = { EXIT_VMREAD, VMREAD_BITMAP_ADDRESS, &guest_vmread };
static const struct access writing = { EXIT_VMWRITE, VMWRITE_BITMAP_ADDRESS, &guest_vmwrite };

/* It stays an active VMCS when a case is over, so its memory serves nothing else. */
static u8 shadow_region[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static const u32 fields[] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) name,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static bool is_writable(u32 encoding)
{
	return VMCS_FIELD_TYPE(encoding) != VMCS_FIELD_EXIT_INFO || capabilities()->misc & BIT(29);
}

/* --- set-up --------------------------------------------------------------------------- */

static void make_current(const u8 *region)
{
	REQUIRE(vmptrld(physical(region)), OUTCOME_DONE);
}

static void make_shadow_vmcs(void)
{
	u32 revision = vmcs_revision() | SHADOW;

	memset(shadow_region, 0, sizeof(shadow_region));
	memcpy(shadow_region, &revision, sizeof(revision));
	REQUIRE(vmclear(physical(shadow_region)), OUTCOME_DONE);
}

/* A guest with a shadow VMCS; all bits of both bitmaps are 0. */
static void start_shadowing(void)
{
	vmx_start();
	if (!control_allowed(CONTROL_PROC2_VMCS_SHADOWING))
		return;
	make_shadow_vmcs();
	vmcs_set_control(CONTROL_PROC2_VMCS_SHADOWING);
	vmwrite(VMREAD_BITMAP_ADDRESS, physical(page_alloc()));
	vmwrite(VMWRITE_BITMAP_ADDRESS, physical(page_alloc()));
	vmwrite(VMCS_LINK_POINTER, physical(shadow_region));
}
BEFORE_EACH_CASE(start_shadowing);

#define SHADOWING	NEEDS(VMX, PROC2(VMCS_SHADOWING))

static void set_bit_of(const struct access *access, u32 encoding, bool on)
{
	u8 *byte = (u8 *)vmread(access->bitmap) + encoding / 8;

	*byte = (*byte & ~(1u << encoding % 8)) | (u32)on << encoding % 8;
}

/* A field of the shadow VMCS, from root operation. */
static u64 shadow_vmread(u64 field)
{
	u64 value = 0;

	make_current(shadow_region);
	REQUIRE(vmread_outcome(field, &value), OUTCOME_DONE);
	make_current(this_vmx()->vmcs_region);
	return value;
}

/* --- the guest's instruction as an outcome -------------------------------------------- */

/* 33.2 speaks of "the" error field; the current VMCS and the shadow VMCS both have one. */
struct error_fields {
	u64 current, shadow;
};

static struct error_fields read_error_fields(void)
{
	return (struct error_fields){ vmread(VM_INSTRUCTION_ERROR),
				      shadow_vmread(VM_INSTRUCTION_ERROR) };
}

/* The outcome, where the number is in the field of the two that has changed. */
static outcome_t vmfail_valid(struct error_fields before)
{
	struct error_fields after = read_error_fields();

	return OUTCOME_VMFAIL_VALID(after.shadow != before.shadow ? after.shadow : after.current);
}

/* Executes `code`, and puts the guest's RAX after it into *value. */
static outcome_t guest_executes(const struct guest_code *code, u64 field, u64 *value)
{
	struct error_fields before = read_error_fields();
	outcome_t outcome;
	u64 flags;

	guest_value = field;
	guest_value2 = *value;
	outcome = enter(code->run);
	if (outcome != GUEST_DONE)
		return outcome;
	if (guest_outcome() != OUTCOME_DONE)
		return guest_outcome();
	*value = guest_regs()->rax;
	/* Nothing but a RET is between the instruction and the VMCALL. */
	flags = vmread(GUEST_RFLAGS) & RFLAGS_STATUS;
	if (flags == RFLAGS_CF)
		return OUTCOME_VMFAIL_INVALID;
	if (flags == RFLAGS_ZF)
		return vmfail_valid(before);
	EXPECT_EQ(flags, 0);
	return OUTCOME_DONE;
}

static outcome_t guest_accesses(const struct access *access, u64 field)
{
	u64 value = 0;

	return guest_executes(access->code, field, &value);
}

/* --- what is read and written --------------------------------------------------------- */

/* Every field at once: the guest's loops exit only when they are over. */
static u64 values[ARRAY_SIZE(fields)];

static void guest_reads_all(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		asm volatile("vmread %1, %0" : "+r" (values[i]) : "r" ((u64)fields[i]) : "cc");
}

static void guest_writes_all(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		asm volatile("vmwrite %0, %1" : : "r" (values[i]), "r" ((u64)fields[i]) : "cc");
}

/* A value that every width of field keeps, and access rights as well: another one for each. */
static u64 value_of(u32 i)
{
	return 0x1000 | (i & 0xff);
}

CASE(vmread_reads_the_shadow_vmcs, PROVES("vmx-instructions:vmread.success",
     "nonroot-behavior:vmread_shadow"), SHADOWING)
{
	u32 i;

	make_current(shadow_region);
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (vmcs_field_exists(fields[i]) && is_writable(fields[i]))
			vmwrite_outcome(fields[i], value_of(i));
	make_current(this_vmx()->vmcs_region);
	EXPECT(enter(guest_reads_all), GUEST_DONE);
	make_current(shadow_region);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		u64 want = 0;

		/* What does not exist although it should is the failure of another case. */
		if (!vmcs_field_exists(fields[i]) || !is_writable(fields[i]) ||
		    vmread_outcome(fields[i], &want) != OUTCOME_DONE)
			continue;
		if (!EXPECT_EQ(values[i], want))
			case_note("field", "%s", vmcs_field_name(fields[i]));
	}
}

CASE(vmwrite_writes_the_shadow_vmcs, PROVES("vmx-instructions:vmwrite.success",
     "nonroot-behavior:vmwrite_shadow"), SHADOWING)
{
	u64 error, got = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		values[i] = value_of(i);
	EXPECT(enter(guest_writes_all), GUEST_DONE);
	make_current(shadow_region);
	/* First: VMREAD of a field that is missing changes it. */
	error = vmread(VM_INSTRUCTION_ERROR);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!vmcs_field_exists(fields[i]) || !is_writable(fields[i]) ||
		    vmread_outcome(fields[i], &got) != OUTCOME_DONE)
			continue;
		if (fields[i] == VM_INSTRUCTION_ERROR)
			got = error;
		if (!EXPECT_EQ(got, value_of(i)))
			case_note("field", "%s", vmcs_field_name(fields[i]));
	}
}

/* The guest's own VMCS is not what it reads and writes, or the next entry would fail. */
CASE(current_vmcs_stays_as_it_is, PROVES("nonroot-behavior:vmwrite_shadow"), SHADOWING)
{
	u64 value = 0x1234, before = vmread(HOST_CR3);

	EXPECT(guest_executes(&guest_vmwrite, HOST_CR3, &value), OUTCOME_DONE);
	EXPECT_EQ(vmread(HOST_CR3), before);
	EXPECT_EQ(shadow_vmread(HOST_CR3), 0x1234);
	value = 0;
	EXPECT(guest_executes(&guest_vmread, HOST_CR3, &value), OUTCOME_DONE);
	EXPECT_EQ(value, 0x1234);
}

/* --- the bitmaps ---------------------------------------------------------------------- */

/* The one bit that is set makes its encoding exit, and no encoding that differs by one bit. */
static void check_bit_alone(const struct access *access, u32 encoding)
{
	u32 bit;

	set_bit_of(access, encoding, true);
	EXPECT(guest_accesses(access, encoding), OUTCOME_EXIT(access->exit));
	set_bit_of(access, encoding, false);
	for (bit = 0; bit < 15; bit++)
		set_bit_of(access, encoding ^ BIT(bit), true);
	EXPECT_TRUE(guest_accesses(access, encoding) != OUTCOME_EXIT(access->exit));
	for (bit = 0; bit < 15; bit++)
		set_bit_of(access, encoding ^ BIT(bit), false);
}

static void check_fields_bits(const struct case_def *this_case)
{
	const struct access *access = this_case->row;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields) && !case_failed(); i++) {
		check_bit_alone(access, fields[i]);
		if (case_failed())
			case_note("field", "%s", vmcs_field_name(fields[i]));
	}
}

CASE_RUN(vmread_bitmap_field_by_field, check_fields_bits,
	 PROVES("vmx-instructions:vmread.nonroot"), SHADOWING, ROW(&reading));
CASE_RUN(vmwrite_bitmap_field_by_field, check_fields_bits,
	 PROVES("vmx-instructions:vmwrite.nonroot"), SHADOWING, ROW(&writing));

/* All 32768 encodings in turn, RCX as the guest's counter. */
void guest_tries_all_vmreads(void);
void guest_tries_all_vmwrites(void);
asm(".text\n"
    "guest_tries_all_vmreads:\n\txorl %ecx, %ecx\n"
    "1:\tvmread %rcx, %rax\n\tincl %ecx\n\tcmpl $0x8000, %ecx\n\tjne 1b\n\tret\n"
    "guest_tries_all_vmwrites:\n\txorl %ecx, %ecx\n"
    "1:\tvmwrite %rcx, %rcx\n\tincl %ecx\n\tcmpl $0x8000, %ecx\n\tjne 1b\n\tret");

/* Some 300 of the bits at random: exactly their encodings exit, whether or not they are fields. */
static void check_pattern(const struct access *access, void (*guest)(void))
{
	u8 *bitmap = (u8 *)vmread(access->bitmap);
	outcome_t outcome;
	u32 i, encoding;

	for (i = 0; i < 300; i++)
		set_bit_of(access, case_random() % ENCODINGS, true);
	outcome = enter(guest);
	for (encoding = 0; encoding < ENCODINGS; encoding++) {
		if (!(bitmap[encoding / 8] >> encoding % 8 & 1))
			continue;
		REQUIRE(outcome, OUTCOME_EXIT(access->exit));
		REQUIRE_EQ(guest_regs()->rcx, encoding);
		skip_instruction();
		outcome = resume();
	}
	EXPECT(outcome, GUEST_DONE);
}

CASE(vmread_bitmap_pattern, PROVES("vmx-instructions:vmread.nonroot", "exit-reasons:23"),
     SHADOWING)
{
	check_pattern(&reading, guest_tries_all_vmreads);
}

CASE(vmwrite_bitmap_pattern, PROVES("vmx-instructions:vmwrite.nonroot", "exit-reasons:25"),
     SHADOWING)
{
	check_pattern(&writing, guest_tries_all_vmwrites);
}

/* Each instruction has a bitmap of its own. */
CASE(bitmaps_are_separate, PROVES("vmx-instructions:vmread.nonroot",
     "vmx-instructions:vmwrite.nonroot"), SHADOWING)
{
	set_bit_of(&reading, GUEST_RIP, true);
	EXPECT(guest_accesses(&reading, GUEST_RIP), OUTCOME_EXIT(EXIT_VMREAD));
	EXPECT(guest_accesses(&writing, GUEST_RIP), OUTCOME_DONE);
	set_bit_of(&reading, GUEST_RIP, false);
	set_bit_of(&writing, GUEST_RIP, true);
	EXPECT(guest_accesses(&reading, GUEST_RIP), OUTCOME_DONE);
	EXPECT(guest_accesses(&writing, GUEST_RIP), OUTCOME_EXIT(EXIT_VMWRITE));
}

/* Encodings that no bitmap covers: any of bits 63:15 is 1. */
static void check_high_bits(const struct case_def *this_case)
{
	const struct access *access = this_case->row;
	u32 bit;

	for (bit = 15; bit < 64; bit++)
		EXPECT_FOR_BIT(bit, guest_accesses(access, GUEST_RIP | BIT(bit)),
			       OUTCOME_EXIT(access->exit));
}

CASE_RUN(vmread_of_an_encoding_above_7fff, check_high_bits,
	 PROVES("vmx-instructions:vmread.nonroot"), SHADOWING, ROW(&reading));
CASE_RUN(vmwrite_of_an_encoding_above_7fff, check_high_bits,
	 PROVES("vmx-instructions:vmwrite.nonroot"), SHADOWING, ROW(&writing));

CASE(without_the_control_all_exit, PROVES("vmx-instructions:vmread.nonroot",
     "vmx-instructions:vmwrite.nonroot"), SHADOWING)
{
	vmcs_clear_control(CONTROL_PROC2_VMCS_SHADOWING);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	EXPECT(guest_accesses(&reading, GUEST_RIP), OUTCOME_EXIT(EXIT_VMREAD));
	EXPECT(guest_accesses(&writing, GUEST_RIP), OUTCOME_EXIT(EXIT_VMWRITE));
}

/* --- failures and faults in the guest ------------------------------------------------- */

CASE(no_shadow_vmcs, PROVES("vmx-instructions:vmread.no_vmcs", "vmx-instructions:vmwrite.no_vmcs",
     "nonroot-behavior:vmread_shadow.nolink"), SHADOWING)
{
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	EXPECT(guest_accesses(&reading, GUEST_RIP), OUTCOME_VMFAIL_INVALID);
	EXPECT(guest_accesses(&writing, GUEST_RIP), OUTCOME_VMFAIL_INVALID);
	/* It comes before the field. */
	EXPECT(guest_accesses(&reading, NO_FIELD), OUTCOME_VMFAIL_INVALID);
	EXPECT(guest_accesses(&writing, NO_FIELD), OUTCOME_VMFAIL_INVALID);
}

CASE(vmread_of_no_field, PROVES("vmx-instructions:vmread.unsupported_field"), SHADOWING)
{
	EXPECT(guest_accesses(&reading, NO_FIELD), UNSUPPORTED);
}

CASE(vmwrite_of_no_field, PROVES("vmx-instructions:vmwrite.unsupported_field"), SHADOWING)
{
	EXPECT(guest_accesses(&writing, NO_FIELD), UNSUPPORTED);
}

CASE(vmwrite_of_an_exit_information_field, PROVES("vmx-instructions:vmwrite.read_only_field"),
     SHADOWING)
{
	EXPECT(guest_accesses(&writing, EXIT_REASON),
	       is_writable(EXIT_REASON) ? OUTCOME_DONE : READ_ONLY);
}

/* VMREAD looks at its memory operand last, VMWRITE before it looks at the field. */
CASE(memory_operands_fault_in_their_turn, PROVES("vmx-instructions:vmread.operand_fault",
     "vmx-instructions:vmwrite.operand_fault"), SHADOWING)
{
	u64 address = UNMAPPED_ADDRESS;

	EXPECT(guest_executes(&guest_vmread_to_unmapped, GUEST_RIP, &address),
	       OUTCOME_FAULT(VECTOR_PF, PF_WR));
	EXPECT(guest_executes(&guest_vmread_to_unmapped, NO_FIELD, &address), UNSUPPORTED);
	EXPECT(guest_executes(&guest_vmwrite_from_unmapped, GUEST_RIP, &address),
	       OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT(guest_executes(&guest_vmwrite_from_unmapped, NO_FIELD, &address),
	       OUTCOME_FAULT(VECTOR_PF, 0));
}

static outcome_t outcome_at_cpl_3;

static void user_vmread(void *field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
}

static void user_vmwrite(void *field)
{
	asm volatile("vmwrite %0, %0" : : "r" (field) : "cc");
}

static void guest_vmread_at_cpl_3(void)
{
	outcome_at_cpl_3 = run_at_cpl(3, user_vmread, (void *)GUEST_RIP);
}

static void guest_vmwrite_at_cpl_3(void)
{
	outcome_at_cpl_3 = run_at_cpl(3, user_vmwrite, (void *)GUEST_RIP);
}

/* The privilege level counts only where the bitmap lets the instruction be carried out. */
CASE(cpl_3, PROVES("vmx-instructions:vmread.cpl", "vmx-instructions:vmwrite.cpl",
     "vmx-instructions:vmread.nonroot", "vmx-instructions:vmwrite.nonroot"), SHADOWING)
{
	audit_guest_changes_segments();
	EXPECT(enter(guest_vmread_at_cpl_3), GUEST_DONE);
	EXPECT(outcome_at_cpl_3, OUTCOME_GP0);
	EXPECT(enter(guest_vmwrite_at_cpl_3), GUEST_DONE);
	EXPECT(outcome_at_cpl_3, OUTCOME_GP0);
	set_bit_of(&reading, GUEST_RIP, true);
	set_bit_of(&writing, GUEST_RIP, true);
	EXPECT(enter(guest_vmread_at_cpl_3), OUTCOME_EXIT(EXIT_VMREAD));
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
	EXPECT(enter(guest_vmwrite_at_cpl_3), OUTCOME_EXIT(EXIT_VMWRITE));
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

/* --- the VMCS link pointer ------------------------------------------------------------ */

static void guest_nothing(void)
{
}

/* 29.3.1.5 Checks on Guest Non-Register State. */
CASE(link_to_an_ordinary_vmcs, PROVES("vm-entry-checks:guest.link.shadow_needed"), SHADOWING)
{
	u32 ordinary = vmcs_revision();

	memcpy(shadow_region, &ordinary, sizeof(ordinary));
	EXPECT(enter(guest_nothing), BAD_LINK);
	vmcs_clear_control(CONTROL_PROC2_VMCS_SHADOWING);
	EXPECT(enter(guest_nothing), GUEST_DONE);
}

CASE(link_to_a_shadow_vmcs_without_the_control,
     PROVES("vm-entry-checks:guest.link.shadow_forbidden"), SHADOWING)
{
	EXPECT(enter(guest_nothing), GUEST_DONE);
	vmcs_clear_control(CONTROL_PROC2_VMCS_SHADOWING);
	EXPECT(enter(guest_nothing), BAD_LINK);
}

/*
 * What a pointer names is looked at once more at each
 * entry: one that leads nowhere leaves nothing behind.
 */
CASE(link_behind_one_without_memory, PROVES("vm-entry-checks:guest.link.revision"), SHADOWING)
{
	u64 link = vmread(VMCS_LINK_POINTER);

	EXPECT(enter(guest_nothing), GUEST_DONE);
	vmwrite(VMCS_LINK_POINTER, BIT(maxphyaddr()) - PAGE_SIZE);
	EXPECT(enter(guest_nothing), BAD_LINK);
	vmwrite(VMCS_LINK_POINTER, link);
	EXPECT(enter(guest_nothing), GUEST_DONE);
}
