/*
 * RDMSR and WRMSR: the instructions, and the values that architectural MSRs take and refuse.
 *
 * Volume 2, RDMSR and WRMSR: an address that is not implemented, a bit that is reserved in the
 * MSR, an address that is not canonical where the MSR holds one, a memory type that does not
 * exist: all are #GP(0), and nothing changes. What is accepted reads back. A hypervisor that
 * stores whatever the guest writes fails here, at the latest when VM entry checks the same value.
 * What belongs to the local APIC is in guest/msr-apic, the time-stamp counter in guest/tsc.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"

#define FACT(name)	PROVES("guest-instructions:msr." name)

/* Volume 4, 2.1: no processor will ever implement an MSR at 40000000H to 400000FFH. */
#define NEVER_FIRST	0x40000000u
#define NEVER_LAST	0x400000ffu

#define NOT_CANONICAL	0x8000000000000000ull
#define NOT_CANONICAL_57 0x0100000000000000ull	/* with 57-bit addresses neither */

/* --- the instructions --------------------------------------------------------- */

CASE(read_of_no_msr, FACT("unknown_rd"))
{
	const u32 addresses[] = { NEVER_FIRST, NEVER_LAST };
	u64 rax, rdx;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		rax = 0x1111222233334444;
		rdx = 0x5555666677778888;
		EXPECT(ATTEMPT("rdmsr", "+a" (rax), "+d" (rdx) : "c" (addresses[i])), OUTCOME_GP0);
		EXPECT_EQ(rax, 0x1111222233334444);
		EXPECT_EQ(rdx, 0x5555666677778888);
	}
}

CASE(write_of_no_msr, FACT("unknown_wr"))
{
	EXPECT(wrmsr_safe(NEVER_FIRST, 0), OUTCOME_GP0);
	EXPECT(wrmsr_safe(NEVER_LAST, 0), OUTCOME_GP0);
}

/* Only ECX names the MSR, only EAX and EDX hold the value; a read clears the upper halves. */
CASE(upper_halves, PROVES("guest-instructions:msr.upper", "guest-instructions:msr.rdmsr_imm_width"))
{
	const u64 garbage = 0xdeadbeef00000000;
	u64 rax = garbage | 0x89abcdef, rdx = garbage | 0x01234567;

	EXPECT(ATTEMPT("wrmsr", : "c" (garbage | IA32_STAR), "a" (rax), "d" (rdx)), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_STAR), 0x0123456789abcdef);
	EXPECT(ATTEMPT("rdmsr", "+a" (rax), "+d" (rdx) : "c" (garbage | IA32_STAR)), OUTCOME_DONE);
	EXPECT_EQ(rax, 0x89abcdef);
	EXPECT_EQ(rdx, 0x01234567);
}

CASE(lock_is_invalid, FACT("lock"))
{
	EXPECT(ATTEMPT(".byte 0xf0; rdmsr", : "c" (IA32_EFER) : "rax", "rdx"), OUTCOME_UD);
	EXPECT(ATTEMPT(".byte 0xf0; wrmsr", : "c" (IA32_STAR), "a" (0), "d" (0)), OUTCOME_UD);
}

/* --- values that an MSR keeps ---------------------------------------------------- */

struct msr_row {
	u32 msr;
	u64 value;
};

static void check_kept(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 got;

	EXPECT(wrmsr_safe(row->msr, row->value), OUTCOME_DONE);
	EXPECT(rdmsr_safe(row->msr, &got), OUTCOME_DONE);
	EXPECT_EQ(got, row->value);
}

