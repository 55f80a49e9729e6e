/*
 * MSRs that describe or configure the machine around the processor: machine check (18.3.1),
 * memory type ranges (14.11), performance monitoring (22.2), speculation control, and some that
 * only tell something.
 *
 * Most exist only where CPUID or a capability MSR says so, and then every case here has two
 * sides: present, the MSR refuses what is reserved; absent, it is #GP(0) like any other unknown
 * number. Many are read-only (volume 4), and a write of anything is #GP(0). Hypervisors tend to
 * swallow such writes.
 */
#include "cpu/features.h"
#include "cpu/safe.h"

#define FACT(name)	PROVES("guest-instructions:msr." name)

#define IA32_SPEC_CTRL		0x48
#define IA32_PRED_CMD		0x49
#define IA32_BIOS_SIGN_ID	0x8b
#define IA32_MTRRCAP		0xfe
#define IA32_ARCH_CAPABILITIES	0x10a
#define IA32_MCG_CAP		0x179
#define IA32_MCG_STATUS		0x17a
#define IA32_MCG_CTL		0x17b
#define IA32_MTRR_PHYSBASE0	0x200
#define IA32_MTRR_PHYSMASK0	0x201
#define IA32_MTRR_FIX64K_00000	0x250
#define IA32_MTRR_DEF_TYPE	0x2ff
#define IA32_PERF_CAPABILITIES	0x345
#define IA32_PERF_GLOBAL_STATUS	0x38e
#define IA32_MC0_CTL		0x400
#define IA32_MC0_STATUS		0x401
#define IA32_A_PMC0		0x4c1
#define MSR_SMI_COUNT		0x34
#define MSR_PLATFORM_INFO	0xce

struct msr_row {
	u32 msr;
	u64 flip;	/* the bits that are written not as they are */
};

/* The write is #GP(0), and what was there stays. */
static void check_refused(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 before, after;

	REQUIRE(rdmsr_safe(row->msr, &before), OUTCOME_DONE);
	if (!EXPECT(wrmsr_safe(row->msr, before ^ row->flip), OUTCOME_GP0))
		case_note("value", "%#lx to MSR %#x", before ^ row->flip, row->msr);
	EXPECT(rdmsr_safe(row->msr, &after), OUTCOME_DONE);
	EXPECT_EQ(after, before);
	wrmsr_safe(row->msr, before);
}

#define REFUSED(id, fact, msr, flip, ...)					\
	CASE_RUN(id, check_refused, FACT(fact),					\
		 ROW((&(const struct msr_row){ msr, flip })), ##__VA_ARGS__)

/* --- machine check -------------------------------------------------------------- */

static u32 banks(void)
{
	return FIELD(rdmsr(IA32_MCG_CAP), 7, 0);
}

REFUSED(mcg_cap_is_read_only, "mcg_cap", IA32_MCG_CAP, BIT(0), NEEDS(CPU(MCA)));

CASE(mcg_ctl_exists_as_mcg_cap_says, FACT("mcg_ctl"), NEEDS(CPU(MCA)))
{
	bool present = rdmsr(IA32_MCG_CAP) & BIT(8);
	u64 value;

	EXPECT(rdmsr_safe(IA32_MCG_CTL, &value), present ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_MCG_CTL, 0), present ? OUTCOME_DONE : OUTCOME_GP0);
	if (present)
		wrmsr(IA32_MCG_CTL, value);
}

CASE(bank_status_takes_only_0, FACT("mci_status"), NEEDS(CPU(MCA)))
{
	u64 value;
	u32 i;

	if (!banks())
		case_skip("a machine-check bank");
	for (i = 0; i < banks(); i++) {
		EXPECT(wrmsr_safe(IA32_MC0_STATUS + 4 * i, 0), OUTCOME_DONE);
		EXPECT(rdmsr_safe(IA32_MC0_STATUS + 4 * i, &value), OUTCOME_DONE);
		EXPECT_EQ(value, 0);
		EXPECT(wrmsr_safe(IA32_MC0_STATUS + 4 * i, 1), OUTCOME_GP0);
		EXPECT(wrmsr_safe(IA32_MC0_STATUS + 4 * i, ~0ull), OUTCOME_GP0);
	}
}

