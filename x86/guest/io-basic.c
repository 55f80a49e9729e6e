/*
 * Port I/O: IN, OUT and their string forms INS and OUTS (volume 2), and who may use them (volume 1,
 * Input/Output: I/O privilege level and I/O permission bit map).
 *
 * Hypervisors intercept and emulate these instructions more than any others, so what surrounds the
 * access has to be right: which part of RAX changes, how far RSI, RDI and RCX move and by which
 * address size, what is left to do when an element faults. The ports here have no device on any PC.
 * They read as all ones, by the platform's custom, not by the manual's word: the bus floats; and
 * what is written to them goes nowhere.
 */
#include "case.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define PORT		0xee0	/* and the 31 behind it: no device */
#define LOW_PORT	0xe4	/* and the 3 behind it: below 100H, for imm8 */

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define PATTERN			0x1122334455667788ull

/* --- one access: what becomes of RAX ----------------------------------------- */

/* `instruction` reads all ones into the bits `loaded` of RAX; the bits `kept` stay. */
#define IN_CASE(id, instruction, port, kept, loaded, facts)			\
	CASE(id, facts)								\
	{									\
		u64 rax = PATTERN;						\
										\
		EXPECT(ATTEMPT(instruction, "+a" (rax) : "d" (port)), OUTCOME_DONE); \
		EXPECT_EQ(rax, (PATTERN & (kept)) | (loaded));			\
	}

IN_CASE(in_al_dx, "inb %%dx, %%al", PORT, BITS(63, 8), BITS(7, 0),
	PROVES("guest-instructions:io.in8", "guest-instructions:io.unclaimed"))
IN_CASE(in_ax_dx, "inw %%dx, %%ax", PORT, BITS(63, 16), BITS(15, 0),
	PROVES("guest-instructions:io.in16", "guest-instructions:io.unclaimed"))
IN_CASE(in_eax_dx, "inl %%dx, %%eax", PORT, 0, BITS(31, 0),
	PROVES("guest-instructions:io.in32", "guest-instructions:io.unclaimed"))
/* 48H: REX.W. */
IN_CASE(in_eax_dx_rex_w, ".byte 0x48; inl %%dx, %%eax", PORT, 0, BITS(31, 0),
	PROVES("guest-instructions:io.rexw"))
IN_CASE(in_al_imm8, "inb $" STRINGIFY(LOW_PORT) ", %%al", 0, BITS(63, 8), BITS(7, 0),
	PROVES("guest-instructions:io.imm8_range", "guest-instructions:io.in8"))
IN_CASE(in_ax_imm8, "inw $" STRINGIFY(LOW_PORT) ", %%ax", 0, BITS(63, 16), BITS(15, 0),
	PROVES("guest-instructions:io.imm8_range", "guest-instructions:io.in16"))
IN_CASE(in_eax_imm8, "inl $" STRINGIFY(LOW_PORT) ", %%eax", 0, 0, BITS(31, 0),
	PROVES("guest-instructions:io.imm8_range", "guest-instructions:io.in32"))

/* What a bus makes of an access that spans two of its words is its own affair; the rest is not. */
CASE(in_unaligned, PROVES("guest-instructions:io.unaligned"))
{
	u64 rax = PATTERN;

	EXPECT(ATTEMPT("inl %%dx, %%eax", "+a" (rax) : "d" (PORT + 1)), OUTCOME_DONE);
	EXPECT_EQ(rax >> 32, 0);
	rax = PATTERN;
	EXPECT(ATTEMPT("inw %%dx, %%ax", "+a" (rax) : "d" (PORT + 3)), OUTCOME_DONE);
	EXPECT_EQ(rax >> 16, PATTERN >> 16);
}

/* OUT takes nothing but its operands, and gives nothing. */
#define OUT_CASE(id, instruction, port, facts)					\
	CASE(id, facts)								\
	{									\
		u64 rax = PATTERN, rdx = PATTERN << 16 | (port), flags;		\
										\
		trap_expect();							\
		asm volatile("push $0x8d7; popfq\n\t" ATTEMPT_ASM(instruction)	\
			     "pushfq; pop %2; cld"				\
			     : "+a" (rax), "+d" (rdx), "=r" (flags) : : "cc", "memory"); \
		EXPECT(trap_outcome(), OUTCOME_DONE);				\
		EXPECT_EQ(rax, PATTERN);					\
		EXPECT_EQ(rdx, PATTERN << 16 | (port));				\
		EXPECT_EQ(flags, 0x8d7);				\
	}

