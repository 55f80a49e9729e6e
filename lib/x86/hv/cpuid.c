/* CPUID: what the guest's table says. */
#include "hv/internal.h"
#include "string.h"

#define XSAVES	BIT(3)	/* of leaf DH, subleaf 1, EAX */

/*
 * Guests ask often, and a table has some sixty entries. The first entry of each leaf is found by
 * the leaf; and if that is for one subleaf only, the others are in lists by leaf and subleaf, in
 * the order of the table. An entry for all subleaves is in the list of subleaf 0.
 */
static u32 hash(u32 leaf, u32 subleaf)
{
	return (leaf * 0x9e3779b1 + subleaf * 0x85ebca6b) >> 25;
}

static bool has_subleaves(const struct kvm_cpuid_entry2 *entry)
{
	return entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
}

static bool is_for(const struct kvm_cpuid_entry2 *entry, u32 leaf, u32 subleaf)
{
	return entry->function == leaf && (!has_subleaves(entry) || entry->index == subleaf);
}

static const struct kvm_cpuid_entry2 *find_in_list(const struct hv_vcpu *vcpu, u32 list, u32 leaf,
						   u32 subleaf)
{
	u32 i;

	for (i = vcpu->cpuid_first[list]; i; i = vcpu->cpuid_next[i - 1])
		if (is_for(&vcpu->cpuid[i - 1], leaf, subleaf))
			return &vcpu->cpuid[i - 1];
	return NULL;
}

/* Where the number of the first entry of the leaf is, or is to be, plus 1. */
static u8 slot_of(const struct hv_vcpu *vcpu, u32 leaf)
{
	u8 slot = hash(leaf, 0) * 2;

	while (vcpu->cpuid_leaf[slot] && vcpu->cpuid[vcpu->cpuid_leaf[slot] - 1].function != leaf)
		slot++;
	return slot;
}

/* NULL: the table has nothing of the leaf. */
static const struct kvm_cpuid_entry2 *first_of_leaf(const struct hv_vcpu *vcpu, u32 leaf)
{
	u8 number = vcpu->cpuid_leaf[slot_of(vcpu, leaf)];

	return number ? &vcpu->cpuid[number - 1] : NULL;
}

/* `first`: of the leaf. */
static const struct kvm_cpuid_entry2 *find(const struct hv_vcpu *vcpu,
					   const struct kvm_cpuid_entry2 *first, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *entry;
	u32 leaf = first->function;

	if (is_for(first, leaf, subleaf))
		return first;
	entry = find_in_list(vcpu, hash(leaf, subleaf), leaf, subleaf);
	return entry || !subleaf ? entry : find_in_list(vcpu, hash(leaf, 0), leaf, subleaf);
}

const struct kvm_cpuid_entry2 *hv_cpuid_entry(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *first = first_of_leaf(vcpu, leaf);

	return first ? find(vcpu, first, subleaf) : NULL;
}

/* In lists is the first entry that fits, if a table should have two. */
static void make_lists(struct hv_vcpu *vcpu)
{
	u32 i, list;

	memset(vcpu->cpuid_first, 0, sizeof(vcpu->cpuid_first));
	memset(vcpu->cpuid_leaf, 0, sizeof(vcpu->cpuid_leaf));
	for (i = 0; i < vcpu->cpuid_count; i++) {
		const struct kvm_cpuid_entry2 *entry = &vcpu->cpuid[i];
		u32 subleaf = has_subleaves(entry) ? entry->index : 0;
		u8 slot = slot_of(vcpu, entry->function), *last;

		if (has_subleaves(entry) && hv_cpuid_entry(vcpu, entry->function, subleaf))
			continue;
		list = hash(entry->function, subleaf);
		for (last = &vcpu->cpuid_first[list]; *last; last = &vcpu->cpuid_next[*last - 1])
			;
		*last = i + 1;
		vcpu->cpuid_next[i] = 0;
		if (!vcpu->cpuid_leaf[slot])
			vcpu->cpuid_leaf[slot] = i + 1;
	}
}

/* Without a table: what the processor has. An address that it cannot use, no guest can. */
void hv_cpuid_widths(struct hv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *sizes = hv_cpuid_entry(vcpu, 0x80000008, 0);
	struct hv_widths widths = {
		.physical = maxphyaddr(), .linear = CPUID_BIT(7, 0, ecx, 16) ? 57 : 48,
		.pages_1g = CPUID_BIT(0x80000001, 0, edx, 26), .pse36 = true, .pat = true,
	};
	u32 bits;

	if (vcpu->cpuid_count) {
		/* Volume 2, CPUID: without the leaf 36 bits, or 32 without PAE. */
		bits = sizes ? sizes->eax & 0xff : hv_guest_has(vcpu, FEATURE_PAE) ? 36 : 32;
		if (bits >= 32 && bits < widths.physical)
			widths.physical = bits;
		if (!hv_guest_has(vcpu, FEATURE_LA57))
			widths.linear = 48;
		widths.pages_1g = hv_guest_has(vcpu, FEATURE_PAGE1GB);
		widths.pse36 = hv_guest_has(vcpu, FEATURE_PSE36);
		widths.pat = hv_guest_has(vcpu, FEATURE_PAT);
	}
	vcpu->widths = widths;
}

