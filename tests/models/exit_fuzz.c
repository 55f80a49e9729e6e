/*
 * Searches for contradictions in the model of VM exit (lib/x86/vmx/exit_model.c), with libFuzzer.
 *
 * An input becomes a scene of VM entry (entry_draw.h), an outcome that the model of VM entry allows
 * it, and what that has left: registers, fields, code and lists of MSRs. The model must then agree
 * with itself: it says the same again, the less it is shown the less it claims, and some exit
 * satisfies all that it claims of fields and registers, unless it says that there is no such exit.
 *
 * Every rule must be met on the way: see exit_themes.def.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry_draw.h"
#include "exit_settle.h"
#include "vmx/entry_rules.h"
#include "vmx/exit_words.h"

#define MOST_LISTED	3
#define MOST_CLAIMS	4096

/* --- exits that few inputs become ------------------------------------------------------ */

#define EXIT(reason)	OUTCOME_EXIT(EXIT_##reason)
#define FAILS		OUTCOME_DONE
static const outcome_t theme_outcomes[] = {
#define THEME(outcome, before, after) outcome,
#include "exit_themes.def"
#undef THEME
};

/* What the entry finds, or, with `x`, what the exit has left. */
static void set_theme(u32 theme, struct entry_input *in, struct exit_input *x)
{
	u32 number = 0;

#define THEME(outcome, before, after)						\
	if (number++ == theme) {						\
		if (x) {							\
			after							\
		} else {							\
			before							\
		}								\
	}
#include "exit_themes.def"
#undef THEME
}

/* --- exits --------------------------------------------------------------------------- */

static void draw_list(struct input *input, struct exit_list *list, struct exit_listed_msr *msr)
{
	static const u32 indices[] = {
		IA32_TSC, IA32_TSC_ADJUST, IA32_EFER, IA32_PAT, IA32_SYSENTER_CS, IA32_SPEC_CTRL,
		IA32_DEBUGCTL, IA32_TSC_DEADLINE, IA32_KERNEL_GS_BASE, IA32_UINTR_MISC, 0xc1, 0x390,
	};
	u32 i;

	list->count = list->listed = draw(input, 1) % (MOST_LISTED + 1);
	list->msr = msr;
	for (i = 0; i < list->count; i++) {
		u64 what = draw(input, 1), value = draw(input, 1);

		msr[i] = (struct exit_listed_msr){
			.index_before = indices[what % ARRAY_SIZE(indices)], .value_before = value,
			.value = value, .had = value, .now = value, .readable = !(what & BIT(7)),
		};
		msr[i].index = msr[i].index_before;
		if (what & BIT(6))
			msr[i].value = draw(input, 8);
		if (what & BIT(5))
			msr[i].now = draw(input, 4);
		if (what & BIT(4))
			msr[i].index ^= draw(input, 5);
	}
}

static outcome_t draw_outcome(struct input *input, const struct entry_prediction *predicted,
			      u32 theme)
{
	u32 count = predicted->outcome_count + predicted->msr_failures, reason = draw(input, 1);
	outcome_t way = OUTCOME_DONE;

	if (predicted->may_enter && theme < ARRAY_SIZE(theme_outcomes) &&
	    theme_outcomes[theme] != FAILS)
		return theme_outcomes[theme];
	if (predicted->may_enter)
		return OUTCOME_EXIT(reason % 90);
	entry_way_to_fail(predicted, reason % count, &way);
	return way;
}

/* An event as exits report them, mostly a valid exception; or the one that the entry injects. */
static u64 draw_event(struct input *input, const struct entry_input *in)
{
	u64 what = draw(input, 1), event = draw(input, 2) & BITS(12, 0);

	if (!(what & BITS(1, 0)))
		return in->field[INDEX_INJECTED_EVENT_IDENTIFICATION] & (BIT(31) | BITS(11, 0));
	if (what & BIT(2))
		event &= ~BITS(7, 5);
	return (what & BITS(5, 3) ? BIT(31) : 0) | event;
}

