#!/usr/bin/env bash
# The main job, live: a small Winston service logs, logship ships its lines, and
# `logship receive`, in the place of Graylog, prints what arrives. Ends by itself
# after about 10 seconds, or on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."

events=${EVENTS:-120}
work=$(mktemp -d)
unit=
cleanup() {
  trap - EXIT INT TERM
  [ -z "$unit" ] || systemctl stop "$unit" >/dev/null 2>&1 || true
  for pid in ${ship:-} ${receiver:-}; do
    kill -INT "$pid" 2>/dev/null && wait "$pid" || true
  done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! command -v node >/dev/null || [ ! -d test/winston/node_modules ]; then
  echo "demo: node or the packages of test/winston are missing, see above; without them there is no Winston service to show" >&2
  exit 1
fi

echo "demo: logship receive stands in for Graylog"
# Its own process group: Ctrl-C goes to this script, which ends the parts in order.
set -m
bin/logship receive --tcp 127.0.0.1:0 2>"$work/receive.log" &
receiver=$!
set +m
address=
for _ in $(seq 100); do
  address=$(sed -n 's/.*listening for GELF on tcp //p' "$work/receive.log")
  [ -n "$address" ] && break
  kill -0 "$receiver" 2>/dev/null || { cat "$work/receive.log" >&2; exit 1; }
  sleep 0.05
done

options=(--set output.url="gelf+tcp://$address" --set metrics.listen= --set log.level=warn)
shop=("$(command -v node)" "$PWD/test/winston/server.js" --demo --count "$events")

if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; then
  unit=logship-demo-shop-$$.service
  echo "demo: a Winston service runs as the unit $unit, logship follows the journal"
  echo
  set -m
  bin/logship run "${options[@]}" --set state.dir="$work/state" &
  ship=$!
  set +m
  systemd-run --quiet --wait --collect --unit="$unit" "${shop[@]}" &
  wait $! || true
  unit=
  sleep 1 # the last lines
  kill -INT "$ship"
  wait "$ship" || true
  ship=
else
  echo "demo: no systemd here (or not root), so the Winston service is piped into logship run --stdin"
  echo
  "${shop[@]}" 2>&1 | bin/logship run --stdin "${options[@]}"
fi

kill -INT "$receiver"
wait "$receiver" || true
receiver=
echo
tail -n 1 "$work/receive.log"
echo "demo: what a single line becomes:  bin/logship parse '_jsonrc:{\"level\":\"warn\",\"message\":\"hi\",\"id\":7}'"
