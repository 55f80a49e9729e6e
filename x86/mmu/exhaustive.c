/*
 * 4-level paging against the model, access by access: about a million of them.
 *
 * Where fault-basic.c has one case for each rule of 5.6 Access Rights, 5.7 Page-Fault Exceptions
 * and 5.8 Accessed and Dirty Flags, this image looks for what rules do to each other. Its cases are
 * products: register states, privilege levels, kinds of access, and every set of entries of a theme
 * (mmu/sweep_themes.h). Its likes for the other modes are exhaustive-5-level.c and exhaustive-
 * legacy.c.
 *
 * What must not decide anything is noise: ignored bits always, A, D and bits 62:59 where the
 * theme says nothing of them. What an access must do comes from walk() (mmu/walk.h), which is
 * this chapter of the manual as code; mmu/sweep.h says how so many accesses are made. A case that
 * fails shows the first access of each sort that went wrong, with all that a case of its own would
 * need; such a case belongs into fault-basic.c.
 */
#include "case.h"
#include "cpu/features.h"
#include "mmu/sweep_themes.h"

static void sweep(const struct case_def *this_case)
{
	sweep_run(this_case->row);
}

#define SWEEP(...)	ROW((&(const struct sweep_row){ __VA_ARGS__, .mode = PAGING_4_LEVEL }))
#define CPL_0		BIT(0)
#define CPL_1		BIT(1)
#define CPL_2		BIT(2)
#define CPL_3		BIT(3)
#define READ		BIT(SWEEP_READ)
#define WRITE		BIT(SWEEP_WRITE)
#define FETCH		BIT(SWEEP_FETCH)

/* R/W, U/S and XD of every entry, by every switch that decides rights: 5.6.1. */
#define EACH_SWITCH	SWEEP_WP, SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP, SWEEP_AC
#define RIGHTS(size, cpl, kind, ...) \
	SWEEP(&sweep_rights, size, .cpls = cpl, .kinds = kind, .switches = { __VA_ARGS__ })

CASE_RUN(rights_read_4_kbyte, sweep, PROVES("paging:acc.smap.read", "paging:acc.smap.ac1"),
	 RIGHTS(LEVEL_PTE, CPL_0, READ, EACH_SWITCH));
CASE_RUN(rights_write_4_kbyte, sweep,
	 PROVES("paging:acc.rw_and", "paging:acc.s.write_user_ro_wp1", "paging:acc.smap.wp0"),
	 RIGHTS(LEVEL_PTE, CPL_0, WRITE, EACH_SWITCH));
CASE_RUN(rights_fetch_4_kbyte, sweep,
	 PROVES("paging:acc.xd_or", "paging:acc.smep", "paging:acc.smap.fetch"),
	 RIGHTS(LEVEL_PTE, CPL_0, FETCH, EACH_SWITCH));
CASE_RUN(rights_user_read_4_kbyte, sweep,
	 PROVES("paging:acc.user_addr", "paging:acc.u.read_user", "paging:acc.u.read_super"),
	 RIGHTS(LEVEL_PTE, CPL_3, READ, EACH_SWITCH));
CASE_RUN(rights_user_write_4_kbyte, sweep,
	 PROVES("paging:acc.user_addr", "paging:acc.u.write_ro", "paging:acc.u.write_super"),
	 RIGHTS(LEVEL_PTE, CPL_3, WRITE, EACH_SWITCH));
CASE_RUN(rights_user_fetch_4_kbyte, sweep,
	 PROVES("paging:acc.user_addr", "paging:acc.u.fetch_user", "paging:acc.smep.user"),
	 RIGHTS(LEVEL_PTE, CPL_3, FETCH, EACH_SWITCH));
CASE_RUN(rights_read_2_mbyte, sweep, PROVES("paging:acc.smap.read", "paging:acc.smap.ac1"),
	 RIGHTS(LEVEL_PDE, CPL_0, READ, EACH_SWITCH));
