/*
 * The emulator's accesses. Each is cut at page borders; what lies in memory is done here, the rest
 * goes to user space, one exit for each piece (struct hv_emulation).
 */
#include "hv/emulate.h"
#include "string.h"
#include "vmx/guest.h"

static int complete_mmio(struct hv_vcpu *vcpu)
{
	struct hv_access *last = &vcpu->emulation.done[vcpu->emulation.count - 1];

	if (!last->write)
		memcpy(last->data, vcpu->run->mmio.data, last->size);
	hv_emulate(vcpu);
	return 0;
}

static enum step mmio(struct hv_vcpu *vcpu, const struct hv_access *access)
{
	struct kvm_run *run = vcpu->run;

	run->mmio.phys_addr = access->gpa;
	run->mmio.len = access->size;
	run->mmio.is_write = access->write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (access->write)
		memcpy(run->mmio.data, access->data, access->size);
	hv_user(vcpu, KVM_EXIT_MMIO, complete_mmio);
	return STEP_USER;
}

static void local_apic(struct hv_vcpu *vcpu, struct hv_access *access, u8 *bytes)
{
	if (access->write) {
		hv_lapic_write(vcpu, access->gpa, bytes, access->size);
		return;
	}
	hv_lapic_read(vcpu, access->gpa, access->data, access->size);
	memcpy(bytes, access->data, access->size);
}

/* Within a page. An access that user space has answered is taken from the list. */
static enum step access_piece(struct job *job, u64 gpa, u8 *bytes, u32 size, bool write)
{
	struct hv_emulation *emulation = &job->vcpu->emulation;
	struct hv_access *access = &emulation->done[emulation->next];
	u8 *memory;

	if (emulation->next == HV_MAX_ACCESSES)
		return STEP_UNKNOWN;
	if (emulation->next++ < emulation->count && access->gpa == gpa && access->size == size &&
	    access->write == write) {
		if (!write)
			memcpy(bytes, access->data, size);
		return STEP_DONE;
	}
	/* New; or another one than the first time, because user space has changed the guest. */
	emulation->count = emulation->next;
	*access = (struct hv_access){ .gpa = gpa, .size = size, .write = write };
	if (hv_lapic_at(job->vcpu, gpa)) {
		local_apic(job->vcpu, access, bytes);
		return STEP_DONE;
	}
	memory = hv_memory(job->vcpu->vm, gpa, size, write);
	if (write)
		memcpy(access->data, bytes, size);
	else if (memory)
		memcpy(access->data, memory, size);
	if (!memory)
		return mmio(job->vcpu, access);
	memcpy(write ? memory : bytes, access->data, size);
	return STEP_DONE;
}

/* 20.2.5: a data breakpoint that the access meets is a trap behind the instruction. */
static void note_breakpoints(struct job *job, u64 linear, u32 size, bool write)
{
	job->hits |=
		hv_breakpoints(job->vcpu, write ? HV_BREAK_WRITE : HV_BREAK_READ, linear, size);
}

/*
 * Both pages of the operand, before anything is read or written: the fault of one leaves the other
 * alone.
 */
static bool translate(struct job *job, u64 linear, u32 size, enum access kind, u64 gpa[2])
{
	u64 second = (linear + size - 1) & PAGE_MASK;

	if (!hv_in_64_bit_mode(job->vcpu))
		second &= BITS(31, 0);
	if (!hv_translate(job->vcpu, linear, kind, &gpa[0], &job->fault))
		return false;
	if (second == (linear & PAGE_MASK))
		return true;
	return hv_translate(job->vcpu, second, kind, &gpa[1], &job->fault);
}

static enum step raise(struct job *job, struct hv_fault fault)
{
	job->fault = fault;
	return STEP_FAULT;
}

/* Pieces of at most 8 bytes, as wide as user space can answer. */
enum step emu_access_bytes(struct job *job, struct hv_memory_operand operand, u8 *bytes,
			   enum access kind, bool write)
{
	u32 done = 0, first, piece, size = operand.size;
	enum step step = STEP_DONE;
	u64 linear, gpa[2];

	if (!hv_operand_address(job->vcpu, &operand, kind == ACCESS_WRITE, &linear, &job->fault) ||
	    !translate(job, linear, size, kind, gpa))
		return STEP_FAULT;
	if (hv_is_misaligned(linear, size))
		return raise(job, HV_FAULT_AC);
	note_breakpoints(job, linear, size, write);
	first = PAGE_SIZE - (linear & ~PAGE_MASK);
	for (; done < size && step == STEP_DONE; done += piece) {
		u32 end = done < first && first < size ? first : size;

		piece = end - done < 8 ? end - done : 8;
		step = access_piece(job, done < first ? gpa[0] + done : gpa[1] + done - first,
				    bytes + done, piece, write);
	}
	return step;
}

enum step emu_access(struct job *job, struct hv_memory_operand operand, u64 *value,
		     enum access kind, bool write)
{
	u8 bytes[8] = { 0 };
	enum step step;

	memcpy(bytes, value, operand.size);
	step = emu_access_bytes(job, operand, bytes, kind, write);
	if (step != STEP_DONE)
		return step;
	*value = 0;
	memcpy(value, bytes, operand.size);
	return STEP_DONE;
}

static struct hv_memory_operand operand_of(const struct job *job)
{
	const struct hv_instruction *insn = &job->insn;

	return (struct hv_memory_operand){ insn->segment, insn->offset, insn->operand_size };
}

enum step emu_read_operand(struct job *job, u64 *value, bool written_later)
{
	*value = 0;
	return emu_access(job, operand_of(job), value, written_later ? ACCESS_WRITE : ACCESS_READ,
			  false);
}

enum step emu_write_operand(struct job *job, u64 value)
{
	return emu_access(job, operand_of(job), &value, ACCESS_WRITE, true);
}

/* --- registers --------------------------------------------------------------------- */

/* AH to BH are 4 to 7 of the byte registers where there is no REX prefix. */
static bool is_high_byte(const struct job *job, u32 number, u32 size)
{
	return size == 1 && !job->insn.rex && number >= 4 && number < 8;
}

u64 emu_get_register(struct job *job, u32 number, u32 size)
{
	u64 value = is_high_byte(job, number, size) ? hv_gpr(job->vcpu, number - 4) >> 8
						    : hv_gpr(job->vcpu, number);

	return size == 8 ? value : value & BITS(8 * size - 1, 0);
}

void emu_set_register(struct job *job, u32 number, u32 size, u64 value)
{
	u64 mask = size == 8 ? ~0ull : BITS(8 * size - 1, 0), old;
	u32 shift = 0;

	/* A 32-bit result clears bits 63:32. */
	if (size == 4)
		mask = ~0ull;
	if (size == 4)
		value &= BITS(31, 0);
	if (is_high_byte(job, number, size)) {
		number -= 4;
		shift = 8;
	}
	old = hv_gpr(job->vcpu, number);
	hv_set_gpr(job->vcpu, number, (old & ~(mask << shift)) | (value & mask) << shift);
}

u32 emu_modrm_register(const struct job *job)
{
	return (job->insn.modrm >> 3 & 7) | (job->insn.rex & 4) << 1;
}

void emu_move_register(struct job *job, u32 number, u64 by)
{
	u32 size = job->insn.address_size;

	emu_set_register(job, number, size, emu_get_register(job, number, size) + by);
}
