/* What a kernel and its Bochs have to say, and whoever wants to hear it: a part of session. */
#ifndef LINUX_WORDS_H
#define LINUX_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum {
	LINE_MAX_BYTES = 8192,
	PATH_BYTES = 4096,
};

/* Whoever waits for the image. */
struct client {
	int file; /* gets the console */
	bool gone;
	bool socket; /* file is one: its other end may go away at any time */
	bool midway; /* what it got last is not the end of a line */
	char held[LINE_MAX_BYTES]; /* lines for the end of the one that it is in the middle of */
	char why[512]; /* an image cannot be run: the reason, for standard error */
};

/* Writes `bytes` to the client; one that cannot be reached is gone from then on. */
void tell_bytes(struct client *client, const char *bytes, size_t size);

/* Tells whole lines, as printf() does; they begin a line, whatever the console has written. */
void tell(struct client *client, const char *format, ...);

/* The same for a line that must not break one of the console: it may have to wait for its end. */
void tell_later(struct client *client, const char *format, ...);

/* Part of the console, perhaps the end of a line. */
void tell_console(struct client *client, const char *text, bool ends_line);

/* Tells what still waits. */
void tell_held(struct client *client);

/* The same as tell(), and it is why the machine cannot be started. */
void tell_why(struct client *client, const char *format, ...);

/* True for the first line of what a kernel says of a bug of its own. The time may stand in front.
 */
bool is_bug(const char *line);

/* The machine in `folder` has died: the last that its kernel and Bochs said. */
void tell_last_words(const char *folder, struct client *client);

/* How long the serial console of the machine in `folder` is. */
long serial_size(const char *folder);

/* True when the kernel of the machine in `folder` has said on its serial console that it panics. */
bool kernel_panicked(const char *folder);

/*
 * Looks for a bug that the kernel in `folder` has reported on its serial console behind byte
 * `from`, and tells it as the running case's. init would have said it, if it still ran: it does not
 * when the only processor spins in the kernel. Returns whether there was one.
 */
bool tell_hidden_bug(const char *folder, long from, struct client *client);

#endif
