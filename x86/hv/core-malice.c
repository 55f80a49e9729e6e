/*
 * The core: callers and guests that do what nobody expects.
 *
 * User space owns the page of struct kvm_run and may write anything there between two runs; its
 * CPUID table may promise what the processor does not have; an NMI may wait while NMIs are blocked.
 * None of it may take effect beyond what the interface says. And whoever calls hv_vcpu_run() finds
 * the processor as it was: 30.5 Loading Host State has its own values for CR3, CR4, DR7 and
 * IA32_DEBUGCTL, which need not be the caller's. A review by attack has found these.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "hv/box.h"
#include "string.h"

static struct box box;

BOX_GUEST_64(hlt_guest, "hlt");

/* --- struct kvm_run --------------------------------------------------------------------------- */

BOX_GUEST_64(cr8_guest, "mov %cr8, %rax\n\t hlt");

CASE(cr8_of_more_than_4_bits, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &cr8_guest);
	box.vcpu.run->cr8 = 0x7f;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINVAL);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
	box.vcpu.run->cr8 = 0xf;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xf);
}

BOX_GUEST_64(in_guest, "in $0x10, %al\n\t hlt");

CASE(io_size_changed, PROVES("kvm-exits:2"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &in_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	memset((u8 *)box.vcpu.run + HV_PIO_OFFSET, 0x41, HV_PIO_SIZE);
	box.vcpu.run->io.size = 255;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x41);
}

#define STRING_AT	0xa000u

BOX_GUEST_64(ins_guest,
	     "mov $0xa000, %edi\n\t mov $0x10, %edx\n\t mov $2, %ecx\n\t rep insb\n\t hlt");

/* More than the page of struct kvm_run has: the guest must not see what is behind it. */
CASE(io_count_changed, PROVES("kvm-ioctls:run.rep_io"), NEEDS(BOX_NEEDS))
{
	u32 i, foreign = 0;

	box_start(&box, &ins_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EQ(box.vcpu.run->io.count, 2);
	memset((u8 *)box.vcpu.run + HV_PIO_OFFSET, 0x42, HV_PIO_SIZE);
	box.vcpu.run->io.count = 0x3000;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(*box_at(&box, STRING_AT), 0x4242);
	for (i = 8; i < 0x3000; i++)
		foreign += !!box.memory[STRING_AT + i];
	EXPECT_EQ(foreign, 0);
	EXPECT_EQ(box_regs(&box).rdi, STRING_AT + 2);
	EXPECT_EQ(box_regs(&box).rcx, 0);
}

/* --- events ----------------------------------------------------------------------------------- */

/* What KVM_GET_VCPU_EVENTS says, KVM_SET_VCPU_EVENTS takes back: #CP has an error code, 7.15. */
CASE(control_protection_exception_has_an_error_code, PROVES("kvm-ioctls:events.exception"),
     NEEDS(BOX_NEEDS))
{
	const struct kvm_vcpu_events events = {
		.exception = { .injected = 1, .nr = VECTOR_CP, .has_error_code = 1,
			       .error_code = 3 },
	};
	struct kvm_vcpu_events after;

	box_start(&box, &hlt_guest);
	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	hv_vcpu_get_events(&box.vcpu, &after);
	EXPECT_EQ(after.exception.has_error_code, 1);
	EXPECT_EQ(after.exception.error_code, 3);
}

BOX_GUEST_64(two_hlt_guest, "hlt\n\t mov $1, %eax\n\t hlt");

static void nmi_while_blocked(bool blocked)
{
	const struct kvm_vcpu_events events = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING,
		.nmi = { .masked = blocked, .pending = 1 },
	};

	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
}

/* 7.7.1 Handling Multiple NMIs: a blocked NMI waits, and so does the processor in HLT. */
CASE(blocked_nmi_does_not_end_hlt, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &two_hlt_guest);
	nmi_while_blocked(true);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 1);
	EXPECT_EQ(box_regs(&box).rax, 0);
}

CASE(blocked_nmi_does_not_wake_a_halted_vcpu, PROVES("kvm-ioctls:run.ap_eagain"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_mp_state state;

	box_start_with_apic(&box, &two_hlt_guest);
	box_run_to_halt(&box);
	nmi_while_blocked(true);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EAGAIN);
	hv_vcpu_get_mp_state(&box.vcpu, &state);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_HALTED);
	nmi_while_blocked(false);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), 0);
	EXPECT_EQ((box_regs(&box).rip - BOX_HANDLERS) / 8, VECTOR_NMI);
}

/* --- what the processor does not have --------------------------------------------------------- */

#define XCR0_ALL	0xe7u	/* x87, SSE, AVX, AVX-512 */

BOX_GUEST_64(xsetbv_guest, "mov %cr4, %rax\n\t or $0x40000, %eax\n\t mov %rax, %cr4\n\t"
	     "xor %ecx, %ecx\n\t xor %edx, %edx\n\t mov $0xe7, %eax\n\t xsetbv\n\t hlt");

static void promise_avx512(void)
{
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 0, .eax = 0xd });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 1, .eax = 0x600, .ecx = BIT(31) | BIT(28) | BIT(26),
		.edx = 0x701a1ff });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = XCR0_ALL,
		.ebx = 0x340, .ecx = 0xa88 });
}

/* XSETBV (volume 2): #GP(0) for a component that is not there, here as with the promise kept. */
CASE(components_that_are_only_promised, PROVES("kvm-ioctls:cpuid2.set"),
     NEEDS(BOX_NEEDS, CPU(XSAVE)))
{
	const bool there = (cpuid_count(0xd, 0).eax & XCR0_ALL) == XCR0_ALL;

	box_start(&box, &xsetbv_guest);
	promise_avx512();
	if (there)
		EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	else
		EXPECT_VECTOR(&box, VECTOR_GP);
}

/* --- the processor of the caller -------------------------------------------------------------- */

#define DR7_OF_CALLER	(DR7_FIXED | BIT(9) | BIT(1))	/* GE and G0 */

CASE(host_dr7_stays, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	u64 before, after;

	box_start(&box, &hlt_guest);
	write_dr7(DR7_OF_CALLER);
	before = read_dr7();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	after = read_dr7();
	write_dr7(DR7_FIXED);
	EXPECT_EQ(before, DR7_OF_CALLER);
	EXPECT_EQ(after, before);
}

/* Another value than the guest's XCR0, which is 1. */
CASE(host_xcr0_stays, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS, CPU(XSAVE)))
{
	u32 low, high;

	box_start(&box, &hlt_guest);
	REQUIRE_EQ(xsetbv_safe(0, 3), OUTCOME_DONE);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	asm volatile("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
	EXPECT_EQ(low, 3);
}

CASE(host_cr3_stays, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	u64 *copy = page_alloc(), before = read_cr3(), after;

	box_start(&box, &hlt_guest);
	memcpy(copy, (void *)(before & PAGE_MASK), PAGE_SIZE);
	write_cr3(physical(copy));
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	after = read_cr3();
	write_cr3(before);
	EXPECT_EQ(after, physical(copy));
}

CASE(host_cr4_stays, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	u64 before;

	box_start(&box, &hlt_guest);
	before = read_cr4();
	write_cr4(before ^ CR4_TSD);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(read_cr4(), before ^ CR4_TSD);
}
