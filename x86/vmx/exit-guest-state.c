/*
 * What a VM entry loads of the guest state, and what the next VM exit saves of it: 29.3.2 Loading
 * Guest State, 30.3 Saving Guest State.
 *
 * A field alone proves nothing, a processor that neither loads nor saves would leave it as it is.
 * So the guest itself reads the register that the entry has loaded, or changes it before the exit
 * saves it. Every guest ends with CPUID.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/control_rules.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");

static void run(const struct guest_code *code)
{
	REQUIRE(enter_at_instruction(code), OUTCOME_EXIT(EXIT_CPUID));
}

/* --- MSRs --------------------------------------------------------------------------------- */

GUEST_CODE(read_msr, "", "rdmsr; cpuid");
GUEST_CODE(write_msr, "", "wrmsr; cpuid");

struct msr_row {
	u32 msr, field;
	u64 loaded, written;
	enum control load, save;	/* CONTROL_NONE: always */
	enum vmcs_index index;
};

static void start_msr(const struct msr_row *row)
{
	u64 value;

	REQUIRE(rdmsr_safe(row->msr, &value), OUTCOME_DONE);
	/* A control can load more than one register. */
	vmcs_fill_fields_of_controls();
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	if (row->load != CONTROL_NONE)
		vmcs_set_control(row->load);
	if (row->save != CONTROL_NONE)
		vmcs_set_control(row->save);
	vmwrite(row->field, row->loaded);
	guest_regs()->rcx = row->msr;
	guest_regs()->rax = row->written & BITS(31, 0);
	guest_regs()->rdx = row->written >> 32;
}

static void msr_is_loaded(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;

	start_msr(row);
	run(&guest_read_msr);
	EXPECT_EQ(guest_regs()->rdx << 32 | guest_regs()->rax, row->loaded);
}

static void msr_is_saved(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;

	start_msr(row);
	audit_guest_changes_index(row->index);
	run(&guest_write_msr);
	EXPECT_EQ(vmread(row->field), row->written);
}

static void msr_is_not_saved(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;

	start_msr(row);
	vmcs_clear_control(row->save);
	audit_guest_changes_index(row->index);
	run(&guest_write_msr);
	EXPECT_EQ(vmread(row->field), row->loaded);
}

/* Without the entry control the guest has the value of the host. */
static void msr_is_not_loaded(const struct case_def *this_case)
{
	const struct msr_row *row = this_case->row;
	u64 host = rdmsr(row->msr);

	start_msr(row);
	vmcs_clear_control(row->load);
	run(&guest_read_msr);
	EXPECT_EQ(guest_regs()->rdx << 32 | guest_regs()->rax, host);
}

