/*
 * Searches for contradictions in the model of VM entry (lib/x86/vmx/entry_model.c), with libFuzzer.
 *
 * An input becomes a scene (entry_draw.h). The model must then agree with itself: properties that
 * hold whatever the rules are.
 */
#include <string.h>

#include "entry_draw.h"
#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"

static bool same(const struct entry_prediction *a, const struct entry_prediction *b)
{
	return a->stage == b->stage && a->may_enter == b->may_enter &&
	       a->outcome_count == b->outcome_count && a->broken_count == b->broken_count &&
	       a->msr_failures == b->msr_failures &&
	       !memcmp(a->outcomes, b->outcomes, a->outcome_count * sizeof(a->outcomes[0]));
}

/* A rule that is broken has its outcome among those accepted, and belongs to the stage. */
static void check_rule(const struct entry_input *in, const struct entry_prediction *predicted,
		       u32 rule)
{
	u8 result = entry_rules[rule].result;
	bool allowed = false;
	outcome_t way;
	u32 i;

	MUST(rule < ENTRY_RULES && entry_breaks(predicted, rule));
	MUST(entry_result_stage(result) == predicted->stage);
	for (i = 0; entry_way_to_fail(predicted, i, &way); i++)
		allowed |= entry_result_allows(result, in->state.resume, way);
	MUST(allowed || predicted->outcome_count == ENTRY_MAX_OUTCOMES);
}

static void check_prediction(const struct entry_input *in, const struct entry_prediction *predicted)
{
	u32 first = entry_first_exit(in);
	outcome_t some_exit = OUTCOME_EXIT(first == ENTRY_ANY_EXIT ? EXIT_EXCEPTION_OR_NMI : first);
	outcome_t way;
	u32 i;

	MUST(predicted->outcome_count <= ENTRY_MAX_OUTCOMES);
	MUST(predicted->may_enter == !predicted->broken_count);
	MUST(predicted->may_enter == (predicted->stage == ENTRY_STAGE_DONE));
	MUST(predicted->may_enter || predicted->outcome_count || predicted->msr_failures);
	MUST(predicted->msr_failures <= predicted->msr_entries);
	MUST(!entry_accepts(predicted, OUTCOME_EXIT(EXIT_CPUID)) ||
	     (predicted->may_enter && first == ENTRY_ANY_EXIT));
	MUST(predicted->may_enter == entry_accepts(predicted, some_exit));
	MUST(predicted->stage != ENTRY_STAGE_BASIC || predicted->broken_count == 1);
	for (i = 0; i < predicted->broken_count && i < ENTRY_MAX_BROKEN; i++)
		check_rule(in, predicted, predicted->broken[i]);
	for (i = 0; entry_way_to_fail(predicted, i, &way); i++)
		MUST(entry_accepts(predicted, way));
	MUST(i == predicted->outcome_count + predicted->msr_failures);
}

/* Exit information is no input of an entry. */
static void check_independence(const struct entry_input *in,
			       const struct entry_prediction *predicted)
{
	static const u16 information[] = {
		INDEX_EXIT_REASON, INDEX_EXIT_QUALIFICATION, INDEX_VM_INSTRUCTION_ERROR,
		INDEX_GUEST_LINEAR_ADDRESS, INDEX_GUEST_PHYSICAL_ADDRESS,
	};
	struct entry_input other = *in;
	struct entry_prediction again;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(information); i++)
		other.field[information[i]] = ~other.field[information[i]];
	entry_predict(&other, &again);
	MUST(same(predicted, &again));
}

/* Without the rules that are broken the entry gets further, and at last succeeds. */
static void check_waiving(const struct entry_input *in, const struct entry_prediction *first)
{
	static bool waived[ENTRY_RULES];
	struct entry_prediction predicted = *first, next;
	struct entry_input input = *in;
	u32 rounds, i;

	memset(waived, 0, sizeof(waived));
	input.waived = waived;
	for (rounds = 0; !predicted.may_enter; rounds++) {
		MUST(rounds <= ENTRY_RULES);
		for (i = 0; i < predicted.broken_count && i < ENTRY_MAX_BROKEN; i++) {
			MUST(!waived[predicted.broken[i]]);
			waived[predicted.broken[i]] = true;
		}
		entry_predict(&input, &next);
		MUST(next.stage >= predicted.stage);
		predicted = next;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input input = { data, size };
	struct entry_prediction predicted, again;
	struct entry_scene scene;

	draw_scene(&input, &scene);
	entry_predict(&scene.in, &predicted);
	entry_predict(&scene.in, &again);
	MUST(same(&predicted, &again));
	check_prediction(&scene.in, &predicted);
	check_independence(&scene.in, &predicted);
	check_waiving(&scene.in, &predicted);
	return 0;
}
