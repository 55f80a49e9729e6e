#!/bin/sh
# Cases that no machine can run, on the pretended processor (tests/rehearsal): each of cases.tsv is ok
# there, not skipped, and not ok under every fault that its row names; and no case needs something that
# only the pretended processor has without being in cases.tsv or, with the reason, in not-rehearsed.tsv.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

list=$top/tests/rehearsal/cases.tsv
others=$top/tests/rehearsal/not-rehearsed.tsv

unset MAKEFLAGS MFLAGS MAKELEVEL
run_cmd make -s -f "$top/Makefile" "SRC=$top" "B=$build" images
is "the images are built" "$status:$err" "0:"
[ "$status" -eq 0 ] || done_testing

# --- which cases ------------------------------------------------------------------------------

grep -v '^#' "$list" >"$tmp/rows"
grep -v '^#' "$others" >"$tmp/others"
cut -f 1 "$tmp/rows" | LC_ALL=C sort >"$tmp/listed"
(cd "$build/images" && awk -F '\t' '{
	image = FILENAME
	gsub(/^\.\/|\.tsv$/, "", image)
	print image ":" $2 "\t" $1 "\t" $4
}' ./*/*.tsv) | LC_ALL=C sort >"$tmp/cases"

is "each row of cases.tsv has three columns, each of not-rehearsed.tsv two" \
	"$(awk -F '\t' 'NF != 3' "$tmp/rows"; awk -F '\t' 'NF != 2' "$tmp/others")" ""
is "each case has one row, in order" "$(cut -f 1 "$tmp/rows")" "$(LC_ALL=C sort -u "$tmp/listed")"
is "all of them exist" "$(cut -f 1 "$tmp/cases" | LC_ALL=C comm -13 - "$tmp/listed")" ""
is "each has a fault, or a reason why there is none" \
	"$(awk -F '\t' '($2 == "-") == ($3 == "-") { print $1 }' "$tmp/rows")" ""

# needing: the ids of the cases that need a feature or a control of processor.def.
needing()
{
	# What needs are called: lib/x86/cpu/features.h, lib/x86/vmx/capabilities.h.
	sed -n -e 's/^PRETEND_FEATURE(\(.*\))$/CPUID feature \1/p' \
		-e 's/^PRETEND_CONTROL(PROC1, \(.*\))$/primary processor-based control \1/p' \
		-e 's/^PRETEND_CONTROL(PROC2, \(.*\))$/secondary processor-based control \1/p' \
		-e 's/^PRETEND_CONTROL(PROC3, \(.*\))$/tertiary processor-based control \1/p' \
		-e 's/^PRETEND_CONTROL(EXIT, \(.*\))$/VM-exit control \1/p' \
		-e 's/^PRETEND_CONTROL(EXIT2, \(.*\))$/secondary VM-exit control \1/p' \
		-e 's/^PRETEND_CONTROL(ENTRY, \(.*\))$/VM-entry control \1/p' \
		"$top/tests/rehearsal/processor.def" |
		awk -F '\t' '
		NR == FNR { pretended[$0] = 1; next }
		{
			count = split($3, need, "; ")
			for (i = 1; i <= count; i++)
				if (need[i] in pretended) { print $1; next }
		}' - "$tmp/cases"
}

# unlisted: "id" of each needing case that is in neither list, "glob: ..." of each glob that stands for none.
unlisted()
{
	needing | LC_ALL=C comm -23 - "$tmp/listed" | awk -F '\t' '
	function regex(glob) {
		gsub(/[.+(){}|^$]/, "\\\\&", glob)
		gsub(/\*/, ".*", glob)
		return "^" glob "$"
	}
	NR == FNR { pattern[++count] = regex($1); glob[count] = $1; next }
	{
		for (i = 1; i <= count; i++)
			if ($0 ~ pattern[i]) { used[i] = 1; next }
		print
	}
	END {
		for (i = 1; i <= count; i++)
			if (!(i in used))
				print "not-rehearsed.tsv: " glob[i] " stands for no case"
	}' "$tmp/others" -
}
ok "there are cases that need what is pretended" [ "$(needing | wc -l)" -gt 200 ]
is "each of them is in one of the two lists, and no glob is stale" "$(unlisted)" ""

