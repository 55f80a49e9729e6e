/*
 * Code at lower privilege: CPL 1 to 3 in 64-bit mode, and 32-bit code in compatibility mode.
 *
 *	EXPECT(run_at_cpl(3, user_hlt, NULL), OUTCOME_GP0);
 *
 * The code runs on a stack of its own in the processor's block, so this_cpu(), ATTEMPT() and
 * EXPECT() work there too; attempt() and a second run_at_cpl() do not, and no port can be
 * written. GDT, TSS.RSP0 and the gate of #UD must be as a case finds them: the way back is a
 * UD2, the one instruction that comes to CPL 0 from anywhere, with any gate privilege and on any
 * machine. Works in a VMX guest as well, unless the exception bitmap takes #UD.
 */
#ifndef CPU_USER_H
#define CPU_USER_H

#include "cpu/traps.h"

/*
 * Calls function(argument) at `cpl` (1 to 3) with RFLAGS.IF = 0 and IOPL = 0. Outcome: done, or
 * the first exception that no fixup or handler dealt with; last_trap() tells more.
 */
outcome_t run_at_cpl(u32 cpl, void (*function)(void *argument), void *argument);

/* The same with RFLAGS of the caller's choice at the first instruction, e.g. RFLAGS_AC. */
outcome_t run_at_cpl_with_flags(u32 cpl, u64 rflags, void (*function)(void *argument),
				void *argument);

/*
 * CODE32(name, "text"): 32-bit code for run_in_compatibility_mode(). It is called with its
 * argument in EDI and on a 32-bit stack; it may change all registers but ESP, and its end is a
 * near return.
 */
#define CODE32(name, text)						\
	extern const u8 name[];						\
	asm(".pushsection .text." #name ", \"ax\", @progbits\n"		\
	    "\t.code32\n" #name ":\n\t" text "\n\tret\n"		\
	    "\t.code64\n\t.popsection")

/*
 * Runs 32-bit code at CPL 0 or 3 in compatibility mode, with flat segments: DS, ES and SS 4 GBytes
 * from 0, FS and GS null. Outcome as in run_at_cpl().
 */
outcome_t run_in_compatibility_mode(u32 cpl, const u8 *code, u32 argument);

/*
 * For trap_dispatch(): true when `frame` is the #UD by which such code comes back, and dealt
 * with.
 */
bool user_return(struct trap_frame *frame);

#endif
