#!/bin/sh
# Set-up on a machine without the packages: a PATH with next to nothing, a fake apt-get that
# "installs", fake sudo and id. And: with everything there, a run starts at once.
. "${0%/*}/lib.sh"
real=$build
. "${0%/*}/fake/platform.sh"

exitpath=$top/exitpath
bin=$tmp/bin
FAKE_LOG=$tmp/log
FAKE_BIN=$bin
REAL_PATH=$PATH
export FAKE_LOG FAKE_BIN REAL_PATH
fake_image vmx/good ''

# What every Debian has.
essential="sh env sed awk cat mkdir rm ls ln tail head tr cut sort uniq find mktemp date getconf setsid
	sleep uname wc cp mv chmod grep readlink dirname basename touch timeout cksum cmp flock"

# fresh_machine UID: makes $bin anew: only what every Debian has, and a user with that number.
fresh_machine()
{
	rm -rf "$bin"
	mkdir "$bin"
	for command in $essential; do
		ln -s "$(command -v "$command")" "$bin/$command"
	done
	# The shell has `true` itself; others start it.
	printf '#!/bin/sh\n' >"$bin/true"
	printf '#!/bin/sh\necho %s\n' "$1" >"$bin/id"
	fake_command apt-get
	chmod +x "$bin/id" "$bin/true"
	: >"$FAKE_LOG"
}

# fake_command NAME: puts the fake of that name (below) there.
fake_command()
{
	cp "$tmp/fake-$1" "$bin/$1"
	chmod +x "$bin/$1"
}

# Logs its arguments; installs by linking what the package holds. FAKE_APT: refuse: always fails;
# stale: fails until an update; empty: installs nothing.
cat >"$tmp/fake-apt-get" <<'END'
#!/bin/sh
echo "apt-get $*" >>"$FAKE_LOG"
case $* in
*update*)
	: >"$FAKE_BIN/.updated"
	exit 0
	;;
esac
case ${FAKE_APT:-} in
refuse) echo "E: no network today" >&2; exit 100 ;;
stale) [ -e "$FAKE_BIN/.updated" ] || { echo "E: Unable to locate package" >&2; exit 100; } ;;
empty) exit 0 ;;
esac
for package; do
	case $package in
	gcc | make | clang | shellcheck | busybox | posh) commands=$package ;;
	perl) commands="perl prove" ;;
	binutils) commands="objcopy ld ar" ;;
	device-tree-compiler) commands="dtc fdtget fdtput" ;;
	devscripts) commands=checkbashisms ;;
	grub-common) commands=grub-mkrescue ;;
	xorriso) commands=$package ;;
	mtools) commands=mformat ;;
	fake-package) commands=fake-machine ;;
	*) continue ;;
	esac
	for command in $commands; do
		path=$(PATH=$REAL_PATH command -v "$command") || path=$FAKE_BIN/true
		ln -sf "$path" "$FAKE_BIN/$command"
	done
done
END
cat >"$tmp/fake-sudo" <<'END'
#!/bin/sh
echo "sudo $*" >>"$FAKE_LOG"
[ "${FAKE_SUDO:-yes}" = yes ] && [ "$1" = -n ] || exit 1
shift
exec "$@"
END

# setup [VARIABLE=VALUE...]: exitpath setup on the fresh machine.
setup()
{
	run_cmd env "PATH=$bin" "$@" "$exitpath" setup --on fake
}
wanted='apt-get install -y --no-install-recommends perl gcc make binutils libc6-dev linux-libc-dev libfdt-dev device-tree-compiler'

fresh_machine 1000
setup FAKE_APT=
is "no root, no sudo: exit status 2" "$status" 2
like "no root, no sudo: the exact command" "$err" "as root, then try again: apt-get update && $wanted\$"
like "no root, no sudo: why, one line each" "$err" '^  make: to build$'
is "no root, no sudo: nothing is done" "$(cat "$FAKE_LOG")" ""

fake_command sudo
setup FAKE_SUDO=no
is "sudo asks for a password: exit status 2" "$status" 2
like "sudo asks for a password: the exact command" "$err" ": sudo sh -c 'apt-get update && $wanted'\$"
is "sudo asks for a password: it was only asked" "$(cat "$FAKE_LOG")" "sudo -n true"

: >"$FAKE_LOG"
setup FAKE_APT=
is "sudo allows it: exit status 0" "$status" 0
like "sudo allows it: apt-get through sudo" "$(cat "$FAKE_LOG")" '^sudo -n env .*apt-get .*install -y'
like "sudo allows it: says what and why" "$err" '^  libfdt-dev: the images read a device tree with it$'

fresh_machine 0
setup FAKE_APT=stale
is "root, no package lists: exit status 0" "$status" 0
is "root, no package lists: update, then again" \
	"$(sed 's/.*\(install\|update\).*/\1/' "$FAKE_LOG" | tr '\n' ' ')" "install update install "
: >"$FAKE_LOG"
setup FAKE_APT=
is "all there: exit status 0" "$status" 0
is "all there: nothing installed" "$(cat "$FAKE_LOG")" ""
is "all there: nothing said" "$out$err" ""

rm "$bin/make"
setup FAKE_APT=
like "one missing: only that one" "$(cat "$FAKE_LOG")" 'no-install-recommends make$'

