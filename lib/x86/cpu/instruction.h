/*
 * INSTRUCTION(name, "before", "instruction"): a function void name(void *argument) for attempt() or
 * run_at_cpl() that executes `before`, then one instruction whose address is name_at; name_next
 * is the address after it. `argument` is in RDI; RAX, RCX, RDX, RSI, RDI and R8 to R11 are free.
 */
#ifndef CPU_INSTRUCTION_H
#define CPU_INSTRUCTION_H

#include "types.h"

#define INSTRUCTION(name, before, instruction)				\
	void name(void *argument);					\
	extern const u8 name##_at[], name##_next[];			\
	asm(".pushsection .text\n" #name ":\n\t" before "\n"		\
	    #name "_at:\n\t" instruction "\n" #name "_next:\n\tret\n\t.popsection")

#endif
