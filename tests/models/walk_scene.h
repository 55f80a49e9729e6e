/*
 * A scene: all that walk() is asked about at once, and what it answered. walk_fuzz.c makes scenes
 * of fuzzer input, walk_properties.c says what must hold for each.
 */
#ifndef WALK_SCENE_H
#define WALK_SCENE_H

#include <stddef.h>

#include "mmu/walk.h"

/* Bits of entries. */
#define P	BIT(0)
#define RW	BIT(1)
#define US	BIT(2)
#define A	BIT(5)
#define D	BIT(6)
#define PS	BIT(7)
#define G	BIT(8)
#define XD	BIT(63)

struct input {
	const u8 *data;
	size_t size;
	u64 state;			/* of the pseudo-random numbers that go on after it */
};

#define SLOTS 40

/* Eight bytes per slot; a slot comes into being, made up from the input, when it is read. */
struct memory {
	struct input *input;
	u64 clear;			/* these bits of every entry read as 0 */
	bool is_32_bit;			/* entries are four bytes */
	u32 count;
	struct slot { u64 address, value; } slot[SLOTS];
};

/* To change a scene, copy it: the copy has a memory of its own. */
struct scene {
	struct walk_cpu cpu;
	struct walk_access access;
	struct memory memory;
	struct walk_result result;
};

/* Asks the model; the answer is in result. */
void walk_scene(struct scene *scene);

/* A walk_read of a struct memory. */
u64 read_memory(void *memory, u64 address, u32 size);

/* Clears, then sets bits of the entry at a physical address. */
void patch(struct memory *memory, u64 address, u64 set, u64 clear);

/* Whether something in the 4-KByte page was read or written. */
bool uses_page(const struct memory *memory, u64 page);

/* Prints two scenes and what should have been true of them, and aborts. */
void contradict(const struct scene *one, const struct scene *other, const char *what, int line);

#define REQUIRE(one, other, condition) \
	do { \
		if (!(condition)) \
			contradict(one, other, #condition, __LINE__); \
	} while (0)

/* Aborts, with an explanation, when something does not hold for the walked scene. */
struct property {
	const char *name;
	void (*require)(const struct scene *scene);
};

extern const struct property properties[];
extern const u32 property_count;

#endif
