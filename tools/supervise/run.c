#include "run.h"
#include "boot.h"
#include "processes.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* How many of the last lines a message shows: more than the VMM says of a CPU that stopped. */
#define CONSOLE_LINES 32
#define ERROR_LINES 60

/* After so many boots in a row without a plan, the set-up is broken. */
#define FAILED_BOOTS_MAX 2

static bool could_not_start(const struct boot *b)
{
	return !b->plan && b->end == BOOT_ENDED && WIFEXITED(b->status) &&
	       WEXITSTATUS(b->status) == EXIT_BROKEN;
}

/* How a machine that nobody stopped came to its end. */
static void ending_words(struct text *t, const struct boot *b)
{
	if (WIFSIGNALED(b->status)) {
		text_printf(t, "the machine was ");
		wait_status_words(t, b->status);
	} else if (WEXITSTATUS(b->status) > 128 && WEXITSTATUS(b->status) < 128 + NSIG) {
		text_printf(t, "the machine ended with ");
		wait_status_words(t, b->status);
	} else {
		text_printf(t, "the machine powered off");
	}
}

/* Appends where in the run it happened. */
static void place_words(struct text *t, const struct boot *b)
{
	if (!b->plan)
		text_printf(t, " before it printed the plan");
	else if (b->run->report->holding)
		text_printf(t, " after the last result");
	else
		text_printf(t, " in the middle of the case");
}

/* What went wrong in this boot. */
static void message_words(struct text *t, const struct boot *b)
{
	const struct run_options *options = b->run->options;

	if (b->fault.len)
		text_add(t, b->fault.data, b->fault.len);
	if (b->fault.len && b->end != BOOT_FAULTY)
		text_printf(t, "; then ");
	switch (b->end) {
	case BOOT_FAULTY:
		break;
	case BOOT_ENDED:
		text_printf(t, "%s", b->fault.len ? "" : "crashed: ");
		ending_words(t, b);
		place_words(t, b);
		break;
	case BOOT_SILENT:
		text_printf(t, "hang: nothing on the console for %g s",
			    (double)options->silence_ms / 1000);
		place_words(t, b);
		if (b->run->report->holding)
			text_printf(t, ", and no power-off");
		break;
	case BOOT_LIMIT:
		text_printf(t, "the image's time limit of %g s was over",
			    (double)options->limit_ms / 1000);
		place_words(t, b);
		text_printf(t, "; --limit gives it more");
		break;
	case BOOT_BAILED:
		text_printf(t, "the image bailed out: ");
		text_add(t, text_string(&b->bailed), b->bailed.len);
		break;
	case BOOT_INTERRUPTED:
		text_printf(t, "supervise was ended by %s%s", b->run->signal ? "SIG" : "",
			    b->run->signal ? sigabbrev_np(b->run->signal)
					   : "the loss of its reader");
		place_words(t, b);
		break;
	case BOOT_IMPOSSIBLE:
		text_add(t, text_string(&b->bailed), b->bailed.len);
		break;
	}
}

static void add_tail(struct text *yaml, const char *key, const struct text *tail,
		     unsigned int lines)
{
	if (!tail->len)
		return;
	text_printf(yaml, "  %s: |\n", key);
	text_add_literal(yaml, tail->data, tail->len, 4, lines);
}

/* A kernel below the machine has reported a bug of its own: runners/linux/session.c says so. */
static bool is_kernel_bug(const struct boot *b)
{
	static const char sign[] = "\nkernel: ";

	return strncmp(text_string(&b->garbage), sign + 1, sizeof(sign) - 2) == 0 ||
	       strstr(text_string(&b->garbage), sign);
}

/* The running case did not come to its own end. */
static void report_crash(const struct boot *b)
{
	struct run *run = b->run;
	const struct case_info *info = run->cases->items[run->next];
	struct text yaml = { 0 }, words = { 0 };

	message_words(&words, b);
	if (run->report->holding)
		report_discard(run->report);
	text_printf(&yaml, "  ---\n  message: ");
	text_add_scalar(&yaml, text_string(&words), words.len);
	text_printf(&yaml, "\n  at: ");
	text_add_scalar(&yaml, info->source, strlen(info->source));
	text_clear(&words);
	if (b->stopped)
		text_printf(&words, "stopped by supervise");
	else
		wait_status_words(&words, b->status);
	text_printf(&yaml, "\n  ended: ");
	text_add_scalar(&yaml, words.data, words.len);
	text_add(&yaml, "\n", 1);
	add_tail(&yaml, "stderr", &b->errors, ERROR_LINES);
	/* What the last lines of the console may not reach back to. */
	if (b->garbage_lines >= CONSOLE_LINES)
		add_tail(&yaml, "garbage", &b->garbage, CONSOLE_LINES);
	add_tail(&yaml, "console", &b->console, CONSOLE_LINES);
	text_printf(&yaml, "  ...\n");
	report_result(run->report, &(struct result){
		.number = run->next + 1,
		.info = info,
		.crashed = true,
		.yaml = yaml.data,
	});
	run->next++;
	text_free(&yaml);
	text_free(&words);
}

/* All cases that have no result will never have one. */
static void report_rest(struct run *run, const struct text *why)
{
	struct text yaml = { 0 }, words = { 0 };

	for (; run->next < run->cases->count; run->next++) {
		const struct case_info *info = run->cases->items[run->next];

		text_clear(&yaml);
		text_clear(&words);
		text_printf(&words, "not run: ");
		text_add(&words, text_string(why), why->len);
		text_printf(&yaml, "  ---\n  message: ");
		text_add_scalar(&yaml, words.data, words.len);
		text_printf(&yaml, "\n  at: ");
		text_add_scalar(&yaml, info->source, strlen(info->source));
		text_printf(&yaml, "\n  ...\n");
		report_result(run->report, &(struct result){
			.number = run->next + 1,
			.info = info,
			.never_ran = true,
			.yaml = yaml.data,
		});
	}
	text_free(&yaml);
	text_free(&words);
}

