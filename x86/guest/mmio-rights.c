/*
 * What surrounds an access to a device: vector registers and the x87 unit, access rights,
 * accessed and dirty flags, alignment, breakpoints, single step and interrupts (5.6 to 5.8,
 * 7.8.3, 7.15, 20.3.1).
 *
 * All of this comes before or after the access and has nothing to do with where it goes. In a
 * hypervisor it has: the access that was emulated has passed the processor's checks only if
 * somebody repeats them.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"
#include "string.h"

#define FACT(name)	PROVES("guest-instructions:mmio." name)

BEFORE_EACH_CASE(mmio_map);

static u32 get(u64 address)
{
	return *(volatile u32 *)address;
}

static void put(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

/* --- vectors ------------------------------------------------------------------------------ */

#define XCR0_UP_TO_AVX	BITS(2, 0)

/* Loads from where nothing is, stores to RAM what came; then the other way. RSI: RAM. */
struct vector_form {
	void (*code)(void *unused);
	u32 bytes;
	bool avx;
};

static void check_vector(const struct case_def *this_case)
{
	const struct vector_form *row = this_case->row;
	struct mmio_state s = { .rsi = MMIO_RAM, .rdi = MMIO_NOTHING, .flags = RFLAGS_FIXED };
	u32 i;

	write_cr4(read_cr4() | CR4_OSFXSR);
	if (row->avx) {
		write_cr4(read_cr4() | CR4_OSXSAVE);
		REQUIRE(xsetbv_safe(0, XCR0_UP_TO_AVX), OUTCOME_DONE);
	}
	memset((void *)MMIO_RAM, 0xaa, 64);
	EXPECT(mmio_run(row->code, &s), OUTCOME_DONE);
	for (i = 0; i < row->bytes; i += 4)
		EXPECT_EQ(get(MMIO_RAM + i), mmio_nothing() & BITS(31, 0));
	EXPECT_EQ(get(MMIO_RAM + row->bytes), 0xaaaaaaaa);
}

