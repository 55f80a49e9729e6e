/*
 * The capability MSRs of VMX, IA32_VMX_BASIC (480H) to IA32_VMX_EXIT_CTLS2 (493H): Appendix A, VMX
 * Capability Reporting Facility.
 *
 * Here: which of them exist, that nobody can write them, their reserved bits, that they agree with
 * one another, with CPUID and with what MOV to CR0 and CR4 accepts, and that every processor says
 * the same. What IA32_VMX_MISC and IA32_VMX_BASIC promise of VM entries and exits is tried out in
 * capability-effects; each single control in controls; the bits of IA32_VMX_EPT_VPID_CAP in x86/ept
 * and in invalidate-basic; IA32_VMX_VMCS_ENUM in fields-basic.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "mmu/build.h"
#include "vmx/control_rules.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define FIRST_MSR	IA32_VMX_BASIC
#define LAST_MSR	IA32_VMX_EXIT_CTLS2
#define MSR_COUNT	(LAST_MSR - FIRST_MSR + 1)

static bool need_no_misc(u64 bits)
{
	return vmx_supported() && !(capabilities()->misc & bits);
}

static u64 read(u32 msr)
{
	u64 value = 0;

	REQUIRE(rdmsr_safe(msr, &value), OUTCOME_DONE);
	return value;
}

/* --- which exist ---------------------------------------------------------------------- */

static bool has_ept_or_vpid(void)
{
	return control_allowed(CONTROL_PROC2_ENABLE_EPT) ||
	       control_allowed(CONTROL_PROC2_ENABLE_VPID);
}

/* The MSRs from IA32_VMX_PROCBASED_CTLS2 on are there when another one announces them. */
static bool must_exist(u32 msr)
{
	switch (msr) {
	case IA32_VMX_PROCBASED_CTLS2:
		return control_field_exists(CONTROL_FIELD_PROC2);
	case IA32_VMX_EPT_VPID_CAP:
		return has_ept_or_vpid();
	case IA32_VMX_TRUE_PINBASED_CTLS ... IA32_VMX_TRUE_ENTRY_CTLS:
		return capabilities()->basic & BASIC_CAP_TRUE_CONTROLS;
	case IA32_VMX_VMFUNC:
		return control_field_exists(CONTROL_FIELD_VMFUNC);
	case IA32_VMX_PROCBASED_CTLS3:
		return control_field_exists(CONTROL_FIELD_PROC3);
	case IA32_VMX_EXIT_CTLS2:
		return control_field_exists(CONTROL_FIELD_EXIT2);
	}
	return true;
}

static void check_existence(const struct case_def *this_case)
{
	u32 msr = *(const u32 *)this_case->row;
	u64 value;

	EXPECT(rdmsr_safe(msr, &value), must_exist(msr) ? OUTCOME_DONE : OUTCOME_GP0);
}

#define EXISTENCE_CASE(name, msr, ...)						\
	CASE_RUN(name##_exists_when_announced, check_existence,			\
		 PROVES(__VA_ARGS__), NEEDS(VMX), ROW(&(const u32){ msr }))
EXISTENCE_CASE(procbased_ctls2, IA32_VMX_PROCBASED_CTLS2, "vmx-capabilities:proc2.allowed1");
EXISTENCE_CASE(ept_vpid_cap, IA32_VMX_EPT_VPID_CAP, "vmx-capabilities:ept.reserved");
EXISTENCE_CASE(true_pinbased_ctls, IA32_VMX_TRUE_PINBASED_CTLS, "vmx-capabilities:true_pin",
	       "vmx-capabilities:basic.true_msrs");
EXISTENCE_CASE(true_procbased_ctls, IA32_VMX_TRUE_PROCBASED_CTLS, "vmx-capabilities:true_proc1",
	       "vmx-capabilities:basic.true_msrs");
EXISTENCE_CASE(true_exit_ctls, IA32_VMX_TRUE_EXIT_CTLS, "vmx-capabilities:true_exit",
	       "vmx-capabilities:basic.true_msrs");
