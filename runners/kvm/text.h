/* Text output without a C library's stdio: the front end must also run inside an image. */
#ifndef VMM_TEXT_H
#define VMM_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A buffer that text is appended to. When it is full, or at text_flush(), `flush` takes the
 * bytes; without `flush` what does not fit is dropped and the text stays terminated by a NUL.
 */
struct text {
	char *bytes;
	size_t size;
	size_t used;
	void (*flush)(void *context, const char *bytes, size_t count);
	void *context;
	char last;		/* last character appended; 0: none yet */
};

void text_init(struct text *text, char *bytes, size_t size);
void text_char(struct text *text, char c);
void text_flush(struct text *text);

/* Conversions: %s %c %u %x %X %%, with 0, width, l and ll. */
void text_print(struct text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void text_vprint(struct text *text, const char *format, va_list arguments);

/* One name per bit; a bit without a name prints as "bit N". */
struct text_bit {
	uint64_t mask;
	const char *name;
};

void text_bits(struct text *text, uint64_t value, const struct text_bit *bits, size_t count);

#endif
