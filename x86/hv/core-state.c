/*
 * The core: state that user space gets and sets beside the general registers, and the guest under a
 * debugger.
 *
 * The registers of FPU and SSE stay in the processor when a vCPU stops; who asks for them
 * (KVM_GET_FPU), or runs another vCPU, has them saved. KVM_SET_GUEST_DEBUG stops the guest behind
 * each instruction, or where a breakpoint of user space is, without the guest's own RFLAGS.TF and
 * debug registers being any different.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

#define SHADOW_POOL	300		/* pages, with shadow paging */

static struct box box;

/* --- FPU and SSE --------------------------------------------------------------------------- */

/* Pi on the stack, a 64-bit number in XMM9, then to user space, and out with what is there then. */
BOX_GUEST_64(fpu_guest,
	     "mov %cr4, %rax\n\t or $0x200, %eax\n\t mov %rax, %cr4\n\t"
	     "fninit\n\t fldpi\n\t mov $0x1122334455667788, %rax\n\t movq %rax, %xmm9\n\t hlt\n\t"
	     "movq %xmm9, %rax\n\t fstpl 0xa000\n\t fnstcw 0xa008\n\t hlt");

CASE(fpu_state_out_and_in, PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(BOX_NEEDS))
{
	static const u8 pi[10] = { 0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40 };
	static const u8 two[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0x40 };
	struct kvm_fpu fpu;

	box_start(&box, &fpu_guest);
	hv_vcpu_get_fpu(&box.vcpu, &fpu);
	EXPECT_EQ(fpu.fcw, 0x37f);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	hv_vcpu_get_fpu(&box.vcpu, &fpu);
	EXPECT_EQ(fpu.fcw, 0x37f);
	EXPECT_EQ(fpu.ftwx, 0x80);
	EXPECT_EQ(fpu.fsw >> 11 & 7, 7);
	EXPECT_EQ(memcmp(fpu.fpr[0], pi, sizeof(pi)), 0);
	EXPECT_EQ(*(u64 *)fpu.xmm[9], 0x1122334455667788);
	memcpy(fpu.fpr[0], two, sizeof(two));
	*(u64 *)fpu.xmm[9] = 0x99aabbccddeeff00;
	fpu.fcw = 0x27f;
	hv_vcpu_set_fpu(&box.vcpu, &fpu);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x99aabbccddeeff00);
	EXPECT_EQ(*box_at(&box, BOX_DATA), 0x4000000000000000);	/* 2.0 */
	EXPECT_EQ(*(u16 *)(box.memory + BOX_DATA + 8), 0x27f);
}

/* Another vCPU has registers of its own; both run the same code in turn. */
CASE(fpu_of_two_vcpus, PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(BOX_NEEDS))
{
	static struct hv_vcpu second;
	struct kvm_regs regs;
	struct kvm_fpu fpu;

	box_start(&box, &fpu_guest);
	regs = box_regs(&box);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	box_add_vcpu(&box, &second, 1);
	/* The second one begins behind the first HLT: its XMM9 is still 0. */
	regs.rip = box_regs(&box).rip;
	hv_vcpu_set_regs(&second, &regs);
	REQUIRE_EQ(hv_vcpu_run(&second), 0);
	REQUIRE_EXIT(second.run->exit_reason, KVM_EXIT_HLT);
	hv_vcpu_get_regs(&second, &regs);
	EXPECT_EQ(regs.rax, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x1122334455667788);
	hv_vcpu_get_fpu(&second, &fpu);
	EXPECT_EQ(*(u64 *)fpu.xmm[9], 0);
}

/* --- XSAVE ------------------------------------------------------------------------------------ */

BOX_GUEST_64(xsave_guest,
	     "mov %cr4, %rax\n\t or $0x40200, %eax\n\t mov %rax, %cr4\n\t"
	     "xor %ecx, %ecx\n\t xor %edx, %edx\n\t mov $7, %eax\n\t xsetbv\n\t"
	     "mov $0xd, %eax\n\t cpuid\n\t mov %ebx, %esi\n\t"
	     "xor %ecx, %ecx\n\t xgetbv\n\t mov %eax, %edi\n\t"
	     "mov $5, %eax\n\t xsetbv\n\t hlt");

static void give_xsave(void)
{
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 0, .eax = 0xd });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 1, .eax = 0x600,
			    .ecx = 1u << 31 | 1u << 26 | 1u << 28, .edx = 0x0701a1ff });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7 });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 0xd, .index = 2, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = 256, .ebx = 576 });
}

