/*
 * Instructions in real-address mode and in virtual-8086 mode (chapter 23, 8086 Emulation).
 *
 * Both modes know no descriptors, so what reads or loads one is #UD there; virtual-8086 mode is
 * CPL 3 besides, with rules of its own for IOPL: INT n, CLI and STI, PUSHF and POPF need IOPL 3,
 * while I/O does not look at it. Many hypervisors do not run such code on the processor but emulate
 * it from end to end.
 *
 * A script in 32-bit mode without paging (mmu/legacy.h) goes there, the code under test lies below
 * 1 MByte and ends with the first exception, and the script comes back with its vector and IP.
 */
#include "cpu/features.h"
#include "mmu/legacy.h"
#include "platform.h"
#include "string.h"

#define LOW_PAGE	0x6000u	/* two pages; below those of cpu/smp.c */
#define CODE_AT		0x6100u	/* the code under test; segment and offset: 0:6100H or 610H:0 */
#define VECTORS_AT	0x6400u	/* the interrupt vector table of real-address mode */
#define CODE_SEGMENT	(CODE_AT / 16)

/* --- real-address mode ------------------------------------------------------------------ */

__used static u32 saved_esp;
__used static struct table_pointer real_idt = { 0x3ff, VECTORS_AT };

/*
 * To real-address mode and back: 12.9. Copied to LOW_PAGE. Every exception ends it: its vector is 6
 * or 13, or else FFH, in BL, and the IP that it saved in DX.
 */
extern const u8 real_start[], real_end[], real_ud[], real_gp[], real_other[];
asm(".pushsection .text\n\t.code16\n"
    "real_start:\n\t"
    "movw $0x28, %ax\n\tmovw %ax, %ds\n\tmovw %ax, %es\n\tmovw %ax, %fs\n\tmovw %ax, %gs\n\t"
    "movw %ax, %ss\n\tmovl %cr0, %eax\n\tandb $0xfe, %al\n\tmovl %eax, %cr0\n\t"
    "ljmpw $0, $(1f - real_start + 0x6000)\n"
    "1:\txorw %ax, %ax\n\tmovw %ax, %ds\n\tmovw %ax, %es\n\tmovw %ax, %ss\n\tmovw $0x7f00, %sp\n\t"
    "ljmpw $0, $0x6100\n"
    "real_ud:\n\tmovb $6, %bl\n\tjmp 2f\n"
    "real_gp:\n\tmovb $13, %bl\n\tjmp 2f\n"
    "real_other:\n\tmovb $0xff, %bl\n"
    "2:\tpopw %dx\n\tmovl %cr0, %eax\n\torb $1, %al\n\tmovl %eax, %cr0\n\t"
    "ljmpl $0x18, $real_back\n"
    "real_end:\n\t.code32\n"
    "real_back:\n\tmovl $0x10, %eax\n\tmovl %eax, %ds\n\tmovl %eax, %es\n\tmovl %eax, %ss\n\t"
    "xorl %eax, %eax\n\tmovl %eax, %fs\n\tmovl %eax, %gs\n\t"
    "movzbl %bl, %eax\n\tshll $16, %eax\n\tmovw %dx, %ax\n\t"
    "movl saved_esp, %esp\n\tpopl %ebx\n\tret\n"
    "\t.code64\n\t.popsection");

_Static_assert(SELECTOR_DATA16 == 0x28 && SELECTOR_CODE32 == 0x18 && SELECTOR_DATA == 0x10 &&
	       SELECTOR_CODE16 == 0x20, "the code above");
_Static_assert(LOW_PAGE == 0x6000 && CODE_AT == 0x6100, "the code above");

CODE32(to_real_mode,
       "pushl %ebx; movl %esp, saved_esp; lidt real_idt; ljmpl $0x20, $0x6000");

/* --- virtual-8086 mode --------------------------------------------------------------------- */

