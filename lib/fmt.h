/*
 * Formatted text, a subset of printf: %c %s %d %u %x with 'l', '#', '0', '-', a width or '*',
 * and %%. Text that does not fit is cut; the result is always terminated.
 */
#ifndef LIB_FMT_H
#define LIB_FMT_H

#include <stdarg.h>
#include "types.h"

/* Returns the length written, without the terminator, at most size - 1. */
size_t format(char *to, size_t size, const char *text, ...) __printf(3, 4);
size_t format_list(char *to, size_t size, const char *text, va_list args);

/* One value for a reader: decimal when small, else hexadecimal; e.g. "5", "0x1000 (4096)". */
const char *format_number(char *to, size_t size, u64 value);

/* The names of the bits that are set, joined by '|'; the rest in hexadecimal. */
struct bit_name {
	u64 bit;
	const char *name;
};

const char *format_bits(char *to, size_t size, u64 value, const struct bit_name *names);

#endif
