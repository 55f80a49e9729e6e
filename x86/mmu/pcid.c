/*
 * Process-context identifiers: 5.10.1, and what 5.10.4.1 and volume 2 (INVPCID) say of them.
 *
 * With CR4.PCIDE = 1, CR3[11:0] names the identifier under which translations are cached, and only
 * those made under it (or global ones) are used. MOV to CR3 drops those of the new identifier,
 * unless bit 63 of its operand says that it need not; INVPCID drops by address, by identifier, or
 * all. What need not be dropped may be all the same: old and new are both right then. A case has
 * two address spaces that differ in one page: under identifier 1 it is full of PROBE_CONTENT,
 * under 2 it is not.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define NO_FLUSH	BIT(63)		/* operand of MOV to CR3 */
#define NOT_CANONICAL	BIT(63)
#define SECOND_CONTENT	0x2222222222222222ull
#define NEW_CONTENT	0x3333333333333333ull

struct spaces {
	struct probe probe;		/* identifier 1 */
	struct address_space second;
	u64 cr3[3];			/* by identifier; 0: the first tables as well */
	u64 *pte[3];
};

/* Leaves identifier 1 in use, and nothing cached for any. */
static void two_spaces(struct spaces *s, u64 flags)
{
	u64 *page = page_alloc_filled(SECOND_CONTENT);

	write_cr4(read_cr4() | (flags & PTE_G ? CR4_PGE : 0));
	probe_map(&s->probe, LEVEL_PTE, PTE_P | PTE_RW | flags);
	space_copy(&s->second);
	/* space_copy() shares the tables below: this page needs its own. */
	s->second.pml4[s->probe.linear >> 39 & 511] = 0;
	s->pte[0] = s->pte[1] = s->probe.entry[LEVEL_PTE];
	s->pte[2] = space_map(&s->second, s->probe.linear, physical(page), PTE_P | PTE_RW | flags,
			      LEVEL_PTE);
	s->cr3[0] = physical(s->probe.space.pml4);
	s->cr3[1] = s->cr3[0] | 1;
	s->cr3[2] = physical(s->second.pml4) | 2;
	write_cr4(read_cr4() | CR4_PCIDE);
	write_cr3(s->cr3[1]);
}

static u64 read_page(const struct spaces *s)
{
	u64 value = 0;

	EXPECT(read_at(s->probe.linear, &value), OUTCOME_DONE);
	return value;
}

/* Under identifier `id` a new page from now on; nothing is invalidated. */
static void change_page(struct spaces *s, u32 id)
{
	*s->pte[id] = (*s->pte[id] & ~PTE_ADDRESS) | physical(page_alloc_filled(NEW_CONTENT));
}

static void expect_new(const struct spaces *s)
{
	EXPECT_EQ(read_page(s), NEW_CONTENT);
}

static void expect_old_or_new(const struct spaces *s, u64 old)
{
	u64 value = read_page(s);

	if (value != old)
		EXPECT_EQ(value, NEW_CONTENT);
}

/* --- CR4.PCIDE ------------------------------------------------------------------ */

CASE(pcide_needs_cr3_low_bits_0, PROVES("paging:mode.pcide_cr3_low"), NEEDS(CPU(PCID)))
{
	u64 cr3 = read_cr3(), cr4 = read_cr4();
	u32 bit;

	for (bit = 0; bit < 12; bit++) {
		write_cr3(cr3 | BIT(bit));
		EXPECT(write_cr4_safe(cr4 | CR4_PCIDE), OUTCOME_GP0);
		EXPECT_EQ(read_cr4(), cr4);
	}
	write_cr3(cr3);
	EXPECT(write_cr4_safe(cr4 | CR4_PCIDE), OUTCOME_DONE);
	EXPECT_EQ(read_cr4(), cr4 | CR4_PCIDE);
}

CASE(pcide_may_be_written_again, PROVES("paging:mode.pcide_noop"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	write_cr3(s.cr3[0] | 0xfff);
	EXPECT(write_cr4_safe(read_cr4()), OUTCOME_DONE);
	EXPECT(write_cr4_safe(read_cr4() ^ CR4_TSD), OUTCOME_DONE);
	EXPECT_EQ(read_cr3(), s.cr3[0] | 0xfff);
}

CASE(clearing_pcide, PROVES("paging:mode.pcide_clear", "paging:tlb.cr4.pcide_clear"),
     NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, PTE_G);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 1);
	EXPECT(write_cr4_safe(read_cr4() & ~CR4_PCIDE), OUTCOME_DONE);
	expect_new(&s);
}

