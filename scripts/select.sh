#!/bin/sh
# Which images and cases a list of globs names. Sourced by run.sh and list.sh, after common.sh.
#
# A glob is AREA/IMAGE, for all cases of the images that it matches, or AREA/IMAGE:CASE.

# case_ids: all cases, as "AREA/IMAGE:CASE", one per line, in the order of images and sources.
case_ids()
{
	set -- "$EXITPATH_BUILD"/images/*/*.tsv
	[ -f "$1" ] || return 0
	awk -F '\t' '
		FNR == 1 {
			n = split(FILENAME, part, "/")
			image = part[n - 1] "/" substr(part[n], 1, length(part[n]) - 4)
		}
		{ print image ":" $2 }' "$@"
}

# image_names: all images, one per line.
image_names()
{
	for names_file in "$EXITPATH_BUILD"/images/*/*.tsv; do
		[ -f "$names_file" ] || continue
		names_file=${names_file#"$EXITPATH_BUILD/images/"}
		printf '%s\n' "${names_file%.tsv}"
	done
}

# need_glob GLOB: dies when it cannot be one.
need_glob()
{
	case $1 in
	*"
"*) die "a GLOB is one line, not '$1'" ;;
	esac
	[ -n "$1" ] || die "an empty GLOB matches nothing; leave it out to take all"
}

# id_globs GLOBS: the same globs, one per line, over the ids of cases.
id_globs()
{
	printf "%s" "$1" | sed "/:/!s/\$/:*/"
}

# select_ids GLOBS: the ids that at least one of GLOBS (one per line) matches, in order; all when there
# is none. Dies, listing what there is, when a glob matches nothing. Only for a subshell.
select_ids()
{
	select_all=$(case_ids)
	if [ -z "$1" ]; then
		printf '%s\n' "$select_all"
		return
	fi
	set -f
	IFS='
'
	# shellcheck disable=SC2046	# one word per glob
	set -- $(id_globs "$1")
	unset IFS
	set +f
	for select_glob in "$@"; do
		matching "$select_all" "$select_glob" | grep -q . || no_match "$select_glob"
	done
	matching "$select_all" "$@"
}

# matching IDS GLOB...: those of IDS (one per line) that a glob matches.
matching()
{
	matching_ids=$1
	shift
	while IFS= read -r matching_id; do
		for matching_glob in "$@"; do
			# shellcheck disable=SC2254	# it is a glob
			case $matching_id in
			$matching_glob)
				printf '%s\n' "$matching_id"
				break
				;;
			esac
		done
	done <<END
$matching_ids
END
}

# no_match GLOB: dies; says which images there are, and which cases when GLOB names one image.
no_match()
{
	no_match_images=$(image_names)
	say "no case matches '${1%":*"}'; the images are:"
	printf '%s\n' "${no_match_images:-none}" | sed 's/^/  /' >&2
	if [ -f "$EXITPATH_BUILD/images/${1%%:*}.tsv" ]; then
		say "the cases of ${1%%:*} are:"
		cut -f 2 "$EXITPATH_BUILD/images/${1%%:*}.tsv" | sed 's/^/  /' >&2
	fi
	die "exitpath list tells more"
}
