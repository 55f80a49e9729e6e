#!/bin/sh
# exitpath: help, version, unknown names, selection, exit statuses, what run prints.
. "${0%/*}/lib.sh"
. "${0%/*}/fake/platform.sh"

exitpath=$top/exitpath
fake_image vmx/good ''
fake_image mmu/good 'bravo:skip'
fake_image mmu/bad 'bravo:notok bravo:yaml delta:off'

run_cmd "$exitpath" --help
is "--help: exit status 0" "$status" 0
like "--help: says what to start with" "$out" 'Start with: exitpath run'
run_cmd "$exitpath" --version
is "--version" "$out" "exitpath $(cat "$top/VERSION")"
for arguments in "--help bogus" "help bogus" "-h run"; do
	# shellcheck disable=SC2086	# two words
	run_cmd "$exitpath" $arguments
	is "$arguments: exit status 2" "$status" 2
done
run_cmd "$exitpath" --version extra
is "--version with an argument: exit status 2" "$status" 2
for option in --cpu --bochs; do
	run_cmd "$exitpath" run --on fake "$option" ''
	is "$option '': exit status 2" "$status" 2
	like "$option '': says so" "$err" "^exitpath: $option needs a value"
done
for command in run list; do
	run_cmd "$exitpath" "$command" "vmx/good
mmu/good"
	is "$command with a newline in a glob: exit status 2" "$status" 2
	run_cmd "$exitpath" "$command" ''
	is "$command with an empty glob: exit status 2" "$status" 2
done
# Whoever mistypes a name is told so at once.
for command in "run --on=fake" list; do
	# shellcheck disable=SC2086	# two words
	run_cmd env EXITPATH_BUILD="$tmp/empty" "$exitpath" $command vmx/nobody
	is "$command of no image: exit status 2" "$status" 2
	like "$command of no image: says which there are" "$err" "no case matches .vmx/nobody.; the images of vmx are:"
	is "$command of no image: nothing has been built" "$(ls "$tmp/empty" 2>/dev/null)" ""
done
run_cmd "$exitpath" bench boot vmx/good mmu/good
is "bench boot with two images: exit status 2" "$status" 2
run_cmd "$exitpath" bench entry vmx/good
is "bench entry with an image: exit status 2" "$status" 2
for arguments in vmx/good --runs=2 --on; do
	run_cmd "$exitpath" bench suite "$arguments"
	is "bench suite $arguments: exit status 2" "$status" 2
done
run_cmd "$exitpath" bench suite --help
like "bench suite --help: usage" "$out" '^usage: exitpath bench suite'
run_cmd "$exitpath" bench boot --on=mars
is "bench --on=PLATFORM: exit status 2" "$status" 2
like "bench --on=PLATFORM: lists the platforms" "$err" "'mars'.*broken fake"
run_cmd "$exitpath"
is "no command: exit status 2" "$status" 2
like "no command: usage on standard error" "$err" '^usage: exitpath'
run_cmd "$exitpath" fly
is "unknown command: exit status 2" "$status" 2
like "unknown command: lists the commands" "$err" "'fly'.*run check list"
for command in run check list setup bench coverage; do
	run_cmd "$exitpath" "$command" --help
	is "$command --help: exit status 0" "$status" 0
	like "$command --help: usage" "$out" "^usage: .*$command"
	run_cmd "$exitpath" "$command" --no-such-option
	is "$command with an unknown option: exit status 2" "$status" 2
	like "$command with an unknown option: says which" "$err" "no-such-option"
done
ln -s "$exitpath" "$tmp/link"
run_cmd "$tmp/link" --version
is "through a symbolic link" "$status" 0

