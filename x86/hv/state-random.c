/*
 * The core with malice: registers, MSRs and events that make no sense.
 *
 * User space fills a vCPU with values at boundaries and at random, and runs it; or the guest
 * itself, at CPL 0 in one of three modes, writes them to control registers, MSRs, descriptor-table
 * registers. What comes of most of them is said elsewhere (vmx/sweep-*, hv/core-*). Here it is
 * enough that each call returns what it may return, that each run ends with an exit to user space,
 * a refused state being one; that no byte outside of the slot changes, and no register of the host;
 * and that the VM gives back all its pages.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "hv/box.h"
#include "string.h"

#define ROUNDS		600		/* VMs of a case */
#define POOL		200		/* pages */
#define RUNS		6		/* of a vCPU, each until it stops */
#define GUARD		PAGE_SIZE	/* on each side of the slot */
#define PATTERN		0xa5

union cpuid_table {
	struct kvm_cpuid2 table;
	u8 room[sizeof(struct kvm_cpuid2) + HV_MAX_CPUID * sizeof(struct kvm_cpuid_entry2)];
};

struct malice {
	const struct hv_mmu *mmu;
	u8 *memory;			/* guard, slot, guard */
	u32 round, refused, failed, stopped;
	union cpuid_table features;	/* all that a guest can have */
};

static struct box box;

/* --- values --------------------------------------------------------------------------------- */

static u64 any(u64 count)
{
	return case_random() % count;
}

static u64 any_value(void)
{
	static const u64 boundaries[] = {
		0, 1, ~0ull, BIT(47) - 1, BIT(47), ~(BIT(47) - 1), ~BIT(47), BIT(56) - 1,
		~(BIT(56) - 1), BITS(31, 0), BIT(32), BIT(31), ~(BIT(31) - 1), BOX_TABLES, BOX_MMIO,
		BOX_SIZE - 1, 0xffff, 0xfee00000, 0xfee00900,
	};

	switch (any(8)) {
	case 0:
		return BIT(any(64));
	case 1:
		return BIT(any(64)) - 1;
	case 2:
		return BITS(63, 0) << any(64);
	case 3:
		return case_random();
	case 4:
		return case_random() >> any(64);
	case 5:
		return any(BOX_SIZE);
	default:
		return boundaries[any(ARRAY_SIZE(boundaries))];
	}
}

/* Some words of a structure become others, or lose or get a bit. */
static void spoil(void *structure, u64 size, u32 changes)
{
	u64 *words = structure;

	while (changes--) {
		u64 *word = &words[any(size / sizeof(u64))];

		*word = any(2) ? any_value() : *word ^ BIT(any(64));
	}
}

static u32 any_msr(void)
{
	static const u32 known[] = {
		IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE,
		IA32_FS_BASE, IA32_GS_BASE, IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP,
		IA32_PAT, IA32_TSC, IA32_TSC_AUX, IA32_TSC_ADJUST, IA32_TSC_DEADLINE,
		IA32_APIC_BASE, IA32_MISC_ENABLE, IA32_DEBUGCTL, IA32_XSS, IA32_U_CET, IA32_S_CET,
		IA32_PL3_SSP, IA32_PKRS, IA32_BIOS_SIGN_ID,
	};

	switch (any(8)) {
	case 0:
		return 0x200 + any(0x100);	/* memory types */
	case 1:
		return 0x800 + any(0x100);	/* x2APIC */
	case 2:
		return 0x48 + any(0x400);
	case 3:
		return any_value();
	default:
		return known[any(ARRAY_SIZE(known))];
	}
}

/* --- the host --------------------------------------------------------------------------------- */

static const u32 host_msrs[] = {
	IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE, IA32_FS_BASE,
	IA32_GS_BASE, IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_PAT,
	IA32_DEBUGCTL, IA32_APIC_BASE, IA32_XSS, IA32_U_CET, IA32_S_CET, IA32_PKRS,
	IA32_MISC_ENABLE,
};

enum { HOST_REGISTERS = 15 };

struct host {
	u64 value[HOST_REGISTERS + ARRAY_SIZE(host_msrs)];
};

static struct host read_host(void)
{
	const struct table_pointer gdtr = read_gdtr(), idtr = read_idtr();
	struct host host = { .value = {
		read_cr0(), read_cr2(), read_cr3(), read_cr4(), read_dr0(), read_dr1(), read_dr2(),
		read_dr3(), read_dr6(), gdtr.base, gdtr.limit, idtr.base, idtr.limit, read_tr(),
		read_ldtr() } };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(host_msrs); i++)
		if (rdmsr_safe(host_msrs[i], &host.value[HOST_REGISTERS + i]) != OUTCOME_DONE)
			host.value[HOST_REGISTERS + i] = 0;
	return host;
}

