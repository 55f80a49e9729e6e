/*
 * Tests of exit_test.c about the lists of MSRs: what is in memory before and after, what the MSRs
 * hold before and after, and what the model knows of them by that.
 */

static struct exit_listed_msr listed_to_enter[2], listed_to_store[2], listed_to_load[2];

static void use_list(struct exit_list *list, struct exit_listed_msr *msr, u32 count)
{
	*list = (struct exit_list){ .listed = count, .count = count, .msr = msr };
}

static struct exit_listed_msr unchanged(u32 index, u64 value)
{
	return (struct exit_listed_msr){
		.index_before = index, .value_before = value, .index = index, .value = value,
		.had = value, .now = value, .readable = true,
	};
}

/* A store list of KERNEL_GS_BASE; a load list that gives STAR 5, then 6. */
static void make_lists(struct scene *scene, outcome_t outcome)
{
	make_scene(scene, SCENE_cpuid);
	scene->x.outcome = outcome;
	listed_to_store[0] = unchanged(IA32_KERNEL_GS_BASE, 2);
	listed_to_store[0].value_before = 1;
	listed_to_load[0] = unchanged(IA32_STAR, 5);
	listed_to_load[1] = unchanged(IA32_STAR, 6);
	listed_to_load[0].now = 6;
	use_list(&scene->x.store, listed_to_store, 1);
	use_list(&scene->x.load, listed_to_load, 2);
}

static bool violated(const struct scene *scene, u32 rule)
{
	return search_rule(scene, rule).violated;
}

static void test_lists(void **state)
{
	const outcome_t failure = OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0);
	static struct scene scene;

	(void)state;
	make_lists(&scene, OUTCOME_EXIT(EXIT_CPUID));
	assert_true(search_rule(&scene, EXIT_RULE_store_order).found);
	assert_false(violated(&scene, EXIT_RULE_store_order));
	assert_false(violated(&scene, EXIT_RULE_store_index));
	assert_false(violated(&scene, EXIT_RULE_load_order));
	listed_to_store[0].value = 3;
	assert_true(violated(&scene, EXIT_RULE_store_order));
	listed_to_store[0].index |= BIT(40);
	assert_true(violated(&scene, EXIT_RULE_store_index));
	listed_to_load[0].now = 5;
	assert_true(violated(&scene, EXIT_RULE_load_order));

	make_lists(&scene, failure);
	assert_true(violated(&scene, EXIT_RULE_failure_msr_store));
	listed_to_store[0].value = 1;
	assert_false(violated(&scene, EXIT_RULE_failure_msr_store));
	assert_false(violated(&scene, EXIT_RULE_failure_msr_load));
	listed_to_load[1].now = 5;
	assert_true(violated(&scene, EXIT_RULE_failure_msr_load));
}

/* 30.4, 30.6: with bits 63:32 of an entry there is no exit but a VMX abort. */
static void test_reserved_entries(void **state)
{
	static struct scene scene;
	u32 bit;

	(void)state;
	make_lists(&scene, OUTCOME_EXIT(EXIT_CPUID));
	assert_true(search_rule(&scene, EXIT_RULE_store_reserved).found);
	assert_false(violated(&scene, EXIT_RULE_store_reserved));
	assert_false(violated(&scene, EXIT_RULE_load_reserved));
	for (bit = 32; bit < 64; bit++) {
		make_lists(&scene, OUTCOME_EXIT(EXIT_CPUID));
		listed_to_store[0].index_before |= BIT(bit);
		listed_to_store[0].index |= BIT(bit);
		assert_true(violated(&scene, EXIT_RULE_store_reserved));
		assert_false(violated(&scene, EXIT_RULE_store_index));
		listed_to_load[1].index |= BIT(bit);
		assert_true(violated(&scene, EXIT_RULE_load_reserved));
		/* The first one is the last that counts then. */
		assert_true(violated(&scene, EXIT_RULE_load_order));
	}
	/* Nothing is stored when an entry fails. */
	scene.x.outcome = OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE, 0);
	assert_false(search_rule(&scene, EXIT_RULE_store_reserved).found);
}

