#!/bin/sh
# The machines of the platform linux (runners/linux/session.c), with a script in the place of Bochs: one
# boot for many images, the blame, and the next boot after a machine was lost.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

session=$build/runners/linux/session
[ -x "$session" ] || skip_all "$session is not built"

# A machine that does what the "image" says: a script, read from the disk as init would read it.
cat >"$tmp/start" <<'END'
#!/bin/sh
echo boot >>"${0%/*}/boots"
cd "$2" || exit 2
frame() { printf '\001%s\n' "$1"; }
number() { od -An -tu4 -j "$1" -N 4 mailbox | tr -d ' '; }
echo "a banner without a frame"
[ ! -e "${0%/*}/never-boots" ] || { echo "00p[CPU0] >>PANIC<< planted" >>log; exit 1; }
[ ! -e "${0%/*}/panics" ] || {
	printf "[    1.5] divide error: 0000\n[    1.7] Kernel panic - not syncing: planted\n" >serial
	exec sleep 60
}
frame r
done=0
while :; do
	until [ "$(number 8)" -ne "$done" ]; do sleep 0.05; done
	done=$(number 8)
	tail -c +513 mailbox | head -c "$(number 12)" >image
	. ./image
done
END
chmod +x "$tmp/start"
TMPDIR=$tmp
export TMPDIR
echo tree >"$tmp/tree"

# image NAME: its lines are standard input.
image()
{
	cat >"$tmp/$1"
}

# boots: how often a machine was booted.
boots()
{
	wc -l <"$tmp/boots" | tr -d ' '
}

image good <<'END'
frame "lTAP version 13"
frame "pa part, "
frame "land the rest"
frame "k$(number 16) bytes of tree"
frame e0
END
image stopped <<'END'
frame "lthe VMM says why"
frame e1
END
image refuses <<'END'
frame "lvmm: there is no such thing"
frame e2
END
image warns <<'END'
frame "lok 1 - before"
frame "kWARNING: CPU: 0 PID: 1 at nested.c:1"
frame "kCall Trace:"
frame "lok 2 - during"
frame e0
END
image counts <<'END'
frame "kBUG kmalloc-64 (Not tainted): Poison overwritten"
frame e0
END
image wraps <<'END'
frame "krefcount_t: underflow; use-after-free."
frame e0
END
image breaks-off <<'END'
frame "lok 1 - before"
frame "pok 2 - unfin"
frame "kWARNING: CPU: 0 PID: 1 at nested.c:1"
frame "kCall Trace:"
frame "lished"
frame e0
END
image murmurs <<'END'
frame "pok 1 - unfin"
frame "ka warning of no importance"
frame "kanother"
frame "pish"
frame "led"
frame "pok 2"
frame "kone more"
frame e0
END
image dies-midway <<'END'
frame "pok 1 - unfin"
echo "[    0.5] BUG: unable to handle page fault" >>serial
kill -KILL $$
END
image dies <<'END'
frame "lok 1 - before"
{ echo "[    0.5] Kernel panic - not syncing: nested"; seq 50 | sed 's/^/[    0.6] trace /'; } >>serial
echo "[    1.0] last words of the kernel" >>serial
kill -KILL $$
END
image earlier <<'END'
echo "[    2.0] WARNING: of the case before" >>serial
frame e0
END
image locks <<'END'
frame "lok 1 - before"
echo "[    3.0] watchdog: BUG: soft lockup - CPU#0 stuck for 11s! [vmm:80]" >>serial
echo "[    3.0] RIP: 0010:handle_vmptrst" >>serial
sleep 1000
END
image hangs <<'END'
frame "lok 1 - before"
sleep 1000
END

run_cmd "$session" once "$tmp/start" "$tmp/good" "$tmp/tree"
is "once: the status of the VMM" "$status" 0
is "once: the console, parts put together, the kernel's warnings as comments" "$out" \
	"TAP version 13
a part, and the rest
# kernel: 5 bytes of tree"

