/*
 * The memory operands of the VMX instructions: which faults they cause, and when.
 *
 * In 64-bit mode a noncanonical address is #GP(0), or #SS(0) where the address is relative to RSP
 * or RBP; what paging refuses is #PF: 33.3 VMX Instructions, "64-Bit Mode Exceptions" of each.
 * The order is fixed there too: VMREAD stores only after it knows the field, VMWRITE loads before
 * it looks for one, INVEPT and INVVPID load only for a type that exists. What the address leads to
 * is the operand, also across two pages, by an address of 32 bits, or with a segment base.
 */
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define NONCANONICAL	0x8000000000000000ull
#define STACK_FAULT	OUTCOME_FAULT(VECTOR_SS, 0)
#define UNSUPPORTED	OUTCOME_VMFAIL_VALID(VMFAIL_UNSUPPORTED_VMCS_COMPONENT)
#define BAD_TYPE	OUTCOME_VMFAIL_VALID(VMFAIL_INVALID_OPERAND_TO_INVEPT_INVVPID)
#define NO_FIELD	0x7ffeull
#define ALL_CONTEXTS	2ull

/* --- the instructions ------------------------------------------------------------------ */

struct instruction {
	const char *name;
	outcome_t (*by_rax)(u64 address, u64 rcx);	/* operand in the segment DS */
	outcome_t (*by_rbp)(u64 address, u64 rcx);	/* operand in the segment SS */
	outcome_t (*by_eax)(u64 address, u64 rcx);	/* an address of 32 bits */
	outcome_t (*by_fs)(u64 address, u64 rcx);	/* operand in the segment FS */
	void (*bare)(void *address);			/* for other privilege levels */
	u64 rcx;		/* field or type */
	u32 bytes;		/* of the operand */
	bool stores;		/* to the operand */
	bool outside;		/* VMX operation */
};

/* RBP holds the address for one instruction only: the compiler may use it for all else. */
#define ATTEMPT_BY_RBP(insn, address, rcx) ({					\
	u64 flags__ = 0, address__ = (address);					\
	trap_expect();								\
	asm volatile(VMX_SET_FLAGS "xchgq %%rbp, %%rax\n\t" ATTEMPT_ASM(insn)	\
		     "xchgq %%rbp, %%rax\n\tpushfq\n\tpop %[flags]"		\
		     : [flags] "=&r" (flags__), "+a" (address__) : "c" (rcx)	\
		     : "cc", "memory");						\
	vmx_outcome(insn, trap_outcome(), flags__); })

#define INSTRUCTION(id, before, after, ...)					\
	static outcome_t id##_by_rax(u64 address, u64 rcx)			\
	{									\
		return VMX_ATTEMPT(before "(%%rax)" after,			\
				   : "a" (address), "c" (rcx) : "cc", "memory"); \
	}									\
	static outcome_t id##_by_rbp(u64 address, u64 rcx)			\
	{									\
		return ATTEMPT_BY_RBP(before "(%%rbp)" after, address, rcx);	\
	}									\
	static outcome_t id##_by_eax(u64 address, u64 rcx)			\
	{									\
		return VMX_ATTEMPT(before "(%%eax)" after,			\
				   : "a" (address), "c" (rcx) : "cc", "memory"); \
	}									\
	static outcome_t id##_by_fs(u64 address, u64 rcx)			\
	{									\
		return VMX_ATTEMPT(before "%%fs:(%%rax)" after,			\
				   : "a" (address), "c" (rcx) : "cc", "memory"); \
	}									\
	static void id##_bare(void *address)					\
	{									\
		asm volatile(before "(%%rax)" after				\
			     : : "a" (address), "c" (0) : "cc", "memory");	\
	}									\
	static const struct instruction id##_row = {				\
		.name = #id, .by_rax = id##_by_rax, .by_rbp = id##_by_rbp,	\
		.by_eax = id##_by_eax, .by_fs = id##_by_fs, .bare = id##_bare, __VA_ARGS__ }

