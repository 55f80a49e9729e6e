/*
 * Port I/O as only 16-bit and 32-bit programs can do it: string instructions with addresses of 16
 * bits (INS, OUTS, volume 2), and the I/O permission bit map that a 16-bit TSS does not have
 * (volume 1, Input/Output: I/O Permission Bit Map).
 *
 * The first run in compatibility mode, the second in protected mode without paging (mmu/legacy.h),
 * since no 16-bit TSS can be loaded in IA-32e mode.
 */
#include "case.h"
#include "cpu/traps.h"
#include "cpu/user.h"
#include "io.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "platform.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:io." name)

#define PORT		0xee0	/* no device: reads as all ones */
#define SEGMENT_SIZE	0x10000

/* --- addresses of 16 bits ---------------------------------------------------------- */

/* A data segment of 64 KBytes for SELECTOR_SPARE; DPL 0. */
static u8 *make_segment(void)
{
	u8 *bytes = pages_alloc(SEGMENT_SIZE, PAGE_SIZE);
	u64 base = physical(bytes);

	cpu_set_descriptor(SELECTOR_SPARE, (SEGMENT_SIZE - 1) | FIELD(base, 23, 0) << 16 |
					   0x4093ull << 40 | FIELD(base, 31, 24) << 56);
	return bytes;
}

/* What the registers were behind the instruction. */
__used static u32 seen_index, seen_count;

/* `instruction` with ES = SELECTOR_SPARE, index and count with garbage above 16 bits. */
#define STRING_16(name, index, first, count, instruction)			\
	extern const u8 name##_at[];						\
	CODE32(name, "movl $0x68, %eax; movl %eax, %es; movl $0xee0, %edx;"	\
	       "movl $0xabcd0000 + " first ", %" index "; movl $0x12340000 + " count ", %ecx\n" \
	       #name "_at: " instruction "\n\t"					\
	       "movl %" index ", seen_index; movl %ecx, seen_count")

_Static_assert(SELECTOR_SPARE == 0x68 && PORT == 0xee0, "STRING_16");

STRING_16(insb_16, "edi", "0xfffe", "5", "addr16 rep insb");
STRING_16(insw_16, "edi", "0xfffd", "3", "addr16 rep insw");
STRING_16(outsb_16, "esi", "0xfffe", "5", "rep outsb %es:(%si), (%dx)");
STRING_16(outsl_16, "esi", "0xfffa", "3", "rep outsl %es:(%si), (%dx)");

static u32 count_ones(const u8 *bytes, u32 size)
{
	u32 n = 0;

	while (size--)
		n += *bytes++ == 0xff;
	return n;
}

/* DI goes on at 0 after FFFFH; the upper halves of EDI and ECX stay. */
CASE(insb_wraps_at_64_kbytes, FACT("addr16"))
{
	u8 *segment = make_segment();

	EXPECT(run_in_compatibility_mode(0, insb_16, 0), OUTCOME_DONE);
	EXPECT_EQ(seen_index, 0xabcd0003);
	EXPECT_EQ(seen_count, 0x12340000);
	EXPECT_EQ(count_ones(segment, 3), 3);
	EXPECT_EQ(count_ones(segment + 0xfffe, 2), 2);
	EXPECT_EQ(count_ones(segment, SEGMENT_SIZE), 5);
}

CASE(outsb_wraps_at_64_kbytes, FACT("addr16"))
{
	make_segment();
	EXPECT(run_in_compatibility_mode(0, outsb_16, 0), OUTCOME_DONE);
	EXPECT_EQ(seen_index, 0xabcd0003);
	EXPECT_EQ(seen_count, 0x12340000);
}

/* An element that begins at FFFFH ends behind the limit; the one before it is done. */
CASE(insw_faults_at_the_limit, FACT("addr16"))
{
	const struct general_registers *regs;
	u8 *segment = make_segment();

	EXPECT(run_in_compatibility_mode(0, insw_16, 0), OUTCOME_GP0);
	regs = &last_trap()->frame.regs;
	EXPECT_EQ(last_trap()->frame.rip, (u64)insw_16_at);
	EXPECT_EQ(regs->rdi, 0xabcdffff);
	EXPECT_EQ(regs->rcx, 0x12340002);
	EXPECT_EQ(count_ones(segment + 0xfffd, 2), 2);
	EXPECT_EQ(count_ones(segment, SEGMENT_SIZE), 2);
}

CASE(outsd_faults_at_the_limit, FACT("addr16"))
{
	const struct general_registers *regs;

	make_segment();
	EXPECT(run_in_compatibility_mode(0, outsl_16, 0), OUTCOME_GP0);
	regs = &last_trap()->frame.regs;
	EXPECT_EQ(last_trap()->frame.rip, (u64)outsl_16_at);
	EXPECT_EQ(regs->rsi, 0xabcdfffe);
	EXPECT_EQ(regs->rcx, 0x12340002);
}

/* --- task-state segments -------------------------------------------------------------- */

/* 10.2.1 Task-State Segment (TSS) and 10.6 16-Bit Task-State Segment (TSS). */
static struct {
	u16 link, sp0, ss0;
	u16 rest[19];
} __attribute__((packed)) tss_16;

static struct {
	u32 link, esp0, ss0;
	u32 rest[22];
	u16 trap, io_map_base;
	u8 denied[PORT / 8 + 1], end;
} __attribute__((packed)) tss_32;

