/*
 * VM entry checks the control registers, debug registers and MSRs of the guest: 29.3.1.1.
 *
 * The guest's registers must hold what instructions could have put there, in the mode in which the
 * guest will run. Otherwise the entry ends as an exit with reason 33. One case per rule of
 * lib/x86/vmx/entry_rules_guest_registers.def.
 */
#include "entry/check.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#include "vmx/entry_rules_guest_registers.def"

/* Nor is there an IA-32e mode guest in real-address mode. */
ENTRY_TRIAL(violate_ia32e_pe, ONLY(IA32E && WITH_EPT); ON(PROC2, UNRESTRICTED_GUEST);
	    F(GUEST_CR0) &= ~(CR0_PE | CR0_PG);)
static const struct entry_check check_ia32e_pe = {
	violate_ia32e_pe, ENTRY_RULE_guest_ia32e_pg,
};
CASE_RUN(guest_ia32e_pe, entry_check, PROVES("vm-entry-checks:guest.ia32e.pg"),
	 NEEDS(VMX, EPT, PROC2(UNRESTRICTED_GUEST)), ROW(&check_ia32e_pe));
