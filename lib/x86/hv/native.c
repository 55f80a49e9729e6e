/*
 * Instructions with an operand in MMIO that the processor itself executes: the same bytes, but the
 * memory operand is a buffer beside the code, addressed by RIP. What the instruction does to
 * general registers, flags, FPU and vectors needs no emulation then. Only opcodes in the tables
 * below are executed, so that a guest cannot make the core do anything else.
 *
 * The processor has come as far as the memory access, so whatever depends on CR0.TS, CR4.OSFXSR
 * and the like has been checked with the guest's values; the vectors are the guest's anyway.
 */
#include "cpu/traps.h"
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

#define STATUS	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define R	HV_OPERAND_READ
#define W	HV_OPERAND_WRITE
#define M	HV_OPERAND_MODIFY

#define X87_SUMMARY	BIT(7)		/* of the status word: an exception that is not masked */
#define X87_KEEPS_MEMORY	BITS(4, 0)	/* all of them but the inexact result */

/* --- operands --------------------------------------------------------------------------- */

/* Opcodes with vector registers: bytes for each mandatory prefix; 0: there is no such form. */
static const struct vector_row {
	u16 opcode;
	u8 access;
	u8 none, p66, pf3, pf2;
} vectors[] = {
	{ 0x0f10, R, 16, 16, 4, 8 }, { 0x0f11, W, 16, 16, 4, 8 },
	{ 0x0f12, R, 8, 8, 0, 0 }, { 0x0f13, W, 8, 8, 0, 0 },
	{ 0x0f16, R, 8, 8, 0, 0 }, { 0x0f17, W, 8, 8, 0, 0 },
	{ 0x0f28, R, 16, 16, 0, 0 }, { 0x0f29, W, 16, 16, 0, 0 },
	{ 0x0f2b, W, 16, 16, 0, 0 },
	{ 0x0f6e, R, 4, 4, 0, 0 },	/* 8 with REX.W */
	{ 0x0f6f, R, 8, 16, 16, 0 }, { 0x0f7f, W, 8, 16, 16, 0 },
	{ 0x0f7e, W, 4, 4, 0, 0 },	/* 8 with REX.W; with F3 it is a load, below */
	{ 0x0fd6, W, 0, 8, 0, 0 },
	{ 0x0fe7, W, 8, 16, 0, 0 },
	{ 0x0ff0, R, 0, 0, 0, 16 },
};

static bool is_movd(const struct hv_instruction *insn)
{
	return insn->opcode == 0x0f6e || (insn->opcode == 0x0f7e && insn->prefix != 0xf3);
}

static const struct vector_row *vector_row(const struct hv_instruction *insn)
{
	static const struct vector_row movq = { 0x0f7e, R, 0, 0, 8, 0 };
	u32 i;

	if (insn->opcode == 0x0f7e && insn->prefix == 0xf3)
		return &movq;
	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		if (vectors[i].opcode == insn->opcode)
			return &vectors[i];
	return NULL;
}

static u32 vector_size(const struct hv_instruction *insn, const struct vector_row *row)
{
	u32 size = insn->prefix == 0x66 ? row->p66 : insn->prefix == 0xf3 ? row->pf3 :
		   insn->prefix == 0xf2 ? row->pf2 : row->none;

	if (is_movd(insn) && insn->rex & 8)
		return 8;
	return insn->wide_vector && size == 16 ? 32 : size;
}

/* Volume 1, 8: D8H to DFH with ModRM.reg, where the operand is in memory. */
static enum hv_operand x87_operand(const struct hv_instruction *insn, u32 *size)
{
	static const struct {
		u8 access, size;
	} rows[8][8] = {
		/* D8, DA, DC, DE: arithmetic */
		[1] = { { R, 4 }, { 0, 0 }, { W, 4 }, { W, 4 }, { 0, 0 }, { R, 2 }, { 0, 0 },
			{ W, 2 } },
		[3] = { { R, 4 }, { W, 4 }, { W, 4 }, { W, 4 }, { 0, 0 }, { R, 10 }, { 0, 0 },
			{ W, 10 } },
		[5] = { { R, 8 }, { W, 8 }, { W, 8 }, { W, 8 }, { 0, 0 }, { 0, 0 }, { 0, 0 },
			{ W, 2 } },
		[7] = { { R, 2 }, { W, 2 }, { W, 2 }, { W, 2 }, { R, 10 }, { R, 8 }, { W, 10 },
			{ W, 8 } },
	};
	static const u8 arithmetic[] = { 4, 0, 4, 0, 8, 0, 2, 0 };
	u32 opcode = insn->opcode & 7, reg = insn->modrm >> 3 & 7;

