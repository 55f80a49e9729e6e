/*
 * Real-address mode without "unrestricted guest": instructions that do something else there than in
 * protected mode, because they load or store selectors, or interrupt, or because it does not have
 * them; and PUSHF and POPF, which would see the flags of the way it runs by. Volume 2 says under
 * "Operation" what each does; 23.1 8086 Emulation what differs.
 */
#include "hv/internal.h"
#include "hv/real.h"
#include "string.h"
#include "vmx/guest.h"

/* RFLAGS as IRET and PUSHF use them in real-address mode; POPF does not load RF. */
#define FLAGS_PUSHED	(BITS(23, 0) & ~(RFLAGS_VM | RFLAGS_RF))
#define FLAGS_16	(BITS(15, 0) & ~(BIT(15) | BIT(5) | BIT(3) | BIT(1)))
#define FLAGS_32	(FLAGS_16 | RFLAGS_RF | RFLAGS_AC | RFLAGS_ID)

struct job {
	struct hv_vcpu *vcpu;
	struct hv_instruction insn;
	struct hv_fault fault;
	u64 hits;		/* breakpoints met: bits 3:0 as in DR6 */
	bool uses_stack, interrupts;
	u64 sp;			/* with uses_stack: RSP when the instruction is done */
};

enum step { STEP_DONE, STEP_FAULT, STEP_NO_MEMORY, STEP_SAME };

/* --- memory -------------------------------------------------------------------------- */

static enum step access(struct job *job, u8 segment, u64 offset, void *bytes, u32 size,
			enum access kind)
{
	const struct hv_memory_operand operand = { segment, offset, size };
	const bool write = kind == ACCESS_WRITE;
	u64 linear;

	if (!hv_operand_address(job->vcpu, &operand, write, &linear, &job->fault))
		return STEP_FAULT;
	job->hits |= hv_breakpoints(job->vcpu, write ? HV_BREAK_WRITE : HV_BREAK_READ, linear,
				    size);
	/* Without paging there are no faults. */
	return hv_copy(job->vcpu, linear, bytes, size, kind, &job->fault) == HV_COPIED ?
	       STEP_DONE : STEP_NO_MEMORY;
}

static u64 stack_mask(void)
{
	return vmcs_get(GUEST_SS_ACCESS_RIGHTS) & HV_AR_DB ? BITS(31, 0) : BITS(15, 0);
}

static void use_stack(struct job *job)
{
	job->sp = hv_gpr(job->vcpu, GPR_RSP);
	job->uses_stack = true;
}

static void move_stack(struct job *job, u64 by)
{
	job->sp = (job->sp & ~stack_mask()) | ((job->sp + by) & stack_mask());
}

static enum step push(struct job *job, u64 value, u32 size)
{
	move_stack(job, -(u64)size);
	return access(job, SEGMENT_SS, job->sp & stack_mask(), &value, size, ACCESS_WRITE);
}

/* Reads `size` bytes and moves by as many as the operand has. */
static enum step pop(struct job *job, u64 *value, u32 size)
{
	enum step step;

	*value = 0;
	step = access(job, SEGMENT_SS, job->sp & stack_mask(), value, size, ACCESS_READ);
	move_stack(job, job->insn.operand_size);
	return step;
}

/* --- registers ---------------------------------------------------------------------------- */

/* 23.1.1: the base is 16 times the selector; limit and rights stay. */
static void load_segment(u32 number, u16 selector)
{
	vmcs_put(GUEST_ES_SELECTOR + 2 * number, selector);
	vmcs_put(GUEST_ES_BASE + 2 * number, (u64)selector << 4);
	/* A null selector of protected mode has left nothing that could stay. */
	if (vmcs_get(GUEST_ES_ACCESS_RIGHTS + 2 * number) & HV_AR_UNUSABLE) {
		vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * number, HV_AR_P | HV_AR_S | 3);
		vmcs_put(GUEST_ES_LIMIT + 2 * number, BITS(15, 0));
	}
}

static void set_gpr(struct hv_vcpu *vcpu, u32 number, u64 value, u32 size)
{
	u64 before = hv_gpr(vcpu, number);

	hv_set_gpr(vcpu, number, size == 2 ? (before & ~(u64)BITS(15, 0)) | (value & BITS(15, 0)) :
				 value & BITS(31, 0));
}

static u32 reg_of(const struct job *job)
{
	return job->insn.modrm >> 3 & 7;
}

static bool is_register(const struct job *job)
{
	return job->insn.modrm >> 6 == 3;
}

static enum step raise(struct job *job, u8 vector)
{
	job->fault = (struct hv_fault){ .vector = vector };
	return STEP_FAULT;
}

