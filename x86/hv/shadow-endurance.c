/*
 * Shadow paging for long: a million changes of page-table entries, and ten thousand VMs; the latter
 * with EPT as well.
 *
 * The pages of a VM are all that its shadow tables can use. A page that is not given back, or an
 * entry that stays in a list, shows after enough rounds: as fewer free pages, or as an access to
 * what the guest has mapped before. All those VMs are made from one pool, to which each gives its
 * pages back when it is destroyed.
 */
#include "hv/box.h"
#include "hv/mmu_shadow.h"
#include "string.h"

#define POOL		300
#define ROUNDS		1954	/* of 512 entries */
#define TABLE		0x102000	/* a page directory and a page table in the second slot */
#define DATA		0x108000	/* 8 pages; each holds its number */
#define VMS		10000

_Static_assert(ROUNDS * 512 >= 1000000, "a million changes");

/*
 * Each round writes all 512 entries, so that entry n - 1 maps page (n + round) % 8, loads CR3, and
 * reads through each 64th. Every 256 rounds user space has a look.
 */
BOX_GUEST_64(changes_guest,
	     "mov $" STRINGIFY(ROUNDS) ", %r8d\n\t"
	     "1: mov $512, %ecx\n\t"
	     "2: lea (%rcx, %r8), %eax\n\t and $7, %eax\n\t shl $12, %eax\n\t"
	     "add $0x108003, %eax\n\t mov %rax, 0x101ff8(, %rcx, 8)\n\t"
	     "dec %ecx\n\t jnz 2b\n\t"
	     "mov %cr3, %rax\n\t mov %rax, %cr3\n\t"
	     "mov $512, %ecx\n\t"
	     "3: mov %ecx, %eax\n\t shl $12, %rax\n\t mov 0x3ffff000(%rax), %rdx\n\t"
	     "lea (%rcx, %r8), %eax\n\t and $7, %eax\n\t cmp %rax, %rdx\n\t jne 4f\n\t"
	     "sub $64, %ecx\n\t jnz 3b\n\t"
	     "test $255, %r8b\n\t jnz 5f\n\t out %al, $0x80\n\t"
	     "5: dec %r8d\n\t jnz 1b\n\t"
	     "4: hlt");

static struct box box;

static void map_table(void)
{
	u64 i, *memory = (u64 *)box_add_memory(&box, 1, 0x100000, 16 * PAGE_SIZE, 0);

	/* The second GByte: a page directory behind the page table. */
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = (TABLE + PAGE_SIZE) | PTE_P | PTE_RW;
	memory[(TABLE + PAGE_SIZE - 0x100000) / 8] = TABLE | PTE_P | PTE_RW;
	for (i = 0; i < 8; i++)
		memory[(DATA - 0x100000 + i * PAGE_SIZE) / 8] = i;
}

CASE(a_million_changes, PROVES("paging:tlb.cr3.same"), NEEDS(VMX))
{
	u64 left = 0, tables = 0, stops = 0;

	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_shadow, POOL, &changes_guest);
	map_table();
	while (box_run(&box) == KVM_EXIT_IO) {
		/* The first stop is warm: from then on nothing may become less. */
		if (!stops++) {
			left = box.vm.pool.left;
			tables = shadow_of(&box.vm)->tables;
		}
		REQUIRE_EQ(box.vm.pool.left, left);
		REQUIRE_EQ(shadow_of(&box.vm)->tables, tables);
		tap_comment("%lu entries to go", (unsigned long)box_regs(&box).r8 * 512);
	}
	EXPECT_EXIT(box.vcpu.run->exit_reason, KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).r8, 0);
	EXPECT_EQ(stops, ROUNDS / 256);
	EXPECT_EQ(shadow_of(&box.vm)->reclaimed, 0);
}

/* --- ten thousand VMs from one pool ----------------------------------------------------------- */

/* The counter is in a slot of its own, whose log says so. */
BOX_GUEST_32(short_guest, "incl 0x1c000\n\t hlt");

#define COUNTER_SLOT	BOX_SIZE
#define COUNTER		0xc000
#define MOST_VCPUS	3
#define VM_PAGES	32		/* beyond what the MMU wants for itself */

