#include "mmu/sweep_themes.h"
#include "cpu/regs.h"

static u64 power(u64 base, u32 exponent)
{
	return exponent ? base * power(base, exponent - 1) : 1;
}

static u64 count_rights(const struct sweep_row *row)
{
	return power(8, sweep_levels(row));
}

/*
 * Without IA32_EFER.NXE, XD is reserved, which is not what this is about; 32-bit paging has none.
 */
static bool may_set_xd(const struct sweep_entries *entries)
{
	return entries->switches & SWEEP_NXE && entries->row->mode != PAGING_32_BIT;
}

static bool change_rights(struct sweep_entries *entries, u64 index)
{
	enum paging_level level;

	for (level = entries->row->size; level <= entries->top; level++, index /= 8) {
		if (index & 4 && !may_set_xd(entries))
			return false;
		entries->entry[level] ^= (index & 1 ? PTE_RW : 0) | (index & 2 ? PTE_US : 0) |
					 (index & 4 ? PTE_XD : 0);
	}
	return true;
}

const struct sweep_theme sweep_rights = { count_rights, change_rights };

static bool maps_page(const struct sweep_row *row)
{
	return row->level == row->size;
}

static u64 count_entry(const struct sweep_row *row)
{
	return maps_page(row) ? BIT(9) : BIT(7);
}

static bool change_entry(struct sweep_entries *entries, u64 index)
{
	const struct sweep_row *row = entries->row;
	const u64 bits[] = {
		PTE_P, PTE_RW, PTE_US, PTE_XD, PTE_A, PTE_D, PTE_KEY(15),
		/* Of an entry that maps a page. */
		PTE_G, row->level == LEVEL_PTE ? PTE_PAT : PTE_PAT_LARGE,
	};
	u64 *entry = &entries->entry[row->level];
	u32 i;

	for (i = 0; BIT(i) < count_entry(row); i++)
		*entry = (*entry & ~bits[i]) | (index >> i & 1 ? bits[i] : 0);
	return !(*entry & PTE_XD) || may_set_xd(entries);
}

const struct sweep_theme sweep_entry = { count_entry, change_entry };

static u64 count_flags(const struct sweep_row *row)
{
	return power(4, sweep_levels(row)) * (sweep_levels(row) + 1);
}

static bool change_flags(struct sweep_entries *entries, u64 index)
{
	enum paging_level level;
	enum paging_level absent = entries->row->size + index % (sweep_levels(entries->row) + 1);

	index /= sweep_levels(entries->row) + 1;
	for (level = entries->row->size; level <= entries->top; level++, index /= 4) {
		u64 *entry = &entries->entry[level];

		*entry = (*entry & ~(PTE_A | PTE_D)) | (index & 1 ? PTE_A : 0) |
			 (index & 2 ? PTE_D : 0);
		if (level == absent)
			*entry &= ~PTE_P;
	}
	return true;
}

const struct sweep_theme sweep_flags = { count_flags, change_flags };

/*
 * 5.3: with PSE-36 bits 20:13 of a 4-MByte PDE are bits 39:32 of an address, as far as MAXPHYADDR
 * goes.
 */
static u32 first_reserved_of_4_mbyte_pde(const struct sweep_entries *entries)
{
	u32 bits = entries->physical_bits < 40 ? entries->physical_bits : 40;

	return CPUID_BIT(1, 0, edx, 17) ? bits - 19 : 13;
}

/*
 * A bit that is reserved in the entry, drawn from those that are: address bits from MAXPHYADDR on,
 * or within the page; 0 where there is none.
 */
static u64 reserved_bit(const struct sweep_entries *entries, enum paging_level level)
{
	const struct sweep_row *row = entries->row;
	bool large = level == row->size && level > LEVEL_PTE;
	u32 high = (row->mode == PAGING_PAE ? 63 : 52) - entries->physical_bits;
	u32 first = 13, low = large ? sweep_shift(row, level) - first : 0, n;

	if (row->mode == PAGING_32_BIT) {
		high = 0;
		first = first_reserved_of_4_mbyte_pde(entries);
		low = large ? 22 - first : 0;
	}
	if (!(high + low))
		return 0;
	n = (u32)(entries->random >> 8 * level) % (high + low);
	return n < high ? BIT(entries->physical_bits + n) : BIT(first + n - high);
}

static u64 count_defects(const struct sweep_row *row)
{
	return power(6, sweep_levels(row));
}

static bool change_defects(struct sweep_entries *entries, u64 index)
{
	enum paging_level level;

	for (level = entries->row->size; level <= entries->top; level++, index /= 6) {
		static const u64 defects[6] = { 0, PTE_P, PTE_RW, PTE_US, PTE_XD, 0 };

		entries->entry[level] ^= index % 6 == 5 ? reserved_bit(entries, level) :
							  defects[index % 6];
	}
	return true;
}

const struct sweep_theme sweep_defects = { count_defects, change_defects };

static u64 count_keys(const struct sweep_row *row __maybe_unused)
{
	return 16 * 8;
}

/* The key of the page; that of an entry above is noise. */
static bool change_keys(struct sweep_entries *entries, u64 index)
{
	u64 *leaf = &entries->entry[entries->row->size];
	u64 *top = &entries->entry[entries->top];

	*leaf = (*leaf & ~PTE_KEY(15)) | PTE_KEY(index / 8);
	*leaf ^= (index & 1 ? PTE_RW : 0) | (index & 2 ? PTE_US : 0);
	*top ^= index & 4 ? PTE_US : 0;
	return true;
}

const struct sweep_theme sweep_keys = { count_keys, change_keys };

static u64 count_bits(const struct sweep_row *row __maybe_unused)
{
	return 64 * 4;
}

/* Whether the bit is part of an address that there may be: it would select other memory. */
static bool is_address_bit(const struct sweep_entries *entries, u32 n)
{
	const struct sweep_row *row = entries->row;
	bool large = maps_page(row) && row->level > LEVEL_PTE;

	if (row->mode != PAGING_32_BIT)
		return n >= (maps_page(row) ? sweep_shift(row, row->level) : 12) &&
		       n < entries->physical_bits;
	if (large)
		return n >= 22 || (n >= 13 && n < first_reserved_of_4_mbyte_pde(entries));
	return n >= 12;
}

static bool change_bits(struct sweep_entries *entries, u64 index)
{
	const struct sweep_row *row = entries->row;
	u32 n = index / 4;

	if (is_address_bit(entries, n))
		return false;
	if (BIT(n) == PTE_PS && maps_page(row) && row->level > LEVEL_PTE)
		return false;
	entries->entry[row->level] ^= BIT(n) ^ (index & 1 ? PTE_RW : 0) ^ (index & 2 ? PTE_US : 0);
	return true;
}

const struct sweep_theme sweep_bits = { count_bits, change_bits };
