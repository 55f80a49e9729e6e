/*
 * The core: task switches, where it alone decides (28.4.2 Treatment of Task Switches): what a TSS
 * may hold that no processor loads, tables where no memory is, what was blocked before. What a
 * guest sees of tasks otherwise is in guest/tasks.
 */
#include "cpu/features.h"
#include "hv/box.h"
#include "string.h"

#define TSS_OLD		0xc000
#define TSS_NEW		0xc100
#define TASKS_GDT	0xffc0		/* eight descriptors; behind them the memory ends */
#define SELECTOR_OLD	0x28
#define SELECTOR_NEW	0x30
#define SELECTOR_SHORT	0x38		/* a segment of 16 bytes */
#define SELECTOR_NOWHERE 0x40
#define NEW_CODE	0x8100
#define NEW_STACK	0xb800
#define GATE_VECTOR	0x20
#define SHADOW_POOL	300		/* pages */

enum { TYPE_16_BIT = 1, TYPE_32_BIT = 9, TYPE_BUSY = 2 };

/* As doublewords of a 32-bit TSS: 10.2.1, Figure 10-2. */
enum { TSS_CR3 = 7, TSS_EIP, TSS_EFLAGS, TSS_EAX, TSS_ESP = 14, TSS_ES = 18, TSS_CS, TSS_SS,
       TSS_DS };

static struct box box;

static u32 *new_tss(void)
{
	return (u32 *)(box.memory + TSS_NEW);
}

static u64 tss_descriptor(u64 base, u64 type, u64 limit)
{
	return limit | base << 16 | (0x80 | type) << 40;
}

static void set_descriptor(u16 selector, u64 descriptor)
{
	*box_at(&box, TASKS_GDT + selector) = descriptor;
}

/* A 32-bit guest in the old task; the new one begins at NEW_CODE. */
static void start_on(const struct hv_mmu *mmu, u32 pages, const struct box_guest *guest)
{
	struct kvm_sregs sregs;
	u32 *tss, i;

	box_start_on(&box, mmu, pages, guest);
	tss = new_tss();
	tss[TSS_EIP] = NEW_CODE;
	tss[TSS_EFLAGS] = RFLAGS_FIXED;
	tss[TSS_ESP] = NEW_STACK;
	for (i = 0; i < 6; i++)
		tss[TSS_ES + i] = i == 1 ? SELECTOR_CODE32 : SELECTOR_DATA;
	memcpy(box.memory + TASKS_GDT, box.memory + BOX_GDT, SELECTOR_OLD);
	set_descriptor(SELECTOR_OLD, tss_descriptor(TSS_OLD, TYPE_32_BIT | TYPE_BUSY, 103));
	set_descriptor(SELECTOR_NEW, tss_descriptor(TSS_NEW, TYPE_32_BIT, 103));
	/* Data, writable, 32 bits. */
	set_descriptor(SELECTOR_SHORT, 0x0040930000000000 | 15);
	sregs = box_sregs(&box);
	sregs.gdt = (struct kvm_dtable){ .base = TASKS_GDT, .limit = SELECTOR_NOWHERE + 7 };
	sregs.tr = (struct kvm_segment){ .base = TSS_OLD, .limit = 103, .selector = SELECTOR_OLD,
					 .type = TYPE_32_BIT | TYPE_BUSY, .present = 1 };
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
}

static void start(const struct box_guest *guest)
{
	hv_start(page_alloc());
	start_on(&hv_mmu_ept, BOX_POOL, guest);
}

/* A task gate (10.2.5) for an event. */
static void set_gate(u8 vector)
{
	*box_at(&box, BOX_IDT + 8 * vector) = (u64)SELECTOR_NEW << 16 | 0x85ull << 40;
}

/* At NEW_CODE: HLT, and back. */
#define NEW_TASK(name)	"\n\t hlt\n\t .org box_" #name " + 0x100\n\t hlt\n\t iret"

