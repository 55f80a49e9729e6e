/*
 * The VMX instructions, each as one C function whose outcome is done, an exception,
 * VMfailInvalid or VMfailValid(n): 33.2 Conventions. Every call also checks the six status
 * flags: they are all set before, and must afterwards be as 33.2 says for that outcome.
 */
#ifndef VMX_INSTRUCTIONS_H
#define VMX_INSTRUCTIONS_H

#include "cpu/traps.h"
#include "vmx/entry_reader.h"
#include "vmx/facts.h"

/* Judges the flags after a VMX instruction whose ATTEMPT ended with `trap`. */
outcome_t vmx_outcome(const char *instruction, outcome_t trap, u64 rflags);

#define VMX_SET_FLAGS "pushfq\n\torl $0x8d5, (%%rsp)\n\tpopfq\n\t"

/*
 * VMX_ATTEMPT("vmptrld %[p]", : [p] "m" (pointer)): operands as in asm, after the output of
 * the flags; at least ":".
 */
#define VMX_ATTEMPT(insn, ...) ({						\
	u64 rflags__ = 0;							\
	trap_expect();								\
	asm volatile(VMX_SET_FLAGS ATTEMPT_ASM(insn) "pushfq\n\tpop %[rflags__]"\
		     : [rflags__] "=&r" (rflags__) __VA_ARGS__);		\
	vmx_outcome(insn, trap_outcome(), rflags__); })

static inline outcome_t vmxon(u64 pointer)
{
	entry_note_vmxon();
	return VMX_ATTEMPT("vmxon %[p]", : [p] "m" (pointer) : "cc", "memory");
}

static inline outcome_t vmxoff(void)
{
	return VMX_ATTEMPT("vmxoff", : : "cc", "memory");
}

static inline outcome_t vmclear(u64 pointer)
{
	outcome_t outcome = VMX_ATTEMPT("vmclear %[p]", : [p] "m" (pointer) : "cc", "memory");

	if (outcome == OUTCOME_DONE)
		entry_note_launch_state(pointer, LAUNCH_STATE_CLEAR);
	return outcome;
}

static inline outcome_t vmptrld(u64 pointer)
{
	return VMX_ATTEMPT("vmptrld %[p]", : [p] "m" (pointer) : "cc", "memory");
}

static inline outcome_t vmptrst(u64 *pointer)
{
	return VMX_ATTEMPT("vmptrst %[p]", , [p] "=m" (*pointer) : : "cc", "memory");
}

static inline outcome_t vmread_outcome(u64 field, u64 *value)
{
	u64 result = *value;
	outcome_t outcome = VMX_ATTEMPT("vmread %[field], %[value]",
					, [value] "+r" (result) : [field] "r" (field)
					: "cc", "memory");

	*value = result;
	return outcome;
}

static inline outcome_t vmwrite_outcome(u64 field, u64 value)
{
	return VMX_ATTEMPT("vmwrite %[value], %[field]",
			   : [value] "r" (value), [field] "r" (field) : "cc", "memory");
}

/*
 * VMREAD and VMWRITE of a field that is known to be there, with no look at how they end: several
 * hundred of them at each entry are what the audit costs.
 */
static inline u64 vmread_known(u64 field)
{
	u64 value = 0;

	asm volatile("vmread %1, %0" : "+r" (value) : "r" (field) : "cc");
	return value;
}

static inline void vmwrite_known(u64 field, u64 value)
{
	asm volatile("vmwrite %0, %1" : : "r" (value), "r" (field) : "cc");
}

/*
 * VMLAUNCH and VMRESUME for entries that are expected to fail or fault: a guest that starts is
 * an error of the case. enter() is for guests.
 */
outcome_t vmlaunch(void);
outcome_t vmresume(void);

static inline outcome_t vmcall(void)
{
	return VMX_ATTEMPT("vmcall", : : "cc", "memory");
}

struct invept_descriptor {
	u64 eptp, reserved;
};

struct invvpid_descriptor {
	u64 vpid, address;	/* bits 63:16 of the first word are reserved */
};

static inline outcome_t invept(u64 type, struct invept_descriptor descriptor)
{
	return VMX_ATTEMPT("invept %[d], %[type]",
			   : [d] "m" (descriptor), [type] "r" (type) : "cc", "memory");
}

static inline outcome_t invvpid(u64 type, struct invvpid_descriptor descriptor)
{
	return VMX_ATTEMPT("invvpid %[d], %[type]",
			   : [d] "m" (descriptor), [type] "r" (type) : "cc", "memory");
}

/* EXPECT() in a loop over bits 0 to 63 of an operand or register: the failure names the bit. */
#define EXPECT_FOR_BIT(bit, got, want)						\
	outcome_expect_for_bit(__FILE__, __LINE__, #got, bit, got, want)
bool outcome_expect_for_bit(const char *file, u32 line, const char *what, u32 bit, outcome_t got,
			    outcome_t want);

#endif
