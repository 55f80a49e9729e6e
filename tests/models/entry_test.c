/*
 * The model of VM entry (lib/x86/vmx/entry_model.c) on the host: one test per rule.
 *
 * Every rule is broken as its row in entry_rules*.def says, from every base state, in every trial, on
 * two imagined processors: one that has everything and one that has next to nothing. The model must
 * name the rule, and must predict what spec/vm-entry-checks.csv expects, which this program reads
 * itself. And it must no longer name the rule when a single field is taken back: the conforming
 * vector next to the violating one.
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

#define PAGE_AT		0x40000000ull
#define EMPTY_AT	0x40001000ull
#define VMCS_AT		0x50000000ull
#define EPTP		(0x60000000ull | 3 << 3 | 6)
#define REVISION_ID	0x1234

/* --- two processors -------------------------------------------------------------- */

enum { RICH, POOR, PROCESSORS };

static struct entry_cpu processors[PROCESSORS];

static const u64 must_be_1[CONTROL_FIELDS] = {
	[CONTROL_FIELD_PIN] = 0x16, [CONTROL_FIELD_PROC1] = 0x04006172,
	[CONTROL_FIELD_EXIT] = 0x36dfb, [CONTROL_FIELD_ENTRY] = 0x11fb,
};

static void make_processors(void)
{
	struct entry_cpu *rich = &processors[RICH], *poor = &processors[POOR];
	u32 i;

	/* All defined controls, but not all bits. */
#define CONTROL(field, bit, ...) rich->caps.may_be_1[CONTROL_FIELD_##field] |= BIT(bit);
#include "sdm/controls.def"
#undef CONTROL
	for (i = 0; i < CONTROL_FIELDS; i++) {
		rich->caps.must_be_1[i] = must_be_1[i] & ~rich->caps.may_be_1[i];
		rich->caps.may_be_1[i] |= must_be_1[i];
	}
	/* An "allowed" control for SMM would not be wrong by itself. */
	rich->caps.basic = REVISION_ID | BIT(55) | BIT(56) | BIT(58);
	rich->caps.misc = BITS(8, 6) | 4ull << 16 | BIT(30);
	rich->caps.cr0_fixed0 = poor->caps.cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG;
	rich->caps.cr0_fixed1 = poor->caps.cr0_fixed1 = BITS(31, 0);
	rich->caps.cr4_fixed0 = poor->caps.cr4_fixed0 = CR4_VMXE;
	rich->caps.cr4_fixed1 = BITS(25, 0) & ~BIT(15);
	rich->caps.cr4_fixed1 |= CR4_FRED;
	rich->caps.ept_vpid_cap = EPT_CAP_WALK_4 | EPT_CAP_WB | EPT_CAP_AD;
	rich->intel64 = rich->cet_ss = rich->cet_ibt = rich->sgx = rich->rtm = true;
	rich->fred = rich->bus_lock_detect = rich->nx = rich->rdtscp = true;
	rich->maxphyaddr = rich->physical_bits = 46;
	rich->linear_bits = 57;
	rich->perf_global_ctrl = BITS(3, 0) | BITS(34, 32);

	*poor = (struct entry_cpu){
		.caps = poor->caps, .intel64 = true, .maxphyaddr = 36, .physical_bits = 36,
		.linear_bits = 48,
	};
	poor->caps.basic = REVISION_ID;
	poor->caps.cr4_fixed1 = BITS(10, 0) | CR4_VMXE;
	memcpy(poor->caps.must_be_1, must_be_1, sizeof(must_be_1));
	memcpy(poor->caps.may_be_1, must_be_1, sizeof(must_be_1));
	poor->caps.may_be_1[CONTROL_FIELD_PROC1] |= BIT(31) | BIT(21);
	poor->caps.may_be_1[CONTROL_FIELD_PROC2] = BIT(1);
	poor->caps.may_be_1[CONTROL_FIELD_EXIT] |= BIT(9) | BITS(21, 18);
	poor->caps.may_be_1[CONTROL_FIELD_ENTRY] |= BIT(9) | BIT(2) | BITS(15, 14);
	poor->caps.must_be_1[CONTROL_FIELD_ENTRY] &= ~BIT(2);
	poor->caps.ept_vpid_cap = EPT_CAP_WALK_4 | EPT_CAP_UC | EPT_CAP_WB;
}

/* --- the 64-bit base state ---------------------------------------------------------- */

static u64 page[512];

