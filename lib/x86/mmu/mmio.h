/*
 * Memory that is not RAM, for cases about what reaches it: the registers of the local APIC,
 * and addresses that nothing answers to. They are mapped side by side with RAM, at fixed linear
 * addresses, so that an instruction can have them as a constant and an access can be in both.
 *
 *	MMIO_RAM	0	a page of RAM
 *	MMIO_APIC	1000H	the APIC's registers
 *	MMIO_RAM_2	2000H	a page of RAM
 *	MMIO_NOTHING	3000H	two pages of no device
 *	MMIO_RAM_3	5000H	a page of RAM
 *
 * The APIC has one register that takes and returns all of its 32 bits without doing anything:
 * the initial count of a timer whose interrupt is masked. 13.4.1: APIC registers are accessed
 * as 32 bits, aligned to 128; other accesses are not promised to work, so those of other
 * sizes are made where nothing is. What a bus returns there is its own affair (all ones on
 * a PC, zeros elsewhere), but it is the same for all instructions.
 */
#ifndef MMU_MMIO_H
#define MMU_MMIO_H

#include "cpu/outcome.h"
#include "mmu/build.h"

#define MMIO_LINEAR	0x50000000
#define MMIO_RAM	MMIO_LINEAR
#define MMIO_APIC	(MMIO_LINEAR + 0x1000)
#define MMIO_RAM_2	(MMIO_LINEAR + 0x2000)
#define MMIO_NOTHING	(MMIO_LINEAR + 0x3000)
#define MMIO_NOTHING_2	(MMIO_LINEAR + 0x4000)
#define MMIO_RAM_3	(MMIO_LINEAR + 0x5000)

/* The register: APIC_TIMER_INITIAL_COUNT. */
#define MMIO_REGISTER	(MMIO_APIC + 0x380)
#define MMIO_REGISTER_NUMBER	0x50001380	/* the same for assembly, with mmio_register */

/* The same register in a page of the user, under a PML4E of its own. */
#define MMIO_USER_PAGE		0x0000650000001000
#define MMIO_USER_REGISTER	(MMIO_USER_PAGE + 0x380)

/* Every write to it ends one interrupt. */
#define MMIO_EOI	(MMIO_APIC + 0x0b0)

/*
 * Maps all of it, but for MMIO_USER_PAGE for the supervisor only, and loads the address space;
 * the APIC is in xAPIC mode. Ends the case as a skip where there is no APIC. The RAM is zero.
 */
void mmio_map(void);

/*
 * All else is for the supervisor after mmio_map(); code and stack of user mode are not after this.
 */
void mmio_share_with_user(void);

/* The entry that maps the page at `linear`, one of the above, for a case to change; then INVLPG. */
u64 *mmio_entry(u64 linear);

/* What 8 bytes without a device read as. */
u64 mmio_nothing(void);

/* Registers before and after a piece of code: RDI is the address it works on. */
struct mmio_state {
	u64 rax, rcx, rdx, rsi, rdi, flags;
};

/* The code: name(), in assembly, ends with RET; RAX, RCX, RDX, RSI, RDI and flags are its own. */
#define MMIO_CODE(name, text)							\
	void name(void *unused);						\
	asm(".pushsection .text\n" #name ":\n\t" text "\n\tret\n\t.popsection")

/* Runs `code` with the registers of `state`, which it then holds as they are after. */
outcome_t mmio_run(void (*code)(void *unused), struct mmio_state *state);

#endif
