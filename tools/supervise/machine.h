/*
 * One boot of a machine: the boot command and all that it starts, its console, and the promise
 * that nothing of it outlives the boot.
 *
 * Between supervise and the boot command stands a small process, the keeper. It ends the whole
 * tree when supervise asks for it, when the boot command is over, and also when supervise is
 * gone, even by SIGKILL. If it is the keeper that is killed, supervise ends the tree itself.
 */
#ifndef SUPERVISE_MACHINE_H
#define SUPERVISE_MACHINE_H

#include "text.h"

#include <sys/types.h>

struct machine {
	pid_t keeper;
	int console; /* what the machine writes; non-blocking; -1 after its end */
	int errors;  /* what the boot command writes to standard error; the same */
	int status;  /* becomes readable when the boot is over */
	int control; /* while this is open, the machine may run */
	char *folder;
};

/* To be called once, before the first machine is started. */
void machine_prepare(void);

/*
 * Starts command (ended by NULL) with two more arguments: elf, and a file that holds tree.
 * TMPDIR of the command is a folder that machine_finish removes. Returns false with a message
 * in error when not even the keeper could be started; a command that cannot be executed is a
 * boot that ends with exit status 2 and says so on its standard error.
 */
bool machine_start(struct machine *m, char *const *command, const char *elf,
		   const struct text *tree, struct text *error);

/* Asks the keeper to end the machine: SIGTERM, soon afterwards SIGKILL. Does not wait. */
void machine_stop(struct machine *m);

/*
 * When status is readable, or when the keeper was given its time in vain: waits for the end of
 * everything. Returns the wait status of the boot command. Console and errors can be read
 * until machine_finish.
 */
int machine_wait(struct machine *m);

/* Closes and removes all that is left. */
void machine_finish(struct machine *m);

/* Appends a wait status in words: "exit status 1", "killed by SIGKILL (signal 9)". */
void wait_status_words(struct text *t, int status);

#endif
