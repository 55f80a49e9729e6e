#include "wire.h"

#include <string.h>

/* Takes prefix off the front of s; returns false, and leaves s alone, when s has another front. */
static bool take(struct slice *s, const char *prefix)
{
	size_t len = strlen(prefix);

	if (s->len < len || memcmp(s->bytes, prefix, len) != 0)
		return false;
	s->bytes += len;
	s->len -= len;
	return true;
}

/* Takes a number of one to nine digits. */
static bool take_number(struct slice *s, size_t *number)
{
	size_t digits = 0;

	*number = 0;
	while (s->len && *s->bytes >= '0' && *s->bytes <= '9' && digits++ < 9) {
		*number = *number * 10 + (size_t)(*s->bytes - '0');
		s->bytes++;
		s->len--;
	}
	return digits > 0;
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static struct slice take_name(struct slice *s)
{
	struct slice name = { s->bytes, 0 };

	while (s->len && is_name_byte(*s->bytes)) {
		name.len++;
		s->bytes++;
		s->len--;
	}
	return name;
}

static bool is_all_printable(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.bytes[i] < 0x20 || s.bytes[i] > 0x7e)
			return false;
	return true;
}

/* Cuts " # SKIP reason" off the end of line->rest, when it is there. */
static void cut_skip(struct line *line)
{
	const char *mark = memmem(line->rest.bytes, line->rest.len, " # SKIP", 7);
	struct slice reason;

	if (!mark)
		return;
	reason.bytes = mark + 7;
	reason.len = (size_t)(line->rest.bytes + line->rest.len - reason.bytes);
	if (reason.len && !take(&reason, " "))
		return;
	line->skipped = true;
	line->reason = reason;
	line->rest.len = (size_t)(mark - line->rest.bytes);
}

static bool parse_result(struct line *line, struct slice s)
{
	line->ok = !take(&s, "not ");
	if (!take(&s, "ok ") || !take_number(&s, &line->number) || !take(&s, " - "))
		return false;
	line->name = take_name(&s);
	line->rest = s;
	if (line->name.len == 0 || (s.len && *s.bytes != ' ') || !is_all_printable(s))
		return false;
	if (line->ok)
		cut_skip(line);
	return true;
}

static bool parse_plan(struct line *line, struct slice s)
{
	return take(&s, "1..") && take_number(&s, &line->number) && s.len == 0;
}

static bool parse_bail_out(struct line *line, struct slice s)
{
	if (!take(&s, "Bail out!"))
		return false;
	take(&s, " ");
	line->reason = s;
	return true;
}

static bool is_text(struct slice s, const char *text)
{
	return take(&s, text) && s.len == 0;
}

struct line line_parse(const char *bytes, size_t len)
{
	struct slice s = { bytes, len };
	struct line line = { .kind = LINE_GARBAGE };

	if (is_text(s, "TAP version 13"))
		line.kind = LINE_VERSION;
	else if (parse_plan(&line, s))
		line.kind = LINE_PLAN;
	else if (parse_result(&line, s))
		line.kind = LINE_RESULT;
	else if (is_text(s, "  ---"))
		line.kind = LINE_YAML_BEGIN;
	else if (len && *bytes == '#')
		line.kind = LINE_COMMENT;
	else if (parse_bail_out(&line, s))
		line.kind = LINE_BAIL_OUT;
	return line;
}

bool line_asks_for_boot(const char *bytes, size_t len)
{
	return is_text((struct slice){ bytes, len }, "# exitpath boot again");
}

bool line_differs(const char *bytes, size_t len, struct slice *way)
{
	struct slice s = { bytes, len };

	if (!take(&s, "# exitpath differs: "))
		return false;
	*way = (struct slice){ s.bytes, 0 };
	while (way->len < s.len && s.bytes[way->len] != ':' && s.bytes[way->len] != ' ')
		way->len++;
	return way->len;
}

bool line_is_yaml_end(const char *bytes, size_t len)
{
	return is_text((struct slice){ bytes, len }, "  ...");
}

bool line_is_yaml(const char *bytes, size_t len)
{
	struct slice s = { bytes, len };

	return len == 0 || take(&s, "  ");
}
