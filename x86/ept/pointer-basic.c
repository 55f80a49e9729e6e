/*
 * The EPT pointer: what VM entry accepts in it, and which controls want EPT.
 *
 * Bits 2:0 of the EPTP (27.6.11) are the memory type of the EPT paging structures, bits 5:3 their
 * levels minus 1, bit 6 turns on accessed and dirty flags, bit 7 supervisor shadow-stack control,
 * and the rest is the physical address of the first table. What of that a processor supports is
 * in IA32_VMX_EPT_VPID_CAP. When "enable EPT" is 1 and the EPTP says something else, VM entry
 * fails with VMfailValid(7): 29.2.1.1 VM-Execution Control Fields. It fails likewise for controls
 * that are 1 while "enable EPT" is 0 though they mean nothing without it.
 */
#include "cpu/features.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/control_rules.h"

BEFORE_EACH_CASE(vmx_start);

static void guest(void)
{
}

/* --- values that are refused ----------------------------------------------- */

/* In the good EPTP the bits in `field` are replaced: by each of `values`, or by each single bit. */
struct pointer {
	u64 field;
	u64 values;			/* bit n: the value n, of the field at its place */
	bool above_maxphyaddr;		/* the field is 63:MAXPHYADDR */
};

#define REPLACE(...)	ROW((&(const struct pointer){ __VA_ARGS__ }))

static void try_pointer(u64 pointer, outcome_t outcome)
{
	vmwrite(EPT_POINTER, pointer);
	if (!EXPECT(enter(guest), outcome))
		case_note("eptp", "%#lx", pointer);
}

