/*
 * VMX controls that VM entry accepts together: sdm/control_rules.def, and the fields that go with
 * a control.
 *
 *	vmcs_fill_fields_of_controls();
 *	vmcs_set_control_by_rules(CONTROL_PIN_VIRTUAL_NMIS);	sets "NMI exiting", too
 */
#ifndef VMX_CONTROL_RULES_H
#define VMX_CONTROL_RULES_H

#include "vmx/vmcs.h"

enum control_rule_kind { CONTROL_REQUIRES, CONTROL_EXCLUDES };

struct control_rule {
	enum control control;
	enum control_rule_kind kind;
	enum control other;
};

/* The rule of this number, from 0; NULL behind the last one. */
const struct control_rule *control_rule(u32 number);

/*
 * Sets a control of the current VMCS, and whatever else VM entry wants then: what it requires is
 * set, what it excludes is cleared. A control that this processor does not let be 1 is left alone,
 * except `control` itself.
 */
void vmcs_set_control_by_rules(enum control control);

/* Clears a control of the current VMCS, and those that require it. */
void vmcs_clear_control_by_rules(enum control control);

/*
 * Gives each field that VM entry or the guest looks at only because of some control a value that
 * is good for it: fresh pages for structures in memory, long times for timers, vectors that exist.
 * No control is touched. EPT_POINTER is left to ept_start(). To be called with the guest state of
 * vmcs_set_defaults() in the current VMCS.
 */
void vmcs_fill_fields_of_controls(void);

#endif
