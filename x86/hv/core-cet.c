/*
 * The core: control-flow enforcement where a branch goes through MMIO (volume 1, chapter 17,
 * Control-Flow Enforcement Technology; CALL and JMP, volume 2).
 *
 * An indirect CALL or JMP whose target is read from a device is emulated. So it is the core that
 * has to push the return address on the guest's shadow stack, and to say that ENDBRANCH must
 * follow; the processor does the comparing. Here in 64-bit mode, at CPL 0; user mode is in
 * guest/mmio-cet.
 */
#include "hv/box.h"
#include "cpu/features.h"
#include "string.h"

#define CET_NEEDS	BOX_NEEDS, CPU(CET_SS), CPU(CET_IBT), ENTRY_CTL(LOAD_CET_STATE)

#define SHADOW_STACK	0x200000	/* 2 MBytes, of which one page is in a slot */
#define TOKEN		0xff8		/* of the supervisor shadow stack token */
#define ENDBR64		0xfa1e0ff3u
#define HLT		0xf4

static struct box box;

/* %s: IA32_S_CET. CR4.CET needs CR0.WP: 2.5. */
#define SET_UP(s_cet)								\
	"mov %cr0, %rax\n\t bts $16, %eax\n\t mov %rax, %cr0\n\t"		\
	"mov %cr4, %rax\n\t bts $23, %eax\n\t mov %rax, %cr4\n\t"		\
	"mov $0x6a2, %ecx\n\t mov $" s_cet ", %eax\n\t xor %edx, %edx\n\t wrmsr\n\t"	\
	"mov $0x10000000, %ebx\n\t lea 1f(%rip), %rsi\n\t"

/* The user space of `guest` says that the branch goes to RSI. */
static void start(const struct box_guest *guest)
{
	static const struct kvm_cpuid_entry2 features = {
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ecx = BIT(7), .edx = BIT(20),
	};

	box_start(&box, guest);
	box_set_cpuid(&box, features);
	/* #CP is #CP again at a handler that does not begin with ENDBRANCH. */
	*(u32 *)box_at(&box, BOX_HANDLERS + 8 * VECTOR_CP) = ENDBR64;
	*((u8 *)box_at(&box, BOX_HANDLERS + 8 * VECTOR_CP) + 4) = HLT;
}

static void answer(void)
{
	struct kvm_run *run = box.vcpu.run;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, BOX_MMIO);
	REQUIRE_EQ(run->mmio.len, 8);
	*(u64 *)run->mmio.data = box_regs(&box).rsi;
}

static void expect_control_protection(void)
{
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, BOX_HANDLERS + 8 * VECTOR_CP + 5);
}

/* --- shadow stacks ---------------------------------------------------------------------------- */

/* IA32_PL0_SSP, from which SETSSBSY loads SSP. */
#define WITH_SHADOW_STACK							\
	SET_UP("1") "mov $0x6a4, %ecx\n\t mov $0x200ff8, %eax\n\t"		\
	"xor %edx, %edx\n\t wrmsr\n\t setssbsy\n\t"

BOX_GUEST_64(call_guest,
	     WITH_SHADOW_STACK
	     "call *(%rbx)\n\t rdsspq %rdx\n\t hlt\n"
	     "1: pop %rdi\n\t push %rdi\n\t ret");

/* 5.6.1: R/W = 0 and D = 1 make a shadow stack, U/S = 0 that of the supervisor. */
static u64 *add_shadow_stack(void)
{
	u8 *page = box_add_memory(&box, 1, SHADOW_STACK, PAGE_SIZE, 0);

	*(u64 *)(page + TOKEN) = SHADOW_STACK + TOKEN;
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[SHADOW_STACK / level_size(LEVEL_PDE)] =
		SHADOW_STACK | PTE_P | PTE_A | PTE_D | PTE_PS;
	return (u64 *)(page + TOKEN);
}

