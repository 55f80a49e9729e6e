/*
 * Shadow paging: the cache of shadow tables.
 *
 * What the core has made of the guest's tables it keeps as long as a processor could keep it in its
 * TLBs, and longer: a table that is loaded into CR3 again needs nothing made anew. The guest may
 * change its tables at any time; the change counts at the latest after INVLPG or MOV to
 * CR3 (5.10.4.1 Operations that Invalidate TLBs and Paging-Structure Caches), and at once where an
 * entry was not present (5.10.4.3 Optional Invalidation). All memory comes from the VM's pool; when
 * that is used up, what has not been used for longest is thrown away.
 */
#include "hv/mmu_shadow.h"
#include "hv/paged.h"
#include "string.h"

#define POOL	300
#define FILL	0x0b0f0b0f0b0f0b0full	/* UD2 */

static struct paged paged;

static u64 linear_of(enum paging_mode mode)
{
	static const u8 shift[PAGING_MODES] = {
		[PAGING_32_BIT] = 22, [PAGING_PAE] = 30, [PAGING_4_LEVEL] = 39,
		[PAGING_5_LEVEL] = 48,
	};

	return BIT(shift[mode]);
}

static void start(enum paging_mode mode, u32 pages)
{
	const struct paged_mode chosen = { .mode = mode, .cr0 = CR0_WP };

	paged_start(&paged, &chosen, &hv_mmu_shadow, pages);
}

static void set_page(u64 gpa, u64 value)
{
	u32 i;

	for (i = 0; i < PAGE_SIZE / 8; i++)
		((u64 *)paged_bytes(&paged, gpa))[i] = value;
}

static void try_access(enum access kind, u64 linear, u64 value)
{
	const struct paged_access access = { .linear = linear, .kind = kind, .value = value };

	if (!paged_try(&paged, &access))
		case_end();
}

static u64 fills(void)
{
	return paged.box.vm.fills;
}

/* --- CR3 ---------------------------------------------------------------------------------- */

