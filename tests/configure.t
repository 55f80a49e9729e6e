#!/bin/sh
# configure: options, what it writes and where, what it says when something is missing.
. "${0%/*}/lib.sh"

unset CC EXITPATH_BUILD
configure=$top/configure
mkdir "$tmp/a" "$tmp/b" "$tmp/bin"
cd "$tmp/a" || exit 1

# value VARIABLE: what config.mk has for it.
value()
{
	sed -n "s/^$1 = //p" config.mk
}

run_cmd "$configure" --help
is "--help: exit status 0" "$status" 0
help=$out
for option in --cc --host-cc --cross-prefix --prefix --bochs --qemu; do
	like "--help: $option" "$help" "^  $option "
	run_cmd "$configure" "$option"
	is "$option without a value: exit status 2" "$status" 2
done
run_cmd "$configure" --wings
is "unknown option: exit status 2" "$status" 2
like "unknown option: says which" "$err" "'--wings'"
run_cmd "$configure" --cc=no-such-cc
is "no such compiler: exit status 2" "$status" 2
run_cmd "$configure" --bochs "$tmp/no-such-bochs"
is "no such Bochs: exit status 2" "$status" 2
run_cmd "$configure" --cc true
is "a compiler that compiles nothing: exit status 2" "$status" 2
like "a compiler that compiles nothing: says so" "$err" 'true does not compile'
# shellcheck disable=SC2016	# the values are meant as they are
for value in "a'b" 'a#b' 'a$b' 'a\b' 'a
b'; do
	run_cmd "$configure" --bochs "$value"
	is "--bochs $value: exit status 2" "$status" 2
	like "--bochs $value: says why" "$err" "cannot be kept in config.mk"
done
run_cmd "$configure" --prefix relative
is "a relative prefix: exit status 2" "$status" 2
run_cmd "$configure" --cross-prefix no-such-target-
is "no such cross-compiler: exit status 2" "$status" 2
like "no such cross-compiler: its package" "$err" 'apt-get install gcc-no-such-target$'
is "after all these: nothing is written" "$(ls)" ""

run_cmd "$configure" --prefix=/opt/exitpath --qemu /bin/true
is "elsewhere: exit status 0" "$status" 0
like "elsewhere: says what it found" "$out" '^libfdt.a  *'
like "elsewhere: says where it wrote" "$out" "^written  *$tmp/a/config.mk"
is "--prefix" "$(value PREFIX)" /opt/exitpath
is "--qemu" "$(value QEMU)" /bin/true
ok "libfdt.a is there" test -f "$(value LIBFDT_A)"
run_cmd make -n CC=gcc tools
is "elsewhere: make works" "$status" 0
like "elsewhere: make builds here" "$out" "$tmp/a/tools/"
run_cmd ./exitpath --version
is "elsewhere: exitpath works" "$out" "exitpath $(cat "$top/VERSION")"

# A gcc that is told to keep the order of functions; clang does so by itself.
printf '#!/bin/sh\nexec gcc "$@"\n' >"$tmp/bin/my-gcc"
printf '#!/bin/sh\ncase " $* " in *" -fno-toplevel-reorder "*) echo unknown >&2; exit 1; esac; exec gcc "$@"\n' \
	>"$tmp/bin/my-clang"
printf '#!/bin/sh\nexec gcc -m32 "$@"\n' >"$tmp/bin/my-gcc32"
chmod +x "$tmp"/bin/my-*
run_cmd "$configure" --cc "$tmp/bin/my-gcc -m64"
is "--cc with an option: exit status 0" "$status" 0
is "--cc with an option" "$(value CC)" "$tmp/bin/my-gcc -m64"
# What is built depends on config.mk: another compiler builds anew, the same one does not.
make -s "$tmp/a/tools/mkrom" >/dev/null 2>&1
ok "built: up to date" make -q "$tmp/a/tools/mkrom"
run_cmd "$configure" --cc "$tmp/bin/my-gcc -m64"
ok "the same compiler: still up to date" make -q "$tmp/a/tools/mkrom"
run_cmd "$configure" --cc "$tmp/bin/my-gcc"
not_ok "another compiler: not up to date" make -q "$tmp/a/tools/mkrom"
run_cmd "$configure" --cc "$tmp/bin/my-gcc -m64"
is "flags are probed: taken" "$(value CASE_ORDER_CFLAGS)" -fno-toplevel-reorder
run_cmd "$configure" "--cc=$tmp/bin/my-clang"
is "flags are probed: not taken" "$(value CASE_ORDER_CFLAGS)" ""
run_cmd "$configure" "--cc=$tmp/bin/my-gcc32"
is "a compiler for another processor: exit status 2" "$status" 2
like "a compiler for another processor: what to do" "$err" 'cross-prefix'
is "a failed configure leaves the old config.mk" "$(value CC)" "$tmp/bin/my-clang"

# A cross-compiler is what its prefix says; host programs still use the host's compiler.
for tool in gcc ld ar objcopy; do
	ln -s "$(command -v "$tool")" "$tmp/bin/my-cross-$tool"
done
run_cmd "$configure" --cross-prefix "$tmp/bin/my-cross-"
is "--cross-prefix: exit status 0" "$status" 0
is "--cross-prefix: compiler" "$(value CC)" "$tmp/bin/my-cross-gcc"
is "--cross-prefix: objcopy" "$(value OBJCOPY)" "$tmp/bin/my-cross-objcopy"
unlike "--cross-prefix: host compiler" "$(value HOSTCC)" 'my-cross'

mkdir "$tmp/a b"
cd "$tmp/a b" || exit 1
run_cmd "$configure"
is "a path that make cannot handle: exit status 2" "$status" 2
is "a path that make cannot handle: nothing is written" "$(ls)" ""
cd "$tmp/b" || exit 1
for shell in dash posh 'busybox sh'; do
	# shellcheck disable=SC2086	# a command with its argument
	if command -v ${shell%% *} >/dev/null; then
		run_cmd $shell "$configure"
		is "$shell runs it" "$status" 0
	else
		skip "$shell runs it" "there is no $shell"
	fi
done

# In the source folder: a copy of it, as the real one has a configuration to keep.
mkdir "$tmp/source"
cp "$configure" "$tmp/source/"
cd "$tmp/source" || exit 1
run_cmd ./configure
is "in the source folder: exit status 0" "$status" 0
is "in the source folder: writes build/config.mk only" "$(find . -type f | sort | tr '\n' ' ')" \
	"./build/config.mk ./configure "
done_testing
