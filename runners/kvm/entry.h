/* The CPU state and the tables of the direct 64-bit entry. */
#ifndef VMM_ENTRY_H
#define VMM_ENTRY_H

#include <stdint.h>

#include <linux/kvm.h>

#include "memory.h"

/*
 * Where the VMM keeps the page tables and the GDT that the CPU starts with. The image may
 * reuse the place as soon as it has its own.
 */
enum {
	ENTRY_START = 0x1000,
	ENTRY_PML4 = 0x1000,
	ENTRY_PDPT = 0x2000,
	ENTRY_PD = 0x3000,	/* four of them */
	ENTRY_GDT = 0x7000,
	ENTRY_END = 0x8000,
};

#define ENTRY_MAPPED (4ull << 30)

int entry_write_tables(const struct memory *memory);
void entry_set_state(struct kvm_regs *regs, struct kvm_sregs *sregs, uint64_t entry, uint64_t tree);

#endif
