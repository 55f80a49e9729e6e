#include "yaml.h"

#include <string.h>

#define DEPTH_MAX 8
#define LITERAL_LINES_MAX 1000

/* What a block is indented by in TAP. */
#define BASE 2
/* The length of "- ". */
#define ITEM 2

struct yaml {
	struct text out;
	size_t levels[DEPTH_MAX]; /* the indentations of the mappings and lists that are open */
	bool lists[DEPTH_MAX];	  /* which of them are lists */
	size_t depth;
	bool may_nest;	      /* the last key had no value */
	bool literal;	      /* inside of a literal, that of a key at levels[depth] */
	size_t literal_indent; /* of the first line of the literal; 0: not seen yet */
};

static bool is_key_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

/* Whether a value is in quotes that everybody reads alike. */
static bool is_quoted(const char *s, size_t len)
{
	if (len < 2 || (s[0] != '\'' && s[0] != '"') || s[len - 1] != s[0])
		return false;
	for (size_t i = 1; i < len - 1; i++) {
		if (s[i] == s[0] && (s[0] == '"' || i + 1 == len - 1 || s[++i] != '\''))
			return false;
		if (s[0] == '"' && s[i] == '\\' &&
		    (i + 1 == len - 1 || !memchr("\\\"nrtx", s[++i], 6)))
			return false;
	}
	return true;
}

static void add_value(struct yaml *y, const char *value, size_t len)
{
	text_add(&y->out, " ", 1);
	if (is_quoted(value, len))
		text_add_escaped(&y->out, value, len);
	else
		text_add_scalar(&y->out, value, len);
}

/* Opens or closes mappings and lists so that the innermost one, of this kind, has indent. */
static bool set_level(struct yaml *y, size_t indent, bool list)
{
	if (indent > y->levels[y->depth]) {
		if (!y->may_nest || y->depth + 1 == DEPTH_MAX)
			return false;
		y->levels[++y->depth] = indent;
		y->lists[y->depth] = list;
	}
	while (indent < y->levels[y->depth])
		y->depth--;
	return indent == y->levels[y->depth] && list == y->lists[y->depth];
}

/* A line "key: value"; an item begins with the mark of a list item. */
static bool add_pair(struct yaml *y, const char *line, size_t len, size_t indent, bool item)
{
	size_t key = 0, value;

	while (indent + key < len && is_key_byte(line[indent + key]))
		key++;
	value = indent + key;
	if (key == 0 || value == len || line[value] != ':' || !set_level(y, indent, false))
		return false;
	/* "---" and "..." are no keys. */
	if (memchr("-.", line[indent], 2) || (++value < len && line[value] != ' '))
		return false;
	while (value < len && line[value] == ' ')
		value++;
	while (len > value && line[len - 1] == ' ')
		len--;
	text_printf(&y->out, "%*s%s%.*s:", (int)(BASE + indent - (item ? ITEM : 0)), "",
		    item ? "- " : "", (int)key, line + indent);
	y->may_nest = value == len;
	y->literal = len - value == 1 && line[value] == '|';
	y->literal_indent = 0;
	if (y->literal)
		text_printf(&y->out, " |");
	else if (!y->may_nest)
		add_value(y, line + value, len - value);
	text_add(&y->out, "\n", 1);
	return true;
}

/* A line of a literal; its first one sets the indentation. */
static bool add_literal(struct yaml *y, const char *line, size_t len, size_t indent)
{
	if (y->literal_indent == 0) {
		if (indent == len)
			return false;
		y->literal_indent = indent;
	}
	if (indent == len && len < y->literal_indent)
		line += len, len = 0;
	else if (indent < y->literal_indent)
		return false;
	else
		line += y->literal_indent, len -= y->literal_indent;
	text_printf(&y->out, "%*s", (int)(BASE + y->literal_indent), "");
	text_add_escaped(&y->out, line, len);
	text_add(&y->out, "\n", 1);
	return true;
}

/* The mark of a list item, which must be a mapping: the first key follows it. */
static bool add_item(struct yaml *y, const char *line, size_t len, size_t *indent)
{
	if (!set_level(y, *indent, true) || line[*indent + ITEM] == ' ')
		return false;
	y->may_nest = true;
	*indent += ITEM;
	return *indent < len && set_level(y, *indent, false);
}

/* One line, without what TAP indents it by and without its newline. */
static bool add_line(struct yaml *y, const char *line, size_t len)
{
	size_t indent = 0;
	bool item = false;

	while (indent < len && line[indent] == ' ')
		indent++;
	if (y->literal && (indent == len || indent > y->levels[y->depth]))
		return add_literal(y, line, len, indent);
	if (y->literal && y->literal_indent == 0)
		return false;
	y->literal = false;
	if (len - indent > ITEM && memcmp(line + indent, "- ", ITEM) == 0) {
		if (!add_item(y, line, len, &indent))
			return false;
		item = true;
	}
	return add_pair(y, line, len, indent, item);
}

/* Copies lines without the base indentation. */
static void strip_base(struct text *out, const struct text *lines)
{
	bool begin = true;

	for (size_t i = 0; i < lines->len; i++) {
		if (begin && lines->len - i >= BASE && memcmp(&lines->data[i], "  ", BASE) == 0)
			i += BASE;
		if (i < lines->len)
			text_add(out, &lines->data[i], 1);
		begin = i < lines->len && lines->data[i] == '\n';
	}
}

static bool add_lines(struct yaml *y, const struct text *content)
{
	const char *line = content->data;
	const char *end = line + content->len;

	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *stop = newline ? newline : end;

		if (!add_line(y, line, (size_t)(stop - line)))
			return false;
		line = newline ? newline + 1 : end;
	}
	return !y->literal || y->literal_indent != 0;
}

void yaml_block(struct text *out, const struct text *lines)
{
	struct text content = { 0 };
	struct yaml y = { 0 };

	if (lines->len == 0)
		return;
	strip_base(&content, lines);
	text_printf(out, "  ---\n");
	if (add_lines(&y, &content)) {
		text_add(out, y.out.data, y.out.len);
	} else {
		text_printf(out, "  console: |\n");
		text_add_literal(out, content.data, content.len, 2 * BASE, LITERAL_LINES_MAX);
	}
	text_printf(out, "  ...\n");
	text_free(&y.out);
	text_free(&content);
}
