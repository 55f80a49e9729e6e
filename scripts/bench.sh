#!/bin/sh
# exitpath bench boot: what one boot of an image costs on each platform; bench entry: what a VM entry costs;
# bench core: what the exits of the bundled core cost.

set -u
. "${0%/*}/common.sh"
. "${0%/*}/select.sh"

usage()
{
	cat <<END
usage: exitpath bench boot [--on PLATFORM]... [--runs N] [AREA/IMAGE]
       exitpath bench entry [--on PLATFORM]... [--runs N]
       exitpath bench suite [--on PLATFORM]
       exitpath bench core [--on PLATFORM]...
       exitpath bench mutants [GLOB]...

Boots one image (default: guest/cpuid-basic) with its first case alone so many times on each platform that can run here,
from the start of the process to its end, and prints the CPU time (user and system, of all
processes) beside the bar that is set for it. Where a platform can tell, the guest's own share is a column
of its own and not in the others.

With "entry": how many VM entries, each with its exit, it makes in a CPU second, with the audit of every one and without.

With "suite": what all images of vmx/* and ept/* cost, with the audit and without, beside the bars; exitpath bench suite
--help.

With "core": what each kind of exit costs in the bundled core (lib/x86/hv), in instructions on a platform whose
time-stamp counter counts them (bochs, the default), else in cycles; beside the bare round trip. The cases of
hv/core-speed hold the core to its bars.

With "mutants": breaks the core on purpose and says which case notices; exitpath bench mutants --help.

  --on PLATFORM   only there; here: $(platforms | tr '\n' ' ')
  --runs N        how often (default: 11)

Exit status: 0 all bars met, 1 a bar not met, 2 the set-up or the command line is wrong.
END
}

# bar PLATFORM: the most CPU seconds that a boot may cost; nothing where no bar is set.
bar()
{
	case $1 in
	bochs) echo 0.5 ;;
	kvm) echo 0.02 ;;
	esac
}

case ${1-} in
mutants | suite)
	part=$1
	shift
	exec "${0%/*}/bench-$part.sh" ${1+"$@"}
	;;
esac
on=
runs=11
image=
what=
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--on | --runs)
		need_value "$1" $#
		option=$1
		value=$2
		shift 2
		;;
	--on=* | --runs=*)
		option=${1%%=*}
		value=${1#*=}
		shift
		;;
	-*)
		die "bench: unknown option '$1' (see exitpath bench --help)"
		;;
	*)
		if [ -z "$what" ]; then
			what=$1
		elif [ -z "$image" ]; then
			image=$1
		else
			die "bench: one image at a time, not $image and $1"
		fi
		shift
		continue
		;;
	esac
	case $option in
	--on)
		need_platform "$value"
		on="$on $value"
		;;
	--runs)
		need_number --runs "$value"
		[ "$value" -le 1000 ] || die "--runs: at most 1000"
		runs=$value
		;;
	esac
done
case $what in
boot) : "${image:=guest/cpuid-basic}" ;;
entry)
	[ -z "$image" ] || die "bench entry takes no image; it boots vmx/entry-speed"
	image=vmx/entry-speed
	;;
core)
	[ -z "$image" ] || die "bench core takes no image; it boots hv/core-speed"
	image=hv/core-speed
	on=${on:-bochs}
	;;
*) die "there is no benchmark '$what'; there are: exitpath bench boot, entry, suite, core, mutants" ;;
esac

# measure PLATFORM CASE: boots the image with that case alone so many times; sets median, least, most, guest, clock.
measure()
{
	tree=$folder/tree
	cp "$EXITPATH_BUILD/runners/$1/machine.dtb" "$tree" || exit 2
	fdtput -p -t u "$tree" /chosen exitpath,cases "$2" || exit 2
	# The output of run_child's child, through a file: a substitution would be a shell of its own.
	out=$folder/out
	run_child timeout -k 5 300 "$EXITPATH_BUILD/tools/cputime" "$runs" "$EXITPATH_RUNNERS/$1/boot" "$elf" "$tree" >"$out"
	measured=$?
	read -r median least most guest clock <"$out"
	[ "$measured" -ne 124 ] || die "platform $1 does not end $runs boots of $image in 300 s"
	[ "$measured" -eq 0 ] || die "platform $1 does not boot $image"
}

# must_have_run PLATFORM: false where the image that has just run was skipped; asked for by name, it must run.
must_have_run()
{
	grep -q '^ok .* # SKIP' "$folder/tap" || return 0
	why=$(sed -n 's/^ok .* # SKIP //p' "$folder/tap" | head -n 1)
	[ -z "$on" ] || die "bench $what: platform $1 cannot run $image: $why"
	printf '%-10s cannot run it: %s\n' "$1" "$why"
	return 1
}

# bench_entry PLATFORM: the cases of vmx/entry-speed are: no entries, with the audit, without.
bench_entry()
{
	run_child "$EXITPATH_RUNNERS/$1/run" "$image" >"$folder/tap"
	must_have_run "$1" || return 0
	measure "$1" 1
	none=$median
	measure "$1" 2
	audited=$median
	measure "$1" 3
	awk -v name="$1" -v none="$none" -v audited="$audited" -v plain="$median" '
		BEGIN {
			audited = (audited - none) / 2000
			plain = (plain - none) / 50000
			if (audited <= 0 || plain <= 0) {
				print name ": too noisy; take more --runs"
				exit 1
			}
			printf "%-10s with the audit of every entry: %8d entries/s, %8.3f ms each\n", name, 1 / audited, audited * 1000
			printf "%-10s without:                       %8d entries/s, %8.3f ms each\n", name, 1 / plain, plain * 1000
		}'
}

# bench_core PLATFORM: the comments of hv/core-speed as a table; 1 when a case of it is not ok.
bench_core()
{
	EXITPATH_SELECT='' run_child "$EXITPATH_RUNNERS/$1/run" "$image" >"$folder/tap"
	ran=$?
	must_have_run "$1" || return 0
	awk -v name="$1 $EXITPATH_IDENTITY" '
		/^# cost of / {
			sub(/^# cost of /, "")
			what = figures = $0
			sub(/: .*/, "", what)
			sub(/.*: /, "", figures)
			split(figures, f, /,? /)
			if (!unit) {
				unit = f[2]
				printf "%s: a round, the median of %d\n%-52s %12s %6s %8s\n", name, f[9], "", unit, "exits", "entries"
			}
			printf "%-52s %12d %6.2f %8.2f\n", what, f[1], f[3] / f[9], f[5] / f[9]
		}
		/^not ok/ { failed = failed "\n" $0 }
		END { if (failed) print "NOT MET:" failed; else if (unit) print "all bars met" }' "$folder/tap"
	[ "$ran" -le 1 ] || die "platform $1 does not run $image"
	return "$ran"
}