INSTRUCTION(vmxon, "vmxon ", "", .bytes = 8, .outside = true);
INSTRUCTION(vmclear, "vmclear ", "", .bytes = 8);
INSTRUCTION(vmptrld, "vmptrld ", "", .bytes = 8);
INSTRUCTION(vmptrst, "vmptrst ", "", .bytes = 8, .stores = true);
INSTRUCTION(vmread, "vmread %%rcx, ", "", .bytes = 8, .stores = true, .rcx = GUEST_RIP);
INSTRUCTION(vmwrite, "vmwrite ", ", %%rcx", .bytes = 8, .rcx = GUEST_RIP);
INSTRUCTION(invept, "invept ", ", %%rcx", .bytes = 16, .rcx = ALL_CONTEXTS);
INSTRUCTION(invvpid, "invvpid ", ", %%rcx", .bytes = 16, .rcx = ALL_CONTEXTS);

/* --- a page that is mapped, and one behind it that is not ------------------------------ */

struct window {
	struct address_space space;
	u64 linear;		/* of the page; linear + PAGE_SIZE is not present */
	u64 *page;
};

static void map_window(struct window *window, u64 flags)
{
	window->linear = 0x12340000000;
	window->page = page_alloc();
	space_copy(&window->space);
	space_map(&window->space, window->linear, physical(window->page), flags, LEVEL_PTE);
	space_load(&window->space);
}

static void prepare(const struct instruction *insn)
{
	if (insn->outside)
		REQUIRE(vmxoff(), OUTCOME_DONE);
}

static void expect_page_fault(const struct instruction *insn, u64 address, u64 error, u64 cr2)
{
	EXPECT(insn->by_rax(address, insn->rcx), OUTCOME_FAULT(VECTOR_PF, error));
	EXPECT_EQ(last_trap()->cr2, cr2);
}

static void check_not_present(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	u64 error = insn->stores ? PF_WR : 0, next;
	struct window window;

	prepare(insn);
	map_window(&window, PTE_P | PTE_RW);
	next = window.linear + PAGE_SIZE;
	expect_page_fault(insn, next, error, next);
	/* The first bytes are there, the last are not. */
	expect_page_fault(insn, next - insn->bytes / 2, error, next);
	expect_page_fault(insn, next - 1, error, next);
}

static void check_noncanonical(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;

	prepare(insn);
	EXPECT(insn->by_rax(NONCANONICAL, insn->rcx), OUTCOME_GP0);
	EXPECT(insn->by_rbp(NONCANONICAL, insn->rcx), STACK_FAULT);
}

#define EPT_NEEDS	NEEDS(VMX, EPT_CAP(INVEPT), EPT_CAP(INVEPT_ALL))
#define VPID_NEEDS	NEEDS(VMX, VPID_CAP(INVVPID), VPID_CAP(INVVPID_ALL))

/* The instructions, and what a case of each needs: of INVEPT, the type that it uses. */
#define FOR_EACH_INSTRUCTION(CASES, INVEPT_NEEDS)				\
	CASES(vmxon, NEEDS(VMX));						\
	CASES(vmclear, NEEDS(VMX));						\
	CASES(vmptrld, NEEDS(VMX));						\
	CASES(vmptrst, NEEDS(VMX));						\
	CASES(vmread, NEEDS(VMX));						\
	CASES(vmwrite, NEEDS(VMX));						\
	CASES(invept, INVEPT_NEEDS);						\
	CASES(invvpid, VPID_NEEDS)

