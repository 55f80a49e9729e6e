/*
 * Reads a flattened device tree: checked as a whole in one pass, then asked for nodes and their
 * properties. Devicetree Specification 0.4, chapter 5.
 *
 * Not libfdt, which host programs use: it comes back to a check of the whole for every byte of a
 * name, and where a hypervisor emulates what an image executes, two thirds of a boot went there.
 */
#ifndef LIB_TREE_H
#define LIB_TREE_H

#include "types.h"

#define TREE_MAX_SIZE	0x100000	/* bytes; larger than any ROM: a wild size, not a tree */
#define TREE_MAX_NODES	64
#define TREE_ROOT	0
#define TREE_NONE	-1

struct tree {
	const char *strings;
	u32 strings_size;
	u32 count;
	struct {
		const char *name;
		const u32 *properties;	/* the token behind the name */
		int parent;		/* TREE_NONE for the root */
	} nodes[TREE_MAX_NODES];
};

/*
 * Checks all of the tree at `blob`, which may be anything of at least 40 bytes, aligned to 8.
 * Returns NULL, and `tree` can be asked; or what is wrong: "bad header", "bad structure", ...
 */
const char *tree_open(struct tree *tree, const void *blob);

/* The child of `parent` with the name, without regard to a unit address; or TREE_NONE. */
int tree_find(const struct tree *tree, int parent, const char *name);

/* The first child of `parent` behind `node`, TREE_NONE: of all; or TREE_NONE. */
int tree_next_child(const struct tree *tree, int parent, int node);

/* The value of a property, `size` bytes, aligned to 4; or NULL. */
const void *tree_property(const struct tree *tree, int node, const char *name, u32 *size);

/* A cell of a property. */
static inline u32 tree_cell(u32 raw)
{
	return __builtin_bswap32(raw);
}

#endif
