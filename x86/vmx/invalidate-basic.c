/*
 * INVEPT and INVVPID: which types and descriptors they accept.
 *
 * Both take a type in a register and a descriptor of 16 bytes in memory, and fail with error 28
 * for a type that IA32_VMX_EPT_VPID_CAP does not report or a descriptor that the type cannot use:
 * 33.3 VMX Instructions, "INVEPT" and "INVVPID"; A.10 VPID and EPT Capabilities. What they
 * invalidate is the subject of x86/ept.
 */
#include "cpu/safe.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define BAD_OPERAND	OUTCOME_VMFAIL_VALID(VMFAIL_INVALID_OPERAND_TO_INVEPT_INVVPID)

enum { INVEPT_SINGLE = 1, INVEPT_ALL = 2 };
enum { INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_SINGLE_RETAINING_GLOBALS };

static bool has(u64 capability)
{
	return capabilities()->ept_vpid_cap & capability;
}

static bool need_not_ept_vpid_cap(u64 bits)
{
	return vmx_supported() && !has(bits);
}

#define INVEPT		EPT_CAP(INVEPT)
#define INVVPID		VPID_CAP(INVVPID)
#define NO_INVEPT	{ "a processor without INVEPT", need_not_ept_vpid_cap, EPT_CAP_INVEPT, 0 }
#define NO_INVVPID	{ "a processor without INVVPID", need_not_ept_vpid_cap, \
			  VPID_CAP_INVVPID, 0 }

