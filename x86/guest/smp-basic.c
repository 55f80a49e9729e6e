/*
 * More than one processor: how INIT and the start-up IPI start one (11.4 Multiple-Processor (MP)
 * Initialization), in which state it begins (12.1.1 Processor State After Reset), and how
 * processors interrupt one another through their local APICs, in xAPIC and in x2APIC mode (13.6
 * Issuing Interprocessor Interrupts, 13.8 Handling Interrupts, 13.12 Extended XAPIC). Processor
 * 1 stands for all others.
 */
#include "cpu/apic.h"
#include "cpu/instruction.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "platform.h"

#define VECTOR_A	0x61
#define VECTOR_B	0x72

static void to_mode(void *mode)
{
	REQUIRE(apic_set_mode((u64)mode), OUTCOME_DONE);
	REQUIRE_EQ(apic_mode(), (u64)mode);
}

static void all_to_mode(enum apic_mode mode)
{
	u32 i;

	for (i = smp_cpu_count(); i-- > 0;)
		REQUIRE(smp_call(i, to_mode, (void *)(u64)mode), OUTCOME_DONE);
}

static u32 tree_id(u32 index)
{
	return this_platform()->apic_id[index];
}

/* --- who is there ------------------------------------------------------------------ */

static void check_id(void *index)
{
	u32 id = tree_id((u64)index);

	EXPECT_EQ(apic_id(), id);
	EXPECT_EQ(cpuid(1).ebx >> 24, id & 0xff);
	if (cpuid(0).eax >= 0xb && cpuid_count(0xb, 0).ebx)
		EXPECT_EQ(cpuid_count(0xb, 0).edx, id);
}

static void check_ids(enum apic_mode mode)
{
	u64 i;

	all_to_mode(mode);
	for (i = 0; i < smp_cpu_count(); i++)
		EXPECT(smp_call(i, check_id, (void *)i), OUTCOME_DONE);
}

CASE(apic_ids_are_those_of_cpuid, PROVES("apic:id.tree"), NEEDS(APIC, CPUS(2)))
{
	check_ids(APIC_XAPIC);
}

CASE(x2apic_ids_are_those_of_cpuid, PROVES("apic:id.x2apic"), NEEDS(X2APIC, CPUS(2)))
{
	check_ids(APIC_X2APIC);
}

static void check_bootstrap(void *index)
{
	EXPECT_EQ(!!(rdmsr(IA32_APIC_BASE) & APIC_BASE_BSP), index == 0);
}

CASE(one_processor_is_the_bootstrap_processor, PROVES("apic:base.bsp"), NEEDS(APIC, CPUS(2)))
{
	u64 i;

	for (i = 0; i < smp_cpu_count(); i++)
		EXPECT(smp_call(i, check_bootstrap, (void *)i), OUTCOME_DONE);
}

/* --- INIT and start-up --------------------------------------------------------------- */

CASE(startup_vector_is_the_page, PROVES("apic:startup.vector"), NEEDS(APIC, CPUS(2)))
{
	const struct smp_start_state *state;
	u8 vector, last = 0;
	u32 page;

	for (page = 0; page < 3; page++) {
		state = smp_start_one(1, page, &vector);
		EXPECT_EQ(state->cs, vector * 0x100);
		EXPECT_TRUE(vector != last);
		last = vector;
	}
}

CASE(registers_after_init, PROVES("apic:init.state"), NEEDS(APIC, CPUS(2)))
{
	u8 vector;
	const struct smp_start_state *s = smp_start_one(1, 0, &vector);

	EXPECT_EQ(s->cr0 & ~(CR0_CD | CR0_NW), CR0_ET);
	EXPECT_EQ(s->cr2 | s->cr3 | s->cr4, 0);
	EXPECT_EQ(s->eflags, RFLAGS_FIXED);
	EXPECT_EQ(s->dr7, DR7_FIXED);
	EXPECT_EQ(s->idt_base, 0);
	EXPECT_EQ(s->idt_limit, 0xffff);
	EXPECT_EQ(s->eax | s->ebx | s->ecx | s->esi | s->edi | s->ebp | s->esp, 0);
	EXPECT_EQ(s->ds | s->es | s->ss | s->fs | s->gs, 0);
}

