/*
 * A guest's accesses to its APIC by CR8 and by MSRs: 32.3 Virtualizing CR8-Based TPR Accesses, 32.5
 * Virtualizing MSR-Based APIC Accesses, and the TPR threshold of 32.1.2 TPR Virtualization.
 *
 * With "use TPR shadow" CR8 is bits 7:4 of VTPR, offset 80H of the virtual-APIC page. A write that
 * takes them below the TPR threshold exits when the instruction is done, unless there is
 * "virtual-interrupt delivery". With "virtualize x2APIC mode" RDMSR and WRMSR of some MSRs from
 * 800H to 8FFH access that page, in whatever mode the processor's own APIC is. An MSR bitmap comes
 * first.
 */
#include "vmx/guest.h"
#include "vmx/virtual_apic.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(read_cr8, "", "movq %cr8, %rax");
GUEST_CODE(write_cr8, "", "movq %rax, %cr8");
GUEST_INSTRUCTION(rdmsr, "movl guest_value, %ecx; movl $0x5a5a5a5a, %eax; movl %eax, %edx",
		  "rdmsr");
GUEST_INSTRUCTION(wrmsr, "movl guest_value, %ecx; movl guest_value2, %eax; "
			 "movl guest_value2 + 4, %edx", "wrmsr");
GUEST_CODE(nop, "", "nop");

#define BELOW_THRESHOLD	OUTCOME_EXIT(EXIT_TPR_BELOW_THRESHOLD)
#define WRITE_EXIT	OUTCOME_EXIT(EXIT_APIC_WRITE)

#define VTPR(apic)	(*virtual_apic_register(&(apic), APIC_TASK_PRIORITY))

/* --- CR8 ------------------------------------------------------------------------------------ */

static outcome_t write_tpr(u64 cr8)
{
	guest_regs()->rax = cr8;
	return enter_at_instruction(&guest_write_cr8);
}

CASE(cr8_is_bits_7_to_4_of_vtpr, PROVES("interruptibility:tpr.cr8.read"), NEEDS(VMX, TPR_SHADOW))
{
	struct virtual_apic apic;
	u32 i;

	virtual_apic_start(&apic);
	for (i = 0; i < 16; i++) {
		VTPR(apic) = i << 4 | 0xf;
		guest_regs()->rax = ~0ull;
		EXPECT(enter_at_instruction(&guest_read_cr8), GUEST_DONE);
		EXPECT_EQ(guest_regs()->rax, i);
	}
}

CASE(cr8_sets_vtpr, PROVES("interruptibility:tpr.cr8.write"), NEEDS(VMX, TPR_SHADOW))
{
	struct virtual_apic apic;
	u64 own = read_cr8();
	u32 i;

	virtual_apic_start(&apic);
	for (i = 0; i < 16; i++) {
		VTPR(apic) = 0xffffffff;
		EXPECT(write_tpr(i), GUEST_DONE);
		EXPECT_EQ(VTPR(apic), i << 4);
	}
	EXPECT_EQ(read_cr8(), own);
}

/* --- the TPR threshold ------------------------------------------------------------------------ */

static void start_with_threshold(struct virtual_apic *apic, u32 vtpr, u32 threshold)
{
	virtual_apic_start(apic);
	VTPR(*apic) = vtpr;
	vmwrite(TPR_THRESHOLD, threshold);
}

CASE(below_the_threshold_exits, PROVES("exit-reasons:43", "interruptibility:tpr.threshold"),
     NEEDS(VMX, TPR_SHADOW))
{
	struct virtual_apic apic;
	u32 i;

	for (i = 0; i < 5; i++) {
		start_with_threshold(&apic, 0x50, 5);
		EXPECT(write_tpr(i), BELOW_THRESHOLD);
		EXPECT_EQ(VTPR(apic), i << 4);
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_write_cr8.end);
		EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0);
	}
}

CASE(at_the_threshold_does_not_exit, PROVES("interruptibility:tpr.threshold_equal"),
     NEEDS(VMX, TPR_SHADOW))
{
	struct virtual_apic apic;
	u32 i;

	for (i = 5; i < 16; i++) {
		start_with_threshold(&apic, 0x50, 5);
		EXPECT(write_tpr(i), GUEST_DONE);
	}
}

CASE(no_threshold_with_interrupt_delivery, PROVES("interruptibility:tpr.threshold"),
     NEEDS(VMX, VIRTUAL_INTERRUPTS))
{
	struct virtual_apic apic;

	start_with_threshold(&apic, 0x50, 5);
	virtual_apic_deliver();
	EXPECT(write_tpr(4), GUEST_DONE);
	EXPECT_EQ(VTPR(apic), 0x40);
}

