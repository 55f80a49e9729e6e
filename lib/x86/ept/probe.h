/*
 * A page for a case to experiment on, through EPT: a guest reaches it at a linear address and
 * at a guest-physical address of which no entry, neither of the guest's tables below the PML4E
 * nor of EPT below the PML4E, translates anything else; and guests that read it, write to it and
 * run it.
 *
 *	struct ept_probe probe;
 *
 *	ept_probe_start(&probe, LEVEL_PTE, 0);
 *	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
 *	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
 */
#ifndef EPT_PROBE_H
#define EPT_PROBE_H

#include "ept/ept.h"
#include "mmu/probe.h"
#include "vmx/guest.h"

struct ept_probe {
	struct ept ept;
	struct address_space guest;	/* GUEST_CR3 refers to it */
	enum paging_level size;		/* the level of the EPT entry that maps the page */
	u64 linear, gpa;		/* where the guest finds the page */
	u64 *page;			/* where we do: 4 KBytes of PROBE_CONTENT */
	u64 *entry[LEVEL_PML4E + 1];	/* EPT entries of `gpa` by level, from `size` up */
	u64 *guest_entry[LEVEL_PML4E + 1];	/* the guest's, of `linear`, by level */
	enum access access;		/* the last of ept_probe_enter() */
};

/*
 * ept_start() with `eptp_flags`; maps a fresh page by an EPT entry of `size` that allows
 * everything, as write-back memory. With LEVEL_PDE and LEVEL_PDPTE the entry maps what is around
 * the page as well. The guest maps it by a PTE: supervisor mode, writable; LEVEL_PTE and up have
 * no accessed flags yet.
 */
void ept_probe_start(struct ept_probe *probe, enum paging_level size, u64 eptp_flags);

/*
 * True when the EPT PML4E of the probe translates nothing else: there must be a second one, which
 * takes guest-physical addresses of 40 bits. As a need: OWN_PML4E.
 */
bool need_own_pml4e(u64 unused);
#define OWN_PML4E	{ "MAXPHYADDR of 40 or more", need_own_pml4e, 0, 0 }

/*
 * Enters a guest that makes one access at `linear`: reads 8 bytes, writes PROBE_WRITTEN, or jumps
 * to the RET there. Returns how it came back; resume() goes on.
 */
outcome_t ept_probe_enter(struct ept_probe *probe, enum access access);
#define PROBE_WRITTEN	0x1122334455667788ull

/*
 * Judges the saved state after an exit by that access: RIP is that of the instruction, or the
 * target of the jump; no register changed, and no flag but RF, which cases of its own look at;
 * nothing is written.
 */
#define EXPECT_NOT_DONE(probe)	ept_probe_expect_not_done(__FILE__, __LINE__, probe)
void ept_probe_expect_not_done(const char *file, u32 line, const struct ept_probe *probe);

/* Judges, after GUEST_DONE, that the access was made: what was read, and what memory holds. */
#define EXPECT_MADE(probe)	ept_probe_expect_made(__FILE__, __LINE__, probe)
void ept_probe_expect_made(const char *file, u32 line, const struct ept_probe *probe);

/* Bits 2:0 of the exit qualification for an access, and what guest paging of the probe adds. */
u64 ept_probe_qualification(enum access access);

#endif
