/* RDMSR and WRMSR: a table of the MSRs that a guest has. All others are #GP(0), or user space's. */
#include "cpu/safe.h"
#include "hv/internal.h"
#include "vmx/guest.h"

/* Of IA32_MISC_ENABLE, beside HV_MONITOR_ENABLED. */
#define FAST_STRINGS		BIT(0)
#define PERFORMANCE_COUNTERS	BIT(7)
#define BTS_PEBS_UNAVAILABLE	BITS(12, 11)

/* Where the value is. */
enum place { IN_VMCS, IN_SWITCHED, IN_VCPU, IS_EFER, IS_TSC, IS_TSC_ADJUST, IS_TSC_DEADLINE,
	     IS_APIC_BASE, IS_MISC_ENABLE, IS_CONSTANT, IS_COMMAND, OF_HOST };
/* What may be written. */
enum check { ANY, CANONICAL, PAT_TYPES, BITS_OF_MASK, READ_ONLY, XSS_BITS, CET_BITS,
	     STACK_POINTER };

struct msr_row {
	u32 index;
	enum place place;
	u32 where;		/* VMCS field, number in vcpu->msr, or offset in struct hv_vcpu */
	enum check check;
	u64 mask;		/* BITS_OF_MASK: others are #GP */
	u32 has;		/* 1 + the feature of CPUID that brings it; 0: none needed */
};

#define IA32_SPEC_CTRL		0x48
#define IA32_PRED_CMD		0x49
#define IA32_ARCH_CAPABILITIES	0x10a
#define IA32_MCG_CAP		0x179
#define IA32_MCG_STATUS		0x17a
#define IA32_MC0_CTL		0x400
#define IA32_PL0_SSP		0x6a4
#define IA32_INTERRUPT_SSP_TABLE 0x6a8

#define HAS(name)	(FEATURE_##name + 1)
#define HAS_CET		HAS(CET_SS)		/* or CET_IBT */

#define VMCS(name)	IN_VMCS, GUEST_IA32_##name
#define SWAP(name)	IN_SWITCHED, HV_MSR_##name
#define VCPU(member)	IN_VCPU, offsetof(struct hv_vcpu, member)

