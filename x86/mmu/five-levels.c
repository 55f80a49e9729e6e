/*
 * 5-level paging: 5.5 with CR4.LA57 = 1.
 *
 * One table more on top, the PML5 table that CR3 points to, and linear addresses of 57 bits: bits
 * 56:48 select a PML5E, the others what they select with 4 levels. Addresses are canonical when
 * bits 63:56 are equal (chapter 4), so 0000800000000000H is one like any other. A PML5E has the
 * format of a PML4E: it never maps a page, and takes part in the rights as every entry does.
 * CR4.LA57 changes only outside IA-32e mode, so each case here goes there and back
 * (legacy_run_with_5_levels()). All that one entry does to another is in mmu/exhaustive-5-level.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/build.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define LEVELS		5
#define LINEAR		0x00125a3456789000ull	/* another index at each level */
#define CR2_VALUE	0x1122334455667788ull

/* A page at `linear`, and the five entries that map it: entry[1] is the PTE, entry[5] the PML5E. */
struct page_5 {
	u64 linear;
	u64 *page;
	u64 *entry[LEVELS + 1];
};

struct setting {
	u64 *pml5;
	struct page_5 at;
};

/* A PML5 table whose first entry references the tables in use. */
static u64 *new_pml5(void)
{
	u64 *table = page_alloc();

	table[0] = (read_cr3() & PTE_ADDRESS) | PTE_P | PTE_RW | PTE_US;
	return table;
}

/* Missing tables are made, and allow everything. */
static struct page_5 map_page(u64 *pml5, u64 linear, u64 flags)
{
	struct page_5 at = { .linear = linear, .page = page_alloc_filled(PROBE_CONTENT) };
	u64 *table = pml5;
	u32 level;

	for (level = LEVELS; level; level--) {
		u64 *entry = &table[linear >> (12 + 9 * (level - 1)) & 511];

		if (level == 1)
			*entry = physical(at.page) | flags;
		else if (!(*entry & PTE_P))
			*entry = physical(page_alloc()) | PTE_P | PTE_RW | PTE_US;
		table = (u64 *)(*entry & PTE_ADDRESS);
		at.entry[level] = entry;
	}
	return at;
}

static struct setting prepare(u64 flags)
{
	struct setting s = { .pml5 = new_pml5() };

	s.at = map_page(s.pml5, LINEAR, PTE_P | PTE_RW | flags);
	return s;
}

#define RUN(s, function) \
	EXPECT(legacy_run_with_5_levels((s)->pml5, function, s), OUTCOME_DONE)

static void change(const struct page_5 *at, u32 level, u64 clear, u64 set)
{
	*at->entry[level] = (*at->entry[level] & ~clear) | set;
	invlpg(at->linear);
}

/* --- translation ------------------------------------------------------------------------- */

static void read_and_look_at_flags(void *argument)
{
	struct setting *s = argument;
	u64 value = 0;
	u32 level;

	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, s->at.page[0]);
	for (level = 1; level <= LEVELS; level++)
		EXPECT_EQ(*s->at.entry[level] & (PTE_A | PTE_D), PTE_A);
	EXPECT(write_at(s->at.linear, ~value), OUTCOME_DONE);
	EXPECT_EQ(s->at.page[0], ~value);
	EXPECT_EQ(*s->at.entry[1] & (PTE_A | PTE_D), PTE_A | PTE_D);
	for (level = 2; level <= LEVELS; level++)
		EXPECT_EQ(*s->at.entry[level] & (PTE_A | PTE_D), PTE_A);
}

/* The lowest and the highest index of both halves, and some in between. */
CASE(index_of_each_level, PROVES("paging:fmt.5l.index", "paging:mode.select.5level",
				 "paging:ad.a_read", "paging:ad.nonleaf_d"), NEEDS(CPU(LA57)))
{
	static const u64 addresses[] = {
		LINEAR, 0x0001000000000000, 0x00ff000000000000, 0x00ffffffffffe000,
		0xff00000000000000, 0xff92345678123000, 0xffffffffffffe000, 0x0000800000000000,
	};
	struct setting s;
	u64 *pml4;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		s.pml5 = new_pml5();
		/* The tables in use lead there: this page gets a PML4 table of its own. */
		if (!(addresses[i] >> 48)) {
			pml4 = page_alloc_copy((void *)(read_cr3() & PTE_ADDRESS));
			s.pml5[0] = physical(pml4) | PTE_P | PTE_RW | PTE_US;
		}
		s.at = map_page(s.pml5, addresses[i], PTE_P | PTE_RW);
		if (!RUN(&s, read_and_look_at_flags))
			case_note("address", "%#lx", addresses[i]);
	}
}