/* What runs on: the MSR before the entry, as it was stored, and now. */
static void test_stored_counters(void **state)
{
	enum { NO_LIST, ENTRY_LOADS, EXIT_LOADS };
	static const struct {
		u32 msr;
		u64 had, value, now;
		u8 list;
		u32 listed;
		bool found, violated;
	} rows[] = {
		{ IA32_TSC, 100, 100, 200, NO_LIST, 0, true, false },
		{ IA32_TSC, 100, 200, 200, NO_LIST, 0, true, false },
		{ IA32_TSC, 100, 99, 200, NO_LIST, 0, true, true },
		{ IA32_TSC, 100, 201, 200, NO_LIST, 0, true, true },
		{ IA32_TSC, 200, 99, 100, NO_LIST, 0, false, false },
		/* The entry loads 1000, the exit 5000: it went on from there, to there. */
		{ IA32_TSC, 100, 1001, 1100, ENTRY_LOADS, IA32_TSC, true, false },
		{ IA32_TSC, 100, 999, 1100, ENTRY_LOADS, IA32_TSC, true, true },
		{ IA32_TSC, 100, 10, 1100, ENTRY_LOADS, IA32_TSC_ADJUST, true, false },
		{ IA32_TSC, 100, 1101, 1100, ENTRY_LOADS, IA32_TSC_ADJUST, true, true },
		{ IA32_TSC, 100, 6000, 5000, EXIT_LOADS, IA32_TSC, true, false },
		{ IA32_TSC, 100, 99, 5000, EXIT_LOADS, IA32_TSC, true, true },
		{ IA32_TSC, 100, 6000, 5000, EXIT_LOADS, IA32_TSC_ADJUST, true, false },
		{ IA32_TSC, 100, 6000, 5000, EXIT_LOADS, IA32_STAR, true, true },
		{ 0xe7, 100, 99, 200, NO_LIST, 0, true, true },
		{ 0xe8, 100, 201, 200, NO_LIST, 0, true, true },
		{ 0xc1, 100, 201, 200, NO_LIST, 0, true, true },
		{ 0xc8, 100, 150, 200, NO_LIST, 0, true, false },
		{ 0x30b, 100, 201, 200, NO_LIST, 0, true, true },
		{ 0x4c1, 100, 99, 200, NO_LIST, 0, true, true },
		{ IA32_STAR, 100, 100, 200, NO_LIST, 0, false, false },
	};
	static struct scene scene;
	struct search search;
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		make_scene(&scene, SCENE_cpuid);
		listed_to_store[0] = unchanged(rows[i].msr, rows[i].value);
		listed_to_store[0].had = rows[i].had;
		listed_to_store[0].now = rows[i].now;
		use_list(&scene.x.store, listed_to_store, 1);
		listed_to_enter[0] = unchanged(rows[i].listed, 1000);
		listed_to_load[0] = unchanged(rows[i].listed, 5000);
		use_list(&scene.x.entry_load, listed_to_enter, rows[i].list == ENTRY_LOADS);
		use_list(&scene.x.load, listed_to_load, rows[i].list == EXIT_LOADS);
		search = search_rule(&scene, EXIT_RULE_store_counter);
		if (search.found != rows[i].found || search.violated != rows[i].violated)
			fail_msg("row %u: found %u, violated %u", i, search.found, search.violated);
	}
}

/* 27.6.5: it may be the TSC of the guest that is stored, but no third one. */
static void test_stored_tsc_of_guest(void **state)
{
	static const struct { u64 value; bool scaled, violated; } rows[] = {
		{ 150, false, false }, { 1150, false, false }, { 1201, false, true },
		{ 2150, false, true }, { 150, true, false }, { 1300, true, false },
		{ 1150, true, true }, { 1401, true, true },
	};
	static struct scene scene;
	struct entry_input *in = &scene.entry;
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		make_scene(&scene, SCENE_cpuid);
		ON(PROC1, USE_TSC_OFFSETTING);
		F(TSC_OFFSET) = 1000;
		F(TSC_MULTIPLIER) = 2 * BIT(48);
		if (rows[i].scaled)
			ON(PROC2, USE_TSC_SCALING);
		listed_to_store[0] = unchanged(IA32_TSC, rows[i].value);
		listed_to_store[0].had = 100;
		listed_to_store[0].now = 200;
		use_list(&scene.x.store, listed_to_store, 1);
		if (violated(&scene, EXIT_RULE_store_counter) != rows[i].violated)
			fail_msg("row %u", i);
	}
}

