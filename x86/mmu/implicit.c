/*
 * Accesses that no operand names: descriptor tables, and what surrounds them.
 *
 * When the processor itself reads a descriptor or a gate, that is an implicit supervisor-mode
 * access at any CPL (5.6.1 Determination of Access Rights): a table in supervisor-mode pages works
 * for user mode, a fault reports U/S = 0, and with CR4.SMAP = 1 a table in a user-mode page faults
 * whatever RFLAGS.AC says. Setting the accessed flag of a descriptor is a write like any other.
 * The GDT here has two pages: the first with what the suite needs to go on, the second with one
 * descriptor to test.
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "mmu/probe.h"
#include "string.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define SELECTOR_FAR		0x1008		/* the second descriptor of the second page */
#define INDEX_FAR		(SELECTOR_FAR % PAGE_SIZE / 8)
#define USER_DATA		0x00cff3000000ffffull	/* DPL 3, accessed */
#define ACCESSED		BIT(40)
#define VECTOR_FAR		0x90
#define CR2_VALUE		0x1122334455667788ull

/* A table of two pages from probe.linear on. */
struct tables {
	struct probe probe;
	u64 *pte, *page;		/* of the second page */
};

/* The second page with `flags`; no table is moved yet. */
static void map_two(struct tables *t, u64 flags)
{
	probe_map(&t->probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_A | PTE_D);
	t->pte = probe_map_next(&t->probe, &t->page, flags);
}

static void move_gdt(struct tables *t, u64 flags)
{
	map_two(t, flags);
	memcpy(t->probe.page, this_cpu()->gdt, GDT_SIZE);
	t->page[INDEX_FAR] = USER_DATA;
	write_gdtr((struct table_pointer){ 2 * PAGE_SIZE - 1, t->probe.linear });
}

/* MOV to ES of the far selector, RPL 3; the UD2 behind it says that it has not faulted. */
INSTRUCTION(load_es, "mov $0x100b, %eax", "mov %eax, %es\n\tud2");

struct access_row {
	u64 flags;			/* of the second page */
	u64 cr4;
	u32 cpl;
	bool ac, keys;			/* RFLAGS.AC = 1; PKRU denies key 1 */
	outcome_t outcome;
};

#define ACCESS(...)	ROW((&(const struct access_row){ __VA_ARGS__ }))

static void deny_key_1(void)
{
	asm volatile("wrpkru" : : "a" (BIT(2)), "c" (0), "d" (0));
}

/*
 * Of all that is mapped below 1 GiB user mode may use the page of `code`, and nothing else: with
 * CR4.SMAP = 1 the suite itself needs the rest.
 */
static void share_with_user(struct tables *t, u64 code)
{
	struct address_space *space = &t->probe.space;
	u64 *pte, *pde, i;

	code &= PAGE_MASK;
	pte = space_map(space, code, code, PTE_P | PTE_RW, LEVEL_PTE);
	pde = space_entry(space, code, LEVEL_PDE);
	for (i = 0; i < 512; i++) {
		((u64 *)((u64)pte & PAGE_MASK))[i] &= ~PTE_US;
		((u64 *)((u64)pde & PAGE_MASK))[i] &= ~PTE_US;
	}
	*pte |= PTE_US;
	*pde |= PTE_US;
	*space_entry(space, 0, LEVEL_PML4E) |= PTE_US;
	write_cr3(read_cr3());
}

/* How and where to begin: as IRET pops it. */
struct begin {
	u64 rip, cs, rflags, rsp, ss;
};

/* No stack: the code is to fault, or to be interrupted; its RET would fault as well. */
static void begin_at_cpl_3(void *argument)
{
	const struct begin *begin = argument;

	asm volatile("pushq 32(%0); pushq 24(%0); pushq 16(%0); pushq 8(%0); pushq (%0)\n\tiretq"
		     : : "r" (begin) : "memory");
}

