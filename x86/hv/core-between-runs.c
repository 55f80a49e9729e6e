/*
 * The core: what user space does to a vCPU and its VM between two runs, while an instruction is
 * half done.
 *
 * A port that resets the machine, a device that maps memory, a debugger: each of them changes the
 * guest under the exit that it has got. What was left of the instruction is done where the vCPU is
 * still at it, and dropped where user space has taken it elsewhere; and whatever is taken away, the
 * guest has its fault, or stops, and user space is told.
 */
#include "hv/box.h"
#include "string.h"

static struct box box;

#define ELSEWHERE	(BOX_CODE + 0x100)	/* HLT */
#define MARK		0x1122334455667788

static void set_regs(u64 rip)
{
	struct kvm_regs regs = box_regs(&box);

	regs.rip = rip;
	regs.rax = regs.rcx = regs.rsi = regs.rdi = MARK;
	REQUIRE_EQ(hv_vcpu_set_regs(&box.vcpu, &regs), 0);
}

static struct kvm_vcpu_events get_events(void)
{
	struct kvm_vcpu_events events;

	hv_vcpu_get_events(&box.vcpu, &events);
	return events;
}

static void complete_only(void)
{
	box.vcpu.run->immediate_exit = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINTR);
	box.vcpu.run->immediate_exit = 0;
}

/* --- the instruction is not the next one any more --------------------------------------------- */

struct exit_row {
	const struct box_guest *guest;
	u32 reason;
};

