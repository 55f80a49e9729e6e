/*
 * The core: local APICs, more than one vCPU, tasks and large pages.
 *
 * With hv_vm_create_irqchip() each vCPU has a local APIC (chapter 13), whose interrupts the core
 * itself delivers, and HLT ends hv_vcpu_run() with KVM_EXIT_INTR until something comes. Task
 * switches are the core's as well: VMX stops at them (28.4.2 Treatment of Task Switches). User
 * space calls hv_vcpu_run() for one vCPU after another.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

static struct box box;
static struct hv_vcpu second;

#define ROUNDS		50
#define OTHER_TABLE	0xf000		/* a page directory for another GByte */
#define HANDLERS	0xc000		/* 64 bytes for each vector from 30H */

/* --- one local APIC --------------------------------------------------------------------------- */

/* The handler of `vector` from 30H: its number becomes the lowest byte of RDI; end of interrupt. */
static void set_handler(u8 vector)
{
	const u8 code[] = { 0x48, 0xc1, 0xe7, 8,		/* shl $8, %rdi */
			    0x40, 0xb7, vector,			/* mov $vector, %dil */
			    0xc7, 0x86, 0xb0, 0, 0, 0, 0, 0, 0, 0,	/* movl $0, 0xb0(%rsi) */
			    0x48, 0xcf };			/* iretq */
	u32 address = HANDLERS + (vector - 0x30) * 64;

	memcpy(box.memory + address, code, sizeof(code));
	box_at(&box, BOX_IDT)[2 * vector] = address | SELECTOR_CODE64 << 16 | 0x8e0000000000;
}

/* The APIC's page is mapped at its address; RSI is what the guests use it by. */
static void start_with_apic(const struct box_guest *guest)
{
	struct kvm_regs regs;
	u64 i;

	box_start_with_apic(&box, guest);
	box_at(&box, BOX_TABLES + PAGE_SIZE)[3] = OTHER_TABLE | PTE_P | PTE_RW;
	for (i = 0; i < 512; i++)
		box_at(&box, OTHER_TABLE)[i] = (0xc0000000 + (i << 21)) | PTE_P | PTE_RW | PTE_PS;
	regs = box_regs(&box);
	regs.rsi = 0xfee00000;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	set_handler(0x31);
	set_handler(0x35);
	set_handler(0x41);
}

static u32 mp_state_of(struct hv_vcpu *vcpu)
{
	struct kvm_mp_state state;

	hv_vcpu_get_mp_state(vcpu, &state);
	return state.mp_state;
}

/* Until the vCPU waits at a HLT with nothing that could wake it. */
static void run_until_halted(struct hv_vcpu *vcpu)
{
	u32 i;

	for (i = 0; i < ROUNDS; i++) {
		int result = hv_vcpu_run(vcpu);

		if (result == -EAGAIN)
			return;
		REQUIRE_EQ(result, 0);
		REQUIRE_EXIT(vcpu->run->exit_reason, KVM_EXIT_INTR);
	}
	case_fail(NULL, 0, "the guest", "halted", "still running");
	case_end();
}

/* Two self IPIs while RFLAGS.IF = 0: the higher first; each leaves nothing behind. */
BOX_GUEST_64(self_ipi_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0x40031, 0x300(%rsi)\n\t"
	     "movl $0x40041, 0x300(%rsi)\n\t mov 0x210(%rsi), %r8d\n\t mov 0x220(%rsi), %r9d\n\t"
	     "sti\n\t nop\n\t nop\n\t cli\n\t mov 0x210(%rsi), %r10d\n\t mov 0x110(%rsi), %r11d\n\t"
	     "mov 0x120(%rsi), %r12d\n\t hlt");

