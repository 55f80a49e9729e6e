/*
 * The core: what of a guest's instructions it does itself and what it leaves to user space.
 *
 * The core (lib/x86/hv) is the hypervisor of this suite: it runs VMs with VMX and has the interface
 * of Linux KVM. User space, here the case itself, calls hv_vcpu_run() as a program on the host
 * calls KVM_RUN, and finds in struct kvm_run why the guest stopped (the KVM API, chapter 5). Each
 * case starts a guest of a few instructions in a VM of 64 KBytes and follows it from exit to exit.
 */
#include "hv/box.h"
#include "string.h"

static struct box box;

/* --- CPUID and HLT ----------------------------------------------------------- */

BOX_GUEST_64(cpuid_guest, "mov $0x40000000, %eax\n\t mov $5, %ecx\n\t cpuid\n\t hlt");

CASE(cpuid_answers_from_the_table, PROVES("kvm-ioctls:cpuid2.set", "kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	struct kvm_regs regs;

	box_start(&box, &cpuid_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 0x40000000, .index = 5, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = 0x11111111, .ebx = 0x22222222, .ecx = 0x33333333, .edx = 0x44444444 });
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rax, 0x11111111);
	EXPECT_EQ(regs.rbx, 0x22222222);
	EXPECT_EQ(regs.rcx, 0x33333333);
	EXPECT_EQ(regs.rdx, 0x44444444);
	EXPECT_EQ(regs.rip, BOX_CODE + (cpuid_guest.end - cpuid_guest.start));
}

BOX_GUEST_16(real_mode_guest, "mov $0xffff, %ax\n\t mov %ax, %ds\n\t movw $0x1234, 0xa010\n\t hlt");

/* FFFFH:A010H is linear FFFF0H + A010H: beyond the memory. */
CASE(real_mode_runs_by_itself, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &real_mode_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, 0xffff0 + 0xa010);
	EXPECT_EQ(run->mmio.len, 2);
	EXPECT_TRUE(run->mmio.is_write);
	EXPECT_EQ(*(u16 *)run->mmio.data, 0x1234);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* From real mode to protected mode, as an operating system boots. */
BOX_GUEST_16(mode_switch_guest,
	     "lgdtl 0xa000\n\t"
	     "mov %cr0, %eax\n\t or $1, %al\n\t mov %eax, %cr0\n\t"
	     "ljmpl $0x18, $0x8018\n\t .org box_mode_switch_guest + 0x18\n\t"
	     ".code32\n\t mov $0x12345678, %ebx\n\t mov %cr0, %ecx\n\t hlt");

CASE(real_mode_to_protected_mode, PROVES("exit-reasons:28"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &mode_switch_guest);
	*(u16 *)box_at(&box, BOX_DATA) = GDT_SIZE - 1;
	*(u32 *)((u8 *)box_at(&box, BOX_DATA) + 2) = BOX_GDT;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	sregs = box_sregs(&box);
	EXPECT_EQ(box_regs(&box).rbx, 0x12345678);
	EXPECT_EQ(box_regs(&box).rcx & (CR0_PE | CR0_PG), CR0_PE);
	EXPECT_EQ(sregs.cs.selector, SELECTOR_CODE32);
	EXPECT_EQ(sregs.cs.db, 1);
	EXPECT_EQ(sregs.cr0 & CR0_PE, CR0_PE);
}

/* --- I/O --------------------------------------------------------------------- */

BOX_GUEST_64(io_guest,
	     "mov $0x11223344, %eax\n\t out %al, $0x80\n\t out %ax, $0x82\n\t mov $0x1234, %dx\n\t"
	     "out %eax, (%dx)\n\t mov $-1, %rax\n\t in $0x60, %al\n\t mov %rax, %rbx\n\t"
	     "in (%dx), %eax\n\t hlt");

static void expect_io(u8 direction, u16 port, u8 size, u32 count)
{
	const struct kvm_run *run = box.vcpu.run;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(run->io.direction, direction);
	EXPECT_EQ(run->io.port, port);
	EXPECT_EQ(run->io.size, size);
	EXPECT_EQ(run->io.count, count);
}

static void *io_data(void)
{
	return (u8 *)box.vcpu.run + box.vcpu.run->io.data_offset;
}

