/*
 * Tests of entry_test.c that are no rows of the tables of rules: the order of the basic checks and
 * of the stages, and the list of MSRs.
 */

static void expect_one(const struct entry_scene *scene, enum entry_stage stage, outcome_t outcome)
{
	struct entry_prediction prediction;
	outcome_t way;

	entry_predict(&scene->in, &prediction);
	assert_int_equal(prediction.stage, stage);
	assert_false(prediction.may_enter);
	assert_true(entry_way_to_fail(&prediction, 0, &way) && way == outcome);
	assert_false(entry_way_to_fail(&prediction, 1, &way));
	assert_true(entry_accepts(&prediction, outcome));
	assert_false(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
}

#define BASIC_FAILS(outcome) expect_one(&scene, ENTRY_STAGE_BASIC, outcome)

/* 29.1 and 33.3: from the last check to the first, each beats those that are broken already. */
static void test_basic_order(void **unused)
{
	struct entry_scene scene;
	struct entry_state *state = &scene.in.state;

	(void)unused;
	world_scene(&scene, RICH);
	scene.in.field[INDEX_PIN_BASED_VM_EXECUTION_CONTROLS] = 0;
	state->resume = true;
	BASIC_FAILS(OUTCOME_VMFAIL_VALID(5));
	state->resume = false;
	state->launch_state = LAUNCH_STATE_LAUNCHED;
	BASIC_FAILS(OUTCOME_VMFAIL_VALID(4));
	state->mov_ss_blocking = true;
	BASIC_FAILS(OUTCOME_VMFAIL_VALID(26));
	state->shadow_vmcs = true;
	BASIC_FAILS(OUTCOME_VMFAIL_INVALID);
	state->shadow_vmcs = false;
	state->current_vmcs = ~0ull;
	BASIC_FAILS(OUTCOME_VMFAIL_INVALID);
	state->cpl = 3;
	BASIC_FAILS(OUTCOME_GP0);
	state->non_root = true;
	BASIC_FAILS(OUTCOME_EXIT(EXIT_VMLAUNCH));
	state->resume = true;
	BASIC_FAILS(OUTCOME_EXIT(EXIT_VMRESUME));
	state->cs_l = false;
	BASIC_FAILS(OUTCOME_UD);
	state->cs_l = true;
	state->rflags |= RFLAGS_VM;
	BASIC_FAILS(OUTCOME_UD);
	state->rflags = RFLAGS_FIXED;
	state->cr0 &= ~CR0_PE;
	BASIC_FAILS(OUTCOME_UD);
	state->cr0 |= CR0_PE;
	state->vmx_operation = false;
	BASIC_FAILS(OUTCOME_UD);
}

static void test_unknown_launch_state(void **unused)
{
	struct entry_prediction prediction;
	struct entry_scene scene;

	(void)unused;
	world_scene(&scene, RICH);
	scene.in.state.launch_state = LAUNCH_STATE_UNKNOWN;
	entry_predict(&scene.in, &prediction);
	assert_true(prediction.may_enter);
	assert_true(entry_accepts(&prediction, OUTCOME_VMFAIL_VALID(4)));
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_VMCALL)));
	assert_false(entry_accepts(&prediction, OUTCOME_VMFAIL_VALID(5)));
}

/* 29.2: controls and host state in any order; both before the guest, and the guest before MSRs. */
static void test_stages(void **unused)
{
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, RICH);
	F(VM_ENTRY_MSR_LOAD_COUNT) = 1;
	world_page[0] = IA32_FS_BASE;
	expect_one(&scene, ENTRY_STAGE_MSR_LOAD, OUTCOME_ENTRY_FAILURE(34, 1));
	F(GUEST_RFLAGS) = 0;
	expect_one(&scene, ENTRY_STAGE_GUEST, OUTCOME_ENTRY_FAILURE(33, 0));
	F(HOST_CS_SELECTOR) = 0;
	expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(8));
	F(PIN_BASED_VM_EXECUTION_CONTROLS) = 0;
	entry_predict(in, &prediction);
	assert_int_equal(prediction.outcome_count, 2);
	assert_true(entry_accepts(&prediction, OUTCOME_VMFAIL_VALID(7)));
	assert_true(entry_accepts(&prediction, OUTCOME_VMFAIL_VALID(8)));
	assert_false(entry_accepts(&prediction, OUTCOME_ENTRY_FAILURE(33, 0)));
}

