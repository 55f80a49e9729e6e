/*
 * Instruction decoding, volume 2, chapter 2 (Instruction Format): prefixes, opcode, ModRM, SIB,
 * displacement, immediate, for the opcodes in the tables below. Of VEX the opcodes of 0F are known.
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

/* What follows the opcode, and how its operands are. */
#define KNOWN		BIT(0)
#define MODRM		BIT(1)
#define BYTE		BIT(2)		/* the operand is a byte */
#define IMM		BIT(3)		/* immediate of operand size, at most 4 bytes */
#define IMM8		BIT(4)
#define MOFFS		BIT(5)		/* an offset of address size */
#define STRING		BIT(6)
#define TEST_IMM	BIT(7)		/* an immediate when ModRM.reg is 0 or 1 */

#define ALU_ROW(base)								\
	[(base) + 0] = KNOWN | MODRM | BYTE, [(base) + 1] = KNOWN | MODRM,	\
	[(base) + 2] = KNOWN | MODRM | BYTE, [(base) + 3] = KNOWN | MODRM

static const u16 one_byte[256] = {
	ALU_ROW(0x00), ALU_ROW(0x08), ALU_ROW(0x10), ALU_ROW(0x18),
	ALU_ROW(0x20), ALU_ROW(0x28), ALU_ROW(0x30), ALU_ROW(0x38),
	[0x63] = KNOWN | MODRM,
	[0x6c] = KNOWN | STRING | BYTE, [0x6d] = KNOWN | STRING,
	[0x6e] = KNOWN | STRING | BYTE, [0x6f] = KNOWN | STRING,
	[0x80] = KNOWN | MODRM | BYTE | IMM8, [0x81] = KNOWN | MODRM | IMM,
	[0x83] = KNOWN | MODRM | IMM8,
	[0x84] = KNOWN | MODRM | BYTE, [0x85] = KNOWN | MODRM,
	[0x86] = KNOWN | MODRM | BYTE, [0x87] = KNOWN | MODRM,
	[0x88] = KNOWN | MODRM | BYTE, [0x89] = KNOWN | MODRM,
	[0x8a] = KNOWN | MODRM | BYTE, [0x8b] = KNOWN | MODRM,
	[0xa0] = KNOWN | MOFFS | BYTE, [0xa1] = KNOWN | MOFFS,
	[0xa2] = KNOWN | MOFFS | BYTE, [0xa3] = KNOWN | MOFFS,
	[0xa4] = KNOWN | STRING | BYTE, [0xa5] = KNOWN | STRING,
	[0xaa] = KNOWN | STRING | BYTE, [0xab] = KNOWN | STRING,
	[0xac] = KNOWN | STRING | BYTE, [0xad] = KNOWN | STRING,
	[0x69] = KNOWN | MODRM | IMM, [0x6b] = KNOWN | MODRM | IMM8,
	[0x8c] = KNOWN | MODRM, [0x8f] = KNOWN | MODRM,
	[0xa6] = KNOWN | STRING | BYTE, [0xa7] = KNOWN | STRING,
	[0xae] = KNOWN | STRING | BYTE, [0xaf] = KNOWN | STRING,
	[0xc0] = KNOWN | MODRM | BYTE | IMM8, [0xc1] = KNOWN | MODRM | IMM8,
	[0xd0] = KNOWN | MODRM | BYTE, [0xd1] = KNOWN | MODRM,
	[0xd2] = KNOWN | MODRM | BYTE, [0xd3] = KNOWN | MODRM,
	[0xd8] = KNOWN | MODRM, [0xd9] = KNOWN | MODRM, [0xda] = KNOWN | MODRM,
	[0xdb] = KNOWN | MODRM, [0xdc] = KNOWN | MODRM, [0xdd] = KNOWN | MODRM,
	[0xde] = KNOWN | MODRM, [0xdf] = KNOWN | MODRM,
	[0xc6] = KNOWN | MODRM | BYTE | IMM8, [0xc7] = KNOWN | MODRM | IMM,
	[0xf6] = KNOWN | MODRM | BYTE | TEST_IMM, [0xf7] = KNOWN | MODRM | TEST_IMM,
	[0xfe] = KNOWN | MODRM | BYTE, [0xff] = KNOWN | MODRM,
};

