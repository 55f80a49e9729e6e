/*
 * The core: a VT-x hypervisor with the interface of KVM, for user space in the same image.
 *
 *	hv_start(page);						VMX operation
 *	hv_pool_init(&pool, memory, size);			pages for VMs
 *	hv_vm_create(&vm, &hv_mmu_ept, &pool, pages);		KVM_CREATE_VM
 *	hv_vm_set_memory(&vm, &region);				KVM_SET_USER_MEMORY_REGION
 *	hv_vcpu_create(&vm, &vcpu, 0);				KVM_CREATE_VCPU
 *	hv_vcpu_set_sregs(&vcpu, &sregs);
 *	hv_vcpu_run(&vcpu);					KVM_RUN
 *	switch (vcpu.run->exit_reason) { ...
 *	hv_vm_destroy(&vm);					close of the last descriptor
 *
 * Structures, numbers, errors and what happens are KVM's (local APICs, but no I/O APIC and no PIC),
 * where KVM leaves a choice the choice is said here. Functions return 0 or a negative
 * errno value. "Host address" (userspace_addr) is a linear address below 4 GBytes, which equals the
 * physical one.
 *
 * Guest memory is what the slots say and nothing else: whatever a guest does, the core reads and
 * writes only inside of them on its behalf.
 *
 * Limits: whoever calls hv_vcpu_run() must not use the registers of FPU and SSE, which stay the
 * guest's. XCR0, CR3, CR4, DR0 to DR7 and IA32_DEBUGCTL are the caller's again when it returns.
 * One processor.
 */
#ifndef HV_HV_H
#define HV_HV_H

#include "hv/kvm.h"
#include "hv/lapic.h"
#include "hv/mmu.h"
#include "hv/pool.h"
#include "hv/real.h"
#include "hv/trace.h"
#include "vmx/vmx.h"

#define HV_MAX_SLOTS	32
#define HV_MAX_VCPUS	8
#define HV_MAX_VCPU_ID	255	/* KVM_CAP_MAX_VCPU_ID: all are below, for FFH means all APICs */
#define HV_MAX_CPUID	128	/* entries of a vCPU's CPUID table */
#define HV_MAX_MSRS	256	/* a list is shorter */
#define HV_CPUID_LISTS	128
#define HV_NO_LEAF	BIT(32)
#define HV_SLICE	10000	/* cycles of the time-stamp counter */
#define HV_LONG_SLICE	10000000	/* without local APICs: only host interrupts end a run */
#define HV_PIO_OFFSET	3072	/* of the I/O data in the page of struct kvm_run; 1024 bytes */
#define HV_PIO_SIZE	1024
#define HV_MTRRS	28
#define HV_XSAVE_SIZE	4096

struct hv_slot {
	struct kvm_userspace_memory_region region;	/* memory_size 0: no slot */
	u64 **dirty;		/* pages of 32768 bits each; NULL: no dirty logging */
};

struct hv_ept {
	u64 *root;
	u64 pointer;			/* EPT_POINTER while the processor logs nothing */
	/* Dirty logs are made by page-modification logging, else by write protection. */
	bool pml;
	/* Of hv_mmu_ept_restricted: page directories for guests without paging. */
	u64 *identity[4];
	bool has_identity;		/* they are mapped, or will be when they are used */
};

/*
 * The instruction that the MMU makes entries for. If the pool is too small for all that it touches
 * at once, they throw away each other, and it would never end.
 */
struct hv_progress {
	const struct hv_vcpu *vcpu;
	struct general_registers regs;
	u64 rip, rsp;
	u64 evictions;			/* of the VM, when it began */
};

#define HV_MAX_EVICTIONS	512	/* for one instruction */

struct hv_vm {
	struct hv_pool pool;		/* its own pages */
	struct hv_pool *lender;		/* where they come from, and go back to */
	struct hv_slot slots[HV_MAX_SLOTS];
	u32 logs;			/* slots with a dirty log */
	const struct hv_mmu *mmu;
	union {
		struct hv_ept ept;	/* of hv_mmu_ept */
		void *mmu_data;		/* of any other MMU: what it has in the pool */
	};
	u64 fills;			/* entries made so far by the MMU */
	u64 evictions;			/* times that its tables made room for others */
	struct hv_progress progress;
	u64 reserve;			/* pages that stay its own: what min_pages leaves to it */
	u32 vcpu_pages;			/* that it takes for each vCPU */
	u64 user_space_msr;		/* KVM_CAP_X86_USER_SPACE_MSR */
	u64 user_space_hypercall;	/* KVM_CAP_EXIT_HYPERCALL */
	struct hv_vcpu *vcpus[HV_MAX_VCPUS];
	u32 vcpu_count;
	bool irqchip;			/* KVM_CREATE_IRQCHIP: vCPUs have local APICs */
	/* Where the registers of the APIC of who runs are, not memory; plus 1; 0: nowhere. */
	u64 apic_page;
	u8 timer_shift;			/* ticks of the VMX-preemption timer: A.6 */
};