#define VECTOR_CASE(id, fact, avx, text, bytes, ...)					\
	MMIO_CODE(vector_##id, text);						\
	CASE_RUN(id, check_vector, FACT(fact),\
		 ROW((&(const struct vector_form){ vector_##id, bytes, avx })), ##__VA_ARGS__)

#define VECTOR_SSE(id, text, bytes)	VECTOR_CASE(id, "sse", false, text, bytes)
#define VECTOR_AVX(id, text, bytes)						\
	VECTOR_CASE(id, "avx", true, text, bytes, NEEDS(CPU(AVX)))

VECTOR_SSE(movups, "movups (%rdi), %xmm0; movups %xmm0, (%rsi); movups %xmm0, (%rdi)", 16);
VECTOR_SSE(movaps, "movaps (%rdi), %xmm0; movaps %xmm0, (%rsi); movaps %xmm0, (%rdi)", 16);
VECTOR_SSE(movdqu, "movdqu (%rdi), %xmm9; movdqu %xmm9, (%rsi); movdqu %xmm9, (%rdi)", 16);
VECTOR_SSE(movdqa, "movdqa (%rdi), %xmm0; movdqa %xmm0, (%rsi); movdqa %xmm0, (%rdi)", 16);
VECTOR_SSE(movntdq, "movdqa (%rdi), %xmm0; movntdq %xmm0, (%rsi); movntdq %xmm0, (%rdi)", 16);
VECTOR_SSE(movq, "movq (%rdi), %xmm0; movq %xmm0, (%rsi); movq %xmm0, (%rdi)", 8);
VECTOR_SSE(movd, "movd (%rdi), %xmm0; movd %xmm0, (%rsi); movd %xmm0, (%rdi)", 4);
VECTOR_AVX(vmovdqu_16, "vmovdqu (%rdi), %xmm0; vmovdqu %xmm0, (%rsi); vmovdqu %xmm0, (%rdi)",
	    16);
VECTOR_AVX(vmovdqu_32, "vmovdqu (%rdi), %ymm0; vmovdqu %ymm0, (%rsi); vmovdqu %ymm0, (%rdi)",
	    32);

/*
 * Volume 2, 2.3.5.6: outside of 64-bit mode the highest bit of VEX.vvvv is ignored in the prefix of
 * three bytes. This VMOVHPS has it as for XMM8: the lower half comes from XMM0.
 */
extern const u8 vmovhps_32[];
CODE32(vmovhps_32,
       "movl $0x50000000, %esi; movups (%esi), %xmm0; .byte 0xc4, 0xe1, 0x38, 0x16, 0x07;"
       "movups %xmm0, 0x10(%esi)");

CASE(vmovhps_32, FACT("avx"), NEEDS(CPU(AVX)))
{
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXSAVE);
	REQUIRE(xsetbv_safe(0, XCR0_UP_TO_AVX), OUTCOME_DONE);
	memset((void *)MMIO_RAM, 0xaa, 32);
	asm volatile("pxor %xmm8, %xmm8");
	EXPECT(run_in_compatibility_mode(0, vmovhps_32, MMIO_NOTHING), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_RAM + 0x10), 0xaaaaaaaa);
	EXPECT_EQ(get(MMIO_RAM + 0x14), 0xaaaaaaaa);
	EXPECT_EQ(get(MMIO_RAM + 0x18), mmio_nothing() & BITS(31, 0));
}

MMIO_CODE(load_movdqa, "movdqa (%rdi), %xmm0");
MMIO_CODE(store_movdqa, "movdqa %xmm0, (%rdi)");

CASE(movdqa_is_aligned, FACT("sse"))
{
	struct mmio_state s = { .rdi = MMIO_NOTHING + 8, .flags = RFLAGS_FIXED };

	write_cr4(read_cr4() | CR4_OSFXSR);
	EXPECT(mmio_run(load_movdqa, &s), OUTCOME_GP0);
	EXPECT(mmio_run(store_movdqa, &s), OUTCOME_GP0);
}

/* The value tells that the right bytes have gone each way. */
MMIO_CODE(movss_through, "movss (%rdi), %xmm5; movd %xmm5, %eax; "
	  "movd %edx, %xmm6; movss %xmm6, (%rdi)");
MMIO_CODE(fild_fist, "fninit; fildl (%rdi); fistpl (%rsi); fildl 4(%rsi); fistpl (%rdi)");
MMIO_CODE(fld_fst, "fninit; flds (%rdi); fstps (%rsi); flds 4(%rsi); fstps (%rdi)");
MMIO_CODE(control_words, "fninit; fnstcw (%rdi); fnstsw (%rdi); fldz; fstpl (%rdi)");

CASE(movss_with_the_register, FACT("sse"))
{
	struct mmio_state s = { .rdi = MMIO_REGISTER, .rdx = 0x12345678, .flags = RFLAGS_FIXED };

	write_cr4(read_cr4() | CR4_OSFXSR);
	put(MMIO_REGISTER, 0x89abcdef);
	EXPECT(mmio_run(movss_through, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, 0x89abcdef);
	EXPECT_EQ(get(MMIO_REGISTER), 0x12345678);
}

static void check_x87(void (*code)(void *unused))
{
	struct mmio_state s = { .rdi = MMIO_REGISTER, .rsi = MMIO_RAM, .flags = RFLAGS_FIXED };

	/* As numbers of either kind these are not special. */
	put(MMIO_REGISTER, 0x3f8ccccd);
	put(MMIO_RAM + 4, 0x40490fdb);
	EXPECT(mmio_run(code, &s), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_RAM), 0x3f8ccccd);
	EXPECT_EQ(get(MMIO_REGISTER), 0x40490fdb);
}

CASE(x87_integers_with_the_register, FACT("x87"))
{
	check_x87(fild_fist);
}

CASE(x87_numbers_with_the_register, FACT("x87"))
{
	check_x87(fld_fst);
}

CASE(x87_control_words, FACT("x87"))
{
	struct mmio_state s = { .rdi = MMIO_NOTHING, .flags = RFLAGS_FIXED };

	EXPECT(mmio_run(control_words, &s), OUTCOME_DONE);
}

/*
 * --- rights
 * -------------------------------------------------------------------------------------
 */

INSTRUCTION(load, "", "movl (%rdi), %eax");
INSTRUCTION(store, "movl $0x77777777, %eax", "movl %eax, (%rdi)");
INSTRUCTION(exchange, "", "xchgl %eax, (%rdi)");
INSTRUCTION(store_string, "", "stosl");

static void change(u64 linear, u64 clear, u64 set)
{
	u64 *entry = mmio_entry(linear);

	*entry = (*entry & ~clear) | set;
	invlpg(linear);
}

struct denied {
	u64 clear, set;		/* in the entry of the register's page */
	u64 cr0, cr4;		/* bits to set */
	u32 cpl;
	u64 read, write;	/* error codes; PF_NONE: allowed */
};

#define PF_NONE	BIT(31)

static void expect_access(const struct denied *row, void (*code)(void *), const u8 *code_at,
			  u64 error)
{
	outcome_t got = row->cpl ? run_at_cpl(row->cpl, code, (void *)MMIO_REGISTER) :
				   attempt(code, (void *)MMIO_REGISTER);

	if (error == PF_NONE) {
		EXPECT(got, OUTCOME_DONE);
		return;
	}
	EXPECT(got, OUTCOME_FAULT(VECTOR_PF, error));
	EXPECT_EQ(last_trap()->frame.rip, (u64)code_at);
	EXPECT_EQ(last_trap()->cr2, MMIO_REGISTER);
}

static void check_denied(const struct case_def *this_case)
{
	const struct denied *row = this_case->row;
	u64 entry = *mmio_entry(MMIO_APIC);

	put(MMIO_REGISTER, 0x55555555);
	if (row->cpl)
		mmio_share_with_user();
	change(MMIO_APIC, row->clear, row->set);
	write_cr0(read_cr0() | row->cr0);
	write_cr4(read_cr4() | row->cr4);
	expect_access(row, load, load_at, row->read);
	expect_access(row, store, store_at, row->write);
	if (row->write == PF_NONE)
		return;
	expect_access(row, exchange, exchange_at, row->write);
	expect_access(row, store_string, store_string_at, row->write);
	/* The device has not seen any of it. */
	write_cr4(read_cr4() & ~row->cr4);
	*mmio_entry(MMIO_APIC) = entry;
	invlpg(MMIO_APIC);
	EXPECT_EQ(get(MMIO_REGISTER), 0x55555555);
}

#define DENIED(id, fact, clear, set, cr0, cr4, cpl, read, write, ...)		\
	CASE_RUN(id, check_denied, FACT(fact),					\
		 ROW((&(const struct denied){ clear, set, cr0, cr4, cpl, read, write })), \
		 ##__VA_ARGS__)

DENIED(page_is_missing, "fault_priority", PTE_P, 0, 0, 0, 0, 0, PF_WR);
DENIED(page_is_read_only, "fault_priority", PTE_RW, 0, CR0_WP, 0, 0, PF_NONE, PF_WR | PF_P);
DENIED(page_is_read_only_without_wp, "fault_priority", PTE_RW, 0, 0, 0, 0, PF_NONE, PF_NONE);
DENIED(page_of_the_supervisor, "user_smap", 0, 0, 0, 0, 3, PF_US | PF_P, PF_US | PF_WR | PF_P);
DENIED(page_of_the_user, "user_smap", 0, PTE_US, 0, 0, 3, PF_NONE, PF_NONE);
DENIED(page_of_the_user_read_only, "user_smap", PTE_RW, PTE_US, 0, 0, 3, PF_NONE,
       PF_US | PF_WR | PF_P);
CASE(page_of_the_user_with_smap, FACT("user_smap"), NEEDS(CPU(SMAP)))
{
	put(MMIO_USER_REGISTER, 0x55555555);
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(attempt(load, (void *)MMIO_USER_REGISTER), OUTCOME_FAULT(VECTOR_PF, PF_P));
	EXPECT(attempt(store, (void *)MMIO_USER_REGISTER), OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR));
	EXPECT(attempt(store_string, (void *)MMIO_USER_REGISTER),
	       OUTCOME_FAULT(VECTOR_PF, PF_P | PF_WR));
	EXPECT_EQ(last_trap()->cr2, MMIO_USER_REGISTER);
	EXPECT_EQ(get(MMIO_REGISTER), 0x55555555);
	/* RFLAGS.AC lets them through. */
	asm volatile("stac" : : : "cc", "memory");
	put(MMIO_USER_REGISTER, 0x66666666);
	asm volatile("clac" : : : "cc", "memory");
	EXPECT_EQ(get(MMIO_REGISTER), 0x66666666);
}

CASE(accessed_and_dirty, FACT("ad_bits"))
{
	put(MMIO_REGISTER, 1);
	change(MMIO_APIC, PTE_A | PTE_D, 0);
	EXPECT(attempt(load, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(*mmio_entry(MMIO_APIC) & (PTE_A | PTE_D), PTE_A);
	EXPECT(attempt(store, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(*mmio_entry(MMIO_APIC) & (PTE_A | PTE_D), PTE_A | PTE_D);
	change(MMIO_APIC, PTE_A | PTE_D, 0);
	EXPECT(attempt(exchange, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(*mmio_entry(MMIO_APIC) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

CASE(misaligned_in_user_mode, FACT("ac"))
{
	mmio_share_with_user();
	change(MMIO_NOTHING, 0, PTE_US);
	write_cr0(read_cr0() | CR0_AM);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_AC, load, (void *)(MMIO_NOTHING + 2)),
	       OUTCOME_FAULT(VECTOR_AC, 0));
	EXPECT_EQ(last_trap()->frame.rip, (u64)load_at);
	EXPECT(run_at_cpl_with_flags(3, RFLAGS_AC, load, (void *)(MMIO_NOTHING + 4)), OUTCOME_DONE);
	EXPECT(run_at_cpl(3, load, (void *)(MMIO_NOTHING + 2)), OUTCOME_DONE);
}

/*
 * --- debug exceptions
 * ------------------------------------------------------------------------------
 */

#define DR6_CAUSES	(BITS(3, 0) | BITS(14, 13))

INSTRUCTION(stepped_load, "pushfq; orl $0x100, (%rsp); popfq", "movl (%rdi), %eax");
INSTRUCTION(stepped_store, "movl $0x66666666, %eax; pushfq; orl $0x100, (%rsp); popfq",
	    "movl %eax, (%rdi)");

CASE(single_step, FACT("single_step"))
{
	EXPECT(attempt(stepped_load, (void *)MMIO_REGISTER), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)stepped_load_next);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, BIT(14));
	put(MMIO_REGISTER, 0);
	EXPECT(attempt(stepped_store, (void *)MMIO_REGISTER), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)stepped_store_next);
	EXPECT_EQ(get(MMIO_REGISTER), 0x66666666);
}

CASE(data_breakpoint, PROVES("guest-instructions:dr.data_mmio"))
{
	put(MMIO_REGISTER, 0);
	write_dr2(MMIO_REGISTER);
	/* L2; R/W2 = 1: writes; LEN2 = 3: 4 bytes. */
	write_dr7(DR7_FIXED | BIT(4) | 0xdull << 24);
	EXPECT(attempt(load, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT(attempt(store, (void *)MMIO_REGISTER), OUTCOME_EXCEPTION(VECTOR_DB));
	EXPECT_EQ(last_trap()->frame.rip, (u64)store_next);
	EXPECT_EQ(last_trap()->dr6 & DR6_CAUSES, BIT(2));
	write_dr7(DR7_FIXED);
	EXPECT_EQ(get(MMIO_REGISTER), 0x77777777);
}

/*
 * --- interrupts
 * --------------------------------------------------------------------------------------
 */

#define VECTOR_PENDING	0x50

static struct {
	u32 count;
	u64 rip;
} taken;

static void on_pending(struct trap_frame *frame)
{
	taken.count++;
	taken.rip = frame->rip;
	apic_eoi();
}

static void make_pending(void)
{
	taken.count = 0;
	trap_on(VECTOR_PENDING, on_pending);
	apic_pend(VECTOR_PENDING);
}

INSTRUCTION(after_sti, "sti", "movl (%rdi), %eax; nop; cli");
extern const u8 after_sti_nop[];
asm(".set after_sti_nop, after_sti_at + 2");
INSTRUCTION(after_popf, "pushfq; orl $0x200, (%rsp); popfq",
	    "movl (%rdi), %eax; cli");

/* The shadow of STI is one instruction long, also when that one is emulated. */
CASE(interrupt_after_sti, FACT("irq_shadow"))
{
	make_pending();
	EXPECT(attempt(after_sti, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(taken.count, 1);
	EXPECT_EQ(taken.rip, (u64)after_sti_nop);
}

/* POPF has no shadow: the interrupt comes before the access. */
CASE(interrupt_after_popf, FACT("irq_shadow"))
{
	make_pending();
	EXPECT(attempt(after_popf, (void *)MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(taken.count, 1);
	EXPECT_EQ(taken.rip, (u64)after_popf_at);
}
