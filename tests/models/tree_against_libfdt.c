/*
 * tree_against_libfdt TREE ROUNDS: lib/tree.c against libfdt, on mutated copies of a tree.
 *
 * What lib/tree.c accepts libfdt must accept, and both must find the same properties. Built with
 * the address sanitizer by tests/tree.t, so that no byte outside the tree is touched. Prints how
 * many copies each of them accepted; exit status 1 and a line that says why when they differ.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "tree.h"

enum { MOST_BYTES = 0x10000, MOST_CHANGES = 3 };

static const char *const node_names[] = { "console", "poweroff", "palette", "cpus", "chosen" };
static const char *const property_names[] = {
	"compatible", "exitpath,port", "exitpath,text", "exitpath,sweep", "#size-cells",
};

/* xorshift: the same copies in every run. */
static unsigned int random_number(void)
{
	static unsigned int state = 0x2545f491;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static int differ(unsigned int round, const char *what, const char *name)
{
	printf("round %u: %s %s\n", round, what, name);
	return 1;
}

static int compare_node(unsigned int round, const struct tree *tree, const void *blob, int own,
			int offset)
{
	for (size_t i = 0; i < sizeof(property_names) / sizeof(property_names[0]); i++) {
		const char *name = property_names[i];
		int length;
		uint32_t size;
		const void *theirs = fdt_getprop(blob, offset, name, &length);
		const void *ours = tree_property(tree, own, name, &size);

		if (theirs != ours || (ours && (int)size != length))
			return differ(round, "another property", name);
	}
	return 0;
}

static int compare(unsigned int round, const struct tree *tree, const void *blob)
{
	if (compare_node(round, tree, blob, TREE_ROOT, 0))
		return 1;
	for (size_t i = 0; i < sizeof(node_names) / sizeof(node_names[0]); i++) {
		const int own = tree_find(tree, TREE_ROOT, node_names[i]);
		const int offset = fdt_subnode_offset(blob, 0, node_names[i]);

		if ((own == TREE_NONE) != (offset < 0))
			return differ(round, "one finds and one does not", node_names[i]);
		if (own != TREE_NONE && compare_node(round, tree, blob, own, offset))
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static unsigned char original[MOST_BYTES];
	static struct tree tree;
	unsigned int rounds, ours = 0, theirs = 0;
	FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
	size_t size;

	if (!file) {
		fputs("usage: tree_against_libfdt TREE ROUNDS\n", stderr);
		return 2;
	}
	size = fread(original, 1, sizeof(original), file);
	rounds = (unsigned int)strtoul(argv[2], NULL, 0);
	for (unsigned int round = 0; round < rounds; round++) {
		unsigned char *copy = malloc(size);
		unsigned int changes = round ? 1 + random_number() % MOST_CHANGES : 0;
		int accepted;

		memcpy(copy, original, size);
		while (changes--)
			copy[random_number() % size] = (unsigned char)(random_number() >> 8);
		/* Reserved memory is nothing that an image reads: its offset, and the map. */
		memcpy(copy + 16, original + 16, 4);
		memcpy(copy + 40, original + 40, 16);
		/* A tree that claims more than there is would be read to where it claims to end. */
		if (fdt_totalsize(copy) > size) {
			free(copy);
			continue;
		}
		accepted = fdt_check_full(copy, size) == 0;
		theirs += accepted;
		if (!tree_open(&tree, copy)) {
			ours++;
			if (!accepted)
				return differ(round, "accepted, but not by", "libfdt");
			if (compare(round, &tree, copy))
				return 1;
		} else if (!round) {
			return differ(round, "refused:", tree_open(&tree, copy));
		}
		free(copy);
	}
	printf("%u of %u accepted, %u by libfdt\n", ours, rounds, theirs);
	return 0;
}
