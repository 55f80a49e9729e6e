/*
 * The core: small rules that a hypervisor is easily wrong about.
 *
 * An instruction that exits and is emulated, or refused, must leave behind what it would have left
 * on the processor: flags, pending traps, the frame of its exception. An event whose delivery runs
 * into a fault is not lost (7.15 Interrupt 8, Double Fault Exception). User space can stop a guest
 * between any two instructions, so that the state in between counts as well: with
 * run->immediate_exit the core does what is left of the last exit and comes back.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

static struct box box;

#define FRAME_64	40		/* bytes of a frame without error code, in 64-bit mode */
#define IO_SIZE		2		/* bytes of OUT with an immediate port */

static u64 on_stack(u32 below_top)
{
	return *box_at(&box, BOX_STACK - below_top);
}

static void change_flags(u64 set)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rflags |= set;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

/* What the last exit left to do, and nothing else. */
static void finish_instruction(void)
{
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
}

/* --- behind an instruction ------------------------------------------------------------------ */

BOX_GUEST_64(out_guest, "out %al, $0x80\n\t nop\n\t nop\n\t hlt");

/* 20.3.1.1: RFLAGS.RF is clear behind an instruction, as a rule. */
CASE(emulation_clears_rf, PROVES("kvm-ioctls:run.pio_complete"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &out_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	change_flags(RFLAGS_RF);
	finish_instruction();
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + IO_SIZE);
	EXPECT_EQ(box_regs(&box).rflags & RFLAGS_RF, 0);
}

/* 20.3.1.4: the trap comes right behind the instruction that began with RFLAGS.TF = 1. */
static void trap_behind_emulation(const struct case_def *this_case)
{
	hv_start(page_alloc());
	box_start_on(&box, this_case->row, 300, &out_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	change_flags(RFLAGS_TF);
	EXPECT_VECTOR(&box, VECTOR_DB);
	EXPECT_EQ(on_stack(FRAME_64), BOX_CODE + IO_SIZE);
}

CASE_RUN(trap_behind_emulation, trap_behind_emulation, PROVES("interruptibility:pdbg.deliver"),
	 NEEDS(BOX_NEEDS), ROW(&hv_mmu_ept));
CASE_RUN(trap_behind_emulation_with_shadow_paging, trap_behind_emulation,
	 PROVES("interruptibility:pdbg.deliver"), NEEDS(VMX), ROW(&hv_mmu_shadow));

BOX_GUEST_64(outs_guest, "mov $0xa000, %esi\n\t mov $3, %ecx\n\t rep outsb\n\t hlt");

/* The last element ends the instruction, not a further round without one. */
CASE(string_io_ends_with_the_last_element, PROVES("kvm-ioctls:run.rep_io"), NEEDS(BOX_NEEDS))
{
	u64 left = 3;

	box_start(&box, &outs_guest);
	while (left) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		REQUIRE_TRUE(box.vcpu.run->io.count <= left);
		left -= box.vcpu.run->io.count;
	}
	finish_instruction();
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 12);
	EXPECT_EQ(box_regs(&box).rcx, 0);
}

/* --- what is refused -------------------------------------------------------------------------- */

BOX_GUEST_64(rdpmc_guest, "xor %ecx, %ecx\n\t rdpmc\n\t hlt");

CASE(rdpmc_is_gp, PROVES("exit-reasons:15"), NEEDS(BOX_NEEDS, PROC1(RDPMC_EXITING)))
{
	box_start(&box, &rdpmc_guest);
	EXPECT_VECTOR(&box, VECTOR_GP);
}

BOX_GUEST_64(vmxoff_guest, "vmxoff\n\t hlt");

/* 7.8.3, as for any fault: the RFLAGS that it pushes have RF = 1. */
CASE(refused_instruction_pushes_rf, PROVES("exit-reasons:26"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &vmxoff_guest);
	EXPECT_VECTOR(&box, VECTOR_UD);
	EXPECT_EQ(on_stack(FRAME_64 - 16) & RFLAGS_RF, RFLAGS_RF);
}

/* Exceptions have no error code in real-address mode: 29.2.1.3, 23.3. */
BOX_GUEST_16(real_wrmsr_guest, "mov $0x4b564dff, %ecx\n\t wrmsr\n\t hlt");

CASE(no_error_code_in_real_mode, PROVES("event-injection:inject.real"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &real_wrmsr_guest);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_regs(&box).rsp & 0xffff, BOX_STACK - 6);
}

