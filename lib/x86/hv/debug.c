/* Debug registers: which breakpoints an access of the core on the guest's behalf meets. */
#include "hv/internal.h"

#define DR7_ENABLED(dr7, n)	((dr7) >> 2 * (n) & 3)
#define DR7_KIND(dr7, n)	((dr7) >> (16 + 4 * (n)) & 3)
#define DR7_LENGTH(dr7, n)	((dr7) >> (18 + 4 * (n)) & 3)
#define DR7_GD			BIT(13)
#define DR6_REPORTED		(BITS(3, 0) | BITS(15, 13))
enum { KIND_EXECUTE, KIND_WRITE, KIND_IO, KIND_READ_WRITE };

/* GUEST_PENDING_DEBUG_EXCEPTIONS: Table 27-4. */
#define PENDING_ENABLED		BIT(12)

/* While the vCPU runs, its DR0 to DR3 are in the processor. */
static u64 address_of(const struct hv_vcpu *vcpu, u32 number)
{
	if (!vcpu->running)
		return vcpu->dr[number];
	switch (number) {
	case 0:
		return read_dr0();
	case 1:
		return read_dr1();
	case 2:
		return read_dr2();
	default:
		return read_dr3();
	}
}

/* 20.2.4 Debug Control Register (DR7). */
static bool is_kind(u32 kind, enum hv_break access)
{
	switch (access) {
	case HV_BREAK_EXECUTE:
		return kind == KIND_EXECUTE;
	case HV_BREAK_IO:
		return kind == KIND_IO && hv_cr4() & CR4_DE;
	case HV_BREAK_WRITE:
		return kind == KIND_WRITE || kind == KIND_READ_WRITE;
	default:
		return kind == KIND_READ_WRITE;
	}
}

u64 hv_breakpoints(const struct hv_vcpu *vcpu, enum hv_break access, u64 address, u32 size)
{
	static const u8 lengths[] = { 1, 2, 8, 4 };
	u64 dr7 = vmcs_get(GUEST_DR7), hits = 0;
	u32 i;

	if (!(dr7 & 0xff))
		return 0;
	for (i = 0; i < 4; i++) {
		u32 length = lengths[DR7_LENGTH(dr7, i)];
		u64 start = address_of(vcpu, i) & ~(u64)(length - 1);

		if (DR7_ENABLED(dr7, i) && is_kind(DR7_KIND(dr7, i), access) &&
		    address < start + length && start < address + size)
			hits |= BIT(i);
	}
	return hits;
}

/*
 * 20.2.3 Debug Status Register (DR6), 30.1: an exit in place of a debug exception has not changed
 * DR6 and DR7; the exit qualification says what it would have put there.
 */
void hv_note_debug_exception(void)
{
	write_dr6((read_dr6() & ~BITS(3, 0)) | (vmcs_get(EXIT_QUALIFICATION) & DR6_REPORTED));
	vmcs_put(GUEST_DR7, vmcs_get(GUEST_DR7) & ~(u64)DR7_GD);
}

/* What DR6 would have of it: enabled breakpoints, and the single step. */
u64 hv_pending_debug(void)
{
	u64 pending = vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS);

	if (!(pending & (HV_PENDING_BS | PENDING_ENABLED)) ||
	    vmcs_get(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_MOV_SS)
		return 0;
	return pending & (HV_PENDING_BS | BITS(3, 0));
}

void hv_add_pending_debug(u64 hits)
{
	if (hits)
		vmcs_put(GUEST_PENDING_DEBUG_EXCEPTIONS,
			 vmcs_get(GUEST_PENDING_DEBUG_EXCEPTIONS) | hits | PENDING_ENABLED);
}