	*size = opcode & 1 ? rows[opcode][reg].size : arithmetic[opcode];
	return opcode & 1 ? rows[opcode][reg].access : HV_OPERAND_READ;
}

/* With general registers. */
static enum hv_operand integer_operand(const struct hv_instruction *insn, u32 *size)
{
	u32 reg = insn->modrm >> 3 & 7;

	*size = insn->operand_size;
	switch (insn->opcode) {
	case 0x69: case 0x6b:
		return R;
	case 0xc0: case 0xc1: case 0xd0 ... 0xd3:
		return M;
	case 0xf6: case 0xf7:
		return reg >= 4 ? R : HV_OPERAND_UNKNOWN;
	case 0x0f40 ... 0x0f4f: case 0x0fa3: case 0x0faf: case 0x0fb8: case 0x0fbc: case 0x0fbd:
		return R;
	case 0x0f90 ... 0x0f9f: case 0x0fc3:
		return W;
	case 0x0fa4: case 0x0fa5: case 0x0fac: case 0x0fad: case 0x0fab: case 0x0fb3: case 0x0fbb:
	case 0x0fc0: case 0x0fc1:
		return M;
	case 0x0fba:
		return reg < 4 ? HV_OPERAND_UNKNOWN : reg == 4 ? R : M;
	case 0x0fc7:
		*size = insn->rex & 8 ? 16 : 8;
		return reg == 1 ? M : HV_OPERAND_UNKNOWN;
	case 0x0f38f0:
		*size = insn->prefix == 0xf2 ? 1 : insn->operand_size;	/* CRC32 */
		return R;
	case 0x0f38f1:
		return insn->prefix == 0xf2 ? R : W;
	default:
		return HV_OPERAND_UNKNOWN;
	}
}

/*
 * Whether ModRM.reg is a register: with 0FBAH and one byte of opcode, but for IMUL, it is more of
 * the opcode.
 */
static bool has_register(const struct hv_instruction *insn)
{
	/* SETcc does not look at it; XADD of a byte: without REX number 4 is AH. */
	if ((insn->opcode & ~15u) == 0x0f90 || (insn->opcode == 0x0fc0 && !insn->rex))
		return false;
	return insn->opcode > 0xff ? insn->opcode != 0x0fba :
				     insn->opcode == 0x69 || insn->opcode == 0x6b;
}

enum hv_operand hv_native_operand(const struct hv_instruction *insn, u32 *size)
{
	const struct vector_row *row = vector_row(insn);
	u32 reg = (insn->modrm >> 3 & 7) | (insn->rex & 4) << 1;

	if (row) {
		*size = vector_size(insn, row);
		return *size && !(is_movd(insn) && insn->vex) ? row->access : HV_OPERAND_UNKNOWN;
	}
	if (insn->vex || !insn->has_modrm)
		return HV_OPERAND_UNKNOWN;
	if (hv_is_x87(insn))
		return x87_operand(insn, size);
	/* RSP is the core's own while the instruction runs. */
	if (reg == GPR_RSP && has_register(insn))
		return HV_OPERAND_UNKNOWN;
	return integer_operand(insn, size);
}

/* --- execution ------------------------------------------------------------------------------ */

/*
 * Code and operand in the stack frame: within 2 GBytes of each other, but not so near that a write
 * to the operand could be one to the code (11.1.3 Handling Self- and Cross-Modifying Code), which a
 * processor must notice.
 */
#define APART	256

struct native {
	u8 operand[HV_NATIVE_SIZE] __attribute__((aligned(APART)));
	u8 code[32] __attribute__((aligned(APART)));
	struct general_registers *regs;
	u64 flags;
};

