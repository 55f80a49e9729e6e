#!/bin/sh
# run-image.sh PLATFORM AREA/IMAGE: runs one image on one platform; prints TAP 13.
#
# This is what prove executes, through runners/PLATFORM/run. It turns the EXITPATH_* environment
# (docs/design.md, "Platforms") into a call of build/tools/supervise:
#
#	EXITPATH_TOP      the source folder; default: the one that holds this script
#	EXITPATH_BUILD    the build folder; default: build in the source folder
#	EXITPATH_RUNNERS  the folder of the platforms; default: runners in the source folder
#	EXITPATH_RESULTS  where AREA/IMAGE.tap, .log and .tsv go; default: nowhere
#	EXITPATH_SELECT   globs for cases, one per line; empty: all cases
#	EXITPATH_SILENCE  EXITPATH_LIMIT  seconds; empty: the defaults of supervise
#	EXITPATH_SHUFFLE  a seed for the order of the cases; empty: in order
#	EXITPATH_SEED     the seed that the cases use; empty: 1
#	EXITPATH_COUNT    how often an image repeats what it draws at random; empty: its own number
#	EXITPATH_WITHOUT  what the processors shall lack, for machines that can hide it; empty: nothing
#	EXITPATH_AUDIT_ALL  not empty: every VM entry is audited in full
#	EXITPATH_TREE     another description of the machine than the platform's own machine.dtb
#	EXITPATH_AGAIN    the options of run that choose the machine, for comments that say how to repeat something
#	EXITPATH_GO_ON    not empty: one image that bails out does not end the run of prove
#	EXITPATH_IDENTITY what boot --identify says, when the caller knows it already
#
# Exit status: that of supervise; 2 with a message when the set-up is broken.

set -u

die()
{
	printf 'run-image.sh: %s\n' "$1" >&2
	exit 2
}

[ $# -eq 2 ] || die "usage: run-image.sh PLATFORM AREA/IMAGE"
platform=$1
image=$2
case $platform in
'' | */* | .*) die "'$platform' is not the name of a platform" ;;
esac
case $image in
/* | */ | */*/* | *..*) die "'$image' is not the name of an image: AREA/IMAGE" ;;
*/*) ;;
*) die "'$image' is not the name of an image: AREA/IMAGE" ;;
esac

if [ -z "${EXITPATH_TOP-}" ]; then
	case $0 in
	*/*) EXITPATH_TOP=$(CDPATH='' cd -- "${0%/*}/.." && pwd) || exit 2 ;;
	*) EXITPATH_TOP=$(CDPATH='' cd -- .. && pwd) || exit 2 ;;
	esac
fi
EXITPATH_BUILD=${EXITPATH_BUILD:-$EXITPATH_TOP/build}
EXITPATH_RUNNERS=${EXITPATH_RUNNERS:-$EXITPATH_TOP/runners}
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_RUNNERS

boot=$EXITPATH_RUNNERS/$platform/boot
elf=$EXITPATH_BUILD/images/$image
dtb=${EXITPATH_TREE:-$EXITPATH_BUILD/runners/$platform/machine.dtb}
deviations=$EXITPATH_RUNNERS/$platform/deviations.tsv
supervise=$EXITPATH_BUILD/tools/supervise

[ -f "$boot" ] || die "there is no platform '$platform': $boot is missing"
[ -x "$boot" ] || die "$boot cannot be executed; chmod +x it"
for file in "$supervise" "$elf" "$elf.tsv" "$dtb"; do
	[ -f "$file" ] || die "$file is missing; run make, or ./exitpath run, which builds everything"
done

set -f
set -- --image "$image" --elf "$elf" --cases "$elf.tsv" --dtb "$dtb"
if [ -e "$deviations" ]; then
	identity=${EXITPATH_IDENTITY:-$(timeout -k 1 30 "$boot" --identify)} ||
		die "platform '$platform' cannot say what it is: $boot --identify failed"
	set -- "$@" --deviations "$deviations" --identity "$identity"
fi
[ -z "${EXITPATH_SILENCE-}" ] || set -- "$@" --silence "$EXITPATH_SILENCE"
[ -z "${EXITPATH_LIMIT-}" ] || set -- "$@" --limit "$EXITPATH_LIMIT"
[ -z "${EXITPATH_SHUFFLE-}" ] || set -- "$@" --shuffle "$EXITPATH_SHUFFLE"
[ -z "${EXITPATH_SEED-}" ] || set -- "$@" --seed "$EXITPATH_SEED"
[ -z "${EXITPATH_COUNT-}" ] || set -- "$@" --count "$EXITPATH_COUNT"
[ -z "${EXITPATH_WITHOUT-}" ] || set -- "$@" --without "$EXITPATH_WITHOUT"
[ -z "${EXITPATH_AUDIT_ALL-}" ] || set -- "$@" --audit-all
[ -z "${EXITPATH_AGAIN-}" ] || set -- "$@" --again "$EXITPATH_AGAIN"
[ -z "${EXITPATH_GO_ON-}" ] || set -- "$@" --go-on
if [ -n "${EXITPATH_SELECT-}" ]; then
	old_ifs=$IFS
	IFS='
'
	for glob in $EXITPATH_SELECT; do
		set -- "$@" --select "$glob"
	done
	IFS=$old_ifs
fi
if [ -n "${EXITPATH_RESULTS-}" ]; then
	results=$EXITPATH_RESULTS/$image
	mkdir -p "${results%/*}" || die "cannot make the folder ${results%/*}"
	cp "$elf.tsv" "$results.tsv" || die "cannot write $results.tsv"
	set -- "$@" --log "$results.log" --tap "$results.tap"
fi

exec "$supervise" "$@" -- "$boot"
