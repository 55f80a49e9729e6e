/*
 * The core: what user space may ask for, and what KVM would refuse.
 *
 * A call that is refused has done nothing: registers, slots and vCPUs are as before. What it
 * carries from one VM to another (registers, events, the state of a processor that waits) is all
 * that the guest needs to go on there.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "hv/box.h"
#include "string.h"

static struct box box;

BOX_GUEST_64(hlt_guest, "hlt");

/* --- KVM_SET_SREGS ---------------------------------------------------------------------------- */

struct bad_sregs {
	u64 cr0_off, cr0_on, cr4_off, cr4_on, cr8, efer_on, base_off, base_on;
};

static void refused_sregs(const struct case_def *this_case)
{
	const struct bad_sregs *row = this_case->row;
	struct kvm_sregs before, sregs;

	box_start(&box, &hlt_guest);
	before = sregs = box_sregs(&box);
	sregs.cr0 = (sregs.cr0 & ~row->cr0_off) | row->cr0_on;
	sregs.cr4 = (sregs.cr4 & ~row->cr4_off) | row->cr4_on;
	sregs.cr8 = row->cr8;
	sregs.efer |= row->efer_on;
	sregs.apic_base = (sregs.apic_base & ~row->base_off) | row->base_on;
	/* Had it been begun, these would show. */
	sregs.gdt.base = 0x123000;
	sregs.cr2 = 0x456000;
	sregs.ds.selector = 0x78;
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), -EINVAL);
	sregs = box_sregs(&box);
	EXPECT_EQ(memcmp(&sregs, &before, sizeof(sregs)), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

#define REFUSED(id, fact, ...)								\
	CASE_RUN(id, refused_sregs, PROVES("kvm-ioctls:sregs." fact), NEEDS(BOX_NEEDS),	\
		 ROW((&(const struct bad_sregs){ __VA_ARGS__ })))

REFUSED(sregs_cr0_upper_half, "cr0_pg_nope", .cr0_on = BIT(32));
REFUSED(sregs_nw_without_cd, "cr0_pg_nope", .cr0_on = CR0_NW);
REFUSED(sregs_paging_without_pe, "cr0_pg_nope", .cr0_off = CR0_PE);
REFUSED(sregs_reserved_bit_of_cr4, "bad_cr4", .cr4_on = BIT(31));
REFUSED(sregs_long_mode_without_pae, "bad_lma", .cr4_off = CR4_PAE);
REFUSED(sregs_lma_without_paging, "lma_nopg", .cr0_off = CR0_PG);
/* Where KVM leaves the register as it is, and says nothing. */
CASE_RUN(sregs_cr8_of_16, refused_sregs, PROVES("paging:cr8.range"), NEEDS(BOX_NEEDS),
	 ROW((&(const struct bad_sregs){ .cr8 = 16 })));
REFUSED(sregs_reserved_bit_of_efer, "bad_lma", .efer_on = BIT(1));
REFUSED(sregs_apic_base_all_ones, "apic_base", .base_on = ~0ull);
REFUSED(sregs_apic_base_bit_9, "apic_base", .base_on = BIT(9));
REFUSED(sregs_apic_base_above_maxphyaddr, "apic_base", .base_on = BIT(40));
/* EXTD without EN, and without the feature. */
REFUSED(sregs_invalid_apic_mode, "apic_base", .base_off = BIT(11), .base_on = BIT(10));
REFUSED(sregs_x2apic_without_the_feature, "apic_base", .base_on = BIT(10));

/* 2.5 Control Registers: CR4.CET needs CR0.WP, in whichever way either of them comes. */
BOX_GUEST_64(write_cr0_guest, "mov %rax, %cr0\n\t hlt");
BOX_GUEST_64(write_cr4_guest, "mov %rax, %cr4\n\t hlt");

static void give_cet(void)
{
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = BIT(7) });
}

static void set_control(u64 cr0, u64 cr4, int result)
{
	struct kvm_sregs sregs = box_sregs(&box);

	sregs.cr0 |= cr0;
	sregs.cr4 |= cr4;
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), result);
}

