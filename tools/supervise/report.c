#include "report.h"
#include "files.h"
#include "yaml.h"

#include <stdio.h>
#include <string.h>

static void write_out(struct report *r, const char *text)
{
	if (!r->out_lost && !write_all(r->out, text, strlen(text)))
		r->out_lost = true;
}

static void write_tap(struct report *r, const char *text)
{
	if (r->tap >= 0 && !write_all(r->tap, text, strlen(text))) {
		fputs("supervise: the TAP file could not be written to its end\n", stderr);
		r->tap = -1;
	}
}

static void put(struct report *r, const char *text)
{
	if (r->holding) {
		text_add(&r->held, text, strlen(text));
		return;
	}
	write_out(r, text);
	write_tap(r, text);
}

void report_yaml(struct report *r, const struct text *lines)
{
	struct text t = { 0 }, all = { 0 };

	text_add(&all, text_string(&r->not_listed), r->not_listed.len);
	if (lines)
		text_add(&all, text_string(lines), lines->len);
	yaml_block(&t, &all);
	text_clear(&r->not_listed);
	put(r, text_string(&t));
	text_free(&t);
	text_free(&all);
}

/* The image has printed no block after its result. */
static void end_result(struct report *r)
{
	if (r->not_listed.len)
		report_yaml(r, NULL);
}

void report_text(struct report *r, const char *text)
{
	end_result(r);
	put(r, text);
}

void report_begin(struct report *r, size_t plan)
{
	struct text t = { 0 };

	text_printf(&t, "TAP version 13\n1..%zu\n", plan);
	report_text(r, t.data);
	text_free(&t);
}

void report_comment(struct report *r, const char *bytes, size_t len)
{
	/* Of how to repeat something: the image does not know the platform that it runs on. */
	struct text t = { 0 };

	while (len) {
		const char *newline = memchr(bytes, '\n', len);
		size_t line = newline ? (size_t)(newline - bytes) : len;
		size_t used = newline ? line + 1 : len;

		text_printf(&t, "%s", line && *bytes == '#' ? "" : "# ");
		text_add_escaped(&t, bytes, line && bytes[line - 1] == '\r' ? line - 1 : line);
		if (r->again && line > strlen(ways_says_how) &&
		    !memcmp(bytes, ways_says_how, strlen(ways_says_how)))
			text_printf(&t, " %s", r->again);
		text_add(&t, "\n", 1);
		bytes += used;
		len -= used;
	}
	report_text(r, text_string(&t));
	text_free(&t);
}

static void add_description(struct text *t, const struct result *result)
{
	const struct case_info *info = result->info;

	if (result->description) {
		text_printf(t, "%s", result->description);
	} else if (*info->section) {
		text_printf(t, " [");
		text_add_description(t, info->section, strlen(info->section));
		text_printf(t, " ");
		text_add_description(t, info->title, strlen(info->title));
		text_printf(t, "]");
	}
}

static void add_deviation(struct text *t, const struct deviation *known)
{
	text_printf(t, "SDM ");
	text_add_escaped(t, known->section, strlen(known->section));
	text_printf(t, ": ");
	text_add_escaped(t, known->what, strlen(known->what));
	if (strcmp(known->upstream, "-") != 0) {
		text_printf(t, " (");
		text_add_escaped(t, known->upstream, strlen(known->upstream));
		text_printf(t, ")");
	}
}

/* Several lines of a list may say the same of several globs: adds it once. */
static void add_deviation_once(struct text *todo, const struct deviation *known)
{
	struct text one = { 0 };
	const char *at = text_string(todo);
	size_t len;

	add_deviation(&one, known);
	len = strlen(text_string(&one));
	while ((at = strstr(at, text_string(&one))) && at[len] && at[len] != ';')
		at++;
	if (!at) {
		text_printf(todo, "%s", todo->len ? "; " : "");
		add_deviation(todo, known);
	}
	text_free(&one);
}

/*
 * A case that differs in several ways is excused when each of them is listed. Adds the deviations
 * to todo, each once; to unlisted the names of the ways that none lists, and to items all
 * that is said of them.
 */
static void find_ways(struct report *r, const struct result *result, struct text *todo,
		      struct text *unlisted, struct text *items)
{
	const struct deviation *known;
	const struct way *way;
	size_t i;

	for (i = 0; i < result->differs->count; i++) {
		way = &result->differs->items[i];
		known = deviation_find_way(r->deviations, r->image, result->info->name,
					   way->name.data, way->name.len);
		if (known) {
			add_deviation_once(todo, known);
			continue;
		}
		text_printf(unlisted, " ");
		text_add_escaped(unlisted, way->name.data, way->name.len);
		ways_add_item(items, way, r->again);
	}
}

/* Why a result is no surprise, in words; empty: it is one, or there is nothing to excuse. */
static void find_excuse(struct report *r, const struct result *result, struct text *todo,
			struct text *items)
{
	const struct deviation *known;
	struct text unlisted = { 0 };

	if (result->never_ran || result->skipped)
		return;
	if (!result->ok && result->differs && result->differs->count) {
		find_ways(r, result, todo, &unlisted, items);
		if (unlisted.len) {
			text_clear(todo);
			text_printf(todo, "%s differs in ways that are not listed:%s",
				    result->info->name, unlisted.data);
			report_comment(r, todo->data, todo->len);
			text_clear(todo);
		}
		text_free(&unlisted);
		return;
	}
	/* A case that passes is a surprise for lines of either kind. */
	known = result->crashed ? NULL :
				  deviation_find(r->deviations, r->image, result->info->name);
	if (!known && (result->crashed || result->ok))
		known = deviation_find_crash(r->deviations, r->image, result->info->name);
	if (known)
		add_deviation(todo, known);
}

void report_result(struct report *r, const struct result *result)
{
	struct text t = { 0 }, todo = { 0 }, items = { 0 };

	find_excuse(r, result, &todo, &items);
	if (!result->ok && !todo.len)
		r->unexpected = true;
	text_printf(&t, "%sok %zu - %s", result->ok ? "" : "not ", result->number,
		    result->info->name);
	add_description(&t, result);
	if (result->skipped)
		text_printf(&t, " # SKIP %s", result->skipped);
	else if (todo.len)
		text_printf(&t, " # TODO %s", todo.data);
	text_printf(&t, "\n%s", result->yaml ? result->yaml : "");
	report_text(r, t.data);
	if (items.len)
		text_printf(&r->not_listed, "  not_listed:\n%s", items.data);
	text_free(&t);
	text_free(&todo);
	text_free(&items);
}

void report_bail_out(struct report *r, const char *bytes, size_t len)
{
	struct text t = { 0 };

	end_result(r);
	text_printf(&t, "# Bail out! ");
	text_add_escaped(&t, bytes, len);
	text_add(&t, "\n", 1);
	/* Nothing is held back now, and nothing comes after it. */
	write_out(r, text_string(&t) + (r->go_on ? 0 : 2));
	write_tap(r, text_string(&t) + 2);
	text_free(&t);
}

void report_hold(struct report *r)
{
	end_result(r);
	r->holding = true;
	r->unexpected_before = r->unexpected;
}

void report_release(struct report *r)
{
	end_result(r);
	if (!r->holding)
		return;
	r->holding = false;
	report_text(r, text_string(&r->held));
	text_clear(&r->held);
}

void report_discard(struct report *r)
{
	r->holding = false;
	r->unexpected = r->unexpected_before;
	text_clear(&r->held);
	text_clear(&r->not_listed);
}

void report_end(struct report *r)
{
	end_result(r);
	text_free(&r->not_listed);
	text_free(&r->held);
}
