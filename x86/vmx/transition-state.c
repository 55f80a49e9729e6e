/*
 * What VM entries and VM exits do to state that no register shows: translations that are cached
 * (29.3.2.5, 30.5.5), the PDPTE registers (29.3.2.4), and the upper halves of segment bases
 * (29.3.2.2).
 *
 * Without VPIDs host and guest share one tag, 0000H, and every transition must drop what is cached
 * under it. Here one side reads through a page-table entry, the entry changes without an INVLPG,
 * and the other side reads again.
 */
#include "mmu/build.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

/* --- translations ------------------------------------------------------------------------ */

#define LINEAR	UNMAPPED_ADDRESS

struct tables {
	struct address_space space;
	volatile u64 *pte;
	u64 other_entry;	/* maps LINEAR to a page with 2 in it; the first one has 1 */
};

/* Paging structures for host and guest that map LINEAR besides. */
static void load_tables(struct tables *tables)
{
	space_copy(&tables->space);
	tables->pte = space_map(&tables->space, LINEAR, physical(page_alloc_filled(1)),
				PTE_P | PTE_RW | PTE_A | PTE_D, LEVEL_PTE);
	tables->other_entry = physical(page_alloc_filled(2)) | PTE_P | PTE_RW | PTE_A | PTE_D;
	space_load(&tables->space);
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(GUEST_CR3, read_cr3());
}

static u64 read_linear(void)
{
	return *(volatile u64 *)LINEAR;
}

GUEST_CODE(read, "", "movq (%rbx), %rax; cpuid");

CASE(entry_drops_translations, PROVES("host-and-exit:entry.load.tlb"), NEEDS(VMX))
{
	struct tables tables;

	load_tables(&tables);
	EXPECT_EQ(read_linear(), 1);
	*tables.pte = tables.other_entry;
	guest_regs()->rbx = LINEAR;
	REQUIRE(enter_at_instruction(&guest_read), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(guest_regs()->rax, 2);
	space_restore(&tables.space);
}

GUEST_CODE(read_and_change, "", "movq (%rbx), %rax; movq %rdx, (%rdi); cpuid");

CASE(exit_drops_translations, PROVES("host-and-exit:host.tlb"), NEEDS(VMX))
{
	struct tables tables;

	load_tables(&tables);
	guest_regs()->rbx = LINEAR;
	guest_regs()->rdi = (u64)tables.pte;
	guest_regs()->rdx = tables.other_entry;
	REQUIRE(enter_at_instruction(&guest_read_and_change), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(guest_regs()->rax, 1);
	EXPECT_EQ(read_linear(), 2);
	space_restore(&tables.space);
}

/* --- PDPTE registers --------------------------------------------------------------------- */

#define PAGE	0x40000000u		/* linear, under the second PDPTE */
#define LATER	(PAGE + 0x200000)	/* likewise, under another PDE */

/*
 * Reads under the second PDPTE, changes it in memory, and reads there again, where nothing is
 * cached.
 */
extern const u8 pae_guest[];
asm(".pushsection .text\n\t.code32\n"
    "pae_guest:\n\tmovl (%ebx), %eax\n\tmovl %edx, (%edi)\n\tmovl (%esi), %ecx\n"
    "cpuid\n\t.code64\n\t.popsection");

static void run_pae_guest(u64 *pdpt, u64 other_pdpte)
{
	*guest_regs() = (struct general_registers){
		.rbx = PAGE, .rsi = LATER, .rdi = (u64)&pdpt[1], .rdx = other_pdpte & BITS(31, 0),
	};
	vmwrite(GUEST_RIP, (u64)pae_guest);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_CPUID));
}

CASE(pdptes_come_from_memory, PROVES("host-and-exit:entry.load.pdpte_mem"), NEEDS(VMX))
{
	u64 *pdpt = tables_pae(), *other = tables_pae();
	u64 first = physical(page_alloc_filled(0x100000001));
	u64 second = physical(page_alloc_filled(0x200000002));

	map_pae(pdpt, PAGE, first, PTE_P);
	map_pae(pdpt, LATER, first, PTE_P);
	map_pae(other, PAGE, second, PTE_P);
	map_pae(other, LATER, second, PTE_P);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CR3, physical(pdpt));
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~CR4_PCIDE) | CR4_PAE);
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	run_pae_guest(pdpt, other[1]);
	EXPECT_EQ(guest_regs()->rax, 1);
	/* The register is still the old one, although memory has changed. */
	EXPECT_EQ(guest_regs()->rcx, 1);
	/* The next entry loads it anew. */
	run_pae_guest(pdpt, other[1]);
	EXPECT_EQ(guest_regs()->rax, 2);
	EXPECT_EQ(guest_regs()->rcx, 2);
}

/* --- segment bases ----------------------------------------------------------------------- */

GUEST_CODE(cpuid, "", "cpuid");

/*
 * Of an unusable segment the entry clears bits 63:32 of the base, and the exit saves them as 0:
 * nothing else can show them, because in 64-bit mode these bases count as 0.
 */
CASE(unusable_bases_lose_their_upper_halves, PROVES("host-and-exit:entry.load.base_high",
     "host-and-exit:save.ss_unusable", "host-and-exit:save.ds_es_unusable"), NEEDS(VMX))
{
	static const struct {
		u32 selector, base, rights;
	} segments[] = {
		{ GUEST_SS_SELECTOR, GUEST_SS_BASE, GUEST_SS_ACCESS_RIGHTS },
		{ GUEST_DS_SELECTOR, GUEST_DS_BASE, GUEST_DS_ACCESS_RIGHTS },
		{ GUEST_ES_SELECTOR, GUEST_ES_BASE, GUEST_ES_ACCESS_RIGHTS },
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		vmwrite(segments[i].selector, 0);
		vmwrite(segments[i].base, 0x7fff12345678);
		vmwrite(segments[i].rights, RIGHTS_UNUSABLE);
	}
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	for (i = 0; i < ARRAY_SIZE(segments); i++)
		EXPECT_EQ(vmread(segments[i].base) >> 32, 0);
}