/* RET finds on the shadow stack what CALL has left on both. */
CASE(call_through_mmio_pushes_on_the_shadow_stack, PROVES("guest-instructions:mmio.cet"),
     NEEDS(CET_NEEDS))
{
	u64 *token;

	start(&call_guest);
	token = add_shadow_stack();
	answer();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(token[-1], box_regs(&box).rdi);
	EXPECT_EQ(token[-1] + 6, box_regs(&box).rip);
	EXPECT_EQ(box_regs(&box).rdx, SHADOW_STACK + TOKEN);
	EXPECT_EQ(box_regs(&box).rsp, BOX_STACK);
}

/* The stack is a device, too: its exit comes between the two pushes, and neither is made twice. */
BOX_GUEST_64(device_stack_guest,
	     WITH_SHADOW_STACK
	     "mov $0x10001000, %esp\n\t call *(%rbx)\n 1: rdsspq %rdx\n\t hlt");

CASE(call_on_a_stack_of_mmio, PROVES("guest-instructions:mmio.cet"), NEEDS(CET_NEEDS))
{
	const struct kvm_run *run;
	u64 *token;

	start(&device_stack_guest);
	token = add_shadow_stack();
	run = box.vcpu.run;
	answer();
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.is_write, 1);
	EXPECT_EQ(run->mmio.phys_addr, 0x10001000 - 8);
	EXPECT_EQ(*(u64 *)run->mmio.data, box_regs(&box).rsi);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(token[-1], box_regs(&box).rsi);
	EXPECT_EQ(box_regs(&box).rdx, SHADOW_STACK + TOKEN - 8);
	EXPECT_EQ(box_regs(&box).rsp, 0x10001000 - 8);
}

/*
 * 32-bit code beyond 64 KBytes calls with an operand of 16 bits: volume 2, CALL. Both stacks have
 * IP alone, the shadow stack with zeros above it; so RET goes to that place below 64 KBytes.
 */
#define FAR_CODE	0x20100
#define CALLED		0xb000
#define FAR_POINTER	0xa000

BOX_GUEST_64(compatibility_guest, WITH_SHADOW_STACK "ljmp *0xa000");
BOX_GUEST_32(call_16_guest, "data16 call *(%ebx)\n\t hlt");
BOX_GUEST_32(jump_16_guest, "data16 jmp *(%ebx)\n\t hlt");
BOX_GUEST_32(return_16_guest, "rdsspd %edx\n\t mov %esp, %edi\n\t data16 ret");
BOX_GUEST_32(halt_guest, "hlt");

static void put_code(u8 *to, const struct box_guest *guest)
{
	memcpy(to, guest->start, guest->end - guest->start);
}

