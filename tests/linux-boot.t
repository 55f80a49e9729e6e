#!/bin/sh
# The platform linux with a real kernel in a real Bochs: a guest that never exits, a kernel that panics, a Bochs
# that is killed. Each time the run ends by itself, blames the case that ran, and goes on in a new machine.
# tests/linux-session.t tries the same, and more, without a kernel.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

EXITPATH_TOP=$top
EXITPATH_BUILD=$build
EXITPATH_STATE=${EXITPATH_STATE:-$build}
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_STATE
boot=$top/runners/linux/boot
[ -f "$EXITPATH_STATE/linux/debian/version" ] ||
	skip_all "there is no kernel in $EXITPATH_STATE/linux/debian; ./exitpath setup --on linux fetches it"
why=$("$boot" --probe 2>&1) || skip_all "$why"

# Two cases of a real image; the kernel panics before it says that the first is ok.
image=vmx/instructions-basic
victim=$(cut -f 2 "$build/images/$image.tsv" | sed -n 1p)
survivor=$(cut -f 2 "$build/images/$image.tsv" | sed -n 2p)
EXITPATH_APPEND="exitpath.crash=$victim"
EXITPATH_SESSION=$tmp/socket
TMPDIR=$tmp
export EXITPATH_APPEND EXITPATH_SESSION TMPDIR
setsid "$top/runners/linux/serve" "$EXITPATH_SESSION" 1 &
server=$!
until [ -S "$EXITPATH_SESSION" ] || ! kill -s 0 "$server"; do
	sleep 0.2
done

ok "the guest that never exits builds" "$top/tests/guests/build.sh" loop.S "$tmp/loop" -DTAP
printf '1\tloops\t-\t-\tx86/vmx/loop.c:1\t-\t-\n' >"$tmp/loop.tsv"

# supervise NAME ELF CASES ARGUMENT...: one image on the machine of this test.
supervise()
{
	supervise_name=$1
	supervise_elf=$2
	supervise_cases=$3
	shift 3
	run_cmd "$build/tools/supervise" --image "$supervise_name" --elf "$supervise_elf" \
		--cases "$supervise_cases" --dtb "$build/runners/linux/machine.dtb" --limit 600 \
		${1+"$@"} -- "$boot"
}

supervise vmx/loop "$tmp/loop" "$tmp/loop.tsv" --silence 10
is "a guest that never exits: the run ends, exit status" "$status" 1
like "a guest that never exits: its case is to blame" "$out" '^not ok 1 - loops'
like "a guest that never exits: as what" "$out" 'silent|silence|hung|hang'

supervise "$image" "$build/images/$image" "$build/images/$image.tsv" --silence 120 \
	--select "$image:$victim" --select "$image:$survivor"
is "a kernel that panics: the run ends, exit status" "$status" 1
like "a kernel that panics: the case that ran is to blame" "$out" "^not ok 1 - $victim "
like "a kernel that panics: its last words" "$out" 'kernel: .*Kernel panic - not syncing: sysrq triggered crash'
like "a kernel that panics: the other case has another machine" "$out" "^ok 2 - $survivor "

# bochs_of: the process of this test's Bochs.
bochs_of()
{
	for process in /proc/[0-9]*; do
		case $({ tr '\000' ' ' <"$process/cmdline"; } 2>/dev/null) in
		*"$tmp/exitpath-linux."*rc*) printf '%s\n' "${process#/proc/}" ;;
		esac
	done
}

# kill_when_it_loops LOG: kills Bochs as soon as the guest has spoken.
kill_when_it_loops()
{
	tries=0
	until grep -q looping "$1" 2>/dev/null || [ "$tries" -gt 1200 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	# shellcheck disable=SC2046	# a list
	kill -s KILL $(bochs_of)
}
kill_when_it_loops "$tmp/log" &
supervise vmx/loop "$tmp/loop" "$tmp/loop.tsv" --silence 120 --log "$tmp/log"
wait $!
is "a killed Bochs: the run ends, exit status" "$status" 1
like "a killed Bochs: the case that ran is to blame" "$out" '^not ok 1 - loops'
like "a killed Bochs: as what" "$out" 'Bochs has ended, and the kernel with it'
kill -s TERM "$server"
wait "$server"
is "nothing is left" "$(bochs_of; find "$tmp" -name 'exitpath-linux.*')" ""

done_testing
