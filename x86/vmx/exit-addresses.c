/*
 * The addresses and the instruction information that an exit reports, from 64-bit mode and from
 * 32-bit mode: 30.2.1 Basic VM-Exit Information, 30.2.5 Information for VM Exits Due to Instruction
 * Execution.
 *
 * The audit holds every exit to what these fields may have at all; here the values are known.
 * Images of EPT violations and vmx/exit-operands look at each kind of access and of operand in
 * 64-bit mode.
 */
#include "ept/ept.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(read, "", "movl (%rbx), %eax");
GUEST_CODE(vmclear, "", "vmclear 0x10(%rbx)");

#define UPPER_HALF	0xffff900000001000ull

/* A page that EPT does not let be read, or that it maps wrongly. */
static u64 make_page(u64 flags)
{
	struct ept ept;
	u64 page = physical(page_alloc());

	ept_start(&ept, 0);
	ept_map(&ept, page, page, flags, LEVEL_PTE);
	ept_invalidate(&ept);
	return page;
}

#define NOT_READABLE	0
#define RESERVED_TYPE	(EPT_RWX | EPT_MEMORY_TYPE(7))

static void make_32_bit_guest(void)
{
	u32 *directory = page_alloc(), i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE)) | CR4_PSE);
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
}

static void expect_addresses(u64 linear, u64 guest_physical)
{
	guest_regs()->rbx = linear;
	REQUIRE(enter_at_instruction(&guest_read), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & BITS(8, 7), BITS(8, 7));
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), linear);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), guest_physical);
}

CASE(violation_in_the_upper_half, PROVES("host-and-exit:exit.gla", "host-and-exit:exit.gpa"),
     NEEDS(VMX, EPT))
{
	u64 page = make_page(NOT_READABLE);
	struct address_space space;

	space_copy(&space);
	space_map(&space, UPPER_HALF, page, PTE_P | PTE_RW | PTE_A | PTE_D, LEVEL_PTE);
	vmwrite(GUEST_CR3, physical(space.pml4));
	expect_addresses(UPPER_HALF + 0xabc, page + 0xabc);
}

/* The upper half of RBX is no part of EBX. */
CASE(violation_in_32_bit_mode, PROVES("host-and-exit:exit.gla", "host-and-exit:exit.gpa"),
     NEEDS(VMX, EPT))
{
	u64 page = make_page(NOT_READABLE);

	make_32_bit_guest();
	expect_addresses(page + 0xabc, page + 0xabc);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) >> 32, 0);
}

CASE(misconfiguration, PROVES("host-and-exit:exit.gpa"), NEEDS(VMX, EPT))
{
	u64 page = make_page(RESERVED_TYPE);

	guest_regs()->rbx = page + 0xabc;
	REQUIRE(enter_at_instruction(&guest_read), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), page + 0xabc);
}

/* The same bytes in both modes. */
static void expect_vmclear(u64 address_size)
{
	REQUIRE(enter_at_instruction(&guest_vmclear), OUTCOME_EXIT(EXIT_VMCLEAR));
	EXPECT_INFORMATION(address_size | INFORMATION_MEMORY | INFORMATION_SEGMENT(SEGMENT_DS) |
			   INFORMATION_NO_INDEX | INFORMATION_BASE(GPR_RBX));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0x10);
}

CASE(information_in_64_bit_mode, PROVES("host-and-exit:exit.iinfo"), NEEDS(VMX))
{
	expect_vmclear(INFORMATION_ADDRESS_64);
}

CASE(information_in_32_bit_mode, PROVES("host-and-exit:exit.iinfo"), NEEDS(VMX))
{
	make_32_bit_guest();
	expect_vmclear(INFORMATION_ADDRESS_32);
}
