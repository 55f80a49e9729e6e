/*
 * Shadow stacks and EPT: supervisor shadow-stack control.
 *
 * CALL, RET and WRSS at CPL 0 make supervisor shadow-stack accesses: reads and writes of pages
 * that guest paging maps with R/W = 0 and D = 1. For EPT they are reads and writes like others,
 * as long as EPTP bit 7 is 0. With EPTP bit 7 a supervisor shadow-stack access, of either kind,
 * wants bit 60 in the entry that maps the page, bit 0 in every entry and bit 1 in every entry
 * that refers to a table; bit 1 of the entry that maps the page does not matter: 31.3.3.2. So
 * software can have shadow stacks that nothing else writes to.  Bit 13 of the exit qualification
 * tells these accesses from others, bit 14 is a copy of bit 60.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);


#define R	VIOLATION_READABLE
#define W	VIOLATION_WRITABLE
#define X	VIOLATION_EXECUTABLE

/* RAX = value, RBX = address; the shadow stack's top is what RET finds on the stack, too. */
#define SHADOW_GUEST(name, insn)						\
	extern const u8 name[];							\
	asm(".pushsection .text." #name ", \"ax\", @progbits\n"			\
	    #name ":\n\t" insn "\n\tvmcall\n\t.popsection")

SHADOW_GUEST(wrssq, "wrssq %rax, (%rbx)");
SHADOW_GUEST(ret, "ret");
/* A CALL to the next instruction would leave the shadow stack alone: SDM volume 2, CALL. */
SHADOW_GUEST(call, "call 1f\n\tnop\n1:");
SHADOW_GUEST(mov, "movq (%rbx), %rax");
extern const u8 vmx_guest_done[];

struct shadow_access {
	const u8 *code;
	u64 eptp_flags;
	u64 clear, set;			/* bits of the EPT PTE that maps the page */
	u64 clear_pde;			/* bits of the EPT PDE above it */
	u64 qualification;		/* bits 5:0 and 14:13; 0: the access is made */
};

#define WHEN(...)	ROW((&(const struct shadow_access){ __VA_ARGS__ }))

/* The page is a shadow stack with one return address; the guest is right before its instruction. */
static void start(struct ept_probe *probe, const struct shadow_access *row)
{
	u64 *stack = page_alloc(), *pte;

	ept_probe_start(probe, LEVEL_PTE, row->eptp_flags);
	pte = probe->guest_entry[LEVEL_PTE];
	*pte = (*pte & ~PTE_RW) | PTE_A | PTE_D;
	*probe->entry[LEVEL_PTE] = (*probe->entry[LEVEL_PTE] & ~row->clear) | row->set;
	*probe->entry[LEVEL_PDE] &= ~row->clear_pde;
	stack[16] = probe->page[16] = (u64)vmx_guest_done;
	vmcs_set_control(CONTROL_ENTRY_LOAD_CET_STATE);
	vmcs_set_control(CONTROL_EXIT_LOAD_CET_STATE);
	vmwrite(GUEST_IA32_S_CET, CET_SH_STK_EN | CET_WR_SHSTK_EN);
	vmwrite(GUEST_SSP, probe->linear + 16 * 8);
	vmwrite(GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0);
	vmwrite(HOST_IA32_S_CET, 0);
	vmwrite(HOST_SSP, 0);
	vmwrite(HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_WP);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_CET);
	vmwrite(GUEST_RIP, (u64)row->code);
	vmwrite(GUEST_RSP, physical(&stack[16]));
	guest_regs()->rax = PROBE_WRITTEN;
	guest_regs()->rbx = probe->linear + 16 * 8;
	audit_guest_changes(GUEST_SSP);
}

/* The element of the shadow stack that the instruction uses. */
static u64 offset_of(const struct shadow_access *row)
{
	return row->code == call ? 15 * 8 : 16 * 8;
}

static void shadow_stack_access(const struct case_def *this_case)
{
	const struct shadow_access *row = this_case->row;
	u64 open = row->eptp_flags ? 0 : VIOLATION_LEAF_BIT_60, offset = offset_of(row), got;
	struct ept_probe probe;

	start(&probe, row);
	if (row->qualification) {
		REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
		EXPECT_VIOLATION(row->qualification | VIOLATION_LINEAR_VALID |
				 VIOLATION_TRANSLATED, probe.gpa + offset, probe.linear + offset);
		got = vmread(EXIT_QUALIFICATION) & VIOLATION_LEAF_BIT_60 & ~open;
		EXPECT_EQ(got, row->qualification & VIOLATION_LEAF_BIT_60);
		EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code);
		EXPECT_EQ(vmread(GUEST_SSP), probe.linear + 16 * 8);
		EXPECT_EQ(probe.page[16], (u64)vmx_guest_done);
		*probe.entry[LEVEL_PTE] |= EPT_RWX | EPT_SUPERVISOR_SHADOW_STACK;
		*probe.entry[LEVEL_PDE] |= EPT_RWX;
		ept_invalidate(&probe.ept);
	}
	EXPECT(resume(), GUEST_DONE);
	if (row->code == wrssq)
		EXPECT_EQ(probe.page[16], PROBE_WRITTEN);
	if (row->code == ret)
		EXPECT_EQ(vmread(GUEST_SSP), probe.linear + 17 * 8);
	if (row->code == call)
		EXPECT_EQ(vmread(GUEST_SSP), probe.linear + 15 * 8);
}

