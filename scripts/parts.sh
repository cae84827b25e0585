#!/usr/bin/env bash
# The real parts that tests and the demo run against, on free loopback ports, without Docker and without root's leave:
# Apache Kafka (one node, or a cluster of three: see kafka.sh), PostgreSQL (a throw-away cluster) and a schema registry (see
# registry.sh).
#
#   scripts/parts.sh start [PART…]   starts the named parts of kafka, cluster, postgres and registry, or all but cluster; prints
#                                    NAME=value lines for the tests
#   scripts/parts.sh env             prints those lines again
#   scripts/parts.sh stop [PART…]    stops them; with no name: all, and removes their folder
#   scripts/parts.sh run COMMAND…    starts all, runs COMMAND with the variables set, stops all, whatever happens
#
# Use:   set -a; eval "$(scripts/parts.sh start)"; set +a
#
# Everything one start makes is in one folder, LAMINAR_PARTS (a fresh one under $TMPDIR unless set). `stop` and `env`
# work on $LAMINAR_PARTS, or else on the last one started without it. `start postgres` in a folder that has one starts it again
# with the same data on the same port: that is how a test takes the metadata database away and gives it back.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/kafka.sh"
. "$(dirname "${BASH_SOURCE[0]}")/registry.sh"

# No TMPDIR below a home folder: the user `postgres` has to be able to enter it.
runs=/tmp
last="$LAMINAR_CACHE/parts.last"
[ "$(id -u)" = 0 ] && postgres_user=postgres || postgres_user=$(id -un)

# as_postgres COMMAND…: PostgreSQL refuses to run as root.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid postgres --regid postgres --init-groups "$@"); else "$@"; fi
}

postgres_bin() {
  local bin
  bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
  [ -x "$bin/initdb" ] || bin=$(dirname "$(readlink -f "$(command -v initdb || echo /none)")")
  [ -x "$bin/initdb" ] || die "no PostgreSQL server is installed; scripts/install.sh does it"
  echo "$bin"
}

start_postgres() {
  local bin port
  bin=$(postgres_bin)
  if [ ! -f "$parts/postgres/port" ]; then
    mkdir -p "$parts/postgres"
    chown "$postgres_user" "$parts/postgres"
    as_postgres "$bin/initdb" -D "$parts/postgres/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
      >"$parts/postgres/initdb.log" 2>&1 || { cat "$parts/postgres/initdb.log" >&2; die "cannot create a PostgreSQL cluster"; }
    free_port >"$parts/postgres/port"
  fi
  port=$(<"$parts/postgres/port")
  as_postgres "$bin/pg_ctl" -D "$parts/postgres/data" -l "$parts/postgres/log" -w -t 30 -o "-p $port -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories=$parts/postgres -c fsync=off -c full_page_writes=off -c synchronous_commit=off \
    -c max_connections=200" start >/dev/null || { tail -n 20 "$parts/postgres/log" >&2; die "PostgreSQL did not start"; }
}

stop_postgres() {
  [ -f "$parts/postgres/data/postmaster.pid" ] || return 0
  as_postgres "$(postgres_bin)/pg_ctl" -D "$parts/postgres/data" -m immediate -w -t 20 stop >/dev/null || true
}

print_env() {
  echo "LAMINAR_PARTS=$parts"
  print_kafka_env
  if [ -f "$parts/postgres/port" ]; then
    echo "LAMINAR_TEST_POSTGRES=postgres://postgres@127.0.0.1:$(<"$parts/postgres/port")/postgres"
  fi
  print_registry_env
}

start() {
  local part
  mkdir -p "$LAMINAR_CACHE"
  parts=${LAMINAR_PARTS:-}
  if [ -z "$parts" ]; then
    parts=$(mktemp -d "$runs/laminar-parts.XXXXXX")
    trap 'stop' EXIT # half a start leaves nothing behind
    trap 'exit 130' INT TERM HUP
  fi
  mkdir -p "$parts"
  chmod 755 "$parts"
  for part in "${@:-all}"; do
    case $part in
      kafka) start_kafka ;;
      cluster) start_cluster ;;
      postgres) start_postgres ;;
      registry) start_registry ;;
      all) start_kafka; start_postgres; start_registry ;;
      *) die "no such part: $part (kafka, cluster, postgres, registry)" ;;
    esac
  done
  trap - EXIT INT TERM HUP
  # Whoever names the folder knows it: a test's own broker must not become the last one started.
  [ -n "${LAMINAR_PARTS:-}" ] || echo "$parts" >"$last"
}

stop() {
  local part
  [ -d "$parts" ] || return 0
  for part in "${@:-all}"; do
    case $part in
      kafka) stop_kafka ;;
      cluster) stop_cluster ;;
      postgres) stop_postgres ;;
      registry) stop_registry ;;
      all) stop_kafka; stop_cluster; stop_postgres; stop_registry; rm -rf "$parts" ;;
      *) die "no such part: $part (kafka, cluster, postgres, registry)" ;;
    esac
  done
}

# find_parts: the folder that stop and env work on.
find_parts() {
  parts=${LAMINAR_PARTS:-$(cat "$last" 2>/dev/null || true)}
  [ -n "$parts" ] && [ -d "$parts" ] || die "nothing is started"
}

run() {
  local status=0
  unset LAMINAR_PARTS
  start
  trap 'stop' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  set -a
  eval "$(print_env)"
  set +a
  "$@" || status=$?
  return "$status"
}

action=${1:-}
[ $# -gt 0 ] && shift
case $action in
  start) start "$@"; print_env ;;
  stop) find_parts; stop "$@" ;;
  env) find_parts; print_env ;;
  run) [ $# -gt 0 ] || die "run what?"; run "$@" ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
