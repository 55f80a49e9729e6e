/* TAP 13, as docs/design.md, "The wire format", has it. */
#ifndef LIB_TAP_H
#define LIB_TAP_H

#include "platform.h"
#include "types.h"

struct tap_result {
	u32 number;
	bool ok;
	const char *name;
	const char *section;	/* number and title, or NULL */
	const char *skip;	/* what is needed, or NULL */
	const char *yaml;	/* indented lines, or NULL */
};

void tap_plan(const struct platform *platform, u32 count);
void tap_result(const struct platform *platform, const struct tap_result *result);
void tap_line(const struct platform *platform, const char *before, const char *text);

#endif