CASE(in_and_out, PROVES("kvm-exits:2"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &io_guest);
	expect_io(KVM_EXIT_IO_OUT, 0x80, 1, 1);
	EXPECT_EQ(*(u8 *)io_data(), 0x44);
	expect_io(KVM_EXIT_IO_OUT, 0x82, 2, 1);
	EXPECT_EQ(*(u16 *)io_data(), 0x3344);
	expect_io(KVM_EXIT_IO_OUT, 0x1234, 4, 1);
	EXPECT_EQ(*(u32 *)io_data(), 0x11223344);
	expect_io(KVM_EXIT_IO_IN, 0x60, 1, 1);
	*(u8 *)io_data() = 0x5a;
	expect_io(KVM_EXIT_IO_IN, 0x1234, 4, 1);
	EXPECT_EQ(box_regs(&box).rbx, 0xffffffffffffff5a);
	*(u32 *)io_data() = 0xcafef00d;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xcafef00d);
}

BOX_GUEST_64(string_io_guest,
	     "mov $0x60, %edx\n\t mov $0xa000, %esi\n\t mov $6, %ecx\n\t rep outsb\n\t"
	     "mov $0xb000, %edi\n\t mov $3, %ecx\n\t rep insw\n\t hlt");

/* The API leaves it open by how many elements at once. */
CASE(string_io, PROVES("kvm-ioctls:run.rep_io", "kvm-exits:2"), NEEDS(BOX_NEEDS))
{
	const struct kvm_run *run;
	char text[7] = "";
	u32 at = 0, i;

	box_start(&box, &string_io_guest);
	run = box.vcpu.run;
	memcpy(box_at(&box, BOX_DATA), "string", 6);
	for (; at < 6; at += run->io.count) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		REQUIRE_TRUE(run->io.direction == KVM_EXIT_IO_OUT && at + run->io.count <= 6);
		memcpy(text + at, io_data(), run->io.count);
	}
	EXPECT_EQ(memcmp(text, "string", 6), 0);
	for (at = 0; at < 3; at += run->io.count) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
		REQUIRE_TRUE(run->io.direction == KVM_EXIT_IO_IN && at + run->io.count <= 3);
		for (i = 0; i < run->io.count; i++)
			((u16 *)io_data())[i] = 0x1100 * (at + i + 1);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(*box_at(&box, 0xb000), 0x330022001100);
	EXPECT_EQ(box_regs(&box).rcx, 0);
	EXPECT_EQ(box_regs(&box).rsi, 0xa006);
	EXPECT_EQ(box_regs(&box).rdi, 0xb006);
}

BOX_GUEST_64(crossing_io_guest, "mov $0x60, %edx\n\t mov $0xafff, %edi\n\t insw\n\t hlt");

CASE(string_io_across_pages, PROVES("kvm-exits:2"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &crossing_io_guest);
	expect_io(KVM_EXIT_IO_IN, 0x60, 2, 1);
	*(u16 *)io_data() = 0x1234;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box.memory[0xafff], 0x34);
	EXPECT_EQ(box.memory[0xb000], 0x12);
}

/* --- MSRs -------------------------------------------------------------------- */

BOX_GUEST_64(msr_guest,
	     "mov $0x89abcdef, %eax\n\t mov $0x1234, %edx\n\t mov $0xc0000102, %ecx\n\t wrmsr\n\t"
	     "swapgs\n\t mov $0xc0000101, %ecx\n\t rdmsr\n\t hlt");

CASE(msr_of_the_guest, PROVES("exit-reasons:31", "exit-reasons:32"), NEEDS(BOX_NEEDS))
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = 1 };
	u64 own = rdmsr(IA32_KERNEL_GS_BASE);
	struct kvm_sregs sregs;

	msrs.list.entries[0].index = IA32_KERNEL_GS_BASE;
	box_start(&box, &msr_guest);
	sregs = box_sregs(&box);
	sregs.gs.base = 0x7654321;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x89abcdef);
	EXPECT_EQ(box_regs(&box).rdx, 0x1234);
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 1);
	EXPECT_EQ(msrs.list.entries[0].data, 0x7654321);
	EXPECT_EQ(box_sregs(&box).gs.base, 0x123489abcdef);
	/* The host has its own again. */
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), own);
}

BOX_GUEST_64(unknown_msr_guest,
	     "mov $0x4b564dff, %ecx\n\t mov $1, %eax\n\t mov $2, %edx\n\t wrmsr\n\t rdmsr\n\t hlt");

CASE(unknown_msr_is_gp, PROVES("guest-instructions:msr.unknown_wr"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &unknown_msr_guest);
	EXPECT_VECTOR(&box, VECTOR_GP);
}

