/*
 * IN, OUT, INS, OUTS: every access to a port goes to user space. Strings go by as many elements at
 * once as lie in one page; what is beyond, the guest does with its next execution. Elements that
 * are not in memory but in a device are the emulator's: emulate_string.c.
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

/* The exit qualification: Table 30-5. */
struct io_exit {
	struct hv_port port;
	bool string, rep;
};

static struct io_exit read_exit(void)
{
	u64 qualification = vmcs_get(EXIT_QUALIFICATION);

	return (struct io_exit){
		.port = { .size = FIELD(qualification, 2, 0) + 1,
			  .in = qualification & QUALIFICATION_IO_IN,
			  .number = FIELD(qualification, 31, 16) },
		.string = qualification & QUALIFICATION_IO_STRING,
		.rep = qualification & QUALIFICATION_IO_REP,
	};
}

u8 *hv_port_data(struct hv_vcpu *vcpu)
{
	return (u8 *)vcpu->run + HV_PIO_OFFSET;
}

bool hv_port_of_string(struct hv_port *port)
{
	const struct io_exit io = read_exit();

	*port = io.port;
	return FIELD(vmcs_get(EXIT_REASON), 15, 0) == EXIT_IO_INSTRUCTION && io.string;
}

u64 hv_port_breakpoints(const struct hv_vcpu *vcpu, const struct hv_port *port)
{
	return hv_breakpoints(vcpu, HV_BREAK_IO, port->number, port->size);
}

enum hv_next hv_port_to_user(struct hv_vcpu *vcpu, const struct hv_port *port, u32 count,
			     int (*complete)(struct hv_vcpu *vcpu))
{
	struct kvm_run *run = vcpu->run;

	/* What user space makes of its copies does not count. */
	vcpu->io_count = count;
	run->io.direction = port->in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = port->size;
	run->io.port = port->number;
	run->io.count = count;
	run->io.data_offset = HV_PIO_OFFSET;
	return hv_user(vcpu, KVM_EXIT_IO, complete);
}

/* --- one element -------------------------------------------------------------------- */

/* 20.3.1.3: a breakpoint is a trap behind the instruction, if that comes to its end. */
static void finish_access(struct hv_vcpu *vcpu)
{
	const struct io_exit io = read_exit();

	hv_add_pending_debug(hv_port_breakpoints(vcpu, &io.port));
	hv_skip_exiting(vcpu);
}

static int complete_in(struct hv_vcpu *vcpu)
{
	const u32 size = read_exit().port.size;
	u64 *rax = &vcpu->state.regs.rax, mask = BITS(8 * size - 1, 0), value = 0;

	memcpy(&value, hv_port_data(vcpu), size);
	/* A 32-bit result clears bits 63:32. */
	*rax = size == 4 ? value : (*rax & ~mask) | value;
	finish_access(vcpu);
	return 0;
}

static int complete_out(struct hv_vcpu *vcpu)
{
	finish_access(vcpu);
	return 0;
}

/* --- strings ------------------------------------------------------------------------ */

static u64 cut(const struct hv_instruction *insn, u64 value)
{
	return insn->address_size == 8 ? value : value & BITS(8 * insn->address_size - 1, 0);
}

/* Adds to a register as wide as addresses are: a 16-bit one keeps the rest of the register. */
static void advance(struct hv_vcpu *vcpu, const struct hv_instruction *insn, u32 gpr, u64 by)
{
	u64 before = hv_gpr(vcpu, gpr), after = cut(insn, before + by);

	if (insn->address_size == 2)
		after |= before & ~(u64)BITS(15, 0);
	hv_set_gpr(vcpu, gpr, after);
}

/*
 * `count` elements, the first of which is where the register says: of a string that goes backwards
 * there is one.
 */
static struct hv_memory_operand elements_of(struct hv_vcpu *vcpu, const struct hv_instruction *insn,
					    const struct io_exit *io, u32 count)
{
	return (struct hv_memory_operand){
		.segment = io->port.in ? SEGMENT_ES : insn->segment,
		.offset = cut(insn, hv_gpr(vcpu, io->port.in ? GPR_RDI : GPR_RSI)),
		.size = count * io->port.size,
	};
}

/*
 * How many elements this exit is about: at least one, forwards to the end of the page, or to the
 * last address of that width, behind which is 0.
 */
static u32 elements(struct hv_vcpu *vcpu, const struct hv_instruction *insn,
		    const struct io_exit *io, u64 offset, u64 linear)
{
	u64 count = cut(insn, hv_gpr(vcpu, GPR_RCX));
	u64 behind = cut(insn, ~0ull) - offset, room = PAGE_SIZE - (linear & ~PAGE_MASK);
	u64 fit = (room <= behind ? room : behind + 1) / io->port.size;

	/* 20.3.1.4: a single step ends with each of them. */
	if (!io->rep || vmcs_get(GUEST_RFLAGS) & (RFLAGS_DF | RFLAGS_TF) || !fit)
		return 1;
	if (fit > HV_PIO_SIZE / io->port.size)
		fit = HV_PIO_SIZE / io->port.size;
	return count < fit ? count : fit;
}

