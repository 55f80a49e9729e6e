/*
 * Accesses that no instruction makes, and no delivery of an event: the output of a processor
 * trace, whose address a VM entry translates in advance (29.5, 28.5.4), the delivery of a user
 * interrupt (volume 3, 9.4.2), and the store of branch traces (20.4.9).
 *
 * What refuses such an access is what refuses any other; the exit says in bit 16 of its
 * qualification, or in the access type of an APIC access, that it was none of the guest's
 * instructions (30.2.1). An entry that traces does so before it injects anything: where it exits,
 * the event that it was to inject is the original event.
 */
#include "cpu/features.h"
#include "cpu/processor_trace.h"
#include "cpu/safe.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"
#include "vmx/handlers.h"

static void start(void)
{
	guest_handlers_begin();
}

BEFORE_EACH_CASE(start);

GUEST_CODE(cpuid, "", "cpuid");
/* The interrupt comes behind STUI. */
GUEST_CODE(stui, "", ".byte 0xf3, 0x0f, 0x01, 0xef; cpuid");
GUEST_CODE(clui, "", ".byte 0xf3, 0x0f, 0x01, 0xee; cpuid");
GUEST_CODE(handler_of_ui, "", "nop; cpuid");
GUEST_CODE(jump, "", "jmp 1f; nop; 1: cpuid");

#define ASYNCHRONOUS	BIT(16)		/* of the qualification: Tables 30-6, 30-7 */

/* --- what refuses the access -------------------------------------------------------------- */

static struct ept_probe probe;

#define REFUSES_ALL	EPT
#define LOG_IS_FULL	EPT, EPT_AD, PROC2(ENABLE_PML)
#define NO_SUB_PAGES	EPT, PROC2(SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)
#define APIC_PAGE	EPT, PROC2(VIRTUALIZE_APIC_ACCESSES)

/* EPT does not let the page be written. */
static void refuse_write(void)
{
	ept_probe_start(&probe, LEVEL_PTE, 0);
	*probe.entry[LEVEL_PTE] &= ~EPT_WRITE;
}

/*
 * The log is full, so that no dirty flag can be set, and none but that of the page has to be: the
 * case has made its access once before, with an empty log.
 */
static void start_log(void)
{
	ept_probe_start(&probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	vmcs_set_control(CONTROL_PROC2_ENABLE_PML);
	vmwrite(PML_ADDRESS, physical(page_alloc()));
	vmwrite(PML_INDEX, 511);
}

static void fill_log(void)
{
	EXPECT_EQ(*probe.entry[LEVEL_PTE] & EPT_DIRTY, EPT_DIRTY);
	*probe.entry[LEVEL_PTE] &= ~EPT_DIRTY;
	vmwrite(PML_INDEX, 0xffff);
	ept_invalidate(&probe.ept);
}

/* A page of which no sub-page may be written: the table has no entry for it. */
static void miss_sub_page(void)
{
	refuse_write();
	*probe.entry[LEVEL_PTE] |= EPT_SUB_PAGE_WRITE;
	vmcs_set_control(CONTROL_PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
	vmwrite(SUB_PAGE_PERMISSION_TABLE_POINTER, physical(page_alloc()));
}

static void make_apic_page(void)
{
	ept_probe_start(&probe, LEVEL_PTE, 0);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(APIC_ACCESS_ADDRESS, physical(probe.page));
}

/* Table 30-6, bits 15:12. */
#define ACCESS_TYPE(qualification)	FIELD(qualification, 15, 12)
enum { LINEAR_ASYNCHRONOUS = 4, GUEST_PHYSICAL_ASYNCHRONOUS = 11 };

static void expect_violation(u64 linear_valid)
{
	u64 got = vmread(EXIT_QUALIFICATION);

	EXPECT_EQ(got & ASYNCHRONOUS, ASYNCHRONOUS);
	EXPECT_EQ(got & VIOLATION_LINEAR_VALID, linear_valid);
	EXPECT_EQ(got & (VIOLATION_WRITE | VIOLATION_WRITABLE), VIOLATION_WRITE);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & ~0xfffull, probe.gpa);
}

/* --- the processor trace ------------------------------------------------------------------ */

#define TRACE		VMX, CPU(PT), PROC2(INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES),	\
			ENTRY_CTL(LOAD_IA32_RTIT_CTL), EXIT_CTL(CLEAR_IA32_RTIT_CTL)
#define INJECTED		INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, VECTOR_GP) |	\
				INJECTED_ERROR_CODE
#define ERROR_CODE		0xabcd

/* The output goes to the probe's page. */
static void trace_to_the_page(void)
{
	u64 control = RTIT_CTL_TRACE | processor_trace_to((void *)probe.gpa, page_alloc());

	vmcs_set_control(CONTROL_PROC2_INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
	vmcs_set_control(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL);
	vmcs_set_control(CONTROL_EXIT_CLEAR_IA32_RTIT_CTL);
	vmwrite(GUEST_IA32_RTIT_CTL, control);
}

/* An entry that traces is to inject #GP. */
static outcome_t inject_while_tracing(void)
{
	trace_to_the_page();
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED);
	vmwrite(INJECTED_EVENT_ERROR_CODE, ERROR_CODE);
	return enter_at_instruction(&guest_cpuid);
}

/* It exits before the injection, and the event is not lost. */
static void trace_exits(u32 reason)
{
	u64 rsp;

	REQUIRE(inject_while_tracing(), OUTCOME_EXIT(reason));
	rsp = (u64)this_cpu()->guest_stack + sizeof(this_cpu()->guest_stack) - 8;
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	EXPECT_EQ(vmread(GUEST_RSP), rsp);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), INJECTED);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), ERROR_CODE);
	EXPECT_EQ(vmread(INJECTED_EVENT_IDENTIFICATION) & INJECTED_VALID, 0);
}

