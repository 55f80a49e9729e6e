/*
 * Port I/O and model-specific registers, which a host intercepts by number: 28.1.3 Instructions
 * That Cause VM Exits Conditionally, with the I/O bitmaps of 27.6.4 I/O-Bitmap Addresses and the
 * MSR bitmaps of 27.6.9 MSR-Bitmap Address, and the exit qualification of Table 30-5.
 *
 * An I/O access exits when the bit of any of its ports is 1; bitmap A holds ports 0000H to 7FFFH,
 * bitmap B ports 8000H to FFFFH. An MSR access exits when its bit is 1 or when it has none.
 */
#include "cpu/safe.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

/* The port of the POST code: nothing on a PC minds reads and writes there. */
#define QUIET_PORT	0x80

/* --- how an access is described ------------------------------------------------------- */

struct io {
	const struct guest_code *code;
	u64 qualification;
};

static void io_exits(const struct case_def *this_case)
{
	const struct io *io = this_case->row;

	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	REQUIRE(enter(io->code->run), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_FAULT_LIKE_EXIT(*io->code);
	EXPECT_QUALIFICATION(io->qualification);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

static void io_works(const struct case_def *this_case)
{
	const struct io *io = this_case->row;

	if (vmcs_has_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING))
		case_skip("the 0-setting of \"unconditional I/O exiting\"");
	EXPECT(enter(io->code->run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}

#define IO(name, before, insn, qualification_)				\
	GUEST_INSTRUCTION(name, before, insn);				\
	static const struct io row_##name = { &guest_##name, qualification_ };	\
	CASE_RUN(name##_exits, io_exits,				\
		 PROVES("exit-reasons:30", "nonroot-behavior:io.uncond",	\
			"exit-qualifications:io.size", "exit-qualifications:io.direction",	\
			"exit-qualifications:io.immediate", "exit-qualifications:io.port"),	\
		 NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)), ROW(&row_##name));	\
	CASE_RUN(name##_without_control, io_works,			\
		 PROVES("nonroot-behavior:io.uncond"), NEEDS(VMX), ROW(&row_##name))

#define DX		"movl $0xabcd0080, %edx"	/* only DX counts */
#define DX_STRING(reg)	DX "; movl $guest_memory, %e" reg

IO(in_byte_immediate, "", "inb $0x80, %al",
   QUALIFICATION_IO(1, QUIET_PORT) | QUALIFICATION_IO_IN | QUALIFICATION_IO_IMMEDIATE);
IO(in_word_immediate, "", "inw $0x80, %ax",
   QUALIFICATION_IO(2, QUIET_PORT) | QUALIFICATION_IO_IN | QUALIFICATION_IO_IMMEDIATE);
IO(in_dword_immediate, "", "inl $0x80, %eax",
   QUALIFICATION_IO(4, QUIET_PORT) | QUALIFICATION_IO_IN | QUALIFICATION_IO_IMMEDIATE);
IO(in_byte_dx, DX, "inb %dx, %al", QUALIFICATION_IO(1, QUIET_PORT) | QUALIFICATION_IO_IN);
IO(in_word_dx, DX, "inw %dx, %ax", QUALIFICATION_IO(2, QUIET_PORT) | QUALIFICATION_IO_IN);
IO(in_dword_dx, DX, "inl %dx, %eax", QUALIFICATION_IO(4, QUIET_PORT) | QUALIFICATION_IO_IN);
/* REX.W does not make it an access of 8 bytes. */
IO(in_dword_with_rex_w, DX, ".byte 0x48, 0xed",
   QUALIFICATION_IO(4, QUIET_PORT) | QUALIFICATION_IO_IN);
IO(out_byte_immediate, "", "outb %al, $0x80",
   QUALIFICATION_IO(1, QUIET_PORT) | QUALIFICATION_IO_OUT | QUALIFICATION_IO_IMMEDIATE);
IO(out_word_immediate, "", "outw %ax, $0x80",
   QUALIFICATION_IO(2, QUIET_PORT) | QUALIFICATION_IO_OUT | QUALIFICATION_IO_IMMEDIATE);
IO(out_dword_immediate, "", "outl %eax, $0x80",
   QUALIFICATION_IO(4, QUIET_PORT) | QUALIFICATION_IO_OUT | QUALIFICATION_IO_IMMEDIATE);
IO(out_byte_dx, DX, "outb %al, %dx", QUALIFICATION_IO(1, QUIET_PORT) | QUALIFICATION_IO_OUT);
IO(out_word_dx, DX, "outw %ax, %dx", QUALIFICATION_IO(2, QUIET_PORT) | QUALIFICATION_IO_OUT);
IO(out_dword_dx, DX, "outl %eax, %dx", QUALIFICATION_IO(4, QUIET_PORT) | QUALIFICATION_IO_OUT);

/* --- INS and OUTS --------------------------------------------------------------------- */

struct string_io {
	const struct guest_code *code;
	u64 qualification, information, linear_address;
};

/* Table 30-8 is there where IA32_VMX_BASIC[54] is 1: A.1 Basic VMX Information. */
static bool string_information(void)
{
	return capabilities()->basic & BIT(54);
}

static void string_io_exits(const struct case_def *this_case)
{
	const struct string_io *io = this_case->row;

	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	REQUIRE(enter(io->code->run), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_FAULT_LIKE_EXIT(*io->code);
	EXPECT_QUALIFICATION(io->qualification);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), io->linear_address);
	if (string_information())
		EXPECT_INFORMATION(io->information);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

#define STRING_IO(name, before, insn, qualification_, information_, address)	\
	GUEST_INSTRUCTION(name, before, insn);					\
	static const struct string_io row_##name = {				\
		&guest_##name, (qualification_) | QUALIFICATION_IO_STRING,	\
		information_, address };					\
	CASE_RUN(name##_exits, string_io_exits,					\
		 PROVES("exit-reasons:30", "exit-qualifications:io.string",	\
			"exit-qualifications:io.rep",				\
			"instruction-information:ins_outs.address_size",	\
			"instruction-information:ins_outs.segment"),		\
		 NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)), ROW(&row_##name))

#define TO_RDI(address)		DX "; movabsq $" address ", %rdi"
#define FROM_RSI(address)	DX "; movabsq $" address ", %rsi"
#define INS(bytes)		(QUALIFICATION_IO(bytes, QUIET_PORT) | QUALIFICATION_IO_IN)
#define OUTS(bytes)		(QUALIFICATION_IO(bytes, QUIET_PORT) | QUALIFICATION_IO_OUT)

STRING_IO(insb, TO_RDI("0x212345"), "insb", INS(1), INFORMATION_ADDRESS_64, 0x212345);
STRING_IO(insw, TO_RDI("0x212345"), "insw", INS(2), INFORMATION_ADDRESS_64, 0x212345);
STRING_IO(insl, TO_RDI("0x212345"), "insl", INS(4), INFORMATION_ADDRESS_64, 0x212345);
STRING_IO(rep_insb, TO_RDI("0x212345") "; movl $7, %ecx", "rep insb",
	  INS(1) | QUALIFICATION_IO_REP, INFORMATION_ADDRESS_64, 0x212345);
/* 67H: only EDI counts. */
STRING_IO(insb_with_32_bit_address, TO_RDI("0xab00212345"), ".byte 0x67; insb", INS(1),
	  INFORMATION_ADDRESS_32, 0x212345);
STRING_IO(outsb, FROM_RSI("0x212345"), "outsb", OUTS(1),
	  INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS), 0x212345);
STRING_IO(outsw, FROM_RSI("0x212345"), "outsw", OUTS(2),
	  INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS), 0x212345);
STRING_IO(outsl, FROM_RSI("0x212345"), "outsl", OUTS(4),
	  INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS), 0x212345);
STRING_IO(rep_outsl, FROM_RSI("0x212345") "; movl $7, %ecx", "rep outsl",
	  OUTS(4) | QUALIFICATION_IO_REP,
	  INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS), 0x212345);
