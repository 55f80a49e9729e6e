/*
 * The only program that the kernel of the platform linux starts: runs images with the VMM, one
 * after another, as the host asks, and tells the host what they and the kernel say.
 *
 * From the host: a disk on the first ATA channel (struct request in sector 0; the image and then
 * the tree from sector 1 on, each at the start of a sector). A new `number` is a new request. To
 * the host: lines on port E9h, FRAME_BEGIN and a letter (enum frame) in front.
 * runners/linux/session.c is the other end.
 *
 * This process has a real-time priority on the only processor: as soon as the VMM has written a
 * line, it runs, and sends what the kernel has said until then in front of that line. So what the
 * kernel says during a case comes before the result of that case.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

enum {
	PORT_CONSOLE = 0xe9,

	ATA_DATA = 0x1f0,
	ATA_COUNT = 0x1f2,
	ATA_LBA_LOW = 0x1f3,
	ATA_LBA_MIDDLE = 0x1f4,
	ATA_LBA_HIGH = 0x1f5,
	ATA_DEVICE = 0x1f6,
	ATA_COMMAND = 0x1f7,
	ATA_CONTROL = 0x3f6,

	ATA_DEVICE_LBA = 0xe0,
	ATA_READ_SECTORS = 0x20,
	ATA_NO_INTERRUPTS = 0x02,
	ATA_STATUS_BUSY = 0x80,
	ATA_STATUS_DATA = 0x08,

	POLL_NS = 1000000,
	KERNEL_WARNING = 4, /* KERN_WARNING; smaller is worse */
};

/* --- to the host ------------------------------------------------------------------- */

/* outsb() and insw() of libc do not tell the compiler that they read and write memory. */
static void out_bytes(const char *bytes, size_t size)
{
	__asm__ volatile("rep outsb" : "+S"(bytes), "+c"(size) : "d"(PORT_CONSOLE) : "memory");
}

static void in_words(void *to, size_t count)
{
	__asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(ATA_DATA) : "memory");
}

/* Sends `size` bytes as one line. */
static void send(enum frame frame, const char *bytes, size_t size)
{
	const char head[2] = { FRAME_BEGIN, (char)frame };

	out_bytes(head, sizeof(head));
	out_bytes(bytes, size);
	outb('\n', PORT_CONSOLE);
}

static void send_text(enum frame frame, const char *text)
{
	send(frame, text, strlen(text));
}

/* Cannot go on: the host ends the machine. */
static _Noreturn void fail(const char *what, const char *which)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s: %s", what, which, strerror(errno));
	send_text(FRAME_FAILED, text);
	for (;;)
		pause();
}

/* What the kernel has said of a value that a parameter of KVM does not take; empty: nothing. */
static char bad_value[256];

/*
 * "kvm_intel: `maybe' invalid for parameter `ept'" when a module is loaded, "Booting kernel:
 * `maybe' invalid for parameter `kvm_intel.ept'" when it is built in (kernel/params.c). The second
 * kernel goes on without the parameter: the run would bear a name that is not true.
 */
static void note_bad_value(const char *text)
{
	if (!bad_value[0] && strstr(text, "kvm") &&
	    (strstr(text, "' invalid for parameter `") ||
	     strstr(text, "' too large for parameter `")))
		snprintf(bad_value, sizeof(bad_value), "%s", text);
}

/* Sends the kernel's messages that are warnings or worse. */
static void send_kernel_messages(int kmsg)
{
	static char record[8192];
	ssize_t size;

	while ((size = read(kmsg, record, sizeof(record) - 1)) > 0 ||
	       (size < 0 && errno == EPIPE)) {
		char *text, *end;

		if (size < 0) /* overwritten before it was read */
			continue;
		record[size] = 0;
		text = strchr(record, ';');
		if (!text || (atoi(record) & 7) > KERNEL_WARNING)
			continue;
		end = strchr(++text, '\n');
		if (end)
			*end = 0;
		note_bad_value(text);
		send_text(FRAME_KERNEL, text);
	}
}

/* --- from the host ------------------------------------------------------------------ */

