#!/bin/sh
# runners/linux/prepare: what it says and how it ends when it cannot have a kernel. Nothing is fetched here.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

EXITPATH_TOP=$top
EXITPATH_BUILD=$tmp
EXITPATH_STATE=$tmp/state
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_STATE
mkdir "$tmp/bin" || exit 2
PATH=$tmp/bin:$PATH

# fake NAME: a program; what it does is standard input.
fake()
{
	{
		echo '#!/bin/sh'
		cat
	} >"$tmp/bin/$1"
	chmod +x "$tmp/bin/$1"
}

# prepare: runs it.
prepare()
{
	run_cmd "$top/runners/linux/prepare"
}

fake dpkg-deb </dev/null
fake apt-get </dev/null
fake apt-cache </dev/null
prepare
is "apt has no lists: status 3" "$status" 3
like "apt has no lists: what to do" "$err" 'apt knows no .*run apt-get update, or give your own kernel with --kernel'

fake apt-cache <<'END2'
echo "linux-image-cloud-amd64"
echo "  Depends: linux-image-0-cloud-amd64"
END2
fake apt-get <<'END2'
echo "E: no network" >&2
exit 100
END2
prepare
is "no network: status 3" "$status" 3
like "no network: what apt-get says" "$err" '^E: no network$'
like "no network: what to do" "$err" 'cannot download linux-image-0-cloud-amd64: run apt-get update'
is "nothing half-done is left" "$(find "$EXITPATH_STATE/linux" -mindepth 1 ! -name '.lock-*')" ""

EXITPATH_KERNEL_NAME=own-$$
EXITPATH_KERNEL=$tmp/kernel
export EXITPATH_KERNEL_NAME EXITPATH_KERNEL
head -c 4096 /dev/zero >"$tmp/kernel"
prepare
is "a file that is no kernel: status 2" "$status" 2
like "a file that is no kernel: says so" "$err" 'neither a bzImage nor a vmlinux'

# The start of a bzImage: setup_sects 1, payload_offset 0, payload_length 8.
{
	head -c 497 /dev/zero
	printf '\001'
	head -c 16 /dev/zero
	printf 'HdrS'
	head -c 66 /dev/zero
	printf '\010'
	head -c 439 /dev/zero
	printf 'JUNKJUNK'
} >"$tmp/kernel"
prepare
is "a bzImage of an unknown compression: status 2" "$status" 2
like "a bzImage of an unknown compression: says so" "$err" 'compressed in a way that is not known here'
is "nothing half-done is left, either" "$(find "$EXITPATH_STATE/linux" -mindepth 1 ! -name '.lock-*')" ""

# Kernels of runs: of one that is still there (the parent of this test), of one that is gone.
sh -c exit &
gone=$!
wait "$gone"
mkdir -p "$EXITPATH_STATE/linux/own-$PPID" "$EXITPATH_STATE/linux/own-$gone" "$EXITPATH_STATE/linux/.new-$PPID.a1" \
	"$EXITPATH_STATE/linux/.new-$gone.b2"
prepare
is "only the kernels of runs that are gone are removed, and what they were making" \
	"$(find "$EXITPATH_STATE/linux" -mindepth 1 ! -name '.lock-*' | sed 's|.*/||' | sort | tr '\n' ' ')" ".new-$PPID.a1 own-$PPID "

# One that fetches, and one that comes while it does.
EXITPATH_KERNEL_NAME=trixie
mkdir -p "$EXITPATH_STATE/linux"
# shellcheck disable=SC2016	# that shell expands it
flock "$EXITPATH_STATE/linux/.lock-trixie" sh -c 'mkdir "$1"; sleep 2; echo 6 >"$1/version"' sh "$EXITPATH_STATE/linux/trixie" &
until [ -d "$EXITPATH_STATE/linux/trixie" ]; do
	sleep 0.1
done
prepare
is "the same kernel by two at a time: the second waits" "$status $err" \
	"0 exitpath: waiting for another exitpath that makes the kernel trixie"
is "the same kernel by two at a time: and takes the first one's" "$(cat "$EXITPATH_STATE/linux/trixie/version")" 6


# A tiny kernel that cannot be built.
EXITPATH_KERNEL_NAME=tiny
for tool in flex bison bc make xz tar; do
	fake "$tool" </dev/null
done
fake gcc <<'END2'
exit 1
END2
prepare
is "no libelf.h: status 2" "$status" 2
like "no libelf.h: what to do" "$err" 'needs libelf\.h; install: apt-get install libelf-dev$'
fake gcc </dev/null
fake df <<'END2'
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "/dev/sda 10000000 9000000 1000000 90% /"
END2
prepare
is "no room: status 2" "$status" 2
like "no room: what to do" "$err" "needs 2500 MBytes in $EXITPATH_STATE/linux, and only 976 are free: make room there\$"
rm "$tmp/bin/df"
fake apt-cache <<'END2'
echo "linux-source"
echo "  Depends: linux-source-0"
END2
fake apt-get <<'END2'
: >linux-source-0.deb
END2
fake dpkg-deb <<'END2'
mkdir -p "$3/usr/src" "$3/linux-source-0" && : >"$3/usr/src/linux-source-0.tar.xz"
END2
fake make <<'END2'
echo "No space left on device"
exit 1
END2
prepare
is "the build fails: status 2" "$status" 2
like "the build fails: its last words" "$err" '^No space left on device$'
is "the build fails: nothing of it is left" "$(find "$EXITPATH_STATE/linux" -name '.new-*' ! -name '*.a1')" ""
fake make <<'END2'
kill -s TERM "$PPID"
END2
prepare
is "the build is interrupted: status 2" "$status" 2
is "the build is interrupted: nothing of it is left" "$(find "$EXITPATH_STATE/linux" -name '.new-*' ! -name '*.a1'; ls -d "$EXITPATH_STATE/linux/tiny" 2>/dev/null)" ""
fake make <<'END2'
case $* in
*vmlinux)
	while [ "$1" != -C ]; do
		shift
	done
	mkdir -p "$2" && echo "Linux version 6.1.192 (somebody)" >"$2/vmlinux"
	;;
esac
END2
prepare
is "it is built: status" "$status" 0
is "it is built: a kernel and its version, and nothing else" "$(cd "$EXITPATH_STATE/linux/tiny" && cat version && ls)" \
	"6.1.192
version
vmlinux"
fake apt-cache <<'END2'
exit 1
END2
prepare
is "it is there already: nothing is done" "$status $err" "0 "

done_testing
