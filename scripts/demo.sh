#!/usr/bin/env bash
# Laminar at work: builds it, starts `laminar dev` (everything in one process, a Kafka-compatible broker included) on a
# free port with a temporary folder, runs scripts/demo.sql, and shows the rows and offsets that come out. On a terminal it
# goes on until Ctrl-C, else it ends by itself. It leaves nothing behind: no process, no file.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
own_target
cd "$root"

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

if [ ! -x "$CARGO_TARGET_DIR/debug/laminar" ]; then
  say "building Laminar: about ten minutes the first time on two cores, seconds after that"
  cargo build --locked -p laminar-cli
else
  say "building Laminar: seconds, or some minutes if much has changed"
  cargo build --locked -p laminar-cli
fi
laminar="$CARGO_TARGET_DIR/debug/laminar"

folder=$(mktemp -d "${TMPDIR:-/tmp}/laminar-demo.XXXXXX")
server=''
finish() {
  trap '' INT TERM HUP
  [ -z "$server" ] || end_process "$server" "$folder" 15
  rm -rf "$folder"
}
trap finish EXIT
trap 'echo; exit 0' INT # the way to end it
trap 'exit 143' TERM HUP

began=$EPOCHREALTIME
port=$(free_port)
export LAMINAR_API_URL="http://127.0.0.1:$port"
# Its own session: Ctrl-C is for this script to act on, which then ends the server.
setsid "$laminar" dev --bind "127.0.0.1:$port" --data-dir "$folder/data" </dev/null >"$folder/log" 2>&1 &
server=$!
broker=''
while [ -z "$broker" ]; do # it says where its broker is once it is up
  kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; die "laminar dev did not start"; }
  broker=$(sed -n 's/^ *Kafka  *\([0-9.]*:[0-9]*\).*/\1/p' "$folder/log")
  sleep 0.05
done

bold "laminar dev runs at $LAMINAR_API_URL, its Kafka at $broker. Now this, as one would type it into 'laminar sql':"
echo
sed "s/BROKER/$broker/" scripts/demo.sql | tee "$folder/demo.sql"
"$laminar" sql -f "$folder/demo.sql" >"$folder/answers" 2>&1 || { cat "$folder/answers" >&2; tail "$folder/log" >&2; die "the statements failed"; }

ask() { "$laminar" sql "$@" 2>"$folder/error" || { cat "$folder/error" >&2; die "a question to the server failed"; }; }

rows="SELECT id, customer, what, total, source_partition, source_offset FROM big_orders LIMIT 10"
until ask -c "$rows" >"$folder/rows" && grep -q '(10 rows)' "$folder/rows"; do
  kill -0 "$server" 2>/dev/null || { tail -n 20 "$folder/log" >&2; die "laminar dev ended"; }
  sleep 0.2
done
echo
bold "Rows that come out of the topic big-orders, $(seconds_since "$began") s after the start of laminar dev:"
cat "$folder/rows"

echo
bold "What the pipelines have done:"
ask -c "SELECT pipeline_name, kind, records_in, records_out, errors FROM system.metrics ORDER BY pipeline_name, operator_id DESC"

echo
positions="SELECT pipeline_name, epoch, state, detail FROM system.checkpoints WHERE pipeline_name = 'find_big_orders' ORDER BY epoch DESC LIMIT 1"
until ask -c "$positions" >"$folder/positions" && grep -q 'orders/[0-9]":[1-9]' "$folder/positions"; do sleep 0.2; done
bold "The latest checkpoint, with the offset of each partition of orders from which to go on after a crash:"
cat "$folder/positions"

echo
cat <<TEXT
Where to go next
  laminar is        $laminar
  ask it yourself   laminar sql --url $LAMINAR_API_URL     (while this runs)
  step by step      docs/guide/quickstart.md
  how it works      docs/ARCHITECTURE.md
This demo's Kafka lives inside laminar dev and keeps topics in memory: for trying things out, at least once. Exactly once, against
a real Kafka that it installs and kills processes beside: make test.
TEXT

if [ ! -t 1 ] || [ -n "${CI:-}" ]; then exit 0; fi
echo
bold "It goes on; Ctrl-C ends everything and leaves nothing behind:"
counts="SELECT pipeline_name, max(CASE kind WHEN 'source' THEN records_in END) AS rows_read,
  max(CASE kind WHEN 'sink' THEN records_out END) AS rows_written FROM system.metrics GROUP BY pipeline_name ORDER BY 1"
while kill -0 "$server" 2>/dev/null; do
  ask -c "$counts"
  sleep 2
done
die "the server ended: $(tail -n 5 "$folder/log")"