/* --- transfers ------------------------------------------------------------------------------ */

/*
 * To `selector`:`offset`. Volume 2, CALL, JMP: #GP when that is beyond the limit, with an operand
 * of 32 bits as well; the limit is that of the code segment now, which stays.
 */
static enum step transfer(struct job *job, u16 selector, u64 offset)
{
	if (job->insn.operand_size == 2)
		offset &= BITS(15, 0);
	if (offset > vmcs_get(GUEST_CS_LIMIT))
		return raise(job, VECTOR_GP);
	load_segment(SEGMENT_CS, selector);
	vmcs_put(GUEST_RIP, offset);
	vmcs_put(GUEST_RFLAGS, vmcs_get(GUEST_RFLAGS) & ~(u64)RFLAGS_RF);
	return STEP_DONE;
}

static enum step call(struct job *job, u16 selector, u64 offset)
{
	u64 next = vmcs_get(GUEST_RIP) + job->insn.length;
	u32 size = job->insn.operand_size;
	enum step step;

	if (offset > vmcs_get(GUEST_CS_LIMIT))
		return raise(job, VECTOR_GP);
	use_stack(job);
	step = push(job, vmcs_get(GUEST_CS_SELECTOR), size);
	if (step == STEP_DONE)
		step = push(job, next, size);
	return step == STEP_DONE ? transfer(job, selector, offset) : step;
}

/* The operand m16:16 or m16:32; a register is none. */
static enum step read_far_pointer(struct job *job, u64 *offset, u64 *selector)
{
	u32 size = job->insn.operand_size;
	enum step step;

	if (is_register(job))
		return raise(job, VECTOR_UD);
	*offset = *selector = 0;
	step = access(job, job->insn.segment, job->insn.offset, offset, size, ACCESS_READ);
	if (step == STEP_DONE)
		step = access(job, job->insn.segment, job->insn.offset + size, selector, 2,
			      ACCESS_READ);
	return step;
}

/* CALL and JMP with a far pointer in memory: FFH, ModRM.reg 3 and 5. */
static enum step indirect(struct job *job)
{
	u64 offset, selector;
	enum step step = read_far_pointer(job, &offset, &selector);

	if (step != STEP_DONE)
		return step;
	return reg_of(job) == 3 ? call(job, selector, offset) : transfer(job, selector, offset);
}

static enum step far_return(struct job *job)
{
	u32 size = job->insn.operand_size;
	u64 offset, selector;
	enum step step;

	use_stack(job);
	step = pop(job, &offset, size);
	if (step == STEP_DONE)
		step = pop(job, &selector, 2);
	if (step == STEP_DONE && job->insn.opcode == 0xca)
		move_stack(job, job->insn.immediate);
	return step == STEP_DONE ? transfer(job, selector, offset) : step;
}

static enum step interrupt_return(struct job *job)
{
	u32 size = job->insn.operand_size;
	u64 offset, selector, flags, before;
	u64 loaded = size == 2 ? FLAGS_16 : FLAGS_32;
	enum step step;

	use_stack(job);
	step = pop(job, &offset, size);
	if (step == STEP_DONE)
		step = pop(job, &selector, 2);
	if (step == STEP_DONE)
		step = pop(job, &flags, size);
	if (step == STEP_DONE)
		step = transfer(job, selector, offset);
	if (step != STEP_DONE)
		return step;
	before = vmcs_get(GUEST_RFLAGS);
	vmcs_put(GUEST_RFLAGS, (before & ~loaded) | (flags & loaded) | RFLAGS_FIXED);
	/* 7.7.1: the end of an NMI handler. */
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
		 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & ~(u64)BLOCKING_BY_NMI);
	return STEP_DONE;
}

/* --- interrupts: 23.1.4 Interrupt and Exception Handling -------------------------------------- */

static enum step interrupt(struct job *job, u8 vector, u64 next)
{
	u64 flags = vmcs_get(GUEST_RFLAGS), entry = 0;
	enum step step;

	if (4u * vector + 3 > vmcs_get(GUEST_IDTR_LIMIT))
		return raise(job, VECTOR_GP);
	if (hv_copy(job->vcpu, (vmcs_get(GUEST_IDTR_BASE) + 4u * vector) & BITS(31, 0), &entry, 4,
		    ACCESS_READ, &job->fault) != HV_COPIED)
		return STEP_NO_MEMORY;
	job->interrupts = true;
	job->insn.operand_size = 2;
	use_stack(job);
	step = push(job, flags, 2);
	if (step == STEP_DONE)
		step = push(job, vmcs_get(GUEST_CS_SELECTOR), 2);
	if (step == STEP_DONE)
		step = push(job, next, 2);
	if (step == STEP_DONE)
		step = transfer(job, entry >> 16, entry);
	if (step == STEP_DONE)
		vmcs_put(GUEST_RFLAGS,
			 flags & ~(u64)(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF));
	return step;
}