OUT_CASE(out_dx_al, "outb %%al, %%dx", PORT, PROVES("guest-instructions:io.out"))
OUT_CASE(out_dx_ax, "outw %%ax, %%dx", PORT, PROVES("guest-instructions:io.out"))
OUT_CASE(out_dx_eax, "outl %%eax, %%dx", PORT, PROVES("guest-instructions:io.out"))
OUT_CASE(out_dx_eax_rex_w, ".byte 0x48; outl %%eax, %%dx", PORT,
	 PROVES("guest-instructions:io.rexw"))
OUT_CASE(out_imm8_al, "outb %%al, $" STRINGIFY(LOW_PORT), 0,
	 PROVES("guest-instructions:io.out", "guest-instructions:io.imm8_range"))
OUT_CASE(out_imm8_eax, "outl %%eax, $" STRINGIFY(LOW_PORT), 0,
	 PROVES("guest-instructions:io.out", "guest-instructions:io.imm8_range"))
OUT_CASE(out_dx_eax_unaligned, "outl %%eax, %%dx", PORT + 3,
	 PROVES("guest-instructions:io.unaligned"))

/* --- INS and OUTS: memory, RDI, RSI, RCX ------------------------------------- */

/* Of a page that was all zero, exactly `size` bytes from `first` are all ones. */
static void expect_ones(const u8 *page, u64 first, u64 size)
{
	u64 i, wrong = 0;

	for (i = 0; i < PAGE_SIZE; i++)
		wrong += page[i] != (i >= first && i < first + size ? 0xff : 0);
	if (!EXPECT_EQ(wrong, 0))
		case_note("memory",
			  "%lu bytes are not as they should be; FFH belongs at %#lx to %#lx",
			  wrong, first, first + size - 1);
}

/*
 * `instruction` stores the elements into the middle of a page: RDI moves by `moved` bytes, RCX
 * ends as `rcx_after`, and `size` bytes from offset `first` are what was read.
 */
#define INS_CASE(id, instruction, rcx_before, rcx_after, moved, first, size, facts)	\
	CASE(id, facts)								\
	{									\
		u8 *page = page_alloc();					\
		u64 rdi = physical(page) + 0x800, rcx = (rcx_before);		\
										\
		EXPECT(ATTEMPT(instruction, "+D" (rdi), "+c" (rcx)		\
			       : "d" (PORT) : "memory"), OUTCOME_DONE);		\
		EXPECT_EQ(rdi, physical(page) + 0x800 + (moved));		\
		EXPECT_EQ(rcx, rcx_after);					\
		expect_ones(page, first, size);					\
	}

INS_CASE(insb_once, "insb", 9, 9, 1, 0x800, 1, PROVES("guest-instructions:io.ins"))
INS_CASE(insw_once, "insw", 9, 9, 2, 0x800, 2, PROVES("guest-instructions:io.ins"))
INS_CASE(insd_once, "insl", 9, 9, 4, 0x800, 4, PROVES("guest-instructions:io.ins"))
INS_CASE(insb_down, "std; insb; cld", 9, 9, -1, 0x800, 1, PROVES("guest-instructions:io.df"))
INS_CASE(rep_insb, "rep insb", 5, 0, 5, 0x800, 5,
	 PROVES("guest-instructions:io.ins", "guest-instructions:io.rep_count"))
INS_CASE(rep_insw, "rep insw", 5, 0, 10, 0x800, 10,
	 PROVES("guest-instructions:io.ins", "guest-instructions:io.rep_count"))
INS_CASE(rep_insd, "rep insl", 300, 0, 1200, 0x800, 1200,
	 PROVES("guest-instructions:io.ins", "guest-instructions:io.rep_count"))
INS_CASE(rep_insd_down, "std; rep insl; cld", 5, 0, -20, 0x800 - 16, 20,
	 PROVES("guest-instructions:io.df"))
INS_CASE(rep_insb_none, "rep insb", 0, 0, 0, 0, 0, PROVES("guest-instructions:io.rep_count"))
INS_CASE(repne_insb, "repne insb", 5, 0, 5, 0x800, 5, PROVES("guest-instructions:io.rep_count"))

