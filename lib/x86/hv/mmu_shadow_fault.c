/*
 * Shadow paging: page faults. Every page fault of the guest exits. The model (mmu/walk.h) says
 * whether it is the guest's own, from the guest's registers and tables; if not, the access gets
 * entries that allow it.
 *
 * The processor runs the guest with its own CR4.SMEP, SMAP, PKE and PKS, and entries with the
 * rights that the guest's have together: so it refuses whatever the guest's own paging refuses,
 * with two exceptions. CR0.WP is always 1, or a supervisor would write to what the core guards;
 * where the guest has it 0 and that matters, the one instruction gets an entry of its own. And a
 * dirty flag that is 0 takes the right to write until it is 1.
 */
#include "hv/mmu_shadow.h"
#include "vmx/guest.h"

/*
 * 5.7 Page-Fault Exceptions: without SMEP and outside of modes with NXE, the error code does not
 * say whether it was a fetch. It matters for SMAP, and is guessed from the address.
 */
static enum access kind_of(const struct hv_vcpu *vcpu, u64 linear, u64 error)
{
	if (error & PF_WR)
		return ACCESS_WRITE;
	if (error & PF_ID)
		return ACCESS_FETCH;
	if (hv_cr4() & CR4_PAE || hv_cr4() & CR4_SMEP || !(hv_cr0() & CR0_PG))
		return ACCESS_READ;
	return hv_is_on_instruction(vcpu, linear) ? ACCESS_FETCH : ACCESS_READ;
}

/* 5.10.4.1: the page fault also invalidates what is cached of the address. */
static enum hv_mmu_fault inject(struct hv_vcpu *vcpu, u64 linear, const struct walk_result *result)
{
	shadow_forget(vcpu, vcpu->mmu_data, linear);
	hv_inject(vcpu, (struct hv_fault){ .vector = VECTOR_PF, .has_error = true,
					   .error = result->error_code, .cr2 = linear });
	return HV_MMU_AGAIN;
}

/*
 * The access was refused although all entries are as they should be. Then it is one that the error
 * code does not tell from an explicit access, or from a fetch: 5.6.1.
 */
static enum hv_mmu_fault refused_anyway(struct hv_vcpu *vcpu, struct shadow_vcpu *own,
					const struct walk_cpu *cpu, struct walk_access access)
{
	u64 rip = vmcs_get(GUEST_RIP);
	struct walk_result result;

	if (access.kind == ACCESS_FETCH)
		access.kind = ACCESS_READ;
	access.implicit = cpu->cpl < 3;
	result = walk(cpu, &access, hv_walk_read, vcpu);
	if (result.kind == WALK_PAGE_FAULT)
		return inject(vcpu, access.address, &result);
	/*
	 * The processor has used what it had cached, and no longer does: shadow_settle(). Unless it
	 * disagrees with the model; then there are no other exits in between but those of timers.
	 */
	shadow_of(vcpu->vm)->stale = true;
	if (own->refused_rip != rip || own->refused_at != access.address ||
	    vcpu->exits - own->refused_exit > SHADOW_MAX_REFUSALS)
		own->refusals = 0;
	own->refused_rip = rip;
	own->refused_at = access.address;
	own->refused_exit = vcpu->exits;
	return own->refusals++ < SHADOW_MAX_REFUSALS ? HV_MMU_AGAIN : HV_MMU_REFUSED;
}

/* Whether the processor, with CR0.WP = 1, refuses what the guest's CR0.WP = 0 allows. */
static bool needs_write_protect_off(struct hv_vcpu *vcpu, const struct walk_cpu *cpu,
				    const struct walk_access *access)
{
	struct walk_cpu real = *cpu;

	if (cpu->cr0 & CR0_WP || !(cpu->cr0 & CR0_PG) || access->kind != ACCESS_WRITE)
		return false;
	real.cr0 |= CR0_WP;
	return walk(&real, access, hv_walk_read, vcpu).kind != WALK_DONE;
}

/*
 * Whether the processor itself writes, to set the accessed flag of a segment descriptor that it
 * loads (volume 3A, 3.4.5.1): then the flag is set here, and the processor has nothing to write.
 */
