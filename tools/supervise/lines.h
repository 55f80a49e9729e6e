/* What the lines on the console of a boot mean for the run. */
#ifndef SUPERVISE_LINES_H
#define SUPERVISE_LINES_H

#include "boot.h"

/* Takes bytes of the console, as they come. */
void lines_feed(struct boot *b, const char *bytes, size_t len);

/* The machine is over: takes an unfinished line for what it is, and completes a YAML block. */
void lines_end(struct boot *b);

/* Stops the machine for the reason end; only the first reason counts. */
void boot_stop(struct boot *b, enum boot_end end);

#endif
