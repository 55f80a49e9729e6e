/*
 * The core: no guest holds the processor.
 *
 * With local APICs a vCPU runs for a slice (HV_SLICE) and comes back, whatever it does. The VMX-preemption timer sees to
 * that between two instructions only. A debug exception whose delivery meets a data breakpoint, or an alignment check
 * whose stack is not aligned, brings the next one without an instruction between them: 7.9 Priority Among Concurrent
 * Events has traps before the timer. hv/state-random has found the first of them.
 */
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

CASE(loop_comes_back, PROVES("exit-reasons:52"), NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
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
