/*
 * Port I/O as the device and an interrupt see it: REP OUTS and REP INS (volume 2, REP, INS, OUTS).
 *
 * A string instruction is many accesses, and each must reach the device once, in order, whatever
 * comes between them: a page fault, an interrupt, the hypervisor that hands them over in batches.
 * The witness is the palette of a VGA, if the machine has one (the node /palette of its tree): 768
 * components of six bits behind one data port, and every access moves on by one place. One element
 * that is lost or done twice displaces all that follow.
 */
#include "case.h"
#include "cpu/apic.h"
#include "cpu/instruction.h"
#include "cpu/palette.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define FACT(name)	"guest-instructions:io." name

#define PORT		0xee0	/* no device: reads as all ones */

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)

/* --- bytes to send ------------------------------------------------------------- */

static void fill_at_random(u8 *bytes, u32 count)
{
	while (count--)
		*bytes++ = case_random() & PALETTE_COMPONENT;
}

static void expect_bytes(const char *what, const u8 *got, const u8 *want, u32 count)
{
	u32 i;

	for (i = 0; i < count && got[i] == want[i]; i++)
		;
	if (!EXPECT_EQ(i, count))
		case_note(what, "element %u is %#x, not %#x", i, got[i], want[i]);
}

/* --- every element once and in order -------------------------------------------- */

CASE(rep_outsb_delivers_each_element_once, PROVES(FACT("rep_many")), NEEDS(PALETTE))
{
	u8 *sent = page_alloc(), *kept = page_alloc();
	u64 rsi = physical(sent), rcx = PALETTE_PLACES;
	u32 i;

	fill_at_random(sent, PALETTE_PLACES);
	palette_set(kept);
	palette_write_from_start();
	EXPECT(ATTEMPT("rep outsb", "+S" (rsi), "+c" (rcx) : "d" (palette_data_port()) : "memory"),
	       OUTCOME_DONE);
	EXPECT_EQ(rsi, physical(sent) + PALETTE_PLACES);
	EXPECT_EQ(rcx, 0);
	palette_read_from_start();
	for (i = 0; i < PALETTE_PLACES; i++)
		kept[i] = inb(palette_data_port());
	expect_bytes("palette", kept, sent, PALETTE_PLACES);
}

CASE(rep_insb_reads_each_element_once, PROVES(FACT("ins"), FACT("rep_count")), NEEDS(PALETTE))
{
	u8 *sent = page_alloc(), *got = page_alloc();
	u64 rdi = physical(got), rcx = PALETTE_PLACES;

	fill_at_random(sent, PALETTE_PLACES);
	palette_set(sent);
	EXPECT(ATTEMPT("rep insb", "+D" (rdi), "+c" (rcx) : "d" (palette_data_port()) : "memory"),
	       OUTCOME_DONE);
	EXPECT_EQ(rdi, physical(got) + PALETTE_PLACES);
	EXPECT_EQ(rcx, 0);
	expect_bytes("memory", got, sent, PALETTE_PLACES);
}

/* --- page faults: what is not stored has not been read --------------------------- */

static void check_fault_before_read(u64 clear, u32 error)
{
	u8 *sent = page_alloc();
	struct probe probe;

	fill_at_random(sent, PALETTE_PLACES);
	sent[1] = ~sent[0] & PALETTE_COMPONENT;
	palette_set(sent);
	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, clear, 0);
	EXPECT(ATTEMPT("insb", : "D" (probe.linear), "d" (palette_data_port()) : "memory"),
	       PAGE_FAULT(error));
	EXPECT_EQ(inb(palette_data_port()), sent[0]);
	EXPECT_EQ(inb(palette_data_port()), sent[1]);
}

CASE(fault_of_missing_page_comes_before_the_read, PROVES(FACT("ins_fault_first")), NEEDS(PALETTE))
{
	check_fault_before_read(PTE_P, PF_WR);
}

CASE(fault_of_read_only_page_comes_before_the_read, PROVES(FACT("ins_fault_first")),
     NEEDS(PALETTE))
{
	check_fault_before_read(PTE_RW, PF_WR | PF_P);
}

static u64 *late_entry;	/* for the handler, which has no argument */

static void map_the_page(struct trap_frame *frame __maybe_unused)
{
	*late_entry |= PTE_P;
}

/* The second page comes with the fault; then memory has all elements, and the device goes on. */
CASE(rep_insb_over_a_missing_page_loses_nothing,
     PROVES(FACT("rep_fault"), FACT("rep_cross")), NEEDS(PALETTE))
{
	u8 *sent = page_alloc();
	u64 rdi, rcx = 7, *second;
	struct probe probe;

	fill_at_random(sent, PALETTE_PLACES);
	palette_set(sent);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	late_entry = probe_map_next(&probe, &second, PTE_RW);
	trap_on(VECTOR_PF, map_the_page);
	rdi = probe.linear + PAGE_SIZE - 3;
	EXPECT(ATTEMPT("rep insb", "+D" (rdi), "+c" (rcx) : "d" (palette_data_port()) : "memory"),
	       OUTCOME_DONE);
	EXPECT_EQ(rcx, 0);
	expect_bytes("first_page", (u8 *)probe.page + PAGE_SIZE - 3, sent, 3);
	expect_bytes("second_page", (u8 *)second, sent + 3, 4);
	EXPECT_EQ(inb(palette_data_port()), sent[7]);
}