static const struct msr_row rows[] = {
	{ IA32_TSC,		IS_TSC, 0,		ANY, 0, 0 },
	{ IA32_TSC_ADJUST,	IS_TSC_ADJUST, 0,	ANY, 0, HAS(TSC_ADJUST) },
	{ IA32_TSC_DEADLINE,	IS_TSC_DEADLINE, 0,	ANY, 0, HAS(TSC_DEADLINE) },
	{ IA32_APIC_BASE,	IS_APIC_BASE, 0,	ANY, 0, 0 },
	{ IA32_SYSENTER_CS,	VMCS(SYSENTER_CS),	BITS_OF_MASK, BITS(31, 0), 0 },
	{ IA32_SYSENTER_ESP,	VMCS(SYSENTER_ESP),	CANONICAL, 0, 0 },
	{ IA32_SYSENTER_EIP,	VMCS(SYSENTER_EIP),	CANONICAL, 0, 0 },
	{ IA32_MISC_ENABLE,	IS_MISC_ENABLE, 0,	ANY, 0, 0 },
	{ IA32_PAT,		VMCS(PAT),		PAT_TYPES, 0, 0 },
	{ IA32_EFER,		IS_EFER, 0,		ANY, 0, 0 },
	{ IA32_STAR,		SWAP(STAR),		ANY, 0, 0 },
	{ IA32_LSTAR,		SWAP(LSTAR),		CANONICAL, 0, 0 },
	{ IA32_CSTAR,		SWAP(CSTAR),		CANONICAL, 0, 0 },
	{ IA32_FMASK,		SWAP(FMASK),		BITS_OF_MASK, BITS(31, 0), 0 },
	{ IA32_FS_BASE,		IN_VMCS, GUEST_FS_BASE,	CANONICAL, 0, 0 },
	{ IA32_GS_BASE,		IN_VMCS, GUEST_GS_BASE,	CANONICAL, 0, 0 },
	{ IA32_KERNEL_GS_BASE,	SWAP(KERNEL_GS_BASE),	CANONICAL, 0, 0 },
	{ IA32_TSC_AUX,		SWAP(TSC_AUX),		BITS_OF_MASK, BITS(31, 0), 0 },
	{ IA32_BIOS_SIGN_ID,	VCPU(signature),	ANY, 0, 0 },
	{ IA32_DEBUGCTL,	VMCS(DEBUGCTL),		BITS_OF_MASK, 0, 0 },
	{ IA32_XSS,		SWAP(XSS),		XSS_BITS, 0, HAS(XSAVES) },
	{ IA32_SPEC_CTRL,	SWAP(SPEC_CTRL),	BITS_OF_MASK, BITS(2, 0), HAS(IBRS) },
	{ IA32_PRED_CMD,	IS_COMMAND, 0,		BITS_OF_MASK, BIT(0), HAS(IBRS) },
	{ IA32_ARCH_CAPABILITIES, OF_HOST, 0,		READ_ONLY, 0, HAS(ARCH_CAPABILITIES) },
	{ IA32_PKRS,		VMCS(PKRS),		BITS_OF_MASK, BITS(31, 0), HAS(PKS) },
	{ IA32_U_CET,		SWAP(U_CET),		CET_BITS, 0, HAS_CET },
	{ IA32_S_CET,		VMCS(S_CET),		CET_BITS, 0, HAS_CET },
	{ IA32_PL0_SSP,		SWAP(PL0_SSP),		STACK_POINTER, 0, HAS(CET_SS) },
	{ IA32_PL0_SSP + 1,	SWAP(PL1_SSP),		STACK_POINTER, 0, HAS(CET_SS) },
	{ IA32_PL0_SSP + 2,	SWAP(PL2_SSP),		STACK_POINTER, 0, HAS(CET_SS) },
	{ IA32_PL3_SSP,		SWAP(PL3_SSP),		STACK_POINTER, 0, HAS(CET_SS) },
	{ IA32_INTERRUPT_SSP_TABLE, VMCS(INTERRUPT_SSP_TABLE_ADDR), CANONICAL, 0, HAS(CET_SS) },
	/* Machine check: one bank, in which nothing is ever logged. */
	{ IA32_MCG_CAP,		IS_CONSTANT, 1,		READ_ONLY, 0, HAS(MCA) },
	{ IA32_MCG_STATUS,	IS_CONSTANT, 0,		BITS_OF_MASK, 0, HAS(MCA) },
	{ IA32_MC0_CTL,		VCPU(bank_control),	ANY, 0, HAS(MCA) },
	{ IA32_MC0_CTL + 1,	IS_CONSTANT, 0,		BITS_OF_MASK, 0, HAS(MCA) },
	{ IA32_MC0_CTL + 2,	IS_CONSTANT, 0,		BITS_OF_MASK, 0, HAS(MCA) },
	{ IA32_MC0_CTL + 3,	IS_CONSTANT, 0,		BITS_OF_MASK, 0, HAS(MCA) },
};

static const u32 switched[HV_SWITCHED_MSRS] = {
	[HV_MSR_STAR] = IA32_STAR, [HV_MSR_LSTAR] = IA32_LSTAR, [HV_MSR_CSTAR] = IA32_CSTAR,
	[HV_MSR_FMASK] = IA32_FMASK, [HV_MSR_KERNEL_GS_BASE] = IA32_KERNEL_GS_BASE,
	[HV_MSR_TSC_AUX] = IA32_TSC_AUX, [HV_MSR_XSS] = IA32_XSS,
	[HV_MSR_SPEC_CTRL] = IA32_SPEC_CTRL, [HV_MSR_U_CET] = IA32_U_CET,
	[HV_MSR_PL0_SSP] = IA32_PL0_SSP, [HV_MSR_PL1_SSP] = IA32_PL0_SSP + 1,
	[HV_MSR_PL2_SSP] = IA32_PL0_SSP + 2, [HV_MSR_PL3_SSP] = IA32_PL3_SSP,
};

