/*
 * One processor: its block of memory (descriptor tables, stacks, trap state), how it is
 * brought up, and how it is brought back to the state in which every case begins.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "cpu/outcome.h"
#include "cpu/regs.h"
#include "types.h"

struct platform;

/* Selectors of every processor's GDT. */
enum selector {
	SELECTOR_CODE64		= 0x08,
	SELECTOR_DATA		= 0x10,
	SELECTOR_CODE32		= 0x18,
	SELECTOR_CODE16		= 0x20,
	SELECTOR_DATA16		= 0x28,
	SELECTOR_USER_CODE32	= 0x30 | 3,
	SELECTOR_USER_DATA	= 0x38 | 3,
	SELECTOR_USER_CODE64	= 0x40 | 3,
	SELECTOR_CODE64_CPL1	= 0x48 | 1,
	SELECTOR_DATA_CPL1	= 0x50 | 1,
	SELECTOR_CODE64_CPL2	= 0x58 | 2,
	SELECTOR_DATA_CPL2	= 0x60 | 2,
	SELECTOR_SPARE		= 0x68,	/* for a case to fill in, up to 9FH */
	SELECTOR_TSS		= 0xa0,
	GDT_SIZE		= 0xb0,
};

enum { IST_NONE, IST_DF, IST_NMI, IST_MC };

struct general_registers {
	u64 rax, rbx, rcx, rdx, rsi, rdi, rbp;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
};

/* What the trap entry code pushes: cpu/trap_entry.S. */
struct trap_frame {
	struct general_registers regs;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

/* An exception as it was taken. */
struct trap {
	struct trap_frame frame;
	const struct trap_frame *at;	/* where it was, on the stack of the handler */
	u64 cr2, dr6;
	bool in_guest;
};

/* Where execution goes on when a guarded piece of code traps. Filled by context_save(). */
struct context {
	u64 rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

typedef void trap_handler(struct trap_frame *frame);

struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3, io_map_base;
} __attribute__((packed));

struct gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_middle;
	u32 offset_high, reserved;
};

#define CPU_STACK_SIZE	0x4000
#define CPU_IST_SIZE	0x1000
#define CPU_USER_SIZE	0x1000

struct cpu {
	struct cpu *self;
	u32 index, apic_id;
	u64 gdt[GDT_SIZE / 8];
	struct tss tss;
	struct gate idt[256] __attribute__((aligned(16)));

	struct trap last_trap;
	outcome_t caught;		/* of the last fault at a fixup */
	struct context *catcher;	/* innermost guarded(), or NULL */
	bool in_guest;			/* between VM entry and VM exit */
	bool guest_died;		/* a trap in the guest that nobody expected */
	bool left;			/* case_end() was called here; it was no exception */
	trap_handler *handlers[256];
	void *fpu_owner;		/* struct hv_vcpu whose FPU state is here: hv/fpu.c */

	u8 ist[3][CPU_IST_SIZE] __attribute__((aligned(16)));
	u8 trap_stack[CPU_STACK_SIZE / 2] __attribute__((aligned(16)));	/* RSP0 to RSP2 */
	u8 user_stack[CPU_USER_SIZE] __attribute__((aligned(16)));	/* CPL 1 to 3: cpu/user.h */
	u8 guest_stack[CPU_STACK_SIZE] __attribute__((aligned(16)));
	u8 stack[CPU_STACK_SIZE] __attribute__((aligned(16)));
};

/* A processor's block is aligned, so that any of its stacks leads to it: no register is needed. */
#define CPU_BLOCK_SIZE	0x10000

union cpu_block {
	struct cpu cpu;
	u8 bytes[CPU_BLOCK_SIZE];
};

/* The processor that runs this code, at CPL 0 on one of its own stacks. */
static inline struct cpu *this_cpu(void)
{
	u64 rsp;

	asm volatile("mov %%rsp, %0" : "=r" (rsp));
	return (struct cpu *)(rsp & ~(u64)(CPU_BLOCK_SIZE - 1));
}

/* Makes the block of one processor and loads its descriptor tables; on that processor. */
void cpu_init(struct cpu *cpu, u32 index, u32 apic_id);

/* Remembers the state of control registers and MSRs in which cases begin; once, at boot. */
void cpu_remember_baseline(void);

/*
 * Brings the processor that runs this, any of them, back to that state, whatever a case has done
 * to it. False when its APIC cannot be brought back.
 */
bool cpu_restore_this(void);

/* On the boot processor, after each case: that, and the others wait for their start again. */
void cpu_restore_baseline(void);

/* A new descriptor in the GDT of this processor; the two halves of a TSS or LDT need two. */
void cpu_set_descriptor(u16 selector, u64 descriptor);
void cpu_set_tss(struct cpu *cpu);

/* Loads LDTR: an LDT of `limit` + 1 bytes, by spare descriptors; cpu_restore_this() ends that. */
void cpu_load_ldt(u64 base, u32 limit);

/* The block of processor `index`, 0 = the boot processor. */
struct cpu *cpu_block(u32 index);

#endif
