/*
 * Guest memory by EPT: entries are made when the guest first uses a page, from the slot it lies in,
 * and taken back when the slot changes. All tables may be thrown away at any time.
 *
 * Dirty logging is done by write protection: a page is mapped without the right to write until it
 * has been noted. Or by page-modification logging (31.3.6): the dirty flag of a page is 0 until the
 * processor has noted it, in a page that each vCPU has for that; pages of slots without a log have
 * theirs from the start, so that they take no room there.
 */
#include "ept/ept.h"
#include "hv/internal.h"
#include "mmu/pages.h"

#define ENTRIES		512
#define GPA_BITS	48		/* of a 4-level walk */
#define GPA_END		BIT(GPA_BITS)
#define PML_ENTRIES	512
#define PML_FIRST	(PML_ENTRIES - 1)	/* the index counts down */

/*
 * Of a VM, of any kind: the processor decides which it becomes. Five of them are without
 * "unrestricted guest" there for as long as the VM is.
 */
#define MIN_PAGES	20

enum { INVEPT_SINGLE_CONTEXT = 1, INVEPT_ALL_CONTEXT = 2 };

static u64 *entry_in(u64 *table, u64 gpa, enum paging_level level)
{
	return &table[gpa / level_size(level) % ENTRIES];
}

static bool is_page(u64 entry, enum paging_level level)
{
	return level == LEVEL_PTE || entry & EPT_PAGE;
}

static u64 *table_of(u64 entry)
{
	return (u64 *)(entry & EPT_ADDRESS);
}

static void flush(struct hv_vm *vm)
{
	bool single = capabilities()->ept_vpid_cap & EPT_CAP_INVEPT_SINGLE;

	invept(single ? INVEPT_SINGLE_CONTEXT : INVEPT_ALL_CONTEXT,
	       (struct invept_descriptor){ .eptp = single ? vm->ept.pointer : 0 });
}

/* 31.3.2: an address beyond MAXPHYADDR never gets as far as the EPT. */
static u32 gpa_bits(void)
{
	return maxphyaddr() < GPA_BITS ? maxphyaddr() : GPA_BITS;
}

static bool supported(void)
{
	return control_allowed(CONTROL_PROC2_ENABLE_EPT) &&
	       need_ept_vpid_cap(EPT_CAP_WALK_4 | EPT_CAP_INVEPT);
}

/* Without "unrestricted guest" there is another MMU for what is the same otherwise. */
static bool is_restricted(const struct hv_vm *vm)
{
	return vm->mmu->cr0_always;
}

static int take_root(struct hv_vm *vm)
{
	u64 type = capabilities()->ept_vpid_cap & EPT_CAP_WB ? EPT_WB : EPT_UC;

	vm->ept.root = hv_pool_take(&vm->pool);
	if (!vm->ept.root)
		return -ENOMEM;
	vm->ept.pointer = physical(vm->ept.root) | EPTP_MEMORY_TYPE(type) | EPTP_WALK_LENGTH(4);
	/* The page may have been the root of a VM that is gone. */
	flush(vm);
	return 0;
}

/* The page directories for guests without paging: see the end of this file. */
static int create_restricted(struct hv_vm *vm)
{
	u32 i, j;

	vm->mmu = &hv_mmu_ept_restricted;
	vm->vcpu_pages = 0;
	vm->ept.pml = false;
	for (i = 0; i < ARRAY_SIZE(vm->ept.identity); i++) {
		u64 *directory = vm->ept.identity[i] = hv_pool_take(&vm->pool);

		if (!directory)
			return -ENOMEM;
		for (j = 0; j < ENTRIES; j++)
			directory[j] = (u64)(i * ENTRIES + j) * level_size(LEVEL_PDE) | PTE_P |
				       PTE_RW | PTE_US | PTE_A | PTE_D | PTE_PS;
	}
	return take_root(vm);
}

static int create_write_protect(struct hv_vm *vm)
{
	return control_allowed(CONTROL_PROC2_UNRESTRICTED_GUEST) ? take_root(vm) :
								    create_restricted(vm);
}