/*
 * 29.7.7 VM Exits Induced by the TPR Threshold: right after the entry, whatever RFLAGS.IF and the
 * interruptibility state say. Only "virtualize APIC accesses" lets an entry have VTPR below it.
 */
static void check_entry_below(u32 blocking, u32 activity)
{
	struct virtual_apic apic;

	start_with_threshold(&apic, 0x40, 5);
	virtual_apic_map(&apic);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	vmwrite(GUEST_ACTIVITY_STATE, activity);
	EXPECT(enter_at_instruction(&guest_nop), BELOW_THRESHOLD);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_nop.at);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), blocking);
}

CASE(entry_below_the_threshold, PROVES("interruptibility:tpr.entry", "exit-reasons:43"),
     NEEDS(VMX, APIC_ACCESSES))
{
	check_entry_below(0, ACTIVITY_ACTIVE);
}

CASE(entry_below_the_threshold_behind_mov_ss, PROVES("interruptibility:tpr.entry"),
     NEEDS(VMX, APIC_ACCESSES))
{
	check_entry_below(BLOCKING_BY_MOV_SS, ACTIVITY_ACTIVE);
}

CASE(entry_below_the_threshold_in_hlt, PROVES("interruptibility:tpr.entry"),
     NEEDS(VMX, APIC_ACCESSES, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	/* A guest that sleeps on is ended. */
	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100000);
	check_entry_below(0, ACTIVITY_HLT);
}

/* --- x2APIC mode ------------------------------------------------------------------------------ */

#define X2APIC_MODE	TPR_SHADOW, PROC2(VIRTUALIZE_X2APIC_MODE), PROC1(USE_MSR_BITMAPS)
#define REGISTERS	PROC2(APIC_REGISTER_VIRTUALIZATION)
#define MSR_OF(offset)	(0x800u + (offset) / 16)

/* No access to an MSR exits by itself. */
static void start_x2apic(struct virtual_apic *apic)
{
	virtual_apic_start(apic);
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_X2APIC_MODE);
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
}

static outcome_t read_msr(u32 msr)
{
	guest_value = msr;
	return enter(guest_rdmsr.run);
}

static outcome_t write_msr(u32 msr, u64 value)
{
	guest_value = msr;
	guest_value2 = value;
	return enter(guest_wrmsr.run);
}

static u64 edx_eax(void)
{
	return guest_regs()->rdx << 32 | (u32)guest_regs()->rax;
}

static void expect_read(u32 msr, u64 value)
{
	EXPECT(read_msr(msr), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
	if (!EXPECT_EQ(edx_eax(), value))
		case_note("msr", "%#x", msr);
}

static void expect_write(u32 msr, u64 value)
{
	EXPECT(write_msr(msr, value), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}

static void expect_write_fault(u32 msr, u64 value)
{
	EXPECT(write_msr(msr, value), GUEST_DONE);
	if (!EXPECT(guest_outcome(), OUTCOME_GP0))
		case_note("msr", "%#x of %#lx", msr, value);
}

static void fill(const struct virtual_apic *apic)
{
	u32 offset;

	for (offset = 0; offset < PAGE_SIZE; offset += 4)
		*virtual_apic_register(apic, offset) = 0x11000000 + offset;
	VTPR(*apic) = 0x50;
}

/* 8 bytes, although the processor's own APIC is in xAPIC mode: there are no such MSRs then. */
CASE(rdmsr_808_reads_vtpr, PROVES("interruptibility:x2apic.read.808"), NEEDS(VMX, X2APIC_MODE))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	fill(&apic);
	expect_read(0x808, 0x1100008400000050);
}

static void expect_own_apic_only(u32 skip)
{
	u32 msr;

	for (msr = 0x800; msr <= 0x8ff && !case_failed(); msr++) {
		if (msr == skip)
			continue;
		EXPECT(read_msr(msr), GUEST_DONE);
		if (!EXPECT(guest_outcome(), OUTCOME_GP0))
			case_note("msr", "%#x", msr);
	}
}

CASE(other_msrs_are_those_of_the_processor, PROVES("interruptibility:x2apic.read.noreg"),
     NEEDS(VMX, X2APIC_MODE, APIC))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	expect_own_apic_only(0x808);
}

CASE(without_the_control_all_msrs_are, PROVES("interruptibility:x2apic.read.808"),
     NEEDS(VMX, X2APIC_MODE, APIC))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	vmcs_clear_control(CONTROL_PROC2_VIRTUALIZE_X2APIC_MODE);
	expect_own_apic_only(0);
}

