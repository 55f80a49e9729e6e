/*
 * Exceptions of the guest: the exception bitmap and the page-fault error-code mask and match (28.2
 * Other Causes of VM Exits), what such an exit says of the exception (30.2.2 Information for VM
 * Exits Due to Vectored Events), what it says of an event that was being delivered (30.2.4
 * Information About VM Exits During Event Delivery), and the triple fault.
 *
 * An exception that exits is not delivered: CR2, DR6 and the stack stay as they are (30.1
 * Architectural State Before a VM Exit). One that does not exit reaches the guest's own handler.
 */
#include "cpu/cpu.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

/* Event types: Table 27-20. */
enum event_type {
	EXTERNAL_INTERRUPT	= 0,
	NMI			= 2,
	HARDWARE_EXCEPTION	= 3,
	SOFTWARE_INTERRUPT	= 4,
	PRIVILEGED_EXCEPTION	= 5,
	SOFTWARE_EXCEPTION	= 6,
};

#define EVENT_VALID		BIT(31)
#define EVENT(vector, type)	(EVENT_VALID | (type) << 8 | (vector))
#define EVENT_WITH_ERROR(vector, type)	(EVENT(vector, type) | BIT(11))
/* Bit 12 is about IRET, and undefined for #DF. */
#define EVENT_DEFINED		(~0u & ~BIT(12))

/* 20.2.3 Debug Status Register (DR6); the exit qualification of Table 30-1. */
#define DEBUG_BD		BIT(13)
#define DEBUG_BS		BIT(14)
#define DEBUG_DEFINED		(BITS(3, 0) | BIT(11) | DEBUG_BD | DEBUG_BS | BIT(16))

struct exception {
	const struct guest_code *code;
	u8 vector;
	enum event_type type;
	bool has_error, trap, user_mode;
	u32 error;
	u64 qualification;
	u64 guest_cr0, guest_cr4;	/* bits to set */
	u64 value;			/* guest_value */
};

static void set_up(const struct exception *exception)
{
	if (exception->user_mode)
		guest_to_user_mode();
	/* An x87 exception that another case left pending would come first. */
	asm volatile("fninit");
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | exception->guest_cr0);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | exception->guest_cr4);
	guest_value = exception->value;
	/* A data segment that is not present. */
	cpu_set_descriptor(SELECTOR_SPARE, 0x00cf13000000ffff);
}

static u64 event_identification(const struct exception *exception)
{
	return exception->has_error ? EVENT_WITH_ERROR(exception->vector, exception->type) :
		EVENT(exception->vector, exception->type);
}

/*
 * 30.3.3 Saving RIP, RSP, RFLAGS, and SSP: RIP as the delivery would have pushed it, or the
 * software exception's own; RFLAGS.RF is a matter of its own below.
 */
static void expect_saved_state(const struct exception *exception)
{
	const struct guest_code *code = exception->code;

	EXPECT_EQ(vmread(GUEST_RIP), (u64)(exception->trap ? code->end : code->at));
	EXPECT_EQ(vmread(GUEST_RSP), guest_snapshot.rsp);
}

static void exits(const struct case_def *this_case)
{
	const struct exception *exception = this_case->row;
	u64 defined = exception->vector == VECTOR_DB ? DEBUG_DEFINED : ~0ull;

	set_up(exception);
	write_cr2(0x1111);
	vmwrite(EXCEPTION_BITMAP, BIT(exception->vector));
	REQUIRE(enter(exception->code->run), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(read_cr2(), 0x1111);
	EXPECT_EQ(read_dr6(), DR6_FIXED);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), event_identification(exception));
	if (exception->has_error)
		EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), exception->error);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & defined, exception->qualification);
	expect_saved_state(exception);
	/* 30.2.5: the length is there for software and privileged software exceptions. */
	if (exception->type != HARDWARE_EXCEPTION)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH),
			  exception->code->end - exception->code->at);
}

/*
 * 30.3.3: RFLAGS.RF as it would have been pushed. 20.3.1.1 Instruction-Breakpoint Exception
 * Condition: a fault pushes it as 1.
 */
static void saves_rf(const struct case_def *this_case)
{
	const struct exception *exception = this_case->row;

	set_up(exception);
	vmwrite(EXCEPTION_BITMAP, BIT(exception->vector));
	REQUIRE(enter(exception->code->run), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_RF, RFLAGS_RF);
}

static u32 traps_taken;

static void count_trap(struct trap_frame *frame)
{
	traps_taken++;
	frame->rflags &= ~RFLAGS_TF;
}

