/*
 * Memory types: 5.9, 14.11 (memory-type range registers), 14.12 (page attribute table).
 *
 * How memory is cached is not for software to see, but for bus locks; some of it is: the registers
 * take only what they may hold, #GP(0) else; and whatever combination of types a page has, a
 * processor that runs alone reads what it has written (14.3). So these cases try every PAT entry
 * by every way to select one, every type that the MTRRs can give, caches off and on, and look at
 * the data.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/memory_type_names.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define IA32_MTRRCAP		0xfe
#define IA32_MTRR_PHYSBASE(n)	(0x200 + 2 * (n))
#define IA32_MTRR_PHYSMASK(n)	(0x201 + 2 * (n))
#define IA32_MTRR_FIX64K_00000	0x250
#define IA32_MTRR_DEF_TYPE	0x2ff

#define MTRRCAP_VCNT(cap)	FIELD(cap, 7, 0)
#define MTRRCAP_FIX		BIT(8)
#define MTRRCAP_WC		BIT(10)
#define DEF_TYPE_FE		BIT(10)
#define DEF_TYPE_E		BIT(11)
#define PHYSMASK_VALID		BIT(11)

#define PAT_RESET	0x0007040600070406ull

/* --- the page attribute table ---------------------------------------------------- */

/* No boot loader that is known changes it, and neither does INIT. */
CASE(pat_after_reset, PROVES("paging:mem.pat.reset"), NEEDS(CPU(PAT)))
{
	EXPECT_EQ(rdmsr(IA32_PAT), PAT_RESET);
}

static bool pat_may_hold(u64 type)
{
	return type == UC || type == WC || (type >= WT && type <= UC_MINUS);
}

CASE(each_type_in_each_field, PROVES("paging:mem.pat.good", "paging:mem.pat.bad_type"),
     NEEDS(CPU(PAT)))
{
	u64 pat = rdmsr(IA32_PAT), value;
	u32 type, field;

	for (type = 0; type < 256; type += type < 16 ? 1 : 15)
		for (field = 0; field < 8; field++) {
			value = (pat & ~(0xffull << field * 8)) | (u64)type << field * 8;
			EXPECT(wrmsr_safe(IA32_PAT, value),
			       pat_may_hold(type) ? OUTCOME_DONE : OUTCOME_GP0);
			EXPECT_EQ(rdmsr(IA32_PAT), pat_may_hold(type) ? value : pat);
			wrmsr(IA32_PAT, pat);
		}
}

/* --- the memory-type range registers ---------------------------------------------- */

static bool has_variable_mtrrs(u64 unused __maybe_unused)
{
	return feature(FEATURE_MTRR) && MTRRCAP_VCNT(rdmsr(IA32_MTRRCAP));
}

static bool has_fixed_mtrrs(u64 unused __maybe_unused)
{
	return feature(FEATURE_MTRR) && (rdmsr(IA32_MTRRCAP) & MTRRCAP_FIX);
}

#define VARIABLE_MTRRS	{ .text = "variable-range MTRRs", .met = has_variable_mtrrs }
#define FIXED_MTRRS	{ .text = "fixed-range MTRRs", .met = has_fixed_mtrrs }

static bool mtrr_may_hold(u64 type)
{
	return type == UC || type == WT || type == WP || type == WB ||
	       (type == WC && (rdmsr(IA32_MTRRCAP) & MTRRCAP_WC));
}

/* Each type in bits 7:0 of `msr`, then what was there before. */
static void each_type_in(u32 msr)
{
	u64 before = rdmsr(msr), value;
	u32 type;

	for (type = 0; type < 256; type += type < 16 ? 1 : 15) {
		value = (before & ~0xffull) | type;
		EXPECT(wrmsr_safe(msr, value), mtrr_may_hold(type) ? OUTCOME_DONE : OUTCOME_GP0);
		EXPECT_EQ(rdmsr(msr), mtrr_may_hold(type) ? value : before);
		wrmsr(msr, before);
	}
}

CASE(mtrr_default_type, PROVES("paging:mem.mtrr.bad_type"), NEEDS(CPU(MTRR)))
{
	each_type_in(IA32_MTRR_DEF_TYPE);
}

CASE(mtrr_variable_range_type, PROVES("paging:mem.mtrr.bad_type"), NEEDS(VARIABLE_MTRRS))
{
	each_type_in(IA32_MTRR_PHYSBASE(0));
}

CASE(mtrr_fixed_range_type, PROVES("paging:mem.mtrr.bad_type"), NEEDS(FIXED_MTRRS))
{
	each_type_in(IA32_MTRR_FIX64K_00000);
}

