#!/bin/sh
# An image that bails out costs the run neither the results of the other images nor its exit status 2.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/platform.sh"

fake_image aaa/bails 'alpha:bail'
fake_image bbb/good ''
fake_image ccc/good ''

run_cmd "$top/exitpath" run --on fake -j 1
is 'exit status' "$status" 2
like 'the bail-out is in the summary' "$out" 'set-up is broken'
like 'with the name of the image' "$out" '^ *aaa/bails: '
for image in bbb ccc; do
	is "$image/good: all its results" "$(grep -c '^ok' "$tmp/build/results/latest/$image/good.tap")" \
		"$(wc -l <"$top/tests/fake/cases.tsv" | tr -d ' ')"
done
like 'the TAP file says it' "$(cat "$tmp/build/results/latest/aaa/bails.tap")" '^Bail out! '

# By hand, without exitpath run, it is a bail-out for the harness as well.
run_cmd "$top/scripts/run-image.sh" fake aaa/bails
is 'by hand: exit status' "$status" 2
like 'by hand: the harness sees it' "$out" '^Bail out! '
done_testing
