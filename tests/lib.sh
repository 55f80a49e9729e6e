#!/bin/sh
# What every tests/*.t sources: a little TAP producer in POSIX sh.
#
#	#!/bin/sh
#	. "${0%/*}/lib.sh"
#	run_cmd ls /
#	is   "ls succeeds"  "$status" 0
#	like "ls shows etc" "$out" '^etc$'
#	done_testing
#
# The name of a test always comes first. Set by this file:
#
#	$top     the source folder, absolute
#	$build   the build folder, absolute ($EXITPATH_BUILD, else $top/build)
#	$tmp     a folder of this test's own, removed at the end
#
# and by run_cmd: $status, $out, $err.
#
# shellcheck disable=SC2034	# the variables are for the test that sources this

set -u

case $0 in
*/*) top=${0%/*}/.. ;;
*) top=.. ;;
esac
top=$(CDPATH='' cd -- "$top" && pwd) || exit 2
build=${EXITPATH_BUILD:-$top/build}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/exitpath-test.XXXXXX") || exit 2

lib_count=0
lib_failed=0
lib_finished=no
status=0
out=
err=

# Runs at every end of the test: removes $tmp; a test that ended without
# done_testing or skip_all has failed, whatever its exit status was.
lib_exit()
{
	lib_status=$?
	trap - EXIT
	rm -rf "$tmp"
	if [ "$lib_finished" = no ]; then
		echo "# the test ended before done_testing"
		[ "$lib_status" -ne 0 ] || lib_status=1
	fi
	exit "$lib_status"
}
trap lib_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# diag TEXT...: prints each argument as TAP comments, one per line of text.
diag()
{
	printf '%s\n' "$@" | sed 's/^/# /'
}

# pass NAME: one test that is ok.
pass()
{
	lib_count=$((lib_count + 1))
	printf 'ok %d - %s\n' "$lib_count" "$1"
}

# fail NAME [TEXT...]: one test that is not ok; TEXT becomes comments.
fail()
{
	lib_count=$((lib_count + 1))
	lib_failed=$((lib_failed + 1))
	printf 'not ok %d - %s\n' "$lib_count" "$1"
	shift
	[ $# -eq 0 ] || diag "$@"
}

# ok NAME COMMAND [ARGUMENT...]: ok when the command succeeds; its output
# becomes comments when it does not.
ok()
{
	lib_name=$1
	shift
	if lib_text=$("$@" 2>&1); then
		pass "$lib_name"
	else
		fail "$lib_name" "failed: $*" "$lib_text"
	fi
}

# not_ok NAME COMMAND [ARGUMENT...]: ok when the command fails.
not_ok()
{
	lib_name=$1
	shift
	if lib_text=$("$@" 2>&1); then
		fail "$lib_name" "succeeded, but should fail: $*" "$lib_text"
	else
		pass "$lib_name"
	fi
}

# is NAME GOT WANTED: ok when both texts are equal.
is()
{
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "got:" "$2" "wanted:" "$3"
	fi
}

# like NAME TEXT ERE: ok when a line of TEXT matches the extended regular
# expression.
like()
{
	if printf '%s\n' "$2" | grep -Eq -e "$3"; then
		pass "$1"
	else
		fail "$1" "no line matches $3 in:" "$2"
	fi
}

# unlike NAME TEXT ERE: ok when no line of TEXT matches.
unlike()
{
	if printf '%s\n' "$2" | grep -Eq -e "$3"; then
		fail "$1" "a line matches $3 in:" "$2"
	else
		pass "$1"
	fi
}

# run_cmd COMMAND [ARGUMENT...]: runs it with no input; sets $status, $out and $err,
# keeps both outputs byte for byte in $tmp/.out and $tmp/.err. Always succeeds.
run_cmd()
{
	"$@" </dev/null >"$tmp/.out" 2>"$tmp/.err"
	status=$?
	# A shell variable cannot hold NUL; some shells warn about it.
	out=$(tr -d '\000' <"$tmp/.out")
	err=$(tr -d '\000' <"$tmp/.err")
	return 0
}

# skip NAME WHY: one test that cannot run here.
skip()
{
	lib_count=$((lib_count + 1))
	printf 'ok %d - %s # SKIP %s\n' "$lib_count" "$1" "$2"
}

# skip_all WHY: ends the test; nothing of it can run here. Only before the
# first result.
skip_all()
{
	printf '1..0 # SKIP %s\n' "$1"
	lib_finished=yes
	exit 0
}

# done_testing: prints the plan and ends the test: exit 0 when all were ok, else 1.
done_testing()
{
	printf '1..%d\n' "$lib_count"
	lib_finished=yes
	[ "$lib_failed" -eq 0 ] || exit 1
	exit 0
}
