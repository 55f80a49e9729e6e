#include "hv/trace.h"
#include "cpu/outcome.h"
#include "fmt.h"
#include "hv/internal.h"

void hv_trace_note(struct hv_vcpu *vcpu, const struct hv_trace_entry *entry)
{
	struct hv_trace *trace = vcpu->trace;

	if (trace->count < HV_TRACE_ENTRIES)
		trace->entry[trace->count] = *entry;
	trace->count++;
}

void hv_trace_line(const struct hv_trace *trace, u32 number, char *to, size_t size)
{
	const struct hv_trace_entry *entry = &trace->entry[number];
	char action[48] = "on in the guest";
	u64 qualification = entry->qualification;
	const char *user = entry->user ? kvm_exit_name(entry->user) : NULL;

	/* Table 30-7: bits above 8 are there on some processors. */
	if (entry->reason == EXIT_EPT_VIOLATION)
		qualification &= BITS(8, 0);
	if (entry->user)
		format(action, sizeof(action), user ? "%s" : "%sexit %u", user ? user : "",
		       entry->user);
	else if (entry->event)
		format(action, sizeof(action), "vector %u, type %u", (u32)FIELD(entry->event, 7, 0),
		       (u32)FIELD(entry->event, 10, 8));
	format(to, size, "%s, %#lx: %s", exit_reason_name(entry->reason), qualification, action);
}
