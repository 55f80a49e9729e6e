/*
 * Real-address mode on a processor without "unrestricted guest".
 *
 * VMX wants CR0.PE and CR0.PG to be 1 then (26.8 Restrictions on VMX Operation), so with shadow
 * paging, and with hv_mmu_ept_restricted, the core runs a guest in real-address mode by other means
 * (lib/x86/hv/real.h): in virtual-8086 mode as long as the segments are as there, else one
 * instruction at a time in protected mode, with those emulated that would do something else there.
 * The guest must not be able to tell. Each case here runs its guest twice with each MMU: with
 * segments as after a reset, and with an FS that virtual-8086 mode cannot have.
 */
#include "hv/box.h"
#include "string.h"

#define POOL		200
#define OTHER_BASE	0x120u	/* of FS, with selector 0 */
#define STACK_WORD(n)	(((const u16 *)(box.memory + BOX_STACK))[-(n)])

static struct box box;

/* The second bit of a way is the MMU, the first the segments. */
static u32 ways(void)
{
	return hv_mmu_ept_restricted.supported() ? 4 : 2;
}

static void start(const struct box_guest *guest, u32 way)
{
	struct kvm_sregs sregs;

	box_start_on(&box, way & 2 ? &hv_mmu_ept_restricted : &hv_mmu_shadow, POOL, guest);
	sregs = box_sregs(&box);
	if (way & 1)
		sregs.fs.base = OTHER_BASE;
	sregs.idt = (struct kvm_dtable){ .limit = 0x3ff };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
}

/* Both ways, up to a HLT; `check` looks at what has become of it. */
static void run_both(const struct box_guest *guest, void (*check)(void))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(guest, way);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
		check();
		/* The core has put nothing of its ways into the registers. */
		EXPECT_EQ(box_sregs(&box).cr0 & CR0_PE, 0);
		EXPECT_EQ(box_regs(&box).rflags & (RFLAGS_VM | RFLAGS_RF), 0);
		EXPECT_EQ(box_sregs(&box).fs.base, way & 1 ? OTHER_BASE : 0);
	}
}

/* --- RFLAGS ----------------------------------------------------------------------------- */

BOX_GUEST_16(flags,
	     "pushw $0x3246; popfw; pushfw; popw %ax; pushfl; popl %ebx; cli; pushfw; popw %cx;"
	     "smsw %dx; hlt");

static void check_flags(void)
{
	EXPECT_EQ(box_regs(&box).rax, 0x3246);
	EXPECT_EQ(box_regs(&box).rbx, 0x3246);
	EXPECT_EQ(box_regs(&box).rcx, 0x3046);
	EXPECT_EQ(box_regs(&box).rdx & CR0_PE, 0);
	EXPECT_EQ(box_regs(&box).rflags, 0x3046);
}

/*
 * This case and the next prove no row: what they compare with is all of volume 1, that nothing of
 * the two ways shows.
 */
CASE(flags_are_those_of_the_guest, NEEDS(VMX))
{
	run_both(&flags, check_flags);
}

/* --- segments and far transfers --------------------------------------------------------------- */

BOX_GUEST_16(segments,
	     "movw $0xa01, %ax; movw %ax, %ds; movw %ax, %es; movw $0x1234, 0x10;"
	     "movw %es:0x10, %bx; pushw %ds; popw %cx; movw $0x20, 0x20; movw $0xa03, 0x22;"
	     "ldsw 0x20, %si; movw %ds, %dx; lcallw $0x800, $(1f - box_segments);"
	     "movw %cs, %bp; hlt; 1: movw %cs, %di; lretw");

static void check_segments(void)
{
	struct kvm_sregs sregs = box_sregs(&box);

	EXPECT_EQ(*(u16 *)(box.memory + 0xa020), 0x1234);
	EXPECT_EQ(box_regs(&box).rbx, 0x1234);
	EXPECT_EQ(box_regs(&box).rcx, 0xa01);
	EXPECT_EQ(box_regs(&box).rsi, 0x20);
	EXPECT_EQ(box_regs(&box).rdx, 0xa03);
	EXPECT_EQ(box_regs(&box).rdi, 0x800);
	EXPECT_EQ(box_regs(&box).rbp, 0);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
	EXPECT_EQ(sregs.ds.base, 0xa030);
	EXPECT_EQ(sregs.ds.limit, 0xffff);
	EXPECT_EQ(sregs.es.base, 0xa010);
	EXPECT_EQ(sregs.cs.base, 0);
}

CASE(segments_are_16_times_the_selector, NEEDS(VMX))
{
	run_both(&segments, check_segments);
}

/* With 67H the sum of base and index has 32 bits: volume 2, 2.1.5. */
BOX_GUEST_16(wide_address,
	     "movw $0xa01, 0xa000; movl $0xa010, %ebx; movl $-16, %esi;"
	     "movw (%ebx, %esi), %es; movw %es, %dx; hlt");

