/*
 * Exceptions as outcomes. Three ways to meet one:
 *
 *  - ATTEMPT("insn", operands): one instruction; the outcome is done or the exception;
 *  - attempt(function, argument): a piece of code, ended by the first exception in it;
 *  - trap_on(vector, handler): a handler that returns to the code, for interrupts.
 *
 * Any other exception fails the running case, with the registers, and the next case runs.
 */
#ifndef CPU_TRAPS_H
#define CPU_TRAPS_H

#include "cpu/cpu.h"

/*
 * One entry of the table of instructions that may fault: where, and where to go on. The linker
 * keeps it with the code that it is about ("o"), and no longer.
 */
#define FIXUP(from, to)							\
	".pushsection .fixups, \"ao\", @progbits, " from "\n\t"		\
	".quad " from ", " to "\n\t.popsection\n\t"

#define ATTEMPT_ASM(insn)							\
	".Lattempt%=: " insn "\n.Lattempted%=:\n\t" FIXUP(".Lattempt%=", ".Lattempted%=")

/*
 * ATTEMPT("mov %0, %%cr4", : "r" (value)): the operands as in asm after the template, at least ":".
 * Evaluates to an outcome.
 */
#define ATTEMPT(insn, ...) ({						\
	trap_expect();							\
	asm volatile(ATTEMPT_ASM(insn) : __VA_ARGS__);			\
	trap_outcome(); })

/* Before and after an instruction with a fixup. */
static inline void trap_expect(void)
{
	this_cpu()->caught = OUTCOME_DONE;
	barrier();
}

static inline outcome_t trap_outcome(void)
{
	barrier();
	return this_cpu()->caught;
}

/* Runs function(argument); the outcome is done, or the first exception that nothing handled. */
outcome_t attempt(void (*function)(void *argument), void *argument);

/* The most recent exception that was caught or failed a case, with RIP, CR2 and registers. */
const struct trap *last_trap(void);

/* Calls `handler` on `vector` from now on, on this processor; NULL: no more. Ends with the case. */
void trap_on(u8 vector, trap_handler *handler);

u64 context_save(struct context *context) __returns_twice;
__noreturn void context_restore(struct context *context);

/* Makes the return from the handler of `frame` one to the saved context, at CPL 0. */
void trap_return_to(struct trap_frame *frame, const struct context *context);

/* Ends the guest that runs on this processor by a VM exit, after a trap nobody expected. */
#define GUEST_DIED_RAX	0x64656967ull

/*
 * For the loop of cases: see struct case_machine. trap_leave() ends the innermost attempt() or
 * guarded() of this processor with struct cpu.left set.
 */
bool trap_guarded(void (*run)(void));
__noreturn void trap_leave(void);

/* Notes `trap` as the failure of the running case. */
void trap_fail_case(const struct trap *trap);

void trap_dispatch(struct trap_frame *frame);

#endif