#define OPERAND_CASES(id, fault, page_fault, ...)				\
	CASE_RUN(id##_not_present, check_not_present,				\
		 PROVES("vmx-instructions:" #id "." page_fault), __VA_ARGS__, ROW(&id##_row)); \
	CASE_RUN(id##_noncanonical, check_noncanonical,				\
		 PROVES("vmx-instructions:" #id "." fault), __VA_ARGS__, ROW(&id##_row))
OPERAND_CASES(vmxon, "operand_fault", "operand_page_fault", NEEDS(VMX));
OPERAND_CASES(vmclear, "operand_fault", "operand_page_fault", NEEDS(VMX));
OPERAND_CASES(vmptrld, "operand_fault", "operand_page_fault", NEEDS(VMX));
OPERAND_CASES(vmptrst, "operand_fault", "operand_page_fault", NEEDS(VMX));
OPERAND_CASES(vmread, "operand_fault", "operand_fault", NEEDS(VMX));
OPERAND_CASES(vmwrite, "operand_fault", "operand_fault", NEEDS(VMX));
OPERAND_CASES(invept, "operand_fault", "operand_fault", EPT_NEEDS);
OPERAND_CASES(invvpid, "operand_fault", "operand_fault", VPID_NEEDS);

/* --- read-only pages ------------------------------------------------------------------- */

static void check_read_only(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct window window;

	map_window(&window, PTE_P);
	write_cr0(read_cr0() | CR0_WP);
	expect_page_fault(insn, window.linear, PF_P | PF_WR, window.linear);
	EXPECT_EQ(window.page[0], 0);
}

CASE_RUN(vmptrst_to_a_read_only_page, check_read_only,
	 PROVES("vmx-instructions:vmptrst.operand_page_fault"), NEEDS(VMX), ROW(&vmptrst_row));
CASE_RUN(vmread_to_a_read_only_page, check_read_only,
	 PROVES("vmx-instructions:vmread.operand_fault"), NEEDS(VMX), ROW(&vmread_row));

/* To load from such a page is no fault. */
CASE(loads_from_a_read_only_page, PROVES("vmx-instructions:vmwrite.success",
     "vmx-instructions:vmptrld.success"), NEEDS(VMX))
{
	struct window window;

	map_window(&window, PTE_P);
	write_cr0(read_cr0() | CR0_WP);
	window.page[0] = (u64)this_vmx()->vmcs_region;
	EXPECT(vmptrld_by_rax(window.linear, 0), OUTCOME_DONE);
	EXPECT(vmwrite_by_rax(window.linear, GUEST_RIP), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)this_vmx()->vmcs_region);
}

/* --- when the operand is accessed ------------------------------------------------------ */

static u64 not_present(void)
{
	struct window window;

	map_window(&window, PTE_P | PTE_RW);
	return window.linear + PAGE_SIZE;
}

CASE(vmread_stores_after_the_field_is_known, PROVES("vmx-instructions:vmread.unsupported_field"),
     NEEDS(VMX))
{
	EXPECT(vmread_by_rax(not_present(), NO_FIELD), UNSUPPORTED);
	EXPECT(vmread_by_rax(NONCANONICAL, NO_FIELD), UNSUPPORTED);
}

CASE(vmread_stores_after_the_vmcs_is_known, PROVES("vmx-instructions:vmread.no_vmcs"), NEEDS(VMX))
{
	REQUIRE(vmclear((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	EXPECT(vmread_by_rax(not_present(), GUEST_RIP), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmread_by_rax(NONCANONICAL, GUEST_RIP), OUTCOME_VMFAIL_INVALID);
}

CASE(vmwrite_loads_before_the_field_is_known, PROVES("vmx-instructions:vmwrite.operand_fault"),
     NEEDS(VMX))
{
	u64 address = not_present();

	EXPECT(vmwrite_by_rax(address, NO_FIELD), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT(vmwrite_by_rax(NONCANONICAL, NO_FIELD), OUTCOME_GP0);
	/* A field that may be read-only: whether it is comes last. */
	EXPECT(vmwrite_by_rax(address, EXIT_REASON), OUTCOME_FAULT(VECTOR_PF, 0));
}

CASE(vmwrite_loads_after_the_vmcs_is_known, PROVES("vmx-instructions:vmwrite.no_vmcs"), NEEDS(VMX))
{
	REQUIRE(vmclear((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	EXPECT(vmwrite_by_rax(not_present(), GUEST_RIP), OUTCOME_VMFAIL_INVALID);
	EXPECT(vmwrite_by_rax(NONCANONICAL, GUEST_RIP), OUTCOME_VMFAIL_INVALID);
}

CASE(invept_loads_after_the_type_is_known, PROVES("vmx-instructions:invept.bad_type"), EPT_NEEDS)
{
	EXPECT(invept_by_rax(not_present(), 0), BAD_TYPE);
	EXPECT(invept_by_rax(NONCANONICAL, 0), BAD_TYPE);
}

CASE(invvpid_loads_after_the_type_is_known, PROVES("vmx-instructions:invvpid.bad_type"), VPID_NEEDS)
{
	EXPECT(invvpid_by_rax(not_present(), 4), BAD_TYPE);
	EXPECT(invvpid_by_rax(NONCANONICAL, 4), BAD_TYPE);
}

/* A store that faults is no VMREAD: neither the flags nor the error number tell of it. */
CASE(fault_keeps_the_error_number, PROVES("vmx-instructions:vmread.operand_fault"), NEEDS(VMX))
{
	EXPECT(vmread_by_rax((u64)this_vmx()->vmcs_region, NO_FIELD), UNSUPPORTED);
	EXPECT(vmread_by_rax(not_present(), GUEST_RIP), OUTCOME_FAULT(VECTOR_PF, PF_WR));
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_UNSUPPORTED_VMCS_COMPONENT);
}

/* 33.3: who may not execute the instruction at all does not get so far as its operand. */
static void check_privilege_comes_first(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	u64 address = not_present();
	u32 cpl;

	prepare(insn);
	for (cpl = 1; cpl <= 3; cpl++)
		EXPECT(run_at_cpl(cpl, insn->bare, (void *)address), OUTCOME_GP0);
}

#define PRIVILEGE_CASE(id, ...)							\
	CASE_RUN(id##_privilege_comes_before_the_operand, check_privilege_comes_first, \
		 PROVES("vmx-instructions:" #id ".cpl"), __VA_ARGS__, ROW(&id##_row))
FOR_EACH_INSTRUCTION(PRIVILEGE_CASE, EPT_NEEDS);

/* --- which bytes are the operand ------------------------------------------------------- */

/* An operand that the instruction takes, and two bits of it, far apart, that make it refuse. */
struct use {
	const struct instruction *insn;
	u64 rcx;
	u64 (*operand)(void);		/* what a store stores */
	u64 first, last;
	outcome_t refusal;		/* OUTCOME_DONE: it takes every operand */
};

static u64 vmxon_pointer(void)
{
	return (u64)this_vmx()->vmxon_region;
}

static u64 current_vmcs(void)
{
	return (u64)this_vmx()->vmcs_region;
}

static u64 another_vmcs(void)
{
	static u8 region[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	u32 revision = vmcs_revision();

	memcpy(region, &revision, sizeof(revision));
	return physical(region);
}

#define FIELD_VALUE	0x0123456789abcdefull

static u64 field_value(void)
{
	return FIELD_VALUE;
}

static u64 eptp(void)
{
	u64 cap = capabilities()->ept_vpid_cap;

	return 0x12345000 | (cap & EPT_CAP_WALK_4 ? 3 : 4) << 3 | (cap & EPT_CAP_WB ? 6 : 0);
}

static u64 vpid(void)
{
	return 0xffff;
}

#define POINTER_USE(id, operand, refusal)	{ &id##_row, 0, operand, BIT(0), BIT(63), refusal }
static const struct use vmxon_use = POINTER_USE(vmxon, vmxon_pointer, OUTCOME_VMFAIL_INVALID);
static const struct use vmclear_use = POINTER_USE(vmclear, another_vmcs,
	OUTCOME_VMFAIL_VALID(VMFAIL_VMCLEAR_INVALID_ADDRESS));
static const struct use vmptrld_use = POINTER_USE(vmptrld, current_vmcs,
	OUTCOME_VMFAIL_VALID(VMFAIL_VMPTRLD_INVALID_ADDRESS));
static const struct use vmptrst_use = { &vmptrst_row, 0, current_vmcs, 0, 0, OUTCOME_DONE };
static const struct use vmread_use = { &vmread_row, GUEST_RIP, field_value, 0, 0, OUTCOME_DONE };
static const struct use vmwrite_use = { &vmwrite_row, GUEST_RIP, field_value, 0, 0, OUTCOME_DONE };
/* Bit 0 makes a memory type that does not exist; bits 63:16 of an INVVPID descriptor are 0. */
static const struct use invept_use = { &invept_row, 1, eptp, BIT(0), BIT(63), BAD_TYPE };
static const struct use invvpid_use = {
	&invvpid_row, ALL_CONTEXTS, vpid, BIT(16), BIT(63), BAD_TYPE
};

static void put_operand(const struct use *use, u64 linear, u64 value)
{
	u64 operand[2] = { value, 0 };

	memcpy((void *)linear, operand, use->insn->bytes);
}

/* Executes `form` with `address`, which must lead to the operand at `linear`. */
static void expect_used(const struct use *use, u64 linear, outcome_t (*form)(u64, u64), u64 address)
{
	u64 operand = use->operand(), got = 0;

	vmwrite_outcome(GUEST_RIP, use->insn->stores ? FIELD_VALUE : 0);
	put_operand(use, linear, use->insn->stores ? ~operand : operand);
	EXPECT(form(address, use->rcx), OUTCOME_DONE);
	if (use->insn->outside)
		vmxoff();
	if (use->insn->stores) {
		memcpy(&got, (void *)linear, sizeof(got));
		EXPECT_EQ(got, operand);
	} else if (use->refusal != OUTCOME_DONE) {
		put_operand(use, linear, operand ^ use->first);
		EXPECT(form(address, use->rcx), use->refusal);
		put_operand(use, linear, operand ^ use->last);
		EXPECT(form(address, use->rcx), use->refusal);
	} else {
		EXPECT_EQ(vmread(GUEST_RIP), operand);
	}
}

/* Two pages that are neighbours by their linear addresses alone. */
static u64 map_two_pages(void)
{
	struct window window;
	u64 behind = physical(page_alloc());

	page_alloc();
	map_window(&window, PTE_P | PTE_RW);
	space_map(&window.space, window.linear + PAGE_SIZE, behind, PTE_P | PTE_RW, LEVEL_PTE);
	return window.linear + PAGE_SIZE;
}

static void check_crossing(const struct case_def *this_case)
{
	const struct use *use = this_case->row;
	u64 second_page = map_two_pages(), linear;
	u32 split;

	prepare(use->insn);
	for (split = 1; split < use->insn->bytes && !case_failed(); split++) {
		linear = second_page - split;
		expect_used(use, linear, use->insn->by_rax, linear);
	}
}

/* 64-bit mode has addresses of 32 bits, too: bits 63:32 of the register do not count. */
static void check_32_bit_address(const struct case_def *this_case)
{
	const struct use *use = this_case->row;
	static u64 place[2];

	prepare(use->insn);
	expect_used(use, (u64)place, use->insn->by_eax, 0xdeadbeef00000000 | (u64)place);
}

/* FS and GS have bases there. */
static void check_segment_base(const struct case_def *this_case)
{
	const struct use *use = this_case->row;
	static u64 place[2];

	prepare(use->insn);
	wrmsr(IA32_FS_BASE, 0x123456789000);
	expect_used(use, (u64)place, use->insn->by_fs, (u64)place - 0x123456789000);
	wrmsr(IA32_FS_BASE, 0);
}

#define USE_CASES(id, ...)							\
	CASE_RUN(id##_crosses_a_page, check_crossing,				\
		 PROVES("vmx-instructions:" #id ".success"), __VA_ARGS__, ROW(&id##_use)); \
	CASE_RUN(id##_by_32_bit_address, check_32_bit_address,			\
		 PROVES("vmx-instructions:" #id ".success"), __VA_ARGS__, ROW(&id##_use)); \
	CASE_RUN(id##_by_segment_base, check_segment_base,			\
		 PROVES("vmx-instructions:" #id ".success"), __VA_ARGS__, ROW(&id##_use))
FOR_EACH_INSTRUCTION(USE_CASES, NEEDS(VMX, EPT_CAP(INVEPT), EPT_CAP(INVEPT_SINGLE)));