static int create(struct hv_vm *vm)
{
	vm->ept.pml = control_allowed(CONTROL_PROC2_ENABLE_PML) && need_ept_vpid_cap(EPT_CAP_AD);
	vm->vcpu_pages = vm->ept.pml;
	return create_write_protect(vm);
}

static int create_vcpu(struct hv_vcpu *vcpu)
{
	u32 i;

	vmcs_set_control(CONTROL_PROC2_ENABLE_EPT);
	if (is_restricted(vcpu->vm))
		vmcs_set_control(CONTROL_PROC1_CR3_LOAD_EXITING);
	else
		vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_put(EPT_POINTER, vcpu->vm->ept.pointer);
	for (i = 0; i < 4; i++)
		vmcs_put(GUEST_PDPTE0 + 2 * i, 0);
	if (!vcpu->vm->ept.pml)
		return 0;
	vcpu->mmu_data = hv_pool_take(&vcpu->vm->pool);
	if (!vcpu->mmu_data)
		return -ENOMEM;
	vmcs_put(PML_ADDRESS, physical(vcpu->mmu_data));
	return 0;
}

/* Gives back the tables below `table`. */
static void free_tables(struct hv_vm *vm, u64 *table, enum paging_level level)
{
	u32 i;

	for (i = 0; i < ENTRIES; i++) {
		if (!table[i])
			continue;
		if (!is_page(table[i], level)) {
			free_tables(vm, table_of(table[i]), level - 1);
			hv_pool_give(&vm->pool, table_of(table[i]));
		}
		table[i] = 0;
	}
}

static void forget_all(struct hv_vm *vm)
{
	free_tables(vm, vm->ept.root, LEVEL_PML4E);
	flush(vm);
}

/* 31.4.3.4: what is cached of the tables goes before their pages are used for something else. */
static void destroy(struct hv_vm *vm)
{
	u32 i;

	if (vm->ept.root) {
		forget_all(vm);
		hv_pool_give(&vm->pool, vm->ept.root);
	}
	for (i = 0; i < ARRAY_SIZE(vm->ept.identity); i++)
		if (vm->ept.identity[i])
			hv_pool_give(&vm->pool, vm->ept.identity[i]);
}

static void destroy_vcpu(struct hv_vcpu *vcpu)
{
	if (vcpu->mmu_data)
		hv_pool_give(&vcpu->vm->pool, vcpu->mmu_data);
}

/*
 * Whether a page of `level` can map `gpa` as the slot has it: both sides must fit, and all of it be
 * memory.
 */
static bool fits(const struct hv_vm *vm, const struct hv_slot *slot, u64 gpa,
		 enum paging_level level)
{
	const u64 size = level_size(level);
	u64 start = gpa & ~(size - 1), offset = start - slot->region.guest_phys_addr;

	/* A page that begins before the slot has an offset beyond all sizes. */
	return !((slot->region.userspace_addr + offset) % size) &&
	       slot->region.memory_size >= size && offset <= slot->region.memory_size - size &&
	       !hv_lapic_within(vm, start, size);
}

/* The largest page for `gpa`: 1 GByte, 2 MBytes; 4 KBytes while writes are logged. */
static enum paging_level page_level(const struct hv_vm *vm, const struct hv_slot *slot, u64 gpa)
{
	const u64 cap = capabilities()->ept_vpid_cap;

	if (slot->dirty)
		return LEVEL_PTE;
	if (cap & EPT_CAP_1G && fits(vm, slot, gpa, LEVEL_PDPTE))
		return LEVEL_PDPTE;
	return cap & EPT_CAP_2M && fits(vm, slot, gpa, LEVEL_PDE) ? LEVEL_PDE : LEVEL_PTE;
}

/*
 * The entry for `gpa` at `level`, with the tables above it; NULL when the pool is empty. No large
 * page is in the way: it would lie in one slot with `gpa`, and zap() has taken those of a slot when
 * that, its log or the page of an APIC changes, so that smaller ones are needed.
 */
static u64 *make_entry(struct hv_vm *vm, u64 gpa, enum paging_level level)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(vm->ept.root, gpa, at), *table;

	for (; at > level; entry = entry_in(table_of(*entry), gpa, --at)) {
		if (*entry)
			continue;
		table = hv_pool_take(&vm->pool);
		if (!table)
			return NULL;
		*entry = physical(table) | EPT_RWX | EPT_ACCESSED;
	}
	return entry;
}

