#!/bin/sh
# shellcheck shell=sh disable=SC2034,SC2154
# For tests of supervise; sourced after tests/lib.sh. Sets $fake (this folder), $cases, $dtb,
# $supervise, and exports FAKE_PIDS and FAKE_STATE (see tests/fake/machine).

fake=$top/tests/fake
cases=$fake/cases.tsv
dtb=$tmp/machine.dtb
supervise=$build/tools/supervise
FAKE_PIDS=$tmp/pids
FAKE_STATE=$tmp/state
export FAKE_PIDS FAKE_STATE

[ -x "$supervise" ] || {
	echo "Bail out! $supervise is missing; run make first"
	exit 1
}
dtc -q -I dts -O dtb -o "$dtb" "$fake/machine.dts" || exit 1
: >"$FAKE_PIDS"

# supervise BEHAVIOURS [OPTION...]: runs the fake machine; sets $status, $out, $err, keeps
# $tmp/tap and $tmp/log.
supervise()
{
	behaviours=$1
	shift
	rm -f "$FAKE_STATE"
	run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$dtb" \
		--tap "$tmp/tap" --log "$tmp/log" ${1+"$@"} -- "$fake/machine" "$behaviours"
}

# results: what became of the cases in $out, one word each: "ok", "not", "skip", "todo".
results()
{
	printf '%s\n' "$out" | awk '
		/^(not )?ok / {
			word = $1
			if (/ # SKIP/) word = "skip"
			if (/[^\\]# TODO/) word = word "-todo"
			line = line sep word
			sep = " "
		}
		END { print line }'
}

# message NUMBER: the message of the YAML block of a case, without the quotes around it.
message()
{
	printf '%s\n' "$out" | awk -v number="$1" '
		/^(not )?ok / { here = (/^not ok/ ? $3 : $2) == number }
		here && /^  message: / {
			sub(/^  message: /, "")
			if (sub(/^\047/, "")) { sub(/\047$/, ""); gsub(/\047\047/, "\047") }
			print
		}'
}

# parses NAME COUNT: one test: prove reads $tmp/tap without complaint, COUNT results.
parses()
{
	parses_text=$(cd "$tmp" && prove --nocolor --exec cat tap 2>&1)
	case $parses_text in
	*'Parse errors'* | *'Bailout'* | *YAMLish*) fail "$1" "$parses_text" ;;
	*"Tests=$2,"* | *"Tests: $2 "*) pass "$1" ;;
	*) fail "$1" "$parses_text" ;;
	esac
}

# none_left NAME: one test: no process that is listed in $FAKE_PIDS, at least one, is still there.
none_left()
{
	none_left_alive=
	[ -s "$FAKE_PIDS" ] || none_left_alive=none-was-started
	while read -r none_left_pid; do
		! kill -0 "$none_left_pid" 2>/dev/null || none_left_alive="$none_left_alive $none_left_pid"
	done <"$FAKE_PIDS"
	is "$1" "$none_left_alive" ''
	: >"$FAKE_PIDS"
}
