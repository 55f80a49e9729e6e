#include "io.h"
#include "platform.h"
#include "string.h"
#include "tree.h"

#define UART_SPIN	100000

static bool read_cell(const struct tree *tree, int node, const char *name, u32 *value)
{
	u32 size;
	const u32 *cell = tree_property(tree, node, name, &size);

	if (!cell || size != 4)
		return false;
	*value = tree_cell(*cell);
	return true;
}

static bool read_text(const struct tree *tree, int node, const char *name, char *to, size_t size)
{
	u32 length;
	const char *text = tree_property(tree, node, name, &length);

	if (!text || length < 1 || length > size || text[length - 1])
		return false;
	memcpy(to, text, length);
	return true;
}

static bool is_compatible(const struct tree *tree, int node, const char *with)
{
	u32 size;
	const char *list = tree_property(tree, node, "compatible", &size), *end = list + size;

	for (; list && list < end; list += strnlen(list, end - list) + 1)
		if (strnlen(list, end - list) == strlen(with) &&
		    memcmp(list, with, strlen(with)) == 0)
			return true;
	return false;
}

static const char *read_console(struct platform *platform, const struct tree *tree)
{
	int node = tree_find(tree, TREE_ROOT, "console");
	u32 port;

	if (node == TREE_NONE)
		return "no node /console";
	if (!read_cell(tree, node, "exitpath,port", &port) || port > 0xffff)
		return "/console: no 16-bit number in exitpath,port";
	platform->console_port = port;
	if (is_compatible(tree, node, "exitpath,port-e9"))
		platform->console = CONSOLE_PORT_E9;
	else if (is_compatible(tree, node, "ns16550a"))
		platform->console = CONSOLE_NS16550A;
	else
		return "/console: compatible is neither exitpath,port-e9 nor ns16550a";
	return NULL;
}

static const char *read_poweroff(struct platform *platform, const struct tree *tree)
{
	int node = tree_find(tree, TREE_ROOT, "poweroff");
	u32 port, value;

	if (node == TREE_NONE)
		return "no node /poweroff";
	if (!read_cell(tree, node, "exitpath,port", &port) || port > 0xffff)
		return "/poweroff: no 16-bit number in exitpath,port";
	platform->poweroff_port = port;
	if (is_compatible(tree, node, "exitpath,port-text")) {
		if (!read_text(tree, node, "exitpath,text", platform->poweroff_text,
			       sizeof(platform->poweroff_text)))
			return "/poweroff: no text in exitpath,text";
		platform->poweroff = POWEROFF_PORT_TEXT;
	} else if (is_compatible(tree, node, "exitpath,port-value")) {
		if (!read_cell(tree, node, "exitpath,value", &value) || value > 0xff)
			return "/poweroff: no 8-bit number in exitpath,value";
		platform->poweroff_value = value;
		platform->poweroff = POWEROFF_PORT_VALUE;
	} else {
		return "/poweroff: compatible is neither exitpath,port-text nor "
		       "exitpath,port-value";
	}
	return NULL;
}

static const char *read_palette(struct platform *platform, const struct tree *tree)
{
	int node = tree_find(tree, TREE_ROOT, "palette");
	u32 port;

	if (node == TREE_NONE)
		return NULL;
	if (!is_compatible(tree, node, "exitpath,vga-palette"))
		return "/palette: compatible is not exitpath,vga-palette";
	if (!read_cell(tree, node, "exitpath,port", &port) || !port || port > 0xfffd)
		return "/palette: no number from 1 to 65533 in exitpath,port";
	platform->palette_port = port;
	return NULL;
}

static const char *read_a20_gate(struct platform *platform, const struct tree *tree)
{
	int node = tree_find(tree, TREE_ROOT, "a20-gate");
	u32 port;

	if (node == TREE_NONE)
		return NULL;
	if (!is_compatible(tree, node, "exitpath,fast-a20"))
		return "/a20-gate: compatible is not exitpath,fast-a20";
	if (!read_cell(tree, node, "exitpath,port", &port) || !port || port > 0xffff)
		return "/a20-gate: no number from 1 to 65535 in exitpath,port";
	platform->a20_port = port;
	return NULL;
}

