#!/bin/sh
# exitpath run: boots the images on a platform, under prove, and says what came out.

set -u
. "${0%/*}/common.sh"
. "${0%/*}/select.sh"

usage()
{
	cat <<END
usage: exitpath run [OPTION...] [GLOB...] [-- PROVE-OPTION...]

Boots every image, or those that a GLOB matches, and prints what does not behave as the SDM
says. Sets up what it needs first. GLOB: AREA/IMAGE or AREA/IMAGE:CASE, for instance
'mmu/*' or 'vmx/exit-basic:cpuid*'; exitpath list shows them.

  --on PLATFORM     where to boot (default: bochs); here: $(platforms | tr '\n' ' ')
  --cpu MODEL       the CPU model (default: the platform's own)
  --bochs WHICH     which Bochs, also below linux and core-*: a program, or trixie or sid for Debian's newer ones
  -j N              so many images at a time (default: one per CPU)
  --shuffle[=SEED]  images and cases in another order
  --seed N          the seed of what images draw at random (default: 1)
  --count N         how often those draw that have a number for it, such as vmx/random (default: 512 walks);
                    an error where none of the images has
  --audit-all       audit every VM entry in full, those of sweeps and random walks as well, of which else a
                    sample is; machines have five times as long
  --without NAMES   hide VMX capabilities from the guest, with commas between them, as KVM lets a user-space
                    hypervisor do; on the platforms kvm and linux. ENABLE_EPT,ACTIVITY_HLT for instance;
                    what is nothing without them goes with them. --without help lists the names
  --silence SECONDS a machine that prints nothing for so long has hung (default: 20)
  --limit SECONDS   for one image as a whole (default: 900)
  -- OPTION...      for prove: -v, --timer, --formatter TAP::Formatter::JUnit, ...

Only with --on linux, where a Linux kernel boots inside Bochs and its KVM runs the images:

  --kernel FILE     the kernel: bzImage or vmlinux, or tiny: built here from Debian's source, which
                    takes long, once, and boots in a seventh of the time
                    (default: Debian's cloud kernel, fetched)
  --modules DIR     where its kvm.ko and kvm-intel.ko are, when KVM is not built in
  --kernel-from SUITE
                    Debian trixie's or sid's cloud kernel, fetched
  --kvm-params TEXT parameters of kvm_intel, and kvm.NAME=VALUE (default: nested=1)
  --matrix          one run after another with the parameters and the hidden capabilities in
                    runners/linux/matrix: ept=0, vpid=0, ...
  --append TEXT     more for the kernel's command line

Exit status: 0 all as expected (ok, skipped, known deviation), 1 something unexpected,
2 the set-up or the command line is wrong.
END
}

# choose_bochs WHICH: sets EXITPATH_BOCHS; fetches trixie's or sid's when it is not there yet.
choose_bochs()
{
	case $1 in
	trixie | sid)
		EXITPATH_BOCHS=$EXITPATH_STATE/bochs-$1/bochs
		[ -x "$EXITPATH_BOCHS" ] || run_child "$EXITPATH_TOP/scripts/fetch-bochs.sh" "$1" || exit 2
		;;
	*/*)
		if [ ! -x "$1" ] || [ -d "$1" ]; then
			die "--bochs: $1 is not a program"
		fi
		case $1 in
		/*) EXITPATH_BOCHS=$1 ;;
		*) EXITPATH_BOCHS=$PWD/$1 ;;
		esac
		;;
	*)
		EXITPATH_BOCHS=$(command -v "$1") ||
			die "--bochs: there is no command '$1'; give a path, or trixie or sid"
		;;
	esac
}

# start_session: on a platform whose machines serve many images, starts what keeps them; it ends with
# this shell. Sets EXITPATH_SESSION, which boot reads.
start_session()
{
	[ -x "$platform/serve" ] || return 0
	EXITPATH_SESSION=$(mktemp -u "${TMPDIR:-/tmp}/exitpath-session.XXXXXX") || exit 2
	export EXITPATH_SESSION
	setsid "$platform/serve" "$EXITPATH_SESSION" "$jobs" </dev/null >&2 &
	session=$!
	session_tries=0
	until [ -S "$EXITPATH_SESSION" ]; do
		{ kill -s 0 "$session" 2>/dev/null && [ "$session_tries" -lt 300 ]; } ||
			die "what keeps the machines of $on does not start"
		session_tries=$((session_tries + 1))
		sleep 0.1 2>/dev/null || sleep 1
	done
}

# end_session: ends it before its shell ends, and waits until nothing of it is left.
end_session()
{
	[ -n "$session" ] || return 0
	kill -s TERM "$session" 2>/dev/null
	wait "$session" 2>/dev/null
	session=
}

# The kernel that a run has for itself ends with it.
cleanup()
{
	[ -z "$kernel" ] || rm -rf "$EXITPATH_STATE/linux/own-$$"
}

# for_linux OPTION VALUE: dies unless the options of the platform linux are for it.
for_linux()
{
	[ -z "$2" ] || [ "$on" = linux ] || die "$1 is for the platform linux, not for $on"
}

# show_capabilities: what --without can hide.
show_capabilities()
{
	run_child "$EXITPATH_TOP/scripts/setup.sh" --for list >&2 || exit 2
	"$EXITPATH_BUILD/runners/kvm/vmm" --without help
	exit
}

# need_hidden: dies when --without names what cannot be hidden, before anything is fetched. Sets $hidden.
need_hidden()
{
	[ -n "$EXITPATH_WITHOUT" ] || return 0
	run_child "$EXITPATH_TOP/scripts/setup.sh" --for list || exit 2
	hidden=$("$EXITPATH_BUILD/runners/kvm/vmm" --without "$EXITPATH_WITHOUT") || exit 2
}

# say_hidden: what a run with --without is without. KVM may still refuse; then there is no result.
say_hidden()
{
	[ -z "$EXITPATH_WITHOUT" ] ||
		say "hidden from the guest, where it is there: $(put "$hidden" | sed -n 2p)"
}

# quoted TEXT: as a shell reads it.
quoted()
{
	case $1 in
	*[!A-Za-z0-9._/=,:-]*) printf "'%s'\n" "$(printf "%s\n" "$1" | sed "s/'/'\\\\''/g")" ;;
	*) printf "%s\n" "$1" ;;
	esac
}

# absolute PATH: the same from any folder.
absolute()
{
	case $1 in
	/*) printf '%s\n' "$1" ;;
	*) printf '%s\n' "$PWD/$1" ;;
	esac
}

# choose_kernel: hands the options of the platform linux over to its scripts.
choose_kernel()
{
	for_linux --kernel "$kernel"
	for_linux --modules "$modules"
	for_linux --kvm-params "$kvm_params"
	for_linux --append "$append"
	for_linux --kernel-from "$kernel_from"
	[ "$on" = linux ] || return 0
	case $kernel_from in
	'') ;;
	trixie | sid)
		[ -z "$kernel$modules" ] || die "--kernel-from and --kernel exclude each other"
		export EXITPATH_KERNEL_NAME="$kernel_from"
		;;
	*) die "--kernel-from takes trixie or sid, not '$kernel_from'" ;;
	esac
	if [ "$kernel" = tiny ]; then
		[ -z "$modules" ] || die "--modules: the tiny kernel has KVM built in"
		export EXITPATH_KERNEL_NAME=tiny
	elif [ -n "$kernel" ]; then
		[ -f "$kernel" ] || die "--kernel: there is no file $kernel"
		EXITPATH_KERNEL=$(absolute "$kernel")
		# A folder of this run alone: another may have another kernel at the same time, or a newer file of that name.
		EXITPATH_KERNEL_NAME=own-$$
		trap cleanup EXIT
		export EXITPATH_KERNEL EXITPATH_KERNEL_NAME
	fi
	if [ -n "$modules" ]; then
		[ -n "$kernel" ] || die "--modules needs --kernel: the kernel that they are for"
		[ -d "$modules" ] || die "--modules: there is no folder $modules"
		[ -n "$(find "$modules" -name 'kvm*.ko*' | head -n 1)" ] ||
			die "--modules: no kvm.ko and no kvm-intel.ko in $modules: name the folder where they are, such as a kernel tree"
		EXITPATH_MODULES=$(absolute "$modules")
		export EXITPATH_MODULES
	fi
	[ -z "$kvm_params" ] || export EXITPATH_KVM_PARAMS="$kvm_params"
	[ -z "$append" ] || export EXITPATH_APPEND="$append"
}

# run_matrix ARGUMENT...: this command once for each line of runners/linux/matrix; ends with the worst status.
run_matrix()
{
	case " $* " in
	*" --kvm-params"*) die "--matrix and --kvm-params exclude each other" ;;
	*" --without"*) die "--matrix and --without exclude each other" ;;
	esac
	case " $* " in
	*" --on linux "* | *" --on=linux "*) ;;
	*) die "--matrix is for the platform linux: give --on linux, too" ;;
	esac
	for argument; do
		shift
		[ "$argument" = --matrix ] || set -- "$@" "$argument"
	done
	matrix_worst=0
	matrix_report=
	while IFS= read -r matrix_line <&3; do
		case $matrix_line in
		'' | '#'*) continue ;;
		esac
		printf '\n== %s\n' "$matrix_line"
		matrix_status=0
		case $matrix_line in
		*' --without '*)
			run_child "$0" --kvm-params "${matrix_line%% --without *}" \
				--without "${matrix_line##* --without }" "$@" || matrix_status=$?
			;;
		*) run_child "$0" --kvm-params "$matrix_line" "$@" || matrix_status=$? ;;
		esac
		[ "$matrix_status" -le "$matrix_worst" ] || matrix_worst=$matrix_status
		case $matrix_status in
		0) matrix_word='as expected' ;;
		1) matrix_word='NOT AS EXPECTED' ;;
		*) matrix_word='BROKEN' ;;
		esac
		matrix_report="$matrix_report  $(printf '%-32s' "$matrix_line") $matrix_word$newline"
		# What is broken is so with the next parameters, too; but for what this processor or KVM cannot hide.
		case $matrix_status:$matrix_line in
		[01]:* | *:*' --without '*) ;;
		*) break ;;
		esac
	done 3<"$EXITPATH_RUNNERS/linux/matrix"
	printf '\n%s' "$matrix_report"
	exit "$matrix_worst"
}

# need_parameters TEXT: dies unless each word of TEXT is NAME=VALUE.
need_parameters()
{
	need_text --kvm-params "$1"
	for need_parameters_word in $1; do
		case $need_parameters_word in
		?*=*) ;;
		*) die "--kvm-params takes NAME=VALUE, as in 'nested=1 ept=0', not '$need_parameters_word'" ;;
		esac
	done
}

# need_count IMAGES: dies when none of IMAGES, one per line, has a number that --count gives; says which have.
need_count()
{
	need_count_all=$(image_names | while IFS= read -r need_count_image; do
		grep -qx count "$EXITPATH_BUILD/images/$need_count_image.takes" 2>/dev/null && put "$need_count_image"
	done)
	[ -z "$({ put "$need_count_all" && put "$1"; } | sed '/^$/d' | sort | uniq -d)" ] || return 0
	say "--count: none of these images draws as often as it is told; those that do are:"
	printf '%s\n' "${need_count_all:-none}" | sed 's/^/  /' >&2
	die "leave --count out, or name one of them"
}

# shuffled SEED: its input lines in an order that depends on nothing but SEED.
shuffled()
{
	awk -v seed="$1" 'BEGIN { srand(seed) } { printf "%.9f\t%s\n", rand(), $0 }' | sort | cut -f 2-
}

# new_run: makes the folder of this run and names it in $run.
new_run()
{
	run=$EXITPATH_STATE/results/$(date +%Y%m%d-%H%M%S)-$on-$$
	mkdir -p "$run" || die "cannot make $run"
	printf '%s %s\n' "$on" "$identity" >"$run/platform" || exit 2
	# In one step: another run may be doing the same.
	if ! ln -s "${run##*/}" "$run/latest" ||
		! mv -fT "$run/latest" "$EXITPATH_STATE/results/latest"; then
		die "cannot write $EXITPATH_STATE/results/latest"
	fi
}