static void read_sector(uint32_t sector, void *to)
{
	outb(ATA_DEVICE_LBA | (sector >> 24 & 0x0f), ATA_DEVICE);
	outb(1, ATA_COUNT);
	outb(sector & 0xff, ATA_LBA_LOW);
	outb(sector >> 8 & 0xff, ATA_LBA_MIDDLE);
	outb(sector >> 16 & 0xff, ATA_LBA_HIGH);
	outb(ATA_READ_SECTORS, ATA_COMMAND);
	while ((inb(ATA_COMMAND) & (ATA_STATUS_BUSY | ATA_STATUS_DATA)) != ATA_STATUS_DATA)
		;
	in_words(to, SECTOR_SIZE / 2);
}

/* Copies `size` bytes from `sector` on into the file `path`; returns the sector behind them. */
static uint32_t receive_file(const char *path, uint32_t sector, uint32_t size)
{
	static char bytes[SECTOR_SIZE];
	const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	if (file < 0)
		fail("cannot write ", path);
	while (size) {
		const uint32_t part = size < SECTOR_SIZE ? size : SECTOR_SIZE;

		read_sector(sector++, bytes);
		if (write(file, bytes, part) != (ssize_t)part)
			fail("cannot write ", path);
		size -= part;
	}
	close(file);
	return sector;
}

/* Waits until the host has a request with another number than `done`. */
static struct request next_request(uint32_t done)
{
	const struct timespec pause_time = { 0, POLL_NS };
	union {
		struct request request;
		char bytes[SECTOR_SIZE];
	} sector;

	for (;;) {
		read_sector(0, &sector);
		if (memcmp(sector.request.magic, REQUEST_MAGIC, sizeof(sector.request.magic)) ==
			    0 &&
		    sector.request.number != done)
			return sector.request;
		nanosleep(&pause_time, NULL);
	}
}

static void write_text(const char *path, const char *text)
{
	const int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		fail("cannot write ", path);
	close(file);
}

/*
 * A kernel that spins or sleeps for ever shall say so before the host loses patience. Seconds of
 * the emulated machine, where a kernel has these watchdogs.
 */
static void set_watchdogs(void)
{
	static const char *const watchdogs[][2] = {
		{ "/proc/sys/kernel/watchdog_thresh", "5" },
		{ "/proc/sys/kernel/hung_task_timeout_secs", "10" },
	};

	for (size_t i = 0; i < sizeof(watchdogs) / sizeof(*watchdogs); i++)
		if (access(watchdogs[i][0], W_OK) == 0)
			write_text(watchdogs[i][0], watchdogs[i][1]);
}

/* --- running an image ---------------------------------------------------------------- */

/* exitpath.crash=TEXT on the kernel's command line: panics before a console line with TEXT. */
static char crash_text[128];

static void crash_before(const char *line, size_t size)
{
	if (crash_text[0] && memmem(line, size, crash_text, strlen(crash_text)))
		write_text("/proc/sysrq-trigger", "c");
}

/* The VMM's bytes, as lines. */
static void send_console(const char *bytes, size_t size)
{
	while (size) {
		const char *end = memchr(bytes, '\n', size);
		const size_t part = end ? (size_t)(end - bytes) : size;

		crash_before(bytes, part);
		send(end ? FRAME_LINE : FRAME_PART, bytes, part);
		bytes += part + !!end;
		size -= part + !!end;
	}
}

static pid_t start_vmm(int console)
{
	const struct sched_param ordinary = { 0 };
	const pid_t child = fork();

	if (child)
		return child;
	sched_setscheduler(0, SCHED_OTHER, &ordinary);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	ioperm(0, 0x400, 0);
	iopl(0);
	execl("/vmm", "vmm", "/tmp/image", "/tmp/tree", NULL);
	_exit(127);
}

/* Runs /tmp/image; sends all that it and the kernel say, and its end. */
static void run_image(int kmsg)
{
	static char bytes[4096];
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = kmsg, .events = POLLIN } };
	char text[32];
	int console[2], status;
	pid_t vmm;

	if (pipe2(console, O_CLOEXEC))
		fail("cannot make a pipe", "");
	vmm = start_vmm(console[1]);
	if (vmm < 0)
		fail("cannot start ", "/vmm");
	close(console[1]);
	fds[0].fd = console[0];
	for (;;) {
		ssize_t size = -1;

		poll(fds, 2, -1);
		if (fds[0].revents)
			size = read(console[0], bytes, sizeof(bytes));
		send_kernel_messages(kmsg);
		if (fds[0].revents && size <= 0)
			break;
		if (size > 0)
			send_console(bytes, (size_t)size);
	}
	close(console[0]);
	waitpid(vmm, &status, 0);
	send_kernel_messages(kmsg);
	snprintf(text, sizeof(text), "%d",
		 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	send_text(FRAME_END, text);
}

