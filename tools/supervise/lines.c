#include "lines.h"
#include "processes.h"
#include "wire.h"

#include <string.h>

/* Longer lines are garbage; the images print nothing of that kind. */
#define LINE_MAX_BYTES 4096
/* How much of a YAML block is kept; the log has all. */
#define YAML_MAX_BYTES 65536
/* What a case may write before it counts as flooding the console. */
#define FLOOD_BYTES (1024 * 1024)
/* How much of a garbage line is quoted in the message. */
#define QUOTE_BYTES 60
/* How many lines of garbage are kept from its beginning: how a kernel began to report its bug. */
#define GARBAGE_LINES 24
/* How long a machine goes on after garbage, so that the whole of a panic message is seen. */
#define GARBAGE_MS 1000
/* The same after the result of a case that is already known to be faulty, for its YAML block. */
#define VERDICT_MS 200
/* How much is remembered of the comments before the first result. */
#define HEADER_MAX_BYTES 16384
/* How many comments of a case are passed on. */
#define COMMENTS_MAX 200

static void fault_within(struct boot *b, int64_t ms)
{
	int64_t at = now_ms() + ms;

	if (b->plan && (!b->fault_at || at < b->fault_at))
		b->fault_at = at;
}

/* The running case did something wrong; the first such thing is the message. */
static void garbage(struct boot *b, const char *bytes, size_t len)
{
	size_t quoted = len < QUOTE_BYTES ? len : QUOTE_BYTES;

	if (!b->fault.len) {
		text_printf(&b->fault, "garbage on the console: \"");
		text_add_escaped(&b->fault, bytes, quoted);
		text_printf(&b->fault, quoted < len ? "...\"" : "\"");
	}
	if (b->garbage_lines++ < GARBAGE_LINES) {
		text_add(&b->garbage, bytes, len);
		text_add(&b->garbage, "\n", 1);
	}
	fault_within(b, GARBAGE_MS);
}

/* The same, and nothing that follows could be trusted. */
static void fatal(struct boot *b, const char *what)
{
	text_printf(&b->fault, "%s%s", b->fault.len ? "; then " : "", what);
	boot_stop(b, BOOT_FAULTY);
}

static void take_version(struct boot *b)
{
	if (b->version)
		fatal(b, b->plan ? "crashed: the machine reset in the middle of the case"
				 : "the machine reset before it printed the plan");
	b->version = true;
}

static void take_plan(struct boot *b, const struct line *line)
{
	struct text what = { 0 };

	if (b->plan) {
		fatal(b, "a second plan line");
	} else if (!b->version) {
		fatal(b, "a plan before \"TAP version 13\"");
	} else if (line->number != b->run->cases->count) {
		text_printf(&what, "the image plans 1..%zu, not the 1..%zu it was told; build the "
				   "image and its case list again",
			    line->number, b->run->cases->count);
		fatal(b, what.data);
	} else {
		b->plan = true;
		b->run->planned = true;
	}
	text_free(&what);
}

/* Whether a result is that of the running case; complains when not. */
static bool is_expected(struct boot *b, const struct line *line)
{
	const struct run *run = b->run;
	const struct case_info *want;
	struct text what = { 0 };

	if (!b->plan) {
		text_printf(&what, "a result before the plan");
	} else if (run->next == run->cases->count) {
		text_printf(&what, "a result beyond the plan: %zu - %.*s", line->number,
			    (int)line->name.len, line->name.bytes);
	} else {
		want = run->cases->items[run->next];
		if (line->number != run->next + 1 || line->name.len != strlen(want->name) ||
		    memcmp(line->name.bytes, want->name, line->name.len) != 0)
			text_printf(&what,
				    "a result of another case: %zu - %.*s instead of %zu - %s",
				    line->number, (int)line->name.len, line->name.bytes,
				    run->next + 1, want->name);
	}
	if (what.len)
		fatal(b, what.data);
	text_free(&what);
	return !b->stopped;
}

static void report_line(struct boot *b, const struct line *line)
{
	struct run *run = b->run;
	struct text rest = { 0 }, reason = { 0 };

	text_add_description(&rest, line->rest.bytes, line->rest.len);
	if (line->skipped)
		text_add_escaped(&reason, line->reason.bytes, line->reason.len);
	report_result(run->report, &(struct result){
		.number = run->next + 1,
		.info = run->cases->items[run->next],
		.ok = line->ok,
		.description = rest.data,
		.skipped = line->skipped ? text_string(&reason) : NULL,
		.differs = &b->differs,
	});
	ways_clear(&b->differs);
	text_free(&rest);
	text_free(&reason);
}

static void take_result(struct boot *b, const struct line *line)
{
	struct run *run = b->run;

	if (!is_expected(b, line))
		return;
	b->may_begin_yaml = true;
	if (b->fault.len) {
		b->verdict_of_faulty = true;
		text_printf(&b->fault, "; the case itself then said \"%s\"",
			    line->skipped ? "skip" : line->ok ? "ok" : "not ok");
		fault_within(b, VERDICT_MS);
		return;
	}
	if (run->next + 1 == run->cases->count)
		report_hold(run->report);
	report_line(b, line);
	run->next++;
	b->any_result = true;
	b->since_result = 0;
	b->comments = 0;
	b->boot_again = false;
}

