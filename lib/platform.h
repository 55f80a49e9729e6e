/*
 * The machine as the device tree describes it: docs/design.md, "What the image is told".
 * Nothing else in an image knows which platform it runs on.
 */
#ifndef LIB_PLATFORM_H
#define LIB_PLATFORM_H

#include "types.h"

#define PLATFORM_MAX_CPUS	8
#define PLATFORM_MAX_MEMORY	8
#define PLATFORM_MAX_CASES	8192

enum console_kind { CONSOLE_NONE, CONSOLE_PORT_E9, CONSOLE_NS16550A };
enum poweroff_kind { POWEROFF_NONE, POWEROFF_PORT_TEXT, POWEROFF_PORT_VALUE };

struct platform_memory {
	u64 start, size;		/* bytes */
};

struct platform {
	char model[32];
	char image[64];

	enum console_kind console;
	u16 console_port;

	enum poweroff_kind poweroff;
	u16 poweroff_port;
	u8 poweroff_value;
	char poweroff_text[32];

	u16 palette_port;		/* 0: the tree has none */
	u16 a20_port;			/* likewise; bit 1 there lets address bit 20 through */

	struct platform_memory memory[PLATFORM_MAX_MEMORY];
	u32 memory_count;
	u32 apic_id[PLATFORM_MAX_CPUS];
	u32 cpu_count;

	u16 cases[PLATFORM_MAX_CASES];	/* numbers from 1; none: run all */
	u32 case_count;
	u32 first, plan;		/* TAP numbers; plan 0: as many as there are */
	u64 seed;
	u32 count;			/* see platform_count() */
	u32 sweep_percent;		/* of the accesses of a sweep that are made: 1 to 100 */
	u32 entry_percent;		/* likewise of the VM entries of a sweep or of walks */
	/* Of the VM entries behind a case's first, those that are audited in full: 0 to 100. */
	u32 audit_percent;
	bool audit_all;			/* all VM entries in full, of sweeps and walks as well */
	bool audit_none;		/* none at all, to measure what the audit costs */
	/* Rules of the audit that the machine is known to break: names, each with its 0. */
	char audit_waived[512];
	u32 audit_waived_size;
	/* Walks leave out VM entries with pages that no memory is behind: entry/hazard.c. */
	bool addresses_need_memory;
	/* They leave out an IA-32e mode guest without CR0.PE. */
	bool long_mode_needs_protection;
};

/*
 * Reads the tree at `tree` into `platform`, all of which must be zero. Returns NULL, or what is
 * wrong with the tree.
 */
const char *platform_read(struct platform *platform, const void *tree);

/* Writes to the platform's console, at once. */
void platform_write(const struct platform *platform, const char *text, size_t length);

/* Switches the machine off. */
__noreturn void platform_off(const struct platform *platform);

/*
 * For an image without a usable tree: says `why` on every console that can be reached, those
 * in `platform` and the usual ones, then tries every power-off, at last a triple fault.
 */
__noreturn void platform_die(struct platform *platform, const char *why);

/* The machine this image runs on; valid once cases run. */
const struct platform *this_platform(void);

/*
 * How often an image that asks draws at random; 0: its own number. That it has this function in it
 * is what tells ./exitpath run that the image has a use for --count (tools/imageinfo).
 */
u32 platform_count(void);

#endif