static u16 two_byte(u8 opcode)
{
	switch (opcode) {
	case 0xb0: case 0xc0: case 0x90 ... 0x9f:
		return KNOWN | MODRM | BYTE;
	case 0xa4: case 0xac: case 0xba:
		return KNOWN | MODRM | IMM8;
	case 0x10 ... 0x13: case 0x16: case 0x17: case 0x28: case 0x29: case 0x2b:
	case 0x40 ... 0x4f: case 0x6e: case 0x6f: case 0x7e: case 0x7f:
	case 0xa3: case 0xa5: case 0xab: case 0xad: case 0xaf: case 0xb3: case 0xb8: case 0xbb:
	case 0xbc: case 0xbd: case 0xc1: case 0xc3: case 0xc7: case 0xd6: case 0xe7: case 0xf0:
	case 0xb1: case 0xb6: case 0xb7: case 0xbe: case 0xbf:
		return KNOWN | MODRM;
	default:
		return 0;
	}
}

struct reader {
	struct hv_instruction *to;
	u32 at;
	bool short_of_bytes;
};

static u64 take(struct reader *reader, u32 size)
{
	u64 value = 0;

	if (reader->at + size > reader->to->available) {
		reader->short_of_bytes = true;
		return 0;
	}
	memcpy(&value, reader->to->bytes + reader->at, size);
	reader->at += size;
	return value;
}

static u64 take_signed(struct reader *reader, u32 size)
{
	u32 shift = 64 - 8 * size;

	return (s64)(take(reader, size) << shift) >> shift;
}

struct prefixes {
	bool operand, address, segment;
};

/* Legacy prefixes and REX; returns the first byte of the opcode. */
static u8 take_prefixes(struct reader *reader, struct prefixes *prefixes, bool long_mode)
{
	static const u8 segments[] = { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS };
	struct hv_instruction *to = reader->to;
	u8 byte;

	for (;;) {
		byte = take(reader, 1);
		if (reader->short_of_bytes)
			return 0;
		if (long_mode && (byte & 0xf0) == 0x40) {
			to->rex = byte;
			continue;
		}
		switch (byte) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			to->no_track |= byte == 0x3e;
			/* Without meaning in 64-bit mode. */
			if (!long_mode) {
				to->segment = segments[byte >> 3 & 3];
				prefixes->segment = true;
			}
			break;
		case 0x64: case 0x65:
			to->segment = byte == 0x64 ? SEGMENT_FS : SEGMENT_GS;
			prefixes->segment = true;
			break;
		case 0x66:
			prefixes->operand = true;
			break;
		case 0x67:
			prefixes->address = true;
			break;
		case 0xf0:
			to->lock = true;
			break;
		case 0xf2: case 0xf3:
			to->rep = true;
			to->prefix = byte;
			break;
		default:
			return byte;
		}
		/* REX counts only right before the opcode. */
		to->rex = 0;
	}
}

/* LES and LDS, unless it is 64-bit mode or ModRM would name a register. */
static bool is_vex(const struct reader *reader, bool long_mode)
{
	const struct hv_instruction *to = reader->to;

	return (to->opcode == 0xc4 || to->opcode == 0xc5) && reader->at < to->available &&
	       (long_mode || to->bytes[reader->at] >> 6 == 3);
}

/* 2.3.5 The VEX Prefix; the R, X and B bits are inverted. */
static u16 take_vex(struct reader *reader, bool long_mode)
{
	static const u8 prefixes[] = { 0, 0x66, 0xf3, 0xf2 };
	struct hv_instruction *to = reader->to;
	bool three = to->opcode == 0xc4;
	u8 first = take(reader, 1), second = three ? take(reader, 1) : first;

	to->vex = true;
	to->wide_vector = second & 4;
	to->prefix = prefixes[second & 3];
	to->rex = 0x40 | (first & 0x80 ? 0 : 4);
	if (three)
		to->rex |= (first & 0x40 ? 0 : 2) | (first & 0x20 ? 0 : 1) |
			   (second & 0x80 ? 8 : 0);
	/* 2.3.5.6: outside of 64-bit mode B and W say nothing; R and X make it LES or LDS. */
	if (!long_mode)
		to->rex = 0;
	to->opcode = 0x0f00 | take(reader, 1);
	return three && (first & 0x1f) != 1 ? 0 : two_byte(to->opcode);
}

static void decide_sizes(struct hv_instruction *to, const struct prefixes *prefixes, bool long_mode)
{
	bool wide = vmcs_get(GUEST_CS_ACCESS_RIGHTS) & HV_AR_DB;

	if (long_mode) {
		to->operand_size = to->rex & 8 ? 8 : prefixes->operand ? 2 : 4;
		to->address_size = prefixes->address ? 4 : 8;
	} else {
		to->operand_size = wide != prefixes->operand ? 4 : 2;
		to->address_size = wide != prefixes->address ? 4 : 2;
	}
}

static void use_segment(struct hv_instruction *to, const struct prefixes *prefixes, u8 segment)
{
	if (!prefixes->segment)
		to->segment = segment;
}

