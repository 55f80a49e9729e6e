#!/bin/sh
# mutants-part.sh BUILD ROWS: a part of `exitpath bench mutants`, which runs several at a time.
#
# BUILD is the build with all mutants, ROWS a file with one line for each that is to be tried: number, name,
# targets and remark, separated by tabs. Prints for each the first case that notices it; the same lines go to
# ROWS with .results for .rows. The machine's tree, in which each boot reads what it breaks, is this part's own.
#
# Exit status: 0; 255 with a message, at which xargs starts no more, when an image does not run even without a
# mutant.

set -u
. "${0%/*}/common.sh"

broken()
{
	say "$1"
	exit 255
}

[ $# -eq 2 ] || broken "usage: mutants-part.sh BUILD ROWS"
built=$1
rows=$2
folder=${rows%.rows}
: >"$folder.results"
mkdir "$folder" "$folder/build" || broken "cannot make $folder"
for file in "$built"/*; do
	case $file in
	*/runners) cp -r "$file" "$folder/build/runners" || broken "cannot copy $file" ;;
	*) ln -s "$file" "$folder/build/" || broken "cannot make a link to $file" ;;
	esac
done
EXITPATH_BUILD=$folder/build
EXITPATH_SILENCE=20
EXITPATH_IDENTITY=$("$EXITPATH_RUNNERS/bochs/boot" --identify) || broken "Bochs cannot say what it is"
export EXITPATH_BUILD EXITPATH_SILENCE EXITPATH_IDENTITY

# choose NUMBER: what the next boots break; 0: nothing.
choose()
{
	fdtput -t u "$EXITPATH_BUILD/runners/bochs/machine.dtb" /chosen exitpath,mutant "$1" ||
		broken "fdtput cannot change $EXITPATH_BUILD/runners/bochs/machine.dtb"
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
		broken "without any mutant $1 does not run; try ${1%%:*} by itself"
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

# result FORMAT ARGUMENT...
result()
{
	# shellcheck disable=SC2059	# it is a format
	printf "$@" | tee -a "$folder.results"
}

tab=$(printf '\t')
while IFS=$tab read -r number name targets remark; do
	by=
	for target in $targets; do
		baseline "$target"
		choose "$number"
		by=$(first_new "$target")
		[ -z "$by" ] || break
	done
	if [ -n "$by" ]; then
		result 'caught    %-28s by %s:%s\n' "$name" "${target%%:*}" "$by"
	elif [ "$remark" != - ]; then
		result 'survives  %-28s as it must: %s\n' "$name" "$remark"
	else
		result 'SURVIVES  %s\n' "$name"
	fi
done <"$rows"
