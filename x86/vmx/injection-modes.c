/*
 * Events that a VM entry injects outside 64-bit mode, and task switches.
 *
 * In 32-bit protected mode a gate of the IDT may be a task gate; a task switch always exits, and
 * nothing of it has happened then (28.4.2, 30.1). Into virtual-8086 mode a software interrupt is
 * injected whatever IOPL is, and with CR4.VME = 1 the interrupt-redirection bitmap of the TSS
 * decides between the program's own handler, in the table at linear address 0, and the IDT
 * (29.6.1.1). In real-address mode there are no error codes, and the table is where IDTR says
 * (29.6.1.3).
 *
 * The handlers exit at once, by CPUID.
 */
#include "ept/ept.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"
#include "vmx/handlers.h"

BEFORE_EACH_CASE(vmx_start);

#define VECTOR			0x51
#define STACK_TOP		0xffe		/* of 16-bit guests */
#define HANDLER_OFFSET		0x100		/* of 16-bit handlers, in the guest's page */
#define RFLAGS_VIF		BIT(19)

/*
 * 10.2.1 Task-State Segment (TSS), Figure 10-2; the redirection bitmap ends where the I/O map
 * begins.
 */
struct tss_32 {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	u32 registers[8], segments[6], ldt;
	u16 trap, io_map_base;
	u8 redirection[32];
	u8 io_map_end;
} __attribute__((packed));

static struct tss_32 this_task, other_task;
static u64 gates[256];
static u8 stack_for_cpl_0[512] __attribute__((aligned(16)));

#define SELECTOR_THIS	SELECTOR_SPARE
#define SELECTOR_OTHER	(SELECTOR_SPARE + 8)

static void describe(u16 selector, const struct tss_32 *tss, u64 type)
{
	u64 base = (u64)tss;

	cpu_set_descriptor(selector, (sizeof(*tss) - 1) | FIELD(base, 23, 0) << 16 | type << 40 |
			   FIELD(base, 31, 24) << 56);
}

/* 7.11: a 32-bit interrupt gate. */
static u64 gate_32(u64 offset, u8 dpl)
{
	return FIELD(offset, 15, 0) | (u64)SELECTOR_CODE32 << 16 | (0x8eull | dpl << 5) << 40 |
	       FIELD(offset, 31, 16) << 48;
}

/* A guest with 32-bit paging that maps the first 4 MBytes; TR has a task of 32 bits. */
static u32 *make_32_bit_guest(void)
{
	u32 *directory = tables_32_bit(), i;

	memset(&this_task, 0, sizeof(this_task));
	memset(&other_task, 0, sizeof(other_task));
	this_task.esp0 = (u64)(stack_for_cpl_0 + sizeof(stack_for_cpl_0));
	this_task.ss0 = SELECTOR_DATA;
	this_task.io_map_base = offsetof(struct tss_32, io_map_end);
	this_task.io_map_end = 0xff;
	for (i = 0; i < 256; i++)
		gates[i] = gate_32(guest_handler(i), 0);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_IDTR_BASE, (u64)gates);
	vmwrite(GUEST_IDTR_LIMIT, sizeof(gates) - 1);
	vmwrite(GUEST_TR_SELECTOR, SELECTOR_THIS);
	vmwrite(GUEST_TR_BASE, (u64)&this_task);
	vmwrite(GUEST_TR_LIMIT, sizeof(this_task) - 1);
	vmwrite(GUEST_TR_ACCESS_RIGHTS, 0x8b);
	describe(SELECTOR_THIS, &this_task, 0x8b);
	describe(SELECTOR_OTHER, &other_task, 0x89);
	audit_guest_changes_segments();
	return directory;
}

static void inject(enum injected_type type, u8 vector, u32 length)
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(type, vector));
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, length);
}

/* --- task switches ----------------------------------------------------------------------- */

GUEST_CODE(nop, "", "nop");
extern const u8 jump_to_task[];
asm(".pushsection .text\n\t.code32\njump_to_task:\n\tljmp $0x70, $0\n\t.code64\n\t.popsection");
_Static_assert(SELECTOR_OTHER == 0x70, "jump_to_task");

