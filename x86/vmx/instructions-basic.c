/*
 * The instructions that manage VMCSs, in VMX root operation at CPL 0: VMCLEAR, VMPTRLD, VMPTRST,
 * VMREAD, VMWRITE, and VMCALL there.
 *
 * Each ends in one of the ways of 33.2 Conventions: VMsucceed, VMfailInvalid or VMfailValid(n),
 * told by six flags and, for the last, the VM-instruction error field; 33.4 VM Instruction Error
 * Numbers lists n. Which of them is said by 33.3 VMX Instructions. Every call of vmclear(),
 * vmptrld() and so on also checks the flags.
 *
 * Elsewhere: VMXON and VMXOFF (vmxon), VMLAUNCH and VMRESUME (launch-basic), INVEPT and INVVPID
 * (invalidate-basic), faults of memory operands (operand-faults), other modes and privilege levels
 * (instruction-modes), all fields (fields-basic).
 */
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define NO_VMCS		(~0ull)
#define NO_FIELD	0x7ffeull	/* an encoding with the highest index of its class */

#define UNSUPPORTED	OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT)
#define CLEAR_INVALID	OUTCOME_VMFAIL_VALID(VMFAIL_VMCLEAR_INVALID_ADDRESS)
#define CLEAR_VMXON	OUTCOME_VMFAIL_VALID(VMFAIL_VMCLEAR_VMXON_POINTER)
#define LOAD_INVALID	OUTCOME_VMFAIL_VALID(VMFAIL_VMPTRLD_INVALID_ADDRESS)
#define LOAD_VMXON	OUTCOME_VMFAIL_VALID(VMFAIL_VMPTRLD_VMXON_POINTER)
#define LOAD_REVISION	OUTCOME_VMFAIL_VALID(VMFAIL_VMPTRLD_INCORRECT_REVISION)
#define CALL_IN_ROOT	OUTCOME_VMFAIL_VALID(VMFAIL_VMCALL_IN_VMX_ROOT)

static u64 region(void)
{
	return (u64)this_vmx()->vmcs_region;
}

static u64 vmxon_pointer(void)
{
	return (u64)this_vmx()->vmxon_region;
}

static u64 current_vmcs(void)
{
	u64 pointer = 0;

	REQUIRE(vmptrst(&pointer), OUTCOME_DONE);
	return pointer;
}

/* A page with the given revision word. */
static u64 new_region(u32 revision)
{
	u32 *page = page_alloc();

	*page = revision;
	return physical(page);
}

static void forget_current_vmcs(void)
{
	REQUIRE(vmclear(region()), OUTCOME_DONE);
}

/* --- how an instruction tells its end ---------------------------------------------------- */

/* RFLAGS after a VMX instruction that began with all six status flags at `before`. */
#define FLAGS_AFTER(insn, before, ...) ({					\
	u64 flags__;								\
	asm volatile("pushfq\n\tandl $~0x8d5, (%%rsp)\n\torl %[set], (%%rsp)\n\tpopfq\n\t" \
		     insn "\n\tpushfq\n\tpop %[flags]"				\
		     : [flags] "=&r" (flags__) : [set] "i" (before), __VA_ARGS__ \
		     : "cc", "memory");						\
	flags__ & RFLAGS_STATUS; })
#define ALL_FLAGS	0x8d5
#define NO_FLAGS	0

CASE(flags_after_success, PROVES("vmx-result-flags:vmsucceed"), NEEDS(VMX))
{
	u64 value;

	EXPECT_EQ(FLAGS_AFTER("vmptrst %[v]", ALL_FLAGS, [v] "m" (value)), 0);
	EXPECT_EQ(FLAGS_AFTER("vmptrst %[v]", NO_FLAGS, [v] "m" (value)), 0);
}

CASE(flags_after_vmfailvalid, PROVES("vmx-result-flags:vmfailvalid"), NEEDS(VMX))
{
	EXPECT_EQ(FLAGS_AFTER("vmwrite %[f], %[f]", ALL_FLAGS, [f] "r" (NO_FIELD)), RFLAGS_ZF);
	EXPECT_EQ(FLAGS_AFTER("vmwrite %[f], %[f]", NO_FLAGS, [f] "r" (NO_FIELD)), RFLAGS_ZF);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_UNSUPPORTED_VMCS_COMPONENT);
}

CASE(flags_after_vmfailinvalid, PROVES("vmx-result-flags:vmfailinvalid"), NEEDS(VMX))
{
	forget_current_vmcs();
	EXPECT_EQ(FLAGS_AFTER("vmwrite %[f], %[f]", ALL_FLAGS, [f] "r" (NO_FIELD)), RFLAGS_CF);
	EXPECT_EQ(FLAGS_AFTER("vmwrite %[f], %[f]", NO_FLAGS, [f] "r" (NO_FIELD)), RFLAGS_CF);
}

