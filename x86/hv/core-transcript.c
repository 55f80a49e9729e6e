/*
 * The core: what it does, exit after exit.
 *
 * Each case runs a small guest to its end and compares all VM exits on the way with a transcript:
 * the exit (30.1, Appendix C), its qualification (30.2.1 Basic VM-Exit Information), and what the
 * core did: go on in the guest, give it an event, or leave to user space. So not only the result
 * counts but also the way: an exit too many, a fault that takes two rounds, a page that is filled
 * twice.
 */
#include "hv/box.h"
#include "hv/trace.h"
#include "string.h"

static struct box box;
static struct hv_trace trace;

#define POOL		400
#define MAX_EXITS	40		/* to user space */
#define ON		"on in the guest"

/* To a HLT that user space sees, or another exit that nothing comes behind. */
static void run_to_the_end(void)
{
	u32 reason, i;

	trace.count = 0;
	box.vcpu.trace = &trace;
	for (i = 0; i < MAX_EXITS; i++) {
		reason = box_run(&box);
		if (reason == KVM_EXIT_HLT || reason == KVM_EXIT_SHUTDOWN ||
		    reason == KVM_EXIT_INTERNAL_ERROR)
			return;
	}
}

/*
 * A page that the guest uses for the first time; which
 * comes when depends on how a processor walks its tables.
 */
static bool is_fill(const struct hv_trace_entry *entry)
{
	return entry->reason == EXIT_EPT_VIOLATION && !entry->event && !entry->user;
}

/* `lines` ends with NULL. */
static void expect_transcript(const char *file, u32 line, bool fills, const char *const *lines)
{
	char got[120], what[20];
	u32 i;

	for (i = 0; i < trace.count && i < HV_TRACE_ENTRIES; i++) {
		if (!fills && is_fill(&trace.entry[i]))
			continue;
		format(what, sizeof(what), "exit %u", i + 1);
		hv_trace_line(&trace, i, got, sizeof(got));
		if (!*lines) {
			case_fail(file, line, what, "none", got);
			return;
		}
		if (strcmp(got, *lines))
			case_fail(file, line, what, *lines, got);
		lines++;
	}
	if (*lines)
		case_fail(file, line, "the end", *lines, "no exit");
}

#define EXPECT_TRANSCRIPT(...)							\
	expect_transcript(__FILE__, __LINE__, false, (const char *const[]){ __VA_ARGS__, NULL })
/* With the pages that the guest uses for the first time. */
#define EXPECT_WHOLE_TRANSCRIPT(...)						\
	expect_transcript(__FILE__, __LINE__, true, (const char *const[]){ __VA_ARGS__, NULL })

/* Uses all of the first slot, and the tables in it. */
BOX_GUEST_64(warm_guest,
	     "mov $0xf000, %ebx\n\t 1: lock orl $0, (%rbx)\n\t sub $0x1000, %rbx\n\t jnz 1b\n\t"
	     "hlt");