/* INS checks ES before anything else happens. */
BOX_GUEST_32(insb_guest, "mov $0xa000, %edi\n\t mov $0x60, %edx\n\t insb\n\t hlt");

CASE(ins_to_a_read_only_segment, PROVES("guest-instructions:io.ins_fault_first"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &insb_guest);
	sregs = box_sregs(&box);
	sregs.es.type = 1;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(*(u32 *)box_at(&box, BOX_STACK - 16), 0);
	EXPECT_EQ(*(u32 *)box_at(&box, BOX_STACK - 12), BOX_CODE + 10);
}

/* --- hypercalls ------------------------------------------------------------------------------- */

struct hypercall {
	u64 gpa, pages, result;
	u8 cpl;
};

BOX_GUEST_64(hypercall_guest, "vmcall\n\t mov %rax, 0xa000\n\t ud2");

/* What comes of it is in memory: with CPL = 3 the guest has no HLT. */
static void refused_hypercall(const struct case_def *this_case)
{
	const struct hypercall *row = this_case->row;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	box_start(&box, &hypercall_guest);
	REQUIRE_EQ(box_enable(&box, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE)), 0);
	sregs = box_sregs(&box);
	sregs.cs.dpl = sregs.ss.dpl = row->cpl;
	sregs.cs.selector |= row->cpl;
	sregs.ss.selector |= row->cpl;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	regs = box_regs(&box);
	regs.rax = KVM_HC_MAP_GPA_RANGE;
	regs.rbx = row->gpa;
	regs.rcx = row->pages;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	box_run(&box);
	EXPECT_EQ(*box_at(&box, BOX_DATA), row->result);
}

#define HYPERCALL(id, ...)								\
	CASE_RUN(id, refused_hypercall, PROVES("kvm-exits:3"), NEEDS(BOX_NEEDS),	\
		 ROW((&(const struct hypercall){ __VA_ARGS__ })))

HYPERCALL(hypercall_of_a_user, 0x5000, 1, -KVM_EPERM, 3);
HYPERCALL(hypercall_for_no_pages, 0x5000, 0, -KVM_EINVAL, 0);
HYPERCALL(hypercall_for_half_a_page, 0x5800, 1, -KVM_EINVAL, 0);
HYPERCALL(hypercall_that_wraps, -PAGE_SIZE, 1, -KVM_EINVAL, 0);
/* Their size in bytes would be one page in 64 bits. */
HYPERCALL(hypercall_for_too_many_pages, 0x5000, BIT(52) | 1, -KVM_EINVAL, 0);

CASE(hypercall_without_a_hypervisor, PROVES("kvm-exits:3"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &hypercall_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 1, .eax = 0x600,
						       .edx = 0x0701a1ff });
	EXPECT_VECTOR(&box, VECTOR_UD);
	EXPECT_EQ(on_stack(FRAME_64), BOX_CODE);
}

/* --- CPUID ------------------------------------------------------------------------------------ */

BOX_GUEST_64(cpuid_guest, "cpuid\n\t hlt");

static struct kvm_regs cpuid_of(u32 leaf)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rax = leaf;
	regs.rcx = 0;
	regs.rip = BOX_CODE;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	return box_regs(&box);
}

/* CPUID (volume 2): a basic leaf above the highest one is answered as that is. */
CASE(leaf_above_the_highest, PROVES("guest-instructions:cpuid.above_max"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &cpuid_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 0, .eax = 2 });
	box_set_cpuid(&box,
		      (struct kvm_cpuid_entry2){ .function = 2, .eax = 0x1234, .edx = 0x5678 });
	EXPECT_EQ(cpuid_of(0x1f).rax, 0x1234);
	EXPECT_EQ(cpuid_of(0x1f).rdx, 0x5678);
	EXPECT_EQ(cpuid_of(0x80000099).rax, 0x1234);
}

/* CPUID.01H:ECX.OSXSAVE follows CR4. */
CASE(osxsave_follows_cr4, PROVES("guest-instructions:cpuid.osxsave"), NEEDS(BOX_NEEDS, CPU(XSAVE)))
{
	const struct kvm_cpuid_entry2 features = { .function = 1, .eax = 0x600, .ecx = BIT(26),
						   .edx = 0x0701a1ff };
	struct kvm_sregs sregs;

	box_start(&box, &cpuid_guest);
	box_set_cpuid(&box, features);
	EXPECT_EQ(cpuid_of(1).rcx & (BIT(26) | BIT(27)), BIT(26));
	sregs = box_sregs(&box);
	sregs.cr4 |= CR4_OSXSAVE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_EQ(cpuid_of(1).rcx & (BIT(26) | BIT(27)), BIT(26) | BIT(27));
}

