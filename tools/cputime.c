/*
 * cputime RUNS COMMAND [ARGUMENT...]
 *
 * Runs COMMAND so many times, one after another, without input, its output thrown away, and
 * prints one line: median, smallest and largest CPU time (user and system, of the command and
 * everything it started), the median of the guest's share, which is not in those, and the median
 * time on the clock; all in seconds. The guest's share is what the command writes to the file that
 * EXITPATH_GUEST_TIME names, as our VMM does; 0 when it writes none.
 *
 * Exit status: 0; 1 when the command cannot be run or ends with status 2, which is how a platform's
 * boot says that it cannot start the machine; 2 for a wrong command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS_MAX = 1000 };

struct sample {
	double cpu;	/* without the guest's share */
	double guest;
	double clock;
};

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* CPU time of all children that have been waited for. */
static double children_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/* Never returns: becomes the command. 126 and 127 mean what they mean in a shell. */
static void become(char **command)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(126);
	execvp(command[0], command);
	fprintf(stderr, "cputime: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

/* The number that the command has left in the file; the file is empty again afterwards. */
static double take_guest_time(const char *path)
{
	FILE *file = fopen(path, "r+");
	double guest = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lf", &guest) != 1)
		guest = 0;
	if (ftruncate(fileno(file), 0) != 0)
		perror("cputime: ftruncate");
	fclose(file);
	return guest;
}

/* Runs the command once, to its end and that of all it started. Returns false when it failed. */
static bool measure(char **command, const char *guest_file, struct sample *sample)
{
	double cpu = children_cpu();
	double start = now();
	pid_t pid = fork();
	int status = 0;
	int other;

	if (pid < 0) {
		perror("cputime: fork");
		return false;
	}
	if (pid == 0)
		become(command);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return false;
	}
	sample->clock = now() - start;
	/* What the command left behind is ours now, as we are its subreaper. */
	while (wait(&other) > 0)
		;
	sample->guest = take_guest_time(guest_file);
	sample->cpu = children_cpu() - cpu - sample->guest;
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) >= 126)) {
		fprintf(stderr, "cputime: %s ended with status %d\n", command[0],
			WEXITSTATUS(status));
		return false;
	}
	return true;
}

static int by_cpu(const void *a, const void *b)
{
	double x = ((const struct sample *)a)->cpu;
	double y = ((const struct sample *)b)->cpu;

	return (x > y) - (x < y);
}

static int by_guest(const void *a, const void *b)
{
	double x = ((const struct sample *)a)->guest;
	double y = ((const struct sample *)b)->guest;

	return (x > y) - (x < y);
}

static int by_clock(const void *a, const void *b)
{
	double x = ((const struct sample *)a)->clock;
	double y = ((const struct sample *)b)->clock;

	return (x > y) - (x < y);
}

static bool measure_all(char **command, const char *guest_file, struct sample *samples, long runs)
{
	for (long i = 0; i < runs; i++) {
		if (!measure(command, guest_file, &samples[i]))
			return false;
	}
	return true;
}

static void print(struct sample *samples, long runs)
{
	const struct sample *median = &samples[runs / 2];
	double clock, guest;

	qsort(samples, (size_t)runs, sizeof(samples[0]), by_clock);
	clock = median->clock;
	qsort(samples, (size_t)runs, sizeof(samples[0]), by_guest);
	guest = median->guest;
	qsort(samples, (size_t)runs, sizeof(samples[0]), by_cpu);
	printf("%.4f %.4f %.4f %.4f %.4f\n", median->cpu, samples[0].cpu, samples[runs - 1].cpu,
	       guest, clock);
}

int main(int argc, char **argv)
{
	static struct sample samples[RUNS_MAX];
	char guest_file[40];
	char *end = NULL;
	long runs = argc > 2 ? strtol(argv[1], &end, 10) : 0;
	bool measured;
	int file = memfd_create("cputime", MFD_CLOEXEC);

	if (runs < 1 || runs > RUNS_MAX || *end != '\0') {
		fprintf(stderr, "usage: cputime RUNS COMMAND [ARGUMENT...]; RUNS: 1 to %d\n",
			RUNS_MAX);
		return 2;
	}
	/* A file without a name in any folder: nothing of it can be left behind. */
	snprintf(guest_file, sizeof(guest_file), "/proc/%d/fd/%d", (int)getpid(), file);
	if (file < 0 || setenv("EXITPATH_GUEST_TIME", guest_file, 1) != 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
		perror("cputime");
		return 1;
	}
	measured = measure_all(argv + 2, guest_file, samples, runs);
	if (!measured)
		return 1;
	print(samples, runs);
	return 0;
}
