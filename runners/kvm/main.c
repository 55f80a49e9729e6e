/*
 * vmm ELF DTB: runs an image in the VM that a tree describes, on Linux KVM.
 *
 * Console bytes go to standard output; so do lines that start with "# vmm: " when the machine
 * stops in another way than by switching itself off.
 * vmm --probe [NAMES]: tries whether KVM can run a guest here, and hide what NAMES says from it.
 * vmm --without NAMES: prints NAMES as this program understands them, in full, and on a second line
 * all that is hidden; vmm --without help: what there is.
 * EXITPATH_GUEST_TIME in the environment names a file that gets the guest's own CPU seconds.
 * Exit status: 0 switched off; 1 stopped or killed; 2 could not be started (words on stderr).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capabilities.h"
#include "guest_time.h"
#include "probe.h"
#include "report.h"
#include "vm.h"

enum {
	EXIT_OFF = 0,
	EXIT_STOPPED = 1,
	EXIT_SET_UP = 2,

	CONSOLE_BUFFER = 8192,
	ERROR_BUFFER = 512,
};

struct host {
	struct vm vm;
	pthread_mutex_t lock;		/* devices and console; who ends the process keeps it */
	pthread_t threads[MACHINE_MAX_CPUS];
	volatile sig_atomic_t signal;	/* that asked for the end; 0: none */
	struct guest_time guest_time;
};

/* Signal handlers have no argument to find the machine by. */
static struct host host;

static void write_stdout(void *context, const char *bytes, size_t count)
{
	(void)context;
	while (count) {
		const ssize_t written = write(STDOUT_FILENO, bytes, count);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			_exit(EXIT_STOPPED);
		bytes += written;
		count -= (size_t)written;
	}
}

static int map_file(const char *name, struct blob *blob)
{
	const int file = open(name, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *bytes = MAP_FAILED;

	if (file < 0 || fstat(file, &status)) {
		fprintf(stderr, "vmm: cannot read %s: %s\n", name, strerror(errno));
		return -1;
	}
	if (!S_ISREG(status.st_mode) || status.st_size == 0) {
		fprintf(stderr, "vmm: cannot use %s: it is %s\n", name,
			S_ISREG(status.st_mode) ? "empty" : "not a file");
		return -1;
	}
	bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (bytes == MAP_FAILED) {
		fprintf(stderr, "vmm: cannot read %s: %s\n", name, strerror(errno));
		return -1;
	}
	close(file);
	*blob = (struct blob){ bytes, (size_t)status.st_size };
	return 0;
}

/* Ends the process, with whatever the console holds. The other CPUs end with it. */
static void finish(struct host *h, int status)
{
	text_flush(h->vm.devices.console);
	if (guest_time_write(&h->guest_time))
		fprintf(stderr, "vmm: cannot write %s: %s\n", h->guest_time.file, strerror(errno));
	_exit(status);
}

static void ask_for_end(int number)
{
	host.signal = number;
	/* In case KVM_RUN has not started yet, when it would not notice the signal. */
	for (size_t i = 0; i < host.vm.vcpu_count; i++)
		host.vm.vcpus[i].run->immediate_exit = 1;
}

static void do_nothing(int number)
{
	(void)number;
}

/* Runs `vcpu` until the machine ends, or a signal wants it to. */
static void run_vcpu(struct host *h, struct vcpu *vcpu)
{
	struct vm *vm = &h->vm;

	for (;;) {
		const uint64_t since = guest_time_now(&h->guest_time);
		const int result = vm->backend.functions->run(&vm->backend, vcpu);

		guest_time_add(&h->guest_time, since);
		if (result == -EINTR || result == -EAGAIN) {
			if (h->signal)
				return;
			continue;
		}
		pthread_mutex_lock(&h->lock);
		if (result) {
			vm_report_failure(vm, vcpu, -result, strerror(-result));
			finish(h, EXIT_STOPPED);
		}
		switch (vm_handle_exit(vm, vcpu)) {
		case VM_OFF:
			finish(h, EXIT_OFF);
			break;
		case VM_BROKEN:
			finish(h, EXIT_STOPPED);
			break;
		case VM_GO_ON:
			break;
		}
		pthread_mutex_unlock(&h->lock);
	}
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;

	run_vcpu(&host, vcpu);
	return NULL;
}

/* SIGTERM and SIGINT ask for the end, with a report; SIGUSR1 only takes a thread out of KVM_RUN. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = ask_for_end };
	struct sigaction kick = { .sa_handler = do_nothing };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGUSR1, &kick, NULL);
}

static int start_others(struct host *h)
{
	sigset_t ending, old;
	int problem = 0;

	/* The first thread alone takes the signals that end the machine. */
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ending, &old);
	for (size_t i = 1; i < h->vm.vcpu_count && !problem; i++)
		problem = pthread_create(&h->threads[i], NULL, vcpu_thread, &h->vm.vcpus[i]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (problem)
		fprintf(stderr, "vmm: cannot start a thread: %s\n", strerror(problem));
	return problem;
}

