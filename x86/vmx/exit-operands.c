/*
 * Instructions whose exit describes their operands: the displacement in the exit qualification
 * (30.2.1 Basic VM-Exit Information) and registers, scale, address size and segment in the VM-exit
 * instruction information (30.2.5 Information for VM Exits Due to Instruction Execution, Tables
 * 30-9 to 30-11, 30-14 and 30-15). Two bits select the instruction where several share an exit
 * reason. RDRAND and other newer ones are in exit-extensions.c.
 *
 * The same memory operands go through every instruction that has one.
 */
#include "cpu/features.h"
#include "mmu/pages.h"
#include "string.h"
#include "exit-operands.h"

BEFORE_EACH_CASE(vmx_start);

/* --- memory operands --------------------------------------------------------------------- */

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

/* 30.2.1: the qualification is 0 then. */
static void has_no_displacement(const struct case_def *this_case)
{
	const struct operands *operands = this_case->row;

	if (operands->control)
		vmcs_set_control(operands->control);
	decode_displacements();
	REQUIRE(enter(operands->code->run), OUTCOME_EXIT(operands->reason));
	EXPECT_QUALIFICATION(0);
}

#define NO_DISPLACEMENT(name, ...)								\
	CASE_RUN(name##_has_no_displacement, has_no_displacement,				\
		 PROVES("exit-qualifications:memory_operand.displacement"),			\
		 ROW(&row_##name), __VA_ARGS__)

/* --- Table 30-14: VMCLEAR, VMPTRLD, VMPTRST, VMXON ------------------------------------------ */

#define VMX_POINTER(op, suffix, operand, displacement, information, ...)			\
	DESCRIBES(op##_##suffix, #op " " operand, REASON_##op, displacement, information,	\
		  PROVES(FACT_##op, "exit-qualifications:memory_operand.displacement",		\
			 "instruction-information:vmx_xsaves.base",				\
			 "instruction-information:vmx_xsaves.index",				\
			 "instruction-information:vmx_xsaves.scale",				\
			 "instruction-information:vmx_xsaves.segment",				\
			 "instruction-information:vmx_xsaves.address_size",			\
			 "instruction-information:vmx_xsaves.bit_10",				\
			 "instruction-information:vmx_xsaves.base_invalid",			\
			 "instruction-information:vmx_xsaves.index_invalid",			\
			 "nonroot-behavior:vmx_instructions"), NEEDS(VMX), __VA_ARGS__);
#define EXIT_REASON_vmclear	EXIT_VMCLEAR
#define EXIT_REASON_vmptrld	EXIT_VMPTRLD
#define EXIT_REASON_vmptrst	EXIT_VMPTRST
#define EXIT_REASON_vmxon	EXIT_VMXON
#define FACT_vmclear		"exit-reasons:19"
#define FACT_vmptrld		"exit-reasons:21"
#define FACT_vmptrst		"exit-reasons:22"
#define FACT_vmxon		"exit-reasons:27"

MEMORY_OPERANDS(VMX_POINTER, vmclear, "", "")
SOME_MEMORY_OPERANDS(VMX_POINTER, vmptrld, "", "")
SOME_MEMORY_OPERANDS(VMX_POINTER, vmptrst, "", "")
SOME_MEMORY_OPERANDS(VMX_POINTER, vmxon, "", "")

/* --- Table 30-15: VMREAD and VMWRITE ---------------------------------------------------------- */

#define VMCS_ACCESS(op, suffix, operand, displacement, information, ...)			\
	DESCRIBES(op##_##suffix, #op " " operand, REASON_##op, displacement,			\
		  (information) | INFORMATION_REG2(GPR_R11),					\
		  PROVES(FACT_##op, "instruction-information:vmread_vmwrite.base",		\
			 "instruction-information:vmread_vmwrite.index",			\
			 "instruction-information:vmread_vmwrite.scale",			\
			 "instruction-information:vmread_vmwrite.segment",			\
			 "instruction-information:vmread_vmwrite.address_size",			\
			 "instruction-information:vmread_vmwrite.register_form",		\
			 "instruction-information:vmread_vmwrite.base_invalid",			\
			 "instruction-information:vmread_vmwrite.index_invalid",		\
			 "instruction-information:vmread_vmwrite.reg2"), NEEDS(VMX), __VA_ARGS__);
#define EXIT_REASON_vmread	EXIT_VMREAD
#define EXIT_REASON_vmwrite	EXIT_VMWRITE
#define FACT_vmread		"exit-reasons:23"
#define FACT_vmwrite		"exit-reasons:25"

/* The field's encoding is in R11. */
MEMORY_OPERANDS(VMCS_ACCESS, vmread, "%r11, ", "")
SOME_MEMORY_OPERANDS(VMCS_ACCESS, vmwrite, "", ", %r11")

#define VMCS_REGISTER(name, insn, reason, reg1, reg2)						\
	DESCRIBES(name, insn, reason, 0,							\
		  INFORMATION_REGISTER | INFORMATION_REG1(reg1) | INFORMATION_REG2(reg2),	\
		  PROVES("instruction-information:vmread_vmwrite.reg1",				\
			 "instruction-information:vmread_vmwrite.reg2",				\
			 "instruction-information:vmread_vmwrite.register_form"), NEEDS(VMX));	\
	NO_DISPLACEMENT(name, NEEDS(VMX))

VMCS_REGISTER(vmread_rax_to_r15, "vmread %rax, %r15", VMREAD, GPR_R15, GPR_RAX);
VMCS_REGISTER(vmread_r8_to_rsp, "vmread %r8, %rsp", VMREAD, GPR_RSP, GPR_R8);
VMCS_REGISTER(vmwrite_rbp_to_r14, "vmwrite %rbp, %r14", VMWRITE, GPR_RBP, GPR_R14);
VMCS_REGISTER(vmwrite_r9_to_rdi, "vmwrite %r9, %rdi", VMWRITE, GPR_R9, GPR_RDI);

/* --- Table 30-9: INVEPT, INVVPID, INVPCID ----------------------------------------------------- */

#define INVALIDATION(op, suffix, operand, displacement, information, ...)			\
	DESCRIBES(op##_##suffix, #op " " operand, REASON_##op, displacement,			\
		  (information) | INFORMATION_REG2(GPR_R12),					\
		  PROVES(FACT_##op, "instruction-information:inv.base",				\
			 "instruction-information:inv.index",					\
			 "instruction-information:inv.scale",					\
			 "instruction-information:inv.segment",					\
			 "instruction-information:inv.address_size",				\
			 "instruction-information:inv.bit_10",					\
			 "instruction-information:inv.base_invalid",				\
			 "instruction-information:inv.index_invalid",				\
			 "instruction-information:inv.reg2"), NEEDS_##op, OPTIONS_##op __VA_ARGS__);
#define EXIT_REASON_invept	EXIT_INVEPT
#define EXIT_REASON_invvpid	EXIT_INVVPID
#define EXIT_REASON_invpcid	EXIT_INVPCID
#define FACT_invept		"exit-reasons:50"
#define FACT_invvpid		"exit-reasons:53"
#define FACT_invpcid		"exit-reasons:58", "nonroot-behavior:invpcid.exit"
#define NEEDS_invept		NEEDS(VMX, EPT_CAP(INVEPT))
#define NEEDS_invvpid		NEEDS(VMX, VPID_CAP(INVVPID))
#define NEEDS_invpcid		NEEDS(VMX, PROC1(INVLPG_EXITING), PROC2(ENABLE_INVPCID), \
				      CPU(INVPCID))
#define OPTIONS_invept
#define OPTIONS_invvpid
#define OPTIONS_invpcid		.control = CONTROL_PROC1_INVLPG_EXITING,	\
				.enable = CONTROL_PROC2_ENABLE_INVPCID,

MEMORY_OPERANDS(INVALIDATION, invept, "", ", %r12")
SOME_MEMORY_OPERANDS(INVALIDATION, invvpid, "", ", %r12")
SOME_MEMORY_OPERANDS(INVALIDATION, invpcid, "", ", %r12")

GUEST_INSTRUCTION(invpcid_all, "movl $2, %eax; movl $guest_memory, %ebx", "invpcid (%rbx), %rax");

CASE(invpcid_without_control, PROVES("nonroot-behavior:invpcid.exit"),
     NEEDS(VMX, PROC2(ENABLE_INVPCID), CPU(INVPCID)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_INVPCID);
	EXPECT(enter(guest_invpcid_all.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}

CASE(invpcid_not_enabled_is_ud, PROVES("nonroot-behavior:invpcid.ud"), NEEDS(VMX, CPU(INVPCID)))
{
	if (control_allowed(CONTROL_PROC1_INVLPG_EXITING))
		vmcs_set_control(CONTROL_PROC1_INVLPG_EXITING);
	EXPECT(enter(guest_invpcid_all.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

/* --- Table 30-10: SGDT, SIDT, LGDT, LIDT ------------------------------------------------------ */

#define DESCRIPTOR_TABLE(op, suffix, operand, displacement, information, ...)			\
	DESCRIBES(op##_##suffix, #op " " operand, GDTR_IDTR_ACCESS, displacement,		\
		  (information) | INFORMATION_IDENTITY(IDENTITY_##op),				\
		  PROVES("exit-reasons:46", "nonroot-behavior:desc_table",			\
			 "instruction-information:gdtr_idtr.base",				\
			 "instruction-information:gdtr_idtr.index",				\
			 "instruction-information:gdtr_idtr.scale",				\
			 "instruction-information:gdtr_idtr.segment",				\
			 "instruction-information:gdtr_idtr.address_size",			\
			 "instruction-information:gdtr_idtr.bit_10",				\
			 "instruction-information:gdtr_idtr.base_invalid",			\
			 "instruction-information:gdtr_idtr.index_invalid",			\
			 "instruction-information:gdtr_idtr.instruction"),			\
		  NEEDS(VMX, PROC2(DESCRIPTOR_TABLE_EXITING)),					\
		  .control = CONTROL_PROC2_DESCRIPTOR_TABLE_EXITING, __VA_ARGS__);
enum { IDENTITY_sgdt, IDENTITY_sidt, IDENTITY_lgdt, IDENTITY_lidt };

MEMORY_OPERANDS(DESCRIPTOR_TABLE, sgdt, "", "")
SOME_MEMORY_OPERANDS(DESCRIPTOR_TABLE, sidt, "", "")
SOME_MEMORY_OPERANDS(DESCRIPTOR_TABLE, lgdt, "", "")
SOME_MEMORY_OPERANDS(DESCRIPTOR_TABLE, lidt, "", "")

/* --- Table 30-11: SLDT, STR, LLDT, LTR -------------------------------------------------------- */

#define LDTR_TR(op, suffix, operand, displacement, information, ...)				\
	DESCRIBES(op##_##suffix, #op " " operand, LDTR_TR_ACCESS, displacement,			\
		  (information) | INFORMATION_IDENTITY(IDENTITY_##op),				\
		  PROVES("exit-reasons:47", "nonroot-behavior:desc_table",			\
			 "instruction-information:ldtr_tr.base",				\
			 "instruction-information:ldtr_tr.index",				\
			 "instruction-information:ldtr_tr.scale",				\
			 "instruction-information:ldtr_tr.segment",				\
			 "instruction-information:ldtr_tr.address_size",			\
			 "instruction-information:ldtr_tr.register_form",			\
			 "instruction-information:ldtr_tr.base_invalid",			\
			 "instruction-information:ldtr_tr.index_invalid",			\
			 "instruction-information:ldtr_tr.instruction"),			\
		  NEEDS(VMX, PROC2(DESCRIPTOR_TABLE_EXITING)),					\
		  .control = CONTROL_PROC2_DESCRIPTOR_TABLE_EXITING, __VA_ARGS__);
enum { IDENTITY_sldt, IDENTITY_str, IDENTITY_lldt, IDENTITY_ltr };

MEMORY_OPERANDS(LDTR_TR, sldt, "", "")
SOME_MEMORY_OPERANDS(LDTR_TR, str, "", "")
SOME_MEMORY_OPERANDS(LDTR_TR, lldt, "", "")
SOME_MEMORY_OPERANDS(LDTR_TR, ltr, "", "")

#define LDTR_TR_REGISTER(name, insn, op, reg1)							\
	DESCRIBES(name, insn, LDTR_TR_ACCESS, 0,						\
		  INFORMATION_REGISTER | INFORMATION_REG1(reg1) |				\
		  INFORMATION_IDENTITY(IDENTITY_##op),						\
		  PROVES("instruction-information:ldtr_tr.reg1",				\
			 "instruction-information:ldtr_tr.register_form",			\
			 "instruction-information:ldtr_tr.instruction"),			\
		  NEEDS(VMX, PROC2(DESCRIPTOR_TABLE_EXITING)),					\
		  .control = CONTROL_PROC2_DESCRIPTOR_TABLE_EXITING);				\
	NO_DISPLACEMENT(name, NEEDS(VMX, PROC2(DESCRIPTOR_TABLE_EXITING)))

LDTR_TR_REGISTER(sldt_rax, "sldt %rax", sldt, GPR_RAX);
LDTR_TR_REGISTER(sldt_r15d, "sldt %r15d", sldt, GPR_R15);
LDTR_TR_REGISTER(str_rdx, "str %rdx", str, GPR_RDX);
LDTR_TR_REGISTER(str_r8w, "str %r8w", str, GPR_R8);
LDTR_TR_REGISTER(lldt_si, "lldt %si", lldt, GPR_RSI);
LDTR_TR_REGISTER(lldt_r9, "lldt %r9w", lldt, GPR_R9);
LDTR_TR_REGISTER(ltr_cx, "ltr %cx", ltr, GPR_RCX);
LDTR_TR_REGISTER(ltr_r13, "ltr %r13w", ltr, GPR_R13);

GUEST_INSTRUCTION(sgdt_memory, "", "sgdt guest_memory");
GUEST_INSTRUCTION(lidt_memory, "sidt guest_memory", "lidt guest_memory");
GUEST_INSTRUCTION(str_rax, "", "str %rax");
GUEST_INSTRUCTION(lldt_0, "xorl %eax, %eax", "lldt %ax");

CASE(sgdt_without_control, PROVES("nonroot-behavior:desc_table"), NEEDS(VMX))
{
	struct table_pointer *stored = (struct table_pointer *)guest_memory;

	EXPECT(enter(guest_sgdt_memory.run), GUEST_DONE);
	EXPECT_EQ(stored->limit, vmread(GUEST_GDTR_LIMIT));
	EXPECT_EQ(stored->base, vmread(GUEST_GDTR_BASE));
}

CASE(lidt_without_control, PROVES("nonroot-behavior:desc_table"), NEEDS(VMX))
{
	u64 base = vmread(GUEST_IDTR_BASE);

	EXPECT(enter(guest_lidt_memory.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_IDTR_BASE), base);
}

CASE(str_without_control, PROVES("nonroot-behavior:desc_table"), NEEDS(VMX))
{
	EXPECT(enter(guest_str_rax.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rax, SELECTOR_TSS);
}

CASE(lldt_without_control, PROVES("nonroot-behavior:desc_table"), NEEDS(VMX))
{
	EXPECT(enter(guest_lldt_0.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}
