/*
 * What an exception or interrupt pushes outside IA-32e mode: through 32-bit and 16-bit gates, with
 * and without a change of privilege (7.12.1 Exception- or Interrupt-Handler Procedures), in
 * real-address mode (23.1.4 Interrupt and Exception Handling), from virtual-8086 mode (23.3
 * Interrupt and Exception Handling in Virtual-8086 Mode); and the trap of a task switch, which
 * IA-32e mode does not have either (10.3 Task Switching).
 *
 * Each case is a step of a script (mmu/legacy.h): protected mode without paging. The handler keeps
 * what it finds on its stack, and the step is over.
 */
#include "cpu/apic.h"
#include "mmu/legacy.h"
#include "platform.h"
#include "string.h"

#define VECTOR_A	0x61
#define TEST_VECTOR	0x30

/* Descriptors of the cases: the GDT's spare part. */
#define SELECTOR_TSS_A	SELECTOR_SPARE
#define SELECTOR_TSS_B	(SELECTOR_SPARE + 8)
#define SELECTOR_BASED	(SELECTOR_SPARE + 16)	/* code; its base is the handler */

#define GATE_32		0xee
#define GATE_16		0xe6

/* A page below 1 MiB, for code of 16 bits: its code, its data, the interrupt table, the stack. */
#define LOW_PAGE	0x9000
#define LOW_SEGMENT	(LOW_PAGE / 16)
#define LOW_FRAME	0x200
#define LOW_STACK	0x400
#define LOW_TABLE	0x800

/* --- the handlers ----------------------------------------------------------------- */

/* What a handler found: words from its stack pointer up, its own DS, SS and stack pointer. */
struct found {
	u32 words[12];
	u32 esp, ss, ds;
} legacy_found;
u32 legacy_resume;		/* ESP of the step, to end it */
u32 legacy_user_esp;
struct table_pointer legacy_idt, legacy_ivt;
static u64 idt[128];

extern const u8 keep_frame[], keep_real_frame[];
asm(".pushsection .text\n\t.code32\n"
    "keep_frame:\n\t"
    "movl %ds, %eax; movl $0x10, %ecx; movl %ecx, %ds; movl %ecx, %es\n\t"
    "movl %eax, legacy_found + 56; movl %ss, %eax; movl %eax, legacy_found + 52\n\t"
    "movl %esp, legacy_found + 48\n\t"
    "cld; movl %esp, %esi; movl $legacy_found, %edi; movl $12, %ecx; rep movsl\n\t"
    "movl $0x10, %eax; movl %eax, %ss; movl legacy_resume, %esp\n\t"
    "ljmp $0x18, $1f\n"
    "1:\tret\n"
    /* The same from real-address mode, which has left three words in the low page. */
    "keep_real_frame:\n\t"
    "movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl legacy_resume, %esp\n\t"
    "cld; movl $0x9200, %esi; movl $legacy_found, %edi; movl $12, %ecx; rep movsl\n\t"
    "ret\n\t"
    ".code64\n\t.popsection");

#define BEGIN	"movl %esp, legacy_resume; lidt legacy_idt\n\t"

static void set_gate(u8 vector, u16 selector, u32 offset, u8 type)
{
	idt[vector] = FIELD(offset, 15, 0) | (u64)selector << 16 | (u64)type << 40 |
		      (u64)FIELD(offset, 31, 16) << 48;
}

static void prepare(void)
{
	u32 i;

	memset(&legacy_found, 0, sizeof(legacy_found));
	for (i = 0; i < ARRAY_SIZE(idt); i++)
		set_gate(i, SELECTOR_CODE32, (u64)keep_frame, GATE_32);
	legacy_idt = (struct table_pointer){ sizeof(idt) - 1, (u64)idt };
	legacy_user_esp = (u64)this_cpu()->user_stack + CPU_USER_SIZE;
}
BEFORE_EACH_CASE(prepare);

/* Runs the code in protected mode without paging; its end is the end of its first handler. */
static void run_step(const u8 *code)
{
	struct legacy_step script[] = { { LEGACY_STEP("the step of the case", code, 0, 0) } };

	LEGACY_RUN((&(struct legacy_start){ .mode = PAGING_OFF }), script);
}

/* A TSS of 32 bits: 10.2.1. Its stack for CPL 0 is where a handler's own is. */
static struct tss_32 {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, io_map_base;
} tss_a, tss_b;

