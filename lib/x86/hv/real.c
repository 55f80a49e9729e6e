/* Real-address mode without "unrestricted guest": the ways to run it. See real.h. */
#include "hv/internal.h"
#include "hv/real.h"
#include "vmx/guest.h"

/* Table 27-2: what virtual-8086 mode wants (29.3.1.2), and 64 KBytes. */
#define V86_RIGHTS	0xf3u
#define V86_LIMIT	0xffffu
#define TYPE_CODE	8u
#define READ_EXECUTE_ACCESSED	11u
#define HV_AR_DPL_3	BITS(6, 5)

#define BLOCKING	(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)
#define DEBUGCTL_BTF	BIT(1)
#define PENDING_BITS	(BITS(3, 0) | HV_PENDING_BS)

static u64 rights_of(u32 number)
{
	return vmcs_get(GUEST_ES_ACCESS_RIGHTS + 2 * number);
}

bool hv_real_by_hand(const struct hv_vcpu *vcpu)
{
	return vcpu->vm->mmu->cr0_always & CR0_PE && !(hv_cr0() & CR0_PE);
}

/* --- virtual-8086 mode ------------------------------------------------------------------------ */

static bool fits_v86(u32 number)
{
	u64 rights = rights_of(number);
	bool writable = number == SEGMENT_CS || (HV_AR_TYPE(rights) & ~1u) == 2;

	return writable && !(rights & (HV_AR_UNUSABLE | HV_AR_DB | HV_AR_G)) &&
	       vmcs_get(GUEST_ES_LIMIT + 2 * number) == V86_LIMIT &&
	       vmcs_get(GUEST_ES_BASE + 2 * number) ==
		       vmcs_get(GUEST_ES_SELECTOR + 2 * number) << 4;
}

static bool all_fit_v86(void)
{
	u32 i;

	for (i = 0; i < 6; i++)
		if (!fits_v86(i))
			return false;
	return true;
}

/*
 * CPL 3 would mean alignment checks. With a TSS without a byte all ports are denied, and without
 * IA32_SYSENTER_CS also SYSENTER.
 */
static void enter_v86(struct hv_real *real)
{
	u64 flags = vmcs_get(GUEST_RFLAGS);
	u32 i;

	for (i = 0; i < 6; i++)
		vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * i, V86_RIGHTS);
	real->iopl = flags & RFLAGS_IOPL;
	vmcs_put(GUEST_RFLAGS, (flags & ~(u64)RFLAGS_IOPL) | RFLAGS_VM);
	real->tr_limit = vmcs_get(GUEST_TR_LIMIT);
	real->tr_rights = vmcs_get(GUEST_TR_ACCESS_RIGHTS);
	vmcs_put(GUEST_TR_LIMIT, 0);
	vmcs_put(GUEST_TR_ACCESS_RIGHTS, real->tr_rights & ~(u64)HV_AR_G);
	real->sysenter_cs = vmcs_get(GUEST_IA32_SYSENTER_CS);
	vmcs_put(GUEST_IA32_SYSENTER_CS, 0);
	real->cr0 = vmcs_get(GUEST_CR0);
	real->cr0_mask = vmcs_get(CR0_GUEST_HOST_MASK);
	real->cr0_shadow = vmcs_get(CR0_READ_SHADOW);
	vmcs_put(CR0_READ_SHADOW, hv_cr0());
	vmcs_put(CR0_GUEST_HOST_MASK, real->cr0_mask | CR0_AM);
	vmcs_put(GUEST_CR0, real->cr0 & ~(u64)CR0_AM);
}

static void leave_v86(const struct hv_real *real)
{
	u64 flags = vmcs_get(GUEST_RFLAGS) & ~(u64)(RFLAGS_VM | RFLAGS_IOPL);

	vmcs_put(GUEST_RFLAGS, flags | real->iopl);
	vmcs_put(GUEST_TR_LIMIT, real->tr_limit);
	vmcs_put(GUEST_TR_ACCESS_RIGHTS, real->tr_rights);
	vmcs_put(GUEST_IA32_SYSENTER_CS, real->sysenter_cs);
	vmcs_put(GUEST_CR0, real->cr0);
	vmcs_put(CR0_GUEST_HOST_MASK, real->cr0_mask);
	vmcs_put(CR0_READ_SHADOW, real->cr0_shadow);
}

/* --- one instruction in protected mode -------------------------------------------------------- */

/* What 29.3.1.2 wants of a segment, and the guest cannot see: it does not read selectors here. */
static u64 rights_for_step(u32 number, u64 rights)
{
	if (rights & HV_AR_UNUSABLE)
		return rights;
	rights |= 1;	/* accessed */
	if (number != SEGMENT_CS && number != SEGMENT_SS)
		return rights | HV_AR_DPL_3;
	rights &= ~(u64)HV_AR_DPL_3;
	return number == SEGMENT_SS || rights & TYPE_CODE ? rights :
	       (rights & ~(u64)BITS(3, 0)) | READ_EXECUTE_ACCESSED;
}

