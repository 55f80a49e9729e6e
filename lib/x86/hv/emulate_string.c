/* The string instructions of the emulator: volume 2, REP/REPE/REPZ/REPNE/REPNZ. */
#include "hv/emulate.h"
#include "vmx/guest.h"

/* An element at RSI, in DS or the segment of a prefix, or at RDI, in ES. */
static struct hv_memory_operand source(struct job *job)
{
	const struct hv_instruction *insn = &job->insn;

	return (struct hv_memory_operand){
		insn->segment, emu_get_register(job, GPR_RSI, insn->address_size),
		insn->operand_size };
}

static struct hv_memory_operand target(struct job *job)
{
	const struct hv_instruction *insn = &job->insn;

	return (struct hv_memory_operand){
		SEGMENT_ES, emu_get_register(job, GPR_RDI, insn->address_size),
		insn->operand_size };
}

/* One element of MOVS, STOS or LODS. */
static enum step string_element(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u32 size = insn->operand_size;
	u64 by = job->flags & RFLAGS_DF ? -(u64)size : size;
	bool stos = insn->opcode >> 1 == 0xaa >> 1, lods = insn->opcode >> 1 == 0xac >> 1;
	u64 value = emu_get_register(job, GPR_RAX, size);
	enum step step = STEP_DONE;

	if (!stos)
		step = emu_access(job, source(job), &value, ACCESS_READ, false);
	if (step == STEP_DONE && !lods)
		step = emu_access(job, target(job), &value, ACCESS_WRITE, true);
	if (step != STEP_DONE)
		return step;
	if (lods)
		emu_set_register(job, GPR_RAX, size, value);
	if (!stos)
		emu_move_register(job, GPR_RSI, by);
	if (!lods)
		emu_move_register(job, GPR_RDI, by);
	return STEP_DONE;
}

/* With REP the instruction is not over before RCX is 0; the guest itself goes on with the rest. */
enum step emu_string(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	enum step step;

	if (!insn->rep)
		return string_element(job);
	if (!emu_get_register(job, GPR_RCX, insn->address_size))
		return STEP_DONE;
	step = string_element(job);
	if (step != STEP_DONE)
		return step;
	emu_move_register(job, GPR_RCX, -1ull);
	if (emu_get_register(job, GPR_RCX, insn->address_size))
		insn->length = 0;
	return STEP_DONE;
}

/* CMPS and SCAS: RSI or the accumulator against RDI. ZF ends a repetition. */
static enum step compare_element(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	u32 size = insn->operand_size;
	bool scas = insn->opcode >> 1 == 0xae >> 1;
	u64 by = job->flags & RFLAGS_DF ? -(u64)size : size;
	u64 left = emu_get_register(job, GPR_RAX, size), right = 0, flags = job->flags;
	enum step step = STEP_DONE;

	if (!scas)
		step = emu_access(job, source(job), &left, ACCESS_READ, false);
	if (step == STEP_DONE)
		step = emu_access(job, target(job), &right, ACCESS_READ, false);
	if (step != STEP_DONE)
		return step;
	hv_alu(ALU_CMP, size, left, right, &flags);
	job->flags = flags;
	if (!scas)
		emu_move_register(job, GPR_RSI, by);
	emu_move_register(job, GPR_RDI, by);
	return STEP_DONE;
}

enum step emu_compare_string(struct job *job)
{
	struct hv_instruction *insn = &job->insn;
	bool while_equal = insn->prefix == 0xf3;
	enum step step;

	if (insn->rep && !emu_get_register(job, GPR_RCX, insn->address_size))
		return STEP_DONE;
	step = compare_element(job);
	if (step != STEP_DONE || !insn->rep)
		return step;
	emu_move_register(job, GPR_RCX, -1ull);
	if (emu_get_register(job, GPR_RCX, insn->address_size) &&
	    !(job->flags & RFLAGS_ZF) == !while_equal)
		insn->length = 0;
	return STEP_DONE;
}
