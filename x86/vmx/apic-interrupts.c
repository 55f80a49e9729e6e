/*
 * Virtual interrupts: 32.1.3 PPR Virtualization, 32.1.4 EOI Virtualization, 32.1.5 Self-IPI
 * Virtualization, 32.2 Evaluation and Delivery of Virtual Interrupts, 32.6 Posted-Interrupt
 * Processing.
 *
 * With "virtual-interrupt delivery" the processor takes the highest requested vector, RVI, to the
 * guest's IDT without an exit, when its class is above that of VPPR and the guest can take it. It
 * keeps the requests in VIRR, what is in service in VISR and SVI, the highest of it. Only some
 * operations make it look whether a virtual interrupt can be delivered: VM entry, writes to TPR and
 * EOI, self-IPIs, and the notification of posted interrupts.
 *
 * Guests here find the virtual-APIC page where the host has it, too: what they do to it there, no
 * APIC sees.
 */
#include "mmu/pages.h"
#include "vmx/guard.h"
#include "vmx/guest.h"
#include "vmx/virtual_apic.h"

BEFORE_EACH_CASE(vmx_start);

#define VIRR	APIC_INTERRUPT_REQUEST
#define VISR	APIC_IN_SERVICE
#define VPPR(apic)	(*virtual_apic_register(&(apic), APIC_PROCESSOR_PRIORITY))
#define VTPR(apic)	(*virtual_apic_register(&(apic), APIC_TASK_PRIORITY))

#define LOW		0x31
#define HIGH		0x51
#define HIGHEST		0xe7

GUEST_CODE(nop, "", "nop");
GUEST_CODE(nops, "", "nop; nop");
GUEST_CODE(sti, "", "sti; nop; nop");
GUEST_CODE(int_high, "", "int $" STRINGIFY(HIGH));

/* --- what the guest's handlers see ------------------------------------------------------------ */

static struct {
	u32 taken;
	u8 vectors[4];
	u64 rip;	/* to which the last one returns */
} seen;

static void note_interrupt(struct trap_frame *frame)
{
	if (seen.taken < ARRAY_SIZE(seen.vectors))
		seen.vectors[seen.taken] = frame->vector;
	seen.taken++;
	seen.rip = frame->rip;
}

static struct virtual_apic apic;

/*
 * A delivery by INT n, once: a hypervisor below has mapped then what one needs, and its exits for
 * that are over. In Bochs they lose a virtual interrupt, as
 * ept/delivery-basic:virtual_interrupt_by_idt_not_present shows.
 */
static void deliver_once(void)
{
	static bool done;

	if (!done)
		EXPECT(enter_at_instruction(&guest_int_high), GUEST_DONE);
	done = true;
}

static void start(void)
{
	trap_on(LOW, note_interrupt);
	trap_on(HIGH, note_interrupt);
	trap_on(HIGHEST, note_interrupt);
	deliver_once();
	seen.taken = 0;
	virtual_apic_start(&apic);
	virtual_apic_deliver();
}

static void request(u8 vector)
{
	virtual_apic_set_vector(&apic, VIRR, vector);
	if (vector > FIELD(vmread(GUEST_INTERRUPT_STATUS), 7, 0))
		vmwrite(GUEST_INTERRUPT_STATUS,
			(vmread(GUEST_INTERRUPT_STATUS) & ~BITS(7, 0)) | vector);
}

static void put_in_service(u8 vector)
{
	virtual_apic_set_vector(&apic, VISR, vector);
	vmwrite(GUEST_INTERRUPT_STATUS,
		INTERRUPT_STATUS(FIELD(vmread(GUEST_INTERRUPT_STATUS), 7, 0), vector));
}

static void expect_status(u8 rvi, u8 svi)
{
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(rvi, svi));
}

static void expect_taken(u32 count, u8 last)
{
	EXPECT_EQ(seen.taken, count);
	if (count && seen.taken == count)
		EXPECT_EQ(seen.vectors[count - 1], last);
}

