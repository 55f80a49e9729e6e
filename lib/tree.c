#include "string.h"
#include "tree.h"

#define MAGIC		0xd00dfeed
#define VERSION		17	/* and what is compatible with it */

enum token {
	BEGIN_NODE = 1,
	END_NODE,
	PROPERTY,
	NOP,
	END = 9,
};

/* 5.2 Header: big-endian cells. */
enum header {
	HEADER_MAGIC,
	HEADER_TOTAL_SIZE,
	HEADER_STRUCTURE,
	HEADER_STRINGS,
	HEADER_RESERVATIONS,
	HEADER_VERSION,
	HEADER_LAST_COMPATIBLE,
	HEADER_BOOT_CPU,
	HEADER_STRINGS_SIZE,
	HEADER_STRUCTURE_SIZE,
	HEADER_CELLS,
};

/* The structure block, as far as it has been read. */
struct cursor {
	const u32 *at, *end;
};

/* Whether `size` bytes from `offset` lie in the tree, behind its header. */
static bool lies_within(u32 total, u32 offset, u32 size)
{
	return offset >= HEADER_CELLS * 4 && offset <= total && size <= total - offset;
}

static const char *check_header(const u32 *header)
{
	u32 total = tree_cell(header[HEADER_TOTAL_SIZE]);
	u32 structure = tree_cell(header[HEADER_STRUCTURE]);
	u32 strings = tree_cell(header[HEADER_STRINGS]);

	if (tree_cell(header[HEADER_MAGIC]) != MAGIC ||
	    tree_cell(header[HEADER_VERSION]) < VERSION ||
	    tree_cell(header[HEADER_LAST_COMPATIBLE]) > VERSION)
		return "bad header";
	if (total > TREE_MAX_SIZE)
		return "it claims more than 1 MiB";
	if (structure % 4 ||
	    !lies_within(total, structure, tree_cell(header[HEADER_STRUCTURE_SIZE])) ||
	    !lies_within(total, strings, tree_cell(header[HEADER_STRINGS_SIZE])))
		return "bad header";
	return NULL;
}

/* Takes `size` bytes and the padding to the next cell; NULL when there are not so many. */
static const void *take(struct cursor *cursor, u32 size)
{
	const u32 *taken = cursor->at;

	if (size > (size_t)(cursor->end - cursor->at) * 4)
		return NULL;
	cursor->at += (size + 3) / 4;
	return taken;
}

static bool take_cell(struct cursor *cursor, u32 *value)
{
	const u32 *cell = take(cursor, 4);

	if (cell)
		*value = tree_cell(*cell);
	return cell;
}

/* A name and its NUL. */
static const char *take_name(struct cursor *cursor)
{
	const char *name = (const char *)cursor->at;
	size_t room = (size_t)(cursor->end - cursor->at) * 4, length = strnlen(name, room);

	return length < room ? take(cursor, length + 1) : NULL;
}

/* Behind the token of a property: its size, its name as an offset of the strings, its value. */
static const void *take_property(const struct tree *tree, struct cursor *cursor, u32 *size,
				 const char **name)
{
	u32 offset;

	if (!take_cell(cursor, size) || !take_cell(cursor, &offset) ||
	    offset >= tree->strings_size)
		return NULL;
	*name = tree->strings + offset;
	return take(cursor, *size);
}

static const char *add_node(struct tree *tree, struct cursor *cursor, int parent)
{
	const char *name = take_name(cursor);

	if (!name || (parent == TREE_NONE && *name))
		return "bad structure";
	if (tree->count == TREE_MAX_NODES)
		return "more than 64 nodes";
	tree->nodes[tree->count].name = name;
	tree->nodes[tree->count].properties = cursor->at;
	tree->nodes[tree->count++].parent = parent;
	return NULL;
}

/* One pass over the structure block: one root, properties before children, END behind the root. */
static const char *index_nodes(struct tree *tree, struct cursor *cursor)
{
	int node = TREE_NONE;
	bool has_children = false;
	const char *problem, *name;
	u32 token, size;

	while (take_cell(cursor, &token)) {
		switch (token) {
		case NOP:
			break;
		case BEGIN_NODE:
			if (node == TREE_NONE && tree->count)
				return "bad structure";
			problem = add_node(tree, cursor, node);
			if (problem)
				return problem;
			node = tree->count - 1;
			has_children = false;
			break;
		case END_NODE:
			if (node == TREE_NONE)
				return "bad structure";
			node = tree->nodes[node].parent;
			has_children = true;
			break;
		case PROPERTY:
			if (node == TREE_NONE || has_children ||
			    !take_property(tree, cursor, &size, &name))
				return "bad structure";
			break;
		case END:
			return node == TREE_NONE && tree->count ? NULL : "bad structure";
		default:
			return "bad structure";
		}
	}
	return "bad structure";
}

const char *tree_open(struct tree *tree, const void *blob)
{
	const u32 *header = blob;
	const char *problem = check_header(header);
	struct cursor cursor;

	tree->count = 0;
	if (problem)
		return problem;
	tree->strings = (const char *)blob + tree_cell(header[HEADER_STRINGS]);
	tree->strings_size = tree_cell(header[HEADER_STRINGS_SIZE]);
	cursor.at = header + tree_cell(header[HEADER_STRUCTURE]) / 4;
	cursor.end = cursor.at + tree_cell(header[HEADER_STRUCTURE_SIZE]) / 4;
	/* The last string ends, so all do. */
	if (!tree->strings_size || tree->strings[tree->strings_size - 1])
		return "bad structure";
	return index_nodes(tree, &cursor);
}

int tree_find(const struct tree *tree, int parent, const char *name)
{
	size_t length = strlen(name);
	int node = TREE_NONE;

	while ((node = tree_next_child(tree, parent, node)) != TREE_NONE) {
		const char *own = tree->nodes[node].name;

		if (strnlen(own, length) == length && memcmp(own, name, length) == 0 &&
		    (!own[length] || own[length] == '@'))
			return node;
	}
	return TREE_NONE;
}

int tree_next_child(const struct tree *tree, int parent, int node)
{
	for (node++; node < (int)tree->count; node++)
		if (tree->nodes[node].parent == parent)
			return node;
	return TREE_NONE;
}

/* No check is needed here: tree_open() has come by before. */
const void *tree_property(const struct tree *tree, int node, const char *name, u32 *size)
{
	const u32 *at = tree->nodes[node].properties;

	for (;; at++) {
		u32 token = tree_cell(*at);

		if (token == PROPERTY) {
			*size = tree_cell(at[1]);
			if (strcmp(tree->strings + tree_cell(at[2]), name) == 0)
				return at + 3;
			at += 2 + (*size + 3) / 4;
		} else if (token != NOP) {
			return NULL;
		}
	}
}
