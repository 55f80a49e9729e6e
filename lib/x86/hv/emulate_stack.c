/* The emulator's instructions that use the stack or go elsewhere. */
#include "hv/emulate.h"
#include "vmx/guest.h"

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

/* Volume 2, CALL and JMP: a near target has 64 bits in 64-bit mode, with 66H too. */
static u32 target_size(const struct job *job)
{
	return hv_in_64_bit_mode(job->vcpu) ? 8 : job->insn.operand_size;
}

static void move_stack(struct job *job, u64 by)
{
	emu_set_register(job, GPR_RSP, stack_size(job), hv_gpr(job->vcpu, GPR_RSP) + by);
}

/* `offset` of the stack, as wide as the stack is. */
static struct hv_memory_operand on_stack(const struct job *job, u64 offset, u32 size)
{
	if (stack_size(job) < 8)
		offset &= BITS(8 * stack_size(job) - 1, 0);
	return (struct hv_memory_operand){ SEGMENT_SS, offset, size };
}

static enum step push(struct job *job, u64 value, u32 size)
{
	u64 top = hv_gpr(job->vcpu, GPR_RSP) - size;
	enum step step = emu_access(job, on_stack(job, top, size), &value, ACCESS_WRITE, true);

	if (step == STEP_DONE)
		move_stack(job, -(u64)size);
	return step;
}

enum step emu_pop_to_memory(struct job *job)
{
	u64 value = 0;
	u32 size = push_size(job);
	enum step step;

	job->insn.operand_size = size;
	/* Volume 2, POP: an address with RSP is computed with its value behind the pop. */
	if (job->insn.by_stack_pointer)
		job->insn.offset = (job->insn.offset + size) &
				   BITS(8 * job->insn.address_size - 1, 0);
	step = emu_access(job, on_stack(job, hv_gpr(job->vcpu, GPR_RSP), size), &value, ACCESS_READ,
			  false);
	if (step == STEP_DONE)
		step = emu_write_operand(job, value);
	if (step == STEP_DONE)
		move_stack(job, size);
	return step;
}

/* A target of a near transfer: canonical, or within the limit of the code segment. */
static bool can_go_to(const struct job *job, u64 target)
{
	return hv_in_64_bit_mode(job->vcpu) ? hv_may_be_used(target) :
	       target <= vmcs_get(GUEST_CS_LIMIT);
}

/*
 * Volume 2, CALL: first the stack, then the shadow stack, where IP has 4 bytes with zeros. Both
 * are looked at before either is written: a fault of the second leaves no trace in the first.
 */
static enum step push_return_address(struct job *job, u64 value, u32 size)
{
	u64 top = hv_gpr(job->vcpu, GPR_RSP) - size, ssp;
	enum step step;

	if (!emu_has_shadow_stack(job))
		return push(job, value, size);
	ssp = vmcs_get(GUEST_SSP);
	step = emu_check(job, on_stack(job, top, size), ACCESS_WRITE);
	if (step == STEP_DONE)
		step = emu_shadow_push(job, value & BITS(8 * size - 1, 0), size == 8 ? 8 : 4);
	if (step == STEP_DONE)
		step = push(job, value, size);
	if (step != STEP_DONE)
		vmcs_put(GUEST_SSP, ssp);
	return step;
}

/* CALL, JMP and PUSH with a memory operand: FFH, ModRM.reg 2, 4, 6. */
enum step emu_indirect(struct job *job, u32 reg)
{
	u32 size = reg == 6 ? push_size(job) : target_size(job);
	u64 value, next = vmcs_get(GUEST_RIP) + job->insn.length;
	enum step step;

	job->insn.operand_size = size;
	step = emu_read_operand(job, &value, false);
	if (step == STEP_DONE && reg == 6)
		return push(job, value, size);
	if (step == STEP_DONE && !can_go_to(job, value)) {
		job->fault = HV_FAULT_GP;
		return STEP_FAULT;
	}
	if (step == STEP_DONE && reg == 2)
		step = push_return_address(job, next, size);
	if (step != STEP_DONE)
		return step;
	emu_track_branch(job);
	job->jump = value - next;
	return STEP_DONE;
}
