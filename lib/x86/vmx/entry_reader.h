/*
 * The input of the model of VM entry (entry_model.h) from this processor: the current VMCS by VMREAD,
 * what CPUID and the capability MSRs say, the state in which VMLAUNCH or VMRESUME finds it.
 */
#ifndef VMX_ENTRY_READER_H
#define VMX_ENTRY_READER_H

#include "vmx/entry_model.h"

/* This processor; needs a current VMCS the first time. */
const struct entry_cpu *entry_this_cpu(void);

/*
 * Reads every field that there is into `in`, and the rest. `resume`: the entry will be VMRESUME;
 * `vmcs`: the current-VMCS pointer.
 */
void entry_read_input(struct entry_input *in, bool resume, u64 vmcs);

/* Whether this processor has the field: an index, INDEX_... */
bool vmcs_has_index(u32 index);

/* Writes the fields that differ between `in` and `found`, of those that this processor has. */
void entry_write_fields(const struct entry_input *in, const struct entry_input *found);

/*
 * The launch states of VMCSs, as far as the instructions of this image tell: vmx/instructions.h
 * and the entries report here. VMXON makes all of them unknown.
 */
void entry_note_vmxon(void);
void entry_note_launch_state(u64 vmcs, enum launch_state state);

#endif
