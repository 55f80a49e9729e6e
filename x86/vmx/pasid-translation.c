/*
 * PASID translation: 28.5.9. ENQCMD and ENQCMDS store 64 bytes to a device, with a process
 * address-space identifier in bits 19:0 of the first four. With "PASID translation" that is the
 * guest's, and the processor takes the host's from two levels of tables: bit 19 selects the low or
 * the high directory, bits 18:10 an entry of it, bits 9:0 an entry of the table there. An entry
 * that is not present, or has reserved bits, is a VM exit.
 *
 * No device is needed: what is not translated exits before the store, and a store to memory that
 * is no device's is refused with RFLAGS.ZF = 1, which here means that the translation was there.
 */
#include "cpu/features.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define PASID		VMX, CPU(ENQCMD), PROC2(PASID_TRANSLATION)
#define PASID_VALID	BIT(31)		/* of IA32_PASID */
#define PRESENT		BIT(0)		/* of an entry of a directory */
#define VALID		BIT(31)		/* of an entry of a table */
#define HOST_PASID	0x54321u

GUEST_CODE(enqcmd, "", ".byte 0xf2, 0x0f, 0x38, 0xf8, 0x03");	/* (%rbx), %rax */
GUEST_CODE(enqcmds, "", ".byte 0xf3, 0x0f, 0x38, 0xf8, 0x03");

#define ENQCMD_EXITS	OUTCOME_EXIT(EXIT_ENQCMD_PASID_TRANSLATION_FAILURE)
#define ENQCMDS_EXITS	OUTCOME_EXIT(EXIT_ENQCMDS_PASID_TRANSLATION_FAILURE)

static u64 *directories[2];		/* low, high */
static u8 *portal, *command;

static void start(void)
{
	u32 i;

	for (i = 0; i < 2; i++)
		directories[i] = page_alloc();
	portal = page_alloc();
	command = page_alloc();
	vmcs_set_control(CONTROL_PROC2_PASID_TRANSLATION);
	vmwrite(LOW_PASID_DIRECTORY_ADDRESS, physical(directories[0]));
	vmwrite(HIGH_PASID_DIRECTORY_ADDRESS, physical(directories[1]));
}

/* The directory's entry for a guest PASID, and the entry of a new table that it leads to. */
static u64 *directory_entry(u32 pasid)
{
	return &directories[FIELD(pasid, 19, 19)][FIELD(pasid, 18, 10)];
}

static u32 *map_pasid(u32 pasid, u32 entry)
{
	u32 *table = page_alloc();

	*directory_entry(pasid) = physical(table) | PRESENT;
	table[FIELD(pasid, 9, 0)] = entry;
	return &table[FIELD(pasid, 9, 0)];
}

static outcome_t run(const struct guest_code *code, u32 pasid)
{
	if (code == &guest_enqcmd)
		wrmsr(IA32_PASID, pasid | PASID_VALID);
	*(u32 *)command = code == &guest_enqcmd ? 0 : pasid;
	guest_regs()->rax = (u64)portal;
	guest_regs()->rbx = (u64)command;
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	return enter_at_instruction(code);
}

/* The instruction does not complete: RIP stays. */
static void expect_refused(u32 pasid)
{
	EXPECT(run(&guest_enqcmd, pasid), ENQCMD_EXITS);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), pasid);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_enqcmd.at);
	EXPECT(run(&guest_enqcmds, pasid), ENQCMDS_EXITS);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_enqcmds.at);
	EXPECT_EQ(*(u64 *)portal, 0);
}

static void expect_translated(u32 pasid)
{
	EXPECT(run(&guest_enqcmd, pasid), GUEST_DONE);
	EXPECT(run(&guest_enqcmds, pasid), GUEST_DONE);
}

static const u32 pasids[] = { 0, 1, 0x3ff, 0x400, 0x7ffff, 0x80000, 0xabcde, 0xfffff };

CASE(each_bit_selects, PROVES("nonroot-behavior:enqcmd", "field-formats:pasid_directory.table"),
     NEEDS(PASID))
{
	u32 i;

	start();
	for (i = 0; i < ARRAY_SIZE(pasids); i++) {
		expect_refused(pasids[i]);
		map_pasid(pasids[i], HOST_PASID | VALID);
		expect_translated(pasids[i]);
		*directory_entry(pasids[i]) = 0;
	}
}

/* With the control 0 nobody looks at the tables. */
CASE(no_translation_without_the_control, PROVES("nonroot-behavior:enqcmd"), NEEDS(PASID))
{
	start();
	vmcs_clear_control(CONTROL_PROC2_PASID_TRANSLATION);
	expect_translated(0x12345);
}

CASE(directory_entry_not_present, PROVES("field-formats:pasid_directory.present", "exit-reasons:72",
     "exit-reasons:73", "exit-qualifications:enqcmd.guest_pasid"), NEEDS(PASID))
{
	start();
	map_pasid(0x12345, HOST_PASID | VALID);
	*directory_entry(0x12345) &= ~PRESENT;
	expect_refused(0x12345);
}

CASE(reserved_bits_of_a_directory_entry, PROVES("field-formats:pasid_directory.reserved",
     "nonroot-behavior:enqcmd"), NEEDS(PASID))
{
	u64 good, reserved = BITS(11, 1) | (BITS(63, 0) & ~(BIT(maxphyaddr()) - 1)), bit;

	start();
	map_pasid(0x12345, HOST_PASID | VALID);
	good = *directory_entry(0x12345);
	for (; reserved; reserved &= ~bit) {
		bit = reserved & -reserved;
		*directory_entry(0x12345) = good | bit;
		expect_refused(0x12345);
	}
}

CASE(table_entry_not_valid, PROVES("field-formats:pasid_table.valid"), NEEDS(PASID))
{
	u32 *entry;

	start();
	entry = map_pasid(0x89abc, HOST_PASID);
	expect_refused(0x89abc);
	*entry |= VALID;
	expect_translated(0x89abc);
}

CASE(reserved_bits_of_a_table_entry, PROVES("field-formats:pasid_table.reserved"), NEEDS(PASID))
{
	u32 *entry, bit;

	start();
	entry = map_pasid(0x89abc, 0);
	for (bit = 20; bit <= 30; bit++) {
		*entry = HOST_PASID | VALID | BIT(bit);
		expect_refused(0x89abc);
	}
}

/* Each bit may be 1; only a device sees the number. */
CASE(host_pasid_may_be_any, PROVES("field-formats:pasid_table.pasid"), NEEDS(PASID))
{
	u32 *entry, bit;

	start();
	entry = map_pasid(0x12345, 0);
	for (bit = 0; bit < 20; bit++) {
		*entry = VALID | BIT(bit);
		expect_translated(0x12345);
	}
}

/* Bit 31 of what ENQCMDS has read is the privilege: no part of the PASID, but reported. */
CASE(enqcmds_reports_its_operand, PROVES("exit-qualifications:enqcmds.operand", "exit-reasons:73"),
     NEEDS(PASID))
{
	start();
	EXPECT(run(&guest_enqcmds, 0x80012345), ENQCMDS_EXITS);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0x80012345);
}
