#include "mmu/sweep.h"
#include "case.h"
#include "cpu/features.h"
#include "cpu/traps.h"
#include "cpu/user.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "mmu/sweep_batch.h"
#include "platform.h"

/* --- memory ------------------------------------------------------------------ */

/* Where user mode finds what it needs: under a PML4E that is not of a slot. */
#define USER_LOOPS	0x0000008000000000
#define USER_STACK	0x0000008000002000
#define USER_RECORDS	0x0000008000004000

extern const u8 sweep_loops[];

/*
 * A table whose address is not that of a large page: with PS = 1 an entry that references it
 * sets reserved bits, and does not map what the tests know nothing of.
 */
static u64 *new_table(const struct sweep_row *row)
{
	u64 not_large = row->mode == PAGING_32_BIT ? BIT(21) : BITS(20, 13), *table;

	do {
		table = page_alloc();
	} while (!(physical(table) & not_large));
	return table;
}

static void map_for_user(struct sweep *sweep)
{
	u64 offset;

	space_map(&sweep->space, USER_LOOPS, physical(sweep_loops) & PAGE_MASK, PTE_P | PTE_US,
		  LEVEL_PTE);
	space_map(&sweep->space, USER_STACK, physical(page_alloc()), PTE_P | PTE_RW | PTE_US,
		  LEVEL_PTE);
	for (offset = 0; offset < sizeof(sweep->record); offset += PAGE_SIZE)
		space_map(&sweep->space, USER_RECORDS + offset, physical(sweep) + offset,
			  PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
}

/* The slots have the top table of the space itself, or with 5 levels the one above. */
static void long_mode_tables(struct sweep *sweep)
{
	u64 *pml5;

	space_copy(&sweep->space);
	space_supervisor_only(&sweep->space);
	map_for_user(sweep);
	sweep->root = physical(sweep->space.pml4);
	if (sweep->row->mode == PAGING_5_LEVEL) {
		pml5 = sweep->table[LEVEL_PML5E] = page_alloc();
		pml5[0] = sweep->root | PTE_P | PTE_RW | PTE_US;
		sweep->root = physical(pml5);
	} else {
		sweep->table[LEVEL_PML4E] = sweep->space.pml4;
	}
}

static struct sweep *new_sweep(const struct sweep_row *row)
{
	struct sweep *sweep = pages_alloc((sizeof(*sweep) + PAGE_SIZE - 1) & PAGE_MASK, PAGE_SIZE);
	enum paging_level level;

	sweep->row = row;
	sweep->data = pages_alloc(2 * PAGE_SIZE, 2 * PAGE_SIZE);
	if (sweep_is_legacy(row))
		sweep_legacy_tables(sweep);
	else
		long_mode_tables(sweep);
	for (level = row->size; level < sweep_top(row); level++)
		sweep->table[level] = new_table(row);
	sweep_place_slots(sweep);
	sweep->access_mask = sweep_is_legacy(row) ? BITS(31, 0) : ~0ull;
	sweep->entries.row = row;
	sweep->entries.top = sweep_top(row);
	sweep->entries.physical_bits = maxphyaddr();
	sweep->percent = this_platform()->sweep_percent;
	sweep->random = case_random();
	return sweep;
}

/* --- states ------------------------------------------------------------------ */

static const struct {
	u64 bit, cr0, cr4, efer, rflags;
	enum feature feature;		/* FEATURE_COUNT: every processor */
} switches[] = {
	{ SWEEP_WP, .cr0 = CR0_WP, .feature = FEATURE_COUNT },
	{ SWEEP_NXE, .efer = EFER_NXE, .feature = FEATURE_NX },
	{ SWEEP_SMEP, .cr4 = CR4_SMEP, .feature = FEATURE_SMEP },
	{ SWEEP_SMAP, .cr4 = CR4_SMAP, .feature = FEATURE_SMAP },
	{ SWEEP_AC, .rflags = RFLAGS_AC, .feature = FEATURE_COUNT },
	{ SWEEP_PGE, .cr4 = CR4_PGE, .feature = FEATURE_PGE },
	{ SWEEP_PKE, .cr4 = CR4_PKE, .feature = FEATURE_PKU },
	{ SWEEP_PKS, .cr4 = CR4_PKS, .feature = FEATURE_PKS },
	{ SWEEP_PSE, .cr4 = CR4_PSE, .feature = FEATURE_PSE },
	{ SWEEP_CET, .cr4 = CR4_CET, .feature = FEATURE_CET_SS },
};

static u64 supported_switches(void)
{
	u64 supported = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(switches); i++)
		if (switches[i].feature == FEATURE_COUNT || feature(switches[i].feature))
			supported |= switches[i].bit;
	if (supported & (SWEEP_PKE | SWEEP_PKS))
		supported |= SWEEP_KEYS_1 | SWEEP_KEYS_2;
	return supported;
}

/*
 * PKRU or IA32_PKRS in which every key but 0 has another value of AD and WD (2 bits) in each of
 * four patterns, and another one than the keys that differ in one bit. What the loop itself uses
 * has key 0.
 */
