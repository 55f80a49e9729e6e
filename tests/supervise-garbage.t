#!/bin/sh
# supervise with a console that carries anything: the output is TAP 13 that prove reads.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

# soiled NAME BEHAVIOUR WANTED-MESSAGE: "charlie" does it and is blamed, and no other.
soiled()
{
	supervise "charlie:$2"
	is "$1: that case, and no other" "$status $(results)" "1 ok ok not ok ok ok ok"
	like "$1: the message" "$(message 3)" "$3"
	parses "$1: prove reads it" 7
	unlike "$1: only printable bytes" "$(LC_ALL=C tr -d '\n\040-\176' <"$tmp/tap" | od -c)" '[^0 ]'
}
soiled "NUL, ESC and 0xff" nul '^garbage on the console: "a\\x00b\\x1b\[2Jc\\xff"; the case itself then said "ok"$'
soiled "an empty line" blank '^garbage on the console: "";'
soiled "text before the result" prefix '^garbage on the console: "printed by the case ok 3 - charlie'
soiled "a panic message" panic '^garbage on the console: "PANIC: first line"$'
soiled "quotes and backslashes" quote "^garbage on the console: \"it's \"odd\" "
soiled "a very long line" long '^garbage on the console: "xxxxxxxxxx*\.\.\."'
soiled "a very long line without its end" longend '^garbage on the console: "x*\.\.\."; then the machine powered off'
soiled "endless comments" flood 'the console was flooded: more than 1 MiB without a result$'
soiled "endless zeros" floodbytes 'the console was flooded'
soiled "another TAP version" tapversion '^garbage on the console: "TAP version 14"'
soiled "a pragma" pragma '^garbage on the console: "pragma \+strict"'
soiled "a second plan" secondplan '^a second plan line$'
soiled "a wrong number" wrongnumber '^a result of another case: 4 - charlie instead of 3 - charlie$'
soiled "a wrong name" wrongname '^a result of another case: 3 - zulu instead of 3 - charlie$'
soiled "YAML out of place" yamlfar '^garbage on the console: "  ---"'

supervise 'charlie:panic'
like "the whole panic message is kept" "$out" '^    RIP=0123 second line$'
supervise 'charlie:oops'
like "a long panic message: how it began is kept, too" "$out" '^    oops line 1$'
like "a long panic message: and how it ended" "$out" '^    oops line 60$'
unlike "a long panic message: not all of it" "$out" '^    oops line 26$'
supervise 'charlie:flood'
is "endless comments: only some are passed on" "$(printf '%s\n' "$out" | grep -c '^# the same again')" 200
like "endless comments: and a word about the others" "$out" '^# more comments of this case are in the log$'
supervise 'charlie:nul charlie:notok charlie:yaml'
is "garbage and not ok: one result" "$(results)" "ok ok not ok ok ok ok"
like "garbage and not ok: both are said" "$(message 3)" '; the case itself then said "not ok"$'
like "garbage and not ok: its YAML is in the console" "$out" '^      message: expected this: got that$'
is "the log keeps the raw bytes" "$(tr -d '\n' <"$tmp/log" | LC_ALL=C grep -c "$(printf 'b\033\\[2Jc\377')")" 1

supervise 'charlie:again'
is "a result twice: the next case is blamed" "$(results)" "ok ok ok not ok ok ok"
like "a result twice: the message" "$(message 4)" '^a result of another case: 3 - charlie instead of 4 - delta$'
supervise 'end:beyond'
is "a result beyond the plan: the last case is blamed" "$(results)" "ok ok ok ok ok ok not"
like "a result beyond the plan: the message" "$(message 7)" '^a result beyond the plan: 8 - zulu$'
parses "a result beyond the plan: prove reads it" 7
supervise 'end:nul'
is "garbage after the last result" "$(results)" "ok ok ok ok ok ok not"
supervise 'start1:nul'
is "garbage before the version line" "$(results)" "not ok ok ok ok ok ok"

supervise 'charlie:comment delta:crlf'
is "comments harm nobody" "$status" 0
like "comments are made printable" "$out" '^# a comment \\x01 of charlie$'
like "CR before LF is dropped" "$out" '^# ends with CR and LF$'
supervise 'charlie:todo delta:notokskip'
is "an image cannot excuse itself" "$status $(results)" "1 ok ok not not ok ok ok"
like "its TODO is only text" "$out" '^not ok 3 - charlie \[.*\] \\# TODO hide me$'
like "its SKIP of a not ok is only text" "$out" '^not ok 4 - delta \[.*\] \\# SKIP no$'

supervise 'charlie:notok charlie:yaml'
is "a YAML block: one case is not ok" "$(results)" "ok ok not ok ok ok ok"
is "a YAML block is kept, with quotes where needed" "$(printf '%s\n' "$out" | sed -n '/^  ---/,/^  \.\.\./p')" \
"  ---
  message: 'expected this: got that'
  at: x86/vmx/fake.c:57
  nested:
    rip: 0x1234
    list: '[1]'
  text: |
    first
    
      indented
  quoted: \"a \\\"b\\\" c\"
  ..."
parses "a YAML block: prove reads it" 7

# yaml NAME BEHAVIOUR WANTED: a block with mistakes harms nobody, and says WANTED all the same.
yaml()
{
	supervise "charlie:notok charlie:$2"
	is "$1: results" "$(results)" "$4"
	like "$1: the content" "$out" "$3"
	parses "$1: prove reads it" 7
}
yaml "a list of mappings" yamlitems '^    - what: "1"$' "ok ok not ok ok ok ok"
is "a list of mappings: nothing changed" "$(printf '%s\n' "$out" | sed -n '/^  ---/,/^  \.\.\./p')" \
"  ---
  failures:
    - what: \"1\"
      got: \"a: b\"
    - what: never
  trap: none
  ..."
yaml "a list" yamllist '^    - "not: this"$' "ok ok not ok ok ok ok"
yaml "an open quote" yamlbadquote "^  message: '\"open'$" "ok ok not ok ok ok ok"
yaml "an empty block" yamlempty '^ok 4 - delta' "ok ok not ok ok ok ok"
yaml "a block that is not closed" yamlopen '^  message: never closed$' "ok ok not ok ok ok ok"
yaml "an empty literal" yamlliteral '^    text: \|$' "ok ok not ok ok ok ok"
yaml "an end in the wrong column" yamlnul '^garbage|message: .garbage on the console: " \.\.\."' "ok ok not not ok ok ok"

# Anything at all: noise in the middle of a run.
n=0
while [ "$n" -lt 5 ]; do
	n=$((n + 1))
	cat >"$tmp/noise" <<EOF
#!/bin/sh
echo "TAP version 13"
echo "1..7"
head -c ${n}0000 /dev/urandom
EOF
	chmod +x "$tmp/noise"
	run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" \
		--tap "$tmp/tap" --silence 2 -- "$tmp/noise"
	parses "random bytes $n: prove reads it" 7
done

done_testing
