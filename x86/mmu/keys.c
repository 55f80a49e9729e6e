/*
 * Protection keys: the registers that hold the rights, and when a change of them counts: 5.6.2.
 *
 * PKRU belongs to user-mode addresses and is written by WRPKRU, IA32_PKRS to supervisor-mode
 * addresses and is an MSR. A change acts on the next access, with no invalidation, also where the
 * translation is cached. What a key denies to whom is in mmu/fault-basic and mmu/exhaustive.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define KEY			5
#define ACCESS_DISABLE		((u64)BIT(2 * KEY))
#define WRITE_DISABLE		((u64)BIT(2 * KEY + 1))

static outcome_t wrpkru(u32 eax, u32 ecx, u32 edx)
{
	return ATTEMPT("wrpkru", : "a" (eax), "c" (ecx), "d" (edx) : "memory");
}

static outcome_t rdpkru(u64 *rax, u64 *rdx, u32 ecx)
{
	return ATTEMPT("rdpkru", "+a" (*rax), "+d" (*rdx) : "c" (ecx));
}

static void enable_pku(void)
{
	write_cr4(read_cr4() | CR4_PKE);
	wrpkru(0, 0, 0);
}

/* --- RDPKRU and WRPKRU ------------------------------------------------------------- */

CASE(pkru_needs_pke, PROVES("paging:acc.pku.cpuid"))
{
	u64 rax = 0, rdx = 0;

	EXPECT(wrpkru(0, 0, 0), OUTCOME_UD);
	EXPECT(rdpkru(&rax, &rdx, 0), OUTCOME_UD);
}

CASE(ecx_must_be_0, PROVES("paging:acc.pku.ecx"), NEEDS(CPU(PKU)))
{
	u64 rax = 0, rdx = 0;
	u32 bit;

	enable_pku();
	for (bit = 0; bit < 32; bit++) {
		EXPECT(wrpkru(0, BIT(bit), 0), OUTCOME_GP0);
		EXPECT(rdpkru(&rax, &rdx, BIT(bit)), OUTCOME_GP0);
	}
}

CASE(edx_must_be_0_to_write, PROVES("paging:acc.pku.edx"), NEEDS(CPU(PKU)))
{
	u64 rax = 0, rdx = 0;

	enable_pku();
	EXPECT(wrpkru(WRITE_DISABLE, 0, 1), OUTCOME_GP0);
	EXPECT(wrpkru(WRITE_DISABLE, 0, BIT(31)), OUTCOME_GP0);
	EXPECT(rdpkru(&rax, &rdx, 0), OUTCOME_DONE);
	EXPECT_EQ(rax, 0);
}

CASE(rdpkru_clears_edx, PROVES("paging:acc.pku.rdpkru_edx"), NEEDS(CPU(PKU)))
{
	u64 rax = ~0ull, rdx = ~0ull;

	enable_pku();
	EXPECT(wrpkru(0x55aa55a8, 0, 0), OUTCOME_DONE);
	EXPECT(rdpkru(&rax, &rdx, 0), OUTCOME_DONE);
	EXPECT_EQ(rax, 0x55aa55a8);
	EXPECT_EQ(rdx, 0);
	wrpkru(0, 0, 0);
}

/* --- a change acts at once ----------------------------------------------------------- */

CASE(pkru_acts_on_a_cached_translation, PROVES("paging:acc.pku.immediate"), NEEDS(CPU(PKU)))
{
	struct probe probe;
	u64 value;

	enable_pku();
	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US | PTE_KEY(KEY));
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	wrpkru(WRITE_DISABLE, 0, 0);
	EXPECT(write_at(probe.linear, 2), PAGE_FAULT(PF_P | PF_WR | PF_PK));
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	wrpkru(0, 0, 0);
	EXPECT(write_at(probe.linear, 3), OUTCOME_DONE);
	EXPECT_EQ(*probe.page, 3);
}

/* EDI: a user-mode address whose key denies all. */
CODE32(read_32, "mov (%edi), %eax");
#define LINEAR_32	0x70000000u

CASE(keys_apply_in_compatibility_mode, PROVES("paging:acc.pku.compat"), NEEDS(CPU(PKU)))
{
	struct probe probe;
	outcome_t outcome;

	enable_pku();
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US);
	space_map(&probe.space, LINEAR_32, (u64)probe.page, PTE_P | PTE_US | PTE_KEY(KEY),
		  LEVEL_PTE);
	probe_share_with_user(&probe);
	EXPECT(run_in_compatibility_mode(3, read_32, LINEAR_32), OUTCOME_DONE);
	wrpkru(ACCESS_DISABLE, 0, 0);
	outcome = run_in_compatibility_mode(3, read_32, LINEAR_32);
	wrpkru(0, 0, 0);
	EXPECT(outcome, PAGE_FAULT(PF_P | PF_US | PF_PK));
	EXPECT_EQ(last_trap()->cr2, LINEAR_32);
}

/* --- IA32_PKRS ------------------------------------------------------------------------- */

CASE(pkrs_has_32_bits, PROVES("paging:acc.pks.msr"), NEEDS(CPU(PKS)))
{
	u32 bit;

	for (bit = 0; bit < 64; bit++)
		EXPECT(wrmsr_safe(IA32_PKRS, BIT(bit)), bit < 32 ? OUTCOME_DONE : OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_PKRS), BIT(31));
}

CASE(pkrs_is_not_there, PROVES("paging:acc.pks.msr"), NEEDS(NO_CPU(PKS)))
{
	u64 value;

	EXPECT(rdmsr_safe(IA32_PKRS, &value), OUTCOME_GP0);
	EXPECT(wrmsr_safe(IA32_PKRS, 0), OUTCOME_GP0);
}

CASE(pkrs_has_no_effect_before_cr4_pks, PROVES("paging:acc.pks.msr_off"), NEEDS(CPU(PKS)))
{
	struct probe probe;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_KEY(KEY));
	EXPECT(wrmsr_safe(IA32_PKRS, ACCESS_DISABLE), OUTCOME_DONE);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	write_cr4(read_cr4() | CR4_PKS);
	invlpg(probe.linear);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(PF_P | PF_PK));
	write_cr4(read_cr4() & ~CR4_PKS);
	invlpg(probe.linear);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
}

CASE(pkrs_does_not_apply_to_fetches, PROVES("paging:acc.pks.fetch"), NEEDS(CPU(PKS)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_KEY(KEY));
	write_cr4(read_cr4() | CR4_PKS);
	wrmsr(IA32_PKRS, ACCESS_DISABLE | WRITE_DISABLE);
	EXPECT(fetch_at(probe.linear), OUTCOME_DONE);
}

CASE(pkrs_write_disable_without_wp, PROVES("paging:acc.pks.wd_wp0"), NEEDS(CPU(PKS)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_KEY(KEY));
	write_cr4(read_cr4() | CR4_PKS);
	wrmsr(IA32_PKRS, WRITE_DISABLE);
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	write_cr0(read_cr0() | CR0_WP);
	EXPECT(write_at(probe.linear, 2), PAGE_FAULT(PF_P | PF_WR | PF_PK));
	EXPECT_EQ(*probe.page, 1);
}
