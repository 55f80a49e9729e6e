/*
 * Accesses that span two pages, beyond plain loads and stores (mmu/translation-basic has those).
 *
 * Both translations are needed before anything of the instruction happens; where the second page
 * is missing, the fault names its first byte, and the instruction can be restarted (5.7, 7.5).
 * That holds for pages of different sizes, for locked accesses, for strings with two operands, for
 * the frame of an IRET, and for the bytes of an instruction.
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
#define OTHER_CONTENT		0x1122334455667788ull
#define LARGE_LINEAR		0x7f0000000000ull

CASE(large_page_then_small_page, PROVES("paging:cross.diff_size"))
{
	u64 size = level_size(LEVEL_PDE), value = 0, border = LARGE_LINEAR + size;
	u64 *large = pages_alloc(size, size), *small = page_alloc_filled(OTHER_CONTENT);
	struct probe probe;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	large[size / 8 - 1] = PROBE_CONTENT;
	space_map(&probe.space, LARGE_LINEAR, physical(large), PTE_P | PTE_RW, LEVEL_PDE);
	EXPECT(read_at(border - 3, &value), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), border);
	space_map(&probe.space, border, physical(small), PTE_P | PTE_RW, LEVEL_PTE);
	EXPECT(read_at(border - 3, &value), OUTCOME_DONE);
	EXPECT_EQ(value, OTHER_CONTENT << 24 | (PROBE_CONTENT & 0xffffff));
	EXPECT(write_at(border - 4, ~0ull), OUTCOME_DONE);
	EXPECT_EQ(large[size / 8 - 1], PROBE_CONTENT | 0xffffffff00000000);
	EXPECT_EQ(small[0], OTHER_CONTENT | 0xffffffff);
}

CASE(locked_access, PROVES("paging:cross.lock"))
{
	struct probe probe;
	u64 *second, address;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	address = probe.linear + PAGE_SIZE - 4;
	EXPECT(ATTEMPT("lock addq %0, (%1)", : "r" (1ull), "r" (address) : "memory", "cc"),
	       PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(probe.page[511], PROBE_CONTENT);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("lock addq %0, (%1)", : "r" (0x100000001ull), "r" (address)
		       : "memory", "cc"), OUTCOME_DONE);
	EXPECT_EQ(probe.page[511], PROBE_CONTENT + 0x100000000);
	EXPECT_EQ(*second, PROBE_CONTENT + 1);
}

/* More than 8 bytes: the part on the first page may be there after the fault. 11.1.1. */
CASE(store_of_16_bytes, PROVES("paging:cross.store_wide", "paging:cross.restart"), NEEDS(CPU(SSE)))
{
	struct probe probe;
	u64 *second, address;

	write_cr4(read_cr4() | CR4_OSFXSR);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	address = probe.linear + PAGE_SIZE - 8;
	asm volatile("xorps %%xmm0, %%xmm0" : : );
	EXPECT(ATTEMPT("movups %%xmm0, (%0)", : "r" (address) : "memory"), PAGE_FAULT(PF_WR));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(probe.page[510], PROBE_CONTENT);
	EXPECT_TRUE(probe.page[511] == PROBE_CONTENT || probe.page[511] == 0);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("movups %%xmm0, (%0)", : "r" (address) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(probe.page[510], PROBE_CONTENT);
	EXPECT_EQ(probe.page[511], 0);
	EXPECT_EQ(second[0], 0);
	EXPECT_EQ(second[1], PROBE_CONTENT);
}

/*
 * The area of XSAVE, of 576 bytes, with 64 on the first page. What XSAVE looks at first, the header
 * that it reads or the first component, is on the second.
 */
CASE(xsave_area, PROVES("paging:cross.xsave"), NEEDS(CPU(XSAVE)))
{
	struct probe probe;
	u64 *second, address;

	write_cr4(read_cr4() | CR4_OSXSAVE | CR4_OSFXSR);
	xsetbv_safe(0, 1);
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	address = probe.linear + PAGE_SIZE - 64;
	EXPECT(ATTEMPT("xsave (%0)", : "r" (address), "a" (1), "d" (0) : "memory"),
	       PAGE_FAULT(PF_WR), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2() & PAGE_MASK, probe.linear + PAGE_SIZE);
	EXPECT_EQ(probe.page[503], PROBE_CONTENT);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	/* XSTATE_BV and what must be 0 behind it: volume 1, 13.4.2. */
	memset(&second[56], 0, 64);
	EXPECT(ATTEMPT("xsave (%0)", : "r" (address), "a" (1), "d" (0) : "memory"), OUTCOME_DONE);
	EXPECT_EQ(second[56] & ~BIT(0), 0);
	EXPECT_EQ(second[64], PROBE_CONTENT);
}

/* Neither page is there: which of the two is named is not promised. */
CASE(both_pages_missing, PROVES("paging:cr2.both_missing"))
{
	struct probe probe;
	u64 value, address, cr2;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	probe_change(&probe, LEVEL_PTE, PTE_P, 0);
	address = probe.linear + PAGE_SIZE - 3;
	EXPECT(read_at(address, &value), PAGE_FAULT(0));
	cr2 = read_cr2();
	EXPECT_TRUE(cr2 == address || cr2 == probe.linear + PAGE_SIZE);
}

/* MOVS reads before it writes: volume 2, MOVS. */
CASE(movs_with_both_operands_missing, PROVES("paging:cross.movs_two"))
{
	struct probe probe;
	u64 rsi, rdi;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	rsi = probe.linear + PAGE_SIZE;
	rdi = probe.linear + 2 * PAGE_SIZE;
	EXPECT(ATTEMPT("movsq", "+S" (rsi), "+D" (rdi) : : "memory"), PAGE_FAULT(0));
	EXPECT_EQ(read_cr2(), probe.linear + PAGE_SIZE);
	EXPECT_EQ(rsi, probe.linear + PAGE_SIZE);
	EXPECT_EQ(rdi, probe.linear + 2 * PAGE_SIZE);
}

CASE(cmpxchg16b_cannot_cross, PROVES("paging:cross.cmpxchg16b"), NEEDS(CPU(CX16)))
{
	struct probe probe;
	u64 rax = 0, rdx = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("lock cmpxchg16b (%2)", "+a" (rax), "+d" (rdx)
		       : "r" (probe.linear + PAGE_SIZE - 8), "b" (0ull), "c" (0ull)
		       : "memory", "cc"),
	       OUTCOME_GP0);
}

