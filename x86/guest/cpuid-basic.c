/*
 * CPUID: what a processor says of itself, and whether it keeps its word.
 *
 * Software knows a processor only by this instruction (volume 2, CPUID), and in a virtual machine
 * it is the hypervisor that answers, from tables that somebody wrote. So the answers have to agree
 * with each other (no feature without its base; sizes that add up; one APIC ID in all places), with
 * the state of the processor where they mirror it (CR4.OSXSAVE, CR4.PKE, XCR0), and with what it
 * does: a feature flag that is 1 means that the bit of CR4 or of an MSR that turns the feature on
 * can be set, and 0 that setting it is #GP (volume 3, 2.5 Control Registers).
 */
#include "case.h"
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/build.h"

#define FACT(name)	"guest-instructions:cpuid." name

static bool same(struct cpuid_result a, struct cpuid_result b)
{
	return a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
}

static bool expect_same(const char *what, struct cpuid_result got, struct cpuid_result want)
{
	if (EXPECT_TRUE(same(got, want)))
		return true;
	case_note(what, "EAX EBX ECX EDX %#x %#x %#x %#x, expected %#x %#x %#x %#x", got.eax,
		  got.ebx, got.ecx, got.edx, want.eax, want.ebx, want.ecx, want.edx);
	return false;
}

/* --- the instruction --------------------------------------------------------- */

CASE(upper_halves_are_cleared, PROVES(FACT("zero_upper")))
{
	const u64 upper = 0xdeadbeef00000000;
	u64 rax = upper, rbx = upper, rcx = upper, rdx = upper;

	EXPECT(ATTEMPT("cpuid", "+a" (rax), "+b" (rbx), "+c" (rcx), "+d" (rdx) :), OUTCOME_DONE);
	EXPECT_EQ(rax >> 32, 0);
	EXPECT_EQ(rbx >> 32, 0);
	EXPECT_EQ(rcx >> 32, 0);
	EXPECT_EQ(rdx >> 32, 0);
}

CASE(flags_and_other_registers_stay, PROVES(FACT("no_flags")))
{
	static const u64 flags[] = { RFLAGS_FIXED, 0x8d7 };	/* all status flags 0, all 1 */
	u64 rsi = 0x1122334455667788, rdi = ~rsi, rax, rcx, after;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		rax = rcx = 0;
		asm volatile("push %5; popfq\n\tcpuid\n\tpushfq; pop %0"
			     : "=&r" (after), "+S" (rsi), "+D" (rdi), "+a" (rax), "+c" (rcx)
			     : "r" (flags[i]) : "rbx", "rdx", "cc");
		EXPECT_EQ(after, flags[i]);
	}
	EXPECT_EQ(rsi, 0x1122334455667788);
	EXPECT_EQ(rdi, ~0x1122334455667788ull);
}

CASE(lock_is_invalid, PROVES(FACT("lock")))
{
	EXPECT(ATTEMPT(".byte 0xf0, 0x0f, 0xa2", : : "rax", "rbx", "rcx", "rdx"), OUTCOME_UD);
}

static void ask_vendor(void *result)
{
	*(struct cpuid_result *)result = cpuid(0);
}

CASE(every_privilege_level_may_ask, PROVES(FACT("any_cpl")))
{
	struct cpuid_result r = { 0 };
	u32 cpl;

	for (cpl = 1; cpl <= 3; cpl++) {
		EXPECT(run_at_cpl(cpl, ask_vendor, &r), OUTCOME_DONE);
		expect_same("leaf_0", r, cpuid(0));
	}
}

/* --- leaves ------------------------------------------------------------------ */

CASE(vendor, PROVES(FACT("vendor")))
{
	struct cpuid_result r = cpuid(0);
	u32 text[3] = { r.ebx, r.edx, r.ecx };
	u32 i;

	for (i = 0; i < sizeof(text); i++) {
		u8 c = text[i / 4] >> i % 4 * 8;

		EXPECT_TRUE(c >= ' ' && c <= '~');
	}
	expect_same("leaf_0", r, cpuid(0));
}

CASE(signature, PROVES(FACT("signature")))
{
	u32 eax = cpuid(1).eax;

	EXPECT_EQ(eax & (BITS(31, 28) | BITS(15, 14)), 0);
	/* The families below 6 had no 64-bit mode. */
	EXPECT_TRUE(FIELD(eax, 11, 8) >= 6);
}

