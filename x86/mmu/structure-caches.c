/*
 * Paging-structure caches: 5.10.3, and what 5.10.4.1 (Operations that Invalidate TLBs and
 * Paging-Structure Caches) has for them.
 *
 * A processor may keep what the upper entries of a translation reference, and begin a walk there:
 * so new tables behind a PDE, a PDPTE or a PML4E may go unnoticed where a new PTE would be seen. A
 * hypervisor that shadows page tables has the same to forget at the same places. Each case reads a
 * page and its neighbour, lets one upper entry reference other tables, at whose end another page
 * lies, carries out one operation, and reads. Where the operation must invalidate, the new page is
 * there; where it need not, old and new are both right, and INVLPG must end that.
 *
 * Half of the rows work with process-context identifiers: the page was read under identifier 1, the
 * operation comes under 1 or under 2, and the way back to 1 invalidates nothing (bit 63 of MOV to
 * CR3). What a changed PTE needs: mmu/tlb, mmu/pcid.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define NO_FLUSH	BIT(63)		/* operand of MOV to CR3 */
#define OTHER_CONTENT	0x1122334455667788ull

struct scene {
	struct probe probe;
	u64 cr3[3];			/* by identifier, all with the same tables */
};

struct flush_row {
	void (*action)(const struct scene *scene);
	enum paging_level level;	/* of the entry that changes */
	u64 cr4;			/* set before; with CR4.PCIDE the page is of identifier 1 */
	u64 neighbour;			/* flags of the neighbour's PTE */
	u64 read_only;			/* bit to take from the page's PTE */
	bool away;			/* the operation comes under identifier 2 */
	bool may_stay;			/* nothing has to be invalidated */
};

/* --- the operations --------------------------------------------------------------------- */

static void nothing(const struct scene *scene __maybe_unused)
{
}

static void invlpg_page(const struct scene *scene)
{
	invlpg(scene->probe.linear);
}

static void reload_cr3(const struct scene *scene __maybe_unused)
{
	write_cr3(read_cr3());
}

static void back_with_flush(const struct scene *scene)
{
	write_cr3(scene->cr3[1]);
}

static void back_without_flush(const struct scene *scene)
{
	write_cr3(scene->cr3[1] | NO_FLUSH);
}

static void toggle_pge(const struct scene *scene __maybe_unused)
{
	write_cr4(read_cr4() ^ CR4_PGE);
}

static void clear_pcide(const struct scene *scene __maybe_unused)
{
	write_cr4(read_cr4() & ~CR4_PCIDE);
}

static void set_pcide(const struct scene *scene __maybe_unused)
{
	write_cr4(read_cr4() | CR4_PCIDE);
}

static void set_smep(const struct scene *scene __maybe_unused)
{
	write_cr4(read_cr4() | CR4_SMEP);
}

/* Its own page, and read-only: the fault drops what the processor has for the address. */
static void page_fault(const struct scene *scene)
{
	write_cr0(read_cr0() | CR0_WP);
	EXPECT(write_at(scene->probe.linear, 0), OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR));
}

/* The identifier that the page was read under. */
static u64 identifier(void)
{
	return read_cr4() & CR4_PCIDE ? 1 : 0;
}

static void invpcid_address(const struct scene *scene)
{
	EXPECT(invpcid_safe(INVPCID_ADDRESS, identifier(), scene->probe.linear), OUTCOME_DONE);
}

static void invpcid_address_of_2(const struct scene *scene)
{
	EXPECT(invpcid_safe(INVPCID_ADDRESS, 2, scene->probe.linear), OUTCOME_DONE);
}

static void invpcid_context(const struct scene *scene __maybe_unused)
{
	EXPECT(invpcid_safe(INVPCID_CONTEXT, identifier(), 0), OUTCOME_DONE);
}

static void invpcid_context_2(const struct scene *scene __maybe_unused)
{
	EXPECT(invpcid_safe(INVPCID_CONTEXT, 2, 0), OUTCOME_DONE);
}

static void invpcid_all(const struct scene *scene __maybe_unused)
{
	EXPECT(invpcid_safe(INVPCID_ALL_AND_GLOBAL, 0, 0), OUTCOME_DONE);
}

static void invpcid_all_but_global(const struct scene *scene __maybe_unused)
{
	EXPECT(invpcid_safe(INVPCID_ALL_CONTEXTS, 0, 0), OUTCOME_DONE);
}

/* --- a case ------------------------------------------------------------------------------- */