/* Table 2-1, 16-Bit Addressing Forms with the ModR/M Byte. */
static void take_address_16(struct hv_vcpu *vcpu, struct reader *reader,
			    const struct prefixes *prefixes)
{
	static const struct {
		signed char base, index;
	} forms[8] = {
		{ GPR_RBX, GPR_RSI }, { GPR_RBX, GPR_RDI }, { GPR_RBP, GPR_RSI },
		{ GPR_RBP, GPR_RDI }, { GPR_RSI, -1 }, { GPR_RDI, -1 }, { GPR_RBP, -1 },
		{ GPR_RBX, -1 },
	};
	struct hv_instruction *to = reader->to;
	u8 mod = to->modrm >> 6, rm = to->modrm & 7;
	u64 offset = 0;

	if (mod == 0 && rm == 6) {
		to->offset = take(reader, 2);
		return;
	}
	if (mod)
		offset = take_signed(reader, mod);
	offset += hv_gpr(vcpu, forms[rm].base);
	if (forms[rm].index >= 0)
		offset += hv_gpr(vcpu, forms[rm].index);
	if (forms[rm].base == GPR_RBP)
		use_segment(to, prefixes, SEGMENT_SS);
	to->offset = offset;
}

static u64 take_sib(struct hv_vcpu *vcpu, struct reader *reader, const struct prefixes *prefixes)
{
	struct hv_instruction *to = reader->to;
	u8 sib = take(reader, 1);
	u32 index = (sib >> 3 & 7) | (to->rex & 2) << 2, base = sib & 7;
	u64 offset = 0;

	if (index != GPR_RSP)
		offset = hv_gpr(vcpu, index) << (sib >> 6);
	if (base == GPR_RBP && to->modrm >> 6 == 0)
		return offset + take_signed(reader, 4);
	/* R12 and R13 are neither RSP nor RBP. */
	if ((base == GPR_RSP || base == GPR_RBP) && !(to->rex & 1))
		use_segment(to, prefixes, SEGMENT_SS);
	to->by_stack_pointer = base == GPR_RSP && !(to->rex & 1);
	return offset + hv_gpr(vcpu, base | (to->rex & 1) << 3);
}

/* Tables 2-2 and 2-3, 32-Bit Addressing Forms, and 2.2.1 REX Prefixes. */
static void take_address_32(struct hv_vcpu *vcpu, struct reader *reader,
			    const struct prefixes *prefixes, bool *relative)
{
	struct hv_instruction *to = reader->to;
	u8 mod = to->modrm >> 6, rm = to->modrm & 7;

	if (mod == 0 && rm == 5) {
		to->offset = take_signed(reader, 4);
		*relative = hv_in_64_bit_mode(vcpu);
		return;
	}
	if (rm == 4) {
		to->offset = take_sib(vcpu, reader, prefixes);
	} else {
		to->offset = hv_gpr(vcpu, rm | (to->rex & 1) << 3);
		if (rm == GPR_RBP && !(to->rex & 1))
			use_segment(to, prefixes, SEGMENT_SS);
	}
	if (mod)
		to->offset += take_signed(reader, mod == 1 ? 1 : 4);
}

static u32 immediate_size(const struct hv_instruction *to, u16 form)
{
	bool test = form & TEST_IMM && !(to->modrm >> 4 & 3);

	if (form & IMM8 || (test && form & BYTE))
		return 1;
	if (form & IMM || test)
		return to->operand_size == 2 ? 2 : 4;
	return 0;
}

/* False: the operand is a register. */
static bool take_modrm(struct hv_vcpu *vcpu, struct reader *reader, const struct prefixes *prefixes,
		       bool *relative)
{
	struct hv_instruction *to = reader->to;

	to->has_modrm = true;
	to->modrm_at = reader->at;
	to->modrm = take(reader, 1);
	if (to->modrm >> 6 == 3)
		return false;
	if (to->address_size == 2)
		take_address_16(vcpu, reader, prefixes);
	else
		take_address_32(vcpu, reader, prefixes, relative);
	return true;
}

