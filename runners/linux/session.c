/*
 * session: keeps machines with a booted kernel, so that many images share one boot.
 *
 *	session serve SOCKET COUNT START   waits for `run` on the Unix socket SOCKET, with at most
 *	                                   COUNT machines; ends with whoever started it
 *	session run SOCKET ELF DTB         one image on one of them; its console is standard output
 *	session once START ELF DTB         the same on a machine of its own
 *
 * START FOLDER boots a machine in that folder: it becomes Bochs, whose standard output has the
 * lines of runners/linux/wire.h, whose disk is FOLDER/mailbox, and whose kernel writes to
 * FOLDER/serial.
 *
 * A machine serves one image after another, stopped (SIGSTOP) while it has none. It is ended, and
 * the next image gets a new one, when it dies, when its kernel reports a bug, and when whoever
 * waits for the image goes away: supervise does that when an image hangs. A kernel's report of a
 * bug goes to the console without the "# " of its other messages: for supervise such a line is what
 * the running case has to answer for.
 *
 * Exit status of run and once: 0 switched off, 1 stopped or killed, 2 could not be started.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"
#include "words.h"

enum {
	STATUS_OFF = 0,
	STATUS_STOPPED = 1,
	STATUS_SET_UP = 2,

	MAILBOX_SECTORS = 8 * 16 * 63, /* the disk's geometry in runners/linux/boot */
	BOOT_SECONDS = 600,            /* a kernel that has not booted by then never will */
	NEWS_SECONDS = 5, /* how often a waiting client is told that the kernel boots */
	QUIET_SECONDS = 3, /* after these the serial console is looked at, too */
	FOLDER_BYTES = 400, /* a line of Bochs's configuration has at most 511 bytes, with a path */
};

struct machine {
	const char *start; /* the command */
	char folder[FOLDER_BYTES];
	pid_t process; /* 0: none; it leads a process group */
	int output;
	uint32_t number; /* of the last request */
	long serial;     /* how much its kernel had said before that */
	bool bug;        /* its kernel has reported one */
	char line[LINE_MAX_BYTES];
	size_t line_size;
};

/* A signal wants the end of this process. */
static volatile sig_atomic_t wanted_end;

enum event { EVENT_LINE, EVENT_DEAD, EVENT_TIME, EVENT_GONE };

static _Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("linux: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(STATUS_SET_UP);
}

/* --- one machine ------------------------------------------------------------------------ */

static void file_in(char *path, const struct machine *m, const char *name)
{
	snprintf(path, PATH_BYTES, "%s/%s", m->folder, name);
}

static void machine_end(struct machine *m)
{
	static const char *const names[] = {
		"mailbox", "mailbox.lock", "serial", "rc", "rom", "image", "image.lock", "log",
		"stderr", "debugger", "vgarom",
	};
	char path[PATH_BYTES];

	if (m->process) {
		kill(-m->process, SIGKILL);
		waitpid(m->process, NULL, 0);
		close(m->output);
	}
	m->process = 0;
	if (!m->folder[0])
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		file_in(path, m, names[i]);
		unlink(path);
	}
	rmdir(m->folder);
	m->folder[0] = 0;
}