static outcome_t run_with_ac(const struct access_row *row, struct tables *t,
			     void (*code)(void *argument))
{
	struct begin begin = {
		(u64)code, SELECTOR_USER_CODE64, RFLAGS_FIXED | (row->ac ? RFLAGS_AC : 0), 0,
		SELECTOR_USER_DATA,
	};
	outcome_t outcome;

	if (row->cpl) {
		share_with_user(t, (u64)code);
		outcome = attempt(begin_at_cpl_3, &begin);
		write_ds(SELECTOR_DATA);
		return outcome;
	}
	asm volatile("push %0; popfq" : : "r" (begin.rflags) : "cc");
	outcome = attempt(code, NULL);
	asm volatile("push %0; popfq" : : "r" ((u64)RFLAGS_FIXED) : "cc");
	return outcome;
}

static void segment_load(const struct case_def *this_case)
{
	const struct access_row *row = this_case->row;
	struct tables t;

	move_gdt(&t, row->flags);
	write_cr4(read_cr4() | row->cr4);
	if (row->keys)
		deny_key_1();
	EXPECT(run_with_ac(row, &t, load_es), row->outcome);
	if (row->outcome != OUTCOME_UD)
		EXPECT_EQ(last_trap()->cr2, t.probe.linear + SELECTOR_FAR);
	write_es(SELECTOR_DATA);
}

CASE_RUN(gdt_in_supervisor_page_at_cpl_3, segment_load, PROVES("paging:acc.implicit.super_ok"),
	 ACCESS(.flags = PTE_P | PTE_RW, .cpl = 3, .outcome = OUTCOME_UD));
CASE_RUN(gdt_absent_at_cpl_0, segment_load, PROVES("paging:acc.implicit.us0"),
	 ACCESS(.flags = PTE_RW, .outcome = PAGE_FAULT(0)));
CASE_RUN(gdt_absent_at_cpl_3, segment_load, PROVES("paging:acc.implicit.us0"),
	 ACCESS(.flags = PTE_RW, .cpl = 3, .outcome = PAGE_FAULT(0)));
CASE_RUN(gdt_in_user_page, segment_load, PROVES("paging:acc.implicit.super_ok"),
	 ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cpl = 3, .outcome = OUTCOME_UD));
CASE_RUN(gdt_in_user_page_with_smap, segment_load, PROVES("paging:acc.smap.implicit_ac1"),
	 NEEDS(CPU(SMAP)), ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP,
				  .outcome = PAGE_FAULT(PF_P)));
CASE_RUN(gdt_in_user_page_with_smap_and_ac, segment_load, PROVES("paging:acc.smap.implicit_ac1"),
	 NEEDS(CPU(SMAP)), ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP, .ac = true,
				  .outcome = PAGE_FAULT(PF_P)));
CASE_RUN(gdt_in_user_page_with_smap_at_cpl_3, segment_load,
	 PROVES("paging:acc.smap.implicit_cpl3"), NEEDS(CPU(SMAP)),
	 ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP, .cpl = 3,
		.outcome = PAGE_FAULT(PF_P)));
CASE_RUN(gdt_in_user_page_with_smap_and_ac_at_cpl_3, segment_load,
	 PROVES("paging:acc.smap.implicit_cpl3"), NEEDS(CPU(SMAP)),
	 ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP, .cpl = 3, .ac = true,
		.outcome = PAGE_FAULT(PF_P)));
CASE_RUN(gdt_with_a_key_that_is_denied, segment_load, PROVES("paging:acc.pku.implicit"),
	 NEEDS(CPU(PKU)), ACCESS(.flags = PTE_P | PTE_RW | PTE_US | PTE_KEY(1), .cr4 = CR4_PKE,
				 .keys = true, .outcome = PAGE_FAULT(PF_P | PF_PK)));

/* --- the accessed flag of a descriptor ------------------------------------------------ */

static outcome_t load_es_at_cpl_0(void)
{
	outcome_t outcome = ATTEMPT("mov %0, %%es", : "r" (SELECTOR_FAR | 3) : "memory");

	write_es(SELECTOR_DATA);
	return outcome;
}

