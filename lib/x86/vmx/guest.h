/*
 * Guests of one instruction, and the exit that it must cause.
 *
 *	GUEST_INSTRUCTION(invlpg, "movl $0x1234, %eax", "invlpg (%rax)");
 *
 *	EXPECT(enter(guest_invlpg.run), OUTCOME_EXIT(EXIT_INVLPG));
 *	EXPECT_FAULT_LIKE_EXIT(guest_invlpg);
 *
 * GUEST_INSTRUCTION(invlpg, ...) defines guest_invlpg. The assembler says where the instruction
 * begins and how long it is, so no case needs a decoder.
 */
#ifndef VMX_GUEST_H
#define VMX_GUEST_H

#include "cpu/traps.h"
#include "vmx/vmx.h"

struct guest_code {
	void (*run)(void);	/* for enter() */
	const u8 *at, *end;	/* the instruction, and the one behind it */
};

/* The registers right before the instruction; the guest writes them: guest_take_snapshot. */
struct guest_snapshot {
	struct general_registers regs;
	u64 rsp, rflags;
};
extern struct guest_snapshot guest_snapshot;

/* Values for a guest to load: "movq guest_value, %rcx". */
extern u64 guest_value, guest_value2;
/* A page for a guest's memory operands. */
extern u8 guest_memory[PAGE_SIZE];
/* A linear address that the image's paging structures do not map: beyond the first 4 GBytes. */
#define UNMAPPED_ADDRESS	0x500001000ull

#define GUEST_SNAPSHOT_ASM	"call guest_take_snapshot\n\t"

/*
 * A guest that prepares with `before` and executes `insn`, one instruction. An exception at `insn`
 * that does not exit is caught in the guest, see guest_outcome(); the guest then returns.
 * `before` may use the stack and must leave it as it was.
 */
#define GUEST_INSTRUCTION(name, before, insn)				\
	GUEST_CODE(name, before "\n\t" GUEST_SNAPSHOT_ASM, insn)

