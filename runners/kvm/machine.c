/* Reads the device tree: memory, CPUs, consoles and power-off devices. */
#include "machine.h"

#include <stdbool.h>
#include <string.h>

#include <libfdt.h>

struct reader {
	struct machine *machine;
	const void *tree;
	struct text *error;
};

static const char *node_name(const struct reader *reader, int node)
{
	const char *name = fdt_get_name(reader->tree, node, NULL);

	return name && *name ? name : "/";
}

/* The value of a property of exactly `wanted` bytes (0: any), NULL with a message else. */
static const void *property(const struct reader *reader, int node, const char *name, int wanted,
			    int *length)
{
	int found = 0;
	const void *value = fdt_getprop(reader->tree, node, name, &found);

	if (!value) {
		text_print(reader->error, "node %s has no property %s", node_name(reader, node),
			   name);
		return NULL;
	}
	if (wanted && found != wanted) {
		text_print(reader->error,
			   "node %s: property %s has %u bytes instead of %u: wrong type?",
			   node_name(reader, node), name, (unsigned int)found,
			   (unsigned int)wanted);
		return NULL;
	}
	*length = found;
	return value;
}

/* One 32-bit cell that must not be above `limit`. */
static int property_cell(const struct reader *reader, int node, const char *name, uint32_t limit,
			 uint32_t *value)
{
	int length;
	const fdt32_t *cell = property(reader, node, name, sizeof(*cell), &length);

	if (!cell)
		return -1;
	*value = fdt32_ld(cell);
	if (*value > limit) {
		text_print(reader->error, "node %s: property %s is 0x%x; the largest is 0x%x",
			   node_name(reader, node), name, *value, limit);
		return -1;
	}
	return 0;
}

static bool is_of_type(const struct reader *reader, int node, const char *type)
{
	int length;
	const char *found = fdt_getprop(reader->tree, node, "device_type", &length);

	return found && length == (int)strlen(type) + 1 && memcmp(found, type, (size_t)length) == 0;
}

static bool ranges_meet(const struct memory_range *a, const struct memory_range *b)
{
	return a->start < b->start + b->size && b->start < a->start + a->size;
}

static int range_is_bad(const struct reader *reader, int node, const char *why,
			const struct memory_range *range)
{
	text_print(reader->error, "node %s: memory of 0x%llx bytes at 0x%llx %s",
		   node_name(reader, node), (unsigned long long)range->size,
		   (unsigned long long)range->start, why);
	return -1;
}

static int add_range(const struct reader *reader, int node, struct memory_range range)
{
	struct machine *machine = reader->machine;
	const struct memory_range hole = { MACHINE_HOLE_START,
					   MACHINE_HOLE_END - MACHINE_HOLE_START };
	uint64_t total = range.size;

	if (!range.size)
		return range_is_bad(reader, node, "is empty", &range);
	if ((range.start | range.size) % PAGE_SIZE_4K)
		return range_is_bad(reader, node, "is not aligned to 4 KiB", &range);
	if (range.start + range.size < range.start)
		return range_is_bad(reader, node, "wraps around the end of the address space",
				    &range);
	if (ranges_meet(&range, &hole))
		return range_is_bad(reader, node, "overlaps the APICs at 0xfec00000-0xffffffff",
				    &range);
	for (size_t i = 0; i < machine->range_count; i++) {
		if (ranges_meet(&range, &machine->ranges[i]))
			return range_is_bad(reader, node, "overlaps other memory", &range);
		total += machine->ranges[i].size;
	}
	if (range.size > MACHINE_MAX_MEMORY || total > MACHINE_MAX_MEMORY)
		return range_is_bad(reader, node, "is too much: this VMM gives 16 GiB at most",
				    &range);
	if (machine->range_count == MACHINE_MAX_RANGES)
		return range_is_bad(reader, node, "is one range too many: 16 at most", &range);
	machine->ranges[machine->range_count++] = range;
	return 0;
}

static int read_memory(const struct reader *reader, int node)
{
	int length;
	const fdt64_t *cells = property(reader, node, "reg", 0, &length);

	if (!cells)
		return -1;
	if (length == 0 || length % (2 * (int)sizeof(*cells))) {
		text_print(reader->error,
			   "node %s: reg has %u bytes; it needs pairs of a 64-bit address and size",
			   node_name(reader, node), (unsigned int)length);
		return -1;
	}
	for (; length > 0; cells += 2, length -= 2 * (int)sizeof(*cells)) {
		struct memory_range range = { fdt64_ld(cells), fdt64_ld(cells + 1) };

		if (add_range(reader, node, range))
			return -1;
	}
	return 0;
}

static int read_cpu(const struct reader *reader, int node)
{
	struct machine *machine = reader->machine;
	uint32_t apic_id;

	/* 255 is the xAPIC's broadcast address. */
	if (property_cell(reader, node, "reg", 254, &apic_id))
		return -1;
	for (size_t i = 0; i < machine->cpu_count; i++) {
		if (machine->apic_ids[i] != apic_id)
			continue;
		text_print(reader->error, "node %s: a second CPU with APIC ID %u",
			   node_name(reader, node), apic_id);
		return -1;
	}
	if (machine->cpu_count == MACHINE_MAX_CPUS) {
		text_print(reader->error, "node %s: more than %u CPUs", node_name(reader, node),
			   (unsigned int)MACHINE_MAX_CPUS);
		return -1;
	}
	machine->apic_ids[machine->cpu_count++] = apic_id;
	return 0;
}

