/*
 * The registers that locate descriptor tables and system segments: LGDT, LIDT, SGDT, SIDT, LLDT,
 * LTR, SLDT, STR (volume 2; 2.4 and 3.5 of volume 3), and the instructions that only look at a
 * descriptor: LAR, LSL, VERR, VERW (6.10).
 *
 * Their memory operand has 10 bytes in 64-bit mode whatever the prefixes, 6 bytes elsewhere; a
 * base has to be canonical; a TSS must be available and becomes busy, an LDT may be none. A
 * hypervisor that emulates them (it does when UMIP is its own invention) has all of this to do
 * again. Who may execute them is in guest/privilege.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:dt." name)

#define NOT_CANONICAL	0x8000000000000000ull
#define HIGH_BASE	0xffff876543210000ull

/* --- LGDT and LIDT in 64-bit mode -------------------------------------------------------- */

static bool same(struct table_pointer a, struct table_pointer b)
{
	return a.limit == b.limit && a.base == b.base;
}

CASE(lgdt_of_no_address, FACT("lgdt_canon"))
{
	struct table_pointer before = read_gdtr(), bad = { 0xffff, NOT_CANONICAL };

	EXPECT(ATTEMPT("lgdt %0", : "m" (bad)), OUTCOME_GP0);
	EXPECT_TRUE(same(read_gdtr(), before));
}

CASE(lidt_of_no_address, FACT("lgdt_canon"))
{
	struct table_pointer before = read_idtr(), bad = { 0xfff, NOT_CANONICAL };

	EXPECT(ATTEMPT("lidt %0", : "m" (bad)), OUTCOME_GP0);
	EXPECT_TRUE(same(read_idtr(), before));
}

/* Loads `from`, stores what is loaded, loads what was there: nothing can happen in between. */
#define LOAD_AND_STORE(id, prefix, load, store)					\
	CASE(id, FACT("lgdt_size"))						\
	{									\
		struct table_pointer before, after, from = { 0x1234, HIGH_BASE };\
										\
		asm volatile(store " %0\n\t" prefix load " %2\n\t"		\
			     store " %1\n\t" load " %0"				\
			     : "=m" (before), "=m" (after) : "m" (from));	\
		EXPECT_EQ(after.limit, 0x1234);					\
		EXPECT_EQ(after.base, HIGH_BASE);				\
	}

LOAD_AND_STORE(lgdt_loads_10_bytes, "", "lgdt", "sgdt")
LOAD_AND_STORE(lidt_loads_10_bytes, "", "lidt", "sidt")
LOAD_AND_STORE(lgdt_operand_size_16, ".byte 0x66; ", "lgdt", "sgdt")
LOAD_AND_STORE(lidt_operand_size_16, ".byte 0x66; ", "lidt", "sidt")

/* --- SGDT and SIDT ------------------------------------------------------------------------- */

#define STORE(id, instruction, read)						\
	CASE(id, FACT("sgdt_size"))						\
	{									\
		u8 memory[24];							\
		struct table_pointer stored;					\
		u32 i;								\
										\
		memset(memory, 0xaa, sizeof(memory));				\
		EXPECT(ATTEMPT(instruction " (%0)", : "r" (memory) : "memory"), OUTCOME_DONE); \
		memcpy(&stored, memory, sizeof(stored));			\
		EXPECT_TRUE(same(stored, read()));				\
		for (i = sizeof(stored); i < sizeof(memory); i++)		\
			EXPECT_EQ(memory[i], 0xaa);				\
	}

STORE(sgdt_stores_10_bytes, "sgdt", read_gdtr)
STORE(sidt_stores_10_bytes, "sidt", read_idtr)
STORE(sgdt_operand_size_16, ".byte 0x66; sgdt", read_gdtr)
STORE(sidt_operand_size_16, ".byte 0x66; sidt", read_idtr)
STORE(sgdt_rex_w, ".byte 0x48; sgdt", read_gdtr)

/* --- compatibility mode: 6 bytes ------------------------------------------------------------ */

struct tables_32 {
	u8 before[16], load[16], after[16];
};

/* In EDI: the structure above. */
CODE32(lidt_32, "sidt (%edi); lidt 16(%edi); sidt 32(%edi); lidt (%edi)");
CODE32(lgdt_32, "sgdt (%edi); lgdt 16(%edi); sgdt 32(%edi); lgdt (%edi)");
CODE32(lidt_16, "sidt (%edi); .byte 0x66; lidt 16(%edi); sidt 32(%edi); lidt (%edi)");
CODE32(lgdt_16, "sgdt (%edi); .byte 0x66; lgdt 16(%edi); sgdt 32(%edi); lgdt (%edi)");

