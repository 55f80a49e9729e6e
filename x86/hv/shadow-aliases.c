/*
 * One page table of the guest below two page-directory entries with different rights: 5.6.1 takes
 * the rights of all entries of a translation together, so the same page may be written by one
 * linear address and not by another. A shadow table stands for the table and for the rights above
 * it, hence there must be two. The guest uses both addresses in turn, so that a shadow that was
 * made for one is there when the other is used. And one table that two vCPUs read differently.
 */
#include "hv/box.h"
#include "hv/mmu_shadow.h"
#include "hv/paged.h"

#define SHARED_TABLE	0xb000
#define PAGE		0xc000
#define FIRST		2u	/* PDEs: 400000H, 800000H */
#define SECOND		4u

static struct box box;
static struct hv_vcpu other;

static void start(const struct box_guest *guest, u64 cr0, u64 efer, u64 second)
{
	u64 *directory;
	struct kvm_sregs sregs;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, 300, guest);
	sregs = box_sregs(&box);
	sregs.cr0 |= cr0;
	sregs.efer |= efer;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	directory = box_at(&box, BOX_TABLES + 2 * PAGE_SIZE);
	directory[FIRST] = SHARED_TABLE | PTE_P | PTE_RW;
	directory[SECOND] = SHARED_TABLE | second;
	*box_at(&box, SHARED_TABLE) = PAGE | PTE_P | PTE_RW;
	*(u8 *)box_at(&box, PAGE) = 0xc3;	/* RET */
}

BOX_GUEST_64(write_guest,
	     "mov $0x400000, %ebx\n\t mov $0x800000, %ecx\n\t mov %al, 8(%rbx)\n\t"
	     "mov 8(%rcx), %dl\n\t mov %al, 8(%rbx)\n\t mov %al, 8(%rcx)\n\t hlt");

CASE(read_only_above_a_shared_table, PROVES("paging:acc.rw_and"), NEEDS(VMX))
{
	start(&write_guest, CR0_WP, 0, PTE_P);
	EXPECT_VECTOR(&box, VECTOR_PF);
}

