/*
 * KVM_SET_GUEST_DEBUG. A single step is one by the monitor trap flag (28.5.2 Monitor Trap Flag), so
 * that the guest's RFLAGS.TF stays its own; breakpoints are the processor's, whose exceptions exit.
 * While user space has breakpoints in DR0 to DR3 and DR7, the guest's MOV to and from debug
 * registers exits and works on values that are kept here.
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

#define KNOWN	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | \
		 KVM_GUESTDBG_USE_HW_BP)
#define DR7_GD	BIT(13)
#define DR6_BD	BIT(13)
#define DR6_BS	BIT(14)

void hv_set_proc1(struct hv_vcpu *vcpu, enum control control, bool on)
{
	vcpu->proc1 = on ? vcpu->proc1 | control_bit(control) : vcpu->proc1 & ~control_bit(control);
	vmcs_put(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, vcpu->proc1);
}

static void intercept(u8 vector, bool on)
{
	u64 bitmap = vmcs_get(EXCEPTION_BITMAP);

	vmcs_put(EXCEPTION_BITMAP, on ? bitmap | BIT(vector) : bitmap & ~BIT(vector));
}

/* The guest's own debug registers change places with user space's; `regs` NULL: back. */
static void use_breakpoints(struct hv_vcpu *vcpu, const __u64 *regs)
{
	struct hv_guest_debug *debug = &vcpu->guest_debug;
	bool before = debug->control & KVM_GUESTDBG_USE_HW_BP;

	if (!before && regs) {
		memcpy(debug->dr, vcpu->dr, sizeof(debug->dr));
		debug->dr7 = vmcs_get(GUEST_DR7);
	}
	if (regs) {
		memcpy(vcpu->dr, regs, sizeof(vcpu->dr));
		vmcs_put(GUEST_DR7, (regs[7] & BITS(31, 0) & ~DR7_GD) | DR7_FIXED);
	} else if (before) {
		memcpy(vcpu->dr, debug->dr, sizeof(debug->dr));
		vmcs_put(GUEST_DR7, debug->dr7);
	}
}

void hv_debug_reset(struct hv_vcpu *vcpu)
{
	if (vcpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP) {
		memset(vcpu->guest_debug.dr, 0, sizeof(vcpu->guest_debug.dr));
		vcpu->guest_debug.dr7 = DR7_FIXED;
		return;
	}
	memset(vcpu->dr, 0, sizeof(vcpu->dr));
	vmcs_put(GUEST_DR7, DR7_FIXED);
}

void hv_want_steps(struct hv_vcpu *vcpu, enum hv_steps who, bool on)
{
	vcpu->steps = on ? vcpu->steps | who : vcpu->steps & ~who;
	hv_set_proc1(vcpu, CONTROL_PROC1_MONITOR_TRAP_FLAG, vcpu->steps);
}

int hv_vcpu_set_guest_debug(struct hv_vcpu *vcpu, const struct kvm_guest_debug *debug)
{
	u32 control = debug->control & KVM_GUESTDBG_ENABLE ? debug->control : 0;
	bool step = control & KVM_GUESTDBG_SINGLESTEP, hardware = control & KVM_GUESTDBG_USE_HW_BP;

	if (control & ~KNOWN)
		return -EINVAL;
	if (step && !control_allowed(CONTROL_PROC1_MONITOR_TRAP_FLAG))
		return -EOPNOTSUPP;
	if (hardware && !control_allowed(CONTROL_PROC1_MOV_DR_EXITING))
		return -EOPNOTSUPP;
	hv_load(vcpu);
	use_breakpoints(vcpu, hardware ? debug->arch.debugreg : NULL);
	vcpu->guest_debug.control = control;
	hv_want_steps(vcpu, HV_STEPS_FOR_DEBUGGER, step);
	hv_set_proc1(vcpu, CONTROL_PROC1_MOV_DR_EXITING, hardware);
	intercept(VECTOR_BP, control & KVM_GUESTDBG_USE_SW_BP);
	return 0;
}

enum hv_next hv_debug_exception(struct hv_vcpu *vcpu, u8 vector, u64 dr6)
{
	vcpu->run->debug.arch = (struct kvm_debug_exit_arch){
		.exception = vector,
		.pc = hv_linear(vcpu, SEGMENT_CS, vmcs_get(GUEST_RIP)),
		.dr6 = dr6 | DR6_FIXED,
		.dr7 = vmcs_get(GUEST_DR7),
	};
	return hv_user(vcpu, KVM_EXIT_DEBUG, NULL);
}

enum hv_next hv_debug_stepped(struct hv_vcpu *vcpu)
{
	if (!(vcpu->steps & HV_STEPS_FOR_DEBUGGER))
		return HV_GUEST;
	return hv_debug_exception(vcpu, VECTOR_DB, DR6_BS);
}

bool hv_debug_wants(const struct hv_vcpu *vcpu, u8 vector)
{
	if (vector == VECTOR_DB)
		return vcpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP;
	return vector == VECTOR_BP && vcpu->guest_debug.control & KVM_GUESTDBG_USE_SW_BP;
}

/* --- MOV to and from debug registers: Table 30-4 -------------------------------------- */

static u64 *own_register(struct hv_vcpu *vcpu, u32 number)
{
	return number < 4 ? &vcpu->guest_debug.dr[number] : &vcpu->guest_debug.dr7;
}

static bool write_register(struct hv_vcpu *vcpu, u32 number, u64 value)
{
	if (number >= 4 && value >> 32)
		return false;
	if (number == 4 || number == 6)
		write_dr6(value | DR6_FIXED);
	else
		*own_register(vcpu, number) = number >= 4 ? value | DR7_FIXED : value;
	return true;
}

enum hv_next hv_exit_mov_dr(struct hv_vcpu *vcpu)
{
	u64 qualification = vmcs_get(EXIT_QUALIFICATION), value;
	u32 number = FIELD(qualification, 2, 0), gpr = FIELD(qualification, 11, 8);
	bool reads = qualification & BIT(4);

	/* 20.2.4: general detect, a fault that switches itself off. */
	if (vcpu->guest_debug.dr7 & DR7_GD) {
		vcpu->guest_debug.dr7 &= ~DR7_GD;
		write_dr6(read_dr6() | DR6_BD);
		hv_inject(vcpu, (struct hv_fault){ .vector = VECTOR_DB });
		return HV_GUEST;
	}
	if (reads) {
		value = number == 4 || number == 6 ? read_dr6() : *own_register(vcpu, number);
		hv_set_gpr(vcpu, gpr, value);
	} else {
		value = hv_gpr(vcpu, gpr);
		if (!hv_in_64_bit_mode(vcpu))
			value &= BITS(31, 0);
		if (!write_register(vcpu, number, value))
			return hv_exit_gp(vcpu);
	}
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