run_cmd "$session" once "$tmp/start" "$tmp/warns" "$tmp/tree"
is "a WARNING and what follows it are no comments, and come before the result" "$out" \
	"ok 1 - before
kernel: WARNING: CPU: 0 PID: 1 at nested.c:1
kernel: Call Trace:
ok 2 - during"

# A line of the console that has no end yet.
run_cmd "$session" once "$tmp/start" "$tmp/breaks-off" "$tmp/tree"
is "a WARNING behind an unfinished line begins a line of its own" "$out" \
	"ok 1 - before
ok 2 - unfin
kernel: WARNING: CPU: 0 PID: 1 at nested.c:1
kernel: Call Trace:
ished"
run_cmd "$session" once "$tmp/start" "$tmp/murmurs" "$tmp/tree"
is "what is no bug waits for the end of the line, or of the image" "$out" \
	"ok 1 - unfinished
# kernel: a warning of no importance
# kernel: another
ok 2
# kernel: one more"
run_cmd "$session" once "$tmp/start" "$tmp/dies-midway" "$tmp/tree"
like "so does what the serial console of a machine has that died in the middle of a line" "$out" \
	'^kernel: \[    0\.5\] BUG: unable to handle'

run_cmd "$session" once "$tmp/start" "$tmp/counts" "$tmp/tree"
is "a BUG without a colon is one" "$out" "kernel: BUG kmalloc-64 (Not tainted): Poison overwritten"
run_cmd "$session" once "$tmp/start" "$tmp/wraps" "$tmp/tree"
is "a wrapped reference count is a bug" "$out" "kernel: refcount_t: underflow; use-after-free."

run_cmd "$session" once "$tmp/start" "$tmp/dies" "$tmp/tree"
is "a killed machine: status 1" "$status" 1
is "a killed machine: the kernel's last words" "$out" \
	"ok 1 - before
kernel: [    0.5] Kernel panic - not syncing: nested
$(seq 50 | sed 's/^/kernel: [    0.6] trace /')
kernel: [    1.0] last words of the kernel
# linux: kernel: [    0.5] Kernel panic - not syncing: nested
$(seq 12 50 | sed 's/^/# linux: kernel: [    0.6] trace /')
# linux: kernel: [    1.0] last words of the kernel
# linux: Bochs has ended, killed by signal 9, and the kernel with it"

: >"$tmp/never-boots"
run_cmd "$session" once "$tmp/start" "$tmp/good" "$tmp/tree"
is "no boot: status 2" "$status" 2
is "no boot: why" "$out" "# linux: the machine ended before its kernel had booted
# linux: bochs: 00p[CPU0] >>PANIC<< planted"
is "no boot: why, on standard error" "$err" "linux: the machine ended before its kernel had booted"
rm "$tmp/never-boots" "$tmp/boots"

: >"$tmp/panics"
run_cmd "$session" once "$tmp/start" "$tmp/good" "$tmp/tree"
is "a panic before the boot is over: status 2" "$status" 2
is "a panic before the boot is over: why" "$out" "# linux: the kernel panics before it has booted
# linux: kernel: [    1.5] divide error: 0000
# linux: kernel: [    1.7] Kernel panic - not syncing: planted"
rm "$tmp/panics" "$tmp/boots"

run_cmd "$session" run "$tmp/nobody" "$tmp/good" "$tmp/tree"
is "nobody serves: status 2" "$status" 2
like "nobody serves: a message" "$err" 'nobody serves'

# --- many images ---

setsid "$session" serve "$tmp/socket" 1 "$tmp/start" &
server=$!
until [ -S "$tmp/socket" ] || ! kill -s 0 "$server"; do
	sleep 0.2