on=bochs
bochs=
jobs=$(processors)
EXITPATH_CPU=${EXITPATH_CPU:-}
EXITPATH_AGAIN=
EXITPATH_SHUFFLE=
EXITPATH_SEED=${EXITPATH_SEED:-}
EXITPATH_COUNT=${EXITPATH_COUNT:-}
EXITPATH_AUDIT_ALL=
EXITPATH_WITHOUT=
EXITPATH_SILENCE=
EXITPATH_LIMIT=
kernel=
modules=
kernel_from=
kvm_params=
append=
session=
globs=
newline='
'
case " ${*-} " in
*" --help "* | *" -h "*) ;;
*" --matrix "*) run_matrix "$@" ;;
esac
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--matrix) # only with --help behind it
		shift
		continue
		;;
	--audit-all)
		EXITPATH_AUDIT_ALL=1
		EXITPATH_AGAIN="${EXITPATH_AGAIN:+$EXITPATH_AGAIN }$1"
		shift
		continue
		;;
	--on | --cpu | --bochs | --without | --silence | --limit | --seed | --count | -j | \
		--kernel | --modules | --kernel-from | --kvm-params | --append)
		need_value "$1" $#
		option=$1
		value=$2
		shift 2
		;;
	--on=* | --cpu=* | --bochs=* | --without=* | --silence=* | --limit=* | --shuffle=* | \
		--seed=* | --count=* | \
		--kernel=* | --modules=* | --kernel-from=* | --kvm-params=* | --append=*)
		option=${1%%=*}
		value=${1#*=}
		shift
		;;
	-j*)
		option=-j
		value=${1#-j}
		shift
		;;
	--shuffle)
		option=$1
		value=$(awk 'BEGIN { srand(); print srand() % 999999999 + 1 }')
		shift
		;;
	--)
		shift
		break
		;;
	-*)
		die "run: unknown option '$1' (see exitpath run --help)"
		;;
	*)
		need_glob "$1"
		globs=$globs$1$newline
		shift
		continue
		;;
	esac
	case $option in
	--on | --cpu | --bochs | --without | --kernel | --modules | --kvm-params | --kernel-from | --append)
		EXITPATH_AGAIN="${EXITPATH_AGAIN:+$EXITPATH_AGAIN }$option $(quoted "$value")"
		;;
	esac
	case $option in
	--on) on=$value ;;
	--cpu) need_text --cpu "$value" && EXITPATH_CPU=$value ;;
	--bochs) need_text --bochs "$value" && bochs=$value ;;
	--without) need_text --without "$value" && EXITPATH_WITHOUT=$value ;;
	-j) need_number -j "$value" && jobs=$value ;;
	--silence) need_number --silence "$value" && EXITPATH_SILENCE=$value ;;
	--limit) need_number --limit "$value" && EXITPATH_LIMIT=$value ;;
	--seed) need_seed --seed "$value" && EXITPATH_SEED=$value ;;
	--count) need_number --count "$value" && EXITPATH_COUNT=$value ;;
	--shuffle) need_number --shuffle "$value" && EXITPATH_SHUFFLE=$value ;;
	--kernel) need_text --kernel "$value" && kernel=$value ;;
	--modules) need_text --modules "$value" && modules=$value ;;
	--kvm-params) need_parameters "$value" && kvm_params=$value ;;
	--kernel-from) need_text --kernel-from "$value" && kernel_from=$value ;;
	--append) need_text --append "$value" && append=$value ;;
	esac