struct lives {
	const struct hv_mmu *mmu;
	struct hv_pool pool;		/* never made anew */
	u8 *code, *counter;
	u64 left[MOST_VCPUS];		/* of the VM's pages when it has run, by its kind */
	u32 runs;
};

static struct hv_vcpu vcpus[MOST_VCPUS];

static void add_slot(u32 slot, u64 gpa, const u8 *memory, u32 flags)
{
	const struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = BOX_SIZE, .flags = flags,
		.userspace_addr = physical(memory) };

	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
}

/* In protected mode without paging. */
static void run_vcpu(struct hv_vcpu *vcpu)
{
	const struct kvm_segment data = { .limit = 0xffffffff, .type = 3, .present = 1, .s = 1,
					  .g = 1, .db = 1 };
	const struct kvm_regs regs = { .rip = BOX_CODE, .rflags = RFLAGS_FIXED };
	struct kvm_sregs sregs;

	hv_vcpu_get_sregs(vcpu, &sregs);
	sregs.ss = sregs.ds = sregs.es = sregs.cs = data;
	sregs.cs.type = 11;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	REQUIRE_EQ(hv_vcpu_set_sregs(vcpu, &sregs), 0);
	REQUIRE_EQ(hv_vcpu_set_regs(vcpu, &regs), 0);
	REQUIRE_EQ(hv_vcpu_run(vcpu), 0);
	REQUIRE_EXIT(vcpu->run->exit_reason, KVM_EXIT_HLT);
}

/* One to three vCPUs, of which every second VM destroys one itself; all kinds of slots; a log. */
static void live_once(struct lives *lives, u32 number)
{
	u32 kind = number % MOST_VCPUS, i;
	u64 bitmap = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bitmap };

	REQUIRE_EQ(hv_vm_create(&box.vm, lives->mmu, &lives->pool,
				lives->mmu->min_pages + VM_PAGES), 0);
	add_slot(0, 0, lives->code, KVM_MEM_READONLY);
	add_slot(1, COUNTER_SLOT, lives->counter, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i <= kind; i++) {
		REQUIRE_EQ(hv_vcpu_create(&box.vm, &vcpus[i], i), 0);
		run_vcpu(&vcpus[i]);
		lives->runs++;
	}
	REQUIRE_EQ(hv_vm_get_dirty_log(&box.vm, &log), 0);
	REQUIRE_EQ(bitmap, BIT(COUNTER / PAGE_SIZE));
	if (!lives->left[kind])
		lives->left[kind] = box.vm.pool.left;
	REQUIRE_EQ(box.vm.pool.left, lives->left[kind]);
	if (number & 1)
		hv_vcpu_destroy(&vcpus[0]);
	hv_vm_destroy(&box.vm);
}

static void ten_thousand_vms(const struct case_def *this_case)
{
	struct lives lives = { .mmu = this_case->row };
	u64 pages = lives.mmu->min_pages + VM_PAGES + 1;
	u32 i;

	hv_start(page_alloc());
	hv_pool_init(&lives.pool, pages_alloc(pages * PAGE_SIZE, PAGE_SIZE), pages * PAGE_SIZE);
	lives.code = pages_alloc(BOX_SIZE, PAGE_SIZE);
	lives.counter = pages_alloc(BOX_SIZE, PAGE_SIZE);
	memcpy(lives.code + BOX_CODE, short_guest.start, short_guest.end - short_guest.start);
	for (i = 0; i < VMS; i++) {
		live_once(&lives, i);
		REQUIRE_EQ(lives.pool.left, pages);
		if (i % 100 == 99)
			tap_comment("%u of %u VMs", i + 1, VMS);
	}
	EXPECT_EQ(*(u32 *)(lives.counter + COUNTER), lives.runs);
}

CASE_RUN(ten_thousand_vms, ten_thousand_vms, PROVES("kvm-ioctls:mem.ok"), NEEDS(VMX),
	 ROW(&hv_mmu_shadow));
CASE_RUN(ten_thousand_vms_with_ept, ten_thousand_vms, PROVES("kvm-ioctls:mem.ok"),
	 NEEDS(BOX_NEEDS), ROW(&hv_mmu_ept));

/* --- thousands of mappings of one page -------------------------------------------------------- */

