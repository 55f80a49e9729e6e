/*
 * The VM-entry MSR-load list, 29.4 Loading MSRs, where it has pretended MSRs. The real processor
 * finds a list in which an MSR with its own value is in their place, or, where the pretended one
 * refuses the value, an MSR that no list may have: it then fails for the same entry.
 */
#include "string.h"
#include "rehearsal/rehearsal.h"

struct entry {
	u32 index, reserved;
	u64 value;
};

static struct entry list[PAGE_SIZE / sizeof(struct entry)] __attribute__((aligned(16)));
static u64 address_of_the_vmcs;		/* NO_LIST: nothing is replaced */
#define NO_LIST		(~0ull)

/* 20.4.1: what no processor has. Of the other MSRs no case has bad values. */
#define DEBUGCTL_RESERVED	(BITS(63, 16) | BITS(5, 3))

static bool refuses(const struct entry *entry)
{
	if (entry->index != IA32_DEBUGCTL)
		return false;
	if (fault(FAULT_list_refuses_debugctl))
		return true;
	return entry->value & DEBUGCTL_RESERVED && !fault(FAULT_list_takes_any_debugctl);
}

static void replace(struct entry *entry)
{
	if (refuses(entry)) {
		entry->index = IA32_FS_BASE;
		return;
	}
	pretended_msr_write(entry->index, entry->value);
	*entry = (struct entry){ .index = IA32_STAR, .value = rdmsr(IA32_STAR) };
}

void lists_begin(void)
{
	u64 address = vmread_known(VM_ENTRY_MSR_LOAD_ADDRESS);
	u32 count = vmread_known(VM_ENTRY_MSR_LOAD_COUNT), i;
	bool stop = false;

	address_of_the_vmcs = NO_LIST;
	if (!count || count > ARRAY_SIZE(list) || address % 16 || address >> 30)
		return;
	memcpy(list, (const void *)address, count * sizeof(*list));
	for (i = 0; i < count && !stop; i++) {
		if (!pretended_msr(list[i].index))
			continue;
		stop = refuses(&list[i]);
		replace(&list[i]);
	}
	vmwrite_known(VM_ENTRY_MSR_LOAD_ADDRESS, (u64)list);
	address_of_the_vmcs = address;
}

void lists_end(void)
{
	if (address_of_the_vmcs != NO_LIST)
		vmwrite_known(VM_ENTRY_MSR_LOAD_ADDRESS, address_of_the_vmcs);
}
