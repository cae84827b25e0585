# shellcheck shell=bash
# Sourced by parts.sh: Apache Kafka in KRaft mode. Its parts are `kafka`, one node with every kind of listener, and `cluster`, three
# nodes with replicas on each, for tests that kill a leader.
#
# The node of `kafka` listens four times: in clear without a login (LAMINAR_TEST_KAFKA), with a login (…_SASL), with one inside TLS
# (…_SASL_SSL, all but SCRAM-SHA-256), and with TLS that asks for a certificate (…_SSL). User `test`, password `test-secret`; any
# unsecured token is welcome. The broker's certificate is for 127.0.0.1 and not for `localhost`. LAMINAR_TEST_KAFKA_CERTS has ca.pem,
# other-ca.pem, client.pem, client.key and the same key under the password `key-secret`, client-encrypted.key.
#
# The nodes of `cluster` are in cluster/1 … cluster/3, each with its `pid`; cluster/addresses is where clients connect. `start
# cluster` starts those that do not run: one that was killed comes back with its data on its port.

kafka_version=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$root/scripts/kafka/pom.xml")
kafka_home="$LAMINAR_CACHE/kafka/$kafka_version"

fetch_kafka() {
  fetch_once "Apache Kafka $kafka_version (once, about 40 MB)" "$kafka_home" "$root/scripts/kafka/pom.xml"
}

