#!/bin/sh
# orders.sh PLATFORM IMAGE...: whether each case gives the same result in order, shuffled and alone.
#
# Boots every image (AREA/IMAGE) in order, in two other orders, and then once for each case, and
# prints a line for each case whose results differ: its id, and the four results (ok, not ok, skip).
# Reads the environment of scripts/run-image.sh; ORDERS_ALONE=no leaves the boots for single cases
# out. The images must be built.
# Exit status: 0 all the same, 1 not so, 2 the command line or the set-up is wrong.

set -u

die()
{
	printf 'orders.sh: %s\n' "$1" >&2
	exit 2
}

[ $# -ge 2 ] || die "usage: orders.sh PLATFORM AREA/IMAGE..."
here=$(CDPATH='' cd -- "${0%/*}" && pwd) || exit 2
platform=$1
shift
EXITPATH_TOP=${EXITPATH_TOP:-$here/..}
EXITPATH_BUILD=${EXITPATH_BUILD:-$EXITPATH_TOP/build}
[ -x "$EXITPATH_TOP/runners/$platform/boot" ] || die "there is no platform $platform"
[ -n "${EXITPATH_IDENTITY-}" ] ||
	EXITPATH_IDENTITY=$("$EXITPATH_TOP/runners/$platform/boot" --identify) ||
	die "platform $platform does not say what it is"
unset EXITPATH_RESULTS EXITPATH_GO_ON
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_IDENTITY

work=$(mktemp -d "${TMPDIR:-/tmp}/exitpath-orders.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

# results LABEL: from the TAP on standard input, lines "CASE TAB LABEL TAB result".
results()
{
	awk -v label="$1" '
		/^(not )?ok [0-9]+ - / {
			verdict = $1 == "ok" ? "ok" : "not ok"
			name = $1 == "ok" ? $4 : $5
			if (/ # SKIP /)
				verdict = "skip"
			print name "\t" label "\t" verdict
		}'
}

# boot_image LABEL SHUFFLE SELECT: one run of $image, its results added to the file.
boot_image()
{
	EXITPATH_SHUFFLE=$2 EXITPATH_SELECT=$3 \
		"$here/run-image.sh" "$platform" "$image" 2>/dev/null </dev/null |
		results "$1" >>"$work/results"
}

# differences: lines for the cases of $image without one result in all orders.
differences()
{
	cut -f 2 "$EXITPATH_BUILD/images/$image.tsv" | awk -F '\t' -v image="$image" \
		-v labels="$labels" '
		FILENAME != "-" { result[$1, $2] = $3; next }
		{
			n = split(labels, label, " ")
			line = ""
			same = 1
			for (i = 1; i <= n; i++) {
				now = (($1, label[i]) in result) ? result[$1, label[i]] : "no result"
				line = line "\t" label[i] ": " now
				if (i > 1 && now != before || now == "no result")
					same = 0
				before = now
			}
			if (!same)
				print image ":" $1 line
		}' "$work/results" -
}

labels="in-order shuffled-1 shuffled-2"
[ "${ORDERS_ALONE:-yes}" = no ] || labels="$labels alone"
differing=0
cases=0
for image; do
	[ -f "$EXITPATH_BUILD/images/$image.tsv" ] || die "there is no image $image"
	: >"$work/results"
	boot_image in-order '' ''
	boot_image shuffled-1 1 ''
	boot_image shuffled-2 20260 ''
	if [ "${ORDERS_ALONE:-yes}" != no ]; then
		cut -f 2 "$EXITPATH_BUILD/images/$image.tsv" >"$work/names"
		while read -r name; do
			boot_image alone '' "$image:$name"
		done <"$work/names"
	fi
	differences >"$work/differences"
	cat "$work/differences"
	count=$(wc -l <"$work/differences")
	differing=$((differing + count))
	cases=$((cases + $(wc -l <"$EXITPATH_BUILD/images/$image.tsv")))
	printf '# %s: %d differ\n' "$image" "$count"
done
printf '# %d cases, %d give other results in another order\n' "$cases" "$differing"
[ "$differing" -eq 0 ]
