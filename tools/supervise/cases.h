/*
 * The cases of one image (IMAGE.tsv, see docs/design.md), and which of them run, in what order.
 */
#ifndef SUPERVISE_CASES_H
#define SUPERVISE_CASES_H

#include "text.h"

/* One line of IMAGE.tsv; every string is there, but may be empty. */
struct case_info {
	uint32_t number;
	const char *name;
	const char *source;
	const char *section;
	const char *title;
};

struct case_list {
	struct case_info *items;
	size_t count;
	char *storage;
};

/* Cases in the order to run. */
struct selection {
	const struct case_info **items;
	size_t count;
};

/*
 * Reads the case list. Returns false with a message in error when the file cannot be read or
 * is malformed. case_list_free releases it in both cases.
 */
bool case_list_read(struct case_list *list, const char *path, struct text *error);
void case_list_free(struct case_list *list);

/*
 * Selects the cases whose name, or whose id IMAGE:NAME, matches one of the globs; all when there
 * is no glob. The order is that of the list. selection_free releases it.
 */
void selection_make(struct selection *sel, const struct case_list *list, const char *image,
		    char *const *globs, size_t glob_count);
void selection_free(struct selection *sel);

/* Puts the selection in an order that depends on nothing but seed. */
void selection_shuffle(struct selection *sel, uint64_t seed);

#endif