/* An event that the next VM entry delivers, as in INJECTED_EVENT_IDENTIFICATION; id 0: none. */
struct hv_event {
	u32 id, error;
	u32 length;			/* of INT n, INT3 ..., for software events */
	bool raised;			/* by the core, and nothing of it delivered yet */
};

/* One access of the instruction that is being emulated, within a page; or to a port. */
struct hv_access {
	u64 gpa;			/* or the number of the port */
	u32 size;			/* bytes, 1 to 8 */
	bool write;
	u8 data[8];
};

#define HV_MAX_ACCESSES	18	/* 64 bytes across pages, read and written */

/*
 * An access to MMIO ends the emulation of its instruction with an exit to user space. When user
 * space runs the vCPU again, the emulation starts afresh, and the accesses that are in this
 * list already are not made a second time.
 */
struct hv_emulation {
	struct hv_access done[HV_MAX_ACCESSES];
	u32 count, next;
};

/* MSRs that the processor uses in the guest and no VMCS field holds. */
enum { HV_MSR_STAR, HV_MSR_LSTAR, HV_MSR_CSTAR, HV_MSR_FMASK, HV_MSR_KERNEL_GS_BASE,
       HV_MSR_TSC_AUX, HV_MSR_XSS, HV_MSR_SPEC_CTRL, HV_MSR_U_CET, HV_MSR_PL0_SSP, HV_MSR_PL1_SSP,
       HV_MSR_PL2_SSP, HV_MSR_PL3_SSP, HV_SWITCHED_MSRS };

/* Bytes of an XSAVE area with these components. */
struct hv_xsave_size {
	u64 components;
	u32 bytes;
};

/* What of the guest's CPUID decides how it translates addresses: hv_vcpu_set_cpuid(). */
struct hv_widths {
	u8 physical, linear;		/* MAXPHYADDR; 48 or 57 bits */
	bool pages_1g, pse36, pat;
};

/* KVM_SET_GUEST_DEBUG; the registers are the guest's own, while user space's are in use. */
struct hv_guest_debug {
	u32 control;		/* KVM_GUESTDBG_... */
	u64 dr[4], dr7;
};

/*
 * The processor is asked what an access is that exited, by one entry in which that faults instead:
 * mmu_ept.c.
 */
struct hv_question {
	u64 gpa;		/* of the page that reads as all ones for it, plus 1; 0: none */
	u32 event;		/* what is being delivered meanwhile, as in struct hv_event */
};

