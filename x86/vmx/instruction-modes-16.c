/*
 * The VMX instructions in 16-bit code of a guest: real-address mode and virtual-8086 mode.
 *
 * VMX operation itself needs protected mode, but its guests do not. In both modes all VMX
 * instructions but VMCALL and VMFUNC are unknown: #UD, and no VM exit of their own: 33.3 VMX
 * Instructions; 28.6 Unrestricted Guests. VMCALL exits as everywhere in a guest. The guests here
 * have one page for their code and data, and every exception exits, so they need no IDT.
 */
#include "ept/ept.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"
#include "vmx/vmx.h"

#define RIGHTS_CODE16	0x0093		/* as after reset */
#define RIGHTS_DATA16	0x0093
#define RIGHTS_V86	0x00f3		/* of all: 29.3.1.2 Checks on Guest Segment Registers */
#define SEGMENT		0x1000		/* a selector, and 16 times that is its base */
#define LINEAR		(SEGMENT * 16)

struct instruction {
	const u8 *code, *end;
	enum exit_reason exit;
};

/* --- guests --------------------------------------------------------------------------- */

/* Segments of 64 KBytes; the data segments get `rights`, too. */
static void set_segments(u64 base, u32 code_rights, u32 rights)
{
	u32 i;

	for (i = 0; i < 6; i++) {	/* in the order of the fields: ES CS SS DS FS GS */
		vmwrite(GUEST_ES_SELECTOR + 2 * i, SEGMENT);
		vmwrite(GUEST_ES_BASE + 2 * i, base);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, rights);
	}
	vmwrite(GUEST_CS_ACCESS_RIGHTS, code_rights);
}

static void leave_ia32e_mode(void)
{
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LME | EFER_LMA));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
	vmwrite(EXCEPTION_BITMAP, 0xffffffff);
	vmwrite(GUEST_RSP, 0xffe);
	vmwrite(GUEST_RIP, 0);
}

static u8 *code_page(const struct instruction *insn)
{
	u8 *page = page_alloc();

	memcpy(page, insn->code, insn->end - insn->code);
	return page;
}

/* Without paging, so that EPT maps the code; segments as an unrestricted guest may have them. */
static outcome_t enter_real_mode(const struct instruction *insn)
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	leave_ia32e_mode();
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(CR0_PG | CR0_PE));
	set_segments(LINEAR, RIGHTS_CODE16, RIGHTS_DATA16);
	ept_map(&ept, LINEAR, physical(code_page(insn)), ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
		LEVEL_PTE);
	ept_invalidate(&ept);
	return resume();
}

/* 32-bit paging maps nothing but the code; user mode, because virtual-8086 mode is at CPL 3. */
static outcome_t enter_v86_mode(const struct instruction *insn)
{
	u32 *directory = page_alloc(), *table = page_alloc();

	table[LINEAR / PAGE_SIZE] = physical(code_page(insn)) | PTE_P | PTE_RW | PTE_US;
	directory[0] = physical(table) | PTE_P | PTE_RW | PTE_US;
	leave_ia32e_mode();
	vmwrite(GUEST_CR3, physical(directory));
	set_segments(LINEAR, RIGHTS_V86, RIGHTS_V86);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM);
	return resume();
}

/* --- what they do --------------------------------------------------------------------- */

/* Bits 7:0 of the exiting event: the vector. */
static void expect_ud(outcome_t outcome)
{
	EXPECT(outcome, OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_UD);
	EXPECT_EQ(vmread(GUEST_RIP), 0);
}

static void expect_exit(const struct instruction *insn, outcome_t outcome)
{
	EXPECT(outcome, OUTCOME_EXIT(insn->exit));
	EXPECT_EQ(vmread(GUEST_RIP), 0);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), insn->end - insn->code);
}

static void check_real_mode(const struct case_def *this_case)
{
	expect_ud(enter_real_mode(this_case->row));
}

static void check_descriptor_table_exiting(const struct case_def *this_case)
{
	vmcs_set_control(CONTROL_PROC2_DESCRIPTOR_TABLE_EXITING);
	expect_ud(enter_real_mode(this_case->row));
}

static void check_v86_mode(const struct case_def *this_case)
{
	expect_ud(enter_v86_mode(this_case->row));
}

BEFORE_EACH_CASE(vmx_start);

/* --- the instructions ----------------------------------------------------------------- */

