/*
 * The core: guest memory and what is none.
 *
 * Memory is what user space has put into slots (KVM_SET_USER_MEMORY_REGION). The EPT is filled when
 * the guest first uses a page (31.3.3.2 EPT Violations) and emptied when a slot changes; the dirty
 * log is in hv/dirty-log. An access to anything else, or a write to a read-only slot, is one to a
 * device: the core decodes the instruction, and user space gets each piece of the access as
 * KVM_EXIT_MMIO.
 */
#include "hv/box.h"
#include "string.h"

static struct box box;

static void expect_mmio(bool is_write, u64 address, u32 size, u64 data)
{
	const struct kvm_run *run = box.vcpu.run;
	u64 got = 0;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.is_write, is_write);
	EXPECT_EQ(run->mmio.phys_addr, address);
	REQUIRE_EQ(run->mmio.len, size);
	memcpy(&got, run->mmio.data, size);
	if (is_write)
		EXPECT_EQ(got, data);
	else
		memcpy(box.vcpu.run->mmio.data, &data, size);
}

/* --- loads and stores ---------------------------------------------------------- */

struct mmio_row {
	const struct box_guest *guest;
	bool is_write;
	u32 size;
	u64 data;		/* that user space sees, or gives */
	u64 rax;		/* afterwards */
	u64 rsi, rdi;		/* likewise; 0: as before */
};

#define RAX_BEFORE	0x1122334455667788
#define DEVICE_DATA	0x99aabbccddeeff80

/* One instruction, with RBX, RSI and RDI = the device, RCX = 2, RAX = RAX_BEFORE. */
static void load_or_store(const struct case_def *this_case)
{
	const struct mmio_row *row = this_case->row;
	struct kvm_regs regs;

	box_start(&box, row->guest);
	regs = box_regs(&box);
	regs.rax = RAX_BEFORE;
	regs.rcx = 2;
	regs.rbx = regs.rsi = regs.rdi = BOX_MMIO;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	expect_mmio(row->is_write, BOX_MMIO, row->size, row->data);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rax, row->rax);
	EXPECT_EQ(regs.rsi, row->rsi ? row->rsi : BOX_MMIO);
	EXPECT_EQ(regs.rdi, row->rdi ? row->rdi : BOX_MMIO);
	EXPECT_EQ(regs.rip, BOX_CODE + (row->guest->end - row->guest->start));
}

