#!/bin/sh
# ./exitpath coverage and the cases by fact, on a little spec/ and runs made up here.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

EXITPATH_BUILD=$tmp/build
EXITPATH_STATE=$tmp/state
EXITPATH_SPEC=$tmp/spec
export EXITPATH_BUILD EXITPATH_STATE EXITPATH_SPEC
results=$EXITPATH_STATE/results
mkdir -p "$EXITPATH_BUILD/images/vmx" "$results" "$EXITPATH_SPEC"

cat >"$EXITPATH_SPEC/colors.csv" <<'END'
id,text,section
red,"a, b",1
green,,1
blue,,2
black,,2
white,,2
grey,,3
END
cat >"$EXITPATH_SPEC/sizes.csv" <<'END'
id,section
big,1
small,1
END
printf 'section,title\n1,One\n' >"$EXITPATH_SPEC/sections.csv"
printf '# a comment\ncolors:bl?ck\tno such light\nsizes:s*\ttoo small\n' >"$EXITPATH_SPEC/unprovable.tsv"

# cases FILE: makes a case list of standard input: lines NAME FACT...
cases()
{
	mkdir -p "${1%/*}"
	awk '{
		name = $1
		sub(/^[^ ]+ ?/, "")
		printf "%d\t%s\t%s\t-\tx86/vmx/demo.c:%d\t1\tOne\n", NR, name, $0 == "" ? "-" : $0, 10 * NR
	}' >"$1"
}

# run_of DATE PLATFORM: makes the folder of a run with the case list of vmx/demo; the TAP is standard input.
run_of()
{
	mkdir -p "$results/$1/vmx"
	printf '%s\n' "$2" >"$results/$1/platform"
	cp "$EXITPATH_BUILD/images/vmx/demo.tsv" "$results/$1/vmx/demo.tsv"
	cat >"$results/$1/vmx/demo.tap"
}

coverage()
{
	run_cmd "$top/exitpath" coverage ${1+"$@"}
}

# counts TABLE: its line of the summary, spaces squeezed.
counts()
{
	printf '%s\n' "$out" | awk -v table="$1" '$1 == table { $1 = $1; print }'
}

# --- nothing there ---

coverage
is "nothing built, nothing run: status and output" "$status:$out" "2:"
like "nothing built, nothing run: message" "$err" 'no image is built and no run is recorded; call: exitpath run'
run_cmd "$top/scripts/cases-by-fact.sh"
is "by fact, nothing built: status and output" "$status:$out" "2:"
like "by fact, nothing built: message" "$err" 'no image is built'

# --- built, not run ---

cases "$EXITPATH_BUILD/images/vmx/demo.tsv" <<'END'
one colors:red colors:green
two colors:green
three colors:blue colors:black
four
END
coverage
is "built, not run: exit status" "$status:$err" "0:"
like "built, not run: says so" "$out" '^no run is recorded yet'
#  rows proved failed skipped not-run unprovable no-case
is "built, not run: colors" "$(counts colors)" "colors 6 0 0 0 3 1 2"
is "built, not run: sizes" "$(counts sizes)" "sizes 2 0 0 0 0 1 1"
is "built, not run: total" "$(counts total)" "total 8 0 0 0 3 2 3"
coverage --strict
is "--strict: exit status with rows without a case" "$status" 1
like "--strict: message" "$err" '3 provable rows have no case'
coverage --strict sizes
is "--strict: only the tables named" "$status" 1

# --- one run ---