static const char *read_memory(struct platform *platform, const struct tree *tree)
{
	const u32 *cell;
	int node = TREE_NONE;
	u32 size, i;

	while ((node = tree_next_child(tree, TREE_ROOT, node)) != TREE_NONE) {
		const char *type = tree_property(tree, node, "device_type", &size);

		if (!type || size != 7 || memcmp(type, "memory", 7))
			continue;
		cell = tree_property(tree, node, "reg", &size);
		if (!cell || !size || size % 16)
			return "a memory node whose reg is not pairs of two cells";
		for (i = 0; i < size / 16; i++, cell += 4) {
			if (platform->memory_count == PLATFORM_MAX_MEMORY)
				return "more than 8 memory ranges";
			platform->memory[platform->memory_count++] = (struct platform_memory){
				.start = (u64)tree_cell(cell[0]) << 32 | tree_cell(cell[1]),
				.size = (u64)tree_cell(cell[2]) << 32 | tree_cell(cell[3]),
			};
		}
	}
	return platform->memory_count ? NULL : "no memory node";
}

static const char *read_cpus(struct platform *platform, const struct tree *tree)
{
	int cpus = tree_find(tree, TREE_ROOT, "cpus"), node = TREE_NONE;

	if (cpus == TREE_NONE)
		return "no node /cpus";
	while ((node = tree_next_child(tree, cpus, node)) != TREE_NONE) {
		if (platform->cpu_count == PLATFORM_MAX_CPUS)
			return "/cpus: more than 8 processors";
		if (!read_cell(tree, node, "reg", &platform->apic_id[platform->cpu_count++]))
			return "/cpus: a processor without reg (its APIC ID)";
	}
	return platform->cpu_count ? NULL : "/cpus: no processor";
}

/* What a tree may leave out: nothing is said then, and *value stays. */
static const char *read_optional(const struct tree *tree, int node, const char *name,
				 u32 least, u32 most, const char *problem, u32 *value)
{
	u32 size, cell;

	if (!tree_property(tree, node, name, &size))
		return NULL;
	if (!read_cell(tree, node, name, &cell) || cell < least || cell > most)
		return problem;
	*value = cell;
	return NULL;
}

static const char *read_numbers(struct platform *platform, const struct tree *tree, int node)
{
	const struct {
		const char *name;
		u32 least, most;
		const char *problem;
		u32 *value;
	} numbers[] = {
		{ "exitpath,first", 1, PLATFORM_MAX_CASES,
		  "/chosen: exitpath,first is not one cell of 1 to 8192", &platform->first },
		{ "exitpath,plan", 0, PLATFORM_MAX_CASES,
		  "/chosen: exitpath,plan is not one cell of 0 to 8192", &platform->plan },
		{ "exitpath,sweep", 1, 100,
		  "/chosen: exitpath,sweep is not one cell of 1 to 100", &platform->sweep_percent },
		{ "exitpath,entries", 1, 100,
		  "/chosen: exitpath,entries is not one cell of 1 to 100",
		  &platform->entry_percent },
		{ "exitpath,count", 1, ~0u,
		  "/chosen: exitpath,count is not one cell above 0", &platform->count },
		{ "exitpath,audit", 0, 100,
		  "/chosen: exitpath,audit is not one cell of 0 to 100", &platform->audit_percent },
	};
	const char *problem = NULL;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(numbers) && !problem; i++)
		problem = read_optional(tree, node, numbers[i].name, numbers[i].least,
					numbers[i].most, numbers[i].problem, numbers[i].value);
	return problem;
}

/* Which rules of the audit are known to be wrong here: vmx/audit.h. */
static const char *read_waived(struct platform *platform, const struct tree *tree, int node)
{
	const char *names;
	u32 size;

	names = tree_property(tree, node, "exitpath,audit-waived", &size);
	if (!names)
		return NULL;
	if (size < 1 || size > sizeof(platform->audit_waived) || names[size - 1])
		return "/chosen: exitpath,audit-waived is not a list of names of at most 512 bytes";
	memcpy(platform->audit_waived, names, size);
	platform->audit_waived_size = size;
	return NULL;
}