/* XSETBV is the core's, and what CPUID says follows; AVX without SSE is #GP(0). */
CASE(xcr0_is_the_guests, PROVES("exit-reasons:55"), NEEDS(BOX_NEEDS, CPU(XSAVE), CPU(AVX)))
{
	box_start(&box, &xsave_guest);
	give_xsave();
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_regs(&box).rsi, 832);
	EXPECT_EQ(box_regs(&box).rdi, 7);
}

/* --- the state of a processor ----------------------------------------------------------------- */

CASE(mp_state_without_apic, PROVES("kvm-ioctls:mpstate.get", "kvm-ioctls:mpstate.noapic"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_mp_state state = { .mp_state = 99 };

	box_start(&box, &fpu_guest);
	EXPECT_EQ(hv_vcpu_get_mp_state(&box.vcpu, &state), 0);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_RUNNABLE);
	state.mp_state = KVM_MP_STATE_UNINITIALIZED;
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), -EINVAL);
	state.mp_state = KVM_MP_STATE_INIT_RECEIVED;
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), -EINVAL);
	state.mp_state = 99;
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), -EINVAL);
	/* HLT is user space's exit: nothing would wake it. */
	state.mp_state = KVM_MP_STATE_HALTED;
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), -EINVAL);
	state.mp_state = KVM_MP_STATE_RUNNABLE;
	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* --- what swaps with each run ----------------------------------------------------------------- */

BOX_GUEST_64(registers_guest,
	     "mov %cr2, %rbx\n\t mov %dr1, %rcx\n\t mov %dr6, %rdx\n\t mov %cr8, %rsi\n\t"
	     "mov $0x5000, %eax\n\t mov %rax, %cr2\n\t mov %rax, %dr1\n\t"
	     "mov $0xffff0ff1, %eax\n\t mov %rax, %dr6\n\t hlt");

/* The guest has user space's values, user space the guest's, and the host its own. */
CASE(cr2_and_debug_registers, PROVES("kvm-ioctls:debugregs.flags"), NEEDS(BOX_NEEDS))
{
	struct kvm_debugregs debug = { .db = { 0, 0x1000 }, .dr6 = 0xffff0ff2, .dr7 = 0x400 };
	u64 cr2, dr1, dr6;
	struct kvm_sregs sregs;

	box_start(&box, &registers_guest);
	write_cr2(0x7000);
	write_dr1(0x8000);
	write_dr6(0xffff0ff4);
	cr2 = read_cr2();
	dr1 = read_dr1();
	dr6 = read_dr6();
	sregs = box_sregs(&box);
	sregs.cr2 = 0x3000;
	sregs.cr8 = 5;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	box.vcpu.run->cr8 = 6;
	REQUIRE_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 0x3000);
	EXPECT_EQ(box_regs(&box).rcx, 0x1000);
	EXPECT_EQ(box_regs(&box).rdx, 0xffff0ff2);
	EXPECT_EQ(box_regs(&box).rsi, 6);
	hv_vcpu_get_debugregs(&box.vcpu, &debug);
	EXPECT_EQ(box_sregs(&box).cr2, 0x5000);
	EXPECT_EQ(debug.db[1], 0x5000);
	EXPECT_EQ(debug.dr6, 0xffff0ff1);
	EXPECT_EQ(read_cr2(), cr2);
	EXPECT_EQ(read_dr1(), dr1);
	EXPECT_EQ(read_dr6(), dr6);
	debug.flags = 1;
	EXPECT_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), -EINVAL);
}

/* What user space sets counts, also for a vCPU that has not run and is in its initial state. */
BOX_GUEST_64(xmm9_guest,
	     "mov %cr4, %rax\n\t or $0x200, %eax\n\t mov %rax, %cr4\n\t"
	     "movq %xmm9, %rbx\n\t fnstcw 0xa008\n\t hlt");

CASE(fpu_state_of_a_new_vcpu, PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(BOX_NEEDS))
{
	struct kvm_fpu fpu;

	box_start(&box, &xmm9_guest);
	hv_vcpu_get_fpu(&box.vcpu, &fpu);
	*(u64 *)fpu.xmm[9] = 0x1122334455667788;
	fpu.fcw = 0x27f;
	REQUIRE_EQ(hv_vcpu_set_fpu(&box.vcpu, &fpu), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 0x1122334455667788);
	EXPECT_EQ(*(u16 *)box_at(&box, 0xa008), 0x27f);
}