/* `count` elements are done: registers, and RIP when none is left. */
static void finish_string(struct hv_vcpu *vcpu, const struct hv_instruction *insn,
			  const struct io_exit *io, u32 count)
{
	u64 by = (u64)count * io->port.size;

	advance(vcpu, insn, io->port.in ? GPR_RDI : GPR_RSI,
		vmcs_get(GUEST_RFLAGS) & RFLAGS_DF ? -by : by);
	if (io->rep)
		advance(vcpu, insn, GPR_RCX, -(u64)count);
	if (!io->rep || !cut(insn, hv_gpr(vcpu, GPR_RCX)))
		hv_skip(vcpu, insn->length);
	else
		hv_repeat(vcpu);
}

static enum hv_next give_fault(struct hv_vcpu *vcpu, struct hv_fault fault)
{
	hv_inject(vcpu, fault);
	return HV_GUEST;
}

static enum hv_next copy_failed(struct hv_vcpu *vcpu, enum hv_copy result, struct hv_fault fault)
{
	return result == HV_COPY_NO_MEMORY ? hv_emulation_failure(vcpu) : give_fault(vcpu, fault);
}

static int complete_string(struct hv_vcpu *vcpu)
{
	const struct io_exit io = read_exit();
	struct hv_instruction insn;
	struct hv_memory_operand operand;
	struct hv_fault fault;
	enum hv_copy result = HV_COPIED;
	u32 count = vcpu->io_count;

	/* User space may have changed the code since. */
	if (!hv_decode(vcpu, &insn) || !insn.is_string) {
		hv_emulation_failure(vcpu);
		return 0;
	}
	operand = elements_of(vcpu, &insn, &io, count);
	if (io.port.in)
		result = hv_copy(vcpu, hv_linear(vcpu, operand.segment, operand.offset),
				 hv_port_data(vcpu), operand.size, ACCESS_WRITE, &fault);
	if (result != HV_COPIED) {
		copy_failed(vcpu, result, fault);
		return 0;
	}
	hv_add_pending_debug(hv_port_breakpoints(vcpu, &io.port));
	finish_string(vcpu, &insn, &io, count);
	return 0;
}

/*
 * As many as this exit can be about, if they are all in the segment; else the first one, or false:
 * `fault`.
 */
static bool find_elements(struct hv_vcpu *vcpu, const struct hv_instruction *insn,
			  const struct io_exit *io, struct hv_memory_operand *operand, u64 *linear,
			  struct hv_fault *fault)
{
	u32 count;

	*operand = elements_of(vcpu, insn, io, 1);
	count = elements(vcpu, insn, io, operand->offset,
			 hv_linear(vcpu, operand->segment, operand->offset));
	operand->size = count * io->port.size;
	if (hv_operand_address(vcpu, operand, io->port.in, linear, fault))
		return true;
	operand->size = io->port.size;
	return hv_operand_address(vcpu, operand, io->port.in, linear, fault);
}

static enum hv_next string_io(struct hv_vcpu *vcpu, const struct io_exit *io)
{
	struct hv_instruction insn;
	struct hv_memory_operand operand;
	struct hv_fault fault;
	enum hv_copy result;
	u64 linear;

	if (!hv_decode(vcpu, &insn) || !insn.is_string)
		return hv_emulation_failure(vcpu);
	if (io->rep && !cut(&insn, hv_gpr(vcpu, GPR_RCX))) {
		hv_skip(vcpu, insn.length);
		return HV_GUEST;
	}
	/* The exit comes before the checks of the memory operand. */
	if (!find_elements(vcpu, &insn, io, &operand, &linear, &fault))
		return give_fault(vcpu, fault);
	/* A port is not read when the memory for what comes is not there. */
	result = hv_copy(vcpu, linear, io->port.in ? NULL : hv_port_data(vcpu), operand.size,
			 io->port.in ? ACCESS_WRITE : ACCESS_READ, &fault);
	if (result != HV_COPY_FAULT && hv_is_misaligned(linear, io->port.size))
		return give_fault(vcpu, HV_FAULT_AC);
	/* A device instead of memory: one element, with an exit for each of its accesses. */
	if (result == HV_COPY_NO_MEMORY)
		return hv_emulate(vcpu);
	if (result != HV_COPIED)
		return give_fault(vcpu, fault);
	return hv_port_to_user(vcpu, &io->port, operand.size / io->port.size, complete_string);
}

enum hv_next hv_exit_io(struct hv_vcpu *vcpu)
{
	const struct io_exit io = read_exit();

	if (io.string)
		return string_io(vcpu, &io);
	if (io.port.in)
		return hv_port_to_user(vcpu, &io.port, 1, complete_in);
	memcpy(hv_port_data(vcpu), &vcpu->state.regs.rax, io.port.size);
	return hv_port_to_user(vcpu, &io.port, 1, complete_out);
}
