#!/bin/sh
# runners/bochs/boot: what it asks Bochs, and how often; and a machine without pseudo-terminals.
. "${0%/*}/lib.sh"

unset EXITPATH_CPU EXITPATH_IDENTITY EXITPATH_TOP
export EXITPATH_BUILD="$build"
boot=$top/runners/bochs/boot
image=$build/images/guest/io-basic
tree=$build/runners/bochs/machine.dtb

# fake_bochs TEXT: a Bochs that counts how often it is started and does TEXT.
fake_bochs()
{
	: >"$tmp/count"
	printf '#!/bin/sh\necho started >>"%s"\n%s\n' "$tmp/count" "$1" >"$tmp/bochs"
	chmod +x "$tmp/bochs"
}

# ask NAME STATUS ERE ARGUMENT...: the answer of boot, on whichever output.
ask()
{
	ask_name=$1
	ask_status=$2
	ask_text=$3
	shift 3
	run_cmd env "EXITPATH_BOCHS=$tmp/bochs" "$@"
	is "$ask_name: exit status" "$status" "$ask_status"
	like "$ask_name: words" "$out$err" "$ask_text"
}

fake_bochs 'printf "Bochs x86 Emulator 9.9\n\nold_one\ntigerlake\n"'
ask "identify" 0 '^9\.9/tigerlake$' "$boot" --identify
is "identify: starts Bochs once" "$(wc -l <"$tmp/count")" 1
ask "identify, --cpu" 0 '^9\.9/old_one$' EXITPATH_CPU=old_one "$boot" --identify
ask "unknown model" 2 'no CPU model old; ' EXITPATH_CPU=old "$boot" --probe
ask "a model is a whole name" 2 'no CPU model' EXITPATH_CPU='tiger*' "$boot" --probe
fake_bochs 'printf "Bochs x86 Emulator 9.9\n\nold_one\n"'
ask "no rich model" 2 'knows none of the CPU models .*--cpu' "$boot" --identify
fake_bochs 'echo hello'
ask "not Bochs" 2 'is it Bochs' "$boot" --probe
fake_bochs 'exec sleep 100'
ask "a Bochs that hangs" 2 'does not end; is it Bochs' "$boot" --probe
rm "$tmp/bochs"
mkdir "$tmp/bochs"
ask "a folder" 2 'there is no command|cannot be executed' "$boot" --probe
rmdir "$tmp/bochs"
ask "nothing there" 2 'there is no command .*exitpath setup' "$boot" --probe

run_cmd "$boot" --probe
[ "$status" -eq 0 ] || {
	skip "without pseudo-terminals" "$err"
	done_testing
}
# Bochs's display draws on standard output where it gets no pseudo-terminal: none of that is the image's.
cat >"$tmp/no-terminals" <<END
mount -t tmpfs none /dev/pts && exec "$boot" "$image" "$tree"
END
run_cmd "$boot" "$image" "$tree"
wanted=$out
like "boots" "$wanted" '^TAP version 13$'
if unshare -m true 2>/dev/null; then
	run_cmd unshare -m sh "$tmp/no-terminals"
	is "without pseudo-terminals: the same console" "$out" "$wanted"
else
	skip "without pseudo-terminals: the same console" "needs root, for a mount namespace"
fi
mkdir "$tmp/a b" || exit 2
run_cmd env TMPDIR="$tmp/a b" EXITPATH_BUILD="$build" "$top/exitpath" run --on bochs guest/halt
is "a blank in TMPDIR: exit status 2" "$status" 2
like "a blank in TMPDIR: what to do" "$err" 'set TMPDIR to another folder'
done_testing