STRING_IO(outsb_with_32_bit_address, FROM_RSI("0xab00212345"), ".byte 0x67; outsb", OUTS(1),
	  INFORMATION_ADDRESS_32 | INFORMATION_SEGMENT(SEGMENT_DS), 0x212345);
/* 28.1.1: the exit comes before what the memory operand might raise. */
STRING_IO(outsb_from_unmapped, FROM_RSI("0x500001000"), "outsb", OUTS(1),
	  INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS), UNMAPPED_ADDRESS);
STRING_IO(insb_to_unmapped, TO_RDI("0x500001000"), "insb", INS(1), INFORMATION_ADDRESS_64,
	  UNMAPPED_ADDRESS);

GUEST_INSTRUCTION(outsb_fs, FROM_RSI("0x12345"), ".byte 0x64; outsb");
GUEST_INSTRUCTION(outsb_gs, FROM_RSI("0x12345"), ".byte 0x65; outsb");

/* The linear address is the base of the segment plus RSI: 30.2.1, guest linear address. */
static void outs_from_segment(const struct guest_code *code, u32 segment)
{
	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	vmwrite(GUEST_FS_BASE, 0x200000);
	vmwrite(GUEST_GS_BASE, 0x300000);
	vmwrite(GUEST_FS_SELECTOR, SELECTOR_DATA);
	vmwrite(GUEST_GS_SELECTOR, SELECTOR_DATA);
	vmwrite(GUEST_FS_ACCESS_RIGHTS, vmread(GUEST_DS_ACCESS_RIGHTS));
	vmwrite(GUEST_GS_ACCESS_RIGHTS, vmread(GUEST_DS_ACCESS_RIGHTS));
	REQUIRE(enter(code->run), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_FAULT_LIKE_EXIT(*code);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), segment == SEGMENT_FS ? 0x212345 : 0x312345);
	if (string_information())
		EXPECT_INFORMATION(INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(segment));
}

