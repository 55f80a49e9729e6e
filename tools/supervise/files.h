/* Small helpers for files. */
#ifndef SUPERVISE_FILES_H
#define SUPERVISE_FILES_H

#include "text.h"

/* Appends the whole file to t. Returns false, with a message in error, when it cannot be read. */
bool file_read(struct text *t, const char *path, struct text *error);

/* Creates or replaces a file. Returns false, with a message in error, when that fails. */
bool file_write(const char *path, const void *bytes, size_t len, struct text *error);

/* Writes all of bytes, however often the kernel takes only a part. Returns false with errno set. */
bool write_all(int fd, const void *bytes, size_t len);

/* Makes a folder of a name not used before below $TMPDIR. Returns its path, to be freed, or NULL
 * with a message in error. */
char *temporary_folder_make(struct text *error);

/* Removes a folder with all that is in it; whatever cannot be removed stays. */
void folder_remove(const char *path);

/* Splits line at each tab, in place, into at most max columns; returns how many there are, more
 * than max included. */
size_t split_tabs(char *line, char **columns, size_t max);

#endif
