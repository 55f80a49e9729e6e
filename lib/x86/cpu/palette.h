/*
 * The palette of a VGA, if the machine has one (the node /palette of its tree): 768 components of
 * six bits behind one data port, and every access moves on by one place. A device that keeps what
 * it is given, so that a case can tell which accesses to ports were made, and in which order.
 */
#ifndef CPU_PALETTE_H
#define CPU_PALETTE_H

#include "case.h"
#include "io.h"
#include "platform.h"

#define PALETTE_PLACES		768
#define PALETTE_COMPONENT	0x3f	/* its bits */

static inline bool palette_exists(u64 unused __maybe_unused)
{
	return this_platform()->palette_port;
}
#define PALETTE		{ .text = "a VGA palette", .met = palette_exists }

static inline u16 palette_data_port(void)
{
	return this_platform()->palette_port + 2;
}

/* The next byte read from, or written to, the data port is at place 0. */
static inline void palette_read_from_start(void)
{
	outb(this_platform()->palette_port, 0);
}

static inline void palette_write_from_start(void)
{
	outb(this_platform()->palette_port + 1, 0);
}

/* All places are as `bytes`, put there by one OUT for each; the next read is at place 0. */
static inline void palette_set(const u8 bytes[PALETTE_PLACES])
{
	u32 i;

	palette_write_from_start();
	for (i = 0; i < PALETTE_PLACES; i++)
		outb(palette_data_port(), bytes[i]);
	palette_read_from_start();
}

#endif