/* Every value that the row describes in place of the good one; then the good one. */
static void refused(const struct case_def *this_case)
{
	const struct pointer *row = this_case->row;
	u64 field = row->above_maxphyaddr ? BITS(63, maxphyaddr()) : row->field, bit, n;
	struct ept ept;

	ept_start(&ept, 0);
	for (n = 0; row->values >> n; n++)
		if (row->values >> n & 1)
			try_pointer((ept.pointer & ~field) | n * (field & -field),
				    OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	for (; !row->values && field; field &= ~bit) {
		bit = field & -field;
		try_pointer(ept.pointer | bit,
			    OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	}
	try_pointer(ept.pointer, GUEST_DONE);
}

CASE_RUN(memory_type_reserved, refused,
	 PROVES("vm-entry-checks:ctl.eptp.memory_type", "ept:eptp.format.memory_type",
     "field-formats:eptp.memory_type"),
	 NEEDS(VMX, EPT),
	 REPLACE(.field = BITS(2, 0),
		 .values = BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(7)));
CASE_RUN(memory_type_uc_unsupported, refused,
	 PROVES("vm-entry-checks:ctl.eptp.memory_type", "ept:eptp.format.memory_type"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(UC)), REPLACE(.field = BITS(2, 0), .values = BIT(EPT_UC)));
CASE_RUN(memory_type_wb_unsupported, refused,
	 PROVES("vm-entry-checks:ctl.eptp.memory_type", "ept:eptp.format.memory_type"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(WB)), REPLACE(.field = BITS(2, 0), .values = BIT(EPT_WB)));
CASE_RUN(walk_length_invalid, refused,
	 PROVES("vm-entry-checks:ctl.eptp.walk_length", "ept:eptp.format.walk_length",
     "field-formats:eptp.walk_length"),
	 NEEDS(VMX, EPT),
	 REPLACE(.field = BITS(5, 3),
		 .values = BIT(0) | BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7)));
CASE_RUN(walk_length_5_unsupported, refused,
	 PROVES("vm-entry-checks:ctl.eptp.walk_length", "ept:eptp.format.walk_length"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(WALK_5)), REPLACE(.field = BITS(5, 3), .values = BIT(4)));
CASE_RUN(accessed_dirty_unsupported, refused,
	 PROVES("vm-entry-checks:ctl.eptp.ad_unsupported", "ept:eptp.format.ad",
     "field-formats:eptp.accessed_dirty"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(AD)), REPLACE(.field = EPTP_ACCESSED_DIRTY));
CASE_RUN(supervisor_shadow_stack_unsupported, refused,
	 PROVES("vm-entry-checks:ctl.eptp.sss_unsupported", "ept:eptp.format.sss",
     "field-formats:eptp.supervisor_shadow_stack"),
	 NEEDS(VMX, EPT, NO_EPT_CAP(SUPERVISOR_SHADOW_STACK)),
	 REPLACE(.field = EPTP_SUPERVISOR_SHADOW_STACK));
CASE_RUN(reserved_bits, refused,
	 PROVES("vm-entry-checks:ctl.eptp.reserved", "ept:eptp.format.reserved",
     "field-formats:eptp.reserved_11_8"),
	 NEEDS(VMX, EPT), REPLACE(.field = BITS(11, 8)));
CASE_RUN(address_above_maxphyaddr, refused,
	 PROVES("vm-entry-checks:ctl.eptp.width", "ept:eptp.format.reserved",
     "field-formats:eptp.reserved_63_m"),
	 NEEDS(VMX, EPT), REPLACE(.above_maxphyaddr = true));

/* --- values that are accepted ---------------------------------------------- */

static void accepted(const struct case_def *this_case)
{
	const struct pointer *row = this_case->row;
	struct ept ept;

	ept_start(&ept, 0);
	try_pointer((ept.pointer & ~row->field) | row->values, GUEST_DONE);
}

CASE_RUN(memory_type_uc, accepted,
	 PROVES("vm-entry-checks:ctl.eptp.memory_type", "vmx-capabilities:ept.memory_type_uc",
		"ept:memtype.structures",
     "field-formats:eptp.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(UC)), REPLACE(.field = BITS(2, 0), .values = EPT_UC));
CASE_RUN(memory_type_wb, accepted,
	 PROVES("vm-entry-checks:ctl.eptp.memory_type", "vmx-capabilities:ept.memory_type_wb",
		"ept:memtype.structures",
     "field-formats:eptp.memory_type"),
	 NEEDS(VMX, EPT, EPT_CAP(WB)), REPLACE(.field = BITS(2, 0), .values = EPT_WB));
CASE_RUN(walk_length_4, accepted,
	 PROVES("vm-entry-checks:ctl.eptp.walk_length", "vmx-capabilities:ept.walk_length_4",
     "field-formats:eptp.walk_length"),
	 NEEDS(VMX, EPT), REPLACE(.field = BITS(5, 3), .values = EPTP_WALK_LENGTH(4)));
CASE_RUN(accessed_dirty, accepted,
	 PROVES("vm-entry-checks:ctl.eptp.ad_unsupported", "vmx-capabilities:ept.accessed_dirty"),
	 NEEDS(VMX, EPT, EPT_AD), REPLACE(.values = EPTP_ACCESSED_DIRTY));
CASE_RUN(supervisor_shadow_stack, accepted,
	 PROVES("vm-entry-checks:ctl.eptp.sss_unsupported",
		"vmx-capabilities:ept.supervisor_shadow_stack"),
	 NEEDS(VMX, EPT, EPT_CAP(SUPERVISOR_SHADOW_STACK)),
	 REPLACE(.values = EPTP_SUPERVISOR_SHADOW_STACK));

/* With 5 levels, bits 56:48 of a guest-physical address choose an entry of one more table. */
CASE(walk_length_5, PROVES("ept:walk.pml5.select", "ept:eptp.format.walk_length",
			   "vmx-capabilities:ept.walk_length_5"),
     NEEDS(VMX, EPT, EPT_CAP(WALK_5)))
{
	struct ept ept;
	u64 *pml5 = page_alloc();

	ept_start(&ept, 0);
	pml5[0] = physical(ept.root) | ept.all_rights;
	try_pointer(physical(pml5) | (ept.pointer & BITS(2, 0)) | EPTP_WALK_LENGTH(5), GUEST_DONE);
	/* The guest's first access is to its own paging structures. */
	pml5[0] = 0;
	vmwrite(EPT_POINTER, physical(pml5) | (ept.pointer & BITS(2, 0)) | EPTP_WALK_LENGTH(5));
	ept.pointer = vmread(EPT_POINTER);
	ept_invalidate(&ept);
	EXPECT(enter(guest), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
}

/* The field is not looked at while "enable EPT" is 0. */
CASE(any_pointer_without_ept, PROVES("vm-entry-checks:ctl.eptp.reserved"), NEEDS(VMX, EPT))
{
	struct ept ept;

	ept_start(&ept, 0);
	vmcs_clear_control(CONTROL_PROC2_ENABLE_EPT);
	try_pointer(~0ull, GUEST_DONE);
}

/* --- controls that want EPT ------------------------------------------------ */

/* What else the control wants is there, so that it is refused for the lack of EPT alone. */
static void needs_ept(const struct case_def *this_case)
{
	enum control control = *(const enum control *)this_case->row;
	struct ept ept;

	vmcs_fill_fields_of_controls();
	vmcs_set_control_by_rules(control);
	vmcs_clear_control(CONTROL_PROC2_ENABLE_EPT);
	EXPECT(enter(guest), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	ept_start(&ept, 0);
	EXPECT(enter(guest), GUEST_DONE);
}

#define DEPENDENT(name, control_, proves, needs)			\
	CASE_RUN(name##_needs_ept, needs_ept, proves, needs,		\
		 ROW((&(const enum control){ CONTROL_##control_ })))

DEPENDENT(unrestricted_guest, PROC2_UNRESTRICTED_GUEST,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_unrestricted_guest"),
	  NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST)));
DEPENDENT(enable_pml, PROC2_ENABLE_PML, PROVES("vm-entry-checks:ctl.ept.needed_by_enable_pml"),
	  NEEDS(VMX, EPT, PROC2(ENABLE_PML)));
DEPENDENT(mode_based_execute_control, PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_mode_based_execute_control_for_ept"),
	  NEEDS(VMX, EPT, PROC2(MODE_BASED_EXECUTE_CONTROL_FOR_EPT)));
DEPENDENT(sub_page_write_permissions, PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_sub_page_write_permissions_for_ept"),
	  NEEDS(VMX, EPT, PROC2(SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)));
DEPENDENT(intel_pt_uses_guest_physical_addresses, PROC2_INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_intel_pt_uses_guest_physical_addresses"),
	  NEEDS(VMX, EPT, PROC2(INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES)));
DEPENDENT(pebs_uses_guest_physical_addresses, PROC3_PEBS_USES_GUEST_PHYSICAL_ADDRESSES,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_pebs_uses_guest_physical_addresses"),
	  NEEDS(VMX, EPT, PROC3(PEBS_USES_GUEST_PHYSICAL_ADDRESSES)));
DEPENDENT(enable_hlat, PROC3_ENABLE_HLAT,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_enable_hlat"),
	  NEEDS(VMX, EPT, PROC3(ENABLE_HLAT)));
DEPENDENT(ept_paging_write_control, PROC3_EPT_PAGING_WRITE_CONTROL,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_ept_paging_write_control"),
	  NEEDS(VMX, EPT, PROC3(EPT_PAGING_WRITE_CONTROL)));
DEPENDENT(guest_paging_verification, PROC3_GUEST_PAGING_VERIFICATION,
	  PROVES("vm-entry-checks:ctl.ept.needed_by_guest_paging_verification"),
	  NEEDS(VMX, EPT, PROC3(GUEST_PAGING_VERIFICATION)));
