/* CPUID: what the guest's table says. */
#include "hv/internal.h"
#include "string.h"

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
		hv_cpuid_restrict(&vcpu->cpuid[i]);
	return 0;
}

bool hv_guest_has(const struct hv_vcpu *vcpu, enum feature feature)
{
	const struct feature_place place = feature_place(feature);
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, place.leaf, place.subleaf);

	if (!entry)
		return false;
	return (&entry->eax)[place.reg] >> place.bit & 1;
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

/* Of a leaf with levels of processors, a subleaf above the last still says who is asked. */
static struct kvm_cpuid_entry2 no_subleaf(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *first = hv_cpuid_entry(vcpu, leaf, 0);

	if (!first || (leaf != 0xb && leaf != 0x1f))
		return (struct kvm_cpuid_entry2){ 0 };
	return (struct kvm_cpuid_entry2){ .ecx = subleaf & 0xff, .edx = first->edx };
}

static void set_flag(u32 *to, u32 bit, bool on)
{
	*to = on ? *to | 1u << bit : *to & ~(1u << bit);
}

static u64 xss(struct hv_vcpu *vcpu)
{
	u64 value = 0;

	hv_msr_get(vcpu, IA32_XSS, &value);
	return value;
}

/* Answers that follow the state of the processor. */
static void mirror_state(struct hv_vcpu *vcpu, struct kvm_cpuid_entry2 *said)
{
	switch (said->function) {
	case 0x1:
		set_flag(&said->ecx, 27, said->ecx & BIT(26) && hv_cr4() & CR4_OSXSAVE);
		if (vcpu->vm->irqchip)
			set_flag(&said->edx, 9, vcpu->apic_base & APIC_BASE_ENABLE);
		break;
	case 0x7:
		if (!said->index)
			set_flag(&said->ecx, 4, said->ecx & BIT(3) && hv_cr4() & CR4_PKE);
		break;
	case 0xd:
		if (said->index == 0)
			said->ebx = hv_xsave_size(vcpu, vcpu->xcr0, false);
		if (said->index == 0)
			said->ecx = hv_xsave_size(vcpu, (u64)said->edx << 32 | said->eax, false);
		if (said->index == 1)
			said->ebx = hv_xsave_size(vcpu, vcpu->xcr0 | xss(vcpu), true);
		break;
	}
}

enum hv_next hv_exit_cpuid(struct hv_vcpu *vcpu)
{
	struct general_registers *regs = &vcpu->state.regs;
	const struct kvm_cpuid_entry2 *entry = answer(vcpu, regs->rax, regs->rcx);
	struct kvm_cpuid_entry2 said = { 0 };

	if (entry)
		said = *entry;
	else if (has_leaf(vcpu, regs->rax))
		said = no_subleaf(vcpu, regs->rax, regs->rcx);
	if (entry)
		mirror_state(vcpu, &said);
	regs->rax = said.eax;
	regs->rbx = said.ebx;
	regs->rcx = said.ecx;
	regs->rdx = said.edx;
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
