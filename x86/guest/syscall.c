/*
 * SYSCALL and SYSRET, SYSENTER and SYSEXIT (volume 2; 6.8.7 and 6.8.8 of volume 3): the ways into
 * the supervisor and back that look at no descriptor.
 *
 * They load CS and SS with selectors from MSRs and with attributes that are always the same; RSP,
 * the flags and the return address each follow a rule of their own. Each case sends the processor
 * through one of them to an instruction that raises an exception, and reads the state from the
 * frame of that: what is at the other end of SYSCALL and SYSENTER is a UD2, of SYSRET and SYSEXIT
 * an INT3, a trap, so that the saved RF is the processor's. Outside Intel's processors SYSENTER
 * does not exist in 64-bit mode.
 */
#include "cpu/features.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/user.h"

#define FACT(name)	PROVES("guest-instructions:" name)

#define NOT_CANONICAL	0x8000000000000000ull
#define BREAKPOINT	OUTCOME_EXCEPTION(VECTOR_BP)

INSTRUCTION(entry, "", "ud2");
INSTRUCTION(user_landing, "", "int3");
extern const u8 landing_32_next[];
CODE32(landing_32, "int3; landing_32_next:");

static const struct trap_frame *frame(void)
{
	return &last_trap()->frame;
}

static void enable_syscall(u16 kernel, u16 user)
{
	wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SCE);
	wrmsr(IA32_STAR, (u64)user << 48 | (u64)kernel << 32);
	wrmsr(IA32_LSTAR, (u64)entry);
	wrmsr(IA32_FMASK, 0);
}

/* Selectors without a descriptor behind them: nobody must look. */
#define NO_DESCRIPTOR	SELECTOR_SPARE
/* SYSRET takes SS from 8 behind it, 64-bit CS from 16 behind it. */
#define USER_BASE	SELECTOR_USER_CODE32

/* --- SYSCALL ----------------------------------------------------------------------- */

INSTRUCTION(do_syscall, "movq %rsp, %r8; movabsq $0x1122334455667788, %rcx", "syscall");

CASE(syscall_is_off, FACT("syscall.sce"))
{
	EXPECT(attempt(do_syscall, NULL), OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)do_syscall_at);
	EXPECT(run_at_cpl(3, do_syscall, NULL), OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)do_syscall_at);
}

CODE32(syscall_32, ".byte 0x0f, 0x05");

CASE(syscall_in_compatibility_mode, FACT("syscall.sce"), NEEDS(INTEL))
{
	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(run_in_compatibility_mode(3, syscall_32, 0), OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)syscall_32);
}

static void check_entered(u16 kernel)
{
	EXPECT_EQ(frame()->rip, (u64)entry);
	EXPECT_EQ(frame()->cs, kernel);
	EXPECT_EQ(frame()->ss, kernel + 8);
	EXPECT_EQ(frame()->regs.rcx, (u64)do_syscall_next);
}

CASE(syscall_from_user_mode, FACT("syscall.state"))
{
	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(run_at_cpl(3, do_syscall, NULL), OUTCOME_UD);
	check_entered(SELECTOR_CODE64);
}

CASE(syscall_at_cpl_0, FACT("syscall.state"))
{
	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(attempt(do_syscall, NULL), OUTCOME_UD);
	check_entered(SELECTOR_CODE64);
}

CASE(syscall_reads_no_descriptor, FACT("syscall.state"))
{
	enable_syscall(NO_DESCRIPTOR, USER_BASE);
	EXPECT(run_at_cpl(3, do_syscall, NULL), OUTCOME_UD);
	check_entered(NO_DESCRIPTOR);
}

/* Bits 1:0 of the selectors are 0 whatever STAR holds: CPL is 0. */
CASE(syscall_ignores_the_rpl_in_star, FACT("syscall.state"))
{
	enable_syscall(SELECTOR_CODE64 | 3, USER_BASE);
	EXPECT(run_at_cpl(3, do_syscall, NULL), OUTCOME_UD);
	EXPECT_EQ(frame()->cs, SELECTOR_CODE64);
	EXPECT_EQ(frame()->ss & 3, 0);
}

CASE(syscall_keeps_rsp, FACT("syscall.norsp"))
{
	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(run_at_cpl(3, do_syscall, NULL), OUTCOME_UD);
	EXPECT_EQ(frame()->rsp, frame()->regs.r8);
}

#define ARITHMETIC	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
#define USER_FLAGS	(RFLAGS_FIXED | ARITHMETIC | RFLAGS_IF | RFLAGS_DF | RFLAGS_AC | RFLAGS_ID)

/* R11 gets the flags as they were; IA32_FMASK says which of them become 0. */
CASE(syscall_masks_flags, FACT("syscall.state"))
{
	static const u64 masks[] = {
		0, RFLAGS_IF, RFLAGS_DF | RFLAGS_AC, ARITHMETIC, 0xffffffff & ~RFLAGS_FIXED,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(masks); i++) {
		enable_syscall(SELECTOR_CODE64, USER_BASE);
		wrmsr(IA32_FMASK, masks[i]);
		EXPECT(run_at_cpl_with_flags(3, USER_FLAGS, do_syscall, NULL), OUTCOME_UD);
		EXPECT_EQ(frame()->regs.r11, USER_FLAGS);
		/* A fault saves RF = 1. */
		EXPECT_EQ(frame()->rflags & ~RFLAGS_RF, (USER_FLAGS & ~masks[i]) | RFLAGS_FIXED);
	}
}

