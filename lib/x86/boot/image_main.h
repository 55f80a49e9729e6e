/* What an image does instead of running cases, where it defines this function. */
#ifndef BOOT_IMAGE_MAIN_H
#define BOOT_IMAGE_MAIN_H

#include "types.h"

struct platform;

/* `tree` is the one that `platform` was read from. On the stack of the boot processor. */
__noreturn void image_main(const struct platform *platform, const void *tree)
	__attribute__((weak));

#endif
