/*
 * Emulates the instructions that access MMIO, that is, guest-physical addresses outside the slots
 * and read-only slots for writes. Each access is cut at page borders; what lies in memory is done
 * here, the rest goes to user space, one exit for each piece (struct hv_emulation).
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* How the emulation of an instruction goes on. */
enum step { STEP_DONE, STEP_FAULT, STEP_USER, STEP_UNKNOWN };

struct job {
	struct hv_vcpu *vcpu;
	struct hv_instruction insn;
	struct hv_fault fault;
	u64 flags;
	u64 jump;		/* from the next instruction to the one that follows */
	u64 hits;		/* breakpoints met: bits 3:0 as in DR6 */
};

/* --- accesses -------------------------------------------------------------------- */

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
	job->hits |= hv_breakpoints(job->vcpu, write ? HV_BREAK_WRITE : HV_BREAK_READ, linear, size);
}

/*
 * Pieces of at most 8 bytes, as wide as user space can answer. `kind`: ACCESS_WRITE also for the
 * read of an operand that will be written.
 */
static enum step access_bytes(struct job *job, u64 linear, u8 *bytes, u32 size, enum access kind,
			      bool write)
{
	u32 done = 0, piece;

	note_breakpoints(job, linear, size, write);
	for (; done < size; done += piece) {
		u64 at = linear + done, rest = PAGE_SIZE - (at & ~PAGE_MASK), gpa;
		enum step step;

		piece = size - done < 8 ? size - done : 8;
		if (piece > rest)
			piece = rest;
		if (!hv_translate(job->vcpu, at, kind, &gpa, &job->fault))
			return STEP_FAULT;
		step = access_piece(job, gpa, bytes + done, piece, write);
		if (step != STEP_DONE)
			return step;
	}
	return STEP_DONE;
}

static enum step access_linear(struct job *job, u64 linear, u64 *value, u32 size, enum access kind,
			       bool write)
{
	u8 bytes[8] = { 0 };
	enum step step;

	memcpy(bytes, value, size);
	step = access_bytes(job, linear, bytes, size, kind, write);
	if (step != STEP_DONE)
		return step;
	*value = 0;
	memcpy(value, bytes, size);
	return STEP_DONE;
}

static u64 operand_address(const struct job *job)
{
	return hv_linear(job->vcpu, job->insn.segment, job->insn.offset);
}

static enum step read_operand(struct job *job, u64 *value, bool written_later)
{
	*value = 0;
	return access_linear(job, operand_address(job), value, job->insn.operand_size,
			     written_later ? ACCESS_WRITE : ACCESS_READ, false);
}

static enum step write_operand(struct job *job, u64 value)
{
	return access_linear(job, operand_address(job), &value, job->insn.operand_size,
			     ACCESS_WRITE, true);
}

/* --- registers --------------------------------------------------------------------- */

/* AH to BH are 4 to 7 of the byte registers where there is no REX prefix. */
static bool is_high_byte(const struct job *job, u32 number, u32 size)
{
	return size == 1 && !job->insn.rex && number >= 4 && number < 8;
}

static u64 get_register(struct job *job, u32 number, u32 size)
{
	u64 value = is_high_byte(job, number, size) ? hv_gpr(job->vcpu, number - 4) >> 8 :
		    hv_gpr(job->vcpu, number);

	return size == 8 ? value : value & BITS(8 * size - 1, 0);
}

static void set_register(struct job *job, u32 number, u32 size, u64 value)
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

static u32 modrm_register(const struct job *job)
{
	return (job->insn.modrm >> 3 & 7) | (job->insn.rex & 4) << 1;
}

/* Adds to a register as wide as addresses are. */
static void move_register(struct job *job, u32 number, u64 by)
{
	u32 size = job->insn.address_size;

	set_register(job, number, size, get_register(job, number, size) + by);
}

/* --- instructions ------------------------------------------------------------------- */

static enum step load(struct job *job, u32 number, u32 from_size, bool is_signed)
{
	u32 to_size = job->insn.operand_size, shift = 64 - 8 * from_size;
	enum step step;
	u64 value;

