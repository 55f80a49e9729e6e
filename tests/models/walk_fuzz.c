/*
 * Searches for contradictions in the paging model (lib/x86/mmu/walk.c), with libFuzzer.
 *
 * An input becomes a scene: registers, an access, and a memory whose entries are made up as the
 * walk reads them, and stay. Then every property of walk_properties.c is asked: the model
 * must agree with the second model (walk_reference.c), and with itself when the scene is
 * changed in a way of which the SDM tells the effect. An input too short goes on as
 * pseudo-random numbers, so that even an empty corpus reaches everything.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdm/bits.h"
#include "walk_scene.h"

/* --- from bytes to a scene -------------------------------------------------------- */

static u32 byte(struct input *input)
{
	if (input->size) {
		input->size--;
		return *input->data++;
	}
	input->state ^= input->state << 13;
	input->state ^= input->state >> 7;
	input->state ^= input->state << 17;
	return input->state >> 32 & 0xff;
}

/* True in `part` of 256 cases. */
static bool in_256(struct input *input, u32 part)
{
	return byte(input) < part;
}

static u64 number(struct input *input)
{
	u64 value = 0;
	u32 i;

	for (i = 0; i < 8; i++)
		value = value << 8 | byte(input);
	return value;
}

/* One of four pages, so that tables are shared and reference themselves. */
static u64 any_page(struct input *input)
{
	u64 page = 0x10000 + (byte(input) & 3) * 0x1000;

	return in_256(input, 32) ? page | BIT(12 + byte(input) % 40) : page;
}

/* An entry of any mode: mostly present, mostly well-formed. */
static u64 any_entry(struct input *input)
{
	u64 entry = any_page(input) | (byte(input) & 0x7e) | RW | US;

	if (in_256(input, 4))
		return number(input);
	entry |= in_256(input, 240) ? P : 0;
	entry &= ~(in_256(input, 64) ? RW : 0);
	entry &= ~(in_256(input, 64) ? US : 0);
	entry |= in_256(input, 64) ? G : 0;
	entry |= in_256(input, 64) ? XD : 0;
	entry |= in_256(input, 96) ? (u64)(byte(input) & 15) << 59 : 0;
	entry |= in_256(input, 32) ? (u64)byte(input) << 52 | (byte(input) & BITS(11, 9)) : 0;
	if (in_256(input, 96)) {
		entry |= PS;
		if (in_256(input, 224))
			entry &= ~BITS(29, 13);
		if (in_256(input, 64))
			entry |= (u64)byte(input) << (13 + byte(input) % 10);
	}
	return entry;
}

static struct slot *find_slot(struct memory *memory, u64 address)
{
	u32 i;

	for (i = 0; i < memory->count; i++)
		if (memory->slot[i].address == (address & ~7ull))
			return &memory->slot[i];
	if (memory->count == SLOTS)
		abort();
	memory->slot[i].address = address & ~7ull;
	memory->slot[i].value = any_entry(memory->input);
	if (memory->is_32_bit)
		memory->slot[i].value = (memory->slot[i].value & BITS(31, 0)) |
					any_entry(memory->input) << 32;
	memory->count++;
	return &memory->slot[i];
}

u64 read_memory(void *opaque, u64 address, u32 size)
{
	struct memory *memory = opaque;
	u64 value = find_slot(memory, address)->value;

	if (size == 4)
		value = value >> (address & 4 ? 32 : 0) & BITS(31, 0);
	else if (size != 8 || address & 7)
		abort();
	return value & ~memory->clear;
}

void patch(struct memory *memory, u64 address, u64 set, u64 clear)
{
	struct slot *slot = find_slot(memory, address);
	u32 shift = address & 4 ? 32 : 0;

	slot->value = (slot->value & ~(clear << shift)) | set << shift;
}

static void any_cpu(struct input *input, struct walk_cpu *cpu)
{
	static const u64 cr4_bits[] = {
		CR4_PSE, CR4_PAE, CR4_PGE, CR4_LA57, CR4_SMEP, CR4_SMAP, CR4_PKE, CR4_PKS,
	};
	u32 choice = byte(input), i;

	cpu->cr0 = CR0_PE | (in_256(input, 250) ? CR0_PG : 0) | (in_256(input, 128) ? CR0_WP : 0);
	for (i = 0; i < ARRAY_SIZE(cr4_bits); i++)
		cpu->cr4 |= choice & 1 << i ? cr4_bits[i] : 0;
	cpu->efer = (in_256(input, 192) ? EFER_NXE : 0) | (in_256(input, 160) ? EFER_LME : 0);
	cpu->rflags = RFLAGS_FIXED | (in_256(input, 128) ? RFLAGS_AC : 0);
	cpu->pkru = number(input) & number(input);
	cpu->pkrs = number(input) & number(input);
	cpu->cpl = in_256(input, 112) ? 3 : byte(input) & 3;
	cpu->physical_bits = in_256(input, 128) ? 52 : 32 + byte(input) % 21;
	cpu->pages_1g = in_256(input, 192);
	cpu->pse36 = in_256(input, 192);
	/* Every processor with 4-level paging has PAT: 5.9. */
	cpu->pat = walk_mode(cpu) >= PAGING_4_LEVEL || in_256(input, 192);
	cpu->cet_ss = in_256(input, 128);
	cpu->cr3 = any_page(input) | (byte(input) & 0x18) | (in_256(input, 64) ? BITS(62, 61) : 0);
	for (i = 0; i < 4; i++)
		cpu->pdpte[i] = (any_page(input) | (in_256(input, 240) ? P : 0)) &
				~walk_pdpte_reserved(cpu);
}

