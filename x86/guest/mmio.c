/*
 * One instruction, one register of a device: every form that reads or writes memory, with the
 * memory behind an address where there is none (volume 2; 13.4.1 for the register;
 * lib/x86/mmu/mmio.h).
 *
 * A processor sends such an access to the bus and knows no difference. A hypervisor gets an exit,
 * decodes the instruction itself, and does in software what the processor would have done:
 * operand sizes, addresses, flags, the parts of registers that stay. So the measure is the
 * processor itself: each instruction is executed on RAM and on the register, from the same state,
 * and has to leave the same state.
 */
#include "cpu/apic.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/mmio.h"

#define FACT(name)	PROVES("guest-instructions:mmio." name)

BEFORE_EACH_CASE(mmio_map);

#define STATUS	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

struct form {
	void (*code)(void *unused);
	u64 undefined;		/* flags that the instruction leaves undefined */
};

static const struct {
	u32 memory;
	u64 rax, rcx, rdx, flags;
} states[] = {
	{ 0x00000001, 0x1122334455667788, 3, 0x99aabbccddeeff00, RFLAGS_FIXED },
	{ 0x7fffffff, 0x0000000000000001, 31, 0, RFLAGS_FIXED | STATUS },
	{ 0x80000000, 0xffffffffffffffff, 0x104, 0x7fffffff, RFLAGS_FIXED | RFLAGS_CF },
	{ 0x89abcdef, 0x0000000089abcdef, 0x89abcdef, ~0ull, RFLAGS_FIXED },
};

static void put(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

static u32 get(u64 address)
{
	return *(volatile u32 *)address;
}

/* On RAM, then on the register; RSI leads to other RAM. */
static void check_form(const struct case_def *this_case)
{
	const struct form *row = this_case->row;
	struct mmio_state ram, device;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(states); i++) {
		ram = (struct mmio_state){ states[i].rax, states[i].rcx, states[i].rdx, MMIO_RAM,
					   MMIO_RAM_2 + 0x380, states[i].flags };
		device = ram;
		device.rdi = MMIO_REGISTER;
		put(ram.rdi, states[i].memory);
		put(device.rdi, states[i].memory);
		EXPECT(mmio_run(row->code, &ram), OUTCOME_DONE);
		REQUIRE(mmio_run(row->code, &device), OUTCOME_DONE);
		EXPECT_EQ(get(MMIO_REGISTER), get(MMIO_RAM_2 + 0x380));
		EXPECT_EQ(device.rax, ram.rax);
		EXPECT_EQ(device.rcx, ram.rcx);
		EXPECT_EQ(device.rdx, ram.rdx);
		EXPECT_EQ(device.rdi - MMIO_REGISTER, ram.rdi - MMIO_RAM_2 - 0x380);
		EXPECT_EQ(device.flags & ~row->undefined, ram.flags & ~row->undefined);
	}
}