#define INSTRUCTION(name, reason, text)						\
	extern const u8 name##_code[], name##_end[];				\
	asm(".pushsection .rodata\n\t.code16\n"					\
	    #name "_code:\n\t" text "\n" #name "_end:\n\t.code64\n\t.popsection");	\
	static const struct instruction name##_row = { name##_code, name##_end, EXIT_##reason }

INSTRUCTION(vmxon, VMXON, "vmxon (0x100)");
INSTRUCTION(vmxoff, VMXOFF, "vmxoff");
INSTRUCTION(vmclear, VMCLEAR, "vmclear (0x100)");
INSTRUCTION(vmptrld, VMPTRLD, "vmptrld (0x100)");
INSTRUCTION(vmptrst, VMPTRST, "vmptrst (0x100)");
INSTRUCTION(vmread, VMREAD, "vmread %eax, %ecx");
INSTRUCTION(vmwrite, VMWRITE, "vmwrite %eax, %ecx");
INSTRUCTION(vmlaunch, VMLAUNCH, "vmlaunch");
INSTRUCTION(vmresume, VMRESUME, "vmresume");
INSTRUCTION(invept, INVEPT, "invept (0x100), %eax");
INSTRUCTION(invvpid, INVVPID, "invvpid (0x100), %eax");
INSTRUCTION(vmcall, VMCALL, "vmcall");
INSTRUCTION(vmfunc, VMFUNC, "vmfunc");

#define REAL_MODE	EPT, PROC2(UNRESTRICTED_GUEST)

#define UD_CASES(name, real_fact, v86_fact)					\
	CASE_RUN(name##_in_real_mode, check_real_mode,				\
		 PROVES("vmx-instructions:" #name "." real_fact,		\
			"nonroot-behavior:unrestricted.vmx_ud"), NEEDS(VMX, REAL_MODE), \
		 ROW(&name##_row));						\
	CASE_RUN(name##_in_v86_mode, check_v86_mode,				\
		 PROVES("vmx-instructions:" #name "." v86_fact), NEEDS(VMX), ROW(&name##_row))
/* Of the two that enter, 29.1 Basic VM-Entry Checks says the same. */
#define ENTRY_CASES(name)							\
	CASE_RUN(name##_in_real_mode, check_real_mode, PROVES("vmx-instructions:" #name ".ud",	\
		 "vm-entry-checks:basic.real_mode.ud"), NEEDS(VMX, REAL_MODE), ROW(&name##_row)); \
	CASE_RUN(name##_in_v86_mode, check_v86_mode, PROVES("vmx-instructions:" #name ".ud",	\
		 "vm-entry-checks:basic.v86.ud"), NEEDS(VMX), ROW(&name##_row))
/* 28.6: so are these, which are no VMX instructions and do exit elsewhere. */
INSTRUCTION(lldt, LDTR_TR_ACCESS, "lldt %ax");
INSTRUCTION(ltr, LDTR_TR_ACCESS, "ltr %ax");
INSTRUCTION(sldt, LDTR_TR_ACCESS, "sldt %ax");
INSTRUCTION(str, LDTR_TR_ACCESS, "str %ax");
#define SYSTEM_SEGMENT_CASE(name)						\
	CASE_RUN(name##_in_real_mode, check_descriptor_table_exiting,		\
		 PROVES("nonroot-behavior:unrestricted.vmx_ud"),		\
		 NEEDS(VMX, REAL_MODE, PROC2(DESCRIPTOR_TABLE_EXITING)), ROW(&name##_row))
SYSTEM_SEGMENT_CASE(lldt);
SYSTEM_SEGMENT_CASE(ltr);
SYSTEM_SEGMENT_CASE(sldt);
SYSTEM_SEGMENT_CASE(str);

UD_CASES(vmxon, "real_mode", "v86");
UD_CASES(vmxoff, "ud", "ud");
UD_CASES(vmclear, "ud", "ud");
UD_CASES(vmptrld, "ud", "ud");
UD_CASES(vmptrst, "ud", "ud");
UD_CASES(vmread, "ud", "ud");
UD_CASES(vmwrite, "ud", "ud");
ENTRY_CASES(vmlaunch);
ENTRY_CASES(vmresume);
UD_CASES(invept, "ud", "ud");
UD_CASES(invvpid, "ud", "ud");
/* As long as the control "enable VM functions" is 0, in every mode. */
UD_CASES(vmfunc, "disabled", "disabled");

CASE(vmcall_in_real_mode, PROVES("vmx-instructions:vmcall.nonroot"), NEEDS(VMX, REAL_MODE))
{
	expect_exit(&vmcall_row, enter_real_mode(&vmcall_row));
}

CASE(vmcall_in_v86_mode, PROVES("vmx-instructions:vmcall.nonroot"), NEEDS(VMX))
{
	expect_exit(&vmcall_row, enter_v86_mode(&vmcall_row));
}

CASE(vmfunc_exits_in_real_mode, PROVES("vmx-instructions:vmfunc.function_disabled"),
     NEEDS(VMX, REAL_MODE, PROC2(ENABLE_VM_FUNCTIONS)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	expect_exit(&vmfunc_row, enter_real_mode(&vmfunc_row));
}

CASE(vmfunc_exits_in_v86_mode, PROVES("vmx-instructions:vmfunc.function_disabled"),
     NEEDS(VMX, PROC2(ENABLE_VM_FUNCTIONS)))
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, 0);
	expect_exit(&vmfunc_row, enter_v86_mode(&vmfunc_row));
}

/* That the guests get so far as to execute: what is no VMX instruction works there. */
INSTRUCTION(hlt, HLT, "hlt");

CASE(hlt_exits_in_real_mode, PROVES("nonroot-behavior:unrestricted.real"), NEEDS(VMX, REAL_MODE))
{
	vmcs_set_control(CONTROL_PROC1_HLT_EXITING);
	expect_exit(&hlt_row, enter_real_mode(&hlt_row));
}
