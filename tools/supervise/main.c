/*
 * supervise: boots one image on one machine until each of its cases has a result, and prints
 * one clean TAP 13 stream, whatever the machine does. docs/design.md, "Runs", is its contract.
 */
#include "files.h"
#include "machine.h"
#include "run.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char usage[] =
	"usage: supervise --image AREA/IMAGE --elf FILE --cases FILE.tsv --dtb FILE [OPTION]..."
	" -- BOOT-COMMAND...\n"
	"Boots an image until each of its cases has a result; prints TAP 13.\n"
	"\n"
	"  --image AREA/IMAGE    the name of the image\n"
	"  --elf FILE            the image\n"
	"  --cases FILE          its case list\n"
	"  --dtb FILE            the compiled device tree of the machine\n"
	"  --deviations FILE     known deviations; needs --identity\n"
	"  --identity NAME       what the machine is: VERSION/CPU-MODEL\n"
	"  --select GLOB         only cases whose name or id (AREA/IMAGE:CASE) matches;"
	" may be repeated\n"
	"  --shuffle SEED        the cases in another order, which depends on SEED alone\n"
	"  --silence SECONDS     a machine that writes nothing for so long hangs (20)\n"
	"  --limit SECONDS       time for all boots together (900)\n"
	"  --log FILE            keeps the raw bytes of the console\n"
	"  --tap FILE            keeps the TAP\n"
	"  --go-on               a bail-out is a comment on standard output, so that prove goes on;"
	" the file of\n"
	"                        --tap has it as it is\n"
	"  --seed N              the seed that the cases use (1)\n"
	"  --again OPTIONS       what a comment \"# reproduce: ./exitpath run ...\" still needs:"
	" the platform\n"
	"  --count N             how often an image repeats what it draws at random"
	" (its own number)\n"
	"  --without NAMES       what the processors shall lack, for a machine that can hide it\n"
	"  --audit-all           every VM entry is audited in full\n"
	"  --help                prints this\n"
	"\n"
	"   or: supervise --check-deviations FILE\n"
	"Only says whether FILE is a list of deviations.\n"
	"\n"
	"Runs BOOT-COMMAND... ELF DTB for each boot. Exit status: 0 when every case is ok, skipped"
	" or a listed\n"
	"deviation; 1 otherwise; 2 when the set-up is broken.\n";

/* The command line. */
struct arguments {
	struct run_options run;
	const char *cases;
	const char *dtb;
	const char *deviations;
	const char *identity;
	const char *log;
	const char *tap;
	bool go_on;
	const char *again;
	char **globs;
	size_t glob_count;
	bool shuffle;
	uint64_t shuffle_seed;
};

/* What main has read and opened, to be released at the end. */
struct setup {
	struct case_list cases;
	struct selection selection;
	struct deviation_list deviations;
	struct text tree;
	struct text error;
};

static _Noreturn void wrong_usage(const char *what, const char *which)
{
	fprintf(stderr, "supervise: %s%s; see supervise --help\n", what, which);
	exit(EXIT_BROKEN);
}

static uint64_t parse_number(const char *option, const char *value)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(value, &end, 0);
	if (*value < '0' || *value > '9' || *end || errno)
		wrong_usage(option, " needs a whole number of at most 64 bits");
	return number;
}

/* One cell of the device tree, above 0. */
static uint32_t parse_count(const char *option, const char *value)
{
	uint64_t count = parse_number(option, value);

	if (!count || count > UINT32_MAX)
		wrong_usage(option, " needs a whole number from 1 to 4294967295");
	return (uint32_t)count;
}

/* Seconds, with a fraction or without, as milliseconds. */
static int64_t parse_seconds(const char *option, const char *value)
{
	char *end;
	double seconds = strtod(value, &end);

	if (*value < '0' || *value > '9' || *end || !(seconds >= 0.001) || seconds > 1e9)
		wrong_usage(option, " needs a number of seconds above 0");
	return (int64_t)(seconds * 1000);
}

static void add_glob(struct arguments *a, char *glob)
{
	a->globs = must_realloc(a->globs, (a->glob_count + 1) * sizeof(*a->globs));
	a->globs[a->glob_count++] = glob;
}

static void check_arguments(const struct arguments *a)
{
	if (!a->run.image || !strchr(a->run.image, '/'))
		wrong_usage("--image AREA/IMAGE is missing", "");
	if (!a->run.elf)
		wrong_usage("--elf FILE is missing", "");
	if (!a->cases)
		wrong_usage("--cases FILE is missing", "");
	if (!a->dtb)
		wrong_usage("--dtb FILE is missing", "");
	if (a->deviations && !a->identity)
		wrong_usage("--deviations needs --identity", "");
	if (!a->run.command[0])
		wrong_usage("-- BOOT-COMMAND is missing", "");
}

/* Ends the program: 0 when `path` is a list of deviations, 2 with a message when it is not. */
static _Noreturn void check_deviations(const char *path)
{
	struct deviation_list list;
	struct text error = { 0 };
	bool good = deviation_list_read(&list, path, "", &error);

	if (!good)
		fprintf(stderr, "supervise: %s\n", error.data);
	deviation_list_free(&list);
	text_free(&error);
	exit(good ? EXIT_AS_EXPECTED : EXIT_BROKEN);
}