/* What is loaded and saved, and where NMIs go: any of it, which most entries survive. */
static void draw_controls(struct input *input, struct entry_input *in)
{
	static const u16 controls[] = {
		CONTROL_EXIT_SAVE_DEBUG_CONTROLS, CONTROL_EXIT_SAVE_IA32_PAT,
		CONTROL_EXIT_SAVE_IA32_EFER, CONTROL_EXIT_LOAD_IA32_PAT,
		CONTROL_EXIT_LOAD_IA32_EFER, CONTROL_EXIT_CLEAR_IA32_BNDCFGS,
		CONTROL_EXIT_LOAD_CET_STATE, CONTROL_EXIT_LOAD_PKRS,
		CONTROL_EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT, CONTROL_EXIT2_SAVE_FRED,
		CONTROL_EXIT2_LOAD_FRED, CONTROL_EXIT2_LOAD_IA32_SPEC_CTRL,
		CONTROL_ENTRY_LOAD_DEBUG_CONTROLS, CONTROL_ENTRY_LOAD_IA32_PAT,
		CONTROL_ENTRY_LOAD_IA32_EFER, CONTROL_ENTRY_LOAD_FRED,
		CONTROL_ENTRY_LOAD_IA32_BNDCFGS, CONTROL_PIN_NMI_EXITING,
		CONTROL_PIN_VIRTUAL_NMIS, CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING,
		CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER,
		CONTROL_EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE,
		CONTROL_EXIT_CLEAR_IA32_RTIT_CTL, CONTROL_EXIT_CLEAR_IA32_LBR_CTL,
		CONTROL_EXIT_CLEAR_UINV, CONTROL_EXIT_SAVE_IA32_PERF_GLOBAL_CTL,
		CONTROL_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, CONTROL_ENTRY_LOAD_CET_STATE,
	};
	u64 set = draw(input, 4), mask = draw(input, 4);
	u32 i;

	for (i = 0; i < ARRAY_SIZE(controls); i++)
		if (mask & BIT(i))
			entry_set_control(in, controls[i], set & BIT(i));
}

static void draw_exit(struct input *input, struct exit_input *x, struct entry_input *in)
{
	static struct exit_listed_msr listed[3][MOST_LISTED];
	struct entry_prediction predicted;
	/* Every other input has a theme. */
	u32 i, count, theme = draw(input, 1) % (2 * ARRAY_SIZE(theme_outcomes));

	memset(x, 0, sizeof(*x));
	x->entry = in;
	set_theme(theme, in, NULL);
	entry_predict(in, &predicted);
	x->outcome = draw_outcome(input, &predicted, theme);
	x->exists = BIT(EXIT_REGISTERS) - 1;
	memset(x->has_field, 0xff, sizeof(x->has_field));
	HAD(CR0) = in->state.cr0;
	HAD(CR4) = in->state.cr4;
	HAD(EFER) = in->state.efer;
	HAD(DR7) = DR7_FIXED;
	for (count = draw(input, 1) % 4; count && input->size; count--)
		x->before[draw(input, 1) % EXIT_REGISTERS] = draw(input, 8);
	memcpy(x->after, x->before, sizeof(x->after));
	memcpy(x->field, in->field, sizeof(x->field));
	for (count = draw(input, 1) % 8; count && input->size; count--)
		draw_field(input, x->field);
	EXIT_EVENT = draw_event(input, in);
	ORIGINAL_EVENT = draw_event(input, in);
	NOW(EXIT_REASON) = exit_basic_reason(x);
	for (count = draw(input, 1) % 4; count && input->size; count--)
		x->guest_changes[draw(input, 1) % EXIT_FIELD_WORDS] |= BIT(draw(input, 1) % 64);
	x->code_bytes = draw(input, 1) % (INSTRUCTION_BYTES + 1);
	for (i = 0; i < sizeof(x->code); i++)
		x->code[i] = draw(input, 1);
	draw_list(input, &x->entry_load, listed[0]);
	draw_list(input, &x->store, listed[1]);
	draw_list(input, &x->load, listed[2]);
	set_theme(theme, in, x);
}