/* --- SYSRET ------------------------------------------------------------------------ */

/* RCX and R11 are those of the structure that RDI leads to. */
struct sysret {
	u64 rcx, r11;
};

#define LOAD_SYSRET	"movq (%rdi), %rcx; movq 8(%rdi), %r11; movq %rsp, %r8"
INSTRUCTION(do_sysret_64, LOAD_SYSRET, "sysretq");
INSTRUCTION(do_sysret_32, LOAD_SYSRET, "sysretl");

CASE(sysret_is_off, FACT("syscall.sce"))
{
	struct sysret to = { (u64)user_landing, RFLAGS_FIXED };

	EXPECT(attempt(do_sysret_64, &to), OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)do_sysret_64_at);
}

static void check_left(void (*code)(void *argument), u64 landing, u64 next, u16 user, u16 cs)
{
	struct sysret to = { landing, RFLAGS_FIXED | RFLAGS_CF };

	enable_syscall(SELECTOR_CODE64, user);
	EXPECT(attempt(code, &to), BREAKPOINT);
	EXPECT_EQ(frame()->rip, next);
	EXPECT_EQ(frame()->cs, cs);
	EXPECT_EQ(frame()->ss, (u64)(user | 3) + 8);
	EXPECT_EQ(frame()->rsp, frame()->regs.r8);
	EXPECT_EQ(frame()->rflags, RFLAGS_FIXED | RFLAGS_CF);
}

CASE(sysret_to_64_bit_mode, FACT("sysret.cs"))
{
	check_left(do_sysret_64, (u64)user_landing, (u64)user_landing_next, USER_BASE,
		   SELECTOR_USER_CODE64);
}

CASE(sysret_to_compatibility_mode, FACT("sysret.cs"))
{
	check_left(do_sysret_32, (u64)landing_32, (u64)landing_32_next, USER_BASE,
		   SELECTOR_USER_CODE32);
}

CASE(sysret_forces_rpl_3, FACT("sysret.cs"))
{
	check_left(do_sysret_64, (u64)user_landing, (u64)user_landing_next, USER_BASE & ~3,
		   SELECTOR_USER_CODE64);
}

CASE(sysret_reads_no_descriptor, FACT("sysret.cs"))
{
	check_left(do_sysret_64, (u64)user_landing, (u64)user_landing_next, NO_DESCRIPTOR,
		   (NO_DESCRIPTOR + 16) | 3);
}

/* RFLAGS is (R11 and 3C7FD7H) or 2. */
CASE(sysret_flags, FACT("sysret.flags"))
{
	struct sysret to = { (u64)user_landing, 0xffffffffffffffff & ~RFLAGS_TF };

	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(attempt(do_sysret_64, &to), BREAKPOINT);
	EXPECT_EQ(frame()->rflags, 0x3c7fd7 & ~RFLAGS_TF);
	to.r11 = 0;
	EXPECT(attempt(do_sysret_64, &to), BREAKPOINT);
	EXPECT_EQ(frame()->rflags, RFLAGS_FIXED);
}

CASE(sysret_to_no_address, FACT("sysret.canon"), NEEDS(INTEL))
{
	struct sysret to = { NOT_CANONICAL, RFLAGS_FIXED };

	enable_syscall(SELECTOR_CODE64, USER_BASE);
	EXPECT(attempt(do_sysret_64, &to), OUTCOME_GP0);
	EXPECT_EQ(frame()->rip, (u64)do_sysret_64_at);
	EXPECT_EQ(frame()->cs, SELECTOR_CODE64);
	/* The 32-bit form takes ECX only. */
	to.rcx = NOT_CANONICAL | (u64)landing_32;
	EXPECT(attempt(do_sysret_32, &to), BREAKPOINT);
	EXPECT_EQ(frame()->rip, (u64)landing_32_next);
}

/* --- SYSENTER ---------------------------------------------------------------------- */

INSTRUCTION(do_sysenter, "", "sysenter");

static u64 kernel_stack(void)
{
	return (u64)this_cpu()->guest_stack + sizeof(this_cpu()->guest_stack);
}

static void enable_sysenter(u64 cs)
{
	wrmsr(IA32_SYSENTER_CS, cs);
	wrmsr(IA32_SYSENTER_ESP, kernel_stack());
	wrmsr(IA32_SYSENTER_EIP, (u64)entry);
}

static void check_sysenter(outcome_t outcome, u16 cs)
{
	EXPECT(outcome, OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)entry);
	EXPECT_EQ(frame()->rsp, kernel_stack());
	EXPECT_EQ(frame()->cs, cs);
	EXPECT_EQ(frame()->ss, cs + 8);
	EXPECT_EQ(frame()->rflags & ~RFLAGS_RF, USER_FLAGS & ~RFLAGS_IF);
}

