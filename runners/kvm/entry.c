/*
 * The direct 64-bit entry: 64-bit mode, CPL 0, IF = 0, flat segments, the first 4 GiB
 * identity-mapped, RDI = the tree. No stack and no IDT: the image brings its own.
 */
#include "entry.h"

#include <string.h>

enum {
	CR0_PE = 1u << 0,
	CR0_ET = 1u << 4,
	CR0_NE = 1u << 5,
	CR0_PG = 1u << 31,
	CR4_PAE = 1u << 5,
	EFER_LME = 1u << 8,
	EFER_LMA = 1u << 10,
	RFLAGS_FIXED = 1u << 1,

	PTE_PRESENT = 1u << 0,
	PTE_WRITE = 1u << 1,
	PTE_LARGE = 1u << 7,

	ENTRIES = 512,
	GIGABYTES = 4,
	SELECTOR_CODE = 0x08,
	SELECTOR_DATA = 0x10,
	SELECTOR_TSS = 0x18,
	TYPE_CODE = 0xb,		/* execute, read, accessed */
	TYPE_DATA = 0x3,		/* read, write, accessed */
	TYPE_TSS_BUSY = 0xb,
};

#define LARGE_PAGE (2ull << 20)

static void write_page_tables(uint64_t *pml4, uint64_t *pdpt, uint64_t *pd)
{
	pml4[0] = ENTRY_PDPT | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < GIGABYTES; i++)
		pdpt[i] = (ENTRY_PD + i * PAGE_SIZE_4K) | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < GIGABYTES * ENTRIES; i++)
		pd[i] = i * LARGE_PAGE | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
}

/* Must say what entry_set_state() loads: the guest may reload its segment registers. */
static void write_gdt(uint64_t *gdt)
{
	gdt[SELECTOR_CODE / 8] = 0x00af9b000000ffff;
	gdt[SELECTOR_DATA / 8] = 0x00cf93000000ffff;
}

/* Writes page tables and GDT to `memory`. Returns 0, or -1 when there is no RAM for them. */
int entry_write_tables(const struct memory *memory)
{
	uint8_t *tables = memory_at(memory, ENTRY_START, ENTRY_END - ENTRY_START);

	if (!tables)
		return -1;
	write_page_tables((uint64_t *)(void *)(tables + ENTRY_PML4 - ENTRY_START),
			  (uint64_t *)(void *)(tables + ENTRY_PDPT - ENTRY_START),
			  (uint64_t *)(void *)(tables + ENTRY_PD - ENTRY_START));
	write_gdt((uint64_t *)(void *)(tables + ENTRY_GDT - ENTRY_START));
	return 0;
}

/*
 * Changes the reset state in `regs` and `sregs` to the state of the direct 64-bit entry,
 * with RIP = `entry` and RDI = `tree`.
 */
void entry_set_state(struct kvm_regs *regs, struct kvm_sregs *sregs, uint64_t entry, uint64_t tree)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff, .selector = SELECTOR_CODE, .type = TYPE_CODE,
		.present = 1, .s = 1, .l = 1, .g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = SELECTOR_DATA, .type = TYPE_DATA,
		.present = 1, .s = 1, .db = 1, .g = 1,
	};

	*regs = (struct kvm_regs){ .rip = entry, .rdi = tree, .rflags = RFLAGS_FIXED };

	sregs->cs = code;
	sregs->ds = data;
	sregs->es = data;
	sregs->fs = data;
	sregs->gs = data;
	sregs->ss = data;
	/* VM entry wants a busy TSS in TR; the image loads its own before it needs one. */
	sregs->tr = (struct kvm_segment){
		.limit = 0x67, .selector = SELECTOR_TSS, .type = TYPE_TSS_BUSY, .present = 1,
	};
	sregs->ldt = (struct kvm_segment){ .unusable = 1 };
	sregs->gdt = (struct kvm_dtable){ .base = ENTRY_GDT, .limit = SELECTOR_TSS - 1 };
	sregs->idt = (struct kvm_dtable){ .base = 0, .limit = 0 };
	sregs->cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_PE;
	sregs->cr3 = ENTRY_PML4;
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;
}