/* 29.4: the number is that of the first entry that fails. */
static void test_msr_number(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, RICH);
	world_page[0] = IA32_SYSENTER_CS;
	world_page[2] = IA32_PAT;
	world_page[3] = 0x0706050401000000;
	world_page[4] = IA32_PAT;
	world_page[5] = 2;
	world_page[6] = IA32_FS_BASE;
	F(VM_ENTRY_MSR_LOAD_COUNT) = 4;
	expect_one(&scene, ENTRY_STAGE_MSR_LOAD, OUTCOME_ENTRY_FAILURE(34, 3));
}

/* 29.4: what a model of processor refuses is in volume 4; either way is right. */
static void test_model_specific(void **unused)
{
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, RICH);
	world_page[0] = IA32_BIOS_SIGN_ID;
	F(VM_ENTRY_MSR_LOAD_COUNT) = 1;
	F(VM_ENTRY_MSR_LOAD_ADDRESS) = PAGE_AT;
	entry_predict(in, &prediction);
	assert_true(prediction.may_enter);
	assert_true(entry_accepts(&prediction, OUTCOME_ENTRY_FAILURE(34, 1)));
	assert_false(entry_accepts(&prediction, OUTCOME_ENTRY_FAILURE(34, 2)));
}

/* 29.2.1.2: a list may end with the last physical address. No machine has memory there. */
static void test_list_ends(void **unused)
{
	static const u16 lists[][2] = {
		{ INDEX_VM_EXIT_MSR_STORE_ADDRESS, INDEX_VM_EXIT_MSR_STORE_COUNT },
		{ INDEX_VM_EXIT_MSR_LOAD_ADDRESS, INDEX_VM_EXIT_MSR_LOAD_COUNT },
	};
	static const u16 counts[] = { 1, 2, 512 };
	struct entry_prediction prediction;
	struct entry_scene scene;
	u32 i, k;

	(void)unused;
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (k = 0; k < ARRAY_SIZE(counts); k++) {
			world_scene(&scene, RICH);
			scene.in.field[lists[i][0]] = BIT(46) - 16 * counts[k];
			scene.in.field[lists[i][1]] = counts[k];
			entry_predict(&scene.in, &prediction);
			assert_true(prediction.may_enter);
			scene.in.field[lists[i][1]]++;
			expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(7));
		}
	}
}

/* A.1: IA32_VMX_BASIC[48] limits the addresses of structures to 32 bits, and CR3 to 32 as well. */
static void test_32_bit_addresses(void **unused)
{
	struct entry_cpu cpu = world_processors[RICH];
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	cpu.caps.basic |= BIT(48);
	world_scene(&scene, RICH);
	in->cpu = &cpu;
	F(VM_EXIT_MSR_STORE_COUNT) = 1;
	F(VM_EXIT_MSR_STORE_ADDRESS) = BIT(32) - 16;
	entry_predict(in, &prediction);
	assert_true(prediction.may_enter);
	F(VM_EXIT_MSR_STORE_ADDRESS) = BIT(32);
	expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(7));
}

/* 29.2.1.3: without "unrestricted guest" CR0.PE does not count, though it is wrong as well. */
static void test_error_code_without_pe(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, POOR);
	F(GUEST_CR0) &= ~(CR0_PE | CR0_PG);
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_GP);
	expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(7));
}

/*
 * 29.2.1.3: SYSCALL and SYSENTER are events where the guest will have FRED transitions. Bit 32 of
 * the CR4 field gives none to a processor that does not know it.
 */
static void test_system_calls(void **unused)
{
	struct entry_cpu cpu = world_processors[RICH];
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	u32 vector;

	(void)unused;
	for (vector = 1; vector <= 2; vector++) {
		world_scene(&scene, RICH);
		in->cpu = &cpu;
		cpu.fred = true;
		F(VM_ENTRY_INSTRUCTION_LENGTH) = 2;
		INJECT(OTHER, vector);
		expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(7));
		F(GUEST_CR4) |= CR4_FRED;
		entry_predict(in, &prediction);
		assert_true(entry_must_succeed(&prediction));
		cpu.fred = false;
		expect_one(&scene, ENTRY_STAGE_VMCS, OUTCOME_VMFAIL_VALID(7));
	}
}

