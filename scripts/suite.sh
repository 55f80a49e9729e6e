#!/bin/sh
# Reads another Debian than the machine's, and downloads from it. Sourced, after common.sh, by whoever sets
#
#	$suite	its name, trixie or sid
#	$mirror	what debian_mirror says
#	$work	a folder for apt's files
#	$log	where the output of apt-get goes
#
# and then calls write_configuration, update, private_apt.
#
# Nothing on the system changes: apt-get works on a configuration, lists and a cache of its own in $work. The
# mirror, proxies and the keyring are the machine's own.
#
# shellcheck disable=SC2154	# the variables above

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
