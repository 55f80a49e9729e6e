#include "ways.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

/* More than that nobody reads; the log has all. */
#define WORDS_MAX 500

const char ways_says_how[] = "# reproduce: ./exitpath run ";

static size_t find(struct ways *ways, struct slice name)
{
	size_t i;

	for (i = 0; i < ways->count; i++)
		if (ways->items[i].name.len == name.len &&
		    !memcmp(ways->items[i].name.data, name.bytes, name.len))
			return i;
	ways->items = must_realloc(ways->items, (i + 1) * sizeof(*ways->items));
	ways->items[i] = (struct way){ 0 };
	text_add(&ways->items[i].name, name.bytes, name.len);
	ways->count++;
	return i;
}

/* The first counts. */
static void set(struct text *t, const char *bytes, const char *end)
{
	size_t len = (size_t)(end - bytes);

	if (!t->len)
		text_add_escaped(t, bytes, len < WORDS_MAX ? len : WORDS_MAX);
}

void ways_take(struct ways *ways, const char *bytes, size_t len)
{
	static const char example[] = "#   ", command[] = "# reproduce: ";
	const char *end = bytes + len, *words;
	struct slice name;

	if (line_differs(bytes, len, &name)) {
		ways->at = find(ways, name);
		words = name.bytes + name.len;
		while (words < end && (*words == ':' || *words == ' '))
			words++;
		set(&ways->items[ways->at].words, words, end);
	} else if (ways->at == ways->count) {
		return;
	} else if (len >= strlen(example) && !memcmp(bytes, example, strlen(example))) {
		set(&ways->items[ways->at].example, bytes + strlen(example), end);
	} else if (len >= strlen(ways_says_how) &&
		   !memcmp(bytes, ways_says_how, strlen(ways_says_how))) {
		set(&ways->items[ways->at].again, bytes + strlen(command), end);
	} else {
		ways->at = ways->count;
	}
}

static void add_pair(struct text *t, const char *key, const struct text *value)
{
	if (!value->len)
		return;
	text_printf(t, "      %s: ", key);
	text_add_scalar(t, value->data, value->len);
	text_printf(t, "\n");
}

void ways_add_item(struct text *t, const struct way *way, const char *more)
{
	text_printf(t, "    - way: ");
	text_add_scalar(t, way->name.data, way->name.len);
	text_printf(t, "\n");
	add_pair(t, "words", &way->words);
	if (strcmp(text_string(&way->words), text_string(&way->example)) != 0)
		add_pair(t, "example", &way->example);
	/* A literal has no quotes around it: the line can be pasted as it is. */
	if (way->again.len)
		text_printf(t, "      reproduce: |\n        %s%s%s\n", way->again.data,
			    more ? " " : "", more ? more : "");
}

void ways_clear(struct ways *ways)
{
	for (size_t i = 0; i < ways->count; i++) {
		text_free(&ways->items[i].name);
		text_free(&ways->items[i].words);
		text_free(&ways->items[i].example);
		text_free(&ways->items[i].again);
	}
	free(ways->items);
	*ways = (struct ways){ 0 };
}