CASE(interrupts_by_priority, PROVES("apic:ipi.self", "apic:accept.irr", "apic:accept.eoi"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_regs regs;

	start_with_apic(&self_ipi_guest);
	run_until_halted(&box.vcpu);
	regs = box_regs(&box);
	EXPECT_EQ(regs.r8, BIT(0x31 % 32));
	EXPECT_EQ(regs.r9, BIT(0x41 % 32));
	EXPECT_EQ(regs.rdi, 0x4131);
	EXPECT_EQ(regs.r10 | regs.r11 | regs.r12, 0);
}

/* What is not above the task priority waits: 13.8.3.1 Task and Processor Priorities. */
BOX_GUEST_64(priority_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0x3f, 0x80(%rsi)\n\t"
	     "movl $0x40035, 0x300(%rsi)\n\t sti\n\t nop\n\t nop\n\t mov %rdi, %r8\n\t"
	     "movl $0x40041, 0x300(%rsi)\n\t nop\n\t nop\n\t mov %rdi, %r9\n\t"
	     "movl $0x20, 0x80(%rsi)\n\t nop\n\t nop\n\t cli\n\t hlt");

CASE(task_priority, PROVES("apic:accept.priority"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_regs regs;

	start_with_apic(&priority_guest);
	run_until_halted(&box.vcpu);
	regs = box_regs(&box);
	EXPECT_EQ(regs.r8, 0);
	EXPECT_EQ(regs.r9, 0x41);
	EXPECT_EQ(regs.rdi, 0x4135);
}

/*
 * 13.5.4.1: the deadline is a value of the guest's counter, which was set back first, and then goes
 * beyond it at once.
 */
BOX_GUEST_64(deadline_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0x40035, 0x320(%rsi)\n\t"
	     "mov $0x10, %ecx\n\t xor %eax, %eax\n\t xor %edx, %edx\n\t wrmsr\n\t"
	     "mov $0x6e0, %ecx\n\t mov $0x100, %edx\n\t wrmsr\n\t"
	     "sti\n\t mov $1000, %ecx\n\t 1: loop 1b\n\t cli\n\t mov %rdi, %r8\n\t"
	     "mov $0x10, %ecx\n\t mov $0x200, %edx\n\t wrmsr\n\t"
	     "sti\n\t nop\n\t nop\n\t cli\n\t mov %rdi, %r9\n\t hlt");

CASE(deadline_of_a_counter_that_moves, PROVES("guest-instructions:msr.tsc_deadline"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	start_with_apic(&deadline_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 1, .eax = 0x600,
		.ecx = BIT(24) | BIT(31), .edx = 0x0701a3ff });
	run_until_halted(&box.vcpu);
	EXPECT_EQ(box_regs(&box).r8, 0);
	EXPECT_EQ(box_regs(&box).r9, 0x35);
}

/* A one-shot timer wakes from HLT, once. */
BOX_GUEST_64(timer_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0xb, 0x3e0(%rsi)\n\t movl $0x35, 0x320(%rsi)\n\t"
	     "movl $5000, 0x380(%rsi)\n\t sti\n\t hlt\n\t mov %rdi, %r8\n\t cli\n\t hlt");

CASE(timer_wakes, PROVES("exit-reasons:12"), NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	int result = 0;

	start_with_apic(&timer_guest);
	/* -EAGAIN until the time has come; what comes then is the second HLT. */
	while (box_regs(&box).r8 == 0) {
		result = hv_vcpu_run(&box.vcpu);
		if (result != -EAGAIN)
			REQUIRE_EQ(result, 0);
	}
	run_until_halted(&box.vcpu);
	EXPECT_EQ(box_regs(&box).r8, 0x35);
	EXPECT_EQ(box_regs(&box).rdi, 0x35);
}

/* A periodic timer comes again and again: 13.5.4 APIC Timer. The guest waits for three of them. */
BOX_GUEST_64(periodic_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0xb, 0x3e0(%rsi)\n\t movl $0x20035, 0x320(%rsi)\n\t"
	     "movl $400000, 0x380(%rsi)\n\t 1: sti\n\t hlt\n\t cli\n\t cmp $0x353535, %rdi\n\t"
	     "jb 1b\n\t movl $0x10035, 0x320(%rsi)\n\t mov $1, %r8d\n\t hlt");

#define APIC_NEEDS	BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)
#define PATIENCE	100000		/* runs that may find nothing to do */

CASE(timer_comes_again, PROVES("kvm-ioctls:irqchip.create"), NEEDS(APIC_NEEDS))
{
	u32 runs;

	start_with_apic(&periodic_guest);
	for (runs = 0; runs < PATIENCE && !box_regs(&box).r8; runs++) {
		int result = hv_vcpu_run(&box.vcpu);

		if (result != -EAGAIN)
			REQUIRE_EQ(result, 0);
	}
	EXPECT_EQ(box_regs(&box).r8, 1);
	EXPECT_EQ(box_regs(&box).rdi & 0xffffff, 0x353535);
}

/* 13.5.4, Figure 13-10: one tick for 1, 2, 4 ... of the clock, here the time-stamp counter. */
BOX_GUEST_64(divided_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t mov %ebx, 0x3e0(%rsi)\n\t movl $0x10035, 0x320(%rsi)\n\t"
	     "movl $0x7fffffff, 0x380(%rsi)\n\t mov 0x390(%rsi), %r8d\n\t rdtsc\n\t"
	     "mov %eax, %r9d\n\t mov $100000, %ecx\n\t 1: loop 1b\n\t mov 0x390(%rsi), %r10d\n\t"
	     "rdtsc\n\t mov %eax, %r11d\n\t cli\n\t hlt");

static void timer_divides(const struct case_def *this_case)
{
	const struct { u32 value, by; } *row = this_case->row;
	struct kvm_regs regs;
	u32 ticks, cycles;

	start_with_apic(&divided_guest);
	regs = box_regs(&box);
	regs.rbx = row->value;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	do {
		REQUIRE_EQ(hv_vcpu_run(&box.vcpu), 0);
	} while (mp_state_of(&box.vcpu) != KVM_MP_STATE_HALTED);
	regs = box_regs(&box);
	ticks = regs.r8 - regs.r10;
	cycles = (u32)regs.r11 - (u32)regs.r9;
	/* Both are read on the way to and from the loop, not at one time. */
	if (!EXPECT_TRUE((u64)ticks * row->by > cycles - cycles / 4 &&
			 (u64)ticks * row->by < cycles + cycles / 4))
		case_note("count", "%u ticks in %u cycles", ticks, cycles);
}

#define DIVIDES(value, number)								\
	CASE_RUN(timer_divides_by_##number, timer_divides, PROVES("kvm-ioctls:irqchip.create"), \
		 NEEDS(APIC_NEEDS), ROW(((const u32[]){ value, number })))
DIVIDES(0xb, 1);
DIVIDES(0, 2);
DIVIDES(3, 16);
DIVIDES(0xa, 128);

/* 13.4.1: a register is read as a whole, however fast the timer counts down. */
BOX_GUEST_64(count_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0xb, 0x3e0(%rsi)\n\t movl $0x10035, 0x320(%rsi)\n\t"
	     "movl $0x7fffffff, 0x380(%rsi)\n\t mov $3000, %ecx\n\t mov $0x7fffffff, %r8d\n\t"
	     "1: mov 0x390(%rsi), %eax\n\t mov %r8d, %edx\n\t sub %eax, %edx\n\t"
	     "cmp %edx, %r9d\n\t cmovb %edx, %r9d\n\t mov %eax, %r8d\n\t loop 1b\n\t cli\n\t hlt");

CASE(count_is_read_as_a_whole, PROVES("kvm-ioctls:irqchip.create"), NEEDS(APIC_NEEDS))
{
	start_with_apic(&count_guest);
	do {
		REQUIRE_EQ(hv_vcpu_run(&box.vcpu), 0);
	} while (mp_state_of(&box.vcpu) != KVM_MP_STATE_HALTED);
	/* Bytes of two counts would be 65536 apart, or there would be a step up. */
	EXPECT_TRUE(box_regs(&box).r9 < 60000);
}

/*
 * 13.4.7.2, 13.5.1, 13.5.3: a masked timer requests nothing; one with an illegal vector, and a
 * register that does not exist, are errors; while software has the APIC disabled all entries of the
 * local vector table are masked.
 */
BOX_GUEST_64(rules_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0xb, 0x3e0(%rsi)\n\t movl $0x10035, 0x320(%rsi)\n\t"
	     "movl $1, 0x380(%rsi)\n\t nop\n\t mov 0x390(%rsi), %eax\n\t mov 0x210(%rsi), %r8d\n\t"
	     "movl $0xf, 0x320(%rsi)\n\t movl $1, 0x380(%rsi)\n\t nop\n\t mov 0x390(%rsi), %eax\n\t"
	     "movl $0, 0x280(%rsi)\n\t mov 0x280(%rsi), %r9d\n\t mov 0x200(%rsi), %r10d\n\t"
	     "mov 0x40(%rsi), %eax\n\t movl $0, 0x280(%rsi)\n\t mov 0x280(%rsi), %r11d\n\t"
	     "movl $0x700, 0x350(%rsi)\n\t mov 0x350(%rsi), %r12d\n\t movl $0xff, 0xf0(%rsi)\n\t"
	     "mov 0x350(%rsi), %r13d\n\t cli\n\t hlt");

CASE(errors_and_masks, PROVES("kvm-ioctls:irqchip.create"), NEEDS(APIC_NEEDS))
{
	struct kvm_regs regs;

	start_with_apic(&rules_guest);
	run_until_halted(&box.vcpu);
	regs = box_regs(&box);
	EXPECT_EQ(regs.r8, 0);				/* no request of 35H */
	EXPECT_EQ(regs.r9, BIT(6));			/* received illegal vector */
	EXPECT_EQ(regs.r10, 0);
	EXPECT_EQ(regs.r11, BIT(7));			/* illegal register address */
	EXPECT_EQ(regs.r12, 0x700);
	EXPECT_EQ(regs.r13, 0x10700);
}

/* --- two vCPUs -------------------------------------------------------------------------------- */

/* A start-up IPI for page 0DH, INIT, the IPI once more. */
BOX_GUEST_64(starter_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0x1000000, 0x310(%rsi)\n\t"
	     "movl $0x460d, 0x300(%rsi)\n\t cli\n\t hlt");
BOX_GUEST_64(init_guest,
	     "movl $0x4500, 0x300(%rsi)\n\t cli\n\t hlt");
BOX_GUEST_64(start_guest,
	     "movl $0x460d, 0x300(%rsi)\n\t cli\n\t hlt");
BOX_GUEST_16(started, "movw $0x1234, %cs:0x100\n\t mov %cs, %ax\n\t hlt");

/* The first vCPU goes on with another guest. */
static void go_on_with(const struct box_guest *guest)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs = box_regs(&box);

	memcpy(box.memory + BOX_CODE, guest->start, guest->end - guest->start);
	regs.rip = BOX_CODE;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	REQUIRE_EQ(hv_vcpu_set_mp_state(&box.vcpu, &runnable), 0);
	run_until_halted(&box.vcpu);
}

CASE(init_and_start_up, PROVES("apic:init.wait", "kvm-ioctls:mpstate.get"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_regs regs;

	start_with_apic(&starter_guest);
	REQUIRE_EQ(hv_vcpu_create(&box.vm, &second, 1), 0);
	memcpy(box.memory + 0xd000, started.start, started.end - started.start);
	EXPECT_EQ(mp_state_of(&box.vcpu), KVM_MP_STATE_RUNNABLE);
	EXPECT_EQ(mp_state_of(&second), KVM_MP_STATE_UNINITIALIZED);
	EXPECT_EQ(hv_vcpu_run(&second), -EAGAIN);
	/* Without INIT a start-up IPI is nothing: 11.4.4. */
	run_until_halted(&box.vcpu);
	EXPECT_EQ(hv_vcpu_run(&second), -EAGAIN);
	EXPECT_EQ(mp_state_of(&second), KVM_MP_STATE_UNINITIALIZED);
	go_on_with(&init_guest);
	EXPECT_EQ(hv_vcpu_run(&second), -EAGAIN);
	EXPECT_EQ(mp_state_of(&second), KVM_MP_STATE_INIT_RECEIVED);
	go_on_with(&start_guest);
	EXPECT_EQ(mp_state_of(&second), KVM_MP_STATE_SIPI_RECEIVED);
	run_until_halted(&second);
	EXPECT_EQ(mp_state_of(&second), KVM_MP_STATE_HALTED);
	hv_vcpu_get_regs(&second, &regs);
	EXPECT_EQ(regs.rax & 0xffff, 0xd00);
	EXPECT_EQ(*(u16 *)(box.memory + 0xd100), 0x1234);
}

/* 11.4.4, 12.1.1: INIT makes the boot processor begin at its reset address, the others wait. */
BOX_GUEST_64(init_itself_guest,
	     "movl $0x1ff, 0xf0(%rsi)\n\t movl $0, 0x310(%rsi)\n\t movl $0x4500, 0x300(%rsi)\n\t"
	     "hlt");

CASE(init_of_the_boot_processor, PROVES("apic:init.state", "apic:base.bsp"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	u32 runs = 0, reason;

	start_with_apic(&init_itself_guest);
	do {
		reason = box_run(&box);
	} while (reason == KVM_EXIT_INTR && ++runs < ROUNDS);
	/* There is no memory. */
	REQUIRE_EXIT(reason, KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box_regs(&box).rip, 0xfff0);
	EXPECT_EQ(box_sregs(&box).cs.base, 0xffff0000);
}

/* Both are meant; the APIC of the first is disabled by software. */
BOX_GUEST_64(disabled_guest, "movl $0x01000000, 0xd0(%rsi)\n\t cli\n\t hlt");
BOX_GUEST_64(lowest_guest,
	     "movl $0x02000000, 0xd0(%rsi)\n\t movl $0x1ff, 0xf0(%rsi)\n\t"
	     "movl $0x03000000, 0x310(%rsi)\n\t movl $0x4935, 0x300(%rsi)\n\t"
	     "sti\n\t nop\n\t nop\n\t cli\n\t hlt");

/* 13.6.2.4: one of those that are meant takes it, and a disabled one takes none (13.4.7.2). */
CASE(lowest_priority_goes_to_one_that_takes_it, PROVES("apic:ipi.logical", "apic:accept.irr"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs;

	start_with_apic(&disabled_guest);
	memcpy(box.memory + 0x9000, lowest_guest.start, lowest_guest.end - lowest_guest.start);
	box_add_vcpu(&box, &second, 1);
	regs = box_regs(&box);
	regs.rip = 0x9000;
	hv_vcpu_set_regs(&second, &regs);
	REQUIRE_EQ(hv_vcpu_set_mp_state(&second, &runnable), 0);
	run_until_halted(&box.vcpu);
	run_until_halted(&second);
	hv_vcpu_get_regs(&second, &regs);
	EXPECT_EQ(regs.rdi, 0x35);
	EXPECT_EQ(box.vcpu.lapic.requested, 0);
}

/* --- where the registers are: 13.4.5 Relocating the Local APIC Registers ---------------------- */

#define MOVED_NEEDS	PIN(ACTIVATE_VMX_PREEMPTION_TIMER), ENTRY_CTL(LOAD_IA32_EFER),		\
			ENTRY_CTL(LOAD_IA32_PAT)
#define MOVED_POOL	400		/* pages, enough for shadow paging */
#define FAR_SLOT	0x400000	/* 2 MBytes, which one EPT entry can map */
#define FAR_PAGE	(FAR_SLOT + 0x5000)
#define APIC_VERSION_HERE	0x50014
#define IN_MEMORY	0x12345678

/* To where EDI says, and back; then switched off there. Each time what can be read there. */
BOX_GUEST_64(mover_guest,
	     "mov 0x30(%rdi), %r8d\n\t"
	     "mov $0x1b, %ecx\n\t xor %edx, %edx\n\t lea 0x900(%rdi), %eax\n\t wrmsr\n\t"
	     "mov 0x30(%rdi), %r9d\n\t mov 0x1000(%rdi), %ebx\n\t"
	     "movl $0x20, 0x80(%rdi)\n\t mov 0x80(%rdi), %r10d\n\t"
	     "mov $0xfee00900, %eax\n\t wrmsr\n\t"
	     "mov 0x30(%rdi), %r11d\n\t mov 0x80(%rdi), %r12d\n\t"
	     "lea 0x900(%rdi), %eax\n\t wrmsr\n\t mov 0x30(%rdi), %r13d\n\t"
	     "lea 0x100(%rdi), %eax\n\t wrmsr\n\t mov 0x30(%rdi), %r14d\n\t cli\n\t hlt");

struct moved {
	const struct hv_mmu *mmu;
	u64 page;
	u32 flags;		/* of the second slot */
};

static void start_moved(const struct moved *row, const struct box_guest *guest)
{
	const u64 size = MOVED_POOL * PAGE_SIZE;
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = FAR_SLOT, .memory_size = level_size(LEVEL_PDE),
		.flags = row->flags,
	};
	struct kvm_regs regs;
	u8 *memory;

	hv_start(page_alloc());
	hv_pool_init(&box.pool, pages_alloc(size, PAGE_SIZE), size);
	box.memory = pages_alloc(BOX_SIZE, PAGE_SIZE);
	box_make(&box, row->mmu, true, guest);
	memory = pages_alloc(level_size(LEVEL_PDE), level_size(LEVEL_PDE));
	region.userspace_addr = physical(memory);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	memory = row->page < BOX_SIZE ? box.memory + row->page : memory + (row->page - FAR_SLOT);
	*(u32 *)(memory + 0x30) = *(u32 *)(memory + 0x80) = IN_MEMORY;
	regs = box_regs(&box);
	regs.rdi = row->page;
	hv_vcpu_set_regs(&box.vcpu, &regs);
}

static void check_moved(const struct case_def *this_case)
{
	struct kvm_regs regs;

	start_moved(this_case->row, &mover_guest);
	run_until_halted(&box.vcpu);
	regs = box_regs(&box);
	EXPECT_EQ(regs.r8, IN_MEMORY);
	EXPECT_EQ(regs.r9, APIC_VERSION_HERE);
	EXPECT_EQ(regs.r10, 0x20);
	EXPECT_EQ(regs.r11, IN_MEMORY);
	EXPECT_EQ(regs.r12, IN_MEMORY);
	EXPECT_EQ(regs.r13, APIC_VERSION_HERE);
	EXPECT_EQ(regs.r14, IN_MEMORY);
}

#define MOVED(id, needs, ...)								\
	CASE_RUN(id, check_moved, PROVES("apic:base.page"), NEEDS(needs, MOVED_NEEDS),	\
		 ROW((&(const struct moved){ __VA_ARGS__ })))

MOVED(registers_over_memory, EPT, &hv_mmu_ept, 0xd000, 0);
MOVED(registers_over_memory_with_shadow_paging, VMX, &hv_mmu_shadow, 0xd000, 0);
MOVED(registers_over_a_large_page, EPT_CAP(2M), &hv_mmu_ept, FAR_PAGE, 0);
MOVED(registers_over_read_only_memory, EPT, &hv_mmu_ept, FAR_PAGE, KVM_MEM_READONLY);
MOVED(registers_over_read_only_memory_with_shadow_paging, VMX, &hv_mmu_shadow, FAR_PAGE,
      KVM_MEM_READONLY);

/* Whose registers are there sees them, the other one the memory; each twice, in turns. */
BOX_GUEST_64(looker_guest,
	     "cli\n\t1: mov 0x30(%rdi), %r8d\n\t hlt\n\t jmp 1b");

static u32 look(struct hv_vcpu *vcpu)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs;

	REQUIRE_EQ(hv_vcpu_set_mp_state(vcpu, &runnable), 0);
	run_until_halted(vcpu);
	hv_vcpu_get_regs(vcpu, &regs);
	return regs.r8;
}

static void check_two_apics(const struct case_def *this_case)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	u32 i;

	start_moved(this_case->row, &looker_guest);
	box_add_vcpu(&box, &second, 1);
	regs = box_regs(&box);
	REQUIRE_EQ(hv_vcpu_set_regs(&second, &regs), 0);
	sregs = box_sregs(&box);
	sregs.apic_base = regs.rdi | 0x900;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(look(&box.vcpu), APIC_VERSION_HERE);
		EXPECT_EQ(look(&second), IN_MEMORY);
	}
}