static void set_rax(u64 value)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rax = value;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

CASE(wp_off_with_cet_is_gp, PROVES("paging:mode.wp_needs_cet0"), NEEDS(BOX_NEEDS, CPU(CET_SS)))
{
	box_start(&box, &write_cr0_guest);
	give_cet();
	set_control(CR0_WP, CR4_CET, 0);
	/* Alone it is the processor's: CR0.WP is the guest's. With CR0.CD it is the core's. */
	set_rax((box_sregs(&box).cr0 & ~(u64)CR0_WP) | CR0_CD);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_sregs(&box).cr0 & CR0_WP, CR0_WP);
}

CASE(cet_without_wp_is_gp, PROVES("paging:mode.cet_needs_wp"), NEEDS(BOX_NEEDS, CPU(CET_SS)))
{
	box_start(&box, &write_cr4_guest);
	give_cet();
	set_rax(box_sregs(&box).cr4 | CR4_CET);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_sregs(&box).cr4 & CR4_CET, 0);
}

CASE(sregs_cet_without_wp, PROVES("paging:mode.cet_needs_wp"), NEEDS(BOX_NEEDS, CPU(CET_SS)))
{
	box_start(&box, &hlt_guest);
	give_cet();
	set_control(0, CR4_CET, -EINVAL);
	EXPECT_EQ(box_sregs(&box).cr4 & CR4_CET, 0);
	set_control(CR0_WP, CR4_CET, 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/*
 * No processor has an illegal PDPTE register: 5.4.1. KVM
 * takes such registers and keeps the PDPTEs that it has.
 */
#define PDPT	0xb000

BOX_GUEST_32(hlt_guest_32, "hlt");

CASE(sregs_with_a_bad_pdpte, PROVES("paging:pdpte.gp.cr0"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &hlt_guest_32);
	*box_at(&box, PDPT) = (BOX_TABLES + 2 * PAGE_SIZE) | PTE_P;
	*box_at(&box, PDPT + 8) = PTE_P | PTE_RW;
	sregs = box_sregs(&box);
	sregs.cr0 |= CR0_PG;
	sregs.cr3 = PDPT;
	sregs.cr4 |= CR4_PAE;
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), -EINVAL);
	EXPECT_EQ(box_sregs(&box).cr3, 0);
	*box_at(&box, PDPT + 8) = 0;
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* --- IA32_APIC_BASE, by user space and by the guest ------------------------------------------- */

static u32 set_msr(u32 index, u64 value)
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = 1 };

	msrs.list.entries[0] = (struct kvm_msr_entry){ .index = index, .data = value };
	return hv_vcpu_set_msrs(&box.vcpu, &msrs.list);
}

/*
 * User space may do in one step what the guest must not:
 * from x2APIC mode to xAPIC mode, and from disabled.
 */
CASE(apic_base_by_user_space, PROVES("kvm-ioctls:sregs.apic_base"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	const u64 xapic = 0xfee00000 | BIT(11) | BIT(8), x2apic = xapic | BIT(10);
	struct kvm_sregs sregs;

	box_start_with_apic(&box, &hlt_guest);
	EXPECT_EQ(set_msr(IA32_APIC_BASE, x2apic), 0);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 1, .eax = 0x600, .ecx = BIT(21),
						       .edx = 0x0701a1ff });
	EXPECT_EQ(set_msr(IA32_APIC_BASE, x2apic | BIT(63)), 0);
	EXPECT_EQ(set_msr(IA32_APIC_BASE, x2apic & ~BIT(11)), 0);
	EXPECT_EQ(set_msr(IA32_APIC_BASE, x2apic), 1);
	EXPECT_EQ(set_msr(IA32_APIC_BASE, xapic), 1);
	EXPECT_EQ(box_sregs(&box).apic_base, xapic);
	sregs = box_sregs(&box);
	sregs.apic_base &= ~BIT(11);
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	sregs.apic_base = x2apic;
	sregs.cr8 = 5;
	EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_EQ(box_sregs(&box).apic_base, x2apic);
	EXPECT_EQ(box_sregs(&box).cr8, 5);
}

