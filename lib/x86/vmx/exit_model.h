/*
 * VM exits as a pure function: the VMCS and the registers before an entry, the VMCS and the
 * registers after it -> what the SDM demands of each, claim by claim. The claims are those of
 * chapter 30, VM Exits, and of 29.8, VM-Entry Failures During or After Loading Guest State, as
 * exit_rules*.def lists them.
 *
 * The model has no state, needs no processor, and so also runs on the host. It does not execute the
 * guest: of the guest state it assumes that the guest leaves alone what it has been given, unless
 * it is told which fields the guest changes. RIP, RSP and the flags are the guest's own.
 */
#ifndef VMX_EXIT_MODEL_H
#define VMX_EXIT_MODEL_H

#include "vmx/entry_model.h"

enum exit_register {
#define EXIT_REGISTER(name, words) EXIT_REGISTER_##name,
#define EXIT_MSR(name, words, index, when) EXIT_REGISTER_##name,
#include "vmx/exit_registers.def"
#undef EXIT_REGISTER
#undef EXIT_MSR
	EXIT_REGISTERS,
};

/*
 * The most entries of a list that are kept, which is what A.6 recommends at least. Whoever has a
 * longer list must say so: exit_lists_are_kept().
 */
#define EXIT_MAX_LISTED		512

struct exit_listed_msr {
	u64 index_before, value_before;	/* as the entry found them, both quadwords */
	u64 index, value;		/* as the exit left them */
	u64 had, now;			/* the MSR itself before the entry and after the exit */
	bool readable;			/* both times */
};

/* A list of MSRs, as far as it lies where somebody knows what there is. */
struct exit_list {
	u32 listed;			/* entries, by the VMCS */
	u32 count;			/* kept */
	struct exit_listed_msr *msr;
};

/* The longest instruction. */
#define INSTRUCTION_BYTES	15

#define EXIT_FIELD_WORDS	((VMCS_FIELDS + 63) / 64)

struct exit_input {
	/*
	 * The VMCS as the entry found it, the exit-information fields, too; the processor.
	 */
	const struct entry_input *entry;
	u64 before[EXIT_REGISTERS];	/* registers when VMLAUNCH or VMRESUME was executed */
	u64 exists;			/* bit = enum exit_register */
	u64 has_field[EXIT_FIELD_WORDS];/* bit = enum vmcs_index: the processor has the field */
	u64 guest_changes[EXIT_FIELD_WORDS];	/* what the guest does not leave alone */
	bool guest_comes_back;		/* it may be at the RIP and RSP of the entry again */

	bool host_only;			/* only the host state is judged, where it needs no more */
	outcome_t outcome;		/* an exit, a late entry failure, or VMfail */
	u64 field[VMCS_FIELDS];		/* the VMCS now */
	u64 after[EXIT_REGISTERS];	/* the registers now */
	/* Of `entry_load` only what it was before. */
	struct exit_list entry_load, store, load;
	/* At the saved RIP, as many as are known; then zeros. */
	u8 code[INSTRUCTION_BYTES + 1];
	u32 code_bytes;
};

enum exit_rule_number {
#define EXIT_RULE(name, ...) EXIT_RULE_##name,
#include "vmx/exit_rules.def"
#undef EXIT_RULE
	EXIT_RULES,
};

struct exit_rule {
	const char *name;		/* for the tree's list of deviations */
	const char *id;			/* in spec/host-and-exit.csv */
	const char *section;
};
extern const struct exit_rule exit_rules[EXIT_RULES];

/* What a claim is about: a field (enum vmcs_index), or one of these, plus its number. */
enum exit_subject {
	EXIT_SUBJECT_REGISTER	 = 0x800,	/* + enum exit_register */
	EXIT_SUBJECT_STORE	 = 0x1000,	/* + number of the entry: the value in memory */
	EXIT_SUBJECT_STORE_INDEX = 0x2000,	/* + number: the first quadword in memory */
	EXIT_SUBJECT_LOAD	 = 0x3000,	/* + number: the MSR */
	EXIT_SUBJECT_LOAD_INDEX	 = 0x4000,	/* + number: the first quadword in memory */
};

/*
 * A subject's value must be as `value` in `bits`; a range: not below `low`, not above `high`;
 * never: there is no such exit.
 */
struct exit_claim {
	u16 rule, subject;
	bool range, never;
	u64 got;
	union { u64 bits, low; };
	union { u64 value, high; };
};

static inline bool exit_claim_holds(const struct exit_claim *claim)
{
	if (claim->never)
		return false;
	return claim->range ? claim->got >= claim->low && claim->got <= claim->high :
	       !((claim->got ^ claim->value) & claim->bits);
}

typedef void exit_report(void *context, const struct exit_claim *claim);

/*
 * Reports every claim on the outcome of an entry; whether it holds is for exit_claim_holds(). Of
 * rules that speak of all fields of a kind, only what does not hold is reported.
 */
void exit_judge(const struct exit_input *x, exit_report *report, void *context);

/* --- for rules --------------------------------------------------------------------- */

static inline bool exit_entered(const struct exit_input *x)
{
	return outcome_kind(x->outcome) == OUTCOME_KIND_EXIT;
}

