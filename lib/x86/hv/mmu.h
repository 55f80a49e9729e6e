/*
 * An MMU: what makes the tables by which the processor reaches guest memory. One is EPT, the other
 * shadow paging. The core knows nothing of either but this table of functions; all of them have the
 * places of guest memory from hv_slot_at() and hv_memory() only.
 *
 * The architectural registers of the guest are what hv_cr0(), hv_cr3(), hv_cr4(), hv_efer() and
 * hv_pdpte() say. What the VMCS holds instead is the MMU's business.
 */
#ifndef HV_MMU_H
#define HV_MMU_H

#include "types.h"

struct hv_vm;
struct hv_vcpu;

/* What became of an access that exited. */
enum hv_mmu_fault {
	HV_MMU_AGAIN,		/* the guest has its page, or its fault by hv_inject() */
	HV_MMU_DEVICE,		/* no memory, or a write to a read-only slot */
	HV_MMU_DEVICE_CODE,	/* the same for a fetch: there is nothing to execute */
	HV_MMU_REFUSED,		/* the processor refuses what the model of paging allows */
};

struct hv_mmu {
	const char *name;
	u64 min_pages;		/* of a VM, so that every instruction comes to an end */
	/* The guest's CR3 and PDPTEs are in struct hv_vcpu; GUEST_CR3 is the MMU's. */
	bool owns_cr3;
	/* Bits of CR0, beyond those of the core, whose change exits and is told by registers(). */
	u64 cr0_owned;
	/* Bits that GUEST_CR0, GUEST_CR4 and GUEST_IA32_EFER have whatever the guest's have. */
	u64 cr0_always, cr4_always, efer_always;
	/* Bits that GUEST_CR4 never has, because the MMU does their work itself. */
	u64 cr4_never;

	/* Guest-physical addresses have so many bits at most: slots must be below. */
	u32 (*gpa_bits)(void);
	/* What it needs of this processor. */
	bool (*supported)(void);
	/* Takes what it needs from vm->pool, fewer than min_pages. -ENOMEM. */
	int (*create)(struct hv_vm *vm);
	/*
	 * Gives back all that it has, also where create() has failed; there are no vCPUs any more.
	 */
	void (*destroy)(struct hv_vm *vm);
	/*
	 * A new vCPU; its VMCS is loaded and has the core's controls: adds the MMU's own. -ENOMEM,
	 * with nothing taken.
	 */
	int (*create_vcpu)(struct hv_vcpu *vcpu);
	/* The vCPU goes, with its VMCS loaded for the last time: gives back what that took. */
	void (*destroy_vcpu)(struct hv_vcpu *vcpu);
	/*
	 * An exit that the MMU has asked for: an EPT violation, or a page fault, which the
	 * exception bitmap selects.
	 */
	enum hv_mmu_fault (*fault)(struct hv_vcpu *vcpu);
	/* CR0, CR3, CR4, EFER or a PDPTE of the guest may have changed. NULL: nothing to do. */
	void (*registers)(struct hv_vcpu *vcpu);
	/* The guest's INVLPG of `linear`, where it exits. NULL: it does not. */
	void (*invlpg)(struct hv_vcpu *vcpu, u64 linear);
	/*
	 * A run begins: user space may have written to guest memory, or told to log what the guest
	 * writes. NULL: nothing to do.
	 */
	void (*resumed)(struct hv_vcpu *vcpu);
	/*
	 * The run is at its end, or exit 62 says that there is no more room: the pages that the
	 * processor has noted go to the dirty logs. And what one
	 * instruction was lent is taken back. NULL: there is neither.
	 */
	void (*drain)(struct hv_vcpu *vcpu);
	/*
	 * The entry for which fault() has set vcpu->question is over, or will be another one: what
	 * was mapped for it goes. NULL: it never does.
	 */
	void (*answered)(struct hv_vcpu *vcpu);
	/* An exit by the monitor trap flag, which the MMU has set. NULL: it never does. */
	void (*stepped)(struct hv_vcpu *vcpu);
	/*
	 * The core writes `size` bytes at `gpa`, in one page, on behalf of the guest or of user
	 * space, right after this. NULL: nothing to do.
	 */
	void (*written)(struct hv_vm *vm, u64 gpa, u32 size);
	/*
	 * The range loses its mappings; `write_only`: just what keeps the next write from being
	 * noted in the dirty log. flush() follows.
	 */
	void (*zap)(struct hv_vm *vm, u64 gpa, u64 size, bool write_only);
	/* What the processor has cached of these tables is gone when the guest runs again. */
	void (*flush)(struct hv_vm *vm);
	/* Gives all pages back to the pool that it can do without; the guest fills them anew. */
	void (*reclaim)(struct hv_vm *vm);
};

/*
 * hv_mmu_ept logs dirty pages by page-modification logging where the processor has it;
 * hv_mmu_ept_write_protect never. hv_mmu_ept_restricted does without "unrestricted guest" (and
 * without such a log); the other two turn into it where the processor does not have that.
 */
extern const struct hv_mmu hv_mmu_ept, hv_mmu_ept_write_protect, hv_mmu_ept_restricted,
			   hv_mmu_shadow;

#endif
