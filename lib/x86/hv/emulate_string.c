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
static enum step repeat(struct job *job, enum step (*element)(struct job *job))
{
	struct hv_instruction *insn = &job->insn;
	enum step step;

	if (!insn->rep)
		return element(job);
	if (!emu_get_register(job, GPR_RCX, insn->address_size))
		return STEP_DONE;
	step = element(job);
	if (step != STEP_DONE)
		return step;
	emu_move_register(job, GPR_RCX, -1ull);
	if (emu_get_register(job, GPR_RCX, insn->address_size))
		insn->length = 0;
	return STEP_DONE;
}

enum step emu_string(struct job *job)
{
	return repeat(job, string_element);
}

/*
 * INS, OUTS, volume 2. What is read from a port is lost if there is no place for it, so that place
 * comes first. The size is the exit's: with REX.W the elements have 32 bits.
 */
static enum step port_element(struct job *job)
{
	struct hv_port port;
	struct hv_memory_operand memory;
	enum step step;
	u64 value = 0, by;

	/*
	 * Only this exit says that the guest may use the port: the code may have become INS or OUTS
	 * since, when another vCPU or user space wrote to it.
	 */
	if (!hv_port_of_string(&port) || port.in != (job->insn.opcode < 0x6e))
		return STEP_UNKNOWN;
	by = job->flags & RFLAGS_DF ? -(u64)port.size : port.size;
	job->insn.operand_size = port.size;
	memory = port.in ? target(job) : source(job);
	if (port.in)
		step = emu_check(job, memory, ACCESS_WRITE);
	else
		step = emu_access(job, memory, &value, ACCESS_READ, false);
	if (step == STEP_DONE)
		step = emu_port(job, &port, &value);
	if (step == STEP_DONE && port.in)
		step = emu_access(job, memory, &value, ACCESS_WRITE, true);
	if (step != STEP_DONE)
		return step;
	job->hits |= hv_port_breakpoints(job->vcpu, &port);
	emu_move_register(job, port.in ? GPR_RDI : GPR_RSI, by);
	return STEP_DONE;
}

enum step emu_port_string(struct job *job)
{
	return repeat(job, port_element);
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