#define MMIO_CASE(id, insn, ...)							\
	BOX_GUEST_64(guest_##id, insn "\n\t hlt");					\
	CASE_RUN(id, load_or_store, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS),		\
		 ROW((&(const struct mmio_row){ &guest_##id, __VA_ARGS__ })))
#define MMIO_LOAD(id, insn, size, ...)	MMIO_CASE(id, insn, false, size, DEVICE_DATA, __VA_ARGS__)
#define MMIO_STORE(id, insn, size, data, ...) \
	MMIO_CASE(id, insn, true, size, data, RAX_BEFORE, ##__VA_ARGS__)

MMIO_LOAD(load_byte,	"mov (%rbx), %al",		1, 0x1122334455667780, 0, 0);
MMIO_LOAD(load_high_byte, "mov (%rbx), %ah",		1, 0x1122334455668088, 0, 0);
MMIO_LOAD(load_word,	"mov (%rbx), %ax",		2, 0x112233445566ff80, 0, 0);
MMIO_LOAD(load_dword,	"mov (%rbx), %eax",		4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_qword,	"mov (%rbx), %rax",		8, DEVICE_DATA, 0, 0);
MMIO_LOAD(load_sib,	"mov -8(%rbx,%rcx,4), %eax",	4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_moffs,	"movabs 0x10000000, %eax",	4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_absolute, "mov 0x10000000, %eax",	4, 0xddeeff80, 0, 0);
/* From BOX_CODE, 6 bytes long. */
MMIO_LOAD(load_rip_relative, "mov 0x10000000 - 0x8006(%rip), %eax", 4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_gs,	"mov %gs:(%rbx), %eax",		4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_address_32, "mov (%ebx), %eax",		4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_r10,	"mov %rbx, %r10\n\t mov (%r10), %eax", 4, 0xddeeff80, 0, 0);
MMIO_LOAD(load_address_32_cut, "bts $32, %rbx\n\t mov (%ebx), %eax", 4, 0xddeeff80, 0, 0);
/* REX counts only right before the opcode: here it has another prefix behind it. */
MMIO_LOAD(load_rex_before_prefix, ".byte 0x48, 0x66, 0x8b, 0x03", 2, 0x112233445566ff80, 0, 0);
MMIO_LOAD(load_movzx_byte, "movzbl (%rbx), %eax",	1, 0x80, 0, 0);
MMIO_LOAD(load_movzx_word, "movzwq (%rbx), %rax",	2, 0xff80, 0, 0);
MMIO_LOAD(load_movsx_byte, "movsbq (%rbx), %rax",	1, ~0x7full, 0, 0);
MMIO_LOAD(load_movsx_word, "movswl (%rbx), %eax",	2, 0xffffff80, 0, 0);
MMIO_LOAD(load_movsxd,	"movslq (%rbx), %rax",		4, 0xffffffffddeeff80, 0, 0);
MMIO_LOAD(load_lods,	"lodsl",			4, 0xddeeff80, BOX_MMIO + 4, 0);
MMIO_STORE(store_byte,	"mov %al, (%rbx)",		1, 0x88, 0, 0);
MMIO_STORE(store_high_byte, "mov %ah, (%rbx)",		1, 0x77, 0, 0);
/* With REX number 4 is SPL, not AH. */
MMIO_STORE(store_spl,	"mov $0x8042, %esp\n\t mov %spl, (%rbx)", 1, 0x42, 0, 0);
/* SETNE with ModRM.reg = 4, which is not used. */
MMIO_STORE(store_condition, "test %eax, %eax\n\t .byte 0x0f, 0x95, 0x23", 1, 1, 0, 0);
MMIO_STORE(store_word,	"mov %ax, (%rbx)",		2, 0x7788, 0, 0);
MMIO_STORE(store_dword,	"mov %eax, (%rbx)",		4, 0x55667788, 0, 0);
MMIO_STORE(store_qword,	"mov %rax, (%rbx)",		8, RAX_BEFORE, 0, 0);
MMIO_STORE(store_moffs,	"movabs %eax, 0x10000000",	4, 0x55667788, 0, 0);
MMIO_STORE(store_imm_byte, "movb $0x5a, (%rbx)",	1, 0x5a, 0, 0);
MMIO_STORE(store_imm_dword, "movl $0x12345678, (%rbx)",	4, 0x12345678, 0, 0);
MMIO_STORE(store_imm_qword, "movq $-2, (%rbx)",		8, ~1ull, 0, 0);
MMIO_STORE(store_stos,	"stosw",			2, 0x7788, 0, BOX_MMIO + 2);
MMIO_STORE(store_stos_down, "std\n\t stosq",		8, RAX_BEFORE, 0, BOX_MMIO - 8);

/* --- read, modify, write --------------------------------------------------------- */

struct rmw_row {
	const struct box_guest *guest;
	u64 before, after;	/* in the device; ~0: is not written */
	u64 flags;		/* of the six status flags */
	u64 rax;
};

#define NOT_WRITTEN	~0ull

static void read_modify_write(const struct case_def *this_case)
{
	const struct rmw_row *row = this_case->row;
	struct kvm_regs regs;

	box_start(&box, row->guest);
	regs = box_regs(&box);
	regs.rax = 5;
	regs.rcx = 0x70;
	regs.rbx = BOX_MMIO;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	expect_mmio(false, BOX_MMIO, 4, row->before);
	if (row->after != NOT_WRITTEN)
		expect_mmio(true, BOX_MMIO, 4, row->after);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rflags & RFLAGS_STATUS, row->flags);
	EXPECT_EQ(regs.rax, row->rax);
}

#define RMW_CASE(id, insn, ...)							\
	BOX_GUEST_64(guest_##id, insn "\n\t hlt");				\
	CASE_RUN(id, read_modify_write, PROVES("kvm-ioctls:run.mmio_rmw"),	\
		 NEEDS(BOX_NEEDS), ROW((&(const struct rmw_row){ &guest_##id, __VA_ARGS__ })))

RMW_CASE(add, "add %eax, (%rbx)", 0xfffffffb, 0, RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF, 5);
RMW_CASE(locked_add, "lock addl $1, (%rbx)", 6, 7, 0, 5);
RMW_CASE(adc, "stc\n\t adcl $1, (%rbx)", 6, 8, 0, 5);
RMW_CASE(adc_without_carry, "clc\n\t adcl $1, (%rbx)", 6, 7, 0, 5);
RMW_CASE(sbb, "stc\n\t sbbl $1, (%rbx)", 3, 1, 0, 5);
RMW_CASE(sub, "subl $2, (%rbx)", 1, 0xffffffff, RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_SF, 5);
RMW_CASE(and, "andl $0xf0, (%rbx)", 0x1ff, 0xf0, RFLAGS_PF, 5);
RMW_CASE(or, "orl $0x80, (%rbx)", 1, 0x81, RFLAGS_PF, 5);
RMW_CASE(xor, "xorl $1, (%rbx)", 1, 0, RFLAGS_PF | RFLAGS_ZF, 5);
RMW_CASE(inc, "stc\n\t incl (%rbx)", 8, 9, RFLAGS_CF | RFLAGS_PF, 5);
RMW_CASE(dec, "decl (%rbx)", 9, 8, 0, 5);
RMW_CASE(neg, "negl (%rbx)", 0x10, 0xfffffff0, RFLAGS_CF | RFLAGS_PF | RFLAGS_SF, 5);
RMW_CASE(not, "notl (%rbx)", 0xff00ff00, 0x00ff00ff, 0, 5);
RMW_CASE(xchg, "xchg %eax, (%rbx)", 0x1234, 5, 0, 0x1234);
RMW_CASE(cmpxchg_equal, "cmpxchg %ecx, (%rbx)", 5, 0x70, RFLAGS_PF | RFLAGS_ZF, 5);
RMW_CASE(cmpxchg_unequal, "cmpxchg %ecx, (%rbx)", 4, 4, 0, 4);
/* The processor itself executes these, on a copy; CL is 70H. */
RMW_CASE(sar_by_cl, "sarl %cl, (%rbx)", 0x80000000, 0xffff8000, RFLAGS_PF | RFLAGS_SF, 5);
RMW_CASE(sar_by_1, "sarl $1, (%rbx)", 0x80000001, 0xc0000000, RFLAGS_CF | RFLAGS_PF | RFLAGS_SF, 5);
RMW_CASE(cmp, "cmpl $5, (%rbx)", 5, NOT_WRITTEN, RFLAGS_PF | RFLAGS_ZF, 5);
RMW_CASE(cmp_register, "cmp (%rbx), %eax", 6, NOT_WRITTEN,
	 RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_SF, 5);
RMW_CASE(add_to_register, "add (%rbx), %eax", 2, NOT_WRITTEN, 0, 7);
RMW_CASE(test, "testl $4, (%rbx)", 4, NOT_WRITTEN, 0, 5);

BOX_GUEST_64(xadd_ah_guest,
	     "mov $0x10000000, %ebx\n\t mov $0x1205, %eax\n\t xadd %ah, (%rbx)\n\t hlt");

CASE(xadd_of_a_high_byte, PROVES("guest-instructions:mmio.xadd"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &xadd_ah_guest);
	expect_mmio(false, BOX_MMIO, 1, 0x30);
	expect_mmio(true, BOX_MMIO, 1, 0x42);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x3005);
}

/* --- more than one piece ----------------------------------------------------------- */

BOX_GUEST_64(rep_stos_guest,
	     "mov $0x10000000, %edi\n\t mov $0x5a, %al\n\t mov $3, %ecx\n\t rep stosb\n\t hlt");

CASE(rep_stos, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &rep_stos_guest);
	for (i = 0; i < 3; i++)
		expect_mmio(true, BOX_MMIO + i, 1, 0x5a);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rcx, 0);
	EXPECT_EQ(box_regs(&box).rdi, BOX_MMIO + 3);
}

BOX_GUEST_64(movs_guest,
	     "mov $0x10000000, %esi\n\t mov $0xa000, %edi\n\t movsq\n\t"
	     "mov $0xa000, %esi\n\t mov $0x10000010, %edi\n\t movsl\n\t hlt");

CASE(movs_between_memory_and_device, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &movs_guest);
	expect_mmio(false, BOX_MMIO, 8, 0x1234567890abcdef);
	expect_mmio(true, BOX_MMIO + 0x10, 4, 0x90abcdef);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(*box_at(&box, BOX_DATA), 0x1234567890abcdef);
	EXPECT_EQ(box_regs(&box).rdi, BOX_MMIO + 0x14);
}

/* The first three bytes are the last ones of memory. */
BOX_GUEST_64(cross_guest,
	     "mov $0xfffd, %ebx\n\t mov (%rbx), %rax\n\t mov $0x0102030405060708, %rcx\n\t"
	     "add %rcx, (%rbx)\n\t hlt");

CASE(across_the_end_of_memory, PROVES("kvm-ioctls:run.mmio_cross"), NEEDS(BOX_NEEDS))
{
	u64 value = 0;

	box_start(&box, &cross_guest);
	memcpy(box.memory + 0xfffd, "\x11\x22\x33", 3);
	expect_mmio(false, BOX_SIZE, 5, 0x8877665544);
	expect_mmio(false, BOX_SIZE, 5, 0x8877665544);
	expect_mmio(true, BOX_SIZE, 5, (0x8877665544332211 + 0x0102030405060708) >> 24);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x8877665544332211);
	memcpy(&value, box.memory + 0xfffd, 3);
	EXPECT_EQ(value, (0x8877665544332211 + 0x0102030405060708) & 0xffffff);
}

BOX_GUEST_16(addressing_16_guest,
	     "mov $0xf000, %ax\n\t mov %ax, %ds\n\t mov $0x8000, %bx\n\t mov $0x1000, %si\n\t"
	     "mov -4(%bx,%si), %cx\n\t hlt");

CASE(addressing_of_real_mode, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &addressing_16_guest);
	expect_mmio(false, 0xf0000 + 0x8ffc, 2, 0xbeef);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rcx, 0xbeef);
}

BOX_GUEST_32(addressing_32_guest,
	     "mov $0x10000000, %ebp\n\t mov $4, %ecx\n\t mov 8(%ebp,%ecx,2), %eax\n\t hlt");

CASE(addressing_of_protected_mode, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &addressing_32_guest);
	expect_mmio(false, BOX_MMIO + 16, 4, 0xdeadbeef);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0xdeadbeef);
}

