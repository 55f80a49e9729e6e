#include "walk_reference.h"

/* Structures by name, as in table 5-2. */
enum structure { NOTHING, PML5, PML4, PDPT, PD, PT };

/* Which bits of a linear address select an entry of which structure. */
static const struct scheme {
	u32 entry_size;
	u32 linear_bits;
	struct part { enum structure structure; u32 high, low; } part[6];
} schemes[PAGING_MODES] = {
	[PAGING_32_BIT] = { 4, 32, { { PD, 31, 22 }, { PT, 21, 12 } } },
	[PAGING_PAE] = { 8, 32, { { PDPT, 31, 30 }, { PD, 29, 21 }, { PT, 20, 12 } } },
	[PAGING_4_LEVEL] = { 8, 48, { { PML4, 47, 39 }, { PDPT, 38, 30 }, { PD, 29, 21 },
				      { PT, 20, 12 } } },
	[PAGING_5_LEVEL] = { 8, 57, { { PML5, 56, 48 }, { PML4, 47, 39 }, { PDPT, 38, 30 },
				      { PD, 29, 21 }, { PT, 20, 12 } } },
};

/* An entry that the address selects. */
struct found {
	enum structure structure;
	bool is_register;		/* a PDPTE register of PAE paging */
	bool maps_page;
	u32 offset_bits;		/* of the region that it controls */
	u64 address, value;
};

struct translation {
	const struct walk_cpu *cpu;
	const struct walk_access *access;
	enum paging_mode mode;
	u32 count;
	struct found found[5];
};

static bool bit(u64 value, u32 number)
{
	return value >> number & 1;
}

/* value[high:low]; nothing when high is below low. */
static u64 slice(u64 value, u32 high, u32 low)
{
	u64 result = 0;
	u32 i;

	for (i = low; i <= high; i++)
		if (bit(value, i))
			result += (u64)1 << (i - low);
	return result;
}

/* Flags by their number: 2.5 Control Registers, 2.2.1, 5.1. */
static bool paging(const struct walk_cpu *cpu) { return bit(cpu->cr0, 31); }
static bool wp(const struct walk_cpu *cpu) { return bit(cpu->cr0, 16); }
static bool pse(const struct walk_cpu *cpu) { return bit(cpu->cr4, 4); }
static bool pae(const struct walk_cpu *cpu) { return bit(cpu->cr4, 5); }
static bool pge(const struct walk_cpu *cpu) { return bit(cpu->cr4, 7); }
static bool la57(const struct walk_cpu *cpu) { return bit(cpu->cr4, 12); }
static bool smep(const struct walk_cpu *cpu) { return bit(cpu->cr4, 20); }
static bool smap(const struct walk_cpu *cpu) { return bit(cpu->cr4, 21); }
static bool pke(const struct walk_cpu *cpu) { return bit(cpu->cr4, 22); }
static bool pks(const struct walk_cpu *cpu) { return bit(cpu->cr4, 24); }
static bool lme(const struct walk_cpu *cpu) { return bit(cpu->efer, 8); }
static bool nxe(const struct walk_cpu *cpu) { return bit(cpu->efer, 11); }
static bool ac(const struct walk_cpu *cpu) { return bit(cpu->rflags, 18); }

static enum paging_mode find_mode(const struct walk_cpu *cpu)
{
	const enum paging_mode with_pae[2][2] = {
		{ PAGING_PAE, PAGING_PAE }, { PAGING_4_LEVEL, PAGING_5_LEVEL },
	};

	if (!paging(cpu))
		return PAGING_OFF;
	return pae(cpu) ? with_pae[lme(cpu)][la57(cpu)] : PAGING_32_BIT;
}

static bool is_long(enum paging_mode mode)
{
	return mode >= PAGING_4_LEVEL;
}

/* --- the entries --------------------------------------------------------------- */

static bool maps_page(const struct translation *t, const struct found *entry)
{
	bool ps = bit(entry->value, 7);

	switch (entry->structure) {
	case PT:
		return true;
	case PD:
		return ps && (t->mode != PAGING_32_BIT || pse(t->cpu));
	case PDPT:
		return ps && is_long(t->mode) && t->cpu->pages_1g;
	default:
		return false;
	}
}

