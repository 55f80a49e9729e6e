/*
 * A guest's accesses to its APIC in memory: 32.4 Virtualizing Memory-Mapped APIC Accesses.
 *
 * With "virtualize APIC accesses" an access to the APIC-access page does not reach that page. It
 * exits, or the virtual-APIC page stands in for it: which registers do depends on "use TPR shadow",
 * "APIC-register virtualization" and "virtual-interrupt delivery" (32.4.2, 32.4.3.1). What a write
 * does besides follows when the instruction is done: it may exit, too, as an APIC write (32.4.3.2,
 * 32.4.3.3). Accesses of more than 32 bits, or not to the low 4 bytes of 16, and fetches exit
 * always.
 *
 * The sweeps make one access to each of the 256 registers, and judge it by the lists of 32.4.
 */
#include "ept/ept.h"
#include "mmu/pages.h"
#include "vmx/guest.h"
#include "vmx/virtual_apic.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(read_1, "", "movb (%rdi), %al");
GUEST_CODE(read_2, "", "movw (%rdi), %ax");
GUEST_CODE(read_4, "", "movl (%rdi), %eax");
GUEST_CODE(read_8, "", "movq (%rdi), %rax");
GUEST_CODE(write_1, "", "movb %al, (%rdi)");
GUEST_CODE(write_2, "", "movw %ax, (%rdi)");
GUEST_CODE(write_4, "", "movl %eax, (%rdi)");
GUEST_CODE(write_8, "", "movq %rax, (%rdi)");
GUEST_CODE(fetch, "", "jmp *%rdi");
GUEST_CODE(prefetch, "", "prefetcht0 (%rdi)");
GUEST_CODE(clflush, "", "clflush (%rdi)");
GUEST_CODE(int_n_20, "", "int $0x20");

#define ACCESS_EXIT	OUTCOME_EXIT(EXIT_APIC_ACCESS)
#define WRITE_EXIT	OUTCOME_EXIT(EXIT_APIC_WRITE)

/* Table 30-6, bits 15:12. */
enum access_type {
	LINEAR_READ		= 0,
	LINEAR_WRITE		= 1,
	LINEAR_FETCH		= 2,
	LINEAR_DELIVERY		= 3,
	PHYSICAL_DELIVERY	= 10,
	PHYSICAL_EXECUTION	= 15,
};
#define QUALIFICATION(type, offset)	((u64)(type) << 12 | (offset))
/* Of guest-physical accesses the offset is undefined. */
#define QUALIFICATION_TYPE	(BITS(15, 12) | BIT(16))

/* What the virtual-APIC page holds, and what is written. */
#define HELD(offset)	(0x10203000u + (offset))
#define WRITTEN		0xa1b2c3d4u

/* --- configurations ----------------------------------------------------------------------- */

struct configuration {
	bool tpr_shadow, registers, delivery;
};

static void start(struct virtual_apic *apic, const struct configuration *with)
{
	u32 offset;

	virtual_apic_start(apic);
	virtual_apic_map(apic);
	if (!with->tpr_shadow)
		vmcs_clear_control(CONTROL_PROC1_USE_TPR_SHADOW);
	if (with->registers)
		vmcs_set_control(CONTROL_PROC2_APIC_REGISTER_VIRTUALIZATION);
	if (with->delivery)
		virtual_apic_deliver();
	for (offset = 0; offset < PAGE_SIZE; offset += 16)
		*virtual_apic_register(apic, offset) = HELD(offset);
	/* Nothing is below a TPR threshold of 0; nothing is in service. */
	*virtual_apic_register(apic, APIC_TASK_PRIORITY) = HELD(0x80) & 0xff;
}

static const struct configuration plain = { 0 };
static const struct configuration tpr_shadow = { .tpr_shadow = true };
static const struct configuration registers = { .tpr_shadow = true, .registers = true };
static const struct configuration delivery = { .tpr_shadow = true, .delivery = true };
static const struct configuration registers_and_delivery = {
	.tpr_shadow = true, .registers = true, .delivery = true,
};