#define MSR(name, FIELD, msr, load_fact, save_fact, needs, loaded, written, load, save)	\
	static const struct msr_row row_##name = {					\
		msr, FIELD, loaded, written, load, save, INDEX_##FIELD };		\
	CASE_RUN(name##_is_loaded, msr_is_loaded, PROVES("host-and-exit:" load_fact),	\
		 NEEDS needs, ROW(&row_##name));					\
	CASE_RUN(name##_is_saved, msr_is_saved, PROVES("host-and-exit:" save_fact),	\
		 NEEDS needs, ROW(&row_##name))
#define OPTIONAL_LOAD(name, needs)							\
	CASE_RUN(name##_is_not_loaded, msr_is_not_loaded,				\
		 PROVES("host-and-exit:entry.load.optional_keep"), NEEDS needs, ROW(&row_##name))
#define OPTIONAL_SAVE(name, needs)							\
	CASE_RUN(name##_is_not_saved, msr_is_not_saved,					\
		 PROVES("host-and-exit:save.not_when_clear"), NEEDS needs, ROW(&row_##name))
#define BITMAPS		VMX, PROC1(USE_MSR_BITMAPS)
#include "exit-guest-state.def"

/* LMA and LME follow "IA-32e mode guest" where the MSR is not loaded; the host has both. */
CASE(efer_mode_without_load_control, PROVES("host-and-exit:entry.load.efer_lma",
     "host-and-exit:entry.load.efer_lme"), NEEDS(BITMAPS))
{
	u32 *directory = page_alloc();
	u32 i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | 0x83;
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_clear_control(CONTROL_ENTRY_LOAD_IA32_EFER);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~CR4_PAE) | CR4_PSE);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	guest_regs()->rcx = IA32_EFER;
	run(&guest_read_msr);
	EXPECT_EQ(guest_regs()->rax & (EFER_LMA | EFER_LME), 0);
}

/* --- control and debug registers ---------------------------------------------------------- */

GUEST_CODE(read_control_registers, "", "mov %cr0, %rax; mov %cr3, %rbx; mov %cr4, %rcx; cpuid");
GUEST_CODE(write_control_registers, "", "mov %rax, %cr0; mov %rbx, %cr3; mov %rdx, %cr4; cpuid");

static void clear_cr3_exiting(void)
{
	vmcs_clear_control(CONTROL_PROC1_CR3_LOAD_EXITING);
	vmcs_clear_control(CONTROL_PROC1_CR3_STORE_EXITING);
	if (capabilities()->must_be_1[CONTROL_FIELD_PROC1] & BITS(16, 15))
		case_skip("the 0-settings of \"CR3-load exiting\" and \"CR3-store exiting\"");
}

/* The bits that an entry leaves alone are all 1 in the field, as far as they may be. */
CASE(control_registers_are_loaded,
     PROVES("host-and-exit:entry.load.cr0", "host-and-exit:entry.load.cr3_cr4"), NEEDS(VMX))
{
	const u64 kept = CR0_NW | CR0_CD | BITS(15, 6) | BIT(17) | BITS(28, 19);
	u64 *pml4 = page_alloc_copy((void *)(read_cr3() & PAGE_MASK));
	u64 cr0 = read_cr0() ^ (CR0_TS | CR0_AM), cr4 = read_cr4() ^ (CR4_TSD | CR4_DE);

	clear_cr3_exiting();
	vmwrite(GUEST_CR0, (cr0 & ~CR0_ET) | (kept & capabilities()->cr0_fixed1));
	vmwrite(GUEST_CR3, physical(pml4));
	vmwrite(GUEST_CR4, cr4);
	run(&guest_read_control_registers);
	EXPECT_EQ(guest_regs()->rax, cr0);
	EXPECT_EQ(guest_regs()->rbx, physical(pml4));
	EXPECT_EQ(guest_regs()->rcx, cr4);
}

CASE(control_registers_are_saved, PROVES("host-and-exit:save.cr"), NEEDS(VMX))
{
	u64 *pml4 = page_alloc_copy((void *)(read_cr3() & PAGE_MASK));
	u64 cr0 = read_cr0() ^ (CR0_TS | CR0_AM), cr4 = read_cr4() ^ (CR4_TSD | CR4_DE);

	clear_cr3_exiting();
	audit_guest_changes(GUEST_CR0);
	audit_guest_changes(GUEST_CR3);
	audit_guest_changes(GUEST_CR4);
	guest_regs()->rax = cr0;
	guest_regs()->rbx = physical(pml4);
	guest_regs()->rdx = cr4;
	run(&guest_write_control_registers);
	EXPECT_EQ(vmread(GUEST_CR0), cr0);
	EXPECT_EQ(vmread(GUEST_CR3), physical(pml4));
	EXPECT_EQ(vmread(GUEST_CR4), cr4);
}

GUEST_CODE(read_dr7, "", "mov %dr7, %rax; cpuid");
GUEST_CODE(write_dr7, "", "mov %rax, %dr7; cpuid");

static void clear_mov_dr_exiting(void)
{
	vmcs_clear_control(CONTROL_PROC1_MOV_DR_EXITING);
}

/* Bits 12, 14 and 15 are 0 and bit 10 is 1, whatever the field has. */
CASE(dr7_is_loaded, PROVES("host-and-exit:entry.load.dr7"),
     NEEDS(VMX, ENTRY_CTL(LOAD_DEBUG_CONTROLS)))
{
	clear_mov_dr_exiting();
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, BITS(15, 14) | BIT(12) | 0x301);
	run(&guest_read_dr7);
	EXPECT_EQ(guest_regs()->rax, DR7_FIXED | 0x301);
}

/* The default1 class of this control: only processors with TRUE MSRs may have it 0. */
CASE(dr7_is_not_loaded, PROVES("host-and-exit:entry.load.dr7_keep"), NEEDS(VMX))
{
	clear_mov_dr_exiting();
	vmcs_clear_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	if (capabilities()->must_be_1[CONTROL_FIELD_ENTRY] & BIT(2))
		case_skip("the 0-setting of \"load debug controls\"");
	write_dr7(DR7_FIXED | 0x201);
	vmwrite(GUEST_DR7, DR7_FIXED | 0x102);
	run(&guest_read_dr7);
	EXPECT_EQ(guest_regs()->rax, DR7_FIXED | 0x201);
}

CASE(dr7_is_saved, PROVES("host-and-exit:save.debug"), NEEDS(VMX, EXIT_CTL(SAVE_DEBUG_CONTROLS)))
{
	clear_mov_dr_exiting();
	audit_guest_changes(GUEST_DR7);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	guest_regs()->rax = DR7_FIXED | 0x155;
	run(&guest_write_dr7);
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED | 0x155);
}

CASE(dr7_is_not_saved, PROVES("host-and-exit:save.not_when_clear"), NEEDS(VMX))
{
	clear_mov_dr_exiting();
	vmcs_clear_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	if (capabilities()->must_be_1[CONTROL_FIELD_EXIT] & BIT(2))
		case_skip("the 0-setting of \"save debug controls\"");
	guest_regs()->rax = DR7_FIXED | 0x155;
	run(&guest_write_dr7);
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED);
}

/* --- segments ----------------------------------------------------------------------------- */

GUEST_CODE(load_segments, "", "mov %ebx, %ds; mov %ebx, %es; mov %ebx, %fs; mov %ebx, %gs; cpuid");

CASE(segments_are_saved, PROVES("host-and-exit:save.seg"), NEEDS(VMX))
{
	static const struct {
		u32 selector, base, limit, rights;
	} fields[] = {
		{ GUEST_DS_SELECTOR, GUEST_DS_BASE, GUEST_DS_LIMIT, GUEST_DS_ACCESS_RIGHTS },
		{ GUEST_ES_SELECTOR, GUEST_ES_BASE, GUEST_ES_LIMIT, GUEST_ES_ACCESS_RIGHTS },
		{ GUEST_FS_SELECTOR, GUEST_FS_BASE, GUEST_FS_LIMIT, GUEST_FS_ACCESS_RIGHTS },
		{ GUEST_GS_SELECTOR, GUEST_GS_BASE, GUEST_GS_LIMIT, GUEST_GS_ACCESS_RIGHTS },
	};
	u32 i;

	/* Read-only data at 345000H, limit 4F0FFH in pages, DPL 3, AVL; the load sets accessed. */
	cpu_set_descriptor(SELECTOR_SPARE, 0x00d4f0345000f0ffull);
	audit_guest_changes_segments();
	guest_regs()->rbx = SELECTOR_SPARE | 3;
	run(&guest_load_segments);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		EXPECT_EQ(vmread(fields[i].selector), SELECTOR_SPARE | 3);
		EXPECT_EQ(vmread(fields[i].base), 0x345000);
		EXPECT_EQ(vmread(fields[i].limit), 0x4f0fffff);
		EXPECT_EQ(vmread(fields[i].rights), 0xd0f1);
	}
}

CASE(null_segments_are_saved_as_unusable, PROVES("host-and-exit:save.seg_unusable",
     "host-and-exit:save.ds_es_unusable", "host-and-exit:save.seg_reserved"), NEEDS(VMX))
{
	audit_guest_changes_segments();
	guest_regs()->rbx = 0;
	run(&guest_load_segments);
	EXPECT_EQ(vmread(GUEST_DS_SELECTOR), 0);
	EXPECT_EQ(vmread(GUEST_DS_ACCESS_RIGHTS) & (BITS(31, 16) | BITS(11, 8)), RIGHTS_UNUSABLE);
	EXPECT_EQ(vmread(GUEST_DS_BASE) >> 32, 0);
	EXPECT_EQ(vmread(GUEST_ES_ACCESS_RIGHTS) & (BITS(31, 16) | BITS(11, 8)), RIGHTS_UNUSABLE);
	EXPECT_EQ(vmread(GUEST_ES_BASE) >> 32, 0);
}

GUEST_CODE(read_segments, "", "mov %ds, %eax; mov %es, %ebx; mov %fs, %edx; mov %gs, %esi; cpuid");

/* Selectors without a descriptor: only the fields count. */
CASE(segment_selectors_are_loaded, PROVES("host-and-exit:entry.load.seg_usable"), NEEDS(VMX))
{
	vmwrite(GUEST_DS_SELECTOR, 0x4567 & ~3);
	vmwrite(GUEST_ES_SELECTOR, 0x5678 & ~3);
	vmwrite(GUEST_FS_SELECTOR, 0x6789);
	vmwrite(GUEST_GS_SELECTOR, 0x789a);
	run(&guest_read_segments);
	EXPECT_EQ(guest_regs()->rax, 0x4564);
	EXPECT_EQ(guest_regs()->rbx, 0x5678);
	EXPECT_EQ(guest_regs()->rdx, 0x6789);
	EXPECT_EQ(guest_regs()->rsi, 0x789a);
}

/* 29.3.1.2 lets CS have its unusable bit, as long as all else is good; in 64-bit mode it runs. */
CASE(cs_unusable, PROVES("host-and-exit:entry.load.cs_unusable", "host-and-exit:save.cs_unusable"),
     NEEDS(VMX))
{
	const u64 kept = RIGHTS_UNUSABLE | RIGHTS_L | RIGHTS_DB | RIGHTS_G;

	vmwrite(GUEST_CS_BASE, 0x1000);
	vmwrite(GUEST_CS_LIMIT, 0x12345fff);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, vmread(GUEST_CS_ACCESS_RIGHTS) | RIGHTS_UNUSABLE);
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_CS_BASE), 0x1000);
	EXPECT_EQ(vmread(GUEST_CS_LIMIT), 0x12345fff);
	EXPECT_EQ(vmread(GUEST_CS_ACCESS_RIGHTS) & kept, kept & ~RIGHTS_DB);
}

