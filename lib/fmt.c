#include "fmt.h"
#include "string.h"

struct sink {
	char *to;
	size_t size, length;
};

struct spec {
	bool is_long, alternative, zero, left;
	int width;
};

static void put(struct sink *sink, char c)
{
	if (sink->length + 1 < sink->size)
		sink->to[sink->length++] = c;
}

static void put_text(struct sink *sink, const char *text, size_t length)
{
	size_t room = sink->size > sink->length + 1 ? sink->size - sink->length - 1 : 0;

	if (length > room)
		length = room;
	memcpy(sink->to + sink->length, text, length);
	sink->length += length;
}

static void put_padded(struct sink *sink, const struct spec *spec, const char *prefix,
		       const char *body, size_t length)
{
	int fill = spec->width - (int)(length + strlen(prefix));

	if (!spec->left && !spec->zero)
		for (; fill > 0; fill--)
			put(sink, ' ');
	for (; *prefix; prefix++)
		put(sink, *prefix);
	if (!spec->left)
		for (; fill > 0; fill--)
			put(sink, '0');
	put_text(sink, body, length);
	for (; fill > 0; fill--)
		put(sink, ' ');
}

static void put_number(struct sink *sink, const struct spec *spec, u64 value, unsigned int base,
		       bool negative)
{
	char digits[24], *p = digits + sizeof(digits);

	do {
		*--p = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	put_padded(sink, spec, negative ? "-" : base == 16 && spec->alternative ? "0x" : "",
		   p, digits + sizeof(digits) - p);
}

static const char *parse(const char *p, struct spec *spec, va_list args)
{
	*spec = (struct spec){ 0 };
	for (;; p++) {
		if (*p == '#')
			spec->alternative = true;
		else if (*p == '0')
			spec->zero = true;
		else if (*p == '-')
			spec->left = true;
		else
			break;
	}
	if (*p == '*') {
		spec->width = va_arg(args, int);
		p++;
	}
	for (; *p >= '0' && *p <= '9'; p++)
		spec->width = spec->width * 10 + *p - '0';
	for (; *p == 'l'; p++)
		spec->is_long = true;
	return p;
}

/* A struct around va_list: a parameter of array type could not be passed on by address. */
struct arguments {
	va_list list;
};

static void convert(struct sink *sink, char kind, const struct spec *spec, struct arguments *args)
{
	const char *text;
	s64 value;

	switch (kind) {
	case 'c':
		put(sink, va_arg(args->list, int));
		break;
	case 's':
		text = va_arg(args->list, const char *);
		text = text ? text : "(null)";
		put_padded(sink, &(struct spec){ .width = spec->width, .left = spec->left }, "",
			   text, strlen(text));
		break;
	case 'd':
		value = spec->is_long ? va_arg(args->list, long) : va_arg(args->list, int);
		put_number(sink, spec, value < 0 ? -(u64)value : (u64)value, 10, value < 0);
		break;
	case 'u':
	case 'x':
		put_number(sink, spec, spec->is_long ? va_arg(args->list, unsigned long) :
			   va_arg(args->list, unsigned int), kind == 'x' ? 16 : 10, false);
		break;
	default:
		put(sink, kind);
	}
}

size_t format_list(char *to, size_t size, const char *text, va_list list)
{
	struct sink sink = { .to = to, .size = size };
	struct arguments args;
	struct spec spec;

	va_copy(args.list, list);
	for (; *text; text++) {
		if (*text != '%') {
			put(&sink, *text);
			continue;
		}
		text = parse(text + 1, &spec, args.list);
		if (!*text)
			break;
		convert(&sink, *text, &spec, &args);
	}
	va_end(args.list);
	if (size)
		to[sink.length] = 0;
	return sink.length;
}

size_t format(char *to, size_t size, const char *text, ...)
{
	va_list args;
	size_t length;

	va_start(args, text);
	length = format_list(to, size, text, args);
	va_end(args);
	return length;
}

const char *format_number(char *to, size_t size, u64 value)
{
	if (value < 10)
		format(to, size, "%lu", value);
	else if (value < 100000)
		format(to, size, "%#lx (%lu)", value, value);
	else
		format(to, size, "%#lx", value);
	return to;
}

const char *format_bits(char *to, size_t size, u64 value, const struct bit_name *names)
{
	size_t n = 0;

	to[0] = 0;
	for (; names->name; names++) {
		if (!(value & names->bit))
			continue;
		n += format(to + n, size - n, "%s%s", n ? "|" : "", names->name);
		value &= ~names->bit;
	}
	if (value || !n)
		format(to + n, size - n, "%s%#lx", n ? "|" : "", value);
	return to;
}
