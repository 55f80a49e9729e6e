#include "tree.h"
#include "files.h"

#include <libfdt.h>
#include <stdlib.h>
#include <string.h>

bool tree_read(struct text *tree, const char *path, struct text *error)
{
	int bad;

	if (!file_read(tree, path, error))
		return false;
	bad = tree->len < sizeof(struct fdt_header) ? -FDT_ERR_TRUNCATED
						    : fdt_check_full(tree->data, tree->len);
	if (bad)
		text_printf(error, "%s: not a compiled device tree: %s; build it again with dtc",
			    path, fdt_strerror(bad));
	return !bad;
}

static int chosen_node(void *fdt)
{
	int node = fdt_path_offset(fdt, "/chosen");

	return node == -FDT_ERR_NOTFOUND ? fdt_add_subnode(fdt, 0, "chosen") : node;
}

static int set_cases(void *fdt, int node, const struct tree_choice *choice)
{
	size_t count = choice->cases->count - choice->first;
	fdt32_t *cells = must_realloc(NULL, count * sizeof(*cells));
	int bad;

	for (size_t i = 0; i < count; i++)
		cells[i] = cpu_to_fdt32(choice->cases->items[choice->first + i]->number);
	bad = fdt_setprop(fdt, node, "exitpath,cases", cells, (int)(count * sizeof(*cells)));
	free(cells);
	return bad;
}

static int fill_cpus(void *fdt, const struct tree_choice *choice)
{
	int node = choice->without ? fdt_path_offset(fdt, "/cpus") : 0;

	if (node <= 0)
		return node;
	return fdt_setprop_string(fdt, node, "exitpath,without", choice->without);
}

static int fill_chosen(void *fdt, const struct tree_choice *choice)
{
	int node = chosen_node(fdt);
	int bad = node < 0 ? node : 0;

	if (!bad)
		bad = set_cases(fdt, node, choice);
	if (!bad)
		bad = fdt_setprop_u32(fdt, node, "exitpath,first", (uint32_t)choice->first + 1);
	if (!bad)
		bad = fdt_setprop_u32(fdt, node, "exitpath,plan", (uint32_t)choice->cases->count);
	if (!bad)
		bad = fdt_setprop_u64(fdt, node, "exitpath,seed", choice->seed);
	if (!bad && choice->count)
		bad = fdt_setprop_u32(fdt, node, "exitpath,count", choice->count);
	if (!bad && choice->audit_all)
		bad = fdt_setprop_empty(fdt, node, "exitpath,audit-all");
	if (!bad)
		bad = fdt_setprop_string(fdt, node, "exitpath,image", choice->image);
	if (!bad && choice->waived->len)
		bad = fdt_setprop(fdt, node, "exitpath,audit-waived", choice->waived->data,
				  (int)choice->waived->len);
	return bad ? bad : fdt_pack(fdt);
}

bool tree_choose(struct text *out, const struct text *tree, const struct tree_choice *choice,
		 struct text *error)
{
	/* Room for the properties, their names and the node, and more. */
	size_t room = tree->len + 1024 + strlen(choice->image) + choice->cases->count * 4 +
		      choice->waived->len + (choice->without ? strlen(choice->without) : 0);
	char *fdt = must_realloc(NULL, room);
	int bad = fdt_open_into(tree->data, fdt, (int)room);

	if (!bad)
		bad = fill_cpus(fdt, choice);
	if (!bad)
		bad = fill_chosen(fdt, choice);
	if (bad)
		text_printf(error, "cannot write /chosen or /cpus into the device tree: %s",
			    fdt_strerror(bad));
	else
		text_add(out, fdt, fdt_totalsize(fdt));
	free(fdt);
	return !bad;
}
