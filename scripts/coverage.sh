#!/bin/sh
# ./exitpath coverage: which facts of spec/ the last runs have proved.
#
#	coverage [--strict] [--run DIR]... [TABLE...]
#
# Reads: EXITPATH_BUILD (the built images), EXITPATH_STATE (results/), see scripts/common.sh;
# the folder of a run is described in docs/design.md. EXITPATH_SPEC (default: spec/ of exitpath) and
# EXITPATH_REHEARSALS (default: tests/rehearsal/cases.tsv) are for the tests.
# Exit status: 0; 1 with --strict when a provable row has no case; 2 when the command line is
# wrong or there is nothing to read.

set -u

# shellcheck source=scripts/common.sh
. "${0%/*}/common.sh"

usage()
{
	cat <<'END'
usage: exitpath coverage [--strict] [--run DIR]... [TABLE...]

Says for every table of spec/ how many of its rows (facts) are
  proved      a case that names the row passed in the last runs, or is a listed deviation
  failed      its cases ran, none passed
  skipped     its cases could not run here; the reasons are listed below the table
  not run     a case names it, but no run has a result
  unprovable  no image can prove it (spec/unprovable.tsv says why)
  no case     provable, but no case names it
For each platform (program, version, CPU model) and image, the newest run counts.

  TABLE       report only on this table (exit-reasons, vmcs-fields, ...), row by row
  --run DIR   read these run folders only, instead of all in build/results
  --strict    exit with 1 when a provable row has no case

  exitpath coverage exit-reasons
END
}

spec=${EXITPATH_SPEC:-$EXITPATH_TOP/spec}
rehearsals=${EXITPATH_REHEARSALS:-$EXITPATH_TOP/tests/rehearsal/cases.tsv}
[ -r "$rehearsals" ] || rehearsals=	# an installed exitpath has no tests
strict=
tables=
runs=

# table_named TEXT: the name of the table that the user means: exit-reasons or spec/exit-reasons.csv.
table_named()
{
	table=${1##*/}
	table=${table%.csv}
	case $table in
	'' | sections | *[!a-z0-9-]*) ;;
	*)
		if [ -f "$spec/$table.csv" ]; then
			printf '%s\n' "$table"
			return
		fi
		;;
	esac
	say "there is no table '$1'; the tables are:"
	for table in "$spec"/*.csv; do
		table=${table##*/}
		[ "$table" = sections.csv ] || printf '  %s\n' "${table%.csv}" >&2
	done
	exit 2
}

# built: a line for every built image, as coverage.awk wants them.
built()
{
	for list in "$EXITPATH_BUILD"/images/*/*.tsv; do
		[ -f "$list" ] || continue
		list=${list#"$EXITPATH_BUILD"/images/}
		printf 'image\t%s\n' "${list%.tsv}"
	done
}

# recorded DIR: a line for every image in the folder of a run.
recorded()
{
	platform=
	if [ -r "$1/platform" ]; then
		read -r platform <"$1/platform" || :
	fi
	if [ -z "$platform" ]; then
		say "$1: not the folder of a run, left out: no file 'platform' in it"
		return
	fi
	for tap in "$1"/*/*.tap; do
		[ -f "$tap" ] || continue
		tap=${tap#"$1"/}
		printf 'run\t%s\t%s\t%s\n' "$platform" "$1" "${tap%.tap}"
	done
}

# manifest: all of them; the names of run folders begin with the date, so the newest is last.
manifest()
{
	built
	if [ -n "$runs" ]; then
		printf '%s' "$runs" | while IFS= read -r run; do
			recorded "$run"
		done
		return
	fi
	for run in "$EXITPATH_STATE"/results/[0-9]*; do
		[ ! -d "$run" ] || recorded "$run"
	done
}

while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--strict) strict=1 ;;
	--run | --run=*)
		if [ "$1" = --run ]; then
			need_value --run $#
			shift
		fi
		run=${1#--run=}
		run=${run%/}
		[ -d "$run" ] || die "--run: there is no folder '$run'"
		[ -r "$run/platform" ] || die "--run: '$run' is not the folder of a run: no file 'platform' in it"
		runs=$runs$run'
'
		;;
	-*) die "coverage: unknown option '$1' (see exitpath coverage --help)" ;;
	*)
		table=$(table_named "$1") || exit 2
		tables="$tables $table"
		;;
	esac
	shift
done

no_rehearsal coverage
LC_ALL=C
export LC_ALL
manifest=$(manifest)
[ -n "$manifest" ] || die "no image is built and no run is recorded; call: exitpath run"
printf '%s\n' "$manifest" | awk -v strict="$strict" -v details="${tables:+1}" -v tables="$tables" \
	-v images="$EXITPATH_BUILD/images" -v unprovable="$spec/unprovable.tsv" -v rehearsals="$rehearsals" \
	-f "$EXITPATH_TOP/scripts/csv.awk" -f "$EXITPATH_TOP/scripts/coverage.awk" "$spec"/*.csv
