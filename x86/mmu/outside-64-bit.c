/*
 * Paging and what only 32-bit and 16-bit code can do.
 *
 * A task switch loads CR3 from the new TSS, with all that a MOV to CR3 does besides: it drops
 * translations (5.10.4.1), and with PAE paging it loads the PDPTE registers (5.4.1). Virtual-8086
 * mode has CPL 3, so INVLPG and INVPCID are #GP(0) there; in real-address mode INVLPG is executed.
 * The error code of a page fault is one slot of the handler's stack, as wide as the gate says
 * (7.13). PUSHA and ENTER leave ESP as it was when their stack ends in a page that is missing. The
 * scripts are those of mmu/legacy.h.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "mmu/probe.h"
#include "platform.h"
#include "string.h"

#define PAGE		0x40000000u	/* linear, where a case maps its page */

/* --- task switches ------------------------------------------------------------------------ */

/* The words of a 32-bit TSS that count here: 10.2.1, Figure 10-2. */
enum {
	TSS_CR3 = 7, TSS_EIP, TSS_EFLAGS, TSS_ESP = 14, TSS_ES = 18, TSS_CS, TSS_SS, TSS_DS,
	TSS_WORDS = 26,
};

#define SELECTOR_OLD	SELECTOR_SPARE
#define SELECTOR_NEW	(SELECTOR_SPARE + 8)
#define TSS_32_BIT	(0x89ull << 40)		/* available */

static u32 old_task[TSS_WORDS], new_task[TSS_WORDS], new_stack[64];

static void describe(u16 selector, const void *base, u64 type)
{
	u64 address = (u64)base;

	cpu_set_descriptor(selector, (TSS_WORDS * 4 - 1) | FIELD(address, 23, 0) << 16 | type |
					     FIELD(address, 31, 24) << 56);
}

/* The new task reads the page and goes back, as often as it is called. */
__used static u32 seen_by_new_task;

CODE32(load_task, "ltr %ax");
CODE32(jump_to_task, "pushl %ebx; ljmp $0x70, $0; popl %ebx; movl seen_by_new_task, %eax");
CODE32(new_task_code, "movl 0x40000000, %eax; movl %eax, seen_by_new_task; ljmp $0x68, $0;"
		      "jmp new_task_code");

_Static_assert(SELECTOR_OLD == 0x68 && SELECTOR_NEW == 0x70 && PAGE == 0x40000000,
	       "the code above");

#define LOAD_TASK	LEGACY_STEP("LTR of", load_task, SELECTOR_OLD, 0)
#define JUMP_TO_TASK	LEGACY_STEP("far JMP to", jump_to_task, SELECTOR_NEW, 0)

/* A task switch does not save CR3: that of the old TSS is what comes back. */
static void make_tasks(u64 old_cr3, u64 new_cr3)
{
	memset(old_task, 0, sizeof(old_task));
	memset(new_task, 0, sizeof(new_task));
	old_task[TSS_CR3] = old_cr3;
	new_task[TSS_CR3] = new_cr3;
	new_task[TSS_EIP] = (u64)new_task_code;
	new_task[TSS_EFLAGS] = RFLAGS_FIXED;
	new_task[TSS_ESP] = (u64)(new_stack + ARRAY_SIZE(new_stack));
	new_task[TSS_CS] = SELECTOR_CODE32;
	new_task[TSS_ES] = new_task[TSS_SS] = new_task[TSS_DS] = SELECTOR_DATA;
	describe(SELECTOR_OLD, old_task, TSS_32_BIT);
	describe(SELECTOR_NEW, new_task, TSS_32_BIT);
}

CASE(task_switch_loads_the_pdptes, PROVES("paging:pdpte.load.task"))
{
	u64 *first = tables_pae(), *second = tables_pae();
	struct legacy_step script[] = {
		{ LOAD_TASK },
		{ READ(PAGE), .gives = 1 },
		{ JUMP_TO_TASK, .gives = 2 },
		{ READ(PAGE), .gives = 1 },
		/* In memory the entry is another one, and so it is for the next task that comes. */
		{ WRITE(physical(&second[PAGE >> 30]), first[PAGE >> 30]) },
		{ JUMP_TO_TASK, .gives = 1 },
	};

	map_pae(first, PAGE, physical(page_alloc_filled(0x100000001)), PTE_P);
	map_pae(second, PAGE, physical(page_alloc_filled(0x200000002)), PTE_P);
	make_tasks(physical(first), physical(second));
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_PAE, .cr3 = physical(first) }), script);
}

