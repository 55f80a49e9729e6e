/*
 * What may be cached of a translation, what drops it, and what does not.
 *
 * After software has changed a paging-structure entry, the processor may go on with the
 * translation it has cached, or use the new one; only some operations end that (5.10.4.1
 * Operations that Invalidate TLBs and Paging-Structure Caches). So each case here makes a
 * translation, changes the entry behind it and then looks twice: before an invalidation both
 * values are right, and nothing else is; after it only the new one is. 5.10.4.3 Optional
 * Invalidation and 5.10.4.4 Delayed Invalidation say what software may leave out. Process-context
 * identifiers are the theme of mmu/pcid.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define OTHER_CONTENT		0x1122334455667788ull
#define OTHER_LINEAR		0x7f0000000000ull

/* A page that was read once, so that its translation may be cached. */
static void map_and_read(struct probe *probe, u64 flags)
{
	u64 value = 0;

	probe_map(probe, LEVEL_PTE, PTE_P | PTE_RW | flags);
	REQUIRE(read_at(probe->linear, &value), OUTCOME_DONE);
	REQUIRE_EQ(value, PROBE_CONTENT);
}

/* Lets the PTE map another page; nothing is invalidated. */
static u64 *change_page(struct probe *probe)
{
	u64 *page = page_alloc_filled(OTHER_CONTENT);
	u64 *pte = probe->entry[LEVEL_PTE];

	*pte = (*pte & ~PTE_ADDRESS) | physical(page);
	return page;
}

/* Old and new are right: 5.10.4.4. */
static void expect_old_or_new(u64 linear)
{
	u64 value = 0;

	EXPECT(read_at(linear, &value), OUTCOME_DONE);
	EXPECT_TRUE(value == PROBE_CONTENT || value == OTHER_CONTENT);
}

static void expect_new(u64 linear)
{
	u64 value = 0;

	EXPECT(read_at(linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, OTHER_CONTENT);
}

/* --- operations that need not invalidate -------------------------------------- */

static void nothing(void)
{
}

static void wbinvd(void)
{
	EXPECT(ATTEMPT("wbinvd", : : "memory"), OUTCOME_DONE);
}

static void serialize(void)
{
	cpuid(0);
	asm volatile("mfence" : : : "memory");
}

static void load_segments(void)
{
	write_gdtr(read_gdtr());
	write_ds(SELECTOR_DATA);
	write_es(SELECTOR_DATA);
}

static void toggle_nxe(void)
{
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) ^ EFER_NXE);
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) ^ EFER_NXE);
}

static void rewrite_pat(void)
{
	u64 pat = rdmsr(IA32_PAT);

	wrmsr(IA32_PAT, 0);
	wrmsr(IA32_PAT, pat);
}

static void invalidate_another_page(void)
{
	invlpg(OTHER_LINEAR);
}

struct stale_row {
	void (*action)(void);
};

static void stale_until_invlpg(const struct case_def *this_case)
{
	const struct stale_row *row = this_case->row;
	struct probe probe;

	map_and_read(&probe, 0);
	change_page(&probe);
	row->action();
	expect_old_or_new(probe.linear);
	invlpg(probe.linear);
	expect_new(probe.linear);
}

#define STALE(function)	ROW((&(const struct stale_row){ function }))

CASE_RUN(nothing_is_done, stale_until_invlpg, PROVES("paging:tlb.stale_allowed",
						     "paging:misc.smc_table"), STALE(nothing));
CASE_RUN(wbinvd_invalidates_no_translation, stale_until_invlpg, PROVES("paging:tlb.wbinvd"),
	 STALE(wbinvd));
CASE_RUN(serializing_invalidates_no_translation, stale_until_invlpg, PROVES("paging:tlb.wbinvd"),
	 STALE(serialize));
CASE_RUN(segment_loads_invalidate_nothing, stale_until_invlpg, PROVES("paging:tlb.lgdt"),
	 STALE(load_segments));
CASE_RUN(nxe_is_not_in_the_list, stale_until_invlpg, PROVES("paging:tlb.efer_nxe"),
	 NEEDS(CPU(NX)), STALE(toggle_nxe));