run_child "$EXITPATH_TOP/scripts/setup.sh" --for bench || exit 2
folder=$(temporary bench) || exit 2
# Also called by end_child.
# shellcheck disable=SC2317
cleanup()
{
	rm -rf "$folder"
}
trap cleanup EXIT
elf=$EXITPATH_BUILD/images/$image
[ -f "$elf.tsv" ] || no_match "$image"

if [ "$what" = boot ]; then
	printf 'one boot of %s, %d runs\n' "$image" "$runs"
	printf '%-10s %-28s %9s %9s %9s %9s %9s %9s\n' platform identity \
		'CPU ms' smallest largest guest clock bar
fi
status=0
for platform in ${on:-$(platforms)}; do
	if ! ask_platform "$platform" --probe || ! ask_platform "$platform" --identify; then
		# Asked for by name, it must run.
		[ -z "$on" ] || die "$answer"
		printf '%-10s cannot run here: %s\n' "$platform" "$answer"
		continue
	fi
	# As exitpath run does: a boot need not ask again.
	EXITPATH_IDENTITY=$answer
	export EXITPATH_IDENTITY
	if [ "$what" = core ]; then
		bench_core "$platform" || status=1
		continue
	fi
	if [ "$what" = entry ]; then
		bench_entry "$platform" || status=1
		continue
	fi
	# The first case alone: a boot is measured here, and some machines hang in some case.
	measure "$platform" 1
	awk -v name="$platform" -v identity="$answer" -v median="$median" \
		-v least="$least" -v most="$most" -v guest="$guest" -v clock="$clock" -v bar="$(bar "$platform")" '
		BEGIN {
			printf "%-10s %-28s %9.1f %9.1f %9.1f %9.1f %9.1f ", name, identity,
				median * 1000, least * 1000, most * 1000, guest * 1000, clock * 1000
			if (bar == "") {
				printf "%9s\n", "-"
				exit 0
			}
			printf "%9.1f  %s\n", bar * 1000, median <= bar ? "met" : "NOT MET"
			exit median > bar
		}' || status=1
done
exit "$status"
