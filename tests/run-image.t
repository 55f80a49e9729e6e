#!/bin/sh
# scripts/run-image.sh and runners/*/run: from the environment to supervise, for a fake platform.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/supervise.sh"

unset EXITPATH_RESULTS EXITPATH_SELECT EXITPATH_SILENCE EXITPATH_LIMIT EXITPATH_SHUFFLE
unset EXITPATH_SEED EXITPATH_IDENTITY EXITPATH_TOP EXITPATH_BUILD EXITPATH_RUNNERS

# A source folder of its own, with a blank in its name, with one platform and one image.
place="$tmp/a source"
mkdir -p "$place/scripts" "$place/runners/fake" "$place/build/images/vmx" \
	"$place/build/runners/fake" "$place/build/tools"
cp "$top/scripts/run-image.sh" "$place/scripts/"
cp "$top/runners/bochs/run" "$place/runners/fake/run"
cp "$fake/machine" "$place/machine"
cp "$dtb" "$place/build/runners/fake/machine.dtb"
cp "$cases" "$place/build/images/vmx/fake"
cp "$cases" "$place/build/images/vmx/fake.tsv"
ln -s "$supervise" "$place/build/tools/supervise"
cat >"$place/runners/fake/boot" <<'EOF'
#!/bin/sh
case $1 in
--identity) exit 1 ;;
--identify) [ -z "${FAKE_NO_IDENTITY-}" ] || exit 2; echo "1.0/fake" ;;
*) exec "$EXITPATH_TOP/machine" "${BEHAVIOURS-}" "$@" ;;
esac
EOF
chmod +x "$place/runners/fake/boot"
run=$place/runners/fake/run

run_cmd "$run" vmx/fake
is "run: exit status 0" "$status" 0
is "run: all cases" "$(results)" "ok ok ok ok ok ok ok"
cd "$place/runners/fake" || exit 1
run_cmd ./run vmx/fake
is "run in its own folder" "$status" 0
run_cmd sh run vmx/fake
is "run without a path" "$status" 0
cd / || exit 1
run_cmd env BEHAVIOURS=charlie:off "$run" vmx/fake
is "run: a case crashes: exit status 1" "$status" 1

run_cmd env EXITPATH_SELECT='c*
vmx/fake:golf' "$run" vmx/fake
is "EXITPATH_SELECT: one glob per line" "$(printf '%s\n' "$out" | sed -n 's/^ok [0-9]* - \([a-z]*\).*/\1/p' | tr '\n' ' ')" "charlie golf "
cd "$place" || exit 1	# where * would match files
run_cmd env EXITPATH_SELECT='*' "$run" vmx/fake
is "EXITPATH_SELECT: is not expanded to files" "$(results)" "ok ok ok ok ok ok ok"
run_cmd env EXITPATH_SELECT='zulu' "$run" vmx/fake
is "EXITPATH_SELECT: no match: exit status 2" "$status" 2

run_cmd env EXITPATH_RESULTS="$tmp/results" "$run" vmx/fake
is "EXITPATH_RESULTS: TAP" "$(cat "$tmp/results/vmx/fake.tap")" "$out"
is "EXITPATH_RESULTS: console" "$(grep -c '^ok' "$tmp/results/vmx/fake.log")" 7
ok "EXITPATH_RESULTS: case list" cmp "$tmp/results/vmx/fake.tsv" "$cases"

run_cmd env BEHAVIOURS=charlie:hang EXITPATH_SILENCE=2 "$run" vmx/fake
like "EXITPATH_SILENCE" "$(message 3)" '^hang: nothing on the console for 2 s'
run_cmd env BEHAVIOURS=charlie:hang EXITPATH_LIMIT=3 "$run" vmx/fake
like "EXITPATH_LIMIT" "$(message 3)" "^the image's time limit of 3 s"
run_cmd env EXITPATH_SHUFFLE=1 "$run" vmx/fake
unlike "EXITPATH_SHUFFLE" "$out" '^ok 1 - alpha'
run_cmd env EXITPATH_SEED=77 "$run" vmx/fake
like "EXITPATH_SEED" "$out" 'seed 0 77$'
run_cmd env BEHAVIOURS=start:count EXITPATH_COUNT=88 "$run" vmx/fake
like "EXITPATH_COUNT" "$out" '^# count 88$'
run_cmd env BEHAVIOURS=start:without EXITPATH_WITHOUT=ENABLE_EPT "$run" vmx/fake
like "EXITPATH_WITHOUT" "$out" '^# without ENABLE_EPT$'
run_cmd env BEHAVIOURS=start:audit EXITPATH_AUDIT_ALL=1 "$run" vmx/fake
like "EXITPATH_AUDIT_ALL" "$out" '^# all audited$'

printf 'vmx/fake:charlie\t1.0/*\t28\t-\tis wrong\n' >"$place/runners/fake/deviations.tsv"
run_cmd env BEHAVIOURS=charlie:notok "$run" vmx/fake
is "deviations: of this identity" "$status $(results)" "0 ok ok not-todo ok ok ok ok"
run_cmd env BEHAVIOURS=charlie:notok EXITPATH_IDENTITY=2.0/fake FAKE_NO_IDENTITY=1 "$run" vmx/fake
is "deviations: EXITPATH_IDENTITY is believed" "$status" 1
run_cmd env FAKE_NO_IDENTITY=1 "$run" vmx/fake
is "deviations: no identity: exit status 2" "$status" 2
like "deviations: no identity: why" "$err" "cannot say what it is"

# refused NAME WANTED ARGUMENT...: two tests: run-image.sh exits with 2 and says WANTED.
refused()
{
	refused_name=$1 refused_wanted=$2
	shift 2
	run_cmd "$place/scripts/run-image.sh" ${1+"$@"}
	is "$refused_name: exit status 2, nothing printed" "$status:$out" "2:"
	like "$refused_name: says so" "$err" "$refused_wanted"
}
refused "no arguments" 'usage: '
refused "unknown platform" "there is no platform 'none'" none vmx/fake
refused "a path as platform" "is not the name of a platform" ../fake vmx/fake
refused "unknown image" "images/vmx/none is missing; run make" fake vmx/none
refused "no area" "'fake' is not the name of an image" fake fake
refused "a path as image" "is not the name of an image" fake ../vmx/fake
rm "$place/build/tools/supervise"
refused "not built" "tools/supervise is missing; run make" fake vmx/fake
ln -s "$supervise" "$place/build/tools/supervise"

# prove, as ./exitpath run calls it.
rm "$place/runners/fake/deviations.tsv"
cd "$place/build/images" || exit 1
# prove splits --exec at blanks
mkdir "$tmp/plain" && cp -R "$place/." "$tmp/plain/"
cd "$tmp/plain/build/images" || exit 1
run_cmd prove --exec "$tmp/plain/runners/fake/run" vmx/fake
like "prove: the name is the image's" "$out" '^vmx/fake \.\. ok$'
like "prove: passes" "$out" '^Result: PASS$'
run_cmd env BEHAVIOURS=charlie:kill prove --exec "$tmp/plain/runners/fake/run" vmx/fake
is "prove: a crash: exit status 1" "$status" 1
like "prove: a crash: the case" "$out" 'Failed test: *3$'

for run in "$top"/runners/*/run; do
	ok "$run can be executed" test -x "$run"
	ok "$run is the same as the others" cmp "$run" "$top/runners/bochs/run"
done

done_testing