static bool set_accessed_flag(struct hv_vcpu *vcpu, u64 linear, u64 physical)
{
	const struct {
		u64 base, limit;
	} tables[] = {
		{ vmcs_get(GUEST_GDTR_BASE), vmcs_get(GUEST_GDTR_LIMIT) },
		{ vmcs_get(GUEST_LDTR_BASE), vmcs_get(GUEST_LDTR_LIMIT) },
	};
	u32 i, count = vmcs_get(GUEST_LDTR_ACCESS_RIGHTS) & RIGHTS_UNUSABLE ? 1 : 2;
	u64 offset, type;
	u8 *rights;

	for (i = 0; i < count; i++) {
		offset = linear - tables[i].base;
		type = tables[i].base + (offset & ~7ull) + 5;
		if (offset > tables[i].limit || (type ^ linear) & PAGE_MASK)
			continue;
		rights = hv_memory(vcpu->vm, physical + (type - linear), 1, true);
		/* P = 1, S = 1, and not accessed. */
		if (rights && (*rights & 0x91) == 0x90) {
			__atomic_or_fetch(rights, 1, __ATOMIC_SEQ_CST);
			return true;
		}
	}
	return false;
}

/*
 * One instruction writes to a page that is read-only. The emulator does it, if it knows the
 * instruction; else the processor, with the monitor trap flag (28.5.2) to end it.
 */
static enum hv_mmu_fault write_once(struct hv_vcpu *vcpu, struct shadow_vcpu *own, u64 linear,
				    u64 physical)
{
	struct hv_instruction instruction;

	if (!vcpu->event.id && hv_decode(vcpu, &instruction))
		return HV_MMU_DEVICE;
	if (set_accessed_flag(vcpu, linear, physical))
		return HV_MMU_AGAIN;
	return shadow_step(vcpu, own, linear) ? HV_MMU_AGAIN : HV_MMU_DEVICE;
}

static enum hv_mmu_fault allow(struct hv_vcpu *vcpu, struct shadow_vcpu *own,
			       const struct walk_cpu *cpu, const struct walk_access *access,
			       const struct walk_result *result)
{
	struct hv_slot *slot = hv_slot_at(vcpu->vm, result->physical);
	enum shadow_filled filled;
	bool lift, stand_in;

	if (!slot || (access->kind == ACCESS_WRITE && slot->region.flags & KVM_MEM_READONLY) ||
	    hv_lapic_within(vcpu->vm, result->physical & PAGE_MASK, PAGE_SIZE))
		return access->kind == ACCESS_FETCH ? HV_MMU_DEVICE_CODE : HV_MMU_DEVICE;
	/*
	 * CR3 leads to no memory, whose all ones are entries that allow it; only the core can use
	 * those.
	 */
	if (!own->root)
		return HV_MMU_DEVICE;
	lift = needs_write_protect_off(vcpu, cpu, access);
	stand_in = lift && shadow_can_stand_in(cpu);
	filled = shadow_fill(vcpu, own, access->address, access->kind, cpu, result, slot, stand_in);
	if (filled == SHADOW_NO_ROOM)
		return HV_MMU_DEVICE;
	if (lift && !stand_in)
		return write_once(vcpu, own, access->address, result->physical);
	return filled == SHADOW_SAME ? refused_anyway(vcpu, own, cpu, *access) : HV_MMU_AGAIN;
}

static enum hv_mmu_fault judge(struct hv_vcpu *vcpu, struct shadow_vcpu *own)
{
	u64 error = vmcs_get(EXITING_EVENT_ERROR_CODE);
	struct walk_access access = { .address = vmcs_get(EXIT_QUALIFICATION) };
	struct walk_result result;
	struct walk_cpu cpu;

	access.kind = kind_of(vcpu, access.address, error);
	hv_walk_cpu(vcpu, &cpu);
	/* The privilege of the access, whatever that of the code: 5.6.1. */
	cpu.cpl = error & PF_US ? 3 : 0;
	access.shadow_stack = error & PF_SS;
	do {
		result = walk(&cpu, &access, hv_walk_read, vcpu);
		if (result.kind != WALK_DONE)
			return inject(vcpu, access.address, &result);
	} while (!hv_set_flags(vcpu, &result));
	return allow(vcpu, own, &cpu, &access, &result);
}

enum hv_mmu_fault shadow_fault(struct hv_vcpu *vcpu)
{
	struct shadow_vcpu *own = vcpu->mmu_data;
	enum hv_mmu_fault fault;

	if (own->steps && own->step_rip != vmcs_get(GUEST_RIP))
		shadow_step_over(vcpu);
	if (!own->root)
		shadow_load_root(vcpu, own);
	fault = judge(vcpu, own);
	shadow_settle(vcpu->vm);
	return fault;
}