/* There and back by task switches: what was cached of the page is gone. */
CASE(task_switch_drops_translations, PROVES("paging:tlb.task_switch"))
{
	u32 *first = tables_32_bit(), *second = tables_32_bit();
	u32 third = physical(page_alloc_filled(0x300000003));
	u32 *pte = map_32_bit(first, PAGE, physical(page_alloc_filled(0x100000001)), PTE_P);
	struct legacy_step script[] = {
		{ LOAD_TASK },
		{ READ(PAGE), .gives = 1 },
		{ WRITE(physical(pte), third | PTE_P) },
		{ READ(PAGE), .gives = 1, .or_gives = 3 },
		{ JUMP_TO_TASK, .gives = 2 },
		{ READ(PAGE), .gives = 3 },
	};

	map_32_bit(second, PAGE, physical(page_alloc_filled(0x200000002)), PTE_P);
	make_tasks(physical(first), physical(second));
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = physical(first) }),
		   script);
}

/* --- handlers of a script's own ------------------------------------------------------------- */

/*
 * An exception ends the code that ran, wherever it was, and says in EAX how many bytes the stack of
 * the handler has, in seen_slot what is on top. Virtual-8086 mode leaves DS and ES null: 23.3.1.1.
 */
__used static u32 saved_esp, handler_esp, seen_slot;
static u64 gates[32];
__used static struct table_pointer own_idt;
static u32 task_stack[64];
extern const u8 own_handler[];

asm(".pushsection .text\n\t.code32\n"
    "own_handler:\n\t"
    "movl $0x10, %ecx\n\tmovl %ecx, %ds\n\tmovl %ecx, %es\n\tljmpl $0x18, $1f\n"
    "1:\tmovl %ss:(%esp), %eax\n\tmovl %eax, seen_slot\n\t"
    "movl handler_esp, %eax\n\tsubl %esp, %eax\n\tmovl saved_esp, %esp\n\tpopl %ebx\n\tret\n"
    "\t.code64\n\t.popsection");

_Static_assert(SELECTOR_DATA == 0x10 && SELECTOR_CODE32 == 0x18, "the code above");

#define GATE_32_BIT	0xeeull		/* interrupt gates with DPL 3: 7.11 */
#define GATE_16_BIT	0xe6ull

static void make_gates(u64 type, u16 selector, u64 offset)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(gates); i++)
		gates[i] = FIELD(offset, 15, 0) | (u64)selector << 16 | type << 40 |
			   FIELD(offset, 31, 16) << 48;
	own_idt = (struct table_pointer){ sizeof(gates) - 1, (u64)gates };
}

/*
 * --- the error code on the stack ----------------------------------------------------------------
 */

/* EAX: where to write. The stack below is full of ones. */
CODE32(write_with_own_idt,
       "pushl %ebx; movl %esp, saved_esp; movl %esp, handler_esp;"
       "pushl $-1; pushl $-1; pushl $-1; pushl $-1; addl $16, %esp;"
       "lidt own_idt; movl %eax, (%eax); movl $0, %eax; popl %ebx");

#define WRITE_WITH_OWN_IDT(address) LEGACY_STEP("write at", write_with_own_idt, address, 0)

static void push_width(u64 type, u32 bytes, u32 mask)
{
	u32 *directory = tables_32_bit();
	struct legacy_step script[] = { { WRITE_WITH_OWN_IDT(PAGE), .gives = bytes } };
	u64 code = (u64)own_handler;

	/* A 16-bit gate has 16 bits for the offset: a code segment that begins at the handler. */
	cpu_set_descriptor(SELECTOR_SPARE, 0x00cf9b000000ffff | FIELD(code, 23, 0) << 16 |
						   FIELD(code, 31, 24) << 56);
	if (type == GATE_16_BIT)
		make_gates(type, SELECTOR_SPARE, 0);
	else
		make_gates(type, SELECTOR_CODE32, code);
	seen_slot = ~0u;
	map_32_bit(directory, PAGE, physical(page_alloc()), PTE_P);
	LEGACY_RUN(&((struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = physical(directory),
					    .cr0 = CR0_WP }), script);
	EXPECT_EQ(seen_slot & mask, PF_P | PF_WR);
}

