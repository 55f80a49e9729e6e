#include "cpu/cpu.h"
#include "cpu/safe.h"
#include "string.h"
#include "vmx/entry_reader.h"
#include "vmx/vmx.h"

extern const u8 vmx_guest_start[], vmx_exit[], vmx_exit_with_any_rsp[];
extern u64 vmx_rsp_at_exit;

_Static_assert(offsetof(struct vmx_switch, any_host_rsp) == 136, "switch.S knows it");

static u8 pages[5][PAGE_SIZE] __attribute__((aligned(4096)));

/* Without initial values, so that the audit in it is no part of the file. */
static struct vmx vmx;

struct vmx *this_vmx(void)
{
	if (!vmx.vmxon_region) {
		vmx.vmxon_region = pages[0];
		vmx.vmcs_region = pages[1];
		vmx.io_bitmap_a = pages[2];
		vmx.io_bitmap_b = pages[3];
		vmx.msr_bitmap = pages[4];
	}
	return &vmx;
}

/* 26.7 Enabling and Entering VMX Operation: without the lock bit, VMXON is #GP. */
static void enable_in_feature_control(void)
{
	u64 value;

	if (rdmsr_safe(IA32_FEATURE_CONTROL, &value) != OUTCOME_DONE)
		return;
	if (!(value & FEATURE_CONTROL_LOCK))
		wrmsr_safe(IA32_FEATURE_CONTROL,
			   value | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX);
	else if (!(value & FEATURE_CONTROL_VMX))
		case_skip("IA32_FEATURE_CONTROL bit 2 (VMX outside SMX operation), which the "
			  "firmware locked at 0");
}

void vmx_prepare_but_feature_control(void)
{
	const struct capabilities *caps = capabilities();
	u32 revision = vmcs_revision();

	/* 26.8 Restrictions on VMX Operation */
	write_cr0((read_cr0() | caps->cr0_fixed0) & (caps->cr0_fixed1 | ~BITS(31, 0)));
	write_cr4((read_cr4() | caps->cr4_fixed0 | CR4_VMXE) & caps->cr4_fixed1);
	memset(pages, 0, sizeof(pages));
	memcpy(this_vmx()->vmxon_region, &revision, 4);
	memcpy(vmx.vmcs_region, &revision, 4);
	memset(&vmx.state, 0, sizeof(vmx.state));
	memset(&vmx.audit, 0, sizeof(vmx.audit));
	vmx.launched = false;
	vmx.guest_catcher = NULL;
}

void vmx_prepare(void)
{
	enable_in_feature_control();
	vmx_prepare_but_feature_control();
}

void vmx_start(void)
{
	vmx_prepare();
	REQUIRE(vmxon((u64)vmx.vmxon_region), OUTCOME_DONE);
	REQUIRE(vmclear((u64)vmx.vmcs_region), OUTCOME_DONE);
	REQUIRE(vmptrld((u64)vmx.vmcs_region), OUTCOME_DONE);
	vmcs_set_defaults();
}

static outcome_t exit_outcome(void)
{
	u64 reason = vmread(EXIT_REASON);

	if (reason & BIT(31))
		return OUTCOME_ENTRY_FAILURE(reason & 0xffff, vmread(EXIT_QUALIFICATION));
	return OUTCOME_EXIT(reason & 0xffff);
}

/* A trap in the guest that nothing caught there is the case's failure, not an exit to judge. */
static void check_guest_lives(struct cpu *cpu, outcome_t outcome)
{
	if (!cpu->guest_died || outcome != OUTCOME_EXIT(EXIT_VMCALL) ||
	    vmx.state.regs.rax != GUEST_DIED_RAX)
		return;
	trap_fail_case(&vmx.guest_trap);
	case_end();
}

