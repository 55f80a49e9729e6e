/*
 * Translations over time and across pages.
 *
 * A processor may cache translations, and entries of the upper levels on their own: 5.10 Caching
 * Translation Information. So software that changes an entry can rely on the change only after it
 * has invalidated what may be cached, by INVLPG or MOV to CR3; until then the old and the new are
 * both right, and the cases below do not ask. Not all changes need it: what is not present or sets
 * a reserved bit is never cached, and a page fault drops what led to it (5.10.4.1 to 5.10.4.3).
 *
 * An access that spans two pages needs both translations. When only the second is missing, CR2
 * holds its first byte, and the instruction can be restarted: nothing of it has happened (for a REP
 * string instruction: nothing of the element at which it stopped).
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "mmu/probe.h"
#include "string.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define OTHER_CONTENT		0x1122334455667788ull

/* --- changes that need no invalidation --------------------------------------- */

CASE(not_present_entry_is_not_cached, PROVES("paging:tlb.np_not_cached"))
{
	struct probe probe;
	u64 value = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(0));
	*probe.entry[LEVEL_PTE] |= PTE_P;
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
}

CASE(not_present_table_is_not_cached, PROVES("paging:tlb.np_not_cached"))
{
	struct probe probe;
	u64 value = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PDPTE, PTE_P, 0);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(0));
	*probe.entry[LEVEL_PDPTE] |= PTE_P;
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
}

CASE(reserved_bit_is_not_cached, PROVES("paging:tlb.np_not_cached"))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PDE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PDE, 0, BIT(13));
	EXPECT_FALSE(write_at(probe.linear, 0) == OUTCOME_DONE);
	*probe.entry[LEVEL_PDE] &= ~BIT(13);
	EXPECT(write_at(probe.linear, 0), OUTCOME_DONE);
}

/* 5.10.4.3: the first write may fault once more than the tables say; that fault ends it. */
CASE(wider_rights_work_after_one_fault,
     PROVES("paging:tlb.more_rights_spurious", "paging:tlb.pf_invalidates"))
{
	struct probe probe;
	u64 value = 0;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	*probe.entry[LEVEL_PTE] |= PTE_RW;
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE, PAGE_FAULT(PF_P | PF_WR));
	EXPECT(write_at(probe.linear, 2), OUTCOME_DONE);
	EXPECT_EQ(*probe.page, 2);
}

CASE(wp_applies_at_once, PROVES("paging:acc.wp_immediate"))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	write_cr0(read_cr0() | CR0_WP);
	EXPECT(write_at(probe.linear, 2), PAGE_FAULT(PF_P | PF_WR));
	write_cr0(read_cr0() & ~CR0_WP);
	EXPECT(write_at(probe.linear, 3), OUTCOME_DONE);
	EXPECT_EQ(*probe.page, 3);
}

static void set_ac(bool ac)
{
	u64 flags = (read_rflags() & ~RFLAGS_AC) | (ac ? RFLAGS_AC : 0);

	asm volatile("push %0; popfq" : : "r" (flags) : "cc", "memory");
}

CASE(ac_applies_at_once, PROVES("paging:acc.smap.ac_toggle"), NEEDS(CPU(SMAP)))
{
	struct probe probe;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(PF_P));
	set_ac(true);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	set_ac(false);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(PF_P));
}

CASE(smep_applies_at_once, PROVES("paging:tlb.cr4.smep"), NEEDS(CPU(SMEP)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US);
	EXPECT(fetch_at(probe.linear), OUTCOME_DONE);
	write_cr4(read_cr4() | CR4_SMEP);
	EXPECT(fetch_at(probe.linear), PAGE_FAULT(PF_P | PF_ID));
}

