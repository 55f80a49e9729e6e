/*
 * Instructions whose exit describes their operands: the displacement in the exit qualification
 * (30.2.1 Basic VM-Exit Information) and registers, scale, address size and segment in the VM-exit
 * instruction information (30.2.5 Information for VM Exits Due to Instruction Execution, Tables
 * 30-9, 30-14 and 30-15). Those of SGDT, SLDT and their like are in exit-descriptor-tables.c,
 * RDRAND and other newer ones in exit-extensions.c.
 */
#include "cpu/features.h"
#include "exit-memory-operands.h"

BEFORE_EACH_CASE(vmx_start);

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