/* The deadline may be over; a status is no longer the same; what has a field is as that says. */
static void test_stored_values(void **state)
{
	static const struct { u32 msr; u64 value, now; bool found, violated; } rows[] = {
		{ IA32_TSC_DEADLINE, 5, 5, true, false }, { IA32_TSC_DEADLINE, 0, 5, true, true },
		{ IA32_TSC_DEADLINE, 5, 0, false, false }, { 0x19c, 5, 6, false, false },
		{ IA32_STAR, 5, 5, true, false }, { IA32_STAR, 5, 6, true, true },
		{ IA32_PAT, 0x55, 0, true, false }, { IA32_PAT, 0x54, 0, true, true },
		{ IA32_S_CET, 0x55, 0, true, false }, { IA32_S_CET, 0x54, 0, true, true },
		{ IA32_SPEC_CTRL, 0x54, 0, true, true },
		{ IA32_FRED_SSP3, 0x54, 0, true, true }, { IA32_DEBUGCTL, 0x54, 0, true, true },
		{ IA32_FS_BASE, 0x54, 0, true, true },
		/* Of the field there are 32 bits. */
		{ IA32_SYSENTER_CS, BIT(32) | 0x55, 0, true, false },
		{ IA32_SYSENTER_CS, 0x54, 0, true, true },
	};
	static struct scene scene;
	struct exit_input *x = &scene.x;
	struct search search;
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		make_scene(&scene, SCENE_all_on);
		NOW(GUEST_IA32_PAT) = NOW(GUEST_IA32_S_CET) = NOW(GUEST_IA32_SPEC_CTRL) = 0x55;
		NOW(GUEST_IA32_FRED_SSP3) = NOW(GUEST_FS_BASE) = 0x55;
		NOW(GUEST_IA32_SYSENTER_CS) = NOW(GUEST_IA32_DEBUGCTL) = 0x55;
		listed_to_store[0] = unchanged(rows[i].msr, rows[i].value);
		listed_to_store[0].now = rows[i].now;
		use_list(&scene.x.store, listed_to_store, 1);
		search = search_rule(&scene, EXIT_RULE_store_order);
		if (search.found != rows[i].found || search.violated != rows[i].violated)
			fail_msg("row %u: found %u, violated %u", i, search.found, search.violated);
	}
}

static void test_loaded_values(void **state)
{
	static const struct { u32 msr; u64 value, now; bool found, violated; } rows[] = {
		{ IA32_TSC, 5000, 5000, true, false }, { IA32_TSC, 5000, 4999, true, true },
		{ IA32_TSC, 5000, 5000 + BIT(40), true, false },
		{ IA32_TSC, 5000, 5001 + BIT(40), true, true },
		{ IA32_TSC, ~1ull, ~0ull, true, false },
		{ 0xe8, 5000, 4999, true, true }, { 0xc1, BIT(31), 0, false, false },
		{ IA32_TSC_DEADLINE, 5, 0, false, false }, { IA32_TSC_DEADLINE, 5, 6, true, true },
		{ IA32_EFER, EFER_LME, EFER_LME | EFER_LMA, true, false },
		{ IA32_EFER, EFER_LME, EFER_LME | EFER_NXE, true, true },
		{ IA32_SYSENTER_CS, 0x10008, 8, true, false },
		{ IA32_SYSENTER_CS, 0x10008, 9, true, true },
		{ 0x1b1, 5, 6, false, false },
	};
	static struct scene scene;
	struct search search;
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		make_scene(&scene, SCENE_cpuid);
		listed_to_load[0] = unchanged(rows[i].msr, rows[i].value);
		listed_to_load[0].now = rows[i].now;
		use_list(&scene.x.load, listed_to_load, 1);
		search = search_rule(&scene, EXIT_RULE_load_order);
		if (search.found != rows[i].found || search.violated != rows[i].violated)
			fail_msg("row %u: found %u, violated %u", i, search.found, search.violated);
	}
	/* The one changes with the other. */
	listed_to_load[0] = unchanged(IA32_TSC_ADJUST, 5);
	listed_to_load[1] = unchanged(IA32_TSC, 7);
	listed_to_load[0].now = listed_to_load[1].now = 6;
	use_list(&scene.x.load, listed_to_load, 2);
	assert_false(search_rule(&scene, EXIT_RULE_load_order).found);
}

/* The entry's list counts as the entry found it, the exit's as the exit did. */
static void test_lists_in_memory(void **state)
{
	static struct scene scene;
	struct search search;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	listed_to_enter[0] = unchanged(IA32_SYSENTER_ESP, 0x1111);
	listed_to_enter[0].value = 0x2222;
	listed_to_enter[0].index = IA32_STAR;
	listed_to_load[0] = unchanged(IA32_SYSENTER_EIP, 0x3333);
	listed_to_load[0].value_before = 0x4444;
	use_list(&scene.x.entry_load, listed_to_enter, 1);
	use_list(&scene.x.load, listed_to_load, 1);
	search = search_rule(&scene, EXIT_RULE_save_sysenter_esp);
	assert_true(search.found && search.claim.value == 0x1111);
	search = search_rule(&scene, EXIT_RULE_host_sysenter_eip);
	assert_true(search.found && search.claim.value == 0x3333);
}

