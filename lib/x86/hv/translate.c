/* From linear to guest-physical addresses, by the model of paging: mmu/walk.h. */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

/* What is outside the slots, or not readable, is an entry that is not present. */
static u64 read_entry(void *vcpu, u64 gpa, u32 size)
{
	u8 *memory = hv_memory(((struct hv_vcpu *)vcpu)->vm, gpa, size, false);
	u64 entry = 0;

	if (memory)
		memcpy(&entry, memory, size);
	return entry;
}

static void fill_cpu(const struct hv_vcpu *vcpu, struct walk_cpu *cpu)
{
	u32 i;

	*cpu = (struct walk_cpu){
		.cr0 = hv_cr0(), .cr3 = hv_cr3(vcpu), .cr4 = hv_cr4(),
		.efer = hv_efer(vcpu), .rflags = vmcs_get(GUEST_RFLAGS),
		.cpl = hv_cpl(), .physical_bits = vcpu->vm->physical_bits,
		.pages_1g = vcpu->vm->pages_1g, .pse36 = true, .pat = true,
		.cet_ss = vcpu->vm->cet_ss,
	};
	for (i = 0; i < 4; i++)
		cpu->pdpte[i] = hv_pdpte(vcpu, i);
}

/* 5.8 Accessed and Dirty Flags: the processor would set them. */
static void set_flags(struct hv_vcpu *vcpu, const struct walk_result *result)
{
	u32 i;

	for (i = 0; i < result->steps; i++) {
		const struct walk_step *step = &result->step[i];
		u8 *entry;

		if (!(step->must_set & ~step->value))
			continue;
		/* Both flags are in bits 7:0. */
		entry = hv_memory(vcpu->vm, step->address, 1, true);
		if (entry)
			*entry |= step->must_set;
	}
}

bool hv_translate(struct hv_vcpu *vcpu, u64 linear, enum access kind, u64 *gpa,
		  struct hv_fault *fault)
{
	const struct walk_access access = { .address = linear, .kind = kind };
	struct walk_result result;
	struct walk_cpu cpu;

	fill_cpu(vcpu, &cpu);
	result = walk(&cpu, &access, read_entry, vcpu);
	if (result.kind == WALK_DONE) {
		set_flags(vcpu, &result);
		*gpa = result.physical;
		return true;
	}
	*fault = HV_FAULT_GP;
	if (result.kind == WALK_PAGE_FAULT)
		*fault = (struct hv_fault){ .vector = VECTOR_PF, .has_error = true,
					    .error = result.error_code, .cr2 = linear };
	return false;
}

int hv_vcpu_translate(struct hv_vcpu *vcpu, struct kvm_translation *translation)
{
	const struct walk_access access = { .address = translation->linear_address,
					    .kind = ACCESS_READ, .implicit = true };
	struct walk_result result;
	struct walk_cpu cpu;

	hv_load(vcpu);
	fill_cpu(vcpu, &cpu);
	result = walk(&cpu, &access, read_entry, vcpu);
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