#define MSR_CASE(id, check, fact, msr, value, ...)				\
	CASE_RUN(id, check, FACT(fact),					\
		 ROW((&(const struct msr_row){ msr, value })), ##__VA_ARGS__)
#define KEPT(id, fact, msr, value, ...) \
	MSR_CASE(id, check_kept, fact, msr, value, ##__VA_ARGS__)

KEPT(star, "star", IA32_STAR, 0xfedcba9876543210);
KEPT(star_all_ones, "star", IA32_STAR, ~0ull);
KEPT(fmask, "fmask", IA32_FMASK, 0xffffffff);
KEPT(lstar, "lstar", IA32_LSTAR, 0xffff800000000123);
KEPT(cstar, "lstar", IA32_CSTAR, 0x00007ffffffffffe);
KEPT(fs_base, "fs_gs", IA32_FS_BASE, 0xffff800000000001);
KEPT(gs_base, "fs_gs", IA32_GS_BASE, 0x00007fffffffffff);
KEPT(kernel_gs_base, "fs_gs", IA32_KERNEL_GS_BASE, 0xffffffffffffffff);
KEPT(sysenter_cs, "sysenter_cs", IA32_SYSENTER_CS, 0xffff);
KEPT(sysenter_cs_0, "sysenter_cs", IA32_SYSENTER_CS, 0);
KEPT(sysenter_esp, "sysenter_esp", IA32_SYSENTER_ESP, 0xffff8123456789ab);
KEPT(sysenter_eip, "sysenter_esp", IA32_SYSENTER_EIP, 0x00007123456789ab);
KEPT(pat_every_type, "pat", IA32_PAT, 0x0706050401000706);
KEPT(tsc_aux, "tsc_aux", IA32_TSC_AUX, 0xffffffff, NEEDS(CPU(RDTSCP)));

/* --- values that it refuses --------------------------------------------------------- */

static void check_refused(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 before, after;

	REQUIRE(rdmsr_safe(row->msr, &before), OUTCOME_DONE);
	if (!EXPECT(wrmsr_safe(row->msr, before ^ row->value), OUTCOME_GP0))
		case_note("value", "%#lx to MSR %#x", before ^ row->value, row->msr);
	EXPECT(rdmsr_safe(row->msr, &after), OUTCOME_DONE);
	EXPECT_EQ(after, before);
	wrmsr_safe(row->msr, before);
}

/*
 * `value`: the bits that are not as they are now; so a flag that must not change is named as
 * well.
 */
#define REFUSED(id, fact, msr, value, ...) \
	MSR_CASE(id, check_refused, fact, msr, value, ##__VA_ARGS__)

REFUSED(lstar_not_canonical, "lstar", IA32_LSTAR, NOT_CANONICAL);
REFUSED(cstar_not_canonical, "lstar", IA32_CSTAR, NOT_CANONICAL_57);
REFUSED(fs_base_not_canonical, "fs_gs", IA32_FS_BASE, NOT_CANONICAL);
REFUSED(gs_base_not_canonical, "fs_gs", IA32_GS_BASE, NOT_CANONICAL_57);
REFUSED(kernel_gs_base_not_canonical, "fs_gs", IA32_KERNEL_GS_BASE, NOT_CANONICAL);
REFUSED(sysenter_esp_not_canonical, "sysenter_esp", IA32_SYSENTER_ESP, NOT_CANONICAL);
REFUSED(sysenter_eip_not_canonical, "sysenter_esp", IA32_SYSENTER_EIP, NOT_CANONICAL_57);
REFUSED(tsc_aux_bit_32, "tsc_aux", IA32_TSC_AUX, BIT(32), NEEDS(CPU(RDTSCP)));

REFUSED(efer_bit_1, "efer", IA32_EFER, BIT(1));
REFUSED(efer_bit_9, "efer", IA32_EFER, BIT(9));
REFUSED(efer_bit_12, "efer", IA32_EFER, BIT(12), NEEDS(INTEL));
REFUSED(efer_bit_16, "efer", IA32_EFER, BIT(16));
REFUSED(efer_bit_63, "efer", IA32_EFER, BIT(63));
/* 11.8.5: IA32_EFER.LME cannot change while paging is enabled. */
REFUSED(efer_lme_with_paging, "efer", IA32_EFER, EFER_LME);

/*
 * Memory types 2, 3 and 8 to 255 are reserved: 14.12.2, Table 14-11. The entry holds WB (6) or
 * other.
 */
static void check_pat(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 before = rdmsr(IA32_PAT);
	u32 entry;

	for (entry = 0; entry < 8; entry++) {
		u64 value = (before & ~(0xffull << entry * 8)) | row->value << entry * 8;

		if (!EXPECT(wrmsr_safe(IA32_PAT, value), OUTCOME_GP0))
			case_note("entry", "PA%u", entry);
		EXPECT_EQ(rdmsr(IA32_PAT), before);
		wrmsr(IA32_PAT, before);
	}
}

MSR_CASE(pat_type_2, check_pat, "pat", IA32_PAT, 2);
MSR_CASE(pat_type_3, check_pat, "pat", IA32_PAT, 3);
MSR_CASE(pat_type_8, check_pat, "pat", IA32_PAT, 8);
MSR_CASE(pat_type_128, check_pat, "pat", IA32_PAT, 0x86);

/* 20.4.1, Figure 20-11: bits 63:16 are reserved but for those that later features took. */
REFUSED(debugctl_bit_63, "debugctl", IA32_DEBUGCTL, BIT(63));
REFUSED(debugctl_bit_32, "debugctl", IA32_DEBUGCTL, BIT(32));

/* --- MSRs that are absent ------------------------------------------------------------- */

static void check_absent(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 value;
	u32 msr;

	for (msr = row->msr; msr <= row->value; msr++)
		if (!EXPECT(rdmsr_safe(msr, &value), OUTCOME_GP0) ||
		    !EXPECT(wrmsr_safe(msr, 0), OUTCOME_GP0))
			case_note("msr", "%#x", msr);
}

#define ABSENT(id, fact, first, last, ...) \
	MSR_CASE(id, check_absent, fact, first, last, ##__VA_ARGS__)

ABSENT(vmx_msrs_without_vmx, "vmx_range", 0x480, 0x493, NEEDS(NO_CPU(VMX)));
ABSENT(tsc_aux_without_its_readers, "tsc_aux", IA32_TSC_AUX, IA32_TSC_AUX,
       NEEDS(NO_CPU(RDTSCP), NO_CPU(RDPID)));
ABSENT(xss_without_xsaves, "xss", IA32_XSS, IA32_XSS, NEEDS(NO_CPU(XSAVES)));
ABSENT(pkrs_without_pks, "pkrs", IA32_PKRS, IA32_PKRS, NEEDS(NO_CPU(PKS)));
ABSENT(xfd_without_xfd, "xfd", 0x1c4, 0x1c5, NEEDS(NO_CPU(XFD)));
ABSENT(shadow_stack_msrs_without_cet, "pl_ssp", 0x6a4, 0x6a8, NEEDS(NO_CPU(CET_SS)));
ABSENT(cet_msrs_without_cet, "u_cet", 0x6a0, 0x6a0, NEEDS(NO_CPU(CET_SS), NO_CPU(CET_IBT)));
ABSENT(s_cet_without_cet, "u_cet", 0x6a2, 0x6a2, NEEDS(NO_CPU(CET_SS), NO_CPU(CET_IBT)));

/* --- protection keys, CET, XSAVE -------------------------------------------------------- */

REFUSED(pkrs_bit_32, "pkrs", IA32_PKRS, BIT(32), NEEDS(CPU(PKS)));
REFUSED(u_cet_bit_6, "u_cet", 0x6a0, BIT(6), NEEDS(CPU(CET_SS)));
REFUSED(u_cet_bit_9, "u_cet", 0x6a0, BIT(9), NEEDS(CPU(CET_IBT)));
REFUSED(s_cet_bit_6, "u_cet", IA32_S_CET, BIT(6), NEEDS(CPU(CET_SS)));
REFUSED(s_cet_bitmap_not_canonical, "u_cet", IA32_S_CET, NOT_CANONICAL, NEEDS(CPU(CET_IBT)));
REFUSED(pl0_ssp_bit_0, "pl_ssp", 0x6a4, BIT(0), NEEDS(CPU(CET_SS)));
REFUSED(pl3_ssp_bit_1, "pl_ssp", 0x6a7, BIT(1), NEEDS(CPU(CET_SS)));
REFUSED(pl1_ssp_not_canonical, "pl_ssp", 0x6a5, NOT_CANONICAL, NEEDS(CPU(CET_SS)));
REFUSED(pl2_ssp_not_canonical, "pl_ssp", 0x6a6, NOT_CANONICAL_57, NEEDS(CPU(CET_SS)));

/* Components that XCR0 has, x87 (bit 0) first of all, are not in IA32_XSS. */
REFUSED(xss_bit_of_xcr0, "xss", IA32_XSS, BIT(0), NEEDS(CPU(XSAVES)));

CASE(xss_bits_of_no_component, FACT("xss"), NEEDS(CPU(XSAVES)))
{
	struct cpuid_result r = cpuid_count(0xd, 1);
	u64 supported = (u64)r.edx << 32 | r.ecx;
	u32 i;

	for (i = 0; i < 64; i++)
		if (!EXPECT(wrmsr_safe(IA32_XSS, BIT(i)),
			    supported >> i & 1 ? OUTCOME_DONE : OUTCOME_GP0))
			case_note("bit", "%u", i);
}

/* IA32_XFD takes the components whose CPUID leaf says so, ECX[2]. */
CASE(xfd_bits_of_no_component, FACT("xfd"), NEEDS(CPU(XFD)))
{
	u32 i;

	for (i = 0; i < 63; i++) {
		bool supported = i >= 2 && (cpuid_count(0xd, i).ecx & BIT(2));

		if (!EXPECT(wrmsr_safe(0x1c4, BIT(i)), supported ? OUTCOME_DONE : OUTCOME_GP0))
			case_note("bit", "%u", i);
	}
	wrmsr(0x1c4, 0);
}

/* --- FS and GS ----------------------------------------------------------------------- */

CASE(fs_base_counts_at_once, FACT("fs_visible"))
{
	u64 *page = page_alloc(), value;

	page[3] = 0x600d600d;
	wrmsr(IA32_FS_BASE, physical(page));
	asm volatile("movq %%fs:24, %0" : "=r" (value));
	EXPECT_EQ(value, 0x600d600d);
	page[9] = 0x900d900d;
	wrmsr(IA32_GS_BASE, physical(page) + 64);
	asm volatile("movq %%gs:8, %0" : "=r" (value));
	EXPECT_EQ(value, 0x900d900d);
}

CASE(swapgs_exchanges, FACT("swapgs"))
{
	wrmsr(IA32_GS_BASE, 0x1111000);
	wrmsr(IA32_KERNEL_GS_BASE, 0xffff800000002000);
	EXPECT(ATTEMPT("swapgs", :), OUTCOME_DONE);
	EXPECT_EQ(rdmsr(IA32_GS_BASE), 0xffff800000002000);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 0x1111000);
}

CODE32(swapgs_32, ".byte 0x0f, 0x01, 0xf8");

CASE(swapgs_in_compatibility_mode, FACT("swapgs"))
{
	EXPECT(run_in_compatibility_mode(0, swapgs_32, 0), OUTCOME_UD);
	EXPECT(run_in_compatibility_mode(3, swapgs_32, 0), OUTCOME_UD);
}
