/*
 * Paging and physical addresses where no memory is.
 *
 * A translation does not ask what is at the physical address that it gives: an access there goes to
 * the bus, and a bus to which nobody answers gives some value, always the same. No page fault comes
 * of it, neither of an access to such a page nor of a paging structure that lies there: the walk
 * takes what the bus gives for an entry (5.2). What that makes of the access depends on the value.
 */
#include "case.h"
#include "cpu/safe.h"
#include "mmu/mmio.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

CASE(page_where_no_memory_is, PROVES("paging:fmt.beyond_ram"))
{
	u64 first = 0, second = 1, *pte;

	mmio_map();
	pte = mmio_entry(MMIO_NOTHING);
	*pte &= ~(PTE_A | PTE_D);
	invlpg(MMIO_NOTHING);
	EXPECT(read_at(MMIO_NOTHING, &first), OUTCOME_DONE);
	EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A);
	EXPECT(write_at(MMIO_NOTHING, ~first), OUTCOME_DONE);
	EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
	EXPECT(read_at(MMIO_NOTHING, &second), OUTCOME_DONE);
	EXPECT_EQ(second, first);
}

/* What the value of the bus would do in memory, it does there. */
CASE(table_where_no_memory_is, PROVES("paging:misc.walk_through_mmio"))
{
	u64 nothing, bus, value = 0, *table = page_alloc();
	struct probe probe;
	outcome_t like_memory;

	mmio_map();
	nothing = mmio_nothing();
	bus = *mmio_entry(MMIO_NOTHING) & PTE_ADDRESS;
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	*probe.entry[LEVEL_PTE] = nothing;
	invlpg(probe.linear);
	like_memory = read_at(probe.linear, &value);
	*probe.entry[LEVEL_PDE] = bus | PTE_P | PTE_RW;
	invlpg(probe.linear);
	EXPECT(read_at(probe.linear, &value), like_memory);
	/* And the machine goes on. */
	*probe.entry[LEVEL_PDE] = physical(table) | PTE_P | PTE_RW;
	table[probe.linear >> 12 & 511] = physical(probe.page) | PTE_P;
	invlpg(probe.linear);
	EXPECT(read_at(probe.linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, PROBE_CONTENT);
}