static void check_wide_address(void)
{
	EXPECT_EQ(box_regs(&box).rdx, 0xa01);
	EXPECT_EQ(box_sregs(&box).es.base, 0xa010);
}

CASE(sum_of_32_bits, PROVES("guest-instructions:mmio.sib"), NEEDS(VMX))
{
	run_both(&wide_address, check_wide_address);
}

/* 20.3.1.3: an I/O breakpoint is a trap, so there is none where the limit of DS is a fault. */
BOX_GUEST_16(io_breakpoint,
	     "movl $8, %eax; movl %eax, %cr4; movl $0x60, %edx; movl %edx, %db0;"
	     "movl $0x20002, %eax; movl %eax, %db7; movw $0xffff, %si; outsw; hlt");

CASE(io_breakpoint_of_a_fault, PROVES("guest-instructions:io.iobp"), NEEDS(VMX))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&io_breakpoint, way);
		EXPECT_VECTOR(&box, VECTOR_GP);
	}
}

/* --- interrupts: 23.1.4 ----------------------------------------------------------------------- */

BOX_GUEST_16(interrupt, "stc; int $0x40; pushfw; popw %cx; hlt");

CASE(int_n_and_iret, PROVES("exceptions:frame.real_mode"), NEEDS(VMX))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&interrupt, way);
		/* In the handler. */
		EXPECT_VECTOR(&box, 0x40);
		EXPECT_EQ(STACK_WORD(1), RFLAGS_FIXED | RFLAGS_CF);
		EXPECT_EQ(STACK_WORD(2), 0);
		EXPECT_EQ(STACK_WORD(3), BOX_CODE + 3);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
		EXPECT_EQ(box_regs(&box).rcx, RFLAGS_FIXED | RFLAGS_CF);
		EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
	}
}

BOX_GUEST_16(wait, "sti; nop; 1: jmp 1b");

CASE(interrupt_of_user_space, PROVES("exceptions:frame.real_mode"), NEEDS(VMX))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&wait, way);
		EXPECT_EQ(hv_vcpu_interrupt(&box.vcpu, &(struct kvm_interrupt){ .irq = 0x50 }), 0);
		EXPECT_VECTOR(&box, 0x50);
		EXPECT_EQ(STACK_WORD(1), RFLAGS_FIXED | RFLAGS_IF);
		EXPECT_EQ(box_regs(&box).rflags & RFLAGS_IF, 0);
	}
}

/* POPF with TF: a trap behind the NOP, not behind POPF itself. */
BOX_GUEST_16(steps, "pushw $0x102; popfw; nop; hlt");

CASE(single_steps_of_the_guest, PROVES("exceptions:frame.real_mode"), NEEDS(VMX))
{
	struct kvm_debugregs debug;
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&steps, way);
		EXPECT_VECTOR(&box, VECTOR_DB);
		EXPECT_EQ(STACK_WORD(1), RFLAGS_FIXED | RFLAGS_TF);
		EXPECT_EQ(STACK_WORD(3), BOX_CODE + 5);
		EXPECT_EQ(hv_vcpu_get_debugregs(&box.vcpu, &debug), 0);
		EXPECT_EQ(debug.dr6 & BIT(14), BIT(14));
	}
}

/* --- faults ----------------------------------------------------------------------------------- */

BOX_GUEST_16(beyond_limit, "movw 0xffff, %ax");
BOX_GUEST_16(load_access_rights, "larw %ax, %bx");
BOX_GUEST_16(store_ldtr, "sldtw %ax");
BOX_GUEST_16(les_of_a_register, ".byte 0xc4, 0xc0");
BOX_GUEST_16(load_cs, ".byte 0x8e, 0xc8");
BOX_GUEST_16(sysenter, "sysenter");

static const struct fault_row {
	const struct box_guest *guest;
	u8 vector;
} faults[] = {
	{ &beyond_limit, VECTOR_GP },	    { &load_access_rights, VECTOR_UD },
	{ &store_ldtr, VECTOR_UD },	    { &les_of_a_register, VECTOR_UD },
	{ &load_cs, VECTOR_UD },	    { &sysenter, VECTOR_GP },
};

CASE(faults_have_no_error_code,
     PROVES("exceptions:frame.real_mode", "guest-instructions:dt.real_sldt",
	    "guest-instructions:sysenter.real"), NEEDS(VMX))
{
	u32 i, way;

	hv_start(page_alloc());
	for (i = 0; i < ARRAY_SIZE(faults); i++)
		for (way = 0; way < ways(); way++) {
			start(faults[i].guest, way);
			EXPECT_VECTOR(&box, faults[i].vector);
			EXPECT_EQ(STACK_WORD(3), BOX_CODE);
			EXPECT_EQ(box_regs(&box).rsp, BOX_STACK - 6);
		}
}

/* --- what exits, and what ends the run -------------------------------------------------------- */

BOX_GUEST_16(ports, "movb $0x5a, %al; outb %al, $0x80; movl %cr0, %ebx; hlt");