/*
 * Table 30-2, Exit Qualification for Task Switches: the selector, and in bits 31:30 what caused it.
 */
#define QUALIFICATION_TASK(source)	((u64)(source) << 30 | SELECTOR_OTHER)
enum { BY_CALL, BY_IRET, BY_JMP, BY_TASK_GATE };

#define TASK_GATE	((u64)SELECTOR_OTHER << 16 | 0x85ull << 40)

/* Nothing of the switch has happened: 30.1. */
static void expect_no_switch(const struct tss_32 *this_before, const struct tss_32 *other_before)
{
	const u64 *gdt = this_cpu()->gdt;

	EXPECT_EQ(memcmp(&this_task, this_before, sizeof(this_task)), 0);
	EXPECT_EQ(memcmp(&other_task, other_before, sizeof(other_task)), 0);
	EXPECT_EQ(FIELD(gdt[SELECTOR_THIS / 8], 47, 40), 0x8b);
	EXPECT_EQ(FIELD(gdt[SELECTOR_OTHER / 8], 47, 40), 0x89);
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_NT, 0);
	EXPECT_EQ(vmread(GUEST_TR_SELECTOR), SELECTOR_THIS);
	EXPECT_EQ(vmread(GUEST_TR_BASE), (u64)&this_task);
}

#define DEBUG_CONTROLS	ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)

CASE(task_switch_has_not_happened, PROVES("host-and-exit:direct.taskswitch"),
     NEEDS(VMX, DEBUG_CONTROLS))
{
	struct tss_32 this_before, other_before;

	make_32_bit_guest();
	this_before = this_task;
	other_before = other_task;
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | 0x55);
	vmwrite(GUEST_RIP, (u64)jump_to_task);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_TASK_SWITCH));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), QUALIFICATION_TASK(BY_JMP));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 7);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)jump_to_task);
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED | 0x55);
	expect_no_switch(&this_before, &other_before);
}

/* The vector's gate is a task gate. */
static void through_a_task_gate(enum injected_type type, u32 length)
{
	struct tss_32 this_before, other_before;

	make_32_bit_guest();
	gates[VECTOR] = TASK_GATE;
	this_before = this_task;
	other_before = other_task;
	vmwrite(GUEST_RIP, (u64)guest_nop.at);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	inject(type, VECTOR, length);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_TASK_SWITCH));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), QUALIFICATION_TASK(BY_TASK_GATE));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), INJECTED_EVENT(type, VECTOR));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & BIT(31), 0);
	if (length)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), length);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nop.at);
	expect_no_switch(&this_before, &other_before);
}

CASE(interrupt_through_a_task_gate, PROVES("event-injection:inject.task_gate"), NEEDS(VMX))
{
	through_a_task_gate(EVENT_TYPE_EXTERNAL_INTERRUPT, 0);
}

CASE(software_interrupt_through_a_task_gate, PROVES("event-injection:inject.task_gate"), NEEDS(VMX))
{
	through_a_task_gate(EVENT_TYPE_SOFTWARE_INTERRUPT, 4);
}

/* The gate is checked first: one that is not present is #NP, which the bitmap may make exit. */
CASE(task_gate_that_is_not_present, PROVES("event-injection:inject.nested_bitmap"), NEEDS(VMX))
{
	make_32_bit_guest();
	gates[VECTOR] = TASK_GATE & ~BIT(47);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP));
	vmwrite(GUEST_RIP, (u64)guest_nop.at);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	inject(EVENT_TYPE_EXTERNAL_INTERRUPT, VECTOR, 0);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), VECTOR << 3 | 3);
}

/* --- what a task switch reports, and what is checked before it ---------------------------- */

extern const u8 call_task[], return_to_task[], jump_with_rpl_3[], jump_beyond_the_limit[], int_n[];
asm(".pushsection .text\n\t.code32\ncall_task:\n\tlcall $0x70, $0\nreturn_to_task:\n\tiret\n"
    "jump_with_rpl_3:\n\tljmp $0x73, $0\njump_beyond_the_limit:\n\tljmp $0xfff8, $0\n"
    "int_n:\n\tint $0x51\n\t.code64\n\t.popsection");