static void finish(struct job *job)
{
	u64 state = vmcs_get(GUEST_INTERRUPTIBILITY_STATE);

	vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
		 state & ~(u64)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
	if (job->uses_stack)
		hv_set_gpr(job->vcpu, GPR_RSP, job->sp);
	hv_add_pending_debug(job->hits);
}

enum hv_real_result hv_real_interrupt(struct hv_vcpu *vcpu, u8 vector, u64 next)
{
	struct job job = { .vcpu = vcpu };

	switch (interrupt(&job, vector, next)) {
	case STEP_DONE:
		finish(&job);
		vcpu->event = (struct hv_event){ 0 };
		return HV_REAL_DONE;
	case STEP_NO_MEMORY:
		return HV_REAL_NO_MEMORY;
	default:
		hv_inject(vcpu, job.fault);
		return HV_REAL_DONE;
	}
}

/* --- segment registers ------------------------------------------------------------------------ */

/* PUSH: of a doubleword on the stack only the selector is written. */
static enum step push_segment(struct job *job, u32 number)
{
	u16 selector = vmcs_get(GUEST_ES_SELECTOR + 2 * number);

	use_stack(job);
	move_stack(job, -(u64)job->insn.operand_size);
	return access(job, SEGMENT_SS, job->sp & stack_mask(), &selector, 2, ACCESS_WRITE);
}

static enum step pop_segment(struct job *job, u32 number)
{
	enum step step;
	u64 selector;

	use_stack(job);
	step = pop(job, &selector, 2);
	if (step == STEP_DONE)
		load_segment(number, selector);
	return step;
}

static enum step store_segment(struct job *job)
{
	u16 selector;

	if (reg_of(job) > SEGMENT_GS)
		return raise(job, VECTOR_UD);
	selector = vmcs_get(GUEST_ES_SELECTOR + 2 * reg_of(job));
	if (!is_register(job))
		return access(job, job->insn.segment, job->insn.offset, &selector, 2, ACCESS_WRITE);
	set_gpr(job->vcpu, job->insn.modrm & 7, selector, job->insn.operand_size);
	return STEP_DONE;
}

static enum step move_to_segment(struct job *job)
{
	u64 selector = hv_gpr(job->vcpu, job->insn.modrm & 7);
	enum step step = STEP_DONE;

	if (reg_of(job) == SEGMENT_CS || reg_of(job) > SEGMENT_GS)
		return raise(job, VECTOR_UD);
	if (!is_register(job))
		step = access(job, job->insn.segment, job->insn.offset, &selector, 2, ACCESS_READ);
	if (step == STEP_DONE)
		load_segment(reg_of(job), selector);
	return step;
}

/* LDS, LES, LFS, LGS, LSS. With a register, C4H and C5H would be VEX: there is none here. */
static enum step load_pointer(struct job *job, u32 number)
{
	u64 offset, selector;
	enum step step = read_far_pointer(job, &offset, &selector);

	if (step != STEP_DONE)
		return step;
	load_segment(number, selector);
	set_gpr(job->vcpu, reg_of(job), offset, job->insn.operand_size);
	return STEP_DONE;
}

/* --- flags ------------------------------------------------------------------------------------ */

static enum step push_flags(struct job *job)
{
	use_stack(job);
	return push(job, vmcs_get(GUEST_RFLAGS) & FLAGS_PUSHED, job->insn.operand_size);
}

static enum step pop_flags(struct job *job)
{
	u64 flags, loaded = job->insn.operand_size == 2 ? FLAGS_16 : FLAGS_32 & ~(u64)RFLAGS_RF;
	enum step step;