/* With every other bit of the bitmap set, the exception reaches the guest's handler. */
static void is_delivered(const struct case_def *this_case)
{
	const struct exception *exception = this_case->row;
	bool counted = exception->trap || exception->type != HARDWARE_EXCEPTION;

	set_up(exception);
	vmwrite(EXCEPTION_BITMAP, (u32)~BIT(exception->vector));
	traps_taken = 0;
	if (counted)
		trap_on(exception->vector, count_trap);
	EXPECT(enter(exception->code->run), GUEST_DONE);
	if (counted)
		EXPECT_EQ(traps_taken, 1);
	else
		EXPECT(guest_outcome(), exception->has_error ?
		       OUTCOME_FAULT(exception->vector, exception->error) :
		       OUTCOME_EXCEPTION(exception->vector));
	if (exception->vector == VECTOR_PF)
		EXPECT_EQ(guest_trap()->cr2, exception->qualification);
}

#define EVENT_OF(name, before, insn, vector_, type_, ...)				\
	GUEST_INSTRUCTION(name, before, insn);					\
	static const struct exception row_##name = {				\
		.code = &guest_##name, .vector = VECTOR_##vector_,		\
		.type = (type_), __VA_ARGS__ };				\
	EXCEPTION_CASES(name, vector_)
#define EXCEPTION_CASES(name, vector_)						\
	CASE_RUN(name##_exits, exits,						\
		 PROVES("exit-reasons:0", "nonroot-behavior:exception.bitmap",	\
			"host-and-exit:exit.event.exception",			\
			"host-and-exit:exit.event.errcode",			\
			"host-and-exit:save.rip.event",			\
			"exit-qualifications:exception." QUALIFIES_##vector_,	\
			"field-formats:exiting_event.vector",		\
			"field-formats:exiting_event.type",		\
			"field-formats:exiting_event.error_code_valid",	\
			"field-formats:exiting_event.reserved_30_14",	\
			"field-formats:exiting_event.valid"),		\
		 NEEDS(VMX), ROW(&row_##name));				\
	CASE_RUN(name##_is_delivered, is_delivered,				\
		 PROVES("nonroot-behavior:exception.bitmap"), NEEDS(VMX), ROW(&row_##name))
/* The rows of spec/exit-qualifications.csv, by vector. */
#define QUALIFIES_DB	"db.bs"
#define QUALIFIES_PF	"pf"
#define QUALIFIES_DE	"other"
#define QUALIFIES_BP	"other"
#define QUALIFIES_UD	"other"
#define QUALIFIES_NM	"other"
#define QUALIFIES_NP	"other"
#define QUALIFIES_SS	"other"
#define QUALIFIES_GP	"other"
#define QUALIFIES_MF	"other"
#define QUALIFIES_AC	"other"
#define QUALIFIES_XM	"other"
/* A fault: a hardware exception whose handler returns to the instruction. */
#define EXCEPTION(name, before, insn, vector_, ...)			\
	EVENT_OF(name, before, insn, vector_, HARDWARE_EXCEPTION, __VA_ARGS__);	\
	CASE_RUN(name##_saves_rf, saves_rf, PROVES("host-and-exit:save.rf.event"),	\
		 NEEDS(VMX), ROW(&row_##name))
#define ERROR(code)	.has_error = true, .error = (code)

EXCEPTION(de, "xorl %ecx, %ecx; xorl %edx, %edx", "divl %ecx", DE);
EXCEPTION(ud, "", "ud2", UD);
EXCEPTION(nm, "", "fnop", NM, .guest_cr0 = CR0_TS);
EXCEPTION(np, "movl $0x68, %eax", "movl %eax, %ds", NP, ERROR(SELECTOR_SPARE));
EXCEPTION(ss_by_load, "movl $0x68, %eax", "movl %eax, %ss", SS, ERROR(SELECTOR_SPARE));
EXCEPTION(ss_by_address, "movabsq $0x800000000000, %rbp", "movq (%rbp), %rax", SS,
	  ERROR(0));
EXCEPTION(gp_by_address, "movabsq $0x800000000000, %rbx", "movq (%rbx), %rax", GP,
	  ERROR(0));
EXCEPTION(gp_by_selector, "movl $0xfff8, %eax", "movl %eax, %es", GP, ERROR(0xfff8));
/* A hypervisor below this one raises the fault itself, where it looks at writes to CR4. */
EXCEPTION(gp_by_cr4, "mov %cr4, %rbx; btsq $63, %rbx", "mov %rbx, %cr4", GP, ERROR(0));
EXCEPTION(pf_by_read, "movabsq $0x500001000, %rbx", "movq 1(%rbx), %rax", PF,
	  ERROR(0), .qualification = UNMAPPED_ADDRESS + 1);
EXCEPTION(pf_by_write, "movabsq $0x500001000, %rbx", "movb %al, 2(%rbx)", PF,
	  ERROR(PF_WR), .qualification = UNMAPPED_ADDRESS + 2);
EXCEPTION(pf_at_cpl_3, "movabsq $0x500001000, %rbx", "movb %al, 3(%rbx)", PF,
	  ERROR(PF_WR | PF_US), .qualification = UNMAPPED_ADDRESS + 3, .user_mode = true);
EXCEPTION(mf, "fninit; fldcw guest_value; fld1; fldz; fdivrp", "fwait", MF,
	  .value = 0x37b);
EXCEPTION(xm, "ldmxcsr guest_value; xorps %xmm1, %xmm1; movl $0x3f800000, guest_memory; "
	      "movss guest_memory, %xmm0", "divss %xmm1, %xmm0", XM,
	  .value = 0x1d80, .guest_cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT);
EXCEPTION(ac, "pushfq; orl $0x40000, (%rsp); popfq", "movl guest_memory + 1, %eax", AC,
	  ERROR(0), .guest_cr0 = CR0_AM, .user_mode = true);
EVENT_OF(int3, "", "int3", BP, SOFTWARE_EXCEPTION);
EVENT_OF(int1, "", ".byte 0xf1", DB, PRIVILEGED_EXCEPTION);

/* TF works on the instruction behind POPF: no room for a snapshot. */
GUEST_CODE(single_step, GUEST_SNAPSHOT_ASM "pushfq; orl $0x100, (%rsp); popfq", "nop");
static const struct exception row_single_step = {
	.code = &guest_single_step, .vector = VECTOR_DB, .type = HARDWARE_EXCEPTION, .trap = true,
	.qualification = DEBUG_BS };
EXCEPTION_CASES(single_step, DB);

GUEST_INSTRUCTION(general_detect, "", "mov %dr0, %rax");

CASE(general_detect_exits, PROVES("exit-qualifications:exception.db.bd", "exit-reasons:0"),
     NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)))
{
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | DR7_GD);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	REQUIRE(enter(guest_general_detect.run), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), EVENT(VECTOR_DB, HARDWARE_EXCEPTION));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & DEBUG_DEFINED, DEBUG_BD);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_general_detect.at);
	/* Its delivery would have cleared DR7.GD and set DR6.BD. */
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED | DR7_GD);
	EXPECT_EQ(read_dr6(), DR6_FIXED);
}

