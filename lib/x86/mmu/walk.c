#include "mmu/walk.h"
#include "sdm/bits.h"

/* Bits that entries of all modes share: tables 5-4 to 5-23. */
#define ENTRY_P		BIT(0)
#define ENTRY_RW	BIT(1)
#define ENTRY_US	BIT(2)
#define ENTRY_A		BIT(5)
#define ENTRY_D		BIT(6)
#define ENTRY_PS	BIT(7)
#define ENTRY_G		BIT(8)
#define ENTRY_PAT_4K	BIT(7)
#define ENTRY_PAT_LARGE	BIT(12)
#define ENTRY_XD	BIT(63)

static const struct {
	u32 levels, entry_size, index_bits;
	u32 address_bits;	/* of a linear address */
} modes[PAGING_MODES] = {
	[PAGING_OFF]		= { 0, 0, 0, 64 },
	[PAGING_32_BIT]		= { 2, 4, 10, 32 },
	[PAGING_PAE]		= { 2, 8, 9, 32 },	/* below the PDPTE registers */
	[PAGING_4_LEVEL]	= { 4, 8, 9, 48 },
	[PAGING_5_LEVEL]	= { 5, 8, 9, 57 },
};

enum paging_mode walk_mode(const struct walk_cpu *cpu)
{
	if (!(cpu->cr0 & CR0_PG))
		return PAGING_OFF;
	if (!(cpu->cr4 & CR4_PAE))
		return PAGING_32_BIT;
	if (!(cpu->efer & EFER_LME))
		return PAGING_PAE;
	return cpu->cr4 & CR4_LA57 ? PAGING_5_LEVEL : PAGING_4_LEVEL;
}

static bool has_keys(enum paging_mode mode)
{
	return mode == PAGING_4_LEVEL || mode == PAGING_5_LEVEL;
}

/* The size of the region that one entry of `level` controls. */
static u64 region_size(enum paging_mode mode, u32 level)
{
	return PAGE_SIZE << (level - 1) * modes[mode].index_bits;
}

bool walk_is_leaf(const struct walk_cpu *cpu, enum paging_mode mode, u32 level, u64 entry)
{
	if (level == 1)
		return true;
	if (!(entry & ENTRY_PS))
		return false;
	if (mode == PAGING_32_BIT)
		return cpu->cr4 & CR4_PSE;
	return level == 2 || (level == 3 && cpu->pages_1g);
}

/*
 * 5.3 32-Bit Paging: none with CR4.PSE = 0, else those of a 4-MByte page, and what PAT would use.
 */
static u64 reserved_32_bit(const struct walk_cpu *cpu, u32 level, u64 entry)
{
	u32 bits = cpu->physical_bits < 40 ? cpu->physical_bits : 40;
	u64 reserved;

	if (!(cpu->cr4 & CR4_PSE) || !walk_is_leaf(cpu, PAGING_32_BIT, level, entry))
		return 0;
	if (level == 1)
		return cpu->pat ? 0 : ENTRY_PAT_4K;
	/*
	 * Bits 20:13 are address bits 39:32, of which those from M on are reserved; so is bit 21.
	 */
	reserved = cpu->pse36 ? BITS(21, bits - 19) : BITS(21, 13);
	return cpu->pat ? reserved : reserved | ENTRY_PAT_LARGE;
}

/* What is reserved in every entry of a mode with entries of 8 bytes. */
static u64 reserved_everywhere(const struct walk_cpu *cpu, enum paging_mode mode)
{
	u64 reserved = 0;

	/* Address bits from MAXPHYADDR on; with PAE paging also what is ignored in IA-32e mode. */
	if (mode == PAGING_PAE)
		reserved |= BITS(62, cpu->physical_bits);
	else if (cpu->physical_bits < 52)
		reserved |= BITS(51, cpu->physical_bits);
	if (!(cpu->efer & EFER_NXE))
		reserved |= ENTRY_XD;
	return reserved;
}