static bool is_host(const struct host *before)
{
	const struct host now = read_host();
	u32 i;

	for (i = 0; i < ARRAY_SIZE(now.value); i++)
		if (!EXPECT_EQ(now.value[i], before->value[i])) {
			tap_comment("register %u of the host", i);
			return false;
		}
	return true;
}

static bool guards_are_whole(const struct malice *malice)
{
	u32 i;

	for (i = 0; i < GUARD; i++)
		if (malice->memory[i] != PATTERN || malice->memory[GUARD + BOX_SIZE + i] != PATTERN)
			return false;
	return true;
}

/* --- running ---------------------------------------------------------------------------------- */

static bool is_exit(u32 reason)
{
	switch (reason) {
	case KVM_EXIT_IO: case KVM_EXIT_MMIO: case KVM_EXIT_HLT: case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_INTR: case KVM_EXIT_DEBUG: case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_HYPERCALL: case KVM_EXIT_FAIL_ENTRY: case KVM_EXIT_INTERNAL_ERROR:
		return true;
	}
	return false;
}

/* User space answers whatever it is asked, with anything. */
static void run_some(struct malice *malice)
{
	struct kvm_run *run = box.vcpu.run;
	u32 i;
	int result;

	for (i = 0; i < RUNS; i++) {
		result = hv_vcpu_run(&box.vcpu);
		if (result == -EAGAIN)
			break;
		REQUIRE_EQ(result, 0);
		REQUIRE_TRUE(is_exit(run->exit_reason));
		malice->stopped++;
		if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
			malice->failed++;
			break;
		}
		if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			*(u64 *)run->mmio.data = any_value();
		if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			*(u64 *)((u8 *)run + run->io.data_offset) = any_value();
	}
}

/* --- what user space sets --------------------------------------------------------------------- */

/* Done, or refused and nothing has changed. */
static void set_sregs(struct malice *malice)
{
	struct kvm_sregs before = box_sregs(&box), sregs = before, after;
	int result;

	spoil(&sregs, sizeof(sregs), 1 + any(4));
	result = hv_vcpu_set_sregs(&box.vcpu, &sregs);
	malice->refused += result == -EINVAL;
	if (!result)
		return;
	REQUIRE_EQ(result, -EINVAL);
	after = box_sregs(&box);
	REQUIRE_EQ(memcmp(&before, &after, sizeof(after)), 0);
}

static void set_msrs(void)
{
	enum { COUNT = 3 };
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + COUNT * sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = COUNT };
	u32 i;

	for (i = 0; i < COUNT; i++)
		msrs.list.entries[i] = (struct kvm_msr_entry){ .index = any_msr(),
							       .data = any_value() };
	REQUIRE_TRUE((u32)hv_vcpu_set_msrs(&box.vcpu, &msrs.list) <= COUNT);
	REQUIRE_TRUE((u32)hv_vcpu_get_msrs(&box.vcpu, &msrs.list) <= COUNT);
}

static void set_events(void)
{
	struct kvm_vcpu_events events = { 0 };
	int result;

	spoil(&events, sizeof(events) & ~7ull, 1 + any(3));
	events.flags &= BITS(2, 0);
	result = hv_vcpu_set_events(&box.vcpu, &events);
	REQUIRE_TRUE(!result || result == -EINVAL);
}

static void set_debug(void)
{
	struct kvm_debugregs regs = { .dr6 = DR6_FIXED, .dr7 = DR7_FIXED };
	struct kvm_guest_debug debug = { .control = any(4) ? 0 : any_value() & BITS(17, 0) };
	int result;

	spoil(&regs, 6 * sizeof(u64), 2);
	result = hv_vcpu_set_debugregs(&box.vcpu, &regs);
	REQUIRE_TRUE(!result || result == -EINVAL);
	spoil(debug.arch.debugreg, sizeof(debug.arch.debugreg), 3);
	result = hv_vcpu_set_guest_debug(&box.vcpu, &debug);
	REQUIRE_TRUE(!result || result == -EINVAL || result == -EOPNOTSUPP);
}

static void set_fpu(void)
{
	struct kvm_fpu fpu;

	hv_vcpu_get_fpu(&box.vcpu, &fpu);
	spoil(&fpu, sizeof(fpu) & ~7ull, 8);
	REQUIRE_EQ(hv_vcpu_set_fpu(&box.vcpu, &fpu), 0);
}