#define TSS_AVAILABLE	0x89ull
#define TSS_BUSY	0x8bull

static void run_32_bit(const u8 *code, u64 rflags)
{
	vmwrite(GUEST_RIP, (u64)code);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | rflags);
}

struct task_switch {
	const u8 *code;
	u64 rflags, type;		/* of the new task's descriptor */
	u32 source;
};

static void task_switch_reports(const struct case_def *this_case)
{
	const struct task_switch *row = this_case->row;

	make_32_bit_guest();
	gates[VECTOR] = TASK_GATE;
	this_task.link = SELECTOR_OTHER;
	describe(SELECTOR_OTHER, &other_task, row->type);
	run_32_bit(row->code, row->rflags);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_TASK_SWITCH));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & (BITS(31, 30) | BITS(15, 0)),
		  QUALIFICATION_TASK(row->source));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code);
}

#define REPORTS(name, ...)							\
	static const struct task_switch row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, task_switch_reports, PROVES("exit-qualifications:task_switch.source",	\
		 "exit-qualifications:task_switch.selector", "exit-reasons:9"), NEEDS(VMX),	\
		 ROW(&row_##name))
REPORTS(task_switch_by_call, call_task, 0, TSS_AVAILABLE, BY_CALL);
REPORTS(task_switch_by_iret, return_to_task, RFLAGS_NT, TSS_BUSY, BY_IRET);
REPORTS(task_switch_by_jmp, jump_to_task, 0, TSS_AVAILABLE, BY_JMP);
REPORTS(task_switch_by_int_n, int_n, 0, TSS_AVAILABLE, BY_TASK_GATE);

/*
 * 30.3.3: RF is as the TSS of the old task would have it, and so would be RIP. A fault sets it,
 * INT n has cleared it (20.3.1.1), whatever it was.
 */
static void task_gate_saves_rf(const u8 *code, u8 vector, u64 original, u64 rf)
{
	make_32_bit_guest();
	gates[vector] = TASK_GATE;
	run_32_bit(code, RFLAGS_RF ^ rf);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_TASK_SWITCH));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), QUALIFICATION_TASK(BY_TASK_GATE));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), BIT(31) | original);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)code);
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | rf);
}

extern const u8 undefined[];
asm(".pushsection .text\nundefined:\n\tud2\n\t.popsection");

CASE(task_switch_by_a_fault_saves_rf, PROVES("host-and-exit:save.rf.task"), NEEDS(VMX))
{
	task_gate_saves_rf(undefined, VECTOR_UD, EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_UD,
			   RFLAGS_RF);
}

CASE(task_switch_by_int_n_saves_no_rf, PROVES("host-and-exit:save.rf.task"), NEEDS(VMX))
{
	task_gate_saves_rf(int_n, VECTOR, EVENT_TYPE_SOFTWARE_INTERRUPT << 8 | VECTOR, 0);
}

/* Bit 1 of an error code: the index is one of the IDT: 7.13. */
#define IDT_ENTRY(vector)	((vector) << 3 | BIT(1))

struct task_fault {
	const u8 *code;
	u64 rflags, type;
	u32 limit;			/* of the new TSS; 0: as it is */
	u64 gate;			/* 0: a task gate that is right */
	outcome_t fault;
};

/* What is wrong faults as if no task switch ever exited. */
static void task_switch_faults(const struct case_def *this_case)
{
	const struct task_fault *row = this_case->row;
	u8 vector = FIELD(row->fault, 55, 48);

	make_32_bit_guest();
	gates[VECTOR] = row->gate ? row->gate : TASK_GATE;
	this_task.link = SELECTOR_OTHER;
	describe(SELECTOR_OTHER, &other_task, row->type);
	if (row->limit)
		this_cpu()->gdt[SELECTOR_OTHER / 8] -= sizeof(other_task) - 1 - row->limit;
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_NP) | BIT(VECTOR_TS) | BIT(VECTOR_GP));
	run_32_bit(row->code, row->rflags);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & ~BIT(12),
		  INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, vector) | INJECTED_ERROR_CODE);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), FIELD(row->fault, 31, 0));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code);
}

