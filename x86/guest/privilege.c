/*
 * Instructions for the supervisor alone, tried at every other privilege level.
 *
 * SDM 6.9, Privileged Instructions: what could take the processor over is #GP(0) unless CPL is 0,
 * and no operand and no I/O privilege helps. A few follow other rules: MONITOR and MWAIT are #UD,
 * not #GP; RDTSC, RDTSCP and RDPMC are privileged only when CR4 says so (2.5 Control Registers);
 * so are, by CR4.UMIP, the five that would tell where the tables of the system are. A hypervisor
 * that intercepts one of these before the processor has looked at CPL has to look for itself.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"

struct privileged {
	void (*code)(void *argument);
	const u8 *at;
	outcome_t outcome;
	u64 cr4_set;
};

/* What the operand in memory is; should an instruction load it, then that changes nothing. */
static u64 operand[512] __attribute__((aligned(64)));

static void fill_operand(void)
{
	struct table_pointer gdtr = read_gdtr();

	__builtin_memset(operand, 0, sizeof(operand));
	__builtin_memcpy(operand, &gdtr, sizeof(gdtr));
}
BEFORE_EACH_CASE(fill_operand);

static void check_privileged(const struct case_def *this_case)
{
	const struct privileged *row = this_case->row;
	u32 cpl;

	write_cr4(read_cr4() | row->cr4_set);
	/* SYSRET and SYSEXIT exist only with these. */
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SCE);
	wrmsr(IA32_SYSENTER_CS, SELECTOR_CODE64);
	for (cpl = 1; cpl <= 3; cpl++) {
		if (EXPECT(run_at_cpl_with_flags(cpl, RFLAGS_IOPL, row->code, operand),
			   row->outcome))
			EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
		else
			case_note("cpl", "%u", cpl);
	}
}