/* --- MSRs that the guest uses in the processor: what that refuses stays with the core --------- */

static u64 get_msr(u32 index)
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = 1 };

	msrs.list.entries[0].index = index;
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 1);
	return msrs.list.entries[0].data;
}

/*
 * Of the values that the core takes, the processors here refuse none: IA32_SPEC_CTRL = 7 and bit 2
 * of the shadow-stack pointers were tried on Bochs 2.7 and four models of 3.1. So the case puts one
 * where the core keeps those of user space, behind its checks: an address that is canonical
 * nowhere. What the processor refuses stays with the core, the host keeps its own, and the other
 * MSRs are the guest's all the same.
 */
BOX_GUEST_64(rdmsr_star_guest, "mov $0xc0000081, %ecx\n\t rdmsr\n\t hlt");

CASE(msr_that_the_processor_refuses, PROVES("kvm-ioctls:msrs.partial"), NEEDS(BOX_NEEDS))
{
	const u64 refused = BIT(63), host = rdmsr(IA32_LSTAR);

	box_start(&box, &rdmsr_star_guest);
	REQUIRE_TRUE(wrmsr_safe(IA32_LSTAR, refused) == OUTCOME_GP0);
	EXPECT_EQ(set_msr(IA32_LSTAR, refused), 0);
	EXPECT_EQ(set_msr(IA32_STAR, 0x12345678), 1);
	box.vcpu.msr[HV_MSR_LSTAR] = refused;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x12345678);
	EXPECT_EQ(get_msr(IA32_LSTAR), refused);
	EXPECT_EQ(rdmsr(IA32_LSTAR), host);
}

/*
 * The guest gives it a good value then: that is the guest's, and the host has its own again, which
 * the guest has not seen, neither by RDMSR nor where SWAPGS and SYSCALL look.
 */
BOX_GUEST_64(replace_msr_guest,
	     "swapgs\n\t mov $0xc0000101, %ecx\n\t rdmsr\n\t mov %eax, %edi\n\t swapgs\n\t"
	     "mov $0xc0000102, %ecx\n\t rdmsr\n\t mov %eax, %ebx\n\t mov %edx, %esi\n\t"
	     "mov $0x1234000, %eax\n\t xor %edx, %edx\n\t wrmsr\n\t rdmsr\n\t hlt");

CASE(refused_msr_that_the_guest_replaces, PROVES("kvm-ioctls:msrs.partial"), NEEDS(BOX_NEEDS))
{
	const u64 refused = BIT(63) | 0x56, before = rdmsr(IA32_KERNEL_GS_BASE), host = 0x7654000;
	struct kvm_regs regs;

	box_start(&box, &replace_msr_guest);
	wrmsr(IA32_KERNEL_GS_BASE, host);
	box.vcpu.msr[HV_MSR_KERNEL_GS_BASE] = refused;
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rdi, 0);
	EXPECT_EQ(regs.rsi << 32 | regs.rbx, refused);
	EXPECT_EQ(regs.rax, 0x1234000);
	EXPECT_EQ(get_msr(IA32_KERNEL_GS_BASE), 0x1234000);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), host);
	wrmsr(IA32_KERNEL_GS_BASE, before);
}

/* As it comes from Linux, which shows counters, or with a switch of a feature that is not there. */
CASE(misc_enable_by_user_space, PROVES("kvm-ioctls:msrs.partial"), NEEDS(BOX_NEEDS))
{
	const u64 read_only = BITS(12, 11), counters = BIT(7), monitor = BIT(18);

	box_start(&box, &hlt_guest);
	EXPECT_EQ(set_msr(IA32_MISC_ENABLE, read_only | counters | monitor), 1);
	EXPECT_EQ(get_msr(IA32_MISC_ENABLE), read_only);
	EXPECT_EQ(set_msr(IA32_MISC_ENABLE, 1), 1);
	EXPECT_EQ(get_msr(IA32_MISC_ENABLE), read_only | 1);
	EXPECT_EQ(set_msr(IA32_MISC_ENABLE, BIT(22)), 0);
	EXPECT_EQ(set_msr(IA32_MISC_ENABLE, BIT(63) | 1), 0);
	EXPECT_EQ(get_msr(IA32_MISC_ENABLE), read_only | 1);
}