CASE(accessed_flag_needs_write, PROVES("paging:acc.gdt_accessed_write"))
{
	struct tables t;

	write_cr0(read_cr0() | CR0_WP);
	move_gdt(&t, PTE_P);
	t.page[INDEX_FAR] &= ~ACCESSED;
	EXPECT(load_es_at_cpl_0(), PAGE_FAULT(PF_P | PF_WR));
	EXPECT_EQ(read_cr2() & PAGE_MASK, t.probe.linear + PAGE_SIZE);
	EXPECT_EQ(t.page[INDEX_FAR] & ACCESSED, 0);
	/* Nothing to set, nothing to write; without WP supervisor mode may write. */
	t.page[INDEX_FAR] |= ACCESSED;
	EXPECT(load_es_at_cpl_0(), OUTCOME_DONE);
	t.page[INDEX_FAR] &= ~ACCESSED;
	write_cr0(read_cr0() & ~CR0_WP);
	EXPECT(load_es_at_cpl_0(), OUTCOME_DONE);
	EXPECT_EQ(t.page[INDEX_FAR] & ACCESSED, ACCESSED);
}

CASE(flags_of_the_page_are_set, PROVES("paging:ad.implicit"))
{
	struct tables t;

	move_gdt(&t, PTE_P | PTE_RW);
	EXPECT(load_es_at_cpl_0(), OUTCOME_DONE);
	EXPECT_EQ(*t.pte & (PTE_A | PTE_D), PTE_A);
	t.page[INDEX_FAR] &= ~ACCESSED;
	EXPECT(load_es_at_cpl_0(), OUTCOME_DONE);
	EXPECT_EQ(*t.pte & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* --- instructions that look into the table ---------------------------------------------- */

INSTRUCTION(verr_far, "mov $0x100b, %eax", "verr %ax");
INSTRUCTION(verw_far, "mov $0x100b, %eax", "verw %ax");
INSTRUCTION(lar_far, "mov $0x100b, %eax", "lar %eax, %ecx");
INSTRUCTION(lsl_far, "mov $0x100b, %eax", "lsl %eax, %ecx");

CASE(verr_verw_lar_lsl, PROVES("paging:acc.verr_verw"))
{
	static void (*const code[])(void *argument) = { verr_far, verw_far, lar_far, lsl_far };
	struct tables t;
	u32 i;

	move_gdt(&t, PTE_P | PTE_RW);
	probe_share_with_user(&t.probe);
	for (i = 0; i < ARRAY_SIZE(code); i++)
		EXPECT(run_at_cpl(3, code[i], NULL), OUTCOME_DONE);
	*t.pte &= ~PTE_P;
	invlpg(t.probe.linear + PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(code); i++)
		EXPECT(run_at_cpl(3, code[i], NULL), PAGE_FAULT(0));
	write_ds(SELECTOR_DATA);
}

/* The GDT begins 4 bytes later, so the last descriptor of the first page ends in the second. */
CASE(descriptor_spans_two_pages, PROVES("paging:cross.dt"))
{
	const u16 selector = PAGE_SIZE - 8;
	struct tables t;
	u8 *first;

	map_two(&t, PTE_P | PTE_RW);
	first = (u8 *)t.probe.page + 4;
	memcpy(first, this_cpu()->gdt, GDT_SIZE);
	*(u32 *)(first + selector) = (u32)USER_DATA;
	*(u32 *)t.page = USER_DATA >> 32;
	write_gdtr((struct table_pointer){ PAGE_SIZE - 1, t.probe.linear + 4 });
	EXPECT(ATTEMPT("mov %0, %%es", : "r" (selector | 3)), OUTCOME_DONE);
	*t.pte &= ~PTE_P;
	invlpg(t.probe.linear + PAGE_SIZE);
	EXPECT(ATTEMPT("mov %0, %%es", : "r" (selector | 3)), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), t.probe.linear + PAGE_SIZE);
	write_es(SELECTOR_DATA);
}

/* --- the IDT ------------------------------------------------------------------------------ */

/* Half of the table in each page: vectors from 80H on are in the second. */
static void move_idt(struct tables *t, u64 flags)
{
	u64 linear;

	map_two(t, flags);
	linear = t->probe.linear + PAGE_SIZE / 2;
	memcpy((u8 *)t->probe.page + PAGE_SIZE / 2, this_cpu()->idt, PAGE_SIZE / 2);
	memcpy(t->page, (u8 *)this_cpu()->idt + PAGE_SIZE / 2, PAGE_SIZE / 2);
	write_idtr((struct table_pointer){ PAGE_SIZE - 1, linear });
}

INSTRUCTION(int_90, "", "int $0x90");

static void software_interrupt(const struct case_def *this_case)
{
	const struct access_row *row = this_case->row;
	struct tables t;

	move_idt(&t, row->flags);
	write_cr4(read_cr4() | row->cr4);
	EXPECT(run_with_ac(row, &t, int_90), row->outcome);
	if (row->outcome != OUTCOME_EXCEPTION(VECTOR_FAR)) {
		EXPECT_EQ(last_trap()->cr2 & PAGE_MASK, t.probe.linear + PAGE_SIZE);
		EXPECT_EQ(last_trap()->frame.rip, (u64)int_90_at);
	}
}

CASE_RUN(idt_in_supervisor_page_at_cpl_3, software_interrupt,
	 PROVES("paging:acc.implicit.super_ok"),
	 ACCESS(.flags = PTE_P | PTE_RW, .cpl = 3, .outcome = OUTCOME_EXCEPTION(VECTOR_FAR)));
CASE_RUN(idt_absent_at_cpl_3, software_interrupt, PROVES("paging:acc.implicit.us0"),
	 ACCESS(.flags = PTE_RW, .cpl = 3, .outcome = PAGE_FAULT(0)));
CASE_RUN(idt_in_user_page_with_smap_and_ac, software_interrupt,
	 PROVES("paging:acc.smap.implicit_ac1"), NEEDS(CPU(SMAP)),
	 ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP, .ac = true,
		.outcome = PAGE_FAULT(PF_P)));
