/*
 * Events for the guest: exceptions that the core raises, interrupts and NMIs of user space, and the
 * event whose delivery a VM exit broke off, which must be delivered anew (30.2.4 Information for
 * VM Exits That Occur During Event Delivery).
 */
#include "hv/internal.h"

#define ERROR_CODE_VECTORS (BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | \
			    BIT(VECTOR_GP) | BIT(VECTOR_PF) | BIT(VECTOR_AC) | BIT(VECTOR_CP))
#define SHADOW		(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)

static u32 type_of(const struct hv_event *event)
{
	return FIELD(event->id, 10, 8);
}

static bool is_software(u32 type)
{
	return type == HV_EVENT_SOFTWARE_INTERRUPT || type == HV_EVENT_SOFTWARE_EXCEPTION ||
	       type == HV_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION;
}

bool hv_is_software_event(const struct hv_event *event)
{
	return event->id && is_software(type_of(event));
}

/* Table 7-4, Interrupt and Exception Classes. */
enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum class class_of(u8 vector)
{
	switch (vector) {
	case VECTOR_DE: case VECTOR_TS: case VECTOR_NP: case VECTOR_SS: case VECTOR_GP:
	case VECTOR_CP:
		return CONTRIBUTORY;
	case VECTOR_PF:
		return PAGE_FAULT;
	case VECTOR_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

/* Table 7-5, Conditions for Generating a Double Fault; a third fault is a shutdown. */
static bool makes_double_fault(enum class first, enum class second)
{
	return (first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	       (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT));
}

/* An interrupt or NMI whose delivery ran into a fault waits until the fault has been handled. */
static void put_back(struct hv_vcpu *vcpu)
{
	if (type_of(&vcpu->event) == HV_EVENT_NMI)
		vcpu->nmi_pending = true;
	if (type_of(&vcpu->event) != HV_EVENT_EXTERNAL_INTERRUPT)
		return;
	vcpu->interrupt_pending = true;
	vcpu->interrupt = FIELD(vcpu->event.id, 7, 0);
}

void hv_inject(struct hv_vcpu *vcpu, struct hv_fault fault)
{
	bool exception = vcpu->event.id && type_of(&vcpu->event) == HV_EVENT_HARDWARE_EXCEPTION;
	enum class first = exception ? class_of(FIELD(vcpu->event.id, 7, 0)) : BENIGN;

	if (first == DOUBLE_FAULT && class_of(fault.vector) != BENIGN) {
		vcpu->shutdown = true;
		return;
	}
	if (vcpu->event.id)
		put_back(vcpu);
	/* While the vCPU runs, its CR2 is in the register. */
	if (fault.vector == VECTOR_PF && vcpu->running)
		write_cr2(fault.cr2);
	else if (fault.vector == VECTOR_PF)
		vcpu->cr2 = fault.cr2;
	if (makes_double_fault(first, class_of(fault.vector)))
		fault = (struct hv_fault){ .vector = VECTOR_DF, .has_error = true };
	vcpu->event = (struct hv_event){
		.id = HV_EVENT(HV_EVENT_HARDWARE_EXCEPTION, fault.vector) |
		      (fault.has_error ? HV_EVENT_ERROR_CODE : 0),
		.error = fault.error, .raised = true,
	};
	/* 20.3.1.1: the RFLAGS that a fault pushes have RF = 1. Injection does not see to it. */
	vmcs_put(GUEST_RFLAGS, vmcs_get(GUEST_RFLAGS) | RFLAGS_RF);
}

/* --- before an entry ------------------------------------------------------------- */

/* Exits as soon as the guest could take what waits for it. */
static void watch(struct hv_vcpu *vcpu, bool nmi, bool interrupt)
{
	const u64 nmi_window = control_bit(CONTROL_PROC1_NMI_WINDOW_EXITING);
	const u64 interrupt_window = control_bit(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	u64 value = (vcpu->proc1 & ~(nmi_window | interrupt_window)) | (nmi ? nmi_window : 0) |
		    (interrupt ? interrupt_window : 0);

	if (value == vcpu->proc1)
		return;
	vcpu->proc1 = value;
	vmcs_put(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, value);
}

static void deliver(struct hv_vcpu *vcpu)
{
	u64 id = vcpu->event.id;

	if (hv_real_by_hand(vcpu)) {
		hv_real_deliver(vcpu);
		return;
	}
	/* 29.2.1.3: no error code in real mode; no NMI while virtual NMIs are blocked. */
	if (!(hv_cr0() & CR0_PE))
		id &= ~(u64)HV_EVENT_ERROR_CODE;
	if (type_of(&vcpu->event) == HV_EVENT_NMI)
		vmcs_put(GUEST_INTERRUPTIBILITY_STATE,
			 vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & ~(u64)BLOCKING_BY_NMI);
	if (id & HV_EVENT_ERROR_CODE)
		vmcs_put(INJECTED_EVENT_ERROR_CODE, vcpu->event.error);
	if (is_software(type_of(&vcpu->event)))
		vmcs_put(VM_ENTRY_INSTRUCTION_LENGTH, vcpu->event.length);
	vmcs_put(INJECTED_EVENT_IDENTIFICATION, id);
}

bool hv_nmis_open(void)
{
	return !(vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & (BLOCKING_BY_NMI | SHADOW));
}

bool hv_interrupts_open(struct hv_vcpu *vcpu __maybe_unused)
{
	return vmcs_get(GUEST_RFLAGS) & RFLAGS_IF &&
	       !(vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & SHADOW);
}

int hv_next_interrupt(const struct hv_vcpu *vcpu)
{
	if (vcpu->interrupt_pending)
		return vcpu->interrupt;
	/* Asked before each VM entry: without a request there is little to do. */
	return vcpu->vm->irqchip && vcpu->lapic.requested ? hv_lapic_next(vcpu) : -1;
}

/*
 * 29.3.1.5: with blocking by STI or by MOV SS, BS must say whether that instruction was a step; it
 * need not where user space has put one or the other. The guest has no BTF.
 */
static void make_step_legal(void)
{
	u64 pending;

	if (!(vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & SHADOW))
		return;
	pending = vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) & ~(u64)HV_PENDING_BS;
	if (vmcs_get(GUEST_RFLAGS) & RFLAGS_TF)
		pending |= HV_PENDING_BS;
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
}

void hv_events_before_entry(struct hv_vcpu *vcpu)
{
	int vector;

	if (!vcpu->event.id && vcpu->nmi_pending && hv_nmis_open()) {
		vcpu->event = (struct hv_event){ .id = HV_EVENT(HV_EVENT_NMI, VECTOR_NMI) };
		vcpu->nmi_pending = false;
	}
	vector = hv_next_interrupt(vcpu);
	if (vector >= 0 && !vcpu->event.id && hv_interrupts_open(vcpu)) {
		vcpu->event.id = HV_EVENT(HV_EVENT_EXTERNAL_INTERRUPT, vector);
		if (!vcpu->interrupt_pending)
			hv_lapic_take(vcpu, vector);
		vcpu->interrupt_pending = false;
		vector = hv_next_interrupt(vcpu);
	}
	if (vcpu->event.id)
		deliver(vcpu);
	make_step_legal();
	watch(vcpu, vcpu->nmi_pending, vector >= 0 || vcpu->run->request_interrupt_window);
}

/* --- after an exit ---------------------------------------------------------------- */

void hv_events_after_exit(struct hv_vcpu *vcpu)
{
	u64 original = vmcs_get(ORIGINAL_EVENT_IDENTIFICATION);

	vcpu->event = (struct hv_event){ 0 };
	/* In the ways of real.h the processor delivers nothing, but INT n may look as if. */
	if (!(original & HV_EVENT_VALID) || vcpu->real.way != HV_WAY_NATIVE)
		return;
	/* Bit 12 is undefined there and reserved in the field for injection. */
	vcpu->event.id = original & (HV_EVENT_VALID | HV_EVENT_ERROR_CODE | BITS(10, 0));
	if (original & HV_EVENT_ERROR_CODE)
		vcpu->event.error = vmcs_get(ORIGINAL_EVENT_ERROR_CODE);
	if (is_software(type_of(&vcpu->event)))
		vcpu->event.length = vmcs_get(VM_EXIT_INSTRUCTION_LENGTH);
}

/*
 * For user space there is one place for an interrupt, as on KVM: what it may queue, read and write
 * back is the same, whether a delivery of it has begun or not. Nothing waits there now: what is
 * being delivered has come from there, or from the local APIC while it was free.
 */
void hv_events_after_run(struct hv_vcpu *vcpu)
{
	if (!vcpu->event.id || type_of(&vcpu->event) != HV_EVENT_EXTERNAL_INTERRUPT)
		return;
	put_back(vcpu);
	vcpu->event = (struct hv_event){ 0 };
}

enum hv_next hv_exit_nmi_window(struct hv_vcpu *vcpu __maybe_unused)
{
	return HV_GUEST;
}

enum hv_next hv_exit_interrupt_window(struct hv_vcpu *vcpu)
{
	if (hv_next_interrupt(vcpu) >= 0 || !vcpu->run->request_interrupt_window)
		return HV_GUEST;
	return hv_user(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN, NULL);
}

/* --- for user space ------------------------------------------------------------------ */

int hv_vcpu_interrupt(struct hv_vcpu *vcpu, const struct kvm_interrupt *interrupt)
{
	if (interrupt->irq > 255)
		return -EINVAL;
	if (vcpu->vm->irqchip && vcpu->interrupt_pending)
		return -EEXIST;
	vcpu->interrupt = interrupt->irq;
	vcpu->interrupt_pending = true;
	return 0;
}

int hv_vcpu_nmi(struct hv_vcpu *vcpu)
{
	vcpu->nmi_pending = true;
	return 0;
}

/*
 * A trap that waits for the next boundary between instructions is told as an exception, for nothing
 * else would; DR6 and DR7 are what they are then. One that a debugger wants stays: it will exit.
 */
static void raise_pending_debug(struct hv_vcpu *vcpu)
{
	u64 hits = hv_pending_debug();

	if (!hits || vcpu->event.id || vcpu->complete || hv_debug_wants(vcpu, VECTOR_DB))
		return;
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	hv_end_shadow();
	vmcs_put(GUEST_DR7, vmcs_get(GUEST_DR7) & ~(u64)DR7_GD);
	vcpu->dr6 = (vcpu->dr6 & ~(u64)BITS(3, 0)) | hits;
	vcpu->event = (struct hv_event){
		.id = HV_EVENT(HV_EVENT_HARDWARE_EXCEPTION, VECTOR_DB), .raised = true };
}

/*
 * Elsewhere nothing counts that was about the instruction at the old RIP, or the one before it. At
 * the same place a fault comes anew; a debug exception does not, for the instruction of a trap is
 * over, and what made a fault is switched off: RF is 1, or DR7.GD 0.
 */
void hv_drop_raised(struct hv_vcpu *vcpu, u64 rip)
{
	bool moved = rip != vmcs_get(GUEST_RIP);

	if (moved)
		vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	if (vcpu->event.raised && (moved || FIELD(vcpu->event.id, 7, 0) != VECTOR_DB))
		vcpu->event = (struct hv_event){ 0 };
}

/*
 * Not the events of INT n, INT3, INTO and INT1: the structure has no place for the length of the
 * instruction, at which the vCPU still is, and which it will execute again.
 */
int hv_vcpu_get_events(struct hv_vcpu *vcpu, struct kvm_vcpu_events *events)
{
	const struct hv_event *event = &vcpu->event;
	u64 state;
	u8 shadow;

	hv_load(vcpu);
	raise_pending_debug(vcpu);
	state = vmcs_get(GUEST_INTERRUPTIBILITY_STATE);
	shadow = (state & BLOCKING_BY_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
		 (state & BLOCKING_BY_STI ? KVM_X86_SHADOW_INT_STI : 0);
	*events = (struct kvm_vcpu_events){
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
		.nmi = { .pending = vcpu->nmi_pending, .masked = !!(state & BLOCKING_BY_NMI) },
		.interrupt = { .injected = vcpu->interrupt_pending, .nr = vcpu->interrupt,
			       .shadow = shadow },
	};
	/* Without it KVM_MP_STATE_SIPI_RECEIVED would not say where the vCPU starts. */
	if (vcpu->start_pending) {
		events->flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
		events->sipi_vector = vcpu->start_vector;
	}
	if (!event->id)
		return 0;
	if (type_of(event) == HV_EVENT_NMI) {
		events->nmi.injected = 1;
	} else if (!is_software(type_of(event))) {
		events->exception.injected = 1;
		events->exception.nr = FIELD(event->id, 7, 0);
		events->exception.has_error_code = !!(event->id & HV_EVENT_ERROR_CODE);
		events->exception.error_code = event->error;
	}
	return 0;
}

static void set_exception(struct hv_vcpu *vcpu, u8 vector, bool has_error, u32 error)
{
	bool software = vector == VECTOR_BP || vector == VECTOR_OF;

	vcpu->event.id = HV_EVENT(software ? HV_EVENT_SOFTWARE_EXCEPTION :
					HV_EVENT_HARDWARE_EXCEPTION, vector);
	vcpu->event.length = 1;
	if (!has_error || !(ERROR_CODE_VECTORS >> vector & 1))
		return;
	vcpu->event.id |= HV_EVENT_ERROR_CODE;
	vcpu->event.error = error;
}

/* 29.3.1.5: never both. */
static u64 blocking_by(u8 shadow)
{
	if (shadow & KVM_X86_SHADOW_INT_MOV_SS)
		return BLOCKING_BY_MOV_SS;
	return shadow & KVM_X86_SHADOW_INT_STI ? BLOCKING_BY_STI : 0;
}

int hv_vcpu_set_events(struct hv_vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	u64 state;

	if (events->flags & ~(u64)(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
				   KVM_VCPUEVENT_VALID_SIPI_VECTOR))
		return -EINVAL;
	if (events->exception.injected &&
	    (events->exception.nr > 31 || events->exception.nr == VECTOR_NMI))
		return -EINVAL;
	hv_load(vcpu);
	vcpu->event = (struct hv_event){ 0 };
	vcpu->interrupt_pending = false;
	if (events->exception.injected) {
		set_exception(vcpu, events->exception.nr, events->exception.has_error_code,
			      events->exception.error_code);
	} else if (events->nmi.injected) {
		vcpu->event.id = HV_EVENT(HV_EVENT_NMI, VECTOR_NMI);
	} else if (events->interrupt.injected && events->interrupt.soft) {
		vcpu->event.id = HV_EVENT(HV_EVENT_SOFTWARE_INTERRUPT, events->interrupt.nr);
		vcpu->event.length = 2;
	}
	/* It waits behind the others; so does an NMI behind an exception. */
	if (events->interrupt.injected && !events->interrupt.soft) {
		vcpu->interrupt = events->interrupt.nr;
		vcpu->interrupt_pending = true;
	}
	if (events->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		vcpu->nmi_pending = events->nmi.pending;
	if (events->exception.injected && events->nmi.injected)
		vcpu->nmi_pending = true;
	if (events->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && vcpu->vm->irqchip)
		vcpu->start_vector = events->sipi_vector;
	state = events->flags & KVM_VCPUEVENT_VALID_SHADOW ?
		blocking_by(events->interrupt.shadow) :
		vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & SHADOW;
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE, state | (events->nmi.masked ? BLOCKING_BY_NMI : 0));
	return 0;
}