CASE(ss_unusable, PROVES("host-and-exit:entry.load.ss_unusable", "host-and-exit:save.ss_unusable",
     "host-and-exit:entry.load.cpl", "host-and-exit:entry.load.seg_unusable"), NEEDS(VMX))
{
	vmwrite(GUEST_SS_SELECTOR, 0);
	vmwrite(GUEST_SS_ACCESS_RIGHTS, RIGHTS_UNUSABLE);
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_SS_SELECTOR), 0);
	EXPECT_EQ(vmread(GUEST_SS_ACCESS_RIGHTS) & (BITS(31, 16) | BITS(6, 5)), RIGHTS_UNUSABLE);
	EXPECT_EQ(vmread(GUEST_SS_BASE) >> 32, 0);
}

GUEST_CODE(null_ds_read, "", "mov (%rbx), %eax; cpuid");

/* A selector of 0 does not fault where the segment is usable: seen outside 64-bit mode. */
CASE(null_usable_segment_works, PROVES("host-and-exit:entry.load.null_usable"), NEEDS(VMX))
{
	guest_value = 0x12345678;
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	vmwrite(GUEST_DS_SELECTOR, 0);
	guest_regs()->rbx = (u64)&guest_value;
	run(&guest_null_ds_read);
	EXPECT_EQ(guest_regs()->rax, 0x12345678);
}

