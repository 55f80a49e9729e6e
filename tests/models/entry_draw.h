/*
 * The inputs of a fuzzer as scenes of VM entry: entry_fuzz.c and exit_fuzz.c.
 *
 * An input becomes one of the imagined processors, a base state, then fields that are written, bits
 * that are flipped, memory, and the state of the processor. One that ends early leaves the rest as
 * it is.
 */
#ifndef ENTRY_DRAW_H
#define ENTRY_DRAW_H

#include "entry_world.h"

struct input {
	const u8 *data;
	size_t size;
};

/* The next bytes of the input as a number; 0 behind its end. */
u64 draw(struct input *input, u32 bytes);

/* Writes one of `fields`, any, or flips bits of it. */
void draw_field(struct input *input, u64 *fields);

void draw_scene(struct input *input, struct entry_scene *scene);

/* What libFuzzer calls. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* A property that holds whatever the rules are. */
#define MUST(condition) \
	do { if (!(condition)) contradiction(#condition, __FILE__, __LINE__); } while (0)
void contradiction(const char *what, const char *file, int line);

#endif
