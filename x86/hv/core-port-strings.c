/*
 * The core: INS and OUTS, where memory is a device.
 *
 * Each element is two accesses, and user space has an exit for each piece: KVM_EXIT_IO, then
 * KVM_EXIT_MMIO for INS, the other way round for OUTS. Between two elements the registers say what
 * is left, so that user space can stop there (KVM_GET_REGS) and another vCPU go on. What a guest
 * sees of all this is in guest/io-mmio.
 */
#include "hv/box.h"
#include "string.h"

#define PORT	0x60

static struct box box;

static void expect_port(u32 direction, u32 size, u64 data)
{
	struct kvm_run *run = box.vcpu.run;
	u8 *bytes;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	bytes = (u8 *)run + run->io.data_offset;
	EXPECT_EQ(run->io.direction, direction);
	EXPECT_EQ(run->io.port, PORT);
	REQUIRE_EQ(run->io.size, size);
	REQUIRE_EQ(run->io.count, 1);
	if (direction == KVM_EXIT_IO_OUT) {
		u64 got = 0;

		memcpy(&got, bytes, size);
		EXPECT_EQ(got, data);
	} else {
		memcpy(bytes, &data, size);
	}
}

static void expect_mmio(bool is_write, u64 address, u32 size, u64 data)
{
	struct kvm_run *run = box.vcpu.run;
	u64 got = 0;

	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.is_write, is_write);
	EXPECT_EQ(run->mmio.phys_addr, address);
	REQUIRE_EQ(run->mmio.len, size);
	memcpy(&got, run->mmio.data, size);
	if (is_write)
		EXPECT_EQ(got, data);
	else
		memcpy(run->mmio.data, &data, size);
}

/* RCX, RSI and RDI in the middle of the instruction. */
static void expect_left(u64 rcx, u64 rsi, u64 rdi)
{
	const struct kvm_regs regs = box_regs(&box);

	EXPECT_EQ(regs.rcx, rcx);
	EXPECT_EQ(regs.rsi, rsi);
	EXPECT_EQ(regs.rdi, rdi);
}

#define SET_UP	"mov $0x60, %edx\n\t mov $0x10000000, %esi\n\t mov %esi, %edi\n\t mov $3, %ecx\n\t"

BOX_GUEST_64(rep_insw_guest, SET_UP "rep insw\n\t hlt");

