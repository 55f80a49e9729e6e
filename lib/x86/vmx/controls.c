#include "vmx/controls.h"
#include "vmx/vmcs.h"

static const struct {
	u32 encoding;
	const char *words;
} fields[CONTROL_FIELDS] = {
	[CONTROL_FIELD_PIN]	= { PIN_BASED_VM_EXECUTION_CONTROLS, "pin-based" },
	[CONTROL_FIELD_PROC1]	= { PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
				    "primary processor-based" },
	[CONTROL_FIELD_PROC2]	= { SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
				    "secondary processor-based" },
	[CONTROL_FIELD_PROC3]	= { TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
				    "tertiary processor-based" },
	[CONTROL_FIELD_EXIT]	= { PRIMARY_VM_EXIT_CONTROLS, "primary VM-exit" },
	[CONTROL_FIELD_EXIT2]	= { SECONDARY_VM_EXIT_CONTROLS, "secondary VM-exit" },
	[CONTROL_FIELD_ENTRY]	= { VM_ENTRY_CONTROLS, "VM-entry" },
	[CONTROL_FIELD_VMFUNC]	= { VM_FUNCTION_CONTROLS, "VM-function" },
};

const u16 all_controls[CONTROLS_DEFINED] = {
#define CONTROL(field, bit, name, lower, default_class, words)	CONTROL_##field##_##name,
#include "sdm/controls.def"
};

const char *control_words(enum control control)
{
	switch (control) {
#define CONTROL(field, bit, name, lower, default_class, words)			\
	case CONTROL_##field##_##name: return words;
#include "sdm/controls.def"
	case CONTROL_NONE:
		break;
	}
	return "reserved";
}

const char *control_field_words(enum control_field field)
{
	return fields[field].words;
}

u32 control_field_encoding(enum control_field field)
{
	return fields[field].encoding;
}

enum control control_field_activation(enum control_field field)
{
	switch (field) {
	case CONTROL_FIELD_PROC2:
		return CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS;
	case CONTROL_FIELD_PROC3:
		return CONTROL_PROC1_ACTIVATE_TERTIARY_CONTROLS;
	case CONTROL_FIELD_EXIT2:
		return CONTROL_EXIT_ACTIVATE_SECONDARY_CONTROLS;
	case CONTROL_FIELD_VMFUNC:
		return CONTROL_PROC2_ENABLE_VM_FUNCTIONS;
	default:
		return CONTROL_NONE;
	}
}
