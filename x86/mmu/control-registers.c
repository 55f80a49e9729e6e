/*
 * Control registers, IA32_EFER and XCR0: what they take and what they refuse.
 *
 * A bit that is reserved, a bit of a feature that CPUID does not report, a combination that makes
 * no sense: each is #GP(0), and the register keeps its value (2.5 Control Registers; volume 2, MOV
 * - Move to/from Control Registers, and XSETBV; volume 1, chapter 13). Only bits 31:0 of CR0 are
 * different: what is reserved there is ignored. What may be 1 follows from CPUID of the processor
 * that runs, never from a list of processors.
 */
#include "case.h"
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"

/* --- CR0 --------------------------------------------------------------------- */

CASE(cr0_bits_63_to_32, PROVES("paging:cr0.upper"))
{
	u64 cr0 = read_cr0();
	u32 bit;

	for (bit = 32; bit < 64; bit++)
		EXPECT(write_cr0_safe(cr0 | BIT(bit)), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0);
}

CASE(cr0_nw_needs_cd, PROVES("paging:cr0.nw_without_cd"))
{
	u64 cr0 = read_cr0();

	EXPECT(write_cr0_safe(cr0 | CR0_NW), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0);
	EXPECT(write_cr0_safe(cr0 | CR0_CD), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), cr0 | CR0_CD);
	EXPECT(write_cr0_safe(cr0 | CR0_CD | CR0_NW), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), cr0 | CR0_CD | CR0_NW);
	EXPECT(write_cr0_safe(cr0 | CR0_NW), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0 | CR0_CD | CR0_NW);
}

CASE(cr0_reserved_bits_are_ignored, PROVES("paging:cr0.reserved_low"))
{
	static const u64 reserved = BITS(15, 6) | BIT(17) | BITS(28, 19);
	u64 cr0 = read_cr0();

	EXPECT(write_cr0_safe(cr0 | reserved), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), cr0);
}

CASE(cr0_et_is_1, PROVES("paging:cr0.et"))
{
	EXPECT(write_cr0_safe(read_cr0() & ~CR0_ET), OUTCOME_DONE);
	EXPECT_EQ(read_cr0() & CR0_ET, CR0_ET);
}

static u64 lmsw(u16 value)
{
	EXPECT(ATTEMPT("lmsw %0", : "r" (value)), OUTCOME_DONE);
	return read_cr0();
}

CASE(lmsw_changes_four_bits_and_keeps_pe, PROVES("paging:cr0.lmsw_pe"))
{
	u64 rest = read_cr0() & ~BITS(3, 0);

	EXPECT_EQ(lmsw(0xfff0), rest | CR0_PE);
	EXPECT_EQ(lmsw(0xffff), rest | BITS(3, 0));
	EXPECT_EQ(lmsw(0), rest | CR0_PE);
	EXPECT_EQ(lmsw(CR0_MP | CR0_PE), rest | CR0_MP | CR0_PE);
}

CASE(clts_clears_ts_only, PROVES("paging:cr0.clts"))
{
	u64 cr0 = read_cr0();

	write_cr0(cr0 | CR0_TS | CR0_AM);
	EXPECT(ATTEMPT("clts", :), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), cr0 | CR0_AM);
	EXPECT(ATTEMPT("clts", :), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), cr0 | CR0_AM);
}

static bool has_cet(u64 unused __maybe_unused)
{
	return feature(FEATURE_CET_SS) || feature(FEATURE_CET_IBT);
}

#define CET	{ .text = "CPUID feature CET_SS or CET_IBT", .met = has_cet }

CASE(cet_needs_wp, PROVES("paging:mode.cet_needs_wp"), NEEDS(CET))
{
	u64 cr4 = read_cr4();

	write_cr0(read_cr0() & ~CR0_WP);
	EXPECT(write_cr4_safe(cr4 | CR4_CET), OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), cr4);
	write_cr0(read_cr0() | CR0_WP);
	EXPECT(write_cr4_safe(cr4 | CR4_CET), OUTCOME_DONE);
	EXPECT_EQ(read_cr4(), cr4 | CR4_CET);
	write_cr4(cr4);
}

