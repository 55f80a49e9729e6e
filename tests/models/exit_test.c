/*
 * The model of VM exits (lib/x86/vmx/exit_model.c) on the host.
 *
 * Every rule gets a conforming vector, an exit of exit_scenes.def for which all claims hold, and
 * violating ones: the same exit with one bit changed that the rule speaks of, for each such bit.
 * The model must name the rule then. What the rules claim of single scenes is also written out, in
 * exit_values.def, so that the model does not judge itself. And exit_good.def has exits next to the
 * boundary of what each rule says, and of where.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit_settle.h"
#include "vmx/exit_words.h"

#define PAGE_AT		0x40000000ull
#define EPTP		(0x60000000ull | 3 << 3 | 6)

/* --- scenes ------------------------------------------------------------------------- */

#define PAGE_WORDS	64

static struct entry_cpu cpu;

static bool read_page(void *memory, u64 address, u32 size, u64 *value)
{
	if (address < PAGE_AT || address - PAGE_AT > PAGE_WORDS * 8 - size)
		return false;
	*value = 0;
	memcpy(value, (char *)memory + (address - PAGE_AT), size);
	return true;
}

static void set_control(struct entry_input *in, u32 index, u64 bit, bool on)
{
	in->field[index] = on ? in->field[index] | bit : in->field[index] & ~bit;
}

