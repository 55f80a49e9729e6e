#!/bin/sh
# Do the tests notice when the paging model is wrong? Changes lib/x86/mmu/walk.c and memory_type.c (copies)
# in one place after the other, each time builds the tests with it, and expects one to fail.
#
# usage: mutate.sh [--fuzz]
#
# --fuzz: walk_fuzz (100000 inputs) instead of the tests; takes minutes. It cannot notice mistakes
# in walk_pdpte_reserved(), which no walk uses, and in the mask of an entry that is malformed anyway.
# Reads: CC (default: gcc; with --fuzz: clang).
# Prints one line per mutation that is not noticed, or that cannot be tried, then a summary.
# Exit status: 0 all were noticed, 1 some were not, 2 a mutation is out of date or does not compile.

set -u

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
top=$(CDPATH='' cd -- "$here/../.." && pwd) || exit 2
[ $# -le 1 ] || set -- --usage
case ${1-} in
'')
	fuzz=no
	cc=${CC:-gcc}
	sources="walk_test.c memory_type_test.c"
	options=-lcmocka
	arguments=
	;;
--fuzz)
	fuzz=yes
	cc=${CC:-clang}
	sources='walk_fuzz.c walk_properties.c walk_reference.c'
	options=-fsanitize=fuzzer,undefined
	arguments='-seed=1 -runs=100000 -len_control=0 -max_len=512'
	;;
*)
	echo "usage: mutate.sh [--fuzz]" >&2
	exit 2
	;;
esac
tmp=$(mktemp -d "${TMPDIR:-/tmp}/exitpath-mutate.XXXXXX") || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# compile ARGUMENT...: with the options of all.
compile()
{
	"$cc" -std=c11 -D_GNU_SOURCE -w -I"$top/lib" -I"$top/lib/x86" "$@"
}

# build MODEL: its test, or the fuzzer, with the models in $tmp.
build()
{
	case $fuzz in
	no) compile -o test "$1.c" "$1_test.o" "$options" ;;
	yes) compile -o test walk.c memory_type.c walk_*.o "$options" ;;
	esac
}

# passes: succeeds when the test does.
passes()
{
	# shellcheck disable=SC2086	# a list
	timeout 100 ./test $arguments >/dev/null 2>&1
}

