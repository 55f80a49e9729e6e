/*
 * Control-flow enforcement where a branch goes through a device: indirect CALL and JMP whose target
 * is read from a register of the local APIC (volume 1, chapter 17, Control-Flow Enforcement
 * Technology; CALL and JMP, volume 2).
 *
 * A processor knows no difference. A hypervisor that emulates the branch has to push the return
 * address on the shadow stack itself, and to see that ENDBRANCH follows. The register has 32 bits,
 * so this is in compatibility mode; at CPL 3, so that the handlers need no shadow stack and no
 * ENDBRANCH.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"

#define CP_ENDBRANCH	3
#define SHADOW_STACK	(MMIO_RAM_3 + 0x800)

static void change(u64 linear, u64 clear, u64 set)
{
	u64 *entry = mmio_entry(linear);

	*entry = (*entry & ~clear) | set;
	invlpg(linear);
}

/* 5.6.1: a page is a shadow stack where R/W = 0 and D = 1. CR4.CET needs CR0.WP: 2.5. */
static void start(u64 u_cet)
{
	mmio_map();
	mmio_share_with_user();
	change(MMIO_APIC, 0, PTE_US);
	change(MMIO_RAM_3, PTE_RW, PTE_US | PTE_A | PTE_D);
	write_cr0(read_cr0() | CR0_WP);
	write_cr4(read_cr4() | CR4_CET);
	wrmsr(IA32_PL3_SSP, SHADOW_STACK);
	wrmsr(IA32_U_CET, u_cet);
}

static outcome_t finish(outcome_t outcome)
{
	wrmsr(IA32_U_CET, 0);
	write_cr4(read_cr4() & ~CR4_CET);
	return outcome;
}

/*
 * Each begins with ENDBRANCH and with one return address on its shadow stack, for it has been
 * called, and ends with UD2 at NAME_end; ESI is ESP as it was.
 */
#define BRANCH32(name, text)							\
	extern const u8 name##_end[];						\
	CODE32(name, text "\n" #name "_end: ud2")
#define MARKED(text)	"endbr32; movl %esp, %esi; movl $1f, (%edi);" text

BRANCH32(call_and_return, MARKED("call *(%edi); jmp call_and_return_end; 1: endbr32; ret"));
BRANCH32(call_unmarked, MARKED("call *(%edi); 1: nop"));
BRANCH32(jump_marked, MARKED("jmp *(%edi); nop; 1: endbr32"));
BRANCH32(jump_unmarked, MARKED("jmp *(%edi); nop; 1: nop"));
BRANCH32(jump_no_track, MARKED("notrack jmp *(%edi); nop; 1: nop"));

/* Without ENDBRANCH, which would clear SUPPRESS. */
BRANCH32(jump_suppressed, "movl $1f, (%edi); jmp *(%edi); nop; 1: nop");

struct branch {
	const u8 *code, *end;
	u64 u_cet;
	bool refused;
};

static void check_branch(const struct case_def *this_case)
{
	const struct branch *row = this_case->row;
	const struct trap_frame *frame = &last_trap()->frame;
	outcome_t outcome;
	u64 u_cet;

	start(row->u_cet);
	outcome = run_in_compatibility_mode(3, row->code, MMIO_REGISTER);
	u_cet = rdmsr(IA32_U_CET);
	EXPECT(finish(outcome), row->refused ? OUTCOME_FAULT(VECTOR_CP, CP_ENDBRANCH) : OUTCOME_UD);
	if (row->refused) {
		EXPECT_EQ(frame->rip, *(volatile u32 *)MMIO_REGISTER);
		return;
	}
	EXPECT_EQ(frame->rip, (u64)row->end);
	/* TRACKER is IDLE: nothing waits, or ENDBRANCH has come. */
	EXPECT_EQ(u_cet, row->u_cet);
}

#define BRANCH(id, need, code, u_cet, refused)					\
	CASE_RUN(id, check_branch, PROVES("guest-instructions:mmio.cet"), NEEDS(CPU(need)),	\
		 ROW((&(const struct branch){ code, code##_end, u_cet, refused })))

BRANCH(call_and_return_with_a_shadow_stack, CET_SS, call_and_return, CET_SH_STK_EN, false);
BRANCH(call_is_tracked, CET_IBT, call_unmarked, CET_ENDBR_EN, true);
BRANCH(call_of_endbranch, CET_IBT, call_and_return, CET_ENDBR_EN, false);
BRANCH(jump_is_tracked, CET_IBT, jump_unmarked, CET_ENDBR_EN, true);
BRANCH(jump_to_endbranch, CET_IBT, jump_marked, CET_ENDBR_EN, false);
BRANCH(no_track_prefix, CET_IBT, jump_no_track, CET_ENDBR_EN | CET_NO_TRACK_EN, false);
BRANCH(no_track_prefix_without_no_track_en, CET_IBT, jump_no_track, CET_ENDBR_EN, true);
BRANCH(suppressed, CET_IBT, jump_suppressed, CET_ENDBR_EN | CET_SUPPRESS, false);
BRANCH(jump_without_tracking, CET_SS, jump_unmarked, CET_SH_STK_EN, false);

/* IA32_U_CET alone does nothing. */
CASE(without_cr4_cet, PROVES("guest-instructions:mmio.cet"), NEEDS(CPU(CET_SS), CPU(CET_IBT)))
{
	start(CET_SH_STK_EN | CET_ENDBR_EN);
	write_cr4(read_cr4() & ~CR4_CET);
	EXPECT(finish(run_in_compatibility_mode(3, call_unmarked, MMIO_REGISTER)), OUTCOME_UD);
	EXPECT_EQ(rdmsr(IA32_PL3_SSP), SHADOW_STACK);
}

/* The shadow stack grows by 4 bytes, which are the return address. */
CASE(call_pushes_the_return_address, PROVES("guest-instructions:mmio.cet"), NEEDS(CPU(CET_SS)))
{
	const struct trap_frame *frame = &last_trap()->frame;

	start(CET_SH_STK_EN);
	EXPECT(finish(run_in_compatibility_mode(3, call_unmarked, MMIO_REGISTER)), OUTCOME_UD);
	EXPECT_EQ(frame->rsp, frame->regs.rsi - 4);
	EXPECT_EQ(rdmsr(IA32_PL3_SSP), SHADOW_STACK - 8);
	EXPECT_EQ(*(volatile u32 *)(SHADOW_STACK - 8), *(volatile u32 *)MMIO_REGISTER);
}

/* 5.7: bit 6 of the error code, an access to a shadow stack. That page is the first below it. */
CASE(no_page_of_shadow_stacks, PROVES("guest-instructions:mmio.cet"), NEEDS(CPU(CET_SS)))
{
	const struct trap_frame *frame = &last_trap()->frame;

	start(CET_SH_STK_EN);
	change(MMIO_NOTHING_2, 0, PTE_US);
	wrmsr(IA32_PL3_SSP, MMIO_RAM_3 + 4);
	EXPECT(finish(run_in_compatibility_mode(3, call_unmarked, MMIO_REGISTER)),
	       OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR | PF_US | PF_SS));
	EXPECT_EQ(read_cr2(), MMIO_RAM_3 - 4);
	EXPECT_EQ(frame->rsp, frame->regs.rsi);
	EXPECT_EQ(rdmsr(IA32_PL3_SSP), MMIO_RAM_3);
}
