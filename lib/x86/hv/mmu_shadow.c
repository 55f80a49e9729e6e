/*
 * Shadow paging as an MMU of the core (hv/mmu.h), for processors without EPT: which tables a vCPU
 * uses, and the registers that go with them.
 *
 * CR0.PE and CR0.PG are always 1, as VMX wants it without "unrestricted guest" (26.8 Restrictions
 * on VMX Operation); a guest without paging has tables that map its memory to itself, and one in
 * real-address mode is in another mode besides (real.h). All page faults, MOV to and from CR3 and
 * INVLPG exit. Memory: what the VM's pool has; what does not fit into it any more is made again
 * when it is needed.
 */
#include "cpu/features.h"
#include "hv/mmu_shadow.h"
#include "mmu/pages.h"
#include "string.h"

#define VPID	1	/* of all vCPUs: each run begins with nothing cached */

static const enum control needed[] = {
	CONTROL_PROC1_CR3_LOAD_EXITING, CONTROL_PROC1_CR3_STORE_EXITING,
	CONTROL_PROC1_INVLPG_EXITING,
};

static const u32 top_level[PAGING_MODES] = {
	[PAGING_OFF] = 2, [PAGING_32_BIT] = 2, [PAGING_PAE] = 3, [PAGING_4_LEVEL] = 4,
	[PAGING_5_LEVEL] = 5,
};

/* What a paging-structure entry can hold: the processor never sees the guest's addresses. */
static u32 gpa_bits(void)
{
	return 52;
}

static bool supported(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(needed); i++)
		if (!control_allowed(needed[i]))
			return false;
	return true;
}

static int create(struct hv_vm *vm)
{
	int result = shadow_create(vm);

	if (!result)
		shadow_of(vm)->uses_vpids = control_allowed(CONTROL_PROC2_ENABLE_VPID) &&
			need_ept_vpid_cap(VPID_CAP_INVVPID | VPID_CAP_INVVPID_ALL);
	return result;
}

/*
 * What the processor has cached of the tables goes before their pages are used for something else.
 */
static void destroy(struct hv_vm *vm)
{
	if (!vm->mmu_data)
		return;
	shadow_free_all(vm);
	shadow_of(vm)->stale = true;
	shadow_settle(vm);
	shadow_destroy(vm);
}

static int create_vcpu(struct hv_vcpu *vcpu)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct shadow_vcpu *own = &shadow->vcpus[shadow->vcpu_count];
	u32 i;

	if (shadow->vcpu_count == SHADOW_MAX_VCPUS)
		return -ENOMEM;
	*own = (struct shadow_vcpu){ .vcpu = vcpu, .nothing = hv_pool_take(&vcpu->vm->pool) };
	if (!own->nothing)
		return -ENOMEM;
	shadow->vcpu_count++;
	vcpu->mmu_data = own;
	for (i = 0; i < ARRAY_SIZE(needed); i++)
		vmcs_set_control(needed[i]);
	vmcs_put(EXCEPTION_BITMAP, vmcs_get(EXCEPTION_BITMAP) | BIT(VECTOR_PF));
	vmcs_put(GUEST_CR3, physical(own->nothing));
	if (shadow->uses_vpids) {
		vmcs_set_control(CONTROL_PROC2_ENABLE_VPID);
		vmcs_put(VIRTUAL_PROCESSOR_IDENTIFIER, VPID);
	}
	return 0;
}

/* A right that one instruction was lent is not for the other vCPUs. */
static void take_back(struct hv_vcpu *vcpu)
{
	if (((struct shadow_vcpu *)vcpu->mmu_data)->steps)
		shadow_step_over(vcpu);
}

/* The last one takes its place. */
static void destroy_vcpu(struct hv_vcpu *vcpu)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct shadow_vcpu *own = vcpu->mmu_data, *last = &shadow->vcpus[shadow->vcpu_count - 1];

	take_back(vcpu);
	if (own->root)
		shadow_at(shadow, own->root)->roots--;
	hv_pool_give(&vcpu->vm->pool, own->nothing);
	*own = *last;
	own->vcpu->mmu_data = own;
	shadow->vcpu_count--;
}

