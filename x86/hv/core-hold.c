/*
 * The core: no guest holds the processor.
 *
 * With local APICs a vCPU runs for a slice (HV_SLICE) and comes back, whatever it does. The
 * VMX-preemption timer sees to that between two instructions only. A debug exception whose delivery
 * meets a data breakpoint, or an alignment check whose stack is not aligned, brings the next one
 * without an instruction between them: 7.9 Priority Among Concurrent Events has traps before the
 * timer. hv/state-random has found the first of them.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "hv/box.h"

static struct box box;

#define RUNS	3	/* slices */

static void expect_slices(void)
{
	u32 i;

	for (i = 0; i < RUNS; i++) {
		const int result = hv_vcpu_run(&box.vcpu);

		/* A processor that does not meet the condition halts in the handler. */
		if (result == -EAGAIN)
			return;
		REQUIRE_EQ(result, 0);
		REQUIRE_EXIT(box.vcpu.run->exit_reason, KVM_EXIT_INTR);
	}
}

BOX_GUEST_64(loop_guest, "1: jmp 1b");

CASE(loop_comes_back, PROVES("exit-reasons:52"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	box_start_with_apic(&box, &loop_guest);
	expect_slices();
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
}

/* DR1: the gate of vector 1, 8 bytes, read or written. */
BOX_GUEST_64(gate_guest, "mov 0x4010, %rax\n\t nop\n\t hlt");

CASE(debug_exceptions_without_end, PROVES("exit-reasons:52"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	const struct kvm_debugregs debug = { .db = { 0, BOX_IDT + 16 * VECTOR_DB },
					     .dr6 = DR6_FIXED, .dr7 = DR7_FIXED | 0xb00004 };
	struct kvm_debugregs after;

	box_start_with_apic(&box, &gate_guest);
	REQUIRE_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), 0);
	expect_slices();
	hv_vcpu_get_debugregs(&box.vcpu, &after);
	EXPECT_EQ(after.dr6, DR6_FIXED | BIT(1));
	EXPECT_EQ(after.dr7, debug.dr7);
}

/* CPL 3 in protected mode, and a handler at CPL 3 on the same stack, which is not aligned. */
BOX_GUEST_32(unaligned_guest, "push %eax\n\t hlt");

CASE(alignment_checks_without_end, PROVES("exit-reasons:52"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	box_start_with_apic(&box, &unaligned_guest);
	box_at(&box, BOX_IDT)[VECTOR_AC] = (BOX_HANDLERS + VECTOR_AC * 8) |
					   (u64)(SELECTOR_CODE32 | 3) << 16 | 0xee0000000000;
	/* The code segment of the handler has DPL 3. */
	box_at(&box, BOX_GDT)[SELECTOR_CODE32 / 8] |= BITS(46, 45);
	sregs = box_sregs(&box);
	sregs.cr0 |= CR0_AM;
	sregs.cs.dpl = sregs.ss.dpl = sregs.ds.dpl = sregs.es.dpl = sregs.fs.dpl = sregs.gs.dpl = 3;
	sregs.cs.selector |= 3;
	sregs.ss.selector |= 3;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	regs = box_regs(&box);
	regs.rsp = BOX_STACK - 1;
	regs.rflags |= RFLAGS_AC;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	expect_slices();
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
}

/* --- real-address mode by hand: no VM entry, so no timer -------------------------------------- */

#define POOL		200		/* pages */
#define OTHER_BASE	0x120u		/* of FS: more than virtual-8086 mode can have */
#define HOST_VECTOR	0x40u
#define TSS_AT		(BOX_DATA + 0x2000)
#define STACK_1		(BOX_DATA + 0x5000)

BOX_GUEST_16(nop_guest, "nop\n\t hlt");
/* JMP FAR 0:8000H, which is where it is. */
BOX_GUEST_16(far_guest, ".byte 0xea, 0x00, 0x80, 0x00, 0x00");

static void start_real(const struct hv_mmu *mmu, bool apic, const struct box_guest *guest,
		       bool by_steps)
{
	u64 size = POOL * PAGE_SIZE;
	struct kvm_sregs sregs;

	hv_start(page_alloc());
	hv_pool_init(&box.pool, pages_alloc(size, PAGE_SIZE), size);
	box.memory = pages_alloc(BOX_SIZE, PAGE_SIZE);
	box_make(&box, mmu, apic, guest);
	sregs = box_sregs(&box);
	if (by_steps)
		sregs.fs.base = OTHER_BASE;
	sregs.idt = (struct kvm_dtable){ .limit = 0x3ff };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
}

/* A breakpoint on the first instruction of the handler of #DB; the frames go where nobody minds. */
static void expect_slices_of_breakpoints(const struct hv_mmu *mmu, bool by_steps)
{
	const u64 handler = BOX_HANDLERS + 8 * VECTOR_DB;
	const struct kvm_debugregs debug = { .db = { handler }, .dr6 = DR6_FIXED,
					     .dr7 = DR7_FIXED | 2 };
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	start_real(mmu, true, &nop_guest, by_steps);
	box_add_memory(&box, 1, 0x10000, 0x10000, 0);
	REQUIRE_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), 0);
	sregs = box_sregs(&box);
	sregs.ss.selector = 0x1000;
	sregs.ss.base = 0x10000;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	regs = box_regs(&box);
	regs.rip = handler;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	expect_slices();
}

