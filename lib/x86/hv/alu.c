/* Arithmetic of the emulated instructions: the processor does it, and says the flags. */
#include "hv/internal.h"

/*
 * One operation at one size. RFLAGS.CF goes in for ADC and SBB; the six status flags come out.
 */
#define ALU_AT_SIZE(insn, suffix, type)						\
	do {									\
		type result__ = to, from__ = from;				\
		u64 out__;							\
		asm volatile("bt $0, %[in]\n\t"					\
			     insn suffix " %[from], %[result]\n\t"		\
			     "pushfq\n\tpop %[out]"				\
			     : [result] "+q" (result__), [out] "=&r" (out__)	\
			     : [from] "q" (from__), [in] "r" (*flags) : "cc");	\
		*flags = (*flags & ~(u64)RFLAGS_STATUS) | (out__ & RFLAGS_STATUS);\
		return result__;						\
	} while (0)

#define ALU_FUNCTION(name)							\
	static u64 alu_##name(u32 size, u64 to, u64 from, u64 *flags)		\
	{									\
		switch (size) {							\
		case 1:								\
			ALU_AT_SIZE(#name, "b", u8);				\
		case 2:								\
			ALU_AT_SIZE(#name, "w", u16);				\
		case 4:								\
			ALU_AT_SIZE(#name, "l", u32);				\
		default:							\
			ALU_AT_SIZE(#name, "q", u64);				\
		}								\
	}

ALU_FUNCTION(add)
ALU_FUNCTION(or)
ALU_FUNCTION(adc)
ALU_FUNCTION(sbb)
ALU_FUNCTION(and)
ALU_FUNCTION(sub)
ALU_FUNCTION(xor)
ALU_FUNCTION(cmp)

u64 hv_alu(u32 operation, u32 size, u64 to, u64 from, u64 *flags)
{
	static u64 (*const functions[8])(u32 size, u64 to, u64 from, u64 *flags) = {
		alu_add, alu_or, alu_adc, alu_sbb, alu_and, alu_sub, alu_xor, alu_cmp,
	};

	return functions[operation & 7](size, to, from, flags);
}