CASE_RUN(rights_write_2_mbyte, sweep, PROVES("paging:acc.rw_and", "paging:acc.smap.wp0"),
	 RIGHTS(LEVEL_PDE, CPL_0, WRITE, EACH_SWITCH));
CASE_RUN(rights_fetch_2_mbyte, sweep, PROVES("paging:acc.xd_or", "paging:acc.smep"),
	 RIGHTS(LEVEL_PDE, CPL_0, FETCH, EACH_SWITCH));
CASE_RUN(rights_user_read_2_mbyte, sweep,
	 PROVES("paging:acc.user_addr", "paging:acc.u.read_super"),
	 RIGHTS(LEVEL_PDE, CPL_3, READ, EACH_SWITCH));
CASE_RUN(rights_user_write_2_mbyte, sweep,
	 PROVES("paging:acc.user_addr", "paging:acc.u.write_ro"),
	 RIGHTS(LEVEL_PDE, CPL_3, WRITE, EACH_SWITCH));
CASE_RUN(rights_user_fetch_2_mbyte, sweep, PROVES("paging:acc.user_addr", "paging:acc.smep.user"),
	 RIGHTS(LEVEL_PDE, CPL_3, FETCH, EACH_SWITCH));
CASE_RUN(rights_1_gbyte, sweep, PROVES("paging:acc.rw_and", "paging:acc.xd_or"),
	 NEEDS(CPU(PAGE1GB)), RIGHTS(LEVEL_PDPTE, CPL_0, READ | WRITE | FETCH, EACH_SWITCH));
CASE_RUN(rights_user_1_gbyte, sweep, PROVES("paging:acc.user_addr", "paging:acc.u.write_ro"),
	 NEEDS(CPU(PAGE1GB)), RIGHTS(LEVEL_PDPTE, CPL_3, READ | WRITE | FETCH, EACH_SWITCH));

/* CPL 1 and CPL 2 are supervisor mode. */
CASE_RUN(rights_at_cpl_1, sweep, PROVES("paging:acc.s.cpl12"),
	 RIGHTS(LEVEL_PDE, CPL_1, READ | WRITE | FETCH, SWEEP_WP | SWEEP_NXE, SWEEP_SMEP,
		SWEEP_SMAP));
CASE_RUN(rights_at_cpl_2, sweep, PROVES("paging:acc.s.cpl12"),
	 RIGHTS(LEVEL_PDE, CPL_2, READ | WRITE | FETCH, SWEEP_WP | SWEEP_NXE, SWEEP_SMEP,
		SWEEP_SMAP));

/* The upper half of the linear address space, from 0xffff800000000000 on. */
#define UPPER_HALF(cpl) \
	SWEEP(&sweep_rights, LEVEL_PDE, .upper_half = true, .cpls = cpl, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP })

CASE_RUN(rights_upper_half, sweep, PROVES("paging:fmt.4l.index", "paging:acc.rw_and"),
	 UPPER_HALF(CPL_0));
CASE_RUN(rights_user_upper_half, sweep, PROVES("paging:fmt.4l.index", "paging:acc.user_addr"),
	 UPPER_HALF(CPL_3));

/* All that an entry says, one level at a time. Global or not: no translation outlives its batch. */
#define ENTRY(size, tested) \
	SWEEP(&sweep_entry, size, tested, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP | SWEEP_SMAP | SWEEP_PGE })

CASE_RUN(entry_pml4e_of_4_kbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 ENTRY(LEVEL_PTE, LEVEL_PML4E));
CASE_RUN(entry_pdpte_of_4_kbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 ENTRY(LEVEL_PTE, LEVEL_PDPTE));
CASE_RUN(entry_pde_of_4_kbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 ENTRY(LEVEL_PTE, LEVEL_PDE));
CASE_RUN(entry_pte, sweep,
	 PROVES("paging:ad.d_write", "paging:ad.d_fault", "paging:acc.rmw_is_write"),
	 ENTRY(LEVEL_PTE, LEVEL_PTE));