CASE(wp_stays_with_cet, PROVES("paging:mode.wp_needs_cet0"), NEEDS(CET))
{
	u64 cr0 = read_cr0() | CR0_WP, cr4 = read_cr4();

	write_cr0(cr0);
	REQUIRE(write_cr4_safe(cr4 | CR4_CET), OUTCOME_DONE);
	EXPECT(write_cr0_safe(cr0 & ~CR0_WP), OUTCOME_GP0);
	EXPECT_EQ(read_cr0(), cr0);
	write_cr4(cr4);
}

/* --- CR1, CR5 to CR7, CR9 to CR15: no such registers --------------------------- */

#define EXPECT_UD(bytes) EXPECT(ATTEMPT(".byte " bytes, : : "rax", "memory"), OUTCOME_UD)

/* MOV from and to the register with this reg field; RAX; without and with REX.R. */
#define NO_REGISTER(modrm)			\
	do {					\
		EXPECT_UD("0x0f, 0x20, " modrm);	\
		EXPECT_UD("0x0f, 0x22, " modrm);	\
	} while (0)
#define NO_REX_REGISTER(modrm)				\
	do {						\
		EXPECT_UD("0x44, 0x0f, 0x20, " modrm);	\
		EXPECT_UD("0x44, 0x0f, 0x22, " modrm);	\
	} while (0)

CASE(other_control_registers, PROVES("paging:cr1.ud"))
{
	NO_REGISTER("0xc8");		/* CR1 */
	NO_REGISTER("0xe8");		/* CR5 */
	NO_REGISTER("0xf0");		/* CR6 */
	NO_REGISTER("0xf8");		/* CR7 */
	NO_REX_REGISTER("0xc8");	/* CR9 */
	NO_REX_REGISTER("0xd0");	/* CR10 */
	NO_REX_REGISTER("0xd8");	/* CR11 */
	NO_REX_REGISTER("0xe0");	/* CR12 */
	NO_REX_REGISTER("0xe8");	/* CR13 */
	NO_REX_REGISTER("0xf0");	/* CR14 */
	NO_REX_REGISTER("0xf8");	/* CR15 */
}

/* --- the instruction --------------------------------------------------------- */

/* CR2 has 64 bits that software may choose, so it shows how many are moved. */
#define CR2_VALUE	0xfedcba9876543210ull

CASE(cr2_takes_any_value, PROVES("paging:cr2.any"))
{
	static const u64 values[] = { 0, ~0ull, BIT(63), BIT(47), CR2_VALUE, ~CR2_VALUE };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT(ATTEMPT("mov %0, %%cr2", : "r" (values[i])), OUTCOME_DONE);
		EXPECT_EQ(read_cr2(), values[i]);
	}
}

/* NOPs behind: a displacement that does not exist would swallow them. */
#define READ_CR2(bytes, into) \
	EXPECT(ATTEMPT(".byte " bytes ", 0x90, 0x90, 0x90, 0x90", "+a" (into) :), OUTCOME_DONE)

CASE(mod_field_is_ignored, PROVES("paging:cr.mod_ignored"))
{
	u64 mod_0 = 0, mod_1 = 0, mod_2 = 0;

	write_cr2(CR2_VALUE);
	READ_CR2("0x0f, 0x20, 0x10", mod_0);
	READ_CR2("0x0f, 0x20, 0x50", mod_1);
	READ_CR2("0x0f, 0x20, 0x90", mod_2);
	EXPECT_EQ(mod_0, CR2_VALUE);
	EXPECT_EQ(mod_1, CR2_VALUE);
	EXPECT_EQ(mod_2, CR2_VALUE);
}

