/*
 * INS and OUTS whose memory is none: from a port to the registers of a device, and back (volume 2,
 * INS, OUTS, REP).
 *
 * A processor sends both halves of an element to the bus and knows no difference. A hypervisor has
 * two accesses to emulate for each, and the guest may see nothing of that: the port is read only
 * when there is a place for what comes, once for each element, and between two elements the
 * registers say what is left. Where the data go is seen in a register of the local APIC, in pages
 * of RAM beside MMIO (lib/x86/mmu/mmio.h) and in the palette of a VGA, where every access moves on
 * by one place.
 */
#include "case.h"
#include "cpu/instruction.h"
#include "cpu/palette.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"

#define INS	"guest-instructions:mmio.ins"
#define OUTS	"guest-instructions:mmio.outs"

#define PORT	0xee0	/* no device: reads as all ones */

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)

BEFORE_EACH_CASE(mmio_map);

static u32 get(u64 address)
{
	return *(volatile u32 *)address;
}

static void put(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

/* --- one element, one register ------------------------------------------------------------- */

CASE(insd_to_a_register, PROVES(INS))
{
	u64 rdi = MMIO_REGISTER, rcx = 9;

	put(MMIO_REGISTER, 0x12345678);
	EXPECT(ATTEMPT("insl", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), BITS(31, 0));
	EXPECT_EQ(rdi, MMIO_REGISTER + 4);
	EXPECT_EQ(rcx, 9);
}

/* 48H, REX.W: the elements keep 32 bits. */
CASE(insd_to_a_register_rex_w, PROVES(INS))
{
	u64 rdi = MMIO_REGISTER, rcx = 1;

	put(MMIO_REGISTER, 0x12345678);
	EXPECT(ATTEMPT("rep; .byte 0x48; insl", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"),
	       OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), BITS(31, 0));
	EXPECT_EQ(rdi, MMIO_REGISTER + 4);
	EXPECT_EQ(rcx, 0);
}

CASE(insd_to_a_register_down, PROVES(INS))
{
	u64 rdi = MMIO_REGISTER, rcx = 1;

	put(MMIO_REGISTER, 0x12345678);
	EXPECT(ATTEMPT("std; rep insl; cld", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"),
	       OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), BITS(31, 0));
	EXPECT_EQ(rdi, MMIO_REGISTER - 4);
	EXPECT_EQ(rcx, 0);
}

/* --- sizes, directions, addresses ----------------------------------------------------------- */

/*
 * `instruction`, of `size` bytes, with RSI or RDI where no device is and `count` in RCX: how far
 * the index moves, what RCX is then. Neither element by element nor at once does anything else
 * change.
 */
#define MOVES(id, fact, index, instruction, count, count_after, moved)		\
	CASE(id, PROVES(fact))							\
	{									\
		u64 at = MMIO_NOTHING + 0x800, rcx = (count);			\
										\
		EXPECT(ATTEMPT(instruction, "+" index (at), "+c" (rcx)		\
			       : "d" (PORT) : "memory"), OUTCOME_DONE);		\
		EXPECT_EQ(at, MMIO_NOTHING + 0x800 + (moved));			\
		EXPECT_EQ(rcx, count_after);					\
	}

MOVES(insb_once, INS, "D", "insb", 9, 9, 1)
MOVES(insw_once, INS, "D", "insw", 9, 9, 2)
MOVES(insd_once, INS, "D", "insl", 9, 9, 4)
MOVES(rep_insb, INS, "D", "rep insb", 5, 0, 5)
MOVES(rep_insw, INS, "D", "rep insw", 5, 0, 10)
MOVES(rep_insd, INS, "D", "rep insl", 5, 0, 20)
MOVES(rep_insw_down, INS, "D", "std; rep insw; cld", 5, 0, -10)
MOVES(rep_insb_none, INS, "D", "rep insb", 0, 0, 0)
MOVES(rep_insd_address_size_32, INS, "D", "addr32 rep insl", 0xabcd00000003, 0, 12)
MOVES(rep_insw_address_size_32, INS, "D", "addr32 rep insw", 0xabcd00000003, 0, 6)
MOVES(outsb_once, OUTS, "S", "outsb", 9, 9, 1)
MOVES(outsw_once, OUTS, "S", "outsw", 9, 9, 2)
MOVES(outsd_once, OUTS, "S", "outsl", 9, 9, 4)
MOVES(rep_outsb, OUTS, "S", "rep outsb", 5, 0, 5)
MOVES(rep_outsw, OUTS, "S", "rep outsw", 5, 0, 10)
MOVES(rep_outsd, OUTS, "S", "rep outsl", 5, 0, 20)
MOVES(rep_outsd_down, OUTS, "S", "std; rep outsl; cld", 5, 0, -20)
MOVES(rep_outsb_none, OUTS, "S", "rep outsb", 0, 0, 0)
MOVES(rep_outsw_address_size_32, OUTS, "S", "addr32 rep outsw", 0xabcd00000003, 0, 6)

/* OUTS can have another segment than DS, INS cannot. */
CASE(segment_of_a_prefix, PROVES(INS, OUTS))
{
	u64 rdi = MMIO_REGISTER, rsi = MMIO_NOTHING - 0x10000;

	put(MMIO_REGISTER, 0x12345678);
	wrmsr(IA32_FS_BASE, 0x10000);
	EXPECT(ATTEMPT("fs insl", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), BITS(31, 0));
	EXPECT(ATTEMPT("outsb %%fs:(%%rsi), %%dx", "+S" (rsi) : "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(rsi, MMIO_NOTHING - 0x10000 + 1);
}

/* What the registers were behind the instruction. */
__used static u32 seen_index, seen_count;

/* ES begins half a page below MMIO_NOTHING, so that addresses of 16 bits are enough. */
#define STRING_16(name, index, instruction)					\
	extern const u8 name[];							\
	CODE32(name, "movl $0x68, %eax; movl %eax, %es; movl $0xee0, %edx;"	\
	       "movl $0xabcd0900, %" index "; movl $0x12340003, %ecx;"		\
	       instruction ";"							\
	       "movl %" index ", seen_index; movl %ecx, seen_count")

_Static_assert(SELECTOR_SPARE == 0x68 && PORT == 0xee0, "STRING_16");

STRING_16(insb_16, "edi", "addr16 rep insb");
STRING_16(outsl_16, "esi", "rep outsl %es:(%si), (%dx)");

static void check_address_size_16(const u8 *code, u32 moved)
{
	const u64 base = MMIO_NOTHING - 0x800;

	cpu_set_descriptor(SELECTOR_SPARE, 0xffff | FIELD(base, 23, 0) << 16 | 0x4093ull << 40 |
					   FIELD(base, 31, 24) << 56);
	EXPECT(run_in_compatibility_mode(0, code, 0), OUTCOME_DONE);
	EXPECT_EQ(seen_index, 0xabcd0900 + moved);
	EXPECT_EQ(seen_count, 0x12340000);
}

CASE(rep_insb_address_size_16, PROVES(INS))
{
	check_address_size_16(insb_16, 3);
}

CASE(rep_outsd_address_size_16, PROVES(OUTS))
{
	check_address_size_16(outsl_16, 12);
}

/* --- every element once and in order --------------------------------------------------------- */

static u8 sent[PALETTE_PLACES];

static void send(void)
{
	u32 i;

	for (i = 0; i < PALETTE_PLACES; i++)
		sent[i] = case_random() & PALETTE_COMPONENT;
	palette_set(sent);
}

/* Some palettes keep all eight bits of what they are given. */
static u8 next_place(void)
{
	return inb(palette_data_port()) & PALETTE_COMPONENT;
}

/* `count` places have been read since send(). */
static void expect_read(u32 count)
{
	EXPECT_EQ(next_place(), sent[count]);
}

static void expect_bytes(const char *what, u64 address, const u8 *want, u32 count)
{
	u32 i;

	for (i = 0; i < count && ((volatile u8 *)address)[i] == want[i]; i++)
		;
	if (!EXPECT_EQ(i, count))
		case_note(what, "byte %u is not %#x", i, want[i]);
}

static outcome_t rep_insb(u64 *rdi, u64 *rcx)
{
	return ATTEMPT("rep insb", "+D" (*rdi), "+c" (*rcx) : "d" (palette_data_port()) : "memory");
}

CASE(rep_insb_reads_each_element_once, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_NOTHING + 0x800, rcx = 5;

	send();
	EXPECT(rep_insb(&rdi, &rcx), OUTCOME_DONE);
	expect_read(5);
}

/* Six: a palette may take three components at once. */
CASE(rep_outsb_delivers_each_element_once, PROVES(OUTS), NEEDS(PALETTE))
{
	u8 other = (*(volatile u8 *)MMIO_NOTHING ^ 0x15) & PALETTE_COMPONENT;
	u64 rsi = MMIO_NOTHING + 0x800, rcx = 6;
	u32 i;

	for (i = 0; i < PALETTE_PLACES; i++)
		sent[i] = other;
	palette_set(sent);
	palette_write_from_start();
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (palette_data_port())),
	       OUTCOME_DONE);
	palette_read_from_start();
	for (i = 0; i < 6; i++)
		EXPECT_EQ(next_place(), other ^ 0x15);
	EXPECT_EQ(next_place(), other);
}

/* --- borders of pages ------------------------------------------------------------------------ */

CASE(rep_insb_from_ram_into_mmio, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_NOTHING - 3, rcx = 7;

	send();
	EXPECT(rep_insb(&rdi, &rcx), OUTCOME_DONE);
	EXPECT_EQ(rdi, MMIO_NOTHING + 4);
	EXPECT_EQ(rcx, 0);
	expect_bytes("ram", MMIO_NOTHING - 3, sent, 3);
	expect_read(7);
}

CASE(rep_insb_from_mmio_into_ram, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_RAM_3 - 3, rcx = 7;

	send();
	EXPECT(rep_insb(&rdi, &rcx), OUTCOME_DONE);
	EXPECT_EQ(rdi, MMIO_RAM_3 + 4);
	expect_bytes("ram", MMIO_RAM_3, sent + 3, 4);
	EXPECT_EQ(get(MMIO_RAM_3 + 4), 0);
	expect_read(7);
}

CASE(rep_insb_down_from_ram_into_mmio, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_RAM_3 + 1, rcx = 4;

	send();
	EXPECT(ATTEMPT("std; rep insb; cld", "+D" (rdi), "+c" (rcx)
		       : "d" (palette_data_port()) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(rdi, MMIO_RAM_3 - 3);
	EXPECT_EQ(get(MMIO_RAM_3), sent[1] | (u32)sent[0] << 8);
	expect_read(4);
}

CASE(rep_outsb_from_ram_and_mmio, PROVES(OUTS), NEEDS(PALETTE))
{
	u64 rsi = MMIO_NOTHING - 4, rcx = 6;
	u32 i;

	send();
	put(MMIO_NOTHING - 4, 0x04030201);
	palette_write_from_start();
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (palette_data_port())),
	       OUTCOME_DONE);
	EXPECT_EQ(rsi, MMIO_NOTHING + 2);
	palette_read_from_start();
	for (i = 0; i < 4; i++)
		EXPECT_EQ(next_place(), i + 1);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(next_place(), mmio_nothing() & PALETTE_COMPONENT);
	expect_read(6);
}

/* An element itself lies in both. */
CASE(insd_over_the_border_of_ram, PROVES(INS))
{
	u64 rdi = MMIO_NOTHING - 1;

	EXPECT(ATTEMPT("insl", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_NOTHING - 4), 0xff000000);
	rdi = MMIO_RAM_3 - 1;
	EXPECT(ATTEMPT("insl", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(rdi, MMIO_RAM_3 + 3);
	EXPECT_EQ(get(MMIO_RAM_3), 0x00ffffff);
}

CASE(outsd_over_the_border_of_ram, PROVES(OUTS))
{
	u64 rsi = MMIO_RAM_3 - 2;

	EXPECT(ATTEMPT("outsl", "+S" (rsi) : "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(rsi, MMIO_RAM_3 + 2);
	EXPECT_EQ(get(MMIO_RAM_3), 0);
}

/* --- page faults: the port is not read, and nothing is lost ---------------------------------- */

static void change(u64 linear, u64 clear)
{
	*mmio_entry(linear) &= ~clear;
	invlpg(linear);
}

CASE(rep_insb_stops_at_the_missing_page, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_NOTHING_2 - 2, rcx = 5;

	send();
	change(MMIO_NOTHING_2, PTE_P);
	EXPECT(rep_insb(&rdi, &rcx), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), MMIO_NOTHING_2);
	EXPECT_EQ(rdi, MMIO_NOTHING_2);
	EXPECT_EQ(rcx, 3);
	expect_read(2);
}

static void map_the_page(struct trap_frame *frame __maybe_unused)
{
	*mmio_entry(MMIO_NOTHING_2) |= PTE_P;
}

CASE(rep_insb_is_restarted, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_NOTHING_2 - 2, rcx = 5;

	send();
	change(MMIO_NOTHING_2, PTE_P);
	trap_on(VECTOR_PF, map_the_page);
	EXPECT(rep_insb(&rdi, &rcx), OUTCOME_DONE);
	EXPECT_EQ(rdi, MMIO_NOTHING_2 + 3);
	expect_read(5);
}

CASE(rep_outsb_stops_at_the_missing_page, PROVES(OUTS), NEEDS(PALETTE))
{
	u64 rsi = MMIO_NOTHING_2 - 2, rcx = 5;

	send();
	change(MMIO_NOTHING_2, PTE_P);
	palette_write_from_start();
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (palette_data_port())),
	       PAGE_FAULT(0));
	EXPECT_EQ(rsi, MMIO_NOTHING_2);
	EXPECT_EQ(rcx, 3);
	palette_read_from_start();
	next_place();
	next_place();
	expect_read(2);
}

CASE(insb_to_a_read_only_page, PROVES(INS), NEEDS(PALETTE))
{
	u64 rdi = MMIO_NOTHING, rcx = 3;

	send();
	write_cr0(read_cr0() | CR0_WP);
	change(MMIO_NOTHING, PTE_RW);
	EXPECT(rep_insb(&rdi, &rcx), PAGE_FAULT(PF_P | PF_WR));
	EXPECT_EQ(rcx, 3);
	expect_read(0);
}

/* The second half has no page: nothing is read, and nothing written, the first half neither. */
CASE(insd_over_the_border_of_a_missing_page, PROVES(INS))
{
	u64 rdi = MMIO_NOTHING - 1;

	change(MMIO_NOTHING, PTE_P);
	EXPECT(ATTEMPT("insl", "+D" (rdi) : "d" (PORT) : "memory"), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), MMIO_NOTHING);
	EXPECT_EQ(rdi, MMIO_NOTHING - 1);
	EXPECT_EQ(get(MMIO_NOTHING - 4), 0);
}

CASE(accessed_and_dirty_flags, PROVES(INS, OUTS, "guest-instructions:mmio.ad_bits"))
{
	const u64 flags = PTE_A | PTE_D;
	u64 rsi = MMIO_NOTHING, rdi = MMIO_NOTHING;

	change(MMIO_NOTHING, flags);
	EXPECT(ATTEMPT("outsb", "+S" (rsi) : "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(*mmio_entry(MMIO_NOTHING) & flags, PTE_A);
	EXPECT(ATTEMPT("insb", "+D" (rdi) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(*mmio_entry(MMIO_NOTHING) & flags, flags);
}

/* --- user mode ------------------------------------------------------------------------------- */

INSTRUCTION(user_insl, "movl $0xee0, %edx", "insl");
INSTRUCTION(user_outsl, "movl $0xee0, %edx; movq %rdi, %rsi", "outsl");
_Static_assert(PORT == 0xee0, "the code above");

CASE(in_user_mode, PROVES(INS, OUTS))
{
	void *page = (void *)MMIO_USER_REGISTER, *other = (void *)MMIO_REGISTER;

	mmio_share_with_user();
	put(MMIO_REGISTER, 0x12345678);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_IOPL, user_insl, other),
	       PAGE_FAULT(PF_P | PF_WR | PF_US));
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_IOPL, user_outsl, other), PAGE_FAULT(PF_P | PF_US));
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_IOPL, user_outsl, page), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x12345678);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_IOPL, user_insl, page), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), BITS(31, 0));
}

