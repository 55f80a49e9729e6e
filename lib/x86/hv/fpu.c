/*
 * The registers of FPU, SSE and XSAVE. The core itself uses none of them, so they stay in the
 * processor when a vCPU stops, until another one runs, of this VM or any other, or user space asks
 * for them.
 */
#include "cpu/safe.h"
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

#define LEGACY_AND_HEADER	576	/* bytes: legacy region 512, header 64 */
#define X87_CONTROL		0x37f	/* Table 11-1, after FNINIT */
#define MXCSR_DEFAULT		0x1f80
#define PKRU_COMPONENT		9

static bool has_xsave(void)
{
	return CPUID_BIT(1, 0, ecx, 26);
}

/* What this processor has of the components that the core knows. */
static u64 all_components(void)
{
	return cpuid_count(0xd, 0).eax & HV_XCR0_KNOWN;
}

static u64 xgetbv(void)
{
	u32 low, high;

	asm volatile("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
	return (u64)high << 32 | low;
}

static void xsetbv(u64 value)
{
	asm volatile("xsetbv" : : "a" ((u32)value), "d" ((u32)(value >> 32)), "c" (0));
}

/* Saves and loads all components, whichever of them the guest has enabled. */
static void save(struct hv_vcpu *vcpu)
{
	if (!has_xsave()) {
		asm volatile("fxsave64 (%0)" : : "r" (vcpu->fpu) : "memory");
		return;
	}
	xsetbv(all_components());
	asm volatile("xsave64 (%0)" : : "r" (vcpu->fpu), "a" (~0u), "d" (~0u) : "memory");
}

static void load(struct hv_vcpu *vcpu)
{
	if (!has_xsave()) {
		asm volatile("fxrstor64 (%0)" : : "r" (vcpu->fpu) : "memory");
		return;
	}
	xsetbv(all_components());
	asm volatile("xrstor64 (%0)" : : "r" (vcpu->fpu), "a" (~0u), "d" (~0u) : "memory");
}

/* Whose values are in the registers; NULL: no vCPU's. */
static struct hv_vcpu *owner(void)
{
	return this_cpu()->fpu_owner;
}

static void set_owner(struct hv_vcpu *vcpu)
{
	this_cpu()->fpu_owner = vcpu;
}

void hv_fpu_start(void)
{
	set_owner(NULL);
}

void hv_fpu_forget(struct hv_vcpu *vcpu)
{
	if (owner() == vcpu)
		set_owner(NULL);
}

u64 hv_fpu_load(struct hv_vcpu *vcpu)
{
	u64 host_xcr0 = has_xsave() ? xgetbv() : 0;

	if (owner() != vcpu) {
		if (owner())
			save(owner());
		load(vcpu);
		set_owner(vcpu);
	}
	if (has_xsave() && xgetbv() != vcpu->xcr0)
		xsetbv(vcpu->xcr0);
	return host_xcr0;
}

void hv_fpu_leave(u64 host_xcr0)
{
	if (host_xcr0 && xgetbv() != host_xcr0)
		xsetbv(host_xcr0);
}

void hv_fpu_reset(struct hv_vcpu *vcpu)
{
	const u16 control = X87_CONTROL;
	const u32 mxcsr = MXCSR_DEFAULT;

	memset(vcpu->fpu, 0, HV_XSAVE_SIZE);
	memcpy(vcpu->fpu, &control, sizeof(control));
	memcpy(vcpu->fpu + 24, &mxcsr, sizeof(mxcsr));
	vcpu->xcr0 = 1;
	hv_fpu_forget(vcpu);
}

/* RDPKRU wants CR4.PKE; the rights of the guest may not stop the core from using its stack. */
static u32 read_pkru(void)
{
	u64 cr4 = read_cr4(), on = cr4 | CR4_PKE;
	u32 pkru, edx;

	asm volatile("mov %[on], %%cr4\n\t"
		     ".byte 0x0f, 0x01, 0xee\n\t"	/* RDPKRU */
		     "mov %[cr4], %%cr4"
		     : "=&a" (pkru), "=&d" (edx) : [on] "r" (on), [cr4] "r" (cr4), "c" (0));
	return pkru;
}

u32 hv_pkru(const struct hv_vcpu *vcpu)
{
	u32 pkru = 0, offset = cpuid_count(0xd, PKRU_COMPONENT).ebx;
	u64 in_use;

	if (owner() == vcpu)
		return read_pkru();
	/*
	 * Volume 1, 13.4.2 XSAVE Header: a component that is not in XSTATE_BV is in its initial
	 * state.
	 */
	memcpy(&in_use, vcpu->fpu + 512, sizeof(in_use));
	if (in_use >> PKRU_COMPONENT & 1 && offset && offset <= HV_XSAVE_SIZE - sizeof(pkru))
		memcpy(&pkru, vcpu->fpu + offset, sizeof(pkru));
	return pkru;
}

/* --- for user space: struct kvm_fpu, and Table 10-2 of volume 1, Format of an FXSAVE Area ----- */

enum { AT_FCW = 0, AT_FSW = 2, AT_FTW = 4, AT_FOP = 6, AT_FIP = 8, AT_FDP = 16, AT_ST = 32,
       AT_XMM = 160, AT_XSTATE_BV = 512 };

/* The registers are in memory, and will be loaded from there. */
static void take_out(struct hv_vcpu *vcpu)
{
	if (owner() != vcpu)
		return;
	save(vcpu);
	set_owner(NULL);
}

int hv_vcpu_get_fpu(struct hv_vcpu *vcpu, struct kvm_fpu *fpu)
{
	const u8 *area = vcpu->fpu;

	take_out(vcpu);
	memset(fpu, 0, sizeof(*fpu));
	memcpy(&fpu->fcw, area + AT_FCW, sizeof(fpu->fcw));
	memcpy(&fpu->fsw, area + AT_FSW, sizeof(fpu->fsw));
	fpu->ftwx = area[AT_FTW];
	memcpy(&fpu->last_opcode, area + AT_FOP, sizeof(fpu->last_opcode));
	memcpy(&fpu->last_ip, area + AT_FIP, sizeof(fpu->last_ip));
	memcpy(&fpu->last_dp, area + AT_FDP, sizeof(fpu->last_dp));
	memcpy(fpu->fpr, area + AT_ST, sizeof(fpu->fpr));
	memcpy(fpu->xmm, area + AT_XMM, sizeof(fpu->xmm));
	return 0;
}

int hv_vcpu_set_fpu(struct hv_vcpu *vcpu, const struct kvm_fpu *fpu)
{
	u8 *area = vcpu->fpu;

	take_out(vcpu);
	memcpy(area + AT_FCW, &fpu->fcw, sizeof(fpu->fcw));
	memcpy(area + AT_FSW, &fpu->fsw, sizeof(fpu->fsw));
	area[AT_FTW] = fpu->ftwx;
	memcpy(area + AT_FOP, &fpu->last_opcode, sizeof(fpu->last_opcode));
	memcpy(area + AT_FIP, &fpu->last_ip, sizeof(fpu->last_ip));
	memcpy(area + AT_FDP, &fpu->last_dp, sizeof(fpu->last_dp));
	memcpy(area + AT_ST, fpu->fpr, sizeof(fpu->fpr));
	memcpy(area + AT_XMM, fpu->xmm, sizeof(fpu->xmm));
	/* XRSTOR takes x87 and SSE from the area, not their initial values. */
	if (has_xsave())
		area[AT_XSTATE_BV] |= 3;
	return 0;
}

/* --- sizes ---------------------------------------------------------------------------- */

static u32 size_of(const struct hv_vcpu *vcpu, u64 components, bool compacted)
{
	u32 size = LEGACY_AND_HEADER, i;

	for (i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *entry;

		if (!(components >> i & 1))
			continue;
		entry = hv_cpuid_entry(vcpu, 0xd, i);
		if (!entry)
			continue;
		/* ECX[1]: in the compacted format it begins at a multiple of 64. */
		if (compacted && entry->ecx & BIT(1))
			size = (size + 63) & ~63u;
		if (compacted)
			size += entry->eax;
		else if (size < entry->ebx + entry->eax)
			size = entry->ebx + entry->eax;
	}
	return size;
}

/* CPUID asks for it, and it seldom changes. */
u32 hv_xsave_size(struct hv_vcpu *vcpu, enum hv_xsave_area area, u64 components)
{
	struct hv_xsave_size *known = &vcpu->xsave_size[area];

	if (known->components != components)
		*known = (struct hv_xsave_size){
			components, size_of(vcpu, components, area == HV_XSAVE_COMPACTED) };
	return known->bytes;
}

void hv_xsave_sizes_changed(struct hv_vcpu *vcpu)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(vcpu->xsave_size); i++)
		vcpu->xsave_size[i] = (struct hv_xsave_size){ 0, LEGACY_AND_HEADER };
}

