/*
 * The instruction that the saved RIP references: 30.3.3 Saving RIP, RSP, RFLAGS, and SSP; its
 * length: 30.2.5 Information for VM Exits Due to Instruction Execution. Of a guest in 64-bit mode,
 * by the bytes that lie there.
 */
#include "vmx/exit_words.h"

enum prefix { PREFIX_ANY, PREFIX_NONE, PREFIX_66, PREFIX_F2, PREFIX_F3 };
enum form { FORM_ALONE, FORM_IMM8, FORM_CONTROL, FORM_EITHER, FORM_MEMORY, FORM_REGISTER };

#define DIGIT__		8	/* any */
#define DIGIT_0		0
#define DIGIT_1		1
#define DIGIT_2		2
#define DIGIT_3		3
#define DIGIT_5		5
#define DIGIT_6		6
#define DIGIT_7		7

struct encoding {
	u32 opcode;
	u8 reason, prefix, form, digit;
};

static const struct encoding encodings[] = {
#define EXITING_CODE(reason, prefix, opcode, form, digit)			\
	{ opcode, EXIT_##reason, PREFIX_##prefix, FORM_##form, DIGIT_##digit },
#include "sdm/exiting_code.def"
#undef EXITING_CODE
};

/*
 * Prefixes of 64-bit mode, but LOCK, with which all of these raise #UD; returns how many, and the
 * one that an opcode may have as its own.
 */
static u32 skip_prefixes(const u8 *code, enum prefix *own)
{
	u32 n;

	*own = PREFIX_NONE;
	for (n = 0; n < INSTRUCTION_BYTES; n++)
		switch (code[n]) {
		case 0x66:
			if (*own == PREFIX_NONE)
				*own = PREFIX_66;
			break;
		case 0xf2:
			*own = PREFIX_F2;
			break;
		case 0xf3:
			*own = PREFIX_F3;
			break;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		case 0x67: case 0x40 ... 0x4f:
			break;
		default:
			return n;
		}
	return n;
}

/* Bytes of a ModR/M byte, of a SIB byte and of a displacement, for an operand in memory. */
static u32 memory_bytes(const u8 *code)
{
	u32 mod = code[0] >> 6, sib = (code[0] & 7) == 4, base = code[sib] & 7;

	return 1 + sib + (mod == 1 ? 1 : mod == 2 || base == 5 ? 4 : 0);
}

/* The length of what follows the opcode; false: it is another instruction. */
static bool operand_bytes(const struct encoding *encoding, const u8 *code, u32 *bytes)
{
	bool of_register = code[0] >> 6 == 3;

	*bytes = encoding->form == FORM_ALONE ? 0 : 1;
	if (encoding->form == FORM_ALONE || encoding->form == FORM_IMM8)
		return true;
	if (encoding->digit != DIGIT__ && encoding->digit != (code[0] >> 3 & 7))
		return false;
	if ((encoding->form == FORM_MEMORY && of_register) ||
	    (encoding->form == FORM_REGISTER && !of_register))
		return false;
	if (encoding->form != FORM_CONTROL && !of_register)
		*bytes = memory_bytes(code);
	return true;
}

/* The length of the instruction, if this is how it is encoded; else 0. */
static u32 match(const struct encoding *encoding, const u8 *code)
{
	enum prefix own;
	u32 n = skip_prefixes(code, &own), size, i, bytes;

	size = encoding->opcode > 0xffff ? 3 : encoding->opcode > 0xff ? 2 : 1;
	if (n + size + (encoding->form != FORM_ALONE) > INSTRUCTION_BYTES ||
	    (encoding->prefix != PREFIX_ANY && encoding->prefix != own))
		return 0;
	for (i = 0; i < size; i++)
		if (code[n + i] != (u8)(encoding->opcode >> 8 * (size - 1 - i)))
			return 0;
	if (!operand_bytes(encoding, code + n + size, &bytes) ||
	    n + size + bytes > INSTRUCTION_BYTES)
		return 0;
	return n + size + bytes;
}

bool exit_code_matters(const struct exit_input *x)
{
	u16 reason = exit_basic_reason(x);
	u32 i;

	if (!exit_entered(x) || !exit_from_64_bit_mode(x) || IN_ENCLAVE ||
	    (reason == EXIT_EXCEPTION_OR_NMI && !IN_SOFTWARE(EXIT_EVENT)))
		return false;
	for (i = 0; i < ARRAY_SIZE(encodings); i++)
		if (encodings[i].reason == reason)
			return true;
	return false;
}

u32 exit_code_length(const struct exit_input *x)
{
	u32 i, length;

	for (i = 0; i < ARRAY_SIZE(encodings); i++) {
		if (encodings[i].reason != exit_basic_reason(x))
			continue;
		length = match(&encodings[i], x->code);
		if (length)
			return length <= x->code_bytes ? length : 0;
	}
	return 0;
}

bool exit_code_is_another(const struct exit_input *x)
{
	return x->code_bytes == INSTRUCTION_BYTES && !exit_code_length(x);
}
