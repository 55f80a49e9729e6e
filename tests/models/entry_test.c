/*
 * The model of VM entry (lib/x86/vmx/entry_model.c) on the host: one test per rule.
 *
 * Every rule is broken as its row in entry_rules*.def says, from every base state, in every trial,
 * on two imagined processors: one that has everything and one that has next to nothing. The model
 * must name the rule, and must predict what spec/vm-entry-checks.csv expects, which this program
 * reads itself. And it must no longer name the rule when a single field is taken back: the
 * conforming vector next to the violating one.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"
#include "entry_world.h"

/* --- rules ------------------------------------------------------------------------ */

#define HEAD	(struct entry_scene *scene, u32 n) \
		{ struct entry_input *in __maybe_unused = &scene->in; u64 v __maybe_unused = n;
#define RULE(name, id, section, result, words, needs, broken, ...) \
	static const char *violate_##name HEAD __VA_ARGS__ \
		return n && !scene->listed ? entry_no_more : NULL; }
#define ALLOWED(name, id, section, words, needs, ...) \
	static const char *allow_##name HEAD __VA_ARGS__ \
		return n && !scene->listed ? entry_no_more : NULL; }
#include "vmx/entry_rules.def"
#undef RULE

/* --- and what they must let through --- */

#include "vmx/entry_families.h"
#define GOOD(name, ...) \
	static const char *good_##name HEAD __VA_ARGS__ \
		return n && !scene->listed ? entry_no_more : NULL; }
#define OPEN(name, ...)	GOOD(name, __VA_ARGS__)
#include "entry_good.def"

enum { ALLOWED_ENTRY = -1, OPEN_ENTRY = -2 };