CASE(ports_and_control_registers, PROVES("kvm-exits:2"), NEEDS(VMX))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&ports, way);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		EXPECT_EQ(box.vcpu.run->io.port, 0x80);
		EXPECT_EQ(*((u8 *)box.vcpu.run + box.vcpu.run->io.data_offset), 0x5a);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
		EXPECT_EQ(box_regs(&box).rbx, CR0_ET | CR0_NE);
	}
}

/* The table has no such vector: #GP, the double fault's too. */
CASE(nowhere_to_deliver_is_a_shutdown, PROVES("kvm-exits:8"), NEEDS(VMX))
{
	struct kvm_sregs sregs;
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&store_ldtr, way);
		sregs = box_sregs(&box);
		sregs.idt = (struct kvm_dtable){ .limit = 0x10 };
		REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
		EXPECT_EXIT(box_run(&box), KVM_EXIT_SHUTDOWN);
	}
}

BOX_GUEST_16(nop_guest, "nop; hlt");

/*
 * The vector table or the stack is no memory: the run ends, whichever MMU, and the interrupt is not
 * lost. With memory there it goes on.
 */
static void no_memory_to_deliver(const struct hv_mmu *mmu)
{
	const struct kvm_interrupt interrupt = { .irq = 0x41 };
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs, good;
	struct kvm_regs regs;
	u32 what;

	for (what = 0; what < 2; what++) {
		box_start_on(&box, mmu, POOL, &nop_guest);
		good = sregs = box_sregs(&box);
		if (what)
			sregs.ss.base = 0x20000, sregs.ss.selector = 0x2000;
		else
			sregs.idt.base = 0x10000000;
		REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
		regs = box_regs(&box);
		regs.rflags |= RFLAGS_IF;
		REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
		REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &interrupt), 0);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
		EXPECT_EQ(box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
		EXPECT_EQ(FIELD(box.vcpu.run->internal.data[0], 7, 0), 0x41);
		hv_vcpu_get_events(&box.vcpu, &events);
		EXPECT_EQ(events.interrupt.injected, 1);
		EXPECT_EQ(events.interrupt.nr, 0x41);
		EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
		EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
		REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &good), 0);
		EXPECT_VECTOR(&box, 0x41);
	}
}

CASE(no_memory_to_deliver_is_an_internal_error, PROVES("kvm-exits:17"), NEEDS(VMX))
{
	hv_start(page_alloc());
	no_memory_to_deliver(&hv_mmu_shadow);
	if (hv_mmu_ept_restricted.supported())
		no_memory_to_deliver(&hv_mmu_ept_restricted);
	if (hv_mmu_ept.supported())
		no_memory_to_deliver(&hv_mmu_ept);
}

/* --- what virtual-8086 mode, or protected mode, would do with it ------------------------------ */

/* Nothing between a load of SS and the next instruction (7.8.3), a single-step trap neither. */
BOX_GUEST_16(load_ss, "pushw $0x102; popfw; movw %ax, %ss; nop; hlt");

CASE(no_trap_behind_a_load_of_ss, PROVES("exceptions:frame.real_mode"), NEEDS(VMX))
{
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&load_ss, way);
		EXPECT_VECTOR(&box, VECTOR_DB);
		EXPECT_EQ(STACK_WORD(3), BOX_CODE + 7);
	}
}

/* The segment for it is there: SYSENTER is #GP all the same. */
CASE(sysenter_with_a_segment, PROVES("guest-instructions:sysenter.real"), NEEDS(VMX))
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} cs = { .list.nmsrs = 1 };
	u32 way;

	cs.list.entries[0] = (struct kvm_msr_entry){ .index = IA32_SYSENTER_CS,
						     .data = SELECTOR_CODE32 };
	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&sysenter, way);
		REQUIRE_EQ(hv_vcpu_set_msrs(&box.vcpu, &cs.list), 1);
		EXPECT_VECTOR(&box, VECTOR_GP);
		EXPECT_EQ(STACK_WORD(3), BOX_CODE);
		EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &cs.list), 1);
		EXPECT_EQ(cs.list.entries[0].data, SELECTOR_CODE32);
	}
}

/* CPL is 0: alignment is not checked, whatever CR0.AM and EFLAGS.AC say. */
BOX_GUEST_16(unaligned, "movw 0xa001, %ax; smsw %bx; hlt");

CASE(alignment_is_not_checked, NEEDS(VMX))
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	u32 way;

	hv_start(page_alloc());
	for (way = 0; way < ways(); way++) {
		start(&unaligned, way);
		sregs = box_sregs(&box);
		sregs.cr0 |= CR0_AM;
		REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
		regs = box_regs(&box);
		regs.rflags |= RFLAGS_AC;
		REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
		EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 7);
		EXPECT_EQ(box_sregs(&box).cr0 & CR0_AM, CR0_AM);
	}
}
