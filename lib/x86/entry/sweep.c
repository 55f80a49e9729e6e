#include "cpu/apic.h"
#include "cpu/smp.h"
#include "entry/differences.h"
#include "entry/session.h"
#include "entry/sweep.h"
#include "platform.h"
#include "string.h"
#include "vmx/entry_families.h"
#include "vmx/entry_words.h"

#define VALUES_MOST	512

/* --- the values of a field ---------------------------------------------------------- */

#define ANY		true
#define ONE_OF_2(a, b)		(index == INDEX_##a || index == INDEX_##b)
#define ONE_OF_3(a, b, c)	(ONE_OF_2(a, b) || index == INDEX_##c)
#define ONE_OF_N(a, b, c, name, ...)	name
#define ONE_OF(...)	ONE_OF_N(__VA_ARGS__, ONE_OF_3, ONE_OF_2)(__VA_ARGS__)
#define BETWEEN(first, last)	(index >= INDEX_##first && index <= INDEX_##last)
#define SELECTOR_FIELD(index)	(BETWEEN(GUEST_ES_SELECTOR, GUEST_TR_SELECTOR) || \
				 BETWEEN(HOST_ES_SELECTOR, HOST_TR_SELECTOR))
#define LIMIT_FIELD(index)	BETWEEN(GUEST_ES_LIMIT, GUEST_IDTR_LIMIT)
#define RIGHTS_FIELD(index)	BETWEEN(GUEST_ES_ACCESS_RIGHTS, GUEST_TR_ACCESS_RIGHTS)
#define CONTROLS_OF(index)	controls_of(index)

static const u8 vectors[] = { 0, 1, 2, 3, 6, 8, 13, 14, 17, 18, 21, 31, 32, 255 };

/* Which controls a field holds; CONTROL_FIELDS: none. */
static enum control_field controls_of(u32 index)
{
	enum control_field field;

	for (field = 0; field < CONTROL_FIELDS; field++)
		if (entry_control_field_index(field) == index)
			break;
	return field;
}

static void add_value(u64 *values, u32 *count, u64 value)
{
	if (*count == VALUES_MOST)
		bail_out("a field has more than %u values: VALUES_MOST of %s", VALUES_MOST,
			 __FILE__);
	values[(*count)++] = value;
}

/* How many there are, and into `values` those of the table. */
static u32 table_values(const struct entry_scene *scene, u32 index, u64 *values)
{
	const struct entry_input *in = &scene->in;
	u32 type = entry_field_type(index), width = entry_field_width(index), count = 0;
	u64 was = in->field[index], n;

#define VALUES(fields, ...)							\
	if (fields) {								\
		const u64 list[] = { __VA_ARGS__ };				\
										\
		for (n = 0; n < ARRAY_SIZE(list); n++)				\
			add_value(values, &count, list[n]);			\
	}
#define NUMBERED(fields, number, value)						\
	for (n = 0; (fields) && n < (number); n++)				\
		add_value(values, &count, value);
#include "entry/sweep_values.def"
#undef VALUES
#undef NUMBERED
	return count;
}

u64 entry_sweep_value(const struct entry_scene *scene, u32 index, u64 random)
{
	static u64 values[VALUES_MOST];
	u32 width = entry_field_width(index), count = table_values(scene, index, values);
	u64 n = random % (width + count);

	return entry_field_value(&scene->in, index, n < width ? scene->in.field[index] ^ BIT(n) :
				 values[n - width]);
}

/* --- one field ------------------------------------------------------------------------- */

struct sweeping {
	struct entry_session session;
	struct differences differences;
	const struct entry_sweep *sweep;
	const char *dress;		/* words for what is added to the base state */
	u64 was;			/* the field in that state */
	u32 values;			/* of which some may be left to other runs: drawn() */
	u32 audited[ENTRY_STAGE_DONE + 1];	/* from this base state, by stage where it ends */
};

/* A.6 Miscellaneous Data, bit 29: VMWRITE may write VM-exit information fields. */
bool need_vmcs_field(u64 encoding)
{
	return vmcs_field_exists(encoding) &&
	       (VMCS_FIELD_TYPE(encoding) != VMCS_FIELD_EXIT_INFO || need_misc(BIT(29)));
}

static void write_field(const struct sweeping *sweeping, u64 value)
{
	/* The session knows fields that an entry depends on, no exit information. */
	if (entry_field_type(sweeping->sweep->index) == VMCS_FIELD_EXIT_INFO)
		vmwrite(sweeping->sweep->encoding, value);
}

/*
 * A platform on which entries take long makes a share of them, drawn by the seed, and the first of
 * each state.
 */
static bool drawn(struct sweeping *sweeping, u32 i)
{
	u32 percent = this_platform()->entry_percent;

	sweeping->values++;
	return !i || percent == 100 || case_random() % 100 < percent;
}

/* The last value tried, in words; made only where somebody reads them. */
static const char *example_words(const struct sweeping *sweeping, const struct entry_scene *scene)
{
	static char words[160];

	format(words, sizeof(words), "%s%s: %s = 0x%lx", entry_base_words(scene->base),
	       sweeping->dress, vmcs_field_name(sweeping->sweep->encoding),
	       scene->in.field[sweeping->sweep->index]);
	return words;
}