/* BP is an offset in SS. */
BOX_GUEST_16(bp_guest,
	     "mov $0xf000, %ax\n\t mov %ax, %ss\n\t mov $0x8000, %bp\n\t mov -4(%bp), %cx\n\t hlt");

CASE(addressing_by_bp, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &bp_guest);
	expect_mmio(false, 0xf0000 + 0x7ffc, 2, 0xbeef);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rcx, 0xbeef);
}

/* The bases of FS and GS count in 64-bit mode, and linear addresses of other modes have 32 bits. */
BOX_GUEST_64(gs_guest, "mov $0xfffff00, %ebx\n\t mov %gs:(%rbx), %ecx\n\t hlt");
BOX_GUEST_32(wrapping_guest, "mov $0x20000000, %ebx\n\t mov (%ebx), %ecx\n\t hlt");

static void check_base(const struct box_guest *guest, bool gs, u64 base)
{
	struct kvm_sregs sregs;

	box_start(&box, guest);
	sregs = box_sregs(&box);
	*(gs ? &sregs.gs.base : &sregs.ds.base) = base;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_mmio(false, BOX_MMIO, 4, 0xbeef);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rcx, 0xbeef);
}

CASE(base_of_gs, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	check_base(&gs_guest, true, 0x100);
}

/* So they have in CR2, with a base and an offset that wrap around, in compatibility mode. */
BOX_GUEST_64(compatibility_guest,
	     ".code32\n\t mov $0x10000000, %esi\n\t mov $0x60000000, %edi\n\t movsl\n\t hlt");

