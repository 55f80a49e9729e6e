/* What runners/linux/session.c on the host and runners/linux/init.c in the kernel say to each
 * other. */
#ifndef LINUX_WIRE_H
#define LINUX_WIRE_H

#include <stdint.h>

#define SECTOR_SIZE   512u
#define REQUEST_MAGIC "exitpath"

/* Sector 0 of the disk. */
struct request {
	char magic[8];
	uint32_t number;     /* 0: none yet; another one: another request */
	uint32_t image_size; /* bytes, from sector 1 on */
	uint32_t tree_size;  /* bytes, from the next whole sector on */
};

/* The beginning of a line on port E9h; what does not begin like this is not from init. */
#define FRAME_BEGIN '\001'

enum frame {
	FRAME_READY = 'r',  /* a request may come */
	FRAME_LINE = 'l',   /* a line of the image's console */
	FRAME_PART = 'p',   /* bytes of its console without the end of a line */
	FRAME_KERNEL = 'k', /* a message of the kernel, a warning or worse */
	FRAME_END = 'e',    /* the VMM has ended, with this exit status */
	FRAME_FAILED = 'f', /* init cannot go on, and why */
};

#endif
