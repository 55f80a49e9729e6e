/*
 * VMXON, VMXOFF, and the bits of CR0 and CR4 that VMX operation fixes.
 *
 * VMXON enters VMX operation when CR4.VMXE is 1, CR0 and CR4 hold what VMX operation supports,
 * IA32_FEATURE_CONTROL allows it, and the operand points to a VMXON region of this processor's
 * kind: 26.7 Enabling and Entering VMX Operation, 26.8 Restrictions on VMX Operation, 27.11.5
 * VMXON Region. The order of the checks is that of 33.3 VMX Instructions, "VMXON". How
 * IA32_FEATURE_CONTROL forbids it is the subject of vmxon-unlocked and vmxon-disabled; CPL and
 * modes, of instruction-modes.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/build.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

/* Ready for VMXON, outside VMX operation. */
BEFORE_EACH_CASE(vmx_prepare);

#define NO_VMCS			(~0ull)
#define IN_VMX_ROOT		OUTCOME_VMFAIL_VALID(VMFAIL_VMXON_IN_VMX_ROOT)

/* A linear address that is not mapped: behind the first 4 GBytes. */
#define NOT_MAPPED		0x500000000ull

static outcome_t vmxon_at(u64 operand_address)
{
	return VMX_ATTEMPT("vmxon (%[a])", : [a] "r" (operand_address) : "cc", "memory");
}

static u64 vmxon_region(void)
{
	return (u64)this_vmx()->vmxon_region;
}

