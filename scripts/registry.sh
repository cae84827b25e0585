# shellcheck shell=bash
# Sourced by parts.sh: the part `registry`, a real schema registry. Apicurio Registry, in memory, which speaks Confluent's
# protocol below /apis/ccompat/v7.
#
# 2.6.13 is the last that runs on Java 17 and that Maven Central serves whole.

registry_version=$(sed -n 's/.*<apicurio.version>\(.*\)<.*/\1/p' "$root/scripts/registry/pom.xml")
registry_home="$LAMINAR_CACHE/registry/$registry_version"

fetch_registry() {
  fetch_once "Apicurio Registry $registry_version (once, about 140 MB)" "$registry_home" "$root/scripts/registry/pom.xml"
}

# The same port again after a stop: that is how a test takes the registry away and gives it back, empty.
start_registry() {
  local port pid
  fetch_registry
  [ ! -f "$parts/registry/pid" ] || ! is_running "$(<"$parts/registry/pid")" "$parts/registry" || return 0
  mkdir -p "$parts/registry"
  [ -f "$parts/registry/port" ] || free_port >"$parts/registry/port"
  port=$(<"$parts/registry/port")
  (QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=$port exec setsid java -Xms64m -Xmx384m -XX:+UseSerialGC \
    -XX:TieredStopAtLevel=1 -Xshare:auto -Dparts="$parts/registry" \
    -jar "$registry_home/app/apicurio-registry-app-$registry_version-runner.jar") </dev/null >>"$parts/registry/log" 2>&1 &
  pid=$!
  echo "$pid" >"$parts/registry/pid"
  wait_for_port "$port" "$pid" 120 ||
    { tail -n 20 "$parts/registry/log" >&2; die "the schema registry did not start; its whole log is $parts/registry/log"; }
}

stop_registry() {
  [ -f "$parts/registry/pid" ] || return 0
  end_process "$(<"$parts/registry/pid")" "$parts/registry" 10
  rm -f "$parts/registry/pid"
}

print_registry_env() {
  [ -f "$parts/registry/port" ] || return 0
  echo "LAMINAR_TEST_REGISTRY=http://127.0.0.1:$(<"$parts/registry/port")/apis/ccompat/v7"
}