CASE(cr2_of_32_bits, PROVES("kvm-exits:6", "paging:pfec.p"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &compatibility_guest);
	sregs = box_sregs(&box);
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	sregs.es.base = 0xf0000000;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_mmio(false, BOX_MMIO, 4, 0x1234);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0x50000000);
}

CASE(linear_address_of_32_bits, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	check_base(&wrapping_guest, false, 0xf0000000);
}

/* The device has been read when the other operand faults. */
BOX_GUEST_64(faulting_movs_guest,
	     "mov $0x10000000, %esi\n\t mov $0x8000000000, %rdi\n\t movsl\n\t hlt");

CASE(fault_behind_a_device, PROVES("kvm-exits:6", "paging:pfec.p"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &faulting_movs_guest);
	expect_mmio(false, BOX_MMIO, 4, 0x1234);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 48), PF_WR);
	EXPECT_EQ(box_sregs(&box).cr2, 0x8000000000);
	EXPECT_EQ(box_regs(&box).rsi, BOX_MMIO);
}

/*
 * A breakpoint on four bytes, and a store to the second
 * of them. 20.2.5: which bytes the access has counts.
 */
BOX_GUEST_64(watched_guest,
	     "mov $0x10000000, %eax\n\t mov %rax, %dr0\n\t mov $0xd0001, %ecx\n\t"
	     "mov %rcx, %dr7\n\t movb $1, 1(%rax)\n\t nop\n\t hlt");

