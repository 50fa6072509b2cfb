#!/bin/sh
# Downloads the jars of Kafka for test/brokers, those that its pom.xml names and all
# that they need at run time, into .cache/kafka.
#
# Does nothing when they are there: a stamp beside them holds the checksum of the
# pom.xml. Exit status: 0 the jars are there, 1 they are not (why is printed).
set -u

say() { printf 'setup: %s\n' "$*" >&2; }

cd "$(dirname "$0")/../.." || exit 1
for tool in java mvn; do
	if ! command -v $tool >/dev/null 2>&1; then
		say "missing: $tool, so there is no Kafka (test/setup/apt.sh brokers installs it)"
		exit 1
	fi
done

pom=test/brokers/pom.xml
dir=.cache/kafka
want="$(cksum <$pom)"
[ -f $dir/.stamp ] && [ "$(cat $dir/.stamp)" = "$want" ] && exit 0

say 'downloading the jars of Kafka'
rm -rf $dir
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
if ! mvn -q -B -f $pom dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$dir" >"$log" 2>&1 </dev/null; then
	say 'missing: the jars of Kafka; mvn says:'
	tail -n 5 "$log" | sed 's/^/setup:   /' >&2
	exit 1
fi
printf '%s\n' "$want" >$dir/.stamp
