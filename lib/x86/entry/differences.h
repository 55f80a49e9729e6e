/*
 * In what ways the processor differs from the model of VM entry, when very many entries are
 * compared: each way once, with a count and its first examples. A way is a rule that the processor
 * does not enforce, or enforces with another result, named as in spec/vm-entry-checks.csv
 * ("guest.cs.present"); or an entry that it refuses without reason, "refused.7" (VMfailValid(7)),
 * "refused.33.0" (reason, qualification); or one that ends in an exit that its controls
 * do not allow, "exit.48" (its reason), or for which another is due, "exit.48.not.8"; or a rule of
 * the audit, where an entry was audited: "audit.save_dr7".
 */
#ifndef ENTRY_DIFFERENCES_H
#define ENTRY_DIFFERENCES_H

#include "vmx/entry_rules.h"

#define DIFFERENCES_MOST	48
#define DIFFERENCES_BLAMED	4
#define DIFFERENCES_ID		200	/* bytes that the id of a way takes */
#define DIFFERENCES_EXAMPLES	3

/*
 * The fields that an entry is refused for, by index: with any of them as in the base state it is
 * not refused. Only the first have a name.
 */
struct blamed_fields {
	u32 count;
	u16 field[DIFFERENCES_BLAMED];
};

struct difference {
	u32 rule;			/* ENTRY_RULES: refused without reason ... */
	outcome_t refused;		/* ... so ... */
	struct blamed_fields blamed;	/* ... for these fields; none: not said */
	u32 due;			/* entry_first_exit(), for an exit */
	u32 count;
	char example[DIFFERENCES_EXAMPLES][400];
	char expected[400], got[120];	/* of the first */
};

struct differences {
	struct difference way[DIFFERENCES_MOST];
	u32 ways;
	u32 entries;			/* compared */
	u32 left_out;			/* and those that could not be made */
	const char *why_left_out;	/* one of the reasons */
};

/*
 * The rules, at most `most`, that the processor must have ignored to end in `outcome`, into
 * `rules`. None: it refused an entry that the model allows, or by a rule that is kept.
 */
u32 entry_explain(const struct entry_input *in, outcome_t outcome, u16 *rules, u32 most);

/* The id of a way. */
const char *difference_id(char *to, size_t size, const struct difference *way);

/*
 * Notes an entry that the model does not accept: all its ways. `blamed`: for the id
 * of an entry that was refused ("refused.33.0.guest_ssp"), or NULL;
 * `example`: which entry it was, in words; "": the caller fills those of the new ways in.
 */
void differences_add(struct differences *differences, const struct entry_input *in,
		     const struct entry_prediction *predicted, outcome_t outcome,
		     const struct blamed_fields *blamed, const char *example);

/*
 * The verdict of the case: for each way a line "# exitpath differs: ID: ..." and a failure; a line
 * that says how many entries were compared.
 */
void differences_report(const struct differences *differences);

#endif
