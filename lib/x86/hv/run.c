/* The loop: enter the guest, dispatch its exit, until something is left for user space. */
#include "cpu/safe.h"
#include "hv/internal.h"
#include "vmx/guest.h"

static enum hv_next fail_entry(struct hv_vcpu *vcpu, u64 reason)
{
	vcpu->run->fail_entry.hardware_entry_failure_reason = reason;
	vcpu->run->fail_entry.cpu = 0;
	/* Nothing was delivered; the next entry decides anew. */
	vmcs_put(INJECTED_EVENT_IDENTIFICATION, 0);
	return hv_user(vcpu, KVM_EXIT_FAIL_ENTRY, NULL);
}

/* Somebody looks: who reads what was done, or who debugs the guest. */
static enum hv_next dispatch_watched(struct hv_vcpu *vcpu, u16 reason)
{
	u64 rip = vmcs_get(GUEST_RIP), qualification = vmcs_get(EXIT_QUALIFICATION);
	u32 event = vcpu->event.id;
	enum hv_next next = hv_dispatch(vcpu, reason);

	if (vcpu->trace)
		hv_trace_note(vcpu, &(struct hv_trace_entry){
			.reason = reason, .qualification = qualification,
			.user = next == HV_USER ? vcpu->run->exit_reason : 0,
			.event = vcpu->event.id == event ? 0 : vcpu->event.id });
	/* An instruction that was done here is a step as well. */
	return next == HV_GUEST && vmcs_get(GUEST_RIP) != rip ? hv_debug_stepped(vcpu) : next;
}

/* False: nothing is to be entered; an instruction may have been emulated. */
static bool enter_real(struct hv_vcpu *vcpu, int *next)
{
	u64 rip = vmcs_get(GUEST_RIP);

	if (hv_real_enter(vcpu, next))
		return true;
	/* A step is told even where the slice has ended with it: that comes to an end as well. */
	if (vmcs_get(GUEST_RIP) != rip && hv_debug_stepped(vcpu) == HV_USER)
		*next = HV_USER;
	return false;
}

static enum hv_next enter_once(struct hv_vcpu *vcpu)
{
	int next;
	const bool by_hand = vcpu->vm->mmu->cr0_always & CR0_PE;
	u64 reason, failed;

	if (vcpu->vm->irqchip)
		hv_set_timer(vcpu);
	hv_events_before_entry(vcpu);
	/* Elsewhere real-address mode runs by itself. */
	if (by_hand && !enter_real(vcpu, &next))
		return next;
	/* Another event comes first. */
	if (vcpu->question.gpa && vcpu->question.event != vcpu->event.id)
		vcpu->vm->mmu->answered(vcpu);
	/* Not zero: VMLAUNCH or VMRESUME itself failed, and no guest ran. */
	failed = vmx_switch(&vcpu->state, vcpu->launched);
	if (vcpu->question.gpa)
		vcpu->vm->mmu->answered(vcpu);
	if (by_hand)
		hv_real_leave(vcpu);
	if (failed)
		return fail_entry(vcpu, vmcs_get(VM_INSTRUCTION_ERROR));
	vcpu->exits++;
	reason = vmcs_get(EXIT_REASON);
	/* 29.8: a failed entry has delivered nothing, and leaves the launch state clear. */
	if (reason & BIT(31))
		return fail_entry(vcpu, reason);
	vcpu->launched = true;
	hv_events_after_exit(vcpu);
	if (vcpu->trace || vcpu->guest_debug.control)
		return dispatch_watched(vcpu, reason & 0xffff);
	return hv_dispatch(vcpu, reason & 0xffff);
}

/* What the guest uses, and neither the VMCS nor the switch takes care of. */
static void swap(u64 *guest, u64 host, void (*write)(u64 value))
{
	u64 value = *guest;

	*guest = host;
	if (value != host)
		write(value);
}

static void swap_registers(struct hv_vcpu *vcpu)
{
	swap(&vcpu->cr2, read_cr2(), write_cr2);
	swap(&vcpu->dr[0], read_dr0(), write_dr0);
	swap(&vcpu->dr[1], read_dr1(), write_dr1);
	swap(&vcpu->dr[2], read_dr2(), write_dr2);
	swap(&vcpu->dr[3], read_dr3(), write_dr3);
	swap(&vcpu->dr6, read_dr6(), write_dr6);
	hv_msrs_swap(vcpu);
}

/* What an exit does not leave as it was: 30.5.1, 30.5.2. */
struct host {
	struct table_pointer gdtr, idtr;
	u64 dr7, debugctl;
};