static void each_reserved_bit(u32 msr, u64 reserved)
{
	u64 before = rdmsr(msr);
	u32 bit;

	for (bit = 0; bit < 64; bit++) {
		if (!(reserved & BIT(bit)))
			continue;
		if (!EXPECT(wrmsr_safe(msr, before | BIT(bit)), OUTCOME_GP0))
			case_note("bit", "%u of MSR %#x", bit, msr);
		wrmsr(msr, before);
	}
}

CASE(mtrr_reserved_bits, PROVES("paging:mem.mtrr.reserved"), NEEDS(CPU(MTRR)))
{
	each_reserved_bit(IA32_MTRR_DEF_TYPE, BITS(9, 8) | BITS(63, 12));
}

CASE(mtrr_variable_range_reserved_bits, PROVES("paging:mem.mtrr.reserved"), NEEDS(VARIABLE_MTRRS))
{
	each_reserved_bit(IA32_MTRR_PHYSBASE(0), BITS(11, 8) | BITS(63, maxphyaddr()));
	each_reserved_bit(IA32_MTRR_PHYSMASK(0), BITS(10, 0) | BITS(63, maxphyaddr()));
}

CASE(mtrrcap_is_read_only, PROVES("paging:mem.mtrr.cap_ro"), NEEDS(CPU(MTRR)))
{
	u64 cap = rdmsr(IA32_MTRRCAP);

	EXPECT(wrmsr_safe(IA32_MTRRCAP, cap), OUTCOME_GP0);
	EXPECT_EQ(rdmsr(IA32_MTRRCAP), cap);
}

/* All that VCNT counts are there; the addresses behind them are other MSRs from 220H on. */
CASE(mtrr_variable_ranges, PROVES("paging:mem.mtrr.range"), NEEDS(CPU(MTRR)))
{
	u32 count = MTRRCAP_VCNT(rdmsr(IA32_MTRRCAP)), n;
	u64 value;

	for (n = 0; n < count; n++) {
		EXPECT(rdmsr_safe(IA32_MTRR_PHYSBASE(n), &value), OUTCOME_DONE);
		EXPECT(rdmsr_safe(IA32_MTRR_PHYSMASK(n), &value), OUTCOME_DONE);
	}
	for (n = count; n < 16; n++) {
		EXPECT(rdmsr_safe(IA32_MTRR_PHYSBASE(n), &value), OUTCOME_GP0);
		EXPECT(rdmsr_safe(IA32_MTRR_PHYSMASK(n), &value), OUTCOME_GP0);
	}
}

/* --- data ------------------------------------------------------------------------- */

/*
 * Writes through the page at `linear` and reads through it and through the boot map, both ways. The
 * two may differ in type, of which 14.12.4 demands that the caches are flushed in between.
 */
static void data_is_coherent(u64 linear, volatile u64 *page)
{
	u64 value = 0, content = case_random();

	asm volatile("wbinvd" : : : "memory");
	EXPECT(write_at(linear, content), OUTCOME_DONE);
	EXPECT(read_at(linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, content);
	asm volatile("wbinvd" : : : "memory");
	EXPECT_EQ(*page, content);
	*page = ~content;
	asm volatile("wbinvd" : : : "memory");
	EXPECT(read_at(linear, &value), OUTCOME_DONE);
	EXPECT_EQ(value, ~content);
}

struct select_row {
	enum paging_level size;
	u64 pat_bit;			/* of the entry that maps the page */
};

#define SELECT(...)	ROW((&(const struct select_row){ __VA_ARGS__ }))

/* 14.12.3 Selecting a Memory Type from the PAT: three bits, eight fields; each with each type. */
static void each_pat_index(const struct case_def *this_case)
{
	static const u64 types[] = { UC, WC, WT, WP, WB, UC_MINUS };
	const struct select_row *row = this_case->row;
	struct probe probe;
	u32 index, i;

	probe_map(&probe, row->size, PTE_P | PTE_RW);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		/*
		 * All fields but the last, so that the code keeps its own: index 0 is of the boot
		 * map.
		 */
		wrmsr(IA32_PAT, types[i] * 0x0101010101010100 | WB);
		for (index = 0; index < 8; index++) {
			probe_change(&probe, row->size, PTE_PWT | PTE_PCD | row->pat_bit,
				     (index & 1 ? PTE_PWT : 0) | (index & 2 ? PTE_PCD : 0) |
				     (index & 4 ? row->pat_bit : 0));
			data_is_coherent(probe.linear, probe.page);
		}
	}
}

