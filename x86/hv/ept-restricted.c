/*
 * EPT without "unrestricted guest": a guest without paging gets PAE paging with directories of the
 * core that map memory to itself (lib/x86/hv/mmu_ept.c). Nothing of it may be seen by that guest,
 * or by one with paging, which could reach the page where they are. Real-address mode is in
 * hv/real-mode.
 */
#include "cpu/features.h"
#include "hv/box.h"

static struct box box;

static void start(const struct box_guest *guest)
{
	hv_start(page_alloc());
	box_start_on(&box, &hv_mmu_ept_restricted, BOX_POOL, guest);
}

static void run_to_halt(const struct box_guest *guest)
{
	start(guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* What hv_mmu_ept does not own, it must not show either. */
BOX_GUEST_32(registers_guest,
	     "mov %cr0, %eax\n\t mov %cr4, %ebx\n\t mov %cr3, %ecx\n\t mov $0xc0000080, %ecx\n\t"
	     "push %eax\n\t mov $0x12345000, %edx\n\t mov %edx, %cr3\n\t mov %cr3, %esi\n\t"
	     "pop %eax\n\t hlt");

CASE(registers_are_those_of_the_guest, PROVES("paging:mode.off"), NEEDS(BOX_NEEDS))
{
	run_to_halt(&registers_guest);
	EXPECT_EQ(box_regs(&box).rax & (CR0_PG | CR0_PE), CR0_PE);
	EXPECT_EQ(box_regs(&box).rbx & (CR4_PAE | CR4_VMXE), 0);
	EXPECT_EQ(box_regs(&box).rsi, 0x12345000);
	EXPECT_EQ(box_sregs(&box).cr3, 0x12345000);
}

/*
 * The tables of the core stay in use, whatever CR3 leads to and whatever the guest writes to CR0.
 */
BOX_GUEST_32(cr0_guest,
	     "mov $0xb000, %eax\n\t mov %eax, %cr3\n\t mov %cr0, %eax\n\t mov %eax, %cr0\n\t"
	     "or $2, %eax\n\t mov %eax, %cr0\n\t clts\n\t movl $7, 0xa000\n\t hlt");

CASE(writes_of_cr0_keep_memory, PROVES("paging:pdpte.load.cr0_other"), NEEDS(BOX_NEEDS))
{
	run_to_halt(&cr0_guest);
	EXPECT_EQ(*(u32 *)box_at(&box, BOX_DATA), 7);
}

/* Keys are of 4-level and 5-level paging alone, so CR4.PKE may stay. Else RDPKRU is #UD. */
BOX_GUEST_32(keys_guest,
	     "mov %cr4, %eax\n\t bts $22, %eax\n\t mov %eax, %cr4\n\t xor %ecx, %ecx\n\t"
	     "mov $1, %edx\n\t .byte 0x0f, 0x01, 0xee\n\t hlt");

CASE(rdpkru_without_paging, PROVES("paging:acc.pku.rdpkru_edx"), NEEDS(BOX_NEEDS, CPU(PKU)))
{
	start(&keys_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){ .function = 7,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = BIT(3) });
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + (keys_guest.end - keys_guest.start));
	EXPECT_EQ(box_regs(&box).rdx, 0);
}

/* All 4 GBytes are there, each address itself. */
BOX_GUEST_32(devices_guest,
	     "mov 0x3ffffffc, %eax\n\t mov 0xfffffffc, %eax\n\t mov 0x80000000, %eax\n\t hlt");

CASE(four_gbytes_are_mapped, PROVES("paging:mode.off"), NEEDS(BOX_NEEDS))
{
	static const u32 addresses[] = { 0x3ffffffc, 0xfffffffc, 0x80000000 };
	u32 i;

	start(&devices_guest);
	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
		EXPECT_EQ(box.vcpu.run->mmio.phys_addr, addresses[i]);
	}
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* --- into paging and back: the highest pages there are, of which the first is in use ---------- */

#define PDPT	0xb000
#define TABLE	0xc000
#define LINEAR	0x00200000	/* mapped to it, by a PDE and a PTE */

