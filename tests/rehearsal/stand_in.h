/*
 * Comes before every file of a rehearsal (make REHEARSE=1, by -include): from here on the names of
 * the instructions that the pretended processor answers are those of its functions. The files of
 * tests/rehearsal itself, which define REHEARSAL_INSIDE, go on to mean the real processor.
 *
 * The library and the images know nothing of it.
 */
#ifndef REHEARSAL_STAND_IN_H
#define REHEARSAL_STAND_IN_H

#include "cpu/safe.h"
#include "vmx/instructions.h"

/* As their namesakes without rehearsed_. */
struct cpuid_result rehearsed_cpuid(u32 leaf, u32 subleaf);
u64 rehearsed_rdmsr(u32 msr);
void rehearsed_wrmsr(u32 msr, u64 value);
outcome_t rehearsed_rdmsr_safe(u32 msr, u64 *value);
outcome_t rehearsed_wrmsr_safe(u32 msr, u64 value);
outcome_t rehearsed_vmxon(u64 pointer);
outcome_t rehearsed_vmread(u64 field, u64 *value);
outcome_t rehearsed_vmwrite(u64 field, u64 value);
u64 rehearsed_vmread_known(u64 field);
void rehearsed_vmwrite_known(u64 field, u64 value);

#ifndef REHEARSAL_INSIDE
#define cpuid_count(leaf, subleaf)	rehearsed_cpuid(leaf, subleaf)
#define cpuid(leaf)			rehearsed_cpuid(leaf, 0)
#define rdmsr(msr)			rehearsed_rdmsr(msr)
#define wrmsr(msr, value)		rehearsed_wrmsr(msr, value)
#define rdmsr_safe(msr, value)		rehearsed_rdmsr_safe(msr, value)
#define wrmsr_safe(msr, value)		rehearsed_wrmsr_safe(msr, value)
#define vmxon(pointer)			rehearsed_vmxon(pointer)
#define vmread_outcome(field, value)	rehearsed_vmread(field, value)
#define vmwrite_outcome(field, value)	rehearsed_vmwrite(field, value)
#define vmread_known(field)		rehearsed_vmread_known(field)
#define vmwrite_known(field, value)	rehearsed_vmwrite_known(field, value)
#endif

#endif
