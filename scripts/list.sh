#!/bin/sh
# exitpath list: which images and cases there are, and which facts they prove.

set -u
. "${0%/*}/common.sh"
. "${0%/*}/select.sh"

usage()
{
	cat <<END
usage: exitpath list [--by case|image|fact] [GLOB...]

Lists all cases, or those that a GLOB matches (AREA/IMAGE or AREA/IMAGE:CASE). Builds the
images first when they are not up to date.

  --by case    one line per case: its id, the section of the SDM (default)
  --by image   one line per image: its name, how many cases it has
  --by fact    one line per fact and case: the fact (FILE:ROW of spec/), the case, its source; here a
               GLOB names facts, for instance 'exit-reasons:*'

Columns are separated by tabs. Exit status: 0 listed, 2 no match or no images.
END
}

by=case
globs=
newline='
'
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--by)
		need_value "$1" $#
		by=$2
		shift 2
		;;
	--by=*)
		by=${1#*=}
		shift
		;;
	-*)
		die "list: unknown option '$1' (see exitpath list --help)"
		;;
	*)
		need_glob "$1"
		globs=$globs$1$newline
		shift
		;;
	esac
done
case $by in
case | image | fact) ;;
*) die "list --by takes case, image or fact, not '$by'" ;;
esac

[ "$by" = fact ] || need_images "$globs"
run_child "$EXITPATH_TOP/scripts/setup.sh" --for list || exit 2
if [ "$by" = fact ]; then
	set -f
	IFS=$newline
	# shellcheck disable=SC2086	# one word per glob
	set -- $globs
	unset IFS
	set +f
	exec "$EXITPATH_TOP/scripts/cases-by-fact.sh" ${1+"$@"}
fi
ids=$(select_ids "$globs") || exit 2
[ -n "$ids" ] || die "there are no images in $EXITPATH_BUILD/images"

cd "$EXITPATH_BUILD/images" || exit 2
images=$(put "$ids" | sed 's/:.*//' | uniq)
# The ids that are wanted come first, as a list of what to keep, then the case lists.
# shellcheck disable=SC2046,SC2086	# lists
put "$ids" | awk -F '\t' -v by="$by" '
	NR == FNR {
		wanted[$1] = 1
		next
	}
	{
		image = FILENAME
		sub(/\.tsv$/, "", image)
		id = image ":" $2
		if (!(id in wanted))
			next
		if (by == "case")
			printf "%s\t%s\t%s\n", id, $6, $7
		if (!count[image]++)
			order[++images] = image
	}
	END {
		for (i = 1; by == "image" && i <= images; i++)
			printf "%s\t%d\n", order[i], count[order[i]]
	}' - $(printf '%s.tsv\n' $images)
