#include "cpu/cpu.h"
#include "vmx/vmcs.h"
#include "vmx/vmx.h"

extern const u8 vmx_exit[], vmx_guest_start[];

/* Access rights as 27.4.1 Guest Register State lays them out. */
#define RIGHTS_CODE64		0xa09b
#define RIGHTS_DATA		0xc093
#define RIGHTS_TSS_BUSY		0x008b
#define RIGHTS_UNUSABLE		BIT(16)

const char *vmcs_field_name(u32 encoding)
{
	switch (encoding) {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) case encoding: return #name;
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
	}
	return "unknown field";
}

static void require_done(const char *file, u32 line, const char *verb, u64 field,
			 outcome_t outcome)
{
	const outcome_t done = OUTCOME_DONE;
	char what[100];

	if (outcome == done)
		return;
	format(what, sizeof(what), "%s(%s)", verb, vmcs_field_name(field));
	outcome_expect(file, line, what, outcome, &done, 1);
	case_end();
}

u64 vmread_at(const char *file, u32 line, u64 field)
{
	u64 value = 0;

	require_done(file, line, "vmread", field, vmread_outcome(field, &value));
	return value;
}

void vmwrite_at(const char *file, u32 line, u64 field, u64 value)
{
	require_done(file, line, "vmwrite", field, vmwrite_outcome(field, value));
}

void vmcs_set_control(enum control control)
{
	enum control activation = control_field_activation(control_field(control));
	u32 field = control_field_encoding(control_field(control));

	if (activation != CONTROL_NONE)
		vmcs_set_control(activation);
	vmwrite(field, vmread(field) | control_bit(control));
}

void vmcs_clear_control(enum control control)
{
	u32 field = control_field_encoding(control_field(control));

	vmwrite(field, vmread(field) & ~control_bit(control));
}

bool vmcs_has_control(enum control control)
{
	u64 value = 0;

	return vmread_outcome(control_field_encoding(control_field(control)), &value) ==
	       OUTCOME_DONE && value & control_bit(control);
}

/* Sets a control that the defaults like but can do without. */
static void set_if_allowed(enum control control)
{
	if (control_allowed(control))
		vmcs_set_control(control);
}

void vmcs_clear_optional_controls(void)
{
	const struct capabilities *caps = capabilities();

	vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS, caps->must_be_1[CONTROL_FIELD_PIN]);
	vmwrite(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
		caps->must_be_1[CONTROL_FIELD_PROC1]);
	if (control_allowed(CONTROL_PROC1_ACTIVATE_SECONDARY_CONTROLS))
		vmwrite(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
			caps->must_be_1[CONTROL_FIELD_PROC2]);
	if (control_allowed(CONTROL_PROC1_ACTIVATE_TERTIARY_CONTROLS))
		vmwrite(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, 0);
	vmwrite(PRIMARY_VM_EXIT_CONTROLS, caps->must_be_1[CONTROL_FIELD_EXIT]);
	if (control_allowed(CONTROL_EXIT_ACTIVATE_SECONDARY_CONTROLS))
		vmwrite(SECONDARY_VM_EXIT_CONTROLS, 0);
	vmwrite(VM_ENTRY_CONTROLS, caps->must_be_1[CONTROL_FIELD_ENTRY]);
	vmcs_set_control(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE);
	vmcs_set_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	set_if_allowed(CONTROL_EXIT_SAVE_IA32_EFER);
	set_if_allowed(CONTROL_EXIT_LOAD_IA32_EFER);
	set_if_allowed(CONTROL_ENTRY_LOAD_IA32_EFER);
	set_if_allowed(CONTROL_EXIT_SAVE_IA32_PAT);
	set_if_allowed(CONTROL_EXIT_LOAD_IA32_PAT);
	set_if_allowed(CONTROL_ENTRY_LOAD_IA32_PAT);
	vmwrite(EXCEPTION_BITMAP, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	vmwrite(CR4_GUEST_HOST_MASK, 0);
	vmwrite(CR0_READ_SHADOW, 0);
	vmwrite(CR4_READ_SHADOW, 0);
	vmwrite(TSC_OFFSET, 0);
}