static struct table_pointer gdtr_of_guest __used, idtr_of_guest __used;

GUEST_CODE(read_tables, "", "sgdt gdtr_of_guest; sidt idtr_of_guest; cpuid");
GUEST_CODE(write_tables, "", "lgdt gdtr_of_guest; lidt idtr_of_guest; cpuid");

CASE(descriptor_tables_are_loaded, PROVES("host-and-exit:entry.load.dt"), NEEDS(VMX))
{
	vmwrite(GUEST_GDTR_BASE, 0xffff800012345678);
	vmwrite(GUEST_GDTR_LIMIT, 0x1234);
	vmwrite(GUEST_IDTR_BASE, 0x7fff12345678);
	vmwrite(GUEST_IDTR_LIMIT, 0x5678);
	run(&guest_read_tables);
	EXPECT_EQ(gdtr_of_guest.base, 0xffff800012345678);
	EXPECT_EQ(gdtr_of_guest.limit, 0x1234);
	EXPECT_EQ(idtr_of_guest.base, 0x7fff12345678);
	EXPECT_EQ(idtr_of_guest.limit, 0x5678);
}

CASE(descriptor_tables_are_saved, PROVES("host-and-exit:save.dt"), NEEDS(VMX))
{
	gdtr_of_guest = (struct table_pointer){ 0x1234, 0xffff800012345678 };
	idtr_of_guest = (struct table_pointer){ 0x5678, 0x7fff12345678 };
	audit_guest_changes(GUEST_GDTR_BASE);
	audit_guest_changes(GUEST_GDTR_LIMIT);
	audit_guest_changes(GUEST_IDTR_BASE);
	audit_guest_changes(GUEST_IDTR_LIMIT);
	run(&guest_write_tables);
	EXPECT_EQ(vmread(GUEST_GDTR_BASE), 0xffff800012345678);
	EXPECT_EQ(vmread(GUEST_GDTR_LIMIT), 0x1234);
	EXPECT_EQ(vmread(GUEST_IDTR_BASE), 0x7fff12345678);
	EXPECT_EQ(vmread(GUEST_IDTR_LIMIT), 0x5678);
}

