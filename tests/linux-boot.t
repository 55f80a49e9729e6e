#!/bin/sh
# The platform linux with a real kernel in a real Bochs: a guest that never exits, a kernel that panics, a Bochs
# that is killed, KVM with bugs. Each time the run ends by itself, blames the case that ran, and goes on in a new machine.
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
# serve: starts what keeps the machines of this test, as $server.
serve()
{
	setsid "$top/runners/linux/serve" "$EXITPATH_SESSION" 1 &
	server=$!
	until [ -S "$EXITPATH_SESSION" ] || ! kill -s 0 "$server"; do
		sleep 0.2
	done
}
serve

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
unlike "a kernel that panics: no WARNING of its boot is among them" "$out" "cut here|kernel: .*Tainted: [^#]* W"
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
like "a killed Bochs: as what" "$out" 'Bochs has ended, killed by signal 9, and the kernel with it'
kill -s TERM "$server"
wait "$server"
is "nothing is left" "$(bochs_of; find "$tmp" -name 'exitpath-linux.*')" ""

# --- a kernel with bugs: KVM's module, with other instructions at the beginning of two of its exit handlers ---

# plant FUNCTION BYTES: FUNCTION of $module begins with BYTES (for printf %b), behind the five of its call of __fentry__.
plant()
{
	plant_at=$((0x$(nm "$module" | sed -n "s/ t $1\$//p") + 0x$(objdump -h "$module" | awk '$2 == ".text" { print $6 }') + 5))
	printf %b "$2" | dd of="$module" bs=1 seek="$plant_at" conv=notrunc 2>"$tmp/dd" || cat "$tmp/dd" >&2
}
kernel=$EXITPATH_STATE/linux/debian
mkdir "$tmp/modules" && cp "$kernel"/*.ko "$tmp/modules" || exit 2
module=$tmp/modules/kvm-intel.ko
plant handle_vmptrst '\0061\0300\0211\0000' # xorl %eax, %eax; movl %eax, (%rax)
plant handle_invept '\0353\0376'          # 0: jmp 0b

EXITPATH_STATE=$tmp/state
EXITPATH_KERNEL_NAME=own-$$
EXITPATH_KERNEL=$kernel/vmlinux
EXITPATH_MODULES=$tmp/modules
EXITPATH_APPEND=
EXITPATH_SESSION=$tmp/other
export EXITPATH_KERNEL_NAME EXITPATH_KERNEL EXITPATH_MODULES
run_cmd "$top/runners/linux/prepare"
is "modules of one's own: status" "$status" 0
serve

# cases IMAGE NAME...: runs these cases.
cases()
{
	cases_image=$1
	shift
	for case; do
		shift
		set -- "$@" --select "$cases_image:$case"
	done
	supervise "$cases_image" "$build/images/$cases_image" "$build/images/$cases_image.tsv" --silence 300 "$@"
}
cases vmx/instructions-basic vmclear_ignores_the_revision vmptrst_stores_64_bits
is "a module that oopses: status" "$status" 1
like "a module that oopses: the case before it is ok" "$out" '^ok 1 - vmclear_ignores_the_revision '
like "a module that oopses: the case that ran is to blame" "$out" '^not ok 2 - vmptrst_stores_64_bits '
# With its time where the host has read it from the serial console, because this machine was too busy for init to come first.
like "a module that oopses: how its report begins" "$out" '^    kernel: (\[ *[0-9.]+\] )?BUG: kernel NULL pointer dereference, address: 0000000000000000'
like "a module that oopses: where" "$out" '^    kernel: RIP: 0010:handle_vmptrst\+0x'
cases vmx/invalidate-basic invept_single_context
is "a kernel that spins: status" "$status" 1
like "a kernel that spins: the next image has another machine, and its case is to blame" "$out" \
	'^not ok 1 - invept_single_context '
like "a kernel that spins: the watchdog's words" "$out" 'kernel: .*watchdog: BUG: soft lockup - CPU#0 stuck'
like "a kernel that spins: where" "$out" '^    kernel: .*RIP: 0010:handle_invept\+0x'
cases vmx/instructions-basic vmclear_ignores_the_revision
is "and the rest goes on in a new boot" "$status" 0
kill -s TERM "$server"
wait "$server"
is "nothing is left, either" "$(bochs_of; find "$tmp" -name 'exitpath-linux.*')" ""

# A value that a parameter does not take; and the options of this run.
unset EXITPATH_SESSION EXITPATH_APPEND EXITPATH_EXTRA_MODULE
EXITPATH_KVM_PARAMS="nested=1 ept=maybe"
export EXITPATH_KVM_PARAMS
cases vmx/instructions-basic vmclear_ignores_the_revision
is "a value that KVM does not take: status" "$status" 2
like "a value that KVM does not take: which" "$out" \
	"^Bail out! .*: linux: --kvm-params has a value that KVM does not take: kvm_intel: .maybe. invalid for parameter .ept."

# Capabilities hidden from one VM: it is not there anyhow; it is there no more; the next VM of the same machine has it.
unset EXITPATH_KVM_PARAMS EXITPATH_KERNEL_NAME EXITPATH_KERNEL EXITPATH_MODULES
EXITPATH_STATE=${kernel%/linux/debian}
EXITPATH_SESSION=$tmp/socket
export EXITPATH_SESSION
serve
activity=guest_activity_hlt_unsupported
# without NAMES: that case without NAMES.
without()
{
	supervise vmx/entry-guest-state "$build/images/vmx/entry-guest-state" "$build/images/vmx/entry-guest-state.tsv" \
		--silence 300 --select "vmx/entry-guest-state:$activity" ${1+--without "$1"}
}
without ACTIVITY_HLT,ENABLE_PCONFIG,INSTRUCTION_TIMEOUT
machine=$(bochs_of)
is "what the processor lacks anyhow: status" "$status" 2
like "what the processor lacks anyhow: says so" "$out" \
	'^Bail out! .*: linux: there is no PROC2_ENABLE_PCONFIG, PROC2_INSTRUCTION_TIMEOUT to hide: this processor lacks it anyhow; leave it out of --without'
without ACTIVITY_HLT
like "without the HLT state the case of its absence runs" "$out" "^(not )?ok 1 - $activity [^#]*$"
unlike "without the HLT state: it comes to its end" "$out" 'message:'
without
like "with it, it cannot" "$out" "^ok 1 - $activity .*# SKIP "
is "all on one machine" "$(bochs_of)" "$machine"
kill -s TERM "$server"
wait "$server"

done_testing
