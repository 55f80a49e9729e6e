/*
 * DIV and IDIV at every operand size (volume 2): quotient and remainder, to the last dividends that
 * fit, and #DE for those that do not.
 *
 * Kernels divide 64 bits by 64 early in their boot: where that is wrong, none boots.
 */
#include "case.h"
#include "cpu/traps.h"
#include "string.h"

#define ONES(size)	(~0ull >> (64 - (size)))
#define LOWEST(size)	(1ull << ((size) - 1))
#define DIVIDE_ERROR	OUTCOME_EXCEPTION(VECTOR_DE)

struct numbers {
	u64 high, low, divisor;		/* in, of the operand's size each */
	u64 quotient, remainder;	/* out */
};

struct division {
	struct numbers numbers;
	u32 size;
	outcome_t outcome;
	outcome_t (*divide)(struct numbers *n);
};

/* The dividend of the smallest size is AX alone, its results are AL and AH. */
#define DIVIDE_8(name)								\
	static outcome_t name##_8(struct numbers *n)				\
	{									\
		u64 ax = n->high << 8 | (n->low & 0xff);			\
		outcome_t outcome = ATTEMPT(#name "b %b[by]", [ax] "+a" (ax)	\
					    : [by] "q" (n->divisor) : "cc");	\
		n->quotient = ax & 0xff;					\
		n->remainder = ax >> 8 & 0xff;					\
		return outcome;							\
	}
#define DIVIDE(name, size, suffix)						\
	static outcome_t name##_##size(struct numbers *n)			\
	{									\
		u64 ax = n->low, dx = n->high;					\
		outcome_t outcome = ATTEMPT(#name " %" suffix "[by]",		\
					    "+a" (ax), "+d" (dx)		\
					    : [by] "r" (n->divisor) : "cc");	\
		n->quotient = ax & ONES(size);					\
		n->remainder = dx & ONES(size);					\
		return outcome;							\
	}
#define ALL_SIZES(name)								\
	DIVIDE_8(name) DIVIDE(name, 16, "w") DIVIDE(name, 32, "k") DIVIDE(name, 64, "q")
ALL_SIZES(div)
ALL_SIZES(idiv)

static void check_division(const struct case_def *this_case)
{
	const struct division *row = this_case->row;
	struct numbers n = row->numbers;

	EXPECT(row->divide(&n), row->outcome);
	if (outcome_kind(row->outcome) == OUTCOME_KIND_EXCEPTION)
		return;
	EXPECT_EQ(n.quotient, row->numbers.quotient & ONES(row->size));
	EXPECT_EQ(n.remainder, row->numbers.remainder & ONES(row->size));
}

#define ROWS_OF(id, size_, outcome_, divide_, fact, ...)			\
	CASE_RUN(id##_##size_, check_division, PROVES(fact),			\
		 ROW((&(const struct division){ { __VA_ARGS__ }, size_, outcome_,	\
						divide_##_##size_ })))
#define ROW_OF(id, size, insn, ...)						\
	ROWS_OF(id, size, OUTCOME_DONE, insn, "guest-instructions:" #insn ".result", __VA_ARGS__)
#define ERROR_OF(id, size, insn, ...)						\
	ROWS_OF(id, size, DIVIDE_ERROR, insn, "exceptions:vector.0", __VA_ARGS__, 0, 0)

#define ROWS(size)								\
	ROW_OF(div, size, div, 0, 100, 7, 14, 2);				\
	ROW_OF(div_of_ones, size, div, 0, ONES(size), ONES(size), 1, 0);	\
	ROW_OF(div_of_both_halves, size, div, 1, 0, 3, ONES(size) / 3, 1);	\
	ROW_OF(div_by_more_than_half, size, div, LOWEST(size), 5,		\
	       LOWEST(size) + 1, ONES(size) - 1, 7);				\
	ROW_OF(div_to_ones, size, div, 6, ONES(size), 7, ONES(size), 6);	\
	ERROR_OF(div_to_more_than_ones, size, div, 7, 0, 7);			\
	ROW_OF(idiv, size, idiv, 0, 100, 7, 14, 2);				\
	ROW_OF(idiv_of_negative, size, idiv, -1, -100, 7, -14, -2);		\
	ROW_OF(idiv_by_negative, size, idiv, 0, 100, -7, -14, 2);		\
	ROW_OF(idiv_of_two_negatives, size, idiv, -1, -100, -7, 14, -2);	\
	ROW_OF(idiv_of_both_halves, size, idiv, 1, 0, 3, ONES(size) / 3, 1);	\
	ROW_OF(idiv_to_highest, size, idiv, 0, LOWEST(size) - 1, 1, LOWEST(size) - 1, 0); \
	ERROR_OF(idiv_to_more_than_highest, size, idiv, 0, LOWEST(size), 1);	\
	ROW_OF(idiv_to_lowest, size, idiv, -1, LOWEST(size), 1, LOWEST(size), 0); \
	ERROR_OF(idiv_of_lowest_by_minus_1, size, idiv, -1, LOWEST(size), -1);	\
	ERROR_OF(idiv_by_0, size, idiv, 0, 100, 0)

ROWS(8);
ROWS(16);
ROWS(32);
ROWS(64);