EXISTENCE_CASE(true_entry_ctls, IA32_VMX_TRUE_ENTRY_CTLS, "vmx-capabilities:true_entry",
	       "vmx-capabilities:basic.true_msrs");
EXISTENCE_CASE(vmfunc, IA32_VMX_VMFUNC, "vmx-capabilities:vmfunc");
EXISTENCE_CASE(procbased_ctls3, IA32_VMX_PROCBASED_CTLS3, "vmx-capabilities:proc3");
EXISTENCE_CASE(exit_ctls2, IA32_VMX_EXIT_CTLS2, "vmx-capabilities:exit2");

/* --- who may write them --------------------------------------------------------------- */

/* Neither another value nor the one that is there, neither in VMX operation nor outside. */
static void check_read_only(void)
{
	u64 before;
	u32 msr;

	for (msr = FIRST_MSR; msr <= LAST_MSR; msr++) {
		if (!must_exist(msr))
			continue;
		before = read(msr);
		if (!EXPECT(wrmsr_safe(msr, before), OUTCOME_GP0) ||
		    !EXPECT(wrmsr_safe(msr, ~before), OUTCOME_GP0))
			case_note("msr", "%#x", msr);
		EXPECT_EQ(read(msr), before);
	}
}

CASE(read_only_in_vmx_operation, PROVES("vmx-capabilities:all.read_only"), NEEDS(VMX))
{
	check_read_only();
}

CASE(read_only_outside_vmx_operation, PROVES("vmx-capabilities:all.read_only"), NEEDS(VMX))
{
	REQUIRE(vmxoff(), OUTCOME_DONE);
	check_read_only();
}

/* What is not there cannot be written either. */
CASE(absent_msrs_cannot_be_written, PROVES("vmx-capabilities:all.read_only"), NEEDS(VMX))
{
	u32 msr, tried = 0;

	for (msr = FIRST_MSR; msr <= LAST_MSR; msr++) {
		if (must_exist(msr))
			continue;
		tried++;
		if (!EXPECT(wrmsr_safe(msr, 0), OUTCOME_GP0))
			case_note("msr", "%#x", msr);
	}
	if (!tried)
		case_skip("a capability MSR that this processor lacks");
}

/* A VMCS goes from one processor to another, so all must be able to do the same. */
static void read_all(void *values)
{
	u64 *to = values;
	u32 msr;

	for (msr = FIRST_MSR; msr <= LAST_MSR; msr++)
		if (rdmsr_safe(msr, &to[msr - FIRST_MSR]) != OUTCOME_DONE)
			to[msr - FIRST_MSR] = ~0ull;
}

CASE(all_processors_say_the_same, PROVES("vmx-capabilities:all.same_on_all_processors"),
     NEEDS(VMX, CPUS(2)))
{
	static u64 here[MSR_COUNT], there[MSR_COUNT];
	u32 i;

	read_all(here);
	REQUIRE(smp_call(1, read_all, there), OUTCOME_DONE);
	for (i = 0; i < MSR_COUNT; i++)
		if (!EXPECT_EQ(there[i], here[i]))
			case_note("msr", "%#x", FIRST_MSR + i);
}

/* --- reserved bits -------------------------------------------------------------------- */

struct reserved_bits {
	u32 msr;
	u64 bits;
};

static void check_reserved(const struct case_def *this_case)
{
	const struct reserved_bits *row = this_case->row;

	if (!must_exist(row->msr))
		case_skip("the MSR %#x", row->msr);
	EXPECT_EQ(read(row->msr) & row->bits, 0);
}

#define RESERVED_CASE(name, msr, bits, ...)					\
	CASE_RUN(name, check_reserved, PROVES(__VA_ARGS__), NEEDS(VMX),		\
		 ROW((&(const struct reserved_bits){ msr, bits })))
RESERVED_CASE(basic_bit_31, IA32_VMX_BASIC, BIT(31), "vmx-capabilities:basic.bit_31");
RESERVED_CASE(basic_reserved_47_45, IA32_VMX_BASIC, BITS(47, 45),
	      "vmx-capabilities:basic.reserved_47_45");