CASE_RUN(pat_is_not_in_the_list, stale_until_invlpg, PROVES("paging:tlb.wrmsr_pat"),
	 NEEDS(CPU(PAT)), STALE(rewrite_pat));
CASE_RUN(invlpg_of_another_page, stale_until_invlpg, PROVES("paging:tlb.invlpg.other_page"),
	 STALE(invalidate_another_page));

CASE(page_that_is_gone, PROVES("paging:tlb.stale_allowed"))
{
	struct probe probe;
	u64 value;

	map_and_read(&probe, 0);
	*probe.entry[LEVEL_PTE] &= ~PTE_P;
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE, PAGE_FAULT(0));
	invlpg(probe.linear);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(0));
}

/* Fetches and reads may have caches of their own, so they may disagree for a while: 5.10.2. */
CASE(fetch_and_read_may_disagree, PROVES("paging:tlb.fetch_data_split"))
{
	struct probe probe;
	u64 *page;

	map_and_read(&probe, 0);
	EXPECT(fetch_at(probe.linear), OUTCOME_DONE);
	page = change_page(&probe);
	page[1] = 0x0b0f0b0f0b0f0b0f;	/* UD2 where the first page has RET */
	EXPECT(fetch_at(probe.linear + 8), OUTCOME_DONE, OUTCOME_UD);
	expect_old_or_new(probe.linear);
	invlpg(probe.linear);
	EXPECT(fetch_at(probe.linear + 8), OUTCOME_UD);
	expect_new(probe.linear);
}

/* 5.10.2.3: one access, two sizes of page in a row; after INVLPG of any address both are gone. */
CASE(page_of_another_size, PROVES("paging:tlb.page_size_mix"))
{
	u64 size = level_size(LEVEL_PDE), *entry, *table, value = 0, i;
	u64 *large = pages_alloc(size, size);
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	large[512] = PROBE_CONTENT;
	entry = space_map(&probe.space, OTHER_LINEAR, physical(large), PTE_P | PTE_RW, LEVEL_PDE);
	REQUIRE(read_at(OTHER_LINEAR + PAGE_SIZE, &value), OUTCOME_DONE);
	REQUIRE_EQ(value, PROBE_CONTENT);
	table = page_alloc();
	for (i = 0; i < 4; i++)
		table[i] = physical(page_alloc_filled(OTHER_CONTENT)) | PTE_P | PTE_RW;
	*entry = physical(table) | PTE_P | PTE_RW;
	expect_old_or_new(OTHER_LINEAR + PAGE_SIZE);
	invlpg(OTHER_LINEAR);
	invlpg(OTHER_LINEAR + PAGE_SIZE);
	expect_new(OTHER_LINEAR + PAGE_SIZE);
	EXPECT(read_at(OTHER_LINEAR + 4 * PAGE_SIZE, &value), PAGE_FAULT(0));
}

/* --- paging-structure caches: 5.10.3 ------------------------------------------ */

struct upper_row {
	enum paging_level level;
};

#define UPPER(level)	ROW((&(const struct upper_row){ level }))

/*
 * No TLB has the translation of the page: it has not been used. But its neighbour's was, and the
 * upper entries that both share may be cached on their own.
 */
static void upper_entry_may_be_stale(const struct case_def *this_case)
{
	const struct upper_row *row = this_case->row;
	u64 *neighbour;
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_map_next(&probe, &neighbour, PTE_P | PTE_RW);
	expect_old_or_new(probe.linear + PAGE_SIZE);
	probe_retarget(&probe, row->level, OTHER_CONTENT);
	expect_old_or_new(probe.linear);
	invlpg(OTHER_LINEAR);
	invlpg(probe.linear);
	expect_new(probe.linear);
}

CASE_RUN(pde_may_be_stale, upper_entry_may_be_stale, PROVES("paging:tlb.psc.pde"),
	 UPPER(LEVEL_PDE));
CASE_RUN(pdpte_may_be_stale, upper_entry_may_be_stale, PROVES("paging:tlb.psc.upper"),
	 UPPER(LEVEL_PDPTE));
