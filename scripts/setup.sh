#!/bin/sh
# exitpath setup: makes this machine ready: installs what is missing, configures, builds.
# run, check and list call it first (--for); then it says nothing when there is nothing to do.

set -u
. "${0%/*}/common.sh"
. "${0%/*}/packages.sh"

usage()
{
	cat <<END
usage: exitpath setup [--on PLATFORM]...
       exitpath setup --bochs trixie|sid
       exitpath setup --kernel tiny

Finds out what is missing here, installs it with apt-get (as root, or when sudo asks for
no password; else prints the command), runs configure and make. exitpath run and
exitpath check do this by themselves.

  --on PLATFORM   make this platform ready (default: bochs)
  --ready PLATFORM  likewise, one that has just said that it can run: it is not asked again
  --bochs SUITE   fetch the Bochs of Debian trixie or sid, and the libraries that it needs,
                  into $EXITPATH_STATE/bochs-SUITE; nothing on the system
                  changes. exitpath run --bochs SUITE uses it.
  --kernel tiny   for --on linux: build a kernel with KVM and nothing else from Debian's source, in
                  $EXITPATH_STATE/linux/tiny; it takes long, and boots fast.
                  exitpath run --on linux --kernel tiny uses it.
  --for PURPOSE   what for: run (default), check, list, bench

Exit status: 0 ready, 2 not ready (a message says why and what to do), 3 likewise, for want of what a
platform fetches.
END
}

# configure: (re)configures unless there is a config.mk that this configure has written, for compilers
# that are still there. The options of the last time stay.
configure()
{
	configure_arguments=
	if [ -f "$EXITPATH_BUILD/config.mk" ]; then
		[ "$(configured CC)" != "$(compiler)" ] ||
			[ "$(configured CONFIGURE_SUM)" != "$(cksum <"$EXITPATH_TOP/configure")" ] ||
			return 0
		configure_arguments=$(configured CONFIGURE_ARGUMENTS)
	fi
	say "configuring"
	configure_folder=$EXITPATH_BUILD
	[ "$EXITPATH_BUILD" != "$EXITPATH_TOP/build" ] || configure_folder=$EXITPATH_TOP
	(
		cd "$configure_folder" || exit 2
		# configure has quoted them.
		eval "\"\$EXITPATH_TOP/configure\" $configure_arguments"
	) >&2 || die "configure failed"
}

# build: makes what is not up to date, and then sets $built to yes. Quiet when there is nothing to do.
built=no
build()
{
	make_log=$EXITPATH_BUILD/make.log
	# A build folder elsewhere has a Makefile of its own, made by configure.
	make_folder=$EXITPATH_BUILD
	[ "$EXITPATH_BUILD" != "$EXITPATH_TOP/build" ] || make_folder=$EXITPATH_TOP
	set -- -s -C "$make_folder"
	# Called by make itself, its options must not get here.
	unset MAKEFLAGS MFLAGS MAKELEVEL
	# An up-to-date tree must not cost a message, nor a log.
	! make -q "$@" >/dev/null 2>&1 || return 0
	say "building in $EXITPATH_BUILD"
	built=yes
	make_jobs=$(processors)
	make -j "$make_jobs" "$@" >"$make_log" 2>&1 || {
		# A file that a dependency names may be gone since the last build.
		grep -q 'No rule to make target' "$make_log" && make "$@" clean &&
			make -j "$make_jobs" "$@" >"$make_log" 2>&1
	} || {
		tail -n 40 "$make_log" >&2
		die "the build failed (all of its output: $make_log)"
	}
}

# lock: waits until nobody else configures or builds here. What this shell has open keeps the lock.
lock()
{
	build_folder "$EXITPATH_BUILD"
	command -v flock >/dev/null || return 0
	exec 9>"$EXITPATH_BUILD/.lock" || exit 2
	flock -n 9 && return
	say "waiting for another exitpath that builds in $EXITPATH_BUILD"
	flock 9
}

# need_installed_images: the installed copy has no sources to build from.
need_installed_images()
{
	[ -d "$EXITPATH_BUILD/images" ] || die "$EXITPATH_BUILD/images is absent; install exitpath again"
}

purpose=run
ready=
on=
bochs=
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--on | --bochs | --kernel | --for | --ready)
		need_value "$1" $#
		option=$1
		value=$2
		shift 2
		;;
	--on=* | --bochs=* | --kernel=* | --for=* | --ready=*)
		option=${1%%=*}
		value=${1#*=}
		shift
		;;
	*)
		die "setup: unknown argument '$1' (see exitpath setup --help)"
		;;
	esac
	need_text "$option" "$value"
	case $option in
	--on | --ready)
		need_platform "$value"
		on="$on $value"
		[ "$option" = --on ] || ready="$ready $value"
		;;
	--bochs) bochs=$value ;;
	--kernel)
		[ "$value" = tiny ] || die "setup --kernel takes tiny, not '$value'; for a kernel of your own: exitpath run --kernel"
		export EXITPATH_KERNEL_NAME=tiny
		on="$on linux"
		;;
	--for) purpose=$value ;;
	esac
done

case $bochs in
'') ;;
trixie | sid) exec "$EXITPATH_TOP/scripts/fetch-bochs.sh" "$bochs" ;;
*) die "setup --bochs takes trixie or sid, not '$bochs'" ;;
esac

case $purpose in
run | check) ;;
list | bench) [ -n "$on" ] || on=none ;;
*) die "setup --for takes run, check, list or bench, not '$purpose'" ;;
esac
: "${on:=bochs}"
[ "$on" != none ] || on=
building=yes
[ ! -e "$EXITPATH_TOP/installed" ] || building=no

# The programs find themselves, and what a boot leaves behind, with it.
[ -d /proc/self ] || die "/proc is not there; mount it: mount -t proc proc /proc"

find_missing "$building" "$purpose"
for platform in $on; do
	case " $ready " in
	*" $platform "*) ;;
	*) find_missing_platform "$platform" ;;
	esac
done
if [ -n "$missing" ]; then
	install_missing
	wanted=$missing
	find_missing "$building" "$purpose"
	[ -z "$missing" ] || die "after installing $wanted, this is still missing: $missing"
fi
if [ "$building" = yes ]; then
	lock
	configure
	build
else
	need_installed_images
fi
# What a platform fetches or makes once everything else is there. That may take long, and is no reason for others
# to wait: prepare sees to it by itself that it does nothing twice.
exec 9>&-
for platform in $on; do
	[ ! -x "$EXITPATH_RUNNERS/$platform/prepare" ] ||
		run_child "$EXITPATH_RUNNERS/$platform/prepare" || exit
done
# A platform may have needed what was built, or may ask more once it is there: kvm does.
[ "$built" = no ] || unready=$on
for platform in $unready; do
	# Its message says what to do.
	ask_platform "$platform" --probe || {
		printf '%s\n' "$answer" >&2
		case $answer in
		*"exitpath setup"*)
			say "setup has nothing left to install: its packages are there, but PATH lacks a program, or it is gone; then:"
			# shellcheck disable=SC2046	# a list
			say apt-get install --reinstall $("$EXITPATH_RUNNERS/$platform/boot" --packages)
			;;
		esac
		exit 2
	}
done