CASE(unknown_msr_for_user_space, PROVES("kvm-exits:29", "kvm-exits:30"), NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &unknown_msr_guest);
	run = box.vcpu.run;
	REQUIRE_EQ(box_enable(&box, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_X86_WRMSR);
	EXPECT_EQ(run->msr.index, 0x4b564dff);
	EXPECT_EQ(run->msr.data, 0x200000001);
	EXPECT_EQ(run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_X86_RDMSR);
	EXPECT_EQ(run->msr.index, 0x4b564dff);
	run->msr.data = 0x8877665544332211;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x44332211);
	EXPECT_EQ(box_regs(&box).rdx, 0x88776655);
}

CASE(user_space_refuses_an_msr, PROVES("kvm-exits:30"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &unknown_msr_guest);
	REQUIRE_EQ(box_enable(&box, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_X86_WRMSR);
	box.vcpu.run->msr.error = 1;
	EXPECT_VECTOR(&box, VECTOR_GP);
}

BOX_GUEST_64(bad_efer_guest,
	     "mov $0xc0000080, %ecx\n\t xor %edx, %edx\n\t mov $0x8d01, %eax\n\t wrmsr\n\t hlt");

CASE(reserved_bit_of_efer_is_gp, PROVES("exit-reasons:32"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &bad_efer_guest);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_sregs(&box).efer, EFER_LME | EFER_LMA);
}

/* --- control registers ------------------------------------------------------- */

BOX_GUEST_64(cr_guest,
	     "mov %cr4, %rax\n\t or $0x10, %al\n\t mov %rax, %cr4\n\t mov %cr4, %rbx\n\t"
	     "mov %cr0, %rax\n\t btr $5, %rax\n\t bts $16, %rax\n\t mov %rax, %cr0\n\t"
	     "mov %cr0, %rcx\n\t mov $0x1000, %eax\n\t mov %rax, %cr3\n\t mov %cr3, %rdx\n\t"
	     "mov %cr0, %rax\n\t bts $3, %rax\n\t mov %rax, %cr0\n\t clts\n\t"
	     "mov %cr0, %rsi\n\t hlt");

/* The guest reads what it wrote, not what VMX needs (CR4.VMXE = 1, CR0.NE = 1). */
CASE(control_registers_of_the_guest, PROVES("exit-reasons:28"), NEEDS(BOX_NEEDS))
{
	const u64 cr0 = CR0_PG | CR0_WP | CR0_ET | CR0_PE;
	struct kvm_regs regs;

	box_start(&box, &cr_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rbx, CR4_PAE | CR4_PSE);
	EXPECT_EQ(regs.rcx, cr0);
	EXPECT_EQ(regs.rdx, 0x1000);
	EXPECT_EQ(regs.rsi, cr0);
	EXPECT_EQ(box_sregs(&box).cr0, cr0);
	EXPECT_EQ(box_sregs(&box).cr4, CR4_PAE | CR4_PSE);
}

/* One illegal write each; RAX is what the guest tries. */
struct cr_row {
	const struct box_guest *guest;
	u64 value;
};

BOX_GUEST_64(write_cr0_guest, "mov %rax, %cr0\n\t hlt");
BOX_GUEST_64(write_cr3_guest, "mov %rax, %cr3\n\t hlt");
BOX_GUEST_64(write_cr4_guest, "mov %rax, %cr4\n\t hlt");
BOX_GUEST_64(write_cr8_guest, "mov %rax, %cr8\n\t hlt");

static void illegal_cr(const struct case_def *this_case)
{
	const struct cr_row *row = this_case->row;
	struct kvm_sregs before;
	struct kvm_regs regs;

	box_start(&box, row->guest);
	before = box_sregs(&box);
	regs = box_regs(&box);
	regs.rax = row->value;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 48), 0);		/* error code */
	EXPECT_EQ(*box_at(&box, BOX_STACK - 40), BOX_CODE);	/* RIP */
	EXPECT_EQ(box_sregs(&box).cr0, before.cr0);
	EXPECT_EQ(box_sregs(&box).cr3, before.cr3);
	EXPECT_EQ(box_sregs(&box).cr4, before.cr4);
}

#define CR_CASE(id, guest, value, fact)						\
	CASE_RUN(id, illegal_cr, PROVES(fact), NEEDS(BOX_NEEDS),		\
		 ROW((&(const struct cr_row){ &guest, value })))