CASE(outsb_from_fs_exits, PROVES("instruction-information:ins_outs.segment"),
     NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)))
{
	outs_from_segment(&guest_outsb_fs, SEGMENT_FS);
}

CASE(outsb_from_gs_exits, PROVES("instruction-information:ins_outs.segment"),
     NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)))
{
	outs_from_segment(&guest_outsb_gs, SEGMENT_GS);
}

CASE(rep_insb_without_control, PROVES("nonroot-behavior:io.uncond"), NEEDS(VMX))
{
	if (vmcs_has_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING))
		case_skip("the 0-setting of \"unconditional I/O exiting\"");
	EXPECT(enter(guest_rep_insb.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_EQ(guest_regs()->rcx, 0);
	EXPECT_EQ(guest_regs()->rdi, 0x212345 + 7);
}

/* --- I/O bitmaps ------------------------------------------------------------------------ */

GUEST_INSTRUCTION(in_1, "movl guest_value, %edx", "inb %dx, %al");
GUEST_INSTRUCTION(in_2, "movl guest_value, %edx", "inw %dx, %ax");
GUEST_INSTRUCTION(in_4, "movl guest_value, %edx", "inl %dx, %eax");

/* An access of `bytes` bytes at `port`, with the bit of port `intercepted` 1 and all others 0. */
struct bitmap_io {
	u16 port, bytes;
	u32 intercepted;	/* 10000H: none */
	bool exits;
};

static void by_bitmap(const struct bitmap_io *io)
{
	const struct guest_code *code = io->bytes == 1 ? &guest_in_1 :
		io->bytes == 2 ? &guest_in_2 : &guest_in_4;

	vmcs_set_control(CONTROL_PROC1_USE_IO_BITMAPS);
	if (io->intercepted < 0x10000)
		intercept_port(io->intercepted, true);
	guest_value = io->port;
	if (!io->exits) {
		EXPECT(enter(code->run), GUEST_DONE);
		return;
	}
	REQUIRE(enter(code->run), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_FAULT_LIKE_EXIT(*code);
	EXPECT_QUALIFICATION(QUALIFICATION_IO(io->bytes, io->port) | QUALIFICATION_IO_IN);
}

static void io_by_bitmap(const struct case_def *this_case)
{
	by_bitmap(this_case->row);
}

#define BITMAP_IO(name, fact, ...)						\
	static const struct bitmap_io row_bitmap_##name = { __VA_ARGS__ };	\
	CASE_RUN(io_bitmap_##name, io_by_bitmap, PROVES(fact),			\
		 NEEDS(VMX, PROC1(USE_IO_BITMAPS)), ROW(&row_bitmap_##name))
#define NO_PORT 0x10000

BITMAP_IO(first_of_a, "nonroot-behavior:io.bitmap", 0, 1, 0, true);
BITMAP_IO(second_of_a_only, "nonroot-behavior:io.bitmap", 0, 1, 1, false);
BITMAP_IO(last_of_a, "nonroot-behavior:io.bitmap", 0x7fff, 1, 0x7fff, true);
BITMAP_IO(first_of_b, "nonroot-behavior:io.bitmap", 0x8000, 1, 0x8000, true);
BITMAP_IO(last_of_b, "nonroot-behavior:io.bitmap", 0xffff, 1, 0xffff, true);
BITMAP_IO(of_a_does_not_count_for_b, "nonroot-behavior:io.bitmap", 0x8123, 1, 0x123, false);
BITMAP_IO(of_b_does_not_count_for_a, "nonroot-behavior:io.bitmap", 0x123, 1, 0x8123, false);
BITMAP_IO(neighbours_off, "nonroot-behavior:io.bitmap", 0x1235, 1, 0x1234, false);
BITMAP_IO(second_byte_of_word, "nonroot-behavior:io.bitmap", 0x1233, 2, 0x1234, true);
BITMAP_IO(behind_word, "nonroot-behavior:io.bitmap", 0x1232, 2, 0x1234, false);
BITMAP_IO(last_byte_of_dword, "nonroot-behavior:io.bitmap", 0x1231, 4, 0x1234, true);
BITMAP_IO(behind_dword, "nonroot-behavior:io.bitmap", 0x1230, 4, 0x1234, false);
BITMAP_IO(before_dword, "nonroot-behavior:io.bitmap", 0x1235, 4, 0x1234, false);
BITMAP_IO(dword_over_two_bytes_of_bitmap, "nonroot-behavior:io.bitmap", 0x1237, 4, 0x123a, true);
BITMAP_IO(word_from_a_to_b, "nonroot-behavior:io.bitmap", 0x7fff, 2, 0x8000, true);
BITMAP_IO(dword_from_a_to_b, "nonroot-behavior:io.bitmap", 0x7ffd, 4, 0x8000, true);
BITMAP_IO(dword_from_a_to_b_by_a, "nonroot-behavior:io.bitmap", 0x7fff, 4, 0x7fff, true);
BITMAP_IO(word_wraps, "nonroot-behavior:io.wrap", 0xffff, 2, NO_PORT, true);
BITMAP_IO(dword_wraps, "nonroot-behavior:io.wrap", 0xfffd, 4, NO_PORT, true);
BITMAP_IO(dword_up_to_ffff, "nonroot-behavior:io.wrap", 0xfffc, 4, NO_PORT, false);
BITMAP_IO(word_up_to_ffff, "nonroot-behavior:io.wrap", 0xfffe, 2, NO_PORT, false);

CASE(io_bitmaps_make_unconditional_exiting_ignored, PROVES("nonroot-behavior:io.ignored"),
     NEEDS(VMX, PROC1(USE_IO_BITMAPS), PROC1(UNCONDITIONAL_IO_EXITING)))
{
	const struct bitmap_io io = { QUIET_PORT, 1, NO_PORT, false };

	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	by_bitmap(&io);
}

CASE(string_io_by_bitmap, PROVES("nonroot-behavior:io.bitmap"), NEEDS(VMX, PROC1(USE_IO_BITMAPS)))
{
	vmcs_set_control(CONTROL_PROC1_USE_IO_BITMAPS);
	intercept_port(QUIET_PORT, true);
	REQUIRE(enter(guest_rep_outsl.run), OUTCOME_EXIT(EXIT_IO_INSTRUCTION));
	EXPECT_FAULT_LIKE_EXIT(guest_rep_outsl);
	intercept_port(QUIET_PORT, false);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rcx, 0);
}

/* 28.1.1: #GP by the I/O permission bit map in the TSS comes first; here the TSS has none. */
CASE(io_permission_comes_first, PROVES("nonroot-behavior:prio.io_tss"),
     NEEDS(VMX, PROC1(UNCONDITIONAL_IO_EXITING)))
{
	guest_to_user_mode();
	vmcs_set_control(CONTROL_PROC1_UNCONDITIONAL_IO_EXITING);
	EXPECT(enter(guest_in_byte_dx.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

/* --- MSR bitmaps --------------------------------------------------------------------------- */

GUEST_INSTRUCTION(rdmsr, "movl guest_value, %ecx", "rdmsr");
GUEST_INSTRUCTION(wrmsr,
		  "movl guest_value, %ecx; movl guest_value2, %eax; movl guest_value2+4, %edx",
		  "wrmsr");

/*
 * An access to `msr` with the bit of `set_access` to `set` 1 and all others 0. A write writes
 * what the MSR has.
 */
struct msr_row {
	u32 msr;
	enum msr_access access;
	bool exits;
	u32 set;		/* NO_MSR: all bits are 0; NO_BITMAPS: "use MSR bitmaps" is 0 */
	enum msr_access set_access;
};
#define NO_MSR		0x2000
#define NO_BITMAPS	0x2001

static void accesses_msr(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	const struct guest_code *code = row->access == MSR_READ ? &guest_rdmsr : &guest_wrmsr;

	if (row->set != NO_BITMAPS)
		vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	else if (vmcs_has_control(CONTROL_PROC1_USE_MSR_BITMAPS))
		case_skip("the 0-setting of \"use MSR bitmaps\"");
	if (row->set < NO_MSR || row->set > NO_BITMAPS)
		intercept_msr(row->set, row->set_access, true);
	guest_value = row->msr;
	rdmsr_safe(row->msr, &guest_value2);
	if (!row->exits) {
		EXPECT(enter(code->run), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_DONE);
		if (row->access == MSR_READ)
			EXPECT_EQ(guest_regs()->rdx << 32 | guest_regs()->rax, guest_value2);
		return;
	}
	REQUIRE(enter(code->run), OUTCOME_EXIT(row->access == MSR_READ ? EXIT_RDMSR : EXIT_WRMSR));
	EXPECT_FAULT_LIKE_EXIT(*code);
	EXPECT_QUALIFICATION(0);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
}

#define MSR_(name, exit, fact, ...)						\
	static const struct msr_row row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, accesses_msr, PROVES("exit-reasons:" exit, fact),	\
		 NEEDS(VMX, PROC1(USE_MSR_BITMAPS)), ROW(&row_##name))
#define RDMSR(name, fact, msr, ...) \
	MSR_(rdmsr_##name, "31", "nonroot-behavior:" fact, msr, MSR_READ, __VA_ARGS__)
#define WRMSR(name, msr, ...) \
	MSR_(wrmsr_##name, "32", "nonroot-behavior:wrmsr", msr, MSR_WRITE, __VA_ARGS__)

RDMSR(of_low_by_its_bit, "rdmsr.bitmap", IA32_SYSENTER_CS, true, IA32_SYSENTER_CS, MSR_READ);
RDMSR(of_low_not_by_the_write_bit, "rdmsr.bitmap",
      IA32_PAT, false, IA32_PAT, MSR_WRITE);
RDMSR(of_low_not_by_a_high_bit, "rdmsr.bitmap",
      IA32_PAT, false, 0xc0000000 + IA32_PAT, MSR_READ);
RDMSR(of_low_not_by_its_neighbour, "rdmsr.bitmap", IA32_PAT, false, IA32_PAT + 1, MSR_READ);
RDMSR(of_high_by_its_bit, "rdmsr.bitmap", IA32_STAR, true, IA32_STAR, MSR_READ);
RDMSR(of_high_not_by_the_write_bit, "rdmsr.bitmap", IA32_LSTAR, false, IA32_LSTAR, MSR_WRITE);
RDMSR(of_high_not_by_a_low_bit, "rdmsr.bitmap", IA32_LSTAR, false, IA32_LSTAR & 0x1fff, MSR_READ);
RDMSR(of_first_low, "rdmsr.bitmap", 0, true, 0, MSR_READ);
RDMSR(of_last_low, "rdmsr.bitmap", 0x1fff, true, 0x1fff, MSR_READ);
RDMSR(of_first_high, "rdmsr.bitmap", 0xc0000000, true, 0xc0000000, MSR_READ);
RDMSR(of_last_high, "rdmsr.bitmap", 0xc0001fff, true, 0xc0001fff, MSR_READ);
RDMSR(behind_low_range, "rdmsr.range", 0x2000, true, NO_MSR, MSR_READ);
RDMSR(in_the_middle, "rdmsr.range", 0x40000000, true, NO_MSR, MSR_READ);
RDMSR(before_high_range, "rdmsr.range", 0xbfffffff, true, NO_MSR, MSR_READ);
RDMSR(behind_high_range, "rdmsr.range", 0xc0002000, true, NO_MSR, MSR_READ);
RDMSR(of_last_index, "rdmsr.range", 0xffffffff, true, NO_MSR, MSR_READ);
RDMSR(without_bitmaps, "rdmsr.nobitmap", IA32_PAT, true, NO_BITMAPS, MSR_READ);

WRMSR(of_low_by_its_bit, IA32_SYSENTER_CS, true, IA32_SYSENTER_CS, MSR_WRITE);
WRMSR(of_low_not_by_the_read_bit, IA32_PAT, false, IA32_PAT, MSR_READ);
WRMSR(of_low_not_by_a_high_bit, IA32_PAT, false, 0xc0000000 + IA32_PAT, MSR_WRITE);
WRMSR(of_high_by_its_bit, IA32_STAR, true, IA32_STAR, MSR_WRITE);
WRMSR(of_high_not_by_the_read_bit, IA32_LSTAR, false, IA32_LSTAR, MSR_READ);
WRMSR(of_high_not_by_a_low_bit, IA32_LSTAR, false, IA32_LSTAR & 0x1fff, MSR_WRITE);
WRMSR(of_first_low, 0, true, 0, MSR_WRITE);
WRMSR(of_last_low, 0x1fff, true, 0x1fff, MSR_WRITE);
WRMSR(of_first_high, 0xc0000000, true, 0xc0000000, MSR_WRITE);
WRMSR(of_last_high, 0xc0001fff, true, 0xc0001fff, MSR_WRITE);
WRMSR(behind_low_range, 0x2000, true, NO_MSR, MSR_WRITE);
WRMSR(before_high_range, 0xbfffffff, true, NO_MSR, MSR_WRITE);
WRMSR(behind_high_range, 0xc0002000, true, NO_MSR, MSR_WRITE);
WRMSR(of_last_index, 0xffffffff, true, NO_MSR, MSR_WRITE);
WRMSR(without_bitmaps, IA32_PAT, true, NO_BITMAPS, MSR_WRITE);

/* 28.1.1: privilege first, then the exit, then whether there is such an MSR. */
CASE(rdmsr_of_nonexistent_exits, PROVES("nonroot-behavior:prio.nonexistent_msr"), NEEDS(VMX))
{
	guest_value = 0x3fffffff;
	REQUIRE(enter(guest_rdmsr.run), OUTCOME_EXIT(EXIT_RDMSR));
	EXPECT_FAULT_LIKE_EXIT(guest_rdmsr);
}

CASE(wrmsr_of_reserved_bits_exits, PROVES("nonroot-behavior:prio.nonexistent_msr"), NEEDS(VMX))
{
	guest_value = IA32_EFER;
	guest_value2 = ~0ull;
	REQUIRE(enter(guest_wrmsr.run), OUTCOME_EXIT(EXIT_WRMSR));
	EXPECT_FAULT_LIKE_EXIT(guest_wrmsr);
}

CASE(rdmsr_faults_at_cpl_3, PROVES("nonroot-behavior:prio.cpl"), NEEDS(VMX))
{
	guest_to_user_mode();
	EXPECT(enter(guest_rdmsr.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

CASE(wrmsr_faults_at_cpl_3, PROVES("nonroot-behavior:prio.cpl"), NEEDS(VMX))
{
	guest_to_user_mode();
	EXPECT(enter(guest_wrmsr.run), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_GP0);
}

/* 28.3: RDMSR of the time-stamp counter adds the offset as RDTSC does. */
CASE(rdmsr_of_the_clock_adds_the_offset, PROVES("nonroot-behavior:rdmsr.tsc"),
     NEEDS(VMX, PROC1(USE_MSR_BITMAPS), PROC1(USE_TSC_OFFSETTING)))
{
	const u64 offset = 0x123456789abcd;
	u64 before, clock;

	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_set_control(CONTROL_PROC1_USE_TSC_OFFSETTING);
	vmwrite(TSC_OFFSET, offset);
	guest_value = IA32_TSC;
	before = rdtsc();
	EXPECT(enter(guest_rdmsr.run), GUEST_DONE);
	clock = guest_regs()->rdx << 32 | guest_regs()->rax;
	EXPECT_TRUE(clock >= before + offset);
	EXPECT_TRUE(clock <= rdtsc() + offset);
}