run_cmd "$exitpath" run --on mars
is "unknown platform: exit status 2" "$status" 2
like "unknown platform: lists the platforms" "$err" "'mars'.*broken fake"
run_cmd "$exitpath" run --on broken
is "a platform that cannot run: exit status 2" "$status" 2
like "a platform that cannot run: its own message" "$err" '^broken: .*buy one'
run_cmd "$exitpath" run --on fake 'ept/*'
is "no match: exit status 2" "$status" 2
like "no match: lists the images" "$err" '^  vmx/good$'
run_cmd "$exitpath" run --on fake vmx/good:zulu
is "no match in an image: exit status 2" "$status" 2
like "no match in an image: lists its cases" "$err" '^  charlie$'
for option in -j --silence --limit --shuffle=; do
	case $option in
	*=) run_cmd "$exitpath" run --on fake "${option}x1" ;;
	*) run_cmd "$exitpath" run --on fake "$option" 0 ;;
	esac
	is "$option, not a number: exit status 2" "$status" 2
done
for value in 0 x 5x -1 1234567890 ''; do
	run_cmd "$exitpath" run --on fake vmx/good --count "$value"
	is "--count '$value': exit status 2, nothing printed" "$status:$out" "2:"
	like "--count '$value': says so" "$err" '^exitpath: --count'
done
for value in x 5x -1 18446744073709551616 ''; do
	run_cmd "$exitpath" run --on fake vmx/good --seed "$value"
	is "--seed '$value': exit status 2, nothing printed" "$status:$out" "2:"
	like "--seed '$value': says so" "$err" '^exitpath: --seed'
done
run_cmd "$exitpath" run --on fake --limit
is "an option without its value: exit status 2" "$status" 2
run_cmd "$exitpath" run --on fake vmx/good -- --no-such-option
is "behind --, no option of prove: exit status 2" "$status" 2
like "behind --, no option of prove: says which" "$err" "prove says: --no-such-option"
run_cmd "$exitpath" run --on fake vmx/good -- --dry
is "behind --, --dry: exit status 2" "$status" 2
like "behind --, --dry: says what to do" "$err" "exitpath list"
run_cmd "$exitpath" run --on fake --bochs trixie
is "--bochs for another platform: exit status 2" "$status" 2
for option in --kernel --modules --kernel-from --kvm-params --append; do
	run_cmd "$exitpath" run --on fake "$option" x=y vmx/good
	is "$option for another platform: exit status 2, nothing printed" "$status:$out" "2:"
	like "$option for another platform: says so" "$err" "^exitpath: $option is for the platform linux, not for fake"
done
run_cmd "$exitpath" run --on fake --without ENABLE_EPT vmx/good
is "--without for another platform: exit status 2, nothing printed" "$status:$out" "2:"
like "--without for another platform: says so, and what to do" "$err" \
	"^exitpath: --without is for the platforms kvm and linux, .*, not for fake; try --on linux$"
run_cmd "$exitpath" run --on linux --kvm-params vmx/exit-basic
is "--kvm-params without a value: exit status 2, nothing printed" "$status:$out" "2:"
like "--kvm-params without a value: says so" "$err" "takes NAME=VALUE, .*not .vmx/exit-basic."
run_cmd "$exitpath" run --on fake --kernel
is "--kernel without a file: exit status 2" "$status" 2
for options in '--kernel-from jessie' '--kernel-from sid --kernel /bin/sh' '--kernel tiny --modules /' \
	'--modules /' '--matrix --kvm-params ept=0' '--matrix --without ENABLE_EPT' '--without='; do
	# shellcheck disable=SC2086	# words
	run_cmd "$exitpath" run --on fake $options vmx/good
	is "$options: exit status 2, nothing printed" "$status:$out" "2:"
done
run_cmd "$exitpath" run --on fake --matrix vmx/good
is "--matrix for another platform: exit status 2, nothing printed" "$status:$out" "2:"
like "--matrix for another platform: says so" "$err" "^exitpath: --matrix is for the platform linux"
run_cmd "$exitpath" run --on linux --matrix --help
is "--matrix --help: once" "$status $(printf '%s\n' "$out" | grep -c ^usage)" "0 1"
run_cmd "$exitpath" setup --kernel mine
is "setup --kernel with another word than tiny: exit status 2" "$status" 2
like "setup --kernel with another word than tiny: what to do" "$err" 'setup --kernel takes tiny, not .mine.'
not_ok "nothing of these has made a run" test -e "$tmp/build/results"

