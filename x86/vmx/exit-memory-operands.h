/*
 * Memory operands, which go through every instruction that has one, and instructions without: for
 * exit-operands.c and exit-descriptor-tables.c.
 */
#ifndef VMX_EXIT_MEMORY_OPERANDS_H
#define VMX_EXIT_MEMORY_OPERANDS_H

#include "mmu/pages.h"
#include "string.h"
#include "exit-operands.h"

#define SS64	(INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_SS) | INFORMATION_MEMORY)
#define FS64	(INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_FS) | INFORMATION_MEMORY)
#define GS64	(INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_GS) | INFORMATION_MEMORY)
#define DS32	(INFORMATION_ADDRESS_32 | INFORMATION_SEGMENT(SEGMENT_DS) | INFORMATION_MEMORY)

/*
 * Every memory operand, for the instruction `op`, whose other operand is written `, %reg` behind it
 * (`after`) or `%reg, ` before it (`prior`). X(suffix, operand, displacement, information, options)
 */
#define MEMORY_OPERANDS(X, op, prior, after)							\
	X(op, base, prior "(%rax)" after, 0,							\
	  DS64 | INFORMATION_BASE(GPR_RAX) | INFORMATION_NO_INDEX)				\
	X(op, high_base, prior "(%r15)" after, 0,						\
	  DS64 | INFORMATION_BASE(GPR_R15) | INFORMATION_NO_INDEX)				\
	X(op, stack_base, prior "(%rsp)" after, 0,						\
	  SS64 | INFORMATION_BASE(GPR_RSP) | INFORMATION_NO_INDEX)				\
	X(op, disp8, prior "-0x10(%rbx)" after, -0x10,						\
	  DS64 | INFORMATION_BASE(GPR_RBX) | INFORMATION_NO_INDEX)				\
	X(op, disp32, prior "0x12345678(%r13)" after, 0x12345678,				\
	  DS64 | INFORMATION_BASE(GPR_R13) | INFORMATION_NO_INDEX)				\
	X(op, negative_disp32, prior "-0x12345678(%rbp)" after, -0x12345678,			\
	  SS64 | INFORMATION_BASE(GPR_RBP) | INFORMATION_NO_INDEX)				\
	X(op, scaled_8, prior "8(%rdx,%r9,8)" after, 8,						\
	  DS64 | INFORMATION_BASE(GPR_RDX) | INFORMATION_INDEX(GPR_R9, 3))			\
	X(op, scaled_1, prior "(%r14,%rcx,1)" after, 0,						\
	  DS64 | INFORMATION_BASE(GPR_R14) | INFORMATION_INDEX(GPR_RCX, 0))			\
	X(op, index_only, prior "0x100(,%r12,4)" after, 0x100,					\
	  DS64 | INFORMATION_NO_BASE | INFORMATION_INDEX(GPR_R12, 2))				\
	X(op, absolute, prior "0x101234" after, 0x101234,					\
	  DS64 | INFORMATION_NO_BASE | INFORMATION_NO_INDEX)					\
	X(op, rip_relative, prior "0x5000(%rip)" after, 0x5000,					\
	  DS64 | INFORMATION_NO_BASE | INFORMATION_NO_INDEX, .rip_relative = true)		\
	X(op, fs, prior "%fs:2(%rsi)" after, 2,							\
	  FS64 | INFORMATION_BASE(GPR_RSI) | INFORMATION_NO_INDEX)				\
	X(op, gs, prior "%gs:2(%r8)" after, 2,							\
	  GS64 | INFORMATION_BASE(GPR_R8) | INFORMATION_NO_INDEX)				\
	X(op, address_32, prior "0x20(%ecx,%r10d,2)" after, 0x20,				\
	  DS32 | INFORMATION_BASE(GPR_RCX) | INFORMATION_INDEX(GPR_R10, 1),			\
	  .qualification_mask = BITS(31, 0))

/* Three of them, for instructions that share a table with one that has gone through all. */
#define SOME_MEMORY_OPERANDS(X, op, prior, after)						\
	X(op, disp8, prior "-0x10(%rbx)" after, -0x10,						\
	  DS64 | INFORMATION_BASE(GPR_RBX) | INFORMATION_NO_INDEX)				\
	X(op, scaled_8, prior "8(%rdx,%r9,8)" after, 8,						\
	  DS64 | INFORMATION_BASE(GPR_RDX) | INFORMATION_INDEX(GPR_R9, 3))			\
	X(op, rip_relative, prior "0x5000(%rip)" after, 0x5000,					\
	  DS64 | INFORMATION_NO_BASE | INFORMATION_NO_INDEX, .rip_relative = true)

/* --- no memory operand, no displacement ---------------------------------------------------- */

#define COPIES	32u

/*
 * An emulator that keeps decoded instructions may find the displacement of an old one in the place
 * of a new one, so this makes it decode 750,000 that have one, which is more than Bochs keeps.
 */
static void decode_displacements(void)
{
	/* 12345678H(%rax), %rax */
	static const u8 lea[] = { 0x48, 0x8d, 0x80, 0x78, 0x56, 0x34, 0x12 };
	u8 *page = page_alloc();
	u32 round, i;

	for (i = 0; i + sizeof(lea) < PAGE_SIZE; i += sizeof(lea))
		memcpy(page + i, lea, sizeof(lea));
	page[i] = 0xc3;
	for (round = 0; round < 1300; round++) {
		asm volatile("call *%0" : : "r" (page) : "rax", "memory", "cc");
		/* A line that is written to is decoded once more. */
		for (i = 0; i < PAGE_SIZE; i += 64)
			*(volatile u8 *)(page + i) = page[i];
	}
}

/*
 * 30.2.1: the qualification is 0 then. Copies of the instruction are decoded anew, each into
 * another place: what they find there does not depend on where the image has its code.
 */
static void has_no_displacement(const struct case_def *this_case)
{
	const struct operands *operands = this_case->row;
	const u8 *code = operands->code->at;
	u32 size = operands->code->end - code, i;
	u8 *page = page_alloc();

	if (operands->control)
		vmcs_set_control(operands->control);
	decode_displacements();
	for (i = 0; i < PAGE_SIZE && !case_failed(); i += PAGE_SIZE / COPIES) {
		const struct guest_code copy = { .at = page + i, .end = page + i + size };

		memcpy(page + i, code, size);
		REQUIRE(enter_at_instruction(&copy), OUTCOME_EXIT(operands->reason));
		EXPECT_QUALIFICATION(0);
	}
}

#define NO_DISPLACEMENT(name, ...)								\
	CASE_RUN(name##_has_no_displacement, has_no_displacement,				\
		 PROVES("exit-qualifications:memory_operand.displacement"),			\
		 ROW(&row_##name), __VA_ARGS__)

#endif
