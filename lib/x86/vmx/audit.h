/*
 * The audit of VM entries and exits: what a case did not ask about is judged too. Every entry must
 * end as the model of VM entry predicts (entry_model.h); after it, every claim of the model of VM
 * exits (exit_model.h) must hold: on the host state, the exit information, the saved guest state,
 * the lists of MSRs, and on what a failed entry leaves alone.
 *
 * The model takes it that the guest leaves its own state alone. A case whose guest does not says
 * so:
 *
 *	audit_guest_changes(GUEST_CR4);
 *
 * and one that provokes what a rule forbids names the rule: audit_off(EXIT_RULE_host_dr7).
 *
 * How much is audited is data of the platform (struct platform, audit_percent): the first entry of
 * each case in full, of the others that part, drawn from the run's seed; of the rest the host state
 * only.
 */
#ifndef VMX_AUDIT_H
#define VMX_AUDIT_H

#include "vmx/entry_model.h"
#include "vmx/exit_model.h"

struct audit {
	u64 off[(EXIT_RULES + 63) / 64];	/* bit = enum exit_rule_number */
	bool whole;			/* every entry of this case in full */
	bool none;			/* nothing of this case */
	bool outcomes_judged;		/* by the case itself */
	u64 failed[(EXIT_RULES + 63) / 64];	/* rules with a claim that did not hold ... */
	u64 failed_now[(EXIT_RULES + 63) / 64];	/* ... at the last entry */
	bool found;			/* one of those for the first time in this case */
	u32 entries, in_full;		/* of this case: audited, and those of them in full */
	u64 random;
	struct entry_input entry;	/* the VMCS as the entry finds it */
	struct entry_prediction predicted;
	struct exit_input exit;
};

/* The rest of the case does without this rule. */
void audit_off(enum exit_rule_number rule);

/* The guest of this case changes a field of the guest state: its saved value is not predicted. */
#define audit_guest_changes(field) audit_guest_changes_index(INDEX_##field)
void audit_guest_changes_index(enum vmcs_index index);

/* The same of the selectors, bases, limits and access rights of CS, SS, DS, ES, FS and GS. */
void audit_guest_changes_segments(void);

/*
 * The guest of this case comes back to the RIP and RSP of the entry, where the delivery of an event
 * of its own exits: nothing else tells that from the delivery of what the entry has injected.
 */
void audit_guest_comes_back(void);

/* All entries of the case in full, whatever the platform's level: it uses the models itself. */
void audit_whole(void);

/* No audit of the rest of the case: for an image that measures what an entry costs. */
void audit_none(void);

/*
 * For a case of very many entries that compares how they end with the model itself: an entry that
 * ends otherwise than predicted is its finding, and what such an exit leaves behind is not judged.
 * Each rule fails the case once, so that none hides another.
 */
void audit_outcomes_judged(void);

/* Whether a claim of the rule did not hold at the last entry. */
bool audit_failed(enum exit_rule_number rule);
/* Whether a rule was among them that had held in this case until then. */
bool audit_found(void);

/* Prints "exitpath differs: audit.RULE" for each rule with a claim that failed in this case. */
void audit_report_ways(void);

/* `resume`: by VMRESUME; `vmcs`: the current-VMCS pointer. */
void audit_before_entry(struct audit *audit, bool resume, u64 vmcs);
/* RFLAGS and RSP as found right behind the exit. */
void audit_after_entry(struct audit *audit, outcome_t outcome, u64 rflags, u64 rsp);

/* What the model predicts, in words: outcomes and broken rules. */
void entry_prediction_words(char *to, size_t size, const struct entry_prediction *predicted);

/* A claim's subject, e.g. "GUEST_CS_ACCESS_RIGHTS" or "IA32_PAT", and a value of it, in words. */
const char *audit_subject(char *to, size_t size, u16 subject);
const char *audit_value(char *to, size_t size, u16 subject, u64 value);

#endif