/* Starts Bochs; returns false, with words to the client, when that is impossible. */
static bool machine_start(struct machine *m, struct client *client)
{
	const char *tmp = getenv("TMPDIR");
	const pid_t self = getpid();
	char path[PATH_BYTES];
	int output[2], mailbox;

	m->number = 0;
	m->bug = false;
	m->line_size = 0;
	if (snprintf(m->folder, sizeof(m->folder), "%s/exitpath-linux.XXXXXX",
		     tmp && *tmp ? tmp : "/tmp") >= (int)sizeof(m->folder)) {
		m->folder[0] = 0;
		tell_why(client, "TMPDIR has %zu characters: Bochs takes no file in there, give it "
				 "a shorter one",
			 strlen(tmp));
		return false;
	}
	if (!mkdtemp(m->folder)) {
		tell_why(client, "no temporary folder: %s", strerror(errno));
		return false;
	}
	file_in(path, m, "mailbox");
	mailbox = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (mailbox < 0 || ftruncate(mailbox, MAILBOX_SECTORS * (off_t)SECTOR_SIZE) ||
	    pipe2(output, O_CLOEXEC)) {
		tell_why(client, "cannot make %s: %s", path, strerror(errno));
		return false;
	}
	close(mailbox);
	m->process = fork();
	if (m->process == 0) {
		setsid();
		prctl(PR_SET_PDEATHSIG, (long)SIGKILL);
		if (getppid() != self)
			_exit(STATUS_SET_UP);
		dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
		dup2(output[1], STDOUT_FILENO);
		file_in(path, m, "stderr");
		dup2(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
		execl(m->start, m->start, "--machine", m->folder, (char *)NULL);
		_exit(127);
	}
	close(output[1]);
	m->output = output[0];
	return m->process > 0;
}

/*
 * Waits for the next line with a frame, at most `seconds`; its letter is in *frame, what follows is
 * in m->line. Lines without a frame are Bochs's own.
 */
static enum event machine_line(struct machine *m, const struct client *client, int seconds,
			       char *frame)
{
	static char pending[LINE_MAX_BYTES];
	static size_t at, size;
	static pid_t of;

	if (of != m->process)
		at = size = 0;
	of = m->process;
	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = m->output, .events = POLLIN },
			{ .fd = client->socket ? client->file : -1, .events = POLLRDHUP },
		};
		ssize_t count;

		while (at < size) {
			const char byte = pending[at++];

			if (byte != '\n') {
				if (m->line_size < sizeof(m->line) - 1)
					m->line[m->line_size++] = byte;
				continue;
			}
			m->line[m->line_size] = 0;
			m->line_size = 0;
			if (m->line[0] != FRAME_BEGIN || !m->line[1])
				continue;
			*frame = m->line[1];
			memmove(m->line, m->line + 2, strlen(m->line + 2) + 1);
			return EVENT_LINE;
		}
		count = poll(fds, 2, seconds * 1000);
		if (wanted_end)
			return EVENT_GONE;
		if (count == 0)
			return EVENT_TIME;
		if (count < 0)
			continue;
		if (fds[1].revents)
			return EVENT_GONE;
		count = read(m->output, pending, sizeof(pending));
		if (count <= 0)
			return EVENT_DEAD;
		at = 0;
		size = (size_t)count;
	}
}

/* --- booting --------------------------------------------------------------------------- */

/* Waits until the machine takes requests. Returns false, with words to the client, when it does
 * not. */
static bool machine_boot(struct machine *m, struct client *client)
{
	const time_t began = time(NULL);
	char frame;

	if (!machine_start(m, client))
		return false;
	for (;;) {
		switch (machine_line(m, client, NEWS_SECONDS, &frame)) {
		case EVENT_GONE:
			client->gone = true;
			return false;
		case EVENT_DEAD:
			tell_why(client, "the machine ended before its kernel had booted");
			tell_last_words(m->folder, client);
			return false;
		case EVENT_TIME:
			/* Not every Bochs ends with its kernel. */
			if (kernel_panicked(m->folder)) {
				tell_why(client, "the kernel panics before it has booted");
				tell_last_words(m->folder, client);
				return false;
			}
			if (time(NULL) - began > BOOT_SECONDS) {
				tell_why(client,
				     "the kernel does not boot: nothing for %u s",
				     BOOT_SECONDS);
				tell_last_words(m->folder, client);
				return false;
			}
			tell(client, "# linux: the kernel boots\n");
			break;
		case EVENT_LINE:
			if (frame == FRAME_FAILED) {
				tell_why(client, "%s", m->line);
				tell_last_words(m->folder, client);
				return false;
			}
			if (frame == FRAME_READY)
				return true;
			break;
		}
	}
}

/* --- one image --------------------------------------------------------------------------- */

/* Copies the file `path` to sector `sector` of the disk; returns its size, or 0 with words to the
 * client. */
static uint32_t mail(int mailbox, uint32_t sector, const char *path, struct client *client)
{
	static char bytes[1 << 20];
	const int file = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t size = file < 0 ? -1 : read(file, bytes, sizeof(bytes));

	if (file >= 0)
		close(file);
	if (size <= 0 || size == sizeof(bytes)) {
		tell_why(client, "cannot use %s: %s", path,
		     size < 0 ? strerror(errno)
		     : size   ? "larger than 1 MiB"
			      : "empty");
		return 0;
	}
	return pwrite(mailbox, bytes, (size_t)size, sector * (off_t)SECTOR_SIZE) == size
		       ? (uint32_t)size
		       : 0;
}