# Small, and with the fast compiler only: the broker has a few minutes to live. In its own session: a Ctrl-C at the
# terminal is for us to act on, not for the broker.
kafka_java() {
  exec setsid java -Xms128m -Xmx"${LAMINAR_KAFKA_HEAP:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    -Dlog4j2.configurationFile="$kafka_log4j" -cp "$kafka_home/libs/*" "$@"
}

# format_node FOLDER ARGUMENT…: makes its log folder.
format_node() {
  local node=$1
  shift
  cat >"$node/log4j2.properties" <<'P'
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
  (kafka_log4j="$node/log4j2.properties" kafka_java kafka.tools.StorageTool format --cluster-id laminarTestClusterAAAA \
    -c "$node/server.properties" "$@") >"$node/format.log" 2>&1 ||
    { tail -n 20 "$node/format.log" >&2; die "cannot format Kafka's log folder"; }
}

# run_node FOLDER: begins to start it.
run_node() {
  touch "$1/log"
  grep -c 'Kafka Server started' "$1/log" >"$1/starts" || true
  (kafka_log4j="$1/log4j2.properties" kafka_java kafka.Kafka "$1/server.properties") </dev/null >>"$1/log" 2>&1 &
  echo $! >"$1/pid"
}

await_node() {
  for _ in $(seq 1200); do
    [ "$(grep -c 'Kafka Server started' "$1/log")" -gt "$(<"$1/starts")" ] && return
    kill -0 "$(<"$1/pid")" 2>/dev/null || break
    sleep 0.05
  done
  tail -n 20 "$1/log" >&2
  die "Kafka did not start; its whole log is $1/log"
}

node_runs() {
  [ -f "$1/pid" ] && is_running "$(<"$1/pid")" "$1/server.properties"
}

stop_node() {
  [ -f "$1/pid" ] || return 0
  end_process "$(<"$1/pid")" "$1/server.properties" 10
  rm -f "$1/pid"
}

# settings FOLDER REPLICAS: what nodes of both parts have.
settings() {
  cat <<P
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$1/data
num.partitions=1
auto.create.topics.enable=true
offsets.topic.replication.factor=$2
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$2
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$2
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

# kafka_config PLAINTEXT SASL_PLAINTEXT SASL_SSL SSL CONTROLLER: the ports.
kafka_config() {
  local controller=$5 certs="$parts/kafka/certs" listeners
  listeners="PLAINTEXT://127.0.0.1:$1,SASL_PLAINTEXT://127.0.0.1:$2,SASL_SSL://127.0.0.1:$3,SSL://127.0.0.1:$4"
  settings "$parts/kafka" 1
  cat <<P
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=$listeners,CONTROLLER://127.0.0.1:$controller
advertised.listeners=$listeners
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PKCS12
ssl.keystore.location=$certs/broker.p12
ssl.keystore.password=store-secret
ssl.truststore.type=PEM
ssl.truststore.location=$certs/ca.pem
$(sasl_config sasl_plaintext PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER)
$(sasl_config sasl_ssl PLAIN,SCRAM-SHA-512,OAUTHBEARER)
P
}

start_kafka() {
  local node="$parts/kafka" ports=() scram="[name=test,password=test-secret]"
  fetch_kafka
  ! node_runs "$node" || return 0
  if [ ! -f "$node/ports" ]; then
    rm -rf "$node" # what a start that was stopped in the middle has left
    mkdir -p "$node"
    read -ra ports <<<"$(free_ports 5)"
    make_certificates "$node/certs"
    kafka_config "${ports[@]}" >"$node/server.properties"
    format_node "$node" --add-scram "SCRAM-SHA-256=$scram" --add-scram "SCRAM-SHA-512=$scram"
    echo "${ports[@]}" >"$node/ports"
  fi
  run_node "$node"
  await_node "$node"
}

stop_kafka() {
  stop_node "$parts/kafka"
}

# cluster_config NUMBER PORT VOTERS: of one node; whoever leads is missed after three seconds.
cluster_config() {
  local voter=${3#*"$1@"}
  settings "$parts/cluster/$1" 3
  cat <<P
node.id=$1
controller.quorum.voters=$3
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://${voter%%,*}
advertised.listeners=PLAINTEXT://127.0.0.1:$2
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
default.replication.factor=3
min.insync.replicas=2
replica.lag.time.max.ms=3000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
P
}

start_cluster() {
  local cluster="$parts/cluster" voters="" addresses="" n port ports=() waited=()
  fetch_kafka
  if [ ! -f "$cluster/addresses" ]; then
    rm -rf "$cluster"
    read -ra ports <<<"$(free_ports 6)"
    for n in 1 2 3; do voters+="${voters:+,}$n@127.0.0.1:${ports[n - 1]}"; done
    for n in 1 2 3; do
      mkdir -p "$cluster/$n"
      port=${ports[n + 2]}
      cluster_config "$n" "$port" "$voters" >"$cluster/$n/server.properties"
      format_node "$cluster/$n"
      addresses+="${addresses:+,}127.0.0.1:$port"
    done
    echo "$addresses" >"$cluster/addresses"
  fi
  for n in 1 2 3; do
    ! node_runs "$cluster/$n" || continue
    run_node "$cluster/$n"
    waited+=("$cluster/$n")
  done
  for n in "${waited[@]}"; do await_node "$n"; done
}

stop_cluster() {
  local n
  for n in 1 2 3; do stop_node "$parts/cluster/$n"; done
}

print_kafka_env() {
  local plaintext sasl sasl_ssl ssl _
  [ ! -f "$parts/cluster/addresses" ] || echo "LAMINAR_TEST_KAFKA_CLUSTER=$(<"$parts/cluster/addresses")"
  [ -f "$parts/kafka/ports" ] || return 0
  read -r plaintext sasl sasl_ssl ssl _ <"$parts/kafka/ports"
  echo "LAMINAR_TEST_KAFKA=127.0.0.1:$plaintext"
  echo "LAMINAR_TEST_KAFKA_SASL=127.0.0.1:$sasl"
  echo "LAMINAR_TEST_KAFKA_SASL_SSL=127.0.0.1:$sasl_ssl"
  echo "LAMINAR_TEST_KAFKA_SSL=127.0.0.1:$ssl"
  echo "LAMINAR_TEST_KAFKA_CERTS=$parts/kafka/certs"
}
