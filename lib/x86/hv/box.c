#include "hv/box.h"
#include "cpu/features.h"
#include "mmu/build.h"
#include "string.h"

#define HANDLER_SIZE	8
#define HANDLER_END	3	/* RIP behind the HLT */
#define MOST_SLICES	1000

union table {
	struct kvm_cpuid2 table;
	u8 room[sizeof(struct kvm_cpuid2) + HV_MAX_CPUID * sizeof(struct kvm_cpuid_entry2)];
};

/* The handler of vector n: MOV AL, n; HLT; IRETQ, which other modes read as DEC (E)AX; IRET. */
static void write_handlers(struct box *box)
{
	u32 i;

	for (i = 0; i < 256; i++) {
		const u8 code[HANDLER_SIZE] = { 0xb0, i, 0xf4, 0x48, 0xcf };

		memcpy(box->memory + BOX_HANDLERS + i * HANDLER_SIZE, code, sizeof(code));
	}
}

static void write_idt(struct box *box, u32 bits)
{
	const u64 gate = 0x8e0000000000;	/* present, interrupt gate, DPL 0 */
	u32 i, address;

	for (i = 0; i < 256; i++) {
		address = BOX_HANDLERS + i * HANDLER_SIZE;
		if (bits == 16)
			((u32 *)box->memory)[i] = address;
		else if (bits == 32)
			box_at(box, BOX_IDT)[i] = address | SELECTOR_CODE32 << 16 | gate;
		else
			box_at(box, BOX_IDT)[2 * i] = address | SELECTOR_CODE64 << 16 | gate;
	}
}

static void write_tables(struct box *box)
{
	const u64 flags = PTE_P | PTE_RW | PTE_US;
	u64 i;

	*box_at(box, BOX_TABLES) = (BOX_TABLES + PAGE_SIZE) | flags;
	*box_at(box, BOX_TABLES + PAGE_SIZE) = (BOX_TABLES + 2 * PAGE_SIZE) | flags;
	for (i = 0; i < 512; i++)
		box_at(box, BOX_TABLES + 2 * PAGE_SIZE)[i] =
			i * level_size(LEVEL_PDE) | flags | PTE_PS;
}

static void set_segments(struct kvm_sregs *sregs, u32 bits)
{
	struct kvm_segment code = { .limit = 0xffff, .type = 11, .present = 1, .s = 1 };
	struct kvm_segment data = { .limit = 0xffff, .type = 3, .present = 1, .s = 1 };

	if (bits != 16) {
		code.limit = data.limit = 0xffffffff;
		code.g = data.g = data.db = 1;
		code.l = bits == 64;
		code.db = bits == 32;
		code.selector = bits == 64 ? SELECTOR_CODE64 : SELECTOR_CODE32;
		data.selector = SELECTOR_DATA;
		sregs->gdt = (struct kvm_dtable){ .base = BOX_GDT, .limit = GDT_SIZE - 1 };
		sregs->idt = (struct kvm_dtable){ .base = BOX_IDT, .limit = 0xfff };
	}
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
}

static void set_state(struct box *box, u32 bits)
{
	const struct kvm_regs regs = { .rip = BOX_CODE, .rsp = BOX_STACK, .rflags = RFLAGS_FIXED };
	struct kvm_sregs sregs = box_sregs(box);

	set_segments(&sregs, bits);
	sregs.cr0 = CR0_ET | CR0_NE | (bits > 16 ? CR0_PE : 0) | (bits == 64 ? CR0_PG : 0);
	if (bits == 64) {
		sregs.cr3 = BOX_TABLES;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	REQUIRE_EQ(hv_vcpu_set_sregs(&box->vcpu, &sregs), 0);
	REQUIRE_EQ(hv_vcpu_set_regs(&box->vcpu, &regs), 0);
}

static void set_default_cpuid(struct box *box)
{
	static const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 7,
		  .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
		/* FPU VME DE PSE TSC MSR PAE MCE CX8 PGE CMOV PAT FXSR SSE SSE2; a hypervisor */
		{ .function = 1, .eax = 0x600, .ecx = 1u << 31, .edx = 0x0701a1ff },
		{ .function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
		{ .function = 0x80000000, .eax = 0x80000008 },
		/* SYSCALL, NX, 64-bit mode */
		{ .function = 0x80000001, .edx = 0x20100800 },
		{ .function = 0x80000008, .eax = 0x3028 },
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(entries); i++)
		box_set_cpuid(box, entries[i]);
}

void box_set_cpuid(struct box *box, struct kvm_cpuid_entry2 entry)
{
	union table own = { .table.nent = box->vcpu.cpuid_count };
	struct kvm_cpuid_entry2 *entries = own.table.entries;
	u32 i;

	memcpy(entries, box->vcpu.cpuid, own.table.nent * sizeof(entries[0]));
	for (i = 0; i < own.table.nent; i++)
		if (entries[i].function == entry.function && entries[i].index == entry.index)
			break;
	entries[i] = entry;
	if (i == own.table.nent)
		own.table.nent++;
	REQUIRE_EQ(hv_vcpu_set_cpuid(&box->vcpu, &own.table), 0);
}

void box_add_vcpu(struct box *box, struct hv_vcpu *vcpu, u32 id)
{
	struct kvm_sregs first = box_sregs(box), sregs;
	union table table = { .table.nent = box->vcpu.cpuid_count };

	memcpy(table.table.entries, box->vcpu.cpuid,
	       table.table.nent * sizeof(table.table.entries[0]));
	REQUIRE_EQ(hv_vcpu_create(&box->vm, vcpu, id), 0);
	REQUIRE_EQ(hv_vcpu_set_cpuid(vcpu, &table.table), 0);
	hv_vcpu_get_sregs(vcpu, &sregs);
	first.apic_base = sregs.apic_base;
	REQUIRE_EQ(hv_vcpu_set_sregs(vcpu, &first), 0);
}

static void add_slot(struct box *box, u32 slot, u64 gpa, u64 size, u32 flags, const u8 *memory)
{
	const struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = physical(memory),
	};

	REQUIRE_EQ(hv_vm_set_memory(&box->vm, &region), 0);
}