CASE_RUN(pml4e_may_be_stale, upper_entry_may_be_stale, PROVES("paging:tlb.psc.upper"),
	 UPPER(LEVEL_PML4E));

/*
 * The PML4E references its own table, so one entry serves as PML4E, PDPTE, PDE and PTE, and the
 * page is the table itself: 5.10.3.3.
 */
CASE(self_mapped_table, PROVES("paging:fmt.selfmap", "paging:tlb.psc.alias"))
{
	const u64 index = 300, linear = 0xffff000000000000 | index << 39 | index << 30 |
					index << 21 | index << 12;
	struct probe probe;
	u64 value = 0, *other, pml4e;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe.space.pml4[index] = physical(probe.space.pml4) | PTE_P | PTE_RW;
	EXPECT(read_at(linear + index * 8, &value), OUTCOME_DONE);
	pml4e = physical(probe.space.pml4) | PTE_P | PTE_RW | PTE_A;
	EXPECT_EQ(value & ~PTE_D, pml4e);
	/* A write through the map: D only where the entry was a PTE, which it is as well. */
	EXPECT(write_at(linear + 301 * 8, 0x1000), OUTCOME_DONE);
	EXPECT_EQ(probe.space.pml4[301], 0x1000);
	EXPECT_EQ(probe.space.pml4[index], pml4e | PTE_D);
	/* Another table with the same contents but one entry, after INVLPG of any address. */
	other = page_alloc_copy(probe.space.pml4);
	other[index] = physical(other) | PTE_P | PTE_RW;
	other[301] = 0x2000;
	probe.space.pml4[index] = physical(other) | PTE_P | PTE_RW;
	invlpg(linear);
	EXPECT(read_at(linear + 301 * 8, &value), OUTCOME_DONE);
	EXPECT_EQ(value, 0x2000);
}

/*
 * The table of the region is a page of the region, and the first page before it is the one that the
 * string instruction maps with one of its own stores, before it gets there: 5.10.4.3, an entry that
 * was not present was not cached.
 */
CASE(string_instruction_maps_its_own_way, PROVES("paging:tlb.np_not_cached", "paging:fmt.selfmap"))
{
	u64 *table, *source, *page = page_alloc(), rsi, rdi, rcx;
	struct probe probe;
	u32 index;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	index = probe.linear / PAGE_SIZE % 512;
	table = (u64 *)(*probe.entry[LEVEL_PDE] & PTE_ADDRESS);
	*probe.entry[LEVEL_PTE] = physical(table) | PTE_P | PTE_RW;
	invlpg(probe.linear);
	/* From the PTE of the next page to the end of the table, and one quadword more. */
	rcx = 512 - (index + 1) + 1;
	source = pages_alloc(2 * PAGE_SIZE, PAGE_SIZE);
	source[0] = physical(page) | PTE_P | PTE_RW;
	source[rcx - 1] = OTHER_CONTENT;
	rsi = physical(source);
	rdi = probe.linear + (index + 1) * 8;
	EXPECT(ATTEMPT("rep movsq", "+S" (rsi), "+D" (rdi), "+c" (rcx) : : "memory"), OUTCOME_DONE);
	EXPECT_EQ(rcx, 0);
	EXPECT_EQ(page[0], OTHER_CONTENT);
	EXPECT_EQ(table[index + 1], physical(page) | PTE_P | PTE_RW | PTE_A | PTE_D);
}

/* --- operations that invalidate ------------------------------------------------ */

static void toggle_pge(void)
{
	write_cr4(read_cr4() ^ CR4_PGE);
}

static void reload_cr3(void)
{
	write_cr3(read_cr3());
}

struct flush_row {
	u64 cr4, flags;			/* before; of the PTE */
	void (*action)(void);
};

#define FLUSH(...)	ROW((&(const struct flush_row){ __VA_ARGS__ }))

static void new_page_after(const struct case_def *this_case)
{
	const struct flush_row *row = this_case->row;
	struct probe probe;

	write_cr4(read_cr4() | row->cr4);
	map_and_read(&probe, row->flags);
	change_page(&probe);
	row->action();
	expect_new(probe.linear);
}

