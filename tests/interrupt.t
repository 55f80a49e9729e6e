#!/bin/sh
# Interrupting exitpath run: whoever gets the signal, no process survives, and the run is told.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/platform.sh"

FAKE_PIDS=$tmp/pids
export FAKE_PIDS
fake_image vmx/hang 'charlie:hang'
fake_image mmu/hang 'alpha:hang'

# start: exitpath run in a process group of its own, until both machines hang; sets $pid.
start()
{
	: >"$FAKE_PIDS"
	# Background processes of a shell ignore SIGINT; Perl can give it back.
	# shellcheck disable=SC2016	# it is Perl
	perl -e '$SIG{INT} = "DEFAULT"; setpgrp; exec @ARGV' \
		"$top/exitpath" run --on fake -j 2 >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	start_tries=0
	while [ "$(wc -l <"$FAKE_PIDS")" -lt 2 ]; do
		start_tries=$((start_tries + 1))
		[ "$start_tries" -lt 100 ] || break
		sleep 0.1
	done
	is "$1: both machines run" "$(wc -l <"$FAKE_PIDS" | tr -d ' ')" 2
}

# ended NAME STATUS: waits for it; three tests.
ended()
{
	ended_status=0
	wait "$pid" || ended_status=$?
	is "$1: exit status" "$ended_status" "$2"
	like "$1: says where the results are" "$(cat "$tmp/err")" "ended by SIG.*results/"
	ended_left=
	while read -r ended_pid; do
		! kill -s 0 "$ended_pid" 2>/dev/null || ended_left="$ended_left $ended_pid"
	done <"$FAKE_PIDS"
	is "$1: no machine is left" "$ended_left" ""
	# shellcheck disable=SC2086	# a list
	[ -z "$ended_left" ] || kill -s KILL $ended_left
	is "$1: no other process is left" "$(processes)" ""
}

# processes: those that name the temporary folder of this test in their command line.
processes()
{
	for processes_folder in /proc/[0-9]*; do
		case ${processes_folder#/proc/} in
		"$$") continue ;;
		esac
		processes_line=$({ tr "\000" " " <"$processes_folder/cmdline"; } 2>/dev/null) || continue
		case $processes_line in
		*"$tmp/"*) printf '%s\n' "$processes_line" ;;
		esac
	done
}

start "SIGINT to the group (Ctrl-C)"
kill -s INT -- "-$pid"
ended "SIGINT to the group (Ctrl-C)" 130
start "SIGINT to the shell alone"
kill -s INT "$pid"
ended "SIGINT to the shell alone" 130
start "SIGTERM to the shell alone"
kill -s TERM "$pid"
ended "SIGTERM to the shell alone" 143
done_testing
