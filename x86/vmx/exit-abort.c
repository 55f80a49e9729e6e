/*
 * VMX aborts: 30.7 VMX Aborts.
 *
 * A VM exit that cannot be completed leaves a number at byte 4 of the VMCS region and shuts the
 * logical processor down until RESET. So a second processor enters the guest here, and the first
 * one watches the VMCS region. After each case the machine must be booted again.
 */
#include "cpu/apic.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "cpu/traps.h"
#include "mmu/pages.h"
#include "platform.h"
#include "vmx/guest.h"

enum { SAVING_MSRS = 1, LOADING_MSRS = 4 };

#define IA32_SMBASE	0x9e

GUEST_CODE(cpuid, "", "cpuid");

/* One entry of a list, and which list: that of MSRs to store or to load. */
struct bad_entry {
	bool store;
	u64 index, value;
	u32 indicator;
};

static struct {
	volatile u32 *indicator;	/* of the VMCS region; 0 before the entry */
	volatile u32 came_back;
	const struct bad_entry *bad;
	u64 *list;
	u64 rflags;			/* of the guest; 0: as always */
} work;

#define INTERRUPT_VECTOR	0x51

/* On a processor that is not shut down: it cannot know what it was to go on with. */
static void take_event(struct trap_frame *frame)
{
	(void)frame;
	work.came_back = 1;
	for (;;)
		pause();
}

/* On the second processor. */
static void enter_guest(void *unused)
{
	(void)unused;
	trap_on(VECTOR_NMI, take_event);
	trap_on(INTERRUPT_VECTOR, take_event);
	vmx_start();
	vmwrite(work.bad->store ? VM_EXIT_MSR_STORE_ADDRESS : VM_EXIT_MSR_LOAD_ADDRESS,
		physical(work.list));
	vmwrite(work.bad->store ? VM_EXIT_MSR_STORE_COUNT : VM_EXIT_MSR_LOAD_COUNT, 1);
	if (work.rflags)
		vmwrite(GUEST_RFLAGS, work.rflags);
	enter_at_instruction(&guest_cpuid);
	work.came_back = 1;
}

static void abort_by(const struct bad_entry *bad)
{
	u32 spin;

	work.bad = bad;
	work.list = page_alloc();
	work.list[0] = work.bad->index;
	work.list[1] = work.bad->value;
	work.came_back = 0;
	work.indicator = (volatile u32 *)(this_vmx()->vmcs_region + 4);
	case_boot_again();
	smp_begin(1, enter_guest, NULL);
	for (spin = 0; spin < 1000000 && !*work.indicator && !work.came_back; spin++)
		pause();
}

/* Were it not shut down, it would go on. */
static void expect_shutdown(void)
{
	u32 spin;

	for (spin = 0; spin < 100000; spin++)
		pause();
	EXPECT_EQ(work.came_back, 0);
}

static void aborts(const struct case_def *this_case)
{
	abort_by(this_case->row);
	EXPECT_EQ(*work.indicator, work.bad->indicator);
	expect_shutdown();
}

#define ABORTS(name, fact, number, ...)						\
	static const struct bad_entry row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, aborts, PROVES("host-and-exit:" fact, "host-and-exit:abort." number, \
				      "host-and-exit:abort.where",		\
				      "field-formats:vmcs_region.abort"),	\
		 NEEDS(VMX, CPUS(2)), ROW(&row_##name))

ABORTS(store_of_x2apic_register, "msrstore.fail.x2apic", "1", true, 0x802, 0, SAVING_MSRS);
ABORTS(store_of_smbase, "msrstore.fail.smm", "1", true, IA32_SMBASE, 0, SAVING_MSRS);
ABORTS(store_with_reserved_bit, "msrstore.fail.reserved", "1", true, BIT(32) | IA32_STAR, 0,
       SAVING_MSRS);
ABORTS(store_of_no_msr, "msrstore.fail.rdmsr_gp", "1", true, 0x40000fff, 0, SAVING_MSRS);
ABORTS(load_of_fs_base, "msrload.fail.fs_gs", "4", false, IA32_FS_BASE, 0, LOADING_MSRS);
ABORTS(load_of_gs_base, "msrload.fail.fs_gs", "4", false, IA32_GS_BASE, 0, LOADING_MSRS);
ABORTS(load_of_x2apic_register, "msrload.fail.x2apic", "4", false, 0x808, 0, LOADING_MSRS);
ABORTS(load_of_smm_monitor_ctl, "msrload.fail.smm", "4", false, IA32_SMM_MONITOR_CTL, 0,
       LOADING_MSRS);
ABORTS(load_with_reserved_bit, "msrload.fail.reserved", "4", false, BIT(63) | IA32_STAR, 0,
       LOADING_MSRS);
ABORTS(load_of_bad_value, "msrload.fail.wrmsr_gp", "4", false, IA32_KERNEL_GS_BASE, BIT(63),
       LOADING_MSRS);
ABORTS(load_of_no_msr, "msrload.fail.wrmsr_gp", "4", false, 0x40000fff, 0, LOADING_MSRS);

/* --- only RESET ends the shutdown ------------------------------------------------------------ */

/*
 * The MSRs that cannot be loaded leave a processor that has the host's state, and the event would
 * find the host's handler. Those that cannot be stored leave the guest's RFLAGS.
 */
static const struct bad_entry not_loaded = { false, IA32_FS_BASE, 0, LOADING_MSRS };
static const struct bad_entry not_stored = { true, 0x40000fff, 0, SAVING_MSRS };

CASE(nmi_does_not_end_the_shutdown, PROVES("host-and-exit:abort.shutdown.nmi"),
     NEEDS(VMX, CPUS(2)))
{
	abort_by(&not_loaded);
	apic_send(this_platform()->apic_id[1], ICR_NMI | ICR_ASSERT);
	expect_shutdown();
}

CASE(interrupt_does_not_end_the_shutdown, PROVES("host-and-exit:abort.shutdown.interrupt"),
     NEEDS(VMX, CPUS(2)))
{
	work.rflags = RFLAGS_FIXED | RFLAGS_IF;
	abort_by(&not_stored);
	apic_send(this_platform()->apic_id[1], ICR_ASSERT | INTERRUPT_VECTOR);
	expect_shutdown();
}

CASE(init_does_not_end_the_shutdown, PROVES("host-and-exit:abort.shutdown.init"),
     NEEDS(VMX, CPUS(2)))
{
	abort_by(&not_loaded);
	EXPECT_FALSE(smp_try_start(1));
}