done
# What is left is for prove.

[ "$EXITPATH_WITHOUT" != help ] || show_capabilities
need_platform "$on"
case $on:$EXITPATH_WITHOUT in
*: | kvm:* | linux:*) ;;
*) die "--without is for the platforms kvm and linux, whose KVM can hide capabilities from its guest, not for $on; try --on linux" ;;
esac
platform=$EXITPATH_RUNNERS/$on
EXITPATH_BOCHS=${EXITPATH_BOCHS:-$(configured BOCHS)}
EXITPATH_QEMU=${EXITPATH_QEMU:-$(configured QEMU)}
if [ -n "$bochs" ]; then
	case $on:${EXITPATH_CORE_OUTER:-bochs} in
	bochs:* | linux:* | core-*:bochs) ;;
	*) die "--bochs is for the platforms bochs, linux and core-*, where Bochs is underneath, not for $on" ;;
	esac
	choose_bochs "$bochs"
fi
choose_kernel
# Neither prove nor Bochs can take a path with a blank.
case $EXITPATH_TOP in
*[[:blank:]]*) die "run: the path '$EXITPATH_TOP' has a blank; put exitpath into another folder" ;;
esac
case $on:${TMPDIR-} in
bochs:*[[:blank:]]* | linux:*[[:blank:]]* | core-*:*[[:blank:]]*)
	die "run: Bochs cannot take a path with a blank; set TMPDIR to another folder than '$TMPDIR'"
	;;