CASE(operand_size_is_ignored, PROVES("paging:cr.opsize"))
{
	u64 with_66 = 0, with_rex_w = 0;

	write_cr2(CR2_VALUE);
	READ_CR2("0x66, 0x0f, 0x20, 0xd0", with_66);
	READ_CR2("0x48, 0x0f, 0x20, 0xd0", with_rex_w);
	EXPECT_EQ(with_66, CR2_VALUE);
	EXPECT_EQ(with_rex_w, CR2_VALUE);
	EXPECT(ATTEMPT(".byte 0x66, 0x0f, 0x22, 0xd0", : "a" (~CR2_VALUE)), OUTCOME_DONE);
	EXPECT_EQ(read_cr2(), ~CR2_VALUE);
}

CASE(lock_is_invalid, PROVES("paging:cr.lock"), NEEDS(INTEL))
{
	EXPECT_UD("0xf0, 0x0f, 0x20, 0xc0");
	EXPECT_UD("0xf0, 0x0f, 0x20, 0xd0");
	EXPECT_UD("0xf0, 0x0f, 0x22, 0xd0");
}

/*
 * Outside 64-bit mode MOV moves 32 bits: what a processor may have kept in RAX[63:32] is no matter.
 * void NAME(void *value): `value` to the register, in compatibility mode.
 */
#define MOV_IN_COMPATIBILITY_MODE(name, control_register)			\
	void name(void *value);							\
	asm(".pushsection .text\n" #name ":\n\t"				\
	    "mov %rdi, %rax\n\tpushq $0x18\n\tpushq $1f\n\tlretq\n\t"		\
	    ".code32\n1:\tmov %eax, %" control_register "\n\tljmp $0x08, $2f\n\t"	\
	    ".code64\n2:\tret\n\t.popsection")

MOV_IN_COMPATIBILITY_MODE(mov_32_bits_to_cr3, "cr3");
MOV_IN_COMPATIBILITY_MODE(mov_32_bits_to_cr4, "cr4");

CASE(cr3_takes_32_bits_in_compatibility_mode,
     PROVES("paging:cr3.legacy_upper", "paging:cr3.4g_limit"))
{
	u64 cr3 = read_cr3();

	EXPECT(attempt(mov_32_bits_to_cr3, (void *)(cr3 | 0xffffffff00000000)), OUTCOME_DONE);
	EXPECT_EQ(read_cr3(), cr3);
}

CASE(cr4_takes_32_bits_in_compatibility_mode, PROVES("paging:cr4.upper_legacy"))
{
	u64 cr4 = read_cr4();

	EXPECT(attempt(mov_32_bits_to_cr4, (void *)(cr4 | CR4_TSD | 0xffffffff00000000)),
	       OUTCOME_DONE);
	EXPECT_EQ(read_cr4(), cr4 | CR4_TSD);
}

/* --- CR3 --------------------------------------------------------------------- */

CASE(cr3_bit_63_needs_pcide, PROVES("paging:cr3.bit63.nopcide"))
{
	u64 cr3 = read_cr3();

	EXPECT(write_cr3_safe(cr3 | BIT(63)), OUTCOME_GP0);
	EXPECT_EQ(read_cr3(), cr3);
}

CASE(cr3_lam_bits_without_lam, PROVES("paging:cr3.lam_unsupported"), NEEDS(NO_CPU(LAM)))
{
	u64 cr3 = read_cr3();

	EXPECT(write_cr3_safe(cr3 | BIT(61)), OUTCOME_GP0);
	EXPECT(write_cr3_safe(cr3 | BIT(62)), OUTCOME_GP0);
	EXPECT_EQ(read_cr3(), cr3);
}

CASE(cr3_low_bits_are_kept, PROVES("paging:cr3.lowbits_nopcide"))
{
	u64 cr3 = read_cr3();

	EXPECT(write_cr3_safe(cr3 | BITS(11, 0)), OUTCOME_DONE);
	EXPECT_EQ(read_cr3(), cr3 | BITS(11, 0));
}