#define FAULTS(name, ...)							\
	static const struct task_fault row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, task_switch_faults, PROVES("nonroot-behavior:task_switch.checks"),	\
		 NEEDS(VMX), ROW(&row_##name))
FAULTS(gate_is_not_present, int_n, .type = TSS_AVAILABLE, .gate = TASK_GATE & ~BIT(47),
       .fault = OUTCOME_FAULT(VECTOR_NP, IDT_ENTRY(VECTOR)));
FAULTS(privilege_of_the_tss, jump_with_rpl_3, .type = TSS_AVAILABLE,
       .fault = OUTCOME_FAULT(VECTOR_GP, SELECTOR_OTHER));
FAULTS(selector_beyond_the_limit, jump_beyond_the_limit, .type = TSS_AVAILABLE,
       .fault = OUTCOME_FAULT(VECTOR_GP, 0xfff8));
FAULTS(tss_is_busy, jump_to_task, .type = TSS_BUSY,
       .fault = OUTCOME_FAULT(VECTOR_GP, SELECTOR_OTHER));
FAULTS(tss_is_not_present, jump_to_task, .type = TSS_AVAILABLE & ~BIT(7),
       .fault = OUTCOME_FAULT(VECTOR_NP, SELECTOR_OTHER));
FAULTS(tss_is_too_small, jump_to_task, .type = TSS_AVAILABLE, .limit = 0x66,
       .fault = OUTCOME_FAULT(VECTOR_TS, SELECTOR_OTHER));
FAULTS(tss_of_iret_is_not_busy, return_to_task, .rflags = RFLAGS_NT, .type = TSS_AVAILABLE,
       .fault = OUTCOME_FAULT(VECTOR_TS, SELECTOR_OTHER));

/* --- virtual-8086 mode ------------------------------------------------------------------- */

#define SEGMENT		0x1000		/* a selector, and 16 times that is its base */
#define CPUID_CODE	0xa20f

/* Segments of 64 KBytes; code that exits where a 16-bit handler is to begin. */
static void make_16_bit_segments(u8 *page, u32 rights)
{
	u32 i;

	for (i = 0; i < 6; i++) {	/* ES CS SS DS FS GS */
		vmwrite(GUEST_ES_SELECTOR + 2 * i, SEGMENT);
		vmwrite(GUEST_ES_BASE + 2 * i, SEGMENT * 16);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, rights);
	}
	*(u16 *)(page + HANDLER_OFFSET) = CPUID_CODE;
	vmwrite(GUEST_RSP, STACK_TOP);
	vmwrite(GUEST_RIP, 0);
	audit_guest_changes_segments();
}

static u8 *guest_page, *vector_table;

static void make_v86_guest(u64 cr4, u64 rflags)
{
	u32 *directory = make_32_bit_guest();

	guest_page = page_alloc();
	vector_table = page_alloc();
	directory[0] |= PTE_US;
	map_32_bit(directory, SEGMENT * 16, physical(guest_page), PTE_P | PTE_RW | PTE_US);
	map_32_bit(directory, 0, physical(vector_table), PTE_P | PTE_RW | PTE_US);
	make_16_bit_segments(guest_page, 0xf3);
	/* The table's entry: segment and offset of the program's own handler. */
	*(u32 *)(vector_table + 4 * VECTOR) = SEGMENT << 16 | HANDLER_OFFSET;
	gates[VECTOR] = gate_32(guest_handler(VECTOR), 3);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | cr4);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | rflags);
	inject(EVENT_TYPE_SOFTWARE_INTERRUPT, VECTOR, 2);
}