/* The same without the snapshot: when something must happen right before the instruction. */
#define GUEST_CODE(name, before, insn)					\
	void guest_run_##name(void);					\
	extern const u8 guest_at_##name[], guest_end_##name[];		\
	asm(".text\n"							\
	    "guest_run_" #name ":\n\t" before "\n"			\
	    "guest_at_" #name ":\n\t" insn "\n"				\
	    "guest_end_" #name ":\n\tret\n\t"				\
	    FIXUP("guest_at_" #name, "guest_end_" #name));		\
	static const struct guest_code guest_##name __maybe_unused = {		\
		guest_run_##name, guest_at_##name, guest_end_##name }

/* How the guest's instruction ended, by the last enter() or resume(): done, or its exception. */
static inline outcome_t guest_outcome(void)
{
	return this_vmx()->guest_caught;
}

/* The most recent exception in the guest, with RIP, CR2 and registers. */
static inline const struct trap *guest_trap(void)
{
	return &this_vmx()->guest_trap;
}

/*
 * Starts `code` at its instruction, with registers and flags as they are in the VMCS and in
 * guest_regs(); it returns to a VMCALL as a guest function does.
 */
outcome_t enter_at_instruction(const struct guest_code *code);

/*
 * The guest runs at CPL 3 from now on, by its segments. The map at boot lets user mode use
 * everything.
 */
void guest_to_user_mode(void);

/*
 * The guest runs in 32-bit protected mode with 32-bit paging from now on, flat, at CPL 0. Its page
 * directory, which is returned, maps 4 GBytes to themselves, for supervisor mode.
 */
u32 *guest_to_32_bit_mode(void);

/*
 * In real-address mode, which takes "unrestricted guest" and so EPT. The segments, RIP and RSP are
 * still to be set.
 */
void guest_to_real_mode(void);

/*
 * Judges an exit that `code`'s instruction caused, by what holds for every such exit: the saved
 * RIP is that of the instruction, RFLAGS.RF is saved as 0 (30.3.3 Saving RIP, RSP, RFLAGS, and
 * SSP), the length is that of the instruction (30.2.5 Information for VM Exits Due to Instruction
 * Execution), and nothing of the instruction has happened (28.1 Instructions That Cause VM Exits).
 */
#define EXPECT_FAULT_LIKE_EXIT(code) guest_expect_exit(__FILE__, __LINE__, &(code))
void guest_expect_exit(const char *file, u32 line, const struct guest_code *code);

/* The exit qualification, of those bits that 30.2.1 defines for the exit reason; in words. */
#define EXPECT_QUALIFICATION(want) guest_expect_qualification(__FILE__, __LINE__, want)
void guest_expect_qualification(const char *file, u32 line, u64 want);

/* Registers as exit qualifications and instruction information number them. */
enum gpr {
	GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI,
	GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15,
};

/* Table 30-3, Exit Qualification for Control-Register Accesses. */
#define QUALIFICATION_MOV_TO_CR(cr, gpr)	((cr) | 0 << 4 | (gpr) << 8)
#define QUALIFICATION_MOV_FROM_CR(cr, gpr)	((cr) | 1 << 4 | (gpr) << 8)
#define QUALIFICATION_CLTS			(2 << 4)
#define QUALIFICATION_LMSW_REGISTER(source)	(3 << 4 | (source) << 16)
#define QUALIFICATION_LMSW_MEMORY(source)	(3 << 4 | 1 << 6 | (source) << 16)
/* Table 30-4, Exit Qualification for MOV DR. */
#define QUALIFICATION_MOV_TO_DR(dr, gpr)	((dr) | 0 << 4 | (gpr) << 8)
#define QUALIFICATION_MOV_FROM_DR(dr, gpr)	((dr) | 1 << 4 | (gpr) << 8)
/* Table 30-5, Exit Qualification for I/O Instructions. */
#define QUALIFICATION_IO(bytes, port)		(((bytes) - 1) | (u64)(port) << 16)
#define QUALIFICATION_IO_OUT			0
#define QUALIFICATION_IO_IN			BIT(3)
#define QUALIFICATION_IO_STRING			BIT(4)
#define QUALIFICATION_IO_REP			BIT(5)
#define QUALIFICATION_IO_IMMEDIATE		BIT(6)

/*
 * VM-exit instruction information, Tables 30-8 to 30-16: what an instruction must report, as
 * fields joined by |. The upper half is the mask of the bits that are defined.
 */
#define INFORMATION(high, low, value)	(BITS(high, low) << 32 | (u64)(value) << (low))
#define INFORMATION_REG1(gpr)		INFORMATION(6, 3, gpr)
#define INFORMATION_ADDRESS_16		INFORMATION(9, 7, 0)
#define INFORMATION_ADDRESS_32		INFORMATION(9, 7, 1)
#define INFORMATION_ADDRESS_64		INFORMATION(9, 7, 2)
#define INFORMATION_MEMORY		INFORMATION(10, 10, 0)
#define INFORMATION_REGISTER		INFORMATION(10, 10, 1)
#define INFORMATION_OPERAND_SIZE(code)	INFORMATION(12, 11, code)
#define INFORMATION_SEGMENT(number)	INFORMATION(17, 15, number)
#define INFORMATION_INDEX(gpr, log2)	(INFORMATION(21, 18, gpr) | INFORMATION(22, 22, 0) | \
					 INFORMATION(1, 0, log2))
#define INFORMATION_NO_INDEX		INFORMATION(22, 22, 1)
#define INFORMATION_BASE(gpr)		(INFORMATION(26, 23, gpr) | INFORMATION(27, 27, 0))
#define INFORMATION_NO_BASE		INFORMATION(27, 27, 1)
#define INFORMATION_IDENTITY(number)	INFORMATION(29, 28, number)
#define INFORMATION_REG2(gpr)		INFORMATION(31, 28, gpr)

enum { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS };

#define EXPECT_INFORMATION(want) guest_expect_information(__FILE__, __LINE__, want)
void guest_expect_information(const char *file, u32 line, u64 want);

#endif
