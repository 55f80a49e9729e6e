/* CPUID: what the guest's table says. */
#include "hv/internal.h"
#include "string.h"

/* VMX, SMX, PCID, x2APIC, TSC deadline, XSAVE, OSXSAVE: not offered to guests. */
#define LEAF_1_ECX_HIDDEN	(BIT(5) | BIT(6) | BIT(17) | BIT(21) | BIT(24) | BIT(26) | BIT(27))

const struct kvm_cpuid_entry2 *hv_cpuid_entry(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	u32 i;

	for (i = 0; i < vcpu->cpuid_count; i++) {
		const struct kvm_cpuid_entry2 *entry = &vcpu->cpuid[i];

		if (entry->function == leaf &&
		    (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == subleaf))
			return entry;
	}
	return NULL;
}

int hv_vcpu_set_cpuid(struct hv_vcpu *vcpu, const struct kvm_cpuid2 *table)
{
	u32 i;

	if (table->nent > HV_MAX_CPUID)
		return -E2BIG;
	memcpy(vcpu->cpuid, table->entries, table->nent * sizeof(table->entries[0]));
	vcpu->cpuid_count = table->nent;
	for (i = 0; i < table->nent; i++)
		if (vcpu->cpuid[i].function == 1)
			vcpu->cpuid[i].ecx &= ~(u32)LEAF_1_ECX_HIDDEN;
	return 0;
}

static bool has_leaf(const struct hv_vcpu *vcpu, u32 leaf)
{
	u32 i;

	for (i = 0; i < vcpu->cpuid_count; i++)
		if (vcpu->cpuid[i].function == leaf)
			return true;
	return false;
}

/* Volume 2, CPUID: a leaf above the highest one answers as the highest basic leaf does. */
static const struct kvm_cpuid_entry2 *answer(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, leaf, subleaf);
	const struct kvm_cpuid_entry2 *basic, *highest;

	if (entry || has_leaf(vcpu, leaf))
		return entry;
	basic = hv_cpuid_entry(vcpu, 0, 0);
	highest = hv_cpuid_entry(vcpu, leaf & 0xffff0000, 0);
	if (!basic || (highest && leaf <= highest->eax))
		return NULL;
	return hv_cpuid_entry(vcpu, basic->eax, subleaf);
}

enum hv_next hv_exit_cpuid(struct hv_vcpu *vcpu)
{
	struct general_registers *regs = &vcpu->state.regs;
	const struct kvm_cpuid_entry2 *entry = answer(vcpu, regs->rax, regs->rcx);

	regs->rax = entry ? entry->eax : 0;
	regs->rbx = entry ? entry->ebx : 0;
	regs->rcx = entry ? entry->ecx : 0;
	regs->rdx = entry ? entry->edx : 0;
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
