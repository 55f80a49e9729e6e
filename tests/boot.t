#!/bin/sh
# runners/kvm/boot and runners/qemu/boot: the contract of a platform's boot command.
. "${0%/*}/lib.sh"

unset EXITPATH_CPU EXITPATH_QEMU EXITPATH_QEMU_ACCEL EXITPATH_TOP EXITPATH_STATE
kvm=$top/runners/kvm/boot
qemu=$top/runners/qemu/boot
# What is remembered about QEMU and KVM must not come from, or stay behind in, the real folder.
export EXITPATH_BUILD="$tmp/a build"
mkdir -p "$EXITPATH_BUILD/runners/kvm"
ln -s "$build/runners/kvm/vmm" "$EXITPATH_BUILD/runners/kvm/vmm"
CC=$(sed -n 's/^CC *= *//p' "$build/config.mk" 2>/dev/null)
export CC="${CC:-gcc}"

# quiet_failure NAME ERE: the last run_cmd ended with 2, one line of error and no output.
quiet_failure()
{
	if [ "$status" -eq 2 ] && [ -z "$out" ] && [ "$(wc -l <"$tmp/.err")" -eq 1 ]; then
		like "$1" "$err" "$2"
	else
		fail "$1" "exit status $status, output: $out" "$err"
	fi
}

# --- kvm ---------------------------------------------------------------------

run_cmd "$kvm" --packages
like "kvm: its packages, one per line" "$out" '^[a-z0-9.+-]+$'
run_cmd "$kvm" --probe
can_run=$status
run_cmd "$kvm" --identify
if [ "$can_run" -eq 0 ]; then
	like "kvm: identity is kernel/CPU" "$out" '^[0-9][0-9.]*/[A-Za-z-]+$'
else
	quiet_failure "kvm: identity is kernel/CPU, where it can run" /dev/kvm
fi
if [ "$can_run" -eq 0 ] && unshare -rm true 2>/dev/null; then
	# shellcheck disable=SC2016 # the inner shell expands it
	run_cmd unshare -rm sh -c 'mount -t tmpfs none /sys && exec "$1" --identify' - "$kvm"
	quiet_failure "kvm: no identity without /sys" 'mount -t sysfs'
else
	skip "kvm: no identity without /sys" "no KVM, or no mount namespaces here"
fi
run_cmd env EXITPATH_CPU=486 "$kvm" --identify
quiet_failure "kvm: no CPU model can be chosen" "there is no CPU model '486'"
run_cmd "$kvm"
quiet_failure "kvm: without arguments, the usage" 'usage: boot ELF DTB'
run_cmd "$kvm" one
quiet_failure "kvm: with one argument, the usage" 'usage: boot ELF DTB'
run_cmd env EXITPATH_BUILD="$tmp/nowhere" "$kvm" elf dtb
quiet_failure "kvm: not built" 'vmm is missing: build it'

run_cmd "$kvm" --probe
if [ "$status" -eq 0 ]; then
	is "kvm: a probe that succeeds says nothing" "$out$err" ""
	ok "guest hello builds" "$top/tests/guests/build.sh" hello.S "$tmp/hello"
	run_cmd "$kvm" "$tmp/hello" "$build/runners/kvm/machine.dtb"
	like "kvm: boots an image" "$out" '^hello$'
	is "kvm: and ends with 0" "$status" 0
else
	quiet_failure "kvm: a probe that fails says why" 'kvm: '
	skip "kvm: boots an image" "$err"
fi

# --- qemu --------------------------------------------------------------------

run_cmd "$qemu" --packages
like "qemu: its packages, one per line" "$out" '^qemu-system-x86$'
run_cmd env EXITPATH_QEMU=no-such-qemu "$qemu" --probe
quiet_failure "qemu: no such program" 'no program no-such-qemu: install'
run_cmd "$qemu"
quiet_failure "qemu: without arguments, the usage" 'usage: boot ELF DTB'
if ! command -v "${EXITPATH_QEMU:-qemu-system-x86_64}" >/dev/null; then
	skip "qemu: everything else" "there is no qemu-system-x86_64"
	done_testing
fi
run_cmd env EXITPATH_QEMU_ACCEL=xen "$qemu" --probe
quiet_failure "qemu: no such accelerator" 'must be tcg or kvm'
run_cmd env EXITPATH_QEMU=/bin/true EXITPATH_QEMU_ACCEL=tcg "$qemu" --probe
quiet_failure "qemu: a program that is no QEMU" \
	'cannot run a guest with -accel tcg -cpu max: it ended'
run_cmd env EXITPATH_QEMU=/bin/true EXITPATH_QEMU_ACCEL=tcg "$qemu" --identify
quiet_failure "qemu: a program that is no QEMU has no identity" 'cannot run a guest'
run_cmd env EXITPATH_CPU=nonsense EXITPATH_QEMU_ACCEL=tcg "$qemu" --probe
quiet_failure "qemu: no such CPU model" "cannot run a guest .*'nonsense'"