BOX_GUEST_32(call_guest, "lcall $0x30, $0" NEW_TASK(call_guest));
BOX_GUEST_32(ud_guest, "ud2" NEW_TASK(ud_guest));
BOX_GUEST_32(gp_guest, "mov $0x100, %eax\n\t mov %eax, %ds" NEW_TASK(gp_guest));
BOX_GUEST_32(int_guest, "int $0x20" NEW_TASK(int_guest));
BOX_GUEST_32(hlt_guest, "hlt" NEW_TASK(hlt_guest));

static void expect_new_task(void)
{
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_sregs(&box).tr.selector, SELECTOR_NEW);
	EXPECT_EQ(box_regs(&box).rip, NEW_CODE + 1);
}

/* 29.3.1.4: a VM entry would refuse the reserved bits. */
CASE(reserved_flags_of_a_tss, PROVES("guest-instructions:task.switch"), NEEDS(BOX_NEEDS))
{
	start(&call_guest);
	new_tss()[TSS_EFLAGS] = ~(u32)(RFLAGS_VM | RFLAGS_TF | RFLAGS_IF);
	expect_new_task();
	EXPECT_EQ(box_regs(&box).rflags & (BIT(15) | BIT(5) | BIT(3) | BIT(1)), RFLAGS_FIXED);
	EXPECT_EQ(box_regs(&box).rflags >> 22, 0);
}

/*
 * 29.3.1.5: nor would it take blocking by STI with IF = 0. Bochs 2.7 is none to see it on: the case
 * passes there without set_blocking() of the core, too.
 */
CASE(switch_behind_sti, PROVES("interruptibility:sti.block"), NEEDS(BOX_NEEDS))
{
	struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_SHADOW };
	struct kvm_regs regs;

	start(&call_guest);
	regs = box_regs(&box);
	regs.rflags |= RFLAGS_IF;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	REQUIRE_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	expect_new_task();
}

/* All ones are a segment of code that may be read: base FFFFFFFFH. */
CASE(descriptor_in_no_memory, PROVES("guest-instructions:task.switch"), NEEDS(BOX_NEEDS))
{
	start(&call_guest);
	new_tss()[TSS_ES] = SELECTOR_NOWHERE;
	expect_new_task();
	EXPECT_EQ(box_sregs(&box).es.base, 0xffffffff);
	EXPECT_EQ(box_sregs(&box).es.limit, 0xffffffff);
	EXPECT_EQ(box_sregs(&box).es.type, 15);
}

/* A table of descriptors that ends at the last linear address goes on at 0: a missing page. */
CASE(descriptor_behind_the_last_address, PROVES("guest-instructions:task.switch"),
     NEEDS(BOX_NEEDS))
{
	const u64 top = BIT(32) - SELECTOR_NOWHERE;
	struct kvm_sregs sregs;

	start(&call_guest);
	memcpy(box_add_memory(&box, 1, top & PAGE_MASK, PAGE_SIZE, 0) + (top & ~PAGE_MASK),
	       box.memory + TASKS_GDT, SELECTOR_NOWHERE);
	sregs = box_sregs(&box);
	sregs.gdt.base = top;
	box_start_paging_32(&box, &sregs);
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	new_tss()[TSS_CR3] = sregs.cr3;
	new_tss()[TSS_ES] = SELECTOR_NOWHERE;
	EXPECT_VECTOR(&box, VECTOR_PF);
	EXPECT_EQ(box_sregs(&box).cr2, 0);
}

