/*
 * The lists of MSRs: 29.4 Loading MSRs, 30.4 Saving MSRs, 30.6 Loading MSRs.
 *
 * A list is an array of 16-byte entries in memory: index, 32 reserved bits, value. An entry of the
 * guest's list is loaded as the last thing before the guest runs; the VM exit stores the values of
 * the guest into its store list after it has saved the guest state, and loads its load list after
 * the host state. What is in a list later comes later.
 */
#include "cpu/safe.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(read_msr, "", "rdmsr; cpuid");
GUEST_CODE(write_msr, "", "wrmsr; cpuid");

struct msr_entry {
	u64 index, value;
};

static struct msr_entry *list(u32 address_field, u32 count_field, const struct msr_entry *entries,
			      u32 count)
{
	struct msr_entry *page = page_alloc();
	u32 i;

	for (i = 0; i < count; i++)
		page[i] = entries[i];
	vmwrite(address_field, physical(page));
	vmwrite(count_field, count);
	return page;
}

#define ENTRIES(...)	((const struct msr_entry[]){ __VA_ARGS__ })
#define LIST(which, ...)						\
	list(VM_##which##_ADDRESS, VM_##which##_COUNT, ENTRIES(__VA_ARGS__),	\
	     sizeof(ENTRIES(__VA_ARGS__)) / sizeof(struct msr_entry))

static void run(const struct guest_code *code, u32 msr, u64 value)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	guest_regs()->rcx = msr;
	guest_regs()->rax = value & BITS(31, 0);
	guest_regs()->rdx = value >> 32;
	REQUIRE(enter_at_instruction(code), OUTCOME_EXIT(EXIT_CPUID));
}

static u64 guest_saw(void)
{
	return guest_regs()->rdx << 32 | guest_regs()->rax;
}

#define BITMAPS	VMX, PROC1(USE_MSR_BITMAPS)

/* --- loaded by the entry ---------------------------------------------------------------------- */

CASE(entry_loads_in_order, PROVES("host-and-exit:entry.msr.order", "field-formats:msr_entry.index",
     "field-formats:msr_entry.data"), NEEDS(BITMAPS))
{
	LIST(ENTRY_MSR_LOAD, { IA32_KERNEL_GS_BASE, 1 }, { IA32_STAR, 2 },
	     { IA32_KERNEL_GS_BASE, 3 });
	run(&guest_read_msr, IA32_KERNEL_GS_BASE, 0);
	EXPECT_EQ(guest_saw(), 3);
	EXPECT_EQ(rdmsr(IA32_STAR), 2);
}

/* 29.4: bits 63:32 of the first quadword are reserved. */
CASE(reserved_bits_of_an_entry, PROVES("field-formats:msr_entry.reserved"), NEEDS(VMX))
{
	u32 bit;

	for (bit = 32; bit < 64; bit++) {
		LIST(ENTRY_MSR_LOAD, { IA32_STAR, 1 }, { BIT(bit) | IA32_STAR, 2 });
		EXPECT_FOR_BIT(bit, enter_at_instruction(&guest_cpuid),
			       OUTCOME_ENTRY_FAILURE(EXIT_ENTRY_FAILURE_MSR_LOADING, 2));
	}
}

/* A field of the guest state is loaded first. */
CASE(entry_loads_after_guest_state, PROVES("host-and-exit:entry.msr.order",
     "vm-entry-checks:msrload.overrides_fields"), NEEDS(BITMAPS))
{
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0x1111);
	LIST(ENTRY_MSR_LOAD, { IA32_SYSENTER_ESP, 0x2222 });
	run(&guest_read_msr, IA32_SYSENTER_ESP, 0);
	EXPECT_EQ(guest_saw(), 0x2222);
	EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), 0x2222);
}