/* --- RIP, RSP, RFLAGS --------------------------------------------------------------------- */

CASE(rip_rsp_rflags_are_loaded_and_saved, PROVES("host-and-exit:entry.load.rip_rsp_rflags",
     "host-and-exit:save.rflags"), NEEDS(VMX))
{
	const u64 flags = RFLAGS_FIXED | RFLAGS_STATUS | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT |
			  RFLAGS_ID;

	vmwrite(GUEST_RFLAGS, flags);
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	EXPECT_EQ(vmread(GUEST_RFLAGS), flags);
}

/* 30.3.3: a software exception saves the RIP of its instruction, INT3 here. */
GUEST_CODE(int3, "", "int3; cpuid");

CASE(rip_of_a_software_exception,
     PROVES("host-and-exit:save.rip.softexc", "host-and-exit:exit.event.int1"), NEEDS(VMX))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_BP));
	REQUIRE(enter_at_instruction(&guest_int3), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_int3.at);
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION),
		  BIT(31) | EVENT_TYPE_SOFTWARE_EXCEPTION << 8 | VECTOR_BP);
}

CASE(rip_of_a_window, PROVES("host-and-exit:save.rip.window"),
     NEEDS(VMX, PROC1(INTERRUPT_WINDOW_EXITING)))
{
	vmcs_set_control(CONTROL_PROC1_INTERRUPT_WINDOW_EXITING);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_INTERRUPT_WINDOW));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
}

CASE(rip_of_an_instruction, PROVES("host-and-exit:save.rip.instruction", "host-and-exit:exit.ilen"),
     NEEDS(VMX))
{
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
}

/* --- 30.3.4 Saving Non-Register State ----------------------------------------------------- */

GUEST_CODE(sti_cpuid, "", "sti; cpuid");
GUEST_CODE(mov_ss_cpuid, "", "mov %ss, %ebx; mov %ebx, %ss; cpuid");

CASE(blocking_by_sti_is_saved, PROVES("host-and-exit:save.intr.one"), NEEDS(VMX))
{
	run(&guest_sti_cpuid);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_STI);
}

CASE(blocking_by_mov_ss_is_saved,
     PROVES("host-and-exit:save.intr.one", "host-and-exit:save.intr.smi"), NEEDS(VMX))
{
	run(&guest_mov_ss_cpuid);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_MOV_SS);
}

CASE(virtual_nmi_blocking_is_saved, PROVES("host-and-exit:save.intr.vnmi"),
     NEEDS(VMX, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)))
{
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
	run(&guest_cpuid);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
}

