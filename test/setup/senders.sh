#!/bin/sh
# Unpacks Debian's rsyslog and syslog-ng, with the libraries that are missing here,
# into .cache/senders for test/syslog. They are not installed: their packages exclude
# each other, and this host needs neither.
#
# Does nothing when they are there. Exit status: 0 they are there, 1 they are not
# (why is printed).
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

cd "$(dirname "$0")/../.." || exit 1
dir=.cache/senders
[ -x $dir/usr/sbin/rsyslogd ] && [ -x $dir/usr/sbin/syslog-ng ] && exit 0
for tool in apt-get dpkg-deb; do
	if ! command -v $tool >/dev/null 2>&1; then
		say "missing: rsyslog and syslog-ng (there is no $tool here to get Debian's)"
		exit 1
	fi
done

fetch() {
	packages=$(apt-get install -s --no-install-recommends rsyslog-gnutls 2>/dev/null | awk '/^Inst/ { print $2 }') || return 1
	packages="$packages $(apt-get install -s --no-install-recommends syslog-ng-core 2>/dev/null | awk '/^Inst/ { print $2 }')" || return 1
	# shellcheck disable=SC2086 # a list of words
	(cd "$1" && apt-get download -q $packages >/dev/null 2>&1)
}

say 'unpacking rsyslog and syslog-ng'
debs=$(mktemp -d) || exit 1
trap 'rm -rf "$debs"' EXIT
if ! fetch "$debs"; then
	apt-get update -q >/dev/null 2>&1
	fetch "$debs"
fi
rm -rf $dir
mkdir -p $dir
for deb in "$debs"/*.deb; do
	[ -e "$deb" ] && dpkg-deb -x "$deb" $dir
done
# Where /lib is a link to /usr/lib, a directory must not take its place.
for name in bin sbin lib lib64; do
	[ -d $dir/$name ] && mkdir -p $dir/usr/$name && cp -a $dir/$name/. $dir/usr/$name/ && rm -rf ${dir:?}/$name
done
if [ ! -x $dir/usr/sbin/rsyslogd ] || [ ! -x $dir/usr/sbin/syslog-ng ]; then
	say 'missing: rsyslog and syslog-ng (apt-get cannot download them)'
	exit 1
fi
