#!/bin/sh
# Installs releases without packages: a user who deploys puts them in place, and may
# restart one unit as root, nothing else.
#
#   install.sh prepare logship|healthd USER     as root, once, from an unpacked release
#   install.sh deploy logship|healthd FILE      as USER: FILE is a .tar.gz, SHA256SUMS beside it
#
# A release is unpacked below /opt/PROGRAM/releases, /opt/PROGRAM/current is the one
# that runs. If the unit does not come up with it, the one before is put back. Three are
# kept. What runs has no more rights than the unit gives it, whoever put it there: unit,
# configuration (/etc/PROGRAM) and the rule for sudo belong to root.
set -eu
umask 022

die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

usage() {
	sed -n 's/^#   //p' "$0" >&2
	exit 2
}

[ $# -eq 3 ] || usage
verb=$1 program=$2
case $program in
logship | healthd) ;;
*) usage ;;
esac
home=/opt/$program

prepare() {
	user=$1 from=$(cd "$(dirname "$0")" && pwd)
	[ "$(id -u)" -eq 0 ] || die 'prepare needs root'
	case $user in
	'' | root | *[!a-z0-9_-]*) die "deploy as a user of its own, not as \"$user\"" ;;
	esac
	id "$user" >/dev/null || die "make the user $user first"
	[ -x "$from/usr/bin/$program" ] || die "run this from an unpacked release of $program"
	command -v visudo >/dev/null || die 'install sudo first'

	install -d -o "$user" -g "$(id -g "$user")" -m 755 "$home" "$home/releases"
	install -d -m 755 "/etc/$program"
	for file in "$from/etc/$program"/*; do
		[ -e "/etc/$program/${file##*/}" ] || install -m 644 "$file" "/etc/$program/"
	done
	for unit in "$from/usr/lib/systemd/system"/*; do
		sed "s|=/usr/bin/$program |=$home/current/usr/bin/$program |" "$unit" >"/etc/systemd/system/${unit##*/}"
	done
	for kind in sysusers tmpfiles; do
		[ ! -e "$from/usr/lib/$kind.d/$program.conf" ] || install -D -m 644 "$from/usr/lib/$kind.d/$program.conf" "/etc/$kind.d/$program.conf"
	done
	[ ! -e "/etc/sysusers.d/$program.conf" ] || systemd-sysusers "/etc/sysusers.d/$program.conf"
	[ ! -e "/etc/tmpfiles.d/$program.conf" ] || systemd-tmpfiles --create "/etc/tmpfiles.d/$program.conf"

	# sudo compares the whole command line: no other verb, no other unit, no option.
	rule=$(mktemp)
	echo "$user ALL=(root) NOPASSWD: /usr/bin/systemctl restart $program.service" >"$rule"
	visudo -c -q -f "$rule" || die 'visudo refuses the rule'
	install -m 440 "$rule" "/etc/sudoers.d/$program-deploy"
	rm -f "$rule"

	systemctl daemon-reload
	systemctl enable --quiet "$program.service" # with its sockets, by Also=
	echo "$user may now run: install.sh deploy $program FILE.tar.gz"
}

# switch RELEASE: makes it the current one, at once.
switch() {
	ln -sfn "releases/$1" "$home/current.new"
	mv -T "$home/current.new" "$home/current"
}

restart() { sudo -n /usr/bin/systemctl restart "$program.service"; }

deploy() {
	file=$1 release=$(basename "$1" .tar.gz)
	[ "$(id -u)" -ne 0 ] || die "deploy as the user that this was prepared for: what root unpacks, that user cannot replace"
	case $file in
	"$program"_*.tar.gz | */"$program"_*.tar.gz) ;;
	*) die "$file is not a release of $program: want ${program}_VERSION_linux_ARCH.tar.gz" ;;
	esac
	[ -f "$file" ] || die "$file is not there"
	[ -f "$(dirname "$file")/SHA256SUMS" ] || die "put SHA256SUMS of the release beside $file"
	[ -w "$home/releases" ] && sudo -n -l /usr/bin/systemctl restart "$program.service" >/dev/null 2>&1 ||
		die "$(id -un) may not deploy $program: have root run: install.sh prepare $program $(id -un)"
	exec 9>"$home/lock"
	flock -n 9 || die 'another deploy is under way'
	(cd "$(dirname "$file")" && grep -F "  $release.tar.gz" SHA256SUMS | sha256sum --check --quiet --strict - 2>&1) ||
		die "$file is not what SHA256SUMS beside it says: copy both again"

	new=$home/releases/$release
	if [ ! -d "$new" ]; then
		rm -rf "$home/unpacking"
		mkdir "$home/unpacking"
		trap 'rm -rf "$home/unpacking"' EXIT
		trap 'exit 1' HUP INT TERM
		tar --extract --gzip --no-same-owner --strip-components=1 --directory "$home/unpacking" --file "$file" ||
			die "$file cannot be unpacked below $home: see df $home"
		"$home/unpacking/usr/bin/$program" version || die "$release does not run on this machine ($(uname -m))"
		mv -T "$home/unpacking" "$new"
	fi
	# From here on nothing stops half way: neither Ctrl-C nor a connection that ends.
	trap '' HUP INT TERM
	activate "$release"
	touch "$new" # the latest to be deployed
	for old in $(ls -t "$home/releases" | tail -n +4); do
		[ "releases/$old" = "$(readlink "$home/current")" ] || rm -rf "$home/releases/${old:?}"
	done
}

# activate RELEASE: runs it, or again what ran before it.
activate() {
	before=$(readlink "$home/current" || true)
	before=${before#releases/}
	switch "$1"
	if ! restart; then
		case $before in
		'' | "$1") die "$program does not start: see journalctl -u $program" ;;
		esac
		switch "$before"
		restart || die "$program does not start with $1, nor with $before again: see journalctl -u $program"
		die "$program does not start with $1, $before is back: see journalctl -u $program"
	fi
	if systemctl --quiet is-active "$program.service"; then
		echo "$program runs $1"
	else
		echo "$program has $1, and waits for /etc/$program/$program.toml"
	fi
}

case $verb in
prepare) prepare "$3" ;;
deploy) deploy "$3" ;;
*) usage ;;
esac