struct row_32 {
	const u8 *code;
	u32 base;		/* what of 89ABCDEFH is loaded */
};

static void check_32(const struct case_def *this_case)
{
	static struct tables_32 tables;
	static const struct table_pointer from = { 0x4567, 0xffffffff89abcdef };
	const struct row_32 *row = this_case->row;
	u32 base, i;

	memset(&tables, 0xaa, sizeof(tables));
	memcpy(tables.load, &from, sizeof(from));
	EXPECT(run_in_compatibility_mode(0, row->code, (u64)&tables), OUTCOME_DONE);
	memcpy(&base, tables.after + 2, sizeof(base));
	EXPECT_EQ(tables.after[0] | tables.after[1] << 8, 0x4567);
	EXPECT_EQ(base, row->base);
	for (i = 6; i < 16; i++)
		EXPECT_EQ(tables.after[i], 0xaa);
}

#define TABLES_32(id, base)							\
	CASE_RUN(id##_bits_of_operand_size, check_32, FACT("lgdt_size"),	\
		 ROW((&(const struct row_32){ id, base })))

TABLES_32(lidt_32, 0x89abcdef);
TABLES_32(lgdt_32, 0x89abcdef);
TABLES_32(lidt_16, 0x00abcdef);
TABLES_32(lgdt_16, 0x00abcdef);

/*
 * --- UMIP does not concern CPL 0 --------------------------------------------------------------
 */

CASE(umip_at_cpl_0, FACT("umip_cpl0"), NEEDS(CPU(UMIP)))
{
	u8 memory[16];

	write_cr4(read_cr4() | CR4_UMIP);
	EXPECT(ATTEMPT("sgdt %0", "=m" (memory)), OUTCOME_DONE);
	EXPECT(ATTEMPT("sidt %0", "=m" (memory)), OUTCOME_DONE);
	EXPECT(ATTEMPT("sldt %%eax", : : "rax"), OUTCOME_DONE);
	EXPECT(ATTEMPT("str %%eax", : : "rax"), OUTCOME_DONE);
	EXPECT(ATTEMPT("smsw %%eax", : : "rax"), OUTCOME_DONE);
}

/*
 * --- LTR and LLDT
 * -------------------------------------------------------------------------------
 */

#define TYPE_LDT		0x82ull
#define TYPE_TSS_AVAILABLE	0x89ull
#define TYPE_TSS_BUSY		0x8bull
#define TYPE_CALL_GATE		0x8cull
#define TYPE_PRESENT		0x80ull

/* A system segment of `type` with the limit of a TSS, in the spare descriptors. */
static void make_segment(u64 type, const void *base)
{
	u64 address = (u64)base;

	cpu_set_descriptor(SELECTOR_SPARE, 0x67 | FIELD(address, 23, 0) << 16 | type << 40 |
						   FIELD(address, 31, 24) << 56);
	cpu_set_descriptor(SELECTOR_SPARE + 8, address >> 32);
}

static u64 spare_type(void)
{
	return FIELD(this_cpu()->gdt[SELECTOR_SPARE / 8], 47, 40);
}

static outcome_t ltr(u16 selector)
{
	return ATTEMPT("ltr %w0", : "r" ((u32)selector) : "memory");
}

static outcome_t lldt(u16 selector)
{
	return ATTEMPT("lldt %w0", : "r" ((u32)selector) : "memory");
}

CASE(ltr_makes_the_tss_busy, FACT("ltr_busy"))
{
	make_segment(TYPE_TSS_AVAILABLE, &this_cpu()->tss);
	EXPECT(ltr(SELECTOR_SPARE), OUTCOME_DONE);
	EXPECT_EQ(spare_type(), TYPE_TSS_BUSY);
	EXPECT_EQ(read_tr(), SELECTOR_SPARE);
	EXPECT(ltr(SELECTOR_SPARE), OUTCOME_FAULT(VECTOR_GP, SELECTOR_SPARE));
}

/* Every way in which LTR and LLDT refuse a selector; the register stays. */
struct load_row {
	outcome_t (*load)(u16 selector);
	u64 type;
	u16 selector;
	outcome_t outcome;
};

static void check_load(const struct case_def *this_case)
{
	const struct load_row *row = this_case->row;
	u16 tr = read_tr(), ldtr = read_ldtr();

	make_segment(row->type, &this_cpu()->tss);
	EXPECT(row->load(row->selector), row->outcome);
	EXPECT_EQ(spare_type(), row->type);
	EXPECT_EQ(read_tr(), tr);
	EXPECT_EQ(read_ldtr(), ldtr);
}