CASE(writable_above_a_shared_table, PROVES("paging:acc.rw_and"), NEEDS(VMX))
{
	start(&write_guest, CR0_WP, 0, PTE_P | PTE_RW);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

BOX_GUEST_64(fetch_guest,
	     "mov $0x400000, %ebx\n\t mov $0x800000, %ecx\n\t call *%rbx\n\t mov (%rcx), %al\n\t"
	     "call *%rbx\n\t call *%rcx\n\t hlt");

CASE(execute_disable_above_a_shared_table, PROVES("paging:acc.xd_or"), NEEDS(VMX, CPU(NX)))
{
	start(&fetch_guest, 0, EFER_NXE, PTE_P | PTE_RW | PTE_XD);
	EXPECT_VECTOR(&box, VECTOR_PF);
}

CASE(executable_above_a_shared_table, PROVES("paging:acc.xd_or"), NEEDS(VMX, CPU(NX)))
{
	start(&fetch_guest, 0, EFER_NXE, PTE_P | PTE_RW);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* --- the same in all modes, on all levels, with all rights, each access judged by the model --- */

#define UD2	0x0b0f0b0f0b0f0b0full	/* all that paged_try() executes */
#define TURNS	3

static struct paged paged;

struct shared {
	enum paging_mode mode;
	u32 level;		/* of the two entries that refer to one table, or map one page */
	u64 taken, given;	/* flags that the second of them does not have, or has alone */
	u64 flags;		/* of both: PTE_PS for a page */
	u64 cr0, cr4;
};

/* An address in each of two regions side by side. */
static void map_both(const struct shared *row, u64 linear[2])
{
	u32 bits = paged_index_bits(&paged), i;
	u64 size = PAGE_SIZE << (row->level - 1) * bits, page = paged_page(&paged), first, entry;
	bool large = row->flags & PTE_PS;

	/* Behind the region that is the guest's own. */
	linear[0] = PAGE_SIZE << (paged_levels(&paged) - 1) * bits;
	linear[1] = linear[0] + size;
	paged_map(&paged, linear[0], large ? 0 : page, PTE_P | PTE_RW | PTE_US | row->flags,
		  large ? row->level : LEVEL_PTE);
	first = paged_entry_at(&paged, linear[0], row->level);
	entry = paged_entry(&paged, first);
	paged_set_entry(&paged, first + (row->mode == PAGING_32_BIT ? 4 : 8),
			(entry & ~row->taken) | row->given);
	for (i = 0; i < PAGE_SIZE; i += 8)
		*(u64 *)(paged_bytes(&paged, page) + i) = UD2;
	for (i = 0; large && i < 2; i++)
		linear[i] += page;
}

/* Both in turns, by user and supervisor. */
static void check_shared(const struct case_def *this_case)
{
	const struct shared *row = this_case->row;
	const struct paged_mode mode = { .mode = row->mode, .cr0 = row->cr0, .cr4 = row->cr4,
					 .efer = row->given & PTE_XD ? EFER_NXE : 0 };
	u64 linear[2];
	u32 i;

	hv_start(page_alloc());
	paged_start(&paged, &mode, &hv_mmu_shadow, 400);
	map_both(row, linear);
	for (i = 0; i < TURNS * 12; i++) {
		const struct paged_access access = {
			.linear = linear[i % 2] + 8, .cpl = i / 2 % 2 ? 0 : 3,
			.kind = i / 4 % 3, .value = UD2,
		};

		if (!paged_try(&paged, &access))
			case_end();
	}
}

#define SHARED(id, fact, paging, at, ...)							\
	CASE_RUN(id, check_shared, PROVES("paging:acc." fact), NEEDS(PAGED_NEEDS(paging)),	\
		 ROW((&(const struct shared){ .mode = paging, .level = at, ##__VA_ARGS__ })))
#define SHARED_XD(id, paging, at, ...)								\
	CASE_RUN(id, check_shared, PROVES("paging:acc.xd_or"),					\
		 NEEDS(PAGED_NEEDS(paging), CPU(NX)),						\
		 ROW((&(const struct shared){ .mode = paging, .level = at, .given = PTE_XD,	\
					      ##__VA_ARGS__ })))
#define SHARED_ALL(id, fact, bit, ...)								\
	SHARED(id##_bits_32, fact, PAGING_32_BIT, LEVEL_PDE, .taken = bit, ##__VA_ARGS__);	\
	SHARED(id##_pae, fact, PAGING_PAE, LEVEL_PDE, .taken = bit, ##__VA_ARGS__);		\
	SHARED(id##_level_4, fact, PAGING_4_LEVEL, LEVEL_PDE, .taken = bit, ##__VA_ARGS__);	\
	SHARED(id##_level_4_pdpte, fact, PAGING_4_LEVEL, LEVEL_PDPTE, .taken = bit,		\
	       ##__VA_ARGS__);									\
	SHARED(id##_level_4_pml4e, fact, PAGING_4_LEVEL, LEVEL_PML4E, .taken = bit,		\
	       ##__VA_ARGS__)

SHARED_ALL(supervisor, "user_addr", PTE_US, .cr0 = CR0_WP);
SHARED_ALL(read_only, "rw_and", PTE_RW, .cr0 = CR0_WP);
SHARED_ALL(read_only_without_wp, "rw_and", PTE_RW);
SHARED_ALL(supervisor_read_only, "user_addr", PTE_RW | PTE_US);
SHARED_XD(execute_disable_pae, PAGING_PAE, LEVEL_PDE);
SHARED_XD(execute_disable_level_4, PAGING_4_LEVEL, LEVEL_PDE);
SHARED_XD(execute_disable_level_4_pdpte, PAGING_4_LEVEL, LEVEL_PDPTE);
SHARED_XD(execute_disable_level_4_pml4e, PAGING_4_LEVEL, LEVEL_PML4E);

#define LARGE_PAGES(id, fact, bit, ...)								\
	SHARED(id##_page_bits_32, fact, PAGING_32_BIT, LEVEL_PDE, .taken = bit,			\
	       .flags = PTE_PS, .cr4 = CR4_PSE, ##__VA_ARGS__);					\
	SHARED(id##_page_pae, fact, PAGING_PAE, LEVEL_PDE, .taken = bit,			\
	       .flags = PTE_PS, ##__VA_ARGS__);							\
	SHARED(id##_page_level_4, fact, PAGING_4_LEVEL, LEVEL_PDE, .taken = bit,		\
	       .flags = PTE_PS, ##__VA_ARGS__)

LARGE_PAGES(supervisor, "user_addr", PTE_US, .cr0 = CR0_WP);
LARGE_PAGES(read_only, "rw_and", PTE_RW, .cr0 = CR0_WP);
LARGE_PAGES(read_only_without_wp, "rw_and", PTE_RW);
SHARED_XD(execute_disable_page_pae, PAGING_PAE, LEVEL_PDE, .flags = PTE_PS);
SHARED_XD(execute_disable_page_level_4, PAGING_4_LEVEL, LEVEL_PDE, .flags = PTE_PS);

/* --- physical addresses of different widths: bits from MAXPHYADDR on are reserved, 5.5.4 ------ */

#define HIGH_PAGE	BIT(34)		/* guest-physical */

BOX_GUEST_64(high_guest, "1: mov 0x200000, %eax\n\t hlt\n\t jmp 1b");

static void set_width(struct hv_vcpu *vcpu, u32 bits)
{
	union {
		struct kvm_cpuid2 table;
		u8 room[sizeof(struct kvm_cpuid2) + HV_MAX_CPUID * sizeof(vcpu->cpuid[0])];
	} own = { .table.nent = vcpu->cpuid_count };
	u32 i;

	for (i = 0; i < vcpu->cpuid_count; i++) {
		own.table.entries[i] = vcpu->cpuid[i];
		if (vcpu->cpuid[i].function == 0x80000008)
			own.table.entries[i].eax = 48 << 8 | bits;
	}
	REQUIRE_EQ(hv_vcpu_set_cpuid(vcpu, &own.table), 0);
}

static u64 rip_after_run(struct hv_vcpu *vcpu)
{
	struct kvm_regs regs;

	REQUIRE_EQ(hv_vcpu_run(vcpu), 0);
	REQUIRE_EXIT(vcpu->run->exit_reason, KVM_EXIT_HLT);
	hv_vcpu_get_regs(vcpu, &regs);
	return regs.rip;
}

CASE(each_has_its_own_physical_width, PROVES("paging:rsvd.4l.high"), NEEDS(VMX))
{
	const u64 behind_read = BOX_CODE + 8, in_handler = BOX_HANDLERS + 8 * VECTOR_PF + 3;
	struct kvm_regs regs;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, 300, &high_guest);
	box_add_memory(&box, 1, HIGH_PAGE, PAGE_SIZE, 0);
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[1] = HIGH_PAGE | PTE_P | PTE_PS;
	box_add_vcpu(&box, &other, 1);
	regs = box_regs(&box);
	REQUIRE_EQ(hv_vcpu_set_regs(&other, &regs), 0);
	set_width(&box.vcpu, 36);
	set_width(&other, 34);
	EXPECT_EQ(rip_after_run(&box.vcpu), behind_read);
	EXPECT_EQ(rip_after_run(&other), in_handler);
	EXPECT_EQ(rip_after_run(&box.vcpu), behind_read);
	set_width(&box.vcpu, 34);
	EXPECT_EQ(rip_after_run(&box.vcpu), in_handler);
}