#define SHADOW_STACKS	VMX, EPT, CPU(CET_SS), ENTRY_CTL(LOAD_CET_STATE), EXIT_CTL(LOAD_CET_STATE)
#define CONTROLLED	SHADOW_STACKS, EPT_CAP(SUPERVISOR_SHADOW_STACK)
#define SSS		.eptp_flags = EPTP_SUPERVISOR_SHADOW_STACK
#define BIT_60		EPT_SUPERVISOR_SHADOW_STACK
#define READ_SHADOW	(VIOLATION_READ | VIOLATION_SHADOW_STACK)
#define WRITE_SHADOW	(VIOLATION_WRITE | VIOLATION_SHADOW_STACK)

/* --- without the control ------------------------------------------------------------------ */

CASE_RUN(write_without_control, shadow_stack_access, PROVES("ept:violation.write"),
	 NEEDS(SHADOW_STACKS), WHEN(.code = wrssq));
CASE_RUN(write_to_read_only_page_without_control, shadow_stack_access,
	 PROVES("exit-qualifications:ept.shadow_stack", "ept:violation.write"),
	 NEEDS(SHADOW_STACKS),
	 WHEN(.code = wrssq, .clear = EPT_WRITE, .qualification = WRITE_SHADOW | R | X));
CASE_RUN(write_to_page_with_bit_60_without_control, shadow_stack_access,
	 PROVES("exit-qualifications:ept.shadow_stack", "ept:entry.leaf.bit60"),
	 NEEDS(SHADOW_STACKS),
	 WHEN(.code = wrssq, .clear = EPT_WRITE, .set = BIT_60,
	      .qualification = WRITE_SHADOW | R | X));
CASE_RUN(call_to_read_only_page_without_control, shadow_stack_access,
	 PROVES("exit-qualifications:ept.shadow_stack"), NEEDS(SHADOW_STACKS),
	 WHEN(.code = call, .clear = EPT_WRITE, .qualification = WRITE_SHADOW | R | X));
CASE_RUN(ret_from_page_not_present, shadow_stack_access,
	 PROVES("exit-qualifications:ept.shadow_stack"), NEEDS(SHADOW_STACKS),
	 WHEN(.code = ret, .clear = EPT_RWX | EPT_USER_EXECUTE, .qualification = READ_SHADOW));

/* --- with it --------------------------------------------------------------------------------- */

CASE_RUN(write_to_page_without_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.shadow_stack",
		"exit-qualifications:ept.leaf_bit_60", "ept:eptp.format.sss"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = wrssq, .qualification = WRITE_SHADOW | R | W | X));
CASE_RUN(ret_from_page_without_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.leaf_bit_60"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = ret, .qualification = READ_SHADOW | R | W | X));
CASE_RUN(call_to_page_without_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.leaf_bit_60"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = call, .qualification = WRITE_SHADOW | R | W | X));
CASE_RUN(write_to_page_with_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "ept:entry.leaf.bit60"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = wrssq, .clear = EPT_WRITE, .set = BIT_60));
CASE_RUN(call_to_page_with_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "ept:entry.leaf.bit60"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = call, .clear = EPT_WRITE, .set = BIT_60));
CASE_RUN(ret_from_page_with_bit_60, shadow_stack_access,
	 PROVES("ept:violation.sss", "ept:entry.leaf.bit60"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = ret, .clear = EPT_WRITE, .set = BIT_60));
/* Entries that refer to tables must allow writes, even for RET. */
CASE_RUN(ret_through_read_only_pde, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.leaf_bit_60"), NEEDS(CONTROLLED),
	 WHEN(SSS, .code = ret, .set = BIT_60, .clear_pde = EPT_WRITE,
	      .qualification = READ_SHADOW | VIOLATION_LEAF_BIT_60 | R | X));
CASE_RUN(write_through_read_only_pde, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.leaf_bit_60"), NEEDS(CONTROLLED),
	 WHEN(SSS, .code = wrssq, .set = BIT_60, .clear_pde = EPT_WRITE,
	      .qualification = WRITE_SHADOW | VIOLATION_LEAF_BIT_60 | R | X));
CASE_RUN(write_to_execute_only_page, shadow_stack_access,
	 PROVES("ept:violation.sss", "exit-qualifications:ept.leaf_bit_60"),
	 NEEDS(CONTROLLED, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(SSS, .code = wrssq, .clear = EPT_READ | EPT_WRITE, .set = BIT_60,
	      .qualification = WRITE_SHADOW | VIOLATION_LEAF_BIT_60 | X));
/* An access that is not one to a shadow stack does not care about bit 60. */
CASE_RUN(ordinary_read, shadow_stack_access, PROVES("ept:violation.sss_other_unaffected"),
	 NEEDS(CONTROLLED), WHEN(SSS, .code = mov));
