/*
 * Growable byte strings, which may hold any byte, and what turns hostile bytes into text that
 * is safe to print. Running out of memory ends the program with EXIT_BROKEN.
 */
#ifndef SUPERVISE_TEXT_H
#define SUPERVISE_TEXT_H

#include "base.h"

/* Start with { 0 }. data is always followed by a NUL that len does not count, once non-empty. */
struct text {
	char *data;
	size_t len;
	size_t room;
};

/* The text as a C string, "" when nothing was added yet. */
const char *text_string(const struct text *t);

/* Makes it empty, but keeps its memory. */
void text_clear(struct text *t);

void text_free(struct text *t);

/* Appends bytes as they are. */
void text_add(struct text *t, const char *bytes, size_t len);

/* Appends what printf would print. */
void text_printf(struct text *t, const char *format, ...) PRINTF_LIKE(2, 3);

/* Appends bytes and then forgets the oldest so that no more than max are left. */
void text_add_tail(struct text *t, const char *bytes, size_t len, size_t max);

/* Appends bytes; each that is not printable ASCII becomes \xNN. */
void text_add_escaped(struct text *t, const char *bytes, size_t len);

/* Appends a TAP description: as text_add_escaped, and # and \ get a backslash, so that nothing
 * in it can be taken for a directive. */
void text_add_description(struct text *t, const char *bytes, size_t len);

/* Appends a YAML scalar, in single quotes where YAML asks for them. */
void text_add_scalar(struct text *t, const char *bytes, size_t len);

/* Appends the last lines_max lines of bytes as the lines of a YAML literal ("key: |"), each
 * after indent spaces. Carriage returns before a newline are dropped. */
void text_add_literal(struct text *t, const char *bytes, size_t len, unsigned int indent,
		      unsigned int lines_max);

/* realloc and strndup that cannot fail. */
void *must_realloc(void *memory, size_t bytes);
char *must_strndup(const char *bytes, size_t len);

#endif