/* As WRMSR would write it: an MSR with a field in the guest state, and a control that loads it. */
CASE(entry_loads_efer_again, PROVES("host-and-exit:entry.msr.order",
     "vm-entry-checks:msrload.overrides_fields"),
     NEEDS(BITMAPS, ENTRY_CTL(LOAD_IA32_EFER)))
{
	u64 efer = rdmsr(IA32_EFER);

	vmwrite(GUEST_IA32_EFER, efer & ~EFER_NXE);
	LIST(ENTRY_MSR_LOAD, { IA32_EFER, efer | EFER_NXE });
	audit_guest_changes(GUEST_IA32_EFER);
	run(&guest_read_msr, IA32_EFER, 0);
	EXPECT_EQ(guest_saw(), efer | EFER_NXE);
}

/* --- stored by the exit ----------------------------------------------------------------------- */

CASE(exit_stores_in_order,
     PROVES("host-and-exit:msrstore.order", "host-and-exit:msrstore.index_kept"), NEEDS(BITMAPS))
{
	struct msr_entry *stored = LIST(EXIT_MSR_STORE, { IA32_KERNEL_GS_BASE, 1 },
					{ IA32_STAR, 2 }, { IA32_KERNEL_GS_BASE, 3 });

	wrmsr(IA32_STAR, 0x5555666677778888);
	run(&guest_write_msr, IA32_KERNEL_GS_BASE, 0x7fff12345678);
	EXPECT_EQ(stored[0].value, 0x7fff12345678);
	EXPECT_EQ(stored[1].value, 0x5555666677778888);
	EXPECT_EQ(stored[2].value, 0x7fff12345678);
	EXPECT_EQ(stored[0].index, IA32_KERNEL_GS_BASE);
	EXPECT_EQ(stored[1].index, IA32_STAR);
}

/* An MSR that the exit gives the host's value is stored with that of the guest. */
CASE(exit_stores_values_of_the_guest, PROVES("host-and-exit:msrstore.after_save"), NEEDS(BITMAPS))
{
	struct msr_entry *stored = LIST(EXIT_MSR_STORE, { IA32_SYSENTER_ESP, 1 },
					{ IA32_FS_BASE, 2 });

	audit_guest_changes(GUEST_IA32_SYSENTER_ESP);
	vmwrite(GUEST_FS_BASE, 0x3333);
	run(&guest_write_msr, IA32_SYSENTER_ESP, 0x2222);
	EXPECT_EQ(stored[0].value, 0x2222);
	EXPECT_EQ(stored[1].value, 0x3333);
	EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), 0x2222);
}

/* --- loaded by the exit ----------------------------------------------------------------------- */

CASE(exit_loads_in_order, PROVES("host-and-exit:msrload.order"), NEEDS(VMX, PROC1(USE_MSR_BITMAPS)))
{
	LIST(EXIT_MSR_LOAD, { IA32_KERNEL_GS_BASE, 1 }, { IA32_STAR, 2 },
	     { IA32_KERNEL_GS_BASE, 3 });
	run(&guest_cpuid, 0, 0);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 3);
	EXPECT_EQ(rdmsr(IA32_STAR), 2);
}

CASE(exit_loads_after_host_state, PROVES("host-and-exit:msrload.order"), NEEDS(BITMAPS))
{
	vmwrite(HOST_IA32_SYSENTER_ESP, 0x1111);
	LIST(EXIT_MSR_LOAD, { IA32_SYSENTER_ESP, 0x2222 });
	run(&guest_cpuid, 0, 0);
	EXPECT_EQ(rdmsr(IA32_SYSENTER_ESP), 0x2222);
}

/* The store list holds the guest's value although the load list changes it. */
CASE(exit_stores_before_it_loads,
     PROVES("host-and-exit:msrload.order", "host-and-exit:msrstore.order"), NEEDS(BITMAPS))
{
	struct msr_entry *stored = LIST(EXIT_MSR_STORE, { IA32_KERNEL_GS_BASE, 1 });

	LIST(EXIT_MSR_LOAD, { IA32_KERNEL_GS_BASE, 0x4444 });
	run(&guest_write_msr, IA32_KERNEL_GS_BASE, 0x5555);
	EXPECT_EQ(stored[0].value, 0x5555);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 0x4444);
}

