#!/bin/sh
# tests/mutants/core.tsv: the list of ways to break the core fits the source, and one of them is noticed.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

list=$top/tests/mutants/core.tsv
mkdir "$tmp/out"

# mutate NAME LIST: what scripts/mutate.awk says.
# shellcheck disable=SC2317	# run_cmd calls it
mutate()
{
	(cd "$top" && LC_ALL=C awk -v only="$1" -v out="$tmp/out" -f scripts/mutate.awk "$2" lib/x86/hv/*.c)
}

run_cmd mutate all "$list"
is "every row fits the source" "$status$err" 0
ok "there are at least 60" [ "$(grep -vc '^#' "$list")" -ge 60 ]
like "each stands behind its number" "$(cat "$tmp/out/cpuid.c")" '\(hv_mutant == [0-9]+ \? \(0\) : \(regs->rdx = edx\)\);'
is "the files are as long as the source, and a line" \
	"$(wc -l <"$tmp/out/cpuid.c")" $(($(wc -l <"$top/lib/x86/hv/cpuid.c") + 1))
run_cmd mutate cpuid_without_edx "$list"
is "one by itself" "$status$err" 0
like "stands in the place of what is right" "$(cat "$tmp/out/cpuid.c")" '^	\(0\);$'
unlike "and there is no other" "$(cat "$tmp"/out/*.c)" 'hv_mutant'

run_cmd mutate nonsense "$list"
is "an unknown name: status" "$status" 2
like "an unknown name: message" "$err" "there is no mutant 'nonsense'; tests/mutants/core.tsv has them"
printf 'a\tcpuid\t-\tno such text\t0\thv/core-basic\t-\n' >"$tmp/list"
run_cmd mutate all "$tmp/list"
is "a row that fits nothing: status" "$status" 2
like "a row that fits nothing: message" "$err" "mutant 'a': no 'no such text' in lib/x86/hv/cpuid.c"
printf 'a\tcpuid\t-\treturn\t0\thv/core-basic\t-\n' >"$tmp/list"
run_cmd mutate all "$tmp/list"
like "a text that is not the only one" "$err" "mutant 'a': more than one 'return'"
printf 'a\tcpuid\t-\n' >"$tmp/list"
run_cmd mutate all "$tmp/list"
like "a row with too few columns" "$err" "row 'a' has not seven columns"

# The images that should notice are there.
missing=
# shellcheck disable=SC2013	# words, not lines
for target in $(grep -v '^#' "$list" | cut -f 6); do
	image=${target#*@}
	image=${image%%:*}
	[ -f "$top/x86/$image.c" ] || missing="$missing $image"
done
is "all images that should notice exist" "$missing" ""
unlike "the source knows nothing of it" "$(cat "$top"/lib/x86/hv/*.[ch] "$top"/lib/*.c)" 'mutant'

run_cmd "$top/exitpath" bench mutants --nonsense
is "an unknown option: status" "$status" 2
if "$top/runners/bochs/boot" --probe 2>/dev/null; then
	run_cmd "$top/exitpath" bench mutants cpuid_without_edx
	is "one that is noticed: status" "$status" 0
	like "says which case has noticed" "$out" '^caught +cpuid_without_edx +by hv/core-basic:cpuid_answers_from_the_table$'
	like "and the score" "$out" '^1 mutants: 1 caught, 0 cannot be, 0 survive$'
else
	skip "one that is noticed" "no Bochs"
fi
done_testing