_Static_assert(sizeof(tss_16) == 44, "10.6 16-Bit Task-State Segment (TSS)");

#define SELECTOR_TASK	SELECTOR_SPARE
#define SELECTOR_TASK_32 (SELECTOR_SPARE + 8)
#define SELECTOR_STACK	(SELECTOR_SPARE + 16)
#define TYPE_TSS_16	0x81	/* present, available */
#define TYPE_TSS_32	0x89

static u8 handler_stack[512] __attribute__((aligned(16)));
static u64 gates[32];
__used static struct table_pointer user_idt;
__used static u32 saved_esp, user_esp;
extern const u8 user_ud[], user_gp[], user_other[];

/*
 * The handlers end the step: EAX is the vector, FFH for any but 6 and 13, and in the upper half the
 * error code. The stack is that of the TSS, whose base is not 0.
 */
asm(".pushsection .text\n\t.code32\n"
    "user_ud:\n\tmovl $6, %eax\n\tjmp 1f\n"
    "user_other:\n\tmovl $0xff, %eax\n\tjmp 1f\n"
    "user_gp:\n\tpopl %eax\n\tshll $16, %eax\n\torl $13, %eax\n"
    "1:\tpopl %edx\n\tmovl $0x10, %ecx\n\tmovl %ecx, %ds\n\tmovl %ecx, %es\n\tmovl %ecx, %ss\n\t"
    "movl %edx, seen_index\n\tmovl saved_esp, %esp\n\tret\n"
    "\t.code64\n\t.popsection");

/* EAX: the selector of the TSS. IN at CPL 3 with IOPL 0, then UD2. */
extern const u8 user_in[], user_behind_in[];
CODE32(load_task_register, "ltr %ax");
CODE32(in_of_user,
       "movl %esp, saved_esp; lidt user_idt; ltr %ax;"
       "pushl $0x3b; pushl user_esp; pushl $2; pushl $0x33; pushl $user_in; movl $0xee0, %edx;"
       "iretl\n"
       "user_in: inb %dx, %al\n"
       "user_behind_in: ud2");

_Static_assert(SELECTOR_USER_DATA == 0x3b && SELECTOR_USER_CODE32 == 0x33 && PORT == 0xee0,
	       "in_of_user");

static void describe(u16 selector, const void *base, u64 limit, u64 access)
{
	u64 address = (u64)base;

	cpu_set_descriptor(selector, limit | FIELD(address, 23, 0) << 16 | access << 40 |
				     FIELD(address, 31, 24) << 56);
}

static u64 gate_to(const u8 *handler)
{
	u64 offset = (u64)handler;

	return FIELD(offset, 15, 0) | (u64)SELECTOR_CODE32 << 16 | 0x8eull << 40 |
	       FIELD(offset, 31, 16) << 48;
}

/*
 * The outcome of IN at CPL 3: a vector and, above 16 bits, an error code; `at`: where. IA-32e mode,
 * to which the script goes back, cannot be activated with a 16-bit TSS in TR (MOV CR, volume 2).
 */
static void check_in(const void *tss, u64 limit, u64 type, u32 gives, const u8 *at)
{
	struct legacy_step script[] = {
		{ LEGACY_STEP("IN at CPL 3, TSS", in_of_user, SELECTOR_TASK, 0), .gives = gives },
		{ LEGACY_STEP("LTR of", load_task_register, SELECTOR_TASK_32, 0) },
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(gates); i++)
		gates[i] = gate_to(i == VECTOR_UD ? user_ud :
				   i == VECTOR_GP ? user_gp : user_other);
	user_idt = (struct table_pointer){ sizeof(gates) - 1, (u64)gates };
	user_esp = (u64)this_cpu()->user_stack + CPU_USER_SIZE;
	describe(SELECTOR_TASK, tss, limit, type);
	describe(SELECTOR_TASK_32, &tss_32, sizeof(tss_32) - 1, TYPE_TSS_32);
	describe(SELECTOR_STACK, handler_stack, sizeof(handler_stack) - 1, 0x4093);
	seen_index = 0;
	LEGACY_RUN((&(struct legacy_start){ .mode = PAGING_OFF }), script);
	EXPECT_EQ(seen_index, (u64)at);
}

CASE(no_port_is_open_with_a_16_bit_tss, FACT("tss16"))
{
	memset(&tss_16, 0, sizeof(tss_16));
	tss_16.sp0 = sizeof(handler_stack);
	tss_16.ss0 = SELECTOR_STACK;
	/* The limit leaves room for a bit map, and it would open all ports. */
	check_in(&tss_16, 0x2fff, TYPE_TSS_16, VECTOR_GP, user_in);
}

/* The same with a TSS that has a bit map, so that nothing else stops the access above. */
CASE(bit_map_of_a_32_bit_tss_opens_the_port, FACT("bitmap_allow"))
{
	memset(&tss_32, 0, sizeof(tss_32));
	tss_32.esp0 = sizeof(handler_stack);
	tss_32.ss0 = SELECTOR_STACK;
	tss_32.io_map_base = (u64)tss_32.denied - (u64)&tss_32;
	memset(tss_32.denied, 0xff, sizeof(tss_32.denied) + 1);
	tss_32.denied[PORT / 8] = 0xfe;
	check_in(&tss_32, sizeof(tss_32) - 1, TYPE_TSS_32, VECTOR_UD, user_behind_in);
}