static void parse_arguments(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "image", required_argument, NULL, 'i' },
		{ "elf", required_argument, NULL, 'e' },
		{ "cases", required_argument, NULL, 'c' },
		{ "dtb", required_argument, NULL, 'd' },
		{ "deviations", required_argument, NULL, 'D' },
		{ "identity", required_argument, NULL, 'I' },
		{ "select", required_argument, NULL, 's' },
		{ "shuffle", required_argument, NULL, 'S' },
		{ "silence", required_argument, NULL, 'q' },
		{ "limit", required_argument, NULL, 'l' },
		{ "log", required_argument, NULL, 'L' },
		{ "tap", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 'n' },
		{ "count", required_argument, NULL, 'C' },
		{ "without", required_argument, NULL, 'w' },
		{ "audit-all", no_argument, NULL, 'A' },
		{ "again", required_argument, NULL, 'a' },
		{ "go-on", no_argument, NULL, 'g' },
		{ "check-deviations", required_argument, NULL, 'K' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (option) {
		case 'i':
			a->run.image = optarg;
			break;
		case 'e':
			a->run.elf = optarg;
			break;
		case 'c':
			a->cases = optarg;
			break;
		case 'd':
			a->dtb = optarg;
			break;
		case 'D':
			a->deviations = optarg;
			break;
		case 'I':
			a->identity = optarg;
			break;
		case 's':
			add_glob(a, optarg);
			break;
		case 'S':
			a->shuffle = true;
			a->shuffle_seed = parse_number("--shuffle", optarg);
			break;
		case 'q':
			a->run.silence_ms = parse_seconds("--silence", optarg);
			break;
		case 'l':
			a->run.limit_ms = parse_seconds("--limit", optarg);
			break;
		case 'L':
			a->log = optarg;
			break;
		case 't':
			a->tap = optarg;
			break;
		case 'n':
			a->run.seed = parse_number("--seed", optarg);
			break;
		case 'C':
			a->run.count = parse_count("--count", optarg);
			break;
		case 'w':
			a->run.without = optarg;
			break;
		case 'A':
			a->run.audit_all = true;
			break;
		case 'a':
			a->again = optarg;
			break;
		case 'g':
			a->go_on = true;
			break;
		case 'K':
			check_deviations(optarg);
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_AS_EXPECTED);
		default:
			exit(EXIT_BROKEN);
		}
	}
	a->run.command = argv + optind;
	check_arguments(a);
}

static bool prepare_cases(struct setup *s, const struct arguments *a)
{
	if (!case_list_read(&s->cases, a->cases, &s->error))
		return false;
	selection_make(&s->selection, &s->cases, a->run.image, a->globs, a->glob_count);
	if (s->selection.count == 0) {
		text_printf(&s->error, "no case of %s matches", a->run.image);
		for (size_t i = 0; i < a->glob_count; i++)
			text_printf(&s->error, " %s", a->globs[i]);
		text_printf(&s->error, "; ./exitpath list shows the names");
		return false;
	}
	if (a->shuffle)
		selection_shuffle(&s->selection, a->shuffle_seed);
	return true;
}

static bool prepare(struct setup *s, const struct arguments *a)
{
	if (!prepare_cases(s, a) || !tree_read(&s->tree, a->dtb, &s->error))
		return false;
	if (a->deviations &&
	    !deviation_list_read(&s->deviations, a->deviations, a->identity, &s->error))
		return false;
	if (access(a->run.elf, R_OK) != 0) {
		text_printf(&s->error, "cannot read %s: %s; build the image first", a->run.elf,
			    strerror(errno));
		return false;
	}
	return true;
}

static int create(struct setup *s, const char *path)
{
	int fd;

	if (!path)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		text_printf(&s->error, "cannot write %s: %s", path, strerror(errno));
	return fd;
}

/* From here on these signals are read, and end the run in good order. */
static int open_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Ends as the signal would have ended us, so that whoever waits for us learns of it. */
static void end_by(int number)
{
	sigset_t set;

	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int run_with(struct setup *s, struct arguments *a)
{
	struct report report = {
		.out = STDOUT_FILENO,
		.tap = create(s, a->tap),
		.image = a->run.image,
		.go_on = a->go_on,
		.again = a->again,
		.deviations = &s->deviations,
	};
	struct run run = {
		.options = &a->run,
		.cases = &s->selection,
		.tree = &s->tree,
		.report = &report,
	};
	int status;

	a->run.log = create(s, a->log);
	a->run.signals = open_signals();
	if (a->run.signals < 0)
		text_printf(&s->error, "cannot read signals: %s", strerror(errno));
	if (s->error.len)
		return EXIT_BROKEN;
	machine_prepare();
	status = run_all(&run);
	report_end(&report);
	if (run.signal)
		end_by(run.signal);
	return status;
}

int main(int argc, char **argv)
{
	struct arguments a = {
		.run = { .seed = 1, .silence_ms = 20 * 1000, .limit_ms = 900 * 1000, .log = -1 },
	};
	struct setup s = { 0 };
	int status = EXIT_BROKEN;

	parse_arguments(&a, argc, argv);
	if (prepare(&s, &a))
		status = run_with(&s, &a);
	if (s.error.len)
		fprintf(stderr, "supervise: %s\n", s.error.data);
	case_list_free(&s.cases);
	selection_free(&s.selection);
	deviation_list_free(&s.deviations);
	text_free(&s.tree);
	text_free(&s.error);
	free(a.globs);
	return status;
}