run_of 20260101-000000-bochs-7 "bochs 2.7/skylake" <<'END'
TAP version 13
1..4
# exitpath image vmx/demo, seed 1
ok 1 - one [1 One # of them]
not ok 2 - two [1 One]
  ---
  message: ok 3 - three
  ...
ok 3 - three [1 One] # SKIP needs blue light
ok 4 - four
END
coverage
is "one run: colors" "$(counts colors)" "colors 6 2 0 1 0 1 2"
like "one run: which" "$out" '^bochs 2\.7/skylake: 4 results of 1 images$'
like "one run: reasons of skips" "$out" '^ +1  needs blue light$'
like "one run: reasons of unprovable rows" "$out" '^ +1  no such light$'
unlike "one run: no details" "$out" '^colors:red'
coverage colors
unlike "a table: others are left out" "$out" '^sizes'
unlike "a table: no total of one" "$out" '^total'
like "details: proved" "$out" '^colors:red: proved$'
like "details: the case, the platform" "$out" '^    proved     vmx/demo:one  \(bochs 2\.7/skylake\)$'
like "details: proved beside a failure" "$out" '^colors:green: proved$'
like "details: the failure" "$out" '^    failed     vmx/demo:two  \(bochs'
like "details: skipped" "$out" '^colors:blue: skipped$'
like "details: why" "$out" '^    skipped    vmx/demo:three: needs blue light  \(bochs'
like "details: unprovable" "$out" '^colors:black: unprovable: no such light$'
like "details: no case" "$out" '^colors:white: no case$'

# --- rehearsals prove nothing ---

unlike "no rehearsal: nothing is said of one" "$out" 'rehearsed'
printf '# a comment\nvmx/demo:three\tsome_fault\t-\nvmx/demo:one\tsome_fault\t-\n' >"$tmp/rehearsals"
EXITPATH_REHEARSALS=$tmp/rehearsals
export EXITPATH_REHEARSALS
coverage colors
is "a rehearsal: colors" "$(counts colors)" "colors 6 2 0 1 0 1 2"
like "a rehearsal: said below the table" "$out" '^1 of the skipped rows have a case that was rehearsed, which proves nothing'
like "a rehearsal: said of the row" "$out" '^colors:blue: skipped \(rehearsed\)$'
like "a rehearsal: not of another" "$out" '^colors:red: proved$'
unset EXITPATH_REHEARSALS
: >"$EXITPATH_BUILD/rehearsed"
for command in coverage run; do
	run_cmd "$top/exitpath" "$command"
	is "$command in the build folder of a rehearsal: status and output" "$status:$out" "2:"
	like "$command in the build folder of a rehearsal: message" "$err" 'is a rehearsal, which proves nothing'
done
rm "$EXITPATH_BUILD/rehearsed"

for name in spec/colors.csv colors.csv; do
	coverage "$name"
	like "a table named '$name'" "$status $(counts colors)" '^0 colors 6'
done

# --- what never ran has not failed ---

run_of 20260101-000000-bochs-7 "bochs 2.7/skylake" <<'END'
not ok 1 - one
  ---
  message: 'not run: supervise was ended by SIGTERM'
  ...
not ok 2 - two
  ---
  message: 'hang'
  ...
END
coverage colors
unlike "not run: not failed" "$out" 'failed     vmx/demo:one'
like "not run: the one behind it" "$out" 'failed     vmx/demo:two'

# --- named is not proved; deviations are ---

run_of 20260101-000000-bochs-7 "bochs 2.7/skylake" <<'END'
not ok 1 - one
not ok 2 - two # TODO 1: does it differently (none)
ok 3 - three
END
coverage colors
is "failed, deviation" "$(counts colors)" "colors 6 3 1 0 0 0 2"
like "a case that failed proves nothing" "$out" '^colors:red: failed$'
like "a listed deviation counts" "$out" '^colors:green: proved$'
like "a listed deviation is named" "$out" '^    deviation  vmx/demo:two: 1: does it differently \(none\)  \(bochs'
like "a row of unprovable.tsv that is proved after all" "$out" \
	'^colors:black is proved, but unprovable\.tsv says: no such light$'

# --- several runs ---

run_of 20260102-000000-kvm-8 "kvm 6.1/host" <<'END'
ok 1 - one
END
coverage colors
like "another platform: proved there" "$out" '^colors:red: proved$'
like "another platform: both are shown" "$out" '^    failed     vmx/demo:one  \(bochs'
run_of 20260103-000000-bochs-9 "bochs 2.7/skylake" <<'END'
ok 1 - one # SKIP not now
END
coverage colors
unlike "the newest run of a platform counts, alone" "$out" 'vmx/demo:two.*bochs|failed     vmx/demo:one'
like "the newest run of a platform: its result" "$out" '^    skipped    vmx/demo:one: not now  \(bochs'
like "a case without a result in it" "$out" '^    not run    vmx/demo:three$'
run_of 20260104-000000-bochs-9 "bochs 3.1/skylake" <<'END'
ok 3 - three
END
coverage colors
like "another version is another platform" "$out" '^    proved     vmx/demo:three  \(bochs 3\.1/skylake\)$'

mkdir -p "$results/20260105-000000-bochs-9/vmx" "$results/20260106-000000-bochs-9/mmu"
mv "$results/20260104-000000-bochs-9/vmx"/* "$results/20260105-000000-bochs-9/vmx"
coverage colors
like "a folder without the file 'platform' is left out, with a message" "$status $err" \
	'^0 exitpath: .*20260105-000000-bochs-9: not the folder of a run'
unlike "a folder without the file 'platform': its results do not count" "$out" '3\.1/skylake\)'
rm -r "$results/20260105-000000-bochs-9"

echo "bochs 2.7/skylake" >"$results/20260106-000000-bochs-9/platform"
cases "$results/20260106-000000-bochs-9/mmu/gone.tsv" <<'END'
five colors:grey
END
echo "ok 1 - five" >"$results/20260106-000000-bochs-9/mmu/gone.tap"
coverage colors
like "an image that is not built counts by the case list of the run" "$out" '^    proved     mmu/gone:five'
like "a run of one image leaves the last run of another in force" "$out" \
	'^    skipped    vmx/demo:one: not now  \(bochs'

cases "$EXITPATH_BUILD/images/vmx/demo.tsv" <<'END'
one colors:white
three colors:blue colors:black
END
coverage colors
unlike "what a case no longer says it proves does not count" "$out" '^colors:red: proved'
like "what a case says it proves only since the run does not count" "$out" '^colors:white: not run$'

coverage --run "$results/20260101-000000-bochs-7" --run "$results/20260102-000000-kvm-8/" colors
like "--run: only those folders" "$status $out" '^0 bochs 2\.7/skylake: 3 results of 1 images$'
like "--run: the second" "$out" '^kvm 6\.1/host: 1 results of 1 images$'
unlike "--run: no other" "$out" 'mmu/gone'
coverage "--run=$results/20260102-000000-kvm-8" colors
unlike "--run=DIR" "$out" '^bochs'

cases "$EXITPATH_BUILD/images/vmx/demo.tsv" <<'END'
all colors:red colors:green colors:blue colors:white colors:grey sizes:big
END
coverage --strict
is "--strict: every provable row has a case" "$status:$err" "0:"

# --- mistakes ---

coverage nonsense
is "unknown table: status and output" "$status:$out" "2:"
like "unknown table: the tables are listed" "$err" '^  colors$'
for name in sections ../spec/nothing ''; do
	coverage "$name"
	is "table '$name' is none" "$status:$out" "2:"
done
coverage --nonsense
is "unknown option" "$status:$out" "2:"
coverage --run
is "--run without a value" "$status:$out" "2:"
coverage --run "$tmp/nothing"
like "--run: no such folder" "$status $err" '^2 .*there is no folder'
coverage --run "$tmp"
like "--run: not a run" "$status $err" "^2 .*not the folder of a run"
echo "colors:red too few" >"$EXITPATH_SPEC/unprovable.tsv"
coverage
like "malformed unprovable.tsv" "$status $out$err" '^2 exitpath: .*unprovable\.tsv: not "glob, tab, reason"'
rm "$EXITPATH_SPEC/unprovable.tsv"
coverage
like "no unprovable.tsv" "$status $out$err" '^2 exitpath: .*unprovable\.tsv: cannot read it'
: >"$EXITPATH_SPEC/unprovable.tsv"
echo 'red,"no end,1' >>"$EXITPATH_SPEC/colors.csv"
coverage
like "malformed table" "$status $out$err" '^2 exitpath: .*colors\.csv:8: not a CSV row'
sed -i '$d' "$EXITPATH_SPEC/colors.csv"
coverage --help
like "--help" "$status $out" '^0 usage: exitpath coverage'

# --- the other way ---

cases "$EXITPATH_BUILD/images/vmx/demo.tsv" <<'END'
one colors:red colors:green
two colors:green
four
END
run_cmd "$top/scripts/cases-by-fact.sh"
is "by fact: in the order of the tables" "$status:$out" "0:colors:red	vmx/demo:one	x86/vmx/demo.c:10
colors:green	vmx/demo:one	x86/vmx/demo.c:10
colors:green	vmx/demo:two	x86/vmx/demo.c:20"
run_cmd "$top/scripts/cases-by-fact.sh" 'colors:[gr]re*' 'sizes:*'
is "by fact: globs" "$status:$out" "0:colors:green	vmx/demo:one	x86/vmx/demo.c:10
colors:green	vmx/demo:two	x86/vmx/demo.c:20
colors:grey	-	-
sizes:big	-	-
sizes:small	-	-"
run_cmd "$top/scripts/cases-by-fact.sh" 'colours:*'
like "by fact: a glob that matches nothing" "$status $err" "^2 exitpath: no fact matches 'colours:\*'"

# --- the real tables ---

unset EXITPATH_SPEC
coverage
is "the real tables: exit status" "$status:$err" "0:"
is "the real tables: every fact is counted" "$(printf '%s\n' "$out" | awk '$1 == "total" {
	print $2, $3 + $4 + $5 + $6 + $7 + $8 }')" "$("$top/scripts/spec.sh" | awk 'END { print NR, NR }')"

done_testing