/* One area for both, as hypervisors have it: the entry loads what the exit before has stored. */
CASE(stored_list_is_loaded_again, PROVES("host-and-exit:msrstore.order",
     "host-and-exit:entry.msr.order"), NEEDS(BITMAPS))
{
	struct msr_entry *both = LIST(ENTRY_MSR_LOAD, { IA32_KERNEL_GS_BASE, 0x1111 });

	vmwrite(VM_EXIT_MSR_STORE_ADDRESS, physical(both));
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 1);
	run(&guest_write_msr, IA32_KERNEL_GS_BASE, 0x2222);
	EXPECT_EQ(both->value, 0x2222);
	EXPECT_EQ(both->index, IA32_KERNEL_GS_BASE);
	wrmsr(IA32_KERNEL_GS_BASE, 0x3333);
	run(&guest_read_msr, IA32_KERNEL_GS_BASE, 0);
	EXPECT_EQ(guest_saw(), 0x2222);
}

/* A counter goes on in the meantime, from what the entry has loaded. */
CASE(exit_stores_the_time, PROVES("host-and-exit:msrstore.order"), NEEDS(BITMAPS))
{
	struct msr_entry *stored = LIST(EXIT_MSR_STORE, { IA32_TSC, 1 });
	u64 before = rdmsr(IA32_TSC);

	run(&guest_cpuid, 0, 0);
	EXPECT_TRUE(stored->value >= before);
	EXPECT_TRUE(stored->value <= rdmsr(IA32_TSC));
}

/* A quarter of the range ahead, and back to where it was. */
CASE(lists_load_the_time, PROVES("host-and-exit:msrload.order", "host-and-exit:entry.msr.order"),
     NEEDS(BITMAPS))
{
	u64 before = rdmsr(IA32_TSC);
	struct msr_entry *stored = LIST(EXIT_MSR_STORE, { IA32_TSC, 1 });

	LIST(ENTRY_MSR_LOAD, { IA32_TSC, BIT(62) });
	LIST(EXIT_MSR_LOAD, { IA32_TSC, before });
	run(&guest_read_msr, IA32_TSC, 0);
	EXPECT_TRUE(guest_saw() >= BIT(62));
	EXPECT_TRUE(stored->value >= guest_saw());
	EXPECT_TRUE(rdmsr(IA32_TSC) >= before);
	EXPECT_TRUE(rdmsr(IA32_TSC) < BIT(62));
}

/* A.6 Miscellaneous Data, bits 27:25: so many entries are fine for every list. */
CASE(longest_lists, PROVES("host-and-exit:msrstore.order", "host-and-exit:msrload.order"),
     NEEDS(BITMAPS))
{
	u32 count = 512 * (FIELD(capabilities()->misc, 27, 25) + 1), i;
	struct msr_entry *lists = pages_alloc(3 * 16 * count, PAGE_SIZE);

	/* The audit has no room for more, and this case looks at what counts itself. */
	if (count > EXIT_MAX_LISTED)
		audit_none();
	for (i = 0; i < 3 * count; i++)
		lists[i] = (struct msr_entry){ IA32_KERNEL_GS_BASE, i + 1 };
	vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, physical(lists));
	vmwrite(VM_EXIT_MSR_STORE_ADDRESS, physical(lists + count));
	vmwrite(VM_EXIT_MSR_LOAD_ADDRESS, physical(lists + 2 * count));
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, count);
	vmwrite(VM_EXIT_MSR_STORE_COUNT, count);
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, count);
	run(&guest_read_msr, IA32_KERNEL_GS_BASE, 0);
	EXPECT_EQ(guest_saw(), count);
	EXPECT_EQ(lists[count].value, count);
	EXPECT_EQ(lists[2 * count - 1].value, count);
	EXPECT_EQ(rdmsr(IA32_KERNEL_GS_BASE), 3 * count);
}
