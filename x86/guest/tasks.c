/*
 * Task switches, which only 32-bit protected mode has (chapter 10, Task Management).
 *
 * A far JMP or CALL to a TSS, or through a task gate, saves every register in the TSS of the old
 * task and loads them from that of the new one, CR3 and LDTR with them (10.3 Task Switching); it
 * changes the busy flags in the GDT, CR0.TS, EFLAGS.NT and the link to go back by. No processor
 * since has done so much in one instruction, and hypervisors have to do it in software: VMX does
 * not. The scripts here run without paging or with 32-bit paging (mmu/legacy.h); the tasks are a
 * few instructions long.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:task." name)

/* 10.2.1 Task-State Segment (TSS), Figure 10-2. */
struct tss_32 {
	u16 link, reserved0;
	u32 esp0, ss0, esp1, ss1, esp2, ss2;
	u32 cr3, eip, eflags;
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, io_map_base;
} __attribute__((packed));

_Static_assert(sizeof(struct tss_32) == 104, "10.2.1 Task-State Segment (TSS)");

#define SELECTOR_OLD	SELECTOR_SPARE
#define SELECTOR_NEW	(SELECTOR_SPARE + 8)
#define SELECTOR_GATE	(SELECTOR_SPARE + 16)
#define TSS_BUSY	BIT(41)

/* Found by the 32-bit code, which has no argument but two words. */
__used static struct tss_32 old_task, new_task;
static u8 new_stack[512] __attribute__((aligned(16)));

static void describe(u16 selector, const void *base)
{
	u64 address = (u64)base;

	cpu_set_descriptor(selector, (sizeof(struct tss_32) - 1) | FIELD(address, 23, 0) << 16 |
					     0x89ull << 40 | FIELD(address, 31, 24) << 56);
}

/* Two tasks; the new one begins at `eip`. */
static void make_tasks(const u8 *eip, u32 cr3)
{
	memset(&old_task, 0, sizeof(old_task));
	memset(&new_task, 0, sizeof(new_task));
	new_task = (struct tss_32){
		.cr3 = cr3, .eip = (u64)eip, .eflags = RFLAGS_FIXED | RFLAGS_CF,
		.eax = 0xa1, .ecx = 0xc1, .edx = 0xd1, .ebx = 0xb1, .ebp = 0xb9, .esi = 0x51,
		.edi = 0xd9, .esp = (u64)new_stack + sizeof(new_stack),
		.es = SELECTOR_DATA, .cs = SELECTOR_CODE32, .ss = SELECTOR_DATA,
		.ds = SELECTOR_DATA, .fs = SELECTOR_DATA, .io_map_base = sizeof(struct tss_32),
	};
	describe(SELECTOR_OLD, &old_task);
	describe(SELECTOR_NEW, &new_task);
	/* A task gate: 10.2.5, Figure 10-6. */
	cpu_set_descriptor(SELECTOR_GATE, (u64)SELECTOR_NEW << 16 | 0x85ull << 40);
}

static bool busy(u16 selector)
{
	return this_cpu()->gdt[selector / 8] & TSS_BUSY;
}

/* --- the code of both tasks ------------------------------------------------------------------ */

/* EAX: the selector of the task that runs. */
CODE32(task_load, "ltr %ax");

/*
 * EAX: the selector to go to. The registers have known values, and so the old TSS will; what the
 * new task leaves in seen_eax, CR0, EFLAGS and the task register comes back in EAX as 1.
 */
__used static u32 seen_cr0, seen_eflags, seen_eax, seen_edi, seen_tr, seen_dr7, seen_word;
__used static struct {
	u32 offset;
	u16 selector;
} __attribute__((packed)) target;

#define KNOWN_REGISTERS								\
	"pushl %ebx; movw %ax, target+4; movl $0x1a, %eax; movl $0x1c, %ecx; movl $0x1d, %edx;" \
	"movl $0x1b, %ebx; movl $0x15, %esi; movl $0x1e, %edi; movl $0x19, %ebp;"
#define LOOK_AROUND								\
	"movl %eax, seen_eax; movl %edi, seen_edi; movl %cr0, %eax; movl %eax, seen_cr0;" \
	"pushfl; popl seen_eflags; str %ax; movw %ax, seen_tr;" \
	"movl %dr7, %eax; movl %eax, seen_dr7;"

CODE32(task_jump, KNOWN_REGISTERS "ljmpl *target; popl %ebx; movl $1, %eax");
CODE32(task_call, KNOWN_REGISTERS "lcalll *target; popl %ebx; movl $1, %eax");
CODE32(task_returns, LOOK_AROUND "iretl; ud2");
extern const u8 task_jumps_back_next[];
CODE32(task_jumps_back, LOOK_AROUND "movw $0x68, target+4; ljmpl *target;"
				    "task_jumps_back_next: ud2");

_Static_assert(SELECTOR_OLD == 0x68, "task_jumps_back");

