#!/bin/sh
# Installs the npm packages of the Winston service, test/winston, exactly as its
# package-lock.json has them.
#
# Does nothing when they are there: a stamp in node_modules holds the checksum
# of the lock file and the version of Node. Scripts of packages are not run.
# Exit status: 0 the packages are there, 1 they are not (why is printed).
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

cd "$(dirname "$0")/../winston" || exit 1
for tool in node npm; do
	if ! command -v $tool >/dev/null 2>&1; then
		say "missing: $tool, so there is no Winston service (test/setup/apt.sh node installs it)"
		exit 1
	fi
done

want="$(cksum <package-lock.json) node $(node --version)"
stamp=node_modules/.stamp
[ -f $stamp ] && [ "$(cat $stamp)" = "$want" ] && exit 0

say 'installing the npm packages of test/winston'
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
if ! npm ci --no-audit --no-fund --ignore-scripts --loglevel=error \
	--fetch-retries=2 --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=5000 >"$log" 2>&1 </dev/null; then
	say 'missing: the npm packages of test/winston; npm ci says:'
	tail -n 5 "$log" | sed 's/^/setup:   /' >&2
	exit 1
fi
printf '%s\n' "$want" >$stamp
