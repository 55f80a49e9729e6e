/*
 * Tests of entry_test.c: the reasons for which an entry may end in a VM exit, by the controls and
 * by what is pending when the guest begins.
 */
struct exit_row {
	u16 reason;
	enum { NO_CONTROLS, ALL_OF, ONE_OF } how;
	u16 control[2];			/* CONTROL_NONE: no more */
	u16 field;			/* 0: none */
	bool never;
};

static const struct exit_row exit_rows[] = {
#define C(field, name)	CONTROL_##field##_##name
#define ALWAYS(reason) { EXIT_##reason, NO_CONTROLS, { CONTROL_NONE, CONTROL_NONE }, 0, false },
#define NEVER(number)	{ number, NO_CONTROLS, { CONTROL_NONE, CONTROL_NONE }, 0, true },
#define ONE(reason, f, c) { EXIT_##reason, ALL_OF, { C(f, c), CONTROL_NONE }, 0, false },
#define BOTH(reason, f, c, g, d) { EXIT_##reason, ALL_OF, { C(f, c), C(g, d) }, 0, false },
#define EITHER(reason, f, c, g, d) { EXIT_##reason, ONE_OF, { C(f, c), C(g, d) }, 0, false },
#define FILLED(reason, f, c, name) \
	{ EXIT_##reason, ALL_OF, { C(f, c), CONTROL_NONE }, INDEX_##name, false },
#include "entry_exits.def"
#undef C
};

static void set_all_controls(struct entry_input *in, bool on)
{
	static const u16 all[] = {
#define CONTROL(field, bit, name, ...) CONTROL_##field##_##name,
#include "sdm/controls.def"
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (control_field(all[i]) < CONTROL_FIELD_EXIT)
			entry_set_control(in, all[i], on);
	in->field[INDEX_CR0_GUEST_HOST_MASK] = in->field[INDEX_CR4_GUEST_HOST_MASK] = 0;
	for (i = 0; i < ARRAY_SIZE(exit_rows); i++)
		if (exit_rows[i].field)
			in->field[exit_rows[i].field] = on ? BIT(63) : 0;
	if (on)
		return;
	entry_set_control(in, CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS, true);
	entry_set_control(in, CONTROL_PROC1_ACTIVATE_TERTIARY_CONTROLS, true);
}

static void expect_exit(const struct entry_input *in, u32 reason, bool allowed)
{
	if (entry_allows_exit(in, reason) != allowed)
		fail_msg("an exit for reason %u is %s", reason, allowed ? "refused" : "allowed");
}

static void set_row(struct entry_input *in, const struct exit_row *row, u32 number, bool on)
{
	if (row->control[number] != CONTROL_NONE)
		entry_set_control(in, row->control[number], on);
}

static void check_row(struct entry_input *in, const struct exit_row *row)
{
	u32 i;

	set_all_controls(in, false);
	expect_exit(in, row->reason, row->how == NO_CONTROLS && !row->never);
	if (row->how == NO_CONTROLS) {
		set_all_controls(in, true);
		expect_exit(in, row->reason, !row->never);
		return;
	}
	for (i = 0; i < 2 && row->control[i] != CONTROL_NONE; i++) {
		set_all_controls(in, row->how == ALL_OF);
		set_row(in, row, i, row->how == ONE_OF);
		expect_exit(in, row->reason, row->how == ONE_OF);
	}
	set_all_controls(in, row->how == ONE_OF);
	set_row(in, row, 0, row->how == ALL_OF);
	set_row(in, row, 1, row->how == ALL_OF);
	if (row->field) {
		expect_exit(in, row->reason, false);
		in->field[row->field] = 1;
	}
	expect_exit(in, row->reason, row->how == ALL_OF);
}

/* Without what would be due first: traces, and an interrupt window. */
static void begin_exits(struct entry_scene *scene)
{
	struct entry_input *in = &scene->in;

	world_scene(scene, RICH);
	set_all_controls(in, false);
	in->field[INDEX_GUEST_RFLAGS] = RFLAGS_FIXED;
	in->field[INDEX_GUEST_CR4] &= ~CR4_MCE;
	in->field[INDEX_INJECTED_EVENT_IDENTIFICATION] = 0;
	in->field[INDEX_VMX_PREEMPTION_TIMER_VALUE] = 1000;
}

static void test_exit_rows(void **unused)
{
	bool known[100] = { false };
	struct entry_scene scene;
	u32 i;

	(void)unused;
	for (i = 0; i < ARRAY_SIZE(exit_rows); i++) {
		begin_exits(&scene);
		check_row(&scene.in, &exit_rows[i]);
		known[exit_rows[i].reason % ARRAY_SIZE(known)] = true;
	}
	known[EXIT_CONTROL_REGISTER_ACCESS] = known[EXIT_TPR_BELOW_THRESHOLD] = true;
	known[EXIT_APIC_WRITE] = true;
#define EXIT_REASON(number, ...) assert_true(known[number]);
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
}

/* Those that take more than two controls, or less than one. */
static void test_other_conditions(void **unused)
{
	static const u16 to_cr[] = {
		CONTROL_PROC1_CR3_LOAD_EXITING, CONTROL_PROC1_CR3_STORE_EXITING,
		CONTROL_PROC1_CR8_LOAD_EXITING, CONTROL_PROC1_CR8_STORE_EXITING,
	};
	static const u16 writes[] = {
		CONTROL_PROC2_APIC_REGISTER_VIRTUALIZATION,
		CONTROL_PROC2_VIRTUAL_INTERRUPT_DELIVERY, CONTROL_PROC3_IPI_VIRTUALIZATION,
	};
	struct entry_cpu without_uintr = world_processors[RICH];
	struct entry_scene scene;
	struct entry_input *in = &scene.in;
	u32 i;

	(void)unused;
	begin_exits(&scene);
	expect_exit(in, EXIT_CONTROL_REGISTER_ACCESS, false);
	for (i = 0; i < ARRAY_SIZE(to_cr); i++) {
		entry_set_control(in, to_cr[i], true);
		expect_exit(in, EXIT_CONTROL_REGISTER_ACCESS, true);
		entry_set_control(in, to_cr[i], false);
	}
	F(CR0_GUEST_HOST_MASK) = CR0_TS;
	expect_exit(in, EXIT_CONTROL_REGISTER_ACCESS, true);
	F(CR0_GUEST_HOST_MASK) = 0;
	F(CR4_GUEST_HOST_MASK) = CR4_PAE;
	expect_exit(in, EXIT_CONTROL_REGISTER_ACCESS, true);

	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
	ON(PROC1, USE_TPR_SHADOW);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, true);
	ON(PROC2, VIRTUAL_INTERRUPT_DELIVERY);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);

	without_uintr.caps.cr4_fixed1 &= ~CR4_UINTR;
	in->cpu = &without_uintr;
	set_all_controls(in, false);
	ON(PROC1, USE_TPR_SHADOW);
	expect_exit(in, EXIT_APIC_WRITE, false);
	ON(PROC2, VIRTUALIZE_APIC_ACCESSES);
	expect_exit(in, EXIT_APIC_WRITE, false);
	for (i = 0; i < ARRAY_SIZE(writes); i++) {
		entry_set_control(in, writes[i], true);
		expect_exit(in, EXIT_APIC_WRITE, true);
		OFF(PROC1, USE_TPR_SHADOW);
		expect_exit(in, EXIT_APIC_WRITE, false);
		ON(PROC1, USE_TPR_SHADOW);
		OFF(PROC2, VIRTUALIZE_APIC_ACCESSES);
		expect_exit(in, EXIT_APIC_WRITE, false);
		ON(PROC2, VIRTUALIZE_X2APIC_MODE);
		expect_exit(in, EXIT_APIC_WRITE, true);
		OFF(PROC2, VIRTUALIZE_X2APIC_MODE);
		ON(PROC2, VIRTUALIZE_APIC_ACCESSES);
		entry_set_control(in, writes[i], false);
	}
	/* SENDUIPI needs none of those. */
	set_all_controls(in, false);
	ON(PROC1, USE_TPR_SHADOW);
	without_uintr.caps.cr4_fixed1 |= CR4_UINTR;
	expect_exit(in, EXIT_APIC_WRITE, true);
	OFF(PROC1, USE_TPR_SHADOW);
	expect_exit(in, EXIT_APIC_WRITE, false);
	/* In SMM. */
	in->state.smm = true;
	expect_exit(in, EXIT_RSM, true);
	expect_exit(in, EXIT_OTHER_SMI, true);
	expect_exit(in, EXIT_IO_SMI, true);
}

