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

# ids_of GLOB IDS: those of IDS (one per line) that it matches, in their order. Images first: they are few, and
# a shell takes long for thousands of ids.
ids_of()
{
	ids_of_images=$(image_names | matching "${1%%:*}")
	[ -n "$ids_of_images" ] || return 0
	ids_of_these=$({ put "$ids_of_images" && put "$2"; } |
		awk '!/:/ { wanted[$0]; next } substr($0, 1, index($0, ":") - 1) in wanted')
	case $1 in
	*:*) put "$ids_of_these" | matching "$1" ;;
	*) put "$ids_of_these" ;;
	esac
}

# select_ids GLOBS: the ids that at least one of GLOBS (one per line) matches, in order; all when there
# is none. Dies, listing what there is, when a glob matches nothing. Only for a subshell.
select_ids()
{
	select_all=$(case_ids)
	if [ -z "$1" ]; then
		put "$select_all"
		return
	fi
	set -f
	IFS='
'
	# shellcheck disable=SC2086	# one word per glob
	set -- $1
	unset IFS
	set +f
	select_chosen=
	for select_glob in "$@"; do
		select_these=$(ids_of "$select_glob" "$select_all")
		[ -n "$select_these" ] || no_match "$select_glob"
		select_chosen="$select_chosen$select_these
"
	done
	# In the order of all, each once.
	{ put "$select_chosen" && put "$select_all"; } | awk -v all="$(put "$select_chosen" | wc -l)" '
		NR <= all { chosen[$0]; next }
		$0 in chosen'
}

# source_names: the images that the sources would make, one per line; none where there are no sources.
source_names()
{
	for names_file in "$EXITPATH_TOP"/x86/*/*.c; do
		[ -f "$names_file" ] || continue
		names_file=${names_file#"$EXITPATH_TOP/x86/"}
		printf '%s\n' "${names_file%.c}"
	done
}

# need_images GLOBS: dies when a glob (one per line) names no image that is or can be built, before
# anything is built for it.
need_images()
{
	need_images_names=$(source_names; image_names)
	[ -n "$need_images_names" ] || return 0
	printf '%s' "$1" | while IFS= read -r need_images_glob; do
		[ -n "$(printf '%s\n' "$need_images_names" | matching "${need_images_glob%%:*}")" ] ||
			no_match "$need_images_glob" "$(printf '%s\n' "$need_images_names" | sort -u)"
	done || exit 2
}

# matching GLOB: those lines of its input that match.
matching()
{
	while IFS= read -r matching_line; do
		# shellcheck disable=SC2254	# it is a glob
		case $matching_line in
		$1) printf '%s\n' "$matching_line" ;;
		esac
	done
}

# no_match GLOB [IMAGES]: dies; says which images there are in GLOB's area, or if it has none, which there are
# at all (IMAGES, one per line; left out: those that are built), and which cases when GLOB names one image.
no_match()
{
	no_match_images=${2-$(image_names)}
	no_match_near=$(printf '%s\n' "$no_match_images" | matching "${1%%/*}/*")
	if [ -f "$EXITPATH_BUILD/images/${1%%:*}.tsv" ]; then
		say "no case matches '${1%":*"}'; the cases of ${1%%:*} are:"
		cut -f 2 "$EXITPATH_BUILD/images/${1%%:*}.tsv" | sed 's/^/  /' >&2
	else
		say "no case matches '${1%":*"}'; the images${no_match_near:+ of ${1%%/*}} are:"
		printf '%s\n' "${no_match_near:-${no_match_images:-none}}" | sed 's/^/  /' >&2
	fi
	die "exitpath list tells more"
}
