/* What a kernel says: on the console of its machine, and of its own bugs. See words.h. */
#include "words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LAST_WORDS = 40, /* lines of the kernel's console that a dead machine leaves */
};

void tell_bytes(struct client *client, const char *bytes, size_t size)
{
	while (size && !client->gone) {
		const ssize_t written = write(client->file, bytes, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			client->gone = true;
		else {
			client->midway = bytes[written - 1] != '\n';
			bytes += written;
			size -= (size_t)written;
		}
	}
}

static void end_line(struct client *client)
{
	if (client->midway)
		tell_bytes(client, "\n", 1);
	tell_bytes(client, client->held, strlen(client->held));
	client->held[0] = 0;
}

void tell(struct client *client, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	end_line(client);
	tell_bytes(client, text, size < (int)sizeof(text) ? (size_t)size : sizeof(text) - 1);
}

void tell_later(struct client *client, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (client->midway && strlen(client->held) + strlen(text) < sizeof(client->held))
		strcat(client->held, text);
	else
		tell(client, "%s", text);
}

void tell_held(struct client *client)
{
	if (client->held[0])
		end_line(client);
}

void tell_console(struct client *client, const char *text, bool ends_line)
{
	tell_bytes(client, text, strlen(text));
	if (!ends_line)
		return;
	tell_bytes(client, "\n", 1);
	end_line(client);
}

void tell_why(struct client *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(client->why, sizeof(client->why), format, args);
	va_end(args);
	tell(client, "# linux: %s\n", client->why);
}

/* A line of a kernel's console without the time in front: "[   12.335392] ". */
static const char *without_time(const char *line)
{
	const char *end = line[0] == '[' ? strstr(line, "] ") : NULL;

	return end ? end + 2 : line;
}

bool is_bug(const char *line)
{
	static const char *const signs[] = {
		"------------[ cut here ]------------", /* WARN() with words has them next */
		"WARNING: ",
		"BUG: ",
		"BUG ",
		"refcount_t: ",
		"kernel BUG at ",
		"Oops",
		"general protection fault",
		"Kernel panic",
		"rcu: INFO: ",
		"unchecked MSR access error",
		"stack segment: ",
		"double fault",
		"PANIC: ",
		"divide error: ",
		"invalid opcode: ",
		"UBSAN: ",
		"INFO: task ",
		"watchdog: BUG: ",
		"watchdog: Watchdog detected ",
		"NMI watchdog: Watchdog detected ",
	};

	line = without_time(line);
	for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++)
		if (strncmp(line, signs[i], strlen(signs[i])) == 0)
			return true;
	return false;
}

/* Opens the file `name` of the machine in `folder` for reading. */
static FILE *open_in(const char *folder, const char *name)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return fopen(path, "re");
}

void tell_last_words(const char *folder, struct client *client)
{
	static const char *const names[] = { "log", "stderr", "serial" };
	char line[512];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const bool serial = strcmp(names[i], "serial") == 0;
		FILE *file = open_in(folder, names[i]);
		unsigned int lines = 0;

		if (!file)
			continue;
		while (fgets(line, sizeof(line), file))
			lines++;
		rewind(file);
		while (fgets(line, sizeof(line), file)) {
			const bool last = lines-- <= LAST_WORDS;

			line[strcspn(line, "\r\n")] = 0;
			/*
			 * Of Bochs's log only what made it stop: ">>PANIC<<" there, "p[" in front.
			 * Of the kernel also how its bugs began, which a long trace may have pushed
			 * out of the end.
			 */
			if (serial ? last || is_bug(line)
				   : strstr(line, "PANIC") || strstr(line, "p["))
				tell(client, "# linux: %s: %s\n", serial ? "kernel" : "bochs",
				     line);
		}
		fclose(file);
	}
}

long serial_size(const char *folder)
{
	char path[PATH_BYTES];
	struct stat file;

	snprintf(path, sizeof(path), "%s/serial", folder);
	return stat(path, &file) ? 0 : (long)file.st_size;
}

bool kernel_panicked(const char *folder)
{
	FILE *file = open_in(folder, "serial");
	char line[512];
	bool panic = false;

	if (!file)
		return false;
	while (!panic && fgets(line, sizeof(line), file))
		panic = strncmp(without_time(line), "Kernel panic", 12) == 0;
	fclose(file);
	return panic;
}

bool tell_hidden_bug(const char *folder, long from, struct client *client)
{
	FILE *file = open_in(folder, "serial");
	char line[512];
	bool bug = false;

	if (!file)
		return false;
	if (fseek(file, from, SEEK_SET) == 0) {
		while (fgets(line, sizeof(line), file)) {
			line[strcspn(line, "\r\n")] = 0;
			bug |= is_bug(line);
			if (bug)
				tell(client, "kernel: %s\n", line);
		}
	}
	fclose(file);
	return bug;
}