/* Every boot prints the same comments at its beginning; only the first time they are news. */
static bool is_old_news(struct boot *b, const char *bytes, size_t len)
{
	struct text *header = &b->run->header;
	struct text line = { 0 };
	bool old;

	if (b->any_result)
		return false;
	text_printf(&line, "\n");
	text_add_escaped(&line, bytes, len);
	text_printf(&line, "\n");
	old = b->run->boots > 1 && strstr(text_string(header), line.data);
	if (!old && header->len < HEADER_MAX_BYTES)
		text_add(header, line.data, line.len);
	text_free(&line);
	return old;
}

static void take_comment(struct boot *b, const char *bytes, size_t len)
{
	static const char more[] = "# more comments of this case are in the log";

	ways_take(&b->differs, bytes, len);
	b->boot_again |= b->any_result && line_asks_for_boot(bytes, len);
	if (b->comments > COMMENTS_MAX || is_old_news(b, bytes, len))
		return;
	if (b->comments++ < COMMENTS_MAX)
		report_comment(b->run->report, bytes, len);
	else
		report_comment(b->run->report, more, sizeof(more) - 1);
}

static void take_line(struct boot *b, const char *bytes, size_t len)
{
	struct line line = line_parse(bytes, len);
	bool yaml_here = b->may_begin_yaml;

	b->may_begin_yaml = false;
	if (b->verdict_of_faulty && line.kind != LINE_YAML_BEGIN) {
		boot_stop(b, BOOT_FAULTY);
		return;
	}
	switch (line.kind) {
	case LINE_VERSION:
		take_version(b);
		break;
	case LINE_PLAN:
		take_plan(b, &line);
		break;
	case LINE_RESULT:
		take_result(b, &line);
		break;
	case LINE_COMMENT:
		take_comment(b, bytes, len);
		break;
	case LINE_BAIL_OUT:
		text_add(&b->bailed, line.reason.bytes, line.reason.len);
		boot_stop(b, BOOT_BAILED);
		break;
	case LINE_YAML_BEGIN:
		b->in_yaml = yaml_here;
		b->keep_yaml = !b->verdict_of_faulty;
		if (!yaml_here)
			garbage(b, bytes, len);
		break;
	case LINE_GARBAGE:
		garbage(b, bytes, len);
		break;
	}
}

static void end_yaml(struct boot *b)
{
	if (b->in_yaml && b->keep_yaml)
		report_yaml(b->run->report, &b->yaml);
	b->in_yaml = false;
	text_clear(&b->yaml);
	if (b->verdict_of_faulty)
		boot_stop(b, BOOT_FAULTY);
}

/* One whole line; all but a too long one end with their newline cut off. */
static void end_line(struct boot *b)
{
	const char *bytes = text_string(&b->partial);
	size_t len = b->partial.len;

	while (len && bytes[len - 1] == '\r')
		len--;
	if (b->stopped) {
		/* Only the log and the last console lines hear of it. */
	} else if (b->in_yaml && line_is_yaml_end(bytes, len)) {
		end_yaml(b);
	} else if (b->in_yaml && line_is_yaml(bytes, len)) {
		if (b->yaml.len < YAML_MAX_BYTES) {
			text_add(&b->yaml, bytes, len);
			text_add(&b->yaml, "\n", 1);
		}
	} else {
		end_yaml(b);
		if (b->too_long)
			garbage(b, bytes, len);
		else if (!b->stopped)
			take_line(b, bytes, len);
	}
	text_clear(&b->partial);
	b->too_long = false;
}

void lines_feed(struct boot *b, const char *bytes, size_t len)
{
	while (len) {
		const char *newline = memchr(bytes, '\n', len);
		size_t part = newline ? (size_t)(newline - bytes) : len;
		size_t used = newline ? part + 1 : part;
		size_t room = LINE_MAX_BYTES - b->partial.len;

		text_add(&b->partial, bytes, part < room ? part : room);
		b->too_long |= part > room;
		b->since_result += used;
		if (newline)
			end_line(b);
		bytes += used;
		len -= used;
	}
	if (!b->stopped && b->since_result > FLOOD_BYTES)
		fatal(b, "the console was flooded: more than 1 MiB without a result");
}

void lines_end(struct boot *b)
{
	const struct line line = line_parse(text_string(&b->partial), b->partial.len);

	if (b->partial.len && line.kind == LINE_BAIL_OUT)
		end_line(b);
	else if (b->partial.len && !b->stopped && !b->in_yaml)
		/* Even when it looks like a result: a SKIP may be missing. */
		garbage(b, b->partial.data, b->partial.len);
	end_yaml(b);
}
