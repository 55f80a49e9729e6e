/*
 * The sweep: every field of the VMCS takes many values (entry/sweep_values.def, and each of its
 * bits flipped) from every base state, once as the base state is, with few controls, once with all
 * controls that go together, once with what brings the field into use, and those that have to do
 * with privilege levels once at CPL 2; each is entered and the processor compared with the model of
 * VM entry. Of each base state the first entry that ends in
 * each stage is audited, too. SWEEP_CASE() makes a case of one field; x86/vmx/sweep-*.c say which.
 * What a value is is not asked: the model says whether the entry fails, and how. A few entries are
 * left out, because the image would not survive them (entry_hazard()); the case says how many.
 */
#ifndef ENTRY_SWEEP_H
#define ENTRY_SWEEP_H

#include "vmx/capabilities.h"
#include "vmx/entry_reader.h"
#include "vmx/vmx.h"

struct entry_sweep {
	u32 index, encoding, width;	/* bits; 64 for natural width */
};

/* The body of the cases. */
void entry_sweep(const struct case_def *this_case);

/* Whether the processor has the field and lets software write it. */
bool need_vmcs_field(u64 encoding);

/*
 * One value for a field, of those that a sweep would write, drawn by `random`. `scene`: as far as
 * it has been changed already.
 */
struct entry_scene;
u64 entry_sweep_value(const struct entry_scene *scene, u32 index, u64 random);

#define VMCS_FIELD(encoding, NAME, lower, width, type, exists)			\
	SWEEP_##type(encoding, NAME, lower, (width) ? (width) : 64)
#define SWEEP_CASE(encoding_, NAME, lower, width_)				\
	static const struct entry_sweep sweep_##lower = {			\
		.index = INDEX_##NAME, .encoding = encoding_, .width = width_,	\
	};									\
	CASE_RUN(lower, entry_sweep, PROVES("vmcs-fields:" #encoding_), ROW(&sweep_##lower),	\
		 NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER),			\
		       { "to write the VMCS field " #NAME, need_vmcs_field, encoding_, 0 }));

#endif