/* 18.3.2.1: only 0 and all ones are promised, and bits that are not implemented do not stay. */
CASE(bank_control, FACT("mci_ctl"), NEEDS(CPU(MCA)))
{
	u64 before, ones;
	u32 i;

	if (!banks())
		case_skip("a machine-check bank");
	for (i = 0; i < banks(); i++) {
		REQUIRE(rdmsr_safe(IA32_MC0_CTL + 4 * i, &before), OUTCOME_DONE);
		EXPECT(wrmsr_safe(IA32_MC0_CTL + 4 * i, ~0ull), OUTCOME_DONE);
		ones = rdmsr(IA32_MC0_CTL + 4 * i);
		EXPECT(wrmsr_safe(IA32_MC0_CTL + 4 * i, 0), OUTCOME_DONE);
		EXPECT_EQ(rdmsr(IA32_MC0_CTL + 4 * i), 0);
		EXPECT(wrmsr_safe(IA32_MC0_CTL + 4 * i, ~0ull), OUTCOME_DONE);
		EXPECT_EQ(rdmsr(IA32_MC0_CTL + 4 * i), ones);
		wrmsr(IA32_MC0_CTL + 4 * i, before);
	}
}

/* --- memory type range registers --------------------------------------------------- */

REFUSED(mtrrcap_is_read_only, "mtrrcap", IA32_MTRRCAP, BIT(0), NEEDS(CPU(MTRR)));
REFUSED(mtrr_default_bit_8, "mtrr", IA32_MTRR_DEF_TYPE, BIT(8), NEEDS(CPU(MTRR)));
REFUSED(mtrr_default_bit_12, "mtrr", IA32_MTRR_DEF_TYPE, BIT(12), NEEDS(CPU(MTRR)));
REFUSED(mtrr_base_bit_8, "mtrr", IA32_MTRR_PHYSBASE0, BIT(8), NEEDS(CPU(MTRR)));
REFUSED(mtrr_base_bit_63, "mtrr", IA32_MTRR_PHYSBASE0, BIT(63), NEEDS(CPU(MTRR)));
REFUSED(mtrr_mask_bit_0, "mtrr", IA32_MTRR_PHYSMASK0, BIT(0), NEEDS(CPU(MTRR)));
REFUSED(mtrr_mask_bit_10, "mtrr", IA32_MTRR_PHYSMASK0, BIT(10), NEEDS(CPU(MTRR)));
REFUSED(mtrr_mask_bit_63, "mtrr", IA32_MTRR_PHYSMASK0, BIT(63), NEEDS(CPU(MTRR)));

/* Types 2, 3 and above 6 are reserved: 14.11.2.1, Table 14-8. */
struct mtrr_row {
	u32 msr;
	u32 shift;
};

static void check_mtrr_types(const struct case_def *this_case)
{
	static const u8 reserved[] = { 2, 3, 7, 8, 255 };
	const struct mtrr_row *row = this_case->row;
	u64 before, value;
	u32 i;

	REQUIRE(rdmsr_safe(row->msr, &before), OUTCOME_DONE);
	for (i = 0; i < ARRAY_SIZE(reserved); i++) {
		value = (before & ~(0xffull << row->shift)) | (u64)reserved[i] << row->shift;
		if (!EXPECT(wrmsr_safe(row->msr, value), OUTCOME_GP0))
			case_note("type", "%u to MSR %#x", reserved[i], row->msr);
		EXPECT_EQ(rdmsr(row->msr), before);
		wrmsr(row->msr, before);
	}
}

#define MTRR_TYPES(id, msr, shift)						\
	CASE_RUN(id, check_mtrr_types, FACT("mtrr"),				\
		 ROW((&(const struct mtrr_row){ msr, shift })), NEEDS(CPU(MTRR)))

MTRR_TYPES(mtrr_default_types, IA32_MTRR_DEF_TYPE, 0);
MTRR_TYPES(mtrr_base_types, IA32_MTRR_PHYSBASE0, 0);
MTRR_TYPES(mtrr_fixed_first_types, IA32_MTRR_FIX64K_00000, 0);
MTRR_TYPES(mtrr_fixed_last_types, IA32_MTRR_FIX64K_00000, 56);
MTRR_TYPES(mtrr_fixed_16k_types, 0x258, 8);
MTRR_TYPES(mtrr_fixed_4k_types, 0x26f, 24);

/* --- speculation control ---------------------------------------------------------- */

CASE(spec_ctrl_exists_as_cpuid_says, FACT("spec_ctrl"))
{
	bool present = feature(FEATURE_IBRS) || feature(FEATURE_STIBP) || feature(FEATURE_SSBD);
	u64 value;

	/* Others than Intel enumerate it elsewhere as well. */
	if (!present && !vendor_is_intel())
		case_skip("a processor of Intel, or CPUID.7.0:EDX[26]");
	EXPECT(rdmsr_safe(IA32_SPEC_CTRL, &value), present ? OUTCOME_DONE : OUTCOME_GP0);
}

