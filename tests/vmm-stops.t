#!/bin/sh
# The VMM of the platform kvm when KVM gives up in the middle of a case: the case gets the reason,
# the registers and the instruction bytes, and the image goes on after it. Needs no KVM: the VMM is
# linked with tests/fake/backend.c instead of kvm.c. With KVM the same is tried on the real one.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=tests/fake/supervise.sh
. "${0%/*}/fake/supervise.sh"

config()
{
	sed -n "s/^$1 *= *//p" "$build/config.mk"
}

CC=$(config CC)
export CC="${CC:-gcc}"
vmm=$tmp/vmm
tree=$build/runners/kvm/machine.dtb

# The VMM with the back end that runs no guest.
# shellcheck disable=SC2317	# called by ok
build_vmm()
{
	set -- "$fake/backend.c"
	for source in "$top"/runners/kvm/*.c; do
		case $source in
		*/kvm.c) ;;
		*) set -- "$@" "$source" ;;
		esac
	done
	"$CC" -std=gnu11 -O1 -I"$top/runners/kvm" -iquote "$top/lib/x86" -o "$vmm" "$@" -lfdt -lpthread
}
ok "the VMM builds without KVM" build_vmm
ok "guest hello builds" "$top/tests/guests/build.sh" hello.S "$tmp/hello"

# --- the report of the VMM ---------------------------------------------------

printf 'TAP version 13\nhalf a line' >"$tmp/console"

# stop END: runs the VMM, whose machine stops like that.
stop()
{
	run_cmd env FAKE_CONSOLE="$tmp/console" FAKE_END="$1" timeout 20 "$vmm" "$tmp/hello" "$tree"
}

stop off
is "power-off: exit status 0" "$status" 0

# A back end that hides nothing says so, instead of running a guest that has all.
sed 's/^	cpus {/&exitpath,without = "ENABLE_EPT";/' "$top/runners/kvm/machine.dts" >"$tmp/without.dts"
dtc -q -I dts -O dtb -o "$tmp/without.dtb" "$tmp/without.dts"
run_cmd env FAKE_CONSOLE="$tmp/console" FAKE_END=off timeout 20 "$vmm" "$tmp/hello" "$tmp/without.dtb"
is "a back end that hides nothing: exit status 2, nothing on the console" "$status:$out" "2:"
like "a back end that hides nothing: says so" "$err" 'exitpath,without: nothing can be hidden here'

stop 1
is "emulation failure: exit status 1" "$status" 1
like "emulation failure: what the guest said ends with a newline" "$out" '^half a line$'
like "emulation failure: in words" "$out" \
	'^# vmm: the machine stopped: CPU 0: KVM gave up \(KVM_EXIT_INTERNAL_ERROR\)$'
like "emulation failure: the suberror" "$out" \
	'^# vmm: suberror 1: KVM had to emulate an instruction and cannot$'
like "emulation failure: the bytes that KVM read" "$out" \
	'^# vmm: KVM read these instruction bytes: d9 04 25 00 00 00 d0$'
like "emulation failure: where" "$out" '^# vmm: RIP 0000000000009000 RFLAGS '
like "emulation failure: general registers" "$out" '^# vmm: .*R15 0000000012345678$'
like "emulation failure: control registers in words" "$out" '^# vmm: CR0  .*\(PE .*PG\)$'
like "emulation failure: the bytes in memory" "$out" \
	'^# vmm: bytes at CS:RIP, linear 0000000000009000: d9 04 25 00 00 00 d0 00'
unlike "emulation failure: every line of the report is a comment" \
	"$(printf '%s\n' "$out" | sed 1,2d)" '^[^#]'

stop 3
like "failure in a delivery: the suberror" "$out" \
	'^# vmm: suberror 3: an exit that cannot be handled came while an event was delivered$'
like "failure in a delivery: its data" "$out" '^# vmm: data: 0xfeed$'
unlike "failure in a delivery: KVM says nothing of bytes" "$out" 'KVM read'
like "failure in a delivery: the bytes in memory" "$out" '^# vmm: bytes at CS:RIP, .*: d9 04 '

