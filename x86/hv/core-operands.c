/*
 * Operands of emulated instructions, where user space is the witness: it must not see a part of an
 * access that faults, nor an access of an instruction that goes nowhere. What the guest sees is in
 * guest/mmio-segments.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

static struct box box;

static void answer_mmio(bool is_write, u64 address, u32 size, u64 data)
{
	struct kvm_run *run = box.vcpu.run;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.is_write, is_write);
	EXPECT_EQ(run->mmio.phys_addr, address);
	EXPECT_EQ(run->mmio.len, size);
	memcpy(run->mmio.data, &data, sizeof(data));
}

/* --- the second page of an access: the guest's tables map 1 GByte ----------------------------- */

BOX_GUEST_64(load_across, "mov $0x3ffffffc, %ebx\n\t mov (%rbx), %rax\n\t hlt");
BOX_GUEST_64(store_across, "mov $0x3ffffffc, %ebx\n\t mov %rax, (%rbx)\n\t hlt");
BOX_GUEST_64(add_across, "mov $0x3ffffffc, %ebx\n\t lock add %rax, (%rbx)\n\t hlt");

static void check_across(const struct case_def *this_case)
{
	box_start(&box, this_case->row);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0x40000000);
}

#define ACROSS_CASE(id, guest)								\
	CASE_RUN(id, check_across, PROVES("kvm-ioctls:run.mmio_cross"), NEEDS(BOX_NEEDS),	\
		 ROW(&(guest)))

ACROSS_CASE(load_into_a_missing_page, load_across);
ACROSS_CASE(store_into_a_missing_page, store_across);
ACROSS_CASE(add_into_a_missing_page, add_across);

/* --- targets that a device gives -------------------------------------------------------------- */

BOX_GUEST_64(call_64, "mov $0x10000000, %ebx\n\t call *(%rbx)");
BOX_GUEST_64(jump_64, "mov $0x10000000, %ebx\n\t jmp *(%rbx)");
BOX_GUEST_32(call_32, "mov $0x10000000, %ebx\n\t call *(%ebx)");
BOX_GUEST_32(jump_32, "mov $0x10000000, %ebx\n\t jmp *(%ebx)");

struct target {
	const struct box_guest *guest;
	u64 address;
	u32 size;
	u8 vector;		/* 0: goes to `address` */
};

/*
 * The frame of the exception is on a stack that holds nothing else, and is that of the second
 * instruction.
 */
static void expect_refused(const struct target *row)
{
	bool wide = row->size == 8;
	u64 frame = wide ? BOX_STACK - 48 : BOX_STACK - 16;

	EXPECT_VECTOR(&box, row->vector);
	EXPECT_EQ(box_regs(&box).rsp, frame);
	EXPECT_EQ(*(u32 *)box_at(&box, frame + row->size), BOX_CODE + 5);
}

#define CODE_LIMIT	0xffff

static void check_target(const struct case_def *this_case)
{
	const struct target *row = this_case->row;
	struct kvm_sregs sregs;

	box_start(&box, row->guest);
	sregs = box_sregs(&box);
	sregs.cs.limit = CODE_LIMIT;
	sregs.cs.g = 0;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	*(u8 *)box_at(&box, BOX_DATA) = 0xf4;	/* HLT */
	answer_mmio(false, BOX_MMIO, row->size, row->address);
	if (row->vector) {
		expect_refused(row);
		return;
	}
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, row->address + 1);
}

#define TARGET_CASE(id, needs, ...)								\
	CASE_RUN(id, check_target, PROVES("guest-instructions:mmio.push_pop"), NEEDS(needs),	\
		 ROW((&(const struct target){ __VA_ARGS__ })))

TARGET_CASE(call_of_a_canonical_address, BOX_NEEDS, &call_64, BOX_DATA, 8, 0);
TARGET_CASE(call_of_no_canonical_address, BOX_NEEDS, &call_64, BIT(47), 8, VECTOR_GP);
TARGET_CASE(jump_to_no_canonical_address, BOX_NEEDS, &jump_64, BIT(63), 8, VECTOR_GP);
TARGET_CASE(call_within_the_limit, BOX_NEEDS, &call_32, BOX_DATA, 4, 0);
TARGET_CASE(call_beyond_the_limit, BOX_NEEDS, &call_32, CODE_LIMIT + 1, 4, VECTOR_GP);
TARGET_CASE(jump_beyond_the_limit, BOX_NEEDS, &jump_32, CODE_LIMIT + 1, 4, VECTOR_GP);

/* --- forms that count otherwise elsewhere ----------------------------------------------------- */

/* Volume 2, JMP: in 64-bit mode a near target has 64 bits, whatever 66H says. */
BOX_GUEST_64(jump_66_guest, "mov $0x10000000, %eax\n\t .byte 0x66\n\t jmp *(%rax)\n\t hlt");

CASE(near_jump_with_66, PROVES("guest-instructions:mmio.push_pop"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &jump_66_guest);
	*(u8 *)box_at(&box, BOX_DATA) = 0xf4;	/* HLT */
	answer_mmio(false, BOX_MMIO, 8, BOX_DATA);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_DATA + 1);
}

/* In the stack segment, and not canonical: #SS, not #GP. */
BOX_GUEST_64(invpcid_guest,
	     "mov $0x1000000000000000, %rbp\n\t xor %eax, %eax\n\t invpcid 0(%rbp), %rax\n\t hlt");

CASE(invpcid_beyond_the_stack, PROVES("guest-instructions:inv.invlpg"), NEEDS(VMX, CPU(INVPCID)))
{
	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, 200, &invpcid_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = BIT(10) });
	EXPECT_VECTOR(&box, VECTOR_SS);
}

/* 2.3.5.6: VMOVUPS XMM0, [EAX] with the B bit set, which has no meaning outside of 64-bit mode. */
BOX_GUEST_32(vex_guest, "mov %cr4, %eax\n\t or $0x40200, %eax\n\t mov %eax, %cr4\n\t"
	     "xor %ecx, %ecx\n\t xor %edx, %edx\n\t mov $7, %eax\n\t xsetbv\n\t"
	     "mov $0x10000000, %eax\n\t .byte 0xc4, 0xc1, 0x78, 0x10, 0x00\n\t hlt");

CASE(vex_b_in_32_bit_code, PROVES("guest-instructions:mmio.avx"), NEEDS(BOX_NEEDS, CPU(XSAVE)))
{
	struct kvm_regs regs;

	box_start(&box, &vex_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 0, .eax = 0xd });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 1, .eax = 0x600, .ecx = BIT(31) | BIT(28) | BIT(26),
		.edx = 0x3701a1ff });
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7, .ebx = 0x340,
		.ecx = 0x340 });
	regs = box_regs(&box);
	regs.r8 = 0x20000000;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(box.vcpu.run->mmio.phys_addr, BOX_MMIO);
}