static void any_access(struct input *input, const struct walk_cpu *cpu, struct walk_access *access)
{
	enum paging_mode mode = walk_mode(cpu);

	access->address = number(input);
	if (mode <= PAGING_PAE)
		access->address &= BITS(31, 0);
	else if (in_256(input, 240))
		access->address = (s64)access->address >> (in_256(input, 128) ? 16 : 7);
	access->kind = byte(input) % 3;
	if (access->kind == ACCESS_FETCH)
		return;
	/* CR4.CET needs CR0.WP: 2.5. */
	access->shadow_stack = cpu->cet_ss && cpu->cr0 & CR0_WP && in_256(input, 96);
	access->wruss = access->shadow_stack && access->kind == ACCESS_WRITE && !cpu->cpl &&
			in_256(input, 128);
	access->implicit = !access->wruss && in_256(input, 64);
}

static void any_scene(struct input *input, struct scene *scene)
{
	memset(scene, 0, sizeof(*scene));
	scene->memory.input = input;
	any_cpu(input, &scene->cpu);
	any_access(input, &scene->cpu, &scene->access);
	scene->memory.is_32_bit = walk_mode(&scene->cpu) == PAGING_32_BIT;
}

bool uses_page(const struct memory *memory, u64 page)
{
	u32 i;

	for (i = 0; i < memory->count; i++)
		if ((memory->slot[i].address & PAGE_MASK) == page)
			return true;
	return false;
}

/* --- judging ------------------------------------------------------------------------ */

void walk_scene(struct scene *scene)
{
	scene->result = walk(&scene->cpu, &scene->access, read_memory, &scene->memory);
}

static void print_scene(const struct scene *scene)
{
	const struct walk_cpu *cpu = &scene->cpu;
	const struct walk_result *result = &scene->result;
	u32 i;

#define LL(x) (unsigned long long)(x)
	fprintf(stderr, "CR0 %#llx CR3 %#llx CR4 %#llx EFER %#llx RFLAGS %#llx PKRU %#x PKRS %#x\n"
		"CPL %u MAXPHYADDR %u 1G %d PSE36 %d PAT %d CET %d\n", LL(cpu->cr0), LL(cpu->cr3),
		LL(cpu->cr4), LL(cpu->efer), LL(cpu->rflags), cpu->pkru, cpu->pkrs, cpu->cpl,
		cpu->physical_bits, cpu->pages_1g, cpu->pse36, cpu->pat, cpu->cet_ss);
	fprintf(stderr, "PDPTEs %#llx %#llx %#llx %#llx\n", LL(cpu->pdpte[0]), LL(cpu->pdpte[1]),
		LL(cpu->pdpte[2]), LL(cpu->pdpte[3]));
	fprintf(stderr, "access %d at %#llx implicit %d shadow stack %d WRUSS %d\n",
		scene->access.kind, LL(scene->access.address), scene->access.implicit,
		scene->access.shadow_stack, scene->access.wruss);
	for (i = 0; i < scene->memory.count; i++)
		fprintf(stderr, "  memory %#llx: %#018llx\n", LL(scene->memory.slot[i].address),
			LL(scene->memory.slot[i].value));
	fprintf(stderr, "mode %d outcome %d error %#x physical %#llx size %#llx rights %d%d%d%d "
		"key %u PAT %u\n", result->mode, result->kind, result->error_code,
		LL(result->physical),
		LL(result->page_size), result->user_address, result->writable, result->executable,
		result->global, result->protection_key, result->pat_index);
	for (i = 0; i < result->steps; i++)
		fprintf(stderr, "  level %u at %#llx: %#llx must set %#llx may set %#llx\n",
			result->step[i].level, LL(result->step[i].address),
			LL(result->step[i].value), LL(result->step[i].must_set),
			LL(result->step[i].may_set));
}

static const char *property;

void contradict(const struct scene *one, const struct scene *other, const char *what, int line)
{
	fprintf(stderr, "\n%s: does not hold: %s (line %d)\n", property, what, line);
	print_scene(one);
	fprintf(stderr, "against\n");
	print_scene(other);
	abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input input = { data, size, 0x9e3779b97f4a7c15 };
	struct scene scene;
	size_t i;

	for (i = 0; i < size; i++)
		input.state = (input.state ^ data[i]) * 0x100000001b3;
	input.state |= 1;
	any_scene(&input, &scene);
	walk_scene(&scene);
	for (i = 0; i < property_count; i++) {
		property = properties[i].name;
		properties[i].require(&scene);
	}
	return 0;
}