/* What is reserved in this entry besides. */
static __force_inline u64 reserved_here(const struct walk_cpu *cpu, enum paging_mode mode,
					u32 level, u64 entry)
{
	u64 reserved = 0;

	/* 5.5.4: PS where no page of that size exists. */
	if (level >= 4 || (level == 3 && !cpu->pages_1g))
		reserved |= ENTRY_PS;
	if (level > 1 && walk_is_leaf(cpu, mode, level, entry))
		reserved |= (region_size(mode, level) - 1) & BITS(63, 13);
	if (!cpu->pat && level == 1)
		reserved |= ENTRY_PAT_4K;
	if (!cpu->pat && level > 1 && walk_is_leaf(cpu, mode, level, entry))
		reserved |= ENTRY_PAT_LARGE;
	return reserved;
}

u64 walk_reserved(const struct walk_cpu *cpu, enum paging_mode mode, u32 level, u64 entry)
{
	if (mode == PAGING_OFF)
		return 0;
	if (mode == PAGING_32_BIT)
		return reserved_32_bit(cpu, level, entry);
	return reserved_everywhere(cpu, mode) | reserved_here(cpu, mode, level, entry);
}

u64 walk_pdpte_reserved(const struct walk_cpu *cpu)
{
	return BITS(63, cpu->physical_bits) | BITS(8, 5) | BITS(2, 1);
}

/* --- access rights: 5.6 ------------------------------------------------------ */

/* What the entries of a translation say together. */
struct rights {
	bool user_address, writable, execute_disable;
	bool shadow_stack;		/* a shadow-stack address: 5.6.1 */
	u8 key;
};

static bool is_user_access(const struct walk_cpu *cpu, const struct walk_access *access)
{
	return access->wruss || (cpu->cpl == 3 && !access->implicit);
}

/* 5.6.2 Protection Keys: only data accesses, with 4-level and 5-level paging. */
static bool key_denies(const struct walk_cpu *cpu, enum paging_mode mode,
		       const struct walk_access *access, const struct rights *rights)
{
	u32 keys = rights->user_address ? cpu->pkru : cpu->pkrs;
	u64 enable = rights->user_address ? CR4_PKE : CR4_PKS;
	bool access_disable, write_disable;

	if (!has_keys(mode) || !(cpu->cr4 & enable) || access->kind == ACCESS_FETCH)
		return false;
	access_disable = keys >> 2 * rights->key & 1;
	write_disable = keys >> (2 * rights->key + 1) & 1;
	if (access_disable)
		return true;
	return write_disable && access->kind == ACCESS_WRITE &&
	       (is_user_access(cpu, access) || cpu->cr0 & CR0_WP);
}

/* "For supervisor-mode accesses" of 5.6.1, without the keys. */
static bool supervisor_allowed(const struct walk_cpu *cpu, const struct walk_access *access,
			       const struct rights *rights)
{
	if (access->kind == ACCESS_FETCH)
		return !rights->execute_disable &&
		       !(rights->user_address && cpu->cr4 & CR4_SMEP);
	/* SMAP: EFLAGS.AC lifts it for explicit accesses only. */
	if (rights->user_address && cpu->cr4 & CR4_SMAP &&
	    (access->implicit || !(cpu->rflags & RFLAGS_AC)))
		return false;
	return access->kind == ACCESS_READ || rights->writable || !(cpu->cr0 & CR0_WP);
}

/* "For user-mode accesses". */
static bool user_allowed(const struct walk_access *access, const struct rights *rights)
{
	if (!rights->user_address)
		return false;
	if (access->kind == ACCESS_FETCH)
		return !rights->execute_disable;
	return access->kind == ACCESS_READ || rights->writable;
}

static bool rights_allow(const struct walk_cpu *cpu, enum paging_mode mode,
			 const struct walk_access *access, const struct rights *rights)
{
	bool user = is_user_access(cpu, access);

	if (key_denies(cpu, mode, access, rights))
		return false;
	/* A shadow-stack access is allowed to shadow-stack addresses of its own privilege alone. */
	if (access->shadow_stack)
		return rights->shadow_stack && rights->user_address == user;
	return user ? user_allowed(access, rights) : supervisor_allowed(cpu, access, rights);
}