#define LOAD_TASK	{ LEGACY_STEP("LTR of", task_load, SELECTOR_OLD, 0) }
#define JUMP_TO(selector) { LEGACY_STEP("far JMP to", task_jump, selector, 0), .gives = 1 }
#define CALL_TO(selector) { LEGACY_STEP("far CALL to", task_call, selector, 0), .gives = 1 }

static const struct legacy_start no_paging = { .mode = PAGING_OFF };

/* --- what a switch saves and loads ------------------------------------------------------------ */

static void expect_saved(void)
{
	EXPECT_EQ(old_task.eax, 0x1a);
	EXPECT_EQ(old_task.ecx, 0x1c);
	EXPECT_EQ(old_task.edx, 0x1d);
	EXPECT_EQ(old_task.ebx, 0x1b);
	EXPECT_EQ(old_task.esi, 0x15);
	EXPECT_EQ(old_task.edi, 0x1e);
	EXPECT_EQ(old_task.ebp, 0x19);
	EXPECT_EQ(old_task.cs, SELECTOR_CODE32);
	EXPECT_EQ(old_task.ss, SELECTOR_DATA);
	/* Not changed by a switch: the stacks of more privilege, the LDT, CR3. */
	EXPECT_EQ(old_task.esp0, 0);
	EXPECT_EQ(old_task.ldt, 0);
}

static void expect_loaded(void)
{
	EXPECT_EQ(seen_eax, 0xa1);
	EXPECT_EQ(seen_edi, 0xd9);
	EXPECT_EQ(seen_tr, SELECTOR_NEW);
	EXPECT_TRUE(seen_cr0 & CR0_TS);
	EXPECT_TRUE(seen_eflags & RFLAGS_CF);
}

CASE(jump_to_a_task_and_back, FACT("switch"))
{
	struct legacy_step script[] = { LOAD_TASK, JUMP_TO(SELECTOR_NEW) };

	make_tasks(task_jumps_back, 0);
	LEGACY_RUN(&no_paging, script);
	expect_saved();
	expect_loaded();
	/* A jump leaves no way back, and nobody busy behind it. */
	EXPECT_EQ(seen_eflags & RFLAGS_NT, 0);
	EXPECT_EQ(new_task.link, 0);
	EXPECT_TRUE(busy(SELECTOR_OLD));
	EXPECT_FALSE(busy(SELECTOR_NEW));
	EXPECT_EQ(new_task.eip, (u64)task_jumps_back_next);
}

CASE(call_of_a_task_and_iret, FACT("switch"))
{
	struct legacy_step script[] = { LOAD_TASK, CALL_TO(SELECTOR_NEW) };

	make_tasks(task_returns, 0);
	LEGACY_RUN(&no_paging, script);
	expect_saved();
	expect_loaded();
	/* A call nests: NT and the link lead back, and the caller stays busy. */
	EXPECT_TRUE(seen_eflags & RFLAGS_NT);
	EXPECT_EQ(new_task.link, SELECTOR_OLD);
	EXPECT_TRUE(busy(SELECTOR_OLD));
	EXPECT_FALSE(busy(SELECTOR_NEW));
	/* IRET saves the image of EFLAGS with NT clear. */
	EXPECT_EQ(new_task.eflags & RFLAGS_NT, 0);
}

CASE(call_through_a_task_gate, FACT("switch"))
{
	struct legacy_step script[] = { LOAD_TASK, CALL_TO(SELECTOR_GATE) };

	make_tasks(task_returns, 0);
	LEGACY_RUN(&no_paging, script);
	expect_saved();
	expect_loaded();
	EXPECT_EQ(new_task.link, SELECTOR_OLD);
}

/* --- refused before anything is changed ------------------------------------------------------- */

static void check_refused(u64 descriptor_clear, u64 descriptor_set, outcome_t outcome)
{
	struct legacy_step script[] = {
		LOAD_TASK,
		{ LEGACY_STEP("far JMP to", task_jump, SELECTOR_NEW, 0), .ends = outcome },
	};

	make_tasks(task_jumps_back, 0);
	this_cpu()->gdt[SELECTOR_NEW / 8] &= ~descriptor_clear;
	this_cpu()->gdt[SELECTOR_NEW / 8] |= descriptor_set;
	LEGACY_RUN(&no_paging, script);
	EXPECT_EQ(old_task.eip, 0);
	EXPECT_TRUE(busy(SELECTOR_OLD));
}

CASE(switch_to_a_busy_task, FACT("switch"))
{
	check_refused(0, TSS_BUSY, OUTCOME_FAULT(VECTOR_GP, SELECTOR_NEW));
}

CASE(switch_to_an_absent_task, FACT("switch"))
{
	check_refused(BIT(47), 0, OUTCOME_FAULT(VECTOR_NP, SELECTOR_NEW));
}

