#!/bin/sh
# The VMM of the platform kvm (runners/kvm/): small guests whose output is known.
. "${0%/*}/lib.sh"

vmm=$build/runners/kvm/vmm
tree=$build/runners/kvm/machine.dtb
if [ ! -x "$vmm" ] || [ ! -r "$tree" ]; then
	fail "the VMM and its tree are built" "missing: $vmm or $tree; type make"
	done_testing
fi
run_cmd "$vmm" --probe
[ "$status" -eq 0 ] || skip_all "no guest can run on KVM here: $err"

CC=$(sed -n 's/^CC *= *//p' "$build/config.mk" 2>/dev/null)
export CC="${CC:-gcc}"

# guest NAME [FLAG...]: builds a test guest as $tmp/NAME.
guest()
{
	guest_name=$1
	shift
	ok "guest $guest_name builds" "$top/tests/guests/build.sh" "$guest_name.S" \
		"$tmp/$guest_name" ${1+"$@"}
}

# variant SED-SCRIPT: $tmp/variant.dtb, the platform's tree with its source edited.
variant()
{
	sed "$1" "$top/runners/kvm/machine.dts" >"$tmp/variant.dts"
	dtc -q -I dts -O dtb -o "$tmp/variant.dtb" "$tmp/variant.dts" ||
		fail "the edited tree compiles"
}

# --- console and power-off ---------------------------------------------------

guest hello
run_cmd timeout 20 "$vmm" "$tmp/hello" "$tree"
is "power-off: exit status 0" "$status" 0
is "the console is standard output, to the last byte" "$out" "hello
no end of line"
is "and nothing else is said" "$err" ""

run_cmd env EXITPATH_GUEST_TIME="$tmp/seconds" timeout 20 "$vmm" "$tmp/hello" "$tree"
like "the guest's own CPU seconds, when asked for" "$(cat "$tmp/seconds")" '^0[.][0-9]{6}$'
run_cmd env EXITPATH_GUEST_TIME="$tmp/absent/seconds" timeout 20 "$vmm" "$tmp/hello" "$tree"
like "a file for them that cannot be written is reported" "$err" '^vmm: cannot write .*/seconds: '

guest ports
run_cmd timeout 20 "$vmm" "$tmp/ports" "$tree"
is "ports: widths, absent devices, REP OUTS, power-off only by the whole text" "$out" \
"000000e9 console
000000ff byte
0000ffff word
ffffffff double word
string
still on"
is "ports: exit status" "$status" 0

guest uart
variant 's/"exitpath,port-e9"/"ns16550a"/; s/<0xe9>/<0x3f8>/
	s/"exitpath,port-text"/"exitpath,port-value"/; s/<0x8900>/<0xf4>/
	s/exitpath,text = "Shutdown"/exitpath,value = <0x31>/'
run_cmd timeout 20 "$vmm" "$tmp/uart" "$tmp/variant.dtb"
is "ns16550a: divisor, line status, text, scratch register" "$out" "uart A7"
is "power-off by a value, and not by another" "$status" 0

# --- the entry ---------------------------------------------------------------

guest state
run_cmd timeout 20 "$vmm" "$tmp/state" "$tree"
is "the direct 64-bit entry is as the design says" "$out" \
"rflags 00000002
long 00000001
cpl 00000000
segments reload
tree d00dfeed
above 00000000
mmio ffffffff
dropped ffffffff
bss 00000000"

# Memory above 4 GiB only: the tree must still go below.
variant 's/reg = <0 0 0 0x8000000>/reg = <0 0 0 0x200000>, <2 0 0 0x8000000>/'
run_cmd timeout 20 "$vmm" "$tmp/state" "$tmp/variant.dtb"
like "the tree is put below 4 GiB when there is memory above" "$out" '^above 00000000$'
like "and it is the tree" "$out" '^tree d00dfeed$'

# --- CPUs --------------------------------------------------------------------

guest smp
run_cmd timeout 20 "$vmm" "$tmp/smp" "$tree"
like "the second CPU starts by INIT and SIPI" "$out" '^second$'
like "the first CPU sees it" "$out" '^first$'
is "APIC IDs and counts in CPUID leaves 1 and 0BH" "$(printf '%s\n' "$out" | grep -v '^[fs]')" \
"01020000 leaf 1
00000002 CPUs
00000001 leaf 0b
00020000 leaf 1
00000002 CPUs
00000000 leaf 0b"

# The first CPU of the tree boots, whatever its APIC ID is.
variant 's/reg = <0>;/reg = <9>;/'
run_cmd timeout 20 "$vmm" "$tmp/smp" "$tmp/variant.dtb"
like "a boot CPU with APIC ID 9 starts the one with APIC ID 1" "$out" '^second$'
like "and CPUID says 9" "$out" '^09100000 leaf 1$'

# --- the machine stops -------------------------------------------------------

guest triple
run_cmd timeout 20 "$vmm" "$tmp/triple" "$tree"
is "triple fault: exit status 1" "$status" 1
like "the guest's unfinished line is there, on its own" "$out" '^before$'
like "triple fault: in words" "$out" \
	'^# vmm: the machine stopped: CPU 0: triple fault \(KVM_EXIT_SHUTDOWN\)$'
unlike "every line of the report is a comment" "$(printf '%s\n' "$out" | sed 1d)" '^[^#]'
# VMX leaves the registers as they were; SVM resets them first, and the report says so.
if printf '%s\n' "$out" | grep -q 'as after a reset'; then
	skip "triple fault: registers and bytes" "this KVM resets a CPU that triple faults"
else
	like "triple fault: general registers" "$out" '^# vmm: .*R15 0000000012345678'
	like "triple fault: control registers in words" "$out" '^# vmm: CR0  .*\(PE .*PG\)$'
	like "triple fault: EFER in words" "$out" '^# vmm: EFER 0*500 \(LME LMA\)$'
	like "triple fault: code segment in words" "$out" \
		'^# vmm: CS 0008 .* 64-bit code, DPL 0$'
	like "triple fault: the bytes of UD2" "$out" '^# vmm: bytes at CS:RIP, .*: 0f 0b '
fi

guest fetch
run_cmd timeout 20 "$vmm" "$tmp/fetch" "$tree"
is "fetch from no memory: exit status 1" "$status" 1
like "fetch from no memory: in words" "$out" \
	'KVM gave up \(KVM_EXIT_INTERNAL_ERROR\)$|triple fault'
like "fetch from no memory: RIP" "$out" '^# vmm: RIP 00000000d0000000 |as after a reset'
like "fetch from no memory: there are no bytes" "$out" \
	'^# vmm: bytes .*: none, not mapped to memory$|as after a reset'

# --- the machine is ended ----------------------------------------------------

# ended_by NAME SIGNAL: runs $tmp/loop in the background, and ends it with SIGNAL.
ended_by()
{
	"$vmm" "$tmp/loop" "$tree" >"$tmp/console" 2>"$tmp/errors" &
	ended=$!
	sleep 1
	kill -s "$2" "$ended"
	wait "$ended"
	is "$1: exit status" "$?" 1
	out=$(cat "$tmp/console")
	like "$1: what the guest had said" "$out" '^looping$'
	like "$1: the signal" "$out" '^# vmm: ended by signal '
	like "$1: where the first CPU is" "$out" '^# vmm: .*R14 000000000000abcd'
	like "$1: that the other one never started" "$out" '^# vmm: CPU 1 is as after a reset$'
}
guest loop
ended_by "SIGTERM in a loop" TERM
guest loop -DHALT
ended_by "SIGHUP in a HLT without end" HUP

done_testing
