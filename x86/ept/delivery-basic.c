/*
 * EPT violations and misconfigurations while an event is delivered, and by IRET.
 *
 * The processor delivers an event by accesses to memory: it reads the IDT, and writes a frame to
 * the stack. When EPT refuses one of them, the event has not been delivered. The exit saves it
 * in the original-event fields, so that software can inject it again: 30.2.4. The guest state is
 * that before the delivery; RFLAGS.RF is saved as the frame would have had it: 30.3.3.
 *
 * IRET ends the blocking of NMIs even when it then fails. Bit 12 of the qualification tells
 * software that the IRET had done that, because it may have to block them again: 30.2.3.
 */
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/virtual_apic.h"

BEFORE_EACH_CASE(vmx_start);

/* Bits of the original-event identification: Table 27-21. */
#define EVENT(type, vector)	(BIT(31) | (u64)(type) << 8 | (vector))
#define EVENT_HAS_ERROR_CODE	BIT(11)
#define SOFTWARE_INTERRUPT_VECTOR 0x60
#define VIRTUAL_INTERRUPT	0x51
enum { EXTERNAL_INTERRUPT = 0, HARDWARE_EXCEPTION = 3, SOFTWARE_INTERRUPT = 4,
       SOFTWARE_EXCEPTION = 6 };
/* Bits 30:13 and 10:0, with bit 31 and bit 11: bit 12 is undefined. */
#define EVENT_DEFINED		(BITS(31, 0) & ~BIT(12))

/* --- while an event is delivered ------------------------------------------- */

struct delivery {
	const struct guest_code *code;	/* RAX is BAD_SELECTOR, RBX is UNMAPPED_ADDRESS */
	u64 event;			/* the original-event identification */
	u64 error_code;
	bool software;			/* the length of the instruction is saved */
	bool rf;			/* of the frame */
	outcome_t exception;		/* how the guest's instruction ends when all is well */
};

#define WHEN(...)	ROW((&(const struct delivery){ __VA_ARGS__ }))

#define BAD_SELECTOR	0x1000		/* beyond the limit of the GDT */

static void return_to_guest(struct trap_frame *frame __maybe_unused)
{
}

static void set_registers(void)
{
	guest_regs()->rax = BAD_SELECTOR;
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	trap_on(VECTOR_BP, return_to_guest);
	trap_on(SOFTWARE_INTERRUPT_VECTOR, return_to_guest);
}

static outcome_t start(const struct delivery *row)
{
	set_registers();
	return enter_at_instruction(row->code);
}

static void expect_original_event(const struct delivery *row)
{
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_DEFINED, row->event);
	if (row->event & EVENT_HAS_ERROR_CODE)
		EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), row->error_code);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code->at);
	if (row->software)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), row->code->end - row->code->at);
}

static void finish(const struct delivery *row)
{
	/* The instruction is executed again; the event was not kept anywhere else. */
	vmwrite(GUEST_RFLAGS, vmread(GUEST_RFLAGS) & ~RFLAGS_RF);
	EXPECT(resume(), GUEST_DONE);
	EXPECT(guest_outcome(), row->exception);
}

/* The IDT of the guest, a copy in the probe's page, is out of reach: its entry is read. */
static void idt_not_present(const struct case_def *this_case)
{
	const struct delivery *row = this_case->row;
	u64 offset = FIELD(row->event, 7, 0) * sizeof(struct gate);
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	memcpy(probe.page, this_cpu()->idt, PAGE_SIZE);
	vmwrite(GUEST_IDTR_BASE, probe.linear);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	REQUIRE(start(row), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & ~15ull, (probe.gpa + offset) & ~15ull);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & ~15ull, (probe.linear + offset) & ~15ull);
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ), vmread(GUEST_PHYSICAL_ADDRESS),
			 vmread(GUEST_LINEAR_ADDRESS));
	expect_original_event(row);
	ept_map(&probe.ept, probe.gpa, physical(probe.page),
		probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	finish(row);
}

static void idt_misconfigured(const struct case_def *this_case)
{
	const struct delivery *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	memcpy(probe.page, this_cpu()->idt, PAGE_SIZE);
	vmwrite(GUEST_IDTR_BASE, probe.linear);
	*probe.entry[LEVEL_PTE] &= ~EPT_READ;
	REQUIRE(start(row), OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, probe.gpa);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_DEFINED, row->event);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code->at);
	*probe.entry[LEVEL_PTE] |= EPT_READ;
	finish(row);
}

/* Its stack is read-only: the frame is written. The guest goes on with another stack. */
static void stack_read_only(const struct case_def *this_case)
{
	const struct delivery *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	set_registers();
	vmwrite(GUEST_RIP, (u64)row->code->at);
	vmwrite(GUEST_RSP, probe.linear + PAGE_SIZE);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, probe.gpa);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & PAGE_MASK, probe.linear);
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_WRITE) | VIOLATION_READABLE |
			 VIOLATION_EXECUTABLE, vmread(GUEST_PHYSICAL_ADDRESS),
			 vmread(GUEST_LINEAR_ADDRESS));
	expect_original_event(row);
	EXPECT_EQ(vmread(GUEST_RSP), probe.linear + PAGE_SIZE);
	EXPECT(start(row), GUEST_DONE);
	EXPECT(guest_outcome(), row->exception);
}

