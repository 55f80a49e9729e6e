/*
 * imageinfo - reads the case table of an image and checks it against spec/.
 *
 *	imageinfo --spec DIR [--image AREA/IMAGE] ELF		the case list, docs/design.md
 *	imageinfo --spec DIR [--image AREA/IMAGE] --sections ELF	case_sections[] as C
 *	imageinfo --takes ELF					options of run that it uses
 *	imageinfo --spec DIR --facts				every fact: id, tab, section
 *
 * The case table lies between the symbols __cases_start and __cases_end of a static ELF64
 * image: RECORD_SIZE bytes for each case, all numbers little-endian, all pointers virtual
 * addresses. The image is input: whatever is in it, this program ends with a message.
 *
 * Exit status: 0, or 2 with a message on standard error and nothing on standard output.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elf64.h"
#include "spec.h"

#define RECORD_SIZE 64
#define NEED_SIZE 32

/* One record of the case table, pointers still those of the image, strings resolved. */
struct test_case {
	const char *name;
	const char *file;
	uint32_t line;
	uint64_t facts;
	uint64_t needs;
	const struct fact *first;
};

struct image {
	struct elf elf;
	struct test_case *cases;
	size_t count;
	unsigned int errors;
};

/* One complaint about a case; there may be more. */
static void complain(struct image *image, const struct test_case *test, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void complain(struct image *image, const struct test_case *test, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s:%u: ", test->file, test->line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	image->errors++;
}

/* String number INDEX of a fact list; NULL at the end; dies when the list leaves the image. */
static const char *fact_of(const struct image *image, const struct test_case *test, uint64_t index)
{
	const uint8_t *entry;
	const char *fact;

	if (!test->facts)
		return NULL;
	entry = elf_bytes(&image->elf, test->facts + 8 * index, 8);
	if (entry && !little(entry, 8))
		return NULL;
	fact = entry ? elf_string(&image->elf, little(entry, 8)) : NULL;
	if (!fact)
		die("%s: case %s: its list of facts is broken at entry %u; build the image again",
		    image->elf.name, test->name, (unsigned int)index);
	return fact;
}

/* The words of need number INDEX; as fact_of(). */
static const char *need_of(const struct image *image, const struct test_case *test, uint64_t index)
{
	const uint8_t *entry;
	const char *need;

	if (!test->needs)
		return NULL;
	entry = elf_bytes(&image->elf, test->needs + NEED_SIZE * index, NEED_SIZE);
	if (entry && !little(entry, 8))
		return NULL;
	need = entry ? elf_string(&image->elf, little(entry, 8)) : NULL;
	if (!need)
		die("%s: case %s: its list of needs is broken at entry %u; build the image again",
		    image->elf.name, test->name, (unsigned int)index);
	return need;
}

static void check_name(struct image *image, const struct test_case *test)
{
	const struct test_case *other;

	if (!*test->name || strspn(test->name, "abcdefghijklmnopqrstuvwxyz0123456789_") !=
	    strlen(test->name))
		complain(image, test, "bad case name \"%s\"; use only a-z, 0-9 and _", test->name);
	for (other = image->cases; other < test; other++)
		if (!strcmp(other->name, test->name))
			complain(image, test, "the case name \"%s\" is taken by %s:%u; use another",
				 test->name, other->file, other->line);
}

static void check_facts(struct image *image, struct test_case *test, const struct spec *spec)
{
	const char *id;
	uint64_t i;

	for (i = 0; (id = fact_of(image, test, i)); i++) {
		const struct fact *fact = spec_find(spec, id);

		if (!i)
			test->first = fact;
		if (!fact)
			complain(image, test, "unknown fact \"%s\"; did you mean \"%s\"? "
				 "An id is FILE:KEY, KEY is the first column of spec/FILE.csv",
				 id, spec_similar(spec, id));
	}
}

static void check_case(struct image *image, uint64_t number, const uint8_t *record,
		       const struct spec *spec)
{
	struct test_case *test = &image->cases[number];
	uint64_t i;

	test->name = elf_string(&image->elf, little(record, 8));
	test->facts = little(record + 8, 8);
	test->needs = little(record + 16, 8);
	test->file = elf_string(&image->elf, little(record + 24, 8));
	test->line = (uint32_t)little(record + 48, 4);
	if (!test->name || !test->file)
		die("%s: case %u has no %s; declare it with CASE()", image->elf.name,
		    (unsigned int)number + 1, test->name ? "source file" : "name");
	if (!little(record + 32, 8))
		complain(image, test, "case %s has no function; declare it with CASE()",
			 test->name);
	check_name(image, test);
	check_facts(image, test, spec);
	for (i = 0; need_of(image, test, i); i++)
		;
}

/* Reads and checks the whole table. Dies when there is none, and when a case is wrong. */
static void image_load(struct image *image, const struct spec *spec)
{
	const struct elf *elf = &image->elf;
	const uint8_t *table;
	uint64_t start, end, i;

	if (!elf_symbol(elf, "__cases_start", &start) || !elf_symbol(elf, "__cases_end", &end))
		die("%s: no symbols __cases_start and __cases_end; is it an image, not stripped?",
		    elf->name);
	if (start == end)
		die("%s: no cases in it; declare at least one with CASE()", elf->name);
	table = end < start ? NULL : elf_bytes(elf, start, end - start);
	if (!table || (end - start) % RECORD_SIZE)
		die("%s: the case table is not in the file, or its size no multiple of %u; "
		    "build the image again", elf->name, RECORD_SIZE);
	image->count = (end - start) / RECORD_SIZE;
	image->cases = calloc(image->count, sizeof(*image->cases));
	if (!image->cases)
		die("out of memory");
	for (i = 0; i < image->count; i++)
		check_case(image, i, table + i * RECORD_SIZE, spec);
	if (image->errors)
		die("%s: mistakes in its cases, listed above; nothing written", elf->name);
}

/* The item function of a list: string number INDEX, NULL at its end. */
typedef const char *list_item(const struct image *image, const struct test_case *test,
			      uint64_t index);

static void print_list(const struct image *image, const struct test_case *test,
		       list_item *item, const char *separator)
{
	const char *text;
	uint64_t i;

	for (i = 0; (text = item(image, test, i)); i++)
		printf("%s%s", i ? separator : "", text);
	printf("%s\t", i ? "" : "-");
}

/* The case list: the columns of docs/design.md. */
static void print_cases(const struct image *image, const struct spec *spec)
{
	size_t i;

	for (i = 0; i < image->count; i++) {
		const struct test_case *test = &image->cases[i];
		const char *section = test->first ? test->first->section : "";
		const char *title = spec_title(spec, section);

		printf("%zu\t%s\t", i + 1, test->name);
		print_list(image, test, fact_of, " ");
		print_list(image, test, need_of, "; ");
		printf("%s:%u\t%s\t%s\n", test->file, test->line, *section ? section : "-",
		       title ? title : "-");
	}
}

static void print_quoted(const char *text)
{
	for (; *text; text++)
		printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
}

/* The sections of the cases as C, for the second link of the image. */
static void print_sections(const struct image *image, const struct spec *spec)
{
	size_t i;

	printf("/* Made by imageinfo from %s. */\n", image->elf.name);
	puts("extern const char *const case_sections[];");
	puts("extern const unsigned int case_section_count;\n");
	puts("const char *const case_sections[] = {");
	for (i = 0; i < image->count; i++) {
		const struct fact *first = image->cases[i].first;
		const char *title = first ? spec_title(spec, first->section) : NULL;

		if (!title) {
			puts("\t(const char *)0,");
			continue;
		}
		printf("\t\"");
		print_quoted(first->section);
		putchar(' ');
		print_quoted(title);
		puts("\",");
	}
	printf("};\nconst unsigned int case_section_count = %zu;\n", image->count);
}

/* What `exitpath run` can tell the image beyond what it tells all: one word a line. */
static void print_takes(const struct elf *elf)
{
	uint64_t value;

	if (elf_symbol(elf, "platform_count", &value))
		puts("count");
}

static void usage(FILE *to)
{
	fputs("usage: imageinfo --spec DIR [--image AREA/IMAGE] [--sections] ELF\n"
	      "       imageinfo --takes ELF\n"
	      "       imageinfo --spec DIR --facts\n"
	      "  --spec DIR          the folder with the tables of facts\n"
	      "  --image AREA/IMAGE  the name of the image, for messages\n"
	      "  --sections          print case_sections[] as C instead of the case list\n"
	      "  --takes             print what the image makes use of, for instance count\n"
	      "  --facts             print every fact: id, tab, section\n", to);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "spec", required_argument, NULL, 's' },
		{ "image", required_argument, NULL, 'i' },
		{ "sections", no_argument, NULL, 'c' },
		{ "takes", no_argument, NULL, 't' },
		{ "facts", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct spec spec = { 0 };
	struct image image = { 0 };
	const char *dir = NULL, *name = NULL;
	int option, mode = 0;
	size_t i;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 's') {
			dir = optarg;
		} else if (option == 'i') {
			name = optarg;
		} else if (option == 'h') {
			usage(stdout);
			return 0;
		} else if (option == '?') {
			usage(stderr);
			return 2;
		} else {
			mode = option;
		}
	}
	if (!dir != (mode == 't') || argc - optind != (mode != 'f')) {
		usage(stderr);
		return 2;
	}
	if (dir)
		spec_load(&spec, dir);
	if (mode == 't') {
		elf_load(&image.elf, argv[optind], name);
		print_takes(&image.elf);
	} else if (mode == 'f') {
		for (i = 0; i < spec.fact_count; i++)
			printf("%s\t%s\n", spec.facts[i].id, spec.facts[i].section);
	} else {
		elf_load(&image.elf, argv[optind], name);
		image_load(&image, &spec);
		if (mode == 'c')
			print_sections(&image, &spec);
		else
			print_cases(&image, &spec);
	}
	if (fflush(stdout) || ferror(stdout))
		die("standard output: %s", strerror(errno));
	free(image.elf.data);
	free(image.cases);
	spec_free(&spec);
	return 0;
}