bool hv_decode(struct hv_vcpu *vcpu, struct hv_instruction *to)
{
	bool long_mode = hv_in_64_bit_mode(vcpu), relative = false;
	struct reader reader = { .to = to };
	struct prefixes prefixes = { 0 };
	u32 size;
	u16 form;

	*to = (struct hv_instruction){ .segment = SEGMENT_DS };
	to->available = hv_fetch(vcpu, to->bytes);
	to->opcode = take_prefixes(&reader, &prefixes, long_mode);
	form = one_byte[to->opcode];
	to->opcode_at = reader.at - 1;
	if (to->opcode == 0x0f) {
		to->opcode = 0x0f00 | take(&reader, 1);
		form = two_byte(to->opcode);
		if (to->opcode == 0x0f38) {
			to->opcode = 0x0f3800 | take(&reader, 1);
			form = (to->opcode & 0xfe) == 0xf0 ? KNOWN | MODRM : 0;
		}
	} else if (is_vex(&reader, long_mode)) {
		form = take_vex(&reader, long_mode);
	}
	if (!to->prefix && prefixes.operand)
		to->prefix = 0x66;
	if (!(form & KNOWN) || (to->opcode == 0x63 && !long_mode))
		return false;
	decide_sizes(to, &prefixes, long_mode);
	to->is_string = form & STRING;
	if (form & MODRM && !take_modrm(vcpu, &reader, &prefixes, &relative))
		return false;
	if (form & MOFFS)
		to->offset = take(&reader, to->address_size);
	size = immediate_size(to, form);
	to->immediate_size = size;
	if (size)
		to->immediate = take_signed(&reader, size);
	if (form & BYTE)
		to->operand_size = 1;
	to->length = reader.at;
	if (relative)
		to->offset += vmcs_get(GUEST_RIP) + to->length;
	if (to->address_size < 8)
		to->offset &= BITS(8 * to->address_size - 1, 0);
	return !reader.short_of_bytes;
}

/* --- what real-address mode does in another way, or single-step shows: 23.1 ------------------ */

/* A far pointer: an immediate of operand size, then a selector; an immediate of 2 bytes. */
#define POINTER		BIT(8)
#define IMM16		BIT(9)

static const u16 real_one_byte[256] = {
	[0x06] = KNOWN, [0x0e] = KNOWN, [0x16] = KNOWN, [0x1e] = KNOWN,		/* PUSH Sreg */
	[0x07] = KNOWN, [0x17] = KNOWN, [0x1f] = KNOWN,				/* POP Sreg */
	[0x62] = KNOWN | MODRM, [0x63] = KNOWN | MODRM,				/* EVEX, ARPL */
	[0x8c] = KNOWN | MODRM, [0x8e] = KNOWN | MODRM,				/* MOV Sreg */
	[0x9a] = KNOWN | POINTER, [0xea] = KNOWN | POINTER,			/* CALL, JMP */
	[0x9c] = KNOWN, [0x9d] = KNOWN,						/* PUSHF, POPF */
	[0xc4] = KNOWN | MODRM, [0xc5] = KNOWN | MODRM,				/* LES, LDS */
	[0xca] = KNOWN | IMM16, [0xcb] = KNOWN, [0xcf] = KNOWN,			/* RET, IRET */
	[0xcc] = KNOWN, [0xcd] = KNOWN | IMM8, [0xce] = KNOWN, [0xf1] = KNOWN,	/* INT */
	[0xff] = KNOWN | MODRM,
};

static u16 real_two_byte(u8 opcode)
{
	switch (opcode) {
	case 0x00: case 0x02: case 0x03: case 0xb2: case 0xb4: case 0xb5:
		return KNOWN | MODRM;
	case 0x34: case 0x35: case 0xa0: case 0xa1: case 0xa8: case 0xa9:
		return KNOWN;
	default:
		return 0;
	}
}

/* BOUND is one of those that are the same; so are the other six of FFH. */
static bool is_the_same(const struct hv_instruction *to)
{
	u8 reg = to->modrm >> 3 & 7;

	return (to->opcode == 0x62 && to->modrm >> 6 != 3) ||
	       (to->opcode == 0xff && reg != 3 && reg != 5);
}

bool hv_decode_real(struct hv_vcpu *vcpu, struct hv_instruction *to)
{
	struct reader reader = { .to = to };
	struct prefixes prefixes = { 0 };
	bool relative;
	u16 form;

	*to = (struct hv_instruction){ .segment = SEGMENT_DS };
	to->available = hv_fetch(vcpu, to->bytes);
	to->opcode = take_prefixes(&reader, &prefixes, false);
	form = real_one_byte[to->opcode];
	if (to->opcode == 0x0f) {
		to->opcode = 0x0f00 | take(&reader, 1);
		form = real_two_byte(to->opcode);
	}
	if (!(form & KNOWN) || reader.short_of_bytes)
		return false;
	decide_sizes(to, &prefixes, false);
	if (form & MODRM)
		take_modrm(vcpu, &reader, &prefixes, &relative);
	to->offset &= BITS(8 * to->address_size - 1, 0);
	if (form & POINTER)
		to->offset = take(&reader, to->operand_size);
	if (form & (POINTER | IMM16))
		to->immediate = take(&reader, 2);
	if (form & IMM8)
		to->immediate = take(&reader, 1);
	to->length = reader.at;
	return !reader.short_of_bytes && !is_the_same(to);
}