/* --- roots -------------------------------------------------------------------------------- */

/* Leaves the VMCS current that was. */
static void forget_root(struct shadow_vcpu *own)
{
	u64 current = ~0ull;

	own->root = 0;
	vmptrst(&current);
	hv_load(own->vcpu);
	vmcs_put(GUEST_CR3, physical(own->nothing));
	if (current != ~0ull)
		vmptrld(current);
}

void shadow_drop_root(struct shadow *shadow, u32 number)
{
	u32 i;

	for (i = 0; i < shadow->vcpu_count; i++)
		if (shadow->vcpus[i].root == number)
			forget_root(&shadow->vcpus[i]);
	shadow_at(shadow, number)->roots = 0;
}

/* The page directories of PAE paging that have a shadow already: 5.4.1 PDPTE Registers. */
static void link_directories(struct hv_vcpu *vcpu, struct shadow_role role, u32 root)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct shadow_table *table = shadow_at(shadow, root);
	u32 i, child;

	role.level = LEVEL_PDE;
	role.direct = false;
	for (i = 0; i < 4; i++) {
		u64 pdpte = hv_pdpte(vcpu, i);
		u8 *memory = pdpte & PTE_P ? hv_memory(vcpu->vm, pdpte & PTE_ADDRESS, 8, false) :
			     NULL;

		role.frame = (u64)memory / PAGE_SIZE;
		child = memory ? shadow_find(shadow, shadow_key_of(&role)) : 0;
		if (shadow_child(table, i) == child)
			continue;
		shadow_set(vcpu->vm, root, i,
			   child ? physical(shadow_at(shadow, child)->entries) | PTE_P : 0, child);
	}
}

/* The role of the table that the guest's CR3 refers to; false where that is no memory. */
static bool root_role(struct hv_vcpu *vcpu, const struct shadow_vcpu *own,
		      struct shadow_role *role)
{
	struct walk_cpu cpu;
	u8 *memory;

	hv_walk_cpu(vcpu, &cpu);
	*role = (struct shadow_role){
		.mode = walk_mode(&cpu), .user = true, .writable = true, .executable = true,
		.pse = cpu.cr4 & CR4_PSE, .nxe = cpu.efer & EFER_NXE,
		.write_protect_off = shadow_can_stand_in(&cpu),
	};
	role->level = top_level[role->mode];
	role->direct = role->mode == PAGING_OFF || role->mode == PAGING_PAE;
	if (role->mode == PAGING_PAE)
		role->frame = physical(own->nothing) / PAGE_SIZE;
	if (role->direct)
		return true;
	memory = hv_memory(vcpu->vm, cpu.cr3 & (role->mode == PAGING_32_BIT ? BITS(31, 12) :
					       BITS(51, 12)), 8, false);
	role->frame = (u64)memory / PAGE_SIZE;
	return memory;
}

static u32 root_for(struct hv_vcpu *vcpu, const struct shadow_vcpu *own)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	struct shadow_role role;
	u32 number;

	if (!root_role(vcpu, own, &role))
		return 0;
	number = shadow_find(shadow, shadow_key_of(&role));
	if (!number)
		number = shadow_make(vcpu->vm, shadow_key_of(&role));
	if (number && role.mode == PAGING_PAE)
		link_directories(vcpu, role, number);
	return number;
}

void shadow_load_root(struct hv_vcpu *vcpu, struct shadow_vcpu *own)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	u32 before = own->root, root = root_for(vcpu, own);

	/* Making room may have taken the one before. */
	if (own->root && own->root == before)
		shadow_at(shadow, before)->roots--;
	own->root = root;
	if (root) {
		shadow_at(shadow, root)->roots++;
		shadow_touch(shadow, root);
	}
	vmcs_put(GUEST_CR3, physical(root ? shadow_at(shadow, root)->entries : own->nothing));
	/* 31.4.3.1: with VPIDs a VM entry with another CR3 invalidates nothing. */
	shadow->stale = true;
}

/* --- the guest's registers -------------------------------------------------------------------- */

/*
 * Bits of CR4 that would change what the tables of a guest without paging mean: 32-bit ones, of
 * pages for everybody, without keys.
 */