/* 7.15: before the port is accessed. */
CASE(misaligned_in_user_mode, PROVES(INS, OUTS, "guest-instructions:mmio.ac"))
{
	const u64 flags = RFLAGS_AC | RFLAGS_IOPL;
	void *page = (void *)(MMIO_USER_REGISTER + 2);

	mmio_share_with_user();
	write_cr0(read_cr0() | CR0_AM);
	EXPECT(run_at_cpl_with_flags(3, flags, user_insl, page), OUTCOME_FAULT(VECTOR_AC, 0));
	EXPECT(run_at_cpl_with_flags(3, flags, user_outsl, page), OUTCOME_FAULT(VECTOR_AC, 0));
	EXPECT(run_at_cpl_with_flags(3, flags, user_outsl, page - 2), OUTCOME_DONE);
}

/* --- debug exceptions ------------------------------------------------------------------------ */

#define DR6_CAUSES	(BITS(3, 0) | BITS(14, 13))

static struct {
	u32 count;
	u64 dr6[4], rcx[4];
} traps;	/* for the handler, which has no argument */

static void note_trap(struct trap_frame *frame)
{
	if (traps.count < ARRAY_SIZE(traps.rcx)) {
		traps.dr6[traps.count] = read_dr6() & DR6_CAUSES;
		traps.rcx[traps.count] = frame->regs.rcx;
	}
	if (++traps.count == ARRAY_SIZE(traps.rcx))
		frame->rflags &= ~RFLAGS_TF;
	write_dr6(DR6_FIXED);
}