/* A 32-bit TSS: its stack for CPL 0, and the I/O permission bit map. */
static struct {
	u8 before[4];
	u32 esp0, ss0;
	u8 between[102 - 12];
	u16 io_map_base;
	u8 denied[0x200], end;
} __attribute__((packed)) v86_tss;

static u8 v86_stack[512] __attribute__((aligned(16)));
static u64 v86_gates[32];
__used static struct table_pointer v86_idt;
extern const u8 v86_ud[], v86_gp[], v86_other[];

/* An exception out of virtual-8086 mode leaves DS, ES, FS and GS null: 23.3.1.1. */
asm(".pushsection .text\n\t.code32\n"
    "v86_ud:\n\tpushl $0\n\tmovl $6, %eax\n\tjmp 1f\n"
    "v86_other:\n\tpushl $0\n\tmovl $0xff, %eax\n\tjmp 1f\n"
    "v86_gp:\n\tmovl $13, %eax\n"
    "1:\tmovl $0x10, %ecx\n\tmovl %ecx, %ds\n\tmovl %ecx, %es\n\t"
    "shll $16, %eax\n\tmovw 4(%esp), %ax\n\t"
    "popl %ecx\n\ttestl %ecx, %ecx\n\tjz 2f\n\torl $0x80000000, %eax\n"
    "2:\tmovl saved_esp, %esp\n\tpopl %ebx\n\tret\n"
    "\t.code64\n\t.popsection");

/* EAX: the segment, EDX: EFLAGS. */
CODE32(to_v86_mode,
       "pushl %ebx; movl %esp, saved_esp; lidt v86_idt;"
       "pushl $0; pushl $0; pushl %eax; pushl %eax; pushl %eax; pushl $0x1000;"
       "pushl %edx; pushl %eax; pushl $0; xorl %eax, %eax; xorl %ecx, %ecx; iretl");
CODE32(load_task_register, "ltr %ax");

static u64 gate_to(const u8 *handler)
{
	u64 offset = (u64)handler;

	/* An interrupt gate for everybody: DPL 3. */
	return FIELD(offset, 15, 0) | (u64)SELECTOR_CODE32 << 16 | 0xeeull << 40 |
	       FIELD(offset, 31, 16) << 48;
}

static void make_v86(void)
{
	u64 base = (u64)&v86_tss, limit = sizeof(v86_tss) - 1;
	u32 i;

	memset(&v86_tss, 0, sizeof(v86_tss));
	v86_tss.esp0 = (u64)v86_stack + sizeof(v86_stack);
	v86_tss.ss0 = SELECTOR_DATA;
	v86_tss.io_map_base = (u64)v86_tss.denied - base;
	memset(v86_tss.denied, 0xff, sizeof(v86_tss.denied) + 1);
	cpu_set_descriptor(SELECTOR_SPARE, limit | FIELD(base, 23, 0) << 16 | 0x89ull << 40 |
						   FIELD(base, 31, 24) << 56);
	for (i = 0; i < ARRAY_SIZE(v86_gates); i++)
		v86_gates[i] = gate_to(i == VECTOR_UD ? v86_ud :
				       i == VECTOR_GP ? v86_gp : v86_other);
	v86_idt = (struct table_pointer){ sizeof(v86_gates) - 1, (u64)v86_gates };
}

/* --- one piece of code in one of the modes --------------------------------------------------- */

struct piece {
	bool v86;
	u32 iopl;		/* virtual-8086 mode: 0 to 3 */
	u16 open_port;		/* virtual-8086 mode: the port of the bit map that may be used */
	u8 bytes[10];		/* then UD2 */
	u32 length;
	u8 vector;		/* that ends it, FFH: any but 6 and 13 */
	u32 at;			/* offset of the instruction in `bytes`, or behind it for a trap */
};

