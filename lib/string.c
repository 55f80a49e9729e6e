#include "string.h"
#include "types.h"

/* By quadwords: a hypervisor that emulates string instructions does so element by element. */
void *memcpy(void *to, const void *from, size_t size)
{
	size_t quadwords = size / 8, bytes = size % 8;
	void *result = to;

	asm volatile("rep movsq" : "+D" (to), "+S" (from), "+c" (quadwords) : : "memory");
	asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (bytes) : : "memory");
	return result;
}

void *memmove(void *to, const void *from, size_t size)
{
	u8 *t = to;
	const u8 *f = from;

	if (t <= f || t >= f + size)
		return memcpy(to, from, size);
	while (size--)
		t[size] = f[size];
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	u64 pattern = (u8)byte * 0x0101010101010101ull;
	size_t quadwords = size / 8, bytes = size % 8;
	void *result = to;

	asm volatile("rep stosq" : "+D" (to), "+c" (quadwords) : "a" (pattern) : "memory");
	asm volatile("rep stosb" : "+D" (to), "+c" (bytes) : "a" (pattern) : "memory");
	return result;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const u8 *x = a, *y = b;

	for (; size; size--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

void *memchr(const void *in, int byte, size_t size)
{
	const u8 *p = in;

	for (; size; size--, p++)
		if (*p == (u8)byte)
			return (void *)p;
	return NULL;
}

size_t strnlen(const char *s, size_t max)
{
	const char *end = s;
	size_t left = max;
	bool found = false;

	if (!max)
		return 0;
	asm volatile("repne scasb" : "+D" (end), "+c" (left), "=@ccz" (found) : "a" (0) : "memory");
	return end - s - found;
}

size_t strlen(const char *s)
{
	return strnlen(s, ~0ul);
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (u8)*a - (u8)*b;
}

char *strchr(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)s;
		if (!*s)
			return NULL;
	}
}

char *strrchr(const char *s, int c)
{
	const char *last = NULL;

	do {
		if (*s == (char)c)
			last = s;
	} while (*s++);
	return (char *)last;
}

static unsigned int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'Z')
		return c - 'A' + 10;
	return ~0u;
}

unsigned long strtoul(const char *s, char **end, int base)
{
	unsigned long value = 0;

	if (base == 0)
		base = s[0] != '0' ? 10 : (s[1] | 0x20) == 'x' ? 16 : 8;
	if (base == 16 && s[0] == '0' && (s[1] | 0x20) == 'x')
		s += 2;
	for (; digit(*s) < (unsigned int)base; s++)
		value = value * base + digit(*s);
	if (end)
		*end = (char *)s;
	return value;
}

/* Debian's libfdt.a is built with a stack protector; its canary is whatever lies at FS:28H. */
__noreturn void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
	asm volatile("ud2");
	__builtin_unreachable();
}