static outcome_t enter_with_if(const struct guest_code *code)
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	return enter_at_instruction(code);
}

#define TIMER		PIN(ACTIVATE_VMX_PREEMPTION_TIMER)
#define TIMER_EXPIRED	OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED)

/* --- VPPR ------------------------------------------------------------------------------------- */

CASE(vppr_at_entry, PROVES("interruptibility:ppr.rule", "interruptibility:ppr.triggers"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	static const struct {
		u8 vtpr, svi, vppr;
	} rows[] = {
		{ 0x00, 0x00, 0x00 }, { 0x57, 0x00, 0x57 }, { 0x57, 0x4f, 0x57 },
		{ 0x57, 0x51, 0x57 }, { 0x50, 0x5f, 0x50 }, { 0x57, 0x61, 0x60 },
		{ 0x0f, 0xff, 0xf0 }, { 0xf0, 0xff, 0xf0 },
	};
	u32 i;

	start();
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		VTPR(apic) = rows[i].vtpr;
		VPPR(apic) = 0xffffffff;
		vmwrite(GUEST_INTERRUPT_STATUS, INTERRUPT_STATUS(0, rows[i].svi));
		EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
		EXPECT_EQ(VPPR(apic), rows[i].vppr);
	}
}

static u32 vppr_seen[3];

static void guest_changes_vppr(void)
{
	volatile u32 *command = (u32 *)(VIRTUAL_APIC_LINEAR + APIC_INTERRUPT_COMMAND);

	/* Once before: a hypervisor below may exit to map the page, and its entry changes VPPR. */
	*command = ICR_TO_SELF | LOW;
	VPPR(apic) = 0x77;
	vppr_seen[0] = VPPR(apic);
	*command = ICR_TO_SELF | LOW;
	vppr_seen[1] = VPPR(apic);
	asm volatile("mov %0, %%cr8" : : "r" (4ull));
	vppr_seen[2] = VPPR(apic);
}

CASE(vppr_follows_tpr_alone, PROVES("interruptibility:ppr.triggers"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS, APIC_ACCESSES))
{
	start();
	virtual_apic_map(&apic);
	EXPECT(enter(guest_changes_vppr), GUEST_DONE);
	EXPECT_EQ(vppr_seen[0], 0x77);
	EXPECT_EQ(vppr_seen[1], 0x77);
	EXPECT_EQ(vppr_seen[2], 0x40);
}

/* --- delivery --------------------------------------------------------------------------------- */

CASE(delivered_before_the_first_instruction, PROVES("interruptibility:vint.deliver",
     "interruptibility:vint.state", "interruptibility:vint.evaluate",
     "field-formats:interrupt_status.rvi", "field-formats:interrupt_status.svi"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	start();
	request(LOW);
	request(HIGH);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	/* The lower one waits: its class is below that of what is in service. */
	expect_taken(1, HIGH);
	EXPECT_EQ(seen.rip, (u64)guest_nop.at);
	expect_status(LOW, HIGH);
	EXPECT_EQ(VPPR(apic), HIGH & 0xf0);
	EXPECT_TRUE(virtual_apic_vector(&apic, VISR, HIGH));
	EXPECT_FALSE(virtual_apic_vector(&apic, VIRR, HIGH));
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, LOW));
}

/* 29.3.2.5: what counts is the field, not VIRR. */
CASE(rvi_by_vmwrite, PROVES("interruptibility:vint.rvi_manual"), NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	start();
	vmwrite(GUEST_INTERRUPT_STATUS, INTERRUPT_STATUS(HIGH, 0));
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(1, HIGH);
	expect_status(0, HIGH);
}

struct priority {
	u8 vtpr, vector;
	bool delivered;
};

static void check_priority(const struct case_def *this_case)
{
	const struct priority *row = this_case->row;

	start();
	VTPR(apic) = row->vtpr;
	request(row->vector);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(row->delivered, row->vector);
	expect_status(row->delivered ? 0 : row->vector, row->delivered ? row->vector : 0);
}

