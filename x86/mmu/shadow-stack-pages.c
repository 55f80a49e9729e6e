/*
 * Shadow-stack pages: 5.6.1, with CR4.CET = 1.
 *
 * A page is a shadow-stack page when the entry that maps it has R/W = 0 and D = 1 and every entry
 * above has R/W = 1. Only shadow-stack accesses may write there: those of CALL, RET and their
 * like, and WRSS and WRUSS; and these may go nowhere else. User mode has shadow-stack pages of its
 * own, in user-mode addresses. A fault in such an access has SS = 1 in its error code, bit 6. The
 * cases work with the shadow stack of CPL 3, so that the suite itself needs none.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)

#define SHADOW_STACK		(PTE_P | PTE_A | PTE_D)		/* R/W = 0 */
#define CONTENT			0x1122334455667788ull

/*
 * The page to try, with `flags`, and behind it one that is the shadow stack of CPL 3; WP and CET
 * on. Both features end with the case: who calls this calls close_pages().
 */
static void open_pages(struct probe *probe, u64 flags, u64 u_cet)
{
	u64 *stack;

	probe_map(probe, LEVEL_PTE, flags);
	probe_map_next(probe, &stack, SHADOW_STACK | PTE_US);
	probe_share_with_user(probe);
	write_cr0(read_cr0() | CR0_WP);
	write_cr4(read_cr4() | CR4_CET);
	wrmsr(IA32_U_CET, u_cet);
	wrmsr(IA32_PL3_SSP, probe->linear + 2 * PAGE_SIZE);
}

static void close_pages(void)
{
	wrmsr(IA32_U_CET, 0);
	wrmsr(IA32_PL3_SSP, 0);
	write_cr4(read_cr4() & ~CR4_CET);
}

/* RDI: the address. */
INSTRUCTION(wrss_here, "mov $0x55667788, %eax", "wrssq %rax, (%rdi)");
INSTRUCTION(store_here, "mov $0x55667788, %eax", "mov %rax, (%rdi)");
INSTRUCTION(load_here, "", "mov (%rdi), %rax");

struct page_row {
	u64 flags;			/* of the page */
	u64 u_cet;
	void (*code)(void *argument);	/* at CPL 3 */
	outcome_t outcome;
};

#define AT_CPL_3(...)	ROW((&(const struct page_row){ __VA_ARGS__ }))
#define WRSS_ON		.u_cet = CET_SH_STK_EN | CET_WR_SHSTK_EN

static void access_at_cpl_3(const struct case_def *this_case)
{
	const struct page_row *row = this_case->row;
	struct probe probe;
	outcome_t outcome;

	open_pages(&probe, row->flags, row->u_cet);
	outcome = run_at_cpl(3, row->code, (void *)probe.linear);
	close_pages();
	EXPECT(outcome, row->outcome);
	if (outcome != OUTCOME_DONE && outcome != OUTCOME_UD)
		EXPECT_EQ(last_trap()->cr2, probe.linear);
	EXPECT_EQ(*probe.page, row->outcome == OUTCOME_DONE && row->code == wrss_here ?
			       0x55667788 : PROBE_CONTENT);
}

#define SS_CASE(name, fact, ...) \
	CASE_RUN(name, access_at_cpl_3, PROVES("paging:acc.ss." fact, "paging:pfec.ss"), \
		 NEEDS(CPU(CET_SS)), AT_CPL_3(__VA_ARGS__))

SS_CASE(wrss_to_a_shadow_stack_page, "page", .flags = SHADOW_STACK | PTE_US, WRSS_ON,
	.code = wrss_here, .outcome = OUTCOME_DONE);
SS_CASE(wrss_to_a_writable_page, "normal_page", .flags = SHADOW_STACK | PTE_RW | PTE_US, WRSS_ON,
	.code = wrss_here, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_US | PF_SS));
SS_CASE(wrss_to_a_page_that_is_not_dirty, "normal_page", .flags = PTE_P | PTE_A | PTE_US, WRSS_ON,
	.code = wrss_here, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_US | PF_SS));
SS_CASE(wrss_to_a_supervisor_page, "us_mismatch", .flags = SHADOW_STACK, WRSS_ON,
	.code = wrss_here, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_US | PF_SS));
SS_CASE(wrss_to_an_absent_page, "np", .flags = 0, WRSS_ON,
	.code = wrss_here, .outcome = PAGE_FAULT(PF_WR | PF_US | PF_SS));
SS_CASE(wrss_that_is_not_enabled, "wrss_disabled", .flags = SHADOW_STACK | PTE_US,
	.u_cet = CET_SH_STK_EN, .code = wrss_here, .outcome = OUTCOME_UD);