static void note_traps(void)
{
	traps.count = 0;
	trap_on(VECTOR_DB, note_trap);
}

/* POPF sets TF: a trap behind each element, and one behind the NOP. */
#define STEPPED(instruction, ...)						\
	asm volatile("push %[flags]; popfq\n\t" instruction "\n\tnop"		\
		     : __VA_ARGS__ : "d" (PORT), [flags] "i" (RFLAGS_FIXED | RFLAGS_TF)	\
		     : "memory", "cc")

static void expect_a_trap_for_each(void)
{
	u32 i;

	EXPECT_EQ(traps.count, 4);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(traps.rcx[i], 2 - i);
		EXPECT_EQ(traps.dr6[i], BIT(14));
	}
}

CASE(rep_insb_single_step, PROVES(INS, "guest-instructions:io.single_step"))
{
	u64 rdi = MMIO_NOTHING, rcx = 3;

	note_traps();
	STEPPED("rep insb", "+D" (rdi), "+c" (rcx));
	expect_a_trap_for_each();
}

CASE(rep_outsb_single_step, PROVES(OUTS, "guest-instructions:io.single_step"))
{
	u64 rsi = MMIO_NOTHING, rcx = 3;

	note_traps();
	STEPPED("rep outsb", "+S" (rsi), "+c" (rcx));
	expect_a_trap_for_each();
}

/* 20.2.5: REP INS and REP OUTS trap behind the element that met the breakpoint. */
CASE(data_breakpoint, PROVES(INS, OUTS, "guest-instructions:dr.data_mmio"))
{
	u64 rdi = MMIO_NOTHING, rsi = MMIO_NOTHING, rcx = 3;

	write_dr1(MMIO_NOTHING + 1);
	note_traps();
	/* L1; R/W1 = 1: writes; LEN1 = 0: 1 byte. */
	write_dr7(DR7_FIXED | BIT(2) | BIT(20));
	EXPECT(ATTEMPT("rep insb", "+D" (rdi), "+c" (rcx) : "d" (PORT) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(traps.count, 1);
	EXPECT_EQ(traps.dr6[0], BIT(1));
	EXPECT_EQ(traps.rcx[0], 1);
	rcx = 3;
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(traps.count, 1);
	/* R/W1 = 3: reads too. */
	rsi = MMIO_NOTHING;
	rcx = 3;
	write_dr7(DR7_FIXED | BIT(2) | BITS(21, 20));
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (PORT)), OUTCOME_DONE);
	EXPECT_EQ(traps.count, 2);
	EXPECT_EQ(traps.rcx[1], 1);
	write_dr7(DR7_FIXED);
}
