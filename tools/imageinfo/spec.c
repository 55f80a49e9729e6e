#include "spec.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 64
#define MAX_HINT 128		/* longest id for which a similar one is looked up */

void die(const char *format, ...)
{
	va_list arguments;

	fputs("imageinfo: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(2);
}

static void *grow(void *array, size_t count, size_t size)
{
	/* Doubles the array each time that the count reaches a power of two. */
	if (count & (count - 1))
		return array;
	array = realloc(array, (count ? 2 * count : 1) * size);
	if (!array)
		die("out of memory");
	return array;
}

static void *keep(struct spec *spec, void *memory)
{
	if (!memory)
		die("out of memory");
	spec->owned = grow(spec->owned, spec->owned_count, sizeof(*spec->owned));
	spec->owned[spec->owned_count++] = memory;
	return memory;
}

char *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	char *data = NULL;
	size_t used = 0;
	size_t room = 0;
	size_t got;

	if (!file)
		die("%s: %s", path, strerror(errno));
	do {
		if (room - used < 2) {
			room = room ? 2 * room : 65536;
			data = realloc(data, room);
			if (!data)
				die("%s: out of memory", path);
		}
		got = fread(data + used, 1, room - used - 1, file);
		used += got;
	} while (got);
	if (ferror(file))
		die("%s: %s", path, strerror(errno));
	fclose(file);
	/* Exactly what is used: a sanitizer then sees every byte too far. */
	data = realloc(data, used + 1);
	if (!data)
		die("%s: out of memory", path);
	data[used] = '\0';
	*size = used;
	return data;
}

/*
 * Splits the CSV line at *text in place; *text becomes the next line. Returns the number of
 * columns, 0 for a malformed line.
 */
static unsigned int csv_row(char **text, char *column[MAX_COLUMNS])
{
	char *in = *text;
	char *out = in;
	unsigned int count = 0;
	bool more = true;

	while (more) {
		bool quoted = *in == '"';

		if (count == MAX_COLUMNS)
			return 0;
		column[count++] = out;
		in += quoted;
		while (*in && (quoted || (*in != ',' && *in != '\n'))) {
			if (*in == '\n' || (*in == '"' && !quoted))
				return 0;
			if (*in == '"' && *++in != '"') {
				quoted = false;
				if (*in && *in != ',' && *in != '\n')
					return 0;
				continue;
			}
			*out++ = *in++;
		}
		if (quoted)
			return 0;
		more = *in == ',';
		in += *in != '\0';
		*out++ = '\0';
	}
	*text = in;
	return count;
}

static unsigned int csv_find(char **column, unsigned int count, const char *name)
{
	unsigned int i;

	for (i = 0; i < count && strcmp(column[i], name); i++)
		;
	return i;
}

/* "27.9.1 Table 27-19; 30.2.1" -> "27.9.1", in place. */
static char *section_number(char *places)
{
	char *table = strstr(places, " Table");

	places[strcspn(places, ";")] = '\0';
	if (table)
		*table = '\0';
	while (*places && places[strlen(places) - 1] == ' ')
		places[strlen(places) - 1] = '\0';
	return places;
}

static void add_fact(struct spec *spec, const char *file, const char *key, char *places)
{
	size_t length = strlen(file) + strlen(key) + 2;
	char *id = keep(spec, malloc(length));
	struct fact *fact;

	snprintf(id, length, "%s:%s", file, key);
	spec->facts = grow(spec->facts, spec->fact_count, sizeof(*fact));
	fact = &spec->facts[spec->fact_count++];
	fact->id = id;
	fact->section = section_number(places);
}

static void add_title(struct spec *spec, const char *section, const char *title)
{
	spec->titles = grow(spec->titles, spec->title_count, sizeof(*spec->titles));
	spec->titles[spec->title_count].section = section;
	spec->titles[spec->title_count++].title = title;
}

