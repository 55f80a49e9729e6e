/*
 * Instructions that are many in one, by EAX, and those that are new versions of old ones: ENCLS,
 * ENCLV and PCONFIG exit by a bitmap of their leaves, in which bit 63 stands for all leaves from
 * 63 on; PBNDKB and PCONFIG are #UD until a control allows them; LOADIWKEY says which XMM
 * registers it was given; WRMSRNS exits as WRMSR does, but for the exit qualification. 28.1.3,
 * 28.3, 30.2.1, Table 30-16.
 */
#include "cpu/features.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_INSTRUCTION(encls, "movl guest_value, %eax", ".byte 0x0f, 0x01, 0xcf");
GUEST_INSTRUCTION(enclv, "movl guest_value, %eax", ".byte 0x0f, 0x01, 0xc0");
GUEST_INSTRUCTION(pconfig, "movl guest_value, %eax", ".byte 0x0f, 0x01, 0xc5");
GUEST_INSTRUCTION(pbndkb, "leaq guest_memory, %rbx; leaq guest_memory + 256, %rcx",
		  ".byte 0x0f, 0x01, 0xc7");
GUEST_INSTRUCTION(wrmsr, "movl $0x174, %ecx; xorl %eax, %eax; xorl %edx, %edx", "wrmsr");
GUEST_INSTRUCTION(wrmsrns, "movl $0x174, %ecx; xorl %eax, %eax; xorl %edx, %edx",
		  ".byte 0x0f, 0x01, 0xc6");

/* --- bitmaps of leaves -------------------------------------------------------------------- */

struct leaves {
	const struct guest_code *code;
	enum control control;
	u32 bitmap;			/* the field */
	enum exit_reason reason;
};

static void run_leaf(const struct leaves *leaves, u64 bitmap, u32 leaf)
{
	vmwrite(leaves->bitmap, bitmap);
	guest_value = leaf;
}

static void expect_leaf_exits(const struct leaves *leaves, u64 bitmap, u32 leaf)
{
	run_leaf(leaves, bitmap, leaf);
	EXPECT(enter(leaves->code->run), OUTCOME_EXIT(leaves->reason));
	EXPECT_FAULT_LIKE_EXIT(*leaves->code);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
}