u8 *box_add_memory(struct box *box, u32 slot, u64 gpa, u64 size, u32 flags)
{
	u8 *memory = pages_alloc(size, PAGE_SIZE);

	add_slot(box, slot, gpa, size, flags, memory);
	return memory;
}

void box_make(struct box *box, const struct hv_mmu *mmu, bool apic, const struct box_guest *guest)
{
	REQUIRE_EQ(hv_vm_create(&box->vm, mmu, &box->pool, box->pool.left), 0);
	if (apic)
		REQUIRE_EQ(hv_vm_create_irqchip(&box->vm), 0);
	add_slot(box, BOX_SLOT, 0, BOX_SIZE, 0, box->memory);
	REQUIRE_EQ(hv_vcpu_create(&box->vm, &box->vcpu, 0), 0);
	set_default_cpuid(box);
	write_handlers(box);
	write_idt(box, guest->bits);
	write_tables(box);
	memcpy(box->memory + BOX_GDT, this_cpu()->gdt, GDT_SIZE);
	memcpy(box->memory + BOX_CODE, guest->start, guest->end - guest->start);
	set_state(box, guest->bits);
}

static void start(struct box *box, const struct hv_mmu *mmu, u32 pages, bool apic,
		  const struct box_guest *guest)
{
	u64 size = pages * PAGE_SIZE;

	hv_pool_init(&box->pool, pages_alloc(size, PAGE_SIZE), size);
	box->memory = pages_alloc(BOX_SIZE, PAGE_SIZE);
	box_make(box, mmu, apic, guest);
}

void box_start_on(struct box *box, const struct hv_mmu *mmu, u32 pages,
		  const struct box_guest *guest)
{
	start(box, mmu, pages, false, guest);
}

void box_start(struct box *box, const struct box_guest *guest)
{
	hv_start(page_alloc());
	start(box, &hv_mmu_ept, BOX_POOL, false, guest);
}

void box_start_with_apic(struct box *box, const struct box_guest *guest)
{
	hv_start(page_alloc());
	start(box, &hv_mmu_ept, BOX_POOL, true, guest);
}

void box_start_paging_32(struct box *box, struct kvm_sregs *sregs)
{
	u32 *directory = (u32 *)(box->memory + BOX_TABLES), *table = directory + 1024, i;

	memset(directory, 0, 2 * PAGE_SIZE);
	directory[0] = (BOX_TABLES + PAGE_SIZE) | PTE_P | PTE_RW;
	directory[1023] = 0xffc00000 | PTE_P | PTE_RW | PTE_PS;
	for (i = 1; i < BOX_SIZE / PAGE_SIZE; i++)
		table[i] = i * PAGE_SIZE | PTE_P | PTE_RW;
	sregs->cr3 = BOX_TABLES;
	sregs->cr4 |= CR4_PSE;
	sregs->cr0 |= CR0_PG;
}

int box_enable(struct box *box, u32 cap, u64 argument)
{
	const struct kvm_enable_cap enable = { .cap = cap, .args = { argument } };

	return hv_vm_enable_cap(&box->vm, &enable);
}

u32 box_run(struct box *box)
{
	REQUIRE_EQ(hv_vcpu_run(&box->vcpu), 0);
	return box->vcpu.run->exit_reason;
}

void box_run_to_halt(struct box *box)
{
	struct kvm_mp_state state;
	u32 runs = 0;

	do {
		REQUIRE_EXIT(box_run(box), KVM_EXIT_INTR);
		hv_vcpu_get_mp_state(&box->vcpu, &state);
		REQUIRE_TRUE(++runs < MOST_SLICES);
	} while (state.mp_state != KVM_MP_STATE_HALTED);
}

struct kvm_regs box_regs(struct box *box)
{
	struct kvm_regs regs;

	hv_vcpu_get_regs(&box->vcpu, &regs);
	return regs;
}

struct kvm_sregs box_sregs(struct box *box)
{
	struct kvm_sregs sregs;

	hv_vcpu_get_sregs(&box->vcpu, &sregs);
	return sregs;
}

static const char *exit_words(char *to, size_t size, u32 reason)
{
	const char *name = kvm_exit_name(reason);

	format(to, size, name ? "%s (%u)" : "exit %s%u", name ? name : "", reason);
	return to;
}

bool box_expect_exit(const char *file, u32 line, const char *what, u32 got, u32 want)
{
	char got_words[60], want_words[60];

	if (got == want)
		return true;
	case_fail(file, line, what, exit_words(want_words, sizeof(want_words), want),
		  exit_words(got_words, sizeof(got_words), got));
	return false;
}

bool box_expect_vector(const char *file, u32 line, struct box *box, u8 vector)
{
	struct kvm_regs regs;
	char want[40], got[40];

	if (!box_expect_exit(file, line, "the guest runs into a handler", box_run(box),
			     KVM_EXIT_HLT))
		return false;
	regs = box_regs(box);
	if (regs.rip == (u64)BOX_HANDLERS + vector * HANDLER_SIZE + HANDLER_END)
		return true;
	format(want, sizeof(want), "the handler of vector %u", vector);
	format(got, sizeof(got), "RIP %#llx", regs.rip);
	case_fail(file, line, "where the guest is", want, got);
	return false;
}
