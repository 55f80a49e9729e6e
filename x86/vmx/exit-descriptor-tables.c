/*
 * "Descriptor-table exiting": the accesses to GDTR and IDTR, LDTR and TR, and what their exits say
 * of the operand: the displacement in the exit qualification (30.2.1 Basic VM-Exit Information),
 * registers, scale, address size and segment in the VM-exit instruction information (30.2.5
 * Information for VM Exits Due to Instruction Execution, Tables 30-10 and 30-11). Two bits of it
 * select the instruction, for four share an exit reason.
 */
#include "exit-memory-operands.h"

BEFORE_EACH_CASE(vmx_start);

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
