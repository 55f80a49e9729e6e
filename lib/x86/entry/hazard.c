/*
 * Entries that must not be made, because the image would not survive an outcome that is right. Only
 * what the model lets get that far is looked at: a VMfail loads neither guest nor host.
 */
#include "entry/session.h"
#include "mmu/pages.h"
#include "platform.h"
#include "vmx/entry_words.h"

#define CHANGES(name, bits)	((F(name) ^ session->valid.field[INDEX_##name]) & (bits))
#define CHANGED(name)		CHANGES(name, ~0ull)

/* 16-byte entries, all of them within the list of the session. */
static bool another_list(const struct entry_session *session, u64 address, u64 count)
{
	u64 first = address - physical(session->msr_list);

	return count && (first >= PAGE_SIZE || count > (PAGE_SIZE - first) / 16);
}

#define ANOTHER_LIST(name)	another_list(session, F(name##_ADDRESS), F(name##_COUNT))

static bool in_ram(u64 address)
{
	const struct platform *platform = this_platform();
	u32 i;

	for (i = 0; i < platform->memory_count; i++)
		if (address - platform->memory[i].start < platform->memory[i].size)
			return true;
	return false;
}

/* Paging structures that the session knows to be empty lead nowhere. */
static bool other_tables(const struct entry_session *session, const struct entry_input *in)
{
	u64 empty = physical(session->empty_page), page = physical(session->page);
	u64 cr3 = F(GUEST_CR3) & ~BITS(11, 0);
	u64 present = (F(GUEST_PDPTE0) | F(GUEST_PDPTE1) | F(GUEST_PDPTE2) | F(GUEST_PDPTE3)) & 1;

	if (WITH_EPT && (F(EPT_POINTER) & ~BITS(11, 0)) != empty)
		return true;
	if (WITH_EPT)
		return false;
	return present || (cr3 != empty && cr3 != page);
}

/* Its first fetch, or the delivery of an event, gets as far as a translation. */
static bool touches_memory(const struct entry_input *in)
{
	bool in_64_bit_mode = IA32E && RIGHTS(CS) & RIGHTS_L;

	if (INJECTS && F(GUEST_IDTR_LIMIT))
		return true;
	return in_64_bit_mode ? entry_canonical_to(F(GUEST_RIP), 48) :
	       F(GUEST_RIP) <= F(GUEST_CS_LIMIT);
}

/* Not for ever, and not for long. */
static bool sleeps_long(const struct entry_input *in)
{
	return F(GUEST_ACTIVITY_STATE) != ACTIVITY_ACTIVE &&
	       F(GUEST_ACTIVITY_STATE) != ACTIVITY_WAIT_FOR_SIPI &&
	       (!IS(PIN, ACTIVATE_VMX_PREEMPTION_TIMER) || F(VMX_PREEMPTION_TIMER_VALUE) > 100000);
}

/* Bits of CR4 that matter to nobody here: all others change paging, or how exceptions are taken. */
#define CR4_HARMLESS							\
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_MCE | CR4_PGE | CR4_PCE | \
	 CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_SMXE | CR4_FSGSBASE | CR4_PCIDE | \
	 CR4_OSXSAVE | CR4_KL | CR4_PKE | CR4_CET | CR4_PKS | CR4_UINTR)

#define HOST_HAZARDS(H)							\
	H("the host would go on somewhere else", CHANGED(HOST_RIP))	\
	H("the host would have other paging structures", CHANGES(HOST_CR3, BITS(60, 12))) \
	H("the host could not go on with that CR4", CHANGES(HOST_CR4, ~CR4_HARMLESS)) \
	H("the host could not use its pages",				\
	  F(HOST_CR4) & CR4_PKS && CHANGED(HOST_IA32_PKRS))		\
	H("the host would track its control flow", F(HOST_CR4) & CR4_CET && F(HOST_IA32_S_CET)) \
	H("the exit would store or load other MSRs",			\
	  ANOTHER_LIST(VM_EXIT_MSR_STORE) || ANOTHER_LIST(VM_EXIT_MSR_LOAD)) \
	H("the entry would load other MSRs", ANOTHER_LIST(VM_ENTRY_MSR_LOAD))

#define GUEST_HAZARDS(H)						\
	H("the guest would wait for a SIPI",				\
	  F(GUEST_ACTIVITY_STATE) == ACTIVITY_WAIT_FOR_SIPI && !session->startup_ipis) \
	H("the guest would sleep", sleeps_long(in))			\
	H("the guest would use unknown paging structures",		\
	  other_tables(session, in) && touches_memory(in))		\
	H("the entry would write to another virtual-APIC page",		\
	  IS(PROC2, VIRTUAL_INTERRUPT_DELIVERY) && CHANGED(VIRTUAL_APIC_ADDRESS)) \
	H("accesses to structures of the VMCS would count as accesses to the APIC", \
	  IS(PROC2, VIRTUALIZE_APIC_ACCESSES) && CHANGED(APIC_ACCESS_ADDRESS) && \
	  in_ram(F(APIC_ACCESS_ADDRESS)))				\
	H("the processor would write a trace",				\
	  (IS(ENTRY, LOAD_IA32_RTIT_CTL) && F(GUEST_IA32_RTIT_CTL) & BIT(0)) || \
	  (IS(ENTRY, LOAD_DEBUG_CONTROLS) && F(GUEST_IA32_DEBUGCTL) & BITS(8, 6)))

#define HAZARD(words, condition) if (condition) return words;

const char *entry_host_hazard(const struct entry_session *session, const struct entry_input *in)
{
	HOST_HAZARDS(HAZARD)
	return NULL;
}

const char *entry_hazard(const struct entry_session *session, const struct entry_input *in,
			 const struct entry_prediction *prediction)
{
	const char *host;

	if (prediction->stage <= ENTRY_STAGE_VMCS)
		return NULL;
	host = entry_host_hazard(session, in);
	if (host || !prediction->may_enter)
		return host;
	GUEST_HAZARDS(HAZARD)
	return NULL;
}

const char *entry_machine_hazard(const struct entry_input *in,
				 const struct entry_prediction *prediction)
{
	const struct platform *platform = this_platform();

	if (prediction->stage <= ENTRY_STAGE_VMCS)
		return NULL;
	if (platform->long_mode_needs_protection && IA32E && REAL_MODE)
		return "this machine does not survive an IA-32e mode guest without CR0.PE";
	if (!platform->addresses_need_memory)
		return NULL;
	if (IS(PROC2, VIRTUALIZE_APIC_ACCESSES) && !in_ram(F(APIC_ACCESS_ADDRESS)))
		return "this machine does not survive an APIC-access address without memory";
	if (WITH_EPT && !in_ram(F(EPT_POINTER) & ~BITS(11, 0)))
		return "this machine does not survive an EPT pointer without memory";
	return NULL;
}
