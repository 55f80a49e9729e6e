/*
 * Tests of exit_test.c: exits as chapter 30 allows them, and exits that break one rule alone,
 * written out in exit_good.def.
 */

#define EVERYTHING	(~0ull)

/* The scene of a row, of which no claim about fields and registers is broken but by the row. */
struct row {
	struct scene scene;
	struct entry_cpu cpu;
};

typedef bool change_row(struct row *row, u32 n);

#undef EACH
#define EACH(...)								\
	const u64 values_[] = { __VA_ARGS__ };					\
	listed = true;								\
	if (n >= ARRAY_SIZE(values_))						\
		return false;							\
	v = values_[n]
#define REASON_IS(reason) x->outcome = OUTCOME_EXIT(reason); NOW(EXIT_REASON) = (u16)(reason)

#define EXIT_ROW(name, ...)								\
	static bool change_##name(struct row *row, u32 n)			\
	{									\
		struct exit_input *x = &row->scene.x;				\
		struct entry_input *in = &row->scene.entry;			\
		struct entry_cpu *cpu = &row->cpu;				\
		u64 *page = row->scene.page, v = 0;				\
		bool listed = false;						\
										\
		__VA_ARGS__							\
		(void)x, (void)in, (void)cpu, (void)page, (void)v;		\
		return listed || !n;						\
	}
#define GOOD(name, rule, outcome, ...)	EXIT_ROW(name, __VA_ARGS__)
#define BAD(name, rule, outcome, ...)	EXIT_ROW(name, __VA_ARGS__)
#include "exit_good.def"
#undef GOOD
#undef BAD

static const struct exit_row {
	const char *name;
	u16 rule;
	bool good;
	outcome_t outcome;
	change_row *change;
} rows[] = {
#define GOOD(name, rule, outcome, ...) \
	{ "good: " #name, EXIT_RULE_##rule, true, outcome, change_##name },
#define BAD(name, rule, outcome, ...) \
	{ "bad: " #name, EXIT_RULE_##rule, false, outcome, change_##name },
#include "exit_good.def"
#undef GOOD
#undef BAD
};

/* What the entry finds, and, behind it, fields alike: an exit for any reason that shows it. */
static bool begin_row(struct row *row, const struct exit_row *what, u32 n)
{
	struct entry_input *in = &row->scene.entry;
	struct exit_input *x = &row->scene.x;
	bool more;

	begin_scene(&row->scene, what->outcome);
	row->cpu = cpu;
	in->cpu = &row->cpu;
	F(EXCEPTION_BITMAP) = 0xffffffff;
	F(CR0_GUEST_HOST_MASK) = F(CR4_GUEST_HOST_MASK) = EVERYTHING;
	F(PAGE_FAULT_ERROR_CODE_MASK) = F(PAGE_FAULT_ERROR_CODE_MATCH) = 0;
	memcpy(x->field, in->field, sizeof(x->field));
	more = what->change(row, n);
	memcpy(x->field, in->field, sizeof(x->field));
	NOW(EXIT_REASON) = exit_basic_reason(x);
	return more && what->change(row, n);
}

struct broken {
	u32 rule, other;		/* EXIT_RULES: none */
	bool found;
};

static void note_broken(void *context, const struct exit_claim *claim)
{
	struct broken *broken = context;

	if (exit_claim_holds(claim))
		return;
	if (claim->rule == broken->rule)
		broken->found = true;
	else
		broken->other = claim->rule;
}

static void check_row(const struct exit_row *what, struct row *row, u32 n)
{
	struct broken broken = { .rule = what->rule, .other = EXIT_RULES };

	if (!settle(&row->scene.x))
		fail_msg("%s, %u: claims contradict each other", what->name, n);
	/* What the row says stays, whatever the model says. */
	what->change(row, n);
	exit_judge(&row->scene.x, note_broken, &broken);
	if (broken.other != EXIT_RULES)
		fail_msg("%s, %u: breaks %s", what->name, n, exit_rules[broken.other].name);
	if (broken.found == what->good)
		fail_msg("%s, %u: %s %s", what->name, n, what->good ? "breaks" : "does not break",
			 exit_rules[what->rule].name);
}

static void test_row(void **state)
{
	const struct exit_row *what = *state;
	static struct row row;
	u32 n;

	for (n = 0; begin_row(&row, what, n); n++)
		check_row(what, &row, n);
	if (!n)
		fail_msg("%s: nothing is tried", what->name);
}

/* Each rule about a field or a register has rows of both kinds. */
static void test_rows(void **state)
{
	bool good[EXIT_RULES] = { false }, bad[EXIT_RULES] = { false };
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		(rows[i].good ? good : bad)[rows[i].rule] = true;
	for (i = 0; i < EXIT_RULE_fields_kept; i++)
		if (!good[i] || !bad[i])
			fail_msg("%s: no %s row", exit_rules[i].name, good[i] ? "bad" : "good");
}
