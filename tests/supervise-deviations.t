#!/bin/sh
# Known deviations: a listed case that is not ok is TODO.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

list=$tmp/deviations.tsv
tab='	'

# lists LINE...: writes the file; each | becomes a tab.
lists()
{
	printf '%s\n' "$@" | tr '|' "$tab" >"$list"
}

lists '# id|identity|SDM|upstream|what' '' \
	'vmx/fake:charlie|2.7/*|28.1.3|bug#12|does not exit'
supervise 'charlie:notok' --deviations "$list" --identity 2.7/corei7
is "a listed case: exit status 0" "$status" 0
like "a listed case: TODO" "$out" \
	'^not ok 3 - charlie \[28\.1\.3 Section of charlie\] # TODO SDM 28\.1\.3: does not exit \(bug#12\)$'
parses "a listed case: prove reads it" 7
like "a listed case: prove is content" "$(cd "$tmp" && prove --exec cat tap)" '^Result: PASS$'

supervise '' --deviations "$list" --identity 2.7/corei7
is "it passes: exit status 0" "$status" 0
like "it passes: TODO" "$out" '^ok 3 - charlie .* # TODO SDM 28\.1\.3: does not exit'
like "it passes: prove says so" "$(cd "$tmp" && prove --exec cat tap)" 'TODO passed: *3'

supervise 'charlie:notok' --deviations "$list" --identity 3.0/corei7
is "another machine: exit status 1" "$status" 1
is "another machine: no TODO" "$(results)" "ok ok not ok ok ok ok"
supervise 'charlie:notok delta:notok' --deviations "$list" --identity 2.7/corei7
is "another case too: exit status 1" "$status" 1
is "another case too: only the listed is TODO" "$(results)" "ok ok not-todo not ok ok ok"

# That a case is not ok does not say that it may end the machine: only IMAGE:CASE:crash does.
supervise 'charlie:off' --deviations "$list" --identity 2.7/corei7
is "a listed case that crashes: exit status 1" "$status" 1
is "a listed case that crashes: no TODO" "$(results)" "ok ok not ok ok ok ok"
like "a listed case that crashes: the message" "$(message 3)" '^crashed: '
supervise 'alpha:hang' --limit 3 --deviations "$list" --identity 2.7/corei7
is "a listed case that never ran is not excused" "$(results)" "not not not not not not not"
supervise 'charlie:skip' --deviations "$list" --identity 2.7/corei7
is "a listed case that is skipped" "$(results)" "ok ok skip ok ok ok ok"
supervise 'end:off golf:notok' --deviations "$list" --identity 2.7/corei7
is "the last case is not listed: exit status 1" "$status" 1

lists '*:golf:crash|*|29|-|powers off' 'vmx/*:[ab]*|*|30|-|all wrong # TODO'
supervise 'end:kill alpha:notok bravo:notok' --deviations "$list" --identity 3.0/x
is "globs" "$(results)" "not-todo not-todo ok ok ok ok not-todo"
is "globs: exit status 0" "$status" 0
like "no upstream reference" "$out" '# TODO SDM 29: powers off$'
parses "globs: prove reads it" 7

# A case that says in what ways it differs is excused when each of them is listed.
lists 'vmx/fake:*:y.*|*|29.1|-|takes it' 'vmx/fake:delta:x.one|*|29.2|bug#3|is wrong'
supervise 'charlie:differs' --deviations "$list" --identity 3.0/x
is "one way, listed: exit status 0" "$status" 0
is "one way, listed: TODO" "$(results)" "ok ok not-todo ok ok ok ok"
like "one way, listed: the words" "$out" '^not ok 3 .* # TODO SDM 29\.1: takes it$'
supervise 'charlie:differs2' --deviations "$list" --identity 3.0/x
is "one of two ways is not listed for this case: exit status 1" "$status" 1
is "one of two ways is not listed for this case" "$(results)" "ok ok not ok ok ok ok"
like "it says which" "$out" '^# charlie differs in ways that are not listed: x\.one$'
supervise 'delta:differs2' --deviations "$list" --identity 3.0/x
is "two ways, both listed: exit status 0" "$status" 0
like "two ways, both listed: the words" "$out" \
	'^not ok 4 .* # TODO SDM 29\.2: is wrong \(bug#3\); SDM 29\.1: takes it$'
