/*
 * Registers that no VMCS field holds: 29.3.2 Loading Guest State and 30.5 Loading Host State name
 * what they load, and these are not there. What the host has in them the guest finds, and what the
 * guest leaves in them the host finds.
 *
 * A row is a register, with code that reads it to RAX and code that writes it from RAX. Guest and
 * host execute the same code. General registers and some more are in vmx/exit-host-state, registers
 * that a control loads in vmx/exit-guest-state.
 */
#include "cpu/features.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

struct stays {
	const struct guest_code *read, *write;
	u32 msr;		/* RCX, for RDMSR and WRMSR */
	u64 cr4;		/* bits that the code needs */
	u64 host, guest;	/* two values */
};

/* Changes RDX besides. */
static u64 call(const struct stays *row, const struct guest_code *code, u64 rax)
{
	u64 rdx = 0;

	asm volatile("call *%[code]" : "+a" (rax), "+d" (rdx)
		     : [code] "r" (code->run), "c" (row->msr) : "memory", "cc");
	return rax;
}

static void use_cr4(u64 cr4)
{
	write_cr4(cr4);
	vmwrite(GUEST_CR4, cr4);
	vmwrite(HOST_CR4, cr4);
}

static void let_the_guest_access(const struct stays *row)
{
	static const enum control exits[] = {
		CONTROL_PROC1_MOV_DR_EXITING, CONTROL_PROC1_CR8_LOAD_EXITING,
		CONTROL_PROC1_CR8_STORE_EXITING, CONTROL_PROC1_USE_TPR_SHADOW,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(exits); i++) {
		vmcs_clear_control(exits[i]);
		if (vmcs_has_control(exits[i]))
			case_skip("the 0-settings of controls by which accesses exit");
	}
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	use_cr4(read_cr4() | row->cr4);
}

static void guest_executes(const struct stays *row, const struct guest_code *code, u64 rax)
{
	guest_regs()->rax = rax;
	guest_regs()->rcx = row->msr;
	EXPECT(enter_at_instruction(code), GUEST_DONE);
}

static void stays(const struct stays *row, bool guest_writes)
{
	u64 cr4 = read_cr4(), before;

	let_the_guest_access(row);
	before = call(row, row->read, 0);
	call(row, row->write, row->host);
	guest_executes(row, guest_writes ? row->write : row->read, row->guest);
	if (!guest_writes)
		EXPECT_EQ(guest_regs()->rax, row->host);
	EXPECT_EQ(call(row, row->read, 0), guest_writes ? row->guest : row->host);
	call(row, row->write, before);
	use_cr4(cr4);
}

static void host_to_guest(const struct case_def *this_case)
{
	stays(this_case->row, false);
}

static void guest_to_host(const struct case_def *this_case)
{
	stays(this_case->row, true);
}