CR_CASE(cr0_upper_half_is_gp, write_cr0_guest, BIT(32) | CR0_PG | CR0_PE, "paging:cr0.upper");
CR_CASE(cr0_pg_without_pe_is_gp, write_cr0_guest, CR0_PG, "paging:mode.pg_without_pe");
CR_CASE(cr0_nw_without_cd_is_gp, write_cr0_guest, CR0_NW | CR0_PG | CR0_PE,
	"paging:cr0.nw_without_cd");
CR_CASE(cr0_without_pg_in_64_bit_mode_is_gp, write_cr0_guest, CR0_PE, "paging:mode.pg_clear_64");
CR_CASE(cr3_reserved_is_gp, write_cr3_guest, BIT(62), "paging:cr3.ia32e.reserved");
CR_CASE(cr4_reserved_is_gp, write_cr4_guest, CR4_PAE | BIT(31), "paging:cr4.reserved");
CR_CASE(cr4_vmxe_is_gp, write_cr4_guest, CR4_PAE | CR4_VMXE, "paging:cr4.feature_absent");
CR_CASE(cr4_smep_that_cpuid_lacks_is_gp, write_cr4_guest, CR4_PAE | CR4_SMEP,
	"paging:cr4.feature_absent");
CR_CASE(cr4_without_pae_in_64_bit_mode_is_gp, write_cr4_guest, 0, "paging:mode.pae_clear_lma");
CR_CASE(cr8_above_15_is_gp, write_cr8_guest, 16, "paging:cr8.range");

BOX_GUEST_64(cr8_guest,
	     "mov $9, %eax\n\t mov %rax, %cr8\n\t mov $3, %eax\n\t"
	     "mov %rax, %cr8\n\t mov %cr8, %rbx\n\t hlt");

CASE(lower_cr8_is_told, PROVES("kvm-exits:11"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &cr8_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_SET_TPR);
	EXPECT_EQ(box.vcpu.run->cr8, 3);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 3);
}

/* --- paging modes ------------------------------------------------------------ */

#define PDPT	0xb000

BOX_GUEST_32(pae_guest,
	     "mov $0x20, %eax\n\t mov %eax, %cr4\n\t mov $0xb000, %eax\n\t mov %eax, %cr3\n\t"
	     "mov %cr0, %eax\n\t bts $31, %eax\n\t mov %eax, %cr0\n\t mov 0x40a000, %ebx\n\t hlt");

/* A MOV to CR0 that turns PAE paging on loads the PDPTEs: 5.4.1. The core has to do it then. */
CASE(pae_paging, PROVES("paging:mode.select.pae", "paging:pdpte.load.cr0"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &pae_guest);
	*box_at(&box, PDPT) = (BOX_TABLES + 2 * PAGE_SIZE) | PTE_P;
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[2] = PTE_P | PTE_RW | PTE_PS;	/* 4 MBytes -> 0 */
	*box_at(&box, BOX_DATA) = 0x12345678;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 0x12345678);
	EXPECT_EQ(box_sregs(&box).efer, 0);
}

CASE(bad_pdpte_is_gp, PROVES("paging:pdpte.gp.cr0"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &pae_guest);
	*box_at(&box, PDPT) = (BOX_TABLES + 2 * PAGE_SIZE) | PTE_P;
	*box_at(&box, PDPT + 8) = PTE_P | PTE_RW;
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(box_sregs(&box).cr0 & CR0_PG, 0);
}

BOX_GUEST_32(long_mode_guest,
	     "mov $0x20, %eax\n\t mov %eax, %cr4\n\t mov $0x1000, %eax\n\t mov %eax, %cr3\n\t"
	     "mov $0xc0000080, %ecx\n\t mov $0x100, %eax\n\t xor %edx, %edx\n\t wrmsr\n\t"
	     "mov %cr0, %eax\n\t bts $31, %eax\n\t mov %eax, %cr0\n\t rdmsr\n\t"
	     "ljmp $8, $0x8040\n\t .org box_long_mode_guest + 0x40\n\t"
	     ".code64\n\t mov $0x1122334455667788, %rbx\n\t hlt");

CASE(protected_mode_to_64_bit_mode, PROVES("paging:mode.lma_set"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &long_mode_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	sregs = box_sregs(&box);
	EXPECT_EQ(box_regs(&box).rax, EFER_LME | EFER_LMA);
	EXPECT_EQ(box_regs(&box).rbx, 0x1122334455667788);
	EXPECT_EQ(sregs.efer, EFER_LME | EFER_LMA);
	EXPECT_EQ(sregs.cs.l, 1);
}

/* --- what ends a guest --------------------------------------------------------- */

BOX_GUEST_64(triple_fault_guest, "lidt 0xa000\n\t ud2");

CASE(triple_fault_is_shutdown, PROVES("kvm-exits:8"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &triple_fault_guest);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_SHUTDOWN);
}

