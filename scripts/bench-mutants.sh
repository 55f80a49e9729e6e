#!/bin/sh
# exitpath bench mutants: does the suite notice when the bundled core is wrong?

set -u
. "${0%/*}/common.sh"

usage()
{
	cat <<END
usage: exitpath bench mutants [GLOB]...

Breaks the bundled core (lib/x86/hv) on purpose, in one way after another, and runs the images that should notice:
tests/mutants/core.tsv lists the ways; a GLOB selects by name. Prints for each the first case that is not ok, and at
the end how many were noticed. All are in one build, build/mutants/all, and the machine's tree says which one counts.
To look at one by itself:

  make MUTATE=NAME
  EXITPATH_BUILD=\$PWD/build/mutants/NAME runners/bochs/run hv/core-basic

Exit status: 0 all were noticed, or the list says why they cannot be, 1 one was not, 2 the set-up or the command line is
wrong.
END
}

for argument; do
	case $argument in
	--help | -h)
		usage
		exit 0
		;;
	-*) die "bench mutants: unknown option '$argument' (see exitpath bench mutants --help)" ;;
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
EXITPATH_BUILD=$built
EXITPATH_SILENCE=20
EXITPATH_IDENTITY=$("$EXITPATH_RUNNERS/bochs/boot" --identify) || exit 2
export EXITPATH_BUILD EXITPATH_SILENCE EXITPATH_IDENTITY

# choose NUMBER: what the next boots break; 0: nothing.
choose()
{
	fdtput -t u "$built/runners/bochs/machine.dtb" /chosen exitpath,mutant "$1" || exit 2
}

# failures [PLATFORM@]AREA/IMAGE[:CASES]: prints the names of cases that are not ok, and `bail out`.
failures()
{
	case $1 in
	*@*) platform=${1%%@*} ;;
	*) platform=bochs ;;
	esac
	image=${1#*@}
	EXITPATH_SELECT=
	case $image in
	*:*) EXITPATH_SELECT=$image ;;
	esac
	EXITPATH_SELECT=$EXITPATH_SELECT "$EXITPATH_TOP/scripts/run-image.sh" "$platform" "${image%%:*}" 2>&1 </dev/null |
		awk '
			/^not ok [0-9]+ - / && !/# TODO/ { print $5; fflush() }
			/^1\.\.[0-9]/ { plan = 1 }
			/^Bail out!/ { print "bail_out" }
			END { if (!plan) print "no_plan" }'
}

# baseline TARGET: the file with what fails there without any mutant.
baseline()
{
	before=$folder/$(printf '%s' "$1" | tr '/@:*' '____')
	[ ! -f "$before" ] || return 0
	choose 0
	failures "$1" >"$before"
	if grep -q -e bail_out -e no_plan "$before"; then
		die "without any mutant $1 does not run; try ${1%%:*} by itself"
	fi
	[ ! -s "$before" ] || printf '# %s: not ok without any mutant: %s\n' "$1" "$(tr '\n' ' ' <"$before")"
}

# first_new TARGET: the first case that is not ok there now, and was before.
first_new()
{
	failures "$1" | awk -v before="$before" '
		BEGIN { while ((getline name < before) > 0) known[name] = 1 }
		!($0 in known) { print; exit }'
}

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

number=0
all=0
caught=0
explained=0
tab=$(printf '\t')
grep -v '^#' "$list" >"$folder/list"
while IFS=$tab read -r name _ _ _ _ targets remark; do
	number=$((number + 1))
	selected "$name" ${1+"$@"} || continue
	all=$((all + 1))
	by=
	for target in $targets; do
		baseline "$target"
		choose "$number"
		by=$(first_new "$target")
		[ -z "$by" ] || break
	done
	if [ -n "$by" ]; then
		caught=$((caught + 1))
		printf 'caught    %-28s by %s:%s\n' "$name" "${target%%:*}" "$by"
	elif [ "$remark" != - ]; then
		explained=$((explained + 1))
		printf 'survives  %-28s as it must: %s\n' "$name" "$remark"
	else
		printf 'SURVIVES  %s\n' "$name"
	fi
done <"$folder/list"
choose 0
[ "$all" -gt 0 ] || die "no mutant matches; tests/mutants/core.tsv has them"
printf '%d mutants: %d caught, %d cannot be, %d survive\n' "$all" "$caught" "$explained" $((all - caught - explained))
[ $((caught + explained)) -eq "$all" ]