CASE(port_then_mmio_for_ins, PROVES("kvm-exits:2", "kvm-exits:6", "kvm-ioctls:run.rep_io"),
     NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &rep_insw_guest);
	for (i = 0; i < 3; i++) {
		expect_port(KVM_EXIT_IO_IN, 2, 0x1100 + i);
		expect_left(3 - i, BOX_MMIO, BOX_MMIO + 2 * i);
		expect_mmio(true, BOX_MMIO + 2 * i, 2, 0x1100 + i);
		expect_left(3 - i, BOX_MMIO, BOX_MMIO + 2 * i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	expect_left(0, BOX_MMIO, BOX_MMIO + 6);
}

BOX_GUEST_64(rep_outsl_guest, SET_UP "rep outsl\n\t hlt");

CASE(mmio_then_port_for_outs, PROVES("kvm-exits:2", "kvm-exits:6", "kvm-ioctls:run.rep_io"),
     NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &rep_outsl_guest);
	for (i = 0; i < 3; i++) {
		expect_mmio(false, BOX_MMIO + 4 * i, 4, 0x89abcdef + i);
		expect_left(3 - i, BOX_MMIO + 4 * i, BOX_MMIO);
		expect_port(KVM_EXIT_IO_OUT, 4, 0x89abcdef + i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	expect_left(0, BOX_MMIO + 12, BOX_MMIO);
}

BOX_GUEST_64(down_guest, SET_UP "std\n\t rep outsb\n\t hlt");

CASE(elements_go_down, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &down_guest);
	for (i = 0; i < 3; i++) {
		expect_mmio(false, BOX_MMIO - i, 1, 0x50 + i);
		expect_port(KVM_EXIT_IO_OUT, 1, 0x50 + i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	expect_left(0, BOX_MMIO - 3, BOX_MMIO);
}

/* 48H, REX.W: the elements keep 32 bits. */
BOX_GUEST_64(rex_guest, SET_UP "rep; .byte 0x48; insl\n\t hlt");

CASE(elements_with_rex_w, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &rex_guest);
	for (i = 0; i < 3; i++) {
		expect_port(KVM_EXIT_IO_IN, 4, 0x89abcdef + i);
		expect_mmio(true, BOX_MMIO + 4 * i, 4, 0x89abcdef + i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	expect_left(0, BOX_MMIO, BOX_MMIO + 12);
}

/* 16-bit mode, 16-bit addresses: above the box's memory there is no slot. */
BOX_GUEST_16(real_guest,
	     "mov $0xffff, %ax\n\t mov %ax, %es\n\t mov $0x60, %dx\n\t mov $0xabcda010, %edi\n\t"
	     "mov $0x12340002, %ecx\n\t rep insb\n\t hlt");

CASE(ins_in_real_mode, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u32 i;

	box_start(&box, &real_guest);
	for (i = 0; i < 2; i++) {
		expect_port(KVM_EXIT_IO_IN, 1, 0x50 + i);
		expect_mmio(true, 0xffff0 + 0xa010 + i, 1, 0x50 + i);
	}
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	expect_left(0x12340000, 0, 0xabcda012);
}

/* --- partly in memory ------------------------------------------------------------------------ */

#define ROM	0x20000

BOX_GUEST_64(crossing_ins_guest,
	     "mov $0x60, %edx\n\t mov $0x1fffe, %edi\n\t insl\n\t hlt");

/* The part in a read-only slot is a device's, as for any write there. */
CASE(ins_into_a_read_only_slot, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u8 *rom;

	box_start(&box, &crossing_ins_guest);
	rom = box_add_memory(&box, 2, ROM, PAGE_SIZE, KVM_MEM_READONLY);
	box_add_memory(&box, 1, ROM - PAGE_SIZE, PAGE_SIZE, 0);
	expect_port(KVM_EXIT_IO_IN, 4, 0x44332211);
	expect_mmio(true, ROM, 2, 0x4433);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(rom[0], 0);
	expect_left(0, 0, ROM + 2);
}

BOX_GUEST_64(crossing_outs_guest,
	     "mov $0x60, %edx\n\t mov $0x20ffe, %esi\n\t outsl\n\t hlt");

CASE(outs_from_memory_and_mmio, PROVES("kvm-exits:6"), NEEDS(BOX_NEEDS))
{
	u8 *rom;

	box_start(&box, &crossing_outs_guest);
	rom = box_add_memory(&box, 2, ROM, PAGE_SIZE, KVM_MEM_READONLY);
	rom[PAGE_SIZE - 2] = 0x11;
	rom[PAGE_SIZE - 1] = 0x22;
	expect_mmio(false, ROM + PAGE_SIZE, 2, 0x4433);
	expect_port(KVM_EXIT_IO_OUT, 4, 0x44332211);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* The GByte that is mapped ends in the middle of the element: the port is not read. */
BOX_GUEST_64(last_byte_guest, "mov $0x60, %edx\n\t mov $0x3fffffff, %edi\n\t insw\n\t hlt");

CASE(ins_over_the_border_of_a_missing_page, PROVES("guest-instructions:io.ins_fault_first"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &last_byte_guest);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0x40000000);
	EXPECT_EQ(box_regs(&box).rdi, 0x3fffffff);
}

/* 20.3.1.3: an I/O breakpoint is a trap behind the instruction, not for one that faults. */
#define SET_BREAKPOINT								\
	"mov %cr4, %rax\n\t or $8, %al\n\t mov %rax, %cr4\n\t"			\
	"mov $0x60, %edx\n\t mov %rdx, %db0\n\t mov $0x20002, %eax\n\t mov %rax, %db7\n\t"

BOX_GUEST_64(breakpoint_guest, SET_BREAKPOINT "mov $0x40000000, %esi\n\t outsb\n\t hlt");
BOX_GUEST_64(breakpoint_memory_guest, SET_BREAKPOINT "mov $0xa000, %esi\n\t outsb\n\t hlt");
BOX_GUEST_64(breakpoint_mmio_guest, SET_BREAKPOINT "mov $0x10000000, %esi\n\t outsb\n\t hlt");

CASE(breakpoint_of_an_element_that_faults, PROVES("guest-instructions:io.iobp"),
     NEEDS(BOX_NEEDS))
{
	box_start(&box, &breakpoint_guest);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0x40000000);
}

static void expect_breakpoint(void)
{
	EXPECT_VECTOR(&box, VECTOR_DB);
	/* At the HLT behind it. */
	EXPECT_EQ(*(u8 *)(box.memory + *box_at(&box, box_regs(&box).rsp)), 0xf4);
}

CASE(breakpoint_of_an_element_in_memory, PROVES("guest-instructions:io.iobp"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &breakpoint_memory_guest);
	expect_port(KVM_EXIT_IO_OUT, 1, 0);
	expect_breakpoint();
}

CASE(breakpoint_of_an_element_in_mmio, PROVES("guest-instructions:io.iobp"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &breakpoint_mmio_guest);
	expect_mmio(false, BOX_MMIO, 1, 0x55);
	expect_port(KVM_EXIT_IO_OUT, 1, 0x55);
	expect_breakpoint();
}

/* --- at the last address --------------------------------------------------------------------- */

/* 16-bit addresses in a segment of 4 GBytes: behind FFFFH is 0, in the middle of a page. */
BOX_GUEST_32(around_guest,
	     "mov $0x60, %edx\n\t mov $0x1234fff8, %edi\n\t mov $16, %ecx\n\t"
	     ".byte 0x67; rep insb\n\t hlt");

#define ES_BASE		0x20u

CASE(elements_behind_the_last_16_bit_address, PROVES("guest-instructions:io.addr16"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;
	struct kvm_sregs sregs;
	u32 done = 0, i;
	u8 *above, *data;

	box_start(&box, &around_guest);
	above = box_add_memory(&box, 1, BOX_SIZE, PAGE_SIZE, 0);
	sregs = box_sregs(&box);
	sregs.es.base = ES_BASE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	run = box.vcpu.run;
	while (box_run(&box) == KVM_EXIT_IO) {
		data = (u8 *)run + run->io.data_offset;
		for (i = 0; i < run->io.count; i++)
			data[i] = ++done;
	}
	EXPECT_EXIT(run->exit_reason, KVM_EXIT_HLT);
	expect_left(0, 0, 0x12340008);
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(above[ES_BASE - 8 + i], i + 1);
		EXPECT_EQ(box.memory[ES_BASE + i], 8 + i + 1);
		EXPECT_EQ(above[ES_BASE + i], 0);
	}
}

/* Linear addresses of 32 bits go on at 0, whose page is missing. */
BOX_GUEST_32(top_guest, "mov $0x60, %edx\n\t mov $0x7fffffff, %esi\n\t outsw\n\t hlt");

CASE(element_at_the_last_linear_address, PROVES("guest-instructions:io.elem_cross"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	box_start(&box, &top_guest);
	box_add_memory(&box, 1, BIT(32) - PAGE_SIZE, PAGE_SIZE, 0);
	sregs = box_sregs(&box);
	sregs.ds.base = 0x80000000;
	box_start_paging_32(&box, &sregs);
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0);
}

/* --- between the accesses --------------------------------------------------------------------- */

/* A single step ends with one element, and comes when both of its accesses are made. */
CASE(single_step_is_one_element, PROVES("guest-instructions:io.single_step"), NEEDS(BOX_NEEDS))
{
	struct kvm_regs regs;

	box_start(&box, &rep_insw_guest);
	expect_port(KVM_EXIT_IO_IN, 2, 0x1111);
	regs = box_regs(&box);
	regs.rflags |= RFLAGS_TF;
	hv_vcpu_set_regs(&box.vcpu, &regs);
	expect_mmio(true, BOX_MMIO, 2, 0x1111);
	EXPECT_VECTOR(&box, VECTOR_DB);
	expect_left(2, BOX_MMIO, BOX_MMIO + 2);
}

/* What has not been let through by this exit is not done, whoever has changed the code. */
BOX_GUEST_64(store_guest, "mov $0x60, %edx\n\t mov $0x10000000, %esi\n\t mov %rsi, %rdi\n\t"
			  "mov (%rsi), %al\n\t hlt");
#define LOAD_AT	13	/* of `mov (%rsi), %al` in store_guest */

CASE(mov_that_became_outs_fails, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	const u8 outsb = 0x6e, load[] = { 0x8a, 0x06 };

	box_start(&box, &store_guest);
	REQUIRE_TRUE(!memcmp(box.memory + BOX_CODE + LOAD_AT, load, sizeof(load)));
	expect_mmio(false, BOX_MMIO, 1, 0x55);
	box.memory[BOX_CODE + LOAD_AT] = outsb;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(box.vcpu.run->emulation_failure.insn_bytes[0], outsb);
}

BOX_GUEST_64(ins_or_outs_guest, SET_UP "insb\n\t hlt");
#define INS_AT	17

CASE(ins_that_became_outs_fails, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &ins_or_outs_guest);
	REQUIRE_EQ(box.memory[BOX_CODE + INS_AT], 0x6c);
	expect_port(KVM_EXIT_IO_IN, 1, 0x55);
	box.memory[BOX_CODE + INS_AT] = 0x6e;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->emulation_failure.insn_bytes[0], 0x6e);
}