done
run_cmd "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "served: the console" "$out" "TAP version 13
a part, and the rest
# kernel: 5 bytes of tree"
is "served: the status" "$status" 0
run_cmd "$session" run "$tmp/socket" "$tmp/stopped" "$tmp/tree"
is "served: another status" "$status $out" "1 the VMM says why"
run_cmd "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "three images, one boot" "$status $(boots)" "0 1"
run_cmd "$session" run "$tmp/socket" "$tmp/warns" "$tmp/tree"
run_cmd "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "after a WARNING the next image has another machine" "$status $(boots)" "0 2"
run_cmd "$session" run "$tmp/socket" "$tmp/dies" "$tmp/tree"
is "a killed machine is that image's end" "$status" 1
run_cmd "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "and the next image has another machine" "$status $(boots)" "0 3"
run_cmd timeout 2 "$session" run "$tmp/socket" "$tmp/hangs" "$tmp/tree"
is "a hang, until supervise ends it" "$status $out" "124 ok 1 - before"
run_cmd timeout 20 "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "and the next image has another machine, too" "$status $(boots)" "0 4"
# What the kernel said before the request is not this image's, whatever it was.
run_cmd timeout 10 "$session" run "$tmp/socket" "$tmp/earlier" "$tmp/tree"
run_cmd timeout 10 "$session" run "$tmp/socket" "$tmp/locks" "$tmp/tree"
is "a kernel that spins: what its serial console says is the blame" "$status $out" "124 ok 1 - before
kernel: [    3.0] watchdog: BUG: soft lockup - CPU#0 stuck for 11s! [vmm:80]
kernel: [    3.0] RIP: 0010:handle_vmptrst"
run_cmd timeout 20 "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "and the next image has another machine, again" "$status $(boots)" "0 5"
# A VMM that cannot start says why; its machine is as good as before.
run_cmd timeout 20 "$session" run "$tmp/socket" "$tmp/refuses" "$tmp/tree"
is "a VMM that cannot start: status 2, and why" "$status $err" "2 linux: there is no such thing"
run_cmd timeout 20 "$session" run "$tmp/socket" "$tmp/good" "$tmp/tree"
is "and the next image has the same machine" "$status $(boots)" "0 5"
: >"$tmp/empty"
run_cmd "$session" run "$tmp/socket" "$tmp/empty" "$tmp/tree"
is "served: what cannot be run" "$status $err" "2 linux: cannot use $tmp/empty: empty"
kill -s TERM "$server"
wait "$server"
is "the server ends, and its machines with it" "$(find "$tmp" -name 'exitpath-linux.*')" ""

# TMPDIR may be long: neither the socket nor the files of a machine go elsewhere.
hundred=$(printf '%0100d' 0)
image where <<'END'
frame "l$(pwd)"
frame e0
END
mkdir -p "$tmp/$hundred/$hundred/$hundred" || exit 2
TMPDIR=$tmp/$hundred/$hundred
run_cmd "$session" once "$tmp/start" "$tmp/where" "$tmp/tree"
like "a long TMPDIR is used" "$status $out" "^0 $TMPDIR/exitpath-linux\.[^/]*\$"
setsid "$session" serve "$TMPDIR/socket" 1 "$tmp/start" 2>"$tmp/said" &
server=$!
until [ -S "$TMPDIR/socket" ] || ! kill -s 0 "$server"; do
	sleep 0.1
done
run_cmd timeout 20 "$session" run "$TMPDIR/socket" "$tmp/where" "$tmp/tree"
like "the socket, too" "$status $out" "^0 $TMPDIR/exitpath-linux\.[^/]*\$"
kill -s TERM "$server"
wait "$server"
is "nothing is left in it" "$(ls "$TMPDIR")" "$hundred"
TMPDIR=$tmp/$hundred/$hundred/$hundred/$hundred
run_cmd "$session" once "$tmp/start" "$tmp/where" "$tmp/tree"
is "one that is too long for Bochs: status 2" "$status" 2
like "one that is too long for Bochs: says so" "$err" '^linux: TMPDIR has [0-9]* characters: Bochs takes no file in there, give it a shorter one$'

done_testing
