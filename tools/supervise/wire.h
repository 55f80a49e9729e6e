/* The wire format, TAP 13 as the images print it (docs/design.md), line by line. */
#ifndef SUPERVISE_WIRE_H
#define SUPERVISE_WIRE_H

#include "text.h"

enum line_kind {
	LINE_VERSION,
	LINE_PLAN,
	LINE_RESULT,
	LINE_YAML_BEGIN,
	LINE_COMMENT,
	LINE_BAIL_OUT,
	LINE_GARBAGE,
};

/* A part of a line; not ended by NUL. */
struct slice {
	const char *bytes;
	size_t len;
};

struct line {
	enum line_kind kind;
	size_t number; /* of a plan: N; of a result: its number */
	bool ok;
	bool skipped;
	struct slice name;
	struct slice rest;   /* of a result: what follows the name, up to a SKIP directive */
	struct slice reason; /* of a skipped result or a Bail out! */
};

/* What a line, without its newline, is outside of a YAML block. The slices point into it. */
struct line line_parse(const char *bytes, size_t len);

/* Whether a comment says that the next case needs a machine that was booted for it. */
bool line_asks_for_boot(const char *bytes, size_t len);

/* Whether a comment names a way in which the running case differs from the SDM: which one. */
bool line_differs(const char *bytes, size_t len, struct slice *way);

/* Whether a line ends a YAML block, or can stand inside of one. */
bool line_is_yaml_end(const char *bytes, size_t len);
bool line_is_yaml(const char *bytes, size_t len);

#endif
