/* The vCPU: its VMCS, general registers and debug registers. */
#include "cpu/features.h"
#include "ept/ept.h"
#include "hv/internal.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"

#define PAGES	3	/* of a vCPU, besides what the MMU takes for it */

_Static_assert(sizeof(struct kvm_run) <= HV_PIO_OFFSET, "the data of I/O lies behind it");

/* What the core intercepts, beyond what always exits; those that are missing are done without. */
static const enum control wanted[] = {
	CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING, CONTROL_PIN_NMI_EXITING, CONTROL_PIN_VIRTUAL_NMIS,
	CONTROL_PROC1_HLT_EXITING, CONTROL_PROC1_MWAIT_EXITING, CONTROL_PROC1_MONITOR_EXITING,
	CONTROL_PROC1_RDPMC_EXITING, CONTROL_PROC1_UNCONDITIONAL_IO_EXITING,
	CONTROL_PROC1_CR8_LOAD_EXITING, CONTROL_PROC1_CR8_STORE_EXITING,
	CONTROL_PROC1_USE_TSC_OFFSETTING,
	CONTROL_PROC2_ENABLE_RDTSCP, CONTROL_PROC2_WBINVD_EXITING,
	CONTROL_PROC2_ENABLE_INVPCID, CONTROL_PROC2_ENABLE_XSAVES_XRSTORS,
	CONTROL_PROC2_ENABLE_USER_WAIT_AND_PAUSE,
	CONTROL_ENTRY_LOAD_CET_STATE, CONTROL_EXIT_LOAD_CET_STATE,
	CONTROL_ENTRY_LOAD_PKRS, CONTROL_EXIT_LOAD_PKRS,
	CONTROL_EXIT_SAVE_DEBUG_CONTROLS, CONTROL_ENTRY_LOAD_DEBUG_CONTROLS,
};

void hv_load(struct hv_vcpu *vcpu)
{
	vmptrld(physical(vcpu->vmcs));
}

/* Each field is written once, however many of its controls are wanted. */
static void set_wanted_controls(void)
{
	u64 bits[CONTROL_FIELDS] = { 0 };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		if (control_allowed(wanted[i]))
			bits[control_field(wanted[i])] |= control_bit(wanted[i]);
	if (bits[CONTROL_FIELD_PROC2])
		vmcs_set_control(CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS);
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		u32 field = control_field_encoding(i);

		if (bits[i])
			vmcs_put(field, vmcs_get(field) | bits[i]);
	}
}

static int fill_vmcs(struct hv_vcpu *vcpu)
{
	int result;

	vmcs_clear_optional_controls();
	set_wanted_controls();
	vmcs_set_host_defaults();
	vmcs_put(VMCS_LINK_POINTER, ~0ull);
	vmcs_put(TSC_OFFSET, 0);
	if (control_allowed(CONTROL_ENTRY_LOAD_CET_STATE)) {
		vmcs_put(HOST_IA32_S_CET, 0);
		vmcs_put(HOST_SSP, 0);
		vmcs_put(HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0);
		vmcs_put(GUEST_IA32_S_CET, 0);
		vmcs_put(GUEST_SSP, 0);
		vmcs_put(GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, 0);
	}
	if (control_allowed(CONTROL_ENTRY_LOAD_PKRS)) {
		vmcs_put(HOST_IA32_PKRS, 0);
		vmcs_put(GUEST_IA32_PKRS, 0);
	}
	if (vcpu->vm->irqchip)
		vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmcs_put(EXCEPTION_BITMAP, BIT(VECTOR_DB) | BIT(VECTOR_AC));
	vmcs_put(GUEST_IA32_DEBUGCTL, 0);
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE, 0);
	vmcs_put(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
	result = vcpu->vm->mmu->create_vcpu(vcpu);
	vcpu->proc1 = vmcs_get(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
	return result;
}

/* INIT leaves these as they are. */
static void set_msrs(struct hv_vcpu *vcpu)
{
	vmcs_put(GUEST_IA32_PAT, 0x0007040600070406);
	vmcs_put(GUEST_IA32_SYSENTER_CS, 0);
	vmcs_put(GUEST_IA32_SYSENTER_ESP, 0);
	vmcs_put(GUEST_IA32_SYSENTER_EIP, 0);
	vcpu->misc_enable = BIT(0) | HV_MONITOR_ENABLED;
	hv_fpu_reset(vcpu);
}

/* Table 11-1, IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT. */
void hv_vcpu_reset(struct hv_vcpu *vcpu, bool init)
{
	const struct kvm_segment data = { .limit = 0xffff, .type = 3, .present = 1, .s = 1 };
	const struct kvm_segment code = { .base = 0xffff0000, .selector = 0xf000, .limit = 0xffff,
					  .type = 11, .present = 1, .s = 1 };
	const struct kvm_cpuid_entry2 *signature = hv_cpuid_entry(vcpu, 1, 0);
	struct kvm_sregs sregs = {
		.cs = code, .ds = data, .es = data, .fs = data, .gs = data, .ss = data,
		.tr = { .limit = 0xffff, .type = 11, .present = 1 },
		.ldt = { .limit = 0xffff, .type = 2, .present = 1 },
		.gdt.limit = 0xffff, .idt.limit = 0xffff,
		.cr0 = init ? CR0_ET : CR0_CD | CR0_NW | CR0_ET,
		.apic_base = vcpu->apic_base,
	};
	const struct kvm_regs regs = { .rip = 0xfff0, .rdx = signature ? signature->eax : 0x600,
				       .rflags = RFLAGS_FIXED };

	if (init)
		sregs.cr0 |= hv_cr0() & (CR0_CD | CR0_NW);
	else
		set_msrs(vcpu);
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE, 0);
	vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	hv_debug_reset(vcpu);
	vcpu->dr6 = DR6_FIXED;
	vcpu->event = (struct hv_event){ 0 };
	vcpu->nmi_pending = vcpu->interrupt_pending = false;
	hv_lapic_reset(vcpu);
	hv_vcpu_set_sregs(vcpu, &sregs);
	hv_vcpu_set_regs(vcpu, &regs);
}

