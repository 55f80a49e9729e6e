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

static void fill_root(void)
{
	u32 i;

	for (i = 1; i <= INDEXES; i++)
		paged_set_entry(&paged, paged.cr3 + i * entry_bytes(),
				paged.mode.mode == PAGING_PAE ? any_pdpte() : any_entry());
}

/* The mode now, but for one bit: CR0.WP, or one that `other` has otherwise. */
static struct paged_mode one_changed(const struct paged_mode *other)
{
	static const u64 bits[] = { CR4_PSE, CR4_SMEP, CR4_SMAP };
	struct paged_mode mode = paged.mode;

	if (one_in(2))
		mode.cr0 ^= CR0_WP;
	else
		mode.cr4 ^= (mode.cr4 ^ other->cr4) & bits[any(ARRAY_SIZE(bits))];
	return mode;
}

/* Other bits of CR0, CR4 and EFER; the two modes of 32-bit code, each with the other's tables. */
static void change_mode(enum paging_mode mode)
{
	struct paged_mode chosen;
	bool other;

	if ((mode == PAGING_32_BIT || mode == PAGING_PAE) && one_in(4))
		mode = paged.mode.mode == PAGING_PAE ? PAGING_32_BIT : PAGING_PAE;
	else
		mode = paged.mode.mode;
	chosen = any_mode(mode);
	other = mode != paged.mode.mode;
	if (!other && one_in(2))
		chosen = one_changed(&chosen);
	paged_change(&paged, &chosen);
	if (other)
		fill_root();
}

/* A slot goes and comes, a log begins or ends: what the guest sees stays the same. */
static void change_slot(void)
{
	u32 flags = one_in(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0;

	/* In a small VM there is no room for a log. */
	if (paged_set_memory(&paged, flags, one_in(2)))
		REQUIRE_EQ(paged_set_memory(&paged, 0, true), 0);
}

/* What has been written, flags of entries too, must be in the log: of `result` and the access. */
static void check_log(const struct paged_access *access, const struct walk_result *result,
		      bool flags)
{
	u64 bits[(PAGED_PAGES + 63) / 64], wanted = 0, page;
	const struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	u32 i;

	/* Not every fetch is made: paged_try(). */
	if (hv_vm_get_dirty_log(&paged.box.vm, &log) || access->kind == ACCESS_FETCH)
		return;
	for (i = 0; flags && i < result->steps; i++) {
		page = (result->step[i].address - PAGED_MEMORY) / PAGE_SIZE;
		if (page < PAGED_PAGES && result->step[i].must_set & ~result->step[i].value)
			wanted |= BIT(page);
	}
	page = (result->physical - PAGED_MEMORY) / PAGE_SIZE;
	if (result->kind == WALK_DONE && access->kind == ACCESS_WRITE && page < PAGED_PAGES)
		wanted |= BIT(page);
	EXPECT_EQ(wanted & ~bits[0], 0);
}

/* Most fetches find no UD2 and are not made. */
static struct paged_access any_access(void)
{
	return (struct paged_access){
		.linear = any_linear(), .kind = one_in(6) ? ACCESS_FETCH : any(2),
		.cpl = one_in(3) ? 3 : 0, .ac = one_in(3), .value = any_entry() };
}

static void run_vm(const struct random_row *row, u32 pages)
{
	struct paged_mode chosen = any_mode(row->mode);
	bool ept = row->mmu != &hv_mmu_shadow;
	struct paged_access access = any_access();
	bool changed = false, again;
	u32 i;

	/* With EPT the processor translates, by the features that it has. */
	chosen.pse36 = ept || one_in(2);
	paged_start(&paged, &chosen, row->mmu, pages);
	/* Nothing is to be set there: Bochs would do so, in spite of EPT (31.3.3.2). */
	fill_memory(ept ? PTE_A | PTE_D : 0);
	fill_root();
	for (i = 0; i < ACCESSES; i++) {
		struct walk_result result;

		again = i && one_in(6);
		if (again)
			change_mode(row->mode);
		if (one_in(12))
			change_slot();
		/* Or once more what has just been cached by other registers. */
		if (!again || one_in(4))
			access = any_access();
		/* User space changes an entry, as a device could. */
		if (one_in(6)) {
			paged_set_entry(&paged, PAGED_MEMORY + any(TABLES) * PAGE_SIZE +
					(1 + any(INDEXES)) * entry_bytes(), any_entry());
			changed = true;
		}
		if (changed)
			invalidate(access.linear);
		changed = is_change(&access);
		result = paged_walk(&paged, &access);
		if (!paged_try(&paged, &access))
			case_end();
		/* With EPT Bochs sets flags in spite of write protection: hv/dirty-log. */
		check_log(&access, &result, !ept);
		if (case_failed())
			case_end();
	}
}

void random_tables(const struct case_def *this_case)
{
	const struct random_row *row = this_case->row;
	u32 i;

	hv_start(page_alloc());
	for (i = 0; i < ROUNDS; i++) {
		run_vm(row, i % 2 ? POOL : row->mmu->min_pages + 4);
		if (i % 4 == 3)
			tap_comment("%u of %u accesses", (i + 1) * ACCESSES, ROUNDS * ACCESSES);
	}
}
