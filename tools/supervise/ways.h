/*
 * The ways in which the running case says that it differs from the SDM, and what it says of each:
 *
 *	# exitpath differs: WAY: some words
 *	#   an example
 *	# reproduce: ./exitpath run vmx/random --seed 7 --count 1
 *
 * A way may come several times; the first words, the first example and the first command count.
 */
#ifndef SUPERVISE_WAYS_H
#define SUPERVISE_WAYS_H

#include "text.h"

struct way {
	struct text name;
	struct text words, example, again;
};

/* Start with { 0 }. */
struct ways {
	struct way *items;
	size_t count;
	size_t at; /* the way that the last comments were about; count: none */
};

/* Takes a comment of the case, which may be about a way or about anything else. */
void ways_take(struct ways *ways, const char *bytes, size_t len);

/* How a comment begins that says how to repeat something. */
extern const char ways_says_how[];

/*
 * Appends an item of a YAML list that says all of one way; `more`: options for its command, or
 * NULL.
 */
void ways_add_item(struct text *t, const struct way *way, const char *more);

/* Forgets all of them. */
void ways_clear(struct ways *ways);

#endif