#define REGISTERS	PROC2(APIC_REGISTER_VIRTUALIZATION)
#define DELIVERY	PROC2(VIRTUAL_INTERRUPT_DELIVERY), PIN(EXTERNAL_INTERRUPT_EXITING)
#define NEEDS_PLAIN	NEEDS(VMX, APIC_ACCESSES)
#define NEEDS_REGISTERS	NEEDS(VMX, APIC_ACCESSES, REGISTERS)
#define NEEDS_DELIVERY	NEEDS(VMX, APIC_ACCESSES, DELIVERY)
#define NEEDS_BOTH	NEEDS(VMX, APIC_ACCESSES, REGISTERS, DELIVERY)

/* --- the lists of 32.4.2 and 32.4.3.1 --------------------------------------------------------- */

/* Registers of "APIC-register virtualization" that can be read and written, and those only read. */
static bool is_register(u32 offset)
{
	switch (offset) {
	case 0x020:
	case 0x080:
	case 0x0b0:
	case 0x0d0:
	case 0x0e0:
	case 0x0f0:
	case 0x280:
	case 0x300:
	case 0x310:
	case 0x380:
	case 0x3e0:
		return true;
	}
	return offset >= 0x320 && offset <= 0x370;
}

static bool is_read_only_register(u32 offset)
{
	return offset == 0x030 || (offset >= 0x100 && offset <= 0x270);
}

static bool is_virtualized(const struct configuration *with, u32 offset, bool write)
{
	if (!with->tpr_shadow)
		return false;
	if (offset == 0x080 || (with->delivery && (offset == 0x0b0 || offset == 0x300)))
		return true;
	return with->registers &&
	       (is_register(offset) || (!write && is_read_only_register(offset)));
}

/* --- sweeps ----------------------------------------------------------------------------------- */

static outcome_t access(const struct guest_code *code, u32 offset, u64 rax)
{
	guest_regs()->rdi = VIRTUAL_APIC_LINEAR + offset;
	guest_regs()->rax = rax;
	return enter_at_instruction(code);
}

static bool expect_access_exit(u32 offset, const struct guest_code *code, u64 rax,
			       enum access_type type)
{
	return EXPECT(access(code, offset, rax), ACCESS_EXIT) &&
	       EXPECT_EQ(vmread(EXIT_QUALIFICATION), QUALIFICATION(type, offset)) &&
	       EXPECT_EQ(vmread(GUEST_RIP), (u64)code->at);
}

static void note_register(u32 offset)
{
	if (case_failed())
		case_note("register", "%#x", offset);
}

static void check_reads(const struct case_def *this_case)
{
	const struct configuration *with = this_case->row;
	struct virtual_apic apic;
	u32 offset;

	start(&apic, with);
	for (offset = 0; offset < PAGE_SIZE && !case_failed(); offset += 16) {
		if (!is_virtualized(with, offset, false)) {
			expect_access_exit(offset, &guest_read_4, 0, LINEAR_READ);
		} else {
			EXPECT(access(&guest_read_4, offset, 0), GUEST_DONE);
			EXPECT_EQ(guest_regs()->rax, *virtual_apic_register(&apic, offset));
		}
		note_register(offset);
	}
}

/* What 32.4.3.2 makes of the value that has been written, and whether it exits. */
static void expect_write_emulation(const struct virtual_apic *apic,
				   const struct configuration *with, u32 offset)
{
	outcome_t outcome = WRITE_EXIT;
	u32 value = WRITTEN;

	if (offset == 0x080) {
		outcome = GUEST_DONE;
		value = WRITTEN & 0xff;
	} else if (offset == 0x310) {
		outcome = GUEST_DONE;
		value = WRITTEN & 0xff000000;
	} else if (offset == 0x0b0 && with->delivery) {
		outcome = GUEST_DONE;
		value = 0;
	}
	if (!EXPECT(access(&guest_write_4, offset, WRITTEN), outcome))
		return;
	EXPECT_EQ(*virtual_apic_register(apic, offset), value);
	if (outcome != WRITE_EXIT)
		return;
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), offset);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_write_4.end);
}

