/*
 * Accesses that may fault: the outcome says how they ended. At any CPL: also in code that
 * run_at_cpl() runs.
 */
#ifndef CPU_SAFE_H
#define CPU_SAFE_H

#include "cpu/traps.h"
#include "sdm/invpcid.h"

static inline outcome_t rdmsr_safe(u32 msr, u64 *value)
{
	u32 low = 0, high = 0;
	outcome_t outcome = ATTEMPT("rdmsr", "+a" (low), "+d" (high) : "c" (msr));

	*value = (u64)high << 32 | low;
	return outcome;
}

static inline outcome_t wrmsr_safe(u32 msr, u64 value)
{
	return ATTEMPT("wrmsr", : "c" (msr), "a" ((u32)value), "d" ((u32)(value >> 32)) : "memory");
}

static inline outcome_t rdpmc_safe(u32 counter, u64 *value)
{
	u32 low = 0, high = 0;
	outcome_t outcome = ATTEMPT("rdpmc", "+a" (low), "+d" (high) : "c" (counter));

	*value = (u64)high << 32 | low;
	return outcome;
}

static inline outcome_t xsetbv_safe(u32 index, u64 value)
{
	return ATTEMPT("xsetbv", : "c" (index), "a" ((u32)value), "d" ((u32)(value >> 32)));
}

/* INVPCID; `type` may be one that does not exist. */
static inline outcome_t invpcid_safe(u64 type, u64 pcid, u64 address)
{
	struct invpcid_descriptor descriptor = { pcid, address };

	return ATTEMPT("invpcid (%0), %1", : "r" (&descriptor), "r" (type) : "memory");
}

#define SAFE_WRITE(name)							\
	static inline outcome_t write_##name##_safe(u64 value)			\
	{									\
		return ATTEMPT("mov %0, %%" #name, : "r" (value) : "memory");	\
	}
SAFE_WRITE(cr0)
SAFE_WRITE(cr3)
SAFE_WRITE(cr4)
SAFE_WRITE(cr8)
SAFE_WRITE(dr0)
SAFE_WRITE(dr6)
SAFE_WRITE(dr7)
#undef SAFE_WRITE

#endif
