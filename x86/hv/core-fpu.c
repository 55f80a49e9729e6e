/*
 * The core: the registers of FPU, SSE and XSAVE of guests that share a processor.
 *
 * They stay in the processor when a vCPU stops, so that each time another one runs, of the same VM
 * or not, what is there must have been saved. And where the processor executes an x87 instruction
 * on behalf of a guest (hv/native.c), it notes where instruction and operand are: the guest may see
 * its own, never the core's.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

#define SHADOW_POOL	300		/* pages */

/* --- two VMs in turns ----------------------------------------------------------------------- */

static struct box boxes[2];

/* RBX goes into XMM9 and onto the stack of the FPU; then out with what is there. */
BOX_GUEST_64(numbers_guest,
	     "movq %xmm9, %rdx\n\t fninit\n\t mov %rbx, 0xa000\n\t fildq 0xa000\n\t"
	     "movq %rbx, %xmm9\n\t hlt\n\t movq %xmm9, %rax\n\t fistpq 0xa008\n\t hlt");

static void change_registers(struct box *box, u64 cr4, u64 rbx, u64 rsi)
{
	struct kvm_sregs sregs = box_sregs(box);
	struct kvm_regs regs = box_regs(box);

	sregs.cr4 |= cr4;
	regs.rbx = rbx;
	regs.rsi = rsi;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box->vcpu, &sregs), 0);
	REQUIRE_EQ(hv_vcpu_set_regs(&box->vcpu, &regs), 0);
}

static void run_to_hlt(struct box *box)
{
	REQUIRE_EXIT(box_run(box), KVM_EXIT_HLT);
}

static void numbers_of_two_vms(const struct case_def *this_case)
{
	static const u64 numbers[2] = { 0x1122334455667788, 0x123456789abcdef };
	u32 i;

	hv_start(page_alloc());
	for (i = 0; i < 2; i++) {
		box_start_on(&boxes[i], this_case->row, SHADOW_POOL, &numbers_guest);
		change_registers(&boxes[i], CR4_OSFXSR, numbers[i], 0);
		run_to_hlt(&boxes[i]);
		EXPECT_EQ(box_regs(&boxes[i]).rdx, 0);
	}
	for (i = 0; i < 2; i++) {
		run_to_hlt(&boxes[i]);
		EXPECT_EQ(box_regs(&boxes[i]).rax, numbers[i]);
		EXPECT_EQ(*box_at(&boxes[i], BOX_DATA + 8), numbers[i]);
	}
}

CASE_RUN(numbers_of_two_vms, numbers_of_two_vms, PROVES("kvm-ioctls:fpu.roundtrip"),
	 NEEDS(BOX_NEEDS), ROW(&hv_mmu_ept));
CASE_RUN(numbers_of_two_vms_with_shadow_paging, numbers_of_two_vms,
	 PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(VMX), ROW(&hv_mmu_shadow));

/* A VM that is gone leaves nothing to save, and nothing to see. */
CASE(numbers_of_a_vm_that_is_gone, PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(BOX_NEEDS))
{
	u8 *fpu, before[HV_XSAVE_SIZE];

	box_start(&boxes[0], &numbers_guest);
	change_registers(&boxes[0], CR4_OSFXSR, 0x1122334455667788, 0);
	run_to_hlt(&boxes[0]);
	fpu = boxes[0].vcpu.fpu;
	hv_vm_destroy(&boxes[0].vm);
	memcpy(before, fpu, sizeof(before));
	box_start_on(&boxes[1], &hv_mmu_ept, BOX_POOL, &numbers_guest);
	change_registers(&boxes[1], CR4_OSFXSR, 5, 0);
	run_to_hlt(&boxes[1]);
	EXPECT_EQ(box_regs(&boxes[1]).rdx, 0);
	EXPECT_EQ(memcmp(fpu, before, sizeof(before)), 0);
	/* Nor has another vCPU in the same place what that had. */
	hv_vm_destroy(&boxes[1].vm);
	EXPECT_TRUE(!this_cpu()->fpu_owner);
	box_start_on(&boxes[1], &hv_mmu_ept, BOX_POOL, &numbers_guest);
	change_registers(&boxes[1], CR4_OSFXSR, 6, 0);
	run_to_hlt(&boxes[1]);
	EXPECT_EQ(box_regs(&boxes[1]).rdx, 0);
}

