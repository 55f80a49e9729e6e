#!/bin/sh
# supervise with a machine that behaves: TAP, the device tree, logs, selection, order, errors.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

supervise ''
is "all ok: exit status 0" "$status" 0
is "all ok: each case has one result" "$(results)" "ok ok ok ok ok ok ok"
is "version first" "$(printf '%s\n' "$out" | sed -n 1p)" "TAP version 13"
is "then the plan" "$(printf '%s\n' "$out" | sed -n 2p)" "1..7"
like "name, section and title" "$out" '^ok 2 - bravo \[28\.1\.2 Section of bravo\]$'
like "comments pass" "$out" '^# fake image, seed 0 1$'
is "nothing on standard error" "$err" ""
is "--tap has the same" "$(cat "$tmp/tap")" "$out"
is "--log has the raw console" "$(grep -c '^ok [1-7] - ' "$tmp/log")" 7
parses "prove reads it" 7

supervise 'start:seed' --seed 0x123456789abcdef0
like "/chosen: seed, image, first, plan, cases" "$out" \
	'^# image vmx/fake seed 305419896 2596069104 first 1 plan 7 cases 1 2 3 4 5 6 7 $'

supervise 'start:count'
like "/chosen: no count" "$out" '^# count none$'
supervise 'start:count' --count 4294967295
like "/chosen: count" "$out" '^# count 4294967295$'

supervise 'start:without'
like "/cpus: nothing hidden" "$out" '^# without nothing$'
supervise 'start:without' --without ENABLE_EPT,ACTIVITY_HLT
like "/cpus: what is hidden" "$out" '^# without ENABLE_EPT,ACTIVITY_HLT$'

supervise 'start:audit'
like "/chosen: not all audited" "$out" '^# a sample audited$'
supervise 'start:audit' --audit-all
like "/chosen: all audited" "$out" '^# all audited$'

supervise 'alpha:notok bravo:skip'
is "a case that is not ok: exit status 1" "$status" 1
is "and is printed so" "$(results)" "not skip ok ok ok ok ok"
like "the reason of a SKIP" "$out" '^ok 2 - bravo \[.*\] # SKIP needs "a#b"$'
supervise 'bravo:skip'
is "skipped cases: exit status 0" "$status" 0

supervise 'bravo:stderr'
is "standard error of a good boot does not harm" "$status" 0
like "but is not lost" "$out" '^#   fake: said on standard error$'

supervise 'start:seed' --select 'c*' --select 'vmx/fake:[fg]*'
is "selection: exit status 0" "$status" 0
is "selection: by name and by id" "$(printf '%s\n' "$out" | sed -n 's/^ok \([0-9]*\) - \([a-z]*\).*/\1\2/p' | tr '\n' ' ')" \
	"1charlie 2foxtrot 3golf "
like "selection: numbers of the case list in the tree" "$out" ' first 1 plan 3 cases 3 6 7 $'
supervise '' --select 'zulu' --select 'kvm/*'
is "no match: exit status 2" "$status" 2
is "no match: nothing on standard output" "$out" ""
like "no match: says how to see the names" "$err" 'no case of vmx/fake matches zulu kvm/\*; ./exitpath list'

names()
{
	printf '%s\n' "$out" | sed -n 's/^ok [0-9]* - \([a-z]*\).*/\1/p'
}
supervise '' --shuffle 1
one=$(names)
is "shuffle: all run" "$(results)" "ok ok ok ok ok ok ok"
is "shuffle: each once" "$(printf '%s\n' "$one" | sort -u | wc -l | tr -d ' ')" 7
ok "shuffle: another order" test "$one" != "$(cut -f 2 "$cases")"
supervise '' --shuffle 1
is "shuffle: the same seed, the same order" "$(names)" "$one"
supervise '' --shuffle 2
ok "shuffle: another seed, another order" test "$(names)" != "$one"
supervise 'delta:off' --shuffle 1
is "shuffle: a crash loses nothing" "$(printf '%s\n' "$out" | sed -n 's/^\(not \)\{0,1\}ok [0-9]* - \([a-z]*\).*/\2/p')" "$one"
like "shuffle: the right case is blamed" "$out" '^not ok [1-7] - delta '

supervise 'alpha:temporary'
folder=$(printf '%s\n' "$out" | sed -n 's/^# TMPDIR=//p')
ok "the boot command has a TMPDIR" test -n "$folder"
ok "which is gone afterwards" test ! -e "$folder"

# Files that cannot be written to their end: said once, and nothing else changes.
if [ -c /dev/full ]; then
	run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" \
		--tap /dev/full --log /dev/full -- "$fake/machine" charlie:off
	is "full disk: the results" "$status $(results)" "1 ok ok not ok ok ok ok"
	is "full disk: the log" "$(printf '%s\n' "$out" | grep -c 'the log could not be written')" 1
	is "full disk: the TAP" "$err" "supervise: the TAP file could not be written to its end"
else
	skip "full disk" "there is no /dev/full"
fi

# refused NAME WANTED ARGUMENT...: two tests: supervise exits with 2 and says WANTED.
refused()
{
	refused_name=$1 refused_wanted=$2
	shift 2
	run_cmd "$supervise" ${1+"$@"}
	is "$refused_name: exit status 2, nothing printed" "$status:$out" "2:"
	like "$refused_name: says so" "$err" "$refused_wanted"
}
good="--image vmx/fake --elf $cases --cases $cases --dtb $dtb"
# shellcheck disable=SC2086 # $good is several words
{
refused "no arguments" "--image AREA/IMAGE is missing"
refused "unknown option" "unrecognized option" --nonsense
refused "no command" "BOOT-COMMAND is missing" $good
refused "silence 0" "--silence needs a number of seconds" $good --silence 0 -- true
refused "silence in words" "--silence needs a number of seconds" $good --silence 5x -- true
refused "limit nan" "--limit needs a number of seconds" $good --limit nan -- true
refused "seed in words" "--seed needs a whole number" $good --seed x -- true
refused "seed too big" "--seed needs a whole number" $good --seed 99999999999999999999 -- true
refused "count in words" "--count needs a whole number" $good --count x -- true
refused "count 0" "--count needs a whole number from 1 to" $good --count 0 -- true
refused "count too big" "--count needs a whole number from 1 to" $good --count 4294967296 -- true
refused "deviations alone" "--deviations needs --identity" $good --deviations "$cases" -- true
refused "no case list" "cannot open .*/none" $good --cases "$tmp/none" -- true
refused "no image" "cannot read .*/none.*build the image" $good --elf "$tmp/none" -- true
refused "no tree" "cannot open .*/none" $good --dtb "$tmp/none" -- true
refused "not a tree" "not a compiled device tree" $good --dtb "$cases" -- true
refused "no place for the log" "cannot write .*/none/log" $good --log "$tmp/none/log" -- true
head -c 100 "$dtb" >"$tmp/short.dtb"
refused "a cut tree" "not a compiled device tree" $good --dtb "$tmp/short.dtb" -- true
: >"$tmp/empty"
refused "an empty case list" "empty, cut off" $good --cases "$tmp/empty" -- true
printf '1\talpha\tx:1\n' >"$tmp/narrow"
refused "a case list with missing columns" "narrow:1: not a case" $good --cases "$tmp/narrow" -- true
sed 1d "$cases" >"$tmp/numbers"
refused "a case list with wrong numbers" "numbers:1: not a case" $good --cases "$tmp/numbers" -- true
}
run_cmd "$supervise" --help
is "--help: exit status 0" "$status" 0
like "--help: usage" "$out" '^usage: supervise '

done_testing
