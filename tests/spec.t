#!/bin/sh
# The tables of spec/: ids, sections, unprovable.tsv; both programs that read them agree.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

tool=$build/tools/imageinfo
LC_ALL=C
export LC_ALL

# lines TEXT: how many lines there are in it.
lines()
{
	printf '%s' "$1" | grep -c ''
}

# --- the tables themselves ---

run_cmd "$top/scripts/spec.sh"
is "spec.sh reads every table" "$status:$err" "0:"
facts=$out
rows=$(cat "$top"/spec/*.csv | wc -l)
# shellcheck disable=SC2012	# the names are ours
tables=$(ls "$top"/spec/*.csv | wc -l)
titles=$(($(wc -l <"$top/spec/sections.csv") - 1))
is "every row is a fact or a title" "$(lines "$facts")" "$((rows - tables - titles))"

ids=$(printf '%s\n' "$facts" | cut -f1)
is "ids are unique" "$(printf '%s\n' "$ids" | sort | uniq -d)" ""
is "ids are FILE:KEY, lower case, without spaces" \
	"$(printf '%s\n' "$ids" | grep -Ev '^[a-z][a-z0-9-]*:[a-z0-9][a-z0-9_.:-]*$')" ""
for id in exit-reasons:10 vmcs-fields:0x681e vmcs-fields:0x0 control-bits:proc1.7 \
	vm-instruction-errors:12 nonroot-behavior:cpuid ept:eptp.format.ad \
	vmx-instructions:vmxon.cpl vmx-instructions:vmclear.bad_pointer exceptions:vector.13 \
	kvm-exits:2 vmx-result-flags:vmfailinvalid; do
	like "there is $id" "$ids" "^$id\$"
done

is "every row has a section" "$(printf '%s\n' "$facts" | awk -F '\t' '$2 == ""')" ""
printf '%s\n' "$facts" | cut -f2 | sort -u >"$tmp/used"
awk -f "$top/scripts/csv.awk" -f - "$top/spec/sections.csv" >"$tmp/titles" <<'END'
FNR > 1 { print csv_split($0, column) "\t" column[1] "\t" column[2] }
END
is "sections.csv has two columns" "$(grep -v '^2	[^	]*	..*' "$tmp/titles")" ""
cut -f2 "$tmp/titles" | sort >"$tmp/known"
is "sections.csv: no section twice" "$(uniq -d "$tmp/known")" ""
is "sections.csv knows every section" "$(comm -23 "$tmp/used" "$tmp/known")" ""
is "sections.csv has no section that no row uses" "$(comm -13 "$tmp/used" "$tmp/known")" ""
is "the tables are ASCII without tabs and carriage returns" \
	"$(cat "$top"/spec/*.csv | tr -d '\n -~' | wc -c | tr -d ' ')" 0

# Numbers in ids are those of the row.
is "control-bits: id = field.bit" "$(awk -F, 'FNR > 1 && $1 != $2 "." $4' "$top/spec/control-bits.csv")" ""
is "vmcs-fields: encodings in one form" \
	"$(awk -F, 'FNR > 1 && ($1 !~ /^0x(0|[1-9a-f][0-9a-f]*)$/ ||
		$2 !~ /^(0x[1-9a-f][0-9a-f]*)?$/)' "$top/spec/vmcs-fields.csv")" ""

# --- both readers ---

if [ -x "$tool" ]; then
	run_cmd "$tool" --spec "$top/spec" --facts
	is "imageinfo reads every table" "$status:$err" "0:"
	is "imageinfo and spec.sh agree" "$(printf '%s\n' "$out" | sort)" "$(printf '%s\n' "$facts" | sort)"
else
	skip "imageinfo and spec.sh agree" "imageinfo is not built"
fi

# both NAME WANTED: both readers, on $tmp/spec, end with status 0 and the output WANTED.
both()
{
	run_cmd "$top/scripts/spec.sh" "$tmp/spec"
	is "spec.sh: $1" "$status:$out" "0:$2"
	[ -x "$tool" ] || return 0
	run_cmd "$tool" --spec "$tmp/spec" --facts
	is "imageinfo: $1" "$status:$out" "0:$2"
}

# neither NAME ERE: both end with status 2, print nothing, and say something that matches ERE.
neither()
{
	run_cmd "$top/scripts/spec.sh" "$tmp/spec"
	is "spec.sh: $1: status and output" "$status:$out" "2:"
	like "spec.sh: $1: message" "$err" "$2"
	[ -x "$tool" ] || return 0
	run_cmd "$tool" --spec "$tmp/spec" --facts
	is "imageinfo: $1: status and output" "$status:$out" "2:"
	like "imageinfo: $1: message" "$err" "$2"
}

mkdir "$tmp/spec"
cat >"$tmp/spec/a.csv" <<'END'
id,text,section
a1,"a comma, and ""quotes""",1.2 Table 1-3; 4.5
b2,"","6.7; ""8"""
"c3",,
END
both "quotes, commas, sections" "a:a1	1.2
a:b2	6.7
a:c3	"

printf 'id,section\none,1\ntwo,"2\n' >"$tmp/spec/a.csv"
neither "a quotation mark that does not end" 'a\.csv:3: not a CSV row'
printf 'id,section\none,1\ntwo,2,3\n' >"$tmp/spec/a.csv"
neither "too many columns" 'a\.csv:3: not a CSV row of 2 columns'
printf 'id,section\none,a"b\n' >"$tmp/spec/a.csv"
neither "a quotation mark in the middle" 'a\.csv:2: not a CSV row'
printf 'id,sektion\none,1\n' >"$tmp/spec/a.csv"
neither "no column section" 'a\.csv:1: no column "section"'
rm "$tmp/spec/a.csv"
neither "no table" 'spec'

run_cmd "$top/scripts/spec.sh" --nonsense
is "spec.sh: unknown option" "$status:$out" "2:"
run_cmd "$top/scripts/spec.sh" --help
like "spec.sh --help" "$status $out" '^0 Prints every fact'

# --- unprovable.tsv ---

is "unprovable.tsv: glob, tab, reason" \
	"$(grep -Ev '^(#|[^	 ]+	[^	]+$)' "$top/spec/unprovable.tsv")" ""
printf "%s\n" "$ids" >"$tmp/ids"
awk -f "$top/scripts/csv.awk" -f - "$tmp/ids" "$top/spec/unprovable.tsv" >"$tmp/idle" <<'END'
BEGIN { FS = "\t" }
FILENAME ~ /ids$/ { id[++ids] = $0; next }
/^#/ { next }
{
	# The first match counts: a line that matches only what earlier lines match is a mistake.
	new = 0
	for (i = 1; i <= ids; i++)
		if (!(i in hit) && id[i] ~ glob_ere($1))
			hit[i] = new = 1
	if (!new)
		print $1
}
END
is "unprovable.tsv: every line matches a row that no line before matches" "$(cat "$tmp/idle")" ""
is "globs: *, ?, sets, and nothing else special" "$(awk -f "$top/scripts/csv.awk" -f - <<'END'
BEGIN {
	n = split("a:b* a:bcd 1,a.c abc 0,a?c abc 1,x[67] x7 1,x[67] x8 0,x[!67] x8 1,x+y x+y 1," \
		"x+y xxy 0,[ [ 1,a:* b:a:c 0,a(b) a(b) 1", test, ",")
	for (i = 1; i <= n; i++) {
		split(test[i], part, " ")
		if ((part[2] ~ glob_ere(part[1])) != part[3])
			print test[i]
	}
}
END
)" ""

done_testing
