#!/bin/sh
# fetch-bochs.sh trixie|sid: puts the Bochs of that Debian, and the libraries it needs, into
# EXITPATH_STATE/bochs-SUITE, with a program `bochs` in it that runs them from anywhere.
#
# Nothing on the system changes: apt-get works on a configuration, lists and a cache of its own,
# all in that folder. The mirror, proxies and the keyring are the machine's own.
# Exit status: 0 done, 2 not possible (a message says why); what was there before is kept then.

set -u
. "${0%/*}/common.sh"

# Bochs with the text display, and what it is linked with; libraries that these lack (Bochs is
# linked with GTK) come from the system, or are fetched when the system has none.
base="bochs bochs-term bochsbios vgabios libc6 libstdc++6 libgcc-s1 libltdl7 libreadline8t64
	libtinfo6 libncurses6 zlib1g"

# machine_sources: the machine's apt sources, as "URI SUITE", one per line. apt-get itself reads
# its files here, so that both formats are understood as it understands them.
machine_sources()
{
	mkdir -p "$work/none/partial"
	apt-get -o "Dir::State::lists=$work/none" --print-uris update 2>/dev/null |
		sed -n "s|^'\(.*\)/dists/\(.*\)/InRelease' .*|\1 \2|p"
}

# debian_mirror: the URI of the first source that is Debian's archive, and not its updates or
# security part; nothing when there is none. That it really is the archive is proved by its
# signature later.
debian_mirror()
{
	codename=$(sed -n 's/^VERSION_CODENAME="\{0,1\}\([a-z]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null)
	id=$(sed -n 's/^ID="\{0,1\}\([a-z]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null)
	[ "$id" = debian ] || codename=
	machine_sources | awk -v codename="${codename:--}" '
		$2 == codename || $2 ~ /^(bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)$/ {
			print $1
			exit
		}'
}

# apt_files: the machine's own source files, one per line.
apt_files()
{
	apt_list=/etc/apt/sources.list
	apt_parts=/etc/apt/sources.list.d/
	eval "$(apt-config shell apt_list Dir::Etc::sourcelist/f apt_parts Dir::Etc::sourceparts/d)"
	for apt_file in "$apt_list" "${apt_parts%/}"/*.list "${apt_parts%/}"/*.sources; do
		[ ! -f "$apt_file" ] || printf '%s\n' "$apt_file"
	done
}

# signed_by URI: the keyring files that the machine's sources name for URI, one per line.
signed_by()
{
	apt_files | while IFS= read -r signed_file; do
		awk -v uri="$1" '
			function name(text) {
				sub(/\/+$/, "", text)
				return text
			}
			function stanza_ends() {
				if (ours && key ~ /^\//)
					print key
				ours = 0
				key = ""
			}
			/^[ \t]*$/ { stanza_ends() }
			tolower($1) == "uris:" {
				for (i = 2; i <= NF; i++)
					if (name($i) == name(uri))
						ours = 1
			}
			tolower($1) == "signed-by:" { key = $2 }
			$1 == "deb" && tolower($0) ~ /signed-by=/ {
				for (i = 2; i <= NF; i++)
					if (name($i) == name(uri)) {
						key = $0
						sub(/.*[Ss]igned-[Bb]y=/, "", key)
						sub(/[] ,\t].*/, "", key)
						ours = 1
						stanza_ends()
					}
			}
			END { stanza_ends() }' "$signed_file"
	done
}

# keyrings URI: the keyrings to try, best first, one per line.
keyrings()
{
	{
		signed_by "$1"
		for keyring in /usr/share/keyrings/debian-archive-keyring.pgp \
			/usr/share/keyrings/debian-archive-keyring.gpg; do
			[ ! -f "$keyring" ] || printf '%s\n' "$keyring"
		done
	} | awk '!seen[$0]++'
}

# newer_keyring: fetches the newest debian-archive-keyring that the machine's own sources have, as
# they are trusted already, and prints where its keyring is. An older Debian gets the keys of newer
# ones that way.
newer_keyring()
{
	mkdir -p "$work/keyring" "$work/machine-lists/partial"
	(
		cd "$work/keyring" || exit 1
		set -- -o "Dir::State::lists=$work/machine-lists" -o "Dir::Cache=$work/cache" \
			-o APT::Sandbox::User=root
		apt-get "$@" update && apt-get "$@" download debian-archive-keyring &&
			dpkg -x ./debian-archive-keyring_*.deb .
	) >>"$log" 2>&1 || return 1
	for keyring in "$work"/keyring/usr/share/keyrings/debian-archive-keyring.*; do
		[ -f "$keyring" ] || continue
		printf '%s\n' "$keyring"
		return 0
	done
	return 1
}

# write_configuration: the private configuration of apt; options of the machine (proxies, access to
# the mirror) stay, sources and hooks do not.
write_configuration()
{
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/etc/parts"
	: >"$work/status"
	cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/etc/debian.sources";
Dir::Etc::sourceparts "$work/etc/parts";
Dir::Etc::preferences "$work/etc/none";
Dir::Etc::preferencesparts "$work/etc/parts";
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
END
}

# private_apt ARGUMENT...: apt-get with the private configuration; its output goes to the log.
private_apt()
{
	apt-get -q -c "$work/apt.conf" "$@" >>"$log" 2>&1 </dev/null
}

# update_with KEYRING: reads the package lists of the suite; fails unless KEYRING has signed them.
update_with()
{
	cat >"$work/etc/debian.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $1
END
	# apt-get update alone calls an unreachable mirror a warning.
	private_apt -o APT::Update::Error-Mode=any update
}

# update: reads the package lists with the first keyring that fits.
update()
{
	for keyring in $(keyrings "$mirror"); do
		! update_with "$keyring" || return 0
	done
	# Anything else than a missing key would only fail again.
	[ ! -s "$log" ] || tail -n 5 "$log" |
		grep -Eq 'NO_PUBKEY|KEYEXPIRED|EXPKEYSIG|not signed|No such file' || return 1
	say "no keyring here fits Debian $suite; looking for a newer debian-archive-keyring"
	keyring=$(newer_keyring) && update_with "$keyring"
}

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