/* --- interrupts ------------------------------------------------------------------- */

#define VECTOR_A	0x61

static struct {
	u32 count;
	struct trap_frame frame;
} taken;	/* for the handlers, which have no argument */

static void on_interrupt(struct trap_frame *frame)
{
	taken.count++;
	taken.frame = *frame;
	apic_eoi();
}

INSTRUCTION(outb_after_sti, "movl $0xee0, %edx; sti", "outb %al, %dx; nop; cli");
extern const u8 outb_after_sti_nop[];
asm(".set outb_after_sti_nop, outb_after_sti_at + 1");

_Static_assert(PORT == 0xee0, "outb_after_sti");

/* The shadow of STI is one instruction long, also when that one is emulated. */
CASE(interrupt_after_sti_and_out, PROVES(FACT("sti_shadow")), NEEDS(APIC))
{
	taken.count = 0;
	trap_on(VECTOR_A, on_interrupt);
	apic_pend(VECTOR_A);
	EXPECT(attempt(outb_after_sti, NULL), OUTCOME_DONE);
	EXPECT_EQ(taken.count, 1);
	EXPECT_EQ(taken.frame.rip, (u64)outb_after_sti_nop);
}

/*
 * An instruction that is not over when the interrupt comes: the timer has some thousand ticks, the
 * instruction 16 million elements, whose addresses all lead to one page. If the timer was first it
 * is set again, for twice as long. Its handler leaves five elements to be done.
 */
#define REGION		BIT(46)
#define ELEMENTS	BIT(24)
#define ELEMENTS_LEFT	5
#define FIRST_TICKS	0x1000u

static u64 long_string;		/* where it is; for the handler, like the next one */
static u32 ticks;

static void on_timer(struct trap_frame *frame)
{
	if (frame->rip != long_string || frame->regs.rcx == ELEMENTS) {
		ticks *= 2;
		apic_write(APIC_TIMER_INITIAL_COUNT, ticks);
		apic_eoi();
		return;
	}
	on_interrupt(frame);
	frame->regs.rcx = ELEMENTS_LEFT;
}

static void map_region(struct probe *probe)
{
	u64 offset;

	probe_map(probe, LEVEL_PTE, PTE_P | PTE_RW);
	for (offset = 0; offset < ELEMENTS; offset += PAGE_SIZE)
		space_map(&probe->space, REGION + offset, physical(probe->page), PTE_P | PTE_RW,
			  LEVEL_PTE);
}

static void expect_interrupt(void)
{
	taken.count = 0;
	ticks = FIRST_TICKS;
	trap_on(VECTOR_A, on_timer);
	apic_write(APIC_LVT_TIMER, VECTOR_A);
	apic_write(APIC_TIMER_INITIAL_COUNT, ticks);
}

/* `at` and `end`: what the index register was in the handler, and what it is now. */
static void check_interrupted(u64 at, u64 end, u64 rcx)
{
	REQUIRE_EQ(taken.count, 1);
	EXPECT_EQ(at - REGION, ELEMENTS - taken.frame.regs.rcx);
	EXPECT_EQ(end, at + ELEMENTS_LEFT);
	EXPECT_EQ(rcx, 0);
	/* 20.3.1.1: so that no instruction breakpoint stops the same instruction again. */
	EXPECT_TRUE(taken.frame.rflags & RFLAGS_RF);
}

/* NOP: the shadow of STI may last as long as the instruction behind it. */
#define LONG_STRING(instruction, ...)						\
	asm volatile("movq $1f, %[at]; sti; nop\n1:\t" instruction "\n\tcli"		\
		     : __VA_ARGS__, [at] "=m" (long_string) : "d" (PORT) : "memory", "cc")

CASE(interrupt_between_elements_of_rep_insb, PROVES(FACT("rep_irq")), NEEDS(APIC))
{
	u64 rdi = REGION, rcx = ELEMENTS;
	struct probe probe;

	map_region(&probe);
	expect_interrupt();
	LONG_STRING("rep insb", "+D" (rdi), "+c" (rcx));
	check_interrupted(taken.frame.regs.rdi, rdi, rcx);
	EXPECT_EQ(*(u8 *)probe.page, 0xff);
}

CASE(interrupt_between_elements_of_rep_outsb, PROVES(FACT("rep_irq")), NEEDS(APIC))
{
	u64 rsi = REGION, rcx = ELEMENTS;
	struct probe probe;

	map_region(&probe);
	expect_interrupt();
	LONG_STRING("rep outsb", "+S" (rsi), "+c" (rcx));
	check_interrupted(taken.frame.regs.rsi, rsi, rcx);
}
