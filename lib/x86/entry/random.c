#include "case.h"
#include "entry/differences.h"
#include "entry/random.h"
#include "entry/session.h"
#include "entry/sweep.h"
#include "platform.h"
#include "string.h"
#include "vmx/entry_words.h"

struct walk {
	struct entry_session session;
	struct differences differences;
	struct entry_scene plain, scene;	/* the base state; the state of the walk */
	u64 seed, random;
	u32 field;				/* that the last step changed ... */
	u64 before;				/* ... and what it was */
	u32 made;				/* entries, those to shrink a difference as well */
	bool audited;				/* the next entry is */
	u64 told[(EXIT_RULES + 63) / 64];	/* rules of the audit that the run has told of */
};

/* SplitMix64, as in lib/case.c, but for each walk afresh. */
static u64 draw(struct walk *walk)
{
	u64 z = walk->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Through all 2^64 in an order of its own, so that a run goes on the same from any of its walks. */
static u64 next_seed(u64 seed)
{
	return seed * 0x5851f42d4c957f2d + 0x14057b7ef767814f;
}

/* The controls of a field that are not as in the base state. */
static size_t say_controls(const struct walk *walk, u32 index, u64 value, char *to, size_t size)
{
	u64 changed = value ^ walk->plain.in.field[index];
	char *p = to, *end = to + size;
	u32 i;

	for (i = 0; i < CONTROLS_DEFINED; i++) {
		enum control control = all_controls[i];

		if (entry_control_field_index(control_field(control)) == index &&
		    changed & control_bit(control))
			p += format(p, end - p, "%s%s \"%s\"", p == to ? " (" : ", ",
				    value & control_bit(control) ? "with" : "without",
				    control_words(control));
	}
	if (p != to)
		p += format(p, end - p, ")");
	return p - to;
}

static void say_fields(const struct walk *walk, const struct entry_input *in, char *to, size_t size)
{
	char *p = to, *end = to + size;
	u32 i;

	p += format(p, end - p, "%s", entry_base_words(walk->scene.base));
	for (i = 0; i < VMCS_FIELDS; i++) {
		if (in->field[i] == walk->plain.in.field[i])
			continue;
		p += format(p, end - p, ", %s = 0x%lx", entry_field_name(i), in->field[i]);
		p += say_controls(walk, i, in->field[i], p, end - p);
	}
}

static void say_how_to_repeat(const struct walk *walk)
{
	tap_comment("reproduce: ./exitpath run vmx/random --seed %lu --count 1", walk->seed);
}

/* --- entries ---------------------------------------------------------------------------- */

/* One step of each walk is audited; the seed says which, so that it can be repeated. */
static outcome_t enter_step(struct walk *walk, const struct entry_input *in)
{
	if (!walk->audited)
		return entry_session_enter(&walk->session, in);
	walk->audited = false;
	return entry_session_enter_audited(&walk->session, in);
}

/* True when the entry was made; `outcome`: how it ended. False: it might end the image. */
static bool try(struct walk *walk, const struct entry_input *in, struct entry_prediction *predicted,
		outcome_t *outcome)
{
	const char *hazard = entry_host_hazard(&walk->session, in);

	entry_session_predict(&walk->session, in, predicted);
	if (!hazard)
		hazard = entry_hazard(&walk->session, in, predicted);
	if (!hazard)
		hazard = entry_machine_hazard(in, predicted);
	if (hazard) {
		walk->differences.left_out++;
		walk->differences.why_left_out = hazard;
		return false;
	}
	walk->made++;
	*outcome = enter_step(walk, in);
	return true;
}

/* --- shrinking ------------------------------------------------------------------------ */

/* Whether `outcome` differs from the model in the same way. */
static bool same_way(const struct entry_input *in, outcome_t outcome, const struct difference *way)
{
	u16 rules[ENTRY_MAX_BROKEN];
	u32 count = entry_explain(in, outcome, rules, ENTRY_MAX_BROKEN), i;

	if (way->rule == ENTRY_RULES)
		return !count && outcome == way->refused &&
		       (way->due == ENTRY_ANY_EXIT || way->due == entry_first_exit(in));
	for (i = 0; i < count; i++)
		if (rules[i] == way->rule)
			return true;
	return false;
}

/* The same for a rule of the audit, with nothing kept of what ran before. */
static bool still_fails(struct walk *walk, const struct entry_input *in, enum exit_rule_number rule)
{
	struct entry_prediction predicted;
	outcome_t outcome;

	entry_session_forget(&walk->session);
	walk->audited = true;
	return try(walk, in, &predicted, &outcome) && audit_failed(rule);
}

/* What an entry is made smaller for: a way in which it differs, or, without one, an audit rule. */
struct sought {
	const struct difference *way;
	enum exit_rule_number rule;
};

static bool still_differs(struct walk *walk, const struct entry_input *in,
			  const struct sought *sought)
{
	const struct difference *way = sought->way;
	struct entry_prediction predicted;
	outcome_t outcome;

	if (!way)
		return still_fails(walk, in, sought->rule);
	return try(walk, in, &predicted, &outcome) && !entry_accepts(&predicted, outcome) &&
	       same_way(in, outcome, way);
}

/* Takes a field back to `value`, unless the difference goes away. */
static bool take_back(struct walk *walk, struct entry_input *in, const struct sought *sought,
		      u32 index, u64 value)
{
	u64 was = in->field[index];

	if (was == value)
		return false;
	in->field[index] = value;
	if (still_differs(walk, in, sought))
		return true;
	in->field[index] = was;
	return false;
}

static bool holds_controls(u32 index)
{
	u32 field;

	for (field = 0; field < CONTROL_FIELDS; field++)
		if (entry_control_field_index(field) == index)
			return true;
	return false;
}

/* Takes back what the base state has otherwise: fields and single controls, as long as it goes. */
static void shrink(struct walk *walk, struct entry_input *in, const struct sought *sought)
{
	const u64 *plain = walk->plain.in.field;
	bool changed;
	u32 i, n;

	do {
		changed = false;
		for (i = 0; i < VMCS_FIELDS; i++) {
			changed |= take_back(walk, in, sought, i, plain[i]);
			for (n = 0; holds_controls(i) && n < 64; n++)
				if ((in->field[i] ^ plain[i]) & BIT(n))
					changed |= take_back(walk, in, sought, i,
							     in->field[i] ^ BIT(n));
		}
	} while (changed);
}

/*
 * The fields that an entry is refused for: those that still matter when all else is taken back, in
 * whatever order the walk changed them. Controls only where there is nothing else: they bring
 * fields into use.
 */
static struct blamed_fields fields_to_blame(struct walk *walk, outcome_t refused)
{
	static struct entry_input in;
	const u64 *plain = walk->plain.in.field;
	struct difference way = { .rule = ENTRY_RULES, .refused = refused,
				  .due = ENTRY_ANY_EXIT };
	struct blamed_fields blamed = { 0 };
	u16 rules[1];
	u32 i, controls;

	in = walk->scene.in;
	if (outcome_kind(refused) == OUTCOME_KIND_EXIT || entry_explain(&in, refused, rules, 1))
		return blamed;
	shrink(walk, &in, &(struct sought){ .way = &way });
	for (controls = 0; controls < 2; controls++) {
		memset(&blamed, 0, sizeof(blamed));
		for (i = 0; i < VMCS_FIELDS; i++)
			if (in.field[i] != plain[i] && holds_controls(i) == controls &&
			    blamed.count++ < DIFFERENCES_BLAMED)
				blamed.field[blamed.count - 1] = i;
		if (blamed.count)
			break;
	}
	return blamed;
}

/* What the run has not met before: a difference, ... */
static void tell(struct walk *walk, struct difference *way)
{
	static struct entry_input in;
	char id[DIFFERENCES_ID];

	in = walk->scene.in;
	shrink(walk, &in, &(struct sought){ .way = way });
	say_fields(walk, &in, way->example[0], sizeof(way->example[0]));
	tap_comment("exitpath differs: %s: %s", difference_id(id, sizeof(id), way),
		    way->example[0]);
	say_how_to_repeat(walk);
}

/* ... all of them that one entry has shown. */
static void tell_ways(struct walk *walk)
{
	u32 i;

	for (i = 0; i < walk->differences.ways; i++)
		if (!walk->differences.way[i].example[0][0])
			tell(walk, &walk->differences.way[i]);
}

static void tell_rule(struct walk *walk, enum exit_rule_number rule)
{
	static struct entry_input in;
	char fields[500];
	const char *why = "";

	in = walk->scene.in;
	if (still_fails(walk, &in, rule))
		shrink(walk, &in, &(struct sought){ .rule = rule });
	else
		why = " (after the steps before)";
	say_fields(walk, &in, fields, sizeof(fields));
	tap_comment("exitpath differs: audit.%s: %s%s", exit_rules[rule].name, fields, why);
	say_how_to_repeat(walk);
}

/* Rules of the audit that the run has not met before. */
static void tell_rules(struct walk *walk)
{
	u64 failed[ARRAY_SIZE(walk->told)] = { 0 };
	u32 rule;

	/* Before other entries follow. */
	for (rule = 0; rule < EXIT_RULES; rule++)
		if (audit_failed(rule) && !(walk->told[rule / 64] & BIT(rule % 64)))
			failed[rule / 64] |= BIT(rule % 64);
	for (rule = 0; rule < EXIT_RULES; rule++) {
		if (!(failed[rule / 64] & BIT(rule % 64)))
			continue;
		walk->told[rule / 64] |= BIT(rule % 64);
		tell_rule(walk, rule);
	}
}

/* --- walking --------------------------------------------------------------------------- */

static void change_control(struct walk *walk, struct entry_input *in)
{
	enum control control = all_controls[draw(walk) % CONTROLS_DEFINED];

	walk->field = entry_control_field_index(control_field(control));
	walk->before = in->field[walk->field];
	if (vmcs_has_index(walk->field))
		in->field[walk->field] ^= control_bit(control);
}

static void change(struct walk *walk)
{
	struct entry_input *in = &walk->scene.in;
	u64 random = draw(walk);

	if (random % 4 == 0) {
		change_control(walk, in);
		return;
	}
	walk->field = entry_field_used(random >> 2);
	walk->before = in->field[walk->field];
	in->field[walk->field] = entry_sweep_value(&walk->scene, walk->field, draw(walk));
}

/* One step; what a processor refuses is mostly taken back: the walk stays near valid states. */
static void step(struct walk *walk)
{
	struct entry_input *in = &walk->scene.in;
	struct entry_prediction predicted;
	outcome_t outcome;
	bool differs = false;
	struct blamed_fields blamed;

	change(walk);
	if (!try(walk, in, &predicted, &outcome)) {
		in->field[walk->field] = walk->before;
		return;
	}
	walk->differences.entries++;
	if (walk->session.audited && audit_found())
		tell_rules(walk);
	if (!entry_accepts(&predicted, outcome)) {
		differs = true;
		blamed = fields_to_blame(walk, outcome);
		differences_add(&walk->differences, in, &predicted, outcome, &blamed, "");
		tell_ways(walk);
	}
	if (differs || (!predicted.may_enter && draw(walk) % 4))
		in->field[walk->field] = walk->before;
}

static void walk_from(struct walk *walk, u64 seed)
{
	enum entry_base base;
	u32 i;

	walk->seed = walk->random = seed;
	entry_session_forget(&walk->session);
	do
		base = draw(walk) % ENTRY_BASES;
	while (entry_session_scene(&walk->session, &walk->plain, base));
	walk->scene = walk->plain;
	if (draw(walk) % 2)
		entry_session_dress(&walk->session, &walk->scene);
	if (!entry_session_is_valid(&walk->scene))
		return;
	for (i = 0; i < RANDOM_STEPS; i++) {
		walk->audited = i == seed % RANDOM_STEPS;
		step(walk);
	}
	walk->audited = false;
}

void entry_random(u32 walks)
{
	static struct walk walk;
	const struct platform *platform = this_platform();
	u64 seed = platform->seed;
	u32 i;

	memset(&walk.differences, 0, sizeof(walk.differences));
	walk.made = 0;
	memset(walk.told, 0, sizeof(walk.told));
	entry_session_start(&walk.session);
	entry_session_load_all(&walk.session);
	audit_outcomes_judged();
	walks = platform_count() ? platform_count() :
				   (walks * platform->entry_percent + 99) / 100;
	for (i = 0; i < walks; i++, seed = next_seed(seed)) {
		/* Should the machine die, its last words say where to look. */
		if (i % 32 == 0)
			tap_comment("walks from seed %lu on", seed);
		walk_from(&walk, seed);
	}
	tap_comment("%u entries made, those to find the fewest fields as well", walk.made);
	differences_report(&walk.differences);
	EXPECT_TRUE(walk.differences.entries > 0);
}