/* The same; the other tables make room for it. */
static u64 *need_entry(struct hv_vm *vm, u64 gpa, enum paging_level level)
{
	u64 *entry = make_entry(vm, gpa, level);

	if (entry)
		return entry;
	vm->evictions++;
	forget_all(vm);
	return make_entry(vm, gpa, level);
}

/*
 * A table may be where a large page is possible again, e.g. because logging has ended. What the
 * processor has cached of it goes before its page is used for something else.
 */
static void drop_table(struct hv_vm *vm, u64 *entry, enum paging_level level)
{
	u64 *table = table_of(*entry);

	free_tables(vm, table, level - 1);
	*(volatile u64 *)entry = 0;
	flush(vm);
	hv_pool_give(&vm->pool, table);
}

/* The right to write and the dirty flag of a page that is used for the first time. */
static u64 log_bits(const struct hv_vm *vm, const struct hv_slot *slot, bool write)
{
	if (slot->region.flags & KVM_MEM_READONLY)
		return EPT_DIRTY;
	if (!slot->dirty)
		return EPT_WRITE | EPT_DIRTY;
	if (vm->ept.pml)
		return EPT_WRITE;
	return write ? EPT_WRITE : 0;
}

/* Maps the page of `gpa` for such an access; false where hv_memory() would be NULL. */
static bool fill(struct hv_vm *vm, u64 gpa, bool write)
{
	struct hv_slot *slot = hv_slot_at(vm, gpa);
	enum paging_level level;
	u64 *entry, host, bits = EPT_READ | EPT_EXECUTE | EPT_ACCESSED;

	if (!slot || gpa >= GPA_END || (write && slot->region.flags & KVM_MEM_READONLY) ||
	    hv_lapic_within(vm, gpa & PAGE_MASK, PAGE_SIZE))
		return false;
	bits |= log_bits(vm, slot, write);
	if (write && !vm->ept.pml)
		hv_mark_dirty(slot, gpa);
	level = page_level(vm, slot, gpa);
	entry = need_entry(vm, gpa, level);
	if (!entry)
		return false;
	if (*entry && !is_page(*entry, level))
		drop_table(vm, entry, level);
	gpa &= ~(level_size(level) - 1);
	host = slot->region.userspace_addr + (gpa - slot->region.guest_phys_addr);
	*(volatile u64 *)entry = host | bits | EPT_MEMORY_TYPE(EPT_WB) |
				 (level > LEVEL_PTE ? EPT_PAGE : 0);
	vm->fills++;
	return true;
}

/* Where nothing is mapped, `*step` is how much of that there is at least. */
static u64 *find_page(const struct hv_vm *vm, u64 gpa, u64 *step)
{
	enum paging_level at = LEVEL_PML4E;
	u64 *entry = entry_in(vm->ept.root, gpa, at);

	for (; *entry && !is_page(*entry, at); at--)
		entry = entry_in(table_of(*entry), gpa, at - 1);
	*step = level_size(at) - (gpa & (level_size(at) - 1));
	return entry;
}

static void zap(struct hv_vm *vm, u64 gpa, u64 size, bool write_only)
{
	u64 end = gpa + size > GPA_END ? GPA_END : gpa + size, step;
	u64 kept = !write_only ? 0 : vm->ept.pml ? ~(u64)EPT_DIRTY : ~(u64)EPT_WRITE;

	for (; gpa < end; gpa += step) {
		u64 *entry = find_page(vm, gpa, &step);

		*(volatile u64 *)entry = *entry & kept;
	}
}

/* --- page-modification logging: 31.3.6 -------------------------------------------------- */

static bool processor_logs(void)
{
	return vmcs_get(EPT_POINTER) & EPTP_ACCESSED_DIRTY;
}

/*
 * 31.4.3.4: INVEPT when the flags come into use, because the processor may have cached without
 * them.
 */
