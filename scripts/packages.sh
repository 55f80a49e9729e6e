#!/bin/sh
# Finds what this machine lacks, and installs it. Sourced by scripts/setup.sh, after common.sh.
#
# What is there is found out by trying it (a command, a header, a library), never by asking dpkg,
# so that self-built tools count too. Only for a platform, whose own `boot --probe` is the trial,
# dpkg says which of its packages are absent.

# compiler: the C compiler that configure took or would take; nothing when there is none.
compiler()
{
	if [ -f "$EXITPATH_BUILD/config.mk" ]; then
		compiler_name=$(configured CC)
		# shellcheck disable=SC2086	# CC may have options
		set -- $compiler_name
		command -v "${1:-gcc}" >/dev/null && {
			printf '%s\n' "$compiler_name"
			return
		}
	fi
	for compiler_name in ${CC:+"$CC"} gcc clang cc; do
		command -v "${compiler_name%% *}" >/dev/null || continue
		printf '%s\n' "$compiler_name"
		return
	done
}

# has KIND NAME: succeeds when it is there. KIND: command, file, header, headers (NAME: several), library (a static
# one), fuzzer (of clang; NAME is not used).
has()
{
	case $1 in
	file)
		[ -f "$2" ]
		;;
	command)
		command -v "$2" >/dev/null
		;;
	header | headers)
		# shellcheck disable=SC2086	# CC may have options
		[ -n "$cc" ] && for has_header in $2; do echo "#include <$has_header>"; done |
			$cc -E -xc - >/dev/null 2>&1
		;;
	library)
		[ -n "$cc" ] || return 1
		# shellcheck disable=SC2086	# CC may have options
		has_path=$($cc -print-file-name="$2" 2>/dev/null)
		[ -f "$has_path" ]
		;;
	fuzzer)
		# Its place depends on the version of clang.
		[ -f "$(clang -print-file-name=libclang_rt.fuzzer-x86_64.a 2>/dev/null)" ] ||
			[ -f "$(clang -print-file-name=libclang_rt.fuzzer.a 2>/dev/null)" ]
		;;
	esac
}

# need KIND NAME PACKAGE WHY...: notes PACKAGE in $missing unless has KIND NAME.
need()
{
	if ! has "$1" "$2"; then
		need_package=$3
		shift 3
		add_missing "$need_package" "$*"
	fi
}

# add_missing PACKAGE WHY: notes it, once.
add_missing()
{
	case " $missing " in
	*" $1 "*) ;;
	*)
		missing="${missing:+$missing }$1"
		reasons="$reasons  $1: $2
"
		;;
	esac
}

# find_missing BUILD PURPOSE: sets $missing (packages, separated by spaces) and $reasons (one line
# each). BUILD: yes or no, whether something is to be built. PURPOSE: as for setup --for.
find_missing()
{
	missing=
	reasons=
	cc=$(compiler)
	need command setsid util-linux "every boot gets a session of its own"
	need command prove perl "prove, the test harness, is part of it"
	if [ "$1" = yes ]; then
		[ -n "$cc" ] || add_missing gcc "to compile the images"
		need command make make "to build"
		need command objcopy binutils "to link the images"
		# All at once first: a compiler takes its time.
		has headers "stdio.h linux/kvm.h libfdt.h" || {
			need header stdio.h libc6-dev "to compile the host programs"
			need header linux/kvm.h linux-libc-dev "to compile the KVM platform"
			need header libfdt.h libfdt-dev "the images read a device tree with it"
		}
		need library libfdt.a libfdt-dev "the images read a device tree with it"
		need command dtc device-tree-compiler "to compile the machine descriptions"
	fi
	[ "$2" != bench ] || need command fdtput device-tree-compiler "it chooses the case with it"
	if [ "$2" = check ]; then
		need command clang clang "exitpath must build with it, too"
		need command shellcheck shellcheck "to check the shell scripts"
		need command checkbashisms devscripts "to check the shell scripts"
		need command busybox busybox "its shell must run the scripts, too"
		need command posh posh "its shell must run the scripts, too"
		need command fdtput device-tree-compiler "the tests make device trees with it"
		need header cmocka.h libcmocka-dev "the tests of the models use it"
		need command grub-mkrescue grub-common "a test boots an image by GRUB"
		need file /usr/lib/grub/i386-pc/multiboot2.mod grub-pc-bin "a test boots an image by GRUB"
		need command xorriso xorriso "grub-mkrescue writes the CD with it"
		need command mformat mtools "grub-mkrescue needs it"
		need fuzzer libFuzzer libclang-rt-dev "the models are fuzzed with it"
	fi
}

# find_missing_platform PLATFORM: the same for a platform that says that it cannot run here; such a one
# is added to $unready.
unready=
find_missing_platform()
{
	find_boot=$EXITPATH_RUNNERS/$1/boot
	! ask_platform "$1" --probe || return 0
	unready="$unready $1"
	for find_package in $("$find_boot" --packages); do
		if command -v dpkg-query >/dev/null; then
			# shellcheck disable=SC2016	# the format is dpkg's
			case $(dpkg-query -W -f '${db:Status-Status} ' "$find_package" 2>/dev/null) in
			*"installed "*) continue ;;
			esac
		fi
		add_missing "$find_package" "platform $1 needs it"
	done
}

# install_missing: installs $missing, saying what and why. Dies with the command to type when it
# may not or cannot. The output of apt-get is kept in EXITPATH_STATE/setup.log.
install_missing()
{
	[ -n "$missing" ] || return 0
	install_command="apt-get install -y --no-install-recommends $missing"
	if ! command -v apt-get >/dev/null; then
		say "these packages (Debian's names) are missing, and there is no apt-get to install them:"
		printf '%s' "$reasons" >&2
		die "install what they contain, then try again"
	fi
	if [ "$(id -u)" -eq 0 ]; then
		set -- env
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		set -- sudo -n env
	else
		say "these packages are missing, and installing them needs root:"
		printf '%s' "$reasons" >&2
		install_command="apt-get update && $install_command"
		! command -v sudo >/dev/null ||
			die "type this, then try again: sudo sh -c '$install_command'"
		die "type this as root, then try again: $install_command"
	fi
	say "installing with apt-get:"
	printf '%s' "$reasons" >&2
	mkdir -p "$EXITPATH_STATE" || exit 2
	install_log=$EXITPATH_STATE/setup.log
	: >"$install_log" || die "cannot write $install_log"
	# The package lists may be absent or old: then only the second attempt can succeed.
	apt_install "$@" || {
		"$@" apt-get update >>"$install_log" 2>&1 && apt_install "$@"
	} || {
		tail -n 20 "$install_log" >&2
		die "apt-get failed (all of its output: $install_log); the command was: $install_command"
	}
}

# apt_install PREFIX...: one attempt to install $missing.
apt_install()
{
	# shellcheck disable=SC2086	# $missing is a list
	"$@" DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
		install -y --no-install-recommends $missing >>"$install_log" 2>&1 </dev/null
}
