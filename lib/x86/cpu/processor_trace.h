/*
 * The output of the processor trace: volume 3, 36.2.7 Trace Output. For cases that turn tracing on,
 * in the host or by a VM entry.
 *
 *	control = RTIT_CTL_TRACE | processor_trace_to(page_alloc(), page_alloc());
 */
#ifndef CPU_PROCESSOR_TRACE_H
#define CPU_PROCESSOR_TRACE_H

#include "types.h"

/* IA32_RTIT_CTL: Table 36-6. */
#define RTIT_CTL_TRACE		(BIT(0) | BIT(2) | BIT(13))	/* TraceEn, OS, BranchEn */
#define RTIT_CTL_TOPA		BIT(8)

/*
 * Turns tracing off, and leads the output to a page of the boot map: as one region where there is
 * such a scheme, else by a table that has no other entry, in another page. Returns what
 * IA32_RTIT_CTL must have besides.
 */
u64 processor_trace_to(void *page, u64 *table);

#endif