/* Nothing but a VMfailValid writes the error field. */
CASE(success_keeps_the_error_number, PROVES("vmx-result-flags:vmsucceed"), NEEDS(VMX))
{
	u64 other = new_region(vmcs_revision());

	EXPECT(vmptrld(region() | 1), LOAD_INVALID);
	EXPECT(vmwrite_outcome(GUEST_RIP, 1), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RIP), 1);
	EXPECT_EQ(current_vmcs(), region());
	EXPECT(vmclear(other), OUTCOME_DONE);
	EXPECT(vmptrld(region()), OUTCOME_DONE);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMPTRLD_INVALID_ADDRESS);
}

CASE(vmfailinvalid_keeps_the_error_number, PROVES("vmx-result-flags:vmfailinvalid"), NEEDS(VMX))
{
	EXPECT(vmptrld(region() | 1), LOAD_INVALID);
	forget_current_vmcs();
	EXPECT(vmwrite_outcome(GUEST_RIP, 1), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmclear(vmxon_pointer()), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmptrld(region()), OUTCOME_DONE);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMPTRLD_INVALID_ADDRESS);
}

/* The number goes to the VMCS that is current, not to the one that the instruction names. */
CASE(error_number_is_in_the_current_vmcs, PROVES("vmx-result-flags:vmfailvalid"), NEEDS(VMX))
{
	u64 other = new_region(vmcs_revision());

	EXPECT(vmptrld(vmxon_pointer()), LOAD_VMXON);
	REQUIRE(vmclear(other), OUTCOME_DONE);
	REQUIRE(vmptrld(other), OUTCOME_DONE);
	EXPECT(vmclear(region() | 1), CLEAR_INVALID);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMCLEAR_INVALID_ADDRESS);
	REQUIRE(vmptrld(region()), OUTCOME_DONE);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMPTRLD_VMXON_POINTER);
}

/* VMfail(n) is VMfailInvalid where there is no VMCS to put n into. */
CASE(vmfail_without_current_vmcs, PROVES("vmx-result-flags:vmfail"), NEEDS(VMX))
{
	forget_current_vmcs();
	EXPECT(vmclear(1), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmclear(vmxon_pointer()), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmptrld(1), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmptrld(vmxon_pointer()), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmptrld(new_region(~vmcs_revision())), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmxon(vmxon_pointer()), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmcall(), OUTCOME_VMFAIL_INVALID);
}

/* --- VMCLEAR ------------------------------------------------------------------------------ */

