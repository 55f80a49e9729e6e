#!/bin/sh
# exitpath bench mutants: does the suite notice when the bundled core is wrong?

set -u
. "${0%/*}/common.sh"

usage()
{
	cat <<END
usage: exitpath bench mutants [-j N] [GLOB]...

Breaks the bundled core (lib/x86/hv) on purpose, in one way after another, and runs the images that should notice:
tests/mutants/core.tsv lists the ways; a GLOB selects by name. Prints for each the first case that is not ok, and at
the end how many were noticed. N at a time (default: one per CPU).
All are in one build, build/mutants/all, and the machine's tree says which one counts.
To look at one by itself:

  make MUTATE=NAME
  EXITPATH_BUILD=\$PWD/build/mutants/NAME runners/bochs/run hv/core-basic

Exit status: 0 all were noticed, or the list says why they cannot be, 1 one was not, 2 the set-up or the command line is
wrong.
END
}

jobs=$(processors)
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	-j)
		[ $# -gt 1 ] || die "bench mutants: -j needs a number"
		jobs=$2
		shift 2
		;;
	-j*)
		jobs=${1#-j}
		shift
		;;
	-*) die "bench mutants: unknown option '$1' (see exitpath bench mutants --help)" ;;
	*) break ;;
	esac
done
case $jobs in
'' | *[!0-9]* | 0*) die "bench mutants: -j takes how many at a time, 1 or more, not '$jobs'" ;;
esac
for glob; do
	case $glob in
	-*) die "bench mutants: options come before names, not '$glob' behind" ;;
	esac
done

list=$EXITPATH_TOP/tests/mutants/core.tsv
[ -f "$list" ] || die "bench mutants needs the source: $list is missing"
run_child "$EXITPATH_TOP/scripts/setup.sh" --for bench || exit 2
built=$EXITPATH_BUILD/mutants/all
folder=$(temporary mutants) || exit 2
# Also called by end_child.
# shellcheck disable=SC2317
cleanup()
{
	rm -rf "$folder"
}
trap cleanup EXIT
run_child make -s -f "$EXITPATH_TOP/Makefile" SRC="$EXITPATH_TOP" B="$EXITPATH_BUILD" MUTATE=all ||
	die "the build of the mutants failed"
export EXITPATH_BUILD EXITPATH_TOP EXITPATH_RUNNERS

# selected NAME GLOB...: whether a GLOB matches; without any all do.
selected()
{
	candidate=$1
	shift
	[ $# -gt 0 ] || return 0
	for glob; do
		# shellcheck disable=SC2254	# it is a pattern
		case $candidate in
		$glob) return 0 ;;
		esac
	done
	return 1
}

# Those that the same target should notice first are one part: what fails there anyway is asked once.
tab=$(printf '\t')
number=0
all=0
grep -v '^#' "$list" >"$folder/list"
while IFS=$tab read -r name _ _ _ _ targets remark; do
	number=$((number + 1))
	selected "$name" ${1+"$@"} || continue
	all=$((all + 1))
	part=$(printf '%s' "${targets%% *}" | tr '/*' '____')
	printf '%s\t%s\t%s\t%s\n' "$number" "$name" "$targets" "$remark" >>"$folder/$part.rows"
done <"$folder/list"
[ "$all" -gt 0 ] || die "no mutant matches; tests/mutants/core.tsv has them"
# The longest first.
wc -l "$folder"/*.rows | grep -v ' total$' | sort -k 1,1nr -k 2 | sed 's/^ *[0-9]* *//' >"$folder/parts"
run_child xargs -P "$jobs" -n 1 -a "$folder/parts" "$EXITPATH_TOP/scripts/mutants-part.sh" "$built"
parts=$?
count()
{
	cat "$folder"/*.results | grep -c "^$1 "
}
caught=$(count caught)
explained=$(count survives)
printf '%d mutants: %d caught, %d cannot be, %d survive\n' "$all" "$caught" "$explained" "$(count SURVIVES)"
[ "$parts" -eq 0 ] || exit 2
[ $((caught + explained)) -eq "$all" ]