/* Nothing but the page, and the region of the current VMCS, is known. */
static bool read_page(void *memory, u64 address, u32 size, u64 *value)
{
	(void)memory;
	if (address - VMCS_AT < sizeof(page)) {
		*value = REVISION_ID;
		return true;
	}
	if (address - EMPTY_AT < sizeof(page)) {
		*value = 0;
		return true;
	}
	if (address < PAGE_AT || address - PAGE_AT > sizeof(page) - size)
		return false;
	*value = 0;
	memcpy(value, (char *)page + (address - PAGE_AT), size);
	return true;
}

static void poke(struct entry_scene *scene, u32 offset, u64 value)
{
	(void)scene;
	page[offset / 8] = value;
}

static const struct { u16 index; u64 value; } defaults[] = {
#define SET(name, value) { INDEX_##name, value },
#include "entry_defaults.def"
#undef SET
};

static void make_scene(struct entry_scene *scene, u32 processor)
{
	const struct entry_cpu *cpu = &processors[processor];
	struct entry_input *in = &scene->in;
	u32 i;

	memset(scene, 0, sizeof(*scene));
	memset(page, 0, sizeof(page));
	for (i = 0; i < ARRAY_SIZE(defaults); i++)
		in->field[defaults[i].index] = defaults[i].value;
	F(PIN_BASED_VM_EXECUTION_CONTROLS) = cpu->caps.must_be_1[CONTROL_FIELD_PIN];
	F(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) = cpu->caps.must_be_1[CONTROL_FIELD_PROC1];
	F(PRIMARY_VM_EXIT_CONTROLS) |= cpu->caps.must_be_1[CONTROL_FIELD_EXIT];
	F(VM_ENTRY_CONTROLS) |= cpu->caps.must_be_1[CONTROL_FIELD_ENTRY];
	in->cpu = cpu;
	in->read = read_page;
	in->state = (struct entry_state){
		.vmx_operation = true, .cr0 = F(HOST_CR0), .cr4 = F(HOST_CR4), .rflags = RFLAGS_FIXED,
		.efer = F(HOST_IA32_EFER), .cs_l = true, .current_vmcs = VMCS_AT,
	};
	scene->page = PAGE_AT;
	scene->empty_page = EMPTY_AT;
	scene->ept_pointer = EPTP;
	scene->imagined = true;
	scene->poke = poke;
}

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

static const struct trial {
	const char *id;
	entry_trial *change;
	int rule;			/* -1: allowed */
} trials[] = {
#define RULE(name, id, section, result, words, needs, broken, ...) \
	{ id, violate_##name, ENTRY_RULE_##name },
#define ALLOWED(name, id, section, words, needs, ...) { id, allow_##name, -1 },
#include "vmx/entry_rules.def"
#undef RULE
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
	u32 i;

	if (!expected(trial->id, line, sizeof(line)))
		fail_msg("%s is no row of the table", trial->id);
	if (prediction->may_enter || !prediction->outcome_count)
		fail_msg("%s: the model lets it enter", trial->id);
	for (i = 0; i < prediction->outcome_count; i++) {
		outcome_text(text, sizeof(text), prediction->outcomes[i]);
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
	memset(page, 0, sizeof(page));
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
		if (!prediction.may_enter || prediction.outcome_count)
			fail_msg("%s, trial %u, %s: broken: %s", trial->id, n,
				 entry_base_words(scene->base), prediction.broken_count ?
				 entry_rules[prediction.broken[0]].id : "none, but uncertain");
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
			      entry_rules[prediction.broken[0]].id, entry_rules[prediction.broken[1]].id);
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
static u32 try_base(const struct trial *trial, u32 processor, enum entry_base state, const char **why)
{
	struct entry_scene base, scene;
	const char *answer;
	u32 n, count = 0;

	for (n = 0;; n++) {
		make_scene(&base, processor);
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

	for (processor = 0; processor < PROCESSORS; processor++)
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
			make_scene(&scene, processor);
			if (entry_set_base(&scene, base))
				continue;
			entry_predict(&scene.in, &prediction);
			if (!prediction.may_enter || prediction.outcome_count)
				fail_msg("%s, processor %u: broken: %s", entry_base_words(base),
					 processor, prediction.broken_count ?
					 entry_rules[prediction.broken[0]].id : "none, but uncertain");
		}
	}
}

#include "entry_states.h"

int main(void)
{
	static struct CMUnitTest tests[ARRAY_SIZE(trials) + ARRAY_SIZE(others)];
	u32 count = 0, i;

	make_processors();
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