static void resumed(struct hv_vcpu *vcpu)
{
	struct hv_vm *vm = vcpu->vm;
	bool on = vm->ept.pml && vm->logs;

	if (on == processor_logs())
		return;
	vmcs_put(EPT_POINTER, vm->ept.pointer | (on ? EPTP_ACCESSED_DIRTY : 0));
	if (on) {
		vmcs_set_control(CONTROL_PROC2_ENABLE_PML);
		vmcs_put(PML_INDEX, PML_FIRST);
	} else {
		vmcs_clear_control(CONTROL_PROC2_ENABLE_PML);
	}
	flush(vm);
}

static void drain(struct hv_vcpu *vcpu)
{
	const u64 *noted = vcpu->mmu_data;
	u64 index = processor_logs() ? vmcs_get(PML_INDEX) : PML_FIRST, i;
	struct hv_slot *slot;

	if (index == PML_FIRST)
		return;
	/* From 0 it goes to FFFFH: the log is full. */
	for (i = index > PML_FIRST ? 0 : index + 1; i < PML_ENTRIES; i++) {
		slot = hv_slot_at(vcpu->vm, noted[i]);
		if (slot)
			hv_mark_dirty(slot, noted[i]);
	}
	vmcs_put(PML_INDEX, PML_FIRST);
}

/*
 * With accessed and dirty flags the processor uses paging structures of the guest as if it wrote to
 * them (31.3.3.2), so it cannot use those in a read-only slot, and does not tell a write of the
 * guest from a read. Such a VM goes back to write protection.
 */
static bool stop_pml(struct hv_vcpu *vcpu)
{
	if (!processor_logs())
		return false;
	drain(vcpu);
	vcpu->vm->ept.pml = false;
	forget_all(vcpu->vm);
	resumed(vcpu);
	return true;
}

/* --- EPT violations: Table 30-7 -------------------------------------------------------- */

#define VIOLATION_WRITE		BIT(1)
#define VIOLATION_FETCH		BIT(2)
#define VIOLATION_LINEAR	BIT(7)	/* GUEST_LINEAR_ADDRESS is valid */
#define VIOLATION_FINAL		BIT(8)	/* of the access itself, not of a paging structure */

/* What a paging structure holds where no memory is: hv_walk_read(). Mapped to be read only. */
static const u8 all_ones[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE))) = {
	[0 ... PAGE_SIZE - 1] = 0xff
};

/*
 * The exit does not tell what the access was: a read or a write, of the shadow stack, in supervisor
 * mode at any CPL (5.6.1). The processor knows: it makes the access once more, with all ones to
 * read as a paging structure, so that it finds the same reserved bits, and its page fault exits.
 * Nothing but that access sees them: it comes first in the next entry, which is the only one. Any
 * other exit, or event, and the access will exit anew.
 */
static bool ask(struct hv_vcpu *vcpu, u64 gpa)
{
	u64 *entry;

	if (gpa >= GPA_END || hv_memory(vcpu->vm, gpa, 1, false))
		return false;
	entry = need_entry(vcpu->vm, gpa, LEVEL_PTE);
	if (!entry)
		return false;
	*(volatile u64 *)entry = physical(all_ones) | EPT_READ | EPT_MEMORY_TYPE(EPT_WB) |
				 EPT_ACCESSED | EPT_DIRTY;
	vmcs_put(EXCEPTION_BITMAP, vmcs_get(EXCEPTION_BITMAP) | BIT(VECTOR_PF));
	vcpu->question = (struct hv_question){ (gpa & PAGE_MASK) + 1, vcpu->event.id };
	return true;
}

static void answered(struct hv_vcpu *vcpu)
{
	vmcs_put(EXCEPTION_BITMAP, vmcs_get(EXCEPTION_BITMAP) & ~BIT(VECTOR_PF));
	zap(vcpu->vm, vcpu->question.gpa - 1, PAGE_SIZE, false);
	flush(vcpu->vm);
	vcpu->question.gpa = 0;
}

static enum hv_mmu_fault answer(struct hv_vcpu *vcpu)
{
	hv_inject(vcpu, (struct hv_fault){ .vector = VECTOR_PF, .has_error = true,
					   .error = vmcs_get(EXITING_EVENT_ERROR_CODE),
					   .cr2 = vmcs_get(EXIT_QUALIFICATION) });
	return HV_MMU_AGAIN;
}