/* A machine that was told to end says first where its CPUs are: mostly it hangs. */
static void end_by_signal(struct host *h)
{
	struct text *console = h->vm.devices.console;

	for (size_t i = 1; i < h->vm.vcpu_count; i++) {
		pthread_kill(h->threads[i], SIGUSR1);
		pthread_join(h->threads[i], NULL);
	}
	vm_note(&h->vm);
	text_print(console, REPORT_PREFIX "ended by signal %u (%s)\n", (unsigned int)h->signal,
		   strsignal(h->signal));
	/* The first CPU last: a reader may see but the end of a long console. */
	for (size_t i = h->vm.vcpu_count; i-- > 0;) {
		text_print(console, REPORT_PREFIX "CPU %u\n", h->vm.vcpus[i].apic_id);
		vm_report_state(&h->vm, &h->vm.vcpus[i], i > 0);
	}
	finish(h, EXIT_STOPPED);
}

static void explain_backend(const struct backend *backend, int result)
{
	if (backend->is_sentence)
		fprintf(stderr, "vmm: %s\n", backend->failed);
	else
		fprintf(stderr, "vmm: %s: %s%s%s\n", backend->failed, strerror(-result),
			*backend->advice ? "; " : "", backend->advice);
}

/* vmm --probe [NAMES] */
static int probe(const char *without)
{
	struct backend backend = { .functions = &kvm_functions };
	const int result = probe_guest(&backend, without);

	if (result)
		explain_backend(&backend, result);
	return result ? EXIT_SET_UP : 0;
}

static void print_all_capabilities(void)
{
	const struct capability *one;

	for (size_t i = 0; (one = capability(i)); i++)
		if (!one->is_default1)
			printf("%-45s %s\n", one->name, one->words);
}

/* vmm --without NAMES */
static int explain_names(const char *names)
{
	char bytes[CONSOLE_BUFFER];
	struct text text;
	struct capability_set set;
	const struct capability *one;

	if (strcmp(names, "help") == 0) {
		print_all_capabilities();
		return 0;
	}
	text_init(&text, bytes, sizeof(bytes));
	if (capability_set_parse(&set, names, &text)) {
		fprintf(stderr, "vmm: %s\n", bytes);
		return EXIT_SET_UP;
	}
	capability_set_print(&set, &text);
	puts(bytes);
	for (size_t i = 0; (one = capability(i)); i++)
		if (set.hidden[i])
			printf("%s ", one->name);
	putchar('\n');
	return 0;
}

/* vmm ELF DTB */
static int boot(struct host *h, const char *elf_name, const char *tree_name)
{
	static char console_bytes[CONSOLE_BUFFER];
	static struct text console;
	char error_bytes[ERROR_BUFFER];
	struct text error;
	struct blob elf, tree;
	int result;

	if (map_file(elf_name, &elf) || map_file(tree_name, &tree))
		return EXIT_SET_UP;
	text_init(&console, console_bytes, sizeof(console_bytes));
	text_init(&error, error_bytes, sizeof(error_bytes));
	console.flush = write_stdout;
	pthread_mutex_init(&h->lock, NULL);
	h->guest_time.file = getenv("EXITPATH_GUEST_TIME");

	result = vm_create(&h->vm, &kvm_functions, elf, tree, &console, &error);
	if (result == VM_BAD_TREE)
		fprintf(stderr, "vmm: no machine can be built from %s: %s; correct the tree\n",
			tree_name, error.bytes);
	else if (result == VM_BAD_IMAGE)
		fprintf(stderr, "vmm: cannot load %s: %s; build it again\n", elf_name, error.bytes);
	else if (result)
		explain_backend(&h->vm.backend, result);
	if (result)
		return EXIT_SET_UP;

	catch_signals();
	if (start_others(h))
		return EXIT_SET_UP;
	run_vcpu(h, &h->vm.vcpus[0]);
	end_by_signal(h);
	return EXIT_STOPPED;
}

int main(int argc, char **argv)
{
	if ((argc == 2 || argc == 3) && strcmp(argv[1], "--probe") == 0)
		return probe(argv[2]);
	if (argc == 3 && strcmp(argv[1], "--without") == 0)
		return explain_names(argv[2]);
	if (argc == 3 && argv[1][0] != '-')
		return boot(&host, argv[1], argv[2]);
	fputs("usage: vmm ELF DTB    boots the image ELF in a KVM virtual machine that the\n"
	      "                      flattened device tree DTB describes; its console is\n"
	      "                      standard output\n"
	      "       vmm --probe [NAMES]\n"
	      "                      exits 0 when KVM can run a guest here, and hide NAMES\n"
	      "       vmm --without NAMES\n"
	      "                      says what is hidden; help: what there is\n", stderr);
	return EXIT_SET_UP;
}