/* EBX is PKRU, ESI XCR0. */
BOX_GUEST_64(rights_guest,
	     "xor %ecx, %ecx\n\t xor %edx, %edx\n\t mov %esi, %eax\n\t xsetbv\n\t"
	     "mov %ebx, %eax\n\t wrpkru\n\t hlt\n\t"
	     "xgetbv\n\t mov %eax, %edi\n\t rdpkru\n\t hlt");

/* Of 13.3 (volume 1): x87, SSE, AVX, PKRU. */
static void give_xsave(struct box *box)
{
	const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 0xd },
		{ .function = 1, .eax = 0x600, .ecx = 1u << 31 | 1u << 28 | 1u << 26,
		  .edx = 0x0701a1ff },
		{ .function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = 1u << 3 },
		{ .function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x207 },
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(entries); i++)
		box_set_cpuid(box, entries[i]);
}

CASE(rights_of_two_vms, PROVES("kvm-ioctls:fpu.roundtrip"), NEEDS(BOX_NEEDS, CPU(AVX), CPU(PKU)))
{
	static const u64 pkru[2] = { 0x50, 0xa0 }, xcr0[2] = { 0x207, 0x203 };
	u32 i;

	hv_start(page_alloc());
	for (i = 0; i < 2; i++) {
		box_start_on(&boxes[i], &hv_mmu_ept, BOX_POOL, &rights_guest);
		give_xsave(&boxes[i]);
		change_registers(&boxes[i], CR4_OSFXSR | CR4_OSXSAVE | CR4_PKE, pkru[i], xcr0[i]);
		run_to_hlt(&boxes[i]);
	}
	for (i = 0; i < 2; i++) {
		run_to_hlt(&boxes[i]);
		EXPECT_EQ(box_regs(&boxes[i]).rdi, xcr0[i]);
		EXPECT_EQ(box_regs(&boxes[i]).rax, pkru[i]);
	}
}

/* --- x87 instructions of the core: volume 1, 8.1.8 x87 FPU Instruction and Operand Pointers --- */

#define NUMBER		1234

/*
 * The same FILD from memory and from a device, with a prefix and a displacement, each with what it
 * leaves behind; then FISTP to the device.
 */
#define POINTERS(width, base, fxsave)							\
	"fninit\n\t fld1\n\t mov $0xa000, %ebx\n\t"					\
	".org box_pointers_guest_" #width " + 16, 0x90\n\t"				\
	"fildl %fs:4(%" base ")\n\t fnstenv 0xb000\n\t " fxsave " 0xc000\n\t"		\
	"mov $0x10000000, %ebx\n\t .org box_pointers_guest_" #width " + 64, 0x90\n\t"	\
	"fildl %fs:4(%" base ")\n\t fnstenv 0xb100\n\t " fxsave " 0xc200\n\t"		\
	".org box_pointers_guest_" #width " + 96, 0x90\n\t"				\
	"fistpl 8(%" base ")\n\t " fxsave " 0xc400\n\t hlt"

BOX_GUEST_64(pointers_guest_64, POINTERS(64, "rbx", "fxsave64"));
BOX_GUEST_32(pointers_guest_32, POINTERS(32, "ebx", "fxsave"));

enum { FIRST_AT = 16, SECOND_AT = 64, THIRD_AT = 96 };	/* the three in the guest */

/* Table 10-2 of volume 1, Format of an FXSAVE Area; in 64-bit mode with REX.W. */
struct fxsave {
	u16 control, status;
	u8 tags, reserved;
	u16 opcode;
	u64 instruction, operand;	/* else a selector is in bits 47:32 */
};

static struct fxsave saved_at(u64 gpa)
{
	struct fxsave area;

	memcpy(&area, boxes[0].memory + gpa, sizeof(area));
	return area;
}

static u32 in_environment(u64 gpa, u32 offset)
{
	return *(u32 *)(boxes[0].memory + gpa + offset);
}

/* Where the operand pointer leads: some processors note it at unmasked exceptions only (8.1.8). */
static u64 operand_at(u64 offset)
{
	return (u32)saved_at(0xc000).operand ? offset : 0;
}

