#!/usr/bin/env bash
# The main job, live: a small Winston service logs, logship ships its lines, and
# `logship receive`, in the place of Graylog, prints what arrives. Then healthd watches
# that service, and answers for it until it is killed. Ends by itself after about 15
# seconds, or on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."

events=${EVENTS:-120}
work=$(mktemp -d)
unit=
cleanup() {
  trap - EXIT INT TERM
  [ -z "$unit" ] || systemctl stop "$unit" >/dev/null 2>&1 || true
  for pid in ${ship:-} ${receiver:-} ${shop_pid:-} ${health:-}; do
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

echo
echo "demo: healthd watches the service, which serves /health and /metrics"
# ask SOCKET PATH prints the answer: there may be no curl.
ask() {
  node -e 'require("http").get({socketPath: process.argv[1], path: process.argv[2]}, (r) => { r.setEncoding("utf8"); let b = ""; r.on("data", (d) => b += d).on("end", () => console.log(r.statusCode, b.trim())); }).on("error", () => console.log("nobody answers"))' "$work/$1" "$2"
}
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
cat > "$work/healthd.toml" <<END
public.listen = ["unix:$work/public"]
private = { listen = ["unix:$work/private"], socket = "$work/control" }
discover.enabled = false
state.dir = "$work/health"
log.level = "error"
judge = { rise = 1, fall = 1, hold = "0s" }
[target.shop]
checks = ["http://127.0.0.1:$port/health"]
metrics = "/metrics"
weight = "critical"
public = "Shop"
interval = "500ms"
END
sed -n '/target/,$p' "$work/healthd.toml"
set -m
"${shop[@]}" --count 100000 --port "$port" >/dev/null 2>&1 &
shop_pid=$!
bin/healthd run --config "$work/healthd.toml" 2>"$work/healthd.log" &
health=$!
set +m
# until_health WORD waits until /health says so.
until_health() {
  for _ in $(seq 200); do
    case $(ask public /health) in *"$1"*) return ;; esac
    kill -0 "$health" 2>/dev/null || break
    sleep 0.05
  done
  echo "demo: /health does not get to $1" >&2
  cat "$work/healthd.log" >&2
  exit 1
}
until_health ALL-OK
echo
echo "\$ curl /health                        # what monitors see"
ask public /health
echo "\$ curl /metrics | grep shop           # what Prometheus sees, merged from all services"
ask private /metrics | grep 'app="shop"' | grep -E 'shop_log_lines|target_up'
echo "\$ kill the shop"
kill -KILL "$shop_pid"
wait "$shop_pid" 2>/dev/null || true
shop_pid=
until_health DOWN
echo "\$ curl /health"
ask public /health
echo "\$ healthd explain shop                # what operators see"
bin/healthd explain shop --config "$work/healthd.toml"
kill -INT "$health"
wait "$health" || true
health=