parses "two ways: prove reads it" 7
lists 'vmx/fake:delta:y.*|*|29.1|-|takes it' 'vmx/fake:delta:x.one|*|29.1|-|takes it'
supervise 'delta:differs2' --deviations "$list" --identity 3.0/x
like "two ways, two lines that say the same: once" "$out" '^not ok 4 .* # TODO SDM 29\.1: takes it$'
lists 'vmx/fake:*:y.*|*|29.1|-|takes it' 'vmx/fake:delta:x.one|*|29.2|bug#3|is wrong'
supervise 'charlie:notok' --deviations "$list" --identity 3.0/x
is "a case that does not say in what way is not excused by ways" "$status" 1
supervise 'charlie:differs delta:notok' --deviations "$list" --identity 3.0/x
is "the ways are those of one case" "$(results)" "ok ok not-todo not ok ok ok"
supervise 'charlie:differsok' --deviations "$list" --identity 3.0/x
is "who differs and is ok is no unexpected pass" "$(results)" "ok ok ok ok ok ok ok"
lists 'vmx/fake:charlie|*|29.1|-|all is wrong'
supervise 'charlie:differs' --deviations "$list" --identity 3.0/x
is "a line for the case as a whole excuses no single way" "$status" 1
lists 'vmx/fake:char*|*|29.1|-|all is wrong'
supervise 'charlie:differs' --deviations "$list" --identity 3.0/x
is "a glob for the case as a whole does not either" "$status" 1

# What is not listed is all together at the beginning of the YAML block, with the command that repeats it.
lists 'vmx/fake:*:y.*|*|29.1|-|takes it'
supervise 'charlie:yamlitems charlie:differsagain' --deviations "$list" --identity 3.0/x --again "--on fake --cpu 'a b'"
is "what is not listed: the beginning of the block" \
	"$(printf '%s\n' "$out" | sed -n '/^not ok 3 /,/what:/p' | sed 1d)" \
"  ---
  not_listed:
    - way: x.one
      words: GUEST_CR0 = 0x1
      example: another example
      reproduce: |
        ./exitpath run vmx/random --seed 18446744073709551615 --count 1 --on fake --cpu 'a b'
  failures:
    - what: \"1\""
parses "what is not listed: prove reads it" 7
supervise 'charlie:differsagain golf:differsagain' --deviations "$list" --identity 3.0/x
is "what is not listed: the image prints no block of its own" \
	"$(printf '%s\n' "$out" | sed -n '/^not ok 7 /,$p' | sed 1d)" \
"  ---
  not_listed:
    - way: x.one
      words: GUEST_CR0 = 0x1
      example: another example
      reproduce: |
        ./exitpath run vmx/random --seed 18446744073709551615 --count 1
  ..."
is "what is not listed: of each case that has something" \
	"$(printf '%s\n' "$out" | grep -c '^  not_listed:$')" 2
is "what is not listed: a way is named once" "$(printf '%s\n' "$out" | grep -c 'listed: x\.one$')" 2
parses "what is not listed: prove reads two blocks" 7
lists 'vmx/fake:*:*|*|29.1|-|takes it'
supervise 'charlie:differsagain' --deviations "$list" --identity 3.0/x
is "all is listed: no such block" "$status:$(printf '%s\n' "$out" | grep -c not_listed)" 0:0

