/* Puts an ELF into guest memory, as its program headers say. */
#include "loader.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "entry.h"

static int check_header(const Elf64_Ehdr *header, size_t size, struct text *error)
{
	const char *problem = NULL;

	if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		problem = "not an ELF file";
	else if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64)
		problem = "not a 64-bit x86 ELF file";
	else if (header->e_type != ET_EXEC)
		problem = "not a statically linked executable (ET_EXEC)";
	else if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phoff > size ||
		 header->e_phnum > (size - header->e_phoff) / sizeof(Elf64_Phdr))
		problem = "its program headers reach beyond its end: truncated?";
	if (!problem)
		return 0;
	text_print(error, "%s", problem);
	return -1;
}

static int load_segment(const struct memory *memory, const uint8_t *elf, size_t size,
			const Elf64_Phdr *segment, struct text *error)
{
	const struct memory_range boot = { ENTRY_START, ENTRY_END - ENTRY_START };
	const unsigned long long start = segment->p_paddr, bytes = segment->p_memsz;
	uint8_t *to;

	if (segment->p_offset > size || segment->p_filesz > size - segment->p_offset ||
	    segment->p_filesz > segment->p_memsz) {
		text_print(error, "a segment reaches beyond the end of the file: truncated?");
		return -1;
	}
	to = memory_at(memory, segment->p_paddr, segment->p_memsz);
	if (!to) {
		text_print(error,
			   "its 0x%llx bytes at 0x%llx are not in the memory of the tree", bytes,
			   start);
		return -1;
	}
	if (start < boot.start + boot.size && boot.start < start + bytes) {
		text_print(error,
			   "its 0x%llx bytes at 0x%llx overlap the page tables at 0x%x-0x%x", bytes,
			   start, ENTRY_START, ENTRY_END - 1);
		return -1;
	}
	/* The rest, bss, is zero already: see struct memory_slot. */
	memcpy(to, elf + segment->p_offset, segment->p_filesz);
	return 0;
}

/*
 * Copies the segments of the `size` bytes of ELF file at `elf` into `memory`.
 * Returns 0 with `image` filled, or -1 with half a sentence about the file in `error`.
 */
int load_elf(struct loaded_image *image, const struct memory *memory, const void *elf, size_t size,
	     struct text *error)
{
	Elf64_Ehdr header;
	uint64_t start = UINT64_MAX, end = 0;
	bool entry_loaded = false;

	if (check_header(elf, size, error))
		return -1;
	memcpy(&header, elf, sizeof(header));
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		memcpy(&segment,
		       (const uint8_t *)elf + header.e_phoff + (size_t)i * sizeof(segment),
		       sizeof(segment));
		if (segment.p_type != PT_LOAD || !segment.p_memsz)
			continue;
		if (load_segment(memory, elf, size, &segment, error))
			return -1;
		if (segment.p_paddr < start)
			start = segment.p_paddr;
		if (segment.p_paddr + segment.p_memsz > end)
			end = segment.p_paddr + segment.p_memsz;
		entry_loaded |= header.e_entry - segment.p_paddr < segment.p_filesz;
	}
	if (!entry_loaded) {
		text_print(error, "its entry point 0x%llx is in no segment that is loaded",
			   (unsigned long long)header.e_entry);
		return -1;
	}
	if (end > ENTRY_MAPPED) {
		text_print(error, "it ends above 4 GiB, which the entry does not map");
		return -1;
	}
	*image = (struct loaded_image){ header.e_entry, { start, end - start } };
	return 0;
}
