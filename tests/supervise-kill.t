#!/bin/sh
# supervise leaves no process behind, however a boot or supervise itself ends.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

# seconds COMMAND...: runs it; sets $took.
seconds()
{
	seconds_from=$(date +%s)
	"$@"
	took=$(($(date +%s) - seconds_from))
}

# waits until COMMAND succeeds, 10 s at most.
wait_until()
{
	wait_until_tries=0
	until "$@"; do
		wait_until_tries=$((wait_until_tries + 1))
		[ "$wait_until_tries" -lt 200 ] || return 1
		sleep 0.05
	done
}

# shellcheck disable=SC2317	# wait_until calls it
has_lines()
{
	[ "$(wc -l <"$1")" -ge "$2" ]
}

seconds supervise 'charlie:stubborn' --silence 0.5
is "a boot that ignores SIGTERM" "$(results)" "ok ok not ok ok ok ok"
ok "is killed soon" test "$took" -le 5
none_left "it is gone"

supervise 'charlie:escape charlie:hang' --silence 0.5
is "children in other sessions" "$(results)" "ok ok not ok ok ok ok"
none_left "a hang: they are gone"
supervise 'charlie:escape charlie:off'
is "children that outlive the boot command" "$(results)" "ok ok not ok ok ok ok"
none_left "a power-off: they are gone"
seconds supervise 'golf:escape'
is "children that outlive a good boot" "$status" 0
ok "are not waited for" test "$took" -le 3
none_left "a good boot: they are gone"

# start BEHAVIOURS: supervise in the background; sets $pid; waits for two listed processes.
start()
{
	: >"$FAKE_PIDS"
	mkdir -p "$tmp/folders"
	TMPDIR=$tmp/folders "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" \
		--dtb "$dtb" --tap "$tmp/tap" -- "$fake/machine" "$1" >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	wait_until has_lines "$FAKE_PIDS" "$2"
}

# folders_gone NAME: one test: supervise left no temporary folder.
folders_gone()
{
	ok "$1" wait_until rmdir "$tmp/folders"
}

for signal in HUP:129 INT:130 QUIT:131 TERM:143; do
	wanted=${signal#*:}
	signal=${signal%:*}
	start 'charlie:escape charlie:stubborn' 3
	kill -"$signal" "$pid"
	wait "$pid" 2>/dev/null
	status=$?
	out=$(cat "$tmp/out")
	is "SIG$signal: seen by whoever waits" "$status" "$wanted"
	is "SIG$signal: all get a result" "$(results)" "ok ok not not not not not"
	like "SIG$signal: the running case" "$(message 3)" "^supervise was ended by SIG$signal in the middle of the case$"
	like "SIG$signal: the others" "$(message 4)" "^not run: supervise was ended by SIG$signal"
	none_left "SIG$signal: nothing is left"
	folders_gone "SIG$signal: no folder is left"
done

start 'charlie:escape charlie:stubborn' 3
kill -KILL "$pid"
wait "$pid" 2>/dev/null
sleep 2
none_left "supervise killed by SIGKILL: nothing is left"
folders_gone "supervise killed by SIGKILL: no folder is left"

# The keeper is the parent of the boot command.
start 'charlie:escape charlie:stubborn' 3
boot=$(tail -n 1 "$FAKE_PIDS")
keeper=$(sed 's/.*) [A-Z] //' "/proc/$boot/stat" | cut -d ' ' -f 1)
ok "the keeper is not supervise" test "$keeper" -ne "$pid"
kill -KILL "$keeper"
wait "$pid"
is "keeper killed by SIGKILL: exit status 1" "$?" 1
out=$(cat "$tmp/out")
is "keeper killed by SIGKILL: no result is lost" "$(results)" "ok ok not ok ok ok ok"
none_left "keeper killed by SIGKILL: nothing is left"
folders_gone "keeper killed by SIGKILL: no folder is left"

# Somebody kills the boot command, as in "kill -9 of the emulator".
start 'charlie:escape charlie:stubborn' 3
kill -KILL "$(tail -n 1 "$FAKE_PIDS")"
wait "$pid"
is "boot command killed: exit status 1" "$?" 1
out=$(cat "$tmp/out")
is "boot command killed: no result is lost" "$(results)" "ok ok not ok ok ok ok"
like "boot command killed: the message" "$(message 3)" '^crashed: the machine was killed by SIGKILL'
none_left "boot command killed: nothing is left"
folders_gone "boot command killed: no folder is left"

# Nobody reads standard output any more.
: >"$FAKE_PIDS"
# shellcheck disable=SC2016	# the inner shell expands it
run_cmd sh -c '"$@" | while [ "$(wc -l <"$FAKE_PIDS")" -lt 3 ]; do sleep 0.05; done' - \
	"$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" \
	--tap "$tmp/tap" -- "$fake/machine" 'charlie:escape charlie:stubborn'
sleep 1
none_left "no reader: nothing is left"
out=$(cat "$tmp/tap")
is "no reader: --tap has all results" "$(results)" "ok ok not not not not not"

# Boots that run at the same time do not end each other.
# shellcheck disable=SC2016	# the inner shell expands it
run_cmd sh -c '
	for i in 1 2 3 4; do
		"$@" >/dev/null & p="${p-} $!"
	done
	for i in $p; do wait $i || echo "failed $i"; done' - \
	"$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" -- "$fake/machine" 'alpha:escape'
is "four at the same time" "$out" ""
none_left "four at the same time: nothing is left"

done_testing
