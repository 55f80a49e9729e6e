#include "cases.h"
#include "files.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define CASE_COLUMNS 7

static bool is_case_name(const char *name)
{
	return *name && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

/* Parses one line, without its newline, as case number want. */
static bool parse_case(struct case_info *info, char *line, uint32_t want)
{
	char *columns[CASE_COLUMNS];
	char *end;

	if (split_tabs(line, columns, CASE_COLUMNS) != CASE_COLUMNS || !is_case_name(columns[1]))
		return false;
	if (strtoull(columns[0], &end, 10) != want || *end)
		return false;
	*info = (struct case_info){
		.number = want,
		.name = columns[1],
		.source = columns[4],
		.section = columns[5],
		.title = columns[6],
	};
	return true;
}

bool case_list_read(struct case_list *list, const char *path, struct text *error)
{
	struct text content = { 0 };
	char *line, *next;

	*list = (struct case_list){ 0 };
	if (!file_read(&content, path, error)) {
		text_free(&content);
		return false;
	}
	list->storage = content.data;
	if (content.len == 0 || strlen(content.data) != content.len ||
	    content.data[content.len - 1] != '\n') {
		text_printf(error, "%s: empty, cut off, or not text; build the image again", path);
		return false;
	}
	for (line = content.data; *line; line = next) {
		next = strchr(line, '\n');
		*next++ = '\0';
		list->items = must_realloc(list->items, (list->count + 1) * sizeof(*list->items));
		if (!parse_case(&list->items[list->count], line, (uint32_t)list->count + 1)) {
			text_printf(error, "%s:%zu: not a case of %d columns with this number; "
					   "build the image again",
				    path, list->count + 1, CASE_COLUMNS);
			return false;
		}
		list->count++;
	}
	return true;
}

void case_list_free(struct case_list *list)
{
	free(list->items);
	free(list->storage);
	*list = (struct case_list){ 0 };
}

static bool is_selected(const struct case_info *info, const char *image, char *const *globs,
			size_t glob_count)
{
	struct text id = { 0 };
	bool found = glob_count == 0;

	text_printf(&id, "%s:%s", image, info->name);
	for (size_t i = 0; i < glob_count && !found; i++)
		found = fnmatch(globs[i], info->name, 0) == 0 || fnmatch(globs[i], id.data, 0) == 0;
	text_free(&id);
	return found;
}

void selection_make(struct selection *sel, const struct case_list *list, const char *image,
		    char *const *globs, size_t glob_count)
{
	*sel = (struct selection){
		.items = must_realloc(NULL, list->count * sizeof(*sel->items)),
	};
	for (size_t i = 0; i < list->count; i++)
		if (is_selected(&list->items[i], image, globs, glob_count))
			sel->items[sel->count++] = &list->items[i];
}

void selection_free(struct selection *sel)
{
	free(sel->items);
	*sel = (struct selection){ 0 };
}

/* SplitMix64: any seed, zero included, gives a good sequence, the same on every machine. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void selection_shuffle(struct selection *sel, uint64_t seed)
{
	for (size_t i = sel->count; i > 1; i--) {
		size_t j = (size_t)(next_random(&seed) % i);
		const struct case_info *other = sel->items[j];

		sel->items[j] = sel->items[i - 1];
		sel->items[i - 1] = other;
	}
}