	job->insn.operand_size = from_size;
	step = read_operand(job, &value, false);
	if (step == STEP_DONE)
		set_register(job, number, to_size,
			     is_signed ? (u64)((s64)(value << shift) >> shift) : value);
	return step;
}

static enum step store(struct job *job, u64 value)
{
	return write_operand(job, value);
}

/* `memory` is the left operand. */
static enum step alu_to_memory(struct job *job, u32 operation, u64 from)
{
	bool writes = operation != ALU_CMP;
	enum step step;
	u64 value;

	step = read_operand(job, &value, writes);
	if (step != STEP_DONE)
		return step;
	value = hv_alu(operation, job->insn.operand_size, value, from, &job->flags);
	return writes ? write_operand(job, value) : STEP_DONE;
}

static enum step alu_to_register(struct job *job, u32 operation)
{
	u32 number = modrm_register(job), size = job->insn.operand_size;
	enum step step;
	u64 value;

	step = read_operand(job, &value, false);
	if (step != STEP_DONE)
		return step;
	value = hv_alu(operation, size, get_register(job, number, size), value, &job->flags);
	if (operation != ALU_CMP)
		set_register(job, number, size, value);
	return STEP_DONE;
}

static enum step test(struct job *job, u64 with)
{
	enum step step;
	u64 value;

	step = read_operand(job, &value, false);
	if (step == STEP_DONE)
		hv_alu(ALU_AND, job->insn.operand_size, value, with, &job->flags);
	return step;
}

/* INC and DEC leave CF as it is. */
static enum step step_by_one(struct job *job, u32 operation)
{
	u64 carry = job->flags & RFLAGS_CF;
	enum step step = alu_to_memory(job, operation, 1);

	job->flags = (job->flags & ~(u64)RFLAGS_CF) | carry;
	return step;
}

static enum step not_or_neg(struct job *job, bool neg)
{
	enum step step;
	u64 value;

	step = read_operand(job, &value, true);
	if (step != STEP_DONE)
		return step;
	value = neg ? hv_alu(ALU_SUB, job->insn.operand_size, 0, value, &job->flags) : ~value;
	return write_operand(job, value);
}

static enum step exchange(struct job *job)
{
	u32 number = modrm_register(job), size = job->insn.operand_size;
	enum step step;
	u64 value;

	step = read_operand(job, &value, true);
	if (step == STEP_DONE)
		step = write_operand(job, get_register(job, number, size));
	if (step == STEP_DONE)
		set_register(job, number, size, value);
	return step;
}

/* The memory is written in any case: with what it held when it is not equal. */
static enum step compare_and_exchange(struct job *job)
{
	u32 size = job->insn.operand_size;
	u64 accumulator = get_register(job, GPR_RAX, size), value;
	enum step step;
	bool equal;

	step = read_operand(job, &value, true);
	if (step != STEP_DONE)
		return step;
	hv_alu(ALU_CMP, size, accumulator, value, &job->flags);
	equal = accumulator == value;
	step = write_operand(job, equal ? get_register(job, modrm_register(job), size) : value);
	if (step == STEP_DONE && !equal)
		set_register(job, GPR_RAX, size, value);
	return step;
}

/* One element of MOVS, STOS or LODS. */
static enum step string_element(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u32 size = insn->operand_size;
	u64 by = job->flags & RFLAGS_DF ? -(u64)size : size;
	u64 source = hv_linear(job->vcpu, insn->segment, get_register(job, GPR_RSI, insn->address_size));
	u64 target = hv_linear(job->vcpu, SEGMENT_ES, get_register(job, GPR_RDI, insn->address_size));
	bool stos = insn->opcode >> 1 == 0xaa >> 1, lods = insn->opcode >> 1 == 0xac >> 1;
	u64 value = get_register(job, GPR_RAX, size);
	enum step step = STEP_DONE;

	if (!stos)
		step = access_linear(job, source, &value, size, ACCESS_READ, false);
	if (step == STEP_DONE && !lods)
		step = access_linear(job, target, &value, size, ACCESS_WRITE, true);
	if (step != STEP_DONE)
		return step;
	if (lods)
		set_register(job, GPR_RAX, size, value);
	if (!stos)
		move_register(job, GPR_RSI, by);
	if (!lods)
		move_register(job, GPR_RDI, by);
	return STEP_DONE;
}

