/* The exits that need few words, and those to user space. */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

#define NMI_UNBLOCKED	BIT(12)		/* Tables 27-20 and 30-7 */

enum hv_next hv_user(struct hv_vcpu *vcpu, u32 reason, int (*complete)(struct hv_vcpu *vcpu))
{
	vcpu->run->exit_reason = reason;
	vcpu->complete = complete;
	if (complete)
		vcpu->complete_at = hv_linear(vcpu, SEGMENT_CS, vmcs_get(GUEST_RIP));
	return HV_USER;
}

enum hv_next hv_internal_error(struct hv_vcpu *vcpu, u32 suberror, const u64 *values, u32 count)
{
	struct kvm_run *run = vcpu->run;

	run->internal.suberror = suberror;
	run->internal.ndata = count;
	memcpy(run->internal.data, values, count * sizeof(values[0]));
	return hv_user(vcpu, KVM_EXIT_INTERNAL_ERROR, NULL);
}

enum hv_next hv_emulation_failure(struct hv_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u32 size;

	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	memset(run->emulation_failure.insn_bytes, 0, sizeof(run->emulation_failure.insn_bytes));
	size = hv_fetch(vcpu, run->emulation_failure.insn_bytes);
	run->emulation_failure.insn_size = size;
	run->emulation_failure.flags =
		size ? KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES : 0;
	/* In quadwords: the flags, then the size with the bytes. */
	run->emulation_failure.ndata = size ? 3 : 1;
	return hv_user(vcpu, KVM_EXIT_INTERNAL_ERROR, NULL);
}

void hv_end_shadow(void)
{
	const u64 shadow = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS;
	u64 state = vmcs_get(GUEST_INTERRUPTIBILITY_STATE);

	if (state & shadow)
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE, state & ~shadow);
}

void hv_skip(struct hv_vcpu *vcpu, u64 length)
{
	u64 rip = vmcs_get(GUEST_RIP) + length, flags = vmcs_get(GUEST_RFLAGS);

	if (!hv_in_64_bit_mode(vcpu))
		rip &= BITS(31, 0);
	vmcs_put(GUEST_RIP, rip);
	if (flags & RFLAGS_RF)
		vmcs_put(GUEST_RFLAGS, flags & ~(u64)RFLAGS_RF);
	hv_end_shadow();
	/* 27.4.2: the single-step trap behind the instruction. */
	if (flags & RFLAGS_TF)
		vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS,
			 vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) | HV_PENDING_BS);
}

/* 20.3.1.1: RF is 1 between the elements, so that no instruction breakpoint stops it again. */
void hv_repeat(struct hv_vcpu *vcpu)
{
	hv_skip(vcpu, 0);
	vmcs_put(GUEST_RFLAGS, vmcs_get(GUEST_RFLAGS) | RFLAGS_RF);
}

void hv_skip_exiting(struct hv_vcpu *vcpu)
{
	hv_skip(vcpu, vmcs_get(VM_EXIT_INSTRUCTION_LENGTH));
}

enum hv_next hv_exit_hlt(struct hv_vcpu *vcpu)
{
	hv_skip_exiting(vcpu);
	/* So does a trap: of HLT, or of a load of SS before it. */
	if ((vcpu->nmi_pending && hv_nmis_open()) ||
	    hv_pending_debug() ||
	    (hv_next_interrupt(vcpu) >= 0 && hv_interrupts_open(vcpu)))
		return HV_GUEST;
	if (!vcpu->vm->irqchip)
		return hv_user(vcpu, KVM_EXIT_HLT, NULL);
	vcpu->mp_state = KVM_MP_STATE_HALTED;
	return hv_user(vcpu, KVM_EXIT_INTR, NULL);
}

enum hv_next hv_exit_triple_fault(struct hv_vcpu *vcpu)
{
	return hv_user(vcpu, KVM_EXIT_SHUTDOWN, NULL);
}

