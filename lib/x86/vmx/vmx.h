/*
 * VMX operation on this processor, and guests in it.
 *
 *	vmx_start();				VMXON, a VMCS with defaults
 *	vmcs_set_control(CONTROL_PROC1_HLT_EXITING);
 *	EXPECT(enter(guest), OUTCOME_EXIT(EXIT_HLT));
 *	skip_instruction();
 *	EXPECT(resume(), GUEST_DONE);
 */
#ifndef VMX_VMX_H
#define VMX_VMX_H

#include "vmx/audit.h"
#include "vmx/capabilities.h"
#include "vmx/vmcs.h"

/* The guest function returned: its caller in the guest executes VMCALL. */
#define GUEST_DONE	OUTCOME_EXIT(EXIT_VMCALL)

/* What the world switch saves and loads: vmx/switch.S. */
struct vmx_switch {
	struct general_registers regs;	/* guest's, in and out */
	u64 host_rsp, host_rflags;	/* as found right after the exit */
	u64 any_host_rsp;		/* the entry leaves HOST_RSP as it is */
};

/* vmx/switch.S: 0 after a VM exit; RFLAGS with bit 63 when VMLAUNCH or VMRESUME fell through. */
u64 vmx_switch(struct vmx_switch *state, u64 launched);

struct vmx {
	u8 *vmxon_region, *vmcs_region;		/* one page each; physical = linear address */
	u8 *io_bitmap_a, *io_bitmap_b, *msr_bitmap;
	struct vmx_switch state;
	bool launched;				/* VMRESUME is the way in */
	struct context *guest_catcher;
	outcome_t guest_caught;			/* exception at a fixup during the last stay */
	struct trap guest_trap;			/* the last trap up to its end */
	struct audit audit;
};

/* The boot processor's. */
struct vmx *this_vmx(void);

/* Makes VMXON succeed: CR0 and CR4 fixed bits, CR4.VMXE, IA32_FEATURE_CONTROL, revision word. */
void vmx_prepare(void);

/* The same without IA32_FEATURE_CONTROL, which stays as it is once bit 0 (lock) is set. */
void vmx_prepare_but_feature_control(void);

/* vmx_prepare(), VMXON, VMCLEAR, VMPTRLD, vmcs_set_defaults(). A failure ends the case. */
void vmx_start(void);

/* Starts `guest` as a function in the guest, with registers zero; returns how it came back. */
outcome_t enter(void (*guest)(void));

/* Enters again with guest state and registers as they are. */
outcome_t resume(void);

/*
 * The same without an audit, for those who enter very often and judge by themselves. The current
 * VMCS must be the one of vmx_start().
 */
outcome_t resume_unaudited(void);
outcome_t enter_unaudited(void (*guest)(void));

/*
 * From now on, or no more, entries leave HOST_RSP as the VMCS has it; otherwise they write their
 * own. Writes HOST_RIP. vmx_start() begins without.
 */
void vmx_keep_host_rsp(bool keep);

/* Moves the guest's RIP over the instruction that exited. */
void skip_instruction(void);

static inline struct general_registers *guest_regs(void)
{
	return &this_vmx()->state.regs;
}

/* Bits of the I/O bitmaps and of the MSR bitmaps: 27.6.4 and 27.6.9. The control is not touched. */
void intercept_port(u16 port, bool on);
enum msr_access { MSR_READ, MSR_WRITE };
void intercept_msr(u32 msr, enum msr_access access, bool on);

#endif