#define LOAD_REFUSED(id, fact, load, type, selector, vector, error)		\
	CASE_RUN(id, check_load, FACT(fact),					\
		 ROW((&(const struct load_row){ load, type, selector,		\
						OUTCOME_FAULT(vector, error) })))

#define SPARE	SELECTOR_SPARE
#define GP	VECTOR_GP

LOAD_REFUSED(ltr_null, "ltr_null", ltr, TYPE_TSS_AVAILABLE, 0, GP, 0);
LOAD_REFUSED(ltr_null_with_rpl, "ltr_null", ltr, TYPE_TSS_AVAILABLE, 3, GP, 0);
LOAD_REFUSED(ltr_busy, "ltr_busy", ltr, TYPE_TSS_BUSY, SPARE, GP, SPARE);
LOAD_REFUSED(ltr_busy_with_rpl, "ltr_busy", ltr, TYPE_TSS_BUSY, SPARE | 3, GP, SPARE);
LOAD_REFUSED(ltr_absent, "ltr_np", ltr, TYPE_TSS_AVAILABLE & ~TYPE_PRESENT, SPARE,
	     VECTOR_NP, SPARE);
LOAD_REFUSED(lldt_absent, "ltr_np", lldt, TYPE_LDT & ~TYPE_PRESENT, SPARE, VECTOR_NP, SPARE);
LOAD_REFUSED(ltr_of_an_ldt, "ltr_type", ltr, TYPE_LDT, SPARE, GP, SPARE);
LOAD_REFUSED(ltr_of_a_call_gate, "ltr_type", ltr, TYPE_CALL_GATE, SPARE, GP, SPARE);
LOAD_REFUSED(ltr_of_a_16_bit_tss, "ltr_type", ltr, 0x81, SPARE, GP, SPARE);
LOAD_REFUSED(ltr_in_the_ldt, "ltr_type", ltr, TYPE_TSS_AVAILABLE, SPARE | 4, GP, SPARE | 4);
LOAD_REFUSED(ltr_beyond_the_gdt, "ltr_type", ltr, TYPE_TSS_AVAILABLE, GDT_SIZE, GP, GDT_SIZE);
LOAD_REFUSED(lldt_of_a_tss, "ltr_type", lldt, TYPE_TSS_AVAILABLE, SPARE, GP, SPARE);
LOAD_REFUSED(lldt_in_the_ldt, "ltr_type", lldt, TYPE_LDT, SPARE | 4, GP, SPARE | 4);
LOAD_REFUSED(lldt_beyond_the_gdt, "ltr_type", lldt, TYPE_LDT, GDT_SIZE, GP, GDT_SIZE);

#define LDT_SELECTOR(n)	((n) * 8 | 4)

static outcome_t load_fs(u16 selector)
{
	return ATTEMPT("movl %0, %%fs", : "r" ((u32)selector));
}

CASE(lldt_null, FACT("lldt_null"))
{
	EXPECT(lldt(0), OUTCOME_DONE);
	EXPECT_EQ(read_ldtr(), 0);
	EXPECT(load_fs(LDT_SELECTOR(0)), OUTCOME_FAULT(VECTOR_GP, LDT_SELECTOR(0)));
	EXPECT(load_fs(LDT_SELECTOR(1) | 3), OUTCOME_FAULT(VECTOR_GP, LDT_SELECTOR(1)));
	EXPECT(lldt(3), OUTCOME_DONE);
}

CASE(lldt_makes_the_table_usable, FACT("lldt_null"))
{
	static u64 ldt[13];

	ldt[1] = this_cpu()->gdt[SELECTOR_DATA / 8];
	make_segment(TYPE_LDT, ldt);
	EXPECT(lldt(SPARE), OUTCOME_DONE);
	EXPECT_EQ(read_ldtr(), SPARE);
	EXPECT_EQ(spare_type(), TYPE_LDT);
	EXPECT(load_fs(LDT_SELECTOR(1)), OUTCOME_DONE);
	EXPECT_EQ(read_fs(), LDT_SELECTOR(1));
	write_fs(0);
	/* The limit is 67H: there is a 12th descriptor, and no 13th. */
	EXPECT(load_fs(LDT_SELECTOR(13)), OUTCOME_FAULT(VECTOR_GP, LDT_SELECTOR(13)));
	EXPECT(lldt(0), OUTCOME_DONE);
	EXPECT(load_fs(LDT_SELECTOR(1)), OUTCOME_FAULT(VECTOR_GP, LDT_SELECTOR(1)));
}

/*
 * --- LAR, LSL, VERR, VERW
 * ---------------------------------------------------------------------------
 */