static bool is_there(const struct hv_vcpu *vcpu, const struct msr_row *row)
{
	return !row->has || hv_guest_has(vcpu, row->has - 1) ||
	       (row->has == HAS_CET && row->check == CET_BITS &&
		hv_guest_has(vcpu, FEATURE_CET_IBT));
}

static const struct msr_row *find(const struct hv_vcpu *vcpu, u32 index)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].index == index)
			return is_there(vcpu, &rows[i]) ? &rows[i] : NULL;
	return NULL;
}

static bool is_x2apic(u32 index)
{
	return index - X2APIC_MSR_BASE < 0x100;
}

static bool is_refused(const struct hv_vcpu *vcpu, u32 number)
{
	return vcpu->msrs_refused >> number & 1;
}

static u64 *in_vcpu(struct hv_vcpu *vcpu, const struct msr_row *row)
{
	return (u64 *)((u8 *)vcpu + row->where);
}

/*
 * While the guest runs its values are in the MSRs, where SYSCALL and SWAPGS find them. One that
 * this processor refuses, which user space may have given, stays in vcpu->msr: RDMSR says it, and
 * the processor has 0 in its place, never the value of the host.
 */
static void load_msrs(struct hv_vcpu *vcpu)
{
	u64 *host = vcpu->host_msr;
	u32 i;

	vcpu->msrs_refused = 0;
	for (i = 0; i < HV_SWITCHED_MSRS; i++) {
		/* IA32_TSC_AUX does not exist everywhere. */
		if (rdmsr_safe(switched[i], &host[i]) != OUTCOME_DONE || vcpu->msr[i] == host[i] ||
		    wrmsr_safe(switched[i], vcpu->msr[i]) == OUTCOME_DONE)
			continue;
		wrmsr(switched[i], 0);
		vcpu->msrs_refused |= BIT(i);
	}
}

static void save_msrs(struct hv_vcpu *vcpu)
{
	u64 value;
	u32 i;

	for (i = 0; i < HV_SWITCHED_MSRS; i++) {
		if (rdmsr_safe(switched[i], &value) != OUTCOME_DONE)
			continue;
		if (!is_refused(vcpu, i))
			vcpu->msr[i] = value;
		if (value != vcpu->host_msr[i])
			wrmsr(switched[i], vcpu->host_msr[i]);
	}
}

void hv_msrs_swap(struct hv_vcpu *vcpu)
{
	if (vcpu->running)
		save_msrs(vcpu);
	else
		load_msrs(vcpu);
}

/* --- values ---------------------------------------------------------------------- */

static enum hv_msr_result set_efer(struct hv_vcpu *vcpu, u64 value, bool by_user_space)
{
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, 0x80000001, 0);
	u64 allowed = 0, before = hv_efer(vcpu);

	if (entry && entry->edx & BIT(11))
		allowed |= EFER_SCE;
	if (entry && entry->edx & BIT(20))
		allowed |= EFER_NXE;
	if (entry && entry->edx & BIT(29))
		allowed |= EFER_LME | EFER_LMA;
	if (value & ~allowed && !by_user_space)
		return HV_MSR_INVALID;
	/* 2.2.1: LME cannot change while paging is on. LMA follows by itself. */
	if ((before ^ value) & EFER_LME && hv_cr0() & CR0_PG)
		return HV_MSR_INVALID;
	hv_put_efer(vcpu, value & (EFER_SCE | EFER_LME | EFER_NXE));
	hv_registers_changed(vcpu);
	return HV_MSR_DONE;
}

