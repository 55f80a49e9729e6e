/*
 * VM entries of the pretended processor. The real one makes them, with what is pretended taken out
 * of the VMCS; whatever an entry or exit does with that is done here, before and after.
 */
#include "string.h"
#include "rehearsal/rehearsal.h"

u64 __real_vmx_switch(struct vmx_switch *state, u64 launched);
u64 __wrap_vmx_switch(struct vmx_switch *state, u64 launched);

/* --- entries that fail ----------------------------------------------------------------------- */

/* A field and a value for which the real processor fails in the same stage: error 7, 8, exit 33. */
static const struct {
	u32 field;
	u64 value;
} spoil[] = {
	[CHECK_CONTROLS]	= { CR3_TARGET_COUNT, 0xffffffff },	/* 29.2.1.1 */
	[CHECK_HOST]		= { HOST_CS_SELECTOR, 0 },		/* 29.2.3 */
	[CHECK_GUEST]		= { GUEST_RFLAGS, 0 },			/* 29.3.1.4: bit 1 */
};

static u64 enter_spoilt(struct vmx_switch *state, u64 launched, enum check_stage stage)
{
	u32 field = spoil[stage].field;
	u64 value = vmread_known(field), failed;

	vmwrite_known(field, spoil[stage].value);
	failed = __real_vmx_switch(state, launched);
	vmwrite_known(field, value);
	return failed;
}

/* --- RDMSR and WRMSR of the guest ------------------------------------------------------------ */