GUEST_CODE(ud2, "", "ud2");
static const struct delivery invalid_opcode = {
	.code = &guest_ud2, .rf = true, .exception = OUTCOME_UD,
	.event = EVENT(HARDWARE_EXCEPTION, VECTOR_UD),
};
GUEST_CODE(load_bad_selector, "", "movw %ax, %ds");
static const struct delivery general_protection = {
	.code = &guest_load_bad_selector, .rf = true,
	.exception = OUTCOME_FAULT(VECTOR_GP, BAD_SELECTOR),
	.event = EVENT(HARDWARE_EXCEPTION, VECTOR_GP) | EVENT_HAS_ERROR_CODE,
	.error_code = BAD_SELECTOR,
};
GUEST_CODE(write_unmapped, "", "movq %rax, (%rbx)");
static const struct delivery page_fault = {
	.code = &guest_write_unmapped, .rf = true, .exception = OUTCOME_FAULT(VECTOR_PF, PF_WR),
	.event = EVENT(HARDWARE_EXCEPTION, VECTOR_PF) | EVENT_HAS_ERROR_CODE,
	.error_code = PF_WR,
};
GUEST_CODE(breakpoint, "", "int3");
static const struct delivery software_exception = {
	.code = &guest_breakpoint, .software = true, .exception = OUTCOME_DONE,
	.event = EVENT(SOFTWARE_EXCEPTION, VECTOR_BP),
};
GUEST_CODE(int_n, "", "int $" STRINGIFY(SOFTWARE_INTERRUPT_VECTOR));
static const struct delivery software_interrupt = {
	.code = &guest_int_n, .software = true, .exception = OUTCOME_DONE,
	.event = EVENT(SOFTWARE_INTERRUPT, SOFTWARE_INTERRUPT_VECTOR),
};

#define DELIVERY(event)							\
	CASE_RUN(event##_by_idt_not_present, idt_not_present,		\
		 PROVES("ept:violation.during_delivery", "host-and-exit:exit.orig.valid"),	\
		 NEEDS(VMX, EPT), ROW(&event));				\
	CASE_RUN(event##_to_read_only_stack, stack_read_only,		\
		 PROVES("ept:violation.during_delivery", "host-and-exit:exit.orig.valid",	\
			"field-formats:original_event.error_code_valid"),	\
		 NEEDS(VMX, EPT), ROW(&event));				\
	CASE_RUN(event##_saves_rf_of_frame, rf_of_frame,		\
		 PROVES("host-and-exit:save.rf.ept"), NEEDS(VMX, EPT), ROW(&event));	\
	CASE_RUN(event##_by_misconfigured_idt, idt_misconfigured,	\
		 PROVES("host-and-exit:exit.orig.valid"), NEEDS(VMX, EPT), ROW(&event))

/* 30.3.3 Saving RIP, RSP, RFLAGS, and SSP: RF is saved as the frame would have had it. */
static void rf_of_frame(const struct case_def *this_case)
{
	const struct delivery *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	vmwrite(GUEST_IDTR_BASE, probe.linear);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	REQUIRE(start(row), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_RFLAGS), RFLAGS_FIXED | (row->rf ? RFLAGS_RF : 0));
}

DELIVERY(invalid_opcode);
DELIVERY(general_protection);
DELIVERY(page_fault);
DELIVERY(software_exception);
DELIVERY(software_interrupt);

/* 29.6.1.2: an event that VM entry injects is delivered like any other. */
static void injected(const struct case_def *this_case)
{
	const struct delivery *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	vmwrite(GUEST_IDTR_BASE, probe.linear);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, row->event);
	vmwrite(INJECTED_EVENT_ERROR_CODE, row->error_code);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 3);
	REQUIRE(start(row), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_DEFINED, row->event);
	if (row->event & EVENT_HAS_ERROR_CODE)
		EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), row->error_code);
	/* Not the length of what is at RIP. */
	if (row->software)
		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 3);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)row->code->at);
}

CASE_RUN(injected_invalid_opcode, injected, PROVES("ept:violation.during_delivery"),
	 NEEDS(VMX, EPT), ROW(&invalid_opcode));
CASE_RUN(injected_page_fault, injected, PROVES("ept:violation.during_delivery"),
	 NEEDS(VMX, EPT), ROW(&page_fault));
CASE_RUN(injected_software_exception, injected, PROVES("ept:violation.during_delivery"),
	 NEEDS(VMX, EPT), ROW(&software_exception));
CASE_RUN(injected_software_interrupt, injected, PROVES("ept:violation.during_delivery"),
	 NEEDS(VMX, EPT), ROW(&software_interrupt));

