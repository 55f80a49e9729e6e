/*
 * Emulates the instructions that access MMIO, that is, guest-physical addresses outside the slots
 * and read-only slots for writes.
 */
#include "hv/emulate.h"
#include "vmx/guest.h"

static enum step load(struct job *job, u32 number, u32 from_size, bool is_signed)
{
	u32 to_size = job->insn.operand_size, shift = 64 - 8 * from_size;
	enum step step;
	u64 value;

	job->insn.operand_size = from_size;
	step = emu_read_operand(job, &value, false);
	if (step == STEP_DONE)
		emu_set_register(job, number, to_size,
				 is_signed ? (u64)((s64)(value << shift) >> shift) : value);
	return step;
}

static enum step store(struct job *job, u64 value)
{
	return emu_write_operand(job, value);
}

/* `memory` is the left operand. */
static enum step alu_to_memory(struct job *job, u32 operation, u64 from)
{
	bool writes = operation != ALU_CMP;
	enum step step;
	u64 value;

	step = emu_read_operand(job, &value, writes);
	if (step != STEP_DONE)
		return step;
	value = hv_alu(operation, job->insn.operand_size, value, from, &job->flags);
	return writes ? emu_write_operand(job, value) : STEP_DONE;
}

static enum step alu_to_register(struct job *job, u32 operation)
{
	u32 number = emu_modrm_register(job), size = job->insn.operand_size;
	enum step step;
	u64 value;

	step = emu_read_operand(job, &value, false);
	if (step != STEP_DONE)
		return step;
	value = hv_alu(operation, size, emu_get_register(job, number, size), value, &job->flags);
	if (operation != ALU_CMP)
		emu_set_register(job, number, size, value);
	return STEP_DONE;
}

static enum step test(struct job *job, u64 with)
{
	enum step step;
	u64 value;

	step = emu_read_operand(job, &value, false);
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

	step = emu_read_operand(job, &value, true);
	if (step != STEP_DONE)
		return step;
	value = neg ? hv_alu(ALU_SUB, job->insn.operand_size, 0, value, &job->flags) : ~value;
	return emu_write_operand(job, value);
}

static enum step exchange(struct job *job)
{
	u32 number = emu_modrm_register(job), size = job->insn.operand_size;
	enum step step;
	u64 value;

	step = emu_read_operand(job, &value, true);
	if (step == STEP_DONE)
		step = emu_write_operand(job, emu_get_register(job, number, size));
	if (step == STEP_DONE)
		emu_set_register(job, number, size, value);
	return step;
}

/* The memory is written in any case: with what it held when it is not equal. */
static enum step compare_and_exchange(struct job *job)
{
	u32 size = job->insn.operand_size;
	u64 accumulator = emu_get_register(job, GPR_RAX, size), value;
	enum step step;
	bool equal;

