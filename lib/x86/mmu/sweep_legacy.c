/*
 * Batches of a sweep with 32-bit or PAE paging: one step of a script of mmu/legacy.h, which takes
 * the processor there and back. The loop and its handlers are in mmu/sweep_legacy_loop.S.
 */
#include "case.h"
#include "cpu/traps.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "mmu/sweep_batch.h"
#include "string.h"

/*
 * Where user mode finds what it needs: PDEs that no slot has, for index_of() begins with the 64th.
 */
#define USER_LOOPS	0x01000000u
#define USER_STACK	0x01001000u
#define USER_RECORDS	0x01002000u
#define VECTORS		32

/* Known to mmu/sweep_legacy_loop.S. */
struct sweep_legacy_start {
	u32 eip, cs, eflags, esp, ss;
	u32 record, left, to_supervisor, resume;
	u32 slots;			/* 0, or with an LDT for each: how many, and `left` is 1 */
	u64 *ldt;			/* the descriptor of SELECTOR_LDT */
};

#define SELECTOR_LDT	(SELECTOR_SPARE + 8)	/* likewise */

extern const u8 sweep_legacy_run[], sweep_legacy_loops[];
extern const u8 sweep_legacy_page_fault[], sweep_legacy_end[], sweep_legacy_other[];
extern struct table_pointer sweep_legacy_idt;

SWEEP_LOOPS(sweep_legacy_);

static u64 gates[VECTORS];
static u8 stack[512] __attribute__((aligned(16)));

/* A 32-bit TSS (10.2.1), of which only the stack for CPL 0 is used. */
static struct {
	u32 link, esp0, ss0, rest[23];
} tss;

_Static_assert(sizeof(tss) == 104, "10.2.1 Task-State Segment (TSS)");

static void map(struct sweep *sweep, u32 linear, u64 address, u64 flags)
{
	if (sweep->row->mode == PAGING_32_BIT)
		map_32_bit((u32 *)sweep->root, linear, address, flags);
	else
		map_pae(sweep->pdpt, linear, address, flags);
}

void sweep_legacy_tables(struct sweep *sweep)
{
	u64 offset;

	if (physical(sweep) + sizeof(*sweep) > LEGACY_MEMORY)
		bail_out("the records of a sweep are at %#lx, beyond what 32-bit code sees",
			 physical(sweep));
	if (sweep->row->mode == PAGING_32_BIT) {
		sweep->table[LEVEL_PDE] = tables_32_bit();
		sweep->root = physical(sweep->table[LEVEL_PDE]);
	} else {
		sweep->pdpt = tables_pae();
		sweep->root = physical(sweep->pdpt);
	}
	map(sweep, USER_LOOPS, physical(sweep_legacy_loops) & PAGE_MASK, PTE_P | PTE_US);
	map(sweep, USER_STACK, physical(page_alloc()), PTE_P | PTE_RW | PTE_US);
	for (offset = 0; offset < sizeof(sweep->record); offset += PAGE_SIZE)
		map(sweep, USER_RECORDS + offset, physical(sweep) + offset,
		    PTE_P | PTE_RW | PTE_US);
}

static u32 loop_address(const struct sweep *sweep, const u8 *code)
{
	return sweep->cpu.cpl == 3 ? USER_LOOPS + physical(code) % PAGE_SIZE : physical(code);
}

u64 sweep_legacy_loop_at(const struct sweep *sweep)
{
	return loop_address(sweep, loops[sweep->kind].at);
}

/* 7.11 IDT Descriptors: 32-bit interrupt gates. */
static u64 gate_to(const u8 *handler)
{
	u64 offset = (u64)handler;

	return FIELD(offset, 15, 0) | (u64)SELECTOR_CODE32 << 16 | 0x8eull << 40 |
	       FIELD(offset, 31, 16) << 48;
}

/* The TSS is made anew for each batch: LTR marks it as busy. */
static void make_tables(void)
{
	u64 base = (u64)&tss;
	u32 i;

	for (i = 0; i < VECTORS; i++)
		gates[i] = gate_to(i == VECTOR_PF ? sweep_legacy_page_fault :
				   i == VECTOR_UD ? sweep_legacy_end : sweep_legacy_other);
	sweep_legacy_idt = (struct table_pointer){ sizeof(gates) - 1, (u64)gates };
	tss.esp0 = (u64)(stack + sizeof(stack));
	tss.ss0 = SELECTOR_DATA;
	cpu_set_descriptor(SELECTOR_SPARE, (sizeof(tss) - 1) | FIELD(base, 23, 0) << 16 |
						   0x89ull << 40 | FIELD(base, 31, 24) << 56);
}

/*
 * The data of every slot are an LDT of one descriptor, whose base is the access's linear address.
 */
static void one_by_one(struct sweep_legacy_start *start)
{
	start->slots = start->left;
	start->left = 1;
	start->ldt = &this_cpu()->gdt[SELECTOR_LDT / 8];
	*start->ldt = 7 | 0x82ull << 40;
}

/*
 * Makes the accesses from slot `from` on. Returns how many are left, with bit 31 when one of them
 * ended in an exception other than #PF.
 */
static u32 run_loop(struct sweep *sweep, u32 from)
{
	bool user = sweep->cpu.cpl == 3;
	u32 record = user ? USER_RECORDS : physical(sweep->record);
	static struct sweep_legacy_start start;
	struct legacy_step script[] = {
		{ LEGACY_STEP("a batch of a sweep, from", sweep_legacy_run, physical(&start), 0) },
	};
	const struct legacy_start where = {
		.mode = sweep->row->mode, .cr3 = sweep->root, .cr0 = sweep->cpu.cr0 & ~read_cr0(),
		.cr4 = sweep->cpu.cr4 & ~read_cr4(), .efer = sweep->cpu.efer,
	};

	make_tables();
	start = (struct sweep_legacy_start){
		.eip = loop_address(sweep, loops[sweep->kind].start),
		.cs = user ? SELECTOR_USER_CODE32 : SELECTOR_CODE32, .eflags = sweep->cpu.rflags,
		.esp = user ? USER_STACK + PAGE_SIZE : (u32)(u64)(stack + sizeof(stack)),
		.ss = user ? SELECTOR_USER_DATA : SELECTOR_DATA,
		.record = record + from * sizeof(sweep->record[0]), .left = sweep->count - from,
		.to_supervisor = physical(sweep->record) - record,
		.resume = loop_address(sweep, loops[sweep->kind].next),
	};
	if (sweep_is_implicit(sweep->kind))
		one_by_one(&start);
	LEGACY_RUN(&where, script);
	write_ldtr(0);
	/* The suite's own again, for what it runs at CPL 3 in between. */
	cpu_set_tss(this_cpu());
	asm volatile("ltr %w0" : : "r" (SELECTOR_TSS));
	REQUIRE(script[0].outcome, OUTCOME_DONE);
	return script[0].value;
}

void sweep_legacy_batch(struct sweep *sweep)
{
	u32 from = 0, left, at;

	while (from < sweep->count && (left = run_loop(sweep, from))) {
		at = sweep->count - (left & ~BIT(31));
		if (at < from || at >= sweep->count)
			at = from;
		/* Which exception it was does not matter: none but #PF is right. */
		sweep->record[at].fault = left & BIT(31) ? OUTCOME_GP0 : OUTCOME_UD;
		from = at + 1;
	}
}
