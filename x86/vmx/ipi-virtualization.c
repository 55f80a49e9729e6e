/*
 * Interprocessor interrupts that a guest sends without an exit: 32.1.6 IPI Virtualization, 32.7
 * Virtualizing SENDUIPI.
 *
 * The virtual APIC ID selects an entry of a table, the entry a posted-interrupt descriptor; the
 * processor sets the vector's bit there, and sends a notification to the processor that the
 * descriptor names, unless one is outstanding or they are suppressed. What cannot be sent so is an
 * APIC-write exit for offset 300H. A guest starts it by a write of the ICR, in memory or as MSR
 * 830H, or by SENDUIPI.
 *
 * The notifications here go to the processor itself, which does not take them: they are pending
 * afterwards.
 */
#include "cpu/features.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/virtual_apic.h"

BEFORE_EACH_CASE(vmx_start);

#define IPI		VMX, TPR_SHADOW, PROC3(IPI_VIRTUALIZATION), APIC
#define IPI_XAPIC	IPI, PROC2(VIRTUALIZE_APIC_ACCESSES)
#define IPI_X2APIC	IPI, PROC2(VIRTUALIZE_X2APIC_MODE), PROC1(USE_MSR_BITMAPS)

#define TARGET		5u	/* a virtual APIC ID */
#define LAST		7u	/* the highest that the table has */
#define VECTOR		0x61u
#define NOTIFICATION	0x71u
#define MSR_ICR		0x830
#define APIC_WRITE	OUTCOME_EXIT(EXIT_APIC_WRITE)

/* Table 32-1. */
struct descriptor {
	u64 requests[4];
	u64 notification;	/* ON, SN; NV in bits 23:16, NDST in 63:32 */
	u64 reserved[3];
};
#define ON		BIT(0)
#define SN		BIT(1)
#define NV(vector)	((u64)(vector) << 16)
#define NDST(id)	((u64)(id) << 32)
#define ENTRY_VALID	BIT(0)

static struct virtual_apic apic;
static u64 *table;
static struct descriptor *descriptor;

/* 32.1.6.2: in xAPIC mode the ID is in bits 15:8 of NDST. */
static u64 to_this_processor(void)
{
	return NV(NOTIFICATION) | NDST(apic_mode() == APIC_X2APIC ? apic_id() : apic_id() << 8);
}

static void start(void)
{
	virtual_apic_start(&apic);
	table = page_alloc();
	descriptor = page_alloc();
	descriptor->notification = to_this_processor();
	table[TARGET] = physical(descriptor) | ENTRY_VALID;
	vmcs_set_control(CONTROL_PROC3_IPI_VIRTUALIZATION);
	vmwrite(PID_POINTER_TABLE_ADDRESS, physical(table));
	vmwrite(LAST_PID_POINTER_INDEX, LAST);
}

/* --- the two ways of the ICR -------------------------------------------------------------- */

GUEST_INSTRUCTION(write_icr, "movq guest_value, %rbx; movl guest_value2, %eax",
		  "movl %eax, (%rbx)");
GUEST_INSTRUCTION(wrmsr_icr, "movl $0x830, %ecx; movl guest_value, %eax; movl guest_value2, %edx",
		  "wrmsr");

static void start_xapic(void)
{
	start();
	virtual_apic_map(&apic);
}

static outcome_t send_xapic(u32 command, u32 target)
{
	*virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND_HIGH) = target << 24;
	guest_value = VIRTUAL_APIC_LINEAR + APIC_INTERRUPT_COMMAND;
	guest_value2 = command;
	return enter(guest_write_icr.run);
}

static void start_x2apic(void)
{
	start();
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_X2APIC_MODE);
}

static outcome_t send_x2apic(u32 command, u32 target)
{
	guest_value = command;
	guest_value2 = target;
	return enter(guest_wrmsr_icr.run);
}

struct way {
	void (*start)(void);
	outcome_t (*send)(u32 command, u32 target);
};

static const struct way xapic = { start_xapic, send_xapic };
static const struct way x2apic = { start_x2apic, send_x2apic };

