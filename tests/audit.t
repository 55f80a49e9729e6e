#!/bin/sh
# The levels of the audit: exitpath,audit in the tree says which part of the VM entries behind the first of each
# case is audited in full, and of the rest only the host state. One image runs at each level on Bochs.
#
# What shows the level is a case in which Bochs does not follow the SDM where only the full audit looks: its third
# entry fails late, and changes exit information that 29.8 says is unchanged. Without the list of deviations the
# audit of that entry fails the case.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

EXITPATH_TOP=$top EXITPATH_BUILD=$build
export EXITPATH_TOP EXITPATH_BUILD
boot=$top/runners/bochs/boot
"$boot" --probe 2>/dev/null || skip_all "Bochs cannot run here"
command -v fdtput >/dev/null || skip_all "no fdtput"

# run_at PERCENT CASE [OPTION...]: CASE of vmx/exit-entry-failure at that level.
run_at()
{
	cp "$build/runners/bochs/machine.dtb" "$tmp/machine.dtb" &&
		fdtput -p -t u "$tmp/machine.dtb" /chosen exitpath,audit "$1" || exit 1
	run_at_case=$2
	shift 2
	run_cmd "$build/tools/supervise" --image vmx/exit-entry-failure \
		--elf "$build/images/vmx/exit-entry-failure" \
		--cases "$build/images/vmx/exit-entry-failure.tsv" --dtb "$tmp/machine.dtb" \
		--select "vmx/exit-entry-failure:$run_at_case" ${1+"$@"} -- "$boot"
}

says='exitpath,audit = <%s>: the first entry of each case and %s percent'
late=failed_resume_leaves_launched

run_at 100 "$late"
is "in full: exit status 1" "$status" 1
like "in full: the audit looks at the third entry" "$out" 'audit: .*29\.8, rule failure_instruction_length'
unlike "in full: nothing to say" "$out" 'exitpath,audit ='

run_at 0 "$late"
is "the host state only: exit status 0" "$status" 0
# shellcheck disable=SC2059	# a format of our own
like "the host state only: the image says so" "$out" "$(printf "^# $says" 0 0)"
unlike "the host state only: no other rule" "$out" 'audit: '

# By the run's seed the entry is one of those, or not.
for seed in 1 2 3 4 5 6 7 8; do
	run_at 50 "$late" --seed "$seed"
	printf '%s' "$status"
done >"$tmp/statuses"
like "sampled: some seeds draw the entry" "$(cat "$tmp/statuses")" 1
like "sampled: some do not" "$(cat "$tmp/statuses")" 0
# shellcheck disable=SC2059	# a format of our own
like "sampled: the image says so" "$out" "$(printf "^# $says" 50 50)"

# The whole image, with what Bochs is known for, at every level.
"$boot" --identify >"$tmp/identity" 2>/dev/null
for percent in 0 30 100; do
	run_at "$percent" '*' --deviations "$top/runners/bochs/deviations.tsv" \
		--identity "$(cat "$tmp/identity")"
	is "the whole image at $percent percent: as expected" "$status" 0
done

# Of sweeps and walks a sample, or, with --audit-all, every entry; whatever part the tree asks for.
# audits_of PERCENT [OPTION...]: "ENTRIES AUDITED-IN-FULL" of the sweep of one field.
audits_of()
{
	cp "$build/runners/bochs/machine.dtb" "$tmp/machine.dtb" &&
		fdtput -p -t u "$tmp/machine.dtb" /chosen exitpath,audit "$1" || exit 1
	shift
	run_cmd "$build/tools/supervise" --image vmx/sweep-guest --elf "$build/images/vmx/sweep-guest" \
		--cases "$build/images/vmx/sweep-guest.tsv" --dtb "$tmp/machine.dtb" \
		--select '*:guest_rsp' ${1+"$@"} -- "$boot"
	audits=$(printf '%s\n' "$out" | sed -n 's/^# \([0-9]*\) entries.* \([0-9]*\) audited in full$/\1 \2/p')
}
audits_of 100
ok "a sweep audits a sample: $audits" test "${audits#* }" -gt 0 -a "$((${audits#* } * 10))" -lt "${audits% *}"
audits_of 0
like "at no percent the first alone" "$audits" ' 1$'
audits_of 0 --audit-all
ok "with --audit-all every entry: $audits" test "${audits#* }" -ge "${audits% *}"
unlike "with --audit-all: nothing to say" "$out" 'exitpath,audit ='

# Without any, what remains is what the case itself compares: exitpath bench suite measures the difference.
cp "$build/runners/bochs/machine.dtb" "$tmp/none.dtb" &&
	fdtput -p "$tmp/none.dtb" /chosen exitpath,audit-none || exit 1
run_cmd "$build/tools/supervise" --image vmx/exit-entry-failure --elf "$build/images/vmx/exit-entry-failure" \
	--cases "$build/images/vmx/exit-entry-failure.tsv" --dtb "$tmp/none.dtb" \
	--select "vmx/exit-entry-failure:$late" -- "$boot"
is "none: exit status 0" "$status" 0

done_testing