CASE(sysenter_from_user_mode, FACT("sysenter.state"), NEEDS(INTEL, CPU(SEP)))
{
	enable_sysenter(SELECTOR_CODE64);
	check_sysenter(run_at_cpl_with_flags(3, USER_FLAGS, do_sysenter, NULL), SELECTOR_CODE64);
}

CASE(sysenter_reads_no_descriptor, FACT("sysenter.state"), NEEDS(INTEL, CPU(SEP)))
{
	enable_sysenter(NO_DESCRIPTOR);
	check_sysenter(run_at_cpl_with_flags(3, USER_FLAGS, do_sysenter, NULL), NO_DESCRIPTOR);
}

CASE(sysenter_ignores_the_rpl, FACT("sysenter.state"), NEEDS(INTEL, CPU(SEP)))
{
	enable_sysenter(SELECTOR_CODE64 | 3);
	check_sysenter(run_at_cpl_with_flags(3, USER_FLAGS, do_sysenter, NULL), SELECTOR_CODE64);
}

CODE32(sysenter_32, "sysenter");

CASE(sysenter_from_compatibility_mode, FACT("sysenter.state"), NEEDS(INTEL, CPU(SEP)))
{
	enable_sysenter(SELECTOR_CODE64);
	EXPECT(run_in_compatibility_mode(3, sysenter_32, 0), OUTCOME_UD);
	EXPECT_EQ(frame()->rip, (u64)entry);
	EXPECT_EQ(frame()->cs, SELECTOR_CODE64);
}

CASE(sysenter_without_a_selector, FACT("sysenter.cs0"), NEEDS(INTEL, CPU(SEP)))
{
	enable_sysenter(0);
	EXPECT(run_at_cpl(3, do_sysenter, NULL), OUTCOME_GP0);
	enable_sysenter(3);
	EXPECT(run_at_cpl(3, do_sysenter, NULL), OUTCOME_GP0);
	EXPECT(attempt(do_sysenter, NULL), OUTCOME_GP0);
	EXPECT_EQ(frame()->rip, (u64)do_sysenter_at);
}

/* --- SYSEXIT ----------------------------------------------------------------------- */

struct sysexit {
	u64 rcx, rdx;	/* RSP, RIP */
};

#define LOAD_SYSEXIT	"movq (%rdi), %rcx; movq 8(%rdi), %rdx"
INSTRUCTION(do_sysexit_64, LOAD_SYSEXIT, "sysexitq");
INSTRUCTION(do_sysexit_32, LOAD_SYSEXIT, "sysexitl");

/* SYSEXIT takes CS from 16 or (64-bit) 32 behind IA32_SYSENTER_CS, SS from 8 behind that. */
#define SYSEXIT_BASE	(SELECTOR_USER_CODE64 - 32 - 3)

static void check_sysexit(void (*code)(void *argument), u64 landing, u64 next, u16 base, u16 cs)
{
	struct sysexit to = { (u64)this_cpu()->user_stack + 0x800, landing };

	enable_sysenter(base);
	EXPECT(attempt(code, &to), BREAKPOINT);
	EXPECT_EQ(frame()->rip, next);
	EXPECT_EQ(frame()->rsp, to.rcx);
	EXPECT_EQ(frame()->cs, cs);
	EXPECT_EQ(frame()->ss, (u64)cs + 8);
}

CASE(sysexit_to_64_bit_mode, FACT("sysexit.state"), NEEDS(INTEL, CPU(SEP)))
{
	check_sysexit(do_sysexit_64, (u64)user_landing, (u64)user_landing_next, SYSEXIT_BASE,
		      SELECTOR_USER_CODE64);
}

CASE(sysexit_to_compatibility_mode, FACT("sysexit.state"), NEEDS(INTEL, CPU(SEP)))
{
	check_sysexit(do_sysexit_32, (u64)landing_32, (u64)landing_32_next, NO_DESCRIPTOR,
		      (NO_DESCRIPTOR + 16) | 3);
}

CASE(sysexit_without_a_selector, FACT("sysenter.cs0"), NEEDS(INTEL, CPU(SEP)))
{
	struct sysexit to = { (u64)this_cpu()->user_stack + 0x800, (u64)user_landing };

	enable_sysenter(3);
	EXPECT(attempt(do_sysexit_64, &to), OUTCOME_GP0);
	EXPECT(attempt(do_sysexit_32, &to), OUTCOME_GP0);
}

CASE(sysexit_to_no_address, FACT("sysexit.canon"), NEEDS(INTEL, CPU(SEP)))
{
	struct sysexit to = { (u64)this_cpu()->user_stack + 0x800, NOT_CANONICAL };

	enable_sysenter(SYSEXIT_BASE);
	EXPECT(attempt(do_sysexit_64, &to), OUTCOME_GP0);
	EXPECT_EQ(frame()->cs, SELECTOR_CODE64);
	to = (struct sysexit){ NOT_CANONICAL, (u64)user_landing };
	EXPECT(attempt(do_sysexit_64, &to), OUTCOME_GP0);
	EXPECT_EQ(frame()->rip, (u64)do_sysexit_64_at);
}