static void set_tss(u16 selector, struct tss_32 *tss)
{
	u64 base = (u64)tss;

	memset(tss, 0, sizeof(*tss));
	tss->esp0 = (u64)this_cpu()->trap_stack + sizeof(this_cpu()->trap_stack);
	tss->ss0 = SELECTOR_DATA;
	tss->io_map_base = sizeof(*tss);
	cpu_set_descriptor(selector, (sizeof(*tss) - 1) | FIELD(base, 23, 0) << 16 | 0x89ull << 40 |
				     FIELD(base, 31, 24) << 56);
}

/* --- protected mode ------------------------------------------------------------------ */

#define STEP(name, text)							\
	extern const u8 name##_at[], name##_next[];				\
	CODE32(name, BEGIN text)

STEP(int_30h, "int_30h_at: int $0x30; int_30h_next:");
STEP(bad_selector, "movl $0xb0, %ecx; bad_selector_at: movl %ecx, %ds; bad_selector_next:");
STEP(user_int_30h,
     "movl $0x68, %ecx; ltr %cx\n\t"
     "pushl $0x3b; pushl legacy_user_esp; pushl $2; pushl $0x33; pushl $user_int_30h_at; iret\n"
     "user_int_30h_at: int $0x30; user_int_30h_next:");

CASE(frame_of_32_bit_gate, PROVES("exceptions:frame.32bit_same_privilege"))
{
	run_step(int_30h);
	EXPECT_EQ(legacy_found.words[0], (u64)int_30h_next);
	EXPECT_EQ(legacy_found.words[1] & 0xffff, SELECTOR_CODE32);
	EXPECT_EQ(legacy_found.words[2] & RFLAGS_FIXED, RFLAGS_FIXED);
	/* No SS and no ESP: the stack is the same. */
	EXPECT_EQ(legacy_found.esp, legacy_resume - 12);
}

CASE(frame_of_32_bit_gate_with_error_code, PROVES("exceptions:frame.32bit_same_privilege"))
{
	run_step(bad_selector);
	EXPECT_EQ(legacy_found.words[0], GDT_SIZE);
	EXPECT_EQ(legacy_found.words[1], (u64)bad_selector_at);
	EXPECT_EQ(legacy_found.words[2] & 0xffff, SELECTOR_CODE32);
	EXPECT_EQ(legacy_found.esp, legacy_resume - 16);
}

CASE(frame_of_a_privilege_change, PROVES("exceptions:frame.32bit_privilege_change"))
{
	set_tss(SELECTOR_TSS_A, &tss_a);
	run_step(user_int_30h);
	EXPECT_EQ(legacy_found.words[0], (u64)user_int_30h_next);
	EXPECT_EQ(legacy_found.words[1] & 0xffff, SELECTOR_USER_CODE32);
	EXPECT_EQ(legacy_found.words[3], legacy_user_esp);
	EXPECT_EQ(legacy_found.words[4] & 0xffff, SELECTOR_USER_DATA);
	EXPECT_EQ(legacy_found.esp, tss_a.esp0 - 20);
	EXPECT_EQ(legacy_found.ss, SELECTOR_DATA);
}

/* The offset of a 16-bit gate has 16 bits, so its segment begins at the handler. */
static void use_16_bit_gate(u8 vector)
{
	u64 base = (u64)keep_frame;

	cpu_set_descriptor(SELECTOR_BASED, this_cpu()->gdt[SELECTOR_CODE32 / 8] |
					   FIELD(base, 23, 0) << 16 | FIELD(base, 31, 24) << 56);
	set_gate(vector, SELECTOR_BASED, 0, GATE_16);
}

CASE(frame_of_16_bit_gate, PROVES("exceptions:frame.16bit_gate"))
{
	use_16_bit_gate(TEST_VECTOR);
	run_step(int_30h);
	EXPECT_EQ(legacy_found.words[0] & 0xffff, (u64)int_30h_next & 0xffff);
	EXPECT_EQ(legacy_found.words[0] >> 16, SELECTOR_CODE32);
	EXPECT_EQ(legacy_found.words[1] & RFLAGS_FIXED, RFLAGS_FIXED);
	EXPECT_EQ(legacy_found.esp, legacy_resume - 6);
}