/* PAE paging on, a look at the page, off, a look at memory, and once more. */
#define LOOK	"mov %esi, %cr0\n\t mov 0x200000, %ebx\n\t mov %edi, %cr0\n\t mov 0xa000, %ecx\n\t"
BOX_GUEST_32(paging_guest,
	     "mov $0xb000, %eax\n\t mov %eax, %cr3\n\t mov $0x20, %eax\n\t mov %eax, %cr4\n\t"
	     "mov %cr0, %edi\n\t mov %edi, %esi\n\t bts $31, %esi\n\t" LOOK LOOK "hlt");

static u64 start_paging(void)
{
	u64 highest = BIT(maxphyaddr()) - 4 * PAGE_SIZE;

	start(&paging_guest);
	*box_at(&box, PDPT) = (BOX_TABLES + PAGE_SIZE) | PTE_P;
	box_at(&box, BOX_TABLES + PAGE_SIZE)[0] = PTE_P | PTE_RW | PTE_PS;
	box_at(&box, BOX_TABLES + PAGE_SIZE)[1] = TABLE | PTE_P | PTE_RW;
	*box_at(&box, TABLE) = highest | PTE_P | PTE_RW;
	*(u32 *)box_at(&box, BOX_DATA) = 0x77777777;
	return highest;
}

CASE(highest_page_is_a_device, PROVES("paging:mode.off", "paging:mode.select.pae"),
     NEEDS(BOX_NEEDS))
{
	u64 highest = start_paging(), i;

	for (i = 0; i < 2; i++) {
		REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
		EXPECT_EQ(box.vcpu.run->mmio.phys_addr, highest);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rcx, 0x77777777);
}

CASE(highest_page_is_memory, PROVES("paging:mode.off", "paging:mode.select.pae"), NEEDS(BOX_NEEDS))
{
	u64 highest = start_paging();

	*(u32 *)box_add_memory(&box, 1, highest, PAGE_SIZE, 0) = 0x55555555;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 0x55555555);
	EXPECT_EQ(box_regs(&box).rcx, 0x77777777);
}

/* --- what cannot be done ---------------------------------------------------------------------- */

/* The processor that has it decides which of them a VM gets. */
CASE(as_many_pages_as_with_unrestricted_guest, PROVES("kvm-ioctls:mem.ok"), NEEDS(BOX_NEEDS))
{
	EXPECT_EQ(hv_mmu_ept.min_pages, hv_mmu_ept_restricted.min_pages);
	EXPECT_EQ(hv_mmu_ept_write_protect.min_pages, hv_mmu_ept_restricted.min_pages);
}

/*
 * IA32_S_CET.SH_STK_EN, and a CALL that is not to the next instruction: the core's tables have no
 * page that is one of shadow stack. The run says so, and is not for ever.
 */
BOX_GUEST_32(shadow_stack_guest,
	     "mov $0x6a2, %ecx\n\t mov $1, %eax\n\t xor %edx, %edx\n\t wrmsr\n\t"
	     "mov $0x11, %bl\n\t call 1f\n\t nop\n\t 1: mov $0x22, %bl\n\t hlt");

CASE(shadow_stack_without_paging_ends_the_run, PROVES("kvm-exits:17"),
     NEEDS(BOX_NEEDS, CPU(CET_SS), ENTRY_CTL(LOAD_CET_STATE)))
{
	struct kvm_sregs sregs;

	start(&shadow_stack_guest);
	box_set_cpuid(&box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = BIT(7) });
	sregs = box_sregs(&box);
	sregs.cr0 |= CR0_WP;
	sregs.cr4 |= CR4_CET;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box_regs(&box).rbx, 0x11);
	/* The page fault that nobody can have, and where. */
	EXPECT_EQ(box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
	EXPECT_EQ(box.vcpu.run->internal.data[0], EXIT_EXCEPTION_OR_NMI);
	EXPECT_EQ(box.vcpu.run->internal.data[3], box_regs(&box).rip);
}