#define TWO_APICS(id, needs, ...)								\
	CASE_RUN(id, check_two_apics, PROVES("apic:base.page"), NEEDS(needs, MOVED_NEEDS),	\
		 ROW((&(const struct moved){ __VA_ARGS__ })))

TWO_APICS(registers_in_places_of_their_own, EPT, &hv_mmu_ept, FAR_PAGE, 0);
TWO_APICS(registers_in_places_of_their_own_with_shadow_paging, VMX, &hv_mmu_shadow, FAR_PAGE, 0);

/* The registers are what OUTS reads and INS writes; and their page is no table: no memory is. */
BOX_GUEST_64(core_access_guest,
	     "mov $0x1b, %ecx\n\t xor %edx, %edx\n\t lea 0x900(%rdi), %eax\n\t wrmsr\n\t"
	     "mov %edi, %ebx\n\t lea 0x30(%rbx), %esi\n\t mov $0x80, %edx\n\t outsl\n\t"
	     "lea 0x80(%rbx), %edi\n\t insl\n\t mov 0x80(%rbx), %r10d\n\t"
	     "mov $0x600000, %eax\n\t mov (%rax), %r11d\n\t cli\n\t hlt");

static u32 *run_to_port(void)
{
	u32 reason;

	do {
		reason = box_run(&box);
	} while (reason == KVM_EXIT_INTR);
	REQUIRE_EXIT(reason, KVM_EXIT_IO);
	return (u32 *)((u8 *)box.vcpu.run + box.vcpu.run->io.data_offset);
}

