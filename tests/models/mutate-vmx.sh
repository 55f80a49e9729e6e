#!/bin/sh
# Do the tests notice when the models of VM entry and VM exit are wrong? Changes the files of lib/x86/vmx
# (copies) in one place after the other, each time builds the tests with it, and expects one to fail. The
# paging models have mutate.sh beside this.
#
# usage: mutate-vmx.sh [--check] [PATTERN]
#
# --check: only whether each still changes something; nothing is built.
# PATTERN: only the mutations whose line matches this basic regular expression.
#
# Reads: CC (default: gcc).
# Prints one line per mutation that is not noticed, or that cannot be tried, then a summary.
# Exit status: 0 all were noticed, 1 some were not, 2 a mutation is out of date or does not compile.

set -u

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
top=$(CDPATH='' cd -- "$here/../.." && pwd) || exit 2
check=
[ "${1-}" != --check ] || {
	check=1
	shift
}
[ $# -le 1 ] || {
	echo "usage: mutate-vmx.sh [--check] [PATTERN]" >&2
	exit 2
}
cc=${CC:-gcc}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/exitpath-mutate.XXXXXX") || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export ENTRY_CHECKS="$top/spec/vm-entry-checks.csv" HOST_AND_EXIT="$top/spec/host-and-exit.csv"

# compile FILE...: to objects in the current folder, with the copies of vmx/ before the originals.
compile()
{
	"$cc" -std=c11 -D_GNU_SOURCE -w -O1 -I. -I"$top/lib" -I"$top/lib/x86" -I"$top/tests/models" -c "$@"
}

# The sources that a mutation of a file makes old.
sources_of()
{
	case $1 in
	entry_model.h) echo vmx/entry_rules.c vmx/entry_model.c ;;
	entry_families.h) echo vmx/entry_rules.c vmx/entry_model.c ;;
	entry_rules*.def) echo vmx/entry_rules.c ;;
	entry_exits.def) echo vmx/entry_exits.c ;;
	entry_*.c) echo "vmx/$1" ;;
	exit_rules*.def) echo vmx/exit_model.c ;;
	exit_*.c) echo "vmx/$1" ;;
	esac
}

# link NAME: the test of a model, from the objects here.
link()
{
	case $1 in
	entry) set -- entry entry_world.o entry_rules.o entry_model.o entry_exits.o entry_scene.o ;;
	exit) set -- exit exit_settle.o exit_model.o exit_information.o exit_reason.o exit_lists.o exit_code.o exit_rules.o entry_model.o entry_exits.o entry_rules.o ;;
	esac
	link_name=$1
	shift
	"$cc" -o "${link_name}_test" "${link_name}_test.o" "$@" -lcmocka
}

# passes NAME: succeeds when the test of a model does.
passes()
{
	timeout 100 "./$1_test" >/dev/null 2>&1
}