/* Each state, ended by the timer, which no state but wait-for-SIPI keeps waiting. */
static void activity_is_loaded(const struct case_def *this_case)
{
	u64 activity = *(const u32 *)this_case->row;

	vmcs_set_control(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
	vmwrite(GUEST_ACTIVITY_STATE, activity);
	if (activity == ACTIVITY_ACTIVE) {
		run(&guest_cpuid);
	} else {
		EXPECT(enter_at_instruction(&guest_cpuid),
		       OUTCOME_EXIT(EXIT_VMX_PREEMPTION_TIMER_EXPIRED));
		EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	}
	EXPECT_EQ(vmread(GUEST_ACTIVITY_STATE), activity);
}

#define ACTIVITY(name, NAME, bit)								\
	static const u32 row_##name = ACTIVITY_##NAME;						\
	CASE_RUN(entry_to_##name, activity_is_loaded, PROVES("host-and-exit:save.activity"),	\
		 NEEDS(VMX, PIN(ACTIVATE_VMX_PREEMPTION_TIMER),					\
		       { "activity state " #name ": IA32_VMX_MISC", need_misc, bit, 0 }),	\
		 ROW(&row_##name))
ACTIVITY(active, ACTIVE, 0);
ACTIVITY(hlt, HLT, BIT(6));
ACTIVITY(shutdown, SHUTDOWN, BIT(7));

/* 30.3.4: cleared, unless MOV SS keeps them from being delivered. */
CASE(pending_debug_exceptions_under_mov_ss, PROVES("host-and-exit:save.pdbg.movss"), NEEDS(VMX))
{
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS | PENDING_ENABLED | BIT(0));
	run(&guest_cpuid);
	/* BS is up to the processor. */
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS) & ~PENDING_BS, PENDING_ENABLED | BIT(0));
}

/* The exit by the debug exception itself says what it was, and leaves nothing pending. */
CASE(delivered_debug_exception_is_not_pending, PROVES("host-and-exit:save.pdbg.clear",
     "host-and-exit:direct.dr6"), NEEDS(VMX))
{
	write_dr6(DR6_FIXED);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DB));
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & (BITS(3, 0) | BITS(14, 13)), BIT(14));
	EXPECT_EQ(read_dr6(), DR6_FIXED);
}

GUEST_CODE(read_missing, "", "mov (%rbx), %eax; cpuid");

CASE(direct_page_fault_leaves_cr2, PROVES("host-and-exit:direct.cr2"), NEEDS(VMX))
{
	write_cr2(0x1234);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	REQUIRE(enter_at_instruction(&guest_read_missing), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXIT_QUALIFICATION), UNMAPPED_ADDRESS);
	EXPECT_EQ(read_cr2(), 0x1234);
}

/* The page fault is delivered, and its delivery faults: the gate is beyond the limit of the IDT. */
CASE(indirect_page_fault_sets_cr2,
     PROVES("host-and-exit:indirect.updates", "host-and-exit:indirect.stack",
	    "host-and-exit:exit.orig.errcode"), NEEDS(VMX))
{
	write_cr2(0x1234);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DF));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	REQUIRE(enter_at_instruction(&guest_read_missing), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_DF);
	EXPECT_EQ(read_cr2(), UNMAPPED_ADDRESS);
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_read_missing.at);
	EXPECT_EQ(vmread(GUEST_CS_SELECTOR), SELECTOR_CODE64);
}

/* A single step is delivered, and its delivery faults: all is as behind a delivery. */
static void break_debug_exception(void)
{
	write_dr6(DR6_FIXED);
	vmcs_set_control(CONTROL_ENTRY_LOAD_DEBUG_CONTROLS);
	vmcs_set_control(CONTROL_EXIT_SAVE_DEBUG_CONTROLS);
	vmwrite(GUEST_DR7, DR7_FIXED | BIT(13));
	vmwrite(GUEST_IA32_DEBUGCTL, BIT(0));
	audit_guest_changes(GUEST_DR7);
	audit_guest_changes(GUEST_IA32_DEBUGCTL);
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
	REQUIRE(enter_at_instruction(&guest_read_missing), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  BIT(31) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_DB);
}

#define BOTH_DEBUG_CONTROLS ENTRY_CTL(LOAD_DEBUG_CONTROLS), EXIT_CTL(SAVE_DEBUG_CONTROLS)

