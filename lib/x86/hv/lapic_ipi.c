/* Interprocessor interrupts: 13.6 Issuing Interprocessor Interrupts. */
#include "hv/lapic_ipi.h"
#include "cpu/apic.h"
#include "hv/internal.h"

enum delivery { FIXED, LOWEST_PRIORITY, SMI, RESERVED, NMI, INIT, START_UP };
enum shorthand { NO_SHORTHAND, TO_SELF, TO_ALL, TO_OTHERS };

#define BROADCAST(x2apic)	((x2apic) ? 0xffffffff : 0xff)

static bool has_x2apic_ids(const struct hv_vcpu *vcpu)
{
	return vcpu->apic_base & APIC_BASE_X2APIC;
}

/* 13.6.2.2 Logical Destination Mode; 13.12.10 in x2APIC mode. */
static bool matches_logically(const struct hv_vcpu *to, u32 destination)
{
	u32 id = to->lapic.reg[APIC_LOGICAL_DESTINATION / 16];
	bool flat = to->lapic.reg[APIC_DESTINATION_FORMAT / 16] >> 28 == 15;

	if (has_x2apic_ids(to))
		return id >> 16 == destination >> 16 && id & destination & 0xffff;
	id >>= 24;
	if (flat)
		return id & destination;
	return id >> 4 == destination >> 4 && id & destination & 15;
}

static bool is_meant(const struct hv_vcpu *from, const struct hv_vcpu *to, u32 command,
		     u32 destination)
{
	switch (FIELD(command, 19, 18)) {
	case TO_SELF:
		return to == from;
	case TO_ALL:
		return true;
	case TO_OTHERS:
		return to != from;
	}
	if (destination == BROADCAST(has_x2apic_ids(from)))
		return true;
	if (command & ICR_LOGICAL)
		return matches_logically(to, destination);
	return to->id == destination;
}

/*
 * 11.4.2, 12.1.1: INIT is kept until the vCPU runs; a start-up IPI counts only after INIT. False:
 * it is not accepted here.
 */
static bool deliver(struct hv_vcpu *to, u32 command)
{
	/* INIT level de-assert: 13.6.1, not for processors with 64-bit mode. */
	const bool deassert = !(command & ICR_ASSERT) && command & BIT(15);

	switch (FIELD(command, 10, 8)) {
	case FIXED:
	case LOWEST_PRIORITY:
		return hv_lapic_accept(to, command);
	case NMI:
		hv_vcpu_nmi(to);
		break;
	case INIT:
		if (deassert)
			break;
		to->init_pending = true;
		to->start_pending = false;
		break;
	case START_UP:
		if (!to->init_pending && to->mp_state != KVM_MP_STATE_INIT_RECEIVED)
			break;
		to->start_pending = true;
		to->start_vector = command;
		break;
	}
	return true;
}

void hv_lapic_send(struct hv_vcpu *vcpu, u32 command, u32 destination)
{
	struct hv_vm *vm = vcpu->vm;
	u32 delivery = FIELD(command, 10, 8), i;

	if ((delivery == FIXED || delivery == LOWEST_PRIORITY) && (command & 0xff) < 16) {
		hv_lapic_error(vcpu, HV_LAPIC_SENT_ILLEGAL_VECTOR);
		/* To oneself, it arrives nowhere and is found by the receiver as well. */
		if (FIELD(command, 19, 18) == TO_SELF)
			hv_lapic_error(vcpu, HV_LAPIC_RECEIVED_ILLEGAL_VECTOR);
		return;
	}
	for (i = 0; i < vm->vcpu_count; i++) {
		if (!is_meant(vcpu, vm->vcpus[i], command, destination))
			continue;
		/* One of them, and one that takes interrupts: 13.6.2.4. */
		if (deliver(vm->vcpus[i], command) && delivery == LOWEST_PRIORITY)
			break;
	}
}
