#include "cpu/outcome.h"
#include "fmt.h"
#include "sdm/bits.h"
#include "string.h"

const char *vector_name(u8 vector)
{
	switch (vector) {
#define VECTOR(number, name, mnemonic, has_error) case number: return mnemonic;
#include "sdm/vectors.def"
#undef VECTOR
	}
	return NULL;
}

const char *exit_reason_name(u16 reason)
{
	switch (reason) {
#define EXIT_REASON(number, name, words, ...) case number: return words;
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
	}
	return "unknown reason";
}

const char *instruction_error_name(u32 number)
{
	switch (number) {
#define INSTRUCTION_ERROR(number, name, words) case number: return words;
#include "sdm/instruction_errors.def"
#undef INSTRUCTION_ERROR
	}
	return "unknown error";
}

static const struct bit_name page_fault_bits[] = {
	{ PF_P, "P" }, { PF_WR, "W/R" }, { PF_US, "U/S" }, { PF_RSVD, "RSVD" }, { PF_ID, "I/D" },
	{ PF_PK, "PK" }, { PF_SS, "SS" }, { PF_HLAT, "HLAT" }, { PF_SGX, "SGX" }, { 0, NULL },
};

static void exception_words(char *to, size_t size, u8 vector, bool has_error, u32 error)
{
	const char *name = vector_name(vector);
	char bits[80];
	size_t n;

	if (name)
		n = format(to, size, "%s", name);
	else
		n = format(to, size, "vector %u", vector);
	if (has_error && vector == VECTOR_PF)
		format(to + n, size - n, "(%s)",
		       format_bits(bits, sizeof(bits), error, page_fault_bits));
	else if (has_error)
		format(to + n, size - n, error ? "(%#x)" : "(%u)", error);
}

const char *outcome_words(char *to, size_t size, outcome_t outcome)
{
	u16 reason = outcome >> 32;
	u32 low = outcome;

	switch (outcome_kind(outcome)) {
	case OUTCOME_KIND_DONE:
		format(to, size, "done");
		break;
	case OUTCOME_KIND_EXCEPTION:
		exception_words(to, size, outcome >> 48, reason, low);
		break;
	case OUTCOME_KIND_VMFAIL_INVALID:
		format(to, size, "VMfailInvalid");
		break;
	case OUTCOME_KIND_VMFAIL_VALID:
		format(to, size, "VMfailValid(%u: %s)", low, instruction_error_name(low));
		break;
	case OUTCOME_KIND_ENTRY_FAILURE:
		format(to, size, "%s (%u), qualification %#x", exit_reason_name(reason), reason,
		       low);
		break;
	case OUTCOME_KIND_EXIT:
		format(to, size, "VM exit %s (%u)", exit_reason_name(reason), reason);
		break;
	default:
		format(to, size, "no outcome (%#lx)", outcome);
	}
	return to;
}

bool outcome_expect(const char *file, u32 line, const char *what, outcome_t got,
		    const outcome_t *accepted, u32 count)
{
	char expected[300], words[120], *p = expected;
	u32 i;

	for (i = 0; i < count; i++)
		if (got == accepted[i])
			return true;
	for (i = 0; i < count; i++) {
		outcome_words(words, sizeof(words), accepted[i]);
		p += format(p, expected + sizeof(expected) - p, "%s%s", i ? " or " : "", words);
	}
	case_fail(file, line, what, expected, outcome_words(words, sizeof(words), got));
	return false;
}
