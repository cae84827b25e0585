#!/usr/bin/env bash
# The real parts that tests and the demo run against, on free loopback ports, without Docker and without root's leave:
# Apache Kafka (one node, KRaft), PostgreSQL (a throw-away cluster) and a schema registry (see registry.sh).
#
#   scripts/parts.sh start [PART…]   starts the parts kafka, postgres and registry (all, or the named ones), prints NAME=value
#                                    lines for the tests
#   scripts/parts.sh env             prints those lines again
#   scripts/parts.sh stop [PART…]    stops them; with no name: all, and removes their folder
#   scripts/parts.sh run COMMAND…    starts all, runs COMMAND with the variables set, stops all, whatever happens
#
# Use:   set -a; eval "$(scripts/parts.sh start)"; set +a
#
# Kafka listens four times: in clear without a login (LAMINAR_TEST_KAFKA), with a login (…_SASL), with one inside TLS
# (…_SASL_SSL, all but SCRAM-SHA-256), and with TLS that asks for a certificate (…_SSL). User `test`, password `test-secret`; any unsecured token is
# welcome. The brokers' certificate is for 127.0.0.1 and not for `localhost`. LAMINAR_TEST_KAFKA_CERTS has ca.pem, other-ca.pem,
# client.pem, client.key and the same key under the password `key-secret`, client-encrypted.key.
#
# Everything one start makes is in one folder, LAMINAR_PARTS (a fresh one under $TMPDIR unless set). `stop` and `env`
# work on $LAMINAR_PARTS, or else on the last one started without it. `start postgres` in a folder that has one starts it again
# with the same data on the same port: that is how a test takes the metadata database away and gives it back.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/registry.sh"

# No TMPDIR below a home folder: the user `postgres` has to be able to enter it.
runs=/tmp
last="$LAMINAR_CACHE/parts.last"
kafka_version=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$root/scripts/kafka/pom.xml")
kafka_home="$LAMINAR_CACHE/kafka/$kafka_version"
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

fetch_kafka() {
  [ -e "$kafka_home/complete" ] && return
  say "fetching Apache Kafka $kafka_version (once, about 40 MB)"
  mkdir -p "$kafka_home"
  mvn -q -B -ntp -f "$root/scripts/kafka/pom.xml" -Dlaminar.build="$kafka_home" package </dev/null >"$kafka_home/log" 2>&1 ||
    { tail -n 20 "$kafka_home/log" >&2; die "Maven could not fetch Kafka"; }
  touch "$kafka_home/complete"
}

