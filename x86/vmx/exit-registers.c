/*
 * Accesses to control registers and debug registers: 28.1.3 Instructions That Cause VM Exits
 * Conditionally, 28.3 Changes to Instruction Behavior in VMX Non-Root Operation, and the exit
 * qualifications of Tables 30-3 and 30-4.
 *
 * CR0 and CR4 have a guest/host mask and a read shadow: a bit that is 1 in the mask belongs to the
 * host, is read from the shadow, and may not be written to another value than the shadow's without
 * an exit. CR3 and CR8 have controls, CR3 also a list of values that may be loaded without an exit.
 */
#include "cpu/features.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define GPRS(X) \
	X(rax, RAX) X(rcx, RCX) X(rdx, RDX) X(rbx, RBX) X(rsp, RSP) X(rbp, RBP) X(rsi, RSI)	\
	X(rdi, RDI) X(r8, R8) X(r9, R9) X(r10, R10) X(r11, R11) X(r12, R12) X(r13, R13)		\
	X(r14, R14) X(r15, R15)

/* --- CR0 and CR4: MOV to the register -------------------------------------------- */

GUEST_INSTRUCTION(mov_to_cr0, "movq guest_value, %rcx", "mov %rcx, %cr0");
GUEST_INSTRUCTION(mov_to_cr4, "movq guest_value, %r9", "mov %r9, %cr4");
GUEST_INSTRUCTION(mov_from_cr0, "", "mov %cr0, %rdx");
GUEST_INSTRUCTION(mov_from_cr4, "", "mov %cr4, %r10");

/*
 * The guest writes the value that the register has, with `flipped` inverted. `shadow_differs` are
 * the bits in which the read shadow is other than the register.
 */
struct masked_write {
	u64 mask, shadow_differs, flipped;
	bool exits;
};

