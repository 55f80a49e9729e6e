/*
 * Instructions that are undefined, that belong to a feature the processor may not have, or that
 * have an effect software cannot see: UD0 to UD2, LOCK where it may not be, RSM, VMX instructions
 * and hypercalls, RDRAND, the cache instructions (volume 2).
 *
 * A feature that CPUID does not report must not be there either: software that finds its
 * instruction working has found out that it runs on something else than it was told. And what
 * CPUID reports has to work. LOCK before an instruction that cannot be locked is #UD, with a
 * memory operand or without.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define FACT(name)	PROVES("guest-instructions:" name)

static u64 operand[8] __attribute__((aligned(64)));

struct undefined {
	void (*code)(void *argument);
	const u8 *at;
};

/* #UD at the instruction, at CPL 0 and at CPL 3. RDI leads to memory. */
static void check_undefined(const struct case_def *this_case)
{
	const struct undefined *row = this_case->row;

	EXPECT(attempt(row->code, operand), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
	EXPECT(run_at_cpl(3, row->code, operand), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
}

#define UNDEFINED(id, fact, instruction, ...)					\
	INSTRUCTION(do_##id, "", instruction);					\
	CASE_RUN(id, check_undefined, FACT(fact),				\
		 ROW((&(const struct undefined){ do_##id, do_##id##_at })), ##__VA_ARGS__)

/* --- undefined for ever ---------------------------------------------------------------- */

UNDEFINED(ud2, "ud.ud2", "ud2");
UNDEFINED(ud1_register, "ud.ud2", ".byte 0x0f, 0xb9, 0xc0");
UNDEFINED(ud1_memory, "ud.ud2", ".byte 0x0f, 0xb9, 0x07");
UNDEFINED(ud0, "ud.ud2", ".byte 0x0f, 0xff, 0xc0");
UNDEFINED(rsm, "smm.rsm", "rsm");
UNDEFINED(push_es, "ud.mode64", ".byte 0x06");
UNDEFINED(pusha, "ud.mode64", ".byte 0x60");
UNDEFINED(bound, "ud.mode64", ".byte 0x62, 0x07, 0x00");
UNDEFINED(daa, "ud.mode64", ".byte 0x27");
UNDEFINED(aam, "ud.mode64", ".byte 0xd4, 0x0a");
UNDEFINED(salc, "ud.mode64", ".byte 0xd6");
UNDEFINED(group_82, "ud.mode64", ".byte 0x82, 0xc0, 0x00");

/* --- LOCK --------------------------------------------------------------------------------- */

UNDEFINED(lock_nop, "ud.lock", ".byte 0xf0, 0x90");
UNDEFINED(lock_mov, "ud.lock", ".byte 0xf0, 0x89, 0x07");
UNDEFINED(lock_load, "ud.lock", ".byte 0xf0, 0x8b, 0x07");
UNDEFINED(lock_add_register, "ud.lock", ".byte 0xf0, 0x01, 0xc0");
UNDEFINED(lock_add_from_memory, "ud.lock", ".byte 0xf0, 0x03, 0x07");
UNDEFINED(lock_cmp, "ud.lock", ".byte 0xf0, 0x39, 0x07");
UNDEFINED(lock_cmp_immediate, "ud.lock", ".byte 0xf0, 0x83, 0x3f, 0x00");
UNDEFINED(lock_test, "ud.lock", ".byte 0xf0, 0x85, 0x07");
UNDEFINED(lock_bt, "ud.lock", ".byte 0xf0, 0x0f, 0xba, 0x27, 0x00");
UNDEFINED(lock_bts_register, "ud.lock", ".byte 0xf0, 0x0f, 0xab, 0xc0");
UNDEFINED(lock_inc_register, "ud.lock", ".byte 0xf0, 0xff, 0xc0");
UNDEFINED(lock_xchg_register, "ud.lock", ".byte 0xf0, 0x87, 0xc8");
UNDEFINED(lock_cmpxchg_register, "ud.lock", ".byte 0xf0, 0x0f, 0xb1, 0xc8");
UNDEFINED(lock_xadd_register, "ud.lock", ".byte 0xf0, 0x0f, 0xc1, 0xc8");
UNDEFINED(lock_shl, "ud.lock", ".byte 0xf0, 0xd1, 0x27");
UNDEFINED(lock_movs, "ud.lock", ".byte 0xf0, 0xa4");
UNDEFINED(lock_push, "ud.lock", ".byte 0xf0, 0xff, 0x37");
UNDEFINED(lock_in, "ud.lock", ".byte 0xf0, 0xec");
UNDEFINED(lock_hlt, "ud.lock", ".byte 0xf0, 0xf4");
UNDEFINED(lock_int, "ud.lock", ".byte 0xf0, 0xcd, 0x40");
UNDEFINED(lock_iret, "ud.lock", ".byte 0xf0, 0x48, 0xcf");
UNDEFINED(lock_lgdt, "ud.lock", ".byte 0xf0, 0x0f, 0x01, 0x17");
UNDEFINED(lock_rdtsc, "ud.lock", ".byte 0xf0, 0x0f, 0x31");

static void lockable(void *argument)
{
	asm volatile("lock addl $1, (%0); lock incl (%0); lock btsl $3, (%0);"
		     "lock xaddl %%eax, (%0); lock notl (%0); lock negl (%0);"
		     "lock xorl %%eax, (%0); lock cmpxchgl %%ecx, (%0)"
		     : : "r" (argument) : "rax", "rcx", "memory", "cc");
}

CASE(lock_where_it_may_be, FACT("ud.lock"))
{
	operand[0] = 0;
	EXPECT(attempt(lockable, operand), OUTCOME_DONE);
	EXPECT(run_at_cpl(3, lockable, operand), OUTCOME_DONE);
}

/* --- features that are absent --------------------------------------------------------------- */

UNDEFINED(vmxon, "vmx.absent", "vmxon (%rdi)", NEEDS(NO_CPU(VMX), INTEL));
UNDEFINED(vmread, "vmx.absent", "vmread %rax, %rcx", NEEDS(NO_CPU(VMX), INTEL));
UNDEFINED(vmptrst, "vmx.absent", "vmptrst (%rdi)", NEEDS(NO_CPU(VMX), INTEL));
UNDEFINED(invept, "vmx.absent", "invept (%rdi), %rax", NEEDS(NO_CPU(VMX), INTEL));
UNDEFINED(vmxoff, "vmx.absent", "vmxoff", NEEDS(NO_CPU(VMX), INTEL));
UNDEFINED(rdrand_is_absent, "rdrand.ud", "rdrand %eax", NEEDS(NO_CPU(RDRAND)));
UNDEFINED(rdseed_is_absent, "rdrand.ud", "rdseed %eax", NEEDS(NO_CPU(RDSEED)));
UNDEFINED(invpcid_is_absent, "inv.invlpg", "invpcid (%rdi), %rax", NEEDS(NO_CPU(INVPCID)));

/* With VMX: outside VMX operation, where CR4.VMXE is 0. */
static void vmx_instructions(void)
{
	EXPECT(ATTEMPT("vmxon %0", : "m" (operand[0]) : "cc"), OUTCOME_UD);
	EXPECT(ATTEMPT("vmptrst %0", "=m" (operand[0]) : : "cc"), OUTCOME_UD);
	EXPECT(ATTEMPT("vmresume", : : "cc", "memory"), OUTCOME_UD);
	EXPECT(ATTEMPT("vmxoff", : : "cc"), OUTCOME_UD);
}

CASE(vmx_instructions_outside_vmx_operation, FACT("vmx.absent"))
{
	vmx_instructions();
}

/*
 * --- hypercalls of KVM ------------------------------------------------------------------------
 */

/* KVM says so in one of the leaves for hypervisors: "KVMKVMKVM". */
static bool is_kvm(u64 unused)
{
	struct cpuid_result r = cpuid(0x40000000);

	(void)unused;
	return feature(FEATURE_HYPERVISOR) && r.ebx == 0x4b4d564b && r.ecx == 0x564b4d56 &&
	       r.edx == 0x4d;
}

static bool is_no_hypervisor(u64 unused)
{
	(void)unused;
	return !feature(FEATURE_HYPERVISOR);
}

#define KVM		{ "KVM", is_kvm, 0, 0 }
#define NO_HYPERVISOR	{ "no hypervisor", is_no_hypervisor, 0, 0 }

#define KVM_EPERM	1
#define KVM_ENOSYS	1000

static void hypercall(void *rax)
{
	/* The instruction of Intel's processors; KVM puts the right one there. */
	asm volatile("vmcall" : "+a" (*(u64 *)rax) : : "memory");
}

CASE(vmcall_without_a_hypervisor, FACT("vmx.absent"), NEEDS(NO_HYPERVISOR))
{
	u64 rax = 0;

	EXPECT(attempt(hypercall, &rax), OUTCOME_UD);
	EXPECT(run_at_cpl(3, hypercall, &rax), OUTCOME_UD);
}

/*
 * On the second processor, where there is one: a KVM that puts the instruction there again and
 * again, and never executes it, is then found out without the silence of the whole machine.
 */
CASE(unknown_hypercall, FACT("vmcall.unknown"), NEEDS(KVM))
{
	u64 rax = 0x7fffffff;

	EXPECT(smp_call(smp_cpu_count() > 1, hypercall, &rax), OUTCOME_DONE);
	EXPECT_EQ(rax, (u64)-KVM_ENOSYS);
}

CASE(hypercall_from_user_mode, FACT("vmcall.cpl3"), NEEDS(KVM))
{
	u64 rax = 0x7fffffff;

	EXPECT(run_at_cpl(3, hypercall, &rax), OUTCOME_DONE);
	EXPECT_EQ(rax, (u64)-KVM_EPERM);
}

/*
 * --- random numbers
 * ------------------------------------------------------------------------------
 */

#define STATUS_BUT_CARRY	(RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

/*
 * CF = 1: RAX has a number; its bits above the operand stay (16 bits) or are 0. CF = 0: it has 0.
 * The other status flags are 0.
 */
#define RANDOM(id, instruction, width, kept, feature)				\
	CASE(id, FACT("rdrand.cf"), NEEDS(CPU(feature)))			\
	{									\
		u64 rax, flags, ones = 0, i, carries = 0;			\
										\
		for (i = 0; i < 100; i++) {					\
			rax = ~0ull;						\
			asm volatile("pushq $0x8d7; popfq; " instruction "; pushfq; popq %1"	\
				     : "+a" (rax), "=r" (flags) : : "cc");	\
			EXPECT_EQ(flags & STATUS_BUT_CARRY, 0);			\
			EXPECT_EQ(rax & ~BITS((width) - 1, 0), kept);		\
			if (!(flags & RFLAGS_CF))				\
				EXPECT_EQ(rax & BITS((width) - 1, 0), 0);	\
			ones |= flags & RFLAGS_CF ? rax : 0;			\
			carries += flags & RFLAGS_CF;				\
		}								\
		/* Not the same number a hundred times. */			\
		EXPECT_TRUE(carries < 10 || (ones & BITS((width) - 1, 0)));	\
	}

#define UPPER_48	BITS(63, 16)
RANDOM(rdrand_16, "rdrand %%ax", 16, UPPER_48, RDRAND)
RANDOM(rdrand_32, "rdrand %%eax", 32, 0, RDRAND)
RANDOM(rdrand_64, "rdrand %%rax", 64, 0, RDRAND)
RANDOM(rdseed_16, "rdseed %%ax", 16, UPPER_48, RDSEED)
RANDOM(rdseed_32, "rdseed %%eax", 32, 0, RDSEED)
RANDOM(rdseed_64, "rdseed %%rax", 64, 0, RDSEED)

/*
 * --- caches
 * ------------------------------------------------------------------------------------------
 */

/* Memory has what was stored, whatever was in a cache. INVD is the one that may lose it. */
#define CACHE(id, fact, instruction, ...)					\
	CASE(id, FACT(fact), ##__VA_ARGS__)					\
	{									\
		u64 *page = page_alloc(), i;					\
										\
		for (i = 0; i < 512; i++)					\
			page[i] = i;						\
		EXPECT(ATTEMPT(instruction, : "D" (page + 64) : "memory"), OUTCOME_DONE); \
		for (i = 0; i < 512; i++)					\
			if (!EXPECT_EQ(page[i], i))				\
				break;						\
	}

CACHE(wbinvd_loses_nothing, "cache.wbinvd", "wbinvd")
CACHE(wbnoinvd_loses_nothing, "cache.wbinvd", ".byte 0xf3, 0x0f, 0x09", NEEDS(CPU(WBNOINVD)))
CACHE(clflush_loses_nothing, "cache.clflush", "clflush (%%rdi)", NEEDS(CPU(CLFSH)))
CACHE(clflushopt_loses_nothing, "cache.clflush", "clflushopt (%%rdi)", NEEDS(CPU(CLFLUSHOPT)))
CACHE(clwb_loses_nothing, "cache.clflush", "clwb (%%rdi)", NEEDS(CPU(CLWB)))

INSTRUCTION(do_clflush, "", "clflush (%rdi)");

/* The right to read is enough, the page counts as read, and a missing one is a page fault. */
CASE(clflush_is_like_a_read, FACT("cache.clflush"), NEEDS(CPU(CLFSH)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_US);
	probe_share_with_user(&probe);
	EXPECT(attempt(do_clflush, (void *)probe.linear), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & PTE_D, 0);
	EXPECT(run_at_cpl(3, do_clflush, (void *)probe.linear), OUTCOME_DONE);
	probe_change(&probe, LEVEL_PTE, PTE_US, 0);
	EXPECT(run_at_cpl(3, do_clflush, (void *)probe.linear),
	       OUTCOME_FAULT(VECTOR_PF, PF_US | PF_P));
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	EXPECT(attempt(do_clflush, (void *)probe.linear), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT(attempt(do_clflush, (void *)BIT(63)), OUTCOME_GP0);
}

/*
 * --- INVLPG
 * -------------------------------------------------------------------------------------------
 */

/* An address that is not canonical is no fault for INVLPG: it does nothing then. */
CASE(invlpg_never_faults, FACT("inv.invlpg"))
{
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (BIT(63)) : "memory"), OUTCOME_DONE);
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (0x123456789000) : "memory"), OUTCOME_DONE);
}
