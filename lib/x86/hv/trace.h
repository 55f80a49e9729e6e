/*
 * What a vCPU did, exit after exit: for tests that compare it with a transcript.
 *
 *	struct hv_trace trace;
 *
 *	vcpu.trace = &trace;
 *	hv_vcpu_run(&vcpu);
 *	hv_trace_line(&trace, 0, line, sizeof(line));	"CPUID (10), 0: on in the guest"
 */
#ifndef HV_TRACE_H
#define HV_TRACE_H

#include "types.h"

#define HV_TRACE_ENTRIES	64

struct hv_trace_entry {
	u64 qualification;
	/* That it led to: as INJECTED_EVENT_IDENTIFICATION; 0: none, or the one it broke off. */
	u32 event;
	u16 reason;		/* basic exit reason */
	u16 user;		/* KVM_EXIT_...; 0: the core goes on in the guest */
};

struct hv_trace {
	u32 count;		/* exits, also those that did not fit */
	struct hv_trace_entry entry[HV_TRACE_ENTRIES];
};

/* Line `number` (below count and HV_TRACE_ENTRIES) in words: exit, qualification, action. */
void hv_trace_line(const struct hv_trace *trace, u32 number, char *to, size_t size);

#endif