/* CPUID.0DH.0:EBX is the size for what XCR0 enables now: 13.2 (volume 1). */
BOX_GUEST_64(xsave_guest,
	     "mov $0xd, %eax\n\t xor %ecx, %ecx\n\t cpuid\n\t mov %ebx, %r8d\n\t"
	     "mov $7, %eax\n\t xor %edx, %edx\n\t xor %ecx, %ecx\n\t xsetbv\n\t"
	     "mov $0xd, %eax\n\t xor %ecx, %ecx\n\t cpuid\n\t hlt");

CASE(xsave_size_follows_xcr0, PROVES("guest-instructions:cpuid.d_size_live"),
     NEEDS(BOX_NEEDS, CPU(AVX)))
{
	const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 0xd },
		{ .function = 1, .eax = 0x600, .ecx = BIT(28) | BIT(26), .edx = 0x0701a1ff },
		{ .function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7 },
		{ .function = 0xd, .index = 2, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		  .eax = cpuid_count(0xd, 2).eax, .ebx = cpuid_count(0xd, 2).ebx },
	};
	struct kvm_sregs sregs;
	u32 i;

	box_start(&box, &xsave_guest);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		box_set_cpuid(&box, entries[i]);
	sregs = box_sregs(&box);
	sregs.cr4 |= CR4_OSXSAVE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).r8, 512 + 64);
	EXPECT_EQ(box_regs(&box).rbx, entries[3].eax + entries[3].ebx);
}

/*
 * --- MSRs: addresses of the width that CPUID reports, 48 bits or 57
 * -------------------------------
 *
 * The processor itself judges a write to IA32_LSTAR, by its own width; IA32_SYSENTER_EIP is in the
 * VMCS, where nobody but the core judges it.
 */

BOX_GUEST_64(msr_guest, "wrmsr\n\t hlt");

#define ADDRESS_49	BIT(48)			/* of 57 bits, not of 48 */

static void write_msr(u32 index, u32 leaf_7_ecx)
{
	struct kvm_regs regs;

	box_start(&box, &msr_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = leaf_7_ecx });
	regs = box_regs(&box);
	regs.rax = (u32)ADDRESS_49;
	regs.rdx = ADDRESS_49 >> 32;
	regs.rcx = index;
	hv_vcpu_set_regs(&box.vcpu, &regs);
}

static void canonical_in_48_bits(const struct case_def *this_case)
{
	write_msr(*(const u32 *)this_case->row, 0);
	EXPECT_VECTOR(&box, VECTOR_GP);
}

/* The width is that of CPUID, not of the paging mode: the guest has 4-level paging here. */
static void canonical_in_57_bits(const struct case_def *this_case)
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = 1 };

	msrs.list.entries[0].index = *(const u32 *)this_case->row;
	write_msr(msrs.list.entries[0].index, BIT(16));
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	REQUIRE_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 1);
	EXPECT_EQ(msrs.list.entries[0].data, ADDRESS_49);
}