/* 29.4: x2APIC registers are 800H to 8FFH; the MSRs next to them are of unknown kind. */
static void test_x2apic_range(void **unused)
{
	static const struct { u32 index; bool refused; } msrs[] = {
		{ 0x7ff, false }, { 0x800, true }, { 0x8ff, true }, { 0x900, false },
	};
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	u32 i;

	(void)unused;
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		world_scene(&scene, RICH);
		world_page[0] = msrs[i].index;
		F(VM_ENTRY_MSR_LOAD_COUNT) = 1;
		F(VM_ENTRY_MSR_LOAD_ADDRESS) = PAGE_AT;
		entry_predict(in, &prediction);
		assert_int_equal(entry_breaks(&prediction, ENTRY_RULE_msrload_x2apic),
				 msrs[i].refused);
	}
}

static void test_no_intel64(void **unused)
{
	struct entry_cpu cpu = world_processors[POOR];
	struct entry_prediction prediction;
	struct entry_scene scene;

	(void)unused;
	world_scene(&scene, POOR);
	cpu.intel64 = false;
	scene.in.cpu = &cpu;
	entry_predict(&scene.in, &prediction);
	assert_true(entry_breaks(&prediction, ENTRY_RULE_host_no_intel64_both_zero));
}

#define MSR_FAILURE(n)	OUTCOME_ENTRY_FAILURE(34, n)

/* What an entry of the list that may be refused leaves open, and what it does not. */
static void test_msr_set(void **unused)
{
	static const bool may_fail[] = { true, false, true, true, false };
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	u32 i;

	(void)unused;
	world_scene(&scene, RICH);
	world_page[0] = IA32_BIOS_SIGN_ID;
	world_page[2] = IA32_STAR;
	world_page[4] = 0x3f7;
	world_page[6] = IA32_FS_BASE;
	world_page[8] = IA32_GS_BASE;
	F(VM_ENTRY_MSR_LOAD_COUNT) = 5;
	entry_predict(in, &prediction);
	assert_false(prediction.may_enter);
	assert_false(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
	for (i = 0; i < ARRAY_SIZE(may_fail); i++)
		assert_int_equal(entry_accepts(&prediction, MSR_FAILURE(i + 1)), may_fail[i]);
	assert_false(entry_accepts(&prediction, MSR_FAILURE(0)));
	F(VM_ENTRY_MSR_LOAD_COUNT) = 3;
	entry_predict(in, &prediction);
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
	assert_false(entry_must_succeed(&prediction));
	assert_true(entry_accepts(&prediction, MSR_FAILURE(3)));
	assert_false(entry_accepts(&prediction, MSR_FAILURE(4)));
}

/* Each of the longest list that A.6 lets be known, and none beyond it. */
static void test_many_msrs(void **unused)
{
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	outcome_t machine_check = OUTCOME_ENTRY_FAILURE(41, 0);
	u32 i;

	(void)unused;
	world_scene(&scene, RICH);
	F(VM_ENTRY_MSR_LOAD_ADDRESS) = 0x1000;
	F(VM_ENTRY_MSR_LOAD_COUNT) = 512;
	entry_predict(in, &prediction);
	assert_int_equal(prediction.msr_failures, 512);
	for (i = 1; i <= 512; i++)
		assert_true(entry_accepts(&prediction, MSR_FAILURE(i)));
	assert_false(entry_accepts(&prediction, MSR_FAILURE(513)));
	assert_false(entry_accepts(&prediction, machine_check));
	/* Nothing is left of the longer list. */
	F(VM_ENTRY_MSR_LOAD_COUNT) = 64;
	entry_predict(in, &prediction);
	assert_true(entry_accepts(&prediction, MSR_FAILURE(64)));
	assert_false(entry_accepts(&prediction, MSR_FAILURE(65)));
	F(VM_ENTRY_MSR_LOAD_COUNT) = 513;
	entry_predict(in, &prediction);
	assert_true(entry_accepts(&prediction, MSR_FAILURE(513)));
	assert_true(entry_accepts(&prediction, machine_check));
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
	assert_false(entry_accepts(&prediction, OUTCOME_ENTRY_FAILURE(33, 0)));
	assert_false(entry_must_succeed(&prediction));
}

#define BELOW	OUTCOME_EXIT(EXIT_TPR_BELOW_THRESHOLD)

/* Any exit, or that one alone. */
static void expect_threshold(const struct entry_scene *scene, bool pending)
{
	struct entry_prediction prediction;

	entry_predict(&scene->in, &prediction);
	assert_true(entry_must_succeed(&prediction));
	assert_true(entry_accepts(&prediction, BELOW));
	assert_int_equal(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)), !pending);
}