CASE(highest_basic_leaf, PROVES(FACT("max_basic")))
{
	u32 highest = cpuid(0).eax, leaf, eax, ecx;

	EXPECT_TRUE(highest >= 1 && highest < 0x40000000);
	for (leaf = 0; leaf <= highest && leaf < 0x100; leaf++) {
		eax = leaf;
		ecx = 0;
		EXPECT(ATTEMPT("cpuid", "+a" (eax), "+c" (ecx) : : "rbx", "rdx"), OUTCOME_DONE);
	}
}

CASE(highest_extended_leaf, PROVES(FACT("max_ext")))
{
	u32 highest = cpuid(0x80000000).eax;

	EXPECT_TRUE(highest >= 0x80000008 && highest < 0x90000000);
}

/* Others than Intel may answer zeros. */
static void leaf_is_above_the_highest(u32 leaf)
{
	static const struct cpuid_result zeros;
	struct cpuid_result got = cpuid(leaf);

	if (vendor_is_intel() || !same(got, zeros))
		expect_same("got_and_want", got, cpuid(cpuid(0).eax));
}

CASE(above_the_highest_basic_leaf, PROVES(FACT("above_max")))
{
	leaf_is_above_the_highest(cpuid(0).eax + 1);
	leaf_is_above_the_highest(0x3fffffff);
}

CASE(above_the_highest_extended_leaf, PROVES(FACT("above_max")))
{
	leaf_is_above_the_highest(cpuid(0x80000000).eax + 1);
	leaf_is_above_the_highest(0x8fffffff);
}

CASE(leaves_of_hypervisors, PROVES(FACT("hyp_range")), NEEDS(CPU(HYPERVISOR)))
{
	struct cpuid_result r = cpuid(0x40000000);

	EXPECT_TRUE(r.eax >= 0x40000000 && r.eax < 0x50000000);
	EXPECT_TRUE(r.ebx || r.ecx || r.edx);
}

CASE(ecx_is_ignored_without_subleaves, PROVES(FACT("ecx_ignored")))
{
	static const u32 leaves[] = {
		0, 1, 0x80000000, 0x80000001, 0x80000002, 0x80000007, 0x80000008 };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		expect_same("with_ecx_1", cpuid_count(leaves[i], 1), cpuid(leaves[i]));
		expect_same("with_ecx_ffffffff", cpuid_count(leaves[i], ~0u), cpuid(leaves[i]));
	}
}

CASE(cache_leaf_ends, PROVES(FACT("4_end")), NEEDS(CPUID_LEAF(4)))
{
	u32 subleaf;

	for (subleaf = 0; subleaf < 64; subleaf++) {
		struct cpuid_result r = cpuid_count(4, subleaf);

		if (!FIELD(r.eax, 4, 0))
			break;
		EXPECT_TRUE(FIELD(r.eax, 4, 0) <= 3);	/* data, instruction, unified */
		EXPECT_TRUE(FIELD(r.eax, 7, 5) >= 1);	/* the level */
	}
	EXPECT_TRUE(subleaf < 64);
}

CASE(feature_leaf_7_ends, PROVES(FACT("7_max")), NEEDS(CPUID_LEAF(7)))
{
	static const struct cpuid_result zeros;

	expect_same("above", cpuid_count(7, cpuid(7).eax + 1), zeros);
	expect_same("far_above", cpuid_count(7, ~0u), zeros);
}

/* --- one processor among others ---------------------------------------------- */

CASE(apic_id_is_the_same_everywhere, PROVES(FACT("apicid")), NEEDS(APIC))
{
	EXPECT_EQ(FIELD(cpuid(1).ebx, 31, 24), apic_id() & 0xff);
	if (cpuid(0).eax >= 0xb && cpuid_count(0xb, 0).ebx)
		EXPECT_EQ(cpuid_count(0xb, 0).edx, apic_id());
	if (cpuid(0).eax >= 0x1f && cpuid_count(0x1f, 0).ebx)
		EXPECT_EQ(cpuid_count(0x1f, 0).edx, apic_id());
}

