/*
 * The audit of VM entries and exits: what a case did not ask about is judged too. After
 * every exit: the host state that was loaded (30.5 Loading Host State) and the exit-information fields
 * (30.2 Recording VM-Exit Information and Updating VM-Entry Control Fields). After a VMfail: that no
 * register changed. And every entry must end as the model of VM entry predicts: entry_model.h. Whoever turns an item off names it.
 */
#ifndef VMX_AUDIT_H
#define VMX_AUDIT_H

#include "cpu/outcome.h"
#include "cpu/regs.h"
#include "vmx/entry_model.h"

enum audit_item {
#define AUDIT(name, words) AUDIT_##name,
#include "vmx/audit_items.def"
#undef AUDIT
	AUDIT_ITEMS,
};

struct audit {
	u64 off;			/* bit = enum audit_item */
	u64 before[AUDIT_ITEMS];	/* registers before the entry */
	u64 host[AUDIT_ITEMS];		/* what an exit must load */
	struct entry_input entry;	/* the VMCS as the entry finds it */
	struct entry_prediction predicted;
	u64 injected;			/* INJECTED_EVENT_IDENTIFICATION at the entry */
};

/* The rest of the case does without this item. */
void audit_off(enum audit_item item);

/* `resume`: by VMRESUME; `vmcs`: the current-VMCS pointer. */
void audit_before_entry(struct audit *audit, bool resume, u64 vmcs);
void audit_after_entry(struct audit *audit, outcome_t outcome, u64 rflags, u64 rsp);

#endif