/* The caller may have changed its control registers since the VMCS was made. */
static struct host leave_host(void)
{
	struct host host = { read_gdtr(), read_idtr(), read_dr7(), 0 };

	/* Not every emulator has it. */
	if (rdmsr_safe(IA32_DEBUGCTL, &host.debugctl) != OUTCOME_DONE)
		host.debugctl = 0;
	vmcs_put(HOST_CR3, read_cr3());
	vmcs_put(HOST_CR4, read_cr4());
	/* Its breakpoints must not meet the guest's addresses. */
	if (host.dr7 != DR7_FIXED)
		write_dr7(DR7_FIXED);
	return host;
}

static void return_to_host(const struct host *host)
{
	/* The limits are FFFFH now. */
	write_gdtr(host->gdtr);
	write_idtr(host->idtr);
	if (host->debugctl)
		wrmsr(IA32_DEBUGCTL, host->debugctl);
	if (host->dr7 != DR7_FIXED)
		write_dr7(host->dr7);
}

static void loop(struct hv_vcpu *vcpu)
{
	const struct host host = leave_host();
	enum hv_next next = HV_GUEST;

	swap_registers(vcpu);
	vcpu->running = true;
	while (next == HV_GUEST && !vcpu->shutdown && !vcpu->init_pending)
		next = enter_once(vcpu);
	if (vcpu->question.gpa)
		vcpu->vm->mmu->answered(vcpu);
	if (vcpu->vm->mmu->drain)
		vcpu->vm->mmu->drain(vcpu);
	swap_registers(vcpu);
	vcpu->running = false;
	hv_events_after_run(vcpu);
	return_to_host(&host);
	if (next == HV_GUEST)
		hv_user(vcpu, vcpu->shutdown ? KVM_EXIT_SHUTDOWN : KVM_EXIT_INTR, NULL);
	vcpu->shutdown = false;
}

/*
 * The last exit's rest. Returns false when that led to user space once more. Nothing is left of
 * an instruction from which user space has taken the vCPU away: a reset, say, that a port has
 * asked for.
 */
static bool complete(struct hv_vcpu *vcpu)
{
	int (*rest)(struct hv_vcpu *vcpu) = vcpu->complete;
	u64 rip = vmcs_get(GUEST_RIP);

	if (rest && hv_linear(vcpu, SEGMENT_CS, rip) != vcpu->complete_at) {
		vcpu->emulation.count = 0;
		rest = NULL;
	}
	vcpu->complete = NULL;
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	if (rest)
		rest(vcpu);
	if (rest && vcpu->run->exit_reason == KVM_EXIT_UNKNOWN && vmcs_get(GUEST_RIP) != rip)
		hv_debug_stepped(vcpu);
	return vcpu->run->exit_reason == KVM_EXIT_UNKNOWN;
}

static void tell_state(struct hv_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	run->if_flag = !!(vmcs_get(GUEST_RFLAGS) & RFLAGS_IF);
	run->ready_for_interrupt_injection = !vcpu->event.id && hv_next_interrupt(vcpu) < 0 &&
					     hv_interrupts_open(vcpu);
	run->cr8 = hv_cr8(vcpu);
	run->apic_base = vcpu->apic_base;
}

static int run(struct hv_vcpu *vcpu)
{
	u32 reason_before = vcpu->run->exit_reason;

	if (!vcpu->vm->irqchip)
		vcpu->cr8 = vcpu->run->cr8;
	if (vcpu->vm->mmu->resumed)
		vcpu->vm->mmu->resumed(vcpu);
	hv_lapic_place(vcpu);
	if (!complete(vcpu))
		return 0;
	if (vcpu->run->immediate_exit) {
		vcpu->run->exit_reason = reason_before;
		return -EINTR;
	}
	if (!hv_ready(vcpu))
		return -EAGAIN;
	vcpu->slice_end = rdtsc() + (vcpu->vm->irqchip ? HV_SLICE : HV_LONG_SLICE);
	loop(vcpu);
	return 0;
}

int hv_vcpu_run(struct hv_vcpu *vcpu)
{
	u64 host_xcr0;
	int result;

	if (!vcpu->vm->irqchip && vcpu->run->cr8 > 15)
		return -EINVAL;
	/* KVM_CAP_SYNC_REGS: there are none. */
	if (vcpu->run->kvm_valid_regs || vcpu->run->kvm_dirty_regs)
		return -EINVAL;
	hv_load(vcpu);
	/* Before an emulation goes on: it may use them, and PKRU. */
	host_xcr0 = hv_fpu_load(vcpu);
	result = run(vcpu);
	/* It may have gone on without an exit. */
	tell_state(vcpu);
	hv_fpu_leave(host_xcr0);
	return result;
}