static bool send_request(struct machine *m, struct client *client, const char *elf,
			 const char *tree)
{
	struct request request = { .magic = REQUEST_MAGIC, .number = m->number + 1 };
	char path[PATH_BYTES];
	int mailbox;
	bool good;

	file_in(path, m, "mailbox");
	mailbox = open(path, O_WRONLY | O_CLOEXEC);
	request.image_size = mail(mailbox, 1, elf, client);
	request.tree_size = mail(mailbox, 1 + (request.image_size + SECTOR_SIZE - 1) / SECTOR_SIZE,
				 tree, client);
	m->serial = serial_size(m->folder);
	good = request.image_size && request.tree_size &&
	       pwrite(mailbox, &request, sizeof(request), 0) == sizeof(request);
	close(mailbox);
	if (good)
		m->number = request.number;
	return good;
}

/* How Bochs has ended: the last line, which no noise of the boot pushes away. */
static void tell_end(struct machine *m, struct client *client)
{
	int status = 0;

	/* Its output is closed: it is about to end, or to be ended with the rest of its group. */
	for (int i = 0; i < 20 && waitpid(m->process, &status, WNOHANG) == 0; i++)
		poll(NULL, 0, 50);
	if (WIFSIGNALED(status))
		tell(client,
		     "# linux: Bochs has ended, killed by signal %d, and the kernel with it\n",
		     WTERMSIG(status));
	else
		tell(client, "# linux: Bochs has ended, and the kernel with it\n");
}

/* A VMM that cannot start has said why in its last line: its standard error is the console. */
static int vmm_status(int status, const char *last_words, struct client *client)
{
	if (status == STATUS_SET_UP)
		tell_why(client, "%s", *last_words ? last_words : "the VMM cannot start");
	return status;
}

/* Passes on what the machine says until the image is over; returns the VMM's exit status. */
static int follow(struct machine *m, struct client *client)
{
	char last_words[sizeof(client->why)] = "";
	char frame;

	for (;;) {
		switch (machine_line(m, client, QUIET_SECONDS, &frame)) {
		case EVENT_TIME:
			if (!m->bug)
				m->bug = tell_hidden_bug(m->folder, m->serial, client);
			continue;
		case EVENT_GONE:
			client->gone = true;
			return STATUS_STOPPED;
		case EVENT_DEAD:
			if (!m->bug)
				m->bug = tell_hidden_bug(m->folder, m->serial, client);
			tell_last_words(m->folder, client);
			tell_end(m, client);
			return STATUS_STOPPED;
		case EVENT_LINE:
			break;
		}
		switch (frame) {
		case FRAME_LINE:
		case FRAME_PART:
			tell_console(client, m->line, frame == FRAME_LINE);
			if (strncmp(m->line, "vmm: ", 5) == 0)
				snprintf(last_words, sizeof(last_words), "%.*s",
					 (int)sizeof(last_words) - 1, m->line + 5);
			break;
		case FRAME_KERNEL:
			m->bug |= is_bug(m->line);
			if (m->bug)
				tell(client, "kernel: %s\n", m->line);
			else
				tell_later(client, "# kernel: %s\n", m->line);
			break;
		case FRAME_END:
			tell_held(client);
			return vmm_status(atoi(m->line), last_words, client);
		case FRAME_FAILED:
			tell(client, "# linux: %s\n", m->line);
			return STATUS_STOPPED;
		}
		if (client->gone)
			return STATUS_STOPPED;
	}
}

/* Runs an image on `m`, which is booted first when it is not there. */
static int serve_image(struct machine *m, struct client *client, const char *elf, const char *tree)
{
	int status = STATUS_SET_UP;
	bool booted = m->process > 0;

	if (booted && waitpid(m->process, NULL, WNOHANG) != 0) {
		close(m->output);
		m->process = 0;
		machine_end(m);
		booted = false;
	}
	if (!booted)
		booted = machine_boot(m, client);
	if (booted && send_request(m, client, elf, tree)) {
		kill(-m->process, SIGCONT);
		status = follow(m, client);
		if (!client->gone && !m->bug &&
		    status >= STATUS_OFF && status <= STATUS_SET_UP &&
		    waitpid(m->process, NULL, WNOHANG) == 0) {
			kill(-m->process, SIGSTOP);
			return status;
		}
	}
	machine_end(m);
	return status;
}

/* --- many images ------------------------------------------------------------------------- */

static void want_end(int number)
{
	wanted_end = number;
}

/*
 * The end of a request: a status behind a zero byte, which
 * no console has at its end; then why it cannot be run.
 */
static void answer(struct client *client, int status)
{
	const char end[2] = { 0, (char)status };

	tell_bytes(client, end, sizeof(end));
	tell_bytes(client, client->why, strlen(client->why));
}

