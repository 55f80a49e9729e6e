#include "entry/check.h"
#include "entry/session.h"
#include "vmx/vmx.h"

/* What the trials of one case share. */
struct checking {
	struct entry_session session;
	const struct entry_check *check;
	u32 made;			/* trials */
	u32 alone;			/* of them, those that break nothing else */
	u32 neighbours;			/* of them from this base state */
	const struct entry_rule *also;	/* another rule that all trials so far have broken, too */
	const char *why_not;
};

#define MOST_NEIGHBOURS	24
#define AUDITED		4

static void fail(const struct entry_scene *scene, u32 n, const char *expected, const char *got)
{
	char what[100];

	format(what, sizeof(what), "trial %u, %s", n + 1, entry_base_words(scene->base));
	case_fail(NULL, 0, what, expected, got);
}

/* False when the trial did not end as its rule says. */
static bool judge(const struct checking *checking, const struct entry_scene *scene, u32 n,
		  const struct entry_prediction *predicted, outcome_t outcome)
{
	u32 rule = checking->check->rule;
	char words[120];

	outcome_words(words, sizeof(words), outcome);
	if (rule == ENTRY_RULES) {
		if (outcome_kind(outcome) == OUTCOME_KIND_EXIT)
			return true;
		fail(scene, n, "the guest runs", words);
		return false;
	}
	if (!entry_breaks(predicted, rule)) {
		fail(scene, n, "the model names the rule", predicted->broken_count ?
		     entry_rules[predicted->broken[0]].id : "no rule");
		return false;
	}
	if (entry_result_allows(entry_rules[rule].result, scene->in.state.resume, outcome))
		return true;
	fail(scene, n, entry_rules[rule].words, words);
	return false;
}

/*
 * The last good values: of each field that the trial has changed, the numbers next to what it has
 * there, next to it in the bit that is set, and what it was before. Those with which the model sees
 * nothing wrong must enter.
 */
static bool try_neighbours(struct checking *checking, const struct entry_scene *scene,
			   const struct entry_input *base, u32 n)
{
	struct entry_input in = scene->in;
	struct entry_prediction prediction;
	char expected[160], words[120];
	outcome_t outcome;
	u32 i, k;

	for (i = 0; i < VMCS_FIELDS; i++) {
		u64 bad = scene->in.field[i], was = base->field[i];
		/* Of a number not canonical by one bit: the first that is, beyond the gap. */
		const u64 upper_half = bad & (bad - 1) ? bad : -bad;
		const u64 near[] = { bad - 1, bad + 1, upper_half, was ^ (bad ^ was) >> 1,
				     was ^ (bad ^ was) << 1, was };

		if (bad == was)
			continue;
		for (k = 0; k < ARRAY_SIZE(near) && checking->neighbours < MOST_NEIGHBOURS; k++) {
			in.field[i] = entry_field_value(&in, i, near[k]);
			entry_predict(&in, &prediction);
			if (!entry_must_succeed(&prediction) ||
			    entry_hazard(&checking->session, &in, &prediction))
				continue;
			checking->neighbours++;
			outcome = entry_session_enter(&checking->session, &in);
			if (outcome_kind(outcome) == OUTCOME_KIND_EXIT)
				continue;
			format(expected, sizeof(expected), "the guest runs with %s = 0x%lx",
			       entry_field_name(i), in.field[i]);
			fail(scene, n, expected, outcome_words(words, sizeof(words), outcome));
			return false;
		}
		in.field[i] = bad;
	}
	return true;
}

/* The audit costs far more than the entry: of a long list it sees the first trials. */
static outcome_t enter_trial(struct entry_session *session, const struct entry_input *in, u32 n)
{
	if (n >= AUDITED)
		return entry_session_enter(session, in);
	return entry_session_enter_audited(session, in);
}

/* Whether the trial breaks the rule alone: if not, it would be refused without that rule, too. */
static void note_others(struct checking *checking, const struct entry_prediction *prediction)
{
	u32 first = prediction->broken[0] == checking->check->rule;

	if (prediction->broken_count == 1)
		checking->alone++;
	else if (prediction->broken_count)
		checking->also = &entry_rules[prediction->broken[first]];
}

/* All trials from one base state, up to the first that fails. */
static void try_base(struct checking *checking, enum entry_base base)
{
	static struct entry_scene scene;
	static struct entry_input before;
	struct entry_session *session = &checking->session;
	struct entry_prediction prediction;
	const char *answer;
	outcome_t outcome;
	u32 n;

	checking->neighbours = 0;
	for (n = 0;; n++) {
		answer = entry_session_scene(session, &scene, base);
		before = scene.in;
		if (!answer)
			answer = checking->check->change(&scene, n);
		if (answer) {
			if (answer != entry_no_more && answer != entry_other_base)
				checking->why_not = answer;
			return;
		}
		entry_predict(&scene.in, &prediction);
		outcome = enter_trial(session, &scene.in, n);
		checking->made++;
		note_others(checking, &prediction);
		if (!judge(checking, &scene, n, &prediction, outcome))
			return;
		if (checking->check->rule != ENTRY_RULES &&
		    !try_neighbours(checking, &scene, &before, n))
			return;
	}
}

/*
 * A processor that lacks something refuses it by a rule of its own, and then the case proves
 * nothing. Any other rule that no trial keeps is too strict, or the trials are wrong: that must not
 * look like a processor without the feature.
 */
static void not_alone(const struct entry_rule *also)
{
	static const u16 rules_of_lack[] = {
		ENTRY_RULE_ctl_pin_unsupported_set, ENTRY_RULE_ctl_proc1_unsupported_set,
		ENTRY_RULE_ctl_proc2_unsupported_set, ENTRY_RULE_ctl_proc3_unsupported_set,
		ENTRY_RULE_ctl_exit_unsupported_set, ENTRY_RULE_ctl_exit2_unsupported_set,
		ENTRY_RULE_ctl_entry_unsupported_set, ENTRY_RULE_ctl_vmfunc_reserved,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rules_of_lack); i++)
		if (also == &entry_rules[rules_of_lack[i]])
			case_skip("a base state in which %s is not broken, too", also->id);
	case_fail(NULL, 0, "trials that break the rule alone", "at least one", also->id);
}

void entry_check(const struct case_def *this_case)
{
	static struct checking checking;
	enum entry_base base;

	checking.check = this_case->row;
	checking.made = checking.alone = 0;
	checking.also = NULL;
	checking.why_not = NULL;
	entry_session_start(&checking.session);
	for (base = 0; base < ENTRY_BASES; base++)
		try_base(&checking, base);
	if (!checking.made && checking.why_not)
		case_skip("%s", checking.why_not);
	if (checking.also && !checking.alone)
		not_alone(checking.also);
	EXPECT_TRUE(checking.made > 0);
}