/*
 * 32.2.2: a virtual interrupt goes through the IDT as an external interrupt does, and is in service
 * by then, no longer requested. Software that wants it delivered has to inject what the exit
 * reports.
 */
GUEST_CODE(nop, "", "nop");

CASE(virtual_interrupt_by_idt_not_present,
     PROVES("ept:violation.during_delivery", "host-and-exit:exit.orig.valid",
	    "field-formats:original_event.type"),
     NEEDS(VMX, EPT, VIRTUAL_INTERRUPTS))
{
	struct virtual_apic apic;
	struct ept_probe probe;

	virtual_apic_start(&apic);
	virtual_apic_deliver();
	virtual_apic_set_vector(&apic, APIC_INTERRUPT_REQUEST, VIRTUAL_INTERRUPT);
	ept_probe_start(&probe, LEVEL_PTE, 0);
	memcpy(probe.page, this_cpu()->idt, PAGE_SIZE);
	vmwrite(GUEST_IDTR_BASE, probe.linear);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	vmwrite(GUEST_INTERRUPT_STATUS, INTERRUPT_STATUS(VIRTUAL_INTERRUPT, 0));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	REQUIRE(enter_at_instruction(&guest_nop), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_DEFINED,
		  EVENT(EXTERNAL_INTERRUPT, VIRTUAL_INTERRUPT));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nop.at);
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(0, VIRTUAL_INTERRUPT));
}

/* --- NMI unblocking due to IRET: 30.2.3 ------------------------------------ */

struct iret {
	bool virtual_nmis;
	bool blocked;			/* before the IRET */
};

GUEST_CODE(iretq, "", "iretq");
extern const u8 vmx_guest_done[];

/* The frame to return by is in the probe's page, which is not there. */
static void iret_without_frame(struct ept_probe *probe, const struct iret *row)
{
	ept_probe_start(probe, LEVEL_PTE, 0);
	probe->page[0] = (u64)vmx_guest_done;
	probe->page[1] = SELECTOR_CODE64;
	probe->page[2] = RFLAGS_FIXED;
	probe->page[3] = vmread(GUEST_RSP);
	probe->page[4] = SELECTOR_DATA;
	ept_unmap(&probe->ept, probe->gpa, LEVEL_PTE);
	if (row->virtual_nmis) {
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	}
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, row->blocked ? BLOCKING_BY_NMI : 0);
	vmwrite(GUEST_RIP, (u64)guest_iretq.at);
	vmwrite(GUEST_RSP, probe->linear);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
}

static void map_frame(struct ept_probe *probe)
{
	ept_map(&probe->ept, probe->gpa, physical(probe->page),
		probe->ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
}

static void nmi_unblocking(const struct case_def *this_case)
{
	const struct iret *row = this_case->row;
	struct ept_probe probe;

	iret_without_frame(&probe, row);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, probe.gpa);
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ) |
			 (row->blocked ? VIOLATION_NMI_UNBLOCKING : 0),
			 vmread(GUEST_PHYSICAL_ADDRESS), vmread(GUEST_LINEAR_ADDRESS));
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_iretq.at);
	map_frame(&probe);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
}

/* The IRET is over, at the second try. What comes then has nothing to do with it. */
static void violation_behind_an_iret(const struct case_def *this_case)
{
	const struct iret *row = this_case->row;
	struct ept_probe probe;

	iret_without_frame(&probe, row);
	map_frame(&probe);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	REQUIRE(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ), probe.gpa, probe.linear);
}

#define IRET(...)	ROW((&(const struct iret){ __VA_ARGS__ }))

CASE_RUN(iret_while_nmis_are_blocked, nmi_unblocking,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT), IRET(.blocked = true));
CASE_RUN(iret_while_nmis_are_not_blocked, nmi_unblocking,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT), IRET(.blocked = false));
CASE_RUN(iret_while_virtual_nmis_are_blocked, nmi_unblocking,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)),
	 IRET(.virtual_nmis = true, .blocked = true));
CASE_RUN(iret_while_virtual_nmis_are_not_blocked, nmi_unblocking,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)),
	 IRET(.virtual_nmis = true, .blocked = false));

CASE_RUN(violation_behind_an_iret, violation_behind_an_iret,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT), IRET(.blocked = true));
CASE_RUN(violation_behind_an_iret_with_virtual_nmis, violation_behind_an_iret,
	 PROVES("exit-qualifications:ept.nmi_unblocking", "host-and-exit:iret.unblock.ept"),
	 NEEDS(VMX, EPT, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)),
	 IRET(.virtual_nmis = true, .blocked = true));

/* Another instruction does not unblock NMIs. */
CASE(read_while_nmis_are_blocked, PROVES("exit-qualifications:ept.nmi_unblocking"),
     NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_unmap(&probe.ept, probe.gpa, LEVEL_PTE);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(ept_probe_qualification(ACCESS_READ), probe.gpa, probe.linear);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
}
