/*
 * What this processor's VMX offers: Appendix A, VMX Capability Reporting Facility. Read once; never
 * a list of what some processor had.
 */
#ifndef VMX_CAPABILITIES_H
#define VMX_CAPABILITIES_H

#include "vmx/controls.h"

struct capabilities {
	u64 basic;		/* IA32_VMX_BASIC */
	u64 misc;		/* IA32_VMX_MISC */
	u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	u64 vmcs_enum;
	u64 ept_vpid_cap;	/* 0 where the MSR does not exist */
	/* By the TRUE MSRs where they exist. */
	u64 must_be_1[CONTROL_FIELDS], may_be_1[CONTROL_FIELDS];
};

/* Valid where VMX is supported. */
const struct capabilities *capabilities(void);

/* CPUID.1:ECX.VMX[bit 5]. */
bool vmx_supported(void);

/* Whether a control may be 1. */
bool control_allowed(enum control control);

/* Whether the VMCS has the field, so that the MSR of its allowed settings exists. */
bool control_field_exists(enum control_field field);

/* Where the allowed settings of a field are: A.3 VM-Execution Controls, A.4, A.5, A.11. */
struct control_source {
	u32 msr, true_msr;	/* 0: there is no TRUE MSR */
	bool allowed1_only;	/* the whole MSR is the allowed 1-settings, else bits 63:32 */
};
const struct control_source *control_field_source(enum control_field field);

/* 27.2 Format of the VMCS Region: bits 30:0 of IA32_VMX_BASIC. */
static inline u32 vmcs_revision(void)
{
	return capabilities()->basic & BITS(30, 0);
}

/*
 * The number of bits that a VMXON pointer or VMCS pointer may use, 32 to 52: MAXPHYADDR, less what
 * the SEAM's keys take, or 32: 27.11.5 VMXON Region, notes 2 and 3.
 */
u32 vmx_pointer_width(void);

/* Bits of the capability MSRs: EPT_CAP_AD, VPID_CAP_INVVPID, MISC_CAP_ACTIVITY_HLT, ... */
enum capability_bit {
#define CAPABILITY(group, bit, name, needs, words) group##_CAP_##name = BIT(bit),
#include "sdm/capability_bits.def"
};

/* --- needs: NEEDS(VMX, PROC2(ENABLE_EPT), EPT_AD) ---------------------------- */

bool need_vmx(u64 unused);
bool need_control(u64 control);
bool need_control_field(u64 field);
bool need_ept_vpid_cap(u64 bits);
bool need_misc(u64 bits);

#define VMX		{ "VMX operation", need_vmx, 0, 0 }
#define PIN(name)	{ "pin-based control " #name, need_control, CONTROL_PIN_##name, 0 }
#define PROC1(name)	{ "primary processor-based control " #name, need_control, \
			  CONTROL_PROC1_##name, 0 }
#define PROC2(name)	{ "secondary processor-based control " #name, need_control, \
			  CONTROL_PROC2_##name, 0 }
#define PROC3(name)	{ "tertiary processor-based control " #name, need_control, \
			  CONTROL_PROC3_##name, 0 }
#define EXIT_CTL(name)	{ "VM-exit control " #name, need_control, CONTROL_EXIT_##name, 0 }
#define EXIT2_CTL(name)	{ "secondary VM-exit control " #name, need_control, \
			  CONTROL_EXIT2_##name, 0 }
#define ENTRY_CTL(name)	{ "VM-entry control " #name, need_control, CONTROL_ENTRY_##name, 0 }
#define CONTROL_FIELD(field)	{ "the VMCS field " #field " of controls", need_control_field, \
				  CONTROL_FIELD_##field, 0 }
#define EPT_CAP(name)	{ "IA32_VMX_EPT_VPID_CAP: " #name, need_ept_vpid_cap, EPT_CAP_##name, 0 }
#define VPID_CAP(name)	{ "IA32_VMX_EPT_VPID_CAP: " #name, need_ept_vpid_cap, VPID_CAP_##name, 0 }
#define EPT_AD		EPT_CAP(AD)

#endif