run_cmd "$exitpath" run --on fake vmx/good
is "all ok: exit status 0" "$status" 0
like "prove's line" "$out" '^vmx/good \.\. ok$'
like "summary: platform and counts" "$out" '^fake 1\.0/fake: 7 cases in 1 image$'
like "summary: what became of them" "$out" '7 ok, 0 not ok, 0 skipped, 0 known deviations, 0 unexpected passes'
like "result" "$out" '^result: as expected$'
is "nothing on standard error" "$err" ""
run=$tmp/build/results/latest
ok "results: .tap" grep -q '^ok 7 - golf' "$run/vmx/good.tap"
ok "results: .log" test -s "$run/vmx/good.log"
ok "results: .tsv" cmp "$run/vmx/good.tsv" "$top/tests/fake/cases.tsv"
is "results: platform" "$(cat "$run/platform")" "fake 1.0/fake"

run_cmd "$exitpath" run --on fake -j 2 --cpu old
is "a case not ok: exit status 1" "$status" 1
like "--cpu reaches the platform" "$out" '^fake 1\.0/old: 21 cases in 3 images$'
like "a bad case: its id and section" "$out" '^not ok mmu/bad:bravo \[28\.1\.2 Section of bravo\]$'
like "a bad case: the message" "$out" '^    message: .*expected this: got that'
like "a bad case: where" "$out" '^    at: x86/vmx/fake.c:57$'
like "a machine that died: that case" "$out" '^not ok mmu/bad:delta '
like "skips, with the reason" "$out" '^ +1  needs "a#b"$'
like "counts" "$out" '18 ok, 2 not ok, 1 skipped'
like "result, unexpected" "$out" '^result: NOT AS EXPECTED$'

run_cmd "$exitpath" run --on fake 'mmu/*' 'vmx/good:[bc]*'
like "globs of images and cases" "$out" ': 16 cases in 3 images$'
is "only the cases that match" "$(sed -n 's/^ok [0-9]* - \([a-z]*\).*/\1/p' "$run/vmx/good.tap" | tr '\n' ' ')" "bravo charlie "

run_cmd "$exitpath" run --on fake --shuffle=7 vmx/good
is "--shuffle: exit status 0" "$status" 0
like "--shuffle: how to repeat it" "$err" 'shuffle=7'
first=$(grep '^ok' "$run/vmx/good.tap")
unlike "--shuffle: another order" "$(echo "$first" | sed -n 1,2p | tr '\n' ' ')" 'alpha.*bravo'
run_cmd "$exitpath" run --on fake --shuffle=7 vmx/good
is "--shuffle: the same seed, the same order" "$(grep '^ok' "$run/vmx/good.tap")" "$first"
run_cmd "$exitpath" run --on fake --shuffle vmx/good
is "--shuffle without a seed: exit status 0" "$status" 0
again=$(printf '%s\n' "$err" | sed -n 's/.*to repeat the order: //p')
first=$(grep '^ok' "$run/vmx/good.tap")
run_cmd "$exitpath" run --on fake "$again" vmx/good
is "--shuffle without a seed: the seed that it names gives its order" "$(grep '^ok' "$run/vmx/good.tap")" "$first"

printf 'vmx/*:alpha\t1.*\t28.1.1\t-\tit forgets alpha\nmmu/bad:*\t1.0/fake\t28.1\tbug 1\tit is bad\nmmu/bad:delta:crash\t1.0/fake\t28.1\t-\tit goes off\n' \
	>"$tmp/runners/fake/deviations.tsv"