static void read_others(void *argument)
{
	struct setting *s = argument;
	u32 bit;
	u64 value;

	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	for (bit = 48; bit < 56; bit++) {
		EXPECT(read_at(s->at.linear ^ BIT(bit), &value), PAGE_FAULT(0));
		EXPECT_EQ(read_cr2(), s->at.linear ^ BIT(bit));
	}
}

CASE(every_bit_of_the_index_counts, PROVES("paging:fmt.5l.index"), NEEDS(CPU(LA57)))
{
	struct setting s = prepare(0);

	RUN(&s, read_others);
}

/* --- canonical addresses ------------------------------------------------------------------ */

static void read_around_the_gap(void *argument __maybe_unused)
{
	u64 value;

	EXPECT(read_at(0x0000800000000000, &value), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), 0x0000800000000000);
	EXPECT(read_at(0x00fffffffffffff8, &value), PAGE_FAULT(0));
	EXPECT(read_at(0xff00000000000000, &value), PAGE_FAULT(0));
	write_cr2(CR2_VALUE);
	EXPECT(read_at(0x0100000000000000, &value), OUTCOME_GP0);
	EXPECT(read_at(0xfefffffffffffff8, &value), OUTCOME_GP0);
	EXPECT(read_at(0x8000000000000000, &value), OUTCOME_GP0);
	EXPECT(fetch_at(0x0100000000000000), OUTCOME_GP0);
	EXPECT_EQ(read_cr2(), CR2_VALUE);
}

CASE(canonical_addresses_have_57_bits, PROVES("paging:canon.5l"), NEEDS(CPU(LA57)))
{
	struct setting s = { .pml5 = new_pml5() };

	RUN(&s, read_around_the_gap);
}

/* --- reserved bits ------------------------------------------------------------------------- */

static void read_with_each_reserved_bit(void *argument)
{
	struct setting *s = argument;
	u64 good = *s->at.entry[LEVELS], value;
	u32 bit;

	for (bit = 0; bit < 64; bit++) {
		bool address = bit >= 12 && bit < maxphyaddr();
		bool reserved = BIT(bit) == PTE_PS || BIT(bit) == PTE_XD ||
				(bit >= maxphyaddr() && bit < 52);

		if (address || BIT(bit) == PTE_P)
			continue;
		*s->at.entry[LEVELS] = good ^ BIT(bit);
		invlpg(s->at.linear);
		if (!EXPECT(read_at(s->at.linear, &value),
			    reserved ? PAGE_FAULT(PF_P | PF_RSVD) : OUTCOME_DONE))
			case_note("bit", "%u", bit);
	}
	change(&s->at, LEVELS, ~0ull, good & ~PTE_P);
	EXPECT(read_at(s->at.linear, &value), PAGE_FAULT(0));
}

CASE(each_bit_of_a_pml5e, PROVES("paging:rsvd.5l.ps", "paging:rsvd.4l.high", "paging:rsvd.4l.xd",
				 "paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g"),
     NEEDS(CPU(LA57)))
{
	struct setting s = prepare(0);

	RUN(&s, read_with_each_reserved_bit);
}

/* --- access rights ------------------------------------------------------------------------- */

static void lose_rights(void *argument)
{
	struct setting *s = argument;
	u64 value;

	write_cr0(read_cr0() | CR0_WP);
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
	EXPECT(write_at(s->at.linear, PROBE_CONTENT), OUTCOME_DONE);
	EXPECT(fetch_at(s->at.linear), OUTCOME_DONE);
	change(&s->at, LEVELS, PTE_RW, 0);
	EXPECT(write_at(s->at.linear, 0), PAGE_FAULT(PF_P | PF_WR));
	change(&s->at, LEVELS, 0, PTE_RW | PTE_XD);
	EXPECT(fetch_at(s->at.linear), PAGE_FAULT(PF_P | PF_ID));
	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	write_cr0(read_cr0() & ~CR0_WP);
	change(&s->at, LEVELS, PTE_XD, 0);
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~EFER_NXE);
}

