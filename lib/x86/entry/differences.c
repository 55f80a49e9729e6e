#include "entry/differences.h"
#include "string.h"
#include "vmx/entry_reader.h"
#include "vmx/vmx.h"

/* The stage to which an entry must have come to end so. */
static enum entry_stage stage_of(outcome_t outcome)
{
	switch (outcome_kind(outcome)) {
	case OUTCOME_KIND_EXIT:
		return ENTRY_STAGE_DONE;
	case OUTCOME_KIND_ENTRY_FAILURE:
		return (u16)(outcome >> 32) == EXIT_ENTRY_FAILURE_MSR_LOADING ?
		       ENTRY_STAGE_MSR_LOAD : ENTRY_STAGE_GUEST;
	case OUTCOME_KIND_VMFAIL_VALID:
		return (u32)outcome == VMFAIL_ENTRY_INVALID_CONTROL_FIELDS ||
		       (u32)outcome == VMFAIL_ENTRY_INVALID_HOST_STATE ?
		       ENTRY_STAGE_VMCS : ENTRY_STAGE_BASIC;
	default:
		return ENTRY_STAGE_BASIC;
	}
}

u32 entry_explain(const struct entry_input *in, outcome_t outcome, u16 *rules, u32 most)
{
	static bool waived[ENTRY_RULES];
	static struct entry_input input;
	struct entry_prediction predicted;
	u32 count = 0, passed = 0, i;

	memset(waived, 0, sizeof(waived));
	input = *in;
	input.waived = waived;
	/* Stage after stage, what the processor must have passed over. */
	for (;;) {
		entry_predict(&input, &predicted);
		if (entry_accepts(&predicted, outcome))
			return count;
		/* It stopped in its stage for a reason of its own; it may check the rules there. */
		if (!predicted.broken_count || stage_of(outcome) < predicted.stage)
			return passed;
		for (i = 0; i < predicted.broken_count && i < ENTRY_MAX_BROKEN; i++) {
			waived[predicted.broken[i]] = true;
			if (count < most)
				rules[count++] = predicted.broken[i];
		}
		if (predicted.stage < stage_of(outcome))
			passed = count;
	}
}

/* ".guest_cs_selector+guest_cs_access_rights" */
static void add_fields(char *to, size_t size, const struct blamed_fields *blamed)
{
	char *c;
	size_t n = 0;
	u32 i;

	for (i = 0; i < blamed->count && i < DIFFERENCES_BLAMED; i++)
		n += format(to + n, size - n, "%c%s", i ? '+' : '.',
			    entry_field_name(blamed->field[i]));
	if (blamed->count > DIFFERENCES_BLAMED)
		format(to + n, size - n, "+more");
	for (c = to; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
}

const char *difference_id(char *to, size_t size, const struct difference *way)
{
	outcome_t refused = way->refused;
	size_t n;

	if (way->rule < ENTRY_RULES)
		return entry_rules[way->rule].id;
	switch (outcome_kind(refused)) {
	case OUTCOME_KIND_ENTRY_FAILURE:
		n = format(to, size, "refused.%u.%u", (u16)(refused >> 32), (u32)refused);
		break;
	case OUTCOME_KIND_VMFAIL_VALID:
		n = format(to, size, "refused.%u", (u32)refused);
		break;
	case OUTCOME_KIND_EXIT:
		n = format(to, size, "exit.%u", (u16)(refused >> 32));
		if (way->due != ENTRY_ANY_EXIT)
			format(to + n, size - n, ".not.%u", way->due);
		return to;
	default:
		n = format(to, size, "refused");
	}
	add_fields(to + n, size - n, &way->blamed);
	return to;
}

static struct difference *find(struct differences *differences, u32 rule, outcome_t refused,
			       u32 due, const struct blamed_fields *blamed)
{
	struct difference *way;
	u32 i;

	for (i = 0; i < differences->ways; i++) {
		way = &differences->way[i];
		if (way->rule == rule && way->refused == refused && way->due == due &&
		    !memcmp(&way->blamed, blamed, sizeof(*blamed)))
			return way;
	}
	if (i == DIFFERENCES_MOST)
		return NULL;
	way = &differences->way[differences->ways++];
	memset(way, 0, sizeof(*way));
	way->rule = rule;
	way->refused = refused;
	way->due = due;
	way->blamed = *blamed;
	return way;
}

static void add(struct difference *way, const struct entry_prediction *predicted, outcome_t outcome,
		const char *example)
{
	if (way->count < DIFFERENCES_EXAMPLES)
		format(way->example[way->count], sizeof(way->example[0]), "%s", example);
	if (way->count++)
		return;
	entry_prediction_words(way->expected, sizeof(way->expected), predicted);
	outcome_words(way->got, sizeof(way->got), outcome);
}

void differences_add(struct differences *differences, const struct entry_input *in,
		     const struct entry_prediction *predicted, outcome_t outcome,
		     const struct blamed_fields *blamed, const char *example)
{
	static const struct blamed_fields none;
	u16 rules[ENTRY_MAX_BROKEN];
	u32 count = entry_explain(in, outcome, rules, ENTRY_MAX_BROKEN), i;
	struct difference *way;
	u32 due = ENTRY_ANY_EXIT;

	if (predicted->may_enter && outcome_kind(outcome) == OUTCOME_KIND_EXIT)
		due = entry_first_exit(in);
	for (i = 0; i < (count ? count : 1); i++) {
		way = count ? find(differences, rules[i], 0, ENTRY_ANY_EXIT, &none) :
		      find(differences, ENTRY_RULES, outcome, due, blamed ? blamed : &none);
		if (way)
			add(way, predicted, outcome, example);
	}
}

static void report(const struct difference *way)
{
	char id[DIFFERENCES_ID], what[700], entries[20];
	const char *name = difference_id(id, sizeof(id), way);
	u32 i;

	format(entries, sizeof(entries), way->count == 1 ? "%u entry" : "%u entries", way->count);
	tap_comment("exitpath differs: %s: %s; %s", name, entries, way->got);
	for (i = 0; i < DIFFERENCES_EXAMPLES && i < way->count; i++)
		if (way->example[i][0])
			tap_comment("  %s", way->example[i]);
	format(what, sizeof(what), "%s, %s; %s", name, entries, way->example[0]);
	case_fail(NULL, 0, what, way->expected, way->got);
}

void differences_report(const struct differences *differences)
{
	u32 i;

	tap_comment("%u entries; %u audited in full", differences->entries,
		    this_vmx()->audit.in_full);
	if (differences->left_out)
		tap_comment("%u entries left out, e.g. because %s", differences->left_out,
			    differences->why_left_out);
	for (i = 0; i < differences->ways; i++)
		report(&differences->way[i]);
	audit_report_ways();
	/* A processor without any rule: some ways have got no line of their own. */
	if (differences->ways == DIFFERENCES_MOST)
		tap_comment("exitpath differs: more");
}