static u32 key_rights(u32 pattern)
{
	u32 key, rights = 0;

	for (key = 1; key < 16; key++)
		rights |= (((key ^ key >> 2) + pattern) & 3) << 2 * key;
	return rights;
}

static void enter_state(struct sweep *sweep, const struct walk_cpu *begin, u64 chosen)
{
	struct walk_cpu *cpu = &sweep->cpu;
	u32 i;

	*cpu = *begin;
	sweep->entries.switches = chosen;
	for (i = 0; i < ARRAY_SIZE(switches); i++) {
		if (!(chosen & switches[i].bit))
			continue;
		cpu->cr0 |= switches[i].cr0;
		cpu->cr4 |= switches[i].cr4;
		cpu->efer |= switches[i].efer;
		cpu->rflags |= switches[i].rflags;
	}
	if (chosen & SWEEP_CET)
		wrmsr(IA32_U_CET, CET_SH_STK_EN | CET_WR_SHSTK_EN);
	/* mmu/sweep_legacy.c has its own way there. */
	if (sweep_is_legacy(sweep->row))
		return;
	write_cr0(cpu->cr0);
	wrmsr(IA32_EFER, cpu->efer);
	if (chosen & SWEEP_PKE) {
		cpu->pkru = key_rights(chosen / SWEEP_KEYS_1);
		write_cr4(begin->cr4 | CR4_PKE);
		asm volatile("wrpkru" : : "a" (cpu->pkru), "c" (0), "d" (0) : "memory");
		write_cr4(begin->cr4);
	}
	if (chosen & SWEEP_PKS) {
		cpu->pkrs = key_rights(chosen / SWEEP_KEYS_1 + 1);
		wrmsr(IA32_PKRS, cpu->pkrs);
	}
}

static struct walk_cpu state_at_begin(const struct sweep *sweep)
{
	const struct sweep_row *row = sweep->row;
	struct walk_cpu cpu = {
		.cr0 = read_cr0(), .cr3 = sweep->root, .cr4 = read_cr4(),
		.efer = rdmsr(IA32_EFER), .rflags = RFLAGS_FIXED,
		.physical_bits = maxphyaddr(), .pages_1g = feature(FEATURE_PAGE1GB),
		.pse36 = CPUID_BIT(1, 0, edx, 17), .pat = feature(FEATURE_PAT),
		.cet_ss = feature(FEATURE_CET_SS),
	};
	u32 i;

	if (!sweep_is_legacy(row))
		return cpu;
	cpu.efer = 0;
	if (row->mode == PAGING_32_BIT)
		cpu.cr4 &= ~CR4_PAE;
	for (i = 0; sweep->pdpt && i < ARRAY_SIZE(cpu.pdpte); i++)
		cpu.pdpte[i] = sweep->pdpt[i];
	return cpu;
}

/* --- the loop of accesses ---------------------------------------------------- */

/* Known to mmu/sweep_loop.S. */
struct sweep_start {
	u64 rip, cs, rflags, rsp, ss;	/* as IRET pops them */
	u64 record, left, to_supervisor, resume, stack;
};

__noreturn void sweep_enter(const struct sweep_start *start);
extern const u8 sweep_page_fault[];
SWEEP_LOOPS(sweep_);

static const struct {
	u16 code, data;
} selectors[4] = {
	{ SELECTOR_CODE64, SELECTOR_DATA },
	{ SELECTOR_CODE64_CPL1, SELECTOR_DATA_CPL1 },
	{ SELECTOR_CODE64_CPL2, SELECTOR_DATA_CPL2 },
	{ SELECTOR_USER_CODE64, SELECTOR_USER_DATA },
};

static u64 loop_address(const u8 *code, u32 cpl)
{
	return cpl == 3 ? USER_LOOPS + physical(code) % PAGE_SIZE : physical(code);
}

static u64 records_address(const struct sweep *sweep)
{
	return sweep->cpu.cpl == 3 ? USER_RECORDS : physical(sweep->record);
}

/* UD2 at the end of a loop; any other #UD is an outcome like those of other vectors. */
static void on_invalid_opcode(struct trap_frame *frame)
{
	struct cpu *cpu = this_cpu();

	cpu->caught = frame->regs.rbp ? OUTCOME_UD : OUTCOME_DONE;
	cpu->last_trap.frame = *frame;
	trap_return_to(frame, cpu->catcher);
}

/* Makes the accesses of slots `from` to `to` - 1. Outcome: done, or an exception but #PF in one. */
static outcome_t run_loop(struct sweep *sweep, u32 from, u32 to)
{
	struct cpu *cpu = this_cpu();
	struct context context, *outer = cpu->catcher;
	u32 cpl = sweep->cpu.cpl;
	u64 record = records_address(sweep);
	struct sweep_start start = {
		.rip = loop_address(loops[sweep->kind].start, cpl), .cs = selectors[cpl].code,
		.rflags = sweep->cpu.rflags, .ss = selectors[cpl].data,
		.record = record + from * sizeof(sweep->record[0]), .left = to - from,
		.to_supervisor = physical(sweep->record) - record,
		.resume = loop_address(loops[sweep->kind].next, cpl),
	};

	/* A fault at CPL 0 pushes where the loop's stack ends: below all that is in use. */
	start.rsp = start.stack = cpl == 3 ? USER_STACK + PAGE_SIZE : (u64)&context - 0x400;
	start.rsp = start.stack &= ~15ull;
	if (!context_save(&context)) {
		cpu->catcher = &context;
		sweep_enter(&start);
	}
	this_cpu()->catcher = outer;
	return this_cpu()->caught;
}

