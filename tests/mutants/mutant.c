/*
 * A build with all mutants: which one it is says exitpath,mutant
 * in /chosen. The linker puts this before platform_read().
 */
#include "platform.h"
#include "tree.h"

#include "mutant.h"

unsigned int hv_mutant;

const char *__real_platform_read(struct platform *platform, const void *blob);
const char *__wrap_platform_read(struct platform *platform, const void *blob);

const char *__wrap_platform_read(struct platform *platform, const void *blob)
{
	static struct tree tree;
	const u32 *cell;
	u32 size;

	if (!tree_open(&tree, blob)) {
		cell = tree_property(&tree, tree_find(&tree, TREE_ROOT, "chosen"),
				     "exitpath,mutant", &size);
		if (cell && size == sizeof(*cell))
			hv_mutant = tree_cell(*cell);
	}
	return __real_platform_read(platform, blob);
}