#define CR4_OF_PAGING	(CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_SMEP | CR4_SMAP)

static void set_registers(struct hv_vcpu *vcpu)
{
	u64 cr4 = hv_cr4() & ~(u64)CR4_PCIDE, efer = hv_efer(vcpu);

	/* Where the monitor trap flag does not exit, a step has not ended yet. */
	take_back(vcpu);
	if (!(hv_cr0() & CR0_PG))
		cr4 &= ~(u64)CR4_OF_PAGING;
	vmcs_put(GUEST_CR4, cr4 | capabilities()->cr4_fixed0);
	/* 29.3.1.1: with CR0.PG = 1, LMA and LME are the same. */
	if (!(efer & EFER_LMA))
		efer &= ~(u64)EFER_LME;
	/* So that error codes tell fetches from reads: 5.7. */
	if (CPUID_BIT(0x80000001, 0, edx, 20))
		efer |= EFER_NXE;
	vmcs_put(GUEST_IA32_EFER, efer);
}

static void registers(struct hv_vcpu *vcpu)
{
	shadow_catch_up(vcpu->vm);
	set_registers(vcpu);
	shadow_load_root(vcpu, vcpu->mmu_data);
	shadow_settle(vcpu->vm);
}

static void invalidate(struct hv_vcpu *vcpu, u64 linear __maybe_unused)
{
	/* It also invalidates what is cached of the tables above, for all addresses: 5.10.4.1. */
	shadow_catch_up(vcpu->vm);
	shadow_settle(vcpu->vm);
}

/*
 * 5.4.2, 5.5.4: MAXPHYADDR and the like decide which bits are reserved, and CPUID may tell each
 * vCPU otherwise. No role tells apart what the same table of the guest comes to then.
 */
static void follow_widths(struct hv_vcpu *vcpu)
{
	struct shadow *shadow = shadow_of(vcpu->vm);
	u32 number, older;

	if (!memcmp(&shadow->widths, &vcpu->widths, sizeof(shadow->widths)))
		return;
	for (number = shadow->newest; number; number = older) {
		older = shadow_at(shadow, number)->older;
		if (!(shadow_at(shadow, number)->key & SHADOW_KEY_DIRECT))
			shadow_free(vcpu->vm, number);
	}
	shadow->widths = vcpu->widths;
}

static void resumed(struct hv_vcpu *vcpu)
{
	struct shadow *shadow = shadow_of(vcpu->vm);

	follow_widths(vcpu);
	shadow->written_unseen = true;
	shadow->stale = true;
	shadow_settle(vcpu->vm);
}

/* --- slots ------------------------------------------------------------------------------------ */

static void written(struct hv_vm *vm, u64 gpa, u32 size __maybe_unused)
{
	const u8 *memory = hv_memory(vm, gpa, 1, false);

	if (memory)
		shadow_fall_behind(shadow_of(vm), (u64)memory / PAGE_SIZE);
}

static void zap(struct hv_vm *vm, u64 gpa, u64 size, bool write_only)
{
	u64 end = gpa + size;

	/* Tables may be there as well as pages. */
	if (!write_only)
		shadow_free_all(vm);
	for (; write_only && gpa < end; gpa += PAGE_SIZE) {
		const u8 *memory = hv_memory(vm, gpa, 1, false);

		if (memory)
			shadow_guard(vm, (u64)memory / PAGE_SIZE);
	}
}

const struct hv_mmu hv_mmu_shadow = {
	.name = "shadow paging",
	.min_pages = SHADOW_MIN_PAGES,
	.owns_cr3 = true,
	.cr0_owned = CR0_WP,
	.cr0_always = CR0_PE | CR0_PG | CR0_WP,
	.gpa_bits = gpa_bits,
	.supported = supported,
	.create = create,
	.destroy = destroy,
	.create_vcpu = create_vcpu,
	.destroy_vcpu = destroy_vcpu,
	.fault = shadow_fault,
	.registers = registers,
	.invlpg = invalidate,
	.resumed = resumed,
	.drain = take_back,
	.stepped = shadow_step_over,
	.written = written,
	.zap = zap,
	.flush = shadow_settle,
	.reclaim = shadow_free_all,
};