/* Address size 32: ECX and EDI count, the upper halves of RCX and RDI are cleared at the end. */
INS_CASE(rep_insb_address_size_32, "addr32 rep insb", 0xabcd00000003, 0, 3, 0x800, 3,
	 PROVES("guest-instructions:io.addr32"))

INS_CASE(rep_insw_address_size_32, "addr32 rep insw", 0xabcd00000003, 0, 6, 0x800, 6,
	 PROVES("guest-instructions:io.addr32"))

/* `instruction` loads the elements from the middle of a page: RSI and RCX move, memory does not. */
#define OUTS_CASE(id, instruction, rcx_before, rcx_after, moved, facts)		\
	CASE(id, facts)								\
	{									\
		u8 *page = page_alloc();					\
		u64 rsi = physical(page) + 0x800, rcx = (rcx_before);		\
										\
		EXPECT(ATTEMPT(instruction, "+S" (rsi), "+c" (rcx)		\
			       : "d" (PORT) : "memory"), OUTCOME_DONE);		\
		EXPECT_EQ(rsi, physical(page) + 0x800 + (moved));		\
		EXPECT_EQ(rcx, rcx_after);					\
		expect_ones(page, 0, 0);					\
	}

OUTS_CASE(outsb_once, "outsb", 9, 9, 1, PROVES("guest-instructions:io.outs"))
OUTS_CASE(outsw_once, "outsw", 9, 9, 2, PROVES("guest-instructions:io.outs"))
OUTS_CASE(outsd_once, "outsl", 9, 9, 4, PROVES("guest-instructions:io.outs"))
OUTS_CASE(rep_outsb, "rep outsb", 5, 0, 5,
	  PROVES("guest-instructions:io.outs", "guest-instructions:io.rep_count"))
OUTS_CASE(rep_outsd, "rep outsl", 300, 0, 1200,
	  PROVES("guest-instructions:io.outs", "guest-instructions:io.rep_count"))
OUTS_CASE(rep_outsw_down, "std; rep outsw; cld", 5, 0, -10, PROVES("guest-instructions:io.df"))
OUTS_CASE(rep_outsb_none, "rep outsb", 0, 0, 0, PROVES("guest-instructions:io.rep_count"))
OUTS_CASE(rep_outsb_address_size_32, "addr32 rep outsb", 0xabcd00000003, 0, 3,
	  PROVES("guest-instructions:io.addr32"))
OUTS_CASE(rep_outsw_address_size_32, "addr32 rep outsw", 0xabcd00000003, 0, 6,
	  PROVES("guest-instructions:io.addr32"))

/* --- INS and OUTS: which memory, and what if it is not there ----------------- */

/* RSI alone leads to a missing page; with the base of FS or GS it leads to the next, and back. */
#define OVERRIDE_CASE(id, instruction, base_msr)				\
	CASE(id, PROVES("guest-instructions:io.outs"))				\
	{									\
		struct probe probe;						\
		u64 rsi;							\
										\
		probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);			\
		wrmsr(base_msr, 0x10000);					\
		rsi = probe.linear - 0x10000;					\
		EXPECT(ATTEMPT(instruction, "+S" (rsi) : "d" (PORT)), OUTCOME_DONE); \
		EXPECT_EQ(rsi, probe.linear - 0x10000 + 1);			\
		rsi = probe.linear;						\
		EXPECT(ATTEMPT(instruction, "+S" (rsi) : "d" (PORT)), PAGE_FAULT(0)); \
		EXPECT_EQ(read_cr2(), probe.linear + 0x10000);			\
		EXPECT_EQ(rsi, probe.linear);					\
	}

OVERRIDE_CASE(outsb_fs, "outsb %%fs:(%%rsi), %%dx", IA32_FS_BASE)
OVERRIDE_CASE(outsb_gs, "outsb %%gs:(%%rsi), %%dx", IA32_GS_BASE)

