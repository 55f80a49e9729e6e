#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool file_read(struct text *t, const char *path, struct text *error)
{
	char buffer[16384];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		text_printf(error, "cannot open %s: %s", path, strerror(errno));
		return false;
	}
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		text_add(t, buffer, (size_t)got);
	if (got < 0)
		text_printf(error, "cannot read %s: %s", path, strerror(errno));
	close(fd);
	return got == 0;
}

bool write_all(int fd, const void *bytes, size_t len)
{
	const char *p = bytes;

	while (len) {
		ssize_t done = write(fd, p, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return false;
		p += done;
		len -= (size_t)done;
	}
	return true;
}

bool file_write(const char *path, const void *bytes, size_t len, struct text *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	bool good = fd >= 0 && write_all(fd, bytes, len);

	if (!good)
		text_printf(error, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return good;
}

char *temporary_folder_make(struct text *error)
{
	const char *parent = getenv("TMPDIR");
	struct text path = { 0 };

	if (!parent || !*parent)
		parent = P_tmpdir;
	text_printf(&path, "%s/exitpath-XXXXXX", parent);
	if (mkdtemp(path.data))
		return path.data;
	text_printf(error, "cannot make a temporary folder in %s: %s; set TMPDIR to a folder that "
			   "can be written",
		    parent, strerror(errno));
	text_free(&path);
	return NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

void folder_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

size_t split_tabs(char *line, char **columns, size_t max)
{
	size_t count = 0;

	while (line) {
		if (count < max)
			columns[count] = line;
		count++;
		line = strchr(line, '\t');
		if (line)
			*line++ = '\0';
	}
	return count;
}