/* With REP the instruction is not over before RCX is 0; the guest itself goes on with the rest. */
static enum step string(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	enum step step;

	if (!insn->rep)
		return string_element(job);
	if (!get_register(job, GPR_RCX, insn->address_size))
		return STEP_DONE;
	step = string_element(job);
	if (step != STEP_DONE)
		return step;
	move_register(job, GPR_RCX, -1ull);
	if (get_register(job, GPR_RCX, insn->address_size))
		insn->length = 0;
	return STEP_DONE;
}

/* Opcodes F6, F7, FE, FF: ModRM.reg says which. */
static enum step group_of_one(struct job *job)
{
	u32 which = (job->insn.opcode & 8) | (job->insn.modrm >> 3 & 7);

	switch (which) {
	case 0: case 1:
		return test(job, job->insn.immediate);
	case 2: case 3:
		return not_or_neg(job, which == 3);
	case 8: case 9:
		return step_by_one(job, which == 8 ? ALU_ADD : ALU_SUB);
	default:
		return STEP_UNKNOWN;
	}
}

/* CMPS and SCAS: RSI or the accumulator against RDI. ZF ends a repetition. */
static enum step compare_element(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u32 size = insn->operand_size;
	bool scas = insn->opcode >> 1 == 0xae >> 1;
	u64 by = job->flags & RFLAGS_DF ? -(u64)size : size;
	u64 left = get_register(job, GPR_RAX, size), right = 0, flags = job->flags;
	enum step step = STEP_DONE;

	if (!scas)
		step = access_linear(job, hv_linear(job->vcpu, insn->segment,
						    get_register(job, GPR_RSI, insn->address_size)),
				     &left, size, ACCESS_READ, false);
	if (step == STEP_DONE)
		step = access_linear(job, hv_linear(job->vcpu, SEGMENT_ES,
						    get_register(job, GPR_RDI, insn->address_size)),
				     &right, size, ACCESS_READ, false);
	if (step != STEP_DONE)
		return step;
	hv_alu(ALU_CMP, size, left, right, &flags);
	job->flags = flags;
	if (!scas)
		move_register(job, GPR_RSI, by);
	move_register(job, GPR_RDI, by);
	return STEP_DONE;
}

static enum step compare_string(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	bool while_equal = insn->prefix == 0xf3;
	enum step step;

	if (insn->rep && !get_register(job, GPR_RCX, insn->address_size))
		return STEP_DONE;
	step = compare_element(job);
	if (step != STEP_DONE || !insn->rep)
		return step;
	move_register(job, GPR_RCX, -1ull);
	if (get_register(job, GPR_RCX, insn->address_size) &&
	    !(job->flags & RFLAGS_ZF) == !while_equal)
		insn->length = 0;
	return STEP_DONE;
}

/* --- the stack and instruction pointers -------------------------------------------------------- */

static u32 stack_size(const struct job *job)
{
	if (hv_in_64_bit_mode(job->vcpu))
		return 8;
	return vmcs_get(GUEST_SS_ACCESS_RIGHTS) & HV_AR_DB ? 4 : 2;
}

/* Bytes that PUSH and POP move: in 64-bit mode 8 or 2. */
static u32 push_size(const struct job *job)
{
	u32 size = job->insn.operand_size;

	return hv_in_64_bit_mode(job->vcpu) && size == 4 ? 8 : size;
}

static void move_stack(struct job *job, u64 by)
{
	set_register(job, GPR_RSP, stack_size(job), hv_gpr(job->vcpu, GPR_RSP) + by);
}

