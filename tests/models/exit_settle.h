/*
 * Exits that are as the model of VM exit demands, made from ones that need not be.
 */
#ifndef EXIT_SETTLE_H
#define EXIT_SETTLE_H

#include "vmx/exit_model.h"

/* Where the value that a claim is about lies; NULL for the entry of a list. */
u64 *claim_storage(struct exit_input *x, u16 subject);

/*
 * Changes what the exit has left until every claim holds, but those about lists and that
 * there is no such exit. False: the claims contradict each other.
 */
bool settle(struct exit_input *x);

#endif