stop 77
like "a suberror that nobody knows" "$out" '^# vmm: suberror 77: suberror without a word$'
stop 'exit 999'
like "an exit reason that nobody knows" "$out" \
	'^# vmm: the machine stopped: CPU 0: exit reason 999, for which there is no word here$'

# --- the whole chain: the case has the diagnosis, the image goes on ----------

# One boot: the fake image says what is to be said until a case that makes KVM give up.
cat >"$tmp/boot" <<EOF
#!/bin/sh
FAKE_CONSOLE=\$TMPDIR/console
FAKE_END=off
"$fake/machine" "\$1" "$cases" "\$3" >"\$FAKE_CONSOLE"
[ \$? -eq 1 ] || FAKE_END=1
export FAKE_CONSOLE FAKE_END
exec "$vmm" "$tmp/hello" "\$3"
EOF
chmod +x "$tmp/boot"

# chain BEHAVIOURS: runs supervise over that; "CASE:off" is where KVM gives up.
chain()
{
	run_cmd "$supervise" --image vmx/fake --elf "$cases" --cases "$cases" --dtb "$tree" \
		--tap "$tmp/tap" --log "$tmp/log" -- "$tmp/boot" "$1"
}

chain 'charlie:off'
is "chain: that case alone is not ok" "$(results)" "ok ok not ok ok ok ok"
is "chain: exit status 1" "$status" 1
like "chain: the message" "$(message 3)" '^crashed: the machine powered off in the middle of the case$'
like "chain: how the boot ended" "$out" '^  ended: exit status 1$'
like "chain: the console has the reason" "$out" '^    # vmm: .*KVM gave up \(KVM_EXIT_INTERNAL_ERROR\)$'
like "chain: the console has the bytes" "$out" '^    # vmm: KVM read these instruction bytes: d9 04 25'
like "chain: the console has RIP" "$out" '^    # vmm: RIP 0000000000009000 '
like "chain: the console has the registers" "$out" '^    # vmm: RAX .* RBX '
like "chain: the console has what RIP leads to" "$out" '^    # vmm: bytes at CS:RIP'
like "chain: the image goes on behind it" "$out" '^# boot 2, from case 4 on$'
parses "chain: prove reads it" 7

chain 'alpha:off golf:off'
is "chain: the first and the last case" "$(results)" "not ok ok ok ok ok not"

# --- on KVM, where there is one -----------------------------------------------

real=$build/runners/kvm/vmm
run_cmd "$real" --probe
if [ "$status" -ne 0 ]; then
	skip "KVM: an x87 load from no memory" "no guest can run on KVM here: $err"
	done_testing
fi
ok "guest emulate builds" "$top/tests/guests/build.sh" emulate.S "$tmp/emulate"
run_cmd timeout 20 "$real" "$tmp/emulate" "$tree"
is "KVM: an x87 load from no memory: exit status 1" "$status" 1
like "KVM: an x87 load from no memory: the reason" "$out" \
	'^# vmm: the machine stopped: CPU 0: KVM gave up \(KVM_EXIT_INTERNAL_ERROR\)$'
like "KVM: an x87 load from no memory: the bytes in memory" "$out" \
	'^# vmm: bytes at CS:RIP, .*: d9 00 '
like "KVM: an x87 load from no memory: the address in RAX" "$out" '^# vmm: RAX 00000000d0000000 '

# Cases of a real image: the second stops KVM, the third runs all the same.
run_cmd "$supervise" --image guest/mmio-rights --elf "$build/images/guest/mmio-rights" \
	--cases "$build/images/guest/mmio-rights.tsv" --dtb "$tree" --tap "$tmp/tap" \
	--select guest/mmio-rights:accessed_and_dirty \
	--select guest/mmio-rights:x87_control_words \
	--select guest/mmio-rights:single_step -- "$top/runners/kvm/boot"
like "KVM: the case has the reason" "$out" '^    # vmm: .*KVM gave up \(KVM_EXIT_INTERNAL_ERROR\)$'
like "KVM: the case has the bytes" "$out" '^    # vmm: bytes at CS:RIP, .*: [0-9a-f][0-9a-f] '
is "KVM: every case has a result" "$(printf '%s\n' "$out" | grep -Ec '^(not )?ok ')" 3

done_testing