CASE(two_pages_share_a_frame, PROVES("paging:fmt.leaf_shared"))
{
	struct probe probe;
	u64 value = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	space_map(&probe.space, probe.linear + PAGE_SIZE, physical(probe.page), PTE_P, LEVEL_PTE);
	EXPECT(read_at(probe.linear + PAGE_SIZE, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	EXPECT(write_at(probe.linear, OTHER_CONTENT), OUTCOME_DONE);
	EXPECT(read_at(probe.linear + PAGE_SIZE, &value), OUTCOME_DONE);
	EXPECT_EQ(value, OTHER_CONTENT);
}

/* --- invalidation ------------------------------------------------------------ */

struct change_row {
	enum paging_level level;		/* of the entry that changes */
	u64 cr4;
	bool by_cr3;			/* invalidated by MOV to CR3, else by INVLPG */
	u64 invlpg_offset;		/* INVLPG this many bytes behind the page's first */
};

#define CHANGE(...)	ROW((&(const struct change_row){ __VA_ARGS__ }))

static void new_entry_is_used(const struct case_def *this_case)
{
	const struct change_row *row = this_case->row;
	struct probe probe;
	u64 value = 0;

	write_cr4(read_cr4() | row->cr4);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | (row->cr4 & CR4_PGE ? PTE_G : 0));
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
	probe_retarget(&probe, row->level, OTHER_CONTENT);
	if (row->by_cr3)
		write_cr3(read_cr3());
	else
		invlpg(probe.linear + row->invlpg_offset);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, OTHER_CONTENT);
}

CASE_RUN(invlpg_after_new_pte, new_entry_is_used, PROVES("paging:tlb.invlpg.page"),
	 CHANGE(.level = LEVEL_PTE));
CASE_RUN(invlpg_of_last_byte_after_new_pte, new_entry_is_used, PROVES("paging:tlb.invlpg.page"),
	 CHANGE(.level = LEVEL_PTE, .invlpg_offset = PAGE_SIZE - 1));
CASE_RUN(invlpg_after_new_pde, new_entry_is_used, PROVES("paging:tlb.invlpg.psc"),
	 CHANGE(.level = LEVEL_PDE));
CASE_RUN(invlpg_after_new_pdpte, new_entry_is_used, PROVES("paging:tlb.invlpg.psc"),
	 CHANGE(.level = LEVEL_PDPTE));
CASE_RUN(invlpg_after_new_pml4e, new_entry_is_used, PROVES("paging:tlb.invlpg.psc"),
	 CHANGE(.level = LEVEL_PML4E));
CASE_RUN(invlpg_after_new_global_pte, new_entry_is_used, PROVES("paging:tlb.invlpg.global"),
	 NEEDS(CPU(PGE)), CHANGE(.level = LEVEL_PTE, .cr4 = CR4_PGE));
CASE_RUN(mov_cr3_after_new_pte, new_entry_is_used,
	 PROVES("paging:tlb.cr3.same", "paging:tlb.cr3.nopcid"),
	 CHANGE(.level = LEVEL_PTE, .by_cr3 = true));
CASE_RUN(mov_cr3_after_new_pml4e, new_entry_is_used,
	 PROVES("paging:tlb.cr3.same", "paging:tlb.cr3.nopcid"),
	 CHANGE(.level = LEVEL_PML4E, .by_cr3 = true));

/* Any address in a large page will do. */
CASE(invlpg_anywhere_in_a_2_mbyte_page, PROVES("paging:tlb.invlpg.large"))
{
	u8 *first = pages_alloc(2 * level_size(LEVEL_PDE), level_size(LEVEL_PDE));
	u8 *second = first + level_size(LEVEL_PDE);
	struct probe probe;
	u64 value = 0, *entry;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	entry = space_map(&probe.space, 0x7f0000000000, physical(first), PTE_P | PTE_RW, LEVEL_PDE);
	EXPECT(write_at(0x7f0000001000, 1), OUTCOME_DONE);
	EXPECT(read_at(0x7f0000000000, &value), OUTCOME_DONE);
	*entry = (*entry & ~PTE_ADDRESS) | physical(second);
	invlpg(0x7f00001ff000);
	EXPECT(write_at(0x7f0000001000, 2), OUTCOME_DONE);
	EXPECT(write_at(0x7f0000000000, 3), OUTCOME_DONE);
	EXPECT_EQ(*(u64 *)(first + PAGE_SIZE), 1);
	EXPECT_EQ(*(u64 *)(second + PAGE_SIZE), 2);
	EXPECT_EQ(*(u64 *)second, 3);
}