/* A second topmost table: a copy of the first, but that the page is another one. */
static u64 second_root(u64 linear, u64 page)
{
	u64 first = paged.cr3, root = paged_page(&paged);
	u64 top = paged_entry_at(&paged, linear, paged_levels(&paged));

	memcpy(paged_bytes(&paged, root), paged_bytes(&paged, first), PAGE_SIZE);
	paged_set_entry(&paged, root + (top - first), 0);
	paged.cr3 = root;
	paged_map(&paged, linear, page, PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	paged.cr3 = first;
	return root;
}

static void warm_switch(const struct case_def *this_case)
{
	enum paging_mode mode = (u64)this_case->row;
	u64 linear = linear_of(mode), first, second, page[2], before;
	u32 i;

	hv_start(page_alloc());
	start(mode, POOL);
	for (i = 0; i < 2; i++) {
		page[i] = paged_page(&paged);
		set_page(page[i], i + 1);
	}
	paged_map(&paged, linear, page[0], PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	first = paged.cr3;
	second = second_root(linear, page[1]);
	/* Cold: each address space makes what it needs. */
	try_access(ACCESS_WRITE, linear, 5);
	paged_load_cr3(&paged, second);
	try_access(ACCESS_WRITE, linear, 6);
	before = fills();
	for (i = 0; i < 20; i++) {
		paged_load_cr3(&paged, i % 2 ? second : first);
		try_access(ACCESS_READ, linear, 0);
		try_access(ACCESS_WRITE, linear, i);
	}
	EXPECT_EQ(fills(), before);
}

#define MODE_CASE(id, body, mode, ...)	\
	CASE_RUN(id, body, PROVES(__VA_ARGS__), NEEDS(PAGED_NEEDS(mode)), \
		 ROW((const void *)(u64)mode))
#define EACH_MODE(name, body, ...)						\
	MODE_CASE(bits_32_##name, body, PAGING_32_BIT, __VA_ARGS__);		\
	MODE_CASE(pae_##name, body, PAGING_PAE, __VA_ARGS__);			\
	MODE_CASE(level_4_##name, body, PAGING_4_LEVEL, __VA_ARGS__);		\
	MODE_CASE(level_5_##name, body, PAGING_5_LEVEL, __VA_ARGS__)

EACH_MODE(warm_switch_fills_nothing, warm_switch, "paging:tlb.cr3.nopcid", "exit-reasons:28");

/* --- what the guest changes ------------------------------------------------------------------ */

/* The guest writes an entry of its own tables, which are mapped, too. */
static void change_by_guest(const struct case_def *this_case)
{
	enum paging_mode mode = (u64)this_case->row;
	u64 linear = linear_of(mode), window, entry, page[2];
	u32 i;

	hv_start(page_alloc());
	start(mode, POOL);
	for (i = 0; i < 2; i++) {
		page[i] = paged_page(&paged);
		set_page(page[i], FILL + i);
	}
	entry = paged_map(&paged, linear, page[0], PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	window = linear + PAGE_SIZE;
	paged_map(&paged, window, entry & PAGE_MASK, PTE_P | PTE_RW, LEVEL_PTE);
	window |= entry & ~PAGE_MASK;
	try_access(ACCESS_READ, linear, 0);
	for (i = 0; i < 10; i++) {
		try_access(ACCESS_WRITE, window, page[i % 2] | PTE_P | PTE_RW | PTE_US);
		if (i & 4)
			paged_load_cr3(&paged, paged.cr3);
		else
			paged_invlpg(&paged, linear);
		try_access(ACCESS_READ, linear, 0);
		try_access(ACCESS_WRITE, linear, i);
		/* Read-only and absent, likewise. */
		try_access(ACCESS_WRITE, window, page[i % 2] | (i & 1 ? PTE_P : 0));
		paged_invlpg(&paged, linear);
		try_access(ACCESS_WRITE, linear, i);
	}
}

EACH_MODE(guest_changes_its_tables, change_by_guest, "paging:tlb.invlpg.page",
	  "paging:tlb.cr3.same");

/* An entry that becomes present needs no invalidation, nor does an access that faults. */
static void absent_entries(const struct case_def *this_case)
{
	enum paging_mode mode = (u64)this_case->row;
	u64 linear = linear_of(mode), page, entry;

	hv_start(page_alloc());
	start(mode, POOL);
	page = paged_page(&paged);
	entry = paged_map(&paged, linear, page, PTE_RW | PTE_US, LEVEL_PTE);
	try_access(ACCESS_READ, linear, 0);
	paged_set_entry(&paged, entry, page | PTE_P);
	try_access(ACCESS_READ, linear, 0);
	try_access(ACCESS_WRITE, linear, 7);
	/* More rights: the fault, if it comes, is spurious; the core makes none. */
	paged_set_entry(&paged, entry, page | PTE_P | PTE_RW);
	try_access(ACCESS_WRITE, linear, 8);
}

EACH_MODE(absent_entries_need_no_invalidation, absent_entries, "paging:tlb.np_not_cached",
	  "paging:tlb.more_rights_spurious");

/*
 * 5.8: each entry has a dirty flag of its own. Large pages of the same memory have one shadow
 * table, if they have the same rights; with CR0.WP = 0 it may be written in spite of them.
 */
static void large_pages(const struct case_def *this_case)
{
	enum paging_mode mode = (u64)this_case->row;
	const struct paged_mode chosen = {
		.mode = mode, .cr4 = mode == PAGING_32_BIT ? CR4_PSE : 0 };
	u64 linear = linear_of(mode), size = PAGE_SIZE << (mode == PAGING_32_BIT ? 10 : 9), page;
	u32 i;

	hv_start(page_alloc());
	for (i = 0; i < 2; i++) {
		paged_start(&paged, &chosen, &hv_mmu_shadow, POOL);
		page = paged_page(&paged);
		paged_map(&paged, linear, 0, PTE_P | PTE_US, LEVEL_PDE);
		paged_map(&paged, linear + size, 0, PTE_P | PTE_US | (i ? PTE_RW : 0), LEVEL_PDE);
		try_access(ACCESS_READ, linear + size + page, 0);
		try_access(ACCESS_WRITE, linear + page, 1);
		try_access(ACCESS_WRITE, linear + size + page, 2);
	}
}

EACH_MODE(large_pages_of_the_same_memory, large_pages, "paging:ad.d_write");

/* --- bounded ---------------------------------------------------------------------------------- */

/* As few pages as a VM may have, and more tables than that. */
CASE(least_pool_is_enough, PROVES("kvm-ioctls:mem.ok"), NEEDS(VMX))
{
	u32 i, pages = hv_mmu_shadow.min_pages + 4;
	u64 page, linear, made = 0;
	struct hv_pool pool;

	hv_start(page_alloc());
	start(PAGING_4_LEVEL, pages);
	page = paged_page(&paged);
	/* The same tables below many entries with different rights: a shadow for each. */
	paged_map(&paged, BIT(39), page, PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	for (i = 2; i < 200; i++)
		paged_set_entry(&paged, paged.cr3 + i * 8,
				paged_entry(&paged, paged.cr3 + 8) ^ (i & 1 ? PTE_US : 0));
	for (i = 2; i < 200; i++) {
		linear = (u64)(i % 200) << 39 | (i & 256 ? BIT(30) : 0);
		if (linear & BIT(47))
			linear |= BITS(63, 48);
		/* Different topmost tables: each is a copy at another place. */
		try_access(i & 1 ? ACCESS_WRITE : ACCESS_READ, linear, i);
		made = shadow_of(&paged.box.vm)->tables > made ?
		       shadow_of(&paged.box.vm)->tables : made;
	}
	EXPECT_TRUE(made <= pages / 2);
	hv_pool_init(&pool, page_alloc(), PAGE_SIZE);
	EXPECT_EQ(hv_vm_create(&(struct hv_vm){ 0 }, &hv_mmu_shadow, &pool, 1), -ENOMEM);
	EXPECT_EQ(pool.left, 1);
}

/* A guest without paging that walks through more memory than the tables of its pool can map. */
BOX_GUEST_32(far_guest,
	     "mov $2, %edx\n\t 1: mov $0x400000, %ebx\n\t"
	     "2: incl (%ebx)\n\t add $0x400000, %ebx\n\t cmp $0x7c00000, %ebx\n\t jb 2b\n\t"
	     "dec %edx\n\t jnz 1b\n\t hlt");

CASE(oldest_tables_make_room, PROVES("kvm-ioctls:mem.ok"), NEEDS(VMX))
{
	u32 pages = hv_mmu_shadow.min_pages + 4, i, count = 30, *memory[30];
	struct box *box = &paged.box;
	struct shadow *shadow;

	hv_start(page_alloc());
	box_start_on(box, &hv_mmu_shadow, pages, &far_guest);
	for (i = 0; i < count; i++)
		memory[i] = (u32 *)box_add_memory(box, i + 1, (i + 1) * 0x400000ull, PAGE_SIZE, 0);
	/* Leave so few that thirty page tables do not fit. */
	while (box->vm.pool.left > 40)
		hv_pool_take(&box->vm.pool);
	REQUIRE_EXIT(box_run(box), KVM_EXIT_HLT);
	shadow = shadow_of(&box->vm);
	for (i = 0; i < count; i++)
		EXPECT_EQ(*memory[i], 2);
	EXPECT_TRUE(shadow->reclaimed > 0);
	EXPECT_TRUE(shadow->tables < 22);
}

/* --- slots ------------------------------------------------------------------------------------ */

CASE(table_in_a_slot_that_goes, PROVES("kvm-ioctls:mem.delete"), NEEDS(VMX))
{
	const struct kvm_userspace_memory_region gone = { .slot = 1,
							  .guest_phys_addr = PAGED_MEMORY };
	struct kvm_regs regs = { .rip = BOX_CODE, .rsp = BOX_STACK - 64, .rflags = RFLAGS_FIXED };
	u64 linear = linear_of(PAGING_4_LEVEL);

	hv_start(page_alloc());
	start(PAGING_4_LEVEL, POOL);
	paged_map(&paged, linear, paged_page(&paged), PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	try_access(ACCESS_WRITE, linear, 7);
	REQUIRE_EQ(hv_vm_set_memory(&paged.box.vm, &gone), 0);
	/* Its tables are gone, so the address is not mapped. */
	regs.rdi = linear;
	hv_vcpu_set_regs(&paged.box.vcpu, &regs);
	EXPECT_VECTOR(&paged.box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&paged.box).cr2, linear);
}

/* The same memory at two places: a write through one counts for the table at the other. */
CASE(table_in_two_slots, PROVES("kvm-ioctls:mem.hva_overlap"), NEEDS(VMX))
{
	u64 linear = linear_of(PAGING_4_LEVEL), window = linear + PAGE_SIZE, entry, other;
	struct kvm_userspace_memory_region twice = {
		.slot = 3, .guest_phys_addr = 0x800000, .memory_size = PAGED_PAGES * PAGE_SIZE };
	u64 page[2];
	u32 i;

	hv_start(page_alloc());
	start(PAGING_4_LEVEL, POOL);
	twice.userspace_addr = physical(paged.memory);
	REQUIRE_EQ(hv_vm_set_memory(&paged.box.vm, &twice), 0);
	for (i = 0; i < 2; i++) {
		page[i] = paged_page(&paged);
		set_page(page[i], FILL + i);
	}
	entry = paged_map(&paged, linear, page[0], PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	other = (entry & PAGE_MASK) - PAGED_MEMORY + 0x800000;
	paged_map(&paged, window, other, PTE_P | PTE_RW, LEVEL_PTE);
	try_access(ACCESS_READ, linear, 0);
	/* What the guest writes at the window is not in a page that is watched: by hand. */
	for (i = 0; i < 4; i++) {
		struct kvm_regs regs = { .rip = BOX_CODE + 0x10, .rsp = BOX_STACK - 64,
					 .rflags = RFLAGS_FIXED,
					 .rdi = window | (entry & ~PAGE_MASK),
					 .rax = page[i & 1] | PTE_P | PTE_RW | PTE_US };

		hv_vcpu_set_regs(&paged.box.vcpu, &regs);
		EXPECT_VECTOR(&paged.box, VECTOR_UD);
		paged_invlpg(&paged, linear);
		try_access(ACCESS_READ, linear, 0);
	}
}

static u64 dirty_pages(void)
{
	u64 bits = 0;
	const struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bits };

	REQUIRE_EQ(hv_vm_get_dirty_log(&paged.box.vm, &log), 0);
	return bits;
}

/* A page of the slot with a log, mapped at `linear`: its address. */
static u64 start_logged(u64 linear)
{
	struct kvm_userspace_memory_region logged = {
		.slot = 1, .guest_phys_addr = PAGED_MEMORY, .flags = KVM_MEM_LOG_DIRTY_PAGES,
		.memory_size = PAGED_PAGES * PAGE_SIZE };
	u64 page;

	hv_start(page_alloc());
	start(PAGING_4_LEVEL, POOL);
	page = paged_page(&paged);
	paged_map(&paged, linear, page, PTE_P | PTE_RW | PTE_US, LEVEL_PTE);
	logged.userspace_addr = physical(paged.memory);
	REQUIRE_EQ(hv_vm_set_memory(&paged.box.vm, &logged), 0);
	return page;
}

CASE(dirty_pages_are_logged, PROVES("kvm-ioctls:dirty.content"), NEEDS(VMX))
{
	u64 linear = linear_of(PAGING_4_LEVEL), tables = BITS(3, 1);

	start_logged(linear);
	/* A read sets accessed flags, and so writes to the tables: pages 1 to 3. */
	try_access(ACCESS_READ, linear, 0);
	EXPECT_EQ(dirty_pages(), tables);
	try_access(ACCESS_READ, linear, 0);
	EXPECT_EQ(dirty_pages(), 0);
	try_access(ACCESS_WRITE, linear, 1);
	EXPECT_EQ(dirty_pages(), BIT(0) | BIT(3));
	try_access(ACCESS_WRITE, linear, 2);
	EXPECT_EQ(dirty_pages(), BIT(0));
	EXPECT_EQ(dirty_pages(), 0);
}

/* Of its two mappings the one that may write is the newer one. */
CASE(page_mapped_twice_is_logged, PROVES("kvm-ioctls:dirty.content"), NEEDS(VMX))
{
	u64 linear = linear_of(PAGING_4_LEVEL), other = linear + PAGE_SIZE;
	u32 i;

	paged_map(&paged, other, start_logged(linear), PTE_P | PTE_US, LEVEL_PTE);
	try_access(ACCESS_READ, other, 0);
	dirty_pages();
	for (i = 0; i < 3; i++) {
		try_access(ACCESS_WRITE, linear, i);
		EXPECT_EQ(dirty_pages() & BIT(0), BIT(0));
		try_access(ACCESS_READ, other, 0);
		EXPECT_EQ(dirty_pages(), 0);
	}
}

/* --- in one run ------------------------------------------------------------------------------- */

/*
 * When user space lets the guest run, it may have written to any table, and the core looks at all
 * of them with the next invalidation. What follows is what the guest does to its tables without a
 * stop in between. Pages that it reads are writable at once where it can be: hence the write, which
 * sets a dirty flag. Its entry for FIRST is at TABLE, and leads to PAGE_A or PAGE_B, which the
 * guest can reach, too.
 */
#define TABLE	0xb000
#define PAGE_A	0xc000
#define PAGE_B	0xd000
#define FIRST	0x400000
#define FLAGS	(PTE_P | PTE_RW | PTE_US)

static struct box box;

static void start_box(const struct box_guest *guest, u64 entry)
{
	struct kvm_regs regs;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, POOL, guest);
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[FIRST >> 21] = TABLE | FLAGS;
	*box_at(&box, TABLE) = entry;
	*box_at(&box, PAGE_A) = 0xaaaa;
	*box_at(&box, PAGE_B) = 0xbbbb;
	regs = box_regs(&box);
	regs.rbx = FIRST;
	hv_vcpu_set_regs(&box.vcpu, &regs);
}

BOX_GUEST_64(changing_guest,
	     "movq $0, 0xe000\n\t invlpg (%rbx)\n\t mov (%rbx), %r8\n\t mov 0xb000, %rax\n\t"
	     "movq $0xd007, 0xb000\n\t invlpg (%rbx)\n\t mov (%rbx), %r9\n\t"
	     "movq $0xc007, 0xb000\n\t invlpg (%rbx)\n\t mov (%rbx), %r10\n\t"
	     "movq $0xd007, 0xb000\n\t mov %cr3, %rax\n\t mov %rax, %cr3\n\t mov (%rbx), %r11\n\t"
	     "hlt");

CASE(changes_in_one_run, PROVES("paging:tlb.invlpg.page", "paging:tlb.cr3.same"), NEEDS(VMX))
{
	struct kvm_regs regs;

	start_box(&changing_guest, PAGE_A | FLAGS);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.r8, 0xaaaa);
	EXPECT_EQ(regs.r9, 0xbbbb);
	EXPECT_EQ(regs.r10, 0xaaaa);
	EXPECT_EQ(regs.r11, 0xbbbb);
}

BOX_GUEST_64(looking_guest, "1: invlpg (%rbx)\n\t mov (%rbx), %rax\n\t hlt\n\t jmp 1b");

CASE(changes_by_user_space, PROVES("paging:tlb.invlpg.page"), NEEDS(VMX))
{
	start_box(&looking_guest, PAGE_A | FLAGS);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xaaaa);
	*box_at(&box, TABLE) = PAGE_B | FLAGS;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xbbbb);
}

/* 5.4: with IA32_EFER.NXE = 0 bit 63 is reserved, in tables that have been used with NXE = 1. */
BOX_GUEST_64(nxe_guest,
	     "mov (%rbx), %r8\n\t mov $0xc0000080, %ecx\n\t rdmsr\n\t btr $11, %eax\n\t wrmsr\n\t"
	     "mov %cr3, %rax\n\t mov %rax, %cr3\n\t mov (%rbx), %r9\n\t hlt");

CASE(tables_without_nxe, PROVES("paging:rsvd.4l.xd"), NEEDS(VMX, CPU(NX)))
{
	struct kvm_sregs sregs;

	start_box(&nxe_guest, PAGE_A | FLAGS | PTE_XD);
	sregs = box_sregs(&box);
	sregs.efer |= EFER_NXE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 48), PF_P | PF_RSVD);
	EXPECT_EQ(box_regs(&box).r8, 0xaaaa);
}

/* 5.6: what CR0.WP = 0 has let through, CR0.WP = 1 does not. */
BOX_GUEST_64(wp_guest,
	     "movq $1, (%rbx)\n\t mov %cr0, %rax\n\t bts $16, %rax\n\t mov %rax, %cr0\n\t"
	     "movq $2, (%rbx)\n\t hlt");

CASE(write_protection_comes_back, PROVES("paging:acc.wp_immediate"), NEEDS(VMX))
{
	start_box(&wp_guest, PAGE_A | PTE_P);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 48), PF_P | PF_WR);
	EXPECT_EQ(*box_at(&box, PAGE_A), 1);
}

/* MAXPHYADDR is the guest's, 40: the processor's may be larger, or it looks later than the core. */
BOX_GUEST_64(wide_cr3_guest, "mov %rax, %cr3\n\t hlt");

CASE(cr3_above_maxphyaddr_is_gp, PROVES("paging:cr3.ia32e.reserved"), NEEDS(VMX))
{
	struct kvm_regs regs;

	start_box(&wide_cr3_guest, 0);
	regs = box_regs(&box);
	regs.rax = BOX_TABLES | BIT(40);
	hv_vcpu_set_regs(&box.vcpu, &regs);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_sregs(&box).cr3, BOX_TABLES);
}
