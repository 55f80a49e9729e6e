/*
 * Control registers. The core owns the bits of CR0 that choose modes and all of CR4: the guest
 * reads the shadow, and a write that differs from it exits (28.1.3 Instructions That Cause VM Exits
 * Conditionally). What is legal is 2.5 Control Registers, with the features of the guest's CPUID.
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

/* The guest may change these without an exit: they touch nothing but the guest. */
#define CR0_OF_GUEST	(CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM)
#define CR4_LAM_SUP	BIT(28)
#define CR0_KNOWN	(CR0_PE | CR0_ET | CR0_NE | CR0_NW | CR0_CD | CR0_PG | CR0_OF_GUEST)
#define PDPTE_RESERVED(bits)	(BITS(63, bits) | BITS(8, 5) | BITS(2, 1))

u64 hv_cr0(void)
{
	u64 owned = vmcs_get(CR0_GUEST_HOST_MASK);

	return (vmcs_get(GUEST_CR0) & ~owned) | (vmcs_get(CR0_READ_SHADOW) & owned);
}

u64 hv_cr3(const struct hv_vcpu *vcpu)
{
	return vcpu->vm->mmu->owns_cr3 ? vcpu->cr3 : vmcs_get(GUEST_CR3);
}

u64 hv_pdpte(const struct hv_vcpu *vcpu, u32 number)
{
	return vcpu->vm->mmu->owns_cr3 ? vcpu->pdpte[number] : vmcs_get(GUEST_PDPTE0 + 2 * number);
}

u64 hv_cr4(void)
{
	return vmcs_get(CR4_READ_SHADOW);
}

static void follow_mode(struct hv_vcpu *vcpu, u64 cr0, u64 efer)
{
	u64 entry = vmcs_get(VM_ENTRY_CONTROLS);
	const u64 ia_32e = control_bit(CONTROL_ENTRY_IA_32E_MODE_GUEST);

	efer &= ~(u64)EFER_LMA;
	if (efer & EFER_LME && cr0 & CR0_PG)
		efer |= EFER_LMA;
	vcpu->efer = efer;
	vmcs_put(GUEST_IA32_EFER, efer | vcpu->vm->mmu->efer_always);
	vmcs_put(VM_ENTRY_CONTROLS, efer & EFER_LMA ? entry | ia_32e : entry & ~ia_32e);
}

void hv_put_cr0(struct hv_vcpu *vcpu, u64 cr0)
{
	/* 26.8: without "unrestricted guest" an entry with PE or PG 0 fails, and so it should. */
	const struct hv_mmu *mmu = vcpu->vm->mmu;
	const u64 fixed = capabilities()->cr0_fixed0 & ~(CR0_PE | CR0_PG);

	vmcs_put(CR0_GUEST_HOST_MASK, ~CR0_OF_GUEST | mmu->cr0_owned);
	vmcs_put(CR0_READ_SHADOW, cr0);
	vmcs_put(GUEST_CR0, (cr0 & ~(CR0_CD | CR0_NW)) | fixed | mmu->cr0_always);
	follow_mode(vcpu, cr0, vcpu->efer);
}

void hv_put_cr3(struct hv_vcpu *vcpu, u64 cr3)
{
	if (vcpu->vm->mmu->owns_cr3)
		vcpu->cr3 = cr3;
	else
		vmcs_put(GUEST_CR3, cr3);
}

static void put_pdpte(struct hv_vcpu *vcpu, u32 number, u64 pdpte)
{
	if (vcpu->vm->mmu->owns_cr3)
		vcpu->pdpte[number] = pdpte;
	else
		vmcs_put(GUEST_PDPTE0 + 2 * number, pdpte);
}

void hv_put_cr4(struct hv_vcpu *vcpu, u64 cr4)
{
	const struct hv_mmu *mmu = vcpu->vm->mmu;

	vmcs_put(CR4_GUEST_HOST_MASK, ~0ull);
	vmcs_put(CR4_READ_SHADOW, cr4);
	vmcs_put(GUEST_CR4,
		 (cr4 & ~mmu->cr4_never) | capabilities()->cr4_fixed0 | mmu->cr4_always);
}

void hv_put_efer(struct hv_vcpu *vcpu, u64 efer)
{
	follow_mode(vcpu, hv_cr0(), efer);
}

void hv_registers_changed(struct hv_vcpu *vcpu)
{
	if (vcpu->vm->mmu->registers)
		vcpu->vm->mmu->registers(vcpu);
}

/* --- what the guest's CPUID allows ---------------------------------------------------- */

