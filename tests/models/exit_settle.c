#include "exit_settle.h"

#define MOST_ROUNDS	10

u64 *claim_storage(struct exit_input *x, u16 subject)
{
	if (subject < VMCS_FIELDS)
		return &x->field[subject];
	if (subject < EXIT_SUBJECT_STORE)
		return &x->after[subject - EXIT_SUBJECT_REGISTER];
	return NULL;
}

struct settling {
	struct exit_input *x;
	bool changed;
};

static void settle_claim(void *context, const struct exit_claim *claim)
{
	struct settling *settling = context;
	u64 *at = claim_storage(settling->x, claim->subject);

	if (!at || exit_claim_holds(claim) || claim->never)
		return;
	settling->changed = true;
	*at = claim->range ? claim->low : (*at & ~claim->bits) | (claim->value & claim->bits);
}

bool settle(struct exit_input *x)
{
	struct settling settling = { .x = x };
	u32 round;

	for (round = 0; round < MOST_ROUNDS; round++) {
		settling.changed = false;
		exit_judge(x, settle_claim, &settling);
		if (!settling.changed)
			return true;
	}
	return false;
}
