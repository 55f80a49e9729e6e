/*
 * Accesses to memory that is not RAM, in other sizes and other numbers than guest/mmio has them:
 * bytes, words, quadwords and vectors, string instructions, operands that lie in two pages; and
 * what surrounds an access: rights, accessed and dirty flags, alignment, breakpoints, interrupts
 * (volume 2; 5.6 to 5.8, 20.3.1).
 *
 * Most of these go to an address where nothing is. What is written there is lost, and what is
 * read is the bus's word, but always the same one; so a case can tell which bytes of its
 * registers and of its RAM come from there, and which must have stayed as they were.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:mmio." name)

static void map_and_enable_sse(void)
{
	mmio_map();
	write_cr4(read_cr4() | CR4_OSFXSR);
}
BEFORE_EACH_CASE(map_and_enable_sse);

static u32 get(u64 address)
{
	return *(volatile u32 *)address;
}

static void put(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

static u8 *at(u64 address)
{
	return (u8 *)address;
}

/*
 * --- loads: which bits come from the bus, which stay ------------------------------------------
 */

struct load {
	void (*code)(void *unused);
	u64 loaded;		/* the bits of RAX that come from the bus */
	u64 kept;
	u32 shift;		/* of the first byte that is read */
	u32 sign;		/* its bit is copied to all that are neither; 0: they are 0 */
};