/* A TSS of 16 bits has no CR3 (10.6), and its tables are those of the task before. */
CASE(tss_of_16_bits_keeps_cr3, PROVES("guest-instructions:task.cr3"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;
	u16 *tss;

	start(&call_guest);
	memset(new_tss(), 0, 104);
	tss = (u16 *)new_tss();
	tss[7] = NEW_CODE;
	tss[8] = RFLAGS_FIXED;
	tss[13] = NEW_STACK;
	tss[17] = tss[19] = tss[20] = SELECTOR_DATA;
	tss[18] = SELECTOR_CODE32;
	set_descriptor(SELECTOR_NEW, tss_descriptor(TSS_NEW, TYPE_16_BIT, 43));
	*box_at(&box, BOX_TABLES) = PTE_P | PTE_RW | PTE_PS;
	sregs = box_sregs(&box);
	sregs.cr3 = BOX_TABLES;
	sregs.cr4 |= CR4_PSE;
	sregs.cr0 |= CR0_PG;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_new_task();
	EXPECT_EQ(box_sregs(&box).cr3, BOX_TABLES);
}

/* Only the busy flag of the new TSS changes: the descriptor of the old one is not used. */
CASE(call_without_a_descriptor_of_the_old_task, PROVES("guest-instructions:task.switch"),
     NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	start(&call_guest);
	sregs = box_sregs(&box);
	sregs.gdt.limit = 0x37;
	sregs.tr.selector = SELECTOR_NOWHERE;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_new_task();
	EXPECT_EQ(*(u16 *)new_tss(), SELECTOR_NOWHERE);
}

/* --- control-flow enforcement: not emulated --------------------------------------------------- */

/* 10.2.1: the new task would have a shadow stack of its own. `s_cet`: IA32_S_CET. */
static void check_cet(const struct case_def *this_case)
{
	static const struct kvm_cpuid_entry2 features = {
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ecx = BIT(7), .edx = BIT(20),
	};
	union {
		struct kvm_msrs msrs;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} all = { .msrs.nmsrs = 1 };
	struct kvm_sregs sregs;

	start(&call_guest);
	box_set_cpuid(&box, features);
	set_descriptor(SELECTOR_NEW, tss_descriptor(TSS_NEW, TYPE_32_BIT, 107));
	sregs = box_sregs(&box);
	sregs.cr0 |= CR0_WP;
	sregs.cr4 |= CR4_CET;
	sregs.tr.limit = 107;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	all.msrs.entries[0] = (struct kvm_msr_entry){
		.index = IA32_S_CET, .data = *(const u64 *)this_case->row,
	};
	REQUIRE_EQ(hv_vcpu_set_msrs(&box.vcpu, &all.msrs), 1);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(box_sregs(&box).tr.selector, SELECTOR_OLD);
	EXPECT_EQ(box_regs(&box).rip, BOX_CODE);
}

#define CET_CASE(id, s_cet)								\
	CASE_RUN(id, check_cet, PROVES("kvm-exits:17"),					\
		 NEEDS(BOX_NEEDS, CPU(CET_SS), CPU(CET_IBT), ENTRY_CTL(LOAD_CET_STATE)),	\
		 ROW((&(const u64){ s_cet })))

CET_CASE(switch_with_shadow_stacks_fails, CET_SH_STK_EN);
CET_CASE(switch_with_branch_tracking_fails, CET_ENDBR_EN);

/* --- the error code of what goes wrong: 7.13 -------------------------------------------------- */

static void check_error(const struct box_guest *guest, u8 vector, u32 error)
{
	start(guest);
	set_gate(vector);
	new_tss()[TSS_DS] = 0x7b;
	EXPECT_VECTOR(&box, VECTOR_TS);
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp), error);
}

CASE(bad_segment_of_the_handler_of_an_exception, PROVES("guest-instructions:task.ec"),
     NEEDS(BOX_NEEDS))
{
	check_error(&ud_guest, VECTOR_UD, 0x78 | BIT(0));
}

CASE(bad_segment_of_the_handler_of_int_n, PROVES("guest-instructions:task.ec"), NEEDS(BOX_NEEDS))
{
	check_error(&int_guest, GATE_VECTOR, 0x78);
}

