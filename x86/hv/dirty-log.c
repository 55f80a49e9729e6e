/*
 * The core: the dirty log, KVM_GET_DIRTY_LOG.
 *
 * While a slot has KVM_MEM_LOG_DIRTY_PAGES the core notes which of its pages are written, and user
 * space reads and empties that log from time to time. Three ways lead there: with EPT a page is
 * write-protected until it has been noted; or the processor itself notes the pages whose dirty flag
 * it sets, in a list of 512 that the core empties (31.3.6 Page-Modification Logging); with shadow
 * paging the shadow tables are write-protected. Each case here is made in each way, and each wants
 * the same: every page that was written since the log was last read, and no other.
 */
#include "hv/box.h"
#include "hv/guest_memory.h"
#include "string.h"

#define POOL		300		/* pages of the VM */
#define SLOT		1		/* logged ... */
#define START		0x400000	/* ... where a page of 2 MBytes could be */
#define PAGES		1100		/* that SLOT has at most */
#define OTHER_SLOT	2
#define OTHER_START	0xa00000
#define SCRIPT		BOX_DATA	/* what the guest is to access: addresses of 4 bytes */
#define SCRIPT_ENTRIES	((BOX_SIZE - SCRIPT) / 4)
#define READ		1		/* in an address: do not write there */

static struct box box;
static u32 *script;			/* the next entry to fill in */

static const struct way {
	const struct hv_mmu *mmu;
	bool pml;
} by_pml = { &hv_mmu_ept, true }, by_write_protection = { &hv_mmu_ept_write_protect, false },
  with_shadow_paging = { &hv_mmu_shadow, false };