#define FORM(id, fact, text, undefined, ...)					\
	MMIO_CODE(form_##id, text);						\
	CASE_RUN(id, check_form, FACT(fact),					\
		 ROW((&(const struct form){ form_##id, undefined })), ##__VA_ARGS__)

/* --- MOV ------------------------------------------------------------------------------ */

FORM(load, "mov_rd", "movl (%rdi), %eax", 0);
FORM(load_extended_register, "mov_rd", "movq %r9, %rdx; movl (%rdi), %r9d; xchgq %r9, %rdx", 0);
FORM(store, "mov_wr", "movl %eax, (%rdi)", 0);
FORM(store_immediate, "mov_imm", "movl $0x89abcdef, (%rdi)", 0);
FORM(load_and_extend, "movsx", "movslq (%rdi), %rax", 0);
FORM(store_non_temporal, "sse", "movnti %eax, (%rdi)", 0);
FORM(load_movbe, "movbe", "movbel (%rdi), %eax", 0, NEEDS(CPU(MOVBE)));
FORM(store_movbe, "movbe", "movbel %eax, (%rdi)", 0, NEEDS(CPU(MOVBE)));
FORM(conditional_load, "alu_read", "cmovcl (%rdi), %eax; cmovncl (%rdi), %edx", 0);

/* --- arithmetic and logic: the register as the source ------------------------------------ */

#define AF	RFLAGS_AF

FORM(add_from, "alu_read", "addl (%rdi), %eax", 0);
FORM(adc_from, "alu_read", "adcl (%rdi), %eax", 0);
FORM(sub_from, "alu_read", "subl (%rdi), %eax", 0);
FORM(sbb_from, "alu_read", "sbbl (%rdi), %eax", 0);
FORM(cmp_from, "alu_read", "cmpl (%rdi), %eax", 0);
FORM(and_from, "alu_read", "andl (%rdi), %eax", AF);
FORM(or_from, "alu_read", "orl (%rdi), %eax", AF);
FORM(xor_from, "alu_read", "xorl (%rdi), %eax", AF);
FORM(cmp_with, "alu_read", "cmpl %eax, (%rdi)", 0);
FORM(cmp_with_immediate, "alu_read", "cmpl $-1, (%rdi)", 0);
FORM(test_with, "alu_read", "testl %eax, (%rdi)", AF);
FORM(test_with_immediate, "alu_read", "testl $0x80000001, (%rdi)", AF);
FORM(multiply_by, "alu_read", "mull (%rdi)", RFLAGS_SF | RFLAGS_ZF | AF | RFLAGS_PF);
FORM(multiply_three_operands, "alu_read", "imull $7, (%rdi), %eax",
     RFLAGS_SF | RFLAGS_ZF | AF | RFLAGS_PF);

/* --- as the destination --------------------------------------------------------------------- */

FORM(add_to, "alu_rmw", "addl %eax, (%rdi)", 0);
FORM(adc_to, "alu_rmw", "adcl %eax, (%rdi)", 0);
FORM(sub_to, "alu_rmw", "subl %eax, (%rdi)", 0);
FORM(sbb_to, "alu_rmw", "sbbl %eax, (%rdi)", 0);
FORM(and_to, "alu_rmw", "andl %eax, (%rdi)", AF);
FORM(or_to, "alu_rmw", "orl %eax, (%rdi)", AF);
FORM(xor_to, "alu_rmw", "xorl %eax, (%rdi)", AF);
FORM(add_byte_immediate, "alu_rmw", "addl $-1, (%rdi)", 0);
FORM(or_immediate, "alu_rmw", "orl $0x12345678, (%rdi)", AF);
FORM(inc, "alu_rmw", "incl (%rdi)", 0);
FORM(dec, "alu_rmw", "decl (%rdi)", 0);
FORM(not, "alu_rmw", "notl (%rdi)", 0);
FORM(neg, "alu_rmw", "negl (%rdi)", 0);
FORM(shl_1, "alu_rmw", "shll (%rdi)", AF);
FORM(shr_1, "alu_rmw", "shrl (%rdi)", AF);
FORM(sar_cl, "alu_rmw", "sarl %cl, (%rdi)", AF | RFLAGS_OF);
FORM(rol_imm, "alu_rmw", "roll $5, (%rdi)", RFLAGS_OF);
FORM(rcr_1, "alu_rmw", "rcrl (%rdi)", 0);
FORM(shld, "alu_rmw", "shldl $4, %eax, (%rdi)", AF | RFLAGS_OF);

/*
 * --- exchange ---------------------------------------------------------------------------------
 */

FORM(xchg, "xchg", "xchgl %eax, (%rdi)", 0);
FORM(cmpxchg, "cmpxchg", "cmpxchgl %edx, (%rdi)", 0);
FORM(xadd, "xadd", "xaddl %eax, (%rdi)", 0);
FORM(lock_add, "lock", "lock addl %eax, (%rdi)", 0);
FORM(lock_cmpxchg, "lock", "lock cmpxchgl %edx, (%rdi)", 0);
FORM(lock_xadd, "lock", "lock xaddl %eax, (%rdi)", 0);
FORM(lock_dec, "lock", "lock decl (%rdi)", 0);
FORM(lock_not, "lock", "lock notl (%rdi)", 0);
FORM(lock_bts, "lock", "lock btsl $9, (%rdi)", RFLAGS_OF | RFLAGS_SF | AF | RFLAGS_PF);

/*
 * --- bits --------------------------------------------------------------------------------------
 */

#define BT_UNDEFINED	(RFLAGS_OF | RFLAGS_SF | AF | RFLAGS_PF)

FORM(bt_immediate, "bt", "btl $31, (%rdi)", BT_UNDEFINED);
FORM(bts_immediate, "bt", "btsl $4, (%rdi)", BT_UNDEFINED);
FORM(btr_immediate, "bt", "btrl $31, (%rdi)", BT_UNDEFINED);
FORM(btc_immediate, "bt", "btcl $63, (%rdi)", BT_UNDEFINED);
/*
 * A bit number in a register moves the address, by 4 bytes for each 32: here the operand starts
 * elsewhere.
 */
FORM(bt_register, "bt", "movl $0x408, %edx; subq $0x80, %rdi; btl %edx, (%rdi); addq $0x80, %rdi",
     STATUS & ~RFLAGS_CF & ~RFLAGS_ZF);
FORM(bts_negative, "bt",
     "movq $-0x3f8, %rdx; addq $0x80, %rdi; btsl %edx, (%rdi); leaq -0x80(%rdi), %rdi",
     BT_UNDEFINED);

/*
 * --- one side is the register, the other the stack or an instruction pointer
 * -----------------------
 */

extern const u8 push_32[], pop_32[], jump_32[], call_32[];
CODE32(push_32, "pushl (%edi); popl %eax; movl %eax, 4(%esp); movl %eax, " STRINGIFY(0x50000100));
CODE32(pop_32, "pushl $0x13572468; popl (%edi)");
CODE32(jump_32, "movl $1f, (%edi); jmp *(%edi); ud2; 1:");
CODE32(call_32, "movl $1f, (%edi); call *(%edi); jmp 2f; 1: ret; 2:");

CASE(push_pop_jump_call, FACT("push_pop"))
{
	put(MMIO_REGISTER, 0xfeedf00d);
	put(MMIO_RAM + 0x100, 0);
	EXPECT(run_in_compatibility_mode(0, push_32, MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_RAM + 0x100), 0xfeedf00d);
	EXPECT(run_in_compatibility_mode(0, pop_32, MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x13572468);
	EXPECT(run_in_compatibility_mode(0, jump_32, MMIO_REGISTER), OUTCOME_DONE);
	EXPECT(run_in_compatibility_mode(0, call_32, MMIO_REGISTER), OUTCOME_DONE);
}

/* Volume 2, POP: with ESP as the base the address is that behind the pop. */
extern const u8 pop_scaled[], pop_by_esp[];
CODE32(pop_scaled, "movl $2, %ecx; pushl $0x24680135; popl -8(%edi, %ecx, 4)");
CODE32(pop_by_esp, "movl %edi, %ecx; subl %esp, %ecx; pushl $0x35791246; popl (%esp, %ecx)");

CASE(pop_with_a_sib_byte, FACT("push_pop"))
{
	EXPECT(run_in_compatibility_mode(0, pop_scaled, MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x24680135);
	EXPECT(run_in_compatibility_mode(0, pop_by_esp, MMIO_REGISTER), OUTCOME_DONE);
	EXPECT_EQ(get(MMIO_REGISTER), 0x35791246);
}

/* 64-bit mode pushes 8 bytes, or 2: that is for where nothing is. */
MMIO_CODE(push_64, "pushq (%rdi); popq %rax; pushw (%rdi); popw %dx");
MMIO_CODE(pop_64, "pushq %rax; popq (%rdi); pushw %dx; popw (%rdi)");

CASE(push_pop_where_nothing_is, FACT("push_pop"))
{
	struct mmio_state s = { .rdi = MMIO_NOTHING, .rdx = 0x123456, .flags = RFLAGS_FIXED };

	EXPECT(mmio_run(push_64, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, mmio_nothing());
	EXPECT_EQ(s.rdx, 0x120000 | (mmio_nothing() & 0xffff));
	EXPECT(mmio_run(pop_64, &s), OUTCOME_DONE);
}

/*
 * --- addresses
 * ------------------------------------------------------------------------------------------
 */

#define REGISTER_TEXT	STRINGIFY(MMIO_REGISTER_NUMBER)

struct address_form {
	void (*code)(void *unused);
	u64 rdi, rcx, fs;
};

/* Reads the register into EAX and writes EDX to it. */
static void check_address(const struct case_def *this_case)
{
	const struct address_form *row = this_case->row;
	struct mmio_state s = { .rdi = row->rdi, .rcx = row->rcx, .rdx = 0x24681357, .rax = ~0ull,
				.flags = RFLAGS_FIXED };

	wrmsr(IA32_FS_BASE, row->fs);
	wrmsr(IA32_GS_BASE, row->fs);
	put(MMIO_REGISTER, 0x87654321);
	EXPECT(mmio_run(row->code, &s), OUTCOME_DONE);
	EXPECT_EQ(s.rax, 0x87654321);
	EXPECT_EQ(get(MMIO_REGISTER), 0x24681357);
}

#define ADDRESS(id, fact, text, rdi, rcx, fs)					\
	MMIO_CODE(address_##id, text);						\
	CASE_RUN(id, check_address, FACT(fact),					\
		 ROW((&(const struct address_form){ address_##id, rdi, rcx, fs })))

ADDRESS(absolute, "moffs", "movabsl " REGISTER_TEXT ", %eax; xchgl %eax, %edx; movabsl %eax, "
	REGISTER_TEXT "; xchgl %eax, %edx", 0, 0, 0);
ADDRESS(rip_relative, "rip_rel", "movl mmio_register(%rip), %eax; movl %edx, mmio_register(%rip)",
	0, 0, 0);
/* The address counts from the end of the instruction, which is behind the immediate operand. */
ADDRESS(rip_relative_with_immediate, "rip_rel",
	"movl mmio_register(%rip), %eax; movl $0x24681357, mmio_register(%rip)", 0, 0, 0);
ADDRESS(rip_relative_with_byte, "rip_rel",
	"movl mmio_register(%rip), %eax; andl $0, mmio_register(%rip);"
	"orl %edx, mmio_register(%rip)",
	0, 0, 0);
ADDRESS(base_and_displacement, "sib", "movl -0x70(%rdi), %eax; movl %edx, -0x70(%rdi)",
	MMIO_REGISTER + 0x70, 0, 0);
ADDRESS(base_index_scale, "sib", "movl 0x10(%rdi, %rcx, 8), %eax; movl %edx, 0x10(%rdi, %rcx, 8)",
	MMIO_APIC, 0x6e, 0);
ADDRESS(index_without_base, "sib",
	"movl 0x50001000(, %rcx, 4), %eax; movl %edx, 0x50001000(, %rcx, 4)",
	0, 0xe0, 0);
ADDRESS(negative_index, "sib", "movl (%rdi, %rcx), %eax; movl %edx, (%rdi, %rcx)",
	MMIO_REGISTER + 1, -1ull, 0);
ADDRESS(fs_base, "sib", "movl %fs:0x380(%rdi), %eax; movl %edx, %fs:0x380(%rdi)",
	0, 0, MMIO_APIC);
ADDRESS(gs_base, "sib", "movl %gs:(%rdi), %eax; movl %edx, %gs:(%rdi)",
	-16ull, 0, MMIO_REGISTER + 16);
ADDRESS(address_size_32, "addr32", "movl (%edi), %eax; movl %edx, (%edi)",
	0xdeadbeef00000000 | MMIO_REGISTER, 0, 0);
/* The sum is truncated before the segment base is added. */
ADDRESS(address_size_32_wraps, "addr32", "movl (%edi, %ecx), %eax; movl %edx, (%edi, %ecx)",
	0xfffffffffffff000, 0x1000 + MMIO_REGISTER, 0);

/*
 * --- effects that count
 * ---------------------------------------------------------------------------------------
 */

/* Interrupts in service, one above the other; each write to the EOI register ends one of them. */
static u32 in_service(void)
{
	u32 vector, count = 0;

	for (vector = 0x20; vector < 0x100; vector += 0x10)
		count += apic_vector_bit(APIC_IN_SERVICE, vector);
	return count;
}

static void no_eoi(struct trap_frame *frame)
{
	(void)frame;
}

/* HLT waits for the interrupt, which is pending, so that it does not matter when it comes. */
static void serve(u8 vector)
{
	trap_on(vector, no_eoi);
	apic_send_self(vector);
	asm volatile("sti; hlt; cli" : : : "memory");
}

MMIO_CODE(eoi_mov, "movl %eax, (%rdi)");
MMIO_CODE(eoi_mov_immediate, "movl $0, (%rdi)");
MMIO_CODE(eoi_stos, "stosl");
MMIO_CODE(eoi_rep_stos, "movl $1, %ecx; rep stosl");
MMIO_CODE(eoi_movs, "movsl");
MMIO_CODE(eoi_movnti, "movnti %eax, (%rdi)");

CASE(each_write_is_one_write, FACT("write_side"), NEEDS(APIC))
{
	void (*const codes[])(void *) = {
		eoi_mov, eoi_mov_immediate, eoi_stos, eoi_rep_stos, eoi_movs, eoi_movnti,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(codes); i++)
		serve(0x40 + i * 0x10);
	REQUIRE_EQ(in_service(), ARRAY_SIZE(codes));
	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		struct mmio_state s = { .rsi = MMIO_RAM, .rdi = MMIO_EOI, .flags = RFLAGS_FIXED };

		EXPECT(mmio_run(codes[i], &s), OUTCOME_DONE);
		EXPECT_EQ(in_service(), ARRAY_SIZE(codes) - 1 - i);
	}
}
