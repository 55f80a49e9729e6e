#include "deviations.h"
#include "files.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { ID, IDENTITY, SECTION, UPSTREAM, WHAT, COLUMNS };

static bool parse_line(struct deviation_list *list, char *line, const char *identity)
{
	char *columns[COLUMNS];

	if (split_tabs(line, columns, COLUMNS) != COLUMNS)
		return false;
	for (int i = 0; i < COLUMNS; i++)
		if (!*columns[i])
			return false;
	if (fnmatch(columns[IDENTITY], identity, 0) != 0)
		return true;
	list->items = must_realloc(list->items, (list->count + 1) * sizeof(*list->items));
	list->items[list->count++] = (struct deviation){
		.id_glob = columns[ID],
		.section = columns[SECTION],
		.upstream = columns[UPSTREAM],
		.what = columns[WHAT],
	};
	return true;
}

bool deviation_list_read(struct deviation_list *list, const char *path, const char *identity,
			 struct text *error)
{
	struct text content = { 0 };
	unsigned int number = 0;
	char *line, *next;

	*list = (struct deviation_list){ 0 };
	text_add(&content, "", 0);
	if (!file_read(&content, path, error)) {
		text_free(&content);
		return false;
	}
	list->storage = content.data;
	for (line = content.data; *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		number++;
		if (!*line || *line == '#')
			continue;
		if (!parse_line(list, line, identity)) {
			text_printf(error,
				    "%s:%u: not %d columns with a tab between them: id glob, "
				    "identity glob, SDM section, upstream reference or -, what the "
				    "machine does",
				    path, number, COLUMNS);
			return false;
		}
	}
	return true;
}

void deviation_list_free(struct deviation_list *list)
{
	free(list->items);
	free(list->storage);
	*list = (struct deviation_list){ 0 };
}

/* A line for the case as a whole, IMAGE:CASE, says nothing of a way, also when it ends in a *. */
static bool is_for_ways(const char *glob)
{
	const char *colon = strchr(glob, ':');

	return colon && strchr(colon + 1, ':');
}

static const struct deviation *find(const struct deviation_list *list, const char *id, bool way)
{
	for (size_t i = 0; i < list->count; i++)
		if ((!way || is_for_ways(list->items[i].id_glob)) &&
		    fnmatch(list->items[i].id_glob, id, 0) == 0)
			return &list->items[i];
	return NULL;
}

const struct deviation *deviation_find(const struct deviation_list *list, const char *image,
				       const char *name)
{
	const struct deviation *found;
	struct text id = { 0 };

	text_printf(&id, "%s:%s", image, name);
	found = find(list, id.data, false);
	text_free(&id);
	return found;
}

/* Only a line that says it: IMAGE:CASE:* is about the ways that a case itself tells. */
static bool is_for_crashes(const char *glob)
{
	static const char sign[] = ":crash";
	const size_t len = strlen(glob);

	return is_for_ways(glob) && len >= sizeof(sign) - 1 &&
	       strcmp(glob + len - (sizeof(sign) - 1), sign) == 0;
}

const struct deviation *deviation_find_crash(const struct deviation_list *list, const char *image,
					     const char *name)
{
	const struct deviation *found = NULL;
	struct text id = { 0 };

	text_printf(&id, "%s:%s:crash", image, name);
	for (size_t i = 0; i < list->count && !found; i++)
		if (is_for_crashes(list->items[i].id_glob) &&
		    fnmatch(list->items[i].id_glob, id.data, 0) == 0)
			found = &list->items[i];
	text_free(&id);
	return found;
}

const struct deviation *deviation_find_way(const struct deviation_list *list, const char *image,
					   const char *name, const char *way, size_t len)
{
	const struct deviation *found;
	struct text id = { 0 };

	text_printf(&id, "%s:%s:%.*s", image, name, (int)len, way);
	found = find(list, id.data, true);
	text_free(&id);
	return found;
}

void deviations_waive(struct text *names, const struct deviation_list *list)
{
	static const char prefix[] = "audit:";
	const char *name;

	for (size_t i = 0; i < list->count; i++) {
		if (strncmp(list->items[i].id_glob, prefix, sizeof(prefix) - 1) != 0)
			continue;
		name = list->items[i].id_glob + sizeof(prefix) - 1;
		text_add(names, name, strlen(name) + 1);
	}
}
