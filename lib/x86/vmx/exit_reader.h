/*
 * The input of the model of VM exits (exit_model.h) from this processor: VMREAD, its registers, the
 * lists of MSRs in memory.
 */
#ifndef VMX_EXIT_READER_H
#define VMX_EXIT_READER_H

#include "vmx/exit_model.h"

/*
 * Before VMLAUNCH or VMRESUME. `entry` holds what entry_read_input() has read, and gets the fields
 * of exit information besides; where only the host state is to be judged (x->host_only), it gets
 * the fields that this takes, and need hold nothing.
 */
void exit_read_before(struct exit_input *x, struct entry_input *entry);

/* After it; RFLAGS and RSP are those right behind the exit. */
void exit_read_after(struct exit_input *x, outcome_t outcome, u64 rflags, u64 rsp);

/* The name of a field by its index, INDEX_... */
const char *exit_field_name(u32 index);

#endif
