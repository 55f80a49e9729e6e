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

/*
 * The place in the list for the next access, which is to be like `like`. `done`: it has been made
 * already, and user space has answered it. NULL: the list is full.
 */
static struct hv_access *next_access(struct job *job, struct hv_access like, bool *done)
{
	struct hv_emulation *emulation = &job->vcpu->emulation;
	struct hv_access *access = &emulation->done[emulation->next];

	if (emulation->next == HV_MAX_ACCESSES)
		return NULL;
	*done = emulation->next++ < emulation->count && access->gpa == like.gpa &&
		access->size == like.size && access->write == like.write;
	if (*done)
		return access;
	/* New; or another one than the first time, because user space has changed the guest. */
	emulation->count = emulation->next;
	*access = like;
	return access;
}

/* Within a page. An access that user space has answered is taken from the list. */
static enum step access_piece(struct job *job, u64 gpa, u8 *bytes, u32 size, bool write)
{
	const struct hv_access like = { .gpa = gpa, .size = size, .write = write };
	struct hv_access *access;
	u8 *memory;
	bool done;

	access = next_access(job, like, &done);
	if (!access)
		return STEP_UNKNOWN;
	if (done) {
		if (!write)
			memcpy(bytes, access->data, size);
		return STEP_DONE;
	}
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

static int complete_port(struct hv_vcpu *vcpu)
{
	struct hv_access *last = &vcpu->emulation.done[vcpu->emulation.count - 1];

	if (!last->write)
		memcpy(last->data, hv_port_data(vcpu), last->size);
	hv_emulate(vcpu);
	return 0;
}

enum step emu_port(struct job *job, const struct hv_port *port, u64 *value)
{
	const struct hv_access like = { .gpa = port->number, .size = port->size,
					.write = !port->in };
	struct hv_access *access;
	bool done;

	access = next_access(job, like, &done);
	if (!access)
		return STEP_UNKNOWN;
	if (done) {
		if (port->in)
			memcpy(value, access->data, port->size);
		return STEP_DONE;
	}
	if (!port->in)
		memcpy(hv_port_data(job->vcpu), value, port->size);
	hv_port_to_user(job->vcpu, port, 1, complete_port);
	return STEP_USER;
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
static bool translate(struct job *job, struct walk_access access, u32 size, u64 gpa[2])
{
	u64 linear = access.address, second = (linear + size - 1) & PAGE_MASK;

	if (!hv_in_64_bit_mode(job->vcpu))
		second &= BITS(31, 0);
	if (!hv_translate_access(job->vcpu, &access, &gpa[0], &job->fault))
		return false;
	if (second == (linear & PAGE_MASK))
		return true;
	access.address = second;
	return hv_translate_access(job->vcpu, &access, &gpa[1], &job->fault);
}

static enum step raise(struct job *job, struct hv_fault fault)
{
	job->fault = fault;
	return STEP_FAULT;
}

/* Where the operand is, if the instruction may use it. */
static enum step find_operand(struct job *job, const struct hv_memory_operand *operand,
			      enum access kind, u64 *linear, u64 gpa[2])
{
	if (!hv_operand_address(job->vcpu, operand, kind == ACCESS_WRITE, linear, &job->fault) ||
	    !translate(job, (struct walk_access){ .address = *linear, .kind = kind },
		       operand->size, gpa))
		return STEP_FAULT;
	if (hv_is_misaligned(*linear, operand->size))
		return raise(job, HV_FAULT_AC);
	return STEP_DONE;
}

enum step emu_check(struct job *job, struct hv_memory_operand operand, enum access kind)
{
	u64 linear, gpa[2];

	return find_operand(job, &operand, kind, &linear, gpa);
}

/* Pieces of at most 8 bytes, as wide as user space can answer. */
static enum step access_pieces(struct job *job, u64 linear, const u64 gpa[2], u8 *bytes, u32 size,
			       bool write)
{
	u32 done = 0, piece, first = PAGE_SIZE - (linear & ~PAGE_MASK);
	enum step step = STEP_DONE;

	note_breakpoints(job, linear, size, write);
	for (; done < size && step == STEP_DONE; done += piece) {
		u32 end = done < first && first < size ? first : size;

		piece = end - done < 8 ? end - done : 8;
		step = access_piece(job, done < first ? gpa[0] + done : gpa[1] + done - first,
				    bytes + done, piece, write);
	}
	return step;
}

enum step emu_access_bytes(struct job *job, struct hv_memory_operand operand, u8 *bytes,
			   enum access kind, bool write)
{
	u64 linear, gpa[2];
	enum step step = find_operand(job, &operand, kind, &linear, gpa);

	if (step != STEP_DONE)
		return step;
	return access_pieces(job, linear, gpa, bytes, operand.size, write);
}

/* 5.6.1: only a page of shadow stacks will do; segments and alignment have no say. */
enum step emu_shadow_access(struct job *job, u64 linear, u64 value, u32 size)
{
	const struct walk_access access = { .address = linear, .kind = ACCESS_WRITE,
					    .shadow_stack = true };
	u64 gpa[2];

	if (!translate(job, access, size, gpa))
		return STEP_FAULT;
	return access_pieces(job, linear, gpa, (u8 *)&value, size, true);
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
