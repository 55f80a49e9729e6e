/*
 * A run: one image, booted as often as it takes to have a result for each of its cases.
 */
#ifndef SUPERVISE_RUN_H
#define SUPERVISE_RUN_H

#include "cases.h"
#include "report.h"

/* What the command line asks for. */
struct run_options {
	const char *image;
	const char *elf;
	char *const *command; /* ended by NULL */
	uint64_t seed;
	const char *without; /* what the processors shall lack, for the machine; NULL: nothing */
	bool audit_all; /* the images are to audit every VM entry in full */
	uint32_t count; /* of what an image repeats; 0: its own number */
	int64_t silence_ms;
	int64_t limit_ms;
	int log;     /* -1: none */
	int signals; /* signalfd: the signals that end the run */
};

/* The state of a run; shared by run.c and boot.c. */
struct run {
	const struct run_options *options;
	const struct selection *cases;
	const struct text *tree;
	struct report *report;
	size_t next;	       /* index of the case that is running: the first without a result */
	unsigned int boots;    /* how many were started */
	unsigned int failed;   /* how many of the last boots in a row printed no plan */
	bool planned;	       /* some boot printed its plan */
	bool log_lost;	       /* the log cannot be written any more */
	int64_t limit_at;      /* when the time of the image is over */
	int signal;	       /* the signal that ended the run, or 0 */
	struct text header;    /* comments that boots print before their first result */
	struct text last_said; /* what was last passed on of standard error */
};

/*
 * Runs all of run->cases, and reports each of them exactly once. Returns the exit status of
 * supervise. run->signal tells when a signal ended the run.
 */
int run_all(struct run *run);

#endif