static void forget_current_vmcs(void)
{
	REQUIRE(vmclear((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
}

/* --- INVEPT ------------------------------------------------------------------------ */

/* An EPTP that VM entry accepts: 27.6.11 Extended-Page-Table Pointer (EPTP). */
static u64 good_eptp(void)
{
	u64 memory_type = has(EPT_CAP_WB) ? 6 : 0, walk_length = has(EPT_CAP_WALK_4) ? 4 : 5;

	return 0x12345000 | (walk_length - 1) << 3 | memory_type;
}

static outcome_t invept_eptp(u64 type, u64 eptp)
{
	return invept(type, (struct invept_descriptor){ .eptp = eptp });
}

CASE(invept_is_ud_where_there_is_none, PROVES("vmx-instructions:invept.unsupported"),
     NEEDS(VMX, NO_INVEPT))
{
	EXPECT(invept_eptp(INVEPT_ALL, 0), OUTCOME_UD);
}

CASE(invept_single_context, PROVES("vmx-instructions:invept.success",
     "vmx-capabilities:ept.invept_single"), NEEDS(VMX, INVEPT, EPT_CAP(INVEPT_SINGLE)))
{
	EXPECT(invept_eptp(INVEPT_SINGLE, good_eptp()), OUTCOME_DONE);
}

CASE(invept_all_contexts, PROVES("vmx-instructions:invept.success",
     "vmx-capabilities:ept.invept_all"), NEEDS(VMX, INVEPT, EPT_CAP(INVEPT_ALL)))
{
	EXPECT(invept_eptp(INVEPT_ALL, good_eptp()), OUTCOME_DONE);
	/* It looks at no EPTP. */
	EXPECT(invept_eptp(INVEPT_ALL, ~0ull), OUTCOME_DONE);
}

/* Every type but those that the processor reports. */
CASE(invept_type_is_bad, PROVES("vmx-instructions:invept.bad_type", "vm-instruction-errors:28"),
     NEEDS(VMX, INVEPT))
{
	u32 bit;

	EXPECT(invept_eptp(0, good_eptp()), BAD_OPERAND);
	EXPECT(invept_eptp(3, good_eptp()), BAD_OPERAND);
	if (!has(EPT_CAP_INVEPT_SINGLE))
		EXPECT(invept_eptp(INVEPT_SINGLE, good_eptp()), BAD_OPERAND);
	if (!has(EPT_CAP_INVEPT_ALL))
		EXPECT(invept_eptp(INVEPT_ALL, good_eptp()), BAD_OPERAND);
	for (bit = 2; bit < 32; bit++)
		EXPECT_FOR_BIT(bit, invept_eptp(INVEPT_ALL | BIT(bit), good_eptp()), BAD_OPERAND);
}

/* In 64-bit mode the type has 64 bits, all of which count. */
CASE(invept_type_has_64_bits, PROVES("vmx-instructions:invept.bad_type"), NEEDS(VMX, INVEPT))
{
	u32 bit;

	for (bit = 32; bit < 64; bit++)
		EXPECT_FOR_BIT(bit, invept_eptp(INVEPT_ALL | BIT(bit), good_eptp()), BAD_OPERAND);
}

/* An EPTP that would fail VM entry: 29.2.1.1 VM-Execution Control Fields. */
CASE(invept_eptp_memory_type, PROVES("vmx-instructions:invept.bad_eptp"),
     NEEDS(VMX, INVEPT, EPT_CAP(INVEPT_SINGLE)))
{
	u64 type, rest = good_eptp() & ~BITS(2, 0);

	for (type = 0; type < 8; type++)
		EXPECT(invept_eptp(INVEPT_SINGLE, rest | type),
		       (type == 0 && has(EPT_CAP_UC)) || (type == 6 && has(EPT_CAP_WB)) ?
		       OUTCOME_DONE : BAD_OPERAND);
}

CASE(invept_eptp_walk_length, PROVES("vmx-instructions:invept.bad_eptp"),
     NEEDS(VMX, INVEPT, EPT_CAP(INVEPT_SINGLE)))
{
	u64 length, rest = good_eptp() & ~BITS(5, 3);

	for (length = 1; length <= 8; length++)
		EXPECT(invept_eptp(INVEPT_SINGLE, rest | (length - 1) << 3),
		       (length == 4 && has(EPT_CAP_WALK_4)) ||
		       (length == 5 && has(EPT_CAP_WALK_5)) ?
		       OUTCOME_DONE : BAD_OPERAND);
}

CASE(invept_eptp_reserved_bits, PROVES("vmx-instructions:invept.bad_eptp",
     "field-formats:invept_descriptor.eptp"),
     NEEDS(VMX, INVEPT, EPT_CAP(INVEPT_SINGLE)))
{
	u32 bit;

	for (bit = 6; bit < 64; bit++) {
		bool allowed = (bit == 6 && has(EPT_CAP_AD)) ||
			       (bit == 7 && has(EPT_CAP_SUPERVISOR_SHADOW_STACK)) ||
			       (bit >= 12 && bit < vmx_pointer_width());

		EXPECT_FOR_BIT(bit, invept_eptp(INVEPT_SINGLE, good_eptp() | BIT(bit)),
			       allowed ? OUTCOME_DONE : BAD_OPERAND);
	}
}

CASE(invept_without_current_vmcs, PROVES("vmx-instructions:invept.bad_type",
     "vmx-result-flags:vmfail"), NEEDS(VMX, INVEPT))
{
	forget_current_vmcs();
	EXPECT(invept_eptp(0, good_eptp()), OUTCOME_VMFAIL_INVALID);
	if (has(EPT_CAP_INVEPT_ALL))
		EXPECT(invept_eptp(INVEPT_ALL, good_eptp()), OUTCOME_DONE);
}

/* --- INVVPID ----------------------------------------------------------------------- */

#define SOME_ADDRESS	0x7fff12345678ull
#define NONCANONICAL	0x8000000000000000ull

static outcome_t invvpid_with(u64 type, u64 vpid, u64 address)
{
	return invvpid(type, (struct invvpid_descriptor){ vpid, address });
}

struct invvpid_type {
	u64 type, capability;
};

static const struct invvpid_type invvpid_types[] = {
	{ INVVPID_ADDRESS, VPID_CAP_INVVPID_ADDRESS },
	{ INVVPID_SINGLE, VPID_CAP_INVVPID_SINGLE },
	{ INVVPID_ALL, VPID_CAP_INVVPID_ALL },
	{ INVVPID_SINGLE_RETAINING_GLOBALS, VPID_CAP_INVVPID_SINGLE_GLOBAL },
};

CASE(invvpid_is_ud_where_there_is_none, PROVES("vmx-instructions:invvpid.unsupported"),
     NEEDS(VMX, NO_INVVPID))
{
	EXPECT(invvpid_with(INVVPID_ALL, 1, 0), OUTCOME_UD);
}

static void check_invvpid_type(const struct case_def *this_case)
{
	u64 type = ((const struct invvpid_type *)this_case->row)->type;

	EXPECT(invvpid_with(type, 1, SOME_ADDRESS), OUTCOME_DONE);
	EXPECT(invvpid_with(type, 0xffff, SOME_ADDRESS), OUTCOME_DONE);
	/* VPID 0 is the host's: only the type that looks at no VPID takes it. */
	EXPECT(invvpid_with(type, 0, SOME_ADDRESS),
	       type == INVVPID_ALL ? OUTCOME_DONE : BAD_OPERAND);
	/* Only one type looks at the address. */
	EXPECT(invvpid_with(type, 1, NONCANONICAL),
	       type == INVVPID_ADDRESS ? BAD_OPERAND : OUTCOME_DONE);
}

#define INVVPID_TYPE_CASE(name, index, capability, ...)				\
	CASE_RUN(name, check_invvpid_type,					\
		 PROVES("vmx-instructions:invvpid.success", __VA_ARGS__),	\
		 NEEDS(VMX, INVVPID, VPID_CAP(capability)), ROW(&invvpid_types[index]))
INVVPID_TYPE_CASE(invvpid_individual_address, 0, INVVPID_ADDRESS,
		  "vmx-capabilities:vpid.invvpid_address", "vmx-instructions:invvpid.vpid_zero",
		  "vmx-instructions:invvpid.noncanonical", "field-formats:invvpid_descriptor.vpid",
		  "field-formats:invvpid_descriptor.address");
INVVPID_TYPE_CASE(invvpid_single_context, 1, INVVPID_SINGLE,
		  "vmx-capabilities:vpid.invvpid_single", "vmx-instructions:invvpid.vpid_zero");
INVVPID_TYPE_CASE(invvpid_all_contexts, 2, INVVPID_ALL, "vmx-capabilities:vpid.invvpid_all");
INVVPID_TYPE_CASE(invvpid_retaining_globals, 3, INVVPID_SINGLE_GLOBAL,
		  "vmx-capabilities:vpid.invvpid_single_retaining_globals",
		  "vmx-instructions:invvpid.vpid_zero");

/* Every type but those that the processor reports. */
CASE(invvpid_type_is_bad, PROVES("vmx-instructions:invvpid.bad_type", "vm-instruction-errors:28"),
     NEEDS(VMX, INVVPID))
{
	u32 i, bit;

	for (i = 0; i < ARRAY_SIZE(invvpid_types); i++)
		if (!has(invvpid_types[i].capability))
			EXPECT(invvpid_with(invvpid_types[i].type, 1, SOME_ADDRESS), BAD_OPERAND);
	for (bit = 2; bit < 32; bit++)
		EXPECT_FOR_BIT(bit, invvpid_with(INVVPID_ALL | BIT(bit), 1, SOME_ADDRESS),
			       BAD_OPERAND);
}

/* In 64-bit mode the type has 64 bits, all of which count. */
CASE(invvpid_type_has_64_bits, PROVES("vmx-instructions:invvpid.bad_type"), NEEDS(VMX, INVVPID))
{
	u32 bit;

	for (bit = 32; bit < 64; bit++)
		EXPECT_FOR_BIT(bit, invvpid_with(INVVPID_ALL | BIT(bit), 1, SOME_ADDRESS),
			       BAD_OPERAND);
}

/* Bits 63:16 of the descriptor must be 0, for every type, also for one that looks at no VPID. */
CASE(invvpid_descriptor_reserved_bits, PROVES("vmx-instructions:invvpid.reserved_bits",
     "field-formats:invvpid_descriptor.reserved"),
     NEEDS(VMX, INVVPID))
{
	u32 i, bit;

	for (i = 0; i < ARRAY_SIZE(invvpid_types); i++)
		for (bit = 16; bit < 64; bit++)
			EXPECT_FOR_BIT(bit, invvpid_with(invvpid_types[i].type, 1 | BIT(bit),
							 SOME_ADDRESS), BAD_OPERAND);
}

CASE(invvpid_without_current_vmcs, PROVES("vmx-instructions:invvpid.bad_type",
     "vmx-result-flags:vmfail"), NEEDS(VMX, INVVPID))
{
	forget_current_vmcs();
	EXPECT(invvpid_with(4, 1, SOME_ADDRESS), OUTCOME_VMFAIL_INVALID);
	if (has(VPID_CAP_INVVPID_ALL))
		EXPECT(invvpid_with(INVVPID_ALL, 1, SOME_ADDRESS), OUTCOME_DONE);
}