static void check_writes(const struct case_def *this_case)
{
	const struct configuration *with = this_case->row;
	struct virtual_apic apic;
	u32 offset, held;

	start(&apic, with);
	for (offset = 0; offset < PAGE_SIZE && !case_failed(); offset += 16) {
		held = *virtual_apic_register(&apic, offset);
		if (is_virtualized(with, offset, true)) {
			expect_write_emulation(&apic, with, offset);
		} else {
			expect_access_exit(offset, &guest_write_4, WRITTEN, LINEAR_WRITE);
			EXPECT_EQ(*virtual_apic_register(&apic, offset), held);
		}
		EXPECT_EQ(*(u32 *)(apic.access_page + offset), 0);
		note_register(offset);
	}
}

CASE_RUN(reads_without_tpr_shadow, check_reads,
	 PROVES("interruptibility:apicacc.read.exit", "exit-reasons:44",
		"exit-qualifications:apic_access.offset", "exit-qualifications:apic_access.read"),
	 NEEDS_PLAIN, ROW(&plain));
CASE_RUN(reads_with_tpr_shadow, check_reads,
	 PROVES("interruptibility:apicacc.read.080", "interruptibility:apicacc.read.exit"),
	 NEEDS_PLAIN, ROW(&tpr_shadow));
CASE_RUN(reads_with_register_virtualization, check_reads,
	 PROVES("interruptibility:apicacc.read.reg", "interruptibility:apicacc.read.390"),
	 NEEDS_REGISTERS, ROW(&registers));
CASE_RUN(reads_with_interrupt_delivery, check_reads, PROVES("interruptibility:apicacc.read.vid"),
	 NEEDS_DELIVERY, ROW(&delivery));
CASE_RUN(reads_with_both, check_reads,
	 PROVES("interruptibility:apicacc.read.reg", "interruptibility:apicacc.read.vid"),
	 NEEDS_BOTH, ROW(&registers_and_delivery));
CASE_RUN(writes_without_tpr_shadow, check_writes,
	 PROVES("interruptibility:apicacc.write.other", "exit-qualifications:apic_access.write"),
	 NEEDS_PLAIN, ROW(&plain));
CASE_RUN(writes_with_tpr_shadow, check_writes,
	 PROVES("interruptibility:apicacc.write.080", "interruptibility:apicacc.write.other"),
	 NEEDS_PLAIN, ROW(&tpr_shadow));
CASE_RUN(writes_with_register_virtualization, check_writes,
	 PROVES("interruptibility:apicacc.write.reg", "interruptibility:apicacc.write.0b0_noreg",
		"interruptibility:apicacc.write.310", "interruptibility:apicwrite.trap",
		"interruptibility:apicacc.write.300", "exit-reasons:56",
		"exit-qualifications:apic_write.offset", "exit-qualifications:apic_write.reserved"),
	 NEEDS_REGISTERS, ROW(&registers));
CASE_RUN(writes_with_interrupt_delivery, check_writes,
	 PROVES("interruptibility:apicacc.write.300", "interruptibility:apicacc.write.other"),
	 NEEDS_DELIVERY, ROW(&delivery));
CASE_RUN(writes_with_both, check_writes, PROVES("interruptibility:apicacc.write.reg"),
	 NEEDS_BOTH, ROW(&registers_and_delivery));

CASE(page_is_memory_without_the_control, PROVES("exit-reasons:44"), NEEDS_PLAIN)
{
	struct virtual_apic apic;

	start(&apic, &tpr_shadow);
	vmcs_clear_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	EXPECT(access(&guest_write_4, 0x80, WRITTEN), GUEST_DONE);
	EXPECT_EQ(*(u32 *)(apic.access_page + 0x80), WRITTEN);
}

/* --- width and place -------------------------------------------------------------------------- */

struct shape {
	const struct guest_code *code;
	u32 offset;
	bool write, exits;
	u32 value;		/* what is read, or what is in the page after the write */
};

static void check_shape(const struct case_def *this_case)
{
	const struct shape *shape = this_case->row;
	struct virtual_apic apic;

	start(&apic, &registers);
	*virtual_apic_register(&apic, APIC_LVT_TIMER) = 0x11223344;
	if (shape->exits) {
		expect_access_exit(shape->offset, shape->code, WRITTEN,
				   shape->write ? LINEAR_WRITE : LINEAR_READ);
		EXPECT_EQ(*virtual_apic_register(&apic, APIC_LVT_TIMER), 0x11223344);
	} else if (shape->write) {
		EXPECT(access(shape->code, shape->offset, WRITTEN), WRITE_EXIT);
		EXPECT_EQ(vmread(EXIT_QUALIFICATION), shape->offset);
		EXPECT_EQ(*virtual_apic_register(&apic, APIC_LVT_TIMER), shape->value);
	} else {
		EXPECT(access(shape->code, shape->offset, 0), GUEST_DONE);
		EXPECT_EQ(guest_regs()->rax, shape->value);
	}
}