/* Rows create_vcpu.* of spec/kvm-ioctls.csv, in KVM's order. */
static int check_id(const struct hv_vm *vm, u32 id)
{
	u32 i;

	if (id >= HV_MAX_VCPU_ID || vm->vcpu_count == HV_MAX_VCPUS)
		return -EINVAL;
	for (i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i]->id == id)
			return -EEXIST;
	return 0;
}

static int take_pages(struct hv_vcpu *vcpu)
{
	struct hv_pool *pool = &vcpu->vm->pool;

	if (!hv_has_room(vcpu->vm, PAGES + vcpu->vm->vcpu_pages))
		return -ENOMEM;
	vcpu->vmcs = hv_pool_take(pool);
	vcpu->run = hv_pool_take(pool);
	vcpu->fpu = hv_pool_take(pool);
	return 0;
}

/*
 * 27.11.1 Software Use of Virtual-Machine Control Structures: the processor may keep parts of a
 * VMCS, and write them back at any time until VMCLEAR. Then it is memory like any other, and if it
 * was current, none is.
 */
static void give_pages_back(struct hv_vcpu *vcpu)
{
	struct hv_pool *pool = &vcpu->vm->pool;

	vmclear(physical(vcpu->vmcs));
	hv_pool_give(pool, vcpu->vmcs);
	hv_pool_give(pool, vcpu->run);
	hv_pool_give(pool, vcpu->fpu);
	memset(vcpu, 0, sizeof(*vcpu));
}

static int make_vmcs(struct hv_vcpu *vcpu)
{
	u32 revision = vmcs_revision();

	memcpy(vcpu->vmcs, &revision, sizeof(revision));
	if (vmclear(physical(vcpu->vmcs)) != OUTCOME_DONE)
		return -EIO;
	hv_load(vcpu);
	return fill_vmcs(vcpu);
}

int hv_vcpu_create(struct hv_vm *vm, struct hv_vcpu *vcpu, u32 id)
{
	int result = check_id(vm, id);

	if (result)
		return result;
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->id = id;
	hv_cpuid_widths(vcpu);
	result = take_pages(vcpu);
	if (result)
		return result;
	result = make_vmcs(vcpu);
	if (result) {
		give_pages_back(vcpu);
		return result;
	}
	vcpu->apic_base = 0xfee00000 | APIC_BASE_ENABLE | (vm->vcpu_count ? 0 : APIC_BASE_BSP);
	vcpu->mp_state = vm->irqchip && vm->vcpu_count ? KVM_MP_STATE_UNINITIALIZED :
			 KVM_MP_STATE_RUNNABLE;
	vm->vcpus[vm->vcpu_count++] = vcpu;
	hv_vcpu_reset(vcpu, false);
	return 0;
}