CASE(switch_to_a_task_that_is_too_short, FACT("switch"))
{
	check_refused(BITS(15, 0), 102, OUTCOME_FAULT(VECTOR_TS, SELECTOR_NEW));
}

/* --- CR3 -------------------------------------------------------------------------------------- */

#define PAGE	0x40000000u

/* The new task has a page that the old one does not have, and reads it. */

CODE32(task_reads, "movl 0x40000000, %eax; movl %eax, seen_word; " LOOK_AROUND "iretl; ud2");

CASE(switch_loads_cr3, FACT("cr3"))
{
	u32 *old_tables = tables_32_bit(), *new_tables = tables_32_bit();
	u32 *page = page_alloc_filled(0x600df00d600df00d);
	struct legacy_step script[] = {
		LOAD_TASK,
		{ READ(PAGE), .ends = PAGE_FAULT(0) },
		CALL_TO(SELECTOR_NEW),
		{ GET_CR3 },
	};

	map_32_bit(new_tables, PAGE, physical(page), PTE_P);
	make_tasks(task_reads, physical(new_tables));
	/* The way back loads the CR3 of the old task, which no switch saves. */
	old_task.cr3 = physical(old_tables);
	seen_word = 0;
	LEGACY_RUN((&(struct legacy_start){ .mode = PAGING_32_BIT, .cr3 = physical(old_tables) }),
		   script);
	EXPECT_EQ(seen_word, 0x600df00d);
	EXPECT_EQ(script[3].value, physical(old_tables));
}

/* --- debug registers -------------------------------------------------------------------------- */

CODE32(set_dr7, "movl %eax, %dr7");

CASE(switch_clears_local_breakpoints, FACT("dr7"))
{
	struct legacy_step script[] = {
		LOAD_TASK,
		{ LEGACY_STEP("MOV to DR7 of", set_dr7, 0x7ff, 0) },
		CALL_TO(SELECTOR_NEW),
	};

	make_tasks(task_returns, 0);
	write_dr0(0);
	write_dr1(0);
	write_dr2(0);
	write_dr3(0);
	LEGACY_RUN(&no_paging, script);
	EXPECT_EQ(seen_dr7, 0x6aa);
}

/* The T flag of the new TSS: a trap before its first instruction, with DR6.BT. */
CASE(trap_flag_of_the_new_task, FACT("t"))
{
	struct legacy_step script[] = {
		LOAD_TASK,
		{ LEGACY_STEP("far JMP to", task_jump, SELECTOR_NEW, 0),
		  .ends = OUTCOME_EXCEPTION(VECTOR_DB) },
	};

	make_tasks(task_jumps_back, 0);
	new_task.trap = 1;
	seen_eax = 0;
	write_dr6(DR6_FIXED);
	LEGACY_RUN(&no_paging, script);
	EXPECT_EQ(read_dr6() & (BIT(15) | BITS(3, 0)), BIT(15));
	EXPECT_EQ(seen_eax, 0);
}

/* --- exceptions ------------------------------------------------------------------------------- */

/*
 * The IDT is the library's; a task gate in it for #NP. EAX: the address of its entry for #NP.
 * Then a load of an absent segment: the new task finds the error code on its stack.
 */
CODE32(fault_into_a_task,
       "pushl %ebx; movl %eax, %edi; pushl (%edi); pushl 4(%edi); movl $0x700000, (%edi);"
       "movl $0x8500, 4(%edi); movl $0x78, %eax; movl %eax, %fs; popl 4(%edi); popl (%edi);"
       "popl %ebx; movl $1, %eax");

_Static_assert(SELECTOR_NEW == 0x70 && SELECTOR_GATE == 0x78, "fault_into_a_task");

extern struct table_pointer legacy_idt_32;

/* Steps over the instruction that faults: MOV to FS has two bytes. */
CODE32(task_of_exception, "popl seen_word; " LOOK_AROUND "addl $2, old_task+32; iretl; ud2");

CASE(error_code_on_the_stack_of_the_task, FACT("ec"))
{
	struct legacy_step script[] = {
		LOAD_TASK,
		{ LEGACY_STEP("#NP by a task gate, entry", fault_into_a_task, 0, 0), .gives = 1 },
	};

	/* The table is made by the first script that runs. */
	LEGACY_RUN(&no_paging, ((struct legacy_step[]){ { GET_CR0 } }));
	script[1].a = (u32)legacy_idt_32.base + VECTOR_NP * 8;
	make_tasks(task_of_exception, 0);
	cpu_set_descriptor(SELECTOR_GATE, this_cpu()->gdt[SELECTOR_DATA / 8] & ~BIT(47));
	seen_word = ~0u;
	LEGACY_RUN(&no_paging, script);
	EXPECT_EQ(seen_word, SELECTOR_GATE);
	EXPECT_EQ(seen_tr, SELECTOR_NEW);
	EXPECT_TRUE(seen_eflags & RFLAGS_NT);
}