esac
# How long its machines may take: the platform knows, in two numbers.
if [ -f "$platform/patience" ]; then
	read -r silence limit <"$platform/patience"
else
	silence=20
	limit=900
fi
# Sweeps take that much longer.
[ -z "$EXITPATH_AUDIT_ALL" ] || limit=$((limit * 5)) silence=$((silence * 5))
EXITPATH_SILENCE=${EXITPATH_SILENCE:-$silence}
EXITPATH_LIMIT=${EXITPATH_LIMIT:-$limit}
export EXITPATH_SEED EXITPATH_COUNT EXITPATH_AUDIT_ALL EXITPATH_AGAIN EXITPATH_WITHOUT
export EXITPATH_CPU EXITPATH_SHUFFLE EXITPATH_SILENCE EXITPATH_LIMIT EXITPATH_BOCHS EXITPATH_QEMU
no_rehearsal run
need_images "$globs"
need_hidden
# Most often everything is there: who can say who he is can run, and need not be asked again.
identity=
ready=--on
! ask_platform "$on" --identify || {
	identity=$answer
	ready=--ready
}
run_child "$EXITPATH_TOP/scripts/setup.sh" "$ready" "$on" || exit 2
case " ${*-} " in
*" --dry "* | *" -D "*) die "run: with --dry prove runs nothing: ./exitpath list says what there is" ;;
esac
# prove takes an option that it does not know for the name of a test.
if [ $# -gt 0 ]; then
	prove_said=$(prove --norc --dry "$@" exitpath 2>&1 | sed "/^exitpath\$/d" | head -n 1)
	[ -z "$prove_said" ] ||
		die "run: behind -- come options of prove and nothing else; prove says: $prove_said"
fi

ids=$(select_ids "$globs") || exit 2
EXITPATH_SELECT=$(id_globs "$globs")
images=$(put "$ids" | sed 's/:.*//' | uniq)
[ -n "$images" ] || die "there are no images in $EXITPATH_BUILD/images"
[ -z "$EXITPATH_COUNT" ] || need_count "$images"
if [ -n "$EXITPATH_SHUFFLE" ]; then
	images=$(put "$images" | shuffled "$EXITPATH_SHUFFLE")
	say "shuffled; to repeat the order: --shuffle=$EXITPATH_SHUFFLE"
fi
[ -n "$identity" ] || {
	ask_platform "$on" --identify || die "$answer"
	identity=$answer
}
[ ! -e "$platform/deviations.tsv" ] ||
	"$EXITPATH_BUILD/tools/supervise" --check-deviations "$platform/deviations.tsv" || exit 2
say_hidden
new_run
EXITPATH_RESULTS=$run
EXITPATH_IDENTITY=$identity
# One image that bails out must not cost the results of the others: the summary says it at the end.
EXITPATH_GO_ON=1
export EXITPATH_RESULTS EXITPATH_IDENTITY EXITPATH_SELECT EXITPATH_GO_ON

start_session
interrupted_note="what ran until then is in $run"
cd "$EXITPATH_BUILD/images" || exit 2
# shellcheck disable=SC2086	# $images is a list
run_child prove --norc --exec "$platform/run" -j "$jobs" ${1+"$@"} $images
prove_status=$?
end_session
# A formatter owns standard output: the summary must not spoil its XML.
case " ${*-} " in
*" --formatter"* | *" --junit"*) exec >&2 ;;
esac
# shellcheck disable=SC2086	# $images is a list
awk -v run="$run" -v platform="$on $identity" -v deviations="$platform/deviations.tsv" \
	-v prove_status="$prove_status" -f "$EXITPATH_TOP/scripts/summary.awk" $images