/* --- reach --------------------------------------------------------------------------- */

static u32 claimed[EXIT_RULES];

/* With FUZZ_REACH in the environment: the rules that no input has made the model claim. */
static void print_reach(void)
{
	u32 rule;

	for (rule = 0; rule < EXIT_RULES && getenv("FUZZ_REACH"); rule++)
		if (!claimed[rule])
			fprintf(stderr, "never claimed: %s\n", exit_rules[rule].name);
}

/* --- properties ---------------------------------------------------------------------- */

struct claims {
	struct exit_claim claim[MOST_CLAIMS];
	u32 count;
};

static void keep(void *context, const struct exit_claim *claim)
{
	struct claims *claims = context;

	MUST(claims->count < MOST_CLAIMS);
	MUST(claim->rule < EXIT_RULES);
	claimed[claim->rule]++;
	MUST(claim->subject < VMCS_FIELDS || claim->subject >= EXIT_SUBJECT_REGISTER);
	MUST(claim->subject < EXIT_SUBJECT_REGISTER || claim->subject >= EXIT_SUBJECT_STORE ||
	     claim->subject - EXIT_SUBJECT_REGISTER < EXIT_REGISTERS);
	claims->claim[claims->count++] = *claim;
}

/* `a` claims nothing that `b` does not. */
static bool implied(const struct exit_claim *a, const struct exit_claim *b)
{
	if (a->rule != b->rule || a->subject != b->subject || a->range != b->range ||
	    a->got != b->got)
		return false;
	return a->range ? a->low == b->low && a->high == b->high :
	       !(a->bits & ~b->bits) && !((a->value ^ b->value) & a->bits);
}

/* Every claim of `few` is implied by one of `all`, which are in the same order. */
static void check_subset(const struct claims *few, const struct claims *all)
{
	u32 i, n = 0;

	for (i = 0; i < few->count; i++, n++) {
		while (n < all->count && !implied(&few->claim[i], &all->claim[n]))
			n++;
		MUST(n < all->count);
	}
}

/* What is known of the guest less, what is looked at less: no claim is new or another one. */
static void check_less(struct exit_input *x, const struct claims *all)
{
	static struct claims claims;
	u32 code_bytes = x->code_bytes;

	claims.count = 0;
	x->host_only = true;
	exit_judge(x, keep, &claims);
	x->host_only = false;
	check_subset(&claims, all);

	claims.count = 0;
	x->code_bytes = 0;
	exit_judge(x, keep, &claims);
	x->code_bytes = code_bytes;
	check_subset(&claims, all);
}

/* The claims that go round. */
static void print_broken(void *context, const struct exit_claim *claim)
{
	(void)context;
	if (!exit_claim_holds(claim) && !claim->never && claim->subject < EXIT_SUBJECT_STORE)
		fprintf(stderr, "%s: subject %u is %#llx, not %#llx in %#llx\n",
			exit_rules[claim->rule].name, claim->subject,
			(unsigned long long)claim->got, (unsigned long long)claim->value,
			(unsigned long long)claim->bits);
}

static void check_satisfiable(struct exit_input *x)
{
	if (settle(x))
		return;
	exit_judge(x, print_broken, NULL);
	settle(x);
	exit_judge(x, print_broken, NULL);
	contradiction("some exit satisfies every claim", __FILE__, __LINE__);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input input = { data, size };
	static struct claims first, again;
	static struct entry_scene scene;
	static struct exit_input x;
	static bool asked;

	if (!asked)
		atexit(print_reach);
	asked = true;
	draw_scene(&input, &scene);
	/* There VMLAUNCH itself exits, and nothing is entered. */
	scene.in.state.non_root = false;
	draw_controls(&input, &scene.in);
	draw_exit(&input, &x, &scene.in);
	first.count = again.count = 0;
	exit_judge(&x, keep, &first);
	exit_judge(&x, keep, &again);
	MUST(first.count == again.count);
	check_subset(&again, &first);
	check_less(&x, &first);
	check_satisfiable(&x);
	return 0;
}