/* 29.7.7: what keeps an exit by the TPR threshold from being the first. */
static void test_threshold_behind_entry(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, RICH);
	ON(PROC1, USE_TPR_SHADOW);
	ON(PROC2, VIRTUALIZE_APIC_ACCESSES);
	F(TPR_THRESHOLD) = 5;
	world_page[0x80 / 8] = 0x4f;
	expect_threshold(&scene, true);
	world_page[0x80 / 8] = 0x50;
	expect_threshold(&scene, false);
	/* VTPR is the byte. */
	world_page[0x80 / 8] = 0x3ff40;
	expect_threshold(&scene, true);
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_NMI, 2);
	expect_threshold(&scene, true);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_OTHER, 0);
	expect_threshold(&scene, true);
	F(INJECTED_EVENT_IDENTIFICATION) = 0;
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_HLT;
	expect_threshold(&scene, true);
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_SHUTDOWN;
	expect_threshold(&scene, false);
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_WAIT_FOR_SIPI;
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
	OFF(PROC1, USE_TPR_SHADOW);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
	expect_exit(in, EXIT_CPUID, true);
	ON(PROC1, USE_TPR_SHADOW);
	ON(PIN, EXTERNAL_INTERRUPT_EXITING);
	ON(PROC2, VIRTUAL_INTERRUPT_DELIVERY);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
	expect_exit(in, EXIT_CPUID, true);
}

/* Volume 4 and table 36-6; the imagined processor has IBRS, STIBP, SSBD and RRSBA_DIS. */
static void test_reserved_bits(void **unused)
{
	static const struct { u32 control, field; u64 value; bool broken, open; } rows[] = {
#define SPEC(value, ...) { CONTROL_ENTRY_LOAD_IA32_SPEC_CTRL, INDEX_GUEST_IA32_SPEC_CTRL, value, \
			   __VA_ARGS__ }
#define RTIT(value, ...) { CONTROL_ENTRY_LOAD_IA32_RTIT_CTL, INDEX_GUEST_IA32_RTIT_CTL, value, \
			   __VA_ARGS__ }
		SPEC(0x67, false, false), SPEC(0x08, true, false), SPEC(0x80, true, false),
		SPEC(0x200, true, false), SPEC(0x400, true, false), SPEC(BIT(63), true, false),
		RTIT(0x2c0c, false, false), RTIT(0x10, false, true), RTIT(BIT(31), false, true),
		RTIT(BIT(47), false, true), RTIT(BIT(48), true, false), RTIT(BIT(54), true, false),
		RTIT(BIT(55), false, true), RTIT(BIT(57), true, false), RTIT(BIT(18), true, false),
	};
	struct entry_prediction prediction;
	struct entry_scene scene;
	u32 i;

	(void)unused;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		world_scene(&scene, RICH);
		entry_set_control(&scene.in, rows[i].control, true);
		scene.in.field[rows[i].field] = rows[i].value;
		entry_predict(&scene.in, &prediction);
		assert_int_equal(prediction.may_enter, !rows[i].broken);
		assert_int_equal(entry_must_succeed(&prediction), !rows[i].broken && !rows[i].open);
	}
}