CASE_RUN(idt_in_user_page_with_smap_at_cpl_3, software_interrupt,
	 PROVES("paging:acc.smap.implicit_cpl3"), NEEDS(CPU(SMAP)),
	 ACCESS(.flags = PTE_P | PTE_RW | PTE_US, .cr4 = CR4_SMAP, .cpl = 3,
		.outcome = PAGE_FAULT(PF_P)));

/* --- a page fault that cannot be delivered ------------------------------------------------ */

static void read_there(void *linear)
{
	(void)*(volatile u64 *)linear;
}

/* The gates from that of #PF on are in the second page. */
static void move_idt_before_page_fault(struct tables *t, u64 flags)
{
	u32 before = VECTOR_PF * sizeof(struct gate);

	map_two(t, flags);
	memcpy((u8 *)t->probe.page + PAGE_SIZE - before, this_cpu()->idt, before);
	memcpy(t->page, (u8 *)this_cpu()->idt + before, PAGE_SIZE / 2);
	write_idtr((struct table_pointer){ 32 * sizeof(struct gate) - 1,
					   t->probe.linear + PAGE_SIZE - before });
}

#define ABSENT(t)	((t)->probe.linear + 2 * PAGE_SIZE + 0x123)

/* The gate of #PF cannot be read: a second page fault, whose address is that of the gate. */
CASE(second_page_fault_has_the_last_word, PROVES("paging:cr2.nested"))
{
	struct tables t;

	move_idt_before_page_fault(&t, PTE_P | PTE_RW);
	EXPECT(attempt(read_there, (void *)ABSENT(&t)), PAGE_FAULT(0));
	EXPECT_EQ(last_trap()->cr2, ABSENT(&t));
	*t.pte &= ~PTE_P;
	invlpg(t.probe.linear + PAGE_SIZE);
	EXPECT(attempt(read_there, (void *)ABSENT(&t)), OUTCOME_FAULT(VECTOR_DF, 0));
	/* 16 bytes are read, in what order is not promised. */
	EXPECT_EQ(last_trap()->cr2 & ~15ull, t.probe.linear + PAGE_SIZE);
}