# One sed script per line, each a mistake that the model could contain.
walk_mutations()
{
	cat <<'END'
s/return PAGING_OFF;/return PAGING_32_BIT;/
s/cpu->cr0 & CR0_PG/cpu->cr0 \& CR0_PE/
s/!(cpu->cr4 & CR4_PAE)/!(cpu->cr4 \& CR4_PSE)/
s/!(cpu->efer & EFER_LME)/!(cpu->efer \& EFER_LMA)/
s/CR4_LA57 ? PAGING_5_LEVEL : PAGING_4_LEVEL/CR4_LA57 ? PAGING_4_LEVEL : PAGING_4_LEVEL/
s/{ 2, 4, 10, 32 }/{ 2, 4, 9, 32 }/
s/{ 2, 4, 10, 32 }/{ 2, 8, 10, 32 }/
s/{ 2, 8, 9, 32 }/{ 2, 8, 10, 32 }/
s/{ 4, 8, 9, 48 }/{ 4, 8, 9, 47 }/
s/{ 4, 8, 9, 48 }/{ 4, 8, 9, 57 }/
s/{ 5, 8, 9, 57 }/{ 5, 8, 9, 48 }/
s/{ 5, 8, 9, 57 }/{ 5, 8, 9, 58 }/
s/return mode == PAGING_4_LEVEL || mode == PAGING_5_LEVEL/return mode >= PAGING_PAE/
s/return mode == PAGING_4_LEVEL || mode == PAGING_5_LEVEL/return mode == PAGING_4_LEVEL/
s/return mode == PAGING_4_LEVEL || mode == PAGING_5_LEVEL/return mode != PAGING_4_LEVEL/
s/if (!(entry & ENTRY_PS))/if (0)/
s/return cpu->cr4 & CR4_PSE;/return true;/
s/level == 2 || (level == 3 && cpu->pages_1g)/level == 2/
s/level == 2 || (level == 3 && cpu->pages_1g)/level == 2 || level == 3/
s/physical_bits < 40 ? cpu->physical_bits : 40/physical_bits/
s/physical_bits < 40 ? cpu->physical_bits : 40/physical_bits < 41 ? cpu->physical_bits : 41/
s/if (!(cpu->cr4 & CR4_PSE) || /if (/
s/CR4_PSE) || !walk_is_leaf(cpu, PAGING_32_BIT, level, entry)/CR4_PSE)/
s/cpu->pat ? 0 : ENTRY_PAT_4K/0/
s/bits - 19)/bits - 18)/
s/bits - 19)/bits - 20)/
s/cpu->pse36 ? BITS(21, bits - 19) : BITS(21, 13)/BITS(21, bits - 19)/
s/cpu->pse36 ? BITS(21, bits - 19) : BITS(21, 13)/BITS(21, 13)/
s/: BITS(21, 13)/: BITS(20, 13)/
s/return cpu->pat ? reserved : reserved | ENTRY_PAT_LARGE/return reserved/
s/return cpu->pat ? reserved : reserved | ENTRY_PAT_LARGE/return reserved | ENTRY_PAT_LARGE/
s/BITS(62, cpu->physical_bits)/BITS(51, cpu->physical_bits)/
s/BITS(62, cpu->physical_bits)/BITS(62, cpu->physical_bits + 1)/
s/else if (cpu->physical_bits < 52)/else if (0)/
s/BITS(51, cpu->physical_bits)/BITS(51, cpu->physical_bits + 1)/
s/BITS(51, cpu->physical_bits)/BITS(51, cpu->physical_bits - 1)/
s/BITS(51, cpu->physical_bits)/BITS(52, cpu->physical_bits)/
s/if (!(cpu->efer & EFER_NXE))/if (0)/
s/if (!(cpu->efer & EFER_NXE))/if (cpu->efer \& EFER_NXE)/
s/level >= 4 ||/level >= 5 ||/
s/level >= 4 ||/level == 4 ||/
s/(level == 3 && !cpu->pages_1g)/0/
s/level == 3 && !cpu->pages_1g/level == 3/
s/- 1) & BITS(63, 13)/- 1) \& BITS(63, 14)/
s/- 1) & BITS(63, 13)/- 1) \& BITS(63, 12)/
s/if (level > 1 && walk_is_leaf(cpu, mode, level, entry))/if (0)/
s/if (!cpu->pat && level == 1)/if (0)/
s/if (!cpu->pat && level == 1)/if (level == 1)/
s/if (!cpu->pat && level > 1 &&/if (0 \&\&/
s/if (!cpu->pat && level > 1 &&/if (level > 1 \&\&/
s/BITS(63, cpu->physical_bits) |/BITS(62, cpu->physical_bits) |/
s/BITS(8, 5) | BITS(2, 1)/BITS(8, 6) | BITS(2, 1)/
s/BITS(8, 5) | BITS(2, 1)/BITS(8, 5) | BITS(2, 2)/
s/access->wruss || (cpu->cpl/(cpu->cpl/
s/cpu->cpl == 3 && !access->implicit/cpu->cpl == 3/
s/cpu->cpl == 3 && !access->implicit/cpu->cpl >= 1 \&\& !access->implicit/
s/cpu->cpl == 3 && !access->implicit/cpu->cpl >= 2 \&\& !access->implicit/
s/rights->user_address ? cpu->pkru : cpu->pkrs/cpu->pkru/
s/rights->user_address ? cpu->pkru : cpu->pkrs/is_user_access(cpu, access) ? cpu->pkru : cpu->pkrs/
s/rights->user_address ? CR4_PKE : CR4_PKS/CR4_PKE/
s/rights->user_address ? CR4_PKE : CR4_PKS/CR4_PKE | CR4_PKS/
s/keys >> 2 \* rights->key & 1/keys >> rights->key \& 1/
s/keys >> (2 \* rights->key + 1)/keys >> (2 * rights->key)/
s/if (!has_keys(mode) || /if (/
s/ || access->kind == ACCESS_FETCH)/)/
s/if (access_disable)/if (0)/
s/if (access_disable)/if (access_disable \&\& cpu->cr0 \& CR0_WP)/
s/if (access_disable)/if (access_disable \&\& is_user_access(cpu, access))/
s/return write_disable && access->kind == ACCESS_WRITE/return write_disable/
s/(is_user_access(cpu, access) || cpu->cr0 & CR0_WP)/(cpu->cr0 \& CR0_WP)/
s/(is_user_access(cpu, access) || cpu->cr0 & CR0_WP)/is_user_access(cpu, access)/
s/(is_user_access(cpu, access) || cpu->cr0 & CR0_WP)/true/
s/(is_user_access(cpu, access) || cpu->cr0 & CR0_WP)/(cpu->cpl == 3 || cpu->cr0 \& CR0_WP)/
s/return !rights->execute_disable &&/return 1 \&\&/
s/!(rights->user_address && cpu->cr4 & CR4_SMEP)/!(cpu->cr4 \& CR4_SMEP)/
s/!(rights->user_address && cpu->cr4 & CR4_SMEP)/true/
s/if (rights->user_address && cpu->cr4 & CR4_SMAP/if (cpu->cr4 \& CR4_SMAP/
s/if (rights->user_address && cpu->cr4 & CR4_SMAP/if (rights->user_address/
s/(access->implicit || !(cpu->rflags & RFLAGS_AC))/!(cpu->rflags \& RFLAGS_AC)/
s/(access->implicit || !(cpu->rflags & RFLAGS_AC))/access->implicit/
s/(access->implicit || !(cpu->rflags & RFLAGS_AC))/true/
s/rights->writable || !(cpu->cr0 & CR0_WP)/rights->writable/
s/rights->writable || !(cpu->cr0 & CR0_WP)/true/
s/return access->kind == ACCESS_READ || rights->writable || /return rights->writable || /
s/if (!rights->user_address)/if (0)/
s/return !rights->execute_disable;/return true;/
s/return access->kind == ACCESS_READ || rights->writable;/return true;/
s/return access->kind == ACCESS_READ || rights->writable;/return rights->writable;/
s/if (key_denies(cpu, mode, access, rights))/if (0)/
s/if (access->shadow_stack)$/if (0)/
s/return rights->shadow_stack && rights->user_address == user/return rights->shadow_stack/
s/return rights->shadow_stack && rights->user_address == user/return rights->user_address == user/
s/return user ? user_allowed(access, rights) : supervisor_allowed(cpu, access, rights)/return supervisor_allowed(cpu, access, rights)/
s/error |= PF_WR/error |= 0/
s/error |= PF_US/error |= 0/
s/if (is_user_access(cpu, access))/if (cpu->cpl == 3)/
s/(cpu->cr4 & CR4_SMEP || (/((/
s/(cpu->cr4 & CR4_PAE && cpu->efer & EFER_NXE)/(cpu->efer \& EFER_NXE)/
s/(cpu->cr4 & CR4_PAE && cpu->efer & EFER_NXE)/(cpu->cr4 \& CR4_PAE)/
s/if (access->kind == ACCESS_FETCH &&$/if (/
s/error |= PF_SS/error |= 0/
s/if (access->shadow_stack)$/if (cpu->cet_ss)/
s/BITS(63, bits - 1)/BITS(63, bits)/
s/BITS(63, bits - 1)/BITS(62, bits - 1)/
s/(address & top) == 0 || (address & top) == top/(address \& top) == 0/
s/(address & top) == 0 || (address & top) == top/(address \& top) == top/
s/12 + (level - 1) \* bits/12 + level * bits/
s/(BIT(bits) - 1)/(BIT(bits - 1) - 1)/
s/(BIT(bits) - 1)/(BIT(bits + 1) - 1)/
s/index \* modes\[mode\].entry_size/index * 8/
s/PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12));$/PAGING_32_BIT ? BITS(31, 12) : BITS(51, 13));/
s/return entry & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12))/return entry \& BITS(63, 12)/
s/return entry & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12))/return entry \& BITS(31, 12)/
s/entry & BITS(51, 12) & ~/entry \& BITS(63, 12) \& ~/
s/entry & BITS(51, 12) & ~/entry \& BITS(50, 12) \& ~/
s/ & ~(region_size(mode, level) - 1);/;/
s/BITS(31, 22)) |/BITS(31, 23)) |/
s/FIELD(entry, 20, 13) << 32/FIELD(entry, 19, 13) << 32/
s/FIELD(entry, 20, 13) << 32/FIELD(entry, 20, 13) << 31/
s/above & ENTRY_RW && !(leaf & ENTRY_RW)/!(leaf \& ENTRY_RW)/
s/above & ENTRY_RW && !(leaf & ENTRY_RW)/above \& ENTRY_RW/
s/!(leaf & ENTRY_RW) && leaf & ENTRY_D/!(leaf \& ENTRY_RW)/
s/shadow_stack = above &/shadow_stack = all \&/
s/user_address = all & ENTRY_US/user_address = leaf \& ENTRY_US/
s/user_address = all & ENTRY_US/user_address = any \& ENTRY_US/
s/writable = all & ENTRY_RW/writable = leaf \& ENTRY_RW/
s/writable = all & ENTRY_RW/writable = above \& ENTRY_RW/
s/any & ENTRY_XD/leaf \& ENTRY_XD/
s/any & ENTRY_XD/all \& ENTRY_XD/
s/FIELD(leaf, 62, 59)/FIELD(all, 62, 59)/
s/above = all;/;/
s/FIELD(leaf, 62, 59)/FIELD(leaf, 61, 59)/
s/\.must_set = ENTRY_A/.must_set = 0/
s/may_set = ENTRY_A/may_set = 0/
s/must_set = 0;/must_set = ENTRY_A;/
s/may_set = 0;/may_set = ENTRY_A;/
s/if (access->kind != ACCESS_WRITE)/if (access->kind == ACCESS_FETCH)/
s/!(cpu->cet_ss && !(leaf->value & ENTRY_RW))/true/
s/!(cpu->cet_ss && !(leaf->value & ENTRY_RW))/!cpu->cet_ss/
s/!(cpu->cet_ss && !(leaf->value & ENTRY_RW))/leaf->value \& ENTRY_RW/
s/step\[result->steps - 1\]/step[0]/
s/error | error_of_access(cpu, access)/error/
s/if (!(error & PF_P) || error & PF_RSVD)/if (!(error \& PF_P))/
s/if (!(error & PF_P) || error & PF_RSVD)/if (error \& PF_RSVD)/
s/if (!(error & PF_P) || error & PF_RSVD)/if (1)/
s/leaf->level == 1 ? ENTRY_PAT_4K : ENTRY_PAT_LARGE/ENTRY_PAT_4K/
s/leaf->level == 1 ? ENTRY_PAT_4K : ENTRY_PAT_LARGE/ENTRY_PAT_LARGE/
s/if (!rights_allow(cpu, mode, access, rights))/if (0)/
s/(key_denies(cpu, mode, access, rights) ? PF_PK : 0)/0/
s/PF_P | (key_denies/(key_denies/
s/access->address & (result->page_size - 1)/access->address \& 0xfff/
s/cpu->cr4 & CR4_PGE && leaf->value & ENTRY_G/leaf->value \& ENTRY_G/
s/cpu->cr4 & CR4_PGE && leaf->value & ENTRY_G/cpu->cr4 \& CR4_PGE/
s/result->protection_key = rights->key/result->protection_key = 0/
s/result->user_address = rights->user_address/result->user_address = true/
s/result->writable = rights->writable/result->writable = true/
s/result->executable = !rights->execute_disable/result->executable = true/
s/result->executable = !rights->execute_disable/result->executable = !rights->execute_disable \&\& !(cpu->cr4 \& CR4_SMEP)/
s/FIELD(leaf->value, 4, 3)/FIELD(leaf->value, 5, 3)/
s/cpu->pat && leaf->value & pat ? 4 : 0/leaf->value \& pat ? 4 : 0/
s/leaf->value & pat ? 4 : 0/leaf->value \& pat ? 2 : 0/
s/cpu->cr3 & (mode == PAGING_32_BIT ? BITS(31, 12)/cpu->cr3 \& (mode == PAGING_32_BIT ? BITS(63, 12)/
s/cpu->cr3 & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12))/cpu->cr3 \& (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(63, 12))/
s/cpu->cr3 & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12))/cpu->cr3 \& BITS(31, 12)/
s/cpu->cr3 & (mode == PAGING_32_BIT ? BITS(31, 12) : BITS(51, 12))/cpu->cr3/
s/result->user_address = result->writable = result->executable = true/;/
s/access->address & BITS(31, 0)/0/
s/if (has_keys(mode) && !is_canonical/if (!is_canonical/
s/if (has_keys(mode) && !is_canonical/if (0 \&\& !is_canonical/
s/FIELD(access->address, 31, 30)/FIELD(access->address, 30, 30)/
s/if (!(pdpte & ENTRY_P))/if (0)/
s/table = table_address(mode, pdpte)/table = pdpte/
s/if (!(step->value & ENTRY_P))/if (0)/
s/if (step->value & (everywhere | reserved))/if (0)/
s/(everywhere | reserved)/everywhere/
s/(everywhere | reserved)/reserved/
s/fault(cpu, access, result, PF_P | PF_RSVD)/fault(cpu, access, result, PF_RSVD)/
s/fault(cpu, access, result, PF_P | PF_RSVD)/fault(cpu, access, result, PF_P)/
s/step->level = level/step->level = 1/
END
}

memory_type_mutations()
{
	cat <<'END'
s/if (types & BIT(MEMORY_TYPE_UC))/if (0)/
s/types == (BIT(MEMORY_TYPE_WT) | BIT(MEMORY_TYPE_WB))/types \& BIT(MEMORY_TYPE_WT)/
s/return types == BIT(type) ?/return 1 ?/
s/if (!(registers->def_type & DEF_TYPE_E))/if (0)/
s/physical < 0x100000/physical <= 0x100000/
s/registers->mtrrcap & MTRRCAP_FIX/1/
s/registers->def_type & DEF_TYPE_FE/1/
s/mask & PHYSMASK_VALID && //
s/i < (registers->mtrrcap & MTRRCAP_VCNT) && //
s/ && i < MTRR_VARIABLE_MAX/ \&\& i < 8/
s/BITS(51, 12)	/BITS(35, 12)	/
s/BITS(51, 12)	/BITS(51, 13)	/
s/types |= BIT(FIELD(base, 2, 0))/types = BIT(FIELD(base, 2, 0))/
s/: (enum memory_type)FIELD(registers->def_type, 7, 0)/: MEMORY_TYPE_UC/
s/{ 0xa0000, 0x4000 }/{ 0xa0000, 0x1000 }/
s/{ 0xf8000, 0x1000 }/{ 0xf9000, 0x1000 }/
s/field + 7, 8 \* field/field + 2, 8 * field + 1/
s/FIELD(registers->pat, 8 \* index + 7, 8 \* index)/FIELD(registers->pat, 8 * index + 2, 8 * index)/
s/BITS(7, 4) | BITS(1, 0)/BITS(7, 0)/
s/mtrr == MEMORY_TYPE_UC_MINUS || //
s/|| !is_type(pat)//
s/\[MEMORY_TYPE_WC\] = { UC, WC, 0, 0, UC, UC, WC, WC }/[MEMORY_TYPE_WC] = { UC, WC, 0, 0, WT, UC, WC, WC }/
s/\[MEMORY_TYPE_WP\] = { UC, WC, 0, 0, WT, WP, WP, WC }/[MEMORY_TYPE_WP] = { UC, WC, 0, 0, WT, WP, WP, UC }/
s/\[MEMORY_TYPE_WB\] = { UC, WC, 0, 0, WT, WP, WB, UC }/[MEMORY_TYPE_WB] = { UC, WC, 0, 0, WT, WP, WB, WC }/
s/if (result->mode == PAGING_OFF)/if (0)/
s/result->mode == PAGING_PAE/0/
s/cpu->cr4 & CR4_PCIDE ? 0 : cpu->cr3/cpu->cr3/
s/FIELD(access->address, 31, 30)/FIELD(access->address, 30, 29)/
s/result->step\[step\].address/result->physical/
s/result->step\[step - 1\]/result->step[step]/
END
}

cd "$tmp" || exit 2
for source in $sources; do
	compile -O1 -c "$top/tests/models/$source" || exit 2
done
number=0
survived=0
broken=0

# judge MODEL: every mutation of it.
judge()
{
	model=$top/lib/x86/mmu/$1.c
	build "$1" || exit 2
	passes || {
		echo "the model $1 fails as it is" >&2
		exit 2
	}
	"$1_mutations" >list
	while IFS= read -r mutation; do
		number=$((number + 1))
		sed "$mutation" "$model" >"$1.c" || exit 2
		if cmp -s "$model" "$1.c"; then
			echo "$1: changes nothing: $mutation"
			broken=$((broken + 1))
		elif ! build "$1"; then
			echo "$1: does not compile: $mutation"
			broken=$((broken + 1))
		elif passes; then
			echo "$1: not noticed: $mutation"
			survived=$((survived + 1))
		fi
	done <list
	cp "$model" "$1.c"
}

cp "$top/lib/x86/mmu/walk.c" "$top/lib/x86/mmu/memory_type.c" . || exit 2
judge walk
judge memory_type
echo "$number mutations, $survived not noticed, $broken out of date"
[ "$broken" -eq 0 ] || exit 2
[ "$survived" -eq 0 ]