static void core_accesses(const struct case_def *this_case)
{
	const struct moved *row = this_case->row;
	struct hv_slot *slot;
	u64 *page;

	start_moved(row, &core_access_guest);
	slot = &box.vm.slots[1];
	page = (u64 *)(slot->region.userspace_addr + (row->page - FAR_SLOT));
	page[0] = BOX_DATA | PTE_P | PTE_RW;
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[3] = row->page | PTE_P | PTE_RW;
	EXPECT_EQ(*run_to_port(), APIC_VERSION_HERE);
	*run_to_port() = 0x50;
	run_until_halted(&box.vcpu);
	EXPECT_EQ(box_regs(&box).r10, 0x50);
	EXPECT_EQ(box_regs(&box).rip, BOX_HANDLERS + VECTOR_PF * 8 + 3);
	/* P, and reserved bits of all ones. */
	EXPECT_EQ(*box_at(&box, box_regs(&box).rsp), PF_P | PF_RSVD);
	EXPECT_EQ(page[0], BOX_DATA | PTE_P | PTE_RW);
	EXPECT_EQ(((u32 *)page)[0x80 / 4], IN_MEMORY);
}

#define CORE_ACCESSES(id, needs, ...)							\
	CASE_RUN(id, core_accesses, PROVES("apic:base.page"), NEEDS(needs, MOVED_NEEDS),	\
		 ROW((&(const struct moved){ __VA_ARGS__ })))