static enum step push(struct job *job, u64 value, u32 size)
{
	u64 top = hv_gpr(job->vcpu, GPR_RSP) - size;
	enum step step;

	if (stack_size(job) < 8)
		top &= BITS(8 * stack_size(job) - 1, 0);
	step = access_linear(job, hv_linear(job->vcpu, SEGMENT_SS, top), &value, size, ACCESS_WRITE,
			     true);
	if (step == STEP_DONE)
		move_stack(job, -(u64)size);
	return step;
}

static enum step pop_to_memory(struct job *job)
{
	u64 top = hv_gpr(job->vcpu, GPR_RSP), value = 0;
	u32 size = push_size(job);
	enum step step;

	if (stack_size(job) < 8)
		top &= BITS(8 * stack_size(job) - 1, 0);
	job->insn.operand_size = size;
	/* Volume 2, POP: an address with RSP is computed with its value behind the pop. */
	if (job->insn.modrm & 7 && (job->insn.modrm & 7) == 4)
		return STEP_UNKNOWN;
	step = access_linear(job, hv_linear(job->vcpu, SEGMENT_SS, top), &value, size, ACCESS_READ,
			     false);
	if (step == STEP_DONE)
		step = write_operand(job, value);
	if (step == STEP_DONE)
		move_stack(job, size);
	return step;
}

/* CALL, JMP and PUSH with a memory operand: FFH, ModRM.reg 2, 4, 6. */
static enum step indirect(struct job *job, u32 reg)
{
	u32 size = job->insn.operand_size = push_size(job);
	u64 value, next = vmcs_get(GUEST_RIP) + job->insn.length;
	enum step step = read_operand(job, &value, false);

	if (step == STEP_DONE && reg == 6)
		return push(job, value, size);
	if (step == STEP_DONE && size == 8 && !hv_is_canonical(value)) {
		job->fault = HV_FAULT_GP;
		return STEP_FAULT;
	}
	if (step == STEP_DONE && reg == 2)
		step = push(job, next, size);
	if (step == STEP_DONE)
		job->jump = value - next;
	return step;
}

/* Executed by the processor itself on a copy of the operand. */
static enum step native(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u8 operand[HV_NATIVE_SIZE] = { 0 };
	u32 size, reg = modrm_register(job);
	enum hv_operand access = hv_native_operand(insn, &size);
	u64 number = hv_gpr(job->vcpu, reg), linear;
	bool by_bit_number = insn->opcode == 0x0fa3 || insn->opcode == 0x0fab ||
			     insn->opcode == 0x0fb3 || insn->opcode == 0x0fbb;
	enum step step = STEP_DONE;
	bool done;

	if (access == HV_OPERAND_UNKNOWN)
		return STEP_UNKNOWN;
	/* Volume 2, BT: a bit number in a register reaches beyond the operand. */
	if (by_bit_number) {
		u32 shift = 64 - 8 * size;

		insn->offset += ((s64)(number << shift) >> shift >> (size == 8 ? 6 : size == 4 ? 5 : 4)) *
				size;
		if (insn->address_size < 8)
			insn->offset &= BITS(8 * insn->address_size - 1, 0);
	}
	linear = operand_address(job);
	if (access != HV_OPERAND_WRITE)
		step = access_bytes(job, linear, operand, size,
				    access == HV_OPERAND_MODIFY ? ACCESS_WRITE : ACCESS_READ, false);
	if (step != STEP_DONE)
		return step;
	/* Only the last run counts: until then the registers stay as they are. */
	if (access != HV_OPERAND_READ) {
		const struct general_registers before = job->vcpu->state.regs;
		u64 flags = job->flags;

		if (by_bit_number)
			hv_set_gpr(job->vcpu, reg, number & (8 * size - 1));
		done = hv_native_run(job->vcpu, insn, operand, &job->flags, &job->fault);
		if (by_bit_number)
			hv_set_gpr(job->vcpu, reg, number);
		step = done ? access_bytes(job, linear, operand, size, ACCESS_WRITE, true) : STEP_FAULT;
		if (step != STEP_DONE) {
			job->vcpu->state.regs = before;
			job->flags = flags;
		}
		return step;
	}
	if (by_bit_number)
		hv_set_gpr(job->vcpu, reg, number & (8 * size - 1));
	done = hv_native_run(job->vcpu, insn, operand, &job->flags, &job->fault);
	if (by_bit_number)
		hv_set_gpr(job->vcpu, reg, number);
	return done ? STEP_DONE : STEP_FAULT;
}