static bool no_ddpd_u(u64 unused)
{
	(void)unused;
	return !CPUID_BIT(7, 2, edx, 3);
}
#define NO_DDPD_U	{ .text = "no CPUID feature DDPD_U", .met = no_ddpd_u }

REFUSED(spec_ctrl_ddpd_u, "spec_ctrl", IA32_SPEC_CTRL, BIT(8), NEEDS(CPU(IBRS), NO_DDPD_U));
REFUSED(spec_ctrl_bit_9, "spec_ctrl", IA32_SPEC_CTRL, BIT(9), NEEDS(CPU(IBRS)));
REFUSED(spec_ctrl_bit_32, "spec_ctrl", IA32_SPEC_CTRL, BIT(32), NEEDS(CPU(IBRS)));
REFUSED(spec_ctrl_bit_63, "spec_ctrl", IA32_SPEC_CTRL, BIT(63), NEEDS(CPU(IBRS)));

CASE(pred_cmd, FACT("pred_cmd"), NEEDS(CPU(IBRS)))
{
	u64 value;

	EXPECT(wrmsr_safe(IA32_PRED_CMD, 1), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_PRED_CMD, 2), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_PRED_CMD, BIT(63)), OUTCOME_GP0);
	EXPECT(rdmsr_safe(IA32_PRED_CMD, &value), OUTCOME_GP0);
}

CASE(pred_cmd_without_ibpb, FACT("pred_cmd"), NEEDS(NO_CPU(IBRS), INTEL))
{
	EXPECT(wrmsr_safe(IA32_PRED_CMD, 1), OUTCOME_GP0);
}

CASE(arch_capabilities, FACT("arch_cap"))
{
	bool present = feature(FEATURE_ARCH_CAPABILITIES);
	u64 value;

	EXPECT(rdmsr_safe(IA32_ARCH_CAPABILITIES, &value), present ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_ARCH_CAPABILITIES, value), OUTCOME_GP0);
}

/* --- performance monitoring ---------------------------------------------------------- */

static bool perfmon(u64 version)
{
	return cpuid(0).eax >= 0xa && FIELD(cpuid(0xa).eax, 7, 0) >= version;
}

#define PERFMON(version)	{ "performance monitoring version " #version, perfmon, version, 0 }

/* The counters that exist: general-purpose from bit 0, fixed-function from bit 32. */
CASE(perf_global_ctrl_of_no_counter, FACT("perf_global"), NEEDS(PERFMON(2)))
{
	u32 general = FIELD(cpuid(0xa).eax, 15, 8), fixed = FIELD(cpuid(0xa).edx, 4, 0);
	u64 before;

	REQUIRE(rdmsr_safe(IA32_PERF_GLOBAL_CTRL, &before), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_PERF_GLOBAL_CTRL, BIT(general)), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_PERF_GLOBAL_CTRL, BIT(32 + fixed)), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_PERF_GLOBAL_CTRL, BIT(63)), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_PERF_GLOBAL_CTRL), before);
	EXPECT(wrmsr_safe(IA32_PERF_GLOBAL_CTRL, BIT(general - 1)), OUTCOME_DONE);
	wrmsr(IA32_PERF_GLOBAL_CTRL, before);
}

/* Since version 4 there are other addresses to set and clear its bits; this one never does. */
CASE(perf_global_status_is_read_only, FACT("perf_status"), NEEDS(PERFMON(2)))
{
	u64 value;

	REQUIRE(rdmsr_safe(IA32_PERF_GLOBAL_STATUS, &value), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_PERF_GLOBAL_STATUS, value ^ 1), OUTCOME_GP0);
}

CASE(full_width_counters, FACT("pmc_full"))
{
	u64 value = 0;

	if (feature(FEATURE_PDCM))
		REQUIRE(rdmsr_safe(IA32_PERF_CAPABILITIES, &value), OUTCOME_DONE);
	EXPECT(wrmsr_safe(IA32_A_PMC0, 0), value & BIT(13) ? OUTCOME_DONE : OUTCOME_GP0);
}

/* --- what only tells something ------------------------------------------------------- */

/* Not architectural: where it does not exist there is nothing to prove. */
static u64 model_specific(u32 msr, const char *name)
{
	u64 value;

	if (rdmsr_safe(msr, &value) != OUTCOME_DONE)
		case_skip("%s", name);
	return value;
}