CORE_ACCESSES(registers_for_strings_and_tables, EPT, &hv_mmu_ept, FAR_PAGE, 0);
CORE_ACCESSES(registers_for_strings_and_tables_with_shadow_paging, VMX, &hv_mmu_shadow, FAR_PAGE,
	      0);

/* --- tasks ------------------------------------------------------------------------------------ */

#define TSS_OLD		0xc000
#define TSS_NEW		0xc100
#define TASKS_GDT	0xd000
#define SELECTOR_OLD	0x30
#define SELECTOR_NEW	0x38
#define NEW_CODE	0x8100

/* A 32-bit TSS of 104 bytes: 10.2.1. Type 9: available, 11: busy. */
static u64 tss_descriptor(u32 base, u32 type)
{
	return 103 | (u64)base << 16 | (u64)(0x80 | type) << 40;
}

static void set_tasks(void)
{
	const struct kvm_segment tr = { .base = TSS_OLD, .limit = 103, .selector = SELECTOR_OLD,
					.type = 11, .present = 1 };
	u32 *tss = (u32 *)(box.memory + TSS_NEW), i;
	struct kvm_sregs sregs = box_sregs(&box);

	memcpy(box.memory + TASKS_GDT, box.memory + BOX_GDT, SELECTOR_OLD);
	*box_at(&box, TASKS_GDT + SELECTOR_OLD) = tss_descriptor(TSS_OLD, 11);
	*box_at(&box, TASKS_GDT + SELECTOR_NEW) = tss_descriptor(TSS_NEW, 9);
	tss[8] = NEW_CODE;			/* EIP */
	tss[9] = RFLAGS_FIXED;			/* EFLAGS */
	for (i = 0; i < 8; i++)
		tss[10 + i] = 0x1111 * (i + 1);	/* EAX ECX EDX EBX ESP EBP ESI EDI */
	for (i = 0; i < 6; i++)
		tss[18 + i] = i == 1 ? SELECTOR_CODE32 : SELECTOR_DATA;
	sregs.gdt = (struct kvm_dtable){ .base = TASKS_GDT, .limit = 0x3f };
	sregs.tr = tr;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
}