static void start_warm(const struct hv_mmu *mmu, const struct box_guest *guest)
{
	const struct kvm_regs regs = { .rip = BOX_CODE, .rsp = BOX_STACK, .rflags = RFLAGS_FIXED };

	hv_start(page_alloc());
	box_start_on(&box, mmu, POOL, &warm_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	memcpy(box.memory + BOX_CODE, guest->start, guest->end - guest->start);
	hv_vcpu_set_regs(&box.vcpu, &regs);
}

/* --- instructions ---------------------------------------------------------------------- */

BOX_GUEST_64(instructions_guest,
	     "cpuid\n\t mov $0xc0000080, %ecx\n\t rdmsr\n\t wrmsr\n\t"
	     "in $0x60, %al\n\t out %eax, $0x64\n\t wbinvd\n\t mov %cr0, %rax\n\t"
	     "bts $30, %rax\n\t mov %rax, %cr0\n\t mov %cr8, %rax\n\t vmcall\n\t hlt");

CASE(instructions_of_all_kinds, PROVES("exit-reasons:10", "exit-reasons:31", "exit-reasons:32",
				       "exit-reasons:30", "exit-reasons:28", "exit-reasons:18"),
     NEEDS(BOX_NEEDS, PROC2(WBINVD_EXITING)))
{
	box_start(&box, &instructions_guest);
	run_to_the_end();
	EXPECT_TRANSCRIPT("CPUID, 0x0: " ON, "RDMSR, 0x0: " ON, "WRMSR, 0x0: " ON,
			  "IO instruction, 0x600048: KVM_EXIT_IO",
			  "IO instruction, 0x640043: KVM_EXIT_IO",
			  "WBINVD or WBNOINVD, 0x0: " ON,
			  "control register access, 0x0: " ON, "control register access, 0x18: " ON,
			  "VMCALL, 0x0: " ON, "HLT, 0x0: KVM_EXIT_HLT");
}

/* --- faults ------------------------------------------------------------------------------ */

BOX_GUEST_64(refused_guest,
	     "mov $0x4b564dff, %ecx\n\t rdmsr\n\t hlt");

CASE(refused_instruction, PROVES("guest-instructions:msr.unknown_rd"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &refused_guest);
	run_to_the_end();
	EXPECT_TRANSCRIPT("RDMSR, 0x0: vector 13, type 3", "HLT, 0x0: KVM_EXIT_HLT");
}

BOX_GUEST_64(triple_fault_guest, "lidt 0xa000\n\t vmxoff");

CASE(fault_without_a_way_out, PROVES("kvm-exits:8"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &triple_fault_guest);
	run_to_the_end();
	EXPECT_TRANSCRIPT("VMXOFF, 0x0: vector 6, type 3", "triple fault, 0x0: KVM_EXIT_SHUTDOWN");
}

/* --- memory ------------------------------------------------------------------------------- */

/* Read, write, write again, a device, another page's first write. */
BOX_GUEST_64(memory_guest,
	     "mov $0x400000, %ebx\n\t mov (%rbx), %eax\n\t mov %eax, (%rbx)\n\t"
	     "mov %eax, 8(%rbx)\n\t mov %eax, 0x10000008\n\t mov 0x10000010, %ecx\n\t"
	     "mov %eax, 0x1000(%rbx)\n\t hlt");

CASE(memory_with_ept, PROVES("exit-reasons:48", "kvm-ioctls:dirty.content", "kvm-exits:6"),
     NEEDS(BOX_NEEDS))
{
	start_warm(&hv_mmu_ept_write_protect, &memory_guest);
	box_add_memory(&box, 1, 0x400000, 2 * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	run_to_the_end();
	EXPECT_WHOLE_TRANSCRIPT("EPT violation, 0x181: " ON, "EPT violation, 0x1aa: " ON,
				"EPT violation, 0x182: KVM_EXIT_MMIO",
				"EPT violation, 0x181: KVM_EXIT_MMIO",
				"EPT violation, 0x182: " ON, "HLT, 0x0: KVM_EXIT_HLT");
}

/* The first write of a page that is mapped already makes no exit: the processor notes it. */
CASE(memory_with_page_modification_logging,
     PROVES("exit-reasons:48", "kvm-ioctls:dirty.content", "kvm-exits:6"),
     NEEDS(BOX_NEEDS_PML))
{
	start_warm(&hv_mmu_ept, &memory_guest);
	box_add_memory(&box, 1, 0x400000, 2 * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	run_to_the_end();
	EXPECT_WHOLE_TRANSCRIPT("EPT violation, 0x181: " ON,
				"EPT violation, 0x182: KVM_EXIT_MMIO",
				"EPT violation, 0x181: KVM_EXIT_MMIO",
				"EPT violation, 0x182: " ON, "HLT, 0x0: KVM_EXIT_HLT");
}

CASE(memory_with_shadow_paging, PROVES("exit-reasons:0", "kvm-ioctls:dirty.content", "kvm-exits:6"),
     NEEDS(VMX))
{
	start_warm(&hv_mmu_shadow, &memory_guest);
	box_add_memory(&box, 1, 0x400000, 2 * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	run_to_the_end();
	EXPECT_WHOLE_TRANSCRIPT("exception or NMI, 0x400000: " ON,
				"exception or NMI, 0x400000: " ON,
				"exception or NMI, 0x10000008: KVM_EXIT_MMIO",
				"exception or NMI, 0x10000010: KVM_EXIT_MMIO",
				"exception or NMI, 0x401000: " ON, "HLT, 0x0: KVM_EXIT_HLT");
}

/* The page table entry of 400000H is at B000H. */
BOX_GUEST_64(tables_guest,
	     "mov $0x400000, %ebx\n\t mov (%rbx), %eax\n\t"
	     "movq $0, 0xb000\n\t movq $0, 0xb008\n\t invlpg (%rbx)\n\t"
	     "mov %cr3, %rax\n\t mov %rax, %cr3\n\t mov (%rbx), %eax\n\t hlt");

/* The first write to a table exits, the second does not; then the guest has its fault. */
CASE(tables_with_shadow_paging, PROVES("exit-reasons:0", "exit-reasons:14", "exit-reasons:28"),
     NEEDS(VMX))
{
	start_warm(&hv_mmu_shadow, &tables_guest);
	box_add_memory(&box, 1, 0x400000, 2 * PAGE_SIZE, 0);
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[2] = 0xb000 | PTE_P | PTE_RW;
	box_at(&box, 0xb000)[0] = 0x400000 | PTE_P | PTE_RW;
	run_to_the_end();
	EXPECT_WHOLE_TRANSCRIPT("exception or NMI, 0x400000: " ON, "exception or NMI, 0xb000: " ON,
				"INVLPG, 0x400000: " ON, "control register access, 0x13: " ON,
				"control register access, 0x3: " ON,
				"exception or NMI, 0x400000: vector 14, type 3",
				"HLT, 0x0: KVM_EXIT_HLT");
}

/* --- events ------------------------------------------------------------------------------- */

BOX_GUEST_64(open_guest, "out %al, $0x80\n\t sti\n\t nop\n\t nop\n\t nop\n\t hlt");

/* An interrupt that comes while RFLAGS.IF = 0 waits for its window: 28.2, with the STI shadow. */
CASE(interrupt_by_its_window, PROVES("exit-reasons:7", "interruptibility:sti.block"),
     NEEDS(BOX_NEEDS))
{
	const struct kvm_interrupt interrupt = { .irq = 0x42 };

	box_start(&box, &open_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EQ(hv_vcpu_interrupt(&box.vcpu, &interrupt), 0);
	run_to_the_end();
	EXPECT_TRANSCRIPT("interrupt window, 0x0: " ON, "HLT, 0x0: KVM_EXIT_HLT");
	EXPECT_EQ(box_regs(&box).rax & 0xff, 0x42);
}

/*
 * The handler's stack is not there: the fault of the
 * delivery is a double fault, whose is not there either.
 */
BOX_GUEST_64(stackless_guest, "mov $0x50000000, %esp\n\t ud2");

CASE(delivery_that_fails, PROVES("kvm-exits:8"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &stackless_guest);
	run_to_the_end();
	EXPECT_TRANSCRIPT("triple fault, 0x0: KVM_EXIT_SHUTDOWN");
}

/* --- from real mode to 64-bit mode, as an operating system boots ------------------------------ */

BOX_GUEST_16(boot_guest,
	     "lgdtl 0xa000\n\t mov %cr0, %eax\n\t or $1, %al\n\t mov %eax, %cr0\n\t"
	     "ljmpl $0x18, $0x8018\n\t .org box_boot_guest + 0x18\n\t"
	     ".code32\n\t mov $0x20, %eax\n\t mov %eax, %cr4\n\t mov $0x1000, %eax\n\t"
	     "mov %eax, %cr3\n\t mov $0xc0000080, %ecx\n\t mov $0x100, %eax\n\t xor %edx, %edx\n\t"
	     "wrmsr\n\t mov %cr0, %eax\n\t bts $31, %eax\n\t mov %eax, %cr0\n\t"
	     "ljmp $8, $0x8060\n\t .org box_boot_guest + 0x60\n\t .code64\n\t hlt");

CASE(boot_to_64_bit_mode, PROVES("exit-reasons:28", "exit-reasons:32", "paging:mode.lma_set"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &boot_guest);
	*(u16 *)box_at(&box, BOX_DATA) = GDT_SIZE - 1;
	*(u32 *)((u8 *)box_at(&box, BOX_DATA) + 2) = BOX_GDT;
	run_to_the_end();
	EXPECT_TRANSCRIPT("control register access, 0x0: " ON, "control register access, 0x4: " ON,
			  "WRMSR, 0x0: " ON, "control register access, 0x0: " ON,
			  "HLT, 0x0: KVM_EXIT_HLT");
}
