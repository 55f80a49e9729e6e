#include "case.h"
#include "platform.h"
#include "string.h"
#include "tap.h"

#define YAML_SIZE	8192
#define FAILURES_SHOWN	12

/* What the running case has come to. One per image: cases run one after another. */
static struct {
	const struct platform *platform;
	const struct case_machine *machine;
	const struct case_def *def;
	u32 failures;
	char yaml[2 * YAML_SIZE];	/* failures, then notes, as indented YAML; half each */
	size_t yaml_length;
	char notes[YAML_SIZE];
	size_t notes_length;
	char skip[200];
	bool boot_again;
	u64 random;
} run;

extern const struct case_def __cases_start[], __cases_end[];

/* The second link of an image brings these: imageinfo --sections. */
extern const char *const case_sections[] __attribute__((weak));
extern const unsigned int case_section_count __attribute__((weak));

extern void (*const before_each_case)(void) __attribute__((weak));

/* Text as a double-quoted YAML scalar on one line. */
static size_t quote(char *to, size_t size, const char *text)
{
	size_t n = format(to, size, "\"");

	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			n += format(to + n, size - n, "\\%c", *text);
		else if (*text == '\n')
			n += format(to + n, size - n, "\\n");
		else if ((u8)*text < ' ' || (u8)*text > '~')
			n += format(to + n, size - n, "\\x%02x", (u8)*text);
		else
			n += format(to + n, size - n, "%c", *text);
	}
	return n + format(to + n, size - n, "\"");
}

static void yaml(char *to, size_t *length, const char *key, const char *text)
{
	/* All or nothing: half a line would break the block. */
	char line[700];
	size_t n = format(line, sizeof(line), "  %s: ", key);

	n += quote(line + n, sizeof(line) - n - 2, text);
	if (line[n - 1] != '"')
		line[n++] = '"';
	line[n++] = '\n';
	line[n] = 0;
	if (*length + n < YAML_SIZE) {
		memcpy(to + *length, line, n + 1);
		*length += n;
	}
}

void case_fail(const char *file, u32 line, const char *what, const char *expected,
	       const char *got)
{
	char at[160];

	if (++run.failures > FAILURES_SHOWN)
		return;
	if (run.failures == 1)
		run.yaml_length = format(run.yaml, YAML_SIZE, "  failures:\n");
	format(at, sizeof(at), "%s:%u", file ? file : run.def->file, file ? line : run.def->line);
	yaml(run.yaml, &run.yaml_length, "  - what", what);
	yaml(run.yaml, &run.yaml_length, "    expected", expected);
	yaml(run.yaml, &run.yaml_length, "    got", got);
	yaml(run.yaml, &run.yaml_length, "    at", at);
}

void case_note(const char *key, const char *text, ...)
{
	char value[500];
	va_list args;

	va_start(args, text);
	format_list(value, sizeof(value), text, args);
	va_end(args);
	yaml(run.notes, &run.notes_length, key, value);
}

bool case_failed(void)
{
	return run.failures;
}

bool case_expect_equal(const char *file, u32 line, const char *what, u64 got, u64 want)
{
	char expected[48], value[48];

	if (got == want)
		return true;
	case_fail(file, line, what, format_number(expected, sizeof(expected), want),
		  format_number(value, sizeof(value), got));
	return false;
}

bool case_expect_true(const char *file, u32 line, const char *what, bool condition)
{
	if (!condition)
		case_fail(file, line, what, "true", "false");
	return condition;
}

void case_boot_again(void)
{
	run.boot_again = true;
}

bool case_will_boot_again(void)
{
	return run.boot_again;
}

void case_end(void)
{
	run.machine->leave();
}

void case_skip(const char *text, ...)
{
	va_list args;

	va_start(args, text);
	format_list(run.skip, sizeof(run.skip), text, args);
	va_end(args);
	case_end();
}

void bail_out(const char *text, ...)
{
	char why[300];
	va_list args;

	va_start(args, text);
	format_list(why, sizeof(why), text, args);
	va_end(args);
	tap_line(this_platform(), "Bail out! ", why);
	platform_off(this_platform());
}

void tap_comment(const char *text, ...)
{
	char line[600];
	va_list args;

	va_start(args, text);
	format_list(line, sizeof(line), text, args);
	va_end(args);
	tap_line(run.platform, "# ", line);
}

/* splitmix64: every seed is a good seed. */
u64 case_random(void)
{
	u64 z = run.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void run_body(void)
{
	const struct need *need;
	size_t n = 0;

	/* All unmet needs at once: who reads one SKIP should not find the next after mending it. */
	for (need = run.def->needs; need && need->text; need++)
		if (!need->met(need->arg))
			n += format(run.skip + n, sizeof(run.skip) - n, "%s%s", n ? ", " : "",
				    need->text);
	if (n)
		return;
	if (&before_each_case)
		before_each_case();
	run.def->run(run.def);
}

static void run_case(u32 index, u32 number)
{
	const struct case_def *def = &__cases_start[index];
	struct tap_result result = { .number = number, .name = def->name };

	run.def = def;
	run.failures = 0;
	run.skip[0] = run.yaml[0] = run.notes[0] = 0;
	run.yaml_length = run.notes_length = 0;
	/* Not from the number: alone or in another order, a case draws the same numbers. */
	run.random = run.platform->seed + index;

	run.machine->guarded(run_body);
	run.machine->restore();

	if (&case_section_count && index < case_section_count)
		result.section = case_sections[index];
	if (run.failures > FAILURES_SHOWN)
		case_note("more_failures", "%u", run.failures - FAILURES_SHOWN);
	result.ok = !run.failures;
	if (result.ok && run.skip[0])
		result.skip = run.skip;
	if (!result.ok) {
		memcpy(run.yaml + run.yaml_length, run.notes, run.notes_length + 1);
		result.yaml = run.yaml;
	}
	tap_result(run.platform, &result);
}

void cases_run(const struct platform *platform, const struct case_machine *machine)
{
	u32 all = __cases_end - __cases_start;
	u32 count = platform->case_count ? platform->case_count : all;
	u32 i, number;

	run.platform = platform;
	run.machine = machine;
	tap_plan(platform, platform->plan ? platform->plan : platform->first - 1 + count);
	tap_comment("exitpath image %s, seed %lu", platform->image, platform->seed);
	for (i = 0; i < count; i++) {
		number = platform->case_count ? platform->cases[i] : i + 1;
		if (!number || number > all)
			bail_out("exitpath,cases asks for case %u of %u", number, all);
		run_case(number - 1, platform->first + i);
		if (run.boot_again && i + 1 < count) {
			tap_comment("exitpath boot again");
			break;
		}
	}
	platform_off(platform);
}