CASE(trace_output_violates, PROVES("event-injection:inject.tapt",
     "exit-qualifications:ept.asynchronous"),
     NEEDS(TRACE, REFUSES_ALL))
{
	refuse_write();
	trace_exits(EXIT_EPT_VIOLATION);
	expect_violation(0);
}

CASE(trace_output_fills_the_log, PROVES("event-injection:inject.tapt",
     "exit-qualifications:pml_full.asynchronous"), NEEDS(TRACE, LOG_IS_FULL))
{
	start_log();
	REQUIRE_HANDLER(inject_while_tracing(), VECTOR_GP);
	fill_log();
	trace_exits(EXIT_PAGE_MODIFICATION_LOG_FULL);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

CASE(trace_output_misses_its_sub_page, PROVES("event-injection:inject.tapt",
     "exit-qualifications:spp.asynchronous"), NEEDS(TRACE, NO_SUB_PAGES))
{
	miss_sub_page();
	trace_exits(EXIT_SPP_RELATED_EVENT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

CASE(trace_output_to_the_apic, PROVES("event-injection:inject.tapt",
     "exit-qualifications:apic_access.guest_physical_asynchronous",
     "exit-qualifications:apic_access.asynchronous_bit"), NEEDS(TRACE, APIC_PAGE))
{
	make_apic_page();
	trace_exits(EXIT_APIC_ACCESS);
	EXPECT_EQ(ACCESS_TYPE(vmread(EXIT_QUALIFICATION)), GUEST_PHYSICAL_ASYNCHRONOUS);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

/* With an output that EPT allows the event is injected: the cases above can fail. */
CASE(trace_output_that_is_allowed, PROVES("event-injection:inject.tapt"), NEEDS(TRACE, EPT))
{
	ept_probe_start(&probe, LEVEL_PTE, 0);
	EXPECT_HANDLER(inject_while_tracing(), VECTOR_GP);
}

/* --- user interrupts ---------------------------------------------------------------------- */

#define UINTR		VMX, CPU(UINTR), ENTRY_CTL(LOAD_UINV)
#define OWN_STACK	BIT(0)	/* IA32_UINTR_STACKADJUST holds a stack pointer, not a distance */
#define NOTIFICATION	0x51

/* Volume 3, Table 9-1. */
static struct posted_interrupts {
	u64 flags, requests;
} __attribute__((aligned(64))) posted;

/* What a case before has left: no interrupt is requested, and none is let in. */
static void clear_user_interrupt_flag(void)
{
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_UINTR);
	wrmsr(IA32_UINTR_RR, 0);
	REQUIRE(enter_at_instruction(&guest_clui), OUTCOME_EXIT(EXIT_CPUID));
}

/*
 * The entry injects the notification of a user interrupt (29.6.1), and the guest lets that in by
 * STUI. The stack for it is in the probe's page.
 */
static outcome_t deliver_user_interrupt(const struct guest_code *handler)
{
	posted = (struct posted_interrupts){ .requests = BIT(5) };
	*probe.guest_entry[LEVEL_PTE] |= PTE_US;
	wrmsr(IA32_UINTR_HANDLER, (u64)handler->at);
	wrmsr(IA32_UINTR_STACKADJUST, (probe.linear + 0x800) | OWN_STACK);
	wrmsr(IA32_UINTR_PD, physical(&posted));
	vmcs_set_control(CONTROL_ENTRY_LOAD_UINV);
	vmwrite(GUEST_UINV, NOTIFICATION);
	vmwrite(INJECTED_EVENT_IDENTIFICATION,
		INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, NOTIFICATION));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	guest_to_user_mode();
	return enter_at_instruction(&guest_stui);
}

static void user_interrupt_exits(u32 reason)
{
	REQUIRE(deliver_user_interrupt(&guest_handler_of_ui), OUTCOME_EXIT(reason));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_stui.at + 4);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31), 0);
}