/* 29.4: "virtualize IA32_SPEC_CTRL" and a list with that MSR do not go together. */
static void test_undefined_spec_ctrl(void **state)
{
	static struct scene scene;
	struct entry_input *in = &scene.entry;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	F(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) =
		control_bit(CONTROL_PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
	ON(PROC1, ACTIVATE_TERTIARY_CONTROLS);
	assert_true(search_rule(&scene, EXIT_RULE_save_spec_ctrl).found);
	assert_true(search_rule(&scene, EXIT_RULE_host_spec_ctrl_kept).claim.bits);
	listed_to_enter[0] = unchanged(IA32_SPEC_CTRL, 1);
	listed_to_store[0] = unchanged(IA32_SPEC_CTRL, 1);
	use_list(&scene.x.entry_load, listed_to_enter, 1);
	use_list(&scene.x.store, listed_to_store, 1);
	assert_false(search_rule(&scene, EXIT_RULE_save_spec_ctrl).found);
	assert_false(search_rule(&scene, EXIT_RULE_host_spec_ctrl_kept).claim.bits);
	assert_false(search_rule(&scene, EXIT_RULE_store_order).found);
	OFF(PROC1, ACTIVATE_TERTIARY_CONTROLS);
	assert_true(search_rule(&scene, EXIT_RULE_save_spec_ctrl).found);
	assert_true(search_rule(&scene, EXIT_RULE_store_order).found);
}

/* All controls on; one MSR is in the list of the entry and in that of the exit. */
static void list_in_both(struct scene *scene, u32 msr, u64 entered, u64 loaded)
{
	make_scene(scene, SCENE_all_on);
	listed_to_enter[0] = unchanged(msr, entered);
	listed_to_load[0] = unchanged(msr, loaded);
	use_list(&scene->x.entry_load, listed_to_enter, 1);
	use_list(&scene->x.load, listed_to_load, 1);
}

/* Software cannot write LMA, by a list either. */
static void test_listed_lma(void **state)
{
	static struct scene scene;
	struct search search;

	(void)state;
	list_in_both(&scene, IA32_EFER, EFER_LME | EFER_NXE, EFER_NXE);
	search = search_rule(&scene, EXIT_RULE_save_efer);
	assert_true(search.found && search.claim.value == (EFER_LME | EFER_LMA | EFER_NXE));
	search = search_rule(&scene, EXIT_RULE_host_efer_mode);
	assert_true(search.found && search.claim.value == (EFER_LME | EFER_LMA));
}

/* 29.4, 30.6: the lists come behind UINV of the fields. */
static void test_listed_uinv(void **state)
{
	static struct scene scene;
	struct entry_input *in = &scene.entry;
	struct search search;

	(void)state;
	make_scene(&scene, SCENE_all_on);
	assert_true(search_rule(&scene, EXIT_RULE_host_uinv).found);
	list_in_both(&scene, IA32_UINTR_MISC, 0x3300000000, 0x4400000000);
	search = search_rule(&scene, EXIT_RULE_save_uinv);
	assert_true(search.found && search.claim.value == 0x33);
	assert_false(search_rule(&scene, EXIT_RULE_host_uinv).found);
	OFF(EXIT, CLEAR_UINV);
	assert_false(search_rule(&scene, EXIT_RULE_host_uinv_kept).found);
	use_list(&scene.x.load, listed_to_load, 0);
	assert_true(search_rule(&scene, EXIT_RULE_host_uinv_kept).found);
}

/* Of a longer list the model would know only a part. */
static void test_long_lists(void **state)
{
	static struct scene scene;
	struct exit_list *each[] = { &scene.x.entry_load, &scene.x.store, &scene.x.load };
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(each); i++) {
		make_scene(&scene, SCENE_cpuid);
		each[i]->listed = EXIT_MAX_LISTED;
		assert_true(exit_lists_are_kept(&scene.x));
		each[i]->listed++;
		assert_false(exit_lists_are_kept(&scene.x));
		scene.x.outcome = OUTCOME_ENTRY_FAILURE(33, 0);
		assert_int_equal(exit_lists_are_kept(&scene.x), each[i] != &scene.x.load);
		scene.x.outcome = OUTCOME_VMFAIL_VALID(7);
		assert_true(exit_lists_are_kept(&scene.x));
	}
}
