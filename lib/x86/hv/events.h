/* Exceptions, interrupts and NMIs for the guest: inject.c. */
#ifndef HV_EVENTS_H
#define HV_EVENTS_H

#include "cpu/traps.h"
#include "hv/hv.h"

struct hv_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;			/* of a page fault */
};

#define HV_FAULT_GP	((struct hv_fault){ .vector = VECTOR_GP, .has_error = true })
#define HV_FAULT_UD	((struct hv_fault){ .vector = VECTOR_UD })

/* The guest gets `fault` instead of the instruction that it is at. */
void hv_inject(struct hv_vcpu *vcpu, struct hv_fault fault);

/* User space is about to set registers: what is raised, and no exception any more, is dropped. */
void hv_drop_raised(struct hv_vcpu *vcpu, u64 rip);

/* Before an entry: the event to deliver, the windows to watch. After an exit: what it broke off. */
void hv_events_before_entry(struct hv_vcpu *vcpu);
void hv_events_after_exit(struct hv_vcpu *vcpu);
/* After a run: an interrupt whose delivery was broken off waits like any other. */
void hv_events_after_run(struct hv_vcpu *vcpu);

/* INT n, INT3, INTO, INT1: the instruction that raised it is over. */
bool hv_is_software_event(const struct hv_event *event);

/* The vector of the interrupt that comes next, from user space or the local APIC; -1: none. */
int hv_next_interrupt(const struct hv_vcpu *vcpu);

/* Whether an interrupt would be taken at once. */
bool hv_interrupts_open(struct hv_vcpu *vcpu);
/* Whether an NMI would be. */
bool hv_nmis_open(void);

#endif
