#include "vmx/vmcs.h"
#include "vmx/vmx.h"

static const struct bit_name status_flags[] = {
	{ RFLAGS_CF, "CF" }, { RFLAGS_PF, "PF" }, { RFLAGS_AF, "AF" }, { RFLAGS_ZF, "ZF" },
	{ RFLAGS_SF, "SF" }, { RFLAGS_OF, "OF" }, { 0, NULL },
};

static const char *flag_words(char *to, size_t size, u64 flags)
{
	if (!flags)
		format(to, size, "CF PF AF ZF SF OF all 0");
	else
		format_bits(to, size, flags, status_flags);
	return to;
}

outcome_t vmx_outcome(const char *instruction, outcome_t trap, u64 rflags)
{
	char what[80], expected[60], got[60];
	u64 flags = rflags & RFLAGS_STATUS, want = 0;
	outcome_t outcome = OUTCOME_DONE;

	if (trap != OUTCOME_DONE)
		return trap;
	if (flags & RFLAGS_CF) {
		want = RFLAGS_CF;
		outcome = OUTCOME_VMFAIL_INVALID;
	} else if (flags & RFLAGS_ZF) {
		want = RFLAGS_ZF;
		outcome = OUTCOME_VMFAIL_VALID(vmread_known(VM_INSTRUCTION_ERROR));
	}
	if (flags != want) {
		format(what, sizeof(what), "flags after %s", instruction);
		case_fail(NULL, 0, what, flag_words(expected, sizeof(expected), want),
			  flag_words(got, sizeof(got), flags));
	}
	return outcome;
}

static void guest_returns(void)
{
}

/*
 * Enters with the given instruction; a guest that starts anyway comes back by its first exit, at
 * the latest the VMCALL behind the function that RAX points to.
 */
static outcome_t raw_entry(bool launch)
{
	struct vmx *vmx = this_vmx();
	bool launched = vmx->launched;
	outcome_t outcome;

	vmx->launched = !launch;
	if (!vmx->state.regs.rax)
		vmx->state.regs.rax = (u64)guest_returns;
	outcome = resume();
	/* Only an entry changes the launch state, and so the way in for enter(). */
	if (outcome_kind(outcome) != OUTCOME_KIND_EXIT)
		vmx->launched = launched;
	return outcome;
}

outcome_t vmlaunch(void)
{
	return raw_entry(true);
}

outcome_t vmresume(void)
{
	return raw_entry(false);
}

bool outcome_expect_for_bit(const char *file, u32 line, const char *what, u32 bit, outcome_t got,
			    outcome_t want)
{
	char words[100];

	format(words, sizeof(words), "%s, bit %u", what, bit);
	return outcome_expect(file, line, words, got, &want, 1);
}
