/*
 * The local APIC of the processor that runs this code, in xAPIC mode (registers in memory) or
 * in x2APIC mode (registers as MSRs); the same names and functions for both.
 * SDM 13, Advanced Programmable Interrupt Controller (APIC).
 */
#ifndef CPU_APIC_H
#define CPU_APIC_H

#include "case.h"
#include "cpu/outcome.h"
#include "types.h"

/*
 * 13.4.1 The Local APIC Block Diagram, Table 13-1: offsets; in x2APIC mode MSR 800H + offset /
 * 16.
 */
enum apic_register {
	APIC_ID				= 0x020,
	APIC_VERSION			= 0x030,
	APIC_TASK_PRIORITY		= 0x080,
	APIC_PROCESSOR_PRIORITY		= 0x0a0,
	APIC_EOI			= 0x0b0,
	APIC_LOGICAL_DESTINATION	= 0x0d0,
	APIC_DESTINATION_FORMAT		= 0x0e0,	/* not in x2APIC mode */
	APIC_SPURIOUS_VECTOR		= 0x0f0,
	APIC_IN_SERVICE			= 0x100,	/* eight registers, 10H apart */
	APIC_TRIGGER_MODE		= 0x180,
	APIC_INTERRUPT_REQUEST		= 0x200,
	APIC_ERROR_STATUS		= 0x280,
	APIC_LVT_CMCI			= 0x2f0,
	APIC_INTERRUPT_COMMAND		= 0x300,
	APIC_INTERRUPT_COMMAND_HIGH	= 0x310,	/* not in x2APIC mode */
	APIC_LVT_TIMER			= 0x320,
	APIC_LVT_THERMAL		= 0x330,
	APIC_LVT_PERFORMANCE		= 0x340,
	APIC_LVT_LINT0			= 0x350,
	APIC_LVT_LINT1			= 0x360,
	APIC_LVT_ERROR			= 0x370,
	APIC_TIMER_INITIAL_COUNT	= 0x380,
	APIC_TIMER_CURRENT_COUNT	= 0x390,
	APIC_TIMER_DIVIDE		= 0x3e0,
	APIC_SELF_IPI			= 0x3f0,	/* only in x2APIC mode */
};

/* 13.12.1 Detecting and Enabling x2APIC Mode, Table 13-5: IA32_APIC_BASE bits 11 and 10. */
enum apic_mode { APIC_DISABLED = 0, APIC_XAPIC = 2, APIC_X2APIC = 3 };

/* The interrupt command register: 13.6.1. The vector is in bits 7:0. */
#define ICR_FIXED		(0u << 8)
#define ICR_NMI			(4u << 8)
#define ICR_INIT		(5u << 8)
#define ICR_STARTUP		(6u << 8)
#define ICR_LOGICAL		BIT(11)
#define ICR_PENDING		BIT(12)
#define ICR_ASSERT		BIT(14)
#define ICR_TO_SELF		(1u << 18)
#define ICR_TO_ALL		(2u << 18)
#define ICR_TO_OTHERS		(3u << 18)

#define APIC_LVT_MASKED		BIT(16)
#define APIC_SOFTWARE_ENABLE	BIT(8)		/* of the spurious-interrupt vector register */

/* The spurious vector in which every case begins. */
#define APIC_BASELINE_SPURIOUS	0xff

/* Needs, for NEEDS(). */
bool apic_exists(u64 unused);
bool apic_has_x2apic(u64 unused);
#define APIC	{ .text = "a local APIC", .met = apic_exists }
#define X2APIC	{ .text = "x2APIC mode", .met = apic_has_x2apic }

/* False when a case has disabled the APIC that was there at boot. */
bool apic_is_on(void);

/* The mode that IA32_APIC_BASE says. */
enum apic_mode apic_mode(void);

/*
 * Goes to `mode` by the transitions that 13.12.5 x2APIC State Transitions allows, through
 * APIC_DISABLED where there is no other way. Outcome: that of the WRMSR that failed, or done;
 * apic_mode() tells whether the processor followed. Leaving APIC_X2APIC loses the register state.
 */
outcome_t apic_set_mode(enum apic_mode mode);

/* One register, in the mode of the moment; nothing is checked. */
u32 apic_read(enum apic_register reg);
void apic_write(enum apic_register reg, u32 value);

/* The APIC ID that the APIC itself has: 8 bits in xAPIC mode, 32 in x2APIC mode. */
u32 apic_id(void);

/* Bit `vector` of ISR, TMR or IRR: `first` is the first of the eight registers. */
bool apic_vector_bit(enum apic_register first, u8 vector);

/*
 * Sends the interprocessor interrupt `command` (ICR_..., | vector) to the processor with the
 * APIC ID `destination`, which a shorthand (ICR_TO_...) makes meaningless. True when the APIC
 * has sent it: 13.6.1, delivery status; in x2APIC mode there is no such bit.
 */
bool apic_send(u32 destination, u32 command);

/* An interrupt to this processor: the self IPI register in x2APIC mode, else the shorthand. */
void apic_send_self(u8 vector);

/* apic_send_self(), and then waits until the interrupt is pending: RFLAGS.IF = 0. */
void apic_pend(u8 vector);

/*
 * Sends an NMI to this processor and returns when it has come: it is taken by then, or blocked.
 * An NMI has no bit in the APIC, but interprocessor interrupts leave one after another (13.6.1,
 * delivery status): an interrupt of `vector` follows it, and stays pending. RFLAGS.IF = 0.
 */
void apic_pend_nmi(u8 vector);

/* Ends the service of the interrupt with the highest priority: 13.8.5. */
static inline void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

/* Lets pending interrupts in for a moment: RFLAGS.IF = 1 for two instructions. */
static inline void interrupts_in(void)
{
	asm volatile("sti; nop; nop; cli" : : : "memory", "cc");
}

/* Finds out, once at boot, whether there is an APIC, and switches it on. */
void apic_remember_baseline(void);

/*
 * The state in which every case begins: xAPIC mode, enabled, spurious vector FFH, every local
 * interrupt masked, priority 0, nothing pending and nothing in service. False when this
 * processor cannot be brought back to it. Interrupts are off. Vectors below 16 cannot pend.
 */
bool apic_restore_baseline(void);

#endif
