/*
 * mklinux IMAGE ROM VMLINUX MEMORY COMMAND-LINE [NAME=FILE]...: makes what Bochs needs to boot a
 * Linux kernel with no BIOS and no boot loader.
 *
 * IMAGE is the memory from 1 MiB on, as a disk that the start-up code reads: that code, the
 * segments of VMLINUX (an uncompressed kernel with a PVH entry point) where they want to be, and an
 * initramfs in which each FILE is called NAME. ROM starts it: lib/x86/boot/rom.S copies
 * runners/linux/pvh.S and the PVH structures to 1 MiB; both are found as ../boot/NAME.bin beside
 * this program's folder. MEMORY is what the kernel is told to have, in MiB.
 *
 * Exit status: 0 done; 2 bad input.
 */
#include <elf.h>
#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOAD_ADDRESS     0x100000u
#define ROM_SIZE         0x10000u
#define ROM_STUB_SIZE    4096u
#define ROM_TABLE        0x30u    /* from its end */
#define BLOCK_SIZE       0x20000u /* what pvh.S reads at a time */
#define CYLINDER_SIZE    (16u * 63 * 512)
#define START_SIZE       8192u    /* code and structures at 1 MiB */
#define CODE_WORDS       0x80u    /* where pvh.S wants its words */
#define COMMAND_LINE_MAX 2047u    /* COMMAND_LINE_SIZE of x86 without the zero */
#define LOW_MEMORY_END   0x9fc00u
#define PHYS32_ENTRY     18u         /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_MAGIC      0x336ec578u /* XEN_HVM_START_MAGIC_VALUE */
#define MEMORY_RAM       1u

/* The structures of the PVH boot ABI, little-endian as this host. */
struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_count, reserved;
};

struct module {
	uint64_t address, size, command_line, reserved;
};

struct memory_range {
	uint64_t address, size;
	uint32_t type, reserved;
};

/* What is at 1 MiB. */
struct start {
	uint8_t code[CODE_WORDS];
	uint32_t blocks, info_address, entry, unused;
	struct start_info info;
	struct module initramfs;
	struct memory_range memory[2];
	char command_line[COMMAND_LINE_MAX + 1];
};

struct bytes {
	uint8_t *at;
	size_t size;
};

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mklinux: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static struct bytes read_file(const char *path)
{
	struct bytes file = { 0 };
	FILE *in = fopen(path, "rb");
	long size = -1;

	if (!in || fseek(in, 0, SEEK_END) || (size = ftell(in)) < 0)
		die("%s: %s", path, strerror(errno));
	rewind(in);
	file.size = (size_t)size;
	file.at = malloc(file.size + 1);
	if (!file.at)
		die("out of memory");
	if (fread(file.at, 1, file.size, in) != file.size)
		die("%s: cannot be read", path);
	fclose(in);
	return file;
}

static void write_file(const char *path, const uint8_t *at, size_t size)
{
	FILE *out = fopen(path, "wb");

	if (!out || fwrite(at, 1, size, out) != size || fclose(out))
		die("%s: %s", path, strerror(errno));
}

static struct bytes read_boot_code(const char *name)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);

	if (n < 0)
		die("/proc/self/exe: %s", strerror(errno));
	path[n] = 0;
	dirname(path);
	strcat(path, "/../boot/");
	strcat(path, name);
	return read_file(path);
}

/* Makes room for `size` bytes at `offset`, zeroed. */
static uint8_t *room(struct bytes *b, size_t offset, size_t size)
{
	if (offset + size > b->size) {
		b->at = realloc(b->at, offset + size);
		if (!b->at)
			die("out of memory");
		memset(b->at + b->size, 0, offset + size - b->size);
		b->size = offset + size;
	}
	return b->at + offset;
}

static size_t round_up(size_t size, size_t unit)
{
	return (size + unit - 1) / unit * unit;
}

/* --- the kernel ----------------------------------------------------------------- */

