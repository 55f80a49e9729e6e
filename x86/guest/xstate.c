/*
 * The XSAVE feature set: XSETBV, XGETBV, XSAVE, XRSTOR, XSAVES and XRSTORS (volume 1, chapter 13;
 * volume 2), and what XCR0 does to AVX.
 *
 * XCR0 says which state components exist for software. What it may hold, what XSAVE writes of an
 * area and its header, and what XRSTOR refuses in a header is all decided by the same few bits,
 * which a hypervisor keeps in three places: its own XCR0, the guest's, and CPUID leaf 0DH
 * (guest/cpuid-basic).
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:" name)
#define RULE(name)	PROVES("guest-instructions:xsetbv.rules", "paging:xcr0." name)

#define XCR0_X87	BIT(0)
#define XCR0_SSE	BIT(1)
#define XCR0_AVX	BIT(2)
#define XCR0_MPX	BITS(4, 3)
#define XCR0_AVX512	BITS(7, 5)
#define XCR0_AMX	BITS(18, 17)

static u64 supported(void)
{
	struct cpuid_result r = cpuid_count(0xd, 0);

	return (u64)r.edx << 32 | r.eax;
}

static u64 xgetbv(u32 index)
{
	u32 low, high;

	asm volatile("xgetbv" : "=a" (low), "=d" (high) : "c" (index));
	return (u64)high << 32 | low;
}

static bool components(u64 bits)
{
	return feature(FEATURE_XSAVE) && (supported() & bits) == bits;
}

#define COMPONENTS(bits, words)	{ "XSAVE state components of " words, components, bits, 0 }

/* XCR0 outlives a case: each begins with its own. SSE instructions are on as well. */
static void enable(u64 xcr0)
{
	write_cr4(read_cr4() | CR4_OSXSAVE | CR4_OSFXSR);
	REQUIRE(xsetbv_safe(0, xcr0), OUTCOME_DONE);
}

/* --- XSETBV and XGETBV --------------------------------------------------------------- */

CASE(xsetbv_and_xgetbv_without_osxsave, RULE("osxsave0"))
{
	EXPECT(xsetbv_safe(0, XCR0_X87), OUTCOME_UD);
	EXPECT(ATTEMPT("xgetbv", : "c" (0) : "rax", "rdx"), OUTCOME_UD);
}

CASE(xsetbv_of_another_register, RULE("index"), NEEDS(CPU(XSAVE)))
{
	enable(XCR0_X87);
	EXPECT(xsetbv_safe(1, XCR0_X87), OUTCOME_GP0);
	EXPECT(xsetbv_safe(~0u, XCR0_X87), OUTCOME_GP0);
}

CASE(xgetbv_of_another_register, RULE("xgetbv_index"), NEEDS(CPU(XSAVE)))
{
	bool in_use = cpuid_count(0xd, 1).eax & BIT(2);

	enable(XCR0_X87);
	EXPECT(ATTEMPT("xgetbv", : "c" (2) : "rax", "rdx"), OUTCOME_GP0);
	EXPECT(ATTEMPT("xgetbv", : "c" (~0u) : "rax", "rdx"), OUTCOME_GP0);
	EXPECT(ATTEMPT("xgetbv", : "c" (1) : "rax", "rdx"), in_use ? OUTCOME_DONE : OUTCOME_GP0);
}

CASE(xgetbv_clears_upper_halves, RULE("osxsave0"), NEEDS(CPU(XSAVE)))
{
	const u64 garbage = 0xdeadbeef00000000;
	u64 rax = garbage, rdx = garbage;

	enable(XCR0_X87 | XCR0_SSE);
	EXPECT(ATTEMPT("xgetbv", "+a" (rax), "+d" (rdx) : "c" (garbage)), OUTCOME_DONE);
	EXPECT_EQ(rax, XCR0_X87 | XCR0_SSE);
	EXPECT_EQ(rdx, 0);
}

struct xcr0_row {
	u64 value;
};