/* Up to the branch, whose target has 16 bits; `behind` it, below 64 KBytes, is a HLT. */
static u64 *branch_16(const struct box_guest *guest, u64 *behind)
{
	struct kvm_run *run;
	u64 *token;

	start(&compatibility_guest);
	token = add_shadow_stack();
	put_code(box_add_memory(&box, 2, FAR_CODE & PAGE_MASK, PAGE_SIZE, 0) +
		 (FAR_CODE & ~PAGE_MASK), guest);
	*box_at(&box, FAR_POINTER) = FAR_CODE | (u64)SELECTOR_CODE32 << 32;
	*behind = (u16)(FAR_CODE + (guest->end - guest->start) - 1);
	put_code(box.memory + *behind, &halt_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	REQUIRE_EQ(run->mmio.len, 2);
	*(u16 *)run->mmio.data = CALLED;
	return token;
}

CASE(call_with_an_operand_of_16_bits, PROVES("guest-instructions:mmio.cet"), NEEDS(CET_NEEDS))
{
	u64 behind, *token = branch_16(&call_16_guest, &behind);

	put_code(box.memory + CALLED, &return_16_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, behind + 1);
	EXPECT_EQ(token[-1] >> 32, behind);
	EXPECT_EQ(box_regs(&box).rdx, SHADOW_STACK + TOKEN - 4);
	EXPECT_EQ(box_regs(&box).rdi, BOX_STACK - 2);
	EXPECT_EQ(*(u16 *)(box.memory + BOX_STACK - 2), behind);
}

CASE(jump_with_an_operand_of_16_bits, PROVES("guest-instructions:mmio.cet"), NEEDS(CET_NEEDS))
{
	u64 behind, *token = branch_16(&jump_16_guest, &behind);

	put_code(box.memory + CALLED, &halt_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, CALLED + 1);
	EXPECT_EQ(token[-1], 0);
}

/* --- indirect branch tracking ---------------------------------------------------------------- */

BOX_GUEST_64(call_unmarked_guest, SET_UP("4") "call *(%rbx)\n 1: hlt");
BOX_GUEST_64(jump_unmarked_guest, SET_UP("4") "jmp *(%rbx)\n 1: hlt");
BOX_GUEST_64(jump_marked_guest, SET_UP("4") "jmp *(%rbx)\n\t nop\n 1: endbr64\n\t hlt");
BOX_GUEST_64(no_track_guest, SET_UP("0x14") "notrack jmp *(%rbx)\n\t nop\n 1: hlt");
BOX_GUEST_64(track_anyway_guest, SET_UP("4") "notrack jmp *(%rbx)\n\t nop\n 1: hlt");
BOX_GUEST_64(suppressed_guest, SET_UP("0x404") "jmp *(%rbx)\n\t nop\n 1: hlt");
BOX_GUEST_64(push_guest, SET_UP("4") "push (%rbx)\n 1: hlt");

struct branch {
	const struct box_guest *guest;
	bool refused;
};

static void branch(const struct case_def *this_case)
{
	const struct branch *row = this_case->row;

	start(row->guest);
	answer();
	if (row->refused)
		expect_control_protection();
	else if (EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT))
		EXPECT_EQ(box_regs(&box).rip, BOX_CODE + (row->guest->end - row->guest->start));
}

#define BRANCH(id, guest, refused)						\
	CASE_RUN(id, branch, PROVES("guest-instructions:mmio.cet"), NEEDS(CET_NEEDS), \
		 ROW((&(const struct branch){ &guest, refused })))

BRANCH(call_through_mmio_is_tracked, call_unmarked_guest, true);
BRANCH(jump_through_mmio_is_tracked, jump_unmarked_guest, true);
BRANCH(jump_through_mmio_to_endbranch, jump_marked_guest, false);
BRANCH(no_track_prefix, no_track_guest, false);
BRANCH(no_track_prefix_without_no_track_en, track_anyway_guest, true);
BRANCH(suppressed, suppressed_guest, false);
BRANCH(push_from_mmio_is_no_branch, push_guest, false);

/* --- far transfers: not emulated ------------------------------------------------------------- */

BOX_GUEST_64(far_call_guest, "mov $0x10000000, %ebx\n\t lcall *(%rbx)\n\t hlt");
BOX_GUEST_64(far_jump_guest, "mov $0x10000000, %ebx\n\t ljmp *(%rbx)\n\t hlt");
BOX_GUEST_64(far_call_16_guest, "mov $0x10000000, %ebx\n\t data16 lcall *(%rbx)\n\t hlt");
BOX_GUEST_64(far_jump_16_guest, "mov $0x10000000, %ebx\n\t data16 ljmp *(%rbx)\n\t hlt");

static void is_refused(const struct case_def *this_case)
{
	const struct box_guest *guest = this_case->row;
	const struct kvm_run *run;

	box_start(&box, guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(memcmp(run->emulation_failure.insn_bytes, guest->start + 5, 2), 0);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE + 5);
}

CASE_RUN(far_call_through_mmio_fails, is_refused, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS),
	 ROW(&far_call_guest));
CASE_RUN(far_jump_through_mmio_fails, is_refused, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS),
	 ROW(&far_jump_guest));
CASE_RUN(far_call_with_an_operand_of_16_bits_fails, is_refused, PROVES("kvm-exits:17"),
	 NEEDS(BOX_NEEDS), ROW(&far_call_16_guest));
CASE_RUN(far_jump_with_an_operand_of_16_bits_fails, is_refused, PROVES("kvm-exits:17"),
	 NEEDS(BOX_NEEDS), ROW(&far_jump_16_guest));
