#!/bin/sh
# columns.sh FOLDER [PRUNED...]: the lines of C and assembly in FOLDER that are wider than 100 columns.
#
# Reads every *.c, *.h, *.def and *.S below FOLDER, but nothing in a folder .git and in the folders
# PRUNED. A tab goes to the next column that is a multiple of 8. Prints FILE:LINE: and how wide it is
# for each such line. There is no list of exceptions: every line can be broken.
# Exit status: 0 there is none, 1 there are some, 2 the command line is wrong, or a file unreadable.

set -u

die()
{
	printf 'columns.sh: %s\n' "$1" >&2
	exit 2
}

[ $# -ge 1 ] || die "usage: columns.sh FOLDER [PRUNED...]"
[ -d "$1" ] || die "there is no folder $1"
folder=$1
shift
for pruned; do
	set -- "$@" -o -path "$pruned"
	shift
done
wide=$(find "$folder" \( -name .git "$@" \) -prune -o \
	-type f \( -name '*.c' -o -name '*.h' -o -name '*.def' -o -name '*.S' \) \
	-exec awk '
	# columns(LINE): how wide it is.
	function columns(line, part, n, i, width)
	{
		n = split(line, part, "\t")
		for (i = 1; i < n; i++)
			width = int((width + length(part[i])) / 8) * 8 + 8
		return width + length(part[n])
	}
	length($0) > 12 && columns($0) > 100 {
		printf "%s:%d: %d columns, at most 100\n", FILENAME, FNR, columns($0)
	}
	' {} +) || die "cannot read everything in $folder"
[ -n "$wide" ] || exit 0
printf '%s\n' "$wide"
exit 1
