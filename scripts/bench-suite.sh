#!/bin/sh
# exitpath bench suite: what the images of vmx/* and ept/* cost in CPU time, and the audit's share of that.

set -u
. "${0%/*}/common.sh"

usage()
{
	cat <<END
usage: exitpath bench suite [--on PLATFORM]

Runs all images of vmx/* and ept/*, one at a time, with the audit of VM entries and exits and without it, and prints
seconds of CPU time (user and system, of all processes), beside the bars that are set: for the sweeps, for the random
walks, for what the audit may cost, and on linux for the cases of VM entry and exit. Takes ten minutes on bochs, an
hour on linux. The results are thrown away.

  --on PLATFORM   where (default: bochs)

Exit status: 0 all bars met, 1 a bar not met, 2 the set-up or the command line is wrong.
END
}

on=bochs
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--on)
		need_value "$1" $#
		on=$2
		shift 2
		;;
	--on=*)
		on=${1#*=}
		shift
		;;
	*) die "bench suite: no '$1' (see exitpath bench suite --help)" ;;
	esac
done
need_platform "$on"
run_child "$EXITPATH_TOP/scripts/setup.sh" --for bench --on "$on" || exit 2
{ ask_platform "$on" --probe && ask_platform "$on" --identify; } || die "$answer"
printf '%s %s: CPU seconds\n%-24s %9s %9s %10s\n' "$on" "$answer" "" audited without entries

folder=$(temporary suite) || exit 2
# Also called by end_child.
# shellcheck disable=SC2317
cleanup()
{
	rm -rf "$folder"
}
trap cleanup EXIT
# What was fetched is there as well; results are nobody's.
mkdir "$folder/state" || exit 2
for fetched in "$EXITPATH_STATE"/linux "$EXITPATH_STATE"/bochs-*; do
	[ ! -d "$fetched" ] || ln -s "$fetched" "$folder/state/" || exit 2
done
cp "$EXITPATH_BUILD/runners/$on/machine.dtb" "$folder/tree" &&
	fdtput "$folder/tree" /chosen exitpath,audit-none || exit 2

# measure GLOB...: sets seconds and entries (of sweeps and walks).
measure()
{
	rm -rf "$folder/state/results"
	EXITPATH_STATE=$folder/state run_child "$EXITPATH_BUILD/tools/cputime" 1 \
		"$EXITPATH_TOP/exitpath" run --on "$on" -j 1 ${1+"$@"} >"$folder/out" 2>"$folder/err" || {
		cat "$folder/err" >&2
		exit 2
	}
	read -r seconds _ <"$folder/out"
	entries=$(cat "$folder"/state/results/latest/*/*.tap |
		awk '/^# [0-9]+ entries made/ { walks = $2 } /^# [0-9]+ entries;/ { n += $2 } END { print walks ? walks : n + 0 }')
}

# row NAME GLOB...: one line of the table, and one in rows.
row()
{
	row_name=$1
	shift
	measure ${1+"$@"}
	audited=$seconds
	counted=$entries
	EXITPATH_TREE=$folder/tree
	export EXITPATH_TREE
	measure ${1+"$@"}
	unset EXITPATH_TREE
	printf '%-24s %9.1f %9.1f %10d\n' "$row_name" "$audited" "$seconds" "$counted"
	printf '%s\t%s\t%s\t%s\n' "$row_name" "$audited" "$seconds" "$counted" >>"$folder/rows"
}

others()
{
	(cd "$EXITPATH_BUILD/images" && ls vmx/*.tsv ept/*.tsv) |
		sed -e 's/\.tsv$//' -e '/^vmx\/sweep-/d' -e '/^vmx\/random$/d' -e '/^vmx\/entry-/d' -e '/^vmx\/exit-/d'
}

row 'sweeps' 'vmx/sweep-*'
row 'random walks' --count 3000 vmx/random
row 'vmx/entry-*, vmx/exit-*' 'vmx/entry-*' 'vmx/exit-*'
# Names of images, without blanks.
# shellcheck disable=SC2046
row 'other vmx/*, ept/*' $(others)

awk -F '\t' -v on="$on" '
	function judge(what, figure, unit, sign, bar) {
		met = sign == "<" ? figure <= bar : figure >= bar
		printf "%-52s %8.1f %-10s bar %s %d: %s\n", what, figure, unit, sign == "<" ? "at most" : "at least", bar,
			met ? "met" : "NOT MET"
		failed += !met
	}
	{ audited[NR] = $2; entries[NR] = $4; with += $2; without += $3 }
	END {
		judge("the audit, of all of it", 100 * (with - without) / with, "percent", "<", 50)
		if (on == "bochs") {
			judge("the sweeps", audited[1], "s", "<", 60)
			judge("entries of the sweeps", entries[1], "", ">", 100000)
			judge("random walks, entries in a CPU second", entries[2] / audited[2], "", ">", 5000)
		}
		if (on == "linux")
			judge("the cases of VM entry and exit", audited[1] + audited[2] + audited[3], "s", "<", 600)
		exit failed > 0
	}' "$folder/rows"