/* The gate of #PF is not present, so that #NP makes a double fault of it; CR2 is from before. */
CASE(cr2_is_written_before_delivery, PROVES("paging:cr2.before_handler"))
{
	struct tables t;

	move_idt_before_page_fault(&t, PTE_P | PTE_RW);
	((struct gate *)t.page)->type &= 0x7f;
	write_cr2(CR2_VALUE);
	EXPECT(attempt(read_there, (void *)ABSENT(&t)), OUTCOME_FAULT(VECTOR_DF, 0));
	EXPECT_EQ(last_trap()->cr2, ABSENT(&t));
}

/* --- the stack in a user-mode page ---------------------------------------------------------- */

/* PUSH with RSP at `address`; #PF comes on the stack of IST `ist`. */
static outcome_t push_at(u64 address, u8 ist)
{
	u64 ours;

	this_cpu()->idt[VECTOR_PF].ist = ist;
	trap_expect();
	asm volatile("mov %%rsp, %0\n\tmov %1, %%rsp\n\t" ATTEMPT_ASM("push %1")
		     "mov %0, %%rsp" : "=&b" (ours) : "r" (address) : "memory");
	return trap_outcome();
}

/* Without a stack of its own the fault cannot be delivered there either. */
CASE(push_to_a_user_page, PROVES("paging:acc.smap.pushf_stack"), NEEDS(CPU(SMAP)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US);
	EXPECT(push_at(probe.linear + 2048, IST_NMI), OUTCOME_DONE);
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(push_at(probe.linear + 2048, IST_NMI), PAGE_FAULT(PF_P | PF_WR));
	EXPECT(push_at(probe.linear + 2048, IST_NONE), OUTCOME_FAULT(VECTOR_DF, 0));
	EXPECT_EQ(read_cr2() & PAGE_MASK, probe.linear);
}

INSTRUCTION(stac_here, "", "stac");
INSTRUCTION(clac_here, "", "clac");

CASE(stac_and_clac_need_cpl_0, PROVES("paging:acc.stac.ud"), NEEDS(CPU(SMAP)))
{
	u32 cpl;

	for (cpl = 1; cpl <= 3; cpl++) {
		EXPECT(run_at_cpl(cpl, stac_here, NULL), OUTCOME_UD);
		EXPECT(run_at_cpl(cpl, clac_here, NULL), OUTCOME_UD);
	}
	EXPECT(attempt(clac_here, NULL), OUTCOME_DONE);
}

CASE(stac_and_clac_are_not_there, PROVES("paging:acc.stac.ud"), NEEDS(NO_CPU(SMAP)))
{
	EXPECT(attempt(stac_here, NULL), OUTCOME_UD);
	EXPECT(attempt(clac_here, NULL), OUTCOME_UD);
}

/* --- cache instructions ----------------------------------------------------------------------- */

CASE(clflush_is_a_read, PROVES("paging:acc.clflush_read"), NEEDS(CPU(CLFSH)))
{
	struct probe probe;

	write_cr0(read_cr0() | CR0_WP);
	probe_map(&probe, LEVEL_PTE, PTE_P);
	EXPECT(ATTEMPT("clflush (%0)", : "r" (probe.linear) : "memory"), OUTCOME_DONE);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	EXPECT(ATTEMPT("clflush (%0)", : "r" (probe.linear) : "memory"), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear);
}

CASE(prefetch_never_faults, PROVES("paging:acc.prefetch"), NEEDS(CPU(SSE)))
{
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	write_cr2(CR2_VALUE);
	EXPECT(ATTEMPT("prefetcht0 (%0)", : "r" (probe.linear)), OUTCOME_DONE);
	EXPECT(ATTEMPT("prefetcht1 (%0)", : "r" (probe.linear)), OUTCOME_DONE);
	EXPECT(ATTEMPT("prefetcht2 (%0)", : "r" (probe.linear)), OUTCOME_DONE);
	EXPECT(ATTEMPT("prefetchnta (%0)", : "r" (probe.linear)), OUTCOME_DONE);
	EXPECT_EQ(read_cr2(), CR2_VALUE);
}