#define PRIORITY(name, ...)							\
	CASE_RUN(name, check_priority, PROVES("interruptibility:vint.evaluate"), \
		 NEEDS(VMX, VIRTUAL_INTERRUPTS), ROW((&(const struct priority){ __VA_ARGS__ })))
PRIORITY(class_above_vppr, 0x4f, HIGH, true);
PRIORITY(class_of_vppr, 0x50, HIGH, false);
PRIORITY(class_below_vppr, 0x60, HIGH, false);
PRIORITY(highest_class, 0xd0, HIGHEST, true);

CASE(waits_for_if, PROVES("interruptibility:vint.deliver"), NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	start();
	request(HIGH);
	EXPECT(enter_at_instruction(&guest_nop), GUEST_DONE);
	expect_taken(0, 0);
	/* And for the end of what STI blocks. */
	EXPECT(enter_at_instruction(&guest_sti), GUEST_DONE);
	expect_taken(1, HIGH);
	EXPECT_EQ(seen.rip, (u64)guest_sti.at + 2);
}

static void check_blocking(u32 blocking)
{
	start();
	request(HIGH);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	EXPECT(enter_with_if(&guest_nops), GUEST_DONE);
	expect_taken(1, HIGH);
	EXPECT_EQ(seen.rip, (u64)guest_nops.at + 1);
}

CASE(waits_behind_sti, PROVES("interruptibility:vint.deliver"), NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	check_blocking(BLOCKING_BY_STI);
}

CASE(waits_behind_mov_ss, PROVES("interruptibility:vint.deliver"), NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	check_blocking(BLOCKING_BY_MOV_SS);
}

CASE(interrupt_window_comes_instead, PROVES("interruptibility:vint.evaluate"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS, PROC1(INTERRUPT_WINDOW_EXITING)))
{
	start();
	request(HIGH);
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	EXPECT(enter_with_if(&guest_nop), OUTCOME_EXIT(EXIT_INTERRUPT_WINDOW));
	expect_taken(0, 0);
	expect_status(HIGH, 0);
}

CASE(nothing_without_the_control, PROVES("interruptibility:vint.deliver"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	start();
	request(HIGH);
	vmcs_clear_control(CONTROL_PROC2_VIRTUAL_INTERRUPT_DELIVERY);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(0, 0);
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, HIGH));
}

CASE(wakes_from_hlt, PROVES("interruptibility:vint.hlt"), NEEDS(VMX, VIRTUAL_INTERRUPTS, TIMER))
{
	start();
	guard_by_timer(BIT(20));
	request(HIGH);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(1, HIGH);
}

CASE(does_not_wake_from_shutdown, PROVES("interruptibility:vint.hlt"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS, TIMER,
	   { "activity state \"shutdown\": IA32_VMX_MISC[7]", need_misc, BIT(7), 0 }))
{
	start();
	guard_by_timer(BIT(20));
	request(HIGH);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
	EXPECT(enter_with_if(&guest_nop), TIMER_EXPIRED);
	expect_taken(0, 0);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_SHUTDOWN);
}

/* --- what makes the processor look ------------------------------------------------------------ */

static u32 taken_before;

static void guest_lowers_tpr(void)
{
	/* In memory: no operation of the APIC. */
	VTPR(apic) = 0;
	VPPR(apic) = 0;
	asm volatile("sti; nop; nop" : : : "memory");
	taken_before = seen.taken;
	asm volatile("mov %0, %%cr8; nop" : : "r" (0ull) : "memory");
}

/*
 * A hypervisor below may leave the guest for reasons of its own, and its VM entry looks, too: then
 * once more.
 */
