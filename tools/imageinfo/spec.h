/*
 * The tables of spec/: every fact with its section, every section with its title.
 */
#ifndef IMAGEINFO_SPEC_H
#define IMAGEINFO_SPEC_H

#include <stddef.h>

struct fact {
	const char *id;		/* FILE:KEY */
	const char *section;	/* number only; empty when the row has none */
};

struct title {
	const char *section;
	const char *title;
};

struct spec {
	const char *dir;
	struct fact *facts;	/* sorted by id */
	size_t fact_count;
	struct title *titles;
	size_t title_count;
	void **owned;		/* what the strings above point into */
	size_t owned_count;
};

/* Ends the program: one line on standard error, exit status 2. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Reads a whole file; a NUL follows the last byte; *size does not count it. The caller frees
 * it. Dies when it cannot.
 */
char *read_file(const char *path, size_t *size);

/*
 * Reads every table of the folder into *spec, which is all zero before. Dies on a table that
 * it cannot read and on an id used twice.
 */
void spec_load(struct spec *spec, const char *path);

/* Gives back what spec_load() took. */
void spec_free(struct spec *spec);

/* The fact of that id, NULL when there is none. */
const struct fact *spec_find(const struct spec *spec, const char *id);

/* The title of a section, NULL when sections.csv does not have it. */
const char *spec_title(const struct spec *spec, const char *section);

/* The id that looks most like this one. */
const char *spec_similar(const struct spec *spec, const char *id);

#endif