/* --- guest debugging -------------------------------------------------------------------------- */

static void debug_guest(u32 control, const struct kvm_guest_debug *more)
{
	struct kvm_guest_debug debug = more ? *more : (struct kvm_guest_debug){ 0 };

	debug.control = control;
	REQUIRE_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
}

static void expect_debug(u32 exception, u64 offset, u64 dr6)
{
	const struct kvm_debug_exit_arch *arch = &box.vcpu.run->debug.arch;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_DEBUG);
	EXPECT_EQ(arch->exception, exception);
	EXPECT_EQ(arch->pc, BOX_CODE + offset);
	EXPECT_EQ(arch->dr6, DR6_FIXED | dr6);
}

/* Offsets: nop 0, cpuid 1, pushfq 3, pop 4, out 5, mmio store 7, hlt 14. */
BOX_GUEST_64(stepped_guest,
	     "nop\n\t cpuid\n\t pushfq\n\t pop %rbx\n\t out %al, $0x80\n\t"
	     "mov %eax, 0x10000000\n\t hlt");

/* Behind each instruction, whoever executed it; the guest sees no RFLAGS.TF. */
static void single_step(const struct case_def *this_case)
{
	hv_start(page_alloc());
	box_start_on(&box, this_case->row, SHADOW_POOL, &stepped_guest);
	debug_guest(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL);
	expect_debug(VECTOR_DB, 1, BIT(14));
	expect_debug(VECTOR_DB, 3, BIT(14));
	expect_debug(VECTOR_DB, 4, BIT(14));
	expect_debug(VECTOR_DB, 5, BIT(14));
	EXPECT_EQ(box_regs(&box).rbx & RFLAGS_TF, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	expect_debug(VECTOR_DB, 7, BIT(14));
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	expect_debug(VECTOR_DB, 14, BIT(14));
	debug_guest(0, NULL);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

CASE_RUN(single_step, single_step, PROVES("kvm-exits:4", "exit-reasons:37"),
	 NEEDS(BOX_NEEDS, PROC1(MONITOR_TRAP_FLAG)), ROW(&hv_mmu_ept));
CASE_RUN(single_step_with_shadow_paging, single_step, PROVES("kvm-exits:4", "exit-reasons:37"),
	 NEEDS(VMX, PROC1(MONITOR_TRAP_FLAG)), ROW(&hv_mmu_shadow));

/* In real-address mode, offsets: nop 0, mov to DS 1, int 3, hlt 5; the handler is elsewhere. */
BOX_GUEST_16(stepped_real_guest, "nop\n\t mov %ax, %ds\n\t int $0x40\n\t hlt");

static void single_step_in_real_mode(const struct case_def *this_case)
{
	const u64 handler = BOX_HANDLERS + 0x40 * 8;

	hv_start(page_alloc());
	box_start_on(&box, this_case->row, SHADOW_POOL, &stepped_real_guest);
	debug_guest(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL);
	expect_debug(VECTOR_DB, 1, BIT(14));
	expect_debug(VECTOR_DB, 3, BIT(14));
	expect_debug(VECTOR_DB, handler - BOX_CODE, BIT(14));
	expect_debug(VECTOR_DB, handler + 2 - BOX_CODE, BIT(14));
	debug_guest(0, NULL);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, handler + 3);
}

CASE_RUN(single_step_in_real_mode, single_step_in_real_mode,
	 PROVES("kvm-exits:4", "exit-reasons:37"),
	 NEEDS(BOX_NEEDS, PROC1(MONITOR_TRAP_FLAG)), ROW(&hv_mmu_ept));
CASE_RUN(single_step_in_real_mode_with_shadow_paging, single_step_in_real_mode,
	 PROVES("kvm-exits:4", "exit-reasons:37"), NEEDS(VMX, PROC1(MONITOR_TRAP_FLAG)),
	 ROW(&hv_mmu_shadow));

BOX_GUEST_64(int3_guest, "nop\n\t int3\n\t nop\n\t hlt");

CASE(software_breakpoint, PROVES("kvm-exits:4"), NEEDS(BOX_NEEDS))
{
	struct kvm_regs regs;

	box_start(&box, &int3_guest);
	debug_guest(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL);
	expect_debug(VECTOR_BP, 1, 0);
	/* Nothing has been delivered; user space goes on where it likes. */
	regs = box_regs(&box);
	regs.rip++;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 4);
}

