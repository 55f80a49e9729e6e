/*
 * Where an operand in memory is, and whether the instruction may use it there: the checks that the
 * processor makes before it translates the address. The emulator's accesses have passed them only
 * if they are made here: the processor exits at the first access of an instruction, before it looks
 * at the second one, and an exit of string I/O comes before any of them.
 */
#include "hv/internal.h"
#include "vmx/guest.h"

u64 hv_linear(const struct hv_vcpu *vcpu, u8 segment, u64 offset)
{
	if (!hv_in_64_bit_mode(vcpu))
		return (vmcs_get(GUEST_ES_BASE + 2 * segment) + offset) & BITS(31, 0);
	if (segment == SEGMENT_FS || segment == SEGMENT_GS)
		return vmcs_get(GUEST_ES_BASE + 2 * segment) + offset;
	return offset;
}

/*
 * 6.4 Type Checking: what the segment is for. Real-address mode has no types but that of data:
 * 23.1.
 */
static bool has_rights(u64 rights, bool write)
{
	u32 type = HV_AR_TYPE(rights);
	bool code = type & 8, readable_or_writable = type & 2;

	if (rights & HV_AR_UNUSABLE)
		return false;
	if (code)
		return !(hv_cr0() & CR0_PE) || (!write && readable_or_writable);
	return !write || readable_or_writable;
}

/*
 * 6.3 Limit Checking: the first and the last byte; an expand-down segment is what is above its
 * limit.
 */
static bool is_within_limit(u64 rights, u64 limit, u64 offset, u32 size)
{
	u32 type = HV_AR_TYPE(rights);
	u64 last = offset + size - 1;

	if (type & 8 || !(type & 4))
		return last <= limit;
	return offset > limit && last <= (rights & HV_AR_DB ? BITS(31, 0) : BITS(15, 0));
}

bool hv_operand_address(const struct hv_vcpu *vcpu, const struct hv_memory_operand *operand,
			bool write, u64 *linear, struct hv_fault *fault)
{
	u64 rights = vmcs_get(GUEST_ES_ACCESS_RIGHTS + 2 * operand->segment);
	u64 limit = vmcs_get(GUEST_ES_LIMIT + 2 * operand->segment);

	*fault = HV_FAULT_GP;
	if (operand->segment == SEGMENT_SS)
		fault->vector = VECTOR_SS;
	*linear = hv_linear(vcpu, operand->segment, operand->offset);
	if (hv_in_64_bit_mode(vcpu))
		return hv_may_be_used(*linear) && hv_may_be_used(*linear + operand->size - 1);
	return has_rights(rights, write) &&
	       is_within_limit(rights, limit, operand->offset, operand->size);
}

/*
 * Table 7-7, Alignment Requirements by Data Type. Vectors have rules of their own, which the
 * processor applies to the copy that it works on: native.c.
 */
static u32 alignment_of(u32 size)
{
	if (size == 10)
		return 8;
	return size <= 8 ? size : 1;
}

bool hv_is_misaligned(u64 linear, u32 size)
{
	const u64 needed = CR0_PE | CR0_AM;

	return linear % alignment_of(size) && hv_cpl() == 3 && (hv_cr0() & needed) == needed &&
	       vmcs_get(GUEST_RFLAGS) & RFLAGS_AC;
}
