/*
 * Lists of MSRs of 4 GBytes and more: 29.2.1.2, 29.2.1.3.
 *
 * The last byte of a list is at address + 16 * count - 1, computed in more bits than the
 * processor's physical addresses have: a count of 10000000H is not one of 0. A list that begins 16
 * bytes below the end of what there is fits if it has one entry. Other counts are tried by the
 * table of rules (vmx/entry-exit-entry-controls). With such a list to load, a processor that
 * accepts it fails later. With one for the exit it enters, and then aborts the exit: there is no
 * memory up there. So a second one makes that entry.
 */
#include "cpu/smp.h"
#include "vmx/entry_reader.h"
#include "vmx/vmx.h"

struct list {
	u32 address_field, count_field, count;
};

static const struct list *list;

static void try_to_enter(void *unused)
{
	(void)unused;
	vmx_start();
	vmwrite(list->address_field, BIT(entry_this_cpu()->physical_bits) - 16);
	vmwrite(list->count_field, list->count);
	EXPECT(vmlaunch(), OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
}

static void is_refused(const struct case_def *this_case)
{
	list = this_case->row;
	try_to_enter(NULL);
}

static void is_refused_on_another(const struct case_def *this_case)
{
	list = this_case->row;
	case_boot_again();
	EXPECT(smp_call(1, try_to_enter, NULL), OUTCOME_DONE);
}

#define IS_REFUSED(name, how, needs, fact, NAME, number)			\
	static const struct list row_##name##_##number = {			\
		NAME##_ADDRESS, NAME##_COUNT, 0x##number };			\
	CASE_RUN(name##_##number, how, PROVES("vm-entry-checks:" fact), NEEDS needs, \
		 ROW(&row_##name##_##number))
#define BOTH_REFUSED(...)							\
	IS_REFUSED(__VA_ARGS__, 10000000);					\
	IS_REFUSED(__VA_ARGS__, 10000001)

BOTH_REFUSED(exit_store, is_refused_on_another, (VMX, CPUS(2)), "ctl.exit_msr_store.last_byte",
	     VM_EXIT_MSR_STORE);
BOTH_REFUSED(exit_load, is_refused_on_another, (VMX, CPUS(2)), "ctl.exit_msr_load.last_byte",
	     VM_EXIT_MSR_LOAD);
BOTH_REFUSED(entry_load, is_refused, (VMX), "ctl.entry_msr_load.last_byte", VM_ENTRY_MSR_LOAD);