static void set_what_waits(void)
{
	const struct kvm_interrupt interrupt = { .irq = any(300) };
	struct kvm_mp_state state = { .mp_state = any(8) };
	const bool is_taken = box.vm.irqchip && box.vcpu.interrupt_pending;

	box.vcpu.run->request_interrupt_window = any(2);
	box.vcpu.run->cr8 = any_value();
	if (!any(3))
		REQUIRE_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	if (!any(3))
		REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &interrupt),
			   interrupt.irq > 255 ? -EINVAL : is_taken ? -EEXIST : 0);
	if (!any(8))
		hv_vcpu_set_mp_state(&box.vcpu, &state);
}

static void spoil_registers(void)
{
	struct kvm_regs regs = box_regs(&box);

	spoil(&regs, sizeof(regs), any(6));
	/* Else it would seldom come as far as the guest's code. */
	if (any(4))
		regs.rip = BOX_CODE;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

/* All at once, or some of it. */
static void spoil_state(struct malice *malice)
{
	if (any(4))
		set_sregs(malice);
	if (!any(3))
		set_msrs();
	if (!any(3))
		set_debug();
	if (!any(4))
		set_fpu();
	if (!any(2))
		spoil_registers();
	if (!any(3))
		set_events();
	if (!any(2))
		set_what_waits();
}

/* Instructions that ask the core for something, one after another. */
#define PROGRAM										\
	"cpuid\n\t in $0x80, %al\n\t mov 0xa000, %eax\n\t mov %eax, 0xc000\n\t"			\
	"mov %cr0, %eax\n\t mov %eax, %cr0\n\t mov %cr4, %eax\n\t mov %eax, %cr4\n\t"		\
	"out %al, $0x80\n\t push %ax\n\t pop %ax\n\t int $0x20\n\t hlt"
#define PROGRAM_64									\
	"cpuid\n\t in $0x80, %al\n\t mov 0xa000, %eax\n\t mov %eax, 0x10000000\n\t"		\
	"mov %cr0, %rax\n\t mov %rax, %cr0\n\t mov %cr4, %rax\n\t mov %rax, %cr4\n\t"		\
	"out %al, $0x80\n\t push %rax\n\t pop %rax\n\t int $0x20\n\t hlt"

BOX_GUEST_16(program_16, PROGRAM);
BOX_GUEST_32(program_32, PROGRAM);
BOX_GUEST_64(program_64, PROGRAM_64);

/* --- what the guest sets ---------------------------------------------------------------------- */

/* RAX, RDX and RCX are what it tries; memory at A000H is anything. Register names: the mode's. */
#define WRITE_GUESTS(width, a, iret)								\
	BOX_GUEST(wrmsr_##width, width, "wrmsr\n\t hlt");				\
	BOX_GUEST(rdmsr_##width, width, "rdmsr\n\t hlt");				\
	BOX_GUEST(xsetbv_##width, width, "xsetbv\n\t hlt");				\
	BOX_GUEST(cr0_##width, width, "mov %" a ", %cr0\n\t hlt");			\
	BOX_GUEST(cr3_##width, width, "mov %" a ", %cr3\n\t hlt");			\
	BOX_GUEST(cr4_##width, width, "mov %" a ", %cr4\n\t hlt");			\
	BOX_GUEST(dr6_##width, width, "mov %" a ", %dr6\n\t hlt");			\
	BOX_GUEST(dr7_##width, width, "mov %" a ", %dr7\n\t hlt");			\
	BOX_GUEST(lgdt_##width, width, "lgdt 0xa000\n\t mov %ax, %ds\n\t hlt");		\
	BOX_GUEST(lidt_##width, width, "lidt 0xa000\n\t int $0x20\n\t hlt");		\
	BOX_GUEST(ltr_##width, width, "ltr %ax\n\t int $0x20\n\t hlt");			\
	BOX_GUEST(lldt_##width, width, "lldt %ax\n\t mov %dx, %ds\n\t hlt");		\
	BOX_GUEST(lmsw_##width, width, "lmsw %ax\n\t hlt");				\
	BOX_GUEST(ss_##width, width, "mov %ax, %ss\n\t push %ax\n\t hlt");		\
	BOX_GUEST(vmcall_##width, width, "vmcall\n\t hlt");				\
	BOX_GUEST(iret_##width, width, "push %ax\n\t popf\n\t " iret "\n\t hlt");		\
	static const struct box_guest *const writes_##width[] = {			\
		&wrmsr_##width, &wrmsr_##width, &wrmsr_##width, &rdmsr_##width, &xsetbv_##width, \
		&cr0_##width, &cr3_##width, &cr4_##width, &dr6_##width, &dr7_##width,	\
		&lgdt_##width, &lidt_##width, &ltr_##width, &lldt_##width, &lmsw_##width,	\
		&ss_##width, &vmcall_##width, &iret_##width }

WRITE_GUESTS(16, "eax", "iretw");
WRITE_GUESTS(32, "eax", "iretl");
WRITE_GUESTS(64, "rax", "iretq");
BOX_GUEST_64(cr8_64, "mov %rax, %cr8\n\t hlt");

static const struct box_guest *any_write(void)
{
	const u32 count = ARRAY_SIZE(writes_64);

	switch (any(3)) {
	case 0:
		return writes_16[any(count)];
	case 1:
		return writes_32[any(count)];
	default:
		return any(count) ? writes_64[any(count)] : &cr8_64;
	}
}

/* The second time in whatever mode the first has led to. */
static void give_operands(void)
{
	const struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs = box_regs(&box);

	REQUIRE_EQ(hv_vcpu_set_mp_state(&box.vcpu, &runnable), 0);
	regs.rip = BOX_CODE;
	regs.rax = any_value();
	regs.rdx = any(2) ? any_value() : 0;
	regs.rcx = any(4) ? any_msr() : any(4);
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	*box_at(&box, BOX_DATA) = any_value();
	*box_at(&box, BOX_DATA + 8) = any_value();
	if (any(2))
		box_at(&box, BOX_GDT)[any(GDT_SIZE / 8)] = any_value();
}

/* --- rounds ----------------------------------------------------------------------------------- */

static const struct box_guest *any_program(void)
{
	static const struct box_guest *const programs[] = { &program_16, &program_32, &program_64 };

	return programs[any(ARRAY_SIZE(programs))];
}

static void one_round(struct malice *malice, bool by_guest)
{
	const struct host before = read_host();
	u64 pages = box.pool.left;
	u32 i;

	memset(box.memory, 0, BOX_SIZE);
	box_make(&box, malice->mmu, true, by_guest ? any_write() : any_program());
	if (any(2))
		REQUIRE_EQ(hv_vcpu_set_cpuid(&box.vcpu, &malice->features.table), 0);
	for (i = 0; i < 2; i++) {
		if (by_guest)
			give_operands();
		else
			spoil_state(malice);
		run_some(malice);
	}
	hv_vm_destroy(&box.vm);
	REQUIRE_EQ(box.pool.left, pages);
	REQUIRE_TRUE(is_host(&before));
	REQUIRE_TRUE(guards_are_whole(malice));
}

static void malice_on(const struct hv_mmu *mmu, bool by_guest)
{
	static struct malice malice;

	malice = (struct malice){ .mmu = mmu };
	malice.features.table.nent = HV_MAX_CPUID;
	hv_start(page_alloc());
	REQUIRE_EQ(hv_get_supported_cpuid(&malice.features.table), 0);
	hv_pool_init(&box.pool, pages_alloc(POOL * PAGE_SIZE, PAGE_SIZE), POOL * PAGE_SIZE);
	malice.memory = pages_alloc(BOX_SIZE + 2 * GUARD, PAGE_SIZE);
	memset(malice.memory, PATTERN, BOX_SIZE + 2 * GUARD);
	box.memory = malice.memory + GUARD;
	for (malice.round = 0; malice.round < ROUNDS; malice.round++) {
		if (malice.round % 100 == 99)
			tap_comment("%u VMs: %u states refused, %u entries failed, %u stops",
				    malice.round + 1, malice.refused, malice.failed,
				    malice.stopped);
		one_round(&malice, by_guest);
	}
	EXPECT_TRUE(malice.stopped > ROUNDS);
	EXPECT_TRUE(by_guest || (malice.refused && malice.failed));
}

static void by_user_space(const struct case_def *this_case)
{
	malice_on(this_case->row, false);
}

static void by_the_guest(const struct case_def *this_case)
{
	malice_on(this_case->row, true);
}

#define EACH_MMU(id, function, ...)								\
	CASE_RUN(id, function, PROVES(__VA_ARGS__),						\
		 NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)), ROW(&hv_mmu_ept));	\
	CASE_RUN(id##_with_shadow_paging, function, PROVES(__VA_ARGS__),			\
		 NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)), ROW(&hv_mmu_shadow))

EACH_MMU(states_by_user_space, by_user_space, "kvm-exits:9", "kvm-ioctls:sregs.bad_cr4");
EACH_MMU(writes_by_the_guest, by_the_guest, "guest-instructions:msr.unknown_wr",
	 "paging:cr4.reserved");