/* One of the server's processes: one machine, one client at a time. */
static _Noreturn void work(int socket, const char *start, pid_t server)
{
	struct machine m = { .start = start };
	const struct sigaction action = { .sa_handler = want_end };

	prctl(PR_SET_PDEATHSIG, (long)SIGTERM);
	sigaction(SIGTERM, &action, NULL);
	while (!wanted_end && getppid() == server) {
		struct pollfd coming = { .fd = socket, .events = POLLIN };
		struct client client = { .socket = true };
		char request[2 * PATH_BYTES];
		ssize_t size;

		/* In turns: a signal that comes between the test and the wait is seen, too. */
		if (poll(&coming, 1, 1000) <= 0)
			continue;
		client.file = accept(socket, NULL, NULL);
		if (client.file < 0)
			continue;
		fcntl(client.file, F_SETFD, FD_CLOEXEC);
		size = recv(client.file, request, sizeof(request) - 1, 0);
		if (size > 0) {
			request[size] = 0;
			answer(&client,
			       serve_image(&m, &client, request, request + strlen(request) + 1));
		}
		close(client.file);
	}
	machine_end(&m);
	exit(0);
}

/* The address of the socket `path`. If that is longer than an address, its folder is kept open. */
static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = strrchr(path, '/');
	char folder[PATH_BYTES];
	int file;

	if (strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
		return address;
	}
	if (name)
		snprintf(folder, sizeof(folder), "%.*s", (int)(name - path), path);
	file = name ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (file < 0 || snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d%s",
				 file, name) >= (int)sizeof(address.sun_path))
		die("%s is too long for the name of a socket", path);
	return address;
}

static int serve(const char *path, const char *count, const char *start)
{
	const struct sockaddr_un address = address_of(path);
	const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct sigaction action = { .sa_handler = want_end };
	int workers = atoi(count);

	if (workers < 1)
		die("COUNT is a number from 1 on, not %s", count);
	if (file < 0 || bind(file, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(file, 64))
		die("cannot make the socket %s: %s", path, strerror(errno));
	prctl(PR_SET_PDEATHSIG, (long)SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigaction(SIGTERM, &action, NULL);
	for (int i = 0; i < workers; i++) {
		const pid_t server = getpid();

		if (fork() == 0)
			work(file, start, server);
	}
	while (!wanted_end && (wait(NULL) > 0 || errno == EINTR))
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	unlink(path);
	return 0;
}

/* supervise quotes the last line of standard error when a machine could not be started. */
static void say_why(const char *why)
{
	if (*why)
		fprintf(stderr, "linux: %s\n", why);
}

static int run(const char *path, const char *elf, const char *tree)
{
	const struct sockaddr_un address = address_of(path);
	const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char request[2 * PATH_BYTES], bytes[4096];
	const int size = snprintf(request, sizeof(request), "%s%c%s", elf, 0, tree);
	struct client out = { .file = STDOUT_FILENO };
	int status = STATUS_STOPPED;
	bool ended = false;
	char why[1 + sizeof(out.why)] = ""; /* the status, and the reason */
	size_t got = 0;
	ssize_t count;

	if (file < 0 || connect(file, (const struct sockaddr *)&address, sizeof(address)) ||
	    send(file, request, (size_t)size + 1, MSG_NOSIGNAL) != size + 1)
		die("nobody serves %s: %s", path, strerror(errno));
	while ((count = recv(file, bytes, sizeof(bytes), 0)) > 0) {
		char *end = ended ? bytes : memchr(bytes, 0, (size_t)count);

		tell_bytes(&out, bytes, end ? (size_t)(end - bytes) : (size_t)count);
		if (end && !ended)
			end++;
		ended |= end != NULL;
		for (; end && end < bytes + count && got < sizeof(why) - 1; end++)
			why[got++] = *end;
	}
	if (got)
		status = why[0];
	say_why(why + 1);
	return status;
}

static int once(const char *start, const char *elf, const char *tree)
{
	struct machine m = { .start = start };
	struct client out = { .file = STDOUT_FILENO };
	const int status = serve_image(&m, &out, elf, tree);

	say_why(out.why);
	machine_end(&m);
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2], argv[3], argv[4]);
	if (argc == 5 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], argv[4]);
	if (argc == 5 && strcmp(argv[1], "once") == 0)
		return once(argv[2], argv[3], argv[4]);
	die("usage: session serve SOCKET COUNT START | session run SOCKET ELF DTB | session once "
	    "START ELF DTB");
}
