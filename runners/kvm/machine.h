/* The machine that a device tree describes. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define PAGE_SIZE_4K 0x1000ull

enum {
	MACHINE_MAX_RANGES = 16,
	MACHINE_MAX_CPUS = 64,
	MACHINE_MAX_DEVICES = 8,
	MACHINE_MAX_TEXT = 32,
};

/* KVM keeps bookkeeping for every page of a slot; no image needs more than this. */
#define MACHINE_MAX_MEMORY (16ull << 30)

/* I/O APIC, local APICs, KVM's own pages and the ROM: never RAM on a PC. */
#define MACHINE_HOLE_START 0xfec00000ull
#define MACHINE_HOLE_END 0x100000000ull

struct memory_range {
	uint64_t start;		/* guest-physical, 4 KiB aligned */
	uint64_t size;		/* bytes, 4 KiB aligned, not 0 */
};

enum device_kind {
	DEVICE_PORT_E9,		/* console: a byte written is a character */
	DEVICE_NS16550A,	/* console: a UART */
	DEVICE_PORT_TEXT,	/* power-off: a text, byte after byte */
	DEVICE_PORT_VALUE,	/* power-off: one byte of one value */
	DEVICE_VGA_PALETTE,	/* 768 bytes behind three ports */
};

struct device_description {
	enum device_kind kind;
	uint16_t port;
	uint8_t value;				/* DEVICE_PORT_VALUE */
	char text[MACHINE_MAX_TEXT + 1];	/* DEVICE_PORT_TEXT */
};

struct machine {
	struct memory_range ranges[MACHINE_MAX_RANGES];
	size_t range_count;
	uint32_t apic_ids[MACHINE_MAX_CPUS];	/* the first one boots */
	size_t cpu_count;
	const char *without;	/* what the CPUs shall lack: names with commas; or NULL */
	struct device_description devices[MACHINE_MAX_DEVICES];
	size_t device_count;
};

int machine_read(struct machine *machine, const void *tree, size_t size, struct text *error);

#endif
