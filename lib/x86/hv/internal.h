/*
 * What the files of the core share with each other and with nobody else: the headers below by
 * theme, and here the registers of the guest and who else may run.
 */
#ifndef HV_INTERNAL_H
#define HV_INTERNAL_H

#include "cpu/features.h"
#include "hv/events.h"
#include "hv/exits.h"
#include "hv/guest_memory.h"
#include "hv/hv.h"
#include "hv/instruction.h"
#include "hv/vmcs_access.h"

/* --- FPU, SSE and XSAVE: fpu.c ------------------------------------------------------------- */

/* Components whose state can be switched: x87, SSE, AVX, MPX, AVX-512, PKRU; CET. */
#define HV_XCR0_KNOWN	(BITS(7, 5) | BITS(2, 0) | BIT(9))
#define HV_XSS_KNOWN	BITS(12, 11)

/* On this processor: nobody's values are in the registers. */
void hv_fpu_start(void);
/* For a run: the registers are this vCPU's, XCR0 too. Returns the XCR0 of the host ... */
u64 hv_fpu_load(struct hv_vcpu *vcpu);
/* ... which is there again after it. */
void hv_fpu_leave(u64 host_xcr0);
/* What of this vCPU is in the registers is not wanted any more. */
void hv_fpu_forget(struct hv_vcpu *vcpu);
void hv_fpu_reset(struct hv_vcpu *vcpu);
/* PKRU, wherever it is now. */
u32 hv_pkru(const struct hv_vcpu *vcpu);
/*
 * Bytes of the XSAVE area for `components`, as the guest's CPUID describes it: of those that are
 * enabled, of those that can be, and of those that XSAVEC and XSAVES would save.
 */
enum hv_xsave_area { HV_XSAVE_ENABLED, HV_XSAVE_POSSIBLE, HV_XSAVE_COMPACTED };
u32 hv_xsave_size(struct hv_vcpu *vcpu, enum hv_xsave_area area, u64 components);
/* The guest's CPUID is another one: sizes that have been found out do not count any more. */
void hv_xsave_sizes_changed(struct hv_vcpu *vcpu);

/* --- more than one vCPU: mp.c ------------------------------------------------------------ */

/* INIT, start-up IPIs and what wakes from HLT; false when there is nothing to run. */
bool hv_ready(struct hv_vcpu *vcpu);
/* Before an entry: how long until it must end. */
void hv_set_timer(struct hv_vcpu *vcpu);

/* --- registers: vcpu.c, cr.c, msr.c ---------------------------------------------------- */

/* General register 0 to 15 as instructions number them. */
u64 hv_gpr(struct hv_vcpu *vcpu, u32 number);
void hv_set_gpr(struct hv_vcpu *vcpu, u32 number, u64 value);

/* Table 11-1: all registers as after a reset, or as after INIT, which keeps some of them. */
void hv_vcpu_reset(struct hv_vcpu *vcpu, bool init);

u32 hv_cpl(void);

static inline bool hv_in_64_bit_mode(const struct hv_vcpu *vcpu)
{
	return vcpu->efer & EFER_LMA && vmcs_get(GUEST_CS_ACCESS_RIGHTS) & HV_AR_L;
}


/* The registers as the guest sees them. */
u64 hv_cr0(void);
u64 hv_cr3(const struct hv_vcpu *vcpu);
u64 hv_cr4(void);
u64 hv_cr8(const struct hv_vcpu *vcpu);
u64 hv_pdpte(const struct hv_vcpu *vcpu, u32 number);

static inline u64 hv_efer(const struct hv_vcpu *vcpu)
{
	return vcpu->efer;
}

/* Puts values into the VMCS; they have been found legal. hv_registers_changed() follows. */
void hv_put_cr0(struct hv_vcpu *vcpu, u64 cr0);
void hv_put_cr3(struct hv_vcpu *vcpu, u64 cr3);
void hv_put_cr4(struct hv_vcpu *vcpu, u64 cr4);
void hv_put_efer(struct hv_vcpu *vcpu, u64 efer);
void hv_registers_changed(struct hv_vcpu *vcpu);
/* Bits of CR4 that this guest may set. */
u64 hv_cr4_allowed(const struct hv_vcpu *vcpu);
/* PAE paging: the PDPTE registers from memory; false when they are illegal, and not loaded. */
bool hv_load_pdptes(struct hv_vcpu *vcpu, u64 cr0, u64 cr4);
/* Whether those that such registers lead to could be loaded. */
bool hv_pdptes_are_legal(const struct hv_vcpu *vcpu, const struct kvm_sregs *sregs);

enum hv_msr_result { HV_MSR_DONE, HV_MSR_UNKNOWN, HV_MSR_INVALID };
enum hv_msr_result hv_msr_get(struct hv_vcpu *vcpu, u32 index, u64 *value);
enum hv_msr_result hv_msr_set(struct hv_vcpu *vcpu, u32 index, u64 value, bool by_user_space);
/* The guest's for the host's at the start of a run; while vcpu->running, back at its end. */
void hv_msrs_swap(struct hv_vcpu *vcpu);

/* Whether the guest's CPUID reports a feature. */
bool hv_guest_has(const struct hv_vcpu *vcpu, enum feature feature);

/* In vcpu->misc_enable as in the MSR: without it the guest has no MONITOR and MWAIT. */
#define HV_MONITOR_ENABLED	BIT(18)
/* The guest's CPUID or IA32_MISC_ENABLE is another one: MONITOR exits where it is #UD. */
void hv_monitor_changed(struct hv_vcpu *vcpu);

/* Memory-type range registers; false from hv_mtrr_set(): #GP(0). */
bool hv_is_mtrr(const struct hv_vcpu *vcpu, u32 msr);
u64 hv_mtrr_get(const struct hv_vcpu *vcpu, u32 msr);
bool hv_mtrr_set(struct hv_vcpu *vcpu, u32 msr, u64 value);

/* Notes vcpu->widths. */
void hv_cpuid_widths(struct hv_vcpu *vcpu);
/* Takes from an entry what the core cannot do. */
void hv_cpuid_restrict(struct kvm_cpuid_entry2 *entry);
/* The entry of the guest's CPUID table, NULL when there is none. */
const struct kvm_cpuid_entry2 *hv_cpuid_entry(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf);

/*
 * Chapter 4: a register that holds a base address takes one of the width that CPUID reports; an
 * address that is used, RIP too, must be of the width of the paging mode.
 */
static inline bool hv_has_width(u64 address, u32 bits)
{
	return (u64)((s64)(address << (64 - bits)) >> (64 - bits)) == address;
}

static inline bool hv_is_canonical(const struct hv_vcpu *vcpu, u64 address)
{
	return hv_has_width(address, vcpu->widths.linear);
}

static inline bool hv_may_be_used(u64 address)
{
	return hv_has_width(address, hv_cr4() & CR4_LA57 ? 57 : 48);
}

#endif
