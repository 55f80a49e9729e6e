/*
 * mkrom IMAGE DTB OUT: makes a ROM that boots IMAGE with no BIOS.
 *
 * Layout, ending at 4 GiB: image bytes, device tree, padding to 64 KiB, and in the last
 * 4 KiB lib/x86/boot/rom.S, found as ../boot/rom.bin beside this program's folder, with its table
 * at -30H filled in: source, bytes to copy, bytes to clear, tree, entry point.
 *
 * Exit status: 0 done; 2 bad input, nothing written.
 */
#include <elf.h>
#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUB_SIZE	4096u
#define LOAD_ADDRESS	0x100000u
#define ROM_MAX		0x100000u	/* Bochs maps at most the last MByte */
#define ROM_UNIT	0x10000u
#define MULTIBOOT1	0x1badb002u

struct file {
	const char *path;
	uint8_t *bytes;
	size_t size;
};

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mkrom: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static struct file read_file(const char *path)
{
	struct file f = { .path = path };
	FILE *in = fopen(path, "rb");
	size_t n;

	if (!in)
		die("%s: %s", path, strerror(errno));
	f.bytes = malloc(ROM_MAX + 1);
	if (!f.bytes)
		die("out of memory");
	while ((n = fread(f.bytes + f.size, 1, ROM_MAX + 1 - f.size, in)) > 0)
		f.size += n;
	if (ferror(in))
		die("%s: cannot be read", path);
	fclose(in);
	return f;
}

static struct file read_stub(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	struct file stub;

	if (n < 0)
		die("/proc/self/exe: %s", strerror(errno));
	path[n] = 0;
	dirname(path);
	strcat(path, "/../boot/rom.bin");
	stub = read_file(path);
	if (stub.size != STUB_SIZE)
		die("%s: not the 4-KiB boot stub; run make", path);
	return stub;
}

/* The Multiboot 1 header names the 32-bit entry point: word 7. */
static uint32_t entry_point(const uint8_t *image, size_t size)
{
	uint32_t word, i;

	for (i = 0; i + 32 <= size && i < 8192; i += 4) {
		memcpy(&word, image + i, 4);
		if (word == MULTIBOOT1) {
			memcpy(&word, image + i + 28, 4);
			return word;
		}
	}
	die("no Multiboot header in the image: is it an exitpath image?");
	return 0;
}

static Elf64_Phdr load_segment(const struct file *elf)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment, load = { .p_type = PT_NULL };
	int i;

	if (elf->size < sizeof(header) || memcmp(elf->bytes, ELFMAG, SELFMAG))
		die("%s: not an ELF file", elf->path);
	memcpy(&header, elf->bytes, sizeof(header));
	for (i = 0; i < header.e_phnum; i++) {
		size_t at = header.e_phoff + i * sizeof(segment);

		if (at > elf->size || elf->size - at < sizeof(segment))
			die("%s: program headers lie outside the file", elf->path);
		memcpy(&segment, elf->bytes + at, sizeof(segment));
		if (segment.p_type != PT_LOAD)
			continue;
		if (load.p_type == PT_LOAD)
			die("%s: more than one PT_LOAD segment", elf->path);
		load = segment;
	}
	if (load.p_type != PT_LOAD || load.p_paddr != LOAD_ADDRESS)
		die("%s: no PT_LOAD segment at 1 MiB", elf->path);
	if (load.p_offset > elf->size || elf->size - load.p_offset < load.p_filesz ||
	    load.p_memsz < load.p_filesz || load.p_memsz > 0x7000000)
		die("%s: the PT_LOAD segment is malformed", elf->path);
	return load;
}

static uint32_t round_up(uint64_t size, uint32_t unit)
{
	return (size + unit - 1) & -(uint64_t)unit;
}

int main(int argc, char **argv)
{
	struct file elf, tree, stub;
	Elf64_Phdr load;
	uint32_t copy, size, base, table[5];
	uint8_t *rom;
	FILE *out;

	if (argc != 4)
		die("usage: mkrom IMAGE DTB OUT");
	elf = read_file(argv[1]);
	tree = read_file(argv[2]);
	stub = read_stub();
	load = load_segment(&elf);
	/* The tree is behind the image: libfdt wants it aligned. */
	copy = round_up(load.p_filesz, 16);
	size = round_up(copy + round_up(tree.size, 16) + STUB_SIZE, ROM_UNIT);
	if (size > ROM_MAX)
		die("%s and %s do not fit into %u KiB", argv[1], argv[2], ROM_MAX >> 10);
	rom = calloc(1, size);
	if (!rom)
		die("out of memory");

	base = -size;
	table[0] = base;
	table[1] = copy;
	table[2] = load.p_memsz > copy ? round_up(load.p_memsz - copy, 4) : 0;
	table[3] = base + copy;
	table[4] = entry_point(elf.bytes + load.p_offset, load.p_filesz);
	memcpy(rom, elf.bytes + load.p_offset, load.p_filesz);
	memcpy(rom + copy, tree.bytes, tree.size);
	memcpy(rom + size - STUB_SIZE, stub.bytes, STUB_SIZE);
	memcpy(rom + size - 0x30, table, sizeof(table));

	out = fopen(argv[3], "wb");
	if (!out || fwrite(rom, 1, size, out) != size || fclose(out))
		die("%s: %s", argv[3], strerror(errno));
	return 0;
}
