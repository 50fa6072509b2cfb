#!/bin/sh
# Installs the Debian packages that tests and the demo need and that are missing.
#
#   apt.sh [GROUP...]      groups: machine faults node oracle brokers health browser packages (all of them by default)
#
# It can be run as often as one likes, and does nothing when nothing is missing.
# What is there already counts, wherever it came from: a node outside of Debian's
# packages is a node. Exit status: 0 everything is there, 1 something is missing
# (what and why is printed), 2 wrong use.
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

# want PROGRAM-OR-FILE PACKAGE: notes PACKAGE if the thing it is for is missing.
missing=
want() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac && return
	case " $missing " in
	*" $2 "*) ;;
	*) missing="${missing:+$missing }$2" ;;
	esac
}

# A header lies in a directory of the architecture or in /usr/include.
want_header() {
	for dir in /usr/include /usr/include/*-linux-gnu; do
		[ -e "$dir/$1" ] && return
	done
	want "/usr/include/$1" "$2"
}

# PostgreSQL's server lies in a directory of its version.
want_postgresql() {
	for file in /usr/lib/postgresql/*/bin/initdb; do
		[ -e "$file" ] && return
	done
	want initdb postgresql
}

collect() {
	missing= foreign=
	for group; do
		case $group in
		machine) # a real systemd in a container
			want systemd-nspawn systemd-container
			want /usr/lib/systemd/systemd systemd
			want dbus-daemon dbus
			want nsenter util-linux
			want mount mount
			want ps procps
			want curl curl
			;;
		faults) # what breaks disks, networks and system calls
			want mkfs.ext4 e2fsprogs
			want mkfs.xfs xfsprogs
			want losetup mount
			want strace strace
			want nft nftables
			want ss iproute2
			want nginx nginx # a proxy that answers the half-close itself
			want /usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
			;;
		node) # the Winston service
			# Debian's npm brings Debian's nodejs, which must not come on top of
			# another node.
			if command -v node >/dev/null 2>&1 && ! command -v npm >/dev/null 2>&1; then
				foreign=npm
			else
				want node nodejs
				want npm npm
			fi
			;;
		oracle) # systemd's own reader and writer of journal files, the race detector
			want journalctl systemd
			want /usr/lib/systemd/systemd-journal-remote systemd-journal-remote
			want_header systemd/sd-journal.h libsystemd-dev
			want_header stdlib.h libc6-dev
			want gcc gcc
			want sqlite3 sqlite3
			;;
		brokers) # Kafka, and Graylog's classes
			want java openjdk-17-jre-headless
			want mvn maven
			;;
		health) # servers that healthd checks
			want redis-server redis-server
			want_postgresql
			want mariadbd mariadb-server-core
			want my_print_defaults mariadb-client-core # mariadb-install-db needs it
			want dnsmasq dnsmasq-base
			want prometheus prometheus # and what scrapes it
			want java openjdk-17-jre-headless # for a server that speaks MongoDB's protocol
			want mvn maven
			;;
		browser) # what the status page is looked at with
			want chromium chromium
			want /usr/share/doc/fonts-inter fonts-inter
			;;
		packages) # what is looked at packages with, a deploy user's sudo, a fleet's Ansible
			want dpkg-deb dpkg
			want dpkg-parsechangelog dpkg-dev
			want rpm rpm
			want mandoc mandoc
			want sudo sudo
			want ansible-playbook ansible-core
			want /usr/lib/python3/dist-packages/apt python3-apt # on the machines that it manages
			want ssh openssh-client
			want dropbear dropbear-bin # a server of ssh that is not started
			;;
		*)
			say "no package group \"$group\" (there are: machine faults node oracle brokers health browser packages)"
			exit 2
			;;
		esac
	done
}

# quietly runs a command and shows its output only if it fails.
quietly() {
	log=$(mktemp) || return 1
	"$@" >"$log" 2>&1 </dev/null
	rc=$?
	[ $rc -eq 0 ] || tail -n 5 "$log" | sed 's/^/setup:   /' >&2
	rm -f "$log"
	return $rc
}

install() {
	apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"
}

# get installs all that is missing: together, or, if one of them cannot be had,
# one by one. The lists are updated only if they turn out to be too old.
get() {
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	install $missing >/dev/null 2>&1 </dev/null && return
	say 'updating the package lists'
	quietly apt-get update -q -o APT::Update::Error-Mode=any -o DPkg::Lock::Timeout=120
	for package in $missing; do
		quietly install "$package" || say "cannot install $package"
	done
}

[ $# -gt 0 ] || set -- machine faults node oracle brokers health browser packages
collect "$@"
if [ -n "$foreign" ]; then
	say "missing: npm, for the node that is here ($(command -v node)): install the npm that belongs to it"
fi
if [ -z "$missing" ]; then
	[ -z "$foreign" ]
	exit
fi

if ! command -v apt-get >/dev/null 2>&1; then
	say "missing: $missing (Debian's names; there is no apt-get here to install them)"
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	say "missing: $missing (not root: install them with \"apt-get install $missing\")"
	exit 1
fi
say "installing $missing"
get
collect "$@"
if [ -n "$missing" ]; then
	say "still missing: $missing (apt-get cannot install them, see above)"
	exit 1
fi
[ -z "$foreign" ]
