/* From linear to guest-physical addresses, by the model of paging: mmu/walk.h. */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

/* What is outside the slots reads as a bus does that nobody answers on: all ones. */
u64 hv_walk_read(void *vcpu, u64 gpa, u32 size)
{
	u8 *memory = hv_memory(((struct hv_vcpu *)vcpu)->vm, gpa, size, false);
	u64 entry = BITS(8 * size - 1, 0);

	if (memory)
		memcpy(&entry, memory, size);
	return entry;
}

void hv_walk_cpu(const struct hv_vcpu *vcpu, struct walk_cpu *cpu)
{
	u32 i;

	*cpu = (struct walk_cpu){
		.cr0 = hv_cr0(), .cr3 = hv_cr3(vcpu), .cr4 = hv_cr4(),
		.efer = hv_efer(vcpu), .rflags = vmcs_get(GUEST_RFLAGS),
		.cpl = hv_cpl(), .physical_bits = vcpu->widths.physical,
		.pages_1g = vcpu->widths.pages_1g, .pse36 = vcpu->widths.pse36,
		.pat = vcpu->widths.pat,
		/* 5.8: every write sets D. That CET rules it out where R/W = 0 is about races. */
		.cet_ss = false,
	};
	if (cpu->cr4 & CR4_PKE)
		cpu->pkru = hv_pkru(vcpu);
	if (cpu->cr4 & CR4_PKS)
		cpu->pkrs = vmcs_get(GUEST_IA32_PKRS);
	for (i = 0; i < 4; i++)
		cpu->pdpte[i] = hv_pdpte(vcpu, i);
}

/* As the processor does it: in one locked step, and only if the entry is still what was used. */
static bool set_flags_of(struct hv_vm *vm, const struct walk_step *step, bool entry_32_bit)
{
	struct hv_slot *slot = hv_slot_at(vm, step->address);
	u8 *entry = hv_memory(vm, step->address, 4, false);
	u64 before = step->value;

	if (!(step->must_set & ~step->value))
		return true;
	/* What cannot be written keeps its flags. */
	if (!entry || slot->region.flags & KVM_MEM_READONLY)
		return true;
	hv_mark_dirty(slot, step->address);
	if (entry_32_bit)
		return __sync_bool_compare_and_swap((u32 *)entry, (u32)before,
						    (u32)(before | step->must_set));
	return __sync_bool_compare_and_swap((u64 *)entry, before, before | step->must_set);
}

bool hv_set_flags(struct hv_vcpu *vcpu, const struct walk_result *result)
{
	u32 i;

	for (i = 0; i < result->steps; i++)
		if (!set_flags_of(vcpu->vm, &result->step[i], result->mode == PAGING_32_BIT))
			return false;
	return true;
}

bool hv_translate_access(struct hv_vcpu *vcpu, const struct walk_access *access, u64 *gpa,
			 struct hv_fault *fault)
{
	struct walk_result result;
	struct walk_cpu cpu;

	hv_walk_cpu(vcpu, &cpu);
	do
		result = walk(&cpu, access, hv_walk_read, vcpu);
	while (result.kind == WALK_DONE && !hv_set_flags(vcpu, &result));
	if (result.kind == WALK_DONE) {
		*gpa = result.physical;
		return true;
	}
	*fault = HV_FAULT_GP;
	if (result.kind == WALK_PAGE_FAULT)
		*fault = (struct hv_fault){ .vector = VECTOR_PF, .has_error = true,
					    .error = result.error_code,
					    .cr2 = access->address };
	return false;
}

bool hv_translate(struct hv_vcpu *vcpu, u64 linear, enum access kind, u64 *gpa,
		  struct hv_fault *fault)
{
	const struct walk_access access = { .address = linear, .kind = kind };

	return hv_translate_access(vcpu, &access, gpa, fault);
}

int hv_vcpu_translate(struct hv_vcpu *vcpu, struct kvm_translation *translation)
{
	const struct walk_access access = { .address = translation->linear_address,
					    .kind = ACCESS_READ, .implicit = true };
	struct walk_result result;
	struct walk_cpu cpu;

	hv_load(vcpu);
	hv_walk_cpu(vcpu, &cpu);
	result = walk(&cpu, &access, hv_walk_read, vcpu);
	translation->valid = result.kind == WALK_DONE;
	translation->physical_address = translation->valid ? result.physical : ~0ull;
	translation->writeable = 1;
	translation->usermode = 0;
	return 0;
}

/* The bytes from `address` to the end of its page, at most `size`. */
static u32 piece_of(u64 address, u32 size)
{
	u32 rest = PAGE_SIZE - (address & ~PAGE_MASK);

	return size < rest ? size : rest;
}

enum hv_copy hv_copy(struct hv_vcpu *vcpu, u64 linear, void *bytes, u32 size, enum access kind,
		     struct hv_fault *fault)
{
	u8 *at = bytes;
	u32 piece;

	for (; size; linear += piece, size -= piece) {
		u8 *memory;
		u64 gpa;

		if (!hv_in_64_bit_mode(vcpu))
			linear &= BITS(31, 0);
		piece = piece_of(linear, size);
		if (!hv_translate(vcpu, linear, kind, &gpa, fault))
			return HV_COPY_FAULT;
		memory = hv_memory(vcpu->vm, gpa, piece, kind == ACCESS_WRITE);
		if (!memory)
			return HV_COPY_NO_MEMORY;
		if (!bytes)
			continue;
		if (kind == ACCESS_WRITE)
			memcpy(memory, at, piece);
		else
			memcpy(at, memory, piece);
		at += piece;
	}
	return HV_COPIED;
}

#define LONGEST_INSTRUCTION	15

bool hv_is_on_instruction(const struct hv_vcpu *vcpu, u64 linear)
{
	u64 rip = hv_linear(vcpu, SEGMENT_CS, vmcs_get(GUEST_RIP));

	return linear == rip || (linear - rip < LONGEST_INSTRUCTION && !(linear & ~PAGE_MASK));
}

u32 hv_fetch(struct hv_vcpu *vcpu, u8 bytes[15])
{
	u64 linear = hv_linear(vcpu, SEGMENT_CS, vmcs_get(GUEST_RIP));
	u32 first = piece_of(linear, 15);
	struct hv_fault fault;

	if (hv_copy(vcpu, linear, bytes, first, ACCESS_FETCH, &fault) != HV_COPIED)
		return 0;
	if (first < 15 && hv_copy(vcpu, linear + first, bytes + first, 15 - first, ACCESS_FETCH,
				  &fault) == HV_COPIED)
		return 15;
	return first;
}