static const struct trial {
	const char *id;
	entry_trial *change;
	int rule;			/* or one of these */
	u32 processors;			/* on the first of these */
} trials[] = {
#define RULE(name, id, section, result, words, needs, broken, ...) \
	{ id, violate_##name, ENTRY_RULE_##name, PROCESSORS },
#define ALLOWED(name, id, section, words, needs, ...) \
	{ id, allow_##name, ALLOWED_ENTRY, PROCESSORS },
#include "vmx/entry_rules.def"
#undef RULE
#define GOOD(name, ...)	{ "good: " #name, good_##name, ALLOWED_ENTRY, RICH + 1 },
#define OPEN(name, ...)	{ "open: " #name, good_##name, OPEN_ENTRY, RICH + 1 },
#include "entry_good.def"
};

/* What the row of the table expects; NULL: no such row. */
static const char *expected(const char *id, char *line, size_t size)
{
	FILE *file = fopen(getenv("ENTRY_CHECKS"), "r");
	size_t length = strlen(id);
	char *row = NULL;

	if (!file)
		fail_msg("ENTRY_CHECKS is not the table of checks");
	while (!row && fgets(line, size, file))
		if (strlen(line) > length && !memcmp(line, id, length) && line[length] == ',')
			row = line;
	fclose(file);
	return row;
}

/* The outcomes in the words of the table. */
static void outcome_text(char *text, size_t size, outcome_t outcome)
{
	u32 reason = (outcome >> 32) & 0xffff;

	switch (outcome_kind(outcome)) {
	case OUTCOME_KIND_VMFAIL_VALID:
		snprintf(text, size, "VMfailValid(%u)", (u32)outcome);
		break;
	case OUTCOME_KIND_ENTRY_FAILURE:
		if (reason == EXIT_ENTRY_FAILURE_MSR_LOADING)
			snprintf(text, size, "ENTRYFAIL(%u,n)", reason);
		else
			snprintf(text, size, "ENTRYFAIL(%u,%u)", reason, (u32)outcome);
		break;
	case OUTCOME_KIND_VMFAIL_INVALID:
		snprintf(text, size, "VMfailInvalid");
		break;
	case OUTCOME_KIND_EXCEPTION:
		snprintf(text, size, (outcome >> 48 & 0xff) == VECTOR_UD ? "#UD" : "#GP(0)");
		break;
	default:
		snprintf(text, size, "VMEXIT(%u)", reason);
	}
}

static bool contains(const char *line, const char *text)
{
	for (; strlen(line) >= strlen(text); line++)
		if (!memcmp(line, text, strlen(text)))
			return true;
	return false;
}

static void check_outcomes(const struct trial *trial, const struct entry_prediction *prediction)
{
	char line[1000], text[40];
	outcome_t way;
	u32 i;

	if (!expected(trial->id, line, sizeof(line)))
		fail_msg("%s is no row of the table", trial->id);
	if (prediction->may_enter || !entry_way_to_fail(prediction, 0, &way))
		fail_msg("%s: the model lets it enter", trial->id);
	for (i = 0; entry_way_to_fail(prediction, i, &way); i++) {
		outcome_text(text, sizeof(text), way);
		if (!contains(line, text))
			fail_msg("%s: the model predicts %s; the table: %s", trial->id, text, line);
	}
}

static bool broken_now(const struct entry_scene *scene, u32 rule)
{
	struct entry_prediction prediction;

	entry_predict(&scene->in, &prediction);
	return entry_breaks(&prediction, rule);
}

/* One field or the page taken back to what the base state has: some of them must mend the rule. */
static void check_conforming(const struct trial *trial, struct entry_scene *scene,
			     const struct entry_scene *base)
{
	struct entry_scene mended = *scene;
	u32 i;

	for (i = 0; i < VMCS_FIELDS; i++) {
		if (scene->in.field[i] == base->in.field[i])
			continue;
		mended.in.field[i] = base->in.field[i];
		if (!broken_now(&mended, trial->rule))
			return;
		mended.in.field[i] = scene->in.field[i];
	}
	mended.in.state = base->in.state;
	if (!broken_now(&mended, trial->rule))
		return;
	memset(world_page, 0, sizeof(world_page));
	if (broken_now(&mended, trial->rule))
		fail_msg("%s: broken in the %s whatever is taken back", trial->id,
			 entry_base_words(scene->base));
}

static void check_violation(const struct trial *trial, struct entry_scene *scene,
			    const struct entry_scene *base, u32 n)
{
	struct entry_prediction prediction;

	entry_predict(&scene->in, &prediction);
	if (trial->rule < 0) {
		if (entry_must_succeed(&prediction) != (trial->rule == ALLOWED_ENTRY) ||
		    !prediction.may_enter)
			fail_msg("%s, trial %u, %s: broken: %s", trial->id, n,
				 entry_base_words(scene->base), prediction.broken_count ?
				 entry_rules[prediction.broken[0]].id : "none, certain or not");
		return;
	}
	if (!entry_breaks(&prediction, trial->rule))
		fail_msg("%s, trial %u, %s: not named; stage %u, %u broken, first %s", trial->id, n,
			 entry_base_words(scene->base), prediction.stage, prediction.broken_count,
			 prediction.broken_count ? entry_rules[prediction.broken[0]].id : "none");
	check_outcomes(trial, &prediction);
	check_conforming(trial, scene, base);
	if (getenv("ENTRY_TEST_ALONE") && prediction.broken_count > 1)
		print_message("%s, trial %u, %s: %u broken, %s %s\n", trial->id, n,
			      entry_base_words(scene->base), prediction.broken_count,
			      entry_rules[prediction.broken[0]].id,
			      entry_rules[prediction.broken[1]].id);
}

/* The processor lacks a control that the trial sets, and the trial is not about that. */
static bool lacks_control(const struct trial *trial, const struct entry_scene *scene)
{
	static const u16 rules[] = {
		ENTRY_RULE_ctl_pin_unsupported_set, ENTRY_RULE_ctl_proc1_unsupported_set,
		ENTRY_RULE_ctl_proc2_unsupported_set, ENTRY_RULE_ctl_proc3_unsupported_set,
		ENTRY_RULE_ctl_exit_unsupported_set, ENTRY_RULE_ctl_exit2_unsupported_set,
		ENTRY_RULE_ctl_entry_unsupported_set,
	};
	struct entry_prediction prediction;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if (trial->rule == rules[i])
			return false;
	entry_predict(&scene->in, &prediction);
	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if (entry_breaks(&prediction, rules[i]))
			return true;
	return false;
}

/* How often the rule could be broken from one base state. */
static u32 try_base(const struct trial *trial, u32 processor, enum entry_base state,
		    const char **why)
{
	struct entry_scene base, scene;
	const char *answer;
	u32 n, count = 0;

	for (n = 0;; n++) {
		world_scene(&base, processor);
		if (entry_set_base(&base, state))
			return count;
		scene = base;
		answer = trial->change(&scene, n);
		if (answer == entry_no_more || answer == entry_other_base)
			return count;
		if (answer) {
			*why = answer;
			return count;
		}
		if (lacks_control(trial, &scene)) {
			*why = "a control that there is not";
			continue;
		}
		check_violation(trial, &scene, &base, n);
		count++;
	}
}

static void test_trial(void **state)
{
	const struct trial *trial = *state;
	const char *why = "";
	u32 processor, count = 0;
	enum entry_base base;

	for (processor = 0; processor < trial->processors; processor++)
		for (base = 0; base < ENTRY_BASES; base++)
			count += try_base(trial, processor, base, &why);
	if (!count)
		fail_msg("%s: never tried: needs %s", trial->id, why);
}

/* Every base state of every processor breaks nothing. */
static void test_bases(void **state)
{
	struct entry_prediction prediction;
	struct entry_scene scene;
	u32 processor;
	enum entry_base base;

	(void)state;
	for (processor = 0; processor < PROCESSORS; processor++) {
		for (base = 0; base < ENTRY_BASES; base++) {
			world_scene(&scene, processor);
			if (entry_set_base(&scene, base))
				continue;
			entry_predict(&scene.in, &prediction);
			if (!entry_must_succeed(&prediction))
				fail_msg("%s, processor %u: broken: %s", entry_base_words(base),
					 processor, prediction.broken_count ?
					 entry_rules[prediction.broken[0]].id :
					 "none, but uncertain");
		}
	}
}

#include "entry_exits.h"
#include "entry_states.h"

int main(void)
{
	static struct CMUnitTest tests[ARRAY_SIZE(trials) + ARRAY_SIZE(others)];
	u32 count = 0, i;

	world_make();
	for (i = 0; i < ARRAY_SIZE(others); i++)
		tests[count++] = others[i];
	for (i = 0; i < ARRAY_SIZE(trials); i++)
		if (trials[i].rule != ENTRY_RULE_host_no_intel64_both_zero &&
		    trials[i].rule != ENTRY_RULE_msrload_model_specific)
			tests[count++] = (struct CMUnitTest){ trials[i].id, test_trial, NULL,
							      NULL, (void *)&trials[i] };
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("entry", tests, count, NULL, NULL) ? 1 : 0;
}
