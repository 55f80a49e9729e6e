#include "cpu/features.h"
#include "cpu/safe.h"
#include "vmx/capabilities.h"

static struct capabilities caps;
static bool caps_read;

/* Where a field's allowed settings are: A.3 VM-Execution Controls, A.4, A.5, A.11. */
static const struct control_source sources[CONTROL_FIELDS] = {
	[CONTROL_FIELD_PIN]	= { IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, false },
	[CONTROL_FIELD_PROC1]	= { IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS, false },
	[CONTROL_FIELD_PROC2]	= { IA32_VMX_PROCBASED_CTLS2, 0, false },
	[CONTROL_FIELD_PROC3]	= { IA32_VMX_PROCBASED_CTLS3, 0, true },
	[CONTROL_FIELD_EXIT]	= { IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS, false },
	[CONTROL_FIELD_EXIT2]	= { IA32_VMX_EXIT_CTLS2, 0, true },
	[CONTROL_FIELD_ENTRY]	= { IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS, false },
	[CONTROL_FIELD_VMFUNC]	= { IA32_VMX_VMFUNC, 0, true },
};

bool control_field_exists(enum control_field field)
{
	enum control activation = control_field_activation(field);

	return activation == CONTROL_NONE || control_allowed(activation);
}

const struct control_source *control_field_source(enum control_field field)
{
	return &sources[field];
}

static void read_controls(enum control_field field)
{
	u64 value;

	if (!control_field_exists(field))
		return;
	/* IA32_VMX_BASIC[55]: the TRUE MSRs exist. */
	if (sources[field].true_msr && caps.basic & BIT(55))
		value = rdmsr(sources[field].true_msr);
	else
		value = rdmsr(sources[field].msr);
	caps.must_be_1[field] = sources[field].allowed1_only ? 0 : (u32)value;
	caps.may_be_1[field] = sources[field].allowed1_only ? value : value >> 32;
}

const struct capabilities *capabilities(void)
{
	static const enum control_field order[] = {
		/* A field's existence depends on those before it. */
		CONTROL_FIELD_PIN, CONTROL_FIELD_PROC1, CONTROL_FIELD_PROC2, CONTROL_FIELD_PROC3,
		CONTROL_FIELD_EXIT, CONTROL_FIELD_EXIT2, CONTROL_FIELD_ENTRY, CONTROL_FIELD_VMFUNC,
	};
	u32 i;

	if (caps_read || !vmx_supported())
		return &caps;
	caps_read = true;
	caps.basic = rdmsr(IA32_VMX_BASIC);
	caps.misc = rdmsr(IA32_VMX_MISC);
	caps.cr0_fixed0 = rdmsr(IA32_VMX_CR0_FIXED0);
	caps.cr0_fixed1 = rdmsr(IA32_VMX_CR0_FIXED1);
	caps.cr4_fixed0 = rdmsr(IA32_VMX_CR4_FIXED0);
	caps.cr4_fixed1 = rdmsr(IA32_VMX_CR4_FIXED1);
	caps.vmcs_enum = rdmsr(IA32_VMX_VMCS_ENUM);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		read_controls(order[i]);
	if (control_allowed(CONTROL_PROC2_ENABLE_EPT) || control_allowed(CONTROL_PROC2_ENABLE_VPID))
		caps.ept_vpid_cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
	return &caps;
}

bool vmx_supported(void)
{
	return cpuid(1).ecx & BIT(5);
}

u32 vmx_pointer_width(void)
{
	/* IA32_VMX_BASIC[48] */
	return capabilities()->basic & BIT(48) ? 32 : maxphyaddr();
}

bool control_allowed(enum control control)
{
	return capabilities()->may_be_1[control_field(control)] & control_bit(control);
}

bool need_vmx(u64 unused __maybe_unused)
{
	return vmx_supported();
}

bool need_control(u64 control)
{
	return vmx_supported() && control_allowed(control);
}

bool need_ept_vpid_cap(u64 bits)
{
	return (capabilities()->ept_vpid_cap & bits) == bits;
}

bool need_misc(u64 bits)
{
	return (capabilities()->misc & bits) == bits;
}

bool need_control_field(u64 field)
{
	return vmx_supported() && control_field_exists(field);
}
