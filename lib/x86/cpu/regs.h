/* Reading and writing the processor's registers: one instruction each, no checks. */
#ifndef CPU_REGS_H
#define CPU_REGS_H

#include "sdm/bits.h"
#include "sdm/msrs.h"
#include "types.h"

struct cpuid_result {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid_count(u32 leaf, u32 subleaf)
{
	struct cpuid_result r;

	asm volatile("cpuid" : "=a" (r.eax), "=b" (r.ebx), "=c" (r.ecx), "=d" (r.edx)
		     : "a" (leaf), "c" (subleaf));
	return r;
}

static inline struct cpuid_result cpuid(u32 leaf)
{
	return cpuid_count(leaf, 0);
}

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a" (low), "=d" (high) : "c" (msr));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c" (msr), "a" ((u32)value), "d" ((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a" (low), "=d" (high));
	return (u64)high << 32 | low;
}

#define REGISTER_ACCESS(name)							\
	static inline u64 read_##name(void)					\
	{									\
		u64 value;							\
										\
		asm volatile("mov %%" #name ", %0" : "=r" (value) : : "memory");\
		return value;							\
	}									\
	static inline void write_##name(u64 value)				\
	{									\
		asm volatile("mov %0, %%" #name : : "r" (value) : "memory");	\
	}
REGISTER_ACCESS(cr0)
REGISTER_ACCESS(cr2)
REGISTER_ACCESS(cr3)
REGISTER_ACCESS(cr4)
REGISTER_ACCESS(cr8)
REGISTER_ACCESS(dr0)
REGISTER_ACCESS(dr1)
REGISTER_ACCESS(dr2)
REGISTER_ACCESS(dr3)
REGISTER_ACCESS(dr6)
REGISTER_ACCESS(dr7)
#undef REGISTER_ACCESS

#define SEGMENT_READ(name)							\
	static inline u16 read_##name(void)					\
	{									\
		u16 value;							\
										\
		asm volatile("mov %%" #name ", %0" : "=r" (value));		\
		return value;							\
	}
SEGMENT_READ(cs)
SEGMENT_READ(ss)
SEGMENT_READ(ds)
SEGMENT_READ(es)
SEGMENT_READ(fs)
SEGMENT_READ(gs)
#undef SEGMENT_READ

#define SEGMENT_WRITE(name)							\
	static inline void write_##name(u16 value)				\
	{									\
		asm volatile("mov %0, %%" #name : : "r" (value) : "memory");	\
	}
SEGMENT_WRITE(ss)
SEGMENT_WRITE(ds)
SEGMENT_WRITE(es)
SEGMENT_WRITE(fs)
SEGMENT_WRITE(gs)
#undef SEGMENT_WRITE

static inline u16 read_tr(void)
{
	u16 value;

	asm volatile("str %0" : "=r" (value));
	return value;
}

static inline void write_ldtr(u16 value)
{
	asm volatile("lldt %0" : : "r" (value) : "memory");
}

static inline u16 read_ldtr(void)
{
	u16 value;

	asm volatile("sldt %0" : "=r" (value));
	return value;
}

static inline u64 read_rflags(void)
{
	u64 value;

	asm volatile("pushfq; pop %0" : "=r" (value));
	return value;
}

struct table_pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

static inline struct table_pointer read_gdtr(void)
{
	struct table_pointer p;

	asm volatile("sgdt %0" : "=m" (p));
	return p;
}

static inline struct table_pointer read_idtr(void)
{
	struct table_pointer p;

	asm volatile("sidt %0" : "=m" (p));
	return p;
}

static inline void write_gdtr(struct table_pointer p)
{
	asm volatile("lgdt %0" : : "m" (p) : "memory");
}

static inline void write_idtr(struct table_pointer p)
{
	asm volatile("lidt %0" : : "m" (p) : "memory");
}

static inline void invlpg(u64 address)
{
	asm volatile("invlpg (%0)" : : "r" (address) : "memory");
}

static inline void pause(void)
{
	asm volatile("pause" : : : "memory");
}

/* 7.7.1 Handling Multiple NMIs: IRET ends the blocking by an NMI. In 64-bit mode at CPL 0. */
static inline void unblock_nmis(void)
{
	asm volatile("movq %%rsp, %%rax\n\tmovl %%ss, %%ecx\n\tpushq %%rcx\n\tpushq %%rax\n\t"
		     "pushfq\n\tmovl %%cs, %%ecx\n\tpushq %%rcx\n\tpushq $1f\n\tiretq\n1:"
		     : : : "rax", "rcx", "cc", "memory");
}

/* CPUID.function(leaf, subleaf).register[bit], 0 when the leaf is beyond the highest. */
#define CPUID_BIT(leaf, subleaf, reg, bit)					\
	((leaf) <= cpuid((leaf) & 0x80000000).eax &&				\
	 (cpuid_count(leaf, subleaf).reg >> (bit) & 1))

#endif
