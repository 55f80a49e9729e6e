#include "machine.h"
#include "files.h"
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a boot command gets between SIGTERM and SIGKILL. */
#define GRACE_MS 1000
/* How long it may take the kernel to end killed processes, before we give up on them. */
#define KILL_MS 10000

/* A pipe from or to the keeper; [0] is read, [1] written. */
struct pipes {
	int console[2];
	int errors[2];
	int status[2];
	int control[2];
};

void machine_prepare(void)
{
	/* For the case that a keeper is killed. */
	prctl(PR_SET_CHILD_SUBREAPER, 1L);
}

static void close_pair(int pair[2])
{
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
}

static void pipes_close(struct pipes *p)
{
	close_pair(p->console);
	close_pair(p->errors);
	close_pair(p->status);
	close_pair(p->control);
}

static bool pipes_open(struct pipes *p)
{
	*p = (struct pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
	return pipe2(p->console, O_CLOEXEC) == 0 && pipe2(p->errors, O_CLOEXEC) == 0 &&
	       pipe2(p->status, O_CLOEXEC) == 0 && pipe2(p->control, O_CLOEXEC) == 0;
}

/* Gives the boot command the signals of a program started from a shell. */
static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Turns this process into the boot command. */
static _Noreturn void become_boot(const struct pipes *p, char *const *argv, pid_t keeper)
{
	int null = open("/dev/null", O_RDWR);

	setsid();
	prctl(PR_SET_PDEATHSIG, (long)SIGKILL);
	if (getppid() != keeper)
		_exit(EXIT_BROKEN);
	dup2(null, STDIN_FILENO);
	dup2(p->console[1], STDOUT_FILENO);
	dup2(p->errors[1], STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	reset_signals();
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "supervise: cannot execute %s: %s\n", argv[0], strerror(errno));
	_exit(EXIT_BROKEN);
}

/* Waits until the boot command is over, or until supervise wants its end or is gone. Returns
 * true when *status has the wait status of the boot command. */
static bool keeper_wait(const struct pipes *p, int children, pid_t boot, int *status)
{
	struct pollfd fds[] = {
		{ .fd = p->control[0], .events = POLLIN },
		{ .fd = children, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	pid_t ended;
	int one;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return false;
		if (fds[0].revents)
			return false;
		if (read(children, &info, sizeof(info)) < 0 && errno != EAGAIN)
			return false;
		while ((ended = waitpid(-1, &one, WNOHANG)) > 0) {
			if (ended != boot)
				continue;
			*status = one;
			return true;
		}
	}
}

/* Makes this process deaf for everything but the end of its children; returns what tells it. */
static int keeper_signals(void)
{
	sigset_t children;

	sigfillset(&children);
	sigprocmask(SIG_SETMASK, &children, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	return signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The keeper must not hold what whoever started supervise waits for. */
static void keeper_let_go(struct pipes *p)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(p->console[0]);
	close(p->errors[0]);
	close(p->status[0]);
	close(p->control[1]);
}

static _Noreturn void keeper_main(struct pipes *p, char *const *argv, const char *folder)
{
	pid_t self = getpid();
	int children, status = W_EXITCODE(EXIT_BROKEN, 0);
	pid_t boot;

	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1L);
	prctl(PR_SET_NAME, (unsigned long)"supervise-keep");
	keeper_let_go(p);
	children = keeper_signals();
	boot = fork();
	if (boot == 0)
		become_boot(p, argv, self);
	if (boot < 0)
		dprintf(p->errors[1], "supervise: cannot start a process: %s\n", strerror(errno));
	close(p->console[1]);
	if (boot > 0 && !keeper_wait(p, children, boot, &status)) {
		descendants_signal(SIGTERM);
		descendants_end(0, GRACE_MS, boot, &status);
	}
	if (!descendants_end(SIGKILL, KILL_MS, boot, &status))
		dprintf(p->errors[1],
			"supervise: some processes of the machine cannot be killed\n");
	if (!write_all(p->status[1], &status, sizeof(status)))
		folder_remove(folder);
	_exit(0);
}

/* The argument list and the environment of the boot command; what they point to stays shared. */
static char **boot_arguments(char *const *command, const char *elf, const char *tree_path)
{
	size_t count = 0;
	char **argv;

	while (command[count])
		count++;
	argv = must_realloc(NULL, (count + 3) * sizeof(*argv));
	memcpy(argv, command, count * sizeof(*argv));
	argv[count] = (char *)elf;
	argv[count + 1] = (char *)tree_path;
	argv[count + 2] = NULL;
	return argv;
}

static bool fork_keeper(struct machine *m, struct pipes *p, char *const *argv, struct text *error)
{
	if (!pipes_open(p)) {
		text_printf(error, "cannot open a pipe: %s", strerror(errno));
		return false;
	}
	m->keeper = fork();
	if (m->keeper == 0) {
		setenv("TMPDIR", m->folder, 1);
		keeper_main(p, argv, m->folder);
	}
	if (m->keeper < 0)
		text_printf(error, "cannot start a process: %s", strerror(errno));
	return m->keeper > 0;
}

bool machine_start(struct machine *m, char *const *command, const char *elf,
		   const struct text *tree, struct text *error)
{
	struct text path = { 0 };
	struct pipes p = { { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
	char **argv = NULL;
	bool good = false;

	*m = (struct machine){ .keeper = -1, .console = -1, .errors = -1, .status = -1,
			       .control = -1, .folder = temporary_folder_make(error) };
	if (m->folder) {
		text_printf(&path, "%s/machine.dtb", m->folder);
		argv = boot_arguments(command, elf, path.data);
		good = file_write(path.data, tree->data, tree->len, error) &&
		       fork_keeper(m, &p, argv, error);
	}
	free(argv);
	text_free(&path);
	if (!good) {
		pipes_close(&p);
		machine_finish(m);
		return false;
	}
	close(p.console[1]);
	close(p.errors[1]);
	close(p.status[1]);
	close(p.control[0]);
	fcntl(p.console[0], F_SETFL, O_NONBLOCK);
	fcntl(p.errors[0], F_SETFL, O_NONBLOCK);
	m->console = p.console[0];
	m->errors = p.errors[0];
	m->status = p.status[0];
	m->control = p.control[1];
	return true;
}

void machine_stop(struct machine *m)
{
	if (m->control >= 0)
		close(m->control);
	m->control = -1;
}

int machine_wait(struct machine *m)
{
	struct pollfd fd = { .fd = m->status, .events = POLLIN };
	int status, keeper_status = 0;

	machine_stop(m);
	if (poll(&fd, 1, GRACE_MS + 2 * KILL_MS) <= 0)
		kill(m->keeper, SIGKILL);
	if (read(m->status, &status, sizeof(status)) == (ssize_t)sizeof(status)) {
		waitpid(m->keeper, NULL, 0);
		return status;
	}
	/* The keeper was killed; all that it kept is ours now. */
	descendants_end(SIGKILL, KILL_MS, m->keeper, &keeper_status);
	return keeper_status;
}

void machine_finish(struct machine *m)
{
	int *fds[] = { &m->console, &m->errors, &m->status, &m->control };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	if (m->folder)
		folder_remove(m->folder);
	free(m->folder);
	m->folder = NULL;
}

static void signal_words(struct text *t, int signal)
{
	const char *name = sigabbrev_np(signal);

	if (name)
		text_printf(t, "SIG%s (signal %d: %s)", name, signal, sigdescr_np(signal));
	else
		text_printf(t, "signal %d", signal);
}

void wait_status_words(struct text *t, int status)
{
	int code = WEXITSTATUS(status);

	if (WIFSIGNALED(status)) {
		text_printf(t, "killed by ");
		signal_words(t, WTERMSIG(status));
		return;
	}
	text_printf(t, "exit status %d", code);
	if (code == 126)
		text_printf(t, ", of a shell: found, but not executable");
	else if (code == 127)
		text_printf(t, ", of a shell: command not found");
	else if (code > 128 && code < 128 + NSIG) {
		text_printf(t, ", of a shell: killed by ");
		signal_words(t, code - 128);
	}
}