#define SHAPE(name, ...)							\
	CASE_RUN(name, check_shape, PROVES("interruptibility:apicacc.width"), NEEDS_REGISTERS, \
		 ROW((&(const struct shape){ __VA_ARGS__ })))
SHAPE(read_of_1_byte, &guest_read_1, 0x320, false, false, 0x44);
SHAPE(read_of_the_last_byte, &guest_read_1, 0x323, false, false, 0x11);
SHAPE(read_of_the_upper_2_bytes, &guest_read_2, 0x322, false, false, 0x1122);
SHAPE(read_of_8_bytes, &guest_read_8, 0x320, false, true, 0);
SHAPE(read_of_byte_4, &guest_read_1, 0x324, false, true, 0);
SHAPE(read_of_byte_15, &guest_read_1, 0x32f, false, true, 0);
SHAPE(read_of_byte_8_to_11, &guest_read_4, 0x328, false, true, 0);
SHAPE(write_of_1_byte, &guest_write_1, 0x320, true, false, 0x112233d4);
SHAPE(write_of_the_upper_2_bytes, &guest_write_2, 0x322, true, false, 0xc3d43344);
SHAPE(write_of_8_bytes, &guest_write_8, 0x320, true, true, 0);
SHAPE(write_to_byte_4, &guest_write_1, 0x324, true, true, 0);
SHAPE(write_to_byte_12, &guest_write_4, 0x32c, true, true, 0);

/* --- other accesses --------------------------------------------------------------------------- */

CASE(fetch_exits, PROVES("interruptibility:apicacc.fetch", "exit-qualifications:apic_access.fetch"),
     NEEDS_REGISTERS)
{
	struct virtual_apic apic;

	start(&apic, &registers);
	EXPECT(access(&guest_fetch, 0x80, 0), ACCESS_EXIT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), QUALIFICATION(LINEAR_FETCH, 0x80));
	EXPECT_EQ(vmread(GUEST_RIP), VIRTUAL_APIC_LINEAR + 0x80);
}

/* 30.2.4: the exit is during the delivery of INT 20H, whose length is saved. */
static void expect_delivery(u64 qualification, u64 mask)
{
	EXPECT(enter_at_instruction(&guest_int_n_20), ACCESS_EXIT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & mask, qualification);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12), BIT(31) | 4 << 8 | 0x20);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), guest_int_n_20.end - guest_int_n_20.at);
}

CASE(idt_in_the_page, PROVES("exit-qualifications:apic_access.event_delivery",
     "host-and-exit:exit.qualification.access_type"), NEEDS_REGISTERS)
{
	struct virtual_apic apic;

	start(&apic, &registers);
	vmwrite(GUEST_IDTR_BASE, VIRTUAL_APIC_LINEAR);
	expect_delivery(QUALIFICATION(LINEAR_DELIVERY, 0x200), ~0ull);
}

CASE(prefetch_does_not_exit, PROVES("interruptibility:apicacc.prefetch"), NEEDS_PLAIN)
{
	struct virtual_apic apic;

	start(&apic, &plain);
	EXPECT(access(&guest_prefetch, 0x80, 0), GUEST_DONE);
}

/* 32.4.4: it may exit, and then as a read. */
CASE(clflush_is_a_read, PROVES("interruptibility:apicacc.clflush"), NEEDS_PLAIN)
{
	struct virtual_apic apic;
	outcome_t outcome;

	start(&apic, &plain);
	outcome = access(&guest_clflush, 0x80, 0);
	EXPECT(outcome, ACCESS_EXIT, GUEST_DONE);
	if (outcome == ACCESS_EXIT)
		EXPECT_EQ(vmread(EXIT_QUALIFICATION) & BITS(15, 12), QUALIFICATION(LINEAR_READ, 0));
}

