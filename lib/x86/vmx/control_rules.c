#include "mmu/pages.h"
#include "vmx/capabilities.h"
#include "vmx/control_rules.h"

static const struct control_rule rules[] = {
#define CONTROL_RULE(field, name, kind, other_field, other_name)		\
	{ CONTROL_##field##_##name, CONTROL_##kind, CONTROL_##other_field##_##other_name },
#include "sdm/control_rules.def"
};

const struct control_rule *control_rule(u32 number)
{
	return number < ARRAY_SIZE(rules) ? &rules[number] : NULL;
}

void vmcs_set_control_by_rules(enum control control)
{
	const struct control_rule *rule;
	u32 i;

	vmcs_set_control(control);
	for (i = 0; (rule = control_rule(i)); i++) {
		if (rule->kind == CONTROL_EXCLUDES && rule->control == control)
			vmcs_clear_control_by_rules(rule->other);
		if (rule->kind == CONTROL_EXCLUDES && rule->other == control)
			vmcs_clear_control_by_rules(rule->control);
		if (rule->kind == CONTROL_REQUIRES && rule->control == control &&
		    control_allowed(rule->other))
			vmcs_set_control_by_rules(rule->other);
	}
}

void vmcs_clear_control_by_rules(enum control control)
{
	const struct control_rule *rule;
	u32 i;

	if (!vmcs_has_control(control))
		return;
	vmcs_clear_control(control);
	for (i = 0; (rule = control_rule(i)); i++)
		if (rule->kind == CONTROL_REQUIRES && rule->other == control)
			vmcs_clear_control_by_rules(rule->control);
}

/* --- fields that go with a control ------------------------------------------------------ */

/* Fields that hold the physical address of a page. */
static const u32 pages[] = {
	VIRTUAL_APIC_ADDRESS, APIC_ACCESS_ADDRESS, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, PML_ADDRESS,
	EPTP_LIST_ADDRESS, VMREAD_BITMAP_ADDRESS, VMWRITE_BITMAP_ADDRESS,
	VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, SUB_PAGE_PERMISSION_TABLE_POINTER,
	LOW_PASID_DIRECTORY_ADDRESS, HIGH_PASID_DIRECTORY_ADDRESS, PID_POINTER_TABLE_ADDRESS,
};

static const struct {
	u32 field;
	u64 value;
} values[] = {
	{ VIRTUAL_PROCESSOR_IDENTIFIER, 1 },
	{ POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xf2 },
	{ VIRTUAL_TIMER_VECTOR, 0xf3 },
	{ LAST_PID_POINTER_INDEX, 0 },
	{ EPTP_INDEX, 0 },
	{ HLAT_PREFIX_SIZE, 0 },
	{ TPR_THRESHOLD, 0 },
	{ GUEST_INTERRUPT_STATUS, 0 },
	{ EOI_EXIT_BITMAP_0, 0 }, { EOI_EXIT_BITMAP_1, 0 },
	{ EOI_EXIT_BITMAP_2, 0 }, { EOI_EXIT_BITMAP_3, 0 },
	{ PML_INDEX, 511 },
	{ TSC_MULTIPLIER, BIT(48) },			/* a factor of 1: 28.3 */
	{ PLE_GAP, 0 }, { PLE_WINDOW, 0xffffffff },
	{ VMX_PREEMPTION_TIMER_VALUE, 0xffffffff },
	{ INSTRUCTION_TIMEOUT_CONTROL, 0xffffffff },
	{ XSS_EXITING_BITMAP, 0 }, { ENCLS_EXITING_BITMAP, 0 }, { ENCLV_EXITING_BITMAP, 0 },
	{ PCONFIG_EXITING_BITMAP, 0 },
	{ IA32_SPEC_CTRL_MASK, 0 }, { IA32_SPEC_CTRL_SHADOW, 0 },
	{ GUEST_DEADLINE, 0 }, { GUEST_DEADLINE_SHADOW, 0 },
	{ SEAM_GUEST_KEYID, 0 }, { SEAM_SHARED_EPT_POINTER, 0 },
	/* Registers, as they are while nobody uses what they are for. */
	{ GUEST_IA32_PERF_GLOBAL_CTRL, 0 }, { HOST_IA32_PERF_GLOBAL_CTRL, 0 },
	{ GUEST_IA32_BNDCFGS, 0 }, { GUEST_IA32_RTIT_CTL, 0 }, { GUEST_IA32_LBR_CTL, 0 },
	{ GUEST_UINV, 0 },
	{ GUEST_IA32_PKRS, 0 }, { HOST_IA32_PKRS, 0 },
	{ GUEST_IA32_SPEC_CTRL, 0 }, { HOST_IA32_SPEC_CTRL, 0 },
	{ GUEST_IA32_S_CET, 0 }, { GUEST_SSP, 0 }, { GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0 },
	{ HOST_IA32_S_CET, 0 }, { HOST_SSP, 0 }, { HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0 },
	{ GUEST_IA32_FRED_CONFIG, 0 }, { GUEST_IA32_FRED_STKLVLS, 0 },
	{ GUEST_IA32_FRED_RSP1, 0 }, { GUEST_IA32_FRED_RSP2, 0 }, { GUEST_IA32_FRED_RSP3, 0 },
	{ GUEST_IA32_FRED_SSP1, 0 }, { GUEST_IA32_FRED_SSP2, 0 }, { GUEST_IA32_FRED_SSP3, 0 },
	{ HOST_IA32_FRED_CONFIG, 0 }, { HOST_IA32_FRED_STKLVLS, 0 },
	{ HOST_IA32_FRED_RSP1, 0 }, { HOST_IA32_FRED_RSP2, 0 }, { HOST_IA32_FRED_RSP3, 0 },
	{ HOST_IA32_FRED_SSP1, 0 }, { HOST_IA32_FRED_SSP2, 0 }, { HOST_IA32_FRED_SSP3, 0 },
};

/* What does not exist although it should is the failure of a case about that field. */
static void fill(u32 field, u64 value)
{
	if (vmcs_field_exists(field))
		vmwrite_outcome(field, value);
}

void vmcs_fill_fields_of_controls(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(pages); i++)
		fill(pages[i], physical(page_alloc()));
	for (i = 0; i < ARRAY_SIZE(values); i++)
		fill(values[i].field, values[i].value);
	/* HLAT paging finds the guest's own tables, and in them the same translations. */
	fill(HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER, vmread(GUEST_CR3));
}