/* Reads DIR/FILE.csv: facts, or titles when it is sections.csv. */
static void load_table(struct spec *spec, const char *file)
{
	bool titles = !strcmp(file, "sections");
	size_t length = strlen(spec->dir) + strlen(file) + sizeof("/.csv");
	char *path = keep(spec, malloc(length));
	char *column[MAX_COLUMNS];
	unsigned int columns, section, count, line;
	size_t size;
	char *text;

	snprintf(path, length, "%s/%s.csv", spec->dir, file);
	text = keep(spec, read_file(path, &size));
	if (strlen(text) != size)
		die("%s: has a NUL byte in it; restore the file", path);
	columns = csv_row(&text, column);
	section = csv_find(column, columns, "section");
	if (section == columns || (titles && columns < 2))
		die("%s:1: no column \"section\"; see spec/README.md", path);
	for (line = 2; *text; line++) {
		count = csv_row(&text, column);
		if (count != columns)
			die("%s:%u: not a CSV row of %u columns; quote fields with a comma in them",
			    path, line, columns);
		if (titles)
			add_title(spec, column[0], column[1]);
		else
			add_fact(spec, file, column[0], column[section]);
	}
}

static int compare_facts(const void *left, const void *right)
{
	return strcmp(((const struct fact *)left)->id, ((const struct fact *)right)->id);
}

void spec_load(struct spec *spec, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	size_t i;

	if (!dir)
		die("%s: %s; --spec names the folder with the tables", path, strerror(errno));
	spec->dir = path;
	while ((entry = readdir(dir))) {
		char *end = strrchr(entry->d_name, '.');
		char *file;

		if (entry->d_name[0] == '.' || !end || strcmp(end, ".csv"))
			continue;
		file = keep(spec, strdup(entry->d_name));
		file[end - entry->d_name] = '\0';
		load_table(spec, file);
	}
	closedir(dir);
	if (!spec->fact_count)
		die("%s: no facts in it; --spec names the folder with the tables", path);
	qsort(spec->facts, spec->fact_count, sizeof(*spec->facts), compare_facts);
	for (i = 1; i < spec->fact_count; i++)
		if (!strcmp(spec->facts[i - 1].id, spec->facts[i].id))
			die("%s: two rows have the id %s; give the newer one another id", path,
			    spec->facts[i].id);
}

void spec_free(struct spec *spec)
{
	while (spec->owned_count)
		free(spec->owned[--spec->owned_count]);
	free(spec->owned);
	free(spec->facts);
	free(spec->titles);
}

const struct fact *spec_find(const struct spec *spec, const char *id)
{
	struct fact key = { .id = id };

	return bsearch(&key, spec->facts, spec->fact_count, sizeof(key), compare_facts);
}

const char *spec_title(const struct spec *spec, const char *section)
{
	size_t i;

	for (i = 0; i < spec->title_count; i++)
		if (!strcmp(spec->titles[i].section, section))
			return spec->titles[i].title;
	return NULL;
}

/* How many characters to add, remove or replace to make one text the other. */
static unsigned int distance(const char *left, const char *right)
{
	unsigned int row[MAX_HINT + 1];
	size_t width = strlen(right);
	size_t i, j;

	if (width > MAX_HINT)
		return UINT32_MAX;
	for (j = 0; j <= width; j++)
		row[j] = (unsigned int)j;
	for (i = 0; left[i]; i++) {
		unsigned int diagonal = row[0];

		row[0] = (unsigned int)i + 1;
		for (j = 0; j < width; j++) {
			unsigned int best = diagonal + (left[i] != right[j]);

			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (diagonal + 1 < best)
				best = diagonal + 1;
			row[j + 1] = best;
		}
	}
	return row[width];
}

const char *spec_similar(const struct spec *spec, const char *id)
{
	const char *similar = spec->facts[0].id;
	unsigned int least = UINT32_MAX;
	size_t i;

	for (i = 0; i < spec->fact_count && strlen(id) <= MAX_HINT; i++) {
		unsigned int now = distance(id, spec->facts[i].id);

		if (now < least) {
			least = now;
			similar = spec->facts[i].id;
		}
	}
	return similar;
}

