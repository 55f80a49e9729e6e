/*
 * CR0 and CR4 as a guest sees them: MOV, SMSW, LMSW, CLTS (volume 2; 2.5 Control Registers).
 *
 * Under a hypervisor some bits of these registers are not the processor's but a shadow (27.6.6):
 * what a guest reads has to be what it wrote, whatever the real register holds. Which bits may be
 * set is in guest/cpuid-basic and in the images about paging; who may execute the instructions in
 * guest/privilege.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"

#define FACT(name)	PROVES("guest-instructions:" name)

/* --- what is written is read ------------------------------------------------------------ */

/* Bits of CR0 that a hypervisor wants to be 1, or 0, for itself. */
CASE(cr0_shows_no_bits_of_a_host, FACT("cr.read_clears"))
{
	static const u64 bits[] = { CR0_NE, CR0_MP, CR0_TS, CR0_EM, CR0_WP, CR0_AM };
	u64 before = read_cr0();
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		EXPECT(write_cr0_safe(before & ~bits[i]), OUTCOME_DONE);
		EXPECT_EQ(read_cr0(), before & ~bits[i]);
		EXPECT(write_cr0_safe(before | bits[i]), OUTCOME_DONE);
		EXPECT_EQ(read_cr0(), before | bits[i]);
	}
}

CASE(cr0_et_is_always_1, FACT("cr.read_clears"))
{
	u64 before = read_cr0();

	EXPECT(write_cr0_safe(before & ~CR0_ET), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), before | CR0_ET);
}

CASE(cr4_shows_no_bits_of_a_host, FACT("cr.read_clears"))
{
	static const u64 bits[] = {
		CR4_VME, CR4_TSD, CR4_DE, CR4_MCE, CR4_PGE, CR4_PCE, CR4_OSFXSR };
	u64 before = read_cr4();
	u32 i;

	EXPECT_EQ(before, CR4_PAE);
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		EXPECT(write_cr4_safe(before | bits[i]), OUTCOME_DONE);
		EXPECT_EQ(read_cr4(), before | bits[i]);
	}
	EXPECT(write_cr4_safe(before), OUTCOME_DONE);
	EXPECT_EQ(read_cr4(), before);
}

/* --- SMSW ---------------------------------------------------------------------------------- */

CASE(smsw_to_registers, FACT("cr.smsw"))
{
	u64 rax = ~0ull, cr0 = read_cr0();

	EXPECT(ATTEMPT("smsw %%rax", "+a" (rax)), OUTCOME_DONE);
	EXPECT_EQ(rax, cr0);
	rax = ~0ull;
	EXPECT(ATTEMPT("smsw %%ax", "+a" (rax)), OUTCOME_DONE);
	EXPECT_EQ(rax, 0xffffffffffff0000 | (cr0 & 0xffff));
	/* Bits 31:16 of a 32-bit register are undefined, 63:32 become 0. */
	rax = ~0ull;
	EXPECT(ATTEMPT("smsw %%eax", "+a" (rax)), OUTCOME_DONE);
	EXPECT_EQ(rax & ~BITS(31, 16), cr0 & 0xffff);
}

/* Memory takes 16 bits whatever the operand size. */
#define SMSW_MEMORY(id, bytes)							\
	CASE(id, FACT("cr.smsw"))						\
	{									\
		u64 memory[2] = { ~0ull, ~0ull };				\
										\
		EXPECT(ATTEMPT(bytes, : "D" (memory) : "memory"), OUTCOME_DONE);	\
		EXPECT_EQ(memory[0], 0xffffffffffff0000 | (read_cr0() & 0xffff));\
		EXPECT_EQ(memory[1], ~0ull);					\
	}

SMSW_MEMORY(smsw_to_memory, "smsw (%%rdi)")
SMSW_MEMORY(smsw_to_memory_operand_size_16, ".byte 0x66; smsw (%%rdi)")
SMSW_MEMORY(smsw_to_memory_rex_w, ".byte 0x48; smsw (%%rdi)")

/*
 * --- LMSW ------------------------------------------------------------------------------------
 */

CASE(lmsw_sets_four_bits, FACT("cr.lmsw"))
{
	u64 before = read_cr0();

	/* Only PE, MP, EM and TS are loaded. */
	EXPECT(ATTEMPT("lmsw %w0", : "r" (0xffff)), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), before | CR0_PE | CR0_MP | CR0_EM | CR0_TS);
	EXPECT(ATTEMPT("lmsw %w0", : "r" (0)), OUTCOME_DONE);
	/* PE can be set, and never cleared. */
	EXPECT_EQ(read_cr0(), before & ~(CR0_MP | CR0_EM | CR0_TS));
}

CASE(lmsw_from_memory, FACT("cr.lmsw"))
{
	u16 memory = CR0_TS | CR0_PE;
	u64 before = read_cr0();

	EXPECT(ATTEMPT("lmsw %0", : "m" (memory)), OUTCOME_DONE);
	EXPECT_EQ(read_cr0(), (before & ~(CR0_MP | CR0_EM)) | CR0_TS);
}

/*
 * --- CR0.TS: 7.15, #NM
 * ---------------------------------------------------------------------------
 */

INSTRUCTION(x87, "", "fnop");
INSTRUCTION(sse, "", "addps %xmm0, %xmm0");

static void expect_available(outcome_t outcome)
{
	EXPECT(attempt(x87, NULL), outcome);
	EXPECT(attempt(sse, NULL), outcome);
}

CASE(clts_makes_x87_and_sse_available, FACT("cr.ts_nm"))
{
	write_cr4(read_cr4() | CR4_OSFXSR);
	write_cr0(read_cr0() | CR0_TS);
	expect_available(OUTCOME_EXCEPTION(VECTOR_NM));
	EXPECT(ATTEMPT("clts", :), OUTCOME_DONE);
	EXPECT_EQ(read_cr0() & CR0_TS, 0);
	expect_available(OUTCOME_DONE);
}

CASE(mov_cr0_makes_x87_and_sse_unavailable, FACT("cr.ts_nm"))
{
	write_cr4(read_cr4() | CR4_OSFXSR);
	expect_available(OUTCOME_DONE);
	write_cr0(read_cr0() | CR0_TS);
	expect_available(OUTCOME_EXCEPTION(VECTOR_NM));
	write_cr0(read_cr0() & ~CR0_TS);
	expect_available(OUTCOME_DONE);
}

/*
 * --- registers that do not exist
 * --------------------------------------------------------------------
 */

#define ABSENT_REGISTER(id, modrm, rex)						\
	CASE(id, FACT("cr.absent"))						\
	{									\
		EXPECT(ATTEMPT(".byte " rex "0x0f, 0x20, " modrm, : : "rax"), OUTCOME_UD); \
		EXPECT(ATTEMPT(".byte " rex "0x0f, 0x22, " modrm, : "a" (0)), OUTCOME_UD); \
	}

ABSENT_REGISTER(no_cr1, "0xc8", "")
ABSENT_REGISTER(no_cr5, "0xe8", "")
ABSENT_REGISTER(no_cr6, "0xf0", "")
ABSENT_REGISTER(no_cr7, "0xf8", "")
ABSENT_REGISTER(no_cr9, "0xc8", "0x44, ")
ABSENT_REGISTER(no_cr15, "0xf8", "0x44, ")

CASE(lock_on_mov_cr, FACT("ud.lock"), NEEDS(INTEL))
{
	EXPECT(ATTEMPT(".byte 0xf0, 0x0f, 0x20, 0xc0", : : "rax"), OUTCOME_UD);
}