GUEST_INSTRUCTION(int_n_3, "", ".byte 0xcd, 3");

/* INT n is no exception, whatever n is: 28.2 names the instructions that are. */
CASE(int_3_by_int_n_is_delivered, PROVES("nonroot-behavior:exception.bitmap"), NEEDS(VMX))
{
	vmwrite(EXCEPTION_BITMAP, ~0u);
	traps_taken = 0;
	trap_on(VECTOR_BP, count_trap);
	EXPECT(enter(guest_int_n_3.run), GUEST_DONE);
	EXPECT_EQ(traps_taken, 1);
}

/* --- page faults: bitmap, mask, match ------------------------------------------------------ */

struct page_fault {
	bool bit;
	u32 mask, match;
	bool exits;
};

/* A write to an address that is not mapped: error code 2. */
static void page_faults(const struct case_def *this_case)
{
	const struct page_fault *fault = this_case->row;

	vmwrite(EXCEPTION_BITMAP, fault->bit ? BIT(VECTOR_PF) : 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, fault->mask);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, fault->match);
	if (fault->exits) {
		EXPECT(enter(guest_pf_by_write.run), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	} else {
		EXPECT(enter(guest_pf_by_write.run), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, PF_WR));
	}
}

#define PAGE_FAULT(name, ...)							\
	static const struct page_fault row_pf_##name = { __VA_ARGS__ };	\
	CASE_RUN(pf_##name, page_faults, PROVES("nonroot-behavior:exception.pf_match"),	\
		 NEEDS(VMX), ROW(&row_pf_##name))

PAGE_FAULT(bit_1_equal_by_mask_0, true, 0, 0, true);
PAGE_FAULT(bit_1_unequal_by_mask_0, true, 0, ~0u, false);
PAGE_FAULT(bit_0_equal_by_mask_0, false, 0, 0, false);
PAGE_FAULT(bit_0_unequal_by_mask_0, false, 0, ~0u, true);
PAGE_FAULT(bit_1_write_matches, true, PF_WR, PF_WR, true);
PAGE_FAULT(bit_1_write_does_not_match, true, PF_WR, 0, false);
PAGE_FAULT(bit_0_write_matches, false, PF_WR, PF_WR, false);
PAGE_FAULT(bit_0_write_does_not_match, false, PF_WR, 0, true);
PAGE_FAULT(bit_1_whole_code_matches, true, ~0u, PF_WR, true);
PAGE_FAULT(bit_1_match_has_bits_outside_mask, true, PF_P, PF_WR, false);
PAGE_FAULT(bit_0_match_has_bits_outside_mask, false, PF_P, PF_WR, true);

/* --- exceptions while an event is delivered: the guest's IDT has no entries ------------------- */

static void without_idt(const struct guest_code *code, u64 bitmap)
{
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(EXCEPTION_BITMAP, bitmap);
	REQUIRE(enter(code->run), bitmap ? OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI) :
		OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code->at);
	EXPECT_EQ(vmread(GUEST_RSP), guest_snapshot.rsp);
}

CASE(triple_fault_exits, PROVES("exit-reasons:2", "exceptions:pair.double_fault.contributory"),
     NEEDS(VMX))
{
	without_idt(&guest_ud, 0);
}

/* The IDT is where nothing is mapped: #PF during #UD, #PF during #PF, and #PF during #DF. */
CASE(triple_fault_by_page_faults_exits,
     PROVES("exit-reasons:2", "exceptions:pair.double_fault.page_fault"), NEEDS(VMX))
{
	vmwrite(GUEST_IDTR_BASE, UNMAPPED_ADDRESS);
	vmwrite(EXCEPTION_BITMAP, 0);
	EXPECT(enter(guest_ud.run), OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_ud.at);
}

/*
 * With its tables gone the guest can fetch nothing more, and no handler either: #PF, #DF, the end.
 * RIP is that of the instruction behind the MOV, which is done.
 */
GUEST_CODE(mov_to_cr3, "movq guest_value, %rax", "movq %rax, %cr3");

CASE(triple_fault_without_paging_structures_exits,
     PROVES("exit-reasons:2", "paging:misc.unmapped_ram_walk"),
     NEEDS(VMX))
{
	if (vmcs_has_control(CONTROL_PROC1_CR3_LOAD_EXITING))
		case_skip("the 0-setting of CR3-load exiting");
	guest_value = physical(page_alloc());
	audit_guest_changes(GUEST_CR3);
	vmwrite(EXCEPTION_BITMAP, 0);
	EXPECT(enter(guest_mov_to_cr3.run), OUTCOME_EXIT(EXIT_TRIPLE_FAULT));
	EXPECT_EQ(vmread(GUEST_CR3), guest_value);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_mov_to_cr3.end);
}