CASE(frame_of_16_bit_gate_with_error_code, PROVES("exceptions:frame.16bit_gate"))
{
	use_16_bit_gate(VECTOR_GP);
	run_step(bad_selector);
	EXPECT_EQ(legacy_found.words[0] & 0xffff, GDT_SIZE);
	EXPECT_EQ(legacy_found.words[0] >> 16, (u64)bad_selector_at & 0xffff);
	EXPECT_EQ(legacy_found.words[1] & 0xffff, SELECTOR_CODE32);
	EXPECT_EQ(legacy_found.esp, legacy_resume - 8);
}

/* --- real-address mode ------------------------------------------------------------------ */

/* Copied to the low page; runs there with CS = DS = SS = 900H, RAX = the number of the program. */
extern const u8 low_code[], low_code_end[], low_real[], low_int[], low_int_next[], low_fault[],
	low_handler[], low_v86[];
asm(".pushsection .rodata\n\t.code16\n"
    "low_code:\n"
    "low_real:\n\t"
    /* Limits of 64 KBytes stay with the segments: 11.9.2. */
    "movw $0x28, %cx; movw %cx, %ds; movw %cx, %es; movw %cx, %ss\n\t"
    "movl %cr0, %ecx; andl $0xfffffffe, %ecx; movl %ecx, %cr0\n\t"
    "ljmp $0x900, $1f - low_code\n"
    "1:\tmovw %cs, %cx; movw %cx, %ds; movw %cx, %ss; movw $0x400, %sp\n\t"
    "testl %eax, %eax; jnz low_fault\n"
    "low_int:\tint $0x30\n"
    "low_int_next:\tjmp low_handler\n"
    /* 16 bytes, one too many: #GP. */
    "low_fault:\t.fill 15, 1, 0x26; nop\n\t"
    "jmp low_handler\n"
    "low_handler:\n\t"
    "movw %sp, %bx; movw %bx, 0x206\n\t"
    "popw 0x200; popw 0x202; popw 0x204\n\t"
    "movl %cr0, %ecx; orl $1, %ecx; movl %ecx, %cr0\n\t"
    "ljmpl $0x18, $keep_real_frame\n"
    "low_v86:\tud2\n"
    "low_code_end:\n\t"
    ".code64\n\t.popsection");

STEP(real_int,
     "lidt legacy_ivt; xorl %eax, %eax; real_int_at: ljmp $0x20, $0x9000; real_int_next:");
STEP(real_fault,
     "lidt legacy_ivt; movl $1, %eax; real_fault_at: ljmp $0x20, $0x9000; real_fault_next:");

static bool has_low_page(u64 unused)
{
	const struct platform *platform = this_platform();
	u32 i;

	(void)unused;
	for (i = 0; i < platform->memory_count; i++)
		if (platform->memory[i].start <= LOW_PAGE &&
		    platform->memory[i].start + platform->memory[i].size >= LOW_PAGE + PAGE_SIZE)
			return true;
	return false;
}
#define LOW_MEMORY	{ .text = "memory at 9000H", .met = has_low_page }

static u16 low_offset(const u8 *place)
{
	return place - low_code;
}

/* The interrupt table: offset, segment, for every vector the same handler. 23.1.4. */
static void fill_low_page(void)
{
	u8 *page = (u8 *)LOW_PAGE;
	u32 *table = (u32 *)(page + LOW_TABLE), i;

	memset(page, 0, PAGE_SIZE);
	memcpy(page, low_code, low_code_end - low_code);
	for (i = 0; i < 256; i++)
		table[i] = (u32)LOW_SEGMENT << 16 | low_offset(low_handler);
	legacy_ivt = (struct table_pointer){ 256 * 4 - 1, (u64)table };
}

static void check_real_frame(const u8 *step, const u8 *saved_ip)
{
	const u16 *words = (const u16 *)legacy_found.words;

	fill_low_page();
	run_step(step);
	EXPECT_EQ(words[0], low_offset(saved_ip));
	EXPECT_EQ(words[1], LOW_SEGMENT);
	EXPECT_EQ(words[2] & RFLAGS_FIXED, RFLAGS_FIXED);
	EXPECT_EQ(words[3], LOW_STACK - 6);
}

CASE(frame_in_real_mode, PROVES("exceptions:frame.real_mode"), NEEDS(LOW_MEMORY))
{
	check_real_frame(real_int, low_int_next);
}

CASE(no_error_code_in_real_mode, PROVES("exceptions:frame.real_mode"), NEEDS(LOW_MEMORY))
{
	check_real_frame(real_fault, low_fault);
}

/* --- virtual-8086 mode ------------------------------------------------------------------- */

