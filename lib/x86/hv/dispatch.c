/* Exit reason to handler: Appendix C, Basic Exit Reasons. */
#include "hv/internal.h"

static hv_handler *const handlers[] = {
	[EXIT_EXCEPTION_OR_NMI]		= hv_exit_exception_or_nmi,
	[EXIT_EXTERNAL_INTERRUPT]	= hv_exit_external_interrupt,
	[EXIT_TRIPLE_FAULT]		= hv_exit_triple_fault,
	[EXIT_INTERRUPT_WINDOW]		= hv_exit_interrupt_window,
	[EXIT_NMI_WINDOW]		= hv_exit_nmi_window,
	[EXIT_TASK_SWITCH]		= hv_exit_task_switch,
	[EXIT_CPUID]			= hv_exit_cpuid,
	[EXIT_GETSEC]			= hv_exit_ud,
	[EXIT_HLT]			= hv_exit_hlt,
	[EXIT_INVD]			= hv_exit_nothing,
	[EXIT_INVLPG]			= hv_exit_invlpg,
	[EXIT_RDPMC]			= hv_exit_gp,
	[EXIT_VMCALL]			= hv_exit_vmcall,
	[EXIT_VMCLEAR]			= hv_exit_ud,
	[EXIT_VMLAUNCH]			= hv_exit_ud,
	[EXIT_VMPTRLD]			= hv_exit_ud,
	[EXIT_VMPTRST]			= hv_exit_ud,
	[EXIT_VMREAD]			= hv_exit_ud,
	[EXIT_VMRESUME]			= hv_exit_ud,
	[EXIT_VMWRITE]			= hv_exit_ud,
	[EXIT_VMXOFF]			= hv_exit_ud,
	[EXIT_VMXON]			= hv_exit_ud,
	[EXIT_CONTROL_REGISTER_ACCESS]	= hv_exit_cr,
	[EXIT_MOV_DR]			= hv_exit_mov_dr,
	[EXIT_IO_INSTRUCTION]		= hv_exit_io,
	[EXIT_RDMSR]			= hv_exit_rdmsr,
	[EXIT_WRMSR]			= hv_exit_wrmsr,
	[EXIT_MWAIT]			= hv_exit_mwait,
	[EXIT_MONITOR_TRAP_FLAG]	= hv_exit_stepped,
	[EXIT_MONITOR]			= hv_exit_monitor,
	[EXIT_EPT_VIOLATION]		= hv_exit_memory,
	[EXIT_INVEPT]			= hv_exit_ud,
	[EXIT_VMX_PREEMPTION_TIMER_EXPIRED] = hv_exit_preemption_timer,
	[EXIT_INVPCID]			= hv_exit_invpcid,
	[EXIT_INVVPID]			= hv_exit_ud,
	[EXIT_WBINVD_OR_WBNOINVD]	= hv_exit_nothing,
	[EXIT_XSETBV]			= hv_exit_xsetbv,
	[EXIT_PAGE_MODIFICATION_LOG_FULL] = hv_exit_log_full,
};

enum hv_next hv_dispatch(struct hv_vcpu *vcpu, u32 reason)
{
	const u64 value = reason;

	if (reason < ARRAY_SIZE(handlers) && handlers[reason])
		return handlers[reason](vcpu);
	return hv_internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, &value, 1);
}

const char *kvm_exit_name(unsigned int reason)
{
	static const char *const names[] = {
		[KVM_EXIT_IO] = "KVM_EXIT_IO",
		[KVM_EXIT_DEBUG] = "KVM_EXIT_DEBUG",
		[KVM_EXIT_HYPERCALL] = "KVM_EXIT_HYPERCALL",
		[KVM_EXIT_HLT] = "KVM_EXIT_HLT",
		[KVM_EXIT_MMIO] = "KVM_EXIT_MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "KVM_EXIT_IRQ_WINDOW_OPEN",
		[KVM_EXIT_SHUTDOWN] = "KVM_EXIT_SHUTDOWN",
		[KVM_EXIT_FAIL_ENTRY] = "KVM_EXIT_FAIL_ENTRY",
		[KVM_EXIT_INTR] = "KVM_EXIT_INTR",
		[KVM_EXIT_SET_TPR] = "KVM_EXIT_SET_TPR",
		[KVM_EXIT_INTERNAL_ERROR] = "KVM_EXIT_INTERNAL_ERROR",
		[KVM_EXIT_X86_RDMSR] = "KVM_EXIT_X86_RDMSR",
		[KVM_EXIT_X86_WRMSR] = "KVM_EXIT_X86_WRMSR",
	};

	return reason < ARRAY_SIZE(names) ? names[reason] : NULL;
}
