/*
 * How much CPU time the guest itself took: what its threads spent inside KVM_RUN. The rest of
 * the process's CPU time is what the VMM costs. The kernel's own count of guest time does not
 * do: it has nothing in it of a guest that KVM interprets instead of running.
 */
#include "guest_time.h"

#include <stdio.h>
#include <time.h>

/* The calling thread's CPU time; 0 when nobody wants to know. */
uint64_t guest_time_now(const struct guest_time *time)
{
	struct timespec now;

	if (!time->file)
		return 0;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Adds the calling thread's CPU time since `since`, a value of guest_time_now(). */
void guest_time_add(struct guest_time *time, uint64_t since)
{
	if (time->file)
		time->nanoseconds += guest_time_now(time) - since;
}

/* Writes it as seconds to the file, if one is wanted. Returns 0, or -1 with errno set. */
int guest_time_write(const struct guest_time *time)
{
	const uint64_t microseconds = time->nanoseconds / 1000;
	FILE *file;
	int result;

	if (!time->file)
		return 0;
	file = fopen(time->file, "w");
	if (!file)
		return -1;
	result = fprintf(file, "%u.%06u\n", (unsigned int)(microseconds / 1000000),
			 (unsigned int)(microseconds % 1000000));
	return fclose(file) || result < 0 ? -1 : 0;
}