CASE(double_fault_exits,
     PROVES("nonroot-behavior:exception.bitmap", "host-and-exit:exit.orig.invalid"), NEEDS(VMX))
{
	without_idt(&guest_ud, BIT(VECTOR_DF));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & EVENT_DEFINED,
		  EVENT_WITH_ERROR(VECTOR_DF, HARDWARE_EXCEPTION));
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), 0);
	/* #DF itself exits: that is not during the delivery of #UD. */
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_VALID, 0);
}

GUEST_INSTRUCTION(int_n_20, "", "int $0x20");

/* An event whose delivery ends in #GP: the error code names its gate, 7.13 Error Code. */
struct delivery {
	const struct guest_code *code;
	u64 original;
	u32 error;
	bool software;
};

static void gp_during_delivery(const struct case_def *this_case)
{
	const struct delivery *delivery = this_case->row;

	without_idt(delivery->code, BIT(VECTOR_GP));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION),
		  EVENT_WITH_ERROR(VECTOR_GP, HARDWARE_EXCEPTION));
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), delivery->error);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_DEFINED, delivery->original);
	if (delivery->software)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH),
			  delivery->code->end - delivery->code->at);
}

#define GATE_ERROR(vector, external)	((vector) << 3 | 2 | (external))
#define DELIVERY(name, ...)							\
	static const struct delivery row_delivery_##name = { &guest_##name, __VA_ARGS__ };	\
	CASE_RUN(gp_during_##name##_exits, gp_during_delivery,			\
		 PROVES("host-and-exit:exit.orig.valid", "exit-reasons:0",	\
			"field-formats:original_event.vector",		\
			"field-formats:original_event.type",		\
			"field-formats:original_event.reserved_30_14",	\
			"field-formats:original_event.valid"),		\
		 NEEDS(VMX), ROW(&row_delivery_##name))

DELIVERY(ud, EVENT(VECTOR_UD, HARDWARE_EXCEPTION), GATE_ERROR(VECTOR_UD, 1), false);
DELIVERY(int3, EVENT(VECTOR_BP, SOFTWARE_EXCEPTION), GATE_ERROR(VECTOR_BP, 0), true);
DELIVERY(int_n_20, EVENT(0x20, SOFTWARE_INTERRUPT), GATE_ERROR(0x20, 0), true);