/* Volume 1, 13.3 Enabling the XSAVE Feature Set and XSAVE-Enabled Features. */
static bool is_xcr0(const struct hv_vcpu *vcpu, u64 value)
{
	const struct kvm_cpuid_entry2 *entry = hv_cpuid_entry(vcpu, 0xd, 0);
	const u64 avx512 = BITS(7, 5);

	if (!entry || value & ~((u64)entry->edx << 32 | entry->eax) || !(value & 1))
		return false;
	/* User space may have promised what this processor, or the core, does not have. */
	if (value & ~all_components())
		return false;
	if ((value & BIT(2) && !(value & BIT(1))) || !(value & BIT(3)) != !(value & BIT(4)))
		return false;
	return !(value & avx512) || ((value & avx512) == avx512 && value & BIT(2));
}

enum hv_next hv_exit_xsetbv(struct hv_vcpu *vcpu)
{
	const struct general_registers *regs = &vcpu->state.regs;
	u64 value = (regs->rdx & BITS(31, 0)) << 32 | (regs->rax & BITS(31, 0));

	/* Some processors exit before they look at the privilege level. */
	if ((u32)regs->rcx || hv_cpl() || !is_xcr0(vcpu, value)) {
		hv_inject(vcpu, HV_FAULT_GP);
		return HV_GUEST;
	}
	vcpu->xcr0 = value;
	xsetbv(value);
	hv_skip_exiting(vcpu);
	return HV_GUEST;
}
