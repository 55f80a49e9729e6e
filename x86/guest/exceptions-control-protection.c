/*
 * The control protection exception: 7.15, Interrupt 21, in user mode. With shadow stacks, near RET,
 * far RET and RSTORSSP compare what they find with the shadow stack; with indirect branch tracking,
 * an indirect CALL must meet ENDBRANCH. The error code says which of them it was. Supervisor mode
 * uses neither, so the handlers need no shadow stack and no ENDBRANCH.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"


enum { CP_NEAR_RET = 1, CP_FAR_RET_OR_IRET, CP_ENDBRANCH, CP_RSTORSSP };

/* RDI: a quadword of zeros in a shadow stack. */
INSTRUCTION(return_as_called, "endbr64", "nop");
INSTRUCTION(return_elsewhere, "leaq return_as_called(%rip), %rax; movq %rax, (%rsp)", "ret");
INSTRUCTION(far_return_elsewhere,
	    "leaq return_as_called(%rip), %rcx; movl %cs, %eax; pushq %rax; pushq %rcx", "lretq");
INSTRUCTION(restore_without_token, "", "rstorssp (%rdi)");
INSTRUCTION(no_endbranch, "", "nop");

struct control_flow {
	void (*code)(void *argument);
	const u8 *at;
	u64 u_cet;
	outcome_t outcome;
};

static void check_control_flow(const struct case_def *this_case)
{
	const struct control_flow *row = this_case->row;
	struct probe probe;

	/* A page is a shadow stack where R/W = 0 and D = 1: 5.6.1. CR4.CET needs CR0.WP: 2.5. */
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_US | PTE_A | PTE_D);
	probe_share_with_user(&probe);
	probe.page[0] = 0;
	write_cr0(read_cr0() | CR0_WP);
	write_cr4(read_cr4() | CR4_CET);
	wrmsr(IA32_PL3_SSP, probe.linear + PAGE_SIZE / 2);
	wrmsr(IA32_U_CET, row->u_cet);
	EXPECT(run_at_cpl(3, row->code, (void *)probe.linear), row->outcome);
	wrmsr(IA32_U_CET, 0);
	if (row->outcome != OUTCOME_DONE)
		EXPECT_EQ(last_trap()->frame.rip, (u64)row->at);
}

#define CONTROL_FLOW(id, need, fn, mode, expected)				\
	static const struct control_flow flow_##id = { fn, fn##_at, mode, expected };\
	CASE_RUN(id, check_control_flow, PROVES("exceptions:vector.21"),	\
		 NEEDS(CPU(need)), ROW(&flow_##id))
#define VIOLATES(id, need, fn, mode, error) \
	CONTROL_FLOW(id, need, fn, mode, OUTCOME_FAULT(VECTOR_CP, error))

CONTROL_FLOW(near_return_to_the_caller, CET_SS, return_as_called, CET_SH_STK_EN, OUTCOME_DONE);
VIOLATES(near_return_elsewhere, CET_SS, return_elsewhere, CET_SH_STK_EN, CP_NEAR_RET);
VIOLATES(far_return_elsewhere, CET_SS, far_return_elsewhere, CET_SH_STK_EN, CP_FAR_RET_OR_IRET);
VIOLATES(rstorssp_without_a_token, CET_SS, restore_without_token, CET_SH_STK_EN, CP_RSTORSSP);
CONTROL_FLOW(call_of_endbranch, CET_IBT, return_as_called, CET_ENDBR_EN, OUTCOME_DONE);
VIOLATES(call_of_something_else, CET_IBT, no_endbranch, CET_ENDBR_EN, CP_ENDBRANCH);
CONTROL_FLOW(returns_without_shadow_stack, CET_SS, far_return_elsewhere, 0, OUTCOME_DONE);