static void check_refused(const struct case_def *this_case)
{
	const struct xcr0_row *row = this_case->row;

	enable(XCR0_X87);
	EXPECT(xsetbv_safe(0, row->value), OUTCOME_GP0);
	EXPECT_EQ(xgetbv(0), XCR0_X87);
}

#define XCR0_REFUSED(id, fact, value, ...)					\
	CASE_RUN(xcr0_##id, check_refused, RULE(fact),				\
		 ROW((&(const struct xcr0_row){ value })), ##__VA_ARGS__)

#define UP_TO_AVX	(XCR0_X87 | XCR0_SSE | XCR0_AVX)

XCR0_REFUSED(nothing, "x87", 0, NEEDS(CPU(XSAVE)));
XCR0_REFUSED(sse_without_x87, "x87", XCR0_SSE, NEEDS(CPU(XSAVE)));
XCR0_REFUSED(avx_without_sse, "avx_sse", XCR0_X87 | XCR0_AVX, NEEDS(CPU(AVX)));
XCR0_REFUSED(opmask_alone, "avx512", UP_TO_AVX | BIT(5), NEEDS(COMPONENTS(XCR0_AVX512, "AVX-512")));
XCR0_REFUSED(upper_zmm_alone, "avx512", UP_TO_AVX | BITS(7, 6),
	     NEEDS(COMPONENTS(XCR0_AVX512, "AVX-512")));
XCR0_REFUSED(avx512_without_avx, "avx512", XCR0_X87 | XCR0_SSE | XCR0_AVX512,
	     NEEDS(COMPONENTS(XCR0_AVX512, "AVX-512")));
XCR0_REFUSED(bounds_without_status, "mpx", XCR0_X87 | BIT(3), NEEDS(COMPONENTS(XCR0_MPX, "MPX")));
XCR0_REFUSED(bounds_status_alone, "mpx", XCR0_X87 | BIT(4), NEEDS(COMPONENTS(XCR0_MPX, "MPX")));
XCR0_REFUSED(tile_configuration_alone, "amx", XCR0_X87 | BIT(17),
	     NEEDS(COMPONENTS(XCR0_AMX, "AMX")));
XCR0_REFUSED(tile_data_alone, "amx", XCR0_X87 | BIT(18), NEEDS(COMPONENTS(XCR0_AMX, "AMX")));
XCR0_REFUSED(bit_63, "unsupported", XCR0_X87 | BIT(63), NEEDS(CPU(XSAVE)));

CASE(xcr0_bits_of_no_component, RULE("unsupported"), NEEDS(CPU(XSAVE)))
{
	u32 i;

	enable(XCR0_X87);
	for (i = 2; i < 63; i++)
		if (!(supported() >> i & 1) &&
		    !EXPECT(xsetbv_safe(0, XCR0_X87 | XCR0_SSE | BIT(i)), OUTCOME_GP0))
			case_note("bit", "%u", i);
	EXPECT_EQ(xgetbv(0), XCR0_X87);
}

CASE(xcr0_with_all_components, RULE("unsupported"), NEEDS(CPU(XSAVE)))
{
	enable(supported());
	EXPECT_EQ(xgetbv(0), supported());
	EXPECT(xsetbv_safe(0, XCR0_X87), OUTCOME_DONE);
	EXPECT_EQ(xgetbv(0), XCR0_X87);
}

/* --- the area of XSAVE ------------------------------------------------------------------- */

/* Volume 1, 13.4: the legacy region, the header, the rest. */
struct xsave_area {
	u8 legacy[512];
	u64 xstate_bv, xcomp_bv, reserved[6];
	u8 extended[4096 - 576];
};

#define MXCSR_OFFSET	24
#define MXCSR_AT_RESET	0x1f80u
#define COMPACTED	BIT(63)

#define XSTATE(insn, area, mask)						\
	ATTEMPT(insn " (%0)", : "r" (area), "a" ((u32)(mask)), "d" ((u32)((mask) >> 32)) : "memory")

static struct xsave_area *new_area(void)
{
	struct xsave_area *area = page_alloc();
	u32 mxcsr = MXCSR_AT_RESET;

	memcpy(area->legacy + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	return area;
}

/* Of what EDX:EAX asks for, XSAVE saves what XCR0 has; the other bits of XSTATE_BV stay. */
CASE(xsave_saves_what_is_enabled, FACT("xsave.xcr0_limit"), NEEDS(CPU(XSAVE)))
{
	struct xsave_area *area = page_alloc_filled(~0ull);

	enable(XCR0_X87 | XCR0_SSE);
	/* Not in the initial configuration: it is in use, and has to be saved. */
	asm volatile("fninit; fld1; movd %0, %%xmm3" : : "r" (0x600df00d));
	area->xstate_bv = 0;
	EXPECT(XSTATE("xsave", area, ~0ull), OUTCOME_DONE);
	EXPECT_EQ(area->xstate_bv, XCR0_X87 | XCR0_SSE);
	EXPECT_EQ(*(u32 *)(area->legacy + 160 + 3 * 16), 0x600df00d);
	EXPECT_EQ(area->xcomp_bv, ~0ull);
	EXPECT_EQ(area->extended[0], 0xff);
	area->xstate_bv = BIT(2) | BIT(62);
	EXPECT(XSTATE("xsave", area, XCR0_X87), OUTCOME_DONE);
	EXPECT_EQ(area->xstate_bv, XCR0_X87 | BIT(2) | BIT(62));
}

CASE(xrstor_restores_what_is_enabled, FACT("xsave.xcr0_limit"), NEEDS(CPU(XSAVE)))
{
	struct xsave_area *area = new_area();
	u32 got;

	enable(XCR0_X87 | XCR0_SSE);
	asm volatile("movd %0, %%xmm3" : : "r" (1));
	*(u32 *)(area->legacy + 160 + 3 * 16) = 2;
	area->xstate_bv = XCR0_SSE;
	EXPECT(XSTATE("xrstor", area, XCR0_X87), OUTCOME_DONE);
	asm volatile("movd %%xmm3, %0" : "=r" (got));
	EXPECT_EQ(got, 1);
	EXPECT(XSTATE("xrstor", area, ~0ull), OUTCOME_DONE);
	asm volatile("movd %%xmm3, %0" : "=r" (got));
	EXPECT_EQ(got, 2);
	/* XSTATE_BV = 0: the initial configuration. */
	area->xstate_bv = 0;
	EXPECT(XSTATE("xrstor", area, ~0ull), OUTCOME_DONE);
	asm volatile("movd %%xmm3, %0" : "=r" (got));
	EXPECT_EQ(got, 0);
}

CASE(area_is_aligned_to_64_bytes, FACT("xsave.align"), NEEDS(CPU(XSAVE)))
{
	struct xsave_area *area = pages_alloc(2 * PAGE_SIZE, PAGE_SIZE);
	u32 offset;

	enable(XCR0_X87 | XCR0_SSE);
	for (offset = 1; offset < 64; offset *= 2) {
		EXPECT(XSTATE("xsave", (u8 *)area + offset, XCR0_SSE), OUTCOME_GP0);
		EXPECT(XSTATE("xrstor", (u8 *)area + offset, XCR0_SSE), OUTCOME_GP0);
	}
	EXPECT(XSTATE("xsave", (u8 *)area + 64, XCR0_SSE), OUTCOME_DONE);
}

/* --- headers that XRSTOR refuses ------------------------------------------------------------ */

struct header_row {
	u64 xstate_bv, xcomp_bv, reserved;	/* `reserved`: bytes 23:16 of the header */
	u32 last;				/* not 0: in the last bytes of the header */
};

static void check_header(const struct case_def *this_case)
{
	const struct header_row *row = this_case->row;
	struct xsave_area *area = new_area();

	enable(XCR0_X87 | XCR0_SSE);
	EXPECT(XSTATE("xrstor", area, ~0ull), OUTCOME_DONE);
	area->xstate_bv = row->xstate_bv;
	area->xcomp_bv = row->xcomp_bv;
	area->reserved[row->last ? 5 : 0] = row->reserved;
	EXPECT(XSTATE("xrstor", area, ~0ull), OUTCOME_GP0);
	/* Also when no component is asked for. */
	EXPECT(XSTATE("xrstor", area, 0ull), OUTCOME_GP0);
}

#define HEADER(id, fact, xstate_bv, xcomp_bv, reserved, last, ...)		\
	CASE_RUN(header_##id, check_header, FACT(fact),				\
		 ROW((&(const struct header_row){ xstate_bv, xcomp_bv, reserved, last })), \
		 ##__VA_ARGS__)

/*
 * The standard form, 13.8.1: bytes 23:8 are 0. XCOMP_BV[63] = 0 is this form where there is the
 * other.
 */
HEADER(xcomp_bv, "xsave.hdr", 0, BIT(0), 0, 0, NEEDS(CPU(XSAVE)));
HEADER(bytes_23_16, "xsave.hdr", 0, 0, 1, 0, NEEDS(CPU(XSAVE)));
HEADER(disabled_component, "xsave.hdr", XCR0_AVX, 0, 0, 0, NEEDS(CPU(XSAVE)));
HEADER(component_63, "xsave.hdr", BIT(63), 0, 0, 0, NEEDS(CPU(XSAVE)));
HEADER(compacted_without_xsavec, "xsave.hdr", 0, COMPACTED, 0, 0,
       NEEDS(CPU(XSAVE), NO_CPU(XSAVEC)));
/* The compacted form, 13.8.2. */
HEADER(compacted_disabled_component, "xsave.compact", 0, COMPACTED | XCR0_AVX, 0, 0,
       NEEDS(CPU(XSAVEC)));
HEADER(compacted_not_a_subset, "xsave.compact", XCR0_X87 | XCR0_SSE, COMPACTED | XCR0_X87, 0, 0,
       NEEDS(CPU(XSAVEC)));
HEADER(compacted_bytes_23_16, "xsave.compact", 0, COMPACTED | XCR0_X87, BIT(63), 0,
       NEEDS(CPU(XSAVEC)));
HEADER(compacted_bytes_63_56, "xsave.compact", 0, COMPACTED | XCR0_X87, BIT(0), 1,
       NEEDS(CPU(XSAVEC)));

/*
 * --- MXCSR
 * --------------------------------------------------------------------------------------
 */

/* FXSAVE tells which bits of MXCSR exist; bits 31:16 never do. */
CASE(reserved_bits_of_mxcsr, FACT("xsave.mxcsr"))
{
	u8 *area = page_alloc();
	u32 *mxcsr = (u32 *)(area + MXCSR_OFFSET), value = MXCSR_AT_RESET | BIT(16);

	write_cr4(read_cr4() | CR4_OSFXSR);
	EXPECT(ATTEMPT("fxsave %0", "=m" (*area)), OUTCOME_DONE);
	*mxcsr |= BIT(31);
	EXPECT(ATTEMPT("fxrstor %0", : "m" (*area) : "memory"), OUTCOME_GP0);
	EXPECT(ATTEMPT("ldmxcsr %0", : "m" (value)), OUTCOME_GP0);
	value = MXCSR_AT_RESET;
	EXPECT(ATTEMPT("ldmxcsr %0", : "m" (value)), OUTCOME_DONE);
}

CASE(reserved_bits_of_mxcsr_in_an_area, FACT("xsave.mxcsr"), NEEDS(CPU(XSAVE)))
{
	struct xsave_area *area = new_area();

	enable(XCR0_X87 | XCR0_SSE);
	area->xstate_bv = XCR0_SSE;
	*(u32 *)(area->legacy + MXCSR_OFFSET) |= BIT(31);
	EXPECT(XSTATE("xrstor", area, XCR0_SSE), OUTCOME_GP0);
	/* Not a part of x87 state: then nobody reads it. */
	EXPECT(XSTATE("xrstor", area, XCR0_X87), OUTCOME_DONE);
}

/*
 * --- XSAVES
 * ----------------------------------------------------------------------------------------
 */

CASE(xsaves_is_compacted, FACT("xsaves.xss"), NEEDS(CPU(XSAVES)))
{
	struct xsave_area *area = new_area();

	enable(XCR0_X87 | XCR0_SSE);
	asm volatile("fninit; fld1; movd %0, %%xmm3" : : "r" (0x600df00d));
	EXPECT(XSTATE("xsaves", area, ~0ull), OUTCOME_DONE);
	EXPECT_EQ(area->xcomp_bv, COMPACTED | XCR0_X87 | XCR0_SSE);
	EXPECT_EQ(area->xstate_bv, XCR0_X87 | XCR0_SSE);
	EXPECT(XSTATE("xrstors", area, ~0ull), OUTCOME_DONE);
}

/*
 * RFBM is (XCR0 or IA32_XSS) and EDX:EAX: every supervisor component comes with its bit in
 * IA32_XSS.
 */
CASE(xsaves_follows_xss, FACT("xsaves.xss"), NEEDS(CPU(XSAVES)))
{
	struct cpuid_result r = cpuid_count(0xd, 1);
	u64 xss = (u64)r.edx << 32 | r.ecx, each;
	struct xsave_area *area = new_area();

	enable(XCR0_X87);
	if (!xss)
		case_skip("a component that IA32_XSS supports");
	for (each = xss & -xss; each && each <= xss; each <<= 1) {
		if (!(xss & each))
			continue;
		REQUIRE(wrmsr_safe(IA32_XSS, each), OUTCOME_DONE);
		EXPECT(XSTATE("xsaves", area, ~0ull), OUTCOME_DONE);
		EXPECT_EQ(area->xcomp_bv, COMPACTED | XCR0_X87 | each);
		EXPECT(XSTATE("xsaves", area, XCR0_X87), OUTCOME_DONE);
		EXPECT_EQ(area->xcomp_bv, COMPACTED | XCR0_X87);
	}
}

CASE(xsaves_without_osxsave, FACT("xsaves.ud"), NEEDS(CPU(XSAVES)))
{
	EXPECT(XSTATE("xsaves", new_area(), 1ull), OUTCOME_UD);
	EXPECT(XSTATE("xrstors", new_area(), 1ull), OUTCOME_UD);
}

CASE(xsaves_is_absent, FACT("xsaves.ud"), NEEDS(CPU(XSAVE), NO_CPU(XSAVES)))
{
	enable(XCR0_X87);
	EXPECT(XSTATE("xsaves", new_area(), 1ull), OUTCOME_UD);
	EXPECT(XSTATE("xrstors", new_area(), 1ull), OUTCOME_UD);
}

/*
 * --- AVX
 * ---------------------------------------------------------------------------------------------
 */

INSTRUCTION(vxorps, "", "vxorps %ymm1, %ymm1, %ymm1");
INSTRUCTION(vzeroupper, "", "vzeroupper");

static void check_avx(u64 xcr0, outcome_t outcome)
{
	enable(xcr0);
	EXPECT(attempt(vxorps, NULL), outcome);
	EXPECT(attempt(vzeroupper, NULL), outcome);
	EXPECT(run_at_cpl(3, vxorps, NULL), outcome);
}

CASE(avx_needs_its_state_enabled, FACT("avx.xcr0"), NEEDS(CPU(AVX)))
{
	check_avx(XCR0_X87, OUTCOME_UD);
	check_avx(XCR0_X87 | XCR0_SSE, OUTCOME_UD);
	check_avx(UP_TO_AVX, OUTCOME_DONE);
}

CASE(avx_needs_osxsave, FACT("avx.xcr0"), NEEDS(CPU(AVX)))
{
	enable(UP_TO_AVX);
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	EXPECT(attempt(vxorps, NULL), OUTCOME_UD);
	EXPECT(run_at_cpl(3, vxorps, NULL), OUTCOME_UD);
}

CASE(avx_with_ts, FACT("avx.xcr0"), NEEDS(CPU(AVX)))
{
	enable(UP_TO_AVX);
	write_cr0(read_cr0() | CR0_TS);
	EXPECT(attempt(vxorps, NULL), OUTCOME_EXCEPTION(VECTOR_NM));
}
