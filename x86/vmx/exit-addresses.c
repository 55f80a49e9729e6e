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

	guest_to_32_bit_mode();
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
	guest_to_32_bit_mode();
	expect_vmclear(INFORMATION_ADDRESS_32);
}

/* --- operand size of LGDT, LIDT, SGDT and SIDT: Table 30-10, bit 11 ----------------------- */

/* 0x10(%ebx), with 32-bit operands, and with the prefix for 16-bit ones. */
GUEST_CODE(sgdt, "", ".byte 0x0f, 0x01, 0x43, 0x10");
GUEST_CODE(sidt, "", ".byte 0x0f, 0x01, 0x4b, 0x10");
GUEST_CODE(lgdt, "", ".byte 0x0f, 0x01, 0x53, 0x10");
GUEST_CODE(lidt, "", ".byte 0x0f, 0x01, 0x5b, 0x10");
GUEST_CODE(sgdt_16, "", ".byte 0x66, 0x0f, 0x01, 0x43, 0x10");
GUEST_CODE(sidt_16, "", ".byte 0x66, 0x0f, 0x01, 0x4b, 0x10");
GUEST_CODE(lgdt_16, "", ".byte 0x66, 0x0f, 0x01, 0x53, 0x10");
GUEST_CODE(lidt_16, "", ".byte 0x66, 0x0f, 0x01, 0x5b, 0x10");

#define OPERAND_IS_32_BIT(is)	INFORMATION(11, 11, is)

struct table_access {
	const struct guest_code *with_32_bits, *with_16_bits;
	u32 identity;
};

static void reports_operand_size(const struct case_def *this_case)
{
	const struct table_access *row = this_case->row;
	const u64 rest = INFORMATION_ADDRESS_32 | INFORMATION_MEMORY |
			 INFORMATION_SEGMENT(SEGMENT_DS) | INFORMATION_NO_INDEX |
			 INFORMATION_BASE(GPR_RBX) | INFORMATION_IDENTITY(row->identity);

	guest_to_32_bit_mode();
	vmcs_set_control(CONTROL_PROC2_DESCRIPTOR_TABLE_EXITING);
	REQUIRE(enter_at_instruction(row->with_32_bits), OUTCOME_EXIT(EXIT_GDTR_IDTR_ACCESS));
	EXPECT_INFORMATION(rest | OPERAND_IS_32_BIT(1));
	REQUIRE(enter_at_instruction(row->with_16_bits), OUTCOME_EXIT(EXIT_GDTR_IDTR_ACCESS));
	EXPECT_INFORMATION(rest | OPERAND_IS_32_BIT(0));
}

#define OPERAND_SIZE(name, number)						\
	static const struct table_access row_##name = {				\
		&guest_##name, &guest_##name##_16, number };			\
	CASE_RUN(operand_size_of_##name, reports_operand_size,			\
		 PROVES("instruction-information:gdtr_idtr.operand_size"),	\
		 NEEDS(VMX, PROC2(DESCRIPTOR_TABLE_EXITING)), ROW(&row_##name))
OPERAND_SIZE(sgdt, 0);
OPERAND_SIZE(sidt, 1);
OPERAND_SIZE(lgdt, 2);
OPERAND_SIZE(lidt, 3);