CASE(platform_info, FACT("platform_info"))
{
	u64 value = model_specific(MSR_PLATFORM_INFO, "MSR_PLATFORM_INFO");

	EXPECT(wrmsr_safe(MSR_PLATFORM_INFO, value ^ BIT(8)), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(MSR_PLATFORM_INFO), value);
}

CASE(smi_count, FACT("smi_count"))
{
	u64 value = model_specific(MSR_SMI_COUNT, "MSR_SMI_COUNT");

	EXPECT(wrmsr_safe(MSR_SMI_COUNT, value ^ 1), OUTCOME_GP0);
	EXPECT(wrmsr_safe(MSR_SMI_COUNT, value), OUTCOME_GP0);
}

/*
 * 12.11.7.1: write 0, CPUID leaf 1, read: bits 63:32 hold the signature of the update that is
 * loaded.
 */
CASE(microcode_signature, FACT("ucode_rev"), NEEDS(INTEL))
{
	u64 value;

	EXPECT(wrmsr_safe(IA32_BIOS_SIGN_ID, 0), OUTCOME_DONE);
	cpuid(1);
	REQUIRE(rdmsr_safe(IA32_BIOS_SIGN_ID, &value), OUTCOME_DONE);
	cpuid(1);
	EXPECT_EQ(rdmsr(IA32_BIOS_SIGN_ID), value);
}

/* Bits 7, 11 and 12 are read-only; some models refuse the write, others ignore it. */
CASE(misc_enable_read_only_bits, FACT("misc_enable"), NEEDS(INTEL))
{
	static const u8 bits[] = { 7, 11, 12 };
	u64 before, after;
	u32 i;

	REQUIRE(rdmsr_safe(IA32_MISC_ENABLE, &before), OUTCOME_DONE);
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		EXPECT(wrmsr_safe(IA32_MISC_ENABLE, before ^ BIT(bits[i])), OUTCOME_GP0,
		       OUTCOME_DONE);
		EXPECT(rdmsr_safe(IA32_MISC_ENABLE, &after), OUTCOME_DONE);
		EXPECT_EQ(after, before);
		wrmsr_safe(IA32_MISC_ENABLE, before);
	}
}

/* --- one write for good -------------------------------------------------------------- */

CASE(feature_control_when_locked, FACT("feature_ctl"), NEEDS(CPU(VMX)))
{
	u64 value;

	REQUIRE(rdmsr_safe(IA32_FEATURE_CONTROL, &value), OUTCOME_DONE);
	if (!(value & FEATURE_CONTROL_LOCK)) {
		value |= FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX;
		EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, value), OUTCOME_DONE);
		case_boot_again();
	}
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, value ^ FEATURE_CONTROL_VMX), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, value & ~FEATURE_CONTROL_LOCK), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_FEATURE_CONTROL, value), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_FEATURE_CONTROL), value);
}

/* --- KVM ------------------------------------------------------------------------------ */

/* The leaf in which KVM lists its features, one of those for hypervisors; 0 without KVM. */
static u32 kvm_leaf(void)
{
	u32 leaf;

	if (!feature(FEATURE_HYPERVISOR))
		return 0;
	for (leaf = 0x40000000; leaf < 0x40001000; leaf += 0x100) {
		struct cpuid_result r = cpuid(leaf);

		/* "KVMKVMKVM" */
		if (r.ebx == 0x4b4d564b && r.ecx == 0x564b4d56 && r.edx == 0x4d)
			return leaf + 1;
	}
	return 0;
}

/* The MSRs from 4B564D00H on are KVM's, each with a feature bit; without it there is none. */
CASE(msrs_of_kvm_exist_as_cpuid_says, FACT("kvmclock"))
{
	static const struct {
		u32 msr, bit;
	} rows[] = {
		{ 0x4b564d00, 3 }, { 0x4b564d01, 3 }, { 0x4b564d02, 4 }, { 0x4b564d03, 5 },
		{ 0x4b564d04, 6 }, { 0x4b564d05, 12 }, { 0x4b564d06, 14 }, { 0x4b564d07, 14 },
		{ 0x4b564d08, 17 },
	};
	u32 leaf = kvm_leaf(), features = leaf ? cpuid(leaf).eax : 0;
	u64 value;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!EXPECT(rdmsr_safe(rows[i].msr, &value),
			    features >> rows[i].bit & 1 ? OUTCOME_DONE : OUTCOME_GP0))
			case_note("msr", "%#x", rows[i].msr);
}