CASE_RUN(entry_pml4e_of_2_mbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 ENTRY(LEVEL_PDE, LEVEL_PML4E));
CASE_RUN(entry_pdpte_of_2_mbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 ENTRY(LEVEL_PDE, LEVEL_PDPTE));
CASE_RUN(entry_pde_of_2_mbyte, sweep,
	 PROVES("paging:rsvd.4l.pat12", "paging:ad.d_write", "paging:ad.d_fault"),
	 ENTRY(LEVEL_PDE, LEVEL_PDE));
CASE_RUN(entry_pml4e_of_1_gbyte, sweep, PROVES("paging:fmt.4l.ignored", "paging:ad.nonleaf_d"),
	 NEEDS(CPU(PAGE1GB)), ENTRY(LEVEL_PDPTE, LEVEL_PML4E));
CASE_RUN(entry_pdpte_of_1_gbyte, sweep,
	 PROVES("paging:rsvd.4l.pat12", "paging:ad.d_write", "paging:ad.d_fault"),
	 NEEDS(CPU(PAGE1GB)), ENTRY(LEVEL_PDPTE, LEVEL_PDPTE));

/* Accessed and dirty flags: 5.8. */
#define FLAGS(size) \
	SWEEP(&sweep_flags, size, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_WP, SWEEP_NXE })

CASE_RUN(flags_4_kbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.nonleaf_d", "paging:ad.rmw"),
	 FLAGS(LEVEL_PTE));
CASE_RUN(flags_2_mbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.nonleaf_d", "paging:ad.rmw"),
	 FLAGS(LEVEL_PDE));
CASE_RUN(flags_1_gbyte, sweep, PROVES("paging:ad.sticky", "paging:ad.nonleaf_d", "paging:ad.rmw"),
	 NEEDS(CPU(PAGE1GB)), FLAGS(LEVEL_PDPTE));

/* What is wrong higher up, or reserved, comes first: 5.7. */
#define DEFECTS(size) \
	SWEEP(&sweep_defects, size, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP })

CASE_RUN(defects_4_kbyte, sweep,
	 PROVES("paging:rsvd.order", "paging:rsvd.before_rights", "paging:rsvd.user"),
	 DEFECTS(LEVEL_PTE));
CASE_RUN(defects_2_mbyte, sweep, PROVES("paging:rsvd.order", "paging:rsvd.before_rights"),
	 DEFECTS(LEVEL_PDE));
CASE_RUN(defects_1_gbyte, sweep, PROVES("paging:rsvd.order", "paging:rsvd.before_rights"),
	 NEEDS(CPU(PAGE1GB)), DEFECTS(LEVEL_PDPTE));

/*
 * PKRU for user addresses, IA32_PKRS for supervisor addresses, in four patterns each: 5.6.2.
 * Fetches are apart, and so are SMEP, SMAP and EFLAGS.AC, which may deny the same access.
 */
#define DATA		(READ | WRITE | BIT(SWEEP_EXCHANGE))
#define KEYS(size, cpl, kind, ...) \
	SWEEP(&sweep_keys, size, .cpls = cpl, .kinds = kind, \
	      .switches = { SWEEP_WP, SWEEP_PKE, SWEEP_PKS, SWEEP_KEYS_1, SWEEP_KEYS_2, \
			    __VA_ARGS__ })

CASE_RUN(keys_4_kbyte, sweep, PROVES("paging:acc.pku.leaf_only", "paging:acc.pku.super_addr"),
	 NEEDS(CPU(PKU)), KEYS(LEVEL_PTE, CPL_0, DATA));
CASE_RUN(keys_2_mbyte, sweep, PROVES("paging:acc.pku.leaf_only", "paging:acc.pku.super_addr"),
	 NEEDS(CPU(PKU)), KEYS(LEVEL_PDE, CPL_0, DATA));
