/*
 * VM entry as a pure function: a VMCS, a processor -> the outcomes that the SDM allows, and the
 * rules that the VMCS breaks. The rules are those of chapter 29, VM Entries, as entry_rules*.def
 * lists them: one per row of spec/vm-entry-checks.csv that says what an entry checks.
 *
 * The model has no state, needs no processor, and reads memory through a callback, so that it also
 * runs on the host. What is reserved follows from the capability MSRs and CPUID.
 */
#ifndef VMX_ENTRY_MODEL_H
#define VMX_ENTRY_MODEL_H

#include "cpu/outcome.h"
#include "vmx/capabilities.h"
#include "vmx/facts.h"

enum launch_state { LAUNCH_STATE_CLEAR, LAUNCH_STATE_LAUNCHED, LAUNCH_STATE_UNKNOWN };

/* What CPUID and MSRs other than those of VMX say of the processor. */
struct entry_cpu {
	struct capabilities caps;
	bool intel64;			/* CPUID.80000001H:EDX.LM */
	u8 maxphyaddr;			/* CPUID.80000008H:EAX[7:0] */
	u8 physical_bits;		/* the same, less the key identifiers of an active TME */
	u8 linear_bits;			/* CPUID.80000008H:EAX[15:8] */
	bool cet_ss, cet_ibt, sgx, rtm, fred, lam, bus_lock_detect, nx;
	bool tsc_aux;			/* RDTSCP or RDPID, which have IA32_TSC_AUX */
	bool nmi_source;		/* CPUID.7.1:EAX[20]: NMI-source reporting */
	u64 perf_global_ctrl;		/* the bits of IA32_PERF_GLOBAL_CTRL that exist */
	u64 spec_ctrl;			/* the bits of IA32_SPEC_CTRL that CPUID enumerates */
	u64 dropped_rights;		/* bits of access rights that VMWRITE does not keep */
};

/* The logical processor when it executes VMLAUNCH or VMRESUME. */
struct entry_state {
	bool resume;			/* VMRESUME */
	bool vmx_operation, non_root;
	u8 cpl;
	u64 cr0, cr4, efer, rflags, rtit_ctl;
	bool cs_l;
	bool mov_ss_blocking;
	u64 current_vmcs;		/* ~0: none */
	bool shadow_vmcs;		/* bit 31 of its first doubleword */
	enum launch_state launch_state;
	bool smm, seam;
};

/*
 * Reads `size` bytes (4 or 8) at a physical address. False: nobody can say what is there; rules
 * about it are then left open.
 */
typedef bool entry_read(void *memory, u64 address, u32 size, u64 *value);

struct entry_input {
	u64 field[VMCS_FIELDS];		/* 0 where the processor has no such field */
	const struct entry_cpu *cpu;
	struct entry_state state;
	entry_read *read;
	void *memory;
	const bool *waived;		/* by rule number: as if it did not exist; NULL: none */
};

/* One entry of the VM-entry MSR-load area: 27.7.2, Table 27-15. */
struct entry_msr {
	u64 index;			/* bits 63:0: index and reserved bits */
	u64 value;
};

/* UNCERTAIN: the SDM leaves it to the processor, or it depends on what the model cannot see. */
enum verdict { KEPT, BROKEN, UNCERTAIN };

/* In the order in which an entry checks: chapter 29. */
enum entry_stage {
	ENTRY_STAGE_BASIC,		/* 29.1, one after the other */
	ENTRY_STAGE_VMCS,		/* 29.2: controls and host state, in any order */
	ENTRY_STAGE_GUEST,		/* 29.3, in any order */
	ENTRY_STAGE_MSR_LOAD,		/* 29.4, entry by entry */
	ENTRY_STAGE_DONE,
};