/* The words of a scene; the fields of controls are all in use. */
#undef ON
#undef OFF
#define FIELD_OF_PIN	INDEX_PIN_BASED_VM_EXECUTION_CONTROLS
#define FIELD_OF_PROC1	INDEX_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define FIELD_OF_PROC2	INDEX_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define FIELD_OF_PROC3	INDEX_TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define FIELD_OF_EXIT	INDEX_PRIMARY_VM_EXIT_CONTROLS
#define FIELD_OF_EXIT2	INDEX_SECONDARY_VM_EXIT_CONTROLS
#define FIELD_OF_ENTRY	INDEX_VM_ENTRY_CONTROLS
#define ON(field, name) \
	set_control(in, FIELD_OF_##field, control_bit(CONTROL_##field##_##name), true)
#define OFF(field, name) \
	set_control(in, FIELD_OF_##field, control_bit(CONTROL_##field##_##name), false)

struct scene {
	struct entry_input entry;
	struct exit_input x;
	u64 page[PAGE_WORDS];
};

static void copy_scene(struct scene *to, const struct scene *from)
{
	*to = *from;
	to->entry.memory = to->page;
	to->x.entry = &to->entry;
}

enum scene_number {
#define SCENE(name, outcome, ...) SCENE_##name,
#include "exit_scenes.def"
#undef SCENE
	SCENES,
};

static const struct {
	const char *name;
	outcome_t outcome;
} scenes[] = {
#define SCENE(name, outcome, ...) { #name, outcome },
#include "exit_scenes.def"
#undef SCENE
};

static const struct { u16 index; u64 value; } defaults[] = {
#define SET(name, value) { INDEX_##name, value },
#include "entry_defaults.def"
#undef SET
};

static void make_cpu(void)
{
#define CONTROL(field, bit, ...) cpu.caps.may_be_1[CONTROL_FIELD_##field] |= BIT(bit);
#include "sdm/controls.def"
#undef CONTROL
	cpu.caps.misc = BIT(5);
	cpu.caps.basic = BIT(54);	/* information on INS and OUTS */
	cpu.intel64 = true;
	cpu.maxphyaddr = cpu.physical_bits = 46;
	cpu.linear_bits = 48;
}

static void change_scene(struct scene *scene, enum scene_number number)
{
	struct entry_input *in = &scene->entry;
	struct exit_input *x = &scene->x;
	u64 *page = scene->page;

	(void)page;
	switch (number) {
#define SCENE(name, outcome, ...) case SCENE_##name: __VA_ARGS__ break;
#include "exit_scenes.def"
#undef SCENE
	case SCENES:
		break;
	}
}

/* Where the value of a claim's subject is. */
static u64 *storage(struct exit_input *x, u16 subject)
{
	u64 *at = claim_storage(x, subject);

	if (!at)
		fail_msg("a claim about an entry of a list");
	return at;
}

/* A 64-bit guest, before its entry and behind an exit that has changed nothing. */
static void begin_scene(struct scene *scene, outcome_t outcome)
{
	struct entry_input *in = &scene->entry;
	struct exit_input *x = &scene->x;
	u32 i;

	memset(scene, 0, sizeof(*scene));
	for (i = 0; i < ARRAY_SIZE(defaults); i++)
		in->field[defaults[i].index] = defaults[i].value;
	ON(PROC1, ACTIVATE_SECONDARY_CONTROLS);
	ON(EXIT, ACTIVATE_SECONDARY_CONTROLS);
	in->cpu = &cpu;
	in->read = read_page;
	in->memory = scene->page;
	x->entry = in;
	x->exists = BIT(EXIT_REGISTERS) - 1;
	memset(x->has_field, 0xff, sizeof(x->has_field));
	HAD(CR0) = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	HAD(EFER) = EFER_LMA | EFER_LME;
	HAD(DR7) = DR7_FIXED;
	memcpy(x->field, in->field, sizeof(x->field));
	x->outcome = outcome;
	NOW(EXIT_REASON) = exit_basic_reason(x);
}

static void settle_scene(struct scene *scene, enum scene_number number)
{
	u32 i;

	begin_scene(scene, scenes[number].outcome);
	change_scene(scene, number);
	/* What the scene has changed before the entry is unchanged behind it. */
	for (i = 0; i < VMCS_FIELDS; i++)
		if (scene->entry.field[i] && !scene->x.field[i])
			scene->x.field[i] = scene->entry.field[i];
	if (!settle(&scene->x))
		fail_msg("%s: no conforming exit: claims contradict each other",
			 scenes[number].name);
}

static void make_scene(struct scene *scene, enum scene_number number)
{
	static struct scene settled[SCENES];
	static bool known[SCENES];

	if (!known[number])
		settle_scene(&settled[number], number);
	known[number] = true;
	copy_scene(scene, &settled[number]);
}

/* --- rules --------------------------------------------------------------------------- */

struct search {
	u32 rule;
	bool found, violated;
	struct exit_claim claim;
};

static void look_for(void *context, const struct exit_claim *claim)
{
	struct search *search = context;

	if (claim->rule != search->rule)
		return;
	if (!search->found)
		search->claim = *claim;
	search->found = true;
	search->violated |= !exit_claim_holds(claim);
}

static struct search search_rule(const struct scene *scene, u32 rule)
{
	struct search search = { .rule = rule };

	exit_judge(&scene->x, look_for, &search);
	return search;
}

static void expect_violated(const struct scene *settled, const struct exit_claim *claim, u64 value)
{
	static struct scene scene;

	copy_scene(&scene, settled);
	*storage(&scene.x, claim->subject) = value;
	if (!search_rule(&scene, claim->rule).violated)
		fail_msg("%s: %#llx is not a violation", exit_rules[claim->rule].name,
			 (unsigned long long)value);
}

/* A bit that selects another rule for the same field does not count: it is another exit then. */
static bool selects(u32 rule)
{
	return rule == EXIT_RULE_original_is_injected || rule == EXIT_RULE_original_nmi ||
	       rule == EXIT_RULE_original_exception || rule == EXIT_RULE_event_error_code ||
	       rule == EXIT_RULE_event_type || rule == EXIT_RULE_original_error_code ||
	       rule == EXIT_RULE_event_vector;
}

/* Each bit of the claim, or the values next to the range. */
static u32 violate(const struct scene *settled, const struct exit_claim *claim)
{
	u64 got = claim->got, bits;
	u32 count = 0;

	if (claim->range) {
		if (claim->low)
			expect_violated(settled, claim, claim->low - 1);
		expect_violated(settled, claim, claim->high + 1);
		return 1;
	}
	for (bits = claim->bits; bits; bits &= bits - 1) {
		static struct scene scene;

		if (selects(claim->rule)) {
			copy_scene(&scene, settled);
			*storage(&scene.x, claim->subject) = got ^ (bits & -bits);
			if (!search_rule(&scene, claim->rule).found)
				continue;
		}
		expect_violated(settled, claim, got ^ (bits & -bits));
		count++;
	}
	return count;
}

static bool same_claim(const struct exit_claim *a, const struct exit_claim *b)
{
	return a->range == b->range && a->got == b->got && a->bits == b->bits &&
	       a->value == b->value;
}

static void test_rule(void **state)
{
	u32 rule = (uintptr_t)*state, count = 0;
	struct exit_claim last = { 0 };
	static struct scene scene;
	enum scene_number number;

	for (number = 0; number < SCENES; number++) {
		struct search search;

		make_scene(&scene, number);
		search = search_rule(&scene, rule);
		if (!search.found)
			continue;
		if (search.violated != search.claim.never)
			fail_msg("%s: wrong in the conforming scene %s", exit_rules[rule].name,
				 scenes[number].name);
		/* What most scenes have in common is violated once. */
		if (count && same_claim(&last, &search.claim))
			continue;
		last = search.claim;
		count += search.violated ? 1 : violate(&scene, &search.claim);
	}
	if (!count)
		fail_msg("%s: no scene has it", exit_rules[rule].name);
}

/* --- rules about all fields of a kind, and lists ---------------------------------------- */

enum field_type { FIELD_CONTROL, FIELD_EXIT_INFO, FIELD_GUEST, FIELD_HOST };

static const u8 field_types[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) FIELD_##type,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static void expect_named(enum scene_number number, u32 index, u32 rule)
{
	static struct scene scene;

	make_scene(&scene, number);
	scene.x.field[index] ^= 2;
	if (!search_rule(&scene, rule).violated)
		fail_msg("%s: not named for the field with index %u", exit_rules[rule].name, index);
}

static void test_kept_fields(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < VMCS_FIELDS; i++) {
		bool host = field_types[i] == FIELD_HOST && i != INDEX_HOST_RSP;

		if (host || i == INDEX_TSC_OFFSET || i == INDEX_EPT_POINTER ||
		    i == INDEX_VMCS_LINK_POINTER)
			expect_named(SCENE_cpuid, i, EXIT_RULE_fields_kept);
		if (host || i == INDEX_TSC_OFFSET || i == INDEX_VM_ENTRY_CONTROLS)
			expect_named(SCENE_bad_guest, i, EXIT_RULE_failure_fields_kept);
		if (field_types[i] == FIELD_GUEST)
			expect_named(SCENE_bad_guest, i, EXIT_RULE_failure_guest_area);
		if (field_types[i] == FIELD_EXIT_INFO && i != INDEX_EXIT_REASON &&
		    i != INDEX_EXIT_QUALIFICATION)
			expect_named(SCENE_bad_guest, i, i == INDEX_EXITING_EVENT_IDENTIFICATION ?
				     EXIT_RULE_failure_event_identification :
				     i == INDEX_ORIGINAL_EVENT_IDENTIFICATION ?
				     EXIT_RULE_failure_original_identification :
				     i == INDEX_VM_EXIT_INSTRUCTION_LENGTH ?
				     EXIT_RULE_failure_instruction_length :
				     EXIT_RULE_failure_other_info);
	}
	expect_named(SCENE_bad_guest, INDEX_INJECTED_EVENT_IDENTIFICATION,
		     EXIT_RULE_failure_inject_valid);
}

static void test_vmfail(void **state)
{
	static struct scene scene;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	scene.x.outcome = OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS);
	memcpy(scene.x.field, scene.entry.field, sizeof(scene.x.field));
	memcpy(scene.x.after, scene.x.before, sizeof(scene.x.after));
	scene.x.field[INDEX_VM_INSTRUCTION_ERROR] = 7;
	scene.x.field[INDEX_HOST_RSP] ^= 8;
	scene.x.after[EXIT_REGISTER_RSP] ^= 8;
	scene.x.after[EXIT_REGISTER_RFLAGS] ^= 1;
	assert_false(search_rule(&scene, EXIT_RULE_vmfail_fields).violated);
	assert_false(search_rule(&scene, EXIT_RULE_vmfail_registers).violated);
	scene.x.field[INDEX_EXIT_REASON] ^= 1;
	scene.x.after[EXIT_REGISTER_CR3] ^= 8;
	assert_true(search_rule(&scene, EXIT_RULE_vmfail_fields).violated);
	assert_true(search_rule(&scene, EXIT_RULE_vmfail_registers).violated);
	scene.x.host_only = true;
	assert_false(search_rule(&scene, EXIT_RULE_vmfail_fields).found);
	assert_true(search_rule(&scene, EXIT_RULE_vmfail_registers).violated);
}