/* What nobody can change may be written as it is: a list that was read is one that can be. */
CASE(read_only_msr_as_it_is, PROVES("kvm-ioctls:msrs.partial"), NEEDS(BOX_NEEDS))
{
	const u32 mcg_cap = 0x179;

	box_start(&box, &hlt_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 1, .eax = 0x600, .edx = 0x0701a1ff | BIT(14) });
	EXPECT_EQ(get_msr(mcg_cap), 1);
	EXPECT_EQ(set_msr(mcg_cap, 1), 1);
	EXPECT_EQ(set_msr(mcg_cap, 2), 0);
	EXPECT_EQ(get_msr(mcg_cap), 1);
}

CASE(cpuid_with_a_strange_width, PROVES("kvm-ioctls:cpuid2.vaddr"), NEEDS(BOX_NEEDS))
{
	union {
		struct kvm_cpuid2 table;
		u8 room[sizeof(struct kvm_cpuid2) + sizeof(struct kvm_cpuid_entry2)];
	} cpuid = { .table.nent = 1 };
	u32 before;

	box_start(&box, &hlt_guest);
	before = box.vcpu.cpuid_count;
	cpuid.table.entries[0] = (struct kvm_cpuid_entry2){ .function = 0x80000008,
							    .eax = 0x3128 };
	EXPECT_EQ(hv_vcpu_set_cpuid(&box.vcpu, &cpuid.table), -EINVAL);
	EXPECT_EQ(box.vcpu.cpuid_count, before);
	cpuid.table.entries[0].eax = 0x28;
	EXPECT_EQ(hv_vcpu_set_cpuid(&box.vcpu, &cpuid.table), 0);
}

/* --- events and the state of a processor that waits ------------------------------------------- */

/* A vCPU that has its start-up IPI goes from one VM to another, and starts there. */
CASE(sipi_vector_goes_along, PROVES("kvm-ioctls:events.sipi", "kvm-ioctls:mpstate.get"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_SIPI_RECEIVED };
	struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR,
					  .sipi_vector = 0x9 };
	struct kvm_sregs sregs;

	box_start_with_apic(&box, &hlt_guest_32);
	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	REQUIRE_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), 0);
	EXPECT_EQ(hv_vcpu_get_mp_state(&box.vcpu, &state), 0);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_SIPI_RECEIVED);
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.sipi_vector, 0x9);
	EXPECT_EQ(events.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR, KVM_VCPUEVENT_VALID_SIPI_VECTOR);
	/* 09000H: HLT. */
	box.memory[0x9000] = 0xf4;
	sregs = box_sregs(&box);
	sregs.cr0 = CR0_ET;
	sregs.cs = (struct kvm_segment){ .limit = 0xffff, .type = 11, .present = 1, .s = 1 };
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = (struct kvm_segment){
		.limit = 0xffff, .type = 3, .present = 1, .s = 1 };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	box_run_to_halt(&box);
	EXPECT_EQ(box_sregs(&box).cs.base, 0x9000);
	EXPECT_EQ(box_regs(&box).rip, 1);
	hv_vcpu_get_events(&box.vcpu, &events);
	EXPECT_EQ(events.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR, 0);
}

/* --- breakpoints of user space, and INIT ------------------------------------------------------ */

/*
 * The guest has a breakpoint of its own in DR1; INIT
 * to oneself, which keeps the boot processor running.
 */
BOX_GUEST_32(init_guest,
	     "mov $0x5000, %eax\n\t mov %eax, %dr1\n\t mov $0x404, %eax\n\t mov %eax, %dr7\n\t"
	     "movl $0xc500, 0xfee00300\n\t hlt");