CASE_RUN(pat_index_of_4_kbyte_page, each_pat_index,
	 PROVES("paging:mem.result_neutral"), NEEDS(CPU(PAT), CPU(SSE2)),
	 SELECT(.size = LEVEL_PTE, .pat_bit = PTE_PAT));
CASE_RUN(pat_index_of_2_mbyte_page, each_pat_index,
	 PROVES("paging:mem.result_neutral"),
	 NEEDS(CPU(PAT), CPU(SSE2)), SELECT(.size = LEVEL_PDE, .pat_bit = PTE_PAT_LARGE));
CASE_RUN(pat_index_of_1_gbyte_page, each_pat_index,
	 PROVES("paging:mem.result_neutral"),
	 NEEDS(CPU(PAT), CPU(SSE2), CPU(PAGE1GB)),
	 SELECT(.size = LEVEL_PDPTE, .pat_bit = PTE_PAT_LARGE));

/* PWT and PCD of the entry that references a table select how that table is read. */
CASE(types_of_the_tables, PROVES("paging:mem.result_neutral"), NEEDS(CPU(PAT), CPU(SSE2)))
{
	struct probe probe;
	enum paging_level level;
	u32 index;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	for (index = 0; index < 4; index++) {
		u64 bits = (index & 1 ? PTE_PWT : 0) | (index & 2 ? PTE_PCD : 0);

		for (level = LEVEL_PDE; level <= LEVEL_PML4E; level++)
			probe_change(&probe, level, PTE_PWT | PTE_PCD, bits);
		write_cr3((read_cr3() & ~(PTE_PWT | PTE_PCD)) | bits);
		data_is_coherent(probe.linear, probe.page);
		EXPECT_EQ(read_cr3() & (PTE_PWT | PTE_PCD), bits);
	}
}

/* With identifiers CR3[4:3] are part of one, and nothing else. */
CASE(cr3_has_no_type_with_pcide, PROVES("paging:mem.result_neutral"), NEEDS(CPU(PCID), CPU(SSE2)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	write_cr4(read_cr4() | CR4_PCIDE);
	write_cr3(read_cr3() | PTE_PWT | PTE_PCD);
	EXPECT_EQ(read_cr3() & 0xfff, PTE_PWT | PTE_PCD);
	data_is_coherent(probe.linear, probe.page);
}

struct mtrr_row {
	enum memory_type type;
};

#define MTRR_TYPE(type)	ROW((&(const struct mtrr_row){ type }))

/* Table 14-7: a variable range of this type over the page, with each type of the PAT. */
static void mtrr_with_each_pat_type(const struct case_def *this_case)
{
	const struct mtrr_row *row = this_case->row;
	u64 base = rdmsr(IA32_MTRR_PHYSBASE(0)), mask = rdmsr(IA32_MTRR_PHYSMASK(0));
	u64 deftype = rdmsr(IA32_MTRR_DEF_TYPE);
	static const u64 types[] = { UC, WC, WT, WP, WB, UC_MINUS };
	struct probe probe;
	u32 i;

	if (!mtrr_may_hold(row->type))
		case_skip("memory type %u in an MTRR", row->type);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_PAT | PTE_PCD | PTE_PWT);
	wrmsr(IA32_MTRR_PHYSBASE(0), physical(probe.page) | row->type);
	wrmsr(IA32_MTRR_PHYSMASK(0), BITS(maxphyaddr() - 1, 12) | PHYSMASK_VALID);
	wrmsr(IA32_MTRR_DEF_TYPE, (deftype & DEF_TYPE_FE) | DEF_TYPE_E | WB);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		wrmsr(IA32_PAT, (PAT_RESET & BITS(55, 0)) | types[i] << 56);
		invlpg(probe.linear);
		data_is_coherent(probe.linear, probe.page);
	}
	wrmsr(IA32_MTRR_DEF_TYPE, deftype);
	wrmsr(IA32_MTRR_PHYSMASK(0), mask);
	wrmsr(IA32_MTRR_PHYSBASE(0), base);
}

#define MTRR_NEEDS	NEEDS(VARIABLE_MTRRS, CPU(PAT), CPU(SSE2))

CASE_RUN(mtrr_uc, mtrr_with_each_pat_type, PROVES("paging:mem.result_neutral"),
	 MTRR_NEEDS, MTRR_TYPE(UC));
CASE_RUN(mtrr_wc, mtrr_with_each_pat_type, PROVES("paging:mem.result_neutral"),
	 MTRR_NEEDS, MTRR_TYPE(WC));