#include "exit_lists.h"
#include "exit_code.h"
#include "exit_good.h"

/* A field that the guest changes is not predicted; what holds for every guest still is. */
static void test_guest_changes(void **state)
{
	static struct scene scene;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	scene.x.guest_changes[INDEX_GUEST_DS_ACCESS_RIGHTS / 64] |=
		BIT(INDEX_GUEST_DS_ACCESS_RIGHTS % 64);
	assert_false(search_rule(&scene, EXIT_RULE_save_ds_rights).found);
	assert_true(search_rule(&scene, EXIT_RULE_save_ds_reserved).found);
	assert_true(search_rule(&scene, EXIT_RULE_save_es_rights).found);
}

static void test_host_only(void **state)
{
	static struct scene scene;

	(void)state;
	make_scene(&scene, SCENE_all_off);
	assert_true(search_rule(&scene, EXIT_RULE_host_uinv_kept).found);
	scene.x.host_only = true;
	assert_true(search_rule(&scene, EXIT_RULE_host_cr3).found);
	assert_false(search_rule(&scene, EXIT_RULE_host_uinv_kept).found);
	/* Bits 6 and 4 of CR0 are those of the guest, which nobody has read. */
	assert_int_equal(search_rule(&scene, EXIT_RULE_host_cr0).claim.bits & 0x7f, 0x2f);
	assert_false(search_rule(&scene, EXIT_RULE_host_pat_kept).found);
	assert_false(search_rule(&scene, EXIT_RULE_save_cr3).found);
}

