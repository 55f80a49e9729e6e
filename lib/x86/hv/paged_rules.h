/*
 * Rules of paging as rows, for images that have a case for each rule in each paging mode: a page
 * that is mapped by an entry with certain bits, accesses to it, and the error code that must come
 * of each. What else an access may and may not do, paged_try() compares with the model of paging.
 */
#ifndef HV_PAGED_RULES_H
#define HV_PAGED_RULES_H

#include "cpu/features.h"
#include "hv/paged.h"

#define POOL	256
#define DONE	-1		/* no fault */
#define UD2	0x0b0f0b0f0b0f0b0f

/* Of user pages, key 1 allows no data accesses, key 2 no writes. */
#define KEYS	CR4_PKE
#define PKRU	0x24


struct rule {
	enum paging_mode mode;
	u64 cr0, cr4, efer;
	u32 size;			/* level of the entry that maps the page */
	u32 level;			/* of the entry that differs from P, R/W, U/S; 0: none */
	u64 clear, set;
	struct {
		enum access kind;
		u8 cpl;
		bool ac;
		s64 error;
	} access[3];			/* one after another; the first is always made */
	u32 count;
};

static struct paged paged;

/* The first linear address that is not the fixed tables'. */
static u64 linear_of(enum paging_mode mode)
{
	switch (mode) {
	case PAGING_32_BIT:
		return BIT(22);
	case PAGING_PAE:
		return BIT(30);
	case PAGING_4_LEVEL:
		return BIT(39);
	default:
		return BIT(48);
	}
}

/*
 * A large page begins below the memory that the guest has, or is the memory around it: the access
 * goes to the same page of memory whatever the size.
 */
static u64 map(const struct rule *rule, u64 *linear)
{
	u64 page = paged_page(&paged), size = PAGE_SIZE <<
		   (rule->size - 1) * paged_index_bits(&paged);
	u32 i;

	for (i = 0; i < PAGE_SIZE / 8; i++)
		((u64 *)paged_bytes(&paged, page))[i] = UD2;
	*linear = linear_of(rule->mode) + (page & (size - 1));
	return paged_map(&paged, *linear, page & ~(size - 1), PTE_P | PTE_RW | PTE_US, rule->size);
}

static void try_rule(const struct case_def *this_case)
{
	const struct rule *rule = this_case->row;
	const struct paged_mode mode = { .mode = rule->mode, .cr0 = rule->cr0, .cr4 = rule->cr4,
					 .efer = rule->efer,
					 .pkru = rule->cr4 & CR4_PKE ? PKRU : 0 };
	u64 linear, entry;
	u32 i;

	hv_start(page_alloc());
	paged_start(&paged, &mode, &hv_mmu_shadow, POOL);
	map(rule, &linear);
	if (rule->level) {
		entry = paged_entry_at(&paged, linear, rule->level);
		paged_set_entry(&paged, entry, (paged_entry(&paged, entry) & ~rule->clear) |
				rule->set);
	}
	for (i = 0; i < rule->count; i++)
		if (!paged_expect(&paged, &(struct paged_access){
				.linear = linear + 0x18, .kind = rule->access[i].kind,
				.cpl = rule->access[i].cpl, .ac = rule->access[i].ac,
				.value = UD2 },
				rule->access[i].error))
			case_end();
}

#define READ(cpl, error)	{ ACCESS_READ, cpl, false, error }
#define READ_AC(cpl, error)	{ ACCESS_READ, cpl, true, error }
#define WRITE(cpl, error)	{ ACCESS_WRITE, cpl, false, error }
#define WRITE_AC(cpl, error)	{ ACCESS_WRITE, cpl, true, error }
#define FETCH(cpl, error)	{ ACCESS_FETCH, cpl, false, error }

