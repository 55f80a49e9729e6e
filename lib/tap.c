#include "fmt.h"
#include "string.h"
#include "tap.h"

static void print(const struct platform *platform, const char *text)
{
	platform_write(platform, text, strlen(text));
}

void tap_line(const struct platform *platform, const char *before, const char *text)
{
	print(platform, before);
	print(platform, text);
	print(platform, "\n");
}

void tap_plan(const struct platform *platform, u32 count)
{
	char line[48];

	format(line, sizeof(line), "TAP version 13\n1..%u", count);
	tap_line(platform, line, count ? "" : " # SKIP no case selected");
}

void tap_result(const struct platform *platform, const struct tap_result *result)
{
	char line[400];
	size_t n;

	n = format(line, sizeof(line), "%s %u - %s", result->ok ? "ok" : "not ok", result->number,
		   result->name);
	if (result->section)
		n += format(line + n, sizeof(line) - n, " [%s]", result->section);
	if (result->skip)
		n += format(line + n, sizeof(line) - n, " # SKIP needs %s", result->skip);
	tap_line(platform, line, "");
	if (result->yaml && result->yaml[0]) {
		print(platform, "  ---\n");
		print(platform, result->yaml);
		print(platform, "  ...\n");
	}
}