/* The register takes it; only a walk would find that nothing is there. */
CASE(cr3_beyond_memory, PROVES("paging:cr3.phys_beyond_ram"))
{
	struct legacy_step script[] = {
		{ SET_CR3(0xe0000000) },
		{ GET_CR3, .gives = 0xe0000000 },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
}

/* --- CR4 --------------------------------------------------------------------- */

CASE(cr4_lam_sup_without_lam, PROVES("paging:lam.cr4_absent"), NEEDS(NO_CPU(LAM)))
{
	u64 cr4 = read_cr4();

	EXPECT(write_cr4_safe(cr4 | BIT(28)), OUTCOME_GP0);
	EXPECT_EQ(read_cr4(), cr4);
}

/* --- CR8 --------------------------------------------------------------------- */

CASE(cr8_bits_63_to_4, PROVES("paging:cr8.range"))
{
	u32 bit;

	write_cr8(5);
	for (bit = 4; bit < 64; bit++)
		EXPECT(write_cr8_safe(BIT(bit)), OUTCOME_GP0);
	EXPECT_EQ(read_cr8(), 5);
}

CASE(cr8_is_the_task_priority, PROVES("paging:cr8.mode"), NEEDS(APIC))
{
	u32 priority;

	for (priority = 0; priority < 16; priority++) {
		EXPECT(write_cr8_safe(priority), OUTCOME_DONE);
		EXPECT_EQ(read_cr8(), priority);
		EXPECT_EQ(apic_read(APIC_TASK_PRIORITY), priority << 4);
	}
	apic_write(APIC_TASK_PRIORITY, 0xa7);
	EXPECT_EQ(read_cr8(), 0xa);
}

/* --- IA32_EFER --------------------------------------------------------------- */

CASE(efer_reserved_bits, PROVES("paging:efer.reserved"), NEEDS(INTEL))
{
	u64 efer = rdmsr(IA32_EFER);
	u64 defined = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	u32 bit;

	for (bit = 0; bit < 64; bit++)
		if (!(defined & BIT(bit)))
			EXPECT(wrmsr_safe(IA32_EFER, efer | BIT(bit)), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_EFER), efer);
}

CASE(syscall_and_sysret_need_sce, PROVES("paging:efer.sce"), NEEDS(CPU(SYSCALL)))
{
	/* Where a SYSRET that is executed would go to. */
	static const u8 ud2[] = { 0x0f, 0x0b };

	wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~EFER_SCE);
	EXPECT(ATTEMPT("syscall", : : "rcx", "r11", "memory"), OUTCOME_UD);
	EXPECT(ATTEMPT("sysretl", : "c" (ud2) : "memory"), OUTCOME_UD);
	EXPECT(ATTEMPT("sysretq", : "c" (ud2) : "memory"), OUTCOME_UD);
}

/* --- XCR0: volume 1, 13.3 Enabling the XSAVE Feature Set ----------------------- */

static outcome_t xgetbv_safe(u32 index, u64 *value)
{
	u32 low = 0, high = 0;
	outcome_t outcome = ATTEMPT("xgetbv", "+a" (low), "+d" (high) : "c" (index));

	*value = (u64)high << 32 | low;
	return outcome;
}

static u64 xcr0_supported(void)
{
	struct cpuid_result r = cpuid_count(0xd, 0);

	return (u64)r.edx << 32 | r.eax;
}

#define XCR0_X87	BIT(0)
#define XCR0_SSE	BIT(1)
#define XCR0_AVX	BIT(2)
#define XCR0_MPX	BITS(4, 3)
#define XCR0_AVX512	BITS(7, 5)
#define XCR0_AMX	BITS(18, 17)

/* A part of these bits alone is refused: they stand for one feature. */
static bool all_or_none(u64 value, u64 bits)
{
	return (value & bits) == 0 || (value & bits) == bits;
}

static bool xcr0_is_legal(u64 value)
{
	return !(value & ~xcr0_supported()) && (value & XCR0_X87) &&
	       (!(value & XCR0_AVX) || (value & XCR0_SSE)) &&
	       (!(value & XCR0_AVX512) || (value & XCR0_AVX)) && all_or_none(value, XCR0_MPX) &&
	       all_or_none(value, XCR0_AVX512) && all_or_none(value, XCR0_AMX);
}