/* Levels in ascending order of their types and shifts, then a subleaf that says no more. */
static void topology(u32 leaf)
{
	u32 subleaf, shift = 0, type = 0, apic_id = cpuid_count(leaf, 0).edx;

	for (subleaf = 0; subleaf < 16; subleaf++) {
		struct cpuid_result r = cpuid_count(leaf, subleaf);

		EXPECT_EQ(FIELD(r.ecx, 7, 0), subleaf);
		EXPECT_EQ(r.edx, apic_id);
		if (!FIELD(r.ecx, 15, 8))
			break;
		EXPECT_TRUE(FIELD(r.ecx, 15, 8) > type);
		EXPECT_TRUE(FIELD(r.eax, 4, 0) >= shift);
		EXPECT_TRUE(FIELD(r.ebx, 15, 0) >= 1);
		type = FIELD(r.ecx, 15, 8);
		shift = FIELD(r.eax, 4, 0);
	}
	for (; subleaf < 256; subleaf += 51)
		if (!expect_same("got_and_want", cpuid_count(leaf, subleaf),
				 (struct cpuid_result){ .ecx = subleaf, .edx = apic_id }))
			case_note("subleaf", "%u", subleaf);
}

CASE(topology_leaf, PROVES(FACT("b_subleaf")), NEEDS(CPUID_LEAF(0xb)))
{
	topology(0xb);
}

CASE(topology_leaf_v2, PROVES(FACT("b_subleaf")), NEEDS(CPUID_LEAF(0x1f)))
{
	topology(0x1f);
}

/* --- addresses --------------------------------------------------------------- */

/* mmu/fault-basic tries what the width means for paging-structure entries. */
CASE(physical_address_width, PROVES(FACT("phys_bits")))
{
	u32 bits = FIELD(cpuid(0x80000008).eax, 7, 0);

	EXPECT_TRUE(bits >= 32 && bits <= 52);
}

CASE(linear_address_width, PROVES(FACT("lin_bits")))
{
	EXPECT_EQ(FIELD(cpuid(0x80000008).eax, 15, 8), feature(FEATURE_LA57) ? 57 : 48);
}

/* --- features and what they are built on ------------------------------------- */

CASE(no_feature_without_its_base, PROVES(FACT("cet_dep")))
{
	static const struct {
		enum feature feature, base;
	} rows[] = {
		{ FEATURE_SSE,		FEATURE_FXSR },
		{ FEATURE_SSE2,		FEATURE_SSE },
		{ FEATURE_SSE3,		FEATURE_SSE2 },
		{ FEATURE_SSSE3,	FEATURE_SSE3 },
		{ FEATURE_SSE4_1,	FEATURE_SSSE3 },
		{ FEATURE_SSE4_2,	FEATURE_SSE4_1 },
		{ FEATURE_AVX,		FEATURE_XSAVE },
		{ FEATURE_F16C,		FEATURE_AVX },
		{ FEATURE_FMA,		FEATURE_AVX },
		{ FEATURE_AVX2,		FEATURE_AVX },
		{ FEATURE_AVX512F,	FEATURE_AVX2 },
		{ FEATURE_X2APIC,	FEATURE_APIC },
		{ FEATURE_LA57,		FEATURE_LM },
		{ FEATURE_LAM,		FEATURE_LM },
		{ FEATURE_PKU,		FEATURE_XSAVE },
	};
	char with[100], without[100];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (feature(rows[i].feature) && !feature(rows[i].base))
			case_fail(__FILE__, __LINE__,
				  feature_words(with, sizeof(with), rows[i].feature),
				  feature_words(without, sizeof(without), rows[i].base), "not");
}

/* This is 64-bit mode, so there is no doubt about these. */
CASE(features_of_64_bit_mode, PROVES(FACT("nx_lm")))
{
	EXPECT_TRUE(feature(FEATURE_LM));
	EXPECT_TRUE(feature(FEATURE_SYSCALL));
	EXPECT_TRUE(feature(FEATURE_PAE));
	EXPECT_TRUE(feature(FEATURE_MSR));
	EXPECT_TRUE(feature(FEATURE_PGE));
	EXPECT_TRUE(feature(FEATURE_PAT));
	EXPECT_TRUE(feature(FEATURE_CX8));
	EXPECT_TRUE(feature(FEATURE_FXSR));
	EXPECT_TRUE(feature(FEATURE_SSE2));
}

CASE(nx_and_efer, PROVES(FACT("nx_lm"), "paging:efer.nxe_absent"))
{
	EXPECT(wrmsr_safe(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE),
	       feature(FEATURE_NX) ? OUTCOME_DONE : OUTCOME_GP0);
}

CASE(rdtscp_and_tsc_aux, PROVES(FACT("nx_lm")))
{
	bool present = feature(FEATURE_RDTSCP);
	u64 value;

	EXPECT(ATTEMPT("rdtscp", : : "rax", "rcx", "rdx"), present ? OUTCOME_DONE : OUTCOME_UD);
	if (present)
		EXPECT(rdmsr_safe(IA32_TSC_AUX, &value), OUTCOME_DONE);
}