/* It limits addresses to 32 bits where there is no Intel 64 architecture; this code needs it. */
RESERVED_CASE(basic_address_width, IA32_VMX_BASIC, BIT(48), "vmx-capabilities:basic.address_width");
RESERVED_CASE(basic_reserved_57, IA32_VMX_BASIC, BIT(57), "vmx-capabilities:basic.reserved_57");
RESERVED_CASE(basic_reserved_63_59, IA32_VMX_BASIC, BITS(63, 59),
	      "vmx-capabilities:basic.reserved_63_59");
RESERVED_CASE(misc_reserved_13_9, IA32_VMX_MISC, BITS(13, 9),
	      "vmx-capabilities:misc.reserved_13_9");
RESERVED_CASE(misc_reserved_31, IA32_VMX_MISC, BIT(31), "vmx-capabilities:misc.reserved_31");
RESERVED_CASE(procbased_ctls2_allowed_0, IA32_VMX_PROCBASED_CTLS2, BITS(31, 0),
	      "vmx-capabilities:proc2.allowed0");
RESERVED_CASE(ept_vpid_cap_reserved, IA32_VMX_EPT_VPID_CAP,
	      BITS(5, 1) | BITS(13, 9) | BIT(15) | BITS(19, 18) | BIT(24) | BITS(31, 27) |
	      BITS(39, 33) | BITS(47, 44) | BITS(63, 54), "vmx-capabilities:ept.reserved");

/* --- IA32_VMX_BASIC and IA32_VMX_MISC ------------------------------------------------- */

/* 1 to 4096 bytes; bit 44 is set for 4096 alone. */
CASE(region_size, PROVES("vmx-capabilities:basic.region_size"), NEEDS(VMX))
{
	u64 size = FIELD(capabilities()->basic, 44, 32);

	EXPECT_TRUE(size >= 1 && size <= 4096);
}

/* 0 uncacheable, 6 write-back; no processor has had another. */
CASE(memory_type, PROVES("vmx-capabilities:basic.memory_type"), NEEDS(VMX))
{
	u64 type = FIELD(capabilities()->basic, 53, 50);

	EXPECT_TRUE(type == 0 || type == 6);
}

/* 29.2.1.3 VM-Entry Control Fields. */
CASE(fred_comes_with_any_error_code, PROVES("vmx-capabilities:basic.error_code_any_vector"),
     NEEDS(VMX, CPU(FRED)))
{
	EXPECT_TRUE(capabilities()->basic & BASIC_CAP_ANY_ERROR_CODE);
}

CASE(unrestricted_guest_comes_with_lma_stored, PROVES("vmx-capabilities:misc.store_lma"),
     NEEDS(VMX, PROC2(UNRESTRICTED_GUEST)))
{
	EXPECT_TRUE(capabilities()->misc & MISC_CAP_STORE_LMA);
}

/* 36.5.1 VMX-Specific Packets and VMCS Controls. */
CASE(no_conceal_controls_without_pt, PROVES("vmx-capabilities:misc.intel_pt"),
     NEEDS(VMX, { "IA32_VMX_MISC bit 14 clear", need_no_misc, MISC_CAP_PROCESSOR_TRACE, 0 }))
{
	EXPECT_FALSE(control_allowed(CONTROL_PROC2_CONCEAL_VMX_FROM_PT));
	EXPECT_FALSE(control_allowed(CONTROL_EXIT_CONCEAL_VMX_FROM_PT));
	EXPECT_FALSE(control_allowed(CONTROL_ENTRY_CONCEAL_VMX_FROM_PT));
}

/* --- allowed settings ----------------------------------------------------------------- */