#define CANONICAL(id, width, index, fact, ...)						\
	CASE_RUN(id, canonical_in_##width##_bits, PROVES("guest-instructions:msr." fact),	\
		 NEEDS(BOX_NEEDS, ##__VA_ARGS__), ROW((&(const u32){ index })))

CANONICAL(canonical_addresses_of_48_bits, 48, IA32_LSTAR, "lstar");
CANONICAL(canonical_addresses_of_57_bits, 57, IA32_LSTAR, "lstar", CPU(LA57));
CANONICAL(sysenter_addresses_of_48_bits, 48, IA32_SYSENTER_EIP, "sysenter_esp");
CANONICAL(sysenter_addresses_of_57_bits, 57, IA32_SYSENTER_EIP, "sysenter_esp", CPU(LA57));

/* --- events whose delivery faults ------------------------------------------------------------- */

/*
 * Their handler has a stack of its own, by the interrupt-stack table, whose page lies behind a
 * table that no slot has. The processor stops at that table, and the core makes the page fault.
 */
#define TSS		0xc000
#define BAD_STACK	BIT(30)			/* its page directory is nowhere */
#define NOWHERE		0x8000000
#define IST1		36

/* The page fault's handler gives a good stack. */
#define GOOD_STACK	0xe000
#define MENDER		0x40

BOX_GUEST_64(waiting_guest,
	     "out %al, $0x80\n\t sti\n\t nop\n\t cli\n\t hlt\n\t .org box_waiting_guest + 0x40\n\t"
	     "inc %ebx\n\t movq $0xe000, 0xc024\n\t add $8, %rsp\n\t iretq");

static void start_with_bad_stack(u8 vector)
{
	const struct kvm_segment tr = { .base = TSS, .limit = 103, .selector = 0x30, .type = 11,
					.present = 1 };
	struct kvm_sregs sregs;

	box_start(&box, &waiting_guest);
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = NOWHERE | PTE_P | PTE_RW | PTE_A;
	memcpy(box.memory + TSS + IST1, &(u64){ BAD_STACK + 0x1000 }, sizeof(u64));
	box_at(&box, BOX_IDT)[2 * vector] |= BIT(32);		/* IST 1 */
	box_at(&box, BOX_IDT)[2 * VECTOR_PF] = (BOX_CODE + MENDER) | SELECTOR_CODE64 << 16 |
					       0x8e0000000000;
	sregs = box_sregs(&box);
	sregs.tr = tr;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
}

/* It has come behind the page fault, once, and interrupted what that had. */
static void expect_late_event(u8 vector)
{
	EXPECT_VECTOR(&box, vector);
	EXPECT_EQ(box_regs(&box).rbx, 1);
	EXPECT_EQ(box_regs(&box).rsp, GOOD_STACK - FRAME_64);
	EXPECT_EQ(*box_at(&box, GOOD_STACK - 16), BOX_STACK);
}

CASE(interrupt_waits_for_the_handler_of_its_fault, PROVES("ept:violation.during_delivery"),
     NEEDS(BOX_NEEDS))
{
	const struct kvm_interrupt irq = { .irq = 0x45 };

	start_with_bad_stack(0x45);
	REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &irq), 0);
	expect_late_event(0x45);
}

CASE(nmi_waits_for_the_handler_of_its_fault, PROVES("ept:violation.during_delivery"),
     NEEDS(BOX_NEEDS, PIN(VIRTUAL_NMIS), PROC1(NMI_WINDOW_EXITING)))
{
	start_with_bad_stack(VECTOR_NMI);
	REQUIRE_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	expect_late_event(VECTOR_NMI);
	/* Its IRET as well, so that nothing stays blocked. */
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/*
 * A task gate for #GP, and in its TSS a selector of an LDT that is not there: #TS, which the core
 * finds, because it makes the task switch. Two contributory exceptions are a #DF (Table 7-5).
 */
#define RULES_GDT	0xd000
#define SELECTOR_TSS	0x30
#define OLD_TSS		0xc800

BOX_GUEST_32(faulting_guest, "mov $0x4b564dff, %ecx\n\t wrmsr\n\t hlt");

CASE(fault_of_a_contributory_exception_is_a_double_fault,
     PROVES("exceptions:pair.contributory.contributory"), NEEDS(BOX_NEEDS))
{
	const u64 tss_type = 0x89;		/* 32-bit TSS, available, P = 1 */
	u32 *tss, i;
	struct kvm_sregs sregs;

	box_start(&box, &faulting_guest);
	memcpy(box.memory + RULES_GDT, box.memory + BOX_GDT, SELECTOR_TSS);
	*box_at(&box, RULES_GDT + SELECTOR_TSS) = 103 | (u64)TSS << 16 | tss_type << 40;
	tss = (u32 *)box_at(&box, TSS);
	tss[8] = BOX_CODE;			/* EIP */
	tss[9] = RFLAGS_FIXED;			/* EFLAGS */
	tss[14] = BOX_STACK;			/* ESP */
	for (i = 0; i < 6; i++)
		tss[18 + i] = i == 1 ? SELECTOR_CODE32 : SELECTOR_DATA;
	tss[24] = 0xff8;			/* LDT: beyond the GDT */
	sregs = box_sregs(&box);
	sregs.gdt = (struct kvm_dtable){ .base = RULES_GDT, .limit = SELECTOR_TSS + 7 };
	sregs.tr = (struct kvm_segment){ .base = OLD_TSS, .limit = 103,
					 .selector = SELECTOR_TSS + 8, .type = 11, .present = 1 };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	/* A task gate. */
	box_at(&box, BOX_IDT)[VECTOR_GP] = (u64)SELECTOR_TSS << 16 | 0x850000000000;
	EXPECT_VECTOR(&box, VECTOR_DF);
}

/*
 * The processor itself executes an IMUL whose source is a device, with the operand elsewhere: but
 * not into RSP, which is the core's own meanwhile. A guest that could set it would run the core on
 * a stack of its choice.
 */
BOX_GUEST_64(imul_byte_guest, "mov $0x10000000, %ebx\n\t imul $1, (%rbx), %esp\n\t hlt");
BOX_GUEST_64(imul_dword_guest, "mov $0x10000000, %ebx\n\t imul $0x12345678, (%rbx), %rsp\n\t hlt");

static void device_into_rsp(const struct case_def *this_case)
{
	box_start(&box, this_case->row);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 5);
}