/* Follows the tables until an entry maps a page or is not present; a malformed one is no end. */
static void collect(struct translation *t, walk_read *read, void *memory)
{
	const struct scheme *scheme = &schemes[t->mode];
	u32 top = t->mode == PAGING_32_BIT ? 31 : 51;
	u64 table = slice(t->cpu->cr3, top, 12);
	const struct part *part;

	for (part = scheme->part; part->structure; part++) {
		struct found *entry = &t->found[t->count++];
		u64 index = slice(t->access->address, part->high, part->low);

		entry->structure = part->structure;
		entry->offset_bits = part->low;
		entry->is_register = t->mode == PAGING_PAE && part->structure == PDPT;
		if (entry->is_register) {
			entry->value = t->cpu->pdpte[index];
		} else {
			entry->address = table * 4096 + index * scheme->entry_size;
			entry->value = read(memory, entry->address, scheme->entry_size);
		}
		entry->maps_page = maps_page(t, entry);
		if (!bit(entry->value, 0) || entry->maps_page)
			return;
		table = slice(entry->value, top, 12);
	}
}

/* --- reserved bits: the lists at the ends of 5.3, 5.4.2 and 5.5.4 ------------------ */

#define NONE(when, high, low)	if ((when) && slice(entry->value, high, low)) return true

static bool breaks_32_bit(const struct walk_cpu *cpu, const struct found *entry)
{
	bool large = entry->structure == PD && entry->maps_page;
	u32 m = cpu->physical_bits;

	if (!pse(cpu))
		return false;
	NONE(large && !cpu->pse36, 21, 13);
	NONE(large && cpu->pse36 && m <= 40, 21, m - 19);
	NONE(large && cpu->pse36 && m > 40, 21, 21);
	NONE(large && !cpu->pat, 12, 12);
	NONE(entry->structure == PT && !cpu->pat, 7, 7);
	return false;
}

static bool breaks_pae(const struct walk_cpu *cpu, const struct found *entry)
{
	/* The registers were checked when they were loaded. */
	if (entry->is_register)
		return false;
	NONE(true, 62, cpu->physical_bits);
	NONE(entry->structure == PD && entry->maps_page, 20, 13);
	NONE(!nxe(cpu), 63, 63);
	NONE(entry->structure == PT && !cpu->pat, 7, 7);
	NONE(entry->structure == PD && entry->maps_page && !cpu->pat, 12, 12);
	return false;
}

static bool breaks_long(const struct walk_cpu *cpu, const struct found *entry)
{
	NONE(true, 51, cpu->physical_bits);
	NONE(entry->structure == PML5, 7, 7);
	NONE(entry->structure == PML4, 7, 7);
	NONE(entry->structure == PDPT && !cpu->pages_1g, 7, 7);
	NONE(entry->structure == PDPT && entry->maps_page, 29, 13);
	NONE(entry->structure == PD && entry->maps_page, 20, 13);
	NONE(!nxe(cpu), 63, 63);
	return false;
}

static bool is_malformed(const struct translation *t, const struct found *entry)
{
	switch (t->mode) {
	case PAGING_32_BIT:
		return breaks_32_bit(t->cpu, entry);
	case PAGING_PAE:
		return breaks_pae(t->cpu, entry);
	default:
		return breaks_long(t->cpu, entry);
	}
}

/* --- access rights: 5.6 -------------------------------------------------------------- */

/* All that the rules ask for. */
struct circumstances {
	bool read, write, fetch, stack;
	bool user_access, implicit;
	bool user_address, read_only, no_execute, stack_address;
	bool key_no_access, key_no_write;
};

/* How many of the entries (PDPTE registers aside) have this flag. */
static u32 having(const struct translation *t, u32 flag, u32 *of)
{
	u32 i, n = 0;

	for (i = *of = 0; i < t->count; i++) {
		if (t->found[i].is_register)
			continue;
		++*of;
		n += bit(t->found[i].value, flag);
	}
	return n;
}

static struct circumstances find_circumstances(const struct translation *t)
{
	const struct walk_access *access = t->access;
	u64 leaf = t->found[t->count - 1].value;
	struct circumstances c = {
		.read = access->kind == ACCESS_READ,
		.write = access->kind == ACCESS_WRITE,
		.fetch = access->kind == ACCESS_FETCH,
		.stack = access->shadow_stack,
		.implicit = access->implicit,
	};
	u32 all, writable, key = slice(leaf, 62, 59);

	c.user_access = t->cpu->cpl < 3 || access->implicit ? access->wruss : true;
	c.user_address = having(t, 2, &all) == all;
	writable = having(t, 1, &all);
	c.read_only = writable != all;
	c.stack_address = writable == all - 1 && !bit(leaf, 1) && bit(leaf, 6);
	c.no_execute = t->mode != PAGING_32_BIT && nxe(t->cpu) && having(t, 63, &all) > 0;
	if (is_long(t->mode) && c.user_address && pke(t->cpu)) {
		c.key_no_access = bit(t->cpu->pkru, 2 * key);
		c.key_no_write = bit(t->cpu->pkru, 2 * key + 1);
	}
	if (is_long(t->mode) && !c.user_address && pks(t->cpu)) {
		c.key_no_access = bit(t->cpu->pkrs, 2 * key);
		c.key_no_write = bit(t->cpu->pkrs, 2 * key + 1);
	}
	return c;
}