CASE(setting_pcide_drops_nothing_by_rule,
     PROVES("paging:tlb.cr4.pcide_set", "paging:tlb.pcid.value0"),
     NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	write_cr4(read_cr4() & ~CR4_PCIDE);
	write_cr3(s.cr3[0]);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 0);
	write_cr4(read_cr4() | CR4_PCIDE);
	expect_old_or_new(&s, PROBE_CONTENT);
	/* Without PCIDE all was identifier 0, and so it is now. */
	write_cr3(s.cr3[0]);
	expect_new(&s);
}

/* --- MOV to CR3 ----------------------------------------------------------------- */

CASE(bit_63_is_accepted_and_not_stored, PROVES("paging:cr3.bit63.pcide"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	EXPECT(write_cr3_safe(s.cr3[2] | NO_FLUSH), OUTCOME_DONE);
	EXPECT_EQ(read_cr3(), s.cr3[2]);
}

CASE(identifiers_are_kept_apart, PROVES("paging:tlb.pcid.isolation"), NEEDS(CPU(PCID)))
{
	struct spaces s;
	u32 i;

	two_spaces(&s, 0);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(read_page(&s), PROBE_CONTENT);
		write_cr3(s.cr3[2] | NO_FLUSH);
		EXPECT_EQ(read_page(&s), SECOND_CONTENT);
		write_cr3(s.cr3[1] | NO_FLUSH);
	}
}

/* All of an identifier counts, not only its low bits. */
CASE(identifiers_have_12_bits, PROVES("paging:tlb.pcid.isolation"), NEEDS(CPU(PCID)))
{
	struct spaces s;
	u32 bit;

	two_spaces(&s, 0);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	for (bit = 1; bit < 12; bit++) {
		write_cr3((s.cr3[2] & PAGE_MASK) | BIT(bit) | 1);
		EXPECT_EQ(read_page(&s), SECOND_CONTENT);
		write_cr3(s.cr3[1] | NO_FLUSH);
		EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	}
}

CASE(mov_cr3_drops_the_new_identifier, PROVES("paging:tlb.cr3.pcid_flush"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 1);
	write_cr3(s.cr3[2]);
	EXPECT_EQ(read_page(&s), SECOND_CONTENT);
	write_cr3(s.cr3[1]);
	expect_new(&s);
}

CASE(bit_63_need_not_drop, PROVES("paging:tlb.cr3.pcid_noflush"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 1);
	write_cr3(s.cr3[1] | NO_FLUSH);
	expect_old_or_new(&s, PROBE_CONTENT);
	write_cr3(s.cr3[1]);
	expect_new(&s);
}

CASE(mov_cr3_need_not_drop_others, PROVES("paging:tlb.cr3.pcid_others"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 1);
	write_cr3(s.cr3[2]);
	write_cr3(s.cr3[1] | NO_FLUSH);
	expect_old_or_new(&s, PROBE_CONTENT);
	invlpg(s.probe.linear);
	expect_new(&s);
}

/* The other identifier's as well, and whichever way the flag changes. */
CASE(change_of_pge_drops_all_identifiers, PROVES("paging:tlb.cr4.pge"), NEEDS(CPU(PCID), CPU(PGE)))
{
	struct spaces s;
	u32 i;

	for (i = 0; i < 2; i++) {
		two_spaces(&s, i ? PTE_G : 0);
		EXPECT_EQ(read_page(&s), PROBE_CONTENT);
		write_cr3(s.cr3[2] | NO_FLUSH);
		change_page(&s, 1);
		write_cr4(read_cr4() ^ CR4_PGE);
		write_cr3(s.cr3[1] | NO_FLUSH);
		expect_new(&s);
		write_cr4(read_cr4() & ~CR4_PCIDE);
		write_cr3(s.cr3[0]);
	}
}

CASE(invlpg_need_not_drop_others, PROVES("paging:tlb.invlpg.other_pcid"), NEEDS(CPU(PCID)))
{
	struct spaces s;

	two_spaces(&s, 0);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	change_page(&s, 1);
	write_cr3(s.cr3[2] | NO_FLUSH);
	invlpg(s.probe.linear);
	write_cr3(s.cr3[1] | NO_FLUSH);
	expect_old_or_new(&s, PROBE_CONTENT);
	invlpg(s.probe.linear);
	expect_new(&s);
}

/* The first space's translation may serve the second as long as it is cached. */
CASE(global_translation_serves_all,
     PROVES("paging:tlb.pcid.global_shared", "paging:tlb.invlpg.global"),
     NEEDS(CPU(PCID), CPU(PGE)))
{
	struct spaces s;
	u64 value;

	two_spaces(&s, PTE_G);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	write_cr3(s.cr3[2]);
	value = read_page(&s);
	EXPECT_TRUE(value == PROBE_CONTENT || value == SECOND_CONTENT);
	invlpg(s.probe.linear);
	EXPECT_EQ(read_page(&s), SECOND_CONTENT);
}

/* --- INVPCID -------------------------------------------------------------------- */