CASE_RUN(keys_1_gbyte, sweep, PROVES("paging:acc.pku.leaf_only", "paging:acc.pku.super_addr"),
	 NEEDS(CPU(PKU), CPU(PAGE1GB)), KEYS(LEVEL_PDPTE, CPL_0, DATA));
CASE_RUN(keys_user_4_kbyte, sweep, PROVES("paging:acc.pku.ad", "paging:acc.pku.wd_user"),
	 NEEDS(CPU(PKU)), KEYS(LEVEL_PTE, CPL_3, DATA));
CASE_RUN(keys_user_2_mbyte, sweep, PROVES("paging:acc.pku.ad", "paging:acc.pku.wd_user"),
	 NEEDS(CPU(PKU)), KEYS(LEVEL_PDE, CPL_3, DATA));
CASE_RUN(keys_user_1_gbyte, sweep, PROVES("paging:acc.pku.ad", "paging:acc.pku.wd_user"),
	 NEEDS(CPU(PKU), CPU(PAGE1GB)), KEYS(LEVEL_PDPTE, CPL_3, DATA));
CASE_RUN(keys_and_fetches, sweep, PROVES("paging:acc.pku.fetch", "paging:acc.pks.fetch"),
	 NEEDS(CPU(PKU)), KEYS(LEVEL_PTE, CPL_0 | CPL_3, FETCH, SWEEP_NXE, SWEEP_SMEP, SWEEP_SMAP));
CASE_RUN(keys_and_smap, sweep, PROVES("paging:acc.pku.smap_both"),
	 NEEDS(CPU(PKU), CPU(SMAP)),
	 KEYS(LEVEL_PTE, CPL_0 | CPL_3, DATA, SWEEP_SMAP, SWEEP_AC, SWEEP_SMEP));

/* Each bit of an entry, reserved, ignored or neither: 5.5.4. */
#define EACH_BIT(size, tested) \
	SWEEP(&sweep_bits, size, tested, .cpls = CPL_0 | CPL_3, .kinds = SWEEP_ALL_KINDS, \
	      .switches = { SWEEP_NXE, SWEEP_WP | SWEEP_SMEP, SWEEP_SMAP })

CASE_RUN(bits_of_pml4e, sweep,
	 PROVES("paging:rsvd.4l.pml4_ps", "paging:rsvd.4l.xd", "paging:fmt.4l.ignored",
		"paging:fmt.4l.bit11", "paging:fmt.4l.nonleaf_g", "paging:rsvd.maxphyaddr"),
	 EACH_BIT(LEVEL_PTE, LEVEL_PML4E));
CASE_RUN(bits_of_pdpte, sweep,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g", "paging:rsvd.maxphyaddr"),
	 EACH_BIT(LEVEL_PTE, LEVEL_PDPTE));
CASE_RUN(bits_of_pde, sweep,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.nonleaf_g", "paging:rsvd.maxphyaddr"),
	 EACH_BIT(LEVEL_PTE, LEVEL_PDE));
/* MAXPHYADDR is what CPUID says, also where a hypervisor's processor has more: 5.1.4. */
CASE_RUN(bits_of_pte, sweep,
	 PROVES("paging:fmt.4l.ignored", "paging:fmt.4l.bit11", "paging:rsvd.maxphyaddr",
		"paging:misc.maxphy_guest"),
	 EACH_BIT(LEVEL_PTE, LEVEL_PTE));
CASE_RUN(bits_of_2_mbyte_pde, sweep, PROVES("paging:rsvd.4l.2m", "paging:rsvd.maxphyaddr"),
	 EACH_BIT(LEVEL_PDE, LEVEL_PDE));
CASE_RUN(bits_of_1_gbyte_pdpte, sweep, PROVES("paging:rsvd.4l.1g", "paging:rsvd.maxphyaddr"),
	 NEEDS(CPU(PAGE1GB)), EACH_BIT(LEVEL_PDPTE, LEVEL_PDPTE));