#define BY_PML(id, function, ...)							\
	CASE_RUN(id##_by_pml, function,							\
		 PROVES("kvm-ioctls:dirty.content", "ept:pml.log", ##__VA_ARGS__),	\
		 NEEDS(BOX_NEEDS_PML), ROW(&by_pml))
#define EACH_WAY(id, function, ...)							\
	BY_PML(id, function, ##__VA_ARGS__);						\
	CASE_RUN(id##_by_write_protection, function, PROVES("kvm-ioctls:dirty.content"),	\
		 NEEDS(BOX_NEEDS), ROW(&by_write_protection));				\
	CASE_RUN(id##_with_shadow_paging, function, PROVES("kvm-ioctls:dirty.content"),	\
		 NEEDS(VMX), ROW(&with_shadow_paging))

/* Adds 1 to the quadword at each address of the script, of RCX entries from RSI; or reads it. */
BOX_GUEST_64(script_guest,
	     "1: lodsl\n\t btr $0, %eax\n\t jc 2f\n\t incq (%rax)\n\t jmp 3f\n\t"
	     "2: mov (%rax), %rbx\n\t 3: dec %ecx\n\t jnz 1b\n\t hlt");

static u64 page_address(u32 page)
{
	return START + page * PAGE_SIZE;
}

static u64 *memory_at(u64 gpa)
{
	return (u64 *)hv_memory(&box.vm, gpa, 8, false);
}

/* --- scripts ------------------------------------------------------------------------------ */

static void add(u64 address)
{
	*script++ = address;
}

static void run_script_on(struct hv_vcpu *vcpu)
{
	const struct kvm_regs regs = {
		.rip = BOX_CODE, .rsp = BOX_STACK, .rflags = RFLAGS_FIXED, .rsi = SCRIPT,
		.rcx = script - (u32 *)box_at(&box, SCRIPT) };

	hv_vcpu_set_regs(vcpu, &regs);
	REQUIRE_EQ(hv_vcpu_run(vcpu), 0);
	REQUIRE_EXIT(vcpu->run->exit_reason, KVM_EXIT_HLT);
	script = (u32 *)box_at(&box, SCRIPT);
}

static void run_script(void)
{
	run_script_on(&box.vcpu);
}

static void write_pages(u32 first, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		add(page_address(first + i));
	run_script();
}

/* So that nothing but the writes is left to be made possible. */
static void read_pages(u32 first, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		add(page_address(first + i) | READ);
	run_script();
}

static void set_code(const struct box_guest *guest)
{
	memcpy(box.memory + BOX_CODE, guest->start, guest->end - guest->start);
}

static void start(const struct case_def *this_case, u32 pages)
{
	const struct way *way = this_case->row;

	hv_start(page_alloc());
	box_start_on(&box, way->mmu, POOL, &script_guest);
	script = (u32 *)box_at(&box, SCRIPT);
	if (pages)
		box_add_memory(&box, SLOT, START, pages * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
}

/* --- logs --------------------------------------------------------------------------------- */

struct pages {
	u64 bits[(PAGES + 63) / 64];
};

static void set_page(struct pages *pages, u32 page)
{
	pages->bits[page / 64] |= BIT(page % 64);
}

static struct pages range(u32 first, u32 count)
{
	struct pages pages = { 0 };

	while (count--)
		set_page(&pages, first + count);
	return pages;
}

static struct pages read_log(u32 slot)
{
	struct pages pages = { 0 };
	const struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = pages.bits };

	REQUIRE_EQ(hv_vm_get_dirty_log(&box.vm, &log), 0);
	return pages;
}

static void expect_log(const char *file, u32 line, u32 slot, struct pages want)
{
	struct pages got = read_log(slot);
	char what[40], wanted[24], was[24];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(got.bits); i++) {
		if (got.bits[i] == want.bits[i])
			continue;
		format(what, sizeof(what), "log of slot %u from page %u on", slot, i * 64);
		format(wanted, sizeof(wanted), "%#lx", want.bits[i]);
		format(was, sizeof(was), "%#lx", got.bits[i]);
		case_fail(file, line, what, wanted, was);
	}
}

#define EXPECT_LOG(slot, pages)	expect_log(__FILE__, __LINE__, slot, pages)
#define NO_PAGES		((struct pages){ 0 })

/* --- cases --------------------------------------------------------------------------------- */

static void written_pages(const struct case_def *this_case)
{
	start(this_case, 4);
	box_add_memory(&box, OTHER_SLOT, OTHER_START, 4 * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	EXPECT_LOG(SLOT, NO_PAGES);
	add(page_address(1));
	add(page_address(2) | READ);
	add(page_address(3) | READ);
	add(page_address(3));
	add(OTHER_START + PAGE_SIZE - 8);
	run_script();
	EXPECT_LOG(SLOT, ((struct pages){ { BIT(1) | BIT(3) } }));
	EXPECT_LOG(SLOT, NO_PAGES);
	/* The other slot has a log of its own. */
	EXPECT_LOG(OTHER_SLOT, range(0, 1));
	/* Anew, and what has been read only so far. */
	write_pages(2, 2);
	EXPECT_LOG(SLOT, range(2, 2));
	EXPECT_LOG(OTHER_SLOT, NO_PAGES);
	EXPECT_EQ(*memory_at(page_address(3)), 2);
}
EACH_WAY(written_pages, written_pages, "ept:pml.no_log_if_dirty");

/* More pages than the processor's list has room for. */
static void many_pages(const struct case_def *this_case)
{
	struct pages want = range(7, 600);
	u32 i;

	start(this_case, PAGES);
	write_pages(0, PAGES);
	EXPECT_LOG(SLOT, range(0, PAGES));
	write_pages(7, 600);
	write_pages(900, 200);
	for (i = 0; i < 64; i++)
		add(page_address(650 + i) | READ);
	run_script();
	write_pages(300, 10);
	for (i = 900; i < PAGES; i++)
		set_page(&want, i);
	EXPECT_LOG(SLOT, want);
	EXPECT_LOG(SLOT, NO_PAGES);
}
EACH_WAY(many_pages, many_pages, "ept:pml.full", "ept:pml.wrap");

static u32 count_exits(const struct hv_trace *trace, u16 reason)
{
	u32 i, count = 0;

	for (i = 0; i < trace->count && i < HV_TRACE_ENTRIES; i++)
		count += trace->entry[i].reason == reason;
	return count;
}

/* Pages that are mapped cost no exit of their own: two full lists, and 76 pages in the third. */
static void full_list_exits(const struct case_def *this_case)
{
	static struct hv_trace trace;

	start(this_case, PAGES);
	read_pages(0, PAGES);
	EXPECT_LOG(SLOT, NO_PAGES);
	trace.count = 0;
	box.vcpu.trace = &trace;
	write_pages(0, PAGES);
	EXPECT_EQ(count_exits(&trace, EXIT_PAGE_MODIFICATION_LOG_FULL), 2);
	EXPECT_EQ(trace.count, 3);
	EXPECT_LOG(SLOT, range(0, PAGES));
}
BY_PML(full_list_exits, full_list_exits, "ept:pml.full", "exit-reasons:62");

/*
 * Where the list is full when an interrupt is delivered: its frame is pushed on a page that is not
 * dirty yet. Nothing of the delivery may get lost, nor made twice. An INT n would be executed once
 * more; an interrupt from outside nobody repeats.
 */
#define FILL_THE_LIST	"1: lodsl\n\t incq (%rax)\n\t dec %ecx\n\t jnz 1b\n\t"
#define INTERRUPT	0x40

BOX_GUEST_64(int_guest, FILL_THE_LIST "int $0x40\n\t hlt");
BOX_GUEST_64(open_guest, FILL_THE_LIST "sti\n\t nop\n\t hlt");

static void start_delivery(const struct case_def *this_case, const struct box_guest *guest,
			   u64 stack)
{
	u32 i;

	start(this_case, 701);
	read_pages(0, 701);
	set_code(guest);
	for (i = 0; i < 512; i++)
		add(page_address(i));
	hv_vcpu_set_regs(&box.vcpu, &(struct kvm_regs){
		.rip = BOX_CODE, .rsp = stack, .rflags = RFLAGS_FIXED, .rsi = SCRIPT, .rcx = 512 });
}

/* It comes before the HLT that ends `guest`. */
static void expect_delivery(const struct box_guest *guest, u64 stack)
{
	struct pages want = range(0, 512);
	u64 *frame = memory_at(stack - 40);

	EXPECT_VECTOR(&box, INTERRUPT);
	EXPECT_EQ(box_regs(&box).rsp, stack - 40);
	EXPECT_EQ(frame[0], BOX_CODE + (guest->end - guest->start) - 1);
	EXPECT_EQ(frame[3], stack);
	set_page(&want, 699);
	EXPECT_LOG(SLOT, want);
}

static void delivery(const struct case_def *this_case)
{
	start_delivery(this_case, &int_guest, page_address(700));
	expect_delivery(&int_guest, page_address(700));
}
EACH_WAY(delivery_with_a_full_list, delivery, "ept:pml.full");

static void interrupt(const struct case_def *this_case)
{
	const struct kvm_interrupt irq = { .irq = INTERRUPT };

	start_delivery(this_case, &open_guest, page_address(700));
	REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &irq), 0);
	expect_delivery(&open_guest, page_address(700));
}
EACH_WAY(interrupt_with_a_full_list, interrupt, "ept:pml.full");