struct hv_vcpu {
	struct hv_vm *vm;
	u32 id;
	struct kvm_run *run;		/* one page, with the data of I/O at HV_PIO_OFFSET */
	u8 *vmcs;
	bool launched, running;		/* running: inside of hv_vcpu_run() */
	struct vmx_switch state;	/* general registers but RSP */
	struct hv_widths widths;
	u64 cr2, cr8, efer, dr[4], dr6, apic_base, misc_enable;
	u64 signature, bank_control;	/* IA32_BIOS_SIGN_ID, IA32_MC0_CTL */
	u64 mtrr[HV_MTRRS];
	u64 cr3, pdpte[4];		/* where the MMU owns them: hv_cr3() */
	void *mmu_data;			/* of the MMU */
	struct hv_question question;
	u64 msr[HV_SWITCHED_MSRS];	/* between runs; those of msrs_refused always */
	u64 host_msr[HV_SWITCHED_MSRS];	/* during a run */
	u32 msrs_refused;		/* bits: the processor does not take them */
	u8 *fpu;			/* XSAVE area, HV_XSAVE_SIZE; FXSAVE area without XSAVE */
	u64 xcr0;
	u64 tsc_offset, tsc_adjust;
	struct hv_lapic lapic;
	u32 mp_state;			/* KVM_MP_STATE_...; without a local APIC always runnable */
	bool init_pending, start_pending;
	u8 start_vector;
	u64 slice_end;			/* time stamp at which hv_vcpu_run() comes back */
	struct hv_event event;
	bool nmi_pending;
	bool interrupt_pending;
	u8 interrupt;			/* the vector that waits: KVM_INTERRUPT, broken off */
	bool shutdown;			/* an exception while a double fault was delivered */
	u64 proc1;			/* primary controls as in the VMCS */
	/* What is left of the last exit to user space when the vCPU runs again; NULL: nothing. */
	int (*complete)(struct hv_vcpu *vcpu);
	u64 complete_at;		/* linear address of the instruction that it is about */
	u32 io_count;			/* elements of the last exit for I/O */
	struct hv_emulation emulation;
	struct hv_real real;
	u64 exits;			/* VM exits so far */
	struct hv_guest_debug guest_debug;
	u32 steps;			/* enum hv_steps: who wants the monitor trap flag */
	struct hv_trace *trace;		/* where exits are noted; NULL: nowhere */
	u64 cpuid_highest;		/* basic leaf, or HV_NO_LEAF */
	u32 cpuid_count;
	struct kvm_cpuid_entry2 cpuid[HV_MAX_CPUID];
	/* Number of an entry plus 1: the first with a hash, and the next with the same; 0: none. */
	u8 cpuid_first[HV_CPUID_LISTS], cpuid_next[HV_MAX_CPUID];
	u8 cpuid_leaf[256];		/* the first of a leaf; its hash taken: the next free one */
	struct hv_xsave_size xsave_size[3];	/* by enum hv_xsave_area */
};

/* VMX operation on this processor, with `page` as VMXON region. A failure ends the case. */
void hv_start(void *page);

/* --- VM: vm.c ----------------------------------------------------------------- */

/*
 * Makes an empty VM that lives in `pages` pages, which `lender` lends it for as long as it exists:
 * at least mmu->min_pages; for each vCPU three more, four with page-modification logging or shadow
 * paging; and for dirty logs what those take. When the MMU's tables have used all of them up, they
 * are made anew. vCPUs and logs leave it min_pages, with which all but the oddest instructions come
 * to an end: one that touches more at once than the tables can map is KVM_EXIT_INTERNAL_ERROR
 * (KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON).
 * -ENOMEM: too few, or more than the lender has; -EOPNOTSUPP: this processor cannot. Then nothing
 * is lent.
 */
int hv_vm_create(struct hv_vm *vm, const struct hv_mmu *mmu, struct hv_pool *lender, u64 pages);

/*
 * The VM with all its vCPUs is gone, and its pages are the lender's again. It must have been made,
 * and none of its vCPUs may be running. Whoever uses the memory of a VM, or of a vCPU, for
 * something else without this lets the processor write there later: its VMCS, and the registers of
 * FPU and SSE.
 */
void hv_vm_destroy(struct hv_vm *vm);

/*
 * KVM_SET_USER_MEMORY_REGION: slots 0 to 31, flags KVM_MEM_LOG_DIRTY_PAGES and KVM_MEM_READONLY.
 * -EINVAL as KVM, -EEXIST for an overlap, -ENOMEM without room for the dirty log.
 */
int hv_vm_set_memory(struct hv_vm *vm, const struct kvm_userspace_memory_region *region);

/* KVM_GET_DIRTY_LOG: `bitmap` has room for whole quadwords. -EINVAL, -ENOENT as KVM. */
int hv_vm_get_dirty_log(struct hv_vm *vm, const struct kvm_dirty_log *log);

/*
 * KVM_CREATE_IRQCHIP, before the first vCPU: each gets a local APIC, and hv_vcpu_run() comes back
 * with KVM_EXIT_INTR when the vCPU has run for HV_SLICE. -EOPNOTSUPP without the VMX-preemption
 * timer, -EEXIST.
 */
int hv_vm_create_irqchip(struct hv_vm *vm);

/* KVM_ENABLE_CAP: KVM_CAP_X86_USER_SPACE_MSR, KVM_CAP_EXIT_HYPERCALL; else -EINVAL. */
int hv_vm_enable_cap(struct hv_vm *vm, const struct kvm_enable_cap *cap);

/* --- vCPU: vcpu.c, sregs.c, msr.c, cpuid.c, inject.c, fpu.c, mp.c, guest_debug.c - */

/*
 * A vCPU as after a reset; `id` is its APIC ID. -EINVAL: HV_MAX_VCPUS are there, or the id is not
 * below HV_MAX_VCPU_ID; -EEXIST: the id is in use; -ENOMEM: the MMU needs the pages that are left.
 * Then nothing is taken from the VM's pages.
 */