/*
 * 20.3.1.4 Single-Step Exception Condition. The guest does not see TF: PUSHF is emulated. With it,
 * blocking by STI or MOV SS would want a trap before the instruction (29.3.1.5), and debug
 * exceptions that wait until behind it would come.
 */
static void single_step(struct hv_real *real)
{
	u64 flags = vmcs_get(GUEST_RFLAGS), state = vmcs_get(GUEST_INTERRUPTIBILITY_STATE);

	real->tf = flags & RFLAGS_TF;
	real->blocking = state & BLOCKING;
	real->pending = vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS);
	real->debugctl = vmcs_get(GUEST_IA32_DEBUGCTL);
	vmcs_put(GUEST_RFLAGS, flags | RFLAGS_TF);
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE, state & ~(u64)BLOCKING);
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	vmcs_put(GUEST_IA32_DEBUGCTL, real->debugctl & ~(u64)DEBUGCTL_BTF);
}

/* Whether the exit is the trap behind the instruction. */
static bool is_step_trap(void)
{
	u64 event = vmcs_get(EXITING_EVENT_IDENTIFICATION);

	return vmcs_get(EXIT_REASON) == EXIT_EXCEPTION_OR_NMI &&
	       FIELD(event, 10, 0) == (HV_EVENT_HARDWARE_EXCEPTION << 8 | VECTOR_DB) &&
	       vmcs_get(EXIT_QUALIFICATION) & HV_PENDING_BS;
}

static void end_single_step(const struct hv_real *real)
{
	u64 pending = vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS);

	if (!real->tf)
		pending &= ~(u64)HV_PENDING_BS;
	vmcs_put(GUEST_RFLAGS, (vmcs_get(GUEST_RFLAGS) & ~(u64)RFLAGS_TF) | real->tf);
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, pending | real->pending);
	vmcs_put(GUEST_IA32_DEBUGCTL, real->debugctl);
	if (!is_step_trap())
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
			 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) | real->blocking);
}

static void enter_step(struct hv_vcpu *vcpu)
{
	struct hv_real *real = &vcpu->real;
	u32 i;

	for (i = 0; i < 6; i++)
		vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * i, rights_for_step(i, real->rights[i]));
	vmcs_put(GUEST_CS_SELECTOR, real->selector[SEGMENT_CS] & ~3u);
	vmcs_put(GUEST_SS_SELECTOR, real->selector[SEGMENT_SS] & ~3u);
	single_step(real);
	/*
	 * What opens a window is seen to before each instruction, and a debugger's step is this
	 * one.
	 */
	vmcs_put(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
		 vcpu->proc1 & ~(control_bit(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING) |
				 control_bit(CONTROL_PROC1_NMI_WINDOW_EXITING) |
				 control_bit(CONTROL_PROC1_MONITOR_TRAP_FLAG)));
}

static void leave_step(struct hv_vcpu *vcpu)
{
	end_single_step(&vcpu->real);
	vmcs_put(GUEST_CS_SELECTOR, vcpu->real.selector[SEGMENT_CS]);
	vmcs_put(GUEST_SS_SELECTOR, vcpu->real.selector[SEGMENT_SS]);
	vmcs_put(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, vcpu->proc1);
}

/* --- entry and exit --------------------------------------------------------------------------- */

static void enter_by(struct hv_vcpu *vcpu, enum hv_way way)
{
	struct hv_real *real = &vcpu->real;
	u32 i;

	real->way = way;
	real->step = false;
	for (i = 0; i < 6; i++) {
		real->selector[i] = vmcs_get(GUEST_ES_SELECTOR + 2 * i);
		real->rights[i] = rights_of(i);
	}
	real->exceptions = vmcs_get(EXCEPTION_BITMAP);
	vmcs_put(EXCEPTION_BITMAP, BITS(31, 0));
	/* Of protected mode and virtual-8086 mode alone. */
	real->cr4 = vmcs_get(GUEST_CR4);
	vmcs_put(GUEST_CR4, real->cr4 & ~(u64)(CR4_VME | CR4_PVI | CR4_CET));
	if (way == HV_WAY_V86)
		enter_v86(real);
	else
		enter_step(vcpu);
}

void hv_real_leave(struct hv_vcpu *vcpu)
{
	struct hv_real *real = &vcpu->real;
	u32 i;

	if (real->way == HV_WAY_NATIVE)
		return;
	/* A segment that real-address mode loads gets another base and nothing else: 23.1.1. */
	for (i = 0; i < 6; i++)
		vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * i, real->rights[i]);
	vmcs_put(EXCEPTION_BITMAP, real->exceptions);
	vmcs_put(GUEST_CR4, real->cr4);
	if (real->way == HV_WAY_V86)
		leave_v86(real);
	else
		leave_step(vcpu);
}

