/*
 * The rule book of VM entry as a table. Apart from the model's own header because the words of the
 * tables are macros, which should not be everywhere.
 */
#ifndef VMX_ENTRY_RULES_H
#define VMX_ENTRY_RULES_H

#include "vmx/entry_model.h"

/* ENTRY_RULE_guest_cs_present is the rule of the row guest.cs.present. */
enum entry_rule_number {
#define RULE(name, id, section, result, words, needs, broken, ...) ENTRY_RULE_##name,
#include "vmx/entry_rules.def"
#undef RULE
	ENTRY_RULES,
};

extern const struct entry_rule entry_rules[ENTRY_RULES];

#endif
