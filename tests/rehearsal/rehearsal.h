/*
 * The pretended processor, as its files see each other: docs/design.md, "Rehearsals". It stands
 * between the library and the real processor. What processor.def lists it keeps in memory; the rest
 * goes through. Plain names as vmread_known() and rdmsr() mean the real processor here.
 */
#ifndef REHEARSAL_H
#define REHEARSAL_H

#include "rehearsal/faults.h"
#include "vmx/vmx.h"

/* --- capabilities.c: CPUID and the capability MSRs ------------------------------------------- */

/* The bits of a field of controls that are pretended. */
u64 pretended_controls(enum control_field field);

/* Changes `value`, what the real processor has in a capability MSR, to what is pretended. */
void pretend_capability(u32 msr, u64 *value);

/* False where nothing of the MSR is the real processor's. */
bool capability_is_real(u32 msr);

/* --- msrs.c ---------------------------------------------------------------------------------- */

/* The value of an MSR that is pretended; NULL for any other. */
u64 *pretended_msr(u32 msr);

/* WRMSR to a pretended MSR, by host or guest. */
void pretended_msr_write(u32 msr, u64 value);

/* What transitions do to them: 29.3.2.1, 30.3.1, 30.5.1. */
void msrs_load(void);
void msrs_save(void);
void msrs_to_host(void);

/* lists.c: around an entry, behind msrs_load(): the pretended MSRs of its MSR-load list. */
void lists_begin(void);
void lists_end(void);

/* Their values for an entry that comes to nothing. */
void msrs_remember(void);
void msrs_recall(void);

/* Calls `each` for every pretended MSR. */
void pretended_msrs(void (*each)(u32 msr));

/* --- fields.c: the VMCS, with what the real one lacks ---------------------------------------- */

/* VMREAD and VMWRITE as the library has them: with what is pretended. */
u64 field_get(u32 field);
void field_put(u32 field, u64 value);

/* Whether a control counts and is 1, by 27.6 to 27.8. */
bool control_on(enum control control);

/* At VMXON: nobody has initialized the fields that are pretended. */
void fields_reset(void);

/*
 * An exit that the real processor has not made: all exit information is 0 until exit_information()
 * says otherwise. exit_settle() comes behind every entry but those that VMfail: what an earlier
 * exit reported is no more.
 */
void exit_begin(u32 reason);
void exit_information(u32 field, u64 value);
void exit_settle(void);

/* --- checks.c -------------------------------------------------------------------------------- */

enum check_stage { CHECK_CONTROLS, CHECK_HOST, CHECK_GUEST, CHECKS_PASSED };

/* The first stage in which the entry fails because of what is pretended. */
enum check_stage checks_fail(void);

/* --- what a guest does with it --------------------------------------------------------------- */

/* EDX:EAX */
static inline u64 register_pair(const struct general_registers *regs)
{
	return regs->rdx << 32 | (u32)regs->rax;
}

static inline void set_register_pair(struct general_registers *regs, u64 value)
{
	regs->rax = (u32)value;
	regs->rdx = value >> 32;
}

/* What became of a real exit. */
enum next { NEXT_EXIT, NEXT_RESUME };

/* timer.c: the guest timer, 28.5.10: what entries load, and exits save and disarm. */
void timer_load(void);
void timer_save(void);
/* Around each stay in the guest: a real timer stands for the guest timer. */
void timer_arm(void);
void timer_disarm(void);
/* The exit is that of the real timer: the guest goes on. */
bool timer_expired(u32 reason);
/* RDMSR or WRMSR of IA32_TSC_DEADLINE, which does not exit. False: it is another MSR. */
bool timer_access(bool write, struct general_registers *regs);

/* fred.c: the delivery of events, volume 3, chapter 8. Whether the guest has CR4.FRED. */
bool fred_guest(void);
/* What the real processor has of the exception bitmap. */
void fred_exception_bitmap(void);
/* What a stay in the guest does to the blocking of NMIs. */
void fred_begin_stay(void);
void fred_end_stay(void);
/* The event that the entry injects is taken out of the VMCS, or put back; then delivered. */
bool fred_take_injection(void);
void fred_put_back(void);
enum next fred_inject(void);
/* A real exit by an exception that the bitmap of the VMCS does not ask for. */
enum next fred_exit(u32 reason);

/* branches.c: last-branch records, around a stay in the guest, and at WRMSR; bus locks. */
void branches_begin(void);
void branches_end(void);
void branches_msr_written(u32 msr, u64 before, u64 value);
/* Around each stay in the guest; then the exit, if the stay ended behind a bus lock. */
void bus_lock_arm(const struct general_registers *regs);
void bus_lock_disarm(void);
void bus_lock_exit(u32 reason);

#endif