CASE(signature_in_edx_after_init, PROVES("apic:init.edx"), NEEDS(APIC, CPUS(2)))
{
	u8 vector;

	EXPECT_EQ(smp_start_one(1, 0, &vector)->edx, cpuid(1).eax);
}

static void work_for_ever(void *started)
{
	*(volatile u32 *)started = true;
	for (;;)
		asm volatile("cli; hlt");
}

static void mark(void *marked)
{
	*(u32 *)marked = this_cpu()->index;
}

CASE(init_ends_any_work, PROVES("apic:init.wait"), NEEDS(APIC, CPUS(2)))
{
	volatile u32 started = false;
	u32 marked = 0;

	smp_begin(1, work_for_ever, (void *)&started);
	REQUIRE_TRUE(smp_wait_for(&started));
	EXPECT_FALSE(smp_done(1));
	smp_init(1);
	EXPECT(smp_call(1, mark, &marked), OUTCOME_DONE);
	EXPECT_EQ(marked, 1);
}

static void keep_handler(struct trap_frame *frame)
{
	(void)frame;
}

static void install(void *handler)
{
	trap_on(VECTOR_A, handler);
}

/* A processor that starts again has no handlers: cpu/smp.c. */
CASE(startup_ipi_alone_does_not_start_again, PROVES("apic:startup.running"), NEEDS(APIC, CPUS(2)))
{
	u32 marked = 0;
	u8 vector;

	smp_start_one(1, 0, &vector);
	EXPECT(smp_call(1, install, keep_handler), OUTCOME_DONE);
	EXPECT_TRUE(apic_send(tree_id(1), ICR_STARTUP | ICR_ASSERT | vector));
	EXPECT(smp_call(1, mark, &marked), OUTCOME_DONE);
	EXPECT_EQ(marked, 1);
	EXPECT_EQ((u64)cpu_block(1)->handlers[VECTOR_A], (u64)keep_handler);
}

CASE(init_keeps_x2apic_mode, PROVES("apic:init.x2apic"), NEEDS(X2APIC, CPUS(2)))
{
	u8 vector;

	EXPECT(smp_call(1, to_mode, (void *)APIC_X2APIC), OUTCOME_DONE);
	EXPECT_EQ(FIELD(smp_start_one(1, 0, &vector)->apic_base, 11, 10), APIC_X2APIC);
}

/* --- traps of another processor ------------------------------------------------------ */

INSTRUCTION(undefined, "", "ud2");
INSTRUCTION(read_byte, "", "movb (%rdi), %al");

#define NOT_MAPPED	0x123456789000ull

CASE(exceptions_stay_on_their_processor, PROVES("exceptions:vector.6", "exceptions:vector.14"),
     NEEDS(APIC, CPUS(2)))
{
	write_cr2(0x1234);
	EXPECT(smp_call(1, undefined, NULL), OUTCOME_UD);
	EXPECT_EQ(cpu_block(1)->last_trap.frame.rip, (u64)undefined_at);
	EXPECT(smp_call(1, read_byte, (void *)NOT_MAPPED), OUTCOME_FAULT(VECTOR_PF, 0));
	EXPECT_EQ(cpu_block(1)->last_trap.cr2, NOT_MAPPED);
	EXPECT_EQ(read_cr2(), 0x1234);
}

/* --- interrupts from one processor to another ------------------------------------------- */

/* What the handler on each processor has seen. */
static struct seen {
	volatile u32 ready, count;
	u32 in_service, requested;
} seen[PLATFORM_MAX_CPUS];

static void on_interrupt(struct trap_frame *frame)
{
	struct seen *mine = &seen[this_cpu()->index];

	mine->in_service = apic_vector_bit(APIC_IN_SERVICE, frame->vector);
	mine->requested = apic_vector_bit(APIC_INTERRUPT_REQUEST, frame->vector);
	apic_eoi();
	mine->count++;
}

/* Forgets what was seen, on all processors. */
static void look_again(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(seen); i++)
		seen[i] = (struct seen){ 0 };
}

/* Waits with open interrupts for the vector. */
static void receive(void *vector)
{
	struct seen *mine = &seen[this_cpu()->index];

	trap_on((u64)vector, on_interrupt);
	mine->ready = true;
	asm volatile("sti");
	smp_wait_for(&mine->count);
	asm volatile("cli");
}