/* What no CPU shall have; the back end knows the names. */
static int read_without(const struct reader *reader, int cpus)
{
	int length;
	const char *names = fdt_getprop(reader->tree, cpus, "exitpath,without", &length);

	if (!names)
		return 0;
	if (!length || memchr(names, '\0', (size_t)length) != names + length - 1) {
		text_print(reader->error, "node cpus: exitpath,without must be one string");
		return -1;
	}
	reader->machine->without = names;
	return 0;
}

static int read_cpus(const struct reader *reader)
{
	int node, cpus = fdt_path_offset(reader->tree, "/cpus");

	if (cpus < 0) {
		text_print(reader->error, "there is no node /cpus");
		return -1;
	}
	if (fdt_address_cells(reader->tree, cpus) != 1 || fdt_size_cells(reader->tree, cpus) != 0) {
		text_print(reader->error,
			   "node cpus: needs #address-cells = <1> and #size-cells = <0>");
		return -1;
	}
	fdt_for_each_subnode(node, reader->tree, cpus) {
		if (is_of_type(reader, node, "cpu") && read_cpu(reader, node))
			return -1;
	}
	return read_without(reader, cpus);
}

static int read_text(const struct reader *reader, int node, char *text)
{
	int length;
	const char *value = property(reader, node, "exitpath,text", 0, &length);

	if (!value)
		return -1;
	if (length < 2 || length > MACHINE_MAX_TEXT + 1 ||
	    memchr(value, '\0', (size_t)length) != value + length - 1) {
		text_print(reader->error,
			   "node %s: exitpath,text must be one string of 1 to %u characters",
			   node_name(reader, node), (unsigned int)MACHINE_MAX_TEXT);
		return -1;
	}
	memcpy(text, value, (size_t)length);
	return 0;
}

static int read_device(const struct reader *reader, int node, enum device_kind kind)
{
	struct machine *machine = reader->machine;
	struct device_description device = { .kind = kind };
	/* The UART has eight ports, the palette three. */
	uint32_t port, value = 0, last = kind == DEVICE_NS16550A      ? 0xfff8
					 : kind == DEVICE_VGA_PALETTE ? 0xfffd
								      : 0xffff;

	if (property_cell(reader, node, "exitpath,port", last, &port))
		return -1;
	if (kind == DEVICE_PORT_VALUE &&
	    property_cell(reader, node, "exitpath,value", 0xff, &value))
		return -1;
	if (kind == DEVICE_PORT_TEXT && read_text(reader, node, device.text))
		return -1;
	if (machine->device_count == MACHINE_MAX_DEVICES) {
		text_print(reader->error, "node %s: more than %u devices", node_name(reader, node),
			   (unsigned int)MACHINE_MAX_DEVICES);
		return -1;
	}
	device.port = (uint16_t)port;
	device.value = (uint8_t)value;
	machine->devices[machine->device_count++] = device;
	return 0;
}

static int read_top_node(const struct reader *reader, int node)
{
	static const struct {
		const char *compatible;
		enum device_kind kind;
	} known[] = {
		{ "exitpath,port-e9", DEVICE_PORT_E9 },
		{ "ns16550a", DEVICE_NS16550A },
		{ "exitpath,port-text", DEVICE_PORT_TEXT },
		{ "exitpath,port-value", DEVICE_PORT_VALUE },
		{ "exitpath,vga-palette", DEVICE_VGA_PALETTE },
	};

	if (is_of_type(reader, node, "memory"))
		return read_memory(reader, node);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (fdt_node_check_compatible(reader->tree, node, known[i].compatible) == 0)
			return read_device(reader, node, known[i].kind);
	}
	return 0;
}

/* What a VM cannot do without. A machine that cannot be switched off can still triple fault. */
static int check_complete(const struct reader *reader)
{
	const struct machine *machine = reader->machine;
	bool console = false;

	for (size_t i = 0; i < machine->device_count; i++)
		console |= machine->devices[i].kind == DEVICE_PORT_E9 ||
			   machine->devices[i].kind == DEVICE_NS16550A;
	if (!machine->range_count)
		text_print(reader->error, "there is no node with device_type = \"memory\"");
	else if (!machine->cpu_count)
		text_print(reader->error, "/cpus has no node with device_type = \"cpu\"");
	else if (!console)
		text_print(reader->error,
			   "there is no console (exitpath,port-e9 or ns16550a) below the root");
	else
		return 0;
	return -1;
}

/*
 * Fills `machine` from the `size` bytes of a flattened tree at `tree`.
 * Returns 0, or -1 with one sentence in `error`; `machine` is then undefined.
 */
int machine_read(struct machine *machine, const void *tree, size_t size, struct text *error)
{
	const struct reader reader = { machine, tree, error };
	int node, problem = size < sizeof(struct fdt_header) ? -FDT_ERR_TRUNCATED
							     : fdt_check_full(tree, size);

	memset(machine, 0, sizeof(*machine));
	if (problem) {
		text_print(error, "not a sound flattened device tree: %s", fdt_strerror(problem));
		return -1;
	}
	if (fdt_address_cells(tree, 0) != 2 || fdt_size_cells(tree, 0) != 2) {
		text_print(error, "the root needs #address-cells = <2> and #size-cells = <2>");
		return -1;
	}
	fdt_for_each_subnode(node, tree, 0) {
		if (read_top_node(&reader, node))
			return -1;
	}
	if (read_cpus(&reader))
		return -1;
	return check_complete(&reader);
}