static void make_vmcs_current(void)
{
	REQUIRE(vmclear((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	REQUIRE(vmptrld((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
}

/* --- into VMX operation and out of it ------------------------------------------- */

CASE(vmxon_enters_without_a_current_vmcs, PROVES("vmx-instructions:vmxon.success",
     "vmx-result-flags:vmsucceed"), NEEDS(VMX))
{
	u64 pointer = 0, value = 0;

	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	EXPECT(vmptrst(&pointer), OUTCOME_DONE);
	EXPECT_EQ(pointer, NO_VMCS);
	EXPECT(vmread_outcome(EXIT_REASON, &value), OUTCOME_VMFAIL_INVALID);
}

CASE(vmxoff_leaves_vmx_operation, PROVES("vmx-instructions:vmxoff.success",
     "vmx-instructions:vmxoff.ud"), NEEDS(VMX))
{
	u64 pointer = 0;

	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	EXPECT(vmxoff(), OUTCOME_DONE);
	EXPECT(vmptrst(&pointer), OUTCOME_UD);
	EXPECT(vmxoff(), OUTCOME_UD);
	/* 26.7: CR4.VMXE may be cleared again. */
	EXPECT(write_cr4_safe(read_cr4() & ~CR4_VMXE), OUTCOME_DONE);
}

/* What was current before VMXOFF is not current after the next VMXON. */
CASE(vmxon_again_without_a_current_vmcs, PROVES("vmx-instructions:vmxon.success"), NEEDS(VMX))
{
	u64 pointer = 0;

	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	make_vmcs_current();
	REQUIRE(vmxoff(), OUTCOME_DONE);
	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	EXPECT(vmptrst(&pointer), OUTCOME_DONE);
	EXPECT_EQ(pointer, NO_VMCS);
}

/* --- address-range monitoring ------------------------------------------------------ */

/*
 * Both instructions clear what MONITOR has established: MWAIT then does not wait. With interrupts
 * disabled nothing would end the wait, so the failure is a case that hangs.
 */
static void monitor(const void *address)
{
	asm volatile("monitor" : : "a" (address), "c" (0), "d" (0) : "memory");
}

static outcome_t mwait(void)
{
	return ATTEMPT("mwait", : "a" (0), "c" (0) : "memory");
}

CASE(vmxon_clears_monitoring, PROVES("vmx-instructions:vmxon.success"), NEEDS(VMX, CPU(MONITOR)))
{
	monitor(page_alloc());
	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	EXPECT(mwait(), OUTCOME_DONE);
}

CASE(vmxoff_clears_monitoring, PROVES("vmx-instructions:vmxoff.success"), NEEDS(VMX, CPU(MONITOR)))
{
	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	monitor(page_alloc());
	REQUIRE(vmxoff(), OUTCOME_DONE);
	EXPECT(mwait(), OUTCOME_DONE);
}

/* --- CR4.VMXE --------------------------------------------------------------------- */

CASE(vmxon_needs_cr4_vmxe, PROVES("vmx-instructions:vmxon.vmxe_clear"), NEEDS(VMX))
{
	write_cr4(read_cr4() & ~CR4_VMXE);
	EXPECT(vmxon(vmxon_region()), OUTCOME_UD);
}

CASE(cr4_vmxe_comes_before_the_operand, PROVES("vmx-instructions:vmxon.vmxe_clear"), NEEDS(VMX))
{
	write_cr4(read_cr4() & ~CR4_VMXE);
	EXPECT(vmxon_at(NOT_MAPPED), OUTCOME_UD);
}

/* --- fixed bits of CR0 and CR4 ---------------------------------------------------- */

struct fixed_register {
	const char *name;
	u64 (*read)(void);
	outcome_t (*write)(u64 value);
	size_t fixed0, fixed1;		/* where they are in struct capabilities */
};

static const struct fixed_register cr0 = {
	"CR0", read_cr0, write_cr0_safe,
	offsetof(struct capabilities, cr0_fixed0), offsetof(struct capabilities, cr0_fixed1),
};

static const struct fixed_register cr4 = {
	"CR4", read_cr4, write_cr4_safe,
	offsetof(struct capabilities, cr4_fixed0), offsetof(struct capabilities, cr4_fixed1),
};

/* A.7, A.8: 1 in FIXED0 is a bit that must be 1, 0 in FIXED1 one that must be 0. */
static u64 fixed_bits(const struct fixed_register *reg)
{
	const u8 *caps = (const u8 *)capabilities();

	return *(const u64 *)(caps + reg->fixed0) | ~*(const u64 *)(caps + reg->fixed1);
}

/* Outside VMX operation the bits are free, as far as the processor and IA-32e mode let them be. */
static void check_vmxon_with_wrong_bits(const struct case_def *this_case)
{
	const struct fixed_register *reg = this_case->row;
	u64 good = reg->read(), fixed = fixed_bits(reg);
	u32 bit, tried = 0;
	outcome_t outcome;

	if (reg == &cr4)
		fixed &= ~CR4_VMXE;	/* 0 there is #UD */
	for (bit = 0; bit < 64; bit++) {
		if (!(fixed & BIT(bit)) || reg->write(good ^ BIT(bit)) != OUTCOME_DONE)
			continue;
		if (reg->read() == (good ^ BIT(bit))) {
			outcome = vmxon(vmxon_region());
			EXPECT_FOR_BIT(bit, outcome, OUTCOME_GP0);
			if (outcome == OUTCOME_DONE)
				vmxoff();
			tried++;
		}
		reg->write(good);
	}
	if (!tried)
		case_skip("a bit of %s that VMX operation fixes and that software can change",
			  reg->name);
}

CASE_RUN(vmxon_with_wrong_cr0, check_vmxon_with_wrong_bits,
	 PROVES("vmx-instructions:vmxon.fixed_bits", "vmx-capabilities:cr0_fixed0"),
	 NEEDS(VMX), ROW(&cr0));
CASE_RUN(vmxon_with_wrong_cr4, check_vmxon_with_wrong_bits,
	 PROVES("vmx-instructions:vmxon.fixed_bits"),
	 NEEDS(VMX), ROW(&cr4));

/* In VMX operation the same values are refused by MOV to the register: 26.8. */
static void check_mov_of_wrong_bits(const struct case_def *this_case)
{
	const struct fixed_register *reg = this_case->row;
	u64 good = reg->read(), fixed = fixed_bits(reg);
	u32 bit;

	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	for (bit = 0; bit < 64; bit++) {
		if (!(fixed & BIT(bit)))
			continue;
		EXPECT_FOR_BIT(bit, reg->write(good ^ BIT(bit)), OUTCOME_GP0);
		EXPECT_EQ(reg->read(), good);
	}
}

CASE_RUN(mov_of_wrong_cr0_in_vmx_operation, check_mov_of_wrong_bits,
	 PROVES("vmx-capabilities:cr0_fixed0", "vmx-capabilities:cr0_fixed1",
     "nonroot-behavior:root.cr_fixed"),
	 NEEDS(VMX), ROW(&cr0));
CASE_RUN(mov_of_wrong_cr4_in_vmx_operation, check_mov_of_wrong_bits,
	 PROVES("vmx-capabilities:cr4_fixed0", "vmx-capabilities:cr4_fixed1",
     "nonroot-behavior:root.cr_fixed", "nonroot-behavior:root.vmxe"),
	 NEEDS(VMX), ROW(&cr4));

/* 32-bit code without paging has CR0.PG as VMX operation does not want it; all else is good. */
#define VMX_SUCCEEDED	0x10000u

CODE32(vmxon_outside_64_bit_mode, "vmxon (%eax)\n\tpushfl\n\tpopl %eax\n\tandl $0x8d5, %eax\n\t"
       "orl $0x10000, %eax");
CODE32(vmxoff_outside_64_bit_mode, "vmxoff");

#define VMXON_STEP(pointer) \
	LEGACY_STEP("VMXON by", vmxon_outside_64_bit_mode, (u32)(u64)(pointer), 0)
#define VMXOFF_STEP \
	LEGACY_STEP("VMXOFF,", vmxoff_outside_64_bit_mode, 0, 0)

static u64 pointer_for_32_bit_code;

CASE(vmxon_without_paging, PROVES("vmx-instructions:vmxon.fixed_bits",
     "vmx-capabilities:cr0_fixed0"), NEEDS(VMX))
{
	struct legacy_step script[] = {
		{ VMXON_STEP(&pointer_for_32_bit_code), .ends = OUTCOME_GP0 },
		{ VMXOFF_STEP, .ends = OUTCOME_UD },
	};

	if (!(capabilities()->cr0_fixed0 & CR0_PG))
		case_skip("CR0.PG fixed to 1");
	pointer_for_32_bit_code = vmxon_region();
	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
}

/* With paging they are good, and 64-bit mode is not asked for. */
CASE(vmxon_with_32_bit_paging, PROVES("vmx-instructions:vmxon.success"), NEEDS(VMX))
{
	struct legacy_step script[] = {
		{ VMXON_STEP(&pointer_for_32_bit_code), .gives = VMX_SUCCEEDED },
		{ VMXOFF_STEP },
		{ VMXOFF_STEP, .ends = OUTCOME_UD },
	};
	u32 *directory = page_alloc();
	struct legacy_start start = {
		.mode = PAGING_32_BIT, .cr3 = physical(directory), .cr4 = CR4_PSE,
	};
	u32 i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	pointer_for_32_bit_code = vmxon_region();
	LEGACY_RUN(&start, script);
}

/* The control registers are checked before the operand is read. */
CASE(fixed_bits_come_before_the_operand, PROVES("vmx-instructions:vmxon.fixed_bits"), NEEDS(VMX))
{
	write_cr0(read_cr0() & ~CR0_NE);
	if (!(capabilities()->cr0_fixed0 & CR0_NE))
		case_skip("CR0.NE fixed to 1");
	EXPECT(vmxon_at(NOT_MAPPED), OUTCOME_GP0);
}

/* --- the VMXON pointer and the revision ------------------------------------------- */

/* A failed VMXON must not enter: VMPTRST would then not be #UD. */
static void expect_refused(u32 bit, u64 pointer)
{
	u64 current = 0;

	EXPECT_FOR_BIT(bit, vmxon(pointer), OUTCOME_VMFAIL_INVALID);
	if (!EXPECT_FOR_BIT(bit, vmptrst(&current), OUTCOME_UD))
		vmxoff();
}

CASE(misaligned_pointer, PROVES("vmx-instructions:vmxon.misaligned",
     "vmx-result-flags:vmfailinvalid"), NEEDS(VMX))
{
	u32 bit;

	for (bit = 0; bit < 12; bit++)
		expect_refused(bit, vmxon_region() | BIT(bit));
}

CASE(pointer_beyond_the_physical_address_width, PROVES("vmx-instructions:vmxon.too_wide",
     "vmx-capabilities:basic.address_width"), NEEDS(VMX))
{
	u32 bit;

	for (bit = vmx_pointer_width(); bit < 64; bit++)
		expect_refused(bit, vmxon_region() | BIT(bit));
}

CASE(wrong_revision, PROVES("vmx-instructions:vmxon.revision", "vmx-capabilities:basic.revision"),
     NEEDS(VMX))
{
	u32 bit, revision;

	for (bit = 0; bit < 31; bit++) {
		revision = vmcs_revision() ^ BIT(bit);
		memcpy(this_vmx()->vmxon_region, &revision, sizeof(revision));
		expect_refused(bit, vmxon_region());
	}
}

/* Bit 31 is no shadow-VMCS indicator here, whether or not there are shadow VMCSs: 27.11.5. */
CASE(bit_31_of_the_revision_word, PROVES("vmx-instructions:vmxon.revision_bit31"), NEEDS(VMX))
{
	u32 revision = vmcs_revision() | BIT(31);

	memcpy(this_vmx()->vmxon_region, &revision, sizeof(revision));
	expect_refused(31, vmxon_region());
}

/* --- in VMX root operation -------------------------------------------------------- */

CASE(vmxon_in_root_operation, PROVES("vmx-instructions:vmxon.root", "vm-instruction-errors:15",
     "vmx-result-flags:vmfail"), NEEDS(VMX))
{
	u64 pointer = 0;

	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	EXPECT(vmxon(vmxon_region()), OUTCOME_VMFAIL_INVALID);
	make_vmcs_current();
	EXPECT(vmxon(vmxon_region()), IN_VMX_ROOT);
	EXPECT(vmptrst(&pointer), OUTCOME_DONE);
	EXPECT_EQ(pointer, (u64)this_vmx()->vmcs_region);
}

/* There VMXON ends before its operand, or what it points to, means anything. */
CASE(vmxon_in_root_operation_reads_no_operand, PROVES("vmx-instructions:vmxon.root"), NEEDS(VMX))
{
	REQUIRE(vmxon(vmxon_region()), OUTCOME_DONE);
	make_vmcs_current();
	EXPECT(vmxon(1), IN_VMX_ROOT);
	EXPECT(vmxon_at(NOT_MAPPED), IN_VMX_ROOT);
}