CASE(indirect_debug_exception_updates, PROVES("host-and-exit:indirect.updates"),
     NEEDS(VMX, BOTH_DEBUG_CONTROLS))
{
	break_debug_exception();
	EXPECT_EQ(read_dr6() & BIT(14), BIT(14));
	EXPECT_EQ(vmread(GUEST_DR7), DR7_FIXED);
	EXPECT_EQ(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
	write_dr6(DR6_FIXED);
}

/* 20.4.4: #DB clears the LBR flag. */
CASE(indirect_debug_exception_ends_branch_records, PROVES("host-and-exit:indirect.updates"),
     NEEDS(VMX, BOTH_DEBUG_CONTROLS))
{
	break_debug_exception();
	EXPECT_EQ(vmread(GUEST_IA32_DEBUGCTL), 0);
}

/* The same in the exception bitmap by the first fault: the page fault is the original event. */
CASE(original_event_of_a_fault,
     PROVES("host-and-exit:exit.orig.errcode", "host-and-exit:exit.orig.valid"), NEEDS(VMX))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_GP));
	vmwrite(GUEST_IDTR_LIMIT, 16 * VECTOR_GP + 15);
	guest_regs()->rbx = UNMAPPED_ADDRESS;
	REQUIRE(enter_at_instruction(&guest_read_missing), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  BIT(31) | BIT(11) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_PF);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_ERROR_CODE), 0);
	EXPECT_EQ(read_cr2(), UNMAPPED_ADDRESS);
}

#define NO_MEMORY	0x20000

/*
 * `code` at offset 0 of a segment of 64 KBytes; the code segment has other rights than the rest.
 * The page behind that segment is left out.
 */
static void start_real_mode(const u8 *code, u32 size, u64 code_rights)
{
	struct ept ept;
	u8 *page = page_alloc();
	u32 i;

	ept_start(&ept, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(CR0_PE | CR0_PG));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~CR4_PAE);
	for (i = 0; i < 6; i++) {
		vmwrite(GUEST_ES_SELECTOR + 2 * i, 0x1000);
		vmwrite(GUEST_ES_BASE + 2 * i, 0x10000);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0x93);
	}
	vmwrite(GUEST_CS_ACCESS_RIGHTS, code_rights);
	memcpy(page, code, size);
	ept_map(&ept, 0x10000, physical(page), ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	ept_map(&ept, NO_MEMORY, 0, 0, LEVEL_PTE);
	ept_invalidate(&ept);
	vmwrite(GUEST_RIP, 0);
}

/* 30.2.2: bit 11 is 0 in real-address mode, also for #GP: here by a word at offset FFFFH. */
CASE(no_error_code_in_real_mode, PROVES("host-and-exit:exit.event.errcode"),
     NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST)))
{
	static const u8 code[] = { 0xa1, 0xff, 0xff };	/* mov ax, [0xffff] */

	start_real_mode(code, sizeof(code), 0x93);
	vmwrite(EXCEPTION_BITMAP, BITS(31, 0));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION),
		  BIT(31) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_GP);
}

/* 30.2.4: likewise the #GP whose delivery exits, because the interrupt vectors are no memory. */
CASE(original_event_in_real_mode,
     PROVES("host-and-exit:exit.orig.errcode", "host-and-exit:exit.orig.valid"),
     NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST)))
{
	static const u8 code[] = { 0xa1, 0xff, 0xff };	/* mov ax, [0xffff] */

	start_real_mode(code, sizeof(code), 0x93);
	vmwrite(GUEST_IDTR_BASE, NO_MEMORY);
	vmwrite(GUEST_IDTR_LIMIT, 0x3ff);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  BIT(31) | EVENT_TYPE_HARDWARE_EXCEPTION << 8 | VECTOR_GP);
}

/* 29.3.2.2: an entry loads CS's type in real-address mode as it is; 30.3.2: the exit saves it. */
CASE(code_segment_of_real_mode,
     PROVES("host-and-exit:entry.load.seg_usable", "host-and-exit:save.seg"),
     NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST)))
{
	static const u8 code[] = { 0x0f, 0xa2 };	/* cpuid */

	start_real_mode(code, sizeof(code), 0x9b);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_CS_ACCESS_RIGHTS), 0x9b);
}
