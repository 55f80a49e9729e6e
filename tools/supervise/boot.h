/* One boot of a run: reads the console of one machine until it is over or has to be stopped. */
#ifndef SUPERVISE_BOOT_H
#define SUPERVISE_BOOT_H

#include "machine.h"
#include "run.h"
#include "ways.h"

/* Why a boot is over. */
enum boot_end {
	BOOT_ENDED,	  /* the machine ended by itself; also: it still runs */
	BOOT_FAULTY,	  /* stopped: the running case did what fault says */
	BOOT_SILENT,	  /* stopped: nothing on the console for too long */
	BOOT_LIMIT,	  /* stopped: the time of the image is over */
	BOOT_BAILED,	  /* stopped: the image printed Bail out! */
	BOOT_INTERRUPTED, /* stopped: supervise was told to end */
	BOOT_IMPOSSIBLE,  /* supervise could not even try */
};

struct boot {
	struct run *run;
	struct machine machine;
	enum boot_end end;
	bool stopped;
	bool version;
	bool plan;
	bool any_result;
	bool boot_again;     /* the image wants a fresh machine for the next case */
	int status;	     /* wait status of the boot command */
	struct text fault;   /* what the running case did wrong, in words */
	struct text garbage; /* the first lines of it */
	unsigned int garbage_lines; /* of the running case */
	struct text bailed;  /* the reason of Bail out!, or of BOOT_IMPOSSIBLE */
	struct text console; /* the last of the console */
	struct text errors;  /* the last of standard error */

	/* The line and the YAML block that are being read. */
	struct text partial;
	bool too_long;
	bool may_begin_yaml;
	bool in_yaml;
	bool keep_yaml;
	struct text yaml;

	size_t since_result;   /* bytes on the console */
	unsigned int comments; /* since the last result */
	struct ways differs;   /* the ways in which the running case says it differs */
	int64_t silent_at;     /* when the machine counts as silent */
	int64_t fault_at;      /* when a faulty boot is stopped; 0: not yet faulty */
	int64_t give_up_at;    /* when a stopped machine must be gone */
	bool verdict_of_faulty; /* the faulty case has printed a result of its own */
};

/*
 * Boots once, from run->next on. Reports the results that come, and counts run->next up. The
 * result of the very last case is held back in run->report, because that case runs until
 * the machine is off. boot_free releases b.
 */
void boot_once(struct boot *b, struct run *run);
void boot_free(struct boot *b);

#endif