/* A code segment of type 0 is one that no VM entry accepts: 29.3.1.2. */
CASE(bad_sregs_fail_the_entry, PROVES("kvm-exits:9"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs good, bad;

	box_start(&box, &cpuid_guest);
	good = bad = box_sregs(&box);
	bad.cs.type = 0;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &bad), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_FAIL_ENTRY);
	EXPECT_EQ(box.vcpu.run->fail_entry.hardware_entry_failure_reason,
		  BIT(31) | EXIT_ENTRY_FAILURE_INVALID_GUEST_STATE);
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &good), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

CASE(contradicting_sregs_are_refused,
     PROVES("kvm-ioctls:sregs.bad_cr4", "kvm-ioctls:sregs.bad_lma", "kvm-ioctls:sregs.lma_nopg",
	    "kvm-ioctls:sregs.cr0_pg_nope", "kvm-ioctls:sregs.cr3"), NEEDS(BOX_NEEDS))
{
	static const struct {
		u64 cr0, cr3, cr4;
	} flips[] = {
		{ .cr4 = BIT(31) }, { .cr4 = CR4_PAE }, { .cr0 = CR0_PG }, { .cr0 = CR0_PE },
		{ .cr3 = BIT(62) },
	};
	u32 i;

	box_start(&box, &cpuid_guest);
	for (i = 0; i < ARRAY_SIZE(flips); i++) {
		struct kvm_sregs bad = box_sregs(&box);

		bad.cr0 ^= flips[i].cr0;
		bad.cr3 ^= flips[i].cr3;
		bad.cr4 ^= flips[i].cr4;
		EXPECT_EQ(hv_vcpu_set_sregs(&box.vcpu, &bad), -EINVAL);
	}
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* FXSAVE to MMIO is none of the instructions that the core emulates. */
BOX_GUEST_64(unknown_instruction_guest, "mov $0x10000000, %eax\n\t fxsave (%rax)\n\t hlt");

CASE(internal_error_with_instruction_bytes, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	static const u8 fxsave[] = { 0x0f, 0xae, 0x00, 0xf4 };
	const struct kvm_run *run;

	box_start(&box, &unknown_instruction_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(run->emulation_failure.flags,
		  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	EXPECT_EQ(run->emulation_failure.ndata, 3);
	EXPECT_TRUE(run->emulation_failure.insn_size >= sizeof(fxsave));
	EXPECT_EQ(memcmp(run->emulation_failure.insn_bytes, fxsave, sizeof(fxsave)), 0);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 5);
}

BOX_GUEST_64(jump_guest, "mov $0x10000000, %eax\n\t jmp *%rax");

CASE(code_outside_of_memory, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &jump_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(box.vcpu.run->emulation_failure.ndata, 1);
	EXPECT_EQ(box_regs(&box).rip, BOX_MMIO);
}

/* --- hypercalls and instructions that the guest does not have --------------------- */

BOX_GUEST_64(hypercall_guest,
	     "mov $12, %eax\n\t mov $0x5000, %ebx\n\t mov $3, %ecx\n\t mov $16, %edx\n\t"
	     "vmcall\n\t hlt");

CASE(hypercall_for_user_space, PROVES("kvm-exits:3", "kvm-ioctls:enablecap.hypercall"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &hypercall_guest);
	run = box.vcpu.run;
	EXPECT_EQ(box_enable(&box, KVM_CAP_EXIT_HYPERCALL, BIT(13)), -EINVAL);
	REQUIRE_EQ(box_enable(&box, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE)), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HYPERCALL);
	EXPECT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	EXPECT_EQ(run->hypercall.args[0], 0x5000);
	EXPECT_EQ(run->hypercall.args[1], 3);
	EXPECT_EQ(run->hypercall.args[2], 16);
	run->hypercall.ret = 77;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 77);
}

CASE(unknown_hypercall, PROVES("kvm-exits:3"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &hypercall_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, -KVM_ENOSYS);
}

BOX_GUEST_64(vmxoff_guest, "vmxoff\n\t hlt");

CASE(guest_has_no_vmx, PROVES("exit-reasons:26"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &vmxoff_guest);
	EXPECT_VECTOR(&box, VECTOR_UD);
}