/* Pointers of the same FILD elsewhere; selectors are as they were. */
static void compare_pointers(void)
{
	const struct fxsave first = saved_at(0xc000), second = saved_at(0xc200);

	EXPECT_EQ((u32)first.instruction, BOX_CODE + FIRST_AT);
	EXPECT_EQ((u32)first.operand, operand_at(BOX_DATA + 4));
	EXPECT_EQ(second.instruction, first.instruction + SECOND_AT - FIRST_AT);
	EXPECT_EQ((u32)second.operand, operand_at(BOX_MMIO + 4));
	EXPECT_EQ(second.operand >> 32, first.operand >> 32);
	EXPECT_EQ(second.opcode, first.opcode);
	/* FIP, FCS and FOP, FDP, FDS of FNSTENV: volume 1, figure 8-9. */
	EXPECT_EQ(in_environment(0xb100, 12), BOX_CODE + SECOND_AT);
	EXPECT_EQ(in_environment(0xb100, 16), in_environment(0xb000, 16));
	EXPECT_EQ(in_environment(0xb100, 20), operand_at(BOX_MMIO + 4));
	EXPECT_EQ(in_environment(0xb100, 24), in_environment(0xb000, 24));
}

static void x87_pointers(const struct case_def *this_case)
{
	struct kvm_run *run;
	struct fxsave third;

	box_start(&boxes[0], this_case->row);
	change_registers(&boxes[0], CR4_OSFXSR, 0, 0);
	run = boxes[0].vcpu.run;
	REQUIRE_EXIT(box_run(&boxes[0]), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, BOX_MMIO + 4);
	memcpy(run->mmio.data, &(u32){ NUMBER }, 4);
	REQUIRE_EXIT(box_run(&boxes[0]), KVM_EXIT_MMIO);
	compare_pointers();
	EXPECT_EQ(run->mmio.phys_addr, BOX_MMIO + 8);
	EXPECT_EQ(run->mmio.is_write, 1);
	EXPECT_EQ(*(u32 *)run->mmio.data, NUMBER);
	run_to_hlt(&boxes[0]);
	third = saved_at(0xc400);
	EXPECT_EQ((u32)third.instruction, BOX_CODE + THIRD_AT);
	EXPECT_EQ((u32)third.operand, operand_at(BOX_MMIO + 8));
	/* One has been popped of three: the top is register 6. */
	EXPECT_EQ(third.status >> 11 & 7, 6);
}

CASE_RUN(x87_pointers_are_the_guests, x87_pointers, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS),
	 ROW(&pointers_guest_64));
CASE_RUN(x87_pointers_are_the_guests_in_protected_mode, x87_pointers, PROVES("kvm-exits:6"),
	 NEEDS(BOX_NEEDS), ROW(&pointers_guest_32));

/* --- an exception that is not masked: volume 1, 8.5 and 8.7 ----------------------------------- */

/*
 * Ten bytes are two accesses; between them user space takes the number away, so that the stack is
 * empty when the core executes the instruction once more. Bochs looks for that before it looks at
 * the memory, so otherwise the instruction would not get as far as the core.
 */
BOX_GUEST_64(store_guest, "fninit\n\t fld1\n\t mov $0x10000000, %ebx\n\t fstpt (%rbx)\n\t hlt");

enum { MASKS = 0x37f, NO_MASK_INVALID = 0x37e, INVALID_AND_STACK = 0x41, SUMMARY = 0x80 };

static void start_store(u16 control)
{
	struct kvm_fpu fpu;

	box_start(&boxes[0], &store_guest);
	change_registers(&boxes[0], CR4_OSFXSR, 0, 0);
	REQUIRE_EXIT(box_run(&boxes[0]), KVM_EXIT_MMIO);
	EXPECT_EQ(boxes[0].vcpu.run->mmio.len, 8);
	REQUIRE_EQ(hv_vcpu_get_fpu(&boxes[0].vcpu, &fpu), 0);
	fpu.ftwx = 0;
	fpu.fcw = control;
	REQUIRE_EQ(hv_vcpu_set_fpu(&boxes[0].vcpu, &fpu), 0);
}

static u16 status(void)
{
	struct kvm_fpu fpu;

	REQUIRE_EQ(hv_vcpu_get_fpu(&boxes[0].vcpu, &fpu), 0);
	return fpu.fsw & 0xff;
}

CASE(x87_exception_stores_nothing, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	start_store(NO_MASK_INVALID);
	run_to_hlt(&boxes[0]);
	EXPECT_EQ(status(), SUMMARY | INVALID_AND_STACK);
}

CASE(masked_x87_exception_stores_the_indefinite, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	start_store(MASKS);
	REQUIRE_EXIT(box_run(&boxes[0]), KVM_EXIT_MMIO);
	EXPECT_EQ(*(u16 *)boxes[0].vcpu.run->mmio.data, 0xffff);
	run_to_hlt(&boxes[0]);
	EXPECT_EQ(status(), INVALID_AND_STACK);
}