static void make_low_memory(const struct piece *piece)
{
	const struct platform *platform = this_platform();
	u16 *vectors = (u16 *)(u64)VECTORS_AT;
	u8 *code = (u8 *)(u64)CODE_AT;
	u32 i, handler;

	if (platform->memory[0].start > LOW_PAGE ||
	    platform->memory[0].start + platform->memory[0].size < LOW_PAGE + 2 * PAGE_SIZE)
		case_skip("memory at %#x", LOW_PAGE);
	memset((void *)(u64)LOW_PAGE, 0, 2 * PAGE_SIZE);
	memcpy((void *)(u64)LOW_PAGE, real_start, real_end - real_start);
	memcpy(code, piece->bytes, piece->length);
	code[piece->length] = 0x0f;	/* UD2 */
	code[piece->length + 1] = 0x0b;
	for (i = 0; i < 256; i++) {
		handler = (i == VECTOR_UD ? real_ud : i == VECTOR_GP ? real_gp : real_other) -
			  real_start;
		vectors[2 * i] = LOW_PAGE + handler;
	}
}

static void check_piece(const struct case_def *this_case)
{
	const struct piece *piece = this_case->row;
	u32 flags = RFLAGS_FIXED | (u32)RFLAGS_VM | piece->iopl << 12;
	struct legacy_step real[] = {
		{ LEGACY_STEP("in real-address mode", to_real_mode, 0, 0),
		  .gives = (u32)piece->vector << 16 | (CODE_AT + piece->at) },
	};
	struct legacy_step v86[] = {
		{ LEGACY_STEP("LTR of", load_task_register, SELECTOR_SPARE, 0) },
		{ LEGACY_STEP("in virtual-8086 mode, segment", to_v86_mode, CODE_SEGMENT, flags),
		  .gives = (u32)piece->vector << 16 | piece->at },
	};
	const struct legacy_start no_paging = { .mode = PAGING_OFF };

	make_low_memory(piece);
	make_v86();
	v86_tss.denied[piece->open_port / 8] &= ~(1 << piece->open_port % 8);
	if (piece->v86)
		LEGACY_RUN(&no_paging, v86);
	else
		LEGACY_RUN(&no_paging, real);
}

#define PIECE(id, fact, ...)							\
	CASE_RUN(id, check_piece, PROVES("guest-instructions:" fact),		\
		 ROW((&(const struct piece){ __VA_ARGS__ })))

#define BYTES(...)	.bytes = { __VA_ARGS__ }, .length = sizeof((u8[]){ __VA_ARGS__ })
#define UD		.vector = VECTOR_UD, .at = 0
#define GP		.vector = VECTOR_GP, .at = 0
/* Nothing stops it before the UD2 behind it. */
#define WORKS(length)	.vector = VECTOR_UD, .at = (length)