/* --- features and the bits of CR4 that turn them on -------------------------- */

struct cr4_row {
	enum feature feature;
	u64 bit;
};

/* Code and stack have to be supervisor pages, or SMEP and SMAP would stop them. */
static void feature_and_cr4_bit(const struct case_def *this_case)
{
	const struct cr4_row *row = this_case->row;
	bool present = feature(row->feature);
	struct address_space space;
	u64 before = read_cr4();

	space_copy(&space);
	space_supervisor_only(&space);
	space_load(&space);
	EXPECT(write_cr4_safe(before | row->bit), present ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), before | (present ? row->bit : 0));
	EXPECT(write_cr4_safe(before), OUTCOME_DONE);
	EXPECT_EQ(read_cr4(), before);
}

#define CR4_CASE(id, feature, bit)						\
	CASE_RUN(id, feature_and_cr4_bit, PROVES("paging:cr4.feature_absent"),	\
		 ROW((&(const struct cr4_row){ FEATURE_##feature, bit })))

CR4_CASE(cr4_vme,	VME,		CR4_VME | CR4_PVI);
CR4_CASE(cr4_de,	DE,		CR4_DE);
CR4_CASE(cr4_pse,	PSE,		CR4_PSE);
CR4_CASE(cr4_mce,	MCE,		CR4_MCE);
CR4_CASE(cr4_pge,	PGE,		CR4_PGE);
CR4_CASE(cr4_osfxsr,	FXSR,		CR4_OSFXSR);
CR4_CASE(cr4_osxmmexcpt, SSE,		CR4_OSXMMEXCPT);
CR4_CASE(cr4_umip,	UMIP,		CR4_UMIP);
CR4_CASE(cr4_vmxe,	VMX,		CR4_VMXE);
CR4_CASE(cr4_smxe,	SMX,		CR4_SMXE);
CR4_CASE(cr4_fsgsbase,	FSGSBASE,	CR4_FSGSBASE);
CR4_CASE(cr4_pcide,	PCID,		CR4_PCIDE);
CR4_CASE(cr4_osxsave,	XSAVE,		CR4_OSXSAVE);
CR4_CASE(cr4_kl,	KL,		CR4_KL);
CR4_CASE(cr4_smep,	SMEP,		CR4_SMEP);
CR4_CASE(cr4_smap,	SMAP,		CR4_SMAP);
CR4_CASE(cr4_pke,	PKU,		CR4_PKE);
CR4_CASE(cr4_pks,	PKS,		CR4_PKS);
CR4_CASE(cr4_uintr,	UINTR,		CR4_UINTR);
CR4_CASE(cr4_lam_sup,	LAM,		BIT(28));

/* Either of the two parts of CET brings the bit, which needs CR0.WP. */
CASE(cr4_cet, PROVES("paging:cr4.feature_absent"))
{
	bool present = feature(FEATURE_CET_SS) || feature(FEATURE_CET_IBT);
	u64 before = read_cr4();

	write_cr0(read_cr0() | CR0_WP);
	EXPECT(write_cr4_safe(before | CR4_CET), present ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT(write_cr4_safe(before), OUTCOME_DONE);
}

/* With LASS the code in the lower half could not go on. */
CASE(cr4_lass_without_lass, PROVES("paging:lass.cr4"), NEEDS(NO_CPU(LASS)))
{
	EXPECT(write_cr4_safe(read_cr4() | BIT(27)), OUTCOME_GP0);
}

CASE(cr4_bits_of_no_feature, PROVES("paging:cr4.reserved"))
{
	const u64 undefined = BIT(15) | BIT(26) | BITS(31, 29) | BITS(63, 33);
	u64 before = read_cr4();
	u32 i;

	for (i = 0; i < 64; i++)
		if ((undefined >> i & 1) && !EXPECT(write_cr4_safe(before | BIT(i)), OUTCOME_GP0))
			case_note("bit", "CR4[%u]", i);
	EXPECT_EQ(read_cr4(), before);
}

/* --- flags that mirror state ------------------------------------------------- */

static u32 mirror_osxsave(void)
{
	return cpuid(1).ecx >> 27 & 1;
}

static u32 mirror_ospke(void)
{
	return cpuid(7).ecx >> 4 & 1;
}

CASE(osxsave_mirrors_cr4, PROVES(FACT("osxsave"), "paging:cr4.osxsave_cpuid"), NEEDS(CPU(XSAVE)))
{
	EXPECT_EQ(mirror_osxsave(), 0);
	write_cr4(read_cr4() | CR4_OSXSAVE);
	EXPECT_EQ(mirror_osxsave(), 1);
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	EXPECT_EQ(mirror_osxsave(), 0);
}

CASE(ospke_mirrors_cr4, PROVES(FACT("ospke"), "paging:cr4.pke_cpuid"), NEEDS(CPU(PKU)))
{
	EXPECT_EQ(mirror_ospke(), 0);
	write_cr4(read_cr4() | CR4_PKE);
	EXPECT_EQ(mirror_ospke(), 1);
	write_cr4(read_cr4() & ~CR4_PKE);
	EXPECT_EQ(mirror_ospke(), 0);
}

/* --- leaf 0DH: the sizes of the XSAVE area ----------------------------------- */

#define XCR0_X87	BIT(0)
#define XCR0_SSE	BIT(1)
#define XCR0_AVX	BIT(2)
#define LEGACY_AND_HEADER	576	/* bytes: legacy region 512, header 64 */

/* XCR0 outlives a case, so each begins with its own. */
static void enable_xsave(u64 xcr0)
{
	write_cr4(read_cr4() | CR4_OSXSAVE);
	REQUIRE(xsetbv_safe(0, xcr0), OUTCOME_DONE);
}

CASE(xsave_size, PROVES(FACT("d_size")), NEEDS(CPU(XSAVE)))
{
	enable_xsave(XCR0_X87);
	EXPECT_EQ(cpuid_count(0xd, 0).ebx, LEGACY_AND_HEADER);
	EXPECT_TRUE(cpuid_count(0xd, 0).ecx >= cpuid_count(0xd, 0).ebx);
	EXPECT_EQ(cpuid_count(0xd, 0).eax & (XCR0_X87 | XCR0_SSE), XCR0_X87 | XCR0_SSE);
}

CASE(xsave_size_follows_xcr0, PROVES(FACT("d_size_live")), NEEDS(CPU(XSAVE), CPU(AVX)))
{
	struct cpuid_result avx = cpuid_count(0xd, 2);

	enable_xsave(XCR0_X87 | XCR0_SSE);
	EXPECT_EQ(cpuid_count(0xd, 0).ebx, LEGACY_AND_HEADER);
	enable_xsave(XCR0_X87 | XCR0_SSE | XCR0_AVX);
	EXPECT_EQ(cpuid_count(0xd, 0).ebx, avx.ebx + avx.eax);
	enable_xsave(XCR0_X87);
	EXPECT_EQ(cpuid_count(0xd, 0).ebx, LEGACY_AND_HEADER);
}

CASE(compacted_size_follows_xcr0, PROVES(FACT("d1_size")), NEEDS(CPU(AVX), CPU(XSAVES)))
{
	enable_xsave(XCR0_X87);
	EXPECT_EQ(cpuid_count(0xd, 1).ebx, LEGACY_AND_HEADER);
	enable_xsave(XCR0_X87 | XCR0_SSE | XCR0_AVX);
	EXPECT_EQ(cpuid_count(0xd, 1).ebx, LEGACY_AND_HEADER + cpuid_count(0xd, 2).eax);
}

/* The standard format: each component of XCR0 has a place of its own, and ECX is the end of all. */
CASE(xsave_components, PROVES(FACT("d_sub"), FACT("d_size")), NEEDS(CPU(XSAVE)))
{
	static const struct cpuid_result zeros;
	struct cpuid_result all = cpuid_count(0xd, 0), one = cpuid_count(0xd, 1), r, other;
	u64 xcr0 = (u64)all.edx << 32 | all.eax, xss = (u64)one.edx << 32 | one.ecx;
	u32 i, j, end = LEGACY_AND_HEADER;

	for (i = 2; i < 63; i++) {
		r = cpuid_count(0xd, i);
		if (!((xcr0 | xss) >> i & 1))
			expect_same("unsupported_component", r, zeros);
		if (!(xcr0 >> i & 1))
			continue;
		EXPECT_TRUE(r.eax > 0 && r.ebx >= LEGACY_AND_HEADER);
		for (j = 2; j < i; j++) {
			other = cpuid_count(0xd, j);
			if (xcr0 >> j & 1)
				EXPECT_TRUE(other.ebx + other.eax <= r.ebx ||
					    r.ebx + r.eax <= other.ebx);
		}
		if (r.ebx + r.eax > end)
			end = r.ebx + r.eax;
	}
	EXPECT_EQ(all.ecx, end);
}