/*
 * A paging structure where no memory is, or none that can be written: the processor cannot use it.
 * What hv_walk_read() gives for its entries decides, and the emulator makes the access. Where it
 * cannot, for it is a fetch or the delivery of an event, the guest at least has the fault that
 * those entries make; if they make none, the run ends. What the access was is a guess only where a
 * structure that cannot be written stands above the entry that makes the fault.
 */
static enum hv_mmu_fault table_without_memory(struct hv_vcpu *vcpu)
{
	u64 linear = vmcs_get(GUEST_LINEAR_ADDRESS), gpa;
	struct hv_instruction instruction;
	struct hv_fault fault;
	bool fetch;

	if (!vcpu->event.id && hv_decode(vcpu, &instruction))
		return HV_MMU_DEVICE;
	fetch = !vcpu->event.id && hv_is_on_instruction(vcpu, linear);
	if (hv_translate(vcpu, linear, fetch ? ACCESS_FETCH : ACCESS_READ, &gpa, &fault))
		return fetch ? HV_MMU_DEVICE_CODE : HV_MMU_DEVICE;
	if (!(fault.error & PF_RSVD) || !ask(vcpu, vmcs_get(GUEST_PHYSICAL_ADDRESS)))
		hv_inject(vcpu, fault);
	return HV_MMU_AGAIN;
}

/*
 * Without a linear address it is a MOV to CR3 that loads the PDPTEs of PAE paging, from where no
 * memory is: all ones, which 5.4.1 does not allow.
 */
static enum hv_mmu_fault pdptes_without_memory(struct hv_vcpu *vcpu)
{
	hv_inject(vcpu, HV_FAULT_GP);
	return HV_MMU_AGAIN;
}

static enum hv_mmu_fault fault(struct hv_vcpu *vcpu)
{
	u64 qualification = vmcs_get(EXIT_QUALIFICATION), gpa = vmcs_get(GUEST_PHYSICAL_ADDRESS);

	if (vmcs_get(EXIT_REASON) == EXIT_EXCEPTION_OR_NMI)
		return answer(vcpu);
	if (fill(vcpu->vm, gpa, qualification & VIOLATION_WRITE))
		return HV_MMU_AGAIN;
	if (!(qualification & VIOLATION_LINEAR))
		return pdptes_without_memory(vcpu);
	if (!(qualification & VIOLATION_FINAL))
		return stop_pml(vcpu) ? HV_MMU_AGAIN : table_without_memory(vcpu);
	return qualification & VIOLATION_FETCH ? HV_MMU_DEVICE_CODE : HV_MMU_DEVICE;
}

/*
 * --- without "unrestricted guest": 26.8 Restrictions on VMX Operation -----------------------
 *
 * CR0.PE and CR0.PG are always 1. Real-address mode runs as with shadow paging (real.h). A guest
 * without paging has PAE paging with directories of the core, which map 4 GBytes to themselves. The
 * PDPTEs are in the VMCS (29.3.2.4), so CR3 stays the guest's; but MOV to CR3 would load them, and
 * exits. The directories are at the highest guest-physical addresses there are, which such a guest
 * cannot reach itself, and only there while it has no paging.
 */

static u64 identity_at(u32 number)
{
	return BIT(maxphyaddr()) - (4 - number) * PAGE_SIZE;
}

/* Bits of CR4 that would change what the core's tables mean; keys are no part of PAE paging. */
#define CR4_OF_PAGING	(CR4_PSE | CR4_PGE | CR4_LA57 | CR4_SMEP | CR4_SMAP | CR4_PCIDE)

/* What is mapped at the core's directories goes when they come, and they go when paging begins. */
static void follow_paging(struct hv_vcpu *vcpu)
{
	struct hv_vm *vm = vcpu->vm;
	bool unpaged = !(hv_cr0() & CR0_PG);

	if (vm->ept.has_identity != unpaged)
		forget_all(vm);
	vm->ept.has_identity = unpaged;
}