/*
 * Of each base state the first entries that are to end in a stage are audited as well, with another
 * value than it has itself: what a success (0 and all ones, as far as the field takes them), a
 * failure and a late failure leave behind.
 */
static outcome_t enter_value(struct sweeping *sweeping, const struct entry_scene *scene,
			     const struct entry_prediction *predicted)
{
	const struct entry_input *in = &scene->in;
	u32 most = predicted->stage == ENTRY_STAGE_DONE ? 2 : 1;
	outcome_t outcome;

	if (in->field[sweeping->sweep->index] == sweeping->was ||
	    sweeping->audited[predicted->stage] == most) {
		outcome = entry_session_enter(&sweeping->session, in);
	} else {
		sweeping->audited[predicted->stage]++;
		outcome = entry_session_enter_audited(&sweeping->session, in);
	}
	if (sweeping->session.audited && audit_found())
		tap_comment("the audit: %s", example_words(sweeping, scene));
	return outcome;
}

static void try_value(struct sweeping *sweeping, struct entry_scene *scene, u64 value)
{
	const struct entry_sweep *sweep = sweeping->sweep;
	struct differences *differences = &sweeping->differences;
	struct entry_prediction predicted;
	const char *hazard;
	outcome_t outcome;

	scene->in.field[sweep->index] = value;
	entry_session_predict(&sweeping->session, &scene->in, &predicted);
	hazard = entry_hazard(&sweeping->session, &scene->in, &predicted);
	if (hazard) {
		differences->left_out++;
		differences->why_left_out = hazard;
		return;
	}
	write_field(sweeping, value);
	outcome = enter_value(sweeping, scene, &predicted);
	differences->entries++;
	if (entry_accepts(&predicted, outcome))
		return;
	differences_add(differences, &scene->in, &predicted, outcome, NULL,
			example_words(sweeping, scene));
}

/* Other paging structures may lead anywhere; a guest that cannot even fetch does not ask them. */
static void stay_out_of_memory(struct entry_scene *scene, u32 index)
{
	struct entry_input *in = &scene->in;

	if (IA32E && (index == INDEX_GUEST_CR3 || index == INDEX_EPT_POINTER))
		F(GUEST_RIP) = BIT(in->cpu->linear_bits - 1);
}

/*
 * A segment is tried as it is in the base state, and the other way round: where it is usable its
 * base and limit as unusable, where they are free; where it is unusable, all of it as usable.
 */
static const char *turn_segment(struct entry_input *in, u32 index)
{
	const u32 firsts[] = {
		INDEX_GUEST_ES_SELECTOR, INDEX_GUEST_ES_BASE, INDEX_GUEST_ES_LIMIT,
		INDEX_GUEST_ES_ACCESS_RIGHTS,
	};
	u32 ldtr = INDEX_GUEST_LDTR_SELECTOR - INDEX_GUEST_ES_SELECTOR, segment = ldtr + 1, i;
	u64 *rights;

	for (i = 0; i < ARRAY_SIZE(firsts) && segment > ldtr; i++)
		segment = index - firsts[i];
	if (segment > ldtr || (V86 && segment < ldtr))
		return NULL;
	rights = &in->field[INDEX_GUEST_ES_ACCESS_RIGHTS + segment];
	if (*rights & RIGHTS_UNUSABLE) {
		entry_make_usable(in, INDEX_GUEST_ES_SELECTOR + segment);
		return ", usable";
	}
	if (segment == INDEX_GUEST_CS_SELECTOR - INDEX_GUEST_ES_SELECTOR ||
	    index == firsts[0] + segment || index == firsts[3] + segment)
		return NULL;
	*rights = RIGHTS_UNUSABLE;
	return ", unusable";
}

/* Fields that the base state loads. */
static const char *leave_unloaded(struct entry_input *in, u32 index)
{
	switch (index) {
	case INDEX_GUEST_IA32_EFER:
		OFF(ENTRY, LOAD_IA32_EFER);
		break;
	case INDEX_GUEST_IA32_PAT:
		OFF(ENTRY, LOAD_IA32_PAT);
		break;
	case INDEX_HOST_IA32_EFER:
		OFF(EXIT, LOAD_IA32_EFER);
		break;
	case INDEX_HOST_IA32_PAT:
		OFF(EXIT, LOAD_IA32_PAT);
		break;
	default:
		return NULL;
	}
	return ", not loaded";
}

/*
 * Fields that count only in company, of an event or of a segment, and some that count without:
 * where other values are good. Returns words, or NULL.
 */
