/* Making the YAML blocks of an image safe for any TAP parser. */
#ifndef SUPERVISE_YAML_H
#define SUPERVISE_YAML_H

#include "text.h"

/*
 * Appends to out a whole block, from "  ---" to "  ...", with the content of the lines that an
 * image printed between its own. Content that is key: value, nested or with literals, stays so,
 * with quotes where they are needed; anything else becomes one literal. prove reads less of
 * YAML than the standard has, and gives up on what it cannot read. Nothing is appended for no
 * lines.
 */
void yaml_block(struct text *out, const struct text *lines);

#endif
