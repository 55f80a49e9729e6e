#!/bin/sh
# tools/imageinfo: the case list of an image, its sections, and every mistake in it.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

tool=$build/tools/imageinfo
cc=${CC:-cc}
[ -x "$tool" ] || skip_all "imageinfo is not built"
command -v "$cc" >/dev/null || skip_all "no C compiler '$cc'"

# image [CC-ARGUMENT...]: builds tests/guests/imageinfo.c to $tmp/image.
image()
{
	"$cc" -std=c11 -Wall -Wextra -Werror -Wno-unused -ffreestanding -fno-pic -fno-pie -fno-stack-protector \
		-fno-asynchronous-unwind-tables -nostdlib -static \
		-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -Wl,-T \
		"-Wl,$top/tests/guests/imageinfo.lds" ${1+"$@"} \
		-o "$tmp/image" "$top/tests/guests/imageinfo.c" >"$tmp/cc.log" 2>&1 && return
	diag "cannot build the image:" "$(cat "$tmp/cc.log")"
	exit 1
}

# info [ARGUMENT...]: runs imageinfo on the image.
info()
{
	run_cmd "$tool" --spec "$top/spec" --image vmx/demo ${1+"$@"} "$tmp/image"
}

# refused NAME ERE: the last command ended with status 2, no output, and such a message.
refused()
{
	is "$1: exit status and output" "$status:$out" "2:"
	like "$1: message" "$err" "$2"
}

# --- what is right ---

# The function by which an image asks for a number is what says that it has a use for one.
image
run_cmd "$tool" --takes "$tmp/image"
is "takes nothing" "$status:$out:$err" "0::"
image -DCOUNT
run_cmd "$tool" --takes "$tmp/image"
is "takes a count" "$status:$out:$err" "0:count:"
run_cmd "$tool" --takes
is "--takes of nothing: exit status" "$status:$out" "2:"

image
info
is "case list" "$status:$err:$out" "0::1	first_case	nonroot-behavior:cpuid exit-reasons:10	VMX operation; secondary \
processor-based control \"enable EPT\"	x86/vmx/demo.c:41	28.1.2	Instructions That Cause VM Exits Unconditionally
2	second	-	-	x86/vmx/demo.c:57	-	-
3	third	exit-reasons:10	secondary processor-based control \"enable EPT\"	x86/vmx/demo.c:63	28.1.2	\
Instructions That Cause VM Exits Unconditionally"
run_cmd "$tool" --spec "$top/spec" "$tmp/image"
like "case list without --image" "$status $out" '^0 1	first_case'

info --sections
is "--sections: exit status" "$status:$err" "0:"
is "--sections: one string for each case, in order" "$(printf '%s\n' "$out" | grep '^	')" \
	'	"28.1.2 Instructions That Cause VM Exits Unconditionally",
	(const char *)0,
	"28.1.2 Instructions That Cause VM Exits Unconditionally",'
like "--sections: the count" "$out" '^const unsigned int case_section_count = 3;$'
printf '%s\n' "$out" >"$tmp/sections.c"
ok "--sections: the output is C without warnings" \
	"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror -c -o "$tmp/sections.o" "$tmp/sections.c"

mkdir "$tmp/spec"
printf 'id,section\n10,"9.9; 1"\n' >"$tmp/spec/exit-reasons.csv"
printf 'id,section\ncpuid,8.8\n' >"$tmp/spec/nonroot-behavior.csv"
printf 'section,title\n9.9,"A ""title"", a \\ and 100%%"\n' >"$tmp/spec/sections.csv"
run_cmd "$tool" --spec "$tmp/spec" --sections "$tmp/image"
like "--sections: quotation marks and backslashes are escaped" "$out" \
	'^	"9\.9 A \\"title\\", a \\\\ and 100%",$'
like "--sections: a section that sections.csv does not know" "$out" '^	\(const char \*\)0,$'
run_cmd "$tool" --spec "$tmp/spec" "$tmp/image"
like "case list: a section that sections.csv does not know" "$out" '	8\.8	-$'

image '-DSOURCE="/somewhere/a b.c"'
info
like "source files are printed as they stand in the image" "$out" '	/somewhere/a b\.c:57	'

# --- mistakes in the cases ---

image '-DFACT="exit-reasons:1O"'
info
refused "unknown fact" '^x86/vmx/demo\.c:41: unknown fact "exit-reasons:1O"; did you mean "exit-reasons:1'
like "unknown fact: every use is listed" "$err" '^x86/vmx/demo\.c:63: unknown fact'
info --sections
refused "unknown fact, --sections" 'unknown fact "exit-reasons:1O"'
image '-DFACT="exit-reason:10"'
info
refused "unknown table" 'unknown fact "exit-reason:10"; did you mean "exit-reasons:10"'
image '-DNAME="first_case"'
info
refused "case name used twice" '^x86/vmx/demo\.c:57: the case name "first_case" is taken by x86/vmx/demo\.c:41'
for name in '' Second 'a b' a-b; do
	image "-DNAME=\"$name\""
	info
	refused "case name '$name'" "^x86/vmx/demo\\.c:57: bad case name \"$name\"; use only"