/* Leaves that no processor has are #GP(0), where they do not exit. */
static void expect_leaf_runs(const struct leaves *leaves, u64 bitmap, u32 leaf)
{
	run_leaf(leaves, bitmap, leaf);
	EXPECT(enter(leaves->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

static void leaves_exit(const struct case_def *this_case)
{
	const struct leaves *leaves = this_case->row;
	u32 leaf;

	vmcs_set_control(leaves->control);
	for (leaf = 0; leaf < 64; leaf++)
		expect_leaf_exits(leaves, BIT(leaf), leaf);
	expect_leaf_exits(leaves, BIT(63), 64);
	expect_leaf_exits(leaves, BIT(63), 0x80000000);
	expect_leaf_exits(leaves, BIT(63), 0xffffffff);
	expect_leaf_runs(leaves, ~BIT(62), 62);
	expect_leaf_runs(leaves, ~BIT(63), 63);
	expect_leaf_runs(leaves, ~BIT(63), 64);
	expect_leaf_runs(leaves, ~BIT(63), 0xffffffff);
}

static const struct leaves encls = { &guest_encls, CONTROL_PROC2_ENABLE_ENCLS_EXITING,
				     ENCLS_EXITING_BITMAP, EXIT_ENCLS };
static const struct leaves enclv = { &guest_enclv, CONTROL_PROC2_ENABLE_ENCLV_EXITING,
				     ENCLV_EXITING_BITMAP, EXIT_ENCLV };
static const struct leaves pconfig = { &guest_pconfig, CONTROL_PROC2_ENABLE_PCONFIG,
				       PCONFIG_EXITING_BITMAP, EXIT_PCONFIG };

CASE_RUN(encls_leaves, leaves_exit, PROVES("exit-reasons:60", "nonroot-behavior:encls"),
	 NEEDS(VMX, CPU(SGX), PROC2(ENABLE_ENCLS_EXITING)), ROW(&encls));
CASE_RUN(enclv_leaves, leaves_exit, PROVES("exit-reasons:70"),
	 NEEDS(VMX, CPU(SGX), PROC2(ENABLE_ENCLV_EXITING)), ROW(&enclv));
CASE_RUN(pconfig_leaves, leaves_exit, PROVES("exit-reasons:65", "nonroot-behavior:pconfig.exit"),
	 NEEDS(VMX, CPU(PCONFIG), PROC2(ENABLE_PCONFIG)), ROW(&pconfig));

/* --- #UD until a control allows them ------------------------------------------------------ */

static void expect_ud(const struct guest_code *code)
{
	EXPECT(enter(code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
}

CASE(pconfig_without_the_control, PROVES("nonroot-behavior:pconfig.ud"), NEEDS(VMX, CPU(PCONFIG)))
{
	for (guest_value = 0; guest_value < 65; guest_value++)
		expect_ud(&guest_pconfig);
}

/* A field that is not active does not allow it. */
CASE(pbndkb_without_the_control, PROVES("nonroot-behavior:pbndkb.ud"),
     NEEDS(VMX, PROC3(ENABLE_PBNDKB)))
{
	expect_ud(&guest_pbndkb);
	vmcs_set_control(CONTROL_PROC3_ENABLE_PBNDKB);
	vmcs_clear_control(CONTROL_PROC1_ACTIVATE_TERTIARY_CONTROLS);
	expect_ud(&guest_pbndkb);
}

/* --- LOADIWKEY ---------------------------------------------------------------------------- */

#define LOADIWKEY(rex, modrm)	".byte 0xf3, " rex "0x0f, 0x38, 0xdc, " modrm
GUEST_INSTRUCTION(loadiwkey_1_2, "xorl %eax, %eax", LOADIWKEY("", "0xca"));
GUEST_INSTRUCTION(loadiwkey_7_0, "xorl %eax, %eax", LOADIWKEY("", "0xf8"));
GUEST_INSTRUCTION(loadiwkey_15_8, "xorl %eax, %eax", LOADIWKEY("0x45, ", "0xf8"));

struct key_operands {
	const struct guest_code *code;
	u32 first, second;		/* XMM registers */
};

/* Nothing but the two registers is defined. */
static void loadiwkey_exits(const struct case_def *this_case)
{
	const struct key_operands *row = this_case->row;

	vmcs_set_control(CONTROL_PROC3_LOADIWKEY_EXITING);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(CR0_TS | CR0_EM));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_KL | CR4_OSFXSR);
	REQUIRE(enter(row->code->run), OUTCOME_EXIT(EXIT_LOADIWKEY));
	EXPECT_FAULT_LIKE_EXIT(*row->code);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
	EXPECT_INFORMATION(INFORMATION_REG1(row->first) | INFORMATION_REG2(row->second));
}

#define KEY_CASE(one, two)							\
	static const struct key_operands keys_##one##_##two = { &guest_loadiwkey_##one##_##two,	\
								one, two };	\
	CASE_RUN(loadiwkey_of_xmm##one##_and_xmm##two, loadiwkey_exits,		\
		 PROVES("exit-reasons:69", "nonroot-behavior:loadiwkey",	\
			"instruction-information:loadiwkey.reg1",		\
			"instruction-information:loadiwkey.reg2"),		\
		 NEEDS(VMX, CPU(KL), PROC3(LOADIWKEY_EXITING)), ROW(&keys_##one##_##two))
KEY_CASE(1, 2);
KEY_CASE(7, 0);
KEY_CASE(15, 8);

/* --- WRMSRNS: exit reason 32, that of WRMSR ----------------------------------------------- */

CASE(wrmsrns_has_a_qualification_of_its_own, PROVES("exit-qualifications:wrmsr.wrmsrns"),
     NEEDS(VMX, CPU(WRMSRNS)))
{
	vmcs_clear_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	REQUIRE(enter(guest_wrmsrns.run), OUTCOME_EXIT(EXIT_WRMSR));
	EXPECT_FAULT_LIKE_EXIT(guest_wrmsrns);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 1);
	REQUIRE(enter(guest_wrmsr.run), OUTCOME_EXIT(EXIT_WRMSR));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
}
