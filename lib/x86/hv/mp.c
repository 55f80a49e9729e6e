/* When a vCPU with a local APIC has something to run, and for how long. */
#include "hv/internal.h"

/* 12.1.1: the processor waits for a start-up IPI; the boot processor does not wait. */
static void init(struct hv_vcpu *vcpu)
{
	vcpu->init_pending = false;
	vcpu->complete = NULL;
	hv_vcpu_reset(vcpu, true);
	vcpu->mp_state = vcpu->apic_base & APIC_BASE_BSP ? KVM_MP_STATE_RUNNABLE :
			 KVM_MP_STATE_INIT_RECEIVED;
}

/* 11.4.4.2: it begins at VV000H, where VV is the vector. */
static void start(struct hv_vcpu *vcpu)
{
	vcpu->start_pending = false;
	vmcs_put(GUEST_CS_SELECTOR, (u64)vcpu->start_vector << 8);
	vmcs_put(GUEST_CS_BASE, (u64)vcpu->start_vector << 12);
	vmcs_put(GUEST_RIP, 0);
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
}

bool hv_ready(struct hv_vcpu *vcpu)
{
	if (vcpu->init_pending)
		init(vcpu);
	if (vcpu->start_pending && vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		start(vcpu);
	if (vcpu->vm->irqchip)
		hv_lapic_poll(vcpu);
	if (vcpu->mp_state == KVM_MP_STATE_HALTED &&
	    ((vcpu->nmi_pending && hv_nmis_open()) || hv_pending_debug() ||
	     (hv_next_interrupt(vcpu) >= 0 && hv_interrupts_open(vcpu))))
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	return vcpu->mp_state == KVM_MP_STATE_RUNNABLE;
}

void hv_set_timer(struct hv_vcpu *vcpu)
{
	u64 now = rdtsc(), end = vcpu->slice_end;

	if (vcpu->lapic.timer_end) {
		hv_lapic_poll(vcpu);
		if (vcpu->lapic.timer_end && vcpu->lapic.timer_end < end)
			end = vcpu->lapic.timer_end;
	}
	end = end > now ? end - now : 0;
	vmcs_put(VMX_PREEMPTION_TIMER_VALUE, (end >> vcpu->vm->timer_shift) + 1);
}

enum hv_next hv_exit_preemption_timer(struct hv_vcpu *vcpu)
{
	return rdtsc() < vcpu->slice_end ? HV_GUEST : hv_user(vcpu, KVM_EXIT_INTR, NULL);
}

/* --- for user space ------------------------------------------------------------------ */

int hv_vcpu_get_mp_state(struct hv_vcpu *vcpu, struct kvm_mp_state *state)
{
	state->mp_state = vcpu->mp_state;
	if (vcpu->start_pending && vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		state->mp_state = KVM_MP_STATE_SIPI_RECEIVED;
	return 0;
}

int hv_vcpu_set_mp_state(struct hv_vcpu *vcpu, const struct kvm_mp_state *state)
{
	switch (state->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (vcpu->vm->irqchip)
			break;
		/* fall through */
	default:
		return -EINVAL;
	}
	vcpu->mp_state = state->mp_state;
	vcpu->start_pending = state->mp_state == KVM_MP_STATE_SIPI_RECEIVED;
	/* It has its vector already, and starts with the next run. */
	if (vcpu->start_pending)
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
	return 0;
}