CASE(rights_of_a_pml5e, PROVES("paging:acc.rw_and", "paging:acc.xd_or"), NEEDS(CPU(LA57), CPU(NX)))
{
	struct setting s = prepare(0);

	RUN(&s, lose_rights);
}

static void fetch_by_whom(void *argument)
{
	struct setting *s = argument;

	/* The suite is in user-mode pages, but for the time of this case. */
	write_cr4(read_cr4() | CR4_SMEP);
	EXPECT(fetch_at(s->at.linear), PAGE_FAULT(PF_P | PF_ID));
	change(&s->at, LEVELS, PTE_US, 0);
	EXPECT(fetch_at(s->at.linear), OUTCOME_DONE);
	write_cr4(read_cr4() & ~CR4_SMEP);
}

CASE(user_flag_of_a_pml5e, PROVES("paging:acc.user_addr", "paging:acc.smep"),
     NEEDS(CPU(LA57), CPU(SMEP)))
{
	struct setting s = prepare(PTE_US);

	s.pml5[0] &= ~PTE_US;
	RUN(&s, fetch_by_whom);
}

/* --- caches of translations ------------------------------------------------------------------ */

/* Another PML4 table, with all tables below it and another page. */
static void change_pml5e(void *argument)
{
	struct setting *s = argument;
	struct page_5 other;
	u64 value = 0, *pml5 = page_alloc(), pml5e;

	other = map_page(pml5, s->at.linear, PTE_P | PTE_RW);
	*other.page = CR2_VALUE;
	pml5e = *other.entry[LEVELS];
	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	*s->at.entry[LEVELS] = pml5e;
	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	EXPECT_TRUE(value == PROBE_CONTENT || value == CR2_VALUE);
	invlpg(s->at.linear);
	EXPECT(read_at(s->at.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, CR2_VALUE);
	*s->at.entry[LEVELS] = 0;
	write_cr3(read_cr3());
	EXPECT(read_at(s->at.linear, &value), PAGE_FAULT(0));
}

CASE(pml5e_may_be_stale, PROVES("paging:tlb.psc.upper", "paging:tlb.invlpg.psc",
				"paging:tlb.cr3.nopcid"), NEEDS(CPU(LA57)))
{
	struct setting s = prepare(0);

	RUN(&s, change_pml5e);
}

/*
 * --- linear-address masking --------------------------------------------------------------------
 */

#define TAG_57		BITS(62, 57)
#define UPPER_LINEAR	0xff925a3456789000ull

static void read_tagged_in_upper_half(void *argument)
{
	struct setting *s = argument;
	u64 tagged = s->at.linear & ~TAG_57, value = 0;

	EXPECT(read_at(tagged, &value), OUTCOME_GP0);
	write_cr4(read_cr4() | CR4_LAM_SUP);
	EXPECT(read_at(tagged, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	/* Bit 56 must still be that of bit 63. */
	EXPECT(read_at(tagged ^ BIT(56), &value), OUTCOME_GP0);
	write_cr4(read_cr4() & ~CR4_LAM_SUP);
}

CASE(lam_supervisor_masks_bits_62_to_57, PROVES("paging:lam.sup57"), NEEDS(CPU(LA57), CPU(LAM)))
{
	struct setting s = { .pml5 = new_pml5() };

	s.at = map_page(s.pml5, UPPER_LINEAR, PTE_P | PTE_RW);
	RUN(&s, read_tagged_in_upper_half);
}

static void read_tagged_in_lower_half(void *argument)
{
	struct setting *s = argument;
	u64 cr3 = read_cr3(), value = 0;

	EXPECT(read_at(s->at.linear | TAG_57, &value), OUTCOME_GP0);
	write_cr3(cr3 | CR3_LAM_U57);
	EXPECT(read_at(s->at.linear | TAG_57, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	EXPECT(read_at(s->at.linear | BIT(56), &value), OUTCOME_GP0);
	write_cr3(cr3);
}

CASE(lam_u57_masks_bits_62_to_57, PROVES("paging:lam.u57"), NEEDS(CPU(LA57), CPU(LAM)))
{
	struct setting s = prepare(0);

	RUN(&s, read_tagged_in_lower_half);
}
