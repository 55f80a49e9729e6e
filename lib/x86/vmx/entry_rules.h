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

/* Who is told of each rule that is not kept, in the order of the table. */
struct entry_notes {
	void (*take)(struct entry_notes *notes, u32 rule, enum verdict verdict);
};

/* Judges by all rules of a stage; `msr`: the entry of the list, for ENTRY_STAGE_MSR_LOAD. */
void entry_judge(enum entry_stage stage, const struct entry_input *in, const struct entry_msr *msr,
		 struct entry_notes *notes);

/*
 * BROKEN: bits 3:0 of the TPR threshold are above bits 7:4 of VTPR, and that counts. The address of
 * the virtual-APIC page must be a good one.
 */
enum verdict entry_below_threshold(const struct entry_input *in);

extern const struct entry_rule entry_rules[ENTRY_RULES];

#endif
