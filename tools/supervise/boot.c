#include "boot.h"
#include "files.h"
#include "lines.h"
#include "processes.h"
#include "tree.h"

#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* How much of the console and of standard error is kept for a message. */
#define TAIL_BYTES 8192
/* After this a stopped machine is given up, keeper and all. */
#define GIVE_UP_MS 15000
/* How much of the console is taken before clocks and signals are looked at again. */
#define CHUNK_BYTES 65536
/* How many reads empty a pipe for sure. */
#define DRAIN_MAX 1024

void boot_stop(struct boot *b, enum boot_end end)
{
	if (b->stopped)
		return;
	b->stopped = true;
	b->end = end;
	b->give_up_at = now_ms() + GIVE_UP_MS;
	machine_stop(&b->machine);
}

static void log_write(struct run *run, const char *bytes, size_t len)
{
	static const char lost[] = "supervise: the log could not be written to its end";

	if (run->options->log < 0 || run->log_lost || write_all(run->options->log, bytes, len))
		return;
	run->log_lost = true;
	report_comment(run->report, lost, sizeof(lost) - 1);
}

/* Reads once. Returns false when there is nothing to read now, or ever again. */
static bool read_once(int *fd, char *buffer, size_t *len)
{
	ssize_t got = *fd < 0 ? 0 : read(*fd, buffer, *len);

	if (got <= 0) {
		if (*fd >= 0 && (got == 0 || (errno != EAGAIN && errno != EINTR))) {
			close(*fd);
			*fd = -1;
		}
		return false;
	}
	*len = (size_t)got;
	return true;
}

static bool read_console(struct boot *b)
{
	char buffer[CHUNK_BYTES];
	size_t len = sizeof(buffer);

	if (!read_once(&b->machine.console, buffer, &len))
		return false;
	log_write(b->run, buffer, len);
	text_add_tail(&b->console, buffer, len, TAIL_BYTES);
	b->silent_at = now_ms() + b->run->options->silence_ms;
	lines_feed(b, buffer, len);
	return true;
}

static bool read_errors(struct boot *b)
{
	char buffer[4096];
	size_t len = sizeof(buffer);

	if (!read_once(&b->machine.errors, buffer, &len))
		return false;
	text_add_tail(&b->errors, buffer, len, TAIL_BYTES);
	return true;
}

static void read_signal(struct boot *b)
{
	struct signalfd_siginfo info;

	if (read(b->run->options->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		b->run->signal = (int)info.ssi_signo;
	boot_stop(b, BOOT_INTERRUPTED);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return b < a ? b : a;
}

/* Stops a machine whose time is over. Returns how long to wait for anything else, for poll. */
static int check_clocks(struct boot *b)
{
	int64_t now = now_ms();
	int64_t next = earlier(b->silent_at, b->run->limit_at);

	if (!b->stopped) {
		if (b->fault_at && now >= b->fault_at)
			boot_stop(b, BOOT_FAULTY);
		else if (now >= b->run->limit_at)
			boot_stop(b, BOOT_LIMIT);
		else if (now >= b->silent_at)
			boot_stop(b, BOOT_SILENT);
	}
	if (b->stopped)
		next = b->give_up_at;
	else if (b->fault_at)
		next = earlier(next, b->fault_at);
	next -= now;
	return next < 0 ? 0 : next > 60000 ? 60000 : (int)next;
}

static void watch(struct boot *b)
{
	for (;;) {
		int timeout = check_clocks(b);
		struct pollfd fds[] = {
			{ .fd = b->run->options->signals, .events = POLLIN },
			{ .fd = b->machine.console, .events = POLLIN },
			{ .fd = b->machine.errors, .events = POLLIN },
			{ .fd = b->machine.status, .events = POLLIN },
			/* Says when nobody reads our output any more. */
			{ .fd = b->run->report->out_lost ? -1 : b->run->report->out },
		};

		if (poll(fds, sizeof(fds) / sizeof(*fds), timeout) < 0 && errno != EINTR)
			return;
		if (fds[0].revents)
			read_signal(b);
		if (fds[1].revents)
			read_console(b);
		if (fds[2].revents)
			read_errors(b);
		if (fds[4].revents & (POLLERR | POLLHUP | POLLNVAL))
			b->run->report->out_lost = true;
		if (b->run->report->out_lost)
			boot_stop(b, BOOT_INTERRUPTED);
		if (fds[3].revents || (b->stopped && now_ms() >= b->give_up_at))
			return;
	}
}

static bool start(struct boot *b)
{
	struct run *run = b->run;
	struct text tree = { 0 }, waived = { 0 };
	bool good;

	deviations_waive(&waived, run->report->deviations);
	good = tree_choose(&tree, run->tree, &(struct tree_choice){
		.image = run->options->image,
		.cases = run->cases,
		.first = run->next,
		.seed = run->options->seed,
		.waived = &waived,
		.without = run->options->without,
		.audit_all = run->options->audit_all,
		.count = run->options->count,
	}, &b->bailed) && machine_start(&b->machine, run->options->command, run->options->elf,
					&tree, &b->bailed);

	text_free(&tree);
	text_free(&waived);
	return good;
}

void boot_once(struct boot *b, struct run *run)
{
	*b = (struct boot){ .run = run, .silent_at = now_ms() + run->options->silence_ms };
	run->boots++;
	if (!start(b)) {
		b->end = BOOT_IMPOSSIBLE;
		return;
	}
	watch(b);
	b->status = machine_wait(&b->machine);
	/* All that the pipes can still hold; an end only for the case that a writer lives on. */
	for (int i = 0; i < DRAIN_MAX && read_console(b); i++)
		;
	for (int i = 0; i < DRAIN_MAX && read_errors(b); i++)
		;
	lines_end(b);
	machine_finish(&b->machine);
}

void boot_free(struct boot *b)
{
	text_free(&b->fault);
	text_free(&b->garbage);
	text_free(&b->bailed);
	text_free(&b->console);
	text_free(&b->errors);
	text_free(&b->partial);
	text_free(&b->yaml);
	ways_clear(&b->differs);
}