CASE_RUN(clearing_pge_drops_all, new_page_after, PROVES("paging:tlb.cr4.pge"), NEEDS(CPU(PGE)),
	 FLUSH(.cr4 = CR4_PGE, .flags = PTE_G, .action = toggle_pge));
CASE_RUN(setting_pge_drops_all, new_page_after, PROVES("paging:tlb.cr4.pge"), NEEDS(CPU(PGE)),
	 FLUSH(.flags = PTE_G, .action = toggle_pge));
CASE_RUN(global_flag_is_ignored_without_pge, new_page_after, PROVES("paging:tlb.cr3.pge0"),
	 FLUSH(.flags = PTE_G, .action = reload_cr3));

static void set_smep(void)
{
	write_cr4(read_cr4() | CR4_SMEP);
}

/* From 0 to 1; the other way drops nothing by rule. */
CASE_RUN(setting_smep_drops_all, new_page_after, PROVES("paging:tlb.cr4.smep"), NEEDS(CPU(SMEP)),
	 FLUSH(.action = set_smep));

CASE(mov_cr3_may_keep_global_translations, PROVES("paging:tlb.cr3.global_kept"), NEEDS(CPU(PGE)))
{
	struct probe probe;

	write_cr4(read_cr4() | CR4_PGE);
	map_and_read(&probe, PTE_G);
	change_page(&probe);
	reload_cr3();
	expect_old_or_new(probe.linear);
	invlpg(probe.linear);
	expect_new(probe.linear);
}

CASE(smap_applies_at_once, PROVES("paging:tlb.cr4.smap"), NEEDS(CPU(SMAP)))
{
	struct probe probe;
	u64 value;

	map_and_read(&probe, PTE_US);
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(read_at(probe.linear, &value), PAGE_FAULT(PF_P));
	write_cr4(read_cr4() & ~CR4_SMAP);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
}

/* A translation is cached only after the accessed flags are set, and one with A = 0 is not used. */
CASE(entry_that_was_never_accessed, PROVES("paging:tlb.a0_not_cached"))
{
	struct probe probe;
	enum paging_level level;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		EXPECT_EQ(*probe.entry[level] & PTE_A, 0);
	change_page(&probe);
	expect_new(probe.linear);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		EXPECT_EQ(*probe.entry[level] & PTE_A, PTE_A);
}

/* --- speculation ------------------------------------------------------------------ */

/*
 * RDI: where to write. The branch is trained not to be taken, and the value that decides it comes
 * late (a division by way of memory), so that a processor that speculates walks ahead of it to the
 * store.
 */
asm(".pushsection .text\n"
    "write_unless:\n\t"
    "movq (%rsi), %rax\n\txorl %edx, %edx\n\tmovl $3, %ecx\n\tdivq %rcx\n\t"
    "xorl %edx, %edx\n\tdivq %rcx\n\ttestq %rax, %rax\n\tjnz 1f\n\t"
    "movq %rax, (%rdi)\n"
    "1:\tretq\n\t.popsection");
void write_unless(u64 linear, const volatile u64 *condition);

/* The dirty flag belongs to writes that are done; the accessed flag may come early: 5.8. */
CASE(write_that_is_never_done_leaves_no_dirty_flag, PROVES("paging:ad.spec"))
{
	volatile u64 never = 1000, always = 0;
	struct probe probe;
	u64 *second, *pte;
	u32 round, i;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	pte = probe_map_next(&probe, &second, PTE_P | PTE_RW);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 20; i++)
			write_unless(probe.linear, &always);
		invlpg(probe.linear + PAGE_SIZE);
		write_unless(probe.linear + PAGE_SIZE, &never);
		EXPECT_EQ(*pte & PTE_D, 0);
	}
	EXPECT_EQ(*second, PROBE_CONTENT);
	write_unless(probe.linear + PAGE_SIZE, &always);
	EXPECT_EQ(*pte & PTE_D, PTE_D);
}

