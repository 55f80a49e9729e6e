/*
 * An instruction that exits at the end of its page. The exit saves its address and says how long
 * it is (30.3.3 Saving RIP, RSP, RFLAGS, and SSP; 30.2.5 Information for VM Exits Due to
 * Instruction Execution); CR2 and the paging structures are what the guest has made them (30.5
 * Loading Host State).
 *
 * That is so behind the audit, too, which reads the bytes at the saved RIP (exit_reader.c): not a
 * page fault and not an accessed flag may tell the case that it did.
 */
#include "cpu/features.h"
#include "mmu/pages.h"
#include "mmu/probe.h"
#include "string.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define CR2_BEFORE	0x123456000ull

/* The guest is the code at `rip`, in the address space of the host. */
static void start_at(u64 rip)
{
	vmwrite(GUEST_CR3, read_cr3());
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(GUEST_RIP, rip);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	write_cr2(CR2_BEFORE);
	audit_whole();
}

/* CPUID as the last two bytes of the probe's page. */
static u64 put_cpuid(struct probe *probe)
{
	memcpy((u8 *)probe->page + PAGE_SIZE - 2, "\x0f\xa2", 2);
	return probe->linear + PAGE_SIZE - 2;
}

static void expect_exit(outcome_t outcome, u64 rip, u32 length)
{
	EXPECT(outcome, OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), rip);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), length);
	EXPECT_EQ(read_cr2(), CR2_BEFORE);
}

#define FACTS	PROVES("host-and-exit:save.rip.instruction", "host-and-exit:exit.ilen",	\
		       "host-and-exit:host.not_loaded")

CASE(next_page_not_present, FACTS, NEEDS(VMX))
{
	struct probe probe;
	u64 rip;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	rip = put_cpuid(&probe);
	start_at(rip);
	expect_exit(resume(), rip, 2);
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & (PTE_A | PTE_D), PTE_A);
}

/*
 * Whatever is there, RAM or a device: who reads it sets the accessed flag. The processor itself
 * may, speculatively (5.10.2.2 Caching Translations in TLBs); then nobody can tell.
 */
CASE(next_page_untouched, FACTS, NEEDS(VMX))
{
	struct probe probe;
	u64 rip, *next, *page;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	next = probe_map_next(&probe, &page, PTE_P | PTE_RW);
	rip = put_cpuid(&probe);
	start_at(rip);
	REQUIRE(resume_unaudited(), OUTCOME_EXIT(EXIT_CPUID));
	if (*next & PTE_A)
		case_skip("a processor that fetches no page ahead");
	expect_exit(resume(), rip, 2);
	EXPECT_EQ(*next & (PTE_A | PTE_D), 0);
}

/* Its bytes are in both pages; the address is that of the first. */
CASE(instruction_in_two_pages, FACTS, NEEDS(VMX))
{
	struct probe probe;
	u64 rip, *next, *page;

	probe_map(&probe, LEVEL_PTE, PTE_P);
	next = probe_map_next(&probe, &page, PTE_P);
	memcpy((u8 *)probe.page + PAGE_SIZE - 3, "\x2e\x66\x0f", 3);
	memcpy(page, "\xa2", 1);
	rip = probe.linear + PAGE_SIZE - 3;
	start_at(rip);
	expect_exit(resume(), rip, 4);
	EXPECT_EQ(*next & (PTE_A | PTE_D), PTE_A);
}

/*
 * 5.6.1: with CR4.SMAP the host may not read a page of the user, whose guest executes there at CPL
 * 3. The exit finds the page all the same, and CR2 is not that of a fault in the host.
 */
CASE(page_that_the_host_cannot_read, FACTS, NEEDS(VMX, CPU(SMAP)))
{
	struct probe probe;
	u64 rip, value = 0;

	probe_map(&probe, LEVEL_PTE, PTE_P | PTE_US);
	rip = put_cpuid(&probe);
	vmwrite(HOST_CR4, vmread(HOST_CR4) | CR4_SMAP);
	guest_to_user_mode();
	start_at(rip);
	expect_exit(resume(), rip, 2);
	EXPECT(read_at(probe.linear, &value), OUTCOME_FAULT(VECTOR_PF, 1));
}