/* The error code does not fit on the stack, and neither does any other exception. */
CASE(error_code_beyond_the_stack, PROVES("guest-instructions:task.ec"), NEEDS(BOX_NEEDS))
{
	start(&gp_guest);
	set_gate(VECTOR_GP);
	new_tss()[TSS_SS] = SELECTOR_SHORT;
	EXPECT_EXIT(box_run(&box), KVM_EXIT_SHUTDOWN);
}

/* --- what is wrong with a segment of the new task is its own exception: 10.3 ------------------ */

#define SELECTOR_USER	(SELECTOR_SHORT | 3)	/* code of CPL 3 instead of that segment */
#define PDPT		0xd000

static void expect_error(u8 vector, u32 error)
{
	EXPECT_VECTOR(&box, vector);
	EXPECT_EQ(box_sregs(&box).tr.selector, SELECTOR_NEW);
	EXPECT_EQ(box_sregs(&box).cs.selector, SELECTOR_CODE32);
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp), error);
}

/* The handler of another privilege level has a stack from the TSS. */
static void give_stack_0(void)
{
	new_tss()[1] = NEW_STACK - 0x100;
	new_tss()[2] = SELECTOR_DATA;
}

CASE(null_cs_of_the_new_task, PROVES("guest-instructions:task.switch"), NEEDS(BOX_NEEDS))
{
	start(&call_guest);
	new_tss()[TSS_CS] = 0;
	expect_error(VECTOR_TS, 0);
	/* The CS that is pushed is that of the new task. */
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp + 8), 0);
}

CASE(null_ss_of_a_user_task, PROVES("guest-instructions:task.switch"), NEEDS(BOX_NEEDS))
{
	start(&call_guest);
	give_stack_0();
	set_descriptor(SELECTOR_SHORT, 0x00cffb000000ffff);
	new_tss()[TSS_CS] = SELECTOR_USER;
	new_tss()[TSS_SS] = 0;
	expect_error(VECTOR_TS, 0);
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp + 8), SELECTOR_USER);
	/* From privilege level 3: the stack is the one for level 0, with SS and ESP of the task. */
	EXPECT_EQ(box_regs(&box).rsp, NEW_STACK - 0x100 - 6 * sizeof(u32));
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp + 20), 0);
}

/*
 * 27.4.1: the DPL of SS is CPL, in the new task before SS is loaded as well. Bochs 2.7 and 3.0 do
 * not compare it with that of CS (29.3.1.2), so it shows only when the delivery of the fault does
 * not come to an end: the stack for level 0 is in no memory.
 */
CASE(level_of_a_user_task_with_a_null_ss, PROVES("guest-instructions:task.switch"),
     NEEDS(BOX_NEEDS))
{
	start(&call_guest);
	give_stack_0();
	new_tss()[1] = BOX_MMIO;
	set_descriptor(SELECTOR_SHORT, 0x00cffb000000ffff);
	new_tss()[TSS_CS] = SELECTOR_USER;
	new_tss()[TSS_SS] = 0;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	EXPECT_EQ(box_sregs(&box).cs.selector, SELECTOR_USER);
	EXPECT_EQ(box_sregs(&box).cs.dpl, 3);
	EXPECT_EQ(box_sregs(&box).ss.dpl, 3);
}

static void start_virtual_8086(void)
{
	start(&call_guest);
	give_stack_0();
	new_tss()[TSS_EFLAGS] = RFLAGS_FIXED | RFLAGS_VM;
}

CASE(virtual_8086_task_with_a_bad_ldt, PROVES("guest-instructions:task.switch"), NEEDS(BOX_NEEDS))
{
	start_virtual_8086();
	new_tss()[24] = 0x78;
	expect_error(VECTOR_TS, 0x78);
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp + 12) & RFLAGS_VM, RFLAGS_VM);
}