/* 5.7 Page-Fault Exceptions: the bits that depend on the access alone. */
static u32 error_of_access(const struct walk_cpu *cpu, const struct walk_access *access)
{
	u32 error = 0;

	if (access->kind == ACCESS_WRITE)
		error |= PF_WR;
	if (is_user_access(cpu, access))
		error |= PF_US;
	if (access->kind == ACCESS_FETCH &&
	    (cpu->cr4 & CR4_SMEP || (cpu->cr4 & CR4_PAE && cpu->efer & EFER_NXE)))
		error |= PF_ID;
	if (access->shadow_stack)
		error |= PF_SS;
	return error;
}

/* --- the walk ---------------------------------------------------------------- */

static bool is_canonical(u64 address, u32 bits)
{
	u64 top = BITS(63, bits - 1);

	return (address & top) == 0 || (address & top) == top;
}

static u64 entry_address(enum paging_mode mode, u64 table, u64 linear, u32 level)
{
	u32 bits = modes[mode].index_bits;
	u64 index = linear >> (12 + (level - 1) * bits) & (BIT(bits) - 1);

	return table + index * modes[mode].entry_size;
}

static u64 table_address(enum paging_mode mode, u64 entry)
{
	return entry & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12));
}

static u64 page_address(enum paging_mode mode, u32 level, u64 entry)
{
	if (mode != PAGING_32_BIT)
		return entry & BITS(51, 12) & ~(region_size(mode, level) - 1);
	if (level == 1)
		return entry & BITS(31, 12);
	/* 5.3: bits 39:32 of a 4-MByte page are bits 20:13 of the PDE. */
	return (entry & BITS(31, 22)) | FIELD(entry, 20, 13) << 32;
}

/*
 * `all`: the bits that are 1 in every entry used, and `above` in all but the leaf, which maps the
 * page; `any`: those that are 1 in at least one. Entries of 4 bytes have no XD, and those of PAE
 * paging no key: its bits are reserved.
 */
static struct rights rights_of(u64 leaf, u64 above, u64 all, u64 any)
{
	return (struct rights){
		.user_address = all & ENTRY_US,
		.writable = all & ENTRY_RW,
		.execute_disable = any & ENTRY_XD,
		/* Read-only and dirty in the leaf, writable in every other entry. */
		.shadow_stack = above & ENTRY_RW && !(leaf & ENTRY_RW) && leaf & ENTRY_D,
		.key = FIELD(leaf, 62, 59),
	};
}

/*
 * 5.8 Accessed and Dirty Flags. After a fault the accessed flags of what was used are open: a step
 * begins with that.
 */
static void set_flags(const struct walk_cpu *cpu, const struct walk_access *access,
		      struct walk_result *result)
{
	struct walk_step *leaf = &result->step[result->steps - 1];
	u32 i;

	for (i = 0; i < result->steps; i++) {
		result->step[i].must_set = ENTRY_A;
		result->step[i].may_set = 0;
	}
	if (access->kind != ACCESS_WRITE)
		return;
	/*
	 * A write sets D; a processor with shadow stacks never makes a read-only entry dirty. Where
	 * the two meet, in a write with CR0.WP = 0, both are taken. A shadow stack is dirty
	 * already.
	 */
	if (!(cpu->cet_ss && !(leaf->value & ENTRY_RW)))
		leaf->must_set |= ENTRY_D;
	else
		leaf->may_set |= ENTRY_D;
}

static void fault(const struct walk_cpu *cpu, const struct walk_access *access,
		  struct walk_result *result, u32 error)
{
	result->kind = WALK_PAGE_FAULT;
	result->error_code = error | error_of_access(cpu, access);
	/* An entry that is not present or malformed is not used, and keeps its flags. */
	if (!(error & PF_P) || error & PF_RSVD)
		result->steps -= result->steps ? 1 : 0;
}

static __force_inline void finish(const struct walk_cpu *cpu, enum paging_mode mode,
				   const struct walk_access *access, struct walk_result *result,
				   const struct rights *rights)
{
	const struct walk_step *leaf = &result->step[result->steps - 1];
	u64 pat = leaf->level == 1 ? ENTRY_PAT_4K : ENTRY_PAT_LARGE;

	if (!rights_allow(cpu, mode, access, rights)) {
		fault(cpu, access, result,
		      PF_P | (key_denies(cpu, mode, access, rights) ? PF_PK : 0));
		return;
	}
	result->page_size = region_size(mode, leaf->level);
	result->physical = page_address(mode, leaf->level, leaf->value) |
			   (access->address & (result->page_size - 1));
	result->user_address = rights->user_address;
	result->writable = rights->writable;
	result->executable = !rights->execute_disable;
	result->global = cpu->cr4 & CR4_PGE && leaf->value & ENTRY_G;
	result->protection_key = rights->key;
	result->pat_index = FIELD(leaf->value, 4, 3) | (cpu->pat && leaf->value & pat ? 4 : 0);
	set_flags(cpu, access, result);
}