# FILE and a sed script per line, each a mistake that the model could contain.
mutations()
{
	cat <<'END'
entry_families.h s/(in->cpu->fred && F(GUEST_CR4)/(F(GUEST_CR4)/
entry_rules_guest_segments.def s/USABLE(LDTR) && TYPE(LDTR) != 2/USABLE(LDTR) \&\& 1/
entry_rules_guest_state.def s/EXCEPTION_BUT(BIT(18))/EXCEPTION_BUT(BIT(17))/
entry_rules_guest_state.def s/EXCEPTION_BUT(BIT(1) | BIT(18))/EXCEPTION_BUT(BIT(1))/
entry_model.c s/return !in->cpu->tsc_aux ||/return in->cpu->tsc_aux ||/
entry_model.c s/return !(value & EFER_LMA) == entry_control/return !(value \& EFER_LMA) != entry_control/
entry_rules_guest_registers.def s/IS(ENTRY, LOAD_IA32_EFER) && (broken)/(broken)/
entry_families.h s/rsp2, RSP2, BITS(5, 0)/rsp2, RSP2, BITS(6, 0)/
entry_families.h s/rsp3, RSP3, BITS(5, 0)/rsp3, RSP3, BITS(6, 0)/
entry_families.h s/ssp1, SSP1, BITS(2, 0)/ssp1, SSP1, BITS(3, 0)/
entry_rules_guest_registers.def s/LBR_RESERVED	(BITS(15, 4)/LBR_RESERVED	(BITS(16, 4)/
entry_rules_guest_registers.def s/BITS(30, 28) | BITS(54, 48)/BITS(30, 27) | BITS(54, 48)/
entry_rules_exit_entry.def s/(F(VM_ENTRY_INSTRUCTION_LENGTH) > 15 ||/(F(VM_ENTRY_INSTRUCTION_LENGTH) >= 15 ||/
entry_rules_controls.def s/IS(PROC3, APIC_TIMER_VIRTUALIZATION) && IS(PROC1, RDTSC_EXITING)/IS(PROC3, APIC_TIMER_VIRTUALIZATION)/
entry_rules_guest_registers.def s/F(GUEST_UINV) & BITS(15, 8)/F(GUEST_UINV) \& BITS(15, 7)/
entry_rules_controls.def s/POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, BITS(5, 0)/POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, BITS(6, 0)/
entry_rules_host.def s/F(HOST_IA32_PKRS) & BITS(63, 32)/F(HOST_IA32_PKRS) \& BITS(63, 31)/
entry_rules_guest_state.def s/RTM && BLOCKS(MOV_SS)/RTM \&\& BLOCKING/
entry_rules_guest_segments.def s/!V86 \&\& IS_TYPE(CS, BIT(13) | BIT(15)) \&\& DPL(CS) > DPL(SS)/!V86 \&\& IS_TYPE(CS, BIT(13) | BIT(15)) \&\& DPL(CS) >= DPL(SS)/
entry_rules_exit_entry.def s/F(VM_ENTRY_INSTRUCTION_LENGTH) > 15, \\/F(VM_ENTRY_INSTRUCTION_LENGTH) > 14, \\/
entry_rules_exit_entry.def s/F(VM_ENTRY_INSTRUCTION_LENGTH) > 15, \\/F(VM_ENTRY_INSTRUCTION_LENGTH) > 16, \\/
entry_rules_exit_entry.def s/ERROR_CODE && F(INJECTED_EVENT_ERROR_CODE) & BITS(31, 16)/ERROR_CODE \&\& F(INJECTED_EVENT_ERROR_CODE) \& BITS(31, 15)/
entry_rules_exit_entry.def s/ERROR_CODE && F(INJECTED_EVENT_ERROR_CODE) & BITS(31, 16)/ERROR_CODE \&\& F(INJECTED_EVENT_ERROR_CODE) \& BITS(31, 17)/
entry_rules_exit_entry.def s/HARDWARE_EXCEPTION && EVENT_VECTOR > 31/HARDWARE_EXCEPTION \&\& EVENT_VECTOR > 30/
entry_rules_exit_entry.def s/HARDWARE_EXCEPTION && EVENT_VECTOR > 31/HARDWARE_EXCEPTION \&\& EVENT_VECTOR > 32/
entry_rules_exit_entry.def s/NMI && EVENT_VECTOR != 2/NMI \&\& EVENT_VECTOR > 2/
entry_rules_exit_entry.def s,OTHER_EXISTS && (EVENT_VECTOR || !MTF),OTHER_EXISTS,
entry_rules_exit_entry.def s,OTHER_EXISTS && (EVENT_VECTOR || !MTF),OTHER_EXISTS \&\& EVENT_VECTOR > 1,
entry_rules_exit_entry.def s/16 \* F(COUNT_FIELD) - 1)/16 * F(COUNT_FIELD))/
entry_rules_exit_entry.def s/16 \* F(COUNT_FIELD) - 1)/16 * F(COUNT_FIELD) - 17)/
entry_rules_exit_entry.def s/F(COUNT_FIELD) && F(ADDRESS_FIELD) & BITS(3, 0)/F(ADDRESS_FIELD) \& BITS(3, 0)/
entry_rules_exit_entry.def s/F(ADDRESS_FIELD) & BITS(3, 0)/F(ADDRESS_FIELD) \& BITS(2, 0)/
entry_rules_exit_entry.def s/!UNRESTRICTED || F(GUEST_CR0) & CR0_PE/F(GUEST_CR0) \& CR0_PE/
entry_rules_controls.def s/IS(PIN, VIRTUAL_NMIS) && !IS(PIN, NMI_EXITING)/IS(PIN, VIRTUAL_NMIS)/
entry_rules_controls.def s/IS(PROC1, NMI_WINDOW_EXITING) && !IS(PIN, VIRTUAL_NMIS)/IS(PROC1, NMI_WINDOW_EXITING) \&\& !IS(PIN, NMI_EXITING)/
entry_rules.c s/FIELD(F(TPR_THRESHOLD), 3, 0) > FIELD(vtpr, 7, 4)/FIELD(F(TPR_THRESHOLD), 3, 0) >= FIELD(vtpr, 7, 4)/
entry_rules.c s/FIELD(vtpr, 7, 4)/FIELD(vtpr, 3, 0)/
entry_rules.c s/(F(GUEST_CR3) & BITS(31, 5)) + 8 \* i/(F(GUEST_CR3) \& BITS(31, 5)) + 4 * i/
entry_rules.c s/i < 4; i++/i < 3; i++/
entry_rules.c s/pdpte & 1 && pdpte/pdpte/
entry_rules_guest_state.def s/F(GUEST_CR0) & CR0_PG && F(GUEST_CR4) & CR4_PAE && !IA32E/F(GUEST_CR4) \& CR4_PAE \&\& !IA32E/
entry_rules_guest_state.def s/F(GUEST_CR0) & CR0_PG && F(GUEST_CR4) & CR4_PAE && !IA32E/F(GUEST_CR0) \& CR0_PG \&\& F(GUEST_CR4) \& CR4_PAE/
entry_rules_guest_state.def s/(F(GUEST_PDPTE##n) & 1 && /(/
entry_rules_guest_state.def s/V86 && !(F(GUEST_CR0) & CR0_PE)/V86 \&\& !(F(GUEST_CR0) \& CR0_PG)/
entry_rules_guest_state.def s/INJECTS_TYPE(EXTERNAL_INTERRUPT) && !(F(GUEST_RFLAGS) & RFLAGS_IF)/INJECTS \&\& !(F(GUEST_RFLAGS) \& RFLAGS_IF)/
entry_rules_guest_state.def s/INJECTS_TYPE(NMI) && BLOCKS(MOV_SS)/INJECTS \&\& BLOCKS(MOV_SS)/
entry_model.c s/return BITS(2, 1) | BITS(8, 5)/return BITS(2, 1) | BITS(9, 5)/
entry_model.c s/return BITS(2, 1) | BITS(8, 5)/return BITS(2, 1) | BITS(8, 4)/
entry_model.c s/return BITS(2, 1) | BITS(8, 5)/return BITS(2, 1) | BITS(8, 6)/
entry_model.c s/u64 reserved = BITS(9, 6);/u64 reserved = BITS(9, 5);/
entry_model.c s/u64 reserved = BITS(9, 6);/u64 reserved = BITS(10, 6);/
entry_model.c s/u64 reserved = BITS(9, 6);/u64 reserved = BITS(8, 6);/
entry_families.h s/(PAT_BYTE(fields, byte) & 6) == 2/PAT_BYTE(fields, byte) == 2/
entry_families.h s/(PAT_BYTE(fields, byte) > 7/(PAT_BYTE(fields, byte) > 6/
entry_model.c s/return value >> 32 ? BROKEN : KEPT/return BROKEN/
entry_model.c s/return number - 1 < prediction->msr_entries/return number - 1 <= prediction->msr_entries/
entry_model.c s/bit = BIT((number - 1) % 64)/bit = BIT((number - 1) % 32)/
entry_model.c s/count > entry_most_msrs(in)/count >= entry_most_msrs(in)/
entry_model.c s/count > entry_most_msrs(in)/0/
entry_exits.c s/(INJECTS_EVENT ? ACTIVITY_ACTIVE : F(GUEST_ACTIVITY_STATE))/F(GUEST_ACTIVITY_STATE)/
entry_exits.c s/(INJECTS && !INJECTS_MTF)/INJECTS/
entry_exits.c s/!BEGINS(SHUTDOWN) && !BEGINS(WAIT_FOR_SIPI) &&/!BEGINS(WAIT_FOR_SIPI) \&\&/
entry_exits.c s/entry_exit_cause(reason) == EXIT_CAUSE_DELIVERY/entry_exits_by_event(reason)/
entry_exits.c s/return cause == EXIT_CAUSE_EVENT ||/return/
entry_model.c s/known & either ? either & ~known : 0/0/
entry_model.c s/uncertain ? ignored : ~(known | ignored)/uncertain ? ignored : ~known/
entry_rules.c s/!IS(PROC1, USE_TPR_SHADOW) || IS(PROC2, VIRTUAL_INTERRUPT_DELIVERY)/!IS(PROC1, USE_TPR_SHADOW)/
entry_rules.c s/!IS(PROC1, USE_TPR_SHADOW) || IS(PROC2/IS(PROC2/
entry_rules_guest_registers.def s/BITS(54, 48)/BITS(54, 49)/
entry_rules_guest_registers.def s/BITS(54, 48)/BITS(53, 48)/
entry_rules_guest_registers.def s/& ~RTIT_DEFINED,/,/
entry_model.h s/basic & BIT(48)/basic \& BIT(47)/
entry_rules_msr_load.def s/MSR_INDEX >> 8 == 8/MSR_INDEX >> 9 == 4/
entry_rules_msr_load.def s/MSR_INDEX >> 8 == 8/MSR_INDEX >> 10 == 2/
entry_rules_msr_load.def s/msr->index & BITS(63, 32)/msr->index \& BITS(63, 33)/
entry_rules_msr_load.def s/!entry_canonical(in, msr->value)/entry_too_wide(in, msr->value)/
entry_rules_guest_segments.def s/DPL(CS) > DPL(SS)/DPL(CS) >= DPL(SS)/
entry_rules_guest_segments.def s/DPL(CS) > DPL(SS)/DPL(CS) != DPL(SS)/
entry_rules_guest_segments.def s/!V86 && !UNRESTRICTED && DPL(SS) != RPL(SS)/!V86 \&\& DPL(SS) != RPL(SS)/
entry_rules_guest_segments.def s/TYPE(NAME) < 8 && DPL(NAME) < RPL(NAME)/TYPE(NAME) < 8 \&\& DPL(NAME) != RPL(NAME)/
entry_rules_guest_segments.def s/TYPE(NAME) < 8 && DPL(NAME) < RPL(NAME)/TYPE(NAME) < 8 \&\& DPL(NAME) <= RPL(NAME)/
entry_rules_guest_segments.def s/TYPE(NAME) >= 8 && TYPE(NAME) < 12 && \\/TYPE(NAME) >= 8 \&\& \\/
entry_rules_guest_segments.def s/!V86 && IA32E && RIGHTS(CS) & RIGHTS_L/!V86 \&\& RIGHTS(CS) \& RIGHTS_L/
entry_rules_guest_segments.def s/RIGHTS(CS) & RIGHTS_L && RIGHTS(CS) & RIGHTS_DB/RIGHTS(CS) \& RIGHTS_DB/
entry_rules_guest_segments.def s/!(TYPE(NAME) & 1)/!(TYPE(NAME) \& 3)/
entry_rules_guest_segments.def s/TYPE(NAME) < 8 && DPL(NAME) < RPL(NAME)/TYPE(NAME) < 8 \&\& (DPL(NAME) < RPL(NAME) || DPL(NAME) < DPL(SS))/
entry_rules_guest_segments.def s/DPL(NAME) < RPL(NAME), \\$/(DPL(NAME) < RPL(NAME) || DPL(NAME) < DPL(SS)), \\/
entry_rules_guest_segments.def s/!UNRESTRICTED && DPL(SS) != RPL(SS)/!UNRESTRICTED \&\& DPL(SS) > RPL(SS)/
entry_rules_guest_segments.def s/BIT(11)) && DPL(CS) != DPL(SS)/BIT(11)) \&\& DPL(CS) > DPL(SS)/
entry_rules_guest_state.def s/IN_STATE(HLT) && DPL(SS)/IN_STATE(HLT) \&\& DPL(SS) == 3/
entry_rules_exit_entry.def s/EVENT_TYPE != EVENT_TYPE_HARDWARE_EXCEPTION &&$/!((BIT(3) | BIT(5) | BIT(7)) \& BIT(EVENT_TYPE)) \&\&/
entry_rules_guest_registers.def s/F(GUEST_CR0) & CR0_PG && !(F(GUEST_CR0) & CR0_PE)/F(GUEST_CR0) \& CR0_PG \&\& !UNRESTRICTED/
entry_rules_guest_registers.def s/CAPS.cr0_fixed0 & ~F(GUEST_CR0) & ~CR0_FREE/CAPS.cr0_fixed0 \& ~F(GUEST_CR0)/
entry_rules_guest_registers.def s/F(GUEST_CR0) & ~CAPS.cr0_fixed1 & ~CR0_FREE/F(GUEST_CR0) \& ~CAPS.cr0_fixed1 \& ~CR0_FREE \& BITS(31, 0)/
exit_model.c s/return exit_from_64_bit_mode(x) ? 0 : BITS(63, 32);/return 0;/
exit_model.c s/x->entry->cpu->nmi_source ? 0 : ALL_BITS/0/
exit_model.c s/BIT(2) | (q & BIT(0) ? 0 : BIT(1))/BIT(2)/
exit_model.c s/IS(PROC1, USE_MSR_BITMAPS) ? 0 : ALL_BITS/0/
exit_model.c s/return BITS(63, 20);/return BITS(63, 32);/
exit_model.c s/return BITS(11, 8) | BITS(3, 0);/return BITS(3, 0);/
exit_lists.c s/return ~((before ^ guest) | (field ^ guest));/return 0;/
exit_model.c s/VECTOR_OF(EXIT_EVENT) != VECTOR_DF && VECTOR_OF/VECTOR_OF/
exit_model.c s/ reason != EXIT_EPT_MISCONFIGURATION &&//
exit_model.c s/reason != EXIT_EPT_MISCONFIGURATION &&/reason != EXIT_EPT_VIOLATION \&\&/
exit_model.c s/reason != EXIT_INSTRUCTION_TIMEOUT &&/true \&\&/
exit_model.c s/reason == EXIT_TASK_SWITCH && !exit_by_task_gate(x)/0/
exit_model.c s/VALID(ORIGINAL_EVENT) ? BIT(12) : 0/VALID(ORIGINAL_EVENT) ? 0 : 0/
exit_model.c s/return exit_by_task_gate(x);/return true;/
exit_model.c s/BLOCKING_BY_MOV_SS && !by_debug_exception(x)/BLOCKING_BY_MOV_SS/
exit_model.c s/return !(NOW(GUEST_CR4) & CR4_UINTR) ||/return true ||/
exit_model.c s/exit_basic_reason(x) != EXIT_EPT_MISCONFIGURATION &&/1 \&\&/
exit_model.c s/return (exit_guest_msr(x, IA32_EFER, value) & ~EFER_LMA) | (mode & EFER_LMA);/return exit_guest_msr(x, IA32_EFER, value);/
exit_model.c s/reason == EXIT_EXCEPTION_OR_NMI && IN_SOFTWARE(EXIT_EVENT)/0/
exit_model.c s/(value & ~EFER_LME) | mode/value | mode/
exit_model.c s/(F(GUEST_DR7) & ~(BITS(15, 14) | BIT(12))) | DR7_FIXED/F(GUEST_DR7)/
exit_model.c s/(F(GUEST_CR0) & ~CR0_KEPT) | (HAD(CR0) & CR0_KEPT)/F(GUEST_CR0)/
exit_model.c s/NOW(GUEST_RIP) == F(GUEST_RIP) &&$/true \&\&/
exit_model.c s/return !x->guest_comes_back && /return /
exit_information.c s/return busy;/return false;/
exit_information.c s/return busy .*;/return busy;/
exit_model.c s/INJECTS && !INJECTS_MTF && NOW/INJECTS \&\& NOW/
exit_model.c s/INJECTS_MTF/INJECTS_TYPE(OTHER)/
exit_rules_information.def s/ || INJECTS_TYPE(OTHER))/)/
exit_rules_guest.def s/exit_is_fault(ORIGINAL_EVENT)/true/
exit_rules_guest.def s/IN_SOFTWARE(ORIGINAL_EVENT) || exit_is_fault/exit_is_fault/
exit_rules_guest.def s/IN_SOFTWARE(ORIGINAL_EVENT) ? 0 : RFLAGS_RF/RFLAGS_RF/
exit_model.c s/NOW(EXIT_QUALIFICATION) & BIT(16)/true/
exit_information.c s/return REG1 | REG2;/return REG1;/
exit_information.c s/zero |= REG1_HIGH;/;/
exit_information.c s/zero |= REG2_HIGH;/;/
exit_information.c s/BIT(9) | (information & BIT(8) ? BIT(7) : 0)/BIT(9)/
exit_information.c s/information & NO_BASE ? 0 : BASE_HIGH/0/
exit_rules_host.def s/DR7, DR7_FIXED/DR7, 0/
exit_rules_host.def s/GDTR_LIMIT, 0xffff/GDTR_LIMIT, F(GUEST_GDTR_LIMIT)/
exit_rules_host.def s/HOST64 ? EFER_MODE : 0/EFER_MODE/
exit_rules_host.def s/CR4_PCIDE | CR4_FRED, 0)/CR4_PCIDE, 0)/
exit_rules_information.def s/: BITS(29, 28)) | BITS(24, 16), 0/: BITS(29, 28)), 0/
exit_rules_information.def s/BITS(63, in->cpu->maxphyaddr), 0/BITS(63, in->cpu->maxphyaddr + 1), 0/
exit_rules_information.def s/INJECTS_LENGTH), 1, 15)/INJECTS_LENGTH), 0, 15)/
exit_rules_information.def s/FAILED, BITS(30, 16), 0/FAILED, BITS(30, 17), 0/
exit_rules_guest.def s/IS(PIN, NMI_EXITING) && !IS(PIN, VIRTUAL_NMIS) &&/IS(PIN, NMI_EXITING) \&\&/
exit_rules_information.def s/ACCESS_TYPE == 3 || ACCESS_TYPE == 10/ACCESS_TYPE == 3/
exit_rules_information.def s/REASON == EXIT_APIC_ACCESS && WITH_EPT/REASON == EXIT_APIC_ACCESS/
exit_rules_information.def s/EVENT_TYPE_OTHER && !(NOW(GUEST_CR4) & CR4_FRED)/EVENT_TYPE_OTHER/
exit_rules_information.def s/exit_from_64_bit_mode(x) ? BITS(31, 0) : BITS(15, 0), 0/BITS(31, 0), 0/
exit_rules_information.def s/EXIT_EPT_VIOLATION && !(NOW(GUEST_CR4) & CR4_CET)/EXIT_EPT_VIOLATION/
exit_information.c s/INFORMATION) & REGISTER_FORM;/INFORMATION) \& BIT(7);/
exit_rules_information.def s/CR4_FRED && VALID(ORIGINAL_EVENT)/CR4_FRED/
exit_rules_information.def s/INJECTS_LENGTH && exit_has_length(x), BITS/INJECTS_LENGTH, BITS/
exit_lists.c s/index_before == msr)$/index == msr)/
exit_lists.c s/value = list->msr\[i\].value_before;/value = list->msr[i].value;/
exit_lists.c s/msr\[i\].index == msr)/msr[i].index_before == msr)/
exit_lists.c s/value = list->msr\[i\].value;/value = list->msr[i].value_before;/
exit_lists.c s/IS(PROC3, VIRTUALIZE_IA32_SPEC_CTRL);/false;/
exit_lists.c s/return exit_guest_msr_is_known(x, msr) ? ALL_BITS : 0;/return ALL_BITS;/
exit_lists.c s/!is_undefined(x, msr) || !exit_lists_msr(&x->entry_load, msr)/!is_undefined(x, msr)/
exit_lists.c s/msr <= paces\[i\].last/msr < paces[i].last/
exit_lists.c s/msr == IA32_TSC && exit_lists_msr(list, IA32_TSC_ADJUST)/0/
exit_lists.c s/if (low > high)/if (0)/
exit_lists.c s/ high = msr->now;/ high = ALL_BITS;/
exit_lists.c s/exit_guest_msr(x, msr->index, msr->had)/msr->had/
exit_lists.c s/		low = 0;/		;/
exit_lists.c s/low_of_guest = tsc_of_guest(x, low);/low_of_guest = 0;/
exit_lists.c s/F(TSC_MULTIPLIER) >> 48/F(TSC_MULTIPLIER) >> 47/
exit_lists.c s/return tsc + F(TSC_OFFSET);/return tsc;/
exit_lists.c s/msr->index == IA32_SYSENTER_CS ? BITS(31, 0) : ALL_BITS/ALL_BITS/
exit_lists.c s/if (msr->now && !list_moves/if (!list_moves/
exit_lists.c s/msr->index_before, BITS(63, 32), 0/msr->index_before, BITS(62, 32), 0/
exit_lists.c s/^			   BITS(63, 32), 0);/			   BITS(63, 33), 0);/
exit_lists.c s/ALL_BITS, msr->index_before);/BITS(31, 0), msr->index_before);/
exit_lists.c s/return ~EFER_LMA;/return ALL_BITS;/
exit_lists.c s/msr->index != IA32_TSC_ADJUST || /1 || /
exit_lists.c s/value > ~LOOKED_AT_WITHIN ? ALL_BITS :/0 ? ALL_BITS :/
exit_lists.c s/!(value >> 31))/1)/
exit_lists.c s/x->load.listed <= EXIT_MAX_LISTED;/true;/
exit_lists.c s/x->entry_load.listed <= EXIT_MAX_LISTED/x->entry_load.listed < EXIT_MAX_LISTED/
exit_rules_guest.def s/ && exit_code_is_another(x)//
exit_rules_guest.def s/REASON != EXIT_EXCEPTION_OR_NMI/true/
exit_rules_guest.def s/REASON == EXIT_EXCEPTION_OR_NMI/true/
exit_code.c s/x->code_bytes == INSTRUCTION_BYTES/1/
exit_code.c s/length <= x->code_bytes ? length : 0/length/
exit_model.c s/NOW(GUEST_CR4) & CR4_FRED && TYPE_OF(ORIGINAL/TYPE_OF(ORIGINAL/
exit_model.c s/ || by_system_call(x))/)/
exit_rules_information.def s/EXIT_APIC_ACCESS && WITH_EPT && *\\*$/EXIT_APIC_ACCESS \&\&/
exit_rules_guest.def s/exit_by_fault(x) && !IN_ENCLAVE/exit_has_event(x) \&\& !IN_ENCLAVE/
exit_model.c s/^	case VECTOR_DF:$/	case 99:/
exit_code.c s/ && !IN_SOFTWARE(EXIT_EVENT)/ \&\& 0/
exit_code.c s/!exit_entered(x) || !exit_from_64_bit_mode(x)/!exit_entered(x)/
exit_code.c s/if (\*own == PREFIX_NONE)/if (1)/
exit_code.c s/base == 5/base == 6/
exit_code.c s/1 + sib + (/1 + (/
exit_code.c s/encoding->form != FORM_CONTROL && !of_register/!of_register/
exit_code.c s/encoding->form == FORM_MEMORY && of_register/0/
exit_code.c s/encoding->form == FORM_REGISTER && !of_register/0/
exit_code.c s/encoding->digit != (code\[0\] >> 3 & 7)/0/
exit_code.c s/encoding->prefix != own/0/
exit_code.c s/(encoding->form != FORM_ALONE) > INSTRUCTION/1 > INSTRUCTION/
exit_rules_information.def s/(BITS(4, 0) | BITS(11, 10)/(BITS(4, 0) | BITS(11, 9)/
exit_rules_information.def s/(BITS(4, 0) | BITS(11, 10)/(BITS(4, 0) | BIT(11)/
entry_exits.c s/!BLOCKED_BY(NMI) && !INJECTS_TYPE(NMI)/!INJECTS_TYPE(NMI)/
entry_exits.c s/due == EXIT_NMI_WINDOW || due == EXIT_INTERRUPT_WINDOW/due == EXIT_INTERRUPT_WINDOW/
entry_exits.c s/if (!INJECTS_EVENT && interrupt_window_is_open(in))/if (interrupt_window_is_open(in))/
entry_exits.def s/IS(PROC2, ENABLE_INVPCID))/true)/
entry_exits.def s/IS(PROC1, INTERRUPT_WINDOW_EXITING))/IS(PROC1, NMI_WINDOW_EXITING))/
exit_reason.c s/code == F(PAGE_FAULT_ERROR_CODE_MATCH) ? bit : !bit/bit/
exit_reason.c s/last = port + FIELD(q, 2, 0)/last = port/
exit_reason.c s/if (last > 0xffff)/if (0)/
exit_rules_reason.def s/BIT(VECTOR_DB) | BIT(VECTOR_NMI)/BIT(VECTOR_NMI)/
exit_rules_guest.def s/(INJECTS_TYPE(NMI) || !IS(PIN, NMI_EXITING))/INJECTS_TYPE(NMI)/
exit_model.c s/IS(PROC3, PEBS_USES_GUEST_PHYSICAL_ADDRESSES) ||//
exit_rules_information.def s/in->state.smm ? 0 : BITS(29, 28)/BITS(29, 28)/
exit_rules_information.def s/!exit_has_event(x) && REASON != EXIT_EXTERNAL_INTERRUPT/!exit_has_event(x)/
exit_rules_information.def s/FAILED && REASON != EXIT_ENTRY_FAILURE_MACHINE_CHECK/FAILED/
exit_rules_information.def s/REASON == EXIT_BUS_LOCK || !IS(PROC2, VMM/!IS(PROC2, VMM/
exit_rules_information.def s/BIT(LINEAR_BITS - 1)/BIT(LINEAR_BITS)/
exit_rules_information.def s/exit_has_translated_address(x) && exit_from/exit_has_linear_address(x) \&\& exit_from/
exit_rules_information.def s/(NOW(EXIT_QUALIFICATION) & BITS(8, 7)) == BITS(8, 7)/NOW(EXIT_QUALIFICATION) \& BITS(8, 7)/
exit_rules_information.def s/NO_VIRTUAL_NMI_BLOCKING && !VALID(ORIGINAL_EVENT) &&/NO_VIRTUAL_NMI_BLOCKING \&\&/
exit_rules_information.def s/IN_DELIVERY && !exit_may_break_injection(x), BIT/IN_DELIVERY \&\& !exit_breaks_injection(x), BIT/
exit_rules_information.def s/!(exit_may_break_injection(x) && INJECTS/!(exit_breaks_injection(x) \&\& INJECTS/
exit_rules_information.def s/!(exit_may_break_injection(x) && INJECTS_LENGTH)/!exit_may_break_injection(x)/
exit_rules_information.def s/NOW(GUEST_CR0) & CR0_PE && exit_has_error_code/exit_has_error_code/
exit_rules_information.def s/BIT(31) | BIT(13) | BITS(11, 0)/BIT(31) | BITS(13, 0)/
exit_rules_information.def s/CR4_FRED && VALID(ORIGINAL_EVENT)/VALID(ORIGINAL_EVENT)/
exit_rules_reason.def s/^	!exit_may_be_asynchronous(x))/	true)/
exit_rules_reason.def s/BLOCKING_BY_STI | BLOCKING_BY_MOV_SS | BLOCKING_BY_NMI, 0/BLOCKING_BY_MOV_SS | BLOCKING_BY_NMI, 0/
exit_rules_reason.def s/^	RIGHTS_DPL(NOW(GUEST_SS_ACCESS_RIGHTS)))/	true)/
exit_rules_reason.def s/!(NOW(GUEST_CR0) & CR0_PE) || exit_from/exit_from/
exit_rules_reason.def s/REASON == EXIT_IO_INSTRUCTION && !exit/!exit/
exit_rules_reason.def s/^	!VALID(ORIGINAL_EVENT))/	true)/
exit_rules_guest.def s/!VALID(ORIGINAL_EVENT) && !IN_ENCLAVE/!VALID(ORIGINAL_EVENT)/
exit_rules_guest.def s/exit_by_fault(x) && !IN_ENCLAVE/exit_by_fault(x)/
exit_rules_guest.def s/!INJECTS && !IN_ENCLAVE/!INJECTS/
exit_rules_guest.def s/!in->state.smm,$/true,/
exit_rules_guest.def s/(supported) && EXISTS(REG)/EXISTS(REG)/
exit_rules_guest.def s/(supported) && EXISTS(REG)/(supported)/
exit_rules_guest.def s/(saves) && (exists)/(saves)/
exit_rules_guest.def s/& 1 ? ~BITS(11, 9) : 1/\& 1 ? ~BITS(10, 9) : 1/
exit_rules_guest.def s/F(GUEST_PDPTE##number) & 1 ? ~BITS(11, 9) : 1/~BITS(11, 9)/
exit_rules_guest.def s/!IS(PIN, VIRTUAL_NMIS) && !INJECTS_TYPE(NMI), BLOCKING/!IS(PIN, VIRTUAL_NMIS), BLOCKING/
exit_rules_guest.def s/in->cpu->sgx ? 0 : ENCLAVE/0 ? 0 : ENCLAVE/
exit_rules_guest.def s/BITS(63, 17) | BIT(15)/BITS(63, 16) | BIT(15)/
exit_rules_guest.def s/USABLE(NAME) ? RIGHTS_KEPT(NAME) : (rights)/RIGHTS_KEPT(NAME)/
exit_rules_guest.def s/USABLE(SS), USABLE(SS), BITS(6, 5))/USABLE(SS), USABLE(SS), 0)/
exit_rules_guest.def s/EXISTS(DEBUGCTL) || IS(ENTRY/IS(ENTRY/
exit_rules_guest.def s/REASON == EXIT_TASK_SWITCH && exit_by_task_gate(x) &&/exit_by_task_gate(x) \&\&/
exit_rules_host.def s/x->host_only ? ~CR0_KEPT : ALL_BITS/~CR0_KEPT/
exit_rules_host.def s/in->cpu->lam ? ~BITS(62, 61) : ALL_BITS/ALL_BITS/
exit_rules_host.def s/HOST64 || F(HOST_FS_SELECTOR)/true/
exit_rules_host.def s/true, ~BITS(31, 16),/true, ALL_BITS,/
exit_rules_host.def s/exit_entered(x) && !IS(EXIT, CLEAR_UINV)/!IS(EXIT, CLEAR_UINV)/
exit_model.c s/^	if (IN_ENCLAVE)$/	if (0)/
exit_model.c s/^		if (IN_ENCLAVE)$/		if (0)/
exit_model.c s/EXCEPTION && !IN_ENCLAVE)$/EXCEPTION)/
exit_model.c s/(reason != EXIT_EXCEPTION_OR_NMI || exit_is_fault(EXIT_EVENT))/true/
exit_model.c s/^	case EXIT_TRIPLE_FAULT:/	case 60000:/
exit_model.c s/NOW(GUEST_RSP) == F(GUEST_RSP);/true;/
exit_model.c s/(FIELD(q, 5, 4) == 2 ? BITS(11, 8) | BITS(3, 0) : 0)/0/
exit_model.c s/!IA32E && F(GUEST_CR0) & CR0_PG && F(GUEST_CR4)/!IA32E \&\& F(GUEST_CR4)/
exit_code.c s/ || IN_ENCLAVE ||/ ||/
exit_information.c s/segment > 5/segment > 4/
exit_information.c s/!BASIC(54) || segment > 5/segment > 5/
exit_information.c s/q & BIT(3) ? ADDRESS : ADDRESS | SEGMENTED/ADDRESS | SEGMENTED/
exit_information.c s/parts & SEGMENTED && information & BIT(17)/information \& BIT(17)/
exit_information.c s/busy && !(NOW(EXIT_QUALIFICATION) & BIT(0))/busy/
exit_information.c s/if (!MISC(5))/if (0)/
exit_reason.c s/F(CR0_GUEST_HOST_MASK) & F(CR0_READ_SHADOW) & CR0_TS/F(CR0_GUEST_HOST_MASK) \& CR0_TS/
exit_reason.c s/(CR0_MP | CR0_EM | CR0_TS)/(CR0_MP | CR0_TS)/
exit_reason.c s/differs & source & CR0_PE/differs \& CR0_PE/
exit_reason.c s/return !in->read(in->memory, bitmap/return in->read(in->memory, bitmap/
END
}

# The models as they are: their objects, and tests that pass.
build_original()
{
	compile "$top"/tests/models/entry_test.c "$top"/tests/models/entry_world.c "$top"/tests/models/exit_test.c \
		"$top"/tests/models/exit_settle.c vmx/entry_rules.c vmx/entry_model.c vmx/entry_exits.c vmx/entry_scene.c \
		vmx/exit_model.c vmx/exit_information.c vmx/exit_reason.c vmx/exit_lists.c vmx/exit_code.c \
		vmx/exit_rules.c || exit 2
	for model in entry exit; do
		link "$model" || exit 2
		passes "$model" || {
			echo "the model of VM $model fails as it is" >&2
			exit 2
		}
	done
	mkdir original && cp ./*.o original || exit 2
}

cd "$tmp" || exit 2
mutations | grep -e "${1:-.}" >list || {
	echo "mutate-vmx.sh: no mutation has '$1'; without a pattern all are tried" >&2
	exit 2
}
cp -r "$top/lib/x86/vmx" . || exit 2
[ -n "$check" ] || build_original
number=0
survived=0
broken=0
while read -r file mutation; do
	number=$((number + 1))
	model=${file%%_*}
	sources=$(sources_of "$file")
	sed "$mutation" "$top/lib/x86/vmx/$file" >"vmx/$file" || exit 2
	# shellcheck disable=SC2086	# a list
	if cmp -s "$top/lib/x86/vmx/$file" "vmx/$file"; then
		echo "$file: changes nothing: $mutation"
		broken=$((broken + 1))
	elif [ -n "$check" ]; then
		:
	elif ! compile $sources || ! link "$model"; then
		echo "$file: does not compile: $mutation"
		broken=$((broken + 1))
	elif passes "$model"; then
		echo "$file: not noticed: $mutation"
		survived=$((survived + 1))
	fi
	cp "$top/lib/x86/vmx/$file" "vmx/$file"
	[ -n "$check" ] || cp original/*.o . || exit 2
done <list
echo "$number mutations, $survived not noticed, $broken out of date"
[ "$broken" -eq 0 ] || exit 2
[ "$survived" -eq 0 ]