#define BITMAPS	VMX, PROC1(USE_MSR_BITMAPS)
#define TO_GUEST(name, needs)							\
	CASE_RUN(guest_has_##name##_of_the_host, host_to_guest,			\
		 PROVES("host-and-exit:entry.load.not_loaded"), NEEDS needs, ROW(&row_##name))
#define TO_HOST(name, needs)							\
	CASE_RUN(host_has_##name##_of_the_guest, guest_to_host,			\
		 PROVES("host-and-exit:host.not_loaded"), NEEDS needs, ROW(&row_##name))
#define ROW_OF(name, code, ...)							\
	static const struct stays row_##name = {				\
		&guest_read_##code, &guest_write_##code, __VA_ARGS__ }

/* --- by instructions --------------------------------------------------------------------- */

#define REGISTER(name, needs, reads, writes, cr4, host, guest)			\
	GUEST_CODE(read_##name, "", reads);					\
	GUEST_CODE(write_##name, "", writes);					\
	ROW_OF(name, name, 0, cr4, host, guest);				\
	TO_GUEST(name, needs);							\
	TO_HOST(name, needs)
#define BY_MOV(name, host, guest)						\
	REGISTER(name, (BITMAPS), "movq %" #name ", %rax", "movq %rax, %" #name, 0, host, guest)

BY_MOV(cr2, 0x1111222233334444, 0xffff555566667777);
BY_MOV(cr8, 0x3, 0xc);
BY_MOV(dr0, 0x1111222233334444, 0x555566667777);
BY_MOV(dr1, 0x1111222233334444, 0x555566667777);
BY_MOV(dr2, 0x1111222233334444, 0x555566667777);
BY_MOV(dr3, 0x1111222233334444, 0x555566667777);
BY_MOV(dr6, DR6_FIXED | 0xa, DR6_FIXED | BIT(14) | 0x5);

#define LONE_WORD(name, needs, store, load, cr4, host, guest)			\
	REGISTER(name, needs,							\
		 "movq $0, guest_value; " store " guest_value; movq guest_value, %rax", \
		 "movq %rax, guest_value; " load " guest_value", cr4, host, guest)
LONE_WORD(x87_control_word, (BITMAPS), "fnstcw", "fldcw", 0, 0x37f, 0xc7f);
LONE_WORD(mxcsr, (BITMAPS), "stmxcsr", "ldmxcsr", CR4_OSFXSR, 0x1fa0, 0x7f80);
REGISTER(mm0, (BITMAPS), "movq %mm0, %rax", "movq %rax, %mm0", 0, 0x1111222233334444,
	 0x5555666677778888);
REGISTER(xmm0, (BITMAPS), "movq %xmm0, %rax", "movq %rax, %xmm0", CR4_OSFXSR, 0x1111222233334444,
	 0x5555666677778888);
REGISTER(pkru, (BITMAPS, CPU(PKU)), "xorl %ecx, %ecx; rdpkru", "xorl %ecx, %ecx; xorl %edx, %edx; "
	 "wrpkru", CR4_PKE, 0x40000000, 0xc0000000);

/* 28.1.2: XSETBV always exits, so a guest can only read XCR0. */
GUEST_CODE(read_xcr0, "", "xorl %ecx, %ecx; xgetbv; shlq $32, %rdx; orq %rdx, %rax");
GUEST_CODE(write_xcr0, "", "xorl %ecx, %ecx; movq %rax, %rdx; shrq $32, %rdx; xsetbv");
ROW_OF(xcr0, xcr0, 0, CR4_OSXSAVE, 0x7, 0);
TO_GUEST(xcr0, (BITMAPS, CPU(XSAVE), CPU(AVX)));

/* --- MSRs -------------------------------------------------------------------------------- */

GUEST_CODE(read_msr, "", "rdmsr; shlq $32, %rdx; orq %rdx, %rax");
GUEST_CODE(write_msr, "", "movq %rax, %rdx; shrq $32, %rdx; wrmsr");

#define MSR(name, needs, number, ...)					\
	ROW_OF(name, msr, number, 0, __VA_ARGS__);					\
	TO_GUEST(name, needs);							\
	TO_HOST(name, needs)
#define ADDRESSES	0x7fff12345678, 0xffff800012345678	/* canonical, of 48 bits */
MSR(star, (BITMAPS), IA32_STAR, 0x0013000800000000, 0x005b004812345678);
MSR(lstar, (BITMAPS), IA32_LSTAR, ADDRESSES);
MSR(cstar, (BITMAPS), IA32_CSTAR, ADDRESSES);
MSR(fmask, (BITMAPS), IA32_FMASK, 0x12345678, 0x87654321);
MSR(kernel_gs_base, (BITMAPS), IA32_KERNEL_GS_BASE, ADDRESSES);
MSR(tsc_aux, (BITMAPS, CPU(RDTSCP)), IA32_TSC_AUX, 0x12345678, 0x87654321);
MSR(tsc_adjust, (BITMAPS, CPU(TSC_ADJUST)), IA32_TSC_ADJUST, 0x1000, 0x2000);
/* The states of shadow stacks in user mode, and in supervisor mode. */
MSR(xss, (BITMAPS, CPU(XSAVES), CPU(CET_SS)), IA32_XSS, BIT(11), BIT(12));
MSR(u_cet, (BITMAPS, CPU(CET_SS)), IA32_U_CET, CET_SH_STK_EN, CET_WR_SHSTK_EN);
MSR(pl3_ssp, (BITMAPS, CPU(CET_SS)), IA32_PL3_SSP, ADDRESSES);
MSR(uintr_handler, (BITMAPS, CPU(UINTR)), IA32_UINTR_HANDLER, ADDRESSES);
MSR(uintr_stackadjust, (BITMAPS, CPU(UINTR)), IA32_UINTR_STACKADJUST, ADDRESSES);
MSR(fred_rsp0, (BITMAPS, CPU(FRED)), IA32_FRED_RSP0, 0x12340, 0x56780);