/* IRET loads GS, FS, DS, ES, SS, ESP, EFLAGS with VM = 1, CS, EIP. */
u32 legacy_v86_eip;
STEP(v86_undefined,
     "movl $0x68, %ecx; ltr %cx\n\t"
     "pushl $0x905; pushl $0x904; pushl $0x903; pushl $0x902; pushl $0x901; pushl $0x3f0\n\t"
     "pushl $0x20002; pushl $0x900; pushl legacy_v86_eip\n"
     "v86_undefined_at: iret; v86_undefined_next:");

CASE(frame_from_virtual_8086_mode, PROVES("exceptions:frame.v86"), NEEDS(LOW_MEMORY))
{
	const u32 *words = legacy_found.words;

	fill_low_page();
	set_tss(SELECTOR_TSS_A, &tss_a);
	legacy_v86_eip = low_offset(low_v86);
	run_step(v86_undefined);
	EXPECT_EQ(words[0], low_offset(low_v86));
	EXPECT_EQ(words[1] & 0xffff, LOW_SEGMENT);
	EXPECT_EQ(words[2] & RFLAGS_VM, RFLAGS_VM);
	EXPECT_EQ(words[3], 0x3f0);
	EXPECT_EQ(words[4] & 0xffff, 0x901);	/* SS */
	EXPECT_EQ(words[5] & 0xffff, 0x902);	/* ES */
	EXPECT_EQ(words[6] & 0xffff, 0x903);	/* DS */
	EXPECT_EQ(words[7] & 0xffff, 0x904);	/* FS */
	EXPECT_EQ(words[8] & 0xffff, 0x905);	/* GS */
	EXPECT_EQ(legacy_found.esp, tss_a.esp0 - 36);
	/* The handler's own are null. */
	EXPECT_EQ(legacy_found.ds, 0);
}

/* --- the trap of a task switch ------------------------------------------------------------- */

struct order {
	u32 count, debug, interrupt;	/* what was first, second */
	u32 debug_eip, interrupt_eip, dr6;
} legacy_order;

extern const u8 note_debug[], note_interrupt[], second_task[];
asm(".pushsection .text\n\t.code32\n"
    "note_debug:\n\t"
    "incl legacy_order; movl legacy_order, %eax; movl %eax, legacy_order + 4\n\t"
    "movl (%esp), %eax; movl %eax, legacy_order + 12;\n\t"
    "movl %dr6, %eax; movl %eax, legacy_order + 20\n\t"
    "iret\n"
    "note_interrupt:\n\t"
    "incl legacy_order; movl legacy_order, %eax; movl %eax, legacy_order + 8\n\t"
    "movl (%esp), %eax; movl %eax, legacy_order + 16\n\t"
    "jmp keep_frame\n"
    "second_task: nop; nop; nop; jmp keep_frame\n\t"
    ".code64\n\t.popsection");

STEP(switch_task, "movl $0x68, %ecx; ltr %cx; switch_task_at: ljmp $0x70, $0; switch_task_next:");

/* The new task has interrupts open, and one is pending: the trap of its TSS comes first. */
CASE(task_switch_trap_before_interrupt, PROVES("exceptions:priority.task_switch_trap"), NEEDS(APIC))
{
	set_tss(SELECTOR_TSS_A, &tss_a);
	set_tss(SELECTOR_TSS_B, &tss_b);
	tss_b.eip = (u64)second_task;
	tss_b.eflags = RFLAGS_FIXED | RFLAGS_IF;
	tss_b.esp = tss_b.esp0;
	tss_b.cs = SELECTOR_CODE32;
	tss_b.ss = tss_b.ds = tss_b.es = SELECTOR_DATA;
	tss_b.trap = 1;
	set_gate(VECTOR_DB, SELECTOR_CODE32, (u64)note_debug, GATE_32);
	set_gate(VECTOR_A, SELECTOR_CODE32, (u64)note_interrupt, GATE_32);
	legacy_order = (struct order){ 0 };
	apic_pend(VECTOR_A);
	run_step(switch_task);
	EXPECT_EQ(legacy_order.debug, 1);
	EXPECT_EQ(legacy_order.interrupt, 2);
	EXPECT_EQ(legacy_order.debug_eip, (u64)second_task);
	EXPECT_EQ(legacy_order.interrupt_eip, (u64)second_task);
	/* DR6.BT: 20.2.3. */
	EXPECT_EQ(legacy_order.dr6 & BIT(15), BIT(15));
}
