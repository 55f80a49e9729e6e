#include "ept/ept.h"
#include "cpu/regs.h"
#include "mmu/pages.h"

#define ENTRIES		(PAGE_SIZE / sizeof(u64))
#define GBYTE		BIT(30)

/* INVEPT types: 31.4.3.1 Operations that Invalidate Cached Mappings. */
enum { INVEPT_SINGLE_CONTEXT = 1, INVEPT_ALL_CONTEXT = 2 };

bool need_no_ept_vpid_cap(u64 bits)
{
	return !(capabilities()->ept_vpid_cap & bits);
}

static bool is_present(u64 entry)
{
	return entry & (EPT_RWX | EPT_USER_EXECUTE);
}

static bool is_page(u64 entry, enum paging_level level)
{
	return level == LEVEL_PTE || (level < LEVEL_PML4E && entry & EPT_PAGE);
}

static u64 *table_of(u64 entry)
{
	return (u64 *)(entry & EPT_ADDRESS);
}

static u64 *entry_in(u64 *table, u64 gpa, enum paging_level level)
{
	return &table[gpa / level_size(level) % ENTRIES];
}

static u64 page_bit(enum paging_level level)
{
	return level > LEVEL_PTE ? EPT_PAGE : 0;
}

/* Makes the large page that `entry` maps a table of 512 pages of the level below. */
static void split(const struct ept *ept, u64 *entry, enum paging_level level)
{
	u64 first = *entry & EPT_ADDRESS, flags = *entry & ~(EPT_ADDRESS | EPT_PAGE), i;
	u64 *table = page_alloc();

	for (i = 0; i < ENTRIES; i++)
		table[i] = (first + i * level_size(level - 1)) | flags | page_bit(level - 1);
	*entry = physical(table) | ept->all_rights;
}

u64 *ept_map(struct ept *ept, u64 gpa, u64 physical_address, u64 flags, enum paging_level level)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(ept->root, gpa, at);

	for (; at > level; entry = entry_in(table_of(*entry), gpa, --at)) {
		if (!is_present(*entry))
			*entry = physical(page_alloc()) | ept->all_rights;
		else if (is_page(*entry, at))
			split(ept, entry, at);
	}
	*entry = physical_address | flags | page_bit(level);
	return entry;
}

u64 *ept_entry(const struct ept *ept, u64 gpa, enum paging_level level)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(ept->root, gpa, at);

	for (; at > level; entry = entry_in(table_of(*entry), gpa, --at))
		if (!is_present(*entry) || is_page(*entry, at))
			return NULL;
	return entry;
}

/*
 * Whether a processor may go on using what it knows of an entry that had the value `before`
 * though software wants it to use `after`: 31.4.3.4 Guidelines for Use of the INVEPT Instruction.
 */
static bool must_invalidate(u64 before, u64 after)
{
	const u64 rights = EPT_RWX | EPT_USER_EXECUTE | EPT_PAGING_WRITE |
			   EPT_SUPERVISOR_SHADOW_STACK | EPT_SUB_PAGE_WRITE;
	const u64 flags = EPT_ACCESSED | EPT_DIRTY;

	return is_present(before) &&
	       (before & ~after & (rights | flags) || (before ^ after) & ~(rights | flags));
}

static u64 *existing_entry(const struct ept *ept, u64 gpa, enum paging_level level)
{
	u64 *entry = ept_entry(ept, gpa, level);

	if (!entry)
		bail_out("%#lx has no %s", gpa, ept_entry_name(level));
	return entry;
}

void ept_change(struct ept *ept, u64 gpa, enum paging_level level, u64 clear, u64 set)
{
	u64 *entry = existing_entry(ept, gpa, level), before = *entry;

	*(volatile u64 *)entry = (before & ~clear) | set;
	if (must_invalidate(before, *entry))
		ept_invalidate(ept);
}

void ept_unmap(struct ept *ept, u64 gpa, enum paging_level level)
{
	ept_change(ept, gpa, level, ~0ull, 0);
}

/* The largest page that the processor has. */
static enum paging_level largest_page(void)
{
	u64 caps = capabilities()->ept_vpid_cap;

	if (!(caps & EPT_CAP_2M))
		return LEVEL_PTE;
	return caps & EPT_CAP_1G ? LEVEL_PDPTE : LEVEL_PDE;
}

void ept_build(struct ept *ept)
{
	enum paging_level level = largest_page();
	u64 gpa, type;

	*ept = (struct ept){ .root = page_alloc(), .all_rights = EPT_RWX };
	/* Bit 10 is ignored without the control. */
	if (control_allowed(CONTROL_PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT))
		ept->all_rights |= EPT_USER_EXECUTE;
	for (gpa = 0; gpa < 4 * GBYTE; gpa += level_size(level)) {
		/* No MTRR makes the devices uncacheable in a guest: 31.3.7.2. */
		type = gpa < 3 * GBYTE ? EPT_WB : EPT_UC;
		ept_map(ept, gpa, gpa, ept->all_rights | EPT_MEMORY_TYPE(type), level);
	}
}

u64 ept_pointer(const struct ept *ept, u64 flags)
{
	u64 type = capabilities()->ept_vpid_cap & EPT_CAP_WB ? EPT_WB : EPT_UC;

	return physical(ept->root) | flags | EPTP_MEMORY_TYPE(type) | EPTP_WALK_LENGTH(4);
}

void ept_start(struct ept *ept, u64 flags)
{
	ept_build(ept);
	ept->pointer = ept_pointer(ept, flags);
	vmcs_set_control(CONTROL_PROC2_ENABLE_EPT);
	vmwrite(EPT_POINTER, ept->pointer);
	ept_invalidate(ept);
}

void ept_invalidate(const struct ept *ept)
{
	bool single = capabilities()->ept_vpid_cap & EPT_CAP_INVEPT_SINGLE;
	struct invept_descriptor descriptor = { .eptp = single ? ept->pointer : 0 };

	REQUIRE(invept(single ? INVEPT_SINGLE_CONTEXT : INVEPT_ALL_CONTEXT, descriptor),
		OUTCOME_DONE);
}

const char *ept_entry_name(enum paging_level level)
{
	static const char *const names[] = {
		[LEVEL_PTE] = "EPT PTE", [LEVEL_PDE] = "EPT PDE",
		[LEVEL_PDPTE] = "EPT PDPTE", [LEVEL_PML4E] = "EPT PML4E",
	};

	return names[level];
}

const char *ept_entry_words(char *to, size_t size, u64 entry)
{
	static const struct bit_name names[] = {
		{ EPT_READ, "read" }, { EPT_WRITE, "write" }, { EPT_EXECUTE, "execute" },
		{ EPT_USER_EXECUTE, "user execute" }, { EPT_PAGE, "bit 7" },
		{ EPT_ACCESSED, "accessed" }, { EPT_DIRTY, "dirty" }, { 0, NULL },
	};

	return format_bits(to, size, entry, names);
}