static void map_and_read(struct scene *scene, const struct flush_row *row)
{
	struct probe *probe = &scene->probe;
	u64 *neighbour, value = 0;

	write_cr4(read_cr4() | (row->cr4 & ~CR4_PCIDE));
	probe_map(probe, LEVEL_PTE, (PTE_P | PTE_RW) & ~row->read_only);
	probe_map_next(probe, &neighbour, PTE_P | PTE_RW | row->neighbour);
	for (u32 id = 0; id < ARRAY_SIZE(scene->cr3); id++)
		scene->cr3[id] = physical(probe->space.pml4) | id;
	if (row->cr4 & CR4_PCIDE) {
		write_cr4(read_cr4() | CR4_PCIDE);
		write_cr3(scene->cr3[1]);
	}
	REQUIRE(read_at(probe->linear + PAGE_SIZE, &value), OUTCOME_DONE);
	REQUIRE(read_at(probe->linear, &value), OUTCOME_DONE);
	REQUIRE_EQ(value, PROBE_CONTENT);
}

static void new_tables_after(const struct case_def *this_case)
{
	const struct flush_row *row = this_case->row;
	struct scene scene;
	u64 value = 0;

	map_and_read(&scene, row);
	if (row->away)
		write_cr3(scene.cr3[2] | NO_FLUSH);
	probe_retarget(&scene.probe, row->level, OTHER_CONTENT);
	row->action(&scene);
	if (row->away && read_cr4() & CR4_PCIDE)
		write_cr3(scene.cr3[1] | NO_FLUSH);
	EXPECT(read_at(scene.probe.linear, &value), OUTCOME_DONE);
	if (row->may_stay && value == PROBE_CONTENT) {
		invlpg(scene.probe.linear);
		EXPECT(read_at(scene.probe.linear, &value), OUTCOME_DONE);
	}
	EXPECT_EQ(value, OTHER_CONTENT);
}

#define FLUSH(...)	ROW((&(const struct flush_row){ __VA_ARGS__ }))

/* One operation, and the three entries that may be cached on their own. */
#define EACH_ENTRY(name, proves, needs, ...)					\
	CASE_RUN(name##_pde, new_tables_after, proves, needs,			\
		 FLUSH(.level = LEVEL_PDE, __VA_ARGS__));			\
	CASE_RUN(name##_pdpte, new_tables_after, proves, needs,			\
		 FLUSH(.level = LEVEL_PDPTE, __VA_ARGS__));			\
	CASE_RUN(name##_pml4e, new_tables_after, proves, needs,			\
		 FLUSH(.level = LEVEL_PML4E, __VA_ARGS__))

#define NO_NEEDS	.needs = NULL
#define WITH_PCID	NEEDS(CPU(PCID), CPU(PGE))
#define WITH_INVPCID	NEEDS(CPU(INVPCID), CPU(PCID))

/* --- without identifiers -------------------------------------------------------------------- */

EACH_ENTRY(nothing_is_done, PROVES("paging:tlb.psc.pde", "paging:tlb.psc.upper"), NO_NEEDS,
	   .action = nothing, .may_stay = true);
EACH_ENTRY(invlpg, PROVES("paging:tlb.invlpg.psc"), NO_NEEDS, .action = invlpg_page);
EACH_ENTRY(mov_cr3, PROVES("paging:tlb.cr3.nopcid", "paging:tlb.cr3.same"), NO_NEEDS,
	   .action = reload_cr3);
/* No entry of these caches is global. */
EACH_ENTRY(mov_cr3_beside_a_global_page, PROVES("paging:tlb.cr3.nopcid"), NEEDS(CPU(PGE)),
	   .action = reload_cr3, .cr4 = CR4_PGE, .neighbour = PTE_G);
EACH_ENTRY(setting_pge, PROVES("paging:tlb.cr4.pge"), NEEDS(CPU(PGE)), .action = toggle_pge);
EACH_ENTRY(clearing_pge, PROVES("paging:tlb.cr4.pge"), NEEDS(CPU(PGE)),
	   .action = toggle_pge, .cr4 = CR4_PGE, .neighbour = PTE_G);
EACH_ENTRY(setting_smep, PROVES("paging:tlb.cr4.smep"), NEEDS(CPU(SMEP)), .action = set_smep);
EACH_ENTRY(setting_pcide, PROVES("paging:tlb.cr4.pcide_set"), NEEDS(CPU(PCID)),
	   .action = set_pcide, .may_stay = true);
EACH_ENTRY(page_fault, PROVES("paging:tlb.pf_invalidates"), NO_NEEDS,
	   .action = page_fault, .read_only = PTE_RW);
EACH_ENTRY(invpcid_address, PROVES("paging:invpcid.0"), NEEDS(CPU(INVPCID)),
	   .action = invpcid_address);
EACH_ENTRY(invpcid_context, PROVES("paging:invpcid.1"), NEEDS(CPU(INVPCID)),
	   .action = invpcid_context);
EACH_ENTRY(invpcid_all, PROVES("paging:invpcid.2"), NEEDS(CPU(INVPCID)), .action = invpcid_all);
EACH_ENTRY(invpcid_all_but_global, PROVES("paging:invpcid.3"), NEEDS(CPU(INVPCID), CPU(PGE)),
	   .action = invpcid_all_but_global, .cr4 = CR4_PGE, .neighbour = PTE_G);

/* --- with identifiers, under the page's own --------------------------------------------------- */