static void taken_away(const struct case_def *this_case)
{
	const struct exit_row *row = this_case->row;
	struct kvm_regs regs;

	box_start(&box, row->guest);
	box.memory[ELSEWHERE] = 0xf4;
	REQUIRE_EQ(box_enable(&box, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
	REQUIRE_EQ(box_enable(&box, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE)), 0);
	REQUIRE_EXIT(box_run(&box), row->reason);
	set_regs(ELSEWHERE);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	regs = box_regs(&box);
	EXPECT_EQ(regs.rip, ELSEWHERE + 1);
	EXPECT_EQ(regs.rax, MARK);
	EXPECT_EQ(regs.rcx, MARK);
	EXPECT_EQ(regs.rsi, MARK);
	EXPECT_EQ(regs.rdi, MARK);
	/* Nor is anything left for the next one. */
	set_regs(BOX_CODE);
	EXPECT_EXIT(box_run(&box), row->reason);
}

#define TAKEN_AWAY(id, exit, text)								\
	BOX_GUEST_64(guest_##id, text);								\
	CASE_RUN(taken_away_from_##id, taken_away, PROVES("kvm-ioctls:run.pio_complete"),	\
		 NEEDS(BOX_NEEDS), ROW((&(const struct exit_row){ &guest_##id, exit })))

TAKEN_AWAY(out, KVM_EXIT_IO, "out %al, $0x80");
TAKEN_AWAY(in, KVM_EXIT_IO, "in $0x80, %al");
TAKEN_AWAY(outs, KVM_EXIT_IO, "mov $0xa000, %esi\n\t mov $9, %ecx\n\t rep outsb");
TAKEN_AWAY(ins, KVM_EXIT_IO, "mov $0xa000, %edi\n\t mov $9, %ecx\n\t rep insb");
TAKEN_AWAY(load, KVM_EXIT_MMIO, "mov 0x10000000, %eax");
TAKEN_AWAY(store, KVM_EXIT_MMIO, "mov %eax, 0x10000000");
TAKEN_AWAY(change, KVM_EXIT_MMIO, "incl 0x10000000");
TAKEN_AWAY(rdmsr, KVM_EXIT_X86_RDMSR, "mov $0x4b564dff, %ecx\n\t rdmsr");
TAKEN_AWAY(vmcall, KVM_EXIT_HYPERCALL,
	   "mov $12, %eax\n\t mov $0x5000, %ebx\n\t mov $1, %ecx\n\t vmcall");

/* --- exceptions ------------------------------------------------------------------------------- */

BOX_GUEST_64(rdmsr_guest, "mov $0x4b564dff, %ecx\n\t rdmsr\n\t hlt");

/* User space refuses the access: the guest has #GP(0), which has not been delivered yet. */
static void stop_at_the_exception(void)
{
	box_start(&box, &rdmsr_guest);
	box.memory[ELSEWHERE] = 0xf4;
	REQUIRE_EQ(box_enable(&box, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_X86_RDMSR);
	box.vcpu.run->msr.error = 1;
	complete_only();
	EXPECT_EQ(get_events().exception.injected, 1);
	EXPECT_EQ(get_events().exception.nr, VECTOR_GP);
}

CASE(raised_exception_is_dropped, PROVES("kvm-ioctls:regs.pending"), NEEDS(BOX_NEEDS))
{
	stop_at_the_exception();
	set_regs(ELSEWHERE);
	EXPECT_EQ(get_events().exception.injected, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rip, ELSEWHERE + 1);
}

/* What user space has set itself, in whichever order. */
CASE(set_exception_is_kept, PROVES("kvm-ioctls:regs.pending"), NEEDS(BOX_NEEDS))
{
	struct kvm_vcpu_events events;

	stop_at_the_exception();
	events = get_events();
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	set_regs(ELSEWHERE);
	EXPECT_VECTOR(&box, VECTOR_GP);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 40), ELSEWHERE);
}

/* No entry may have both: 29.3.1.5. */
CASE(both_shadows_are_that_of_mov_ss,
     PROVES("vm-entry-checks:guest.intr.sti_and_mov_ss"), NEEDS(BOX_NEEDS))
{
	const struct kvm_vcpu_events events = {
		.flags = KVM_VCPUEVENT_VALID_SHADOW,
		.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI };

	box_start(&box, &rdmsr_guest);
	EXPECT_EQ(hv_vcpu_set_events(&box.vcpu, &events), 0);
	EXPECT_EQ(get_events().interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS);
	EXPECT_VECTOR(&box, VECTOR_GP);
}

/* --- KVM_RUN that does not run ---------------------------------------------------------------- */

BOX_GUEST_64(sti_out_guest, "sti\n\t out %al, $0x80\n\t hlt");

/* OUT ends the shadow of STI, and its end is all that this call does. */
CASE(immediate_exit_tells_the_state, PROVES("kvm-ioctls:run.immediate"), NEEDS(BOX_NEEDS))
{
	const struct kvm_run *run;

	box_start(&box, &sti_out_guest);
	run = box.vcpu.run;
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_IO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 0);
	complete_only();
	EXPECT_EQ(run->exit_reason, KVM_EXIT_IO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(run->if_flag, 1);
}

CASE(registers_in_the_page_are_refused, PROVES("kvm-ioctls:run.syncregs"), NEEDS(BOX_NEEDS))
{
	struct kvm_run *run;

	box_start(&box, &sti_out_guest);
	run = box.vcpu.run;
	run->kvm_valid_regs = 1;
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINVAL);
	run->kvm_valid_regs = 0;
	run->kvm_dirty_regs = BIT(63);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EINVAL);
	run->kvm_dirty_regs = 0;
	EXPECT_EXIT(box_run(&box), KVM_EXIT_IO);
}

CASE(too_many_msrs, PROVES("kvm-ioctls:msrs.e2big"), NEEDS(BOX_NEEDS))
{
	static union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + 256 * sizeof(struct kvm_msr_entry)];
	} msrs;
	u32 i;

	box_start(&box, &sti_out_guest);
	for (i = 0; i < 256; i++)
		msrs.list.entries[i] = (struct kvm_msr_entry){ .index = IA32_STAR, .data = i };
	msrs.list.nmsrs = 256;
	EXPECT_EQ(hv_vcpu_set_msrs(&box.vcpu, &msrs.list), -E2BIG);
	EXPECT_EQ(hv_vcpu_get_msrs(&box.vcpu, &msrs.list), -E2BIG);
	msrs.list.nmsrs = 255;
	EXPECT_EQ(hv_vcpu_set_msrs(&box.vcpu, &msrs.list), 255);
}

/* --- memory that comes and goes --------------------------------------------------------------- */

BOX_GUEST_64(mmio_guest, "mov 0x10000000, %eax\n\t mov %eax, 0x10000004\n\t hlt");

static void set_slot(u32 slot, u64 gpa, u64 size, u8 *memory)
{
	const struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = physical(memory) };

	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
}

/* Nothing is left to fetch the instruction from; when it is there again, it begins anew. */
CASE(code_goes_during_an_access, PROVES("kvm-exits:17"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &mmio_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	set_slot(BOX_SLOT, 0, 0, box.memory);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTERNAL_ERROR);
	set_slot(BOX_SLOT, 0, BOX_SIZE, box.memory);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(box.vcpu.run->mmio.is_write, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	EXPECT_EQ(box.vcpu.run->mmio.is_write, 1);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}

/* Where the device was there is memory now: the answer counts, and the next access is to memory. */
CASE(memory_comes_during_an_access, PROVES("kvm-ioctls:mem.ok"), NEEDS(BOX_NEEDS))
{
	u32 *memory = pages_alloc(PAGE_SIZE, PAGE_SIZE);
	const u32 answer = 0x5a5a1234;

	box_start(&box, &mmio_guest);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	memcpy(box.vcpu.run->mmio.data, &answer, sizeof(answer));
	memory[0] = 0x99;
	set_slot(1, BOX_MMIO, PAGE_SIZE, (u8 *)memory);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&box).rax, answer);
	EXPECT_EQ(memory[0], 0x99);
	EXPECT_EQ(memory[1], answer);
}

