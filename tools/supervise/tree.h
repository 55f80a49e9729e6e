/* The device tree that one boot is given: the platform's, with more in /chosen and /cpus. */
#ifndef SUPERVISE_TREE_H
#define SUPERVISE_TREE_H

#include "cases.h"

/* What /chosen says, see docs/design.md. */
struct tree_choice {
	const char *image;
	const struct selection *cases;
	size_t first; /* index in cases of the first case to run */
	uint64_t seed;
	const struct text *waived; /* rules of the audit, each with its terminator */
	const char *without; /* for /cpus; NULL: nothing */
	bool audit_all;
	uint32_t count; /* 0: the image's own */
};

/* Reads a compiled tree and checks it. Returns false with a message in error. */
bool tree_read(struct text *tree, const char *path, struct text *error);

/*
 * Makes in out a copy of tree with /chosen filled in: all cases from choice->first on, in order;
 * the plan is that of the whole selection. Returns false with a message in error.
 */
bool tree_choose(struct text *out, const struct text *tree, const struct tree_choice *choice,
		 struct text *error);

#endif