CASE(breakpoints_in_virtual_8086_mode, PROVES("exit-reasons:52"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	expect_slices_of_breakpoints(&hv_mmu_shadow, false);
}

CASE(breakpoints_step_by_step, PROVES("exit-reasons:52"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	expect_slices_of_breakpoints(&hv_mmu_shadow, true);
}

CASE(breakpoints_with_restricted_ept, PROVES("exit-reasons:52"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	expect_slices_of_breakpoints(&hv_mmu_ept_restricted, false);
}

CASE(far_jump_to_itself, PROVES("exit-reasons:52"), NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	start_real(&hv_mmu_shadow, true, &far_guest, true);
	expect_slices();
}

/* --- without local APICs: what an interrupt of the host cannot end ---------------------------- */

static void allow_interrupts(void)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rflags |= RFLAGS_IF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

CASE(far_jump_to_itself_without_apic, PROVES("kvm-exits:10"), NEEDS(VMX))
{
	start_real(&hv_mmu_shadow, false, &far_guest, true);
	allow_interrupts();
	apic_pend(HOST_VECTOR);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTR);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
}

/* A trap gate, so that IF stays 1, and a breakpoint on it. */
CASE(debug_exceptions_without_end_nor_apic, PROVES("kvm-exits:10"), NEEDS(BOX_NEEDS))
{
	const struct kvm_debugregs debug = { .db = { 0, BOX_IDT + 16 * VECTOR_DB },
					     .dr6 = DR6_FIXED, .dr7 = DR7_FIXED | 0xb00004 };
	struct kvm_sregs sregs;

	box_start(&box, &gate_guest);
	/* Type 15, and stack 1 of the TSS. */
	*box_at(&box, BOX_IDT + 16 * VECTOR_DB) |= BIT(40) | BIT(32);
	*(u64 *)(box.memory + TSS_AT + 36) = STACK_1;
	sregs = box_sregs(&box);
	sregs.tr = (struct kvm_segment){ .base = TSS_AT, .limit = 103, .selector = 0x28, .type = 11,
					 .present = 1 };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	REQUIRE_EQ(hv_vcpu_set_debugregs(&box.vcpu, &debug), 0);
	allow_interrupts();
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTR);
}

/* --- a step of user space's debugger, when the slice ends with it ----------------------------- */

BOX_GUEST_16(load_ds_guest, "mov %ax, %ds\n\t nop\n\t hlt");

/*
 * The time-stamp counter is about to overflow, so that the slice's end is before its beginning, and
 * the slice over when the first instruction has been emulated.
 */
CASE(step_at_the_end_of_a_slice, PROVES("kvm-exits:4"),
     NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER), PROC1(MONITOR_TRAP_FLAG)))
{
	const struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	u64 before = rdtsc();

	start_real(&hv_mmu_shadow, true, &load_ds_guest, true);
	REQUIRE_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	wrmsr(IA32_TSC, -(u64)HV_SLICE);
	box_run(&box);
	wrmsr(IA32_TSC, before);
	EXPECT_EXIT(box.vcpu.run->exit_reason, KVM_EXIT_DEBUG);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 2);
}
