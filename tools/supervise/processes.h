/*
 * Ending whole process trees.
 *
 * A machine is often several processes deep, and some of them make sessions of their own
 * (script does), so that no process group holds them all. The process that ends a tree must be a
 * "subreaper" (prctl): whatever of its descendants loses its parent becomes its own child, so
 * nothing can leave the tree.
 */
#ifndef SUPERVISE_PROCESSES_H
#define SUPERVISE_PROCESSES_H

#include "base.h"

#include <sys/types.h>

/* Milliseconds of a clock that never jumps. */
int64_t now_ms(void);

/* Sends a signal to every descendant of this process that /proc shows. */
void descendants_signal(int signal);

/*
 * Waits until this process has no children left, at most patience_ms. While it waits, it sends
 * signal to all descendants again and again, unless signal is 0. When watched ends meanwhile, its
 * wait status goes to *watched_status. Returns whether no child is left.
 */
bool descendants_end(int signal, int64_t patience_ms, pid_t watched, int *watched_status);

#endif
