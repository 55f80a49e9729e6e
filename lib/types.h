/* The integer types and small macros that every file uses. */
#ifndef LIB_TYPES_H
#define LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define BIT(n)			(1ull << (n))
#define BITS(high, low)		((~0ull >> (63 - (high))) & (~0ull << (low)))
#define FIELD(value, high, low)	(((u64)(value) & BITS(high, low)) >> (low))
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define __section(name)		__attribute__((section(name)))
#define __used			__attribute__((used))
#define __maybe_unused		__attribute__((unused))
#define __noreturn		__attribute__((noreturn))
#define __force_inline		inline __attribute__((always_inline))
#define __returns_twice		__attribute__((returns_twice))
#define __printf(text, first)	__attribute__((format(printf, text, first)))
#define barrier()		asm volatile("" : : : "memory")

#define PAGE_SIZE		4096ull
#define PAGE_MASK		(~(PAGE_SIZE - 1))

/* The C name of SDM constants in assembly strings. */
#define __STRING(x)		#x
#define STRINGIFY(x)		__STRING(x)

#endif
