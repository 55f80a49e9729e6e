/*
 * A static ELF64 image. The file is input: every offset, size and address in it is checked
 * before it is used.
 */
#ifndef IMAGEINFO_ELF64_H
#define IMAGEINFO_ELF64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf {
	const char *name;	/* for messages */
	uint8_t *data;
	size_t size;
};

/* The little-endian number in that many bytes. */
uint64_t little(const uint8_t *from, unsigned int bytes);

/*
 * Reads the file at path; name (NULL: the path) is what messages call it. The caller frees
 * elf->data. Dies when it is not a static little-endian ELF64 executable.
 */
void elf_load(struct elf *elf, const char *path, const char *name);

/* That many bytes at a virtual address; NULL when they are not all in the file. */
const uint8_t *elf_bytes(const struct elf *elf, uint64_t address, uint64_t size);

/* The C string at an address; NULL when it is not in the file or not one printable line. */
const char *elf_string(const struct elf *elf, uint64_t address);

/* Looks a symbol up in the symbol table; false when there is none of that name. */
bool elf_symbol(const struct elf *elf, const char *name, uint64_t *value);

#endif
