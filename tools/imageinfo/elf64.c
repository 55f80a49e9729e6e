#include "elf64.h"

#include <elf.h>
#include <string.h>

#include "spec.h"

uint64_t little(const uint8_t *from, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | from[bytes];
	return value;
}

#define FIELD(base, type, member) \
	little((base) + offsetof(type, member), sizeof(((type *)0)->member))

/* Entry number INDEX of the header table at OFFSET, NULL when it is not in the file. */
static const uint8_t *elf_entry(const struct elf *elf, uint64_t offset, uint64_t index,
				uint64_t stride, uint64_t size)
{
	if (offset > elf->size || stride < size || index >= (elf->size - offset) / stride)
		return NULL;
	return elf->data + offset + index * stride;
}

/* The bytes at an address of the image and how many follow them in the file; else NULL. */
static const uint8_t *elf_at(const struct elf *elf, uint64_t address, uint64_t *left)
{
	uint64_t number = FIELD(elf->data, Elf64_Ehdr, e_phnum);
	uint64_t i;

	for (i = 0; i < number; i++) {
		const uint8_t *segment = elf_entry(elf, FIELD(elf->data, Elf64_Ehdr, e_phoff), i,
						   FIELD(elf->data, Elf64_Ehdr, e_phentsize),
						   sizeof(Elf64_Phdr));
		uint64_t start, offset, size;

		if (!segment)
			return NULL;
		if (FIELD(segment, Elf64_Phdr, p_type) != PT_LOAD)
			continue;
		start = FIELD(segment, Elf64_Phdr, p_vaddr);
		offset = FIELD(segment, Elf64_Phdr, p_offset);
		size = FIELD(segment, Elf64_Phdr, p_filesz);
		if (offset > elf->size || size > elf->size - offset)
			continue;
		if (address >= start && address - start < size) {
			*left = size - (address - start);
			return elf->data + offset + (address - start);
		}
	}
	return NULL;
}

const uint8_t *elf_bytes(const struct elf *elf, uint64_t address, uint64_t size)
{
	uint64_t left = 0;
	const uint8_t *bytes = elf_at(elf, address, &left);

	return left < size ? NULL : bytes;
}

const char *elf_string(const struct elf *elf, uint64_t address)
{
	uint64_t left = 0;
	const uint8_t *text = elf_at(elf, address, &left);
	uint64_t i;

	for (i = 0; i < left && text[i]; i++)
		if (text[i] < ' ' || text[i] > '~')
			return NULL;
	return i < left ? (const char *)text : NULL;
}

static const uint8_t *elf_section(const struct elf *elf, uint64_t index)
{
	if (index >= FIELD(elf->data, Elf64_Ehdr, e_shnum))
		return NULL;
	return elf_entry(elf, FIELD(elf->data, Elf64_Ehdr, e_shoff), index,
			 FIELD(elf->data, Elf64_Ehdr, e_shentsize), sizeof(Elf64_Shdr));
}

static bool elf_section_in_file(const struct elf *elf, const uint8_t *section)
{
	uint64_t offset = FIELD(section, Elf64_Shdr, sh_offset);

	return offset <= elf->size && FIELD(section, Elf64_Shdr, sh_size) <= elf->size - offset;
}

bool elf_symbol(const struct elf *elf, const char *name, uint64_t *value)
{
	const uint8_t *table = NULL;
	const uint8_t *strings, *symbol, *end;
	uint64_t i, offset, room;

	for (i = 0; (table = elf_section(elf, i)); i++)
		if (FIELD(table, Elf64_Shdr, sh_type) == SHT_SYMTAB)
			break;
	if (!table)
		return false;
	strings = elf_section(elf, FIELD(table, Elf64_Shdr, sh_link));
	if (!strings || !elf_section_in_file(elf, table) || !elf_section_in_file(elf, strings))
		return false;
	symbol = elf->data + FIELD(table, Elf64_Shdr, sh_offset);
	end = symbol + FIELD(table, Elf64_Shdr, sh_size);
	room = FIELD(strings, Elf64_Shdr, sh_size);
	for (; (size_t)(end - symbol) >= sizeof(Elf64_Sym); symbol += sizeof(Elf64_Sym)) {
		offset = FIELD(symbol, Elf64_Sym, st_name);
		if (FIELD(symbol, Elf64_Sym, st_shndx) == SHN_UNDEF || offset >= room ||
		    room - offset <= strlen(name))
			continue;
		if (memcmp(elf->data + FIELD(strings, Elf64_Shdr, sh_offset) + offset, name,
			   strlen(name) + 1))
			continue;
		*value = FIELD(symbol, Elf64_Sym, st_value);
		return true;
	}
	return false;
}

void elf_load(struct elf *elf, const char *path, const char *name)
{
	static const uint8_t magic[] = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB };

	elf->data = (uint8_t *)read_file(path, &elf->size);
	elf->name = name ? name : path;
	if (elf->size < sizeof(Elf64_Ehdr) || memcmp(elf->data, magic, sizeof(magic)))
		die("%s: not a 64-bit little-endian ELF file; build the image again", path);
	if (FIELD(elf->data, Elf64_Ehdr, e_type) != ET_EXEC)
		die("%s: not a static executable; link it with -static -no-pie", path);
}