/* At NEW_CODE: HLT, and back to the caller. */
BOX_GUEST_32(task_guest,
	     "mov $0x12345678, %ecx\n\t lcall $0x38, $0\n\t hlt\n\t"
	     ".org box_task_guest + 0x100\n\t hlt\n\t iret");

CASE(call_of_a_task_and_back, PROVES("exit-reasons:9", "guest-instructions:task.switch"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	box_start(&box, &task_guest);
	set_tasks();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	sregs = box_sregs(&box);
	EXPECT_EQ(regs.rip, NEW_CODE + 1);
	EXPECT_EQ(regs.rax, 0x1111);
	EXPECT_EQ(regs.rcx, 0x2222);
	EXPECT_EQ(regs.rsp, 0x5555);
	EXPECT_EQ(regs.rflags & RFLAGS_NT, RFLAGS_NT);
	EXPECT_EQ(sregs.tr.selector, SELECTOR_NEW);
	EXPECT_EQ(sregs.tr.base, TSS_NEW);
	EXPECT_EQ(*(u16 *)(box.memory + TSS_NEW), SELECTOR_OLD);	/* the link */
	EXPECT_EQ(*(u32 *)(box.memory + TSS_OLD + 44), 0x12345678);	/* its ECX */
	EXPECT_EQ(FIELD(*box_at(&box, TASKS_GDT + SELECTOR_NEW), 43, 40), 11);
	EXPECT_EQ(FIELD(*box_at(&box, TASKS_GDT + SELECTOR_OLD), 43, 40), 11);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rip, BOX_CODE + 5 + 7 + 1);
	EXPECT_EQ(regs.rcx, 0x12345678);
	EXPECT_EQ(regs.rflags & RFLAGS_NT, 0);
	EXPECT_EQ(box_sregs(&box).tr.selector, SELECTOR_OLD);
	EXPECT_EQ(FIELD(*box_at(&box, TASKS_GDT + SELECTOR_NEW), 43, 40), 9);
}