CASE(breakpoints_outlive_init, PROVES("kvm-exits:4", "apic:init.state"),
     NEEDS(BOX_NEEDS, PROC1(MOV_DR_EXITING), PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
					 .arch.debugreg = { [0] = 0xfffffff0, [7] = 0x402 } };
	struct kvm_debugregs own;
	u32 i;

	box_start_with_apic(&box, &init_guest);
	REQUIRE_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	for (i = 0; i < 4; i++) {
		box_run(&box);
		if (box.vcpu.run->exit_reason != KVM_EXIT_INTR)
			break;
	}
	REQUIRE_EXIT(box.vcpu.run->exit_reason, KVM_EXIT_DEBUG);
	EXPECT_EQ(box.vcpu.run->debug.arch.pc, 0xfffffff0);
	hv_vcpu_get_debugregs(&box.vcpu, &own);
	EXPECT_EQ(own.db[1], 0);
	EXPECT_EQ(own.dr7, DR7_FIXED);
}

/* --- slots ------------------------------------------------------------------------------------ */

/* What the MMU cannot map is refused: KVM goes by MAXPHYADDR; the core's EPT has four levels. */
static void slot_too_high(const struct case_def *this_case)
{
	const struct hv_mmu *mmu = this_case->row;
	struct kvm_userspace_memory_region region = {
		.slot = 1, .memory_size = 2 * PAGE_SIZE,
		.userspace_addr = physical(pages_alloc(2 * PAGE_SIZE, PAGE_SIZE)) };
	u64 end = BIT(mmu->gpa_bits());

	hv_start(page_alloc());
	box_start_on(&box, mmu, 300, &hlt_guest);
	region.guest_phys_addr = BIT(52);
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -EINVAL);
	region.guest_phys_addr = end;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -EINVAL);
	region.guest_phys_addr = end - PAGE_SIZE;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -EINVAL);
	EXPECT_EQ(box.vm.slots[1].region.memory_size, 0);
	region.guest_phys_addr = end - 2 * PAGE_SIZE;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	/* Nor may it be moved there. */
	region.guest_phys_addr = end;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -EINVAL);
	EXPECT_EQ(box.vm.slots[1].region.guest_phys_addr, end - 2 * PAGE_SIZE);
}

CASE_RUN(slot_too_high, slot_too_high, PROVES("kvm-ioctls:mem.gpa_high"), NEEDS(BOX_NEEDS),
	 ROW(&hv_mmu_ept));
CASE_RUN(slot_too_high_with_shadow_paging, slot_too_high, PROVES("kvm-ioctls:mem.gpa_high"),
	 NEEDS(VMX), ROW(&hv_mmu_shadow));

/* --- hypercalls outside of 64-bit mode -------------------------------------------------------- */

/* Halves above bit 31 that a 64-bit program has left are none of the hypercall's. */
BOX_GUEST_32(hypercall_guest_32, "vmcall\n\t hlt");

static void hypercall_in_32_bits(u64 number, u64 address)
{
	struct kvm_regs regs;

	box_start(&box, &hypercall_guest_32);
	REQUIRE_EQ(box_enable(&box, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE)), 0);
	regs = box_regs(&box);
	regs.rax = number;
	regs.rbx = address;
	regs.rcx = BIT(40) | 2;
	regs.rdx = BIT(41) | 3;
	hv_vcpu_set_regs(&box.vcpu, &regs);
}

CASE(hypercall_has_32_bits, PROVES("kvm-exits:3"), NEEDS(BOX_NEEDS))
{
	const struct kvm_run *run;

	hypercall_in_32_bits(BIT(35) | KVM_HC_MAP_GPA_RANGE, BIT(36) | 0x5000);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HYPERCALL);
	EXPECT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	EXPECT_EQ(run->hypercall.args[0], 0x5000);
	EXPECT_EQ(run->hypercall.args[1], 2);
	EXPECT_EQ(run->hypercall.args[2], 3);
	EXPECT_EQ(run->hypercall.longmode, 0);
	box.vcpu.run->hypercall.ret = -1ull;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xffffffff);
}

CASE(refused_hypercall_has_32_bits, PROVES("kvm-exits:3"), NEEDS(BOX_NEEDS))
{
	hypercall_in_32_bits(0x55, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, (u32)-KVM_ENOSYS);
}