/*
 * IA32_MISC_ENABLE, volume 4: what a guest may change is fast strings and, where its CPUID has
 * MONITOR, whether it has. There is no branch trace storage and no PEBS, as two bits say that are
 * read-only, and nothing else; from user space they may come as they were on another hypervisor.
 */
static u64 misc_enable_mask(const struct hv_vcpu *vcpu)
{
	return FAST_STRINGS | (hv_guest_has(vcpu, FEATURE_MONITOR) ? HV_MONITOR_ENABLED : 0);
}

static u64 get_misc_enable(const struct hv_vcpu *vcpu)
{
	return (vcpu->misc_enable & misc_enable_mask(vcpu)) | BTS_PEBS_UNAVAILABLE;
}

static enum hv_msr_result set_misc_enable(struct hv_vcpu *vcpu, u64 value, bool by_user_space)
{
	const u64 kept = FAST_STRINGS | HV_MONITOR_ENABLED;
	u64 mask = misc_enable_mask(vcpu);

	if (!by_user_space && (value ^ get_misc_enable(vcpu)) & ~mask)
		return HV_MSR_INVALID;
	if (value & ~(kept | PERFORMANCE_COUNTERS | BTS_PEBS_UNAVAILABLE))
		return HV_MSR_INVALID;
	if (by_user_space)
		mask = kept;
	vcpu->misc_enable = (vcpu->misc_enable & ~mask) | (value & mask);
	hv_monitor_changed(vcpu);
	return HV_MSR_DONE;
}

/* 20.17.3 Time-Stamp Counter Adjustment: a write of either moves both by the same. */
static void move_tsc(struct hv_vcpu *vcpu, u64 by)
{
	vcpu->tsc_offset += by;
	vcpu->tsc_adjust += by;
	vmcs_put(TSC_OFFSET, vcpu->tsc_offset);
	/* 13.5.4.1: the deadline is a value of the counter, wherever that is now. */
	hv_lapic_set_tsc_deadline(vcpu, vcpu->lapic.tsc_deadline);
}