CASE(breakpoint_on_a_device, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &watched_guest);
	expect_mmio(true, BOX_MMIO + 1, 1, 1);
	EXPECT_VECTOR(&box, VECTOR_DB);
}

/* --- slots and the EPT --------------------------------------------------------------- */

BOX_GUEST_64(touch_guest,
	     "out %al, $0x80\n\t movq $1, 0xc000\n\t out %al, $0x80\n\t movq $2, 0xc008\n\t"
	     "out %al, $0x80\n\t hlt");

CASE(pages_are_mapped_on_demand, PROVES("ept:violation.not_present"), NEEDS(BOX_NEEDS))
{
	u64 fills, exits;

	box_start(&box, &touch_guest);
	EXPECT_EQ(box.vm.fills, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	fills = box.vm.fills;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(box.vm.fills, fills + 1);
	exits = box.vcpu.exits;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(box.vm.fills, fills + 1);
	EXPECT_EQ(box.vcpu.exits, exits + 1);
	EXPECT_EQ(*box_at(&box, 0xc000), 1);
	EXPECT_EQ(*box_at(&box, 0xc008), 2);
}

BOX_GUEST_64(large_guest, "out %al, $0x80\n\t movq $1, 0x400000\n\t movq $2, 0x5ff000\n\t hlt");

CASE(large_page, PROVES("ept:walk.2m"), NEEDS(BOX_NEEDS, EPT_CAP(2M)))
{
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = 0x400000, .memory_size = 0x200000 };
	u8 *memory;
	u64 fills;

	box_start(&box, &large_guest);
	memory = pages_alloc(0x200000, 0x200000);
	region.userspace_addr = physical(memory);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	fills = box.vm.fills;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box.vm.fills, fills + 1);
	EXPECT_EQ(*(u64 *)memory, 1);
	EXPECT_EQ(*(u64 *)(memory + 0x1ff000), 2);
}

/* The same where host memory begins between two of its large pages. */
CASE(large_page_that_host_memory_has_not, PROVES("ept:walk.pt.select"),
     NEEDS(BOX_NEEDS, EPT_CAP(2M)))
{
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = 0x400000, .memory_size = 0x200000 };
	u8 *memory;

	box_start(&box, &large_guest);
	memory = (u8 *)pages_alloc(0x400000, 0x200000) + PAGE_SIZE;
	region.userspace_addr = physical(memory);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(*(u64 *)memory, 1);
	EXPECT_EQ(*(u64 *)(memory + 0x1ff000), 2);
}

#define SECOND_SLOT	0x20000