/* --- pages of 1 GByte ------------------------------------------------------------------------- */

BOX_GUEST_64(far_apart_guest, "mov 0x40001000, %eax\n\t mov 0x7ffff000, %eax\n\t hlt");

/* Host memory is not needed for it: nobody writes there. One entry serves the whole GByte. */
CASE(pages_of_1_gbyte, PROVES("ept:walk.1g"), NEEDS(BOX_NEEDS, EPT_CAP(1G)))
{
	const struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = BIT(30), .memory_size = BIT(30),
		.userspace_addr = BIT(30) };
	u64 fills, i;

	box_start(&box, &far_apart_guest);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = OTHER_TABLE | PTE_P | PTE_RW;
	for (i = 0; i < 512; i++)
		box_at(&box, OTHER_TABLE)[i] = (BIT(30) + (i << 21)) | PTE_P | PTE_RW | PTE_PS;
	/* The box's own pages, those of the guest's tables among them. */
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	fills = box.vm.fills;
	hv_vm_set_memory(&box.vm, &(struct kvm_userspace_memory_region){ .slot = 1 });
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	hv_vcpu_set_regs(&box.vcpu, &(struct kvm_regs){ .rip = BOX_CODE, .rsp = BOX_STACK,
							.rflags = RFLAGS_FIXED });
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box.vm.fills - fills, 1);
}