CASE_RUN(imul_of_a_device_into_esp, device_into_rsp, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS),
	 ROW(&imul_byte_guest));
CASE_RUN(imul_of_a_device_into_rsp, device_into_rsp, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS),
	 ROW(&imul_dword_guest));

/* --- IA32_MISC_ENABLE: volume 4 --------------------------------------------------------------- */

#define NO_BTS_NO_PEBS	BITS(12, 11)
#define MONITOR_ENABLED	BIT(18)

BOX_GUEST_64(rdmsr_misc_guest, "mov $0x1a0, %ecx\n\t rdmsr\n\t hlt");
BOX_GUEST_64(wrmsr_misc_guest, "mov $0x1a0, %ecx\n\t wrmsr\n\t rdmsr\n\t hlt");
BOX_GUEST_64(monitor_guest, "mov $0xa000, %eax\n\t monitor\n\t hlt");
BOX_GUEST_64(monitor_off_guest,
	     "mov $0x1a0, %ecx\n\t rdmsr\n\t btr $18, %eax\n\t wrmsr\n\t mov $1, %eax\n\t cpuid\n\t"
	     "mov %ecx, %edi\n\t mov $0xa000, %eax\n\t xor %ecx, %ecx\n\t xor %edx, %edx\n\t"
	     "monitor\n\t hlt");

static void give_monitor(void)
{
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 1, .eax = 0x600, .ecx = BIT(31) | BIT(3), .edx = 0x0701a1ff });
}

static void begin_again(void)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rip = BOX_CODE;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

CASE(misc_enable_as_cpuid_has_monitor, PROVES("guest-instructions:msr.misc_enable"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &rdmsr_misc_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, NO_BTS_NO_PEBS | BIT(0));
	give_monitor();
	begin_again();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, NO_BTS_NO_PEBS | MONITOR_ENABLED | BIT(0));
}

CASE(monitor_that_is_switched_off, PROVES("guest-instructions:cpuid.mwait_flag"),
     NEEDS(BOX_NEEDS, PROC1(MONITOR_EXITING)))
{
	box_start(&box, &monitor_off_guest);
	give_monitor();
	EXPECT_VECTOR(&box, VECTOR_UD);
	EXPECT_EQ(box_regs(&box).rdi & BIT(3), 0);
}

/* And one that is not there: until CPUID has it. */
CASE(monitor_that_is_absent, PROVES("guest-instructions:cpuid.mwait_flag"),
     NEEDS(BOX_NEEDS, PROC1(MONITOR_EXITING), CPU(MONITOR)))
{
	box_start(&box, &monitor_guest);
	EXPECT_VECTOR(&box, VECTOR_UD);
	give_monitor();
	begin_again();
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 9);
}

struct misc_row {
	u64 value;
	bool monitor, legal;
};

static void write_misc_enable(const struct case_def *this_case)
{
	const struct misc_row *row = this_case->row;
	struct kvm_regs regs;

	box_start(&box, &wrmsr_misc_guest);
	if (row->monitor)
		give_monitor();
	regs = box_regs(&box);
	regs.rax = row->value;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	if (!row->legal) {
		EXPECT_VECTOR(&box, VECTOR_GP);
		return;
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, row->value);
}

#define WRITE_MISC(id, ...)								\
	CASE_RUN(misc_enable_##id, write_misc_enable,					\
		 PROVES("guest-instructions:msr.misc_enable"), NEEDS(BOX_NEEDS),	\
		 ROW((&(const struct misc_row){ __VA_ARGS__ })))

WRITE_MISC(without_fast_strings, NO_BTS_NO_PEBS, false, true);
WRITE_MISC(without_monitor, NO_BTS_NO_PEBS, true, true);
WRITE_MISC(monitor_without_the_feature, NO_BTS_NO_PEBS | MONITOR_ENABLED, false, false);
WRITE_MISC(with_bts, BIT(12), false, false);
WRITE_MISC(with_pebs, BIT(11), false, false);
WRITE_MISC(with_performance_counters, NO_BTS_NO_PEBS | BIT(7), false, false);
WRITE_MISC(limit_of_cpuid, NO_BTS_NO_PEBS | BIT(22), false, false);