/* Logging splits a large page; without it there is one again. */
static void large_page(const struct case_def *this_case)
{
	const struct way *way = this_case->row;
	struct kvm_userspace_memory_region region = {
		.slot = SLOT, .guest_phys_addr = START, .memory_size = 512 * PAGE_SIZE,
		.userspace_addr = physical(pages_alloc(512 * PAGE_SIZE, 512 * PAGE_SIZE)) };
	struct pages want = range(0, 1);
	u64 fills;

	start(this_case, 0);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	write_pages(0, 512);
	region.flags = KVM_MEM_LOG_DIRTY_PAGES;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	/* What was written before is not in it. */
	EXPECT_LOG(SLOT, NO_PAGES);
	add(page_address(0));
	add(page_address(1) | READ);
	add(page_address(511));
	run_script();
	set_page(&want, 511);
	EXPECT_LOG(SLOT, want);
	region.flags = 0;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	fills = box.vm.fills;
	write_pages(0, 512);
	if (way->mmu != &hv_mmu_shadow)
		EXPECT_EQ(box.vm.fills, fills + 1);
	EXPECT_EQ(*memory_at(page_address(511)), 3);
	/* And again logged: nothing is left of the first time. */
	region.flags = KVM_MEM_LOG_DIRTY_PAGES;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	write_pages(5, 1);
	EXPECT_LOG(SLOT, range(5, 1));
}
EACH_WAY(large_page, large_page);

/* What the core writes for the guest, here by INS. */
BOX_GUEST_64(ins_guest, "mov $0x402000, %edi\n\t mov $0x60, %dx\n\t insb\n\t hlt");