	use_stack(job);
	step = pop(job, &flags, job->insn.operand_size);
	if (step == STEP_DONE)
		vmcs_put(GUEST_RFLAGS, (vmcs_get(GUEST_RFLAGS) & ~loaded) | (flags & loaded));
	return step;
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Those behind which the next instruction follows. */
static enum step execute(struct job *job)
{
	switch (job->insn.opcode) {
	case 0x06: case 0x0e: case 0x16: case 0x1e:
		return push_segment(job, job->insn.opcode >> 3 & 3);
	case 0x07: case 0x17: case 0x1f:
		return pop_segment(job, job->insn.opcode >> 3 & 3);
	case 0x0fa0: case 0x0fa8:
		return push_segment(job, job->insn.opcode == 0x0fa0 ? SEGMENT_FS : SEGMENT_GS);
	case 0x0fa1: case 0x0fa9:
		return pop_segment(job, job->insn.opcode == 0x0fa1 ? SEGMENT_FS : SEGMENT_GS);
	case 0x9c:
		return push_flags(job);
	case 0x9d:
		return pop_flags(job);
	case 0x8c:
		return store_segment(job);
	case 0x8e:
		return move_to_segment(job);
	case 0xc4: case 0xc5:
		return load_pointer(job, job->insn.opcode == 0xc4 ? SEGMENT_ES : SEGMENT_DS);
	case 0x0fb2:
		return load_pointer(job, SEGMENT_SS);
	case 0x0fb4: case 0x0fb5:
		return load_pointer(job, job->insn.opcode == 0x0fb4 ? SEGMENT_FS : SEGMENT_GS);
	case 0x0f34: case 0x0f35:	/* SYSENTER, SYSEXIT */
		return raise(job, VECTOR_GP);
	default:			/* SLDT to VERW, LAR, LSL, ARPL, EVEX */
		return raise(job, VECTOR_UD);
	}
}

/* Those that set RIP; STEP_SAME: none of them. */
static enum step execute_transfer(struct job *job)
{
	u64 next = vmcs_get(GUEST_RIP) + job->insn.length;

	switch (job->insn.opcode) {
	case 0x9a:
		return call(job, job->insn.immediate, job->insn.offset);
	case 0xea:
		return transfer(job, job->insn.immediate, job->insn.offset);
	case 0xff:
		return indirect(job);
	case 0xca: case 0xcb:
		return far_return(job);
	case 0xcf:
		return interrupt_return(job);
	case 0xcc:
		return interrupt(job, VECTOR_BP, next);
	case 0xcd:
		return interrupt(job, job->insn.immediate, next);
	case 0xce:
		return interrupt(job, VECTOR_OF, next);
	case 0xf1:
		return interrupt(job, VECTOR_DB, next);
	default:
		return STEP_SAME;
	}
}

/*
 * 20.3.1.4 Single-Step Exception Condition: TF as it was before. INT n clears it, and is no step.
 */
static void trap_if_stepping(const struct job *job, u64 flags_before)
{
	if (flags_before & RFLAGS_TF && !job->interrupts)
		vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS,
			 vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) | HV_PENDING_BS);
}

/* 7.8.3: no interrupt between the load of SS and the instruction behind it. */
static bool blocks_interrupts(const struct job *job)
{
	return job->insn.opcode == 0x17 || (job->insn.opcode == 0x8e && reg_of(job) == SEGMENT_SS);
}

static enum step run(struct job *job)
{
	u64 flags = vmcs_get(GUEST_RFLAGS);
	enum step step;

	if (vmcs_get(GUEST_RIP) + job->insn.length - 1 > vmcs_get(GUEST_CS_LIMIT))
		return raise(job, VECTOR_GP);
	if (job->insn.lock)
		return raise(job, VECTOR_UD);
	/* INTO */
	if (job->insn.opcode == 0xce && !(flags & RFLAGS_OF)) {
		hv_skip(job->vcpu, job->insn.length);
		return STEP_DONE;
	}
	step = execute_transfer(job);
	if (step == STEP_DONE) {
		finish(job);
		trap_if_stepping(job, flags);
	}
	if (step != STEP_SAME)
		return step;
	step = execute(job);
	if (step != STEP_DONE)
		return step;
	vmcs_put(GUEST_RIP, vmcs_get(GUEST_RIP) + job->insn.length);
	vmcs_put(GUEST_RFLAGS, vmcs_get(GUEST_RFLAGS) & ~(u64)RFLAGS_RF);
	finish(job);
	trap_if_stepping(job, flags);
	if (blocks_interrupts(job))
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
			 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) | BLOCKING_BY_MOV_SS);
	return STEP_DONE;
}

enum hv_real_result hv_real_emulate(struct hv_vcpu *vcpu)
{
	struct job job = { .vcpu = vcpu };

	if (!hv_decode_real(vcpu, &job.insn))
		return HV_REAL_SAME;
	/* It exits, to the debugger. */
	if (job.insn.opcode == 0xcc && hv_debug_wants(vcpu, VECTOR_BP))
		return HV_REAL_SAME;
	switch (run(&job)) {
	case STEP_DONE:
		return HV_REAL_DONE;
	case STEP_NO_MEMORY:
		return HV_REAL_NO_MEMORY;
	default:
		hv_inject(vcpu, job.fault);
		return HV_REAL_DONE;
	}
}