void hv_vcpu_destroy(struct hv_vcpu *vcpu)
{
	struct hv_vm *vm = vcpu->vm;
	u32 i = 0;

	while (vm->vcpus[i] != vcpu)
		i++;
	/* The others stay in the order in which they were made. */
	for (vm->vcpu_count--; i < vm->vcpu_count; i++)
		vm->vcpus[i] = vm->vcpus[i + 1];
	hv_fpu_forget(vcpu);
	hv_load(vcpu);
	vm->mmu->destroy_vcpu(vcpu);
	give_pages_back(vcpu);
}

/* --- general registers ------------------------------------------------------------ */

/* Instructions number the registers in another order than struct general_registers. */
static u64 *place_of(struct hv_vcpu *vcpu, u32 number)
{
	struct general_registers *regs = &vcpu->state.regs;
	u64 *const low[8] = {
		[GPR_RAX] = &regs->rax, [GPR_RCX] = &regs->rcx, [GPR_RDX] = &regs->rdx,
		[GPR_RBX] = &regs->rbx, [GPR_RBP] = &regs->rbp, [GPR_RSI] = &regs->rsi,
		[GPR_RDI] = &regs->rdi,
	};

	return number < 8 ? low[number] : &regs->r8 + (number - 8);
}

u64 hv_gpr(struct hv_vcpu *vcpu, u32 number)
{
	return number == GPR_RSP ? vmcs_get(GUEST_RSP) : *place_of(vcpu, number);
}

void hv_set_gpr(struct hv_vcpu *vcpu, u32 number, u64 value)
{
	if (number == GPR_RSP)
		vmcs_put(GUEST_RSP, value);
	else
		*place_of(vcpu, number) = value;
}

u32 hv_cpl(void)
{
	return HV_AR_DPL(vmcs_get(GUEST_SS_ACCESS_RIGHTS));
}

int hv_vcpu_get_regs(struct hv_vcpu *vcpu, struct kvm_regs *regs)
{
	const struct general_registers *r = &vcpu->state.regs;

	hv_load(vcpu);
	*regs = (struct kvm_regs){
		.rax = r->rax, .rbx = r->rbx, .rcx = r->rcx, .rdx = r->rdx, .rsi = r->rsi,
		.rdi = r->rdi, .rbp = r->rbp, .rsp = vmcs_get(GUEST_RSP),
		.r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11,
		.r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
		.rip = vmcs_get(GUEST_RIP), .rflags = vmcs_get(GUEST_RFLAGS),
	};
	return 0;
}

int hv_vcpu_set_regs(struct hv_vcpu *vcpu, const struct kvm_regs *regs)
{
	hv_load(vcpu);
	hv_drop_raised(vcpu, regs->rip);
	vcpu->state.regs = (struct general_registers){
		.rax = regs->rax, .rbx = regs->rbx, .rcx = regs->rcx, .rdx = regs->rdx,
		.rsi = regs->rsi, .rdi = regs->rdi, .rbp = regs->rbp,
		.r8 = regs->r8, .r9 = regs->r9, .r10 = regs->r10, .r11 = regs->r11,
		.r12 = regs->r12, .r13 = regs->r13, .r14 = regs->r14, .r15 = regs->r15,
	};
	vmcs_put(GUEST_RSP, regs->rsp);
	vmcs_put(GUEST_RIP, regs->rip);
	vmcs_put(GUEST_RFLAGS, regs->rflags | RFLAGS_FIXED);
	return 0;
}

int hv_vcpu_get_debugregs(struct hv_vcpu *vcpu, struct kvm_debugregs *regs)
{
	bool debug = vcpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP;

	hv_load(vcpu);
	*regs = (struct kvm_debugregs){ .dr6 = vcpu->dr6,
					.dr7 = debug ? vcpu->guest_debug.dr7 :
						       vmcs_get(GUEST_DR7) };
	memcpy(regs->db, debug ? vcpu->guest_debug.dr : vcpu->dr, sizeof(vcpu->dr));
	return 0;
}

int hv_vcpu_set_debugregs(struct hv_vcpu *vcpu, const struct kvm_debugregs *regs)
{
	bool debug = vcpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP;

	if (regs->flags || regs->dr6 >> 32 || regs->dr7 >> 32)
		return -EINVAL;
	hv_load(vcpu);
	memcpy(debug ? vcpu->guest_debug.dr : vcpu->dr, regs->db, sizeof(vcpu->dr));
	vcpu->dr6 = regs->dr6 | DR6_FIXED;
	if (debug)
		vcpu->guest_debug.dr7 = regs->dr7 | DR7_FIXED;
	else
		vmcs_put(GUEST_DR7, regs->dr7 | DR7_FIXED);
	return 0;
}