static bool is_pat(u64 value)
{
	u32 i;

	for (i = 0; i < 64; i += 8) {
		u8 type = value >> i;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

/* Volume 1, 13.3: the supervisor components that CPUID reports. */
static bool are_xss_bits(const struct hv_vcpu *vcpu, u64 value)
{
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, 0xd, 1);

	return !(value & ~((u64)entry->edx << 32 | entry->ecx));
}

/* Volume 1, 18: bits 1:0 shadow stacks; 5:2, 10, 11 and the bitmap indirect branch tracking. */
static bool are_cet_bits(const struct hv_vcpu *vcpu, u64 value)
{
	u64 known = 0;

	if (hv_guest_has(vcpu, FEATURE_CET_SS))
		known |= BITS(1, 0);
	if (hv_guest_has(vcpu, FEATURE_CET_IBT))
		known |= BITS(5, 2) | BITS(63, 10);
	return !(value & ~known) && hv_is_canonical(vcpu, value & PAGE_MASK) &&
	       (value & BITS(11, 10)) != BITS(11, 10);
}

static bool may_be(const struct hv_vcpu *vcpu, const struct msr_row *row, u64 value)
{
	switch (row->check) {
	case CANONICAL:
		return hv_is_canonical(vcpu, value);
	case PAT_TYPES:
		return is_pat(value);
	case BITS_OF_MASK:
		return !(value & ~row->mask);
	case READ_ONLY:
		return false;
	case XSS_BITS:
		return are_xss_bits(vcpu, value);
	case CET_BITS:
		return are_cet_bits(vcpu, value);
	case STACK_POINTER:
		return hv_is_canonical(vcpu, value) && !(value & 3);
	default:
		return true;
	}
}

enum hv_msr_result hv_msr_get(struct hv_vcpu *vcpu, u32 index, u64 *value)
{
	const struct msr_row *row = find(vcpu, index);

	if (is_x2apic(index))
		return hv_lapic_msr_read(vcpu, index, value) ? HV_MSR_DONE : HV_MSR_INVALID;
	if (hv_is_mtrr(vcpu, index)) {
		*value = hv_mtrr_get(vcpu, index);
		return HV_MSR_DONE;
	}
	if (!row)
		return HV_MSR_UNKNOWN;
	switch (row->place) {
	case IN_VMCS:
		*value = vmcs_get(row->where);
		break;
	case IN_SWITCHED:
		if (!vcpu->running || is_refused(vcpu, row->where))
			*value = vcpu->msr[row->where];
		else if (rdmsr_safe(index, value) != OUTCOME_DONE)
			return HV_MSR_UNKNOWN;
		break;
	case IN_VCPU:
		*value = *in_vcpu(vcpu, row);
		break;
	case IS_EFER:
		*value = hv_efer(vcpu);
		break;
	case IS_TSC:
		*value = rdtsc() + vcpu->tsc_offset;
		break;
	case IS_TSC_ADJUST:
		*value = vcpu->tsc_adjust;
		break;
	case IS_TSC_DEADLINE:
		*value = hv_lapic_tsc_deadline(vcpu);
		break;
	case IS_APIC_BASE:
		*value = vcpu->apic_base;
		break;
	case IS_MISC_ENABLE:
		*value = get_misc_enable(vcpu);
		break;
	case IS_CONSTANT:
		*value = row->where;
		break;
	case IS_COMMAND:
		return HV_MSR_INVALID;
	case OF_HOST:
		return rdmsr_safe(index, value) == OUTCOME_DONE ? HV_MSR_DONE : HV_MSR_UNKNOWN;
	}
	return HV_MSR_DONE;
}

enum hv_msr_result hv_msr_set(struct hv_vcpu *vcpu, u32 index, u64 value, bool by_user_space)
{
	const struct msr_row *row = find(vcpu, index);
	u64 now;

	if (is_x2apic(index))
		return hv_lapic_msr_write(vcpu, index, value) ? HV_MSR_DONE : HV_MSR_INVALID;
	if (hv_is_mtrr(vcpu, index))
		return hv_mtrr_set(vcpu, index, value) ? HV_MSR_DONE : HV_MSR_INVALID;
	if (!row)
		return HV_MSR_UNKNOWN;
	/* Nobody can change it; but a list that was read can be written. */
	if (row->check == READ_ONLY && by_user_space)
		return hv_msr_get(vcpu, index, &now) == HV_MSR_DONE && value == now ?
		       HV_MSR_DONE : HV_MSR_INVALID;
	if (!may_be(vcpu, row, value))
		return HV_MSR_INVALID;
	switch (row->place) {
	case IN_VMCS:
		vmcs_put(row->where, value);
		break;
	case IN_SWITCHED:
		if (!vcpu->running)
			vcpu->msr[row->where] = value;
		else if (wrmsr_safe(index, value) != OUTCOME_DONE)
			return HV_MSR_INVALID;
		else
			vcpu->msrs_refused &= ~BIT(row->where);
		break;
	case IN_VCPU:
		*in_vcpu(vcpu, row) = value;
		break;
	case IS_EFER:
		return set_efer(vcpu, value, by_user_space);
	case IS_MISC_ENABLE:
		return set_misc_enable(vcpu, value, by_user_space);
	case IS_TSC:
		move_tsc(vcpu, value - rdtsc() - vcpu->tsc_offset);
		break;
	case IS_TSC_ADJUST:
		move_tsc(vcpu, value - vcpu->tsc_adjust);
		break;
	case IS_TSC_DEADLINE:
		hv_lapic_set_tsc_deadline(vcpu, value);
		break;
	case IS_CONSTANT:
		break;
	case IS_COMMAND:
		if (value && wrmsr_safe(index, value) != OUTCOME_DONE)
			return HV_MSR_INVALID;
		break;
	case OF_HOST:
		return HV_MSR_INVALID;
	case IS_APIC_BASE:
		if (!hv_lapic_set_base(vcpu, value, by_user_space))
			return HV_MSR_INVALID;
		break;
	}
	return HV_MSR_DONE;
}

/* --- exits ------------------------------------------------------------------------- */

static u64 edx_eax(const struct hv_vcpu *vcpu)
{
	return (vcpu->state.regs.rdx & BITS(31, 0)) << 32 | (vcpu->state.regs.rax & BITS(31, 0));
}

static void finish_read(struct hv_vcpu *vcpu, u64 value)
{
	vcpu->state.regs.rax = value & BITS(31, 0);
	vcpu->state.regs.rdx = value >> 32;
	hv_skip_exiting(vcpu);
}

static int complete_read(struct hv_vcpu *vcpu)
{
	if (vcpu->run->msr.error)
		hv_inject(vcpu, HV_FAULT_GP);
	else
		finish_read(vcpu, vcpu->run->msr.data);
	return 0;
}

static int complete_write(struct hv_vcpu *vcpu)
{
	if (vcpu->run->msr.error)
		hv_inject(vcpu, HV_FAULT_GP);
	else
		hv_skip_exiting(vcpu);
	return 0;
}

/* An access that the core refuses: user space's, where it has asked for such, else #GP(0). */
static enum hv_next refused(struct hv_vcpu *vcpu, u32 exit, enum hv_msr_result result, u64 data,
			    int (*complete)(struct hv_vcpu *vcpu))
{
	struct kvm_run *run = vcpu->run;
	u32 reason = result == HV_MSR_UNKNOWN ? KVM_MSR_EXIT_REASON_UNKNOWN :
		     KVM_MSR_EXIT_REASON_INVAL;

	if (!(vcpu->vm->user_space_msr & reason)) {
		hv_inject(vcpu, HV_FAULT_GP);
		return HV_GUEST;
	}
	run->msr.error = 0;
	run->msr.reason = reason;
	run->msr.index = vcpu->state.regs.rcx;
	run->msr.data = data;
	return hv_user(vcpu, exit, complete);
}

enum hv_next hv_exit_rdmsr(struct hv_vcpu *vcpu)
{
	u64 value = 0;
	enum hv_msr_result result = hv_msr_get(vcpu, vcpu->state.regs.rcx, &value);

	if (result != HV_MSR_DONE)
		return refused(vcpu, KVM_EXIT_X86_RDMSR, result, 0, complete_read);
	finish_read(vcpu, value);
	return HV_GUEST;
}

enum hv_next hv_exit_wrmsr(struct hv_vcpu *vcpu)
{
	enum hv_msr_result result = hv_msr_set(vcpu, vcpu->state.regs.rcx, edx_eax(vcpu), false);

	if (result != HV_MSR_DONE)
		return refused(vcpu, KVM_EXIT_X86_WRMSR, result, edx_eax(vcpu), complete_write);
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}

/* --- for user space ------------------------------------------------------------------ */

int hv_vcpu_get_msrs(struct hv_vcpu *vcpu, struct kvm_msrs *msrs)
{
	u64 value;
	u32 i;

	if (msrs->nmsrs >= HV_MAX_MSRS)
		return -E2BIG;
	hv_load(vcpu);
	for (i = 0; i < msrs->nmsrs; i++) {
		if (hv_msr_get(vcpu, msrs->entries[i].index, &value) != HV_MSR_DONE)
			break;
		msrs->entries[i].data = value;
	}
	return i;
}

int hv_vcpu_set_msrs(struct hv_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	u32 i;

	if (msrs->nmsrs >= HV_MAX_MSRS)
		return -E2BIG;
	hv_load(vcpu);
	for (i = 0; i < msrs->nmsrs; i++)
		if (hv_msr_set(vcpu, msrs->entries[i].index, msrs->entries[i].data, true) !=
		    HV_MSR_DONE)
			break;
	return i;
}
