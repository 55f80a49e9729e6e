/*
 * Included first by every file of supervise: asks the C library for its Linux interfaces, and
 * brings the types that everything uses.
 */
#ifndef SUPERVISE_BASE_H
#define SUPERVISE_BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses of supervise, see docs/design.md. */
#define EXIT_AS_EXPECTED 0
#define EXIT_UNEXPECTED 1
#define EXIT_BROKEN 2

/* Lets the compiler check the arguments of a function like printf. */
#define PRINTF_LIKE(text, first) __attribute__((__format__(__printf__, text, first)))

#endif