/* --- INVLPG -------------------------------------------------------------------- */

INSTRUCTION(invlpg_here, "", "invlpg (%rdi)");

CASE(invlpg_needs_cpl_0, PROVES("paging:tlb.invlpg.cpl"))
{
	u32 cpl;

	for (cpl = 1; cpl <= 3; cpl++)
		EXPECT(run_at_cpl(cpl, invlpg_here, NULL), OUTCOME_GP0);
	EXPECT(attempt(invlpg_here, NULL), OUTCOME_DONE);
}

/* 0F 01 /7 with a register: SWAPGS and RDTSCP are two of the eight, of these nothing is defined. */
CASE(invlpg_of_a_register, PROVES("paging:tlb.invlpg.reg"), NEEDS(INTEL))
{
	EXPECT(ATTEMPT(".byte 0x0f, 0x01, 0xff", : : "memory"), OUTCOME_UD);
	EXPECT(ATTEMPT(".byte 0x0f, 0x01, 0xfe", : : "memory"), OUTCOME_UD);
}

CASE(invlpg_adds_the_segment_base, PROVES("paging:tlb.invlpg.seg"))
{
	const u64 distance = 0x123000;
	struct probe probe;

	map_and_read(&probe, 0);
	change_page(&probe);
	wrmsr(IA32_FS_BASE, distance);
	EXPECT(ATTEMPT("invlpg %%fs:(%0)", : "r" (probe.linear - distance) : "memory"),
	       OUTCOME_DONE);
	expect_new(probe.linear);
	map_and_read(&probe, 0);
	change_page(&probe);
	wrmsr(IA32_GS_BASE, distance);
	EXPECT(ATTEMPT("invlpg %%gs:(%0)", : "r" (probe.linear - distance) : "memory"),
	       OUTCOME_DONE);
	expect_new(probe.linear);
}

CASE(invlpg_walks_nothing, PROVES("paging:ad.invlpg"))
{
	struct probe probe;
	enum paging_level level;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	invlpg(probe.linear);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		EXPECT_EQ(*probe.entry[level] & PTE_A, 0);
}

/* --- serializing ------------------------------------------------------------------------------ */

static void move_cr0(void)
{
	write_cr0(read_cr0());
}

static void move_cr4(void)
{
	write_cr4(read_cr4());
}

static void invpcid_all(void)
{
	EXPECT(invpcid_safe(INVPCID_ALL_AND_GLOBAL, 0, 0), OUTCOME_DONE);
}

struct serialize_row {
	void (*action)(void);
};

/*
 * Code is written at another linear address than it is executed at, so that only a serializing
 * instruction makes the processor forget what it has fetched before: 11.1.3, 11.3.
 */
static void new_code_after(const struct case_def *this_case)
{
	const struct serialize_row *row = this_case->row;
	struct probe probe;
	u32 i, got;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	for (i = 1; i <= 50; i++) {
		/* MOV $i, %EAX; RET */
		probe.page[0] = 0xb8 | (u64)i << 8 | 0xc3ull << 40;
		row->action();
		asm volatile("call *%1" : "=a" (got) : "r" (probe.linear) : "memory");
		EXPECT_EQ(got, i);
	}
}

#define SERIALIZES(function)	ROW((&(const struct serialize_row){ function }))

CASE_RUN(mov_to_cr0_serializes, new_code_after, PROVES("paging:misc.serialize"),
	 SERIALIZES(move_cr0));
CASE_RUN(mov_to_cr3_serializes, new_code_after, PROVES("paging:misc.serialize"),
	 SERIALIZES(reload_cr3));
CASE_RUN(mov_to_cr4_serializes, new_code_after, PROVES("paging:misc.serialize"),
	 SERIALIZES(move_cr4));
CASE_RUN(invlpg_serializes, new_code_after, PROVES("paging:misc.serialize"),
	 SERIALIZES(invalidate_another_page));
CASE_RUN(invpcid_serializes, new_code_after, PROVES("paging:misc.serialize"), NEEDS(CPU(INVPCID)),
	 SERIALIZES(invpcid_all));