/* Each instruction that is about a descriptor. */
#define NO_DESCRIPTORS(id, ...)							\
	PIECE(real_##id, "dt.real_sldt", BYTES(__VA_ARGS__), UD);		\
	PIECE(v86_##id, "dt.real_sldt", .v86 = true, .iopl = 3, BYTES(__VA_ARGS__), UD)

NO_DESCRIPTORS(sldt, 0x0f, 0x00, 0xc0);
NO_DESCRIPTORS(str, 0x0f, 0x00, 0xc8);
NO_DESCRIPTORS(lldt, 0x0f, 0x00, 0xd0);
NO_DESCRIPTORS(ltr, 0x0f, 0x00, 0xd8);
NO_DESCRIPTORS(verr, 0x0f, 0x00, 0xe0);
NO_DESCRIPTORS(verw, 0x0f, 0x00, 0xe8);
NO_DESCRIPTORS(lar, 0x0f, 0x02, 0xc0);
NO_DESCRIPTORS(lsl, 0x0f, 0x03, 0xc0);

PIECE(real_sgdt, "dt.real_sgdt", BYTES(0x0f, 0x01, 0x06, 0x00, 0x62), WORKS(5));
PIECE(v86_sgdt, "dt.real_sgdt", .v86 = true, BYTES(0x0f, 0x01, 0x06, 0x00, 0x02), WORKS(5));
PIECE(v86_lgdt, "dt.lgdt_cpl", .v86 = true, .iopl = 3, BYTES(0x0f, 0x01, 0x16, 0x00, 0x02), GP);

PIECE(real_cpuid, "cpuid.any_cpl", BYTES(0x0f, 0xa2), WORKS(2));
PIECE(v86_cpuid, "cpuid.any_cpl", .v86 = true, BYTES(0x0f, 0xa2), WORKS(2));
/* MOV ECX, C0000080H; RDMSR */
PIECE(real_rdmsr, "msr.cpl", BYTES(0x66, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32), WORKS(8));
PIECE(v86_rdmsr, "msr.cpl", .v86 = true, .iopl = 3, BYTES(0x0f, 0x32), GP);
PIECE(v86_wrmsr, "msr.cpl", .v86 = true, .iopl = 3, BYTES(0x0f, 0x30), GP);
PIECE(v86_hlt, "hlt.cpl", .v86 = true, .iopl = 3, BYTES(0xf4), GP);

PIECE(real_sysenter, "sysenter.real", BYTES(0x0f, 0x34), GP);
PIECE(real_sysexit, "sysenter.real", BYTES(0x0f, 0x35), GP);

/* --- interrupts and flags -------------------------------------------------------------------- */

PIECE(real_int_n, "int.v86", BYTES(0xcd, 0x40), .vector = 0xff, .at = 2);
PIECE(v86_int_n_with_iopl_0, "int.v86", .v86 = true, BYTES(0xcd, 0x10), GP);
PIECE(v86_int_n_with_iopl_2, "int.v86", .v86 = true, .iopl = 2, BYTES(0xcd, 0x10), GP);
PIECE(v86_int_n_with_iopl_3, "int.v86", .v86 = true, .iopl = 3, BYTES(0xcd, 0x10),
      .vector = 0xff, .at = 2);
/* INT3 does not look at IOPL. */
PIECE(v86_int3_with_iopl_0, "int.v86", .v86 = true, BYTES(0xcc), .vector = 0xff, .at = 1);
PIECE(v86_cli_with_iopl_2, "int.v86_iopl", .v86 = true, .iopl = 2, BYTES(0xfa), GP);
PIECE(v86_sti_with_iopl_0, "int.v86_iopl", .v86 = true, BYTES(0xfb), GP);
PIECE(v86_pushf_with_iopl_0, "int.v86_iopl", .v86 = true, BYTES(0x9c), GP);
PIECE(v86_popf_with_iopl_2, "int.v86_iopl", .v86 = true, .iopl = 2, BYTES(0x9d), GP);
PIECE(v86_iret_with_iopl_0, "int.v86_iopl", .v86 = true, BYTES(0xcf), GP);
PIECE(v86_cli_with_iopl_3, "int.v86_iopl", .v86 = true, .iopl = 3, BYTES(0xfa), WORKS(1));
PIECE(v86_pushf_with_iopl_3, "int.v86_iopl", .v86 = true, .iopl = 3, BYTES(0x9c, 0x9d), WORKS(2));

/* --- ports: IN AL, E4H; the bit map alone decides, with any IOPL ------------------------------ */

PIECE(v86_in_denied_with_iopl_3, "io.bitmap_v86", .v86 = true, .iopl = 3, BYTES(0xe4, 0xe4), GP);
PIECE(v86_in_denied_with_iopl_0, "io.bitmap_v86", .v86 = true, BYTES(0xe4, 0xe4), GP);
PIECE(v86_in_allowed_with_iopl_0, "io.bitmap_v86", .v86 = true, .open_port = 0xe4,
      BYTES(0xe4, 0xe4), WORKS(2));
PIECE(v86_in_allowed_with_iopl_3, "io.bitmap_v86", .v86 = true, .iopl = 3, .open_port = 0xe4,
      BYTES(0xe4, 0xe4), WORKS(2));