/* INS stores through ES, whose base is 0 in 64-bit mode: the prefix means nothing. */
CASE(insb_ignores_fs, PROVES("guest-instructions:io.ins"))
{
	struct probe probe;
	u64 rdi;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	wrmsr(IA32_FS_BASE, 0x10000);
	rdi = probe.linear;
	EXPECT(ATTEMPT("fs insb", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(*probe.page, PROBE_CONTENT | 0xff);
}

/* Three elements fit on the page, the fourth is on the next one, which is missing. */
CASE(rep_outsd_stops_at_the_missing_page, PROVES("guest-instructions:io.rep_fault"))
{
	struct probe probe;
	u64 rsi, rcx = 7;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	rsi = probe.linear + PAGE_SIZE - 12;
	EXPECT(ATTEMPT("rep outsl", "+S" (rsi), "+c" (rcx) : "d" (PORT)), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(rsi, probe.linear + PAGE_SIZE);
	EXPECT_EQ(rcx, 4);
}

CASE(rep_insd_stops_at_the_missing_page, PROVES("guest-instructions:io.rep_fault"))
{
	struct probe probe;
	u64 rdi, rcx = 7;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	rdi = probe.linear + PAGE_SIZE - 12;
	EXPECT(ATTEMPT("rep insl", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"),
	       PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(rdi, probe.linear + PAGE_SIZE);
	EXPECT_EQ(rcx, 4);
	EXPECT_EQ(probe.page[511], ~0ull);
	EXPECT_EQ(probe.page[510], (PROBE_CONTENT & BITS(31, 0)) | BITS(63, 32));
}

static u64 *late_entry;	/* for the handler, which has no argument */

static void map_the_page(struct trap_frame *frame __maybe_unused)
{
	*late_entry |= PTE_P;
}

/* The handler maps the page and returns to the instruction, which does the rest. */
CASE(rep_insd_is_restarted,
     PROVES("guest-instructions:io.rep_cross", "guest-instructions:io.rep_fault"))
{
	struct probe probe;
	u64 rdi, rcx = 7, *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	late_entry = probe_map_next(&probe, &second, PTE_RW);
	trap_on(VECTOR_PF, map_the_page);
	rdi = probe.linear + PAGE_SIZE - 12;
	EXPECT(ATTEMPT("rep insl", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(rdi, probe.linear + PAGE_SIZE + 16);
	EXPECT_EQ(rcx, 0);
	EXPECT_EQ(probe.page[511], ~0ull);
	EXPECT_EQ(second[0], ~0ull);
	EXPECT_EQ(second[1], ~0ull);
	EXPECT_EQ(second[2], PROBE_CONTENT);
}

/* No element, no access: neither to memory nor to a port, so nothing can fault. */
CASE(rep_none_touches_no_memory, PROVES("guest-instructions:io.rep_count"))
{
	struct probe probe;
	u64 rdi, rcx = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	rdi = probe.linear;
	EXPECT(ATTEMPT("rep insb", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT(ATTEMPT("rep outsb", : "S" (rdi), "c" (rcx), "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(rdi, probe.linear);
}

CASE(insd_element_spans_two_pages, PROVES("guest-instructions:io.elem_cross"))
{
	struct probe probe;
	u64 rdi, *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	rdi = probe.linear + PAGE_SIZE - 1;
	EXPECT(ATTEMPT("insl", "+D" (rdi) : "d" (PORT) : "memory"), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(rdi, probe.linear + PAGE_SIZE - 1);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("insl", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(rdi, probe.linear + PAGE_SIZE + 3);
	EXPECT_EQ(probe.page[511], (PROBE_CONTENT & BITS(55, 0)) | BITS(63, 56));
	EXPECT_EQ(second[0], (PROBE_CONTENT & ~BITS(23, 0)) | BITS(23, 0));
}

CASE(non_canonical_memory, PROVES("guest-instructions:io.limit"))
{
	EXPECT(ATTEMPT("outsb", : "S" (BIT(47)), "d" (PORT)), OUTCOME_GP0);
	EXPECT(ATTEMPT("insb", : "D" (BIT(63)), "d" (PORT) : "memory"), OUTCOME_GP0);
	EXPECT(ATTEMPT("rep insb", : "D" (BIT(63)), "c" (0), "d" (PORT) : "memory"), OUTCOME_DONE);
}

INSTRUCTION(user_insl, "movl $0xee0, %edx", "insl");
INSTRUCTION(user_outsl, "movl $0xee0, %edx; movq %rdi, %rsi", "outsl");
_Static_assert(PORT == 0xee0, "the code above");

/* 7.15: the alignment of the memory, which is checked before the port is accessed. */
CASE(misaligned_memory_in_user_mode, PROVES("exceptions:vector.17"))
{
	const u64 flags = RFLAGS_AC | RFLAGS_IOPL;
	u8 *page = page_alloc();

	write_cr0(read_cr0() | CR0_AM);
	EXPECT(run_at_cpl_with_flags(3, flags, user_insl, page + 2), OUTCOME_FAULT(VECTOR_AC, 0));
	EXPECT_EQ(last_trap()->frame.rip, (u64)user_insl_at);
	expect_ones(page, 0, 0);
	EXPECT(run_at_cpl_with_flags(3, flags, user_outsl, page + 1), OUTCOME_FAULT(VECTOR_AC, 0));
	EXPECT(run_at_cpl_with_flags(3, flags, user_outsl, page + 4), OUTCOME_DONE);
	EXPECT(run_at_cpl_with_flags(3, flags & ~RFLAGS_AC, user_insl, page + 2), OUTCOME_DONE);
	expect_ones(page, 2, 4);
}

/* --- debug exceptions -------------------------------------------------------- */

static struct {
	u32 count;
	u64 first_dr6, rcx[3];
} steps;	/* for the handler, which has no argument */

static void count_step(struct trap_frame *frame)
{
	if (!steps.count)
		steps.first_dr6 = read_dr6();
	if (steps.count < ARRAY_SIZE(steps.rcx))
		steps.rcx[steps.count] = frame->regs.rcx;
	steps.count++;
	if (steps.count == 4)
		frame->rflags &= ~RFLAGS_TF;
}

static void count_steps(void)
{
	steps.count = 0;
	steps.first_dr6 = 0;
	trap_on(VECTOR_DB, count_step);
}

/* POPF sets TF, so the first trap is after the first element, the third after the last. */
CASE(rep_insb_single_step, PROVES("guest-instructions:io.single_step"))
{
	u8 *page = page_alloc();
	u64 rdi = physical(page), rcx = 3, i;

	count_steps();
	asm volatile("push %3; popfq\n\trep insb\n\tnop\n\tnop"
		     : "+D" (rdi), "+c" (rcx) : "d" (PORT), "i" (RFLAGS_FIXED | RFLAGS_TF)
		     : "memory", "cc");
	EXPECT_EQ(steps.count, 4);
	EXPECT_EQ(steps.first_dr6, DR6_FIXED | BIT(14));
	for (i = 0; i < ARRAY_SIZE(steps.rcx); i++)
		EXPECT_EQ(steps.rcx[i], 2 - i);
	EXPECT_EQ(rcx, 0);
	expect_ones(page, 0, 3);
}

/* GE, G0, R/W0 = I/O. */
#define DR7_IO_BREAKPOINT_0	(DR7_FIXED | BIT(9) | BIT(1) | 2ull << 16)

/* The port before the breakpoint, then its own: each time 1 byte. */
CASE(io_breakpoint, PROVES("guest-instructions:io.iobp"))
{
	u64 i;

	write_cr4(read_cr4() | CR4_DE);
	write_dr0(PORT + 1);
	count_steps();
	for (i = 0; i < 2; i++) {
		write_dr7(DR7_IO_BREAKPOINT_0);
		asm volatile("outb %%al, %%dx\n\tnop" : : "a" (0), "d" (PORT + i));
		write_dr7(DR7_FIXED);
		EXPECT_EQ(steps.count, i);
	}
	EXPECT_EQ(steps.first_dr6, DR6_FIXED | BIT(0));
}

/* --- privilege: IOPL and the I/O permission bit map -------------------------- */

struct port_access {
	u32 size;	/* bytes: 1, 2, 4; and a string instruction: 0 */
	u32 port;
};

static void access_port(void *argument)
{
	const struct port_access *access = argument;
	u32 value = 0;

	switch (access->size) {
	case 0:
		asm volatile("outsb" : : "S" (access), "d" (access->port) : "memory");
		break;
	case 1:
		asm volatile("inb %%dx, %%al" : "+a" (value) : "d" (access->port));
		break;
	case 2:
		asm volatile("inw %%dx, %%ax" : "+a" (value) : "d" (access->port));
		break;
	case 4:
		asm volatile("inl %%dx, %%eax" : "+a" (value) : "d" (access->port));
		break;
	}
}

static outcome_t at_cpl(u32 cpl, u64 iopl, u32 size, u32 port)
{
	struct port_access access = { size, port };

	return run_at_cpl_with_flags(cpl, iopl << 12, access_port, &access);
}

/* The TSS at boot has no bit map: its base is behind the limit. */
CASE(cpl_above_iopl, PROVES("guest-instructions:io.cpl_iopl", "guest-instructions:io.bitmap_limit"))
{
	EXPECT(at_cpl(3, 0, 1, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(3, 2, 4, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(1, 0, 2, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(2, 1, 0, PORT), OUTCOME_GP0);
}

CASE(cpl_not_above_iopl, PROVES("guest-instructions:io.cpl_iopl"))
{
	EXPECT(at_cpl(3, 3, 1, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(3, 3, 0, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(2, 2, 4, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(1, 1, 2, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(1, 3, 2, PORT), OUTCOME_DONE);
}

/* A TSS with a bit map; a set bit denies its port. */
struct bitmap_tss {
	struct tss tss;
	u8 denied[0x10000 / 8];
	u8 end;		/* all ones: the processor reads two bytes */
} __attribute__((packed));

/* Loads one that allows all ports, with the given segment limit. */
static struct bitmap_tss *load_bitmap_tss(u64 limit)
{
	struct bitmap_tss *with = pages_alloc(3 * PAGE_SIZE, PAGE_SIZE);
	u64 base = physical(with);

	with->tss = this_cpu()->tss;
	with->tss.io_map_base = offsetof(struct bitmap_tss, denied);
	with->end = 0xff;
	/* Type 9: 64-bit TSS, available. */
	cpu_set_descriptor(SELECTOR_SPARE, limit | base << 16 | 0x89ull << 40);
	cpu_set_descriptor(SELECTOR_SPARE + 8, 0);
	asm volatile("ltr %w0" : : "r" (SELECTOR_SPARE) : "memory");
	return with;
}

#define WHOLE_LIMIT	(sizeof(struct bitmap_tss) - 1)

static void deny(struct bitmap_tss *tss, u32 port)
{
	tss->denied[port / 8] |= 1 << port % 8;
}

CASE(bit_map_allows, PROVES("guest-instructions:io.bitmap_allow"))
{
	struct bitmap_tss *tss = load_bitmap_tss(WHOLE_LIMIT);

	deny(tss, PORT - 1);
	deny(tss, PORT + 4);
	EXPECT(at_cpl(3, 0, 1, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(3, 0, 4, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(3, 0, 0, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(1, 0, 2, PORT + 2), OUTCOME_DONE);
}

CASE(bit_map_denies, PROVES("guest-instructions:io.bitmap_deny"))
{
	struct bitmap_tss *tss = load_bitmap_tss(WHOLE_LIMIT);

	deny(tss, PORT);
	EXPECT(at_cpl(3, 0, 1, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(3, 0, 0, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(1, 0, 1, PORT), OUTCOME_GP0);
	EXPECT(at_cpl(3, 3, 1, PORT), OUTCOME_DONE);
}

/* Each port that an access touches has a bit, also where they are in two bytes of the map. */
CASE(bit_map_has_a_bit_per_port,
     PROVES("guest-instructions:io.bitmap_word", "guest-instructions:io.bitmap_deny"))
{
	struct bitmap_tss *tss = load_bitmap_tss(WHOLE_LIMIT);

	deny(tss, PORT + 8);
	EXPECT(at_cpl(3, 0, 4, PORT + 5), OUTCOME_GP0);
	EXPECT(at_cpl(3, 0, 2, PORT + 7), OUTCOME_GP0);
	EXPECT(at_cpl(3, 0, 4, PORT + 8), OUTCOME_GP0);
	EXPECT(at_cpl(3, 0, 4, PORT + 4), OUTCOME_DONE);
	EXPECT(at_cpl(3, 0, 2, PORT + 9), OUTCOME_DONE);
}

/* Both bytes that the processor reads must be in the segment, also when one has all the bits. */
CASE(bit_map_behind_the_limit, PROVES("guest-instructions:io.bitmap_limit"))
{
	const u64 last = offsetof(struct bitmap_tss, denied) + PORT / 8;

	load_bitmap_tss(last + 1);
	EXPECT(at_cpl(3, 0, 1, PORT), OUTCOME_DONE);
	EXPECT(at_cpl(3, 0, 1, PORT + 8), OUTCOME_GP0);
	load_bitmap_tss(last);
	EXPECT(at_cpl(3, 0, 1, PORT), OUTCOME_GP0);
}
