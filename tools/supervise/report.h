/*
 * The TAP stream that supervise prints: to standard output, and to a file as well. Each line
 * goes out as soon as it is complete. Whatever is printed here was made safe before.
 */
#ifndef SUPERVISE_REPORT_H
#define SUPERVISE_REPORT_H

#include "cases.h"
#include "deviations.h"
#include "ways.h"

struct report {
	int out;
	int tap; /* -1: none */
	const char *image;
	const struct deviation_list *deviations;
	const char *again; /* options that repeat the run, for comments that say how; NULL: none */
	bool go_on;	 /* a bail-out is but a comment on standard output */
	bool out_lost;	 /* nobody reads standard output any more */
	bool unexpected; /* some case was not ok and is not listed */
	bool holding;
	bool unexpected_before;
	struct text held;
	struct text not_listed; /* what the YAML block of the last result begins with */
};

/* How one case ended. */
struct result {
	size_t number;
	const struct case_info *info;
	bool ok;
	bool never_ran;		 /* then no deviation can excuse it */
	bool crashed;		 /* no end of its own: only a line IMAGE:CASE:crash can excuse it */
	const char *description; /* what follows the name, escaped; NULL: as IMAGE.tsv says */
	const char *skipped;	 /* the reason, escaped; NULL: not skipped */
	const char *yaml;	 /* a whole block, or NULL */
	const struct ways *differs; /* the ways in which it differs; NULL: not said */
};

void report_begin(struct report *r, size_t plan);

/* Prints text, one or more whole lines. */
void report_text(struct report *r, const char *text);

/* Prints each line of bytes as a comment. */
void report_comment(struct report *r, const char *bytes, size_t len);

/* Prints a result; a listed deviation becomes TODO. Ways that are not listed come first in
 * the YAML block that follows it, or in one of their own. */
void report_result(struct report *r, const struct result *result);

/* Prints the YAML block of the last result: what is not listed, then the lines that an image
 * printed between its own, or NULL. */
void report_yaml(struct report *r, const struct text *lines);

/* Prints "Bail out!" and the reason: why the suite, not the subject, is broken. */
void report_bail_out(struct report *r, const char *bytes, size_t len);

/* From report_hold on, nothing is printed until report_release; report_discard forgets what was
 * to be printed, and what it meant for the exit status. */
void report_hold(struct report *r);
void report_release(struct report *r);
void report_discard(struct report *r);

/* Releases memory. */
void report_end(struct report *r);

#endif