CASE(evaluated_at_a_write_to_tpr, PROVES("interruptibility:vint.triggers"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	u32 tries = 5;

	do {
		start();
		VTPR(apic) = 0x60;
		request(HIGH);
		EXPECT(enter(guest_lowers_tpr), GUEST_DONE);
	} while (taken_before && --tries);
	EXPECT_EQ(taken_before, 0);
	expect_taken(1, HIGH);
}

/* --- EOI -------------------------------------------------------------------------------------- */

static void guest_ends_interrupt(void)
{
	asm volatile("sti; nop" : : : "memory");
	*(volatile u32 *)(VIRTUAL_APIC_LINEAR + APIC_EOI) = 0x12345678;
	asm volatile("nop" : : : "memory");
}

#define EOI	VIRTUAL_INTERRUPTS, APIC_ACCESSES

CASE(eoi_lets_the_next_one_in, PROVES("interruptibility:eoi.virtualize",
     "interruptibility:vint.triggers", "interruptibility:apicacc.write.0b0"), NEEDS(VMX, EOI))
{
	start();
	virtual_apic_map(&apic);
	put_in_service(LOW);
	put_in_service(HIGHEST);
	request(HIGH);
	EXPECT(enter(guest_ends_interrupt), GUEST_DONE);
	EXPECT_EQ(*virtual_apic_register(&apic, APIC_EOI), 0);
	expect_taken(1, HIGH);
	expect_status(0, HIGH);
	EXPECT_FALSE(virtual_apic_vector(&apic, VISR, HIGHEST));
	EXPECT_TRUE(virtual_apic_vector(&apic, VISR, LOW));
	EXPECT_EQ(VPPR(apic), HIGH & 0xf0);
}

CASE(eoi_of_the_last_one, PROVES("interruptibility:eoi.virtualize"), NEEDS(VMX, EOI))
{
	start();
	virtual_apic_map(&apic);
	put_in_service(HIGH);
	VTPR(apic) = 0x23;
	EXPECT(enter(guest_ends_interrupt), GUEST_DONE);
	expect_status(0, 0);
	EXPECT_FALSE(virtual_apic_vector(&apic, VISR, HIGH));
	EXPECT_EQ(VPPR(apic), 0x23);
}

CASE(eoi_exits, PROVES("exit-reasons:45", "interruptibility:eoi.exit",
     "exit-qualifications:virtualized_eoi.vector", "exit-qualifications:virtualized_eoi.reserved"),
     NEEDS(VMX, EOI))
{
	u32 vector;

	for (vector = 0x20; vector < 0x100; vector += 0x1f) {
		start();
		virtual_apic_map(&apic);
		put_in_service(vector);
		vmwrite(EOI_EXIT_BITMAP_0 + 2 * (vector / 64), BIT(vector % 64));
		EXPECT(enter(guest_ends_interrupt), OUTCOME_EXIT(EXIT_VIRTUALIZED_EOI));
		EXPECT_EQ(vmread(EXIT_QUALIFICATION), vector);
		expect_status(0, 0);
		EXPECT_FALSE(virtual_apic_vector(&apic, VISR, vector));
		EXPECT_EQ(*virtual_apic_register(&apic, APIC_EOI), 0);
	}
}

/* Nothing is evaluated before such an exit: the request that could be taken is still one. */
CASE(eoi_exits_before_the_next_one, PROVES("interruptibility:eoi.exit"), NEEDS(VMX, EOI))
{
	start();
	virtual_apic_map(&apic);
	put_in_service(HIGHEST);
	request(HIGH);
	vmwrite(EOI_EXIT_BITMAP_3, BIT(HIGHEST % 64));
	EXPECT(enter(guest_ends_interrupt), OUTCOME_EXIT(EXIT_VIRTUALIZED_EOI));
	expect_taken(0, 0);
	expect_status(HIGH, 0);
	EXPECT(resume(), GUEST_DONE);
	expect_taken(1, HIGH);
}

/* --- self-IPIs -------------------------------------------------------------------------------- */

static u32 command;

static void guest_sends(void)
{
	asm volatile("sti; nop" : : : "memory");
	*(volatile u32 *)(VIRTUAL_APIC_LINEAR + APIC_INTERRUPT_COMMAND) = command;
	asm volatile("nop" : : : "memory");
}

static outcome_t send(u32 value)
{
	start();
	virtual_apic_map(&apic);
	command = value;
	return enter(guest_sends);
}

CASE(self_ipi_is_delivered, PROVES("interruptibility:selfipi", "interruptibility:vint.triggers",
     "interruptibility:apicacc.write.300"), NEEDS(VMX, EOI))
{
	EXPECT(send(ICR_TO_SELF | HIGH), GUEST_DONE);
	expect_taken(1, HIGH);
	expect_status(0, HIGH);
	/* Neither "destination mode" nor "level" matters for it. */
	EXPECT(send(ICR_TO_SELF | ICR_LOGICAL | ICR_ASSERT | LOW), GUEST_DONE);
	expect_taken(1, LOW);
}

static void guest_sends_with_if_0(void)
{
	*(volatile u32 *)(VIRTUAL_APIC_LINEAR + APIC_INTERRUPT_COMMAND) = command;
}

CASE(self_ipi_below_rvi, PROVES("interruptibility:selfipi"), NEEDS(VMX, EOI))
{
	start();
	virtual_apic_map(&apic);
	request(HIGH);
	command = ICR_TO_SELF | LOW;
	EXPECT(enter(guest_sends_with_if_0), GUEST_DONE);
	expect_status(HIGH, 0);
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, LOW));
	command = ICR_TO_SELF | HIGHEST;
	EXPECT(enter(guest_sends_with_if_0), GUEST_DONE);
	expect_status(HIGHEST, 0);
}