CASE(invlpg_never_faults, PROVES("paging:tlb.invlpg.notmapped", "paging:canon.invlpg"))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	write_cr2(OTHER_CONTENT);
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (probe.linear + PAGE_SIZE)), OUTCOME_DONE);
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (BIT(47))), OUTCOME_DONE);
	EXPECT(ATTEMPT("invlpg (%0)", : "r" (BIT(63))), OUTCOME_DONE);
	EXPECT_EQ(read_cr2(), OTHER_CONTENT);
}

/* --- accessed and dirty flags over time --------------------------------------- */

CASE(flags_are_sticky, PROVES("paging:ad.sticky"))
{
	struct probe probe;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_A | PTE_D);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT(fetch_at(probe.linear), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* The translation is cached by the read; the write has to set the dirty flag all the same. */
CASE(write_after_read_sets_dirty, PROVES("paging:ad.d_recheck"))
{
	struct probe probe;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A);
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

CASE(cleared_flags_are_set_again, PROVES("paging:ad.clear_flush"))
{
	struct probe probe;
	enum paging_level level;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		probe_change(&probe, level, PTE_A | PTE_D, 0);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		EXPECT_EQ(*probe.entry[level] & (PTE_A | PTE_D), PTE_A);
	EXPECT(write_at(probe.linear, 2), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* Tables are read and flags set by physical address: how the tables are mapped is no matter. */
CASE(flags_are_set_in_read_only_tables, PROVES("paging:ad.entry_ro"))
{
	struct probe probe;
	u64 value;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	write_cr0(read_cr0() | CR0_WP);
	space_map(&probe.space, (u64)probe.entry[LEVEL_PTE] & PAGE_MASK,
		  (u64)probe.entry[LEVEL_PTE] & PAGE_MASK, PTE_P, LEVEL_PTE);
	write_cr3(read_cr3());
	EXPECT(write_at((u64)probe.entry[LEVEL_PTE], 0), PAGE_FAULT(PF_P | PF_WR));
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT(write_at(probe.linear, 1), OUTCOME_DONE);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* --- read-modify-write ------------------------------------------------------- */

CASE(read_modify_write_is_a_write, PROVES("paging:acc.rmw_is_write", "paging:pfec.w"))
{
	struct probe probe;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(ATTEMPT("incq (%0)", : "r" (probe.linear) : "memory", "cc"),
	       PAGE_FAULT(PF_P | PF_WR));
	EXPECT(ATTEMPT("lock incq (%0)", : "r" (probe.linear) : "memory", "cc"),
	       PAGE_FAULT(PF_P | PF_WR));
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	EXPECT(ATTEMPT("incq (%0)", : "r" (probe.linear) : "memory", "cc"), PAGE_FAULT(PF_WR));
	EXPECT_EQ(*probe.page, PROBE_CONTENT);
}

CASE(read_modify_write_sets_dirty, PROVES("paging:ad.rmw"))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("lock incq (%0)", : "r" (probe.linear) : "memory", "cc"), OUTCOME_DONE);
	EXPECT_EQ(*probe.page, PROBE_CONTENT + 1);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* Unequal: CMPXCHG writes back what it has read. */
CASE(failing_cmpxchg_is_a_write, PROVES("paging:acc.cmpxchg_fail"))
{
	struct probe probe;
	u64 rax = 0;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(ATTEMPT("lock cmpxchgq %2, (%1)", "+a" (rax) : "r" (probe.linear), "r" (1ull)
		       : "memory", "cc"), PAGE_FAULT(PF_P | PF_WR));
	EXPECT_EQ(rax, 0);
}

/* --- CR2 --------------------------------------------------------------------- */

CASE(cr2_holds_every_bit_of_the_address, PROVES("paging:cr2.addr"))
{
	static const u32 offsets[] = { 0, 1, 7, 0x123, 0x800, 0xffe, 0xfff };
	struct probe probe;
	u32 i;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		u64 address = probe.linear + offsets[i];

		EXPECT(ATTEMPT("movb $0, (%0)", : "r" (address) : "memory"), PAGE_FAULT(PF_WR));
		EXPECT_EQ(read_cr2(), address);
	}
}

CASE(non_canonical_address_is_no_page_fault,
     PROVES("paging:canon.data_gp", "paging:canon.4l", "paging:cr2.gp_keep"))
{
	u64 value;

	write_cr2(OTHER_CONTENT);
	EXPECT(read_at(BIT(47), &value), OUTCOME_GP0);
	EXPECT(read_at(~BITS(47, 0), &value), OUTCOME_GP0);
	EXPECT(write_at(BIT(63), 0), OUTCOME_GP0);
	EXPECT_EQ(read_cr2(), OTHER_CONTENT);
}

/* PUSH with RSP = address; `rsp` is what RSP is after it. */
static outcome_t push_at(u64 address, u64 *rsp)
{
	u64 ours;

	/* The fault is at CPL 0, so its frame would go to the same stack. */
	this_cpu()->idt[VECTOR_PF].ist = IST_DF;
	trap_expect();
	asm volatile("mov %%rsp, %1\n\tmov %2, %%rsp\n\t" ATTEMPT_ASM("push %2")
		     "mov %%rsp, %0\n\tmov %1, %%rsp"
		     : "=&r" (*rsp), "=&r" (ours) : "r" (address) : "memory");
	return trap_outcome();
}

CASE(push_to_a_missing_page, PROVES("paging:cr2.stack_push", "paging:cross.push"))
{
	struct probe probe;
	u64 rsp;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	EXPECT(push_at(probe.linear + 16, &rsp), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + 8);
	EXPECT_EQ(rsp, probe.linear + 16);
}

/* --- accesses that span two pages -------------------------------------------- */

/* The last 3 bytes of the first page, 5 of the second. */
#define SPAN(probe)	((probe).linear + PAGE_SIZE - 3)

CASE(load_spans_two_frames, PROVES("paging:cross.diff_frames"))
{
	struct probe probe;
	u64 value = 0, *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	*second = OTHER_CONTENT;
	EXPECT(read_at(SPAN(probe), &value), OUTCOME_DONE);
	EXPECT_EQ(value, OTHER_CONTENT << 24 | (PROBE_CONTENT & 0xffffff));
}

CASE(store_spans_two_frames, PROVES("paging:cross.diff_frames"))
{
	struct probe probe;
	u64 *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	EXPECT(write_at(SPAN(probe), OTHER_CONTENT), OUTCOME_DONE);
	EXPECT_EQ(probe.page[511], OTHER_CONTENT << 40 | (PROBE_CONTENT & BITS(39, 0)));
	EXPECT_EQ(second[0], OTHER_CONTENT >> 24 | (PROBE_CONTENT & ~BITS(39, 0)));
}

CASE(load_needs_the_second_page, PROVES("paging:cross.load", "paging:cr2.cross"))
{
	struct probe probe;
	u64 value = OTHER_CONTENT;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(read_at(SPAN(probe), &value), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(value, OTHER_CONTENT);
}

CASE(store_needs_the_second_page, PROVES("paging:cross.store", "paging:cross.ec_second"))
{
	struct probe probe;
	u64 *second;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(write_at(SPAN(probe), 0), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	probe_map_next(&probe, &second, PTE_P);
	EXPECT(write_at(SPAN(probe), 0), PAGE_FAULT(PF_P | PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(probe.page[511], PROBE_CONTENT);
	EXPECT_EQ(*second, PROBE_CONTENT);
}

static u64 *late_entry;	/* for the handler, which has no argument */

static void map_the_page(struct trap_frame *frame __maybe_unused)
{
	*late_entry |= PTE_P;
}

/* The handler maps the page and returns; nobody can tell afterwards that there was a fault. */
CASE(store_is_restarted, PROVES("paging:cross.restart"))
{
	struct probe probe;
	u64 *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	late_entry = probe_map_next(&probe, &second, PTE_RW);
	trap_on(VECTOR_PF, map_the_page);
	EXPECT(write_at(SPAN(probe), OTHER_CONTENT), OUTCOME_DONE);
	EXPECT_EQ(probe.page[511], OTHER_CONTENT << 40 | (PROBE_CONTENT & BITS(39, 0)));
	EXPECT_EQ(second[0], OTHER_CONTENT >> 24 | (PROBE_CONTENT & ~BITS(39, 0)));
}

CASE(rep_stos_stops_at_the_missing_page, PROVES("paging:cross.rep", "paging:ad.rep_partial"))
{
	struct probe probe;
	u64 rdi, rcx = 8, *second, *entry;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	entry = probe_map_next(&probe, &second, PTE_RW);
	rdi = probe.linear + PAGE_SIZE - 3 * 8;
	EXPECT(ATTEMPT("rep stosq", "+D" (rdi), "+c" (rcx) : "a" (OTHER_CONTENT) : "memory"),
	       PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(rdi, probe.linear + PAGE_SIZE);
	EXPECT_EQ(rcx, 5);
	EXPECT_EQ(probe.page[508], PROBE_CONTENT);
	EXPECT_EQ(probe.page[509], OTHER_CONTENT);
	EXPECT_EQ(probe.page[511], OTHER_CONTENT);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & PTE_D, PTE_D);
	EXPECT_EQ(*entry, physical(second) | PTE_RW);
}

/* MOV EAX, imm32: the opcode and two bytes on the first page, two on the second. */
static u64 put_mov_at_end(struct probe *probe)
{
	u8 *end = (u8 *)probe->page + PAGE_SIZE;

	end[-3] = 0xb8;
	return probe->linear + PAGE_SIZE - 3;
}

CASE(fetch_needs_the_second_page, PROVES("paging:cross.fetch", "paging:cr2.fetch"),
     NEEDS(CPU(NX)))
{
	struct probe probe;
	u64 start;

	wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	start = put_mov_at_end(&probe);
	EXPECT(fetch_at(start), PAGE_FAULT(PF_ID));
	EXPECT_EQ(last_trap()->cr2, probe.linear + PAGE_SIZE);
	EXPECT_EQ(last_trap()->frame.rip, start);
}

CASE(fetch_spans_into_an_xd_page, PROVES("paging:cross.fetch_xd"), NEEDS(CPU(NX)))
{
	struct probe probe;
	u64 start, *second;

	wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_map_next(&probe, &second, PTE_P | PTE_RW | PTE_XD);
	start = put_mov_at_end(&probe);
	EXPECT(fetch_at(start), PAGE_FAULT(PF_P | PF_ID));
	EXPECT_EQ(last_trap()->cr2, probe.linear + PAGE_SIZE);
	EXPECT_EQ(last_trap()->frame.rip, start);
}

/* The RET that is the last byte of the page: that the next page is missing cannot be told. */
CASE(instruction_at_the_end_of_a_page, PROVES("paging:cross.fetch_end"))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(fetch_at(probe.linear + PAGE_SIZE - 1), OUTCOME_DONE);
}

/* --- CR3 --------------------------------------------------------------------- */

CASE(address_beyond_maxphyaddr_in_cr3,
     PROVES("paging:cr3.ia32e.reserved", "paging:rsvd.cr3_vs_entry"),
     NEEDS(RESERVED_ADDRESS_BITS))
{
	u64 cr3 = read_cr3();
	u32 bit;

	for (bit = maxphyaddr(); bit < 52; bit++)
		EXPECT(write_cr3_safe(cr3 | BIT(bit)), OUTCOME_GP0);
	EXPECT_EQ(read_cr3(), cr3);
}
