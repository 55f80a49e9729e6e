/*
 * What the guest's processor may be told not to have: names, and sets of them.
 *
 * A name is FIELD_NAME of lib/x86/sdm/controls.def or GROUP_NAME of capability_bits.def, or, where
 * that tells which, the NAME alone: PROC2_ENABLE_EPT, ENABLE_EPT. Who hides something hides what is
 * nothing without it, too: the controls that require it (control_rules.def), the fields and bits
 * that it announces.
 */
#ifndef VMM_CAPABILITIES_H
#define VMM_CAPABILITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

enum { CAPABILITIES_MAX = 320 };

struct capability {
	const char *name;	/* in full */
	const char *short_name;	/* its end */
	const char *words;
	uint32_t msr;		/* where it is; of a control the TRUE MSR, if there is one */
	uint32_t plain_msr;	/* the MSR without TRUE, or 0 */
	unsigned int bit;	/* of the MSR */
	bool is_default1;	/* no processor can do without */
};

struct capability_set {
	bool named[CAPABILITIES_MAX];	/* by whoever made the set */
	bool hidden[CAPABILITIES_MAX];	/* these, and what is nothing without them */
};

/* The capability of this number, from 0; NULL behind the last one. */
const struct capability *capability(size_t number);

/*
 * Fills `set` from names with commas between them, in any order. Returns 0, or -1 with words in
 * `error` about the first name that is none.
 */
int capability_set_parse(struct capability_set *set, const char *names, struct text *error);

/* Appends the set's names in full, in the order of the tables, without those that others imply. */
void capability_set_print(const struct capability_set *set, struct text *to);

#endif