struct drop_row {
	enum invpcid_type type;
	u64 flags;			/* of the PTEs */
	u64 pcid;			/* in the descriptor */
	bool address;			/* in the descriptor, the page's */
	bool may_stay;			/* what this type need not drop */
	bool in_use;			/* identifier 1, not 2, when INVPCID comes */
};

#define DROP(...)	ROW((&(const struct drop_row){ __VA_ARGS__ }))

/*
 * Identifier 1's page changes while 2 is in use, so nothing but INVPCID can drop it. Or while 1 is:
 * then nothing else comes between, not even a MOV to CR3 that need not drop anything, and might.
 */
static void invpcid_drops(const struct case_def *this_case)
{
	const struct drop_row *row = this_case->row;
	struct spaces s;

	two_spaces(&s, row->flags);
	EXPECT_EQ(read_page(&s), PROBE_CONTENT);
	if (!row->in_use)
		write_cr3(s.cr3[2] | NO_FLUSH);
	change_page(&s, 1);
	EXPECT(invpcid_safe(row->type, row->pcid, row->address ? s.probe.linear : 0), OUTCOME_DONE);
	if (!row->in_use)
		write_cr3(s.cr3[1] | NO_FLUSH);
	if (row->may_stay)
		expect_old_or_new(&s, PROBE_CONTENT);
	else
		expect_new(&s);
	invlpg(s.probe.linear);
	expect_new(&s);
}

#define INVPCID_NEEDS	NEEDS(CPU(INVPCID), CPU(PCID), CPU(PGE))

CASE_RUN(invpcid_address, invpcid_drops, PROVES("paging:invpcid.0"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ADDRESS, .pcid = 1, .address = true));
CASE_RUN(invpcid_address_global, invpcid_drops, PROVES("paging:invpcid.0_global"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ADDRESS, .pcid = 1, .address = true, .flags = PTE_G,
	      .may_stay = true));
CASE_RUN(invpcid_address_of_another_identifier, invpcid_drops, PROVES("paging:invpcid.0"),
	 INVPCID_NEEDS,
	 DROP(.type = INVPCID_ADDRESS, .pcid = 2, .address = true, .may_stay = true));
CASE_RUN(invpcid_context, invpcid_drops, PROVES("paging:invpcid.1"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_CONTEXT, .pcid = 1));
CASE_RUN(invpcid_other_context, invpcid_drops, PROVES("paging:invpcid.1"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_CONTEXT, .pcid = 2, .may_stay = true));
CASE_RUN(invpcid_all, invpcid_drops, PROVES("paging:invpcid.2"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_AND_GLOBAL));
CASE_RUN(invpcid_all_global, invpcid_drops, PROVES("paging:invpcid.2"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_AND_GLOBAL, .flags = PTE_G));
CASE_RUN(invpcid_all_but_global, invpcid_drops, PROVES("paging:invpcid.3"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_CONTEXTS));
CASE_RUN(invpcid_all_but_global_ones, invpcid_drops, PROVES("paging:invpcid.3"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_CONTEXTS, .flags = PTE_G, .may_stay = true));

CASE_RUN(invpcid_address_in_use, invpcid_drops, PROVES("paging:invpcid.0"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ADDRESS, .pcid = 1, .address = true, .in_use = true));
CASE_RUN(invpcid_context_in_use, invpcid_drops, PROVES("paging:invpcid.1"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_CONTEXT, .pcid = 1, .in_use = true));
CASE_RUN(invpcid_all_in_use, invpcid_drops, PROVES("paging:invpcid.2"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_AND_GLOBAL, .in_use = true));
CASE_RUN(invpcid_all_global_in_use, invpcid_drops, PROVES("paging:invpcid.2"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_AND_GLOBAL, .flags = PTE_G, .in_use = true));
CASE_RUN(invpcid_all_but_global_in_use, invpcid_drops, PROVES("paging:invpcid.3"), INVPCID_NEEDS,
	 DROP(.type = INVPCID_ALL_CONTEXTS, .in_use = true));

CASE(invpcid_types, PROVES("paging:invpcid.type"), NEEDS(CPU(INVPCID)))
{
	static const u64 types[] = { 4, 5, 7, 0x80000000, BIT(32), BIT(32) | 2, BIT(63), ~0ull };
	u64 type;
	u32 i;

	for (type = 0; type <= 3; type++)
		EXPECT(invpcid_safe(type, 0, 0), OUTCOME_DONE);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		EXPECT(invpcid_safe(types[i], 0, 0), OUTCOME_GP0);
}

CASE(invpcid_reserved_bits, PROVES("paging:invpcid.rsvd"), NEEDS(CPU(INVPCID), CPU(PCID)))
{
	u64 type;
	u32 bit;

	write_cr4(read_cr4() | CR4_PCIDE);
	for (type = 0; type <= 3; type++) {
		for (bit = 12; bit < 64; bit++)
			EXPECT(invpcid_safe(type, BIT(bit), 0), OUTCOME_GP0);
		EXPECT(invpcid_safe(type, 0xfff, 0), OUTCOME_DONE);
	}
}