/* False: they were there already. */
static bool put_identity_pdptes(void)
{
	bool changed = false;
	u32 i;

	for (i = 0; i < 4; i++) {
		u64 pdpte = identity_at(i) | PTE_P;

		changed |= vmcs_get(GUEST_PDPTE0 + 2 * i) != pdpte;
		vmcs_put(GUEST_PDPTE0 + 2 * i, pdpte);
	}
	return changed;
}

static void restricted_registers(struct hv_vcpu *vcpu)
{
	u64 cr4 = hv_cr4(), efer = hv_efer(vcpu);
	u64 exceptions = vmcs_get(EXCEPTION_BITMAP) & ~BIT(VECTOR_PF);

	follow_paging(vcpu);
	if (vcpu->vm->ept.has_identity) {
		cr4 = (cr4 & ~(u64)CR4_OF_PAGING) | CR4_PAE;
		/* 29.3.1.1: with CR0.PG = 1, LMA and LME are the same. */
		efer &= ~(u64)EFER_LME;
		exceptions |= BIT(VECTOR_PF);
		put_identity_pdptes();
	}
	vmcs_put(GUEST_CR4, cr4 | capabilities()->cr4_fixed0);
	vmcs_put(GUEST_IA32_EFER, efer);
	vmcs_put(EXCEPTION_BITMAP, exceptions);
}

/* Another vCPU may have run, in the other mode. */
static void restricted_resumed(struct hv_vcpu *vcpu)
{
	follow_paging(vcpu);
}

static enum hv_mmu_fault restricted_fault(struct hv_vcpu *vcpu)
{
	u64 gpa = vmcs_get(GUEST_PHYSICAL_ADDRESS), *entry;
	struct hv_vm *vm = vcpu->vm;

	/*
	 * Without paging there is no page fault, unless the processor has loaded other PDPTEs:
	 * Bochs does by any MOV to CR0, where 5.4.1 says by one that changes CD, NW or PG.
	 * If it has not, it is an access to a shadow stack (5.6.1), which has no pages here:
	 * without paging there are no dirty flags and read-only pages to make one of.
	 */
	if (vmcs_get(EXIT_REASON) == EXIT_EXCEPTION_OR_NMI && vm->ept.has_identity)
		return put_identity_pdptes() ? HV_MMU_AGAIN : HV_MMU_REFUSED;
	if (!vm->ept.has_identity || gpa < identity_at(0) || gpa >= BIT(maxphyaddr()))
		return fault(vcpu);
	entry = need_entry(vm, gpa, LEVEL_PTE);
	if (!entry)
		return HV_MMU_REFUSED;
	*(volatile u64 *)entry = physical(vm->ept.identity[(gpa - identity_at(0)) / PAGE_SIZE]) |
				 EPT_READ | EPT_MEMORY_TYPE(EPT_WB) | EPT_ACCESSED | EPT_DIRTY;
	return HV_MMU_AGAIN;
}

#define EPT_MMU(title, create_it)	{						\
	.name = title,									\
	.min_pages = MIN_PAGES,								\
	.gpa_bits = gpa_bits,								\
	.supported = supported,								\
	.create = create_it,								\
	.destroy = destroy,								\
	.create_vcpu = create_vcpu,							\
	.destroy_vcpu = destroy_vcpu,							\
	.fault = fault,									\
	.resumed = resumed,								\
	.drain = drain,									\
	.answered = answered,								\
	.zap = zap,									\
	.flush = flush,									\
	.reclaim = forget_all,								\
}

const struct hv_mmu hv_mmu_ept = EPT_MMU("EPT", create);
const struct hv_mmu hv_mmu_ept_write_protect = EPT_MMU("EPT, write protection",
						       create_write_protect);

const struct hv_mmu hv_mmu_ept_restricted = {
	.name = "EPT, no unrestricted guest",
	.min_pages = MIN_PAGES,
	.cr0_always = CR0_PE | CR0_PG,
	.gpa_bits = gpa_bits,
	.supported = supported,
	.create = create_restricted,
	.destroy = destroy,
	.create_vcpu = create_vcpu,
	.destroy_vcpu = destroy_vcpu,
	.fault = restricted_fault,
	.registers = restricted_registers,
	.resumed = restricted_resumed,
	.answered = answered,
	.zap = zap,
	.flush = flush,
	.reclaim = forget_all,
};
