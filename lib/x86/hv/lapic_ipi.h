/* What local APICs send each other. */
#ifndef HV_LAPIC_IPI_H
#define HV_LAPIC_IPI_H

#include "types.h"

struct hv_vcpu;

/* Bits of the error status register: 13.5.3 Error Handling. */
enum hv_lapic_errors {
	HV_LAPIC_SENT_ILLEGAL_VECTOR = 1 << 5,
	HV_LAPIC_RECEIVED_ILLEGAL_VECTOR = 1 << 6,
	HV_LAPIC_ILLEGAL_REGISTER = 1 << 7,
};

/* Sends `command` (the low half of the ICR) to `destination`, from `vcpu`. */
void hv_lapic_send(struct hv_vcpu *vcpu, u32 command, u32 destination);

/* A fixed interrupt arrives. False: the APIC is disabled, and takes none. */
bool hv_lapic_accept(struct hv_vcpu *vcpu, u8 vector);
void hv_lapic_error(struct hv_vcpu *vcpu, enum hv_lapic_errors error);

#endif