CASE(immediate_exit, PROVES("kvm-ioctls:run.immediate", "kvm-ioctls:run.pio_complete"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &io_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	EXPECT_EXIT(run->exit_reason, KVM_EXIT_IO);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 7);	/* behind MOV and the first OUT */
	run->immediate_exit = 0;
	expect_io(KVM_EXIT_IO_OUT, 0x82, 2, 1);
}

/* --- state that user space sets and gets --------------------------------------------- */

CASE(state_after_reset, PROVES("kvm-ioctls:sregs.reset"), NEEDS(BOX_NEEDS))
{
	static struct hv_vcpu second;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	box_start(&box, &cpuid_guest);
	REQUIRE_EQ(hv_vcpu_create(&box.vm, &second, 1), 0);
	hv_vcpu_get_regs(&second, &regs);
	hv_vcpu_get_sregs(&second, &sregs);
	EXPECT_EQ(regs.rip, 0xfff0);
	EXPECT_EQ(regs.rflags, RFLAGS_FIXED);
	EXPECT_EQ(sregs.cs.base, 0xffff0000);
	EXPECT_EQ(sregs.cs.selector, 0xf000);
	EXPECT_EQ(sregs.cr0, CR0_CD | CR0_NW | CR0_ET);
	EXPECT_EQ(sregs.cr4, 0);
	EXPECT_EQ(sregs.efer, 0);
	/* The two do not share what they are. */
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
}

CASE(registers_come_back, PROVES("kvm-ioctls:regs.roundtrip"), NEEDS(BOX_NEEDS))
{
	struct kvm_regs set, got;
	__u64 *value = (__u64 *)&set;
	u32 i;

	box_start(&box, &cpuid_guest);
	for (i = 0; i < sizeof(set) / sizeof(*value); i++)
		value[i] = 0x1111111111111111 * (i % 15 + 1) + i;
	set.rflags = RFLAGS_CF | RFLAGS_DF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &set), 0);
	got = box_regs(&box);
	set.rflags |= RFLAGS_FIXED;
	EXPECT_EQ(memcmp(&got, &set, sizeof(got)), 0);
}

CASE(interrupt_in_sregs, PROVES("kvm-ioctls:sregs.bitmap"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	box_start(&box, &cpuid_guest);
	sregs = box_sregs(&box);
	sregs.interrupt_bitmap[1] = BIT(0x50 - 64);
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	regs = box_regs(&box);
	regs.rflags |= RFLAGS_IF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	EXPECT_VECTOR(&box, 0x50);
}

CASE(linear_to_physical, PROVES("kvm-ioctls:translate.valid"), NEEDS(BOX_NEEDS))
{
	struct kvm_translation here = { .linear_address = BOX_DATA + 0x123 };
	struct kvm_translation nowhere = { .linear_address = BIT(39) };

	box_start(&box, &cpuid_guest);
	REQUIRE_EQ(hv_vcpu_translate(&box.vcpu, &here), 0);
	EXPECT_EQ(here.valid, 1);
	EXPECT_EQ(here.physical_address, BOX_DATA + 0x123);
	REQUIRE_EQ(hv_vcpu_translate(&box.vcpu, &nowhere), 0);
	EXPECT_EQ(nowhere.valid, 0);
}

CASE(msr_lists_stop_at_what_is_refused,
     PROVES("kvm-ioctls:msrs.partial", "kvm-ioctls:msrs.get_unknown"), NEEDS(BOX_NEEDS))
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + 3 * sizeof(struct kvm_msr_entry)];
	} msrs = { .list.nmsrs = 3 };
	struct kvm_msr_entry *entries = msrs.list.entries;

	entries[0] = (struct kvm_msr_entry){ .index = IA32_STAR, .data = 0x1234 };
	entries[1] = (struct kvm_msr_entry){ .index = 0x4b564dff };
	entries[2] = (struct kvm_msr_entry){ .index = IA32_LSTAR, .data = 0x5678 };
	box_start(&box, &cpuid_guest);
	EXPECT_EQ(hv_vcpu_set_msrs(&box.vcpu, &msrs.list), 1);
	entries[0].data = 0;
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 1);
	EXPECT_EQ(entries[0].data, 0x1234);
	entries[0] = entries[2];
	msrs.list.nmsrs = 1;
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 1);
	EXPECT_EQ(entries[0].data, 0);
	entries[0].index = 0x4b564dff;
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), 0);
}
