#!/bin/sh
# Downloads the jars of programs that the tests start, those that a pom.xml names and
# all that they need at run time: of Kafka, for test/brokers, of a server that speaks
# MongoDB's protocol, for test/health, and of Graylog and OpenSearch, for test/graylog,
# into .cache/kafka, .cache/mongodb and .cache/graylog.
#
# Does nothing when they are there: a stamp beside them holds the checksum of the
# pom.xml. Exit status: 0 the jars are there, 1 they are not (why is printed).
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

cd "$(dirname "$0")/../.." || exit 1

# download puts the jars that a pom.xml names into a directory.
download() {
	pom=$1 dir=$2
	want="$(cksum <"$pom")"
	[ -f "$dir/.stamp" ] && [ "$(cat "$dir/.stamp")" = "$want" ] && return
	for tool in java mvn; do
		if ! command -v $tool >/dev/null 2>&1; then
			say "missing: $tool, so there are no jars for $pom (test/setup/apt.sh brokers installs it)"
			return 1
		fi
	done
	say "downloading the jars of $pom"
	rm -rf "$dir"
	if ! mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$dir" >"$log" 2>&1 </dev/null; then
		say "missing: the jars of $pom; mvn says:"
		tail -n 5 "$log" | sed 's/^/setup:   /' >&2
		return 1
	fi
	printf '%s\n' "$want" >"$dir/.stamp"
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
status=0
download test/brokers/pom.xml .cache/kafka || status=1
download test/health/pom.xml .cache/mongodb || status=1
download test/graylog/pom.xml .cache/graylog || status=1
exit $status