struct look {
	u16 selector;
	u64 rights, limit;
	bool lar, lsl, verr, verw;
};

static void look_at(void *argument)
{
	struct look *look = argument;

	asm volatile("lar %3, %1; setz %0" : "=qm" (look->lar), "=r" (look->rights)
		     : "1" (0x5555555555555555), "r" ((u64)look->selector) : "cc");
	asm volatile("lsl %3, %1; setz %0" : "=qm" (look->lsl), "=r" (look->limit)
		     : "1" (0x5555555555555555), "r" ((u64)look->selector) : "cc");
	asm volatile("verr %w1; setz %0" : "=qm" (look->verr) : "r" (look->selector) : "cc");
	asm volatile("verw %w1; setz %0" : "=qm" (look->verw) : "r" (look->selector) : "cc");
}

#define UNTOUCHED	0x5555555555555555ull

struct look_row {
	u64 descriptor;		/* in the spare descriptor; 0: the selector is another */
	u32 cpl;
	struct look want;
};

static void check_look(const struct case_def *this_case)
{
	const struct look_row *row = this_case->row;
	struct look got = { .selector = row->want.selector };

	if (row->descriptor)
		cpu_set_descriptor(SELECTOR_SPARE, row->descriptor);
	if (row->cpl)
		EXPECT(run_at_cpl(row->cpl, look_at, &got), OUTCOME_DONE);
	else
		look_at(&got);
	EXPECT_EQ(got.lar, row->want.lar);
	/* Bits 19:16 of what LAR loads are undefined. */
	EXPECT_EQ(got.lar ? got.rights & ~BITS(19, 16) : got.rights,
		  row->want.lar ? row->want.rights : UNTOUCHED);
	EXPECT_EQ(got.lsl, row->want.lsl);
	EXPECT_EQ(got.limit, row->want.lsl ? row->want.limit : UNTOUCHED);
	EXPECT_EQ(got.verr, row->want.verr);
	EXPECT_EQ(got.verw, row->want.verw);
}

/* After the selector: what LAR and LSL load, and whether each of the four sets ZF. */
#define LOOK(id, descriptor, cpl, ...)						\
	CASE_RUN(id, check_look, FACT("lar"),					\
		 ROW((&(const struct look_row){ descriptor, cpl, { __VA_ARGS__ } })))

#define REFUSED(id, descriptor, cpl, selector) \
	LOOK(id, descriptor, cpl, selector, 0, 0, false, false, false, false)

#define DATA_BYTE_LIMIT	0x0041920000002345ull	/* limit 12345H, DPL 0 */
#define DATA_READ_ONLY	0x00cff0000000ffffull	/* limit FFFFFH pages, DPL 3 */
#define CODE_UNREADABLE	0x00aff8000000ffffull	/* execute-only, DPL 3 */
#define CODE_CONFORMING	0x00af9e000000ffffull	/* readable, DPL 0 */

REFUSED(look_at_null, 0, 0, 0);
REFUSED(look_beyond_the_gdt, 0, 0, GDT_SIZE);
LOOK(look_at_the_tss, 0, 0, SELECTOR_TSS, 0x8b00, 0x67, true, true, false, false);
LOOK(look_at_bytes, DATA_BYTE_LIMIT, 0, SPARE, 0x409200, 0x12345, true, true, true, true);
REFUSED(look_at_bytes_with_rpl_3, DATA_BYTE_LIMIT, 0, SPARE | 3);
REFUSED(look_at_bytes_from_user_mode, DATA_BYTE_LIMIT, 3, SPARE);
LOOK(look_at_read_only_data, DATA_READ_ONLY, 3, SPARE | 3, 0xc0f000, 0xffffffff,
     true, true, true, false);
LOOK(look_at_unreadable_code, CODE_UNREADABLE, 0, SPARE, 0xa0f800, 0xffffffff,
     true, true, false, false);
LOOK(look_at_conforming_code, CODE_CONFORMING, 3, SPARE | 3, 0xa09e00, 0xffffffff,
     true, true, true, false);
/* Not present is not looked at: 6.10.1. */
LOOK(look_at_absent_data, DATA_BYTE_LIMIT & ~BIT(47), 0, SPARE, 0x401200, 0x12345,
     true, true, true, true);
/* LAR takes a call gate, LSL does not; 64-bit mode knows no gate for a task. */
LOOK(look_at_a_call_gate, TYPE_CALL_GATE << 40, 0, SPARE, 0x8c00, 0, true, false, false, false);
REFUSED(look_at_a_task_gate, 0x85ull << 40, 0, SPARE);