static const char *read_chosen(struct platform *platform, const struct tree *tree)
{
	const char *problem;
	int node = tree_find(tree, TREE_ROOT, "chosen");
	u32 size, i;
	const u32 *cells;

	platform->first = 1;
	platform->seed = 1;
	platform->sweep_percent = 100;
	platform->entry_percent = 100;
	platform->audit_percent = 100;
	if (node == TREE_NONE)
		return NULL;
	problem = read_numbers(platform, tree, node);
	if (!problem)
		problem = read_waived(platform, tree, node);
	platform->audit_all = tree_property(tree, node, "exitpath,audit-all", &size) != NULL;
	platform->audit_none = tree_property(tree, node, "exitpath,audit-none", &size) != NULL;
	platform->addresses_need_memory =
		tree_property(tree, node, "exitpath,addresses-need-memory", &size) != NULL;
	platform->long_mode_needs_protection =
		tree_property(tree, node, "exitpath,long-mode-needs-protection", &size) != NULL;
	if (problem)
		return problem;
	read_text(tree, node, "exitpath,image", platform->image, sizeof(platform->image));
	cells = tree_property(tree, node, "exitpath,seed", &size);
	if (cells && size == 8)
		platform->seed = (u64)tree_cell(cells[0]) << 32 | tree_cell(cells[1]);
	else if (cells)
		return "/chosen: exitpath,seed is not two cells";
	cells = tree_property(tree, node, "exitpath,cases", &size);
	if (!cells)
		return NULL;
	if (size % 4 || size / 4 > PLATFORM_MAX_CASES)
		return "/chosen: exitpath,cases is not a list of at most 8192 cells";
	for (i = 0; i < size / 4; i++) {
		if (tree_cell(cells[i]) > 0xffff)
			return "/chosen: exitpath,cases holds a number above 65535";
		platform->cases[platform->case_count++] = tree_cell(cells[i]);
	}
	return NULL;
}

const char *platform_read(struct platform *platform, const void *blob)
{
	static const char *(*const readers[])(struct platform *, const struct tree *) = {
		read_console, read_poweroff, read_palette, read_a20_gate, read_memory, read_cpus,
		read_chosen,
	};
	static struct tree tree;
	const char *problem;
	u32 i;

	if (!blob)
		return "the loader passed none";
	problem = tree_open(&tree, blob);
	if (problem)
		return problem;
	read_text(&tree, TREE_ROOT, "model", platform->model, sizeof(platform->model));
	/* All of it, so that a console is found even when another node is bad. */
	for (i = 0; i < ARRAY_SIZE(readers); i++) {
		const char *why = readers[i](platform, &tree);

		problem = problem ? problem : why;
	}
	return problem;
}

static void write_uart(u16 port, char c)
{
	u32 spin;

	for (spin = 0; spin < UART_SPIN && !(inb(port + 5) & 0x20); spin++)
		;
	outb(port, c);
}

void platform_write(const struct platform *platform, const char *text, size_t length)
{
	u16 port = platform->console_port;

	switch (platform->console) {
	case CONSOLE_PORT_E9:
		asm volatile("rep outsb" : "+S" (text), "+c" (length) : "d" (port) : "memory");
		break;
	case CONSOLE_NS16550A:
		while (length--)
			write_uart(port, *text++);
		break;
	case CONSOLE_NONE:
		break;
	}
}

static __noreturn void triple_fault(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) none = { 0, 0 };

	asm volatile("lidt %0; int3" : : "m" (none));
	for (;;)
		asm volatile("cli; hlt");
}

void platform_off(const struct platform *platform)
{
	const char *text = platform->poweroff_text;

	if (platform->poweroff == POWEROFF_PORT_TEXT)
		while (*text)
			outb(platform->poweroff_port, *text++);
	if (platform->poweroff == POWEROFF_PORT_VALUE)
		outb(platform->poweroff_port, platform->poweroff_value);
	triple_fault();
}

static void say(const struct platform *platform, const char *why)
{
	static const char before[] = "Bail out! device tree: ";

	platform_write(platform, before, sizeof(before) - 1);
	platform_write(platform, why, strlen(why));
	platform_write(platform, "\n", 1);
}

void platform_die(struct platform *platform, const char *why)
{
	enum poweroff_kind own = platform->poweroff;

	say(platform, why);
	if (platform->console != CONSOLE_PORT_E9) {
		platform->console = CONSOLE_PORT_E9;
		platform->console_port = 0xe9;
		say(platform, why);
	}
	platform->console = CONSOLE_NS16550A;
	platform->console_port = 0x3f8;
	say(platform, why);
	if (own == POWEROFF_NONE) {
		outb(0xf4, 0);		/* QEMU: isa-debug-exit */
		platform->poweroff = POWEROFF_PORT_TEXT;
		platform->poweroff_port = 0x8900;	/* Bochs */
		memcpy(platform->poweroff_text, "Shutdown", 9);
	}
	platform_off(platform);
}