/* IRETQ with RSP = RDI: three of the five quadwords are on the first page. */
INSTRUCTION(iret_from, "mov %rdi, %rsp", "iretq");

CASE(frame_of_iret, PROVES("paging:cross.iret_frame"))
{
	struct probe probe;
	u64 frame;

	this_cpu()->idt[VECTOR_PF].ist = IST_DF;
	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	frame = probe.linear + PAGE_SIZE - 24;
	probe.page[509] = (u64)iret_from_next;
	probe.page[510] = SELECTOR_CODE64;
	probe.page[511] = RFLAGS_FIXED;
	EXPECT(attempt(iret_from, (void *)frame), PAGE_FAULT(0));
	/* In which order the five are read is not promised. */
	EXPECT_TRUE(last_trap()->cr2 == probe.linear + PAGE_SIZE ||
		    last_trap()->cr2 == probe.linear + PAGE_SIZE + 8);
	EXPECT_EQ(last_trap()->frame.rip, (u64)iret_from_at);
	EXPECT_EQ(last_trap()->frame.rsp, frame);
}

/* --- instructions ---------------------------------------------------------------------- */

/* MOV EAX, imm32 with its last two bytes in a page of the supervisor. */
static void call_there(void *code)
{
	asm volatile("call *%0" : : "r" (code) : "memory", "rax");
}

CASE(fetch_into_a_supervisor_page, PROVES("paging:cross.fetch_user"))
{
	struct probe probe;
	u64 start, *second;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW | PTE_US);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	probe_share_with_user(&probe);
	((u8 *)probe.page)[PAGE_SIZE - 3] = 0xb8;
	start = probe.linear + PAGE_SIZE - 3;
	EXPECT(run_at_cpl(3, call_there, (void *)start), PAGE_FAULT(PF_P | PF_US));
	EXPECT_EQ(last_trap()->cr2, probe.linear + PAGE_SIZE);
	EXPECT_EQ(last_trap()->frame.rip, start);
}

/*
 * The page ends with an opcode that no byte behind it can make valid. UD2 is complete; of PUSH ES,
 * which 64-bit mode does not have, a processor may want to see more.
 */
CASE(invalid_opcode_at_the_end_of_a_page, PROVES("paging:cross.fetch_ud"))
{
	struct probe probe;
	u8 *end;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	end = (u8 *)probe.page + PAGE_SIZE;
	end[-2] = 0x0f;
	end[-1] = 0x0b;
	EXPECT(fetch_at(probe.linear + PAGE_SIZE - 2), OUTCOME_UD);
	EXPECT_EQ(last_trap()->frame.rip, probe.linear + PAGE_SIZE - 2);
	end[-1] = 0x06;
	EXPECT(fetch_at(probe.linear + PAGE_SIZE - 1), OUTCOME_UD, PAGE_FAULT(0));
	EXPECT_EQ(last_trap()->frame.rip, probe.linear + PAGE_SIZE - 1);
}

/* 15 prefixes, then NOP: more than the 15 bytes that an instruction may have. */
CASE(instruction_of_16_bytes, PROVES("paging:cross.fetch_long"))
{
	struct probe probe;
	u64 start, *second;
	u8 *bytes;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	bytes = (u8 *)probe.page + PAGE_SIZE - 8;
	memset(bytes, 0x66, 8);
	start = probe.linear + PAGE_SIZE - 8;
	/* The second half is missing: 8 bytes are too few to know, so it is needed. */
	EXPECT(fetch_at(start), PAGE_FAULT(0));
	EXPECT_EQ(last_trap()->cr2, probe.linear + PAGE_SIZE);
	probe_map_next(&probe, &second, PTE_P | PTE_RW);
	memset(second, 0x66, 7);
	((u8 *)second)[7] = 0x90;
	EXPECT(fetch_at(start), OUTCOME_GP0);
	EXPECT_EQ(last_trap()->frame.rip, start);
	/* One prefix less, and it is a NOP of 15 bytes, with the RET behind it. */
	EXPECT(fetch_at(start + 1), OUTCOME_DONE);
}

/* --- failing CMPXCHG --------------------------------------------------------------------- */

/* It writes back what it has read, so the page may become dirty; the locked form always does. */
CASE(failing_cmpxchg_and_the_dirty_flag, PROVES("paging:ad.cmpxchg_fail"))
{
	struct probe probe;
	u64 rax = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_RW);
	EXPECT(ATTEMPT("lock cmpxchgq %2, (%1)", "+a" (rax) : "r" (probe.linear), "r" (1ull)
		       : "memory", "cc"), OUTCOME_DONE);
	EXPECT_EQ(rax, PROBE_CONTENT);
	EXPECT_EQ(*probe.page, PROBE_CONTENT);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A | PTE_D);
}
