/*
 * A guest of any paging mode, to try the core's MMU with: tables that a case makes as it likes, and
 * one access at a time, each judged by the model of paging (mmu/walk.h).
 *
 *	paged_start(&paged, &(struct paged_mode){ .mode = PAGING_4_LEVEL, .cr0 = CR0_WP }, mmu,
 *		    pages);
 *	paged_map(&paged, linear, gpa, PTE_P | PTE_US, LEVEL_PTE);
 *	paged_try(&paged, &(struct paged_access){ linear, ACCESS_WRITE, .cpl = 3 });
 *
 * What an access must come to, the model says from the guest's registers and tables: the data, an
 * exception with error code and CR2, an exit to user space for what is no memory; the accessed and
 * dirty flags; and that no other byte of memory changes.
 *
 * The guest's own code, stack, IDT, GDT, TSS and the tables for them take the linear addresses that
 * the first entry of the topmost table translates (with 32-bit paging 4 MBytes, with PAE paging 1
 * GByte); what is above them is the case's.
 */
#ifndef HV_PAGED_H
#define HV_PAGED_H

#include "hv/box.h"
#include "mmu/walk.h"

/* Guest-physical: RAM for tables and data, memory that is read-only, and what is no memory. */
#define PAGED_MEMORY	0x100000
#define PAGED_PAGES	16
#define PAGED_ROM	0x200000
#define PAGED_ROM_PAGES	2
#define PAGED_DEVICE	0x400000

struct paged_mode {
	enum paging_mode mode;
	u64 cr0, cr4, efer;	/* bits besides those of the mode: CR0.WP, CR4.SMEP, EFER.NXE ... */
	u32 pkru;		/* with CR4.PKE */
	u8 physical_bits;	/* MAXPHYADDR of the guest; 0: as much as the processor has */
	bool no_pages_1g;
	bool pse36;		/* the guest has PSE-36, if the processor has */
};

struct paged {
	struct box box;
	struct paged_mode mode;
	u64 cr3;		/* the guest's; PAGED_TABLES at the start */
	u8 *memory, *rom;	/* of the host, what is at PAGED_MEMORY and PAGED_ROM */
	u8 *before;		/* copies of both */
	u32 taken;		/* pages of PAGED_MEMORY */
	u8 cpl;			/* of the last access */
	bool registers_set;
};

struct paged_access {
	u64 linear;		/* of 4 bytes, in 64-bit modes 8; within a page */
	enum access kind;
	u8 cpl;			/* 0 or 3 */
	bool ac;		/* RFLAGS.AC */
	u64 value;		/* for ACCESS_WRITE */
};

/* A need: the processor has the mode, and what mode.cr4 asks for. */
bool need_paged(u64 mode);
#define PAGED_NEEDS(mode)	VMX, { "a processor with " #mode, need_paged, mode, 0 }

/* A VM on `mmu` with `pages` pages, and in it a vCPU in that mode; in VMX operation: hv_start(). */
void paged_start(struct paged *paged, const struct paged_mode *mode, const struct hv_mmu *mmu,
		 u32 pages);

/*
 * The vCPU goes on in another mode, with the same tables in memory but those that the guest needs
 * itself, which are made anew when mode.mode changes; the topmost one is empty otherwise. What
 * follows from CPUID stays, and so does the width of the guest's code.
 */
void paged_change(struct paged *paged, const struct paged_mode *mode);

/* Slot 1, PAGED_MEMORY, comes with these flags, if need be once more: 0 or -ENOMEM. */
int paged_set_memory(struct paged *paged, u32 flags, bool removed_first);

/* A free page of PAGED_MEMORY, all zero: its guest-physical address. */
u64 paged_page(struct paged *paged);
/* The bytes at a guest-physical address in one of the slots; NULL: not in them. */
u8 *paged_bytes(struct paged *paged, u64 gpa);

/* Reads or writes an entry of the mode's size. */
u64 paged_entry(struct paged *paged, u64 gpa);
void paged_set_entry(struct paged *paged, u64 gpa, u64 entry);

/*
 * Maps the page at `linear` by an entry of `level` with `flags` to `gpa`; makes the tables that are
 * missing, which allow everything. Returns where the entry is. paged_entry_at(): where the entry of
 * `level` for `linear` is, along the tables as they are.
 */
u64 paged_map(struct paged *paged, u64 linear, u64 gpa, u64 flags, u32 level);
u64 paged_entry_at(struct paged *paged, u64 linear, u32 level);
u32 paged_levels(const struct paged *paged);
u32 paged_index_bits(const struct paged *paged);

/* The guest loads CR3 with `cr3`, or invalidates the page of `linear`. */
void paged_load_cr3(struct paged *paged, u64 cr3);
void paged_invlpg(struct paged *paged, u64 linear);

/* What the model says of the access. */
struct walk_result paged_walk(struct paged *paged, const struct paged_access *access);

/* Makes the access and compares. False: the case has failed, with a note of what was tried. */
bool paged_try(struct paged *paged, const struct paged_access *access);
/* The same, and the error code must be `error`; -1: no fault. */
bool paged_expect(struct paged *paged, const struct paged_access *access, s64 error);

#endif