int hv_vcpu_create(struct hv_vm *vm, struct hv_vcpu *vcpu, u32 id);

/*
 * The vCPU is gone, and its pages are the VM's again; `vcpu` can be used for another one. KVM has
 * no such call: there vCPUs go with the VM.
 */
void hv_vcpu_destroy(struct hv_vcpu *vcpu);

int hv_vcpu_get_regs(struct hv_vcpu *vcpu, struct kvm_regs *regs);
/*
 * An exception that the core has raised at the old ones is dropped, as on KVM; but not a debug
 * exception while RIP stays what it is, for nothing would raise it once more.
 */
int hv_vcpu_set_regs(struct hv_vcpu *vcpu, const struct kvm_regs *regs);
int hv_vcpu_get_sregs(struct hv_vcpu *vcpu, struct kvm_sregs *sregs);
/* -EINVAL for control registers that contradict each other or have unknown bits. */
int hv_vcpu_set_sregs(struct hv_vcpu *vcpu, const struct kvm_sregs *sregs);
int hv_vcpu_get_debugregs(struct hv_vcpu *vcpu, struct kvm_debugregs *regs);
int hv_vcpu_set_debugregs(struct hv_vcpu *vcpu, const struct kvm_debugregs *regs);
/* What is in the processor is saved first. As on KVM, MXCSR of the structure is not used. */
int hv_vcpu_get_fpu(struct hv_vcpu *vcpu, struct kvm_fpu *fpu);
int hv_vcpu_set_fpu(struct hv_vcpu *vcpu, const struct kvm_fpu *fpu);
/* -EINVAL for a state that there is not; without a local APIC there is but RUNNABLE. */
int hv_vcpu_get_mp_state(struct hv_vcpu *vcpu, struct kvm_mp_state *state);
int hv_vcpu_set_mp_state(struct hv_vcpu *vcpu, const struct kvm_mp_state *state);
/*
 * KVM_SET_GUEST_DEBUG: KVM_GUESTDBG_SINGLESTEP, _USE_HW_BP, _USE_SW_BP. -EINVAL for others;
 * -EOPNOTSUPP where the processor cannot.
 */
int hv_vcpu_set_guest_debug(struct hv_vcpu *vcpu, const struct kvm_guest_debug *debug);
/* The number of entries done: fewer than asked for where one is refused. -E2BIG: HV_MAX_MSRS. */
int hv_vcpu_get_msrs(struct hv_vcpu *vcpu, struct kvm_msrs *msrs);
int hv_vcpu_set_msrs(struct hv_vcpu *vcpu, const struct kvm_msrs *msrs);
/* KVM_GET_SUPPORTED_CPUID: what the processor says, less what the core cannot do. -E2BIG. */
int hv_get_supported_cpuid(struct kvm_cpuid2 *table);
/* KVM_CAP_TSC_DEADLINE_TIMER. */
bool hv_has_tsc_deadline(void);
/*
 * -E2BIG above HV_MAX_CPUID entries; -EINVAL for a width of linear addresses that there is not.
 * Features that the core does not offer are left out.
 */
int hv_vcpu_set_cpuid(struct hv_vcpu *vcpu, const struct kvm_cpuid2 *table);
int hv_vcpu_get_events(struct hv_vcpu *vcpu, struct kvm_vcpu_events *events);
int hv_vcpu_set_events(struct hv_vcpu *vcpu, const struct kvm_vcpu_events *events);
/*
 * KVM_INTERRUPT: -EINVAL above 255. There is one place for an interrupt that waits, or whose
 * delivery was broken off; run->ready_for_interrupt_injection says when it is free. A second one
 * takes the first one's place; with a local APIC it is refused, -EEXIST. KVM_NMI. KVM_TRANSLATE.
 */
int hv_vcpu_interrupt(struct hv_vcpu *vcpu, const struct kvm_interrupt *interrupt);
int hv_vcpu_nmi(struct hv_vcpu *vcpu);
int hv_vcpu_translate(struct hv_vcpu *vcpu, struct kvm_translation *translation);

/*
 * KVM_RUN: runs the guest until something is left for user space, which vcpu->run says. -EINTR with
 * run->immediate_exit, after what the last exit left to do. -EAGAIN with a local APIC: it is
 * halted, or waits for a start-up IPI, and nothing has come.
 */
int hv_vcpu_run(struct hv_vcpu *vcpu);

#endif