/* 32.4.3.2: any other command is for the host. */
CASE(other_commands_exit, PROVES("interruptibility:apicacc.write.300", "exit-reasons:56"),
     NEEDS(VMX, EOI))
{
	static const u32 commands[] = {
		HIGH,					/* no shorthand */
		ICR_TO_ALL | HIGH, ICR_TO_OTHERS | HIGH,
		ICR_TO_SELF | ICR_NMI, ICR_TO_SELF | BIT(8) | HIGH,
		ICR_TO_SELF | ICR_PENDING | HIGH,
		ICR_TO_SELF | BIT(15) | HIGH,		/* level */
		ICR_TO_SELF | 0xf,			/* vector below 16 */
		ICR_TO_SELF | BIT(13) | HIGH, ICR_TO_SELF | BIT(16) | HIGH,
		ICR_TO_SELF | BIT(17) | HIGH, ICR_TO_SELF | BIT(20) | HIGH,
		ICR_TO_SELF | BIT(31) | HIGH,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!EXPECT(send(commands[i]), OUTCOME_EXIT(EXIT_APIC_WRITE)) ||
		    !EXPECT_EQ(vmread(EXIT_QUALIFICATION), APIC_INTERRUPT_COMMAND))
			case_note("command", "%#x", commands[i]);
		EXPECT_EQ(*virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND), commands[i]);
		expect_status(0, 0);
	}
}

/* --- posted interrupts ------------------------------------------------------------------------ */

#define POSTED		EOI, PIN(PROCESS_POSTED_INTERRUPTS), \
			EXIT_CTL(ACKNOWLEDGE_INTERRUPT_ON_EXIT), APIC
#define NOTIFICATION	0xf3
#define ANOTHER		0xf4
#define ON		256	/* Table 32-2: bits of the descriptor */

static u64 *descriptor;

static void post(u8 vector)
{
	descriptor[vector / 64] |= BIT(vector % 64);
	descriptor[ON / 64] |= BIT(ON % 64);
}

/* The host has RFLAGS.IF = 0: the interrupt waits for the guest. */
static void pend(u8 vector)
{
	apic_send_self(vector);
	while (!apic_vector_bit(APIC_INTERRUPT_REQUEST, vector))
		pause();
}