#define PRIVILEGED(id, facts, set, result, before, instruction, ...)		\
	INSTRUCTION(user_##id, before, instruction);				\
	static const struct privileged row_##id = {				\
		user_##id, user_##id##_at, result, set };			\
	CASE_RUN(id, check_privileged, facts, ROW(&row_##id), ##__VA_ARGS__)

#define FACT(name)	PROVES("guest-instructions:" name)
#define GP0		OUTCOME_GP0

PRIVILEGED(hlt, FACT("hlt.cpl"), 0, GP0, "", "hlt");

PRIVILEGED(read_cr0, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %cr0, %rax");
PRIVILEGED(read_cr2, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %cr2, %rax");
PRIVILEGED(read_cr3, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %cr3, %rax");
PRIVILEGED(read_cr4, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %cr4, %rax");
PRIVILEGED(read_cr8, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %cr8, %rax");
PRIVILEGED(write_cr0, PROVES("paging:cr.cpl"), 0, GP0, "movl $0x80000031, %eax", "mov %rax, %cr0");
PRIVILEGED(write_cr2, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %rax, %cr2");
PRIVILEGED(write_cr3, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %rax, %cr3");
PRIVILEGED(write_cr4, PROVES("paging:cr.cpl"), 0, GP0, "movl $0x20, %eax", "mov %rax, %cr4");
PRIVILEGED(write_cr8, PROVES("paging:cr.cpl"), 0, GP0, "", "mov %rax, %cr8");
PRIVILEGED(clts, FACT("cr.clts_cpl"), 0, GP0, "", "clts");
PRIVILEGED(lmsw, FACT("cr.clts_cpl"), 0, GP0, "movl $0x31, %eax", "lmsw %ax");

PRIVILEGED(read_dr0, FACT("dr.cpl"), 0, GP0, "", "mov %dr0, %rax");
PRIVILEGED(read_dr6, FACT("dr.cpl"), 0, GP0, "", "mov %dr6, %rax");
PRIVILEGED(read_dr7, FACT("dr.cpl"), 0, GP0, "", "mov %dr7, %rax");
PRIVILEGED(write_dr3, FACT("dr.cpl"), 0, GP0, "xorl %eax, %eax", "mov %rax, %dr3");
PRIVILEGED(write_dr6, FACT("dr.cpl"), 0, GP0, "xorl %eax, %eax", "mov %rax, %dr6");
PRIVILEGED(write_dr7, FACT("dr.cpl"), 0, GP0, "movl $0x400, %eax", "mov %rax, %dr7");

PRIVILEGED(lgdt, FACT("dt.lgdt_cpl"), 0, GP0, "", "lgdt (%rdi)");
PRIVILEGED(lidt, FACT("dt.lgdt_cpl"), 0, GP0, "", "lidt (%rdi)");
PRIVILEGED(lldt, FACT("dt.lldt_cpl"), 0, GP0, "xorl %eax, %eax", "lldt %ax");
PRIVILEGED(ltr, FACT("dt.lldt_cpl"), 0, GP0, "movl $0xa0, %eax", "ltr %ax");

PRIVILEGED(rdmsr, FACT("msr.cpl"), 0, GP0, "movl $0xc0000080, %ecx", "rdmsr");
PRIVILEGED(wrmsr, FACT("msr.cpl"), 0, GP0, "movl $0xc0000084, %ecx", "wrmsr");
/* The number does not matter: CPL is looked at first, or both faults are the same. */
PRIVILEGED(rdmsr_unknown, FACT("msr.cpl"), 0, GP0, "movl $0x400000ff, %ecx", "rdmsr");

PRIVILEGED(swapgs, FACT("msr.swapgs"), 0, GP0, "", "swapgs");
PRIVILEGED(sysret, FACT("sysret.cpl"), 0, GP0, "leaq 1f(%rip), %rcx; movl $2, %r11d",
	   "sysretq; 1:");
PRIVILEGED(sysexit, FACT("sysexit.cpl"), 0, GP0, "leaq 1f(%rip), %rdx; movq %rsp, %rcx",
	   "sysexitq; 1:", NEEDS(INTEL));

PRIVILEGED(invd, FACT("cache.invd"), 0, GP0, "", "invd");
PRIVILEGED(wbinvd, FACT("cache.wbinvd"), 0, GP0, "", "wbinvd");
/* Where there is no WBNOINVD its prefix is ignored, and this is WBINVD. */
PRIVILEGED(wbnoinvd, FACT("cache.wbinvd"), 0, GP0, "", ".byte 0xf3, 0x0f, 0x09");
PRIVILEGED(invlpg, FACT("inv.invlpg"), 0, GP0, "", "invlpg (%rdi)");
PRIVILEGED(invpcid, FACT("inv.invlpg"), 0, GP0, "movl $2, %eax", "invpcid (%rdi), %rax",
	   NEEDS(CPU(INVPCID)));

PRIVILEGED(xsetbv, PROVES("paging:xcr0.cpl"), CR4_OSXSAVE, GP0,
	   "xorl %ecx, %ecx; movl $1, %eax; xorl %edx, %edx", "xsetbv", NEEDS(CPU(XSAVE)));
PRIVILEGED(xsaves, FACT("xsaves.cpl"), CR4_OSXSAVE, GP0, "movl $1, %eax; xorl %edx, %edx",
	   "xsaves (%rdi)", NEEDS(CPU(XSAVES)));
PRIVILEGED(xrstors, FACT("xsaves.cpl"), CR4_OSXSAVE, GP0, "movl $1, %eax; xorl %edx, %edx",
	   "xrstors (%rdi)", NEEDS(CPU(XSAVES)));

/* --- what CR4 makes privileged ------------------------------------------------ */

PRIVILEGED(rdtsc_with_tsd, FACT("rdtsc.tsd"), CR4_TSD, GP0, "", "rdtsc");
PRIVILEGED(rdtscp_with_tsd, FACT("rdtsc.tsd"), CR4_TSD, GP0, "", "rdtscp", NEEDS(CPU(RDTSCP)));
PRIVILEGED(tpause_with_tsd, FACT("umwait.tsc"), CR4_TSD, GP0, "xorl %eax, %eax; xorl %edx, %edx",
	   ".byte 0x66, 0x0f, 0xae, 0xf0", NEEDS(CPU(WAITPKG)));
PRIVILEGED(umwait_with_tsd, FACT("umwait.tsc"), CR4_TSD, GP0, "xorl %eax, %eax; xorl %edx, %edx",
	   ".byte 0xf2, 0x0f, 0xae, 0xf0", NEEDS(CPU(WAITPKG)));
PRIVILEGED(rdpmc_without_pce, FACT("rdpmc.pce"), 0, GP0, "xorl %ecx, %ecx", "rdpmc");

PRIVILEGED(sgdt_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "sgdt (%rdi)", NEEDS(CPU(UMIP)));
PRIVILEGED(sidt_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "sidt (%rdi)", NEEDS(CPU(UMIP)));
PRIVILEGED(sldt_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "sldt %eax", NEEDS(CPU(UMIP)));
PRIVILEGED(sldt_memory_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "sldt (%rdi)",
	   NEEDS(CPU(UMIP)));
PRIVILEGED(str_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "str %eax", NEEDS(CPU(UMIP)));
PRIVILEGED(smsw_with_umip, FACT("dt.umip"), CR4_UMIP, GP0, "", "smsw %eax", NEEDS(CPU(UMIP)));

CODE32(sgdt_32, "sgdt (%edi)");
CODE32(smsw_32, "smsw %eax");

CASE(umip_in_compatibility_mode, FACT("dt.umip"), NEEDS(CPU(UMIP)))
{
	write_cr4(read_cr4() | CR4_UMIP);
	EXPECT(run_in_compatibility_mode(3, sgdt_32, (u64)operand), OUTCOME_GP0);
	EXPECT(run_in_compatibility_mode(3, smsw_32, 0), OUTCOME_GP0);
}

/* --- those that are undefined instead ------------------------------------------ */

PRIVILEGED(monitor, FACT("mwait.ud"), 0, OUTCOME_UD,
	   "movq %rdi, %rax; xorl %ecx, %ecx; xorl %edx, %edx", "monitor", NEEDS(CPU(MONITOR)));
PRIVILEGED(mwait, FACT("mwait.ud"), 0, OUTCOME_UD, "xorl %eax, %eax; xorl %ecx, %ecx", "mwait",
	   NEEDS(CPU(MONITOR)));
PRIVILEGED(rsm, FACT("smm.rsm"), 0, OUTCOME_UD, "", "rsm");

/* --- what everybody may do ------------------------------------------------------- */

static void allowed(const struct case_def *this_case)
{
	const struct privileged *row = this_case->row;
	u32 cpl;

	write_cr4(read_cr4() | row->cr4_set);
	EXPECT(attempt(row->code, operand), OUTCOME_DONE);
	for (cpl = 1; cpl <= 3; cpl++)
		if (!EXPECT(run_at_cpl(cpl, row->code, operand), OUTCOME_DONE))
			case_note("cpl", "%u", cpl);
}

#define ALLOWED(id, facts, set, instruction, ...)				\
	INSTRUCTION(user_##id, "", instruction);				\
	static const struct privileged row_##id = {				\
		user_##id, user_##id##_at, OUTCOME_DONE, set };			\
	CASE_RUN(id, allowed, facts, ROW(&row_##id), ##__VA_ARGS__)

ALLOWED(rdtsc, FACT("rdtsc.tsd"), 0, "rdtsc");
ALLOWED(rdtscp, FACT("rdtsc.tsd"), 0, "rdtscp", NEEDS(CPU(RDTSCP)));
ALLOWED(pause, FACT("pause.nop"), 0, "pause");
ALLOWED(smsw, FACT("cr.smsw"), 0, "smsw %eax");
ALLOWED(smsw_memory, FACT("cr.smsw"), 0, "smsw (%rdi)");
ALLOWED(sgdt, FACT("dt.umip"), 0, "sgdt (%rdi)");
ALLOWED(sidt, FACT("dt.umip"), 0, "sidt (%rdi)");
ALLOWED(sldt, FACT("dt.umip"), 0, "sldt %eax");
ALLOWED(str, FACT("dt.umip"), 0, "str %eax");
ALLOWED(clflush, FACT("cache.clflush"), 0, "clflush (%rdi)", NEEDS(CPU(CLFSH)));