/* Error code, EIP, CS and EFLAGS, of 4 bytes or of 2. */
CASE(error_code_by_a_32_bit_gate, PROVES("paging:pfec.push_width", "paging:pfec.unused"))
{
	push_width(GATE_32_BIT, 16, ~0u);
}

CASE(error_code_by_a_16_bit_gate, PROVES("paging:pfec.push_width"))
{
	push_width(GATE_16_BIT, 8, 0xffff);
}

/*
 * --- virtual-8086 mode and real-address mode
 * ------------------------------------------------------
 */

#define LOW_PAGE	0x6000u		/* below those of cpu/smp.c */
#define V86_CODE	(LOW_PAGE + 0x100)

static u8 *low_page(void)
{
	const struct platform *platform = this_platform();

	if (platform->memory[0].start > LOW_PAGE ||
	    platform->memory[0].start + platform->memory[0].size < LOW_PAGE + PAGE_SIZE)
		case_skip("memory at %#x", LOW_PAGE);
	return memset((void *)(u64)LOW_PAGE, 0, PAGE_SIZE);
}

/* EAX: the segment of the code. The nine words that IRET to virtual-8086 mode pops: 23.2.2. */
CODE32(run_in_v86_mode,
       "pushl %ebx; movl %esp, saved_esp; lidt own_idt;"
       "pushl $0; pushl $0; pushl %eax; pushl %eax; pushl %eax; pushl $0x800;"
       "pushl $0x23002; pushl %eax; pushl $0; xorl %ecx, %ecx; xorl %ebx, %ebx; iretl");

#define RUN_IN_V86_MODE \
	LEGACY_STEP("in virtual-8086 mode, segment", run_in_v86_mode, V86_CODE / 16, 0)
#define V86_FRAME	(10 * 4)	/* error code, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS */

struct v86_row {
	u8 bytes[8];
};

static void refused_in_v86_mode(const struct case_def *this_case)
{
	const struct v86_row *row = this_case->row;
	struct legacy_step script[] = {
		{ LOAD_TASK },
		{ RUN_IN_V86_MODE, .gives = V86_FRAME },
	};
	u8 *code = low_page() + V86_CODE % PAGE_SIZE;

	memcpy(code, row->bytes, sizeof(row->bytes));
	/* Only the stack for CPL 0 is taken from it. */
	memset(old_task, 0, sizeof(old_task));
	old_task[1] = (u64)(task_stack + ARRAY_SIZE(task_stack));
	old_task[2] = SELECTOR_DATA;
	handler_esp = old_task[1];
	describe(SELECTOR_OLD, old_task, TSS_32_BIT);
	make_gates(GATE_32_BIT, SELECTOR_CODE32, (u64)own_handler);
	/* All other vectors have a gate that is not present: #GP with their number. */
	memset(gates, 0, VECTOR_GP * sizeof(gates[0]));
	memset(gates + VECTOR_GP + 1, 0, sizeof(gates) - (VECTOR_GP + 1) * sizeof(gates[0]));
	seen_slot = ~0u;
	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
	EXPECT_EQ(seen_slot, 0);
	EXPECT_EQ(task_stack[ARRAY_SIZE(task_stack) - 9], 0);	/* EIP: the instruction itself */
}

#define V86(...)	ROW((&(const struct v86_row){ { __VA_ARGS__, 0x0f, 0x0b } }))

/* INVLPG (%bx); INVPCID (%bx), %ecx */
CASE_RUN(invlpg_in_virtual_8086_mode, refused_in_v86_mode, PROVES("paging:tlb.invlpg.cpl"),
	 V86(0x0f, 0x01, 0x3f));
