/*
 * A page for a case to experiment on: mapped in an address space of its own through one entry of
 * each level that nothing else uses, and accesses to it as outcomes.
 */
#ifndef MMU_PROBE_H
#define MMU_PROBE_H

#include "cpu/outcome.h"
#include "mmu/build.h"
#include "mmu/walk.h"

/* What a probe's page is full of: RET in every byte, so that the page can be called. */
#define PROBE_CONTENT	0xc3c3c3c3c3c3c3c3

struct probe {
	struct address_space space;
	enum paging_level size;		/* the level of the entry that maps the page */
	u64 linear;			/* of the first byte */
	u64 *page;			/* 4 KBytes there, in the boot map */
	u64 *entry[LEVEL_PML4E + 1];	/* by level, from `size` up */
};

/*
 * Maps a fresh page by an entry of `size` with `flags`, and loads the address space. With LEVEL_PDE
 * and LEVEL_PDPTE the entry maps what is around the page as well. Elsewhere user mode may use
 * nothing, so that SMEP and SMAP do not stop the code that runs.
 */
void probe_map(struct probe *probe, enum paging_level size, u64 flags);

/* Maps another fresh page at the linear address behind the (4-KByte) page; returns its PTE. */
u64 *probe_map_next(struct probe *probe, u64 **page, u64 flags);

/*
 * Lets the entry of `level` reference copies of the tables below it, at whose end another page
 * lies, full of `content`. Nothing is invalidated.
 */
void probe_retarget(struct probe *probe, enum paging_level level, u64 content);

/* Lets user mode use what else is mapped again, for code that runs at CPL 3. */
void probe_share_with_user(struct probe *probe);

/* Changes the entry of `level`: bits to clear, then bits to set; then INVLPG. */
void probe_change(struct probe *probe, enum paging_level level, u64 clear, u64 set);

/*
 * One access at `linear`: 8 bytes read (`value` stays as it is when that faults), 8 bytes written,
 * a CALL of the RET that is there.
 */
outcome_t read_at(u64 linear, u64 *value);
outcome_t write_at(u64 linear, u64 value);
outcome_t fetch_at(u64 linear);

#endif