CASE(register_virtualization_reads_all, PROVES("interruptibility:x2apic.read.reg"),
     NEEDS(VMX, X2APIC_MODE, REGISTERS))
{
	struct virtual_apic apic;
	u32 msr, offset;

	start_x2apic(&apic);
	vmcs_set_control(CONTROL_PROC2_APIC_REGISTER_VIRTUALIZATION);
	fill(&apic);
	for (msr = 0x800; msr <= 0x8ff && !case_failed(); msr++) {
		offset = (msr & 0xff) << 4;
		expect_read(msr, *(volatile u64 *)(apic.page + offset));
	}
}

CASE(wrmsr_808_sets_vtpr, PROVES("interruptibility:x2apic.write.808"), NEEDS(VMX, X2APIC_MODE))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	fill(&apic);
	expect_write(0x808, 0xa7);
	EXPECT_EQ(*(volatile u64 *)(apic.page + 0x80), 0xa7);
	expect_write_fault(0x808, BIT(8));
	expect_write_fault(0x808, BIT(31));
	expect_write_fault(0x808, BIT(32));
	expect_write_fault(0x808, BIT(63));
	EXPECT_EQ(VTPR(apic), 0xa7);
}

CASE(wrmsr_808_below_the_threshold_exits, PROVES("interruptibility:x2apic.write.808",
     "exit-reasons:43"), NEEDS(VMX, X2APIC_MODE))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	VTPR(apic) = 0x50;
	vmwrite(TPR_THRESHOLD, 5);
	EXPECT(write_msr(0x808, 0x4f), BELOW_THRESHOLD);
	EXPECT_EQ(VTPR(apic), 0x4f);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_wrmsr.end);
}

CASE(msr_bitmap_comes_first, PROVES("interruptibility:x2apic.bitmap"), NEEDS(VMX, X2APIC_MODE))
{
	struct virtual_apic apic;

	start_x2apic(&apic);
	intercept_msr(0x808, MSR_READ, true);
	intercept_msr(0x808, MSR_WRITE, true);
	VTPR(apic) = 0x50;
	EXPECT(read_msr(0x808), OUTCOME_EXIT(EXIT_RDMSR));
	EXPECT(write_msr(0x808, 0x60), OUTCOME_EXIT(EXIT_WRMSR));
	EXPECT_EQ(VTPR(apic), 0x50);
}

/* --- x2APIC mode with virtual interrupts ------------------------------------------------------ */

#define X2APIC_INTERRUPTS	X2APIC_MODE, PROC2(VIRTUAL_INTERRUPT_DELIVERY), \
				PIN(EXTERNAL_INTERRUPT_EXITING)

static void start_x2apic_interrupts(struct virtual_apic *apic)
{
	start_x2apic(apic);
	virtual_apic_deliver();
}

CASE(wrmsr_80b_ends_the_interrupt, PROVES("interruptibility:x2apic.write.80b"),
     NEEDS(VMX, X2APIC_INTERRUPTS))
{
	struct virtual_apic apic;

	start_x2apic_interrupts(&apic);
	virtual_apic_set_vector(&apic, APIC_IN_SERVICE, 0x51);
	virtual_apic_set_vector(&apic, APIC_IN_SERVICE, 0x31);
	vmwrite(GUEST_INTERRUPT_STATUS, INTERRUPT_STATUS(0, 0x51));
	expect_write_fault(0x80b, 1);
	expect_write_fault(0x80b, BIT(32));
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(0, 0x51));
	expect_write(0x80b, 0);
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(0, 0x31));
	EXPECT_FALSE(virtual_apic_vector(&apic, APIC_IN_SERVICE, 0x51));
	EXPECT_TRUE(virtual_apic_vector(&apic, APIC_IN_SERVICE, 0x31));
}

CASE(wrmsr_83f_sends_to_itself, PROVES("interruptibility:x2apic.write.83f"),
     NEEDS(VMX, X2APIC_INTERRUPTS))
{
	struct virtual_apic apic;

	start_x2apic_interrupts(&apic);
	expect_write_fault(0x83f, BIT(8));
	expect_write_fault(0x83f, BIT(31));
	expect_write_fault(0x83f, BIT(32));
	expect_write(0x83f, 0x51);
	EXPECT_TRUE(virtual_apic_vector(&apic, APIC_INTERRUPT_REQUEST, 0x51));
	EXPECT_EQ(vmread(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS(0x51, 0));
}

CASE(wrmsr_83f_of_a_vector_below_16_exits, PROVES("interruptibility:x2apic.write.83f",
     "exit-qualifications:apic_write.offset"), NEEDS(VMX, X2APIC_INTERRUPTS))
{
	struct virtual_apic apic;

	start_x2apic_interrupts(&apic);
	EXPECT(write_msr(0x83f, 0xf), WRITE_EXIT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), 0x3f0);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_wrmsr.end);
	EXPECT_EQ(*virtual_apic_register(&apic, APIC_SELF_IPI), 0xf);
}