CASE_RUN(invpcid_in_virtual_8086_mode, refused_in_v86_mode, PROVES("paging:invpcid.v86"),
	 NEEDS(CPU(INVPCID)), V86(0x66, 0x0f, 0x38, 0x82, 0x0f));

/*
 * To real-address mode and back: 12.9. Copied to LOW_PAGE. No vector has a handler there: an
 * exception ends in a shutdown.
 */
extern const u8 real_start[], real_end[];
asm(".pushsection .text\n\t.code16\n"
    "real_start:\n\t"
    "movw $0x28, %ax\n\tmovw %ax, %ds\n\tmovw %ax, %es\n\tmovw %ax, %ss\n\t"
    "movl %cr0, %eax\n\tandb $0xfe, %al\n\tmovl %eax, %cr0\n\t"
    "ljmpw $0, $(1f - real_start + 0x6000)\n"
    "1:\txorw %ax, %ax\n\tmovw %ax, %ds\n\txorw %bx, %bx\n\t"
    "invlpg (%bx)\n\tinvlpg 0xfff(%bx)\n\tmovw $0x1234, %dx\n\t"
    "movl %cr0, %eax\n\torb $1, %al\n\tmovl %eax, %cr0\n\tljmpl $0x18, $real_back\n"
    "real_end:\n\t.code32\n"
    "real_back:\n\tmovl $0x10, %eax\n\tmovl %eax, %ds\n\tmovl %eax, %es\n\tmovl %eax, %ss\n\t"
    "movzwl %dx, %eax\n\tmovl saved_esp, %esp\n\tpopl %ebx\n\tret\n"
    "\t.code64\n\t.popsection");
__used static struct table_pointer no_idt;

CODE32(invlpg_in_real_mode, "pushl %ebx; movl %esp, saved_esp; lidt no_idt; ljmpl $0x20, $0x6000");

_Static_assert(LOW_PAGE == 0x6000 && SELECTOR_CODE16 == 0x20 && SELECTOR_DATA16 == 0x28,
	       "the code above");

CASE(invlpg_in_real_address_mode, PROVES("paging:tlb.invlpg.real"))
{
	struct legacy_step script[] = {
		{ LEGACY_STEP("INVLPG in real-address mode", invlpg_in_real_mode, 0, 0),
		  .gives = 0x1234 },
	};

	memcpy(low_page(), real_start, real_end - real_start);
	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
}

/* --- PUSHA and ENTER -------------------------------------------------------------------------- */

/* EDI: the stack pointer. EBP is where ENTER takes the frame pointers of outer levels from. */
CODE32(pusha_there, "movl %esp, %esi; movl %edi, %esp; pushal; movl %esi, %esp");
CODE32(enter_there, "movl %esp, %esi; leal 64(%edi), %ebp; movl %edi, %esp; enter $8, $3;"
		    "movl %esi, %esp");

static void stack_ends_in_a_missing_page(const u8 *code)
{
	u32 border = PAGE + PAGE_SIZE, esp = border + 4;
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, border, physical(probe.page), PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	space_map(&probe.space, PAGE, 0, 0, LEVEL_PTE);
	probe_share_with_user(&probe);
	/* With room it is done, and leaves ESP to the code. */
	EXPECT(run_in_compatibility_mode(3, code, border + 0x800), OUTCOME_DONE);
	EXPECT(run_in_compatibility_mode(3, code, esp), PAGE_FAULT(PF_WR | PF_US));
	EXPECT_EQ(last_trap()->cr2 & PAGE_MASK, PAGE);
	EXPECT_EQ(last_trap()->frame.rsp, esp);
	if (code == enter_there)
		EXPECT_EQ(last_trap()->frame.regs.rbp, esp + 64);
	/* With the page there, it can be restarted. */
	space_map(&probe.space, PAGE, physical(page_alloc()), PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	EXPECT(run_in_compatibility_mode(3, code, esp), OUTCOME_DONE);
}

CASE(pusha_into_a_missing_page, PROVES("paging:cross.enter_pusha"))
{
	stack_ends_in_a_missing_page(pusha_there);
}

CASE(enter_into_a_missing_page, PROVES("paging:cross.enter_pusha"))
{
	stack_ends_in_a_missing_page(enter_there);
}