/* --- values ------------------------------------------------------------------------------- */

static void check_claim(enum scene_number number, u32 rule, bool range, u64 a, u64 b)
{
	static struct scene scene;
	struct search search;

	make_scene(&scene, number);
	search = search_rule(&scene, rule);
	if (!search.found)
		fail_msg("%s, %s: no claim", scenes[number].name, exit_rules[rule].name);
	if (search.claim.range != range || search.claim.bits != a ||
	    (range ? search.claim.high != b : (search.claim.value & a) != b))
		fail_msg("%s, %s: claims %#llx, %#llx", scenes[number].name, exit_rules[rule].name,
			 (unsigned long long)search.claim.bits, (unsigned long long)
			 (range ? search.claim.high : search.claim.value & search.claim.bits));
}

static void check_forbidden(enum scene_number number, u32 rule)
{
	static struct scene scene;
	struct search search;

	make_scene(&scene, number);
	search = search_rule(&scene, rule);
	if (!search.found || !search.claim.never)
		fail_msg("%s, %s: allowed", scenes[number].name, exit_rules[rule].name);
}

static void check_no_claim(enum scene_number number, u32 rule)
{
	static struct scene scene;

	make_scene(&scene, number);
	if (search_rule(&scene, rule).found)
		fail_msg("%s, %s: a claim", scenes[number].name, exit_rules[rule].name);
}

