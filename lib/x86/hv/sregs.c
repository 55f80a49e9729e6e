/* struct kvm_sregs: segments, descriptor tables and control registers. */
#include "hv/internal.h"
#include "vmx/guest.h"

#define EFER_KNOWN	(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

/* Number of a segment in the VMCS: the fields of all eight follow each other in steps of 2. */
enum { SEGMENT_LDTR = 6, SEGMENT_TR };

static void get_segment(u32 number, struct kvm_segment *segment)
{
	u64 rights = vmcs_get(GUEST_ES_ACCESS_RIGHTS + 2 * number);

	*segment = (struct kvm_segment){
		.base = vmcs_get(GUEST_ES_BASE + 2 * number),
		.limit = vmcs_get(GUEST_ES_LIMIT + 2 * number),
		.selector = vmcs_get(GUEST_ES_SELECTOR + 2 * number),
		.type = HV_AR_TYPE(rights), .s = !!(rights & HV_AR_S), .dpl = HV_AR_DPL(rights),
		.present = !!(rights & HV_AR_P), .avl = rights >> 12 & 1,
		.l = !!(rights & HV_AR_L), .db = !!(rights & HV_AR_DB), .g = !!(rights & HV_AR_G),
		.unusable = !!(rights & HV_AR_UNUSABLE),
	};
}

static void set_segment(u32 number, const struct kvm_segment *segment)
{
	u64 rights = HV_AR_UNUSABLE;

	if (!segment->unusable && segment->present)
		rights = (segment->type & 15) | (u64)(segment->s & 1) << 4 |
			 (u64)(segment->dpl & 3) << 5 | HV_AR_P | (u64)(segment->avl & 1) << 12 |
			 (u64)(segment->l & 1) << 13 | (u64)(segment->db & 1) << 14 |
			 (u64)(segment->g & 1) << 15;
	vmcs_put(GUEST_ES_BASE + 2 * number, segment->base);
	vmcs_put(GUEST_ES_LIMIT + 2 * number, segment->limit);
	vmcs_put(GUEST_ES_SELECTOR + 2 * number, segment->selector);
	vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * number, rights);
}

int hv_vcpu_get_sregs(struct hv_vcpu *vcpu, struct kvm_sregs *sregs)
{
	hv_load(vcpu);
	*sregs = (struct kvm_sregs){
		.gdt = { .base = vmcs_get(GUEST_GDTR_BASE), .limit = vmcs_get(GUEST_GDTR_LIMIT) },
		.idt = { .base = vmcs_get(GUEST_IDTR_BASE), .limit = vmcs_get(GUEST_IDTR_LIMIT) },
		.cr0 = hv_cr0(), .cr2 = vcpu->cr2, .cr3 = hv_cr3(vcpu), .cr4 = hv_cr4(),
		.cr8 = hv_cr8(vcpu), .efer = hv_efer(vcpu), .apic_base = vcpu->apic_base,
	};
	get_segment(SEGMENT_ES, &sregs->es);
	get_segment(SEGMENT_CS, &sregs->cs);
	get_segment(SEGMENT_SS, &sregs->ss);
	get_segment(SEGMENT_DS, &sregs->ds);
	get_segment(SEGMENT_FS, &sregs->fs);
	get_segment(SEGMENT_GS, &sregs->gs);
	get_segment(SEGMENT_LDTR, &sregs->ldt);
	get_segment(SEGMENT_TR, &sregs->tr);
	if (vcpu->interrupt_pending)
		sregs->interrupt_bitmap[vcpu->interrupt / 64] = BIT(vcpu->interrupt % 64);
	return 0;
}

/* What no order of instructions could have led to: rows sregs.* of spec/kvm-ioctls.csv. */
static bool is_consistent(const struct hv_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	bool paging = sregs->cr0 & CR0_PG, lme = sregs->efer & EFER_LME;

	if (sregs->cr0 >> 32 || (paging && !(sregs->cr0 & CR0_PE)) ||
	    (sregs->cr0 & CR0_NW && !(sregs->cr0 & CR0_CD)))
		return false;
	if (sregs->cr4 & ~hv_cr4_allowed(vcpu) || sregs->efer & ~EFER_KNOWN || sregs->cr8 > 15)
		return false;
	/* 2.5: CR4.CET needs CR0.WP. */
	if (sregs->cr4 & CR4_CET && !(sregs->cr0 & CR0_WP))
		return false;
	if (!hv_lapic_is_base(vcpu, sregs->apic_base) || !hv_pdptes_are_legal(vcpu, sregs))
		return false;
	if (paging && lme)
		return sregs->cr4 & CR4_PAE && sregs->efer & EFER_LMA &&
		       !(sregs->cr3 >> vcpu->widths.physical);
	return !(sregs->efer & EFER_LMA) && !sregs->cs.l;
}

/* One at most: of several the lowest. */
static void set_interrupt(struct hv_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	u32 vector;

	for (vector = 0; vector < 256; vector++) {
		u64 rest = sregs->interrupt_bitmap[vector / 64] >> vector % 64;

		if (!rest)
			vector |= 63;
		if (!(rest & 1))
			continue;
		vcpu->interrupt_pending = true;
		vcpu->interrupt = vector;
		return;
	}
}

int hv_vcpu_set_sregs(struct hv_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	if (!is_consistent(vcpu, sregs))
		return -EINVAL;
	hv_load(vcpu);
	vmcs_put(GUEST_GDTR_BASE, sregs->gdt.base);
	vmcs_put(GUEST_GDTR_LIMIT, sregs->gdt.limit);
	vmcs_put(GUEST_IDTR_BASE, sregs->idt.base);
	vmcs_put(GUEST_IDTR_LIMIT, sregs->idt.limit);
	set_segment(SEGMENT_ES, &sregs->es);
	set_segment(SEGMENT_CS, &sregs->cs);
	set_segment(SEGMENT_SS, &sregs->ss);
	set_segment(SEGMENT_DS, &sregs->ds);
	set_segment(SEGMENT_FS, &sregs->fs);
	set_segment(SEGMENT_GS, &sregs->gs);
	set_segment(SEGMENT_LDTR, &sregs->ldt);
	set_segment(SEGMENT_TR, &sregs->tr);
	vcpu->cr2 = sregs->cr2;
	vcpu->cr8 = vcpu->run->cr8 = sregs->cr8;
	/* The task priority may be gone with the mode of the APIC. */
	hv_lapic_set_base(vcpu, sregs->apic_base, true);
	hv_lapic_set_cr8(vcpu, sregs->cr8);
	hv_put_cr3(vcpu, sregs->cr3);
	/* EFER first: what CR0 means depends on it. */
	vcpu->efer = sregs->efer;
	hv_put_cr4(vcpu, sregs->cr4);
	hv_put_cr0(vcpu, sregs->cr0);
	hv_load_pdptes(vcpu, sregs->cr0, sregs->cr4);
	hv_registers_changed(vcpu);
	set_interrupt(vcpu, sregs);
	return 0;
}