SS_CASE(store_to_a_shadow_stack_page, "ordinary_write", .flags = SHADOW_STACK | PTE_US, WRSS_ON,
	.code = store_here, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_US));
SS_CASE(load_from_a_shadow_stack_page, "ordinary_read", .flags = SHADOW_STACK | PTE_US, WRSS_ON,
	.code = load_here, .outcome = OUTCOME_DONE);

/* --- CPL 0 ---------------------------------------------------------------------- */

static outcome_t wruss_at(u64 linear)
{
	return ATTEMPT("wrussq %0, (%1)", : "r" (CONTENT), "r" (linear) : "memory");
}

/* WRUSS is a user-mode access although it needs CPL 0: 5.6. So SMAP says nothing to it. */
CASE(wruss_is_a_user_access, PROVES("paging:acc.ss.wruss"), NEEDS(CPU(CET_SS)))
{
	struct probe probe;
	outcome_t allowed, supervisor_page, absent;

	open_pages(&probe, SHADOW_STACK | PTE_US, 0);
	allowed = wruss_at(probe.linear);
	probe_change(&probe, LEVEL_PTE, PTE_US, 0);
	supervisor_page = wruss_at(probe.linear);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	absent = wruss_at(probe.linear);
	close_pages();
	EXPECT(allowed, OUTCOME_DONE);
	EXPECT_EQ(*probe.page, CONTENT);
	EXPECT(supervisor_page, PAGE_FAULT(PF_P | PF_WR | PF_US | PF_SS));
	EXPECT(absent, PAGE_FAULT(PF_WR | PF_US | PF_SS));
}

CASE(wruss_is_not_subject_to_smap, PROVES("paging:acc.ss.wruss"),
     NEEDS(CPU(CET_SS), CPU(SMAP)))
{
	struct probe probe;
	outcome_t outcome;

	open_pages(&probe, SHADOW_STACK | PTE_US, 0);
	/* SMAP is for the suite as well, which is in user pages until here. */
	probe.space.pml4[0] &= ~PTE_US;
	write_cr3(read_cr3());
	write_cr4(read_cr4() | CR4_SMAP);
	outcome = wruss_at(probe.linear);
	write_cr4(read_cr4() & ~CR4_SMAP);
	close_pages();
	EXPECT(outcome, OUTCOME_DONE);
	EXPECT_EQ(*probe.page, CONTENT);
}

CASE(wruss_needs_cet, PROVES("paging:acc.ss.wruss"), NEEDS(CPU(CET_SS)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, SHADOW_STACK | PTE_US);
	EXPECT(wruss_at(probe.linear), OUTCOME_UD);
	EXPECT_EQ(*probe.page, PROBE_CONTENT);
}

CASE(supervisor_stores, PROVES("paging:acc.ss.ordinary_write", "paging:acc.ss.ordinary_read"),
     NEEDS(CPU(CET_SS)))
{
	struct probe probe;
	outcome_t store, load;
	u64 value = 0;

	open_pages(&probe, SHADOW_STACK, 0);
	store = write_at(probe.linear, CONTENT);
	load = read_at(probe.linear, &value);
	close_pages();
	EXPECT(store, PAGE_FAULT(PF_P | PF_WR));
	EXPECT(load, OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
}

/*
 * A processor with shadow stacks never makes a read-only page dirty, so none becomes a shadow
 * stack.
 */
CASE(read_only_page_never_gets_dirty, PROVES("paging:ad.cet_no_d_ro"), NEEDS(CPU(CET_SS)))
{
	struct probe probe;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(write_at(probe.linear, CONTENT), PAGE_FAULT(PF_P | PF_WR));
	EXPECT(ATTEMPT("lock incq (%0)", : "r" (probe.linear) : "memory", "cc"),
	       PAGE_FAULT(PF_P | PF_WR));
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & PTE_D, 0);
}

/*
 * A supervisor shadow-stack access is WRSS at CPL 0, which needs a shadow stack of CPL 0. It is in
 * a page behind the one to try, with the token that SETSSBSY wants; the fault itself is delivered
 * on it. The gate leads to code that turns shadow stacks off, and goes on to the handler of the
 * suite.
 */
#define IA32_PL0_SSP	0x6a4

void off_at_page_fault(void);
asm(".pushsection .text\n"
    "off_at_page_fault:\n\t"
    "pushq $trap_stubs + 14 * 16\n\tpushq %rax\n\tpushq %rcx\n\tpushq %rdx\n\t"
    "movl $0x6a2, %ecx\n\txorl %eax, %eax\n\txorl %edx, %edx\n\twrmsr\n\t"
    "popq %rdx\n\tpopq %rcx\n\tpopq %rax\n\tretq\n\t.popsection");

