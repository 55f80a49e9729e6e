/*
 * Paging with two processors.
 *
 * Each processor has its own caches of translations, and only it can invalidate them: software
 * that changes an entry asks the others to (5.10.5 Propagation of Paging-Structure Changes to
 * Multiple Processors). The accessed and dirty flags are set by atomic operations on memory that
 * all processors share, so none loses what another writes to the same entry (5.8). INIT leaves
 * nothing of a translation (12.1.1). Writes of type WC may be seen late, but not after the writer
 * has drained them (14.3.1).
 */
#include "case.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "mmu/pages.h"
#include "mmu/probe.h"

#define PAGE_FAULT(error)	OUTCOME_FAULT(VECTOR_PF, error)
#define OTHER_CONTENT		0x1122334455667788ull
#define ROUNDS			200u
#define WC_ROUNDS		24u	/* each waits for the other processor */

/* What the second processor works with. */
struct shared {
	struct probe probe;
	u64 cr3, cr4, value;
	outcome_t outcome;
	volatile u32 stop, flag, seen, answer, errors;
};

static void share(struct shared *s, u64 flags)
{
	*s = (struct shared){ .cr4 = read_cr4() };
	probe_map(&s->probe, LEVEL_PTE, PTE_P | PTE_RW | flags);
	s->cr3 = read_cr3();
}

static void read_it(void *argument)
{
	struct shared *s = argument;

	if (read_cr4() != s->cr4)
		write_cr4(s->cr4);
	if (read_cr3() != s->cr3)
		write_cr3(s->cr3);
	s->value = 0;
	s->outcome = read_at(s->probe.linear, &s->value);
}

static void invalidate_and_read_it(void *argument)
{
	struct shared *s = argument;

	invlpg(s->probe.linear);
	read_it(s);
}

/* --- each invalidates its own ------------------------------------------------------ */

CASE(other_processor_may_be_stale, PROVES("paging:tlb.smp"), NEEDS(CPUS(2)))
{
	struct shared s;
	u64 *pte;

	share(&s, 0);
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	EXPECT_EQ(s.value, PROBE_CONTENT);
	pte = s.probe.entry[LEVEL_PTE];
	*pte = (*pte & ~PTE_ADDRESS) | physical(page_alloc_filled(OTHER_CONTENT));
	invlpg(s.probe.linear);
	read_it(&s);
	EXPECT_EQ(s.value, OTHER_CONTENT);
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	EXPECT_TRUE(s.value == PROBE_CONTENT || s.value == OTHER_CONTENT);
	EXPECT(smp_call(1, invalidate_and_read_it, &s), OUTCOME_DONE);
	EXPECT_EQ(s.value, OTHER_CONTENT);
	EXPECT(s.outcome, OUTCOME_DONE);
}

CASE(page_that_is_gone, PROVES("paging:tlb.smp"), NEEDS(CPUS(2)))
{
	struct shared s;

	share(&s, 0);
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	*s.probe.entry[LEVEL_PTE] &= ~PTE_P;
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	EXPECT(s.outcome, OUTCOME_DONE, PAGE_FAULT(0));
	EXPECT(smp_call(1, invalidate_and_read_it, &s), OUTCOME_DONE);
	EXPECT(s.outcome, PAGE_FAULT(0));
}

/*
 * A global translation, which MOV to CR3 need not drop, is not there when the processor is back.
 * INIT alone cannot be shown: it leaves CR0.PG = 0 (Table 12-1), so that nothing is translated
 * before a MOV to CR0 sets PG, and that may be what drops the translation: 14.9, unlike 5.10.4.1,
 * has the setting of PG drop all. No other way leads from INIT to paging; VM entry and VM exit,
 * which load CR0 too, want VMX operation, which wants CR0.PG = 1 of the processor before. So what
 * is proved is that nothing survives INIT and the way back, together, which is all that software
 * can rely on.
 */
CASE(init_drops_all_translations, PROVES("paging:tlb.reset"), NEEDS(CPUS(2), CPU(PGE)))
{
	struct shared s;
	u64 *pte;

	share(&s, PTE_G);
	s.cr4 |= CR4_PGE;
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	EXPECT_EQ(s.value, PROBE_CONTENT);
	pte = s.probe.entry[LEVEL_PTE];
	*pte = (*pte & ~PTE_ADDRESS) | physical(page_alloc_filled(OTHER_CONTENT));
	smp_init(1);
	s.cr4 &= ~CR4_PGE;
	EXPECT(smp_call(1, read_it, &s), OUTCOME_DONE);
	EXPECT_EQ(s.value, OTHER_CONTENT);
}

/* --- accessed and dirty flags -------------------------------------------------------- */

/* Adds 1 to the ignored bits 58:52 of the PTE, again and again, atomically. */
static void count_in_pte(void *argument)
{
	struct shared *s = argument;
	u64 *pte = s->probe.entry[LEVEL_PTE];

	while (!s->stop) {
		u64 old = *(volatile u64 *)pte, sum, found;

		for (;; old = found) {
			sum = (old & ~BITS(58, 52)) | ((old + BIT(52)) & BITS(58, 52));
			found = old;
			asm volatile("lock cmpxchgq %2, %1" : "+a" (found), "+m" (*pte)
				     : "r" (sum) : "cc", "memory");
			if (found == old)
				break;
		}
		s->seen++;
	}
}