struct ipi {
	u32 from, to;
	enum apic_mode mode;
};

static void send(void *ipi)
{
	u32 to = ((const struct ipi *)ipi)->to;

	if (smp_wait_for(&seen[to].ready))
		apic_send(tree_id(to), ICR_FIXED | ICR_ASSERT | VECTOR_A);
}

static void check_ipi(const struct case_def *this_case)
{
	const struct ipi *row = this_case->row;

	all_to_mode(row->mode);
	look_again();
	if (row->to) {
		smp_begin(row->to, receive, (void *)VECTOR_A);
		send((void *)row);
		EXPECT(smp_wait(row->to), OUTCOME_DONE);
	} else {
		smp_begin(row->from, send, (void *)row);
		receive((void *)VECTOR_A);
		EXPECT(smp_wait(row->from), OUTCOME_DONE);
	}
	EXPECT_EQ(seen[row->to].count, 1);
	EXPECT_EQ(seen[row->from].count, 0);
}

#define IPI(id, fact, need, ...)						\
	static const struct ipi ipi_##id = { __VA_ARGS__ };			\
	CASE_RUN(id, check_ipi, PROVES(fact), NEEDS(need, CPUS(2)), ROW(&ipi_##id))

IPI(ipi_from_the_boot_processor, "apic:ipi.fixed", APIC, 0, 1, APIC_XAPIC);
IPI(ipi_to_the_boot_processor, "apic:ipi.fixed", APIC, 1, 0, APIC_XAPIC);
IPI(x2apic_ipi_from_the_boot_processor, "apic:ipi.fixed.x2apic", X2APIC, 0, 1, APIC_X2APIC);
IPI(x2apic_ipi_to_the_boot_processor, "apic:ipi.fixed.x2apic", X2APIC, 1, 0, APIC_X2APIC);

static void on_nmi(struct trap_frame *frame)
{
	(void)frame;
	seen[this_cpu()->index].count++;
}

/* With interrupts off, and with a vector that the ICR must ignore. */
static void receive_nmi(void *unused)
{
	struct seen *mine = &seen[this_cpu()->index];

	(void)unused;
	trap_on(VECTOR_NMI, on_nmi);
	mine->ready = true;
	smp_wait_for(&mine->count);
}

static void check_nmi(enum apic_mode mode)
{
	all_to_mode(mode);
	look_again();
	smp_begin(1, receive_nmi, NULL);
	REQUIRE_TRUE(smp_wait_for(&seen[1].ready));
	EXPECT_TRUE(apic_send(tree_id(1), ICR_NMI | ICR_ASSERT | VECTOR_A));
	EXPECT(smp_wait(1), OUTCOME_DONE);
	EXPECT_EQ(seen[1].count, 1);
}

CASE(nmi_to_another_processor, PROVES("apic:ipi.nmi"), NEEDS(APIC, CPUS(2)))
{
	check_nmi(APIC_XAPIC);
}

CASE(x2apic_nmi_to_another_processor, PROVES("apic:ipi.nmi"), NEEDS(X2APIC, CPUS(2)))
{
	check_nmi(APIC_X2APIC);
}

/* One that nothing expects ends the work as an exception does. */
CASE(nmi_ends_work_without_a_handler, PROVES("apic:ipi.nmi"), NEEDS(APIC, CPUS(2)))
{
	volatile u32 started = false;

	smp_begin(1, work_for_ever, (void *)&started);
	REQUIRE_TRUE(smp_wait_for(&started));
	EXPECT_TRUE(apic_send(tree_id(1), ICR_NMI | ICR_ASSERT));
	EXPECT(smp_wait(1), OUTCOME_EXCEPTION(VECTOR_NMI));
}

/* --- shorthands and logical destinations -------------------------------------------------- */

static void start_receivers(u8 vector)
{
	u32 i;

	look_again();
	for (i = 1; i < smp_cpu_count(); i++) {
		smp_begin(i, receive, (void *)(u64)vector);
		REQUIRE_TRUE(smp_wait_for(&seen[i].ready));
	}
}

static void check_receivers(void)
{
	u32 i;

	for (i = 1; i < smp_cpu_count(); i++) {
		EXPECT(smp_wait(i), OUTCOME_DONE);
		EXPECT_EQ(seen[i].count, 1);
	}
}

CASE(shorthand_all_others, PROVES("apic:ipi.others"), NEEDS(APIC, CPUS(2)))
{
	trap_on(VECTOR_B, on_interrupt);
	start_receivers(VECTOR_B);
	EXPECT_TRUE(apic_send(0, ICR_FIXED | ICR_ASSERT | ICR_TO_OTHERS | VECTOR_B));
	check_receivers();
	interrupts_in();
	EXPECT_EQ(seen[0].count, 0);
}

CASE(shorthand_all, PROVES("apic:ipi.all"), NEEDS(APIC, CPUS(2)))
{
	trap_on(VECTOR_B, on_interrupt);
	start_receivers(VECTOR_B);
	EXPECT_TRUE(apic_send(0, ICR_FIXED | ICR_ASSERT | ICR_TO_ALL | VECTOR_B));
	check_receivers();
	receive((void *)VECTOR_B);
	EXPECT_EQ(seen[0].count, 1);
}

static void set_logical_id(void *id)
{
	apic_write(APIC_LOGICAL_DESTINATION, (u64)id << 24);
}

/* Logical IDs 1 and 2 in the flat model, and a destination that has only the second. */
CASE(logical_destination, PROVES("apic:ipi.logical"), NEEDS(APIC, CPUS(2)))
{
	set_logical_id((void *)1);
	EXPECT(smp_call(1, set_logical_id, (void *)2), OUTCOME_DONE);
	trap_on(VECTOR_B, on_interrupt);
	look_again();
	smp_begin(1, receive, (void *)VECTOR_B);
	REQUIRE_TRUE(smp_wait_for(&seen[1].ready));
	EXPECT_TRUE(apic_send(0xfe, ICR_FIXED | ICR_ASSERT | ICR_LOGICAL | VECTOR_B));
	EXPECT(smp_wait(1), OUTCOME_DONE);
	interrupts_in();
	EXPECT_EQ(seen[1].count, 1);
	EXPECT_EQ(seen[0].count, 0);
}

/* --- to oneself: from the IRR through the ISR to EOI ---------------------------------------- */

static void check_self(void)
{
	look_again();
	trap_on(VECTOR_A, on_interrupt);
	apic_send_self(VECTOR_A);
	EXPECT_EQ(seen[0].count, 0);
	EXPECT_TRUE(apic_vector_bit(APIC_INTERRUPT_REQUEST, VECTOR_A));
	receive((void *)VECTOR_A);
	EXPECT_EQ(seen[0].count, 1);
	EXPECT_FALSE(apic_vector_bit(APIC_INTERRUPT_REQUEST, VECTOR_A));
}

CASE(self_ipi_waits_in_the_irr, PROVES("apic:ipi.self", "apic:accept.irr"), NEEDS(APIC))
{
	check_self();
}

CASE(x2apic_self_ipi, PROVES("apic:ipi.self.x2apic"), NEEDS(X2APIC))
{
	to_mode((void *)APIC_X2APIC);
	check_self();
}

CASE(in_service_until_eoi, PROVES("apic:accept.eoi"), NEEDS(APIC))
{
	look_again();
	apic_send_self(VECTOR_A);
	receive((void *)VECTOR_A);
	EXPECT_EQ(seen[0].count, 1);
	EXPECT_EQ(seen[0].in_service, 1);
	EXPECT_EQ(seen[0].requested, 0);
	EXPECT_FALSE(apic_vector_bit(APIC_IN_SERVICE, VECTOR_A));
}

CASE(task_priority_holds_an_interrupt, PROVES("apic:accept.priority"), NEEDS(APIC))
{
	look_again();
	trap_on(VECTOR_A, on_interrupt);
	apic_write(APIC_TASK_PRIORITY, VECTOR_A & 0xf0);
	apic_send_self(VECTOR_A);
	interrupts_in();
	EXPECT_EQ(seen[0].count, 0);
	EXPECT_TRUE(apic_vector_bit(APIC_INTERRUPT_REQUEST, VECTOR_A));
	apic_write(APIC_TASK_PRIORITY, (VECTOR_A & 0xf0) - 0x10);
	receive((void *)VECTOR_A);
	EXPECT_EQ(seen[0].count, 1);
}