/* 5.4.1: a PDPTE with bit 1 set. */
CASE(virtual_8086_task_with_bad_pdptes, PROVES("guest-instructions:task.cr3"), NEEDS(BOX_NEEDS))
{
	struct kvm_sregs sregs;

	start_virtual_8086();
	*box_at(&box, PDPT) = (BOX_TABLES + 2 * PAGE_SIZE) | PTE_P;
	*box_at(&box, PDPT + 32) = (BOX_TABLES + 2 * PAGE_SIZE) | PTE_P | PTE_RW;
	box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[0] = PTE_P | PTE_RW | PTE_PS;
	new_tss()[7] = PDPT + 32;
	sregs = box_sregs(&box);
	sregs.cr3 = PDPT;
	sregs.cr4 |= CR4_PAE;
	sregs.cr0 |= CR0_PG;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_error(VECTOR_GP, 0);
	EXPECT_EQ(*(u32 *)box_at(&box, box_regs(&box).rsp + 12) & RFLAGS_VM, RFLAGS_VM);
}

/*
 * CR3 is the new one, what translates are the PDPTEs of before. The handler is in a page of user
 * mode, which a supervisor may execute but not read (CR4.SMAP): with shadow paging only
 * IA32_EFER.NXE, which is the core's own there, tells the one from the other.
 */
CASE(bad_pdptes_with_shadow_paging, PROVES("guest-instructions:task.cr3"), NEEDS(VMX, CPU(SMAP)))
{
	static const struct kvm_cpuid_entry2 features = {
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = BIT(20),
	};
	struct kvm_sregs sregs;
	u64 i;

	hv_start(page_alloc());
	start_on(&hv_mmu_shadow, SHADOW_POOL, &call_guest);
	box_set_cpuid(&box, features);
	*box_at(&box, PDPT) = (BOX_TABLES + PAGE_SIZE) | PTE_P;
	*box_at(&box, PDPT + 32) = (BOX_TABLES + PAGE_SIZE) | PTE_P | PTE_RW;
	memset(box.memory + BOX_TABLES + PAGE_SIZE, 0, 2 * PAGE_SIZE);
	*box_at(&box, BOX_TABLES + PAGE_SIZE) =
		(BOX_TABLES + 2 * PAGE_SIZE) | PTE_P | PTE_RW | PTE_US;
	for (i = 0; i < BOX_SIZE / PAGE_SIZE; i++)
		box_at(&box, BOX_TABLES + 2 * PAGE_SIZE)[i] =
			i * PAGE_SIZE | PTE_P | PTE_RW |
			(i == BOX_HANDLERS / PAGE_SIZE ? PTE_US : 0);
	new_tss()[TSS_CR3] = PDPT + 32;
	sregs = box_sregs(&box);
	sregs.cr3 = PDPT;
	sregs.cr4 |= CR4_PAE | CR4_SMAP;
	sregs.cr0 |= CR0_PG;
	REQUIRE_EQ(hv_vcpu_set_sregs(&box.vcpu, &sregs), 0);
	expect_error(VECTOR_GP, 0);
	EXPECT_EQ(box_sregs(&box).cr3, PDPT + 32);
}

/* --- NMIs: 7.7.1 Handling Multiple NMIs ------------------------------------------------------- */

static bool nmis_masked(void)
{
	struct kvm_vcpu_events events;

	REQUIRE_EQ(hv_vcpu_get_events(&box.vcpu, &events), 0);
	return events.nmi.masked;
}

/*
 * Bochs 2.7 has the blocking in the state that it saves: the case passes there without
 * set_blocking() of the core, too.
 */
CASE(nmi_by_a_task_gate, PROVES("interruptibility:nmi.iret.virtual"), NEEDS(BOX_NEEDS))
{
	start(&hlt_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	set_gate(VECTOR_NMI);
	REQUIRE_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	expect_new_task();
	EXPECT_TRUE(nmis_masked());
	/* IRET goes back to the NOP behind the first HLT. */
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_sregs(&box).tr.selector, SELECTOR_OLD);
	EXPECT_TRUE(!nmis_masked());
}