static void ins_by_the_core(const struct case_def *this_case)
{
	start(this_case, 4);
	set_code(&ins_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_LOG(SLOT, range(2, 1));
	EXPECT_LOG(SLOT, NO_PAGES);
}
EACH_WAY(ins_by_the_core, ins_by_the_core);

/*
 * Accessed flags that the processor sets are writes to the guest's tables. With accessed and dirty
 * flags for EPT each use of a table counts as one (31.3.5), so later logs may have the tables
 * again.
 */
static void tables_of_the_guest(const struct case_def *this_case)
{
	const u64 tables = BIT(1) | BIT(2) | BIT(3), data = BIT(BOX_SIZE / PAGE_SIZE - 1);
	struct kvm_userspace_memory_region region;
	struct pages got;

	start(this_case, 0);
	region = box.vm.slots[BOX_SLOT].region;
	region.flags = KVM_MEM_LOG_DIRTY_PAGES;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	add(BOX_SIZE - 8);
	run_script();
	EXPECT_LOG(BOX_SLOT, ((struct pages){ { tables | data } }));
	add(BOX_SIZE - 8);
	run_script();
	got = read_log(BOX_SLOT);
	EXPECT_EQ(got.bits[0] & ~tables, data);
}
EACH_WAY(tables_of_the_guest, tables_of_the_guest);

/* Each vCPU has a list of its own; the log is the VM's. */
static void two_vcpus(const struct case_def *this_case)
{
	static struct hv_vcpu second;

	start(this_case, 16);
	box_add_vcpu(&box, &second, 1);
	write_pages(1, 2);
	add(page_address(2));
	add(page_address(4));
	run_script_on(&second);
	EXPECT_LOG(SLOT, ((struct pages){ { BIT(1) | BIT(2) | BIT(4) } }));
	add(page_address(9));
	run_script_on(&second);
	EXPECT_LOG(SLOT, range(9, 1));
	write_pages(9, 1);
	EXPECT_LOG(SLOT, range(9, 1));
	EXPECT_EQ(*memory_at(page_address(9)), 2);
}
EACH_WAY(two_vcpus, two_vcpus);

/*
 * A paging structure in a read-only slot: processors use it as if they wrote to it, as soon as EPT
 * has accessed and dirty flags, which page-modification logging needs (31.3.5). The guest must see
 * nothing of that, and no page may be missing in the log that was written before it came to this.
 */
BOX_GUEST_64(read_only_tables_guest,
	     "incq (%rdi)\n\t mov %rdx, %cr3\n\t incq (%rsi)\n\t mov (%rcx), %rax\n\t"
	     "hlt");

#define ROM		0x20000

static void read_only_tables(const struct case_def *this_case)
{
	const u64 flags = PTE_P | PTE_RW | PTE_US | PTE_A;
	u64 *rom, i;

	start(this_case, 8);
	set_code(&read_only_tables_guest);
	rom = (u64 *)box_add_memory(&box, OTHER_SLOT, ROM, 3 * PAGE_SIZE, KVM_MEM_READONLY);
	rom[0] = (ROM + PAGE_SIZE) | flags;
	rom[512] = (ROM + 2 * PAGE_SIZE) | flags;
	for (i = 0; i < 512; i++)
		rom[1024 + i] = i * level_size(LEVEL_PDE) | flags | PTE_D | PTE_PS;
	*memory_at(page_address(5)) = 0x1234;
	hv_vcpu_set_regs(&box.vcpu, &(struct kvm_regs){
		.rip = BOX_CODE, .rsp = BOX_STACK, .rflags = RFLAGS_FIXED, .rdi = page_address(1),
		.rdx = ROM, .rsi = page_address(3), .rcx = page_address(5) });
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x1234);
	EXPECT_LOG(SLOT, ((struct pages){ { BIT(1) | BIT(3) } }));
	set_code(&script_guest);
	write_pages(3, 2);
	EXPECT_LOG(SLOT, range(3, 2));
	EXPECT_EQ(*memory_at(page_address(3)), 2);
}
EACH_WAY(read_only_tables, read_only_tables, "ept:ad.dirty_for_paging");

/* --- in the way that the processor has ------------------------------------------------------- */

#define PORT_STOP	"out %al, $0x80\n\t"

BOX_GUEST_64(dirty_guest,
	     "mov $0x400000, %ebx\n\t mov 0x3000(%rbx), %al\n\t mov %al, 0x1000(%rbx)\n\t" PORT_STOP
	     "mov %al, 0x1000(%rbx)\n\t mov %al, 0x3000(%rbx)\n\t" PORT_STOP
	     "mov $0x402000, %edi\n\t mov $0x60, %dx\n\t insb\n\t hlt");