/* An interrupt of the host: user space lets it in, by RFLAGS.IF, and runs the guest again. */
enum hv_next hv_exit_external_interrupt(struct hv_vcpu *vcpu)
{
	return hv_user(vcpu, KVM_EXIT_INTR, NULL);
}

/*
 * Debug exceptions and alignment checks are intercepted, though they are the guest's: their
 * delivery can cause the next one, by a breakpoint on the vector table or a stack that is not
 * aligned, and so on for ever, with no instruction between them at which the processor would look
 * for another reason to exit. Here it ends with the slice.
 */
static enum hv_next deliver_again(struct hv_vcpu *vcpu, u64 event)
{
	u8 vector = FIELD(event, 7, 0);
	u64 flags = vmcs_get(GUEST_RFLAGS);

	if (FIELD(event, 10, 8) != HV_EVENT_HARDWARE_EXCEPTION) {
		vcpu->event = (struct hv_event){
			.id = HV_EVENT(FIELD(event, 10, 8), vector),
			.length = vmcs_get(VM_EXIT_INSTRUCTION_LENGTH),
		};
		return HV_GUEST;
	}
	if (vector == VECTOR_DB) {
		hv_note_debug_exception();
		/* 30.1: delivered, it would have ended it; and 29.3.1.5 wants BS with it. */
		hv_end_shadow();
	}
	hv_inject(vcpu, (struct hv_fault){ .vector = vector, .has_error = vector == VECTOR_AC });
	/* 30.3.3: RF is as the processor would have pushed it, which for a trap is not 1. */
	vmcs_put(GUEST_RFLAGS, flags);
	return hv_exit_preemption_timer(vcpu);
}

/* A step of the guest's own is over: it is not to be told once more for the STI that it was. */
static enum hv_next for_debugger(struct hv_vcpu *vcpu, u8 vector)
{
	u64 dr6 = vector == VECTOR_DB ? vmcs_get(EXIT_QUALIFICATION) : 0;

	if (dr6 & HV_PENDING_BS)
		hv_end_shadow();
	return hv_debug_exception(vcpu, vector, dr6);
}

/* A page fault that the MMU has asked for, or an NMI of the host: its handler gets it. */
enum hv_next hv_exit_exception_or_nmi(struct hv_vcpu *vcpu)
{
	u64 event = vmcs_get(EXITING_EVENT_IDENTIFICATION);
	u8 vector = FIELD(event, 7, 0);
	bool nmi = FIELD(event, 10, 8) == HV_EVENT_NMI;

	if (FIELD(event, 10, 8) == HV_EVENT_HARDWARE_EXCEPTION && vector == VECTOR_PF)
		return hv_exit_memory(vcpu);
	/* Table 30-1: what DR6 would get. A step of the core's own is not user space's. */
	if (!nmi && hv_debug_wants(vcpu, vector) && !hv_real_is_step(vcpu))
		return for_debugger(vcpu, vector);
	if (!nmi && vcpu->real.way != HV_WAY_NATIVE) {
		hv_real_exception(vcpu, event);
		if (vcpu->event.id && !vcpu->shutdown)
			return hv_exit_preemption_timer(vcpu);
		return vcpu->real.way == HV_WAY_STEP && !vcpu->event.id ? hv_debug_stepped(vcpu) :
									   HV_GUEST;
	}
	if (vector == VECTOR_DB || vector == VECTOR_AC)
		return deliver_again(vcpu, event);
	if (!nmi)
		return hv_internal_error(vcpu, KVM_INTERNAL_ERROR_SIMUL_EX, &event, 1);
	asm volatile("int $2" : : : "memory");
	return HV_GUEST;
}

/* VMX instructions, MONITOR, MWAIT, XSETBV ...: the guest does not have them. */
enum hv_next hv_exit_ud(struct hv_vcpu *vcpu)
{
	hv_inject(vcpu, HV_FAULT_UD);
	return HV_GUEST;
}

