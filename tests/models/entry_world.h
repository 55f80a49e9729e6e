/*
 * Imagined processors for tests of the model of VM entry, and the scene of a 64-bit guest on them,
 * with a page of memory that can be written.
 */
#ifndef ENTRY_WORLD_H
#define ENTRY_WORLD_H

#include "vmx/entry_scene.h"

#define PAGE_AT		0x40000000ull
#define EMPTY_AT	0x40001000ull
#define VMCS_AT		0x50000000ull
#define EPTP		(0x60000000ull | 3 << 3 | 6)
#define REVISION_ID	0x1234

/* One processor has everything, one next to nothing. world_make() fills them in. */
enum { RICH, POOR, PROCESSORS };
extern struct entry_cpu world_processors[PROCESSORS];
void world_make(void);

/* What is at PAGE_AT; read as it is, by 4 or 8 bytes. */
extern u64 world_page[512];

/* The valid 64-bit guest, as entry_set_base() wants it; the page is all zero. */
void world_scene(struct entry_scene *scene, u32 processor);

#endif
