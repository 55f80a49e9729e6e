#include "processes.h"
#include "text.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct process {
	pid_t pid;
	pid_t parent;
	bool ours;
};

struct process_table {
	struct process *items;
	size_t count;
};

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The parent of a process by /proc/PID/stat, or -1. The name in that file may hold anything, so
 * the fields are counted from the last parenthesis. */
static pid_t parent_of(const char *pid)
{
	char path[64], buffer[512];
	char *after;
	ssize_t got;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, buffer, sizeof(buffer) - 1);
	close(fd);
	buffer[got > 0 ? got : 0] = '\0';
	after = strrchr(buffer, ')');
	return after && sscanf(after, ") %*c %d", &parent) == 1 ? parent : -1;
}

static void table_read(struct process_table *table)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	*table = (struct process_table){ 0 };
	while (proc && (entry = readdir(proc))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		table->items =
			must_realloc(table->items, (table->count + 1) * sizeof(*table->items));
		table->items[table->count++] = (struct process){
			.pid = (pid_t)atol(entry->d_name),
			.parent = parent_of(entry->d_name),
		};
	}
	if (proc)
		closedir(proc);
}

static bool is_ours(const struct process_table *table, pid_t pid, pid_t self)
{
	if (pid == self)
		return true;
	for (size_t i = 0; i < table->count; i++)
		if (table->items[i].pid == pid)
			return table->items[i].ours;
	return false;
}

void descendants_signal(int signal)
{
	pid_t self = getpid();
	struct process_table table;
	bool grown = true;

	table_read(&table);
	while (grown) {
		grown = false;
		for (size_t i = 0; i < table.count; i++) {
			struct process *p = &table.items[i];

			if (p->ours || p->pid == self || !is_ours(&table, p->parent, self))
				continue;
			p->ours = true;
			grown = true;
		}
	}
	for (size_t i = 0; i < table.count; i++)
		if (table.items[i].ours)
			kill(table.items[i].pid, signal);
	free(table.items);
}

bool descendants_end(int signal, int64_t patience_ms, pid_t watched, int *watched_status)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	int64_t deadline = now_ms() + patience_ms;
	int status;

	for (;;) {
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended < 0)
			return true;
		if (ended > 0) {
			if (ended == watched)
				*watched_status = status;
			continue;
		}
		if (now_ms() >= deadline)
			return false;
		if (signal)
			descendants_signal(signal);
		nanosleep(&pause, NULL);
	}
}