CASE(invpcid_without_pcide, PROVES("paging:invpcid.pcide0", "paging:invpcid.pcide0_23"),
     NEEDS(CPU(INVPCID)))
{
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 0, 0), OUTCOME_DONE);
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 1, 0), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 0xfff, 0), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_CONTEXT, 0, 0), OUTCOME_DONE);
	EXPECT(invpcid_safe(INVPCID_CONTEXT, 1, 0), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_CONTEXT, 0x800, 0), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_ALL_AND_GLOBAL, 1, 0), OUTCOME_DONE);
	EXPECT(invpcid_safe(INVPCID_ALL_CONTEXTS, 0xfff, 0), OUTCOME_DONE);
}

CASE(invpcid_address_must_be_canonical,
     PROVES("paging:invpcid.canon", "paging:invpcid.canon_others", "paging:canon.invpcid"),
     NEEDS(CPU(INVPCID)))
{
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 0, NOT_CANONICAL), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 0, BIT(57)), OUTCOME_GP0);
	EXPECT(invpcid_safe(INVPCID_CONTEXT, 0, NOT_CANONICAL), OUTCOME_DONE);
	EXPECT(invpcid_safe(INVPCID_ALL_AND_GLOBAL, 0, NOT_CANONICAL), OUTCOME_DONE);
	EXPECT(invpcid_safe(INVPCID_ALL_CONTEXTS, 0, NOT_CANONICAL), OUTCOME_DONE);
}

INSTRUCTION(invpcid_here, "mov $2, %eax", "invpcid (%rdi), %rax");

CASE(invpcid_needs_cpl_0, PROVES("paging:invpcid.cpl"), NEEDS(CPU(INVPCID)))
{
	struct invpcid_descriptor descriptor = { 0 };
	u32 cpl;

	for (cpl = 1; cpl <= 3; cpl++)
		EXPECT(run_at_cpl(cpl, invpcid_here, &descriptor), OUTCOME_GP0);
	EXPECT(attempt(invpcid_here, &descriptor), OUTCOME_DONE);
}

CASE(invpcid_operand_may_fault, PROVES("paging:invpcid.mem_fault"), NEEDS(CPU(INVPCID)))
{
	struct probe probe;
	u64 type = INVPCID_ALL_AND_GLOBAL;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe.page[510] = probe.page[511] = 0;
	EXPECT(ATTEMPT("invpcid (%0), %1", : "r" (probe.linear + PAGE_SIZE - 16), "r" (type)),
	       OUTCOME_DONE);
	EXPECT(ATTEMPT("invpcid (%0), %1", : "r" (probe.linear + PAGE_SIZE - 8), "r" (type)),
	       PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT(ATTEMPT("invpcid (%0), %1", : "r" (NOT_CANONICAL), "r" (type)), OUTCOME_GP0);
}

CASE(invpcid_of_a_register_or_with_lock, PROVES("paging:invpcid.absent"))
{
	EXPECT(ATTEMPT(".byte 0x66, 0x0f, 0x38, 0x82, 0xc1", : : "memory"), OUTCOME_UD);
	EXPECT(ATTEMPT(".byte 0xf0, 0x66, 0x0f, 0x38, 0x82, 0x01", : "c" (0) : "memory"),
	       OUTCOME_UD);
}

CASE(invpcid_is_not_there, PROVES("paging:invpcid.absent"), NEEDS(NO_CPU(INVPCID)))
{
	EXPECT(invpcid_safe(INVPCID_ALL_AND_GLOBAL, 0, 0), OUTCOME_UD);
}

CODE32(invpcid_32, "invpcid (%eax), %edx");
#define INVPCID_32(type, descriptor) \
	LEGACY_STEP("INVPCID of", invpcid_32, physical(descriptor), type)

/* 32 bits of the register, and no canonical addresses. */
CASE(invpcid_in_compatibility_mode, PROVES("paging:invpcid.32bit"), NEEDS(CPU(INVPCID)))
{
	struct invpcid_descriptor *descriptor = page_alloc();
	struct legacy_step script[] = {
		{ INVPCID_32(INVPCID_ADDRESS, descriptor) },
		{ INVPCID_32(INVPCID_CONTEXT, descriptor) },
		{ INVPCID_32(INVPCID_ALL_AND_GLOBAL, descriptor) },
		{ INVPCID_32(INVPCID_ALL_CONTEXTS, descriptor) },
		{ INVPCID_32(4, descriptor), .ends = OUTCOME_GP0 },
	};

	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_4_LEVEL }, script);
	LEGACY_RUN(&(struct legacy_start){ .mode = PAGING_OFF }, script);
}