CASE(dirty_pages_are_logged, PROVES("kvm-ioctls:dirty.content"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &dirty_guest);
	box_add_memory(&box, SLOT, START, 4 * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	EXPECT_LOG(SLOT, NO_PAGES);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_LOG(SLOT, range(1, 1));
	EXPECT_LOG(SLOT, NO_PAGES);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_LOG(SLOT, ((struct pages){ { BIT(1) | BIT(3) } }));
	/* What the core writes for the guest counts as well. */
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_LOG(SLOT, range(2, 1));
}

BOX_GUEST_64(large_guest, PORT_STOP "movq $1, 0x400000\n\t movq $2, 0x5ff000\n\t hlt");

/* Each page by itself, however large the pages of the EPT could be. */
CASE(dirty_pages_of_a_large_slot, PROVES("kvm-ioctls:dirty.content"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region = {
		.slot = SLOT, .guest_phys_addr = START, .memory_size = 512 * PAGE_SIZE,
		.flags = KVM_MEM_LOG_DIRTY_PAGES };
	struct pages want = range(0, 1);

	box_start(&box, &large_guest);
	region.userspace_addr = physical(pages_alloc(512 * PAGE_SIZE, 512 * PAGE_SIZE));
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	set_page(&want, 511);
	EXPECT_LOG(SLOT, want);
}

BOX_GUEST_64(twice_guest,
	     "mov $0x400000, %ebx\n\t movq $7, (%rbx)\n\t" PORT_STOP "mov (%rbx), %rax\n\t hlt");

CASE(logging_starts_and_stops, PROVES("kvm-ioctls:dirty.content", "kvm-ioctls:dirty.noslot",
				     "kvm-ioctls:dirty.slot"), NEEDS(BOX_NEEDS))
{
	const struct kvm_dirty_log log = { .slot = SLOT }, beyond = { .slot = HV_MAX_SLOTS };
	struct kvm_userspace_memory_region region = {
		.slot = SLOT, .guest_phys_addr = START, .memory_size = PAGE_SIZE,
		.flags = KVM_MEM_LOG_DIRTY_PAGES };

	box_start(&box, &twice_guest);
	region.userspace_addr = physical(box_add_memory(&box, SLOT, START, PAGE_SIZE, 0));
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &beyond), -EINVAL);
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &log), -ENOENT);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_LOG(SLOT, range(0, 1));
	region.flags = 0;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &log), -ENOENT);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 7);
}

/* --- nothing is lost ------------------------------------------------------------------------- */

#define ROUNDS		60
#define OTHER_PAGES	40

struct model {
	u64 value[PAGES], other_value[OTHER_PAGES];
	struct pages dirty, other_dirty;
};

static u32 any(u32 count)
{
	return case_random() % count;
}

static void add_any_access(struct model *model)
{
	bool other = !any(4), write = any(3);
	u32 page = other ? any(OTHER_PAGES) : any(PAGES);

	add((other ? OTHER_START + page * PAGE_SIZE : page_address(page)) | (write ? 0 : READ));
	if (!write)
		return;
	set_page(other ? &model->other_dirty : &model->dirty, page);
	++*(other ? &model->other_value[page] : &model->value[page]);
}

/* Accesses to any pages of two slots, of which one or the other log is read from time to time. */
static void nothing_is_lost(const struct case_def *this_case)
{
	static struct model model;
	u32 round, i;

	model = (struct model){ 0 };
	start(this_case, PAGES);
	box_add_memory(&box, OTHER_SLOT, OTHER_START, OTHER_PAGES * PAGE_SIZE,
		       KVM_MEM_LOG_DIRTY_PAGES);
	for (round = 0; round < ROUNDS && !case_failed(); round++) {
		for (i = 1 + any(any(2) ? 1200 : 40); i; i--)
			add_any_access(&model);
		run_script();
		if (!any(3)) {
			EXPECT_LOG(SLOT, model.dirty);
			model.dirty = NO_PAGES;
		}
		if (!any(3)) {
			EXPECT_LOG(OTHER_SLOT, model.other_dirty);
			model.other_dirty = NO_PAGES;
		}
	}
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(*memory_at(page_address(i)), model.value[i]);
	for (i = 0; i < OTHER_PAGES; i++)
		EXPECT_EQ(*memory_at(OTHER_START + i * PAGE_SIZE), model.other_value[i]);
}
EACH_WAY(nothing_is_lost, nothing_is_lost, "ept:pml.full");

/*
 * A log that comes and goes: 4-KByte pages while it is there, and a large one, where the processor
 * has them, when it is not. The table of the small ones must come back, or the VM's pages run out.
 */
BOX_GUEST_64(add_and_say_guest, "1: incq 0x400000\n\t out %al, $0x80\n\t jmp 1b");

CASE(log_that_comes_and_goes, PROVES("kvm-ioctls:dirty.content"), NEEDS(BOX_NEEDS))
{
	const u64 size = 0x200000;
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = 0x400000, .memory_size = size,
	};
	u32 round, left = 0;

	box_start(&box, &add_and_say_guest);
	region.userspace_addr = physical(pages_alloc(size, size));
	for (round = 0; round < 40; round++) {
		region.flags = round % 2 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;
		REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		if (round == 1)
			left = box.vm.pool.left;
	}
	EXPECT_EQ(box.vm.pool.left, left);
}
