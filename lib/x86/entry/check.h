/*
 * Cases of VM entry from the rule book: one per rule, which breaks that rule alone, and one per
 * thing that is allowed although it does not look so.
 *
 *	#include "entry/check.h"
 *	#include "vmx/entry_rules_host.def"
 *
 * A case starts from every base state (vmx/base_states.def) that this processor has and from which
 * the rule makes sense, makes one trial after the other, and enters. Three judge: the model must
 * name the rule (so the table is right), the CPU must end in what the rule's row expects, and the
 * audit compares the CPU with the model. Then the last good values next to the bad one are entered,
 * and must run. What fails says from which base state it began; the other base states are still
 * tried. Where every trial breaks another rule as well, so that the entry would be refused anyhow,
 * the case proves nothing: it is skipped if the processor lacks what it needs, and fails if not.
 */
#ifndef ENTRY_CHECK_H
#define ENTRY_CHECK_H

#include "cpu/features.h"
#include "ept/ept.h"
#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"

#define VMFUNC_CTL(name)	{ "VM-function control " #name, need_control, \
				  CONTROL_VMFUNC_##name, 0 }
#define MISC_BIT(bit, words)	{ words, need_misc, BIT(bit), 0 }

/* One case: how to break its rule; `rule` ENTRY_RULES: nothing is broken. */
struct entry_check {
	entry_trial *change;
	u32 rule;
};

/* The body of the cases. */
void entry_check(const struct case_def *this_case);


#define ENTRY_TRIAL(function, ...)						\
	static const char *function(struct entry_scene *scene, u32 n)		\
	{									\
		struct entry_input *in __maybe_unused = &scene->in;		\
		u64 v __maybe_unused = n;					\
										\
		__VA_ARGS__							\
		return n && !scene->listed ? entry_no_more : NULL;		\
	}

#define RULE(name, id, section, result, words, needs, broken, ...)		\
	ENTRY_TRIAL(violate_##name, __VA_ARGS__)				\
	static const struct entry_check check_##name = { violate_##name, ENTRY_RULE_##name }; \
	CASE_RUN(name, entry_check, PROVES("vm-entry-checks:" id), NEEDS needs, ROW(&check_##name));
#define ALLOWED(name, id, section, words, needs, ...)				\
	ENTRY_TRIAL(allow_##name, __VA_ARGS__)					\
	static const struct entry_check check_##name = { allow_##name, ENTRY_RULES }; \
	CASE_RUN(name, entry_check, PROVES("vm-entry-checks:" id), NEEDS needs, ROW(&check_##name));

#endif