enum hv_next hv_exit_gp(struct hv_vcpu *vcpu)
{
	hv_inject(vcpu, HV_FAULT_GP);
	return HV_GUEST;
}

/* INVD, WBINVD: guest memory is coherent without them, and INVD would lose the host's data. */
enum hv_next hv_exit_nothing(struct hv_vcpu *vcpu)
{
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}

/* --- MONITOR and MWAIT: 11.10.4; MWAIT may end the wait at once ---------------------------- */

static bool has_monitor(const struct hv_vcpu *vcpu)
{
	return hv_guest_has(vcpu, FEATURE_MONITOR) && vcpu->misc_enable & HV_MONITOR_ENABLED;
}

/* What the processor has by itself it would do; MWAIT exits in any case. */
void hv_monitor_changed(struct hv_vcpu *vcpu)
{
	if (control_allowed(CONTROL_PROC1_MONITOR_EXITING))
		hv_set_proc1(vcpu, CONTROL_PROC1_MONITOR_EXITING, !has_monitor(vcpu));
}

enum hv_next hv_exit_monitor(struct hv_vcpu *vcpu)
{
	return has_monitor(vcpu) ? hv_emulation_failure(vcpu) : hv_exit_ud(vcpu);
}

enum hv_next hv_exit_mwait(struct hv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, 5, 0);
	u64 extensions = (u32)vcpu->state.regs.rcx;

	if (!has_monitor(vcpu))
		return hv_exit_ud(vcpu);
	if (extensions & ~BIT(0) || (extensions && !(entry && (entry->ecx & 3) == 3)))
		return hv_exit_gp(vcpu);
	hv_skip_exiting(vcpu);
	/* Others may run; who waits looks again. */
	return vcpu->vm->irqchip ? hv_user(vcpu, KVM_EXIT_INTR, NULL) : HV_GUEST;
}

/* --- hypercalls --------------------------------------------------------------------- */

/* KVM's hypercalls: outside of 64-bit mode the halves above bit 31 are not there. */
static u64 hypercall_value(const struct hv_vcpu *vcpu, u64 value)
{
	return hv_in_64_bit_mode(vcpu) ? value : value & BITS(31, 0);
}

static enum hv_next hypercall_result(struct hv_vcpu *vcpu, s64 result)
{
	vcpu->state.regs.rax = hypercall_value(vcpu, result);
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}

static int complete_hypercall(struct hv_vcpu *vcpu)
{
	hypercall_result(vcpu, vcpu->run->hypercall.ret);
	return 0;
}

enum hv_next hv_exit_vmcall(struct hv_vcpu *vcpu)
{
	const struct general_registers *regs = &vcpu->state.regs;
	struct kvm_run *run = vcpu->run;
	u64 number = hypercall_value(vcpu, regs->rax), gpa = hypercall_value(vcpu, regs->rbx);
	u64 pages = hypercall_value(vcpu, regs->rcx), size = pages * PAGE_SIZE;

	/* A guest that knows of no hypervisor sees a processor without VMX operation. */
	if (!hv_guest_has(vcpu, FEATURE_HYPERVISOR))
		return hv_exit_ud(vcpu);
	if (hv_cpl())
		return hypercall_result(vcpu, -KVM_EPERM);
	if (number != KVM_HC_MAP_GPA_RANGE ||
	    !(vcpu->vm->user_space_hypercall >> KVM_HC_MAP_GPA_RANGE & 1))
		return hypercall_result(vcpu, -KVM_ENOSYS);
	/* No page, too many, or beyond the last address. */
	if (gpa & ~PAGE_MASK || size / PAGE_SIZE != pages || gpa + size <= gpa)
		return hypercall_result(vcpu, -KVM_EINVAL);
	run->hypercall.nr = number;
	run->hypercall.args[0] = gpa;
	run->hypercall.args[1] = pages;
	run->hypercall.args[2] = hypercall_value(vcpu, regs->rdx);
	run->hypercall.ret = 0;
	run->hypercall.longmode = hv_in_64_bit_mode(vcpu);
	return hv_user(vcpu, KVM_EXIT_HYPERCALL, complete_hypercall);
}