static u8 *put(u8 *to, const void *bytes, u32 size)
{
	memcpy(to, bytes, size);
	return to + size;
}

static u8 *write_prefixes(u8 *at, const struct hv_instruction *insn)
{
	/* A vector form has its 66H by name; else the operand size decides, whatever the mode. */
	bool narrow = vector_row(insn) ? insn->prefix == 0x66 : insn->operand_size == 2;

	if (narrow)
		*at++ = 0x66;
	if (insn->prefix == 0xf2 || insn->prefix == 0xf3)
		*at++ = insn->prefix;
	/* Without X and B, which belonged to the address. */
	if (insn->rex)
		*at++ = 0x40 | (insn->rex & 0xc);
	return at;
}

static void write_code(const struct hv_vcpu *vcpu, struct native *native,
		       const struct hv_instruction *insn)
{
	u32 rest = insn->length - insn->immediate_size;
	s64 distance;
	u8 *at = native->code;

	if (!insn->vex)
		at = write_prefixes(at, insn);
	at = put(at, insn->bytes + insn->opcode_at, insn->modrm_at - insn->opcode_at);
	/* The inverted X and B of a VEX prefix of three bytes. */
	if (insn->vex && native->code[0] == 0xc4)
		native->code[1] |= 0x60;
	/* 2.3.5.6: the highest bit of vvvv, inverted as well, counts in 64-bit mode alone. */
	if (insn->vex && native->code[0] == 0xc4 && !hv_in_64_bit_mode(vcpu))
		native->code[2] |= 0x40;
	*at++ = (insn->modrm & 0x38) | 5;	/* RIP and a displacement of 32 bits */
	distance = native->operand - (at + 4 + insn->immediate_size);
	at = put(at, &distance, 4);
	at = put(at, insn->bytes + rest, insn->immediate_size);
	*at = 0xc3;				/* RET */
}

void hv_native_enter(struct general_registers *regs, const u8 *code, u64 *flags);

/* hv_native_enter(RDI: registers, RSI: code, RDX: flags): all of them but RSP, in and out. */
asm(".pushsection .text\n"
    "hv_native_enter:\n\t"
    "pushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
    "pushq %rdx\n\tpushq %rdi\n\t"
    "leaq 1f(%rip), %rax\n\tpushq %rax\n\tpushq %rsi\n\tpushq (%rdx)\n\t"
    "movq 0(%rdi), %rax\n\tmovq 8(%rdi), %rbx\n\tmovq 16(%rdi), %rcx\n\t"
    "movq 24(%rdi), %rdx\n\tmovq 32(%rdi), %rsi\n\tmovq 48(%rdi), %rbp\n\t"
    "movq 56(%rdi), %r8\n\tmovq 64(%rdi), %r9\n\tmovq 72(%rdi), %r10\n\t"
    "movq 80(%rdi), %r11\n\tmovq 88(%rdi), %r12\n\tmovq 96(%rdi), %r13\n\t"
    "movq 104(%rdi), %r14\n\tmovq 112(%rdi), %r15\n\tmovq 40(%rdi), %rdi\n\t"
    "popfq\n\tret\n"
    "1:\tpushfq\n\tpushq %rdi\n\tmovq 16(%rsp), %rdi\n\t"
    "movq %rax, 0(%rdi)\n\tmovq %rbx, 8(%rdi)\n\tmovq %rcx, 16(%rdi)\n\t"
    "movq %rdx, 24(%rdi)\n\tmovq %rsi, 32(%rdi)\n\tmovq %rbp, 48(%rdi)\n\t"
    "movq %r8, 56(%rdi)\n\tmovq %r9, 64(%rdi)\n\tmovq %r10, 72(%rdi)\n\t"
    "movq %r11, 80(%rdi)\n\tmovq %r12, 88(%rdi)\n\tmovq %r13, 96(%rdi)\n\t"
    "movq %r14, 104(%rdi)\n\tmovq %r15, 112(%rdi)\n\t"
    "popq %rax\n\tmovq %rax, 40(%rdi)\n\tpopq %rax\n\tpopq %rdi\n\tpopq %rdx\n\t"
    "movq %rax, (%rdx)\n\t"
    "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbp\n\tpopq %rbx\n\t"
    "cld\n\tret\n\t.popsection");