/* --- start-up ------------------------------------------------------------------------ */

/* Appends to `to` the parameters for the module on the kernel's command line: kvm_intel.ept=0. */
static void find_parameters(char *to, size_t size, const char *module)
{
	static char line[4096];
	const int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	const ssize_t count = read(file, line, sizeof(line) - 1);
	const size_t name = strlen(module);
	char *rest = line, *word;

	close(file);
	line[count < 0 ? 0 : count] = 0;
	while ((word = strsep(&rest, " \n")) != NULL) {
		if (strncmp(word, module, name) == 0 && word[name] == '.') {
			strncat(to, word + name + 1, size - strlen(to) - 2);
			strcat(to, " ");
		}
	}
}

/* Cannot go on when the kernel has refused the value of a parameter of KVM. */
static void check_values(int kmsg)
{
	send_kernel_messages(kmsg);
	if (!bad_value[0])
		return;
	errno = EINVAL;
	fail("--kvm-params has a value that KVM does not take: ", bad_value);
}

/* Loads /NAME.ko; a kernel that has it built in comes without the file. */
static void load_module(const char *name, int kmsg)
{
	char path[64], parameters[1024] = "", module[32];
	int file;

	snprintf(path, sizeof(path), "/%s.ko", name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	snprintf(module, sizeof(module), "%s", name);
	for (char *at = module; *at; at++)
		if (*at == '-')
			*at = '_';
	find_parameters(parameters, sizeof(parameters), module);
	if (syscall(SYS_finit_module, file, parameters, 0)) {
		const int error = errno;

		check_values(kmsg);
		errno = error;
		fail("the kernel does not load the module ", path + 1);
	}
	close(file);
}

/* One that the module has not is only a line in the kernel's log: the run would bear its name. */
static void check_parameters(const char *module)
{
	char parameters[1024] = "", path[1200], which[1100];
	char *rest = parameters, *word;

	find_parameters(parameters, sizeof(parameters), module);
	while ((word = strsep(&rest, " ")) != NULL) {
		word[strcspn(word, "=")] = 0;
		if (!*word)
			continue;
		for (char *at = word; *at; at++)
			if (*at == '-')
				*at = '_';
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, word);
		if (access(path, F_OK) == 0)
			continue;
		snprintf(which, sizeof(which), "%s has no parameter ", module);
		fail(which, word);
	}
}

int main(void)
{
	static const char *const modules[] = { "irqbypass", "kvm", "kvm-intel", "extra" };
	const struct sched_param first = { .sched_priority = 1 };
	char parameters[1024] = "";
	uint32_t number = 0;
	int kmsg;

	if (iopl(3))
		return 1;
	outb(ATA_NO_INTERRUPTS, ATA_CONTROL);
	if (mount("none", "/proc", "proc", 0, NULL) || mount("none", "/sys", "sysfs", 0, NULL) ||
	    mount("none", "/dev", "devtmpfs", 0, NULL) || sched_setscheduler(0, SCHED_FIFO, &first))
		fail("cannot set up user space", "");
	/* It polls the disk while it waits, and must not be held back for that. */
	write_text("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	set_watchdogs();
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		fail("cannot read ", "/dev/kmsg");
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++) {
		send_kernel_messages(kmsg);
		load_module(modules[i], kmsg);
	}
	check_values(kmsg);
	if (access("/dev/kvm", R_OK | W_OK))
		fail("no VM can be made: ", "/dev/kvm");
	check_parameters("kvm_intel");
	check_parameters("kvm");
	find_parameters(parameters, sizeof(parameters), "exitpath");
	sscanf(parameters, "crash=%127s", crash_text);
	send_text(FRAME_READY, "");
	for (;;) {
		const struct request request = next_request(number);

		number = request.number;
		receive_file("/tmp/tree", receive_file("/tmp/image", 1, request.image_size),
			     request.tree_size);
		run_image(kmsg);
	}
}