	step = emu_read_operand(job, &value, true);
	if (step != STEP_DONE)
		return step;
	hv_alu(ALU_CMP, size, accumulator, value, &job->flags);
	equal = accumulator == value;
	step = emu_write_operand(job, equal ? emu_get_register(job, emu_modrm_register(job), size)
					    : value);
	if (step == STEP_DONE && !equal)
		emu_set_register(job, GPR_RAX, size, value);
	return step;
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

/* Executed by the processor itself on a copy of the operand. */
static enum step native(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u8 operand[HV_NATIVE_SIZE] = { 0 };
	u32 size, reg = emu_modrm_register(job);
	enum hv_operand access = hv_native_operand(insn, &size);
	u64 number = hv_gpr(job->vcpu, reg);
	bool by_bit_number = insn->opcode == 0x0fa3 || insn->opcode == 0x0fab ||
			     insn->opcode == 0x0fb3 || insn->opcode == 0x0fbb;
	struct hv_memory_operand at;
	enum step step = STEP_DONE;
	bool done;

	if (access == HV_OPERAND_UNKNOWN)
		return STEP_UNKNOWN;
	/* Volume 2, BT: a bit number in a register reaches beyond the operand. */
	if (by_bit_number) {
		u32 shift = 64 - 8 * size;

		insn->offset += ((s64)(number << shift) >> shift >> (size == 8   ? 6
								     : size == 4 ? 5
										 : 4)) *
				size;
		if (insn->address_size < 8)
			insn->offset &= BITS(8 * insn->address_size - 1, 0);
	}
	at = (struct hv_memory_operand){ insn->segment, insn->offset, size };
	if (access != HV_OPERAND_WRITE)
		step = emu_access_bytes(job, at, operand,
					access == HV_OPERAND_MODIFY ? ACCESS_WRITE : ACCESS_READ,
					false);
	if (step != STEP_DONE)
		return step;
	/* Only the last run counts: until then the registers stay as they are. */
	if (access != HV_OPERAND_READ) {
		const struct general_registers before = job->vcpu->state.regs;
		u64 flags = job->flags;
		struct hv_x87 x87;

		if (hv_is_x87(insn))
			hv_x87_save(&x87);
		if (by_bit_number)
			hv_set_gpr(job->vcpu, reg, number & (8 * size - 1));
		done = hv_native_run(job->vcpu, insn, operand, &job->flags, &job->fault);
		if (by_bit_number)
			hv_set_gpr(job->vcpu, reg, number);
		if (!done)
			step = STEP_FAULT;
		else if (hv_is_x87(insn) && !hv_x87_has_stored(&x87))
			step = emu_check(job, at, ACCESS_WRITE);
		else
			step = emu_access_bytes(job, at, operand, ACCESS_WRITE, true);
		if (step != STEP_DONE) {
			job->vcpu->state.regs = before;
			job->flags = flags;
			if (hv_is_x87(insn))
				hv_x87_restore(&x87);
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
	u32 size = insn->operand_size, reg = emu_modrm_register(job);

	if (insn->vex)
		return native(job);
	if (insn->is_string && (insn->opcode & ~9u) == 0xa6)
		return emu_compare_string(job);
	if (insn->is_string)
		return insn->opcode >= 0xa4 ? emu_string(job) : emu_port_string(job);
	if (insn->opcode < 0x40 && insn->opcode & 2)
		return alu_to_register(job, insn->opcode >> 3);
	if (insn->opcode < 0x40)
		return alu_to_memory(job, insn->opcode >> 3, emu_get_register(job, reg, size));
	switch (insn->opcode) {
	case 0x80: case 0x81: case 0x83:
		return alu_to_memory(job, reg & 7, insn->immediate);
	case 0x84: case 0x85:
		return test(job, emu_get_register(job, reg, size));
	case 0x86: case 0x87:
		return exchange(job);
	case 0x88: case 0x89:
		return store(job, emu_get_register(job, reg, size));
	case 0x8a: case 0x8b:
		return load(job, reg, size, false);
	case 0xa0: case 0xa1:
		return load(job, GPR_RAX, size, false);
	case 0xa2: case 0xa3:
		return store(job, emu_get_register(job, GPR_RAX, size));
	case 0xc6: case 0xc7:
		return reg & 7 ? STEP_UNKNOWN : store(job, insn->immediate);
	case 0x8c:
		insn->operand_size = 2;
		return reg < 6 ? store(job, vmcs_get(GUEST_ES_SELECTOR + 2 * reg)) : STEP_UNKNOWN;
	case 0x8f:
		return reg & 7 ? STEP_UNKNOWN : emu_pop_to_memory(job);
	case 0xf6: case 0xf7:
		return (reg & 7) >= 4 ? native(job) : group_of_one(job);
	case 0xff:
		if ((reg & 7) == 2 || (reg & 7) == 4 || (reg & 7) == 6)
			return emu_indirect(job, reg & 7);
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
			hv_repeat(vcpu);
		hv_add_pending_debug(job.hits);
		return HV_GUEST;
	}
}