/* How an entry fails that breaks a rule. */
enum entry_result {
	RESULT_UD,
	RESULT_GP0,
	RESULT_EXIT,			/* of VMLAUNCH or VMRESUME, to the VMM above */
	RESULT_VMFAIL_INVALID,
	RESULT_BLOCKED,			/* VMfailValid(26) */
	RESULT_NOT_CLEAR,		/* VMfailValid(4) */
	RESULT_NOT_LAUNCHED,		/* VMfailValid(5) */
	RESULT_CONTROL,			/* VMfailValid(7) */
	RESULT_HOST,			/* VMfailValid(8) */
	RESULT_CONTROL_OR_HOST,		/* either */
	RESULT_GUEST,			/* reason 33, qualification 0 */
	RESULT_GUEST_PDPTE,		/* 33, 2 */
	RESULT_GUEST_NMI,		/* 33, 3 */
	RESULT_GUEST_NMI_OR_0,		/* 33, 3 or 0 */
	RESULT_GUEST_LINK,		/* 33, 4 */
	RESULT_MSR,			/* 34, the number of the entry in the list */
};

struct entry_rule {
	const char *id;			/* in spec/vm-entry-checks.csv */
	const char *section, *words;
	u8 result;			/* enum entry_result */
};

#define ENTRY_MAX_BROKEN	16
#define ENTRY_MAX_OUTCOMES	12
/* A.6: 512 times 8. */
#define ENTRY_MAX_MSRS		4096
#define ENTRY_ANY_EXIT		(~0u)

struct entry_prediction {
	enum entry_stage stage;		/* of the first rule that is broken */
	bool may_enter;			/* the guest may start, and end in a VM exit: */
	const struct entry_input *in;	/* of whose exits entry_allows_exit() knows; or: */
	bool executes_nothing;		/* whoever made the scene knows that the guest cannot */
	u32 outcome_count;		/* ways to fail that are accepted, but those by the list */
	outcome_t outcomes[ENTRY_MAX_OUTCOMES];
	/*
	 * The list of MSRs: 29.4. The entry that is reported as the one that fails may be any of
	 * these: bit n - 1 of the set is entry n. The words behind that of the last entry are not
	 * written.
	 */
	u32 msr_entries;		/* looked at */
	u32 msr_failures;		/* of these: as many may fail */
	u64 msr_may_fail[ENTRY_MAX_MSRS / 64];
	/* A list longer than A.6 recommends: nobody knows what its loading ends in. */
	bool msr_list_too_long;
	u32 broken_count;		/* of that stage, also those beyond the array */
	u16 broken[ENTRY_MAX_BROKEN];	/* enum entry_rule_number: vmx/entry_rules.h */
};

/* What the entry must end in. */
void entry_predict(const struct entry_input *in, struct entry_prediction *prediction);

bool entry_accepts(const struct entry_prediction *prediction, outcome_t outcome);

/*
 * Whether an entry that succeeds may end in a VM exit for this basic reason: by the controls, and
 * by what is pending when the guest begins. The reason for which it must exit before the guest
 * executes an instruction, unless something comes before it; ENTRY_ANY_EXIT: none.
 */
bool entry_allows_exit(const struct entry_input *in, u32 reason);
u32 entry_first_exit(const struct entry_input *in);
/* What leads to exits for this reason: the last column of sdm/exit_reasons.def. */
enum exit_cause {
	EXIT_CAUSE_UNKNOWN,
	EXIT_CAUSE_INSTRUCTION,
	EXIT_CAUSE_EXECUTION,
	EXIT_CAUSE_EVENT,
	EXIT_CAUSE_DELIVERY,
	EXIT_CAUSE_FAILURE,
};
enum exit_cause entry_exit_cause(u32 reason);
/* Whether there are exits for this reason without an instruction that the guest executes. */
bool entry_exits_by_event(u32 reason);

/* The entry must succeed: no way to fail is accepted. */
static inline bool entry_must_succeed(const struct entry_prediction *prediction)
{
	return prediction->may_enter && !prediction->outcome_count && !prediction->msr_failures &&
	       !prediction->msr_list_too_long;
}

/* Way number n, from 0, to fail that is accepted, the list of MSRs last; false: no more. */
bool entry_way_to_fail(const struct entry_prediction *prediction, u32 n, outcome_t *outcome);

/* Whether the rule is among those that the prediction names. */
bool entry_breaks(const struct entry_prediction *prediction, u32 rule);

/* How long an MSR list may be, so that it is known what happens: A.6 Miscellaneous Data. */
u64 entry_most_msrs(const struct entry_input *in);

/* The stage in which an entry fails with `result`. */
enum entry_stage entry_result_stage(enum entry_result result);