static const struct {
	u64 bits;
	u32 leaf, subleaf;
	enum { IN_EBX, IN_ECX, IN_EDX, IN_EAX } reg;
	u32 bit;
} cr4_features[] = {
	{ CR4_VME | CR4_PVI,	1, 0, IN_EDX, 1 },
	{ CR4_DE,		1, 0, IN_EDX, 2 },
	{ CR4_PSE,		1, 0, IN_EDX, 3 },
	{ CR4_TSD,		1, 0, IN_EDX, 4 },
	{ CR4_PAE,		1, 0, IN_EDX, 6 },
	{ CR4_MCE,		1, 0, IN_EDX, 7 },
	{ CR4_PGE,		1, 0, IN_EDX, 13 },
	{ CR4_OSFXSR,		1, 0, IN_EDX, 24 },
	{ CR4_OSXMMEXCPT,	1, 0, IN_EDX, 25 },
	{ CR4_PCIDE,		1, 0, IN_ECX, 17 },
	{ CR4_OSXSAVE,		1, 0, IN_ECX, 26 },
	{ CR4_FSGSBASE,		7, 0, IN_EBX, 0 },
	{ CR4_SMEP,		7, 0, IN_EBX, 7 },
	{ CR4_SMAP,		7, 0, IN_EBX, 20 },
	{ CR4_UMIP,		7, 0, IN_ECX, 2 },
	{ CR4_PKE,		7, 0, IN_ECX, 3 },
	{ CR4_CET,		7, 0, IN_ECX, 7 },
	{ CR4_CET,		7, 0, IN_EDX, 20 },
	{ CR4_LA57,		7, 0, IN_ECX, 16 },
	{ CR4_PKS,		7, 0, IN_ECX, 31 },
	{ CR4_LAM_SUP,		7, 1, IN_EAX, 26 },
};

static u32 value_of(const struct kvm_cpuid_entry2 *entry, u32 reg)
{
	const u32 values[] = { [IN_EAX] = entry->eax, [IN_EBX] = entry->ebx,
			       [IN_ECX] = entry->ecx, [IN_EDX] = entry->edx };

	return values[reg];
}

u64 hv_cr4_allowed(const struct hv_vcpu *vcpu)
{
	u64 allowed = CR4_PCE;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cr4_features); i++) {
		const struct kvm_cpuid_entry2 *entry =
			hv_cpuid_entry(vcpu, cr4_features[i].leaf, cr4_features[i].subleaf);

		if (entry && value_of(entry, cr4_features[i].reg) >> cr4_features[i].bit & 1)
			allowed |= cr4_features[i].bits;
	}
	return allowed & capabilities()->cr4_fixed1;
}

/* --- PAE paging: 5.4.1 PDPTE Registers --------------------------------------------------- */

static bool uses_pdptes(u64 efer, u64 cr0, u64 cr4)
{
	return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LME);
}

/*
 * False: one is illegal. As for hv_walk_read() what is no memory is all ones, which are; but user
 * space may set registers before there is memory, and then none is present.
 */
static bool read_pdptes(const struct hv_vcpu *vcpu, u64 cr3, u64 pdptes[4])
{
	const u8 *memory = hv_memory(vcpu->vm, cr3 & BITS(31, 5), 4 * sizeof(pdptes[0]), false);
	const u64 nothing = vcpu->running ? ~0ull : 0;
	u32 i;

	for (i = 0; i < 4; i++) {
		pdptes[i] = memory ? ((const u64 *)memory)[i] : nothing;
		if (pdptes[i] & 1 && pdptes[i] & PDPTE_RESERVED(vcpu->widths.physical))
			return false;
	}
	return true;
}

bool hv_pdptes_are_legal(const struct hv_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	u64 pdptes[4];

	return !uses_pdptes(sregs->efer, sregs->cr0, sregs->cr4) ||
	       read_pdptes(vcpu, sregs->cr3, pdptes);
}

bool hv_load_pdptes(struct hv_vcpu *vcpu, u64 cr0, u64 cr4)
{
	u64 pdptes[4];
	u32 i;

	if (!uses_pdptes(hv_efer(vcpu), cr0, cr4))
		return true;
	if (!read_pdptes(vcpu, hv_cr3(vcpu), pdptes))
		return false;
	for (i = 0; i < 4; i++)
		put_pdpte(vcpu, i, pdptes[i]);
	return true;
}

/* --- writes of the guest ------------------------------------------------------------------- */

/* MOV to CR0, CLTS and LMSW; false: #GP(0). */
static bool write_guest_cr0(struct hv_vcpu *vcpu, u64 cr0)
{
	u64 before = hv_cr0(), cr4 = hv_cr4();
	bool lme = hv_efer(vcpu) & EFER_LME;
	bool code_64 = vmcs_get(GUEST_CS_ACCESS_RIGHTS) & HV_AR_L;
	bool tss_16 = !(HV_AR_TYPE(vmcs_get(GUEST_TR_ACCESS_RIGHTS)) & 8);

	if (cr0 >> 32 || (cr0 & CR0_PG && !(cr0 & CR0_PE)) || (cr0 & CR0_NW && !(cr0 & CR0_CD)))
		return false;
	cr0 = (cr0 & CR0_KNOWN) | CR0_ET;
	if (cr0 & ~before & CR0_PG && lme && (!(cr4 & CR4_PAE) || code_64 || tss_16))
		return false;
	if (before & ~cr0 & CR0_PG && (hv_in_64_bit_mode(vcpu) || cr4 & CR4_PCIDE))
		return false;
	if (before & ~cr0 & CR0_WP && cr4 & CR4_CET)
		return false;
	if ((before ^ cr0) & (CR0_PG | CR0_CD | CR0_NW) && !hv_load_pdptes(vcpu, cr0, cr4))
		return false;
	hv_put_cr0(vcpu, cr0);
	hv_registers_changed(vcpu);
	return true;
}

