/* How much CPU time the guest itself took. */
#ifndef VMM_GUEST_TIME_H
#define VMM_GUEST_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct guest_time {
	const char *file;		/* where it is written; NULL: nobody wants to know */
	_Atomic uint64_t nanoseconds;	/* of all CPUs */
};

uint64_t guest_time_now(const struct guest_time *time);
void guest_time_add(struct guest_time *time, uint64_t since);
int guest_time_write(const struct guest_time *time);

#endif