fake_image vmx/good 'alpha:notok'
run_cmd "$exitpath" run --on fake vmx/good
is "a known deviation: exit status 0" "$status" 0
like "a known deviation: named, with its reference" "$out" '^  vmx/good:alpha  SDM 28\.1\.1: it forgets alpha'
like "a known deviation: counted" "$out" '6 ok, 0 not ok, 0 skipped, 1 known deviation,'
run_cmd "$exitpath" run --on fake mmu/bad
is "an unexpected pass: exit status 1" "$status" 1
like "an unexpected pass: named" "$out" '^  mmu/bad:alpha  SDM 28\.1'
like "an unexpected pass: counted" "$out" '0 ok, 0 not ok, 0 skipped, 2 known deviations, 5 unexpected passes'
rm "$tmp/runners/fake/deviations.tsv"
echo "too few columns" >"$tmp/runners/fake/deviations.tsv"
run_cmd "$exitpath" run --on fake mmu/bad
is "a malformed list of deviations: exit status 2, nothing runs" "$status:$out" "2:"
like "a malformed list of deviations: where" "$err" 'deviations.tsv:1: not 5 columns'
rm "$tmp/runners/fake/deviations.tsv"
mkdir "$tmp/runners/fake/deviations.tsv"
run_cmd "$exitpath" run --on fake mmu/bad
is "a folder for a list of deviations: exit status 2, nothing runs" "$status:$out" "2:"
rmdir "$tmp/runners/fake/deviations.tsv"

fake_image vmx/good 'start:status2'
run_cmd "$exitpath" run --on fake vmx/good
is "a machine that cannot be started: exit status 2" "$status" 2
like "a machine that cannot be started: why" "$out" 'no such device'
like "result, broken" "$out" '^result: BROKEN SET-UP$'
fake_image vmx/good 'bravo:bail'
run_cmd "$exitpath" run --on fake
is "Bail out!: exit status 2" "$status" 2
like "Bail out!: the reason" "$out" 'vmx/good: .*the tree is broken'
mv "$tmp/build/tools/supervise" "$tmp/build/tools/gone"
run_cmd "$exitpath" run --on fake mmu/good
is "no supervise: exit status 2" "$status" 2
mv "$tmp/build/tools/gone" "$tmp/build/tools/supervise"

fake_image vmx/good ''
run_cmd "$exitpath" run --on fake vmx/good -- -v
like "options after -- are prove's" "$out" '^ok 3 - charlie'
run_cmd "$exitpath" run --on fake -j2 vmx/good --silence=2 --limit=9
is "options with = and without a blank" "$status" 0

# Of the images named at least one must have a use for it.
run_cmd "$exitpath" run --on fake vmx/good --count 12
is "--count of no use: exit status 2, nothing printed" "$status:$out" "2:"
like "--count of no use: says so" "$err" '^exitpath: --count: none of these images'
like "--count of no use: names no image where none has" "$err" '^  none$'
fake_image vmx/random ''
echo count >"$tmp/build/images/vmx/random.takes"
run_cmd "$exitpath" run --on fake vmx/good 'mmu/*' --count 12
is "--count for another image: exit status 2, nothing printed" "$status:$out" "2:"
like "--count for another image: names those that have a use for it" "$err" '^  vmx/random$'
run_cmd "$exitpath" run --on fake 'vmx/*' --count 12
is "--count for one of several images" "$status" 0
rm "$tmp/build/images/vmx/random"*
echo count >"$tmp/build/images/vmx/good.takes"
fake_image vmx/good 'start:count start:seed'
run_cmd "$exitpath" run --on fake vmx/good --count 12 --seed=34 -- -v
like "--count reaches the image" "$out" '^# count 12$'
like "--seed reaches the image" "$out" 'seed 0 34 '
run_cmd "$exitpath" run --on fake vmx/good --seed 18446744073709551615 -- -v
like "the greatest seed reaches the image" "$out" 'seed 4294967295 4294967295 '
fake_image vmx/good 'start:audit bravo:reproduce'
run_cmd "$exitpath" run --on fake vmx/good -- -v
like "without --audit-all" "$out" '^# a sample audited$'
run_cmd "$exitpath" run --audit-all --on fake vmx/good -- -v
like "--audit-all reaches the image" "$out" '^# all audited$'
like "--audit-all is part of how to repeat something" "$out" \
	'^# reproduce: ./exitpath run vmx/random --seed 7 --count 1 --audit-all --on fake$'
