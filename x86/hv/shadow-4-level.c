/*
 * Shadow paging: the rules of paging, one by one, with 4-level paging.
 *
 * With EPT off the core walks the guest's tables itself and gives the processor tables of its own
 * (lib/x86/hv/mmu_shadow.h). To the guest that must look like the processor's own paging: access
 * rights (5.6), error codes and CR2 (5.7), accessed and dirty flags (5.8). Each case is one rule: a
 * page that is mapped by an entry with certain bits, accesses, and the error code that must come of
 * each.
 */
#include "hv/paged_rules.h"

RULES_OF_RIGHTS(level_4, PAGING_4_LEVEL);
RULES_OF_XD(level_4, PAGING_4_LEVEL, "4l");
RULES_OF_IA_32E(level_4, PAGING_4_LEVEL);
RULES_OF_KEYS(level_4, PAGING_4_LEVEL);

/* --- what the guest's CPUID says, whatever the processor has ---------------------------------- */

#define GUEST_BITS	36	/* MAXPHYADDR */

static bool is_wider(u64 unused __maybe_unused)
{
	return maxphyaddr() > GUEST_BITS;
}

static void expect_error(const struct paged_mode *mode, u32 size, u64 bit, s64 error)
{
	struct paged_access access = { .kind = ACCESS_READ };
	struct rule rule = { .mode = mode->mode, .size = size };
	u64 linear, entry;

	hv_start(page_alloc());
	paged_start(&paged, mode, &hv_mmu_shadow, POOL);
	map(&rule, &linear);
	access.linear = linear + 0x18;
	entry = paged_entry_at(&paged, linear, size);
	paged_set_entry(&paged, entry, paged_entry(&paged, entry) | bit);
	if (!paged_expect(&paged, &access, error))
		case_end();
}

CASE(address_bits_are_those_of_the_guest,
     PROVES("paging:rsvd.maxphyaddr", "paging:misc.maxphy_guest"),
     NEEDS(PAGED_NEEDS(PAGING_4_LEVEL),
	   { .text = "MAXPHYADDR above 36", .met = is_wider }))
{
	const struct paged_mode mode = { .mode = PAGING_4_LEVEL, .cr0 = CR0_WP,
					 .physical_bits = GUEST_BITS };
	struct kvm_sregs sregs;

	expect_error(&mode, LEVEL_PTE, BIT(GUEST_BITS), PF_P | PF_RSVD);
	sregs = box_sregs(&paged.box);
	sregs.cr3 = BIT(GUEST_BITS);
	EXPECT_EQ(hv_vcpu_set_sregs(&paged.box.vcpu, &sregs), -EINVAL);
}

CASE(pages_of_1_gbyte_are_those_of_the_guest, PROVES("paging:rsvd.4l.pdpte_ps"),
     NEEDS(PAGED_NEEDS(PAGING_4_LEVEL)))
{
	const struct paged_mode without = { .mode = PAGING_4_LEVEL, .cr0 = CR0_WP,
					    .no_pages_1g = true };

	expect_error(&without, LEVEL_PDPTE, 0, PF_P | PF_RSVD);
}