void vmcs_set_host_defaults(void)
{
	struct cpu *cpu = this_cpu();

	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(HOST_CR4, read_cr4());
	vmwrite(HOST_CS_SELECTOR, SELECTOR_CODE64);
	vmwrite(HOST_SS_SELECTOR, SELECTOR_DATA);
	vmwrite(HOST_DS_SELECTOR, SELECTOR_DATA);
	vmwrite(HOST_ES_SELECTOR, SELECTOR_DATA);
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, SELECTOR_TSS);
	vmwrite(HOST_FS_BASE, rdmsr(IA32_FS_BASE));
	vmwrite(HOST_GS_BASE, rdmsr(IA32_GS_BASE));
	vmwrite(HOST_TR_BASE, (u64)&cpu->tss);
	vmwrite(HOST_GDTR_BASE, (u64)cpu->gdt);
	vmwrite(HOST_IDTR_BASE, (u64)cpu->idt);
	vmwrite(HOST_IA32_SYSENTER_CS, rdmsr(IA32_SYSENTER_CS));
	vmwrite(HOST_IA32_SYSENTER_ESP, rdmsr(IA32_SYSENTER_ESP));
	vmwrite(HOST_IA32_SYSENTER_EIP, rdmsr(IA32_SYSENTER_EIP));
	if (control_allowed(CONTROL_EXIT_LOAD_IA32_PAT))
		vmwrite(HOST_IA32_PAT, rdmsr(IA32_PAT));
	if (control_allowed(CONTROL_EXIT_LOAD_IA32_EFER))
		vmwrite(HOST_IA32_EFER, rdmsr(IA32_EFER));
	vmwrite(HOST_RIP, (u64)vmx_exit);
}

/* The six data and code segments, alike but for base, limit and rights. */
static void set_guest_segments(void)
{
	static const struct {
		u16 selector;
		u32 rights;
	} segments[] = {	/* in the order of the fields: ES CS SS DS FS GS LDTR */
		{ SELECTOR_DATA, RIGHTS_DATA }, { SELECTOR_CODE64, RIGHTS_CODE64 },
		{ SELECTOR_DATA, RIGHTS_DATA }, { SELECTOR_DATA, RIGHTS_DATA },
		{ 0, RIGHTS_UNUSABLE }, { 0, RIGHTS_UNUSABLE }, { 0, RIGHTS_UNUSABLE },
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		vmwrite(GUEST_ES_SELECTOR + 2 * i, segments[i].selector);
		vmwrite(GUEST_ES_BASE + 2 * i, 0);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffffffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, segments[i].rights);
	}
}

void vmcs_set_guest_defaults(void)
{
	struct cpu *cpu = this_cpu();

	set_guest_segments();
	vmwrite(GUEST_TR_SELECTOR, SELECTOR_TSS);
	vmwrite(GUEST_TR_BASE, (u64)&cpu->tss);
	vmwrite(GUEST_TR_LIMIT, sizeof(cpu->tss) - 1);
	vmwrite(GUEST_TR_ACCESS_RIGHTS, RIGHTS_TSS_BUSY);
	vmwrite(GUEST_GDTR_BASE, (u64)cpu->gdt);
	vmwrite(GUEST_GDTR_LIMIT, sizeof(cpu->gdt) - 1);
	vmwrite(GUEST_IDTR_BASE, (u64)cpu->idt);
	vmwrite(GUEST_IDTR_LIMIT, sizeof(cpu->idt) - 1);
	vmwrite(GUEST_CR0, read_cr0());
	vmwrite(GUEST_CR3, read_cr3());
	vmwrite(GUEST_CR4, read_cr4());
	vmwrite(GUEST_DR7, DR7_FIXED);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	vmwrite(GUEST_RSP, (u64)cpu->guest_stack + sizeof(cpu->guest_stack));
	vmwrite(GUEST_RIP, (u64)vmx_guest_start);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	vmwrite(GUEST_IA32_SYSENTER_CS, 0);
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0);
	vmwrite(GUEST_IA32_SYSENTER_EIP, 0);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_PAT))
		vmwrite(GUEST_IA32_PAT, rdmsr(IA32_PAT));
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, rdmsr(IA32_EFER));
}

void vmcs_set_defaults(void)
{
	struct vmx *vmx = this_vmx();

	vmcs_clear_optional_controls();
	vmwrite(IO_BITMAP_A_ADDRESS, (u64)vmx->io_bitmap_a);
	vmwrite(IO_BITMAP_B_ADDRESS, (u64)vmx->io_bitmap_b);
	if (control_allowed(CONTROL_PROC1_USE_MSR_BITMAPS))
		vmwrite(MSR_BITMAP_ADDRESS, (u64)vmx->msr_bitmap);
	vmcs_set_host_defaults();
	vmcs_set_guest_defaults();
}
