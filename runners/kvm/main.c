/*
 * vmm ELF DTB: runs an image in the VM that a tree describes, on Linux KVM.
 *
 * Console bytes go to standard output; so do lines that start with "# vmm: " when the machine
 * stops in another way than by switching itself off.
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
		const int result = vm->backend.functions->run(&vm->backend, vcpu);

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
	for (size_t i = 0; i < h->vm.vcpu_count; i++) {
		text_print(console, REPORT_PREFIX "CPU %u\n", h->vm.vcpus[i].apic_id);
		vm_report_state(&h->vm, &h->vm.vcpus[i]);
	}
	finish(h, EXIT_STOPPED);
}

/* Prints why vm_create() returned `result`. */
static void explain(const struct vm *vm, int result, const char *elf, const char *tree,
		    const char *words)
{
	if (result == VM_BAD_TREE)
		fprintf(stderr, "vmm: %s: %s\n", tree, words);
	else if (result == VM_BAD_IMAGE)
		fprintf(stderr, "vmm: %s: %s\n", elf, words);
	else
		fprintf(stderr, "vmm: %s: %s%s%s\n", vm->backend.failed, strerror(-result),
			*vm->backend.advice ? "; " : "", vm->backend.advice);
}

int main(int argc, char **argv)
{
	static char console_bytes[CONSOLE_BUFFER], error_bytes[ERROR_BUFFER];
	struct text console, error;
	struct blob elf, tree;
	int result;

	if (argc != 3) {
		fputs("usage: vmm ELF DTB\n"
		      "Boots the image ELF in a KVM virtual machine that the flattened device tree\n"
		      "DTB describes; its console is standard output.\n", stderr);
		return EXIT_SET_UP;
	}
	if (map_file(argv[1], &elf) || map_file(argv[2], &tree))
		return EXIT_SET_UP;
	text_init(&console, console_bytes, sizeof(console_bytes));
	text_init(&error, error_bytes, sizeof(error_bytes));
	console.flush = write_stdout;
	pthread_mutex_init(&host.lock, NULL);

	result = vm_create(&host.vm, &kvm_functions, elf, tree, &console, &error);
	if (result) {
		explain(&host.vm, result, argv[1], argv[2], error.bytes);
		return EXIT_SET_UP;
	}
	catch_signals();
	if (start_others(&host))
		return EXIT_SET_UP;
	run_vcpu(&host, &host.vm.vcpus[0]);
	end_by_signal(&host);
}