BOX_GUEST_64(read_write_guest,
	     "mov $0x20000, %ebx\n\t mov (%rbx), %rax\n\t movl $0x55, 8(%rbx)\n\t"
	     "mov 8(%rbx), %rcx\n\t hlt");

CASE(read_only_slot, PROVES("kvm-ioctls:run.ro_slot", "kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u64 *memory;

	box_start(&box, &read_write_guest);
	memory = (u64 *)box_add_memory(&box, 1, SECOND_SLOT, PAGE_SIZE, KVM_MEM_READONLY);
	memory[0] = 0x1234;
	memory[1] = 0x5678;
	expect_mmio(true, SECOND_SLOT + 8, 4, 0x55);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x1234);
	EXPECT_EQ(box_regs(&box).rcx, 0x5678);
	EXPECT_EQ(memory[1], 0x5678);
}

BOX_GUEST_64(twice_guest,
	     "mov $0x20000, %ebx\n\t movq $7, (%rbx)\n\t out %al, $0x80\n\t"
	     "mov (%rbx), %rax\n\t hlt");

static struct kvm_userspace_memory_region second_slot(u64 gpa, const void *memory)
{
	return (struct kvm_userspace_memory_region){
		.slot = 1, .guest_phys_addr = gpa, .memory_size = PAGE_SIZE,
		.userspace_addr = physical(memory) };
}