/* The bits of a field that A.2 puts into the class default1. */
#define CLASS_DEFAULT0		0
#define CLASS_DEFAULT1		1
static u64 default1_of(enum control_field field)
{
	u64 bits[CONTROL_FIELDS] = { 0 };

#define CONTROL(field, bit, name, lower, class, words)				\
	bits[CONTROL_FIELD_##field] |= (u64)CLASS_##class << (bit);
#define CONTROL_RESERVED(field, bit, class)					\
	bits[CONTROL_FIELD_##field] |= (u64)CLASS_##class << (bit);
#include "sdm/controls.def"
	return bits[field];
}

/* Controls that no 64-bit processor can do without: 29.2.4, and this code as a guest. */
static u64 needed_here(enum control_field field)
{
	if (field == CONTROL_FIELD_EXIT)
		return control_bit(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE);
	if (field == CONTROL_FIELD_ENTRY)
		return control_bit(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	return 0;
}

static void check_allowed_0(const struct case_def *this_case)
{
	enum control_field field = *(const enum control_field *)this_case->row;

	EXPECT_EQ((u32)read(control_field_source(field)->msr), default1_of(field));
}

static void check_allowed_1(const struct case_def *this_case)
{
	enum control_field field = *(const enum control_field *)this_case->row;
	u64 want = default1_of(field) | needed_here(field);

	EXPECT_EQ(read(control_field_source(field)->msr) >> 32 & want, want);
}

static void check_true(const struct case_def *this_case)
{
	enum control_field field = *(const enum control_field *)this_case->row;
	u64 plain, real;

	if (!(capabilities()->basic & BASIC_CAP_TRUE_CONTROLS))
		case_skip("IA32_VMX_BASIC bit 55");
	plain = read(control_field_source(field)->msr);
	real = read(control_field_source(field)->true_msr);
	EXPECT_EQ(real >> 32, plain >> 32);
	EXPECT_EQ((u32)real & ~(u32)plain, 0);
	/* What must be 1 may be 1. */
	EXPECT_EQ((u32)real & ~(real >> 32), 0);
	EXPECT_EQ((u32)plain & ~(plain >> 32), 0);
}

#define SETTINGS_CASES(name, field)						\
	CASE_RUN(name##_allowed_0, check_allowed_0,				\
		 PROVES("vmx-capabilities:" #name ".allowed0"), NEEDS(VMX),	\
		 ROW(&(const enum control_field){ CONTROL_FIELD_##field }));	\
	CASE_RUN(name##_allowed_1, check_allowed_1,				\
		 PROVES("vmx-capabilities:" #name ".allowed1"), NEEDS(VMX),	\
		 ROW(&(const enum control_field){ CONTROL_FIELD_##field }));	\
	CASE_RUN(name##_true_msr, check_true,					\
		 PROVES("vmx-capabilities:true_" #name,				\
			"vmx-capabilities:all.true_msrs_agree",			\
			"vmx-capabilities:all.allowed1_covers_allowed0"), NEEDS(VMX),	\
		 ROW(&(const enum control_field){ CONTROL_FIELD_##field }))
SETTINGS_CASES(pin, PIN);
SETTINGS_CASES(proc1, PROC1);
SETTINGS_CASES(exit, EXIT);
SETTINGS_CASES(entry, ENTRY);

/* A control that may be 1 only together with another is no use where the other may not. */
CASE(required_controls_are_allowed, PROVES("vmx-capabilities:proc2.allowed1",
     "vmx-capabilities:proc3", "vmx-capabilities:exit2", "vmx-capabilities:vmfunc"), NEEDS(VMX))
{
	const struct control_rule *rule;
	u32 i;

	for (i = 0; (rule = control_rule(i)); i++)
		if (rule->kind == CONTROL_REQUIRES && control_allowed(rule->control) &&
		    !EXPECT_TRUE(control_allowed(rule->other)))
			case_note("rule", "\"%s\" requires \"%s\"", control_words(rule->control),
				  control_words(rule->other));
}

/* --- IA32_VMX_EPT_VPID_CAP ------------------------------------------------------------ */

CASE(ept_has_a_walk_length_and_a_memory_type, PROVES("vmx-capabilities:ept.walk_length_4",
     "vmx-capabilities:ept.memory_type_wb"), NEEDS(VMX, PROC2(ENABLE_EPT)))
{
	EXPECT_TRUE(capabilities()->ept_vpid_cap & (EPT_CAP_WALK_4 | EPT_CAP_WALK_5));
	EXPECT_TRUE(capabilities()->ept_vpid_cap & (EPT_CAP_UC | EPT_CAP_WB));
}

/* A type of INVEPT or INVVPID is a promise of the instruction; the instruction, of a type. */
CASE(invalidation_has_types, PROVES("vmx-capabilities:ept.invept", "vmx-capabilities:vpid.invvpid"),
     NEEDS(VMX))
{
	const u64 invept_types = EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL;
	const u64 invvpid_types = VPID_CAP_INVVPID_ADDRESS | VPID_CAP_INVVPID_SINGLE |
				  VPID_CAP_INVVPID_ALL | VPID_CAP_INVVPID_SINGLE_GLOBAL;
	u64 cap = capabilities()->ept_vpid_cap;

	EXPECT_EQ((bool)(cap & invept_types), (bool)(cap & EPT_CAP_INVEPT));
	EXPECT_EQ((bool)(cap & invvpid_types), (bool)(cap & VPID_CAP_INVVPID));
}

/* 5.5.1: HLAT paging applies to linear addresses by a prefix of at most so many bits. */
CASE(hlat_has_a_prefix_size, PROVES("vmx-capabilities:ept.hlat_prefix_size"),
     NEEDS(VMX, PROC3(ENABLE_HLAT)))
{
	EXPECT_TRUE(FIELD(capabilities()->ept_vpid_cap, 53, 48) >= 1);
}

/* --- CR0 and CR4 ---------------------------------------------------------------------- */

CASE(cr0_must_be_1_may_be_1, PROVES("vmx-capabilities:cr0_fixed0", "vmx-capabilities:cr0_fixed1"),
     NEEDS(VMX))
{
	EXPECT_EQ(capabilities()->cr0_fixed0 & ~capabilities()->cr0_fixed1, 0);
}

CASE(cr4_must_be_1_may_be_1, PROVES("vmx-capabilities:cr4_fixed0", "vmx-capabilities:cr4_fixed1"),
     NEEDS(VMX))
{
	EXPECT_EQ(capabilities()->cr4_fixed0 & ~capabilities()->cr4_fixed1, 0);
	EXPECT_TRUE(capabilities()->cr4_fixed0 & CR4_VMXE);
}

/* Each bit that neither MSR fixes can be changed; CR0.NW alone cannot be 1 without CR0.CD. */
CASE(free_bits_of_cr0, PROVES("vmx-capabilities:cr0_fixed0", "vmx-capabilities:cr0_fixed1"),
     NEEDS(VMX))
{
	const struct capabilities *caps = capabilities();
	u64 good = read_cr0(), free = caps->cr0_fixed1 & ~caps->cr0_fixed0 & ~CR0_NW;
	u32 bit;

	for (bit = 0; bit < 64; bit++) {
		if (!(free & BIT(bit)))
			continue;
		EXPECT_FOR_BIT(bit, write_cr0_safe(good ^ BIT(bit)), OUTCOME_DONE);
		write_cr0(good);
	}
}

/*
 * Likewise. In IA-32e mode CR4.PAE cannot be cleared nor CR4.LA57 be changed, and LASS (bit 27)
 * would forbid this code its own addresses; CR4.CET wants CR0.WP; SMEP and SMAP want an address
 * space that is not the user's.
 */
CASE(free_bits_of_cr4, PROVES("vmx-capabilities:cr4_fixed0", "vmx-capabilities:cr4_fixed1"),
     NEEDS(VMX))
{
	const struct capabilities *caps = capabilities();
	u64 good = read_cr4(), free = caps->cr4_fixed1 & ~caps->cr4_fixed0;
	struct address_space space;
	u32 bit;

	space_copy(&space);
	space_supervisor_only(&space);
	space_load(&space);
	write_cr0(read_cr0() | CR0_WP);
	free &= ~(CR4_PAE | CR4_LA57 | BIT(27));
	for (bit = 0; bit < 64; bit++) {
		if (!(free & BIT(bit)))
			continue;
		EXPECT_FOR_BIT(bit, write_cr4_safe(good ^ BIT(bit)), OUTCOME_DONE);
		write_cr4(good);
	}
	space_restore(&space);
}

/*
 * What IA32_VMX_CR4_FIXED1 lets be 1 belongs to a feature that CPUID reports: the bit is reserved
 * elsewhere (2.5). The other way round the MSR may keep a feature out of VMX operation.
 */
static const struct {
	u64 bit;
	enum feature feature;
} cr4_features[] = {
	{ CR4_VME, FEATURE_VME }, { CR4_PVI, FEATURE_VME }, { CR4_TSD, FEATURE_TSC },
	{ CR4_DE, FEATURE_DE }, { CR4_PSE, FEATURE_PSE }, { CR4_PAE, FEATURE_PAE },
	{ CR4_MCE, FEATURE_MCE }, { CR4_PGE, FEATURE_PGE }, { CR4_OSFXSR, FEATURE_FXSR },
	{ CR4_OSXMMEXCPT, FEATURE_SSE }, { CR4_UMIP, FEATURE_UMIP }, { CR4_LA57, FEATURE_LA57 },
	{ CR4_VMXE, FEATURE_VMX }, { CR4_SMXE, FEATURE_SMX }, { CR4_FSGSBASE, FEATURE_FSGSBASE },
	{ CR4_PCIDE, FEATURE_PCID }, { CR4_OSXSAVE, FEATURE_XSAVE }, { CR4_KL, FEATURE_KL },
	{ CR4_SMEP, FEATURE_SMEP }, { CR4_SMAP, FEATURE_SMAP }, { CR4_PKE, FEATURE_PKU },
	{ CR4_PKS, FEATURE_PKS }, { CR4_UINTR, FEATURE_UINTR }, { CR4_LASS, FEATURE_LASS },
	{ CR4_LAM_SUP, FEATURE_LAM }, { CR4_FRED, FEATURE_FRED },
};

CASE(cr4_fixed1_agrees_with_cpuid, PROVES("vmx-capabilities:cr4_fixed1"), NEEDS(VMX))
{
	u64 fixed1 = capabilities()->cr4_fixed1;
	char words[80];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cr4_features); i++)
		if (!feature(cr4_features[i].feature) &&
		    !EXPECT_EQ(fixed1 & cr4_features[i].bit, 0))
			case_note("lacks", "%s", feature_words(words, sizeof(words),
							       cr4_features[i].feature));
	/* Either of its two parts. */
	if (!feature(FEATURE_CET_SS) && !feature(FEATURE_CET_IBT))
		EXPECT_EQ(fixed1 & CR4_CET, 0);
	/* Without these no image would run. */
	EXPECT_EQ(fixed1 & (CR4_PAE | CR4_VMXE), CR4_PAE | CR4_VMXE);
}

/* --- CPUID ---------------------------------------------------------------------------- */

struct cpuid_bit {
	u32 leaf, subleaf;
	size_t reg;
	u32 bit;
};

/* A control over what is not there, as CPUID says, has nothing to control. */
static void check_feature(const struct case_def *this_case)
{
	const struct cpuid_bit *row = this_case->row;
	struct cpuid_result r = { 0 };

	if (row->leaf <= cpuid(row->leaf & 0x80000000).eax &&
	    (row->leaf != 7 || row->subleaf <= cpuid(7).eax))
		r = cpuid_count(row->leaf, row->subleaf);
	EXPECT_TRUE(*(const u32 *)((const u8 *)&r + row->reg) & BIT(row->bit));
}

#define FEATURE_CASE(field, NAME, name, fact, leaf, subleaf, reg, bit)		\
	CASE_RUN(name##_needs_its_feature, check_feature,			\
		 PROVES("control-bits:" fact), NEEDS(VMX, field(NAME)),		\
		 ROW((&(const struct cpuid_bit){				\
			leaf, subleaf, offsetof(struct cpuid_result, reg), bit })))
FEATURE_CASE(PROC2, ENABLE_RDTSCP, enable_rdtscp, "proc2.3", 0x80000001, 0, edx, 27);
FEATURE_CASE(PROC2, RDRAND_EXITING, rdrand_exiting, "proc2.11", 1, 0, ecx, 30);
FEATURE_CASE(PROC2, ENABLE_INVPCID, enable_invpcid, "proc2.12", 7, 0, ebx, 10);
FEATURE_CASE(PROC2, ENABLE_ENCLS_EXITING, enable_encls_exiting, "proc2.15", 7, 0, ebx, 2);
FEATURE_CASE(PROC2, RDSEED_EXITING, rdseed_exiting, "proc2.16", 7, 0, ebx, 18);
FEATURE_CASE(PROC2, ENABLE_XSAVES_XRSTORS, enable_xsaves_xrstors, "proc2.20", 13, 1, eax, 3);
FEATURE_CASE(PROC2, PASID_TRANSLATION, pasid_translation, "proc2.21", 7, 0, ecx, 29);
FEATURE_CASE(PROC2, ENABLE_USER_WAIT_AND_PAUSE, enable_user_wait_and_pause, "proc2.26",
	     7, 0, ecx, 5);
FEATURE_CASE(PROC2, ENABLE_PCONFIG, enable_pconfig, "proc2.27", 7, 0, edx, 18);
FEATURE_CASE(PROC3, LOADIWKEY_EXITING, loadiwkey_exiting, "proc3.0", 7, 0, ecx, 23);
FEATURE_CASE(PROC3, ENABLE_MSR_LIST_INSTRUCTIONS, enable_msr_list_instructions, "proc3.6",
	     7, 1, eax, 27);
FEATURE_CASE(PROC3, ENABLE_PBNDKB, enable_pbndkb, "proc3.9", 7, 1, ebx, 1);
FEATURE_CASE(EXIT_CTL, LOAD_IA32_PAT, load_ia32_pat, "exit.19", 1, 0, edx, 16);
FEATURE_CASE(EXIT_CTL, CLEAR_IA32_BNDCFGS, clear_ia32_bndcfgs, "exit.23", 7, 0, ebx, 14);
FEATURE_CASE(EXIT_CTL, CLEAR_IA32_RTIT_CTL, clear_ia32_rtit_ctl, "exit.25", 7, 0, ebx, 25);
FEATURE_CASE(EXIT_CTL, CLEAR_IA32_LBR_CTL, clear_ia32_lbr_ctl, "exit.26", 7, 0, edx, 19);
FEATURE_CASE(EXIT_CTL, CLEAR_UINV, clear_uinv, "exit.27", 7, 0, edx, 5);
FEATURE_CASE(EXIT_CTL, LOAD_PKRS, load_pkrs, "exit.29", 7, 0, ecx, 31);
FEATURE_CASE(ENTRY_CTL, LOAD_IA32_BNDCFGS, load_ia32_bndcfgs, "entry.16", 7, 0, ebx, 14);
FEATURE_CASE(ENTRY_CTL, LOAD_IA32_RTIT_CTL, load_ia32_rtit_ctl, "entry.18", 7, 0, ebx, 25);
FEATURE_CASE(EXIT_CTL, SAVE_IA32_PAT, save_ia32_pat, "exit.18", 1, 0, edx, 16);
FEATURE_CASE(ENTRY_CTL, LOAD_IA32_PAT, entry_load_ia32_pat, "entry.14", 1, 0, edx, 16);
FEATURE_CASE(ENTRY_CTL, LOAD_UINV, load_uinv, "entry.19", 7, 0, edx, 5);
FEATURE_CASE(ENTRY_CTL, LOAD_GUEST_IA32_LBR_CTL, load_guest_ia32_lbr_ctl, "entry.21",
	     7, 0, edx, 19);
FEATURE_CASE(ENTRY_CTL, LOAD_PKRS, entry_load_pkrs, "entry.22", 7, 0, ecx, 31);
FEATURE_CASE(ENTRY_CTL, LOAD_FRED, load_fred, "entry.23", 7, 1, eax, 17);

/* Either of its two parts. */
CASE(load_cet_state_needs_its_feature, PROVES("control-bits:exit.28", "control-bits:entry.20"),
     NEEDS(VMX, ENTRY_CTL(LOAD_CET_STATE)))
{
	EXPECT_TRUE(feature(FEATURE_CET_SS) || feature(FEATURE_CET_IBT));
}