fresh_machine 0
setup FAKE_APT=refuse
is "apt-get fails: exit status 2" "$status" 2
like "apt-get fails: its words" "$err" 'no network today'
like "apt-get fails: the command" "$err" "$wanted"
fresh_machine 0
setup FAKE_APT=empty
is "installed, but not there: exit status 2" "$status" 2
like "installed, but not there: says so" "$err" 'still missing: perl gcc'
fresh_machine 0
rm "$bin/apt-get"
setup FAKE_APT=
is "no apt-get: exit status 2" "$status" 2
like "no apt-get: lists what is missing" "$err" '^  device-tree-compiler: '

fresh_machine 0
run_cmd env "PATH=$bin" "$exitpath" run --on fake
is "run on a fresh machine: exit status 0" "$status" 0
like "run on a fresh machine: installs" "$err" 'installing with apt-get'
like "run on a fresh machine: runs" "$out" '^result: as expected$'
fresh_machine 0
run_cmd env "PATH=$bin" "$exitpath" setup --for check --on fake
is "for check: exit status 0" "$status" 0
like "for check: its own tools, too" "$(cat "$FAKE_LOG")" 'clang shellcheck devscripts busybox posh'

# A platform that can run once its package is there.
sed 's/--probe) ;;/--probe) command -v fake-machine >\/dev\/null || { echo "fake: no machine" >\&2; exit 2; } ;;/' \
	"$tmp/runners/fake/boot" >"$tmp/boot"
cat "$tmp/boot" >"$tmp/runners/fake/boot"
: >"$FAKE_LOG"
setup FAKE_APT=
is "a platform's package: exit status 0" "$status" 0
like "a platform's package: only that one" "$(cat "$FAKE_LOG")" 'no-install-recommends fake-package$'
rm "$bin/fake-machine"
setup FAKE_APT=empty
is "a platform that still cannot run: exit status 2" "$status" 2
like "a platform that still cannot run: its own words" "$err" '^fake: no machine$'

# A platform that never answers: nobody waits for ever.
# shellcheck disable=SC2016	# the scripts that are made expand them
printf '#!/bin/sh\ncase $1 in --packages) ;; *) exec sleep 1000 ;; esac\n' >"$tmp/runners/broken/boot"
# shellcheck disable=SC2016	# likewise
printf '#!/bin/sh\nwhile [ "$1" != 30 ]; do shift; done\nshift\nexec "%s" -k 1 1 "$@"\n' "$(command -v timeout)" >"$tmp/timeout"
rm "$bin/timeout"
cp "$tmp/timeout" "$bin/timeout"
chmod +x "$bin/timeout"
run_cmd env "PATH=$bin" "$exitpath" setup --on broken
is "a platform that does not answer: exit status 2" "$status" 2
like "a platform that does not answer: says so" "$err" 'no answer within 30 s'

# One build at a time. Whoever has the lock keeps it until the other one has said that it waits.
setup FAKE_APT=
# shellcheck disable=SC2016	# the other shell expands it
flock "$tmp/build/.lock" sh -c 'tries=0
	until grep -q waiting "$1" || [ "$tries" -ge 600 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done' sh "$tmp/.err" &
sleep 0.5
setup FAKE_APT=
wait
is "another exitpath is building: exit status 0" "$status" 0
like "another exitpath is building: waits for it" "$err" 'waiting for another exitpath'

run_cmd "$exitpath" setup --bochs potato
is "setup --bochs, unknown suite: exit status 2" "$status" 2
run_cmd env "PATH=$bin" "$exitpath" setup --on=fake
is "setup --on=PLATFORM: exit status 0" "$status" 0
run_cmd env "PATH=$bin" "$exitpath" setup --bochs sid
is "setup --bochs without dpkg: exit status 2" "$status" 2
like "setup --bochs without dpkg: says so" "$err" 'is missing'

# With everything there, set-up must cost less than a second, also with the real build folder. CPU time,
# because the clock says more about what else the machine does.
run_cmd env "EXITPATH_BUILD=$real" "$exitpath" setup --for list
is "the real build folder: exit status 0" "$status" 0
run_cmd env "EXITPATH_BUILD=$real" "$real/tools/cputime" 3 "$exitpath" setup --for list
ok "the second set-up takes less than 1 s of CPU: $out" \
	awk -v line="$out" 'BEGIN { exit !(split(line, word, " ") == 5 && word[1] < 1) }'
# The same for a whole start of run, until prove begins.
mkdir "$tmp/instead" || exit 1
printf '#!/bin/sh\n' >"$tmp/instead/prove"
chmod +x "$tmp/instead/prove"
# shellcheck disable=SC2016	# the inner shell expands it
run_cmd env "EXITPATH_BUILD=$real" "EXITPATH_STATE=$tmp/state" "PATH=$tmp/instead:$PATH" \
	"$real/tools/cputime" 3 sh -c '"$1" run guest/cpuid-basic || exit 1' start "$exitpath"
ok "the second start of run takes less than 1 s of CPU: $out$err" \
	awk -v line="$out" 'BEGIN { exit !(split(line, word, " ") == 5 && word[1] < 1) }'

# An image whose source is gone goes with it.
mkdir -p "$tmp/b/images/guest" || exit 1
: >"$tmp/b/images/guest/gone-basic"
: >"$tmp/b/images/guest/gone-basic.tsv"
run_cmd make -n -f "$top/Makefile" "SRC=$top" "B=$tmp/b" images
like "an image without a source is removed by the next build" "$out" "^rm -f $tmp/b/images/guest/gone-basic.*/gone-basic.tsv\$"
done_testing
