#!/bin/sh
# What ./exitpath and scripts/*.sh share. Source it; it prints and changes nothing but
#
#	EXITPATH_TOP      the source folder, or $(prefix)/lib/exitpath once installed
#	EXITPATH_BUILD    the build folder (default: build/ in EXITPATH_TOP)
#	EXITPATH_STATE    where results and fetched Bochs versions go: the build folder;
#	                  once installed, XDG_STATE_HOME/exitpath
#	EXITPATH_RUNNERS  the folder of the platforms (default: runners/ in EXITPATH_TOP)
#
# Everything it says to the user goes to standard error, so that standard output
# stays clean for lists and TAP.

if [ -z "${EXITPATH_TOP:-}" ]; then
	case $0 in
	*/*) EXITPATH_TOP=$(CDPATH='' cd -- "${0%/*}/.." && pwd -P) || exit 2 ;;
	*) EXITPATH_TOP=$(CDPATH='' cd -- .. && pwd -P) || exit 2 ;;
	esac
fi
: "${EXITPATH_BUILD:=$EXITPATH_TOP/build}"
: "${EXITPATH_RUNNERS:=$EXITPATH_TOP/runners}"
case $EXITPATH_BUILD in
/*) ;;
*) EXITPATH_BUILD=$PWD/$EXITPATH_BUILD ;;
esac
case $EXITPATH_RUNNERS in
/*) ;;
*) EXITPATH_RUNNERS=$PWD/$EXITPATH_RUNNERS ;;
esac
if [ -z "${EXITPATH_STATE:-}" ]; then
	EXITPATH_STATE=$EXITPATH_BUILD
	if [ -e "$EXITPATH_TOP/installed" ]; then
		EXITPATH_STATE=${XDG_STATE_HOME:-${HOME:-.}/.local/state}/exitpath
	fi
fi
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_RUNNERS EXITPATH_STATE

# say TEXT...: one line for the user.
say()
{
	printf 'exitpath: %s\n' "$*" >&2
}

# die TEXT...: one line for the user, and exit 2: the set-up or the command line is wrong.
die()
{
	say "$@"
	exit 2
}

# need_value OPTION COUNT: dies unless an argument follows OPTION; COUNT is $#.
need_value()
{
	[ "$2" -ge 2 ] || die "$1 needs a value"
}

# put TEXT: a line of it, or many. posh has no printf of its own, and a program takes no argument of more than 128 KiB.
put()
{
	cat <<END
$1
END
}

# need_text OPTION TEXT: dies when TEXT is empty.
need_text()
{
	[ -n "$2" ] || die "$1 needs a value"
}

# need_number OPTION TEXT: dies unless TEXT is a whole number above 0.
need_number()
{
	case $2 in
	'' | *[!0-9]* | 0*) die "$1 needs a whole number above 0, not '$2'" ;;
	esac
	[ "${#2}" -le 9 ] || die "$1: $2 is too large"
}

# need_seed OPTION TEXT: dies unless TEXT is a whole number that fits into 64 bits.
need_seed()
{
	case $2 in
	'' | *[!0-9]* | 0?*) die "$1 needs a whole number, not '$2'" ;;
	esac
	[ "${#2}" -le 19 ] || {
		[ "${#2}" -eq 20 ] &&
			[ "$(printf '%s\n' "$2" 18446744073709551615 | LC_ALL=C sort | head -n 1)" = "$2" ]
	} || die "$1: $2 is too large"
}

# no_rehearsal COMMAND: dies when the build folder is that of make REHEARSE=1: nothing there is a result of a machine.
no_rehearsal()
{
	[ ! -e "$EXITPATH_BUILD/rehearsed" ] ||
		die "$1: $EXITPATH_BUILD is a rehearsal, which proves nothing; runners/bochs/run AREA/IMAGE runs it"
}

# platforms: the names of all platforms, one per line. A platform is a folder with a boot script.
platforms()
{
	for platforms_boot in "$EXITPATH_RUNNERS"/*/boot; do
		[ -f "$platforms_boot" ] || continue
		platforms_boot=${platforms_boot%/boot}
		printf '%s\n' "${platforms_boot##*/}"
	done
}