static const char *bring_into_use(struct entry_scene *scene, u32 index)
{
	struct entry_input *in = &scene->in;
	const char *words;

	if (index == INDEX_VM_ENTRY_INSTRUCTION_LENGTH) {
		INJECT(SOFTWARE_INTERRUPT, 0x20);
		F(VM_ENTRY_INSTRUCTION_LENGTH) = 2; /* 0 is good only with IA32_VMX_MISC[30] */
		return ", a software interrupt";
	}
	if (index == INDEX_INJECTED_EVENT_ERROR_CODE && F(GUEST_CR0) & CR0_PE) {
		INJECT(HARDWARE_EXCEPTION, VECTOR_GP);
		F(INJECTED_EVENT_IDENTIFICATION) |= INJECTED_ERROR_CODE;
		return ", #GP";
	}
	words = turn_segment(in, index);
	return words ? words : leave_unloaded(in, index);
}

/*
 * CPL, RPL and DPL count in company as well: a guest at CPL 2, in conforming code, with usable data
 * segments. Their RPL and DPL are 1, so that smaller and greater ones tell what a processor
 * compares with what.
 */
static const char *to_inner_privilege(struct entry_input *in, u32 index)
{
	const u32 to_rights = INDEX_GUEST_ES_ACCESS_RIGHTS - INDEX_GUEST_ES_SELECTOR;
	u32 i;

	if (V86 || REAL_MODE ||
	    !(BETWEEN(GUEST_ES_SELECTOR, GUEST_GS_SELECTOR) ||
	      BETWEEN(GUEST_ES_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS) ||
	      index == INDEX_GUEST_ACTIVITY_STATE))
		return NULL;
	TO_CPL(2);
	SET_TYPE(CS, 15);
	SET_DPL(CS, 0);
	for (i = INDEX_GUEST_ES_SELECTOR; i <= INDEX_GUEST_GS_SELECTOR; i++) {
		if (i == INDEX_GUEST_CS_SELECTOR || i == INDEX_GUEST_SS_SELECTOR)
			continue;
		entry_make_usable(in, i);
		in->field[i] |= 1;
		in->field[i + to_rights] |= 1 << 5;
	}
	return ", CPL 2";
}

enum dress { PLAIN, ALL_CONTROLS, IN_USE, PRIVILEGE, DRESSES };

/* False: there is nothing to add. */
static bool put_on(struct sweeping *sweeping, struct entry_scene *scene, enum dress dress)
{
	sweeping->dress = "";
	if (dress == ALL_CONTROLS) {
		entry_session_dress(&sweeping->session, scene);
		sweeping->dress = ", all controls";
	} else if (dress == IN_USE) {
		sweeping->dress = bring_into_use(scene, sweeping->sweep->index);
	} else if (dress == PRIVILEGE) {
		sweeping->dress = to_inner_privilege(&scene->in, sweeping->sweep->index);
	}
	return sweeping->dress;
}

static void sweep_base(struct sweeping *sweeping, enum entry_base base, enum dress dress)
{
	static u64 values[VALUES_MOST];
	static struct entry_scene scene;
	const struct entry_sweep *sweep = sweeping->sweep;
	u32 count, i;

	if (entry_session_scene(&sweeping->session, &scene, base))
		return;
	if (!put_on(sweeping, &scene, dress))
		return;
	stay_out_of_memory(&scene, sweep->index);
	if (!entry_session_is_valid(&scene))
		return;
	memset(sweeping->audited, 0, sizeof(sweeping->audited));
	sweeping->was = scene.in.field[sweep->index];
	count = table_values(&scene, sweep->index, values);
	for (i = 0; i < count; i++)
		if (drawn(sweeping, i))
			try_value(sweeping, &scene,
				  entry_field_value(&scene.in, sweep->index, values[i]));
	for (i = 0; i < sweep->width; i++)
		if (entry_field_value(&scene.in, sweep->index, BIT(i)) &&
		    drawn(sweeping, count + i))
			try_value(sweeping, &scene, sweeping->was ^ BIT(i));
}

void entry_sweep(const struct case_def *this_case)
{
	static struct sweeping sweeping;
	enum entry_base base;
	enum dress dress;

	sweeping.sweep = this_case->row;
	sweeping.values = 0;
	memset(&sweeping.differences, 0, sizeof(sweeping.differences));
	REQUIRE(entry_probe_field(sweeping.sweep->encoding), OUTCOME_DONE);
	entry_session_start(&sweeping.session);
	entry_session_load_all(&sweeping.session);
	/* A second processor at work costs time: only where guests are to wait for it. */
	sweeping.session.startup_ipis = sweeping.sweep->index == INDEX_GUEST_ACTIVITY_STATE &&
					smp_has_cpus(2) && apic_exists(0);
	audit_outcomes_judged();
	for (base = 0; base < ENTRY_BASES; base++)
		for (dress = 0; dress < DRESSES; dress++)
			sweep_base(&sweeping, base, dress);
	if (this_platform()->entry_percent < 100)
		tap_comment("of %u values %u tried: exitpath,entries = <%u> percent",
			    sweeping.values,
			    sweeping.differences.entries + sweeping.differences.left_out,
			    this_platform()->entry_percent);
	differences_report(&sweeping.differences);
	EXPECT_TRUE(sweeping.differences.entries > 0);
	/*
	 * A processor that has not left the wait-for-SIPI state in full is none for the next case.
	 */
	if (sweeping.session.startup_ipis && case_failed())
		case_boot_again();
}