static bool key_forbids(const struct walk_cpu *cpu, const struct circumstances *c)
{
	const bool objections[] = {
		!c->fetch && c->key_no_access,
		c->write && c->user_access && c->key_no_write,
		c->write && !c->user_access && c->key_no_write && wp(cpu),
	};

	return objections[0] || objections[1] || objections[2];
}

static bool is_forbidden(const struct walk_cpu *cpu, const struct circumstances *c)
{
	bool data = (c->read || c->write) && !c->stack;
	bool supervisor = !c->user_access;
	const bool objections[] = {
		key_forbids(cpu, c),
		/* supervisor-mode accesses */
		supervisor && data && c->user_address && smap(cpu) && c->implicit,
		supervisor && data && c->user_address && smap(cpu) && !ac(cpu),
		supervisor && data && c->write && wp(cpu) && c->read_only,
		supervisor && c->fetch && c->no_execute,
		supervisor && c->fetch && c->user_address && smep(cpu),
		supervisor && c->stack && c->user_address,
		/* user-mode accesses */
		c->user_access && !c->user_address,
		c->user_access && data && c->write && c->read_only,
		c->user_access && c->fetch && c->no_execute,
		/* both */
		c->stack && !c->stack_address,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(objections); i++)
		if (objections[i])
			return true;
	return false;
}

/* --- what comes of it: 5.7, 5.8 -------------------------------------------------------- */

static u32 error_code(const struct translation *t, bool present, bool reserved, bool key)
{
	const struct walk_access *access = t->access;
	bool user = access->wruss || (t->cpu->cpl == 3 && !access->implicit);
	bool tells_fetches = smep(t->cpu) || (pae(t->cpu) && nxe(t->cpu));

	return (present ? 1 : 0) + (access->kind == ACCESS_WRITE ? 2 : 0) + (user ? 4 : 0) +
	       (reserved ? 8 : 0) + (access->kind == ACCESS_FETCH && tells_fetches ? 16 : 0) +
	       (key ? 32 : 0) + (access->shadow_stack ? 64 : 0);
}

/* The first `used` entries as steps. */
static void report_steps(const struct translation *t, struct walk_result *result, u32 used)
{
	u32 i;

	for (i = 0; i < used; i++) {
		const struct found *entry = &t->found[i];
		struct walk_step *step = &result->step[result->steps];

		if (entry->is_register)
			continue;
		result->steps++;
		step->address = entry->address;
		step->value = entry->value;
		step->level = PT - entry->structure + 1;
		if (result->kind != WALK_DONE) {
			step->may_set = 0x20;
			continue;
		}
		step->must_set = 0x20;
		if (!entry->maps_page || t->access->kind != ACCESS_WRITE)
			continue;
		if (bit(entry->value, 1) || !t->cpu->cet_ss)
			step->must_set = 0x60;
		else
			step->may_set = 0x40;
	}
}

/* Bits of the physical address that come from the entry that maps the page. */
static u64 frame_address(const struct translation *t, const struct found *leaf)
{
	if (t->mode != PAGING_32_BIT)
		return slice(leaf->value, 51, leaf->offset_bits) << leaf->offset_bits;
	if (leaf->structure == PT)
		return slice(leaf->value, 31, 12) << 12;
	return slice(leaf->value, 20, 13) << 32 | slice(leaf->value, 31, 22) << 22;
}

static void report_page(const struct translation *t, const struct circumstances *c,
			struct walk_result *result)
{
	const struct found *leaf = &t->found[t->count - 1];
	u32 pat = leaf->structure == PT ? 7 : 12;

	result->page_size = (u64)1 << leaf->offset_bits;
	result->physical = frame_address(t, leaf) +
			   slice(t->access->address, leaf->offset_bits - 1, 0);
	result->user_address = c->user_address;
	result->writable = !c->read_only;
	result->executable = !c->no_execute;
	result->global = pge(t->cpu) && bit(leaf->value, 8);
	result->protection_key = is_long(t->mode) ? slice(leaf->value, 62, 59) : 0;
	result->pat_index = slice(leaf->value, 4, 3) +
			    (t->cpu->pat && bit(leaf->value, pat) ? 4 : 0);
}

static struct walk_result page_fault(const struct translation *t, struct walk_result result,
				     u32 error, u32 used)
{
	result.kind = WALK_PAGE_FAULT;
	result.error_code = error;
	report_steps(t, &result, used);
	return result;
}