static enum step execute(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u32 size = insn->operand_size, reg = modrm_register(job);

	if (insn->vex)
		return native(job);
	if (insn->is_string && (insn->opcode & ~9u) == 0xa6)
		return compare_string(job);
	if (insn->is_string)
		return insn->opcode >= 0xa4 ? string(job) : STEP_UNKNOWN;
	if (insn->opcode < 0x40 && insn->opcode & 2)
		return alu_to_register(job, insn->opcode >> 3);
	if (insn->opcode < 0x40)
		return alu_to_memory(job, insn->opcode >> 3, get_register(job, reg, size));
	switch (insn->opcode) {
	case 0x80: case 0x81: case 0x83:
		return alu_to_memory(job, reg & 7, insn->immediate);
	case 0x84: case 0x85:
		return test(job, get_register(job, reg, size));
	case 0x86: case 0x87:
		return exchange(job);
	case 0x88: case 0x89:
		return store(job, get_register(job, reg, size));
	case 0x8a: case 0x8b:
		return load(job, reg, size, false);
	case 0xa0: case 0xa1:
		return load(job, GPR_RAX, size, false);
	case 0xa2: case 0xa3:
		return store(job, get_register(job, GPR_RAX, size));
	case 0xc6: case 0xc7:
		return reg & 7 ? STEP_UNKNOWN : store(job, insn->immediate);
	case 0x8c:
		insn->operand_size = 2;
		return reg < 6 ? store(job, vmcs_get(GUEST_ES_SELECTOR + 2 * reg)) : STEP_UNKNOWN;
	case 0x8f:
		return reg & 7 ? STEP_UNKNOWN : pop_to_memory(job);
	case 0xf6: case 0xf7:
		return (reg & 7) >= 4 ? native(job) : group_of_one(job);
	case 0xff:
		if ((reg & 7) == 2 || (reg & 7) == 4 || (reg & 7) == 6)
			return indirect(job, reg & 7);
		return group_of_one(job);
	case 0xfe:
		return group_of_one(job);
	case 0x63:
		return load(job, reg, size < 4 ? size : 4, true);
	case 0x0fb0: case 0x0fb1:
		return compare_and_exchange(job);
	case 0x0fb6: case 0x0fbe:
		return load(job, reg, 1, insn->opcode == 0x0fbe);
	case 0x0fb7: case 0x0fbf:
		return load(job, reg, 2, insn->opcode == 0x0fbf);
	default:
		return native(job);
	}
}

enum hv_next hv_emulate(struct hv_vcpu *vcpu)
{
	struct job job = { .vcpu = vcpu, .flags = vmcs_get(GUEST_RFLAGS) };
	enum step step;

	vcpu->emulation.next = 0;
	step = hv_decode(vcpu, &job.insn) ? execute(&job) : STEP_UNKNOWN;
	if (step == STEP_USER)
		return HV_USER;
	vcpu->emulation.count = 0;
	switch (step) {
	case STEP_FAULT:
		hv_inject(vcpu, job.fault);
		return HV_GUEST;
	case STEP_UNKNOWN:
		return hv_emulation_failure(vcpu);
	default:
		vmcs_put(GUEST_RFLAGS, job.flags);
		/* An instruction that repeats is not over. */
		if (job.insn.length)
			hv_skip(vcpu, job.insn.length + job.jump);
		else
			vmcs_put(GUEST_RFLAGS, job.flags | RFLAGS_RF);
		hv_add_pending_debug(job.hits);
		return HV_GUEST;
	}
}