static bool write_guest_cr4(struct hv_vcpu *vcpu, u64 cr4)
{
	u64 before = hv_cr4(), cr0 = hv_cr0();
	const u64 reloads = CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP;

	if (cr4 & ~hv_cr4_allowed(vcpu))
		return false;
	if (hv_efer(vcpu) & EFER_LMA && (!(cr4 & CR4_PAE) || (before ^ cr4) & CR4_LA57))
		return false;
	if (cr4 & ~before & CR4_PCIDE &&
	    (!(hv_efer(vcpu) & EFER_LMA) || hv_cr3(vcpu) & BITS(11, 0)))
		return false;
	if (cr4 & CR4_CET && !(cr0 & CR0_WP))
		return false;
	if ((before ^ cr4) & reloads && !hv_load_pdptes(vcpu, cr0, cr4))
		return false;
	hv_put_cr4(vcpu, cr4);
	hv_registers_changed(vcpu);
	return true;
}

/* Only where the MMU owns CR3, or this processor cannot do without these exits. */
static bool write_guest_cr3(struct hv_vcpu *vcpu, u64 cr3)
{
	u64 before = hv_cr3(vcpu);

	/* 5.10.4.1: bit 63 keeps what is cached, which is never more than may be kept. */
	if (hv_cr4() & CR4_PCIDE)
		cr3 &= ~BIT(63);
	if (hv_efer(vcpu) & EFER_LMA && cr3 >> vcpu->widths.physical)
		return false;
	hv_put_cr3(vcpu, cr3);
	if (!hv_load_pdptes(vcpu, hv_cr0(), hv_cr4())) {
		hv_put_cr3(vcpu, before);
		return false;
	}
	hv_registers_changed(vcpu);
	return true;
}

static enum hv_next finish(struct hv_vcpu *vcpu, bool legal)
{
	if (legal)
		hv_skip_exiting(vcpu);
	else
		hv_inject(vcpu, HV_FAULT_GP);
	return HV_GUEST;
}

u64 hv_cr8(const struct hv_vcpu *vcpu)
{
	return vcpu->vm->irqchip ? hv_lapic_cr8(vcpu) : vcpu->cr8;
}

/* KVM tells user space of a lower CR8: an interrupt that waits may now be taken. */
static enum hv_next write_guest_cr8(struct hv_vcpu *vcpu, u64 cr8)
{
	u64 before = vcpu->cr8;

	if (cr8 > 15)
		return finish(vcpu, false);
	if (vcpu->vm->irqchip) {
		hv_lapic_set_cr8(vcpu, cr8);
		return finish(vcpu, true);
	}
	vcpu->cr8 = cr8;
	finish(vcpu, true);
	return cr8 < before ? hv_user(vcpu, KVM_EXIT_SET_TPR, NULL) : HV_GUEST;
}

static enum hv_next mov_to_cr(struct hv_vcpu *vcpu, u32 cr, u64 value)
{
	if (!hv_in_64_bit_mode(vcpu))
		value &= BITS(31, 0);
	switch (cr) {
	case 0:
		return finish(vcpu, write_guest_cr0(vcpu, value));
	case 3:
		return finish(vcpu, write_guest_cr3(vcpu, value));
	case 4:
		return finish(vcpu, write_guest_cr4(vcpu, value));
	default:
		return write_guest_cr8(vcpu, value);
	}
}

/* LMSW cannot clear PE, and knows bits 3:0 only. */
static u64 after_lmsw(u64 source)
{
	u64 before = hv_cr0();

	return (before & ~(u64)(CR0_MP | CR0_EM | CR0_TS)) | (source & BITS(3, 0));
}

enum hv_next hv_exit_cr(struct hv_vcpu *vcpu)
{
	u64 qualification = vmcs_get(EXIT_QUALIFICATION);
	u32 cr = FIELD(qualification, 3, 0), gpr = FIELD(qualification, 11, 8);
	u64 source = FIELD(qualification, 31, 16);

	switch (FIELD(qualification, 5, 4)) {
	case 0:
		return mov_to_cr(vcpu, cr, hv_gpr(vcpu, gpr));
	case 1:
		hv_set_gpr(vcpu, gpr, cr == 3 ? hv_cr3(vcpu) : hv_cr8(vcpu));
		return finish(vcpu, true);
	case 2:
		return finish(vcpu, write_guest_cr0(vcpu, hv_cr0() & ~(u64)CR0_TS));
	default:
		return finish(vcpu, write_guest_cr0(vcpu, after_lmsw(source)));
	}
}
