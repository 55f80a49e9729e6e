/*
 * The input of the model of VM entry (entry_model.h) from this processor: the current VMCS by
 * VMREAD, what CPUID and the capability MSRs say, the state in which VMLAUNCH or VMRESUME finds it.
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

/* How VMREAD of a field ends. */
outcome_t entry_probe_field(u64 encoding);

/* Whether this processor has the field: an index, INDEX_... */
bool vmcs_has_index(u32 index);

/* The index of a field that the processor has and that an entry can depend on; any n is one. */
u32 entry_field_used(u64 n);

/*
 * Of the field with this index: VMCS_FIELD_CONTROL, ...; its width in bits, natural width being 64;
 * its name; what of `value` it keeps.
 */
u32 entry_field_type(u32 index);
u32 entry_field_width(u32 index);
const char *entry_field_name(u32 index);
u64 entry_field_value(const struct entry_input *in, u32 index, u64 value);

/*
 * Writes the fields that differ between `in` and `written`, of those that this processor has, and
 * notes them there. `guest`: an exit has saved the state of a guest since, so all that it may have
 * changed is written.
 */
void entry_write_fields(const struct entry_input *in, struct entry_input *written, bool guest);

/*
 * The launch states of VMCSs, as far as the instructions of this image tell: vmx/instructions.h
 * and the entries report here. VMXON makes all of them unknown.
 */
void entry_note_vmxon(void);
void entry_note_launch_state(u64 vmcs, enum launch_state state);

#endif
