/*
 * What the guest's segment registers do once a VM entry has loaded them: 29.3.2.2 Loading Guest
 * Segment Registers and Descriptor-Table Registers; 30.3.2 Saving Segment Registers and
 * Descriptor-Table Registers.
 *
 * The privilege level is SS.DPL, whatever the selectors and the other segments say, also of an SS
 * that is unusable: so these differ here, and a privileged instruction tells them apart. LDTR has
 * nothing of a register that an instruction reads but its selector; its users are the loads of
 * segments from the LDT.
 */
#include "cpu/cpu.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define CODE_CONFORMING	0xa09f
#define CODE_PLAIN	0xa09b
#define DATA_AT(dpl)	(0xc093ull | (dpl) << 5)
#define AT(dpl)		((u64)(dpl) << 5)
#define SAVED_OF_SS	(RIGHTS_UNUSABLE | BITS(6, 5))

/* --- the privilege level ------------------------------------------------------------------ */

GUEST_CODE(clts, "", "clts; cpuid");

struct privilege_row {
	u64 cs_selector, cs_rights, ss_selector, ss_rights;
	bool unrestricted;
};

/* CLTS is for CPL 0 alone: elsewhere it is #GP(0), which exits. */
static void privilege_is_ss_dpl(const struct case_def *this_case)
{
	const struct privilege_row *row = this_case->row;
	bool privileged = !RIGHTS_DPL(row->ss_rights);
	struct ept ept;

	if (row->unrestricted) {
		ept_start(&ept, 0);
		vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	}
	vmwrite(GUEST_CS_SELECTOR, row->cs_selector);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, row->cs_rights);
	vmwrite(GUEST_SS_SELECTOR, row->ss_selector);
	vmwrite(GUEST_SS_ACCESS_RIGHTS, row->ss_rights);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	EXPECT(enter_at_instruction(&guest_clts),
	       OUTCOME_EXIT(privileged ? EXIT_CPUID : EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_SS_ACCESS_RIGHTS) & SAVED_OF_SS, row->ss_rights & SAVED_OF_SS);
	EXPECT_EQ(vmread(GUEST_SS_SELECTOR), row->ss_selector);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), row->cs_selector);
	EXPECT_EQ(vmread(GUEST_CS_ACCESS_RIGHTS) & BITS(6, 5), row->cs_rights & BITS(6, 5));
}

#define PRIVILEGE(name, facts, needs, ...)						\
	static const struct privilege_row row_##name = { __VA_ARGS__ };			\
	CASE_RUN(name, privilege_is_ss_dpl, PROVES facts, NEEDS needs, ROW(&row_##name))
#define OF_USABLE	("host-and-exit:entry.load.cpl", "host-and-exit:save.seg")
#define OF_UNUSABLE	("host-and-exit:entry.load.cpl", "host-and-exit:entry.load.ss_unusable", \
			 "host-and-exit:save.ss_unusable")

PRIVILEGE(conforming_code_of_dpl_0_at_cpl_3, OF_USABLE, (VMX),
	  SELECTOR_CODE64 | 3, CODE_CONFORMING, SELECTOR_DATA | 3, DATA_AT(3), false);
PRIVILEGE(conforming_code_of_dpl_0_at_cpl_1, OF_USABLE, (VMX),
	  SELECTOR_CODE64 | 1, CODE_CONFORMING, SELECTOR_DATA | 1, DATA_AT(1), false);
PRIVILEGE(unusable_ss_at_cpl_3, OF_UNUSABLE, (VMX),
	  SELECTOR_CODE64 | 3, CODE_PLAIN | AT(3), 3, RIGHTS_UNUSABLE | AT(3), false);
PRIVILEGE(unusable_ss_and_conforming_code_at_cpl_3, OF_UNUSABLE, (VMX),
	  SELECTOR_CODE64 | 3, CODE_CONFORMING, 3, RIGHTS_UNUSABLE | AT(3), false);
PRIVILEGE(cs_rpl_3_at_cpl_0, OF_USABLE, (VMX, EPT, PROC2(UNRESTRICTED_GUEST)),
	  SELECTOR_CODE64 | 3, CODE_PLAIN, SELECTOR_DATA, DATA_AT(0), true);
PRIVILEGE(ss_rpl_3_at_cpl_0, OF_USABLE, (VMX, EPT, PROC2(UNRESTRICTED_GUEST)),
	  SELECTOR_CODE64, CODE_PLAIN, SELECTOR_DATA | 3, DATA_AT(0), true);
PRIVILEGE(rpl_0_at_cpl_3, OF_USABLE, (VMX, EPT, PROC2(UNRESTRICTED_GUEST)),
	  SELECTOR_CODE64, CODE_PLAIN | AT(3), SELECTOR_DATA, DATA_AT(3), true);

/* --- LDTR --------------------------------------------------------------------------------- */

#define IN_LDT		4
#define FLAT_DATA	0x00cf93000000ffffull
#define LDT_RIGHTS	0x82

GUEST_CODE(load_from_ldt, "", "mov %eax, %es; mov %es, %ebx; cpuid");

/* The second descriptor is the only one: the limit must reach its last byte. */
static void load_from_ldt(u64 selector, u64 limit, u64 rights, bool faults)
{
	const u64 descriptor = sizeof(u64) | IN_LDT;
	u64 *table = page_alloc();

	table[1] = FLAT_DATA;
	vmwrite(GUEST_LDTR_SELECTOR, selector);
	vmwrite(GUEST_LDTR_BASE, (u64)table);
	vmwrite(GUEST_LDTR_LIMIT, limit);
	vmwrite(GUEST_LDTR_ACCESS_RIGHTS, rights);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	guest_regs()->rax = descriptor;
	audit_guest_changes_segments();
	if (faults) {
		REQUIRE(enter_at_instruction(&guest_load_from_ldt),
			OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
		EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), descriptor);
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_load_from_ldt.at);
	} else {
		REQUIRE(enter_at_instruction(&guest_load_from_ldt), OUTCOME_EXIT(EXIT_CPUID));
		EXPECT_EQ(guest_regs()->rbx, descriptor);
	}
}