/* Whether `result` allows an entry to end in `outcome`; RESULT_MSR with any number. */
bool entry_result_allows(enum entry_result result, bool resume, outcome_t outcome);

/* --- for rules ------------------------------------------------------------------ */

/*
 * The fields of controls, and the control that makes each count: 27.6 to 27.8. Inline, like what
 * follows, so that rules, which ask for little else, find constants here.
 */
#define ENTRY_CONTROL_FIELDS(FIELD)						\
	FIELD(PIN, PIN_BASED_VM_EXECUTION_CONTROLS, CONTROL_NONE)		\
	FIELD(PROC1, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, CONTROL_NONE) \
	FIELD(PROC2, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,		\
	      CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS)			\
	FIELD(PROC3, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,		\
	      CONTROL_PROC1_ACTIVATE_TERTIARY_CONTROLS)				\
	FIELD(EXIT, PRIMARY_VM_EXIT_CONTROLS, CONTROL_NONE)			\
	FIELD(EXIT2, SECONDARY_VM_EXIT_CONTROLS, CONTROL_EXIT_ACTIVATE_SECONDARY_CONTROLS) \
	FIELD(ENTRY, VM_ENTRY_CONTROLS, CONTROL_NONE)				\
	FIELD(VMFUNC, VM_FUNCTION_CONTROLS, CONTROL_PROC2_ENABLE_VM_FUNCTIONS)

/* The index of the VMCS field that holds these controls. */
static inline u32 entry_control_field_index(u32 field)
{
	switch (field) {
#define ENTRY_FIELD(field, name, activation) case CONTROL_FIELD_##field: return INDEX_##name;
	ENTRY_CONTROL_FIELDS(ENTRY_FIELD)
#undef ENTRY_FIELD
	}
	return VMCS_FIELDS;
}

static inline u32 entry_activation(u32 control)
{
	switch (control_field(control)) {
#define ENTRY_FIELD(field, name, activation) case CONTROL_FIELD_##field: return activation;
	ENTRY_CONTROL_FIELDS(ENTRY_FIELD)
#undef ENTRY_FIELD
	default:
		return CONTROL_NONE;
	}
}

/* A control as if its field were active. */
static inline bool entry_control_is_set(const struct entry_input *in, u32 control)
{
	return in->field[entry_control_field_index(control_field(control))] & control_bit(control);
}

/* A control as the processor takes it: 0 while its field is not active. */
static inline bool entry_control(const struct entry_input *in, u32 control)
{
	u32 first = entry_activation(control), second;

	if (!entry_control_is_set(in, control))
		return false;
	if (first == CONTROL_NONE)
		return true;
	second = entry_activation(first);
	return entry_control_is_set(in, first) &&
	       (second == CONTROL_NONE || entry_control_is_set(in, second));
}

/* Bits at or above the width of physical addresses: 29.2.1. IA32_VMX_BASIC[48]: 32 bits. */
static inline bool entry_too_wide(const struct entry_input *in, u64 address)
{
	return address >> (in->cpu->caps.basic & BIT(48) ? 32 : in->cpu->physical_bits);
}

/* 4.5 Canonicality Checking: the bits from the uppermost of `bits` on are alike. */
static inline bool entry_canonical_to(u64 address, u32 bits)
{
	s64 upper = (s64)address >> (bits - 1);

	return !upper || upper == -1;
}

static inline bool entry_canonical(const struct entry_input *in, u64 address)
{
	return entry_canonical_to(address, in->cpu->linear_bits);
}

/* Bits of registers that are reserved, and those of which the model does not know. */
u64 entry_reserved_efer(const struct entry_input *in);
u64 entry_reserved_cr3(const struct entry_input *in, bool guest);
u64 entry_reserved_s_cet(const struct entry_input *in);
u64 entry_reserved_debugctl(const struct entry_input *in, bool uncertain);
u64 entry_reserved_spec_ctrl(const struct entry_input *in, bool uncertain);
u64 entry_reserved_pdpte(const struct entry_input *in);

/* Bits of access rights that VMWRITE drops, as 27.4.1 lets it. */
u64 entry_dropped_rights(const struct entry_input *in);

/* Whether WRMSR at CPL 0 would raise #GP for this index and value. */
enum verdict entry_wrmsr(const struct entry_input *in, u32 index, u64 value);

#endif
