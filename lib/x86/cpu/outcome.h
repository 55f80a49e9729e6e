/*
 * Outcome: all that an instruction or a VM entry can end in, packed into one value, so that
 * one comparison judges it and one function puts it into words.
 *
 *	63:56 kind   55:48 vector   47:32 exit reason   31:0 error code, number, qualification
 */
#ifndef CPU_OUTCOME_H
#define CPU_OUTCOME_H

#include "case.h"
#include "types.h"

typedef u64 outcome_t;

enum outcome_kind {
	OUTCOME_KIND_DONE = 1,
	OUTCOME_KIND_EXCEPTION,
	OUTCOME_KIND_VMFAIL_INVALID,
	OUTCOME_KIND_VMFAIL_VALID,
	OUTCOME_KIND_ENTRY_FAILURE,
	OUTCOME_KIND_EXIT,
};

enum vector {
#define VECTOR(number, name, mnemonic, has_error) VECTOR_##name = number,
#include "sdm/vectors.def"
#undef VECTOR
};

enum exit_reason {
#define EXIT_REASON(number, name, words, ...) EXIT_##name = number,
#include "sdm/exit_reasons.def"
#undef EXIT_REASON
};

#define OUTCOME(kind, vector, reason, low) \
	((u64)(kind) << 56 | (u64)(vector) << 48 | (u64)(reason) << 32 | (u32)(low))

#define OUTCOME_DONE			OUTCOME(OUTCOME_KIND_DONE, 0, 0, 0)
/* An exception without, and one with an error code. */
#define OUTCOME_EXCEPTION(vector)	OUTCOME(OUTCOME_KIND_EXCEPTION, vector, 0, 0)
#define OUTCOME_FAULT(vector, error)	OUTCOME(OUTCOME_KIND_EXCEPTION, vector, 1, error)
#define OUTCOME_UD			OUTCOME_EXCEPTION(VECTOR_UD)
#define OUTCOME_GP0			OUTCOME_FAULT(VECTOR_GP, 0)
#define OUTCOME_VMFAIL_INVALID		OUTCOME(OUTCOME_KIND_VMFAIL_INVALID, 0, 0, 0)
/* `error` as in sdm/instruction_errors.def: VMFAIL_... */
#define OUTCOME_VMFAIL_VALID(error)	OUTCOME(OUTCOME_KIND_VMFAIL_VALID, 0, 0, error)
#define OUTCOME_ENTRY_FAILURE(reason, qualification) \
	OUTCOME(OUTCOME_KIND_ENTRY_FAILURE, 0, reason, qualification)
#define OUTCOME_EXIT(reason)		OUTCOME(OUTCOME_KIND_EXIT, 0, reason, 0)

static inline enum outcome_kind outcome_kind(outcome_t outcome)
{
	return outcome >> 56;
}

/* The words for an outcome, e.g. "#GP(0)", "VM exit CPUID (10)", "VMfailValid(7: ...)". */
const char *outcome_words(char *to, size_t size, outcome_t outcome);
const char *vector_name(u8 vector);
const char *exit_reason_name(u16 reason);
const char *instruction_error_name(u32 number);

bool outcome_expect(const char *file, u32 line, const char *what, outcome_t got,
		    const outcome_t *accepted, u32 count);

/* The first of what is accepted, or any of them where the SDM leaves the choice open. */
#define EXPECT(got, ...)						\
	outcome_expect(__FILE__, __LINE__, #got, (got),			\
		       (const outcome_t[]){ __VA_ARGS__ },		\
		       ARRAY_SIZE(((const outcome_t[]){ __VA_ARGS__ })))
#define REQUIRE(got, ...) \
	do { if (!EXPECT(got, __VA_ARGS__)) case_end(); } while (0)

#endif