/* All but the steps, of which none is used yet: this is done very often. */
static void begin(struct walk_result *result, enum paging_mode mode)
{
	result->kind = WALK_DONE;
	result->mode = mode;
	result->error_code = 0;
	result->physical = result->page_size = 0;
	result->user_address = result->writable = result->executable = result->global = false;
	result->protection_key = result->pat_index = 0;
	result->steps = 0;
}

/*
 * From `table` down, entry by entry. Inlined with a mode that the compiler knows: sweeps walk a
 * million times, on processors that are emulated.
 */
static __force_inline void walk_tables(const struct walk_cpu *cpu, enum paging_mode mode,
					const struct walk_access *access, u64 table,
					walk_read *read, void *memory, struct walk_result *result)
{
	const u64 everywhere = mode == PAGING_32_BIT ? 0 : reserved_everywhere(cpu, mode);
	u64 above = ~0ull, all = ~0ull, any = 0, reserved;
	struct rights rights;
	u32 level;

#pragma GCC unroll 5
	for (level = modes[mode].levels; level; level--) {
		struct walk_step *step = &result->step[result->steps++];

		step->level = level;
		step->address = entry_address(mode, table, access->address, level);
		step->value = read(memory, step->address, modes[mode].entry_size);
		step->must_set = 0;
		step->may_set = ENTRY_A;
		if (!(step->value & ENTRY_P)) {
			fault(cpu, access, result, 0);
			return;
		}
		reserved = mode == PAGING_32_BIT ? reserved_32_bit(cpu, level, step->value) :
						   reserved_here(cpu, mode, level, step->value);
		if (step->value & (everywhere | reserved)) {
			fault(cpu, access, result, PF_P | PF_RSVD);
			return;
		}
		above = all;
		all &= step->value;
		any |= step->value;
		if (walk_is_leaf(cpu, mode, level, step->value))
			break;
		table = table_address(mode, step->value);
	}
	rights = rights_of(result->step[result->steps - 1].value, above, all, any);
	finish(cpu, mode, access, result, &rights);
}

void walk_into(const struct walk_cpu *cpu, const struct walk_access *access,
	       walk_read *read, void *memory, struct walk_result *result)
{
	enum paging_mode mode = walk_mode(cpu);
	u64 table = cpu->cr3 & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12)), pdpte;

	begin(result, mode);
	if (has_keys(mode) && !is_canonical(access->address, modes[mode].address_bits)) {
		result->kind = WALK_NOT_CANONICAL;
		return;
	}
	switch (mode) {
	case PAGING_32_BIT:
		walk_tables(cpu, PAGING_32_BIT, access, table, read, memory, result);
		break;
	case PAGING_PAE:
		pdpte = cpu->pdpte[FIELD(access->address, 31, 30)];
		if (!(pdpte & ENTRY_P)) {
			fault(cpu, access, result, 0);
			break;
		}
		table = table_address(mode, pdpte);
		walk_tables(cpu, PAGING_PAE, access, table, read, memory, result);
		break;
	case PAGING_4_LEVEL:
		walk_tables(cpu, PAGING_4_LEVEL, access, table, read, memory, result);
		break;
	case PAGING_5_LEVEL:
		walk_tables(cpu, PAGING_5_LEVEL, access, table, read, memory, result);
		break;
	default:
		result->user_address = result->writable = result->executable = true;
		result->physical = access->address & BITS(31, 0);
	}
}

struct walk_result walk(const struct walk_cpu *cpu, const struct walk_access *access,
			walk_read *read, void *memory)
{
	struct walk_result result;

	walk_into(cpu, access, read, memory, &result);
	return result;
}
