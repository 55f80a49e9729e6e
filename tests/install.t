#!/bin/sh
# make install: what is installed works from its place, needs no source, and keeps its results with
# the user.
. "${0%/*}/lib.sh"

# A build folder elsewhere has a Makefile of its own.
folder=$top
[ "$build" = "$top/build" ] || folder=$build
unset MAKEFLAGS MFLAGS MAKELEVEL
# A path with a blank, beside a folder that its first word names.
mkdir "$tmp/a" || exit 1
: >"$tmp/a/file"
run_cmd make -s -C "$folder" install "DESTDIR=$tmp/a root" PREFIX=/usr
is "make install: a blank in DESTDIR, nothing else is touched" "$(ls "$tmp/a"):$(ls "$tmp/a root")" file:usr
mv "$tmp/a root" "$tmp/root"
is "make install: exit status 0" "$status" 0
is "make install: says nothing" "$out$err" ""
exitpath=$tmp/root/usr/bin/exitpath
place=$tmp/root/usr/lib/exitpath
is "nothing outside of its two places" "$(cd "$tmp/root" && find . ! -type d ! -path './usr/lib/exitpath/*')" \
	./usr/bin/exitpath
is "no sources" "$(find "$place" -name '*.[chS]' -o -name Makefile -o -name configure)" ""
# The link is relative: the tree may be packed up and moved.
mv "$tmp/root" "$tmp/moved"
exitpath=$tmp/moved/usr/bin/exitpath
place=$tmp/moved/usr/lib/exitpath

unset EXITPATH_TOP EXITPATH_BUILD EXITPATH_STATE EXITPATH_RUNNERS EXITPATH_BOCHS EXITPATH_CPU
XDG_STATE_HOME=$tmp/state
export XDG_STATE_HOME
cd "$tmp" || exit 1
run_cmd "$exitpath" --version
is "installed: --version" "$out" "exitpath $(cat "$top/VERSION")"
run_cmd "$exitpath" list
is "installed: list, exit status 0" "$status" 0
like "installed: list" "$out" '^[a-z]+/[a-z0-9-]+:[a-z0-9_]+	'
id=$(printf '%s\n' "$out" | sed -n '/^guest\//s/	.*//p' | sed q)
run_cmd "$exitpath" check
is "installed: check needs the sources, exit status 2" "$status" 2
run_cmd "$exitpath" coverage exit-reasons
unlike "installed: coverage finds spec/" "$err" 'no table'

if "$place/runners/bochs/boot" --probe >/dev/null 2>&1; then
	: >"$tmp/before"
	run_cmd "$exitpath" run "$id"
	like "installed: run has a result for $id" "$out" '^bochs [^ ]*: 1 case in 1 image$'
	run_cmd "$exitpath" run --on core-ept guest/cpuid-basic
	like "installed: run --on core-ept" "$out" '^core-ept [^ ]*: [1-9][0-9]* cases in 1 image$'
	is "installed: run --on core-ept, exit status 0" "$status" 0
	run_cmd "$exitpath" run "$id"
	ok "installed: results are with the user" \
		grep -q '^1\.\.1$' "$tmp/state/exitpath/results/latest/${id%%:*}.tap"
	is "installed: nothing of it has changed" "$(find "$place" -newer "$tmp/before")" ""
else
	skip "installed: run" "bochs cannot run here"
fi
rm -r "$place/build/images"
run_cmd "$exitpath" run
is "installed, broken: exit status 2" "$status" 2
like "installed, broken: what to do" "$err" 'install exitpath again'
done_testing