# configured VARIABLE: what configure wrote for it; nothing when it wrote none.
configured()
{
	[ -f "$EXITPATH_BUILD/config.mk" ] || return 0
	while read -r configured_name _ configured_value; do
		[ "$configured_name" != "$1" ] || printf '%s\n' "$configured_value"
	done <"$EXITPATH_BUILD/config.mk"
}

# need_platform NAME: dies, listing the platforms, unless NAME is one.
need_platform()
{
	case $1 in
	'' | */* | .*) ;;
	*) [ ! -f "$EXITPATH_RUNNERS/$1/boot" ] || return 0 ;;
	esac
	# shellcheck disable=SC2046	# one word per platform
	die "there is no platform '$1'; the platforms are:" $(platforms)
}

# temporary NAME: makes a folder for this run, exitpath-NAME.*, and prints its name; dies when there can be none.
temporary()
{
	mktemp -d "${TMPDIR:-/tmp}/exitpath-$1.XXXXXX" 2>/dev/null ||
		die "cannot make a folder in ${TMPDIR:-/tmp}; name one that can be written in TMPDIR"
}

# ask_platform PLATFORM --probe|--identify: sets $answer to what its boot script says; when that fails,
# or does not end in time, fails and sets $answer to the reason.
ask_platform()
{
	ask_folder=$(temporary ask) || exit 2
	ask_status=0
	run_child timeout -k 1 30 "$EXITPATH_RUNNERS/$1/boot" "$2" \
		>"$ask_folder/out" 2>"$ask_folder/err" || ask_status=$?
	answer=$(cat "$ask_folder/out")
	ask_why=$(cat "$ask_folder/err")
	rm -rf "$ask_folder"
	ask_folder=
	[ "$ask_status" -ne 0 ] || return 0
	case $ask_status in
	124 | 137) ask_why="no answer within 30 s" ;;
	esac
	answer=${ask_why:-"it ends with status $ask_status and says nothing"}
	case $answer in
	"$1: "*) ;;
	*) answer="platform $1: $answer ($EXITPATH_RUNNERS/$1/boot $2)" ;;
	esac
	return 1
}

# processors: how many CPUs there are.
processors()
{
	getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || echo 1
}

# build_folder FOLDER: makes it; dies when that cannot be.
build_folder()
{
	mkdir -p "$1" 2>/dev/null
	[ -w "$1" ] ||
		die "cannot write $1; name another build folder in EXITPATH_BUILD, or run configure in one"
}

# run_child COMMAND [ARGUMENT...]: runs it as the only child, in a process group of its own,
# with no standard input; the status is the command's. SIGINT, SIGTERM and SIGHUP to this shell
# end the whole group, then this shell by the same signal.
#
# Why a group: prove does not end its children when it is ended, and a shell waiting for
# a foreground child would not even look at a signal that only the shell was sent.
run_child()
{
	child=
	trap 'end_child INT' INT
	trap 'end_child TERM' TERM
	trap 'end_child HUP' HUP
	setsid "$@" </dev/null &
	child=$!
	run_child_status=0
	wait "$child" || run_child_status=$?
	trap - INT TERM HUP
	return "$run_child_status"
}

# cleanup: what this shell leaves behind at its end; a script may put its own in place of it.
cleanup()
{
	:
}

# end_child SIGNAL: what run_child does on SIGNAL. Never returns. A script may put what the user
# should know then into interrupted_note.
interrupted_note=
ask_folder=
end_child()
{
	trap '' INT TERM HUP
	: "${child:=${!:-}}"
	if [ -n "$child" ]; then
		# The second form is for a child that has not got its group yet.
		kill -s TERM -- "-$child" 2>/dev/null || kill -s TERM "$child" 2>/dev/null
		end_child_tries=0
		while kill -s 0 -- "-$child" 2>/dev/null; do
			end_child_tries=$((end_child_tries + 1))
			if [ "$end_child_tries" -gt 50 ]; then
				kill -s KILL -- "-$child" 2>/dev/null
				break
			fi
			sleep 0.1 2>/dev/null || sleep 1
		done
		wait "$child" 2>/dev/null
	fi
	say "ended by SIG$1${interrupted_note:+; $interrupted_note}"
	# A shell that a signal ends does not run what it has trapped for its end.
	cleanup
	[ -z "$ask_folder" ] || rm -rf "$ask_folder"
	trap - "$1"
	kill -s "$1" $$
	exit 2
}
