/*
 * The local APIC of a vCPU: SDM 13, Advanced Programmable Interrupt Controller (APIC), in xAPIC and
 * in x2APIC mode. It is there when the VM has an interrupt controller: hv_vm_create_irqchip().
 */
#ifndef HV_LAPIC_H
#define HV_LAPIC_H

#include "types.h"

struct hv_vcpu;
struct hv_vm;

#define HV_LAPIC_REGISTERS	64	/* 13.4.1, Table 13-1: one each 16 bytes */

struct hv_lapic {
	u32 reg[HV_LAPIC_REGISTERS];
	u32 command_high;	/* x2APIC mode: bits 63:32 of the interrupt command */
	u8 requested;		/* registers of the interrupt request register that are not 0 */
	u32 errors;		/* found since the error status register was written */
	u64 timer_end;		/* time stamp at which the timer fires; 0: it does not run */
	u64 tsc_deadline;
};

/* As after a reset or INIT; IA32_APIC_BASE is not touched. */
void hv_lapic_reset(struct hv_vcpu *vcpu);

/*
 * IA32_APIC_BASE: 13.12.5 x2APIC State Transitions. False: #GP(0). User space may make any
 * transition, if only the value is one that the register can have: hv_lapic_is_base().
 */
bool hv_lapic_set_base(struct hv_vcpu *vcpu, u64 base, bool by_user_space);
bool hv_lapic_is_base(const struct hv_vcpu *vcpu, u64 base);

/* Whether `gpa` is in the page of this vCPU's registers, in xAPIC mode. */
bool hv_lapic_at(const struct hv_vcpu *vcpu, u64 gpa);
/*
 * This vCPU runs from here on, or its IA32_APIC_BASE is another one: what is mapped in the place of
 * its registers goes. hv_lapic_within(): none of it must be mapped there.
 */
void hv_lapic_place(struct hv_vcpu *vcpu);
bool hv_lapic_within(const struct hv_vm *vm, u64 gpa, u64 size);
/* An access to it, `size` 1 to 8 bytes within the page. */
void hv_lapic_read(struct hv_vcpu *vcpu, u64 gpa, u8 *bytes, u32 size);
void hv_lapic_write(struct hv_vcpu *vcpu, u64 gpa, const u8 *bytes, u32 size);

/* MSRs 800H to 8FFH and IA32_TSC_DEADLINE; false: #GP(0). */
bool hv_lapic_msr_read(struct hv_vcpu *vcpu, u32 msr, u64 *value);
bool hv_lapic_msr_write(struct hv_vcpu *vcpu, u32 msr, u64 value);
u64 hv_lapic_tsc_deadline(const struct hv_vcpu *vcpu);
void hv_lapic_set_tsc_deadline(struct hv_vcpu *vcpu, u64 deadline);

/* CR8 is bits 7:4 of the task priority. */
u64 hv_lapic_cr8(const struct hv_vcpu *vcpu);
void hv_lapic_set_cr8(struct hv_vcpu *vcpu, u64 cr8);

/* Lets the timer fire if its time has come. */
void hv_lapic_poll(struct hv_vcpu *vcpu);

/* The vector that the processor would get now; -1: none. Taking it moves it into service. */
int hv_lapic_next(const struct hv_vcpu *vcpu);
void hv_lapic_take(struct hv_vcpu *vcpu, u8 vector);

#endif