/* The 32-bit physical entry point in the ELF notes at `at`, or 0. */
static uint32_t find_entry(const uint8_t *at, size_t size)
{
	Elf64_Nhdr note;
	uint32_t entry;

	while (size >= sizeof(note)) {
		size_t name, whole;

		memcpy(&note, at, sizeof(note));
		name = round_up(note.n_namesz, 4);
		whole = sizeof(note) + name + round_up(note.n_descsz, 4);
		if (whole > size)
			return 0;
		if (note.n_type == PHYS32_ENTRY && note.n_namesz == 4 && note.n_descsz >= 4 &&
		    memcmp(at + sizeof(note), "Xen", 4) == 0) {
			memcpy(&entry, at + sizeof(note) + name, 4);
			return entry;
		}
		at += whole;
		size -= whole;
	}
	return 0;
}

/* Puts the segments of the kernel into `memory`; returns its entry point. */
static uint32_t load_kernel(struct bytes *memory, const char *path)
{
	const struct bytes file = read_file(path);
	uint32_t entry = 0;
	Elf64_Ehdr header;

	if (file.size < sizeof(header) || memcmp(file.at, ELFMAG, SELFMAG))
		die("%s: not an ELF file; give an uncompressed kernel (vmlinux)", path);
	memcpy(&header, file.at, sizeof(header));
	if (header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(Elf64_Phdr))
		die("%s: not a kernel for x86-64", path);
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		const size_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr segment;

		if (at > file.size || file.size - at < sizeof(segment))
			die("%s: program headers lie outside the file", path);
		memcpy(&segment, file.at + at, sizeof(segment));
		if (segment.p_type != PT_LOAD && segment.p_type != PT_NOTE)
			continue;
		if (segment.p_offset > file.size || file.size - segment.p_offset < segment.p_filesz)
			die("%s: a segment lies outside the file", path);
		if (segment.p_type == PT_NOTE) {
			if (!entry)
				entry = find_entry(file.at + segment.p_offset, segment.p_filesz);
			continue;
		}
		if (segment.p_paddr < LOAD_ADDRESS + START_SIZE || segment.p_memsz > 1u << 30 ||
		    segment.p_paddr > 1u << 30 || segment.p_memsz < segment.p_filesz)
			die("%s: a segment that is not between 1 MiB and 1 GiB", path);
		memcpy(room(memory, segment.p_paddr - LOAD_ADDRESS, segment.p_memsz),
		       file.at + segment.p_offset, segment.p_filesz);
	}
	if (!entry)
		die("%s has no PVH entry point; build the kernel with CONFIG_PVH=y", path);
	free(file.at);
	return entry;
}

/* --- the initramfs: a cpio archive of the format "newc" ---------------------------- */

static void add_entry(struct bytes *memory, const char *name, unsigned int mode, struct bytes data)
{
	static unsigned int inode;
	const size_t name_size = strlen(name) + 1;
	const size_t head = round_up(110 + name_size, 4);
	uint8_t *at = room(memory, memory->size, head + round_up(data.size, 4));

	sprintf((char *)at, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++inode,
		mode, 0u, 0u, 1u, 0u, (unsigned int)data.size, 0u, 0u, 0u, 0u,
		(unsigned int)name_size, 0u);
	memcpy(at + 110, name, name_size);
	if (data.size)
		memcpy(at + head, data.at, data.size);
}

static void add_initramfs(struct bytes *memory, char **arguments, int count)
{
	static const char *const folders[] = { "dev", "proc", "sys", "tmp" };
	const struct bytes nothing = { 0 };

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		add_entry(memory, folders[i], 040755, nothing);
	for (int i = 0; i < count; i++) {
		char *path = strchr(arguments[i], '=');
		struct bytes file;

		if (!path)
			die("%s: not NAME=FILE", arguments[i]);
		*path++ = 0;
		file = read_file(path);
		add_entry(memory, arguments[i], 0100755, file);
		free(file.at);
	}
	add_entry(memory, "TRAILER!!!", 0, nothing);
}