static void writes_cr0(const struct case_def *this_case)
{
	const struct masked_write *write = this_case->row;
	u64 cr0 = vmread(GUEST_CR0);

	vmwrite(CR0_GUEST_HOST_MASK, write->mask);
	vmwrite(CR0_READ_SHADOW, cr0 ^ write->shadow_differs);
	guest_value = cr0 ^ write->flipped;
	if (!write->exits) {
		audit_guest_changes(GUEST_CR0);
		EXPECT(enter(guest_mov_to_cr0.run), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_DONE);
		/* 28.3: bits of the mask keep their value. */
		EXPECT_EQ(vmread(GUEST_CR0), cr0 ^ (write->flipped & ~write->mask));
		return;
	}
	REQUIRE(enter(guest_mov_to_cr0.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
	EXPECT_FAULT_LIKE_EXIT(guest_mov_to_cr0);
	EXPECT_QUALIFICATION(QUALIFICATION_MOV_TO_CR(0, GPR_RCX));
	EXPECT_EQ(vmread(GUEST_CR0), cr0);
}

#define WRITES_CR0(name, ...)						\
	static const struct masked_write row_cr0_##name = { __VA_ARGS__ };	\
	CASE_RUN(mov_to_cr0_##name, writes_cr0,				\
		 PROVES("exit-reasons:28", "nonroot-behavior:mov_to_cr0"), NEEDS(VMX), \
		 ROW(&row_cr0_##name))

WRITES_CR0(without_mask, 0, CR0_TS, CR0_TS | CR0_AM, false);
WRITES_CR0(of_unmasked_bits, CR0_TS, 0, CR0_AM | CR0_WP, false);
WRITES_CR0(like_the_shadow, CR0_TS | CR0_AM, 0, 0, false);
WRITES_CR0(unlike_the_shadow, CR0_TS, 0, CR0_TS, true);
WRITES_CR0(like_the_shadow_not_the_register, CR0_TS | CR0_WP, CR0_TS, CR0_TS, false);
WRITES_CR0(like_the_register_not_the_shadow, CR0_AM, CR0_AM, 0, true);
WRITES_CR0(of_masked_ne, ~0ull, 0, CR0_NE, true);

static void writes_cr4(const struct case_def *this_case)
{
	const struct masked_write *write = this_case->row;
	u64 cr4 = vmread(GUEST_CR4);

	vmwrite(CR4_GUEST_HOST_MASK, write->mask);
	vmwrite(CR4_READ_SHADOW, cr4 ^ write->shadow_differs);
	guest_value = cr4 ^ write->flipped;
	if (!write->exits) {
		audit_guest_changes(GUEST_CR4);
		EXPECT(enter(guest_mov_to_cr4.run), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_DONE);
		EXPECT_EQ(vmread(GUEST_CR4), cr4 ^ (write->flipped & ~write->mask));
		return;
	}
	REQUIRE(enter(guest_mov_to_cr4.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
	EXPECT_FAULT_LIKE_EXIT(guest_mov_to_cr4);
	EXPECT_QUALIFICATION(QUALIFICATION_MOV_TO_CR(4, GPR_R9));
	EXPECT_EQ(vmread(GUEST_CR4), cr4);
}

#define WRITES_CR4(name, ...)						\
	static const struct masked_write row_cr4_##name = { __VA_ARGS__ };	\
	CASE_RUN(mov_to_cr4_##name, writes_cr4,				\
		 PROVES("exit-reasons:28", "nonroot-behavior:mov_to_cr4"), NEEDS(VMX), \
		 ROW(&row_cr4_##name))

WRITES_CR4(without_mask, 0, CR4_DE, CR4_DE | CR4_TSD, false);
WRITES_CR4(of_unmasked_bits, CR4_DE, 0, CR4_TSD | CR4_PCE, false);
WRITES_CR4(like_the_shadow, CR4_DE | CR4_TSD, 0, 0, false);
WRITES_CR4(unlike_the_shadow, CR4_DE, 0, CR4_DE, true);
WRITES_CR4(like_the_shadow_not_the_register, CR4_DE | CR4_VMXE, CR4_VMXE, CR4_VMXE, false);
WRITES_CR4(like_the_register_not_the_shadow, CR4_VMXE, CR4_VMXE, 0, true);
/* A bit that would be #GP without the mask: the exit comes first (28.1.1). */
WRITES_CR4(of_masked_reserved_bits, ~0ull, 0, BIT(63), true);

/* 26.8 Restrictions on VMX Operation: an unmasked bit may not leave its fixed value. */
CASE(mov_to_cr0_of_fixed_bit, PROVES("nonroot-behavior:mov_to_cr0.fixed"), NEEDS(VMX))
{
	guest_value = vmread(GUEST_CR0) & ~CR0_NE;
	EXPECT(enter(guest_mov_to_cr0.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

CASE(mov_to_cr4_of_fixed_bit, PROVES("nonroot-behavior:mov_to_cr4.fixed"), NEEDS(VMX))
{
	guest_value = vmread(GUEST_CR4) & ~CR4_VMXE;
	EXPECT(enter(guest_mov_to_cr4.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

/* --- CR0 and CR4: reads ------------------------------------------------------------ */

#define MASK_FOR_READ	0xf0f0f0f0f0f0f0f0
#define SHADOW_FOR_READ	0xa5a5a5a5a5a5a5a5

CASE(mov_from_cr0_mixes_register_and_shadow, PROVES("nonroot-behavior:mov_from_cr0"), NEEDS(VMX))
{
	u64 cr0 = vmread(GUEST_CR0);

	vmwrite(CR0_GUEST_HOST_MASK, MASK_FOR_READ);
	vmwrite(CR0_READ_SHADOW, SHADOW_FOR_READ);
	EXPECT(enter(guest_mov_from_cr0.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rdx, (cr0 & ~MASK_FOR_READ) | (SHADOW_FOR_READ & MASK_FOR_READ));
}

CASE(mov_from_cr4_mixes_register_and_shadow, PROVES("nonroot-behavior:mov_from_cr4"), NEEDS(VMX))
{
	u64 cr4 = vmread(GUEST_CR4);

	vmwrite(CR4_GUEST_HOST_MASK, MASK_FOR_READ);
	vmwrite(CR4_READ_SHADOW, SHADOW_FOR_READ);
	EXPECT(enter(guest_mov_from_cr4.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->r10, (cr4 & ~MASK_FOR_READ) | (SHADOW_FOR_READ & MASK_FOR_READ));
}

GUEST_INSTRUCTION(smsw16, "movq $-1, %rsi", "smsww %si");
GUEST_INSTRUCTION(smsw32, "movq $-1, %rsi", "smswl %esi");
GUEST_INSTRUCTION(smsw_memory, "movq $-1, guest_value", "smsw guest_value");

static u64 masked_cr0(void)
{
	vmwrite(CR0_GUEST_HOST_MASK, MASK_FOR_READ);
	vmwrite(CR0_READ_SHADOW, SHADOW_FOR_READ);
	return (vmread(GUEST_CR0) & ~MASK_FOR_READ) | (SHADOW_FOR_READ & MASK_FOR_READ);
}

CASE(smsw_to_16_bits, PROVES("nonroot-behavior:smsw"), NEEDS(VMX))
{
	u64 cr0 = masked_cr0();

	EXPECT(enter(guest_smsw16.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rsi, ~0xffffull | (cr0 & 0xffff));
}

CASE(smsw_to_32_bits, PROVES("nonroot-behavior:smsw"), NEEDS(VMX))
{
	u64 cr0 = masked_cr0();

	EXPECT(enter(guest_smsw32.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rsi, (u32)cr0);
}

CASE(smsw_to_memory, PROVES("nonroot-behavior:smsw"), NEEDS(VMX))
{
	u64 cr0 = masked_cr0();

	EXPECT(enter(guest_smsw_memory.run), GUEST_DONE);
	EXPECT_EQ(guest_value, ~0xffffull | (cr0 & 0xffff));
}

/* --- CLTS ---------------------------------------------------------------------------- */

GUEST_INSTRUCTION(clts, "", "clts");

CASE(clts_exits, PROVES("nonroot-behavior:clts.exit", "exit-qualifications:cr.access_type"),
     NEEDS(VMX))
{
	vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
	vmwrite(CR0_READ_SHADOW, CR0_TS);
	REQUIRE(enter(guest_clts.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
	EXPECT_FAULT_LIKE_EXIT(guest_clts);
	EXPECT_QUALIFICATION(QUALIFICATION_CLTS);
}

CASE(clts_with_shadow_0_does_nothing, PROVES("nonroot-behavior:clts.noop"), NEEDS(VMX))
{
	vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_TS);
	EXPECT(enter(guest_clts.run), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CR0) & CR0_TS, CR0_TS);
}

CASE(clts_without_mask_clears_ts, PROVES("nonroot-behavior:clts.plain"), NEEDS(VMX))
{
	vmwrite(CR0_READ_SHADOW, CR0_TS);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_TS);
	audit_guest_changes(GUEST_CR0);
	EXPECT(enter(guest_clts.run), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CR0) & CR0_TS, 0);
}

/* --- LMSW ---------------------------------------------------------------------------- */

GUEST_INSTRUCTION(lmsw, "movq guest_value, %rbx", "lmsw %bx");
GUEST_INSTRUCTION(lmsw_memory, "movl $guest_value, %edi", "lmsw (%rdi)");
GUEST_INSTRUCTION(lmsw_unmapped, "movabsq $0x500001000, %rdi", "lmsw (%rdi)");

/* The guest loads `source` into CR0[3:0]; CR0.PE is 1, MP, EM and TS are as `cr0_3_1` says. */
struct lmsw {
	u64 mask, shadow, cr0_3_1, source;
	bool exits;
	u64 result;	/* CR0[3:0] when it does not exit */
};

static void loads_msw(const struct case_def *this_case)
{
	const struct lmsw *row = this_case->row;

	vmwrite(GUEST_CR0, (vmread(GUEST_CR0) & ~BITS(3, 1)) | row->cr0_3_1);
	vmwrite(CR0_GUEST_HOST_MASK, row->mask);
	vmwrite(CR0_READ_SHADOW, row->shadow);
	guest_value = row->source;
	if (!row->exits) {
		audit_guest_changes(GUEST_CR0);
		EXPECT(enter(guest_lmsw.run), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_DONE);
		EXPECT_EQ(vmread(GUEST_CR0) & BITS(3, 0), row->result);
		return;
	}
	REQUIRE(enter(guest_lmsw.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
	EXPECT_FAULT_LIKE_EXIT(guest_lmsw);
	EXPECT_QUALIFICATION(QUALIFICATION_LMSW_REGISTER(row->source));
}

#define LMSW(name, fact, ...)						\
	static const struct lmsw row_lmsw_##name = { __VA_ARGS__ };	\
	CASE_RUN(lmsw_##name, loads_msw,				\
		 PROVES(fact, "exit-qualifications:cr.lmsw_source"),	\
		 NEEDS(VMX), ROW(&row_lmsw_##name))

LMSW(of_masked_pe_exits, "nonroot-behavior:lmsw.pe", CR0_PE, 0, 0, CR0_PE, true, 0);
LMSW(clearing_masked_pe_is_ignored, "nonroot-behavior:lmsw.pe", CR0_PE, CR0_PE, 0, 0, false,
     CR0_PE);
LMSW(setting_masked_pe_as_in_shadow, "nonroot-behavior:lmsw.pe",
     CR0_PE, CR0_PE, 0, CR0_PE, false, CR0_PE);
LMSW(of_masked_ts_exits, "nonroot-behavior:lmsw.bits", CR0_TS, 0, 0, 0xcd09, true, 0);
LMSW(of_masked_mp_exits, "nonroot-behavior:lmsw.bits", CR0_MP, CR0_MP, CR0_MP, 1, true, 0);
LMSW(of_masked_em_exits, "nonroot-behavior:lmsw.bits", CR0_EM, 0, 0, 5, true, 0);
LMSW(like_the_shadow_keeps_masked_bits, "nonroot-behavior:lmsw.keep",
     CR0_TS, CR0_TS, 0, CR0_TS | CR0_MP | CR0_PE, false, CR0_MP | CR0_PE);
LMSW(without_mask_loads_bits_3_to_1, "nonroot-behavior:lmsw.keep",
     0, 0, CR0_MP, CR0_TS | CR0_EM, false, CR0_TS | CR0_EM | CR0_PE);

CASE(lmsw_from_memory_exits,
     PROVES("exit-qualifications:cr.lmsw_operand", "exit-qualifications:cr.lmsw_source"),
     NEEDS(VMX))
{
	vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
	guest_value = 0xffff8009;
	REQUIRE(enter(guest_lmsw_memory.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
	EXPECT_FAULT_LIKE_EXIT(guest_lmsw_memory);
	EXPECT_QUALIFICATION(QUALIFICATION_LMSW_MEMORY(0x8009));
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), (u64)&guest_value);
}

CASE(lmsw_operand_fault_comes_first, PROVES("nonroot-behavior:prio.operand"), NEEDS(VMX))
{
	vmwrite(CR0_GUEST_HOST_MASK, CR0_TS | CR0_MP | CR0_EM | CR0_PE);
	EXPECT(enter(guest_lmsw_unmapped.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, 0));
}

/* --- accesses that exit by a control --------------------------------------------------- */

struct access {
	const struct guest_code *code;
	enum control control;
	u64 qualification;
};

static void exits_by_control(const struct case_def *this_case)
{
	const struct access *access = this_case->row;
	enum exit_reason reason = access->control == CONTROL_PROC1_MOV_DR_EXITING ?
		EXIT_MOV_DR : EXIT_CONTROL_REGISTER_ACCESS;

	vmcs_set_control(access->control);
	REQUIRE(enter(access->code->run), OUTCOME_EXIT(reason));
	EXPECT_FAULT_LIKE_EXIT(*access->code);
	EXPECT_QUALIFICATION(access->qualification);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

#define ACCESS(name, insn, control_, qualification_, ...)		\
	GUEST_INSTRUCTION(name, "", insn);				\
	static const struct access row_##name = {			\
		&guest_##name, CONTROL_PROC1_##control_, qualification_ }; \
	CASE_RUN(name##_exits, exits_by_control, PROVES(__VA_ARGS__),	\
		 NEEDS(VMX, PROC1(control_)), ROW(&row_##name))

/* Each general-purpose register as the source of a load of CR3, and the destination of a store. */
#define CR3_BY(gpr, GPR)							\
	ACCESS(mov_##gpr##_to_cr3, "mov %" #gpr ", %cr3", CR3_LOAD_EXITING,	\
	       QUALIFICATION_MOV_TO_CR(3, GPR_##GPR), "exit-qualifications:cr.gpr",	\
	       "nonroot-behavior:mov_to_cr3.zero_targets");			\
	ACCESS(mov_cr3_to_##gpr, "mov %cr3, %" #gpr, CR3_STORE_EXITING,	\
	       QUALIFICATION_MOV_FROM_CR(3, GPR_##GPR), "exit-qualifications:cr.gpr",	\
	       "nonroot-behavior:mov_from_cr3");
GPRS(CR3_BY)

ACCESS(mov_to_cr8, "mov %rdi, %cr8", CR8_LOAD_EXITING, QUALIFICATION_MOV_TO_CR(8, GPR_RDI),
       "nonroot-behavior:mov_cr8", "exit-qualifications:cr.number");
ACCESS(mov_from_cr8, "mov %cr8, %r8", CR8_STORE_EXITING, QUALIFICATION_MOV_FROM_CR(8, GPR_R8),
       "nonroot-behavior:mov_cr8", "exit-qualifications:cr.number");

#define DR_BY(dr, gpr, GPR)							\
	ACCESS(mov_to_dr##dr, "mov %" #gpr ", %dr" #dr, MOV_DR_EXITING,		\
	       QUALIFICATION_MOV_TO_DR(dr, GPR_##GPR), "exit-reasons:29",	\
	       "exit-qualifications:dr.number", "exit-qualifications:dr.direction");	\
	ACCESS(mov_from_dr##dr, "mov %dr" #dr ", %" #gpr, MOV_DR_EXITING,	\
	       QUALIFICATION_MOV_FROM_DR(dr, GPR_##GPR), "exit-reasons:29",	\
	       "exit-qualifications:dr.number", "exit-qualifications:dr.direction")

DR_BY(0, rax, RAX);
DR_BY(1, rsp, RSP);
DR_BY(2, rdi, RDI);
DR_BY(3, r8, R8);
DR_BY(6, r12, R12);
DR_BY(7, r15, R15);

#define DR3_BY(gpr, GPR)							\
	ACCESS(mov_##gpr##_to_dr3, "mov %" #gpr ", %dr3", MOV_DR_EXITING,	\
	       QUALIFICATION_MOV_TO_DR(3, GPR_##GPR), "exit-qualifications:dr.gpr");
GPRS(DR3_BY)

/* --- the same without the control ------------------------------------------------------- */

static void require_control_off(enum control control)
{
	if (vmcs_has_control(control))
		case_skip("the 0-setting of \"%s\"", control_words(control));
}

GUEST_INSTRUCTION(load_cr3, "movq guest_value, %rdx", "mov %rdx, %cr3");

CASE(mov_to_cr3_without_control, PROVES("nonroot-behavior:mov_to_cr3"), NEEDS(VMX))
{
	require_control_off(CONTROL_PROC1_CR3_LOAD_EXITING);
	guest_value = read_cr3() ^ BIT(3);
	audit_guest_changes(GUEST_CR3);
	EXPECT(enter(guest_load_cr3.run), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CR3), guest_value);
}

CASE(mov_from_cr3_without_control, PROVES("nonroot-behavior:mov_from_cr3"), NEEDS(VMX))
{
	require_control_off(CONTROL_PROC1_CR3_STORE_EXITING);
	EXPECT(enter(guest_mov_cr3_to_rdx.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rdx, read_cr3());
}

GUEST_INSTRUCTION(load_cr8, "movl $9, %eax", "mov %rax, %cr8");

/* Without "use TPR shadow" it is the processor's own task-priority register. */
CASE(mov_to_cr8_without_control, PROVES("nonroot-behavior:mov_cr8"), NEEDS(VMX))
{
	require_control_off(CONTROL_PROC1_CR8_LOAD_EXITING);
	EXPECT(enter(guest_load_cr8.run), GUEST_DONE);
	EXPECT_EQ(read_cr8(), 9);
}

CASE(mov_from_cr8_without_control, PROVES("nonroot-behavior:mov_cr8"), NEEDS(VMX))
{
	require_control_off(CONTROL_PROC1_CR8_STORE_EXITING);
	write_cr8(7);
	EXPECT(enter(guest_mov_from_cr8.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->r8, 7);
}

GUEST_INSTRUCTION(copy_dr, "movabsq $0x123456789a, %rcx; mov %rcx, %dr2", "mov %dr2, %rbx");

CASE(mov_dr_without_control, PROVES("exit-reasons:29"), NEEDS(VMX))
{
	require_control_off(CONTROL_PROC1_MOV_DR_EXITING);
	EXPECT(enter(guest_copy_dr.run), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rbx, 0x123456789a);
}

/* --- CR3-target values -------------------------------------------------------------------- */

/* IA32_VMX_MISC, bits 24:16: A.6 Miscellaneous Data. */
static bool need_targets(u64 count)
{
	return FIELD(capabilities()->misc, 24, 16) >= count;
}

#define CR3_TARGETS(count) { #count " CR3-target values", need_targets, count, 0 }

/* The guest loads CR3 with bit 3 inverted; the target values are others but number `match`. */
struct cr3_targets {
	u32 count, match;
	bool exits;
};

static void loads_cr3_with_targets(const struct case_def *this_case)
{
	const struct cr3_targets *targets = this_case->row;
	u32 i;

	vmcs_set_control(CONTROL_PROC1_CR3_LOAD_EXITING);
	guest_value = read_cr3() ^ BIT(3);
	vmwrite(CR3_TARGET_COUNT, targets->count);
	for (i = 0; i < 4 && need_targets(i + 1); i++)
		vmwrite(CR3_TARGET_VALUE_0 + 2 * i, i == targets->match ? guest_value : read_cr3());
	if (targets->exits) {
		REQUIRE(enter(guest_load_cr3.run), OUTCOME_EXIT(EXIT_CONTROL_REGISTER_ACCESS));
		EXPECT_FAULT_LIKE_EXIT(guest_load_cr3);
		EXPECT_QUALIFICATION(QUALIFICATION_MOV_TO_CR(3, GPR_RDX));
	} else {
		audit_guest_changes(GUEST_CR3);
		EXPECT(enter(guest_load_cr3.run), GUEST_DONE);
		EXPECT_EQ(vmread(GUEST_CR3), guest_value);
	}
}

#define CR3_TARGET(name, need, ...)						\
	static const struct cr3_targets row_target_##name = { __VA_ARGS__ };	\
	CASE_RUN(mov_to_cr3_##name, loads_cr3_with_targets,			\
		 PROVES("nonroot-behavior:mov_to_cr3"),				\
		 NEEDS(VMX, PROC1(CR3_LOAD_EXITING), CR3_TARGETS(need)), ROW(&row_target_##name))

CR3_TARGET(of_the_only_target, 1, 1, 0, false);
CR3_TARGET(of_target_0_of_4, 4, 4, 0, false);
CR3_TARGET(of_target_3_of_4, 4, 4, 3, false);
CR3_TARGET(of_no_target, 4, 4, 9, true);
CR3_TARGET(of_target_beyond_the_count, 2, 1, 1, true);
CR3_TARGET(of_target_with_count_0, 1, 0, 0, true);

/* --- priority -------------------------------------------------------------------------------- */

/* 28.1.3, MOV DR: the exit comes before #GP by privilege level. */
CASE(mov_dr_exits_at_cpl_3, PROVES("nonroot-behavior:prio.mov_dr"),
     NEEDS(VMX, PROC1(MOV_DR_EXITING)))
{
	guest_to_user_mode();
	vmcs_set_control(CONTROL_PROC1_MOV_DR_EXITING);
	REQUIRE(enter(guest_mov_to_dr0.run), OUTCOME_EXIT(EXIT_MOV_DR));
	EXPECT_FAULT_LIKE_EXIT(guest_mov_to_dr0);
	EXPECT_QUALIFICATION(QUALIFICATION_MOV_TO_DR(0, GPR_RAX));
}

GUEST_INSTRUCTION(mov_dr4, "", "mov %dr4, %rax");

/* ... and before the #UD that CR4.DE = 1 makes of DR4. */
CASE(mov_dr4_exits, PROVES("nonroot-behavior:prio.mov_dr"), NEEDS(VMX, PROC1(MOV_DR_EXITING)))
{
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_DE);
	EXPECT(enter(guest_mov_dr4.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_UD);
	vmcs_set_control(CONTROL_PROC1_MOV_DR_EXITING);
	REQUIRE(enter(guest_mov_dr4.run), OUTCOME_EXIT(EXIT_MOV_DR));
	EXPECT_FAULT_LIKE_EXIT(guest_mov_dr4);
}

/* #DB by DR7.GD is none of the exceptions that 28.1.1 puts before an exit. */
CASE(mov_dr_exits_before_general_detect, PROVES("nonroot-behavior:prio.mov_dr"),
     NEEDS(VMX, PROC1(MOV_DR_EXITING), ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | DR7_GD);
	vmcs_set_control(CONTROL_PROC1_MOV_DR_EXITING);
	REQUIRE(enter(guest_mov_from_dr3.run), OUTCOME_EXIT(EXIT_MOV_DR));
	EXPECT_FAULT_LIKE_EXIT(guest_mov_from_dr3);
}

/* The other way round for control registers: 28.1.1. */
struct privileged {
	const struct guest_code *code;
	enum control control;
};

static void faults_at_cpl_3(const struct case_def *this_case)
{
	const struct privileged *privileged = this_case->row;

	guest_to_user_mode();
	if (privileged->control)
		vmcs_set_control(privileged->control);
	vmwrite(CR0_GUEST_HOST_MASK, ~0ull);
	vmwrite(CR0_READ_SHADOW, CR0_TS);
	vmwrite(CR4_GUEST_HOST_MASK, ~0ull);
	guest_value = 1;
	EXPECT(enter(privileged->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

#define AT_CPL_3(name, control_, ...)						\
	static const struct privileged user_##name = { &guest_##name, control_ };	\
	CASE_RUN(name##_faults_at_cpl_3, faults_at_cpl_3, PROVES("nonroot-behavior:prio.cpl"),	\
		 NEEDS(__VA_ARGS__), ROW(&user_##name))

AT_CPL_3(mov_to_cr0, 0, VMX);
AT_CPL_3(mov_to_cr4, 0, VMX);
AT_CPL_3(clts, 0, VMX);
AT_CPL_3(lmsw, 0, VMX);
AT_CPL_3(load_cr3, CONTROL_PROC1_CR3_LOAD_EXITING, VMX, PROC1(CR3_LOAD_EXITING));
AT_CPL_3(mov_cr3_to_rdx, CONTROL_PROC1_CR3_STORE_EXITING, VMX, PROC1(CR3_STORE_EXITING));
AT_CPL_3(mov_to_cr8, CONTROL_PROC1_CR8_LOAD_EXITING, VMX, PROC1(CR8_LOAD_EXITING));
AT_CPL_3(mov_from_cr8, CONTROL_PROC1_CR8_STORE_EXITING, VMX, PROC1(CR8_STORE_EXITING));
