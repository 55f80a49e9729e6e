#!/bin/sh
# exitpath check: tests exitpath itself, then runs every image on bochs and, where it works, on kvm, and a
# few on the bundled core and under a Linux kernel.

set -u
. "${0%/*}/common.sh"

usage()
{
	cat <<END
usage: exitpath check [PHASE...]

Tests exitpath. Sets up what it needs first. The phases, all by default:

  build   with gcc and with clang, warnings are errors
  shell   shellcheck, checkbashisms and three shells read every script; no line of C is wider
          than 100 columns
  tests   tests/*.t, under prove
  run     every image on bochs and, where /dev/kvm works, on kvm; a few on core-ept, core-shadow
          and linux

Exit status: 0 all as expected, 1 something is not, 2 the set-up is broken.
END
}

# now: seconds since some fixed time.
now()
{
	awk 'BEGIN { srand(); print srand() }'
}

# phase NAME TEXT: runs the function phase_NAME when it is wanted; prints what it is and how
# long it took; remembers in $failed what failed.
phase()
{
	case " $phases " in
	*" $1 "*) ;;
	*) return 0 ;;
	esac
	printf '\n== %s: %s\n' "$1" "$2"
	phase_start=$(now)
	phase_result=ok
	"phase_$1" || {
		phase_result=FAILED
		failed="$failed $1"
	}
	phase_time=$(($(now) - phase_start))
	printf '== %s: %s, %d s\n' "$1" "$phase_result" "$phase_time"
	report="$report  $(printf '%-8s %-8s %4d s' "$1" "$phase_result" "$phase_time")
"
}

# The configured compiler has built EXITPATH_BUILD already, in the set-up; the others build in
# folders below it.
phase_build()
{
	build_status=0
	for build_cc in gcc clang; do
		if [ "$(configured CC)" = "$build_cc" ]; then
			echo "$build_cc: built in $EXITPATH_BUILD"
			continue
		fi
		build_folder=$EXITPATH_BUILD/check/$build_cc
		mkdir -p "$build_folder" || return 1
		if (cd "$build_folder" && "$EXITPATH_TOP/configure" --cc "$build_cc") \
			>"$build_folder/log" 2>&1 &&
			run_child make -s -j "$(processors)" -C "$build_folder" \
				>>"$build_folder/log" 2>&1; then
			echo "$build_cc: built in $build_folder"
		else
			tail -n 40 "$build_folder/log"
			echo "$build_cc: FAILED, see $build_folder/log"
			build_status=1
		fi
	done
	return "$build_status"
}

# shell_files: every file of the project that begins with #!/bin/sh, one per line.
shell_files()
{
	find "$EXITPATH_TOP" \( -name .git -o -path "$EXITPATH_BUILD" -o -path "$EXITPATH_TOP/build" \) \
		-prune -o -type f -print | sort | while IFS= read -r shell_file; do
		shell_line=
		IFS= read -r shell_line <"$shell_file" 2>/dev/null || :
		[ "$shell_line" != '#!/bin/sh' ] || printf '%s\n' "$shell_file"
	done
}

phase_shell()
{
	shell_status=0
	shell_list=$(shell_files)
	for shell_program in dash posh 'busybox sh'; do
		for shell_file in $shell_list; do
			$shell_program -n "$shell_file" || shell_status=1
		done
	done
	# shellcheck disable=SC2086	# a list
	run_child shellcheck $shell_list || shell_status=1
	# shellcheck disable=SC2086	# a list
	run_child checkbashisms $shell_list || shell_status=1
	echo "$(printf '%s\n' "$shell_list" | wc -l) scripts"
	run_child "$EXITPATH_TOP/scripts/columns.sh" "$EXITPATH_TOP" "$EXITPATH_BUILD" \
		"$EXITPATH_TOP/build" || shell_status=1
	return "$shell_status"
}

phase_tests()
{
	cd "$EXITPATH_TOP" || return 1
	run_child prove --norc -j "$(processors)" tests/*.t
}

# run_on_linux: one boot of Debian's kernel, two images under its KVM. Only when the kernel cannot be fetched
# here is that left out, and said.
run_on_linux()
{
	if [ "$linux_status" -eq 3 ]; then
		echo "NOT TESTED: the platform linux; its kernel cannot be fetched here (see above, at the set-up)"
		return 0
	fi
	[ "$linux_status" -eq 0 ] || return 1
	run_child "$EXITPATH_TOP/scripts/run.sh" --on linux -j 1 vmx/instructions-basic ept/pointer-basic
}

phase_run()
{
	run_status=0
	run_child "$EXITPATH_TOP/scripts/run.sh" --on bochs || run_status=1
	if ask_platform kvm --probe; then
		run_child "$EXITPATH_TOP/scripts/run.sh" --on kvm || run_status=1
	else
		echo "kvm cannot run here: $answer"
	fi
	# Paging, real-address mode and a second processor: what the core does in two ways.
	for run_platform in core-ept core-shadow; do
		run_child "$EXITPATH_TOP/scripts/run.sh" --on "$run_platform" \
			mmu/fault-basic mmu/tlb guest/real-and-v86 guest/smp-basic || run_status=1
	done
	run_on_linux || run_status=1
	return "$run_status"
}

phases=
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	build | shell | tests | run)
		phases="$phases $1"
		shift
		;;
	-*)
		die "check: unknown option '$1' (see exitpath check --help)"
		;;
	*)
		die "check: there is no phase '$1'; the phases are: build shell tests run"
		;;
	esac
done
: "${phases:=build shell tests run}"
[ ! -e "$EXITPATH_TOP/installed" ] ||
	die "check needs the sources; this is an installed exitpath: exitpath run works here"

failed=
report=
check_start=$(now)
run_child "$EXITPATH_TOP/scripts/setup.sh" --for check --on bochs || exit 2
# Early, because tests want it, too.
linux_status=0
run_child "$EXITPATH_TOP/scripts/setup.sh" --on linux || linux_status=$?
echo "== setup: ok, $(($(now) - check_start)) s"
phase build "with gcc and with clang"
phase shell "shellcheck, checkbashisms; dash, posh, busybox sh; lines of C"
phase tests "tests/*.t"
phase run "every image on bochs and kvm"

printf '\nexitpath check: %d s\n%s' "$(($(now) - check_start))" "$report"
if [ -n "$failed" ]; then
	echo "result: FAILED:$failed"
	exit 1
fi
echo "result: all as expected"
