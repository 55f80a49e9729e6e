/* INVPCID, where INVLPG exits: 28.1.3. Its operand is in memory; INVPCID (vol 2). */
#include "hv/internal.h"
#include "sdm/invpcid.h"
#include "vmx/guest.h"

/* Table 30-10: the memory operand, from the instruction information. */
static struct hv_memory_operand operand(struct hv_vcpu *vcpu, u64 information)
{
	static const u64 widths[4] = { BITS(15, 0), BITS(31, 0), ~0ull, ~0ull };
	u64 offset = vmcs_get(EXIT_QUALIFICATION);

	if (!(information & BIT(27)))
		offset += hv_gpr(vcpu, FIELD(information, 26, 23));
	if (!(information & BIT(22)))
		offset += hv_gpr(vcpu, FIELD(information, 21, 18)) << FIELD(information, 1, 0);
	return (struct hv_memory_operand){
		.segment = FIELD(information, 17, 15),
		.offset = offset & widths[FIELD(information, 8, 7)],
		.size = sizeof(struct invpcid_descriptor),
	};
}

static bool is_legal(const struct hv_vcpu *vcpu, const struct invpcid_descriptor *descriptor,
		     u64 type)
{
	bool of_one_pcid = type == INVPCID_ADDRESS || type == INVPCID_CONTEXT;

	if (type >= INVPCID_TYPES || descriptor->pcid >> 12)
		return false;
	if (of_one_pcid && descriptor->pcid && !(hv_cr4() & CR4_PCIDE))
		return false;
	return type != INVPCID_ADDRESS || hv_is_canonical(vcpu, descriptor->address);
}

enum hv_next hv_exit_invpcid(struct hv_vcpu *vcpu)
{
	u64 information = vmcs_get(VM_EXIT_INSTRUCTION_INFORMATION);
	u64 type = hv_gpr(vcpu, FIELD(information, 31, 28));
	struct invpcid_descriptor descriptor = { 0 };
	struct hv_memory_operand memory;
	struct hv_fault fault;
	u64 linear;
	bool legal;

	/* 28.1.1: the fault comes before the exit; a processor that is wrong does no harm here. */
	if (hv_cpl())
		return hv_exit_gp(vcpu);
	if (!hv_in_64_bit_mode(vcpu))
		type &= BITS(31, 0);
	memory = operand(vcpu, information);
	/* An operand that is no memory reads as what invalidates nothing that is there. */
	legal = hv_operand_address(vcpu, &memory, false, &linear, &fault) &&
		hv_copy(vcpu, linear, &descriptor, sizeof(descriptor), ACCESS_READ, &fault) !=
			HV_COPY_FAULT;
	if (legal && !is_legal(vcpu, &descriptor, type)) {
		fault = HV_FAULT_GP;
		legal = false;
	}
	if (!legal) {
		hv_inject(vcpu, fault);
		return HV_GUEST;
	}
	vcpu->vm->mmu->invlpg(vcpu, descriptor.address);
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
