#include "platform.h"
#include "string.h"
#include "vmx/audit.h"
#include "vmx/entry_reader.h"
#include "vmx/entry_rules.h"
#include "vmx/exit_reader.h"
#include "vmx/vmx.h"

void audit_off(enum exit_rule_number rule)
{
	this_vmx()->audit.off[rule / 64] |= BIT(rule % 64);
}

void audit_guest_changes_index(enum vmcs_index index)
{
	this_vmx()->audit.exit.guest_changes[index / 64] |= BIT(index % 64);
}

/* The four groups of fields are in the order ES, CS, SS, DS, FS, GS, LDTR, TR. */
void audit_guest_changes_segments(void)
{
	static const u16 groups[] = {
		INDEX_GUEST_ES_SELECTOR, INDEX_GUEST_ES_BASE, INDEX_GUEST_ES_LIMIT,
		INDEX_GUEST_ES_ACCESS_RIGHTS,
	};
	u32 group, segment;

	for (group = 0; group < ARRAY_SIZE(groups); group++)
		for (segment = 0; segment < 6; segment++)
			audit_guest_changes_index(groups[group] + segment);
}

void audit_guest_comes_back(void)
{
	this_vmx()->audit.exit.guest_comes_back = true;
}

void audit_whole(void)
{
	this_vmx()->audit.whole = true;
}

void audit_none(void)
{
	this_vmx()->audit.none = true;
}

void audit_outcomes_judged(void)
{
	this_vmx()->audit.outcomes_judged = true;
}

bool audit_failed(enum exit_rule_number rule)
{
	return this_vmx()->audit.failed_now[rule / 64] & BIT(rule % 64);
}

bool audit_found(void)
{
	return this_vmx()->audit.found;
}

void audit_report_ways(void)
{
	const struct audit *audit = &this_vmx()->audit;
	u32 rule;

	for (rule = 0; rule < EXIT_RULES; rule++)
		if (audit->failed[rule / 64] & BIT(rule % 64))
			tap_comment("exitpath differs: audit.%s: see the failures",
				    exit_rules[rule].name);
}

/* --- how much --------------------------------------------------------------------- */

/* What the platform is known to do otherwise: names of rules, in a row. `say`: names them. */
static void waive_deviations(struct audit *audit, bool say)
{
	const struct platform *platform = this_platform();
	const char *name = platform->audit_waived, *end = name + platform->audit_waived_size;
	u32 rule;

	for (; name < end; name += strlen(name) + 1) {
		for (rule = 0; rule < EXIT_RULES && strcmp(name, exit_rules[rule].name); rule++)
			;
		if (rule < EXIT_RULES)
			audit->off[rule / 64] |= BIT(rule % 64);
		if (say)
			tap_comment(rule < EXIT_RULES ? "audit without %s: a known deviation" :
				    "exitpath,audit-waived: the audit has no rule %s", name);
	}
}

/* A generator of its own: case_random() is for the case. */
static u64 next_random(struct audit *audit)
{
	audit->random = audit->random * 6364136223846793005ull + 1442695040888963407ull;
	return audit->random >> 33;
}

static void start_case(struct audit *audit)
{
	const struct platform *platform = this_platform();
	static bool said;

	waive_deviations(audit, !said);
	audit->random = platform->seed;
	if (!said && platform->audit_percent < 100 && !platform->audit_all)
		tap_comment("exitpath,audit = <%u>: the first entry of each case and %u percent of "
			    "the others audited in full, else the host state",
			    platform->audit_percent, platform->audit_percent);
	said = true;
}

static bool draw_whole(struct audit *audit)
{
	if (!audit->entries)
		start_case(audit);
	return !audit->entries++ || audit->whole || this_platform()->audit_all ||
	       next_random(audit) % 100 < this_platform()->audit_percent;
}

/* --- the audit ---------------------------------------------------------------------- */

void audit_before_entry(struct audit *audit, bool resume, u64 vmcs)
{
	memset(audit->failed_now, 0, sizeof(audit->failed_now));
	audit->found = false;
	audit->none |= this_platform()->audit_none;
	if (audit->none)
		return;
	audit->exit.host_only = !draw_whole(audit);
	if (!audit->exit.host_only) {
		audit->in_full++;
		entry_read_input(&audit->entry, resume, vmcs);
		entry_predict(&audit->entry, &audit->predicted);
	}
	exit_read_before(&audit->exit, &audit->entry);
}

/* Chapter 29: the outcomes that the model allows, and the rules that it says are broken. */
static void audit_entry_outcome(const struct audit *audit, outcome_t outcome)
{
	char expected[600], got[120];

	if (entry_accepts(&audit->predicted, outcome))
		return;
	entry_prediction_words(expected, sizeof(expected), &audit->predicted);
	case_fail(NULL, 0, "audit of the VM entry", expected,
		  outcome_words(got, sizeof(got), outcome));
}

static void fail(const struct exit_claim *claim)
{
	const struct exit_rule *rule = &exit_rules[claim->rule];
	char what[120], subject[48], words[3][100];
	u64 bits = claim->range ? ~0ull : claim->bits;

	format(what, sizeof(what), "audit: %s (%s, rule %s)",
	       audit_subject(subject, sizeof(subject), claim->subject), rule->section, rule->name);
	audit_value(words[0], sizeof(words[0]), claim->subject, claim->value & bits);
	if (claim->never) {
		format(words[2], sizeof(words[2]), "another value");
	} else if (claim->range) {
		audit_value(words[1], sizeof(words[1]), claim->subject, claim->low);
		format(words[2], sizeof(words[2]), "%s to %s", words[1], words[0]);
	} else {
		format(words[2], sizeof(words[2]), bits == ~0ull ? "%s" : "%s in bits %#lx",
		       words[0], bits);
	}
	case_fail(NULL, 0, what, words[2],
		  audit_value(words[1], sizeof(words[1]), claim->subject, claim->got));
}

static void judge(void *context, const struct exit_claim *claim)
{
	struct audit *audit = context;
	u64 bit = BIT(claim->rule % 64);

	bool again = audit->failed[claim->rule / 64] & bit;

	if (exit_claim_holds(claim) || audit->off[claim->rule / 64] & bit)
		return;
	audit->failed[claim->rule / 64] |= bit;
	audit->failed_now[claim->rule / 64] |= bit;
	audit->found |= !again;
	if (!again || !audit->outcomes_judged)
		fail(claim);
}

void audit_after_entry(struct audit *audit, outcome_t outcome, u64 rflags, u64 rsp)
{
	if (audit->none)
		return;
	if (!audit->exit.host_only && audit->outcomes_judged &&
	    !entry_accepts(&audit->predicted, outcome))
		return;
	if (!audit->exit.host_only)
		audit_entry_outcome(audit, outcome);
	exit_read_after(&audit->exit, outcome, rflags, rsp);
	if (!exit_lists_are_kept(&audit->exit))
		case_fail(NULL, 0, "the lists of MSRs", "so short that the audit has room for them",
			  "longer: audit_none(), or fewer than EXIT_MAX_LISTED");
	exit_judge(&audit->exit, judge, audit);
}