/* 29.4: which values WRMSR takes, the last that is good and the first that is bad. */
static void test_wrmsr(void **unused)
{
	static const struct { u32 msr; u64 value; enum verdict verdict; } rows[] = {
		{ IA32_PAT, 0x0706050401000706, KEPT }, { IA32_PAT, 2, BROKEN },
		{ IA32_PAT, 3ull << 56, BROKEN }, { IA32_PAT, 8ull << 24, BROKEN },
		{ IA32_FMASK, BITS(31, 0), KEPT }, { IA32_FMASK, BIT(32), BROKEN },
		{ IA32_TSC_AUX, BITS(31, 0), KEPT }, { IA32_TSC_AUX, BIT(32), BROKEN },
		{ IA32_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE, KEPT },
		{ IA32_EFER, EFER_LME, UNCERTAIN },
		{ IA32_EFER, EFER_LME | EFER_LMA | BIT(1), BROKEN },
		{ IA32_EFER, EFER_LME | EFER_LMA | BIT(9), BROKEN }, { IA32_EFER, BIT(12), BROKEN },
		{ IA32_EFER, EFER_LME | EFER_LMA | BIT(63), BROKEN },
		{ IA32_DEBUGCTL, BITS(1, 0), KEPT }, { IA32_DEBUGCTL, BIT(63), BROKEN },
		{ IA32_STAR, ~0ull, KEPT }, { IA32_SYSENTER_CS, ~0ull, KEPT },
		{ IA32_TSC, ~0ull, KEPT },
		{ IA32_LSTAR, BIT(63), KEPT }, { 0x808, ~0ull, KEPT },
		{ 0x12345678, 0, UNCERTAIN },
	};
	struct entry_cpu cpu = world_processors[RICH];
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	u32 i;

	(void)unused;
	world_scene(&scene, RICH);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (entry_wrmsr(in, rows[i].msr, rows[i].value) != rows[i].verdict)
			fail_msg("MSR %x, %llx", rows[i].msr, (unsigned long long)rows[i].value);
	in->cpu = &cpu;
	cpu.tsc_aux = cpu.nx = false;
	assert_int_equal(entry_wrmsr(in, IA32_TSC_AUX, 0), BROKEN);
	assert_int_equal(entry_wrmsr(in, IA32_EFER, EFER_LME | EFER_LMA | EFER_NXE), BROKEN);
	entry_set_base(&scene, BASE_PAE);
	assert_int_equal(entry_wrmsr(in, IA32_EFER, 0), KEPT);
	assert_int_equal(entry_wrmsr(in, IA32_EFER, EFER_LMA), UNCERTAIN);
}

/* WRMSR ignores STIBP where there is IBRS alone, and the other way round. */
static void test_ignored_spec_ctrl(void **unused)
{
	struct entry_cpu cpu = world_processors[RICH];
	struct entry_prediction prediction;
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	world_scene(&scene, RICH);
	in->cpu = &cpu;
	cpu.spec_ctrl = BIT(0);
	ON(ENTRY, LOAD_IA32_SPEC_CTRL);
	F(GUEST_IA32_SPEC_CTRL) = BIT(1);
	entry_predict(in, &prediction);
	assert_true(prediction.may_enter);
	assert_false(entry_must_succeed(&prediction));
	F(GUEST_IA32_SPEC_CTRL) = BIT(0);
	entry_predict(in, &prediction);
	assert_true(entry_must_succeed(&prediction));
	cpu.spec_ctrl = 0;
	entry_predict(in, &prediction);
	assert_false(prediction.may_enter);
}

static const struct CMUnitTest others[] = {
	{ "base states", test_bases, NULL, NULL, NULL },
	{ "basic.order", test_basic_order, NULL, NULL, NULL },
	{ "unknown launch state", test_unknown_launch_state, NULL, NULL, NULL },
	{ "order of stages", test_stages, NULL, NULL, NULL },
	{ "ends of lists of MSRs", test_list_ends, NULL, NULL, NULL },
	{ "32-bit addresses", test_32_bit_addresses, NULL, NULL, NULL },
	{ "error code without CR0.PE", test_error_code_without_pe, NULL, NULL, NULL },
	{ "SYSCALL and SYSENTER as events", test_system_calls, NULL, NULL, NULL },
	{ "msrload.x2apic, its ends", test_x2apic_range, NULL, NULL, NULL },
	{ "host.no_intel64.both_zero", test_no_intel64, NULL, NULL, NULL },
	{ "msrload.model_specific", test_model_specific, NULL, NULL, NULL },
	{ "the set of entries that may fail", test_msr_set, NULL, NULL, NULL },
	{ "many entries that may fail", test_many_msrs, NULL, NULL, NULL },
	{ "TPR threshold behind the entry", test_threshold_behind_entry, NULL, NULL, NULL },
	{ "by which controls exits are allowed", test_exit_rows, NULL, NULL, NULL },
	{ "... and by more of them", test_other_conditions, NULL, NULL, NULL },
	{ "the order of exits behind the entry", test_order_of_exits, NULL, NULL, NULL },
	{ "exits that are not due", test_not_due, NULL, NULL, NULL },
	{ "exits by activity state", test_exits_by_state, NULL, NULL, NULL },
	{ "guests that execute nothing", test_executes_nothing, NULL, NULL, NULL },
	{ "reserved bits of two MSRs", test_reserved_bits, NULL, NULL, NULL },
	{ "values that WRMSR takes", test_wrmsr, NULL, NULL, NULL },
	{ "bits of IA32_SPEC_CTRL that are ignored", test_ignored_spec_ctrl, NULL, NULL, NULL },
	{ "msrload.second_entry", test_msr_number, NULL, NULL, NULL },
};