/* What is due is the first exit, and what is behind it is refused: 29.7.3 to 29.7.8, 28.2. */
static void expect_due(const struct entry_input *in, u32 reason)
{
	assert_int_equal(entry_first_exit(in), reason);
	if (reason == ENTRY_ANY_EXIT) {
		expect_exit(in, EXIT_CPUID, true);
		return;
	}
	expect_exit(in, reason, true);
	expect_exit(in, EXIT_CPUID, false);
	expect_exit(in, EXIT_EXTERNAL_INTERRUPT, false);
}

static void test_order_of_exits(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	begin_exits(&scene);
	ON(PIN, EXTERNAL_INTERRUPT_EXITING);
	ON(PIN, NMI_EXITING);
	ON(PIN, VIRTUAL_NMIS);
	F(EXCEPTION_BITMAP) = BIT(VECTOR_DB) | BIT(VECTOR_MC);
	expect_due(in, ENTRY_ANY_EXIT);
	/* From the last to the first: each beats those that are due already. */
	ON(PROC1, INTERRUPT_WINDOW_EXITING);
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_RFLAGS) |= RFLAGS_IF;
	expect_due(in, EXIT_INTERRUPT_WINDOW);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);	/* an NMI */
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, false);
	ON(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, true);
	ON(PROC1, NMI_WINDOW_EXITING);
	expect_due(in, EXIT_NMI_WINDOW);
	expect_exit(in, EXIT_INTERRUPT_WINDOW, false);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, false);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, true);
	F(VMX_PREEMPTION_TIMER_VALUE) = 0;
	expect_due(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
	expect_exit(in, EXIT_NMI_WINDOW, false);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = PENDING_BS;
	expect_due(in, EXIT_EXCEPTION_OR_NMI);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, false);
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_OTHER, 0);
	expect_due(in, EXIT_MONITOR_TRAP_FLAG);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, false);
	expect_exit(in, EXIT_INIT_SIGNAL, true);
	/* A machine check comes before all. */
	F(GUEST_CR4) |= CR4_MCE;
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);
	F(GUEST_CR4) &= ~CR4_MCE;
	ON(PROC1, USE_TPR_SHADOW);
	ON(PROC2, VIRTUALIZE_APIC_ACCESSES);
	F(TPR_THRESHOLD) = 5;
	world_page[0x80 / 8] = 0x40;
	expect_due(in, EXIT_TPR_BELOW_THRESHOLD);
	expect_exit(in, EXIT_MONITOR_TRAP_FLAG, false);
	expect_exit(in, EXIT_INIT_SIGNAL, false);
	/* Behind a trace, or where a machine check is delivered, there is no order. */
	ON(PROC2, INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
	expect_due(in, ENTRY_ANY_EXIT);
	OFF(PROC2, INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
	F(GUEST_CR4) |= CR4_MCE;
	F(EXCEPTION_BITMAP) = BIT(VECTOR_DB);
	expect_due(in, ENTRY_ANY_EXIT);
}

/* What keeps each from being due. */
static void test_not_due(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	begin_exits(&scene);
	ON(PROC1, INTERRUPT_WINDOW_EXITING);
	F(GUEST_RFLAGS) |= RFLAGS_IF;
	/* An NMI may come before that, and its handler do anything. */
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_NMI;
	expect_due(in, EXIT_INTERRUPT_WINDOW);
	F(GUEST_INTERRUPTIBILITY_STATE) = 0;
	ON(PIN, NMI_EXITING);
	expect_due(in, EXIT_INTERRUPT_WINDOW);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_STI;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_MOV_SS;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = 0;
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x30);
	expect_due(in, ENTRY_ANY_EXIT);
	OFF(PROC1, INTERRUPT_WINDOW_EXITING);
	ON(PIN, VIRTUAL_NMIS);
	ON(PROC1, NMI_WINDOW_EXITING);
	expect_due(in, EXIT_NMI_WINDOW);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_MOV_SS;
	expect_due(in, EXIT_NMI_WINDOW);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_NMI;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = 0;
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_NMI, 2);
	expect_due(in, ENTRY_ANY_EXIT);
	F(INJECTED_EVENT_IDENTIFICATION) = 0;
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_STI;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_MOV_SS;
	expect_due(in, ENTRY_ANY_EXIT);
	/* Debug exceptions: held back, without effect, delivered. */
	OFF(PROC1, NMI_WINDOW_EXITING);
	F(EXCEPTION_BITMAP) = BIT(VECTOR_DB);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = PENDING_ENABLED;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = 0;
	expect_due(in, EXIT_EXCEPTION_OR_NMI);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = PENDING_BS;
	expect_due(in, EXIT_EXCEPTION_OR_NMI);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = 1;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = PENDING_BS;
	F(EXCEPTION_BITMAP) = 0;
	ON(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
	F(VMX_PREEMPTION_TIMER_VALUE) = 0;
	expect_due(in, ENTRY_ANY_EXIT);
	/* With an event there are none: the timer is due, but behind MOV SS nobody knows. */
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_SOFTWARE_INTERRUPT, 0x30);
	expect_due(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
	F(GUEST_INTERRUPTIBILITY_STATE) = BLOCKING_BY_MOV_SS;
	expect_due(in, ENTRY_ANY_EXIT);
	F(GUEST_INTERRUPTIBILITY_STATE) = 0;
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = 0;
	/* "monitor trap flag" with an event, not without. */
	ON(PROC1, MONITOR_TRAP_FLAG);
	expect_due(in, EXIT_MONITOR_TRAP_FLAG);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);
	expect_exit(in, EXIT_TRIPLE_FAULT, true);
	expect_exit(in, EXIT_TASK_SWITCH, true);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, false);
	F(INJECTED_EVENT_IDENTIFICATION) = 0;
	expect_due(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
	expect_exit(in, EXIT_TRIPLE_FAULT, false);
	OFF(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
	expect_due(in, ENTRY_ANY_EXIT);
}

/* States other than the active one: 29.7.2, 28.2. */
static void test_exits_by_state(void **unused)
{
	struct entry_scene scene;
	struct entry_input *in = &scene.in;

	(void)unused;
	begin_exits(&scene);
	set_all_controls(in, true);
	OFF(PROC2, INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
	OFF(PROC1, NMI_WINDOW_EXITING);
	OFF(PROC2, VIRTUAL_INTERRUPT_DELIVERY);
	F(TPR_THRESHOLD) = 0;
	F(EXCEPTION_BITMAP) = BIT(VECTOR_DB);
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_HLT;
	expect_exit(in, EXIT_CPUID, false);
	expect_exit(in, EXIT_TRIPLE_FAULT, false);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);
	expect_exit(in, EXIT_EXTERNAL_INTERRUPT, true);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, true);
	expect_exit(in, EXIT_INIT_SIGNAL, true);
	expect_exit(in, EXIT_STARTUP_IPI, false);
	F(GUEST_RFLAGS) |= RFLAGS_IF;
	expect_exit(in, EXIT_INTERRUPT_WINDOW, true);
	expect_exit(in, EXIT_CPUID, false);
	OFF(PROC1, INTERRUPT_WINDOW_EXITING);
	expect_exit(in, EXIT_CPUID, false);
	/* What is delivered goes on in a handler. */
	OFF(PIN, EXTERNAL_INTERRUPT_EXITING);
	expect_exit(in, EXIT_CPUID, true);
	F(GUEST_RFLAGS) &= ~RFLAGS_IF;
	expect_exit(in, EXIT_CPUID, false);
	ON(PIN, EXTERNAL_INTERRUPT_EXITING);
	ON(PROC2, VIRTUAL_INTERRUPT_DELIVERY);
	expect_exit(in, EXIT_CPUID, true);
	OFF(PROC2, VIRTUAL_INTERRUPT_DELIVERY);
	F(GUEST_PENDING_DEBUG_EXCEPTIONS) = PENDING_BS;
	assert_int_equal(entry_first_exit(in), EXIT_EXCEPTION_OR_NMI);
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_SHUTDOWN;
	assert_int_equal(entry_first_exit(in), ENTRY_ANY_EXIT);
	ON(PROC1, INTERRUPT_WINDOW_EXITING);
	F(GUEST_RFLAGS) |= RFLAGS_IF;
	expect_exit(in, EXIT_CPUID, false);
	expect_exit(in, EXIT_EXTERNAL_INTERRUPT, false);
	expect_exit(in, EXIT_INTERRUPT_WINDOW, false);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
	expect_exit(in, EXIT_MONITOR_TRAP_FLAG, false);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, true);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, true);
	F(VMX_PREEMPTION_TIMER_VALUE) = 0;
	assert_int_equal(entry_first_exit(in), EXIT_VMX_PREEMPTION_TIMER_EXPIRED);
	F(VMX_PREEMPTION_TIMER_VALUE) = 1000;
	ON(PROC1, NMI_WINDOW_EXITING);
	assert_int_equal(entry_first_exit(in), EXIT_NMI_WINDOW);
	/* An event makes it active. */
	F(INJECTED_EVENT_IDENTIFICATION) = INJECTED_EVENT(EVENT_TYPE_NMI, 2);
	OFF(PROC1, MONITOR_TRAP_FLAG);
	expect_exit(in, EXIT_CPUID, true);
	F(INJECTED_EVENT_IDENTIFICATION) = 0;
	F(GUEST_ACTIVITY_STATE) = ACTIVITY_WAIT_FOR_SIPI;
	F(VMX_PREEMPTION_TIMER_VALUE) = 0;
	expect_due(in, EXIT_STARTUP_IPI);
	expect_exit(in, EXIT_INIT_SIGNAL, false);
	expect_exit(in, EXIT_EXCEPTION_OR_NMI, false);
	expect_exit(in, EXIT_VMX_PREEMPTION_TIMER_EXPIRED, false);
	expect_exit(in, EXIT_NMI_WINDOW, false);
	expect_exit(in, EXIT_TPR_BELOW_THRESHOLD, false);
}

/* Where nothing maps, nothing is executed. */
static void test_executes_nothing(void **unused)
{
	struct entry_prediction prediction;
	struct entry_scene scene;

	(void)unused;
	begin_exits(&scene);
	scene.in.field[INDEX_PIN_BASED_VM_EXECUTION_CONTROLS] |= 0x16;
	entry_predict(&scene.in, &prediction);
	prediction.may_enter = true;
	prediction.outcome_count = 0;
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
	assert_false(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_RDTSC)));
	assert_false(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID) | 1));
	prediction.executes_nothing = true;
	assert_false(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_CPUID)));
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_TRIPLE_FAULT)));
	assert_true(entry_accepts(&prediction, OUTCOME_EXIT(EXIT_INIT_SIGNAL)));
}
