#!/bin/sh
# supervise with a machine that dies, hangs or never comes up: no result is lost.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

# crash NAME BEHAVIOUR WANTED-MESSAGE WANTED-END: "charlie" does it; the others are ok.
crash()
{
	supervise "charlie:$2" --silence 0.5
	is "$1: exit status 1" "$status" 1
	is "$1: that case, and no other" "$(results)" "ok ok not ok ok ok ok"
	like "$1: the message" "$(message 3)" "$3"
	like "$1: how the boot ended" "$out" "^  ended: $4"
	like "$1: where the case is" "$out" '^  at: x86/vmx/fake.c:30$'
	like "$1: the console" "$out" '^    ok 2 - bravo'
	parses "$1: prove reads it" 7
}
crash "SIGSEGV" segv '^crashed: the machine was killed by SIGSEGV \(signal 11' "'?killed by SIGSEGV"
crash "SIGKILL" kill '^crashed: the machine was killed by SIGKILL \(signal 9' "'?killed by SIGKILL"
crash "power-off" off '^crashed: the machine powered off in the middle of the case$' 'exit status 0$'
crash "power-off, status 1" off1 '^crashed: the machine powered off in the middle' 'exit status 1$'
crash "status 2 after the plan" status2 '^crashed: the machine powered off in the middle' 'exit status 2$'
crash "status 137" status137 '^crashed: the machine ended with exit status 137.*SIGKILL' "'?exit status 137.*SIGKILL"
crash "hang" hang '^hang: nothing on the console for 0.5 s in the middle of the case$' 'stopped by supervise'
crash "reset" reset '^crashed: the machine reset in the middle of the case$' 'stopped by supervise'
crash "half a result line" half '^garbage on the console: "ok 3 - charlie"; then the machine powered off' 'exit status 0'

supervise 'charlie:status2'
like "standard error of a crash is shown" "$out" '^    fake: no such device$'
is "the header is not repeated" "$(printf '%s\n' "$out" | grep -c '^# fake image')" 1
like "the restart is announced" "$out" '^# boot 2, from case 4 on$'
is "the log has both boots" "$(grep -c '^TAP version 13$' "$tmp/log")" 2

supervise 'alpha:off bravo:kill charlie:reset delta:segv echo:off foxtrot:off golf:off'
is "every case crashes" "$(results)" "not not not not not not not"
is "every case crashes: exit status 1" "$status" 1

supervise 'golf:off'
is "the last case crashes" "$(results)" "ok ok ok ok ok ok not"

# The last case runs until the machine is off.
supervise 'end:hang' --silence 0.5
is "no power-off" "$(results)" "ok ok ok ok ok ok not"
like "no power-off: the message" "$(message 7)" '^hang: nothing .* after the last result, and no power-off$'
supervise 'end:kill'
is "killed after the last result" "$(results)" "ok ok ok ok ok ok not"
like "killed after the last result: the message" "$(message 7)" 'SIGKILL .* after the last result$'
supervise 'end:reset'
is "reset after the last result" "$(results)" "ok ok ok ok ok ok not"
supervise 'end:off'
is "any exit status is a power-off" "$status" 0

# The time limit.
started=$(date +%s)
supervise 'charlie:hang' --silence 60 --limit 3
is "time limit: exit status 1" "$status" 1
is "time limit: all get a result" "$(results)" "ok ok not not not not not"
like "time limit: the running case" "$(message 3)" "^the image's time limit of 3 s was over in the middle of the case; --limit gives it more$"
like "time limit: the others" "$(message 5)" "^not run: the image's time limit of 3 s was over"
ok "time limit: is kept" test "$(($(date +%s) - started))" -le 30
parses "time limit: prove reads it" 7
supervise 'start:hang' --silence 60 --limit 0.3
is "time limit before the plan: exit status 2" "$status" 2
like "time limit before the plan" "$out" "^Bail out! the image's time limit of 0.3 s was over before it printed the plan"

# Machines that never come up.
# broken NAME BEHAVIOURS WANTED [OPTION...]: nothing runs at all.
broken()
{
	broken_name=$1 broken_wanted=$3 broken_behaviours=$2
	shift 3
	supervise "$broken_behaviours" ${1+"$@"}
	is "$broken_name: exit status 2" "$status" 2
	is "$broken_name: no results" "$(results)" ""
	like "$broken_name: Bail out" "$out" "^Bail out! $broken_wanted"
}
broken "off before the plan" start:off 'crashed: the machine powered off before it printed the plan$'
like "off before the plan: tried twice" "$out" '^# crashed: .*; once more$'
broken "killed before the plan" start:kill 'crashed: the machine was killed by SIGKILL'
broken "silent before the plan" start:hang 'hang: nothing on the console for 0.3 s before' --silence 0.3
broken "another plan" start:plan99 'the image plans 1\.\.99, not the 1\.\.7'
broken "no version" start:noversion 'a plan before "TAP version 13"'
broken "a result before the plan" start:early 'a result before the plan'
broken "reset before the plan" 'start:tapversion start:noversion' 'garbage on the console: "TAP version 14"'
broken "not started" start:status2 'the machine could not be started: fake: no such device$'
like "not started: all of standard error" "$out" '^#   fake: first line$'
unlike "not started: no second try" "$out" 'once more'
broken "the image bails out" start:bail 'the tree is broken$'
broken "bails out without a newline" start:bailhalf 'no newline here$'

run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" -- "$tmp/none"
is "no such command: exit status 2" "$status" 2
like "no such command: which" "$out" '^Bail out! the machine could not be started: supervise: cannot execute .*/none: No such file'

supervise 'start:once'
is "one bad start is forgiven" "$status" 0
is "one bad start: all run" "$(results)" "ok ok ok ok ok ok ok"

supervise 'start1:kernelbug'
is "a bug of the kernel before the plan: exit status 1" "$status" 1
is "a bug of the kernel before the plan: the first case, and the rest runs" "$(results)" \
	"not ok ok ok ok ok ok"
like "a bug of the kernel before the plan: why" "$(message 1)" "^garbage on the console: .kernel: WARNING"
supervise 'start1:kernelbug start1:off'
is "and then the machine is gone, before the plan" "$status $(results)" "1 not ok ok ok ok ok ok"

# A case after which the machine does not come up any more.
cat >"$tmp/worn" <<EOF
#!/bin/sh
[ -e "$tmp/worn-out" ] && exit 0
: >"$tmp/worn-out"
exec "$fake/machine" charlie:off "\$@"
EOF
chmod +x "$tmp/worn"
run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" \
	--tap "$tmp/tap" -- "$tmp/worn"
is "worn out: exit status 2" "$status" 2
is "worn out: all get a result" "$(results)" "ok ok not not not not not"
like "worn out: why" "$(message 4)" '^not run: crashed: the machine powered off before it printed the plan$'
like "worn out: and then Bail out" "$(printf '%s\n' "$out" | tail -n 1)" '^Bail out! crashed'
supervise 'charlie:bail'
is "bail out in the middle: exit status 2" "$status" 2
is "bail out in the middle: all get a result" "$(results)" "ok ok not not not not not"
supervise 'end:bail'
is "bail out at the end: exit status 2" "$status" 2
is "bail out at the end: all have a result" "$(results)" "ok ok ok ok ok ok ok"

done_testing