/* The real processor has these in the place of the VMCS's, with all pretended MSRs in them. */
static u8 bitmaps[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 bitmaps_of_the_vmcs;	/* NO_BITMAPS: there are none, or the entry will fail for them */
#define NO_BITMAPS	(~0ull)

/* 27.6.9 MSR-Bitmap Address: reads of low and high MSRs, then writes. */
static bool in_bitmaps(const u8 *page, u32 msr, bool write, bool set)
{
	u32 at = (write ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0) + (msr & 0x1fff) / 8;

	if (set)
		bitmaps[at] |= 1u << msr % 8;
	return page[at] >> msr % 8 & 1;
}

static void intercept(u32 msr)
{
	in_bitmaps(bitmaps, msr, false, true);
	in_bitmaps(bitmaps, msr, true, true);
}

static void bitmaps_begin(void)
{
	u64 address = vmread_known(MSR_BITMAP_ADDRESS);

	bitmaps_of_the_vmcs = NO_BITMAPS;
	if (!control_on(CONTROL_PROC1_USE_MSR_BITMAPS) || address % PAGE_SIZE || address >> 30)
		return;
	memcpy(bitmaps, (const void *)address, PAGE_SIZE);
	pretended_msrs(intercept);
	if (control_on(CONTROL_PROC3_APIC_TIMER_VIRTUALIZATION))
		intercept(IA32_TSC_DEADLINE);
	vmwrite_known(MSR_BITMAP_ADDRESS, (u64)bitmaps);
	bitmaps_of_the_vmcs = address;
}

static void bitmaps_end(void)
{
	if (bitmaps_of_the_vmcs != NO_BITMAPS)
		vmwrite_known(MSR_BITMAP_ADDRESS, bitmaps_of_the_vmcs);
}

/* Where the bitmaps of the VMCS let the guest access the MSR, or would. */
static bool lets_guest_access(u32 msr, bool write)
{
	return bitmaps_of_the_vmcs != NO_BITMAPS &&
	       !in_bitmaps((const u8 *)bitmaps_of_the_vmcs, msr, write, false);
}

static enum next msr_exit(u32 reason, struct general_registers *regs)
{
	u32 msr = regs->rcx;
	bool write = reason == EXIT_WRMSR;
	u64 *value = pretended_msr(msr);

	if ((!write && reason != EXIT_RDMSR) || !lets_guest_access(msr, write))
		return NEXT_EXIT;
	if (!timer_access(write, regs)) {
		if (!value)
			return NEXT_EXIT;
		if (write)
			pretended_msr_write(msr, register_pair(regs));
		else
			set_register_pair(regs, *value);
	}
	vmwrite_known(GUEST_RIP,
		      vmread_known(GUEST_RIP) + vmread_known(VM_EXIT_INSTRUCTION_LENGTH));
	return NEXT_RESUME;
}

/* --- entries that succeed -------------------------------------------------------------------- */

static enum next after_exit(u32 reason, struct general_registers *regs)
{
	if (timer_expired(reason) || msr_exit(reason, regs) == NEXT_RESUME)
		return NEXT_RESUME;
	bus_lock_exit(reason);
	return fred_exit(reason);
}

/* An entry whose guest does nothing, by a VMX-preemption timer of 0: 28.5.1. */
static u64 enter_and_exit_at_once(struct vmx_switch *state, u64 launched)
{
	u64 pin = vmread_known(PIN_BASED_VM_EXECUTION_CONTROLS);
	u64 timer = vmread_known(VMX_PREEMPTION_TIMER_VALUE);
	u64 blocking = vmread_known(GUEST_INTERRUPTIBILITY_STATE), failed;

	vmwrite_known(PIN_BASED_VM_EXECUTION_CONTROLS,
		      pin | control_bit(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER));
	vmwrite_known(VMX_PREEMPTION_TIMER_VALUE, 0);
	failed = __real_vmx_switch(state, launched);
	vmwrite_known(PIN_BASED_VM_EXECUTION_CONTROLS, pin);
	vmwrite_known(VMX_PREEMPTION_TIMER_VALUE, timer);
	vmwrite_known(GUEST_INTERRUPTIBILITY_STATE, blocking);
	return failed;
}

/* By VMfail, or with the host state loaded: 29.8. */
static bool failed_to_enter(u64 failed)
{
	return failed || vmread_known(EXIT_REASON) & BIT(31);
}

/*
 * Up to an exit that the pretended processor has, too. An event is delivered by FRED when the real
 * processor has accepted the guest without it.
 */
static u64 stay_in_guest(struct vmx_switch *state, u64 launched)
{
	u64 failed;

	fred_begin_stay();
	if (fred_take_injection()) {
		failed = enter_and_exit_at_once(state, launched);
		if (failed_to_enter(failed)) {
			fred_put_back();
			return failed;
		}
		if (fred_inject() == NEXT_EXIT)
			return 0;
		launched = true;
	}
	for (;; launched = true) {
		timer_arm();
		bus_lock_arm(&state->regs);
		failed = __real_vmx_switch(state, launched);
		timer_disarm();
		bus_lock_disarm();
		if (failed_to_enter(failed) ||
		    after_exit(vmread_known(EXIT_REASON), &state->regs) == NEXT_EXIT)
			return failed;
	}
}

/*
 * The debug exception of a transaction is not pending for the real processor. It stays pending
 * where the exit comes before exceptions are delivered, 29.7.7; else it is as if delivered.
 */
static u64 pending;

static void pending_begin(void)
{
	pending = field_get(GUEST_PENDING_DEBUG_EXCEPTIONS);
	if (pending & PENDING_RTM)
		field_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
}

static void pending_end(bool failed)
{
	bool kept = failed || (vmread_known(EXIT_REASON) == EXIT_TPR_BELOW_THRESHOLD &&
			       !fault(FAULT_forgets_pending_rtm));

	if (pending & PENDING_RTM && kept)
		field_put(GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
}

static u64 make_entry(struct vmx_switch *state, u64 launched)
{
	u64 failed;

	bitmaps_begin();
	pending_begin();
	fred_exception_bitmap();
	msrs_load();
	lists_begin();
	timer_load();
	branches_begin();
	failed = stay_in_guest(state, launched);
	bitmaps_end();
	lists_end();
	pending_end(failed_to_enter(failed));
	if (failed_to_enter(failed))
		return failed;
	branches_end();
	fred_end_stay();
	msrs_save();
	timer_save();
	/* 30.3.4: set by exits of an enclave. */
	field_put(GUEST_INTERRUPTIBILITY_STATE,
		  field_get(GUEST_INTERRUPTIBILITY_STATE) & ~ENCLAVE_INTERRUPTION);
	return failed;
}

/* The linker puts this before vmx_switch(). */
u64 __wrap_vmx_switch(struct vmx_switch *state, u64 launched)
{
	enum check_stage stage;
	u64 failed;

	msrs_remember();
	stage = checks_fail();
	if (stage == CHECKS_PASSED)
		failed = make_entry(state, launched);
	else
		failed = enter_spoilt(state, launched, stage);
	/* VMfail loads nothing: 33.2. An entry that fails later loads the host state: 29.8. */
	if (failed) {
		msrs_recall();
		return failed;
	}
	msrs_to_host();
	exit_settle();
	return 0;
}
