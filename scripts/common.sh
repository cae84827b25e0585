# shellcheck shell=bash
# Sourced by the scripts beside it: where things are kept, and the few helpers that several of them need.
#
# Nothing is written inside the clone. What is worth keeping (jars, the Python environment, the cargo target folder)
# is in $LAMINAR_CACHE; what one run makes is in a fresh folder under $TMPDIR that goes away with the run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAMINAR_CACHE="${LAMINAR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/laminar}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$LAMINAR_CACHE/target}"

# own_target: for scripts that build. Cargo tells crates of one workspace apart by their path inside it, and a changed file by its
# time: built by another checkout, an older file would count as built already. So the crates of another checkout are forgotten,
# not what they depend on.
own_target() {
  [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$root" ] || return 0
  rm -rf "$CARGO_TARGET_DIR"/{*,*/*}/.fingerprint/laminar-*
  mkdir -p "$CARGO_TARGET_DIR"
  echo "$root" >"$CARGO_TARGET_DIR/checkout"
}

# say TEXT: progress goes to standard error, so that standard output stays what a command was asked for.
say() { printf '%s\n' "$*" >&2; }

die() { say "${0##*/}: $*"; exit 1; }

# free_port: prints a loopback port that nothing listens on, below the range the kernel hands out to clients.
free_port() {
  local port
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
  done
  die "found no free port on 127.0.0.1"
}

# free_ports COUNT: prints so many of them, no two the same.
free_ports() {
  local ports=" " port
  while [ "$(wc -w <<<"$ports")" -lt "$1" ]; do
    port=$(free_port) || return 1
    case $ports in *" $port "*) ;; *) ports+="$port " ;; esac
  done
  echo "$ports"
}

# wait_for_port PORT PID SECONDS: true once PORT answers; false when the process ends first or time runs out.
wait_for_port() {
  local port=$1 pid=$2 end=$((SECONDS + $3))
  while [ "$SECONDS" -lt "$end" ]; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

# is_running PID MARK: is it the process whose command line holds MARK? (A pid may have been given to somebody else since we wrote
# it down, and one that was killed may wait to be buried.)
is_running() {
  { tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF -- "$2"; } 2>/dev/null
}

# end_process PID MARK SECONDS: ends that process, first politely, after SECONDS by force.
end_process() {
  local pid=$1 mark=$2 end=$((SECONDS + $3))
  is_running "$pid" "$mark" || return 0
  kill "$pid" 2>/dev/null || return 0
  while is_running "$pid" "$mark"; do
    if [ "$SECONDS" -ge "$end" ]; then kill -9 "$pid" 2>/dev/null || true; return 0; fi
    sleep 0.05
  done
}

# fetch_once WHAT FOLDER POM: Maven puts there what the POM names, unless it is there. Who comes at the same time waits.
fetch_once() {
  [ ! -e "$2/complete" ] || return 0
  mkdir -p "$2"
  (
    flock 9
    [ ! -e "$2/complete" ] || exit 0
    say "fetching $1"
    mvn -q -B -ntp -f "$3" -Dlaminar.build="$2" package </dev/null >"$2/log" 2>&1 ||
      { tail -n 20 "$2/log" >&2; die "Maven could not fetch it"; }
    touch "$2/complete"
  ) 9>"$2/lock"
}

# python_environment REQUIREMENTS: prints the interpreter of a virtual environment that holds exactly those packages;
# made once for each content of the file.
python_environment() {
  local digest env
  digest=$(cat "$1" <(python3 --version) | sha256sum | cut -c 1-12)
  env="$LAMINAR_CACHE/python/$digest"
  if [ ! -e "$env/complete" ]; then
    say "making a Python environment for the tests (once)"
    rm -rf "$env"
    python3 -m venv "$env" >&2
    "$env/bin/pip" install --quiet --disable-pip-version-check -r "$1" </dev/null >&2
    touch "$env/complete"
  fi
  echo "$env/bin/python"
}

# node_packages FOLDER PYTHON: prints a folder whose `node_modules` is exactly what FOLDER's package-lock.json says; made
# once for each content of that file. Node and npm are those of the Python environment: 2 packages instead of Debian's 400.
node_packages() {
  local digest packages
  digest=$(cat "$1/package-lock.json" <("${2%/*}/node" --version) | sha256sum | cut -c 1-12)
  packages="$LAMINAR_CACHE/node/$digest"
  if [ ! -e "$packages/complete" ]; then
    say "fetching the Postman runner for the tests (once, about 30 MB)"
    rm -rf "$packages"
    mkdir -p "$packages"
    cp "$1/package.json" "$1/package-lock.json" "$packages"
    # npm's own first line asks the PATH for node.
    PATH="${2%/*}:$PATH" npm ci --prefix "$packages" --ignore-scripts --no-audit --no-fund --silent </dev/null >&2
    touch "$packages/complete"
  fi
  echo "$packages"
}