/* Writes each value that has `base` and some of `bits`, and compares with the rule. */
static void every_part_of(u64 base, u64 bits)
{
	u64 part = 0, xcr0 = XCR0_X87, now;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	xsetbv_safe(0, xcr0);
	do {
		u64 value = base | part;
		bool legal = xcr0_is_legal(value);

		if (!EXPECT(xsetbv_safe(0, value), legal ? OUTCOME_DONE : OUTCOME_GP0))
			case_note("value", "%#lx", value);
		if (legal)
			xcr0 = value;
		xgetbv_safe(0, &now);
		EXPECT_EQ(now, xcr0);
		part = (part - bits) & bits;
	} while (part);
	xsetbv_safe(0, XCR0_X87);
}

static bool xcr0_has(u64 bits)
{
	return feature(FEATURE_XSAVE) && (xcr0_supported() & bits) == bits;
}

#define XCR0(words, bits)	{ .text = words " in XCR0", .met = xcr0_has, .arg = (bits) }

CASE(xsetbv_needs_osxsave, PROVES("paging:xcr0.osxsave0"))
{
	u64 value;

	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	EXPECT(xsetbv_safe(0, 1), OUTCOME_UD);
	EXPECT(xgetbv_safe(0, &value), OUTCOME_UD);
}

CASE(xcr0_is_1_after_reset, PROVES("paging:xcr0.reset"), NEEDS(CPU(XSAVE)))
{
	u64 value;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	EXPECT(xgetbv_safe(0, &value), OUTCOME_DONE);
	EXPECT_EQ(value, XCR0_X87);
}

CASE(xsetbv_knows_one_register, PROVES("paging:xcr0.index"), NEEDS(CPU(XSAVE)))
{
	static const u32 indices[] = { 1, 2, 0x80000000, 0xffffffff };
	u32 i;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	for (i = 0; i < ARRAY_SIZE(indices); i++)
		EXPECT(xsetbv_safe(indices[i], 1), OUTCOME_GP0);
}

/* Register 1 is XCR0 & XINUSE, where CPUID.0DH.1:EAX[2] says so. */
CASE(xgetbv_knows_one_or_two_registers, PROVES("paging:xcr0.xgetbv_index"), NEEDS(CPU(XSAVE)))
{
	bool has_1 = cpuid_count(0xd, 1).eax >> 2 & 1;
	u64 value;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	EXPECT(xgetbv_safe(1, &value), has_1 ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT(xgetbv_safe(2, &value), OUTCOME_GP0);
	EXPECT(xgetbv_safe(0xffffffff, &value), OUTCOME_GP0);
}

CASE(xcr0_x87_is_1, PROVES("paging:xcr0.x87"), NEEDS(CPU(XSAVE)))
{
	every_part_of(0, XCR0_X87 | XCR0_SSE);
}

CASE(xcr0_avx_needs_sse, PROVES("paging:xcr0.avx_sse"), NEEDS(XCR0("AVX", XCR0_AVX)))
{
	every_part_of(0, XCR0_X87 | XCR0_SSE | XCR0_AVX);
}

CASE(xcr0_avx_512_is_one_feature, PROVES("paging:xcr0.avx512"),
     NEEDS(XCR0("AVX-512", XCR0_AVX512)))
{
	every_part_of(XCR0_X87, XCR0_SSE | XCR0_AVX | XCR0_AVX512);
}

CASE(xcr0_mpx_is_one_feature, PROVES("paging:xcr0.mpx"), NEEDS(XCR0("MPX", XCR0_MPX)))
{
	every_part_of(XCR0_X87, XCR0_MPX);
}

CASE(xcr0_amx_is_one_feature, PROVES("paging:xcr0.amx"), NEEDS(XCR0("AMX", XCR0_AMX)))
{
	every_part_of(XCR0_X87, XCR0_AMX);
}

CASE(xcr0_unsupported_bits, PROVES("paging:xcr0.unsupported"), NEEDS(CPU(XSAVE)))
{
	u32 bit;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	for (bit = 0; bit < 64; bit++)
		if (!(xcr0_supported() & BIT(bit)))
			EXPECT(xsetbv_safe(0, XCR0_X87 | BIT(bit)), OUTCOME_GP0);
}