# --- on the pretended processor ---------------------------------------------------------------

if ! "$top/runners/bochs/boot" --probe >"$tmp/probe" 2>&1; then
	skip "the cases on the pretended processor" "$(cat "$tmp/probe")"
	done_testing
fi
run_cmd make -s -f "$top/Makefile" "SRC=$top" "B=$build" REHEARSE=1
is "the rehearsal is built" "$status:$err" "0:"
[ "$status" -eq 0 ] || done_testing

# A build folder with a tree of this test's own.
mkdir "$tmp/build"
for file in "$build"/rehearsal/*; do
	case $file in
	*/runners) cp -r "$file" "$tmp/build/runners" ;;
	*) ln -s "$file" "$tmp/build/" ;;
	esac
done
dtb=$tmp/build/runners/bochs/machine.dtb
EXITPATH_IDENTITY=$("$top/runners/bochs/boot" --identify)
# Others work on this machine, too.
EXITPATH_SILENCE=60
export EXITPATH_IDENTITY EXITPATH_SILENCE

# rehearse IMAGE FAULTS CASES: runs the cases, an id in each line, with exitpath,fault; leaves the TAP in $tmp/tap
# and prints "ok CASE", "skip CASE" or "not CASE" for each.
rehearse()
{
	fdtput -t s "$dtb" /chosen exitpath,fault "$2"
	EXITPATH_BUILD=$tmp/build EXITPATH_SELECT=$3 "$top/runners/bochs/run" "$1" >"$tmp/tap" 2>&1
	awk '
	/^ok / { print (/# SKIP/ ? "skip " : "ok ") $4 }
	/^not ok / { print "not " $5 }' "$tmp/tap"
}

# The faults of round N of an image: for each case the N-th that its row names, by the number of the case.
faults_of()
{
	awk -F '\t' -v image="$1:" -v round="$2" '
	NR == FNR { number[$1] = $2; next }
	index($1, image) == 1 && split($2, fault, " ") >= round && $2 != "-" {
		printf "%s%s=%s", sep, number[$1], fault[round]
		sep = " "
	}' "$tmp/cases" "$tmp/rows"
}

# with_fault IMAGE N: the ids of its cases that have an N-th fault.
with_fault()
{
	awk -F '\t' -v image="$1:" -v round="$2" \
		'index($1, image) == 1 && $2 != "-" && split($2, fault, " ") >= round { print $1 }' "$tmp/rows"
}

for image in $(cut -d : -f 1 "$tmp/listed" | uniq); do
	cases=$(grep "^$image:" "$tmp/listed")
	got=$(rehearse "$image" '' "$cases" | LC_ALL=C sort)
	want=$(echo "$cases" | sed 's/^.*:/ok /' | LC_ALL=C sort)
	[ "$got" = "$want" ] || diag "$(cat "$tmp/tap")"
	is "$image: each case is ok" "$got" "$want"
	round=1
	while cases=$(with_fault "$image" $round) && [ -n "$cases" ]; do
		got=$(rehearse "$image" "$(faults_of "$image" $round)" "$cases" | LC_ALL=C sort)
		want=$(echo "$cases" | sed 's/^.*:/not /' | LC_ALL=C sort)
		is "$image: each is not ok under its fault number $round" "$got" "$want"
		round=$((round + 1))
	done
done

# As CONTRIBUTING.md says it.
for fault in timer_runs_on ''; do
	run_cmd make -s -f "$top/Makefile" "SRC=$top" "B=$build" REHEARSE=1 FAULT="$fault"
	run_cmd env "EXITPATH_BUILD=$build/rehearsal" "$top/runners/bochs/run" vmx/guest-timer
	is "make REHEARSE=1 FAULT=$fault: not ok" "$(printf '%s\n' "$out" | sed -n 's/^not ok [0-9]* - \([a-z_]*\).*/\1/p')" \
		"${fault:+exit_disarms_the_timer}"
done
rehearse vmx/guest-timer nonsense vmx/guest-timer:event_at_entry >/dev/null
like "a fault that there is not" "$(cat "$tmp/tap")" 'the pretended processor has no such fault'
done_testing
