/*
 * Hypervisor-managed linear-address translation: 31.2, 5.5. With "enable HLAT" the linear
 * addresses of a guest with 4-level or 5-level paging are translated by tables that HLATP names,
 * and not by those of CR3: all of them where the HLAT prefix size is 0, else those that begin with
 * 1 bits. An entry with bit 11 set starts the translation once more, by CR3 as usual.
 *
 * Here both find the same, but for one page of the lower half and one of the upper half, in which
 * they have another content.
 */
#include "cpu/features.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define HLAT		VMX, EPT, PROC3(ENABLE_HLAT)
#define LOWER		0x123456789000ull
#define UPPER		0xffff923456789000ull
#define HLATP		HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER
#define PTE_RESTART	BIT(11)
#define FLAGS		(PTE_P | PTE_RW | PTE_A | PTE_D)
#define BY_CR3		0x1111111111111111ull
#define BY_HLAT		0x2222222222222222ull

GUEST_CODE(read, "", "movq (%rbx), %rax");

static struct ept ept;
static struct address_space usual, hlat;
static u64 *hlat_pte;		/* of LOWER */

static void map_both(struct address_space *space, u64 content)
{
	u64 page = physical(page_alloc_filled(content));

	space_copy(space);
	space_map(space, LOWER, page, FLAGS, LEVEL_PTE);
	space_map(space, UPPER, page, FLAGS, LEVEL_PTE);
}

static void start(u32 prefix_size)
{
	ept_start(&ept, 0);
	map_both(&usual, BY_CR3);
	map_both(&hlat, BY_HLAT);
	hlat_pte = space_entry(&hlat, LOWER, LEVEL_PTE);
	vmcs_set_control(CONTROL_PROC3_ENABLE_HLAT);
	vmwrite(GUEST_CR3, physical(usual.pml4));
	vmwrite(HLATP, physical(hlat.pml4));
	vmwrite(HLAT_PREFIX_SIZE, prefix_size);
}

static void expect_read(u64 linear, u64 content)
{
	guest_regs()->rbx = linear;
	REQUIRE(enter_at_instruction(&guest_read), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(guest_regs()->rax, content);
}

/* --- which addresses ---------------------------------------------------------------------- */

CASE(root_is_that_of_hlatp, PROVES("ept:hlat.use", "field-formats:hlatp.root"), NEEDS(HLAT))
{
	start(0);
	expect_read(LOWER, BY_HLAT);
	vmcs_clear_control(CONTROL_PROC3_ENABLE_HLAT);
	expect_read(LOWER, BY_CR3);
}

CASE(prefix_of_0_bits, PROVES("ept:hlat.prefix0"), NEEDS(HLAT))
{
	start(0);
	expect_read(LOWER, BY_HLAT);
	expect_read(UPPER, BY_HLAT);
}

CASE(prefix_of_1_bit, PROVES("ept:hlat.prefix"), NEEDS(HLAT))
{
	start(1);
	expect_read(LOWER, BY_CR3);
	expect_read(UPPER, BY_HLAT);
}

/* PAE paging and 32-bit paging have no HLAT: the tables of HLATP would be none of theirs. */
CASE(not_with_32_bit_paging, PROVES("ept:hlat.not_pae", "ept:hlat.use"), NEEDS(HLAT))
{
	u64 *page = page_alloc_filled(BY_CR3);

	start(0);
	guest_to_32_bit_mode();
	guest_regs()->rbx = (u64)page;
	/* Its first byte is a prefix of the 64-bit instruction, and DEC EAX here. */
	REQUIRE(enter_at_instruction(&guest_read), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rax & BITS(31, 0), BY_CR3 & BITS(31, 0));
}

/* --- restarts ----------------------------------------------------------------------------- */

CASE(restart_uses_cr3, PROVES("ept:hlat.restart"), NEEDS(HLAT))
{
	enum paging_level level;
	u64 *entry;

	start(0);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++) {
		entry = space_entry(&hlat, LOWER, level);
		*entry |= PTE_RESTART;
		ept_invalidate(&ept);
		expect_read(LOWER, BY_CR3);
		*entry &= ~PTE_RESTART;
	}
	ept_invalidate(&ept);
	expect_read(LOWER, BY_HLAT);
}

GUEST_CODE(write, "", "movq %rax, (%rbx)");

/* The rights are those of the second walk alone; and of the first, when there is no second. */
CASE(rights_are_those_of_the_second_walk, PROVES("ept:hlat.restart"), NEEDS(HLAT))
{
	start(0);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_WP);
	*hlat_pte = (*hlat_pte & ~PTE_RW) | PTE_RESTART;
	guest_regs()->rbx = LOWER;
	guest_regs()->rax = 5;
	EXPECT(enter_at_instruction(&guest_write), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	expect_read(LOWER, 5);
	*hlat_pte &= ~PTE_RESTART;
	ept_invalidate(&ept);
	EXPECT(enter_at_instruction(&guest_write), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR | PF_HLAT));
}

/* --- HLATP -------------------------------------------------------------------------------- */

static void expect_refused(u64 pointer)
{
	vmwrite(HLATP, pointer);
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
}

static void refuse_each(u64 reserved)
{
	u64 bit;

	for (; reserved; reserved &= ~bit) {
		bit = reserved & -reserved;
		expect_refused(physical(hlat.pml4) | bit);
	}
}

CASE(reserved_bits_2_0, PROVES("field-formats:hlatp.reserved_2_0"), NEEDS(HLAT))
{
	start(0);
	refuse_each(BITS(2, 0));
}

CASE(reserved_bits_11_5, PROVES("field-formats:hlatp.reserved_11_5", "ept:hlat.pcid"), NEEDS(HLAT))
{
	start(0);
	refuse_each(BITS(11, 5));
}

/* PWT and PCD: the memory type by which the root is read; data are the same with each. */
CASE(pwt_and_pcd_may_be_1, PROVES("field-formats:hlatp.pwt", "field-formats:hlatp.pcd"),
     NEEDS(HLAT))
{
	u32 i;

	start(0);
	for (i = 0; i < 4; i++) {
		vmwrite(HLATP, physical(hlat.pml4) | i << 3);
		ept_invalidate(&ept);
		expect_read(LOWER, BY_HLAT);
	}
}

/* What was cached with one PCID, which only CR3 can have supplied, is not used with another. */
CASE(pcid_is_that_of_cr3, PROVES("ept:hlat.pcid"), NEEDS(HLAT, CPU(PCID), PROC2(ENABLE_VPID)))
{
	start(0);
	vmcs_set_control(CONTROL_PROC2_ENABLE_VPID);
	vmwrite(VIRTUAL_PROCESSOR_IDENTIFIER, 1);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PCIDE);
	vmwrite(GUEST_CR3, physical(usual.pml4) | 1);
	expect_read(LOWER, BY_HLAT);
	*hlat_pte |= PTE_RESTART;
	vmwrite(GUEST_CR3, physical(usual.pml4) | 2);
	expect_read(LOWER, BY_CR3);
}