/* 23.2.1, 23.3.1.1: the frame that a handler in protected mode finds. */
struct v86_frame {
	u32 eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

static void expect_protected_mode_handler(u64 rflags)
{
	const struct v86_frame *frame;

	REQUIRE_HANDLER(resume(), VECTOR);
	frame = (const struct v86_frame *)vmread(GUEST_RSP);
	EXPECT_EQ(frame->eip, 2);
	EXPECT_EQ(frame->cs, SEGMENT);
	EXPECT_EQ(frame->eflags, RFLAGS_FIXED | RFLAGS_VM | rflags);
	EXPECT_EQ(frame->esp, STACK_TOP);
	EXPECT_EQ(vmread(GUEST_RFLAGS) & RFLAGS_VM, 0);
}

/* INT n itself is #GP(0) with IOPL below 3. */
CASE(v86_software_interrupt_with_iopl_0, PROVES("event-injection:inject.v86.iopl"), NEEDS(VMX))
{
	make_v86_guest(0, 0);
	expect_protected_mode_handler(0);
}

CASE(v86_software_interrupt_with_iopl_3, PROVES("event-injection:inject.v86.iopl"), NEEDS(VMX))
{
	make_v86_guest(0, RFLAGS_IOPL | RFLAGS_IF);
	expect_protected_mode_handler(RFLAGS_IOPL | RFLAGS_IF);
}

CASE(v86_vme_bit_set_uses_the_idt, PROVES("event-injection:inject.v86.vme"), NEEDS(VMX))
{
	make_v86_guest(CR4_VME, 0);
	this_task.redirection[VECTOR / 8] |= BIT(VECTOR % 8);
	expect_protected_mode_handler(0);
}

/*
 * 30.2.4: INT n itself is refused there before anything is delivered. With IOPL 3 it is delivered,
 * as far as its gate lets it.
 */
static void v86_int_n(u64 cr4, u64 rflags, u8 vector, u64 original)
{
	static const u8 code[] = { 0xcd, VECTOR };

	make_v86_guest(cr4, rflags);
	this_task.redirection[VECTOR / 8] |= BIT(VECTOR % 8);
	gates[VECTOR] &= ~BIT(47);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
	memcpy(guest_page, code, sizeof(code));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP) | BIT(VECTOR_NP));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(FIELD(vmread(EXITING_EVENT_IDENTIFICATION), 7, 0), vector);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), vector == VECTOR_GP ? 0 : VECTOR << 3 | 2);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & (original ? ~BIT(12) : BIT(31)),
		  original);
	EXPECT_EQ(vmread(GUEST_RIP), 0);
}

#define INT_N	(BIT(31) | EVENT_TYPE_SOFTWARE_INTERRUPT << 8 | VECTOR)

CASE(v86_int_n_with_iopl_0_delivers_nothing, PROVES("host-and-exit:exit.orig.v86"), NEEDS(VMX))
{
	v86_int_n(0, 0, VECTOR_GP, 0);
}

CASE(v86_int_n_by_the_bitmap_delivers_nothing, PROVES("host-and-exit:exit.orig.v86"), NEEDS(VMX))
{
	v86_int_n(CR4_VME, 0, VECTOR_GP, 0);
}

CASE(v86_int_n_with_iopl_3_is_delivered, PROVES("host-and-exit:exit.orig.v86"), NEEDS(VMX))
{
	v86_int_n(0, RFLAGS_IOPL, VECTOR_NP, INT_N);
}

/* The words that a 16-bit handler finds: IP, CS, FLAGS. */
static void expect_16_bit_handler(const u8 *page, u16 ip, u16 flags)
{
	const u16 *frame = (const u16 *)(page + STACK_TOP - 6);

	REQUIRE(resume(), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), HANDLER_OFFSET);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SEGMENT);
	EXPECT_EQ(vmread(GUEST_RSP), STACK_TOP - 6);
	EXPECT_EQ(frame[0], ip);
	EXPECT_EQ(frame[1], SEGMENT);
	EXPECT_EQ(frame[2], flags);
}