#define BOTH_WAYS(name, ...)							\
	static void name(const struct case_def *this_case);			\
	CASE_RUN(name##_by_xapic, name, PROVES(__VA_ARGS__), NEEDS(IPI_XAPIC), ROW(&xapic));	\
	CASE_RUN(name##_by_x2apic, name, PROVES(__VA_ARGS__), NEEDS(IPI_X2APIC), ROW(&x2apic));	\
	static void name(const struct case_def *this_case)

/* --- what is posted ----------------------------------------------------------------------- */

static bool is_requested(u8 vector)
{
	return descriptor->requests[vector / 64] & BIT(vector % 64);
}

static bool is_notified(void)
{
	return apic_vector_bit(APIC_INTERRUPT_REQUEST, NOTIFICATION);
}

static void expect_exit(outcome_t outcome)
{
	EXPECT(outcome, APIC_WRITE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), APIC_INTERRUPT_COMMAND);
	EXPECT_FALSE(is_requested(VECTOR));
	EXPECT_FALSE(is_notified());
}

BOTH_WAYS(ipi_is_posted, "interruptibility:ipi.post", "field-formats:pid_pointer.address",
	  "field-formats:posted_interrupt.nv", "field-formats:posted_interrupt.ndst",
	  "interruptibility:x2apic.write.830")
{
	const struct way *way = this_case->row;

	way->start();
	EXPECT(way->send(VECTOR, TARGET), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	EXPECT_TRUE(is_requested(VECTOR));
	EXPECT_EQ(descriptor->notification, to_this_processor() | ON);
	EXPECT_TRUE(is_notified());
	EXPECT_EQ(*virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND), VECTOR);
}

BOTH_WAYS(outstanding_notification_is_not_sent_again, "interruptibility:ipi.post")
{
	const struct way *way = this_case->row;

	way->start();
	descriptor->notification |= ON;
	EXPECT(way->send(VECTOR, TARGET), GUEST_DONE);
	EXPECT_TRUE(is_requested(VECTOR));
	EXPECT_EQ(descriptor->notification, to_this_processor() | ON);
	EXPECT_FALSE(is_notified());
}

BOTH_WAYS(suppressed_notification_is_not_sent, "interruptibility:ipi.post",
	  "field-formats:posted_interrupt.sn")
{
	const struct way *way = this_case->row;

	way->start();
	descriptor->notification |= SN;
	EXPECT(way->send(VECTOR, TARGET), GUEST_DONE);
	EXPECT_TRUE(is_requested(VECTOR));
	EXPECT_EQ(descriptor->notification, to_this_processor() | SN);
	EXPECT_FALSE(is_notified());
}

/* --- what exits --------------------------------------------------------------------------- */

BOTH_WAYS(vector_below_16, "interruptibility:ipi.vector")
{
	const struct way *way = this_case->row;

	way->start();
	expect_exit(way->send(15, TARGET));
	EXPECT_EQ(descriptor->requests[0], 0);
	EXPECT(way->send(16, TARGET), GUEST_DONE);
	EXPECT_EQ(descriptor->requests[0], BIT(16));
}

BOTH_WAYS(target_beyond_the_table, "interruptibility:ipi.range")
{
	const struct way *way = this_case->row;

	way->start();
	table[LAST] = table[LAST + 1] = physical(descriptor) | ENTRY_VALID;
	expect_exit(way->send(VECTOR, LAST + 1));
	expect_exit(way->send(VECTOR, 0xff));
	EXPECT(way->send(VECTOR, LAST), GUEST_DONE);
	EXPECT_TRUE(is_requested(VECTOR));
}

BOTH_WAYS(entry_that_is_wrong, "interruptibility:ipi.entry", "field-formats:pid_pointer.valid",
	  "field-formats:pid_pointer.reserved")
{
	const struct way *way = this_case->row;
	u64 wrong = BITS(5, 1) | (BITS(63, 0) & ~(BIT(maxphyaddr()) - 1)), bit;

	way->start();
	table[TARGET] = physical(descriptor);
	expect_exit(way->send(VECTOR, TARGET));
	for (; wrong; wrong &= ~bit) {
		bit = wrong & -wrong;
		table[TARGET] = physical(descriptor) | ENTRY_VALID | bit;
		expect_exit(way->send(VECTOR, TARGET));
	}
}

/* Shorthands, level-triggered, logical, and every other delivery mode than fixed. */
BOTH_WAYS(other_commands_exit, "interruptibility:x2apic.write.830")
{
	static const u32 commands[] = {
		ICR_TO_SELF, ICR_TO_ALL, ICR_TO_OTHERS, BIT(15), ICR_LOGICAL, 1 << 8, 2 << 8,
		ICR_NMI, ICR_INIT, ICR_STARTUP, 7 << 8,
	};
	const struct way *way = this_case->row;
	u32 i;

	way->start();
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		expect_exit(way->send(commands[i] | VECTOR, TARGET));
}

/* 32.5: bits 31:20, 17:16 and 13. Bit 12 is none of them, and exits. */
CASE(reserved_bits_of_the_msr, PROVES("interruptibility:x2apic.write.830"), NEEDS(IPI_X2APIC))
{
	u64 reserved = BITS(31, 20) | BITS(17, 16) | BIT(13), bit;

	start_x2apic();
	for (; reserved; reserved &= ~bit) {
		bit = reserved & -reserved;
		EXPECT(send_x2apic(bit | VECTOR, TARGET), GUEST_DONE);
		EXPECT(guest_outcome(), OUTCOME_GP0);
	}
	expect_exit(send_x2apic(BIT(12) | VECTOR, TARGET));
}

/* --- SENDUIPI: 32.7 ----------------------------------------------------------------------- */

GUEST_CODE(senduipi, "", ".byte 0xf3, 0x0f, 0xc7, 0xf0");	/* %rax */
#define UINTR		VMX, CPU(UINTR), APIC

/* Volume 3, Table 9-1, and 9.6: an entry of the target table; the user vector is in bits 15:8. */
static struct {
	u64 flags, requests;	/* ON, SN; NV in bits 23:16, NDST in 63:32 */
} __attribute__((aligned(64))) upid;
static struct {
	u64 flags, upid;
} __attribute__((aligned(16))) target;

#define USER_VECTOR	9

static void prepare_senduipi(u64 notification)
{
	upid.flags = notification;
	upid.requests = 0;
	target.flags = BIT(0) | USER_VECTOR << 8;
	target.upid = (u64)&upid;
	wrmsr(IA32_UINTR_TT, (u64)&target | BIT(0));
	wrmsr(IA32_UINTR_MISC, 0);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_UINTR);
	guest_regs()->rax = 0;
}