/* --- what x87 instructions leave behind ------------------------------------------------------- */

/*
 * Volume 1, 10.5.1: with REX.W pointers have 64 bits, without it 32 and a selector. Who uses the
 * upper half has no selectors, as with XSAVE.
 */
void hv_x87_save(struct hv_x87 *x87)
{
	asm volatile("fxsave64 (%0)" : : "r" (x87) : "memory");
	x87->wide = (x87->instruction | x87->operand) >> 32;
	if (!x87->wide)
		asm volatile("fxsave (%0)" : : "r" (x87) : "memory");
}

void hv_x87_restore(const struct hv_x87 *x87)
{
	if (x87->wide)
		asm volatile("fxrstor64 (%0)" : : "r" (x87) : "memory");
	else
		asm volatile("fxrstor (%0)" : : "r" (x87) : "memory");
}

bool hv_is_x87(const struct hv_instruction *insn)
{
	return !insn->vex && insn->opcode >= 0xd8 && insn->opcode <= 0xdf;
}

/*
 * Volume 1, 8.5 Floating-Point Exception Conditions: an exception that is not masked keeps the
 * result out of memory and waits for the next instruction that looks for it (8.7), but for the
 * inexact result, which comes behind the store. Stores of the control and the status word signal
 * none.
 */
bool hv_x87_has_stored(const struct hv_x87 *before)
{
	struct hv_x87 after;

	hv_x87_save(&after);
	return before->status & X87_SUMMARY || !(after.status & X87_SUMMARY) ||
	       !(after.status & ~after.control & X87_KEEPS_MEMORY);
}

static bool is_in(u64 pointer, const void *start, u32 size)
{
	return (u32)pointer - (u32)(u64)start < size;
}

/*
 * Volume 1, 8.1.8 x87 FPU Instruction and Operand (Data) Pointers: where this processor has noted
 * the place of the code or the operand here, which is below 4 GBytes, it gets the guest's.
 */
static void hide(const struct native *native, const struct hv_instruction *insn)
{
	const u64 rip = vmcs_get(GUEST_RIP);
	struct hv_x87 x87;

	hv_x87_save(&x87);
	if (!is_in(x87.instruction, native->code, sizeof(native->code)))
		return;
	x87.instruction = rip;
	if (x87.opcode == ((insn->opcode & 7) << 8 | (insn->modrm & 0x38) | 5))
		x87.opcode = (insn->opcode & 7) << 8 | insn->modrm;
	if (is_in(x87.operand, native->operand, sizeof(native->operand)))
		x87.operand = insn->offset;
	x87.wide = (rip | x87.operand) >> 32;
	if (!x87.wide) {
		x87.instruction |= vmcs_get(GUEST_CS_SELECTOR) << 32;
		x87.operand |= vmcs_get(GUEST_ES_SELECTOR + 2 * insn->segment) << 32;
	}
	hv_x87_restore(&x87);
}

/* --- running it ------------------------------------------------------------------------------- */

static void run(void *argument)
{
	struct native *native = argument;

	hv_native_enter(native->regs, native->code, &native->flags);
}

bool hv_native_run(struct hv_vcpu *vcpu, const struct hv_instruction *insn, u8 *operand,
		   u64 *flags, struct hv_fault *fault)
{
	struct native native = { .regs = &vcpu->state.regs,
				 .flags = RFLAGS_FIXED | (*flags & STATUS) };

	/* Between runs the registers may be those of another vCPU. */
	if (!vcpu->running)
		hv_fpu_load(vcpu);
	memcpy(native.operand, operand, HV_NATIVE_SIZE);
	write_code(vcpu, &native, insn);
	if (attempt(run, &native) != OUTCOME_DONE) {
		const struct trap_frame *frame = &last_trap()->frame;

		*fault = (struct hv_fault){ .vector = frame->vector, .error = frame->error,
					    .has_error = frame->vector == VECTOR_GP };
		return false;
	}
	if (hv_is_x87(insn))
		hide(&native, insn);
	memcpy(operand, native.operand, HV_NATIVE_SIZE);
	*flags = (*flags & ~(u64)STATUS) | (native.flags & STATUS);
	return true;
}