CASE(removed_slot, PROVES("kvm-ioctls:mem.delete", "ept:inv.invept_single"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region;
	u64 *memory;

	box_start(&box, &twice_guest);
	memory = (u64 *)box_add_memory(&box, 1, SECOND_SLOT, PAGE_SIZE, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(memory[0], 7);
	region = second_slot(SECOND_SLOT, memory);
	region.memory_size = 0;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	expect_mmio(false, SECOND_SLOT, 8, 99);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 99);
	EXPECT_EQ(memory[0], 7);
}

/* The same memory at another place, which is free again; then at two places. */
CASE(slot_after_a_removed_one, PROVES("kvm-ioctls:mem.delete_then_reuse", "kvm-ioctls:mem.ok",
				      "kvm-ioctls:mem.hva_overlap"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region;
	u64 *memory;

	box_start(&box, &twice_guest);
	memory = (u64 *)box_add_memory(&box, 1, SECOND_SLOT, PAGE_SIZE, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	region = second_slot(SECOND_SLOT, memory);
	region.memory_size = 0;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	region = second_slot(SECOND_SLOT, page_alloc_filled(0x77));
	region.slot = 2;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	region.slot = 3;
	region.guest_phys_addr += PAGE_SIZE;
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, 0x77);
}

CASE(moved_slot, PROVES("kvm-ioctls:mem.move"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region;
	u64 *memory;

	box_start(&box, &twice_guest);
	memory = (u64 *)box_add_memory(&box, 1, SECOND_SLOT, PAGE_SIZE, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	region = second_slot(SECOND_SLOT + PAGE_SIZE, memory);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	expect_mmio(false, SECOND_SLOT, 8, 1);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

CASE(regions_that_are_refused,
     PROVES("kvm-ioctls:mem.size_align", "kvm-ioctls:mem.gpa_align", "kvm-ioctls:mem.hva_align",
	    "kvm-ioctls:mem.flags", "kvm-ioctls:mem.slot", "kvm-ioctls:mem.wrap",
	    "kvm-ioctls:mem.gpa_last", "kvm-ioctls:mem.overlap", "kvm-ioctls:mem.delete_none",
	    "kvm-ioctls:mem.same",
	    "kvm-ioctls:mem.resize", "kvm-ioctls:mem.rehva", "kvm-ioctls:mem.ro_change"),
     NEEDS(BOX_NEEDS))
{
	static const struct {
		u64 slot, flags, gpa, size, host;	/* added to a region that is good */
		int result;
	} rows[] = {
		{ 0, 0, 0, 0, 0,			0 },		/* the same again */
		{ 0, 0, 0, 1, 0,			-EINVAL },
		{ 0, 0, 1, 0, 0,			-EINVAL },
		{ 0, 0, 0, 0, 1,			-EINVAL },
		{ 0, BIT(3), 0, 0, 0,			-EINVAL },
		{ 31, 0, PAGE_SIZE, 0, 0,		-EINVAL },	/* slot 32 */
		{ 1, 0, -SECOND_SLOT - PAGE_SIZE, PAGE_SIZE, 0, -EINVAL },
		{ 1, 0, -SECOND_SLOT - PAGE_SIZE, 0, 0,	-EINVAL },
		{ 1, 0, 0, 0, 0,			-EEXIST },
		{ 1, 0, 0, -PAGE_SIZE, 0,		-EINVAL },	/* nothing to remove */
		{ 0, 0, 0, PAGE_SIZE, 0,		-EINVAL },
		{ 0, 0, 0, 0, PAGE_SIZE,		-EINVAL },
		{ 0, KVM_MEM_READONLY, 0, 0, 0,		-EINVAL },
		{ 0, 0, 0, 0, BIT(32),			-EINVAL },
	};
	u8 *memory;
	u32 i;

	box_start(&box, &twice_guest);
	memory = box_add_memory(&box, 1, SECOND_SLOT, PAGE_SIZE, 0);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_userspace_memory_region region = second_slot(SECOND_SLOT, memory);

		region.slot += rows[i].slot;
		region.flags |= rows[i].flags;
		region.guest_phys_addr += rows[i].gpa;
		region.memory_size += rows[i].size;
		region.userspace_addr += rows[i].host;
		if (!EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), rows[i].result))
			case_note("row", "%u", i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(*(u64 *)memory, 7);
}

/* A guest-physical address above all slots, 40 bits wide at most. */
BOX_GUEST_64(wild_guest, "mov $0x800000, %eax\n\t mov (%rax), %ebx\n\t hlt");

CASE(wild_address, PROVES("kvm-exits:6", "ept:walk.4level.high_gpa"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &wild_guest);
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[4] = BIT(35) | PTE_P | PTE_RW | PTE_PS;
	expect_mmio(false, BIT(35), 4, 0x1234);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rbx, 0x1234);
}

/* --- bounded tables ---------------------------------------------------------------------- */

/* Two rounds over pages 2 MBytes apart: each wants an EPT page table of its own. */
BOX_GUEST_64(sparse_guest,
	     "mov $2, %edx\n\t"
	     "1: mov $0x400000, %ebx\n\t mov $30, %ecx\n\t"
	     "2: incq (%rbx)\n\t add $0x200000, %rbx\n\t dec %ecx\n\t jnz 2b\n\t"
	     "dec %edx\n\t jnz 1b\n\t hlt");

CASE(tables_are_bounded, PROVES("ept:inv.invept_single"), NEEDS(BOX_NEEDS))
{
	u64 *memory[30];
	u32 i;

	box_start(&box, &sparse_guest);
	for (i = 0; i < 30; i++)
		memory[i] = (u64 *)box_add_memory(&box, i + 1, 0x400000 + i * 0x200000ull,
						  PAGE_SIZE, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	for (i = 0; i < 30; i++)
		EXPECT_EQ(*memory[i], 2);
	EXPECT_TRUE(box.vm.fills > 60);
}

/* A log may not take the pages that the guest's next access needs for tables. */
CASE(memory_of_a_vm_is_bounded, PROVES("kvm-ioctls:dirty.content"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region = { .slot = 1, .guest_phys_addr = BIT(32),
						      .flags = KVM_MEM_LOG_DIRTY_PAGES };
	struct hv_pool pool;
	struct hv_vm small;

	box_start(&box, &twice_guest);
	hv_pool_init(&pool, page_alloc(), PAGE_SIZE);
	EXPECT_EQ(hv_vm_create(&small, &hv_mmu_ept, &pool, 1), -ENOMEM);
	/* Nor more than there are. */
	EXPECT_EQ(hv_vm_create(&small, &hv_mmu_ept, &pool, hv_mmu_ept.min_pages), -ENOMEM);
	EXPECT_EQ(pool.left, 1);
	region.memory_size = BIT(31);
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), -ENOMEM);
	region.memory_size = BIT(20);
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), 0);
}