run_cmd "$qemu" --probe
is "qemu: the probe succeeds" "$status" 0
run_cmd "$qemu" --identify
like "qemu: identity is version/accelerator-CPU" "$out" '^[0-9][0-9.]*/(tcg|kvm)-max$'
run_cmd env EXITPATH_CPU=qemu64 EXITPATH_QEMU_ACCEL=tcg "$qemu" --identify
like "qemu: the CPU model is part of it" "$out" '^[0-9][0-9.]*/tcg-qemu64$'

# A name that QEMU's own options would take apart.
folder="$tmp/a, b"
mkdir "$folder"
ok "guest multiboot builds" "$top/tests/guests/build.sh" multiboot.S "$folder/image"
tree="$folder/tree,,x y.dtb"
dtc -q -I dts -O dtb -o "$tree" "$top/runners/qemu/machine.dts"
for shell in dash posh "busybox sh"; do
	# shellcheck disable=SC2086	# a command and its argument
	if ! command -v ${shell%% *} >/dev/null; then
		skip "qemu: boots under $shell" "it is not installed"
		continue
	fi
	# shellcheck disable=SC2086
	run_cmd $shell "$qemu" "$folder/image" "$tree"
	is "qemu: boots under $shell, with the tree as first module" "$status:$out:$err" "0:tree:"
done
run_cmd env EXITPATH_CPU=nonsense EXITPATH_QEMU_ACCEL=tcg "$qemu" "$folder/image" "$tree"
is "qemu: a machine that cannot start is exit status 2" "$status:$out" "2:"
like "qemu: with QEMU's reason" "$err" "'nonsense'"
run_cmd "$qemu" "$folder/absent" "$tree"
quiet_failure "qemu: no image" 'cannot read the image'
run_cmd "$qemu" "$folder/image" "$folder/absent"
quiet_failure "qemu: no tree" 'cannot read the tree'

# A fake program tells a trial of KVM from a boot by its arguments, and keeps count.
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
	cat >"$tmp/fake" <<-'EOF'
		#!/bin/sh
		case "$*" in
		*"-accel kvm"*"/guest"*) echo trial >>"${0%/*}/trials"; printf K; exit 99 ;;
		*) echo "$*" >"${0%/*}/arguments"; exit 99 ;;
		esac
	EOF
	chmod +x "$tmp/fake"
	run_cmd env EXITPATH_QEMU="$tmp/fake" "$qemu" "$folder/image" "$tree"
	run_cmd env EXITPATH_QEMU="$tmp/fake" "$qemu" "$folder/image" "$tree"
	is "qemu: KVM is tried once, and remembered" "$(cat "$tmp/trials")" trial
	like "qemu: and then used" "$(cat "$tmp/arguments")" '-accel kvm '
	run_cmd env EXITPATH_CPU=qemu64 EXITPATH_QEMU="$tmp/fake" "$qemu" "$folder/image" "$tree"
	is "qemu: but tried again for another CPU model" "$(wc -l <"$tmp/trials" | tr -d ' ')" 2
	printf '#!/bin/sh\nexit 1\n' >"$tmp/fake"
	run_cmd env EXITPATH_QEMU="$tmp/fake" "$qemu" "$folder/image" "$tree"
	is "qemu: and for another QEMU" "$(sed -n 2p "$EXITPATH_BUILD/qemu-kvm")" no
else
	skip "qemu: KVM is tried once, and remembered" "no permission for /dev/kvm"
fi

ok "guest that hangs builds" "$top/tests/guests/build.sh" multiboot.S "$folder/hang" -DHANG
# The shell's own name for QEMU's process: an interpreter that says its number and becomes it.
cat >"$tmp/numbered" <<'EOF'
#!/bin/sh
echo "$$" >"${0%/*}/number"
exec qemu-system-x86_64 "$@"
EOF
chmod +x "$tmp/numbered"
EXITPATH_QEMU_ACCEL=tcg EXITPATH_QEMU="$tmp/numbered" \
	"$qemu" "$folder/hang" "$tree" >"$tmp/console" 2>/dev/null &
child=$!
tries=0
while [ ! -s "$tmp/console" ] && [ "$tries" -lt 20 ]; do
	sleep 1
	tries=$((tries + 1))
done
kill -s TERM "$child"
wait "$child"
is "qemu: SIGTERM ends it" "$?" 143
is "qemu: with what the console had" "$(cat "$tmp/console")" tree
not_ok "qemu: and QEMU is gone" kill -s 0 "$(cat "$tmp/number")"

# --- bench ---------------------------------------------------------------------

# Each platform has a tree of its own, which the benchmark changes.
for platform in bochs kvm; do
	if "$top/runners/$platform/boot" --probe >/dev/null 2>&1; then
		run_cmd env EXITPATH_BUILD="$build" "$top/exitpath" bench boot --runs=1 --on "$platform"
		is "$platform: bench boot, exit status 0" "$status" 0
		like "$platform: bench boot has figures" "$out" "^$platform +[^ ]+ +[0-9.]+ "
	else
		skip "$platform: bench boot" "it cannot run here"
	fi
done

done_testing