/* Here each write has to set A and D anew. No count may be lost, and no other bit may change. */
CASE(flags_are_set_atomically, PROVES("paging:ad.atomic"), NEEDS(CPUS(2)))
{
	struct shared s;
	u64 *pte, before, i;

	share(&s, 0);
	pte = s.probe.entry[LEVEL_PTE];
	before = *pte & ~(PTE_A | PTE_D);
	smp_start();
	smp_begin(1, count_in_pte, &s);
	smp_wait_for(&s.seen);
	for (i = 1; i <= ROUNDS; i++) {
		asm volatile("lock andq %1, %0" : "+m" (*pte) : "r" (~(PTE_A | PTE_D)) : "cc");
		invlpg(s.probe.linear);
		EXPECT(write_at(s.probe.linear, i), OUTCOME_DONE);
		EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
	}
	s.stop = 1;
	EXPECT(smp_wait(1), OUTCOME_DONE);
	EXPECT_EQ(*pte & ~(PTE_A | PTE_D), before | (u64)(s.seen & 0x7f) << 52);
	EXPECT_EQ(*s.probe.page, ROUNDS);
}

/* Takes the PTE away by XCHG: a flag that is set after that would be set in an entry with P = 0. */
static void take_pte_away(void *argument)
{
	struct shared *s = argument;
	volatile u64 *pte = s->probe.entry[LEVEL_PTE];
	u64 clean = *pte & ~(PTE_A | PTE_D);
	u32 i, look;

	for (i = 0; i < ROUNDS; i++) {
		u64 none = 0;

		asm volatile("xchg %0, %1" : "+r" (none), "+m" (*pte));
		for (look = 0; look < 8; look++)
			if (*pte)
				s->errors++;
		*pte = clean;
		s->flag = 1;
	}
	s->stop = 1;
}

CASE(absent_entry_gets_no_flags, PROVES("paging:ad.atomic"), NEEDS(CPUS(2)))
{
	struct shared s;
	outcome_t outcome;

	share(&s, 0);
	smp_start();
	smp_begin(1, take_pte_away, &s);
	while (!smp_done(1)) {
		invlpg(s.probe.linear);
		outcome = write_at(s.probe.linear, 1);
		if (outcome != OUTCOME_DONE)
			EXPECT(outcome, PAGE_FAULT(PF_WR));
	}
	EXPECT(smp_wait(1), OUTCOME_DONE);
	EXPECT_EQ(s.errors, 0);
}

/* --- writes of type WC ---------------------------------------------------------------- */

#define PAT_WITH_WC_LAST	0x0107040600070406ull

/* Waits for each round's flag, and then the data of that round must be there. */
static void check_rounds(void *argument)
{
	struct shared *s = argument;
	u32 round;
	u64 value;

	wrmsr(IA32_PAT, PAT_WITH_WC_LAST);
	write_cr3(s->cr3);
	for (round = 1; round <= WC_ROUNDS && !s->stop; round++) {
		while (s->flag < round && !s->stop)
			pause();
		value = 0;
		if (read_at(s->probe.linear, &value) != OUTCOME_DONE || value < round)
			s->errors++;
		s->seen = round;
		s->answer = 1;
	}
}

static void drain(u32 how, u32 *dummy)
{
	switch (how % 3) {
	case 0:
		asm volatile("sfence" : : : "memory");
		break;
	case 1:
		asm volatile("mfence" : : : "memory");
		break;
	case 2:
		asm volatile("lock incl %0" : "+m" (*dummy) : : "memory", "cc");
		break;
	}
}

CASE(wc_writes_are_seen_after_a_drain, PROVES("paging:mem.wc_order"),
     NEEDS(CPUS(2), CPU(PAT), CPU(SSE2)))
{
	struct shared s;
	u32 round, dummy = 0;

	wrmsr(IA32_PAT, PAT_WITH_WC_LAST);
	share(&s, PTE_PAT | PTE_PCD | PTE_PWT);
	*s.probe.page = 0;
	/* By a write-back alias, whose line must not come back over what WC writes: 14.12.4. */
	asm volatile("wbinvd" : : : "memory");
	smp_start();
	smp_begin(1, check_rounds, &s);
	for (round = 1; round <= WC_ROUNDS && !smp_done(1); round++) {
		EXPECT(write_at(s.probe.linear, round), OUTCOME_DONE);
		drain(round, &dummy);
		s.answer = 0;
		s.flag = round;
		if (!smp_wait_for(&s.answer))
			break;
	}
	s.stop = 1;
	EXPECT(smp_wait(1), OUTCOME_DONE);
	EXPECT_EQ(s.seen, WC_ROUNDS);
	EXPECT_EQ(s.errors, 0);
}