static void comment_tail(struct run *run, const char *what, const struct text *tail,
			 unsigned int lines)
{
	struct text t = { 0 };

	if (!tail->len)
		return;
	text_printf(&t, "%s:\n", what);
	text_add_literal(&t, tail->data, tail->len, 2, lines);
	report_comment(run->report, t.data, t.len);
	text_free(&t);
}

/* The last line of standard error, in front of what we know ourselves. */
static void bail_out_words(struct text *t, const struct boot *b)
{
	const char *end = text_string(&b->errors) + b->errors.len;
	const char *line;

	if (b->end == BOOT_BAILED) {
		text_add(t, text_string(&b->bailed), b->bailed.len);
		return;
	}
	if (!could_not_start(b)) {
		message_words(t, b);
		return;
	}
	while (end > text_string(&b->errors) && (end[-1] == '\n' || end[-1] == '\r'))
		end--;
	for (line = end; line > text_string(&b->errors) && line[-1] != '\n'; line--)
		;
	text_printf(t, "the machine could not be started");
	if (end > line)
		text_printf(t, ": %.*s", (int)(end - line), line);
}

/* The set-up is broken: no other boot. If anything ran, every case gets its line all the same. */
static int bail_out(const struct boot *b)
{
	struct run *run = b->run;
	struct text why = { 0 };

	bail_out_words(&why, b);
	report_release(run->report);
	if (run->next > 0)
		report_rest(run, &why);
	if (b->end != BOOT_IMPOSSIBLE) {
		comment_tail(run, "standard error of the boot command", &b->errors, ERROR_LINES);
		comment_tail(run, "console", &b->console, CONSOLE_LINES);
	}
	report_bail_out(run->report, text_string(&why), why.len);
	text_free(&why);
	return EXIT_BROKEN;
}

/* What a boot without a fault wrote to standard error is passed on, but not again and again. */
static void pass_on_errors(const struct boot *b)
{
	struct run *run = b->run;

	if (!b->errors.len || strcmp(text_string(&run->last_said), b->errors.data) == 0)
		return;
	comment_tail(run, "standard error of the boot command", &b->errors, ERROR_LINES);
	text_clear(&run->last_said);
	text_add(&run->last_said, b->errors.data, b->errors.len);
}

/* No plan, no case to blame. The first time this may be bad luck. */
static int after_failed_boot(const struct boot *b)
{
	struct run *run = b->run;
	struct text words = { 0 };

	if (could_not_start(b) || ++run->failed == FAILED_BOOTS_MAX)
		return bail_out(b);
	message_words(&words, b);
	text_printf(&words, "; once more");
	report_comment(run->report, words.data, words.len);
	text_free(&words);
	return -1;
}

/* The running case gets a result if it has none; then perhaps the rest never runs. */
static void end_early(const struct boot *b)
{
	struct text why = { 0 };

	message_words(&why, b);
	if (b->plan)
		report_crash(b);
	report_rest(b->run, &why);
	text_free(&why);
}

/* Draws the conclusions. Returns the exit status of the run, or -1 to boot again. */
static int after_boot(const struct boot *b)
{
	struct run *run = b->run;

	/* A result that is held back is of a case that still runs. */
	if (run->report->holding)
		run->next--;
	switch (b->end) {
	case BOOT_IMPOSSIBLE:
		return bail_out(b);
	case BOOT_BAILED:
		run->next += run->report->holding;
		return bail_out(b);
	case BOOT_LIMIT:
		if (!run->planned)
			return bail_out(b);
		end_early(b);
		return EXIT_UNEXPECTED;
	case BOOT_INTERRUPTED:
		end_early(b);
		return run->report->out_lost ? EXIT_BROKEN : EXIT_UNEXPECTED;
	default:
		break;
	}
	if (!b->plan && is_kernel_bug(b)) {
		/* That machine was ready: the image did it, before its first case. */
		report_crash(b);
		return -1;
	}
	if (!b->plan)
		return after_failed_boot(b);
	run->failed = 0;
	/* After the last case there is nothing to boot for. */
	if (b->boot_again && !run->report->holding && b->end == BOOT_ENDED && !b->fault.len &&
	    !WIFSIGNALED(b->status)) {
		pass_on_errors(b);
		return -1;
	}
	if (!run->report->holding || b->end != BOOT_ENDED || b->fault.len ||
	    WIFSIGNALED(b->status)) {
		report_crash(b);
		return -1;
	}
	run->next++;
	report_release(run->report);
	pass_on_errors(b);
	return -1;
}

static void announce_restart(struct run *run)
{
	struct text t = { 0 };

	text_printf(&t, "boot %u, from case %zu on", run->boots + 1, run->next + 1);
	report_comment(run->report, t.data, t.len);
	text_free(&t);
}

int run_all(struct run *run)
{
	int status = -1;

	report_begin(run->report, run->cases->count);
	run->limit_at = now_ms() + run->options->limit_ms;
	while (status < 0 && run->next < run->cases->count) {
		struct boot b;

		if (run->boots > 0)
			announce_restart(run);
		boot_once(&b, run);
		status = after_boot(&b);
		boot_free(&b);
	}
	text_free(&run->header);
	text_free(&run->last_said);
	if (status < 0)
		status = run->report->unexpected ? EXIT_UNEXPECTED : EXIT_AS_EXPECTED;
	return run->report->out_lost ? EXIT_BROKEN : status;
}
