#!/bin/sh
# Prints every fact of spec/*.csv: id, tab, section; in the order of the files and rows.
#
#	scripts/spec.sh [DIR]     DIR: the folder with the tables (default: spec/ of exitpath)
#
# Exit status: 0; 2 with a message when a table is malformed or there is none.

set -u

# shellcheck source=scripts/common.sh
. "${0%/*}/common.sh"

case ${1:-} in
-h | --help)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
	exit 0
	;;
-*) die "spec.sh: unknown option '$1'; usage: spec.sh [DIR]" ;;
esac
spec=${1:-$EXITPATH_TOP/spec}
case $spec in
/*) ;;
*) spec=./$spec ;;
esac
ls "$spec"/*.csv >/dev/null 2>&1 || die "$spec: no tables (*.csv) in it"
exec awk -f "$EXITPATH_TOP/scripts/csv.awk" -f "$EXITPATH_TOP/scripts/facts.awk" "$spec"/*.csv