/*
 * What an entry costs must not depend on how many others map the same page, or a guest holds the
 * core for as long as it likes. So the same is done with few and with many, and the cost of each
 * compared: in instructions or cycles, whatever the time-stamp counter counts.
 */
#define FEW		1		/* page tables with 512 entries each */
#define MANY		16
#define MOST_DEARER	4		/* with MANY; what grows with their number: 16 times */
#define WRITES		16
#define ALIASED	0x103000	/* the first page table; the page directory is before it */

/* RSI tables are read through, each up to an OUT; then all translations are invalidated. */
#define READ_TABLES							\
	"mov $0x40000000, %eax\n\t"					\
	"1: mov $512, %ecx\n\t"						\
	"2: mov (%rax), %edx\n\t add $4096, %rax\n\t dec %ecx\n\t jnz 2b\n\t"	\
	"out %al, $0x80\n\t dec %esi\n\t jnz 1b\n\t"

BOX_GUEST_64(read_guest, READ_TABLES "mov %cr3, %rax\n\t mov %rax, %cr3\n\t hlt");
/* The same, but that the page is a page table, which is written to. */
BOX_GUEST_64(write_guest,
	     READ_TABLES
	     "mov $" STRINGIFY(WRITES) ", %ecx\n\t"
	     "3: lock orl $0, 0x103000\n\t invlpg (%rax)\n\t dec %ecx\n\t jnz 3b\n\t hlt");

/* The second GByte: all pages are the first page table. Up to the last OUT. */
static u64 *map_aliases(const struct box_guest *guest, u32 tables)
{
	struct kvm_regs regs;
	u64 i, *memory;

	box_start_on(&box, &hv_mmu_shadow, POOL, guest);
	memory = (u64 *)box_add_memory(&box, 1, 0x100000, 32 * PAGE_SIZE, 0);
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = (ALIASED - PAGE_SIZE) | PTE_P | PTE_RW;
	memory += (ALIASED - 0x100000) / 8;
	for (i = 0; i < tables; i++)
		memory[i - 512] = (ALIASED + i * PAGE_SIZE) | PTE_P | PTE_RW;
	for (i = 0; i < tables * 512; i++)
		memory[i] = ALIASED | PTE_P | PTE_RW;
	regs = box_regs(&box);
	regs.rsi = tables;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	for (i = 1; i <= tables; i++) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		if (!(i % 4))
			tap_comment("%u of %u page tables in use", (u32)i, tables);
	}
	return memory;
}

/* User space clears them all, and the guest loads CR3. */
static u64 cost_of_clearing(u32 tables)
{
	u64 *entries = map_aliases(&read_guest, tables), start;

	memset(entries, 0, tables * PAGE_SIZE);
	start = rdtsc();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	return (rdtsc() - start) / tables;
}

static u64 cost_of_destroying(u32 tables)
{
	u64 start;

	map_aliases(&read_guest, tables);
	start = rdtsc();
	hv_vm_destroy(&box.vm);
	return (rdtsc() - start) / tables;
}

/* The page is a table, and each of its mappings may be the one that writes to it. */
static u64 cost_of_guarding(u32 tables)
{
	u64 start;

	map_aliases(&write_guest, tables);
	start = rdtsc();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	return rdtsc() - start;
}

static void mappings_of_one_page(const struct case_def *this_case)
{
	u64 (*const cost)(u32) = this_case->row;
	u64 few, many;

	hv_start(page_alloc());
	few = cost(FEW);
	many = cost(MANY);
	tap_comment("%lu with %u mappings, %lu with %u", (unsigned long)few, FEW * 512,
		    (unsigned long)many, MANY * 512);
	EXPECT_TRUE(many <= MOST_DEARER * few);
}

#define ALIASES_CASE(id, body)								\
	CASE_RUN(id, mappings_of_one_page, PROVES("paging:tlb.cr3.same"), NEEDS(VMX), ROW(body))

ALIASES_CASE(clearing_many_mappings_of_a_page, cost_of_clearing);
ALIASES_CASE(destroying_many_mappings_of_a_page, cost_of_destroying);
ALIASES_CASE(guarding_a_table_of_many_mappings, cost_of_guarding);
