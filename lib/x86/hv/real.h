/*
 * Real-address mode without "unrestricted guest", where VMX wants CR0.PE and CR0.PG to be 1 (26.8
 * Restrictions on VMX Operation). Nobody but the guest may notice, so each VM entry puts something
 * else in the place of its segments and flags, and the VM exit takes it back: handlers and user
 * space see real-address mode. There are three ways:
 *
 *	virtual-8086 mode	while all six segments are as that mode has them (29.3.1.2): base 16
 *				times the selector, 64 KBytes. It has CPL 3, IOPL 0 and no I/O bit
 *				map, so what it does not allow is a #GP or #UD; then the instruction
 *				gets another way.
 *	one step		protected mode with CPL 0, whose segments are what the guest's are,
 *				for one instruction, up to the single-step trap, if that is one
 *				which does the same in both modes.
 *	emulation		of the others: what has to do with selectors, RFLAGS or interrupts.
 *
 * Exceptions all exit. The core delivers them, and interrupts, by the interrupt vector table
 * (23.1.4).
 */
#ifndef HV_REAL_H
#define HV_REAL_H

#include "types.h"

struct hv_vcpu;

enum hv_way { HV_WAY_NATIVE, HV_WAY_V86, HV_WAY_STEP };

/* What a VM entry has replaced. */
struct hv_real {
	u8 way;				/* enum hv_way, of the entry that is under way */
	bool step;			/* the next instruction is not one for virtual-8086 mode */
	bool nowhere;			/* an event met a table or stack that is no memory */
	u16 selector[6];		/* in the order of the VMCS */
	u32 rights[6], tr_rights, tr_limit, sysenter_cs, exceptions;
	u64 iopl, cr0, cr0_mask, cr0_shadow, cr4;
	u64 tf, blocking, pending, debugctl;
};

/* Whether the guest is in real-address mode and cannot be on this processor as it is. */
bool hv_real_by_hand(const struct hv_vcpu *vcpu);

/*
 * Before a VM entry, for which all else is ready. False: there is none, because an instruction has
 * been emulated or the run ends; then `next` says how to go on (enum hv_next).
 */
bool hv_real_enter(struct hv_vcpu *vcpu, int *next);
/* After it: the guest's own registers again. */
void hv_real_leave(struct hv_vcpu *vcpu);
/* The exit is by the trap of a step that the core makes. */
bool hv_real_is_step(const struct hv_vcpu *vcpu);
/* An exception of this guest has exited. */
void hv_real_exception(struct hv_vcpu *vcpu, u64 event);

/* Delivers vcpu->event by the interrupt vector table; a fault on the way takes its place. */
void hv_real_deliver(struct hv_vcpu *vcpu);

/* real_emulate.c: the instruction at RIP, if it is one that needs it. */
enum hv_real_result {
	HV_REAL_DONE,			/* or it has raised an exception: hv_inject() */
	HV_REAL_SAME,			/* it does the same in protected mode with CPL 0 */
	HV_REAL_NO_MEMORY,		/* what it needs is outside the slots */
};
enum hv_real_result hv_real_emulate(struct hv_vcpu *vcpu);
/* INT n, or an event: `next` is the IP that it saves. */
enum hv_real_result hv_real_interrupt(struct hv_vcpu *vcpu, u8 vector, u64 next);

#endif
