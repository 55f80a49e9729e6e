#include "mmu/memory_type_names.h"
#include "sdm/bits.h"

/* 14.11.1, 14.11.2: flags of the MTRRs. */
#define MTRRCAP_VCNT	BITS(7, 0)
#define MTRRCAP_FIX	BIT(8)
#define DEF_TYPE_FE	BIT(10)
#define DEF_TYPE_E	BIT(11)
#define PHYSMASK_VALID	BIT(11)

#define ADDRESS_BITS	BITS(51, 12)	/* of PHYSBASE and PHYSMASK */

/* Table 14-9: eight ranges in each register. */
static const struct { u32 base, size; } fixed_ranges[MTRR_FIXED_REGISTERS] = {
	{ 0x00000, 0x10000 },
	{ 0x80000, 0x4000 },
	{ 0xa0000, 0x4000 },
	{ 0xc0000, 0x1000 },
	{ 0xc8000, 0x1000 },
	{ 0xd0000, 0x1000 },
	{ 0xd8000, 0x1000 },
	{ 0xe0000, 0x1000 },
	{ 0xe8000, 0x1000 },
	{ 0xf0000, 0x1000 },
	{ 0xf8000, 0x1000 },
};

static enum memory_type fixed_type(const struct memory_type_registers *registers, u64 physical)
{
	u32 i, field;

	for (i = MTRR_FIXED_REGISTERS - 1; physical < fixed_ranges[i].base; i--)
		;
	field = (physical - fixed_ranges[i].base) / fixed_ranges[i].size;
	return FIELD(registers->fixed[i], 8 * field + 7, 8 * field);
}

/* 14.11.4.1 MTRR Precedences, for the ranges that `types` has a bit for. */
static enum memory_type precedent(u32 types)
{
	u32 type;

	if (types & BIT(MEMORY_TYPE_UC))
		return MEMORY_TYPE_UC;
	if (types == (BIT(MEMORY_TYPE_WT) | BIT(MEMORY_TYPE_WB)))
		return MEMORY_TYPE_WT;
	for (type = 0; !(types & BIT(type)); type++)
		;
	return types == BIT(type) ? (enum memory_type)type : MEMORY_TYPE_UNDEFINED;
}

enum memory_type mtrr_memory_type(const struct memory_type_registers *registers, u64 physical)
{
	u32 i, types = 0;

	if (!(registers->def_type & DEF_TYPE_E))
		return MEMORY_TYPE_UC;
	if (physical < 0x100000 && registers->mtrrcap & MTRRCAP_FIX &&
	    registers->def_type & DEF_TYPE_FE)
		return fixed_type(registers, physical);
	for (i = 0; i < (registers->mtrrcap & MTRRCAP_VCNT) && i < MTRR_VARIABLE_MAX; i++) {
		u64 base = registers->variable[i].base, mask = registers->variable[i].mask;

		if (mask & PHYSMASK_VALID && !((physical ^ base) & mask & ADDRESS_BITS))
			types |= BIT(FIELD(base, 2, 0));
	}
	return types ? precedent(types) : (enum memory_type)FIELD(registers->def_type, 7, 0);
}

enum memory_type pat_memory_type(const struct memory_type_registers *registers, u32 index)
{
	return FIELD(registers->pat, 8 * index + 7, 8 * index);
}

/* Table 14-2. */
static bool is_type(u32 type)
{
	return type <= MEMORY_TYPE_UC_MINUS && BIT(type) & (BITS(7, 4) | BITS(1, 0));
}

enum memory_type effective_memory_type(enum memory_type mtrr, enum memory_type pat)
{
	static const u8 table[MEMORY_TYPE_UC_MINUS][MEMORY_TYPE_UC_MINUS + 1] = {
		/* by the PAT: UC, WC, -, -, WT, WP, WB, UC- */
		[MEMORY_TYPE_UC] = { UC, WC, 0, 0, UC, UC, UC, UC },
		[MEMORY_TYPE_WC] = { UC, WC, 0, 0, UC, UC, WC, WC },
		[MEMORY_TYPE_WT] = { UC, WC, 0, 0, WT, WP, WT, UC },
		[MEMORY_TYPE_WP] = { UC, WC, 0, 0, WT, WP, WP, WC },
		[MEMORY_TYPE_WB] = { UC, WC, 0, 0, WT, WP, WB, UC },
	};

	/* No register can hold another: 14.11.2, 14.12.2. */
	if (!is_type(mtrr) || mtrr == MEMORY_TYPE_UC_MINUS || !is_type(pat))
		return MEMORY_TYPE_UNDEFINED;
	return table[mtrr][pat];
}

enum memory_type walk_memory_type(const struct memory_type_registers *registers,
				  const struct walk_result *result)
{
	enum memory_type mtrr = mtrr_memory_type(registers, result->physical);

	if (result->mode == PAGING_OFF)
		return mtrr;
	return effective_memory_type(mtrr, pat_memory_type(registers, result->pat_index));
}

/* What has PCD and PWT for the table that holds the entry of a step. */
static u64 reference_of(const struct walk_cpu *cpu, const struct walk_access *access,
			const struct walk_result *result, u32 step)
{
	if (step)
		return result->step[step - 1].value;
	if (result->mode == PAGING_PAE)
		return cpu->pdpte[FIELD(access->address, 31, 30)];
	return cpu->cr4 & CR4_PCIDE ? 0 : cpu->cr3;
}

enum memory_type walk_step_memory_type(const struct memory_type_registers *registers,
				       const struct walk_cpu *cpu,
				       const struct walk_access *access,
				       const struct walk_result *result, u32 step)
{
	u32 index = FIELD(reference_of(cpu, access, result, step), 4, 3);

	return effective_memory_type(mtrr_memory_type(registers, result->step[step].address),
				     pat_memory_type(registers, index));
}