static void expect_user_request(void)
{
	EXPECT_EQ(upid.flags & BITS(1, 0), ON);
	EXPECT_EQ(upid.requests, BIT(USER_VECTOR));
}

/* 1. Without "use TPR shadow" the APIC itself sends it. */
CASE(senduipi_without_tpr_shadow, PROVES("interruptibility:senduipi"), NEEDS(UINTR))
{
	prepare_senduipi(to_this_processor());
	EXPECT(enter_at_instruction(&guest_senduipi), GUEST_DONE);
	expect_user_request();
	EXPECT_TRUE(is_notified());
}

/* 2. and 4.: the ICR of x2APIC mode is written, and exits. */
CASE(senduipi_with_tpr_shadow, PROVES("interruptibility:senduipi"), NEEDS(UINTR, TPR_SHADOW))
{
	virtual_apic_start(&apic);
	prepare_senduipi(NV(VECTOR) | NDST(0x12345678));
	EXPECT(enter_at_instruction(&guest_senduipi), APIC_WRITE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), APIC_INTERRUPT_COMMAND);
	expect_user_request();
	EXPECT_EQ(*(volatile u64 *)virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND),
		  NDST(0x12345678) | VECTOR);
	EXPECT_FALSE(is_notified());
}

/* 3. and 4.: the two halves of the ICR of xAPIC mode; of NDST bits 15:8 count. */
CASE(senduipi_with_virtual_apic_accesses, PROVES("interruptibility:senduipi"),
     NEEDS(UINTR, APIC_ACCESSES))
{
	virtual_apic_start(&apic);
	virtual_apic_map(&apic);
	prepare_senduipi(NV(VECTOR) | NDST(0x12345678));
	EXPECT(enter_at_instruction(&guest_senduipi), APIC_WRITE);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), APIC_INTERRUPT_COMMAND);
	expect_user_request();
	EXPECT_EQ(*virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND_HIGH), 0x56000000);
	EXPECT_EQ(*virtual_apic_register(&apic, APIC_INTERRUPT_COMMAND), VECTOR);
}

/* 2. and 3. with IPI virtualization: no exit, but a virtual IPI. */
static void senduipi_is_virtualized(u64 ndst)
{
	prepare_senduipi(NV(VECTOR) | NDST(ndst));
	EXPECT(enter_at_instruction(&guest_senduipi), GUEST_DONE);
	expect_user_request();
	EXPECT_TRUE(is_requested(VECTOR));
	EXPECT_TRUE(is_notified());
}

CASE(senduipi_as_virtual_ipi, PROVES("interruptibility:senduipi"), NEEDS(UINTR, IPI))
{
	start();
	senduipi_is_virtualized(TARGET);
}

CASE(senduipi_as_virtual_xapic_ipi, PROVES("interruptibility:senduipi"), NEEDS(UINTR, IPI_XAPIC))
{
	start_xapic();
	senduipi_is_virtualized(TARGET << 8);
}