# A case that does not come to its own end: the machine dies or hangs, or a kernel below it reports a bug.
for death in off kill reset hang half kernelbug; do
	lists "vmx/fake:charlie|*|29.1|-|says 0" "vmx/fake:*:*|*|29.2|-|says 1" "vmx/fake:crash|*|29.3|-|says 2"
	supervise "charlie:$death" --silence 0.5 --deviations "$list" --identity 3.0/x
	is "a listed case ends with $death: not excused" "$status $(results)" "1 ok ok not ok ok ok ok"
	lists "vmx/fake:char*:crash|*|29.1|-|ends the machine"
	supervise "charlie:$death" --silence 0.5 --deviations "$list" --identity 3.0/x
	is "a line that says crash excuses $death" "$status $(results)" "0 ok ok not-todo ok ok ok ok"
	like "its words: $death" "$out" '^not ok 3 .* # TODO SDM 29\.1: ends the machine$'
done
supervise 'charlie:notok' --deviations "$list" --identity 3.0/x
is "a line that says crash excuses no other failure" "$status $(results)" "1 ok ok not ok ok ok ok"
supervise '' --deviations "$list" --identity 3.0/x
is "a case whose crash is listed passes: that is no surprise for the exit status" "$status" 0
is "a case whose crash is listed passes: TODO" "$(results)" "ok ok ok-todo ok ok ok ok"
supervise 'charlie:skip alpha:hang' --limit 3 --deviations "$list" --identity 3.0/x
is "a case whose crash is listed, and that never ran" "$status $(results)" "1 not not not not not not not"
lists "vmx/fake:charlie:crash|*|29.1|-|ends the machine" "vmx/fake:charlie|*|29.2|-|is not ok"
supervise 'charlie:notok' --deviations "$list" --identity 3.0/x
like "both are listed: the one that came, not ok" "$out" '# TODO SDM 29\.2: is not ok$'
supervise 'charlie:off' --deviations "$list" --identity 3.0/x
like "both are listed: the one that came, a crash" "$out" '# TODO SDM 29\.1: ends the machine$'

# Rules that the audit leaves out are lines of their own; the image finds their names in the tree.
lists 'audit:save_rf_ept|2.7/*|30.3.3|-|saves 0' 'audit:host_cr0|3.*/*|30.5.1|-|loads ET' \
	'vmx/fake:charlie|*|28.1.3|-|does not exit' 'audit:save_cr3|*|30.3.1|-|saves all of it'
supervise 'alpha:waived charlie:notok' --deviations "$list" --identity 2.7/corei7
is "rules of the audit: exit status 0" "$status" 0
like "rules of the audit: those of this machine, in the order of the list" "$out" \
	'^# waived save_rf_ept save_cr3$'
is "rules of the audit are no ids of cases" "$(results)" "ok ok not-todo ok ok ok ok"
supervise 'alpha:waived' --deviations "$list" --identity 3.1/corei7
like "rules of the audit: of another machine" "$out" '^# waived host_cr0 save_cr3$'
supervise 'alpha:waived'
like "rules of the audit: without a list there is no property" "$out" '^# waived none$'
supervise 'alpha:notok' --deviations "$list" --identity 3.1/corei7
is "a rule of the audit excuses no case: exit status 1" "$status" 1
lists 'vmx/fake:charlie|*|28.1.3|-|does not exit'
supervise 'alpha:waived' --deviations "$list" --identity 3.1/corei7
like "rules of the audit: a list without them" "$out" '^# waived none$'

lists '*|*|28.1|-'
supervise '' --deviations "$list" --identity x
is "a malformed file: exit status 2" "$status" 2
like "a malformed file: where" "$err" 'deviations.tsv:1: not 5 columns'
lists 'a|b|c|-|e' 'a|b||-|e'
supervise '' --deviations "$list" --identity x
is "an empty column: exit status 2" "$status" 2
like "an empty column: where" "$err" 'deviations.tsv:2: not 5 columns'
supervise '' --deviations "$tmp/none" --identity x
is "no such file: exit status 2" "$status" 2
: >"$list"
supervise '' --deviations "$list" --identity x
is "an empty file" "$status" 0

done_testing