/* --- memory ----------------------------------------------------------------------------- */

/*
 * 30.2.3: an IRET that exited has ended the blocking of NMIs, and will be executed again. The NMI
 * that waits for its end must not come before.
 */
static void block_nmis_again(const struct hv_vcpu *vcpu, u64 information)
{
	if (information & NMI_UNBLOCKED && !vcpu->event.id)
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
			 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) | BLOCKING_BY_NMI);
}

enum hv_next hv_exit_log_full(struct hv_vcpu *vcpu)
{
	block_nmis_again(vcpu, vmcs_get(EXIT_QUALIFICATION));
	vcpu->vm->mmu->drain(vcpu);
	return HV_GUEST;
}

/* Where an EPT violation or a page fault says what NMI_UNBLOCKED is about. */
static u64 information_on_iret(void)
{
	return vmcs_get(EXIT_REASON) == EXIT_EPT_VIOLATION ?
	       vmcs_get(EXIT_QUALIFICATION) : vmcs_get(EXITING_EVENT_IDENTIFICATION);
}

/*
 * Whether the same instruction has made the tables anew too often, with nothing done meanwhile.
 * What it does bit by bit (a gather) does not show in these registers, and needs a few times.
 */
static bool is_stuck(struct hv_vcpu *vcpu)
{
	struct hv_progress *progress = &vcpu->vm->progress;
	u64 rip = vmcs_get(GUEST_RIP), rsp = vmcs_get(GUEST_RSP);
	bool same = progress->vcpu == vcpu && progress->rip == rip &&
		    progress->rsp == rsp &&
		    !memcmp(&progress->regs, &vcpu->state.regs, sizeof(progress->regs));

	/* Those of other vCPUs do not count: then `same` is false. */
	if (same && vcpu->vm->evictions - progress->evictions <= HV_MAX_EVICTIONS)
		return false;
	*progress = (struct hv_progress){ vcpu, vcpu->state.regs, rip, rsp,
					 vcpu->vm->evictions };
	return same;
}

enum hv_next hv_exit_memory(struct hv_vcpu *vcpu)
{
	u64 values[4];

	switch (is_stuck(vcpu) ? HV_MMU_REFUSED : vcpu->vm->mmu->fault(vcpu)) {
	case HV_MMU_DEVICE:
		if (!vcpu->event.id)
			return hv_emulate(vcpu);
		values[0] = vcpu->event.id;
		values[1] = vmcs_get(EXIT_REASON);
		values[2] = vmcs_get(EXIT_QUALIFICATION);
		values[3] = vmcs_get(GUEST_PHYSICAL_ADDRESS);
		return hv_internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, values,
					 ARRAY_SIZE(values));
	case HV_MMU_DEVICE_CODE:
		return hv_emulation_failure(vcpu);
	case HV_MMU_REFUSED:
		values[0] = vmcs_get(EXIT_REASON);
		values[1] = vmcs_get(EXIT_QUALIFICATION);
		values[2] = vmcs_get(EXITING_EVENT_ERROR_CODE);
		values[3] = vmcs_get(GUEST_RIP);
		return hv_internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, values,
					 ARRAY_SIZE(values));
	default:
		block_nmis_again(vcpu, information_on_iret());
		return HV_GUEST;
	}
}

enum hv_next hv_exit_invlpg(struct hv_vcpu *vcpu)
{
	if (vcpu->vm->mmu->invlpg)
		vcpu->vm->mmu->invlpg(vcpu, vmcs_get(EXIT_QUALIFICATION));
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}

enum hv_next hv_exit_stepped(struct hv_vcpu *vcpu)
{
	if (vcpu->steps & HV_STEPS_FOR_MMU)
		vcpu->vm->mmu->stepped(vcpu);
	return hv_debug_stepped(vcpu);
}