/* The same, and goes on behind an exception, which is that access's outcome. */
static void run_slots(struct sweep *sweep, u32 from, u32 to)
{
	outcome_t outcome;
	u32 at;

	while (from < to && (outcome = run_loop(sweep, from, to)) != OUTCOME_DONE) {
		at = (last_trap()->frame.regs.rbx - records_address(sweep)) /
		     sizeof(sweep->record[0]);
		if (at < from || at >= to)
			at = from;
		sweep->record[at].fault = outcome;
		from = at + 1;
	}
}

/* Each slot's data are an LDT of one descriptor. */
static void run_slots_with_ldt(struct sweep *sweep)
{
	u32 slot;

	for (slot = 0; slot < sweep->count; slot++) {
		cpu_load_ldt(sweep->record[slot].linear, 7);
		run_slots(sweep, slot, slot + 1);
	}
	write_ldtr(0);
}

/* With CR3 loaded anew, nothing is cached of any slot: 5.10.4.1; CR4.PGE sees to global pages. */
static void run_batch(struct sweep *sweep, const struct walk_cpu *begin)
{
	struct gate *gate = &this_cpu()->idt[VECTOR_PF], before = *gate;
	u64 cr3 = read_cr3();

	write_cr3(sweep->root);
	write_cr4(sweep->cpu.cr4);
	gate->offset_low = (u64)sweep_page_fault;
	gate->offset_middle = (u64)sweep_page_fault >> 16;
	if (sweep_is_implicit(sweep->kind))
		run_slots_with_ldt(sweep);
	else
		run_slots(sweep, 0, sweep->count);
	*gate = before;
	write_cr4(begin->cr4);
	write_cr3(cr3);
	write_ds(SELECTOR_DATA);
	write_es(SELECTOR_DATA);
}

/* --- the product ------------------------------------------------------------- */

static void run_all_entries(struct sweep *sweep, const struct walk_cpu *begin)
{
	bool legacy = sweep_is_legacy(sweep->row);

	sweep->next = 0;
	sweep->loop_at = legacy ? sweep_legacy_loop_at(sweep) :
				  loop_address(loops[sweep->kind].at, sweep->cpu.cpl);
	for (;;) {
		REQUIRE(run_at_cpl(3, sweep_step, sweep), OUTCOME_DONE);
		if (!sweep->count)
			return;
		if (legacy)
			sweep_legacy_batch(sweep);
		else
			run_batch(sweep, begin);
	}
}

/*
 * Subset `number` of the masks, without what is not supported; false: there is none, or it repeats.
 */
static bool choose_switches(const struct sweep_row *row, u64 supported, u32 number, u64 *chosen)
{
	u32 i;

	*chosen = 0;
	for (i = 0; i < ARRAY_SIZE(row->switches); i++) {
		if (!(number >> i & 1))
			continue;
		if (!(row->switches[i] & supported))
			return false;
		*chosen |= row->switches[i] & supported;
	}
	*chosen |= row->always & supported;
	return true;
}

static void run_all_states(void *argument)
{
	struct sweep *sweep = argument;
	const struct sweep_row *row = sweep->row;
	const struct walk_cpu begin = state_at_begin(sweep);
	u64 supported = supported_switches(), chosen;
	u32 number;

	trap_on(VECTOR_UD, on_invalid_opcode);
	for (number = 0; number < BIT(ARRAY_SIZE(row->switches)); number++) {
		if (!choose_switches(row, supported, number, &chosen))
			continue;
		enter_state(sweep, &begin, chosen);
		for (sweep->cpu.cpl = 0; sweep->cpu.cpl <= 3; sweep->cpu.cpl++)
			for (sweep->kind = 0; sweep->kind < SWEEP_KINDS; sweep->kind++)
				if (row->cpls & BIT(sweep->cpu.cpl) &&
				    row->kinds & BIT(sweep->kind))
					run_all_entries(sweep, &begin);
	}
}

/* Planning and judging need the map at boot, by an entry of the fifth level. */
static void run_with_5_levels(struct sweep *sweep)
{
	u64 *pml5 = page_alloc();

	pml5[0] = (read_cr3() & PTE_ADDRESS) | PTE_P | PTE_RW | PTE_US;
	REQUIRE(legacy_run_with_5_levels(pml5, run_all_states, sweep), OUTCOME_DONE);
}

void sweep_run(const struct sweep_row *row)
{
	struct sweep *sweep = new_sweep(row);

	if (row->mode == PAGING_5_LEVEL)
		run_with_5_levels(sweep);
	else
		run_all_states(sweep);
	sweep_report(sweep);
}