static u64 switch_to_guest(struct cpu *cpu)
{
	struct context *host_catcher = cpu->catcher;
	u64 flags;

	/* What the guest catches is caught in the guest. */
	cpu->caught = OUTCOME_DONE;
	cpu->catcher = vmx.guest_catcher;
	cpu->in_guest = true;
	flags = vmx_switch(&vmx.state, vmx.launched);
	/* The host catches traps of its own before the case looks. */
	vmx.guest_caught = cpu->caught;
	vmx.guest_trap = cpu->last_trap;
	cpu->in_guest = false;
	vmx.guest_catcher = cpu->catcher;
	cpu->catcher = host_catcher;
	return flags;
}

/* The entry, and what it ended in. */
static outcome_t go(struct cpu *cpu)
{
	u64 flags = switch_to_guest(cpu);

	return flags ? vmx_outcome(vmx.launched ? "vmresume" : "vmlaunch", cpu->caught, flags) :
	       exit_outcome();
}

static void after_exit(struct cpu *cpu, outcome_t outcome, u64 pointer)
{
	if (outcome_kind(outcome) == OUTCOME_KIND_EXIT) {
		vmx.launched = true;
		entry_note_launch_state(pointer, LAUNCH_STATE_LAUNCHED);
	}
	/* An exit leaves the limits at FFFFH: 30.5.2. The rest of the case uses its own again. */
	write_gdtr((struct table_pointer){ sizeof(cpu->gdt) - 1, (u64)cpu->gdt });
	write_idtr((struct table_pointer){ sizeof(cpu->idt) - 1, (u64)cpu->idt });
}

outcome_t resume_unaudited(void)
{
	struct cpu *cpu = this_cpu();
	outcome_t outcome = go(cpu);

	after_exit(cpu, outcome, (u64)vmx.vmcs_region);
	return outcome;
}

outcome_t resume(void)
{
	struct cpu *cpu = this_cpu();
	outcome_t outcome;
	bool has_vmcs;
	u64 pointer = ~0ull;

	/* Without a current VMCS nothing can be audited; the instruction still has an outcome. */
	has_vmcs = vmptrst(&pointer) == OUTCOME_DONE && pointer != ~0ull;
	if (has_vmcs)
		audit_before_entry(&vmx.audit, vmx.launched, pointer);
	outcome = go(cpu);
	if (vmx.state.any_host_rsp)
		vmx.state.host_rsp = vmx_rsp_at_exit;
	if (has_vmcs)
		audit_after_entry(&vmx.audit, outcome, vmx.state.host_rflags, vmx.state.host_rsp);
	after_exit(cpu, outcome, pointer);
	check_guest_lives(cpu, outcome);
	return outcome;
}

void vmx_keep_host_rsp(bool keep)
{
	vmx.state.any_host_rsp = keep;
	vmwrite(HOST_RIP, (u64)(keep ? vmx_exit_with_any_rsp : vmx_exit));
}

static void begin(void (*guest)(void))
{
	struct cpu *cpu = this_cpu();

	memset(&vmx.state.regs, 0, sizeof(vmx.state.regs));
	vmx.guest_catcher = NULL;
	vmx.state.regs.rax = (u64)guest;
	vmwrite(GUEST_RIP, (u64)vmx_guest_start);
	vmwrite(GUEST_RSP, (u64)cpu->guest_stack + sizeof(cpu->guest_stack));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
}

outcome_t enter(void (*guest)(void))
{
	begin(guest);
	return resume();
}

outcome_t enter_unaudited(void (*guest)(void))
{
	begin(guest);
	return resume_unaudited();
}

void skip_instruction(void)
{
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LENGTH));
}

static void set_bit_in(u8 *bitmap, u32 bit, bool on)
{
	if (on)
		bitmap[bit / 8] |= 1u << bit % 8;
	else
		bitmap[bit / 8] &= ~(1u << bit % 8);
}

void intercept_port(u16 port, bool on)
{
	set_bit_in(port < 0x8000 ? vmx.io_bitmap_a : vmx.io_bitmap_b, port & 0x7fff, on);
}

void intercept_msr(u32 msr, enum msr_access access, bool on)
{
	/* Four KByte quarters: read low, read high, write low, write high. */
	u32 quarter = (access == MSR_WRITE ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0);

	set_bit_in(vmx.msr_bitmap + quarter, msr & 0x1fff, on);
}