EACH_ENTRY(invlpg_with_pcid, PROVES("paging:tlb.invlpg.psc"), WITH_PCID,
	   .action = invlpg_page, .cr4 = CR4_PCIDE);
EACH_ENTRY(mov_cr3_with_pcid, PROVES("paging:tlb.cr3.pcid_flush"), WITH_PCID,
	   .action = reload_cr3, .cr4 = CR4_PCIDE);
EACH_ENTRY(mov_cr3_with_bit_63, PROVES("paging:tlb.cr3.pcid_noflush"), WITH_PCID,
	   .action = back_without_flush, .cr4 = CR4_PCIDE, .may_stay = true);
EACH_ENTRY(setting_smep_with_pcid, PROVES("paging:tlb.cr4.smep"), NEEDS(CPU(PCID), CPU(SMEP)),
	   .action = set_smep, .cr4 = CR4_PCIDE);
EACH_ENTRY(page_fault_with_pcid, PROVES("paging:tlb.pf_invalidates"), WITH_PCID,
	   .action = page_fault, .cr4 = CR4_PCIDE, .read_only = PTE_RW);
EACH_ENTRY(clearing_pcide, PROVES("paging:tlb.cr4.pcide_clear"), WITH_PCID,
	   .action = clear_pcide, .cr4 = CR4_PCIDE);
/* INVPCID under the identifier itself: nothing else comes between. */
EACH_ENTRY(invpcid_address_in_use, PROVES("paging:invpcid.0"), WITH_INVPCID,
	   .action = invpcid_address, .cr4 = CR4_PCIDE);
EACH_ENTRY(invpcid_context_in_use, PROVES("paging:invpcid.1"), WITH_INVPCID,
	   .action = invpcid_context, .cr4 = CR4_PCIDE);
EACH_ENTRY(invpcid_all_in_use, PROVES("paging:invpcid.2"), WITH_INVPCID,
	   .action = invpcid_all, .cr4 = CR4_PCIDE);
EACH_ENTRY(invpcid_all_but_global_in_use, PROVES("paging:invpcid.3"), WITH_INVPCID,
	   .action = invpcid_all_but_global, .cr4 = CR4_PCIDE);
EACH_ENTRY(invpcid_address_of_another, PROVES("paging:invpcid.0"), WITH_INVPCID,
	   .action = invpcid_address_of_2, .cr4 = CR4_PCIDE, .may_stay = true);
EACH_ENTRY(invpcid_context_of_another, PROVES("paging:invpcid.1"), WITH_INVPCID,
	   .action = invpcid_context_2, .cr4 = CR4_PCIDE, .may_stay = true);

/* --- while another identifier is in use ----------------------------------------------------- */

EACH_ENTRY(back_by_mov_cr3, PROVES("paging:tlb.cr3.pcid_flush"), WITH_PCID,
	   .action = back_with_flush, .cr4 = CR4_PCIDE, .away = true);
EACH_ENTRY(away_and_back, PROVES("paging:tlb.cr3.pcid_noflush"), WITH_PCID,
	   .action = nothing, .cr4 = CR4_PCIDE, .away = true, .may_stay = true);
EACH_ENTRY(mov_cr3_of_another, PROVES("paging:tlb.cr3.pcid_others"), WITH_PCID,
	   .action = reload_cr3, .cr4 = CR4_PCIDE, .away = true, .may_stay = true);
EACH_ENTRY(invlpg_under_another, PROVES("paging:tlb.invlpg.other_pcid"), WITH_PCID,
	   .action = invlpg_page, .cr4 = CR4_PCIDE, .away = true, .may_stay = true);
EACH_ENTRY(setting_pge_under_another, PROVES("paging:tlb.cr4.pge"), WITH_PCID,
	   .action = toggle_pge, .cr4 = CR4_PCIDE, .away = true);
EACH_ENTRY(clearing_pge_under_another, PROVES("paging:tlb.cr4.pge"), WITH_PCID,
	   .action = toggle_pge, .cr4 = CR4_PCIDE | CR4_PGE, .neighbour = PTE_G, .away = true);
EACH_ENTRY(invpcid_address_from_another, PROVES("paging:invpcid.0"), WITH_INVPCID,
	   .action = invpcid_address, .cr4 = CR4_PCIDE, .away = true);
EACH_ENTRY(invpcid_context_from_another, PROVES("paging:invpcid.1"), WITH_INVPCID,
	   .action = invpcid_context, .cr4 = CR4_PCIDE, .away = true);
EACH_ENTRY(invpcid_all_from_another, PROVES("paging:invpcid.2"), WITH_INVPCID,
	   .action = invpcid_all, .cr4 = CR4_PCIDE, .away = true);
EACH_ENTRY(invpcid_all_but_global_from_another, PROVES("paging:invpcid.3"), WITH_INVPCID,
	   .action = invpcid_all_but_global, .cr4 = CR4_PCIDE, .away = true);