/* Without user space's wish it is the guest's. */
CASE(breakpoint_of_the_guest, PROVES("kvm-exits:4"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &int3_guest);
	debug_guest(KVM_GUESTDBG_ENABLE, NULL);
	EXPECT_VECTOR(&box, VECTOR_BP);
}

/* Offsets: mov to DR0 0, mov from DR0 3, nop 6, store 7, nop 14. */
BOX_GUEST_64(breakpoint_guest,
	     "mov %rsp, %dr0\n\t mov %dr0, %rbx\n\t nop\n\t mov %eax, 0xa000\n\t nop\n\t hlt");

/* A fault at the NOP, a trap behind the store; what the guest has in DR0 is its own. */
CASE(hardware_breakpoints, PROVES("kvm-exits:4", "exit-reasons:29"),
     NEEDS(BOX_NEEDS, PROC1(MOV_DR_EXITING)))
{
	/* 0: execution; 1: writes of 4 bytes. */
	struct kvm_guest_debug debug = { .arch.debugreg = {
		[0] = BOX_CODE + 6, [1] = BOX_DATA, [7] = 0xd00402 | 0xa } };
	struct kvm_debugregs own;
	struct kvm_regs regs;

	box_start(&box, &breakpoint_guest);
	debug_guest(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, &debug);
	expect_debug(VECTOR_DB, 6, BIT(0));
	regs = box_regs(&box);
	EXPECT_EQ(regs.rbx, BOX_STACK);
	regs.rflags |= RFLAGS_RF;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	expect_debug(VECTOR_DB, 14, BIT(1));
	hv_vcpu_get_debugregs(&box.vcpu, &own);
	EXPECT_EQ(own.db[0], BOX_STACK);
	EXPECT_EQ(own.dr7, DR7_FIXED);
	debug_guest(0, NULL);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	hv_vcpu_get_debugregs(&box.vcpu, &own);
	EXPECT_EQ(own.db[0], BOX_STACK);
}

/* --- the same in real-address mode, where the processor has none of it ----------------------- */

BOX_GUEST_16(real_guest, "nop\n\t int3\n\t nop\n\t hlt");

struct real_row {
	u32 control;
	u32 vector;
	bool big;		/* a segment beyond 64 KBytes: no virtual-8086 mode */
};

/* The breakpoint in DR0 is at INT3, too; the step over the NOP is the core's. */
static void breakpoint_in_real_mode(const struct case_def *this_case)
{
	const struct real_row *row = this_case->row;
	const struct kvm_guest_debug debug = {
		.arch.debugreg = { [0] = BOX_CODE + 1, [7] = 0x402 } };
	struct kvm_sregs sregs;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, 300, &real_guest);
	sregs = box_sregs(&box);
	if (row->big) {
		sregs.ds.limit = 0xffffffff;
		sregs.ds.g = 1;
	}
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	debug_guest(KVM_GUESTDBG_ENABLE | row->control, &debug);
	expect_debug(row->vector, 1, row->vector == VECTOR_DB);
}

#define REAL_BREAKPOINT(id, ...)							\
	CASE_RUN(id, breakpoint_in_real_mode, PROVES("kvm-exits:4"),			\
		 NEEDS(VMX, PROC1(MOV_DR_EXITING)), ROW((&(const struct real_row){ __VA_ARGS__ })))

REAL_BREAKPOINT(breakpoint_in_virtual_8086_mode, KVM_GUESTDBG_USE_HW_BP, VECTOR_DB, false);
REAL_BREAKPOINT(breakpoint_in_real_mode_by_hand, KVM_GUESTDBG_USE_HW_BP, VECTOR_DB, true);
REAL_BREAKPOINT(int3_in_virtual_8086_mode, KVM_GUESTDBG_USE_SW_BP, VECTOR_BP, false);
REAL_BREAKPOINT(int3_in_real_mode_by_hand, KVM_GUESTDBG_USE_SW_BP, VECTOR_BP, true);

CASE(debugging_that_is_refused, PROVES("kvm-exits:4"), NEEDS(BOX_NEEDS))
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | BIT(31) };

	box_start(&box, &int3_guest);
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), -EINVAL);
	/* Without ENABLE the rest does not count. */
	debug.control = BIT(31);
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
}
