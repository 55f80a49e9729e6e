/*
 * The words in which exit_rules*.def says what an exit must leave: those of vmx/entry_words.h for
 * what the entry found (F(GUEST_CR0), IS(EXIT, LOAD_IA32_PAT)), and these. `x` is the struct
 * exit_input, `in` the entry's input.
 */
#ifndef VMX_EXIT_WORDS_H
#define VMX_EXIT_WORDS_H

#include "vmx/entry_words.h"
#include "vmx/exit_model.h"

/* A field after the exit; a register before the entry. */
#define NOW(name)	(x->field[INDEX_##name])
#define HAD(name)	(x->before[EXIT_REGISTER_##name])
#define EXISTS(name)	((x->exists & BIT(EXIT_REGISTER_##name)) != 0)
#define REASON		exit_basic_reason(x)
/* Before the entry the guest had no blocking by NMIs of its own kind, and none began since. */
#define NO_VIRTUAL_NMI_BLOCKING \
	(IS(PIN, VIRTUAL_NMIS) && !(F(GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI) && \
	 !INJECTS_TYPE(NMI))
/* 30.2.1: in enclave mode, or of an event that an entry has pending from there. */
#define IN_ENCLAVE	(NOW(EXIT_REASON) & BIT(27))
#define HOST64		IS(EXIT, HOST_ADDRESS_SPACE_SIZE)
#define ALL_BITS	(~0ull)
/* Bits 1:0 of IA32_FRED_CONFIG are the current stack level, which events and returns change. */
#define FRED_CONFIG_SETTLED (F(GUEST_CR4) & CR4_FRED ? ~BITS(1, 0) : ALL_BITS)

/* The two events that an exit may report. */
#define EXIT_EVENT	NOW(EXITING_EVENT_IDENTIFICATION)
#define ORIGINAL_EVENT	NOW(ORIGINAL_EVENT_IDENTIFICATION)
#define VALID(event)	((event) & BIT(31))
#define VECTOR_OF(event) FIELD(event, 7, 0)
#define TYPE_OF(event)	FIELD(event, 10, 8)
#define IN_SOFTWARE(event) (TYPE_OF(event) >= EVENT_TYPE_SOFTWARE_INTERRUPT && \
			    TYPE_OF(event) <= EVENT_TYPE_SOFTWARE_EXCEPTION)

/*
 * An MSR with a field for the guest, as the exit finds it: `loads` says whether the entry loads it
 * from the field.
 */
#define GUEST_MSR(msr, REG, FIELD_NAME, loads) \
	exit_guest_msr(x, msr, (loads) ? F(FIELD_NAME) : HAD(REG))

/* CR0 bits that entries and exits leave alone: ET, NW, CD, 15:6, 17 and 28:19. 29.3.2.1; 30.5.1. */
#define CR0_KEPT	(CR0_ET | CR0_NW | CR0_CD | BITS(15, 6) | BIT(17) | BITS(28, 19))

#endif