/* --- */

/* The ROM: what it copies to 1 MiB, padding, and lib/x86/boot/rom.S with its table filled in. */
static void write_rom(const char *path, const struct start *start)
{
	const struct bytes stub = read_boot_code("rom.bin");
	static uint8_t rom[ROM_SIZE];
	const uint32_t base = -ROM_SIZE, size = (uint32_t)round_up(sizeof(*start), 4);
	const uint32_t table[5] = { base, size, 0, LOAD_ADDRESS, LOAD_ADDRESS };

	if (stub.size != ROM_STUB_SIZE)
		die("rom.bin: not the 4-KiB boot stub; run make");
	memcpy(rom, start, sizeof(*start));
	memcpy(rom + ROM_SIZE - ROM_STUB_SIZE, stub.at, stub.size);
	memcpy(rom + ROM_SIZE - ROM_TABLE, table, sizeof(table));
	write_file(path, rom, sizeof(rom));
	free(stub.at);
}

static uint32_t at_start(size_t offset)
{
	return LOAD_ADDRESS + (uint32_t)offset;
}

int main(int argc, char **argv)
{
	static struct start start;
	struct bytes memory = { 0 }, code;
	size_t initramfs;
	unsigned long mebibytes;
	char *end;

	if (argc < 6)
		die("usage: mklinux IMAGE ROM VMLINUX MEMORY COMMAND-LINE [NAME=FILE]...");
	_Static_assert(sizeof(start) <= START_SIZE, "it lies below the kernel");
	mebibytes = strtoul(argv[4], &end, 10);
	if (*end || mebibytes < 64 || mebibytes > 3072)
		die("%s: MEMORY is 64 to 3072 MiB", argv[4]);
	if (strlen(argv[5]) > COMMAND_LINE_MAX)
		die("the kernel's command line is longer than %u bytes", COMMAND_LINE_MAX);
	code = read_boot_code("pvh.bin");
	if (code.size < CODE_WORDS)
		die("pvh.bin is not the start-up code; run make");
	memcpy(start.code, code.at, CODE_WORDS);
	free(code.at);
	start.entry = load_kernel(&memory, argv[3]);
	room(&memory, 0, round_up(memory.size, 4096));
	initramfs = memory.size;
	add_initramfs(&memory, argv + 6, argc - 6);
	if (LOAD_ADDRESS + memory.size + (32u << 20) > mebibytes << 20)
		die("%s and the initramfs do not fit into %lu MiB", argv[3], mebibytes);

	start.blocks = (uint32_t)(round_up(memory.size, BLOCK_SIZE) / BLOCK_SIZE);
	start.info_address = at_start(offsetof(struct start, info));
	start.info = (struct start_info){
		.magic = START_MAGIC,
		.version = 1,
		.module_count = 1,
		.modules = at_start(offsetof(struct start, initramfs)),
		.command_line = at_start(offsetof(struct start, command_line)),
		.memory_map = at_start(offsetof(struct start, memory)),
		.memory_map_count = 2,
	};
	start.initramfs.address = LOAD_ADDRESS + initramfs;
	start.initramfs.size = memory.size - initramfs;
	start.memory[0] = (struct memory_range){ 0, LOW_MEMORY_END, MEMORY_RAM, 0 };
	start.memory[1] = (struct memory_range){ LOAD_ADDRESS, (mebibytes << 20) - LOAD_ADDRESS,
						 MEMORY_RAM, 0 };
	strcpy(start.command_line, argv[5]);
	memcpy(memory.at, &start, sizeof(start));
	room(&memory, 0, round_up(start.blocks * BLOCK_SIZE, CYLINDER_SIZE));
	write_file(argv[1], memory.at, memory.size);
	write_rom(argv[2], &start);
	return 0;
}
