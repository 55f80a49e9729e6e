#!/bin/sh
# The models of the architecture that the images judge by, on the host: a test for each rule of
# the paging model, then a fuzzer that compares it with a second one, written independently.
#
# A longer search: build/tests/walk_fuzz, entry_fuzz or exit_fuzz -max_total_time=600 (-help=1 tells more; a failure leaves
# a file crash-* that the fuzzer takes as its argument). Do the rules notice mistakes in the model:
# tests/models/mutate.sh, for those of VM entry and exit mutate-vmx.sh.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

unset MAKEFLAGS MFLAGS MAKELEVEL
run_cmd make -s -f "$top/Makefile" "SRC=$top" "B=$build" models
is "the tests of the models build" "$status:$err" "0:"
[ "$status" -eq 0 ] || done_testing

# What the first make has noted about dependencies counts for one that names the folders otherwise.
# shellcheck disable=SC2016	# they are the inner shell's
run_cmd sh -c 'cd "$1/.." && make -n -f "$2/Makefile" "SRC=$2" "B=${1##*/}" -W "$3" models' - \
	"$build" "$top" "$(cd "$top" && pwd -P)/lib/x86/vmx/entry_rules.def"
is "a make by a relative path sees a table that has changed" \
	"$(printf '%s\n' "$out" | grep -c -- '-c -o [^ ]*/obj/host/lib/x86/vmx/entry_rules\.o')" 1

# --- rules -------------------------------------------------------------------

# rules NAME PROGRAM [SETTING]: the tests of one model; SETTING says where its facts are.
rules()
{
	run_cmd env ${3+"$3"} "$build/tests/$2"
	rules_status=$status
	rules_err=$err
	printf '%s\n' "$out" >"$tmp/tap"
	sed -n 's/^ok [0-9]* - /ok	/p; s/^not ok [0-9]* - /not	/p' "$tmp/tap" >"$tmp/results"
	while IFS='	' read -r result name; do
		if [ "$result" = ok ]; then
			pass "$1: $name"
		else
			fail "$1: $name" "$rules_err"
		fi
	done <"$tmp/results"
	is "$2: exit status" "$rules_status" 0
	is "$2: as many results as planned" "$(grep -c '' <"$tmp/results")" \
		"$(sed -n 's/^1\.\.//p' "$tmp/tap")"
}

rules paging walk_test
cp "$tmp/results" "$tmp/walk-results"
rules "memory types" memory_type_test
cat "$tmp/walk-results" >>"$tmp/results"
cut -f2 "$tmp/results" | sort >"$tmp/names"
is "every rule has its own name" "$(uniq -d "$tmp/names")" ""
sed 's/:.*//' "$tmp/names" | sort -u >"$tmp/cited"
sed 's/,.*//' "$top/spec/paging.csv" | sort >"$tmp/known"
is "every rule is a fact of spec/paging.csv" "$(comm -23 "$tmp/cited" "$tmp/known")" ""

# --- VM entry and VM exit ----------------------------------------------------------

rules entry entry_test "ENTRY_CHECKS=$top/spec/vm-entry-checks.csv"
rules exit exit_test "HOST_AND_EXIT=$top/spec/host-and-exit.csv"

run_cmd "$top/tests/models/mutate-vmx.sh" --check
is "every mutation of mutate-vmx.sh still changes something" "$status" 0
run_cmd "$top/tests/models/mutate-vmx.sh" --check '^nobody'
is "a pattern that no mutation has: exit status 2" "$status" 2

# --- contradictions ------------------------------------------------------------

# fuzz NAME RUNS LENGTH [SEED]: that many inputs of at most so many bytes, the same each time.
fuzz()
{
	rm -rf "$tmp/$1-corpus"
	mkdir "$tmp/$1-corpus"
	run_cmd "$build/tests/$1" "-seed=${4-1}" "-runs=$2" -len_control=0 "-max_len=$3" -print_final_stats=1 \
		"-artifact_prefix=$tmp/" "$tmp/$1-corpus"
	if [ "$status" -eq 0 ]; then
		pass "$1: $2 inputs without a contradiction"
	else
		fail "$1: $2 inputs without a contradiction" "$(tail -n 40 "$tmp/.err")"
	fi
	like "$1: all of them ran" "$err" "^stat::number_of_executed_units: *$2\$"
}

fuzz walk_fuzz 100000 512
fuzz entry_fuzz 50000 256
FUZZ_REACH=1
export FUZZ_REACH
fuzz exit_fuzz 100000 256
never=$(printf '%s\n' "$err" | sed -n 's/^never claimed: //p' | sort)
# Which inputs are drawn depends on the code; what one search does not meet another may.
if [ -n "$never" ]; then
	fuzz exit_fuzz 100000 256 2
	printf '%s\n' "$never" >"$tmp/never"
	never=$(printf '%s\n' "$err" | sed -n 's/^never claimed: //p' | sort | comm -12 - "$tmp/never")
fi
is "exit_fuzz: the rules of VM exit that no input meets" "$never" ""

done_testing