static void start_posting(void)
{
	start();
	descriptor = page_alloc();
	vmcs_set_control(CONTROL_PIN_PROCESS_POSTED_INTERRUPTS);
	vmcs_set_control(CONTROL_EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
	vmwrite(POSTED_INTERRUPT_NOTIFICATION_VECTOR, NOTIFICATION);
	vmwrite(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, physical(descriptor));
}

CASE(notification_delivers_what_is_posted, PROVES("interruptibility:posted.match",
     "interruptibility:vint.triggers", "field-formats:posted_interrupt.pir",
     "field-formats:posted_interrupt.on"), NEEDS(VMX, POSTED))
{
	start_posting();
	post(LOW);
	post(HIGH);
	pend(NOTIFICATION);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(1, HIGH);
	expect_status(LOW, HIGH);
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, LOW));
	EXPECT_EQ(descriptor[0] | descriptor[1] | descriptor[2] | descriptor[3], 0);
	EXPECT_EQ(descriptor[ON / 64], 0);
	/* It is over for the processor's own APIC as well. */
	EXPECT_FALSE(apic_vector_bit(APIC_INTERRUPT_REQUEST, NOTIFICATION));
	EXPECT_FALSE(apic_vector_bit(APIC_IN_SERVICE, NOTIFICATION));
}

CASE(notification_below_rvi, PROVES("interruptibility:posted.match"), NEEDS(VMX, POSTED))
{
	start_posting();
	post(LOW);
	request(HIGH);
	VTPR(apic) = 0xf0;
	pend(NOTIFICATION);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(0, 0);
	expect_status(HIGH, 0);
	EXPECT_TRUE(virtual_apic_vector(&apic, VIRR, LOW));
}

CASE(another_vector_exits, PROVES("interruptibility:posted.other"), NEEDS(VMX, POSTED))
{
	start_posting();
	post(HIGH);
	pend(ANOTHER);
	EXPECT(enter_with_if(&guest_nop), OUTCOME_EXIT(EXIT_EXTERNAL_INTERRUPT));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), BIT(31) | ANOTHER);
	expect_taken(0, 0);
	EXPECT_EQ(descriptor[HIGH / 64], BIT(HIGH % 64));
	EXPECT_EQ(descriptor[ON / 64], BIT(ON % 64));
	apic_eoi();
}

static void note_and_end(struct trap_frame *frame)
{
	note_interrupt(frame);
	apic_eoi();
}

CASE(notification_in_root_operation, PROVES("interruptibility:posted.root"), NEEDS(VMX, POSTED))
{
	start_posting();
	trap_on(NOTIFICATION, note_and_end);
	post(HIGH);
	pend(NOTIFICATION);
	interrupts_in();
	expect_taken(1, NOTIFICATION);
	EXPECT_EQ(descriptor[HIGH / 64], BIT(HIGH % 64));
	EXPECT_EQ(descriptor[ON / 64], BIT(ON % 64));
}

CASE(notification_wakes_from_hlt, PROVES("interruptibility:posted.hlt"), NEEDS(VMX, POSTED, TIMER))
{
	start_posting();
	guard_by_timer(BIT(20));
	post(HIGH);
	pend(NOTIFICATION);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT(enter_with_if(&guest_nop), GUEST_DONE);
	expect_taken(1, HIGH);
}

/* What is posted cannot be delivered: the guest sleeps on. */
CASE(notification_goes_back_to_hlt, PROVES("interruptibility:posted.hlt"),
     NEEDS(VMX, POSTED, TIMER))
{
	start_posting();
	guard_by_timer(BIT(20));
	post(HIGH);
	VTPR(apic) = 0x50;
	pend(NOTIFICATION);
	vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
	EXPECT(enter_with_if(&guest_nop), TIMER_EXPIRED);
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nop.at);
	expect_status(HIGH, 0);
	EXPECT_EQ(descriptor[ON / 64], 0);
}