/* --- priority --------------------------------------------------------------------------------- */

CASE(page_fault_comes_first, PROVES("interruptibility:apicacc.priority"), NEEDS_PLAIN)
{
	struct virtual_apic apic;

	start(&apic, &plain);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	*apic.guest_pte &= ~PTE_P;
	EXPECT(access(&guest_read_4, 0x80, 0), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), VIRTUAL_APIC_LINEAR + 0x80);
}

/* 32.4.1: the flags of the guest's own tables are set before the exit. */
CASE(flags_are_set_before_the_exit, PROVES("interruptibility:apicacc.priority"), NEEDS_PLAIN)
{
	struct virtual_apic apic;

	start(&apic, &plain);
	expect_access_exit(0x80, &guest_read_4, 0, LINEAR_READ);
	EXPECT_EQ(*apic.guest_pte & (PTE_A | PTE_D), PTE_A);
	expect_access_exit(0x80, &guest_write_4, 0, LINEAR_WRITE);
	EXPECT_EQ(*apic.guest_pte & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* Guest-physical addresses equal physical ones; that of the page is mapped by an EPT PTE. */
static u64 *map_by_ept(const struct virtual_apic *apic, struct ept *ept)
{
	u64 address = physical(apic->access_page);

	ept_start(ept, 0);
	return ept_map(ept, address, address, ept->all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
}

CASE(access_with_ept, PROVES("exit-reasons:44"), NEEDS(VMX, APIC_ACCESSES, REGISTERS, EPT))
{
	struct virtual_apic apic;
	struct ept ept;

	start(&apic, &registers);
	map_by_ept(&apic, &ept);
	EXPECT(access(&guest_read_4, 0x80, 0), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rax, *virtual_apic_register(&apic, 0x80));
	expect_access_exit(0x90, &guest_read_4, 0, LINEAR_READ);
}

CASE(ept_violation_comes_first, PROVES("interruptibility:apicacc.priority"),
     NEEDS(VMX, APIC_ACCESSES, EPT))
{
	struct virtual_apic apic;
	struct ept ept;

	start(&apic, &plain);
	*map_by_ept(&apic, &ept) = 0;
	EXPECT(access(&guest_read_4, 0x80, 0), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), physical(apic.access_page) + 0x80);
}

/* --- accesses that are none to the linear address --------------------------------------------- */

#define TABLE_LINEAR	0x234567890000ull

/* The page table of TABLE_LINEAR is in the APIC-access page. */
static void put_a_table_there(struct virtual_apic *apic)
{
	u64 *pde;

	space_map(&apic->guest, TABLE_LINEAR, physical(page_alloc()), PTE_P | PTE_RW, LEVEL_PTE);
	pde = space_entry(&apic->guest, TABLE_LINEAR, LEVEL_PDE);
	*pde = physical(apic->access_page) | PTE_P | PTE_RW;
}

CASE(guest_page_table_in_the_page, PROVES("interruptibility:apicacc.gpa",
     "exit-qualifications:apic_access.guest_physical"), NEEDS(VMX, APIC_ACCESSES, REGISTERS, EPT))
{
	struct virtual_apic apic;
	struct ept ept;

	start(&apic, &registers);
	map_by_ept(&apic, &ept);
	put_a_table_there(&apic);
	guest_regs()->rdi = TABLE_LINEAR;
	EXPECT(enter_at_instruction(&guest_read_4), ACCESS_EXIT);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & QUALIFICATION_TYPE,
		  QUALIFICATION(PHYSICAL_EXECUTION, 0));
}

CASE(guest_page_table_in_the_page_at_delivery, PROVES("interruptibility:apicacc.gpa",
     "exit-qualifications:apic_access.guest_physical_event_delivery"),
     NEEDS(VMX, APIC_ACCESSES, REGISTERS, EPT))
{
	struct virtual_apic apic;
	struct ept ept;

	start(&apic, &registers);
	map_by_ept(&apic, &ept);
	put_a_table_there(&apic);
	vmwrite(GUEST_IDTR_BASE, TABLE_LINEAR);
	expect_delivery(QUALIFICATION(PHYSICAL_DELIVERY, 0), QUALIFICATION_TYPE);
}