# Small, and with the fast compiler only: the broker has a few minutes to live. In its own session: a Ctrl-C at the
# terminal is for us to act on, not for the broker.
kafka_java() {
  exec setsid java -Xms128m -Xmx"${LAMINAR_KAFKA_HEAP:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    -Dlog4j2.configurationFile="$parts/kafka/log4j2.properties" -cp "$kafka_home/libs/*" "$@"
}

# One authority that everybody trusts and one that nobody does; what the broker shows, and what a client shows.
make_certificates() {
  local dir=$1 ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes) log="$parts/kafka/openssl.log" name
  mkdir -p "$dir"
  for name in ca other-ca; do
    openssl req -x509 "${ec[@]}" -days 30 -subj "/CN=Laminar test $name" -keyout "$dir/$name.key" -out "$dir/$name.pem" 2>>"$log"
  done
  make_certificate "$dir" broker "subjectAltName=IP:127.0.0.1" "${ec[@]}" 2>>"$log"
  make_certificate "$dir" client "extendedKeyUsage=clientAuth" "${ec[@]}" 2>>"$log"
  openssl pkcs12 -export -name broker -inkey "$dir/broker.key" -in "$dir/broker.pem" -passout pass:store-secret -out "$dir/broker.p12"
  openssl pkey -in "$dir/client.key" -aes256 -passout pass:key-secret -out "$dir/client-encrypted.key"
}

# make_certificate FOLDER NAME EXTENSION KEY…: signed by the authority that is trusted.
make_certificate() {
  local dir=$1 name=$2 extension=$3
  shift 3
  openssl req "$@" -subj "/CN=Laminar test $name" -keyout "$dir/$name.key" -out "$dir/$name.csr"
  openssl x509 -req -days 30 -in "$dir/$name.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial \
    -extfile <(echo "$extension") -out "$dir/$name.pem"
}

# write_kafka_config PLAINTEXT SASL_PLAINTEXT SASL_SSL SSL CONTROLLER: the ports.
write_kafka_config() {
  local controller=$5 certs="$parts/kafka/certs" listeners
  listeners="PLAINTEXT://127.0.0.1:$1,SASL_PLAINTEXT://127.0.0.1:$2,SASL_SSL://127.0.0.1:$3,SSL://127.0.0.1:$4"
  cat >"$parts/kafka/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=$listeners,CONTROLLER://127.0.0.1:$controller
advertised.listeners=$listeners
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PKCS12
ssl.keystore.location=$certs/broker.p12
ssl.keystore.password=store-secret
ssl.truststore.type=PEM
ssl.truststore.location=$certs/ca.pem
$(sasl_config sasl_plaintext PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER)
$(sasl_config sasl_ssl PLAIN,SCRAM-SHA-512,OAUTHBEARER)
log.dirs=$parts/kafka/data
num.partitions=1
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.max.timeout.ms=900000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.cleaner.dedupe.buffer.size=10000000
# Records of tests carry timestamps of any age.
log.retention.ms=-1
num.network.threads=2
num.io.threads=2
P
  cat >"$parts/kafka/log4j2.properties" <<'P'
status=error
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.c.ref=C
logger.k.name=kafka.server.KafkaRaftServer
logger.k.level=info
P
}

# sasl_config LISTENER MECHANISMS: who may log in there, and how.
sasl_config() {
  local jaas=org.apache.kafka.common.security prefix="listener.name.$1"
  cat <<P
$prefix.sasl.enabled.mechanisms=$2
$prefix.plain.sasl.jaas.config=$jaas.plain.PlainLoginModule required user_test="test-secret";
$prefix.scram-sha-256.sasl.jaas.config=$jaas.scram.ScramLoginModule required;
$prefix.scram-sha-512.sasl.jaas.config=$jaas.scram.ScramLoginModule required;
$prefix.oauthbearer.sasl.jaas.config=$jaas.oauthbearer.OAuthBearerLoginModule required;
# A session ends with its token.
$prefix.oauthbearer.connections.max.reauth.ms=3600000
P
}

start_kafka() {
  local ports=() pid started scram
  fetch_kafka
  if [ ! -f "$parts/kafka/ports" ]; then
    mkdir -p "$parts/kafka"
    for _ in 1 2 3 4 5; do ports+=("$(free_port)"); done
    make_certificates "$parts/kafka/certs"
    write_kafka_config "${ports[@]}"
    scram="[name=test,password=test-secret]"
    (kafka_java kafka.tools.StorageTool format --cluster-id laminarTestClusterAAAA -c "$parts/kafka/server.properties" \
      --add-scram "SCRAM-SHA-256=$scram" --add-scram "SCRAM-SHA-512=$scram") \
      >"$parts/kafka/format.log" 2>&1 || { tail -n 20 "$parts/kafka/format.log" >&2; die "cannot format Kafka's log folder"; }
    echo "${ports[@]}" >"$parts/kafka/ports"
  fi
  touch "$parts/kafka/log"
  started=$(grep -c 'Kafka Server started' "$parts/kafka/log" || true)
  (kafka_java kafka.Kafka "$parts/kafka/server.properties") </dev/null >>"$parts/kafka/log" 2>&1 &
  pid=$!
  echo "$pid" >"$parts/kafka/pid"
  for _ in $(seq 1200); do
    [ "$(grep -c 'Kafka Server started' "$parts/kafka/log")" -gt "$started" ] && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  tail -n 20 "$parts/kafka/log" >&2
  die "Kafka did not start; its whole log is $parts/kafka/log"
}

stop_kafka() {
  [ -f "$parts/kafka/pid" ] || return 0
  end_process "$(<"$parts/kafka/pid")" "$parts/kafka/server.properties" 10
  rm -f "$parts/kafka/pid"
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
  if [ -f "$parts/kafka/ports" ]; then
    local plaintext sasl sasl_ssl ssl _
    read -r plaintext sasl sasl_ssl ssl _ <"$parts/kafka/ports"
    echo "LAMINAR_TEST_KAFKA=127.0.0.1:$plaintext"
    echo "LAMINAR_TEST_KAFKA_SASL=127.0.0.1:$sasl"
    echo "LAMINAR_TEST_KAFKA_SASL_SSL=127.0.0.1:$sasl_ssl"
    echo "LAMINAR_TEST_KAFKA_SSL=127.0.0.1:$ssl"
    echo "LAMINAR_TEST_KAFKA_CERTS=$parts/kafka/certs"
  fi
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
      postgres) start_postgres ;;
      registry) start_registry ;;
      all) start_kafka; start_postgres; start_registry ;;
      *) die "no such part: $part (kafka, postgres, registry)" ;;
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
      postgres) stop_postgres ;;
      registry) stop_registry ;;
      all) stop_kafka; stop_postgres; stop_registry; rm -rf "$parts" ;;
      *) die "no such part: $part (kafka, postgres, registry)" ;;
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
