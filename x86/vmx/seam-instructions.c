/*
 * SEAMCALL, TDCALL, SEAMRET and SEAMOPS, as software outside the secure-arbitration mode meets
 * them: 35.5 SEAM Instruction Reference.
 *
 * SEAMCALL is for VMX root operation, where it enters a module that Intel has signed; SEAMRET and
 * SEAMOPS are for that module alone. In a guest SEAMCALL and TDCALL are exits on processors that
 * have SEAM: 28.1.2 Instructions That Cause VM Exits Unconditionally. On others all four are
 * unknown. Whether a processor has SEAM is said by bit 15 of IA32_MTRRCAP.
 */
#include "cpu/safe.h"
#include "vmx/guest.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define IA32_MTRRCAP	0xfe
#define MTRRCAP_SEAMRR	BIT(15)

#define SEAMOPS		".byte 0x66, 0x0f, 0x01, 0xce"
#define SEAMRET		".byte 0x66, 0x0f, 0x01, 0xcd"
#define SEAMCALL	".byte 0x66, 0x0f, 0x01, 0xcf"
#define TDCALL		".byte 0x66, 0x0f, 0x01, 0xcc"

static bool need_seam(u64 unused __maybe_unused)
{
	u64 value = 0;

	return vmx_supported() && rdmsr_safe(IA32_MTRRCAP, &value) == OUTCOME_DONE &&
	       value & MTRRCAP_SEAMRR;
}

static bool need_no_seam(u64 unused)
{
	return vmx_supported() && !need_seam(unused);
}

#define SEAM	{ "SEAM, IA32_MTRRCAP bit 15", need_seam, 0, 0 }
#define NO_SEAM	{ "a processor without SEAM", need_no_seam, 0, 0 }

GUEST_INSTRUCTION(seamcall, "", SEAMCALL);
GUEST_INSTRUCTION(tdcall, "", TDCALL);
GUEST_INSTRUCTION(seamret, "", SEAMRET);
GUEST_INSTRUCTION(seamops, "", SEAMOPS);

static void expect_ud_in_guest(const struct guest_code *code)
{
	EXPECT(enter(code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

CASE(seamcall_outside_vmx_operation, PROVES("vmx-instructions:seamcall.ud_gp"), NEEDS(VMX))
{
	REQUIRE(vmxoff(), OUTCOME_DONE);
	EXPECT(ATTEMPT(SEAMCALL, : "a" (0) : "memory", "cc"), OUTCOME_UD, OUTCOME_GP0);
}

CASE(seamcall_without_seam, PROVES("vmx-instructions:seamcall.ud_gp"), NEEDS(VMX, NO_SEAM))
{
	EXPECT(ATTEMPT(SEAMCALL, : "a" (0) : "memory", "cc"), OUTCOME_UD);
	expect_ud_in_guest(&guest_seamcall);
	expect_ud_in_guest(&guest_tdcall);
}

CASE(seamcall_exits, PROVES("vmx-instructions:seamcall.nonroot", "exit-reasons:76",
     "nonroot-behavior:seam_instructions"), NEEDS(VMX, SEAM))
{
	EXPECT(enter(guest_seamcall.run), OUTCOME_EXIT(EXIT_SEAMCALL));
	EXPECT_FAULT_LIKE_EXIT(guest_seamcall);
}

CASE(tdcall_exits, PROVES("vmx-instructions:tdcall.nonroot", "exit-reasons:77",
     "nonroot-behavior:seam_instructions"), NEEDS(VMX, SEAM))
{
	EXPECT(enter(guest_tdcall.run), OUTCOME_EXIT(EXIT_TDCALL));
	EXPECT_FAULT_LIKE_EXIT(guest_tdcall);
}

CASE(seamret_outside_seam, PROVES("vmx-instructions:seamret.ud"), NEEDS(VMX))
{
	EXPECT(ATTEMPT(SEAMRET, : "a" (0) : "memory", "cc"), OUTCOME_UD);
	expect_ud_in_guest(&guest_seamret);
}

CASE(seamops_outside_seam, PROVES("vmx-instructions:seamops.ud"), NEEDS(VMX))
{
	EXPECT(ATTEMPT(SEAMOPS, : "a" (0) : "memory", "cc"), OUTCOME_UD);
	expect_ud_in_guest(&guest_seamops);
}
