#!/bin/sh
# shellcheck disable=SC2154
# For tests of exitpath itself; sourced after tests/lib.sh. Makes a build folder and two platforms
# of fakes in $tmp, and points exitpath to them: no compiler, no emulator is called.
#
#	fake      its machine is tests/fake/machine; an image is a file of behaviours for that
#	broken    says that it cannot run here
#
# supervise is the real one.

[ -x "$build/tools/supervise" ] || {
	echo "Bail out! $build/tools/supervise is missing; run make first"
	exit 1
}
EXITPATH_BUILD=$tmp/build
EXITPATH_RUNNERS=$tmp/runners
unset EXITPATH_STATE EXITPATH_BOCHS EXITPATH_CPU EXITPATH_TOP
export EXITPATH_BUILD EXITPATH_RUNNERS

mkdir -p "$tmp/build/tools" "$tmp/build/runners/fake" "$tmp/runners/fake" "$tmp/runners/broken"
ln -s "$build/tools/supervise" "$tmp/build/tools/supervise"
dtc -q -I dts -O dtb -o "$tmp/build/runners/fake/machine.dtb" "$top/tests/fake/machine.dts" || exit 1
echo "CC = $(sed -n 's/^CC = *//p' "$build/config.mk" 2>/dev/null)" >"$tmp/build/config.mk"
grep -q 'CC = .' "$tmp/build/config.mk" || echo "CC = gcc" >"$tmp/build/config.mk"
echo "CONFIGURE_SUM = $(cksum <"$top/configure")" >>"$tmp/build/config.mk"
echo 'all:;' >"$tmp/build/Makefile"
cp "$top/runners/bochs/run" "$tmp/runners/fake/run"

cat >"$tmp/runners/fake/boot" <<END
#!/bin/sh
case \$1 in
--packages) echo fake-package ;;
--probe) ;;
--identify) echo "1.0/\${EXITPATH_CPU:-fake}" ;;
*) exec "$top/tests/fake/machine" "\$(cat "\$1")" "\$1.tsv" "\$2" ;;
esac
END
cat >"$tmp/runners/broken/boot" <<END
#!/bin/sh
case \$1 in
--packages) ;;
*)
	echo "broken: there is no such machine here; buy one" >&2
	exit 2
	;;
esac
END
chmod +x "$tmp/runners/fake/boot" "$tmp/runners/broken/boot"

# fake_image AREA/IMAGE BEHAVIOURS: makes an image of the cases of tests/fake/cases.tsv.
fake_image()
{
	mkdir -p "$tmp/build/images/${1%/*}"
	printf '%s\n' "$2" >"$tmp/build/images/$1"
	cp "$top/tests/fake/cases.tsv" "$tmp/build/images/$1.tsv"
}