#define CLAIM(scene, rule, bits, value)						\
	static void test_##scene##_##rule(void **state)				\
	{									\
		(void)state;							\
		check_claim(SCENE_##scene, EXIT_RULE_##rule, false, bits, value);\
	}
#define CLAIM_RANGE(scene, rule, low, high)					\
	static void test_##scene##_##rule(void **state)				\
	{									\
		(void)state;							\
		check_claim(SCENE_##scene, EXIT_RULE_##rule, true, low, high);	\
	}
#define FORBIDS(scene, rule)							\
	static void test_##scene##_##rule(void **state)				\
	{									\
		(void)state;							\
		check_forbidden(SCENE_##scene, EXIT_RULE_##rule);		\
	}
#define NO_CLAIM(scene, rule)							\
	static void test_##scene##_##rule(void **state)				\
	{									\
		(void)state;							\
		check_no_claim(SCENE_##scene, EXIT_RULE_##rule);		\
	}
#include "exit_values.def"
#undef CLAIM
#undef CLAIM_RANGE
#undef FORBIDS
#undef NO_CLAIM

/* --- the table of facts ---------------------------------------------------------------------- */

static void test_facts(void **state)
{
	FILE *file = fopen(getenv("HOST_AND_EXIT"), "r");
	bool found[EXIT_RULES] = { false };
	char line[1000];
	u32 i;

	(void)state;
	if (!file)
		fail_msg("HOST_AND_EXIT is not the table of facts");
	while (fgets(line, sizeof(line), file))
		for (i = 0; i < EXIT_RULES; i++)
			if (strlen(line) > strlen(exit_rules[i].id) &&
			    !memcmp(line, exit_rules[i].id, strlen(exit_rules[i].id)) &&
			    line[strlen(exit_rules[i].id)] == ',')
				found[i] = true;
	fclose(file);
	for (i = 0; i < EXIT_RULES; i++)
		if (!found[i])
			fail_msg("%s: %s is no row of the table", exit_rules[i].name,
				 exit_rules[i].id);
}

static const struct CMUnitTest others[] = {
	{ "every rule is a fact", test_facts, NULL, NULL, NULL },
	{ "fields that stay", test_kept_fields, NULL, NULL, NULL },
	{ "VMfail changes nothing", test_vmfail, NULL, NULL, NULL },
	{ "lists of MSRs", test_lists, NULL, NULL, NULL },
	{ "entries with reserved bits", test_reserved_entries, NULL, NULL, NULL },
	{ "counters in a store list", test_stored_counters, NULL, NULL, NULL },
	{ "the TSC of the guest in a store list", test_stored_tsc_of_guest, NULL, NULL, NULL },
	{ "values in a store list", test_stored_values, NULL, NULL, NULL },
	{ "values in a load list", test_loaded_values, NULL, NULL, NULL },
	{ "lists in memory", test_lists_in_memory, NULL, NULL, NULL },
	{ "IA32_SPEC_CTRL in lists", test_undefined_spec_ctrl, NULL, NULL, NULL },
	{ "IA32_EFER.LMA in lists", test_listed_lma, NULL, NULL, NULL },
	{ "IA32_UINTR_MISC in lists", test_listed_uinv, NULL, NULL, NULL },
	{ "long lists", test_long_lists, NULL, NULL, NULL },
	{ "the instruction at RIP", test_code, NULL, NULL, NULL },
	{ "where there is an instruction at RIP", test_code_matters, NULL, NULL, NULL },
	{ "what the guest changes", test_guest_changes, NULL, NULL, NULL },
	{ "the host state alone", test_host_only, NULL, NULL, NULL },
	{ "every rule has rows", test_rows, NULL, NULL, NULL },
#define CLAIM(scene, rule, ...) { #scene ": " #rule, test_##scene##_##rule, NULL, NULL, NULL },
#define CLAIM_RANGE	CLAIM
#define FORBIDS		CLAIM
#define NO_CLAIM	CLAIM
#include "exit_values.def"
};

int main(void)
{
	static struct CMUnitTest tests[EXIT_RULES + ARRAY_SIZE(others) + ARRAY_SIZE(rows)];
	u32 count = 0, i;

	make_cpu();
	for (i = 0; i < ARRAY_SIZE(others); i++)
		tests[count++] = others[i];
	/* The rules before the first one that is code; those have tests of their own above. */
	for (i = 0; i < EXIT_RULE_fields_kept; i++)
		tests[count++] = (struct CMUnitTest){ exit_rules[i].name, test_rule, NULL, NULL,
						      (void *)(uintptr_t)i };
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		tests[count++] = (struct CMUnitTest){ rows[i].name, test_row, NULL, NULL,
						      (void *)&rows[i] };
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("exit", tests, count, NULL, NULL) ? 1 : 0;
}