/* Row cpuid2.vaddr of spec/kvm-ioctls.csv: the width of linear addresses, if it says one. */
static bool is_legal(const struct kvm_cpuid_entry2 *entry)
{
	u32 linear = FIELD(entry->eax, 15, 8);

	return entry->function != 0x80000008 || !linear || linear == 48 || linear == 57;
}

int hv_vcpu_set_cpuid(struct hv_vcpu *vcpu, const struct kvm_cpuid2 *table)
{
	const struct kvm_cpuid_entry2 *basic;
	u32 i;

	if (table->nent > HV_MAX_CPUID)
		return -E2BIG;
	for (i = 0; i < table->nent; i++)
		if (!is_legal(&table->entries[i]))
			return -EINVAL;
	memcpy(vcpu->cpuid, table->entries, table->nent * sizeof(table->entries[0]));
	vcpu->cpuid_count = table->nent;
	for (i = 0; i < table->nent; i++)
		hv_cpuid_restrict(&vcpu->cpuid[i]);
	make_lists(vcpu);
	basic = hv_cpuid_entry(vcpu, 0, 0);
	vcpu->cpuid_highest = basic ? basic->eax : HV_NO_LEAF;
	hv_xsave_sizes_changed(vcpu);
	hv_cpuid_widths(vcpu);
	hv_load(vcpu);
	hv_monitor_changed(vcpu);
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

/* Volume 2, CPUID: a leaf above the highest one answers as the highest basic leaf does. */
static const struct kvm_cpuid_entry2 *beyond(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *highest = NULL;

	if (vcpu->cpuid_highest == HV_NO_LEAF)
		return NULL;
	if (leaf >> 16)
		highest = hv_cpuid_entry(vcpu, leaf & 0xffff0000, 0);
	if (leaf <= (highest ? highest->eax : leaf >> 16 ? 0 : vcpu->cpuid_highest))
		return NULL;
	return hv_cpuid_entry(vcpu, vcpu->cpuid_highest, subleaf);
}

static void answer(struct hv_vcpu *vcpu, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
	struct general_registers *regs = &vcpu->state.regs;

	regs->rax = eax;
	regs->rbx = ebx;
	regs->rcx = ecx;
	regs->rdx = edx;
}

/* Of a leaf with levels of processors, a subleaf above the last still says who is asked. */
static void answer_without_entry(struct hv_vcpu *vcpu, u32 leaf, u32 subleaf)
{
	bool has_levels = leaf == 0xb || leaf == 0x1f;
	const struct kvm_cpuid_entry2 *first = has_levels ? hv_cpuid_entry(vcpu, leaf, 0) : NULL;

	if (first)
		answer(vcpu, 0, 0, subleaf & 0xff, first->edx);
	else
		answer(vcpu, 0, 0, 0, 0);
}

static void set_flag(u64 *to, u32 bit, bool on)
{
	*to = on ? *to | BIT(bit) : *to & ~BIT(bit);
}

/* Answers that follow the state of the processor; in the registers is what `entry` says. */
static void mirror_state(struct hv_vcpu *vcpu, const struct kvm_cpuid_entry2 *entry)
{
	struct general_registers *regs = &vcpu->state.regs;

	switch (entry->function) {
	case 0x1:
		set_flag(&regs->rcx, 3, entry->ecx & BIT(3) &&
					vcpu->misc_enable & HV_MONITOR_ENABLED);
		set_flag(&regs->rcx, 27, entry->ecx & BIT(26) && hv_cr4() & CR4_OSXSAVE);
		if (vcpu->vm->irqchip)
			set_flag(&regs->rdx, 9, vcpu->apic_base & APIC_BASE_ENABLE);
		break;
	case 0x7:
		if (!entry->index)
			set_flag(&regs->rcx, 4, entry->ecx & BIT(3) && hv_cr4() & CR4_PKE);
		break;
	case 0xd:
		if (entry->index == 0) {
			regs->rbx = hv_xsave_size(vcpu, HV_XSAVE_ENABLED, vcpu->xcr0);
			regs->rcx = hv_xsave_size(vcpu, HV_XSAVE_POSSIBLE,
						  (u64)entry->edx << 32 | entry->eax);
		}
		if (entry->index == 1)
			regs->rbx = hv_xsave_size(vcpu, HV_XSAVE_COMPACTED,
						  vcpu->xcr0 |
						  (entry->eax & XSAVES ? rdmsr(IA32_XSS) : 0));
		break;
	}
}

enum hv_next hv_exit_cpuid(struct hv_vcpu *vcpu)
{
	u32 leaf = vcpu->state.regs.rax, subleaf = vcpu->state.regs.rcx;
	const struct kvm_cpuid_entry2 *first = first_of_leaf(vcpu, leaf);
	const struct kvm_cpuid_entry2 *entry;

	entry = first ? find(vcpu, first, subleaf) : beyond(vcpu, leaf, subleaf);
	if (entry) {
		answer(vcpu, entry->eax, entry->ebx, entry->ecx, entry->edx);
		mirror_state(vcpu, entry);
	} else {
		answer_without_entry(vcpu, leaf, subleaf);
	}
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