_Static_assert(IA32_S_CET == 0x6a2 && VECTOR_PF == 14, "off_at_page_fault");

/* RDI: the address. */
INSTRUCTION(wrss_at_cpl_0,
	    "movl $0x6a2, %ecx\n\tmovl $3, %eax\n\txorl %edx, %edx\n\twrmsr\n\tsetssbsy\n\t"
	    "movl $0x55667788, %r8d",
	    "wrssq %r8, (%rdi)\n\t"
	    "xorl %eax, %eax\n\txorl %edx, %edx\n\twrmsr");

struct supervisor_row {
	u64 flags;			/* of the page */
	u64 cr4, rflags;		/* bits to set */
	outcome_t outcome;
};

static outcome_t wrss_by_supervisor(struct probe *probe, const struct supervisor_row *row)
{
	struct gate *gate = &this_cpu()->idt[VECTOR_PF];
	u64 *stack, top, handler = (u64)off_at_page_fault;
	outcome_t outcome;

	probe_map(probe, LEVEL_PTE, row->flags);
	probe_map_next(probe, &stack, SHADOW_STACK);
	top = probe->linear + 2 * PAGE_SIZE - 8;
	stack[511] = top;
	gate->offset_low = handler;
	gate->offset_middle = handler >> 16;
	write_cr0(read_cr0() | CR0_WP);
	write_cr4(read_cr4() | CR4_CET | row->cr4);
	wrmsr(IA32_PL0_SSP, top);
	asm volatile("push %0; popfq" : : "r" (RFLAGS_FIXED | row->rflags) : "cc", "memory");
	outcome = attempt(wrss_at_cpl_0, (void *)probe->linear);
	wrmsr(IA32_S_CET, 0);
	wrmsr(IA32_PL0_SSP, 0);
	write_cr4(read_cr4() & ~(CR4_CET | row->cr4));
	return outcome;
}

static void wrss_at_cpl_0_to(const struct case_def *this_case)
{
	const struct supervisor_row *row = this_case->row;
	struct probe probe;

	EXPECT(wrss_by_supervisor(&probe, row), row->outcome);
	EXPECT_EQ(*probe.page, row->outcome == OUTCOME_DONE ? 0x55667788 : PROBE_CONTENT);
}

#define AT_CPL_0(...)	ROW((&(const struct supervisor_row){ __VA_ARGS__ }))

CASE_RUN(supervisor_wrss, wrss_at_cpl_0_to, PROVES("paging:acc.ss.page"), NEEDS(CPU(CET_SS)),
	 AT_CPL_0(.flags = SHADOW_STACK, .outcome = OUTCOME_DONE));
CASE_RUN(supervisor_wrss_to_a_writable_page, wrss_at_cpl_0_to, PROVES("paging:acc.ss.normal_page"),
	 NEEDS(CPU(CET_SS)),
	 AT_CPL_0(.flags = SHADOW_STACK | PTE_RW, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_SS)));
/*
 * A page of user mode is refused as such, whether SMAP would let supervisor mode write there or
 * not.
 */
CASE_RUN(supervisor_wrss_to_a_user_page, wrss_at_cpl_0_to, PROVES("paging:acc.ss.us_mismatch"),
	 NEEDS(CPU(CET_SS)),
	 AT_CPL_0(.flags = SHADOW_STACK | PTE_US, .outcome = PAGE_FAULT(PF_P | PF_WR | PF_SS)));
CASE_RUN(supervisor_wrss_to_a_user_page_with_smap, wrss_at_cpl_0_to,
	 PROVES("paging:acc.ss.smap"), NEEDS(CPU(CET_SS), CPU(SMAP)),
	 AT_CPL_0(.flags = SHADOW_STACK | PTE_US, .cr4 = CR4_SMAP,
		  .outcome = PAGE_FAULT(PF_P | PF_WR | PF_SS)));
CASE_RUN(supervisor_wrss_to_a_user_page_with_smap_and_ac, wrss_at_cpl_0_to,
	 PROVES("paging:acc.ss.smap"), NEEDS(CPU(CET_SS), CPU(SMAP)),
	 AT_CPL_0(.flags = SHADOW_STACK | PTE_US, .cr4 = CR4_SMAP, .rflags = RFLAGS_AC,
		  .outcome = PAGE_FAULT(PF_P | PF_WR | PF_SS)));