/* With IOPL below 3 the program sees IOPL 3, and VIF for IF. */
CASE(v86_vme_bit_clear_uses_the_table, PROVES("event-injection:inject.v86.vme"), NEEDS(VMX))
{
	make_v86_guest(CR4_VME, RFLAGS_VIF);
	expect_16_bit_handler(guest_page, 2, RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_IF);
	make_v86_guest(CR4_VME, 0);
	expect_16_bit_handler(guest_page, 2, RFLAGS_FIXED | RFLAGS_IOPL);
}

/* With IOPL 3 it sees the flags as they are. */
CASE(v86_vme_with_iopl_3, PROVES("event-injection:inject.v86.vme"), NEEDS(VMX))
{
	make_v86_guest(CR4_VME, RFLAGS_IOPL | RFLAGS_IF);
	expect_16_bit_handler(guest_page, 2, RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_IF);
}

/* Only software interrupts are redirected. */
CASE(v86_external_interrupt_uses_the_idt, PROVES("event-injection:inject.v86.vme"), NEEDS(VMX))
{
	make_v86_guest(CR4_VME, RFLAGS_IF);
	inject(EVENT_TYPE_EXTERNAL_INTERRUPT, VECTOR, 0);
	REQUIRE_HANDLER(resume(), VECTOR);
	EXPECT_EQ(((const struct v86_frame *)vmread(GUEST_RSP))->eip, 0);
}

/* 7.15: virtual-8086 mode is CPL 3, so alignment is checked, from the first instruction. */
CASE(v86_alignment_check, PROVES("exceptions:vector.17"), NEEDS(VMX))
{
	static const u8 code[] = { 0xa1, 0x01, 0x00, 0x0f, 0xa2 };	/* MOV AX, [1]; CPUID */

	make_v86_guest(0, RFLAGS_AC | RFLAGS_IOPL);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
	memcpy(guest_page, code, sizeof(code));
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_AM);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_AC));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(FIELD(vmread(EXITING_EVENT_IDENTIFICATION), 7, 0), VECTOR_AC);
	EXPECT_EQ(vmread(GUEST_RIP), 0);
}

/* --- real-address mode ------------------------------------------------------------------- */

#define REAL_MODE	EPT, PROC2(UNRESTRICTED_GUEST)
#define TABLE_OFFSET	0x200

struct real_event {
	enum injected_type type;
	u8 vector;
	u32 length;
};

/* The table is in the guest's page, and IDTR refers to it. */
static void in_real_mode(const struct case_def *this_case)
{
	const struct real_event *event = this_case->row;
	struct ept ept;

	ept_start(&ept, 0);
	guest_page = page_alloc();
	guest_to_real_mode();
	make_16_bit_segments(guest_page, 0x93);
	*(u32 *)(guest_page + TABLE_OFFSET + 4 * event->vector) = SEGMENT << 16 | HANDLER_OFFSET;
	vmwrite(GUEST_IDTR_BASE, SEGMENT * 16 + TABLE_OFFSET);
	vmwrite(GUEST_IDTR_LIMIT, 0x3ff);
	ept_map(&ept, SEGMENT * 16, physical(guest_page), ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
		LEVEL_PTE);
	ept_invalidate(&ept);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	inject(event->type, event->vector, event->length);
	expect_16_bit_handler(guest_page, event->length, RFLAGS_FIXED | RFLAGS_IF);
}

/* #GP, which has an error code in protected mode, among them. */
#define REAL(name, ...)								\
	static const struct real_event row_##name = { __VA_ARGS__ };		\
	CASE_RUN(real_##name, in_real_mode, PROVES("event-injection:inject.real"),	\
		 NEEDS(VMX, REAL_MODE), ROW(&row_##name))
REAL(external_interrupt, EVENT_TYPE_EXTERNAL_INTERRUPT, VECTOR, 0);
REAL(general_protection, EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_GP, 0);
REAL(software_interrupt, EVENT_TYPE_SOFTWARE_INTERRUPT, VECTOR, 2);
REAL(int3, EVENT_TYPE_SOFTWARE_EXCEPTION, VECTOR_BP, 1);