struct walk_result reference_walk(const struct walk_cpu *cpu, const struct walk_access *access,
				  walk_read *read, void *memory)
{
	struct translation t = { .cpu = cpu, .access = access, .mode = find_mode(cpu) };
	struct walk_result result = { .mode = t.mode };
	struct circumstances c;
	u32 i;

	if (t.mode == PAGING_OFF) {
		result.physical = slice(access->address, 31, 0);
		result.user_address = result.writable = result.executable = true;
		return result;
	}
	if (is_long(t.mode)) {
		u32 unused = 64 - schemes[t.mode].linear_bits;

		if ((u64)((s64)(access->address << unused) >> unused) != access->address) {
			result.kind = WALK_NOT_CANONICAL;
			return result;
		}
	}
	collect(&t, read, memory);
	for (i = 0; i < t.count; i++) {
		if (!bit(t.found[i].value, 0))
			return page_fault(&t, result, error_code(&t, false, false, false), i);
		if (is_malformed(&t, &t.found[i]))
			return page_fault(&t, result, error_code(&t, true, true, false), i);
	}
	c = find_circumstances(&t);
	if (is_forbidden(cpu, &c))
		return page_fault(&t, result, error_code(&t, true, false, key_forbids(cpu, &c)),
				  t.count);
	report_steps(&t, &result, t.count);
	report_page(&t, &c, &result);
	return result;
}

/* --- memory types: 14.11, 5.9.2, table 14-7 as sentences ------------------------- */

/* Field `number` of eight bytes. */
static u32 field(u64 value, u32 number)
{
	return slice(value, 8 * number + 7, 8 * number);
}

static u32 fixed_range(const struct memory_type_registers *registers, u64 physical)
{
	if (physical < 0x80000)
		return field(registers->fixed[0], physical / 0x10000);
	if (physical < 0xc0000)
		return field(registers->fixed[1 + (physical >= 0xa0000)], physical / 0x4000 % 8);
	return field(registers->fixed[3 + (physical - 0xc0000) / 0x8000], physical / 0x1000 % 8);
}

static u32 reference_mtrr(const struct memory_type_registers *registers, u64 physical)
{
	u32 count = slice(registers->mtrrcap, 7, 0), found = 0, first = 0, i, type;
	bool all_same = true, all_wt_or_wb = true;

	if (!bit(registers->def_type, 11))
		return 0;
	if (bit(registers->def_type, 10) && bit(registers->mtrrcap, 8) && physical < 0x100000)
		return fixed_range(registers, physical);
	for (i = 0; i < count; i++) {
		u64 mask = slice(registers->variable[i].mask, 51, 12);

		if (!bit(registers->variable[i].mask, 11) ||
		    (slice(physical, 51, 12) & mask) !=
		    (slice(registers->variable[i].base, 51, 12) & mask))
			continue;
		type = slice(registers->variable[i].base, 2, 0);
		if (type == 0)
			return 0;
		if (!found++)
			first = type;
		all_same = all_same && type == first;
		all_wt_or_wb = all_wt_or_wb && (type == 4 || type == 6);
	}
	if (!found)
		return field(registers->def_type, 0);
	if (all_same)
		return first;
	return all_wt_or_wb ? 4 : MEMORY_TYPE_UNDEFINED;
}

/* UC and WC of the PAT win; UC- gives way to WC and WP; else it is the weaker of both. */
static u32 combine(u32 mtrr, u32 pat)
{
	if (mtrr == MEMORY_TYPE_UNDEFINED || pat <= 1)
		return mtrr == MEMORY_TYPE_UNDEFINED ? mtrr : pat;
	if (pat == 7)
		return mtrr == 1 || mtrr == 5 ? 1 : 0;
	if (mtrr == 0)
		return 0;
	if (mtrr == 1)
		return pat == 6 ? 1 : 0;
	return pat == 6 ? mtrr : pat;
}

enum memory_type reference_memory_type(const struct memory_type_registers *registers,
				       const struct walk_cpu *cpu, const struct walk_access *access,
				       const struct walk_result *result, u32 step)
{
	u64 selector;

	if (step == result->steps)
		return result->mode == PAGING_OFF ?
			       reference_mtrr(registers, result->physical) :
			       combine(reference_mtrr(registers, result->physical),
				       field(registers->pat, result->pat_index));
	if (step > 0)
		selector = result->step[step - 1].value;
	else if (result->mode == PAGING_PAE)
		selector = cpu->pdpte[slice(access->address, 31, 30)];
	else
		selector = bit(cpu->cr4, 17) ? 0 : cpu->cr3;
	return combine(reference_mtrr(registers, result->step[step].address),
		       field(registers->pat, bit(selector, 4) * 2 + bit(selector, 3)));
}
