#!/bin/sh
# Prints the cases of the built images by fact, in the order of spec/:
#
#	scripts/cases-by-fact.sh [GLOB...]
#
# One line for each fact and case: id of the fact, id of the case (AREA/IMAGE:CASE), source;
# separated by tabs. With globs (of ids of facts) only those facts; one without a case has "-" and
# "-". ./exitpath list --by fact is this.
#
# Reads: EXITPATH_BUILD (the built images), EXITPATH_SPEC (default: spec/ of exitpath).
# Exit status: 0; 2 with a message when no image is built or a glob matches no fact.

set -u

# shellcheck source=scripts/common.sh
. "${0%/*}/common.sh"

case ${1:-} in
-h | --help)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
	exit 0
	;;
-*) die "cases-by-fact.sh: unknown option '$1'; usage: cases-by-fact.sh [GLOB...]" ;;
esac

# One glob per line: no id has a newline in it.
globs=
for glob; do
	globs=$globs$glob'
'
done

LC_ALL=C
export LC_ALL
set -- "$EXITPATH_BUILD"/images/*/*.tsv
[ -f "$1" ] || die "no image is built; call: exitpath run"
EXITPATH_GLOBS=$globs
export EXITPATH_GLOBS
exec awk -v images="$EXITPATH_BUILD/images/" -f "$EXITPATH_TOP/scripts/csv.awk" \
	-f "$EXITPATH_TOP/scripts/cases-by-fact.awk" ${1+"$@"} "${EXITPATH_SPEC:-$EXITPATH_TOP/spec}"/*.csv
