#!/bin/sh
# Unpacks Debian packages, with the libraries that are missing here, into .cache. They
# are not installed: that would start servers on this host, and those of senders
# exclude each other.
#
#   unpack.sh NAME...      senders:  rsyslog and syslog-ng, for test/syslog
#                          rabbitmq: RabbitMQ with its Erlang, for test/brokers
#
# Does nothing when they are there. Exit status: 0 they are there, 1 they are not
# (why is printed), 2 wrong use.
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

cd "$(dirname "$0")/../.." || exit 1

# describe sets the packages of a name, and the programs that they are unpacked for.
describe() {
	case $1 in
	senders)
		roots='rsyslog-gnutls syslog-ng-core'
		programs='usr/sbin/rsyslogd usr/sbin/syslog-ng'
		;;
	rabbitmq)
		roots=rabbitmq-server
		programs='usr/lib/rabbitmq/bin/rabbitmq-server usr/lib/erlang/bin/erl'
		;;
	*)
		say "nothing named \"$1\" to unpack (there are: senders rabbitmq)"
		exit 2
		;;
	esac
	dir=.cache/$1
}

complete() {
	for program in $programs; do
		[ -x "$dir/$program" ] || return 1
	done
}

# fetch downloads the packages into a directory. Each root is resolved alone, as two
# may exclude each other. What is installed here is left out, and the JDK that apt
# would only renew.
fetch() {
	packages=
	for root in $roots; do
		packages="$packages $(apt-get install -s --no-install-recommends "$root" 2>/dev/null |
			awk '/^Inst/ && $3 !~ /^\[/ { print $2 }')" || return 1
	done
	# shellcheck disable=SC2086 # a list of words
	(cd "$1" && apt-get download -q $packages >/dev/null 2>&1)
}

unpack() {
	rm -rf "$dir"
	mkdir -p "$dir"
	for deb in "$1"/*.deb; do
		[ -e "$deb" ] && dpkg-deb -x "$deb" "$dir"
	done
	# Where /lib is a link to /usr/lib, a directory must not take its place.
	for name in bin sbin lib lib64; do
		[ -d "$dir/$name" ] && mkdir -p "$dir/usr/$name" && cp -a "$dir/$name/." "$dir/usr/$name/" && rm -rf "${dir:?}/$name"
	done
	# Erlang's start script knows where it is installed: let it look where it is.
	erl=$dir/usr/lib/erlang/bin/erl
	[ ! -e "$erl" ] || sed -i "s|ROOTDIR=/usr/lib/erlang\$|ROOTDIR=\$(cd \"\$progdir/..\" \\&\\& pwd)|" "$erl"
}

get() {
	for tool in apt-get dpkg-deb; do
		if ! command -v $tool >/dev/null 2>&1; then
			say "missing: $1 (there is no $tool here to get Debian's)"
			return 1
		fi
	done
	say "unpacking $roots"
	debs=$(mktemp -d) || return 1
	if ! fetch "$debs"; then
		apt-get update -q >/dev/null 2>&1
		fetch "$debs"
	fi
	unpack "$debs"
	rm -rf "$debs"
	complete && return
	say "missing: $1 (apt-get cannot download it)"
	return 1
}

[ $# -gt 0 ] || set -- senders rabbitmq
status=0
for name; do
	describe "$name"
	complete || get "$name" || status=1
done
exit $status
