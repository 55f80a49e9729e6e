#!/bin/sh
# fetch-bochs.sh trixie|sid: puts the Bochs of that Debian, and the libraries it needs, into
# EXITPATH_STATE/bochs-SUITE, with a program `bochs` in it that runs them from anywhere.
#
# Nothing on the system changes: apt-get works on a configuration, lists and a cache of its own,
# all in that folder. The mirror, proxies and the keyring are the machine's own.
# Exit status: 0 done, 2 not possible (a message says why); what was there before is kept then.

set -u
. "${0%/*}/common.sh"
. "${0%/*}/suite.sh"

# Bochs with the text display, and what it is linked with; libraries that these lack (Bochs is
# linked with GTK) come from the system, or are fetched when the system has none.
base="bochs bochs-term bochsbios vgabios libc6 libstdc++6 libgcc-s1 libltdl7 libreadline8t64
	libtinfo6 libncurses6 zlib1g"

# unpack: everything that was downloaded, into $work/root.
unpack()
{
	for unpack_file in "$work"/debs/*.deb; do
		dpkg -x "$unpack_file" "$work/root" >>"$log" 2>&1 || return 1
	done
}

# set_paths: where things are below $work/root, relative; dies when they are not.
set_paths()
{
	set -- "$work"/root/usr/lib/*/bochs/plugins
	[ -d "$1" ] || die "the bochs package of Debian $suite has no plugins where they are expected"
	lib=${1%/bochs/plugins}
	set -- "$lib"/ld-linux*.so.*
	[ -f "$1" ] || die "the libc6 package of Debian $suite has no dynamic linker in ${lib#"$work/root"}"
	linker=$1
}

# is_complete: succeeds when the dynamic linker finds every library of Bochs and of its display.
is_complete()
{
	for complete_file in "$work/root/usr/bin/bochs-bin" "$lib/bochs/plugins/libbx_term_gui.so"; do
		complete_text=$("$linker" --library-path "$lib" --list "$complete_file" 2>&1) || return 1
		case $complete_text in
		*"not found"*) return 1 ;;
		esac
	done
}

# write_program: the program that runs this Bochs; it works from any folder, and when moved.
write_program()
{
	cat >"$work/bochs" <<END
#!/bin/sh
# Made by exitpath setup --bochs $suite: runs Debian $suite's Bochs on its own libraries.
case \$0 in
*/*) here=\$(CDPATH='' cd -- "\${0%/*}" && pwd) || exit 2 ;;
*) here=\$PWD ;;
esac
LTDL_LIBRARY_PATH=\$here/root${lib#"$work/root"}/bochs/plugins
BXSHARE=\$here/root/usr/share/bochs
export LTDL_LIBRARY_PATH BXSHARE
exec "\$here/root${linker#"$work/root"}" --library-path "\$here/root${lib#"$work/root"}" \\
	"\$here/root/usr/bin/bochs-bin" "\$@"
END
	chmod +x "$work/bochs"
}

# failed TEXT...: dies with the last lines of the log.
failed()
{
	tail -n 15 "$log" >&2
	kept=$EXITPATH_STATE/fetch-bochs.log
	cp "$log" "$kept"
	die "$* (all of the output: $kept)"
}

suite=${1:-}
case $suite in
trixie | sid) ;;
*) die "fetch-bochs.sh takes trixie or sid, not '$suite'" ;;
esac
for tool in apt-get apt-config dpkg; do
	command -v "$tool" >/dev/null ||
		die "$tool is missing: Debian's packages can only be fetched on Debian or a relative of it"
done

place=$EXITPATH_STATE/bochs-$suite
work=$place.new.$$
mkdir -p "$work/debs" "$work/root" || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
log=$work/log
: >"$log"

mirror=$(debian_mirror)
[ -n "$mirror" ] ||
	die "none of the apt sources of this machine is a Debian mirror; add one, or give --bochs the path of a Bochs"
say "fetching the Bochs of Debian $suite from $mirror"
write_configuration
if ! update; then
	! tail -n 5 "$log" | grep -q 'is expired' ||
		say "the mirror is older than its own expiry date (or the clock here is wrong); for a mirror that is" \
			"meant to be old, set Acquire::Check-Valid-Until to false in /etc/apt/apt.conf.d"
	failed "cannot read the package lists of Debian $suite from $mirror"
fi
# shellcheck disable=SC2086	# $base is a list
(cd "$work/debs" && private_apt download $base) ||
	failed "cannot fetch the packages of Debian $suite"
unpack || failed "cannot unpack the packages"
set_paths
if ! is_complete; then
	say "this system lacks libraries that Bochs is linked with; fetching them, too"
	private_apt install -y --no-install-recommends --download-only bochs bochs-term ||
		failed "cannot fetch the libraries of Bochs"
	mv "$work"/cache/archives/*.deb "$work/debs/"
	unpack || failed "cannot unpack the libraries"
	is_complete || failed "Bochs still lacks a library: $(printf '%s\n' "$complete_text" | grep 'not found' | head -n 1)"
fi
write_program
version=$("$work/bochs" --help cpu 2>&1 </dev/null | sed -n 's/.*Bochs x86 Emulator \([0-9][0-9.]*\).*/\1/p')
[ -n "$version" ] || failed "the fetched Bochs does not start"
rm -rf "$place" "$work/debs" "$work/cache" "$work/lists" "$work/machine-lists" "$work/none"
mv "$work" "$place" || exit 2
say "Bochs $version is in $place; use it with: exitpath run --bochs $suite"
