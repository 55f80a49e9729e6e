/* The known deviations of a platform: runners/PLATFORM/deviations.tsv, see docs/design.md. */
#ifndef SUPERVISE_DEVIATIONS_H
#define SUPERVISE_DEVIATIONS_H

#include "text.h"

/* One line of the file that holds for this machine. */
struct deviation {
	const char *id_glob;
	const char *section;
	const char *upstream; /* "-": not known there */
	const char *what;
};

struct deviation_list {
	struct deviation *items;
	size_t count;
	char *storage;
};

/*
 * Reads the lines of path whose identity glob matches identity. Returns false with a message in
 * error when the file cannot be read or any line is malformed. deviation_list_free releases it.
 */
bool deviation_list_read(struct deviation_list *list, const char *path, const char *identity,
			 struct text *error);
void deviation_list_free(struct deviation_list *list);

/* The first deviation that lists the case image:name, or NULL. */
const struct deviation *deviation_find(const struct deviation_list *list, const char *image,
				       const char *name);

/*
 * The first that says of the case image:name that it does not come to its own end,
 * image:name:crash: it kills, resets, switches off or hangs the machine, or a kernel below it
 * reports a bug. Or NULL.
 */
const struct deviation *deviation_find_crash(const struct deviation_list *list, const char *image,
					     const char *name);

/* The rules of the audit that are listed, as "audit:NAME": each name with its terminator. */
void deviations_waive(struct text *names, const struct deviation_list *list);

/* The first that lists one way (len bytes) in which the case differs: image:name:way. */
const struct deviation *deviation_find_way(const struct deviation_list *list, const char *image,
					   const char *name, const char *way, size_t len);

#endif