done
image '-DNAME=0'
info
refused "case without a name" 'vmx/demo: case 2 has no name'
image '-DNAME="a\nb"'
info
refused "case name of two lines" 'vmx/demo: case 2 has no name'
image '-DSOURCE=0'
info
refused "case without a source file" 'vmx/demo: case 1 has no source file'
image -DBAD_LIST
info
refused "facts outside of the image" 'vmx/demo: case first_case: its list of facts is broken at entry 0'
image '-DNEED=(const char *)0x7fffffffffffffff'
info
refused "needs outside of the image" 'vmx/demo: case first_case: its list of needs is broken at entry 1'
image -DNO_CASES
info
refused "no cases" 'vmx/demo: no cases in it; declare at least one with CASE'
image -DBAD_SIZE
info
refused "case table of a wrong size" 'vmx/demo: the case table is not in the file, or its size'

# --- files that are no images ---

image
strip -o "$tmp/stripped" "$tmp/image"
run_cmd "$tool" --spec "$top/spec" "$tmp/stripped"
refused "stripped image" 'no symbols __cases_start and __cases_end'
run_cmd "$tool" --spec "$top/spec" "$tmp/sections.o"
refused "object file" 'not a static executable'
: >"$tmp/empty"
run_cmd "$tool" --spec "$top/spec" "$tmp/empty"
refused "empty file" 'not a 64-bit little-endian ELF file'
run_cmd "$tool" --spec "$top/spec" "$0"
refused "text file" 'not a 64-bit little-endian ELF file'
run_cmd "$tool" --spec "$top/spec" "$tmp/nothing-here"
refused "missing file" 'nothing-here: No such file'
run_cmd "$tool" --spec "$tmp/nothing-here" "$tmp/image"
refused "missing spec folder" 'nothing-here: No such file.*; --spec names the folder'
run_cmd "$tool" --spec "$tmp/spec"
refused "missing operand" 'usage: imageinfo'
run_cmd "$tool" "$tmp/image"
refused "missing --spec" 'usage: imageinfo'
run_cmd "$tool" --nonsense
refused "unknown option" 'usage: imageinfo'
if [ -e /dev/full ]; then
	"$tool" --spec "$top/spec" "$tmp/image" >/dev/full 2>"$tmp/.err"
	is "full disk" "$?" 2
fi

# Damaged files, with the sanitizers where the compiler has them: they see a byte read too far.
if "$cc" -std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-o "$tmp/tool" "$top"/tools/imageinfo/*.c 2>/dev/null && "$tmp/tool" --help >/dev/null 2>&1; then
	tool=$tmp/tool
	ASAN_OPTIONS=detect_leaks=0
	export ASAN_OPTIONS
else
	diag "no sanitizers: damaged files are read by the plain program"
fi

# A file that ends too early is refused or, where only unused bytes are missing, read right.
run_cmd "$tool" --spec "$tmp/spec" "$tmp/image"
wanted=$out
size=$(wc -c <"$tmp/image")
bad=
length=0
while [ "$length" -lt "$size" ]; do
	head -c "$length" "$tmp/image" >"$tmp/cut"
	run_cmd "$tool" --spec "$tmp/spec" "$tmp/cut"
	case $status:$out in
	2:) ;;
	0:*) [ "$out" = "$wanted" ] || bad="$bad $length" ;;
	*) bad="$bad $length(status $status)" ;;
	esac
	length=$((length + 97))
done
is "truncated images" "$bad" ""

# Eight other bytes over every eight bytes of the headers and tables: a message, never a crash.
bad=
for bytes in '\377\377\377\377\377\377\377\377' '@@@@@@@@'; do
	# shellcheck disable=SC2059	# they are escapes
	printf "$bytes" >"$tmp/bytes"
	offset=0
	while [ "$offset" -lt "$size" ]; do
		{
			head -c "$offset" "$tmp/image"
			cat "$tmp/bytes"
			tail -c +$((offset + 9)) "$tmp/image"
		} >"$tmp/cut"
		run_cmd "$tool" --spec "$tmp/spec" "$tmp/cut"
		case $status:$out in
		2: | 0:*) ;;
		*) bad="$bad $offset(status $status)" ;;
		esac
		offset=$((offset + 8))
		# Nothing is read between the headers and the image.
		[ "$offset" -ne 256 ] || offset=4096
	done
done
is "damaged images" "$bad" ""

done_testing
