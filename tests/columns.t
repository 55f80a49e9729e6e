#!/bin/sh
# scripts/columns.sh: lines of C that are too wide are named; and the project has none.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

columns=$top/scripts/columns.sh
folder=$tmp/source
mkdir -p "$folder/lib" "$folder/build" "$folder/.git" "$folder/other" || exit 2

# text N: N characters.
text()
{
	printf "%$1s" '' | tr ' ' x
}

# file NAME LINE...: writes a file of the folder.
file()
{
	file_name=$folder/$1
	shift
	printf '%s\n' "$@" >"$file_name"
}

tab=$(printf '\t')
file lib/narrow.c "$(text 100)" "$tab$(text 92)" "$(text 7)$tab$(text 92)" "$(text 92)$tab$(text 4)" \
	"$tab$tab$tab$tab$tab$tab$tab$tab$tab$tab$tab$tab$(text 4)" ''
run_cmd "$columns" "$folder"
is "100 columns are allowed, with tabs to multiples of 8" "$status:$out:$err" "0::"

file lib/wide.c int "$(text 101)"
file lib/wide.h "$tab$(text 93)"
file wide.def "$(text 8)$tab$(text 85)"
file wide.S "$(text 90)$tab$tab"
run_cmd "$columns" "$folder"
is "wider lines are an error" "$status:$err" "1:"
is "each is named, with what it has" "$(printf '%s\n' "$out" | sort)" \
"$folder/lib/wide.c:2: 101 columns, at most 100
$folder/lib/wide.h:1: 101 columns, at most 100
$folder/wide.S:1: 104 columns, at most 100
$folder/wide.def:1: 101 columns, at most 100"

rm "$folder/lib/wide.c" "$folder/lib/wide.h" "$folder/wide.def" "$folder/wide.S"
file build/wide.c "$(text 101)"
file .git/wide.c "$(text 101)"
file other/wide.c "$(text 101)"
file other.md "$(text 101)"
run_cmd "$columns" "$folder" "$folder/build" "$folder/other"
is "folders that are left out, .git, and other files do not count" "$status:$out:$err" "0::"
run_cmd "$columns" "$folder" "$folder/build"
is "one that is not left out does" "$status:$out" \
	"1:$folder/other/wide.c:1: 101 columns, at most 100"

run_cmd "$columns"
is "no folder: what to say" "$status:$err" "2:columns.sh: usage: columns.sh FOLDER [PRUNED...]"
run_cmd "$columns" "$folder/none"
is "no such folder: a message" "$status:$err" "2:columns.sh: there is no folder $folder/none"

run_cmd "$columns" "$top" "$build" "$top/build"
is "no line of exitpath is wider" "$status:$out:$err" "0::"
like "exitpath check shell runs it" "$(sed -n '/^phase_shell()/,/^}/p' "$top/scripts/check.sh")" \
	'scripts/columns.sh.*\\$'

done_testing