fake_image vmx/good 'bravo:hang'
echo '1 60' >"$EXITPATH_RUNNERS/fake/patience"
run_cmd "$exitpath" run --audit-all --on fake vmx/good -- -v
like "--audit-all: machines have five times as long" "$out" 'hang: nothing on the console for 5 s'
run_cmd "$exitpath" run --audit-all --silence 1 --on fake vmx/good -- -v
like "--audit-all: --silence is as given" "$out" 'hang: nothing on the console for 1 s'
rm "$EXITPATH_RUNNERS/fake/patience"
fake_image vmx/good 'bravo:reproduce'
run_cmd "$exitpath" run --on fake --cpu "a b" vmx/good -- -v
like "how to repeat something: on this machine" "$out" \
	"^# reproduce: ./exitpath run vmx/random --seed 7 --count 1 --on fake --cpu 'a b'$"
fake_image vmx/good ''

for shell in dash posh 'busybox sh'; do
	if command -v "${shell%% *}" >/dev/null; then
		# shellcheck disable=SC2086	# a command with its argument
		run_cmd $shell "$top/scripts/run.sh" --on fake vmx/good
		is "$shell runs run.sh" "$status" 0
	else
		skip "$shell runs run.sh" "there is no $shell"
	fi
done

run_cmd "$exitpath" list vmx/good
is "list: exit status 0" "$status" 0
is "list: id, section, title" "$(echo "$out" | sed -n 2p)" "vmx/good:bravo	28.1.2	Section of bravo"
run_cmd "$exitpath" list --by image
is "list --by image" "$out" "mmu/bad	7
mmu/good	7
vmx/good	7"
run_cmd "$exitpath" list --by moon
is "list by what is not there: exit status 2" "$status" 2
run_cmd "$exitpath" list 'x*'
is "list, no match: exit status 2" "$status" 2

# The platform linux, as a fake: each line of its matrix is a run, with what it hides.
mkdir -p "$tmp/build/runners/linux" "$tmp/build/runners/kvm"
cp -R "$tmp/runners/fake" "$tmp/runners/linux"
cp "$tmp/build/runners/fake/machine.dtb" "$tmp/build/runners/linux"
ln -s "$build/runners/kvm/vmm" "$tmp/build/runners/kvm/vmm"
# shellcheck disable=SC2016	# for the script
sed 's|echo "1.0/.*"|echo "1.0/${EXITPATH_KVM_PARAMS-none}-${EXITPATH_WITHOUT:-all}" \| tr " " ,|' "$tmp/runners/fake/boot" \
	>"$tmp/runners/linux/boot"
printf '# a comment\nnested=1 ept=0\nnested=1 --without ENABLE_EPT,EPT_AD\n' >"$tmp/runners/linux/matrix"
run_cmd "$exitpath" run --on linux --matrix vmx/good
is "--matrix: exit status" "$status" 0
like "--matrix: a line of parameters" "$out" '^linux 1\.0/nested=1,ept=0-all: 7 cases'
like "--matrix: a line that hides something" "$out" '^linux 1\.0/nested=1-ENABLE_EPT,EPT_AD: 7 cases'
like "--matrix: says what is hidden" "$err" '^exitpath: hidden from the guest, where it is there: PROC2_ENABLE_EPT .*EPT_AD '
like "--matrix: the report" "$out" '^  nested=1 --without ENABLE_EPT,EPT_AD as expected$'
printf 'nested=1 --without NONSENSE\nnested=1\n' >"$tmp/runners/linux/matrix"
run_cmd "$exitpath" run --on linux --matrix vmx/good
is "--matrix: what cannot be hidden is no end, exit status" "$status" 2
like "--matrix: what cannot be hidden: BROKEN" "$out" '^  nested=1 --without NONSENSE  *BROKEN$'
like "--matrix: the next line runs" "$out" '^  nested=1  *as expected$'
run_cmd "$exitpath" run --on linux --without=ENABLE_EPT vmx/good
like "--without alone" "$out" '^linux 1\.0/none-ENABLE_EPT: 7 cases'
run_cmd "$exitpath" run --without help
is "--without help: exit status" "$status" 0
like "--without help: the names" "$out" '^PROC2_ENABLE_EPT '
done_testing