/* With nothing in the way the handler runs: the cases below can fail. */
static void user_interrupt_is_delivered(void)
{
	REQUIRE(deliver_user_interrupt(&guest_handler_of_ui), OUTCOME_EXIT(EXIT_CPUID));
	REQUIRE_EQ(vmread(GUEST_RIP), (u64)guest_handler_of_ui.at + 1);
}

CASE(user_interrupt_violates, PROVES("exit-qualifications:ept.asynchronous"),
     NEEDS(UINTR, REFUSES_ALL))
{
	refuse_write();
	clear_user_interrupt_flag();
	user_interrupt_exits(EXIT_EPT_VIOLATION);
	expect_violation(VIOLATION_LINEAR_VALID);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & ~0xfffull, probe.linear);
}

CASE(user_interrupt_fills_the_log, PROVES("exit-qualifications:pml_full.asynchronous"),
     NEEDS(UINTR, LOG_IS_FULL))
{
	start_log();
	clear_user_interrupt_flag();
	user_interrupt_is_delivered();
	clear_user_interrupt_flag();
	fill_log();
	user_interrupt_exits(EXIT_PAGE_MODIFICATION_LOG_FULL);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

CASE(user_interrupt_misses_its_sub_page, PROVES("exit-qualifications:spp.asynchronous"),
     NEEDS(UINTR, NO_SUB_PAGES))
{
	miss_sub_page();
	clear_user_interrupt_flag();
	user_interrupt_exits(EXIT_SPP_RELATED_EVENT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

CASE(user_interrupt_to_the_apic, PROVES("exit-qualifications:apic_access.asynchronous_bit"),
     NEEDS(UINTR, APIC_PAGE))
{
	make_apic_page();
	clear_user_interrupt_flag();
	user_interrupt_exits(EXIT_APIC_ACCESS);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, ASYNCHRONOUS);
}

CASE(first_instruction_of_the_handler_exits, PROVES("host-and-exit:save.rip.instruction"),
     NEEDS(UINTR, EPT))
{
	ept_probe_start(&probe, LEVEL_PTE, 0);
	clear_user_interrupt_flag();
	REQUIRE(deliver_user_interrupt(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
}

/* An access of the guest's own has bit 16 clear. */
GUEST_CODE(write, "", "movq %rax, (%rbx)");

CASE(access_of_an_instruction, PROVES("exit-qualifications:ept.asynchronous",
     "exit-qualifications:apic_access.asynchronous_bit"), NEEDS(VMX, APIC_PAGE))
{
	refuse_write();
	guest_regs()->rbx = probe.linear;
	REQUIRE(enter_at_instruction(&guest_write), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, 0);
	make_apic_page();
	guest_regs()->rbx = probe.linear;
	REQUIRE(enter_at_instruction(&guest_write), OUTCOME_EXIT(EXIT_APIC_ACCESS));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & ASYNCHRONOUS, 0);
}

/* --- the store of branch traces: 20.4.9 --------------------------------------------------- */

#define DEBUGCTL_BRANCH_TRACE	(BIT(6) | BIT(7))	/* TR, BTS */
#define RECORD_SIZE		24

/* Figure 20-8: the management area. */
struct debug_store {
	u64 base, index, maximum, threshold, pebs[8];
};

CASE(branch_trace_to_the_apic, PROVES("exit-qualifications:apic_access.asynchronous"),
     NEEDS(VMX, APIC_PAGE, CPU(DS), CPU(DTES64), ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	struct debug_store *store = page_alloc();

	make_apic_page();
	if (wrmsr_safe(IA32_DS_AREA, physical(store)) != OUTCOME_DONE ||
	    wrmsr_safe(IA32_DEBUGCTL, DEBUGCTL_BRANCH_TRACE) != OUTCOME_DONE)
		case_skip("a branch-trace store");
	wrmsr(IA32_DEBUGCTL, 0);
	store->base = store->index = probe.linear;
	store->maximum = probe.linear + 100 * RECORD_SIZE + 1;
	store->threshold = store->maximum;
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_IA32_DEBUGCTL, DEBUGCTL_BRANCH_TRACE);
	EXPECT(enter_at_instruction(&guest_jump), OUTCOME_EXIT(EXIT_APIC_ACCESS));
	EXPECT_EQ(ACCESS_TYPE(vmread(EXIT_QUALIFICATION)), LINEAR_ASYNCHRONOUS);
	wrmsr(IA32_DS_AREA, 0);
}
