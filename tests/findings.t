#!/bin/sh
# docs/findings.md speaks of every known deviation, and neither it nor the lists of deviations of a
# case that does not exist.
#
# Under "## PLATFORM" every row of a table is one finding: the first column has its SDM sections,
# separated by "; ", and somewhere in the row are the ids of its cases, as globs in backquotes. A
# deviation is covered by a row of its platform that has its section and a glob that it equals or
# matches. A way in which a sweep or a random walk differs (IMAGE:CASE:WAY) is also covered by the case of
# its rule, or of its field: `vmx/random:*:host.pkrs.high` by `vmx/entry-host:host_pkrs_high`.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

# The cases are those of the images, which may be older than their sources.
unset MAKEFLAGS MFLAGS MAKELEVEL
run_cmd make -s -f "$top/Makefile" "SRC=$top" "B=$build" images
is "the images are built" "$status:$err" "0:"
[ "$status" -eq 0 ] || done_testing

findings=$top/docs/findings.md

# rows FILE: "platform TAB section TAB glob" for each finding, section and id.
rows()
{
	awk '
	/^## / { platform = $2 }
	/^\| / {
		n = split($0, cell, / *\| */)
		count = split(cell[2], section, /; */)
		text = $0
		while (match(text, /`[a-z]+\/[]a-z0-9*[-]+:[^`]+`/)) {
			id = substr(text, RSTART + 1, RLENGTH - 2)
			for (i = 1; i <= count; i++)
				print platform "\t" section[i] "\t" id
			text = substr(text, RSTART + RLENGTH)
		}
	}' "$1"
}

# deviations: "platform TAB section TAB glob" for each line of every runners/*/deviations.tsv.
deviations()
{
	for file in "$top"/runners/*/deviations.tsv; do
		platform=${file%/*}
		awk -F '\t' -v platform="${platform##*/}" \
			'!/^#/ && !/^audit:/ && NF >= 5 { sub(/:crash$/, "", $1); print platform "\t" $3 "\t" $1 }' "$file"
	done
}

# cases: the id of every case of every image.
cases()
{
	(cd "$build/images" && for list in */*.tsv; do
		awk -F '\t' -v image="${list%.tsv}" '{ print image ":" $2 }' "$list"
	done)
}

# A glob as a regular expression of awk.
glob='function regex(glob) {
	gsub(/[.+(){}|^$]/, "\\\\&", glob)
	gsub(/\*/, ".*", glob)
	gsub(/\?/, ".", glob)
	return "^" glob "$"
}'

# uncovered ROWS DEVIATIONS: what no row speaks of.
uncovered()
{
	awk -F '\t' "$glob"'
	# The case of a rule or of a field that a way names.
	function case_of(way) {
		sub(/^.*:refused\.[0-9]+\.[0-9]+\./, "", way)
		if (way ~ /:refused\.[0-9.]+$/)
			sub(/:refused.*/, "", way)
		sub(/^.*:/, "", way)
		gsub(/\./, "_", way)
		return way
	}
	function covers(id, deviation) {
		if (id == deviation || deviation ~ regex(id))
			return 1
		if (deviation !~ /:.*:/ || id ~ /:.*:/)
			return 0
		sub(/^.*:/, "", id)
		deviation = case_of(deviation)
		return id == deviation || deviation ~ regex(id)
	}
	FILENAME == ARGV[1] { id[$1, $2, ++count[$1, $2]] = $3; next }
	{
		for (i = 1; i <= count[$1, $2]; i++)
			if (covers(id[$1, $2, i], $3))
				next
		print $1 ": " $3 ", SDM " $2
	}' "$1" "$2"
}

# strangers CASES ROWS: globs of rows that match no case, the way left aside.
strangers()
{
	awk -F '\t' "$glob"'
	FILENAME == ARGV[1] { known[$0]; next }
	!($3 in seen) {
		seen[$3]
		id_of_case = $3
		if ($3 ~ /:.*:/)
			sub(/:[^:]*$/, "", id_of_case)
		expression = regex(id_of_case)
		for (id in known)
			if (id ~ expression)
				next
		print $3
	}' "$1" "$2"
}

rows "$findings" >"$tmp/rows"
deviations >"$tmp/deviations"
cases >"$tmp/cases"

is "every deviation is in docs/findings.md" "$(uncovered "$tmp/rows" "$tmp/deviations")" ""
is "every case that it names exists" "$(strangers "$tmp/cases" "$tmp/rows")" ""
is "every case that a list of deviations names exists" "$(strangers "$tmp/cases" "$tmp/deviations")" ""
is "each line says by itself what the machine does: the summary of a run shows it alone" "$(
	awk -F "\t" '!/^#/ && $5 ~ /^(likewise|as bare Bochs: likewise|see |as [a-z_0-9]+$)/ { print FILENAME ": " $1 }' \
		"$top"/runners/*/deviations.tsv)" ""
like "there are findings" "$(wc -l <"$tmp/rows")" '[1-9][0-9]'

# --- the test itself ---

printf 'bochs\t7.9\tguest/halt:made_up\n' >"$tmp/more"
is "a deviation that no row has" "$(uncovered "$tmp/rows" "$tmp/more")" \
	"bochs: guest/halt:made_up, SDM 7.9"
cat >"$tmp/page.md" <<'END'
## bochs
| 7.9; 7.15 | order | another | `guest/halt:made_*` |
## kvm
| 7.9 | order | another | `guest/other:made_up` |
END
rows "$tmp/page.md" >"$tmp/page"
is "sections and ids of a row" "$(head -n 2 "$tmp/page")" "$(printf '%s\t%s\t%s\n' \
	bochs 7.9 'guest/halt:made_*' bochs 7.15 'guest/halt:made_*')"
is "a glob covers a deviation" "$(uncovered "$tmp/page" "$tmp/more")" ""
printf 'kvm\t7.9\tguest/halt:made_up\n' >"$tmp/more"
is "a row of another platform does not" "$(uncovered "$tmp/page" "$tmp/more")" \
	"kvm: guest/halt:made_up, SDM 7.9"
printf 'guest/halt:made_of_straw\n' >"$tmp/one"
is "a glob that matches no case" "$(strangers "$tmp/one" "$tmp/page")" "guest/other:made_up"

printf 'bochs\t29.2.2\tvmx/random:*:host.pkrs.high\n' >"$tmp/more"
is "a way that no row has" "$(uncovered "$tmp/page" "$tmp/more")" \
	"bochs: vmx/random:*:host.pkrs.high, SDM 29.2.2"
printf 'bochs\t29.2.2\tvmx/entry-host:host_pkrs_high\n' >>"$tmp/page"
is "the case of its rule covers a way" "$(uncovered "$tmp/page" "$tmp/more")" ""

done_testing