static inline u16 exit_basic_reason(const struct exit_input *x)
{
	return x->outcome >> 32;
}

static inline bool exit_has_field(const struct exit_input *x, u32 index)
{
	return x->has_field[index / 64] & BIT(index % 64);
}

/* Whether the model has the whole of each list that this outcome makes use of. */
bool exit_lists_are_kept(const struct exit_input *x);

/* The MSR's value in the guest, where the VM entry gives it `value` before it loads its list. */
u64 exit_guest_msr(const struct exit_input *x, u32 msr, u64 value);
/* The MSR's value in the host, where the exit gives it `value` before it loads its list. */
u64 exit_host_msr(const struct exit_input *x, u32 msr, u64 value);

/* Whether the list has an entry for the MSR. */
bool exit_lists_msr(const struct exit_list *list, u32 msr);

/* Whether the text says what value it has there. */
bool exit_guest_msr_is_known(const struct exit_input *x, u32 msr);

/* Registers as the entry loads them: 29.3.2.1. */
u64 exit_loaded_cr0(const struct exit_input *x);
u64 exit_loaded_dr7(const struct exit_input *x);
u64 exit_loaded_efer(const struct exit_input *x);
/*
 * The bits of an MSR, not loaded by the exit, that are settled: all, but for a late failure those
 * alike before the entry, in the field, and as the guest would have it.
 */
u64 exit_settled_bits(const struct exit_input *x, u32 msr, u64 before, u64 field, u64 guest);
/* The bits of CR0 that an exit leaves alone, as the guest had them. */
u64 exit_kept_cr0(const struct exit_input *x);

/* Whether the saved RIP must reference one of the instructions of sdm/exiting_code.def. */
bool exit_code_matters(const struct exit_input *x);
/* The length of the instruction there; 0: another one, or not all of it is known. */
u32 exit_code_length(const struct exit_input *x);
/* Whether what is there is known, and does not exit for this reason. */
bool exit_code_is_another(const struct exit_input *x);
/* By exit reason: bits of the exit qualification that are 0; what is saved: 30.2.1 to 30.2.5. */
u64 exit_zero_qualification(const struct exit_input *x);
bool exit_reason_is_known(u16 reason);
bool exit_by_instruction(const struct exit_input *x);
bool exit_has_event(const struct exit_input *x);
bool exit_by_task_gate(const struct exit_input *x);
bool exit_may_have_original_event(const struct exit_input *x);
bool exit_has_length(const struct exit_input *x);
/* An instruction with a register where it could have an operand in memory. */
bool exit_of_register(const struct exit_input *x);
bool exit_from_ia32e_mode(const struct exit_input *x);
bool exit_from_64_bit_mode(const struct exit_input *x);
/* What the exit shows is one for which the bitmaps and masks of the entry have it exit. */
bool exit_by_bitmap(const struct exit_input *x);
bool exit_by_control_register(const struct exit_input *x);
bool exit_by_port(const struct exit_input *x);
bool exit_by_eoi_bitmap(const struct exit_input *x);
/* Guest-linear and guest-physical address; a linear address that was translated: canonical. */
bool exit_has_linear_address(const struct exit_input *x);
bool exit_has_translated_address(const struct exit_input *x);
bool exit_has_physical_address(const struct exit_input *x);
/* Bits of the instruction information that are 0, and that are 1, in every value that is used. */
u64 exit_zero_information(const struct exit_input *x);
u64 exit_set_information(const struct exit_input *x);
/* Whether a hardware exception with this vector has an error code. */
bool exit_has_error_code(u8 vector);
/* The type that 30.2.2 gives the event that exits. */
u64 exit_event_type(const struct exit_input *x);
/* No instruction, and no delivery of an event, has made the access that exits. */
bool exit_may_be_asynchronous(const struct exit_input *x);
bool exit_may_have_pending_debug(const struct exit_input *x);
/* The exit is one by a fault, whose saved image of RFLAGS has RF set: 20.3.1.1. */
bool exit_by_fault(const struct exit_input *x);
/* The same of an event as an exit reports it. */
bool exit_is_fault(u64 event);
/* 30.3.3: an exit that saves RF as 1, unless an event is being delivered. */
bool exit_sets_rf(const struct exit_input *x);
/* The guest was in the active state, whatever state the entry had put it into. */
bool exit_while_active(const struct exit_input *x);
/* An exit by the TPR threshold, which VTPR must be below, and there must be one: 32.1.2. */
bool exit_not_by_threshold(const struct exit_input *x);
/* The instruction that it comes behind has been executed: 30.1. */
bool exit_behind_instruction(const struct exit_input *x);
/* It was due before the guest executed or took anything (entry_first_exit()), and has come. */
bool exit_at_once(const struct exit_input *x);
/*
 * The original event is the one that the entry injected, and the guest has done nothing since; the
 * first: or the guest has an event of its own, back where it began.
 */
bool exit_may_break_injection(const struct exit_input *x);
bool exit_breaks_injection(const struct exit_input *x);
bool exit_triple_fault_of_injection(const struct exit_input *x);
/* The guest uses PAE paging. */
bool exit_guest_uses_pae(const struct exit_input *x);

#endif