static void check_load(const struct case_def *this_case)
{
	const struct load *row = this_case->row;
	const u64 before = 0x1122334455667788;
	struct mmio_state s = { .rax = before, .rdi = MMIO_NOTHING, .flags = RFLAGS_FIXED };
	u64 bus = mmio_nothing(), want;

	want = (bus << row->shift & row->loaded) | (before & row->kept);
	if (row->sign && (bus >> (row->sign - row->shift) & 1))
		want |= ~(row->loaded | row->kept);
	EXPECT(mmio_run(row->code, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, want);
}

#define LOAD(id, fact, text, loaded, kept, shift, sign)				\
	MMIO_CODE(load_##id, text);						\
	CASE_RUN(id, check_load, FACT(fact),					\
		 ROW((&(const struct load){ load_##id, loaded, kept, shift, sign })))

LOAD(load_8, "mov_rd", "movb (%rdi), %al", BITS(7, 0), BITS(63, 8), 0, 0);
LOAD(load_16, "mov_rd", "movw (%rdi), %ax", BITS(15, 0), BITS(63, 16), 0, 0);
LOAD(load_32, "mov_rd", "movl (%rdi), %eax", BITS(31, 0), 0, 0, 0);
LOAD(load_64, "mov_rd", "movq (%rdi), %rax", BITS(63, 0), 0, 0, 0);
LOAD(load_ah, "high8", "movb (%rdi), %ah", BITS(15, 8), BITS(63, 16) | BITS(7, 0), 8, 0);
LOAD(load_moffs_8, "moffs", "movabsb 0x50003000, %al", BITS(7, 0), BITS(63, 8), 0, 0);
LOAD(load_moffs_64, "moffs", "movabsq 0x50003000, %rax", BITS(63, 0), 0, 0, 0);
LOAD(movzx_8_to_16, "movzx", "movzbw (%rdi), %ax", BITS(7, 0), BITS(63, 16), 0, 0);
LOAD(movzx_8_to_32, "movzx", "movzbl (%rdi), %eax", BITS(7, 0), 0, 0, 0);
LOAD(movzx_8_to_64, "movzx", "movzbq (%rdi), %rax", BITS(7, 0), 0, 0, 0);
LOAD(movzx_16_to_32, "movzx", "movzwl (%rdi), %eax", BITS(15, 0), 0, 0, 0);
LOAD(movzx_16_to_64, "movzx", "movzwq (%rdi), %rax", BITS(15, 0), 0, 0, 0);
LOAD(movsx_8_to_64, "movsx", "movsbq (%rdi), %rax", BITS(7, 0), 0, 0, 7);
LOAD(movsx_16_to_64, "movsx", "movswq (%rdi), %rax", BITS(15, 0), 0, 0, 15);
LOAD(movsx_32_to_64, "movsx", "movslq (%rdi), %rax", BITS(31, 0), 0, 0, 31);
LOAD(lods_8, "lods", "movq %rdi, %rsi; lodsb", BITS(7, 0), BITS(63, 8), 0, 0);
LOAD(lods_64, "lods", "movq %rdi, %rsi; lodsq", BITS(63, 0), 0, 0, 0);
LOAD(load_xmm_64, "sse", "movq (%rdi), %xmm1; movq %xmm1, %rax", BITS(63, 0), 0, 0, 0);

/*
 * --- stores of every size
 * ------------------------------------------------------------------------
 */

MMIO_CODE(stores, "movb %al, (%rdi); movb %ah, (%rdi); movw %ax, (%rdi); movq %rax, (%rdi);"
		  "movb $1, (%rdi); movw $2, (%rdi); movq $-3, (%rdi); stosb; stosw; stosq");

CASE(stores_of_every_size, FACT("mov_wr"))
{
	struct mmio_state s = { .rax = 0x1122334455667788, .rdi = MMIO_NOTHING, .flags = 0xad7 };
	u64 before = mmio_nothing();

	s.flags &= ~RFLAGS_DF & ~RFLAGS_IF;
	EXPECT(mmio_run(stores, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, 0x1122334455667788);
	EXPECT_EQ(s.rdi, MMIO_NOTHING + 11);
	EXPECT_EQ(s.flags, 0x8d7);
	EXPECT_EQ(mmio_nothing(), before);
}

MMIO_CODE(byte_or_word_rmw, "addb $0, (%rdi); orw $0, (%rdi); xchgq %rax, (%rdi); negq (%rdi)");

CASE(read_modify_write_of_other_sizes, FACT("alu_rmw"))
{
	struct mmio_state s = { .rdi = MMIO_NOTHING, .flags = RFLAGS_FIXED };

	EXPECT(mmio_run(byte_or_word_rmw, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, mmio_nothing());
	EXPECT_EQ(!(s.flags & RFLAGS_CF), !mmio_nothing());
}

MMIO_CODE(cmpxchg8b, "pushq %rbx; movl $5, %ebx; cmpxchg8b (%rdi); popq %rbx");
MMIO_CODE(cmpxchg16b, "pushq %rbx; movl $5, %ebx; cmpxchg16b (%rdi); popq %rbx");

/* The comparison fails, so what is there comes to EDX:EAX; then it succeeds. */
static void check_cmpxchg(void (*code)(void *unused), u64 mask)
{
	struct mmio_state s = { .rax = 0x11, .rdx = 0x22, .rcx = 6, .rdi = MMIO_NOTHING,
				.flags = RFLAGS_FIXED | RFLAGS_ZF };
	u64 bus = mmio_nothing(), high = mask == ~0ull ? bus : bus >> 32;

	EXPECT(mmio_run(code, &s), OUTCOME_DONE);
	EXPECT_EQ(s.flags, RFLAGS_FIXED);
	EXPECT_EQ(s.rax, bus & mask);
	EXPECT_EQ(s.rdx, high & mask);
	EXPECT(mmio_run(code, &s), OUTCOME_DONE);
	EXPECT_EQ(s.flags, RFLAGS_FIXED | RFLAGS_ZF);
}

CASE(cmpxchg_8_bytes, FACT("cmpxchg8b"))
{
	check_cmpxchg(cmpxchg8b, BITS(31, 0));
}

CASE(cmpxchg_16_bytes, FACT("cmpxchg8b"), NEEDS(CPU(CX16)))
{
	check_cmpxchg(cmpxchg16b, ~0ull);
}

/*
 * --- string instructions
 * ------------------------------------------------------------------------------
 */

/* What of RAM has become the bus's word: `size` bytes from `first`, in a page of AAH. */
static void expect_bus_bytes(u64 page, u64 first, u64 size)
{
	u64 bus = mmio_nothing();
	u32 i, wrong = 0;

	for (i = 0; i < PAGE_SIZE; i++) {
		bool from_bus = page + i >= first && page + i < first + size;

		wrong += at(page)[i] != (from_bus ? (u8)bus : 0xaa);
	}
	EXPECT_EQ(wrong, 0);
}

struct string_row {
	void (*code)(void *unused);
	u64 rsi, rdi, rcx, rcx_after;
	s64 moved;		/* RSI, RDI: bytes; SI or DI of the RAM side as well */
	u64 first, size;	/* what is stored in MMIO_RAM_2; size 0: nothing */
	bool down;
};

static void check_string(const struct case_def *this_case)
{
	const struct string_row *row = this_case->row;
	struct mmio_state s = { .rsi = row->rsi, .rdi = row->rdi, .rcx = row->rcx,
				.flags = RFLAGS_FIXED | (row->down ? RFLAGS_DF : 0) };

	memset(at(MMIO_RAM_2), 0xaa, PAGE_SIZE);
	EXPECT(mmio_run(row->code, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rsi, row->rsi ? row->rsi + row->moved : 0);
	EXPECT_EQ(s.rdi, row->rdi ? row->rdi + row->moved : 0);
	EXPECT_EQ(s.rcx, row->rcx_after);
	expect_bus_bytes(MMIO_RAM_2, row->first, row->size);
}

#define STRING(id, fact, text, ...)						\
	MMIO_CODE(string_##id, text);						\
	CASE_RUN(id, check_string, FACT(fact),					\
		 ROW((&(const struct string_row){ string_##id, __VA_ARGS__ })))

#define RAM	(MMIO_RAM_2 + 0x100)
#define DEVICE	(MMIO_NOTHING + 0x100)

STRING(movsb_from, "movs_from", "movsb", DEVICE, RAM, 9, 9, 1, RAM, 1, false);
STRING(movsq_from, "movs_from", "movsq", DEVICE, RAM, 9, 9, 8, RAM, 8, false);
STRING(rep_movsb_from, "movs_from", "rep movsb", DEVICE, RAM, 13, 0, 13, RAM, 13, false);
STRING(rep_movsw_from, "movs_from", "rep movsw", DEVICE, RAM, 5, 0, 10, RAM, 10, false);
STRING(rep_movsl_from, "movs_from", "rep movsl", DEVICE, RAM, 5, 0, 20, RAM, 20, false);
STRING(rep_movsq_from, "movs_from", "rep movsq", DEVICE, RAM, 5, 0, 40, RAM, 40, false);
STRING(rep_movsl_from_down, "movs_from", "rep movsl", DEVICE, RAM, 5, 0, -20, RAM - 16, 20, true);
STRING(rep_movsb_from_none, "movs_from", "rep movsb", DEVICE, RAM, 0, 0, 0, 0, 0, false);
STRING(rep_movsb_to, "movs_to", "rep movsb", RAM, DEVICE, 13, 0, 13, 0, 0, false);
STRING(rep_movsq_to, "movs_to", "rep movsq", RAM, DEVICE, 5, 0, 40, 0, 0, false);
STRING(rep_movsl_to_down, "movs_to", "rep movsl", RAM, DEVICE, 5, 0, -20, 0, 0, true);
STRING(rep_movsl_over_the_page_end, "movs_to", "rep movsl", RAM, MMIO_NOTHING_2 - 8, 5, 0, 20,
       0, 0, false);
STRING(rep_movsl_both, "movs_both", "rep movsl", DEVICE, DEVICE + 0x800, 5, 0, 20, 0, 0, false);
STRING(rep_stosb, "stos", "rep stosb", 0, DEVICE, 13, 0, 13, 0, 0, false);
STRING(rep_stosq, "stos", "rep stosq", 0, DEVICE, 5, 0, 40, 0, 0, false);
STRING(rep_stosw_down, "stos", "rep stosw", 0, DEVICE, 5, 0, -10, 0, 0, true);
STRING(rep_stosl_none, "stos", "rep stosl", 0, DEVICE, 0, 0, 0, 0, 0, false);
STRING(rep_lodsw, "lods", "rep lodsw", DEVICE, 0, 5, 0, 10, 0, 0, false);
STRING(rep_lodsb_down, "lods", "rep lodsb", DEVICE, 0, 5, 0, -5, 0, 0, true);

/* From RAM into a device behind it: the first two elements stay in RAM. */
STRING(rep_stosl_into_the_device, "stos", "movl $0xaaaaaaaa, %eax; rep stosl", 0, MMIO_NOTHING - 8,
       4, 0, 16, 0, 0, false);

/* With the APIC's register, the value tells that the element is the right one. */
MMIO_CODE(movsl, "movsl");
MMIO_CODE(stosl, "stosl");
MMIO_CODE(lodsl, "lodsl");
MMIO_CODE(scasl, "scasl");
MMIO_CODE(cmpsl, "cmpsl");

CASE(movs_and_the_register, FACT("movs_from"))
{
	struct mmio_state s = { .rsi = MMIO_REGISTER, .rdi = MMIO_RAM, .flags = RFLAGS_FIXED };

	put(MMIO_REGISTER, 0x89abcdef);
	EXPECT(mmio_run(movsl, &s), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_RAM), 0x89abcdef);
	EXPECT_EQ(s.rsi, MMIO_REGISTER + 4);
}

CASE(movs_to_the_register, FACT("movs_to"))
{
	struct mmio_state s = { .rsi = MMIO_RAM, .rdi = MMIO_REGISTER, .flags = RFLAGS_FIXED };

	put(MMIO_RAM, 0x456789ab);
	EXPECT(mmio_run(movsl, &s), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x456789ab);
	EXPECT_EQ(s.rdi, MMIO_REGISTER + 4);
}

/* From the initial count to the divide configuration. */
CASE(movs_between_two_registers, FACT("movs_both"))
{
	struct mmio_state s = { .rsi = MMIO_REGISTER, .rdi = MMIO_APIC + APIC_TIMER_DIVIDE,
				.flags = RFLAGS_FIXED };

	put(MMIO_APIC + APIC_TIMER_DIVIDE, 0);
	put(MMIO_REGISTER, 0xb);
	EXPECT(mmio_run(movsl, &s), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_APIC + APIC_TIMER_DIVIDE), 0xb);
}

CASE(stos_and_lods_with_the_register, FACT("stos"))
{
	struct mmio_state s = { .rax = 0xfedcba9876543210, .rsi = MMIO_REGISTER,
				.rdi = MMIO_REGISTER, .flags = RFLAGS_FIXED };

	EXPECT(mmio_run(stosl, &s), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x76543210);
	s.rax = ~0ull;
	EXPECT(mmio_run(lodsl, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, 0x76543210);
}

CASE(scas_and_cmps_with_the_register, FACT("scas_cmps"))
{
	struct mmio_state s = { .rax = 5, .rsi = MMIO_RAM, .rdi = MMIO_REGISTER,
				.flags = RFLAGS_FIXED };

	put(MMIO_REGISTER, 6);
	put(MMIO_RAM, 7);
	/* 5 - 6 borrows; 7 - 6 is 1. */
	EXPECT(mmio_run(scasl, &s), OUTCOME_DONE);
	EXPECT_EQ(s.flags, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_SF | RFLAGS_AF | RFLAGS_PF);
	EXPECT_EQ(s.rdi, MMIO_REGISTER + 4);
	s.rdi = MMIO_REGISTER;
	EXPECT(mmio_run(cmpsl, &s), OUTCOME_DONE);
	EXPECT_EQ(s.flags, RFLAGS_FIXED);
}

MMIO_CODE(repe_cmpsl, "repe cmpsl");
MMIO_CODE(repne_scasb, "repne scasb");

/* Equal to the bus's word but for the fourth element. */
CASE(repe_cmps_ends_at_a_difference, FACT("scas_cmps"))
{
	struct mmio_state s = { .rsi = MMIO_RAM, .rdi = DEVICE, .rcx = 10,
				.flags = RFLAGS_FIXED | RFLAGS_ZF };
	u32 i;

	for (i = 0; i < 10; i++)
		put(MMIO_RAM + 4 * i, (u32)mmio_nothing() ^ (i == 3));
	EXPECT(mmio_run(repe_cmpsl, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rcx, 6);
	EXPECT_EQ(s.rsi, MMIO_RAM + 16);
	EXPECT_EQ(s.rdi, DEVICE + 16);
	EXPECT_EQ(s.flags & RFLAGS_ZF, 0);
}

CASE(repne_scas_ends_at_the_count, FACT("scas_cmps"))
{
	struct mmio_state s = { .rdi = DEVICE, .rcx = 10, .rax = (u8)~mmio_nothing(),
				.flags = RFLAGS_FIXED | RFLAGS_ZF };

	EXPECT(mmio_run(repne_scasb, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rcx, 0);
	EXPECT_EQ(s.rdi, DEVICE + 10);
	EXPECT_EQ(s.flags & RFLAGS_ZF, 0);
	s.rax = (u8)mmio_nothing();
	s.rcx = 10;
	EXPECT(mmio_run(repne_scasb, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rcx, 9);
	EXPECT_EQ(s.flags & RFLAGS_ZF, RFLAGS_ZF);
}

/*
 * --- two pages
 * ------------------------------------------------------------------------------------------
 */

static u64 load_8_bytes(u64 address)
{
	u64 value = 0;

	EXPECT(ATTEMPT("movq (%1), %0", "+r" (value) : "r" (address) : "memory"), OUTCOME_DONE);
	return value;
}

static void store_8_bytes(u64 address, u64 value)
{
	EXPECT(ATTEMPT("movq %0, (%1)", : "r" (value), "r" (address) : "memory"), OUTCOME_DONE);
}

CASE(from_ram_into_the_device, FACT("page_cross"))
{
	put(MMIO_NOTHING - 8, 0x11111111);
	put(MMIO_NOTHING - 4, 0x22222222);
	EXPECT_EQ(load_8_bytes(MMIO_NOTHING - 4), 0x22222222 | mmio_nothing() << 32);
	store_8_bytes(MMIO_NOTHING - 3, 0x0807060504030201);
	EXPECT_EQ(get(MMIO_NOTHING - 4), 0x03020122);
	EXPECT_EQ(get(MMIO_NOTHING - 8), 0x11111111);
}

CASE(from_the_device_into_ram, FACT("page_cross"))
{
	put(MMIO_RAM_3, 0x33333333);
	EXPECT_EQ(load_8_bytes(MMIO_RAM_3 - 4),
		  0x3333333300000000 | (mmio_nothing() & BITS(31, 0)));
	store_8_bytes(MMIO_RAM_3 - 5, 0x0807060504030201);
	EXPECT_EQ(get(MMIO_RAM_3), 0x33080706);
}

CASE(over_two_pages_of_a_device, FACT("two_pages"))
{
	u64 offset;

	for (offset = 1; offset < 8; offset++) {
		EXPECT_EQ(load_8_bytes(MMIO_NOTHING_2 - offset), mmio_nothing());
		store_8_bytes(MMIO_NOTHING_2 - offset, ~0ull);
	}
}

CASE(unaligned_in_a_page, FACT("size_cross"))
{
	u64 offset;

	for (offset = 1; offset < 8; offset++) {
		EXPECT_EQ(load_8_bytes(DEVICE + offset), mmio_nothing());
		store_8_bytes(DEVICE + offset, 0x55);
	}
}

/* --- read-only memory ------------------------------------------------------------------------- */

/* 12.1.4: where the processor begins after a reset, 16 bytes below 4 GBytes. */
#define FIRST_INSTRUCTION	0xfffffff0ull

/* A write to ROM, or where a machine without firmware has nothing, is lost, and no fault. */
CASE(write_to_rom_is_lost, FACT("rom_write"))
{
	u64 before = load_8_bytes(FIRST_INSTRUCTION);

	store_8_bytes(FIRST_INSTRUCTION, ~before);
	EXPECT_EQ(load_8_bytes(FIRST_INSTRUCTION), before);
	put(FIRST_INSTRUCTION, ~(u32)before);
	EXPECT(ATTEMPT("movb $0x55, (%0)", : "r" (FIRST_INSTRUCTION) : "memory"), OUTCOME_DONE);
	EXPECT(ATTEMPT("lock incl (%0)", : "r" (FIRST_INSTRUCTION) : "memory", "cc"), OUTCOME_DONE);
	EXPECT_EQ(load_8_bytes(FIRST_INSTRUCTION), before);
}