CASE_RUN(mtrr_wt, mtrr_with_each_pat_type, PROVES("paging:mem.result_neutral"),
	 MTRR_NEEDS, MTRR_TYPE(WT));
CASE_RUN(mtrr_wp, mtrr_with_each_pat_type, PROVES("paging:mem.result_neutral"),
	 MTRR_NEEDS, MTRR_TYPE(WP));
CASE_RUN(mtrr_wb, mtrr_with_each_pat_type, PROVES("paging:mem.result_neutral"),
	 MTRR_NEEDS, MTRR_TYPE(WB));

/* 14.5.3 Preventing Caching: from off to on, and in between, data stay what they are. */
CASE(caches_off, PROVES("paging:mem.cd"), NEEDS(CPU(SSE2)))
{
	u64 cr0 = read_cr0();
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	data_is_coherent(probe.linear, probe.page);
	write_cr0(cr0 | CR0_CD);
	data_is_coherent(probe.linear, probe.page);
	asm volatile("wbinvd" : : : "memory");
	data_is_coherent(probe.linear, probe.page);
	write_cr0(cr0);
	data_is_coherent(probe.linear, probe.page);
}

/* --- bus locks ---------------------------------------------------------------------- */

/*
 * A locked access to memory that is not write-back locks the bus (11.1.2), and with OS bus-lock
 * detection that is a debug exception at CPL 3, which clears bit 11 of DR6 (20.3.1.6). So it shows
 * which field of the PAT an entry selects: one is uncacheable, the others are write-back.
 */
static void lock_at(void *linear)
{
	asm volatile("lock incl (%0)" : : "r" (linear) : "memory", "cc");
}

static bool locks_the_bus(u64 linear)
{
	outcome_t outcome;

	wrmsr(IA32_DEBUGCTL, DEBUGCTL_BLD);
	outcome = run_at_cpl(3, lock_at, (void *)linear);
	wrmsr(IA32_DEBUGCTL, 0);
	if (outcome == OUTCOME_DONE)
		return false;
	EXPECT(outcome, OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->dr6 & BIT(11), 0);
	return true;
}

/* With PAT and MTRRs changed, and nothing cached by another type than before. */
static void set_types(u64 pat, u64 deftype)
{
	asm volatile("wbinvd" : : : "memory");
	wrmsr(IA32_PAT, pat);
	wrmsr(IA32_MTRR_DEF_TYPE, deftype);
	write_cr3(read_cr3());
}

static void pat_index_selects(const struct case_def *this_case)
{
	const struct select_row *row = this_case->row;
	u64 deftype = rdmsr(IA32_MTRR_DEF_TYPE), all_wb = WB * 0x0101010101010101;
	struct probe probe;
	u32 index, field;

	probe_map(&probe, row->size, PTE_P | PTE_RW | PTE_US);
	probe_share_with_user(&probe);
	for (index = 0; index < 8; index++) {
		probe_change(&probe, row->size, PTE_PWT | PTE_PCD | row->pat_bit,
			     (index & 1 ? PTE_PWT : 0) | (index & 2 ? PTE_PCD : 0) |
			     (index & 4 ? row->pat_bit : 0));
		for (field = 0; field < 8; field++) {
			set_types(all_wb & ~(0xffull << field * 8), DEF_TYPE_E | WB);
			if (!EXPECT_EQ(locks_the_bus(probe.linear), field == index))
				case_note("index", "%u, field %u of the PAT is UC", index, field);
		}
	}
	set_types(PAT_RESET, deftype);
}

#define BUS_LOCKS	CPU(BUS_LOCK_DETECT), CPU(PAT), CPU(MTRR)

CASE_RUN(bus_lock_of_4_kbyte_page, pat_index_selects, PROVES("paging:mem.pat.index_4k"),
	 NEEDS(BUS_LOCKS), SELECT(.size = LEVEL_PTE, .pat_bit = PTE_PAT));
CASE_RUN(bus_lock_of_2_mbyte_page, pat_index_selects, PROVES("paging:mem.pat.index_large"),
	 NEEDS(BUS_LOCKS), SELECT(.size = LEVEL_PDE, .pat_bit = PTE_PAT_LARGE));
CASE_RUN(bus_lock_of_1_gbyte_page, pat_index_selects, PROVES("paging:mem.pat.index_large"),
	 NEEDS(BUS_LOCKS, CPU(PAGE1GB)), SELECT(.size = LEVEL_PDPTE, .pat_bit = PTE_PAT_LARGE));