/* Columns: paging mode, name, fact, needs, CR0, CR4, EFER, size, level, clear, set, accesses */
#define RULE(prefix, paging, name, fact, needs, c0, c4, ef, sz, lvl, clr, st, ...)		\
	static const struct rule rule_##prefix##_##name = {					\
		.mode = paging, .cr0 = c0, .cr4 = c4, .efer = ef, .size = sz, .level = lvl,	\
		.clear = clr, .set = st, .access = { __VA_ARGS__ },				\
		.count = COUNT(__VA_ARGS__) };							\
	CASE_RUN(prefix##_##name, try_rule, PROVES("paging:" fact),				\
		 NEEDS(PAGED_NEEDS(paging), needs), ROW(&rule_##prefix##_##name))
/* An access is four arguments by now. */
#define COUNT(...)		COUNT_(__VA_ARGS__, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1)
#define COUNT_(a, b, c, d, e, f, g, h, i, j, k, l, n, ...)	n

#define RULES_OF_RIGHTS(p, m)								\
RULE(p, m, user_reads_user,		"acc.u.read_user", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,	\
     READ(3, DONE), READ(3, DONE));								\
RULE(p, m, user_reads_supervisor,	"acc.u.read_super", VMX, CR0_WP, 0, 0, 1, 1, PTE_US, 0, \
     READ(3, 5), READ(0, DONE), READ(3, 5));							\
RULE(p, m, user_writes_supervisor,	"acc.u.write_super", VMX, CR0_WP, 0, 0, 1, 1, PTE_US, 0, \
     WRITE(3, 7), WRITE(0, DONE), WRITE(3, 7));							\
RULE(p, m, supervisor_by_upper_entry,	"acc.user_addr", VMX, CR0_WP, 0, 0, 1, 2, PTE_US, 0,	\
     READ(0, DONE), READ(3, 5), WRITE(3, 7));							\
RULE(p, m, user_writes_read_only,	"acc.u.write_ro", VMX, 0, 0, 0, 1, 1, PTE_RW, 0,	\
     WRITE(3, 7), READ(3, DONE), WRITE(3, 7));							\
RULE(p, m, wp_0_write_to_read_only,	"acc.s.write_ro_wp0", VMX, 0, 0, 0, 1, 1, PTE_RW, 0,	\
     WRITE(0, DONE), WRITE(3, 7), WRITE(0, DONE));						\
RULE(p, m, wp_0_write_to_supervisor,	"acc.s.write_ro_wp0", VMX, 0, 0, 0, 1, 1,		\
     PTE_RW | PTE_US, 0, READ(0, DONE), WRITE(0, DONE), READ(3, 5));				\
RULE(p, m, wp_0_write_by_upper_entry,	"acc.s.write_ro_wp0", VMX, 0, 0, 0, 1, 2, PTE_RW, 0,	\
     READ(3, DONE), WRITE(0, DONE), WRITE(3, 7));						\
RULE(p, m, wp_0_sets_dirty,		"ad.wp0_ro_write", VMX, 0, 0, 0, 1, 1, PTE_RW, 0,	\
     READ(0, DONE), WRITE(0, DONE));								\
RULE(p, m, wp_1_write_to_read_only,	"acc.s.write_ro_wp1", VMX, CR0_WP, 0, 0, 1, 1, PTE_RW, 0, \
     WRITE(0, 3), READ(0, DONE), WRITE(0, 3));							\
RULE(p, m, read_only_by_upper_entry,	"acc.rw_and", VMX, CR0_WP, 0, 0, 1, 2, PTE_RW, 0,	\
     READ(0, DONE), WRITE(0, 3), WRITE(3, 7));							\
RULE(p, m, not_present,			"pfec.p", VMX, CR0_WP, 0, 0, 1, 1, PTE_P, 0,		\
     READ(0, 0), WRITE(0, 2), WRITE(3, 6));							\
RULE(p, m, not_present_above,		"pfec.u", VMX, CR0_WP, 0, 0, 1, 2, PTE_P, 0,		\
     READ(3, 4), WRITE(0, 2), FETCH(3, 4));							\
RULE(p, m, read_sets_accessed,		"ad.a_read", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,		\
     READ(0, DONE), READ(3, DONE));								\
RULE(p, m, fetch_sets_accessed,		"ad.fetch_a", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,		\
     FETCH(3, DONE), FETCH(0, DONE));								\
RULE(p, m, write_sets_dirty,		"ad.d_write", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,		\
     WRITE(3, DONE), WRITE(0, DONE));								\
RULE(p, m, write_after_read_sets_dirty,	"ad.d_recheck", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,		\
     READ(3, DONE), WRITE(3, DONE), WRITE(0, DONE));						\
RULE(p, m, denied_write_is_not_dirty,	"ad.d_fault", VMX, CR0_WP, 0, 0, 1, 1, PTE_RW, 0,	\
     WRITE(0, 3), WRITE(3, 7));									\
RULE(p, m, smep_denies_fetch,		"acc.smep", CPU(SMEP), CR0_WP, CR4_SMEP, 0, 1, 0, 0, 0,	\
     FETCH(0, 0x11), FETCH(3, DONE), FETCH(0, 0x11));						\
RULE(p, m, smep_and_not_present,	"acc.smep.np", CPU(SMEP), CR0_WP, CR4_SMEP, 0, 1, 1,	\
     PTE_P, 0, FETCH(0, 0x10), FETCH(3, 0x14));							\
RULE(p, m, fetch_without_smep,		"acc.smep.off", VMX, CR0_WP, 0, 0, 1, 0, 0, 0,		\
     FETCH(0, DONE), FETCH(3, DONE));								\
RULE(p, m, smap_denies_read,		"acc.smap.read", CPU(SMAP), CR0_WP, CR4_SMAP, 0, 1, 0, 0, \
     0, READ(0, 1), READ(3, DONE), READ(0, 1));							\
RULE(p, m, smap_denies_write,		"acc.smap.write", CPU(SMAP), CR0_WP, CR4_SMAP, 0, 1, 0, 0, \
     0, WRITE(0, 3), WRITE(3, DONE), WRITE(0, 3));						\
RULE(p, m, smap_with_ac,		"acc.smap.ac1", CPU(SMAP), CR0_WP, CR4_SMAP, 0, 1, 0, 0, \
     0, READ_AC(0, DONE), WRITE_AC(0, DONE), READ(0, 1));					\
RULE(p, m, smap_does_not_deny_fetch,	"acc.smap.fetch", CPU(SMAP), CR0_WP, CR4_SMAP, 0, 1, 0, 0, \
     0, FETCH(0, DONE), READ(0, 1));								\
RULE(p, m, smap_with_wp_0,		"acc.smap.wp0", CPU(SMAP), 0, CR4_SMAP, 0, 1, 1, PTE_RW, \
     0, WRITE(0, 3), WRITE_AC(0, DONE), READ(0, 1))

#define RULES_OF_XD(p, m, format)								\
RULE(p, m, xd_denies_fetch,		"acc.xd.fetch", CPU(NX), CR0_WP, 0, EFER_NXE, 1, 1, 0,	\
     PTE_XD, FETCH(0, 0x11), FETCH(3, 0x15));							\
RULE(p, m, xd_by_upper_entry,		"acc.xd_or", CPU(NX), CR0_WP, 0, EFER_NXE, 1, 2, 0,	\
     PTE_XD, FETCH(0, 0x11), READ(0, DONE), FETCH(3, 0x15));					\
RULE(p, m, xd_allows_data,		"acc.xd.data", CPU(NX), CR0_WP, 0, EFER_NXE, 1, 1, 0,	\
     PTE_XD, READ(3, DONE), WRITE(3, DONE));							\
RULE(p, m, xd_without_nxe,		"acc.xd.nxe0", CPU(NX), CR0_WP, 0, 0, 1, 1, 0, PTE_XD,	\
     READ(0, 9), FETCH(0, 9), WRITE(3, 0xf));							\
RULE(p, m, fetch_of_not_present,	"pfec.id_np", CPU(NX), CR0_WP, 0, EFER_NXE, 1, 1, PTE_P, \
     0, FETCH(0, 0x10), FETCH(3, 0x14));							\
RULE(p, m, address_bit_is_reserved,	"rsvd.user", RESERVED_ADDRESS_BITS, CR0_WP, 0, 0, 1, 1, 0, \
     BIT(51), WRITE(3, 0xf), READ(0, 9));							\
RULE(p, m, page_of_2_mbytes,		"fmt." format ".2m", VMX, CR0_WP, 0, 0, 2, 0, 0, 0,	\
     READ(3, DONE), WRITE(0, DONE), FETCH(3, DONE));						\
RULE(p, m, large_page_is_read_only,	"acc.rw_and", VMX, CR0_WP, 0, 0, 2, 2, PTE_RW, 0,	\
     READ(3, DONE), WRITE(0, 3), WRITE(3, 7));							\
RULE(p, m, bit_in_large_page_is_reserved, "rsvd." format ".2m", VMX, CR0_WP, 0, 0, 2, 2, 0,	\
     BIT(13), READ(3, 0xd), WRITE(0, 0xb))

#define RULES_OF_KEYS(p, m)									\
RULE(p, m, key_denies_access,		"acc.pku.ad", CPU(PKU), CR0_WP, KEYS, 0, 1, 1, 0,	\
     PTE_KEY(1), READ(0, 0x21), READ(3, 0x25), WRITE(3, 0x27));					\
RULE(p, m, key_denies_write_of_user,	"acc.pku.wd_user", CPU(PKU), CR0_WP, KEYS, 0, 1, 1, 0,	\
     PTE_KEY(2), READ(3, DONE), WRITE(3, 0x27), READ(0, DONE));				\
RULE(p, m, key_denies_write_of_supervisor, "acc.pku.wd_super_wp1", CPU(PKU), CR0_WP, KEYS, 0, 1, \
     1, 0, PTE_KEY(2), WRITE(0, 0x23), READ(0, DONE));						\
RULE(p, m, key_and_wp_0,		"acc.pku.wd_super_wp0", CPU(PKU), 0, KEYS, 0, 1, 1, 0,	\
     PTE_KEY(2), WRITE(0, DONE), WRITE(3, 0x27), READ(3, DONE));				\
RULE(p, m, key_allows_fetch,		"acc.pku.fetch", CPU(PKU), CR0_WP, KEYS, 0, 1, 1, 0,	\
     PTE_KEY(1), FETCH(3, DONE), FETCH(0, DONE), READ(3, 0x25));				\
RULE(p, m, key_of_supervisor_page,	"acc.pku.super_addr", CPU(PKU), CR0_WP, KEYS, 0, 1, 1,	\
     PTE_US, PTE_KEY(1), READ(0, DONE), WRITE(0, DONE))

#define RULES_OF_IA_32E(p, m)									\
RULE(p, m, page_of_1_gbyte,		"fmt.4l.1g", VMX, CR0_WP, 0, 0, 3, 0, 0, 0, \
     READ(3, DONE), WRITE(0, DONE), FETCH(3, DONE));						\
RULE(p, m, pml4e_denies_write,		"acc.rw_and", VMX, CR0_WP, 0, 0, 1, 4, PTE_RW, 0,	\
     READ(3, DONE), WRITE(0, 3), WRITE(3, 7));							\
RULE(p, m, pml4e_denies_user,		"acc.user_addr", VMX, CR0_WP, 0, 0, 1, 4, PTE_US, 0,	\
     WRITE(0, DONE), READ(3, 5));								\
RULE(p, m, pml4e_with_ps,		"rsvd.4l.pml4_ps", VMX, CR0_WP, 0, 0, 1, 4, 0, PTE_PS,	\
     READ(0, 9), WRITE(3, 0xf))

#endif