CASE(vmclear_of_the_current_vmcs, PROVES("vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	EXPECT(vmclear(region()), OUTCOME_DONE);
	EXPECT_EQ(current_vmcs(), NO_VMCS);
}

CASE(vmclear_of_another_vmcs, PROVES("vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	EXPECT(vmclear(new_region(vmcs_revision())), OUTCOME_DONE);
	EXPECT_EQ(current_vmcs(), region());
}

/* It is VMPTRLD that looks at the revision; VMCLEAR writes none either. */
CASE(vmclear_ignores_the_revision, PROVES("vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	u32 revision = ~vmcs_revision();
	u64 other = new_region(revision);

	EXPECT(vmclear(other), OUTCOME_DONE);
	EXPECT_EQ(*(u32 *)other, revision);
}

CASE(vmclear_misaligned, PROVES("vmx-instructions:vmclear.bad_pointer", "vm-instruction-errors:2"),
     NEEDS(VMX))
{
	u32 bit;

	for (bit = 0; bit < 12; bit++)
		EXPECT_FOR_BIT(bit, vmclear(region() | BIT(bit)), CLEAR_INVALID);
	EXPECT_EQ(current_vmcs(), region());
}

CASE(vmclear_too_wide, PROVES("vmx-instructions:vmclear.bad_pointer",
     "vmx-capabilities:basic.address_width"), NEEDS(VMX))
{
	u32 bit;

	for (bit = vmx_pointer_width(); bit < 64; bit++)
		EXPECT_FOR_BIT(bit, vmclear(region() | BIT(bit)), CLEAR_INVALID);
	EXPECT_EQ(current_vmcs(), region());
}

CASE(vmclear_of_the_vmxon_region, PROVES("vmx-instructions:vmclear.vmxon_pointer",
     "vm-instruction-errors:3"), NEEDS(VMX))
{
	EXPECT(vmclear(vmxon_pointer()), CLEAR_VMXON);
}

/* --- VMPTRLD ------------------------------------------------------------------------------ */

CASE(vmptrld_makes_a_vmcs_current, PROVES("vmx-instructions:vmptrld.success"), NEEDS(VMX))
{
	u64 other = new_region(vmcs_revision());

	REQUIRE(vmclear(other), OUTCOME_DONE);
	EXPECT(vmptrld(other), OUTCOME_DONE);
	EXPECT_EQ(current_vmcs(), other);
	/* It is current already. */
	EXPECT(vmptrld(other), OUTCOME_DONE);
	EXPECT_EQ(current_vmcs(), other);
}

CASE(vmptrld_misaligned, PROVES("vmx-instructions:vmptrld.bad_pointer", "vm-instruction-errors:9"),
     NEEDS(VMX))
{
	u64 other = new_region(vmcs_revision());
	u32 bit;

	for (bit = 0; bit < 12; bit++)
		EXPECT_FOR_BIT(bit, vmptrld(other | BIT(bit)), LOAD_INVALID);
	EXPECT_EQ(current_vmcs(), region());
}

CASE(vmptrld_too_wide, PROVES("vmx-instructions:vmptrld.bad_pointer",
     "vmx-capabilities:basic.address_width"), NEEDS(VMX))
{
	u64 other = new_region(vmcs_revision());
	u32 bit;

	for (bit = vmx_pointer_width(); bit < 64; bit++)
		EXPECT_FOR_BIT(bit, vmptrld(other | BIT(bit)), LOAD_INVALID);
	EXPECT_EQ(current_vmcs(), region());
}

CASE(vmptrld_of_the_vmxon_region, PROVES("vmx-instructions:vmptrld.vmxon_pointer",
     "vm-instruction-errors:10"), NEEDS(VMX))
{
	EXPECT(vmptrld(vmxon_pointer()), LOAD_VMXON);
	EXPECT_EQ(current_vmcs(), region());
}

CASE(vmptrld_wrong_revision, PROVES("vmx-instructions:vmptrld.revision",
     "vmx-capabilities:basic.revision", "vm-instruction-errors:11",
     "field-formats:vmcs_region.revision"), NEEDS(VMX))
{
	u64 other = new_region(0);
	u32 bit;

	for (bit = 0; bit < 31; bit++) {
		*(u32 *)other = vmcs_revision() ^ BIT(bit);
		EXPECT_FOR_BIT(bit, vmptrld(other), LOAD_REVISION);
	}
	EXPECT_EQ(current_vmcs(), region());
}

static bool need_no_shadow_vmcs(u64 unused __maybe_unused)
{
	return vmx_supported() && !control_allowed(CONTROL_PROC2_VMCS_SHADOWING);
}

CASE(vmptrld_of_a_shadow_vmcs_unsupported, PROVES("vmx-instructions:vmptrld.shadow_unsupported"),
     NEEDS(VMX, { "a processor without VMCS shadowing", need_no_shadow_vmcs, 0, 0 }))
{
	EXPECT(vmptrld(new_region(vmcs_revision() | BIT(31))), LOAD_REVISION);
	EXPECT_EQ(current_vmcs(), region());
}

/* 27.10 VMCS Types: Ordinary and Shadow: in root operation both can be read and written. */
CASE(vmptrld_of_a_shadow_vmcs, PROVES("vmx-instructions:vmptrld.success",
     "field-formats:vmcs_region.shadow"),
     NEEDS(VMX, PROC2(VMCS_SHADOWING)))
{
	u64 shadow = new_region(vmcs_revision() | BIT(31));

	REQUIRE(vmclear(shadow), OUTCOME_DONE);
	EXPECT(vmptrld(shadow), OUTCOME_DONE);
	EXPECT_EQ(current_vmcs(), shadow);
	EXPECT(vmwrite_outcome(GUEST_RIP, 0x1234), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RIP), 0x1234);
	/* The indicator is no part of the revision. */
	*(u32 *)(shadow = new_region(0)) = (vmcs_revision() ^ 1) | BIT(31);
	EXPECT(vmptrld(shadow), LOAD_REVISION);
}

/* --- VMPTRST ------------------------------------------------------------------------------ */

CASE(vmptrst_stores_64_bits, PROVES("vmx-instructions:vmptrst.success"), NEEDS(VMX))
{
	u64 stored[3] = { 1, 2, 3 };

	EXPECT(vmptrst(&stored[1]), OUTCOME_DONE);
	EXPECT_EQ(stored[0], 1);
	EXPECT_EQ(stored[1], region());
	EXPECT_EQ(stored[2], 3);
}

CASE(vmptrst_without_current_vmcs, PROVES("vmx-instructions:vmptrst.success"), NEEDS(VMX))
{
	forget_current_vmcs();
	EXPECT_EQ(current_vmcs(), NO_VMCS);
}

/* --- VMREAD and VMWRITE ------------------------------------------------------------------- */

CASE(vmread_without_current_vmcs, PROVES("vmx-instructions:vmread.no_vmcs"), NEEDS(VMX))
{
	u64 value = 0x5a5a;

	forget_current_vmcs();
	EXPECT(vmread_outcome(GUEST_RIP, &value), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmread_outcome(NO_FIELD, &value), OUTCOME_VMFAIL_INVALID);
	EXPECT_EQ(value, 0x5a5a);
}

CASE(vmwrite_without_current_vmcs, PROVES("vmx-instructions:vmwrite.no_vmcs"), NEEDS(VMX))
{
	forget_current_vmcs();
	EXPECT(vmwrite_outcome(GUEST_RIP, 0), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmwrite_outcome(NO_FIELD, 0), OUTCOME_VMFAIL_INVALID);
}

CASE(vmread_of_no_field, PROVES("vmx-instructions:vmread.unsupported_field",
     "vm-instruction-errors:12"), NEEDS(VMX))
{
	u64 value = 0x5a5a;

	EXPECT(vmread_outcome(NO_FIELD, &value), UNSUPPORTED);
	EXPECT_EQ(value, 0x5a5a);
}

CASE(vmwrite_of_no_field, PROVES("vmx-instructions:vmwrite.unsupported_field",
     "vm-instruction-errors:12"), NEEDS(VMX))
{
	EXPECT(vmwrite_outcome(NO_FIELD, 0), UNSUPPORTED);
}

static bool need_read_only_fields(u64 unused __maybe_unused)
{
	return vmx_supported() && !(capabilities()->misc & BIT(29));
}

CASE(vmwrite_of_a_read_only_field, PROVES("vmx-instructions:vmwrite.read_only_field",
     "vm-instruction-errors:13", "vmx-capabilities:misc.vmwrite_any_field"),
     NEEDS(VMX, { "IA32_VMX_MISC bit 29 clear", need_read_only_fields, 0, 0 }))
{
	u64 reason = vmread(EXIT_REASON);

	EXPECT(vmwrite_outcome(EXIT_REASON, ~reason),
	       OUTCOME_VMFAIL_VALID(VMFAIL_VMWRITE_READ_ONLY_COMPONENT));
	EXPECT_EQ(vmread(EXIT_REASON), reason);
}

CASE(vmwrite_of_an_exit_information_field, PROVES("vmx-instructions:vmwrite.success",
     "vmx-capabilities:misc.vmwrite_any_field"),
     NEEDS(VMX, { "IA32_VMX_MISC bit 29", need_misc, BIT(29), 0 }))
{
	EXPECT(vmwrite_outcome(EXIT_REASON, 0x12345678), OUTCOME_DONE);
	EXPECT_EQ(vmread(EXIT_REASON), 0x12345678);
}

/* The memory forms move 64 bits in 64-bit mode, whatever the width of the field. */
CASE(vmread_to_memory, PROVES("vmx-instructions:vmread.success"), NEEDS(VMX))
{
	u64 stored[3] = { ~0ull, ~0ull, ~0ull };

	vmwrite(GUEST_CS_SELECTOR, 0x1234);
	EXPECT(VMX_ATTEMPT("vmread %[field], %[to]", , [to] "=m" (stored[1])
			   : [field] "r" ((u64)GUEST_CS_SELECTOR) : "cc", "memory"), OUTCOME_DONE);
	EXPECT_EQ(stored[0], ~0ull);
	EXPECT_EQ(stored[1], 0x1234);
	EXPECT_EQ(stored[2], ~0ull);
}

CASE(vmwrite_from_memory, PROVES("vmx-instructions:vmwrite.success"), NEEDS(VMX))
{
	u64 source[3] = { 1, 0x123456789abcdef0, 3 };

	EXPECT(VMX_ATTEMPT("vmwrite %[from], %[field]", : [from] "m" (source[1]),
			   [field] "r" ((u64)GUEST_RIP) : "cc", "memory"), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RIP), 0x123456789abcdef0);
}

/* --- VMCALL ------------------------------------------------------------------------------- */

/* With no SMM monitor to call. */
CASE(vmcall_in_root_operation, PROVES("vmx-instructions:vmcall.root", "vm-instruction-errors:1"),
     NEEDS(VMX))
{
	EXPECT(vmcall(), CALL_IN_ROOT);
}
