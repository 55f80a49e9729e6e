/* Text output: a buffer, a small print, and names of bits. */
#include "text.h"

#include <stdbool.h>

/* Makes `text` an empty buffer of `size` bytes at `bytes`, without a flush function. */
void text_init(struct text *text, char *bytes, size_t size)
{
	*text = (struct text){ .bytes = bytes, .size = size };
	if (size)
		bytes[0] = '\0';
}

/* Hands everything collected so far to the flush function, if there is one. */
void text_flush(struct text *text)
{
	if (!text->flush || !text->used)
		return;
	text->flush(text->context, text->bytes, text->used);
	text->used = 0;
}

/* Appends one character; flushes first when the buffer is full. */
void text_char(struct text *text, char c)
{
	if (text->used + 1 >= text->size) {
		text_flush(text);
		if (text->used + 1 >= text->size)
			return;
	}
	text->bytes[text->used++] = c;
	text->bytes[text->used] = '\0';
	text->last = c;
}

static void put_string(struct text *text, const char *s)
{
	for (; *s; s++)
		text_char(text, *s);
}

static void put_number(struct text *text, uint64_t value, unsigned int base, bool capitals,
		       char pad, unsigned int width)
{
	const char *digits = capitals ? "0123456789ABCDEF" : "0123456789abcdef";
	char reversed[20];
	unsigned int count = 0;

	do {
		reversed[count++] = digits[value % base];
		value /= base;
	} while (value);
	for (; width > count; width--)
		text_char(text, pad);
	while (count)
		text_char(text, reversed[--count]);
}

/* Appends `format` with its arguments; see text.h for the conversions it knows. */
void text_vprint(struct text *text, const char *format, va_list arguments)
{
	for (; *format; format++) {
		unsigned int width = 0;
		char pad = ' ';
		bool wide = false;

		if (*format != '%') {
			text_char(text, *format);
			continue;
		}
		format++;
		if (*format == '0')
			pad = '0';
		for (; *format >= '0' && *format <= '9'; format++)
			width = width * 10 + (unsigned int)(*format - '0');
		for (; *format == 'l'; format++)
			wide = true;

		switch (*format) {
		case 's':
			put_string(text, va_arg(arguments, const char *));
			break;
		case 'c':
			text_char(text, (char)va_arg(arguments, int));
			break;
		case 'u':
		case 'x':
		case 'X':
			put_number(text,
				   wide ? va_arg(arguments, uint64_t)
					: va_arg(arguments, unsigned int),
				   *format == 'u' ? 10 : 16, *format == 'X', pad, width);
			break;
		case '%':
			text_char(text, '%');
			break;
		default:
			return;
		}
	}
}

/* Appends `format` with its arguments; see text.h for the conversions it knows. */
void text_print(struct text *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	text_vprint(text, format, arguments);
	va_end(arguments);
}

/* Appends the names of the bits set in `value`, separated by spaces; "none" for zero. */
void text_bits(struct text *text, uint64_t value, const struct text_bit *bits, size_t count)
{
	const char *separator = "";

	if (!value)
		put_string(text, "none");
	for (size_t i = 0; i < count; i++) {
		if ((value & bits[i].mask) != bits[i].mask)
			continue;
		text_print(text, "%s%s", separator, bits[i].name);
		value &= ~bits[i].mask;
		separator = " ";
	}
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(value >> bit & 1))
			continue;
		text_print(text, "%sbit %u", separator, bit);
		separator = " ";
	}
}