BOX_GUEST_64(log_guest,
	     "mov %eax, 0x401000\n\t mov 0x10000000, %ebx\n\t mov %eax, 0x400000\n\t hlt");

/* What the log had of a slot goes with it; the next one of the number begins with nothing. */
CASE(logged_slot_goes_during_an_access,
     PROVES("kvm-ioctls:dirty.noslot", "kvm-ioctls:dirty.content"), NEEDS(BOX_NEEDS))
{
	struct kvm_userspace_memory_region region = {
		.slot = 1, .flags = KVM_MEM_LOG_DIRTY_PAGES, .guest_phys_addr = 0x400000,
		.memory_size = 2 * PAGE_SIZE,
		.userspace_addr = physical(pages_alloc(2 * PAGE_SIZE, PAGE_SIZE)) };
	u64 bits = ~0ull;
	const struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bits };

	box_start(&box, &log_guest);
	REQUIRE_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_MMIO);
	region.memory_size = 0;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &log), -ENOENT);
	EXPECT_EQ(bits, ~0ull);
	region.memory_size = 2 * PAGE_SIZE;
	EXPECT_EQ(hv_vm_set_memory(&box.vm, &region), 0);
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &log), 0);
	EXPECT_EQ(bits, 0);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_HLT);
	EXPECT_EQ(hv_vm_get_dirty_log(&box.vm, &log), 0);
	EXPECT_EQ(bits, 1);
}

/* --- states of a processor that waits --------------------------------------------------------- */

static void set_mp_state(u32 mp_state, int result)
{
	struct kvm_mp_state state = { .mp_state = mp_state };

	EXPECT_EQ(hv_vcpu_set_mp_state(&box.vcpu, &state), result);
}

/* One after another, in an order in which no processor goes. */
CASE(mp_states_in_odd_order, PROVES("kvm-ioctls:mpstate.get", "kvm-ioctls:run.ap_eagain"),
     NEEDS(BOX_NEEDS, PIN(ACTIVATE_VMX_PREEMPTION_TIMER)))
{
	box_start_with_apic(&box, &sti_out_guest);
	set_mp_state(KVM_MP_STATE_SIPI_RECEIVED, 0);
	set_mp_state(KVM_MP_STATE_UNINITIALIZED, 0);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EAGAIN);
	EXPECT_EQ(hv_vcpu_nmi(&box.vcpu), 0);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EAGAIN);
	set_mp_state(KVM_MP_STATE_INIT_RECEIVED, 0);
	/* The start-up IPI of before is gone. */
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EAGAIN);
	set_mp_state(KVM_MP_STATE_AP_RESET_HOLD, -EINVAL);
	set_mp_state(~0u, -EINVAL);
	EXPECT_EQ(hv_vcpu_run(&box.vcpu), -EAGAIN);
	set_mp_state(KVM_MP_STATE_SIPI_RECEIVED, 0);
	set_mp_state(KVM_MP_STATE_RUNNABLE, 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_INTR);
	EXPECT_EQ(*box_at(&box, BOX_STACK - 40), BOX_CODE);
}

/* --- a debugger ------------------------------------------------------------------------------- */

BOX_GUEST_64(nop_guest, "nop\n\t nop\n\t hlt");

/* What is refused changes nothing; without the flag that enables it all is off. */
CASE(guest_debug_that_is_refused, PROVES("kvm-exits:4"),
     NEEDS(BOX_NEEDS, PROC1(MOV_DR_EXITING)))
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
					 .arch.debugreg = { [0] = BOX_CODE + 1, [7] = 0x402 } };

	box_start(&box, &nop_guest);
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	debug.arch.debugreg[0] = 0;
	debug.control |= KVM_GUESTDBG_INJECT_DB;
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), -EINVAL);
	debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ;
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), -EINVAL);
	REQUIRE_EXIT(box_run(&box), KVM_EXIT_DEBUG);
	EXPECT_EQ(box.vcpu.run->debug.arch.pc, BOX_CODE + 1);
	debug.control = ~(u32)KVM_GUESTDBG_ENABLE;
	EXPECT_EQ(hv_vcpu_set_guest_debug(&box.vcpu, &debug), 0);
	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
}
