#include "hv/paged_random.h"
#include "cpu/features.h"
#include "string.h"

#define ROUNDS		24	/* VMs of a case */
#define ACCESSES	60	/* in each */
#define POOL		400	/* pages */
#define UD2		0x0b0f0b0f0b0f0b0f
#define TABLES		8	/* the first pages of PAGED_MEMORY; the rest is data */
#define INDEXES		3	/* entries 1 to 3 of each table are used */

static struct paged paged;

static u64 any(u64 count)
{
	return case_random() % count;
}

static bool one_in(u64 count)
{
	return !any(count);
}

/* Where an entry leads: a table, the topmost one, a page, or worse. */
static u64 any_address(void)
{
	switch (any(16)) {
	case 0:
		return PAGED_ROM + any(PAGED_ROM_PAGES) * PAGE_SIZE;
	case 1:
		return PAGED_DEVICE + any(4) * PAGE_SIZE;
	case 2:
		/* PDPTEs must stay such that CR3 can be loaded. */
		if (paged.mode.mode != PAGING_PAE)
			return paged.cr3;
		return PAGED_MEMORY;
	case 3:
		return case_random() & BITS(maxphyaddr() - 1, 12);
	case 4: case 5: case 6: case 7:
		return PAGED_MEMORY + (TABLES + any(PAGED_PAGES - TABLES)) * PAGE_SIZE;
	default:
		return PAGED_MEMORY + any(TABLES) * PAGE_SIZE;
	}
}

static u64 any_entry(void)
{
	u64 entry = any_address();

	entry |= one_in(12) ? 0 : PTE_P;
	entry |= one_in(4) ? 0 : PTE_RW;
	entry |= one_in(4) ? 0 : PTE_US;
	entry |= case_random() & (PTE_A | PTE_D | PTE_PWT | PTE_PCD | PTE_G | BITS(11, 9));
	if (one_in(6))
		entry |= PTE_PS;
	/* A large page begins where it can, more often than not. */
	if (entry & PTE_PS && !one_in(4))
		entry &= ~BITS(29, 12);
	if (one_in(8) && paged.mode.mode >= PAGING_PAE)
		entry |= PTE_XD;
	if (one_in(24))
		entry |= BIT(12 + any(52));
	return paged.mode.mode == PAGING_32_BIT ? entry & BITS(31, 0) : entry;
}

/* PDPTEs of PAE paging must be good when they are loaded: 5.4.1 PDPTE Registers. */
static u64 any_pdpte(void)
{
	return (any_address() & BITS(maxphyaddr() - 1, 12)) | (one_in(8) ? 0 : PTE_P);
}

static u32 entry_bytes(void)
{
	return paged.mode.mode == PAGING_32_BIT ? 4 : 8;
}

static void fill_memory(u64 rom_flags)
{
	u32 i, j;

	for (i = TABLES; i < PAGED_PAGES; i++)
		for (j = 0; j < PAGE_SIZE / 8; j++)
			((u64 *)paged_bytes(&paged, PAGED_MEMORY + i * PAGE_SIZE))[j] = UD2;
	for (i = 0; i < TABLES; i++)
		for (j = 1; j <= INDEXES; j++)
			paged_set_entry(&paged, PAGED_MEMORY + i * PAGE_SIZE + j * entry_bytes(),
					any_entry());
	for (i = 0; i < PAGED_ROM_PAGES; i++)
		for (j = 0; j <= INDEXES; j++)
			paged_set_entry(&paged, PAGED_ROM + i * PAGE_SIZE + j * entry_bytes(),
					any_entry() | rom_flags);
	for (j = 1; j <= INDEXES; j++)
		paged_set_entry(&paged, paged.cr3 + j * entry_bytes(),
				paged.mode.mode == PAGING_PAE ? any_pdpte() : any_entry());
}

static u64 any_linear(void)
{
	u32 level, bits = paged_index_bits(&paged);
	u64 linear = (1 + any(INDEXES)) * entry_bytes();

	for (level = 1; level <= paged_levels(&paged); level++)
		linear |= (1 + any(INDEXES)) << (12 + (level - 1) * bits);
	return linear;
}

static struct paged_mode any_mode(enum paging_mode mode)
{
	struct paged_mode chosen = { .mode = mode };

	if (!one_in(3))
		chosen.cr0 |= CR0_WP;
	if (one_in(2) && feature(FEATURE_SMEP))
		chosen.cr4 |= CR4_SMEP;
	if (one_in(2) && feature(FEATURE_SMAP))
		chosen.cr4 |= CR4_SMAP;
	if (one_in(2) && mode == PAGING_32_BIT)
		chosen.cr4 |= CR4_PSE;
	if (!one_in(3) && feature(FEATURE_NX) && mode >= PAGING_PAE)
		chosen.efer |= EFER_NXE;
	if (one_in(2) && feature(FEATURE_PKU) && mode >= PAGING_4_LEVEL) {
		chosen.cr4 |= CR4_PKE;
		chosen.pkru = case_random() & ~3u;	/* the guest's own pages have key 0 */
	}
	return chosen;
}

/* Whether the access has written to what may be a table. */
static bool is_change(const struct paged_access *access)
{
	const struct walk_result result = paged_walk(&paged, access);

	return access->kind == ACCESS_WRITE && result.kind == WALK_DONE;
}

/* The guest sees to it that its changes count: for this address, or for all. */
static void invalidate(u64 linear)
{
	if (one_in(2))
		paged_invlpg(&paged, linear);
	else
		paged_load_cr3(&paged, paged.cr3);
}

static void run_vm(const struct random_row *row, u32 pages)
{
	struct paged_mode chosen = any_mode(row->mode);
	bool ept = row->mmu != &hv_mmu_shadow;
	bool changed = false;
	u32 i;

	/* With EPT the processor translates, by the features that it has. */
	chosen.pse36 = ept || one_in(2);
	paged_start(&paged, &chosen, row->mmu, pages);
	/* Nothing is to be set there: Bochs would do so, in spite of EPT (31.3.3.2). */
	fill_memory(ept ? PTE_A | PTE_D : 0);
	for (i = 0; i < ACCESSES; i++) {
		struct paged_access access = {
			.linear = any_linear(), .kind = any(3), .cpl = one_in(3) ? 3 : 0,
			.ac = one_in(3), .value = any_entry() };

		/* User space changes an entry, as a device could. */
		if (one_in(6)) {
			paged_set_entry(&paged, PAGED_MEMORY + any(TABLES) * PAGE_SIZE +
					(1 + any(INDEXES)) * entry_bytes(), any_entry());
			changed = true;
		}
		if (changed)
			invalidate(access.linear);
		changed = is_change(&access);
		if (!paged_try(&paged, &access))
			case_end();
	}
}

void random_tables(const struct case_def *this_case)
{
	const struct random_row *row = this_case->row;
	u32 i;

	hv_start(page_alloc());
	for (i = 0; i < ROUNDS; i++) {
		run_vm(row, i % 2 ? POOL : row->mmu->min_pages + 3);
		if (i % 4 == 3)
			tap_comment("%u of %u accesses", (i + 1) * ACCESSES, ROUNDS * ACCESSES);
	}
}
