#!/bin/sh
# supervise with an image that asks for a fresh machine after a case: nobody is to blame, and the
# rest of the cases run after another boot.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

supervise 'bravo:bootagain'
is "exit status 0" "$status" 0
is "every case is ok" "$(results)" "ok ok ok ok ok ok ok"
like "the next case starts the next boot" "$out" '^# boot 2, from case 3 on$'
is "the log has both boots" "$(grep -c '^TAP version 13$' "$tmp/log")" 2
parses "prove reads it" 7

supervise 'alpha:bootagain bravo:bootagain charlie:bootagain'
is "three times in a row: every case is ok" "$(results)" "ok ok ok ok ok ok ok"
is "three times in a row: four boots" "$(grep -c '^TAP version 13$' "$tmp/log")" 4

supervise 'golf:bootagain'
is "after the last case: exit status 0" "$status" 0
is "after the last case: one boot" "$(grep -c '^TAP version 13$' "$tmp/log")" 1

supervise 'bravo:bootagain bravo:notok'
is "a case that fails and asks: exit status 1" "$status" 1
is "a case that fails and asks: the others are ok" "$(results)" "ok not ok ok ok ok ok"

supervise 'bravo:bootagain charlie:off'
is "a crash in the next boot is that case's" "$(results)" "ok ok not ok ok ok ok"

supervise 'bravo:bootagaingoon charlie:off'
is "who asks and goes on is judged as ever" "$(results)" "ok ok not ok ok ok ok"
done_testing
