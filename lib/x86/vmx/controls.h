/*
 * VMX controls: one enumerator per defined bit, from sdm/controls.def. CONTROL_PROC1_HLT_EXITING is
 * bit 7 of the primary processor-based VM-execution controls; its value packs both.
 */
#ifndef VMX_CONTROLS_H
#define VMX_CONTROLS_H

#include "types.h"

enum control_field {
	CONTROL_FIELD_PIN,
	CONTROL_FIELD_PROC1,
	CONTROL_FIELD_PROC2,
	CONTROL_FIELD_PROC3,
	CONTROL_FIELD_EXIT,
	CONTROL_FIELD_EXIT2,
	CONTROL_FIELD_ENTRY,
	CONTROL_FIELD_VMFUNC,
	CONTROL_FIELDS,
};

enum control {
#define CONTROL(field, bit, name, lower, default_class, words) \
	CONTROL_##field##_##name = CONTROL_FIELD_##field << 8 | (bit),
#include "sdm/controls.def"
	CONTROL_NONE = 0xffff,
};

/* All of them, in the order of sdm/controls.def. */
enum {
	CONTROLS_DEFINED = 0
#define CONTROL(field, bit, name, lower, default_class, words)	+ 1
#include "sdm/controls.def"
};
extern const u16 all_controls[CONTROLS_DEFINED];

static inline enum control_field control_field(enum control control)
{
	return control >> 8;
}

static inline u64 control_bit(enum control control)
{
	return BIT(control & 0xff);
}

/* The words for a control, e.g. "HLT exiting", and for its field. */
const char *control_words(enum control control);
const char *control_field_words(enum control_field field);

/* The VMCS field that holds the controls. */
u32 control_field_encoding(enum control_field field);

/*
 * The control without which the controls of `field` count as 0 and are not looked at; CONTROL_NONE
 * for a field that always counts.
 */
enum control control_field_activation(enum control_field field);

#endif
