#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must_realloc(void *memory, size_t bytes)
{
	memory = realloc(memory, bytes ? bytes : 1);
	if (!memory) {
		fputs("supervise: out of memory\n", stderr);
		exit(EXIT_BROKEN);
	}
	return memory;
}

char *must_strndup(const char *bytes, size_t len)
{
	char *copy = must_realloc(NULL, len + 1);

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

const char *text_string(const struct text *t)
{
	return t->data ? t->data : "";
}

void text_clear(struct text *t)
{
	t->len = 0;
	if (t->data)
		t->data[0] = '\0';
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

static void text_reserve(struct text *t, size_t more)
{
	if (t->len + more + 1 <= t->room)
		return;
	t->room = (t->len + more + 1) * 2;
	t->data = must_realloc(t->data, t->room);
}

void text_add(struct text *t, const char *bytes, size_t len)
{
	text_reserve(t, len);
	memcpy(t->data + t->len, bytes, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void text_printf(struct text *t, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return;
	text_reserve(t, (size_t)len);
	va_start(args, format);
	vsnprintf(t->data + t->len, (size_t)len + 1, format, args);
	va_end(args);
	t->len += (size_t)len;
}

void text_add_tail(struct text *t, const char *bytes, size_t len, size_t max)
{
	text_add(t, bytes, len);
	if (t->len > max) {
		memmove(t->data, t->data + t->len - max, max + 1);
		t->len = max;
	}
}

static bool is_printable(unsigned char c)
{
	return c >= 0x20 && c < 0x7f;
}

static void add_byte(struct text *t, char c)
{
	if (is_printable((unsigned char)c))
		text_add(t, &c, 1);
	else
		text_printf(t, "\\x%02x", (unsigned char)c);
}

void text_add_escaped(struct text *t, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		add_byte(t, bytes[i]);
}

void text_add_description(struct text *t, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '#' || bytes[i] == '\\')
			text_add(t, "\\", 1);
		add_byte(t, bytes[i]);
	}
}

/* Whether YAML, and the smaller YAML of prove, read this as the plain text that it is. */
static bool is_plain_scalar(const char *s)
{
	size_t len = strlen(s);

	if (len == 0 || s[0] == ' ' || s[len - 1] == ' ' || s[len - 1] == ':')
		return false;
	if (strchr("-?:,[]{}#&*!|>'\"%@`~=.", s[0]))
		return false;
	return !strstr(s, ": ") && !strstr(s, " #");
}

void text_add_scalar(struct text *t, const char *bytes, size_t len)
{
	struct text escaped = { 0 };

	text_add_escaped(&escaped, bytes, len);
	if (is_plain_scalar(text_string(&escaped))) {
		text_add(t, escaped.data, escaped.len);
	} else {
		text_add(t, "'", 1);
		for (size_t i = 0; i < escaped.len; i++) {
			if (escaped.data[i] == '\'')
				text_add(t, "'", 1);
			text_add(t, &escaped.data[i], 1);
		}
		text_add(t, "'", 1);
	}
	text_free(&escaped);
}

/* Where the last lines_max lines begin. A newline at the very end starts no line. */
static const char *last_lines(const char *bytes, size_t len, unsigned int lines_max)
{
	const char *p = bytes + len;

	if (len && p[-1] == '\n')
		p--;
	while (p > bytes) {
		if (p[-1] == '\n' && --lines_max == 0)
			break;
		p--;
	}
	return p;
}

void text_add_literal(struct text *t, const char *bytes, size_t len, unsigned int indent,
		      unsigned int lines_max)
{
	const char *end = bytes + len;
	const char *line = last_lines(bytes, len, lines_max);
	bool first = true;

	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *stop = newline ? newline : end;
		const char *next = newline ? newline + 1 : end;

		while (stop > line && stop[-1] == '\r')
			stop--;
		text_printf(t, "%*s", (int)indent, "");
		/* The first line sets the indentation of the literal, so it must begin with
		 * something visible. */
		if (first && (stop == line || *line == ' ')) {
			text_printf(t, "\\x%02x", stop == line ? '\n' : ' ');
			line += stop != line;
		}
		text_add_escaped(t, line, (size_t)(stop - line));
		text_add(t, "\n", 1);
		line = next;
		first = false;
	}
}