/* Before the next instruction; what is for a debugger is not the guest's. */
static void raise_debug(struct hv_vcpu *vcpu, u64 hits, int *next)
{
	if (hv_debug_wants(vcpu, VECTOR_DB)) {
		*next = hv_debug_exception(vcpu, VECTOR_DB, hits);
		return;
	}
	write_dr6((read_dr6() & ~(u64)BITS(3, 0)) | hits);
	hv_inject(vcpu, (struct hv_fault){ .vector = VECTOR_DB });
}

/* 20.3.1.4: a single-step trap, or breakpoint, that an instruction has left. */
static bool take_pending_debug(struct hv_vcpu *vcpu, int *next)
{
	u64 pending = vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) & PENDING_BITS;

	if (!pending || vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_MOV_SS)
		return false;
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	hv_end_shadow();
	raise_debug(vcpu, pending, next);
	return true;
}

/* An instruction breakpoint at RIP: 20.3.1.1. */
static bool meets_breakpoint(struct hv_vcpu *vcpu, int *next)
{
	u64 hits;

	if (vmcs_get(GUEST_RFLAGS) & RFLAGS_RF)
		return false;
	hits = hv_breakpoints(vcpu, HV_BREAK_EXECUTE,
			      hv_linear(vcpu, SEGMENT_CS, vmcs_get(GUEST_RIP)), 1);
	if (!hits)
		return false;
	raise_debug(vcpu, hits, next);
	return true;
}

/* Nothing is to be entered; then no timer ends the slice, and no interrupt of the host the run. */
static bool stay_outside(struct hv_vcpu *vcpu, int *next)
{
	if (*next == HV_GUEST && !vcpu->shutdown && rdtsc() >= vcpu->slice_end)
		*next = hv_user(vcpu, KVM_EXIT_INTR, NULL);
	return false;
}

bool hv_real_enter(struct hv_vcpu *vcpu, int *next)
{
	const u64 id = vcpu->event.id;

	*next = HV_GUEST;
	vcpu->real.way = HV_WAY_NATIVE;
	if (!hv_real_by_hand(vcpu))
		return true;
	if (vcpu->real.nowhere) {
		vcpu->real.nowhere = false;
		*next = hv_internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, &id, 1);
		return false;
	}
	/* A fault has taken the place of what was delivered. */
	if (vcpu->event.id || vcpu->shutdown)
		return stay_outside(vcpu, next);
	if (!vcpu->real.step && all_fit_v86()) {
		enter_by(vcpu, HV_WAY_V86);
		return true;
	}
	/* No VM entry would see to these before the instruction. */
	if (take_pending_debug(vcpu, next) || meets_breakpoint(vcpu, next))
		return stay_outside(vcpu, next);
	switch (hv_real_emulate(vcpu)) {
	case HV_REAL_DONE:
		vcpu->real.step = false;
		return stay_outside(vcpu, next);
	case HV_REAL_NO_MEMORY:
		*next = hv_emulation_failure(vcpu);
		return false;
	default:
		break;
	}
	enter_by(vcpu, HV_WAY_STEP);
	return true;
}

/* --- exceptions ------------------------------------------------------------------------------- */

bool hv_real_is_step(const struct hv_vcpu *vcpu)
{
	return vcpu->real.way == HV_WAY_STEP && is_step_trap();
}

void hv_real_exception(struct hv_vcpu *vcpu, u64 event)
{
	u8 vector = FIELD(event, 7, 0);

	/* INT3, INTO, INT1: they exit as what they are. */
	if (FIELD(event, 10, 8) != HV_EVENT_HARDWARE_EXCEPTION) {
		vcpu->event = (struct hv_event){
			.id = HV_EVENT(FIELD(event, 10, 8), vector),
			.length = vmcs_get(VM_EXIT_INSTRUCTION_LENGTH),
		};
		return;
	}
	if (vcpu->real.way == HV_WAY_V86 && (vector == VECTOR_GP || vector == VECTOR_UD)) {
		vcpu->real.step = true;
		return;
	}
	/*
	 * The breakpoints that the instruction has met count, and the step if the guest makes
	 * steps.
	 */
	if (hv_real_is_step(vcpu)) {
		hv_add_pending_debug(vmcs_get(EXIT_QUALIFICATION) & BITS(3, 0));
		if (vcpu->real.tf)
			vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS,
				 vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) | HV_PENDING_BS);
		return;
	}
	if (vector == VECTOR_DB)
		hv_note_debug_exception();
	hv_inject(vcpu, (struct hv_fault){ .vector = vector });
}

void hv_real_deliver(struct hv_vcpu *vcpu)
{
	struct hv_event event = vcpu->event;
	u64 next = vmcs_get(GUEST_RIP) + (hv_is_software_event(&event) ? event.length : 0);

	if (FIELD(event.id, 10, 8) == HV_EVENT_NMI)
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
			 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) | BLOCKING_BY_NMI);
	/* It ends the run, as where the processor delivers it and exits: hv_exit_memory(). */
	if (hv_real_interrupt(vcpu, FIELD(event.id, 7, 0), next) == HV_REAL_NO_MEMORY)
		vcpu->real.nowhere = true;
}