CASE(ldtr_is_loaded, PROVES("host-and-exit:entry.load.seg_usable"), NEEDS(VMX))
{
	load_from_ldt(SELECTOR_SPARE, 2 * sizeof(u64) - 1, LDT_RIGHTS, false);
}

CASE(ldtr_limit_is_loaded, PROVES("host-and-exit:entry.load.seg_usable"), NEEDS(VMX))
{
	load_from_ldt(SELECTOR_SPARE, 2 * sizeof(u64) - 2, LDT_RIGHTS, true);
}

/* Only the unusable bit tells, not a selector of 0. */
CASE(usable_ldtr_with_null_selector,
     PROVES("host-and-exit:entry.load.seg_usable", "host-and-exit:entry.load.null_usable"),
     NEEDS(VMX))
{
	load_from_ldt(0, 2 * sizeof(u64) - 1, LDT_RIGHTS, false);
}

CASE(unusable_ldtr_faults, PROVES("host-and-exit:entry.load.ldtr_unusable"), NEEDS(VMX))
{
	load_from_ldt(SELECTOR_SPARE, 2 * sizeof(u64) - 1, RIGHTS_UNUSABLE | LDT_RIGHTS, true);
}

/* --- unusable data segments --------------------------------------------------------------- */

GUEST_CODE(read_by_fs, "", "mov %fs:(%rbx), %eax; cpuid");

static void read_by_unusable_fs(u64 cs_selector, u64 cs_rights, u32 reason)
{
	guest_value = 0x12345678;
	vmwrite(GUEST_CS_SELECTOR, cs_selector);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, cs_rights);
	vmwrite(GUEST_FS_SELECTOR, SELECTOR_DATA);
	vmwrite(GUEST_FS_BASE, 0);
	vmwrite(GUEST_FS_ACCESS_RIGHTS, RIGHTS_UNUSABLE | DATA_AT(0));
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	guest_regs()->rbx = (u64)&guest_value;
	REQUIRE(enter_at_instruction(&guest_read_by_fs), OUTCOME_EXIT(reason));
}

CASE(unusable_segment_faults_outside_64_bit_mode, PROVES("host-and-exit:entry.load.unusable"),
     NEEDS(VMX))
{
	read_by_unusable_fs(SELECTOR_CODE32, 0xc09b, EXIT_EXCEPTION_OR_NMI);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP);
}

CASE(unusable_segment_works_in_64_bit_mode, PROVES("host-and-exit:entry.load.unusable"),
     NEEDS(VMX))
{
	read_by_unusable_fs(SELECTOR_CODE64, CODE_PLAIN, EXIT_CPUID);
	EXPECT_EQ(guest_regs()->rax, 0x12345678);
}
